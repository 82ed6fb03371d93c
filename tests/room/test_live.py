"""One room live: sessions of the test's own on real sockets (loopback) and on none at all."""

from __future__ import annotations

import errno
import os
import random
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from evloop.base.errors import SetupError
from evloop.net.interfaces import choose_interface
from evloop.net.multicast import MulticastTransport
from evloop.room.events import Fault, Joined, Said, Trouble
from evloop.room.limits import FAULT_PAUSE_S, LEAVE_S
from evloop.room.live import (
    CLOSED,
    LEAVING,
    LiveRoom,
)
from evloop.room.plain import PlainSession
from evloop.room.reliable.session import RoomSession
from evloop.system.loop import Loop

INF = float("inf")


class Session(PlainSession):
    """Says what the test wants said; notes what it hears and when it is called."""

    __slots__ = ("deadline", "heard", "left", "out", "timers")

    def __init__(self, now: float) -> None:
        self.heard: list[tuple[bytes, Any]] = []
        self.out: list[tuple[bytes, object | None]] = []
        self.deadline = INF
        self.timers: list[float] = []
        self.left = False
        super().__init__(
            place="", sender_id=b"x" * 8, nickname="Mel", rng=random.Random(1), now=now
        )

    def receive_datagram(
        self, data: bytes, source: object, now: float, sample: bool = True, direct: bool = False
    ) -> None:
        self.heard.append((data, source))

    def datagrams_to_send(self) -> list[tuple[bytes, object | None]]:
        out, self.out = self.out, []
        return out

    def handle_timer(self, now: float) -> None:
        self.timers.append(now)
        self.deadline = INF

    def next_deadline(self) -> float:
        return self.deadline

    def leave(self, now: float, wall: int) -> None:
        self.left = True


class World:
    def __init__(self) -> None:
        self.time = 50.0
        self.loop = Loop(clock=lambda: self.time)
        self.told: list[Any] = []
        self.pumps = 0
        self.closed = 0
        low, high = os.urandom(2)
        self.place = (f"239.255.{low % 254 + 1}.{high}", 49152 + os.getpid() % 16000)

    def room(self) -> LiveRoom:
        self.transport = MulticastTransport(
            self.loop, *self.place, lambda: choose_interface(self.place[0], "127.0.0.1", None), 1
        )
        self.session = Session(self.loop.now)
        room = LiveRoom(self.loop, self.transport, self.session, lambda: 7.0)
        room.on_events = self.told.extend
        room.on_pump = self._pumped
        room.on_closed = self._closed
        room.start()
        return room

    def _pumped(self) -> None:
        self.pumps += 1

    def _closed(self) -> None:
        self.closed += 1

    def ticks(self, count: int = 3) -> None:
        for _ in range(count):
            self.loop.defer(lambda: None)
            self.loop.tick()


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.loop.close()


def test_what_is_said_is_heard_and_the_source_is_our_own(world: World) -> None:
    room = world.room()
    world.session.out = [(b"hello", None), (b"", None)]
    room.pump()
    world.ticks()
    assert world.session.heard == [
        (b"hello", world.transport.source),
        (b"", world.transport.source),
    ]
    assert world.pumps >= 2


def test_a_lone_datagram_is_read_alone_and_a_burst_is_drained(world: World) -> None:
    room = world.room()
    world.session.out = [(b"%d" % n, None) for n in range(5)]
    room.pump()
    pumps = world.pumps
    world.ticks(1)
    assert [data for data, _ in world.session.heard] == [b"0"]
    world.ticks(1)
    assert [data for data, _ in world.session.heard] == [b"0", b"1", b"2", b"3", b"4"]
    assert world.pumps == pumps + 2
    world.time += 1.0
    world.session.out = [(b"5", None), (b"6", None)]
    room.pump()
    world.ticks(1)
    assert [data for data, _ in world.session.heard][5:] == [b"5"]


def test_a_single_member_is_answered_where_it_sends_from(world: World) -> None:
    room = world.room()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        other.settimeout(5)
        world.session.out = [(b"for you alone", other.getsockname())]
        room.pump()
        data, source = other.recvfrom(100)
        assert data == b"for you alone" and source == world.transport.source
        other.sendto(b"thanks", source)
        world.ticks()
    assert world.session.heard[0][0] == b"thanks"


def test_the_timer_follows_the_session(world: World) -> None:
    room = world.room()
    world.session.deadline = 55.0
    room.pump()
    world.time = 54.9
    world.ticks()
    assert world.session.timers == []
    world.time = 55.1
    world.ticks()
    assert world.session.timers == [55.1]


def test_events_go_up_once(world: World) -> None:
    room = world.room()
    room.session.say("hi", 0.0, 0)
    room.pump()
    room.pump()
    assert [event.text for event in world.told] == ["hi"]


