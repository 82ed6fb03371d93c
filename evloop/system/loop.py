"""The reactor: descriptors, timers and signals on one selector, in one thread.

A tick, in this order; nothing in it is ever re-entered:

    1. before_sleep hooks, in the order they were given
    2. select: not at all (something is deferred), until the next timer, or for ever
    3. `now` is read, once; every callback of the tick uses it
    4. descriptors that are ready: reading, then writing
    5. timers that were due at `now`
    6. deferred functions, as many as there were when this step began

A descriptor's life, seen by its Watched (`fd` is -1 once it is closed):

    state      want_read/want_write   ready                        close
    idle       -> watched             -                            -> closed
    watched    -> watched, idle       callback of a wanted side    -> closed
    closed     LocalProtocolError     -                            nothing

`idle` (nothing is wanted) is taken out of the selector: epoll reports errors and hang-ups even of
a descriptor that nobody asked about, and level-triggered that is a busy loop.

A timer's life is told in `timers`.
"""

from __future__ import annotations

import errno
import os
import selectors
import signal
import socket
import time
from collections import deque

from evloop.base.errors import LocalProtocolError
from evloop.system.limits import (
    EVENTS_PER_TICK_MAX,
    SIGNALS_PER_WAKE_MAX,
    SLEEP_S_MAX,
)
from evloop.system.timers import NEVER, Timer, Timers, nothing

TYPE_CHECKING = False  # the checkers know this name; importing `typing` costs start-up time
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    class HasFileno(Protocol):
        def fileno(self) -> int: ...

    class Poller(Protocol):
        def register(self, fd: int, bits: int, /) -> object: ...
        def modify(self, fd: int, bits: int, /) -> object: ...
        def unregister(self, fd: int, /) -> object: ...
        def poll(self, timeout: float | None, most: int, /) -> list[tuple[int, int]]: ...
        def close(self) -> None: ...

    Callback = Callable[[], object]


# EPOLLIN and EPOLLOUT, which poll(2) shares. Everything else (error, hang-up) counts as both, so
# that whoever is interested learns of it from its own read or write.
READ, WRITE = 1, 4
_READABLE, _WRITABLE = ~WRITE, ~READ
# What `selectors` calls them.
_EVENTS = {READ: selectors.EVENT_READ, WRITE: selectors.EVENT_WRITE}
_EVENTS[READ | WRITE] = selectors.EVENT_READ | selectors.EVENT_WRITE
_BITS = {events: bits for bits, events in _EVENTS.items()}


class Watched:
    """One descriptor on the loop. A subclass says what is done when it is ready.

    `fileobj` and `fd` (-1 when closed) are for reading. Classes with thousands of instances are
    subclasses themselves: two functions and an object for them cost 200 bytes a connection.
    """

    __slots__ = ("_loop", "_mask", "fd", "fileobj")

    def __init__(self, loop: Loop, fileobj: HasFileno | int, read: bool) -> None:
        """Begin to watch; raises as `Loop.watch` does."""
        self._loop = loop
        self._mask = 0
        self.fileobj = fileobj
        self.fd = fd = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        if fd in loop.watches:
            raise LocalProtocolError(f"descriptor {fd} is watched already")
        if read:
            self.want_read(True)
        loop.watches[fd] = self
        loop._fresh.add(fd)

    def on_read(self) -> object:
        """The descriptor is readable."""

    def on_write(self) -> object:
        """The descriptor is writable."""

    def want_read(self, want: bool) -> None:
        """Call `on_read` while the descriptor is readable, or stop doing so."""
        mask = self._mask
        self._want(mask | READ if want else mask & ~READ)

    def want_write(self, want: bool) -> None:
        """Call `on_write` while the descriptor is writable, or stop doing so.

        Write first, and ask only when the kernel says EAGAIN (2.0x for one request at a time).
        """
        mask = self._mask
        self._want(mask | WRITE if want else mask & ~WRITE)

    def _want(self, mask: int) -> None:
        old = self._mask
        if mask == old:
            return
        if self.fd < 0:
            raise LocalProtocolError("a closed descriptor cannot be watched")
        poller = self._loop.poller
        if not old:
            poller.register(self.fd, mask)
        elif mask:
            poller.modify(self.fd, mask)
        else:
            poller.unregister(self.fd)
        self._mask = mask

    def release(self) -> object:
        """The descriptor is no longer watched: a subclass that has opened it closes it here."""

    def close_descriptor(self) -> None:
        """Stop watching, then `release`; a second call does nothing.

        A watched descriptor is closed only here: the kernel gives its number out again at once.
        """
        fd, mask = self.fd, self._mask
        if fd < 0:
            return
        self._mask = 0
        self.fd = -1
        if mask:
            self._loop.poller.unregister(fd)
        del self._loop.watches[fd]
        self.release()


