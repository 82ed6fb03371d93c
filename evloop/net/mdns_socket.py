"""The sockets of multicast DNS beside other programs that speak it on this machine (RFC 6762, 15).

    IPv4    one, bound to (224.0.0.251, 5353); it joins on each link, and is told with each
            datagram which one that came by (IP_PKTINFO)
    IPv6    one a link, bound to (ff02::fb, 5353) there

They are bound to the group and not to the wildcard: of several sockets on the wildcard the kernel
gives a datagram for one host to the last one alone, so ours would take what is for avahi-daemon.
(Measured: 4 of 4 of its unicast questions; with the bind to the group 0 of 5.) SO_REUSEPORT would
share them out, which is no better. So nothing that is sent to this host alone can be heard here.

`drop_foreign` lets the kernel throw away what is not about evloop: idle is no wake-up, on a network
with a hundred televisions too.
"""

from __future__ import annotations

import errno
import socket
from struct import calcsize, pack, pack_into, unpack_from

from evloop.base.addresses import is_link_local
from evloop.net import compat
from evloop.net.limits import (
    DATAGRAMS_PER_WAKE_MAX,
    MDNS_DATAGRAM_BYTES_MAX,
    MDNS_FILTER_OFFSETS,
    MDNS_FILTER_OFFSETS_FEW,
)
from evloop.net.mdns import GROUP_IPV4, GROUP_IPV6, PORT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from array import array
    from collections.abc import Iterator

    from evloop.net.interfaces import Interface

    # The bytes, the sender's address as 4 or 16 bytes and port, the link's number (0: not told).
    Came = tuple[bytes, bytes, int, int]

TTL = 255  # of all that is sent (RFC 6762, 11)

# Not in the socket module; from <linux/in.h> and <asm-generic/socket.h>.
_IP_PKTINFO = 8
_SO_ATTACH_FILTER, _SO_DETACH_FILTER = 26, 27
_PKTINFO = "@i4s4s"  # struct in_pktinfo: number of the link, own address, destination
_NOBODY = bytes(4)

# Classic BPF: <linux/bpf_common.h>. (code, jump if true, jump if false, operand)
_INSTRUCTION = "@HBBI"
_LOAD_WORD, _OR, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x44, 0x15, 0x06
_ALL, _NONE = 0xFFFFFFFF, 0
_LOWER = 0x20202020  # makes small letters of capitals; the words below have it set too
_UDP_HEADER_BYTES, _DNS_HEADER_BYTES = 8, 12
# In every message about evloop's directories: `_evloop`, `evloop-ID`. The other is in
# `_services._dns-sd._udp`, which asks for the types that there are.
_WORDS = tuple(int.from_bytes(word, "big") | _LOWER for word in (b"evlo", b"_ser"))


def is_about_us(data: bytes) -> bool:
    """What the filter does, where there is none: most that comes is about other things."""
    lower = data.lower()
    return b"evlo" in lower or b"_ser" in lower


