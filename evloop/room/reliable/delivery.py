"""From "held in order" to "shown": waiting for parents and parts, and reporting lost messages.

A message waits for the messages it names as parents (those its sender had seen), at most
PARENT_WAIT_S; a message in parts waits for its last part. The head of a stream's backlog:

    head                            then
    gone (an int)                   "lost" event; a message begun before it is broken off
    further part of a broken one    dropped: the message was reported as one
    a part, more to come            kept in `parts`
    no further part of those        these are shown as they are, then as below
    parents not shown               waits; when PARENT_WAIT_S is over: shown, marked "early"
    else                            shown; whoever waits for it is looked at again

Heads are messages that were shown and that no message names as a parent yet: the next message of
this member names the newest of them.
"""

from __future__ import annotations

from evloop.room.events import Lost, Said
from evloop.room.reliable.limits import (
    HEADS_MAX,
    PARENT_WAIT_S,
    PARENTS_MAX,
    PARTS_MAX,
    SHOWN_PER_STEP,
)
from evloop.system.timers import NEVER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from evloop.room.reliable.reorder import Message, Sender

    Key = tuple[bytes, int]


def event_of(parts: list[Message], mark: str, verified: bool) -> Said:
    """The "message" event of a message in parts; its number is that of the first."""
    first = parts[0]
    text = b"".join([part.text for part in parts]) if len(parts) > 1 else first.text
    return Said(
        "message",
        first.sender,
        first.seq,
        first.name.decode(errors="replace"),
        first.kind,
        text.decode(errors="replace"),
        first.wall,
        mark,
        verified,
    )


def belongs(first: Message, message: Message) -> bool:
    """Whether `message` can be a further part of one that began with `first`. A false one would
    show somebody's words as the end of another's."""
    return (
        message.lamport == first.lamport
        and message.wall == first.wall
        and message.kind == first.kind
        and message.name == first.name
        and not message.parents
    )


