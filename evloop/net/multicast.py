"""The two sockets of a room, and the transport that they are together.

A room has two sockets (each choice was tried against its alternatives):

    receiver   bound to (group, port), not to the wildcard, or rooms on one port hear each other;
               joined on one interface, by index; closing it leaves the group
    sender     an ephemeral port of the interface's own address; the group is sent to from here,
               and unicast repairs come back to here (unicast to the room's port would reach only
               the last of several processes on this host that bound it)

Both are non-blocking. An empty datagram is b"", not the end of anything. After a change of the
machine's addresses `sendto` fails (EINVAL, ENETUNREACH...): open both anew.
"""

from __future__ import annotations

import errno
import socket
from struct import Struct, pack

from evloop.base.errors import FAILED, SetupError
from evloop.base.names import place_of
from evloop.net.limits import (
    BURST_S,
    DATAGRAM_READ_BYTES,
    DATAGRAMS_PER_WAKE_MAX,
    RECEIVE_BUFFER_BYTES,
)
from evloop.system.timers import nothing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from evloop.net.interfaces import Interface
    from evloop.system.loop import Loop, Watch

    Burst = list[tuple[bytes, Any]]


# Not in the socket module; from <linux/in.h>, <linux/in6.h> and <asm-generic/socket.h>.
_IP_MULTICAST_ALL = 49
_IPV6_MULTICAST_ALL = 29
_SO_MEMINFO = 55
_SK_MEMINFO_DROPS = 8
_MEMINFO = Struct("@9I")


def receive(sock: socket.socket, most: int = DATAGRAMS_PER_WAKE_MAX) -> list[tuple[bytes, Any]]:
    """What has come, as (datagram, source), oldest first; at most `most`.

    A datagram beyond DATAGRAM_READ_BYTES is cut there.
    """
    burst: list[tuple[bytes, Any]] = []
    add, recvfrom = burst.append, sock.recvfrom
    try:
        for _ in range(most):
            add(recvfrom(DATAGRAM_READ_BYTES))
    except OSError:
        # EAGAIN: drained. Anything else is an earlier datagram's fate (ICMP), reported once.
        pass
    return burst


def kernel_drops(sock: socket.socket) -> int:
    """How many datagrams the kernel has thrown away because `sock` was not read in time.

    It is the counter that SO_RXQ_OVFL attaches to datagrams, but asked for (SO_MEMINFO): the hot
    path pays nothing, and no further datagram need come. It has 32 bits. Worth a look whenever
    `receive` returned a full burst. 0 where the kernel does not tell (before Linux 4.12).
    """
    try:
        counters = sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size)
    except OSError:
        return 0
    return 0 if len(counters) < _MEMINFO.size else _MEMINFO.unpack(counters)[_SK_MEMINFO_DROPS]


def granted_buffer(sock: socket.socket) -> int:
    """Bytes of receive buffer that the kernel gave; we ask for RECEIVE_BUFFER_BYTES.

    It doubles what it is asked for, to pay for its bookkeeping; the caller sees its own number.
    """
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2


def open_receiver(group: str, port: int, interface: Interface) -> socket.socket:
    """A socket that hears the canonical `group` and `port` on `interface`.

    Raises SetupError: the port is taken, the interface is down or cannot do it.
    """
    sock = _new_socket(group)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if ":" in group:
            _hear_one_interface(sock, interface)
            sock.bind((group, port, 0, interface.ifindex))
            packed = socket.inet_pton(socket.AF_INET6, group)
            member = packed + pack("@I", interface.ifindex)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, member)
        else:
            sock.bind((group, port))
            member = _mreqn(group, interface)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
    except OSError as error:
        sock.close()
        raise _explained(error, group, port, interface) from None
    return sock


def open_sender(group: str, port: int, interface: Interface, ttl: int) -> socket.socket:
    """A socket that sends to `group` by `interface`, and hears what is sent to it alone.

    `ttl` is 0 (this host) to 255; unicast is held to the same reach, so that a forged request
    cannot make us send off the link. Raises SetupError as `open_receiver`.
    """
    sock = _new_socket(group)
    try:
        if ":" in group:
            sock.bind(("::", 0))
            for option, value in (
                (socket.IPV6_MULTICAST_IF, interface.ifindex),
                (socket.IPV6_MULTICAST_HOPS, ttl),
                (socket.IPV6_UNICAST_HOPS, max(ttl, 1)),
                (socket.IPV6_MULTICAST_LOOP, 1),
            ):
                sock.setsockopt(socket.IPPROTO_IPV6, option, value)
        else:
            sock.bind((interface.address, 0))
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, _mreqn("0.0.0.0", interface))
            for option, value in (
                (socket.IP_MULTICAST_TTL, ttl),
                (socket.IP_TTL, max(ttl, 1)),
                (socket.IP_MULTICAST_LOOP, 1),
            ):
                sock.setsockopt(socket.IPPROTO_IP, option, value)
    except OSError as error:
        sock.close()
        raise _explained(error, group, port, interface) from None
    return sock


def destination(group: str, port: int, interface: Interface) -> tuple[Any, ...]:
    """Where `sendto` sends what is for everybody in the room."""
    return (group, port, 0, interface.ifindex) if ":" in group else (group, port)


