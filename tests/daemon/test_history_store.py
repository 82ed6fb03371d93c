"""The file of what was said, on real files: what is committed is there, what is deleted is not."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evloop.base.errors import SetupError, StoreError
from evloop.daemon.history_store import HistoryStore, Row, open_history
from evloop.daemon.limits import HISTORY_ROW_BYTES, HISTORY_ROWS_PER_TICK
from tests.support.disks import small_disk_at

ROOT = os.geteuid() == 0
needs_root = pytest.mark.skipif(not ROOT, reason="mounts a file system: needs root")
WHO = b"\1\2\3\4\5\6\7\10"
END = 2**62


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "history.db"


@pytest.fixture
def store(path: Path) -> Iterator[HistoryStore]:
    opened = open_history(str(path))
    yield opened
    opened.close()


def say(store: HistoryStore, number: int, seq: int, text: bytes = b"hello") -> bool:
    return store.insert(number, 1_795_348_802, WHO, seq, b"\xf5E" + text)


def settle(store: HistoryStore, oldest_ran_s: float | None = None) -> int:
    """Let it tidy up; how many pieces that took."""
    pieces = 0
    while store.tidy(oldest_ran_s):
        pieces += 1
        assert pieces < 10_000, "it never ends"
    return pieces


def seqs(store: HistoryStore, number: int, before: int = END, limit: int = 1_000) -> list[int]:
    return [row.seq for row in store.page(number, before, limit)]


def bytes_of(path: Path) -> bytes:
    """All that lies on the disk under the names of the file."""
    beside = sorted(path.parent.glob(path.name + "*"))
    assert path in beside
    return b"".join(one.read_bytes() for one in beside)


def counted(path: Path) -> dict[int, tuple[int, int]]:
    """What the rows of the file add up to, by room."""
    rows = sqlite3.connect(path)
    try:
        found = rows.execute(
            "SELECT room, count(*), sum(length(datagram)) FROM messages GROUP BY 1"
        )
        return {room: (count, size) for room, count, size in found}
    finally:
        rows.close()


def test_the_layout_is_what_the_page_says(path: Path) -> None:
    store = open_history(str(path))
    say(store, store.number("lab", 17), 0)
    store.commit()
    plain = sqlite3.connect(path)
    columns = [row[1] for row in plain.execute("PRAGMA table_info(messages)")]
    assert columns == ["at", "room", "came", "sender", "seq", "datagram"]
    indexes = {
        tuple(column[2] for column in plain.execute(f"PRAGMA index_info({row[1]})")): row[2]
        for row in plain.execute("PRAGMA index_list(messages)")
    }
    assert indexes == {("room", "sender", "seq"): 1, ("room", "at"): 0}
    assert plain.execute("PRAGMA auto_vacuum").fetchone() == (2,)
    assert plain.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    plain.close()
    for pragma, value in (("synchronous", 1), ("secure_delete", 1)):
        assert store.connection.execute(f"PRAGMA {pragma}").fetchone() == (value,)
    for beside in path.parent.iterdir():
        assert stat.S_IMODE(beside.stat().st_mode) == 0o600, beside
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    store.close()


def test_the_first_of_two_bodies_stays(store: HistoryStore) -> None:
    number = store.number("lab", 17)
    assert say(store, number, 5, b"first")
    assert not say(store, number, 5, b"second")
    assert say(store, store.number("attic", 17), 5, b"another room")
    store.commit()
    (row,) = store.page(number, END, 10)
    assert row == Row(1, 1_795_348_802, WHO, 5, b"\xf5Efirst")


def test_pages_are_newest_first_and_go_on_where_the_last_ended(store: HistoryStore) -> None:
    number = store.number("lab", 17)
    for seq in range(10):
        say(store, number, seq)
        say(store, store.number("attic", 17), seq)
    store.commit()
    first = store.page(number, END, 4)
    assert [row.seq for row in first] == [9, 8, 7, 6]
    assert seqs(store, number, first[-1].at, 4) == [5, 4, 3, 2]
    assert seqs(store, number, 1) == []
    assert seqs(store, number, 2**70) == list(range(9, -1, -1))  # beyond sqlite's integers


def test_what_is_committed_is_there_after_a_restart(path: Path) -> None:
    store = open_history(str(path))
    number = store.number("lab", 17)
    say(store, number, 0)
    store.commit()
    say(store, number, 1)  # not committed
    store.close()
    again = open_history(str(path))
    assert again.number("lab", 17) == number
    assert seqs(again, number) == [0]
    say(again, number, 2)
    again.commit()
    assert [(row.at, row.seq) for row in again.page(number, END, 9)] == [(2, 2), (1, 0)]
    again.close()


def test_a_room_deleted_is_nowhere_in_the_files(store: HistoryStore, path: Path) -> None:
    number, other = store.number("lab", 17), store.number("attic", 17)
    for seq in range(1_500):
        say(store, number, seq, b"a secret of the lab " * 5)
        say(store, other, seq, b"what the attic says")
    store.commit()
    assert b"a secret of the lab" in bytes_of(path)
    size = len(bytes_of(path))
    store.forget("lab", 17)
    anew = store.number("lab", 17)  # made anew in the same second
    assert anew != number
    assert seqs(store, anew) == []
    pieces = settle(store)
    assert pieces >= 1_500 / HISTORY_ROWS_PER_TICK  # so no tick is long
    assert b"a secret of the lab" not in bytes_of(path)
    assert len(seqs(store, other, limit=9_999)) == 1_500
    assert len(bytes_of(path)) < size * 0.7  # the pages were given back


def test_a_restart_goes_on_with_dead_numbers(path: Path) -> None:
    store = open_history(str(path))
    number = store.number("lab", 17)
    for seq in range(250):
        say(store, number, seq, b"a secret of the lab")
    store.commit()
    store.forget("lab", 17)
    assert store.tidy(None)  # one piece, then the power goes
    store.close()
    assert b"a secret of the lab" in bytes_of(path)
    again = open_history(str(path))
    assert again.number("lab", 17) != number
    settle(again)
    assert b"a secret of the lab" not in bytes_of(path)
    assert again.held() == (0, 0)
    again.close()


def test_a_log_that_somebody_reads_is_emptied_later(store: HistoryStore, path: Path) -> None:
    say(store, store.number("lab", 17), 0, b"a secret of the lab")
    store.commit()
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM messages").fetchone()
    store.forget("lab", 17)
    settle(store)
    assert b"a secret of the lab" in bytes_of(path)
    reader.close()
    settle(store)
    assert b"a secret of the lab" not in bytes_of(path)


def test_rooms_that_are_gone_from_the_directory_are_forgotten(store: HistoryStore) -> None:
    """A crash between the commit of a deletion and that of its history."""
    kept, gone = store.number("lab", 17), store.number("attic", 17)
    say(store, kept, 0)
    say(store, gone, 0)
    store.commit()
    store.retain({("lab", 17), ("attic", 18)})
    assert store.number("attic", 17) != gone
    settle(store)
    assert seqs(store, kept) == [0]
    assert store.held()[0] == 1


# -- caps and age ----------------------------------------------------------------------------------


def test_a_room_keeps_the_newest_so_many(store: HistoryStore) -> None:
    number, other = store.number("lab", 17), store.number("attic", 17)
    store.rows_max = 10
    say(store, other, 0)
    for seq in range(250):
        say(store, number, seq)
    store.commit()
    assert settle(store) >= 3  # a hundred at a time
    assert seqs(store, number) == list(range(249, 239, -1))
    assert seqs(store, other) == [0]


def test_a_room_keeps_so_many_bytes(store: HistoryStore) -> None:
    number = store.number("lab", 17)
    store.bytes_max = 50_000
    for seq in range(200):
        say(store, number, seq, bytes(998))
    store.commit()
    settle(store)
    assert seqs(store, number) == list(range(199, 149, -1))


def test_all_rooms_together_keep_so_many_bytes(store: HistoryStore) -> None:
    """The oldest go first, whichever room they are of."""
    rooms = [store.number(f"room-{number}", 17) for number in range(4)]
    store.all_bytes_max = 300 * (HISTORY_ROW_BYTES + 100)
    for seq in range(100):
        for number in rooms:
            say(store, number, seq, bytes(98))
    store.commit()
    settle(store)
    assert [len(seqs(store, number)) for number in rooms] == [75] * 4
    assert store.held()[1] == store.all_bytes_max


def test_messages_grow_old_as_the_server_runs(path: Path) -> None:
    """Not by the calendar: `came` leaps a year either way, and nothing goes for that."""
    day = 86_400.0
    store = open_history(str(path))
    number = store.number("lab", 17)
    walls = [1_795_348_802, 1_795_348_802 + 31_536_000, 1_795_348_802 - 31_536_000, 0, 2**32 - 1]
    for seq in range(60):
        store.insert(number, walls[seq % 5], WHO, seq, b"text of day %02d" % seq)
        store.pass_time((seq + 1) * day)
        settle(store, (seq + 1 - 30) * day)
    assert seqs(store, number) == list(range(59, 29, -1))
    assert b"text of day 29" not in bytes_of(path)
    rows = store.page(number, END, 99)
    ages = store.ages(rows, 60 * day)
    assert [ages[row.at] for row in rows] == [(60 - row.seq) * day for row in rows]
    store.close()
    again = open_history(str(path))
    assert again.ran == 60 * day
    settle(again, None)  # without a limit
    assert len(seqs(again, number)) == 30
    again.close()


def test_places_are_not_used_again(path: Path) -> None:
    """Else a new message would lie below a mark that is older than it."""
    store = open_history(str(path))
    number = store.number("lab", 17)
    for seq in range(10):
        say(store, number, seq)
    store.pass_time(3_600)
    store.forget("lab", 17)
    settle(store)
    store.close()
    store = open_history(str(path))
    anew = store.number("lab", 18)
    say(store, anew, 0)
    store.commit()
    assert store.page(anew, END, 1)[0].at == 11
    settle(store, 3_600)
    assert seqs(store, anew) == [0]
    store.close()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_it_is_as_a_plain_table_would_be(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    """Random changes, deletions, restarts and crashes against dicts."""
    rng = random.Random(seed)
    path = tmp_path_factory.mktemp("model") / "history.db"
    store = open_history(str(path))
    model: dict[tuple[str, int], dict[int, bytes]] = {}  # committed: by room, number and body
    pending: dict[tuple[str, int], dict[int, bytes]] = {}
    deleted: list[tuple[str, int]] = []
    for _ in range(120):
        what = rng.choice(["say"] * 8 + ["commit", "commit", "forget", "tidy", "restart"])
        room = rng.choice(["lab", "attic", "hall"]), rng.choice([17, 18])
        if what == "say":
            seq, text = rng.randrange(40), f"text of {room} {deleted}".encode() * rng.randrange(9)
            held = model.get(room, {}).keys() | pending.get(room, {}).keys()
            assert store.insert(store.number(*room), 5, WHO, seq, text) == (seq not in held)
            if seq not in held:
                pending.setdefault(room, {})[seq] = text
        elif what in ("commit", "forget", "tidy"):
            if what == "forget":
                store.forget(*room)
            elif what == "tidy":
                store.tidy(None)
            store.commit()
            for other, more in pending.items():
                model.setdefault(other, {}).update(more)
            pending.clear()
            if what == "forget":
                model.pop(room, None)
                deleted.append(room)
        else:
            store.close()
            store = open_history(str(path))
            pending.clear()
        for key in {**model, **pending}:
            rows = store.page(store.number(*key), END, 99)
            told = {row.seq: row.datagram for row in rows}
            assert told == {**model.get(key, {}), **pending.get(key, {})}
            assert [row.at for row in rows] == sorted((row.at for row in rows), reverse=True)
    store.commit()
    settle(store)
    settle(store)
    left = bytes_of(path)
    for times, room in enumerate(deleted):
        assert f"text of {room} {deleted[:times]}".encode() not in left
    total = sum(len(rows) for rows in model.values()) + sum(map(len, pending.values()))
    assert store.held()[0] == total
    found = counted(path)
    assert sum(count for count, _ in found.values()) == total
    for number, kept in store.counts().items():
        assert kept == found.get(number, (0, 0))
    store.close()


# -- what can go wrong -----------------------------------------------------------------------------


KILLED = """
import os, sys
from evloop.daemon.history_store import open_history
store = open_history(sys.argv[1])
number = store.number("lab", 17)
seq = int(sys.argv[2])
while True:
    store.insert(number, 5, b"12345678", seq, b"x" * 150)
    store.commit()
    os.write(1, b"%d\\n" % seq)
    seq += 1
