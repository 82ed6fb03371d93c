"""A room whose members are reached by roads of their own: the group, the relay of a directory, or
both.

What is under test is the product's: `room/roads.py` chooses, `room/relay.py` sends and hears by it,
`daemon/relay.py` and `daemon/relayed_room.py` forward. What is modelled is what lies between them:
TCP connections that are slow, stall and are reset, directories that die, and groups that some
members are cut off from:

    place       is heard by the group  hears the group        opens sockets
    sound       by all                 all                    yes
    deaf        by all                 nobody                 yes
    mute        by nobody              all                    yes
    guest       by the legs alone      the legs alone         yes
    isolated    by nobody              nobody                 yes
    hub         by nobody              nobody                 no: the relay is all that it has
    loner       as sound               as sound               yes, and has no directory at all

Beside the oracle of the room two things are judged from outside, at the relay's own doors: nothing
goes to the group that no member gave it, and nobody is sent what it said itself.
"""

from __future__ import annotations

from collections import Counter
from math import inf
from typing import TYPE_CHECKING, Any

from evloop.daemon.relay import Relay
from evloop.directory.limits import RELAY_UNSENT_BYTES_MAX
from evloop.directory.protocol import RoomEntry
from evloop.directory.relay_frames import member_frame, parse_down, room_frame
from evloop.room.relay import RelayTransport
from evloop.room.roads import OFF, Roads, Word
from evloop.system.timers import nothing
from tests.simulation.forgery import REPAIRED
from tests.simulation.oracle import Violation
from tests.simulation.wires import Clock, Line, Pipe
from tests.simulation.world import PLACE, Member, World

if TYPE_CHECKING:
    from collections.abc import Callable

SOUND, DEAF, MUTE, GUEST = "sound", "deaf", "mute", "guest"
ISOLATED, HUB, LONER = "isolated", "hub", "loner"
SPEAKING = (SOUND, DEAF, LONER)  # all hear them by the group
HEARING = (SOUND, MUTE, LONER)  # hear all by the group

LEGS = -100  # the leg of directory n has the index LEGS - n, as members have theirs
TICK_S = 0.0005  # from what comes to a directory to the end of its tick
HEADER_BYTES = 4
NEAR = Line()


class _Connection:
    """A client's connection, as the directory sees it, and the two pipes of it."""

    visitor = "192.0.2.1"

    def __init__(self, server: Server, carrier: Carrier) -> None:
        world = server.world
        self.server, self.carrier = server, carrier
        self.relayed: dict[int, Any] | None = None
        self.entered = False
        self.fileobj = self
        self.up = Pipe(world, carrier.line, lambda: True, self._came_up)
        self.down = Pipe(world, carrier.line, lambda: carrier.member.running, self._came_down)

    def setsockopt(self, *_: object) -> None:
        """The kernel's share is modelled: see `wires`."""

    @property
    def queued(self) -> int:
        return self.down.queued

    @property
    def behind_since(self) -> float:
        return self.down.behind_since

    def send_loose(self, frames: bytes) -> None:
        self.server.down_bytes += len(frames)
        self.down.put(len(frames), (self.server.world.now, frames))

    def _came_up(self, what: Any) -> None:
        self.server.take(self, what)

    def _came_down(self, what: Any) -> None:
        said_at, frames = what
        if isinstance(frames, bytes):
            self.carrier.take(said_at, frames)
        else:
            self.carrier.told(*frames)

    def close(self) -> None:
        self.up.closed = self.down.closed = True


class _Leg:
    """The place of a directory in the group."""

    works = True

    def __init__(self, server: Server) -> None:
        self._server = server
        host, port = address_of(LEGS - server.number)
        self.source = f"{host}:{port}"

    def send(self, datagram: bytes, target: Any = None) -> bool:
        self._server.speak(datagram, target)
        return True

    def close(self) -> None:
        self._server.room = None


class _Log:
    def warning(self, *_: object, **__: object) -> None:
        raise AssertionError("every room has a leg here, or nobody wants one")


class _Metrics:
    def __init__(self) -> None:
        self.counts: dict[str, dict[str, int]] = {}

    def kinds(self, name: str, known: tuple[str, ...]) -> dict[str, int]:
        return self.counts.setdefault(name, dict.fromkeys(known, 0))


class _NoLeg(OSError):
    """A container without multicast."""


