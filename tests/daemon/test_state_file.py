"""The state file among other files and programs: copies of it, logs of other files, damage."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from evloop.base.errors import SetupError, StoreError
from evloop.daemon.limits import CHECKPOINT_S, LOG_BYTES_MAX
from evloop.daemon.store import Store, open_store
from evloop.directory.protocol import RoomEntry
from tests.support.live import ROOT, Caller, House, Process


def room(name: str, number: int) -> RoomEntry:
    return RoomEntry(name, f"239.1.{number // 250}.{number % 250}", 5000 + number, "plain", 17)


def held(path: Path) -> list[str]:
    """The names that a server which starts now would find; SetupError."""
    store = open_store(str(path))
    try:
        return sorted(one.name for one in store.load()[1])
    finally:
        store.close()


def refused(path: Path) -> str:
    with pytest.raises(SetupError) as caught:
        held(path)
    assert caught.value.exit_status == 73
    return caught.value.sentence


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "directory.db"


# -- copies ----------------------------------------------------------------------------------------


def test_a_copy_of_the_file_alone_holds_all_a_few_seconds_after_the_last_change(
    path: Path, tmp_path: Path
) -> None:
    house = House("--state", str(path))
    try:
        caller = house.caller()
        for number in range(50):
            house.call(caller, "makeroom", name=f"r{number:02}")
        house.skip(CHECKPOINT_S + 0.5)
        copy = tmp_path / "copy.db"
        # By another process: to close a file here would drop the locks that sqlite has on it.
        subprocess.run(["cp", str(path), str(copy)], check=True)
        assert held(copy) == [f"r{number:02}" for number in range(50)]
        assert Path(f"{path}-wal").stat().st_size == 0
        house.call(caller, "deleteroom", name="r00")
        house.skip(CHECKPOINT_S + 0.5)
        subprocess.run(["cp", str(path), str(copy)], check=True)
        assert held(copy) == [f"r{number:02}" for number in range(1, 50)]
    finally:
        house.close()


READ = """
import sqlite3, sys
base = sqlite3.connect(sys.argv[1])
if len(sys.argv) > 2:
    base.execute("BEGIN")
print(base.execute("SELECT count(*) FROM rooms").fetchone()[0], flush=True)
if len(sys.argv) > 2:
    sys.stdin.read()
