"""The reliable room: datagrams and time in; datagrams, events and a deadline out. Floor 3.

`RoomSession` puts the rules of the room together; each rule lives in a module of its own below:

    order, window           streams     what is missing, when to ask    gaps
    parents, parts          shelf       who answers a NACK              repairs
    records, digest         senders     many from one holder            bulk
    who is here             presence    when to say what I hold         trickle
    loss, unasked copies    loss        messages held                   history

Towards each other the members are in one of three states, seen from here:

    state      I have                          at a Trickle point I    I NACK
    current    all I know of                   send SESSION            nothing
    behind     gaps, asked for < 6 times       send nothing            what is due
    orphaned   only gaps asked for 6 times     send SESSION            what is due, every 8 s

and the session itself goes through joining (nothing heard: its SESSIONs solicit), in the room, and
leaving (BYEs, then nothing at all). A datagram changes the state, a timer sends: `receive_datagram`
never sends by itself, so that a burst is answered once.
"""

from evloop.buckets import Bucket
from evloop.bulk import BulkServer, Holders
from evloop.confirm import Confirm
from evloop.errors import Refused
from evloop.gaps import Gap, Gaps
from evloop.history import History
from evloop.limits import (
    BULK_ASKED_MAX,
    BULK_BURST,
    BULK_GAPS_MIN,
    BULK_PER_S,
    BYE_SPACING_S,
    BYE_TIMES,
    BYTES_BURST,
    BYTES_PER_S,
    CLAIMS_MAX,
    CONFLICT_EVERY_S,
    COPY_SPACING_S,
    DATA_BURST,
    DATA_PER_S,
    DELAY_S_MAX,
    DELAY_S_MIN,
    DELAY_S_START,
    EXPLAIN_S,
    HEARSAY_SENDER_GAPS_MAX,
    HEARSAY_UNHEARD_GAPS_MAX,
    HISTORY_ASKED_MAX,
    LAMPORT_JUMP_MAX,
    NACK_BURST,
    NACK_MESSAGES_MAX,
    NACK_PER_S,
    NACK_RANGES_MAX,
    NEW_SENDERS_PER_S,
    NEWCOMER_S,
    PARTS_MAX,
    REPAIR_BURST,
    REPAIR_PER_S,
    ROOM_REPAIR_PER_S,
    SESSION_BURST,
    SESSION_ENTRIES,
    SESSION_ENTRIES_MAX,
    SESSION_PER_S,
    STUCK_ASKS,
    WINDOW_MESSAGES,
)
from evloop.loss import LossMeter, copies
from evloop.names import check_nickname, fold
from evloop.outbox import Outbox, split
from evloop.packets import (
    BYE,
    DATA,
    MORE,
    NACK,
    NOBODY,
    RELAYED,
    SESSION,
    TEXT,
    Codec,
    as_repair,
    data_body,
    nack_body,
    ranges,
    session_body,
)
from evloop.presence import Member, Presence
from evloop.repairs import Repairs
from evloop.senders import Senders
from evloop.shelf import Shelf, event_of
from evloop.streams import BEYOND, LATE, Message, Stream
from evloop.trickle import Trickle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

    from evloop.packets import Fields

    Event = tuple[object, ...]
    Key = tuple[bytes, int]
    Range = tuple[bytes, int, int]

NEVER = float("inf")

_COUNTERS = (
    "sent", "received", "recovered", "repairs_sent", "nacks_sent", "sessions_sent", "copies_sent",
    "bulk_sent", "bytes_sent", "duplicates", "lost", "late", "conflicts",
)  # fmt: skip


