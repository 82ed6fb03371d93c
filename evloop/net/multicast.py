"""The two sockets of a room, and the transport that they are together.

A room has two sockets (each choice was tried against its alternatives):

    receiver   bound to (group, port), not to the wildcard, or rooms on one port hear each other;
               joined on one interface, by index; closing it leaves the group
    sender     an ephemeral port of the interface's own address; the group is sent to from here,
               and unicast repairs come back to here (unicast to the room's port would reach only
               the last of several processes on this host that bound it)

Both are non-blocking. An empty datagram is b"", not the end of anything. After a change of the
machine's addresses `sendto` fails (EINVAL, ENETUNREACH...): open both anew. After a carrier was
lost nothing fails, and nobody on the network is told that the group is joined: leave and join.
"""

from __future__ import annotations

import errno
import socket
from struct import pack

from evloop.base.errors import FAILED, SetupError
from evloop.base.names import place_of
from evloop.net import compat
from evloop.net.limits import (
    BRIDGE_PORT_FIRST,
    BRIDGE_PORT_LAST,
    BURST_S,
    DATAGRAM_READ_BYTES,
    DATAGRAMS_PER_WAKE_MAX,
    RECEIVE_BUFFER_BYTES,
    SENDER_PORT_TRIES,
)
from evloop.net.links import is_on_link
from evloop.system.timers import nothing

BRIDGE_PORTS = range(BRIDGE_PORT_FIRST, BRIDGE_PORT_LAST + 1)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from evloop.net.links import Interface
    from evloop.system.loop import Loop, Watch

    Burst = list[tuple[bytes, Any]]


def receive(
    sock: socket.socket, most: int = DATAGRAMS_PER_WAKE_MAX, size: int = DATAGRAM_READ_BYTES
) -> list[tuple[bytes, Any]]:
    """What has come, as (datagram, source), oldest first; at most `most`.

    A datagram beyond `size` is cut there.
    """
    burst: list[tuple[bytes, Any]] = []
    add, recvfrom = burst.append, sock.recvfrom
    try:
        for _ in range(most):
            add(recvfrom(size))
    except OSError:
        # EAGAIN: drained. Anything else is an earlier datagram's fate (ICMP), reported once.
        pass
    return burst


def granted_buffer(sock: socket.socket) -> int:
    """Bytes of receive buffer that the kernel gave; we ask for RECEIVE_BUFFER_BYTES.

    It doubles what it is asked for, to pay for its bookkeeping; the caller sees its own number.
    """
    try:
        return sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2
    except OSError:  # a sandbox that does not tell
        return 0


def open_receiver(group: str, port: int, interface: Interface) -> socket.socket:
    """A socket that hears the canonical `group` and `port` on `interface`.

    Raises SetupError: the port is taken, the interface is down or cannot do it.
    """
    sock = _new_socket(group, port, interface)
    try:
        compat.share_port(sock)
        if ":" in group:
            # IPv4 checks the interface that was joined; IPv6 hands a group's datagrams to every
            # socket that joined it, by whatever interface they came.
            compat.hear_one_interface(sock, interface.name)
            sock.bind((group, port, 0, interface.ifindex))
        else:
            sock.bind((group, port))
        join(sock, group, interface)
    except OSError as error:
        sock.close()
        raise _explained(error, group, port, interface) from None
    return sock


def join(sock: socket.socket, group: str, interface: Interface) -> None:
    """Be a member of `group` by `interface`; OSError."""
    if ":" in group:
        compat.need(sock, socket.IPPROTO_IPV6, "IPV6_JOIN_GROUP", _member_v6(group, interface))
    else:
        compat.join_ipv4(sock, group, interface)


def leave(sock: socket.socket, group: str, interface: Interface) -> None:
    """Be one no more; OSError: who is none already."""
    if ":" in group:
        compat.need(sock, socket.IPPROTO_IPV6, "IPV6_LEAVE_GROUP", _member_v6(group, interface))
    else:
        compat.leave_ipv4(sock, group, interface)


