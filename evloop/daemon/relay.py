"""The relay: rooms carried over the connections that clients have anyway.

    connection      enter with sender        leave, room deleted, its end
    (none)          -> registered, or
    registered      -> granted up or full    -> (none)
    granted         -> registered, granted   -> (none)

Registered: the directory tells whether the group brings this sender, and sends nothing. `up`: what
it says goes by us; `full`: it also gets what the room says. Grants are counted (--relay-members),
and the leg (the directory's own sockets in the group) is there from the first registration to the
last one's end, or as long as a keeper sits in the room.

**The keeper's place.** `sit(entry, seat, sender)` gives the `RelayedRoom` in which a `Seat` is a
member without a connection; its `say` and `tell` send, `Seat.take` is handed what came, and `rise`
ends it. See `relayed_room`, where the forwarding table is.

Frames are joined once a tick and room, and queued at its end (`flush`), loosely: a slow reader
loses datagrams, which the room repairs, and never its connection.
"""

from __future__ import annotations

from evloop.base.errors import SetupError
from evloop.base.ratelimit import TokenBucket
from evloop.daemon.limits import (
    RELAY_LEG_AGAIN_S,
    RELAY_LEGS_PER_ADDRESS_MAX,
    RELAY_OUT_BURST_BYTES,
    RELAY_OUT_BYTES_PER_S,
    RELAY_UNSENT_BYTES,
)
from evloop.daemon.relayed_room import DROPS, FRAME, GRANT, WAYS, RelayedRoom
from evloop.directory.relay_frames import OFF, Entered, parse_up
from evloop.net.tcp import hold_unsent
from evloop.system.timers import nothing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from evloop.daemon.connection import Connection
    from evloop.daemon.metrics import Metrics
    from evloop.daemon.relay_leg import Leg
    from evloop.daemon.relayed_room import Burst, Member, Seat
    from evloop.directory.protocol import RoomEntry
    from evloop.net.interfaces import LinkWatcher
    from evloop.system.log import Log
    from evloop.system.loop import Loop

    OpenLeg = Callable[[tuple[str, int], Callable[[Burst], object], Callable[[Burst], object]], Leg]


