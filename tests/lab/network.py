"""Namespaces joined by veth pairs and a bridge; loss by nftables. Needs root, ip and nft.

Every link is made inside namespaces of this run: not a single interface of it is ever in the
machine's own. A namespace is named after the process that made it, so that runs at the same time do
not meet, and what a killed run left behind is swept by the next one.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count

PREFIX = "evlab"
_numbers = count()


class LabError(Exception):
    """A tool of the lab failed."""


def missing(*tools: str) -> str:
    """Why there can be no lab here; "" when there can. `tools` are wanted beside ip and nft."""
    if os.geteuid() != 0:
        return "the lab needs root (network namespaces)"
    absent = [tool for tool in ("ip", "nft", *tools) if shutil.which(tool) is None]
    if absent:
        return f"the lab needs {', '.join(absent)}"
    probe = f"{PREFIX}-{os.getpid()}-probe"
    try:
        _run(["ip", "netns", "add", probe])
        _run(["ip", "netns", "del", probe])
    except LabError as error:
        return f"no network namespaces here: {error}"
    return ""


def _run(words: Sequence[str], text: str = "") -> str:
    done = subprocess.run(words, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LabError(f"{' '.join(words)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


class Namespace:
    """One host, switch or router."""

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def prefix(self) -> tuple[str, ...]:
        """Words before a command that run it in here; the process keeps its id."""
        return ("ip", "netns", "exec", self.name)

    def run(self, *words: str, text: str = "") -> str:
        """Run a command in here to its end; return what it printed."""
        return _run([*self.prefix, *words], text)

    def ip(self, *lines: str) -> None:
        """Lines of `ip -batch` in here."""
        _run(["ip", "-n", self.name, "-batch", "-"], "\n".join(lines) + "\n")

    def lose(self, percent: int) -> None:
        """Drop so many percent of the UDP datagrams that come in, independently; 0: none."""
        rules = "table inet lab\ndelete table inet lab\n"
        if percent:
            which = f"numgen random mod 100 < {percent} " if percent < 100 else ""
            rules += (
                "table inet lab { chain input { type filter hook input priority 0;"
                f' iifname != "lo" meta l4proto udp {which}counter drop; }}; }}\n'
            )
        self.run("nft", "-f", "-", text=rules)

    def refuse(self, refused: bool) -> None:
        """A firewall that lets no datagram out, or one no more."""
        rules = "table inet wall\ndelete table inet wall\n"
        if refused:
            rules += (
                "table inet wall { chain output { type filter hook output priority 0;"
                " meta l4proto udp drop; }; }\n"
            )
        self.run("nft", "-f", "-", text=rules)

    def lost(self) -> int:
        """Datagrams dropped so far by `lose`."""
        found = re.search(r"counter packets (\d+)", self.run("nft", "list", "table", "inet", "lab"))
        return int(found[1]) if found else 0


class Network:
    """Namespaces of one run. Use as a context manager: leaving it removes them all."""

    def __init__(self) -> None:
        self._tag = f"{PREFIX}-{os.getpid()}-{next(_numbers)}"
        self._made: list[Namespace] = []

    def __enter__(self) -> Network:
        _sweep()
        return self

    def __exit__(self, *_: object) -> None:
        for one in self._made:
            subprocess.run(["ip", "netns", "del", one.name], check=False, capture_output=True)

    def namespace(self, role: str) -> Namespace:
        """A new one, with its loopback up. IPv6 addresses are usable at once (no DAD)."""
        one = Namespace(f"{self._tag}-{role}")
        _run(["ip", "netns", "add", one.name])
        self._made.append(one)
        for where in ("all", "default"):
            one.run("sysctl", "-qw", f"net.ipv6.conf.{where}.accept_dad=0")
        one.ip("link set lo up")
        return one

    def wire(self, one: Namespace, port: str, other: Namespace, other_port: str) -> None:
        """A veth pair, its ends up."""
        line = f"link add {port} netns {one.name} type veth peer name {other_port}"
        _run(["ip", "-batch", "-"], f"{line} netns {other.name}\n")
        one.ip(f"link set {port} up")
        other.ip(f"link set {other_port} up")


def namespaces() -> set[str]:
    """The names of all that there are."""
    return {line.split()[0] for line in _run(["ip", "netns", "list"]).splitlines()}


def _sweep() -> None:
    """Remove what runs that were killed have left."""
    for name in namespaces():
        found = re.match(rf"{PREFIX}-(\d+)-", name)
        if found and not os.path.exists(f"/proc/{found[1]}"):
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


class Flat:
    """Hosts 10.77.0.1, .2, ... on one switch, each with one interface, eth0."""

    def __init__(self, network: Network, hosts: int, loss: int = 0) -> None:
        self.network = network
        self.switch = network.namespace("switch")
        self.switch.ip("link add br0 type bridge mcast_snooping 0", "link set br0 up")
        self.hosts: list[Namespace] = []
        for _ in range(hosts):
            self.add_host(loss)

    def add_host(self, loss: int = 0) -> Namespace:
        number = len(self.hosts) + 1
        host = self.network.namespace(f"h{number}")
        self.network.wire(host, "eth0", self.switch, f"port{number}")
        self.switch.ip(f"link set port{number} master br0")
        host.ip(
            f"addr add {self.address(number)}/24 dev eth0",
            "route add default via 10.77.0.254 dev eth0",
        )
        if loss:
            host.lose(loss)
        self.hosts.append(host)
        return host

    @staticmethod
    def address(number: int) -> str:
        return f"10.77.0.{number}"

    def prune(self) -> None:
        """A switch that forwards multicast to nobody: snooping, no flooding, and no querier."""
        self.switch.ip("link set br0 type bridge mcast_snooping 1 mcast_querier 0")
        ports = json.loads(_run(["ip", "-n", self.switch.name, "-j", "link", "show"]))
        for port in ports:
            if port["ifname"].startswith("port"):
                name = port["ifname"]
                self.switch.ip(f"link set {name} type bridge_slave mcast_flood off")


@contextmanager
def flat(hosts: int, loss: int = 0) -> Iterator[Flat]:
    """A flat lab, removed at the end."""
    with Network() as network:
        yield Flat(network, hosts, loss)


class Routed:
    """Two hosts, .near and .far, in two subnets, and a router between them that routes `group`."""

    def __init__(self, network: Network) -> None:
        self.router = network.namespace("router")
        self.near, self.far = network.namespace("near"), network.namespace("far")
        for at, host in enumerate((self.near, self.far), 1):
            network.wire(host, "eth0", self.router, f"r{at}")
            host.ip(
                f"addr add 10.78.{at}.1/24 dev eth0",
                f"route add default via 10.78.{at}.254 dev eth0",
            )
            self.router.ip(f"addr add 10.78.{at}.254/24 dev r{at}")
        self.router.run("sysctl", "-qw", "net.ipv4.ip_forward=1")

    def daemon(self, group: str, directory: str) -> list[str]:
        """The command of smcroute's daemon, its files in `directory`; it says "Ready"."""
        lines = [f"phyint r{at} enable ttl-threshold 1" for at in (1, 2)]
        lines += [f"mgroup from r{at} group {group}" for at in (1, 2)]
        lines += [f"mroute from r{at} group {group} to r{3 - at}" for at in (1, 2)]
        with open(f"{directory}/smcroute.conf", "w") as file:
            file.write("\n".join(lines) + "\n")
        files = [f"{directory}/smcroute.{kind}" for kind in ("conf", "sock", "pid")]
        options = ["-n", "-N", "-l", "debug", "-f", files[0], "-u", files[1], "-P", files[2]]
        return [*self.router.prefix, "smcrouted", *options]
