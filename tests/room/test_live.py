"""One room live: a session of the test's own on real sockets, on loopback."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from evloop.room.limits import FAULT_REST_S, LEAVE_S
from evloop.room.live import (
    CLOSED,
    LEAVING,
    LiveRoom,
)
from evloop.room.plain import PlainSession
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

    def receive_datagram(self, data: bytes, source: object, now: float) -> None:
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
        self.told: list[tuple[Any, ...]] = []
        self.pumps = 0
        self.closed = 0
        low, high = os.urandom(2)
        self.place = (f"239.255.{low % 254 + 1}.{high}", 49152 + os.getpid() % 16000)

    def room(self) -> LiveRoom:
        room = LiveRoom(
            self.loop,
            *self.place,
            make_session=self._session,
            interface="127.0.0.1",
            directory=None,
            ttl=1,
            wall=lambda: 7.0,
            on_events=self.told.extend,
        )
        room.on_pump = self._pumped
        room.on_closed = self._closed
        return room

    def _session(self, own_source: object) -> Session:
        self.own_source = own_source
        self.session = Session(self.loop.now)
        return self.session

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
    assert world.session.heard == [(b"hello", world.own_source), (b"", world.own_source)]
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
        assert data == b"for you alone" and source == world.own_source
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
    assert [event[5] for event in world.told] == ["hi"]


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
    group = room._group
    room._group = ("127.0.0.1", 0)  # EINVAL: port 0 cannot be sent to
    for _ in range(3):
        world.session.out = [(b"x", None)]
        room.pump()
    assert [event[0] for event in world.told] == ["trouble"] and world.told[0][1]
    assert room.send_errors == 3
    room._group = group
    world.session.out = [(b"x", None)]
    room.pump()
    assert world.told[1:] == [("trouble", "")]


def test_closing_from_inside_an_event_is_fine(world: World) -> None:
    room = world.room()
    room._on_events = lambda events: room.close()
    room.session.say("hi", 0.0, 0)
    room.pump()
    assert room.state == CLOSED and world.closed == 1


# -- containment -----------------------------------------------------------------------------------


class Raising(Session):
    """Raises where the test says, as a bug would."""

    __slots__ = ("raises",)

    def _may_raise(self, where: str) -> None:
        if where in self.raises:
            raise OverflowError(where)

    def receive_datagram(self, data: bytes, source: object, now: float) -> None:
        if data == b"bad":
            raise OverflowError("bad")
        super().receive_datagram(data, source, now)

    def handle_timer(self, now: float) -> None:
        self.timers.append(now)
        self._may_raise("handle_timer")

    def datagrams_to_send(self) -> list[tuple[bytes, object | None]]:
        self._may_raise("datagrams_to_send")
        return super().datagrams_to_send()

    def events(self) -> list[tuple[Any, ...]]:
        self._may_raise("events")
        return super().events()

    def next_deadline(self) -> float:
        self._may_raise("next_deadline")
        return super().next_deadline()


class Faulty(World):
    def _session(self, own_source: object) -> Session:
        self.own_source = own_source
        self.session = session = Raising(self.loop.now)
        session.raises = set[str]()
        return session


@pytest.fixture
def faulty() -> Iterator[Faulty]:
    world = Faulty()
    yield world
    world.loop.close()


def test_a_datagram_that_raises_is_dropped_and_told_of_once(faulty: Faulty) -> None:
    room = faulty.room()
    for _ in range(3):
        faulty.session.out = [(b"good", None), (b"bad", None), (b"good", None)]
        room.pump()
        faulty.ticks(6)
    assert [data for data, _ in faulty.session.heard] == [b"good"] * 6
    assert room.stats()["faults"] == room.faults == 3
    assert faulty.told == [("fault", "OverflowError: bad")]


@pytest.mark.parametrize("where", ["handle_timer", "datagrams_to_send", "events", "next_deadline"])
def test_a_session_that_raises_rests_and_goes_on(faulty: Faulty, where: str) -> None:
    room = faulty.room()
    faulty.session.raises = {where}
    faulty.session.deadline = faulty.time
    room.pump()
    faulty.ticks(50)
    assert 1 <= room.faults <= 8  # not at each tick
    assert faulty.told == [("fault", f"OverflowError: {where}")]
    faulty.session.raises = set()
    faulty.session.deadline = INF
    faulty.time += FAULT_REST_S
    faulty.ticks()
    faulty.session.out = [(b"hello", None)]
    room.pump()
    faulty.ticks()
    assert (b"hello", faulty.own_source) in faulty.session.heard
    assert room.state != CLOSED


def test_who_is_told_may_raise(faulty: Faulty) -> None:
    room = faulty.room()
    seen: list[Any] = []

    def told(events: list[tuple[Any, ...]]) -> None:
        for event in events:
            if event[0] == "fault":
                raise ValueError("the screen is broken, too")
            if event[5] == "2":
                raise OverflowError("not that one")
            seen.append(event[5])

    room._on_events = told
    for n in range(4):
        faulty.session._keep(b"", "Ann", 0, str(n), 0)
    room.pump()
    assert seen == ["0", "1", "3"]
    assert room.faults == 2

    def pumped() -> None:
        raise OverflowError

    room.on_pump = pumped
    room.pump()
    assert room.faults == 3
