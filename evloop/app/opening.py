"""Makes a room live: a session of its mode, on the way that its datagrams take."""

from __future__ import annotations

import os

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

SESSIONS: dict[str, Any] = {"plain": PlainSession, "reliable": RoomSession, "sealed": RoomSession}


def live_room(client: Client, entry: RoomEntry, counted: int, secret: bytes | None) -> LiveRoom:
    """The room `entry` on its sockets, or carried by the directory; SetupError when there is no
    way, Refused `bad_mode`. `counted`: how many the directory counts, 0: not its room, below: no
    directory was found; `secret`: of a sealed room."""
    mode = entry.mode
    if mode not in SESSIONS:
        raise Refused(1, "bad_mode", f'room {entry.name} has mode "{quoted(mode)}", which this'
                      " client does not know; use a newer release")  # fmt: skip
    place = place_of(entry.address, entry.port)
    sealed: dict[str, bytes] = {}
    if secret is not None:
        from evloop.room.reliable.sealing import room_key_of  # late: few rooms are sealed

        sealed["key"] = room_key_of(secret, place)
    session = SESSIONS[mode](
        place=place,
        # An id that nobody can foresee proves in a sealed room that who names it is there now.
        sender_id=os.urandom(8) if sealed else client.rng().randbytes(8),
        nickname=client.prompt.nickname,
        rng=client.rng(),
        now=client.loop.now,
        **sealed,
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
