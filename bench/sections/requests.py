"""Directory requests (goals 1 and 2): CPU per request and requests per second, peers beside it.

Four loads: `ping` and `getdir` with limit 20, each from 50 connections with one request in flight
("50x1") and with sixteen ("50x16"). All servers are up during the whole section and take turns;
50x1, whose goals are the tightest, has twice the rounds. The floor sends the same
bytes and looks at none.
"""

from __future__ import annotations

import statistics
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from bench.harness import build
from bench.harness.common import (
    EVLOOP,
    Context,
    Makers,
    Row,
    fill,
    reply_of,
    request_bytes,
)
from bench.harness.judging import Goal, compared, spread
from bench.harness.processes import Server
from bench.report.plot import bars

ROOMS = 1_000
CONNECTIONS = 50
SECONDS, WARMUP = 0.35, 0.1
PYTHON_PEERS = ("asyncio Protocol", "asyncio streams", "uvloop", "threads")  # no goal: the last
FLOOR, CEILING = "Python floor", "C epoll"
LOADS = [("ping", 1), ("ping", 16), ("getdir", 1), ("getdir", 16)]
RATES = {
    "ping": {"asyncio Protocol": 1.8, "uvloop": 1.8, "asyncio streams": 4.0},
    "getdir": {"asyncio Protocol": 1.5, "uvloop": 1.5, FLOOR: 0.65},
}
PAYLOADS = {"ping": request_bytes("ping"), "getdir": request_bytes("getdir", {"limit": 20})}


def run(context: Context) -> Row:
    with ExitStack() as stack:
        makers: Makers = {EVLOOP: context.evloop}
        for name in PYTHON_PEERS[:3] if context.quick else PYTHON_PEERS:
            makers[name] = partial(context.peer, name, "--rooms", str(ROOMS))
        servers = context.start(stack, makers)
        if EVLOOP in servers:
            fill(context, servers[EVLOOP], ROOMS)
        model = servers["asyncio Protocol"]
        replies = {}
        for method, payload in PAYLOADS.items():
            replies[method] = context.file(f"reply-{method}", reply_of(model, payload))
        targets = {(name, m): server for name, server in servers.items() for m in PAYLOADS}
        for method, payload in PAYLOADS.items():
            length = str(len(payload) + 4)
            command = [context.python, "-m", "bench.peers.floor", length, replies[method]]
            targets[FLOOR, method] = stack.enter_context(Server(command))
        if context.quick:
            return _measure(context, targets)
        try:
            ceiling = Server([build.native("epoll_server"), replies["ping"], replies["getdir"]])
            stack.enter_context(ceiling)
            targets |= {(CEILING, method): ceiling for method in PAYLOADS}
        except build.Missing as reason:
            context.missing[CEILING] = str(reason)
        return _measure(context, targets)


def _measure(context: Context, targets: dict[tuple[str, str], Server]) -> Row:
    names = list(dict.fromkeys(name for name, _ in targets))
    requests = {m: context.file(f"request-{m}", payload) for m, payload in PAYLOADS.items()}
    expected: dict[tuple[str, str], Path] = {}
    for (name, method), server in targets.items():
        reply = reply_of(server, PAYLOADS[method], 20 if method == "getdir" else None)
        expected[name, method] = context.file(f"{name}-{method}".replace(" ", "-"), reply)
    runs: dict[tuple[str, str, int], list[Row]] = {}
    seconds, warmup = (0.2, 0.05) if context.quick else (SECONDS, WARMUP)
    turns = context.rounds if context.quick else 2 * context.rounds
    for turn in context.turns(turns, 1.0):
        for method, depth in LOADS:
            if depth > 1 and turn >= context.rounds:
                continue
            # Another one first each time: who comes after a wait finds the caches cold.
            first = turn % len(names)
            for name in names[first:] + names[:first]:
                row = context.run(
                    targets[name, method],
                    requests[method],
                    expect=expected[name, method],
                    connections=CONNECTIONS,
                    depth=depth,
                    seconds=seconds,
                    warmup=warmup,
                )
                runs.setdefault((name, method, depth), []).append(row)
    return {
        "rows": [_row(key, found) for key, found in runs.items()],
        "goals": [goal.as_row() for goal in _goals(runs)],
        "plots": _plots(runs, names),
        "note": f"{CONNECTIONS} connections, {ROOMS} rooms; reply bytes "
        + ", ".join(f"{m} {expected[names[0], m].stat().st_size}" for m in PAYLOADS),
    }


def _row(key: tuple[str, str, int], runs: list[Row]) -> Row:
    name, method, depth = key
    return {
        "server": name,
        "load": f"{method} {CONNECTIONS}x{depth}",
        "cpu_us": spread(run["us"] for run in runs),
        "kernel_share": spread(run["kernel"] for run in runs),
        "rps": spread(run["rps"] for run in runs),
        "p50_us": spread(run["p50_us"] for run in runs),
        "p99_us": spread(run["p99_us"] for run in runs),
        "waited_share": spread(run["waited_ns"] / run["seconds"] / 1e9 for run in runs),
    }


def _goals(runs: dict[tuple[str, str, int], list[Row]]) -> list[Goal]:
    def found(name: str, method: str, depth: int, figure: str) -> list[float]:
        return [run[figure] for run in runs.get((name, method, depth), [])]

    goals = []
    for method in PAYLOADS:
        for peer, limit in (("asyncio Protocol", 0.8), ("uvloop", 0.85), (FLOOR, 1.5)):
            what = f"CPU per {method} at 50x1, against {peer}"
            ours, theirs, floor = (found(n, method, 1, "us") for n in (EVLOOP, peer, FLOOR))
            goals.append(compared(1, what, ours, (peer, theirs, "us"), limit, lowest=floor))
    for method, limits in RATES.items():
        for peer, limit in limits.items():
            what = f"{method}/s at 50x16, against {peer}"
            ours, theirs, floor = (found(n, method, 16, "rps") for n in (EVLOOP, peer, FLOOR))
            goals.append(compared(2, what, ours, (peer, theirs, "/s"), limit, ">=", floor))
    return goals


def _plots(runs: dict[tuple[str, str, int], list[Row]], names: list[str]) -> dict[str, str]:
    def medians(depth: int, figure: str) -> dict[str, list[float | None]]:
        found: dict[str, list[float | None]] = {}
        for name in names:
            rows = [runs.get((name, method, depth)) for method in PAYLOADS]
            found[name] = [(r and statistics.median(x[figure] for x in r)) or None for r in rows]
        return found

    return {
        "requests-cpu": bars(
            "CPU per directory request (50 connections, one in flight)",
            "microseconds of server CPU: less is better",
            list(PAYLOADS),
            medians(1, "us"),
        ),
        "requests-rate": bars(
            "Directory requests per second (50 connections, 16 in flight)",
            "requests per second: more is better",
            list(PAYLOADS),
            medians(16, "rps"),
        ),
    }
