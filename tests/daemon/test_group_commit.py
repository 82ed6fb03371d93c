"""A change is on the disk and answered, or it was never made: whoever asks for it, and wherever
the disk fails."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from evloop.base.errors import EvloopError
from evloop.daemon.console import ANSWERS, Console
from evloop.daemon.dispatcher import Dispatcher
from evloop.daemon.store import open_store
from evloop.framing import pack_frame
from tests.support.live import Caller, House


class FailingConnection:
    """sqlite's connection, whose statement number `at` fails as on a full disk: all of it undone.

    `how` "before": the statement did nothing. "after": it was done, and then the report came (an
    fsync that failed after the pages were written).
    """

    def __init__(self, real: sqlite3.Connection, at: int, what: type[Exception]) -> None:
        self.real = real
        self.left = at
        self.what = what
        self.failed: list[str] = []

    @property
    def in_transaction(self) -> bool:
        return self.real.in_transaction

    def execute(self, sql: str, values: tuple[object, ...] = ()) -> sqlite3.Cursor:
        self.left -= 1
        if self.left == 0:
            self.failed.append(sql)
            if self.real.in_transaction:
                self.real.execute("ROLLBACK")
            raise self.what("planted")
        return self.real.execute(sql, values)

    def close(self) -> None:
        self.real.close()


class Scene:
    """A server with the rooms `old` and `other`, a maker, a watcher, and a tick that is not over:
    the maker has just asked for the room `new`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.house = House("--state", str(path), "--expire", "100")
        self.maker, self.other = self.house.caller(), self.house.caller()
        for name in ("old", "other"):
            assert "result" in self.house.call(self.maker, "makeroom", name=name)
        self.house.call(self.other, "watch")
        self.dispatcher = self.house.dispatcher
        self.store: Any = self.dispatcher.store
        self.batch_ids: list[int] = []

    def begin(self, at: int, what: type[Exception]) -> FailingConnection:
        failing = FailingConnection(self.store.connection, at, what)
        self.store.connection = failing
        self.number = self.maker.ask("makeroom", name="new")
        handled = self.dispatcher.handled
        self.house.until(lambda: self.dispatcher.handled > handled)
        return failing

    def truth(self) -> tuple[int, list[str]]:
        """What a copy of the files holds now, as after a crash."""
        copy = self.path.parent / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir()
        for file in self.path.parent.glob("directory.db*"):
            if not file.name.endswith("-shm"):
                shutil.copy(file, copy / file.name)
        store = open_store(str(copy / "directory.db"))
        try:
            version, rooms = store.load()
        finally:
            store.close()
        return version, sorted(room.name for room in rooms)

    def close(self) -> None:
        self.house.close()


def by_request(scene: Scene) -> None:
    scene.number_2 = scene.other.ask("deleteroom", name="old")  # type: ignore[attr-defined]
    handled = scene.dispatcher.handled
    scene.house.until(lambda: scene.dispatcher.handled > handled)


def by_batch(scene: Scene) -> None:
    members = [
        {"jsonrpc": "2.0", "id": 801, "method": "deleteroom", "params": {"name": "old"}},
        {"jsonrpc": "2.0", "id": 802, "method": "makeroom", "params": {"name": "second"}},
    ]
    import json

    scene.other.send(pack_frame(json.dumps(members).encode()))
    handled = scene.dispatcher.handled
    scene.house.until(lambda: scene.dispatcher.handled > handled)


def console_of(dispatcher: Dispatcher) -> Console:
    """What answers typed lines, without the terminal that they are typed at."""
    console = Console.__new__(Console)
    console.dispatcher = dispatcher
    console.answers = ANSWERS
    return console


def by_console(scene: Scene) -> None:
    console = console_of(scene.dispatcher)
    scene.said = console.answer("deleteroom old")  # type: ignore[attr-defined]


def by_expiry(scene: Scene) -> None:
    try:
        scene.dispatcher.delete_room("old", None)
    except EvloopError:
        pass


def by_expiry_sweep(scene: Scene) -> None:
    room = scene.dispatcher.directory.find("other")
    scene.dispatcher.note_seen(100.0, {room: 50.0})


def by_nobody(scene: Scene) -> None:
    """The request of the maker alone."""


CALLERS = [by_nobody, by_request, by_batch, by_console, by_expiry, by_expiry_sweep]


@pytest.fixture
def scenes(tmp_path: Path) -> Iterator[Callable[[], Scene]]:
    made: list[Scene] = []

    def build() -> Scene:
        folder = tmp_path / f"s{len(made)}"
        folder.mkdir()
        made.append(Scene(folder / "directory.db"))
        return made[-1]

    yield build
    for scene in made:
        scene.close()


