"""How long a server of a cluster takes to start: `python3 -m tools.cluster_start [ROOMS]`.

An etcd of one member is started on loopback. A state file of so many rooms (10,000) is imported,
and then a server is started with them, without and with an empty copy on disk: seconds until it
listens, its CPU time in all, and the longest tick (without what the disk took). Needs etcd.
"""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from evloop.daemon.store import open_store
from evloop.directory.protocol import RoomEntry

ROOMS = 10_000


def state_file(path: str, rooms: int) -> None:
    store = open_store(path)
    store.load()
    for number in range(rooms):
        place = f"239.255.{number // 250}.{number % 250 + 1}"
        store.insert(RoomEntry(f"Room number {number}", place, 5000, "reliable", 1, "192.0.2.1"))
    store.commit(rooms)
    store.close()


@contextmanager
def etcd(folder: str) -> Iterator[str]:
    """Where it listens."""
    socks = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    us, peer = (f"http://127.0.0.1:{sock.getsockname()[1]}" for sock in socks)
    for sock in socks:
        sock.close()
    words = [
        *("etcd", "--name", "one", "--data-dir", folder, "--log-level", "error"),
        *("--listen-client-urls", us, "--advertise-client-urls", us),
        *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
        *("--initial-cluster", f"one={peer}"),
    ]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield us.removeprefix("http://")
    finally:
        process.kill()
        process.wait()


def asked(port: int, method: str) -> dict[str, Any]:
    """The answer of a server to one request."""
    question = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method}).encode()
    with socket.create_connection(("127.0.0.1", port)) as sock, sock.makefile("rb") as file:
        sock.sendall(struct.pack("!I", len(question)) + question)
        (size,) = struct.unpack("!I", file.read(4))
        answer: dict[str, Any] = json.loads(file.read(size))["result"]
        return answer


def start(what: str, *options: str) -> None:
    """Start a server, print what it took, end it."""
    words = [sys.executable, "-m", "evloop.server", "--listen", "127.0.0.1:0", "--no-announce"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begun = time.monotonic()
    server = subprocess.Popen(
        [*words, *options],
        env={**os.environ, "EVLOOP_INTERFACE": "127.0.0.1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert server.stdin is not None and server.stdout is not None
    said = ""
    for line in server.stdout:
        said += line
        if "listening" in line:
            break
    seconds = time.monotonic() - begun
    found = re.search(r"listening on (127\.0\.0\.1):(\d+)", said)
    assert found is not None, said
    lag = asked(int(found[2]), "stats")["lag"]
    server.terminate()
    server.communicate(timeout=60)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(
        f"{what}: {seconds:.2f} s until it listens, {cpu:.2f} s of CPU in all,"
        f" longest tick {1000 * lag['worst_own']:.1f} ms",
        flush=True,
    )


def main() -> None:
    rooms = int(sys.argv[1]) if sys.argv[1:] else ROOMS
    folder = tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
    try:
        alone, copy = f"{folder}/alone.db", f"{folder}/copy.db"
        state_file(alone, rooms)
        with etcd(f"{folder}/etcd") as place:
            cluster = ("--cluster", place)
            start(f"import of {rooms} rooms", *cluster, "--import", alone, "--memory")
            for _ in range(3):
                start("start without a copy", *cluster, "--memory")
            start("start with an empty copy", *cluster, "--state", copy)
            start("start with that copy", *cluster, "--state", copy)
        start("start of a server that is alone", "--state", alone)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
