"""Whole clients in one room on this machine (goal 11): joining, silence, one line a second.

`python3 -m bench crowd`: it takes some four minutes on two cores, so it runs only when it is named.
All clients are started first, and enter at times spread over JOIN_S: what is measured is the room
and not the interpreter's start. The room is the directory's, so each client is told how many are
there. The room is settled when each client has shown that each other one joined (`--json`, to a
file: the last change of these files is the end). Another socket in the room counts the datagrams.
CPU is that of the clients, user and kernel. On so few cores all of them share, 500 that join cost
250,000 receptions at least; the seconds say more about the cores than about the room, so the CPU
for each reception is shown beside.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

from bench.harness import machine
from bench.harness.common import EVLOOP, Client, Context, Row
from bench.harness.judging import Goal, rounded
from bench.harness.processes import ROOT, Failed, Server, end, environment
from bench.load.chatroom import open_receiver

SIZES = (100, 200, 500)
JOIN_S = 2.0
STARTED_S = 120.0  # within that all clients must have connected
SETTLED_S = 60.0
CALM_S = 12.0  # after settling, until Trickle has slowed down
WATCHED_S = 20.0
POLL_S = 0.05
MB_EACH = 20  # of memory, for a client; no run begins without it
ROOM, PLACE = "crowd", ("239.255.77.2", 45_678)
DATA, SESSION = 1, 3  # types of datagrams


class Crowd:
    """`count` clients that are connected to `server` and in no room; a context manager."""

    def __init__(self, context: Context, server: Server, count: int) -> None:
        self._stack = ExitStack()
        self._port = server.port
        self._listener = self._stack.enter_context(open_receiver(PLACE[1], 8 << 20, PLACE[0]))
        self._heard: list[bytes] = []
        self.clients: list[subprocess.Popen[bytes]] = []
        self._shown: list[Path] = []
        for number in range(count):
            self._start(context, number)

    def _start(self, context: Context, number: int) -> None:
        shown = context.files / f"crowd-{number}"
        with open(shown, "wb") as file:
            process = subprocess.Popen(
                [context.python, "-S", "-m", "evloop.client", "--json", "--name", f"m{number}"],
                stdin=subprocess.PIPE, stdout=file, stderr=subprocess.DEVNULL,
                cwd=ROOT, env=environment(), preexec_fn=_everywhere,  # noqa: PLW1509
            )  # fmt: skip
        self.clients.append(process)
        self._shown.append(shown)
        self.say(number, f"connect 127.0.0.1:{self._port}")

    def __enter__(self) -> Crowd:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.clients:  # all at once: each says BYE, and all others hear it
            process.kill()
        for process in self.clients:
            end(process)
        for shown in self._shown:
            shown.unlink()
        self._stack.close()

    def say(self, number: int, line: str) -> None:
        """Type a line into a client."""
        stdin: BinaryIO | None = self.clients[number].stdin  # type: ignore[assignment]
        assert stdin is not None
        stdin.write(line.encode() + b"\n")
        stdin.flush()

    def connected(self) -> bool:
        """Whether the directory counts all of them (and us, and who made the room)."""
        client = Client(self._port)
        try:
            return int(client.call("stats")["clients"]) == len(self.clients) + 2
        finally:
            client.close()

    def enter(self) -> float:
        """All enter within JOIN_S; returns when the first did (unix seconds)."""
        begin = time.time()
        for number in range(len(self.clients)):
            self.say(number, f"chat {ROOM}")
            due = begin + JOIN_S * (number + 1) / len(self.clients)
            while time.time() < due:
                self.drain()
                time.sleep(0.001)
        return begin

    def changed(self) -> float:
        """When a client last showed anything (unix seconds)."""
        return max(os.stat(shown).st_mtime for shown in self._shown)

    def met(self) -> list[int]:
        """How many others each client has shown as joined."""
        return [shown.read_bytes().count(b'"joined"') for shown in self._shown]

    def drain(self) -> None:
        """Read what was said in the room."""
        while True:
            try:
                self._heard.append(self._listener.recv(2048)[:4])
            except BlockingIOError:
                return

    def heard(self) -> dict[int, int]:
        """Datagrams by type, since the last call."""
        self.drain()
        found: dict[int, int] = {}
        for data in self._heard:
            found[data[2] & 15] = found.get(data[2] & 15, 0) + 1
        self._heard = []
        return found

    def cpu_ns(self) -> int:
        """Of all clients together."""
        return sum(machine.cpu_ns(process.pid) for process in self.clients)

    def until(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise Failed(f"{len(self.clients)} clients in {seconds:.0f} s: {what}")
            self.drain()
            time.sleep(POLL_S)


def _everywhere() -> None:
    # The bench has bound itself to one core: the clients may use all.
    os.sched_setaffinity(0, set(machine.cores()))


def run(context: Context) -> Row:
    rows: list[Row] = []
    goals: list[Goal] = []
    for count in SIZES:
        if machine.available_mb() < count * MB_EACH:
            context.missing[f"{count} clients"] = f"needs {count * MB_EACH} MB of memory"
            continue
        context.quiet.wait(4.0)
        found = _measure(context, count)
        rows.append({"server": EVLOOP, "load": f"{count} whole clients in one room"} | found)
        print(f"  {count} clients: {found}", file=sys.stderr, flush=True)
        goals = _goals(count, found)  # those of the largest room
    return {"rows": rows, "goals": [goal.as_row() for goal in goals]}


def _goals(count: int, found: Row) -> list[Goal]:
    room = f"{count} clients here"
    silent, settled = found["silent_percent"], found["settled_s"]
    return [
        Goal(11, f"% of a core for a silent member, {room}", silent, 0.05, "<="),
        Goal(11, f"s until all that join in 2 s list all, {room}", settled, 5.0, "<="),
        Goal(11, f"SESSIONs a member for that, {room}", found["sessions_each"], 3.0, "<="),
    ]


def _measure(context: Context, count: int) -> Row:
    with ExitStack() as stack:
        server = stack.enter_context(context.evloop())
        maker = Client(server.port)
        stack.callback(maker.close)
        maker.call("makeroom", {"name": ROOM, "address": PLACE[0], "port": PLACE[1]})
        crowd = stack.enter_context(Crowd(context, server, count))
        crowd.until(crowd.connected, STARTED_S, "not all are connected")
        crowd.heard()
        found = _join(crowd, count)
        time.sleep(CALM_S)
        found |= {f"silent_{key}": value for key, value in _watch(crowd, count, 0).items()}
        found |= {f"talk_{key}": value for key, value in _watch(crowd, count, 1).items()}
    return found


def _join(crowd: Crowd, count: int) -> Row:
    before = crowd.cpu_ns()
    begin = crowd.enter()
    crowd.until(
        lambda: time.time() > crowd.changed() + 1.0 and min(crowd.met()) >= count - 1,
        SETTLED_S, "not everybody has met everybody",
    )  # fmt: skip
    settled_s = crowd.changed() - begin
    heard = crowd.heard()
    cpu_us = (crowd.cpu_ns() - before) / 1_000
    received = sum(heard.values()) * count
    return {
        "settled_s": rounded(settled_s),
        "sessions_each": rounded(heard.get(SESSION, 0) / count),
        "join_cpu_ms_each": rounded(cpu_us / 1_000 / count),
        "join_cpu_us_per_datagram": rounded(cpu_us / max(received, 1)),
    }


def _watch(crowd: Crowd, count: int, per_s: int) -> Row:
    """CPU of a member while `per_s` lines a second are said, over WATCHED_S."""
    crowd.heard()
    before, begin = crowd.cpu_ns(), time.monotonic()
    speakers = itertools.cycle(range(0, count, max(1, count // 20)))
    for second in range(int(WATCHED_S)):
        for _ in range(per_s):
            crowd.say(next(speakers), "Good morning, everybody. Coffee is ready")
        while time.monotonic() < begin + second + 1:
            crowd.drain()
            time.sleep(POLL_S)
    took = time.monotonic() - begin
    cpu_s = (crowd.cpu_ns() - before) / 1e9
    heard = crowd.heard()
    return {
        "percent": rounded(100 * cpu_s / took / count),
        "cpu_ms_per_minute": rounded(1_000 * cpu_s / took * 60 / count),
        "sessions_per_s": rounded(heard.get(SESSION, 0) / took),
        "data_per_s": rounded(heard.get(DATA, 0) / took),
    }
