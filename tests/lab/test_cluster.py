"""Three members of etcd and three servers in namespaces, while everything breaks.

python3 -m tests.lab.test_cluster cuts 24     so many power cuts of everything, one after another
python3 -m tests.lab.test_cluster kills 60    kill -9 of members and the leader, for so many seconds
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.network import Flat, LabError, flat, missing
from tests.simulation.engine import Asked, linearizable
from tests.support.disks import PowerDisk
from tests.support.pairs import pairwise
from tests.support.processes import Crew, Program, Server

WHY = missing("etcd", "etcdctl")
pytestmark = [
    pytest.mark.skipif(bool(WHY), reason=WHY or "the lab is here"),
    pytest.mark.slow,
    pytest.mark.timeout(300),
]
PORT = 44444
SAME = 10_000
CUTS = 3
DISK_MIB = 900  # each member of etcd takes 128 at once, and again for its next log


class Machines:
    """Hosts 1 to 3 run etcd and a server; 4 has the clients. `at(n)` is its address.

    `disk`: where all of it is kept, also a copy of each server; else in memory.
    """

    def __init__(self, crew: Crew, lab: Flat, disk: PowerDisk | None = None) -> None:
        self.crew, self.lab, self.disk = crew, lab, disk
        self.before = () if disk is None else disk.prefix
        self.folder = (
            tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
            if disk is None
            else str(disk.place)
        )
        self.etcd: dict[int, Program] = {}
        self.servers: dict[int, Server] = {}
        self.start()

    def start(self) -> None:
        for number in (1, 2, 3):
            self.start_etcd(number)
        self.crew.until(self.healthy, seconds=60, every=0.3, why="etcd has a leader")
        for number in (1, 2, 3):
            self.start_server(number)
        self.crew.until(lambda: all(one.listens for one in self.servers.values()), seconds=60)

    def kill(self) -> None:
        """kill -9 of all members and servers."""
        programs: list[Program] = [*self.etcd.values(), *self.servers.values()]
        for one in programs:
            one.process.kill()
        for one in programs:
            self.crew.finish(one)

    def copy(self, number: int) -> str:
        return f"{self.folder}/copy{number}.db"

    def at(self, number: int) -> str:
        return self.lab.address(number)

    def start_etcd(self, number: int) -> None:
        us = self.at(number)
        peers = ",".join(f"m{n}=http://{self.at(n)}:2380" for n in (1, 2, 3))
        words = [
            *(*self.before, *self.lab.hosts[number - 1].prefix, "etcd", "--name", f"m{number}"),
            *("--data-dir", f"{self.folder}/m{number}", "--log-level", "error"),
            *("--listen-client-urls", f"http://{us}:2379"),
            *("--advertise-client-urls", f"http://{us}:2379"),
            *("--listen-peer-urls", f"http://{us}:2380"),
            *("--initial-advertise-peer-urls", f"http://{us}:2380"),
            *("--initial-cluster", peers),
        ]
        self.etcd[number] = Program(words)
        self.crew.add(self.etcd[number])

    def start_server(self, number: int) -> None:
        own = [self.at(number), *(self.at(n) for n in (1, 2, 3) if n != number)]
        prefix = (*self.before, *self.lab.hosts[number - 1].prefix)
        words = [
            *(*prefix, sys.executable, "-m", "evloop.server", "--no-announce", "--quiet"),
            *("--listen", f"{self.at(number)}:{PORT}", "--max-rooms", "0"),
            *("--cluster", ",".join(own), "--change-rate", "0", "--rooms-per-address", "0"),
            *(("--memory",) if self.disk is None else ("--state", self.copy(number))),
        ]
        self.servers[number] = Server(words)
        self.crew.add(self.servers[number])

    def ctl(self, *words: str, of: tuple[int, ...] = (1, 2, 3)) -> str:
        ends = ",".join(f"http://{self.at(n)}:2379" for n in of)
        return self.lab.hosts[3].run("env", "ETCDCTL_API=3", "etcdctl", "--endpoints", ends, *words)

    def leader(self) -> int:
        """The host of etcd's leader; 0 while nobody is."""
        for number in (1, 2, 3):
            try:
                told = json.loads(self.ctl("endpoint", "status", "-w", "json", of=(number,)))
            except LabError:
                continue
            status = told[0]["Status"]
            if status.get("leader") == status["header"]["member_id"]:  # none: it is left out
                return number
        return 0

    def kill_etcd(self, number: int) -> None:
        """kill -9 of a member, which is started again at once."""
        self.etcd[number].process.kill()
        self.crew.finish(self.etcd[number])
        self.start_etcd(number)

    def healthy(self) -> bool:
        try:
            self.ctl("endpoint", "health")
        except LabError:
            return False
        return True

    def link(self, number: int, up: bool) -> None:
        self.lab.switch.ip(f"link set port{number} {'up' if up else 'down'}")

    def quarrel(
        self, seed: int, seconds: float, names: int, of: tuple[int, ...] = (1, 2, 3)
    ) -> Program:
        return self.clients(str(seed), str(seconds), str(names), of=of)

    def clients(self, *words: str, of: tuple[int, ...]) -> Program:
        places = [f"{self.at(n)}:{PORT}" for n in of]
        module = (sys.executable, "-m", "tests.lab.quarrel", *words)
        client = Program([*self.lab.hosts[3].prefix, *module, *places])
        self.crew.add(client)
        self.crew.until(lambda: "quarrelling" in client.out)
        return client


