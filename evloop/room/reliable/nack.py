"""What I lack and whom I ask for it: rules 4, 6, 8 and 9 of the room.

Four sources say that a message exists, and they are believed differently:

    said by                      in SESSION or DATA of     makes gaps            behind
    its sender                   itself                    up to the window      yes
    anybody (hearsay)            another, of a known one   64 a sender           no
    anybody (hearsay)            a parent in DATA          64 a sender           no
    anybody (hearsay)            another, of an unknown    16, the newest        no

What a sender says of itself counts as it said it last: a number lower than the one before takes
back what only that one promised. `gaps` decides when to ask; this module decides whom to ask, and
what is given up for good.

`Holders` remembers who said that it holds what I lack, and spreads the asks for many messages at
once, which one holder answers by unicast: late joiners, healed partitions.
"""

from __future__ import annotations

from itertools import islice

from evloop.room.reliable.gaps import IN_ORDER
from evloop.room.reliable.limits import (
    ASK_ALL_S,
    BULK_ASKED_MAX,
    BULK_GAPS_MIN,
    BULK_PER_S,
    COPY_SPACING_S,
    DATA_BURST,
    HEARSAY_SENDER_GAPS_MAX,
    HEARSAY_UNHEARD_GAPS_MAX,
    HOLDERS_MAX,
    HOLDERS_UNHEARD_MAX,
    LET_GO_S,
    NACK_BURST,
    NACK_MESSAGES_MAX,
    NACK_RANGES_MAX,
    OVERTAKEN_S,
    WORD_LATER_S,
)
from evloop.room.reliable.packets import (
    NOBODY,
    as_ranges,
    nack_body,
)
from evloop.system.timers import NEVER

SHORT_PER_STEP = 4  # senders for whose further gaps room is sought in one step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from random import Random

    from evloop.room.reliable.delay import Delay
    from evloop.room.reliable.egress import Egress
    from evloop.room.reliable.gaps import Gap, Gaps
    from evloop.room.reliable.membership import Membership
    from evloop.room.reliable.message_log import MessageLog
    from evloop.room.reliable.packets import Range
    from evloop.room.reliable.reorder import Sender

    Key = tuple[bytes, int]


def _nobody_lists(sender: bytes, seq: int) -> bool:
    return False


