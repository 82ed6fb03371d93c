"""A room whose members are not alike: some on a lossy group, some reached by a way of their own.

The simplest model of roads: a member with a `way` (seconds) is joined to the group by a point that
hears and says everything for it without loss, as a relay does, and the way there and back takes so
long. Everybody else has its own loss, and the delay of the network. Latencies are kept by who spoke
and who heard: "g" is a member of the group, "r" one with a way.
"""

from __future__ import annotations

from math import ceil
from random import Random
from typing import TYPE_CHECKING, NamedTuple

from evloop.room.events import Said
from tests.simulation.world import DATA, NACK, REPAIR, SESSION, UNICAST, Member, World

if TYPE_CHECKING:
    from evloop.room.events import Event

RATE = 5.0  # messages a second, all members together


class Legs(World):
    """A world in which `ways` has seconds by member; 0: a member of the group."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.ways: list[float] = []
        self.latencies: dict[str, list[float]] = {}
        self._talk: dict[str, tuple[float, int]] = {}  # text: when it was said, and by whom

    def add(self, name: str, *, way: float = 0.0, loss: float = 0.0) -> Member:
        """A member joins, with its way or its loss."""
        self.ways.append(way)
        return self.join(name, loss=loss)

    def talk(self, member: Member, text: str) -> None:
        """`member` says `text`, and who shows it is timed."""
        self._talk[text] = self.now, member.index
        assert self.say(member, text)

    def road(self, one: int, other: int) -> str:
        """ "gr": `one` is a member of the group, and `other` has a way."""
        return "".join("r" if self.ways[index] else "g" for index in (one, other))

    def multicast(self, data: bytes, source: int, side: int = 0) -> None:
        random = self.rng.random
        low, high = self.delay
        arrivals = []
        for index, loss in self.ears(side):
            if index != source and random() >= loss:
                delay = low + (high - low) * random()
                way = self.ways[index] + (self.ways[source] if source >= 0 else 0.0)
                arrivals.append((self.now + delay + way, index))
        arrivals.sort()
        self._fly(arrivals, 0, data, source)

    def _unicast(self, data: bytes, member: Member, receiver: Member) -> None:
        if self.rng.random() >= receiver.loss and not receiver.gone:
            way = self.ways[receiver.index] + self.ways[member.index]
            when = self.now + self.delay[1] + way
            self.at(when, lambda _: self.hand(receiver, data, member.index))

    def _shown(self, member: Member, events: list[Event]) -> None:
        super()._shown(member, events)
        for event in events:
            talk = self._talk.get(event.text) if isinstance(event, Said) else None
            if talk is not None and talk[1] != member.index:
                road = self.road(talk[1], member.index)
                self.latencies.setdefault(road, []).append(self.now - talk[0])


class Legged(NamedTuple):
    """What was seen; `p99` in seconds by road, the rest for each message."""

    p99: dict[str, float]
    undelivered: int
    data: float
    repair: float
    nack: float
    session: float
    size: float


def measure(
    members: list[tuple[float, float]], seed: int, messages: int = 250, warmup: int = 100
) -> Legged:
    """A talk among `members`, each (way in seconds, loss)."""
    world = Legs(seed)
    script = Random(f"script {seed}")
    for number, (way, loss) in enumerate(members):
        world.add(f"m{number}", way=way, loss=loss)
        world.run(world.now + 2.0 / len(members))
    for number in range(warmup):
        world.run(world.now + script.expovariate(RATE))
        world.say(script.choice(world.members), f"warming {number}")
    before, size = list(world.sent), world.sent_bytes
    for number in range(messages):
        world.run(world.now + script.expovariate(RATE))
        world.talk(script.choice(world.members), f"message {number}")
    world.run(world.now + 1 / RATE)
    sent = [after - start for after, start in zip(world.sent, before)]
    size = world.sent_bytes - size
    until = world.now + 60
    while not world.oracle.complete() and world.now < until:
        world.run(world.now + 0.1)
    return Legged(
        {road: sorted(all_)[ceil(0.99 * len(all_)) - 1] for road, all_ in world.latencies.items()},
        world.oracle.undelivered(),
        sent[DATA] / messages,
        (sent[REPAIR] + sent[UNICAST]) / messages,
        sent[NACK] / messages,
        sent[SESSION] / messages,
        size / messages,
    )
