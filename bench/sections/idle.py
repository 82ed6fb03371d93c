"""Idle connections (goal 3) and idleness (goal 4).

Memory is the growth of VmRSS from no client to N clients that have each asked one thing and are
silent since. What 10,000 of them cost the active ones is measured on two servers that take turns,
one with the crowd and one without. That an idle process makes no system call is read off its CPU
clock and its context switches: a process that never ran made none.
"""

from __future__ import annotations

import select
import subprocess
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from bench.harness import machine
from bench.harness.common import (
    EVLOOP,
    Context,
    Makers,
    Row,
    request_bytes,
    settle,
)
from bench.harness.judging import Goal, compared, spread
from bench.harness.processes import (
    Failed,
    Server,
    end,
    start_load,
)
from bench.load.chatroom import EvloopMember, Listeners
from bench.report.plot import bars

CROWD = 10_000
THREADS_CROWD = 1_000  # 10,000 threads are no server that anybody runs
ROUNDS = 1  # memory does not vary
QUIET_S = 10.0
ACTIVE = {"connections": 50, "depth": 1, "seconds": 0.5, "warmup": 0.1}


def run(context: Context) -> Row:
    request = context.file("request-ping", request_bytes("ping"))
    memory = _memory(context, request)
    active, alone, crowded = _active(context, request)
    silence, goals = _silence(context)
    ours = [row for row in memory if row["server"] == EVLOOP]
    value = ours[0]["kb_per_connection"]["median"] if ours else None
    goals = [
        Goal(3, f"kB of resident memory per idle connection, {CROWD} held", value, 0.55, "<="),
        compared(
            3,
            f"CPU per request with {CROWD} idle, against none idle",
            crowded,
            ("the same server", alone, "us"),
            1.05,
        ),
        *goals,
    ]
    figures: dict[str, list[float | None]] = {
        row["server"]: [row["kb_per_connection"]["median"]] for row in memory
    }
    title = "Resident memory per idle connection"
    return {
        "rows": memory + active + silence,
        "goals": [goal.as_row() for goal in goals],
        "plots": {"idle-memory": bars(title, "kB: less is better", [""], figures)},
    }


def _crowd(context: Context, stack: ExitStack, server: Server, size: int, request: Path) -> None:
    """Hold `size` silent connections to `server` until the stack ends."""
    options = {"port": server.port, "request": request, "connections": size, "hold": True}
    holder = start_load(context.load, options)
    stack.callback(end, holder)
    assert holder.stdout is not None
    ready, _, _ = select.select([holder.stdout], [], [], 30)
    if not ready or holder.stdout.readline() != b"held\n":
        raise Failed(f"{size} connections could not be held: {server.words()[-200:]}")


def _memory(context: Context, request: Path) -> list[Row]:
    makers: Makers = {EVLOOP: context.evloop}
    for name in ("asyncio Protocol", "uvloop", "asyncio streams", "threads"):
        makers[name] = partial(context.peer, name)
    grown: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        for name, make in makers.items():
            size = THREADS_CROWD if name == "threads" else CROWD
            with ExitStack() as stack:
                server = context.start(stack, {name: make}).get(name)
                if server is None:
                    continue
                context.run(server, request, connections=10, seconds=0.1)  # all code is loaded
                before = server.rss_kb()
                _crowd(context, stack, server, size, request)
                settle(server)
                grown.setdefault(name, []).append((server.rss_kb() - before) / size)
    return [
        {
            "server": name,
            "load": f"{THREADS_CROWD if name == 'threads' else CROWD} idle connections",
            "kb_per_connection": spread(values),
        }
        for name, values in grown.items()
    ]


def _active(context: Context, request: Path) -> tuple[list[Row], list[float], list[float]]:
    """Rows, and CPU us per ping of evloop without and with the crowd."""
    rows = []
    ours: dict[bool, list[float]] = {False: [], True: []}
    pairs: Makers = {EVLOOP: context.evloop}
    pairs["asyncio Protocol"] = partial(context.peer, "asyncio Protocol")
    for name, start in pairs.items():
        with ExitStack() as stack:
            pair = context.start(stack, {f"{name}, alone": start, f"{name}, {CROWD} idle": start})
            if len(pair) != 2:
                continue
            crowded = pair[f"{name}, {CROWD} idle"]
            _crowd(context, stack, crowded, CROWD, request)
            settle(crowded)
            runs: dict[str, list[float]] = {title: [] for title in pair}
            order = list(pair.items())
            for _ in context.turns(2 * context.rounds):
                for title, server in order:
                    runs[title].append(context.run(server, request, **ACTIVE)["us"])
                order.reverse()  # who comes after a wait finds the caches cold
            for title, values in runs.items():
                rows.append({"server": title, "load": "ping 50x1", "cpu_us": spread(values)})
            if name == EVLOOP:
                ours = {title.endswith("idle"): values for title, values in runs.items()}
    return rows, ours[False], ours[True]


def _silence(context: Context) -> tuple[list[Row], list[Goal]]:
    """Ten seconds of nothing: a server with silent clients, and a client alone in a room."""
    request = context.file("request-ping", request_bytes("ping"))
    rows, goals = [], []
    with ExitStack() as stack:
        watched = {}
        servers = context.start(stack, {EVLOOP: context.evloop})
        if EVLOOP in servers:
            _crowd(context, stack, servers[EVLOOP], 100, request)
            watched["server, 100 silent clients"] = servers[EVLOOP].pid
        listeners = stack.enter_context(Listeners(1))
        try:
            member = stack.enter_context(EvloopMember(context, "quiet", port=listeners.port))
            watched["client in a quiet room"] = member.pid
        except (Failed, subprocess.SubprocessError, OSError) as reason:
            context.missing["client in a quiet room"] = str(reason)
        time.sleep(12)  # first frames were due in 10 s, and Trickle has slowed down by then
        before = {name: (machine.cpu_ns(pid), _switches(pid)) for name, pid in watched.items()}
        listeners.drain()
        time.sleep(QUIET_S)
        heard = listeners.drain()
        for name, pid in watched.items():
            ran = machine.cpu_ns(pid) - before[name][0]
            woken = _switches(pid) - before[name][1]
            own = heard if name.startswith("client") else 0
            row = {"server": name, "load": f"{QUIET_S:.0f} s of silence", "ran_us": ran / 1000}
            rows.append(row | {"wake_ups": woken, "datagrams": own})
            # A SESSION costs two wake-ups: the timer that sends it, and its own echo.
            what = f"wake-ups in {QUIET_S:.0f} s of silence beyond two a SESSION, {name}"
            goals.append(Goal(4, what, max(0, woken - 2 * own), 0, "<="))
    return rows, goals


def _switches(pid: int) -> int:
    return machine.status_field(pid, "voluntary_ctxt_switches")
