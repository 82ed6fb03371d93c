"""Rooms whose members are not alike: nobody pays for the loss, or the way, of others."""

from __future__ import annotations

from statistics import median

import pytest

from tests.simulation.legs import measure

WET, DRY, FAR = (0.0, 0.3), (0.0, 0.0), (0.03, 0.0)


def _mixed(seeds: range, messages: int) -> None:
    """The goals of 10 group members at 30 % loss and 10 relayed ones, 30 ms each way."""
    all_seen = [measure([WET] * 10 + [FAR] * 10, seed, messages) for seed in seeds]
    assert not any(seen.undelivered for seen in all_seen)
    for road, most in (("gg", 0.080), ("rg", 0.100), ("gr", 0.040), ("rr", 0.075)):
        assert median(seen.p99[road] for seen in all_seen) <= most
    assert median(seen.nack for seen in all_seen) <= 0.3
    assert median(seen.session for seen in all_seen) <= 4
    assert median(seen.size for seen in all_seen) <= 2_000


def test_group_members_and_relayed_ones() -> None:
    _mixed(range(1, 2), messages=150)


@pytest.mark.slow
def test_group_members_and_relayed_ones_at_length() -> None:
    _mixed(range(2, 7), messages=250)


def test_who_loses_nothing_does_not_slow_those_who_do() -> None:
    seen = measure([WET] * 10 + [DRY] * 10, 1, messages=150)
    assert seen.undelivered == 0
    assert seen.p99["gg"] <= 0.035  # 50 and 79 ms when all were counted
    assert seen.size <= 1_300


def test_a_room_of_relayed_members_is_quiet() -> None:
    seen = measure([FAR] * 40, 1, messages=30)
    assert seen.undelivered == 0
    assert seen.session <= 5