def open_ipv4() -> socket.socket:
    """The socket of IPv4, without a link yet. OSError: EADDRINUSE when another does not share."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        compat.share_port(sock)
        compat.hear_only_own_groups(sock)
        if compat.LINUX:
            sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        compat.need(sock, socket.IPPROTO_IP, "IP_TTL", TTL)
        compat.send_as_far_as(sock, TTL)
        sock.bind((GROUP_IPV4, PORT))
    except OSError:
        sock.close()
        raise
    return sock


def join(sock: socket.socket, link: Interface) -> None:
    """Hear what comes to the IPv4 group by `link`; OSError."""
    compat.join_ipv4(sock, GROUP_IPV4, link)


def leave(sock: socket.socket, link: Interface) -> None:
    """The reverse. Also of a link that is gone: its place counts against the 20 of a socket."""
    try:
        compat.leave_ipv4(sock, GROUP_IPV4, link)
    except OSError as error:
        if error.errno not in (errno.EADDRNOTAVAIL, errno.ENODEV):  # the kernel was faster
            raise


def open_ipv6(index: int) -> socket.socket:
    """The socket of IPv6 for the link with this number; OSError as `open_ipv4`."""
    sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        compat.share_port(sock)
        compat.hear_only_own_groups(sock)
        need = compat.need
        need(sock, socket.IPPROTO_IPV6, "IPV6_V6ONLY", 1)
        need(sock, socket.IPPROTO_IPV6, "IPV6_UNICAST_HOPS", TTL)
        need(sock, socket.IPPROTO_IPV6, "IPV6_MULTICAST_IF", index)
        compat.send_as_far_as(sock, TTL)
        sock.bind((GROUP_IPV6, PORT, 0, index))
        member = socket.inet_pton(socket.AF_INET6, GROUP_IPV6) + pack("@I", index)
        need(sock, socket.IPPROTO_IPV6, "IPV6_JOIN_GROUP", member)
    except OSError:
        sock.close()
        raise
    return sock


def receive(sock: socket.socket, index: int = 0) -> Iterator[Came]:
    """What has come, at most DATAGRAMS_PER_WAKE_MAX; what is too long is left out.

    `index`: the link, where the socket has one.
    """
    room = socket.CMSG_SPACE(calcsize(_PKTINFO))
    for _ in range(DATAGRAMS_PER_WAKE_MAX):
        try:
            data, ancillary, flags, address = sock.recvmsg(MDNS_DATAGRAM_BYTES_MAX, room)
        except OSError:  # no more; or an error that the network has reported, which is then over
            return
        if flags & socket.MSG_TRUNC:
            continue
        if sock.family == socket.AF_INET6:
            source = socket.inet_pton(socket.AF_INET6, address[0].partition("%")[0])
        else:
            source = socket.inet_aton(address[0])
        by = index
        for level, kind, value in ancillary:
            if (level, kind) == (socket.IPPROTO_IP, _IP_PKTINFO):
                by = unpack_from(_PKTINFO, value)[0]
        yield data, source, address[1], by


def send_ipv4(
    sock: socket.socket, data: bytes, link: Interface, to: tuple[bytes, int] | None
) -> None:
    """To the group, or to one address and port, by `link` and from its address; OSError."""
    target = (GROUP_IPV4, PORT) if to is None else (socket.inet_ntoa(to[0]), to[1])
    if compat.LINUX:
        by = pack(_PKTINFO, link.ifindex, socket.inet_aton(link.address), _NOBODY)
        sock.sendmsg([data], [(socket.IPPROTO_IP, _IP_PKTINFO, by)], 0, target)
        return
    compat.send_by_ipv4(sock, GROUP_IPV4, link)
    sock.sendto(data, target)


def send_ipv6(sock: socket.socket, data: bytes, index: int, to: tuple[bytes, int] | None) -> None:
    """To the group, or to one address and port; OSError."""
    if to is None:
        sock.sendto(data, (GROUP_IPV6, PORT, 0, index))
        return
    host = socket.inet_ntop(socket.AF_INET6, to[0])
    sock.sendto(data, (host, to[1], 0, index if is_link_local(to[0]) else 0))


# -- the filter ------------------------------------------------------------------------------------


def drop_foreign(sock: socket.socket, drop: bool) -> int:
    """Let the kernel drop what is not about us, or do so no more; return how far it looks.

    0: not at all. It looks at each of the first bytes behind the headers; kernels before 6.8 give
    a socket room for a short program only (net.core.optmem_max 20480).
    """
    if not compat.LINUX:
        return 0
    if not drop:
        compat.ask(sock, socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)
        return 0
    for offsets in (MDNS_FILTER_OFFSETS, MDNS_FILTER_OFFSETS_FEW):
        if _attach(sock, filter_program(offsets)):
            return offsets
    return 0


def filter_program(offsets: int) -> array[int]:
    """Classic BPF that takes a UDP datagram with one of the words in its first bytes.

    A load behind the end of the datagram drops it, as the last instruction does.
    """
    from array import array  # late: it knows where its bytes are, as the kernel must

    evlo, services = _WORDS
    size = calcsize(_INSTRUCTION)
    program = array("B", [0]) * (size * (5 * offsets + 1))
    at = 0
    start = _UDP_HEADER_BYTES + _DNS_HEADER_BYTES
    for offset in range(start, start + offsets):
        for instruction in (
            (_LOAD_WORD, 0, 0, offset),
            (_OR, 0, 0, _LOWER),
            (_JUMP_IF_EQUAL, 1, 0, evlo),
            (_JUMP_IF_EQUAL, 0, 1, services),
            (_RETURN, 0, 0, _ALL),
        ):
            pack_into(_INSTRUCTION, program, at, *instruction)
            at += size
    pack_into(_INSTRUCTION, program, at, _RETURN, 0, 0, _NONE)
    return program


def _attach(sock: socket.socket, program: array[int]) -> bool:
    count = len(program) // calcsize(_INSTRUCTION)
    described = pack("@HP", count, program.buffer_info()[0])  # struct sock_fprog
    return compat.ask(sock, socket.SOL_SOCKET, _SO_ATTACH_FILTER, described)