"""


def killed_rounds(path: Path, rounds: int, rng: random.Random) -> int:
    """Kill a process that stores, `rounds` times; return how many it said to have stored."""
    told = -1
    for _ in range(rounds):
        arguments = [sys.executable, "-c", KILLED, str(path), str(told + 1)]
        writer = subprocess.Popen(arguments, stdout=subprocess.PIPE)
        assert writer.stdout is not None
        wanted = told + rng.randrange(1, 40)
        for line in writer.stdout:
            told = int(line)
            if told >= wanted:
                break
        writer.send_signal(signal.SIGKILL)
        rest = writer.stdout.read().split()
        told = int(rest[-1]) if rest else told
        writer.stdout.close()
        writer.wait()
        store = open_history(str(path))
        assert set(range(told + 1)) <= set(seqs(store, store.number("lab", 17), limit=10**6))
        found = counted(path)[store.number("lab", 17)]
        assert store.held()[0] == found[0]
        told = max(told, found[0] - 1)  # committed, and killed before it could say so
        store.close()
    return told + 1


def test_a_killed_process_loses_nothing_that_it_committed(path: Path) -> None:
    assert killed_rounds(path, 5, random.Random(16)) >= 5


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_many_killed_processes_lose_nothing(path: Path) -> None:
    assert killed_rounds(path, 200, random.Random(17)) >= 200


def test_a_full_file_is_an_error_and_closes_it(store: HistoryStore, path: Path) -> None:
    """PRAGMA max_page_count fails as a full disk does, and needs no file system of its own."""
    number = store.number("lab", 17)
    store.commit()
    pages = store.connection.execute("PRAGMA page_count").fetchone()[0]
    store.connection.execute(f"PRAGMA max_page_count = {pages + 20}")
    committed = 0
    with pytest.raises(StoreError, match="full"):
        for seq in range(1_000):
            say(store, number, seq, bytes(900))
            if seq % 10 == 9:
                store.commit()
                committed = seq + 1
    assert 0 < committed < 1_000
    with pytest.raises(StoreError, match="closed"):
        store.number("attic", 17)
    with pytest.raises(StoreError, match="closed"):
        store.page(number, END, 1)
    again = open_history(str(path))
    assert len(seqs(again, number)) == committed
    assert say(again, number, 999)
    again.commit()
    again.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk_at(tmp_path / "small", 512) as place:
        yield place


@needs_root
def test_a_full_disk_is_an_error_and_room_heals_it(small_disk: Path) -> None:
    path, ballast = small_disk / "history.db", small_disk / "ballast"
    ballast.write_bytes(b"x" * 200_000)
    store = open_history(str(path))
    number = store.number("lab", 17)
    committed = 0
    with pytest.raises(StoreError):
        for seq in range(10_000):
            say(store, number, seq, bytes(200))
            store.commit()
            committed = seq + 1
    ballast.unlink()
    again = open_history(str(path))
    assert seqs(again, number, limit=10_000) == list(range(committed - 1, -1, -1))
    assert say(again, number, committed)
    again.commit()
    again.close()


@needs_root
def test_a_disk_that_becomes_read_only(small_disk: Path) -> None:
    store = open_history(str(small_disk / "history.db"))
    store.number("lab", 17)
    store.commit()
    store.close()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(SetupError, match=r"[Rr]ead-?only") as caught:
        open_history(str(small_disk / "history.db"))
    assert caught.value.exit_status == 73


@pytest.mark.parametrize("suffix", ["", "-wal"])
@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_a_file_that_is_not_ours_any_more(path: Path, suffix: str, how: str) -> None:
    store = open_history(str(path))
    number = store.number("lab", 17)
    say(store, number, 0)
    store.commit()
    victim = Path(f"{path}{suffix}")
    if how == "replaced":
        copy = victim.with_suffix(".copy")
        shutil.copy(victim, copy)
        copy.replace(victim)
    else:
        victim.unlink()
    say(store, number, 1)
    with pytest.raises(StoreError, match="removed or replaced"):
        store.commit()
    assert store.closed


def test_two_servers_do_not_share_it(store: HistoryStore, path: Path) -> None:
    with pytest.raises(SetupError, match=f"process {os.getpid()} is using it"):
        open_history(str(path))
    other = f"from evloop.daemon.history_store import open_history; open_history({str(path)!r})"
    ended = subprocess.run([sys.executable, "-c", other], capture_output=True, check=False)
    assert f"process {os.getpid()} is using it".encode() in ended.stderr
    say(store, store.number("lab", 17), 0)
    store.commit()


def test_files_that_are_not_ours(path: Path) -> None:
    path.parent.mkdir(mode=0o700)
    foreign = sqlite3.connect(path)
    foreign.execute("CREATE TABLE bookmarks (url TEXT)")
    foreign.commit()
    foreign.close()
    before = path.read_bytes()
    with pytest.raises(SetupError, match="another program"):
        open_history(str(path))
    assert path.read_bytes() == before
    path.write_bytes(b"this is a letter to my aunt\n" * 100)
    with pytest.raises(SetupError, match="not a database"):
        open_history(str(path))
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(SetupError, match="not a regular file"):
        open_history(str(path))
    path.unlink()
    open_history(str(path)).close()
    newer = sqlite3.connect(path)
    newer.execute("PRAGMA user_version = 9")
    newer.close()
    with pytest.raises(SetupError, match="newer evloop"):
        open_history(str(path))


def test_rows_that_no_server_wrote_are_left_out(store: HistoryStore, path: Path) -> None:
    number = store.number("lab", 17)
    say(store, number, 0)
    store.commit()
    other = sqlite3.connect(path)
    for at, values in enumerate(
        (
            (5, b"short", 1, b"x"), (5, WHO, -1, b"x"), (5, WHO, 2**32, b"x"),
            (5, WHO, "two", b"x"), (-1, WHO, 3, b"x"), (5, "12345678", 4, b"x"), (5, WHO, 5, "x"),
        ), 100,
    ):  # fmt: skip
        row = at, number, *values
        other.execute("INSERT INTO messages VALUES (?, ?, ?, ?, ?, ?)", row)
    other.commit()
    other.close()
    assert seqs(store, number) == [0]


def test_a_damaged_file_is_an_error_and_no_crash(path: Path) -> None:
    store = open_history(str(path))
    number = store.number("lab", 17)
    for seq in range(500):
        say(store, number, seq, bytes(500))
    store.commit()
    store.close()
    rng = random.Random(16)
    whole = path.read_bytes()
    failures = 0
    for _ in range(40):
        damaged = bytearray(whole)
        for _ in range(30):
            damaged[rng.randrange(100, len(damaged))] = rng.randrange(256)
        path.write_bytes(damaged)
        for beside in ("-wal", "-shm"):
            Path(f"{path}{beside}").unlink(missing_ok=True)
        try:
            again = open_history(str(path))
        except SetupError:
            failures += 1
            continue
        try:
            again.page(number, END, 500)
            say(again, again.number("lab", 17), 900)
            again.commit()
            settle(again, None)
        except StoreError:
            failures += 1
        again.close()
    assert failures
