"""The client as a program: pipes, one-shot commands, exit statuses, and what a stranger types."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.support.processes import (
    ROOT,
    Crew,
    Program,
    closed_stdin,
    environment,
    fresh_room,
    fresh_words,
    no_trace,
)
from tests.support.rpc import Wire

HEAVY = ("asyncio", "threading", "logging", "dataclasses", "subprocess", "pathlib", "typing")


def nowhere() -> str:
    """A place where no directory listens: the port was free a moment ago."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{sock.getsockname()[1]}"


def test_the_transcript_of_a_stranger(crew: Crew) -> None:
    server = crew.server()
    client = crew.piped(
        "connect\nmakeroom lab 239.255.7.1 5751\nmakeroom lab 239.255.7.2 5751\n"
        "makeroom x\ngetdir\ndeleteroom nope\nbye\n",
        server=server,
    )
    assert client.status == 1  # of the first command that failed
    made, picked, first, second = client.lines
    assert made == "made room lab: 239.255.7.1:5751"
    assert picked.startswith("made room x: 239.255.")
    assert first.split()[:3] == ["lab", "239.255.7.1", "5751"]
    assert f"{second.split()[1]}:{second.split()[2]}" == picked.split()[-1]
    assert client.err.splitlines() == [
        "evloop: makeroom lab: room lab exists already (239.255.7.1:5751)",
        "evloop: deleteroom nope: there is no room nope",
    ]


@pytest.mark.parametrize(
    ("line", "status", "says"),
    [
        ("makeroom x 10.0.0.1 99999", 1, "10.0.0.1"),
        ("makeroom x 239.255.7.9 99999", 1, "99999"),
        ("makeroom x 239.255.7.9 port", 1, "port"),
        ("makeroom x 239.255.7.9", 2, "address and port go together"),
        ('makeroom "bad name"', 1, "bad name"),
        ('makeroom "never closed', 2, "never closed"),
        ("makeroom " + 65 * "a", 1, "64"),
        ("makeroom " + 10_000 * "a", 1, "64"),
        ("makeroom a b c d", 2, "too many arguments"),
        ("makeroom x --mode loud", 2, "reliable or plain"),
        ("makeroom -x", 1, "-"),
        ("makeroom /x", 1, "/"),
        ("makeroom", 2, "too few arguments"),
        ("frobnicate", 2, "unknown command"),
        (10_000 * "a", 2, "unknown command"),
        ("getdri", 2, "did you mean getdir?"),
        ("name " + 33 * "a", 1, "32"),
        ("name a:b", 1, ":"),
        ("chat nope", 1, "no room nope"),
        ("deleteroom nope", 1, "no room nope"),
        ("connect 127.0.0.1:99999", 2, "99999"),
        ("bye now", 2, "too many arguments"),
    ],
)
def test_a_bad_line_is_answered_and_changes_nothing(
    crew: Crew, line: str, status: int, says: str
) -> None:
    server = crew.server()
    client = crew.piped(f"connect\n{line}\n", server=server)
    assert client.status == status, client.tell()
    (answer,) = client.err.splitlines()
    assert answer.startswith("evloop: ") and says in answer
    assert len(answer) < 400
    assert client.out == ""
    no_trace(client, server)
    with Wire(server.port) as wire:
        assert wire.rooms() == []


def test_bad_bytes_are_answered_and_the_rest_goes_on(crew: Crew) -> None:
    server = crew.server()
    lines = [
        b"connect",
        b"",
        b"   ",
        b"makeroom caf\xe9",
        b"makeroom \x1b[31mred",
        b"makeroom a\x00b",
        b"\xff\xfe",
        b"A" * 70_000,
        b"makeroom last",  # no line end
    ]
    client = crew.piped(b"\n".join(lines), server=server)
    assert client.status == 2  # the first that failed was no text
    assert client.out.startswith("made room last: ")
    errors = client.err.splitlines()
    assert len(errors) == 5 and all(line.startswith("evloop: ") for line in errors)
    assert "line 4 is not UTF-8: byte e9" in errors[0]
    assert "\x1b" not in client.err + client.out
    no_trace(client, server)
    with Wire(server.port) as wire:
        assert [room["name"] for room in wire.rooms()] == ["last"]


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["makeroom", "lab"], 0),
        (["getdir"], 0),
        (["help"], 0),
        (["--help"], 0),
        (["--version"], 0),
        (["deleteroom", "nope"], 1),
        (["say", "nope", "hello"], 1),
        (["tail", "nope"], 1),
        (["--name", "a b", "getdir"], 1),
        (["frobnicate"], 2),
        (["getdir", "now"], 2),
        (["--ttl", "many", "getdir"], 2),
        (["--frobnicate"], 2),
        (["tail", "lab", "-n", "many"], 2),
    ],
)
def test_exit_statuses(crew: Crew, words: list[str], status: int) -> None:
    server = crew.server()
    with Wire(server.port) as wire:
        wire.result("makeroom", name="first")
    client = crew.piped("", *words, server=server)
    assert client.status == status, client.tell()
    assert bool(client.err) == bool(status), client.tell()
    no_trace(client)


