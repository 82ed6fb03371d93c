"""A chat message at its two ends (goals 8 and 10).

Sending: from `say` to `sendto` with nobody of the group on this host (`bench/load/speaker.py`), for
rooms of 1, 2 and 50 members; the floor is a sendto of the same bytes by the same process, right
after each line. Receiving: a real client on a terminal; 40 senders say four lines a
second each, and what is counted is the client's CPU clock, from the datagram in its socket to the
bytes on its screen, timers and SESSIONs included. Beside it stands the floor: a program that does
no more than wait, recvfrom and write (`bench/peers/reader.py`).

The 160 lines come one at a time, or 40 at a time. One at a time each is a wake from a sleep of 6 ms
in which the caches went to others: the floor alone costs some seven times of what it costs 40 at a
time. So each way has its own floor and its own limit: what is above the floor is ours.

The burst: 5,000 datagrams within a tenth of a second; what the kernel dropped at the client's
socket is read from /proc/net/udp.
"""

from __future__ import annotations

import os
import socket
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack

from bench.harness import machine
from bench.harness.common import (
    EVLOOP,
    Context,
    Row,
)
from bench.harness.judging import Goal, compared, spread
from bench.harness.processes import Failed
from bench.load import datagrams
from bench.load.chatroom import (
    GROUP,
    EvloopMember,
    Terminal,
    drops_of,
    next_port,
    open_sender,
)
from bench.load.fan import TEXT, speak

MEMBERS = (1, 2, 50)
MESSAGES = 300
SENDERS, PER_SECOND, SECONDS = 40, 4, 3
BURST, BURST_S = 5_000, 0.1
BURST_SENDERS = 50
CLIENT, FLOOR = f"{EVLOOP}.client", "Python floor"
APART, TOGETHER = "one at a time (cold)", f"{SENDERS} at a time"


def run(context: Context) -> Row:
    say: dict[int, list[float]] = {}
    whole: dict[int, list[float]] = {}
    bare: list[float] = []
    for _ in context.turns(context.rounds):
        for members in MEMBERS:
            figures = speak(context, members, MESSAGES, next_port(), bare=True)
            say.setdefault(members, []).append(statistics.median(figures["say_us"]))
            whole.setdefault(members, []).append(figures["all_us"])
        bare.append(statistics.median(figures["bare_us"]))
    rows: list[Row] = []
    for members in MEMBERS:
        row = {"server": EVLOOP, "load": f"say to sendto, {members} members"}
        rows.append(row | {"us": spread(say[members]), "all_us": spread(whole[members])})
    goals = [
        compared(
            8,
            "CPU of say to sendto, 50 members against 1",
            say[50],
            (f"{EVLOOP}, 1 member", say[1], "us"),
            1.1,
        ),
        compared(
            8,
            "CPU of say to sendto, 50 members, against a bare sendto of the same bytes",
            say[50],
            ("sendto", bare, "us"),
            6.0,
        ),
    ]
    rows.append({"server": "sendto", "load": "the bytes of a say", "us": spread(bare)})
    received: dict[tuple[str, str], list[float]] = {}
    lost: float | None = None
    try:
        for together in (True,) if context.quick else (True, False):
            how = TOGETHER if together else APART
            costs: dict[str, list[float]] = {}
            for _ in context.turns(max(3, context.rounds - 2)):
                for who, reader in READERS.items():
                    costs.setdefault(who, []).append(_receive(context, reader, together))
            for who, values in costs.items():
                received[who, how] = values
                row = {"server": who, "load": f"a DATA received, {how}"}
                rows.append(row | {"us": spread(values)})
        burst = _burst(context)
        lost = float(burst["dropped"])
        rows.append({"server": CLIENT, "load": f"{BURST} datagrams at once"} | burst)
    except (Failed, OSError) as reason:
        context.missing[CLIENT] = str(reason)
    for how, limit in ((TOGETHER, 5.0), (APART, 2.5)):
        what = f"CPU per DATA, socket to screen, {how}, against {FLOOR}"
        ours, floor = (received.get((who, how), []) for who in (CLIENT, FLOOR))
        goals.append(compared(10, what, ours, (FLOOR, floor, "us"), limit))
    goals += [
        Goal(10, f"datagrams of {BURST} in {BURST_S} s dropped by the kernel", lost, 0, "<="),
    ]
    return {"rows": rows, "goals": [goal.as_row() for goal in goals]}


