"""What I lack and whom I ask for it: rules 4, 6, 8 and 9 of the room.

Four sources say that a message exists, and they are believed differently:

    said by                      in SESSION or DATA of     makes gaps            behind
    its sender                   itself                    up to the window      yes
    anybody (hearsay)            another, of a known one   64 a sender           no
    anybody (hearsay)            a parent in DATA          64 a sender           no
    anybody (hearsay)            another, of an unknown    16, the newest        no

The newest own word counts: one that is lower than an older takes back what only that promised.
`gaps` decides when to ask; here is decided whom, and what is given up for good.

`Holders` remembers who said that it holds what I lack, and spreads the asks for many messages at
once, which one holder answers by unicast: late joiners, healed partitions.
"""

from __future__ import annotations

from evloop.room.reliable.limits import (
    BULK_ASKED_MAX,
    BULK_GAPS_MIN,
    BULK_PER_S,
    COPY_SPACING_S,
    DATA_BURST,
    HEARSAY_SENDER_GAPS_MAX,
    HEARSAY_UNHEARD_GAPS_MAX,
    HOLDERS_MAX,
    NACK_BURST,
    NACK_MESSAGES_MAX,
    NACK_RANGES_MAX,
    STUCK_ASKS,
)
from evloop.room.reliable.packets import (
    NOBODY,
    as_ranges,
    nack_body,
)
from evloop.system.timers import NEVER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from evloop.room.reliable.egress import Egress
    from evloop.room.reliable.estimators import Delay
    from evloop.room.reliable.gaps import Gap, Gaps
    from evloop.room.reliable.membership import Membership
    from evloop.room.reliable.message_log import MessageLog
    from evloop.room.reliable.packets import Range
    from evloop.room.reliable.reorder import Sender

    Key = tuple[bytes, int]


