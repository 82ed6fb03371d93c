"""One seed, one bad day in a room with roads: all that `swarm` draws, and trouble of the relay.

Each member has a place (see `roads`), a line to a directory, and its client chooses its road by
itself. Directories are one or two; two relay the same group, and members hang on either. Beside the
faults of `swarm`, connections stall and are reset, directories are killed and come back, lines are
slow or lose, the legs lose, and members are cut off from the group for a while. Then all that ends,
but the places stay, and the same is asked as of any day: within 10 s everybody has everything.

It takes a client some 20 s and more to find out that its multicast is gone, so who is cut off is
back when the day ends. Directories without multicast are alone, and have no loners.

A stranger who multicasts under the id of somebody mute makes the directory believe that it hears
that member, which then steps off: no key is checked on the way. Who can do that can jam the room as
well. So mute members, and strangers who use the ids of members, do not share a day.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.simulation.roads import (
    DEAF,
    GUEST,
    HUB,
    ISOLATED,
    LONER,
    MUTE,
    SOUND,
    RoadWorld,
    Server,
)
from tests.simulation.swarm import Day, Outcome, live_through
from tests.simulation.wires import Line
from tests.simulation.world import Member, World

ROAD_FAULTS = ("stalls", "resets", "deaths", "slow lines", "lossy lines", "lossy legs", "cut off")
PLACES = (SOUND, DEAF, MUTE, GUEST, ISOLATED, HUB, LONER)
# What kinds of rooms there are: nearly all hang on the relay, all are sound, and any mixture.
MIXTURES = (
    (1, 1, 1, 1, 4, 4, 0),
    (6, 0, 0, 0, 0, 0, 2),
    (3, 1, 1, 1, 1, 1, 1),
    (4, 0, 0, 0, 2, 2, 2),
)
NEARLY_OVER_S = 1.5  # before the end of the day directories and lines are left alone


class RoadDay(Day):
    """The script of one seed."""

    world: RoadWorld

    def __init__(self, seed: int, tell: Callable[[str], None] | None, sealed: bool = False) -> None:
        super().__init__(seed, tell, sealed)
        rng = self.rng
        self.trouble = {fault for fault in ROAD_FAULTS if rng.random() < 0.4}
        self.multicast = rng.random() < 0.9
        self.directories = 2 if self.multicast and rng.random() < 0.3 else 1
        self.mixture = list(rng.choice(MIXTURES))
        if self.faults & {"forger", "replay"}:
            self.mixture[PLACES.index(MUTE)] = 0
        if not self.multicast:
            self.mixture[PLACES.index(LONER)] = 0

    def make_world(self, seed: int, tell: Callable[[str], None] | None, key: bytes) -> World:
        return RoadWorld(seed, tell=tell, key=key)

    def prepare(self) -> None:
        rng, world = self.rng, self.world
        for _ in range(self.directories):
            server = world.open_server(multicast=self.multicast)
            if "lossy legs" in self.trouble:
                server.loss = rng.uniform(0.01, 0.4)
        super().prepare()
        if world.tell:
            world.tell(f"{self.directories} directories and {' '.join(sorted(self.trouble))}")
        self._plan_trouble("stalls", 1, 10, self._stall)
        self._plan_trouble("resets", 1, 6, self._reset)
        self._plan_trouble("deaths", 1, 2, self._kill)
        self._plan_trouble("cut off", 1, 3, self._cut_off)

    def _plan_trouble(self, fault: str, least: int, most: int, act: Callable[..., None]) -> None:
        if fault in self.trouble:
            for _ in range(self.rng.randint(least, most)):
                self.world.at(self.rng.uniform(0.5, self.length - NEARLY_OVER_S), act)

    def move_in(self, name: str, offset: float, loss: float) -> Member:
        rng = self.rng
        (place,) = rng.choices(PLACES, self.mixture)
        delay = rng.choice((0.001, 0.03, 0.1))
        rate = 1_000_000.0
        if "slow lines" in self.trouble and rng.random() < 0.4:
            rate = rng.uniform(3_000, 20_000)
        lost = rng.uniform(0.01, 0.2) if "lossy lines" in self.trouble else 0.0
        line = Line(delay, rate, lost)
        number = rng.randrange(self.directories)
        return self.world.move_in(name, place, line, number, offset=offset, loss=loss)

    # -- trouble ---------------------------------------------------------------------------------

    def _carrier(self) -> Any:
        return self.world.carriers[self.any().index]

    def _stall(self, _: object) -> None:
        if self.live():
            connection = self._carrier().connection
            if connection is not None:
                left = self.length - self.world.now
                pipe = self.rng.choice((connection.up, connection.down))
                pipe.stall(min(self.rng.expovariate(0.5), left))

    def _reset(self, _: object) -> None:
        if self.live():
            self._carrier().cut()

    def _kill(self, _: object) -> None:
        server = self.rng.choice(self.world.servers)
        if self.world.tell:
            self.world.tell(f"directory {server.number} is killed")
        server.die()
        again = min(self.world.now + self.rng.uniform(0.1, 5.0), self.length)
        self.world.at(again, self._start, server)

    def _start(self, server: Server) -> None:
        server.start()

    def _cut_off(self, _: object) -> None:
        world = self.world
        sound = [one for one in self.live() if world.places[one.index] == SOUND]
        if sound:
            member = self.rng.choice(sound)
            world.places[member.index] = self.rng.choice((DEAF, MUTE, GUEST, ISOLATED))
            back = min(world.now + self.rng.uniform(0.5, 15.0), self.length)
            world.at(back, self._back, member)

    def _back(self, member: Member) -> None:
        self.world.places[member.index] = SOUND

    def heal(self) -> None:
        super().heal()
        for server in self.world.servers:
            server.loss = 0.0
            server.start()
        for carrier in self.world.carriers:
            carrier.mend(Line(carrier.line.delay))


def run_roads(seed: int, tell: Callable[[str], None] | None = None) -> Outcome:
    """Live through the day of `seed`; a broken rule is in the outcome, not raised."""
    return live_through(RoadDay(seed, tell), seed)


def run_sealed_roads(seed: int, tell: Callable[[str], None] | None = None) -> Outcome:
    """The same day in a sealed room."""
    return live_through(RoadDay(seed, tell, sealed=True), seed)
