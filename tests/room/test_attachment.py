"""How a room follows the network: the table and the time in, actions out."""

from __future__ import annotations

from typing import Any

import pytest

from evloop.base.errors import SetupError
from evloop.net.interfaces import Chooser
from evloop.net.links import LOOPBACK, MULTICAST, RUNNING, UP, Interface, Link, Own
from evloop.room.attachment import BACK, JOIN, LEAVE, NO_NETWORK, NOTHING, REOPEN, Attachment
from evloop.room.limits import ADDRESS_GONE_S, NETWORK_GONE_S, REJOIN_GAP_S, REOPEN_AGAIN_S

GROUP = "239.255.7.1"
LAN = UP | RUNNING | MULTICAST
NEVER = float("inf")


def link(ifindex: int, name: str, *addresses: str, flags: int = LAN, epoch: int = 1) -> Link:
    return Link(ifindex, name, flags, tuple(Own(text, 24, False) for text in addresses), epoch)


LO = link(1, "lo", "127.0.0.1", flags=UP | LOOPBACK | RUNNING)
ETH0 = link(2, "eth0", "192.0.2.2")
WLAN0 = link(3, "wlan0", "198.51.100.3")
DEAD = ETH0._replace(flags=UP | MULTICAST)
DOWN = ETH0._replace(flags=MULTICAST)
BARE = ETH0._replace(addresses=())


class Room:
    """An attachment whose actions are done as a LiveRoom does them."""

    def __init__(self, *links: Link, wanted: str | None = None) -> None:
        self.now = 100.0
        self.then = NOTHING  # what is to be done when the sockets were opened anew
        self.links = links
        self.choose = Chooser(GROUP, wanted, lambda: None)
        self.at = Attachment(self.choose(links), links, self.choose, fixed=wanted is not None)

    def table(self, *links: Link) -> str:
        self.links = links
        return self._did(self.at.changed(links, self.now))

    def wait(self, seconds: float) -> str:
        """The time goes on; what was done at the next moment that was asked for."""
        self.now += seconds
        assert self.at.due <= self.now, "nothing is waited for"
        return self._did(self.at.look(self.now))

    def _did(self, action: str) -> str:
        if action == REOPEN:
            self.at.opened()
            self.then = self.at.look(self.now)
        return action


