"""The reactor: descriptors, timers and signals on one selector, in one thread. Floor 4.

A tick, in this order; nothing in it is ever re-entered:

    1. before_sleep hooks, in the order they were given
    2. select: not at all (something is deferred), until the next timer, or for ever
    3. `now` is read, once; every callback of the tick uses it
    4. descriptors that are ready: reading, then writing
    5. timers that were due at `now`
    6. deferred functions, as many as there were when this step began

A descriptor's life, seen by its Watch (`fd` is -1 once it is closed):

    state      want_read/want_write   ready                        close
    idle       -> watched             -                            -> closed
    watched    -> watched, idle       callback of a wanted side    -> closed
    closed     LocalProtocolError     -                            nothing

`idle` (nothing is wanted) is taken out of the selector: epoll reports errors and hang-ups even of
a descriptor that nobody asked about, and level-triggered that is a busy loop.

A timer's life (`when` is inf unless it is armed):

    state      move(finite)   move(inf)   time comes          cancel
    idle       -> armed       idle        -                   -> cancelled
    armed      armed          -> idle     -> idle, callback   -> cancelled
    cancelled  LocalProtocolError         -                   nothing
"""

import os
import selectors
import signal
import socket
import sys
import time
from collections import deque
from heapq import heapify, heappop, heappush, heapreplace

from evloop.errors import LocalProtocolError
from evloop.limits import (
    EVENTS_PER_TICK_MAX,
    SIGNALS_PER_WAKE_MAX,
    SLEEP_S_MAX,
    STALE_TIMERS_MIN,
)

TYPE_CHECKING = False  # the checkers know this name; importing `typing` costs start-up time
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    class HasFileno(Protocol):
        def fileno(self) -> int: ...
        def close(self) -> None: ...

    Callback = Callable[[], object]
    Poll = Callable[[float | None, int], list[tuple[int, int]]]

_READ = selectors.EVENT_READ
_WRITE = selectors.EVENT_WRITE
_INF = float("inf")

# EPOLLIN and EPOLLOUT, which poll(2) shares. Everything else (error, hang-up) counts as both, so
# that whoever is interested learns of it from its own read or write.
_POLLIN, _POLLOUT = 1, 4
_READABLE, _WRITABLE = ~_POLLOUT, ~_POLLIN
_POLL_BITS = {0: 0, _READ: _POLLIN, _WRITE: _POLLOUT, _READ | _WRITE: _POLLIN | _POLLOUT}


def _nothing() -> None:
    """The callback of what is closed."""


class Watch:
    """One descriptor on the loop; made by `Loop.watch`.

    `fileobj` and `fd` (-1 when closed) are for reading; `on_read` and `on_write` may be set to
    something else at any time.
    """

    __slots__ = ("_loop", "_mask", "fd", "fileobj", "on_read", "on_write")

    def __init__(
        self,
        loop: "Loop",
        fileobj: "HasFileno | int",
        on_read: "Callback",
        on_write: "Callback",
    ) -> None:
        self._loop = loop
        self._mask = 0
        self.fileobj = fileobj
        self.fd = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        self.on_read = on_read
        self.on_write = on_write

    def want_read(self, want: bool) -> None:
        """Call `on_read` while the descriptor is readable, or stop doing so."""
        mask = self._mask
        self._want(mask | _READ if want else mask & ~_READ)

    def want_write(self, want: bool) -> None:
        """Call `on_write` while the descriptor is writable, or stop doing so.

        Write first, and ask only when the kernel says EAGAIN (2.0x for one request at a time).
        """
        mask = self._mask
        self._want(mask | _WRITE if want else mask & ~_WRITE)

    def _want(self, mask: int) -> None:
        old = self._mask
        if mask == old:
            return
        if self.fd < 0:
            raise LocalProtocolError("a closed descriptor can not be watched")
        selector = self._loop._selector
        if not old:
            selector.register(self.fd, mask)
        elif mask:
            selector.modify(self.fd, mask)
        else:
            selector.unregister(self.fd)
        self._mask = mask

    def close(self) -> None:
        """Stop watching, then close `fileobj`; a second call does nothing.

        Nobody else may close it: the kernel hands the number out again at once. Descriptors 0, 1
        and 2 stay open: they are shared with the shell, and what is opened next would take their
        place.
        """
        fd, mask = self.fd, self._mask
        if fd < 0:
            return
        self._mask = 0
        self.fd = -1
        if mask:
            self._loop._selector.unregister(fd)
        del self._loop._watches[fd]
        # The callbacks mostly belong to an object that holds this one: cut the cycle.
        self.on_read = self.on_write = _nothing
        if fd <= 2:
            return
        if isinstance(self.fileobj, int):
            os.close(fd)
        else:
            self.fileobj.close()


