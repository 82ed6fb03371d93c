"""The rooms of the door's members: each nick has its own connection to the directory.

    state       first room        ready            last room is left
    none        -> connecting     -                -
    connecting  waits             -> counted       -> none
    counted     asked at once     every room anew  -> none

So the directory counts members, and not doors. A connection that is lost comes back by itself
(`DirectoryClient`), and then every room is entered again.
"""

from __future__ import annotations

from evloop import __version__
from evloop.app.network import Network
from evloop.app.opening import SESSIONS
from evloop.base.errors import EvloopError, Refused
from evloop.base.names import (
    asked_room_name,
    check_address,
    check_port,
    check_room_name,
    display,
    place_of,
    quoted,
    split_place,
)
from evloop.directory import protocol
from evloop.directory.client import IDLE, READY, WAITING, DirectoryClient, Unreachable
from evloop.directory.protocol import PLAIN, RELIABLE, RoomEntry
from evloop.irc.limits import FAREWELL_S
from evloop.room.live import LiveRoom
from evloop.system.timers import nothing
from evloop.terminal import report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from evloop.app.shell import Client
    from evloop.irc.person import Person
    from evloop.irc.seat import Seat
    from evloop.irc.state import Entered


class Membership:
    """One nick at the directory: its connection, and what waits until that is ready."""

    __slots__ = ("link", "person", "waiting")

    def __init__(self, person: Person, link: DirectoryClient) -> None:
        self.person = person
        self.link = link
        self.waiting: list[Callable[[EvloopError | None], object]] = []

    def act(self, then: Callable[[EvloopError | None], object]) -> None:
        """Call `then(None)` when the directory is there, or say why it is not."""
        if self.link.state == READY:
            then(None)
        elif self.link.state in (WAITING, IDLE):
            then(Unreachable(f"the directory {self.link.endpoint} is away"))
        else:
            self.waiting.append(then)

    def settle(self, error: EvloopError | None) -> None:
        """The connection is ready, or could not be made."""
        waiting, self.waiting = self.waiting, []
        for then in waiting:
            then(error)


