"""What growth costs: rooms, connections, members, message sizes; the peers in each plot.

Rooms: `getdir` of 20 out of so many. Connections: all of them active, one request in flight each.
Members: sockets on this host, line after line as in fanout, and the simulator beyond what one host
can hold. Sizes: one message to 50 members; an IRC line ends at 512 bytes. A bare curve judges the
machine: each point is also a ratio to each peer there, and the last point's is a goal.
"""

from __future__ import annotations

import subprocess
from contextlib import ExitStack
from functools import partial

from bench.harness import machine
from bench.harness.common import (
    EVLOOP,
    Context,
    Makers,
    Row,
    fill,
    reply_of,
    request_bytes,
    settle,
)
from bench.harness.judging import Goal, compared, ratios, spread
from bench.harness.processes import (
    ROOT,
    Failed,
    environment,
    pinned,
)
from bench.load.chatroom import Listeners
from bench.load.fan import (
    TEXT,
    Chat,
    open_irc,
    relay,
    speak,
)
from bench.load.irc import SERVERS
from bench.report.plot import Point, lines

ROOMS = (100, 1_000, 10_000, 100_000)
CONNECTIONS = (10, 100, 1_000, 10_000)
MEMBERS = (2, 10, 100, 500)
SIMULATED = ((50, 100), (200, 50), (1_000, 10))  # members, messages; 10,000: docs/reliability.md
SIZES = (10, 100, 400, 900)
IRC_TEXT_MAX = 400  # of a line of 512 bytes, with prefix, command and channel
SIZE_MEMBERS = 50
MESSAGES = 20
ROUNDS = 3
SIMULATION_S = 60
PEERS = ("asyncio Protocol", "uvloop", "asyncio streams")
PEER = "ngircd"  # of the members

Series = dict[str, list[Point]]
Runs = dict[str, list[float]]  # by server


class Curves:
    """Rows of all curves, and the goal at the far end of each that has a peer."""

    __slots__ = ("_last", "rows")

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self._last: dict[str, Goal] = {}

    def note(self, series: Series, found: Runs, load: str, x: float) -> None:
        """A point of each server's line, and evloop's ratio to each peer at this point."""
        ours = found.get(EVLOOP, [])
        for name, values in found.items():
            figure = spread(values)
            row: Row = {"server": name, "load": load, "cpu_us": figure}
            if name != EVLOOP and ours:
                row["evloop_to_it"] = spread(ratios(ours, values))
            self.rows.append(row)
            series.setdefault(name, []).append((x, figure["median"]))

    def end(self, curve: str, found: Runs, load: str, peer: str, limit: float) -> None:
        """What `found` at the last point of a curve has to be, against `peer` there."""
        floor = (peer, found.get(peer, []), "us")
        what = f"CPU of {load}, against {peer}"
        self._last[curve] = compared("growth", what, found.get(EVLOOP, []), floor, limit)

    def goals(self) -> list[Row]:
        return [goal.as_row() for goal in self._last.values()]


def run(context: Context) -> Row:
    curves = Curves()
    plots = {
        "growth-rooms": _rooms(context, curves),
        "growth-connections": _connections(context, curves),
        "growth-members": _members(context, curves),
        "growth-sizes": _sizes(context, curves),
        "growth-simulated": _simulated(context, curves),
    }
    return {"rows": curves.rows, "goals": curves.goals(), "plots": plots}


def _rooms(context: Context, curves: Curves) -> str:
    payload = request_bytes("getdir", {"limit": 20})
    request = context.file("request-getdir", payload)
    series: Series = {}
    with ExitStack() as stack:
        ours = context.start(stack, {EVLOOP: context.evloop}).get(EVLOOP)
        made = 0
        for count in ROOMS:
            with ExitStack() as peers:
                makers: Makers = {
                    name: partial(context.peer, name, "--rooms", str(count)) for name in PEERS[:2]
                }
                servers = context.start(peers, makers)
                if ours is not None:
                    fill(context, ours, count, made)
                    servers = {EVLOOP: ours} | servers
                    made = count
                found: dict[str, list[float]] = {}
                for _ in context.turns(ROUNDS, 1.0):
                    for name, server in servers.items():
                        expected = context.file("expected", reply_of(server, payload, 20))
                        options = {"expect": expected, "connections": 50, "seconds": 0.2}
                        row = context.run(server, request, **options, warmup=0.05)
                        found.setdefault(name, []).append(row["us"])
            load = f"getdir of 20 out of {count} rooms"
            curves.note(series, found, load, count)
            curves.end("rooms", found, load, "asyncio Protocol", 0.8)
    unit = "microseconds of server CPU per getdir with limit 20"
    return lines("A growing directory", "rooms", unit, series, log_y=False)


