"""Networks with one fault each, and what `doctor` has to say there. Needs root, ip and nft.

    python3 -m tests.lab.clinic [--runs N] [--noise PER_SECOND] [SCENE ...]

plays every scene so often and prints how often the verdict was right, "cannot be told", or wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

from tests.lab.network import Flat, Namespace, Network, Routed
from tests.support.sources import ROOT

ROOM, GROUP, PORT = "lab", "239.255.7.1", 5_751
DIRECTORY_PORT = 44_444
READY_S = 20.0
_NOISE = """
import socket, sys, time
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
by = socket.inet_aton(sys.argv[1])
sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, by)
print("ready", flush=True)
for number in range(int(sys.argv[3])):
    sock.sendto(bytes(200), ("239.255.200.1", 6_000))
    time.sleep(1 / float(sys.argv[2]))
"""


class Clinic:
    """A directory on one host, `doctor` on another, perhaps a member on a third, and noise."""

    def __init__(self, noise: float = 0.0) -> None:
        self._stack = ExitStack()
        self.network = self._stack.enter_context(Network())
        self.flat: Flat | None = None
        self.noise = noise
        self.directory: Namespace
        self.me: Namespace
        self.ann: Namespace
        self.address = "10.77.0.1"  # of the directory
        self.options: list[str] = []  # of the client
        self.words = ["doctor", ROOM]
        self._programs: list[subprocess.Popen[bytes]] = []
        self._told = b""  # by the last of them

    def __enter__(self) -> Clinic:
        return self

    def __exit__(self, *_: object) -> None:
        self.end_programs()
        self._stack.close()

    # -- the network -----------------------------------------------------------------------------

    def build(self) -> None:
        """Four hosts on one switch: the directory, me, Ann, and one that only makes noise."""
        self.flat = Flat(self.network, 4)
        self.directory, self.me, self.ann, other = self.flat.hosts
        if self.noise:
            count = str(int(self.noise * 600))
            words = [sys.executable, "-c", _NOISE, self.flat.address(4), str(self.noise), count]
            self.start(other, *words, until=b"ready")

    def build_snooping(self) -> None:
        """The same, and the switch snoops without ever asking."""
        self.build()
        snoop(self.switch)

    def build_routed(self) -> None:
        """The directory behind a router."""
        routed = Routed(self.network)
        self.directory, self.me = routed.far, routed.near
        self.address = "10.78.2.1"

    @property
    def switch(self) -> Namespace:
        assert self.flat is not None
        return self.flat.switch

    # -- programs --------------------------------------------------------------------------------

    def start(self, host: Namespace, *words: str, until: bytes, env: str = "") -> None:
        """Start a program on `host`, and wait until it has printed `until`."""
        program = subprocess.Popen(
            [*host.prefix, *words],
            cwd=ROOT,
            env={**self.environ(), "EVLOOP_INTERFACE": env},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._programs.append(program)
        self._told = b""
        self.until(until)

    def until(self, what: bytes, seconds: float = READY_S) -> None:
        """Wait until the program that was started last has printed it."""
        out = self._programs[-1].stdout
        assert out is not None
        deadline = time.monotonic() + seconds
        while what not in self._told:
            ready = select.select([out], [], [], max(0, deadline - time.monotonic()))[0]
            piece = os.read(out.fileno(), 65_536) if ready else b""
            assert piece, f"no {what!r}: {self._told!r}"
            self._told += piece

    def type(self, text: str) -> None:
        """Into the program that was started last."""
        stdin = self._programs[-1].stdin
        assert stdin is not None
        os.write(stdin.fileno(), text.encode())

    def last_words(self) -> str:
        """All that the program that was started last has printed by now."""
        out = self._programs[-1].stdout
        assert out is not None
        while select.select([out], [], [], 0)[0]:
            piece = os.read(out.fileno(), 65_536)
            if not piece:
                break
            self._told += piece
        return self._told.decode(errors="replace")

    @staticmethod
    def environ() -> dict[str, str]:
        """What programs of the clinic see: the interface is theirs to choose."""
        return {**os.environ, "EVLOOP_INTERFACE": "", "USER": "me"}

    def serve(self, *options: str) -> None:
        words = [sys.executable, "-m", "evloop.server", "--memory", *options]
        self.start(self.directory, *words, until=b"listening on")
        self.client(self.directory, "--server", "127.0.0.1", "makeroom", ROOM, GROUP, str(PORT))

    def seat(self, host: Namespace, name: str, *options: str, env: str = "eth0") -> None:
        """Somebody in the room, by multicast: by way of the directory no fault of it matters."""
        words = [sys.executable, "-m", "evloop.client", "--server", self.address, "--name", name]
        words += ["--relay", "never"]
        self.start(host, *words, *options, "chat", ROOM, until=b"-- in ", env=env)

    def client(self, host: Namespace, *words: str) -> tuple[int, str, str]:
        """(status, output, errors) of a client, run to its end."""
        done = subprocess.run(
            [*host.prefix, sys.executable, "-m", "evloop.client", *words],
            cwd=ROOT,
            env=self.environ(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    def end_programs(self) -> None:
        for program in self._programs:
            program.kill()
            program.wait()
            for pipe in (program.stdin, program.stdout):
                if pipe is not None:
                    pipe.close()
        self._programs.clear()

    def end_last(self) -> None:
        """End the programs that were started last, but the noise."""
        kept = self._programs[: 1 if self.noise and self.flat is not None else 0]
        self._programs = self._programs[len(kept) :]
        self.end_programs()
        self._programs = kept

    def doctor(self) -> Finding:
        """What it says, run by the one who suffers."""
        begun = time.monotonic()
        words = ["--server", self.address, "--json", *self.options, *self.words]
        status, out, err = self.client(self.me, *words)
        seconds = time.monotonic() - begun
        objects = [json.loads(line) for line in out.splitlines()]
        return Finding(status, [one for one in objects if one["type"] == "finding"], seconds, err)


class Finding:
    """One run of `doctor`."""

    __slots__ = ("errors", "findings", "seconds", "status")

    def __init__(
        self, status: int, findings: list[dict[str, Any]], seconds: float, errors: str
    ) -> None:
        self.status = status
        self.findings = findings
        self.seconds = seconds
        self.errors = errors

    def ids(self, *levels: str) -> set[str]:
        """Of these levels; notes of querier and clock are about no fault."""
        return {
            one["id"]
            for one in self.findings
            if one["level"] in levels and one["id"] not in ("querier", "clock")
        }

    def of(self, name: str) -> dict[str, Any]:
        return next(one for one in self.findings if one["id"] == name)


# -- the scenes: each prepares a network, and is named by what is to be found ----------------------

Scene = Callable[[Clinic], None]
SCENES: dict[str, tuple[Scene, set[str]]] = {}  # name -> (prepare, ids of what is not well)


def scene(*found: str) -> Callable[[Scene], Scene]:
    def keep(prepare: Scene) -> Scene:
        SCENES[prepare.__name__] = prepare, set(found)
        return prepare

    return keep


def rule(host: Namespace, hook: str, what: str, family: str = "inet") -> None:
    """A firewall of one rule."""
    host.run("nft", "-f", "-", text=f"""
        table {family} wall {{ chain one {{ type filter hook {hook}; {what}; }}; }}
    """)  # fmt: skip


TO_GROUPS = "ip daddr 239.0.0.0/8 udp dport 1024-65535 drop"
HOOKS = {
    "in": ("input priority 0", "inet"),
    "early": ("prerouting priority raw", "inet"),
    "ingress": ("ingress device eth0 priority 0", "netdev"),
}


@scene()
def well(clinic: Clinic) -> None:
    clinic.build()
    clinic.serve()


@scene("firewall_in")
def firewall_in(clinic: Clinic) -> None:
    well(clinic)
    rule(clinic.me, "input priority 0", TO_GROUPS)


@scene("firewall_early")
def firewall_early(clinic: Clinic) -> None:
    well(clinic)
    rule(clinic.me, "prerouting priority raw", TO_GROUPS)


@scene("firewall_ingress")
def firewall_ingress(clinic: Clinic) -> None:
    well(clinic)
    rule(clinic.me, HOOKS["ingress"][0], TO_GROUPS, "netdev")


@scene("firewall_out")
def firewall_out(clinic: Clinic) -> None:
    well(clinic)
    rule(clinic.me, "output priority 0", TO_GROUPS)


@scene("their_firewall_out")
def their_firewall_out(clinic: Clinic) -> None:
    well(clinic)
    rule(clinic.directory, "output priority 0", TO_GROUPS)


@scene("they_firewall_in")
def they_firewall_in(clinic: Clinic) -> None:
    well(clinic)
    rule(clinic.directory, "input priority 0", TO_GROUPS)


@scene("they_firewall_early")
def they_firewall_early(clinic: Clinic) -> None:
    well(clinic)
    rule(clinic.directory, "prerouting priority raw", TO_GROUPS)


@scene("they_firewall_ingress")
def they_firewall_ingress(clinic: Clinic) -> None:
    well(clinic)
    rule(clinic.directory, HOOKS["ingress"][0], TO_GROUPS, "netdev")


@scene("source_dropped")
def source_dropped(clinic: Clinic) -> None:
    well(clinic)
    rule(clinic.me, "prerouting priority raw", "ip saddr 10.77.0.1 udp dport 1024-65535 drop")


@scene("network_drops")
def network_drops(clinic: Clinic) -> None:
    """A switch that brings groups to nobody."""
    well(clinic)
    assert clinic.flat is not None
    clinic.flat.prune()


@scene("switch_forgets")
def switch_forgets(clinic: Clinic) -> None:
    """I have been in the room for longer than the switch remembers; a new group it does learn."""
    clinic.build_snooping()
    for version in (2, 3):  # else the second report of a join comes up to 10 s after the first
        name = f"net.ipv4.conf.all.igmpv{version}_unsolicited_report_interval"
        for where in ("all", "eth0"):
            clinic.me.run("sysctl", "-qw", f"{name.replace('all', where)}=100")
    clinic.serve()
    clinic.seat(clinic.me, "Me", env="eth0")
    forgotten(clinic.switch)


def snoop(switch: Namespace) -> None:
    """A switch that brings a group to who has joined it lately, and asks nobody again."""
    switch.ip(
        "link set br0 type bridge mcast_query_response_interval 100 mcast_query_interval 100000"
        " mcast_startup_query_count 1 mcast_startup_query_interval 100000"
        " mcast_membership_interval 400 mcast_last_member_interval 100",
        "link set br0 type bridge mcast_snooping 1 mcast_querier 1",
    )
    for port in range(1, 5):
        switch.ip(f"link set port{port} type bridge_slave mcast_flood off")


def forgotten(switch: Namespace) -> None:
    """Wait until the switch has forgotten the room's group (its membership interval is 4 s)."""
    deadline = time.monotonic() + READY_S
    while GROUP in switch.run("bridge", "mdb", "show"):
        assert time.monotonic() < deadline, "the switch never forgets"
        time.sleep(0.1)


