"""The one writer for standard output, standard error, the log and the terminal: it never blocks.

O_NONBLOCK is never set on descriptors 0 to 2: the flag belongs to the open file, which the shell
that started this process uses too. Each Writer has a descriptor of its own instead, and how much
one write may hold depends on what is behind it:

    behind the descriptor           ours is                            one write
    pipe, terminal                  opened again, with O_NONBLOCK      as much as it takes
    socket                          a duplicate, sent MSG_DONTWAIT     as much as it takes
    file, /dev/null                 a duplicate (it never waits)       as much as it takes
    pipe that cannot be opened      a duplicate, asked by poll(2)      PIPE_BUF bytes, as POSIX
      again                                                            promises
    terminal that cannot be         a duplicate, asked by poll(2)      one byte: a terminal that
      opened again                                                     polls writable takes no more

The states:

    state     write                              writable             reader gone
    direct    written; what is refused: -> queued    -                -> gone
    queued    appended (beyond the cap: counted)     written; -> direct   -> gone
    gone      nothing                                -                -

A full disk, or a standard output that was closed before we began, counts as a reader that is
gone, and `on_gone` gets the reason.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import stat
import sys

from evloop.system.limits import OUTLET_BYTES_MAX, WRITE_BYTES_PER_WAKE
from evloop.system.timers import nothing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from evloop.system.loop import Loop, Watch

# The reader of the pipe, the terminal, or all of it is gone.
_NOBODY_READS = (errno.EPIPE, errno.EIO, errno.ECONNRESET)
_FLAGS = os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
# On a blocking terminal POLLOUT promises room for one byte; a write of two "\n" (four bytes when
# each goes out as CR LF) blocked for good on a full pty.
_TERMINAL_BYTES = 1
TIOCGDEV = 0x80045432  # Linux: the device behind /dev/tty


def terminal_again(fd: int) -> int | None:
    """The terminal behind `fd` in an open file of our own; None when that is refused."""
    try:
        return os.open(os.ttyname(fd), os.O_RDWR | _FLAGS)
    except OSError:
        pass  # another user's (su), or not in this container's /dev
    try:
        own = os.open("/dev/tty", os.O_RDWR | _FLAGS)
    except OSError:
        return None
    if _device_of(own) != os.fstat(fd).st_rdev:
        os.close(own)  # our controlling terminal is another one
        return None
    return own


def _device_of(fd: int) -> int | None:
    from fcntl import ioctl  # late: the second choice is hardly ever needed

    try:
        answer = ioctl(fd, TIOCGDEV, bytes(4))
    except OSError:
        return None
    return int.from_bytes(answer, sys.byteorder)


def pipe_again(fd: int) -> int | None:
    """The pipe behind `fd` in an open file of our own; None where the system has no way."""
    try:
        own = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | _FLAGS)
    except OSError:  # no /proc, another user's pipe, or nobody reads it
        return None
    if os.path.sameopenfile(own, fd):
        return own
    os.close(own)
    return None


class Writer:
    """Writes to what is behind `fd`, and holds what is refused, at most `most` bytes.

    What does not fit is counted in lines, and `lost`, a text with %d in it, is written where the
    gap is. With a loop the rest is written by itself; without one, the owner calls `flush`.
    `on_gone(why)` is called once when no more can be written; `why` is "" when the reader has
    ended (`| head -1`), which is no failure.
    """

    __slots__ = (
        "_budget", "_fd", "_loop", "_lost", "_lost_text", "_most", "_on_gone", "_piece", "_poll",
        "_queue", "_socket", "_watch", "gone", "own", "refused",
    )  # fmt: skip

    def __init__(
        self,
        fd: int,
        loop: Loop | None = None,
        on_gone: Callable[[str], object] = nothing,
        *,
        most: int = OUTLET_BYTES_MAX,
        lost: str = "-- %d lines not shown (the reader was too slow) --",
    ) -> None:
        self._loop = loop
        self._on_gone = on_gone
        self._most = most
        self._lost_text = lost
        self._queue = bytearray()
        self._lost = 0
        self._watch: Watch | None = None
        self.gone = False
        self.refused = False  # the reader had no room at least once
        self.own = False  # ours is an open file of its own, with O_NONBLOCK
        self._socket: socket.socket | None = None
        self._poll: select.poll | None = None
        self._budget = WRITE_BYTES_PER_WAKE  # of one flush
        self._piece = WRITE_BYTES_PER_WAKE  # of one write
        self._fd = self._open(fd)

    def _open(self, fd: int) -> int:
        """A descriptor of our own for what is behind `fd`, and how it is written to."""
        mode = os.fstat(fd).st_mode
        terminal = os.isatty(fd)
        again: int | None = None
        if terminal:
            again = terminal_again(fd)
        elif stat.S_ISFIFO(mode):
            again = pipe_again(fd)
        if again is not None:
            self.own = True
            return again
        mine = os.dup(fd)
        if stat.S_ISSOCK(mode):
            self._socket = socket.socket(fileno=mine)
        elif terminal or stat.S_ISFIFO(mode):
            self._piece = _TERMINAL_BYTES if terminal else select.PIPE_BUF
            self._poll = select.poll()
            self._poll.register(mine, select.POLLOUT)
        else:
            self._budget = max(self._budget, self._most)  # it never waits, and cannot be watched
        return mine

    def fileno(self) -> int:
        """Our own descriptor."""
        return self._fd

    @property
    def queued(self) -> int:
        """Bytes not yet written."""
        return len(self._queue)

    def line(self, text: str) -> None:
        """Write `text` and a line end."""
        self.write(text + "\n")

    def write(self, text: str) -> None:
        """Write `text` as UTF-8, now or as soon as the reader has room."""
        self.send(text.encode(errors="replace"))

    def send(self, data: bytes) -> None:
        """Write bytes, now or as soon as the reader has room."""
        if self.gone:
            return
        waiting = bool(self._queue)  # then the loop, or the owner, calls flush
        if self._lost:
            note = (self._lost_text % self._lost + "\n").encode()
            if len(self._queue) + len(note) + len(data) <= self._most:
                self._lost = 0
                self._queue += note
        if self._lost or len(self._queue) + len(data) > self._most:
            self._lost += 1
        else:
            self._queue += data
        if not waiting or self._loop is None:
            self.flush()

    def flush(self) -> bool:
        """Write what can be written now, the rest later by the loop; True when nothing is left."""
        left = self._budget
        while self._queue and not self.gone:
            sent = self._write(self._queue[: min(self._piece, left)])
            if sent == 0:
                self.refused = True
            del self._queue[:sent]
            left -= sent
            if (sent == 0 or left <= 0) and self._queue:
                self._want(True)
                return False
        if self._lost and not self.gone:
            lost, self._lost = self._lost, 0
            self._queue += (self._lost_text % lost + "\n").encode()
            return self.flush()
        self._want(False)
        return True

    def forget(self) -> None:
        """Drop what is still to be written."""
        self._queue.clear()
        self._want(False)

    def drain(self, seconds: float) -> None:
        """At the very end, when the loop is over: wait for the reader for at most `seconds`."""
        self._unwatch()
        self._loop = None
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        pieces = max(1, int(seconds / 0.05))
        while self._queue and not self.gone and pieces:
            before = len(self._queue)
            poll.poll(50)
            self.flush()
            if len(self._queue) == before:
                pieces -= 1

    def close(self) -> None:
        """Stop writing and close our own descriptor; a second call does nothing."""
        if self._fd < 0:
            return
        self._quit()
        fd, self._fd = self._fd, -1
        if self._socket is not None:
            self._socket.close()
        else:
            os.close(fd)

    def _write(self, data: bytes | bytearray) -> int:
        """Write what can be written of `data`: how many bytes; 0 when the reader has no room."""
        try:
            if self._poll is not None and not self._poll.poll(0):
                return 0
            if self._socket is not None:
                return self._socket.send(data, socket.MSG_DONTWAIT)
            return os.write(self._fd, data)
        except BlockingIOError:
            return 0
        except OSError as error:
            self._quit()
            self._on_gone("" if error.errno in _NOBODY_READS else str(error.strerror))
            return 0

    def _want(self, want: bool) -> None:
        """Have the loop call `flush` when there is room, or stop that."""
        if self._watch is None:
            if not want or self._loop is None:
                return
            self._watch = self._loop.watch(self._fd, None, self.flush)
        self._watch.want_write(want)

    def _quit(self) -> None:
        self.gone = True
        self._queue.clear()
        self._lost = 0
        self._unwatch()

    def _unwatch(self) -> None:
        if self._watch is not None:
            self._watch.close()
            self._watch = None
