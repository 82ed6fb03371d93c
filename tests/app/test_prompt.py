"""The commands of the prompt against a directory of the test's own, which answers when it is told.

What matters here is the order of things: what is asked, and what becomes of the answers.
"""

from __future__ import annotations

from typing import Any

import pytest

from evloop.app.commands import parse_line
from evloop.app.limits import ROOMS_KNOWN_MAX
from evloop.app.prompt import Prompt
from evloop.base.errors import EvloopError, Refused, SetupError
from evloop.directory.client import IDLE, READY, WAITING
from evloop.directory.protocol import RoomEntry
from tests.support.chats import Frontend


def room(name: str = "lab", **changes: Any) -> dict[str, Any]:
    fields = {"name": name, "address": "239.255.7.1", "port": 5751, "mode": "reliable"}
    return {**fields, "made": 0, "members": 1, **changes}


class Link:
    """A connection to a directory; `rooms` is its list, `asked` what it was asked for."""

    def __init__(self) -> None:
        self.state = READY
        self.endpoint = "127.0.0.1:44444"
        self.rooms: dict[str, dict[str, Any]] = {}
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.page = 2

    def request(self, method: str, params: dict[str, Any], done: Any) -> None:
        self.asked.append((method, params))
        if method == "getdir":
            names = sorted(name for name in self.rooms if name > params.get("after", ""))
            page = [self.rooms[name] for name in names[: self.page]]
            following = {"next": page[-1]["name"]} if len(names) > self.page else {}
            done({"version": 1, "rooms": page, **following}, None)
        elif params.get("name") not in self.rooms:
            done(None, Refused(1, "no_such_room", f"there is no room {params.get('name')}"))
        elif method == "deleteroom":
            done({"version": 2, "room": self.rooms.pop(params["name"])}, None)
        else:
            done({"room": self.rooms[params["name"]]}, None)

    def close(self) -> None:
        self.state = IDLE

    def methods(self) -> list[str]:
        return [method for method, _ in self.asked]


class Trust:
    def tokens(self, endpoint: str, name: str) -> list[str]:
        """None is known."""
        return []


class Reaching:
    """No room is sealed here."""

    alone = keys_matter = False

    @staticmethod
    def key_of(entry: RoomEntry, mode: str | None, go: Any, failed: Any) -> None:
        go(None)

    @staticmethod
    def likely_mode(place: str) -> str:
        return "reliable"


class World:
    def __init__(self, *, terminal: bool = True) -> None:
        self.frontend = Frontend(terminal)
        self.link = Link()
        self.opened: list[tuple[RoomEntry, int]] = []
        self.changes: list[tuple[str, str]] = []
        self.fail: EvloopError | None = None
        self.prompt = Prompt(
            self.frontend,
            self.link,  # type: ignore[arg-type]
            nickname="Mel",
            reach=Reaching(),  # type: ignore[arg-type]
            as_json=False,
            trust=Trust,  # type: ignore[arg-type]
            open_room=self._open,
            on_quit=lambda: None,
            on_change=lambda method, room: self.changes.append((method, room.name)),
            on_renamed=lambda name: None,
            on_invite=lambda: self.frontend.show("  come here"),
        )

    def _open(self, entry: RoomEntry, counted: int, secret: bytes | None, done: Any) -> None:
        if self.fail is not None:
            raise self.fail
        self.opened.append((entry, counted))
        done(None)

    def run(self, line: str) -> EvloopError | None:
        """Type `line`; how it ended, exactly once."""
        parsed = parse_line("prompt", line)
        assert parsed is not None
        command, arguments, options = parsed
        ended: list[EvloopError | None] = []
        try:
            self.prompt.run(command.word, arguments, options, ended.append)
        except EvloopError as failure:
            ended.append(failure)
        (error,) = ended
        return error

    def places(self) -> list[tuple[str, str, int]]:
        return [(entry.name, entry.mode, counted) for entry, counted in self.opened]


# -- entering --------------------------------------------------------------------------------------


def test_a_room_that_fails_to_open_does_not_count_us() -> None:
    world = World()
    world.link.rooms["lab"] = room()
    world.fail = SetupError("no such interface", 1)
    assert str(world.run("chat lab")) == "no such interface"
    assert world.link.asked[-1] == ("leave", {"name": "lab"})
    world.link.rooms["lab"] = room(address="192.0.2.1")  # no group: refused before it is opened
    assert isinstance(world.run("chat lab"), Refused)
    assert world.link.methods() == ["enter", "leave"] * 2


def test_a_room_is_entered_again_while_the_directory_is_away() -> None:
    world = World()
    world.link.rooms["Lab"] = room("Lab", mode="plain")
    assert world.run("chat Lab") is None
    world.link.state = WAITING
    assert world.run("chat lab") is None
    assert world.places() == [("Lab", "plain", 1), ("Lab", "plain", 1)]
    assert world.link.methods() == ["enter"]
    assert "is away" in str(world.run("chat other"))
    assert world.run("bye") is None
    assert "not connected" in str(world.run("chat lab"))