class Server:
    """A directory that relays the one room; `multicast`: it can be in the group."""

    def __init__(self, world: RoadWorld, number: int, multicast: bool) -> None:
        self.world, self.number, self.multicast = world, number, multicast
        self.loss = 0.0  # of its leg's ears
        self.down_bytes = 0  # sent to members
        self.up = False
        self.room: Any = None  # that hears the group
        self.connections: set[_Connection] = set()
        self.metrics = _Metrics()
        self._given: Counter[bytes] = Counter()  # by members, and not yet said to the group
        self._flushing = False
        self.start()

    def start(self) -> None:
        """It runs, perhaps again, and knows nothing of before."""
        if self.up:
            return
        self.up = True
        address, _, port = PLACE.rpartition(":")
        self.entry = RoomEntry("room", address, int(port))
        self.entry.handle = 7 + len(self.world.tales)
        self._given.clear()
        log: Any = _Log() if self.multicast else _Quiet()
        clock: Any = Clock(self.world, None)
        metrics: Any = self.metrics
        opener: Any = self._open
        self.relay = Relay(clock, log, metrics, opener, 500, 256)

    def _open(self, _: object, hear: Callable[..., object], told: Callable[..., object]) -> _Leg:
        if not self.multicast:
            raise _NoLeg(19, "no such device")
        self.room = (hear, told)
        return _Leg(self)

    def die(self) -> None:
        """kill -9."""
        self.up = False
        self.room = None
        connections, self.connections = self.connections, set()
        for connection in sorted(connections, key=lambda it: it.carrier.member.index):
            connection.carrier.cut()

    # -- what comes ----------------------------------------------------------------------------

    def hear(self, data: bytes, source: int) -> None:
        """The group brings it."""
        if self.room is not None:
            self.room[0]([(data, address_of(source))])
            self._soon()

    def told(self, data: bytes, source: int) -> None:
        """It came to the leg alone."""
        if self.room is not None:
            self.room[1]([(data, address_of(source))])
            self._soon()

    def take(self, connection: _Connection, what: Any) -> None:
        """A client's frame, or (its id, its wish)."""
        it: Any = connection
        if isinstance(what, bytes):
            if what[5] == 0x52:
                self._given[what[10:]] += 1
            self.relay.take(it, what[HEADER_BYTES:])
        else:
            entered = self.relay.enter(it, self.entry, *what)
            connection.entered = True
            members = sum(one.entered for one in self.connections) + self.world.loners()
            connection.down.put(200, (self.world.now, (entered, members)))
        self._soon()

    def forget(self, connection: _Connection) -> None:
        """It has ended."""
        if connection in self.connections:
            self.connections.discard(connection)
            it: Any = connection
            self.relay.forget(it)

    def _soon(self) -> None:
        if not self._flushing:
            self._flushing = True
            self.world.at(self.world.now + TICK_S, self._flush)

    def _flush(self, _: object) -> None:
        self._flushing = False
        if self.up:
            self.relay.flush()

    # -- what goes -----------------------------------------------------------------------------

    def speak(self, data: bytes, target: Any) -> None:
        """The leg sends to the group (None), or to one address."""
        world = self.world
        if target is None:
            self._given[data] -= 1
            if self._given[data] < 0:
                raise Violation("relay", "the leg says what no member gave it", world.now)
            world.multicast(data, LEGS - self.number)
        else:
            world.to_one(data, LEGS - self.number, target)


class _Quiet(_Log):
    def warning(self, *_: object, **__: object) -> None:
        """That there is no leg is as it should be."""


