"""Rooms with roads: a few bad days, the places one by one, and bugs that must be noticed.

A failing seed is told by `python3 -m tests.simulation --swarm 1 --roads --seed N --trace`.
"""

from __future__ import annotations

from math import inf
from typing import Any

import pytest

from evloop.daemon import relayed_room
from evloop.daemon.relayed_room import ASKED, RelayedRoom
from evloop.directory.relay_frames import room_frame
from evloop.room.relay import RelayTransport
from evloop.room.roads import ALONE, FULL, OFF, UP
from tests.simulation.oracle import Violation
from tests.simulation.roads import (
    DEAF,
    GUEST,
    HUB,
    ISOLATED,
    LONER,
    MUTE,
    NEAR,
    SOUND,
    RoadWorld,
)
from tests.simulation.roadswarm import run_roads, run_sealed_roads
from tests.simulation.swarm import STRANGER
from tests.simulation.wires import Line
from tests.simulation.world import Member

SLOW_LINE = Line(0.03, 3_000.0, 0.0)


def _failures(seeds: range) -> list[str]:
    outcomes = [run_roads(seed) for seed in seeds]
    return [f"seed {one.seed}: {one.failure}" for one in outcomes if one.failure]


@pytest.mark.parametrize("seed", range(1, 7))
def test_bad_days(seed: int) -> None:
    assert _failures(range(seed, seed + 1)) == []


@pytest.mark.parametrize("seed", [10_135, 790_135])
def test_guests_of_two_directories_hear_no_crowd(seed: int) -> None:
    """What the leg of the other directory brings was once taken for the members themselves."""
    assert _failures(range(seed, seed + 1)) == []


def test_a_sealed_bad_day() -> None:
    assert run_sealed_roads(3).failure == ""


def test_a_seed_is_a_run() -> None:
    assert run_roads(2) == run_roads(2)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(10_000, 10_150, 10))
def test_many_bad_days(first: int) -> None:
    assert _failures(range(first, first + 10)) == []


# -- quiet rooms of a few members --------------------------------------------------------------


def _room(*places: str, directories: int = 1, line: Line = NEAR) -> tuple[RoadWorld, Any]:
    """Members in `places`, in turn at each directory."""
    world = RoadWorld(5)
    for _ in range(directories):
        world.open_server()
    members = [
        world.move_in(f"m{number}", place, line, number % directories)
        for number, place in enumerate(places)
    ]
    return world, members


def _talk(world: RoadWorld, members: list[Member], lines: int, pause: float, size: int = 0) -> None:
    for number in range(lines):
        world.say(members[number % len(members)], f"line {number}" + "x" * size)
        world.run(world.now + pause)


def _road(world: RoadWorld, member: Member) -> str:
    state: str = world.carriers[member.index].transport.roads.state
    return state


@pytest.mark.parametrize("directories", [1, 2])
def test_each_place_finds_its_road(directories: int) -> None:
    places = (SOUND, SOUND, SOUND, DEAF, MUTE, ISOLATED, HUB, LONER)
    world, members = _room(*places, directories=directories)
    _talk(world, members, 100, 0.45)
    roads = [_road(world, member) for member in members]
    assert roads[:4] == [OFF, OFF, OFF, FULL]
    assert roads[4] == UP
    assert roads[5:] == [FULL, ALONE, OFF]
    assert world.oracle.complete()
    assert not world.oracle.undelivered()


def test_guests_of_whom_only_the_directory_hears() -> None:
    world, members = _room(*[GUEST] * 5)
    _talk(world, members, 120, 0.5)
    assert [_road(world, member) for member in members] == [FULL] * 5
    assert not world.oracle.undelivered()


def test_what_is_said_while_the_directory_is_dead_comes_when_it_is_back() -> None:
    world, members = _room(*[HUB] * 4)
    world.run(2.0)
    world.servers[0].die()
    _talk(world, members, 8, 0.3)
    assert not world.oracle.complete()
    world.servers[0].start()
    world.run(world.now + 5.0)
    assert world.oracle.complete()
    assert not world.oracle.undelivered()


