"""Who is here and does not hear me, as what it says shows.

Each SESSION of a member tells whom it heard last (the echo), how many it counts, and what it holds.
A member that hears me counts me, so one that does not counts fewer than I do, echoes me never, and
holds nothing of mine:

    state      a sign that it hears me   SESSION without one, counting fewer than I do
    hearing    -                         -> doubted, since now
    doubted    -> hearing                -> deaf, when it has gone on for DEAF_S and in a row of
                                         DEAF_SESSIONS, and DEAF_SESSIONS_EACH more for each other
    deaf       -> hearing                -

Among several it is chance whom somebody echoes, so more SESSIONs are needed there, and in a room of
more than DEAF_MEMBERS_MAX nothing is concluded.
"""

from __future__ import annotations

from evloop.room.reliable.limits import (
    DEAF_MEMBERS_MAX,
    DEAF_S,
    DEAF_SESSIONS,
    DEAF_SESSIONS_EACH,
)
from evloop.room.reliable.packets import ranges

_NOBODY: frozenset[bytes] = frozenset()  # one for all rooms: an empty set has 0.2 kB


class Deafness:
    """`deaf` holds the sender ids of those that do not hear me."""

    __slots__ = ("_doubted", "_own", "deaf")

    def __init__(self, own: bytes) -> None:
        self._own = own
        self.deaf = _NOBODY
        self._doubted: dict[bytes, tuple[float, int]] = {}  # member: (since when, SESSIONs)

    def heard(
        self, sender: bytes, echo: bytes, raw: bytes, counts: int, others: int, now: float
    ) -> bool:
        """A SESSION of `sender` with the `echo` of somebody, and entries; it `counts` so many,
        itself included, where I count so many `others`. Whether it is deaf now, and was not
        before."""
        here = others + 1
        if echo == self._own or self._lists_me(raw) or counts >= here or here > DEAF_MEMBERS_MAX:
            self.gone(sender)
            return False
        since, sessions = self._doubted.get(sender, (now, 0))
        sessions += 1
        self._doubted[sender] = since, sessions
        enough = DEAF_SESSIONS + DEAF_SESSIONS_EACH * (here - 2)
        if sender in self.deaf or sessions < enough or now < since + DEAF_S:
            return False
        self.deaf |= {sender}
        return True

    def _lists_me(self, raw: bytes) -> bool:
        """Whether the entries of a SESSION hold something that I said."""
        return self._own in raw and any(who == self._own and hi for who, _, hi in ranges(raw))

    def gone(self, sender: bytes) -> None:
        """It has left, or it does hear me."""
        self._doubted.pop(sender, None)
        if sender in self.deaf:
            self.deaf -= {sender}
