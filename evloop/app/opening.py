"""Makes a room live: a session of its mode, on the way that its datagrams take."""

from __future__ import annotations

from evloop.app.carrying import open_room
from evloop.base.errors import Refused
from evloop.base.names import place_of, quoted
from evloop.room.live import LiveRoom
from evloop.room.plain import PlainSession
from evloop.room.reliable.session import RoomSession

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from evloop.app.shell import Client
    from evloop.directory.protocol import RoomEntry

SESSIONS: dict[str, Any] = {"plain": PlainSession, "reliable": RoomSession}


def live_room(client: Client, entry: RoomEntry, counted: int) -> LiveRoom:
    """The room `entry` on its sockets, or carried by the directory; SetupError when there is no
    way, Refused `bad_mode`. `counted`: how many the directory counts, 0: not its room, below: no
    directory was found."""
    mode = entry.mode
    if mode not in SESSIONS:
        raise Refused(1, "bad_mode", f'room {entry.name} has mode "{quoted(mode)}", which this'
                      " client does not know; use a newer release")  # fmt: skip
    session = SESSIONS[mode](
        place=place_of(entry.address, entry.port),
        sender_id=client.rng().randbytes(8),
        nickname=client.prompt.nickname,
        rng=client.rng(),
        now=client.loop.now,
    )
    way = open_room(client, client.network(), entry, session.sender_id, counted != 0)
    transport, attachment, carried = way
    if mode == "plain":
        session.is_own = lambda source: source == transport.source
    else:  # else many clients that enter at once would all send as if they were alone
        session.expect(max(counted, 0))
    room = LiveRoom(client.loop, transport, session, client.wall, attachment)
    if carried is not None:
        carried.begin(room)
    client.opened(room, carried)
    return room
