"""Which interface of this machine a group is reached by, and its addresses.

A room joins its group on ONE interface: the named one, else the one by which the directory is
reached, else the one with the default route, else the first that is up and carries multicast.
"""

from __future__ import annotations

import socket
from collections import namedtuple

from evloop.base.errors import FAILED, SetupError
from evloop.base.names import quoted
from evloop.net.compat import (
    IFF_LOOPBACK,
    IFF_MULTICAST,
    IFF_RUNNING,
    IFF_UP,
    Address,
    addresses,
    default_interfaces,
    interface_names,
    own_address_towards,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NamedTuple

    class Interface(NamedTuple):
        ifindex: int
        name: str
        address: str

else:
    # ifindex: the kernel's number; name; address: its first IPv4 address as text, "" without one
    Interface = namedtuple("Interface", "ifindex name address")


# Bridges and cables of containers: members on the network would never be reached there.
_INNER_NAMES = ("docker0", "veth", "br-")


def choose_interface(
    group: str, wanted: str | None, directory: tuple[Any, ...] | None
) -> Interface:
    """The interface for the canonical `group`.

    `wanted`: what the user said (a name or an address), which is then not second-guessed.
    `directory`: numeric socket address of the directory, (host, port, ...), or None.
    Else: the interface by which the directory is reached; the default route's (also when the
    directory is on this very host: members here and elsewhere then hear each other); any other
    that can do it; loopback. Raises SetupError when there is none, or `wanted` cannot do it.
    """
    known = addresses()
    if not known:
        return _untold(wanted)
    if wanted:
        asked = _find_interface(known, wanted)
        _check_fit(known, asked, group)
        return asked
    for name in _candidates(known, group, directory):
        if not name.startswith(_INNER_NAMES):
            interface = _named_interface(known, name)
            if interface is not None and _unfit(known, interface, group) is None:
                return interface
    loopback = _loopback(known)
    if loopback is None:
        raise SetupError(f"no interface for {group}: this machine has no network", FAILED)
    _check_fit(known, loopback, group)
    return loopback


def has_ipv4() -> bool:
    """Whether this machine has any IPv4 address but those of loopback; True where it does not
    tell."""
    known = [entry.address for entry in addresses()]
    return not known or any("." in one and not one.startswith("127.") for one in known)


def _untold(wanted: str | None) -> Interface:
    """Where the system tells nothing about its interfaces, an address names one all the same."""
    try:
        address = socket.inet_ntoa(socket.inet_aton(wanted or ""))
    except OSError:
        raise SetupError(
            "this system does not tell its interfaces: give the IPv4 address of one by --interface",
            FAILED,
        ) from None
    return Interface(0, address, address)


def _candidates(known: list[Address], group: str, directory: tuple[Any, ...] | None) -> list[str]:
    """Names of interfaces, best first; loopback is none of them."""
    names = []
    if directory is not None:
        names.append(_name_of_address(known, own_address_towards(*directory)))
    names += default_interfaces(":" in group)
    others = [(name, _flags(known, name)) for name in interface_names()]
    names += [name for name, flags in others if flags & IFF_RUNNING]
    names += [name for name, _ in others]
    return [name for name in names if name and not _flags(known, name) & IFF_LOOPBACK]


def _loopback(known: list[Address]) -> Interface | None:
    """The one with 127.0.0.1 if there are several: "lo", elsewhere "lo0"."""
    names = [entry.name for entry in known if entry.flags & IFF_LOOPBACK]
    home = [entry.name for entry in known if entry.address == "127.0.0.1"]
    for name in [*(name for name in home if name in names), *names, "lo"]:
        interface = _named_interface(known, name)
        if interface is not None:
            return interface
    return None


def _find_interface(known: list[Address], wanted: str) -> Interface:
    name = _name_of_address(known, wanted) or wanted
    interface = _named_interface(known, name)
    if interface is None:
        names = ", ".join(quoted(name) for name in interface_names())
        raise SetupError(
            f'no interface has the name or address "{quoted(wanted)}"; there are: {names}', FAILED
        )
    return interface


def _named_interface(known: list[Address], name: str) -> Interface | None:
    try:
        index = socket.if_nametoindex(name)
    except (OSError, ValueError):  # ValueError: a null byte in it
        return None
    own = [it.address for it in known if it.name == name and "." in it.address]
    return Interface(index, name, next((text for text in own if ":" not in text), ""))


def _check_fit(known: list[Address], interface: Interface, group: str) -> None:
    why = _unfit(known, interface, group)
    if why is not None:
        raise SetupError(f"no multicast to {group} by {quoted(interface.name)}: {why}", FAILED)


def _unfit(known: list[Address], interface: Interface, group: str) -> str | None:
    """Why `interface` cannot carry `group`; None: it can."""
    flags = _flags(known, interface.name)
    if not flags & IFF_UP:
        return "it is down"
    if flags & IFF_LOOPBACK:
        if ":" in group:
            return "IPv6 groups do not work on loopback"
    elif not flags & IFF_MULTICAST:  # loopback lacks the flag and works all the same
        return "it has no multicast"
    if ":" not in group and not interface.address:
        return "it has no IPv4 address"
    return None


def _flags(known: list[Address], name: str) -> int:
    """IFF_* bits of an interface; 0 (so: down) when there is none of that name."""
    return next((entry.flags for entry in known if entry.name == name), 0)


def _name_of_address(known: list[Address], address: str) -> str:
    """The name of the interface that has `address` (IPv4 or IPv6, as text); "" if none has."""
    bare, _, zone = address.partition("%")
    if ":" in bare:
        try:
            packed = socket.inet_pton(socket.AF_INET6, bare)
        except OSError:
            return ""
        if packed.startswith(bytes(10) + b"\xff\xff"):  # an IPv4-mapped address
            return _name_of_address(known, socket.inet_ntoa(packed[12:]))
        bare = socket.inet_ntop(socket.AF_INET6, packed)
    for entry in known:
        if entry.address == bare and zone in ("", entry.name, str(entry.scope)):
            return entry.name
    return ""