class NackRequester:
    """The asking half of one session."""

    __slots__ = (
        "_delay",
        "_egress",
        "_known",
        "_message_log",
        "_more_due",
        "_presence",
        "_short",
        "_streams",
        "copies_until",
        "gaps",
        "heard_at",
        "holders",
        "listed",
        "recovered",
    )  # fmt: skip

    def __init__(
        self,
        gaps: Gaps,
        holders: Holders,
        message_log: MessageLog,
        presence: Membership,
        delay: Delay,
        egress: Egress,
    ) -> None:
        self.gaps = gaps
        self.holders = holders
        self._message_log = message_log
        self._streams = message_log.streams
        self._known = message_log.senders.known
        self._presence = presence
        self._delay = delay
        self._egress = egress
        self.copies_until = -NEVER  # until then announced copies of some DATA may still come
        self._short: dict[bytes, None] = {}  # senders some of whose gaps found no room yet
        self._more_due = -NEVER  # when to look at `_short` again, while there are no gaps at all
        # Whether a member that is there is known to hold a message (a sealed room remembers that).
        self.listed: Callable[[bytes, int], bool] = _nobody_lists
        self.heard_at = -NEVER  # when anything of this room last came from elsewhere
        self.recovered = 0  # messages that were missing and came by repair

    def behind(self) -> bool:
        """Whether this member is "behind": it then asks, and sends no SESSION at Trickle points."""
        return self.gaps.pressing > 0

    def announced(self, more: int, now: float) -> None:
        """`more` copies of a DATA are still to come."""
        if more:
            until = now + more * COPY_SPACING_S + self._delay.value
            self.copies_until = max(self.copies_until, until)

    # -- what exists -----------------------------------------------------------------------------

    def came(self, stream: Sender, seq: int, relayed: bool, now: float) -> None:
        """A DATA that I lacked, or did not know of, was accepted."""
        if self.gaps.count:
            if not relayed:
                self.gaps.remove(stream.sender, seq)
            elif self.gaps.recovered(stream.sender, seq, now):
                self.recovered += 1
                self.holders.bore_fruit()
            self.gaps.leave.claimed(stream.sender)
        if not relayed and stream.word > seq + 1 + DATA_BURST:
            self._take_back(stream, seq + 1)
        self._believe(stream, seq + 1, now)

    def named(self, parents: Sequence[tuple[bytes, int]], now: float) -> None:
        """A new DATA names `parents`: they exist, and the DATA may have to wait for them."""
        for origin, seq in parents:
            stream = self._known(origin)
            if stream is not None and seq >= stream.hi and seq >= stream.word:
                due = self.round(now)
                if self.hear_of(origin, 0, seq + 1, HEARSAY_SENDER_GAPS_MAX, now, due, False):
                    self._egress.room.promised(now)

    def told(self, stream: Sender, hi: int, now: float) -> None:
        """Its sender says that `hi` is its next number."""
        if hi < stream.word:
            self._take_back(stream, hi)
            # What is left is behind DATA that came just now: it is newer than this word, or false.
            until = now + OVERTAKEN_S + 2 * WORD_LATER_S
            until += self.gaps.apart(self._delay.value, self._presence.size())
            stream.held_until = until
            self.gaps.hold(stream.sender, hi, until)
        self._believe(stream, hi, now)

    def round(self, now: float) -> float:
        """When to ask for what is found missing now."""
        members = self._presence.size()
        return self.gaps.round(now, self._delay.value, members, self.copies_until)

    def _believe(self, stream: Sender, hi: int, now: float) -> None:
        if hi > stream.word:
            stream.word = hi
            if self.gaps.hearsay and self.gaps.is_hearsay(stream.sender, hi):
                self.gaps.believe(stream.sender, hi, now, self.round(now))
        if stream.word > stream.hi:
            before = self.gaps.count
            self._note(stream, now)
            if self.gaps.count > before and self.strange(stream.sender, now):
                self._egress.room.promised(now)

    def _note(self, stream: Sender, now: float) -> None:
        """Note what `stream` lacks in the table of gaps, as far as that has room now."""
        wanted = stream.wanted()
        if wanted:
            due = max(self.round(now), stream.held_until)
            top = self.gaps.add(stream.sender, wanted, stream.ahead, now, due)
            stream.covered = max(stream.covered, top)
            if stream.covered < wanted.stop:
                self._short[stream.sender] = None
            for sender, seq in self.gaps.dropped:
                loser = self._streams.get(sender)
                if loser is not None:
                    loser.covered = min(loser.covered, seq)
                    self._short[sender] = None
            if self.gaps.dropped:
                self._message_log.full("gaps", now)
                self.gaps.dropped.clear()

    def _note_more(self, now: float) -> None:
        """Note gaps of senders for which there was no room before, a few senders at a time."""
        for sender in list(islice(self._short, SHORT_PER_STEP)):
            del self._short[sender]
            stream = self._streams.get(sender)
            if stream is not None:
                self._note(stream, now)

    def _take_back(self, stream: Sender, hi: int) -> None:
        hi = max(hi, stream.hi, max(stream.ahead, default=-1) + 1)
        if hi < stream.word:
            stream.word = hi
            stream.covered = min(stream.covered, hi)
            self.gaps.forget(stream.sender, hi)

    def hear_of(
        self, origin: bytes, lo: int, hi: int, most: int, now: float, due: float, held: bool
    ) -> int:
        """Hearsay: [lo, hi) of `origin` exist; note at most `most`, to be asked for at `due` (see
        `round`). How many were noted. `held`: whoever says so holds them.
        """
        stream = self._known(origin)
        if stream is None:
            # The newest numbers: a DATA with one of them is its sender's own word for the others.
            allowed = HEARSAY_UNHEARD_GAPS_MAX
            seqs = range(max(lo, hi - min(most, allowed)), hi)
        else:
            allowed = HEARSAY_SENDER_GAPS_MAX
            start = max(stream.word, stream.hi)
            seqs = range(start, min(hi, start + min(most, allowed)))
        return self.gaps.hear_of(origin, seqs, allowed, now, due, held)

    def evidence(self, listed: Mapping[bytes, tuple[int, int]], now: float) -> bool:
        """A member holds `listed`, [lo, hi) by sender. Whether I lack any of it."""
        return self.gaps.evidence(listed, now, self.round(now))

    def heard_nack(self, listed: list[Range], standing: bool, now: float) -> None:
        """Another member, of `standing`, asks anyone for `listed`."""
        if standing and listed and self._promised(listed[0][0], listed[0][2], now):
            self._egress.room.asked_promised(now)
        if self.gaps.count:
            self.gaps.heard_nack(listed, now, self._delay.value, standing)

    # -- asking ----------------------------------------------------------------------------------

    def deadline(self) -> float:
        """When to call `handle_timer`."""
        if not self.gaps.count:
            return self._more_due if self._short else NEVER
        return max(self.gaps.next_due, self._egress.nack_due())

    def handle_timer(self, now: float) -> bool:
        """Ask for what is due, give up what is gone; whether anything new can be shown."""
        if now < self.deadline():
            return False
        due, gone = self.gaps.take_due(now, self._delay.value)
        lasting = {gap for gap in gone if self._may_come(gap)}
        if lasting:
            due = self.gaps.in_order([*lasting, *due])
            gone = [gap for gap in gone if gap not in lasting]
        gone += [gap for gap in due if self._let_go(gap, now)]
        stepped = self._give_up(gone, now)
        dropped = set(gone)
        due = [gap for gap in due if gap not in dropped]
        egress, again = self._egress, now
        due, waiting = self._afford(due, now)
        if waiting:
            # All members find the same time: the first who asks then spares the others.
            until = max(egress.room.ask_due(), now + 10 * self._delay.value)
            until += self.gaps.apart(self._delay.value, self._presence.size())
            for gap in waiting:
                self.gaps.wait(gap, until, now)
        while due:
            if not self._claimed(due, now):
                self.gaps.not_asked(due, now, self._delay.value)
                due = []
                break
            spare = self._spare(due[0], now)
            if egress.nack_due(spare) > now:
                break
            to = self._whom(due, now)
            if to is None:
                free = self.holders.free_at(12 * self._delay.value)
                again = max(free, now + 2 * self._delay.value)
                break
            if not egress.may_nack(now, spare):
                again = now + 2 * self._delay.value
                break
            due = self._ask(due, to, now)
        # Hearsay gaps are rechecked before their quota allows, so that they can share a NACK sent
        # for confirmed gaps.
        later = now + 10 * self._delay.value
        for gap in due:
            spare = self._spare(gap, now)
            may = min(egress.nack_due(spare), later) if spare else egress.nack_due()
            self.gaps.postpone(gap, max(again, may))
        if now >= self._more_due:
            self._more_due = now + 2 * self._delay.value
            self._note_more(now)
        return stepped

    def _spare(self, gap: Gap, now: float) -> float:
        """How much of the burst of NACKs an ask for `gap` must leave: hearsay may use half, and the
        rest is for messages that surely exist. To a newcomer all that was said is hearsay."""
        return 0.0 if gap.word or self._came_alone(now) else NACK_BURST / 2

    def _came_alone(self, now: float) -> bool:
        """Whether I have just come, and heard nobody else ask a single member for what was said."""
        return not self.holders.shared and self._message_log.newcomer(now)

    def strange(self, sender: bytes, now: float) -> bool:
        """Whether `sender` is a stranger: no present member, or not one of standing."""
        member = self._presence.members.get(sender)
        return member is None or not member.standing(now)

    def _promised(self, sender: bytes, end: int, now: float) -> bool:
        """Whether nothing but a stranger's word, or hearsay, says that the messages of `sender`
        below `end` exist."""
        stream = self._known(sender)
        return stream is None or end > max(stream.word, stream.hi) or self.strange(sender, now)

    def _afford(self, due: list[Gap], now: float) -> tuple[list[Gap], list[Gap]]:
        """(what is asked for, what waits): what is only promised is asked for as far as the budget
        of the room allows. (A member that is new here cannot tell strangers apart.)"""
        if not self._message_log.settled(now) or self._egress.room.may_ask(now):
            return due, []
        waiting = {gap for gap in due if not gap.word or self.strange(gap.sender, now)}
        return [gap for gap in due if gap not in waiting], list(waiting)

    def _claimed(self, due: list[Gap], now: float) -> bool:
        """Whether a NACK for `due` may be sent: the room has not asked enough since somebody last
        claimed that such messages exist. (To who is new here all is new.)"""
        settled = self._message_log.settled(now)
        return not settled or self.gaps.may_ask(due, now, self._delay.value)

    def _whom(self, due: list[Gap], now: float) -> bytes | None:
        """Whom to ask for `due`: NOBODY (anyone) for a few, one that holds them for many.

        None when all members that hold them are already busy with an ask of mine.
        """
        settled = self._message_log.settled(now)
        if len(due) < BULK_GAPS_MIN or (settled and not due[0].word):
            return NOBODY  # of hearsay all hear at once: one NACK, which all hear, does for all
        keys = [gap.key for gap in due[: 2 * BULK_ASKED_MAX]]
        missing, _ = as_ranges(keys, NACK_RANGES_MAX)
        return self.holders.choose(missing, now, 12 * self._delay.value, not settled)

    def _ask(self, due: list[Gap], to: bytes, now: float) -> list[Gap]:
        """Send one NACK for the first of `due`; return the gaps for which it had no place."""
        asking = due[:NACK_MESSAGES_MAX]
        if to != NOBODY:
            asking = [gap for gap in due if self.holders.covers(to, gap.key)][:BULK_ASKED_MAX]
        listed, taken = as_ranges([gap.key for gap in asking], NACK_RANGES_MAX)
        if self.strange(asking[0].sender, now) or not asking[0].word:
            self._egress.room.asked_promised(now)
        self.gaps.leave.spend({gap.sender for gap in asking[:taken]})
        alone = False
        if to != NOBODY:
            holders = self.holders
            holders.asked(to, BULK_ASKED_MAX if holders.shared else taken, now)
            alone = holders.reached and self._came_alone(now)
        self.gaps.asked(asking[:taken], now, self._delay.value, alone)
        self._egress.say_nack(nack_body(to, listed), now)
        asked = set(asking[:taken])
        return [gap for gap in due if gap not in asked]

    def _may_come(self, gap: Gap) -> bool:
        """Whether `gap` is asked for without end: its sender is here and says that the message
        exists, and nothing is held that comes after it.

        A member that was cut off from that sender alone for long gets it when that is over.
        """
        stream = self._streams.get(gap.sender)
        here = gap.sender in self._presence.members
        return gap.word and here and stream is not None and not stream.ahead

    def _let_go(self, gap: Gap, now: float) -> bool:
        """Whether `gap` is given up early and without a report: the message is from before my
        time, and no member says that it holds it; or it is of no use here."""
        stream = self._known(gap.sender)
        if stream is None:
            return not self._message_log.senders.wants(gap.sender, gap.seq + 1, now)
        if stream.knows(gap.seq):
            return True  # it was shown before the record of its sender had to make room
        if gap.seq >= stream.history_below or gap.seq in stream.claimed:
            return False
        # While repairs arrive, six asks take less than half a second: others may just be unheard.
        if now < gap.stuck_at + LET_GO_S or gap.evidence > -NEVER:
            return False
        if self.heard_at <= gap.stuck_at:
            return False  # I hear nobody, so that nobody lists it says nothing
        return not self.listed(gap.sender, gap.seq)

    def _give_up(self, gone: list[Gap], now: float) -> bool:
        """Step over the gaps in `gone` that are lost for good; whether there were any.

        Where no later message is held, none waits for the gap, and it may be a lie, which its
        sender's next SESSION takes back. What a present sender does not itself say to have sent is
        never given up, whatever later messages are held. When the sender has left, a gap by its own
        word is reported as lost, and one by hearsay is forgotten.
        """
        stepped = False
        run: Sender | None = None  # consecutive numbers are given up, and reported, as one
        end = 0
        for gap in sorted(gone, key=IN_ORDER):
            stream = self._known(gap.sender)
            if run is not None and (stream is not run or gap.seq != end):
                self._message_log.step_over(run, end, now)
                run = None
            if stream is not None and gap.seq == (end if run else stream.hi) and self._lost(gap):
                self.gaps.remove(gap.sender, gap.seq)
                run, end = stream, gap.seq + 1
                stepped = True
            elif stream is not None and (
                gap.seq > stream.hi or gap.sender in self._presence.members
            ):
                self.gaps.postpone(gap, now + 1.0)
            else:
                self.gaps.remove(gap.sender, gap.seq)
        if run is not None:
            self._message_log.step_over(run, end, now)
        return stepped

    def _lost(self, gap: Gap) -> bool:
        """Whether `gap`, the next number to be shown, is to be given up."""
        member = self._presence.members.get(gap.sender)
        ahead = bool(self._streams[gap.sender].ahead)
        if member is None:
            return ahead or gap.word
        return ahead and (member.said < 0 or gap.seq < member.said)


