"""What is missing, and when to ask for it.

A gap is one number of one sender. Its life:

    state     asked so far   counts as behind   next ask
    fresh     0              yes                2 d + a drawn wait, after announced copies
    asked     1 .. 5         yes                12 d, 24 d, 36 d ..., up to 1 s
    stuck     6 ..           no                 8 s
    gone      8 .., 30 s     -                  none: `take_due` reports it, and the caller judges

A gap known only by hearsay (from neither DATA nor SESSION of its sender) never counts as behind, is
asked for last, and makes room for new ones once it was asked for. When its sender says that it
exists, its life begins: asks for what was not there yet say nothing about it. What moves the next
ask: the same NACK from another member puts it off, no further than NACK_HELD_S_MAX from first
sight; evidence that somebody holds the message brings it forward and lets the back-off begin anew,
once in EVIDENCE_EVERY_S. Neither changes the count. All gaps found during one wait share its end,
and all asked for in one NACK share the next wait: so they stay together, and one NACK asks for them
all.
"""

from __future__ import annotations

from operator import attrgetter

from evloop.room.reliable.leave import Leave
from evloop.room.reliable.limits import (
    ALONE_DELAYS,
    DELAY_S_MAX,
    EVIDENCE_EVERY_S,
    GAPS_MAX,
    GAPS_NOTED_MAX,
    GAPS_SENDER_MAX,
    GONE_ASKS,
    GONE_S,
    HEARSAY_GAPS_MAX,
    HEARSAY_NOTED_MAX,
    NACK_BACKOFF_S_MAX,
    NACK_HELD_S_MAX,
    NACK_RETRY_S_MAX,
    NAMED_MAX,
    STUCK_ASKS,
)
from evloop.room.reliable.suppression import window_wait
from evloop.system.timers import NEVER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping, Sequence
    from random import Random

    from evloop.room.reliable.estimators import LossMeter
    from evloop.room.reliable.packets import Range

SLACK_S_MAX = max(NACK_BACKOFF_S_MAX / 8, DELAY_S_MAX)  # gaps due so soon go into the same NACK


class Gap:
    """One missing message. `word`: its sender's own word says that it exists."""

    __slots__ = ("asks", "due", "evidence", "first", "sender", "seq", "stuck_at", "tries", "word")

    def __init__(
        self, sender: bytes, seq: int, now: float, due: float, word: bool, evidence: float
    ) -> None:
        self.sender = sender
        self.seq = seq
        self.first = now
        self.due = due
        self.word = word
        self.asks = 0
        self.stuck_at = NEVER  # when it was asked for STUCK_ASKS times
        self.tries = 0  # asks since the last evidence, but not while repairs came: the back-off
        self.evidence = evidence  # when a member last said that it holds it

    @property
    def key(self) -> tuple[bytes, int]:
        return self.sender, self.seq


def first_wait(rng: Random, delay: float, members: int) -> float:
    """Seconds from noticing a gap to asking: the answer to another member's NACK may come first."""
    window = (4 if members < 200 else 8) * delay
    return 2 * delay + window_wait(rng, window, members)


def retry_wait(tries: int, delay: float, flowing: bool = False) -> float:
    """Seconds from try number `tries` to the next, before jitter.

    It grows by the same amount each time. (Doubling was worse: where everybody hears nothing for
    0.1 s at a time, 30 % of the time, the p99 of delivery was 640 and 626 ms, and 565 and 592 ms
    so, in two runs each.)

    While repairs are `flowing` there is no back-off: somebody holds the messages and answers, and
    of hundreds (a late joiner's) some are lost again and again. Such tries are not counted: six of
    them take less than half a second, and the last message of a healed partition, of which all
    repairs happened to be lost, was then asked for 8 s later.
    """
    if flowing:
        return 12.0 * delay
    if tries >= STUCK_ASKS:
        return NACK_BACKOFF_S_MAX
    # At most a second, or one step on a slow link: until a gap was asked for STUCK_ASKS times,
    # this member sends no SESSION at its Trickle points.
    return min(12.0 * delay * tries, max(NACK_RETRY_S_MAX, 12.0 * delay))


def jitter(rng: Random) -> float:
    """A factor for a wait, so that two members that asked at one time do not do so again."""
    return 0.75 + 0.5 * rng.random()


