"""What must hold, judged from outside: by what members show and by what they put on the wire.

Every message that a member said has a number `g` in the order of saying. For each member and
message there is one byte of state:

    state       shown, no mark     shown, marked late    a later one of this sender is shown
    OPEN        -> SHOWN (1)       violation             -> SKIPPED if reported lost (2)
    SHOWN       twice              twice                 fine
    SKIPPED     violation          -> SHOWN              fine

(1) all earlier ones of the same sender must be SHOWN or SKIPPED by then;
(2) or not reported when it was said before the member joined: then BEFORE, which is never shown.
    A newcomer cannot know what was said before it came, so its first seconds (NEWCOMER_S)
    count as before. (`lacking` still tells when a live member could have given it.)

A rule that is broken raises `Violation` at once; `kind` says which rule.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any

from evloop.room.reliable.limits import NEWCOMER_S
from tests.support.pairs import both

if TYPE_CHECKING:
    from evloop.room.reliable.session import RoomSession

HISTORY_LAST = 200  # a late joiner asks for so many of each sender

OPEN, SHOWN, SKIPPED, BEFORE = range(4)

DATA, NACK, SESSION, BYE, REPAIR, UNICAST = range(6)
# What a member may send: (a second, at once), by kind; then the bytes of all kinds together.
RATES = {
    DATA: (5.0, 10.0),
    NACK: (5.0, 20.0),
    SESSION: (20.0, 20.0),
    BYE: (1.0, 3.0),
    REPAIR: (20.0, 20.0),
    UNICAST: (400.0, 400.0),
}
BYTES_RATE = (64_000.0, 64_000.0)


class Violation(AssertionError):
    """The session broke a rule: `kind` of rule, what happened, virtual second."""

    def __init__(self, kind: str, sentence: str, now: float) -> None:
        super().__init__(f"{kind}: {sentence} (at {now:.6f} s)")
        self.kind = kind


class _View:
    """What one member has been seen to show."""

    __slots__ = ("buckets", "gone", "joined", "last_seq", "present", "reported", "sender", "state")

    def __init__(self, sender: bytes, now: float) -> None:
        self.sender = sender
        self.joined = now
        self.gone = False
        self.state = bytearray()
        self.reported: dict[bytes, int] = {}  # lost messages reported and not yet stepped over
        self.present: set[int] = set()  # senders (by number) shown as joined and not as left
        self.last_seq = -1  # of its own DATA on the wire
        self.buckets = [[burst, now] for _, burst in RATES.values()] + [[BYTES_RATE[1], now]]


class Oracle:
    """Judges one world.

    `latencies` holds seconds from `say` to screen, of messages from `measure_from` on.
    """

    def __init__(self) -> None:
        self.saying: tuple[str, int] | None = None  # what the next own message must be
        self.latencies = array("d")
        self.measure_from = 0  # number of the first message whose latency counts
        self.conflicts_allowed = False
        self.strange = 0  # messages of invented members that were shown out of place
        self.forgiving = False  # strangers say what they like: what nobody said may be shown
        self.contested: set[tuple[bytes, int]] = set()  # numbers of members that strangers used
        self.gone: dict[tuple[bytes, int], int] = {}  # reported as gone, by (sender, member)
        self.closed = False  # nobody but members can speak or be present: the room is sealed
        self.conflicts = 0
        self.lost = 0  # messages reported as gone, over all members
        self.early = 0  # messages shown before their parents
        self.said_at = array("d")
        self.have: list[int] = []  # how many live members have shown it
        self.live = 0
        self._views: list[_View] = []
        self._numbers: dict[tuple[bytes, int], int] = {}
        self._keys: list[tuple[bytes, int]] = []  # the same, by number
        self._last: dict[bytes, int] = {}  # newest message of each sender
        self._bodies: list[tuple[str, int, str]] = []  # name, kind, text
        self._twins: dict[int, set[tuple[str, int, str]]] = {}  # further bodies forgers made
        self._forged: dict[bytes, int] = {}  # next number of each forged sender
        self._before: list[int] = []  # the sender's previous message, -1: none
        self._senders: dict[bytes, int] = {}

    # -- what happened -----------------------------------------------------------------------

    def joined(self, index: int, sender: bytes, now: float) -> None:
        """Member `index` joins under the id `sender`."""
        assert index == len(self._views)
        self._views.append(_View(sender, now))
        self.live += 1

    def left(self, index: int) -> None:
        """Member `index` is gone: what only it held need reach nobody."""
        view = self._views[index]
        view.gone = True
        self.live -= 1
        for number, state in enumerate(view.state):
            if state == SHOWN:
                self.have[number] -= 1

    def forged(self, sender: bytes, seq: int, name: str, text: str, now: float) -> None:
        """A stranger makes DATA: members may show it, and then only as it was made.

        New numbers of one sender must come in rising order; those left out are orphans.
        """
        body = (name, 0, text)
        number = self._numbers.get((sender, seq))
        if number is None:
            for hole in range(self._forged.get(sender, 0), seq):
                self._said(sender, hole, ("", 0, "left out"), now)
            self._said(sender, seq, body, now)
            self._forged[sender] = seq + 1
        else:
            self._twins.setdefault(number, set()).add(body)

    def _said(self, sender: bytes, seq: int, body: tuple[str, int, str], now: float) -> int:
        number = len(self._bodies)
        self._numbers[sender, seq] = number
        self._keys.append((sender, seq))
        self._bodies.append(body)
        self._before.append(self._last.get(sender, -1))
        self._last[sender] = number
        self.said_at.append(now)
        self.have.append(0)
        return number

    def shown(self, index: int, events: list[Any], now: float) -> None:
        """Member `index` shows `events`."""
        view = self._views[index]
        for event in events:
            kind = event.what
            if kind == "message":
                if event.mark != "plain":
                    self._message(index, view, event, now)
            elif kind == "joined" or kind == "left":
                self._presence(index, view, event, now)
            elif kind == "lost":
                sender, count = event.sender, event.count
                self.gone[sender, index] = self.gone.get((sender, index), 0) + count
                view.reported[sender] = view.reported.get(sender, 0) + count
                self.lost += count
            elif kind == "conflict":
                self.conflicts += 1
                if not self.conflicts_allowed:
                    raise Violation("conflict", f"m{index} reports {event}, nobody forged", now)
            elif kind not in ("renamed", "full", "repeated", "other_key"):
                raise Violation("event", f"m{index} shows an unknown event {event}", now)

    def _message(self, index: int, view: _View, event: Any, now: float) -> None:
        _, sender, seq, name, kind, text, _, mark, _ = event
        body = (name, kind, text)
        if sender == view.sender:
            self._own(index, view, seq, body, now)
            return
        number = self._numbers.get((sender, seq))
        where = f"m{index}: {sender.hex()[-4:]}/{seq}"
        if number is None:
            if self.forgiving:
                return
            raise Violation("invented", f"{where} {text!r} was never said", now)
        if (sender, seq) in self.contested:
            return
        if self._bodies[number] != body and body not in self._twins.get(number, ()):
            raise Violation("invented", f"{where} is {body}, not {self._bodies[number]}", now)
        state = view.state
        if number >= len(state):
            state.extend(bytes(len(self._bodies) - len(state)))
        if state[number] == SHOWN:
            raise Violation("twice", f"{where} is shown again, marked {mark!r}", now)
        # What was before its time may have been stepped over without a word, and come after all.
        late = state[number] in (SKIPPED, BEFORE)
        if late != (mark == "late") and not self._spared(sender):
            raise Violation("order", f"{where} comes too late, marked {mark!r}", now)
        if mark != "late":
            self._step_over(view, self._before[number], sender, where, now)
        if mark == "early":
            self.early += 1
        state[number] = SHOWN
        self.have[number] += 1
        if number >= self.measure_from and self.said_at[number] >= view.joined:
            self.latencies.append(now - self.said_at[number])

    def invented(self, sender: bytes) -> bool:
        """Whether `sender` is nobody: a forger made it up."""
        return all(view.sender != sender for view in self._views)

    def _spared(self, sender: bytes) -> bool:
        """Whether a message of `sender` may be out of place: counted, when nobody ever said it."""
        if not self.invented(sender):
            return False
        self.strange += 1
        return True

    def _own(
        self, index: int, view: _View, seq: int, body: tuple[str, int, str], now: float
    ) -> None:
        if self.saying is None or self.saying != (body[2], body[1]):
            raise Violation("invented", f"m{index} shows own {body} when it said nothing", now)
        self.saying = None
        if (view.sender, seq) in self._numbers:
            raise Violation("twice", f"m{index} uses its number {seq} twice", now)
        number = self._said(view.sender, seq, body, now)
        view.state.extend(bytes(number + 1 - len(view.state)))
        view.state[number] = SHOWN
        self.have[number] += 1

    def _step_over(self, view: _View, number: int, sender: bytes, where: str, now: float) -> None:
        # `number` and what is OPEN before it will not be shown in their place any more.
        state = view.state
        if number < 0 or state[number] != OPEN:
            return
        over = []
        while number >= 0 and state[number] == OPEN:
            if not self.contested or self._keys[number] not in self.contested:
                over.append(number)
            number = self._before[number]
        for early in over:
            if self.said_at[early] < view.joined + NEWCOMER_S:
                state[early] = BEFORE
        over = [later for later in over if state[later] == OPEN]
        credit = view.reported.get(sender, 0)
        if len(over) > credit and not self._spared(sender):
            raise Violation(
                "order", f"{where} is shown over a gap of {len(over)}, reported {credit}", now
            )
        if over:
            view.reported[sender] = 0
            for skipped in over:
                state[skipped] = SKIPPED

    def _presence(self, index: int, view: _View, event: Any, now: float) -> None:
        if self.closed and self.invented(event.sender):
            raise Violation("presence", f"m{index} shows {event}, who is nobody", now)
        number = self._senders.setdefault(event.sender, len(self._senders))
        if (number in view.present) == (event.what == "joined"):
            raise Violation("presence", f"m{index} shows {event} a second time", now)
        if event.what == "joined":
            view.present.add(number)
        else:
            view.present.discard(number)

    # -- bounds ------------------------------------------------------------------------------

    def sent(self, index: int, kind: int, data: bytes, now: float) -> None:
        """Member `index` puts `data` on the wire: judge its rates (rule 12)."""
        view = self._views[index]
        size = len(data)
        if size > 1_200:
            raise Violation("bounds", f"m{index} sends {size} bytes", now)
        self._take(view, -1, BYTES_RATE, size, index, now)
        if kind == DATA:
            seq = int.from_bytes(data[16:20], "big")
            if seq <= view.last_seq:
                return  # a copy: bounded by the bytes alone
            view.last_seq = seq
        self._take(view, kind, RATES[kind], 1, index, now)

    def _take(
        self,
        view: _View,
        which: int,
        rate: tuple[float, float],
        amount: int,
        index: int,
        now: float,
    ) -> None:
        bucket = view.buckets[which]
        left = min(rate[1], bucket[0] + rate[0] * (now - bucket[1])) - amount
        if left < -1e-6:
            what = ("bytes", "DATA", "NACK", "SESSION", "BYE", "REPAIR", "unicast")[which + 1]
            raise Violation("rate", f"m{index} sends too many {what}", now)
        bucket[0] = left
        bucket[1] = now

    def refill(self, index: int) -> None:
        """The clock of member `index` leapt, and filled its buckets."""
        buckets = self._views[index].buckets
        for bucket, (_, burst) in both(buckets, [*RATES.values(), BYTES_RATE]):
            bucket[0] = burst

    def judge_bounds(self, index: int, session: RoomSession, now: float) -> None:
        """Tables of member `index` within the caps of rules 11 and 12."""
        stats = session.stats()
        for name, most in (
            ("history", 4_096),
            ("history_bytes", 4 << 20),
            ("gaps", 2_048),
            ("senders", 1_024),
            ("members", 16_384),
        ):
            if not 0 <= stats[name] <= most:
                raise Violation("bounds", f"m{index} has {name} = {stats[name]}", now)

    # -- healing -----------------------------------------------------------------------------

    def complete(self, start: int = 0) -> bool:
        """Every message that a live member has shown was shown by all (quick, no exceptions)."""
        live = self.live
        return all(have == live or have == 0 for have in self.have[start:])

    def orphaned(self) -> bool:
        """Some message was shown by nobody who is still there: it may exist nowhere any more."""
        return 0 in self.have

    def lacking(self, *, spare_orphans: bool = False) -> list[tuple[int, int]]:
        """(member, message) for each message that a live member lacks and another one has.

        With `spare_orphans`, what follows an orphaned message of its sender does not count:
        it waits until the orphan is given up, at a time of each member's own.
        """
        newer: dict[int, int] = {}  # messages of the same sender after this one
        behind: dict[int, int] = {}
        for number in range(len(self._before) - 1, -1, -1):
            newer[number] = behind.get(number, 0)
            if self._before[number] >= 0:
                behind[self._before[number]] = newer[number] + 1
        lacks = []
        waits = [False] * len(self.have)
        for number, have in enumerate(self.have):
            before = self._before[number]
            waits[number] = spare_orphans and (have == 0 or (before >= 0 and waits[before]))
            if have == self.live or have == 0 or waits[number]:
                continue
            for index, view in enumerate(self._views):
                if view.gone or self.state(index, number) == SHOWN:
                    continue
                if self.said_at[number] < view.joined and newer[number] >= HISTORY_LAST:
                    continue
                lacks.append((index, number))
        return lacks

    def by_people(self, lacks: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """Those of `lacks` whose message somebody real has said."""
        invented = {
            number for (sender, _), number in self._numbers.items() if self.invented(sender)
        }
        return [(index, number) for index, number in lacks if number not in invented]

    def numbers(self) -> list[tuple[bytes, int]]:
        """(sender, seq) of every message that was said."""
        return self._keys

    def lacking_uncontested(self) -> list[tuple[int, int]]:
        """(member, message) for what a live member lacks, though no stranger used its number."""
        return [
            (index, number)
            for number, key in enumerate(self._keys)
            if key not in self.contested and self.have[number] != self.live
            for index, view in enumerate(self._views)
            if not view.gone and self.state(index, number) != SHOWN
        ]

    def undelivered(self) -> int:
        """Messages that live members lack although they were present when they were said.

        Counts what nobody but a dead sender ever held, too: the promise does not, but a room
        whose members all stay must deliver everything.
        """
        missing = 0
        for number, have in enumerate(self.have):
            if have == self.live:
                continue
            missing += sum(
                not view.gone
                and view.joined <= self.said_at[number]
                and self.state(index, number) != SHOWN
                for index, view in enumerate(self._views)
            )
        return missing

    def state(self, index: int, number: int) -> int:
        """OPEN, SHOWN, SKIPPED or BEFORE."""
        state = self._views[index].state
        return state[number] if number < len(state) else OPEN

    def spelt(self, number: int) -> str:
        """Message `number` for a report."""
        for (sender, seq), found in self._numbers.items():
            if found == number:
                return f"{sender.hex()[-4:]}/{seq} said at {self.said_at[number]:.3f}"
        return str(number)
