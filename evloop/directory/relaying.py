"""The client's side of the relay: rooms whose datagrams the connected directory carries for us."""

from __future__ import annotations

from evloop.directory import protocol
from evloop.directory.client import READY
from evloop.directory.limits import RELAY_UNSENT_BYTES_MAX
from evloop.directory.relay_frames import (
    TO_ROOM,
    member_frame,
    parse_down,
    read_entered,
    room_frame,
)
from evloop.system.timers import nothing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from evloop.base.errors import EvloopError
    from evloop.directory.client import DirectoryClient
    from evloop.directory.relay_frames import Entered

    # What the directory tells of the relay, and how many members it counts; None, 0: it refuses.
    Answered = Callable[[Entered | None, int], object]


class Incoming:
    """Gives what the directory carries to our rooms, by their handles at this connection; `dropped`
    counts what made no sense."""

    __slots__ = ("dropped", "rooms")

    def __init__(self) -> None:
        self.rooms: dict[int, Relaying] = {}
        self.dropped = 0

    def __call__(self, payload: bytes) -> None:
        parsed = parse_down(payload)
        room = self.rooms.get(parsed[1]) if parsed is not None and parsed[0] == TO_ROOM else None
        if parsed is None or room is None:
            self.dropped += 1
        else:
            room.take(parsed[2])


class Relaying:
    """Carries datagrams of one room over the connection of `link`; `take(datagram)` gets what comes
    for it."""

    __slots__ = ("_handle", "_incoming", "_link", "take")

    def __init__(self, link: DirectoryClient) -> None:
        self._link = link
        self._handle = 0  # of the room, at this connection; 0: not known
        self.take: Callable[[bytes], object] = nothing
        incoming = link.on_datagrams
        if not isinstance(incoming, Incoming):
            incoming = link.on_datagrams = Incoming()
        self._incoming = incoming

    @property
    def known(self) -> bool:
        """Whether the directory can be given datagrams of the room."""
        return self._handle > 0 and self._link.state == READY

    def forget(self) -> None:
        """The connection is another one, or the room is left: it has no handle there."""
        if self._incoming.rooms.get(self._handle) is self:
            del self._incoming.rooms[self._handle]
        self._handle = 0

    def enter(self, name: str, sender: bytes, wish: str, answered: Answered) -> None:
        """Enter the room, perhaps again, and wish for one of `relay_frames.WISHES`."""

        def entered(value: object, error: EvloopError | None) -> None:
            if error is not None:
                self.forget()
                answered(None, 0)
                return
            told = read_entered(value)
            room = value.get("room") if isinstance(value, dict) else None
            members = protocol.read_room(room)[1]
            self.forget()
            self._handle = told.handle
            if self._handle > 0:
                self._incoming.rooms[self._handle] = self
            answered(told, members)

        params = {"name": name, "sender": sender.hex(), "relay": wish}
        self._link.request("enter", params, entered)

    def up(self, datagram: bytes, member: bytes | None) -> bool:
        """Give the directory a datagram for everybody (None) or for one member; False: too much
        waits already, or it does not know the room: the datagram is lost."""
        wire = self._link.wire
        if not self.known or wire is None or wire.queued > RELAY_UNSENT_BYTES_MAX:
            return False
        if member is None:
            wire.send(room_frame(self._handle, datagram))
        else:
            wire.send(member_frame(self._handle, member, datagram))
        return True