@scene("mtu_in", "mtu_out")
def mtu(clinic: Clinic) -> None:
    well(clinic)
    clinic.switch.ip("link set port2 mtu 1000")


@scene("other_subnet")
def other_subnet(clinic: Clinic) -> None:
    clinic.build_routed()
    clinic.serve()


@scene("twin_address")
def twin_address(clinic: Clinic) -> None:
    """Another machine with my address, who talks; the directory's machine answers me."""
    clinic.build()
    assert clinic.flat is not None
    twin = clinic.flat.hosts[3]
    mine = json.loads(clinic.me.run("ip", "-j", "link", "show", "eth0"))[0]["address"]
    clinic.directory.run("ip", "neigh", "replace", "10.77.0.2", "lladdr", mine, "dev", "eth0")
    clinic.serve()
    twin.ip("addr flush dev eth0", "addr add 10.77.0.2/24 dev eth0")
    talk = _NOISE.replace("239.255.200.1", GROUP).replace("6_000", str(PORT))
    clinic.start(twin, sys.executable, "-c", talk, "10.77.0.2", "20", "12000", until=b"ready")


@scene("rp_filter")
def rp_filter(clinic: Clinic) -> None:
    """My route to the directory is another interface than the one by which its datagrams come."""
    well(clinic)
    me = clinic.me
    clinic.network.wire(me, "eth1", clinic.switch, "port9")
    clinic.switch.ip("link set port9 master br0")
    me.ip("addr add 10.77.9.2/24 dev eth1", "route add 10.77.0.1/32 dev eth1 src 10.77.0.2")
    for name in ("all", "eth0", "eth1"):
        me.run("sysctl", "-qw", f"net.ipv4.conf.{name}.rp_filter=1")
    clinic.options = ["--interface", "eth0"]


