"""The reliable room: datagrams and time in; datagrams, events and a deadline out. Floor 3.

`RoomSession` puts the rules of the room together; each lives in a module of its own below:

    what was said       ledger      order streams, digest senders, parents shelf, history
    what is missing     gaps        when to ask; bulk: whom, when it is much
    who answers         repairs     and bulk, for one asker
    who is here         presence    members, their number, their losses
    when to speak       trickle     SESSIONs; confirm: because somebody must know
    my own messages     outbox      queue and copies; loss: how many copies
    what may be sent    voice       all the caps

Towards the others a member is in one of three states:

    state      I lack                          at a Trickle point I    I NACK
    current    nothing that I know of          send SESSION            nothing
    behind     gaps, asked for < 6 times       send nothing            what is due
    orphaned   only gaps asked for 6 times     send SESSION            what is due, every 8 s

and the session itself goes from joining (nothing heard: its SESSIONs solicit) over taking part to
leaving (BYEs, then nothing at all). A datagram changes the state and a timer sends, so that a burst
is answered once.
"""

from evloop.bulk import BulkServer, Holders
from evloop.confirm import Confirm
from evloop.delay import Delay
from evloop.gaps import Gap, Gaps
from evloop.ledger import CONFLICT, Ledger
from evloop.limits import (
    BULK_ASKED_MAX,
    BULK_GAPS_MIN,
    BYE_SPACING_S,
    BYE_TIMES,
    COPY_SPACING_S,
    DATA_BURST,
    DEPARTED_MAX,
    DEPARTED_S,
    EXPLAIN_S,
    GREETED_MEMBERS_MAX,
    HEARSAY_SENDER_GAPS_MAX,
    HEARSAY_UNHEARD_GAPS_MAX,
    NACK_BURST,
    NACK_MESSAGES_MAX,
    NACK_RANGES_MAX,
    SESSION_ENTRIES,
    SESSION_ENTRIES_MAX,
    STUCK_ASKS,
)
from evloop.loss import LossMeter, copies
from evloop.names import check_nickname
from evloop.outbox import Outbox, split
from evloop.packets import (
    BYE,
    DATA,
    NACK,
    NOBODY,
    RELAYED,
    SESSION,
    TEXT,
    Codec,
    as_ranges,
    nack_body,
    ranges,
    session_body,
)
from evloop.presence import Member, Presence
from evloop.repairs import Repairs
from evloop.streams import BEYOND, LATE, NEW, OLD, Stream
from evloop.trickle import Trickle
from evloop.voice import Voice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

    from evloop.packets import Datagram, Fields, Range

    Event = tuple[object, ...]
    Key = tuple[bytes, int]

NEVER = float("inf")