"""


def test_sqlites_own_programs_read_while_a_server_runs(path: Path) -> None:
    house = House("--state", str(path))
    try:
        caller = house.caller()
        for number in range(5):
            house.call(caller, "makeroom", name=f"r{number}")
        read = [sys.executable, "-c", READ, str(path)]
        assert subprocess.run(read, capture_output=True, check=True).stdout == b"5\n"
        reader = subprocess.Popen([*read, "hold"], stdin=-1, stdout=-1)
        with reader:
            assert reader.stdout is not None
            assert reader.stdout.readline() == b"5\n"
            assert "result" in house.call(caller, "makeroom", name="meanwhile")
            house.skip(2 * CHECKPOINT_S)
            assert Path(f"{path}-wal").stat().st_size > 0, "it is in the way"
        house.skip(2 * CHECKPOINT_S)
        assert Path(f"{path}-wal").stat().st_size == 0, "and is waited for"
    finally:
        house.close()


def test_a_long_log_does_not_wait_for_its_time(path: Path) -> None:
    store = open_store(str(path))
    sizes = []
    for number in range(1_200):
        store.insert(room(f"room-{number:040}", number))
        store.commit(number + 1)
        sizes.append(Path(f"{path}-wal").stat().st_size)
    store.close()
    assert max(sizes) < LOG_BYTES_MAX + 100_000
    assert sizes.index(max(sizes)) < len(sizes) - 10, "it began anew"
    assert len(held(path)) == 1_200


def backup(path: Path, target: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "evloop.server", "--backup", str(target), "--state", str(path)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_backup_of_a_running_server(path: Path, tmp_path: Path) -> None:
    process = Process("--state", str(path), memory=False)
    target = tmp_path / "copies" / "rooms.db"
    target.parent.mkdir()
    caller = None
    try:
        process.ready()
        caller = Caller(process.address)
        for number in range(20):
            assert "result" in process.call(caller, "makeroom", name=f"r{number:02}")
        done = backup(path, target)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == f"copied 20 rooms of {path} to {target}\n"
        assert target.stat().st_mode & 0o777 == 0o600
        assert os.listdir(target.parent) == ["rooms.db"], "one file, which needs no log"
        assert "result" in process.call(caller, "makeroom", name="later")
        assert backup(path, target).returncode == 0, "an older copy is replaced"
        assert len(held(target)) == 21
    finally:
        process.close()
        if caller is not None:
            caller.close()
    assert len(held(path)) == 21, "the server's own file is as it was"


def test_a_backup_without_a_server(path: Path, tmp_path: Path) -> None:
    store = open_store(str(path))
    store.insert(room("lab", 1))
    store.commit(1)
    store.close()
    assert backup(path, tmp_path / "copy.db").returncode == 0
    assert held(tmp_path / "copy.db") == held(path) == ["lab"]


def test_a_backup_replaces_nothing_else(path: Path, tmp_path: Path) -> None:
    store = open_store(str(path))
    store.close()
    (tmp_path / "letter").write_text("Dear Bob")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(path)
    for name, why in (
        ("letter", "no copy of a state file"),
        ("folder", "no copy of a state file"),
        ("directory.db", "the state file itself"),
        ("link", "the state file itself"),
        ("nowhere/x", "No such file"),
    ):
        done = backup(path, tmp_path / name)
        assert done.returncode == 73 and why in done.stderr, (name, done.stderr)
    assert (tmp_path / "letter").read_text() == "Dear Bob"
    assert "No such file" in backup(tmp_path / "none.db", tmp_path / "x").stderr
    assert not (tmp_path / "none.db").exists()
    assert not list(tmp_path.glob("*.new*"))


def test_a_restored_copy_is_what_it_was(path: Path, tmp_path: Path) -> None:
    """The copy of yesterday, put in place after a crash, beside the log of today."""
    store = open_store(str(path))
    store.insert(room("yesterday", 1))
    store.commit(1)
    store.checkpoint()
    subprocess.run(["cp", str(path), str(tmp_path / "cp.db")], check=True)
    assert backup(path, tmp_path / "tool.db").returncode == 0
    for number in range(2, 5):
        store.insert(room(f"today{number}", number))
        store.commit(number)
        store.checkpoint()
    store.insert(room("tonight", 9))
    store.commit(9)
    crashed = tmp_path / "crashed"
    crashed.mkdir()
    subprocess.run(["cp", str(path), f"{path}-wal", str(crashed)], check=True)
    store.close()
    assert held_copy(crashed, tmp_path / "again") == [
        "today2",
        "today3",
        "today4",
        "tonight",
        "yesterday",
    ]
    for copy in ("cp.db", "tool.db"):
        shutil.copy(tmp_path / copy, crashed / "directory.db")
        before = (crashed / "directory.db").read_bytes()
        sentence = refused(crashed / "directory.db")
        assert "belongs to another file" in sentence
        assert f"remove {crashed}/directory.db-wal" in sentence
        assert (crashed / "directory.db").read_bytes() == before, "and nothing was mixed up"
        kept = (crashed / "directory.db-wal").read_bytes()
        (crashed / "directory.db-wal").unlink()
        (crashed / "directory.db-shm").unlink(missing_ok=True)
        assert held(crashed / "directory.db") == ["yesterday"]
        (crashed / "directory.db-wal").write_bytes(kept)


def held_copy(folder: Path, into: Path) -> list[str]:
    shutil.rmtree(into, ignore_errors=True)
    shutil.copytree(folder, into)
    return held(into / "directory.db")


class Moment:
    """The files of a store as a crash would leave them, and what is in them."""

    def __init__(self, path: Path, names: list[str]) -> None:
        self.file = subprocess.run(["cat", str(path)], capture_output=True, check=True).stdout
        log = Path(f"{path}-wal")
        self.log = log.read_bytes() if log.exists() else b""
        self.names = sorted(names)


def moments_of(path: Path, seed: int) -> list[Moment]:
    """Those of a random life: changes, checkpoints, ends and crashes."""
    rng = random.Random(seed)
    store = open_store(str(path))
    names: list[str] = []
    found = []
    for number in range(1, 30):
        what = rng.choice(["change", "change", "change", "checkpoint", "restart", "crash"])
        if what == "change":
            name = f"r{number}"
            store.insert(room(name, number))
            store.commit(number)
            names.append(name)
        elif what == "checkpoint":
            store.checkpoint()
        elif what == "restart":
            store.close()
            store = open_store(str(path))
        else:
            now = Moment(path, names)
            store.close()
            put(path, now.file, now.log)
            store = open_store(str(path))
        found.append(Moment(path, names))
    store.close()
    return found


def put(path: Path, file: bytes, log: bytes) -> None:
    path.write_bytes(file)
    Path(f"{path}-wal").write_bytes(log)
    Path(f"{path}-shm").unlink(missing_ok=True)


@pytest.mark.parametrize("seed", range(3))
def test_a_log_is_taken_with_its_own_file_alone(path: Path, tmp_path: Path, seed: int) -> None:
    moments = moments_of(path, seed)
    rng = random.Random(seed)
    place = tmp_path / "mixed.db"
    taken = strange = 0
    for moment in moments:
        put(place, moment.file, moment.log)
        assert held(place) == moment.names, "an ordinary crash"
        other = rng.choice(moments)
        if not other.log or len(moment.file) <= 4096:
            continue  # no log, or a file without any content yet
        put(place, moment.file, other.log)
        if other.file == moment.file:
            assert held(place) == other.names, "the file has not changed since"
            taken += 1
            continue
        try:
            found = held(place)
            put(place, moment.file, b"")
            assert found == held(place), "just copied into the file, and so without harm"
        except SetupError as error:
            assert "belongs to another file" in error.sentence
            assert place.read_bytes() == moment.file
            strange += 1
    assert strange > 3


def test_a_crash_in_the_middle_of_a_checkpoint_loses_nothing(path: Path, tmp_path: Path) -> None:
    """Any part of the pages may be in the file already."""
    store = open_store(str(path))
    for number in range(300):
        store.insert(room(f"room-{number:050}", number))
    store.commit(1)
    store.checkpoint()
    for number in range(300, 400):
        store.insert(room(f"room-{number:050}", number))
    store.commit(2)
    store.settled = False
    store.connection.execute("UPDATE state SET former = name, name = 17")  # it begins
    before = Moment(path, [])
    store.checkpoint()
    after = Moment(path, [])
    store.close()
    place = tmp_path / "half.db"
    size = 4096
    pages = range(len(after.file) // size)
    rng = random.Random(1)
    for _ in range(20):
        mixed = b"".join(
            (after.file if rng.random() < 0.5 else before.file)[page * size : page * size + size]
            or after.file[page * size : page * size + size]
            for page in pages
        )
        put(place, mixed, before.log)
        assert len(held(place)) == 400


# -- what stands beside it -------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["-journal", "-wal", "-shm", "-lock"])
def test_a_pipe_beside_the_file_does_not_hang_the_start(path: Path, suffix: str) -> None:
    os.mkfifo(f"{path}{suffix}")
    sentence = refused(path)
    assert f"{path}{suffix} is not a regular file; remove that" in sentence


# -- damage ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A state file with rooms of all kinds."""
    path = tmp_path_factory.mktemp("sound") / "directory.db"
    store = open_store(str(path))
    for number in range(60):
        name = f"räum-{number}" if number % 3 else f"room-{number:040}"
        store.insert(
            RoomEntry(name, f"239.1.0.{number}", 5000 + number, "plain", 17, "::1", b"k" * 32)
        )
    store.insert(RoomEntry("six", "ff15::1", 5000, "reliable", 17, "::1", b""))
    store.commit(61)
    store.note_seen(100.0, {})
    store.commit(61)
    store.close()
    return path.read_bytes()