class Relay:
    """All relayed rooms of one directory. `members_max`: grants at once, 0: nothing is relayed (but
    a keeper may sit); `legs_max`: rooms whose group it is in at once."""

    __slots__ = (
        "_drops",
        "_legs",
        "_log",
        "_loop",
        "_out",
        "_told_why",
        "_ways",
        "dirty",
        "granted",
        "legs_max",
        "members_max",
        "on_close",
        "open_leg",
        "rooms",
    )

    def __init__(
        self,
        loop: Loop,
        log: Log,
        metrics: Metrics,
        open_leg: OpenLeg,
        members_max: int,
        legs_max: int,
    ) -> None:
        self._loop = loop
        self._log = log
        self.open_leg = open_leg
        self.on_close: Callable[[], object] = nothing
        self.members_max = members_max
        self.legs_max = legs_max
        self.granted = 0
        self.rooms: dict[int, RelayedRoom] = {}  # by handle
        self.dirty: list[RelayedRoom] = []  # those with something to send in this tick
        self._legs: dict[str, int] = {}  # how many there are because of each visitor
        self._out = TokenBucket(RELAY_OUT_BYTES_PER_S, RELAY_OUT_BURST_BYTES, loop.now)
        self._drops = metrics.kinds("relay_drops", DROPS)
        self._ways = metrics.kinds("relay_datagrams", WAYS)
        self._told_why = ""  # why no leg could be had, when that was last logged

    # -- requests ----------------------------------------------------------------------------------

    def enter(
        self, connection: Connection, entry: RoomEntry, sender: bytes | None, wish: str
    ) -> Entered:
        """What `enter` tells of the relay."""
        room = self.rooms.get(entry.handle)
        keeper = room.seat_id if room is not None else None
        if sender is None:
            if room is not None and connection in room.members:
                self._part(room.members[connection])
            return Entered(entry.handle, keeper)
        if connection.relayed is None:
            connection.relayed = {}
        if not self.members_max:
            return Entered(entry.handle, keeper, OFF)
        if room is None:
            room = self.rooms[entry.handle] = RelayedRoom(self, entry, connection.visitor)
        self._see_to_leg(room)
        member = room.join(connection, sender)
        connection.relayed[entry.handle] = member
        self._grant(room, member, wish)
        leg = room.leg
        never = member.heard == float("-inf")
        return Entered(
            entry.handle,
            keeper,
            member.wish,
            None if never else int(self.now - member.heard),
            leg is not None and leg.works,
            None if leg is None else leg.source,
            room.bound(sender),
            room.heard - member.said,
        )

    def _grant(self, room: RelayedRoom, member: Member, wish: str) -> None:
        had = member.wish != OFF
        if wish != OFF and not had and self.granted >= self.members_max:
            wish = OFF
        has = wish != OFF
        self.granted += has - had
        room.grant(member, wish)
        if has and not had:  # else the kernel takes megabytes for a reader that sleeps
            hold_unsent(member.connection.fileobj, RELAY_UNSENT_BYTES)

    def leave(self, connection: Connection, entry: RoomEntry) -> None:
        """`connection` has left that room."""
        member = (connection.relayed or {}).get(entry.handle)
        if member is not None:
            self._part(member)

    def forget(self, connection: Connection) -> None:
        """`connection` has ended."""
        for member in list((connection.relayed or {}).values()):
            self._part(member)

    def gone(self, entry: RoomEntry) -> None:
        """That room is in the directory no more."""
        room = self.rooms.get(entry.handle)
        if room is None:
            return
        for member in list(room.members.values()):
            self._part(member)
        seat = room.seat
        if seat is not None:
            self.rise(room)
            self._loop.guard(seat, seat.gone)

    def grants_in(self, entry: RoomEntry) -> int:
        """How many members of that room are carried."""
        room = self.rooms.get(entry.handle)
        return 0 if room is None else sum(it.wish != OFF for it in room.members.values())

    def take(self, connection: Connection, payload: bytes) -> None:
        """A frame of the relay came on a connection that has entered with a sender once."""
        parsed = parse_up(payload)
        if parsed is None:
            self.drop(FRAME)
            return
        handle, target, datagram = parsed
        member = (connection.relayed or {}).get(handle)
        if member is None:
            self.drop(GRANT)
        else:
            member.room.take(member, target, datagram)

    def _part(self, member: Member) -> None:
        room = member.room
        self.granted -= member.wish != OFF
        room.part(member)
        relayed = member.connection.relayed
        assert relayed is not None, "it is a member"
        del relayed[room.entry.handle]
        self._end_if_empty(room)

    # -- the keeper --------------------------------------------------------------------------------

    def sit(self, entry: RoomEntry, seat: Seat, sender: bytes) -> RelayedRoom:
        """`seat` is a member of that room from now on, with the 8 bytes of its sender id."""
        room = self.rooms.get(entry.handle)
        if room is None:
            room = self.rooms[entry.handle] = RelayedRoom(self, entry, "")
        room.sit(seat, sender)
        self._see_to_leg(room)
        return room

    def rise(self, room: RelayedRoom) -> None:
        """The seat of `room` is empty again."""
        room.rise()
        self._end_if_empty(room)

    # -- legs --------------------------------------------------------------------------------------

    def _see_to_leg(self, room: RelayedRoom) -> None:
        """Be in the group of `room`, if that can be."""
        if room.leg is not None or self.now < room.tried + RELAY_LEG_AGAIN_S:
            return
        room.tried = self.now
        mine = self._legs.get(room.opener, 0)
        if sum(self._legs.values()) >= self.legs_max or (
            room.opener and mine >= RELAY_LEGS_PER_ADDRESS_MAX
        ):
            self._tell_why(room, "too many rooms are relayed")
            return
        try:
            place = room.entry.address, room.entry.port
            room.leg = self.open_leg(place, room.hear, room.told)
        except SetupError as error:
            self._tell_why(room, error.sentence)
            return
        except OSError as error:  # of the look at the interfaces
            self._tell_why(room, error.strerror or str(error))
            return
        self._legs[room.opener] = mine + 1
        self._told_why = ""

    def _tell_why(self, room: RelayedRoom, why: str) -> None:
        """Once for each reason: else each room and each try would be a line."""
        if why != self._told_why:
            self._told_why = why
            self._log.warning("a room is relayed without multicast", room=room.entry.name, why=why)

    def _end_if_empty(self, room: RelayedRoom) -> None:
        if not room.empty:
            return
        self.rooms.pop(room.entry.handle, None)
        if room.leg is not None:
            room.leg.close()
            room.leg = None
            self._legs[room.opener] -= 1
            if not self._legs[room.opener]:
                del self._legs[room.opener]

    def close(self) -> None:
        """Be in no group any more."""
        for room in list(self.rooms.values()):
            if room.leg is not None:
                room.leg.close()
                room.leg = None
        self.rooms.clear()
        self.on_close()

    # -- the end of a tick -------------------------------------------------------------------------

    def flush(self) -> None:
        """Queue for all members what came in this tick."""
        dirty, self.dirty = self.dirty, []
        for room in dirty:
            self._loop.guard(room, room.flush)

    # -- what the rooms share ----------------------------------------------------------------------

    @property
    def now(self) -> float:
        return self._loop.now

    def wake(self, room: RelayedRoom) -> None:
        """It has something to send at the end of this tick."""
        self.dirty.append(room)

    def drop(self, why: str, count: int = 1) -> None:
        """So many datagrams were not carried, for a reason of DROPS."""
        self._drops[why] += count

    def count(self, way: str, datagrams: int) -> None:
        """So many were: from members (UP), or to one (DOWN)."""
        self._ways[way] += datagrams

    def may_send(self, size: int) -> bool:
        """Whether so many bytes may go out now, which are then taken."""
        return self._out.take(self.now, size)

    def hand(self, seat: Seat, burst: Burst) -> None:
        """Its own fault costs the seat what came, and nobody else."""
        self._loop.guard(seat, seat.take, burst)


def relay_of(
    loop: Loop,
    log: Log,
    metrics: Metrics,
    members_max: int,
    wanted: str | None,
    ttl: int,
    legs_max: int,
) -> Relay:
    """The relay of a server; `wanted`: --interface, `ttl`: --ttl."""
    from evloop.daemon.relay_leg import Leg
    from evloop.net.interfaces import LinkWatcher

    watchers: list[LinkWatcher] = []

    def open_leg(
        place: tuple[str, int],
        heard: Callable[[Burst], object],
        told: Callable[[Burst], object],
    ) -> Leg:
        if not watchers:
            watchers.append(LinkWatcher(loop))
        return Leg(loop, watchers[0], place, wanted, ttl, heard, told)

    def close() -> None:
        for watcher in watchers:
            watcher.close()

    relay = Relay(loop, log, metrics, open_leg, members_max, legs_max)
    relay.on_close = close
    return relay