@pytest.mark.slow
@pytest.mark.parametrize(("place", "found_s"), [(ISOLATED, 25), (DEAF, 25), (MUTE, 145)])
def test_who_is_cut_off_in_mid_talk_changes_its_road(place: str, found_s: float) -> None:
    world, members = _room(SOUND, SOUND, SOUND, HUB)
    _talk(world, members, 120, 0.5)
    victim = members[0]
    assert _road(world, victim) == OFF
    world.places[victim.index] = place
    start = world.now
    while _road(world, victim) == OFF and world.now < start + 200:
        _talk(world, members, 1, 0.5)
    assert world.now <= start + found_s
    _talk(world, members, 80, 0.5)
    assert _road(world, victim) == (UP if place == MUTE else FULL)
    assert world.oracle.complete()
    world.places[victim.index] = SOUND
    start = world.now
    while _road(world, victim) != OFF and world.now < start + 200:
        _talk(world, members, 1, 0.5)
    assert world.now <= start + 100
    assert not world.oracle.undelivered()


def _come_to_the_first(directories: int, silent: bool) -> int:
    """Datagrams that the group brings to a sound member in a minute, in a room of four of whom two
    hang on directories."""
    world, members = _room(SOUND, SOUND, HUB, HUB, directories=directories)
    _talk(world, members, 80, 0.5)
    before = world.came_by_group(members[0])
    if silent:
        world.run(world.now + 60.0)
    else:
        _talk(world, members, 120, 0.5)
    assert not world.oracle.undelivered()
    return world.came_by_group(members[0]) - before


@pytest.mark.parametrize("silent", [False, True])
def test_two_directories_say_nothing_twice(silent: bool) -> None:
    """What the group brings goes never back there: no more than by one directory."""
    assert _come_to_the_first(2, silent) <= 1.2 * _come_to_the_first(1, silent)


def test_who_is_mute_and_is_forged_is_back_when_that_ends() -> None:
    world, members = _room(SOUND, SOUND, MUTE)
    mute = members[2]
    world.tape = []
    _talk(world, members, 80, 0.5)
    assert _road(world, mute) == UP
    own = [data for data in world.tape if data[8:16] == mute.session.sender_id]
    for _ in range(200):
        world.multicast(own[-1], STRANGER)
        world.run(world.now + 0.5)
    assert _road(world, mute) == OFF
    world.say(mute, "does anybody hear me?")
    world.run(world.now + 180.0)
    assert _road(world, mute) != OFF
    assert world.oracle.complete()
    assert not world.oracle.undelivered()


# -- planted bugs ------------------------------------------------------------------------------


def test_the_group_is_told_to_the_group(monkeypatch: pytest.MonkeyPatch) -> None:
    def hear(self: Any, burst: Any, right: Any = RelayedRoom.hear) -> None:
        right(self, burst)
        for datagram, _ in burst:
            if self.leg is not None:
                self.leg.send(datagram)

    monkeypatch.setattr(RelayedRoom, "hear", hear)
    world, members = _room(SOUND, SOUND, HUB, directories=2)
    with pytest.raises(Violation, match="no member gave"):
        _talk(world, members, 5, 0.1)


def test_who_speaks_is_sent_its_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def take(
        self: Any, member: Any, target: Any, datagram: bytes, right: Any = RelayedRoom.take
    ) -> None:
        right(self, member, target, datagram)
        member.connection.send_loose(room_frame(self.entry.handle, datagram))

    monkeypatch.setattr(RelayedRoom, "take", take)
    world, members = _room(HUB, HUB)
    with pytest.raises(Violation, match="what it said"):
        _talk(world, members, 5, 0.1)


def test_the_group_brings_who_speaks_its_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def hear(self: Any, burst: Any, right: Any = RelayedRoom.hear) -> None:
        known, self._by_id = self._by_id, {}
        right(self, burst)
        self._by_id = known

    monkeypatch.setattr(RelayedRoom, "hear", hear)
    world, members = _room(SOUND, SOUND, SOUND)
    with pytest.raises(Violation, match="what it said"):
        _talk(world, members, 40, 0.5)


