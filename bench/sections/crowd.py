"""Whole clients in one room on this machine (goal 11): joining, silence, one line a second.

`python3 -m bench crowd`: it takes some nine minutes on two cores, so it runs only when it is named.
All clients are started first, and rest until they have loaded what they load at their prompt; then
they enter at times spread over JOIN_S: what is measured is the room and not the interpreter's
start. The room is the directory's, so each client is told how many are there. The room is settled
when each client has shown that each other one joined (`--json`, to a file: the last change of these
files is the end). Another socket in the room counts the datagrams.

CPU is that of the clients, user and kernel. Silence is watched for as long as it takes until each
has said once that it is here. On so few cores all of them share, 500 that join cost 250,000
receptions of one SESSION each; so as many processes that only wait and receive (the floor) are
started, too, and get one datagram of each, in the same time: what they take no client can beat.
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
from bench.load.chatroom import open_receiver, open_sender, sockets_at
from evloop.room.reliable.membership import presence_interval

SIZES = (100, 200, 500)
JOIN_S = 2.0
STARTED_S = 120.0  # within that all clients must have connected
SETTLED_S = 60.0
RESTED_MS = 2.0  # of CPU in REST_S, of all together: they have loaded all
REST_S = 0.5
CALM_S = 12.0  # after settling, until Trickle has slowed down
TALK_S = 20.0
POLL_S = 0.05
MB_EACH = 20  # of memory, for a client; no run begins without it
ROOM, PLACE = "crowd", ("239.255.77.2", 45_678)
DATA, SESSION = 1, 3  # types of datagrams
SESSION_BYTES = 76  # of one that lists nothing
FLOOR = "Python floor"


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
        return _cpu_ns(self.clients)

    def rested(self) -> bool:
        """Whether they did nothing for REST_S."""
        before = self.cpu_ns()
        time.sleep(REST_S)
        return self.cpu_ns() < before + RESTED_MS * 1e6

    def until(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise Failed(f"{len(self.clients)} clients in {seconds:.0f} s: {what}")
            self.drain()
            time.sleep(POLL_S)


class Listeners:
    """The floor: `count` processes that only wait and receive; a context manager."""

    def __init__(self, context: Context, count: int) -> None:
        command = [context.python, "-S", "-m", "bench.peers.listener", PLACE[0], str(PLACE[1])]
        self.processes = [
            subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, cwd=ROOT,
                env=environment(), preexec_fn=_everywhere,  # noqa: PLW1509
            )
            for _ in range(count)
        ]  # fmt: skip
        for process in self.processes:
            assert process.stdout is not None
            process.stdout.readline()
        self._sender = open_sender()

    def __enter__(self) -> Listeners:
        return self

    def __exit__(self, *_: object) -> None:
        self._sender.close()
        for process in self.processes:
            process.kill()
        for process in self.processes:
            end(process)
            assert process.stdout is not None
            process.stdout.close()

    def hear(self, datagrams: int, seconds: float) -> tuple[float, float]:
        """So many datagrams are sent in so many seconds: (s until all were read, us of CPU for
        each and each listener)."""
        before, begin = _cpu_ns(self.processes), time.monotonic()
        for number in range(datagrams):
            self._sender.sendto(bytes(SESSION_BYTES), PLACE)
            time.sleep(max(0.0, begin + seconds * (number + 1) / datagrams - time.monotonic()))
        while _in_the_kernel()[0]:
            time.sleep(0.001)
        took = time.monotonic() - begin
        return took, (_cpu_ns(self.processes) - before) / 1_000 / datagrams / len(self.processes)


def _cpu_ns(processes: list[subprocess.Popen[bytes]]) -> int:
    return sum(machine.cpu_ns(process.pid) for process in processes)


def _in_the_kernel() -> tuple[int, int]:
    """Of all sockets of the room: bytes that wait to be read, and datagrams that were dropped."""
    rows = sockets_at(PLACE[1])
    waiting = sum(int(row[4].partition(":")[2], 16) for row in rows)
    return waiting, sum(int(row[-1]) for row in rows)


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
        load = f"{count} whole clients in one room"
        floor = _measure_floor(context, count)
        rows.append({"server": FLOOR, "load": load} | floor)
        print(f"  {count} listeners: {floor}", file=sys.stderr, flush=True)
        found = _measure(context, count)
        rows.append({"server": EVLOOP, "load": load} | found)
        print(f"  {count} clients: {found}", file=sys.stderr, flush=True)
        goals = _goals(count, found, floor)  # those of the largest room
    return {"rows": rows, "goals": [goal.as_row() for goal in goals]}


def _goals(count: int, found: Row, floor: Row) -> list[Goal]:
    room = f"{count} clients here"
    silent, settled, best = found.get("silent_percent"), found.get("settled_s"), floor
    return [
        Goal(11, f"% of a core for a silent member, {room}", silent, 0.05, "<=",
             best=best["silent_percent"]),
        Goal(11, f"s until all that join in 2 s list all, {room}", settled, 5.0, "<=",
             best=best["settled_s"]),
        Goal(11, f"SESSIONs a member for that, {room}", found["sessions_each"], 3.0, "<="),
    ]  # fmt: skip


def _presence_s(count: int) -> float:
    """Seconds within which each member says that it is here, on average: jitter takes a tenth."""
    return 0.9 * presence_interval(count)


def _measure_floor(context: Context, count: int) -> Row:
    """One datagram of each in JOIN_S, then as many as a silent room has, for ten seconds."""
    with Listeners(context, count) as listeners:
        settled_s, join_us = listeners.hear(count, JOIN_S)
        _, silent_us = listeners.hear(max(1, round(10 * count / _presence_s(count))), 10.0)
    per_s = count / _presence_s(count)
    return {
        "settled_s": rounded(settled_s),
        "join_cpu_us_per_datagram": rounded(join_us),
        "silent_percent": rounded(silent_us * per_s / 1e4),
        "silent_us_per_session": rounded(silent_us),
        "silent_sessions_per_s": rounded(per_s),
    }


def _measure(context: Context, count: int) -> Row:
    with ExitStack() as stack:
        server = stack.enter_context(context.evloop())
        maker = Client(server.port)
        stack.callback(maker.close)
        maker.call("makeroom", {"name": ROOM, "address": PLACE[0], "port": PLACE[1]})
        crowd = stack.enter_context(Crowd(context, server, count))
        crowd.until(crowd.connected, STARTED_S, "not all are connected")
        crowd.until(crowd.rested, STARTED_S, "they do not come to rest")
        crowd.heard()
        found = _join(crowd, count)
        time.sleep(CALM_S)
        silence_s = max(TALK_S, _presence_s(count))
        for name, per_s, seconds in (("silent", 0, silence_s), ("talk", 1, TALK_S)):
            watched = _watch(crowd, count, per_s, seconds)
            found |= {f"{name}_{key}": value for key, value in watched.items()}
    return found


def _join(crowd: Crowd, count: int) -> Row:
    """Without `settled_s` when not everybody had met everybody after SETTLED_S."""
    before = crowd.cpu_ns()
    begin = crowd.enter()
    found: Row = {}
    try:
        crowd.until(
            lambda: time.time() > crowd.changed() + 1.0 and min(crowd.met()) >= count - 1,
            SETTLED_S, "not everybody has met everybody",
        )  # fmt: skip
        found["settled_s"] = rounded(crowd.changed() - begin)
    except Failed:
        met = crowd.met()
        found["met_percent"] = rounded(100 * sum(met) / len(met) / (count - 1))
    heard = crowd.heard()
    cpu_us = (crowd.cpu_ns() - before) / 1_000
    received = sum(heard.values()) * count
    return found | {
        "sessions_each": rounded(heard.get(SESSION, 0) / count),
        "join_cpu_ms_each": rounded(cpu_us / 1_000 / count),
        "join_cpu_us_per_datagram": rounded(cpu_us / max(received, 1)),
        "join_dropped": _in_the_kernel()[1],
    }


def _watch(crowd: Crowd, count: int, per_s: int, seconds: float) -> Row:
    """CPU of a member while `per_s` lines a second are said."""
    crowd.heard()
    before, begin = crowd.cpu_ns(), time.monotonic()
    speakers = itertools.cycle(range(0, count, max(1, count // 20)))
    for second in range(round(seconds)):
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
        "us_per_datagram": rounded(1e6 * cpu_s / count / max(sum(heard.values()), 1)),
        "sessions_per_s": rounded(heard.get(SESSION, 0) / took),
        "data_per_s": rounded(heard.get(DATA, 0) / took),
    }