def _connections(context: Context, curves: Curves) -> str:
    request = context.file("request-ping", request_bytes("ping"))
    series: Series = {}
    with ExitStack() as stack:
        makers: Makers = {EVLOOP: context.evloop}
        makers |= {name: partial(context.peer, name) for name in PEERS}
        servers = context.start(stack, makers)
        for count in CONNECTIONS:
            found: dict[str, list[float]] = {}
            for _ in context.turns(ROUNDS, 1.0):
                for name, server in servers.items():
                    seconds = 0.2 if count < 10_000 else 0.6
                    options = {"connections": count, "seconds": seconds}
                    row = context.run(server, request, **options, warmup=0.1)
                    found.setdefault(name, []).append(row["us"])
                    settle(server)
            load = f"ping from {count} connections"
            curves.note(series, found, load, count)
            curves.end("connections", found, load, "asyncio Protocol", 0.8)
    unit = "microseconds of server CPU per ping, every connection active"
    return lines("Growing connections", "connections", unit, series, log_y=False)


def _members(context: Context, curves: Curves) -> str:
    series: Series = {}
    for count in MEMBERS:
        with ExitStack() as stack:
            # Each JOIN is told to all: 500 of them take the other servers half a minute.
            names = SERVERS if count < MEMBERS[-1] else [PEER]
            found = _lines(context, open_irc(context, stack, count, names), count, TEXT)
        load = f"one message to {count} members"
        curves.note(series, found, load, count)
        curves.end("members", found, load, PEER, 0.3)
    unit = "microseconds of CPU of the sending side per message (softirq included)"
    return lines("A growing room, all members on one host", "members", unit, series)


def _sizes(context: Context, curves: Curves) -> str:
    series: Series = {}
    with ExitStack() as stack:
        chats = open_irc(context, stack, SIZE_MEMBERS)
        for size in SIZES:
            fitting = chats if size <= IRC_TEXT_MAX else {}
            text = (TEXT + " " + "x" * size)[:size]
            found = _lines(context, fitting, SIZE_MEMBERS, text)
            curves.note(series, found, f"{size} bytes to {SIZE_MEMBERS} members", size)
    context.missing[f"IRC, {SIZES[-1]} bytes"] = "a line of IRC has at most 512 bytes"
    unit = f"microseconds of CPU of the sending side, {SIZE_MEMBERS} members on one host"
    return lines("Growing messages", "bytes of text", unit, series, log_y=False)


def _lines(context: Context, chats: dict[str, Chat], members: int, text: str) -> Runs:
    """CPU us of the sending side, line after line, in turns."""
    found: dict[str, list[float]] = {}
    for _ in context.turns(ROUNDS, 1.0):
        with Listeners(members - 1) as room:
            figures = speak(context, members, MESSAGES, room.port, len(text))
        found.setdefault(EVLOOP, []).append(figures["all_us"])
        for name, chat in chats.items():
            found.setdefault(name, []).append(relay(chat, members, text, MESSAGES))
    return found


def _simulated(context: Context, curves: Curves) -> str:
    """What a reliable room says per message, as it grows beyond what one host can hold."""
    series: Series = {}
    for members, messages in SIMULATED:
        try:
            row = _simulate(context, members, messages)
        except Failed as reason:
            context.missing[f"simulator, {members} members"] = str(reason)
            continue
        figures = {key: float(row[key]) for key in ("data", "repair", "nack", "session")}
        curves.rows.append(
            {
                "server": f"{EVLOOP}, simulated",
                "load": f"{members} members, 30 % loss, {messages} messages",
                "undelivered": int(row["undelivered"]),
                "p99_ms": float(row["p99_ms"]),
                **figures,
            }
        )
        for name, value in figures.items():
            if value > 0:
                series.setdefault(f"{name.upper()}", []).append((members, value))
    unit = "datagrams in the whole room per message, 30 % independent loss (simulated)"
    return lines("A growing lossy room", "members", unit, series)


def _simulate(context: Context, members: int, messages: int) -> dict[str, str]:
    arguments = ["--members", str(members), "--loss", "0.3", "--messages", str(messages)]
    arguments += ["--prime", "--warmup", "1", "--talkers", "3", "--rate", "1"]
    try:
        done = subprocess.run(
            [context.python, "-m", "tests.simulation", *arguments, "--seed", "1"],
            cwd=ROOT,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=SIMULATION_S,
            preexec_fn=pinned(machine.cores()[0]),
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Failed(f"not finished in {SIMULATION_S} s") from None
    words = dict(part.split("=", 1) for part in done.stdout.split() if "=" in part)
    if "undelivered" not in words:
        raise Failed((done.stderr.strip() or done.stdout.strip() or "no words")[-200:])
    return words
