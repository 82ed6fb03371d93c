"""Senders of whom nobody holds anything any more: agreeing on how far they had come.

What was said a day ago is forgotten, but the records of its senders stay in the digests of all who
heard it. Who comes later can hear nothing of these senders, so its digest would never be equal, and
nobody would ever be quiet. So it takes such an entry (lo = hi) of a list into its own records:

    state      listed with lo = hi     listed with lo < hi    unexplained for    DATA of
               for ADOPT_S             or asked for           EXPLAIN_S          the sender
    unknown    told                    unknown                -                  a record
    told       told                    unknown                adopted            a record
    adopted    adopted, newest hi      adopted, asked for     -                  a record

`Adoption` remembers what was told. An adopted record is no evidence of anything: DATA of its sender
makes its record as if there had been none, what others hold of it is asked for, and it is the first
to make room. What a present sender does not say of itself is not adopted. The wait is for those who
do hold something: they list it within it, and more than once.
"""

from __future__ import annotations

from evloop.base.ratelimit import TokenBucket
from evloop.room.reliable.limits import ADOPT_S, ADOPTIONS_TOLD_MAX, NEW_SENDERS_PER_S


class Adoption:
    """Entries with lo = hi of senders from whom nothing was accepted here."""

    __slots__ = ("_leave", "_told")

    def __init__(self, now: float) -> None:
        self._leave = TokenBucket(NEW_SENDERS_PER_S, NEW_SENDERS_PER_S, now)
        self._told: dict[bytes, tuple[int, float]] = {}  # (hi, since when); the oldest first

    def __len__(self) -> int:
        return len(self._told)

    def told(self, origin: bytes, hi: int, now: float) -> None:
        """A list has `origin` with nothing held below `hi`."""
        before = self._told.get(origin)
        if before is not None and before[0] == hi:
            return
        self._told.pop(origin, None)
        self._told[origin] = hi, now
        if len(self._told) > ADOPTIONS_TOLD_MAX:
            del self._told[next(iter(self._told))]

    def held(self, origin: bytes) -> None:
        """Somebody says that it holds something of `origin`, or it came."""
        self._told.pop(origin, None)

    def agreed(self) -> None:
        """A digest equals mine: what was told is not needed, or not true."""
        self._told.clear()

    def take(self, now: float) -> list[tuple[bytes, int]]:
        """(sender, hi) of what was told long enough ago, NEW_SENDERS_PER_S at most."""
        ripe = []
        for origin, (hi, since) in self._told.items():
            if now < since + ADOPT_S or not self._leave.take(now):
                break
            ripe.append((origin, hi))
        for origin, _ in ripe:
            del self._told[origin]
        return ripe
