"""What was said in the room as far as it got here: records, history, and what is shown.

`VersionVector`: who has spoken, and how far each has got. Its digest is the XOR over all
senders of a hash of (sender, next number), kept up to date at each step, so that comparing two
members costs one comparison. Records are listed in SESSIONs most recently changed first; the last
quarter of a list rotates through the rest.

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

from struct import Struct

from evloop.base.ratelimit import TokenBucket
from evloop.room.events import Conflict
from evloop.room.reliable.delivery import CausalBuffer, event_of
from evloop.room.reliable.history import History
from evloop.room.reliable.lamport import LamportClock
from evloop.room.reliable.limits import (
    CLAIMS_MAX,
    CONFLICT_EVERY_S,
    DATA_BURST,
    HISTORY_ASKED_MAX,
    NACK_MESSAGES_MAX,
    NEW_SENDERS_PER_S,
    NEWCOMER_S,
    PARTS_MAX,
    SENDER_KEPT_S,
    SENDERS_MAX,
    WINDOW_MESSAGES,
)
from evloop.room.reliable.packets import (
    DATA,
    MORE,
    RELAYED,
    TAG_BYTES,
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

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from evloop.room.events import Event
    from evloop.room.reliable.packets import Packet, Range
    from evloop.room.reliable.reorder import Sender

    Key = tuple[bytes, int]

try:
    from _blake2 import blake2b
except ImportError:
    from hashlib import blake2b
_ITEM = Struct(">8sI")


def digest_item(sender: bytes, hi: int) -> int:
    """What a sender with next expected number `hi` > 0 adds (by XOR) to the digest."""
    return int.from_bytes(blake2b(_ITEM.pack(sender, hi), digest_size=8).digest(), "big")


class VersionVector:
    """The records, by sender id."""

    __slots__ = ("_cursor", "_recent", "digest", "streams")

    def __init__(self) -> None:
        self.streams: dict[bytes, Sender] = {}
        self.digest = 0
        self._recent: dict[bytes, None] = {}  # the order is that of the last change
        self._cursor = 0

    def full(self) -> bool:
        return len(self.streams) >= SENDERS_MAX

    def idle(self, now: float) -> Sender | None:
        """The record that may go when there are too many; None when all were heard of late."""
        oldest = min(self.streams.values(), key=lambda stream: stream.heard)
        return oldest if oldest.heard < now - SENDER_KEPT_S else None

    def add(self, stream: Sender) -> None:
        self.streams[stream.sender] = stream
        self.moved(stream)

    def remove(self, stream: Sender) -> None:
        del self.streams[stream.sender]
        self._recent.pop(stream.sender, None)
        self.digest ^= stream.item

    def moved(self, stream: Sender) -> None:
        """`stream.hi` or `stream.lo` has changed."""
        sender = stream.sender
        item = digest_item(sender, stream.hi) if stream.hi else 0
        self.digest ^= stream.item ^ item
        stream.item = item
        recent = self._recent
        recent.pop(sender, None)
        recent[sender] = None

    def listing(self, count: int, first: bytes) -> list[tuple[bytes, int, int]]:
        """At most `count` of (sender, lo, hi), that of sender `first` at the head."""
        ids = [sender for sender in reversed(self._recent) if self.streams[sender].hi]
        if first in self.streams and self.streams[first].hi:
            ids.remove(first)
            ids.insert(0, first)
        if len(ids) > count:
            newest = count - count // 4
            rest = ids[newest:]
            start = self._cursor % len(rest)
            self._cursor += count - newest
            ids = ids[:newest] + (rest[start:] + rest[:start])[: count - newest]
        streams = self.streams
        return [(sender, streams[sender].lo, streams[sender].hi) for sender in ids]

    def listed(self) -> int:
        """How many senders a whole list would have."""
        return sum(stream.hi > 0 for stream in self.streams.values())


CONFLICT, RATE, FULL = "conflict", "rate", "senders"
SEQ_END = 2**32 - 1  # numbers and Lamport times are 32 bits


class MessageLog:
    """The messages of one room, seen by member `sender`."""

    __slots__ = (
        "_claims",
        "_codec",
        "_joined",
        "_new_senders",
        "_silent",
        "_verified",
        "causal_buffer",
        "changed",
        "conflicts",
        "events",
        "history",
        "lamport",
        "late",
        "lost",
        "own",
        "said",
        "senders",
        "streams",
    )  # fmt: skip

    def __init__(self, codec: Codec, sender: bytes, verified: bool, now: float) -> None:
        self._codec = codec
        self._joined = now
        self._verified = verified
        self.senders = VersionVector()
        self.streams = self.senders.streams
        self.own = Sender(sender, 0, 0, float("inf"))  # `hi` is what I have sent; never idle
        self.senders.add(self.own)
        self.said = 0  # the number of my next message
        self.lamport = LamportClock(now)
        self.history = History()
        self.causal_buffer = CausalBuffer(self.streams, verified)
        self.events: list[Event] = []
        self.changed = now  # when the digest last changed
        self._claims: dict[bytes, tuple[int, int]] = {}  # (lo, hi) of senders without a record
        self._silent: dict[bytes, None] = {}  # senders that had said nothing by their own word
        self._new_senders = TokenBucket(NEW_SENDERS_PER_S, NEW_SENDERS_PER_S, now)
        self.conflicts = self.late = self.lost = 0

    # -- my own ----------------------------------------------------------------------------------

    def say(
        self, parts: list[bytes], name: bytes, kind: int, wall: int, now: float
    ) -> list[Message]:
        """Number, date and hold a message in parts; it counts as sent only after `sent`."""
        lamport = self.lamport.tick()
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
        event = event_of(messages, "", self._verified)
        self.history.shown(messages[0], messages[0].lamport, event)
        self.events.append(event)
        return messages

    def sent(self, message: Message, now: float) -> None:
        """`message`, the next of mine, has gone out."""
        self.own.hi = self.own.word = message.seq + 1
        self.senders.moved(self.own)
        self.changed = now

    def own_came_back(self, seq: int, data: bytes, name: str, now: float) -> bool:
        """DATA under my own id: whether it is mine. If not, somebody claims to be me."""
        held = self.history.get((self.own.sender, seq))
        if held is None and seq < self.own.lo:
            return True  # too old to tell
        if held is None or held.datagram[-TAG_BYTES:] != data[-TAG_BYTES:]:
            self._conflict(self.own, name, seq, now)
            return False
        return True

    # -- others' ---------------------------------------------------------------------------------

    def receive(self, packet: Packet, data: bytes, now: float) -> str:
        """Take in one DATA of another; see the table for what is returned."""
        _, flags, sender, seq, wall, fields = packet
        if seq == SEQ_END:
            return BEYOND  # `hi` would not fit its field
        stream = self.streams.get(sender)
        if stream is None:
            refused = self._new_stream(sender, seq, bool(flags & RELAYED), now)
            if refused:
                return refused
            stream = self.streams[sender]
        stream.heard = now
        if stream.knows(seq):
            return self._judge_copy(stream, seq, data, now)
        lamport, parents, name, kind, text = fields
        message = Message(
            lamport, sender, seq, parents, name, kind, text, wall, bool(flags & MORE), data
        )
        verdict = stream.accept(seq, message, now)
        if verdict == BEYOND:
            return verdict
        if not flags & RELAYED and seq < stream.history_below:
            stream.history_below = seq  # its sender sends it now, so I was here
        self.lamport.hear(lamport, now)
        self._hold(message, now)
        if verdict == LATE:
            self._show_late(stream, message)
        elif stream.backlog:
            self._advanced(stream, now)
        return verdict

    def _judge_copy(self, stream: Sender, seq: int, data: bytes, now: float) -> str:
        held = self.history.get((stream.sender, seq))
        # Both tags were right, so equal tags are equal messages.
        if held is not None and held.datagram[-TAG_BYTES:] != data[-TAG_BYTES:]:
            self._conflict(stream, stream.name, seq, now)
            return CONFLICT
        return OLD

    def _conflict(self, stream: Sender, name: str, seq: int, now: float) -> None:
        self.conflicts += 1
        if now >= stream.conflict_at + CONFLICT_EVERY_S:
            stream.conflict_at = now
            self.events.append(Conflict("conflict", stream.sender, name, seq))

    def _new_stream(self, sender: bytes, seq: int, relayed: bool, now: float) -> str:
        if not self._new_senders.take(now):
            return RATE
        if self.senders.full():
            idle = self.senders.idle(now)
            if idle is None:
                return FULL
            self.senders.remove(idle)
            self.causal_buffer.forget(idle)
            self.history.forget(idle.sender)
        lo, hi = self._claims.pop(sender, (0, seq + 1))
        if lo > seq or (not relayed and hi > seq + 1 + DATA_BURST):
            lo, hi = 0, seq + 1  # a false claim: this one is held, and is the sender's newest
        if self.newcomer(now):
            base = min(seq, max(lo, seq + 1 - HISTORY_ASKED_MAX))
            if sender in self._silent:
                before = base
            else:
                before = max(hi, seq + 1) if relayed else seq
        else:
            base, before = max(0, seq + 1 - WINDOW_MESSAGES), 0
        self._silent.pop(sender, None)
        self.senders.add(Sender(sender, base, before, now))
        return ""

    def newcomer(self, now: float) -> bool:
        """Whether what I learn of now was likely there before me."""
        return now < self._joined + NEWCOMER_S

    def _hold(self, message: Message, now: float) -> None:
        for sender, seq in self.history.add(message, now):
            stream = self.streams.get(sender)
            if stream is not None and stream.lo <= seq:
                stream.lo = min(seq + 1, stream.hi)

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
        # Once all its parts are there; those that were not lost are in the history.
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
        event = event_of(parts, LATE, self._verified)
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

    def handle_timer(self, now: float) -> None:
        self.causal_buffer.handle_timer(now)
        self._drain()

    # -- what others say they hold, and ask for --------------------------------------------------

    def silent(self, sender: bytes) -> None:
        """`sender` knows of no message, not of its own either: all that it will say is of my time,
        and is reported when it is gone."""
        if sender not in self.streams:
            self._silent[sender] = None
            if len(self._silent) > CLAIMS_MAX:
                del self._silent[next(iter(self._silent))]

    def claimed(self, origin: bytes, lo: int, hi: int) -> bool:
        """A member holds [lo, hi) of `origin`, of whom there is no record; False: never mind."""
        before = self._claims.get(origin)
        if hi <= lo or (before is None and len(self._claims) >= CLAIMS_MAX):
            return False
        self._claims[origin] = (min(lo, before[0]) if before else lo, hi)
        return True

    def held(self, listed: Sequence[Range]) -> list[Key]:
        """The keys of `listed` that can be repaired; NACK_MESSAGES_MAX at most are looked for."""
        budget = NACK_MESSAGES_MAX
        keys = []
        for sender, lo, hi in listed:
            if sender not in self.streams:
                continue
            if sender == self.own.sender:
                hi = min(hi, self.own.hi)  # the rest waits for its turn
            for seq in range(lo, min(hi, lo + budget)):
                budget -= 1
                if self.history.get((sender, seq)) is not None:
                    keys.append((sender, seq))
        return keys
