"""A year in half a minute: whatever comes, memory, descriptors and timers return."""

from __future__ import annotations

import gc
import json
import random
import socket
import struct
import subprocess
import sys
from functools import partial
from pathlib import Path
from ssl import SSLContext
from typing import Any

import pytest

from evloop.daemon.metrics import open_descriptors, resident_bytes
from evloop.framing import pack_frame
from evloop.net.tls import client_context
from tests.net.test_tls_live import TlsCaller
from tests.support.live import ROOT, Caller, House
from tests.support.pairs import both
from tests.support.tls_files import Files

REQUESTS = 200_000
CONNECTIONS = 20_000
TOGETHER = 100  # connections at once
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close by a reset


def _payloads(rng: random.Random) -> list[bytes]:
    """Frames of all kinds, good and bad; a few thousand, from which the soak draws."""

    def name() -> str:
        return rng.choice(("lab", "café", "räume", "x")) + str(rng.randrange(300))

    def message(method: str, number: object = 7, **params: Any) -> dict[str, Any]:
        made: dict[str, Any] = {"jsonrpc": "2.0", "method": method, "params": params}
        return made if number is None else {**made, "id": number}

    def good() -> object:
        kind = rng.randrange(12)
        if kind == 0:
            return message("hello", client="soak", name=name())
        if kind == 1:
            return message("getdir", limit=rng.randrange(1, 30), after=name())
        if kind in (2, 3):
            return message("makeroom", name=name())
        if kind in (4, 5):
            return message("deleteroom", name=name(), token="0" * 32)
        if kind == 6:
            return message("enter", name=name())
        if kind == 7:
            return message("leave", name=name())
        if kind == 8:
            return message(rng.choice(("watch", "unwatch")))
        if kind == 9:
            return message("makeroom", None, name=name())
        if kind == 10:
            return [message("ping", number) for number in range(rng.randrange(1, 9))]
        return message("stats" if rng.random() < 0.05 else "ping", "an id")

    def bad() -> bytes:
        kind = rng.randrange(5)
        if kind == 0:
            return rng.randbytes(rng.randrange(40))
        if kind == 1:
            return b"[" * rng.randrange(1, 50)
        if kind == 2:
            return json.dumps(message("no such method")).encode()
        if kind == 3:
            return json.dumps(message("makeroom", name="\x1b[2J", address="10.0.0.1")).encode()
        return b""

    def frame() -> bytes:
        return pack_frame(bad() if rng.random() < 0.1 else json.dumps(good()).encode())

    return [frame() for _ in range(4_000)]


def _end(rng: random.Random, caller: Caller) -> None:
    """One of the ways in which a connection ends."""
    kind = rng.randrange(5)
    try:
        if kind == 0:
            caller.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        elif kind == 1:
            caller.sock.send(b"\0\0\0\xff{half a frame")
        elif kind == 2:
            caller.sock.send(rng.randbytes(200))
        elif kind == 3:
            caller.sock.shutdown(socket.SHUT_WR)
    except OSError:  # the server was quicker
        pass
    caller.close()


