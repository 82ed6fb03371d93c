"""Lines out of bytes, and output that never blocks: without a terminal."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evloop.system.limits import LINE_BYTES_MAX, OUTLET_BYTES_MAX
from evloop.system.loop import Loop
from evloop.system.stdin import LineReader
from evloop.system.stdout import Outlet

ESCAPE = b"\x1d"


def texts(pairs: list[tuple[str, str]]) -> list[str]:
    return [text for kind, text in pairs if kind == "line"]


@given(
    st.lists(st.text(alphabet=st.characters(exclude_characters="\n\r", codec="utf-8"))), st.data()
)
def test_any_cut_gives_the_same_lines(lines: list[str], data: st.DataObject) -> None:
    stream = "".join(line + "\n" for line in lines).encode()
    reader = LineReader()
    got: list[str] = []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        got += texts(reader.feed(stream[:size]))
        stream = stream[size:]
    assert got + texts(reader.finish()) == lines


@given(st.lists(st.binary(max_size=30)))
def test_any_bytes_are_lines_or_refused(pieces: list[bytes]) -> None:
    reader = LineReader(ESCAPE)
    for piece in pieces:
        for kind, text in reader.feed(piece):
            assert kind in ("line", "bad", "escape") and "\n" not in text
    reader.finish()


def test_a_last_line_needs_no_end() -> None:
    reader = LineReader()
    assert reader.feed(b"one\r\ntwo") == [("line", "one")]
    assert reader.finish() == [("line", "two")]
    assert reader.finish() == []


def test_what_is_not_utf8_says_where() -> None:
    assert LineReader().feed(b"ok\nab\xffc\n")[1] == (
        "bad",
        "line 2 is not UTF-8: byte ff at 3",
    )


def test_a_line_without_end_is_refused_and_not_held() -> None:
    reader = LineReader()
    got = []
    for _ in range(40):
        got += reader.feed(b"x" * 10_000)
        assert len(reader._partial) <= LINE_BYTES_MAX
    assert got == [("bad", f"line 1 is longer than {LINE_BYTES_MAX} bytes")]
    assert reader.feed(b"rest\nnext\n") == [("line", "next")]


def test_the_escape_key_acts_from_anywhere_in_a_line() -> None:
    reader = LineReader(ESCAPE)
    assert reader.feed(b"half a li" + ESCAPE) == [("escape", "")]
    assert reader.feed(b"one\nhalf" + ESCAPE + b"two\n") == [
        ("line", "one"),
        ("escape", ""),
        ("line", "two"),
    ]


def test_without_an_escape_key_its_byte_is_text() -> None:
    assert LineReader().feed(b"a\x1db\n") == [("line", "a\x1db")]


class Pipe:
    def __init__(self) -> None:
        self.loop = Loop()
        self.reader, self.writer = os.pipe()
        os.set_blocking(self.reader, False)
        self.gone: list[str] = []
        self.outlet = Outlet(self.loop, self.writer, self._gone)

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
    pipe.loop.close()
    for fd in (pipe.reader, pipe.writer):
        try:
            os.close(fd)
        except OSError:  # the loop was its closer
            continue


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
    Outlet(loop, fd, told.append).line("lost")
    os.close(fd)
    loop.close()
    assert told == [os.strerror(errno.ENOSPC)]


def test_a_regular_file_is_written_directly(tmp_path: os.PathLike[str]) -> None:
    path = os.path.join(tmp_path, "out")
    loop = Loop()
    fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    outlet = Outlet(loop, fd, lambda why: None)
    for number in range(5_000):
        outlet.line(str(number))
    assert outlet.queued == 0
    os.close(fd)
    loop.close()
    with open(path) as file:
        assert file.read().split() == [str(number) for number in range(5_000)]
