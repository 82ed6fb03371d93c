"""The messages held: to repair from, to tell copies from conflicts, to look back on.

At most HISTORY_MESSAGES_MAX, HISTORY_BYTES_MAX and HISTORY_S; the oldest by arrival goes first.
"""

from __future__ import annotations

from collections import deque

from evloop.room.limits import HISTORY_MESSAGES_MAX
from evloop.room.reliable.limits import HISTORY_BYTES_MAX, HISTORY_S

TYPE_CHECKING = False
if TYPE_CHECKING:
    from evloop.room.events import Said
    from evloop.room.reliable.reorder import Message

    Key = tuple[bytes, int]


class History:
    """Messages by (sender, seq), and what was shown of them."""

    __slots__ = ("_arrivals", "_messages", "_shown", "size")

    def __init__(self) -> None:
        self._messages: dict[Key, Message] = {}
        self._shown: dict[Key, tuple[int, Said]] = {}
        self._arrivals: deque[tuple[float, Key]] = deque()
        self.size = 0  # bytes

    def __len__(self) -> int:
        return len(self._messages)

    def get(self, key: Key) -> Message | None:
        return self._messages.get(key)

    def add(self, message: Message, now: float) -> list[Key]:
        """Hold `message`, which is not held yet; return the keys of those that had to go."""
        key = message.sender, message.seq
        self._messages[key] = message
        self._arrivals.append((now, key))
        self.size += len(message.datagram)
        return self.expire(now)

    def expire(self, now: float) -> list[Key]:
        """Drop what is over the caps; return the keys."""
        arrivals = self._arrivals
        gone = []
        while arrivals and (
            len(arrivals) > HISTORY_MESSAGES_MAX
            or self.size > HISTORY_BYTES_MAX
            or arrivals[0][0] < now - HISTORY_S
        ):
            key = arrivals.popleft()[1]
            self.size -= len(self._messages.pop(key).datagram)
            self._shown.pop(key, None)
            gone.append(key)
        return gone

    def forget(self, sender: bytes) -> None:
        """Drop all of one sender: its record is gone, so nobody could tell a replay."""
        kept = [arrival for arrival in self._arrivals if arrival[1][0] != sender]
        for _, key in self._arrivals:
            if key[0] == sender:
                self.size -= len(self._messages.pop(key).datagram)
                self._shown.pop(key, None)
        self._arrivals = deque(kept)

    def shown(self, message: Message, lamport: int, event: Said) -> None:
        """Remember how `message` (the first part, when there are more) was shown, and by which
        Lamport time it is sorted."""
        key = message.sender, message.seq
        if key in self._messages:
            self._shown[key] = (lamport, event)

    def newest(self, count: int) -> list[Said]:
        """The newest `count` events by (lamport, sender, seq): the same order everywhere."""
        if count <= 0:
            return []
        order = sorted((lamport, *key, event) for key, (lamport, event) in self._shown.items())
        return [event for *_, event in order[-count:]]
