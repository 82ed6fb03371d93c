"""The IRC door without its sockets: clients, persons, and the rooms that they are in.

A line in: `Door.line(client, bytes)` -> `codec.parse` -> the handler in `commands.COMMANDS` ->
lines to clients, or something that `outside` is asked for (a room is entered, the rooms are
listed), and whose answer comes later. Until then the client is `busy` and its further lines wait.

The clock, the wall clock and timers are handed in; randomness is not needed.
"""

from __future__ import annotations

from evloop.base.errors import EvloopError, Refused
from evloop.base.names import check_nickname, fold
from evloop.irc import commands
from evloop.irc.about import ISUPPORT, motd
from evloop.irc.codec import SERVER, NotUtf8, TooLong, is_nick, parse, utc_text
from evloop.irc.limits import (
    IRC_CLIENTS_MAX,
    IRC_LINES_WAITING_MAX,
    IRC_SEATS_MAX,
    MEMBERS_REMEMBERED_MAX,
)
from evloop.irc.person import Client, Person
from evloop.irc.seat import Seat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    from evloop.directory.protocol import RoomEntry
    from evloop.irc.person import Wire
    from evloop.irc.seat import Kept
    from evloop.room.live import LiveRoom
    from evloop.system.timers import Timer

    # (the room's entry, the room, whether the directory counts us, what it keeps), or why not
    Way = tuple[RoomEntry, LiveRoom, bool, Kept | None]
    Entered = Callable[[Way | None, EvloopError | None], object]

    class Outside(Protocol):
        """What the door asks of the world around it; every `done` is called once, later or now."""

        def enter(self, person: Person, name: str, key: str, done: Entered) -> None: ...
        def left(self, person: Person, seat: Seat) -> None: ...
        def heard(self, seat: Seat) -> None: ...
        def list_rooms(
            self, done: Callable[[list[tuple[RoomEntry, int]], EvloopError | None], object]
        ) -> None: ...


ANOTHER_USER = "Closing link: this door is another user's"
# A web page can have a browser send such a first line to a port of this machine.
HTTP_WORDS = frozenset(b"GET POST PUT HEAD OPTIONS DELETE PATCH CONNECT TRACE".split())


