"""One sender's messages, put in order by their numbers (seq).

    0 ........ lo ........ shown ........ hi ........ hi + WINDOW_MESSAGES
      not held |  shown   |  backlog     |  ahead, with gaps    |  beyond: dropped

`hi` is the next expected number: all of [lo, hi) was held. What lies in `backlog` is in order but
waits for its parents; `shown` is the next number to show. What `accept` says of a number:

    number                  verdict     then
    below hi, stepped over  LATE        held, shown late, once
    below hi otherwise      OLD         a duplicate (or before my time)
    in `ahead`              OLD
    hi                      NEW         hi moves, over what was ahead too
    in the window           NEW         held ahead
    beyond the window       BEYOND      not held; its sender will be asked again
"""

from __future__ import annotations

from collections import namedtuple

from evloop.room.reliable.limits import SKIPPED_MAX, SKIPPED_RANGES_MAX, WINDOW_MESSAGES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NamedTuple

    class Message(NamedTuple):
        """One DATA as it is kept; `datagram` as it came, for repairs."""

        lamport: int
        sender: bytes
        seq: int
        parents: tuple[tuple[bytes, int], ...]
        name: bytes
        kind: int
        text: bytes
        wall: int
        more: bool
        datagram: bytes
else:
    Message = namedtuple("Message", "lamport sender seq parents name kind text wall more datagram")

NEW, OLD, LATE, BEYOND = "new", "old", "late", "beyond"


class Sender:
    """The state of one sender, from its first accepted DATA on."""

    __slots__ = (
        "ahead",
        "backlog",
        "base",
        "began",
        "broken",
        "claimed",
        "conflict_at",
        "covered",
        "gap_before",
        "heard",
        "held_until",
        "hi",
        "history_below",
        "holding",
        "item",
        "lamport",
        "lo",
        "name",
        "names_parents",
        "parts",
        "sender",
        "shown",
        "skipped",
        "standing",
        "vouched",
        "word",
    )

    def __init__(self, sender: bytes, base: int, history_below: int, now: float) -> None:
        """`base`: the first number wanted; below `history_below` all is from before my time."""
        self.sender = sender
        self.base = self.lo = self.hi = self.shown = base
        self.vouched = False  # its own SESSION has said that its numbers reach as far as `base`
        self.standing = False  # it has been present for a while, when it last spoke or earlier
        self.word = base  # next number as the sender itself told it, in DATA or SESSION
        self.covered = base  # missing numbers below are in the gap table
        self.history_below = history_below
        self.claimed = range(0)  # what a member said to hold of it before its first DATA came
        self.began = now
        self.heard = now  # when it last said something new itself: a repair does not count
        self.lamport = 0  # the latest Lamport time of its messages, as they are sorted
        self.holding = False  # lo < hi, as it was counted last
        self.item = 0  # what this sender adds to the digest
        self.ahead: dict[int, Message] = {}
        # Ranges of numbers that were stepped over and may come late; the newest last.
        self.skipped: list[tuple[int, int]] = []
        # (since when it is in order, message). An int is a count of lost messages; a negative one
        # is not reported. A list, because it is mostly empty, and an empty deque has 0.6 kB.
        self.backlog: list[tuple[float, Message | int]] = []
        self.parts: list[Message] = []  # of a message whose last part is yet to come
        self.broken = -1  # Lamport time of a message that lost a part
        self.gap_before = base > 0  # the message before the next to show was not shown
        self.name = ""  # as in its last DATA
        # Whether its messages name parents: then a DATA without any is a further part. It is
        # assumed until the first message shown tells.
        self.names_parents = True
        self.conflict_at = float("-inf")
        self.held_until = float("-inf")  # what is found missing now is not asked for before

    def knows(self, seq: int) -> bool:
        """Whether `accept` would call `seq` OLD."""
        if seq < self.hi:
            return not self.skipped or self._skipped_at(seq) < 0
        return seq in self.ahead

    def _skipped_at(self, seq: int) -> int:
        """The index of the range in `skipped` that has `seq`, or -1."""
        for index, (lo, hi) in enumerate(self.skipped):
            if lo <= seq < hi:
                return index
        return -1

    def accept(self, seq: int, message: Message, now: float) -> str:
        """Take `message` in; see the table above for what is returned."""
        if seq == self.hi:
            self.backlog.append((now, message))
            self.hi = seq + 1
            if self.ahead:
                self._advance(now)
            return NEW
        if seq < self.hi:
            at = self._skipped_at(seq)
            if at < 0:
                return OLD
            lo, hi = self.skipped[at]
            self.skipped[at : at + 1] = [
                rest for rest in ((lo, seq), (seq + 1, hi)) if rest[0] < rest[1]
            ]
            del self.skipped[:-SKIPPED_RANGES_MAX]
            return LATE
        if seq in self.ahead:
            return OLD
        if not self.in_window(seq):
            return BEYOND
        self.ahead[seq] = message
        return NEW

    def in_window(self, seq: int) -> bool:
        return seq < self.hi + WINDOW_MESSAGES

    def _advance(self, now: float) -> None:
        ahead, append, seq = self.ahead, self.backlog.append, self.hi
        while seq in ahead:  # maybe a thousand times: keep this loop short
            append((now, ahead.pop(seq)))
            seq += 1
        self.hi = seq

    def step_over(self, upto: int, report: bool, now: float) -> None:
        """Give up [hi, upto), of which nothing is held; `upto` is then the next number."""
        count = upto - self.hi
        self.skipped.append((max(self.hi, upto - SKIPPED_MAX), upto))
        del self.skipped[:-SKIPPED_RANGES_MAX]
        self.backlog.append((now, count if report else -count))
        self.lo = self.hi = upto
        self._advance(now)

    def wanted(self) -> range:
        """The numbers by its own word that are not yet in the gap table; some may be held."""
        return range(max(self.covered, self.hi), min(self.word, self.hi + WINDOW_MESSAGES))
