"""The copy of a cluster's directory in a file: what it holds, and when it is lost."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from evloop.base.errors import CANT_CREATE, SetupError, StoreError
from evloop.daemon.cache import Cache, open_cache
from evloop.daemon.limits import CACHE_ROOMS_PER_TICK
from evloop.daemon.store import open_store
from evloop.directory.protocol import RoomEntry
from evloop.system.log import INFO, Log
from evloop.system.loop import Loop

IDENTITY = "00112233445566aa"


class Bench:
    """A cache on a loop whose clock stands until it is moved."""

    def __init__(self, path: Path) -> None:
        self.path, self.now = path, 0.0
        self.lines: list[str] = []
        self.loop = Loop(clock=lambda: self.now)
        self.log = Log(
            self.lines.append, level=INFO, journal=True, wall=lambda: 0.0, clock=lambda: 0.0
        )
        self.cache = open_cache(self.loop, self.log, str(path), True)
        self.cache.load()

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.loop.defer(lambda: None)
        self.loop.tick()

    def reopened(self) -> tuple[int, set[str], str]:
        """What another start finds: version, names, identity."""
        self.cache.close()
        store = open_store(str(self.path))
        version, rooms = store.load()
        identity = store.identity
        store.close()
        return version, {room.name for room in rooms}, identity


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    it = Bench(tmp_path / "copy.db")
    yield it
    it.cache.close()
    it.loop.close()


def room(name: str, number: int) -> RoomEntry:
    return RoomEntry(name, f"239.255.{1 + number // 256}.{number % 256}", 5000, made=1)


def test_changes_are_written_together_after_a_second(bench: Bench) -> None:
    cache, lab, hall = bench.cache, room("lab", 1), room("hall", 2)
    assert not cache.rooms_kept
    cache.replaced([], [lab], 5, IDENTITY)
    bench.wait(1.0)
    cache.insert(hall)
    cache.commit(6)
    cache.delete(hall)
    cache.commit(7)
    cache.delete(lab)
    cache.commit(8)
    cache.insert(again := room("lab", 3))
    cache.commit(9)
    bench.wait(0.5)
    bench.wait(1.0)
    assert bench.reopened() == (9, {"lab"}, IDENTITY)
    later = open_cache(bench.loop, bench.log, str(bench.path), True)
    _, (kept,) = later.load()
    assert (kept.address, later.rooms_kept, later.identity) == (again.address, True, IDENTITY)
    later.close()


def test_a_large_copy_is_written_in_pieces_and_is_of_one_version_at_any_moment(
    bench: Bench,
) -> None:
    rooms = [room(f"r{number}", number) for number in range(3 * CACHE_ROOMS_PER_TICK)]
    cache = bench.cache
    cache.replaced([], rooms, 5, IDENTITY)
    bench.wait(1.0)  # the first piece
    reader = sqlite3.connect(bench.path)
    count = "SELECT count(*) FROM rooms"
    assert reader.execute(count).fetchone() == (0,)  # another process sees none of them
    cache.delete(rooms[-1])  # not written yet
    cache.insert(room("late", 60_000))
    cache.commit(7)
    bench.wait(0.0)
    bench.wait(0.0)
    bench.wait(0.0)
    assert reader.execute(count).fetchone() == (len(rooms),)
    reader.close()
    assert bench.reopened() == (7, {*(one.name for one in rooms[:-1]), "late"}, IDENTITY)


def test_what_was_noted_is_written_at_a_clean_end(bench: Bench) -> None:
    bench.cache.replaced([], [room("lab", 1)], 5, IDENTITY)
    assert bench.reopened() == (5, {"lab"}, IDENTITY)


def test_a_copy_that_is_not_whole_is_not_kept(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The directory is not concerned: what the disk refuses is only a copy."""

    def refuse(*_: object) -> None:
        raise StoreError("full")

    bench.cache.replaced([], [room("lab", 1)], 5, IDENTITY)
    bench.wait(1.0)
    monkeypatch.setattr("evloop.daemon.store.Store.insert", refuse)
    bench.cache.insert(room("hall", 2))
    bench.cache.commit(6)
    bench.wait(1.0)
    assert any("not kept any more" in line for line in bench.lines)
    monkeypatch.undo()
    bench.cache.insert(room("zoo", 3))
    bench.cache.commit(7)
    bench.wait(1.0)
    assert bench.reopened() == (5, {"lab"}, IDENTITY)


def test_a_named_copy_must_be_usable_and_the_default_one_need_not(bench: Bench) -> None:
    folder = str(bench.path.parent)
    with pytest.raises(SetupError) as named:
        open_cache(bench.loop, bench.log, folder, True)
    assert named.value.exit_status == CANT_CREATE
    without = open_cache(bench.loop, bench.log, folder, False)
    assert without.load() == (0, [])
    assert any("no copy of the directory" in line for line in bench.lines)
    none = Cache(bench.loop, bench.log, None)
    none.insert(room("lab", 1))
    none.commit(3)
    none.close()
