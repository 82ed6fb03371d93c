"""What is missing, and when to ask for it. Floor 2.

A gap is one number of one sender. Its life:

    state     asked so far   counts as behind   next ask
    fresh     0              yes                2 d + a drawn wait, after announced copies
    asked     1 .. 5         yes                12 d, doubled with each ask
    stuck     6 ..           no                 8 s
    gone      8 .., 30 s     -                  none: `take_due` reports it

A gap known only by hearsay (from neither DATA nor SESSION of its sender) never counts as behind and
is asked for last. What moves the next ask: the same NACK from another member puts it off, no
further than NACK_HELD_S_MAX from first sight; evidence that somebody holds the message brings it
forward, once in EVIDENCE_EVERY_S. Neither changes the count. All gaps found during one wait share
its end, so that one NACK asks for them all.
"""

from evloop.limits import (
    EVIDENCE_EVERY_S,
    GAPS_MAX,
    GONE_ASKS,
    GONE_S,
    HEARSAY_GAPS_MAX,
    NACK_BACKOFF_S_MAX,
    NACK_HELD_S_MAX,
    STUCK_ASKS,
)
from evloop.waits import window_wait

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterable
    from random import Random

NEVER = float("inf")


class Gap:
    """One missing message. `word`: its sender's own word says that it exists."""

    __slots__ = ("asks", "due", "evidence", "first", "sender", "seq", "word")

    def __init__(self, sender: bytes, seq: int, now: float, due: float, word: bool) -> None:
        self.sender = sender
        self.seq = seq
        self.first = now
        self.due = due
        self.word = word
        self.asks = 0
        self.evidence = -NEVER


def first_wait(rng: "Random", delay: float, members: int) -> float:
    """Seconds from noticing to asking: time for the answer to somebody else's question."""
    window = (4 if members < 200 else 8) * delay
    return 2 * delay + window_wait(rng, window, members)


def retry_wait(rng: "Random", asks: int, delay: float) -> float:
    """Seconds from ask number `asks` to the next."""
    if asks >= STUCK_ASKS:
        wait = NACK_BACKOFF_S_MAX
    else:
        wait = min(12 * delay * 2 ** (asks - 1), NACK_BACKOFF_S_MAX)
    return wait * (0.75 + 0.5 * rng.random())


class Gaps:
    """The table of gaps of one room."""

    __slots__ = ("_by_sender", "_rng", "_round", "count", "hearsay", "next_due", "pressing")

    def __init__(self, rng: "Random") -> None:
        self._rng = rng
        self._by_sender: dict[bytes, dict[int, Gap]] = {}
        self._round = -NEVER  # when the NACK that is being waited for is due
        self.count = 0
        self.hearsay = 0  # how many of them are hearsay
        self.pressing = 0  # how many make me "behind"
        self.next_due = NEVER  # never later than the earliest; may be earlier

    def of(self, sender: bytes) -> "dict[int, Gap]":
        """The gaps of one sender by number (do not change)."""
        return self._by_sender.get(sender, {})

    def hearsay_of(self, sender: bytes) -> int:
        """How many hearsay gaps `sender` has."""
        return sum(not gap.word for gap in self.of(sender).values())

    def _due(self, now: float, delay: float, members: int, after: float) -> float:
        if not max(now, after) <= self._round <= now + 12 * delay:
            self._round = max(now, after) + first_wait(self._rng, delay, members)
        return self._round

    def add(
        self,
        sender: bytes,
        seqs: "Iterable[int]",
        held: "Container[int]",
        word: bool,
        now: float,
        delay: float,
        members: int,
        after: float,
    ) -> int:
        """Note the numbers of `seqs` (rising) that are not in `held`; not to be asked before
        `after`. Return the number behind the last one noted or held (-1: none)."""
        gaps = self._by_sender.setdefault(sender, {})
        top = -1
        for seq in seqs:
            if seq not in held:
                gap = gaps.get(seq)
                if gap is None:
                    if not self._make_room(word):
                        break
                    due = self._due(now, delay, members, after)
                    gaps[seq] = Gap(sender, seq, now, due, word)
                    self.count += 1
                    self.hearsay += not word
                    self.pressing += word
                    self.next_due = min(self.next_due, due)
                elif word and not gap.word:
                    self._believe(gap)
            top = seq + 1
        if not gaps:
            del self._by_sender[sender]
        return top

    def _make_room(self, word: bool) -> bool:
        if not word:
            return self.hearsay < HEARSAY_GAPS_MAX and self.count < GAPS_MAX
        if self.count >= GAPS_MAX:
            rumour = next(
                (gap for gaps in self._by_sender.values() for gap in gaps.values() if not gap.word),
                None,
            )
            if rumour is None:
                return False
            self.remove(rumour.sender, rumour.seq)
        return True

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
        self.hearsay -= not gap.word
        self.pressing -= gap.word and gap.asks < STUCK_ASKS
        if not gaps:
            del self._by_sender[sender]
        return True

    def forget(self, sender: bytes) -> None:
        """Remove all gaps of one sender."""
        for seq in list(self.of(sender)):
            self.remove(sender, seq)

    def heard_nack(self, sender: bytes, lo: int, hi: int, now: float, delay: float) -> None:
        """Somebody else asked anyone for [lo, hi): its answer will serve me too."""
        for gap in self.of(sender).values():
            if lo <= gap.seq < hi:
                self._put_off(gap, now, delay)

    def _put_off(self, gap: Gap, now: float, delay: float) -> None:
        later = now + retry_wait(self._rng, max(gap.asks, 1), delay)
        gap.due = max(gap.due, min(later, gap.first + NACK_HELD_S_MAX))

    def evidence(
        self, sender: bytes, lo: int, hi: int, now: float, delay: float, members: int
    ) -> int:
        """A member says that it holds [lo, hi): ask soon. Return how many of these are missing."""
        missing = 0
        for gap in self.of(sender).values():
            if lo <= gap.seq < hi:
                missing += 1
                if now >= gap.evidence + EVIDENCE_EVERY_S:
                    gap.evidence = now
                    gap.due = min(gap.due, self._due(now, delay, members, now))
                    self.next_due = min(self.next_due, gap.due)
        return missing

    def take_due(self, now: float, slack: float) -> "tuple[list[Gap], list[Gap]]":
        """(those to ask for now, those that are gone); hearsay last, else in order.

        When one is due, those due within `slack` go along.
        """
        asking: list[Gap] = []
        gone: list[Gap] = []
        if now < self.next_due:
            return asking, gone
        soonest = NEVER
        overdue = False
        for gaps in self._by_sender.values():
            for gap in gaps.values():
                if gap.due > now + slack:
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
        asking.sort(key=lambda gap: (not gap.word, gap.sender, gap.seq))
        return asking, gone

    def asked(self, gap: Gap, now: float, delay: float) -> None:
        """`gap` goes into the NACK that is being sent."""
        gap.asks += 1
        self.pressing -= gap.word and gap.asks == STUCK_ASKS
        self.postpone(gap, now + retry_wait(self._rng, gap.asks, delay))

    def postpone(self, gap: Gap, due: float) -> None:
        """Not before `due`; for those that found no place in a NACK, too."""
        gap.due = due
        self.next_due = min(self.next_due, due)
