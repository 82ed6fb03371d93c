"""Clients that quarrel over rooms at several servers of one directory; run in a namespace.

    python3 -m tests.lab.quarrel SEED SECONDS NAMES HOST:PORT ...

Each of a few clients asks one request after another: rooms are made and deleted, as fast as it
goes. A connection that is lost, or not answered in 12 s, makes its request unknown, and is made
anew. The last line printed is JSON: all requests, and at the end the listing of each server.
"""

from __future__ import annotations

import json
import random
import selectors
import socket
import struct
import sys
import time
from typing import Any

PER_SERVER = 3
PATIENCE_S = 12.0


class Asker:
    """One client of one server."""

    def __init__(self, place: str, rng: random.Random, names: int) -> None:
        host, _, port = place.rpartition(":")
        self.place = host, int(port)
        self.rng = rng
        self.names = names
        self.sock: socket.socket | None = None
        self.buffer = b""
        self.begun = 0.0
        self.op = self.name = ""
        self.try_at = 0.0
        self.told: list[list[Any]] = []

    def connect(self, now: float) -> bool:
        try:
            self.sock = socket.create_connection(self.place, 0.5)
        except OSError:
            self.try_at = now + 0.2
            return False
        self.sock.setblocking(False)
        self.buffer = b""
        return True

    def ask(self, now: float) -> None:
        self.op = "make" if self.rng.random() < 0.6 else "delete"
        self.name = f"r{self.rng.randrange(self.names)}"
        method = {"make": "makeroom", "delete": "deleteroom"}[self.op]
        payload = json.dumps(
            {"jsonrpc": "2.0", "id": 1, "method": method, "params": {"name": self.name}}
        ).encode()
        self.begun = now
        assert self.sock is not None
        self.sock.send(struct.pack("!I", len(payload)) + payload)

    def lost(self, now: float) -> None:
        if self.begun:
            self.note("unknown", -1, None)
        assert self.sock is not None
        self.sock.close()
        self.sock, self.try_at = None, now + 0.1

    def note(self, outcome: str, version: int, now: float | None) -> None:
        self.told.append([self.begun, now, self.op, self.name, outcome, version])
        self.begun = 0.0

    def read(self, now: float) -> bool:
        """Whether it was answered."""
        assert self.sock is not None
        try:
            data = self.sock.recv(65536)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self.lost(now)
            return False
        self.buffer += data
        if len(self.buffer) < 4:
            return False
        size = struct.unpack_from("!I", self.buffer)[0]
        if len(self.buffer) < 4 + size:
            return False
        message = json.loads(self.buffer[4 : 4 + size])
        self.buffer = self.buffer[4 + size :]
        if "result" in message:
            self.note("ok", message["result"]["version"], now)
        else:
            reason = message["error"]["data"]["reason"]
            outcome = {"storage_failed": "failed", "storage_unknown": "unknown"}.get(reason, reason)
            self.note(outcome, -1, now)
        return True


def listing(place: str) -> Any:
    host, _, port = place.rpartition(":")
    question = b'{"jsonrpc":"2.0","id":1,"method":"getdir"}'
    with socket.create_connection((host, int(port)), 5) as sock, sock.makefile("rb") as file:
        sock.sendall(struct.pack("!I", len(question)) + question)
        size = struct.unpack("!I", file.read(4))[0]
        result = json.loads(file.read(size))["result"]
    return [result["version"], sorted([one["name"], one["address"]] for one in result["rooms"])]


def main() -> None:
    seed, seconds, names = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
    places = sys.argv[4:]
    rng = random.Random(seed)
    askers = [Asker(place, rng, names) for place in places for _ in range(PER_SERVER)]
    end = time.monotonic() + seconds
    print("quarrelling", flush=True)
    while True:
        now = time.monotonic()
        going = now < end
        if not going and not any(one.begun for one in askers):
            break
        selector = selectors.DefaultSelector()
        for one in askers:
            if one.sock is None and going and now >= one.try_at and one.connect(now):
                pass
            if one.sock is not None and not one.begun and going:
                one.ask(now)
            if one.begun and now - one.begun > PATIENCE_S:
                one.lost(now)
            if one.sock is not None and one.begun:
                selector.register(one.sock, selectors.EVENT_READ, one)
        for key, _ in selector.select(0.05):
            key.data.read(time.monotonic())
        selector.close()
    told = [it for one in askers for it in one.told]
    deadline = time.monotonic() + 30.0
    while True:  # all servers hear of the last change
        try:
            lists = [listing(place) for place in places]
        except OSError:
            lists = []
        if (lists and all(one == lists[0] for one in lists)) or time.monotonic() > deadline:
            break
        time.sleep(0.2)
    print(json.dumps({"told": told, "lists": lists}), flush=True)


if __name__ == "__main__":
    main()
