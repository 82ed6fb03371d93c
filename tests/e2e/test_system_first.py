"""`python3 -m evloop`, the one command for a first try: it finds a directory, or hosts one."""

from __future__ import annotations

import re
import signal
import socket
import sys
from pathlib import Path

import pytest

from tests.support.processes import (
    Crew,
    Seated,
    fresh_room,
    fresh_words,
    no_trace,
)
from tests.support.pty_run import PtyRun
from tests.support.rpc import Wire


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def seat(crew: Crew, name: str, port: int, *options: str) -> Seated:
    """The one command on a terminal; --plain, so that its lines can be read."""
    place = f"127.0.0.1:{port}"
    words = [sys.executable, "-m", "evloop", "--plain", "--name", name, *options]
    program = Seated(words, environ={"EVLOOP_SERVER": place})
    crew.add(program)
    return program


def at_prompt(crew: Crew, *programs: Seated) -> None:
    crew.until(lambda: all(one.out.endswith("evloop> ") for one in programs))


def test_two_terminals_with_one_command_can_chat(crew: Crew) -> None:
    port = free_port()
    ann = seat(crew, "Ann", port)
    at_prompt(crew, ann)
    assert ann.out.count("this one hosts it") == 1
    shown = " ".join(ann.out.split())  # the sentence is broken between words
    assert "only this machine can come; in another window, type:" in shown
    assert f"\n  python3 -m evloop --server 127.0.0.1:{port}\r\n" in ann.out
    bob = seat(crew, "Bob", port)
    at_prompt(crew, bob)
    assert "hosts it" not in bob.out
    ann.type(f"makeroom lab {' '.join(fresh_words())}\nchat lab\n")
    crew.until(lambda: "-- in lab" in ann.out)
    bob.type("chat lab\n")
    crew.until(lambda: "-- in lab" in bob.out)
    with Wire(port) as wire:
        crew.until(lambda: wire.rooms()[0]["members"] == 2, every=0.05)
    ann.type("hello\n")
    crew.until(lambda: "Ann: hello" in bob.out)
    bob.type("hello yourself\n")
    crew.until(lambda: "Bob: hello yourself" in ann.out)
    # Who hosts it leaves: the room does not need it.
    cal = crew.chatter("Cal", "lab", server=f"127.0.0.1:{port}")
    crew.in_room(cal)
    ann.type("/quit\n")
    crew.until(lambda: "2 others use this directory: quit again to end it" in ann.out)
    ann.type("quit\n")
    crew.finish(ann)
    assert ann.status == 0
    crew.until(lambda: "is away" in bob.out)
    bob.type("still here\n")
    crew.until(lambda: "Bob: still here" in cal.lines)
    bob.type("/quit\n")
    crew.finish(bob)
    assert bob.status == 0
    no_trace(ann, bob, cal)


def test_started_at_the_same_moment_one_hosts_and_both_find_it(crew: Crew) -> None:
    port = free_port()
    people = [seat(crew, name, port) for name in ("Ann", "Bob", "Cal")]
    at_prompt(crew, *people)
    assert sum("this one hosts it" in one.out for one in people) == 1
    people[0].type("makeroom lab\n")
    crew.until(lambda: all("made room lab" in one.out for one in people))
    no_trace(*people)


def test_an_answering_directory_is_taken(crew: Crew) -> None:
    server = crew.server()
    ann = seat(crew, "Ann", server.port)
    at_prompt(crew, ann)
    assert re.search(r"directory 127\.0\.0\.1:\d+, 0 rooms", ann.out)
    assert "hosts it" not in ann.out
    ann.type("\x04")
    assert crew.finish(ann).status == 0


def test_in_a_pipe(crew: Crew) -> None:
    """A script that uses it: results on stdout, the remark about hosting on stderr."""
    room, port = fresh_room(), free_port()
    address, _, group_port = room.partition(":")
    client = crew.client(server=f"127.0.0.1:{port}", module="evloop")
    client.type(f"connect\nmakeroom lab {address} {group_port}\ngetdir\n")
    client.end()
    crew.finish(client)
    assert client.status == 0, client.tell()
    assert client.lines[0] == f"made room lab: {room}"
    assert client.lines[1].split()[:3] == ["lab", address, group_port]
    assert "hosts it" in client.err.splitlines()[0]


def test_a_directory_elsewhere_that_does_not_answer_is_not_replaced(crew: Crew) -> None:
    client = crew.client("getdir", server="127.1.2.3:1", module="evloop")
    crew.finish(client)
    assert client.status == 69
    assert "hosts it" not in client.err


