"""Whose turn it is: nobody is forgotten, and no tick takes more than its share."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evloop.limits import (
    FRAMES_FREE,
    FRAMES_PER_TICK,
    FRAMES_PER_WAKE,
    SENDS_BEHIND_MIN,
    SENDS_PER_TICK,
)
from evloop.turns import Turns


class World:
    """Turns, and the end of a tick as the loop has it."""

    def __init__(self) -> None:
        self.deferred: list[Callable[[], object]] = []
        self.turns = Turns(self.deferred.append)
        self.served: list[tuple[int, int]] = []  # stream, frames

    def end_tick(self) -> int:
        """Run what was deferred; return how many frames were handled."""
        self.served.clear()
        deferred, self.deferred[:] = self.deferred[:], []
        try:
            for fn in deferred:
                fn()
        finally:
            self.turns.frames_left = FRAMES_PER_TICK
        return sum(frames for _, frames in self.served)


class Asker:
    """A stream that has `frames` frames to be handled, and fails at the last if it is `bad`."""

    def __init__(self, world: World, number: int, frames: int, bad: bool = False) -> None:
        self.world, self.number, self.frames, self.bad = world, number, frames, bad
        self.failed = False

    def go_on(self, share: int) -> None:
        taken = min(share, self.frames)
        self.frames -= taken
        self.world.turns.frames_left -= taken
        self.world.served.append((self.number, taken))
        if self.frames:
            self.world.turns.wait(self)
        elif self.bad:
            raise ValueError(self.number)

    def fail(self) -> None:
        self.failed = True


@given(st.lists(st.integers(1, 3 * FRAMES_PER_TICK), min_size=1, max_size=30))
def test_all_are_served_in_turn(wanted: list[int]) -> None:
    world = World()
    askers = [Asker(world, number, frames) for number, frames in enumerate(wanted)]
    for asker in askers:
        world.turns.wait(asker)
    got, turns = [0] * len(wanted), [0] * len(wanted)
    while world.deferred:
        assert len(world.deferred) == 1
        assert world.turns.share() == FRAMES_FREE  # others wait
        assert 0 < world.end_tick() <= FRAMES_PER_TICK
        for number, frames in world.served:
            got[number] += frames
            turns[number] += 1
        left = [turns[n] for n in range(len(wanted)) if got[n] < wanted[n]]
        assert not left or max(left) - min(left) <= 1
    assert got == wanted
    assert world.turns.share() == FRAMES_PER_WAKE


def test_a_bug_in_one_costs_that_one_alone() -> None:
    world = World()
    bad, good = Asker(world, 0, 1, bad=True), Asker(world, 1, 1)
    world.turns.wait(bad)
    world.turns.wait(good)
    with pytest.raises(ValueError, match="0"):
        world.end_tick()
    assert bad.failed
    world.end_tick()
    assert not good.frames and not good.failed and not world.deferred


def test_who_has_just_come_is_served_when_the_budget_is_spent() -> None:
    turns = World().turns
    for left, share in ((5, 5), (1, FRAMES_FREE), (0, FRAMES_FREE), (-9, FRAMES_FREE)):
        turns.frames_left = left
        assert turns.share() == share


@given(st.lists(st.integers(0, 3 * SENDS_PER_TICK), max_size=12))
def test_sends_are_spread_over_ticks_and_none_is_lost(ticks: list[int]) -> None:
    world = World()
    number = 0
    order: list[int] = []
    while ticks or world.deferred:
        dirty = list(range(number, number + (ticks.pop(0) if ticks else 0)))
        number += len(dirty)
        fresh = dirty[:SENDS_PER_TICK]
        world.end_tick()
        now = world.turns.to_send(dirty)
        assert now[: len(fresh)] == fresh  # replies overtake what is behind
        old = now[len(fresh) :]
        assert old == sorted(old)
        assert len(now) <= SENDS_PER_TICK + SENDS_BEHIND_MIN
        order += now
    assert sorted(order) == list(range(number))
