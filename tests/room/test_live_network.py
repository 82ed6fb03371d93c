"""What a LiveRoom does when the network changes below it: a transport that notes, a fake clock."""

from __future__ import annotations

import errno
import random
from collections.abc import Iterator
from typing import Any

import pytest

from evloop.base.errors import SetupError
from evloop.net.interfaces import Chooser
from evloop.net.links import LOOPBACK, MULTICAST, RUNNING, UP, Interface, Link, Own
from evloop.room.attachment import Attachment
from evloop.room.events import Blocked, Deaf, Joined, Left, Trouble
from evloop.room.limits import (
    DEAF_AGAIN_S,
    NETWORK_GONE_S,
    OWN_BACK_S,
    OWN_LOST_MAX,
    REJOIN_GAP_S,
    REOPEN_AGAIN_S,
    SEND_FAILS_S,
)
from evloop.room.live import LiveRoom
from evloop.room.plain import PlainSession
from evloop.system.loop import Loop

LO = Link(1, "lo", UP | LOOPBACK | RUNNING, (Own("127.0.0.1", 8, False),), 1)
ETH0 = Link(2, "eth0", UP | RUNNING | MULTICAST, (Own("192.0.2.2", 24, False),), 1)
DEAD = ETH0._replace(flags=UP | MULTICAST)
MOVED = ETH0._replace(addresses=(Own("192.0.2.50", 24, False),))


class Session(PlainSession):
    """Says what the test wants said, and notes when it is told to ask."""

    __slots__ = ("asked", "others", "repairs")

    def __init__(self, now: float, repairs: bool) -> None:
        self.asked = 0
        self.others: list[tuple[bytes, str, float]] = []
        self.repairs = repairs
        super().__init__(
            place="", sender_id=b"x" * 8, nickname="Mel", rng=random.Random(1), now=now
        )

    def solicit(self) -> None:
        self.asked += 1

    def members(self, now: float) -> list[tuple[bytes, str, float]]:
        return [*super().members(now), *self.others]


class Transport:
    """Notes what it is told to do. `error`: what `send` and the others raise."""

    echoes = True
    source = ("192.0.2.2", 5)

    def __init__(self) -> None:
        self.did: list[Any] = []
        self.sent: list[bytes] = []
        self.error: Exception | None = None
        self.deliver: Any = None

    def receive(self, deliver: Any, ready: Any) -> None:
        self.deliver = deliver

    def send(self, data: bytes, target: Any) -> bool:
        if self.error is not None:
            raise self.error
        self.sent.append(data)
        return True

    def _note(self, what: Any) -> None:
        if self.error is not None:
            raise self.error
        self.did.append(what)

    def leave(self) -> None:
        self._note("leave")

    def join(self) -> None:
        self._note("join")

    def reopen(self, interface: Interface | None = None) -> None:
        self._note(interface)

    def move(self, address: str, port: int, choose: Any) -> None: ...

    def close(self) -> None: ...

    def describe(self) -> str:
        return "eth0"

    def stats(self) -> dict[str, int]:
        return {}


class World:
    def __init__(self) -> None:
        self.time = 50.0
        self.loop = Loop(clock=lambda: self.time)
        self.told: list[Any] = []

    def room(self, *links: Link, repairs: bool = True) -> LiveRoom:
        self.transport = Transport()
        self.session = Session(self.time, repairs)
        choose = Chooser("239.255.7.1", None, lambda: None)
        attachment = Attachment(choose(links), links, choose, fixed=False)
        room = LiveRoom(self.loop, self.transport, self.session, lambda: 7.0, attachment)
        room.on_events = self.told.extend
        room.start()
        return room

    def wait(self, seconds: float) -> None:
        self.time += seconds
        for _ in range(3):
            self.loop.defer(lambda: None)
            self.loop.tick()

    def happens(self, room: LiveRoom, *events: Any) -> None:
        self.session.pending += events
        room.pump()
        self.wait(0.0)


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.loop.close()


