"""Rooms whose members are not alike: nobody pays for the loss, or the way, of others."""

from __future__ import annotations

import pytest

from tests.simulation.legs import Legged, measure

WET, DRY, FAR = (0.0, 0.3), (0.0, 0.0), (0.03, 0.0)


def _mixed(seen: Legged) -> None:
    """The goals of 10 group members at 30 % loss and 10 relayed ones, 30 ms each way."""
    assert seen.undelivered == 0
    assert seen.p99["gg"] <= 0.080
    assert seen.p99["rg"] <= 0.100
    assert seen.p99["gr"] <= 0.040
    assert seen.p99["rr"] <= 0.075
    assert seen.nack <= 0.3
    assert seen.session <= 4
    assert seen.size <= 2_000


def test_group_members_and_relayed_ones() -> None:
    _mixed(measure([WET] * 10 + [FAR] * 10, 1, messages=150))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 6))
def test_group_members_and_relayed_ones_at_length(seed: int) -> None:
    _mixed(measure([WET] * 10 + [FAR] * 10, seed))


def test_who_loses_nothing_does_not_slow_those_who_do() -> None:
    seen = measure([WET] * 10 + [DRY] * 10, 1, messages=150)
    assert seen.undelivered == 0
    assert seen.p99["gg"] <= 0.035  # 50 and 79 ms when all were counted
    assert seen.size <= 1_300


def test_a_room_of_relayed_members_is_quiet() -> None:
    seen = measure([FAR] * 40, 1, messages=30)
    assert seen.undelivered == 0
    assert seen.session <= 5
