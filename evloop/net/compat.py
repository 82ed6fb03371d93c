"""What only Linux has, and substitutes on other systems: only here the system's name matters.

A socket option that is useful and not necessary is set by `ask`, which returns whether the system
took it. An option without which the socket is of no use is set by `need`, whose OSError names it.

The addresses of this machine come from Linux's ioctls and /proc, or, elsewhere and wherever these
do not answer, from getifaddrs(3).
"""

from __future__ import annotations

import errno
import os
import socket
import sys
import time
from struct import calcsize, pack, unpack_from

from evloop.base.addresses import is_link_local

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from evloop.net.links import Interface


class Address:
    """One address of an interface.

    `name`: the interface's, without the label of an alias; `flags`: its IFF_* bits; `address`: IPv4
    or IPv6 as text without a zone, "" for an interface alone; `scope`: the interface's number for
    an address that holds on one link only, else 0; `prefix`: bits of its subnet, -1 where that is
    not told.
    """

    __slots__ = ("address", "flags", "name", "prefix", "scope")

    def __init__(self, name: str, flags: int, address: str, scope: int, prefix: int = -1) -> None:
        self.name = name
        self.flags = flags
        self.address = address
        self.scope = scope
        self.prefix = prefix


LINUX = sys.platform in ("linux", "android")
DARWIN = sys.platform == "darwin"

# As links.MULTICAST has it, and <net/if.h> of Darwin and the BSDs; the other bits of a link are the
# same in all of them.
_IFF_MULTICAST, _IFF_MULTICAST_ELSEWHERE = 0x1000, 0x8000

# Not in the socket module; from <linux/in.h>, <linux/in6.h>, <asm-generic/socket.h>, and from
# <linux/sockios.h>, <linux/route.h>.
IP_MULTICAST_ALL = 49
IPV6_MULTICAST_ALL = 29
SO_MEMINFO = 55
_MEMINFO = "@9I"
_MEMINFO_DROPS = 8
_SIOCGIFCONF = 0x8912
_SIOCGIFFLAGS = 0x8913
_RTF_UP = 0x1
_IFNAMSIZ = 16
# struct ifreq: the name, then a union as large as struct ifmap (two longs, a short, three bytes).
_IFREQ_BYTES = _IFNAMSIZ + max(16, calcsize("@LLHBBB0L"))
_IPV4_BYTES, _IPV6_BYTES = 16, 28  # struct sockaddr_in, struct sockaddr_in6
# Addresses for documentation (RFC 5737, RFC 3849): nobody has them, so they are reached by the
# default route.
_WORLD = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}

LOCAL_NETWORK_DENIED = (
    "macOS keeps this program from the local network: System Settings, Privacy & Security,"
    " Local Network: allow your terminal, and start it again"
)


def denied_by_macos(error: int | None) -> bool:
    """macOS 15 and newer ask the person first, and answer EHOSTUNREACH until they have agreed.

    For what went to a group or to a neighbour on the link, where no router can have said it.
    """
    return DARWIN and error == errno.EHOSTUNREACH


def is_near(host: str) -> bool:
    """Whether a numeric address is one of a local network (RFC 1918, RFC 3927, RFC 4193)."""
    if ":" in host:
        return socket.inet_pton(socket.AF_INET6, host.partition("%")[0])[0] in (0xFC, 0xFD, 0xFE)
    first, second = socket.inet_aton(host)[:2]
    return first == 10 or (first, second) in ((192, 168), (169, 254), (172, second & 0x0F | 16))


def why_not_connected(address: Any, error: int | None) -> str:
    """The words for a failed `connect` to a socket address."""
    if denied_by_macos(error) and is_near(address[0]):
        return LOCAL_NETWORK_DENIED
    return os.strerror(error or 0)


# -- options ---------------------------------------------------------------------------------------


def ask(sock: socket.socket, level: int, option: int | None, value: int | bytes) -> bool:
    """Set a useful option; whether it was set. None: the system has no such option."""
    if option is None:
        return False
    try:
        sock.setsockopt(level, option, value)
    except OSError:
        return False
    return True