def _new_socket(group: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in group else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
    # Off: only what this socket joined, not what any program of this host joined on the port.
    if family == socket.AF_INET:
        sock.setsockopt(socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0)
        return sock
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    try:
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_MULTICAST_ALL, 0)
    except OSError:  # before Linux 4.20; the bind to the group holds the rooms apart by itself
        pass
    return sock


def _hear_one_interface(sock: socket.socket, interface: Interface) -> None:
    # IPv4 checks the interface that was joined; IPv6 hands a group's datagrams to every socket
    # that joined it, by whatever interface they came.
    name = interface.name.encode()
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, name)
    except PermissionError:  # before Linux 5.7, and not root: hears more than it should
        pass


def _mreqn(group: str, interface: Interface) -> bytes:
    """struct ip_mreqn: group, own address, interface index."""
    return (
        socket.inet_aton(group)
        + socket.inet_aton(interface.address)
        + pack("@i", interface.ifindex)
    )


def _explained(error: OSError, group: str, port: int, interface: Interface) -> SetupError:
    place = place_of(group, port)
    if error.errno == errno.EADDRINUSE:
        why = f"another program holds port {port} and does not share it; stop it or choose another"
    elif error.errno in (errno.ENODEV, errno.EADDRNOTAVAIL, errno.EINVAL):
        why = f"{interface.name} does not take part in multicast now; is it up? Try --interface"
    else:
        why = f"{error.strerror} (on {interface.name})"
    return SetupError(f"cannot open {place}: {why}", FAILED)


class MulticastTransport:
    """The group (`address`, `port`), both canonical, as a transport of `LiveRoom`; see there.

    `choose()` says by which interface, now and at each `reopen`. Raises SetupError when the sockets
    cannot be had.
    """

    __slots__ = (
        "_address",
        "_choose",
        "_deliver",
        "_drops",
        "_group",
        "_heard",
        "_loop",
        "_port",
        "_ready",
        "_receiver",
        "_sender",
        "_ttl",
        "_watches",
        "interface",
        "source",
    )

    def __init__(
        self,
        loop: Loop,
        address: str,
        port: int,
        choose: Callable[[], Interface],
        ttl: int,
    ) -> None:
        self._loop = loop
        self._address, self._port = address, port
        self._choose = choose
        self._ttl = ttl
        self._deliver: Callable[[Burst], object] = nothing
        self._ready: Callable[[], object] = nothing
        self._heard = float("-inf")  # when something was last received
        self._drops = 0  # datagrams that the kernel threw away at sockets that are closed
        self._watches: list[Watch] = []
        self._open()

    def _open(self) -> None:
        """Open both sockets; those of before are closed only once the new ones are there."""
        interface = self._choose()
        receiver = open_receiver(self._address, self._port, interface)
        try:
            sender = open_sender(self._address, self._port, interface, self._ttl)
        except BaseException:
            receiver.close()
            raise
        self.close()
        self.interface = interface
        self._receiver, self._sender = receiver, sender
        self._group = destination(self._address, self._port, interface)
        self.source: tuple[Any, ...] = sender.getsockname()
        self._watches = [
            self._loop.watch(receiver, lambda: self._receive(receiver), release=receiver.close),
            self._loop.watch(sender, lambda: self._receive(sender), self._writable, sender.close),
        ]

    def receive(self, deliver: Callable[[Burst], object], ready: Callable[[], object]) -> None:
        """From now on call `deliver(burst)`, and `ready()` when `send` takes something again."""
        self._deliver, self._ready = deliver, ready

    def send(self, data: bytes, target: Any) -> bool:
        """Send to the group (None) or to one source; False: no room now. OSError: it is lost."""
        try:
            self._sender.sendto(data, self._group if target is None else target)
        except BlockingIOError:
            self._watches[1].want_write(True)
            return False
        return True

    def reopen(self) -> None:
        """Open the sockets anew, by the interface of now; SetupError: nothing has changed."""
        self._open()

    def describe(self) -> str:
        """By which interface, for people."""
        return self.interface.name

    def stats(self) -> dict[str, int]:
        """What the kernel dropped for want of room, and how much room it gave."""
        return {
            "dropped_by_kernel": self._drops + self._dropped(),
            "receive_buffer_bytes": granted_buffer(self._receiver),
        }

    def close(self) -> None:
        """Leave the group and close the sockets; a second call does nothing."""
        if self._watches:
            self._drops += self._dropped()
        for watch in self._watches:
            watch.close()
        self._watches = []

    def _dropped(self) -> int:
        return kernel_drops(self._receiver) + kernel_drops(self._sender)

    def _receive(self, sock: socket.socket) -> None:
        now = self._loop.now
        # A lone datagram is read alone: to be told that there is no second one costs a system call
        # and an exception. What came with it wakes us again, and then all is drained.
        most = 1 if now > self._heard + BURST_S else DATAGRAMS_PER_WAKE_MAX
        self._heard = now
        self._deliver(receive(sock, most))

    def _writable(self) -> None:
        self._watches[1].want_write(False)
        self._ready()