class Watch(Watched):
    """A descriptor and the functions that are called for it; made by `Loop.watch`.

    `on_read` and `on_write` may be set to something else at any time.
    """

    __slots__ = ("on_read", "on_write", "release")

    on_read: Callback
    on_write: Callback
    release: Callback

    def __init__(
        self,
        loop: Loop,
        fileobj: HasFileno | int,
        on_read: Callback | None,
        on_write: Callback | None,
        release: Callback,
    ) -> None:
        self.release = release
        self.on_read = on_read or nothing
        self.on_write = on_write or nothing
        super().__init__(loop, fileobj, on_read is not None)

    def close(self) -> None:
        """Stop watching, then release; see `close_descriptor`."""
        self.close_descriptor()
        # The functions mostly belong to an object that holds this one: cut the cycle.
        self.on_read = self.on_write = self.release = nothing


class Loop:
    """The one loop of the process.

    `now`: when the tick's events came, on the loop's clock.
    `on_error(origin, error)`: an exception left a callback; origin is the Watch or Timer, or the
    deferred, hook or signal function itself, or what was given to `guard`. While it is None (the
    default) the exception leaves `tick`, but only at its end: all other callbacks run first. When
    there are several exceptions, each leaves a tick of its own.
    `on_busy(seconds)`: called before each select with the time since the last one ended.
    """

    __slots__ = (
        "_clock",
        "_closed",
        "_due",
        "_errors",
        "_fresh",
        "_hooks",
        "_selector",
        "_signals",
        "_stopping",
        "_ticking",
        "deferred",
        "now",
        "on_busy",
        "on_error",
        "poller",
        "timers",
        "watches",
    )

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        selector: selectors.BaseSelector | None = None,
    ) -> None:
        self._clock = clock
        self._selector = selectors.DefaultSelector() if selector is None else selector
        self.poller = _poller_of(self._selector)
        self.watches: dict[int, Watched] = {}
        self._fresh: set[int] = set()  # descriptors first watched in the batch being dispatched
        self.timers = Timers()
        self._due: deque[Timer] = deque()
        self.deferred: deque[Callback] = deque()
        self._hooks: list[Callback] = []
        self._errors: deque[Exception] = deque()  # not given to `on_error`: each leaves a tick
        self._signals: _Signals | None = None
        self._ticking = False
        self._stopping = False
        self._closed = False
        self.now = clock()
        self.on_error: Callable[[object, Exception], object] | None = None
        self.on_busy: Callable[[float], object] | None = None

    # -- asking to be called ---------------------------------------------------------------------

    def watch(
        self,
        fileobj: HasFileno | int,
        on_read: Callback | None,
        on_write: Callback | None = None,
        release: Callback = nothing,
    ) -> Watch:
        """Watch `fileobj` (a socket, a file, or a descriptor) for reading, if on_read is given.

        Writability is asked for by `Watch.want_write`. `release` is called once, when watching has
        ended: a caller that has opened the descriptor passes the function that closes it. Raises
        PermissionError when the kernel cannot wait for it (epoll and regular files, /dev/null):
        see `Input`.
        """
        return Watch(self, fileobj, on_read, on_write, release)

    def call_at(self, when: float, fn: Callback) -> Timer:
        """Call `fn` once `when` has come; inf makes a timer that waits to be moved."""
        timer = Timer(self.timers, fn)
        timer.move(when)
        return timer

    def defer(self, fn: Callback) -> None:
        """Call `fn` once after this tick's events; a deferred function defers to the next tick."""
        self.deferred.append(fn)

    def before_sleep(self, fn: Callback) -> None:
        """Call `fn` at the start of every tick, after the hooks given before it."""
        self._hooks.append(fn)

    def on_signal(self, signum: int, fn: Callback) -> None:
        """Call `fn` from a tick, once for each time that the signal came.

        A signal that was ignored when we started (nohup, a script's `&`) stays ignored. One that
        was blocked is not: a thread of some program has started us, and did not mean us.
        """
        if self._signals is None:
            self._signals = _Signals(self)
        self._signals.add(signum, fn)

    # -- the tick --------------------------------------------------------------------------------

    def run(self) -> None:
        """Tick until `stop`; the hooks then run once more, so that no promised work is left."""
        while not self._stopping:
            self.tick()
        self._stopping = False
        self._run_hooks()

    def stop(self) -> None:
        """Let `run` return after this tick."""
        self._stopping = True

    def tick(self) -> None:
        """Wait for the next events and timers, and call their functions."""
        if self._ticking or self._closed:
            raise LocalProtocolError("a tick inside a tick" if self._ticking else "a closed loop")
        self._ticking = True
        heap = self.timers.heap
        try:
            if self._hooks:
                self._run_hooks()
            # The clock is read anew: `now` was read before the last tick's callbacks and the hooks.
            before = self._clock()
            if self.deferred or self._due or self._stopping or self._errors:
                timeout: float | None = 0
            else:
                timeout = self._sleep(before) if heap else None
            if self.on_busy is not None:
                self.on_busy(before - self.now)
            events = self.poller.poll(timeout, EVENTS_PER_TICK_MAX)
            self.now = now = self._clock()
            if events:
                self._dispatch(events)
            if (heap and heap[0][0] <= now) or self._due:
                self._run_timers()
            if self.deferred:
                self._run_deferred()
            if self._errors:
                raise self._errors.popleft()
        finally:
            self._ticking = False

    def guard(self, origin: object, fn: Callable[..., object], *args: Any) -> bool:
        """Call `fn(*args)`; return whether it raised no exception. For passes over many callers.

        An exception goes to `on_error`, as that of any callback does: the pass goes on.
        """
        try:
            fn(*args)
        except Exception as error:  # noqa: BLE001 - the owner of the loop decides
            self.failed(origin, error)
            return False
        return True

    def failed(self, origin: object, error: Exception) -> None:
        """`error` left a callback of `origin`: tell the owner of the loop."""
        if self.on_error is None:
            self._errors.append(error)
            return
        try:
            self.on_error(origin, error)
        except Exception as worse:  # noqa: BLE001 - then the tick ends with it
            self._errors.append(worse)

    def close(self) -> None:
        """Close every watch, which releases its descriptor, and restore the signal handlers.

        A second call does nothing.
        """
        if self._ticking:
            raise LocalProtocolError("a loop cannot be closed by its own tick: stop it first")
        if self._closed:
            return
        self._closed = True
        if self._signals is not None:
            self._signals.restore()
        for watch in list(self.watches.values()):
            self.guard(watch, watch.close_descriptor)
        self.timers.clear()
        self._due.clear()
        self.deferred.clear()
        self._hooks.clear()
        self.poller.close()
        self._selector.close()
        if self._errors:
            raise self._errors.popleft()

    def _sleep(self, now: float) -> float | None:
        """Seconds from `now` until the next timer; None: there is none."""
        left = self.timers.next_deadline() - now
        if left <= 0:  # to epoll a negative timeout means "for ever"
            return 0
        if left > SLEEP_S_MAX:  # epoll raises beyond 2**31 ms
            return None if left == NEVER else SLEEP_S_MAX
        return left

    def _dispatch(self, events: list[tuple[int, int]]) -> None:
        watch_of = self.watches.get
        fresh = self._fresh
        if fresh:
            fresh.clear()
        for fd, bits in events:
            watch = watch_of(fd)
            # A handler earlier in this batch may have closed this descriptor, and the kernel may
            # have given its number to another: then this event is about the old one.
            if watch is None or (fresh and fd in fresh):
                continue
            try:
                if bits & _READABLE and watch._mask & READ:
                    watch.on_read()
                if bits & _WRITABLE and watch._mask & WRITE:
                    watch.on_write()
            except Exception as error:  # noqa: BLE001 - the owner of the loop decides
                self.failed(watch, error)

    def _run_timers(self) -> None:
        now, due = self.now, self._due
        # All are taken out before the first is called: one that arms itself for `now` waits a tick.
        self.timers.take_due(now, due)
        while due:
            timer = due.popleft()
            try:
                timer.fire(now)
            except Exception as error:  # noqa: BLE001 - the owner of the loop decides
                self.failed(timer, error)

    def _run_deferred(self) -> None:
        deferred = self.deferred
        for _ in range(len(deferred)):
            fn = deferred.popleft()
            self.guard(fn, fn)

    def _run_hooks(self) -> None:
        for hook in self._hooks:
            self.guard(hook, hook)