class CausalBuffer:
    """Messages on their way to the screen; `streams` is the table of senders (not changed)."""

    __slots__ = (
        "_heads", "_ready", "_ready_at", "_soonest", "_streams", "_verified", "_waiters",
        "_waiting", "shown",
    )  # fmt: skip

    def __init__(self, streams: dict[bytes, Sender], verified: bool) -> None:
        self._streams = streams
        self._verified = verified
        self._heads: dict[Key, None] = {}
        self._waiting: dict[bytes, tuple[float, Key]] = {}  # sender: (until when, for which key)
        # The same by the key that is waited for: sender, then number.
        self._waiters: dict[bytes, dict[int, list[Sender]]] = {}
        self._ready: list[Sender] = []  # senders that may have something to show, last one first
        self._ready_at = NEVER  # since when: a step shows SHOWN_PER_STEP at most
        self._soonest = NEVER  # no wait ends before
        self.shown: list[tuple[Message | None, Any]] = []  # Said of it, or Lost; drained

    def parents(self) -> list[Key]:
        """Up to PARENTS_MAX heads, the newest; they are heads no longer."""
        named = list(self._heads)[-PARENTS_MAX:]
        for key in named:
            del self._heads[key]
        return named

    def put(self, message: Message) -> None:
        """`message` was shown: it is a head, its parents are not."""
        for parent in message.parents:
            self._heads.pop(parent, None)
        self._heads[message.sender, message.seq] = None
        if len(self._heads) > HEADS_MAX:
            del self._heads[next(iter(self._heads))]

    def _missing_parent(self, message: Message) -> Key | None:
        for parent in message.parents:
            stream = self._streams.get(parent[0])
            if stream is None or parent[1] >= stream.shown:
                return parent
        return None

    def offer(self, stream: Sender, now: float) -> None:
        """`stream.backlog` has grown: show what can be shown, there and wherever it helps.

        A datagram that closes a gap may free a thousand messages: a step shows some of them, and
        `handle_timer`, which is due at once, shows the others.
        """
        ready = self._ready
        ready.append(stream)
        left = SHOWN_PER_STEP
        while ready and left:
            stream = ready.pop()
            while stream.backlog and left:
                since, head = stream.backlog[0]
                if isinstance(head, int):
                    self._lose(stream, head)
                    ready += self._released(stream)
                else:
                    parent = self._missing_parent(head)
                    if parent is not None and now < since + PARENT_WAIT_S:
                        self._wait(stream, parent, since + PARENT_WAIT_S)
                        break
                    self._show(stream, head, "" if parent is None else "early")
                left -= 1
                stream.backlog.pop(0)
                if self._waiters:
                    waiters = self._waiters.get(stream.sender)
                    if waiters:
                        ready += waiters.pop(stream.shown - 1, ())
            else:
                if self._waiting:
                    self._unwait(stream)
                if stream.backlog:
                    ready.append(stream)
        self._ready_at = now if ready else NEVER

    def _wait(self, stream: Sender, parent: Key, until: float) -> None:
        self._unwait(stream)
        self._waiting[stream.sender] = (until, parent)
        self._waiters.setdefault(parent[0], {}).setdefault(parent[1], []).append(stream)
        self._soonest = min(self._soonest, until)

    def _unwait(self, stream: Sender) -> None:
        waiting = self._waiting.pop(stream.sender, None)
        if waiting is None:
            return
        origin, seq = waiting[1]
        waiters = self._waiters.get(origin)
        if waiters is None:
            return
        streams = waiters.get(seq)
        if streams and stream in streams:
            streams.remove(stream)
            if not streams:
                del waiters[seq]
        if not waiters:
            del self._waiters[origin]

    def forget(self, stream: Sender) -> None:
        """The record of `stream` is dropped."""
        self._unwait(stream)
        if self._ready:
            self._ready = [other for other in self._ready if other is not stream]

    def _released(self, stream: Sender) -> list[Sender]:
        waiters = self._waiters.get(stream.sender, {})
        seqs = [seq for seq in waiters if seq < stream.shown]
        return [waiter for seq in seqs for waiter in waiters.pop(seq)]

    def _lose(self, stream: Sender, count: int) -> None:
        if stream.parts:
            stream.broken = stream.parts[0].lamport
            stream.parts = []
        stream.shown += abs(count)
        stream.gap_before = True
        if count > 0:
            self.shown.append((None, Lost("lost", stream.sender, stream.name, count)))

    def _further_part(self, stream: Sender, message: Message) -> bool:
        """Whether `message` is a further part of a message that lost a part.

        All parts have one Lamport time, and only the first names parents. Naming none counts as a
        sign only after a gap, and only with a sender that names parents at all. A simple program
        that names none and ignores others' times has the Lamport time seq + 1 in all its messages.
        """
        behind_gap, stream.gap_before = stream.gap_before, False
        if stream.broken == message.lamport:
            return True
        simple = not message.seq or message.lamport == message.seq + 1
        if behind_gap and stream.names_parents and not message.parents and not simple:
            stream.broken = message.lamport
            return True
        stream.broken = -1
        return False

    def _show(self, stream: Sender, message: Message, mark: str) -> None:
        stream.shown = message.seq + 1
        if (stream.gap_before or stream.broken >= 0) and self._further_part(stream, message):
            return
        stream.names_parents = bool(message.parents) or (stream.names_parents and stream.name != "")
        stream.name = message.name.decode(errors="replace")
        if stream.parts and not belongs(stream.parts[0], message):
            self._finish(stream, "")
        if stream.parts:
            self._heads.pop((message.sender, message.seq - 1), None)
        self.put(message)
        stream.parts.append(message)
        if not message.more or len(stream.parts) >= PARTS_MAX:
            self._finish(stream, mark)

    def _finish(self, stream: Sender, mark: str) -> None:
        parts, stream.parts = stream.parts, []
        if parts[-1].seq < stream.history_below:
            mark = "history"
        self.shown.append((parts[0], event_of(parts, mark, self._verified)))

    def deadline(self) -> float:
        """When a wait may end; it may also have ended before."""
        return min(self._soonest, self._ready_at)

    def handle_timer(self, now: float) -> None:
        """Show what the last step left, and what has waited for its parents long enough."""
        if self._ready:
            self.offer(self._ready.pop(), now)
        if now < self._soonest:
            return
        over = [sender for sender, (until, _) in self._waiting.items() if until <= now]
        for sender in over[:SHOWN_PER_STEP]:
            if self._ready:
                break
            if sender in self._waiting:
                self.offer(self._streams[sender], now)
        self._soonest = min([until for until, _ in self._waiting.values()], default=NEVER)
