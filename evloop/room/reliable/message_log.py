"""What was said in the room, as far as it came here: records, history, and what is shown.

The log takes in DATA, mine and others', and keeps in step: `streams` (order), `senders` (digest
and listing), `history` (what is held), `causal_buffer` (what is shown). What becomes of a DATA:

    its number is          verdict     done
    new, in the window     NEW         held; shown when it is its turn
    stepped over before    LATE        held; shown at once, marked "late"
    known, the same bytes  OLD         nothing
    known, other bytes     CONFLICT    told, once a minute and sender; the first stays
    beyond the window      BEYOND      nothing
    of a new sender, but too many of them: RATE, FULL; nothing
"""

from __future__ import annotations

from evloop.base.ratelimit import TokenBucket
from evloop.room.events import Conflict, Full
from evloop.room.reliable.adoption import Adoption
from evloop.room.reliable.claims import Claims
from evloop.room.reliable.delivery import CausalBuffer, event_of
from evloop.room.reliable.history import History
from evloop.room.reliable.lamport import LamportClock
from evloop.room.reliable.limits import (
    CONFLICT_EVERY_S,
    DATA_BURST,
    FULL_TOLD_S,
    HISTORY_ASKED_MAX,
    NACK_HELD_MAX,
    NAMED_MAX,
    NEW_SENDERS_PER_S,
    NEWCOMER_S,
    OVERTAKEN_S,
    PARTS_MAX,
    POSED_MAX,
    STANDING_S,
    WINDOW_MESSAGES,
)
from evloop.room.reliable.packets import (
    DATA,
    MORE,
    RELAYED,
    Codec,
    data_body,
)
from evloop.room.reliable.reorder import (
    BEYOND,
    LATE,
    OLD,
    Message,
    Sender,
)
from evloop.room.reliable.vector import VersionVector
from evloop.system.timers import NEVER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from evloop.room.events import Event
    from evloop.room.reliable.membership import Member, Membership
    from evloop.room.reliable.packets import Packet, Range
    from evloop.room.reliable.reorder import Sender

    Key = tuple[bytes, int]

CONFLICT, RATE, FULL = "conflict", "rate", "senders"