def test_a_carrier_is_lost_and_back(world: World) -> None:
    room = world.room(LO, ETH0)
    assert room.where == "eth0, 192.0.2.2"
    assert room.way() == {"interface": "eth0", "address": "192.0.2.2"}
    for epoch in (2, 3):
        world.told.clear()
        room.network_changed((LO, DEAD._replace(epoch=epoch - 1)))
        world.wait(NETWORK_GONE_S / 2)
        room.say("into the void", 0)  # which succeeds
        assert world.told == [] or world.told[-1].what == "message"
        world.told.clear()
        world.wait(NETWORK_GONE_S / 2)
        assert world.told == [Trouble("trouble", "eth0 has no carrier")]
        room.say("once more", 0)
        assert room.trouble, "that it was sent proves nothing"
        world.told.clear()
        world.transport.did.clear()
        asked = world.session.asked
        room.network_changed((LO, ETH0._replace(epoch=epoch)))
        assert world.transport.did == ["leave"]
        world.wait(REJOIN_GAP_S)
        assert world.transport.did == ["leave", "join"]
        assert world.session.asked == asked + 1
        assert Trouble("trouble", "", "eth0, 192.0.2.2") in world.told


def test_a_short_loss_is_not_worth_a_word(world: World) -> None:
    room = world.room(LO, ETH0)
    room.network_changed((LO, DEAD))
    world.wait(NETWORK_GONE_S / 2)
    room.network_changed((LO, ETH0._replace(epoch=2)))
    world.wait(REJOIN_GAP_S)
    assert world.transport.did == ["leave", "join"] and world.told == []


def test_another_address_is_another_socket_and_is_told(world: World) -> None:
    room = world.room(LO, ETH0)
    room.network_changed((LO, MOVED))
    assert world.transport.did == [Interface(2, "eth0", "192.0.2.50")]
    assert world.told == [Trouble("trouble", "", "eth0, 192.0.2.50")]
    assert world.session.asked == 1


def test_sockets_that_cannot_be_had_are_tried_again(world: World) -> None:
    room = world.room(LO, ETH0)
    world.transport.error = SetupError("another program holds port 5751", 1)
    room.network_changed((LO, MOVED))
    assert world.told == [Trouble("trouble", "another program holds port 5751")]
    world.wait(REOPEN_AGAIN_S)
    assert world.transport.did == []
    world.transport.error = None
    world.wait(REOPEN_AGAIN_S)
    assert world.transport.did == [Interface(2, "eth0", "192.0.2.50")]
    assert world.told[-1] == Trouble("trouble", "", "eth0, 192.0.2.50")


def test_a_group_that_cannot_be_joined_again_is_opened_anew(world: World) -> None:
    room = world.room(LO, ETH0)
    room.network_changed((LO, ETH0._replace(epoch=2)))
    world.transport.error = OSError(errno.ENODEV, "No such device")
    world.wait(REJOIN_GAP_S)
    world.transport.error = None
    world.wait(REOPEN_AGAIN_S)
    assert world.transport.did[0] == "leave" and world.transport.did[1:], "and then it is tried"
    assert not room.trouble


def test_what_the_network_refuses_is_told_when_it_lasts(world: World) -> None:
    room = world.room(LO, ETH0)
    world.transport.error = OSError(errno.ENETUNREACH, "Network is unreachable")
    room.say("1", 0)
    assert Trouble("trouble", "Network is unreachable") not in world.told
    world.wait(SEND_FAILS_S)
    room.say("2", 0)
    assert Trouble("trouble", "Network is unreachable") in world.told
    world.transport.error = OSError(errno.EPERM, "Operation not permitted")
    world.transport.error = None
    room.say("3", 0)
    assert world.told[-1].what == "message" and not room.trouble


def test_what_a_firewall_refuses_is_told_at_once(world: World) -> None:
    room = world.room(LO, ETH0)
    world.transport.error = OSError(errno.EPERM, "Operation not permitted")
    room.say("1", 0)
    assert Trouble("trouble", "Operation not permitted") in world.told


