"""`enter` and `leave`: who is in which room; and frames of the relay among the requests.

The relay is made when somebody first enters with a sender id (or a keeper sits down): until then
its modules are not even loaded.
"""

from __future__ import annotations

from evloop.directory import requests
from evloop.directory.protocol import EMPTY
from evloop.directory.relay_frames import OFF, Entered, is_relay
from evloop.net.stream import OPEN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from evloop.daemon.connection import Connection
    from evloop.daemon.dispatcher import Dispatcher
    from evloop.daemon.relay import Relay


def relay_of(dispatcher: Dispatcher) -> Relay | None:
    """The relay of this directory, made now if it was not needed before; None: it has none."""
    if dispatcher.relay is None and dispatcher.make_relay is not None:
        dispatcher.relay = dispatcher.make_relay()
        if dispatcher.relay is None:  # its files are others now, which was logged
            dispatcher.make_relay = None
    return dispatcher.relay


def enter(dispatcher: Dispatcher, connection: Connection, parameters: dict[str, Any]) -> bytes:
    """`connection` is in a room; Refused."""
    name, sender, wish = requests.read_enter(parameters)
    body = dispatcher.directory.enter(name, connection)
    room = dispatcher.directory.find(name)
    if dispatcher.visited is not None:
        dispatcher.visited.add(room.fold)
    if not room.handle:
        dispatcher.handles += 1
        room.handle = dispatcher.handles
    dispatcher.keeping.enter(room)
    relay = dispatcher.relay if sender is None else relay_of(dispatcher)
    if relay is None:
        return Entered(room.handle, granted="" if sender is None else OFF).extend(body)
    entered = relay.enter(connection, room, sender, wish)
    return dispatcher.keeping.tell(entered.extend(body), entered.keeper)


def leave(dispatcher: Dispatcher, connection: Connection, parameters: dict[str, Any]) -> bytes:
    """It is in that room no more."""
    name = requests.read_name(parameters)
    dispatcher.directory.leave(name, connection)
    if connection.relayed:
        room = dispatcher.directory.look_up(name)
        if room is not None and dispatcher.relay is not None:
            dispatcher.relay.leave(connection, room)
    return EMPTY


def take_frame(dispatcher: Dispatcher, connection: Connection, payload: bytes) -> None:
    """A frame of the relay came on a connection that has entered with a sender id."""
    if dispatcher.relay is not None:  # else it was granted nothing, and is not heard
        dispatcher.relay.take(connection, payload)


def handle_mixed(dispatcher: Dispatcher, connection: Connection, payloads: list[bytes]) -> int:
    """Take requests and frames of the relay in their order; return how many."""
    taken, count = 0, len(payloads)
    while taken < count:
        begun = taken
        while taken < count and is_relay(payloads[taken]):
            take_frame(dispatcher, connection, payloads[taken])
            taken += 1
        dispatcher.handled += taken - begun
        begun = taken
        while taken < count and not is_relay(payloads[taken]):
            taken += 1
        if taken > begun:
            done = dispatcher.handle(connection, payloads[begun:taken])
            if done < taken - begun or connection.full or connection.state != OPEN:
                return begun + done
    return count
