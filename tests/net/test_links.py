"""The table of interfaces, and which of them is taken for what: no system is asked."""

from __future__ import annotations

import pytest

from evloop.base.errors import SetupError
from evloop.net.limits import LINKS_ANNOUNCED_MAX
from evloop.net.links import (
    ASKED_FOR,
    CARRIES,
    DEFAULT_ROUTE,
    LOOPBACK,
    MULTICAST,
    NOARP,
    ONLY,
    POINT_TO_POINT,
    RUNNING,
    TOWARDS_DIRECTORY,
    UP,
    Interface,
    Link,
    Own,
    address_for,
    announceable,
    choose,
    explain,
    find,
    is_inner,
    link_of,
    why_away,
)

GROUP, GROUP_V6 = "239.255.7.1", "ff15::7"
LAN = UP | RUNNING | MULTICAST
TUNNEL = UP | RUNNING | MULTICAST | POINT_TO_POINT | NOARP


def link(index: int, name: str, *addresses: str, flags: int = LAN, epoch: int = 0) -> Link:
    own = tuple(Own(text.lstrip("~"), 24, text.startswith("~")) for text in addresses)
    return Link(index, name, flags, own, epoch)


LO = link(1, "lo", "127.0.0.1", "::1", flags=UP | LOOPBACK | RUNNING)
ETH0 = link(2, "eth0", "192.0.2.2", "fe80::2")
WLAN0 = link(3, "wlan0", "198.51.100.3", "2001:db8::3", "fe80::3")
NOTHING = link(4, "eth1", "169.254.4.4", "fe80::4")
TUN0 = link(5, "tun0", "10.8.0.5", flags=TUNNEL)
DOCKER = link(6, "docker0", "172.17.0.1")
ALL = (LO, ETH0, WLAN0, NOTHING, TUN0, DOCKER)


@pytest.mark.parametrize(
    ("links", "towards", "defaults", "taken", "why"),
    [
        (ALL, "192.0.2.2", ("wlan0",), ETH0, TOWARDS_DIRECTORY),
        (ALL, "10.8.0.5", ("wlan0",), TUN0, TOWARDS_DIRECTORY),  # by the VPN: then there
        (ALL, "172.17.0.1", ("wlan0",), DOCKER, TOWARDS_DIRECTORY),  # it wins over names
        (ALL, "127.0.0.1", ("wlan0",), WLAN0, DEFAULT_ROUTE),
        (ALL, "203.0.113.9", ("wlan0",), WLAN0, DEFAULT_ROUTE),  # nobody has it any more
        (ALL, "", ("wlan0", "eth0"), WLAN0, DEFAULT_ROUTE),
        (ALL, "", (), ETH0, CARRIES),
        # A VPN takes the default route, not the room.
        (ALL, "", ("tun0", "wlan0"), WLAN0, DEFAULT_ROUTE),
        (ALL, "", ("tun0",), ETH0, CARRIES),
        ((LO, NOTHING, TUN0), "", ("tun0",), NOTHING, CARRIES),
        ((LO, TUN0, DOCKER), "", (), TUN0, ONLY),
        ((LO, DOCKER), "", ("docker0",), LO, ONLY),
        ((LO, ETH0._replace(flags=UP | MULTICAST)), "", ("eth0",), LO, ONLY),  # no carrier
        ((LO, ETH0._replace(flags=UP | MULTICAST)), "192.0.2.2", (), LO, ONLY),
        ((LO, ETH0._replace(flags=UP | RUNNING)), "", ("eth0",), LO, ONLY),  # no multicast
        ((LO, ETH0._replace(flags=MULTICAST)), "", ("eth0",), LO, ONLY),  # down
        ((LO, link(2, "eth0", "fe80::2")), "", ("eth0",), LO, ONLY),  # no IPv4
    ],
)
def test_the_order_of_choice(
    links: tuple[Link, ...], towards: str, defaults: tuple[str, ...], taken: Link, why: str
) -> None:
    chosen, reason, _ = explain(links, GROUP, None, towards, defaults)
    assert (chosen.name, reason) == (taken.name, why)
    assert chosen.address == taken.addresses[0].text


def test_an_ipv6_group_goes_where_a_network_is() -> None:
    """Each interface has an fe80 of its own; only a network gives more."""
    only_v6 = link(2, "eth0", "fe80::2")
    assert choose((LO, only_v6), GROUP_V6) == Interface(2, "eth0", "fe80::2")
    assert choose((LO, only_v6, WLAN0), GROUP_V6) == Interface(3, "wlan0", "2001:db8::3")
    assert choose((LO, only_v6, ETH0._replace(ifindex=9)), GROUP_V6).ifindex == 9
    with pytest.raises(SetupError, match="IPv6 groups do not work on loopback"):
        choose((LO,), GROUP_V6)


