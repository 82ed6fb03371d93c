"""What all members together may send because of NACKs, or of messages that strangers promise.

A stranger's datagram reaches everybody, so what it makes all members send must have a bound for
the room as a whole. Nobody hands out permissions: each member counts what it hears and sends, and
all of them come to nearly the same count.
"""

from __future__ import annotations

from evloop.base.ratelimit import TokenBucket
from evloop.room.reliable.limits import (
    BULK_PER_NACK,
    MEMBERS_BULK_BURST,
    NACKS_PER_PROMISE,
    NACKS_PER_REPAIR,
    PROMISES_NACKS_BURST,
    PROMISES_NACKS_PER_S,
    REPAIRS_EARNED_MAX,
    REPAIRS_OWED_PER_S,
    REPAIRS_PER_NACK,
    ROOM_BULK_BYTES_BURST,
    ROOM_BULK_BYTES_PER_S,
    ROOM_BULK_PER_S,
    ROOM_REPAIR_PER_S,
    ROOM_SESSIONS_BURST,
    ROOM_SESSIONS_PER_S,
    STRANGERS_BULK_BURST,
)

_BULK_BURSTS = STRANGERS_BULK_BURST, MEMBERS_BULK_BURST  # by whether the asker is of standing


class RoomBudget:
    """What the members together may send because somebody asked, whoever he is.

    Everybody hears the NACKs and the repairs, and keeps the same account.

        what                          so much                            and for each
        repairs to the room           100 a second                       -
        the same                      -                                  NACK to anyone: 2
        repairs by unicast            24 kB/s, 400 kB at once            -
        messages of these: strangers  1 in 2 s, 2,000 at once            NACK of one: 1.5
        the same, members of standing 1 in 2 s, 4,000 at once            NACK of one: 1.5
        NACKs for promises            0.3 a second, 6 at once            promise, repair: 0.5
        SESSIONs of Trickle           60 a second, 120 at once           -

    A promise is a datagram that makes known, by nothing but a stranger's word or hearsay, that
    messages exist.
    """

    __slots__ = (
        "_bulk", "_earned", "_owed", "_promised_at", "_promises", "_repairs", "_saved",
        "_sessions",
    )  # fmt: skip

    def __init__(self, now: float) -> None:
        self._repairs = TokenBucket(ROOM_REPAIR_PER_S, ROOM_REPAIR_PER_S, now)
        self._owed = TokenBucket(REPAIRS_OWED_PER_S, 0, now)  # repairs, below 0
        self._earned = 0.0  # repairs that NACKs allow and that were not sent
        self._promises = TokenBucket(PROMISES_NACKS_PER_S, PROMISES_NACKS_BURST, now)
        self._promised_at = now
        self._sessions = TokenBucket(ROOM_SESSIONS_PER_S, ROOM_SESSIONS_BURST, now)
        self._bulk = TokenBucket(ROOM_BULK_BYTES_PER_S, ROOM_BULK_BYTES_BURST, now)
        self._saved = tuple([TokenBucket(ROOM_BULK_PER_S, burst, now) for burst in _BULK_BURSTS])

    def asked(self, now: float) -> None:
        """A NACK to anyone was sent, by me or another."""
        owed = min(-self._owed.level(now), REPAIRS_PER_NACK)
        self._owed.spend(now, -owed)
        self._earned = min(self._earned + REPAIRS_PER_NACK - owed, REPAIRS_EARNED_MAX)

    def repaired(self, asked: bool, now: float) -> None:
        """A repair to the room was sent or heard; `asked`: I know of an ask that it answers.
        (Repairs that nobody asked for must not use up the budget of those who ask.)"""
        self._repairs.take(now)
        self._earn(NACKS_PER_REPAIR, now)
        if asked and self._earned >= 1:
            self._earned -= 1
        elif asked and self._owed.level(now) > -REPAIRS_EARNED_MAX:
            self._owed.spend(now, 1)

    def may_repair(self, now: float) -> bool:
        return self._repairs.level(now) >= 1 and self._earned >= 1

    def repair_due(self) -> float:
        """When ROOM_REPAIR_PER_S allows another repair. One that finds no credit at that time is
        not sent at all: if it waited, all members would send theirs at the next NACK."""
        return self._repairs.when()

    def bulk(self, messages: int, size: int, standing: bool, now: float) -> bool:
        """Whether one member may be asked for `messages` of `size` bytes each."""
        size *= messages
        burst, saved = _BULK_BURSTS[standing], self._saved[standing]
        saved.spend(now, -min(BULK_PER_NACK, burst - saved.level(now)))
        if self._bulk.level(now) < size or not saved.take(now, messages):
            return False
        self._bulk.spend(now, size)
        return True

    def _earn(self, nacks: float, now: float) -> None:
        room = PROMISES_NACKS_BURST - self._promises.level(now)
        self._promises.spend(now, -min(nacks, room))

    def promised(self, now: float) -> None:
        """A datagram, heard at `now`, is a promise: it counts once."""
        if now != self._promised_at:
            self._promised_at = now
            self._earn(NACKS_PER_PROMISE, now)

    def may_ask(self, now: float) -> bool:
        """Whether what is only promised may be asked for."""
        return self._promises.level(now) >= 1

    def ask_due(self) -> float:
        """When `may_ask` will say yes, if nothing is heard until then."""
        return self._promises.when()

    def asked_promised(self, now: float) -> None:
        """A member sent a NACK for what is only promised. (Several may at once: that is owed.)"""
        if self._promises.level(now) > -5 * PROMISES_NACKS_BURST:
            self._promises.spend(now, 1)

    def told(self, now: float) -> None:
        """A member sent a SESSION."""
        if self._sessions.level(now) > -ROOM_SESSIONS_BURST:
            self._sessions.spend(now, 1)

    def may_tell(self, now: float) -> bool:
        """Whether a SESSION may be sent for no other reason than Trickle."""
        return self._sessions.level(now) >= 1
