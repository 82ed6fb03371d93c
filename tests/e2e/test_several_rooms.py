"""Several rooms in one client: on a pty, in a pipe, with --json; a real directory, real rooms."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.support.live import Caller, Process
from tests.support.pty_run import PtyRun

# A room's place follows from its name, and other tests that run now must not be heard.
ROOMS = LAB, GARDEN, OPS = [f"{name}-{os.urandom(3).hex()}" for name in ("lab", "garden", "ops")]


@pytest.fixture
def server() -> Iterator[Process]:
    server = Process().ready()
    caller = Caller(server.address)
    for name in ROOMS:
        server.call(caller, "makeroom", name=name)
    caller.close()
    yield server
    server.close()


def arguments(server: Process, *more: str) -> list[str]:
    where = f"127.0.0.1:{server.address[1]}"
    return ["evloop.client", "--time=off", "--server", where, *more]


def person(server: Process, *more: str) -> PtyRun:
    module, *rest = arguments(server, *more)
    return PtyRun.python(module, *rest, columns=200)


def piped(server: Process, text: str, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *arguments(server, *more)],
        check=False,
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
    )


def members(server: Process, name: str) -> int:
    caller = Caller(server.address)
    try:
        reply = server.call(caller, "enter", name=name)
        return int(reply["result"]["room"]["members"]) - 1
    finally:
        caller.close()


def test_three_rooms_on_a_terminal(server: Process) -> None:
    """Half a line in one, a mention in another, Alt-2 and back; Ctrl-] from within the line."""
    with person(server, "--name=Ann", "chat", LAB, GARDEN) as ann:
        ann.expect_line(f"[2:{GARDEN}] -- in {GARDEN}")
        ann.send(f"/join {OPS}\r")
        ann.expect_line(f"-- in {OPS}. Alt-1 or /switch goes to {LAB}, /leave leaves")
        ann.expect_last(f"3:{OPS} >")
        assert [members(server, name) for name in ROOMS] == [1, 1, 1]
        ann.send("half a li")
        with person(server, "--name=Bob", "chat", GARDEN) as bob:
            bob.expect_line(f"-- in {GARDEN}")
            bob.send("are you there, Ann?\r")
            ann.expect_line(f"[2:{GARDEN}] Bob: are you there, Ann?")
            ann.expect_last(f"3:{OPS}!> half a li")
            ann.send("\x1b2")
            ann.expect_last(f"2:{GARDEN} >")
            ann.send("yes\r")
            bob.expect_line("Ann: yes")
            ann.send("\x1b3")
            ann.expect_last(f"3:{OPS} > half a li")
            ann.send("ne\r")
            ann.expect_line("Ann: half a line")
            ann.send("more\x1d")
            ann.expect_line(f"-- left {LAB}, {GARDEN}, {OPS} --")
            assert ann.wait() == 0
    assert [members(server, name) for name in ROOMS] == [0, 0, 0]


def test_rooms_in_a_pipe(server: Process) -> None:
    lines = f"to {LAB}\n/join {OPS}\nto {OPS}\n/switch 2\nto {GARDEN}\n/rooms\n/leave\nback\n"
    done = piped(server, lines, "--name=Ann", "chat", LAB, "nope", GARDEN)
    said = [f"Ann: to {LAB}", f"Ann: to {OPS}", f"Ann: to {GARDEN}", "Ann: back"]
    assert done.stdout.splitlines() == said
    assert "evloop: chat nope: there is no room nope; makeroom nope makes it" in done.stderr
    assert f"  2  {GARDEN}  1 here, in front\n" in done.stderr
    assert done.returncode == 1  # of the room that is not there


def test_rooms_with_json(server: Process) -> None:
    done = piped(server, "one\n/switch 2\ntwo\n", "--json", "chat", LAB, GARDEN)
    events = [json.loads(line) for line in done.stdout.splitlines()]
    messages = [event for event in events if event["type"] == "message"]
    assert [(one["room"], one["text"]) for one in messages] == [(LAB, "one"), (GARDEN, "two")]
    assert done.returncode == 0


def test_chat_alone_goes_back_into_the_rooms_left_together(server: Process) -> None:
    with person(server, "--name=Ann") as ann:
        ann.expect_line("Ctrl-D quits.")
        ann.send("chat\r")
        ann.expect_line("evloop: chat: too few arguments")
        ann.send(f"chat {LAB} {GARDEN}\r")
        ann.expect_last(f"1:{LAB} >")
        ann.expect_line(f"[2:{GARDEN}] -- in {GARDEN}")
        ann.send("/switch gar\r")
        ann.expect_last(f"2:{GARDEN} >")
        ann.send("\x1d")
        ann.expect_last("evloop>")
        ann.send("chat\r")
        ann.expect_last(f"1:{LAB} >")
        ann.send("/leave\r")
        ann.expect_last(f"{GARDEN}>")
        ann.send("/leave\rquit\r")
        assert ann.wait() == 0