def _poller_of(selector: selectors.BaseSelector) -> Poller:
    """The object that registers descriptors with `selector` and polls [(descriptor, poll bits)].

    epoll is used directly, through a second descriptor of the same instance: the key, the tuple and
    the two dicts that `selectors` keeps for each descriptor are 117 bytes and take much time.
    """
    import select  # late: `selectors` has loaded it already

    epoll: Any = getattr(select, "epoll", None)
    if epoll is not None and isinstance(selector, getattr(selectors, "EpollSelector", ())):
        inside: Any = selector
        poller: Poller = epoll.fromfd(os.dup(inside.fileno()))
        return poller
    return _Portable(selector)


class _Portable:
    """Any selector of the standard library, with the methods of epoll.

    kqueue refuses a few descriptors that select(2) can wait for (EINVAL: /dev/tty of Darwin, and
    with it descriptor 0 of some Pythons there): with the first of these all move to select.
    """

    __slots__ = ("_selector",)

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self._selector = selector

    def register(self, fd: int, bits: int) -> None:
        try:
            self._selector.register(fd, _EVENTS[bits])
        except OSError as error:
            if error.errno == errno.EBADF or isinstance(self._selector, selectors.SelectSelector):
                raise
            self._move_to_select()
            self._selector.register(fd, _EVENTS[bits])

    def _move_to_select(self) -> None:
        before, self._selector = self._selector, selectors.SelectSelector()
        for key in before.get_map().values():
            self._selector.register(key.fd, key.events)
        before.close()

    def unregister(self, fd: int) -> None:
        self._selector.unregister(fd)

    def close(self) -> None:
        self._selector.close()

    def modify(self, fd: int, bits: int) -> None:
        self._selector.modify(fd, _EVENTS[bits])

    def poll(self, timeout: float | None, most: int) -> list[tuple[int, int]]:
        ready = self._selector.select(timeout)
        return [(key.fd, _BITS.get(events, 0)) for key, events in ready[:most]]


