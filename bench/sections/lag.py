"""Loop lag: how long one connection waits while others load the server.

A probe asks `ping` every millisecond, open loop, at real-time priority on the load's core; its p99
and maximum bound the longest tick from above (scheduling of this machine and the way through the
kernel are in it). Beside it, what evloop's own `stats` says of its longest tick, and for durable
changes what the disk's sync alone takes. The asyncio peer is under the same loads. `waited_ms` is
how long the server was ready but another program had its core: where it is large, the machine was
busy and the maximum is not the server's.
"""

from __future__ import annotations

import itertools
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from bench import build, machine
from bench.common import (
    EVLOOP,
    Client,
    Context,
    Goal,
    Makers,
    Row,
    fill,
    makeroom_request,
    request_bytes,
    spread,
)
from bench.plot import bars
from bench.processes import Failed, Server, end, finish_load, start_load

TICK_MS_MAX = 20.0
PROBE_S = 1.0
ROOMS = 10_000
PEER = "asyncio Protocol"
DURABLE = f"{EVLOOP}, durable"
STORM = "500 connections come and go"
LOADS: dict[str, dict[str, Any]] = {
    "nothing else": {},
    "ping 50x16": {"method": "ping", "connections": 50, "depth": 16},
    "getdir of 20, 50x16": {"method": "getdir", "params": {"limit": 20}, "depth": 16},
    "getdir of 500, 16x4": {"method": "getdir", "connections": 16, "depth": 4},
    "makeroom 16x16": {"method": "makeroom", "connections": 16, "depth": 16},
    STORM: {"method": "ping", "connections": 500, "depth": 1, "again": True},
}


def run(context: Context) -> Row:
    place = build.BUILD / f"lag-{os.getpid()}"
    place.mkdir(parents=True, exist_ok=True)
    try:
        with ExitStack() as stack:
            makers: Makers = {EVLOOP: context.evloop}
            makers[PEER] = partial(context.peer, PEER, "--rooms", str(ROOMS))
            makers[DURABLE] = partial(context.evloop, state=place / "directory.db")
            servers = context.start(stack, makers)
            if EVLOOP in servers:
                fill(context, servers[EVLOOP], ROOMS)
            return _measure(context, servers, place)
    finally:
        shutil.rmtree(place)


def _measure(context: Context, servers: dict[str, Server], place: Path) -> Row:
    waits: dict[tuple[str, str], list[Row]] = {}
    names = itertools.count(1_000_000, 500_000)  # each makeroom load has names of its own
    longest: dict[tuple[str, str], float] = {}
    for _ in range(max(2, context.rounds // 2)):
        for load, options in LOADS.items():
            context.quiet.wait(2.0)
            for name, server in servers.items():
                if name == DURABLE and load != "makeroom 16x16":
                    continue
                row = _probe(context, server, options, names)
                waits.setdefault((name, load), []).append(row)
    for name, server in servers.items():
        if name != PEER:
            longest[name, "all of these loads"] = _longest_tick_ms(server)
    sync = [_sync_ms(place) for _ in range(3)]
    rows: list[Row] = [
        {
            "server": name,
            "load": load,
            "p99_ms": spread(row["p99_us"] / 1000 for row in found),
            "max_ms": spread(row["max_us"] / 1000 for row in found),
            "waited_ms": spread(row["waited_ns"] / 1e6 for row in found),
        }
        for (name, load), found in waits.items()
    ]
    rows += [
        {"server": name, "load": f"longest tick, its own word, {load}", "ms": spread([value])}
        for (name, load), value in longest.items()
    ]
    rows.append({"server": "disk", "load": "longest of 200 fdatasync", "max_ms": spread(sync)})
    goals = []
    for name in servers:
        if name != PEER:
            own = [row for row in rows if row["server"] == name and "max_ms" in row]
            worst = max(row["max_ms"]["median"] for row in own)
            what = f"ms that a ping waits at most, {name.removeprefix('evloop, ')}"
            goals.append(Goal("lag", what, worst, TICK_MS_MAX, "<=").as_row())
    loads = list(LOADS)
    figures: dict[str, list[float | None]] = {
        name: [
            next(
                (r["max_ms"]["median"] for r in rows if (r["server"], r["load"]) == (name, load)),
                None,
            )
            for load in loads
        ]
        for name in servers
    }
    title = "What a ping waits at most while others load the server"
    plot = bars(title, "milliseconds: less is better", loads, figures)
    return {"rows": rows, "goals": goals, "plots": {"lag": plot}}


def _probe(context: Context, server: Server, options: dict[str, Any], names: Iterator[int]) -> Row:
    """A probe's figures while the load runs."""
    ping = context.file("request-ping", request_bytes("ping"))
    waited = machine.waited_ns(server.pid)
    load = _start(context, server, options, names) if options else None
    time.sleep(0.3)  # the load's own connections are made by then
    flags = {"port": server.port, "request": ping, "pace-us": 1000, "depth": 256}
    probe = start_load(context.load, flags | {"seconds": PROBE_S}, realtime=True)
    try:
        deadline = time.monotonic() + PROBE_S + 0.3
        while options.get("again") and time.monotonic() < deadline and load is not None:
            finish_load(load)
            load = _start(context, server, options | {"seconds": 0.05}, names)
        row: Row = finish_load(probe)
        row["waited_ns"] = machine.waited_ns(server.pid) - waited
    finally:
        if load is not None:
            end(load)
    return row


def _start(context: Context, server: Server, options: dict[str, Any], names: Iterator[int]) -> Any:
    flags: dict[str, object] = {
        "port": server.port,
        "connections": options.get("connections", 50),
        "depth": options["depth"],
        "seconds": options.get("seconds", 0.05 if options.get("again") else PROBE_S + 0.4),
        "warmup": 0.01,
    }
    method = options["method"]
    if method == "makeroom":
        path, offset = makeroom_request(context, "m")
        flags |= {"request": path, "counter": offset, "counter-from": next(names)}
    else:
        payload = request_bytes(method, options.get("params"))
        flags["request"] = context.file(f"lag-{method}", payload)
    return start_load(context.load, flags)


def _longest_tick_ms(server: Server) -> float:
    client = Client(server.port)
    try:
        stats = client.call("stats")
        return float(stats["lag"]["worst"]) * 1000
    except (Failed, KeyError) as error:
        raise Failed(f"stats has no lag: {error}") from None
    finally:
        client.close()


def _sync_ms(place: Path) -> float:
    descriptor = os.open(place / "plain", os.O_CREAT | os.O_WRONLY)
    longest = 0.0
    try:
        for number in range(200):
            os.pwrite(descriptor, b"\0" * 4096, 4096 * number)
            begin = time.perf_counter()
            os.fdatasync(descriptor)
            longest = max(longest, time.perf_counter() - begin)
    finally:
        os.close(descriptor)
    return longest * 1000
