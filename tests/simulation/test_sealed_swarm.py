"""Sealed rooms in the simulator: bad days with yesterday's tape, and some cells."""

from __future__ import annotations

import pytest

from tests.simulation import swarm
from tests.simulation.room import Setting, measure

DAYS = 60
FAST = 12  # in ./check
GROUP = 4
HEAL_S = 5.0

# In short, as in `test_cells`; the same goals as in an open room.
CELLS: dict[str, tuple[Setting, dict[str, float]]] = {
    "10 %": (Setting(50, 0.1, 60, warmup=40), {"p99_ms": 30, "over": 1.4}),
    "late joiner": (Setting(20, 0.3, 100, warmup=0, late=True), {"heal_s": 1.5}),
    "partition": (Setting(20, 0.3, 60, warmup=20, partition=True), {"heal_s": 2.0}),
}


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


@pytest.mark.parametrize("name", CELLS)
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
