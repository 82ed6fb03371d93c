"""A stranger on the link: records datagrams of a group, or sends what a file holds. Runs alone.

    python3 -m tests.lab.injector record ADDRESS:PORT FILE          until its stdin ends
    python3 -m tests.lab.injector tap FILE                          the same, of whole frames
    python3 -m tests.lab.injector send ADDRESS:PORT FILE PER_SECOND [SOURCE:PORT]

A file is a sequence of datagrams, each behind its length (2 bytes, big-endian). With SOURCE the
datagrams claim to come from there (a raw socket). `tap` sees every frame on every interface of its
namespace, once for each that it crosses: the recorder on the bridge.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import sys
import time
from collections.abc import Iterable, Iterator
from io import RawIOBase
from pathlib import Path

INTERFACE = "eth0"
TTL = 1
_SO_RCVBUFFORCE = 33  # socket(7); Python has no name for it


def pack(datagrams: Iterable[bytes]) -> bytes:
    """What a file of `datagrams` holds."""
    return b"".join(struct.pack("!H", len(data)) + data for data in datagrams)


def unpack(data: bytes) -> Iterator[bytes]:
    """The datagrams of a file."""
    at = 0
    while at + 2 <= len(data):
        (length,) = struct.unpack_from("!H", data, at)
        yield data[at + 2 : at + 2 + length]
        at += 2 + length


def _own_address() -> bytes:
    """The IPv4 address of the interface (SIOCGIFADDR)."""
    from fcntl import ioctl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        return ioctl(sock, 0x8915, struct.pack("256s", INTERFACE.encode()))[20:24]


def record(group: tuple[str, int], path: str) -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
        open(path, "wb", buffering=0) as file,
    ):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        sock.bind(group)
        membership = socket.inet_aton(group[0]) + _own_address()
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
        _write_all(sock, file)


def tap(path: str) -> None:
    every = socket.htons(0x0003)  # ETH_P_ALL
    with (
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW, every) as sock,
        open(path, "wb", buffering=0) as file,
    ):
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 1 << 25)
        _write_all(sock, file)


def _write_all(sock: socket.socket, file: RawIOBase) -> None:
    """What comes to `sock`, until stdin ends and all of it is in the file."""
    print("ready", flush=True)
    while True:
        ready, _, _ = select.select([sock.fileno(), 0], [], [])
        if sock.fileno() in ready:
            file.write(pack([sock.recv(65_535)]))
        elif not os.read(0, 1):
            return


def forge(data: bytes, source: tuple[str, int], group: tuple[str, int]) -> bytes:
    """An IPv4 packet with a UDP datagram from `source` (RFC 791, RFC 768; no UDP checksum)."""
    udp = struct.pack("!HHHH", source[1], group[1], 8 + len(data), 0) + data
    head = struct.pack(
        "!BBHHHBBH4s4s",
        0x45,
        0,
        20 + len(udp),
        0,
        0,
        TTL,
        socket.IPPROTO_UDP,
        0,  # the kernel fills in the checksum of a raw packet's header
        socket.inet_aton(source[0]),
        socket.inet_aton(group[0]),
    )
    return head + udp


def send(
    group: tuple[str, int], path: str, per_second: float, source: tuple[str, int] | None
) -> None:
    datagrams = list(unpack(Path(path).read_bytes()))
    kind = socket.SOCK_DGRAM if source is None else socket.SOCK_RAW
    protocol = 0 if source is None else socket.IPPROTO_RAW
    with socket.socket(socket.AF_INET, kind, protocol) as sock:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, _own_address())
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, struct.pack("b", TTL))
        start = time.monotonic()
        for number, data in enumerate(datagrams):
            early = start + number / per_second - time.monotonic()
            if early > 0.001:
                select.select([], [], [], early)
            sock.sendto(data if source is None else forge(data, source, group), group)
    print(f"sent {len(datagrams)} in {time.monotonic() - start:.2f} s", flush=True)


def _place(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)


if __name__ == "__main__":
    if sys.argv[1] == "record":
        record(_place(sys.argv[2]), sys.argv[3])
    elif sys.argv[1] == "tap":
        tap(sys.argv[2])
    else:
        claimed = _place(sys.argv[5]) if len(sys.argv) > 5 else None
        send(_place(sys.argv[2]), sys.argv[3], float(sys.argv[4]), claimed)