@pytest.mark.parametrize("words", [["getdir"], ["say", "lab", "x"], ["chat", "lab"]])
def test_an_unreachable_directory_is_69(crew: Crew, words: list[str]) -> None:
    place = nowhere()
    client = crew.piped("", *words, server=place)
    assert client.status == 69, client.tell()
    assert place in client.err and "refused" in client.err
    assert len(client.err.splitlines()) == 1


def test_an_unreachable_directory_in_a_pipe_is_69(crew: Crew) -> None:
    client = crew.piped("connect\ngetdir\n", server=nowhere())
    assert client.status == 69
    refused, unconnected = client.err.splitlines()
    assert "refused" in refused and "not connected" in unconnected


def test_another_protocol_is_76(crew: Crew) -> None:
    """Something else listens there: a web server, or a directory of a later version."""
    answers = [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b'\0\0\0\x44{"jsonrpc":"2.0","id":1,"result":{"server":"x/9","protocol":2,"version":0}}',
    ]
    answers[1] = len(answers[1][4:]).to_bytes(4, "big") + answers[1][4:]
    for answer in answers:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.settimeout(30)

            def serve(listener: socket.socket = listener, answer: bytes = answer) -> None:
                peer, _ = listener.accept()
                peer.recv(1 << 16)
                peer.sendall(answer)
                peer.close()

            thread = threading.Thread(target=serve)
            thread.start()
            client = crew.piped("", "getdir", server=f"127.0.0.1:{listener.getsockname()[1]}")
            thread.join(30)
        assert client.status == 76, client.tell()
        assert len(client.err.splitlines()) == 1
        no_trace(client)


def test_what_one_may_not_do_is_77(crew: Crew) -> None:
    server = crew.server("--delete", "owner")
    with Wire(server.port) as wire:
        wire.result("makeroom", name="mine")
    client = crew.piped("", "deleteroom", "mine", server=server)
    assert client.status == 77, client.tell()


def test_a_room_made_by_one_name_of_the_directory_is_deleted_by_another(
    crew: Crew, tmp_path: Path
) -> None:
    server = crew.server("--delete", "owner")
    by_number, by_name = f"127.0.0.1:{server.port}", f"localhost:{server.port}"
    for place, words in (
        (by_number, ("makeroom", "lab")),
        (by_name, ("deleteroom", "lab")),
        (by_name, ("makeroom", "lab")),
        (by_number, ("deleteroom", "LAB")),
    ):
        client = crew.client(*words, server=place, XDG_STATE_HOME=str(tmp_path))
        crew.finish(client)
        assert client.status == 0, client.tell()


@pytest.mark.parametrize(("signum", "status"), [(2, 130), (15, 143)])
def test_a_client_that_is_signalled_leaves_the_room(crew: Crew, signum: int, status: int) -> None:
    room = fresh_room()
    stays = crew.chatter("Ann", room)
    goes = crew.chatter("Bob", room)
    crew.in_room(stays, goes)
    crew.until(lambda: "Bob" in stays.err)
    goes.signal(signum)
    crew.finish(goes)
    assert goes.status == status
    crew.until(lambda: "-- Bob left --" in stays.err)  # by BYE, so at once
    no_trace(goes)


def test_json_is_one_object_a_line(crew: Crew) -> None:
    server = crew.server()
    client = crew.piped(
        "connect\nmakeroom lab 239.255.7.1 5751\nmakeroom p --mode plain\ngetdir\nname\nnope\n",
        "--json",
        "--name",
        "Mel",
        server=server,
    )
    objects = [json.loads(line) for line in client.lines]
    assert [list(it)[:2] for it in objects] == [["v", "type"]] * 5
    assert [it["type"] for it in objects] == ["room"] * 4 + ["name"]
    lab = objects[0]
    assert lab == objects[2]
    assert list(lab) == ["v", "type", "name", "address", "port", "mode", "members", "made", "keep"]
    assert (lab["v"], lab["name"], lab["address"]) == (1, "lab", "239.255.7.1")
    assert (lab["port"], lab["mode"], lab["members"]) == (5751, "reliable", 0)
    assert objects[1]["mode"] == "plain"
    error = json.loads(client.err)
    assert error["type"] == "error" and set(error) == {"v", "type", "what", "why"}
    assert client.status == 2


