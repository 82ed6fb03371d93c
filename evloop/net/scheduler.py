"""Which streams are served in this tick, and which in the next ones.

All streams of a loop share a tick. Each may have FRAMES_FREE frames handled in it, however many the
others send; further frames use one common budget, FRAMES_PER_TICK, in turns of FRAMES_PER_WAKE.
(Measured with 50 connections that pipeline as fast as they can: the longest tick took 30 ms and not
617.) When the replies of a tick are large, all frames use the budget. (1,000 connections that ask
for listings of 35 kB: 7 ms and not 76.)

Sending has a budget, in streams and in bytes: what is beyond it is sent in later ticks, and new
replies go first. (News for 5,000 watchers: 43 ms and not 128 because of the cap on streams; when
each of them had most of a MiB waiting, 6 ms and not 530 because of the cap on bytes.) Ends of
connections have a budget too: a connection may have been in ROOMS_ENTERED_MAX rooms. (256 such
connections, reset at once: 10 ms and not 57.)
"""

from __future__ import annotations

from collections import deque

from evloop.net.limits import (
    ENDS_PER_TICK,
    FRAMES_FREE,
    FRAMES_PER_TICK,
    FRAMES_PER_WAKE,
    FREE_REPLY_UNITS,
    HELD_AFTER_BYTES,
    HELD_BYTES_MAX,
    HELD_FREE_BYTES,
    SEND_UNIT_BYTES,
    SENDS_BEHIND_MIN,
    SENDS_LIGHT,
    SENDS_PER_TICK,
)
from evloop.system.timers import nothing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any


class FairScheduler:
    """The budgets of a tick.

    `frames_left` and `ends_left` may be lowered for work that costs more than one frame or end.
    """

    __slots__ = (
        "_behind",
        "_defer",
        "_gave_up",
        "_replies_left",
        "_turning",
        "_waiting",
        "closed",
        "ends_left",
        "frames_left",
    )

    def __init__(
        self,
        defer: Callable[[Callable[[], object]], object],
        gave_up: Callable[[Any, Exception], object],
    ) -> None:
        """`defer(fn)` has `fn` called after the descriptors of this tick, or of the next.

        `gave_up(stream, error)` is told of a stream whose turn has raised.
        """
        self._defer = defer
        self._gave_up = gave_up
        self.refill()
        self._waiting: deque[Any] = deque()  # streams whose frames are not all handled
        self._turning = False  # `_turns` is deferred, or runs
        self.closed: deque[Any] = deque()  # streams that have ended; their owners do not know yet
        self._behind: deque[Any] = deque()  # streams with something to send since a former tick

    def refill(self) -> None:
        """A tick is over; the next has budgets of its own."""
        self.frames_left = FRAMES_PER_TICK
        self._replies_left = FREE_REPLY_UNITS
        self.ends_left = ENDS_PER_TICK

    def replied(self, units: int) -> None:
        """So many units of REPLY_UNIT_BYTES were queued as replies."""
        self.frames_left -= units
        self._replies_left -= units

    def stop(self) -> None:
        """No stream has more frames handled in this tick."""
        self.frames_left = self._replies_left = 0

    def share(self) -> int:
        """How many frames a stream may have handled that has just become readable; 0: it waits."""
        left = self.frames_left
        if self._waiting or left < FRAMES_FREE:
            return FRAMES_FREE if self._replies_left > 0 else 0
        return FRAMES_PER_WAKE if left > FRAMES_PER_WAKE else left  # asked at each wake

    def wait(self, stream: Any) -> None:
        """Give `stream` its turn (`go_on(frames)`) once those that wait already had theirs."""
        self._waiting.append(stream)
        if not self._turning:
            self._turning = True
            self._defer(self._turns)

    def _turns(self) -> None:
        """Called after the descriptors of a tick: waiting streams use the rest of the budget."""
        waiting = self._waiting
        try:
            while waiting and self.frames_left > 0:
                stream = waiting.popleft()
                try:
                    stream.go_on(min(FRAMES_PER_WAKE, self.frames_left))
                except Exception as error:  # noqa: BLE001 - it costs this stream alone
                    self._gave_up(stream, error)
        finally:
            self._turning = bool(waiting)
            if waiting:
                self._defer(self._turns)

    def to_send(self, dirty: list[Any]) -> list[Any]:
        """The streams that are flushed in this tick, of those with something to send.

        First come those at the front of `dirty`, because replies are queued before the news of
        their tick; then those of earlier ticks.
        """
        behind = self._behind
        if not behind and len(dirty) <= SENDS_LIGHT:
            return dirty
        fitting, left = _that_fit(dirty, SENDS_PER_TICK)
        if not behind and fitting == len(dirty):
            return dirty
        behind.extend(dirty[fitting:])
        del dirty[fitting:]
        fitting, _ = _that_fit(behind, max(left, SENDS_BEHIND_MIN))
        for _ in range(fitting):
            dirty.append(behind.popleft())
        if behind:
            self._defer(nothing)  # so that the next poll does not sleep
        return dirty

    def to_end(self) -> Iterator[Any]:
        """Those of `closed` whose owners are told in this tick, one by one."""
        closed = self.closed
        while closed and self.ends_left > 0:
            self.ends_left -= 1
            yield closed.popleft()
        if closed:
            self._defer(nothing)


class Holdings:
    """What streams hold together: half frames that came, and queues that are not read.

    A thousand clients that do not read each stay within the limits of one connection, and together
    would hold 290 MB. So above HELD_BYTES_MAX the streams that hold most are cut off, down to
    HELD_AFTER_BYTES: an attacker can have others cut off only by holding less than they do.
    """

    __slots__ = ("amounts", "total")

    def __init__(self) -> None:
        self.total = 0  # bytes, of those that hold more than HELD_FREE_BYTES
        self.amounts: dict[Any, int] = {}

    def note(self, stream: Any, amount: int) -> None:
        """`stream` holds so many bytes now."""
        if amount <= HELD_FREE_BYTES:
            if not self.total:
                return
            amount = 0
        self.total += amount - self.amounts.pop(stream, 0)
        if amount:
            self.amounts[stream] = amount

    def too_much(self) -> bool:
        """Whether somebody has to be cut off."""
        return self.total > HELD_BYTES_MAX

    def relieve(self) -> None:
        """Cut off (`stream.overloaded()`) some of those that hold most, if it is too much."""
        if not self.too_much():
            return
        most = sorted(self.amounts, key=self.amounts.__getitem__, reverse=True)
        for stream in most[:ENDS_PER_TICK]:
            if self.total <= HELD_AFTER_BYTES:
                return
            stream.overloaded()


def _that_fit(streams: Iterable[Any], units: int) -> tuple[int, int]:
    """How many of the first `streams` can be sent for `units`, one at least; what is left then."""
    number = 0
    for stream in streams:
        if units <= 0:
            break
        units -= 1
        if stream.queued >= SEND_UNIT_BYTES:
            units -= stream.queued // SEND_UNIT_BYTES
        number += 1
    return number, units