class MessageLog:
    """The messages of one room, seen by member `sender`."""

    __slots__ = (
        "_codec",
        "_full",
        "_joined",
        "_new_senders",
        "_posed",
        "_presence",
        "adoption",
        "causal_buffer",
        "changed",
        "claims",
        "conflicts",
        "events",
        "fulls",
        "history",
        "lamport",
        "late",
        "lost",
        "own",
        "said",
        "senders",
        "streams",
        "verified",
    )  # fmt: skip

    def __init__(
        self, codec: Codec, sender: bytes, presence: Membership, verified: bool, now: float
    ) -> None:
        self._codec = codec
        self._presence = presence
        self._joined = now
        self.verified = verified
        self.own = Sender(sender, 0, 0, NEVER)  # `hi` is what I have sent; never idle
        self.own.standing = self.own.vouched = True
        self.senders = VersionVector(presence.members, self.own)
        self.streams = self.senders.streams
        self.said = 0  # the number of my next message
        self._posed: dict[int, tuple[Packet, bytes]] = {}  # others' DATA under my next numbers
        self.lamport = LamportClock(now)
        self.history = History()
        self.causal_buffer = CausalBuffer(self.streams, verified)
        self.events: list[Event] = []
        self.changed = now  # when the digest last changed
        self.claims = Claims()
        self.adoption = Adoption(now)
        # Buckets of new senders, one for present members: a flood of others does not keep them out.
        self._new_senders = (
            TokenBucket(NEW_SENDERS_PER_S, NEW_SENDERS_PER_S, now),
            TokenBucket(NEW_SENDERS_PER_S, NEW_SENDERS_PER_S, now),
        )
        self.conflicts = self.late = self.lost = 0
        self.fulls: dict[str, int] = {}  # how often each table was full
        self._full: dict[str, float] = {}  # when each last was

    # -- my own ----------------------------------------------------------------------------------

    def say(
        self, parts: list[bytes], name: bytes, kind: int, wall: int, now: float
    ) -> list[Message]:
        """Number, date and hold a message in parts; it counts as sent only after `sent`."""
        self._give_way(now)
        lamport = self.lamport.tick(self.said, len(parts))
        parents: Sequence[Key] = self.causal_buffer.parents()
        sender = self.own.sender
        messages = []
        for index, part in enumerate(parts):
            more = index + 1 < len(parts)
            body = data_body(lamport, parents, name, kind, part)
            datagram = self._codec.pack(DATA, MORE * more, sender, self.said, wall, body)
            message = Message(
                lamport, sender, self.said, tuple(parents), name, kind, part, wall, more,
                datagram,
            )  # fmt: skip
            self.said += 1
            self._hold(message, now)
            messages.append(message)
            parents = ()  # only the first part names any: it marks the others as further parts
        self.own.shown = self.said
        self.causal_buffer.put(messages[-1])
        event = event_of(messages, "", self.verified)
        self.history.shown(messages[0], messages[0].lamport, event)
        self.events.append(event)
        return messages

    def date_again(self, queue: list[Message]) -> None:
        """Give the messages in `queue`, which are all that I have said and none of which was sent
        yet, Lamport times after all that I have heard by now."""
        if not queue or self.lamport.heard < queue[0].lamport:
            return
        lamport, further = 0, False
        for index, message in enumerate(queue):
            if not further:
                parts = 1
                while queue[index + parts - 1].more:
                    parts += 1
                lamport = self.lamport.tick(message.seq, parts)
            body = data_body(lamport, message.parents, message.name, message.kind, message.text)
            flags = MORE * message.more
            sender, seq = message.sender, message.seq
            datagram = self._codec.pack(DATA, flags, sender, seq, message.wall, body)
            queue[index] = message._replace(lamport=lamport, datagram=datagram)
            self.history.replace(queue[index])
            further = message.more

    def open(self, datagram: bytes) -> Packet | str:
        """A datagram that came by another way than the room, as `Codec.open` has it."""
        return self._codec.open(datagram)

    def moved(self) -> None:
        """The room is at another place: what is held has tags of that one, as with everybody who
        moves, so that a repair from any of them is the same datagram."""
        self.history.tag(self._codec.tagged)
        self._posed.clear()

    def sent(self, message: Message, now: float) -> None:
        """`message`, the next of mine, was sent."""
        self.own.hi = self.own.word = message.seq + 1
        self.senders.moved(self.own)
        self.changed = now
        if self.senders.overfull():  # with my first message: the others make room for it, too
            self._evict(self.senders.first(now)[1])

    def own_came_back(self, packet: Packet, data: bytes, name: str, now: float) -> bool:
        """A DATA under my own id came: whether it is mine. If not, somebody claims to be me."""
        seq = packet[3]
        held = self.history.get((self.own.sender, seq))
        if held is None and seq < self.own.lo:
            return True  # too old to tell
        if held is not None and self._codec.same(held.datagram, data):
            return True
        self._conflict(self.own, name, seq, now)
        if held is None and self.own.hi <= seq < self.said + POSED_MAX:
            self._posed[seq] = packet, data
            if len(self._posed) > POSED_MAX:
                del self._posed[min(self._posed)]
            self._give_way(now)
        return False

    def _give_way(self, now: float) -> None:
        """Leave out the numbers of mine that a stranger used before me: members that heard his
        messages would not show mine. (I hold and repair his, so that all have the same.)"""
        while self.said == self.own.hi and self.said in self._posed:
            (_, flags, sender, seq, wall, fields), data = self._posed.pop(self.said)
            lamport, parents, name, kind, text = fields
            message = Message(
                lamport, sender, seq, parents, name, kind, text, wall, bool(flags & MORE), data
            )
            self.said += 1
            self._hold(message, now)
            self.own.shown = self.said
            self.sent(message, now)

    # -- others' ---------------------------------------------------------------------------------

    def receive(self, packet: Packet, data: bytes, now: float) -> str:
        """Take in one DATA of another member; see the table above for what is returned."""
        _, flags, sender, seq, wall, fields = packet
        member = self._presence.members.get(sender)
        if member is not None and seq >= member.said >= 0 and seq > member.reach(now):
            return BEYOND  # its sender's own SESSION says that it has not come so far
        self.disown(sender)
        stream = self.streams.get(sender)
        if stream is None:
            lamport = min(fields[0], self.lamport.value + 1)
            refused = self._new_stream(sender, seq, lamport, bool(flags & RELAYED), member, now)
            if refused:
                return refused
            stream = self.streams[sender]
        if stream.knows(seq):
            return self._judge_copy(stream, seq, data, now)
        lamport, parents, name, kind, text = fields
        message = Message(
            lamport, sender, seq, parents, name, kind, text, wall, bool(flags & MORE), data
        )
        verdict = stream.accept(seq, message, now)
        if verdict == BEYOND:
            return verdict
        if not flags & RELAYED:
            stream.heard = now
            if seq < stream.history_below:
                stream.history_below = seq  # its sender sends it now, so I was here
        self.lamport.hear(lamport, now)
        stream.lamport = max(stream.lamport, self.lamport.placed(lamport))
        if member is not None and not stream.standing:
            stream.standing = member.standing(now)
        self._hold(message, now, stream.standing)
        if verdict == LATE:
            self._show_late(stream, message)
        elif stream.backlog:
            self._advanced(stream, now)
        return verdict

    def _judge_copy(self, stream: Sender, seq: int, data: bytes, now: float) -> str:
        held = self.history.get((stream.sender, seq))
        if held is not None and not self._codec.same(held.datagram, data):
            self._conflict(stream, stream.name, seq, now)
            return CONFLICT
        return OLD

    def _conflict(self, stream: Sender, name: str, seq: int, now: float) -> None:
        self.conflicts += 1
        if now >= stream.conflict_at + CONFLICT_EVERY_S:
            stream.conflict_at = now
            self.events.append(Conflict("conflict", stream.sender, name, seq))

    def _new_stream(
        self, sender: bytes, seq: int, lamport: int, relayed: bool, member: Member | None,
        now: float,
    ) -> str:  # fmt: skip
        if not self._new_senders[member is not None].take(now):
            return RATE
        if self.senders.full():
            self.full("senders", now)
            spare = self.senders.spare(sender, lamport, not relayed, now)
            if spare is None:
                self.senders.forget(sender, 0, seq + 1, lamport)
                return FULL
            self._evict(spare)
        least = member.least if member is not None else -1
        base, before = self._base(sender, seq, relayed, least, now)
        known = self.senders.forgotten.pop(sender, None)
        if known is not None and (member is None or member.said < 0 or known.shown <= member.said):
            base = max(base, known.shown)  # what was shown before is not shown again
        stream = Sender(sender, base, before, -NEVER if relayed else now)
        stream.began = now
        if known is not None:
            stream.lamport = known.lamport
            stream.gap_before = base > known.shown
        stream.claimed = range(*(self.claims.take(sender) or (0, 0)))
        stream.vouched = member is not None and member.said >= base
        stream.standing = member is not None and member.standing(now)
        self.senders.add(stream)
        return ""

    def _evict(self, stream: Sender) -> None:
        """`stream` makes room for another; it is remembered how far it got, if it is known."""
        adopted = stream.sender in self.senders.adopted
        self.forget(stream)
        if adopted:
            return
        newest = max(stream.ahead, default=stream.hi - 1)
        shown = stream.shown - len(stream.parts)
        self.senders.forget(stream.sender, shown, newest + 1, stream.lamport)

    def recall(self, sender: bytes, hi: int, now: float) -> Sender | None:
        """The record of `sender`, which a member lists up to number `hi`, unless it is adopted.
        When it had made room here, and would not do so now, it comes back, without its messages:
        they were shown."""
        stream = self.senders.known(sender)
        known = self.senders.forgotten.get(sender)
        if stream is not None or known is None or not 0 < hi == known.shown == known.hi:
            return stream
        if self.senders.full():
            spare = self.senders.spare(sender, known.lamport, False, now)
            if spare is None:
                return None
            self._evict(spare)
        self.disown(sender)
        del self.senders.forgotten[sender]
        stream = Sender(sender, hi, hi, -NEVER)
        stream.began = now
        stream.lamport = known.lamport
        stream.gap_before = False
        self.senders.add(stream)
        self.changed = now
        return stream

    def disown(self, sender: bytes) -> None:
        """If the record of `sender` is adopted, it was never there."""
        if sender in self.senders.adopted:
            self.forget(self.streams[sender])

    def adopt(self, now: float) -> None:
        """Take in what was told of senders of whom nobody holds anything (see `adoption`)."""
        senders = self.senders
        told = {
            origin: hi for origin, hi in self.adoption.take(now) if senders.known(origin) is None
        }
        for origin in told:
            self.disown(origin)
        over = len(told) - senders.room()
        if over > 0:
            self.full("senders", now)
            for origin in senders.adopted_first(over, now, told):
                self.disown(origin)
                told.pop(origin, None)
            for origin in list(told)[: max(0, len(told) - senders.room())]:
                del told[origin]  # there are too few adopted records
        for origin, hi in told.items():
            senders.adopt(Sender(origin, hi, hi, -NEVER), now)
            self.changed = now

    def _base(
        self, sender: bytes, seq: int, relayed: bool, least: int, now: float
    ) -> tuple[int, int]:
        """(the first number that is wanted of a new sender, below which number is history).

        `least`: the smallest next number that it has told of itself, -1 if none. From that on all
        was said in my time, whatever others claim.
        """
        lo, hi = self.claims.look(sender) or (0, seq + 1)
        if lo > seq or (not relayed and hi > seq + 1 + DATA_BURST):
            lo, hi = 0, seq + 1  # the claim is false: this DATA is held, and it is the newest
        if not self.newcomer(now):
            return max(0, seq + 1 - WINDOW_MESSAGES), 0
        base = min(seq, max(lo, seq + 1 - HISTORY_ASKED_MAX))
        before = max(hi, seq + 1) if relayed else seq
        if least < 0:
            return base, before
        base = min(base, max(least, seq + 1 - WINDOW_MESSAGES))
        return base, min(before, max(least, base))

    def forget(self, stream: Sender) -> None:
        """Drop the record of a sender and all that is held of it."""
        self.senders.remove(stream)
        self.causal_buffer.forget(stream)
        self.history.forget(stream.sender)

    def full(self, table: str, now: float) -> None:
        """Something found no room in `table`, or another had to make room: told once a flood."""
        self.fulls[table] = self.fulls.get(table, 0) + 1
        if now > self._full.get(table, -NEVER) + FULL_TOLD_S:
            self.events.append(Full("full", table))
        self._full[table] = now

    def vouch(self, stream: Sender, hi: int, now: float) -> bool:
        """The present sender of `stream` says that `hi` is its next number.

        Messages held from that number on were never sent by it, and are dropped. When the whole
        record lies there, the record is dropped, and True is returned. (Messages that came within
        OVERTAKEN_S stay: they may have overtaken the SESSION.)
        """
        if hi >= stream.base:
            stream.vouched = True
        elif not stream.vouched and stream.began < now - OVERTAKEN_S:
            self.forget(stream)
            return True
        for seq in [seq for seq in stream.ahead if seq >= hi]:
            key = stream.sender, seq
            if self.history.since(key) < now - OVERTAKEN_S:
                self.history.remove(key)
                del stream.ahead[seq]
                stream.covered = min(stream.covered, seq)  # in case it is sent after all
        return False

    def newcomer(self, now: float) -> bool:
        """Whether what I learn of now is likely from before I joined."""
        return now < self._joined + NEWCOMER_S

    def settled(self, now: float) -> bool:
        """Whether I have been here for so long that I can tell members from strangers."""
        return now >= self._joined + STANDING_S

    def _hold(self, message: Message, now: float, standing: bool = True) -> None:
        self._gone(self.history.add(message, now, standing))
        if self.history.crowded():
            self.full("history", now)

    def _gone(self, keys: list[Key]) -> None:
        """The history had no room for `keys`, or they are too old."""
        for sender, seq in keys:
            stream = self.streams.get(sender)
            if stream is None:
                continue
            if stream.lo <= seq:
                stream.lo = min(seq + 1, stream.hi)
                self.senders.emptied(stream)
            if stream.ahead.pop(seq, None) is not None:
                stream.covered = min(stream.covered, seq)  # it is missing again

    def limit(self, most: int) -> None:
        """Hold `most` messages from now on."""
        sender, hi = self.own.sender, self.own.hi
        self._gone(self.history.limit(most, lambda key: key[0] == sender and key[1] >= hi))

    def expire(self, now: float) -> None:
        """Forget what is too old."""
        self._gone(self.history.expire(now))

    def _advanced(self, stream: Sender, now: float) -> None:
        self.senders.moved(stream)
        self.changed = now
        self.causal_buffer.offer(stream, now)
        self._drain()

    def _drain(self) -> None:
        for message, event in self.causal_buffer.shown:
            self.events.append(event)
            if message is not None:
                self.history.shown(message, self.lamport.placed(message.lamport), event)
        self.causal_buffer.shown.clear()

    def _show_late(self, stream: Sender, message: Message) -> None:
        # Shown once all its parts are there; those that were not lost are in the history.
        parts = [message]
        while len(parts) < PARTS_MAX:
            before = self.history.get((stream.sender, parts[0].seq - 1))
            if before is None or not before.more:
                break
            parts.insert(0, before)
        while parts[-1].more and len(parts) < PARTS_MAX:
            after = self.history.get((stream.sender, parts[-1].seq + 1))
            if after is None:
                return
            parts.append(after)
        event = event_of(parts, LATE, self.verified)
        self.late += 1
        self.events.append(event)
        self.history.shown(parts[0], self.lamport.placed(parts[0].lamport), event)

    def step_over(self, stream: Sender, upto: int, now: float) -> None:
        """Give up what is missing below `upto`; reported unless it was before my time."""
        report = upto > stream.history_below
        if report:
            self.lost += upto - stream.hi
        stream.step_over(upto, report, now)
        self._advanced(stream, now)

    def stats(self) -> dict[str, int]:
        """Counters, sizes, and how often each table was full."""
        return {
            "lost": self.lost,
            "late": self.late,
            "conflicts": self.conflicts,
            "history": len(self.history),
            "history_bytes": self.history.size,
            "senders": len(self.streams),
            **{f"full_{table}": count for table, count in self.fulls.items()},
        }

    def handle_timer(self, now: float) -> None:
        if now >= self.history.sweep_at:
            self.expire(now)
        self.causal_buffer.handle_timer(now)
        self._drain()

    # -- what others say they hold, and ask for --------------------------------------------------

    def held(self, listed: Sequence[Range]) -> list[Key]:
        """The keys of `listed` that can be repaired, NACK_HELD_MAX at most. NAMED_MAX numbers at
        most are looked at; where ranges overlap, each range counts."""
        budget = NAMED_MAX
        keys: list[Key] = []
        for sender, lo, hi in listed:
            stream = self.streams.get(sender)
            if stream is None or hi <= lo:
                continue
            if stream is self.own:
                hi = min(hi, stream.hi)  # the rest waits for its turn
            if hi - lo > budget:
                lo = max(lo, stream.lo)
                hi = min(hi, lo + budget)
            held = self.history.of(sender)
            keys += [(sender, seq) for seq in range(lo, hi) if seq in held]
            budget -= 4 + max(hi - lo, 0)
            if budget < 0 or len(keys) >= NACK_HELD_MAX:
                break
        return keys[:NACK_HELD_MAX]
