"""One message to the members on one host (goal 9): multicast against servers that fan out.

What is counted is the CPU of the sending side. For multicast that is the sender's process: the
kernel delivers to the other members in soft interrupts of that process, which its clock holds
where the kernel does not account them apart (`softirq_charged` in the results). For IRC it is the
server's process, whose clock holds the same half of TCP. Two ways:

- line after line: a session's lines through its socket as fast as they go, with all that it has to
  do besides (`bench/load/speaker.py`; members are sockets), and the server's next line when all
  members have had the last. Caches are warm; this is what a message costs.
- whole processes at five lines a second, in turns: a real client that speaks to real clients, whose
  CPU is shown beside it, with its wake-ups, copies and SESSIONs. IRC's members are sockets. The
  floor is a program that sends each line once, to as many that only receive: what it takes to wake
  a hundred processes.
"""

from __future__ import annotations

import statistics
import time
from contextlib import ExitStack

from bench.harness.common import (
    EVLOOP,
    Context,
    Row,
)
from bench.harness.judging import compared, spread
from bench.harness.processes import Failed
from bench.load.chatroom import Listeners
from bench.load.fan import (
    TEXT,
    measure,
    open_floor,
    open_irc,
    open_members,
    open_sender,
    relay,
    speak,
)
from bench.report.plot import bars

MEMBERS = 100
WINDOW = 20  # messages
QUICK = 100
ALONE = f"{EVLOOP}, nobody listens"
FLOOR = "sendto alone, in Python"
SAY = f"{EVLOOP}, the line alone"


def run(context: Context) -> Row:
    quick: dict[str, list[float]] = {}
    with ExitStack() as stack:
        chats = open_irc(context, stack, MEMBERS)
        for _ in context.turns(max(3, context.rounds)):
            with Listeners(MEMBERS - 1) as listeners:
                figures = speak(context, MEMBERS, QUICK, listeners.port)
            quick.setdefault(EVLOOP, []).append(figures["all_us"])
            quick.setdefault(SAY, []).append(statistics.median(figures["say_us"]))
            for name, chat in chats.items():
                quick.setdefault(name, []).append(relay(chat, MEMBERS, TEXT, QUICK))
        try:
            chats[EVLOOP] = open_members(context, stack, MEMBERS - 1)
            chats[ALONE] = open_sender(context, stack, 0)
            chats[FLOOR] = open_floor(context, stack, MEMBERS - 1)
        except (Failed, OSError) as reason:
            context.missing[EVLOOP] = str(reason)
        time.sleep(3 if EVLOOP in chats else 0)  # members have met: SESSIONs of arrival are over
        context.quiet.wait()
        slow = measure(chats, TEXT, max(3, context.rounds - 2), WINDOW)
    rows: list[Row] = [
        {"server": name, "load": f"{MEMBERS} members, line after line", "cpu_us": spread(values)}
        for name, values in quick.items()
    ]
    rows += [_row(name, found) for name, found in slow.items()]
    people = {name: [run["us"] for run in found] for name, found in slow.items()}
    what = f"CPU of the sending side, {MEMBERS} members here, to ngircd"
    goals = []
    for how, ours, found in (
        ("the line itself", quick.get(SAY, []), quick),
        ("with the session's SESSIONs", quick.get(EVLOOP, []), quick),
        ("whole client at 5 lines/s", people.get(EVLOOP, []), people),
    ):
        theirs = found.get("ngircd", [])
        floor = found.get(FLOOR, [])
        limit = 0.3 if found is quick else None
        goals.append(
            compared(9, f"{what}: {how}", ours, ("ngircd", theirs, "us"), limit, lowest=floor)
        )
    what = f"CPU of a whole client at 5 lines/s, {MEMBERS} members here, against {FLOOR}"
    floor = people.get(FLOOR, [])
    goals.append(compared(9, what, people.get(EVLOOP, []), (FLOOR, floor, "us"), 2.0))
    names = list(dict.fromkeys([*quick, *people]))
    figures = {
        name: [statistics.median(f[name]) if name in f else None for f in (quick, people)]
        for name in names
    }
    title = f"One chat message to {MEMBERS} members on one host"
    unit = "microseconds of CPU of the sending side, softirq included: less is better"
    groups = ["line after line", "whole processes, five lines a second"]
    return {
        "rows": rows,
        "goals": [goal.as_row() for goal in goals],
        "plots": {"fanout": bars(title, unit, groups, figures)},
    }


def _row(name: str, runs: list[Row]) -> Row:
    return {
        "server": name,
        "load": "sent alone" if name == ALONE else f"one message to {MEMBERS} members",
        "cpu_us": spread(run["us"] for run in runs),
        "receivers_us": spread(run["receivers_us"] for run in runs),
        "arrived": spread(run["arrived"] for run in runs),
        "ksoftirqd_us": spread(run["ksoftirqd_us"] for run in runs),
    }
