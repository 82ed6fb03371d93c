"""Several rooms in one client: on a pty, in a pipe, with --json; a real directory, real rooms."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
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


def piping(server: Process, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", *arguments(server, *more)], stdin=subprocess.PIPE, text=True
    )


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


@pytest.mark.slow
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


# -- while a /join is under way --------------------------------------------------------------------


@pytest.fixture
def joining(server: Process) -> Iterator[PtyRun]:
    """Ann is in two rooms and wants to enter a third, of which the directory does not tell."""
    with person(server, "--name=Ann") as ann:
        ann.expect_line("Ctrl-D quits.")
        ann.send(f"chat {LAB} {GARDEN}\r")
        ann.expect_line(f"[2:{GARDEN}] -- in {GARDEN}")
        server.process.send_signal(signal.SIGSTOP)
        try:
            ann.send(f"/join {OPS}\r")
            yield ann
        finally:
            server.process.send_signal(signal.SIGCONT)


def test_lines_wait_for_a_join_and_keys_do_not(server: Process, joining: PtyRun) -> None:
    ann = joining
    ann.send("this is for ops\rquit\rhalf a li")
    ann.expect_last(f"1:{LAB} > half a li")
    ann.send("\x1b2")
    ann.expect_last(f"2:{GARDEN} >")
    ann.expect_line("still waiting for")  # and no word is a command meanwhile
    server.process.send_signal(signal.SIGCONT)
    ann.expect_line("Ann: this is for ops")
    ann.expect_last(f"3:{OPS} >")
    ann.expect_line("quit: said to everybody?")
    assert ann.screen is not None
    shown = ann.screen.scrollback + ann.screen.used()
    entered = next(n for n, line in enumerate(shown) if f"-- in {OPS}" in line)
    assert entered < shown.index("Ann: this is for ops")  # it was said there
    ann.send("\x1b1")
    ann.expect_last(f"1:{LAB} > half a li")


@pytest.mark.parametrize(
    "keys",
    [
        pytest.param("half a line\x1d", id="Ctrl-]"),
        pytest.param("\x03\x03", id="Ctrl-C twice", marks=pytest.mark.slow),
    ],
)
def test_leaving_all_gives_up_a_join(server: Process, joining: PtyRun, keys: str) -> None:
    ann = joining
    ann.expect_last(f"1:{LAB} >")
    ann.send(keys)
    ann.expect_line(f"-- left {LAB}, {GARDEN} --")
    ann.expect_last("evloop>")
    server.process.send_signal(signal.SIGCONT)
    ann.send("getdir\r")
    ann.expect(lambda screen: sum(" 0 here" in line for line in screen.used()) == 3)
    assert ann.screen is not None
    assert not any(word in line for line in ann.screen.used() for word in ("given up", f"in {OPS}"))
    ann.send("quit\r")
    assert ann.wait() == 0


def places(count: int) -> list[str]:
    """Rooms that no directory lists and nobody else is in."""
    one, two = os.urandom(2)
    return [f"239.255.{one % 254 + 1}.{two}:{40_000 + n}" for n in range(count)]


def test_sixteen_rooms_and_no_seventeenth(server: Process) -> None:
    all_of_them = places(17)
    done = piped(server, f"/join {all_of_them[16]}\n/rooms\nhello\n", "chat", *all_of_them[:16])
    assert done.stdout.splitlines()[-1].endswith(": hello")
    assert (
        "evloop: join: you are in 16 rooms, and that is the most; /leave one first" in done.stderr
    )
    rows = re.findall(r"^ +(\d+)  239.* 1 here", done.stderr, re.MULTILINE)
    assert rows == [str(n) for n in range(1, 17)]
    assert done.returncode == 1
    usage = piped(server, "", "chat", *all_of_them)
    assert usage.returncode == 2 and "too many arguments" in usage.stderr


@pytest.mark.slow
def test_the_end_of_input_finishes_all_rooms_at_the_same_time(server: Process) -> None:
    """Somebody in each room never confirms: 5 s after the last datagram of any, not 5 s a room."""
    with person(server, "--name=Bob", "chat", LAB, GARDEN, OPS) as bob:
        bob.expect_line(f"[3:{OPS}] -- in {OPS}")
        with piping(server, "--name=Ann", "chat", LAB, GARDEN, OPS) as ann:
            assert ann.stdin is not None
            ann.stdin.write("one\n/switch 2\ntwo\n/switch 3\nthree\n")
            ann.stdin.flush()
            bob.expect_line("Ann: one")
            bob.expect_line("Ann: two")
            bob.expect_line("Ann: three")
            bob.kill(signal.SIGSTOP)
            ann.stdin.write("unheard\n/switch 1\nunheard\n/switch 2\nunheard\n")
            ann.stdin.close()
            began = time.monotonic()
            assert ann.wait(30) == 0
            assert 4.0 < time.monotonic() - began < 9.0
            bob.kill(signal.SIGCONT)


@pytest.mark.slow
def test_whole_lines_on_a_terminal(server: Process) -> None:
    """--plain: nothing is folded, lines of other rooms are labelled; Ctrl-] leaves all rooms."""
    with person(server, "--plain", "--name=Ann") as ann:
        ann.expect_line("Ctrl-D quits.")
        ann.send(f"chat {LAB} {GARDEN}\n")
        ann.expect_line(f"[2:{GARDEN}] -- in {GARDEN} --")
        with person(server, "--name=Bob", "chat", GARDEN) as bob:
            bob.expect_line(f"-- in {GARDEN}")
            ann.expect_line(f"[2:{GARDEN}] -- Bob joined --")
            for n in range(6):
                bob.send(f"line {n}\r")
            for n in range(6):
                ann.expect_line(f"[2:{GARDEN}] Bob: line {n}")
            ann.send("\n")
            ann.expect_line(f"-- in 1:{LAB}: what you type is said here; /leave goes back --")
            ann.send("/switch\n")
            ann.expect_line(f"-- 2:{GARDEN} --")
            ann.send("hello\n")
            bob.expect_line("Ann: hello")
            ann.send("half a line\x1d")
            ann.expect_line(f"-- left {LAB}, {GARDEN} --")
            ann.expect_line("evloop>")
            ann.send("quit\n")
            assert ann.wait() == 0


@pytest.mark.slow
def test_a_name_is_that_of_all_rooms_and_a_signal_leaves_all(server: Process) -> None:
    with person(server, "--name=Ann", "chat", LAB, GARDEN) as ann:
        ann.expect_line(f"[2:{GARDEN}] -- in {GARDEN}")
        with person(server, "--name=Bob", "chat", GARDEN) as bob:
            bob.expect_line(f"-- in {GARDEN}")
            bob.expect(lambda screen: "Ann" in str(screen.used()))
            ann.send("/name Amy\r")
            ann.expect_line("-- Ann is now Amy --")
            bob.expect_line("-- Ann is now Amy --")
            ann.kill(signal.SIGTERM)
            assert ann.wait() == 143
            bob.expect_line("Amy left")
    assert [members(server, name) for name in ROOMS] == [0, 0, 0]


@pytest.mark.slow
def test_the_directory_counts_us_in_all_rooms_again(server: Process) -> None:
    """After a reconnect; with another directory each room is made again."""
    host, port = server.address
    with person(server, "--name=Ann", "chat", LAB, GARDEN) as ann:
        ann.expect_line(f"[2:{GARDEN}] -- in {GARDEN}")
        server.close()
        ann.expect_line("is away")
        other = Process("--listen", f"{host}:{port}", listen=False).ready()
        try:
            ann.expect_line("is back")
            ann.expect_line(f"made room {LAB} again")
            ann.expect_line(f"[2:{GARDEN}] -- made room {GARDEN} again")
            assert [members(other, name) for name in (LAB, GARDEN)] == [1, 1]
            ann.send("\x1d")
            assert ann.wait() == 0
            assert [members(other, name) for name in (LAB, GARDEN)] == [0, 0]
        finally:
            other.close()
