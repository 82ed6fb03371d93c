"""The filter of foreign multicast DNS, in the kernel; the sockets are tried in tests/lab."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from evloop.net import compat
from evloop.net.limits import (
    DATAGRAMS_PER_WAKE_MAX,
    MDNS_DATAGRAM_BYTES_MAX,
    MDNS_FILTER_OFFSETS,
    MDNS_FILTER_OFFSETS_FEW,
)
from evloop.net.mdns_socket import drop_foreign, filter_program, is_about_us, receive
from tests.support.mdns import VECTORS
from tests.support.namespaces import in_namespace, namespaced

HEADER = bytes(12)

# What stands behind the header of a message, and whether it is about us.
BODIES = {
    "evloop": (b"\x07_evloop\x04_tcp\x05local\0", True),
    "capitals": (b"\x07_EVLOOP\x04_TCP\x05LOCAL\0", True),
    "mixed": (b"\x17eVlOop-0102030405060708\x05local\0", True),
    "the types": (b"\x09_services\x07_dns-sd\x04_udp\x05local\0", True),
    "late": (b"x" * (MDNS_FILTER_OFFSETS - 1) + b"evloop", True),
    "too late": (b"x" * MDNS_FILTER_OFFSETS + b"evloop", False),
    "another": (b"\x04_ipp\x04_tcp\x05local\0", False),
    "nearly": (b"\x04evlo\0"[:-2] + b"e", False),
    "a long one": (b"\x0b_googlecast\x04_tcp\x05local\0" * 40, False),
    "nothing": (b"", False),
    "cut": (b"evl", False),
}


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A UDP socket, and one that sends to it, on loopback."""
    one, other = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
    with one, other:
        one.bind(("127.0.0.1", 0))
        one.setblocking(False)
        other.connect(one.getsockname())
        yield one, other


def heard(sock: socket.socket) -> list[bytes]:
    return [data for data, *_ in receive(sock)]


@pytest.mark.skipif(not compat.LINUX, reason="the filter is Linux's")
@pytest.mark.parametrize("case", BODIES)
def test_the_kernel_takes_what_is_about_us(pair: Any, case: str) -> None:
    one, other = pair
    body, taken = BODIES[case]
    assert drop_foreign(one, True) in (MDNS_FILTER_OFFSETS, MDNS_FILTER_OFFSETS_FEW)
    other.send(HEADER + body)
    if case != "late" or drop_foreign(one, True) == MDNS_FILTER_OFFSETS:
        assert heard(one) == ([HEADER + body] if taken else [])
    drop_foreign(one, False)
    other.send(HEADER + body)
    assert heard(one) == [HEADER + body]


@pytest.mark.parametrize("case", BODIES)
def test_the_test_without_a_filter_takes_no_less(case: str) -> None:
    body, taken = BODIES[case]
    assert is_about_us(HEADER + body) >= taken
    if case != "too late":
        assert is_about_us(HEADER + body) == taken


@pytest.mark.parametrize("name", VECTORS)
def test_all_that_we_say_is_taken(pair: Any, name: str) -> None:
    one, other = pair
    drop_foreign(one, True)
    other.send(VECTORS[name])
    assert heard(one) == [VECTORS[name]]
    assert is_about_us(VECTORS[name])


def test_the_program_has_no_more_instructions_than_a_kernel_takes() -> None:
    assert len(filter_program(MDNS_FILTER_OFFSETS)) // 8 <= 4_096  # BPF_MAXINSNS


@namespaced
def test_a_kernel_with_little_room_takes_a_short_one() -> None:
    """optmem_max of kernels before 6.8; it belongs to the namespace since then."""
    program = """
import socket, sys
sys.path.insert(0, ".")
from evloop.net.mdns_socket import drop_foreign
try:
    open("/proc/sys/net/core/optmem_max", "w").write("20480")
except OSError:
    print("100 0")
else:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        few = drop_foreign(sock, True)
    open("/proc/sys/net/core/optmem_max", "w").write("256")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        print(few, drop_foreign(sock, True))
"""
    assert in_namespace("", program).split() == ["100", "0"]


def test_what_is_too_long_is_left_out(pair: Any) -> None:
    one, other = pair
    other.send(bytes(MDNS_DATAGRAM_BYTES_MAX + 1))
    other.send(b"short")
    assert heard(one) == [b"short"]


def test_a_wake_reads_so_many(pair: Any) -> None:
    one, other = pair
    for _ in range(DATAGRAMS_PER_WAKE_MAX + 5):
        other.send(b"x")
    assert len(heard(one)) == DATAGRAMS_PER_WAKE_MAX
    assert len(heard(one)) == 5


def test_who_sent_it(pair: Any) -> None:
    one, other = pair
    other.send(b"x")
    ((data, source, port, link),) = receive(one, 7)
    assert (data, source, port, link) == (b"x", bytes([127, 0, 0, 1]), other.getsockname()[1], 7)


@namespaced
@pytest.mark.parametrize("linux", [True, False])
def test_two_links_are_told_apart(linux: bool) -> None:
    """By IP_PKTINFO where the system has it; else it is not told."""
    setup = """
ip link add one0 type veth peer name one1 && ip link add two0 type veth peer name two1
ip addr add 192.0.2.1/24 dev one0; ip addr add 198.51.100.1/24 dev two0
for name in one0 one1 two0 two1; do ip link set $name up; done
"""
    program = f"""
import select, socket, sys
sys.path.insert(0, ".")
from evloop.net import compat, mdns_socket
from evloop.net.interfaces import Interface
compat.LINUX = {linux}
links = [Interface(socket.if_nametoindex(name), name, own)
         for name, own in (("one0", "192.0.2.1"), ("two0", "198.51.100.1"))]
with mdns_socket.open_ipv4() as sock:
    if not compat.LINUX:  # as Linux without its own ways: it takes Linux's struct alone
        compat.LINUX = True
        for link in links:
            mdns_socket.join(sock, link)
        compat.LINUX = False
    for link in links:
        if compat.LINUX:
            mdns_socket.join(sock, link)
        mdns_socket.send_ipv4(sock, link.name.encode(), link, None)
        select.select([sock], [], [], 5)
        for data, source, port, by in mdns_socket.receive(sock):
            print(data.decode(), socket.inet_ntoa(source), port, by == link.ifindex)
    mdns_socket.leave(sock, links[0]) if compat.LINUX else None
"""
    said = in_namespace(setup, program).split("\n")[:2]
    assert said == [f"one0 192.0.2.1 5353 {linux}", f"two0 198.51.100.1 5353 {linux}"]


@namespaced
def test_leaving_what_is_gone_is_no_error() -> None:
    program = """
import os, socket, subprocess, sys
sys.path.insert(0, ".")
from evloop.net import mdns_socket
from evloop.net.interfaces import Interface
with mdns_socket.open_ipv4() as sock:
    for number in range(30):  # the kernel lets a socket join 20 groups
        subprocess.run(["ip", "link", "add", "one0", "type", "bridge"], check=True)
        subprocess.run(["ip", "link", "set", "one0", "up"], check=True)
        link = Interface(socket.if_nametoindex("one0"), "one0", "192.0.2.1")
        mdns_socket.join(sock, link)
        subprocess.run(["ip", "link", "del", "one0"], check=True)
        mdns_socket.leave(sock, link)
print("well")
"""
    assert in_namespace("", program) == "well\n"
