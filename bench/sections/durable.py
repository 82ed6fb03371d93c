"""Durable changes (goal 7): makeroom on a real disk, one at a time and from many at once.

All changes of one tick share one commit, so the rate should grow with those who ask. Beside it:
what the disk does (write 4 KiB, fdatasync) and what sqlite does with one commit a change.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from bench.harness import build
from bench.harness.common import (
    EVLOOP,
    Context,
    Goal,
    Row,
    makeroom_request,
    ratio,
    spread,
)
from bench.report.plot import bars

SECONDS = 0.7
LOADS = ((1, 1), (16, 1), (16, 16))


def run(context: Context) -> Row:
    place = build.BUILD / f"state-{os.getpid()}"
    place.mkdir(parents=True, exist_ok=True)
    try:
        return _run(context, place)
    finally:
        shutil.rmtree(place)


def _run(context: Context, place: Path) -> Row:
    rates: dict[str, list[float]] = {}
    cpu: dict[str, list[float]] = {}
    slowest: dict[str, list[float]] = {}
    with ExitStack() as stack:
        make = {EVLOOP: lambda: context.evloop(state=place / "directory.db")}
        server = context.start(stack, make).get(EVLOOP)
        request, offset = makeroom_request(context)
        made = 0
        for _ in range(context.rounds):
            context.quiet.wait()
            for connections, depth in LOADS if server else ():
                assert server is not None
                run = context.run(
                    server,
                    request,
                    connections=connections,
                    depth=depth,
                    seconds=SECONDS,
                    counter=offset,
                    counter_from=made,
                )
                made += 200_000
                name = f"{EVLOOP}, {connections}x{depth}"
                rates.setdefault(name, []).append(run["rps"])
                cpu.setdefault(name, []).append(run["us"])
                slowest.setdefault(name, []).append(run["max_us"])
            rates.setdefault("sqlite, one commit a change", []).append(_sqlite(place))
            rates.setdefault("disk: write 4 KiB, fdatasync", []).append(_disk(place))
    alone, many = rates.get(f"{EVLOOP}, 1x1", []), rates.get(f"{EVLOOP}, 16x1", [])
    rows = []
    for name, values in rates.items():
        row: Row = {"server": name, "load": "makeroom, durable", "rps": spread(values)}
        if name in cpu:
            row |= {"cpu_us": spread(cpu[name]), "max_us": spread(slowest[name])}
        rows.append(row)
    goal = Goal(7, "durable makeroom/s from 16 at once, against 1", ratio(many, alone), 8.0, ">=")
    return {
        "rows": rows,
        "goals": [goal.as_row()],
        "plots": {
            "durable": bars(
                "Durable makeroom per second (on disk before it is answered)",
                "changes per second: more is better; 16x16 = 16 connections, 16 in flight each",
                [""],
                {row["server"]: [row["rps"]["median"]] for row in rows},
            )
        },
    }


def _rate(step: Callable[[int], object]) -> float:
    begin = time.perf_counter()
    count = 0
    while (elapsed := time.perf_counter() - begin) < SECONDS / 2:
        step(count)
        count += 1
    return count / elapsed


def _sqlite(place: Path) -> float:
    path = place / f"peer-{time.monotonic_ns()}.db"
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE room (name TEXT PRIMARY KEY, body TEXT)")
    insert = "INSERT INTO room VALUES (?, ?)"
    try:
        return _rate(lambda number: connection.execute(insert, (f"r{number}", "x" * 100)))
    finally:
        connection.close()


def _disk(place: Path) -> float:
    descriptor = os.open(place / "plain", os.O_CREAT | os.O_WRONLY)
    block = b"\0" * 4096

    def step(number: int) -> None:
        os.pwrite(descriptor, block, 4096 * number)
        os.fdatasync(descriptor)

    try:
        return _rate(step)
    finally:
        os.close(descriptor)
