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
from evloop.app.kept import Kept
from evloop.app.network import Network
from evloop.app.opening import live_room
from evloop.base.errors import REFUSED, EvloopError, Refused, SetupError
from evloop.base.names import (
    asked_room_name,
    check_address,
    check_port,
    check_room_name,
    display,
    fold,
    place_of,
    quoted,
    split_place,
)
from evloop.directory import protocol
from evloop.directory.client import IDLE, READY, WAITING, DirectoryClient, Unreachable
from evloop.directory.protocol import SEALED, RoomEntry
from evloop.irc.limits import FAREWELL_S
from evloop.room.reliable.older import merged
from evloop.system.timers import nothing
from evloop.terminal import report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from evloop.app.carrying import Carried
    from evloop.app.shell import Client
    from evloop.irc.locks import Locks
    from evloop.irc.person import Person
    from evloop.irc.seat import Seat
    from evloop.irc.state import Entered
    from evloop.room.events import Said
    from evloop.room.live import LiveRoom, Session


class Membership:
    """One nick at the directory: its connection, its rooms as far as the directory carries them
    (also those that still say goodbye), and what waits until the connection is ready."""

    __slots__ = ("carried", "link", "person", "waiting")

    def __init__(self, person: Person, link: DirectoryClient) -> None:
        self.person = person
        self.link = link
        self.carried: dict[LiveRoom, Carried | None] = {}
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


class _Opener:
    """What `live_room` asks of a client, for one nick; `opened(room, carried)` gets the room."""

    __slots__ = ("link", "loop", "network", "nickname", "opened", "options", "rng", "style", "wall")

    def __init__(
        self,
        client: Client,
        link: DirectoryClient,
        network: Network,
        nickname: str,
        opened: Callable[[LiveRoom, Carried | None], object],
    ) -> None:
        self.link = link
        self.loop = client.loop
        self.options = client.options
        self.style = client.style
        self.rng = client.rng
        self.wall = client.wall  # the room keeps it, and nothing else of this
        self.network = lambda: network
        self.nickname = nickname
        self.opened = opened

    @property
    def prompt(self) -> _Opener:
        return self


class _Keeping:
    """What the directory keeps of a room, put together with what its session holds."""

    __slots__ = ("_kept", "_session")

    def __init__(self, kept: Kept, session: Session) -> None:
        self._kept = kept
        self._session = session

    def told(self, value: Any) -> None:
        self._kept.told(value)

    def is_keeper(self, sender: bytes) -> bool:
        return self._kept.is_keeper(sender)

    def older(self, count: int, then: Callable[[list[Said]], object]) -> bool:
        def fetched(datagrams: list[bytes], error: EvloopError | None) -> None:
            then(merged(self._session, datagrams, count))

        return self._kept.fetch(count, fetched)


