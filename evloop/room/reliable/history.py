"""The messages held: for repairs, for telling copies from conflicts, and for `/history`.

At most HISTORY_MESSAGES_MAX messages (of several rooms each has a share: `limit`),
HISTORY_BYTES_MAX bytes, and none older than HISTORY_S. Over the caps, a sender that fills the
history loses its own messages first:

    the message is from      and strangers hold         what goes
    a stranger               anything                   the oldest of the stranger that has most
    a member of standing     more than their half       the same
    a member of standing     less                       the oldest of the member that has most

A stranger is a sender that is not a member of standing (`Member.standing`). Messages held ahead of
a gap are here too: messages are kept nowhere else.
"""

from __future__ import annotations

from operator import attrgetter

from evloop.room.limits import HISTORY_MESSAGES_MAX
from evloop.room.reliable.limits import (
    DATAGRAM_BYTES_MAX,
    HISTORY_BYTES_MAX,
    HISTORY_S,
    HISTORY_SWEEP_S,
    STRANGERS_SHARE,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from evloop.room.events import Said
    from evloop.room.reliable.reorder import Message

    Key = tuple[bytes, int]

_WEIGHT = attrgetter("weight")
# A message weighs its bytes and the average that the caps allow: so both caps are one number.
_BASE_WEIGHT = HISTORY_BYTES_MAX // HISTORY_MESSAGES_MAX


class _Held:
    """What is held of one sender, in the order of arrival."""

    __slots__ = ("messages", "shown", "size", "weight")

    def __init__(self) -> None:
        self.messages: dict[int, tuple[float, Message]] = {}
        self.shown: dict[int, tuple[int, Said]] = {}
        self.size = 0  # bytes
        self.weight = 0


class History:
    """Messages by (sender, seq), and what was shown of them."""

    __slots__ = (
        "_age_s", "_members", "_most", "_strangers", "count", "size", "strangers_weight",
        "sweep_at",
    )  # fmt: skip

    def __init__(self, messages_max: int = HISTORY_MESSAGES_MAX, age_s: float = HISTORY_S) -> None:
        self._age_s = age_s
        self._members: dict[bytes, _Held] = {}
        self._strangers: dict[bytes, _Held] = {}
        self._most = messages_max
        self.sweep_at = float("-inf")  # when to look for what is too old
        self.count = 0
        self.size = 0  # bytes
        self.strangers_weight = 0

    def __len__(self) -> int:
        return self.count

    def _of(self, sender: bytes) -> _Held | None:
        return self._members.get(sender) or self._strangers.get(sender)

    def get(self, key: Key) -> Message | None:
        held = self._members.get(key[0]) or self._strangers.get(key[0])
        found = held.messages.get(key[1]) if held else None
        return found[1] if found else None

    def of(self, sender: bytes) -> Mapping[int, object]:
        """What is held of `sender`, by number (do not change)."""
        held = self._of(sender)
        return held.messages if held else {}

    def since(self, key: Key) -> float:
        """When the message `key` arrived; -inf when it is not held."""
        held = self._of(key[0])
        found = held.messages.get(key[1]) if held else None
        return found[0] if found else float("-inf")

    def add(self, message: Message, now: float, standing: bool = True) -> list[Key]:
        """Hold `message`, which is not held yet; return the keys of those that had to go, which
        may be its own. `standing`: its sender has been here for a while."""
        sender = message.sender
        held = self._members.get(sender)
        if held is None:
            held = self._place(sender, standing)
        size = len(message.datagram)
        held.messages[message.seq] = (now, message)
        held.size += size
        weight = size + _BASE_WEIGHT
        held.weight += weight
        if sender in self._strangers:
            self.strangers_weight += weight
        self.count += 1
        self.size += size
        gone: list[Key] = []
        while self.count > self._most or self.size > HISTORY_BYTES_MAX:
            gone.append(self._make_room(sender))
        return gone

    def limit(self, most: int, kept: Callable[[Key], bool]) -> list[Key]:
        """Hold `most` messages from now on; return the keys of those that had to go, the oldest by
        arrival. Those that `kept` names stay: they are not sent yet."""
        self._most = most
        over = self.count - most
        if over <= 0:
            return []
        tables = (self._members, self._strangers)
        arrived = sorted(
            (since, sender, seq)
            for table in tables
            for sender, held in table.items()
            for seq, (since, _) in held.messages.items()
            if not kept((sender, seq))
        )
        gone = [(sender, seq) for _, sender, seq in arrived[:over]]
        for key in gone:
            self.remove(key)
        return gone

    def replace(self, message: Message) -> None:
        """Put `message` in the place of the one held under its key: its Lamport time is new."""
        held = self._of(message.sender)
        if held is not None and message.seq in held.messages:
            held.messages[message.seq] = (held.messages[message.seq][0], message)
            if message.seq in held.shown:
                held.shown[message.seq] = (message.lamport, held.shown[message.seq][1])

    def tag(self, tagged: Callable[[bytes], bytes]) -> None:
        """Keep of each message what `tagged` makes of its datagram, which stays as long."""
        for table in (self._members, self._strangers):
            for held in table.values():
                for seq, (since, message) in held.messages.items():
                    now = message._replace(datagram=tagged(message.datagram))
                    held.messages[seq] = (since, now)

    def _place(self, sender: bytes, standing: bool) -> _Held:
        """The place of `sender`, which is no longer a stranger once it has `standing`."""
        held = self._strangers.get(sender)
        if not standing:
            if held is None:
                held = self._strangers[sender] = _Held()
            return held
        if held is None:
            held = _Held()
        else:
            del self._strangers[sender]
            self.strangers_weight -= held.weight
        self._members[sender] = held
        return held

    def crowded(self) -> bool:
        """Whether it is full, and strangers have more than their share."""
        if self.count < self._most and self.size < HISTORY_BYTES_MAX - DATAGRAM_BYTES_MAX:
            return False
        return self.strangers_weight >= self._strangers_most()

    def _strangers_most(self) -> float:
        return STRANGERS_SHARE * (self.size + self.count * _BASE_WEIGHT)

    def _make_room(self, sender: bytes) -> Key:
        """Drop one message because of one by `sender`; see the table above."""
        table = self._members
        crowded = self.strangers_weight > self._strangers_most()
        if self._strangers and (sender in self._strangers or crowded or not table):
            table = self._strangers
        largest = max(table.values(), key=_WEIGHT)
        seq, (_, message) = next(iter(largest.messages.items()))
        self.remove((message.sender, seq))
        return message.sender, seq

    def remove(self, key: Key) -> None:
        """Drop one message, if it is held."""
        sender, seq = key
        held = self._of(sender)
        found = held.messages.pop(seq, None) if held else None
        if held is None or found is None:
            return
        held.shown.pop(seq, None)
        size = len(found[1].datagram)
        self._lighter(sender, held, 1, size)
        if not held.messages:
            self._members.pop(sender, None)
            self._strangers.pop(sender, None)

    def _lighter(self, sender: bytes, held: _Held, count: int, size: int) -> None:
        weight = size + count * _BASE_WEIGHT
        held.size -= size
        held.weight -= weight
        self.count -= count
        self.size -= size
        if sender in self._strangers:
            self.strangers_weight -= weight

    def expire(self, now: float) -> list[Key]:
        """Drop what is too old; return the keys. It walks over all, once in HISTORY_SWEEP_S."""
        self.sweep_at = now + HISTORY_SWEEP_S
        gone: list[Key] = []
        for table in (self._members, self._strangers):
            for sender, held in list(table.items()):
                for seq, (since, _) in list(held.messages.items()):
                    if since >= now - self._age_s:
                        break
                    self.remove((sender, seq))
                    gone.append((sender, seq))
        return gone

    def forget(self, sender: bytes) -> None:
        """Drop all of one sender: its record is gone, so a replay could not be recognised."""
        held = self._of(sender)
        if held is not None:
            self._lighter(sender, held, len(held.messages), held.size)
            self._members.pop(sender, None)
            self._strangers.pop(sender, None)

    def shown(self, message: Message, lamport: int, event: Said) -> None:
        """Remember how `message` (the first part, when there are more) was shown, and by which
        Lamport time it is sorted."""
        held = self._of(message.sender)
        if held is not None and message.seq in held.messages:
            held.shown[message.seq] = (lamport, event)

    def newest(self, count: int) -> list[Said]:
        """The newest `count` events by (lamport, sender, seq): the same order everywhere."""
        if count <= 0:
            return []
        return [event for *_, event in sorted(self.rows())[-count:]]

    def rows(self) -> list[tuple[int, bytes, int, Said]]:
        """All that was shown, in no order: (lamport, sender, seq, event)."""
        return [
            (lamport, sender, seq, event)
            for table in (self._members, self._strangers)
            for sender, held in table.items()
            for seq, (lamport, event) in held.shown.items()
        ]
