"""What a further room costs a client: `python3 -m tools.room_cost [SECONDS]`.

Two clients are started, in 1 and in 16 rooms on loopback in which nobody else is. The difference of
their private memory, descriptors and CPU time, divided by 15, is the cost of one. It takes a bit
more than SECONDS (60).
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

SETTLE_S = 8.0  # after entering: the announcements of a newcomer are over
FEW, MANY = 1, 16


class Sample:
    """Private bytes, descriptors and CPU seconds of a process so far."""

    def __init__(self, pid: int) -> None:
        proc = Path("/proc") / str(pid)
        rollup = (proc / "smaps_rollup").read_text()
        self.private = 1024 * sum(map(int, re.findall(r"Private_\w+: +(\d+) kB", rollup)))
        self.descriptors = len(os.listdir(proc / "fd"))
        self.cpu_s = int((proc / "schedstat").read_text().split()[0]) / 1e9


def client(rooms: int) -> subprocess.Popen[bytes]:
    """A client in so many rooms, which stays there until its input ends."""
    one, two = os.urandom(2)
    places = [f"239.255.{one % 254 + 1}.{two}:{41_000 + n}" for n in range(rooms)]
    return subprocess.Popen(
        [sys.executable, "-m", "evloop.client", "chat", *places],
        env={**os.environ, "EVLOOP_INTERFACE": "127.0.0.1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def measure(seconds: float) -> dict[str, float]:
    """The figures of one further room."""
    clients = [client(FEW), client(MANY)]
    try:
        time.sleep(SETTLE_S)
        few, many = (Sample(one.pid) for one in clients)
        time.sleep(seconds)
        later_few, later_many = (Sample(one.pid) for one in clients)
    finally:
        for one in clients:
            one.communicate()
    rooms = MANY - FEW
    few_s, many_s = later_few.cpu_s - few.cpu_s, later_many.cpu_s - many.cpu_s
    return {
        "private bytes": (later_many.private - later_few.private) / rooms,
        "descriptors": (later_many.descriptors - later_few.descriptors) / rooms,
        "CPU, ms a second": 1_000 * (many_s - few_s) / seconds / rooms,
    }


def main() -> int:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    for what, figure in measure(seconds).items():
        print(f"{what:20} {figure:10.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