class Rooms:
    """What the door asks of directory and network. `makes`: a room that is not there is made."""

    __slots__ = (
        "_client",
        "_lazy_locks",
        "_live",
        "_makes",
        "_members",
        "_network",
        "ending",
        "keys_are_safe",
        "on_empty",
    )

    def __init__(self, client: Client, makes: bool) -> None:
        self._client = client
        self._lazy_locks: Locks | None = None
        self.keys_are_safe = True  # nobody overhears what a client sends
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
                mode = self._client.reach.likely_mode(place_of(*place))
                entry = RoomEntry(place_of(*place), *place, mode)
                self._unlock_and_open(person, entry, key, 0, done, None)
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
                self._ask(member, name, key, self._makes, done)
            else:
                self._over(person, done, error)

        member.act(connected)

    def left(self, person: Person, seat: Seat) -> None:
        """The person is in it no more; what it said last is still sent."""
        room, loop = seat.room, self._client.loop
        room.on_events = room.on_pump = nothing
        if self.ending or not room.session.queued():
            self._go(person, seat)
            return
        late = loop.call_at(loop.now + FAREWELL_S, lambda: self._go(person, seat))

        def pumped() -> None:
            if not room.session.queued():
                room.on_pump = nothing
                late.move(loop.now)

        room.on_pump = pumped

    def _go(self, person: Person, seat: Seat) -> None:
        """Say goodbye in the room, and be counted no longer."""
        member, key = self._members.get(person), fold(seat.entry.name)
        seat.room.leave()  # first: the goodbye may go by the directory
        if member is not None and seat.listed:
            carried = member.carried.get(seat.room)
            if carried is not None:
                carried.left()
            again = key in person.seats or key in person.entering
            if member.link.state == READY and not again:
                member.link.request("leave", {"name": seat.entry.name}, nothing)
        self._release(person)

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
        link.on_lost = lambda why, delay: self._lost(member)

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
        if member.carried and not self.ending:  # their goodbyes may go by the directory
            return
        del self._members[person]
        self._client.loop.defer(member.link.close)

    def _over(self, person: Person, done: Entered, error: EvloopError) -> None:
        done(None, error)
        self._release(person)

    def _ask(self, member: Membership, name: str, key: str, makes: bool, done: Entered) -> None:
        """Ask the directory for the room; make it if there is none."""
        person = member.person

        def entered(value: Any, error: EvloopError | None) -> None:
            if error is None:
                self._found(person, value, key, done)
            elif makes and isinstance(error, Refused) and error.reason == "no_such_room":
                self._make(member, name, key, done)
            else:
                self._over(person, done, error)

        if member.link.state == READY:
            member.link.request("enter", {"name": name}, entered)
        else:
            self._over(person, done, Unreachable(f"the directory {member.link.endpoint} is away"))

    def _make(self, member: Membership, name: str, key: str, done: Entered) -> None:
        person = member.person
        if key:  # who has given a key would talk in the open
            self._over(person, done, _not_sealed(name, "is not there, and JOIN makes none"))
            return

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
            self._ask(member, name, key, False, done)

        try:
            params = {"name": check_room_name(name)}
        except Refused as refused:
            self._over(person, done, refused)
            return
        member.link.request("makeroom", params, made)

    def _found(self, person: Person, value: Any, key: str, done: Entered) -> None:
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
        except EvloopError as error:
            self._not_opened(person, room.name, done, error)
            return
        member = self._members[person]
        kept = Kept(member.link, entry.name)
        kept.told(value)
        self._unlock_and_open(person, entry, key, members, done, member, kept)

    def _not_opened(self, person: Person, name: str, done: Entered, error: EvloopError) -> None:
        """A room that the directory has cannot be entered: it counts us no more."""
        member = self._members.get(person)
        if member is not None and name and member.link.state == READY:
            member.link.request("leave", {"name": name}, nothing)
        self._over(person, done, error)

    def _unlock_and_open(
        self,
        person: Person,
        entry: RoomEntry,
        key: str,
        counted: int,
        done: Entered,
        member: Membership | None,
        kept: Kept | None = None,
    ) -> None:
        """Enter the room once its key is there, if it needs one. `kept`: what the directory keeps
        of it."""

        def go(secret: bytes | None) -> None:
            live = self._open(person, entry, counted, member, secret)
            keeping = None if kept is None else _Keeping(kept, live.session)
            done((entry, live, member is not None, keeping), None)
            self._release(person)

        def failed(error: EvloopError) -> None:
            self._not_opened(person, entry.name if member is not None else "", done, error)

        try:
            if key and entry.mode != SEALED:
                failed(_not_sealed(entry.name, "is open: join it without a key"))
            elif entry.mode == SEALED or self._client.reach.keys_matter:
                self._locks().unlock(entry, key, go, failed)
            else:
                go(None)
        except EvloopError as error:
            failed(error)

    def _locks(self) -> Locks:
        if self._lazy_locks is None:
            from evloop.irc.locks import Locks  # late: few rooms are sealed

            self._lazy_locks = Locks(self._client, self.keys_are_safe)
        return self._lazy_locks

    def heard(self, seat: Seat) -> None:
        """Somebody else is in the room."""
        if seat.entry.mode == SEALED:
            why = self._locks().proven(place_of(seat.entry.address, seat.entry.port))
            if why:
                self._client.frontend.note(f"evloop: {why}")

    def _open(
        self,
        person: Person,
        entry: RoomEntry,
        counted: int,
        member: Membership | None,
        secret: bytes | None,
    ) -> LiveRoom:
        """The room live; SetupError or Refused when it cannot be. `member`: of the directory that
        has it, None: by its place alone; `secret`: of a sealed room."""

        def opened(room: LiveRoom, carried: Carried | None) -> None:
            self._live.add(room)
            if member is not None:
                member.carried[room] = carried
            room.on_closed = lambda: self._closed(room, member)

        link = self._client.link if member is None else member.link
        opener: Any = _Opener(self._client, link, self._network, person.nick, opened)
        return live_room(opener, entry, counted, secret)

    def _closed(self, room: LiveRoom, member: Membership | None) -> None:
        self._live.discard(room)
        if member is not None:
            carried = member.carried.pop(room)
            if carried is not None:
                carried.closed()
            self._release(member.person)
        if self.ending and not self._live:
            self.on_empty()

    def _entered_again(self, member: Membership) -> None:
        """The directory is there, perhaps again, perhaps another: be counted in every room."""
        for seat in member.person.seats.values():
            if seat.listed:
                self._enter_again(member, seat, self._makes)
        for carried in filter(None, member.carried.values()):
            carried.ready()

    @staticmethod
    def _lost(member: Membership) -> None:
        for carried in filter(None, member.carried.values()):
            carried.lost()

    def _enter_again(self, member: Membership, seat: Seat, makes: bool) -> None:
        name, place = seat.entry.name, (seat.entry.address, seat.entry.port)

        def entered(value: Any, error: EvloopError | None) -> None:
            if error is None:
                room, _ = protocol.read_room(value.get("room") if isinstance(value, dict) else None)
                if seat.kept is not None:
                    seat.kept.told(value)
                    seat.keepers_changed()
                if (room.address, room.port) != place:
                    seat.notice(report.room_moved(room.name, room.address, room.port))
            elif makes and isinstance(error, Refused) and error.reason == "no_such_room":
                params = {"name": name, "address": place[0], "port": place[1]}
                member.link.request("makeroom", {**params, "mode": seat.entry.mode}, made)

        def made(value: object, error: EvloopError | None) -> None:
            self._enter_again(member, seat, False)

        if member.link.state == READY:
            member.link.request("enter", {"name": name}, entered)


def _not_sealed(name: str, why: str) -> SetupError:
    """Somebody has given a key for a room that is not sealed."""
    return SetupError(f"room {quoted(name)} {why}", REFUSED)
