"""How much is lost here, and how many unasked copies that is worth.

Loss is measured where the number of datagrams is known beforehand: copies of a DATA say how many
follow, and control datagrams are counted by their sender. Of a DATA only what follows the first
copy that arrived is counted: given that one arrived, the rest is a fair sample.
"""

from collections import deque

from evloop.base.limits import (
    CONTROL_GAP_MAX,
    COPIES_MAX,
    COPY_SPACING_S,
    LOSS_ASSUMED,
    LOSS_PENDING_MAX,
    LOSS_PRIOR_SAMPLES,
    LOSS_SAMPLES_MAX,
    LOSS_SAMPLES_MIN,
    LOSS_UNKNOWN,
    MISS_MAX,
    MISS_MEMBERS,
    MISS_SMALL_MAX,
    SMALL_ROOM_MEMBERS,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from random import Random

    Key = tuple[bytes, int]

LATE_S = 0.25  # a copy that comes later than this after its time counts as lost


class LossMeter:
    """My own loss, from the last few hundred datagrams that I know were sent."""

    __slots__ = ("_awaited", "_expiry", "_lost", "_seen")

    def __init__(self) -> None:
        self._seen = 0.0
        self._lost = 0.0
        self._awaited: dict[Key, int] = {}  # copies still to come
        self._expiry: deque[tuple[float, Key]] = deque()

    def _count(self, seen: int, lost: int) -> None:
        self._seen += seen
        self._lost += lost
        if self._seen + self._lost > LOSS_SAMPLES_MAX:
            self._seen /= 2
            self._lost /= 2

    def first(self, key: "Key", more: int, now: float) -> None:
        """The first copy of a new DATA: `more` are announced."""
        if len(self._awaited) >= LOSS_PENDING_MAX:
            self._expire(now)
            if len(self._awaited) >= LOSS_PENDING_MAX:
                return
        if more and key not in self._awaited:
            self._awaited[key] = more
            self._expiry.append((now + more * COPY_SPACING_S + LATE_S, key))

    def further(self, key: "Key", more: int) -> None:
        """Another copy of a known DATA."""
        awaited = self._awaited.get(key, 0)
        if awaited > more:  # else a duplicate made on the way, or one that was overtaken
            self._count(1, awaited - more - 1)
            self._awaited[key] = more

    def control(self, last: int, counter: int) -> None:
        """A control datagram number `counter` after number `last` of the same sender."""
        step = (counter - last) & 0xFFFFFFFF
        if 0 < step <= CONTROL_GAP_MAX:
            self._count(1, step - 1)

    def _expire(self, now: float) -> None:
        while self._expiry and self._expiry[0][0] <= now:
            missed = self._awaited.pop(self._expiry.popleft()[1], 0)
            if missed:
                self._count(0, missed)

    def percent(self, now: float, others: float | None = None) -> int:
        """Loss in percent, or LOSS_UNKNOWN.

        Rounded down below 0.7: at 1 % loss the mean over members of what is rounded to the nearest
        asks for more copies than the misses are worth. `others`, the mean of what they
        tell, steadies it: in a large room many copies are sent, and their number is ruled by
        whoever is furthest off.
        """
        self._expire(now)
        lost, total = self._lost, self._seen + self._lost
        if total < LOSS_SAMPLES_MIN:
            return LOSS_UNKNOWN
        if others is not None:
            lost += LOSS_PRIOR_SAMPLES * others
            total += LOSS_PRIOR_SAMPLES
        return int(100 * lost / total + 0.3)


def copies(rng: "Random", losses: dict[int, int], members: int, most: int) -> int:
    """How many unasked copies of a DATA to send.

    `losses`: how many members lose so many percent. With r copies a member that loses p misses all
    with p^(r+1); the aim for the mean over the members is m. The smallest r that reaches it, or one
    less with the probability that makes the expected mean m.
    """
    known = sum(losses.values())
    if not known:
        losses, known = {LOSS_ASSUMED: 1}, 1
    aim = min(MISS_MAX, MISS_MEMBERS / max(members, 1))
    if members < SMALL_ROOM_MEMBERS:
        aim = MISS_SMALL_MAX
    most = min(most, COPIES_MAX)
    worse = 1.0
    for extra in range(most + 1):
        miss = sum(n * (percent / 100) ** (extra + 1) for percent, n in losses.items()) / known
        if miss <= aim:
            if extra and worse > miss and rng.random() < (aim - miss) / (worse - miss):
                return extra - 1
            return extra
        worse = miss
    return most
