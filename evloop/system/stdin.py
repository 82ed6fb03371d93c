"""Standard input on the loop, whatever it is: terminal, pipe, socket, file, /dev/null.

    state     ready or deferred              b"" read or error          want_read     close
    watched   os.read, on_data               -> ended (tty: stays)      watched       -> ended
    file      os.read, on_data, defer again  -> ended                   file, paused  -> ended
    paused    -                              -                          file          -> ended
    ended     -                              -                          nothing       nothing

`file` is what epoll refuses (regular files, /dev/null, /dev/zero): it never blocks, so it is read
a piece per tick, between the events of other descriptors. In the background of a shell (`ours`
returns False) nothing is read: what is typed then is for the shell, and reading it would stop this
process (SIGTTIN).

O_NONBLOCK is never set: the flag belongs to the open file, which the shell that started this
process uses too.

`LineReader` cuts the bytes into lines.
"""

from __future__ import annotations

import os

from evloop.system.limits import (
    FOREGROUND_POLL_S,
    LINE_BYTES_MAX,
    READ_BYTES_PER_WAKE,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from evloop.system.loop import Loop, Watch

    class Owner(Protocol):
        def line(self, text: str) -> None: ...
        def passes(self, text: str) -> bool: ...
        def suspending(self) -> str: ...
        def bad_line(self, why: str) -> None: ...
        def leave(self) -> None: ...
        def interrupt(self) -> None: ...
        def eof(self) -> None: ...


BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # what editors on Windows put before the first line of a file


class Input:
    """Reads `fd` until its end. It is not closed here, but by the caller that opened it.

    `on_data(data)` gets at most `READ_BYTES_PER_WAKE` bytes; b"" is the end, told once. On a
    terminal b"" is Ctrl-D: reading goes on, and the owner may close. `ours(fd)` says whether we
    may read just now.
    """

    __slots__ = ("_deferred", "_fd", "_loop", "_on_data", "_ours", "_want", "_watch")

    def __init__(
        self,
        loop: Loop,
        fd: int,
        on_data: Callable[[bytes], object],
        ours: Callable[[int], bool] | None = None,
    ) -> None:
        self._loop = loop
        self._fd = fd
        self._on_data = on_data
        self._ours = ours if os.isatty(fd) else None
        self._want = True
        self._deferred = False
        self._watch: Watch | None = None
        try:
            self._watch = loop.watch(fd, self._read)
        except OSError:
            # EPERM: the kernel cannot wait for it. EBADF or EINVAL: it was closed at the start;
            # the first read then tells the end.
            self._defer()

    def want_read(self, want: bool) -> None:
        """Go on reading, or hold it back (back-pressure)."""
        if self._fd < 0:
            return
        self._want = want
        if self._watch is not None:
            self._watch.want_read(want)
        elif want:
            self._defer()

    def close(self) -> None:
        """Read no more; a second call does nothing."""
        if self._fd < 0:
            return
        self._fd = -1
        self._want = False
        if self._watch is not None:
            self._watch.close()

    def _defer(self) -> None:
        if not self._deferred:
            self._deferred = True
            self._loop.defer(self._read_piece)

    def _read_piece(self) -> None:
        self._deferred = False
        if self._want:
            self._read()
        if self._want:
            self._defer()

    def _look_again(self) -> None:
        if self._watch is not None and self._fd >= 0:
            self._watch.want_read(self._want)

    def _read(self) -> None:
        if self._ours is not None and self._watch is not None and not self._ours(self._fd):
            self._watch.want_read(False)
            self._loop.call_at(self._loop.now + FOREGROUND_POLL_S, self._look_again)
            return
        try:
            data = os.read(self._fd, READ_BYTES_PER_WAKE)
        except BlockingIOError:  # somebody else who shares it took it, and set O_NONBLOCK
            return
        except OSError:  # EIO: the terminal is gone. EBADF, EINVAL: it never was there
            data = b""
            self.close()
        if not data and not (self._fd >= 0 and os.isatty(self._fd)):
            self.close()
        self._on_data(data)


class LineReader:
    """Cuts bytes into lines of text, each at most LINE_BYTES_MAX bytes.

    `feed` returns (kind, text) pairs: "line" and its text, "bad" and why it is none, "escape".
    A byte order mark before the first line is left out.
    """

    __slots__ = ("_escape", "_skipping", "number", "partial")

    def __init__(self, escape: bytes = b"") -> None:
        self._escape = escape  # b"": nothing but a line end ends a line
        self.partial = b""
        self._skipping = False
        self.number = 0

    def feed(self, data: bytes) -> list[tuple[str, str]]:
        out: list[tuple[str, str]] = []
        if self._escape and self._escape in data:
            # The part of the line before it is dropped, as with every escape.
            before, _, data = data.rpartition(self._escape)
            whole, newline, _ = before.rpartition(b"\n")
            out = self.feed(whole + newline) if newline else []
            self.drop()
            out.append(("escape", ""))
        *lines, rest = data.split(b"\n")
        for line in lines:
            line, self.partial = self.partial + line, b""
            self.number += 1
            if self._skipping:
                self._skipping = False
            else:
                out.append(self._judge(line, self.number))
        if not self._skipping:
            self.partial += rest
            if len(self.partial) > LINE_BYTES_MAX:
                out.append(self._judge(self.partial, self.number + 1))
                self.partial, self._skipping = b"", True
        return out

    def drop(self) -> None:
        """Forget the beginning of a line that was handed over without its end."""
        self.partial, self._skipping = b"", False

    def finish(self) -> list[tuple[str, str]]:
        """The end of input: a last line needs no line end."""
        return self.feed(b"\n") if self.partial else []

    @staticmethod
    def _judge(line: bytes, number: int) -> tuple[str, str]:
        if len(line) > LINE_BYTES_MAX:
            return "bad", f"line {number} is longer than {LINE_BYTES_MAX} bytes"
        if number == 1:
            line = line.removeprefix(BYTE_ORDER_MARK)
        try:
            return "line", line.removesuffix(b"\r").decode()
        except UnicodeDecodeError as error:
            byte = line[error.start]
            return "bad", f"line {number} is not UTF-8: byte {byte:02x} at {error.start + 1}"
