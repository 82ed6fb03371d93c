"""Standard input of every kind: terminal, pipe, regular file, /dev/null, /dev/zero, closed."""

from __future__ import annotations

import fcntl
import os
import pty
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from evloop.system.limits import FOREGROUND_POLL_S, READ_BYTES_PER_WAKE
from evloop.system.loop import Loop
from evloop.system.stdin import Input, LineReader


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


@pytest.fixture
def opened() -> Iterator[Callable[[str], int]]:
    """Opens a file to be read: `Input` closes nothing."""
    descriptors: list[int] = []

    def opened(path: str | Path) -> int:
        descriptors.append(os.open(path, os.O_RDONLY))
        return descriptors[-1]

    yield opened
    for fd in descriptors:
        os.close(fd)


@pytest.fixture
def tick(loop: Loop) -> Callable[[], None]:
    """One tick that does not sleep."""

    def tick() -> None:
        loop.call_at(loop.now, lambda: None)
        loop.tick()

    return tick


def test_dev_null_ends_at_once(
    opened: Callable[[str | Path], int], loop: Loop, tick: Callable[[], None]
) -> None:
    got: list[bytes] = []
    fd = opened("/dev/null")
    Input(loop, fd, got.append)
    assert got == []  # never from inside the constructor
    for _ in range(3):
        tick()
    assert got == [b""]


def test_a_regular_file_is_read_a_piece_per_tick(
    opened: Callable[[str | Path], int], loop: Loop, tick: Callable[[], None], tmp_path: Path
) -> None:
    content = os.urandom(2 * READ_BYTES_PER_WAKE + 5)
    path = tmp_path / "piped"
    path.write_bytes(content)
    got: list[bytes] = []
    Input(loop, opened(path), got.append)
    sizes = []
    while not got or got[-1]:
        tick()
        sizes.append(len(got[-1]))
        assert len(got) == len(sizes)
    assert sizes == [READ_BYTES_PER_WAKE, READ_BYTES_PER_WAKE, 5, 0]
    assert b"".join(got) == content


def test_an_endless_file_starves_nobody(opened: Callable[[str | Path], int], loop: Loop) -> None:
    got: list[int] = []
    reader, writer = os.pipe()
    watch = loop.watch(reader, lambda: got.append(-len(os.read(reader, 1))))
    source = Input(loop, opened("/dev/zero"), lambda data: got.append(len(data)))
    for _ in range(3):
        got.clear()
        os.write(writer, b"x")
        loop.tick()
        assert got == [-1, READ_BYTES_PER_WAKE]
    source.close()
    source.close()
    got.clear()
    os.write(writer, b"x")
    loop.tick()
    assert got == [-1]
    watch.close()
    os.close(reader)
    os.close(writer)


def test_a_file_held_back_is_not_read_and_does_not_spin(
    opened: Callable[[str | Path], int], loop: Loop, tick: Callable[[], None]
) -> None:
    got: list[int] = []
    source = Input(loop, opened("/dev/zero"), lambda data: got.append(len(data)))
    source.want_read(False)
    for _ in range(3):
        tick()
    assert got == []
    assert not loop.deferred  # so the loop may sleep
    for want in (True, False, True, True):
        source.want_read(want)
    tick()
    assert got == [READ_BYTES_PER_WAKE]
    tick()
    assert got == [READ_BYTES_PER_WAKE] * 2
    source.close()


def test_closed_by_its_own_data(
    opened: Callable[[str | Path], int], loop: Loop, tick: Callable[[], None]
) -> None:
    got: list[int] = []

    def on_data(data: bytes) -> None:
        got.append(len(data))
        source.close()
        source.want_read(True)

    source = Input(loop, opened("/dev/zero"), on_data)
    for _ in range(3):
        tick()
    assert got == [READ_BYTES_PER_WAKE]


def test_a_pipe(loop: Loop, tick: Callable[[], None]) -> None:
    got: list[bytes] = []
    reader, writer = os.pipe()
    source = Input(loop, reader, got.append)
    tick()
    assert got == []
    os.write(writer, b"getdir\n")
    tick()
    source.want_read(False)
    os.write(writer, b"bye\n")
    tick()
    assert got == [b"getdir\n"]
    source.want_read(True)
    tick()
    os.close(writer)
    for _ in range(3):
        tick()
    assert got == [b"getdir\n", b"bye\n", b""]
    os.close(reader)  # it is ours still


def run_with_stdin_closed(program: str) -> str:
    done = subprocess.run(
        ["sh", "-c", 'exec "$0" -S -c "$1" <&-', sys.executable, program],
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout


def test_started_with_stdin_closed_is_the_end_of_input() -> None:
    """Descriptor 0 is then free, or something of our own: here the selector itself."""
    program = (
        "import os\n"
        "from evloop.system.loop import Loop\n"
        "from evloop.system.stdin import Input, LineReader\n"
        "loop = Loop()\n"
        "Input(loop, 0, lambda data: (print(data), loop.stop()))\n"
        "loop.run()\n"
    )
    assert run_with_stdin_closed(program) == "b''\n"


def test_missing_standard_descriptors_are_filled() -> None:
    program = (
        "import os, socket\n"
        "from evloop.system.process import fill_standard\n"
        "fill_standard()\n"
        "print(os.readlink('/proc/self/fd/0'), socket.socket().fileno())\n"
    )
    assert run_with_stdin_closed(program) == "/dev/null 3\n"


def test_a_terminal_goes_on_after_ctrl_d_and_ends_when_it_is_gone(
    loop: Loop, tick: Callable[[], None]
) -> None:
    got: list[bytes] = []
    master, slave = pty.openpty()
    settings = termios.tcgetattr(slave)
    settings[3] &= ~termios.ECHO
    termios.tcsetattr(slave, termios.TCSANOW, settings)
    flags = fcntl.fcntl(slave, fcntl.F_GETFL)
    Input(loop, slave, got.append)
    for typed in (b"hello\n", b"\x04", b"again\n"):
        os.write(master, typed)
        loop.tick()  # sleeps: the line discipline works in its own time
    assert got == [b"hello\n", b"", b"again\n"]
    # The flag belongs to the shell as well.
    assert fcntl.fcntl(slave, fcntl.F_GETFL) == flags
    os.close(master)
    loop.tick()
    for _ in range(3):
        tick()
    assert got == [b"hello\n", b"", b"again\n", b""]
    os.close(slave)


def test_in_the_background_what_is_typed_is_left_to_the_shell() -> None:
    clock = [0.0]
    loop = Loop(clock=lambda: clock[0])
    got: list[bytes] = []
    ours = [False]
    master, slave = pty.openpty()
    source = Input(loop, slave, got.append, lambda fd: ours[0])
    os.write(master, b"ls\n")
    loop.tick()
    assert got == []
    ours[0] = True
    clock[0] += FOREGROUND_POLL_S
    for _ in range(2):
        loop.call_at(clock[0], lambda: None)
        loop.tick()
    assert got == [b"ls\n"]
    source.close()
    loop.close()
    os.close(master)
    os.close(slave)


def test_a_byte_order_mark_before_the_first_line_is_no_text() -> None:
    mark = "\ufeff".encode()
    reader = LineReader()
    assert reader.feed(mark + b"connect\n" + mark + b"x\n") == [
        ("line", "connect"),
        ("line", "\ufeffx"),
    ]
    cut = LineReader()
    assert [got for byte in mark + b"a\n" for got in cut.feed(bytes([byte]))] == [("line", "a")]
    only = LineReader()
    assert only.feed(mark) + only.finish() == [("line", "")]