def _member_v6(group: str, interface: Interface) -> bytes:
    return socket.inet_pton(socket.AF_INET6, group) + pack("@I", interface.ifindex)


def open_sender(
    group: str, port: int, interface: Interface, ttl: int, *, bridge: bool = False
) -> socket.socket:
    """A socket that sends to `group` by `interface`, and hears what is sent to it alone.

    `ttl` is 0 (this host) to 255; unicast is held to the same reach, so that a forged request
    cannot make us send off the link. Its port is never one of BRIDGE_PORTS, by which bridges of
    sites know each other's datagrams; with `bridge` it is the first of those that is free.
    Raises SetupError as `open_receiver`.
    """
    ports = BRIDGE_PORTS if bridge else [0] * SENDER_PORT_TRIES
    drawn: list[socket.socket] = []
    try:
        for own in ports:
            try:
                sock = _open_sender(group, port, interface, ttl, own)
            except OSError as error:
                if own and error.errno == errno.EADDRINUSE:
                    continue
                raise _explained(error, group, port, interface) from None
            if own or sock.getsockname()[1] not in BRIDGE_PORTS:
                return sock
            # Kept open until another port is drawn, or the kernel could hand this one out again.
            drawn.append(sock)
    finally:
        for sock in drawn:
            sock.close()
    span = f"ports {BRIDGE_PORT_FIRST} to {BRIDGE_PORT_LAST}"
    if bridge:
        why = f"all of the {span}, which bridges between sites use, are taken on this machine"
    else:
        why = (
            f"this machine hands out only the {span}, which bridges between sites use;"
            " widen net.ipv4.ip_local_port_range"
        )
    raise SetupError(f"cannot open {place_of(group, port)}: {why}", FAILED)


def _open_sender(group: str, port: int, interface: Interface, ttl: int, own: int) -> socket.socket:
    """As `open_sender`, with `own` as its port; 0: one that the kernel draws. OSError."""
    sock = _new_socket(group, port, interface)
    need = compat.need
    try:
        if ":" in group:
            # Bound, so that what comes back to us has our source; "::" where no address is told.
            scope = interface.ifindex if is_on_link(interface.address) else 0
            sock.bind((interface.address if ":" in interface.address else "::", own, 0, scope))
            need(sock, socket.IPPROTO_IPV6, "IPV6_MULTICAST_IF", interface.ifindex)
            need(sock, socket.IPPROTO_IPV6, "IPV6_UNICAST_HOPS", max(ttl, 1))
        else:
            sock.bind((interface.address, own))
            compat.send_by_ipv4(sock, group, interface)
            need(sock, socket.IPPROTO_IP, "IP_TTL", max(ttl, 1))
        compat.send_as_far_as(sock, ttl)
    except OSError:
        sock.close()
        raise
    return sock


def destination(group: str, port: int, interface: Interface) -> tuple[Any, ...]:
    """Where `sendto` sends what is for everybody in the room."""
    return (group, port, 0, interface.ifindex) if ":" in group else (group, port)


