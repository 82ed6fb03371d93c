"""What was said in the rooms that the directory keeps: one sqlite3 file of its own.

The state file waits for the disk with each change; this file does not (`synchronous = NORMAL`): a
commit survives the end of this process, and a power cut may take the last seconds. It is a file of
its own, so that its failure undoes nothing of the directory.

    table     columns                                     what
    messages  at room came sender seq datagram            one DATA a row; `at` grows by one
    rooms     number fold made dead count bytes           `room` of a message is such a number
    marks     at ran                                      the age of messages, see below
    state     ran                                         seconds that servers ran, in all

A number belongs to one room, as it was made: a room that is deleted and made anew has another one.
A number is dead from the commit of the deletion on. Its rows go in pieces, by `tidy`; then the
freed pages are given back, the log is emptied, and what sqlite has left in the pages that stay is
overwritten (`secure_delete`, `scrubbing`), so that the text is nowhere in the files. Only then the
number itself goes: after a restart all of that is done again.

The age of a message is counted in seconds of the server's own running, as in `expiry`, and not by
the calendar: a box without a clock chip leaps by years, and must not lose its history by that. From
time to time `pass_time` writes a mark: messages with a smaller `at` came at `ran` or before.

    piece of `tidy`, HISTORY_ROWS_PER_TICK rows at most    when
    rows of a dead number                                  there is one
    the oldest rows of a room                              it has too many messages or bytes
    the oldest rows of all                                 there are too many bytes in all
    rows below a mark                                      the mark is older than the span
    free pages, then gaps in pages, then dead numbers      rows of the first or fourth kind went

Every failure is a StoreError, and closes the file: what was not committed is forgotten. Whoever
opens it anew finds what was committed.
"""

from __future__ import annotations

import os
import stat
from collections import namedtuple

from evloop.base.errors import CANT_CREATE, SetupError, StoreError
from evloop.daemon.file_lock import LOCK, InUse, forget_lock, take_lock
from evloop.daemon.limits import (
    HISTORY_PAGES_PER_TICK,
    HISTORY_ROOM_BYTES_MAX,
    HISTORY_ROOM_ROWS_MAX,
    HISTORY_ROW_BYTES,
    HISTORY_ROWS_PER_TICK,
    KEPT_BYTES_MAX,
)
from evloop.daemon.scrubbing import scrub
from evloop.daemon.state_file import is_database

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable
    from typing import Any, NamedTuple

    class Row(NamedTuple):
        """One DATA: its place in the file, unix seconds when it came, and the datagram."""

        at: int
        came: int
        sender: bytes
        seq: int
        datagram: bytes
else:
    Row = namedtuple("Row", "at came sender seq datagram")

_APPLICATION_ID = 0x65766C68  # "evlh": tells our file from any other sqlite database
_LAYOUT = 1  # PRAGMA user_version
_MAKE = (
    "CREATE TABLE messages (at INTEGER PRIMARY KEY, room INTEGER NOT NULL, came INTEGER NOT NULL,"
    " sender BLOB NOT NULL, seq INTEGER NOT NULL, datagram BLOB NOT NULL,"
    " UNIQUE (room, sender, seq))",
    "CREATE INDEX by_room ON messages (room, at)",
    "CREATE TABLE rooms (number INTEGER PRIMARY KEY, fold TEXT NOT NULL, made INTEGER NOT NULL,"
    " dead INTEGER NOT NULL DEFAULT 0, count INTEGER NOT NULL DEFAULT 0,"
    " bytes INTEGER NOT NULL DEFAULT 0)",
    "CREATE TABLE marks (at INTEGER PRIMARY KEY, ran INTEGER NOT NULL)",
    "CREATE TABLE state (ran INTEGER NOT NULL)",
    "INSERT INTO state VALUES (0)",
    f"PRAGMA application_id = {_APPLICATION_ID}",
    f"PRAGMA user_version = {_LAYOUT}",
)
_INSERT = "INSERT OR IGNORE INTO messages VALUES (?, ?, ?, ?, ?, ?)"
_PAGE = (
    "SELECT at, came, sender, seq, datagram FROM messages WHERE room = ? AND at < ?"
    " ORDER BY at DESC LIMIT ?"
)
_OLDEST = "SELECT at, room, length(datagram) FROM messages WHERE at < ? ORDER BY at LIMIT ?"
_OLDEST_OF = "SELECT at, room, length(datagram) FROM messages WHERE room = ? ORDER BY at LIMIT ?"
_FILES = ("", "-wal")  # neither may be replaced while we write to it
_END = 2**63 - 1


