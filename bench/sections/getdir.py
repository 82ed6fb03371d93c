"""A large directory (goal 6): 100,000 rooms read through pages.

One walk reads every page. Beside evloop: the asyncio Protocol peer that joins rooms encoded before,
and the same with `--reencode`, which encodes each room for each page. A probe connection asks
`ping` each millisecond meanwhile; what it waits at most bounds the longest tick from above, and is
compared with the same of the peer that joins.
"""

from __future__ import annotations

import time
from contextlib import ExitStack

from bench.harness import machine
from bench.harness.common import (
    EVLOOP,
    Client,
    Context,
    Makers,
    Row,
    fill,
    request_bytes,
)
from bench.harness.judging import compared, spread
from bench.harness.processes import (
    Failed,
    Server,
    finish_load,
    start_load,
)
from bench.report.plot import bars

ROOMS = 100_000
CACHED, REENCODING = "asyncio, joined", "asyncio, re-encoded"
CHANGED = f"{EVLOOP}, after one change"
PROBE_S, PROBES = 1.0, 5


def run(context: Context) -> Row:
    with ExitStack() as stack:
        makers: Makers = {EVLOOP: context.evloop}
        makers[CACHED] = lambda: context.peer("asyncio Protocol", "--rooms", str(ROOMS))
        makers[REENCODING] = lambda: context.peer(
            "asyncio Protocol", "--rooms", str(ROOMS), "--reencode"
        )
        servers = context.start(stack, makers)
        if EVLOOP in servers:
            fill(context, servers[EVLOOP], ROOMS)
        costs: dict[str, list[float]] = {}
        for number in context.turns(context.rounds):
            for name, server in servers.items():
                costs.setdefault(name, []).append(_walk(server, ROOMS, number))
            if EVLOOP in servers:
                client = Client(servers[EVLOOP].port)
                client.call("makeroom", {"name": f"q{number:08d}"})
                client.close()
                cost = _walk(servers[EVLOOP], ROOMS, number + 1)
                costs.setdefault(CHANGED, []).append(cost)
        waits: dict[str, list[Row]] = {EVLOOP: [], CACHED: []}
        for _ in context.turns(PROBES):
            for name in waits.keys() & servers.keys():
                waits[name].append(_probe(context, servers[name]))
    ours, again = costs.get(EVLOOP, []), costs[REENCODING]
    after = [a - b for a, b in zip(costs.get(CHANGED, []), ours)]
    encoding = (REENCODING, again, "ms")
    joined = costs.get(CACHED, [])
    longest = {name: [row["max_us"] / 1000 for row in found] for name, found in waits.items()}
    goals = [
        compared(
            6, f"CPU of reading {ROOMS} rooms, to re-encoding", ours, encoding, 0.1, lowest=joined
        ),
        compared(6, "what one change adds to it, against re-encoding", after, encoding, 0.1),
        compared(
            6, f"ms that a ping waits at most meanwhile, to {CACHED}", longest[EVLOOP],
            (CACHED, longest[CACHED], "ms"), 1.0,
        ),
    ]  # fmt: skip
    rows: list[Row] = [
        {"server": name, "load": f"{ROOMS} rooms through pages", "cpu_ms": spread(values)}
        for name, values in costs.items()
    ]
    for name, found in waits.items():
        for figure in ("p99_us", "max_us") if found else ():
            row = {"server": name, "load": f"ping during the walk, {figure[:-3]}"}
            rows.append(row | {"us": spread(run[figure] for run in found)})
    figures: dict[str, list[float | None]] = {
        row["server"]: [row["cpu_ms"]["median"]] for row in rows if "cpu_ms" in row
    }
    title = f"Reading a directory of {ROOMS:,} rooms through pages"
    return {
        "rows": rows,
        "goals": [goal.as_row() for goal in goals],
        "plots": {"getdir": bars(title, "ms of server CPU: less is better", [""], figures)},
    }


def _walk(server: Server, rooms: int, extra: int) -> float:
    """Read all pages; CPU ms of the server."""
    client = Client(server.port)
    try:
        begin = machine.cpu_ns(server.pid)
        seen, after = 0, None
        while True:
            page = client.call("getdir", {"after": after} if after else None)
            seen += len(page["rooms"])
            after = page["next"]
            if after is None:
                break
        cost = (machine.cpu_ns(server.pid) - begin) / 1e6
    finally:
        client.close()
    if not rooms <= seen <= rooms + extra:
        raise Failed(f"a walk saw {seen} rooms instead of {rooms}")
    return cost


def _probe(context: Context, server: Server) -> Row:
    """Latency of a ping each millisecond while pages are read as fast as one client can."""
    request = context.file("request-ping", request_bytes("ping"))
    options = {"port": server.port, "request": request, "pace-us": 1000, "depth": 64}
    probe = start_load(context.load, options | {"seconds": PROBE_S}, realtime=True)
    deadline = time.monotonic() + PROBE_S
    while time.monotonic() < deadline:
        _walk(server, ROOMS, ROOMS)
    row: Row = finish_load(probe)
    return row
