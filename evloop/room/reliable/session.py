"""The reliable room: datagrams and time in; datagrams, events and a deadline out.

`RoomSession` puts the rules of the room together; each lives in a module of its own below:

    what was said       message_log   numbers, digest, parents, history, what is shown
    what I lack         nack          `Gaps`: when it is asked for; `Holders`: who is asked for much
    what others lack    repair        `Repairs`: to all; `BulkServer`: to one asker at a time
    what I hold         announce      `Trickle` and `Confirm`: when it is told
    my own messages     egress, talk  `Outbox`: the queue and the copies; when each goes
    what may be sent    egress        `Egress`: all the caps

Towards the others a member is in one of three states:

    state      I lack                          at a Trickle point I    I NACK
    current    nothing that I know of          send SESSION            nothing
    behind     gaps, asked for < 6 times       send nothing            what is due
    orphaned   only gaps asked for 6 times     send SESSION            what is due, every 8 s

The session itself begins as joining (nothing heard yet: its SESSIONs solicit), then takes part, and
ends as leaving (BYEs, then nothing more). A datagram changes the state, and only a timer sends, so
that a burst of datagrams is answered once.
"""

from __future__ import annotations

from evloop.base.names import check_nickname
from evloop.room.events import TEXT, Joined, Left, Renamed, Said, Unheard
from evloop.room.reliable.announce import Announcer, Confirm
from evloop.room.reliable.deafness import Deafness
from evloop.room.reliable.delay import Delay
from evloop.room.reliable.egress import Egress, Outbox, split
from evloop.room.reliable.estimators import LossMeter
from evloop.room.reliable.gaps import Gaps
from evloop.room.reliable.goodbye import Goodbye
from evloop.room.reliable.hearing import Hearing
from evloop.room.reliable.membership import Member, Membership
from evloop.room.reliable.message_log import CONFLICT, MessageLog
from evloop.room.reliable.nack import Holders, NackRequester
from evloop.room.reliable.packets import (
    BYE,
    DATA,
    DIRECT,
    LATER,
    NACK,
    NOBODY,
    PROBE,
    RELAYED,
    SESSION,
    Codec,
    ranges,
)
from evloop.room.reliable.reorder import BEYOND, LATE, NEW, OLD
from evloop.room.reliable.repair import BulkServer, Repairs
from evloop.room.reliable.strays import Strays
from evloop.room.reliable.suppression import Trickle
from evloop.room.reliable.talk import Talk
from evloop.system.timers import NEVER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random
    from typing import Any

    from evloop.room.events import Event
    from evloop.room.reliable.entrance import Entrance
    from evloop.room.reliable.packets import Datagram, Fields, Packet

SIGNS_OF_LIFE = (NEW,)  # verdicts on DATA by which its sender is there: a copy may be an echo
_COUNTERS = (
    "sent", "copies_sent", "repairs_sent", "bulk_sent", "nacks_sent", "sessions_sent", "byes_sent",
    "bytes_sent", "received", "duplicates",
)  # fmt: skip