class Timer:
    """A function to be called once `when` (seconds on the loop's clock) has come.

    Made by `Loop.call_at`. `when` is inf while it is not armed: before a `move`, and from just
    before its function is called. It can be moved again and again until it is cancelled.
    """

    __slots__ = ("_fn", "_loop", "_queued", "_seq", "when")

    def __init__(self, loop: "Loop", fn: "Callback") -> None:
        self._loop = loop
        self._fn: Callback | None = fn
        self._seq = 0  # of my entry in the heap; 0: I have none
        self._queued = _INF  # `when` of that entry: never later than my own
        self.when = _INF

    def move(self, when: float) -> None:
        """Arm for `when`, or, with inf, disarm."""
        if self._fn is None:
            raise LocalProtocolError("a cancelled timer can not be moved")
        if when != when:
            raise LocalProtocolError("a timer can not be moved to nan")
        self.when = when
        if self._seq:
            # Later than queued (the common case: a deadline that is pushed back and back) costs
            # nothing now: the entry is put right when it comes to the top.
            if self._queued <= when < _INF:
                return
            self._forget_entry()
        if when < _INF:
            self._loop._push(self, when)

    def cancel(self) -> None:
        """Never call, and let go of the function. A second call does nothing."""
        self._fn = None
        self.when = _INF
        if self._seq:
            self._forget_entry()

    def _forget_entry(self) -> None:
        self._seq = 0
        self._loop._count_stale()


