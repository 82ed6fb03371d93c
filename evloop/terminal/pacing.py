"""When may waiting chat lines be drawn? The clock is an argument.

A slow terminal takes thousands of bytes before it refuses any, and then the echo of a key waits
behind them for seconds. So chat lines wait here and are drawn in batches (flushes); keys do not
wait.

Fast (the usual case): the first line is drawn at once, then one flush in each FLUSH_INTERVAL_S.
Measured (after the first refused write, on a line below BAUD_SLOW, or on request): each flush is
followed by ESC[5n; the answer is a receipt. No flush while a receipt is awaited.

    state      flush               receipt                  2 s without one
    fast       -> fast             ignored                  -
    ready      -> awaiting         ignored                  -
    awaiting   never               > 0.3 s: batch / 2,      -> fast, for good
                                   < 0.05 s: batch * 2;
                                   -> ready
    deaf       like fast; `slow()` changes nothing any more

At most MESSAGES_WAITING_MAX lines wait; the oldest are dropped and counted.
"""

from __future__ import annotations

from evloop.system.timers import NEVER
from evloop.terminal.limits import (
    BATCH_BYTES_MAX,
    BATCH_BYTES_MIN,
    BATCH_BYTES_START,
    FLUSH_BYTES_MAX,
    FLUSH_INTERVAL_S,
    MESSAGES_WAITING_MAX,
    RECEIPT_LOST_S,
    RECEIPT_QUICK_S,
    RECEIPT_SLOW_S,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from evloop.terminal.renderer import Styled

    Waiting = tuple[Styled, int]


class Pacer:
    """The queue of chat lines on their way to the screen."""

    __slots__ = ("_asked", "_batch", "_dropped", "_flushed", "_state", "_waiting")

    def __init__(self, *, slow: bool = False) -> None:
        self._waiting: list[Waiting] = []
        self._dropped = 0
        self._state = "ready" if slow else "fast"
        self._batch = BATCH_BYTES_START
        self._flushed = -NEVER  # when the last flush was
        self._asked = 0.0  # when the awaited receipt was asked for

    @property
    def awaiting(self) -> bool:
        """Whether the terminal still owes an answer."""
        return self._state == "awaiting"

    def add(self, line: Styled, indent: int) -> None:
        self._waiting.append((line, indent))
        if len(self._waiting) > MESSAGES_WAITING_MAX:
            del self._waiting[0]
            self._dropped += 1

    def slow(self) -> None:
        """The terminal refused bytes: measure it from now on."""
        if self._state == "fast":
            self._state = "ready"

    def receipt(self, now: float) -> None:
        """The terminal has got as far as the last flush."""
        if self._state != "awaiting":
            return
        took = now - self._asked
        if took > RECEIPT_SLOW_S:
            self._batch = max(BATCH_BYTES_MIN, self._batch // 2)
        elif took < RECEIPT_QUICK_S:
            self._batch = min(BATCH_BYTES_MAX, self._batch * 2)
        self._state = "ready"

    def handle_timer(self, now: float) -> None:
        if self._state == "awaiting" and now >= self._asked + RECEIPT_LOST_S:
            self._state = "deaf"

    def next_deadline(self, drawing: bool = True) -> float:
        """When a flush falls due (if `drawing`), or the wait for a receipt ends; else inf."""
        if self._state == "awaiting":
            return self._asked + RECEIPT_LOST_S
        return self._flushed + FLUSH_INTERVAL_S if drawing and self._waiting else NEVER

    def take(self, now: float) -> list[Waiting]:
        """Return the lines to draw now; then `awaiting` says whether to ask for a receipt."""
        if not self._waiting or self._state == "awaiting":
            return []
        if now < self._flushed + FLUSH_INTERVAL_S:
            return []
        self._flushed = now
        if self._state == "ready":
            self._state = "awaiting"
            self._asked = now
            return self._first(self._batch)
        return self._first(FLUSH_BYTES_MAX)

    def rest(self) -> list[Waiting]:
        """All waiting lines, before their time; none when they would fill up a slow terminal."""
        if self._state in ("ready", "awaiting") or not self._waiting:
            return []
        return self._first(NEVER)

    def _first(self, most: float) -> list[Waiting]:
        """Take the oldest lines, together just over `most` bytes, off the queue."""
        waiting = self._waiting
        count, size = 0, 0
        while count < len(waiting) and size < most:
            line = waiting[count][0]
            size += len(line) if isinstance(line, str) else sum(len(text) for _, text in line)
            size += 1
            count += 1
        lines = waiting[:count]
        del waiting[:count]
        if self._dropped:
            notice = f"-- {self._dropped} messages not shown (terminal too slow) --"
            lines.insert(0, (notice, 0))
            self._dropped = 0
        return lines