@pytest.mark.parametrize("what", [sqlite3.OperationalError, OverflowError, UnicodeDecodeError])
@pytest.mark.parametrize("caller", CALLERS, ids=lambda one: one.__name__)
def test_a_failure_at_each_statement_by_each_caller(
    caller: Callable[[Scene], None], what: type[Exception], scenes: Callable[[], Scene]
) -> None:
    if what is UnicodeDecodeError:

        class Foreign(ValueError):
            pass

        what = Foreign
    for at in range(1, 40):
        scene = scenes()
        failing = scene.begin(at, what)
        caller(scene)
        scene.house.tick(8)
        scene.store.connection = failing.real
        memory = scene.dispatcher.directory
        names = sorted(room.name for room in memory.rooms())
        assert not memory.provisional
        assert scene.truth() == (memory.version, names), f"at {at}: {failing.failed}"
        check_replies(scene, names, at)
        check_news(scene, names)
        after = scene.house.call(scene.maker, "makeroom", name="afterwards")
        assert "result" in after, "the server goes on"
        scene.house.tick(8)
        assert "afterwards" in scene.truth()[1]
        if not failing.failed:
            assert at > 3, "the statements of a change were tried"
            return
    raise AssertionError("there are fewer statements than that")


def outcomes(caller: Caller) -> dict[int, bool]:
    """By id of a request, whether it was answered by a result."""
    caller.read()
    found: dict[int, bool] = {}
    for message in caller.got:
        for one in message if isinstance(message, list) else [message]:
            if one.get("id") is not None:
                found[one["id"]] = "result" in one
    return found


def check_replies(scene: Scene, names: list[str], at: int) -> None:
    scene.house.until(lambda: scene.maker.reply(scene.number))
    assert outcomes(scene.maker)[scene.number] == ("new" in names), f"at {at}"
    said = outcomes(scene.other)
    if hasattr(scene, "number_2"):
        assert said[scene.number_2] == ("old" not in names)
    if 801 in said:
        assert said[801] == ("old" not in names)
        assert said[802] == ("second" in names)
    if hasattr(scene, "said"):
        assert (scene.said == ["deleted room old"]) == ("old" not in names)


def check_news(scene: Scene, names: list[str]) -> None:
    """Who watches has been told what is so, and nothing else."""
    held = {"old", "other"}
    scene.other.read()
    for message in scene.other.got:
        if isinstance(message, dict) and message.get("method") == "room_made":
            held.add(message["params"]["room"]["name"])
        elif isinstance(message, dict) and message.get("method") == "room_deleted":
            held.discard(message["params"]["room"]["name"])
    assert sorted(held) == names


def test_the_tick_of_a_refused_deletion_loses_nothing(tmp_path: Path) -> None:
    """As it was found: the client was told version 3 of `new`, the disk had none of it."""
    scene = Scene(tmp_path / "directory.db")
    try:
        failing = scene.begin(3 + 1, sqlite3.OperationalError)  # BEGIN, INSERT, then our DELETE
        failing.left = 1
        by_console(scene)
        scene.store.connection = failing.real
        scene.house.tick(8)
        reply = scene.house.until(lambda: scene.maker.reply(scene.number))
        assert reply["error"]["data"]["reason"] == "storage_failed"
        assert scene.truth()[1] == ["old", "other"]
    finally:
        scene.close()


def test_who_changed_what_is_logged_once_it_is_kept(tmp_path: Path) -> None:
    house = House("--state", str(tmp_path / "directory.db"), "--delete", "owner")
    try:
        maker, other = house.caller(), house.caller()
        house.call(maker, "hello", client="test/1", name="Mel")
        made = house.call(maker, "makeroom", name="lab")["result"]
        house.call(other, "deleteroom", name="lab")
        house.call(other, "deleteroom", name="lab", token="00" * 16)
        house.call(maker, "deleteroom", name="lab", token=made["token"])
        lines = [line for line in house.lines if "room=lab" in line]
        peer = f"peer=127.0.0.1:{maker.sock.getsockname()[1]}"
        stranger = f"peer=127.0.0.1:{other.sock.getsockname()[1]}"
        place = f"place={made['room']['address']}:{made['room']['port']}"
        assert lines[0] == f"<5>a room was made room=lab {place} {peer} user=Mel token=given"
        assert lines[1].startswith(f"<5>a deletion was refused room=lab {stranger} token=none why=")
        assert lines[2].startswith(f"<5>a deletion was refused room=lab {stranger} token=shown")
        assert lines[3] == f"<5>a room was deleted room=lab {peer} user=Mel token=shown"
        assert made["token"] not in "".join(house.lines)
    finally:
        house.close()


def test_what_the_operator_does_is_logged(tmp_path: Path) -> None:
    house = House("--state", str(tmp_path / "directory.db"))
    try:
        caller = house.caller()
        house.call(caller, "makeroom", name="lab")
        console = console_of(house.dispatcher)
        assert console.answer("deleteroom lab") == ["deleted room lab"]
        assert '<5>a room was deleted room=lab by="the console"' in house.lines
        (number,) = house.dispatcher.connections
        console.answer(f"kick {number}")
        peer = f"127.0.0.1:{caller.sock.getsockname()[1]}"
        assert f'<5>kicked peer={peer} by="the console"' in house.lines
        house.until(caller.read)
        goodbye = caller.got[-1]["params"]
        assert goodbye == {"reason": "the operator closed this connection", "final": True}
    finally:
        house.close()


def test_a_refused_change_is_not_logged_as_made(tmp_path: Path) -> None:
    scene = Scene(tmp_path / "directory.db")
    try:
        failing = scene.begin(3, sqlite3.OperationalError)
        scene.house.tick(8)
        assert failing.failed
        assert not any("room=new" in line for line in scene.house.lines)
    finally:
        scene.close()
