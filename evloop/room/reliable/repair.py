"""What others lack and I may send them: rules 5 and 6 of the room.

Who answers a NACK to anyone, and when (`Repairs`):

One message that somebody asked for:

    state     asked                                 repair heard        due
    idle      source: within d, -> due              -> held             -
              other: -> due with a probability
    due       asked again: more likely              -> held             send it, -> held
    held      nothing, until the hold-down ends     hold-down anew      (idle)

The source answers within one delay d. Another holder waits 3 d and a drawn part of 8 d, so that the
source, or the first of the others, silences the rest. Only about VOLUNTEERS of all holders answer
a first ask, and four times as many with each repeated ask. While the source is present, a first ask
finds a quarter of that: with loss, holders that miss the source's repair would repair once more
(at 30 % loss this spares about every third repair: 1.7 repairs for each NACK became 1.2).

A NACK to me asks for many messages by unicast (late joiners, healed partitions). `BulkServer`
serves one asker at a time:

    state     asked by A                      asked by B      bucket has a token    nothing left
    free      take what A's minute allows,    the same        -                     -
              -> serving A
    serving A add what is new                 nothing         send one              -> free

Both send the stored bytes, as far as the caps allow.
"""

from __future__ import annotations

from evloop.room.reliable.limits import (
    ASK_REMEMBERED_S,
    ASKS_REMEMBERED_MAX,
    BULK_ASKED_MAX,
    BULK_ASKERS_MAX,
    BULK_PER_MINUTE,
    BULK_PER_STEP,
    NACK_MESSAGES_MAX,
    REPAIR_BURST,
    VOLUNTEERS,
)
from evloop.room.reliable.packets import NOBODY
from evloop.room.reliable.suppression import window_wait
from evloop.system.timers import NEVER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from random import Random

    from evloop.room.reliable.delay import Delay
    from evloop.room.reliable.egress import Egress, Outbox
    from evloop.room.reliable.membership import Membership
    from evloop.room.reliable.message_log import MessageLog
    from evloop.room.reliable.packets import Range

    Key = tuple[bytes, int]

ROUNDS_MAX = 32  # repeated asks that are counted: by then all holders answer, however many
DUE_MAX = 3 * REPAIR_BURST  # answers that wait: as many as the rate lets through in two seconds


class Ask:
    """What is remembered of one message that was asked for."""

    __slots__ = ("count", "heard", "held_until", "open")

    def __init__(self) -> None:
        self.count = 0
        self.heard = float("-inf")  # the last ask that counted
        self.held_until = float("-inf")
        self.open = False  # asked for, and not answered since


class Repairs:
    """The answers that this member owes the room: to NACKs that ask anyone."""

    __slots__ = (
        "_asks", "_delay", "_egress", "_message_log", "_outbox", "_presence", "_rng", "due",
    )  # fmt: skip

    def __init__(
        self,
        rng: Random,
        message_log: MessageLog,
        outbox: Outbox,
        presence: Membership,
        delay: Delay,
        egress: Egress,
    ) -> None:
        self._rng = rng
        self._message_log = message_log
        self._outbox = outbox
        self._presence = presence
        self._delay = delay
        self._egress = egress
        self._asks: dict[Key, Ask] = {}  # the order is that of the first ask
        self.due: dict[Key, float] = {}

    def full(self) -> bool:
        """More answers are due than can be sent in time: consider no further asks."""
        return len(self.due) >= DUE_MAX

    def _ask(self, key: Key) -> Ask:
        ask = self._asks.get(key)
        if ask is None:
            if len(self._asks) >= ASKS_REMEMBERED_MAX:
                # One member's many asks must not take away the answers owed to others.
                spare = (known for known in self._asks if known not in self.due)
                oldest = next(spare, None) or next(iter(self._asks))
                del self._asks[oldest]
                self.due.pop(oldest, None)
            ask = self._asks[key] = Ask()
        return ask

    def asked(self, listed: list[Range], now: float) -> None:
        """A NACK to anyone asks for `listed`."""
        self._egress.room.asked(now)
        if self.full():
            return
        own = self._message_log.own.sender
        for key in self._message_log.held(listed):
            # A message that is still to be repeated unasked needs no repair.
            if key[0] != own or not self._outbox.repeats(key[1]):
                self.consider(key, now)
            if self.full():
                return

    def consider(self, key: Key, now: float) -> None:
        """A NACK to anyone names `key`, which I hold: decide whether to answer it, and when."""
        ask = self._ask(key)
        if self.held(ask, now):
            return
        delay = self._delay.value
        source = key[0] == self._message_log.own.sender
        ask.open = True
        if now > ask.heard + ASK_REMEMBERED_S:
            ask.count = 0
        if now > ask.heard + 6 * delay:  # else the same round: several asked at once
            ask.count = min(ask.count + 1, ROUNDS_MAX)
            ask.heard = now
        elif not source:
            return
        if key in self.due:
            return
        if source:
            self.due[key] = now + delay * self._rng.random()
            return
        members = self._presence.size()
        present = key[0] in self._presence.members  # its source can answer itself
        if self._rng.random() < VOLUNTEERS / members * 4 ** (ask.count - 1 - present):
            self.due[key] = now + 3 * delay + window_wait(self._rng, 8 * delay, members)

    def held(self, ask: Ask, now: float) -> bool:
        """Whether the hold-down of `ask` lasts: a repair was heard or sent not long ago."""
        return now < ask.held_until

    def heard(self, key: Key, now: float) -> None:
        """Somebody repaired `key`: I need not, and it counts in the budget of the room."""
        self._egress.room.repaired(self.answered(key, now), now)

    def answered(self, key: Key, now: float) -> bool:
        """A repair of `key` was heard or sent: hold down. Whether that answers an ask."""
        self.due.pop(key, None)
        ask = self._ask(key)
        ask.held_until = now + 20 * self._delay.far
        was_open, ask.open = ask.open, False
        return was_open

    def deadline(self) -> float:
        """When to call `handle_timer`: an answer is due, and the caps allow it."""
        if not self.due:
            return NEVER
        return max(min(self.due.values()), self._egress.repair_due())

    def take_due(self, now: float) -> list[Key]:
        """The answers whose time has come, in their order."""
        due = sorted((when, key) for key, when in self.due.items() if when <= now)
        for _, key in due:
            del self.due[key]
        return [key for _, key in due]

    def handle_timer(self, now: float) -> None:
        """Send the answers that are due."""
        if not self.due:
            return
        for key in self.take_due(now):
            message = self._message_log.history.get(key)
            own = key[0] == self._message_log.own.sender
            if message is not None and self._egress.say_repair(message.datagram, own, now):
                self.answered(key, now)