_COUNTERS = (
    "sent", "copies_sent", "repairs_sent", "bulk_sent", "nacks_sent", "sessions_sent", "byes_sent",
    "bytes_sent", "received", "recovered", "duplicates",
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
        self._now = now
        self._counts = dict.fromkeys(_COUNTERS, 0)
        self._codec = Codec(place, key)
        self._ledger = Ledger(self._codec, sender_id, bool(key), now)
        self._streams = self._ledger.streams
        self._gaps = Gaps(rng)
        self._holders = Holders(rng)
        self._repairs = Repairs(rng)
        self._bulk = BulkServer()
        self._presence = Presence(self.nickname)
        self._departed: dict[bytes, tuple[int, float]] = {}  # (counter, until) of BYEs heard
        self._trickle = Trickle(rng, now, 1)
        self._confirm = Confirm(rng)
        self._outbox = Outbox()
        self._loss = LossMeter()
        self._delay = Delay()
        self._voice = Voice(self._codec, sender_id, self._counts, now)

        self._copies_until = now  # announced copies of the newest DATA have had their time
        self._soliciting = True  # nobody has said yet what there is
        self._long_list = False  # the next SESSION lists up to SESSION_ENTRIES_MAX
        self._unexplained = NEVER  # since when a digest differs without a reason
        self._spoke = -NEVER  # my last SESSION
        self._patience = 1.0  # jitter of the presence interval
        self._mute_until = now  # the cap forbids a SESSION before
        self._byes = 0  # still to be said
        self._bye_due = NEVER
        self._left = False
        self._deadline = now
        self._stale = True  # something is due earlier than _deadline: find it anew
        self._confirmed: int | None = None  # least number of mine that all hold

    # -- what a client does ----------------------------------------------------------------------

    def say(self, text: str, now: float, wall: int, kind: int = TEXT) -> None:
        """Queue a message; `wall` in unix seconds. Refused `too_long` or `too_fast`."""
        parts = split(text)
        self._outbox.check(len(parts))
        self._now = now
        name = self.nickname.encode()
        self._outbox.queue.extend(self._ledger.say(parts, name, kind, wall, now))
        self._stale = True
        self._confirmed = None

    def rename(self, nickname: str, now: float, wall: int) -> None:
        """Use another name and tell it at once; Refused when it breaks the rules."""
        self.nickname = check_nickname(nickname)
        self._presence.rename(self.nickname)
        self._now = now
        self._spoke = -NEVER
        self._stale = True

    def leave(self, now: float, wall: int) -> None:
        """Say goodbye BYE_TIMES; after that there is nothing to do (`next_deadline` is inf)."""
        self._now = now
        if not self._byes and not self._left:
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

    def datagrams_to_send(self) -> "list[Datagram]":
        """(datagram, None for the group or the source it goes to); each is told once."""
        if (self._stale or self._now >= self._deadline) and self._now >= self.next_deadline():
            self.handle_timer(self._now)
        voice = self._voice
        if not voice.out:
            return []
        out, voice.out = voice.out, []
        return out

    def events(self) -> "list[Event]":
        """What happened since the last call."""
        ledger = self._ledger
        if not ledger.events:
            return []
        events, ledger.events = ledger.events, []
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
        return self._presence.label(sender, name)

    def history(self, count: int) -> "list[Event]":
        """The newest `count` "message" events, sorted by (lamport, sender, seq)."""
        self._ledger.history.expire(self._now)
        return self._ledger.history.newest(count)

    def digest(self) -> int:
        """What a SESSION sent now would say: equal digests mean that both have everything."""
        return self._ledger.senders.digest

    def queued(self) -> int:
        """Own messages (parts) that wait for the rate."""
        return len(self._outbox.queue)

    def unconfirmed(self) -> int:
        """Own messages (parts) that some present member is not known to hold."""
        own = self._ledger.own.hi
        if self._confirmed is None:
            held = [member.holds for member in self._presence.members.values()]
            self._confirmed = min(held, default=own)
        return self._ledger.said - min(self._confirmed, own)

    def confirmers(self) -> tuple[int, int]:
        """(present members that hold all I said, present members)."""
        members = self._presence.members.values()
        return sum(member.holds >= self._ledger.said for member in members), len(members)

    def stats(self) -> dict[str, int]:
        """Counters since joining, and the present sizes; `loss_percent` 255 is unknown."""
        ledger = self._ledger
        return {
            **self._counts,
            "lost": ledger.lost,
            "late": ledger.late,
            "conflicts": ledger.conflicts,
            "queued": len(self._outbox.queue),
            "history": len(ledger.history),
            "history_bytes": ledger.history.size,
            "gaps": self._gaps.count,
            "senders": len(self._streams),
            "members": len(self._presence.members) + 1,
            "members_estimate": self._presence.size(),
            "loss_percent": self._loss.percent(self._now),
            "delay_us": int(self._delay.value * 1e6),
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
            self._drop("own")
            if kind == DATA and self._ledger.own_came_back(seq, data, self.nickname, now):
                self._heard_repair(flags, (sender, seq), now)
        elif self._byes or self._left:
            self._drop("left")
        elif kind == DATA:
            self._on_data(flags, sender, seq, wall, fields, data, now)
        else:
            _HANDLERS[kind](self, sender, seq, fields, source, now)

    def _drop(self, reason: str) -> None:
        reason = "dropped_" + reason
        self._counts[reason] = self._counts.get(reason, 0) + 1

    def _not_ours(self, reason: str, data: bytes) -> None:
        # Plain text of older programs is shown as long as it can not harm; F5 is never in UTF-8.
        if reason == "magic" and data[:1] != b"\xf5":
            try:
                text = data.decode().rstrip("\0\r\n")
            except UnicodeDecodeError:
                text = ""
            if text and text.isprintable():
                event = ("message", b"", -1, "", TEXT, text, 0, "plain", False)
                self._ledger.events.append(event)
                return
        self._drop(reason)

    def _heard_repair(self, flags: int, key: "Key", now: float) -> None:
        if flags & RELAYED:
            self._voice.room.take(now)
            self._repairs.answered(key, now, self._delay.value)

    def _on_data(
        self,
        flags: int,
        sender: bytes,
        seq: int,
        wall: int,
        fields: "Fields",
        data: bytes,
        now: float,
    ) -> None:
        relayed = flags & RELAYED
        if not relayed:
            member = self._presence.members.get(sender)
            if member is not None:
                member.heard = now
        verdict = self._ledger.receive(flags, sender, seq, wall, fields, data, now)
        if verdict == OLD:
            self._counts["duplicates"] += 1
            if relayed:
                self._heard_repair(flags, (sender, seq), now)
            else:
                self._loss.further((sender, seq), flags >> 4)
            return
        if verdict != NEW and verdict != LATE:
            if verdict != CONFLICT:
                self._drop("window" if verdict == BEYOND else verdict)
            return
        self._stale = True
        self._counts["received"] += 1
        if self._gaps.count:
            if not relayed:
                self._gaps.remove(sender, seq)
            elif self._gaps.recovered(sender, seq, now):
                self._counts["recovered"] += 1
                self._holders.bore_fruit()
        stream = self._streams[sender]
        if relayed:
            self._heard_repair(flags, (sender, seq), now)
        else:
            self._announced((sender, seq), flags >> 4, now)
            if stream.word > seq + 1 + DATA_BURST:
                self._take_back(stream, seq + 1)
        if verdict == NEW:
            self._believe(stream, seq + 1, now)
            self._news(now)

    def _announced(self, key: "Key", more: int, now: float) -> None:
        """The first copy of a new DATA that arrived says that `more` follow."""
        if more:
            self._loss.first(key, more, now)
            until = now + more * COPY_SPACING_S + self._delay.value
            self._copies_until = max(self._copies_until, until)

    def _news(self, now: float) -> None:
        """New data: soon somebody should say what all must have by now."""
        self._trickle.news(now, self._presence.size(), self._copies_until)

    def _round(self, now: float) -> float:
        return self._gaps.round(now, self._delay.value, self._presence.size(), self._copies_until)

    def _believe(self, stream: Stream, hi: int, now: float) -> None:
        """By its sender's own word all numbers below `hi` exist."""
        if hi > stream.word:
            stream.word = hi
            if self._gaps.hearsay:
                self._gaps.believe(stream.sender, hi)
        if stream.word > stream.hi:
            wanted = stream.wanted()
            if wanted:
                due = self._round(now)
                top = self._gaps.add(stream.sender, wanted, stream.ahead, now, due)
                stream.covered = max(stream.covered, top)

    def _take_back(self, stream: Stream, hi: int) -> None:
        """Its sender's newest word is below an older one, which was forged or is void."""
        hi = max(hi, stream.hi, max(stream.ahead, default=-1) + 1)
        if hi < stream.word:
            stream.word = hi
            stream.covered = min(stream.covered, hi)
            self._gaps.forget(stream.sender, hi)

    def _on_nack(
        self, sender: bytes, seq: int, fields: "Fields", source: object, now: float
    ) -> None:
        to, raw = fields
        self._control(sender, seq, now)
        self._stale = True
        listed = ranges(raw)
        if to == NOBODY:
            for origin, lo, hi in listed:
                self._gaps.heard_nack(origin, lo, hi, now, self._delay.value)
            self._volunteer(listed, now)
        elif to == self.sender_id and self._bulk.free(sender):
            for key in self._ledger.held(listed):
                if not self._bulk.ask(sender, source, key, now):
                    break

    def _volunteer(self, listed: "Sequence[Range]", now: float) -> None:
        if self._repairs.full():
            return
        members = self._presence.size()
        for key in self._ledger.held(listed):
            source = key[0] == self.sender_id
            if not (source and self._outbox.repeats(key[1])):
                self._repairs.asked(key, source, now, self._delay.value, members)
            if self._repairs.full():
                return

    def _on_session(
        self, sender: bytes, seq: int, fields: "Fields", source: object, now: float
    ) -> None:
        digest, sent, echo, echo_sent, held, ask, loss, members, name, raw = fields
        if self._overtaken(sender, seq, now):
            return
        member = self._presence.members.get(sender)
        fresh = member is None or 0 < (seq - member.counter) & 0xFFFFFFFF < 0x80000000
        member = self._control(sender, seq, now) or self._join(sender, name, seq, now)
        if member is None:
            self._drop("members")
            return
        if member.loss != loss:
            self._presence.lossy(member, loss)
        self._presence.vote(members)
        if name != member.raw_name:
            old = self._presence.named(member, name)
            self._ledger.events.append(("renamed", sender, old, member.name))
        if fresh:
            self._delay.heard(sender, sent, now)
            if echo == self.sender_id:
                self._delay.echoed(echo_sent, held, now)
        if digest == self._ledger.senders.digest:
            self._soliciting = False
            self._unexplained = NEVER
            self._heard_equal(len(raw) // 16)
            self._holds(member, self._ledger.own.hi)
        else:
            self._compare(sender, member, ranges(raw), now)
        if ask & 1:
            self._confirm.asked_by(sender, now, self._presence.size())
            self._stale = True

    def _heard_equal(self, listed: int) -> None:
        """Somebody said what I would have said; not when I owe a newcomer a longer list."""
        if self._long_list:
            if listed < min(self._ledger.senders.listed(), SESSION_ENTRIES_MAX):
                return
            self._long_list = False
        self._trickle.heard_equal()

    def _overtaken(self, sender: bytes, counter: int, now: float) -> bool:
        """Whether a SESSION is older than its sender's BYE; else that BYE is void."""
        last, until = self._departed.get(sender, (0, -NEVER))
        if now < until and (last - counter) & 0xFFFFFFFF < 0x80000000:
            return True
        self._departed.pop(sender, None)
        return False

    def _control(self, sender: bytes, counter: int, now: float) -> Member | None:
        member = self._presence.members.get(sender)
        if member is not None:
            member.heard = now
            self._loss.control(member.counter, counter)
            member.counter = counter
        return member

    def _join(self, sender: bytes, name: bytes, counter: int, now: float) -> Member | None:
        member = self._presence.add(sender, name, counter, now)
        if member is not None:
            self._ledger.events.append(("joined", sender, member.name))
            self._confirmed = None
            self._stale = True
            if self._presence.size() <= GREETED_MEMBERS_MAX:
                self._confirm.asked_by(sender, now, self._presence.size())
        return member

    def _holds(self, member: Member, hi: int) -> None:
        if hi > member.holds:
            member.holds = hi
            self._confirmed = None

    def _compare(self, sender: bytes, member: Member, listed: "list[Range]", now: float) -> None:
        """The digest of `sender` differs from mine: who lacks what?"""
        self._stale = True
        ahead = behind = False
        known = 0
        own = self._ledger.own
        for origin, lo, hi in listed:
            stream = self._streams.get(origin)
            if stream is None:
                ahead |= self._hear_of(origin, lo, hi, now)
                continue
            known += 1
            if stream is own:
                self._holds(member, min(hi, own.hi))
            elif origin == sender:
                if hi < stream.word:
                    self._take_back(stream, hi)
                self._believe(stream, hi, now)
            elif hi > stream.word:
                self._hear_of(origin, lo, hi, now)
            ahead |= hi > stream.hi and stream is not own
            behind |= stream.lo <= hi < stream.hi
        if self._gaps.count and self._evidence(listed, now):
            ahead = True
            self._holders.claimed(sender, listed)
        if listed:
            self._soliciting = False
            if len(listed) < SESSION_ENTRIES and known < self._ledger.senders.listed():
                behind = True  # a whole list, and a sender of mine is not in it
        elif self._ledger.senders.digest:
            behind = self._long_list = True
        self._explain(ahead or behind, now)
        if behind:
            self._trickle.reset(now, self._presence.size())

    def _evidence(self, listed: "list[Range]", now: float) -> bool:
        due = self._round(now)
        missing = [self._gaps.evidence(origin, lo, hi, now, due) for origin, lo, hi in listed]
        return any(missing)

    def _explain(self, explained: bool, now: float) -> None:
        """After EXPLAIN_S of a difference that no list explains, a longer list is due."""
        if explained or now < self._ledger.changed + EXPLAIN_S:
            self._unexplained = NEVER
        elif self._unexplained == NEVER:
            self._unexplained = now
        elif now >= self._unexplained + EXPLAIN_S:
            self._unexplained = NEVER
            self._long_list = True
            self._trickle.reset(now, self._presence.size())

    def _hear_of(self, origin: bytes, lo: int, hi: int, now: float) -> bool:
        """Hearsay: somebody holds [lo, hi) of `origin`. Whether that is of interest."""
        stream = self._streams.get(origin)
        if stream is None:
            if not self._ledger.claimed(origin, lo, hi):
                return False
            # The newest: when one of them comes, it is its sender's word for the others.
            most = HEARSAY_UNHEARD_GAPS_MAX
            seqs = range(max(lo, hi - most), hi)
        else:
            most = HEARSAY_SENDER_GAPS_MAX
            start = max(stream.word, stream.hi)
            seqs = range(start, min(hi, start + most))
        self._gaps.hear_of(origin, seqs, most, now, self._round(now))
        return True

    def _on_bye(
        self, sender: bytes, seq: int, fields: "Fields", source: object, now: float
    ) -> None:
        member = self._control(sender, seq, now)
        self._departed.pop(sender, None)
        self._departed[sender] = (seq, now + DEPARTED_S)
        if len(self._departed) > DEPARTED_MAX:
            del self._departed[next(iter(self._departed))]
        if member is not None:
            self._presence.remove(sender)
            self._gone(sender, member.name, "bye")

    def _gone(self, sender: bytes, name: str, why: str) -> None:
        self._ledger.events.append(("left", sender, name, why))
        self._holders.gone(sender)
        self._confirmed = None
        self._stale = True

    # -- time ------------------------------------------------------------------------------------

    def handle_timer(self, now: float) -> None:
        """Do what is due at `now`; calling it early is harmless."""
        self._now = now
        self._stale = True
        if self._byes:
            self._send_copies(now)
            self._say_bye(now)
        elif not self._left:
            for step in _TIMERS:
                step(self, now)

    def _find_deadline(self) -> float:
        if self._byes:
            return min(self._bye_due, self._outbox.deadline())
        if self._left:
            return NEVER
        voice = self._voice
        due = [
            self._outbox.deadline(),
            self._trickle.deadline(),
            self._presence_due(),
            self._presence.deadline(),
            self._ledger.deadline(),
            self._confirm.ask_due,
            self._confirm.answer_due,
        ]
        if self._outbox.queue:
            due.append(voice.data.when())
        if self._gaps.count:
            due.append(max(self._gaps.next_due, voice.nack.when()))
        if self._bulk:
            due.append(voice.bulk_due())
        if self._repairs.due:
            due.append(max(self._repairs.deadline(), voice.repair_due()))
        return min(due)

    def _presence_due(self) -> float:
        due = self._spoke + self._presence.interval() * self._patience
        return due if due > self._mute_until else self._mute_until

    def _send_data(self, now: float) -> None:
        queue = self._outbox.queue
        while queue and self._voice.data.take(now):
            message = queue.popleft()
            size = len(message.datagram)
            most = self._voice.copies_afforded(size, now)
            more = copies(self._rng, self._presence.losses, self._presence.size(), most)
            self._voice.reserve(more * size, now)
            self._voice.emit(self._outbox.announce(message, more, now), None, "sent", now)
            self._ledger.sent(message, now)
            self._confirmed = None
            if more:
                until = now + more * COPY_SPACING_S + self._delay.value
                self._copies_until = max(self._copies_until, until)
            self._news(now)

    def _send_copies(self, now: float) -> None:
        datagram = self._outbox.take_copy(now)
        while datagram is not None:
            self._voice.emit_copy(datagram)
            datagram = self._outbox.take_copy(now)

    def _send_repairs(self, now: float) -> None:
        if not self._repairs.due:
            return
        for key in self._repairs.take_due(now):
            message = self._ledger.history.get(key)
            if message is not None and self._voice.say_repair(message.datagram, now):
                self._repairs.answered(key, now, self._delay.value)

    def _send_bulk(self, now: float) -> None:
        while self._bulk and self._voice.may_bulk(now):
            message = self._ledger.history.get(self._bulk.take())
            if message is not None:
                self._voice.say_bulk(message.datagram, self._bulk.source, now)

    def _send_nacks(self, now: float) -> None:
        if now < self._gaps.next_due:
            return
        due, gone = self._gaps.take_due(now, self._delay.value)
        for gap in gone:
            self._give_up(gap, now)
        due = [gap for gap in due if not self._let_go(gap, now)]
        bucket = self._voice.nack
        # Rumours may have half of the burst; the rest is for what surely exists.
        while due and (due[0].word or bucket.level(now) > NACK_BURST / 2):
            to = self._whom_to_ask(due, now)
            if to is None or not bucket.take(now):
                break
            due = self._send_nack(due, to, now)
        for gap in due:
            self._gaps.postpone(gap, max(now + self._delay.value, bucket.when()))

    def _whom_to_ask(self, due: "list[Gap]", now: float) -> bytes | None:
        """NOBODY (anyone), or for much one that holds it; None: all that do are busy with me."""
        if len(due) < BULK_GAPS_MIN:
            return NOBODY
        keys = [gap.key for gap in due[: 2 * BULK_ASKED_MAX]]
        return self._holders.choose(keys, now, 12 * self._delay.value)

    def _send_nack(self, due: "list[Gap]", to: bytes, now: float) -> "list[Gap]":
        """One NACK for the first of `due`; return those that found no place."""
        asking = due[:NACK_MESSAGES_MAX]
        if to != NOBODY:
            asking = [gap for gap in due if self._holders.covers(to, gap.key)][:BULK_ASKED_MAX]
        listed, taken = as_ranges([gap.key for gap in asking], NACK_RANGES_MAX)
        self._gaps.asked(asking[:taken], now, self._delay.value)
        self._voice.say_nack(nack_body(to, listed), now)
        asked = set(asking[:taken])
        return [gap for gap in due if gap not in asked]

    def _let_go(self, gap: Gap, now: float) -> bool:
        """What is from before my time and nobody says to hold is given up early, silently."""
        stream = self._streams.get(gap.sender)
        if stream is None or gap.seq >= stream.history_below:
            return False
        if gap.asks < STUCK_ASKS or gap.evidence > -NEVER:
            return False
        self._give_up(gap, now)
        return True

    def _give_up(self, gap: Gap, now: float) -> None:
        """Step over what is gone for good.

        Where nothing is held behind it nothing waits, and it may be a lie: then it is forgotten
        when its sender is not there, and asked for now and then while that is.
        """
        stream = self._streams.get(gap.sender)
        if stream is not None and stream.ahead and gap.seq == stream.hi:
            self._gaps.remove(gap.sender, gap.seq)
            self._ledger.step_over(stream, gap.seq + 1, now)
            self._news(now)
        elif stream is not None and (gap.seq > stream.hi or gap.sender in self._presence.members):
            self._gaps.postpone(gap, now + 1.0)
        else:
            self._gaps.remove(gap.sender, gap.seq)

    def _speak(self, now: float) -> None:
        """Whatever calls for a SESSION now: Trickle, presence, a confirmation."""
        confirm = self._confirm
        ask = False
        if confirm.ask_due <= now:
            if self._presence.members and not self.unconfirmed():
                confirm.stop()
            else:
                ask = not self._outbox.queue
                confirm.asked(now, self._delay.value, self._presence.size())
        trickle = self._trickle.handle_timer(now, self._presence.size())
        trickle = trickle and not self._behind()
        answer = confirm.answer_due <= now
        if trickle or ask or answer or self._presence_due() <= now:
            if self._voice.session.take(now):
                self._say_session(ask, now)
            else:
                self._mute_until = self._voice.session.when()

    def _behind(self) -> bool:
        return self._gaps.pressing > 0

    def _say_session(self, ask: bool, now: float) -> None:
        senders, confirm = self._ledger.senders, self._confirm
        first = confirm.askers[0] if confirm.askers else NOBODY
        listed: list[Range] = []
        if senders.digest or not self._soliciting:
            most = SESSION_ENTRIES_MAX if self._long_list else SESSION_ENTRIES
            listed = senders.listing(most, first)
        body = session_body(
            senders.digest,
            self._delay.sending(now),
            self._delay.echo(now),
            int(ask),
            self._loss.percent(now),
            len(self._presence.members) + 1,
            self.nickname.encode(),
            listed,
        )
        self._voice.say_session(body, now)
        self._long_list = False
        self._spoke = now
        self._patience = 0.8 + 0.2 * self._rng.random()
        if confirm.answer_due <= now:
            confirm.answered()

    def _expire(self, now: float) -> None:
        for sender, member in self._presence.silent(now):
            self._gone(sender, member.name, "silent")
        self._ledger.handle_timer(now)

    def _say_bye(self, now: float) -> None:
        if now >= self._bye_due:
            self._voice.say_bye(now)
            self._byes -= 1
            self._bye_due = now + BYE_SPACING_S
            self._left = not self._byes


_HANDLERS: "dict[int, Callable[..., None]]" = {
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
)
