"""Start and memory (goal 5): until the version, the first prompt, the listening server; and what
stays resident.

Everything with `-S`, since a machine's own start-up files may load anything; all turns interleaved.
Instructions and page faults tell the same
without a clock. Memory is the growth over an empty package that was started the same way.
"""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from bench.harness import build, counting, machine
from bench.harness.common import (
    EVLOOP,
    Context,
    Makers,
    Row,
)
from bench.harness.judging import Goal, compared, spread
from bench.harness.processes import (
    Failed,
    Server,
    environment,
    pinned,
)
from bench.load.chatroom import (
    PROMPT,
    EvloopMember,
    Terminal,
)
from bench.report.plot import bars

TURNS = 15
ASYNCIO = "python3 -c 'import asyncio'"


def run(context: Context) -> Row:
    empty = _empty_package(context)
    python = context.python
    commands = {
        f"{EVLOOP}.server --version": [python, "-S", "-m", "evloop.server", "--version"],
        ASYNCIO: [python, "-S", "-c", "import asyncio"],
        "an empty package": [python, "-S", "-m", "empty", "leave"],
    }
    times: dict[str, list[float]] = {}
    prompt = f"{EVLOOP}.client, first prompt"
    servers: Makers = {
        f"{EVLOOP}.server --memory": context.evloop,
        "asyncio Protocol peer": partial(context.peer, "asyncio Protocol"),
    }
    for _ in range(2):  # compiled and in the page cache, like any second start
        for command in commands.values():
            _time(command, empty)
    for _ in context.turns(TURNS, 1.0):
        for name, command in commands.items():
            times.setdefault(name, []).append(_time(command, empty))
        try:
            times.setdefault(prompt, []).append(_first_prompt(context))
        except (Failed, OSError) as reason:
            context.missing[prompt] = str(reason)
        for name, make in servers.items():
            times.setdefault(f"{name}, listening", []).append(_listening(make))
    times = {name: values for name, values in times.items() if values}
    memory = _memory(context, empty)
    base = (ASYNCIO, times[ASYNCIO], "ms")

    server = memory.get(f"{EVLOOP}.server --memory")
    client = memory.get(f"{EVLOOP}.client in a room")
    version = f"{EVLOOP}.server --version"
    goals = [
        compared(5, "time of --version, against import asyncio", times[version], base, 0.4),
        compared(
            5, "time to the client's first prompt, against it", times.get(prompt, []), base, 0.45
        ),
        Goal(5, "MB of the server with --memory, over an empty package", server, 4.0, "<="),
        Goal(5, "MB of a client in a room, over an empty package", client, 5.5, "<="),
    ]
    counted, rows = _counted(context, commands[version], commands[ASYNCIO])
    goals += counted
    rows += [
        {"server": name, "load": "wall time", "ms": spread(values)}
        for name, values in times.items()
    ]
    rows += [
        {"server": name, "load": "memory over an empty package", "mb": spread([value])}
        for name, value in memory.items()
    ]
    figures: dict[str, list[float | None]] = {
        name: [statistics.median(values)] for name, values in times.items()
    }
    title = "Time to start (python3 -S)"
    return {
        "rows": rows,
        "goals": [goal.as_row() for goal in goals],
        "plots": {"startup": bars(title, "milliseconds: less is better", [""], figures)},
    }


def _counted(context: Context, version: list[str], base: list[str]) -> tuple[list[Goal], list[Row]]:
    """The start in what does not depend on a clock: instructions, page faults."""
    goals, rows = [], []
    out = context.files / "callgrind"
    for unit, count in (
        ("instructions", lambda command: counting.instructions(command, out)),
        ("page faults", counting.page_faults),
    ):
        if context.quick and unit == "instructions":
            continue  # callgrind is slow
        try:
            ours, theirs = count(version), count(base)
        except (build.Missing, Failed) as reason:
            context.missing[unit] = str(reason)
            continue
        what = f"{unit} of --version, against import asyncio"
        goals.append(compared(5, what, [ours], (ASYNCIO, [theirs], unit), None))
        for name, value in ((version[-2], ours), (ASYNCIO, theirs)):
            rows.append({"server": name, "load": unit, "count": value})
    return goals, rows


def _empty_package(context: Context) -> Path:
    package = context.files / "empty"
    package.mkdir(exist_ok=True)
    (package / "__init__.py").write_text("")
    lines = ["import sys", "if len(sys.argv) < 2:", "    print('ready', file=sys.stderr)"]
    lines += ["    sys.stderr.flush()", "    sys.stdin.read()"]
    (package / "__main__.py").write_text("\n".join(lines) + "\n")
    return context.files


def _time(command: list[str], empty: Path) -> float:
    """Wall milliseconds of a command from its start to its end."""
    begin = time.perf_counter()
    done = subprocess.run(
        command,
        env=environment({"PYTHONPATH": f"{Path(__file__).parents[2]}:{empty}"}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        preexec_fn=pinned(machine.cores()[0]),
        timeout=20,
        check=False,
        cwd=empty,
    )
    took = (time.perf_counter() - begin) * 1000
    if done.returncode:
        raise Failed(f"{' '.join(command)}: {done.stderr.decode()[-200:]}")
    return took


def _first_prompt(context: Context) -> float:
    begin = time.perf_counter()
    with Terminal([context.python, "-S", "-m", "evloop.client"]) as terminal:
        terminal.expect(PROMPT, 10)
        return (time.perf_counter() - begin) * 1000


def _listening(make: Callable[[], Server]) -> float:
    """Wall milliseconds until a server's ready line."""
    begin = time.perf_counter()
    with make():
        return (time.perf_counter() - begin) * 1000


def _memory(context: Context, empty: Path) -> dict[str, float]:
    """MB over the empty package."""
    found = {}
    with ExitStack() as stack:
        process = subprocess.Popen(
            [context.python, "-S", "-m", "empty"],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=empty,
            env=environment(),
        )
        stack.callback(process.wait)
        stack.enter_context(process)
        assert process.stderr is not None and process.stdin is not None
        process.stderr.readline()
        base = machine.rss_kb(process.pid)
        servers = context.start(stack, {EVLOOP: context.evloop})
        for server in servers.values():
            found[f"{EVLOOP}.server --memory"] = (server.rss_kb() - base) / 1024
        try:
            member = stack.enter_context(EvloopMember(context, "weigh", terminal=True))
            time.sleep(0.5)
            found[f"{EVLOOP}.client in a room"] = (machine.rss_kb(member.pid) - base) / 1024
        except (Failed, OSError) as reason:
            context.missing[f"{EVLOOP}.client in a room"] = str(reason)
        process.stdin.close()
    return found