def test_json_in_a_room(crew: Crew) -> None:
    server = crew.server()
    crew.piped("", "makeroom", "lab", *fresh_words(), server=server)
    ann = crew.chatter("Ann", "lab", "--json", server=server)
    crew.in_room(ann)
    mel = crew.chatter("Mel", "lab", server=server)
    mel.type("Good morning!\n/me waves\nb\u00f6se \x1b[31m\u202e\n")

    def got(kind: str) -> list[dict[str, object]]:
        objects = [json.loads(line) for line in ann.lines]
        return [it for it in objects if it["type"] == kind]

    crew.until(lambda: got("joined") and len(got("message")) == 3)
    mel.type("/name Lem\n")
    crew.until(lambda: got("renamed"))  # presence is read off SESSIONs
    mel.type("/leave\nquit\n")
    crew.until(lambda: got("left"))
    first, second, third = got("message")
    members = "v type room name text sender seq at history verified"
    assert list(first) == members.split()
    assert first["text"] == "Good morning!" and first["name"] == "Mel" and first["room"] == "lab"
    assert (first["seq"], second["seq"], third["seq"]) == (0, 1, 2)
    assert first["history"] is False and first["verified"] is False
    assert second["kind"] == "me" and second["text"] == "waves"
    assert third["text"] == "b\u00f6se \x1b[31m\u202e"  # the value is whole,
    assert "\x1b" not in ann.out and "\u202e" not in ann.out  # and harmless to a terminal
    (joined,) = got("joined")
    assert (joined["name"], joined["sender"]) == ("Mel", first["sender"])
    (renamed,) = got("renamed")
    assert (renamed["old"], renamed["name"]) == ("Mel", "Lem")
    (left,) = got("left")
    assert left["sender"] == first["sender"]
    crew.finish(mel)
    assert mel.status == 0


def test_a_reader_that_has_enough_ends_it_silently(crew: Crew) -> None:
    server = crew.server()
    with Wire(server.port) as wire:
        for number in range(1_500):
            wire.send(wire.frame("makeroom", name=f"room-{number:04}"))
        for _ in range(1_500):
            wire.reply()
    command = f"{sys.executable} -m evloop.client --server {server.place} getdir | head -1"
    piped = crew.add(Program(["sh", "-c", command], stdin=subprocess.DEVNULL))
    crew.finish(piped)
    assert len(piped.lines) == 1 and piped.lines[0].split()[0] == "room-0000"
    assert piped.err == ""


@pytest.mark.parametrize("kind", ["closed", "/dev/null", "empty file", "file", "/dev/zero"])
def test_kinds_of_stdin(crew: Crew, kind: str, tmp_path: Path) -> None:
    """As a pipe of commands: the end is the end, wherever it comes from."""
    server = crew.server()
    commands = tmp_path / "commands"
    commands.write_text("connect\nmakeroom lab\n" if kind == "file" else "")
    prefix = closed_stdin() if kind == "closed" else ()
    path = kind if kind.startswith("/dev") else str(commands)
    stdin = os.open(path, os.O_RDONLY)
    try:
        client = crew.client(server=server, stdin=stdin, prefix=prefix)
    finally:
        os.close(stdin)
    if kind == "/dev/zero":
        # A line without an end: refused once, and then it goes on being read, never kept.
        crew.until(lambda: "longer than" in client.err)
        assert resident_mb(client) < 60
        client.signal(15)
        crew.finish(client)
        assert client.status == 143
        assert len(client.err.splitlines()) == 1
    else:
        crew.finish(client)
        assert client.status == 0
        assert ("made room lab" in client.out) == (kind == "file")
        assert client.err == ""


def test_chat_takes_its_lines_from_a_file(crew: Crew, tmp_path: Path) -> None:
    room = fresh_room()
    ann = crew.chatter("Ann", room)
    crew.in_room(ann)
    lines = tmp_path / "lines"
    lines.write_text("one\ntwo\n")
    stdin = os.open(lines, os.O_RDONLY)
    try:
        mel = crew.chatter("Mel", room, stdin=stdin)
    finally:
        os.close(stdin)
    crew.finish(mel)
    assert mel.status == 0
    assert mel.lines == ["Mel: one", "Mel: two"]
    crew.until(lambda: ann.lines == ["Mel: one", "Mel: two"])


def resident_mb(program: Program) -> float:
    for line in Path(f"/proc/{program.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("no VmRSS")


@pytest.mark.parametrize("module", ["evloop.server", "evloop.client", "evloop"])
@pytest.mark.parametrize("interpreter", [["-S"], []])
def test_nothing_heavy_is_imported(module: str, interpreter: list[str]) -> None:
    """Without site, and of what evloop itself asks for where site loads things of its own."""

    def imported(*words: str) -> set[str]:
        done = subprocess.run(
            [sys.executable, *interpreter, "-X", "importtime", *words],
            cwd=ROOT,
            env=environment(PYTHONWARNINGS=""),
            capture_output=True,
            text=True,
            check=True,
        )
        lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
        return {line.rpartition("|")[2].strip() for line in lines}

    empty = imported("-c", "pass") | imported("-m", "this")
    loaded = imported("-m", module, "--version")
    assert not (loaded - empty) & set(HEAVY)
    assert f"{module}.__main__" in loaded or "evloop" in loaded


def test_a_server_that_is_slow_to_answer_is_not_hurried(crew: Crew, tmp_path: Path) -> None:
    """The server is stopped when the command comes and goes on later: the answer is right."""
    server = crew.server()
    client = crew.client(server=server)
    client.type("connect\nmakeroom lab\n")
    crew.until(lambda: "made room" in client.out)
    server.signal(19)
    client.type("getdir\n")
    crew.read_for(0.3)
    assert len(client.lines) == 1
    server.signal(18)
    client.end()
    crew.finish(client)
    assert len(client.lines) == 2 and client.status == 0