def test_leaving_waits_for_the_goodbyes(world: World) -> None:
    room = world.room()
    world.session.deadline = 50.15
    room.leave()
    assert world.session.left and room.state == LEAVING and world.closed == 0
    world.time = 50.2
    world.ticks()
    assert room.state == CLOSED and world.closed == 1
    room.close()
    room.leave()
    room.pump()
    assert world.closed == 1


def test_leaving_is_bounded_in_time(world: World) -> None:
    room = world.room()
    world.session.deadline = 1e9
    room.leave()
    world.time += LEAVE_S
    world.ticks()
    assert room.state == CLOSED


def test_a_network_that_is_away_is_told_once_and_its_return(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = world.room()

    def lost(transport: MulticastTransport, data: bytes, target: object) -> bool:
        raise OSError(errno.ENETUNREACH, "Network is unreachable")

    monkeypatch.setattr(MulticastTransport, "send", lost)
    for _ in range(3):
        world.session.out = [(b"x", None)]
        room.pump()
    assert world.told == [Trouble("trouble", "Network is unreachable")]
    assert room.send_errors == 3
    monkeypatch.undo()
    world.session.out = [(b"x", None)]
    room.pump()
    assert world.told[1:] == [Trouble("trouble", "", "lo")]


def test_closing_from_inside_an_event_is_fine(world: World) -> None:
    room = world.room()
    room.on_events = lambda events: room.close()
    room.session.say("hi", 0.0, 0)
    room.pump()
    assert room.state == CLOSED and world.closed == 1


def test_closing_at_somebody_who_joins_is_fine(
    monkeypatch: pytest.MonkeyPatch, world: World
) -> None:
    room = world.room()
    room.on_events = lambda events: room.close()
    monkeypatch.setattr(Session, "events", lambda _: [Joined("joined", b"a" * 8, "Ann")])
    room.pump()
    assert room.state == CLOSED and world.closed == 1


def _raise_in(
    monkeypatch: pytest.MonkeyPatch, world: World, name: str, when: Callable[..., bool]
) -> list[bool]:
    """`name` of a session raises `when` it is called so, as long as [True] is returned so.
    Nothing of it may leave the room."""
    world.loop.on_error = lambda origin, error: pytest.fail(f"{error!r} left the room")
    true = getattr(Session, name)
    on = [True]

    def planted(session: Session, *arguments: Any) -> Any:
        if on[0] and when(*arguments):
            raise ZeroDivisionError("planted")
        return true(session, *arguments)

    monkeypatch.setattr(Session, name, planted)
    return on


PLANTED = Fault("fault", "ZeroDivisionError: planted")


def test_a_bug_at_one_datagram_loses_no_other_and_is_told_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    _raise_in(monkeypatch, world, "receive_datagram", lambda data, *_: data == b"two")
    room = world.room()
    for _ in range(3):
        world.session.out = [(b"one", None), (b"two", None), (b"three", None)]
        room.pump()
        world.ticks(6)
    assert [data for data, _ in world.session.heard] == [b"one", b"three"] * 3
    assert room.stats()["faults"] == 3
    assert world.told == [PLANTED]
    room.close()


@pytest.mark.parametrize("name", ["handle_timer", "datagrams_to_send", "events", "next_deadline"])
def test_a_session_that_raises_rests_and_goes_on(
    world: World, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    on = _raise_in(monkeypatch, world, name, lambda *_: True)
    room = world.room()
    world.session.deadline = world.time
    room.pump()
    world.ticks(50)
    assert 1 <= room.faults <= 6  # not at each tick
    assert world.told == [PLANTED]
    world.time += FAULT_PAUSE_S
    before = room.faults
    world.ticks(5)
    assert room.faults > before  # it comes again, but not at once
    on[0] = False
    world.time += FAULT_PAUSE_S
    world.ticks(5)
    world.session.out = [(b"hello", None)]
    room.pump()
    world.ticks()
    assert [data for data, _ in world.session.heard] == [b"hello"]
    room.close()


def test_who_is_told_may_raise(world: World) -> None:
    world.loop.on_error = lambda origin, error: pytest.fail(f"{error!r} left the room")
    room = world.room()
    seen: list[str] = []

    def told(events: list[Any]) -> None:
        for event in events:
            if event.what == "fault" or event.text == "2":
                raise ZeroDivisionError("the screen")
            seen.append(event.text)

    room.on_events = told
    for n in range(4):
        said = Said("message", b"", n, "Ann", 0, str(n), 0, "", False)
        world.session.pending.append(said)
    world.session.deadline = world.time + 5.0
    room.pump()
    assert seen == ["0", "1", "3"]
    assert room.faults == 2
    world.time += 6.0
    world.ticks()
    assert world.session.timers == [world.time]  # the timer was set, although the screen failed

    def pumped() -> None:
        raise ZeroDivisionError("the program")

    room.on_pump = pumped
    room.pump()
    assert room.faults >= 3
    room.close()


def test_an_error_of_our_own_is_no_bug(world: World) -> None:
    """A pipe that was closed, a setting that cannot be: the program is told, as ever."""
    judged: list[Exception] = []
    world.loop.on_error = lambda origin, error: judged.append(error)
    room = world.room()

    def told(events: list[Any]) -> None:
        raise SetupError("stdout is closed", 1)

    room.on_events = told
    world.session.pending.append(Trouble("trouble", "planted"))
    room.pump()
    assert [str(error) for error in judged] == ["stdout is closed"]
    assert room.faults == 0
    room.close()


def test_sockets_that_are_opened_anew_are_heard_and_sent_from(world: World) -> None:
    room = world.room()
    before = world.transport.source
    room.reopen()
    assert world.transport.source != before
    world.session.out = [(b"hello", None)]
    room.pump()
    world.ticks()
    assert world.session.heard == [(b"hello", world.transport.source)]


def test_sockets_that_cannot_be_opened_anew_stay(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = world.room()
    before = world.transport.source

    def refused(*arguments: object) -> None:
        raise SetupError("no such interface", 1)

    monkeypatch.setattr("evloop.net.multicast.open_sender", refused)
    with pytest.raises(SetupError):
        room.reopen()
    monkeypatch.undo()
    world.session.out = [(b"hello", None)]
    room.pump()
    world.ticks()
    assert world.session.heard == [(b"hello", before)]


def test_what_the_kernel_has_no_room_for_goes_when_there_is(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = world.room()
    full = [True]
    true_send = MulticastTransport.send

    def send(transport: MulticastTransport, data: bytes, target: object) -> bool:
        if full[0]:
            transport.watches[1].want_write(True)
            return False
        return true_send(transport, data, target)

    monkeypatch.setattr(MulticastTransport, "send", send)
    world.session.out = [(b"first", None), (b"second", None)]
    room.pump()
    world.ticks(1)
    assert world.session.heard == []
    full[0] = False
    room.pump()
    world.ticks()
    assert [data for data, _ in world.session.heard] == [b"first", b"second"]


# -- no sockets, no terminal -----------------------------------------------------------------------


class Ether:
    """The air of a room in memory: who is on it hears everybody, himself too, in the next tick."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.ears: list[InMemory] = []
        self.carried = 0


class InMemory:
    """One member's transport on an `Ether`."""

    echoes = True

    def __init__(self, ether: Ether) -> None:
        self.source: object = object()
        self._ether = ether
        self._deliver: Any = None
        self.closed = False
        ether.ears.append(self)

    def receive(self, deliver: Any, ready: Any) -> None:
        self._deliver = deliver

    def send(self, data: bytes, target: Any) -> bool:
        ether = self._ether
        ether.carried += 1
        for ear in ether.ears:
            if target is None or ear.source is target:
                ether.loop.defer(lambda ear=ear: ear.hear(data, self.source))  # type: ignore[misc]
        return True

    def hear(self, data: bytes, source: object) -> None:
        if not self.closed:
            self._deliver([(data, source)])

    def leave(self) -> None: ...

    def join(self) -> None: ...

    def reopen(self, interface: object = None) -> None: ...

    def move(self, address: str, port: int, choose: Callable[[], Any]) -> None: ...

    def close(self) -> None:
        self.closed = True

    def describe(self) -> str:
        return "memory"

    def stats(self) -> dict[str, int]:
        return {"carried": self._ether.carried}


def test_two_members_talk_without_sockets_and_without_a_terminal(world: World) -> None:
    """What a relay, a keeper or a door to other chats is: a room, a transport, a listener."""
    ether = Ether(world.loop)
    heard: dict[str, list[Any]] = {"Ann": [], "Bob": []}
    rooms = {}
    for number, name in enumerate(heard):
        session = RoomSession(
            place="nowhere",
            sender_id=bytes([number + 1]) * 8,
            nickname=name,
            rng=random.Random(number),
            now=world.time,
        )
        rooms[name] = room = LiveRoom(world.loop, InMemory(ether), session, lambda: 7.0)
        room.on_events = heard[name].extend
        room.on_closed = world._closed
        room.start()
    rooms["Ann"].say("Good morning!", 0)
    for _ in range(20):
        world.time += 0.1
        world.ticks(2)
    rooms["Bob"].leave()
    for _ in range(10):
        world.time += 0.1
        world.ticks(2)
    assert [e.name for e in heard["Bob"] if isinstance(e, Joined)] == ["Ann"]
    assert [(e.name, e.text) for e in heard["Bob"] if isinstance(e, Said)] == [
        ("Ann", "Good morning!")
    ]
    assert [(e.what, e.name) for e in heard["Ann"]] == [
        ("message", "Ann"), ("joined", "Bob"), ("left", "Bob"),
    ]  # fmt: skip
    assert rooms["Bob"].state == CLOSED and world.closed == 1
    assert rooms["Ann"].stats()["carried"] == ether.carried > 2
