"""Who is served in this tick, and who in the next ones. Floor 1.

A tick belongs to all streams of a loop. Each may have FRAMES_FREE frames handled in it, whatever
the others do; what goes beyond comes out of one budget, FRAMES_PER_TICK, by turns of
FRAMES_PER_WAKE. (Measured with 50 connections that pipeline as fast as they can: the longest tick
617 -> 30 ms.) Sends have a budget too: what is queued for more than SENDS_PER_TICK streams goes in
several ticks, and new replies overtake. (Measured, news for 5,000 watchers on a busy
machine: the longest tick 128 -> 43 ms.)
"""

from collections import deque

from evloop.limits import (
    FRAMES_FREE,
    FRAMES_PER_TICK,
    FRAMES_PER_WAKE,
    SENDS_BEHIND_MIN,
    SENDS_PER_TICK,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class Turns:
    """The budgets of a tick. `frames_left` may be lowered for what costs more than its frame."""

    __slots__ = ("_behind", "_defer", "_turning", "_waiting", "frames_left")

    def __init__(self, defer: "Callable[[Callable[[], object]], object]") -> None:
        """`defer(fn)` has `fn` called after the descriptors of this tick, or of the next."""
        self._defer = defer
        self.frames_left = FRAMES_PER_TICK  # that may still be handled in this tick
        self._waiting: deque[Any] = deque()  # streams whose frames are not all handled
        self._turning = False  # `_turns` is deferred, or runs
        self._behind: deque[Any] = deque()  # streams with something to send since a former tick

    def share(self) -> int:
        """How many frames a stream may have handled that has just become readable."""
        left = self.frames_left
        if self._waiting or left < FRAMES_FREE:
            return FRAMES_FREE
        return FRAMES_PER_WAKE if left > FRAMES_PER_WAKE else left  # asked at each wake

    def wait(self, stream: "Any") -> None:
        """Give `stream` its turn (`go_on(frames)`) once those that wait already had theirs."""
        self._waiting.append(stream)
        if not self._turning:
            self._turning = True
            self._defer(self._turns)

    def _turns(self) -> None:
        """After the descriptors of a tick: what is left of it is for those who wait."""
        waiting = self._waiting
        try:
            while waiting and self.frames_left > 0:
                stream = waiting.popleft()
                try:
                    stream.go_on(min(FRAMES_PER_WAKE, self.frames_left))
                except Exception:  # the loop's owner decides; the others go on in the next tick
                    stream.fail()
                    raise
        finally:
            self._turning = bool(waiting)
            if waiting:
                self._defer(self._turns)

    def to_send(self, dirty: "list[Any]") -> "list[Any]":
        """Those of the streams with something to send that are flushed now. Once a tick.

        Of `dirty` the first, for replies are queued before the news of their tick; then those of
        former ticks.
        """
        behind = self._behind
        if not behind and len(dirty) <= SENDS_PER_TICK:
            return dirty
        behind.extend(dirty[SENDS_PER_TICK:])
        del dirty[SENDS_PER_TICK:]
        for _ in range(min(len(behind), max(SENDS_PER_TICK - len(dirty), SENDS_BEHIND_MIN))):
            dirty.append(behind.popleft())
        if behind:
            self._defer(_nothing)  # so that the next poll does not sleep
        return dirty


def _nothing() -> None:
    """Deferred for its effect on the sleep."""