class _Signals:
    """Signals as reads: the interpreter's handler writes each number into a pair of descriptors.

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
        self._reader, self._writer = reader, writer = _pair()
        self._watch = loop.watch(reader, self._read, release=lambda: os.close(reader))
        self._previous_fd = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

    def add(self, signum: int, fn: Callback) -> None:
        if signal.getsignal(signum) == signal.SIG_IGN:
            return
        self._handlers[signum] = fn
        previous = signal.signal(signum, _ignore_signal)
        self._previous.setdefault(signum, previous)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signum,))

    def _read(self) -> None:
        for signum in os.read(self._reader, SIGNALS_PER_WAKE_MAX):
            fn = self._handlers.get(signum)
            if fn is not None:  # other Python signal handlers write their numbers here too
                self._loop.guard(fn, fn)

    def restore(self) -> None:
        signal.set_wakeup_fd(self._previous_fd)
        for signum, previous in self._previous.items():
            # None: it was set by something other than Python, and cannot be put back from here
            signal.signal(signum, signal.SIG_DFL if previous is None else previous)
        self._watch.close()
        os.close(self._writer)


def _pair() -> tuple[int, int]:
    """Two descriptors, neither of which blocks: what is written to the second is read from the
    first. A sandbox may know one of the two kinds alone."""
    try:
        reader, writer = socket.socketpair()
        pair = reader.detach(), writer.detach()
    except OSError:
        pair = os.pipe()
    for fd in pair:
        os.set_blocking(fd, False)
    return pair


def _ignore_signal(signum: int, frame: object) -> None:
    """A handler that does nothing: with SIG_IGN no number would be written to the pair."""
