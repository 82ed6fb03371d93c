"""A bug of ours, planted: who asked is told and let go, all others lose nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from evloop.daemon import dispatcher
from evloop.daemon.server import guard_handlers
from evloop.directory.registry import Directory
from tests.support.live import House, request


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House("--state", str(tmp_path / "directory.db"))
    guard_handlers(house.loop, house.server.log, False)
    yield house
    house.close()


def test_a_fault_in_a_handler_is_answered(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> bytes:
        raise ZeroDivisionError("planted")

    monkeypatch.setitem(dispatcher.HANDLERS, "leave", broken)
    honest, unlucky = house.caller(), house.caller()
    house.call(honest, "ping")
    unlucky.send(request("ping", 1, {}) + request("leave", 2, {"name": "a"}))
    unlucky.send(request("ping", 3, {}))
    house.until(lambda: unlucky.read() or unlucky.closed)
    assert [reply["id"] for reply in unlucky.got] == [1, 2]
    assert unlucky.got[1]["error"]["code"] == -32603
    assert not unlucky.reset
    assert house.call(honest, "ping")["result"] == {}
    assert any("internal error" in line and "planted" in line for line in house.lines)
    assert house.call(honest, "stats")["result"]["rejects"] == {"internal_error": 1}


def test_half_a_change_is_undone(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    add = Directory.add

    def broken(directory: Directory, room: Any) -> bytes:
        if room.name == "half":
            raise ZeroDivisionError("planted")
        return add(directory, room)

    monkeypatch.setattr(Directory, "add", broken)
    honest, unlucky = house.caller(), house.caller()
    assert "result" in house.call(honest, "makeroom", name="before")
    first = house.call(honest, "getdir")["result"]
    unlucky.send(
        request("makeroom", 1, {"name": "same"}) + request("makeroom", 2, {"name": "half"})
    )
    house.until(lambda: unlucky.read() or unlucky.closed)
    assert [reply["error"]["code"] for reply in unlucky.got] == [7, -32603]
    assert house.call(honest, "getdir")["result"] == first
    assert "result" in house.call(honest, "makeroom", name="after")
    version, rooms = house.dispatcher.store.load()
    assert sorted(room.name for room in rooms) == ["after", "before"]
    assert version == house.dispatcher.directory.version
