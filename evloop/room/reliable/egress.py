"""My own messages on their way out: parts, the queue before the rate, unasked copies."""

from collections import deque
from heapq import heappop, heappush

from evloop.base.errors import Refused
from evloop.base.limits import (
    COPY_TIMER_S,
    MESSAGE_BYTES_MAX,
    OUTBOX_MAX,
    PART_BYTES_MAX,
    PARTS_MAX,
)
from evloop.room.reliable.packets import as_copy
from evloop.room.reliable.reorder import Message

TYPE_CHECKING = False
if TYPE_CHECKING:
    Key = tuple[bytes, int]

NEVER = float("inf")


def split(text: str) -> list[bytes]:
    """`text` in parts of at most PART_BYTES_MAX bytes of UTF-8, cut between characters.

    Raises Refused `too_long` when that makes more than PARTS_MAX parts.
    """
    data = text.encode(errors="replace")
    parts = []
    start = 0
    while len(data) - start > PART_BYTES_MAX:
        end = start + PART_BYTES_MAX
        while data[end] & 0xC0 == 0x80:  # a continuation byte: inside a character
            end -= 1
        parts.append(data[start:end])
        start = end
    parts.append(data[start:])
    if len(parts) > PARTS_MAX:
        raise Refused(
            1,
            "too_long",
            f"the message has {len(data)} bytes; {MESSAGE_BYTES_MAX} fit: send it in pieces",
        )
    return parts


class Outbox:
    """Messages said but not yet sent, and the copies announced but not yet sent."""

    __slots__ = ("_copies", "_repeated", "queue")

    def __init__(self) -> None:
        self.queue: deque[Message] = deque()
        self._copies: list[tuple[float, int, int, bytes]] = []  # heap of (due, seq, more, datagram)
        self._repeated: dict[int, None] = {}  # own numbers with copies to come

    def check(self, parts: int) -> None:
        """Raise Refused `too_fast` when `parts` more do not fit the queue."""
        if len(self.queue) + parts > OUTBOX_MAX:
            raise Refused(1, "too_fast", f"{len(self.queue)} messages wait to be sent; wait a bit")

    def announce(self, message: Message, more: int, now: float) -> bytes:
        """The first copy of `message`, with `more` copies to follow by themselves."""
        if more:
            heappush(self._copies, (now + COPY_TIMER_S, message.seq, more - 1, message.datagram))
            self._repeated[message.seq] = None
        return as_copy(message.datagram, more)

    def repeats(self, seq: int) -> bool:
        """Whether copies of own number `seq` are still to come: no repair is needed then."""
        return seq in self._repeated

    def deadline(self) -> float:
        """When the next copy is due."""
        return self._copies[0][0] if self._copies else NEVER

    def take_copy(self, now: float) -> bytes | None:
        """A copy that is due, or None."""
        if not self._copies or self._copies[0][0] > now:
            return None
        due, seq, more, datagram = heappop(self._copies)
        if more:
            heappush(self._copies, (due + COPY_TIMER_S, seq, more - 1, datagram))
        else:
            del self._repeated[seq]
        return as_copy(datagram, more)
