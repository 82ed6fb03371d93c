"""Who has spoken in the room, and how far each has got: records, digest, listing.

The digest is the XOR over all senders of a hash of (sender, next number), kept up to date at each
step, so that comparing two members costs one comparison. Records are listed in SESSIONs most
recently changed first; the last quarter of a list rotates through the rest.
"""

from struct import Struct

from evloop.base.limits import SENDER_KEPT_S, SENDERS_MAX

try:
    from _blake2 import blake2b
except ImportError:
    from hashlib import blake2b

TYPE_CHECKING = False
if TYPE_CHECKING:
    from evloop.room.reliable.reorder import Stream

_ITEM = Struct(">8sI")


def digest_item(sender: bytes, hi: int) -> int:
    """What a sender with next expected number `hi` > 0 adds (by XOR) to the digest."""
    return int.from_bytes(blake2b(_ITEM.pack(sender, hi), digest_size=8).digest(), "big")


class Senders:
    """The records, by sender id."""

    __slots__ = ("_cursor", "_recent", "digest", "streams")

    def __init__(self) -> None:
        self.streams: dict[bytes, Stream] = {}
        self.digest = 0
        self._recent: dict[bytes, None] = {}  # the order is that of the last change
        self._cursor = 0

    def full(self) -> bool:
        return len(self.streams) >= SENDERS_MAX

    def idle(self, now: float) -> "Stream | None":
        """The record that may go when there are too many; None when all were heard of late."""
        oldest = min(self.streams.values(), key=lambda stream: stream.heard)
        return oldest if oldest.heard < now - SENDER_KEPT_S else None

    def add(self, stream: "Stream") -> None:
        self.streams[stream.sender] = stream
        self.moved(stream)

    def remove(self, stream: "Stream") -> None:
        del self.streams[stream.sender]
        self._recent.pop(stream.sender, None)
        self.digest ^= stream.item

    def moved(self, stream: "Stream") -> None:
        """`stream.hi` or `stream.lo` has changed."""
        sender = stream.sender
        item = digest_item(sender, stream.hi) if stream.hi else 0
        self.digest ^= stream.item ^ item
        stream.item = item
        recent = self._recent
        recent.pop(sender, None)
        recent[sender] = None

    def listing(self, count: int, first: bytes) -> list[tuple[bytes, int, int]]:
        """At most `count` of (sender, lo, hi), that of sender `first` at the head."""
        ids = [sender for sender in reversed(self._recent) if self.streams[sender].hi]
        if first in self.streams and self.streams[first].hi:
            ids.remove(first)
            ids.insert(0, first)
        if len(ids) > count:
            newest = count - count // 4
            rest = ids[newest:]
            start = self._cursor % len(rest)
            self._cursor += count - newest
            ids = ids[:newest] + (rest[start:] + rest[:start])[: count - newest]
        streams = self.streams
        return [(sender, streams[sender].lo, streams[sender].hi) for sender in ids]

    def listed(self) -> int:
        """How many senders a whole list would have."""
        return sum(stream.hi > 0 for stream in self.streams.values())
