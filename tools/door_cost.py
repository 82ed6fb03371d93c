"""What the IRC door takes for a message: `python3 -m tools.door_cost [MESSAGES]`.

A directory and a door are started on loopback, and IRC clients come in by their own sockets. Two
members sit in one room, both at this door: ann with one client, bob with ten. Printed are

    latency     PRIVMSG at ann's client, by the group, to the line at bob's first client
    CPU         of the door, for both members, per message that ann says to those eleven clients
    one more    what that grows by for each client of bob
    quiet       what the door takes of a core when nothing is said, with three seats
    join        from JOIN to 366
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from tests.irc.live import DoorProcess, Visitor

MESSAGES, GAP_S, QUIET_S = 100, 0.2, 20.0  # slow enough for what the door takes of a client
FEW, MANY = 1, 10  # clients of bob


def cpu_s(door: DoorProcess) -> float:
    return int((Path("/proc") / str(door.process.pid) / "schedstat").read_text().split()[0]) / 1e9


def talk(ann: Visitor, bobs: list[Visitor], channel: str, count: int, mark: str) -> list[float]:
    """Seconds until each message was at the first of `bobs`; all of them have all at the end."""
    waits = []
    for number in range(count):
        text = f"{mark} {number} and some words more"
        began = time.monotonic()
        ann.say(f"PRIVMSG {channel} :{text}")
        bobs[0].wait_for(text)
        waits.append(time.monotonic() - began)
        time.sleep(GAP_S)
    for bob in bobs[1:]:
        bob.wait_for(f"{mark} {count - 1} ")
    return waits


def main() -> int:
    """Measure, and print a line a figure."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else MESSAGES
    door = DoorProcess().ready()
    try:
        ann, bobs = door.user("ann"), [door.user("bob") for _ in range(FEW)]
        channel = door.channel
        began = time.monotonic()
        ann.join(channel)
        print(f"JOIN to 366        {time.monotonic() - began:.2f} s")
        bobs[0].join(channel)
        talk(ann, bobs, channel, 30, "warm")
        before = cpu_s(door)
        talk(ann, bobs, channel, count, "few")
        few = (cpu_s(door) - before) / count
        while len(bobs) < MANY:
            bobs.append(door.user("bob"))  # who is in the room already
        before = cpu_s(door)
        waits = sorted(talk(ann, bobs, channel, count, "many"))
        many = (cpu_s(door) - before) / count
        at = [1_000 * waits[min(int(part * count), count - 1)] for part in (0.5, 0.95, 0.99)]
        print("latency            {:.2f} ms median, {:.2f} p95, {:.2f} p99".format(*at))
        print(f"CPU a message      {1_000 * many:.2f} ms for {1 + MANY} clients")
        print(f"one more client    {1_000 * (many - few) / (MANY - FEW):.3f} ms a message")
        door.user("cy").join(channel)
        before = cpu_s(door)
        time.sleep(QUIET_S)
        print(f"quiet, three seats {100 * (cpu_s(door) - before) / QUIET_S:.3f} % of a core")
    finally:
        door.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
