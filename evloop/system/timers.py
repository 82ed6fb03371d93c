"""Deadlines: functions to be called once a time has come. The clock is an argument.

A timer's life (`when` is inf unless it is armed):

    state      move(finite)   move(inf)   time comes          cancel
    idle       -> armed       idle        -                   -> cancelled
    armed      armed          -> idle     -> idle, called     -> cancelled
    cancelled  LocalProtocolError         -                   nothing

They stand in a heap of (when, number, timer). An entry whose timer has another number by now is
stale; it goes when it comes to the top, or with all the others when they are the most of the heap.
"""

from heapq import heapify, heappop, heappush, heapreplace

from evloop.base.errors import LocalProtocolError
from evloop.base.limits import STALE_TIMERS_MIN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable

    Callback = Callable[[], object]

_INF = float("inf")


class Timer:
    """A function to be called once `when` (seconds on the loop's clock) has come.

    Made by `Loop.call_at`. `when` is inf while it is not armed: before a `move`, and from just
    before its function is called. It can be moved again and again until it is cancelled.
    """

    __slots__ = ("_fn", "_queued", "_seq", "_timers", "when")

    def __init__(self, timers: "Timers", fn: "Callback") -> None:
        self._timers = timers
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
            self._timers.push(self, when)

    def cancel(self) -> None:
        """Never call, and let go of the function. A second call does nothing."""
        self._fn = None
        self.when = _INF
        if self._seq:
            self._forget_entry()

    def fire(self, now: float) -> None:
        """Call the function of a timer that `take_due` gave, unless it was moved or cancelled by
        one that was called before it."""
        fn = self._fn
        if fn is not None and not self._seq and self.when <= now:
            self.when = _INF
            fn()

    def _forget_entry(self) -> None:
        self._seq = 0
        self._timers.count_stale()


class Timers:
    """The timers of one loop. `heap` is for reading: while it is empty, nothing is due."""

    __slots__ = ("_seq", "_stale", "heap")

    def __init__(self) -> None:
        self.heap: list[tuple[float, int, Timer]] = []
        self._seq = 0
        self._stale = 0  # entries of the heap that no timer owns any more

    def push(self, timer: Timer, when: float) -> None:
        """Enter `timer`, which has no entry."""
        self._seq = timer._seq = seq = self._seq + 1
        timer._queued = when
        heappush(self.heap, (when, seq, timer))

    def next_deadline(self) -> float:
        """When the next timer is due; inf: none is. Afterwards the top of the heap is true."""
        heap = self.heap
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

    def take_due(self, now: float, due: "deque[Timer]") -> None:
        """Move those that are due at `now` into `due`: one that is armed anew is not among them."""
        while self.next_deadline() <= now:
            timer = heappop(self.heap)[2]
            timer._seq = 0
            due.append(timer)

    def count_stale(self) -> None:
        """One more entry without a timer; when they are the most of the heap, drop them all."""
        self._stale += 1
        heap = self.heap
        if self._stale > STALE_TIMERS_MIN and self._stale > len(heap) // 2:
            heap[:] = [entry for entry in heap if entry[2]._seq == entry[1]]
            heapify(heap)
            self._stale = 0

    def clear(self) -> None:
        """Forget all of them."""
        self.heap.clear()
