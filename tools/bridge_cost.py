"""What the bridge between sites takes of a core: `python3 -m tools.bridge_cost [SECONDS]`.

An etcd, a nats-server and two servers of two sites are started on loopback, with somebody in one
room at each. Datagrams of 300 bytes are sent to its group, 40 at once, ten times a second. As both
sites share the loopback, each server publishes all of them and puts all of the other's into the
group. Printed is the CPU time of a server for one datagram that it has carried, out or in, without
what it takes when nothing is said. Needs etcd and nats-server.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tools.cluster_start import Caller, etcd

GROUP = "239.255.77.7", 7077
BURST, PER_SECOND, SIZE = 40, 10, 300


def cpu_s(process: subprocess.Popen[str]) -> float:
    return int((Path("/proc") / str(process.pid) / "schedstat").read_text().split()[0]) / 1e9


def server(site: str, *options: str) -> tuple[subprocess.Popen[str], int]:
    """A server of a site, and its port."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "evloop.server", "--listen", "127.0.0.1:0", "--no-announce"),
            *("--memory", "--interface", "127.0.0.1", "--relay", "off", "--site", site, *options),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        found = re.search(r"listening on 127\.0\.0\.1:(\d+)", line)
        if found:
            return process, int(found[1])
    raise SystemExit("a server did not start")


def carried(callers: list[Caller]) -> list[dict[str, Any]]:
    return [one.ask("stats") for one in callers]


def measure(seconds: float, processes: list[subprocess.Popen[str]], callers: list[Caller]) -> None:
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
    used = [cpu_s(one) for one in processes]
    time.sleep(seconds)
    idle = [cpu_s(one) - before for one, before in zip(processes, used)]
    before, used = carried(callers), [cpu_s(one) for one in processes]
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for _ in range(BURST):
            sender.sendto(b"\1" * SIZE, GROUP)
        time.sleep(1 / PER_SECOND)
    time.sleep(0.5)
    busy = [cpu_s(one) - start for one, start in zip(processes, used)]
    for at, (old, new) in enumerate(zip(before, carried(callers))):
        out, into = (new[name] - old[name] for name in ("bridge_out", "bridge_in"))
        each = 1000 * (busy[at] - idle[at]) / max(1, out + into)
        print(f"site {at + 1}: {out} out, {into} in, {each:.3f} ms of CPU each")


def main() -> None:
    seconds = float(sys.argv[1]) if sys.argv[1:] else 10.0
    folder = tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
    sock = socket.create_server(("127.0.0.1", 0))
    port = sock.getsockname()[1]
    sock.close()
    words = ["nats-server", "-a", "127.0.0.1", "-p", str(port)]
    nats = subprocess.Popen(words, stderr=subprocess.DEVNULL, text=True)
    processes: list[subprocess.Popen[str]] = []
    try:
        with etcd(f"{folder}/etcd") as (place, _):
            options = ("--cluster", place, "--bridge", f"127.0.0.1:{port}")
            made = [server(site, *options) for site in ("one", "two")]
            processes = [process for process, _ in made]
            callers = [Caller(port) for _, port in made]
            callers[0].ask("makeroom", name="cost", address=GROUP[0], port=GROUP[1])
            callers[1].ask("hello", version=1)
            for one in callers:
                one.ask("enter", name="cost")
            while not all(one["bridge_rooms"] for one in carried(callers)):
                time.sleep(0.1)
            measure(seconds, processes, callers)
    finally:
        for process in (*processes, nats):
            process.terminate()
            process.wait()
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
