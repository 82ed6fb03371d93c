"""A door without sockets: a clock that is set by hand, rooms that are played, clients in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from evloop.base.errors import UNREACHABLE, EvloopError, Refused
from evloop.base.names import fold
from evloop.directory.protocol import RoomEntry
from evloop.irc.person import Client, Person
from evloop.irc.seat import Seat
from evloop.irc.state import Door
from evloop.room.events import NO_SEQ, TEXT, Joined, Left, Renamed, Said
from evloop.system.timers import Timers

START_WALL = 1_790_000_000.0  # 2026-09-21T14:13:20Z


class Wire:
    """The connection of a client: what it was sent."""

    def __init__(self) -> None:
        self.data = b""
        self.closed = ""
        self.idles = 0

    def send(self, data: bytes) -> None:
        assert data.endswith(b"\r\n")
        self.data += data

    def close(self, why: str) -> None:
        self.closed = why or "closed"

    def idle(self) -> None:
        self.idles += 1

    def take(self) -> list[str]:
        """The lines that came since the last call."""
        data, self.data = self.data, b""
        return data.decode().split("\r\n")[:-1]


class PlayedSession:
    """What the door sees of a session; a test plays the others."""

    def __init__(self, sender_id: bytes, nickname: str) -> None:
        self.sender_id = sender_id
        self.nickname = nickname
        self.said: list[tuple[str, int]] = []
        self.kept: list[Said] = []  # the history, in its order
        self.whole = True

    def history(self, count: int) -> list[Said]:
        return self.kept[-count:] if count else []

    def caught_up(self) -> bool:
        return self.whole

    def queued(self) -> int:
        return 0


class PlayedRoom:
    """A room live, without sockets."""

    def __init__(self, world: World, name: str, session: PlayedSession) -> None:
        self.world = world
        self.name = name
        self.session = session
        self.on_events: Callable[[list[Any]], object] = lambda events: None
        self.on_pump: Callable[[], object] = lambda: None
        self.refuses: Refused | None = None
        self.started = self.is_left = False
        self._seqs: dict[bytes, int] = {}

    def start(self) -> None:
        self.started = True

    def say(self, text: str, kind: int) -> None:
        if self.refuses is not None:
            raise self.refuses
        self.session.said.append((text, kind))
        self.heard(self.session.sender_id, self.session.nickname, text, kind)

    def rename(self, nickname: str) -> None:
        self.session.nickname = nickname
        self.world.renames.append((self.name, nickname))

    def leave(self) -> None:
        self.is_left = True

    # -- what a test plays -----------------------------------------------------------------------

    def happen(self, *events: Any) -> None:
        self.on_events(list(events))
        self.on_pump()

    def joins(self, sender: bytes, name: str) -> None:
        self.happen(Joined("joined", sender, name))

    def leaves(self, sender: bytes, name: str, why: str = "bye") -> None:
        self.happen(Left("left", sender, name, why))

    def renames(self, sender: bytes, old: str, name: str) -> None:
        self.happen(Renamed("renamed", sender, old, name))

    def heard(
        self,
        sender: bytes,
        name: str,
        text: str,
        kind: int = TEXT,
        *,
        mark: str = "",
        wall: int = 0,
    ) -> Said:
        seq = self._seqs.get(sender, 0)
        self._seqs[sender] = seq + 1
        wall = wall or int(self.world.wall())
        event = Said(
            "message", sender, seq if sender else NO_SEQ, name, kind, text, wall, mark, False
        )
        if mark != "plain":
            self.session.kept.append(event)
        self.happen(event)
        return event


class World:
    """The door, and what is outside of it."""

    def __init__(self, **options: Any) -> None:
        self.now = 100.0
        self.timers = Timers()
        self.rooms: dict[str, RoomEntry] = {}
        self.live: list[PlayedRoom] = []
        self.renames: list[tuple[str, str]] = []
        self.left_rooms: list[tuple[str, str]] = []
        self.delayed: list[Callable[[], object]] | None = None  # a list: answers wait in it
        self.refuses: EvloopError | None = None
        self.makes = True
        self.heard_in: list[str] = []  # rooms in which somebody else was first heard
        self.kept: dict[str, Any] = {}  # room: what the directory keeps of it
        self._ids = 0
        self.door = Door(
            self,
            clock=lambda: self.now,
            wall=self.wall,
            call_at=self._call_at,
            hhmm=lambda ms: f"{ms // 3_600_000 % 24:02}:{ms // 60_000 % 60:02}",
            version="0",
            **options,
        )

    def wall(self) -> float:
        return START_WALL + self.now - 100.0

    def _call_at(self, when: float, fn: Callable[[], object]) -> Any:
        from evloop.system.timers import Timer

        timer = Timer(self.timers, fn)
        timer.move(when)
        return timer

    def pass_time(self, seconds: float) -> None:
        """Let time pass; every timer runs at its own moment."""
        from collections import deque

        end = self.now + seconds
        while self.timers.next_deadline() <= end:
            self.now = max(self.now, self.timers.next_deadline())
            due: deque[Any] = deque()
            self.timers.take_due(self.now, due)
            for timer in due:
                timer.fire(self.now)
        self.now = end

    # -- what the door asks of the world ---------------------------------------------------------

    def enter(self, person: Person, name: str, key: str, done: Any) -> None:
        def answer() -> None:
            if self.refuses is not None:
                done(None, self.refuses)
                return
            entry = self.rooms.get(fold(name))
            if entry is None:
                if not self.makes:
                    done(None, Refused(3, "no_such_room", f'there is no room "{name}"'))
                    return
                entry = RoomEntry(name, "239.255.7.1", 5751, "reliable", 1_780_000_000)
                self.rooms[fold(name)] = entry
            self._ids += 1
            sender = bytes([self._ids]) * 8
            room = PlayedRoom(self, entry.name, PlayedSession(sender, person.nick))
            self.live.append(room)
            done((entry, room, True, self.kept.get(entry.name)), None)

        if self.delayed is None:
            answer()
        else:
            self.delayed.append(answer)

    def left(self, person: Person, seat: Seat) -> None:
        self.left_rooms.append((person.nick, seat.entry.name))
        seat.room.leave()

    def heard(self, seat: Seat) -> None:
        self.heard_in.append(seat.entry.name)

    def list_rooms(self, done: Any) -> None:
        if self.refuses is not None:
            done([], self.refuses)
        else:
            done([(room, 3) for room in self.rooms.values()], None)

    # -- for tests -------------------------------------------------------------------------------

    def connect(self) -> User:
        return User(self, self.door.connected(Wire()))

    def user(self, nick: str, *caps: str, user: str = "") -> User:
        """A registered client."""
        one = self.connect()
        if caps:
            one.say(f"CAP REQ :{' '.join(caps)}")
        one.say(f"NICK {nick}", f"USER {user or nick.lower()} 0 * :{nick} Real")
        if caps:
            one.say("CAP END")
        assert one.client.person is not None, one.take()
        one.take()
        return one

    def room(self, name: str = "lab", which: int = -1) -> PlayedRoom:
        """The room in which the door's member that entered last (or number `which`) is."""
        return [room for room in self.live if room.name == name][which]


class User:
    """An IRC client without a program."""

    def __init__(self, world: World, client: Client) -> None:
        self.world = world
        self.client = client
        assert isinstance(client.wire, Wire)
        self.wire = client.wire

    def say(self, *lines: str) -> None:
        for line in lines:
            self.world.door.line(self.client, line.encode())

    def take(self) -> list[str]:
        return self.wire.take()

    def ask(self, *lines: str) -> list[str]:
        """Say `lines`; what is answered."""
        self.take()
        self.say(*lines)
        return self.take()

    def join(self, name: str = "lab") -> PlayedRoom:
        """Enter a room, and wait until it is open."""
        self.say(f"JOIN #{name}")
        self.world.pass_time(0.5)
        self.take()
        return self.world.room(name)


class Away(EvloopError):
    """As when the directory is away."""

    exit_status = UNREACHABLE
