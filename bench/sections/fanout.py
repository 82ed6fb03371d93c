"""One message to the members on one host (goal 9): multicast against servers that fan out.

What is counted is the CPU clock of the sending side: the sender's process
for multicast (the kernel delivers to the other members in soft interrupts of that process, which
its clock holds where the kernel does not account them apart), the server's process for IRC, whose
clock holds the same half of TCP. The members of evloop's room are real clients, their CPU is
beside it; those of IRC are sockets that are read and cost nobody anything here.
"""

from __future__ import annotations

import time
from contextlib import ExitStack

from bench.common import EVLOOP, Context, Goal, Row, ratio, spread
from bench.fan import TEXT, measure, open_irc, open_members, open_sender
from bench.plot import bars
from bench.processes import Failed

MEMBERS = 100
WINDOW = 20  # messages
ALONE = f"{EVLOOP}, nobody listens"


def run(context: Context) -> Row:
    with ExitStack() as stack:
        chats = open_irc(context, stack, MEMBERS)
        try:
            chats[EVLOOP] = open_members(context, stack, MEMBERS - 1)
            chats[ALONE] = open_sender(context, stack, 0)
        except (Failed, OSError) as reason:
            context.missing[EVLOOP] = str(reason)
        time.sleep(3 if EVLOOP in chats else 0)  # members have met: SESSIONs of arrival are over
        context.quiet.wait()
        runs = measure(chats, TEXT, max(2, context.rounds - 2), WINDOW)
    rows = [_row(name, found) for name, found in runs.items()]
    ours, ngircd = ([run["us"] for run in runs.get(name, [])] for name in (EVLOOP, "ngircd"))
    what = f"CPU of the sending side, {MEMBERS} members on one host, against ngircd"
    figures: dict[str, list[float | None]] = {r["server"]: [r["cpu_us"]["median"]] for r in rows}
    title = f"One chat message to {MEMBERS} members on one host"
    unit = "microseconds of CPU of the sending side, softirq included: less is better"
    return {
        "rows": rows,
        "goals": [Goal(9, what, ratio(ours, ngircd), 0.3, "<=").as_row()],
        "plots": {"fanout": bars(title, unit, [""], figures)},
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