class Holders:
    """Members that said they hold messages I lack."""

    __slots__ = (
        "_all_until", "_free", "_fruitless", "_rng", "_standing", "_unheard", "claims", "reached",
        "shared",
    )  # fmt: skip

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._unheard = 0  # so often in a row one was asked and nothing came
        self._all_until = -NEVER  # until then only all are asked
        self.claims: dict[bytes, Mapping[bytes, tuple[int, int]]] = {}
        self._standing: dict[bytes, None] = {}  # those of them that are members of standing
        self._free: dict[bytes, float] = {}  # when each has answered what it was last asked for
        self._fruitless = NEVER  # when somebody was first asked after the last message that came
        self.reached = False  # something that was sent to me alone came: no firewall is in the way
        self.shared = False  # others ask single holders, too: what all may answer is shared

    def claimed(
        self, member: bytes, listed: Mapping[bytes, tuple[int, int]], standing: bool = False
    ) -> None:
        """`member` says that it holds `listed`, [lo, hi) by sender.

        When there are too many such members, the one that said so longest ago is dropped, strangers
        before members of standing.
        """
        self.gone(member, asked=True)
        self.claims[member] = listed
        if standing:
            self._standing[member] = None
        if len(self.claims) > HOLDERS_MAX:
            strangers = (other for other in self.claims if other not in self._standing)
            self.gone(next(strangers, None) or next(iter(self.claims)))

    def bore_fruit(self) -> None:
        """A message that was missing came."""
        if self._fruitless != NEVER:
            self._unheard = 0
        self._fruitless = NEVER

    def gone(self, member: bytes, asked: bool = False) -> None:
        """`member` has left; with `asked`, it is still remembered that it was asked."""
        self.claims.pop(member, None)
        self._standing.pop(member, None)
        if not asked:
            self._free.pop(member, None)

    def asked(self, member: bytes, messages: int, now: float) -> None:
        """`member`, which was chosen, is asked for so many `messages`."""
        self._free[member] = now + messages / BULK_PER_S

    def free_at(self, patience: float) -> float:
        """When `choose` (with the same `patience`) will name somebody again."""
        answered = min(self._free.values(), default=-NEVER)
        return min(answered, self._fruitless + patience)

    def choose(
        self, missing: Sequence[Range], now: float, patience: float, strangers: bool = True
    ) -> bytes | None:
        """The member to ask for `missing`: of those that hold at least half as much as the best,
        the one that has been free the longest; None when all are busy with asks of mine.

        NOBODY when none holds any, and once after an ask that brought nothing for `patience`
        seconds, or for ASK_ALL_S when that happened HOLDERS_UNHEARD_MAX times: the named member may
        be a liar, or busy with another. Without `strangers` only members of standing are named:
        else all members would ask the same liar.
        """
        if self._fruitless + patience <= now:
            self._fruitless = NEVER
            self._unheard += 1
            if self._unheard >= HOLDERS_UNHEARD_MAX:
                self._unheard = 0
                self._all_until = now + ASK_ALL_S
            return NOBODY
        if now < self._all_until:
            return NOBODY
        shares = []
        for member, claims in self.claims.items():
            if not strangers and member not in self._standing:
                continue
            share = 0
            for sender, first, end in missing:
                if sender == member and not strangers:
                    continue  # what only it itself says to have said, others lack as well
                lo, hi = claims.get(sender, (0, 0))
                share += max(0, min(hi, end) - max(lo, first))
            if share:
                shares.append((share, member))
        if not shares:
            return NOBODY
        best = max(shares)[0]
        free = self._free
        fit = [
            (free.get(member, -NEVER), self._rng.random(), member)
            for share, member in shares
            if 2 * share >= best
        ]
        since, _, chosen = min(fit)
        if since > now:
            return None
        self.asked(chosen, BULK_ASKED_MAX, now)
        self._fruitless = min(self._fruitless, now)
        return chosen

    def covers(self, member: bytes, key: Key) -> bool:
        """Whether `member` said that it holds `key`."""
        lo, hi = self.claims[member].get(key[0], (0, 0))
        return lo <= key[1] < hi
