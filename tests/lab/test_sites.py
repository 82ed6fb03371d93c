"""Two sites whose multicast never meets: their servers carry a room over a real NATS and etcd."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.network import Namespace, Network, missing
from tests.lab.talk import Person, conversation, flaws, gather, settled, type_at
from tests.support.processes import Crew, Program, Server

WHY = missing("etcd", "nats-server")
pytestmark = [
    pytest.mark.skipif(bool(WHY), reason=WHY or "the lab is here"),
    pytest.mark.slow,
    pytest.mark.timeout(300),
]
PORT = 44444


class Site:
    """A switch with hosts 10.79.N.1, .2, ...; the first has the server, and a line to the hub."""

    def __init__(
        self, network: Network, hub: Namespace, number: int, hosts: int, loss: int
    ) -> None:
        self.number = number
        self.name = f"site{number}"
        self.hub = f"10.80.{number}.254"
        switch = network.namespace(f"sw{number}")
        switch.ip("link add br0 type bridge mcast_snooping 0", "link set br0 up")
        self.hosts: list[Namespace] = []
        for at in range(1, hosts + 1):
            host = network.namespace(f"s{number}h{at}")
            network.wire(host, "eth0", switch, f"port{at}")
            switch.ip(f"link set port{at} master br0")
            host.ip(f"addr add 10.79.{number}.{at}/24 dev eth0")
            if loss:
                host.lose(loss)
            self.hosts.append(host)
        network.wire(self.hosts[0], "wan", hub, f"line{number}")
        self.hosts[0].ip(f"addr add 10.80.{number}.1/24 dev wan")
        hub.ip(f"addr add {self.hub}/24 dev line{number}")

    def serve(self, crew: Crew, cluster: str, bridge: str, host: int = 0) -> Server:
        """A server on that host of the site; only the first has a line to the hub."""
        words = [
            *(*self.hosts[host].prefix, sys.executable, "-m", "evloop.server"),
            *("--listen", self.at(host), "--memory", "--no-announce", "--interface", "eth0"),
            *("--cluster", cluster, "--site", self.name, "--bridge", bridge),
            *("--stats-from", self.at(host).partition(":")[0]),
        ]
        server = Server(words)
        crew.add(server)
        return server

    def at(self, host: int) -> str:
        return f"10.79.{self.number}.{host + 1}:{PORT}"


class World:
    """The hub with etcd and NATS, and two sites with a server each.

    `delay_ms`: so long is the line to each site, each way. `leaves`: each site has a NATS of its
    own on its first host, a leaf node of the hub's, and a second server, on its second host.
    """

    def __init__(
        self,
        crew: Crew,
        network: Network,
        hosts: int,
        loss: int = 0,
        delay_ms: int = 0,
        leaves: bool = False,
    ) -> None:
        self.crew = crew
        self.leaves = leaves
        self.hub = network.namespace("hub")
        self.sites = [Site(network, self.hub, number, hosts, loss) for number in (1, 2)]
        self.folder = tempfile.mkdtemp(dir="/dev/shm")
        us = "http://127.0.0.1:2379"
        crew.add(
            Program(
                [
                    *(*self.hub.prefix, "etcd", "--name", "one", "--data-dir", self.folder),
                    *("--listen-client-urls", "http://0.0.0.0:2379", "--advertise-client-urls", us),
                    *("--log-level", "error"),
                ]
            )
        )
        self.nats = self.start_nats()
        self.lines = [self.line(site, delay_ms) for site in self.sites if delay_ms]
        crew.until(lambda: all("ready" in line.out for line in self.lines))
        self.servers = [server for site in self.sites for server in self.serve(site)]
        crew.until(lambda: all(one.listens for one in self.servers), seconds=60)
        self.bridged(1)

    def line(self, site: Site, delay_ms: int) -> Program:
        ways = [f"{site.hub}:12379", "127.0.0.1:2379", f"{site.hub}:14222", "127.0.0.1:4222"]
        words = (sys.executable, "-m", "tests.lab.line", str(delay_ms), *ways)
        line = Program([*self.hub.prefix, *words], stdin=subprocess.PIPE)
        self.crew.add(line)
        return line

    def serve(self, site: Site) -> list[Server]:
        more = "1" if self.lines else ""
        cluster, bridge = f"{site.hub}:{more}2379", f"{site.hub}:{more}4222"
        if not self.leaves:
            return [site.serve(self.crew, cluster, bridge)]
        first, second = site.hosts[:2]
        first.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        second.ip(f"route add 10.80.{site.number}.0/24 via 10.79.{site.number}.1")
        self.hub.ip(f"route add 10.79.{site.number}.0/24 via 10.80.{site.number}.1")
        leaf = f'leafnodes {{ remotes = [ {{ url: "nats://{site.hub}:7422" }} ] }}'
        self.run_nats(first, site.name, f'host: "0.0.0.0"\nport: 4222\n{leaf}\n')
        near = f"10.79.{site.number}.1:4222"
        return [site.serve(self.crew, cluster, near, host) for host in (0, 1)]

    def start_nats(self) -> Program:
        leaves = 'leafnodes { host: "0.0.0.0", port: 7422 }\n' if self.leaves else ""
        return self.run_nats(self.hub, "hub", f'host: "0.0.0.0"\nport: 4222\n{leaves}')

    def run_nats(self, host: Namespace, name: str, text: str) -> Program:
        path = Path(self.folder) / f"{name}.conf"
        path.write_text(text)
        nats = Program([*host.prefix, "nats-server", "-c", str(path)])
        self.crew.add(nats)
        return nats

    def bridged(self, times: int) -> None:
        """Both bridges were connected so often."""
        self.crew.until(
            lambda: all(one.err.count("the bridge is connected") >= times for one in self.servers),
            seconds=60,
            why="both bridges are connected",
        )

    def carriers(self, site: int) -> list[Server]:
        """Those servers of a site that carry a room just now."""
        own = self.servers[2 * site : 2 * site + 2]
        return [one for at, one in enumerate(own) if self.carried(site, at) > 0]

    def carried(self, site: int, host: int) -> int:
        """How many rooms the server of that host carries."""
        at = self.sites[site]
        stats = at.hosts[host].run(sys.executable, "-c", STATS, *at.at(host).split(":"))
        return int(json.loads(stats)["result"]["bridge_rooms"])

    def person(self, name: str, site: int, host: int, server: int = 0) -> Person:
        at = self.sites[site]
        return Person(self.crew, at.hosts[host], name, room="lab", server=at.at(server))


STATS = """
import socket, struct, sys
sock = socket.create_connection((sys.argv[1], int(sys.argv[2])))
file = sock.makefile("rb")
question = b'{"jsonrpc":"2.0","id":1,"method":"stats"}'
sock.sendall(struct.pack("!I", len(question)) + question)
print(file.read(struct.unpack("!I", file.read(4))[0]).decode())
"""


@pytest.fixture
def world() -> Iterator[World]:
    with Network() as network, Crew() as crew:
        made = World(crew, network, hosts=3, loss=20)
        try:
            yield made
        finally:
            shutil.rmtree(made.folder, ignore_errors=True)


def test_two_sites_share_a_room_through_loss_and_a_late_joiner_and_nats_that_dies(
    world: World,
) -> None:
    crew = world.crew
    made = crew.client(
        "makeroom", "lab", server=world.sites[0].at(0), prefix=world.sites[0].hosts[1].prefix
    )
    crew.until(lambda: made.done)
    people = [world.person("ann", 0, 1), world.person("bob", 0, 2), world.person("cy", 1, 1)]
    gather(crew, people, 60)
    schedule = conversation(people, messages=45, per_second=6, seed=7)
    type_at(crew, schedule)
    typed = [text for _, _, text in schedule]
    assert settled(crew, people, len(typed), 60), flaws(people, typed)
    assert flaws(people, typed) == []

    late = world.person("dora", 1, 2)
    crew.in_room(late.program)
    everybody = [*people, late]
    assert settled(crew, everybody, len(typed), 30), flaws(everybody, typed)

    # The line between the sites dies: each goes on by itself, and heals when it is back.
    world.nats.process.kill()
    crew.until(lambda: all("the bridge carries nothing" in one.err for one in world.servers))
    for number in range(15, 20):
        for person in people:
            text = f"{person.name} {number}"
            person.say(text)
            typed.append(text)
    here = [*people[:2]]
    crew.until(lambda: all("ann 19" in one.texts() for one in here), 30)
    assert "ann 19" not in late.texts()
    world.start_nats()
    world.bridged(2)
    assert settled(crew, everybody, len(typed), 60), flaws(everybody, typed)
    assert flaws(everybody, typed) == []


def test_a_long_line_between_the_sites_that_stalls() -> None:
    """300 ms there and back between a site and the hub, so 600 ms between two people; then nothing
    passes for 10 s, of etcd's traffic and of NATS', and everybody talks on."""
    with Network() as network, Crew() as crew:
        world = World(crew, network, hosts=3, delay_ms=150)
        try:
            near = world.sites[0]
            made = crew.client("makeroom", "lab", server=near.at(0), prefix=near.hosts[1].prefix)
            crew.until(lambda: made.done)
            assert made.status == 0, made.tell()
            seats = (("ann", 0, 1), ("bob", 0, 2), ("cy", 1, 1), ("dora", 1, 2))
            people = [world.person(*seat) for seat in seats]
            gather(crew, people, 60)
            schedule = conversation(people, messages=40, per_second=6, seed=8)
            type_at(crew, schedule)
            typed = [text for _, _, text in schedule]
            assert settled(crew, people, len(typed), 60), flaws(people, typed)

            for line in world.lines:
                line.type("stall\n")
            crew.until(lambda: all("stall" in line.out for line in world.lines))
            schedule = [
                (2.0 * at, person, f"{person.name} {10 + at}")
                for at in range(5)
                for person in people
            ]
            type_at(crew, schedule)
            crew.until(lambda: "bob 14" in people[0].texts())
            assert "ann 14" not in people[2].texts()
            for line in world.lines:
                line.type("go\n")
            typed += [text for _, _, text in schedule]
            assert settled(crew, people, len(typed), 90), flaws(people, typed)
            assert flaws(people, typed) == []
        finally:
            shutil.rmtree(world.folder, ignore_errors=True)


def test_leaf_nodes_and_a_room_of_ipv6_and_a_carrier_that_dies() -> None:
    """Each site has its own NATS, a leaf of the hub's, and two servers: one of them carries the
    room. When it is killed the other one does, and nothing is missing or doubled."""
    with Network() as network, Crew() as crew:
        world = World(crew, network, hosts=4, leaves=True)
        try:
            near = world.sites[0]
            words = ("makeroom", "lab", "ff15::6:7", "6000")
            made = crew.client(*words, server=near.at(0), prefix=near.hosts[2].prefix)
            crew.until(lambda: made.done)
            assert made.status == 0, made.tell()
            # Each site's people are at the server that is not killed, where that can be chosen.
            people = [world.person("ann", 0, 2), world.person("bob", 0, 3, server=1)]
            people += [world.person("cy", 1, 2), world.person("dora", 1, 3, server=1)]
            gather(crew, people, 90)
            schedule = conversation(people, messages=40, per_second=8, seed=9)
            type_at(crew, schedule)
            typed = [text for _, _, text in schedule]
            assert settled(crew, people, len(typed), 60), flaws(people, typed)
            crew.until(lambda: len(world.carriers(0)) == 1, 30, every=0.5)

            (carrier,) = world.carriers(0)
            other = 1 - world.servers.index(carrier)
            carrier.process.kill()
            crew.finish(carrier)
            crew.until(lambda: world.carried(0, other) == 1, 60, every=0.5)
            schedule = [
                (at / 5, person, f"{person.name} {10 + at}") for at in range(5) for person in people
            ]
            type_at(crew, schedule)
            typed += [text for _, _, text in schedule]
            assert settled(crew, people, len(typed), 60), flaws(people, typed)
            assert flaws(people, typed) == []
        finally:
            shutil.rmtree(world.folder, ignore_errors=True)


def test_two_sites_of_five_whose_line_is_cut_for_a_minute() -> None:
    """80 ms there and back between site and hub, and 20 % loss at every host; the last one joins
    late. Then the cable of one site is pulled for a minute, and everybody talks on."""
    with Network() as network, Crew() as crew:
        world = World(crew, network, hosts=6, loss=20, delay_ms=40)
        try:
            near = world.sites[0]
            made = crew.client("makeroom", "lab", server=near.at(0), prefix=near.hosts[1].prefix)
            crew.until(lambda: made.done)
            assert made.status == 0, made.tell()
            seats = [(f"p{site}{host}", site, host) for host in range(1, 6) for site in (0, 1)]
            people = [world.person(*seat) for seat in seats[:-1]]
            gather(crew, people, 90)
            schedule = conversation(people, messages=90, per_second=6, seed=10)
            type_at(crew, schedule)
            typed = [text for _, _, text in schedule]
            assert settled(crew, people, len(typed), 60), flaws(people, typed)
            late = world.person(*seats[-1])
            crew.in_room(late.program)
            everybody = [*people, late]
            assert settled(crew, everybody, len(typed), 60), flaws(everybody, typed)

            world.hub.ip("link set line1 down")
            schedule = [
                (12.0 * at, person, f"{person.name} {10 + at}")
                for at in range(5)
                for person in people
            ]
            type_at(crew, [*schedule, (60.0, late, "p15 0")])
            typed += [*(text for _, _, text in schedule), "p15 0"]
            assert "p01 14" not in late.texts()
            world.hub.ip("link set line1 up")
            assert settled(crew, everybody, len(typed), 90), flaws(everybody, typed)
            assert flaws(everybody, typed) == []
        finally:
            shutil.rmtree(world.folder, ignore_errors=True)
