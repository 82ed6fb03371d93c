"""One computation that takes long, in a forked child: there are no threads, and the loop goes on.

    state      answer or end of pipe   time is up       cancel
    working    -> done, tells          -> done, tells   -> done
    done       -                       -                nothing

Whenever `working` is left, the child is killed and reaped. What it answers comes through a pipe.
"""

from __future__ import annotations

import os
import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from evloop.system.loop import Loop, Watch
    from evloop.system.timers import Timer

SILENT, LATE, LONG = "the child died", "it took too long", "its answer makes no sense"


def heed_children() -> None:
    """Be told how children end. Who has started us may have ignored SIGCHLD: then there would be
    none to wait for, and the number of one that has ended could be another's."""
    if signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


class Child:
    """`work()` runs in a child, `on_done(answer, why)` is called here once, from a later tick,
    unless cancelled: `answer` is what `work` returned, and `why` "" or why there is none.

    OSError: no descriptor, process or memory is to be had.
    """

    __slots__ = ("_answer", "_loop", "_most", "_on_done", "_pid", "_timer", "_watch")

    def __init__(
        self,
        loop: Loop,
        work: Callable[[], bytes],
        on_done: Callable[[bytes, str], object],
        *,
        seconds_max: float,
        answer_bytes_max: int,
    ) -> None:
        self._loop = loop
        self._on_done: Callable[[bytes, str], object] | None = on_done
        self._most = answer_bytes_max
        self._answer = b""
        self._pid = 0
        self._timer: Timer | None = None
        self._watch: Watch | None = None
        heed_children()
        reader, writer = os.pipe()
        # A signal between fork and the child's first lines would reach the child's copy of our
        # handlers, and through it our own wake-up socket.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            self._watch = loop.watch(reader, self._read, release=lambda: os.close(reader))
            self._pid = os.fork()
            if not self._pid:
                _run(writer, work, int(seconds_max) + 1)
        except OSError:
            self._end()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            os.close(writer)
        self._timer = loop.call_at(loop.now + seconds_max, lambda: self._tell(b"", LATE))

    def cancel(self) -> None:
        """Forget it: `on_done` will not be called. A second call does nothing."""
        self._on_done = None
        self._end()

    def _read(self) -> None:
        assert self._watch is not None
        data = os.read(self._watch.fd, self._most + 1)
        self._answer += data
        if len(self._answer) > self._most:
            self._tell(b"", LONG)
        elif not data:
            self._tell(self._answer, "" if self._answer else SILENT)

    def _tell(self, answer: bytes, why: str) -> None:
        self._end()
        on_done, self._on_done = self._on_done, None
        if on_done is not None:
            on_done(answer, why)

    def _end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._watch is not None:
            self._watch.close()
        pid, self._pid = self._pid, 0
        if pid:
            # The child's answer is read or no longer wanted. After SIGKILL the wait is only for the
            # kernel to end a process.
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _run(writer: int, work: Callable[[], bytes], seconds: int) -> NoReturn:
    """What the child does. It ends by _exit, so that no inherited buffer is flushed."""
    try:
        signal.set_wakeup_fd(-1)
        for signum in signal.valid_signals():
            if callable(signal.getsignal(signum)):
                signal.signal(signum, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        signal.alarm(seconds)  # the child ends even when the parent was killed
        # A connection that stayed open here would not end for its peer when the parent closes it.
        os.closerange(0, writer)
        os.closerange(writer + 1, os.sysconf("SC_OPEN_MAX"))
        os.write(writer, work())
    finally:
        os._exit(0)
