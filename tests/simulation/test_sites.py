"""Rooms of several sites: bad days end well, and the bugs that a bridge could have are noticed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from evloop.daemon import bridge
from tests.simulation.site_figures import Cell, measure
from tests.simulation.sites import SiteWorld, run_sealed_sites, run_sites
from tests.simulation.swarm import Outcome

QUICK_SEEDS = 6
QUICK_SEALED = 2
SLOW_SEEDS = 300
SLOW_SEALED = 100


def test_some_days_of_several_sites() -> None:
    outcomes = [run_sites(seed) for seed in range(QUICK_SEEDS)]
    assert [it.failure for it in outcomes if it.failure] == []
    assert all(it.delivered for it in outcomes)


def test_some_days_of_several_sites_with_a_key() -> None:
    """Bridges carry what they cannot read; strangers at the first site repeat yesterday."""
    outcomes = [run_sealed_sites(seed) for seed in range(QUICK_SEALED)]
    assert [it.failure for it in outcomes if it.failure] == []
    assert all(it.delivered for it in outcomes)


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("part", range(10))
def test_many_sealed_days_of_several_sites(part: int) -> None:
    judge(run_sealed_sites, SLOW_SEALED // 10, part)


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("part", range(10))
def test_many_days_of_several_sites(part: int) -> None:
    judge(run_sites, SLOW_SEEDS // 10, part)


def judge(run: Callable[[int], Outcome], share: int, part: int) -> None:
    for seed in range(1000 + part * share, 1000 + (part + 1) * share):
        outcome = run(seed)
        assert not outcome.failure, f"seed {seed}: {outcome.failure}"


@pytest.mark.slow
def test_a_newcomer_that_is_cut_off_gets_the_head_of_history() -> None:
    assert run_sites(1198).failure == ""


@pytest.mark.slow
@pytest.mark.parametrize("loss, here", [(0.1, 0.1), (0.3, 0.25)])
def test_a_long_line_makes_nobody_at_home_wait(loss: float, here: float) -> None:
    """Two sites of 25 people, 80 ms there and back: 99 of 100 deliveries."""
    seen = measure(Cell(loss=loss, messages=80, warmup=60), 1)
    assert seen.undelivered == 0
    assert seen.here <= here
    assert seen.there <= 0.8


def test_what_was_said_while_the_line_was_cut_comes_soon() -> None:
    seen = measure(Cell(members=5, messages=30, warmup=20, cut=True), 1)
    assert seen.undelivered == 0
    assert 0 < seen.heal_s <= 8.0


def test_a_day_replays_to_the_letter() -> None:
    assert run_sites(3) == run_sites(3)


def _loops(patch: pytest.MonkeyPatch) -> None:
    """What a bridge put into the group is carried again."""
    patch.setattr(bridge, "goes_to_other_sites", lambda port, by_group, heard: True)
    patch.setattr("tests.simulation.sites.CARRIED_MAX", 20_000)


def _one_way(patch: pytest.MonkeyPatch) -> None:
    """The first site is told nothing."""
    arrived = SiteWorld.arrived

    def deaf(self: SiteWorld, told: tuple[object, bytes]) -> None:
        if getattr(told[0], "site", 0):
            arrived(self, told)  # type: ignore[arg-type]

    patch.setattr(SiteWorld, "arrived", deaf)


def _too_small(patch: pytest.MonkeyPatch) -> None:
    """Long datagrams are not carried."""
    patch.setattr("tests.simulation.sites.DATAGRAM_BYTES_MAX", 120)


@pytest.mark.parametrize("bug", [_loops, _one_way, _too_small])
def test_a_planted_bug_of_the_bridge_is_caught(
    bug: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    bug(monkeypatch)
    caught: Outcome | None = None
    for seed in range(20):
        outcome = run_sites(seed)
        if outcome.failure:
            caught = outcome
            break
    assert caught is not None, "20 days, and nobody noticed"