class Carrier:
    """A member's client of its directory. `known`, `ask` and `up` are what `RelayTransport` asks
    for."""

    def __init__(self, world: RoadWorld, member: Member, server: Server | None, line: Line) -> None:
        self.world, self.member, self.server, self.line = world, member, server, line
        self.transport: RelayTransport
        self.connection: _Connection | None = None
        self._handle = 0
        self._answered: Callable[..., object] = nothing
        self.counted = True  # the directory tells how many datagrams of others it heard
        self.latest = 0.0  # age of what came last, seconds since it was given to the connection
        self.oldest = 0.0
        self._said: dict[bytes, float] = {}  # what it gave to the directory for all, and when

    @property
    def known(self) -> bool:
        return self._handle > 0

    def mend(self, line: Line) -> None:
        """The way to the directory is a better one from now on."""
        self.line = line
        if self.connection is not None:
            self.connection.up.mend(line)
            self.connection.down.mend(line)

    def connect(self, _: object = None) -> None:
        """Reach the directory, or try again soon."""
        server, world = self.server, self.world
        if server is None or self.connection is not None or self.member.gone:
            return
        if not server.up or not self.member.running:
            world.at(world.now + world.rng.uniform(0.3, 1.0), self.connect)
            return
        self.connection = _Connection(server, self)
        server.connections.add(self.connection)
        self.transport.linked()

    def cut(self) -> None:
        """The connection is reset."""
        connection, world = self.connection, self.world
        if connection is None:
            return
        self.connection, self._handle = None, 0
        connection.close()
        server = connection.server
        world.at(world.now + world.rng.uniform(0.0, 3.0), lambda _: server.forget(connection))
        if self.member.gone:
            return
        self.transport.lost()
        world.at(world.now + world.rng.uniform(0.05, 1.0), self.connect)

    def ask(self, wish: str, answered: Callable[..., object]) -> None:
        if self.connection is None:
            answered(None, "")
            return
        self._answered = answered
        self.connection.up.put(100, (self.member.session.sender_id, wish))

    def told(self, entered: Any, members: int) -> None:
        """The directory's answer to the last question."""
        self._handle = entered.handle
        granted, keeper = entered.granted or OFF, entered.keeper or b""
        bound = frozenset(entered.bound)
        multicast, others = entered.multicast, entered.others if self.counted else None
        word = Word(granted, entered.heard, members, multicast, bound, keeper, others)
        self._answered(word, entered.leg or "")

    def up(self, datagram: bytes, member: bytes | None) -> bool:
        connection = self.connection
        if connection is None or connection.up.queued > RELAY_UNSENT_BYTES_MAX:
            return False
        if member is None:
            self._said[datagram] = self.world.now
            frame = room_frame(self._handle, datagram)
        else:
            frame = member_frame(self._handle, member, datagram)
        connection.up.put(len(frame), frame)
        return True

    def take(self, given_at: float, frames: bytes) -> None:
        """Frames came down."""
        self.latest = self.world.now - given_at
        self.oldest = max(self.oldest, self.latest)
        at = 0
        while at < len(frames):
            end = at + HEADER_BYTES + int.from_bytes(frames[at : at + HEADER_BYTES], "big")
            parsed = parse_down(frames[at + HEADER_BYTES : end])
            assert parsed is not None, "the directory packed it"
            datagram = parsed[2]
            # (Before it entered the group alone may have brought it: that is no echo.)
            if given_at >= self._said.get(datagram, inf) and not datagram[3] & REPAIRED:
                raise Violation("relay", f"{self.member} is sent what it said", self.world.now)
            if parsed[1] == self._handle:
                self.transport.came(datagram)
            at = end


class _Group:
    """The group, as a member's transport."""

    source = None
    echoes = False

    def __init__(self, world: RoadWorld, member: Member) -> None:
        self._world, self._member = world, member
        self.deliver: Callable[..., object] = nothing

    def receive(self, deliver: Callable[..., object], _: object) -> None:
        self.deliver = deliver

    def send(self, data: bytes, target: Any) -> bool:
        if target is None:
            self._world.multicast(data, self._member.index, self._member.side)
        else:
            self._world.to_one(data, self._member.index, target)
        return True

    def close(self) -> None:
        """There is nothing to close."""


class _Roaded:
    """A session behind its roads: what the group brings is noted before it is taken in."""

    def __init__(self, session: Any, group: _Group | None) -> None:
        self._session, self._group = session, group
        self.came = 0  # datagrams, by the group

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def receive_datagram(
        self, data: bytes, source: int, _: float, sample: bool = True, direct: bool = False
    ) -> None:
        if self._group is not None:  # else it has no sockets
            self.came += 1
            self._group.deliver([(data, address_of(source))], sample, direct)


def address_of(index: int) -> tuple[str, int]:
    """Where member `index` sends from: or a leg, or a stranger."""
    return ("10.9.9.9", 30_000 - index) if index < 0 else ("10.0.0.1", 20_000 + index)


def index_of(address: tuple[str, int]) -> int:
    """Who sends from there."""
    return 30_000 - address[1] if address[0] == "10.9.9.9" else address[1] - 20_000