def test_nobody_is_asked_for_a_passphrase_without_a_directory() -> None:
    """`Reaching` has no keys: whoever would ask for one fails."""
    world = World()
    for state, why in ((IDLE, "not connected"), (WAITING, "is away")):
        world.link.state = state
        assert why in str(world.run("makeroom lab --passphrase"))


@pytest.mark.parametrize("learned", [False, True])
def test_the_mode_of_a_place_is_looked_up(learned: bool) -> None:
    world = World()
    for n in range(9):
        world.link.rooms[f"r{n}"] = room(
            f"r{n}", port=6000 + n, mode="plain" if n == 3 else "reliable"
        )
    if learned:
        world.prompt.learn_rooms()
    asked = len(world.link.asked)
    for line in ("chat 239.255.7.1:6003", "chat 239.255.7.1:6004", "chat 239.255.7.1:7000"):
        assert world.run(line) is None
    assert world.run("chat 239.255.7.1:6003 --mode reliable") is None
    assert [mode for _, mode, _ in world.places()] == ["plain", "reliable", "reliable", "reliable"]
    assert all(counted == 0 for _, _, counted in world.places())
    assert len(world.link.asked) - asked == (0 if learned else 2 + 3 + 5)
    world.link.state = IDLE
    world.prompt.forget_rooms()
    assert world.run("chat 239.255.7.1:6003") is None
    assert world.places()[-1] == ("239.255.7.1:6003", "reliable", 0)


# -- what is known of the rooms --------------------------------------------------------------------


def test_rooms_are_known_and_follow_the_notifications() -> None:
    world = World()
    for name in ("a", "b", "c", "d", "e"):
        world.link.rooms[name] = room(name)
    told: list[Any] = []
    world.prompt.await_rooms(lambda count, error: told.append((count, error)))
    world.prompt.learn_rooms()
    assert told == [(5, None)] and sorted(world.prompt.rooms) == ["a", "b", "c", "d", "e"]
    world.prompt.news("room_deleted", {"version": 2, "room": room("b")})
    world.prompt.news("room_made", {"version": 3, "room": room("F")})
    assert sorted(world.prompt.rooms) == ["a", "c", "d", "e", "f"]
    assert world.changes == [("room_deleted", "b"), ("room_made", "F")]
    world.link.rooms = {"z": room("z")}
    world.prompt.learn_rooms()  # as after a reconnect
    assert list(world.prompt.rooms) == ["z"]


def test_a_room_deleted_while_the_list_is_read_is_not_known() -> None:
    world = World()
    for name in ("a", "b", "c"):
        world.link.rooms[name] = room(name)
    true_request = world.link.request

    def request(method: str, params: dict[str, Any], done: Any) -> None:
        if params.get("after") == "b":
            world.prompt.news("room_deleted", {"version": 2, "room": room("a")})
        true_request(method, params, done)

    world.link.request = request  # type: ignore[method-assign]
    world.prompt.learn_rooms()
    assert sorted(world.prompt.rooms) == ["b", "c"]


def test_only_so_many_rooms_are_known() -> None:
    world = World()
    world.link.page = 5_000
    world.link.rooms = {f"r{n:06}": room(f"r{n:06}") for n in range(ROOMS_KNOWN_MAX + 10_000)}
    world.prompt.learn_rooms()
    assert len(world.prompt.rooms) == ROOMS_KNOWN_MAX and not world.prompt.all_known
    world.prompt.news("room_made", {"version": 2, "room": room("more")})
    assert len(world.prompt.rooms) == ROOMS_KNOWN_MAX
    assert len(world.link.asked) == ROOMS_KNOWN_MAX // 5_000


# -- deleting --------------------------------------------------------------------------------------


def test_a_room_that_others_are_in_is_deleted_only_when_asked_twice() -> None:
    world = World()
    world.link.rooms["lab"] = room(members=3)
    assert "2 others are in it; deleteroom lab again" in str(world.run("deleteroom lab"))
    assert world.link.methods() == ["enter", "leave"] and "lab" in world.link.rooms
    assert world.run("deleteroom LAB".lower()) is None
    assert world.link.rooms == {} and world.frontend.lines == ["deleted room lab"]


def test_another_command_between_is_no_second_word() -> None:
    world = World()
    world.link.rooms["lab"] = room(members=2)
    assert "1 other is in it" in str(world.run("deleteroom lab"))
    assert world.run("name") is None
    assert "1 other is in it" in str(world.run("deleteroom lab"))
    assert "lab" in world.link.rooms


@pytest.mark.parametrize("members", [0, 1])
def test_an_empty_room_is_deleted_at_once(members: int) -> None:
    world = World()
    world.link.rooms["lab"] = room(members=members)
    assert world.run("deleteroom lab") is None and world.link.rooms == {}


def test_yes_and_scripts_are_not_asked() -> None:
    for world, line in (
        (World(), "deleteroom lab --yes"),
        (World(terminal=False), "deleteroom lab"),
    ):
        world.link.rooms["lab"] = room(members=3)
        assert world.run(line) is None and world.link.methods() == ["deleteroom"]


def test_a_room_that_is_not_there_is_refused_either_way() -> None:
    world = World()
    for line in ("deleteroom lab", "deleteroom lab --yes"):
        assert isinstance(world.run(line), Refused)
