"""Sealed rooms on real sockets, on 127.0.0.1: a talk, and a recorder that repeats it."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import pytest

from evloop.net.interfaces import Interface
from evloop.net.multicast import MulticastTransport, open_receiver, open_sender, receive
from evloop.room.live import LiveRoom
from evloop.room.reliable.packets import RELAYED
from evloop.room.reliable.session import RoomSession
from evloop.system.loop import Loop

LOOPBACK = Interface(socket.if_nametoindex("lo"), "lo", "127.0.0.1")
# Of this process alone: another run of the tests on this machine must not be heard.
GROUP = f"239.255.78.{1 + os.getpid() % 250}"
PORT = 15_752
KEY = bytes(range(32))
DONE_S = 20.0


def transport(loop: Loop) -> MulticastTransport:
    return MulticastTransport(loop, GROUP, PORT, lambda: LOOPBACK, 1)


class House:
    """Members in one loop, and a recorder that hears what they send to the group."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.rooms: list[LiveRoom] = []
        self.recorder = open_receiver(GROUP, PORT, LOOPBACK)
        self.replayer = open_sender(GROUP, PORT, LOOPBACK, 1)
        self.events: dict[str, list[Any]] = {}

    def join(self, name: str, key: bytes = KEY) -> LiveRoom:
        session = RoomSession(
            place=f"{GROUP}:{PORT}", sender_id=os.urandom(8), nickname=name,
            rng=Random(os.urandom(8)), now=self.loop.now, key=key,
        )  # fmt: skip
        room = LiveRoom(self.loop, transport(self.loop), session, time.time)
        events = self.events[name] = []
        room.on_events = events.extend
        room.start()
        self.rooms.append(room)
        return room

    def until(self, done: Callable[[], object]) -> None:
        """Let the loop turn until `done`."""
        late = self.loop.now + DONE_S
        while not done():
            assert self.loop.now < late
            self.loop.defer(lambda: None)
            self.loop.tick()

    def texts(self, name: str) -> list[str]:
        return [event.text for event in self.events[name] if event.what == "message"]

    def joined(self, name: str) -> list[str]:
        return [event.name for event in self.events[name] if event.what == "joined"]

    def recorded(self) -> list[bytes]:
        tape: list[bytes] = []
        while burst := receive(self.recorder):
            tape += [data for data, _ in burst]
        return tape

    def close(self) -> None:
        for room in self.rooms:
            room.close()
        self.loop.close()
        self.recorder.close()
        self.replayer.close()


@pytest.fixture
def house() -> Iterator[House]:
    house = House()
    yield house
    house.close()


def test_what_comes_to_the_sending_socket_is_direct(house: House) -> None:
    one, other = transport(house.loop), transport(house.loop)
    heard: list[tuple[bytes, bool]] = []

    def deliver(burst: list[tuple[bytes, Any]], sample: bool, direct: bool) -> None:
        assert sample
        heard.extend((data, direct) for data, _ in burst)

    other.receive(deliver, lambda: None)
    try:
        one.send(b"to all", None)
        one.send(b"to one", other.source)
        house.until(lambda: len(heard) == 2)
        assert sorted(heard) == [(b"to all", False), (b"to one", True)]
    finally:
        one.close()
        other.close()


def test_a_talk_is_recorded_and_repeated_in_vain(house: House) -> None:
    ann, bob = house.join("Ann"), house.join("Bob")
    house.until(lambda: house.joined("Ann") == ["Bob"] and house.joined("Bob") == ["Ann"])
    for number in range(5):
        (ann, bob)[number % 2].say(f"secret {number}", 0)
    house.until(lambda: len(house.texts("Ann")) == len(house.texts("Bob")) == 5)
    assert all(event.verified for event in house.events["Bob"] if event.what == "message")
    for room in (ann, bob):
        room.leave()
    house.until(lambda: house.rooms[0].state == house.rooms[1].state == 2)
    tape = house.recorded()
    assert len(tape) > 10
    assert not any(word in data for data in tape for word in (b"secret", b"Ann", b"Bob"))

    zoe, eve = house.join("Zoe"), house.join("Eve", b"")
    where: Any = zoe.transport.source
    repeated = 0
    for data in tape:
        house.replayer.sendto(data, (GROUP, PORT))
        house.replayer.sendto(data, where)
        house.replayer.sendto(data[:3] + bytes([data[3] | RELAYED]) + data[4:], where)
        repeated += 3
        house.loop.defer(lambda: None)
        house.loop.tick()

    def counted() -> int:
        stats = zoe.session.stats()
        return sum(stats["dropped_" + why] for why in ("direct", "unproven", "replayed"))

    house.until(lambda: counted() >= repeated * 0.5)  # DATA waits
    assert (house.texts("Zoe"), house.joined("Zoe")) == ([], [])
    assert (house.texts("Eve"), house.joined("Eve")) == ([], [])
    assert eve.session.stats()["dropped_key"] > 0