@pytest.fixture
def machines() -> Iterator[Machines]:
    with flat(4) as lab, Crew() as crew:
        made = Machines(crew, lab)
        try:
            yield made
        finally:
            shutil.rmtree(made.folder, ignore_errors=True)


def judge(told: dict[str, Any]) -> Counter[str]:
    """Versions and names are of one directory; return how many requests had which outcome."""
    asked = [
        Asked(begun, float("inf") if ended is None else ended, op, name, outcome, version, (), "")
        for begun, ended, op, name, outcome, version in told["told"]
    ]
    by_version = Counter(one.version for one in asked if one.outcome == "ok")
    assert not [version for version, count in by_version.items() if count > 1]
    in_order = sorted((one for one in asked if one.outcome == "ok"), key=lambda one: one.version)
    latest = 0.0
    for one in in_order:  # real time: a later version does not end before an earlier one began
        assert one.ended >= latest
        latest = max(latest, one.begun)
    for name in {one.name for one in asked}:
        assert linearizable([one for one in asked if one.name == name]), name
    lists = told["lists"]
    assert len(lists) == 3 and lists[0] == lists[1] == lists[2]
    assert lists[0][0] >= max(by_version, default=0)
    unknown = sum(one.outcome == "unknown" for one in asked)
    assert len(by_version) <= lists[0][0] <= len(by_version) + unknown
    return Counter(one.outcome for one in asked)


def ended(machines: Machines, client: Program) -> dict[str, Any]:
    machines.crew.finish(client, 120)
    assert client.status == 0, client.tell()
    told: dict[str, Any] = json.loads(client.lines[-1])
    return told


def test_quarrels_over_names_in_peace(machines: Machines) -> None:
    """Nine clients at three servers make and delete the same 30 rooms: nothing is unknown."""
    client = machines.quarrel(1, 15.0, 30)
    outcomes = judge(ended(machines, client))
    assert set(outcomes) == {"ok", "room_exists", "no_such_room"}
    assert outcomes["ok"] > 100


def longest_without_a_grant(told: dict[str, Any]) -> float:
    """Seconds between two changes that were made, one after the other."""
    ends: list[float] = sorted(end for _, end, _, _, outcome, _ in told["told"] if outcome == "ok")
    return max(later - earlier for earlier, later in pairwise(ends))


def pause(machines: Machines, one: Program, seconds: float) -> None:
    one.process.send_signal(signal.SIGSTOP)
    machines.crew.read_for(seconds)
    one.process.send_signal(signal.SIGCONT)


def break_things(machines: Machines, rng: random.Random, seconds: float) -> Counter[str]:
    """One or two faults at once, again and again; return how many there were of each kind."""
    faults: Counter[str] = Counter()
    crew = machines.crew
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for _ in range(rng.choice((1, 1, 2))):
            number = rng.choice((1, 2, 3))
            what = rng.choice(("leader", "member", "pause", "cable", "server"))
            if what == "leader":
                number = machines.leader() or number
            faults[what] += 1
            if what in ("leader", "member"):
                machines.kill_etcd(number)
            elif what == "pause":
                one = rng.choice((machines.etcd, machines.servers))[number]
                pause(machines, one, rng.uniform(0.5, 3.0))
            elif what == "cable":
                machines.link(number, False)
                crew.read_for(rng.uniform(0.5, 3.0))
                machines.link(number, True)
            else:
                machines.servers[number].process.kill()
                crew.finish(machines.servers[number])
                machines.start_server(number)
        crew.read_for(rng.uniform(0.5, 3.0))
    return faults


def test_everything_breaks(machines: Machines) -> None:
    """kill -9 and SIGSTOP of members, the leader and servers, cut cables, two at once: for 60 s."""
    client = machines.quarrel(2, 65.0, 60)
    faults = break_things(machines, random.Random(7), 60.0)
    assert len(faults) >= 4
    outcomes = judge(ended(machines, client))
    assert outcomes["ok"] > 50


