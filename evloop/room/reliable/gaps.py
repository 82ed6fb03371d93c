"""What is missing, and when to ask for it.

A gap is one number of one sender. Its life:

    state     asked so far   counts as behind   next ask
    fresh     0              yes                2 d + a drawn wait, after announced copies
    asked     1 .. 5         yes                12 d, 24 d, 36 d ..., up to 1 s
    stuck     6 ..           no                 8 s
    gone      8 .., 30 s     -                  none: `take_due` reports it, and the caller judges

A gap known only by hearsay (from neither DATA nor SESSION of its sender) never counts as behind, is
asked for last, and makes room for new ones once it was asked for. What moves the next ask: the same
NACK from another member puts it off, no further than NACK_HELD_S_MAX from first sight; evidence
that somebody holds the message brings it forward and lets the back-off begin anew, once in
EVIDENCE_EVERY_S. Neither changes the count. All gaps found during one wait share its end, and all
asked for in one NACK share the next wait: so they stay together, and one NACK asks for them all.
"""

from __future__ import annotations

from evloop.room.reliable.limits import (
    EVIDENCE_EVERY_S,
    GAPS_MAX,
    GONE_ASKS,
    GONE_S,
    HEARSAY_GAPS_MAX,
    NACK_BACKOFF_S_MAX,
    NACK_HELD_S_MAX,
    NACK_RETRY_S_MAX,
    STUCK_ASKS,
)
from evloop.room.reliable.suppression import window_wait
from evloop.system.timers import NEVER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Sequence
    from random import Random


class Gap:
    """One missing message. `word`: its sender's own word says that it exists."""

    __slots__ = ("asks", "due", "evidence", "first", "sender", "seq", "tries", "word")

    def __init__(self, sender: bytes, seq: int, now: float, due: float, word: bool) -> None:
        self.sender = sender
        self.seq = seq
        self.first = now
        self.due = due
        self.word = word
        self.asks = 0
        self.tries = 0  # asks since the last evidence: they make the back-off
        self.evidence = -NEVER

    @property
    def key(self) -> tuple[bytes, int]:
        return self.sender, self.seq


def first_wait(rng: Random, delay: float, members: int) -> float:
    """Seconds from noticing to asking: time for the answer to somebody else's question."""
    window = (4 if members < 200 else 8) * delay
    return 2 * delay + window_wait(rng, window, members)


def retry_wait(tries: int, delay: float, flowing: bool = False) -> float:
    """Seconds from try number `tries` to the next, before jitter.

    It grows by as much each time. (Measured with everybody deaf for 0.1 s at a time, 30 % of the
    time: p99 of delivery 565 and 592 ms, and 640 and 626 ms with doubling.)

    While repairs are `flowing` there is no back-off: somebody holds the messages and answers, and
    of hundreds (a late joiner's) some are lost again and again.
    """
    if flowing:
        return 12.0 * delay
    if tries >= STUCK_ASKS:
        return NACK_BACKOFF_S_MAX
    # Not beyond a second on a slow link: so long as it was not asked for 6 times, I am silent.
    return min(12.0 * delay * tries, max(NACK_RETRY_S_MAX, 12.0 * delay))


def jitter(rng: Random) -> float:
    """So that two members that asked at the same time do not do so again."""
    return 0.75 + 0.5 * rng.random()