def closing_of(wire: Wire) -> str:
    """The reason that the directory gives as it goes."""
    message = wire.receive()
    assert message is not None and message["method"] == "closing"
    assert wire.receive() is None
    reason: str = message["params"]["reason"]
    return reason


def hosted(crew: Crew) -> tuple[Seated, int]:
    port = free_port()
    ann = seat(crew, "Ann", port)
    at_prompt(crew, ann)
    assert "this one hosts it" in ann.out
    return ann, port


@pytest.mark.parametrize("end", ["\x04", "quit\n", "\x03"], ids=["Ctrl-D", "quit", "Ctrl-C"])
def test_a_host_is_told_once_who_depends_on_it_and_says_goodbye(crew: Crew, end: str) -> None:
    ann, port = hosted(crew)
    with Wire(port) as bob, Wire(port) as cal:
        for wire in (bob, cal):
            wire.result("watch")
        ann.type(end)
        crew.until(lambda: "2 others use this directory: quit again to end it" in ann.out)
        assert bob.result("ping") == {}
        ann.type(end)
        for wire in (bob, cal):
            assert closing_of(wire) == "its host has quit"
        crew.finish(ann)
    assert ann.status == (130 if end == "\x03" else 0)
    no_trace(ann)


def test_a_host_that_is_ended_by_a_signal_says_goodbye_too(crew: Crew) -> None:
    ann, port = hosted(crew)
    with Wire(port) as bob:
        bob.result("watch")
        ann.signal(signal.SIGTERM)
        assert closing_of(bob) == "its host has quit"
        crew.finish(ann)
    assert ann.status == 143


def test_a_host_alone_is_asked_nothing(crew: Crew) -> None:
    ann, _ = hosted(crew)
    ann.type("\x04")
    crew.finish(ann)
    assert ann.status == 0 and "quit again" not in ann.out


@pytest.mark.parametrize("options", [(), ("--plain",)], ids=["screen", "plain"])
def test_ctrl_z_says_that_it_stops_the_directory_for_all(options: tuple[str, ...]) -> None:
    port = free_port()
    environment = {"EVLOOP_SERVER": f"127.0.0.1:{port}", "PS1": "sh> ", "ENV": ""}
    with PtyRun(["sh", "-i"], env=environment) as shell:  # who has job control
        shell.expect_last("sh>")
        shell.send(" ".join([sys.executable, "-m evloop --name Ann", *options]) + "\n")
        shell.expect_line("this one hosts it")
        shell.expect_last("evloop>")
        with Wire(port) as bob:
            assert bob.result("ping") == {}
            shell.send("\x1a")
            shell.expect_line("this stops the directory for 1 other, until fg")
            shell.expect_last("sh>")
            bob.send(bob.frame("ping"))  # nobody is there to answer
            shell.send("fg\n")
            shell.expect_last("evloop>")
            assert bob.reply()["result"] == {}
            shell.send("quit\n")
            shell.expect_line("1 other uses this directory: quit again")
            shell.expect_last("evloop>")
            shell.send("quit\n")
            shell.expect_last("sh>")
        shell.send("exit\n")
        assert shell.wait() == 0


def test_a_bug_that_a_visitor_meets_ends_neither_the_chat_nor_the_directory(
    crew: Crew, tmp_path: Path
) -> None:
    """The bug is planted: a `leave` that raises, in the process that hosts."""
    port = free_port()
    program = (
        "import sys\n"
        "from evloop.daemon import dispatcher\n"
        "def planted(*_):\n"
        "    raise ZeroDivisionError('planted')\n"
        "dispatcher.HANDLERS['leave'] = planted\n"
        "from evloop.__main__ import main\n"
        "sys.exit(main(['--plain', '--name', 'Ann']))\n"
    )
    words = [sys.executable, "-c", program]
    ann = Seated(words, environ={"EVLOOP_SERVER": f"127.0.0.1:{port}"})
    crew.add(ann)
    at_prompt(crew, ann)
    with Wire(port) as bob, Wire(port) as eve:
        eve.send(eve.frame("leave", name="lab"))
        crew.until(lambda: "internal error" in ann.out and "planted" in ann.out)
        assert bob.result("ping") == {}
        ann.type("makeroom lab\n")
        crew.until(lambda: "made room lab" in ann.out)
    ann.type("quit\n")
    crew.until(lambda: ann.done or "quit again" in ann.out)
    if not ann.done:
        ann.type("quit\n")
    crew.finish(ann)
    assert ann.status == 0
