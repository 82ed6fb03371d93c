"""Whose turn it is: nobody is forgotten, and no tick takes more than its share."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from evloop.net.limits import (
    ENDS_PER_TICK,
    FRAMES_FREE,
    FRAMES_PER_TICK,
    FRAMES_PER_WAKE,
    FREE_REPLY_UNITS,
    OUT_QUEUE_BYTES_MAX,
    SEND_UNIT_BYTES,
    SENDS_BEHIND_MIN,
    SENDS_LIGHT,
    SENDS_PER_TICK,
)
from evloop.net.scheduler import FairScheduler


class World:
    """Turns, and the end of a tick as the loop has it."""

    def __init__(self) -> None:
        self.deferred: list[Callable[[], object]] = []
        self.turns = FairScheduler(self.deferred.append, self.gave_up)
        self.served: list[tuple[int, int]] = []  # stream, frames

    def gave_up(self, stream: NackRequester, error: Exception) -> None:
        assert str(error) == str(stream.number)
        stream.failed = True

    def end_tick(self) -> int:
        """Run what was deferred; return how many frames were handled."""
        self.served.clear()
        deferred, self.deferred[:] = self.deferred[:], []
        try:
            for fn in deferred:
                fn()
        finally:
            self.turns.refill()
        return sum(frames for _, frames in self.served)


class NackRequester:
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
    askers = [NackRequester(world, number, frames) for number, frames in enumerate(wanted)]
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
    bad, good = NackRequester(world, 0, 1, bad=True), NackRequester(world, 1, 1)
    world.turns.wait(bad)
    world.turns.wait(good)
    world.end_tick()
    assert bad.failed
    assert not good.frames and not good.failed and not world.deferred


def test_who_has_just_come_is_served_when_the_budget_is_spent() -> None:
    turns = World().turns
    for left, share in ((5, 5), (1, FRAMES_FREE), (0, FRAMES_FREE), (-9, FRAMES_FREE)):
        turns.frames_left = left
        assert turns.share() == share


def test_nothing_is_free_once_the_replies_are_large() -> None:
    turns = World().turns
    turns.replied(FREE_REPLY_UNITS - 1)
    assert turns.frames_left == FRAMES_PER_TICK - FREE_REPLY_UNITS + 1
    turns.frames_left = -9
    assert turns.share() == FRAMES_FREE
    turns.replied(1)
    assert turns.share() == 0
    turns.refill()
    assert turns.share() == FRAMES_PER_WAKE


class Sender(NamedTuple):
    number: int
    queued: int = 100


@given(st.lists(st.integers(0, 3 * SENDS_PER_TICK), max_size=12))
def test_sends_are_spread_over_ticks_and_none_is_lost(ticks: list[int]) -> None:
    world = World()
    number = 0
    order: list[Sender] = []
    while ticks or world.deferred:
        count = ticks.pop(0) if ticks else 0
        dirty = [Sender(number + at) for at in range(count)]
        number += count
        fresh = dirty[:SENDS_PER_TICK]
        world.end_tick()
        now = world.turns.to_send(dirty)
        assert now[: len(fresh)] == fresh  # replies overtake what is behind
        old = now[len(fresh) :]
        assert old == sorted(old)
        assert len(now) <= SENDS_PER_TICK + SENDS_BEHIND_MIN
        order += now
    assert sorted(order) == [Sender(at) for at in range(number)]


_LARGE = st.integers(0, OUT_QUEUE_BYTES_MAX)


@given(st.lists(st.lists(_LARGE, max_size=2 * SENDS_LIGHT), max_size=12))
def test_what_is_sent_in_one_tick_is_bounded_in_bytes(ticks: list[list[int]]) -> None:
    world = World()
    order: list[Sender] = []
    number = 0
    while ticks or world.deferred:
        sizes = ticks.pop(0) if ticks else []
        dirty = [Sender(number + at, size) for at, size in enumerate(sizes)]
        number += len(sizes)
        world.end_tick()
        now = world.turns.to_send(dirty)
        assert now or not dirty
        if len(now) > SENDS_LIGHT:
            # The last of the fresh and the last of those behind may each go beyond.
            most = (SENDS_PER_TICK + SENDS_BEHIND_MIN) * SEND_UNIT_BYTES + 2 * OUT_QUEUE_BYTES_MAX
            assert sum(each.queued for each in now) <= most
        order += now
    assert [each.number for each in sorted(order)] == list(range(number))


@given(st.lists(st.integers(0, ENDS_PER_TICK * 2), max_size=8), st.integers(0, 40))
def test_endings_are_told_in_order_and_the_rest_is_not_forgotten(
    ticks: list[int], extra: int
) -> None:
    world = World()
    turns = world.turns
    told: list[int] = []
    number = 0
    while ticks or world.deferred:
        count = ticks.pop(0) if ticks else 0
        turns.closed.extend(range(number, number + count))
        number += count
        world.end_tick()
        before = len(told)
        for one in turns.to_end():
            turns.ends_left -= extra  # what its owner found to do
            told.append(one)
        assert (len(told) - before - 1) * (1 + extra) < ENDS_PER_TICK
    assert told == list(range(number))