@scene("ttl_0")
def ttl_0(clinic: Clinic) -> None:
    well(clinic)
    clinic.options = ["--ttl", "0"]


@scene("wrong_interface")
def wrong_interface(clinic: Clinic) -> None:
    well(clinic)
    away = clinic.network.namespace("away")
    clinic.network.wire(clinic.me, "eth1", away, "eth0")
    clinic.me.ip("addr add 10.99.0.2/24 dev eth1")
    clinic.options = ["--interface", "eth1"]


def lossy_port(clinic: Clinic, port: str, percent: int) -> None:
    text = f'oifname "{port}" ip daddr 239.0.0.0/8 numgen random mod 100 < {percent} drop'
    rule(clinic.switch, "forward priority 0", text, "bridge")


@scene("loss_in")
def loss_in(clinic: Clinic) -> None:
    well(clinic)
    lossy_port(clinic, "port2", 25)


@scene("they_loss_in")
def they_loss_in(clinic: Clinic) -> None:
    well(clinic)
    lossy_port(clinic, "port1", 25)


@scene("loss_here")
def loss_here(clinic: Clinic) -> None:
    well(clinic)
    rule(clinic.me, "input priority 0", "ip daddr 239.0.0.0/8 numgen random mod 100 < 30 drop")


@scene("directory", "isolated", "receiving", "members")
def isolated(clinic: Clinic) -> None:
    """Wi-Fi that keeps its guests apart: not even ARP gets through."""
    well(clinic)
    for port in (1, 2):
        clinic.switch.ip(f"link set port{port} type bridge_slave isolated on")