def need(sock: socket.socket, level: int, name: str, value: int | bytes) -> None:
    """Set a necessary option; OSError with the option's name as its `filename`."""
    option = getattr(socket, name, None)
    if option is None:
        raise OSError(errno.ENOPROTOOPT, os.strerror(errno.ENOPROTOOPT), name)
    try:
        sock.setsockopt(level, option, value)
    except OSError as error:
        raise OSError(error.errno, error.strerror, name) from None


def is_unknown(error: OSError) -> bool:
    """Whether the system does not know what was asked of it at all."""
    return error.errno in (errno.ENOPROTOOPT, errno.ENOSYS, errno.EOPNOTSUPP)


def named_option(name: str) -> int | None:
    """The number of an option that not every system has."""
    number: int | None = getattr(socket, name, None)
    return number


def share_port(sock: socket.socket) -> None:
    """Let several programs of this host be in one room: a group and port bound more than once."""
    ask(sock, socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if not LINUX:  # Darwin and the BSDs refuse the second without it
        ask(sock, socket.SOL_SOCKET, named_option("SO_REUSEPORT"), 1)


def hear_only_own_groups(sock: socket.socket) -> None:
    """Receive only groups that this socket has joined: Linux delivers those of all programs else.

    The bind to the group holds rooms apart by itself; before Linux 4.20 there is none for IPv6.
    """
    if sock.family == socket.AF_INET:
        ask(sock, socket.IPPROTO_IP, IP_MULTICAST_ALL if LINUX else None, 0)
    else:
        ask(sock, socket.IPPROTO_IPV6, IPV6_MULTICAST_ALL if LINUX else None, 0)


def hear_one_interface(sock: socket.socket, name: str) -> bool:
    """Whether the kernel now keeps other interfaces out: before Linux 5.7 for root alone."""
    return ask(sock, socket.SOL_SOCKET, named_option("SO_BINDTODEVICE"), os.fsencode(name))


def join_ipv4(sock: socket.socket, group: str, interface: Interface) -> None:
    """Become a member of `group` on `interface`; OSError names the option."""
    need(sock, socket.IPPROTO_IP, "IP_ADD_MEMBERSHIP", _member(group, interface))


def leave_ipv4(sock: socket.socket, group: str, interface: Interface) -> None:
    """Be a member no more, also of an interface that is gone; OSError."""
    need(sock, socket.IPPROTO_IP, "IP_DROP_MEMBERSHIP", _member(group, interface))


def _member(group: str, interface: Interface) -> bytes:
    own = socket.inet_aton(group) + socket.inet_aton(interface.address)
    # struct ip_mreqn; elsewhere struct ip_mreq
    return own + pack("@i", interface.ifindex) if LINUX else own


def send_by_ipv4(sock: socket.socket, group: str, interface: Interface) -> None:
    """Send to groups by `interface`; OSError where another one would be taken."""
    by = socket.inet_aton(interface.address)
    if LINUX:
        by = socket.inet_aton("0.0.0.0") + by + pack("@i", interface.ifindex)
    try:
        need(sock, socket.IPPROTO_IP, "IP_MULTICAST_IF", by)
    except OSError as error:
        if not is_unknown(error) or own_address_towards(group, 1) != interface.address:
            raise


def send_as_far_as(sock: socket.socket, ttl: int) -> None:
    """How many routers a group's datagram passes, and hear ourselves. 1 and "yes" are the default.

    One byte: Linux and Darwin take an int too, OpenBSD does not.
    """
    if sock.family == socket.AF_INET:
        level, reach, loop = socket.IPPROTO_IP, "IP_MULTICAST_TTL", "IP_MULTICAST_LOOP"
        to_group: int | bytes = bytes([ttl])
        heard: int | bytes = bytes([1])
    else:
        level, reach, loop = socket.IPPROTO_IPV6, "IPV6_MULTICAST_HOPS", "IPV6_MULTICAST_LOOP"
        to_group, heard = ttl, 1
    try:
        need(sock, level, reach, to_group)
    except OSError as error:
        if ttl != 1 or not is_unknown(error):
            raise
    ask(sock, level, named_option(loop), heard)


def first_probe() -> int | None:
    """The option for when TCP asks a silent peer for the first time."""
    if DARWIN:
        return 0x10  # TCP_KEEPALIVE of <netinet/tcp.h>; in Python since 3.10
    return named_option("TCP_KEEPIDLE")


def unsent_bytes(sock: socket.socket) -> int:
    """Bytes in the kernel's send queue (SIOCOUTQ, which is TIOCOUTQ); 0 where it does not tell."""
    import fcntl  # late: both are for slow readers only
    import termios

    try:
        return int.from_bytes(fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)), sys.byteorder)
    except OSError:
        return 0