class RoomSession:
    """One reliable room, seen by one member; knows neither sockets nor the time.

    `receive_datagram` and `handle_timer` take the time; after either, fetch `datagrams_to_send`,
    `events` and `next_deadline`. No bytes make it raise.
    """

    def __init__(
        self,
        *,
        place: str,
        sender_id: bytes,
        nickname: str,
        rng: "Random",
        now: float,
        key: bytes = b"",
    ) -> None:
        """`place`: "239.255.7.1:5751"; `sender_id`: 8 random bytes, drawn at each join."""
        self.sender_id = sender_id
        self.nickname = check_nickname(nickname)
        self._rng = rng
        self._codec = Codec(place, key)
        self._verified = bool(key)
        self._joined = now
        self._now = now

        self._senders = Senders()
        self._streams = self._senders.streams
        self._own = Stream(sender_id, 0, 0, now)
        self._senders.add(self._own)
        self._said = 0  # the number of my next message
        self._lamport = 0
        self._history = History()
        self._shelf = Shelf(self._streams, self._verified)
        self._claims: dict[bytes, Range] = {}  # of senders without a record
        self._changed = now  # when my digest last changed by itself

        self._gaps = Gaps(rng)
        self._repairs = Repairs(rng)
        self._holders = Holders(rng)
        self._bulk = BulkServer()
        self._presence = Presence()
        self._departed: dict[bytes, int] = {}  # counters of the BYEs heard
        self._trickle = Trickle(rng, now, 1)
        self._confirm = Confirm(rng)
        self._outbox = Outbox()
        self._loss = LossMeter()
        self._copies_until = now  # announced copies of the newest DATA have had their time

        self._delay = DELAY_S_START  # one way, smoothed
        self._delay_known = False
        self._echo: tuple[bytes, int, float] = (NOBODY, 0, now)
        self._soliciting = True
        self._long_list = False  # the next SESSION lists up to SESSION_ENTRIES_MAX
        self._unexplained = NEVER  # since when a digest differs without a reason
        self._spoke = -NEVER  # my last SESSION
        self._patience = 1.0  # jitter of the presence interval
        self._byes = 0
        self._bye_due = NEVER
        self._left = False
        self._counter = 0

        self._data_bucket = Bucket(DATA_PER_S, DATA_BURST, now)
        self._repair_bucket = Bucket(REPAIR_PER_S, REPAIR_BURST, now)
        self._room_bucket = Bucket(ROOM_REPAIR_PER_S, ROOM_REPAIR_PER_S, now)
        self._nack_bucket = Bucket(NACK_PER_S, NACK_BURST, now)
        self._session_bucket = Bucket(SESSION_PER_S, SESSION_BURST, now)
        self._bulk_bucket = Bucket(BULK_PER_S, BULK_BURST, now)
        self._bytes_bucket = Bucket(BYTES_PER_S, BYTES_BURST, now)
        self._new_senders = Bucket(NEW_SENDERS_PER_S, NEW_SENDERS_PER_S, now)

        self._out: list[tuple[bytes, object | None]] = []
        self._events: list[Event] = []
        self._counts = dict.fromkeys(_COUNTERS, 0)
        self._deadline = now
        self._stale = True  # _deadline must be found anew
        self._folds: dict[str, int] | None = None  # how many present names are equal, by fold
        self._confirmed: int | None = None  # least number of mine that all hold

    # -- what a client does ----------------------------------------------------------------------

    def say(self, text: str, now: float, wall: int, kind: int = TEXT) -> None:
        """Queue a message. Raises Refused `too_long` or `too_fast`; `wall` in unix seconds."""
        parts = split(text)
        self._outbox.check(len(parts))
        self._now = now
        self._lamport += 1
        name = self.nickname.encode()
        parents: Sequence[Key] = self._shelf.parents()
        messages = []
        for index, part in enumerate(parts):
            more = index + 1 < len(parts)
            seq = self._said
            body = data_body(self._lamport, parents, name, kind, part)
            datagram = self._codec.pack(DATA, MORE * more, self.sender_id, seq, wall, body)
            message = Message(
                self._lamport, self.sender_id, seq, tuple(parents), name, kind, part, wall, more,
                datagram,
            )  # fmt: skip
            self._said += 1
            self._own.shown = self._said
            self._keep(message, now)
            self._outbox.queue.append(message)
            messages.append(message)
            parents = ()
        self._shelf.put(messages[-1])
        event = event_of(messages, "", self._verified)
        self._history.shown(messages[0], event)
        self._events.append(event)
        self._stale = True
        self._confirmed = None

    def rename(self, nickname: str, now: float, wall: int) -> None:
        """Use another name and tell it at once; Refused when it breaks the rules."""
        self.nickname = check_nickname(nickname)
        self._now = now
        self._spoke = -NEVER
        self._folds = None
        self._stale = True

    def leave(self, now: float, wall: int) -> None:
        """Say goodbye BYE_TIMES; after that there is nothing to do (`next_deadline` is inf)."""
        self._now = now
        if not self._byes:
            self._byes = BYE_TIMES
            self._bye_due = now
            self._stale = True

    def confirm(self, now: float) -> None:
        """Ask all present members, again and again, until `unconfirmed` is 0."""
        self._now = now
        self._confirm.start(now)
        self._stale = True

    def expect(self, members: int) -> None:
        """The directory counts so many here: a floor for the estimate until they are heard."""
        self._presence.expect(members)

    # -- what a client asks ----------------------------------------------------------------------

    def datagrams_to_send(self) -> list[tuple[bytes, object | None]]:
        """(datagram, None for the group or the source it goes to); each is told once."""
        if self._now >= self.next_deadline():
            self.handle_timer(self._now)
        if not self._out:
            return []
        out, self._out = self._out, []
        return out

    def events(self) -> "list[Event]":
        """What happened since the last call."""
        if not self._events:
            return []
        events, self._events = self._events, []
        return events

    def next_deadline(self) -> float:
        """When `handle_timer` must be called; inf after leaving."""
        if self._stale:
            self._stale = False
            self._deadline = self._find_deadline()
        return self._deadline

    def members(self, now: float) -> list[tuple[bytes, str, float]]:
        """(sender id, name, seconds since last heard), self first."""
        others = [
            (sender, member.name, max(0.0, now - member.heard))
            for sender, member in self._presence.members.items()
        ]
        return [(self.sender_id, self.nickname, 0.0), *others]

    def label(self, sender: bytes, name: str) -> str:
        """How to show `name` of `sender`: told apart from a present one that looks the same; the
        id alone when it breaks the rules."""
        try:
            check_nickname(name)
        except Refused:
            return sender.hex()
        if self._folds is None:
            self._folds = {fold(self.nickname): 1}
            for member in self._presence.members.values():
                key = fold(member.name)
                self._folds[key] = self._folds.get(key, 0) + 1
        return f"{name}~{sender[-2:].hex()}" if self._folds.get(fold(name), 0) > 1 else name

    def history(self, count: int) -> "list[Event]":
        """The newest `count` "message" events, sorted by (lamport, sender, seq)."""
        return self._history.newest(count)

    def queued(self) -> int:
        """Own messages (parts) that wait for the rate."""
        return len(self._outbox.queue)

    def unconfirmed(self) -> int:
        """Own messages (parts) that some present member is not known to hold."""
        if self._confirmed is None:
            held = [member.holds for member in self._presence.members.values()]
            self._confirmed = min(held, default=self._own.hi)
        return self._said - min(self._confirmed, self._own.hi)

    def confirmers(self) -> tuple[int, int]:
        """(present members that hold all I said, present members)."""
        members = self._presence.members.values()
        return sum(member.holds >= self._said for member in members), len(members)

    def stats(self) -> dict[str, int]:
        """Counters since joining, and the present sizes."""
        return {
            **self._counts,
            "queued": len(self._outbox.queue),
            "history": len(self._history),
            "history_bytes": self._history.size,
            "gaps": self._gaps.count,
            "senders": len(self._streams),
            "members": len(self._presence.members) + 1,
            "members_estimate": self._presence.size(),
            "loss_percent": self._loss.percent(self._now),
            "delay_us": int(self._delay * 1e6),
        }

    # -- receiving -------------------------------------------------------------------------------

    def receive_datagram(self, data: bytes, source: object, now: float) -> None:
        """Take in one datagram; `source` is where an answer by unicast would go."""
        self._now = now
        packet = self._codec.open(data)
        if isinstance(packet, str):
            self._not_ours(packet, data)
            return
        kind, flags, sender, seq, wall, fields = packet
        if sender == self.sender_id:
            if kind == DATA:
                self._own_data(flags, seq, data, now)
            self._drop("own")
            return
        if not self._left:
            _HANDLERS[kind](self, flags, sender, seq, wall, fields, data, source, now)

    def _drop(self, reason: str) -> None:
        reason = "dropped_" + reason
        self._counts[reason] = self._counts.get(reason, 0) + 1

    def _not_ours(self, reason: str, data: bytes) -> None:
        if reason == "magic" and data[:1] != b"\xf5" and data:
            try:
                text = data.decode()
            except UnicodeDecodeError:
                text = "\0"
            if text.isprintable():
                self._events.append(("message", b"", -1, "", TEXT, text, 0, "plain", False))
                return
        self._drop(reason)

    def _own_data(self, flags: int, seq: int, data: bytes, now: float) -> None:
        """My own DATA comes back: a repair by another, a loop, or a claim by a stranger."""
        held = self._history.get((self.sender_id, seq))
        if held is None:
            if seq >= self._said:
                self._conflict(self._own, self.nickname, seq, now)
        elif held.datagram[-16:] != data[-16:]:
            self._conflict(self._own, self.nickname, seq, now)
        elif flags & RELAYED:
            self._heard_repair((self.sender_id, seq), now)

    def _conflict(self, stream: Stream, name: str, seq: int, now: float) -> None:
        if now >= stream.conflict_at + CONFLICT_EVERY_S:
            stream.conflict_at = now
            self._events.append(("conflict", stream.sender, name, seq))
        self._counts["conflicts"] += 1

    def _heard_repair(self, key: "Key", now: float) -> None:
        self._room_bucket.spend(now, 1)
        self._repairs.answered(key, now, self._delay)
        self._stale = True

    def _on_data(
        self,
        flags: int,
        sender: bytes,
        seq: int,
        wall: int,
        fields: "Fields",
        data: bytes,
        source: object,
        now: float,
    ) -> None:
        relayed = flags & RELAYED
        stream = self._streams.get(sender)
        if stream is None:
            stream = self._new_stream(sender, seq, bool(relayed), now)
            if stream is None:
                return
        stream.heard = now
        if not relayed:
            member = self._presence.members.get(sender)
            if member is not None:
                member.heard = now
        if (seq < stream.hi and seq not in stream.skipped) or seq in stream.ahead:
            self._duplicate(stream, flags, seq, data, now)
            return
        lamport, parents, name, kind, text = fields
        message = Message(
            lamport, sender, seq, parents, name, kind, text, wall, bool(flags & MORE), data
        )
        verdict = stream.accept(seq, message, now)
        if verdict == BEYOND:
            self._drop("window")
            return
        self._stale = True
        self._counts["received"] += 1
        if self._gaps.count and self._gaps.remove(sender, seq) and relayed:
            self._counts["recovered"] += 1
        if not relayed:
            stream.history_below = min(stream.history_below, seq)
            more = flags >> 4
            self._loss.first((sender, seq), more, now)
            until = now + more * COPY_SPACING_S + self._delay * (more > 0)
            self._copies_until = max(self._copies_until, until)
        else:
            self._heard_repair((sender, seq), now)
        if lamport > self._lamport and lamport - self._lamport <= LAMPORT_JUMP_MAX:
            self._lamport = lamport
        self._keep(message, now)
        if verdict == LATE:
            self._show_late(stream, message)
            return
        self._believe(stream, seq + 1, now)
        self._moved(stream, now)
        self._news(now)

    def _duplicate(self, stream: Stream, flags: int, seq: int, data: bytes, now: float) -> None:
        self._counts["duplicates"] += 1
        key = stream.sender, seq
        held = self._history.get(key)
        if held is not None and held.datagram[-16:] != data[-16:]:
            self._conflict(stream, stream.name, seq, now)
        elif flags & RELAYED:
            self._heard_repair(key, now)
        else:
            self._loss.further(key, flags >> 4)

    def _new_stream(self, sender: bytes, seq: int, relayed: bool, now: float) -> Stream | None:
        if not self._new_senders.take(now):
            self._drop("rate")
            return None
        if self._senders.full():
            idle = self._senders.idle(now)
            if idle is None or idle is self._own:
                self._drop("senders")
                return None
            self._forget(idle)
        claim = self._claims.pop(sender, None)
        if self._newcomer(now):
            lo, hi = claim[1:] if claim else (0, seq)
            base = min(seq, max(lo, seq + 1 - HISTORY_ASKED_MAX))
            stream = Stream(sender, base, max(hi, seq + 1) if relayed else seq, now)
        else:
            stream = Stream(sender, max(0, seq + 1 - WINDOW_MESSAGES), 0, now)
        self._senders.add(stream)
        return stream

    def _forget(self, stream: Stream) -> None:
        self._senders.remove(stream)
        self._gaps.forget(stream.sender)
        self._shelf.forget(stream)
        self._history.forget(stream.sender)

    def _newcomer(self, now: float) -> bool:
        return now < self._joined + NEWCOMER_S

    def _keep(self, message: Message, now: float) -> None:
        for sender, seq in self._history.add(message, now):
            stream = self._streams.get(sender)
            if stream is not None and stream.lo <= seq:
                stream.lo = min(seq + 1, stream.hi)

    def _believe(self, stream: Stream, hi: int, now: float) -> None:
        """By its sender's own word all numbers below `hi` exist."""
        if hi > stream.word:
            stream.word = hi
            if self._gaps.hearsay:
                self._gaps.believe(stream.sender, hi)
        if stream.word > stream.hi:
            wanted = stream.wanted()
            if wanted:
                top = self._gaps.add(
                    stream.sender, wanted, stream.ahead, True, now, self._delay,
                    self._presence.size(), self._copies_until,
                )  # fmt: skip
                stream.covered = max(stream.covered, top)

    def _moved(self, stream: Stream, now: float) -> None:
        """`stream` may have got further: digest, screen."""
        if stream.backlog:
            self._senders.moved(stream)
            self._changed = now
            self._shelf.offer(stream, now)
            self._drain()

    def _drain(self) -> None:
        for message, event in self._shelf.shown:
            self._events.append(event)
            if message is not None:
                self._history.shown(message, event)
            else:
                self._counts["lost"] += event[3]  # type: ignore[operator]
        self._shelf.shown.clear()

    def _show_late(self, stream: Stream, message: Message) -> None:
        """Show what was stepped over, once all its parts are there."""
        parts = [message]
        while len(parts) < PARTS_MAX:
            before = self._history.get((stream.sender, parts[0].seq - 1))
            if before is None or not before.more:
                break
            parts.insert(0, before)
        while parts[-1].more and len(parts) < PARTS_MAX:
            after = self._history.get((stream.sender, parts[-1].seq + 1))
            if after is None:
                return
            parts.append(after)
        event = event_of(parts, "late", self._verified)
        self._counts["late"] += 1
        self._events.append(event)
        self._history.shown(parts[0], event)

    def _news(self, now: float) -> None:
        """New data: soon somebody should say what all must have by now."""
        members = self._presence.size()
        self._trickle.reset(now, members)
        self._trickle.not_before(self._copies_until, members)

    def _on_nack(
        self,
        flags: int,
        sender: bytes,
        seq: int,
        wall: int,
        fields: "Fields",
        data: bytes,
        source: object,
        now: float,
    ) -> None:
        to, raw = fields
        self._control(sender, seq, now)
        self._stale = True
        listed = ranges(raw)
        if to == self.sender_id:
            self._serve(sender, source, listed, now)
        elif to == NOBODY:
            for asked, lo, hi in listed:
                self._gaps.heard_nack(asked, lo, hi, now, self._delay)
            self._volunteer(listed, now)

    def _held(self, listed: "Sequence[Range]") -> "list[Key]":
        """The keys of `listed` that I hold and have sent or heard; a bounded look."""
        budget = NACK_MESSAGES_MAX
        keys = []
        for sender, lo, hi in listed:
            if sender not in self._streams:
                continue
            if sender == self.sender_id:
                hi = min(hi, self._own.hi)  # the rest waits for its turn
            for seq in range(lo, min(hi, lo + budget)):
                budget -= 1
                if self._history.get((sender, seq)) is not None:
                    keys.append((sender, seq))
        return keys

    def _volunteer(self, listed: "Sequence[Range]", now: float) -> None:
        members = self._presence.size()
        for key in self._held(listed):
            if self._repairs.full():
                break
            source = key[0] == self.sender_id
            if not (source and self._outbox.repeats(key[1])):
                self._repairs.asked(key, source, now, self._delay, members)

    def _serve(self, asker: bytes, source: object, listed: "Sequence[Range]", now: float) -> None:
        if not self._bulk.free(asker):
            return
        for key in self._held(listed):
            if not self._bulk.ask(asker, source, key, now):
                break

    def _on_session(
        self,
        flags: int,
        sender: bytes,
        seq: int,
        wall: int,
        fields: "Fields",
        data: bytes,
        source: object,
        now: float,
    ) -> None:
        digest, sent, echo, echo_sent, held, ask, loss, members, name, raw = fields
        last = self._departed.get(sender)
        if last is not None:
            if (last - seq) & 0xFFFFFFFF < 0x80000000:
                return  # overtaken by its sender's BYE
            del self._departed[sender]
        member = self._control(sender, seq, now) or self._join(sender, name, seq, now)
        if member is None:
            self._drop("members")
            return
        self._stale = True
        self._told(sender, member, name, loss, members)
        self._echo = (sender, sent, now)
        if echo == self.sender_id:
            self._measure(echo_sent, held, now)
        if digest == self._senders.digest:
            self._soliciting = False
            self._unexplained = NEVER
            self._trickle.heard_equal()
            self._holds(member, self._own.hi)
        else:
            self._compare(sender, member, ranges(raw), now)
        if ask & 1:
            self._confirm.asked_by(sender, now, self._presence.size())

    def _control(self, sender: bytes, counter: int, now: float) -> Member | None:
        member = self._presence.members.get(sender)
        if member is not None:
            member.heard = now
            self._loss.control(member.counter, counter)
            member.counter = counter
        return member

    def _join(self, sender: bytes, raw: bytes, counter: int, now: float) -> Member | None:
        name = raw.decode(errors="replace")
        member = self._presence.add(sender, name, counter, now)
        if member is not None:
            self._events.append(("joined", sender, name))
            self._folds = None
            self._confirmed = None
        return member

    def _told(self, sender: bytes, member: Member, raw: bytes, loss: int, members: int) -> None:
        if member.loss != loss:
            self._presence.lossy(member, loss)
        self._presence.vote(members)
        name = raw.decode(errors="replace")
        if name != member.name:
            self._events.append(("renamed", sender, member.name, name))
            member.name = name
            self._folds = None

    def _holds(self, member: Member, hi: int) -> None:
        if hi > member.holds:
            member.holds = hi
            self._confirmed = None

    def _measure(self, echo_sent: int, held: int, now: float) -> None:
        """One-way delay from an echo of mine: half of the round trip less the time it was held."""
        trip = ((int(now * 1e6) - echo_sent - held) & 0xFFFFFFFF) / 2e6
        if trip > 2.0:
            return  # older than any round trip of use, or forged
        if not self._delay_known:
            self._delay_known = True
            self._delay = trip
        else:
            self._delay += (trip - self._delay) / (2 if trip > self._delay else 16)
        self._delay = min(max(self._delay, DELAY_S_MIN), DELAY_S_MAX)

    def _compare(self, sender: bytes, member: Member, listed: "list[Range]", now: float) -> None:
        """A digest differs from mine: who lacks what?"""
        ahead = behind = False
        known = 0
        for origin, lo, hi in listed:
            stream = self._streams.get(origin)
            if stream is None:
                ahead |= self._claim(sender, origin, lo, hi, now)
                continue
            known += 1
            if stream is self._own:
                self._holds(member, min(hi, stream.hi))
            elif hi > stream.hi:
                ahead = True
                self._claim(sender, origin, lo, hi, now)
            if hi < stream.hi and stream.lo <= hi:
                behind = True
        if self._gaps.count:
            for origin, lo, hi in listed:
                if self._gaps.evidence(origin, lo, hi, now, self._delay, self._presence.size()):
                    ahead = True
            if ahead:
                self._holders.claimed(sender, listed)
        if listed:
            self._soliciting = False
        if len(listed) < SESSION_ENTRIES and known < self._senders.listed():
            behind = True  # a whole list, and a sender of mine is not in it
        if not listed and self._senders.digest:
            self._long_list = True
        self._explain(ahead or behind, now)
        if behind:
            self._trickle.reset(now, self._presence.size())

    def _explain(self, explained: bool, now: float) -> None:
        if explained or now < self._changed + EXPLAIN_S:
            self._unexplained = NEVER
        elif self._unexplained == NEVER:
            self._unexplained = now
        elif now >= self._unexplained + EXPLAIN_S:
            self._unexplained = NEVER
            self._long_list = True
            self._trickle.reset(now, self._presence.size())

    def _claim(self, member: bytes, origin: bytes, lo: int, hi: int, now: float) -> bool:
        """`member` says that `origin` has got to `hi`. Whether that is of interest."""
        stream = self._streams.get(origin)
        if stream is not None and member == origin:
            self._believe(stream, hi, now)
            return True
        if stream is not None:
            room = HEARSAY_SENDER_GAPS_MAX - self._gaps.hearsay_of(origin)
            start = max(stream.word, stream.hi)
            seqs = range(start, min(hi, start + room))
            held: Sequence[int] = ()
        else:
            if hi <= lo or origin == NOBODY:
                return False
            if origin not in self._claims and len(self._claims) >= CLAIMS_MAX:
                return False
            before = self._claims.get(origin)
            self._claims[origin] = (origin, min(lo, before[1]) if before else lo, hi)
            room = HEARSAY_UNHEARD_GAPS_MAX - self._gaps.hearsay_of(origin)
            seqs = range(max(lo, hi - room), hi)
            held = ()
        self._gaps.add(
            origin, seqs, held, False, now, self._delay, self._presence.size(), self._copies_until
        )
        return True

    def _on_bye(
        self,
        flags: int,
        sender: bytes,
        seq: int,
        wall: int,
        fields: "Fields",
        data: bytes,
        source: object,
        now: float,
    ) -> None:
        member = self._control(sender, seq, now)
        self._departed[sender] = seq
        if len(self._departed) > 64:
            del self._departed[next(iter(self._departed))]
        if member is not None:
            self._presence.remove(sender)
            self._gone(sender, member.name, "bye")

    def _gone(self, sender: bytes, name: str, why: str) -> None:
        self._events.append(("left", sender, name, why))
        self._holders.gone(sender)
        self._folds = None
        self._confirmed = None
        self._stale = True

    # -- time ------------------------------------------------------------------------------------

    def handle_timer(self, now: float) -> None:
        """Do what is due at `now`; calling it early is harmless."""
        self._now = now
        if not self._left:
            for step in _TIMERS:
                step(self, now)
        self._stale = True

    def _find_deadline(self) -> float:
        if self._left:
            return NEVER
        if self._byes:
            return self._bye_due
        now = self._now
        due = [
            self._outbox.deadline(),
            self._trickle.deadline(),
            self._presence_due(),
            self._presence.deadline(),
            self._shelf.deadline(),
            self._confirm.ask_due,
            self._confirm.answer_due,
        ]
        if self._outbox.queue:
            due.append(max(now, self._data_bucket.when()))
        if self._gaps.count:
            due.append(max(self._gaps.next_due, self._nack_bucket.when()))
        if self._bulk:
            due.append(max(self._bulk_bucket.when(), self._bytes_bucket.when(1200)))
        return min([*due, self._repair_due()])

    def _repair_due(self) -> float:
        due = self._repairs.deadline()
        if due == NEVER:
            return NEVER
        return max(due, self._repair_bucket.when(), self._room_bucket.when())

    def _presence_due(self) -> float:
        return max(
            self._spoke + self._presence.interval() * self._patience, self._session_bucket.when()
        )

    def _emit(self, datagram: bytes, to: object | None, now: float) -> None:
        self._bytes_bucket.spend(now, len(datagram))
        self._counts["bytes_sent"] += len(datagram)
        self._out.append((datagram, to))

    def _next_counter(self) -> int:
        self._counter += 1
        return self._counter - 1

    def _send_data(self, now: float) -> None:
        queue = self._outbox.queue
        while queue and self._data_bucket.take(now):
            message = queue.popleft()
            size = len(message.datagram)
            members = self._presence.size()
            room = int(self._bytes_bucket.level(now) / 2 / size) - 1  # copies give way
            more = copies(self._rng, self._presence.losses, members, max(0, room))
            self._bytes_bucket.spend(now, more * size)  # so that what is announced can be sent
            self._emit(self._outbox.announce(message, more, now), None, now)
            self._counts["sent"] += 1
            self._own.hi = self._own.word = message.seq + 1
            self._own.heard = now
            self._senders.moved(self._own)
            self._changed = now
            self._copies_until = max(
                self._copies_until, now + more * COPY_SPACING_S + self._delay * (more > 0)
            )
            self._confirmed = None
            self._news(now)

    def _send_copies(self, now: float) -> None:
        datagram = self._outbox.take_copy(now)
        while datagram is not None:
            self._counts["copies_sent"] += 1
            self._counts["bytes_sent"] += len(datagram)
            self._out.append((datagram, None))
            datagram = self._outbox.take_copy(now)

    def _send_repairs(self, now: float) -> None:
        if self._repairs.deadline() > now:
            return
        for key in self._repairs.take_due(now):
            message = self._history.get(key)
            if message is None:
                continue
            if not (self._room_bucket.level(now) >= 1 and self._repair_bucket.take(now)):
                break
            self._room_bucket.spend(now, 1)
            self._repairs.answered(key, now, self._delay)
            self._counts["repairs_sent"] += 1
            self._emit(as_repair(message.datagram), None, now)

    def _send_bulk(self, now: float) -> None:
        while self._bulk and self._bytes_bucket.level(now) >= 1200 and self._bulk_bucket.take(now):
            message = self._history.get(self._bulk.take())
            if message is not None:
                self._counts["bulk_sent"] += 1
                self._emit(as_repair(message.datagram), self._bulk.source, now)

    def _send_nacks(self, now: float) -> None:
        if not self._gaps.count:
            return
        due, gone = self._gaps.take_due(now, self._delay)
        self._give_up(gone, now)
        due = [gap for gap in due if not self._let_go(gap, now)]
        while due and self._nack_bucket.take(now):
            due = self._send_nack(due, now)
        for gap in due:
            self._gaps.postpone(gap, max(now, self._nack_bucket.when()))

    def _send_nack(self, due: "list[Gap]", now: float) -> "list[Gap]":
        """One NACK for the first of `due`; return those that found no place."""
        to = NOBODY
        asking = due[:NACK_MESSAGES_MAX]
        if len(due) >= BULK_GAPS_MIN:
            to = self._holders.choose([(gap.sender, gap.seq) for gap in due[:256]], now)
        if to != NOBODY:
            asking = [gap for gap in due if self._holders.covers(to, (gap.sender, gap.seq))]
            asking = asking[:BULK_ASKED_MAX]
        entries: list[Range] = []
        taken = 0
        for gap in asking:
            if entries and entries[-1][0] == gap.sender and entries[-1][2] == gap.seq:
                entries[-1] = (gap.sender, entries[-1][1], gap.seq + 1)
            elif len(entries) < NACK_RANGES_MAX:
                entries.append((gap.sender, gap.seq, gap.seq + 1))
            else:
                break
            taken += 1
        for gap in asking[:taken]:
            self._gaps.asked(gap, now, self._delay)
        asked = set(map(id, asking[:taken]))
        body = nack_body(to, entries)
        self._emit(
            self._codec.pack(NACK, 0, self.sender_id, self._next_counter(), 0, body), None, now
        )
        self._counts["nacks_sent"] += 1
        return [gap for gap in due if id(gap) not in asked]

    def _let_go(self, gap: "Gap", now: float) -> bool:
        """History that nobody seems to hold is given up silently: it was before my time."""
        stream = self._streams.get(gap.sender)
        if (
            stream is None
            or gap.seq >= stream.history_below
            or gap.asks < STUCK_ASKS
            or gap.evidence > -NEVER
        ):
            return False
        self._give_up([gap], now)
        return True

    def _give_up(self, gone: "list[Gap]", now: float) -> None:
        """Step over what is gone for good; what nothing is held behind waits for its sender."""
        for gap in gone:
            stream = self._streams.get(gap.sender)
            if stream is None:
                self._gaps.remove(gap.sender, gap.seq)
            elif gap.seq == stream.hi and stream.ahead:
                report = gap.seq >= stream.history_below
                self._gaps.remove(gap.sender, gap.seq)
                stream.step_over(gap.seq + 1, report, now)
                self._moved(stream, now)
            elif gap.seq > stream.hi or gap.sender in self._presence.members:
                self._gaps.postpone(gap, now + 1.0)
            else:
                self._gaps.remove(gap.sender, gap.seq)

    def _speak(self, now: float) -> None:
        """Whatever calls for a SESSION now: Trickle, presence, a confirmation."""
        confirm = self._confirm
        ask = False
        if confirm.ask_due <= now:
            if self.unconfirmed() or not self._presence.members:
                ask = not self._outbox.queue
                confirm.asked(now, self._delay, self._presence.size())
            else:
                confirm.stop()
        members = self._presence.size()
        trickle = self._trickle.handle_timer(now, members) and not self._gaps.pressing
        if not (
            ask or trickle or confirm.answer_due <= now or self._presence_due() <= now
        ) or not self._session_bucket.take(now):
            return
        self._send_session(ask, now)

    def _send_session(self, ask: bool, now: float) -> None:
        confirm = self._confirm
        first = confirm.askers[0] if confirm.askers else NOBODY
        count = SESSION_ENTRIES_MAX if self._long_list else SESSION_ENTRIES
        entries = (
            []
            if self._soliciting and not self._senders.digest
            else (self._senders.listing(count, first))
        )
        peer, sent, heard = self._echo
        body = session_body(
            self._senders.digest,
            int(now * 1e6),
            (peer, sent, int((now - heard) * 1e6) & 0xFFFFFFFF),
            int(ask),
            self._loss.percent(now),
            len(self._presence.members) + 1,
            self.nickname.encode(),
            entries,
        )
        self._emit(
            self._codec.pack(SESSION, 0, self.sender_id, self._next_counter(), 0, body), None, now
        )
        self._counts["sessions_sent"] += 1
        self._long_list = False
        self._spoke = now
        self._patience = 0.8 + 0.2 * self._rng.random()
        if confirm.answer_due <= now:
            confirm.answered()

    def _expire(self, now: float) -> None:
        for sender, member in self._presence.silent(now):
            self._gone(sender, member.name, "silent")
        self._shelf.handle_timer(now)
        self._drain()

    def _say_bye(self, now: float) -> None:
        if now < self._bye_due:
            return
        self._emit(
            self._codec.pack(BYE, 0, self.sender_id, self._next_counter(), 0, b""), None, now
        )
        self._byes -= 1
        self._bye_due = now + BYE_SPACING_S if self._byes else NEVER
        self._left = not self._byes


_HANDLERS: "dict[int, Callable[..., None]]" = {
    DATA: RoomSession._on_data,
    NACK: RoomSession._on_nack,
    SESSION: RoomSession._on_session,
    BYE: RoomSession._on_bye,
}
_TIMERS: "tuple[Callable[[RoomSession, float], None], ...]" = (
    RoomSession._send_data,
    RoomSession._send_copies,
    RoomSession._send_repairs,
    RoomSession._send_bulk,
    RoomSession._send_nacks,
    RoomSession._speak,
    RoomSession._expire,
    RoomSession._say_bye,
)
