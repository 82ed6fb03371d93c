"""Which of several hosts stays: the table, and thousands of starts at the same moment."""

from __future__ import annotations

import random

import pytest

from evloop.directory.limits import (
    HOST_ASKS_S,
    HOST_CONFIRM_S,
    HOST_CONFIRM_S_MAX,
    HOST_PATIENCE_S,
    HOST_RETRY_S,
    SEARCH_ALONE_S,
)
from evloop.directory.yielding import Yielding
from evloop.system.timers import NEVER
from tests.directory.starts import Starts, flaws_of

LOW, OWN, HIGH = "1" * 16, "5" * 16, "9" * 16
NOW = 50.0
SOON = NOW + SEARCH_ALONE_S  # others have answered too by then
LATER = NOW + HOST_PATIENCE_S


def host() -> Yielding:
    return Yielding(OWN, NOW, random.Random(1))


def test_when_it_asks() -> None:
    yielding = host()
    asked = []
    while yielding.next_ask() < NEVER:
        asked.append(yielding.next_ask() - NOW)
        yielding.asked(yielding.next_ask())
    assert asked == pytest.approx(HOST_ASKS_S)


def test_while_another_hosts_it_asks_again_for_a_while() -> None:
    yielding = host()
    yielding.seen(HIGH, server=False, now=NOW + 0.15)
    asked = []
    while yielding.next_ask() < NEVER:
        asked.append(yielding.next_ask())
        yielding.asked(yielding.next_ask())
    gaps = [later - sooner for sooner, later in zip(asked, asked[1:])]
    assert max(gaps) <= HOST_CONFIRM_S + 0.001
    assert NOW + HOST_CONFIRM_S_MAX - 1 <= asked[-1] <= NOW + HOST_CONFIRM_S_MAX + 1


@pytest.mark.parametrize(
    ("other", "server", "people", "rooms", "at_once", "later"),
    [
        (LOW, False, False, False, True, True),
        (LOW, False, True, False, False, True),
        (HIGH, False, False, False, False, True),
        (HIGH, False, True, False, False, False),
        (HIGH, True, False, False, True, True),  # a server, whatever its id
        (HIGH, True, True, False, False, True),
        (LOW, True, False, True, False, False),  # one with rooms stays
        (LOW, False, True, True, False, False),
        (HIGH, False, False, True, False, False),
        (OWN, False, False, False, False, False),  # ourselves
    ],
)
def test_who_goes_where(
    other: str, server: bool, people: bool, rooms: bool, at_once: bool, later: bool
) -> None:
    yielding = host()
    yielding.seen(other, server=server, now=NOW)
    assert yielding.decide(NOW, people=people, rooms=rooms) == ""
    assert yielding.decide(SOON, people=people, rooms=rooms) == (other if at_once else "")
    yielding = host()
    yielding.seen(other, server=server, now=NOW)
    yielding.seen(other, server=server, now=LATER)
    assert yielding.decide(LATER, people=people, rooms=rooms) == (other if later else "")


def test_who_was_heard_once_need_not_be_there_any_more() -> None:
    yielding = host()
    yielding.seen(HIGH, server=False, now=NOW)
    assert yielding.decide(LATER + 5, people=False, rooms=False) == ""


def test_the_best_of_several_and_one_at_a_time() -> None:
    yielding = host()
    for number in (HIGH, "3" * 16, LOW):
        yielding.seen(number, server=False, now=NOW)
    assert yielding.next_decision() == SOON
    assert yielding.decide(SOON, people=False, rooms=False) == LOW
    assert yielding.decide(SOON, people=False, rooms=False) == "", "one is being tried"
    yielding.failed(SOON)
    assert yielding.decide(SOON, people=False, rooms=False) == "3" * 16
    yielding.failed(SOON)
    assert yielding.decide(SOON, people=False, rooms=False) == "", "they must answer anew"


@pytest.mark.parametrize(("other", "soon"), [(LOW, True), (HIGH, False)])
def test_two_that_went_to_each_other(other: str, soon: bool) -> None:
    """The higher id tries again at once, the lower waits."""
    yielding = host()
    for when in (NOW, LATER):
        yielding.asked(when)
        yielding.seen(other, server=False, now=when)
    assert yielding.decide(LATER, people=False, rooms=False) == other
    assert not yielding.may_go(other, people=False, rooms=True)
    assert yielding.may_go(other, people=True, rooms=False) == soon
    yielding.asked(LATER)
    yielding.crossed(LATER)
    assert (yielding.next_ask() <= LATER + HOST_RETRY_S) == soon


def test_two_with_rooms_are_told_once_by_the_higher_id() -> None:
    yielding = host()
    for number in (LOW, HIGH):
        yielding.seen(number, server=False, now=NOW)
    assert not yielding.tell(LOW, rooms=True), "it may give way yet"
    for number in (LOW, HIGH):
        yielding.seen(number, server=False, now=LATER)
    assert not yielding.tell(LOW, rooms=False)
    assert [yielding.tell(LOW, rooms=True), yielding.tell(LOW, rooms=True)] == [True, False]
    assert not yielding.tell(HIGH, rooms=True)


# -- simulated -------------------------------------------------------------------------------------


def test_the_simulation_can_fail() -> None:
    """Where nobody ever gives way there are several."""
    world = Starts(1, 8, 0.5, 0.1, 0)
    for node in world.nodes.values():
        node.decide = lambda: None  # type: ignore[method-assign]
    world.run(30.0)
    assert world.flaw() != ""


def test_without_loss_most_of_them_see_no_move() -> None:
    moved = 0
    for seed in range(300):
        world = Starts(seed, 2, 0.0, 1.0 * (seed % 2), 0)
        world.run(2.5)
        assert world.flaw() == "", seed
        moved += any(node.moves for node in world.nodes.values())
    assert moved < 300 * 0.2


def flaws(seeds: range) -> tuple[list[str], list[str]]:
    """(not one directory after 10 s at a loss below 50 %, not one after 25 s at all)"""
    return flaws_of(seeds, 11.0, 40.0)


def test_three_hundred_starts_end_with_one_directory() -> None:
    assert flaws(range(300)) == ([], [])


@pytest.mark.slow
def test_ten_thousand_starts_end_with_one_directory() -> None:
    assert flaws(range(10_000)) == ([], [])