@scene("member_unheard")
def member_unheard(clinic: Clinic) -> None:
    """Ann and I are kept apart, and both reach the directory."""
    well(clinic)
    clinic.seat(clinic.ann, "Ann")
    for port in (2, 3):
        clinic.switch.ip(f"link set port{port} type bridge_slave isolated on")


@scene("member_deaf")
def member_deaf(clinic: Clinic) -> None:
    well(clinic)
    clinic.seat(clinic.ann, "Ann")
    rule(clinic.ann, "input priority 0", TO_GROUPS)


# -- figures ---------------------------------------------------------------------------------------


def judge(name: str, found: Finding) -> str:
    """right, untold, or wrong."""
    wanted = SCENES[name][1]
    told = found.ids("bad", "note", "unknown")
    if told == wanted:
        return "right"
    wrong = found.ids("bad", "note") - wanted
    return "wrong" if wrong or (not found.ids("unknown") and told != wanted) else "untold"


def play(name: str, runs: int, noise: float) -> dict[str, Any]:
    """Play a scene so often, each time with a network of its own: a directory keeps its limits."""
    verdicts: dict[str, int] = {"right": 0, "untold": 0, "wrong": 0}
    worst = 0.0
    wrong: list[Any] = []
    for _ in range(runs):
        with Clinic(noise) as clinic:
            SCENES[name][0](clinic)
            found = clinic.doctor()
        verdict = judge(name, found)
        verdicts[verdict] += 1
        worst = max(worst, found.seconds)
        if verdict != "right":
            wrong.append([(one["id"], one["level"], one["evidence"]) for one in found.findings])
    return {**verdicts, "worst_s": round(worst, 2), "wrong_runs": wrong[:3]}


def record(names: Sequence[str], noise: float, path: str) -> None:
    """What tests/app/test_diagnosis.py judges: the evidence of one right run of each scene."""
    found: dict[str, Any] = {}
    for name in names:
        with Clinic(noise) as clinic:
            SCENES[name][0](clinic)
            run = clinic.doctor()
        assert judge(name, run) == "right", (name, run.findings, run.errors)
        found[name] = {
            one["id"]: {"level": one["level"], "what": one["what"], "evidence": one["evidence"]}
            for one in run.findings
        }
    with open(path, "w") as file:
        json.dump(found, file, indent=1, sort_keys=True)
        file.write("\n")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--noise", type=float, default=100.0)
    parser.add_argument("--record", metavar="FILE", help="write what one run of each has found")
    parser.add_argument("scenes", nargs="*", default=list(SCENES))
    options = parser.parse_args(arguments)
    if options.record:
        record(options.scenes or list(SCENES), options.noise, options.record)
        return
    total = {"right": 0, "untold": 0, "wrong": 0}
    for name in options.scenes or SCENES:
        row = play(name, options.runs, options.noise)
        print(f"{name:22} {row['right']:4} right {row['untold']:4} untold {row['wrong']:4} wrong"
              f"  {row['worst_s']} s", flush=True)  # fmt: skip
        for run in row["wrong_runs"]:
            print("   ", run, flush=True)
        for verdict in total:
            total[verdict] += row[verdict]
    print("in all", total)


if __name__ == "__main__":
    main()
