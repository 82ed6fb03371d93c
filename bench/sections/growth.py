"""What growth costs: rooms, connections, members, message sizes; the peers in each plot.

Rooms: `getdir` of 20 out of so many. Connections: all of them active, one request in flight each.
Members: sockets on this host, line after line as in fanout, and the simulator beyond what one host
can hold. Sizes: one message to 50 members; an IRC line ends at 512 bytes.
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
    spread,
)
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
from bench.report.plot import Point, lines

ROOMS = (100, 1_000, 10_000, 100_000)
CONNECTIONS = (10, 100, 1_000, 10_000)
MEMBERS = (2, 10, 100, 500)
SIMULATED = ((50, 100), (200, 50), (1_000, 10), (10_000, 2))  # members, messages
SIZES = (10, 100, 400, 900)
IRC_TEXT_MAX = 400  # of a line of 512 bytes, with prefix, command and channel
SIZE_MEMBERS = 50
MESSAGES = 20
ROUNDS = 2
SIMULATION_S = 60
PEERS = ("asyncio Protocol", "uvloop", "asyncio streams")

Series = dict[str, list[Point]]


def run(context: Context) -> Row:
    rows: list[Row] = []
    plots = {
        "growth-rooms": _rooms(context, rows),
        "growth-connections": _connections(context, rows),
        "growth-members": _members(context, rows),
        "growth-sizes": _sizes(context, rows),
        "growth-simulated": _simulated(context, rows),
    }
    return {"rows": rows, "goals": [], "plots": plots}


def _rooms(context: Context, rows: list[Row]) -> str:
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
                for _ in range(2):
                    context.quiet.wait(1.0)
                    for name, server in servers.items():
                        expected = context.file("expected", reply_of(server, payload, 20))
                        options = {"expect": expected, "connections": 50, "seconds": 0.25}
                        row = context.run(server, request, **options, warmup=0.05)
                        found.setdefault(name, []).append(row["us"])
            _note(rows, series, found, f"getdir of 20 out of {count} rooms", count)
    unit = "microseconds of server CPU per getdir with limit 20"
    return lines("A growing directory", "rooms", unit, series, log_y=False)


def _connections(context: Context, rows: list[Row]) -> str:
    request = context.file("request-ping", request_bytes("ping"))
    series: Series = {}
    with ExitStack() as stack:
        makers: Makers = {EVLOOP: context.evloop}
        makers |= {name: partial(context.peer, name) for name in PEERS}
        servers = context.start(stack, makers)
        for count in CONNECTIONS:
            found: dict[str, list[float]] = {}
            for _ in range(1 if count >= 10_000 else 2):
                context.quiet.wait(1.0)
                for name, server in servers.items():
                    seconds = 0.25 if count < 10_000 else 0.8
                    options = {"connections": count, "seconds": seconds}
                    row = context.run(server, request, **options, warmup=0.1)
                    found.setdefault(name, []).append(row["us"])
                    settle(server)
            _note(rows, series, found, f"ping from {count} connections", count)
    unit = "microseconds of server CPU per ping, every connection active"
    return lines("Growing connections", "connections", unit, series, log_y=False)


def _members(context: Context, rows: list[Row]) -> str:
    series: Series = {}
    for count in MEMBERS:
        with ExitStack() as stack:
            chats = open_irc(context, stack, count)
            found = _lines(context, chats, count, TEXT)
        _note(rows, series, found, f"one message to {count} members", count)
    unit = "microseconds of CPU of the sending side per message (softirq included)"
    return lines("A growing room, all members on one host", "members", unit, series)


def _sizes(context: Context, rows: list[Row]) -> str:
    series: Series = {}
    with ExitStack() as stack:
        chats = open_irc(context, stack, SIZE_MEMBERS)
        for size in SIZES:
            fitting = chats if size <= IRC_TEXT_MAX else {}
            text = (TEXT + " " + "x" * size)[:size]
            found = _lines(context, fitting, SIZE_MEMBERS, text)
            _note(rows, series, found, f"{size} bytes to {SIZE_MEMBERS} members", size)
    context.missing[f"IRC, {SIZES[-1]} bytes"] = "a line of IRC has at most 512 bytes"
    unit = f"microseconds of CPU of the sending side, {SIZE_MEMBERS} members on one host"
    return lines("Growing messages", "bytes of text", unit, series, log_y=False)


def _lines(
    context: Context, chats: dict[str, Chat], members: int, text: str
) -> dict[str, list[float]]:
    """CPU us of the sending side, line after line, in turns."""
    found: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        context.quiet.wait(1.0)
        with Listeners(members - 1) as room:
            figures = speak(context, members, MESSAGES, room.port, len(text))
        found.setdefault(EVLOOP, []).append(figures["all_us"])
        for name, chat in chats.items():
            found.setdefault(name, []).append(relay(chat, members, text, MESSAGES))
    return found


def _simulated(context: Context, rows: list[Row]) -> str:
    """What a reliable room says per message, as it grows beyond what one host can hold."""
    series: Series = {}
    for members, messages in SIMULATED:
        try:
            row = _simulate(context, members, messages)
        except Failed as reason:
            context.missing[f"simulator, {members} members"] = str(reason)
            continue
        figures = {key: float(row[key]) for key in ("data", "repair", "nack", "session")}
        rows.append(
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


def _note(
    rows: list[Row], series: Series, found: dict[str, list[float]], load: str, x: float
) -> None:
    for name, values in found.items():
        figure = spread(values)
        rows.append({"server": name, "load": load, "cpu_us": figure})
        series.setdefault(name, []).append((x, figure["median"]))
