"""How often the room may ask for what is only claimed.

Anybody can claim that messages exist which are nowhere, and all members would ask for them for
ever. So a claim allows so many NACKs of all members together, of which each keeps account by what
it sends and hears:

    NACKs left    claimed anew, or something came    a NACK of a member of standing
    all (none     all                                one less
    is noted)
    some          half of all more                   one less
    none          half of all                        none

Where none is left, nothing is sent: whoever is there and holds a message, or has said it, says so
again in its next SESSION. All are CLAIM_NACKS where nothing is lost, and more where much is: there
a NACK or its answer may not have arrived.
"""

from __future__ import annotations

from evloop.room.reliable.limits import (
    CLAIM_LOSS_STEP,
    CLAIM_NACKS,
    LOSS_ASSUMED,
    LOSS_UNKNOWN,
    STUCK_ASKS,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from evloop.room.reliable.estimators import LossMeter


class Leave:
    """The NACKs that are left, by the sender whose messages they name."""

    __slots__ = ("_left", "_loss")

    def __init__(self, loss: LossMeter) -> None:
        self._loss = loss  # mine
        self._left: dict[bytes, int] = {}

    def all(self) -> int:
        """How many a claim allows."""
        percent = self._loss.told
        if percent == LOSS_UNKNOWN:
            percent = LOSS_ASSUMED
        return min(CLAIM_NACKS - -percent // CLAIM_LOSS_STEP, STUCK_ASKS)

    def claimed(self, sender: bytes) -> None:
        """A datagram claims that messages of `sender` exist, or one of them came."""
        if sender in self._left:
            most = self.all()
            self._left[sender] = min(self._left[sender] + most // 2, most)

    def has(self, senders: Iterable[bytes]) -> bool:
        """Whether a NACK that names `senders` may be sent: one of them pays for it."""
        return any(self._left.get(sender, 1) for sender in senders)

    def spend(self, senders: Iterable[bytes]) -> None:
        """The room sent a NACK that names `senders`."""
        for sender in senders:
            left = self._left.get(sender)
            self._left[sender] = max((self.all() if left is None else left) - 1, 0)

    def forget(self, sender: bytes) -> None:
        """Nothing of `sender` is missing any more."""
        self._left.pop(sender, None)
