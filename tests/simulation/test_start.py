"""What the first lines of a conversation cost, and how soon they come, against loss."""

from __future__ import annotations

from math import ceil

import pytest

from evloop.room.reliable.limits import NEWCOMER_S
from tests.simulation.legs import Legs
from tests.simulation.world import DATA, SESSION, World

LINES = 20
ROOMS = 12


def _talk(members: int, loss: float, seed: int) -> tuple[list[int], list[float]]:
    """(DATA sent for each of LINES lines, a second apart by all in turn; seconds until shown)."""
    world = Legs(seed)
    here = [world.add(f"m{n}", loss=loss) for n in range(members)]
    world.run(NEWCOMER_S + 1.0)
    sent = []
    for line in range(LINES):
        before = world.sent[DATA]
        world.talk(here[line % members], f"line {line}")
        world.run(world.now + 1.0)
        sent.append(world.sent[DATA] - before)
    world.run(world.now + 20.0)
    assert world.oracle.undelivered() == 0
    return sent, [seconds for road in world.latencies.values() for seconds in road]


def _rooms(members: int, loss: float) -> tuple[float, float]:
    """(datagrams for each line from the third on, p99 in seconds)."""
    sent, shown = 0, []
    for seed in range(ROOMS):
        costs, seconds = _talk(members, loss, seed)
        sent += sum(costs[2:])
        shown += seconds
    return sent / ROOMS / (LINES - 2), sorted(shown)[ceil(0.99 * len(shown)) - 1]


def test_who_is_alone_says_it_once() -> None:
    assert _talk(1, 0.0, 1)[0] == [1] * LINES


@pytest.mark.parametrize("members", [2, 3])
def test_a_network_without_loss_does_not_pay_for_loss(members: int) -> None:
    datagrams, p99 = _rooms(members, 0.0)
    assert datagrams <= 1.3
    assert p99 <= 0.002


@pytest.mark.parametrize("members", [2, 3])
def test_where_a_third_is_lost_the_first_lines_come_as_soon(members: int) -> None:
    datagrams, p99 = _rooms(members, 0.3)
    assert 4.5 <= datagrams <= 5.5
    assert p99 <= 0.040


def test_who_join_together_soon_list_each_other() -> None:
    """In a room too large for greetings (they needed T without the second word, here 20 s)."""
    world, members = World(1), 50
    for number in range(members):
        joined = world.join(f"m{number}")
        joined.session.expect(number + 1)  # as the directory counts
        world.run(world.now + 2.0 / members)
    greeted = world.sent[SESSION]
    world.run(5.0)
    for member in world.members:
        assert len(member.session.members(world.now)) == members
    assert world.sent[SESSION] - greeted <= 3 * members


def test_who_has_been_here_says_nothing_to_a_newcomer_of_a_large_room() -> None:
    world = World(1)
    for number in range(30):
        world.join(f"m{number}").session.expect(30)
    world.run(60.0)
    before = world.sent[SESSION]
    world.join("Zoe").session.expect(31)
    world.run(61.5)
    assert world.sent[SESSION] - before <= 15  # a few at their time, and Zoe
