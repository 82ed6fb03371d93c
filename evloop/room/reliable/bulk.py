"""Many messages from one holder by unicast: late joiners, healed partitions.

The asker's half remembers who said that it holds what I lack, and spreads the asks. The answerer's
half serves one asker at a time:

    state     asked by A                      asked by B      bucket has a token    nothing left
    free      take what A's minute allows,    the same        -                     -
              -> serving A
    serving A add what is new                 nothing         send one              -> free
"""

from collections import deque

from evloop.base.limits import (
    BULK_ASKED_MAX,
    BULK_ASKERS_MAX,
    BULK_PER_MINUTE,
    BULK_PER_S,
    HOLDERS_MAX,
    NACK_MESSAGES_MAX,
)
from evloop.room.reliable.packets import NOBODY

NEVER = float("inf")

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from evloop.room.reliable.packets import Range

    Key = tuple[bytes, int]


class Holders:
    """Members that said they hold messages I lack."""

    __slots__ = ("_asked", "_claims", "_fruitless", "_rng")

    def __init__(self, rng: "Random") -> None:
        self._rng = rng
        self._claims: dict[bytes, dict[bytes, tuple[int, int]]] = {}
        self._asked: dict[bytes, float] = {}  # when each was last asked
        self._fruitless = NEVER  # since when somebody was asked and nothing came

    def claimed(self, member: bytes, listed: "Sequence[Range]") -> None:
        """`member` says that it holds `listed`."""
        self._claims.pop(member, None)
        self._claims[member] = {sender: (lo, hi) for sender, lo, hi in listed}
        if len(self._claims) > HOLDERS_MAX:
            oldest = next(iter(self._claims))
            self.gone(oldest)

    def bore_fruit(self) -> None:
        """A message that was missing came."""
        self._fruitless = NEVER

    def gone(self, member: bytes) -> None:
        """`member` left."""
        self._claims.pop(member, None)
        self._asked.pop(member, None)

    def choose(self, missing: "Sequence[Key]", now: float, patience: float) -> bytes | None:
        """The member to ask for `missing`: of those that hold at least half as much as the best,
        the one that was not asked for the longest time; None when all were asked just now.

        NOBODY when none holds any, and once after an ask that brought nothing for `patience`
        seconds: who was named may be a liar, or busy with another.
        """
        if self._fruitless + patience <= now:
            self._fruitless = NEVER
            return NOBODY
        shares = []
        for member, claims in self._claims.items():
            share = 0
            for sender, seq in missing:
                lo, hi = claims.get(sender, (0, 0))
                share += lo <= seq < hi
            if share:
                shares.append((share, member))
        if not shares:
            return NOBODY
        best = max(shares)[0]
        asked = self._asked
        fit = [
            (asked.get(member, -NEVER), self._rng.random(), member)
            for share, member in shares
            if 2 * share >= best
        ]
        last, _, chosen = min(fit)
        if last + BULK_ASKED_MAX / BULK_PER_S > now:
            return None
        asked[chosen] = now
        self._fruitless = min(self._fruitless, now)
        return chosen

    def covers(self, member: bytes, key: "Key") -> bool:
        """Whether `member` said that it holds `key`."""
        lo, hi = self._claims[member].get(key[0], (0, 0))
        return lo <= key[1] < hi


class BulkServer:
    """What is still to be sent to the one asker that is served."""

    __slots__ = ("_asker", "_queued", "_used", "queue", "source")

    def __init__(self) -> None:
        self._asker = NOBODY
        self.queue: deque[Key] = deque()
        self._queued: set[Key] = set()
        self._used: dict[bytes, tuple[float, int]] = {}  # asker: (since, messages)
        self.source: object = None  # where the asker's NACK came from

    def free(self, asker: bytes) -> bool:
        """Whether `asker` would be served."""
        return not self.queue or asker == self._asker

    def ask(self, asker: bytes, source: object, key: "Key", now: float) -> bool:
        """Queue `key` for `asker`, which must be `free`; False when its minute is used up."""
        if key in self._queued:
            return True
        since, used = self._used.get(asker, (now, 0))
        if now >= since + 60.0:
            since, used = now, 0
        if used >= BULK_PER_MINUTE or len(self.queue) >= NACK_MESSAGES_MAX:
            return False
        self._used[asker] = (since, used + 1)
        if len(self._used) > BULK_ASKERS_MAX:
            del self._used[next(iter(self._used))]
        self._asker = asker
        self.source = source
        self.queue.append(key)
        self._queued.add(key)
        return True

    def take(self) -> "Key":
        """The next message to send."""
        key = self.queue.popleft()
        self._queued.discard(key)
        return key
