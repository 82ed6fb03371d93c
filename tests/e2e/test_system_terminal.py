"""On a real terminal: the cooked client (--plain), and the operator's console of the server."""

from __future__ import annotations

import re
import signal
import sys
import termios

from tests.support.processes import (
    Crew,
    Seated,
    Server,
    fresh_room,
    fresh_words,
    no_trace,
)
from tests.support.rpc import Wire

CTRL_C, CTRL_D, CTRL_BRACKET = "\x03", "\x04", "\x1d"


def seat(crew: Crew, *words: str) -> Seated:
    """The client on a terminal, with --plain."""
    program = Seated([sys.executable, "-m", "evloop.client", "--plain", "--name", "Mel", *words])
    crew.add(program)
    return program


def at_prompt(crew: Crew, program: Seated) -> None:
    crew.until(lambda: program.out.endswith("evloop> "))


def test_a_conversation_without_any_escape_byte(crew: Crew) -> None:
    server = crew.server()
    crew.piped("", "makeroom", "lab", *fresh_words(), server=server)
    ann = crew.chatter("Ann", "lab", server=server)
    crew.in_room(ann)
    mel = seat(crew, "--server", server.place)
    at_prompt(crew, mel)
    assert "1 room" in mel.out
    mel.type("getdir\n")
    crew.until(lambda: "239.255." in mel.out and mel.out.endswith("evloop> "))
    mel.type("chat lab\n")
    crew.until(lambda: "-- in lab" in mel.out)
    mel.type("Good morning!\n")
    crew.until(lambda: ann.lines == ["Mel: Good morning!"])
    ann.type("Good morning, \x1b[31mMel\n")
    crew.until(lambda: "Good morning, " in mel.out)
    # HH:MM before a chat line, by default on a terminal.
    assert re.search(r"\d\d:\d\d Ann: Good morning, ", mel.out)
    assert mel.out.count("Good morning!") == 1  # as it was typed
    mel.type("half a line" + CTRL_BRACKET)  # no Enter
    crew.until(lambda: "-- left lab --" in mel.out and mel.out.endswith("evloop> "))
    mel.type("nonsense\n")
    crew.until(lambda: "unknown command" in mel.out)
    at_prompt(crew, mel)
    mel.type(CTRL_D)
    crew.finish(mel)
    assert mel.status == 0  # a person's mistakes are no failure
    assert "\x1b" not in mel.out
    assert ann.lines == ["Mel: Good morning!", "Ann: Good morning, ^[[31mMel"]
    no_trace(mel)


def test_ctrl_d_leaves_the_room_and_then_the_program(crew: Crew) -> None:
    room = fresh_room()
    server = crew.server()
    mel = seat(crew, "--server", server.place)
    before = mel.attributes()
    at_prompt(crew, mel)
    assert mel.attributes() != before  # the escape key is an end of line now
    mel.type(f"chat {room}\n")
    crew.until(lambda: "-- in " in mel.out)
    mel.type(CTRL_D)
    crew.until(lambda: "-- left " in mel.out and mel.out.endswith("evloop> "))
    assert mel.status is None
    mel.type(CTRL_D)
    crew.finish(mel)
    assert mel.status == 0
    assert mel.attributes() == before


def test_ctrl_bracket_at_the_prompt_and_another_escape_key(crew: Crew) -> None:
    room = fresh_room()
    mel = seat(crew, "--escape", "^X", "--server", crew.server().place)
    at_prompt(crew, mel)
    mel.type("\x18")
    crew.until(lambda: "not in a room" in mel.out)
    mel.type(f"chat {room}\n")
    crew.until(lambda: "Ctrl-X" in mel.out)
    mel.type("\x18")
    crew.until(lambda: "-- left " in mel.out)
    assert mel.status is None


def test_ctrl_c_ends_it_and_gives_the_terminal_back(crew: Crew) -> None:
    ann = crew.chatter("Ann", room := fresh_room())
    crew.in_room(ann)
    mel = seat(crew, "chat", room)
    crew.until(lambda: "-- in " in mel.out and "Mel joined" in ann.err)
    mel.type(CTRL_C)
    crew.finish(mel)
    assert mel.status == 130
    vdisable = b"\0"
    assert mel.attributes()[6][termios.VEOL] == vdisable
    crew.until(lambda: "-- Mel left --" in ann.err)


