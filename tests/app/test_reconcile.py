"""What becomes of a room when its directory comes back: each row of the table, and stories."""

from __future__ import annotations

from random import Random

import pytest

from evloop.app.limits import REMAKE_S
from evloop.app.reconcile import (
    AWAY,
    ENTER,
    GONE,
    IN,
    MAKE,
    MOVE,
    NOTHING,
    OUT,
    TELL,
    UNKNOWN,
    WAITING,
    Reconciler,
)
from evloop.system.timers import NEVER

HERE, THERE = ("239.255.7.1", 5751), ("239.255.8.2", 5752)
ONE, OTHER, NONE = "1" * 16, "2" * 16, ""
NOW = 1_000.0


def rng() -> Random:
    return Random(7)


def came_back(identity: str, before: str = ONE) -> Reconciler:
    """In the room by the directory `before`, which was lost; `identity` is connected now."""
    room = Reconciler(HERE, before, away=False)
    room.lost()
    assert room.state == AWAY and room.due == NEVER
    assert room.connected(identity) == ENTER
    return room


@pytest.mark.parametrize("identity", [ONE, OTHER, NONE])
def test_a_room_that_is_where_it_was(identity: str) -> None:
    room = came_back(identity)
    assert room.found(HERE) == NOTHING and room.state == IN


@pytest.mark.parametrize(("identity", "what"), [(ONE, MOVE), (OTHER, MOVE), (NONE, TELL)])
def test_a_room_that_is_elsewhere(identity: str, what: int) -> None:
    room = came_back(identity)
    assert room.found(THERE) == what and room.state == IN


def test_the_same_directory_lacks_it_somebody_has_deleted_it() -> None:
    room = came_back(ONE)
    assert room.missing(NOW, rng()) == GONE
    assert room.state == OUT and room.due == NEVER
    room.lost()
    assert room.connected(ONE) == ENTER
    assert room.missing(NOW, rng()) == NOTHING, "it is told once"
    room.lost()
    assert room.connected(OTHER) == ENTER
    assert room.missing(NOW, rng()) == NOTHING and room.due == NEVER, "nor made anew elsewhere"


def test_a_directory_that_does_not_tell_which_it_is() -> None:
    room = came_back(NONE)
    assert room.missing(NOW, rng()) == UNKNOWN and room.due == NEVER
    assert room.connected(NONE) == ENTER
    assert room.missing(NOW, rng()) == NOTHING, "it is told once"


@pytest.mark.parametrize("before", [ONE, NONE])
def test_another_directory_gets_it_again_after_a_while(before: str) -> None:
    dues = set()
    for seed in range(20):
        room = came_back(OTHER, before)
        assert room.missing(NOW, Random(seed)) == NOTHING and room.state == WAITING
        assert NOW <= room.due <= NOW + REMAKE_S
        dues.add(room.due)
        assert room.handle_timer(room.due - 0.001) == NOTHING
        assert room.handle_timer(room.due) == MAKE and room.due == NEVER
        assert room.made() == ENTER
        assert room.found(HERE) == NOTHING and room.state == IN
        room.lost()
        assert room.connected(OTHER) == ENTER
        assert room.missing(NOW, Random(seed)) == GONE, "that one is the directory of before now"
    assert len(dues) == 20, "not all at once"


def waiting() -> Reconciler:
    room = came_back(OTHER)
    room.missing(NOW, rng())
    return room


@pytest.mark.parametrize(("place", "what"), [(HERE, NOTHING), (THERE, MOVE)])
def test_who_waits_follows_whoever_was_first(place: tuple[str, int], what: int) -> None:
    room = waiting()
    assert room.made_by_other(place) == ENTER and room.due == NEVER
    assert room.found(place) == what
    room = waiting()  # and if both asked at the same moment
    assert room.handle_timer(room.due) == MAKE
    assert room.made_by_other(place) == NOTHING, "an answer is on its way"
    assert room.made() == ENTER
    assert room.found(place) == what


def test_a_directory_that_does_not_want_it() -> None:
    room = waiting()
    room.handle_timer(room.due)
    assert room.refused(NOW, 2.5) is False and room.due == NOW + 2.5
    assert room.handle_timer(NOW + 2.5) == MAKE
    assert room.refused(NOW) is True and room.state == OUT and room.due == NEVER
    assert room.connected(OTHER) == ENTER
    assert room.missing(NOW, rng()) == NOTHING and room.state == WAITING, "it is asked again"


def test_it_is_deleted_and_made_while_we_are_connected() -> None:
    room = Reconciler(HERE, ONE, away=False)
    assert room.deleted() == GONE and room.deleted() == NOTHING
    assert room.made_by_other(THERE) == TELL, "they may want to be by themselves"
    assert room.made_by_other(HERE) == ENTER
    assert room.found(HERE) == NOTHING and room.state == IN
    assert room.deleted() == GONE, "this is another time"


def test_it_is_deleted_just_when_we_are_back() -> None:
    """The news may come before the answer, and then what is deleted is not made again."""
    room = came_back(OTHER)
    assert room.deleted() == GONE
    assert room.missing(NOW, rng()) == NOTHING and room.state == OUT and room.due == NEVER
    room = waiting()
    room.handle_timer(room.due)
    assert room.deleted() == GONE
    assert room.made() == NOTHING and room.refused(NOW, 1.0) is False


def test_the_directory_is_lost_in_the_middle_of_it() -> None:
    room = waiting()
    room.lost()
    assert room.due == NEVER and room.deleted() == NOTHING
    assert room.made_by_other(HERE) == NOTHING
    assert room.connected(ONE) == ENTER
    assert room.found(HERE) == NOTHING


def test_a_room_entered_while_its_directory_was_away() -> None:
    room = Reconciler(HERE, ONE, away=True)
    assert room.state == AWAY
    assert room.connected(OTHER) == ENTER
    assert room.missing(NOW, rng()) == NOTHING and room.state == WAITING


def test_any_order_of_events_ends_well() -> None:
    """Whatever happens, a directory that has the room in the end is where we are in the end, and
    nothing is made while it is deleted or no directory is there."""
    draw = Random(11)
    for _ in range(3_000):
        room = Reconciler(HERE, ONE, away=draw.random() < 0.5)
        gone = False
        for _ in range(draw.randrange(20)):
            identity = draw.choice((ONE, OTHER, NONE))
            step = draw.randrange(8)
            if step == 0:
                room.lost()
            elif step == 1:
                room.connected(identity)
            elif step == 2:
                state = room.state
                room.found(draw.choice((HERE, THERE)))
                gone = gone and room.state == state
            elif step == 3:
                room.missing(NOW, draw)
            elif step == 4:
                acted = room.deleted()
                gone = gone or acted == GONE
            elif step == 5 and room.due < NEVER:
                assert room.handle_timer(room.due) == MAKE
                assert not gone
            elif step == 6 and draw.random() < 0.5:
                room.made()
            elif step == 6:
                room.refused(NOW, 1.0)
            else:
                room.made_by_other(draw.choice((HERE, THERE)))
            assert (room.due < NEVER) == (room.state == WAITING)
        assert room.connected(OTHER) == ENTER
        room.found(THERE)
        assert room.state == IN and room.due == NEVER
