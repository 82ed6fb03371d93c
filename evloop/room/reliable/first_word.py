"""Why my first DATA may wait a little: what was said before has to sort before it (rule 1).

`/history` is sorted by Lamport time, and a member that has heard nothing is at 1: a line sent by
`say` from cron would stand above all that was said before. So, before the first DATA of mine:

    heard so far                        then
    any DATA                            it goes at once: my Lamport time is right
    nothing, and I came just now        it waits for a SESSION, until FIRST_WORD_S after I came
    a SESSION that lists no message     it goes at once: there is none
    a SESSION that lists some           I ask for the newest of the first sender listed, and wait
                                        for that, FIRST_WORD_S at most

Who waits for confirmation, as `say` does, is in no hurry: FIRST_WORD_ASKED_S instead.
"""

from __future__ import annotations

from evloop.room.reliable.limits import FIRST_WORD_ASKED_S, FIRST_WORD_S
from evloop.room.reliable.packets import NOBODY, nack_body
from evloop.system.timers import NEVER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from evloop.room.reliable.egress import Egress
    from evloop.room.reliable.message_log import MessageLog


class FirstWord:
    """Judges whether my first DATA waits."""

    __slots__ = ("_egress", "_message_log", "_over", "_since", "_target")

    def __init__(self, message_log: MessageLog, egress: Egress, now: float) -> None:
        self._message_log = message_log
        self._egress = egress
        self._target: tuple[bytes, int] | None = None  # the message that I wait for
        self._over = False
        self._since = now  # when the wait began that is going on

    def due(self, soliciting: bool, patient: bool) -> float:
        """When my first DATA is sent at the latest (-inf: now), or when `waits` has something to
        do. `soliciting`: no SESSION has told yet which messages there are. `patient`: I wait for
        confirmation, or shall."""
        log = self._message_log
        if self._over:
            return -NEVER
        if self._target is None:
            waits = soliciting and len(log.streams) == 1 and not len(log.claims)
        else:
            stream = log.streams.get(self._target[0])
            waits = stream is None or not stream.knows(self._target[1])
        if not waits:
            return -NEVER
        return self._since + (FIRST_WORD_ASKED_S if patient else FIRST_WORD_S)

    def waits(self, soliciting: bool, patient: bool, now: float) -> bool:
        """Whether it waits; asks for what it waits for."""
        claim = self._message_log.claims.first()
        if claim and not self._target and not self._over and len(self._message_log.streams) == 1:
            origin, hi = claim
            self._target = origin, hi - 1
            self._since = now
            if self._egress.may_nack(now):
                self._egress.say_nack(nack_body(NOBODY, [(origin, hi - 1, hi)]), now)
        self._over = now >= self.due(soliciting, patient)
        return not self._over
