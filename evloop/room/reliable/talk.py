"""My own messages on their way out: when each is sent, and with how many unasked copies.

state of a message   may be sent (rate, first word)   its copies' time has come
queued               sent, copies announced           -
sent                 -                                each is sent
"""

from __future__ import annotations

from evloop.room.reliable.estimators import LossMeter
from evloop.room.reliable.first_word import FirstWord

TYPE_CHECKING = False
if TYPE_CHECKING:
    from random import Random

    from evloop.room.reliable.announce import Announcer
    from evloop.room.reliable.egress import Egress, Outbox
    from evloop.room.reliable.membership import Membership
    from evloop.room.reliable.message_log import MessageLog
    from evloop.room.reliable.nack import NackRequester
    from evloop.room.reliable.suppression import Trickle


class Talk:
    """What `outbox` holds goes out here, as the caps allow."""

    __slots__ = (
        "_announcer", "_asker", "_egress", "_first_word", "_log", "_loss", "_outbox", "_presence",
        "_rng", "_trickle", "patient",
    )  # fmt: skip

    def __init__(
        self,
        outbox: Outbox,
        message_log: MessageLog,
        presence: Membership,
        loss: LossMeter,
        asker: NackRequester,
        announcer: Announcer,
        trickle: Trickle,
        egress: Egress,
        rng: Random,
        now: float,
    ) -> None:
        self._outbox = outbox
        self._log = message_log
        self._presence = presence
        self._loss = loss
        self._asker = asker
        self._announcer = announcer
        self._trickle = trickle
        self._egress = egress
        self._rng = rng
        self._first_word = FirstWord(message_log, egress, now)
        self.patient = False  # I wait for confirmation, or shall

    def deadline(self) -> float:
        """When to call `send` or `send_copies`."""
        due = self._outbox.deadline()
        return min(due, self._data_due()) if self._outbox.queue else due

    def _data_due(self) -> float:
        due = self._egress.data_due()
        if self._log.own.hi:
            return due
        return max(due, self._first_word.due(self._announcer.soliciting, self.patient))

    def send(self, now: float) -> bool:
        """Send what may be sent now; whether anything was."""
        queue = self._outbox.queue
        if queue and not self._log.own.hi:
            if self._first_word.waits(self._announcer.soliciting, self.patient, now):
                return False
            self._log.date_again(queue)
        sent = False
        while queue and self._egress.may_data(now):
            sent = True
            message = queue.pop(0)
            size = len(message.datagram)
            most = self._egress.copies_afforded(size, now)
            more = self._presence.copies(
                self._rng, most, lambda: self._loss.percent(now), self._log.newcomer(now)
            )
            self._egress.reserve(more * size, now)
            self._egress.emit(self._outbox.announce(message, more, now), None, "sent", now)
            self._log.sent(message, now)
            self._asker.announced(more, now)
            self.news(now)
        return sent

    def send_copies(self, now: float) -> None:
        """Send the copies that are due."""
        while (datagram := self._outbox.take_copy(now)) is not None:
            self._egress.emit_copy(datagram, now)

    def news(self, now: float) -> None:
        """There is new data: soon somebody should tell what all must have by now."""
        self._trickle.news(now, self._presence.size(), self._asker.copies_until)
