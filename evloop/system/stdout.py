"""Standard output or error on the loop: never blocks it, loses nothing quietly.

O_NONBLOCK is never set on descriptors 0 to 2: the flag belongs to the open file, which the shell
that started us holds too. Instead poll(2) says whether a write can go, and at most PIPE_BUF bytes
go at once: of a pipe that is writable POSIX promises that these do not block.

    state     write                              writable            reader gone
    direct    poll, os.write; rest -> queued     -                   -> gone
    queued    append (beyond the cap: counted)   os.write; -> direct -> gone
    gone      nothing                            -                   -

A full disk counts as a reader that is gone, but that is no quiet end: `on_gone` is told why.

A regular file is always `direct`: it cannot be watched, and does not block either.
"""

from __future__ import annotations

import errno
import os
import select

from evloop.system.limits import LOG_LINE_BYTES_MAX, OUTLET_BYTES_MAX

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from evloop.system.loop import Loop, Watch

_PIECE = select.PIPE_BUF
# The reader of the pipe, the terminal, or all of it is gone.
_NOBODY_READS = (errno.EPIPE, errno.EIO, errno.EBADF, errno.ECONNRESET)


class Outlet:
    """Writes text to `fd`; `on_gone(why)` is called once when no more can be written.

    `why` is "" when nobody reads it any more (`| head -1`): that is an end as good as any.
    """

    __slots__ = ("_fd", "_loop", "_lost", "_on_gone", "_poll", "_queue", "_watch", "gone")

    def __init__(self, loop: Loop, fd: int, on_gone: Callable[[str], object]) -> None:
        self._loop = loop
        self._fd = fd
        self._on_gone = on_gone
        self._queue = bytearray()
        self._lost = 0
        self._watch: Watch | None = None
        self.gone = False
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)

    @property
    def queued(self) -> int:
        """Bytes not yet written."""
        return len(self._queue)

    def line(self, text: str) -> None:
        """Write `text` and a line end."""
        self.write(text + "\n")

    def write(self, text: str) -> None:
        """Write `text` as UTF-8, now or as soon as the reader has room."""
        data = text.encode(errors="replace")
        if self.gone:
            return
        if len(self._queue) + len(data) > OUTLET_BYTES_MAX:
            self._lost += 1
            return
        waiting = bool(self._queue)  # then the loop, or a timer, calls flush
        self._queue += data
        if not waiting:
            self.flush()

    def flush(self) -> None:
        """Write what can go now; ask the loop for the rest."""
        while self._queue and not self.gone:
            ready = self._poll.poll(0)
            if not ready:
                self._wait()
                return
            try:
                sent = os.write(self._fd, self._queue[:_PIECE])
            except BlockingIOError:  # somebody else who shares it has set O_NONBLOCK
                self._wait()
                return
            except OSError as error:
                self._end("" if error.errno in _NOBODY_READS else str(error.strerror))
                return
            del self._queue[:sent]
        if self._lost and not self.gone:
            lost, self._lost = self._lost, 0
            self.write(f"-- {lost} lines not shown (the reader was too slow) --\n")
        elif self._watch is not None:
            self._watch.want_write(False)

    def drain(self, seconds: float) -> None:
        """At the very end, when the loop is over: wait for the reader for at most `seconds`."""
        pieces = max(1, int(seconds / 0.05))
        while self._queue and not self.gone and pieces:
            if not self._poll.poll(50):
                pieces -= 1
            before = len(self._queue)
            self.flush()
            if len(self._queue) == before and not self.gone:
                pieces -= 1

    def _wait(self) -> None:
        if self._watch is None:
            try:
                self._watch = self._loop.watch(self._fd, None, self.flush)
            except OSError:
                # stdin and stdout may be one descriptor's copies, or it cannot be waited for:
                # then a timer tries again, which is slow but sure.
                self._loop.call_at(self._loop.now + 0.05, self.flush)
                return
        self._watch.want_write(True)

    def _end(self, why: str) -> None:
        self.gone = True
        self._queue.clear()
        if self._watch is not None:
            self._watch.close()
            self._watch = None
        self._on_gone(why)


class LineWriter:
    """Writes whole lines to a descriptor and never waits for it.

    The descriptor is shared with other processes, so O_NONBLOCK is not set on it; poll is asked
    first, and a pipe that polls writable takes PIPE_BUF bytes. A reader that has stopped costs
    lines, which are counted and told when it goes on, but does not stop the loop.
    """

    __slots__ = ("_descriptor", "_poll", "lost")

    def __init__(self, descriptor: int = 2) -> None:
        self._descriptor = descriptor
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)
        self.lost = 0

    def __call__(self, line: str) -> None:
        data = line.encode("utf-8", "replace")
        if len(data) > LOG_LINE_BYTES_MAX:
            data = data[:LOG_LINE_BYTES_MAX].decode("utf-8", "ignore").encode() + "…".encode()
        if self.lost and self._send(b"... %d lines could not be written\n" % self.lost):
            self.lost = 0
        if not self._send(data + b"\n"):
            self.lost += 1

    def _send(self, data: bytes) -> bool:
        try:
            events = self._poll.poll(0)
            if not events or not events[0][1] & select.POLLOUT:
                return False
            return os.write(self._descriptor, data) == len(data)
        except OSError:  # closed, or the disk behind it is full: there is nobody to tell
            return False
