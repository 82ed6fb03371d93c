"""What only Linux has, taken away piece by piece; and getifaddrs(3) against the kernel's lists."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import socket
import struct
from collections.abc import Iterator
from typing import Any

import pytest

from evloop.base.errors import SetupError
from evloop.net import compat, interfaces
from evloop.net.interfaces import Interface, choose_interface
from evloop.net.multicast import destination, granted_buffer, open_receiver, open_sender, receive
from evloop.net.tcp import tune, unacknowledged
from tests.support.namespaces import in_namespace, namespaced

GROUP, PORT = "239.255.78.7", 15_787
LOOPBACK = Interface(socket.if_nametoindex("lo"), "lo", "127.0.0.1")
ERRNOS = (errno.ENOPROTOOPT, errno.EINVAL, errno.EPERM, errno.ENOSYS)

# Every option that a room or a connection sets, by level and name, and whether it must be there.
IP, UDP_SOCKET, TCP = socket.IPPROTO_IP, socket.SOL_SOCKET, socket.IPPROTO_TCP
OPTIONAL = {
    "SO_RCVBUF": (UDP_SOCKET, socket.SO_RCVBUF),
    "SO_REUSEADDR": (UDP_SOCKET, socket.SO_REUSEADDR),
    "IP_MULTICAST_ALL": (IP, 49),
    "IP_MULTICAST_LOOP": (IP, socket.IP_MULTICAST_LOOP),
}
NEEDED = {
    "IP_ADD_MEMBERSHIP": (IP, socket.IP_ADD_MEMBERSHIP),
    "IP_TTL": (IP, socket.IP_TTL),
}
OF_TCP = {
    "TCP_NODELAY": (TCP, socket.TCP_NODELAY),
    "SO_KEEPALIVE": (UDP_SOCKET, socket.SO_KEEPALIVE),
    "TCP_KEEPIDLE": (TCP, 4),
    "TCP_KEEPINTVL": (TCP, socket.TCP_KEEPINTVL),
    "TCP_KEEPCNT": (TCP, socket.TCP_KEEPCNT),
}


class Kernel:
    """Stands before `setsockopt` and `getsockopt`, and refuses what it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.refused: dict[tuple[int, int], int] = {}
        self.set: set[tuple[int, int]] = set()
        plain: Any = socket.socket
        for name in ("setsockopt", "getsockopt"):
            monkeypatch.setattr(plain, name, self._guarded(getattr(plain, name)), raising=True)

    def _guarded(self, real: Any) -> Any:
        def guard(sock: Any, level: int, option: int, *more: Any) -> Any:
            self.set.add((level, option))
            number = self.refused.get((level, option))
            if number is not None:
                raise OSError(number, os.strerror(number))
            return real(sock, level, option, *more)

        return guard


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    return Kernel(monkeypatch)


def room_works(group: str = GROUP, interface: Interface = LOOPBACK, ttl: int = 1) -> bool:
    """Whether a datagram to the group is heard by a member on this host."""
    receiver = open_receiver(group, PORT, interface)
    try:
        sender = open_sender(group, PORT, interface, ttl)
        try:
            sender.sendto(b"Mel: hello", destination(group, PORT, interface))
            assert granted_buffer(receiver) >= 0 and compat.kernel_drops(receiver) == 0
            return [data for data, _ in receive(receiver)] == [b"Mel: hello"]
        finally:
            sender.close()
    finally:
        receiver.close()


def test_the_tables_have_every_option_of_a_room(kernel: Kernel) -> None:
    assert room_works()
    reading = {(UDP_SOCKET, 55)}  # SO_MEMINFO
    multicast = {(IP, socket.IP_MULTICAST_IF), (IP, socket.IP_MULTICAST_TTL)}
    assert kernel.set == {*OPTIONAL.values(), *NEEDED.values()} | reading | multicast


