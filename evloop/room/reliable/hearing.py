"""What a SESSION tells about messages: who lacks what, and who has said how much.

A SESSION is `fresh` when its counter continues that of its sender. Only a fresh one can lower what
an earlier one told: how much its sender has said itself, and how much of mine it holds. What it
tells of others is hearsay (see `nack`), and a claim where there is no record yet (see `claims`).
"""

from __future__ import annotations

from evloop.room.reliable.limits import HEARSAY_SENDER_GAPS_MAX, OVERTAKEN_S, SESSION_ENTRIES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from evloop.room.reliable.announce import Announcer
    from evloop.room.reliable.egress import Egress
    from evloop.room.reliable.membership import Member
    from evloop.room.reliable.message_log import MessageLog
    from evloop.room.reliable.nack import NackRequester
    from evloop.room.reliable.packets import Range


class Hearing:
    """Takes in what SESSIONs tell. `changed`: some member holds more or less of mine now."""

    __slots__ = ("_announcer", "_asker", "_egress", "_message_log", "changed")

    def __init__(
        self,
        message_log: MessageLog,
        asker: NackRequester,
        announcer: Announcer,
        egress: Egress,
    ) -> None:
        self._message_log = message_log
        self._asker = asker
        self._announcer = announcer
        self._egress = egress
        self.changed = False

    def holds(self, member: Member, hi: int, fresh: bool) -> None:
        """`member` says that `hi` is the next number of mine for it."""
        # The newest statement counts; a number beyond what I have said is no statement about me.
        if hi != member.holds and hi <= self._message_log.own.hi and (fresh or hi > member.holds):
            member.holds = hi
            self.changed = True

    def own_word(self, sender: bytes, member: Member, hi: int, fresh: bool, now: float) -> None:
        """`member`, whose id is `sender`, says that `hi` is its own next number, and knows that
        better than anybody. (Only what others have just told of it may be newer.)"""
        stream = self._message_log.senders.known(sender)
        if not fresh:
            if stream is not None and hi > stream.word:
                due, most = self._asker.round(now), HEARSAY_SENDER_GAPS_MAX
                if self._asker.hear_of(sender, 0, hi, most, now, due, True):
                    self._egress.room.promised(now)
            return
        member.said, member.said_at = hi, now
        member.least = min(member.least, hi) if member.least >= 0 else hi
        if self._asker.gaps.hearsay:
            self._asker.gaps.refute(sender, hi, now - OVERTAKEN_S)
        if stream is None and sender in self._message_log.streams:
            if self._message_log.streams[sender].hi != hi:
                self._message_log.disown(sender)
            return
        if stream is not None and self._message_log.vouch(stream, hi, now):
            self._asker.gaps.forget(stream.sender)
        elif stream is not None:
            self._asker.told(stream, hi, now)

    def compare(
        self,
        sender: bytes,
        member: Member,
        digest: int,
        entries: list[Range],
        fresh: bool,
        now: float,
    ) -> bool:
        """The digest of `sender` differs from mine: who lacks what? Whether I lack any of it."""
        message_log, asker = self._message_log, self._asker
        # When a list names one sender twice, the first entry counts.
        last = {origin: (lo, hi) for origin, lo, hi in reversed(entries)}
        once = dict(reversed(last.items()))  # in the order listed, again
        whole = len(once) < SESSION_ENTRIES
        if sender in once or (whole and once) or not digest:
            # The list is complete and its own id is not in it: it has said nothing.
            hi = once[sender][1] if sender in once else 0
            self.own_word(sender, member, hi, fresh, now)
        ahead = bool(asker.gaps.count) and asker.evidence(once, now)
        behind = False
        holding = noted = 0
        standing = member.standing(now)
        # What one member tells of a stranger is no new promise: the stranger's own datagrams are.
        trusted, promise = fresh and standing, False
        each = asker.gaps.hearsay_room(len(once))
        due = 0.0  # when to ask for what is found missing; drawn with the first gap
        for origin, (lo, hi) in once.items():
            stream = message_log.recall(origin, hi, now)
            if stream is None:
                if hi <= lo:
                    if trusted or (fresh and not message_log.settled(now)):
                        self._bare(origin, hi, now)
                    continue
                message_log.adoption.held(origin)
                if message_log.senders.wants(origin, hi, now):
                    if message_log.claims.make(sender, standing, origin, lo, hi):
                        message_log.full("claims", now)
                    due = due or asker.round(now)
                    new = asker.hear_of(origin, lo, hi, each, now, due, True)
                    noted += new
                    promise |= new > 0 and not (trusted and asker.strange(origin, now))
                    ahead = True
                continue
            holding += stream.holding
            if stream is message_log.own:
                self.holds(member, hi, fresh)
            else:
                ahead |= hi > stream.hi
                if origin != sender and hi > stream.word:
                    due = due or asker.round(now)
                    new = asker.hear_of(origin, lo, hi, each, now, due, True)
                    noted += new
                    promise |= new > 0 and not (trusted and asker.strange(origin, now))
            behind |= stream.lo <= hi < stream.hi
        if once and whole and holding < message_log.senders.holding:
            behind = True  # the list is complete, and a sender of whom I hold some is not in it
        if noted and promise:
            self._egress.room.promised(now)
        if noted or ahead:
            asker.holders.claimed(sender, once, standing)
        if self._announcer.heard_other(len(once), ahead, behind, now):
            message_log.adopt(now)
        return bool(noted or ahead)

    def _bare(self, origin: bytes, hi: int, now: float) -> None:
        """A list names `origin`, of whom I know nothing, up to `hi`, and holds nothing of it."""
        message_log = self._message_log
        member = message_log.senders.members.get(origin)
        stream = message_log.streams.get(origin)
        if stream is not None and stream.hi == hi:
            message_log.senders.adopted[origin] = now
        elif not hi or (member is not None and member.said != hi) or self._asker.gaps.any(origin):
            message_log.adoption.held(origin)
        else:
            message_log.adoption.told(origin, hi, now)
