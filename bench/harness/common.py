"""What the sections share: servers by name, requests as files, turns within a time."""

from __future__ import annotations

import json
import math
import os
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.harness import build, judging, machine
from bench.harness.processes import (
    Failed,
    Server,
    run_load,
)

HERE = Path(__file__).resolve().parents[1]
EVLOOP = "evloop"
OPEN = [  # caps that protect a public server and would cap a load from one address
    *("--max-per-address", "0", "--rooms-per-address", "0", "--max-rooms", "0"),
    *("--change-rate", "0", "--max-clients", "12000"),
]

TURNS_MIN = 3  # fewer have no quartiles

Row = judging.Row
Makers = dict[str, Callable[[], Server]]


class Context:
    """One run of the bench: the interpreter, the machine, and a place for small files."""

    def __init__(
        self,
        python: dict[str, Any],
        quiet: machine.Quiet,
        *,
        rounds: int,
        quick: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.python = str(python["executable"])
        self.python_facts = python
        self.quiet = quiet
        self.rounds = rounds
        self.quick = quick
        self._clock = clock
        self._until = math.inf
        self.missing: dict[str, str] = {}
        self._files = tempfile.TemporaryDirectory(prefix="evloop-bench-")
        self.files = Path(self._files.name)
        try:
            self.load = build.native("load")
        except build.Missing as missing:
            self.missing["load"] = f"{missing}: the load generator is Python, and the limit"
            self.load = HERE / "load" / "load_fallback.py"

    def close(self) -> None:
        self._files.cleanup()

    def begin(self, seconds: float) -> None:
        """A section begins: its turns end after so many seconds."""
        self._until = self._clock() + seconds

    def turns(self, count: int, quiet_s: float = 4.0) -> Iterator[int]:
        """Numbers of interleaved rounds, each when the machine is quiet; fewer than `count` where
        the section's time is over, but never fewer than TURNS_MIN of them."""
        for number in range(count):
            if number >= TURNS_MIN and self._clock() >= self._until:
                return
            self.quiet.wait(quiet_s)
            yield number

    # -- servers ---------------------------------------------------------------------------------

    def evloop(self, *arguments: str, state: Path | None = None) -> Server:
        where = ["--memory"] if state is None else ["--state", str(state)]
        head = [self.python, "-S", "-m", "evloop.server", *where]
        return Server([*head, "--listen", "127.0.0.1:0", *OPEN, *arguments])

    def peer(self, name: str, *arguments: str) -> Server:
        """A Python peer by the name of its row; Missing when it cannot be had."""
        python: str | Path = self.python
        if name == "uvloop":
            python = build.with_package(self.python, "uvloop", "uvloop")
            arguments = ("--uvloop", *arguments)
        files = {"uvloop": "asyncio_protocol", "asyncio Protocol": "asyncio_protocol"}
        files |= {"asyncio streams": "asyncio_streams", "threads": "threads"}
        return Server([python, "-m", f"bench.peers.{files[name]}", *arguments])

    def file(self, name: str, data: bytes) -> Path:
        path = self.files / name
        path.write_bytes(data)
        return path

    def start(
        self, stack: ExitStack, makers: Mapping[str, Callable[[], Server]]
    ) -> dict[str, Server]:
        """Start what can be had; the reasons of the rest go to `missing`."""
        running = {}
        for name, make in makers.items():
            try:
                running[name] = stack.enter_context(make())
            except (build.Missing, Failed) as reason:
                self.missing[name] = str(reason)
        return running

    def run(self, server: Server, request: Path, **options: object) -> Row:
        """One run of the load generator against `server`.

        Adds `us`: server CPU per request, `kernel`: the kernel's share of that, and `waited_ns`:
        how long the server was ready but another program had its core.
        """
        arguments = {"port": server.port, "request": request, "cpu-of": server.pid}
        arguments |= {name.replace("_", "-"): value for name, value in options.items()}
        waited, split = machine.waited_ns(server.pid), machine.user_and_kernel_s(server.pid)
        try:
            row: Row = run_load(self.load, arguments)
        except Failed as failed:
            raise Failed(f"{failed} (against {server.command}: {server.words()[-300:]})") from None
        row["waited_ns"] = machine.waited_ns(server.pid) - waited
        user, kernel = (
            now - then for now, then in zip(machine.user_and_kernel_s(server.pid), split)
        )
        row["kernel"] = kernel / ((user + kernel) or 1.0)
        row["rps"] = row["requests"] / row["seconds"]
        row["us"] = row["server_cpu_ns"] / max(row["requests"], 1) / 1000
        return row


# -- a plain client of the protocol ------------------------------------------------------------


def request_bytes(method: str, params: dict[str, Any] | None = None) -> bytes:
    """The payload that every server gets: the same bytes for all."""
    body: dict[str, Any] = {"jsonrpc": "2.0", "id": 1, "method": method}
    if params:
        body["params"] = params
    return json.dumps(body, separators=(",", ":")).encode()


class Client:
    """A blocking client: one request, one reply."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def close(self) -> None:
        self._socket.close()

    def raw(self, payload: bytes) -> bytes:
        self._socket.sendall(len(payload).to_bytes(4, "big") + payload)
        return self._exactly(int.from_bytes(self._exactly(4), "big"))

    def call(self, method: str, params: dict[str, Any] | None = None) -> Any:
        reply = json.loads(self.raw(request_bytes(method, params)))
        if "result" not in reply:
            raise Failed(f"{method}: {reply}")
        return reply["result"]

    def _exactly(self, count: int) -> bytes:
        parts = []
        while count:
            data = self._socket.recv(count)
            if not data:
                raise Failed("the server closed the connection")
            parts.append(data)
            count -= len(data)
        return b"".join(parts)


def reply_of(server: Server, payload: bytes, rooms: int | None = None) -> bytes:
    """The server's reply to `payload`, once it was seen to be right: then the bytes to expect."""
    client = Client(server.port)
    try:
        reply = client.raw(payload)
    finally:
        client.close()
    parsed = json.loads(reply)
    if parsed.get("id") != 1 or "result" not in parsed or parsed.get("jsonrpc") != "2.0":
        raise Failed(f"not an answer: {reply[:200]!r}")
    if rooms is not None and len(parsed["result"]["rooms"]) != rooms:
        raise Failed(f"{len(parsed['result']['rooms'])} rooms instead of {rooms}")
    return reply


COUNTED_NAME = "r00000000"


def makeroom_request(context: Context, tag: str = "r") -> tuple[Path, int]:
    """A makeroom whose name counts up, as a file, and the offset of its digits."""
    name = tag + COUNTED_NAME[1:]
    payload = request_bytes("makeroom", {"name": name})
    path = context.file(f"makeroom-{tag}", payload)
    return path, payload.index(name.encode()) + 1


def fill(context: Context, server: Server, rooms: int, start: int = 0) -> None:
    """Make rooms r%08d, from `start` until there are `rooms`."""
    if rooms <= start:
        return
    path, offset = makeroom_request(context)
    options = {"depth": 32, "seconds": 120, "warmup": 0, "counter": offset, "counter_from": start}
    context.run(server, path, count=max(rooms - start - 1, 1), **options)


def settle(server: Server, at_most_s: float = 3.0) -> None:
    """Wait until the server has nothing to do any more (closing connections is work, too)."""
    deadline = time.monotonic() + at_most_s
    used = machine.cpu_ns(server.pid)
    while time.monotonic() < deadline:
        time.sleep(0.05)
        now = machine.cpu_ns(server.pid)
        if now - used < 100_000:
            return
        used = now


def git_commit() -> str:
    """The commit that was measured, `+` when the tree had changes in evloop/."""
    import subprocess

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(HERE.parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()

    return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "-s", "evloop") else "")


def load_core_is_ours() -> None:
    """Put the bench itself on the load's core: the server's stays free."""
    os.sched_setaffinity(0, {machine.cores()[1]})
