"""Loop lag: how long a tick lasts, and how long one connection waits, while others load the server.

The goal speaks of ticks: evloop's own `stats` tells the longest one (`tick_ms`), how much of it was
the disk's sync (`sync_ms`), and the longest without its sync (`own_ms`). Each load has a server of
its own, so that each has its own longest tick; the making of its rooms is in it.

Beside it a probe asks `ping` every millisecond, open loop, at real-time priority on the load's
core: `p99_ms` and `max_ms` are what it waits. A wait may hold several ticks, the way through the
kernel, and the time that another program had the server's core (`waited_ms`, in all). The asyncio
peer is under the same loads. What else this machine does is not to be called theirs: the servers
have the highest ordinary priority where we may give it, and the goal is about each load's run in
which its server waited least.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from bench.harness import build, machine
from bench.harness.common import (
    EVLOOP,
    Client,
    Context,
    Row,
    fill,
    makeroom_request,
    request_bytes,
)
from bench.harness.judging import Goal, spread
from bench.harness.processes import (
    Failed,
    Server,
    end,
    finish_load,
    start_load,
)
from bench.report.plot import bars

TICK_MS_MAX = 20.0
PROBE_S = 0.8
ROOMS = 10_000  # the default of --max-rooms
MANY_ROOMS = 100_000
PEER = "asyncio Protocol"
DURABLE = f"{EVLOOP}, durable"
ENTERED = 64  # rooms that one connection may be in
QUIET_MS = 5.0  # a run in which the server waited longer for its core is made again ...
REPEATS_MAX = 6  # ... so many times in all

Crowd = list[Client]
Found = dict[tuple[str, str], list[Row]]  # runs by server and load


# -- who is there besides the load -----------------------------------------------------------------


def _watchers(server: Server) -> Crowd:
    """1,000 that watch and read nothing: what does not fit the kernel's queues waits in ours."""
    return [_asked(server, request_bytes("watch")) for _ in range(1_000)]


def _guests(server: Server) -> Crowd:
    """256 that are each in as many rooms as one may be in, and will be gone at once."""
    return [_asked(server, _enter_many(number)) for number in range(256)]


def _enter_many(number: int) -> bytes:
    names = [f"r{(number * ENTERED + room) % (ROOMS - ENTERED):08d}" for room in range(ENTERED)]
    return b"[%b]" % b",".join(request_bytes("enter", {"name": name}) for name in names)


def _asked(server: Server, payload: bytes) -> Client:
    client = Client(server.port)
    reply = json.loads(client.raw(payload))
    if any("result" not in one for one in (reply if isinstance(reply, list) else [reply])):
        raise Failed(f"not answered: {reply!r:.200}")
    return client


# -- the loads -------------------------------------------------------------------------------------

# Options of the load generator; `again`: run anew and anew for a moment, `rooms`: made before,
# `crowd`: who is there besides, `servers`: under this load, all of them where it is not said.
LOADS: dict[str, dict[str, Any]] = {
    "nothing else": {},
    "ping 50x16": {"method": "ping", "depth": 16},
    "ping 50x16, 100,000 rooms": {
        "method": "ping",
        "depth": 16,
        "rooms": MANY_ROOMS,
        "servers": (EVLOOP,),
    },
    "getdir of 20, 50x16": {"method": "getdir", "params": {"limit": 20}, "depth": 16},
    "getdir of 500, 256x64": {"method": "getdir", "connections": 256, "depth": 64},
    "makeroom 16x16": {
        "method": "makeroom",
        "connections": 16,
        "depth": 16,
        "servers": (EVLOOP, DURABLE, PEER),
    },
    "500 connections come and go": {
        "method": "ping",
        "connections": 500,
        "depth": 1,
        "again": True,
    },
    "256 in 64 rooms each go at once": {"crowd": _guests, "servers": (EVLOOP,)},
    "news to 1,000 who do not read": {
        "method": "makeroom",
        "connections": 16,
        "depth": 4,
        "crowd": _watchers,
        "servers": (EVLOOP,),
    },
}


