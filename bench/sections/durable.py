"""Durable changes (goal 7): makeroom on a real disk, one at a time and from many at once.

All changes of one tick share one commit, so the rate should grow with those who ask. Beside it:
what the disk does (write 4 KiB, fdatasync) and the floor: sqlite alone, in this interpreter, which
commits one change, or groups of 16 as they come from 16 connections. Its rows are as long as a
room; it answers nobody.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from bench.harness import build, machine
from bench.harness.common import (
    EVLOOP,
    Context,
    Row,
    makeroom_request,
)
from bench.harness.judging import compared, spread
from bench.harness.processes import ROOT, Failed, environment, pinned
from bench.report.plot import bars

SECONDS = 0.7
LOADS = ((1, 1), (16, 1), (16, 16))
GROUP = 16
ONE, GROUPED = "sqlite, one commit a change", f"sqlite, commits of {GROUP}"


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
        for _ in context.turns(context.rounds):
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
            rates.setdefault(ONE, []).append(_sqlite(context, place, 1))
            rates.setdefault(GROUPED, []).append(_sqlite(context, place, GROUP))
            rates.setdefault("disk: write 4 KiB, fdatasync", []).append(_disk(place))
    alone, many = rates.get(f"{EVLOOP}, 1x1", []), rates.get(f"{EVLOOP}, 16x1", [])
    rows = []
    for name, values in rates.items():
        row: Row = {"server": name, "load": "makeroom, durable", "rps": spread(values)}
        if name in cpu:
            row |= {"cpu_us": spread(cpu[name]), "max_us": spread(slowest[name])}
        rows.append(row)
    what = "durable makeroom/s"
    goals = [
        compared(
            7, f"{what} from 16 at once, against sqlite in groups of {GROUP}", many,
            (GROUPED, rates[GROUPED], "/s"), 0.85, ">=",
        ),
        compared(
            7, f"{what} one at a time, against sqlite alone", alone,
            (ONE, rates[ONE], "/s"), 0.6, ">=",
        ),
        compared(7, f"{what} from 16 at once, against 1", many, ("1x1", alone, "/s"), None, ">="),
    ]  # fmt: skip
    return {
        "rows": rows,
        "goals": [goal.as_row() for goal in goals],
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


def _sqlite(context: Context, place: Path, group: int) -> float:
    """Changes per second, `group` of them in each commit, on the server's core."""
    path = place / f"peer-{time.monotonic_ns()}.db"
    module = ["-S", "-m", "bench.peers.changes"]
    done = subprocess.run(
        [context.python, *module, str(path), str(group), str(SECONDS / 2)],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=pinned(machine.cores()[0]),
        check=False,
    )
    if done.returncode:
        raise Failed(f"sqlite: {done.stderr.strip()[-300:]}")
    return float(done.stdout)


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
