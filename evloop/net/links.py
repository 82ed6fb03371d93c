"""The interfaces of this machine as a table, and which of them is taken for what. Pure.

A `Link` is one interface, an `Own` one of its addresses; a table is a tuple of Links in the order
of their numbers. Where it comes from, and how its changes are learned, is `evloop.net.interfaces`.

    choose         the one interface of a room, with the address that it sends from
    explain        the same, why that one, and why not each of the others
    announceable   those by which a directory is announced and searched for

An interface is *fit* for a group when it is up, carries multicast (loopback does, without the flag)
and has an address of the group's family. By itself a room takes, in this order: the one by which
the directory is reached; those that run, have a global address and are no tunnel, the default
route's first; the same with an address of the link alone (169.254, fe80); tunnels; loopback.
"""

from __future__ import annotations

from collections import namedtuple

from evloop.base.errors import FAILED, SetupError
from evloop.base.names import quoted
from evloop.net.limits import LINKS_ANNOUNCED_MAX

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NamedTuple

    class Own(NamedTuple):
        text: str
        prefix: int
        passing: bool

    class Link(NamedTuple):
        ifindex: int
        name: str
        flags: int
        addresses: tuple[Own, ...]
        epoch: int

    class Interface(NamedTuple):
        ifindex: int
        name: str
        address: str

else:
    # text: canonical IPv4 or IPv6, without a zone; prefix: bits of its subnet, -1 where the system
    # does not tell; passing: it is about to go (deprecated), or changes often (temporary).
    Own = namedtuple("Own", "text prefix passing")
    # ifindex: the kernel's number; flags: bits of the list below; addresses: in the kernel's order;
    # epoch: another number each time that it was made, came up, or got its carrier back: switches
    # have then forgotten what it had joined. Equal Links have lost nothing in between.
    Link = namedtuple("Link", "ifindex name flags addresses epoch")
    # What a socket needs of an interface. address: the one to send from, "" without one.
    Interface = namedtuple("Interface", "ifindex name address")

# As <linux/if.h> has them; `evloop.net.compat` brings other systems' numbers to these.
UP = 0x1
LOOPBACK = 0x8
POINT_TO_POINT = 0x10
RUNNING = 0x40
NOARP = 0x80
MULTICAST = 0x1000
USED = UP | LOOPBACK | POINT_TO_POINT | RUNNING | NOARP | MULTICAST  # the others come and go

# Bridges and cables of containers and virtual machines, by the names that their programs give.
_INNER = ("veth", "virbr", "vnet", "cni", "podman", "lxc")
_DOCKERS_BRIDGE = "br-"  # and 12 hexadecimal digits; OpenWrt's br-lan is a LAN

# Why an interface was taken, for people: `explain`.
ASKED_FOR = "--interface says so"
TOWARDS_DIRECTORY = "the directory is reached by it"
DEFAULT_ROUTE = "the default route"
CARRIES = "it carries multicast"
ONLY = "there is no other"


def is_inner(name: str) -> bool:
    """Whether it is called as the inside of this machine is: nobody on the network is there."""
    if name == "docker0" or name.startswith(_INNER):
        return True
    digits = name.removeprefix(_DOCKERS_BRIDGE) if name.startswith(_DOCKERS_BRIDGE) else ""
    return len(digits) == 12 and all(digit in "0123456789abcdef" for digit in digits)


def is_on_link(address: str) -> bool:
    """Whether an address holds on one link alone (RFC 3927, RFC 4291): 169.254/16, fe80::/10."""
    return address.startswith(("169.254.", "fe8", "fe9", "fea", "feb"))


def link_of(links: Sequence[Link], ifindex: int, name: str = "") -> Link | None:
    """The one with this number, or else with this name."""
    named = None
    for link in links:
        if link.ifindex == ifindex:
            return link
        if link.name == name:
            named = link
    return named


def holder(links: Sequence[Link], address: str, zone: str = "") -> Link | None:
    """Who has the canonical `address`; `zone`: name or number that an address on a link needs."""
    for link in links:
        if zone in ("", link.name, str(link.ifindex)):
            for own in link.addresses:
                if own.text == address:
                    return link
    return None


def address_for(link: Link, group: str, prefer: str = "") -> str:
    """The address of `link` to send to `group` from; "" when it has none of that family.

    `prefer`, when it has that one. Else its first one that is not on the link alone (but for a
    group that is, it is the one that everybody there can answer), lasting ones first.
    """
    ipv6 = ":" in group
    own = [it for it in link.addresses if (":" in it.text) == ipv6]
    if any(it.text == prefer for it in own):
        return prefer
    near = group.startswith("ff") and group[3:4] == "2"  # scope 2 of RFC 4291
    own.sort(key=lambda it: (is_on_link(it.text) != near, it.passing))
    return own[0].text if own else ""


def unfit(link: Link, group: str) -> str:
    """Why `link` cannot carry `group`; "": it can."""
    if not link.flags & UP:
        return "it is down"
    if link.flags & LOOPBACK:
        if ":" in group:
            return "IPv6 groups do not work on loopback"
    elif not link.flags & MULTICAST:
        return "it has no multicast"
    if not address_for(link, group):
        return "it has no IPv6 address" if ":" in group else "it has no IPv4 address"
    return ""


def why_away(link: Link | None, name: str, address: str) -> str:
    """Why nothing gets out by the interface `name` with `address`, for people; "": it does."""
    if link is None:
        return f"{name} is gone"
    if not link.flags & UP:
        return f"{name} is down"
    if not link.flags & RUNNING:
        return f"{name} has no carrier"
    if address and all(own.text != address for own in link.addresses):
        return f"{name} has no address {address} any more"
    return ""