@pytest.mark.timeout(900)
def test_ten_thousand_rooms_are_made_twice_at_one_moment(machines: Machines) -> None:
    """By two people at two servers: each room is made once, and the other one is told so."""
    client = machines.clients("same", str(SAME), of=(1, 2))
    machines.crew.finish(client, 840)
    assert client.status == 0, client.tell()
    told = json.loads(client.lines[-1])
    outcomes: dict[str, list[str]] = {}
    versions = []
    for _, _, _, name, outcome, version in told["told"]:
        outcomes.setdefault(name, []).append(outcome)
        if outcome == "ok":
            versions.append(version)
    assert len(outcomes) == SAME
    # Of a machine that is so busy that a change takes 10 s somebody may be told nothing certain.
    certain = [pair for pair in outcomes.values() if not {"unknown", "failed"} & set(pair)]
    assert all(sorted(pair) == ["ok", "room_exists"] for pair in certain)
    assert all(pair.count("ok") <= 1 for pair in outcomes.values())
    assert len(certain) >= 0.9 * SAME
    first, second = told["lists"]
    assert first == second and first[0] == len(first[1])  # each once: nothing was deleted
    made = {name for name, _ in first[1]}
    assert {name for name, pair in outcomes.items() if {"ok", "room_exists"} & set(pair)} <= made
    assert len(set(versions)) == len(versions) and set(versions) <= set(range(1, first[0] + 1))
    assert len(certain) <= len(versions) <= first[0] <= SAME


LOAD = """
import sys
from evloop.daemon.store import open_store
store = open_store(sys.argv[1])
print(store.load()[0])
store.close()
"""


def power_cuts(folder: Path, count: int, seed: int) -> Counter[str]:
    """All of etcd and all servers lose power at once, so many times, in the middle of the quarrels.
    What was acknowledged is there; each copy is whole, and not newer than the directory. Returns
    how many requests had which outcome."""
    rng = random.Random(seed)
    with flat(4) as lab, Crew() as crew:
        disk = PowerDisk(crew, folder, DISK_MIB)
        machines = Machines(crew, lab, disk)
        client = machines.quarrel(4, 200.0 * count, 60)
        copies: list[int] = []
        for _ in range(count):
            crew.read_for(rng.uniform(2.0, 5.0))
            disk.cut()
            machines.kill()
            disk.again()
            load = (sys.executable, "-c", LOAD)
            copies = [int(disk.run(*load, machines.copy(n))) for n in (1, 2, 3)]
            machines.start()
        crew.read_for(2.0)
        client.signal(signal.SIGINT)  # that is enough
        told = ended(machines, client)
        assert 0 < max(copies) <= told["lists"][0][0]
        return judge(told)


def test_power_cuts_of_everything_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    outcomes = power_cuts(tmp_path, CUTS, 11)
    assert outcomes["ok"] > 30 and outcomes["unknown"]


def test_a_log_that_was_compacted_meanwhile_is_no_gap_without_a_word(machines: Machines) -> None:
    """Server 3 is cut off; who watches it is sent away when it has read all anew."""
    watcher = machines.crew.add(
        Program(
            [
                *(*machines.lab.hosts[2].prefix, sys.executable, "-c", WATCH, machines.at(3)),
                str(PORT),
            ]
        )
    )
    machines.crew.until(lambda: "watching" in watcher.out)
    machines.link(3, False)
    client = machines.quarrel(3, 8.0, 20, of=(1, 2))
    machines.crew.finish(client, 60)
    revision = json.loads(machines.ctl("get", "x", "-w", "json", of=(1, 2)))["header"]["revision"]
    machines.ctl("compact", str(revision), of=(1,))
    machines.link(3, True)
    machines.crew.finish(watcher, 60)
    assert "this server missed changes of the directory; connect again" in watcher.out


WATCH = """
import json, socket, struct, sys
sock = socket.create_connection((sys.argv[1], int(sys.argv[2])))
file = sock.makefile("rb")
question = b'{"jsonrpc":"2.0","id":1,"method":"watch"}'
sock.sendall(struct.pack("!I", len(question)) + question)
while True:
    head = file.read(4)
    if len(head) < 4:
        break
    print(file.read(struct.unpack("!I", head)[0]).decode(), flush=True)
    print("watching", flush=True)
"""


def kills(seconds: float) -> tuple[int, float, Counter[str]]:
    """Members of etcd are killed, every second time the leader, once all are well again. Returns
    how many, the longest time without a change, and how many requests had which outcome."""
    with flat(4) as lab, Crew() as crew:
        machines = Machines(crew, lab)
        try:
            client = machines.quarrel(5, seconds, 60)
            rng, count, end = random.Random(13), 0, time.monotonic() + seconds - 5.0
            while time.monotonic() < end:
                number = machines.leader() if count % 2 else 0
                machines.kill_etcd(number or rng.choice((1, 2, 3)))
                crew.until(machines.healthy, seconds=60, every=0.3)
                crew.read_for(rng.uniform(0.5, 2.0))
                count += 1
            told = ended(machines, client)
            return count, longest_without_a_grant(told), judge(told)
        finally:
            shutil.rmtree(machines.folder, ignore_errors=True)


def main() -> None:
    what, many = sys.argv[1], int(sys.argv[2])
    if what == "cuts":
        with tempfile.TemporaryDirectory() as folder:
            outcomes = power_cuts(Path(folder), many, 11)
        print(f"{many} power cuts of everything, nothing lost", end=": ")
    else:
        count, longest, outcomes = kills(many)
        print(f"{count} kills, no change for {longest:.1f} s at the longest", end=": ")
    print(", ".join(f"{times} {outcome}" for outcome, times in sorted(outcomes.items())))


if __name__ == "__main__":
    main()
