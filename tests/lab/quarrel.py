"""Clients that quarrel over rooms at several servers of one directory; run in a namespace.

    python3 -m tests.lab.quarrel SEED SECONDS NAMES HOST:PORT ...
    python3 -m tests.lab.quarrel same COUNT HOST:PORT HOST:PORT

Each of a few clients asks one request after another: rooms are made and deleted, as fast as it
goes. A connection that is lost, or not answered in 12 s, makes its request unknown, and is made
anew. `same`: two people make the same room at two servers at the same moment, and so many rooms
one after another, as fast as it goes. The last line printed is JSON: all requests, and at the end
the listing of each server.
"""

from __future__ import annotations

import json
import random
import selectors
import signal
import socket
import struct
import sys
import time
from typing import Any

PER_SERVER = 3
PAIRS = 8  # who make the same room
PATIENCE_S = 12.0


class Asker:
    """One client of one server."""

    def __init__(self, place: str) -> None:
        host, _, port = place.rpartition(":")
        self.place = host, int(port)
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

    def ask(self, op: str, name: str, now: float) -> None:
        self.op, self.name = op, name
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
    """The version, and the rooms of all pages, of a server."""
    host, _, port = place.rpartition(":")
    rooms: list[Any] = []
    with socket.create_connection((host, int(port)), 5) as sock, sock.makefile("rb") as file:
        params: dict[str, Any] = {}
        while True:
            question = json.dumps(
                {"jsonrpc": "2.0", "id": 1, "method": "getdir", "params": params}
            ).encode()
            sock.sendall(struct.pack("!I", len(question)) + question)
            size = struct.unpack("!I", file.read(4))[0]
            result = json.loads(file.read(size))["result"]
            rooms += [[one["name"], one["address"]] for one in result["rooms"]]
            if result["next"] is None:
                return [result["version"], sorted(rooms)]
            params = {"after": result["next"]}


def wait(askers: list[Asker]) -> None:
    """Read what comes in a moment."""
    now = time.monotonic()
    with selectors.DefaultSelector() as selector:
        for one in askers:
            if one.begun and now - one.begun > PATIENCE_S:
                one.lost(now)
            if one.sock is not None and one.begun:
                selector.register(one.sock, selectors.EVENT_READ, one)
        for key, _ in selector.select(0.05):
            key.data.read(time.monotonic())


def quarrel(askers: list[Asker], rng: random.Random, seconds: float, names: int) -> None:
    """Everybody makes and deletes rooms, until the time is over or SIGINT comes."""
    end = time.monotonic() + seconds
    enough: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _: enough.append(number))
    while True:
        now = time.monotonic()
        going = now < end and not enough
        if not going and not any(one.begun for one in askers):
            return
        for one in askers:
            if one.sock is None and going and now >= one.try_at:
                one.connect(now)
            if one.sock is not None and not one.begun and going:
                op = "make" if rng.random() < 0.6 else "delete"
                one.ask(op, f"r{rng.randrange(names)}", now)
        wait(askers)


def make_the_same(pairs: list[tuple[Asker, Asker]], count: int) -> None:
    """Each pair makes a room twice at one moment, then the next one."""
    everybody = [one for pair in pairs for one in pair]
    left = iter(range(count))
    while True:
        for pair in pairs:
            for one in pair:  # who was not answered in time has let go of its connection
                if one.sock is None:
                    one.connect(time.monotonic())
            if all(one.sock is not None and not one.begun for one in pair):
                number = next(left, None)
                if number is not None:
                    for one in pair:
                        one.ask("make", f"r{number}", time.monotonic())
        if not any(one.begun for one in everybody) and all(one.sock for one in everybody):
            return
        wait(everybody)


def listings(places: list[str]) -> list[Any]:
    """What each server lists, once all have heard of the last change."""
    deadline = time.monotonic() + 30.0
    while True:
        try:
            lists = [listing(place) for place in places]
        except OSError:
            lists = []
        if (lists and all(one == lists[0] for one in lists)) or time.monotonic() > deadline:
            return lists
        time.sleep(0.2)


def main() -> None:
    print("quarrelling", flush=True)
    if sys.argv[1] == "same":
        places = sys.argv[3:]
        pairs = [(Asker(places[0]), Asker(places[1])) for _ in range(PAIRS)]
        make_the_same(pairs, int(sys.argv[2]))
        askers = [one for pair in pairs for one in pair]
    else:
        places = sys.argv[4:]
        askers = [Asker(place) for place in places for _ in range(PER_SERVER)]
        rng = random.Random(int(sys.argv[1]))
        quarrel(askers, rng, float(sys.argv[2]), int(sys.argv[3]))
    told = [it for one in askers for it in one.told]
    print(json.dumps({"told": told, "lists": listings(places)}), flush=True)


if __name__ == "__main__":
    main()