def kernel_drops(sock: socket.socket) -> int:
    """How many datagrams the kernel has thrown away because `sock` was not read in time.

    It is the counter that SO_RXQ_OVFL attaches to datagrams, but asked for (SO_MEMINFO): the hot
    path pays nothing, and no further datagram need come. It has 32 bits. 0 where the kernel does
    not tell (before Linux 4.12, and elsewhere).
    """
    size = calcsize(_MEMINFO)
    try:
        counters = sock.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, size) if LINUX else b""
    except OSError:
        return 0
    return 0 if len(counters) < size else int(unpack_from(_MEMINFO, counters)[_MEMINFO_DROPS])


# -- interfaces and addresses ----------------------------------------------------------------------


def open_netlink(groups: int) -> socket.socket:
    """A socket that asks the kernel for interfaces, and is told changes of `groups` (netlink.py).

    It is non-blocking. OSError: this system has none, or does not let us.
    """
    family = named_option("AF_NETLINK") if LINUX else None
    if family is None:
        raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
    sock = socket.socket(family, socket.SOCK_RAW, 0)  # NETLINK_ROUTE
    try:
        sock.setblocking(False)
        sock.bind((0, groups))
    except OSError:
        sock.close()
        raise
    return sock


class Sleep:
    """Whether the machine slept since it was last asked: one clock runs on then, one does not.

    Where no clock tells (not Linux, not Darwin), the wall clock stands in for the first: then
    somebody may also have set it, and only a jump of 5 s counts.
    """

    __slots__ = ("_clock", "_last", "_least")

    def __init__(self, clock: Callable[[], float] | None = None, least: float = 2.0) -> None:
        number = getattr(time, "CLOCK_BOOTTIME" if LINUX else "CLOCK_MONOTONIC_RAW", None)
        if number is None:
            number, least = time.CLOCK_REALTIME, 5.0
        self._clock = clock or (lambda: time.clock_gettime(number) - time.monotonic())
        self._least = least
        try:
            self._last = self._clock()
        except OSError:  # a sandbox that does not know such a clock: then nobody sleeps
            self._clock, self._last = time.monotonic, float("inf")

    def happened(self) -> bool:
        """Ask; a clock that was set back is no sleep."""
        now = self._clock()
        slept = now - self._last > self._least
        if self._last < float("inf"):
            self._last = now
        return slept


def addresses() -> list[Address]:
    """Every address of this machine, each interface's first one first; also interfaces without.

    Empty where the system tells nothing at all.
    """
    if LINUX:
        try:
            return _addresses_of_linux()
        except OSError:  # a sandbox that does not know these ioctls
            pass
    try:
        return list(getifaddrs())
    except (OSError, ImportError, AttributeError):  # no ctypes, or no such function in libc
        return []


def interface_names() -> list[str]:
    """The names of all interfaces, in the kernel's order."""
    try:
        return [name for _, name in socket.if_nameindex()]
    except (OSError, AttributeError):  # a sandbox without netlink, by which libc asks
        return list(dict.fromkeys(entry.name for entry in addresses()))


def default_interfaces(ipv6: bool) -> list[str]:
    """Names of the interfaces towards the world, the best first; often none."""
    if LINUX:
        found = _default_routes_v6() if ipv6 else _default_routes_v4()
        if found is not None:
            return found
    own = own_address_towards(_WORLD[socket.AF_INET6 if ipv6 else socket.AF_INET], 9)
    return [entry.name for entry in addresses() if own and entry.address == own.partition("%")[0]]


def stream_addresses(host: bytes | str | None, port: int, flags: int = 0) -> list[tuple[Any, ...]]:
    """What getaddrinfo tells of `host` for TCP; it may block.

    `localhost` is this machine though nobody can tell (RFC 6761, 6.3): containers and the smallest
    systems have no /etc/hosts.
    """
    try:
        return list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags))
    except socket.gaierror:
        if host is None or host.lower() not in (b"localhost", "localhost"):
            raise
        return list(socket.getaddrinfo(b"127.0.0.1", port, type=socket.SOCK_STREAM, flags=flags))


