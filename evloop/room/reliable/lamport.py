"""Lamport time: what `/history` is sorted by (rule 1).

A message is one later than all that its sender has seen, so the clock of an honest room advances
by one for each message. A stranger may name any number, and a room that believed it would be at the
end of its 32 bits after a few datagrams: then all later messages would have the same time, and be
sorted by sender for good. So what I hear moves my clock no faster than people talk:

    when                              it follows
    within NEWCOMER_S of the first    up to LAMPORT_JUMP_MAX: the room is older than I am
    later, one ahead                  always
    later, further ahead              as far as a bucket goes (LAMPORT_BURST, LAMPORT_PER_S)
    beyond LAMPORT_JUMP_MAX           never

A message whose time is not followed is sorted where it was shown, as if it had my own time.
"""

from __future__ import annotations

from evloop.base.ratelimit import TokenBucket
from evloop.room.reliable.limits import (
    LAMPORT_BURST,
    LAMPORT_JUMP_MAX,
    LAMPORT_PER_S,
    NEWCOMER_S,
)
from evloop.system.timers import NEVER

END = 2**32 - 1


class LamportClock:
    """The largest time that I have used or believed (`value`), and the largest of others'
    messages (`heard`), as these are sorted."""

    __slots__ = ("_ahead", "_begun", "heard", "value")

    def __init__(self, now: float) -> None:
        self.value = 0
        self.heard = 0
        self._begun = NEVER  # when I first heard a message
        self._ahead = TokenBucket(LAMPORT_PER_S, LAMPORT_BURST, now)

    def tick(self, seq: int, parts: int) -> int:
        """The time of a message of my own, whose first part has number `seq`.

        No further part has the Lamport time number + 1: that is what all messages of a program
        look like that ignores Lamport times, and a further part must differ from these when the
        parts before it are lost.
        """
        value = self.value + 1
        if seq + 2 <= value <= seq + parts:
            value = seq + parts + 1
        self.value = min(value, END)
        return self.value

    def hear(self, lamport: int, now: float) -> None:
        """Another member's message has this time: follow it, as the table above says."""
        step = lamport - self.value
        if 0 < step <= LAMPORT_JUMP_MAX:
            self._follow(step, now)
        self.heard = max(self.heard, self.placed(lamport))

    def _follow(self, step: int, now: float) -> None:
        if self._begun == NEVER:
            self._begun = now
        if step > 1 and now >= self._begun + NEWCOMER_S:
            step = min(step, int(self._ahead.level(now)))
            if step < 1:
                return
            self._ahead.spend(now, step)
        self.value += step

    def placed(self, lamport: int) -> int:
        """Where a message with this time is sorted."""
        return lamport if lamport < self.value else self.value