def run(context: Context) -> Row:
    place = build.BUILD / f"lag-{os.getpid()}"
    place.mkdir(parents=True, exist_ok=True)
    try:
        found: Found = {}
        for _ in range(max(2, context.rounds // 2)):
            for load, options in LOADS.items():
                for name in options.get("servers", (EVLOOP, PEER)):
                    _measure(context, name, load, place, found)
        for _ in range(REPEATS_MAX):
            name, load = max(found, key=lambda key: _quietest(found[key])["waited_ns"])
            if _quietest(found[name, load])["waited_ns"] < QUIET_MS * 1e6:
                break
            _measure(context, name, load, place, found)
        return _report(found, [_sync_ms(place) for _ in range(3)])
    finally:
        shutil.rmtree(place)


def _measure(context: Context, name: str, load: str, place: Path, found: Found) -> None:
    context.quiet.wait(1.0)
    try:
        row = _under(context, name, LOADS[load], place)
    except (build.Missing, Failed) as reason:
        context.missing[f"{name}, {load}"] = str(reason)
    else:
        found.setdefault((name, load), []).append(row)


def _quietest(runs: list[Row]) -> Row:
    """The run in which the server was kept waiting least by other programs."""
    return min(runs, key=lambda run: run["waited_ns"])


def _under(context: Context, name: str, options: dict[str, Any], place: Path) -> Row:
    """One server under one load: the figures of a probe, and its own."""
    state = place / "directory.db"
    makers: dict[str, Callable[[], Server]] = {
        EVLOOP: context.evloop,
        PEER: partial(context.peer, PEER, "--rooms", str(ROOMS)),
        DURABLE: partial(context.evloop, state=state),
    }
    for old in place.glob("directory.db*"):
        old.unlink()
    with makers[name]() as server:
        _prefer(server.pid)
        if name != PEER:
            fill(context, server, options.get("rooms", ROOMS))
        crowd = options["crowd"](server) if "crowd" in options else []
        row = _probe(context, server, options, crowd)
        if name != PEER:
            lag = _lag(server)
            row["tick_ms"] = lag["worst"] * 1000
            row["sync_ms"] = lag["worst_sync"] * 1000
            row["own_ms"] = lag["worst_own"] * 1000
        for client in crowd:
            client.close()
    return row


def _prefer(pid: int) -> None:
    try:
        os.setpriority(os.PRIO_PROCESS, pid, -20)
    except PermissionError:  # not root: waited_ms tells what it costs
        pass


def _probe(context: Context, server: Server, options: dict[str, Any], crowd: Crowd) -> Row:
    """A probe's figures while the load runs, and the crowd goes if it has nothing to hear."""
    names = itertools.count(1_000_000, 500_000)  # each run of a makeroom load has its own
    ping = context.file("request-ping", request_bytes("ping"))
    waited = machine.waited_ns(server.pid)
    load = _start(context, server, options, names) if "method" in options else None
    time.sleep(0.3)  # the load's own connections are made by then
    flags = {"port": server.port, "request": ping, "pace-us": 1000, "depth": 256}
    probe = start_load(context.load, flags | {"seconds": PROBE_S}, realtime=True)
    try:
        deadline = time.monotonic() + PROBE_S + 0.3
        while options.get("again") and time.monotonic() < deadline and load is not None:
            finish_load(load)
            load = _start(context, server, options | {"seconds": 0.05}, names)
        if crowd and load is None:
            time.sleep(0.5)
            while crowd:
                crowd.pop().close()
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


def _lag(server: Server) -> Row:
    client = Client(server.port)
    try:
        lag: Row = client.call("stats")["lag"]
    finally:
        client.close()
    return lag


def _sync_ms(place: Path) -> float:
    """The longest of 200 syncs of 4 KiB, without any server."""
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


# -- the report ------------------------------------------------------------------------------------


def _report(found: Found, sync: list[float]) -> Row:
    rows: list[Row] = []
    for (name, load), runs in found.items():
        row: Row = {"server": name, "load": load}
        for key in ("tick_ms", "sync_ms", "own_ms"):
            if key in runs[0]:
                row[key] = spread(run[key] for run in runs)
        row["p99_ms"] = spread(run["p99_us"] / 1000 for run in runs)
        row["max_ms"] = spread(run["max_us"] / 1000 for run in runs)
        row["waited_ms"] = spread(run["waited_ns"] / 1e6 for run in runs)
        rows.append(row)
    rows.append({"server": "disk", "load": "longest of 200 fdatasync", "max_ms": spread(sync)})
    goals = []
    for name, what in ((EVLOOP, "in memory"), (DURABLE, "durable, without the disk's sync in it")):
        ticks = [_quietest(runs)["own_ms"] for (server, _), runs in found.items() if server == name]
        if ticks:
            what = f"ms of the longest tick under any load, {what}"
            goals.append(Goal("lag", what, max(ticks), TICK_MS_MAX, "<=").as_row())
    return {
        "rows": rows,
        "goals": goals,
        "plots": {
            "lag": _plot(rows, "own_ms", "The longest tick under a load, without the disk's sync"),
            "lag-waits": _plot(rows, "max_ms", "What a ping waits at most while others ask"),
        },
    }


def _plot(rows: list[Row], key: str, title: str) -> str:
    figures: dict[str, dict[str, float]] = {}
    for row in rows:
        if row["load"] in LOADS and key in row:
            figures.setdefault(row["server"], {})[row["load"]] = row[key]["median"]
    lines = {name: [known.get(load) for load in LOADS] for name, known in figures.items()}
    return bars(title, "milliseconds: less is better", list(LOADS), lines)
