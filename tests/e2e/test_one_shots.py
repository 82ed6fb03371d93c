"""`say` and `tail`: a room for scripts, with its exit statuses."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from evloop.app.limits import CONFIRM_S
from evloop.base.errors import (
    FAILED,
    UNCONFIRMED,
    UNREACHABLE,
    USAGE,
)
from tests.support.live import ROOT, Process
from tests.support.processes import PATIENCE_S


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


def test_where_nobody_need_be_it_is_no_failure(room: str) -> None:
    assert client("say", room, "--anybody", "hello") == (0, "", "")
    began = time.monotonic()
    assert client("say", "--timeout", "0.1", room, "hello")[0] == UNCONFIRMED
    assert time.monotonic() - began < CONFIRM_S
    assert client("say", "--timeout", "soon", room, "hello")[0] == USAGE


@pytest.mark.parametrize("typed", ["hello\n", "one\n\ntwo\n"])
def test_in_a_plain_room_there_is_nothing_to_wait_for(room: str, typed: str) -> None:
    began = time.monotonic()
    assert client("say", room, "--mode", "plain", typed=typed) == (0, "", "")
    assert time.monotonic() - began < CONFIRM_S


@pytest.mark.parametrize("words", [[], [""], ["  ", ""]])
def test_who_has_nothing_to_say_is_done_at_once(words: list[str]) -> None:
    """`grep ... | say` without a match; no directory is asked, no room is entered."""
    assert client("--server", "127.0.0.1:1", "say", "ops", *words, typed="\n  \n") == (0, "", "")


def test_blank_lines_are_not_said(room: str, bob: Tail) -> None:
    assert client("say", room, typed="\ufeff\n\none\n \ntwo\n") == (0, "", "")
    assert [bob.line(), bob.line()] == ["Mel: one", "Mel: two"]


def test_options_and_text_of_say(room: str, bob: Tail) -> None:
    status, out, err = client("say", room, "--help")
    assert (status, err) == (0, "") and "say ROOM" in out
    assert client("say", room, "--", "--help") == (0, "", "")
    assert bob.line() == "Mel: --help"
    status, out, err = client("say", room, "--frob", "x")
    assert (status, out) == (USAGE, "") and "behind -- it is text" in err


def test_a_say_is_not_announced(room: str, bob: Tail) -> None:
    assert client("say", room, "backup done") == (0, "", "")
    assert bob.line() == "Mel: backup done"
    bob.process.terminate()
    _, err = bob.process.communicate(timeout=PATIENCE_S)
    assert "Mel" not in err


def test_an_argument_that_is_not_utf_8_is_not_sent(room: str, bob: Tail) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "evloop.client", "--name", "Mel", "say", room, b"caf\xe9"],
        check=False, cwd=ROOT, capture_output=True, timeout=PATIENCE_S,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (USAGE, b"")
    assert done.stderr.decode() == 'evloop: "caf\ufffd" is not UTF-8 (byte e9); it was not taken\n'


@pytest.mark.parametrize("word", ["say", "tail", "connect", "who", "join"])
def test_help_knows_every_command(word: str) -> None:
    status, out, err = client("help", word)
    assert (status, err) == (0, "") and len(out.splitlines()) == 2


def test_help_in_the_shell_says_what_it_lists() -> None:
    status, out, err = client("help")
    assert (status, err) == (0, "")
    assert "commands for scripts" in out and "commands of the main prompt" in out
    assert "  say ROOM" in out and "  connect [HOST" in out
    status, out, err = client("connect")
    assert (status, out) == (USAGE, "")
    assert "connect is a command of the main prompt" in err


def test_a_room_that_is_not_there() -> None:
    server = Process().ready()
    try:
        at = ("--server", "{}:{}".format(*server.address))
        name = f"lab-{os.getpid()}"  # whose place no other test's room has
        status, out, err = client(*at, "chat", name)
        assert (status, out) == (FAILED, "")
        assert err == f"evloop: chat {name}: there is no room {name}; makeroom {name} makes it\n"
        done = subprocess.run(
            [sys.executable, "-m", "evloop", "--name", "Mel", *at, "chat", name],
            check=False, cwd=ROOT, input="hi\n", capture_output=True, text=True,
            timeout=PATIENCE_S,
        )  # fmt: skip
        assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "Mel: hi")
        assert done.stdout.startswith(f"made room {name}: 239.")
        assert client(*at, "getdir")[1].startswith(f"  {name} ")
    finally:
        server.close()


def test_a_first_try_makes_the_directory_and_the_room() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    done = subprocess.run(
        [sys.executable, "-m", "evloop", "--name", "Mel", "--server", f"127.0.0.1:{port}",
         "chat", f"lab-{os.getpid()}"],
        check=False, cwd=ROOT, input="hi\n", capture_output=True, text=True, timeout=PATIENCE_S,
    )  # fmt: skip
    assert done.returncode == 0
    assert "no directory answered, so this one hosts it" in done.stderr
    assert done.stdout.splitlines()[-1] == "Mel: hi"


@pytest.mark.parametrize("name", ["10:30", "1.2.3.4:80"])
def test_a_room_may_be_called_like_a_time(name: str) -> None:
    server = Process().ready()
    try:
        at = ("--server", "{}:{}".format(*server.address))
        assert client(*at, "makeroom", name)[0] == 0
        assert client(*at, "chat", name)[0] == 0
        assert client(*at, "deleteroom", name)[0] == 0
        assert client(*at, "chat", name)[0] == FAILED
    finally:
        server.close()


def test_a_file_of_commands_that_begins_with_a_byte_order_mark() -> None:
    assert client(typed="\ufeffname\nquit\n") == (0, "Mel\n", "")


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
            "-- in a:5 (lo, 127.0.0.1). Ctrl-] or /leave goes back --\n-- left a:5 --\n",
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