@pytest.fixture(autouse=True)
def no_routes(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(ipv6: bool) -> list[str]:
        return []

    monkeypatch.setattr("evloop.net.interfaces.default_interfaces", none)


@pytest.mark.parametrize("gone", [DEAD, DOWN], ids=["carrier", "down"])
def test_lost_and_back(gone: Link) -> None:
    room = Room(LO, ETH0)
    assert (room.at.where, room.at.due) == ("eth0, 192.0.2.2", NEVER)
    for epoch in (2, 3):
        assert room.table(LO, gone._replace(epoch=epoch - 1)) == NOTHING
        assert room.at.away and room.at.why == ""
        assert room.wait(NETWORK_GONE_S) == NOTHING
        assert room.at.why == ("eth0 has no carrier" if gone is DEAD else "eth0 is down")
        assert room.at.due == NEVER
        assert room.table(LO, ETH0._replace(epoch=epoch)) == LEAVE
        assert not room.at.away and room.at.why == ""
        assert room.wait(REJOIN_GAP_S) == JOIN
        assert room.at.due == NEVER
    assert room.table(LO, ETH0._replace(epoch=3)) == NOTHING


def test_a_carrier_that_bounced_is_only_joined_anew() -> None:
    room = Room(LO, ETH0)
    for epoch in (2, 3):
        assert room.table(LO, ETH0._replace(epoch=epoch)) == LEAVE
        assert room.table(LO, ETH0._replace(epoch=epoch), WLAN0) == NOTHING  # it waits still
        assert room.wait(REJOIN_GAP_S) == JOIN


def test_a_carrier_lost_between_leaving_and_joining() -> None:
    room = Room(LO, ETH0)
    assert room.table(LO, ETH0._replace(epoch=2)) == LEAVE
    room.now += REJOIN_GAP_S / 2
    assert room.table(LO, DEAD._replace(epoch=2)) == NOTHING
    assert room.wait(NETWORK_GONE_S) == NOTHING
    room.now += 1
    assert room.table(LO, ETH0._replace(epoch=3)) == JOIN
    assert room.at.due == NEVER


def test_another_address_ends_the_wait_at_once() -> None:
    room = Room(LO, ETH0)
    for text in ("192.0.2.50", "192.0.2.51"):
        assert room.table(LO, BARE) == NOTHING
        room.now += 0.3
        assert room.table(LO, link(2, "eth0", text)) == REOPEN
        assert room.at.where == f"eth0, {text}" and not room.at.away


def test_an_address_of_the_link_alone_is_not_another_one_yet() -> None:
    """What comes before DHCP has answered."""
    room = Room(LO, ETH0)
    own = link(2, "eth0", "169.254.7.7")
    assert room.table(LO, own) == NOTHING
    assert room.wait(ADDRESS_GONE_S) == REOPEN
    assert room.at.where == "eth0, 169.254.7.7"


def test_an_address_that_is_back_in_time() -> None:
    room = Room(LO, ETH0)
    for _ in range(2):
        assert room.table(LO, BARE) == NOTHING
        room.now += 1.0
        assert room.table(LO, ETH0) == BACK
        assert room.at.why == "" and room.at.due == NEVER


def test_an_address_that_stays_away_is_told_and_another_interface_is_taken() -> None:
    room = Room(LO, ETH0)
    assert room.table(LO, BARE) == NOTHING
    assert room.wait(ADDRESS_GONE_S) == NOTHING
    assert room.at.why == "eth0 has no address 192.0.2.2 any more"
    assert room.table(LO, BARE, WLAN0) == REOPEN
    assert room.at.where == "wlan0, 198.51.100.3" and room.at.why == ""


def test_a_device_that_is_gone_and_made_anew() -> None:
    room = Room(LO, ETH0)
    for ifindex in (7, 8):
        assert room.table(LO) == NOTHING
        assert room.wait(NETWORK_GONE_S) == NOTHING
        assert room.at.why == "eth0 is gone"
        anew = ETH0._replace(ifindex=ifindex, epoch=ifindex)
        assert room.table(LO, anew._replace(addresses=())) == NOTHING
        assert room.table(LO, anew) == REOPEN
        assert room.at.interface == Interface(ifindex, "eth0", "192.0.2.2")


def test_a_device_made_anew_is_not_waited_for() -> None:
    room = Room(LO, ETH0, WLAN0)
    assert room.table(LO, WLAN0) == NOTHING
    room.now += 0.2
    assert room.table(LO, WLAN0, ETH0._replace(ifindex=9)) == REOPEN
    assert room.at.interface.ifindex == 9


def test_it_stays_where_it_works_and_moves_where_it_does_not() -> None:
    room = Room(LO, WLAN0)
    assert room.table(LO, ETH0, WLAN0) == NOTHING  # it follows nothing better
    dead = WLAN0._replace(flags=UP | MULTICAST)
    assert room.table(LO, ETH0, dead) == NOTHING
    assert room.wait(NETWORK_GONE_S) == REOPEN
    assert room.at.where == "eth0, 192.0.2.2"
    assert room.table(LO, ETH0, WLAN0) == NOTHING


def test_what_is_named_is_waited_for() -> None:
    room = Room(LO, ETH0, WLAN0, wanted="eth0")
    assert room.table(LO, WLAN0) == NOTHING
    assert room.wait(NETWORK_GONE_S) == NOTHING
    assert room.table(LO, WLAN0._replace(epoch=9)) == NOTHING
    assert room.table(LO, DEAD._replace(ifindex=5), WLAN0) == NOTHING
    assert room.table(LO, ETH0._replace(ifindex=5), WLAN0) == REOPEN
    assert room.at.interface.ifindex == 5


def test_loopback_is_left_for_anything_better_unless_it_was_named() -> None:
    room = Room(LO)
    assert room.at.where == NO_NETWORK
    assert room.table(LO, DEAD) == NOTHING
    assert room.table(LO, BARE) == NOTHING
    assert room.table(LO, ETH0) == REOPEN
    assert room.at.where == "eth0, 192.0.2.2"
    assert room.table(LO) == NOTHING
    assert room.wait(NETWORK_GONE_S) == NOTHING  # and loopback is no refuge
    assert room.at.interface.name == "eth0"
    for wanted in ("lo", "127.0.0.1"):
        room = Room(LO, wanted=wanted)
        assert room.at.where == "lo, 127.0.0.1"
        assert room.table(LO, ETH0) == NOTHING


def test_joining_anew_without_any_event() -> None:
    room = Room(LO, ETH0)
    assert room.at.rejoin(room.now) == LEAVE
    assert room.at.rejoin(room.now) == NOTHING  # it is done already
    assert room.wait(REJOIN_GAP_S) == JOIN
    room.table(LO, DEAD)
    assert room.at.rejoin(room.now) == NOTHING  # nobody would hear of it


def test_what_could_not_be_done_is_tried_again() -> None:
    room = Room(LO, ETH0)
    room.table(LO)
    room.links = (LO, ETH0._replace(ifindex=9))
    assert room.at.changed(room.links, room.now) == REOPEN
    room.at.failed("another program holds port 5751", room.now)
    assert room.at.why == "another program holds port 5751"
    assert room.wait(REOPEN_AGAIN_S) == REOPEN
    assert not room.at.away


def test_where_the_system_tells_nothing_all_is_as_it_is() -> None:
    def choose(links: Any) -> Interface:
        raise SetupError("no", 1)

    at = Attachment(Interface(0, "192.0.2.2", "192.0.2.2"), (), choose, fixed=True)
    assert at.look(5.0) == NOTHING and at.due == NEVER and not at.away
    assert at.where == "192.0.2.2, 192.0.2.2"


def test_a_carrier_that_is_back_with_another_address_is_joined_anew_too() -> None:
    """The old sockets were in the group while the new ones joined it: nobody was told of that."""
    room = Room(LO, ETH0)
    assert room.table(LO, DEAD) == NOTHING
    assert room.wait(NETWORK_GONE_S) == NOTHING
    assert room.table(LO, link(2, "eth0", "192.0.2.50", epoch=2)) == REOPEN
    assert room.then == LEAVE
    assert room.wait(REJOIN_GAP_S) == JOIN
    assert room.table(LO, link(2, "eth0", "192.0.2.51", epoch=2)) == REOPEN
    assert room.then == NOTHING
    assert room.table(LO, link(7, "eth0", "192.0.2.51", epoch=9)) == REOPEN  # another device
    assert room.then == NOTHING


def test_on_loopback_and_where_nothing_is_told_nothing_is_left() -> None:
    room = Room(LO)
    assert room.at.rejoin(room.now) == NOTHING
    assert room.table(LO._replace(epoch=9)) == NOTHING
    at = Attachment(Interface(0, "x", "192.0.2.2"), (), room.choose, fixed=True)
    assert at.rejoin(room.now) == NOTHING
