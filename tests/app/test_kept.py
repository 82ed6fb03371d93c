"""What the directory keeps of the user's room: said, fetched, and its keeper that is no company."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from evloop.base.errors import BadMessage, Refused
from evloop.directory.client import READY, Unreachable
from evloop.directory.relay_frames import history_frames
from evloop.framing import FrameDecoder
from evloop.room.events import Joined, Left
from tests.support.chats import BOB, World

KEEPER, OTHER = b"kkkkkkkk", b"KKKKKKKK"
SENTENCE = "-- the directory keeps what is said here for 30 days --"


def entered(keeper: bytes | None = KEEPER, **more: Any) -> dict[str, Any]:
    """A result of enter."""
    kept = {} if keeper is None else {"keeper": keeper.hex(), "keep_days": 30}
    return {"room": {}, "handle": 7, **kept, **more}


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.loop.close()


def test_it_is_said_on_entering_behind_the_first_line(world: World) -> None:
    chat = world.enter()
    chat.kept.told(entered())
    assert world.frontend.notes == []
    world.wait(1.0)
    assert world.frontend.notes[1] == SENTENCE
    chat.kept.told(entered())  # again: nothing new
    chat.kept.told(entered(OTHER))  # the directory was started again
    assert world.frontend.notes.count(SENTENCE) == 1
    chat.kept.told(entered(None))
    assert world.frontend.notes[-1] == "-- the directory keeps no longer what is said here --"
    chat.kept.told(entered(None))
    chat.kept.told(entered())
    assert world.frontend.notes[-1] == SENTENCE


@pytest.mark.parametrize(
    ("days", "words"),
    [
        (30, "for 30 days --"), (1, "for 1 day --"), (0.5, "for 0.5 days --"), (0, "here --"),
        (-1, "here --"), ("x", "here --"), (None, "here --"), (10**9, "here --"),
    ],
)  # fmt: skip
def test_for_how_long(world: World, days: object, words: str) -> None:
    chat = world.enter()
    chat.kept.told(entered(keep_days=days))
    world.wait(1.0)
    assert world.frontend.notes[1].endswith(words)


@pytest.mark.parametrize("keeper", ["", "0" * 16, "K" * 16, 5, "ab"])
def test_a_keeper_that_is_none_is_a_bad_message(world: World, keeper: object) -> None:
    with pytest.raises(BadMessage):
        world.enter().kept.told({**entered(None), "keeper": keeper})


def test_the_keeper_is_no_company(world: World) -> None:
    chat = world.enter()
    chat.kept.told(entered())
    world.wait(1.0)
    chat.events([Joined("joined", KEEPER, "keeper"), Left("left", KEEPER, "keeper", "silent")])
    assert not chat.view.heard
    assert not any("keeper" in note for note in world.frontend.notes[2:])
    chat.events([Joined("joined", BOB, "Bob")])
    assert chat.view.heard


def test_the_keeper_is_no_company_for_scripts(world: World) -> None:
    chat = world.enter(terminal=False, as_json=True)
    chat.kept.told(entered())
    chat.events([Joined("joined", KEEPER, "keeper"), Joined("joined", BOB, "Bob")])
    assert [line for line in world.frontend.lines if "joined" in line and "keeper" in line] == []
    assert any('"Bob"' in line for line in world.frontend.lines)


def page(world: World, handle: int, *datagrams: bytes) -> None:
    """Frames of the directory, as they come on the wire."""
    decoder = FrameDecoder()
    for frame in history_frames(handle, [(5, one) for one in datagrams]):
        decoder.feed(frame)
    while (payload := decoder.next_frame()) is not None:
        world.kept_by.on_history(payload)


def test_pages_are_fetched_until_there_are_enough(world: World) -> None:
    kept = world.enter().kept
    got: list[Any] = []
    world.kept_by.state = READY
    assert not kept.fetch(900, lambda *what: got.append(what))  # nothing is kept, as far as we know
    kept.told(entered())
    assert kept.fetch(900, lambda *what: got.append(what))
    assert not kept.fetch(9, lambda *what: got.append(what))  # one at a time
    method, params, done = world.kept_by.asked.pop()
    assert (method, params) == ("history", {"name": "lab", "limit": 500})
    page(world, 7, *[b"%d" % number for number in range(500)])
    page(world, 8, b"of another room")
    done({"count": 500, "next": 41}, None)
    method, params, done = world.kept_by.asked.pop()
    assert params == {"name": "lab", "limit": 400, "before": 41}
    page(world, 7, b"older")
    assert got == []
    done({"count": 1, "next": None}, None)
    ((datagrams, error),) = got
    assert len(datagrams) == 501 and error is None
    world.kept_by.on_history(b"\xf5H\0\0\0\7junk")  # unasked: nobody takes it
    assert kept.fetch(9, lambda *what: got.append(what))


def test_a_directory_that_never_ends_is_left_alone(world: World) -> None:
    kept = world.enter().kept
    kept.told(entered())
    world.kept_by.state = READY
    got: list[Any] = []
    kept.fetch(10**6, lambda *what: got.append(what))
    for number in range(100):
        if not world.kept_by.asked:
            break
        _, _, done = world.kept_by.asked.pop()
        page(world, 7, *[b"x"] * 9_000)  # more than was asked for
        done({"count": 500, "next": 10**6 - number}, None)
    assert len(got[0][0]) == 10_000
    assert not world.kept_by.asked
    kept.fetch(5, lambda *what: got.append(what))
    _, _, done = world.kept_by.asked.pop()
    done({"count": 500, "next": 7}, None)  # without any: it would go on for ever
    assert got[1] == ([], None)


def test_history_says_what_is_held_when_the_directory_refuses(world: World) -> None:
    chat = world.enter()
    chat.kept.told(entered())
    world.wait(1.0)
    world.kept_by.state = READY
    chat.line("/history 500")
    _, params, done = world.kept_by.asked.pop()
    assert params["limit"] == 500
    done(None, Refused(4, "not_kept", "what is said in lab is not kept"))
    tail = world.frontend.notes[-3:]
    assert "what is said in lab is not kept" in tail[0]
    assert tail[1:] == ["-- the last 0 messages --", "-- end of history --"]
    chat.line("/history 500")
    _, _, done = world.kept_by.asked.pop()
    chat.leave()
    before = list(world.frontend.notes)
    done(None, Unreachable("gone"))
    assert world.frontend.notes == before  # the room was left


def test_nobody_is_asked_when_enough_is_held(world: World) -> None:
    chat = world.enter()
    chat.kept.told(entered())
    world.kept_by.state = READY
    chat.line("/history 0")
    assert world.kept_by.asked == []
