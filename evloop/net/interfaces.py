"""Which interface of this machine a group is reached by, and its addresses.

A room joins its group on ONE interface: the named one, else the one by which the directory is
reached, else the one with the default route, else the first that is up and carries multicast.
"""

from __future__ import annotations

import fcntl
import socket
from collections import namedtuple
from struct import calcsize, pack, unpack_from

from evloop.base.errors import FAILED, SetupError
from evloop.base.names import quoted

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


# Not in the socket module; from <linux/sockios.h>, <linux/if.h> and <linux/route.h>.
_SIOCGIFCONF = 0x8912
_SIOCGIFFLAGS = 0x8913
_IFF_UP = 0x1
_IFF_LOOPBACK = 0x8
_IFF_RUNNING = 0x40
_IFF_MULTICAST = 0x1000
_RTF_UP = 0x1
_IFNAMSIZ = 16
# struct ifreq: the name, then a union as large as struct ifmap (two longs, a short, three bytes).
_IFREQ_BYTES = _IFNAMSIZ + max(16, calcsize("@LLHBBB0L"))
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
    if wanted:
        asked = _find_interface(wanted)
        _check_fit(asked, group)
        return asked
    for name in _candidates(group, directory):
        if not name.startswith(_INNER_NAMES):
            interface = _named_interface(name)
            if interface is not None and _unfit(interface, group) is None:
                return interface
    loopback = _named_interface("lo")
    if loopback is None:
        raise SetupError(f"no interface for {group}: this machine has no network", FAILED)
    _check_fit(loopback, group)
    return loopback


def _candidates(group: str, directory: tuple[Any, ...] | None) -> list[str]:
    """Names of interfaces, best first; loopback is none of them."""
    names = []
    if directory is not None:
        names.append(_name_of_address(_own_address_towards(directory)))
    names += _default_routes_v6() if ":" in group else _default_routes_v4()
    others = [(name, _flags(name)) for _, name in socket.if_nameindex()]
    names += [name for name, flags in others if flags & _IFF_RUNNING]
    names += [name for name, _ in others]
    return [name for name in names if name and not _flags(name) & _IFF_LOOPBACK]


def _find_interface(wanted: str) -> Interface:
    name = _name_of_address(wanted) or wanted
    interface = _named_interface(name)
    if interface is None:
        known = ", ".join(name for _, name in socket.if_nameindex())
        raise SetupError(
            f'no interface has the name or address "{quoted(wanted)}"; there are: {known}', FAILED
        )
    return interface


def _named_interface(name: str) -> Interface | None:
    try:
        index = socket.if_nametoindex(name)
    except (OSError, ValueError):  # ValueError: a null byte in it
        return None
    own = [address for other, address in _ipv4_addresses() if other == name]
    return Interface(index, name, own[0] if own else "")


def _check_fit(interface: Interface, group: str) -> None:
    why = _unfit(interface, group)
    if why is not None:
        raise SetupError(f"no multicast to {group} by {interface.name}: {why}", FAILED)


def _unfit(interface: Interface, group: str) -> str | None:
    """Why `interface` cannot carry `group`; None: it can."""
    flags = _flags(interface.name)
    if not flags & _IFF_UP:
        return "it is down"
    if flags & _IFF_LOOPBACK:
        if ":" in group:
            return "IPv6 groups do not work on loopback"
    elif not flags & _IFF_MULTICAST:  # loopback lacks the flag and works all the same
        return "it has no multicast"
    if ":" not in group and not interface.address:
        return "it has no IPv4 address"
    return None


def _flags(name: str) -> int:
    """IFF_* bits of an interface; 0 (so: down) when there is none of that name."""
    request = pack(f"{_IFREQ_BYTES}s", name.encode()[: _IFNAMSIZ - 1])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            answer = fcntl.ioctl(sock, _SIOCGIFFLAGS, request)
        except OSError:
            return 0
    return int(unpack_from("@H", answer, _IFNAMSIZ)[0])


def _ipv4_addresses() -> list[tuple[str, str]]:
    """(interface name, address) of every IPv4 address, the first of an interface first."""
    from array import array  # late: it knows where its bytes are, as the ioctl must

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        room = fcntl.ioctl(sock, _SIOCGIFCONF, pack("@iP", 0, 0))  # no buffer: how large a one?
        buffer = array("B", bytes(unpack_from("@i", room)[0] + 16 * _IFREQ_BYTES))
        request = pack("@iP", len(buffer), buffer.buffer_info()[0])
        used = unpack_from("@i", fcntl.ioctl(sock, _SIOCGIFCONF, request))[0]
    found = []
    for start in range(0, used, _IFREQ_BYTES):
        entry = buffer[start : start + _IFREQ_BYTES].tobytes()
        label = entry[:_IFNAMSIZ].split(b"\0", 1)[0].decode()
        # sockaddr_in: family, port, address. A label may be "eth0:backup".
        found.append((label.partition(":")[0], socket.inet_ntoa(entry[20:24])))
    return found


def _name_of_address(address: str) -> str:
    """The name of the interface that has `address` (IPv4 or IPv6, as text); "" if none has."""
    if ":" not in address:
        for name, own in _ipv4_addresses():
            if own == address:
                return name
        return ""
    bare, _, zone = address.partition("%")
    try:
        digits = socket.inet_pton(socket.AF_INET6, bare).hex()
    except OSError:
        return ""
    if digits.startswith("0" * 20 + "ffff"):  # an IPv4 address in IPv6 clothes
        return _name_of_address(socket.inet_ntoa(bytes.fromhex(digits[24:])))
    for fields in _table("/proc/net/if_inet6"):
        if fields[0] == digits and zone in ("", fields[5], str(int(fields[1], 16))):
            return fields[5]
    return ""


def _own_address_towards(directory: tuple[Any, ...]) -> str:
    """The address from which `directory` is reached; nothing is sent. "": it is not."""
    family = socket.AF_INET6 if ":" in directory[0] else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.connect(directory)
            host = sock.getsockname()
    except OSError:
        return ""
    return f"{host[0]}%{host[3]}" if len(host) > 3 and host[3] else str(host[0])


def _default_routes_v4() -> list[str]:
    """Interfaces of the default routes, the best metric first."""
    routes = [
        (int(fields[6]), fields[0])
        for fields in _table("/proc/net/route")[1:]
        if fields[1] == fields[7] == "00000000" and int(fields[3], 16) & _RTF_UP
    ]
    return [name for _, name in sorted(routes)]


def _default_routes_v6() -> list[str]:
    routes = [
        (int(fields[5], 16), fields[9])
        for fields in _table("/proc/net/ipv6_route")
        if fields[0] == "0" * 32 and fields[1] == "00" and int(fields[8], 16) & _RTF_UP
    ]
    return [name for _, name in sorted(routes)]


def _table(path: str) -> list[list[str]]:
    """The lines of a file of the kernel as fields; none where there is no such file."""
    try:
        with open(path, encoding="ascii") as file:
            return [line.split() for line in file]
    except FileNotFoundError:  # a kernel without IPv6
        return []
