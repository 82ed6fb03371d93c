"""A room that the directory relays: connections that enter with `full`, of which one speaks and all
others read. They speak in turns: the directory takes 80 kB/s of each."""

from __future__ import annotations

import os
import select
import socket
import ssl
import time
from pathlib import Path

from bench.harness import machine
from bench.harness.common import request_bytes
from bench.harness.processes import Failed, Server
from bench.load import datagrams
from evloop.directory.relay_frames import room_frame

ENTER_S = 30.0


class Relayed:
    """`members` connections and one more; a context manager. `certificate`: of who signed that of
    the server, where it speaks TLS."""

    def __init__(self, server: Server, members: int, certificate: Path | None = None) -> None:
        name = f"bench-{os.urandom(6).hex()}"  # a group of its own: servers hear each other
        self._context = None
        if certificate is not None:
            self._context = ssl.create_default_context(cafile=str(certificate))
            self._context.check_hostname = False
        self._poller = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        self._ids = [os.urandom(8) for _ in range(members + 1)]
        self._wall = int(time.time())
        for sender in self._ids:
            member = socket.create_connection(("127.0.0.1", server.port), timeout=ENTER_S)
            member.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._context is not None:
                member = self._context.wrap_socket(member)
            self._ask(member, "makeroom", {"name": name})
            wish = {"name": name, "sender": sender.hex(), "relay": "full"}
            self._entered(self._ask(member, "enter", wish))
            member.setblocking(False)
            self._sockets[member.fileno()] = member
            self._poller.register(member, select.EPOLLIN)
        self._members = list(zip(self._ids, self._sockets.values()))
        self._seq = 0

    def __enter__(self) -> Relayed:
        return self

    def __exit__(self, *_: object) -> None:
        self._poller.close()
        for member in self._sockets.values():
            member.close()

    def _ask(self, member: socket.socket, method: str, params: dict[str, str]) -> bytes:
        payload = request_bytes(method, params)
        member.sendall(len(payload).to_bytes(4, "big") + payload)
        data = b""
        while len(data) < 4 or len(data) < 4 + int.from_bytes(data[:4], "big"):
            more = member.recv(65_536)
            if not more:
                raise Failed(f"{method}: the server closed the connection")
            data += more
        return data[4:]

    def _entered(self, reply: bytes) -> None:
        import json

        result = json.loads(reply)["result"]
        if result["relay"] != "full":
            raise Failed(f"not granted: {reply[:200]!r}")
        self._handle = result["handle"]
        room = result["room"]
        self._place = f"{room['address']}:{room['port']}"

    def say(self, text: str, copies: int = 1) -> None:
        """Speak: a DATA of `text`, so many times, in one segment."""
        self._seq += 1
        sender, speaker = self._members[self._seq % len(self._members)]
        wire = datagrams.data(
            self._place, sender, self._seq, text, name="m", lamport=1, wall=self._wall
        )
        speaker.sendall(room_frame(self._handle, wire) * copies)

    def drain(self, needle: bytes = b"") -> int:
        """Read all that is there; how often `needle` came."""
        found = 0
        for descriptor, _ in self._poller.poll(0, len(self._sockets)):
            try:
                data = self._sockets[descriptor].recv(65_536)
            except (BlockingIOError, ssl.SSLWantReadError):
                continue
            if not data:
                raise Failed("the server closed a member's connection")
            found += data.count(needle) if needle else 0
        return found


def cpu_us(
    server: Server, room: Relayed, members: int, text: str, messages: int, copies: int = 1
) -> float:
    """CPU us of the server per message of `copies` datagrams, each sent when all members have had
    the last."""
    needle = text[:12].encode()
    begin = machine.cpu_ns(server.pid)
    for _ in range(messages):
        room.say(text, copies)
        arrived = 0
        deadline = time.monotonic() + 5
        while arrived < members * copies:
            arrived += room.drain(needle)
            if time.monotonic() > deadline:
                raise Failed(f"a message came to {arrived} of {members}")
    return (machine.cpu_ns(server.pid) - begin) / 1000 / messages