class _Kept:
    """What is held of one room."""

    __slots__ = ("count", "size")

    def __init__(self, count: int, size: int) -> None:
        self.count = count
        self.size = size  # bytes of the datagrams


class HistoryStore:
    """The open file. `ran`: seconds that servers on it have run, without this one.

    `rows_max` and `bytes_max` are the caps of a room, `all_bytes_max` that of the file.
    """

    __slots__ = (
        "_dead", "_faults", "_identity", "_kept", "_lock", "_next", "_numbers",
        "_open", "_path", "_scrub_at", "_size", "_touched", "_vacuum", "all_bytes_max",
        "bytes_max", "closed", "connection", "ran", "rows_max",
    )  # fmt: skip

    def __init__(self, path: str, connection: sqlite3.Connection, lock: int) -> None:
        from sqlite3 import Error

        self._path = path
        self.connection = connection
        self._lock = lock
        self._faults = (Error, ArithmeticError, TypeError, ValueError)
        self.closed = False
        self._vacuum = False  # there are free pages to be given back
        self._scrub_at = 0  # the page from which on gaps are to be overwritten; 0: none
        self.rows_max = HISTORY_ROOM_ROWS_MAX
        self.bytes_max = HISTORY_ROOM_BYTES_MAX
        self.all_bytes_max = KEPT_BYTES_MAX
        self._open = False  # a transaction
        self._touched: set[int] = set()  # rooms whose counts are to be written
        self._numbers: dict[tuple[str, int], int] = {}
        self._kept: dict[int, _Kept] = {}
        self._dead: list[int] = []
        self._size = 0  # bytes of all rows, as they lie on the disk
        for number, fold, made, dead, count, size in self._all(
            "SELECT number, fold, made, dead, count, bytes FROM rooms"
        ):
            self._kept[number] = _Kept(count, size)
            self._size += size + count * HISTORY_ROW_BYTES
            if dead:
                self._dead.append(number)
            else:
                self._numbers[fold, made] = number
        self.ran: int = self._all("SELECT ran FROM state")[0][0]
        ((newest, marked),) = self._all(
            "SELECT (SELECT max(at) FROM messages), (SELECT max(at) FROM marks)"
        )
        self._next = max((newest or 0) + 1, marked or 1)
        self._identity = self._identities()

    # -- rooms -------------------------------------------------------------------------------

    def number(self, fold: str, made: int) -> int:
        """The number of the room `fold` that was made at `made`; a new one if need be."""
        number = self._numbers.get((fold, made))
        if number is None:
            self._change("INSERT INTO rooms (fold, made) VALUES (?, ?)", (fold, made))
            (number,) = self._all("SELECT last_insert_rowid()")[0]
            self._numbers[fold, made] = number
            self._kept[number] = _Kept(0, 0)
        return number

    def forget(self, fold: str, made: int) -> None:
        """The room is deleted: from the commit in here on, nothing of it is given out."""
        number = self._numbers.pop((fold, made), None)
        if number is not None:
            self._die(number)
            self.commit()

    def retain(self, rooms: set[tuple[str, int]]) -> None:
        """Of all rooms there are these (fold, made) only: forget all others."""
        gone = [key for key in self._numbers if key not in rooms]
        for key in gone:
            self._die(self._numbers.pop(key))
        if gone:
            self.commit()

    def _die(self, number: int) -> None:
        self._change("UPDATE rooms SET dead = 1 WHERE number = ?", (number,))
        self._dead.append(number)

    # -- messages ----------------------------------------------------------------------------

    def insert(self, number: int, came: int, sender: bytes, seq: int, datagram: bytes) -> bool:
        """Put a message into the transaction; False: there is one with that number already."""
        if not self._change(_INSERT, (self._next, number, came, sender, seq, datagram)):
            return False
        self._next += 1
        kept = self._kept[number]
        kept.count += 1
        kept.size += len(datagram)
        self._size += len(datagram) + HISTORY_ROW_BYTES
        self._touched.add(number)
        return True

    def commit(self) -> None:
        """What was changed is there from now on, also after the end of this process."""
        if not self._open:
            return
        for number in self._touched:
            kept = self._kept[number]
            counts = kept.count, kept.size, number
            self._change("UPDATE rooms SET count = ?, bytes = ? WHERE number = ?", counts)
        if self._identities() != self._identity:
            raise self._failed(f"{self._path} was removed or replaced while the server runs")
        self._change("COMMIT")
        self._open = False
        self._touched.clear()

    def page(self, number: int, before: int, limit: int) -> list[Row]:
        """The newest `limit` messages of a room with `at` < `before`, newest first.

        A row that this program cannot have written is left out.
        """
        rows = self._all(_PAGE, (number, min(before, _END), limit))
        return [row for row in map(Row._make, rows) if _is_whole(row)]

    def ages(self, rows: Iterable[Row], ran_s: float) -> dict[int, float]:
        """By `at`, how many seconds ago each row came when servers have run for `ran_s` in all:
        at most so many, for marks are far between."""
        marks = self._all("SELECT at, ran FROM marks ORDER BY at DESC")
        ages = {}
        for row in rows:
            since = next((ran for at, ran in marks if at <= row.at), 0)
            ages[row.at] = max(0.0, ran_s - since)
        return ages

    # -- time and housekeeping -----------------------------------------------------------------

    def pass_time(self, ran_s: float) -> None:
        """Servers have run for `ran_s` seconds in all: mark which messages are older than now."""
        self._change("UPDATE state SET ran = ?", (int(ran_s),))
        mark = "INSERT OR REPLACE INTO marks VALUES (?, ?)"
        newest = self._all("SELECT max(at) FROM marks")[0][0]
        if newest is None or newest < self._next:
            self._change(mark, (self._next, int(ran_s)))
        self.commit()

    def tidy(self, oldest_ran_s: float | None) -> bool:
        """Do one piece of what is to be removed; whether there is more. What came at
        `oldest_ran_s` or before is too old; None: nothing is."""
        done = (
            self._bury()
            or self._shrink()
            or self._expire(oldest_ran_s)
            or self._give_back()
            or self._scrub()
        )
        self.commit()
        return done

    def _bury(self) -> bool:
        for number in self._dead:
            if self._kept[number].count:
                self._remove(_OLDEST_OF, number, HISTORY_ROWS_PER_TICK)
                self._vacuum = True
                return True
        return False

    def _shrink(self) -> bool:
        for number in self._numbers.values():
            kept = self._kept[number]
            over = kept.count - self.rows_max
            if kept.size > self.bytes_max:
                over = max(over, -(kept.count * (self.bytes_max - kept.size) // kept.size))
            if over > 0:
                return self._remove(_OLDEST_OF, number, min(over, HISTORY_ROWS_PER_TICK)) > 0
        return self._size > self.all_bytes_max and (
            self._remove(_OLDEST, _END, HISTORY_ROWS_PER_TICK) > 0
        )

    def _expire(self, oldest_ran_s: float | None) -> bool:
        if oldest_ran_s is None:
            return False
        old = self._all("SELECT max(at) FROM marks WHERE ran <= ?", (int(oldest_ran_s),))
        if old[0][0] is None:
            return False
        if self._remove(_OLDEST, old[0][0], HISTORY_ROWS_PER_TICK):
            self._vacuum = True
            return True
        self._change("DELETE FROM marks WHERE at < ?", (old[0][0],))
        return False

    def _give_back(self) -> bool:
        """Give some of the free pages back to the system."""
        self._vacuum = self._vacuum or bool(self._dead and not self._scrub_at)
        if not self._vacuum:
            return False
        self.commit()
        before = self._all("PRAGMA freelist_count")[0][0]
        self._all(f"PRAGMA incremental_vacuum({HISTORY_PAGES_PER_TICK})")
        self._vacuum = 0 < self._all("PRAGMA freelist_count")[0][0] < before
        if not self._vacuum:
            self._scrub_at = 1
        return True

    def _scrub(self) -> bool:
        """Empty the log, which holds what was deleted, and overwrite gaps in some of the pages."""
        if not self._scrub_at:
            return False
        self.commit()
        if self._all("PRAGMA wal_checkpoint(TRUNCATE)")[0][0]:
            return False  # somebody reads an older state: the next time
        try:
            self.connection.close()  # what it remembers of the pages would be written back
            self._scrub_at = scrub(self._path, self._scrub_at, HISTORY_PAGES_PER_TICK)
            self.connection = _connect(self._path)
            self._identity = self._identities()
        except (OSError, SetupError, *self._faults) as error:
            raise self._failed(f"{self._path}: {error}") from error
        if not self._scrub_at:
            for number in self._dead:
                self._change("DELETE FROM rooms WHERE number = ?", (number,))
                self._kept.pop(number)
                self._touched.discard(number)
            self._dead.clear()
        return self._scrub_at > 0

    def _remove(self, which: str, key: int, most: int) -> int:
        """Remove `most` of the rows that the statement `which` finds; return how many."""
        rows = self._all(which, (key, most))
        for at, number, size in rows:
            self._change("DELETE FROM messages WHERE at = ?", (at,))
            kept = self._kept.get(number)
            if kept is not None:
                kept.count -= 1
                kept.size -= size
                self._touched.add(number)
            self._size -= size + HISTORY_ROW_BYTES
        return len(rows)

    def close(self) -> None:
        """Close the file; what was not committed is forgotten."""
        if self.closed:
            return
        self.closed = True
        try:
            self.connection.close()
        except self._faults as error:  # it is closed all the same
            raise StoreError(f"{self._path}: {error}") from error
        finally:
            forget_lock(self._lock)

    # -- sqlite --------------------------------------------------------------------------------

    def counts(self) -> dict[int, tuple[int, int]]:
        """By number, how many messages of a room are held, and how many bytes they have."""
        return {number: (kept.count, kept.size) for number, kept in self._kept.items()}

    def held(self) -> tuple[int, int]:
        """How many messages are held, in how many bytes on the disk."""
        return sum(kept.count for kept in self._kept.values()), self._size

    def _all(self, sql: str, values: tuple[object, ...] = ()) -> list[Any]:
        if self.closed:
            raise StoreError(f"{self._path} is closed")
        try:
            return self.connection.execute(sql, values).fetchall()
        except self._faults as error:
            raise self._failed(f"{self._path}: {error}") from error

    def _change(self, sql: str, values: tuple[object, ...] = ()) -> int:
        if self.closed:
            raise StoreError(f"{self._path} is closed")
        try:
            if not self._open:
                self.connection.execute("BEGIN IMMEDIATE")
                self._open = True
            return self.connection.execute(sql, values).rowcount
        except self._faults as error:
            raise self._failed(f"{self._path}: {error}") from error

    def _failed(self, why: str) -> StoreError:
        """The error to raise; the file is closed, so that what memory counts cannot differ."""
        try:
            self.close()
        except StoreError as error:
            why = f"{why}; {error}"
        return StoreError(why)

    def _identities(self) -> list[tuple[int, int] | None]:
        """What is found under the names of our files."""
        found: list[tuple[int, int] | None] = []
        for suffix in _FILES:
            try:
                status = os.stat(self._path + suffix)
            except OSError:
                found.append(None)
            else:
                found.append((status.st_dev, status.st_ino))
        return found


def _is_whole(row: Row) -> bool:
    at, came, sender, seq, datagram = row
    return (
        type(datagram) is bytes
        and type(sender) is bytes
        and all(type(number) is int for number in (at, came, seq))
        and len(sender) == 8
        and 0 <= seq < 2**32
        and 0 <= came < 2**32
    )


def open_history(path: str) -> HistoryStore:
    """Open the file, made if need be (0600, its directory 0700), for us alone; SetupError 73."""
    try:
        from sqlite3 import Error
    except ImportError:
        raise _cannot(path, "this Python has no sqlite3") from None
    path = os.path.abspath(path)
    try:
        _make_file(path)
        lock = take_lock(path)
    except InUse as error:
        whom = f"process {error.holder}" if error.holder else "another process"
        raise _cannot(path, f"{whom} is using it") from None
    except OSError as error:
        raise _cannot(path, error.strerror or str(error)) from error
    connection = None
    try:
        connection = _connect(path)
        return HistoryStore(path, connection, lock)
    except BaseException as error:
        if connection is not None:
            connection.close()
        _let_go(lock)
        if isinstance(error, (Error, StoreError, ArithmeticError, TypeError, ValueError)):
            raise _cannot(path, str(error)) from error
        raise


def _let_go(lock: int) -> None:
    try:
        forget_lock(lock)
    except OSError:  # a store that failed when it was read has let go of it
        return


def _make_file(path: str) -> None:
    """Make sure that a regular file is there, with no pipe under the names that sqlite opens."""
    os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        pass
    _check_beside(path)


def _check_beside(path: str) -> None:
    for suffix in ("", LOCK, "-journal", "-wal", "-shm"):
        try:
            mode = os.stat(path + suffix).st_mode
        except FileNotFoundError:
            continue
        if not stat.S_ISREG(mode):
            raise OSError(0, f"{path}{suffix} is not a regular file")


def check_beside(path: str) -> None:
    """Nothing waits under a name that sqlite opens; SetupError 73."""
    try:
        _check_beside(path)
    except OSError as error:
        raise _cannot(path, error.strerror or str(error)) from error


def is_history(connection: sqlite3.Connection) -> bool:
    """Whether this is one of our files; an error of sqlite."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    return bool(application == _APPLICATION_ID)


def is_history_file(path: str) -> bool:
    """Whether the file is one of ours, or empty. OSError."""
    return is_database(path, _APPLICATION_ID)


def _connect(path: str) -> sqlite3.Connection:
    """A connection to the file, made sure that it is ours, with what is missing in a new one."""
    from sqlite3 import connect

    connection = connect(path, timeout=0, isolation_level=None)
    try:
        _prepare(path, connection.execute)
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(path: str, execute: Callable[[str], sqlite3.Cursor]) -> None:
    execute("PRAGMA auto_vacuum = INCREMENTAL")  # takes effect in an empty file only
    (application,) = execute("PRAGMA application_id").fetchone()
    (layout,) = execute("PRAGMA user_version").fetchone()
    (tables,) = execute("SELECT count(*) FROM sqlite_master").fetchone()
    if tables and application != _APPLICATION_ID:
        raise _cannot(path, "it is the database of another program")
    if layout > _LAYOUT:
        raise _cannot(path, "it was written by a newer evloop")
    (journal,) = execute("PRAGMA journal_mode = WAL").fetchone()
    if journal != "wal":
        raise _cannot(path, f"its file system allows no write-ahead log (but {journal})")
    execute("PRAGMA synchronous = NORMAL")
    execute("PRAGMA secure_delete = ON").fetchone()
    if not tables:
        execute("BEGIN IMMEDIATE")
        for step in _MAKE:
            execute(step)
        execute("COMMIT")
    # A read-only file would be noticed with the first message only, and the log is made by this.
    execute("BEGIN IMMEDIATE")
    execute("UPDATE state SET ran = ran")
    execute("COMMIT")


def _cannot(path: str, why: str) -> SetupError:
    sentence = f"cannot keep history in {path}: {why}; name another file with --keep-file"
    return SetupError(sentence, CANT_CREATE)
