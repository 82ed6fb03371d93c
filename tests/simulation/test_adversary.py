"""Sieges: a stranger who composes what harms, in an open room. `make sim` plays 10,000.

A siege that fails is told by `python3 -m tests.simulation --plan N --trace`.
"""

from __future__ import annotations

import pytest

from tests.simulation import adversary

SIEGES = 100
FAST = range(9, 17)  # in ./check; the first eight take 14 s
GROUP = 4

# Plans that once did harm, by what was wrong then.
KEPT = {
    "a member is silenced by who uses its next number first": "1@12",
    "what was dropped as never said is not asked for when it is said": "4@12",
    "a line is read as the end of a stranger's": "22@12",
    "ghosts of a large room stay long after it is small": "9@12",
    "gaps that make room for each other fire a timer without end": "17@12",
    "a message is given up that was asked for before it was said": "20@12",
    "a forged counter that stands still is believed for a minute": "72@12",
    "ghosts that count 65,535 members are listed as long as in such a room": "80@12",
}
LONG = {  # 16 s; the others together take 10
    "gaps that make room for each other fire a timer without end",
    "a forged counter that stands still is believed for a minute",
}


def _failures(first: int) -> list[str]:
    outcomes = [adversary.play_seed(seed) for seed in range(first, first + GROUP)]
    return [f"plan {one.plan}: {one.failure}" for one in outcomes if one.failure]


@pytest.mark.parametrize("first", FAST[::GROUP])
def test_sieges(first: int) -> None:
    assert _failures(first) == []


@pytest.mark.slow
@pytest.mark.parametrize("first", [n for n in range(1, SIEGES + 1, GROUP) if n not in FAST])
def test_more_sieges(first: int) -> None:
    assert _failures(first) == []


@pytest.mark.parametrize(
    "what",
    [pytest.param(what, marks=[pytest.mark.slow] if what in LONG else []) for what in KEPT],
)
def test_kept(what: str) -> None:
    assert adversary.play(KEPT[what]).failure == ""


def test_a_plan_is_spelt_by_its_seed_and_its_changes() -> None:
    seed, plan = adversary.spelt("12:3:7")
    assert seed == 12
    assert adversary.spelt("12:3:7")[1] == plan != adversary.spelt("12")[1]
    assert all(1 <= adversary.spelt(str(number))[1].rate <= 500 for number in range(50))


def test_a_plan_of_before_a_move_was_added_is_the_same_plan() -> None:
    for seed in range(20):
        plan = adversary.spelt(str(seed))[1]
        before = adversary.spelt(f"{seed}@{adversary.FIRST_MOVES}")[1]
        first, later = (
            plan.weights[: adversary.FIRST_MOVES],
            plan.weights[adversary.FIRST_MOVES :],
        )
        assert before == plan._replace(weights=(*first, *[0.0] * len(later)))
        assert all(later)


def test_sieges_are_sieges() -> None:
    outcomes = [adversary.play_seed(seed) for seed in (2, 3)]
    assert sum(outcome.sent for outcome in outcomes) > 20
    assert outcomes[0].trace == adversary.play_seed(2).trace != outcomes[1].trace
