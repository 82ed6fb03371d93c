"""What members say they hold of senders from whom nothing was accepted here yet.

A claim tells where a newcomer's record of that sender begins. CLAIMS_MAX of them are kept; each
belongs to the member that made it first. When there are more, the oldest claim of the member with
the most claims is dropped, strangers before members of standing: a member that claims much loses
only its own.
"""

from __future__ import annotations

from operator import attrgetter

from evloop.room.reliable.limits import CLAIMS_MAX

_SHARE = attrgetter("stranger", "count")


class _Claimant:
    """One member's claims, in the order in which it made them."""

    __slots__ = ("count", "origins", "stranger")

    def __init__(self) -> None:
        self.origins: dict[bytes, None] = {}
        self.count = 0
        self.stranger = True


class Claims:
    """The claims of all members: (lo, hi) by sender."""

    __slots__ = ("_claimants", "claims")

    def __init__(self) -> None:
        self.claims: dict[bytes, tuple[int, int, bytes]] = {}
        self._claimants: dict[bytes, _Claimant] = {}

    def __len__(self) -> int:
        return len(self.claims)

    def make(self, member: bytes, standing: bool, origin: bytes, lo: int, hi: int) -> bool:
        """`member` holds [lo, hi) of `origin`; whether another claim had to make room."""
        before = self.claims.get(origin)
        if before is not None:
            self.claims[origin] = (min(lo, before[0]), hi, before[2])
            return False
        full = len(self.claims) >= CLAIMS_MAX
        mine = self._claimants.get(member)
        if mine is None:
            mine = self._claimants[member] = _Claimant()
        mine.stranger = not standing
        if full:
            largest = max(self._claimants.values(), key=_SHARE)
            if mine.origins and _SHARE(largest) <= _SHARE(mine):
                largest = mine
            self.take(next(iter(largest.origins)))
            self._claimants[member] = mine  # it went with the last of its claims
        self.claims[origin] = (lo, hi, member)
        mine.origins[origin] = None
        mine.count += 1
        return full

    def first(self) -> tuple[bytes, int] | None:
        """(sender, hi) of the claim that was made first; None: there is none."""
        for origin, (_, hi, _) in self.claims.items():
            return origin, hi
        return None

    def look(self, origin: bytes) -> tuple[int, int] | None:
        """The claim on `origin`, or None."""
        claim = self.claims.get(origin)
        return claim[:2] if claim else None

    def take(self, origin: bytes) -> tuple[int, int] | None:
        """Remove the claim on `origin` and return it, or None."""
        claim = self.claims.pop(origin, None)
        if claim is None:
            return None
        claimant = self._claimants[claim[2]]
        del claimant.origins[origin]
        claimant.count -= 1
        if not claimant.count:
            del self._claimants[claim[2]]
        return claim[:2]