class BulkServer:
    """The answers that this member owes to one asker at a time: to NACKs that name it."""

    __slots__ = (
        "_asker", "_egress", "_message_log", "_source", "_used", "queue",
    )  # fmt: skip

    def __init__(self, message_log: MessageLog, egress: Egress) -> None:
        self._message_log = message_log
        self._egress = egress
        self._asker = NOBODY
        self._source: object = None  # where the asker's NACK came from
        self.queue: dict[Key, None] = {}  # the next one first
        self._used: dict[bytes, tuple[float, int]] = {}  # asker: (since, messages)

    def asked(
        self,
        asker: bytes,
        to: bytes,
        listed: list[Range],
        source: object,
        standing: bool,
        now: float,
    ) -> None:
        """A NACK of `asker`, a member of `standing`, sent from `source`, asks the member `to` for
        `listed`."""
        # Every member counts what any member is asked for; the size of a message is estimated as
        # the average of those held.
        room = self._egress.room
        # Who is new here cannot tell strangers apart.
        standing = standing or not self._message_log.settled(now)
        history = self._message_log.history
        size = history.size // max(len(history), 1)
        if to != self._message_log.own.sender:
            wanted = sum([max(0, hi - lo) for _, lo, hi in listed])
            room.bulk(min(wanted, BULK_ASKED_MAX), size, standing, now)
        elif self.free(asker):
            keys = self._message_log.held(listed)
            if room.bulk(len(keys), size, standing, now):
                for key in keys:
                    if not self.ask(asker, source, key, now):
                        break

    def free(self, asker: bytes) -> bool:
        """Whether `asker` would be served."""
        return not self.queue or asker == self._asker

    def ask(self, asker: bytes, source: object, key: Key, now: float) -> bool:
        """Queue `key` for `asker`, which must be `free`; False when its minute is used up."""
        if key in self.queue:
            return True
        since, used = self._used.get(asker, (now, 0))
        if now >= since + 60.0:
            since, used = now, 0
        if used >= BULK_PER_MINUTE or len(self.queue) >= NACK_MESSAGES_MAX:
            return False
        self._used[asker] = (since, used + 1)
        if len(self._used) > BULK_ASKERS_MAX:
            del self._used[next(iter(self._used))]
        self._asker = asker
        self._source = source
        self.queue[key] = None
        return True

    def take(self) -> Key:
        """The next message to send."""
        key = next(iter(self.queue))
        del self.queue[key]
        return key

    def deadline(self) -> float:
        """When to call `handle_timer`."""
        return self._egress.bulk_due() if self.queue else NEVER

    def handle_timer(self, now: float) -> None:
        """Send what the caps allow now, BULK_PER_STEP at most."""
        for _ in range(min(BULK_PER_STEP, len(self.queue))):
            if not self._egress.may_bulk(now):
                break
            message = self._message_log.history.get(self.take())
            if message is not None:
                self._egress.say_bulk(message.datagram, self._source, now)
