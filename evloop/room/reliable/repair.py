"""Who answers a NACK to anyone, and when.

One message that somebody asked for:

    state     asked                                 repair heard        due
    idle      source: within d, -> due              -> held             -
              other: -> due with a probability
    due       asked again: more likely              -> held             send it, -> held
    held      nothing, until the hold-down ends     hold-down anew      (idle)

The source answers within one delay d. Another holder waits 3 d and a drawn part of 8 d, so that the
source, or the first of the others, silences the rest; and only about VOLUNTEERS of all are ready
to, four times as many with each repeated ask. While the source is present a first ask finds a
quarter of that: under loss those who do not hear the source's repair would repair once more
(at 30 % it spares about every third repair: 1.7 a NACK became 1.2).
"""

from evloop.base.limits import (
    ASK_REMEMBERED_S,
    ASKS_REMEMBERED_MAX,
    REPAIR_BURST,
    VOLUNTEERS,
)
from evloop.room.reliable.waits import window_wait

TYPE_CHECKING = False
if TYPE_CHECKING:
    from random import Random

    Key = tuple[bytes, int]

DUE_MAX = 3 * REPAIR_BURST  # answers waiting: what the rate lets through in two seconds


class Ask:
    """What is remembered of one message that was asked for."""

    __slots__ = ("count", "heard", "held_until")

    def __init__(self) -> None:
        self.count = 0
        self.heard = float("-inf")  # the last ask that counted
        self.held_until = float("-inf")


class Repairs:
    """The answers that this member owes the room."""

    __slots__ = ("_asks", "_rng", "due")

    def __init__(self, rng: "Random") -> None:
        self._rng = rng
        self._asks: dict[Key, Ask] = {}  # the order is that of the first ask
        self.due: dict[Key, float] = {}

    def full(self) -> bool:
        """More answers are due than can be sent in time: consider no further asks."""
        return len(self.due) >= DUE_MAX

    def _ask(self, key: "Key") -> Ask:
        ask = self._asks.get(key)
        if ask is None:
            if len(self._asks) >= ASKS_REMEMBERED_MAX:
                oldest = next(iter(self._asks))
                del self._asks[oldest]
                self.due.pop(oldest, None)
            ask = self._asks[key] = Ask()
        return ask

    def asked(
        self, key: "Key", source: bool, present: bool, now: float, delay: float, members: int
    ) -> None:
        """A NACK to anyone names `key`, which I hold; `source`: it is my own; `present`: its
        source can answer itself."""
        ask = self._ask(key)
        if self._held(ask, now):
            return
        if now > ask.heard + ASK_REMEMBERED_S:
            ask.count = 0
        if now > ask.heard + 6 * delay:  # else the same round: several asked at once
            ask.count += 1
            ask.heard = now
        elif not source:
            return
        if key in self.due:
            return
        if source:
            self.due[key] = now + delay * self._rng.random()
        elif self._rng.random() < VOLUNTEERS / members * 4 ** (ask.count - 1 - present):
            self.due[key] = now + 3 * delay + window_wait(self._rng, 8 * delay, members)

    def _held(self, ask: Ask, now: float) -> bool:
        return now < ask.held_until

    def answered(self, key: "Key", now: float, delay: float) -> None:
        """A repair of `key` was heard or sent: hold down."""
        self.due.pop(key, None)
        self._ask(key).held_until = now + 20 * delay

    def deadline(self) -> float:
        """When the next answer (one of `due`) is to be sent."""
        return min(self.due.values(), default=float("inf"))

    def take_due(self, now: float) -> "list[Key]":
        """The answers whose time has come, in their order."""
        due = sorted((when, key) for key, when in self.due.items() if when <= now)
        for _, key in due:
            del self.due[key]
        return [key for _, key in due]
