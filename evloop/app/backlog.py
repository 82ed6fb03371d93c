"""What becomes of the messages of a room that is in the background. (Pure: the clock is given.)

    a message            the room is                                      it is
    naming the user      in any state                                     shown
    of the history       in any state                                     kept
    any other            muted                                            kept
    any other            calm: nothing is unread, and a token is there    shown
    any other            not calm                                         kept, and told as a count

Kept is unread: it is shown when the room comes to the front, the last BACKGROUND_KEPT_MAX of it,
and the rest is counted. Of what is kept because a room is not calm, the number is told
BACKGROUND_TOLD_S after the first such message, and then at most once in BACKGROUND_AGAIN_S.
"""

from __future__ import annotations

from collections import deque

from evloop.app.limits import (
    BACKGROUND_AGAIN_S,
    BACKGROUND_BURST,
    BACKGROUND_KEPT_MAX,
    BACKGROUND_PER_S,
    BACKGROUND_TOLD_S,
)
from evloop.base.ratelimit import TokenBucket
from evloop.system.timers import NEVER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CALM, OLD, MENTION = range(3)  # kinds of messages


class Backlog:
    """`unread` messages wait, the oldest `since`; `for_you` named the user since the room was last
    in front; `due` is when `tell` has a number to tell. All times are those of the loop."""

    __slots__ = ("_bucket", "_kept", "_told", "due", "for_you", "muted", "since", "unread")

    def __init__(self, now: float) -> None:
        self.unread = 0
        self.since = NEVER
        self.for_you = 0
        self.muted = False
        self.due = NEVER
        self._kept: deque[Any] = deque(maxlen=BACKGROUND_KEPT_MAX)
        self._bucket = TokenBucket(BACKGROUND_PER_S, BACKGROUND_BURST, now)
        self._told = -NEVER

    def take(self, kind: int, line: object, now: float) -> bool:
        """Whether a message of `kind` is shown now; else `line`, which shows it, is kept."""
        if kind == MENTION:
            self.for_you += 1
            return True
        if kind == CALM and not self.muted:
            if not self.unread and self._bucket.take(now):
                return True
            if self.due == NEVER:
                self.due = max(now + BACKGROUND_TOLD_S, self._told + BACKGROUND_AGAIN_S)
        if not self.unread:
            self.since = now
        self.unread += 1
        self._kept.append(line)
        return False

    def mute(self, muted: bool) -> None:
        """From now on messages are only kept, or shown again."""
        self.muted = muted

    def tell(self, now: float) -> int:
        """The number of unread messages, if it is to be told now; else 0."""
        if now < self.due:
            return 0
        self.due = NEVER
        self._told = now
        return self.unread

    def release(self) -> tuple[int, list[Any]]:
        """The room comes to the front: (how many older messages are only counted, the lines)."""
        lines = list(self._kept)
        older = self.unread - len(lines)
        self._kept.clear()
        self.unread = self.for_you = 0
        self.since = self.due = NEVER
        return older, lines
