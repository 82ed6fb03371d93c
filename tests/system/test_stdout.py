"""The one writer of stdout, stderr, log and terminal: it never blocks, and says what is lost."""

from __future__ import annotations

import errno
import os
import pty
import socket
from collections.abc import Callable, Iterator

import pytest

from evloop.system import stdout
from evloop.system.limits import LOG_LINE_BYTES_MAX, LOG_QUEUE_BYTES_MAX, OUTLET_BYTES_MAX
from evloop.system.log import log_writer, stderr_log
from evloop.system.loop import Loop
from evloop.system.stdout import Writer

SENTENCE = "lines not shown (the reader was too slow) --"


class Pipe:
    def __init__(self) -> None:
        self.loop = Loop()
        self.reader, self.writer = os.pipe()
        os.set_blocking(self.reader, False)
        self.gone: list[str] = []
        self.outlet = Writer(self.writer, self.loop, self._gone)

    def _gone(self, why: str) -> None:
        self.gone.append(why)

    def read(self) -> bytes:
        try:
            return os.read(self.reader, 1 << 20)
        except BlockingIOError:
            return b""

    def tick(self) -> None:
        self.loop.defer(lambda: None)
        self.loop.tick()


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.outlet.close()
    pipe.loop.close()
    os.close(pipe.reader)
    os.close(pipe.writer)


def test_what_fits_is_written_at_once(pipe: Pipe) -> None:
    pipe.outlet.line("Grüße")
    assert pipe.read() == "Grüße\n".encode() and pipe.outlet.queued == 0


def test_a_slow_reader_gets_everything_and_blocks_nobody(pipe: Pipe) -> None:
    lines = [f"line {number:06} " + "x" * 90 for number in range(3_000)]
    for line in lines:
        pipe.outlet.line(line)
    assert pipe.outlet.queued > 0
    got = b""
    while pipe.outlet.queued or len(got) < 3_000:
        got += pipe.read()
        pipe.tick()
    got += pipe.read()
    assert got.decode().splitlines() == lines
    assert os.get_blocking(pipe.writer), "O_NONBLOCK would leak into the shell"