def _soak(house: House, rng: random.Random, requests: int, connections: int) -> None:
    """`requests` frames over `connections` connections, TOGETHER at once."""
    frames = _payloads(rng)
    each = requests // connections
    for _ in range(connections // TOGETHER):
        callers = [Caller(house.address) for _ in range(TOGETHER)]
        for caller in callers:
            caller.send(b"".join(rng.choices(frames, k=each)))
        house.tick(3)
        for caller in callers:
            if rng.random() < 0.8:
                try:
                    caller.sock.recv(1 << 20)
                except BlockingIOError:
                    pass
            _end(rng, caller)
        house.tick(2)
    house.until(lambda: not house.dispatcher.connections)


def _figures(house: House) -> dict[str, int]:
    house.skip(60.0)  # every deadline has passed
    for room in house.dispatcher.directory.rooms():
        house.dispatcher.delete_room(room.name, None)
    house.tick(3)
    gc.collect()
    return {
        "objects": len(gc.get_objects()),
        "descriptors": open_descriptors(),
        "timers": sum(entry[2].when < float("inf") for entry in house.loop.timers.heap),
        "watches": len(house.loop.watches),
        "resident": resident_bytes(),
    }


@pytest.mark.parametrize(
    ("store", "share"),
    [
        ("memory", 10),
        ("disk", 20),  # it syncs for each tick with a change
        pytest.param("memory", 1, marks=pytest.mark.slow),  # 20 s on a quiet machine
    ],
)
def test_what_comes_goes_again(store: str, share: int, tmp_path: Path) -> None:
    seen = _alone(store, tmp_path, share)
    assert seen["handled"] > 0.8 * REQUESTS // share
    _nothing_is_left(seen, objects=1_000)


def _alone(kind: str, folder: Path, share: int) -> dict[str, Any]:
    """What `main` tells, in a process of its own.

    The heap of this one holds every test that was collected: what the collector of cycles leaves
    for later is a share of that, and no fault of the server's.
    """
    words = [sys.executable, "-m", __name__, kind, str(folder), str(share)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    seen: dict[str, Any] = json.loads(done.stdout)
    return seen


def _nothing_is_left(seen: dict[str, Any], *, objects: int) -> None:
    before, after = seen["before"], seen["after"]
    for what in ("descriptors", "watches", "timers"):
        assert after[what] == before[what], what
    assert after["objects"] - before["objects"] < objects
    grown = after["resident"] - before["resident"]
    assert grown < 4 * 2**20, f"{grown / 2**20:.1f} MiB"
    assert seen["shaking"] == 0
    assert not any("internal error" in line for line in seen["lines"])


def main(kind: str, folder: str, share: int) -> None:
    """Soak a server, and print what it takes before and after as JSON.

    `kind` is memory, disk or tls; what is filled once (caches, tables, malloc's own) is filled
    before the first look.
    """
    options = ["--max-per-address", "0", "--change-rate", "0", "--rooms-per-address", "0"]
    if kind == "disk":
        options += ["--state", f"{folder}/directory.db"]
    if kind == "tls":
        files = Files(Path(folder))
        options += ["--tls-cert", files.cert, "--tls-key", files.key]
        context = client_context(files.ca)
    house = House(*options)
    rng = random.Random(2026)

    def use(requests: int, connections: int) -> None:
        if kind == "tls":
            _crowd(house, context, rng, connections)
        else:
            _soak(house, rng, requests, connections)

    try:
        use(10_000, 1_000 if kind != "tls" else 200)
        before = _figures(house)
        handled = house.dispatcher.handled
        use(REQUESTS // share, CONNECTIONS // share)
        seen = {
            "before": before,
            "after": _figures(house),
            "handled": house.dispatcher.handled - handled,
            "shaking": len(house.dispatcher.hub.shaking),
            "lines": house.lines,
        }
        print(json.dumps(seen))
    finally:
        house.close()


def _crowd(house: House, context: SSLContext, rng: random.Random, count: int) -> None:
    """`count` connections with TLS, some of which break off in the middle of their handshakes."""
    for _ in range(count // 20):
        callers = [TlsCaller(house, context) for _ in range(20)]
        asked = [caller.ask("ping") for caller in callers]
        cut = rng.randrange(20)
        for caller, number in list(both(callers, asked))[cut:]:
            house.until(partial(caller.reply, number))
        for caller in callers:
            house.callers.remove(caller)
            _end(rng, caller)
    house.until(lambda: not house.dispatcher.connections)


def test_tls_connections_leave_nothing(tmp_path: Path) -> None:
    _nothing_is_left(_alone("tls", tmp_path, 20), objects=500)


@pytest.mark.parametrize("kind", ["memory", "disk", "tls"])
def test_nothing_is_left_to_the_collector(kind: str, tmp_path: Path) -> None:
    """The server never looks for cycles among what has lived for long: there must be none."""
    options = ["--max-per-address", "0", "--change-rate", "0", "--rooms-per-address", "0"]
    if kind == "disk":
        options += ["--state", f"{tmp_path}/directory.db"]
    if kind == "tls":
        files = Files(tmp_path)
        options += ["--tls-cert", files.cert, "--tls-key", files.key]
        context = client_context(files.ca)
    house = House(*options)

    def live(seed: int, connections: int) -> None:
        rng = random.Random(seed)
        if kind == "tls":
            _crowd(house, context, rng, connections // 10)
        _soak(house, rng, 10 * connections, connections)

    try:
        live(1, 200)  # what is made once: imports, caches
        gc.collect()
        gc.disable()
        live(2, 2_000)
        house.skip(60.0)
        assert gc.collect() == 0
    finally:
        gc.enable()
        house.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
