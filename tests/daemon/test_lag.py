"""No tick takes long: what comes at once is done in pieces. Counted, not timed."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator

import pytest

from evloop.daemon import expiry, server
from evloop.daemon.expiry import Expiry
from evloop.daemon.limits import LEAVES_PER_END
from evloop.directory.limits import ROOMS_ENTERED_MAX
from evloop.directory.protocol import RoomEntry
from evloop.net.limits import ENDS_PER_TICK
from evloop.net.stream import OPEN
from tests.support.live import Caller, House

UNCAPPED = ("--max-per-address", "0", "--change-rate", "0", "--rooms-per-address", "0")


@pytest.fixture
def house() -> Iterator[House]:
    made = House(*UNCAPPED)
    yield made
    made.close()


def crowd(house: House, size: int) -> list[Caller]:
    callers = [house.caller() for _ in range(size)]
    for caller in callers:
        house.call(caller, "ping")
    return callers


def test_a_start_is_no_tick() -> None:
    house = House()
    try:
        house.skipped += 100.0  # rooms are loaded, say
        house.call(house.caller(), "ping")
        lag = house.server.metrics.figures()["lag"]
        assert isinstance(lag, dict)
        assert lag["ticks"] > 0 and lag["worst"] < 50.0
    finally:
        house.close()


def test_goodbyes_are_said_a_few_a_tick(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "SENDS_PER_TICK", 4)
    crowd(house, 10)
    connections = list(house.dispatcher.connections.values())
    house.server.drain("the end")
    left = []
    for _ in range(4):
        left.append(sum(connection.state == OPEN for connection in connections))
        house.tick()
    assert left == [6, 2, 0, 0]
    house.until(lambda: all(caller.read() for caller in house.callers))
    assert all(caller.got[-1]["method"] == "closing" for caller in house.callers)
    house.until(lambda: house.ended)


def test_who_leaves_many_rooms_counts_more(house: House) -> None:
    rooms = [f"r{number}" for number in range(ROOMS_ENTERED_MAX)]
    together = 2 * ENDS_PER_TICK // (1 + len(rooms) // LEAVES_PER_END)
    callers = crowd(house, together)
    for name in rooms:
        house.call(callers[0], "makeroom", name=name)
    for caller in callers:
        for name in rooms:
            caller.ask("enter", name=name)
    lab = house.dispatcher.directory.find(rooms[-1])
    house.until(lambda: house.dispatcher.directory.members(lab) == together)
    for connection in list(house.dispatcher.connections.values()):
        connection.abort("over")
    house.tick()
    assert together // 2 - 1 <= len(house.dispatcher.connections) <= together // 2
    house.tick(2)
    assert not house.dispatcher.connections
    assert house.dispatcher.directory.members(lab) == 0


def test_the_rooms_are_swept_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expiry, "EXPIRY_PIECE_ROOMS", 5)
    pieces: list[list[str]] = []
    look = Expiry.look

    def noting(
        expiry: Expiry, now: float, rooms: Iterable[RoomEntry], members: Callable[[RoomEntry], int]
    ) -> tuple[dict[RoomEntry, float], list[RoomEntry]]:
        found = list(rooms)
        pieces.append([room.name for room in found])
        return look(expiry, now, found, members)

    house = House(*UNCAPPED, "--expire", "0.001")  # 86.4 s
    try:
        caller = house.caller()
        names = [f"r{number}" for number in range(12)]
        for name in names:
            house.call(caller, "makeroom", name=name)
        house.skip(84.0)
        monkeypatch.setattr(Expiry, "look", noting)
        house.skipped += 10.0  # all are due
        house.tick()
        assert pieces == [names[:5]] and len(house.dispatcher.directory) == 7
        # Deleted before it is looked at, and made anew: another room, which is not to go.
        house.dispatcher.delete_room("r9", None)
        house.dispatcher.make_room("r9", None, None, "127.0.0.1", b"")
        house.tick(3)
        assert pieces[1:] == [names[5:9], names[10:]]
        assert [room.name for room in house.dispatcher.directory] == ["r9"]
    finally:
        house.close()


def test_old_objects_are_not_walked() -> None:
    before = gc.get_threshold()
    code = (
        "import gc; from evloop import server; from evloop.daemon import server as hosting\n"
        f"def no_loop(): raise SystemExit(gc.get_threshold() != {(*before[:2], 2**31 - 1)})\n"
        "hosting.Loop = no_loop\n"
        "server.main(['--memory'])"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