class RoomSession:
    """One reliable room as one member sees it; it uses neither sockets nor a clock.

    `receive_datagram` and `handle_timer` take the time; after either, fetch `datagrams_to_send`,
    `events` and `next_deadline`. No bytes make it raise.
    """

    repairs = True
    __slots__ = (
        "_agreed", "_announcer", "_bulk", "_codec", "_confirm", "_confirmed", "_counts",
        "_deadline", "_deafness", "_delay", "_entrance", "_goodbye", "_hearing",
        "_loss", "_now", "_open", "_outbox", "_parts", "_presence", "_repairs", "_sample", "_stale",
        "_steps", "_strays", "_talk", "_trickle", "asker", "egress", "limit_history", "message_log",
        "nickname", "rng", "sender_id",
    )  # fmt: skip

    def __init__(
        self,
        *,
        place: str,
        sender_id: bytes,
        nickname: str,
        rng: Random,
        now: float,
        key: bytes = b"",
    ) -> None:
        """`place`: "239.255.7.1:5751"; `sender_id`: 8 random bytes, drawn at each join."""
        self.sender_id = sender_id
        self.nickname = check_nickname(nickname)
        self.rng = rng
        self._now = now
        self._counts = dict.fromkeys(_COUNTERS, 0)
        if key:
            from evloop.room.reliable import entrance  # an open room loads nothing of all that

            self._codec, presence = entrance.parts(place, key, self.nickname, sender_id)
        else:
            self._codec, presence = Codec(place), Membership(self.nickname, sender_id)
        self._presence = presence
        message_log = MessageLog(self._codec, sender_id, presence, bool(key), now)
        self.message_log = message_log
        self.limit_history = message_log.limit  # how many messages are held
        self._delay = delay = Delay()
        self.egress = egress = Egress(self._codec, sender_id, self._counts, now)
        self._outbox = outbox = Outbox(self._codec)
        self._loss = loss = LossMeter()
        self._sample = True  # what is being received counts in it
        self._deafness = Deafness(sender_id)
        self._trickle = Trickle(rng, now, 1)
        self._confirm = Confirm(rng, now)
        gaps, holders = Gaps(rng, loss), Holders(rng)
        self.asker = NackRequester(gaps, holders, message_log, presence, delay, egress)
        self._repairs = Repairs(rng, message_log, outbox, presence, delay, egress)
        self._bulk = BulkServer(message_log, egress)
        self._announcer = Announcer(
            self._trickle, self._confirm, message_log, presence, self._loss, delay, egress, rng, now
        )
        self._talk = Talk(
            outbox, message_log, presence, self._loss, self.asker, self._announcer, self._trickle,
            egress, rng, now,
        )  # fmt: skip
        self._hearing = Hearing(message_log, self.asker, self._announcer, egress)
        self._goodbye = Goodbye(egress)
        self._strays = Strays(self._codec.key_id, message_log, presence, self._counts)
        self._deadline = now
        self._parts: tuple[Any, ...] = (  # each has a deadline
            self._announcer, self._talk, self._repairs, self._bulk, self.asker, presence,
            message_log.causal_buffer,
        )  # fmt: skip
        self._steps = _TIMERS
        self._open: Callable[[bytes, float, bool], Packet | str] = self._codec.open
        self._entrance: Entrance | None = None
        if key:
            self._entrance = door = entrance.Entrance(
                self._codec, message_log, presence, self._announcer, self._confirm, rng, now
            )
            door.attach(egress, self.asker, self._on_late, self._on_session, self._counts)
            self._open = door.open
            self._parts = (*self._parts, door)
            self._steps = (lambda _, now: door.handle_timer(now), *_TIMERS)
        self._stale = True  # something may be due earlier than _deadline: find it anew
        self._confirmed: int | None = None  # all members hold my messages below; None: unknown
        self._agreed = False  # by the newest SESSIONs nobody has anything that I lack

    # -- what a client does ----------------------------------------------------------------------

    def say(self, text: str, now: float, wall: int, kind: int = TEXT) -> None:
        """Queue a message; `wall` in unix seconds. Refused `too_long` or `too_fast`."""
        parts = split(text)
        self._outbox.check(len(parts))
        self._now = now
        name = self.nickname.encode()
        self._outbox.queue.extend(self.message_log.say(parts, name, kind, wall, now))
        self._deadline, self._stale = now, False  # mostly it goes out at once
        self._confirmed = None

    def rename(self, nickname: str, now: float, wall: int) -> None:
        """Use another name and tell it at once; Refused when it breaks the rules."""
        self.nickname = check_nickname(nickname)
        self._presence.rename(self.nickname)
        self._now = now
        self._announcer.soon()
        self._stale = True

    def move(self, place: str, now: float) -> None:
        """Go on at another `place`, with all that was said and all members: whoever moves too is
        heard there. LocalProtocolError: a room with a key stays where it is."""
        self._codec.move(place)
        self.message_log.moved()
        self._outbox.moved(self._codec.tagged)
        self.egress.moved()
        self._now = now
        self._announcer.soon()
        self._stale = True
        self._agreed = False  # others may be there

    def leave(self, now: float, wall: int) -> None:
        """Say goodbye BYE_TIMES; after that there is nothing to do (`next_deadline` is inf)."""
        self._now = now
        self._stale |= self._goodbye.start(now)

    def confirm(self, now: float, later: bool = False) -> None:
        """Ask all present members, again and again, until `unconfirmed` is 0. `later`: this will be
        called when all is sent, so what I say first is in no hurry."""
        self._now = now
        self._talk.patient = True
        if not later:
            self._confirm.start(now)
        self._stale = True

    def solicit(self) -> None:
        """We were away: ask the others at once for what there is."""
        self._stale = self._announcer.solicit()

    def expect(self, members: int) -> None:
        """The directory counts so many members here: the estimate is at least that."""
        self._presence.expect(members)

    # -- what a client asks ----------------------------------------------------------------------

    def datagrams_to_send(self) -> list[Datagram]:
        """[(datagram, to)]: `to` is None for the group, else a source. Each is returned once."""
        if (self._stale or self._now >= self._deadline) and self._now >= self.next_deadline():
            self.handle_timer(self._now)
        out, self.egress.out = self.egress.out, []
        return out

    def events(self) -> list[Event]:
        """What happened since the last call."""
        message_log = self.message_log
        if not message_log.events:
            return []
        events, message_log.events = message_log.events, []
        return events

    def next_deadline(self) -> float:
        """When `handle_timer` must be called; inf after leaving."""
        if self._stale:
            self._stale = False
            self._deadline = self._find_deadline()
        return self._deadline

    def members(self, now: float) -> list[tuple[bytes, str, float]]:
        """(sender id, name, seconds since last heard), self first."""
        return [(self.sender_id, self.nickname, 0.0), *self._presence.listing(now)]

    def label(self, sender: bytes, name: str) -> str:
        """How to show `name` of `sender`; see `Membership.label`."""
        return self._presence.label(sender, name)

    def history(self, count: int) -> list[Said]:
        """The newest `count` "message" events, sorted by (lamport, sender, seq)."""
        self.message_log.expire(self._now)
        return self.message_log.history.newest(count)

    def digest(self) -> int:
        """What a SESSION sent now would say: equal digests mean that both have everything."""
        return self.message_log.senders.digest

    def queued(self) -> int:
        """Own messages (parts) that wait for the rate."""
        return len(self._outbox.queue)

    def unconfirmed(self) -> int:
        """Own messages (parts) that some present member is not known to hold."""
        own = self.message_log.own.hi
        if self._confirmed is None:
            self._confirmed = self._presence.least_held(own)
        return self.message_log.said - min(self._confirmed, own)

    def confirmers(self) -> tuple[int, int]:
        """(present members that hold all I said, present members)."""
        members = self._presence.members.values()
        return sum(member.holds >= self.message_log.said for member in members), len(members)

    def unheard_by(self) -> frozenset[bytes]:
        """Sender ids of members that do not hear me, as far as that can be told."""
        return self._deafness.deaf

    def caught_up(self) -> bool:
        """Whether no gap is open, and no SESSION since the last equal one showed what I lack."""
        return self._agreed and not self.asker.gaps.count

    def stats(self) -> dict[str, int]:
        """Counters since joining, and the present sizes; `loss_percent` 255 is unknown."""
        return {
            **self._counts,
            **self.message_log.stats(),
            "dropped_own": self._strays.own,
            "queued": len(self._outbox.queue),
            "recovered": self.asker.recovered,
            "gaps": self.asker.gaps.count,
            "members": len(self._presence.members) + 1,
            "members_estimate": self._presence.size(),
            "loss_percent": self._loss.percent(self._now),
            "delay_us": int(self._delay.value * 1e6),
        }

    # -- receiving -------------------------------------------------------------------------------

    def receive_datagram(
        self, data: bytes, source: object, now: float, sample: bool = True, direct: bool = False
    ) -> None:
        """Take in one datagram; `source` is where an answer by unicast would go. Without `sample`
        it tells nothing about loss: it came by another road than what is measured. `direct`: it was
        sent to this member alone, to its own socket."""
        self._now = now
        self._sample = sample
        if self.egress.came_back(data):
            self._strays.own += 1
            return
        packet = self._open(data, now, direct)
        if isinstance(packet, str):
            self._not_ours(packet, data)
            return
        kind, _, sender, seq, _, fields = packet
        self.asker.heard_at = now
        self.asker.holders.reached |= direct
        if sender == self.sender_id:
            self._strays.own += 1
            self._posed(packet, data, now)
        elif self._goodbye.begun:
            self._drop("left")
        elif kind == DATA:
            self._on_data(packet, data, now)
        else:
            due = _HANDLERS[kind](self, sender, seq, fields, source, now)
            self._stale |= due or self._entrance is not None  # others may be let in now

    def _posed(self, packet: Packet, data: bytes, now: float) -> None:
        """A datagram with my id: a repair of what I said, or somebody speaks in my name."""
        kind, flags, sender, seq, *_ = packet
        said = self.message_log.said
        if kind != DATA or not self.message_log.own_came_back(packet, data, self.nickname, now):
            self._stale |= self._announcer.posed(kind == DATA, seq, data, now)
        elif flags & RELAYED:
            self._repaired((sender, seq), flags, now)
        if self.message_log.said != said:
            self._confirmed = None
            self._talk.news(now)
            self._stale = True

    def _drop(self, reason: str) -> None:
        self._strays.drop(reason)

    def _not_ours(self, reason: str, data: bytes) -> None:
        if reason in LATER:
            self._stale = True  # the entrance may have something to say, or to wait for
        if reason:
            self._strays.take(reason, data, self._now)
            self._open = self._strays.watching(self._open)

    def _on_data(self, packet: Packet, data: bytes, now: float) -> None:
        _, flags, sender, seq, _, fields = packet
        relayed = bool(flags & RELAYED)
        member = None if relayed else self._presence.members.get(sender)
        if member is not None and flags >> 4 and member.standing(now):
            self._loss.stands(sender)
        key = sender, seq
        # Without fields it is a copy of what is held: a sealed room does not read those again.
        verdict = self.message_log.receive(packet, data, now) if fields else OLD
        if member is not None and verdict in SIGNS_OF_LIFE:
            member.heard = now
        if verdict in (NEW, LATE, OLD):
            if relayed:
                self._repaired(key, flags, now)
            else:
                self._loss.data(key, flags >> 4, verdict != OLD, self._sample, now)
        if verdict == OLD:
            self._counts["duplicates"] += 1
        elif verdict in (NEW, LATE):
            self._stale = True
            self._counts["received"] += 1
            if not relayed:
                self.asker.announced(flags >> 4, now)
            if verdict == NEW:
                self.asker.came(self.message_log.streams[sender], seq, relayed, now)
                self.asker.named(fields[1], now)
                self._talk.news(now)
        elif verdict != CONFLICT:
            self._drop("window" if verdict == BEYOND else verdict)

    def _on_late(self, packet: Packet, data: bytes, now: float) -> None:
        """A DATA that has waited at the entrance, where its copies were dropped."""
        self._sample = False
        self._on_data(packet, data, now)

    def _repaired(self, key: tuple[bytes, int], flags: int, now: float) -> None:
        """A repair of `key` came; one to me alone says nothing about what the room has heard."""
        if not flags & DIRECT:
            self._repairs.heard(key, now)

    # Handlers of control datagrams return whether something may be due earlier now.
    def _on_nack(self, sender: bytes, seq: int, fields: Fields, source: object, now: float) -> bool:
        to, raw = fields
        member = self._presence.members.get(sender)
        standing = bool(member and self._control(sender, member, seq, now) and member.standing(now))
        listed = ranges(raw)
        if to == NOBODY:
            self.asker.heard_nack(listed, standing, now)
            self._repairs.asked(listed, now)
        else:
            self.asker.holders.shared = True
            self._bulk.asked(sender, to, listed, source, standing, now)
        return True

    def _on_session(
        self, sender: bytes, seq: int, fields: Fields, source: object, now: float,
        came: float = NEVER,
    ) -> bool:  # fmt: skip
        """`came`: when it came, if that was earlier."""
        digest, sent, echo, echo_sent, held, ask, loss, members, name, raw = fields
        if self._presence.overtaken(sender, seq, now):
            return False
        member = self._presence.members.get(sender)
        joins = member is None
        if member is None:
            fresh = True
            member = self._join(sender, name, seq, now)
            if member is None:
                self._drop("members")
                return False
        else:
            fresh = self._control(sender, member, seq, now)
        if fresh:
            if member.loss != loss:
                self._presence.lossy(member, loss)
            self._presence.vote(member, members, member.standing(now))
        if name != member.raw_name:
            old = self._presence.named(sender, member, name)
            self.message_log.events.append(Renamed("renamed", sender, old, member.name))
        standing = fresh and member.standing(now)
        member.heard = min(member.heard, came)
        if fresh:
            if standing:
                self.egress.room.told(now)
            self._delay.heard(sender, sent, min(came, now), standing)
            if echo == self.sender_id:
                self._announcer.echoed(sender, echo_sent, held, min(came, now), standing)
            if self._deafness.heard(sender, echo, raw, members, len(self._presence.members), now):
                self.message_log.events.append(Unheard("unheard", sender, member.name))
        if ask & 1:
            self._confirm.asked_by(sender, now, self._presence.size(), standing, sent)
        if digest != self.message_log.senders.digest:
            lacking = self._hearing.compare(sender, member, digest, ranges(raw), fresh, now)
            self._agreed &= not lacking
            self._heard()
            return True
        self._agreed = True
        stream = self.message_log.streams.get(sender)
        self._hearing.own_word(sender, member, stream.hi if stream else 0, fresh, now)
        moved = self._announcer.heard_equal(len(raw) // 16, now)
        self._hearing.holds(member, self.message_log.own.hi, fresh)
        self._heard()
        return moved or joins or ask & 1 == 1

    def _control(self, sender: bytes, member: Member, counter: int, now: float) -> bool:
        """A control datagram of `member` came; whether it continues the count of its others."""
        fresh = self._presence.fresh(sender, member, counter, now)
        if fresh and member.standing(now):
            self._loss.stands(sender)
        if self._sample:
            self._loss.heard(sender, member, counter, fresh)
        return fresh

    def _join(self, sender: bytes, name: bytes, counter: int, now: float) -> Member | None:
        member = self._presence.add(sender, name, counter, now)
        for other, pushed in self._presence.pushed:
            self.message_log.full("members", now)
            self._gone(other, pushed.name, "silent")
        self._presence.pushed.clear()
        if member is None:
            self.message_log.full("members", now)
            return None
        self.message_log.events.append(Joined("joined", sender, member.name))
        self._confirmed = None
        self._announcer.met(sender, counter, self._entrance is None, now)
        return member

    def _heard(self) -> None:
        if self._hearing.changed:
            self._hearing.changed = False
            self._confirmed = None

    def _on_bye(self, sender: bytes, seq: int, fields: Fields, source: object, now: float) -> bool:
        member = self._presence.said_bye(sender, seq, now)
        if member is not None:
            self._loss.control(sender, member.sampled, seq, self._sample)
            self._gone(sender, member.name, "bye")
        return True

    def _gone(self, sender: bytes, name: str, why: str) -> None:
        self.message_log.events.append(Left("left", sender, name, why))
        self.asker.holders.gone(sender)
        self._delay.gone(sender)
        self._deafness.gone(sender)
        self._confirmed = None
        if self._entrance is not None:
            self._entrance.gate.gone(sender)

    # -- time ------------------------------------------------------------------------------------

    def handle_timer(self, now: float) -> None:
        """Do what is due at `now`; calling it early is harmless."""
        self._now = now
        self._stale = True
        if self._goodbye.over:
            return
        if self._goodbye.begun:
            self._talk.send_copies(now)
            self._goodbye.handle_timer(now)
        else:
            for step in self._steps:
                step(self, now)

    def _find_deadline(self) -> float:
        if (bye := self._goodbye).begun:  # after the last word copies are not sent any more
            return NEVER if bye.over else min(bye.due, self._outbox.deadline())
        return float(min([part.deadline() for part in self._parts]))

    def _send_data(self, now: float) -> None:
        if self._talk.send(now):
            self._confirmed = None

    def _ask(self, now: float) -> None:
        if self.asker.handle_timer(now):
            self._talk.news(now)

    def _speak(self, now: float) -> None:
        confirm, ask = self._confirm, False
        if confirm.ask_due <= now:
            if self._presence.members and not self.unconfirmed():
                confirm.stop()
            else:
                ask = not self._outbox.queue
                confirm.asked(now, self._delay.far, self._presence.size())
        self._announcer.handle_timer(now, self.asker.behind(), ask, self.nickname)

    def _expire(self, now: float) -> None:
        for sender, member in self._presence.silent(now):
            self._gone(sender, member.name, "silent")
        self.message_log.handle_timer(now)


_HANDLERS: dict[int, Callable[..., bool]] = {
    NACK: RoomSession._on_nack,
    SESSION: RoomSession._on_session,
    BYE: RoomSession._on_bye,
    PROBE: lambda own, sender, _, fields, __, now: own._announcer.probed(sender, fields, now),
}
_TIMERS: tuple[Callable[[RoomSession, float], None], ...] = (
    RoomSession._send_data, lambda own, now: own._talk.send_copies(now),
    lambda own, now: own._repairs.handle_timer(now), lambda own, now: own._bulk.handle_timer(now),
    RoomSession._ask, RoomSession._speak, RoomSession._expire,
)  # fmt: skip
