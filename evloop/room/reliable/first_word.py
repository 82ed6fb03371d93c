"""Why my first DATA may wait a little: what was said before has to sort before it (rule 1).

`/history` is sorted by Lamport time, and a member that has heard nothing is at 1: a line sent by
`say` from cron would stand above all that was said before. So, before the first DATA of mine:

    heard so far                        then
    any DATA                            it goes at once: my Lamport time is right
    nothing, and I came just now        it waits for a SESSION, until FIRST_WORD_S after I came
    a SESSION that lists no message     it goes at once: there is none
    a SESSION that lists some           I ask for the newest of the first sender listed, and wait
                                        for that, FIRST_WORD_S at most
"""

from __future__ import annotations

from evloop.room.reliable.limits import FIRST_WORD_S
from evloop.room.reliable.packets import NOBODY, nack_body
from evloop.system.timers import NEVER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from evloop.room.reliable.egress import Egress
    from evloop.room.reliable.message_log import MessageLog


class FirstWord:
    """Judges whether my first DATA waits."""

    __slots__ = ("_egress", "_message_log", "_over", "_target", "_until")

    def __init__(self, message_log: MessageLog, egress: Egress, now: float) -> None:
        self._message_log = message_log
        self._egress = egress
        self._target: tuple[bytes, int] | None = None  # the message that I wait for
        self._over = False
        self._until = now + FIRST_WORD_S

    def due(self, soliciting: bool) -> float:
        """When my first DATA is sent at the latest (-inf: now), or when `waits` has something to
        do. `soliciting`: no SESSION has told yet which messages there are."""
        log = self._message_log
        if self._over:
            return -NEVER
        if self._target is None:
            waits = soliciting and len(log.streams) == 1 and not len(log.claims)
        else:
            stream = log.streams.get(self._target[0])
            waits = stream is None or not stream.knows(self._target[1])
        return self._until if waits else -NEVER

    def waits(self, soliciting: bool, now: float) -> bool:
        """Whether it waits; asks for what it waits for."""
        claim = self._message_log.claims.first()
        if claim and not self._target and not self._over and len(self._message_log.streams) == 1:
            origin, hi = claim
            self._target = origin, hi - 1
            self._until = now + FIRST_WORD_S
            if self._egress.may_nack(now):
                self._egress.say_nack(nack_body(NOBODY, [(origin, hi - 1, hi)]), now)
        self._over = now >= self.due(soliciting)
        return not self._over
