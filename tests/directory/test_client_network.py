"""The client's link to a directory when the network changes below it.

The server is on this machine; the table of interfaces says that its address is eth0's.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from evloop.directory.client import CONNECTING, READY, WAITING
from evloop.directory.limits import ADDRESS_AWAY_S, PING_S_MAX
from evloop.net.links import LOOPBACK, MULTICAST, RUNNING, UP, Link, Own
from tests.directory.test_client import World

LAN = UP | RUNNING | MULTICAST
ETH0 = Link(2, "eth0", LAN, (Own("127.0.0.1", 24, False),), 1)
DEAD = ETH0._replace(flags=UP | MULTICAST)
BARE = ETH0._replace(addresses=())
OTHER = ETH0._replace(addresses=(Own("192.0.2.50", 24, False),))
BACK = ETH0._replace(epoch=2)
LO = Link(1, "lo", UP | RUNNING | LOOPBACK, (Own("127.0.0.1", 8, False),), 1)


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    world.connect()
    yield world
    world.link.close()
    world.close()


def asked(world: World) -> int:
    """How many requests the server has read."""
    return int(world.dispatcher.readings()["frames"])


TWO = ETH0._replace(addresses=ETH0.addresses + OTHER.addresses)


@pytest.mark.parametrize(("before", "now"), [(DEAD, BACK), (ETH0, TWO)], ids=("carrier", "address"))
def test_a_waiting_link_tries_at_once(world: World, before: Link, now: Link) -> None:
    world.server.door.close()
    world.cut()
    for _ in range(6):  # so that its back-off is long
        world.until(lambda: world.link.state == WAITING)
        world.skip(30.0)
    world.until(lambda: world.link.state == WAITING)
    world.server.listen([f"127.0.0.1:{world.address[1]}"])
    world.link.network_changed((before,), (now,))
    world.until(lambda: world.link.state == READY)
    assert world.skipped <= 180.0


def test_what_is_no_news_ends_no_back_off(world: World) -> None:
    world.server.door.close()
    world.cut()
    world.until(lambda: world.link.state == WAITING)
    for links in ((DEAD,), (BARE,), (ETH0,), (ETH0, LO)):
        world.link.network_changed((ETH0,), links)
        assert world.link.state == WAITING


def test_a_gone_address_that_stays_away_is_given_up(world: World) -> None:
    for times in (1, 2):
        world.link.network_changed((ETH0,), (BARE,))
        world.skip(ADDRESS_AWAY_S - 0.2)
        assert len(world.lost) == times - 1
        world.skip(0.4)
        world.until(lambda times=times: len(world.lost) == times)  # type: ignore[misc]
        assert world.lost[-1] == (
            "its connection used 127.0.0.1, which this machine has no more",
            0.0,  # and the next try is at once
        )
        world.until(lambda: world.link.state == READY)
    assert world.ready == 3


def test_another_address_ends_the_wait(world: World) -> None:
    world.link.network_changed((ETH0,), (OTHER,))
    world.until(lambda: world.ready == 2)
    assert len(world.lost) == 1 and world.skipped == 0.0


def test_an_address_that_is_back_in_time_is_asked_about(world: World) -> None:
    before = asked(world)
    world.link.network_changed((ETH0,), (BARE,))
    world.skip(1.0)
    world.link.network_changed((BARE,), (ETH0,))
    world.until(lambda: asked(world) == before + 1)
    world.skip(PING_S_MAX + ADDRESS_AWAY_S)
    assert world.lost == [] and world.ready == 1


def test_after_a_carrier_was_lost_the_directory_is_asked(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = asked(world)
    world.link.network_changed((ETH0,), (DEAD,))
    world.link.network_changed((DEAD,), (BACK,))
    world.until(lambda: asked(world) == before + 1)
    world.skip(PING_S_MAX + 1.0)
    assert world.lost == []
    # And if it is silent the connection is made anew.
    monkeypatch.setattr(world.dispatcher, "handle", lambda connection, frames: len(frames))
    world.link.network_changed((DEAD,), (BACK._replace(epoch=3),))
    world.skip(PING_S_MAX - 0.5)
    assert world.lost == []
    monkeypatch.undo()
    world.skip(1.0)
    world.until(lambda: world.ready == 2)
    assert world.lost == [("it has not answered since the network changed", 0.0)]


def test_over_loopback_nothing_changes(world: World) -> None:
    before = asked(world)
    world.link.network_changed((LO,), (LO, ETH0._replace(addresses=OTHER.addresses)))
    world.link.network_changed((), ())
    world.skip(PING_S_MAX + 1.0)
    assert asked(world) == before and world.lost == []


def test_a_try_that_went_into_the_void_is_begun_again(world: World) -> None:
    """Its first packet was lost with the carrier; the next would come a second later, or three."""
    with socket.create_server(("127.0.0.1", 0), backlog=1) as full:
        world.answers.clear()
        world.begin(full)
        world.until(lambda: world.link.state >= CONNECTING)
        first = world.link.wire
        world.link.network_changed((DEAD,), (BACK,))
        world.until(lambda: world.link.wire not in (None, first))
        assert world.answers == []
