"""What the client asks a directory about its room, and does with the answers; hostile ones too."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

import pytest

from evloop.app.chat import Chat
from evloop.app.limits import REMAKE_AGAIN_S_MAX, REMAKE_S
from evloop.app.presence import Presence
from evloop.base.errors import EvloopError, Refused, SetupError
from evloop.directory.client import IDLE, READY
from evloop.directory.protocol import RoomEntry
from tests.support.chats import World as ChatWorld

ONE, OTHER = "1" * 16, "2" * 16
HERE = ("239.255.7.1", 5751)


class Link:
    """A connection whose answers the test gives."""

    def __init__(self) -> None:
        self.state = READY
        self.identity = ONE
        self.asked: list[tuple[str, dict[str, Any], Any]] = []

    def request(self, method: str, params: dict[str, Any], done: Any) -> None:
        self.asked.append((method, params, done))

    def answer(self, method: str, value: object, error: EvloopError | None = None) -> None:
        """Answer the one question that is open."""
        ((asked, _, done),) = self.asked
        assert asked == method
        self.asked.clear()
        done(value, error)

    def refuse(self, method: str, reason: str, **data: Any) -> None:
        self.answer(method, None, Refused(1, reason, f"it is {reason}", data))


class World(ChatWorld):
    """Somebody in room lab, by a directory that was lost, and another that is there now."""

    def __init__(self) -> None:
        super().__init__()
        self.link = Link()
        self.moved: list[tuple[str, int]] = []
        self.made: list[object] = []
        self.broken = ""  # why no sockets can be had
        self.presence = Presence(
            self.loop,
            self.link,  # type: ignore[arg-type]
            lambda text: None,
            rng=lambda: Random(1),
            move=self._move,
            made=self.made.append,
        )

    def come_back(self) -> Chat:
        chat = self.enter()
        chat.line("/who")  # the first line is out of the way
        self.presence.entered(chat)
        self.presence.lost()
        self.link.state, self.link.identity = READY, OTHER
        self.presence.ready()
        self.frontend.notes.clear()
        return chat

    def _move(self, chat: object, address: str, port: int) -> None:
        if self.broken:
            raise SetupError(self.broken, 1)
        self.moved.append((address, port))

    def notes(self) -> str:
        return "\n".join(self.frontend.notes)


def room(address: str = HERE[0], port: int = HERE[1], mode: str = "reliable") -> dict[str, Any]:
    return {
        "room": {
            "name": "lab", "address": address, "port": port, "mode": mode, "members": 1, "made": 7,
        }
    }  # fmt: skip


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.loop.close()


def test_it_goes_where_the_room_is(world: World) -> None:
    world.come_back()
    world.link.answer("enter", room("239.255.8.2", 5752))
    assert world.moved == [("239.255.8.2", 5752)]
    assert world.notes() == "-- lab is now at 239.255.8.2:5752; the talk moves there --"


@pytest.mark.parametrize("address", ["10.0.0.1", "224.0.0.251", "localhost", "ff02::1", "239.1"])
def test_a_directory_cannot_send_the_talk_to_where_no_room_can_be(
    world: World, address: str
) -> None:
    world.come_back()
    world.link.answer("enter", room(address))
    assert world.moved == [] and "the talk moves" not in world.notes()
    assert "/leave, then chat lab follows" in world.notes()


def test_a_room_of_another_mode_is_another_room(world: World) -> None:
    world.come_back()
    world.link.answer("enter", room("239.255.8.2", mode="plain"))
    assert world.moved == [] and "/leave, then chat lab follows" in world.notes()


def test_where_no_sockets_can_be_had_the_talk_stays(world: World) -> None:
    world.broken = "cannot open 239.255.8.2:5752"
    world.come_back()
    world.link.answer("enter", room("239.255.8.2", 5752))
    assert "/leave, then chat lab follows" in world.notes()
    assert "-- cannot open 239.255.8.2:5752 --" in world.notes()
    world.broken = ""
    world.presence.ready()  # and the next directory is asked again
    world.link.answer("enter", room())
    assert world.moved == []


def test_a_room_that_is_unknown_is_made_again_at_its_place(world: World) -> None:
    world.come_back()
    world.link.refuse("enter", "no_such_room")
    assert world.link.asked == [], "not at once"
    world.wait(REMAKE_S)
    ((method, params, _),) = world.link.asked
    address, port = HERE
    assert method == "makeroom"
    assert params == {"name": "lab", "address": address, "port": port, "mode": "reliable"}
    world.link.answer("makeroom", {"version": 2, **room(), "token": "ab"})
    assert world.made == [{"version": 2, **room(), "token": "ab"}], "its token is kept"
    assert world.notes() == "-- made room lab again: 239.255.7.1:5751 --"
    world.link.answer("enter", room())
    world.wait(100)
    assert world.link.asked == []


def test_a_room_that_was_kept_is_made_again_to_be_kept(world: World) -> None:
    chat = world.come_back()
    chat.kept.told({"handle": 1, "room": {**room()["room"], "keep": True}})
    world.link.refuse("enter", "no_such_room")
    world.wait(REMAKE_S)
    ((_, params, _),) = world.link.asked
    assert params["keep"] is True
    world.link.answer("makeroom", {"version": 2, **room()})
    assert world.notes() == "-- made room lab again: 239.255.7.1:5751 --"


@pytest.mark.parametrize("reason", ["not_allowed", "unknown_member"])
def test_a_directory_that_keeps_nothing_gets_the_room_all_the_same(
    world: World, reason: str
) -> None:
    chat = world.come_back()
    chat.kept.told({"handle": 1, "room": {**room()["room"], "keep": True}})
    world.link.refuse("enter", "no_such_room")
    world.wait(REMAKE_S)
    world.link.refuse("makeroom", reason)
    ((method, params, _),) = world.link.asked
    assert method == "makeroom" and "keep" not in params
    world.link.refuse("makeroom", reason)  # if it was for another reason, that is the end
    world.wait(100)
    assert world.link.asked == []
    assert f"it is {reason}" in world.notes()


def test_what_another_has_made_at_the_same_moment_is_as_good(world: World) -> None:
    world.come_back()
    world.link.refuse("enter", "no_such_room")
    world.wait(REMAKE_S)
    world.link.refuse("makeroom", "room_exists")
    world.link.answer("enter", room())
    assert world.notes() == ""


@pytest.mark.parametrize("after", [1e308, 3_600, REMAKE_AGAIN_S_MAX])
def test_it_waits_as_long_as_it_is_asked_to_within_reason(world: World, after: float) -> None:
    world.come_back()
    world.link.refuse("enter", "no_such_room")
    world.wait(REMAKE_S)
    world.link.refuse("makeroom", "slow_down", retry_after=after)
    world.wait(REMAKE_AGAIN_S_MAX - 1)
    assert world.link.asked == []
    world.wait(1)
    assert [method for method, _, _ in world.link.asked] == ["makeroom"]


@pytest.mark.parametrize(
    "data", [{}, {"retry_after": -5}, {"retry_after": "soon"}, {"retry_after": None}]
)
def test_a_directory_that_refuses_is_not_asked_for_ever(world: World, data: Any) -> None:
    world.come_back()
    world.link.refuse("enter", "no_such_room")
    world.wait(REMAKE_S)
    world.link.refuse("makeroom", "directory_full", **data)
    world.wait(1_000)
    assert world.link.asked == []
    assert world.notes() == "-- lab was not made again: it is directory_full; the talk goes on --"


def test_a_refusal_for_another_reason_says_nothing_of_the_room(world: World) -> None:
    world.come_back()
    world.link.refuse("enter", "too_many_rooms")
    world.wait(1_000)
    assert world.link.asked == [] and world.notes() == ""


def test_answers_about_a_room_that_was_left_do_nothing(world: World) -> None:
    world.come_back()
    world.link.state = IDLE
    world.presence.left(world.chat)
    world.link.refuse("enter", "no_such_room")
    world.wait(1_000)
    assert world.link.asked == [] and world.moved == []


@pytest.mark.parametrize(
    ("mode", "again"),
    [
        ("sealed", "--mode sealed makes it again, with a new key --"),
        ("plain", "--mode plain makes it again --"),
    ],
)
def test_a_deleted_room_is_advised_to_be_made_again_as_it_was(
    world: World, mode: str, again: str
) -> None:
    """Not a sealed one as an open one: that would forget its key."""
    chat = world.come_back()
    world.link.answer("enter", room())
    chat.mode = mode
    world.presence.changed("room_deleted", RoomEntry("lab", *HERE))
    assert world.notes().endswith(f"makeroom lab 239.255.7.1 5751 {again}")


def test_what_others_do_before_our_eyes_is_told(world: World) -> None:
    world.come_back()
    world.link.answer("enter", room())
    entry = RoomEntry("LAB", *HERE)
    world.presence.changed("room_deleted", entry)
    assert world.notes() == (
        "-- lab was deleted; the talk goes on among who is here, newcomers cannot find it --\n"
        "-- at the prompt, makeroom lab 239.255.7.1 5751 makes it again --"
    )
    world.presence.changed("room_made", RoomEntry("lab", "239.255.8.2", 5752))
    assert "room lab was made anew at 239.255.8.2:5752" in world.notes() and world.moved == []
    world.presence.changed("room_made", entry)
    world.link.answer("enter", room())
    assert world.moved == []
