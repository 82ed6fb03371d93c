"""The durable store on real files: what is committed is there, what failed is not, and why not."""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from evloop.base.errors import SetupError, StoreError
from evloop.daemon import state_file
from evloop.daemon.store import (
    MemoryStore,
    Store,
    open_store,
)
from evloop.directory.protocol import RoomEntry
from tests.support.disks import small_disk_at

ROOT = os.geteuid() == 0
needs_root = pytest.mark.skipif(not ROOT, reason="mounts a file system: needs root")


def room(name: str, number: int = 0, token: bytes = b"") -> RoomEntry:
    return RoomEntry(
        name,
        f"239.1.{number // 256}.{number % 256}",
        5000 + number % 60_000,
        "plain",
        17,
        "192.0.2.1",
        token,
    )


def held(path: Path) -> tuple[int, dict[str, tuple[object, ...]]]:
    """What a server that starts now would find."""
    store = open_store(str(path))
    try:
        version, rooms = store.load()
    finally:
        store.close()
    return version, {one.name: columns(one) for one in rooms}


def columns(one: RoomEntry) -> tuple[object, ...]:
    return one.name, one.address, one.port, one.mode, one.made, one.maker, one.token


def named(*rooms: RoomEntry) -> dict[str, tuple[object, ...]]:
    return {one.name: columns(one) for one in rooms}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "evloop" / "directory.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    opened = open_store(str(path))
    yield opened
    opened.close()


def setup_error(path: Path | str) -> str:
    with pytest.raises(SetupError) as caught:
        open_store(str(path)).close()
    assert caught.value.exit_status == 73
    assert "\n" not in caught.value.sentence
    assert "[Errno" not in caught.value.sentence
    return caught.value.sentence


# -- keeping ---------------------------------------------------------------------------------------


def test_a_new_file_is_empty_and_private(store: Store, path: Path) -> None:
    assert store.load() == (0, [])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(Path(f"{path}-wal").stat().st_mode) == 0o600
    assert stat.S_IMODE(Path(f"{path}-shm").stat().st_mode) == 0o600
    for directory in (path.parent, path.parent.parent):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_the_settings_that_the_promise_rests_on(store: Store) -> None:
    asked = {
        pragma: store.connection.execute(f"PRAGMA {pragma}").fetchone()[0]
        for pragma in ("journal_mode", "synchronous", "locking_mode", "busy_timeout")
    }
    assert asked == {
        "journal_mode": "wal",
        "synchronous": 2,
        "locking_mode": "normal",
        "busy_timeout": 0,
    }


def test_what_was_committed_is_there_and_nothing_else(store: Store, path: Path) -> None:
    lab, zoo, bar = room("lab", 1, b"\x00\xff" * 16), room("zoo", 2), room("b\"a\\r'😀", 3)
    for one in (lab, zoo, bar):
        store.insert(one)
    store.commit(3)
    store.delete(zoo)
    store.commit(4)
    store.insert(room("never", 4))
    store.rollback()
    store.delete(lab)  # is not committed when the store is closed
    store.close()
    assert held(path) == (4, named(lab, bar))


def test_a_name_can_be_used_again_in_one_transaction(store: Store, path: Path) -> None:
    store.insert(room("lab", 1))
    store.delete(room("lab", 1))
    store.insert(room("lab", 2))
    store.commit(3)
    store.close()
    assert held(path) == (3, named(room("lab", 2)))


def test_an_empty_commit_costs_nothing(store: Store, path: Path) -> None:
    before = Path(f"{path}-wal").stat()
    store.commit(9)
    store.rollback()
    after = Path(f"{path}-wal").stat()
    assert (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)
    assert store.load()[0] == 0


def test_a_commit_is_in_the_file_before_it_returns(store: Store, path: Path) -> None:
    """Read by a copy of the files, as after a crash: nothing may depend on our own memory."""
    store.insert(room("lab"))
    store.commit(1)
    store.insert(room("half"))
    copy = path.parent / "copy.db"
    copy.write_bytes(path.read_bytes())
    Path(f"{copy}-wal").write_bytes(Path(f"{path}-wal").read_bytes())
    assert held(copy) == (1, named(room("lab")))


def test_new_directories_are_on_the_disk_too(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []

    def fsync(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))

    monkeypatch.setattr(os, "fsync", fsync)
    open_store(str(path)).close()
    assert synced == [str(path.parents[2]), str(path.parents[1])]
    open_store(str(path)).close()
    assert len(synced) == 2


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["insert", "delete", "commit", "rollback", "open"]), st.integers(0, 4)
    ),
    max_size=25,
)