@pytest.mark.parametrize("number", ERRNOS, ids=errno.errorcode.get)
@pytest.mark.parametrize("name", [*OPTIONAL, "SO_MEMINFO"])
def test_a_room_lives_without(kernel: Kernel, name: str, number: int) -> None:
    option = OPTIONAL.get(name, (UDP_SOCKET, 55))
    kernel.refused[option] = number
    assert room_works()
    assert option in kernel.set


@pytest.mark.parametrize("number", ERRNOS, ids=errno.errorcode.get)
@pytest.mark.parametrize("name", NEEDED)
def test_what_a_room_cannot_be_without_is_a_sentence(
    kernel: Kernel, name: str, number: int
) -> None:
    kernel.refused[NEEDED[name]] = number
    with pytest.raises(SetupError) as caught:
        room_works()
    sentence = caught.value.sentence
    assert sentence.startswith(f"cannot open {GROUP}:{PORT}: ")
    if number in (errno.ENOPROTOOPT, errno.ENOSYS):
        assert sentence.endswith(f": this system does not know {name}")
    elif number == errno.EPERM:
        assert f"{name}: Operation not permitted (on lo)" in sentence


@pytest.mark.parametrize("name", NEEDED)
def test_a_name_that_python_lacks(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.delattr(socket, name)
    with pytest.raises(SetupError, match=f"this system does not know {name}"):
        room_works()


def test_the_sending_interface_may_be_the_default_one(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel.refused[IP, socket.IP_MULTICAST_IF] = errno.ENOPROTOOPT
    monkeypatch.setattr(compat, "own_address_towards", lambda *place: "192.0.2.77")
    with pytest.raises(SetupError, match="this system does not know IP_MULTICAST_IF"):
        room_works()
    monkeypatch.setattr(compat, "own_address_towards", lambda *place: "127.0.0.1")
    assert room_works()


def test_the_reach_may_be_the_default_one(kernel: Kernel) -> None:
    kernel.refused[IP, socket.IP_MULTICAST_TTL] = errno.ENOPROTOOPT
    assert room_works(ttl=1)
    with pytest.raises(SetupError, match="this system does not know IP_MULTICAST_TTL"):
        room_works(ttl=7)


def test_a_kernel_without_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    class NoIpv6(socket.socket):
        def __init__(self, family: int = -1, *more: int) -> None:
            if family == socket.AF_INET6:
                raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
            super().__init__(family, *more)

    monkeypatch.setattr(socket, "socket", NoIpv6)
    with pytest.raises(SetupError, match="Address family not supported"):
        open_receiver("ff15::7", PORT, LOOPBACK)
    with pytest.raises(SetupError, match="Address family not supported"):
        open_sender("ff15::7", PORT, LOOPBACK, 1)
    assert choose_interface(GROUP, "127.0.0.1", None) == LOOPBACK


# -- TCP -------------------------------------------------------------------------------------------


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as near,
    ):
        far, _ = listener.accept()
        with far:
            yield near, far


def test_tcp_is_tuned(kernel: Kernel, pair: tuple[socket.socket, socket.socket]) -> None:
    tune(pair[0])
    assert set(OF_TCP.values()) <= kernel.set
    for name in OF_TCP:
        assert pair[0].getsockopt(*OF_TCP[name]) > 0, name


@pytest.mark.parametrize("number", ERRNOS, ids=errno.errorcode.get)
@pytest.mark.parametrize("name", OF_TCP)
def test_a_connection_lives_without(
    kernel: Kernel, pair: tuple[socket.socket, socket.socket], name: str, number: int
) -> None:
    kernel.refused[OF_TCP[name]] = number
    tune(pair[0])
    kernel.refused.clear()
    for other in set(OF_TCP) - {name}:
        assert pair[0].getsockopt(*OF_TCP[other]) > 0, other


@pytest.mark.parametrize("number", (errno.ENOTTY, errno.EINVAL, errno.EPERM, errno.ENOSYS))
def test_a_queue_that_is_not_told_is_empty(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    pair[0].setblocking(False)
    while select.select([], [pair[0]], [], 0)[1]:
        pair[0].send(bytes(65_536))
    assert unacknowledged(pair[0]) > 0

    def ioctl(*arguments: Any) -> bytes:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "ioctl", ioctl)
    assert unacknowledged(pair[0]) == 0


# -- the lists of interfaces -----------------------------------------------------------------------


def refuse_netlink(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(groups: int) -> Any:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(interfaces, "open_netlink", refuse)


@pytest.mark.parametrize("request_code", (0x8912, 0x8913), ids=("SIOCGIFCONF", "SIOCGIFFLAGS"))
@pytest.mark.parametrize("number", (errno.ENOTTY, errno.EINVAL, errno.EPERM, errno.ENOSYS))
def test_without_the_ioctls_the_same_interface_is_chosen(
    monkeypatch: pytest.MonkeyPatch, request_code: int, number: int
) -> None:
    refuse_netlink(monkeypatch)
    before = compat.addresses()
    real = fcntl.ioctl

    def ioctl(fd: Any, request: int, *more: Any) -> Any:
        if request == request_code:
            raise OSError(number, os.strerror(number))
        return real(fd, request, *more)

    monkeypatch.setattr(fcntl, "ioctl", ioctl)
    assert choose_interface(GROUP, "127.0.0.1", None) == LOOPBACK
    assert choose_interface(GROUP, "lo", None) == LOOPBACK
    named = {(it.name, it.address) for it in before if it.address}
    assert named == {(it.name, it.address) for it in compat.addresses() if it.address}


def test_without_netlink_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """libc asks netlink for the names and for getifaddrs; a sandbox may know none."""
    refuse_netlink(monkeypatch)

    def refuse(*arguments: Any) -> Any:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(socket, "if_nameindex", refuse)
    monkeypatch.setattr(compat, "getifaddrs", refuse)
    assert choose_interface(GROUP, "127.0.0.1", None) == LOOPBACK
    with pytest.raises(SetupError, match="there are: lo"):
        choose_interface(GROUP, "nosuch0", None)


def test_nothing_at_all_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_netlink(monkeypatch)
    monkeypatch.setattr("evloop.net.interfaces.addresses", list)
    for wanted in (None, "lo", "::1"):
        with pytest.raises(SetupError, match="does not tell its interfaces: give the IPv4 address"):
            choose_interface(GROUP, wanted, None)
    assert room_works(interface=choose_interface(GROUP, "127.0.0.1", None))


def test_without_ctypes(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> Any:
        raise ImportError("no _ctypes")

    monkeypatch.setattr(compat, "LINUX", False)
    monkeypatch.setattr(compat, "getifaddrs", missing)
    assert compat.addresses() == []


SETUP = """
ip link add name net0 type veth peer name far0
ip link set net0 up
ip link set far0 up
ip addr add 192.0.2.10/24 dev net0
ip addr add 192.0.2.11/24 dev net0 label net0:two
ip addr add 198.51.100.7/32 dev net0
ip -6 addr add 2001:db8::7/64 dev net0 nodad
ip link add name küche type veth peer name far1
ip link set küche up
ip addr add 10.0.0.1 peer 10.0.0.2 dev küche
ip link add name "$(printf 'k\\374che')" type veth peer name far2
ip link add name empty type veth peer name far3
"""
COMPARE = """
from evloop.net import compat, interfaces
from evloop.net.interfaces import choose_interface
kernel = compat._addresses_of_linux()
libc = list(compat.getifaddrs())
for wanted in ("192.0.2.11", "fe80::", "10.0.0.1", "2001:db8::7"):
    print(wanted, sum(it.address.startswith(wanted) for it in kernel))
mine = {(it.name, it.address, it.scope) for it in kernel if it.address}
theirs = {(it.name, it.address, it.scope) for it in libc if it.address}
print("the same", mine == theirs, mine ^ theirs)
low = 0xFFFF  # the ioctl tells sixteen
flags = [{it.name: it.flags & low for it in entries} for entries in (kernel, libc)]
print("flags", flags[0] == flags[1])
order = [[it.address for it in entries if it.name == "net0" and "." in it.address]
         for entries in (kernel, libc)]
print("order", order[0] == order[1], order[0])
print(ascii([it.name for it in kernel if not it.address or it.name.startswith("k")]))
compat.LINUX = False
compat._IFF_MULTICAST_ELSEWHERE = 0x1000
interfaces.open_netlink = lambda groups: (_ for _ in ()).throw(OSError())
print("chosen", choose_interface("239.255.7.1", "küche", None).address)
"""


@namespaced
def test_getifaddrs_tells_what_the_kernel_tells() -> None:
    out = in_namespace(SETUP, COMPARE)
    assert "192.0.2.11 1\n" in out and "10.0.0.1 1\n" in out and "2001:db8::7 1\n" in out
    assert "fe80:: 0" not in out
    assert "the same True set()" in out, out
    assert "flags True" in out and "order True ['192.0.2.10', " in out, out
    assert "k\\xfcche" in out and "k\\udcfcche" in out and "empty" in out
    assert "chosen 10.0.0.1" in out


# -- how others write it ---------------------------------------------------------------------------


def sockaddr_in(head: bytes, address: str) -> bytes:
    return head + bytes(2) + socket.inet_aton(address) + bytes(8)


def sockaddr_in6(head: bytes, address: str, scope: int) -> bytes:
    return head + bytes(6) + socket.inet_pton(socket.AF_INET6, address) + struct.pack("@I", scope)


INET6 = bytes([socket.AF_INET6])
NATIVE_4 = struct.pack("@H", socket.AF_INET)
NATIVE_6 = struct.pack("@H", socket.AF_INET6)


@pytest.mark.parametrize(
    ("raw", "found"),
    [
        (sockaddr_in(NATIVE_4, "192.0.2.7"), ("192.0.2.7", 0)),
        (sockaddr_in(b"\x10\x02", "192.0.2.7"), ("192.0.2.7", 0)),
        (sockaddr_in6(NATIVE_6, "2001:db8::7", 0), ("2001:db8::7", 0)),
        (sockaddr_in6(b"\x1c" + INET6, "2001:db8::7", 4), ("2001:db8::7", 0)),
        (sockaddr_in6(NATIVE_6, "fe80::1", 4), ("fe80::1", 4)),
        (sockaddr_in6(b"\x1c" + INET6, "fe80::1", 4), ("fe80::1", 4)),
        (sockaddr_in6(b"\x1c" + INET6, "fe80:4::1", 0), ("fe80::1", 4)),  # KAME's way
        (sockaddr_in6(b"\x1c" + INET6, "fe80:4::1", 4), ("fe80::1", 4)),
    ],
)
def test_a_sockaddr_of_any_system(raw: bytes, found: tuple[str, int]) -> None:
    assert compat.sockaddr_bytes(raw[:2]) == len(raw)
    assert compat.address_of(raw) == found


@pytest.mark.parametrize("head", [b"\x14\x12", b"\x11\x00", b"\x00\x11", b"\x00\x00", b"\x38\x12"])
def test_other_families_are_no_addresses(head: bytes) -> None:
    """AF_LINK of Darwin, AF_PACKET of Linux in both byte orders."""
    assert compat.sockaddr_bytes(head) == 0
    assert compat.address_of(b"") == ("", 0)


@pytest.mark.parametrize(
    ("host", "near"),
    [
        ("192.168.1.1", True), ("10.9.8.7", True), ("172.16.0.1", True), ("172.31.255.1", True),
        ("169.254.3.4", True), ("fe80::1%en0", True), ("fd00::7", True),
        ("172.32.0.1", False), ("172.15.0.1", False), ("192.0.2.1", False), ("2001:db8::1", False),
        ("127.0.0.1", False),
    ],
)  # fmt: skip
def test_what_is_near(host: str, near: bool) -> None:
    assert compat.is_near(host) == near
