"""The clock, the members and the network between them.

Time is a heap of `(when, order, action, argument)`; nothing here reads a real clock, and all
chance comes from one `random.Random`, so a seed IS a run. Members are real `RoomSession`s that
exchange real bytes.

The network decides once, when a datagram is sent, who will hear it and when. Its arrivals then
fly as ONE heap entry: a list of `(when, index)` sorted by time, walked for as long as nobody
else's turn comes first, and pushed back from there. Delays stay independent for every receiver,
but the heap is touched a few times a datagram and not once a receiver.

A member's states, and what a datagram or a due timer does in them:

    state      datagram                          timer
    running    receive, pump                     handle_timer, pump
    paused     kept, up to `buffer_most`         waits for `resume`
    gone       dropped                           dropped

Each member has clocks of its own: `offset` (monotonic; jumps forward only) and `wall_offset`.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from heapq import heappop, heappush
from math import inf, nextafter
from random import Random
from struct import Struct
from typing import Any

from evloop.base.errors import Refused
from evloop.room.reliable.session import RoomSession
from tests.simulation import forgery
from tests.simulation.oracle import Oracle, Violation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from evloop.room.events import Event

PLACE = "239.255.7.1:5751"
WALL_START = 1_795_348_800
BURST_DATAGRAMS = 64  # a real reactor reads so many before it pumps
STORM_FIRINGS = 1_000  # a timer that fires so often without time passing will never stop

KINDS = ("data", "nack", "session", "bye", "repair", "unicast")
DATA, NACK, SESSION, BYE, REPAIR, UNICAST = range(6)

_SENT = Struct(">dii")


class Member:
    """One session, its clocks and its ears."""

    __slots__ = (
        "armed",
        "buffer",
        "buffer_most",
        "deaf",
        "extra_delay",
        "fired",
        "fired_at",
        "gone",
        "index",
        "joined",
        "loss",
        "offset",
        "running",
        "session",
        "side",
        "wall_offset",
    )

    def __init__(self, index: int, session: RoomSession, now: float, loss: float) -> None:
        self.index = index
        self.session = session
        self.joined = now
        self.loss = loss  # chance that a datagram is not heard
        self.deaf = False  # a burst of loss: hears nothing at all
        self.side = 0  # of a partition
        self.extra_delay = 0.0
        self.running = True
        self.gone = False
        self.buffer: list[tuple[bytes, object, bool]] = []
        self.buffer_most = 6_000
        self.offset = 0.0
        self.wall_offset = 0
        self.armed = inf  # when the heap will wake this member; stale entries differ from it
        self.fired = 0
        self.fired_at = -inf

    def __str__(self) -> str:
        return f"m{self.index}({self.session.sender_id.hex()[-4:]})"


class World:
    """A room full of members, and everything that happens to them."""

    def __init__(
        self, seed: int, *, tell: Callable[[str], None] | None = None, key: bytes = b""
    ) -> None:
        self.rng = Random(seed)
        self.key = key  # of the room; empty: it is open
        self.now = 0.0
        self.tell = (lambda line: tell(f"{self.now:11.6f} {line}")) if tell else None
        self.members: list[Member] = []
        self.oracle = Oracle()
        self.cut = False  # the network is down altogether
        self.delay = (0.0002, 0.001)  # seconds, lowest and highest
        self.loss = 0.0  # of members to come
        self.duplication = 0.0
        self.straggling = (0.0, 0.0)  # chance and greatest length of an extra delay
        self.mutation = 0.0  # chance that a spoilt twin arrives as well
        self.blocked: set[tuple[int, int]] = set()  # (from side, to side)
        self.walled: set[int] = set()  # a firewall keeps away what is sent to them
        self.tape: list[bytes] | None = None  # what was sent, for those who replay it
        self.sent = [0] * len(KINDS)  # datagrams by kind
        self.sent_bytes = 0
        self.delivered = 0  # datagrams handed to sessions
        self.overflowed = 0  # datagrams lost to a full receive buffer
        self.stray: dict[object, int] = {}  # unicast to addresses that are no member's
        self._heap: list[Any] = []  # (when, order, callback, its argument)
        self._order = 0
        self._ears: dict[int, list[tuple[int, float]]] = {}
        self._hash = blake2b(digest_size=8)

    # -- time --------------------------------------------------------------------------------

    def at(self, when: float, action: Callable[..., None], argument: object = None) -> None:
        """Call `action(argument)` at `when`."""
        self._order += 1
        heappush(self._heap, (when, self._order, action, argument))

    def run(self, until: float) -> None:
        """Let everything happen that is due up to and at `until`."""
        heap = self._heap
        running = True

        def stop(_: object) -> None:
            nonlocal running
            running = False

        # The sentinel keeps the heap filled and makes a flight stop in time.
        self.at(nextafter(until, inf), stop)
        while running:
            when, _, action, argument = heappop(heap)
            self.now = when
            action(argument)
        self.now = until

    def trace_hash(self) -> str:
        """A digest of everything sent and shown so far: equal runs have equal ones."""
        return self._hash.hexdigest()

    def digest(self, member: Member) -> int:
        """What `member` would put into a SESSION now."""
        return member.session.digest()

    # -- members -----------------------------------------------------------------------------

    def join(self, name: str, *, offset: float = 0.0, loss: float | None = None) -> Member:
        """A new member joins now; it takes part at once."""
        rng = Random(self.rng.getrandbits(64))
        sender = rng.randbytes(8)
        session = RoomSession(
            place=PLACE, sender_id=sender, nickname=name, rng=rng, now=self.now + offset,
            key=self.key,
        )  # fmt: skip
        index = len(self.members)
        member = Member(index, session, self.now, self.loss if loss is None else loss)
        member.offset = offset
        self.members.append(member)
        self.furnish(member)
        self.oracle.joined(index, sender, self.now)
        self.changed()
        if self.tell:
            self.tell(f"{member} joins as {name}")
        self._pump(member, self.now + offset)
        return member

    def furnish(self, member: Member) -> None:
        """`member` is new: give it what else it needs (nothing, in a world without roads)."""

    def crash(self, member: Member) -> None:
        """`member` is no more, without a word."""
        member.running = False
        member.gone = True
        member.buffer.clear()
        self.oracle.left(member.index)
        self.changed()
        if self.tell:
            self.tell(f"{member} crashes")

    def leave(self, member: Member) -> None:
        """`member` says BYE; the caller crashes it a little later."""
        if member.running:
            now = self.now + member.offset
            member.session.leave(now, self.wall(member))
            self._pump(member, now)

    def pause(self, member: Member, buffer_most: int = 6_000) -> None:
        """Stop `member` (SIGSTOP, a busy machine): its datagrams pile up in the kernel."""
        if member.running:
            member.running = False
            member.buffer_most = buffer_most
            if self.tell:
                self.tell(f"{member} pauses")

    def resume(self, member: Member) -> None:
        """Go on after a pause: the piled up datagrams come in bursts, then what is due."""
        if member.gone or member.running:
            return
        if self.tell:
            self.tell(f"{member} resumes with {len(member.buffer)} datagrams waiting")
        member.running = True
        now = self.now + member.offset
        waiting, member.buffer = member.buffer, []
        for start in range(0, len(waiting), BURST_DATAGRAMS):
            for data, source, direct in waiting[start : start + BURST_DATAGRAMS]:
                self.delivered += 1
                member.session.receive_datagram(data, source, now, True, direct)
            self._pump(member, now)
        member.armed = inf
        self._arm(member, member.session.next_deadline())

    def jump(self, member: Member, seconds: float) -> None:
        """The monotonic clock of `member` leaps forward."""
        member.offset += seconds
        self.oracle.refill(member.index)
        member.armed = inf
        if member.running:
            self._arm(member, member.session.next_deadline())

    def wall(self, member: Member) -> int:
        """Unix seconds, as `member` believes."""
        return WALL_START + int(self.now) + member.wall_offset

    def say(self, member: Member, text: str, kind: int = 0) -> bool:
        """`member` says `text`; False when it is stopped or its queue is full."""
        if not member.running:
            return False
        now = self.now + member.offset
        try:
            member.session.say(text, now, self.wall(member), kind)
        except Refused:
            return False
        if self.tell:
            self.tell(f"{member} says {text[:40]!r}")
        self.oracle.saying = (text, kind)
        self._pump(member, now)
        self.oracle.saying = None
        return True

    def rename(self, member: Member, name: str) -> None:
        """`member` calls itself `name` from now on."""
        if member.running:
            now = self.now + member.offset
            member.session.rename(name, now, self.wall(member))
            self._pump(member, now)

    def confirm(self, member: Member) -> None:
        """`member` asks whether everybody has everything."""
        if member.running:
            now = self.now + member.offset
            member.session.confirm(now)
            self._pump(member, now)

    def hand(self, member: Member, data: bytes, source: object, direct: bool = False) -> None:
        """Give `member` one datagram past the network; `direct`: to its own socket."""
        if member.running:
            now = self.now + member.offset
            member.session.receive_datagram(data, source, now, True, direct)
            self._pump(member, now)

    def _pump(self, member: Member, now: float) -> None:
        # As the room does after each burst: send, show, re-arm the one timer.
        session = member.session
        datagrams = session.datagrams_to_send()
        if datagrams:
            for data, target in datagrams:
                self._send(member, data, target)
        events = session.events()
        if events:
            self._shown(member, events)
        deadline = session.next_deadline()
        if deadline - member.offset < member.armed:
            self._arm(member, deadline)

    def _arm(self, member: Member, deadline: float) -> None:
        # Re-armed lazily: a deadline that moved later is found when the earlier one fires.
        when = deadline - member.offset
        if when >= member.armed or when == inf:
            return
        if when <= self.now:
            when = self.now
        while when + member.offset < deadline:  # rounding must not fire before the deadline
            when = nextafter(when, inf)
        member.armed = when
        self._order += 1
        heappush(self._heap, (when, self._order, self._fire, member))

    def _fire(self, member: Member) -> None:
        now = self.now
        if member.armed != now or not member.running:
            return
        member.armed = inf
        if member.session.next_deadline() <= now + member.offset:
            if member.fired_at == now:
                member.fired += 1
                if member.fired > STORM_FIRINGS:
                    raise Violation("storm", f"the timer of {member} fires without end", now)
            else:
                member.fired_at = now
                member.fired = 0
            member.session.handle_timer(now + member.offset)
        self._pump(member, now + member.offset)

    def _shown(self, member: Member, events: list[Event]) -> None:
        now = self.now
        for event in events:
            self._hash.update(repr((member.index, event)).encode())
        if self.tell:
            for event in events:
                self.tell(f"{member} shows {_spelt(event)}")
        self.oracle.shown(member.index, events, now)

    # -- network -----------------------------------------------------------------------------

    def changed(self) -> None:
        """Who hears whom has changed; call it after touching loss, deaf, side or blocked."""
        self._ears.clear()

    def ears(self, side: int) -> list[tuple[int, float]]:
        """Those who can hear a sender on `side`, as (index, loss)."""
        ears = self._ears.get(side)
        if ears is None:
            blocked = self.blocked
            ears = [
                (member.index, member.loss)
                for member in self.members
                if not (member.gone or member.deaf or (side, member.side) in blocked)
            ]
            self._ears[side] = ears
        return ears

    def _send(self, member: Member, data: bytes, target: object | None) -> None:
        if self.cut:
            return
        self.note_sent(member, data, target is not None)
        if target is None:
            self.multicast(data, member.index, member.side)
        elif isinstance(target, int) and 0 <= target < len(self.members):
            self._unicast(data, member, self.members[target])
        else:
            self.stray[target] = self.stray.get(target, 0) + 1

    def note_sent(self, member: Member, data: bytes, alone: bool) -> None:
        """`member` sends `data`, to one `alone` or to all: count it, and judge its rates."""
        kind = (data[2] & 15) - 1
        if alone:
            kind = UNICAST
        elif kind == DATA and data[3] & forgery.REPAIRED:
            kind = REPAIR
        self.sent[kind] += 1
        self.sent_bytes += len(data)
        self.oracle.sent(member.index, kind, data, self.now)
        self._hash.update(_SENT.pack(self.now, member.index, kind) + data)
        if self.tape is not None:
            self.tape.append(data)

    def reached_by(self, source: int, side: int) -> list[tuple[int, float]]:
        """Those whom `source`, on `side`, reaches by the group, as (index, loss)."""
        return self.ears(side)

    def multicast(self, data: bytes, source: int, side: int = 0) -> None:
        """Send `data` from address `source` (a member's index, or a stranger's) to the group."""
        if self.cut:
            return
        random = self.rng.random
        ears = self.reached_by(source, side)
        low, high = self.delay
        span = high - low
        low += self.now
        arrivals = [
            (low + span * random(), index)
            for index, loss in ears
            if random() >= loss and index != source
        ]
        if self.duplication or self.straggling[0] or self.mutation:
            arrivals = self._disturb(arrivals, data, source)
        if self.tell:
            self._tell_sent(data, source, [index for _, index in arrivals], ears)
        arrivals.sort()
        self._fly(arrivals, 0, data, source)

    def _unicast(self, data: bytes, member: Member, receiver: Member) -> None:
        low, high = self.delay
        when = self.now + low + (high - low) * self.rng.random()
        blocked = (member.side, receiver.side) in self.blocked or receiver.deaf or receiver.gone
        if blocked or receiver.index in self.walled or self.rng.random() < receiver.loss:
            heard = []
        else:
            heard = [(when, receiver.index)]
        if self.tell:
            self._tell_sent(data, member.index, [at for _, at in heard], [(receiver.index, 0.0)])
        for when, index in heard:
            self.at(when, self._arrive_alone, (index, data, member.index))

    def _arrive_alone(self, flight: tuple[int, bytes, int]) -> None:
        index, data, source = flight
        member = self.members[index]
        if member.running:
            self.delivered += 1
            now = self.now + member.offset
            member.session.receive_datagram(data, source, now, True, True)
            self._pump(member, now)
        else:
            self._keep(member, data, source, True)

    def _keep(self, member: Member, data: bytes, source: int, direct: bool) -> None:
        """The kernel keeps what a stopped member does not read, while there is room."""
        if member.gone:
            return
        if len(member.buffer) < member.buffer_most:
            member.buffer.append((data, source, direct))
        else:
            self.overflowed += 1

    def _disturb(
        self, arrivals: list[tuple[float, int]], data: bytes, source: int
    ) -> list[tuple[float, int]]:
        rng = self.rng
        chance, longest = self.straggling
        disturbed = []
        for when, index in arrivals:
            when += self.members[index].extra_delay
            if rng.random() < chance:
                when += longest * rng.random()
            disturbed.append((when, index))
            if rng.random() < self.duplication:
                disturbed.append((when + longest * rng.random(), index))
            if rng.random() < self.mutation:
                self._fly([(when, index)], 0, forgery.mutate(data, rng), source)
        return disturbed

    def _fly(self, arrivals: list[tuple[float, int]], start: int, data: bytes, source: int) -> None:
        if start < len(arrivals):
            self._order += 1
            flight = (arrivals, start, data, source)
            heappush(self._heap, (arrivals[start][0], self._order, self._arrive, flight))

    def _arrive(self, flight: tuple[list[tuple[float, int]], int, bytes, int]) -> None:
        arrivals, start, data, source = flight
        heap = self._heap
        members = self.members
        pump = self._pump
        for position in range(start, len(arrivals)):
            when, index = arrivals[position]
            if heap[0][0] < when:
                self._fly(arrivals, position, data, source)
                return
            self.now = when
            member = members[index]
            if member.running:
                self.delivered += 1
                member.session.receive_datagram(data, source, when + member.offset)
                pump(member, when + member.offset)
            else:
                self._keep(member, data, source, False)

    def _tell_sent(
        self, data: bytes, source: int, heard: list[int], ears: list[tuple[int, float]]
    ) -> None:
        assert self.tell is not None
        missed = sorted({index for index, _ in ears if index != source} - set(heard))
        self.tell(
            f"m{source} sends {describe(data)}, {len(data)} B, heard by {len(set(heard))}"
            + (f", missed by {' '.join(f'm{index}' for index in missed)}" if missed else "")
        )


def describe(data: bytes) -> str:
    """One datagram in a few words, for the story of a run."""
    try:
        return _described(data)
    except IndexError:
        return f"junk {data[:4].hex()}"


def _described(data: bytes) -> str:
    kind = data[2] & 15
    if data[3] & forgery.SEALED and kind != forgery.DATA:
        return f"{forgery.KINDS[kind]} {data[8:16].hex()[-4:]}/{int.from_bytes(data[16:20], 'big')}"
    sender = data[8:16].hex()[-4:]
    seq = int.from_bytes(data[16:20], "big")
    if kind == forgery.DATA:
        what = "REPAIR" if data[3] & forgery.REPAIRED else "DATA"
        return f"{what} {sender}/{seq} copies={data[3] >> 4}"
    ranges_at = forgery.HEADER_BYTES + 8
    if kind == forgery.SESSION:
        ranges_at += 4 + 16 + 1 + 1 + 2
        digest = data[forgery.HEADER_BYTES : forgery.HEADER_BYTES + 8].hex()[:4]
        what = f"SESSION of {sender} digest={digest}"
        ranges_at += 1 + data[ranges_at]
    elif kind == forgery.NACK:
        what = f"NACK of {sender} to {data[24:32].hex()[-4:]}"
    else:
        return f"BYE of {sender}"
    entries = data[ranges_at + 1 : -forgery.TAG_BYTES]
    spelt = [
        f"{entries[at : at + 8].hex()[-4:]}[{int.from_bytes(entries[at + 8 : at + 12], 'big')}"
        f",{int.from_bytes(entries[at + 12 : at + 16], 'big')})"
        for at in range(0, len(entries) - 15, 16)
    ]
    return f"{what} {' '.join(spelt)}"


def _spelt(event: Event) -> str:
    return " ".join(part.hex()[-4:] if isinstance(part, bytes) else str(part) for part in event)