@settings(max_examples=25)
@given(steps=STEPS)
@example(steps=[("insert", 0), ("insert", 1), ("delete", 0), ("insert", 0), ("commit", 0)])
def test_any_order_of_steps_keeps_what_was_committed(
    steps: list[tuple[str, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("any") / "directory.db"
    store = open_store(str(path))
    durable: tuple[int, dict[str, RoomEntry]] = (0, {})
    working: dict[str, RoomEntry] = {}
    for place, (what, number) in enumerate(steps):  # no two rooms of a directory are at one place
        name = f"r{number}"
        if what == "insert" and name not in working:
            working[name] = room(name, place)
            store.insert(working[name])
        elif what == "delete" and name in working:
            store.delete(working.pop(name))
        elif what == "commit":
            if working != durable[1]:
                store.commit(durable[0] + 1)
                durable = durable[0] + 1, dict(working)
        elif what in ("rollback", "open"):
            store.rollback()
            working = dict(durable[1])
        if what == "open":
            store.close()
            store = open_store(str(path))
    store.close()
    assert held(path) == (durable[0], named(*durable[1].values()))


# -- failing while running -------------------------------------------------------------------------


def test_what_can_not_be_stored_takes_the_whole_transaction_with_it(
    store: Store, path: Path
) -> None:
    store.insert(room("lab"))
    store.commit(1)
    store.insert(room("other", 2))
    with pytest.raises(StoreError):
        store.insert(room("lab"))
    store.commit(3)  # nothing is left of that tick
    store.insert(room("zoo", 3))
    store.commit(2)
    store.delete(room("zoo", 3))
    with pytest.raises(StoreError, match="not in the state file"):
        store.delete(room("nobody"))
    store.close()
    assert held(path) == (2, named(room("lab"), room("zoo", 3)))


def fill(store: Store, first: int) -> int:
    """Commit rooms, ten at a time, until the disk is full; return how many were committed."""
    committed = 0
    with pytest.raises(StoreError, match="full"):
        for number in range(first, first + 100_000):
            store.insert(room(f"{number:064}", number % 60_000))
            if number % 10 == 9:
                store.commit(number)
                committed = number - first + 1
    return committed


def test_a_full_file_undoes_the_transaction_and_room_heals_it(store: Store, path: Path) -> None:
    """PRAGMA max_page_count fails as a full disk does, and needs no file system of its own."""
    execute = store.connection.execute
    (pages,) = execute("PRAGMA page_count").fetchone()
    execute(f"PRAGMA max_page_count = {pages + 20}")
    committed = fill(store, 0)
    assert committed > 100
    assert not store.connection.in_transaction
    assert len(store.load()[1]) == committed, "reads go on"
    execute("PRAGMA max_page_count = 1000000")
    store.insert(room("healed", 59_999))
    store.commit(77_777)
    store.close()
    version, rooms = held(path)
    assert (version, len(rooms)) == (77_777, committed + 1)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk_at(tmp_path / "small", 256) as place:
        yield place


@needs_root
def test_a_full_disk_undoes_the_transaction_and_room_heals_it(small_disk: Path) -> None:
    path = small_disk / "directory.db"
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 100_000)
    store = open_store(str(path))
    committed = fill(store, 0)
    assert committed > 10
    for number in range(3):
        with pytest.raises(StoreError):
            for more in range(1000):
                store.insert(room(f"again-{number}-{more:050}", more))
            store.commit(5)
    assert len(store.load()[1]) == committed, "reads go on"
    ballast.unlink()
    store.insert(room("healed", 59_999))
    store.commit(77_777)
    store.close()
    version, rooms = held(path)
    assert (version, len(rooms)) == (77_777, committed + 1)
    assert "healed" in rooms


@needs_root
def test_a_disk_that_is_full_from_the_start(small_disk: Path) -> None:
    with open(small_disk / "ballast", "wb", buffering=0) as ballast, pytest.raises(OSError) as full:
        while True:
            ballast.write(b"x" * 4096)
    assert full.value.errno == errno.ENOSPC
    sentence = setup_error(small_disk / "directory.db")
    assert "full" in sentence or "I/O" in sentence


@needs_root
def test_a_disk_that_becomes_read_only(small_disk: Path) -> None:
    path = small_disk / "directory.db"
    store = open_store(str(path))
    store.insert(room("lab"))
    store.commit(1)
    store.close()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert "read" in setup_error(path)
    assert "Read-only file system" in setup_error(small_disk / "new" / "directory.db")


@pytest.mark.parametrize("ending", ["", "-wal"])
def test_a_file_that_was_removed_takes_no_more_changes(
    store: Store, path: Path, ending: str
) -> None:
    store.insert(room("lab"))
    store.commit(1)
    Path(f"{path}{ending}").unlink()
    store.insert(room("zoo"))
    with pytest.raises(StoreError, match="removed or replaced"):
        store.commit(2)
    assert [one.name for one in store.load()[1]] == ["lab"]


def test_a_file_that_was_replaced_takes_no_more_changes(store: Store, path: Path) -> None:
    path.rename(path.with_suffix(".old"))
    path.write_bytes(b"")
    store.insert(room("zoo"))
    with pytest.raises(StoreError, match="removed or replaced"):
        store.commit(2)


def test_a_transaction_that_can_not_be_undone_is_not_built_upon(
    store: Store, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken:
        """A connection whose disk went away: nothing can be ended any more."""

        in_transaction = True

        def execute(self, sql: str, values: object = ()) -> sqlite3.Cursor:
            raise sqlite3.OperationalError("disk I/O error")

        def close(self) -> None:
            real.close()

    store.insert(room("lab"))
    real = store.connection
    monkeypatch.setattr(store, "connection", Broken())
    with pytest.raises(StoreError, match="I/O"):
        store.insert(room("zoo"))
    monkeypatch.undo()
    assert real.in_transaction
    with pytest.raises(StoreError, match="within a transaction"):
        store.insert(room("bar"))
    store.insert(room("bar"))
    store.commit(1)
    store.close()
    assert held(path) == (1, named(room("bar")))


# -- opening ---------------------------------------------------------------------------------------

HOLDER = """
import sys
from evloop.daemon.store import open_store
store = open_store(sys.argv[1])
print("open", flush=True)
sys.stdin.read()
"""


def test_a_second_server_says_who_is_in_the_way(path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"open\n"
        for _ in range(2):
            sentence = setup_error(path)
            assert f"process {holder.pid} is using it" in sentence
        holder.kill()
    assert held(path) == (0, {})


def test_our_own_second_store_is_refused_too(store: Store, path: Path) -> None:
    assert "is using it" in setup_error(path)


def test_a_second_store_writes_nothing(store: Store, path: Path) -> None:
    before = path.read_bytes(), Path(f"{path}-wal").read_bytes()
    setup_error(path)
    assert (path.read_bytes(), Path(f"{path}-wal").read_bytes()) == before


@pytest.mark.parametrize(
    "junk", [b"junk", b"junk" * 10_000, b"SQLite format 3\0" + b"\xff" * 5000, b"\0" * 8192]
)
def test_a_file_of_junk_is_refused_and_left_alone(path: Path, junk: bytes) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(junk)
    sentence = setup_error(path)
    assert str(path) in sentence
    assert path.read_bytes() == junk


def test_the_database_of_another_program_is_left_alone(path: Path) -> None:
    path.parent.mkdir(parents=True)
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE bookmarks (place TEXT)")
    other.close()
    before = path.read_bytes()
    assert "another program" in setup_error(path)
    assert path.read_bytes() == before


def test_a_newer_layout_is_refused_and_left_alone(path: Path) -> None:
    open_store(str(path)).close()
    newer = sqlite3.connect(path)
    newer.execute("PRAGMA user_version = 99")
    newer.close()
    before = path.read_bytes()
    assert "newer evloop (layout 99" in setup_error(path)
    assert path.read_bytes() == before


def test_a_damaged_table_is_named_before_the_server_listens(path: Path) -> None:
    store = open_store(str(path))
    for number in range(2000):
        store.insert(room(f"room-{number:050}", number))
    store.commit(1)
    store.close()
    content = bytearray(path.read_bytes())
    content[4 * 4096 : 30 * 4096] = os.urandom(26 * 4096)
    path.write_bytes(content)
    assert "damaged" in setup_error(path)


def test_an_empty_file_is_as_good_as_none(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.touch()
    assert held(path) == (0, {})


def test_places_where_no_file_can_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "not a regular file" in setup_error(tmp_path)
    assert "not a regular file" in setup_error("/dev/null")
    assert "directory" in setup_error(tmp_path / "file" / "directory.db").casefold()
    assert "No such file" in setup_error("/proc/nothing/directory.db")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere" / "x")
    assert "No such file" in setup_error(tmp_path / "dangling")


@pytest.fixture
def nobody() -> Iterator[None]:
    """Not root: root may write everywhere."""
    before = os.geteuid()
    if ROOT:
        os.seteuid(65534)
    yield
    os.seteuid(before)


def test_a_directory_that_is_not_ours(tmp_path: Path, nobody: None) -> None:
    if not ROOT:
        tmp_path.chmod(0o500)
    assert "Permission denied" in setup_error(tmp_path / "directory.db")
    assert "Permission denied" in setup_error(tmp_path / "new" / "directory.db")


def test_a_file_called_memory_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = open_store(":memory:")
    store.insert(room("lab"))
    store.commit(1)
    store.close()
    assert held(tmp_path / ":memory:") == (1, named(room("lab")))


def test_a_box_without_sqlite3_says_so(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sqlite3", None)
    assert "--memory" in setup_error(path)
    assert not path.exists()


def test_a_holder_that_can_not_be_told_is_another_process(
    store: Store, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of 0.1.0, which knew no lock file, on a system that does not tell."""
    store.close()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("PRAGMA locking_mode = EXCLUSIVE")
    other.execute("BEGIN EXCLUSIVE")
    monkeypatch.setattr(state_file, "holder_of", lambda path: 0)
    assert "another process is using it" in setup_error(path)
    other.close()


# -- which directory it is -------------------------------------------------------------------------


def identity(path: Path) -> str:
    """What a server that starts now would tell."""
    store = open_store(str(path))
    try:
        store.load()
        return store.identity
    finally:
        store.close()


def test_a_directory_keeps_its_identity(path: Path, tmp_path: Path) -> None:
    first = identity(path)
    assert len(first) == 16 and int(first, 16)
    assert identity(path) == first
    other = tmp_path / "other.db"
    assert identity(other) != first
    done = backup_to(path, tmp_path / "copy.db")
    assert done == 0 and identity(tmp_path / "copy.db") == first, "a copy is the same directory"


@pytest.mark.parametrize("value", ["-1", "1", "9223372036854775807", "-9223372036854775808"])
def test_every_identity_is_sixteen_digits(path: Path, value: str) -> None:
    identity(path)
    change_state(path, f"UPDATE state SET identity = {value}")
    assert identity(path) == f"{int(value) % 2**64:016x}"


@pytest.mark.skipif(sqlite3.sqlite_version_info < (3, 35), reason="needs SQLite 3.35 to make it")
def test_a_file_without_an_identity_gets_one(path: Path) -> None:
    """One of 0.1.0, which has no such column."""
    first = identity(path)
    change_state(path, "ALTER TABLE state DROP COLUMN identity")
    second = identity(path)
    assert second not in (first, "0" * 16) and identity(path) == second


def test_an_identity_that_is_no_number_is_damage(path: Path) -> None:
    identity(path)
    change_state(path, "UPDATE state SET identity = 'me'")
    with pytest.raises(SetupError, match="its identity is no number"):
        identity(path)


def change_state(path: Path, step: str) -> None:
    connection = sqlite3.connect(path)
    connection.execute(step)
    connection.commit()
    connection.close()


def backup_to(path: Path, target: Path) -> int:
    command = [sys.executable, "-m", "evloop.server", "--state", str(path), "--backup", str(target)]
    return subprocess.run(command, capture_output=True, check=False).returncode


# -- keeping nothing -------------------------------------------------------------------------------


def test_the_memory_store_has_the_interface_and_keeps_nothing() -> None:
    store = MemoryStore(1_795_348_801, "0123456789abcdef")
    store.insert(room("lab"))
    store.commit(1_795_348_802)
    store.delete(room("lab"))
    store.rollback()
    assert store.load() == (1_795_348_801, [])
    assert store.load_seen() == (0.0, {})
    store.identify("fedcba9876543210")
    assert store.identity == "fedcba9876543210"
    store.close()

    def methods(kind: type) -> set[str]:
        return {n for n in dir(kind) if not n.startswith("_") and callable(getattr(kind, n))}

    assert methods(MemoryStore) == methods(Store)