def arrived(before: Sequence[Link], links: Sequence[Link]) -> bool:
    """Whether there is a carrier or an address that was not there before; loopback does not count.

    What could not be reached before may be reached now.
    """
    known = {link.ifindex: link for link in before}
    for link in links:
        if link.flags & (UP | RUNNING | LOOPBACK) != UP | RUNNING:
            continue
        was = known.get(link.ifindex)
        if was is None or was.epoch != link.epoch or not was.flags & RUNNING:
            return True
        if {own.text for own in link.addresses} - {own.text for own in was.addresses}:
            return True
    return False


def find(links: Sequence[Link], wanted: str, zone: str = "") -> Link | None:
    """The interface that has the name or the canonical address `wanted`."""
    by_address = holder(links, wanted, zone)
    return by_address or next((link for link in links if link.name == wanted), None)


def choose(
    links: Sequence[Link],
    group: str,
    wanted: Link | None = None,
    towards: str = "",
    defaults: Sequence[str] = (),
    prefer: str = "",
) -> Interface:
    """The interface for the canonical `group`; SetupError when there is none.

    `wanted`: the one that the user has named, which is then not second-guessed. `towards`: our
    canonical address from which the directory is reached ("" without one, or when it is on this
    machine). `defaults`: names of the default routes' interfaces, the best first. `prefer`: an
    address that is taken before others of the same interface.
    """
    return explain(links, group, wanted, towards, defaults, prefer)[0]


def explain(
    links: Sequence[Link],
    group: str,
    wanted: Link | None = None,
    towards: str = "",
    defaults: Sequence[str] = (),
    prefer: str = "",
) -> tuple[Interface, str, list[tuple[str, str]]]:
    """As `choose`: (the interface, why it was taken, [(name of another, why not), ...]).

    The second is ASKED_FOR, TOWARDS_DIRECTORY, DEFAULT_ROUTE, CARRIES or ONLY; loopback is none of
    the others, and of one that would have done nothing is said.
    """
    best, why = _best(links, group, wanted, towards, defaults)
    if best is None:
        raise SetupError(f"no interface for {group}: this machine has no network", FAILED)
    cannot = unfit(best, group)
    if cannot:
        raise SetupError(f"no multicast to {group} by {quoted(best.name)}: {cannot}", FAILED)
    chosen = Interface(best.ifindex, best.name, address_for(best, group, prefer or towards))
    others = [link for link in links if link is not best and not link.flags & LOOPBACK]
    if why == CARRIES and not any(_would_do(link, group) for link in others):
        why = ONLY
    reasons = [(link.name, _why_not(link, group)) for link in others]
    return chosen, why, [(name, reason) for name, reason in reasons if reason]


def _best(
    links: Sequence[Link],
    group: str,
    wanted: Link | None,
    towards: str,
    defaults: Sequence[str],
) -> tuple[Link | None, str]:
    if wanted is not None:
        return wanted, ASKED_FOR
    there = holder(links, towards) if towards else None
    if there is not None and _runs(there, group) and not there.flags & LOOPBACK:
        return there, TOWARDS_DIRECTORY
    fit = [link for link in links if _would_do(link, group)]
    if not fit:
        return _loopback(links), ONLY
    order = {name: place for place, name in reversed(list(enumerate(defaults)))}
    best = min(fit, key=lambda link: (_class(link, group), order.get(link.name, len(order))))
    return best, DEFAULT_ROUTE if best.name in order else CARRIES


def _runs(link: Link, group: str) -> bool:
    return bool(link.flags & RUNNING) and not unfit(link, group)


def _would_do(link: Link, group: str) -> bool:
    """Whether a room may take it by itself."""
    return _runs(link, group) and not link.flags & LOOPBACK and not is_inner(link.name)


def _class(link: Link, group: str) -> int:
    if link.flags & (POINT_TO_POINT | NOARP):
        return 2
    # An IPv6 group goes by an interface that a router or DHCP has made part of a network, by
    # whatever family: each has an address of its link alone.
    own = [it.text for it in link.addresses if ":" in group or ":" not in it.text]
    return 0 if any(not is_on_link(text) for text in own) else 1


def _loopback(links: Sequence[Link]) -> Link | None:
    """The one with 127.0.0.1 if there are several: "lo", elsewhere "lo0"."""
    own = [link for link in links if link.flags & LOOPBACK]
    home = holder(own, "127.0.0.1")
    return home or next(iter(own), None) or next((it for it in links if it.name == "lo"), None)


def _why_not(link: Link, group: str) -> str:
    if is_inner(link.name):
        return "inner"
    if link.flags & UP and not link.flags & RUNNING:
        return "no carrier"
    return unfit(link, group).removeprefix("it is ").replace("it has ", "")


def announceable(
    links: Sequence[Link], wanted: Link | None = None, asked: bool = False
) -> tuple[Link, ...]:
    """By which a directory is announced and searched for: at most LINKS_ANNOUNCED_MAX, best first.

    Up, running, with multicast and an address, neither loopback nor the inside of this machine.
    `asked`: the user has named one, `wanted` (None: it is not there now), and there is no other;
    loopback is none of them even then.
    """
    found = [
        link
        for link in links
        if link.flags & (UP | RUNNING | MULTICAST | LOOPBACK) == UP | RUNNING | MULTICAST
        and link.addresses
        and (link is wanted if asked else not is_inner(link.name))
    ]
    found.sort(key=lambda link: bool(link.flags & (POINT_TO_POINT | NOARP)))
    return tuple(found[:LINKS_ANNOUNCED_MAX])
