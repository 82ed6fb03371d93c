"""`say` and `tail`: a room for scripts, with its exit statuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from evloop.base.errors import (
    FAILED,
    UNCONFIRMED,
    UNREACHABLE,
    USAGE,
)
from tests.support.live import (
    PATIENCE_S,
    ROOT,
    Process,
)


@pytest.fixture
def room() -> str:
    """A place of this test's own: it needs no directory."""
    low, high = os.urandom(2)
    return f"239.255.{low % 254 + 1}.{high}:{49152 + (os.getpid() * 31 + high) % 16000}"


def client(*arguments: str, typed: str = "") -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "evloop.client", "--name", "Mel", *arguments],
        check=False,
        cwd=ROOT,
        input=typed,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    return done.returncode, done.stdout, done.stderr


class Tail:
    """`tail ROOM` of somebody else."""

    def __init__(self, room: str, *options: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "evloop.client", "--name", "Bob", *options, "tail", room],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr is not None and self.process.stdout is not None
        assert self.process.stderr.readline().startswith(f"-- in {room}")
        self.out = self.process.stdout

    def line(self) -> str:
        return self.out.readline().removesuffix("\n")

    def close(self) -> int:
        self.process.terminate()
        self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode


@pytest.fixture
def bob(room: str) -> Iterator[Tail]:
    tail = Tail(room)
    yield tail
    tail.close()


def test_what_is_said_is_confirmed_and_shown(room: str, bob: Tail) -> None:
    assert client("say", room, "Good", "morning!") == (0, "", "")
    assert bob.line() == "Mel: Good morning!"
    assert client("say", room, typed="one\n/leave\n//three\n") == (0, "", "")
    assert [bob.line() for _ in range(3)] == ["Mel: one", "Mel: /leave", "Mel: //three"]
    assert bob.close() == 143


def test_nobody_there_is_not_confirmed(room: str) -> None:
    status, out, err = client("say", room, "hello")
    assert (status, out) == (UNCONFIRMED, "")
    assert err == f"evloop: say {room}: not confirmed: nobody is there; try again\n"


def test_in_a_plain_room_there_is_nothing_to_wait_for(room: str) -> None:
    began = time.monotonic()
    assert client("say", room, "--mode", "plain", "hello") == (0, "", "")
    assert time.monotonic() - began < PATIENCE_S / 2


def test_what_is_too_long_to_be_said_is_refused(room: str) -> None:
    status, out, err = client("say", room, "x" * 8_000)
    assert (status, out) == (FAILED, "")
    assert err.startswith(f"evloop: say {room}: not sent: ") and err.count("\n") == 1


def test_a_tail_begins_with_the_last_messages(room: str, bob: Tail) -> None:
    assert client("say", room, typed="1\n2\n3\n4\n")[0] == 0
    assert [bob.line() for _ in range(4)] == [f"Mel: {number}" for number in range(1, 5)]
    late = Tail(room, "--json")
    try:
        heard = [json.loads(late.line()) for _ in range(2)]
    finally:
        late.close()
    assert all(list(one)[:2] == ["v", "type"] for one in heard)


def test_the_last_n_messages(room: str, bob: Tail) -> None:
    assert client("say", room, typed="1\n2\n3\n4\n")[0] == 0
    process = subprocess.Popen(
        [sys.executable, "-m", "evloop.client", "tail", room, "-n", "2"],
        cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert [process.stdout.readline() for _ in range(2)] == ["Mel: 3\n", "Mel: 4\n"]
    process.terminate()
    process.communicate(timeout=PATIENCE_S)


@pytest.mark.parametrize("count", ["x", "-1", "1.5", ""])
def test_a_tail_of_no_number_is_no_usage(room: str, count: str) -> None:
    assert client("tail", room, "-n", count)[0] == USAGE


@pytest.mark.parametrize("typed", ["", "connect\n"])
def test_where_no_directory_answers_it_is_said_what_to_do(typed: str) -> None:
    command = [] if typed else ["getdir"]
    status, out, err = client("--server", "127.0.0.1:1", *command, typed=typed)
    assert (status, out) == (UNREACHABLE, "")
    assert err.startswith(f"evloop: {'' if typed else 'getdir: '}connect 127.0.0.1:1: ")
    assert err.endswith("; is a directory there? python3 -m evloop.server starts one\n")


def test_a_room_may_have_a_colon_in_its_name() -> None:
    server = Process().ready()
    try:
        at = ("--server", "{}:{}".format(*server.address))
        assert client(*at, "makeroom", "a:5")[0] == 0
        assert client(*at, "chat", "a:5") == (
            0,
            "",
            "-- in a:5. Ctrl-] or /leave goes back --\n-- left a:5 --\n",
        )
    finally:
        server.close()


def test_what_stands_behind_quit_is_not_done() -> None:
    assert client(typed="name\nquit\nbogus\nname\n") == (0, "Mel\n", "")


def test_a_reader_that_has_seen_enough_is_no_failure(room: str) -> None:
    """The lines that are still to come must not be taken for commands."""
    with subprocess.Popen(
        [sys.executable, "-m", "evloop.client", "--name", "Mel", "chat", room],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as chatter:
        assert chatter.stdin is not None
        assert chatter.stdout is not None
        assert chatter.stderr is not None
        chatter.stdin.write("".join(f"line {number}\n" for number in range(500)))
        chatter.stdin.flush()
        assert chatter.stdout.readline() == "Mel: line 0\n"
        chatter.stdout.close()
        assert chatter.wait(PATIENCE_S) == 0
        assert "unknown command" not in chatter.stderr.read()
        chatter.stdin.close()