class Door:
    """All that the door knows. `members` are the sender ids of who is, or lately was, a member of
    this door, with their persons."""

    __slots__ = (
        "_entering",
        "_opening",
        "_wall",
        "call_at",
        "clients",
        "clock",
        "hhmm",
        "members",
        "outside",
        "password",
        "persons",
        "shares",
        "started",
        "version",
    )

    def __init__(
        self,
        outside: Outside,
        *,
        clock: Callable[[], float],
        wall: Callable[[], float],
        call_at: Callable[[float, Callable[[], object]], Timer],
        hhmm: Callable[[int], str],
        version: str,
        password: str = "",
        shares: bool = True,
    ) -> None:
        """`hhmm(ms)` is the local time of day; `shares`: clients with one nick are one member."""
        self.outside = outside
        self.clock = clock
        self.call_at = call_at
        self.hhmm = hhmm
        self.version = version
        self.password = password
        self.shares = shares and not password
        self.clients: list[Client] = []
        self.persons: dict[str, Person] = {}
        self.members: dict[bytes, Person] = {}
        self.started = int(wall())
        self._wall = wall
        self._entering = 0  # seats that are on their way
        self._opening: dict[Seat, list[Client]] = {}  # who waits for NAMES

    def wall_ms(self) -> int:
        return int(self._wall() * 1_000)

    @staticmethod
    def utc(ms: int) -> str:
        return utc_text(ms)

    # -- connections -----------------------------------------------------------------------------

    def connected(self, wire: Wire) -> Client:
        """A connection was let in."""
        client = Client(wire, self.clock())
        if len(self.clients) >= IRC_CLIENTS_MAX:
            self.close(client, f"Closing link: {IRC_CLIENTS_MAX} clients are here, and no more fit")
        else:
            self.clients.append(client)
        return client

    def line(self, client: Client, data: bytes) -> None:
        """One line came. It waits if one before it is not done."""
        if client.closed:
            return
        if client.busy or client.waiting:
            if len(client.waiting) >= IRC_LINES_WAITING_MAX:
                self.close(client, f"Closing link: {IRC_LINES_WAITING_MAX} lines wait already")
            else:
                client.waiting.append(data)
        else:
            self._act(client, data)

    def hold(self, client: Client) -> None:
        """A command of `client` waits for something; see `free`."""
        client.busy += 1

    def free(self, client: Client) -> None:
        """What a command waited for has come: the lines behind it go on."""
        client.busy -= 1
        if client.draining:
            return
        client.draining = True
        while client.waiting and not client.busy and not client.closed:
            self._act(client, client.waiting.popleft())
        client.draining = False
        if not client.busy and not client.closed:
            client.wire.idle()

    def _act(self, client: Client, data: bytes) -> None:
        if not client.greeted and data.strip():
            client.greeted = True
            if data.partition(b" ")[0] in HTTP_WORDS:
                self.close(client, "Closing link: this is no web server")
                return
        try:
            line = parse(data)
        except TooLong:
            client.numeric(417, last="Input line was too long")
            return
        except NotUtf8:
            client.fail("*", "INVALID_UTF8", last="Message rejected: it is no UTF-8")
            return
        if line is None:
            return
        row = commands.COMMANDS.get(line.command)
        if client.person is None and not (row and row.before):
            client.numeric(451, last="You have not registered")
        elif row is None:
            client.numeric(421, line.command, last="Unknown command")
        elif len(line.words) < row.least:
            client.numeric(461, line.command, last="Not enough parameters")
        else:
            row.act(self, client, line)

    def close(self, client: Client, why: str) -> None:
        """Say ERROR and end the connection; the person goes with its last client."""
        if not client.closed:
            client.send("", "ERROR", last=why)
            self._forget(client)
            client.wire.close(why)

    def gone(self, client: Client) -> None:
        """The connection has ended."""
        self._forget(client)

    def _forget(self, client: Client) -> None:
        if client.closed:
            return
        client.closed = True
        client.waiting.clear()
        if client in self.clients:
            self.clients.remove(client)
        person = client.person
        if person is None:
            return
        person.clients.remove(client)
        for seat in person.seats.values():
            seat.detach(client)
        if not person.clients:
            del self.persons[person.key]
            for seat in list(person.seats.values()):
                self._leave(person, seat)

    def close_all(self, why: str) -> None:
        """The door closes: every client is told, and every room is left."""
        for client in list(self.clients):
            self.close(client, why)

    # -- registration ----------------------------------------------------------------------------

    def register(self, client: Client) -> None:
        """NICK, USER or CAP END came: let the client in if that is all."""
        if client.person is not None or client.negotiating or not (client.nick and client.user):
            return
        if self.password and not commands.same(client.password, self.password):
            client.numeric(464, last="Password incorrect")
            self.close(client, "Closing link: the password is missing or wrong")
            return
        person = self.persons.get(fold(client.nick))
        if person is not None and not self.shares:
            self.nick_in_use(client, client.nick)
            client.nick = ""
            return
        given = client.nick
        if person is None:
            person = Person(given, client.user, client.real)
            self.persons[person.key] = person
        person.clients.append(client)
        client.person = person
        self._welcome(client, given)
        if person.nick != given:
            client.send(f"{given}!{person.user}@evloop", "NICK", last=person.nick)
        for seat in person.seats.values():
            seat.attach(client)

    def _welcome(self, client: Client, nick: str) -> None:
        def tell(code: int, *words: str, last: str | None = None) -> None:
            client.send(SERVER, f"{code:03}", nick, *words, last=last)

        tell(1, last=f"Welcome to evloop, {nick}")
        tell(2, last=f"Your host is {SERVER}, running version evloop-{self.version}")
        tell(3, last=f"This door was opened {utc_text(self.started * 1_000)}")
        tell(4, SERVER, f"evloop-{self.version}", "i", "n")
        for at in range(0, len(ISUPPORT), 10):
            tell(5, *ISUPPORT[at : at + 10], last="are supported by this server")
        for code, words, last in self.counts():
            tell(code, *words, last=last)
        for code, text in motd(self.version):
            tell(code, last=text)

    def counts(self) -> list[tuple[int, tuple[str, ...], str]]:
        """The answers to LUSERS: members, channels and connections of this door."""
        channels = {key for person in self.persons.values() for key in person.seats}
        members = len(self.persons)
        return [
            (251, (), f"There are {members} users and 0 invisible on 1 servers"),
            (254, (str(len(channels)),), "channels formed"),
            (255, (), f"I have {len(self.clients)} clients and 0 servers"),
        ]

    def nick_in_use(self, client: Client, nick: str) -> None:
        client.numeric(433, nick, last="Nickname is already in use")

    def checked_nick(self, client: Client, nick: str) -> str:
        """`nick` in its canonical form; "" when it is none, which the client is told by 432."""
        try:
            name = check_nickname(nick)
            if is_nick(name):
                return name
            why = "a nick has none of the characters ,*?!@: and does not begin with #&$+%~"
        except Refused as refused:
            why = refused.sentence
        client.numeric(432, nick, last=why)
        return ""

    def rename(self, client: Client, person: Person, nick: str) -> None:
        """NICK of a registered client: all rooms know the person by another name from now on."""
        if nick == person.nick:
            return
        key = fold(nick)
        if self.persons.get(key, person) is not person:
            self.nick_in_use(client, nick)
            return
        del self.persons[person.key]
        self.persons[key] = person
        for seat in person.seats.values():
            seat.make_way(key)
        source = person.source
        person.nick = nick
        person.send(source, "NICK", last=nick)
        for seat in person.seats.values():
            seat.room.rename(nick)

    # -- rooms -----------------------------------------------------------------------------------

    def join(self, client: Client, person: Person, channel: str, key: str) -> None:
        """Enter one channel; until its names are told, or it is refused, the client is busy."""
        folded = fold(channel[1:])
        if folded in person.seats:
            return
        waiting = person.entering.get(folded)
        if waiting is not None:
            waiting.append(client)
            self.hold(client)
            return
        if self.seats() >= IRC_SEATS_MAX:
            client.numeric(405, channel, last=f"{IRC_SEATS_MAX} rooms are entered, the most here")
            return
        person.entering[folded] = [client]
        self._entering += 1
        self.hold(client)

        def done(entered: Any, error: EvloopError | None) -> None:
            self._entered(person, folded, channel, entered, error)

        self.outside.enter(person, channel[1:], key, done)

    def seats(self) -> int:
        """How many there are, and are on their way."""
        return self._entering + sum(len(person.seats) for person in self.persons.values())

    def _entered(
        self, person: Person, key: str, channel: str, entered: Any, error: EvloopError | None
    ) -> None:
        self._entering -= 1
        waiting = person.entering.pop(key)
        if entered is None:
            assert error is not None
            for client in waiting:
                commands.refuse_join(client, channel, error)
                self.free(client)
            return
        entry, room, listed, kept = entered
        seat = Seat(self, person, entry, room, listed, kept)
        if not person.clients or fold(entry.name) in person.seats:
            self.outside.left(person, seat)  # nobody waits for it any more
            for client in waiting:
                self.free(client)
            return
        person.seats[fold(entry.name)] = seat
        self._remember(seat.session.sender_id, person)
        self._opening[seat] = waiting
        if seat.session.nickname != person.nick:
            room.rename(person.nick)
        seat.start()

    def _remember(self, sender: bytes, person: Person) -> None:
        """Also when it has left: its last words and its goodbye are still on their way."""
        self.members[sender] = person
        if len(self.members) > MEMBERS_REMEMBERED_MAX:
            del self.members[next(iter(self.members))]

    def opened(self, seat: Seat) -> None:
        """The names of a channel were told: who waited for that goes on."""
        for client in self._opening.pop(seat, ()):
            self.free(client)

    def part(self, person: Person, seat: Seat, reason: str | None) -> None:
        """Leave one channel; the reason is for the person's own clients."""
        person.send(person.source, "PART", seat.channel, last=reason)
        self._leave(person, seat)

    def _leave(self, person: Person, seat: Seat) -> None:
        del person.seats[fold(seat.entry.name)]
        seat.leave()
        self.opened(seat)
        self.outside.left(person, seat)

    # -- the directory ---------------------------------------------------------------------------

    def notice_all(self, text: str) -> None:
        """Tell every client something that is about no channel."""
        for client in self.clients:
            if client.person is not None:
                client.send(SERVER, "NOTICE", client.name, last=text)

    def room_deleted(self, name: str) -> None:
        """The directory has no such room any more."""
        for person in self.persons.values():
            seat = person.seats.get(fold(name))
            if seat is not None and seat.listed:
                gone = f"room {seat.channel[1:]} was deleted from the directory"
                seat.notice(f"{gone}; who is in it can go on")
