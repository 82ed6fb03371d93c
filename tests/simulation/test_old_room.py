"""A room that is older than its history, and somebody who comes then (loss included)."""

from __future__ import annotations

import pytest

from evloop.room.reliable.limits import HISTORY_S
from tests.simulation.world import SESSION, World


def _sessions(world: World, seconds: float) -> int:
    before = world.sent[SESSION]
    world.run(world.now + seconds)
    return world.sent[SESSION] - before


@pytest.mark.parametrize("loss", [0.0, 0.3])
def test_a_room_of_25_hours_and_a_newcomer(loss: float) -> None:
    world = World(1)
    world.loss = loss
    members = [world.join(f"m{n}") for n in range(5)]
    world.run(70)
    for n in range(12):
        passer_by = world.join(f"cron{n}")
        world.say(passer_by, f"line {n}")
        world.run(world.now + 5)
        world.leave(passer_by)
        world.run(world.now + 1)
        world.crash(passer_by)
    for member in members[:2]:
        world.say(member, "good night")
    world.run(world.now + 60)
    for member in members:
        world.jump(member, HISTORY_S + 3_600)  # 25 hours without a timer
    world.run(world.now + 120)
    before = _sessions(world, 300)
    world.join("Zoe")
    world.run(world.now + 60)
    after = _sessions(world, 300)
    assert len({world.digest(one) for one in world.members if not one.gone}) == 1
    assert after <= 1.2 * before * 6 / 5  # there are six now
