"""Messages that this member does not hold, out of the datagrams that a directory has kept.

They are opened with the codec of the session, so what was not said in this room, or was changed, is
left out. They do not enter the session: it repairs what it holds itself, and nothing else.
"""

from __future__ import annotations

from evloop.room.reliable.delivery import belongs, event_of
from evloop.room.reliable.limits import PARTS_MAX
from evloop.room.reliable.packets import DATA, MORE
from evloop.room.reliable.reorder import Message
from evloop.room.reliable.session import RoomSession

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from evloop.room.events import Said


def merged(session: object, datagrams: Iterable[bytes], count: int) -> list[Said]:
    """The newest `count` messages of what `session` holds and of `datagrams`, by (lamport, sender,
    number); what it holds itself counts where both have it. None of a session of another mode."""
    if not isinstance(session, RoomSession):
        return []
    log = session.message_log
    history = log.history
    found: dict[bytes, dict[int, Message]] = {}
    for datagram in datagrams:
        packet = log.open(datagram)
        if isinstance(packet, str) or packet[0] != DATA:
            continue
        _, flags, sender, seq, wall, (lamport, parents, name, kind, text) = packet
        stream = log.streams.get(sender)
        if stream is not None and seq < stream.shown and seq in history.of(sender):
            continue  # what is held beyond a gap was not shown yet
        more = bool(flags & MORE)
        message = Message(lamport, sender, seq, parents, name, kind, text, wall, more, datagram)
        found.setdefault(sender, {}).setdefault(seq, message)
    rows = history.rows()
    for sender, messages in found.items():
        for parts in _in_parts([messages[seq] for seq in sorted(messages)]):
            event = event_of(parts, "history", log.verified)
            rows.append((parts[0].lamport, sender, parts[0].seq, event))
    rows.sort()
    return [event for *_, event in rows[-count:]] if count > 0 else []


def _in_parts(messages: list[Message]) -> list[list[Message]]:
    """Messages of one sender in their order, those in parts together."""
    together: list[list[Message]] = []
    for message in messages:
        parts = together[-1] if together else []
        if (
            parts
            and parts[-1].more
            and len(parts) < PARTS_MAX
            and parts[-1].seq + 1 == message.seq
            and belongs(parts[0], message)
        ):
            parts.append(message)
        else:
            together.append([message])
    return together
