"""Deadlines: functions to be called once a time has come. The clock is an argument.

A timer's life (`when` is inf unless it is armed):

    state      move(finite)   move(inf)   time comes          cancel
    idle       -> armed       idle        -                   -> cancelled
    armed      armed          -> idle     -> idle, called     -> cancelled
    cancelled  LocalProtocolError         -                   nothing

The armed timers are entries (when, number, timer) of a heap. An entry whose timer has another
number by now is stale; it is removed when it comes to the top, or together with all other stale
entries when these are most of the heap.

`Timeouts` gives many members a deadline each, all of the same span, with one timer.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush, heapreplace
from itertools import islice

from evloop.base.errors import LocalProtocolError
from evloop.system.limits import EXPIRED_PER_TICK_MAX, STALE_TIMERS_MIN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable, Hashable
    from typing import Any

    from evloop.system.loop import Loop

    Callback = Callable[[], object]

NEVER = float("inf")  # when a timer that is not armed is due


def nothing(*_: object) -> None:
    """A callback that does nothing, for callers that need none."""


class Timer:
    """A function to be called once `when` (seconds on the loop's clock) has come.

    Made by `Loop.call_at`. `when` is inf while it is not armed: before a `move`, and from just
    before its function is called. It can be moved again and again until it is cancelled.
    """

    __slots__ = ("_fn", "_queued", "_timers", "seq", "when")

    def __init__(self, timers: Timers, fn: Callback) -> None:
        self._timers = timers
        self._fn: Callback | None = fn
        self.seq = 0  # of my entry in the heap; 0: I have none
        self._queued = NEVER  # `when` of that entry: never later than my own
        self.when = NEVER

    @property
    def cancelled(self) -> bool:
        """Whether it can be moved no more."""
        return self._fn is None

    def move(self, when: float) -> None:
        """Arm for `when`, or, with inf, disarm."""
        if self._fn is None:
            raise LocalProtocolError("a cancelled timer cannot be moved")
        if when != when:
            raise LocalProtocolError("a timer cannot be moved to nan")
        self.when = when
        if self.seq:
            # To move it later (the common case: a deadline that is put off again and again) costs
            # nothing now: the entry is corrected when it comes to the top.
            if self._queued <= when < NEVER:
                return
            self._forget_entry()
        if when < NEVER:
            self._timers.push(self, when)

    def cancel(self) -> None:
        """Never call the function, and drop it. A second call does nothing."""
        self._fn = None
        self.when = NEVER
        if self.seq:
            self._forget_entry()

    def fire(self, now: float) -> None:
        """Call the function of a timer that `take_due` gave, unless it was moved or cancelled by
        one that was called before it."""
        fn = self._fn
        if fn is not None and not self.seq and self.when <= now:
            self.when = NEVER
            fn()

    def _forget_entry(self) -> None:
        self.seq = 0
        self._timers.count_stale()


class Timers:
    """The timers of one loop. `heap` is for reading: while it is empty, nothing is due."""

    __slots__ = ("heap", "seq", "stale")

    def __init__(self) -> None:
        self.heap: list[tuple[float, int, Timer]] = []
        self.seq = 0
        self.stale = 0  # entries of the heap that no timer owns any more

    def push(self, timer: Timer, when: float) -> None:
        """Enter `timer`, which has no entry."""
        self.seq = timer.seq = seq = self.seq + 1
        timer._queued = when
        heappush(self.heap, (when, seq, timer))

    def next_deadline(self) -> float:
        """When the next timer is due, or inf. Afterwards the top of the heap is that timer's."""
        heap = self.heap
        while heap:
            when, seq, timer = heap[0]
            if timer.seq != seq:
                heappop(heap)
                self.stale -= 1
            elif timer.when != when:
                timer._queued = timer.when
                heapreplace(heap, (timer.when, seq, timer))
            else:
                return when
        return NEVER

    def take_due(self, now: float, due: deque[Timer]) -> None:
        """Move the timers due at `now` into `due`: none of them is called twice in this pass."""
        while self.next_deadline() <= now:
            timer = heappop(self.heap)[2]
            timer.seq = 0
            due.append(timer)

    def count_stale(self) -> None:
        """One more entry is stale; when stale entries are most of the heap, drop them all."""
        self.stale += 1
        heap = self.heap
        if self.stale > STALE_TIMERS_MIN and self.stale > len(heap) // 2:
            heap[:] = [entry for entry in heap if entry[2].seq == entry[1]]
            heapify(heap)
            self.stale = 0

    def clear(self) -> None:
        """Forget all of them."""
        self.heap.clear()


class Timeouts:
    """A member that does not `stop` within `seconds` of its `start` is given to `expire`.

    All spans are equal, so insertion order is the order of the deadlines: one dict, one timer.
    """

    __slots__ = ("_expire", "_loop", "_since", "_timer", "seconds")

    def __init__(self, loop: Loop, seconds: float, expire: Callable[[Any], object]) -> None:
        self.seconds = seconds
        self._loop = loop
        self._expire = expire
        self._since: dict[Hashable, float] = {}
        self._timer = loop.call_at(NEVER, self._check)

    def __len__(self) -> int:
        return len(self._since)

    def start(self, member: Hashable) -> None:
        """Begin the span, if it has not begun."""
        since = self._since
        if member not in since:
            if not since:
                self._timer.move(self._loop.now + self.seconds)
            since[member] = self._loop.now

    def stop(self, member: Hashable) -> None:
        """End the span, if it has begun."""
        since = self._since
        if since.pop(member, None) is not None and not since:
            self._timer.move(NEVER)
            since.clear()  # popping alone would keep the room of all that ever stood in it

    def _check(self) -> None:
        since, now = self._since, self._loop.now
        # A thousand members that started together expire together, and each costs a close and a
        # line of the log: only some expire in one tick.
        for member, begun in list(islice(since.items(), EXPIRED_PER_TICK_MAX)):
            if begun + self.seconds > now:
                self._timer.move(begun + self.seconds)
                return
            if since.get(member) == begun:  # the one before may have stopped this one
                del since[member]
                self._loop.guard(member, self._expire, member)
        if since:
            self._timer.move(now)  # the next tick goes on


class Paced:
    """Calls `fn` when asked, but not again before `pause_s` have passed: then once for all asks
    of that time."""

    __slots__ = ("_asked", "_fn", "_loop", "_pause", "_ready", "_timer")

    def __init__(self, loop: Loop, pause_s: float, fn: Callable[[], object]) -> None:
        self._loop = loop
        self._pause = pause_s
        self._fn = fn
        self._ready = loop.now  # when it may be called
        self._asked = False
        self._timer = loop.call_at(NEVER, self._call)

    def ask(self) -> None:
        """Call the function now, or when the pause is over."""
        if not self._asked:
            self._asked = True
            self._timer.move(max(self._loop.now, self._ready))

    def _call(self) -> None:
        self._asked = False
        self._ready = self._loop.now + self._pause
        self._fn()