Reader = Callable[[ExitStack, Context, int], Terminal]


def _client(stack: ExitStack, context: Context, port: int) -> Terminal:
    core = machine.cores()[0]
    member = EvloopMember(context, "reader", port=port, core=core, terminal=True)
    return stack.enter_context(member).terminal


def _floor(stack: ExitStack, context: Context, port: int) -> Terminal:
    command = [context.python, "-S", "-m", "bench.peers.reader", str(port)]
    terminal = stack.enter_context(Terminal(command, core=machine.cores()[0]))
    terminal.expect(b"reading", 10)
    return terminal


READERS: dict[str, Reader] = {CLIENT: _client, FLOOR: _floor}


def _receive(context: Context, reader: Reader, together: bool) -> float:
    """CPU us of a reader for each line of others that it shows.

    The lines of a quarter of a second come evenly spaced, each waking the client, or `together`.
    """
    port = next_port()
    place = f"{GROUP}:{port}"
    wall = int(time.time())
    senders = [os.urandom(8) for _ in range(SENDERS)]
    rounds = PER_SECOND * SECONDS
    wires = [
        [
            datagrams.data(place, s, n, f"{TEXT} {n}", name=f"m{i}", lamport=n + 1, wall=wall)
            for i, s in enumerate(senders)
        ]
        for n in range(rounds + 1)
    ]
    with ExitStack() as stack:
        terminal = reader(stack, context, port)
        sender = stack.enter_context(open_sender())
        _pour(terminal, sender, port, wires[:1], 1.0)
        terminal.look(1.0)  # the first words of everybody, and who has come, are shown
        terminal.drawn()
        begin = machine.cpu_ns(terminal.process.pid)
        _pour(terminal, sender, port, wires[1:], 1 / PER_SECOND, together)
        terminal.look(0.5)
        cost = machine.cpu_ns(terminal.process.pid) - begin
        shown = terminal.drawn().count(TEXT.encode())
    sent = rounds * SENDERS
    if shown < 0.98 * sent:
        raise Failed(f"{shown} of {sent} lines were shown")
    return cost / 1000 / sent


def _pour(
    terminal: Terminal,
    sender: socket.socket,
    port: int,
    rounds: list[list[bytes]],
    period_s: float,
    together: bool = False,
) -> None:
    """Send each round's datagrams within a period, reading the screen meanwhile."""
    for wires in rounds:
        turn = time.monotonic()
        for number, wire in enumerate(wires):
            sender.sendto(wire, (GROUP, port))
            if not together:
                due = turn + period_s * (number + 1) / len(wires)
                terminal.look(max(0.0, due - time.monotonic()))
        terminal.look(max(0.0, turn + period_s - time.monotonic()))


def _burst(context: Context) -> Row:
    """What of BURST datagrams was lost at the client's socket, and the buffer it was granted."""
    port = next_port()
    place = f"{GROUP}:{port}"
    wall = int(time.time())
    senders = [os.urandom(8) for _ in range(BURST_SENDERS)]
    wires = [
        datagrams.data(place, sender, number, TEXT, name="m", lamport=number + 1, wall=wall)
        for number in range(BURST // BURST_SENDERS)
        for sender in senders
    ]
    with EvloopMember(context, "reader", port=port, core=machine.cores()[0]) as member:
        with open_sender() as sender:
            begin = time.perf_counter()
            for number, wire in enumerate(wires):
                if not number % 100:
                    time.sleep(max(0.0, begin + BURST_S * number / BURST - time.perf_counter()))
                sender.sendto(wire, (GROUP, port))
            took = time.perf_counter() - begin
            time.sleep(1.5)
        if member.process.poll() is not None:
            raise Failed("the client did not survive the burst")
        return {
            "sent_in_s": round(took, 3),
            "dropped": drops_of(member.pid, port),
            "rmem_max": machine.describe_machine()["rmem_max"],
        }
