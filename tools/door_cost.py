"""What the IRC door takes for a message: `python3 -m tools.door_cost [MESSAGES]`.

A directory and a door are started on loopback, and IRC clients come in by their own sockets. Two
members sit in one room, both at this door: ann with one client, bob with ten. Printed are

    latency     PRIVMSG at ann's client, by the group, to the line at bob's first client
    CPU         of the door, for both members, per message that ann says to those eleven clients
    the floor   what a program takes that makes the system calls of that and does no work, and how
                many times as much the door takes; both take turns
    one more    what that grows by for each client of bob
    carried     CPU and latency while the directory carries the room, as in its first half minute
    the door    its private memory with one client in one room, over that of an empty Python
    a client    private memory of an idle client more; a seat: of a room more
    quiet       what the door takes of a core when nothing is said, with three seats
    join        from JOIN to 366
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from tests.irc.live import DoorProcess, Visitor
from tools.room_cost import Sample

MESSAGES, GAP_S, QUIET_S = 100, 0.2, 20.0  # slow enough for what the door takes of a client
ROUNDS = 5  # in which the door and the floor take turns
FEW, MANY = 1, 10  # clients of bob
SEATS, IDLE, SETTLE_S = 60, 28, 8.0
PARTS = (0.5, 0.95, 0.99)


def cpu_s(pid: int) -> float:
    return int((Path("/proc") / str(pid) / "schedstat").read_text().split()[0]) / 1e9


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


class Floor:
    """`tools.door_floor` with as many clients as there are at the door."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tools.door_floor"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self.process.stdout is not None
        port = int(self.process.stdout.readline())
        self.clients = [Visitor(("127.0.0.1", port)) for _ in range(1 + MANY)]

    def talk(self, count: int) -> None:
        first, second, *_ = self.clients
        for _ in range(count):
            first.say("x" * 40)
            second.wait_for("x")
            time.sleep(GAP_S)

    def close(self) -> None:
        for client in self.clients:
            client.close()
        self.process.communicate()


def told(waits: list[float]) -> str:
    ordered = sorted(waits)
    at = [1_000 * ordered[min(int(part * len(ordered)), len(ordered) - 1)] for part in PARTS]
    return "{:.2f} ms median, {:.2f} p95, {:.2f} p99".format(*at)


def messages(door: DoorProcess, ann: Visitor, channel: str, count: int) -> list[Visitor]:
    """The figures of a message; returns bob's clients, who are in the room."""
    pid = door.process.pid
    bobs = [door.user("bob") for _ in range(FEW)]
    bobs[0].join(channel)
    talk(ann, bobs, channel, 20, "warm")
    before = cpu_s(pid)
    talk(ann, bobs, channel, count // 2, "few")
    few = (cpu_s(pid) - before) / (count // 2)
    while len(bobs) < MANY:
        bobs.append(door.user("bob"))  # who is in the room already
    floor = Floor()
    floor.talk(10)
    each = count // ROUNDS
    ours, theirs, waits = [], [], []
    try:
        for number in range(ROUNDS):
            before = cpu_s(pid)
            waits += talk(ann, bobs, channel, each, f"many {number}")
            ours.append((cpu_s(pid) - before) / each)
            before = cpu_s(floor.process.pid)
            floor.talk(each)
            theirs.append((cpu_s(floor.process.pid) - before) / each)
    finally:
        floor.close()
    ratios = sorted(one / other for one, other in zip(ours, theirs))
    print(f"latency            {told(waits)}")
    print(f"CPU a message      {1_000 * median(ours):.2f} ms for {1 + MANY} clients")
    print(
        f"the floor of that  {1_000 * median(theirs):.2f} ms; the door takes {median(ratios):.2f}"
    )
    print(f"                   times as much ({ratios[0]:.2f} to {ratios[-1]:.2f})")
    print(f"one more client    {1_000 * (median(ours) - few) / (MANY - FEW):.3f} ms a message")
    return bobs


def carried(count: int) -> None:
    """The figures of a message while the directory carries the room."""
    door = DoorProcess(options=("--relay", "always")).ready()
    try:
        ann, bobs = door.user("ann"), [door.user("bob") for _ in range(MANY)]
        ann.join(door.channel)
        bobs[0].join(door.channel)
        talk(ann, bobs, door.channel, 20, "warm")
        before = cpu_s(door.process.pid)
        waits = talk(ann, bobs, door.channel, count, "many")
        taken = (cpu_s(door.process.pid) - before) / count
        print(f"carried            {1_000 * taken:.2f} ms; {told(waits)}")
    finally:
        door.close()


def memory() -> None:
    """The figures of private memory."""
    command = [sys.executable, "-c", "print(flush=True); input()"]
    empty = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert empty.stdout is not None
    empty.stdout.readline()
    least = Sample(empty.pid).private
    empty.communicate(b"\n")
    door = DoorProcess().ready()
    try:
        ann = door.user("ann")
        ann.join(door.channel)
        time.sleep(SETTLE_S)
        sizes = [Sample(door.process.pid).private]
        for number in range(IDLE):
            door.user(f"n{number}")
        sizes.append(Sample(door.process.pid).private)
        for number in range(1 + SEATS):
            if number in (1, SEATS):
                time.sleep(SETTLE_S)
                sizes.append(Sample(door.process.pid).private)
            ann.join(f"{door.channel}-{number}")
    finally:
        door.close()
    print(f"the door           {(sizes[0] - least) / 1e6:.1f} MB")
    print(f"an idle client     {(sizes[1] - sizes[0]) / IDLE / 1e3:.1f} kB")
    print(f"a seat             {(sizes[3] - sizes[2]) / (SEATS - 1) / 1e3:.1f} kB")


def main() -> int:
    """Measure, and print a line a figure."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else MESSAGES
    door = DoorProcess(options=("--relay", "never")).ready()
    try:
        ann = door.user("ann")
        began = time.monotonic()
        ann.join(door.channel)
        print(f"JOIN to 366        {time.monotonic() - began:.2f} s")
        messages(door, ann, door.channel, count)
        door.user("cy").join(door.channel)
        before = cpu_s(door.process.pid)
        time.sleep(QUIET_S)
        print(f"quiet, three seats {100 * (cpu_s(door.process.pid) - before) / QUIET_S:.3f} %")
    finally:
        door.close()
    carried(count // 2)
    memory()
    return 0


if __name__ == "__main__":
    sys.exit(main())
