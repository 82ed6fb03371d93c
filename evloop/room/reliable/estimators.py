"""How long a datagram takes one way, and how much is lost.

`Delay`: each SESSION tells when it was sent, and repeats that time of the last SESSION heard with
how long ago that was: half of the rest is the delay. Only times at which I did send, and lately,
are taken for an echo, and only from news of its sender (the caller sees to that): a replay must not
make me slow. Up fast and down slowly: timers that are too short cost everybody, too long ones only
me.

`LossMeter`: loss is measured where the number of datagrams is known beforehand: copies of a DATA
say how many follow, and control datagrams are counted by their sender. Of a DATA only what follows
the first copy that arrived is counted: given that one arrived, the rest is a fair sample.
"""

from __future__ import annotations

from collections import deque

from evloop.room.reliable.limits import (
    CONTROL_GAP_MAX,
    COPIES_MAX,
    COPY_SPACING_S,
    DELAY_S_MAX,
    DELAY_S_MIN,
    DELAY_S_START,
    ECHOES_AWAITED_MAX,
    LOSS_ASSUMED,
    LOSS_PENDING_MAX,
    LOSS_PRIOR_SAMPLES,
    LOSS_SAMPLES_MAX,
    LOSS_SAMPLES_MIN,
    LOSS_UNKNOWN,
    MISS_MAX,
    MISS_MEMBERS,
    MISS_SMALL_MAX,
    ROUND_TRIP_S_MAX,
    SMALL_ROOM_MEMBERS,
)
from evloop.room.reliable.packets import NOBODY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from random import Random

    Key = tuple[bytes, int]


class Delay:
    """The estimate in seconds (`value`), and the echo owed to the last SESSION heard."""

    __slots__ = ("_heard", "_known", "_mine", "_peer", "_sent", "value")

    def __init__(self) -> None:
        self.value = DELAY_S_START
        self._known = False
        self._mine: deque[int] = deque(maxlen=ECHOES_AWAITED_MAX)  # when I sent, in us
        self._peer = NOBODY
        self._sent = 0
        self._heard = 0.0

    def heard(self, peer: bytes, sent: int, now: float) -> None:
        """A SESSION of `peer`, sent at `sent` us of its clock."""
        self._peer = peer
        self._sent = sent
        self._heard = now

    def sending(self, now: float) -> int:
        """The `sent` of a SESSION that goes out now."""
        sent = int(now * 1e6) & 0xFFFFFFFF
        self._mine.append(sent)
        return sent

    def echo(self, now: float) -> tuple[bytes, int, int]:
        """(peer, its time of sending, us held since); NOBODY when none was heard."""
        held = int((now - self._heard) * 1e6) & 0xFFFFFFFF if self._peer != NOBODY else 0
        return self._peer, self._sent, held

    def echoed(self, sent: int, held: int, now: float) -> None:
        """My SESSION sent at `sent` us of my clock came back after having been held `held` us."""
        one_way = ((int(now * 1e6) - sent - held) & 0xFFFFFFFF) / 2e6
        if one_way > ROUND_TRIP_S_MAX / 2 or sent not in self._mine:
            return
        one_way = min(max(one_way, DELAY_S_MIN), DELAY_S_MAX)
        if self._known:
            self.value += (one_way - self.value) / (2 if one_way > self.value else 16)
        else:
            self.value = one_way
            self._known = True


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

    def first(self, key: Key, more: int, now: float) -> None:
        """The first copy of a new DATA: `more` are announced."""
        if len(self._awaited) >= LOSS_PENDING_MAX:
            self._expire(now)
            if len(self._awaited) >= LOSS_PENDING_MAX:
                return
        if more and key not in self._awaited:
            self._awaited[key] = more
            self._expiry.append((now + more * COPY_SPACING_S + LATE_S, key))

    def further(self, key: Key, more: int) -> None:
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


def copies(rng: Random, losses: dict[int, int], members: int, most: int) -> int:
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