class Loop:
    """The one loop of the process.

    `now`: when the tick's events came, on the loop's clock.
    `on_error(origin, error)`: an exception left a callback; origin is the Watch or Timer, or the
    deferred, hook or signal function itself. While it is None (the default) the exception leaves
    `tick`, which loses nothing: what was not yet called is called by the next tick.
    `on_busy(seconds)`: called before each select with the time since the last one ended.
    """

    __slots__ = (
        "_clock",
        "_close_poll",
        "_closed",
        "_deferred",
        "_due",
        "_fresh",
        "_heap",
        "_hooks",
        "_poll",
        "_selector",
        "_seq",
        "_signals",
        "_stale",
        "_stopping",
        "_ticking",
        "_watches",
        "now",
        "on_busy",
        "on_error",
    )

    def __init__(
        self,
        *,
        clock: "Callable[[], float]" = time.monotonic,
        selector: "selectors.BaseSelector | None" = None,
    ) -> None:
        self._clock = clock
        self._selector = selectors.DefaultSelector() if selector is None else selector
        self._poll, self._close_poll = _raw_poll(self._selector)
        self._watches: dict[int, Watch] = {}
        self._fresh: set[int] = set()  # descriptors first watched in the batch being dispatched
        self._heap: list[tuple[float, int, Timer]] = []
        self._seq = 0
        self._stale = 0  # entries of the heap that no timer owns any more
        self._due: deque[Timer] = deque()
        self._deferred: deque[Callback] = deque()
        self._hooks: list[Callback] = []
        self._signals: _Signals | None = None
        self._ticking = False
        self._stopping = False
        self._closed = False
        self.now = clock()
        self.on_error: Callable[[object, Exception], object] | None = None
        self.on_busy: Callable[[float], object] | None = None

    # -- what others ask for ---------------------------------------------------------------------

    def watch(
        self,
        fileobj: "HasFileno | int",
        on_read: "Callback | None",
        on_write: "Callback | None" = None,
    ) -> Watch:
        """Watch `fileobj` (a socket, a file, or a descriptor) for reading, if on_read is given.

        Writability is asked for by `Watch.want_write`. Raises PermissionError when the kernel can
        not wait for it (epoll and regular files, /dev/null): see `Input`.
        """
        watch = Watch(self, fileobj, on_read or _nothing, on_write or _nothing)
        if watch.fd in self._watches:
            raise LocalProtocolError(f"descriptor {watch.fd} is watched already")
        if on_read is not None:
            watch.want_read(True)
        self._watches[watch.fd] = watch
        self._fresh.add(watch.fd)
        return watch

    def call_at(self, when: float, fn: "Callback") -> Timer:
        """Call `fn` once `when` has come; inf makes a timer that waits to be moved."""
        timer = Timer(self, fn)
        timer.move(when)
        return timer

    def defer(self, fn: "Callback") -> None:
        """Call `fn` once, after this tick's events; from a deferred function: in the next tick."""
        self._deferred.append(fn)

    def before_sleep(self, fn: "Callback") -> None:
        """Call `fn` at the start of every tick, after the hooks given before it."""
        self._hooks.append(fn)

    def on_signal(self, signum: int, fn: "Callback") -> None:
        """Call `fn` from a tick, once for each time that the signal came."""
        if self._signals is None:
            self._signals = _Signals(self)
        self._signals.add(signum, fn)

    # -- the tick --------------------------------------------------------------------------------

    def run(self) -> None:
        """Tick until `stop`; the hooks have then run once more, so nothing promised is left."""
        while not self._stopping:
            self.tick()
        self._stopping = False
        self._run_hooks()

    def stop(self) -> None:
        """Let `run` return after this tick."""
        self._stopping = True

    def tick(self) -> None:
        """Wait for what comes next, and call who waits for it."""
        if self._ticking or self._closed:
            raise LocalProtocolError("a tick inside a tick" if self._ticking else "a closed loop")
        self._ticking = True
        try:
            if self._hooks:
                self._run_hooks()
            if self._deferred or self._due or self._stopping:
                timeout: float | None = 0
            else:
                timeout = self._sleep() if self._heap else None
            if self.on_busy is not None:
                self.on_busy(self._clock() - self.now)
            events = self._poll(timeout, EVENTS_PER_TICK_MAX)
            self.now = now = self._clock()
            if events:
                self._dispatch(events)
            if (self._heap and self._heap[0][0] <= now) or self._due:
                self._run_timers()
            if self._deferred:
                self._run_deferred()
        finally:
            self._ticking = False

    def close(self) -> None:
        """Close every watch, give the signals back. A second call does nothing."""
        if self._ticking:
            raise LocalProtocolError("a loop can not be closed by its own tick: stop it first")
        if self._closed:
            return
        self._closed = True
        if self._signals is not None:
            self._signals.restore()
        for watch in list(self._watches.values()):
            watch.close()
        self._heap.clear()
        self._due.clear()
        self._deferred.clear()
        self._hooks.clear()
        self._close_poll()
        self._selector.close()

    def _sleep(self) -> float | None:
        """Seconds until the next timer; None: there is none."""
        # A fresh reading: `now` is as old as the last tick's callbacks and the hooks took.
        left = self._next_deadline() - self._clock()
        if left <= 0:  # epoll would take it for "for ever"
            return 0
        if left > SLEEP_S_MAX:  # epoll raises beyond 2**31 ms
            return None if left == _INF else SLEEP_S_MAX
        return left

    def _dispatch(self, events: list[tuple[int, int]]) -> None:
        watch_of = self._watches.get
        fresh = self._fresh
        if fresh:
            fresh.clear()
        for fd, bits in events:
            watch = watch_of(fd)
            # A handler earlier in this batch may have closed this descriptor, and the kernel may
            # have given its number to another: what we hold of it is about the old one.
            if watch is None or (fresh and fd in fresh):
                continue
            try:
                if bits & _READABLE and watch._mask & _READ:
                    watch.on_read()
                if bits & _WRITABLE and watch._mask & _WRITE:
                    watch.on_write()
            except Exception as error:  # noqa: BLE001 - the owner of the loop decides
                self._failed(watch, error)

    def _run_timers(self) -> None:
        now, due, heap = self.now, self._due, self._heap
        # Taken out before the first is called: one that arms itself for `now` waits a tick.
        while self._next_deadline() <= now:
            timer = heappop(heap)[2]
            timer._seq = 0
            due.append(timer)
        while due:
            timer = due.popleft()
            fn = timer._fn
            # Moved or cancelled by one that ran before it in this pass.
            if timer._seq or timer.when > now or fn is None:
                continue
            timer.when = _INF
            try:
                fn()
            except Exception as error:  # noqa: BLE001 - the owner of the loop decides
                self._failed(timer, error)

    def _run_deferred(self) -> None:
        deferred = self._deferred
        for _ in range(len(deferred)):
            self._call(deferred.popleft())

    def _run_hooks(self) -> None:
        for hook in self._hooks:
            self._call(hook)

    def _call(self, fn: "Callback") -> None:
        try:
            fn()
        except Exception as error:  # noqa: BLE001 - the owner of the loop decides
            self._failed(fn, error)

    def _failed(self, origin: object, error: Exception) -> None:
        if self.on_error is None:
            raise error
        self.on_error(origin, error)

    # -- the heap of timers ----------------------------------------------------------------------

    def _push(self, timer: Timer, when: float) -> None:
        self._seq = timer._seq = seq = self._seq + 1
        timer._queued = when
        heappush(self._heap, (when, seq, timer))

    def _next_deadline(self) -> float:
        """When the next timer is due; inf: none is. Afterwards the top of the heap is true."""
        heap = self._heap
        while heap:
            when, seq, timer = heap[0]
            if timer._seq != seq:
                heappop(heap)
                self._stale -= 1
            elif timer.when != when:
                timer._queued = timer.when
                heapreplace(heap, (timer.when, seq, timer))
            else:
                return when
        return _INF

    def _count_stale(self) -> None:
        """One more entry without a timer; when they are the most of the heap, drop them all."""
        self._stale += 1
        heap = self._heap
        if self._stale > STALE_TIMERS_MIN and self._stale > len(heap) // 2:
            heap[:] = [entry for entry in heap if entry[2]._seq == entry[1]]
            heapify(heap)
            self._stale = 0


