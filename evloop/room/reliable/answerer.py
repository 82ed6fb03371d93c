"""What others lack and I may send them: rules 5 and 6 of the room.

A NACK to anyone is a matter of `repairs` (who, and when), one to me of `bulk` (one asker at a
time); both send the stored bytes, as far as the caps allow.
"""

from evloop.room.reliable.packets import NOBODY, RELAYED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from evloop.room.reliable.bulk import BulkServer
    from evloop.room.reliable.egress import Outbox
    from evloop.room.reliable.estimators import Delay
    from evloop.room.reliable.membership import Presence
    from evloop.room.reliable.message_log import Ledger
    from evloop.room.reliable.packets import Range
    from evloop.room.reliable.repair import Repairs
    from evloop.room.reliable.voice import Voice

    Key = tuple[bytes, int]


NEVER = float("inf")


class Answerer:
    """The answering half of one session."""

    __slots__ = ("_bulk", "_delay", "_ledger", "_outbox", "_presence", "_repairs", "_voice")

    def __init__(
        self,
        repairs: "Repairs",
        bulk: "BulkServer",
        ledger: "Ledger",
        outbox: "Outbox",
        presence: "Presence",
        delay: "Delay",
        voice: "Voice",
    ) -> None:
        self._repairs = repairs
        self._bulk = bulk
        self._ledger = ledger
        self._outbox = outbox
        self._presence = presence
        self._delay = delay
        self._voice = voice

    def heard_repair(self, flags: int, key: "Key", now: float) -> None:
        """A DATA came; when it was a repair, it counts and I need not send it."""
        if flags & RELAYED:
            self._voice.room.take(now)
            self._repairs.answered(key, now, self._delay.value)

    def asked(
        self, asker: bytes, to: bytes, listed: "list[Range]", source: object, now: float
    ) -> None:
        """A NACK of `asker`, sent from `source`, to one member or NOBODY."""
        if to == NOBODY:
            self._volunteer(listed, now)
        elif to == self._ledger.own.sender and self._bulk.free(asker):
            for key in self._ledger.held(listed):
                if not self._bulk.ask(asker, source, key, now):
                    break

    def _volunteer(self, listed: "list[Range]", now: float) -> None:
        if self._repairs.full():
            return
        members = self._presence.size()
        own = self._ledger.own.sender
        for sender, seq in self._ledger.held(listed):
            # What will come again by itself needs no repair.
            if sender != own or not self._outbox.repeats(seq):
                key = sender, seq
                present = sender in self._presence.members
                self._repairs.asked(key, sender == own, present, now, self._delay.value, members)
            if self._repairs.full():
                return

    def deadline(self) -> float:
        """When to call `handle_timer`."""
        due = NEVER
        if self._repairs.due:
            due = max(self._repairs.deadline(), self._voice.repair_due())
        if self._bulk.queue:
            due = min(due, self._voice.bulk_due())
        return due

    def handle_timer(self, now: float) -> None:
        """Send the answers that are due."""
        if self._repairs.due:
            self._send_repairs(now)
        while self._bulk.queue and self._voice.may_bulk(now):
            message = self._ledger.history.get(self._bulk.take())
            if message is not None:
                self._voice.say_bulk(message.datagram, self._bulk.source, now)

    def _send_repairs(self, now: float) -> None:
        for key in self._repairs.take_due(now):
            message = self._ledger.history.get(key)
            if message is not None and self._voice.say_repair(message.datagram, now):
                self._repairs.answered(key, now, self._delay.value)
