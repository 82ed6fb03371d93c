"""How long a server of a cluster takes to start: `python3 -m tools.cluster_start [ROOMS]`.

An etcd of one member is started on loopback. A state file of so many rooms (10,000) is imported,
and then a server is started with them, without and with an empty copy on disk: seconds until it
listens, its CPU time in all, and the longest tick: by the clock, without what the disk took, which
on a busy machine counts what others did; and its CPU time. Then some rooms are made, one after
another and by 16 connections at once; and lists are asked for, also while etcd is stopped and of a
server that is alone. Needs etcd.
"""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
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
CHANGES = 200
AT_ONCE = 16  # connections
LISTS = 200
AWAY_S = 6.0  # then changes are refused at once
# The server, which tells at its end how much CPU time its longest tick took, and when it was. The
# first tick is left out, as in `stats`: nobody waits for it.
SERVER = """
import sys, time
from evloop.server import main
from evloop.system.loop import Loop

tick, ticks = Loop.tick, []

def timed(loop):
    begun = time.process_time()
    tick(loop)
    ticks.append(time.process_time() - begun)

Loop.tick = timed
status = main(sys.argv[1:])
print("longest tick of CPU", max(ticks[1:]), flush=True)
sys.exit(status)
"""


def state_file(path: str, rooms: int) -> None:
    store = open_store(path)
    store.load()
    for number in range(rooms):
        place = f"239.255.{number // 250}.{number % 250 + 1}"
        store.insert(RoomEntry(f"Room number {number}", place, 5000, "reliable", 1, "192.0.2.1"))
    store.commit(rooms)
    store.close()


@contextmanager
def etcd(folder: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Where it listens, and its process."""
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
        yield us.removeprefix("http://"), process
    finally:
        process.kill()
        process.wait()


class Caller:
    """A connection to the server at `port` of loopback."""

    def __init__(self, port: int) -> None:
        self._sock = socket.create_connection(("127.0.0.1", port))
        self._file = self._sock.makefile("rb")

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """The result of one request."""
        self.send(method, **params)
        return self.result(method)

    def send(self, method: str, **params: Any) -> None:
        question = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        data = question.encode()
        self._sock.sendall(struct.pack("!I", len(data)) + data)

    def result(self, method: str) -> dict[str, Any]:
        """Of the oldest request that was sent and not answered yet."""
        (size,) = struct.unpack("!I", self._file.read(4))
        answer: dict[str, Any] = json.loads(self._file.read(size))
        if "result" not in answer:
            raise SystemExit(f"{method}: {answer}")
        result: dict[str, Any] = answer["result"]
        return result


def time_changes(caller: Caller) -> None:
    """Print what rooms that are made one after another take, and a list while there are many."""
    times = []
    for number in range(CHANGES):
        begun = time.monotonic()
        caller.ask("makeroom", name=f"new-{number}")
        times.append(1000 * (time.monotonic() - begun))
    times.sort()
    middle, late = times[CHANGES // 2], times[-CHANGES // 100]
    print(f"a change: {middle:.1f} ms at the middle, {late:.1f} ms at 99 of 100", flush=True)


def time_many(port: int) -> None:
    """Print how many rooms a second are made by so many connections at once."""
    callers = [Caller(port) for _ in range(AT_ONCE)]
    begun = time.monotonic()
    for at in range(CHANGES // 10):
        for number, caller in enumerate(callers):
            caller.send("makeroom", name=f"many-{at}-{number}")
        for caller in callers:
            caller.result("makeroom")
    made = AT_ONCE * (CHANGES // 10)
    print(f"{AT_ONCE} connections at once: {made / (time.monotonic() - begun):.0f} changes/s")


def time_lists(caller: Caller, what: str) -> None:
    """Print what a page of the list takes."""
    times = []
    for _ in range(LISTS):
        begun = time.monotonic()
        caller.ask("getdir", limit=1)
        times.append(1000 * (time.monotonic() - begun))
    print(f"a list {what}: {sorted(times)[LISTS // 2]:.2f} ms at the middle", flush=True)


def start(what: str, *options: str, engine: int = 0) -> None:
    """Start a server, print what it took, end it. `engine`: etcd's process: time changes as well,
    and lists, also while it is stopped."""
    words = [sys.executable, "-c", SERVER, "--listen", "127.0.0.1:0", "--no-announce"]
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
    caller = Caller(int(found[2]))
    lag = caller.ask("stats")["lag"]
    if engine:
        time_changes(caller)
        time_many(int(found[2]))
        time_lists(caller, "with etcd")
        os.kill(engine, signal.SIGSTOP)
        time.sleep(AWAY_S)
        time_lists(caller, "while etcd is away")
        os.kill(engine, signal.SIGCONT)
    elif "--cluster" not in options:
        time_lists(caller, "of a server that is alone")
    server.terminate()
    said, _ = server.communicate(timeout=60)
    busy = 1000 * float(said.rpartition("longest tick of CPU")[2])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(
        f"{what}: {seconds:.2f} s until it listens, {cpu:.2f} s of CPU in all,"
        f" longest tick {1000 * lag['worst_own']:.1f} ms, {busy:.1f} of CPU",
        flush=True,
    )


def main() -> None:
    rooms = int(sys.argv[1]) if sys.argv[1:] else ROOMS
    folder = tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
    try:
        alone, copy = f"{folder}/alone.db", f"{folder}/copy.db"
        state_file(alone, rooms)
        with etcd(f"{folder}/etcd") as (place, process):
            cluster = ("--cluster", place)
            start(f"import of {rooms} rooms", *cluster, "--import", alone, "--memory")
            for _ in range(3):
                start("start without a copy", *cluster, "--memory")
            start("start with an empty copy", *cluster, "--state", copy)
            start("start with that copy", *cluster, "--state", copy)
            more = ("--max-rooms", "0", "--change-rate", "0")
            start("start without a copy", *cluster, "--memory", *more, engine=process.pid)
        start("start of a server that is alone", "--state", alone)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