def _raw_poll(selector: selectors.BaseSelector) -> "tuple[Poll, Callback]":
    """How to ask `selector` for [(descriptor, poll bits)], and how to let go of that.

    The raw list of epoll is taken through a second descriptor of the same epoll: building a key
    and a tuple per event is a good part of a selectors loop's own cost.
    """
    if sys.platform == "linux" and isinstance(selector, selectors.EpollSelector):
        import select  # late: `selectors` has loaded it already

        epoll = select.epoll.fromfd(os.dup(selector.fileno()))
        return epoll.poll, epoll.close

    def poll(timeout: float | None, most: int) -> list[tuple[int, int]]:
        ready = selector.select(timeout)
        return [(key.fd, _POLL_BITS[bits]) for key, bits in ready[:most]]

    return poll, _nothing


class _Signals:
    """Signals as reads: the interpreter's handler writes each number into a socket pair.

    A function called from the signal handler itself could run between any two instructions.
    """

    __slots__ = (
        "_handlers",
        "_loop",
        "_previous",
        "_previous_fd",
        "_reader",
        "_watch",
        "_writer",
    )

    def __init__(self, loop: Loop) -> None:
        self._handlers: dict[int, Callback] = {}
        self._previous: dict[int, Any] = {}
        self._loop = loop
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self._watch = loop.watch(self._reader, self._read)
        self._previous_fd = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)

    def add(self, signum: int, fn: "Callback") -> None:
        self._handlers[signum] = fn
        previous = signal.signal(signum, _ignore_signal)
        self._previous.setdefault(signum, previous)

    def _read(self) -> None:
        for signum in self._reader.recv(SIGNALS_PER_WAKE_MAX):
            fn = self._handlers.get(signum)
            if fn is not None:  # Python handlers that are not ours write their numbers too
                self._loop._call(fn)

    def restore(self) -> None:
        signal.set_wakeup_fd(self._previous_fd)
        for signum, previous in self._previous.items():
            # None: it was set by something other than Python, and can not be put back from here
            signal.signal(signum, signal.SIG_DFL if previous is None else previous)
        self._watch.close()
        self._writer.close()


def _ignore_signal(signum: int, frame: object) -> None:
    """SIG_IGN would not write to the wake-up descriptor."""
