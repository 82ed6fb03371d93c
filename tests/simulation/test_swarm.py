"""200 bad days, 40 of them in ./check, and every seed that ever failed.

`make sim` runs 10,000. A failing seed is replayed with its story by
`python3 -m tests.simulation --swarm 1 --seed N --trace`.
"""

from __future__ import annotations

from functools import lru_cache

import pytest

from tests.simulation import swarm

DAYS = 200
FAST = 40  # in ./check
GROUP = 5
HEAL_S = 5.0  # the goal; the oracle's own limit of 10 s is where a slow heal becomes a failure

# Seeds that once failed, by what was wrong then.
REGRESSIONS = {
    "retries drift apart and drain the NACK bucket": 18,
    "hearsay starves real gaps": 23,
    "ghosts are asked and never answer": 14,
    "a lie uses up the hearsay room of an honest sender": 109,
    "a forged claim cuts a newcomer's history": 34,
    "a last part is shown alone": 137,
    "a replayed echo stretches every timer": 218,
    "retries of a stretched delay silence the holder": 346,
    "slow orphans silence the holder": 4,
    "large repairs break the byte rate": 74,
    "a table is scanned at each firing": 85,
    "a day with a clock that leaps, replay and slow links": 1284,
    "an orphan among many forged holes": 102,
    "an answer that the byte rate refuses spins the timer": 523,
    "a claim far beyond a sender's newest message cuts a newcomer's history": 911,
    "what was passed over as older than my time comes after all": 537,
    "a part whose beginning is lost looks like the message of a simple program": 7042,
    "a leap of the clock pays for copies that are reserved": 5527,
    "a program that was paused sends its copies and then fills its bucket": 601259,
}
LONG = {"a claim far beyond a sender's newest message cuts a newcomer's history"}  # 6 s


@lru_cache(maxsize=DAYS)
def outcome_of(seed: int) -> swarm.Outcome:
    """The same seed is the same day: it is run once a process."""
    return swarm.run(seed)


def _judge(first: int) -> None:
    outcomes = [outcome_of(seed) for seed in range(first, first + GROUP)]
    failed = [f"seed {outcome.seed}: {outcome.failure}" for outcome in outcomes if outcome.failure]
    assert failed == []
    slow = [
        f"seed {outcome.seed} healed in {outcome.heal_s:.2f} s"
        for outcome in outcomes
        if outcome.heal_s > HEAL_S and not outcome.orphaned
    ]
    assert slow == []


@pytest.mark.parametrize("first", range(1, FAST + 1, GROUP))
def test_bad_days(first: int) -> None:
    _judge(first)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(FAST + 1, DAYS + 1, GROUP))
def test_more_bad_days(first: int) -> None:
    _judge(first)


@pytest.mark.parametrize(
    "what",
    [pytest.param(what, marks=[pytest.mark.slow] if what in LONG else []) for what in REGRESSIONS],
)
def test_regression(what: str) -> None:
    assert outcome_of(REGRESSIONS[what]).failure == ""


def test_days_are_bad_enough() -> None:
    outcomes = [outcome_of(seed) for seed in range(1, 13)]
    assert sum(outcome.messages for outcome in outcomes) > 300
    assert any(outcome.orphaned for outcome in outcomes)
    assert any(outcome.heal_s > 0.05 for outcome in outcomes)