def judge(path: Path, data: bytes) -> str:
    """Start a server on it and use it: "73", or "serves" when it did all it must."""
    for suffix in ("", "-wal", "-shm", "-journal"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    path.write_bytes(data)
    try:
        store = open_store(str(path))
    except SetupError as error:
        assert error.exit_status == 73 and ";" in error.sentence
        return "73"
    try:
        try:
            version, rooms = store.load()
            store.load_seen()
        except SetupError as error:
            assert error.exit_status == 73 and ";" in error.sentence
            return "73"
        use(store, version, rooms)
    finally:
        store.close()
    return "serves"


def use(store: Store, version: int, rooms: list[RoomEntry]) -> None:
    """What a server does to it: nothing but StoreError may come of that."""
    try:
        store.insert(RoomEntry("brand-new", "239.9.9.9", 9999, "plain", 17))
        store.commit(version + 1)
        for one in rooms[:3]:
            store.delete(one)
            version += 1
        store.note_seen(7.0, dict.fromkeys(rooms[3:6], 3.0))
        store.commit(version + 2)
    except StoreError:
        pass  # answered as storage_failed
    store.checkpoint()


def damages(data: bytes, rng: random.Random) -> bytes:
    """One to three spots of zeros, noise, flipped bits or other pages."""
    changed = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        at = rng.randrange(len(changed))
        kind = rng.randrange(5)
        if kind == 0:
            changed[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            sector = at // 512 * 512
            changed[sector : sector + 512] = bytes(512)
        elif kind == 2:
            width = rng.randrange(1, 64)
            changed[at : at + width] = rng.randbytes(width)
        elif kind == 3:
            changed[at] = rng.choice([0, 1, 127, 128, 255])
        else:
            page, other = (rng.randrange(len(data) // 4096) * 4096 for _ in range(2))
            changed[page : page + 4096] = data[other : other + 4096]
    return bytes(changed[: len(data)])


def test_damage_is_73_or_harmless(sound: bytes, path: Path) -> None:
    rng = random.Random(1)
    verdicts = [judge(path, damages(sound, rng)) for _ in range(150)]
    assert verdicts.count("73") > 40
    assert verdicts.count("serves") > 10


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_10_000_damages_are_73_or_harmless(sound: bytes, path: Path) -> None:
    rng = random.Random(2)
    verdicts = [judge(path, damages(sound, rng)) for _ in range(10_000)]
    assert verdicts.count("73") > 4_000


def test_every_truncation_at_a_sector_is_73(sound: bytes, path: Path) -> None:
    odd = (1, 15, 16, 99, 100, 511, 4_097, len(sound) - 36, len(sound) - 1)
    for size in (*odd, *range(512, len(sound), 512)):
        assert judge(path, sound[:size]) == "73", size
    assert judge(path, b"") == "serves", "an empty file is as good as none"


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_truncation_is_73(sound: bytes, path: Path) -> None:
    for size in range(1, len(sound)):
        assert judge(path, sound[:size]) == "73", size


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        ("UPDATE rooms SET port = 'x'", "port"),
        ("UPDATE rooms SET port = 70000", "port"),
        ("UPDATE rooms SET port = 4", "port"),
        ("UPDATE rooms SET address = '10.0.0.1' WHERE name = 'lab'", "239.0.0.0/8"),
        ("UPDATE rooms SET address = 7 WHERE name = 'lab'", "address"),
        ("UPDATE rooms SET mode = 'loud'", "mode"),
        ("UPDATE rooms SET made = -1", "time"),
        ("UPDATE rooms SET made = 9223372036854775807", "time"),
        ("UPDATE rooms SET made = 'x'", "time"),
        ("UPDATE rooms SET maker = x'00'", "maker"),
        ("UPDATE rooms SET token = x'00'", "token"),
        ("UPDATE rooms SET token = 'text'", "token"),
        ("UPDATE rooms SET name = x'6c6162' WHERE name = 'lab'", "name"),
        ("UPDATE rooms SET name = '' WHERE name = 'lab'", "name"),
        ("UPDATE rooms SET name = printf('%0100d', 1) WHERE name = 'lab'", "name"),
        ("UPDATE rooms SET name = 'a' || char(27) WHERE name = 'lab'", "control"),
        ("UPDATE rooms SET address = '239.1.0.1', port = 5001", '"lab" and "zoo" have one'),
        ("UPDATE rooms SET seen = 'x'", "seconds"),
        ("UPDATE rooms SET seen = -5", "seconds"),
        ("UPDATE state SET version = 9223372036854775807", "version"),
        ("UPDATE state SET version = -1", "version"),
        ("UPDATE state SET version = 'x'", "version"),
        ("UPDATE state SET ran = 'x'", "seconds"),
        ("DELETE FROM state", "version"),
        ("INSERT INTO state SELECT * FROM state", "version"),
        ("DROP TABLE rooms", "rooms"),
    ],
)
def test_every_value_is_judged_before_it_is_believed(path: Path, damage: str, why: str) -> None:
    store = open_store(str(path))
    store.insert(room("lab", 1))
    store.insert(room("zoo", 2))
    store.commit(2)
    store.close()
    base = sqlite3.connect(path)
    base.execute(damage)
    base.commit()
    base.close()
    with pytest.raises(SetupError) as caught:
        House("--state", str(path), "--expire", "1").close()
    assert caught.value.exit_status == 73
    assert why in caught.value.sentence and "put a backup in its place" in caught.value.sentence


# -- a disk that does not keep ---------------------------------------------------------------------

SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
static int fails(void) { return access(getenv("EVLOOP_TEST_BROKEN"), F_OK) == 0; }
int fdatasync(int fd) {
    if (fails()) { errno = EIO; return -1; }
    return ((int (*)(int))dlsym(RTLD_NEXT, "fdatasync"))(fd);
}
int fsync(int fd) {
    if (fails()) { errno = EIO; return -1; }
    return ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(fd);
}
"""


@pytest.fixture
def shim(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a process whose disk cannot sync while the file `broken` is there."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    source, library = tmp_path / "shim.c", tmp_path / "shim.so"
    source.write_text(SHIM)
    command = [compiler, "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"]
    subprocess.run(command, check=True, capture_output=True)
    yield {"LD_PRELOAD": str(library), "EVLOOP_TEST_BROKEN": str(tmp_path / "broken")}


@pytest.mark.parametrize("heals", [True, False])
def test_what_a_failed_sync_refused_is_not_there_after_a_crash(
    path: Path, tmp_path: Path, shim: dict[str, str], heals: bool
) -> None:
    process = Process("--state", str(path), memory=False, environ=shim)
    caller = None
    try:
        process.ready()
        caller = Caller(process.address)
        assert "result" in process.call(caller, "makeroom", name="kept")
        (tmp_path / "broken").touch()
        reply = process.call(caller, "makeroom", name="refused")
        assert reply["error"]["data"]["reason"] == "storage_failed"
        if heals:
            (tmp_path / "broken").unlink()
            assert "result" in process.call(caller, "makeroom", name="after")
        process.process.kill()
        process.process.wait()
    finally:
        process.close()
        if caller is not None:
            caller.close()
    assert held(path) == (["after", "kept"] if heals else ["kept"])
