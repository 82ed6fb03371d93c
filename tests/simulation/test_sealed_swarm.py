"""Sealed rooms in the simulator: bad days with yesterday's tape, and some cells."""

from __future__ import annotations

from random import Random
from statistics import median

import pytest

from tests.simulation import swarm
from tests.simulation.room import KEY, Setting, measure
from tests.simulation.world import Member, World

DAYS = 60
FAST = 12  # in ./check
GROUP = 4
HEAL_S = 5.0

# In short, as in `test_cells`; the same goals as in an open room.
CELLS: dict[str, tuple[Setting, dict[str, float]]] = {
    "10 %": (Setting(50, 0.1, 250), {"p99_ms": 20, "over": 1.3}),
    "late joiner": (Setting(20, 0.3, 100, warmup=0, late=True), {"heal_s": 1.5}),
    "partition": (Setting(20, 0.3, 60, warmup=20, partition=True), {"heal_s": 2.0}),
}

SLOW = {"10 %"}


def _failures(first: int) -> list[str]:
    outcomes = [swarm.run_sealed(seed) for seed in range(first, first + GROUP)]
    failed = [f"seed {one.seed}: {one.failure}" for one in outcomes if one.failure]
    slow = [one for one in outcomes if one.heal_s > HEAL_S and not one.orphaned]
    return failed + [f"seed {one.seed} healed in {one.heal_s:.2f} s" for one in slow]


@pytest.mark.parametrize("first", range(1, FAST + 1, GROUP))
def test_bad_days(first: int) -> None:
    assert _failures(first) == []


@pytest.mark.slow
@pytest.mark.parametrize("first", range(FAST + 1, DAYS + 1, GROUP))
def test_more_bad_days(first: int) -> None:
    assert _failures(first) == []


def test_yesterdays_tape_is_one() -> None:
    tape = swarm.yesterday(1)
    assert {data[2] & 15 for data in tape} >= {1, 3}
    assert len({data[8:16] for data in tape}) >= 2
    assert tape == swarm.yesterday(1) != swarm.yesterday(2)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in CELLS],
)
def test_cell(name: str) -> None:
    setting, goals = CELLS[name]
    result = measure(setting._replace(sealed=True))
    assert (result.undelivered, result.lost, result.overdue) == (0, 0, False)
    found = {
        "p99_ms": 1_000 * result.quantile(0.99),
        "over": result.over,
        "heal_s": result.heal_s,
    }
    assert {key: found[key] for key, most in goals.items() if found[key] > most} == {}


def _listed_by_all(members: list[Member], world: World) -> bool:
    ids = {member.session.sender_id for member in members}
    return all(
        {entry[0] for entry in member.session.members(world.now)} == ids for member in members
    )


def test_twenty_that_join_at_once_list_each_other_within_half_a_second() -> None:
    world = World(5, key=KEY)
    members = []
    for number in range(20):
        members.append(world.join(f"m{number}"))
        world.run(world.now + 0.005)
    start = world.now
    while not _listed_by_all(members, world):
        assert world.now < start + 0.5
        world.run(world.now + 0.01)


@pytest.mark.parametrize(
    ("count", "loss", "most"),
    [(10, 0.1, 0.25), pytest.param(50, 0.3, 0.6, marks=pytest.mark.slow)],
)
def test_the_first_line_of_a_newcomer(count: int, loss: float, most: float) -> None:
    """Said at once; the median over a few newcomers, each until all have it."""
    waits = []
    for seed in range(5):
        world = World(seed, key=KEY)
        world.loss = loss
        for number in range(count):
            world.join(f"m{number}")
            world.run(world.now + 0.05)
        world.run(world.now + 10.0)
        zoe = world.join("Zoe")
        start = world.now
        assert world.say(zoe, "here I am")
        number = len(world.oracle.have) - 1
        while world.oracle.have[number] < (count + 1) * 0.9:
            assert world.now < start + 5.0
            world.run(world.now + 0.005)
        waits.append(world.now - start)
    assert median(waits) <= most


@pytest.mark.slow
def test_two_people_and_many_that_come_and_go() -> None:
    """Ten minutes at 30 % loss, seven joins and seven leaves a minute: identical histories."""
    world, rng = World(9, key=KEY), Random(9)
    world.loss = 0.3
    stay = [world.join("Ann"), world.join("Bob")]
    guests: list[Member] = []
    for minute in range(10):
        for _ in range(7):
            guests.append(world.join(f"guest{minute}"))
            world.run(world.now + rng.uniform(1.0, 5.0))
            for member in (rng.choice(stay), guests[-1]):
                world.say(member, f"line at {world.now:.1f}")
            world.run(world.now + rng.uniform(1.0, 3.0))
            gone = guests.pop(0)
            world.leave(gone)
            world.run(world.now + 0.3)
            world.crash(gone)
    world.run(world.now + 40.0)
    assert world.oracle.lacking() == []
    ann, bob = [
        [(event.sender, event.seq, event.text) for event in member.session.history(10_000)]
        for member in stay
    ]
    assert ann == bob
    assert len(ann) >= 130
    assert _listed_by_all(stay, world)