def _oldest() -> float:
    """Age of the oldest that a member behind a line of 3 kB/s is brought, while others talk."""
    world, members = _room(HUB, HUB, HUB)
    world.run(3.0)
    slow = world.carriers[world.move_in("slow", HUB, SLOW_LINE).index]
    world.run(10.0)
    _talk(world, members, 240, 0.2, 800)
    return slow.oldest


def test_a_slow_reader_is_not_brought_what_is_old(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = _oldest()
    monkeypatch.setattr(relayed_room, "RELAY_STALE_S", float("inf"))
    planted = _oldest()
    assert kept < 25.0 < 30.0 < planted


def _not_asked() -> tuple[int, float]:
    """Bulk answers to who has not asked, and seconds until a newcomer has all."""
    world, members = _room(HUB, HUB, HUB)
    world.run(1.0)
    _talk(world, members, 150, 0.2)
    world.move_in("late", HUB)
    start = world.now
    while not world.oracle.complete() and world.now < start + 30:
        world.run(world.now + 0.05)
    drops = world.servers[0].metrics.counts["relay_drops"]
    return drops[ASKED], world.now - start


def test_the_sources_of_a_burst_are_swapped(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = _not_asked()

    def receive(self: Any, deliver: Any, ready: Any, right: Any = RelayTransport.receive) -> None:
        last = other = bytes(8)

        def swapped(burst: Any, *flags: bool) -> None:
            nonlocal last, other
            for number, (data, source) in enumerate(burst):
                if source[0] == "relay":
                    last, other = source[1], other if last == source[1] else last
                    burst[number] = data, ("relay", other)
            deliver(burst, *flags)

        right(self, swapped, ready)

    monkeypatch.setattr(RelayTransport, "receive", receive)
    planted = _not_asked()
    assert kept[0] == 0 < planted[0]


# -- isolated in mid-talk ------------------------------------------------------------------------


def _left_after(seed: int, place: str, count: int, loss: float) -> list[float]:
    """Seconds until each of so many who talk notices that its port of the switch is isolated."""
    world = RoadWorld(seed)
    world.open_server()
    members = [world.move_in(f"m{n}", SOUND, NEAR, 0, loss=loss) for n in range(count)]
    world.run(40.0)
    world.servers[0].loss = loss
    roads = [carrier.transport.roads for carrier in world.carriers]
    _talk(world, members, 30, 1.0)
    assert {one.state for one in roads} == {OFF}
    world.places[:] = [place] * count
    start, left = world.now, [inf] * count
    while inf in left and world.now < start + 120:
        _talk(world, members, count, 0.5)
        left = [
            world.now - start if was == inf and one.state != OFF else was
            for one, was in zip(roads, left)
        ]
    return left


@pytest.mark.parametrize("loss", [0.0, 0.3])
@pytest.mark.parametrize("count", [2, 3])
def test_who_is_isolated_in_mid_talk_notices_soon(count: int, loss: float) -> None:
    """By silence alone it took 60 s for two and 30 s for three."""
    for seed in range(3):
        assert max(_left_after(seed, ISOLATED, count, loss)) <= 25.0
        assert min(_left_after(seed, GUEST, count, loss)) <= 25.0


@pytest.mark.parametrize("count", [2, 3])
def test_loss_alone_makes_nobody_doubt(count: int) -> None:
    world = RoadWorld(7)
    world.open_server().loss = 0.3
    members = [world.move_in(f"m{n}", SOUND, NEAR, 0, loss=0.3) for n in range(count)]
    world.run(60.0)
    roads = [carrier.transport.roads for carrier in world.carriers]
    for second in range(600):  # half of it in silence
        if second >= 300 and not second % 5:
            world.say(members[second % count], f"line {second}")
        world.run(world.now + 1.0)
        assert {one.state for one in roads} == {OFF}