def _new_socket(group: str, port: int, interface: Interface) -> socket.socket:
    family = socket.AF_INET6 if ":" in group else socket.AF_INET
    try:
        sock = socket.socket(family, socket.SOCK_DGRAM)
    except OSError as error:  # a kernel without IPv6
        raise _explained(error, group, port, interface) from None
    sock.setblocking(False)
    compat.ask(sock, socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
    compat.hear_only_own_groups(sock)
    if family == socket.AF_INET6:
        compat.ask(sock, socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    return sock


def _explained(error: OSError, group: str, port: int, interface: Interface) -> SetupError:
    place = place_of(group, port)
    if error.errno == errno.EADDRINUSE:
        why = f"another program holds port {port} and does not share it; stop it or choose another"
    elif compat.is_unknown(error) and error.filename:
        why = f"this system does not know {error.filename}"
    elif error.errno in (errno.ENODEV, errno.EADDRNOTAVAIL, errno.EINVAL):
        why = f"{interface.name} does not take part in multicast now; is it up? Try --interface"
    else:
        what = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
        why = f"{what} (on {interface.name})"
    return SetupError(f"cannot open {place}: {why}", FAILED)


class MulticastTransport:
    """The group (`address`, `port`), both canonical, as a transport of `LiveRoom`; see there.

    `choose()` says by which interface, now and at each `reopen`. Raises SetupError when the sockets
    cannot be had.
    """

    echoes = True  # a group hears itself

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
        "interface",
        "source",
        "watches",
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
        self._deliver: Callable[..., object] = nothing
        self._ready: Callable[[], object] = nothing
        self._heard = float("-inf")  # when something was last received
        self._drops = 0  # datagrams that the kernel threw away at sockets that are closed
        self.watches: list[Watch] = []
        self._open()

    def _open(self, interface: Interface | None = None) -> None:
        """Open both sockets; those of before are closed only once the new ones are there."""
        interface = interface or self._choose()
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
        self.watches = [
            self._loop.watch(receiver, self._hear_group, release=receiver.close),
            self._loop.watch(sender, self._hear_alone, self._writable, sender.close),
        ]

    def receive(self, deliver: Callable[..., object], ready: Callable[[], object]) -> None:
        """From now on call `deliver(burst, True, direct)`, and `ready()` when `send` takes
        something again. `direct`: it came to our sending socket, as what is for us alone does."""
        self._deliver, self._ready = deliver, ready

    def send(self, data: bytes, target: Any) -> bool:
        """Send to the group (None) or to one source; False: no room now. OSError: it is lost."""
        try:
            self._sender.sendto(data, self._group if target is None else target)
        except BlockingIOError:
            self.watches[1].want_write(True)
            return False
        except OSError as error:
            if target is None and compat.denied_by_macos(error.errno):
                raise OSError(error.errno, compat.LOCAL_NETWORK_DENIED) from None
            raise
        return True

    def leave(self) -> None:
        """Leave the group; the sockets stay. OSError."""
        leave(self._receiver, self._address, self.interface)

    def join(self) -> None:
        """Join it again; OSError."""
        join(self._receiver, self._address, self.interface)

    def reopen(self, interface: Interface | None = None) -> None:
        """Open the sockets anew, by `interface` or the one chosen now; SetupError: nothing has
        changed."""
        self._open(interface)

    def move(self, address: str, port: int, choose: Callable[[], Interface]) -> None:
        """Be at another group and port from now on, by the interface that `choose` says.

        SetupError: nothing has changed.
        """
        before = self._address, self._port, self._choose
        self._address, self._port, self._choose = address, port, choose
        try:
            self._open()
        except BaseException:
            self._address, self._port, self._choose = before
            raise

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
        if self.watches:
            self._drops += self._dropped()
        for watch in self.watches:
            watch.close()
        self.watches = []

    def _dropped(self) -> int:
        return compat.kernel_drops(self._receiver) + compat.kernel_drops(self._sender)

    def _hear_group(self) -> None:
        self._receive(self._receiver, False)

    def _hear_alone(self) -> None:
        self._receive(self._sender, True)

    def _receive(self, sock: socket.socket, direct: bool) -> None:
        now = self._loop.now
        # A lone datagram is read alone: to be told that there is no second one costs a system call
        # and an exception. What came with it wakes us again, and then all is drained.
        most = 1 if now > self._heard + BURST_S else DATAGRAMS_PER_WAKE_MAX
        self._heard = now
        burst = receive(sock, most)
        if ":" in self._address:
            # Where the kernel does not keep other interfaces out, the scope tells (0: it does not).
            here = (0, self.interface.ifindex)
            burst = [it for it in burst if it[1][3] in here]
        self._deliver(burst, True, direct)

    def _writable(self) -> None:
        self.watches[1].want_write(False)
        self._ready()