class Gaps:
    """The table of gaps of one room."""

    __slots__ = (
        "_by_sender", "_recovered", "_rng", "_round", "count", "hearsay", "next_due", "pressing",
    )  # fmt: skip

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._by_sender: dict[bytes, dict[int, Gap]] = {}
        self._round = -NEVER  # when the NACK that is being waited for is due
        self._recovered = -NEVER  # when a repair last closed a gap
        self.count = 0
        self.hearsay = 0  # how many of them are hearsay
        self.pressing = 0  # how many make me "behind"
        self.next_due = NEVER  # never later than the earliest; may be earlier

    def of(self, sender: bytes) -> dict[int, Gap]:
        """The gaps of one sender by number (do not change)."""
        return self._by_sender.get(sender, {})

    def _all(self) -> Iterator[Gap]:
        for gaps in self._by_sender.values():
            yield from gaps.values()

    # -- what is missing -------------------------------------------------------------------------

    def round(self, now: float, delay: float, members: int, after: float) -> float:
        """When a gap found now should be asked for, and not before `after`."""
        after = max(now, after)
        if not after <= self._round <= now + 12 * delay:
            self._round = after + first_wait(self._rng, delay, members)
        return self._round

    def add(
        self,
        sender: bytes,
        seqs: Iterable[int],
        held: Container[int],
        now: float,
        due: float,
    ) -> int:
        """By its sender's word `seqs` (rising) exist; note those that are not in `held`.

        Returns the number behind the last one noted or held (-1: there was no room for any).
        """
        top = -1
        for seq in seqs:
            if seq not in held:
                gap = self.of(sender).get(seq)
                if gap is None:
                    if self.count >= GAPS_MAX and not self._drop_rumour(None, ()):
                        break
                    self._insert(Gap(sender, seq, now, due, True))
                elif not gap.word:
                    self._believe(gap)
            top = seq + 1
        return top

    def hear_of(
        self, sender: bytes, seqs: Sequence[int], most: int, now: float, due: float
    ) -> None:
        """Somebody says that `seqs` exist: note them, so that `sender` has at most `most` such.

        Rumours that were asked for already make room: a false one must not keep out a true one.
        """
        mine = sum(not gap.word for gap in self.of(sender).values())
        for seq in seqs:
            if seq in self.of(sender):
                continue
            if mine >= most:
                if not self._drop_rumour(sender, seqs):
                    return
                mine -= 1
            full = self.hearsay >= HEARSAY_GAPS_MAX or self.count >= GAPS_MAX
            if full and not self._drop_rumour(None, seqs):
                return
            self._insert(Gap(sender, seq, now, due, False))
            mine += 1

    def _drop_rumour(self, sender: bytes | None, spare: Container[int]) -> bool:
        """Drop a rumour (of `sender`, if given) that was asked for; any, when there is no word."""
        gaps = self._all() if sender is None else iter(self.of(sender).values())
        for gap in gaps:
            if not gap.word and gap.asks and gap.seq not in spare:
                self.remove(gap.sender, gap.seq)
                return True
        return False

    def _insert(self, gap: Gap) -> None:
        self._by_sender.setdefault(gap.sender, {})[gap.seq] = gap
        self.count += 1
        if gap.word:
            self.pressing += 1
        else:
            self.hearsay += 1
        self.next_due = min(self.next_due, gap.due)

    def _believe(self, gap: Gap) -> None:
        gap.word = True
        self.hearsay -= 1
        self.pressing += gap.asks < STUCK_ASKS

    def believe(self, sender: bytes, below: int) -> None:
        """The sender's own word now says that all numbers below `below` exist."""
        for gap in self.of(sender).values():
            if not gap.word and gap.seq < below:
                self._believe(gap)

    def remove(self, sender: bytes, seq: int) -> bool:
        """The message came, or is given up. Whether it was missing."""
        gaps = self._by_sender.get(sender)
        gap = gaps.pop(seq, None) if gaps else None
        if gap is None:
            return False
        self.count -= 1
        if gap.word:
            self.pressing -= gap.asks < STUCK_ASKS
        else:
            self.hearsay -= 1
        if not gaps:
            del self._by_sender[sender]
        return True

    def recovered(self, sender: bytes, seq: int, now: float) -> bool:
        """A repair brought the message. Whether it was missing."""
        if not self.remove(sender, seq):
            return False
        self._recovered = now
        return True

    def forget(self, sender: bytes, start: int = 0) -> None:
        """Remove the gaps of `sender` from number `start` on."""
        for seq in [seq for seq in self.of(sender) if seq >= start]:
            self.remove(sender, seq)

    # -- when to ask -----------------------------------------------------------------------------

    def heard_nack(self, sender: bytes, lo: int, hi: int, now: float, delay: float) -> None:
        """Somebody else asked anyone for [lo, hi): its answer will serve me too."""
        factor = jitter(self._rng)
        for gap in self.of(sender).values():
            if lo <= gap.seq < hi:
                later = now + factor * retry_wait(max(gap.tries, 1), delay)
                gap.due = max(gap.due, min(later, gap.first + NACK_HELD_S_MAX))

    def evidence(self, sender: bytes, lo: int, hi: int, now: float, due: float) -> bool:
        """A member says that it holds [lo, hi): ask at `due`. Whether any of these is missing."""
        missing = False
        for gap in self.of(sender).values():
            if lo <= gap.seq < hi:
                missing = True
                if now >= gap.evidence + EVIDENCE_EVERY_S:
                    gap.evidence = now
                    gap.tries = 0
                    self.postpone(gap, min(gap.due, due))
        return missing

    def take_due(self, now: float, delay: float) -> tuple[list[Gap], list[Gap]]:
        """(those to ask for now, those that are gone); hearsay last, else in order.

        When one is due, those that would be soon go along.
        """
        asking: list[Gap] = []
        gone: list[Gap] = []
        if now < self.next_due:
            return asking, gone
        soonest = NEVER
        overdue = False
        for gap in self._all():
            if gap.due > now and gap.due > now + self._slack(gap, delay):
                soonest = min(soonest, gap.due)
            elif gap.asks >= GONE_ASKS and now >= gap.first + GONE_S:
                gone.append(gap)
            else:
                overdue = overdue or gap.due <= now
                asking.append(gap)
        if not overdue:
            soonest = min([soonest, *[gap.due for gap in asking]])
            asking = []
        self.next_due = soonest
        return self.in_order(asking), gone

    @staticmethod
    def in_order(gaps: Iterable[Gap]) -> list[Gap]:
        """As they go into NACKs: hearsay last, else by sender and number."""
        return sorted(gaps, key=lambda gap: (not gap.word, gap.sender, gap.seq))

    def _slack(self, gap: Gap, delay: float) -> float:
        return retry_wait(gap.tries, delay) / 8 if gap.tries else delay

    def asked(self, gaps: Iterable[Gap], now: float, delay: float) -> None:
        """`gaps` go into the NACK that is being sent."""
        factor = jitter(self._rng)
        flowing = now < self._recovered + 36 * delay  # two retries ago at most
        for gap in gaps:
            gap.asks += 1
            gap.tries += 1
            if gap.word and gap.asks == STUCK_ASKS:
                self.pressing -= 1
            self.postpone(gap, now + factor * retry_wait(gap.tries, delay, flowing))

    def postpone(self, gap: Gap, due: float) -> None:
        """Ask for `gap` at `due` instead."""
        gap.due = due
        self.next_due = min(self.next_due, due)
