"""Two sites whose multicast never meets: their servers carry a room over a real NATS and etcd."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator

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
        self.place = f"10.79.{number}.1:{PORT}"

    def serve(self, crew: Crew) -> Server:
        words = [
            *(*self.hosts[0].prefix, sys.executable, "-m", "evloop.server"),
            *("--listen", self.place, "--memory", "--no-announce", "--interface", "eth0"),
            *("--cluster", f"{self.hub}:2379", "--site", self.name, "--bridge", f"{self.hub}:4222"),
        ]
        server = Server(words)
        crew.add(server)
        return server


class World:
    """The hub with etcd and NATS, and two sites with a server each."""

    def __init__(self, crew: Crew, network: Network, hosts: int, loss: int) -> None:
        self.crew = crew
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
        self.servers = [site.serve(crew) for site in self.sites]
        crew.until(lambda: all(one.listens for one in self.servers), seconds=60)
        self.bridged(1)

    def start_nats(self) -> Program:
        nats = Program([*self.hub.prefix, "nats-server", "-a", "0.0.0.0", "-p", "4222"])
        self.crew.add(nats)
        return nats

    def bridged(self, times: int) -> None:
        """Both bridges were connected so often."""
        self.crew.until(
            lambda: all(one.err.count("the bridge is connected") >= times for one in self.servers),
            seconds=60,
            why="both bridges are connected",
        )

    def person(self, name: str, site: int, host: int) -> Person:
        at = self.sites[site]
        return Person(self.crew, at.hosts[host], name, room="lab", server=at.place)


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
        "makeroom", "lab", server=world.sites[0].place, prefix=world.sites[0].hosts[1].prefix
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