class NackRequester:
    """The asking half of one session."""

    __slots__ = (
        "_delay",
        "_egress",
        "_message_log",
        "_presence",
        "_streams",
        "copies_until",
        "gaps",
        "holders",
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
        self._presence = presence
        self._delay = delay
        self._egress = egress
        self.copies_until = -NEVER  # announced copies of the newest DATA have had their time
        self.recovered = 0  # messages that were missing and came by repair

    def behind(self) -> bool:
        """Whether I should rather ask than tell."""
        return self.gaps.pressing > 0

    def announced(self, more: int, now: float) -> None:
        """`more` copies of a DATA are still to come."""
        if more:
            until = now + more * COPY_SPACING_S + self._delay.value
            self.copies_until = max(self.copies_until, until)

    # -- what there is ---------------------------------------------------------------------------

    def came(self, stream: Sender, seq: int, relayed: bool, now: float) -> None:
        """A DATA that I lacked, or did not know of, was accepted."""
        if self.gaps.count:
            if not relayed:
                self.gaps.remove(stream.sender, seq)
            elif self.gaps.recovered(stream.sender, seq, now):
                self.recovered += 1
                self.holders.bore_fruit()
        if not relayed and stream.word > seq + 1 + DATA_BURST:
            self._take_back(stream, seq + 1)
        self._believe(stream, seq + 1, now)

    def named(self, parents: Sequence[tuple[bytes, int]], now: float) -> None:
        """A new DATA names `parents`, so they exist, and what names them may wait for them."""
        for origin, seq in parents:
            stream = self._streams.get(origin)
            if stream is not None and seq >= stream.hi and seq >= stream.word:
                self.hear_of(origin, 0, seq + 1, now)

    def told(self, stream: Sender, hi: int, now: float) -> None:
        """Its sender says that `hi` is its next number."""
        if hi < stream.word:
            self._take_back(stream, hi)
        self._believe(stream, hi, now)

    def _round(self, now: float) -> float:
        members = self._presence.size()
        return self.gaps.round(now, self._delay.value, members, self.copies_until)

    def _believe(self, stream: Sender, hi: int, now: float) -> None:
        if hi > stream.word:
            stream.word = hi
            if self.gaps.hearsay:
                self.gaps.believe(stream.sender, hi)
        if stream.word > stream.hi:
            wanted = stream.wanted()
            if wanted:
                due = self._round(now)
                top = self.gaps.add(stream.sender, wanted, stream.ahead, now, due)
                stream.covered = max(stream.covered, top)

    def _take_back(self, stream: Sender, hi: int) -> None:
        hi = max(hi, stream.hi, max(stream.ahead, default=-1) + 1)
        if hi < stream.word:
            stream.word = hi
            stream.covered = min(stream.covered, hi)
            self.gaps.forget(stream.sender, hi)

    def hear_of(self, origin: bytes, lo: int, hi: int, now: float) -> bool:
        """Hearsay: somebody holds [lo, hi) of `origin`. Whether that is of interest."""
        stream = self._streams.get(origin)
        if stream is None:
            if not self._message_log.claimed(origin, lo, hi):
                return False
            # The newest: when one of them comes, it is its sender's word for the others.
            most = HEARSAY_UNHEARD_GAPS_MAX
            seqs = range(max(lo, hi - most), hi)
        else:
            most = HEARSAY_SENDER_GAPS_MAX
            start = max(stream.word, stream.hi)
            seqs = range(start, min(hi, start + most))
        self.gaps.hear_of(origin, seqs, most, now, self._round(now))
        return True

    def evidence(self, member: bytes, listed: list[Range], now: float) -> bool:
        """`member` says that it holds `listed`. Whether I lack any of it."""
        if not self.gaps.count:
            return False
        due = self._round(now)
        lacking = [self.gaps.evidence(origin, lo, hi, now, due) for origin, lo, hi in listed]
        if not any(lacking):
            return False
        self.holders.claimed(member, listed)
        return True

    def heard_nack(self, listed: list[Range], now: float) -> None:
        """Another member asks anyone for `listed`."""
        if self.gaps.count:
            for origin, lo, hi in listed:
                self.gaps.heard_nack(origin, lo, hi, now, self._delay.value)

    # -- asking ----------------------------------------------------------------------------------

    def deadline(self) -> float:
        """When to call `handle_timer`."""
        return max(self.gaps.next_due, self._egress.nack_due()) if self.gaps.count else NEVER

    def handle_timer(self, now: float) -> bool:
        """Ask for what is due, give up what is gone; whether anything new can be shown."""
        if now < self.deadline():
            return False
        due, gone = self.gaps.take_due(now, self._delay.value)
        lasting = {gap for gap in gone if self._may_come(gap)}
        if lasting:
            due = self.gaps.in_order([*lasting, *due])
            gone = [gap for gap in gone if gap not in lasting]
        gone += [gap for gap in due if self._let_go(gap)]
        stepped = [self._give_up(gap, now) for gap in gone]
        dropped = set(gone)
        due = [gap for gap in due if gap not in dropped]
        egress, again = self._egress, now
        while due:
            # Rumours may have half of the burst; the rest is for what surely exists.
            spare = 0.0 if due[0].word else NACK_BURST / 2
            if egress.nack_due(spare) > now:
                break
            to = self._whom(due, now)
            if to is None or not egress.may_nack(now, spare):
                again = now + 2 * self._delay.value
                break
            due = self._ask(due, to, now)
        # Rumours look again sooner than they may go: they go along with what may.
        later = now + 10 * self._delay.value
        for gap in due:
            may = egress.nack_due() if gap.word else min(egress.nack_due(NACK_BURST / 2), later)
            self.gaps.postpone(gap, max(again, may))
        return any(stepped)

    def _whom(self, due: list[Gap], now: float) -> bytes | None:
        """NOBODY (anyone), or for much one that holds it; None: all that do are busy with me."""
        if len(due) < BULK_GAPS_MIN:
            return NOBODY
        keys = [gap.key for gap in due[: 2 * BULK_ASKED_MAX]]
        return self.holders.choose(keys, now, 12 * self._delay.value)

    def _ask(self, due: list[Gap], to: bytes, now: float) -> list[Gap]:
        """One NACK for the first of `due`; return those that found no place."""
        asking = due[:NACK_MESSAGES_MAX]
        if to != NOBODY:
            asking = [gap for gap in due if self.holders.covers(to, gap.key)][:BULK_ASKED_MAX]
        listed, taken = as_ranges([gap.key for gap in asking], NACK_RANGES_MAX)
        self.gaps.asked(asking[:taken], now, self._delay.value)
        self._egress.say_nack(nack_body(to, listed), now)
        asked = set(asking[:taken])
        return [gap for gap in due if gap not in asked]

    def _may_come(self, gap: Gap) -> bool:
        """Its sender is here and vouches for it, and nothing is held behind it: go on asking.

        Whoever was cut off from that sender alone, and for long, gets it when that is over.
        """
        stream = self._streams.get(gap.sender)
        here = gap.sender in self._presence.members
        return gap.word and here and stream is not None and not stream.ahead

    def _let_go(self, gap: Gap) -> bool:
        """What is from before my time and nobody says to hold is given up early, silently."""
        stream = self._streams.get(gap.sender)
        if stream is None or gap.seq >= stream.history_below:
            return False
        return gap.asks >= STUCK_ASKS and gap.evidence == -NEVER

    def _give_up(self, gap: Gap, now: float) -> bool:
        """Step over what is gone for good; whether that was possible.

        Where nothing is held behind it nothing waits, and it may be a lie, which its sender's next
        word takes back. When its sender is not there any more, its own word is reported and hearsay
        forgotten.
        """
        stream = self._streams.get(gap.sender)
        here = gap.sender in self._presence.members
        if (
            stream is not None
            and gap.seq == stream.hi
            and (stream.ahead or (gap.word and not here))
        ):
            self.gaps.remove(gap.sender, gap.seq)
            self._message_log.step_over(stream, gap.seq + 1, now)
            return True
        if stream is not None and (gap.seq > stream.hi or here):
            self.gaps.postpone(gap, now + 1.0)
        else:
            self.gaps.remove(gap.sender, gap.seq)
        return False


class Holders:
    """Members that said they hold messages I lack."""

    __slots__ = ("_asked", "_claims", "_fruitless", "_rng")

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._claims: dict[bytes, dict[bytes, tuple[int, int]]] = {}
        self._asked: dict[bytes, float] = {}  # when each was last asked
        self._fruitless = NEVER  # since when somebody was asked and nothing came

    def claimed(self, member: bytes, listed: Sequence[Range]) -> None:
        """`member` says that it holds `listed`."""
        self._claims.pop(member, None)
        self._claims[member] = {sender: (lo, hi) for sender, lo, hi in listed}
        if len(self._claims) > HOLDERS_MAX:
            oldest = next(iter(self._claims))
            self.gone(oldest)

    def bore_fruit(self) -> None:
        """A message that was missing came."""
        self._fruitless = NEVER

    def gone(self, member: bytes) -> None:
        """`member` left."""
        self._claims.pop(member, None)
        self._asked.pop(member, None)

    def choose(self, missing: Sequence[Key], now: float, patience: float) -> bytes | None:
        """The member to ask for `missing`: of those that hold at least half as much as the best,
        the one that was not asked for the longest time; None when all were asked just now.

        NOBODY when none holds any, and once after an ask that brought nothing for `patience`
        seconds: who was named may be a liar, or busy with another.
        """
        if self._fruitless + patience <= now:
            self._fruitless = NEVER
            return NOBODY
        shares = []
        for member, claims in self._claims.items():
            share = 0
            for sender, seq in missing:
                lo, hi = claims.get(sender, (0, 0))
                share += lo <= seq < hi
            if share:
                shares.append((share, member))
        if not shares:
            return NOBODY
        best = max(shares)[0]
        asked = self._asked
        fit = [
            (asked.get(member, -NEVER), self._rng.random(), member)
            for share, member in shares
            if 2 * share >= best
        ]
        last, _, chosen = min(fit)
        if last + BULK_ASKED_MAX / BULK_PER_S > now:
            return None
        asked[chosen] = now
        self._fruitless = min(self._fruitless, now)
        return chosen

    def covers(self, member: bytes, key: Key) -> bool:
        """Whether `member` said that it holds `key`."""
        lo, hi = self._claims[member].get(key[0], (0, 0))
        return lo <= key[1] < hi