def own_address_towards(host: str, port: int, *more: int) -> str:
    """The address from which `host` is reached, with its zone if it has one; nothing is sent.

    "": it is not reached. `more`: flow and scope of an IPv6 address.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    target: tuple[Any, ...] = (host, port, *more)
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.connect(target)
            own = sock.getsockname()
    except OSError:
        return ""
    return f"{own[0]}%{own[3]}" if len(own) > 3 and own[3] else str(own[0])


def getifaddrs() -> Iterator[Address]:
    """What getifaddrs(3) tells. OSError when it fails; 0.5 ms, and ctypes is loaded for it."""
    import ctypes  # late: no Linux needs it

    class Entry(ctypes.Structure):
        """struct ifaddrs, as far as every system has it the same."""

        __slots__ = ()

    Entry._fields_ = [
        ("next", ctypes.POINTER(Entry)),
        ("name", ctypes.c_char_p),
        ("flags", ctypes.c_uint),
        ("address", ctypes.c_void_p),
        ("mask", ctypes.c_void_p),
    ]
    libc = ctypes.CDLL(None, use_errno=True)
    first = ctypes.POINTER(Entry)()
    libc.freeifaddrs.argtypes = [ctypes.POINTER(Entry)]
    libc.freeifaddrs.restype = None
    if libc.getifaddrs(ctypes.byref(first)):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    found = []
    try:
        at = first
        while at:
            entry = at.contents
            raw, prefix = b"", -1
            if entry.address:
                # Its length is known only when its family is: other families are shorter.
                raw = ctypes.string_at(entry.address, 2)
                size = sockaddr_bytes(raw)
                raw = ctypes.string_at(entry.address, size) if size else b""
            if raw and entry.mask:
                # Others than Linux may leave out the end of a mask, and then say how long it is.
                given = size if LINUX else min(size, ctypes.string_at(entry.mask, 1)[0])
                prefix = prefix_of(ctypes.string_at(entry.mask, given), size)
            name = os.fsdecode(entry.name or b"").partition(":")[0]  # a label: "eth0:backup"
            flags = entry.flags
            if not LINUX:
                more = _IFF_MULTICAST if flags & _IFF_MULTICAST_ELSEWHERE else 0
                flags = flags & ~(_IFF_MULTICAST | _IFF_MULTICAST_ELSEWHERE) | more
            found.append(Address(name, flags, *address_of(raw), prefix))
            at = entry.next
    finally:
        libc.freeifaddrs(first)
    return iter(found)


def sockaddr_bytes(head: bytes) -> int:
    """How long the sockaddr is that begins with these two bytes; 0 when it is no IP address.

    Darwin's and BSD's begin with their length and their family, a byte each; Linux's with a family
    of two bytes, which is never like these: the families of these lengths have no such addresses.
    """
    if head[0] in (_IPV4_BYTES, _IPV6_BYTES) and head[1]:
        family = head[1]
    else:
        family = int(unpack_from("@H", head)[0])
    sizes: dict[int, int] = {socket.AF_INET: _IPV4_BYTES, socket.AF_INET6: _IPV6_BYTES}
    return sizes.get(family, 0)


def address_of(raw: bytes) -> tuple[str, int]:
    """(address, scope) of a struct sockaddr_in or sockaddr_in6; ("", 0) of no bytes."""
    if len(raw) == _IPV4_BYTES:
        return socket.inet_ntoa(raw[4:8]), 0
    if len(raw) != _IPV6_BYTES:
        return "", 0
    packed = raw[8:24]
    scope = int(unpack_from("@I", raw, 24)[0])
    near = is_link_local(packed)
    if near and packed[2:4] != b"\0\0":
        # The kernels of KAME's family keep the scope in there, and some tell it so.
        scope = scope or int.from_bytes(packed[2:4], "big")
        packed = packed[:2] + b"\0\0" + packed[4:]
    return socket.inet_ntop(socket.AF_INET6, packed), scope if near else 0


def prefix_of(mask: bytes, size: int) -> int:
    """Bits that are set in a mask, told as a sockaddr of `size` bytes (its end may be missing)."""
    start, end = (4, 8) if size == _IPV4_BYTES else (8, 24)
    return bin(int.from_bytes(mask[start:end], "big")).count("1")


def _addresses_of_linux() -> list[Address]:
    """As `addresses`; OSError where the ioctls are not known."""
    found = []
    flags: dict[str, int] = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        own = _ipv4_addresses(sock)
        try:
            names = [name for _, name in socket.if_nameindex()]
        except (OSError, AttributeError):
            names = [name for name, _ in own]
        for name in names:
            flags[name] = _flags(sock, name)
    found = [Address(name, flags.get(name, 0), address, 0) for name, address in own]
    table = _table("/proc/net/if_inet6")
    if table is None and not os.path.isdir("/proc/net"):
        raise OSError(errno.ENOENT, "no /proc")  # and not merely a kernel without IPv6
    for fields in table or ():
        name = fields[5]
        text = socket.inet_ntop(socket.AF_INET6, bytes.fromhex(fields[0]))
        on_link = fields[3] == "20"  # IPV6_ADDR_LINKLOCAL of <net/ipv6.h>
        scope = int(fields[1], 16) if on_link else 0
        found.append(Address(name, flags.get(name, 0), text, scope, int(fields[2], 16)))
    named = {entry.name for entry in found}
    return found + [Address(name, bits, "", 0) for name, bits in flags.items() if name not in named]


def _flags(sock: socket.socket, name: str) -> int:
    """IFF_* bits of an interface; 0 (so: down) when there is none of that name."""
    from fcntl import ioctl

    request = pack(f"{_IFREQ_BYTES}s", os.fsencode(name)[: _IFNAMSIZ - 1])
    try:
        answer = ioctl(sock, _SIOCGIFFLAGS, request)
    except OSError as error:
        if error.errno == errno.ENODEV:  # it went just now
            return 0
        raise
    return int(unpack_from("@H", answer, _IFNAMSIZ)[0])


def _ipv4_addresses(sock: socket.socket) -> list[tuple[str, str]]:
    """(interface name, address) of every IPv4 address, the first of an interface first."""
    from array import array  # late: it knows where its bytes are, as the ioctl must
    from fcntl import ioctl

    room = ioctl(sock, _SIOCGIFCONF, pack("@iP", 0, 0))  # no buffer: how large a one?
    buffer = array("B", bytes(unpack_from("@i", room)[0] + 16 * _IFREQ_BYTES))
    request = pack("@iP", len(buffer), buffer.buffer_info()[0])
    used = unpack_from("@i", ioctl(sock, _SIOCGIFCONF, request))[0]
    found = []
    for start in range(0, used, _IFREQ_BYTES):
        entry = buffer[start : start + _IFREQ_BYTES].tobytes()
        label = os.fsdecode(entry[:_IFNAMSIZ].split(b"\0", 1)[0])
        # sockaddr_in: family, port, address. A label may be "eth0:backup".
        found.append((label.partition(":")[0], socket.inet_ntoa(entry[20:24])))
    return found


def _default_routes_v4() -> list[str] | None:
    """Interfaces of the default routes, the best metric first; None where /proc does not tell."""
    table = _table("/proc/net/route")
    if table is None:
        return None
    routes = [
        (int(fields[6]), fields[0])
        for fields in table[1:]
        if fields[1] == fields[7] == "00000000" and int(fields[3], 16) & _RTF_UP
    ]
    return [name for _, name in sorted(routes)]


def _default_routes_v6() -> list[str] | None:
    table = _table("/proc/net/ipv6_route")
    if table is None:
        return None
    routes = [
        (int(fields[5], 16), fields[9])
        for fields in table
        if fields[0] == "0" * 32 and fields[1] == "00" and int(fields[8], 16) & _RTF_UP
    ]
    return [name for _, name in sorted(routes)]


def _table(path: str) -> list[list[str]] | None:
    """The lines of a file of the kernel as fields; None where there is no such file.

    A name in it may be any bytes but blanks.
    """
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return [line.split() for line in file]
    except OSError:  # no /proc, or a kernel without IPv6
        return None
