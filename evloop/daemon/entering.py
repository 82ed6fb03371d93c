"""`enter` and `leave`: who is in which room, and by what number frames of the relay name it."""

from __future__ import annotations

from evloop.directory import requests
from evloop.directory.protocol import EMPTY
from evloop.directory.relay_frames import OFF, Entered

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from evloop.daemon.connection import Connection
    from evloop.daemon.dispatcher import Dispatcher


def enter(dispatcher: Dispatcher, connection: Connection, parameters: dict[str, Any]) -> bytes:
    """`connection` is in a room; Refused."""
    name, sender, _ = requests.read_enter(parameters)
    body = dispatcher.directory.enter(name, connection)
    room = dispatcher.directory.find(name)
    if dispatcher.visited is not None:
        dispatcher.visited.add(room.fold)
    if not room.handle:
        dispatcher.handles += 1
        room.handle = dispatcher.handles
    dispatcher.keeping.enter(room)
    return Entered(room.handle, granted="" if sender is None else OFF).extend(body)


def leave(dispatcher: Dispatcher, connection: Connection, parameters: dict[str, Any]) -> bytes:
    """It is in that room no more."""
    dispatcher.directory.leave(requests.read_name(parameters), connection)
    return EMPTY
