"""One span of time for many: a deadline for each, and one timer for all."""

from itertools import islice

from evloop.base.limits import EXPIRED_PER_TICK_MAX

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from typing import Any

    from evloop.system.loop import Loop


class Deadlines:
    """Who does not `stop` within `seconds` of its `start` is given to `expire`.

    All spans are equal, so insertion order is the order of the deadlines: one dict, one timer.
    """

    __slots__ = ("_expire", "_loop", "_since", "_timer", "seconds")

    def __init__(self, loop: "Loop", seconds: float, expire: "Callable[[Any], object]") -> None:
        self.seconds = seconds
        self._loop = loop
        self._expire = expire
        self._since: dict[Hashable, float] = {}
        self._timer = loop.call_at(float("inf"), self._check)

    def __len__(self) -> int:
        return len(self._since)

    def start(self, member: "Hashable") -> None:
        """Begin the span, if it has not begun."""
        since = self._since
        if member not in since:
            if not since:
                self._timer.move(self._loop.now + self.seconds)
            since[member] = self._loop.now

    def stop(self, member: "Hashable") -> None:
        """End the span, if it has begun."""
        since = self._since
        if since.pop(member, None) is not None and not since:
            self._timer.move(float("inf"))
            since.clear()  # popping alone would keep the room of all that ever stood in it

    def _check(self) -> None:
        since, now = self._since, self._loop.now
        # A thousand that came together also expire together: each costs a close and a line.
        for member, begun in list(islice(since.items(), EXPIRED_PER_TICK_MAX)):
            if begun + self.seconds > now:
                self._timer.move(begun + self.seconds)
                return
            if since.get(member) == begun:  # the one before may have stopped this one
                del since[member]
                self._expire(member)
        if since:
            self._timer.move(now)  # the next tick goes on
