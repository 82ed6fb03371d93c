"""What all members together may send because of NACKs, or of messages that strangers promise.

A stranger's datagram reaches everybody, so what it makes all members send must have a bound for
the room as a whole. Nobody hands out permissions: each member counts what it hears and sends, and
all of them come to nearly the same count.
"""

from __future__ import annotations

from evloop.base.ratelimit import TokenBucket
from evloop.room.reliable.limits import (
    REPAIRS_PER_NACK,
    REPAIRS_SAVED_MAX,
    REPAIRS_SAVED_PER_S,
    RETRIES_BURST,
    RETRIES_PER_S,
    ROOM_BULK_BYTES_BURST,
    ROOM_BULK_BYTES_PER_S,
    ROOM_REPAIR_PER_S,
    STRANGERS_BULK_BURST,
    STRANGERS_BULK_PER_S,
)


class RoomBudget:
    """What the members together may send because somebody asked, whoever he is.

    Everybody hears the NACKs and the repairs, and keeps the same account.

        what                          so much                            and for each
        repairs to the room           100 a second                       -
        the same                      a few that were saved              NACK to anyone: 2
        repairs by unicast            24 kB/s, 400 kB at once            -
        the same, to strangers        1,000 a minute, 2,000 at once      -
        asks again of strangers' gaps 1 a second, 10 at once             repair: 1
    """

    __slots__ = ("_bulk", "_credit", "_repairs", "_retries", "_strangers")

    def __init__(self, now: float) -> None:
        self._repairs = TokenBucket(ROOM_REPAIR_PER_S, ROOM_REPAIR_PER_S, now)
        self._credit = TokenBucket(REPAIRS_SAVED_PER_S, REPAIRS_SAVED_MAX, now)
        self._retries = TokenBucket(RETRIES_PER_S, RETRIES_BURST, now)
        self._bulk = TokenBucket(ROOM_BULK_BYTES_PER_S, ROOM_BULK_BYTES_BURST, now)
        self._strangers = TokenBucket(STRANGERS_BULK_PER_S, STRANGERS_BULK_BURST, now)

    def asked(self, now: float) -> None:
        """A NACK to anyone was sent, by me or another."""
        room = REPAIRS_SAVED_MAX - self._credit.level(now)
        self._credit.spend(now, -min(REPAIRS_PER_NACK, max(room, 0.0)))

    def repaired(self, asked: bool, now: float) -> None:
        """A repair to the room was sent or heard; `asked`: I know of an ask that it answers.
        (Repairs that nobody asked for must not use up the budget of those who ask.)"""
        self._repairs.take(now)
        if self._retries.level(now) <= RETRIES_BURST - 1:
            self._retries.spend(now, -1)
        if asked and self._credit.level(now) > -REPAIRS_SAVED_MAX:
            self._credit.spend(now, 1)

    def may_repair(self, now: float) -> bool:
        return self._repairs.level(now) >= 1 and self._credit.level(now) >= 1

    def repair_due(self) -> float:
        """When ROOM_REPAIR_PER_S allows another repair. One that finds no credit at that time is
        not sent at all: if it waited, all members would send theirs at the next NACK."""
        return self._repairs.when()

    def bulk(self, messages: int, size: int, standing: bool, now: float) -> bool:
        """Whether one member may be asked for `messages` of `size` bytes each."""
        size *= messages
        if self._bulk.level(now) < size:
            return False
        if not standing and not self._strangers.take(now, messages):
            return False
        self._bulk.spend(now, size)
        return True

    def may_retry(self, now: float) -> bool:
        """Whether what only strangers promise may be asked for again."""
        return self._retries.level(now) >= 1

    def retry_due(self) -> float:
        """When `may_retry` will say yes, if no repair comes before."""
        return self._retries.when()

    def retried(self, now: float) -> None:
        """A NACK asked for what a stranger promises."""
        self._retries.spend(now, 1 if self._retries.level(now) > -RETRIES_BURST else 0)