IN_ORDER = attrgetter("sender", "seq")
_WORD = attrgetter("word")
_NONE: Mapping[int, Gap] = {}


class Gaps:
    """The table of gaps of one room.

    What is certain (its sender's word) and what is hearsay are kept apart, by sender. When the
    table is full, a sender with few gaps takes a place from the sender with the most: the gap with
    the highest number goes, for that message would be shown last, and `dropped` lists it. What one
    call may note or look at has a bound, so that no datagram costs much by what it names.
    """

    __slots__ = (
        "_due", "_hearsay", "_recovered", "_rng", "_round", "_spent", "_words",
        "count", "dropped", "hearsay", "leave", "next_due", "pressing",
    )  # fmt: skip

    def __init__(self, rng: Random, loss: LossMeter) -> None:
        self._rng = rng
        self._words: dict[bytes, dict[int, Gap]] = {}
        self._hearsay: dict[bytes, dict[int, Gap]] = {}
        # Hearsay that was asked for already: it makes room first, so that false hearsay does not
        # keep out true.
        self._spent: dict[tuple[bytes, int], None] = {}
        self._due: dict[bytes, float] = {}  # by sender: none of its gaps is due before that time
        self.leave = Leave(loss)
        self._round = -NEVER  # when the NACK that is being waited for is due
        self._recovered = -NEVER  # when a repair last closed a gap
        self.dropped: list[tuple[bytes, int]] = []  # (sender, number) that had to make room
        self.count = 0
        self.hearsay = 0  # how many of them are hearsay
        self.pressing = 0  # how many make me "behind"
        self.next_due = NEVER  # never later than the earliest; may be earlier

    def of(self, sender: bytes) -> dict[int, Gap]:
        """The gaps of one sender by number (a copy)."""
        return {**self._words.get(sender, {}), **self._hearsay.get(sender, {})}

    def any(self, sender: bytes) -> bool:
        """Whether there are gaps of `sender`."""
        return sender in self._due

    # -- what is missing -------------------------------------------------------------------------

    def round(self, now: float, delay: float, members: int, after: float) -> float:
        """When a gap found now should be asked for, and not before `after`."""
        after = max(now, after)
        if not after < self._round <= now + 12 * delay:
            self._round = after + first_wait(self._rng, delay, members)
        return self._round

    def apart(self, delay: float, members: int) -> float:
        """Seconds by which I ask later than at a time that all `members` know."""
        return window_wait(self._rng, 16 * delay, members)

    def add(
        self,
        sender: bytes,
        seqs: Sequence[int],
        held: Container[int],
        now: float,
        due: float,
    ) -> int:
        """By its sender's word `seqs` (rising) exist; note those that are not in `held`.

        Returns the number behind the last one noted or held (-1: there was no room for any): at
        most GAPS_NOTED_MAX are noted in one call, and GAPS_SENDER_MAX of one sender at a time.
        """
        words, hearsay = self._words.get(sender, _NONE), self._hearsay.get(sender)
        seqs = seqs[:NAMED_MAX]
        room = min(GAPS_NOTED_MAX, GAPS_SENDER_MAX - len(words))
        missing = [seq for seq in seqs if seq not in held and seq not in words]
        cut = missing[max(room, 0) :]  # of these none is noted
        del missing[max(room, 0) :]
        if hearsay and missing:
            known = [hearsay[seq] for seq in missing if seq in hearsay]
            missing = [seq for seq in missing if seq not in hearsay]
            for gap in known:
                self._believe(gap, now, due)
        if missing:
            mine = len(words)
            for index in range(max(0, GAPS_MAX - self.count), len(missing)):
                if not self._make_room(mine + index):
                    cut = missing[index:]
                    del missing[index:]
                    break
            self._insert(sender, missing, now, due, True, -NEVER)
        if cut:
            return cut[0] if cut[0] > seqs[0] else -1
        return seqs[-1] + 1 if seqs else -1

    def _make_room(self, mine: int) -> bool:
        """Make room for a gap of a sender that has `mine`: drop hearsay that was asked for, or a
        gap of the sender with the most, if it has at least two more. Whether that worked."""
        if self._spent:
            self.remove(*next(iter(self._spent)))
            return True
        largest = max(self._words.values(), key=len, default={})
        if len(largest) <= mine + 1:  # else two senders would take one place from each other
            return False
        seq = max(largest)
        sender = largest[seq].sender
        self.remove(sender, seq)
        self.dropped.append((sender, seq))
        return True

    def hear_of(
        self,
        sender: bytes,
        seqs: Sequence[int],
        most: int,
        now: float,
        due: float,
        held: bool = False,
    ) -> int:
        """Somebody says that `seqs` exist: note them, so that `sender` has at most `most` such.
        `held`: it holds them itself, which is evidence.

        Hearsay that was asked for already makes room, then that about the sender with the most of
        it. Returns how many numbers were noted.
        """
        room = min(HEARSAY_GAPS_MAX - self.hearsay, GAPS_MAX - self.count)
        if sender not in self._due and len(seqs) <= min(room, most):
            if seqs:
                self._insert(sender, seqs, now, due, False, now if held else -NEVER)
            return len(seqs)
        hearsay, words = self._hearsay.get(sender, _NONE), self._words.get(sender, _NONE)
        new = [seq for seq in seqs if seq not in hearsay and seq not in words][:most]
        mine = len(hearsay)
        for seq in [seq for seq, gap in hearsay.items() if gap.asks and seq not in seqs]:
            if mine + len(new) <= most:
                break
            self.remove(sender, seq)
            mine -= 1
        del new[max(0, most - mine) :]
        room = min(HEARSAY_GAPS_MAX - self.hearsay, GAPS_MAX - self.count)  # more by now, maybe
        for index in range(max(0, room), len(new)):
            if not self._drop_hearsay(mine + index):
                del new[index:]
                break
        if new:
            self.leave.claimed(sender)
            self._insert(sender, new, now, due, False, now if held else -NEVER)
        return len(new)

    def _drop_hearsay(self, mine: int) -> bool:
        """Make room for hearsay about a sender that has `mine` such gaps; whether that worked."""
        if self._spent:
            self.remove(*next(iter(self._spent)))
            return True
        largest = max(self._hearsay.values(), key=len, default={})
        if len(largest) <= mine + 1:
            return False
        gap = largest[max(largest)]
        self.remove(gap.sender, gap.seq)
        return True

    def _insert(
        self,
        sender: bytes,
        seqs: Sequence[int],
        now: float,
        due: float,
        word: bool,
        evidence: float,
    ) -> None:
        new = {seq: Gap(sender, seq, now, due, word, evidence) for seq in seqs}
        table = self._words if word else self._hearsay
        if sender in table:
            table[sender].update(new)
        else:
            table[sender] = new
        self.count += len(new)
        if word:
            self.pressing += len(new)
        else:
            self.hearsay += len(new)
        if due < self._due.get(sender, NEVER):
            self._due[sender] = due
        if due < self.next_due:
            self.next_due = due

    def _believe(self, gap: Gap, now: float, due: float) -> None:
        hearsay = self._hearsay[gap.sender]
        del hearsay[gap.seq]
        if not hearsay:
            del self._hearsay[gap.sender]
        self._spent.pop(gap.key, None)
        gap.word = True
        self._words.setdefault(gap.sender, {})[gap.seq] = gap
        self.hearsay -= 1
        self.pressing += 1
        gap.first = now
        gap.asks = 0
        gap.stuck_at = NEVER
        if gap.evidence <= now - EVIDENCE_EVERY_S:
            gap.evidence = now
            gap.tries = 0
            if due < gap.due:
                self.postpone(gap, due)

    def is_hearsay(self, sender: bytes, below: int) -> bool:
        """Whether there is hearsay about numbers of `sender` below `below`."""
        return any(seq < below for seq in self._hearsay.get(sender, ()))

    def believe(self, sender: bytes, below: int, now: float, due: float) -> None:
        """The sender's own word now says that all numbers below `below` exist: those of them that
        were hearsay are asked for at `due`."""
        hearsay = self._hearsay.get(sender)
        if hearsay:
            for gap in [gap for gap in hearsay.values() if gap.seq < below]:
                self._believe(gap, now, due)

    def hold(self, sender: bytes, start: int, until: float) -> None:
        """Do not ask for the numbers of `sender` from `start` on before `until`."""
        for gap in self._words.get(sender, _NONE).values():
            if gap.seq >= start and gap.due < until:
                gap.due = until

    def refute(self, sender: bytes, start: int, before: float) -> None:
        """The sender's own word is that it has not said number `start` yet: what only others said
        of such numbers, before `before`, is false."""
        hearsay = self._hearsay.get(sender)
        if hearsay:
            for gap in [gap for gap in hearsay.values() if gap.seq >= start]:
                if gap.first < before:
                    self.remove(sender, gap.seq)

    def remove(self, sender: bytes, seq: int) -> bool:
        """The message has come, or it is given up: drop its gap. Whether there was one."""
        table = self._words
        gaps = table.get(sender)
        gap = gaps.pop(seq, None) if gaps else None
        if gap is None:
            table = self._hearsay
            gaps = table.get(sender)
            gap = gaps.pop(seq, None) if gaps else None
            if gap is None:
                return False
            self.hearsay -= 1
            self._spent.pop((sender, seq), None)
        else:
            self.pressing -= gap.asks < STUCK_ASKS
        self.count -= 1
        if not gaps:
            del table[sender]
            if sender not in self._words and sender not in self._hearsay:
                self._due.pop(sender, None)
                self.leave.forget(sender)
        return True

    def recovered(self, sender: bytes, seq: int, now: float) -> bool:
        """A repair brought the message: drop its gap. Whether there was one."""
        if not self.remove(sender, seq):
            return False
        self._recovered = now
        return True

    def forget(self, sender: bytes, start: int = 0) -> None:
        """Remove the gaps of `sender` from number `start` on."""
        for table in (self._words, self._hearsay):
            for seq in [seq for seq in table.get(sender, ()) if seq >= start]:
                self.remove(sender, seq)

    def _within(self, listed: Iterable[Range]) -> Iterable[Gap]:
        """The gaps in `listed`, each once; at most NAMED_MAX numbers are looked at, those of
        overlaps again: what a datagram names is counted whether it is missing or not."""
        found: list[Gap] = []
        budget = NAMED_MAX
        for sender, lo, hi in listed:
            if sender not in self._due or hi <= lo:
                continue
            for table in (self._words, self._hearsay):
                gaps = table.get(sender)
                if gaps is None:
                    continue
                budget -= 4 + min(hi - lo, len(gaps))
                if budget < 0:
                    return dict.fromkeys(found)
                if hi - lo < len(gaps):
                    found += [gaps[seq] for seq in range(lo, hi) if seq in gaps]
                else:
                    found += [gap for gap in gaps.values() if lo <= gap.seq < hi]
        return dict.fromkeys(found)

    def may_ask(self, gaps: Iterable[Gap], now: float, delay: float) -> bool:
        """Whether the room may send another NACK, which names `gaps`: there is leave, or repairs
        are coming."""
        return self._flowing(now, delay) or self.leave.has(gap.sender for gap in gaps)

    def _flowing(self, now: float, delay: float) -> bool:
        return now < self._recovered + 36 * delay  # two retries ago at most

    def heard_nack(
        self, listed: Sequence[Range], now: float, delay: float, standing: bool = False
    ) -> None:
        """Another member, of `standing`, asked anyone for `listed`: its answer serves me too."""
        factor = jitter(self._rng)
        waits: dict[int, float] = {}  # by the number of tries, which many gaps share
        found = self._within(listed)
        if standing:
            self.leave.spend({gap.sender for gap in found})
        for gap in found:
            later = waits.get(gap.tries, -NEVER)
            if later == -NEVER:
                later = now + factor * retry_wait(max(gap.tries, 1), delay)
                waits[gap.tries] = later
            held = gap.first + NACK_HELD_S_MAX
            if later > held:
                later = held
            if later > gap.due:
                gap.due = later

    def hearsay_room(self, entries: int) -> int:
        """How many gaps by hearsay each of so many entries of one SESSION may make."""
        if self.hearsay + HEARSAY_NOTED_MAX > HEARSAY_GAPS_MAX:
            return 1  # the table of hearsay is full: each takes the place of another
        return max(1, HEARSAY_NOTED_MAX // max(entries, 1))

    def evidence(self, listed: Mapping[bytes, tuple[int, int]], now: float, due: float) -> bool:
        """A member says that it holds `listed`, [lo, hi) by sender: ask for that at `due`. Whether
        any of it is missing."""
        missing = self._within(
            [(sender, *listed[sender]) for sender in listed if sender in self._due]
        )
        before = now - EVIDENCE_EVERY_S
        renewed: set[bytes] = set()
        for gap in missing:
            if gap.evidence <= before:
                gap.evidence = now
                gap.tries = 0
                renewed.add(gap.sender)
                if due < gap.due:
                    self.postpone(gap, due)
        for sender in renewed:
            self.leave.claimed(sender)
        return bool(missing)

    def take_due(self, now: float, delay: float) -> tuple[list[Gap], list[Gap]]:
        """(gaps to ask for now, gaps that are given up); hearsay last, else in order.

        When one gap is due, those that would be due soon are asked for with it.
        """
        asking: list[Gap] = []
        gone: list[Gap] = []
        if now < self.next_due:
            return asking, gone
        soonest = NEVER
        overdue = False
        for sender, first in list(self._due.items()):
            if first > now + SLACK_S_MAX:
                soonest = min(soonest, first)
                continue
            rest = NEVER
            for table in (self._words, self._hearsay):
                for gap in table.get(sender, _NONE).values():
                    if gap.due > now and gap.due > now + self._slack(gap, delay):
                        rest = min(rest, gap.due)
                    elif gap.asks >= GONE_ASKS and now >= gap.first + GONE_S:
                        gone.append(gap)
                    else:
                        overdue = overdue or gap.due <= now
                        asking.append(gap)
            self._due[sender] = rest
            soonest = min(soonest, rest)
        if not overdue:
            for gap in asking:
                self._due[gap.sender] = min(self._due[gap.sender], gap.due)
                soonest = min(soonest, gap.due)
            asking = []
        self.next_due = soonest
        return self.in_order(asking), gone

    @staticmethod
    def in_order(gaps: Iterable[Gap]) -> list[Gap]:
        """As they go into NACKs: hearsay last, else by sender and number."""
        rising = sorted(gaps, key=IN_ORDER)
        rising.sort(key=_WORD, reverse=True)  # of equals the order stays
        return rising

    def _slack(self, gap: Gap, delay: float) -> float:
        if gap.tries:
            return retry_wait(gap.tries, delay) / 8
        return 3 * delay if gap.asks else delay  # repairs flow: groups of gaps find together

    def asked(self, gaps: Iterable[Gap], now: float, delay: float, alone: bool = False) -> None:
        """`gaps` go into the NACK that is being sent. `alone`: nobody else lacks them, and one
        holder is asked, who answers at once or has not heard it: ask another one soon."""
        factor = jitter(self._rng)
        flowing = self._flowing(now, delay)
        for gap in gaps:
            gap.asks += 1
            gap.tries += not flowing
            if gap.asks == STUCK_ASKS:
                gap.stuck_at = now
                self.pressing -= gap.word
            if not gap.word:
                self._spent[gap.key] = None
            wait = retry_wait(gap.tries, delay, flowing)
            if alone and gap.tries <= 1:
                wait = ALONE_DELAYS * delay
            self.postpone(gap, now + factor * wait)

    def not_asked(self, gaps: Iterable[Gap], now: float, delay: float) -> None:
        """No NACK is sent for `gaps`; their time runs as if one were. All members give up what is
        gone at one time: who does so before or after the others is at odds with them all, and tells
        them."""
        self.asked(gaps, now, delay)
        for gap in gaps:
            self.wait(gap, gap.due, now)

    def wait(self, gap: Gap, until: float, now: float) -> None:
        """Ask for `gap` no sooner than `until`. Who has asked enough waits for that no more, only
        for the time to give up. When that is past and the message may still come, it waits as
        before."""
        end = gap.first + GONE_S
        ends = gap.asks >= GONE_ASKS and now < end
        self.postpone(gap, min(until, end) if ends else until)

    def postpone(self, gap: Gap, due: float) -> None:
        """Ask for `gap` at `due` instead."""
        gap.due = due
        if due < self.next_due:
            self.next_due = due
        if due < self._due[gap.sender]:
            self._due[gap.sender] = due
