"""Rooms of several sites, which bridges join: how late a message is here and there, and its cost.

    python3 -m tests.simulation.site_figures --loss 0.3 --wan 0.08 --seeds 6

Each line is a cell: `here` are those of the speaker's site, `there` all others; `heal_s` is how
long it took until all was everywhere, after the last word, after one came late (`--late`), or after
the line between the sites was back (`--cut`: nothing passed while the messages were said).
"""

from __future__ import annotations

import argparse
import sys
from math import ceil
from random import Random
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from evloop.room.events import Said
from tests.simulation.room import minimum
from tests.simulation.sites import SiteWorld
from tests.simulation.world import DATA, REPAIR, UNICAST, Member
from tests.support.pairs import both

if TYPE_CHECKING:
    from evloop.room.events import Event

RATE = 5.0  # messages a second in the whole room
HEAL_S = 60.0  # then it is given up


class Cell(NamedTuple):
    """What is varied; `wan`: seconds from one site to another and back."""

    sites: int = 2
    members: int = 25  # of each site
    loss: float = 0.1  # of each member
    ears: float = 0.0  # the loss of each bridge, of what its group says
    wan: float = 0.08
    messages: int = 200
    warmup: int = 100
    late: bool = False
    cut: bool = False


class Seen(NamedTuple):
    """What a run has shown: seconds that 99 of 100 deliveries do not exceed, and the rest."""

    here: float
    there: float
    over: float
    undelivered: int
    heal_s: float


class Timed(SiteWorld):
    """A world that keeps how long each message took to members `here` and `there`."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.took: dict[bool, list[float]] = {True: [], False: []}  # by whether it stayed here
        self._talk: dict[str, tuple[float, int, int]] = {}  # also how many there were

    def talk(self, member: Member, text: str) -> None:
        """`member` says `text`, and who shows it is timed."""
        self._talk[text] = self.now, member.index, len(self.members)
        assert self.say(member, text)

    def _shown(self, member: Member, events: list[Event]) -> None:
        super()._shown(member, events)
        for event in events:
            talk = self._talk.get(event.text) if isinstance(event, Said) else None
            if talk is not None and talk[1] != member.index < talk[2]:
                stayed = self.sites[talk[1]] == self.sites[member.index]
                self.took[stayed].append(self.now - talk[0])


def _healed(world: Timed) -> bool:
    """Everybody shows everything, and all agree that it is so."""
    world_over = world.oracle.complete() or not world.oracle.lacking()
    return world_over and len({world.digest(member) for member in world.members}) == 1


def measure(cell: Cell, seed: int) -> Seen:
    """A talk in a room of several sites."""
    world, script = Timed(seed), Random(f"script {seed}")
    world.wan = cell.wan / 2, cell.wan / 2 * 1.05
    world.loss = cell.loss
    for site in range(cell.sites):
        world.add_bridge(site).loss = cell.ears
    for number in range(cell.sites * cell.members):
        world.next_site = number % cell.sites
        world.join(f"m{number}", loss=cell.loss)
        world.run(world.now + 0.1)
    for number in range(cell.warmup):
        world.run(world.now + script.expovariate(RATE))
        world.say(script.choice(world.members), f"warming {number}")
    world.run(world.now + 1 / RATE)
    before = list(world.sent)
    world.nats = not cell.cut
    for number in range(cell.messages):
        world.run(world.now + script.expovariate(RATE))
        world.talk(script.choice(world.members), f"message {number}")
    world.run(world.now + 1 / RATE)
    sent = [after - start for after, start in both(world.sent, before)]
    world.nats = True
    if cell.late:
        world.run(world.now + 5.0)
        world.next_site = 0
        world.join("late", loss=cell.loss)
    since = world.now
    while not _healed(world) and world.now < since + HEAL_S:
        world.run(world.now + 0.05)
    here, there = [
        sorted(took)[ceil(0.99 * len(took)) - 1] if took else 0.0
        for took in (world.took[True], world.took[False])
    ]
    cost = (sent[DATA] + sent[REPAIR] + sent[UNICAST]) / cell.messages
    least = minimum(cell.sites * cell.members - 1, cell.loss)
    return Seen(here, there, cost / least, len(world.oracle.lacking()), world.now - since)


def main() -> int:
    """Print a line for each seed and their median; 1 when anything was undelivered."""
    parser = argparse.ArgumentParser(prog="python3 -m tests.simulation.site_figures")
    add, given = parser.add_argument, Cell()
    add("--sites", type=int, default=given.sites)
    add("--members", type=int, default=given.members, help="of each site")
    add("--loss", type=float, default=given.loss, help="of each member")
    add("--ears", type=float, default=given.ears, help="the loss of each bridge in its group")
    add("--wan", type=float, default=given.wan, help="seconds between two sites, there and back")
    add("--messages", type=int, default=given.messages)
    add("--warmup", type=int, default=given.warmup)
    add("--late", action="store_true", help="one joins when all is said")
    add("--cut", action="store_true", help="nothing passes while the messages are said")
    add("--seeds", type=int, default=6, help="so many runs")
    options = vars(parser.parse_args())
    seeds = options.pop("seeds")
    cell = Cell(**options)
    runs = []
    for seed in range(1, seeds + 1):
        runs.append(measure(cell, seed))
        print(f"seed={seed} {_line(runs[-1])}", flush=True)
    print("median", _line(Seen(*(median(column) for column in zip(*runs)))))
    return int(any(run.undelivered for run in runs))


def _line(seen: Seen) -> str:
    return (
        f"here_p99_ms={1000 * seen.here:.0f} there_p99_ms={1000 * seen.there:.0f}"
        f" over={seen.over:.3f} undelivered={seen.undelivered:g} heal_s={seen.heal_s:.2f}"
    )


if __name__ == "__main__":
    sys.exit(main())