def test_who_reads_nothing_is_told_how_much_is_missing(pipe: Pipe) -> None:
    line = "x" * 9_999
    for _ in range(OUTLET_BYTES_MAX // 10_000 + 50):
        pipe.outlet.line(line)
    assert pipe.outlet.queued <= OUTLET_BYTES_MAX
    got = b""
    while pipe.outlet.queued:
        got += pipe.read()
        pipe.tick()
    got += pipe.read()
    assert got.decode().splitlines()[-1].endswith("lines not shown (the reader was too slow) --")


def test_a_reader_that_goes_is_told_once(pipe: Pipe) -> None:
    os.close(pipe.reader)
    pipe.outlet.line("a")
    pipe.outlet.line("b")
    assert pipe.gone == [""] and pipe.outlet.gone and pipe.outlet.queued == 0
    pipe.reader, _ = os.pipe()
    os.close(_)


def test_a_full_disk_is_no_quiet_end() -> None:
    loop = Loop()
    told: list[str] = []
    fd = os.open("/dev/full", os.O_WRONLY)
    writer = Writer(fd, loop, told.append)
    writer.line("lost")
    writer.close()
    os.close(fd)
    loop.close()
    assert told == [os.strerror(errno.ENOSPC)]


def test_a_regular_file_is_written_directly(tmp_path: os.PathLike[str]) -> None:
    path = os.path.join(tmp_path, "out")
    loop = Loop()
    fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    outlet = Writer(fd, loop)
    for number in range(5_000):
        outlet.line(str(number))
    assert outlet.queued == 0
    outlet.close()
    os.close(fd)
    loop.close()
    with open(path) as file:
        assert file.read().split() == [str(number) for number in range(5_000)]


# -- whatever stands behind the descriptor -------------------------------------------------------


def a_pipe() -> tuple[int, int]:
    return os.pipe()


def a_terminal() -> tuple[int, int]:
    return pty.openpty()


def a_socket() -> tuple[int, int]:
    reader, writer = socket.socketpair()
    return reader.detach(), writer.detach()


@pytest.mark.parametrize("again", [True, False], ids=["opened-again", "shared"])
@pytest.mark.parametrize("make", [a_pipe, a_terminal, a_socket])
def test_nobody_reads_and_the_loop_goes_on(
    make: Callable[[], tuple[int, int]], again: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than fits is written; then it is read, and all of it comes, in order."""
    if not again:
        monkeypatch.setattr(stdout, "terminal_again", lambda fd: None)
        monkeypatch.setattr(stdout, "pipe_again", lambda fd: None)
    reader, fd = make()
    loop = Loop()
    writer = Writer(fd, loop)
    data = "".join(f"{number:07}\n" for number in range(50_000))
    writer.write(data)  # a writer that blocked would stay here for good
    assert writer.queued
    assert writer.refused or again
    assert os.get_blocking(fd), "O_NONBLOCK would leak into the shell"
    ticks: list[int] = []
    loop.call_at(loop.now, lambda: ticks.append(1))
    while not ticks:
        loop.tick()
    os.set_blocking(reader, False)
    got = b""
    expected = data.replace("\n", "\r\n" if make is a_terminal else "\n").encode()
    while len(got) < len(expected):
        try:
            got += os.read(reader, 1 << 20)
        except BlockingIOError:
            loop.tick()
    assert got == expected
    assert not writer.queued
    writer.close()
    loop.close()
    os.close(reader)
    os.close(fd)


def test_two_writers_of_one_terminal_and_its_reader_share_a_loop() -> None:
    """stdin, stdout and stderr are copies of one terminal; each is watched by itself."""
    master, slave = pty.openpty()
    loop = Loop()
    keyboard = loop.watch(slave, lambda: None)
    writers = [Writer(slave, loop), Writer(slave, loop)]
    for writer in writers:
        writer.write("x" * 100_000)
    assert all(writer.queued for writer in writers)
    got = 0
    while got < 200_000:
        got += len(os.read(master, 1 << 20))
        loop.defer(lambda: None)
        loop.tick()
    assert got == 200_000
    keyboard.close()
    for writer in writers:
        writer.close()
    loop.close()
    os.close(master)
    os.close(slave)


def test_the_gap_is_told_where_it_is() -> None:
    reader, fd = os.pipe()
    loop = Loop()
    writer = Writer(fd, loop, most=1_000)
    while writer.queued < 1_000:
        writer.write("x" * 1_000)
    writer.line("lost")
    writer.line("lost as well")
    got = b""
    while writer.queued:
        got += os.read(reader, 1 << 20)
        writer.flush()
    writer.line("after")
    got += os.read(reader, 1 << 20)
    assert got.decode().lstrip("x") == f"-- 2 {SENTENCE}\nafter\n"
    writer.close()
    loop.close()
    os.close(reader)
    os.close(fd)


def test_a_log_that_nobody_reads_holds_some_and_counts_the_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reader, fd = os.pipe()
    loop = Loop()
    kept = os.dup(2)
    os.dup2(fd, 2)
    try:
        writer = log_writer(loop)
    finally:
        os.dup2(kept, 2)
        os.close(kept)
    log = stderr_log(writer)
    lines = (LOG_QUEUE_BYTES_MAX + 65_536) // LOG_LINE_BYTES_MAX + 20
    for number in range(lines):
        log.write(f"{number} " + "x" * 2 * LOG_LINE_BYTES_MAX)
    assert writer.queued <= LOG_QUEUE_BYTES_MAX
    os.set_blocking(reader, False)
    got = b""
    while writer.queued:
        got += os.read(reader, 1 << 20)
        loop.tick()
    got += os.read(reader, 1 << 20)
    *whole, last = got.decode().splitlines()
    assert [int(line.split()[0]) for line in whole] == list(range(len(whole)))
    assert last == f"... {lines - len(whole)} lines could not be written"
    assert all(line.endswith("…") for line in whole)
    assert all(len(line.encode()) <= LOG_LINE_BYTES_MAX + 3 for line in whole)
    writer.close()
    loop.close()
    os.close(reader)
    os.close(fd)