class Rooms:
    """What the door asks of directory and network. `makes`: a room that is not there is made."""

    __slots__ = ("_client", "_live", "_makes", "_members", "_network", "ending", "on_empty")

    def __init__(self, client: Client, makes: bool) -> None:
        self._client = client
        self._live: set[LiveRoom] = set()  # with those that still say goodbye
        self._network = Network(client.loop, client.link, self._live, client.options.interface)
        self.on_empty: Callable[[], object] = nothing  # the last room is left, when ending
        self._makes = makes
        self._members: dict[Person, Membership] = {}
        self.ending = False  # the door closes: nothing that waits is sent any more

    # -- for the door ----------------------------------------------------------------------------

    def enter(self, person: Person, name: str, key: str, done: Entered) -> None:
        """Enter the room `name`, or the one at ADDRESS:PORT, which needs no directory."""
        try:
            place = split_place(name)
            if place is not None:
                entry = RoomEntry(place_of(*place), *place, RELIABLE)
                done((entry, self._open(person, entry, 0), False), None)
                return
            name = asked_room_name(name)
            if "," in name:
                raise Refused(1, "bad_name", "a channel has no comma in its name")
        except EvloopError as error:
            done(None, error)
            return
        member = self._member(person)

        def connected(error: EvloopError | None) -> None:
            if error is None:
                self._ask(member, name, self._makes, done)
            else:
                self._over(person, done, error)

        member.act(connected)

    def left(self, person: Person, seat: Seat) -> None:
        """The person is in it no more; what it said last is still sent."""
        room, loop = seat.room, self._client.loop
        room.on_events = room.on_pump = nothing
        member = self._members.get(person)
        if member is not None and seat.listed and member.link.state == READY:
            member.link.request("leave", {"name": seat.entry.name}, nothing)
        self._release(person)
        if self.ending or not room.session.queued():
            room.leave()
            return

        def pumped() -> None:
            if not room.session.queued():
                room.on_pump = nothing
                loop.defer(room.leave)

        room.on_pump = pumped
        loop.call_at(loop.now + FAREWELL_S, room.leave)

    def list_rooms(
        self, done: Callable[[list[tuple[RoomEntry, int]], EvloopError | None], object]
    ) -> None:
        """All rooms of the directory with how many are in each."""
        try:
            self._client.prompt.list_rooms(done)
        except EvloopError as error:
            done([], error)

    # -- for the command -------------------------------------------------------------------------

    def end(self) -> None:
        """Every room was left: `on_empty` is called once the goodbyes are said."""
        if not self._live:
            self.on_empty()

    def directory_back(self) -> None:
        """The door's own connection is ready again: so may be those of the nicks."""
        found = self._client.link.target
        for member in list(self._members.values()):
            if found is not None and member.link.state == IDLE:
                member.link.connect_to([found], nothing)
            elif found is not None and member.link.state != READY:
                member.link.redirect(found)

    # -- one nick --------------------------------------------------------------------------------

    def _member(self, person: Person) -> Membership:
        member = self._members.get(person)
        if member is not None:
            return member
        client = self._client
        link = DirectoryClient(
            client.loop, client.hub, client.rng, f"evloop/{__version__}", lambda: person.nick
        )
        link.make_pipe = client.reach.pipe
        member = self._members[person] = Membership(person, link)
        link.on_ready = lambda: self._entered_again(member)

        def connected(version: object, error: EvloopError | None) -> None:
            member.settle(error)
            self._release(person)

        target = client.link.target
        assert target is not None, "the door has begun with a directory"
        link.connect_to([target], connected)
        return member

    def _release(self, person: Person) -> None:
        """Close the connection of a nick that is in no room, and on the way to none."""
        member = self._members.get(person)
        if member is None or member.waiting or person.entering or person.seats:
            return
        del self._members[person]
        self._client.loop.defer(member.link.close)

    def _over(self, person: Person, done: Entered, error: EvloopError) -> None:
        done(None, error)
        self._release(person)

    def _ask(self, member: Membership, name: str, makes: bool, done: Entered) -> None:
        """Ask the directory for the room; make it if there is none."""
        person = member.person

        def entered(value: Any, error: EvloopError | None) -> None:
            if error is None:
                self._found(person, value, done)
            elif makes and isinstance(error, Refused) and error.reason == "no_such_room":
                self._make(member, name, done)
            else:
                self._over(person, done, error)

        if member.link.state == READY:
            member.link.request("enter", {"name": name}, entered)
        else:
            self._over(person, done, Unreachable(f"the directory {member.link.endpoint} is away"))

    def _make(self, member: Membership, name: str, done: Entered) -> None:
        person = member.person

        def made(value: object, error: EvloopError | None) -> None:
            exists = isinstance(error, Refused) and error.reason == "room_exists"
            if error is not None and not exists:  # else somebody was faster
                self._over(person, done, error)
                return
            if error is None:
                _, room, _ = protocol.read_change(value)
                self._client.prompt.keep_token(value)
                where = place_of(display(room.address), room.port)
                self._client.frontend.note(f"evloop: made room {display(room.name)}: {where}")
            self._ask(member, name, False, done)

        try:
            params = {"name": check_room_name(name)}
        except Refused as refused:
            self._over(person, done, refused)
            return
        member.link.request("makeroom", params, made)

    def _found(self, person: Person, value: Any, done: Entered) -> None:
        """The directory has the room; what it says is judged before it is used."""
        room, members = protocol.read_room(value.get("room") if isinstance(value, dict) else None)
        try:
            entry = RoomEntry(
                asked_room_name(room.name),
                check_address(room.address),
                check_port(room.port),
                room.mode,
                room.made,
            )
            live = self._open(person, entry, members)
        except EvloopError as error:
            member = self._members.get(person)
            if member is not None and member.link.state == READY:
                member.link.request("leave", {"name": room.name}, nothing)
            self._over(person, done, error)
            return
        done((entry, live, True), None)
        self._release(person)

    def _open(self, person: Person, entry: RoomEntry, members: int) -> LiveRoom:
        """The room on its sockets; SetupError or Refused when it cannot be."""
        client, mode = self._client, entry.mode
        if mode not in SESSIONS:
            sentence = f'room {entry.name} has mode "{quoted(mode)}", which this door does not know'
            raise Refused(1, "bad_mode", sentence)
        session = SESSIONS[mode](
            place=place_of(entry.address, entry.port),
            sender_id=client.rng().randbytes(8),
            nickname=person.nick,
            rng=client.rng(),
            now=client.loop.now,
        )
        transport, attachment = self._network.open(entry.address, entry.port, client.options.ttl)
        if mode == PLAIN:
            session.is_own = lambda source: source == transport.source
        else:  # else many that enter at once would all send as if they were alone
            session.expect(members)
        room = LiveRoom(client.loop, transport, session, client.wall, attachment)
        self._live.add(room)
        room.on_closed = lambda: self._closed(room)
        return room

    def _closed(self, room: LiveRoom) -> None:
        self._live.discard(room)
        if self.ending and not self._live:
            self.on_empty()

    def _entered_again(self, member: Membership) -> None:
        """The directory is there, perhaps again, perhaps another: be counted in every room."""
        for seat in member.person.seats.values():
            if seat.listed:
                self._enter_again(member, seat, self._makes)

    def _enter_again(self, member: Membership, seat: Seat, makes: bool) -> None:
        name, place = seat.entry.name, (seat.entry.address, seat.entry.port)

        def entered(value: Any, error: EvloopError | None) -> None:
            if error is None:
                room, _ = protocol.read_room(value.get("room") if isinstance(value, dict) else None)
                if (room.address, room.port) != place:
                    seat.notice(report.room_moved(room.name, room.address, room.port))
            elif makes and isinstance(error, Refused) and error.reason == "no_such_room":
                params = {"name": name, "address": place[0], "port": place[1]}
                member.link.request("makeroom", {**params, "mode": seat.entry.mode}, made)

        def made(value: object, error: EvloopError | None) -> None:
            self._enter_again(member, seat, False)

        if member.link.state == READY:
            member.link.request("enter", {"name": name}, entered)