def test_what_nobody_would_repair_waits_for_the_network(world: World) -> None:
    room = world.room(LO, ETH0, repairs=False)
    room.network_changed((LO, DEAD))
    for text in ("1", "2"):
        room.say(text, 0)
    world.wait(NETWORK_GONE_S)
    assert world.transport.sent == []
    room.network_changed((LO, ETH0._replace(epoch=2)))
    world.wait(REJOIN_GAP_S)
    world.wait(1.0)
    assert world.transport.sent == [b"Mel: 1", b"Mel: 2"]
    # And so does what was refused before the table told why.
    world.transport.error = OSError(errno.ENETUNREACH, "Network is unreachable")
    room.say("3", 0)
    world.wait(REOPEN_AGAIN_S)
    world.transport.error = None
    world.wait(REOPEN_AGAIN_S)
    assert world.transport.sent == [b"Mel: 1", b"Mel: 2", b"Mel: 3"]


def test_when_everybody_fell_silent_the_group_is_joined_anew(world: World) -> None:
    room = world.room(LO, ETH0)
    world.session.others = [(b"y" * 8, "Ann", 0.0)]
    world.happens(room, Left("left", b"z" * 8, "Bob", "silent"))
    assert world.transport.did == []  # Ann is heard still
    world.session.others = []
    world.happens(room, Left("left", b"y" * 8, "Ann", "bye"))
    assert world.transport.did == []  # said goodbye
    world.happens(room, Left("left", b"y" * 8, "Ann", "silent"))
    assert world.transport.did == ["leave"]
    world.wait(REJOIN_GAP_S)
    for times in (2, 3):
        world.wait(DEAF_AGAIN_S)
        assert world.told[-1] == Deaf("deaf", times)
        world.wait(REJOIN_GAP_S)
    assert world.transport.did == ["leave", "join"] * 3
    world.happens(room, Joined("joined", b"y" * 8, "Ann"))
    world.wait(2 * DEAF_AGAIN_S)
    assert world.transport.did == ["leave", "join"] * 3


def test_who_is_alone_by_the_directory_stops(world: World) -> None:
    room = world.room(LO, ETH0)
    room.rejoin()
    world.wait(REJOIN_GAP_S)
    room.give_up()
    world.wait(2 * DEAF_AGAIN_S)
    assert world.transport.did == ["leave", "join"]


def test_own_datagrams_that_do_not_come_back(world: World) -> None:
    room = world.room(LO, ETH0)
    for number in range(2 * OWN_LOST_MAX + 2):
        room.say(str(number), 0)
        world.wait(OWN_BACK_S + 0.1)
    blocked = [event for event in world.told if event.what == "blocked"]
    assert blocked == [Blocked("blocked", OWN_LOST_MAX)]  # once a room


def test_own_datagrams_that_come_back_late_or_are_lost_once(world: World) -> None:
    room = world.room(LO, ETH0)
    for number in range(4 * OWN_LOST_MAX):
        room.say(str(number), 0)
        world.wait(OWN_BACK_S + 0.1)
        if number % OWN_LOST_MAX == OWN_LOST_MAX - 1:
            world.transport.deliver([(b"", world.transport.source)])
    assert [event for event in world.told if event.what == "blocked"] == []


def test_loopback_is_said_and_left(world: World) -> None:
    room = world.room(LO)
    assert room.where == "only this machine: no network"
    room.network_changed((LO, ETH0))
    assert world.told == [Trouble("trouble", "", "eth0, 192.0.2.2")]


def test_a_room_that_is_left_follows_nothing(world: World) -> None:
    room = world.room(LO, ETH0)
    room.close()
    room.network_changed((LO, MOVED))
    room.rejoin()
    world.wait(100.0)
    assert world.transport.did == []


def test_what_a_firewall_refuses_is_not_mended_by_a_change_of_the_network(world: World) -> None:
    room = world.room(LO, ETH0)
    world.transport.error = OSError(errno.EPERM, "Operation not permitted")
    room.say("1", 0)
    world.told.clear()
    room.network_changed((LO, ETH0, ETH0._replace(ifindex=3, name="eth1")))
    assert world.told == [] and room.trouble


def test_another_address_after_a_carrier_was_lost_is_joined_anew(world: World) -> None:
    room = world.room(LO, ETH0)
    room.network_changed((LO, DEAD))
    room.network_changed((LO, MOVED._replace(epoch=2)))
    assert world.transport.did == [Interface(2, "eth0", "192.0.2.50"), "leave"]
    world.wait(REJOIN_GAP_S)
    assert world.transport.did[2:] == ["join"]