class RoadWorld(World):
    """A world with directories, and members each in a place of its own."""

    def __init__(self, seed: int, **given: Any) -> None:
        super().__init__(seed, **given)
        self.servers: list[Server] = []
        self.carriers: list[Carrier] = []
        self.places: list[str] = []
        self.clocks: list[Clock] = []
        self.tales: list[tuple[int, Any]] = []  # (member, its change of road)
        self._next: tuple[str, Server | None, Line] = SOUND, None, NEAR

    def open_server(self, *, multicast: bool = True) -> Server:
        self.servers.append(Server(self, len(self.servers), multicast))
        return self.servers[-1]

    def move_in(
        self, name: str, place: str, line: Line = NEAR, server: int = 0, **given: Any
    ) -> Member:
        """A member joins in `place`, and its client connects to `server` by `line`."""
        self._next = place, None if place == LONER else self.servers[server], line
        return self.join(name, **given)

    def loners(self) -> int:
        """Those that have entered the room and are no members of the relay."""
        return sum(place == LONER and not member.gone for place, member in self._placed())

    def _placed(self) -> list[tuple[str, Member]]:
        return list(zip(self.places, self.members))

    def furnish(self, member: Member) -> None:
        place, server, line = self._next
        session = member.session
        clock = Clock(self, member)
        roads = Roads(session.sender_id, sockets=place != HUB, always=place == HUB)
        carrier = Carrier(self, member, server, line)
        loop: Any = clock
        group = None if place == HUB else _Group(self, member)
        by_group: Any = group
        transport = carrier.transport = RelayTransport(loop, roads, by_group, carrier)
        roaded: Any = _Roaded(session, group)
        member.session = roaded

        def deliver(burst: Any, sample: bool = True, direct: bool = False) -> None:
            for data, source in burst:
                session.receive_datagram(data, source, clock.now, sample, direct)
            self._pump(member, clock.now)

        def turned() -> None:
            session.solicit()
            self._pump(member, clock.now)

        self.places.append(place)
        self.carriers.append(carrier)
        self.clocks.append(clock)
        transport.tell = lambda event: self.tales.append((member.index, event))
        transport.receive(deliver, nothing)
        transport.turned = turned
        self.at(self.now, carrier.connect)

    # -- what members do -------------------------------------------------------------------------

    def crash(self, member: Member) -> None:
        super().crash(member)
        self.carriers[member.index].transport.close()
        self.carriers[member.index].cut()

    def resume(self, member: Member) -> None:
        super().resume(member)
        if member.running:
            self._awake(member)

    def jump(self, member: Member, seconds: float) -> None:
        super().jump(member, seconds)
        self._awake(member)

    def _awake(self, member: Member) -> None:
        for timer in self.clocks[member.index].timers:
            timer.arm()
        connection = self.carriers[member.index].connection
        if connection is not None:
            connection.down.read()

    # -- the network -----------------------------------------------------------------------------

    def came_by_group(self, member: Member) -> int:
        """How many datagrams the group has brought to `member` so far."""
        roaded: Any = member.session
        return int(roaded.came)

    def hears(self, source: int, index: int) -> bool:
        """Whether the group brings to member `index` what `source` says."""
        place = self.places[index]
        if source <= LEGS:
            return place in HEARING or place == GUEST
        return place in HEARING and (source < 0 or self.places[source] in SPEAKING)

    def _send(self, member: Member, data: bytes, target: Any) -> None:
        if self.cut:
            return
        self.note_sent(member, data, target is not None)
        self.carriers[member.index].transport.send(data, target)

    def reached_by(self, source: int, side: int) -> list[tuple[int, float]]:
        return [one for one in self.ears(side) if self.hears(source, one[0])]

    def multicast(self, data: bytes, source: int, side: int = 0) -> None:
        super().multicast(data, source, side)
        if source >= 0 and self.places[source] not in (*SPEAKING, GUEST):
            return
        for server in self.servers:
            if source == LEGS - server.number or (side, 0) in self.blocked:
                continue
            if self.rng.random() >= server.loss:
                when = self.now + self.rng.uniform(*self.delay)
                self.at(when, lambda _, server=server: server.hear(data, source))

    def to_one(self, data: bytes, source: int, target: tuple[str, int]) -> None:
        """By unicast, from one address to another, past the relay."""
        index = index_of(target)
        sound = (SOUND, DEAF, MUTE, LONER)
        if source >= 0 and self.places[source] not in (*sound, GUEST):
            return
        if index <= LEGS:
            server = self.servers[LEGS - index]
            if self.rng.random() >= server.loss:
                when = self.now + self.rng.uniform(*self.delay)
                self.at(when, lambda _: server.told(data, source))
        elif index >= 0:
            place = self.places[index]
            member = self.members[index]
            if place in sound or (place == GUEST and source <= LEGS):
                if source >= 0 and self.places[source] != GUEST:
                    self._unicast(data, self.members[source], member)
                elif source < 0 and self.rng.random() >= member.loss and not member.deaf:
                    when = self.now + self.rng.uniform(*self.delay)
                    self.at(when, self._arrive_alone, (index, data, source))
        else:
            self.stray[index] = self.stray.get(index, 0) + 1