def test_what_the_user_names_is_not_second_guessed() -> None:
    assert choose(ALL, GROUP, DOCKER, "192.0.2.2")[1] == "docker0"
    dead = ETH0._replace(flags=UP | MULTICAST)
    assert explain((LO, dead, WLAN0), GROUP, dead)[:2] == (
        Interface(2, "eth0", "192.0.2.2"),
        ASKED_FOR,
    )
    with pytest.raises(SetupError, match=r"no multicast to 239\.255\.7\.1 by eth0: it is down"):
        choose(ALL, GROUP, ETH0._replace(flags=0))
    with pytest.raises(SetupError, match="this machine has no network"):
        choose((), GROUP)


def test_of_several_addresses() -> None:
    two = link(2, "eth0", "169.254.5.5", "10.93.0.1", "10.93.0.2")
    assert choose((LO, two), GROUP).address == "10.93.0.1"  # not 169.254
    assert choose((LO, two), GROUP, None, "10.93.0.2").address == "10.93.0.2"
    assert choose((LO, two), GROUP, two, prefer="169.254.5.5").address == "169.254.5.5"
    six = link(2, "eth0", "fe80::1", "~2001:db8::99", "2001:db8::1")
    assert address_for(six, GROUP_V6) == "2001:db8::1"  # it stays; a temporary one is passing
    assert address_for(six, "ff12::7") == "fe80::1"  # what goes over one link alone
    assert address_for(six, GROUP) == ""


@pytest.mark.parametrize(
    ("name", "inner"),
    [
        *((name, True) for name in ("docker0", "veth12ab", "br-0123456789ab", "virbr0", "vnet3")),
        *((name, True) for name in ("cni0", "podman0", "lxcbr0", "lxc1")),
        *((name, False) for name in ("br-lan", "br0", "br-0123456789abc", "br-0123456789AB")),
        *((name, False) for name in ("docker1", "eth0", "wlan0", "br-", "lo")),
    ],
)
def test_which_names_are_of_the_inside(name: str, inner: bool) -> None:
    assert is_inner(name) is inner


def test_why_not_the_others() -> None:
    dead = link(7, "eth9", "192.0.2.9", flags=UP | MULTICAST)
    down = link(8, "eth8", flags=MULTICAST)
    bare = link(9, "eth7")
    _, why, others = explain((*ALL, dead, down, bare), GROUP, None, "", ("wlan0",))
    assert why == DEFAULT_ROUTE
    assert others == [
        ("docker0", "inner"),
        ("eth9", "no carrier"),
        ("eth8", "down"),
        ("eth7", "no IPv4 address"),
    ]


def test_where_a_directory_is_announced() -> None:
    dead = link(7, "eth9", "192.0.2.9", flags=UP | MULTICAST)
    bare = link(9, "eth7")
    mute = link(10, "eth6", "192.0.2.66", flags=UP | RUNNING)
    lan = link(11, "br-lan", "192.168.1.1")
    found = announceable((*ALL, dead, bare, mute, lan))
    assert [one.name for one in found] == ["eth0", "wlan0", "eth1", "br-lan", "tun0"]
    assert announceable(ALL, ETH0, asked=True) == (ETH0,)
    assert announceable(ALL, DOCKER, asked=True) == (DOCKER,)
    assert announceable(ALL, LO, asked=True) == ()  # nothing is ever sent from there
    assert announceable(ALL, None, asked=True) == ()  # it is away now
    many = tuple(link(n, f"eth{n}", "192.0.2.7") for n in range(2, 40))
    assert announceable((LO, TUN0, *many)) == many[:LINKS_ANNOUNCED_MAX]


def test_to_find_one() -> None:
    assert find(ALL, "wlan0") == find(ALL, "198.51.100.3") == WLAN0
    assert find(ALL, "fe80::4", "eth1") == find(ALL, "fe80::4", "4") == NOTHING
    assert find(ALL, "fe80::4", "eth0") is None
    assert link_of(ALL, 2) == ETH0 and link_of(ALL, 99) is None
    assert link_of(ALL, 99, "eth0") == ETH0  # made anew


def test_why_nothing_gets_out() -> None:
    assert why_away(ETH0, "eth0", "192.0.2.2") == ""
    assert why_away(None, "eth0", "192.0.2.2") == "eth0 is gone"
    assert why_away(ETH0._replace(flags=MULTICAST), "eth0", "192.0.2.2") == "eth0 is down"
    dead = ETH0._replace(flags=UP | MULTICAST)
    assert why_away(dead, "eth0", "192.0.2.2") == "eth0 has no carrier"
    assert why_away(ETH0, "eth0", "192.0.2.9") == "eth0 has no address 192.0.2.9 any more"
