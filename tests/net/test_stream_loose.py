"""What is sent loosely, that nobody waits for: it never ends a stream; what is owed still does."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from evloop.framing import pack_frame
from evloop.net.limits import WRITE_PROGRESS_S
from evloop.net.stream import CLOSED, CLOSING, OPEN
from evloop.system.timers import NEVER
from tests.net.test_stream import World

PIECE = pack_frame(bytes(60_000))


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    world.peer.send(pack_frame(b"hello"))  # the first frame is awaited for a time of its own
    world.ticks()
    yield world
    world.peer.close()
    world.loop.close()


def _fill(world: World) -> None:
    """Send loosely until the kernel takes no more."""
    while not world.stream.queued:
        world.stream.send_loose(PIECE)
        world.ticks(1)


def _wait(world: World, seconds: float) -> None:
    while seconds > 0:
        world.time += min(seconds, 1.0)
        seconds -= 1.0
        world.ticks(2)


def test_loose_frames_arrive_in_their_place(world: World) -> None:
    world.stream.send(pack_frame(b"one"))
    world.stream.send_loose(pack_frame(b"two"))
    world.stream.send(pack_frame(b"three"))
    world.ticks()
    assert world.frames() == [b"one", b"two", b"three"]


def test_who_does_not_read_what_is_loose_is_kept(world: World) -> None:
    _fill(world)
    _wait(world, 10 * WRITE_PROGRESS_S)
    assert world.stream.state == OPEN
    assert len(world.hub.unsent) == 0


def test_since_when_a_peer_is_behind(world: World) -> None:
    assert world.stream.behind_since == NEVER
    _fill(world)
    since = world.time
    assert world.stream.behind_since == since
    _wait(world, 5)
    world.stream.send_loose(PIECE)
    world.peer.recv(200_000)
    world.ticks(1)
    assert world.stream.behind_since == since  # it took a part, not all
    while world.stream.queued:
        world.read()
        world.ticks(1)
    assert world.stream.behind_since == NEVER


def test_a_reply_behind_loose_frames_has_its_own_time(world: World) -> None:
    """All of it, though the peer has not read for long; then the stream is over."""
    _fill(world)
    _wait(world, 3 * WRITE_PROGRESS_S)
    world.stream.send(pack_frame(b"reply"))
    _wait(world, WRITE_PROGRESS_S - 1)
    assert world.stream.state == OPEN
    _wait(world, 3)
    assert world.stream.state == CLOSED


def test_loose_frames_behind_a_reply_change_nothing(world: World) -> None:
    while not world.stream.queued:
        world.stream.send(PIECE)
        world.ticks(1)
    for _ in range(3):
        _wait(world, WRITE_PROGRESS_S / 4)
        world.stream.send_loose(pack_frame(b"more"))
    _wait(world, WRITE_PROGRESS_S / 2)
    assert world.stream.state == CLOSED


def test_a_reply_that_was_read_is_owed_no_more(world: World) -> None:
    _fill(world)
    world.stream.send(pack_frame(b"reply"))
    while world.stream.queued:
        world.read()
        world.ticks(1)
    _fill(world)
    _wait(world, 3 * WRITE_PROGRESS_S)
    assert world.stream.state == OPEN


def test_a_stream_that_closes_waits_for_no_loose_frames(world: World) -> None:
    _fill(world)
    _wait(world, 3 * WRITE_PROGRESS_S)
    world.stream.close("enough")
    world.ticks(1)
    assert world.stream.state == CLOSING
    _wait(world, WRITE_PROGRESS_S + 2)
    assert world.stream.state == CLOSED