def test_a_closed_terminal_ends_the_client(crew: Crew) -> None:
    mel = seat(crew, "chat", fresh_room())
    crew.until(lambda: "-- in " in mel.out)
    mel.signal(signal.SIGHUP)
    crew.finish(mel)
    assert mel.status == 129
    no_trace(mel)


def test_without_a_directory_it_says_what_to_do(crew: Crew) -> None:
    server = crew.server()
    place = server.place
    server.signal(signal.SIGTERM)
    crew.finish(server)
    mel = seat(crew, "--server", place)
    at_prompt(crew, mel)
    assert "refused" in mel.out and "connect HOST[:PORT]" in mel.out
    mel.type("getdir\n")
    crew.until(lambda: "not connected" in mel.out)
    crew.server(listen=place)
    mel.type(f"connect {place}\nmakeroom lab\n")
    crew.until(lambda: "made room lab" in mel.out)


def test_news_of_the_directory_arrive_while_chatting(crew: Crew) -> None:
    server = crew.server()
    mel = seat(crew, "--server", server.place)
    at_prompt(crew, mel)
    mel.type(f"chat {fresh_room()}\n")
    crew.until(lambda: "-- in " in mel.out)
    with Wire(server.port) as wire:
        wire.result("makeroom", name="news")
        wire.result("deleteroom", name="news")
    crew.until(lambda: "made room news" in mel.out and "deleted room news" in mel.out)


# -- the operator's console --------------------------------------------------------------------


class SeatedServer(Seated):
    """The server on a terminal."""

    @property
    def port(self) -> int:
        found = re.search(r"listening on 127\.0\.0\.1:(\d+)", self.out)
        assert found, self.tell()
        return int(found[1])


def operate(crew: Crew) -> SeatedServer:
    words = [sys.executable, "-m", "evloop.server", "--memory", "--listen", "127.0.0.1:0"]
    server = SeatedServer(words)
    crew.add(server)
    crew.until(lambda: "listening on" in server.out and "help lists" in server.out)
    crew.until(lambda: Server.READY in server.out)
    return server


def test_the_operators_console(crew: Crew) -> None:
    server = operate(crew)

    def ask(line: str, answer: str) -> str:
        before = len(server.out)
        server.type(line + "\n")
        crew.until(lambda: answer in server.out[before:])
        return server.out[before:]

    ask("rooms", "no rooms")
    ask("clients", "no clients")
    with Wire(server.port) as wire, Wire(server.port) as other:
        wire.result("hello", name="Mel", client="test/\x1b[31m")
        other.result("hello", name="Ann")
        wire.result("makeroom", name="lab", address="239.255.7.1", port=5751)
        wire.result("enter", name="lab")
        ask("rooms", "1 here")
        assert "239.255.7.1" in server.out
        listed = ask("clients", "Ann")
        assert "Mel" in listed and "\x1b" not in listed
        number = next(line.split()[0] for line in listed.splitlines() if "Ann" in line)
        ask("stats", "rooms")
        ask(f"kick {number}", "closed 127.0.0.1:")
        goodbye = other.receive()
        assert goodbye is not None and goodbye["method"] == "closing"
        assert other.receive() is None
        ask("kick 999", "no client")
        ask("kick", "no client")
        wire.result("watch")
        ask("deleteroom lab", "deleted room lab")
        news = wire.receive()
        assert news is not None and news["method"] == "room_deleted"  # as for everybody's changes
        ask("deleteroom lab", "there is no room lab")
        ask("frobnicate \x1b[31m", "unknown command")
        ask("help", "quit")
        ask("x" * 3_000, "unknown command")
        assert wire.result("ping") == {}  # the console took nothing from those who are connected
        server.type("quit\n")
        while (message := wire.receive()) is not None:
            assert message["method"] == "closing"
    crew.finish(server)
    assert server.status == 0
    no_trace(server)


def test_ctrl_d_closes_the_console_and_the_server_runs_on(crew: Crew) -> None:
    server = operate(crew)
    server.type(CTRL_D)
    with Wire(server.port) as wire:
        wire.result("makeroom", name="a")
        assert [room["name"] for room in wire.rooms()] == ["a"]
    server.type("quit\n")  # nobody reads it any more
    with Wire(server.port) as wire:
        assert len(wire.rooms()) == 1
    assert server.status is None
    server.type(CTRL_C)
    crew.finish(server)
    assert server.status == 0
