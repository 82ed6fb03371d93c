"""The durable directory: one sqlite3 file.

All changes of one tick of the loop share one transaction, and with it one sync of the disk:

    state  insert, delete           commit                      rollback   a failure in any
    idle   begin, change -> open    nothing                     nothing    StoreError, -> idle
    open   change                   version, sync -> idle       -> idle    StoreError, -> idle

A failure takes the WHOLE transaction with it. sqlite does so by itself on a full disk (measured:
savepoints do not survive it either), so nothing here pretends that a part could be kept: who
catches a StoreError undoes the whole tick.

The file is ours alone while it is open (locking_mode=EXCLUSIVE: no shared-memory file, and no
second server), and each commit is on the disk when it returns (WAL with synchronous=FULL).
"""

from __future__ import annotations

import os
import stat
from time import perf_counter

from evloop.base.errors import CANT_CREATE, SetupError, StoreError
from evloop.directory.protocol import RoomEntry
from evloop.system.timers import nothing

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Mapping


_APPLICATION_ID = 0x65766C70  # "evlp": tells our file from any other sqlite database
# What leads from one layout (PRAGMA user_version) to the next; a new file walks all of them.
_LAYOUTS = (
    (
        "CREATE TABLE state (version INTEGER NOT NULL)",
        "INSERT INTO state VALUES (0)",
        "CREATE TABLE rooms (name TEXT PRIMARY KEY, address TEXT NOT NULL, port INTEGER NOT NULL,"
        " mode TEXT NOT NULL, made INTEGER NOT NULL, maker TEXT NOT NULL, token BLOB NOT NULL)"
        " WITHOUT ROWID",
    ),
    (
        # For --expire, see expiry.py: seconds that servers ran, in all, and that sum when a room
        # was last seen with somebody in it (NULL: not looked at yet).
        "ALTER TABLE state ADD COLUMN ran INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE rooms ADD COLUMN seen INTEGER",
    ),
)
# The columns stand in the order of Room's arguments.
_SELECT = "SELECT name, address, port, mode, made, maker, token FROM rooms"
_INSERT = "INSERT INTO rooms VALUES (?, ?, ?, ?, ?, ?, ?, NULL)"
_DELETE = "DELETE FROM rooms WHERE name = ?"

_BUSY, _CORRUPT, _NOT_A_DATABASE = 5, 11, 26  # result codes
_CODES_BY_WORDS = {"locked": _BUSY, "malformed": _CORRUPT, "not a database": _NOT_A_DATABASE}

_CACHE_KIB = 512  # sqlite's own 2 MiB are for queries; we read once and then only write
_LOCKS_AT = 0x40000000  # where sqlite's locks lie in its file (its "pending byte"), and how many
_LOCKS_LENGTH = 512


class MemoryStore:
    """Keeps nothing: the store of `--memory`, and the interface of all stores.

    `on_sync(seconds)` is told after each commit how long the disk took for it.
    """

    __slots__ = ("_version", "on_sync")

    def __init__(self, version: int) -> None:
        self._version = version
        self.on_sync: Callable[[float], object] = nothing

    def load(self) -> tuple[int, list[RoomEntry]]:
        """Return version and rooms as they were last committed. For once, after opening."""
        return self._version, []

    def load_seen(self) -> tuple[float, dict[str, float]]:
        """Return what `note_seen` stored: seconds run in all, and by name when rooms were seen."""
        return 0.0, {}

    def note_seen(self, ran_s: float, seen: Mapping[RoomEntry, float]) -> None:
        """Put both into the transaction; StoreError when it, and all of it, could not be."""

    def insert(self, room: RoomEntry) -> None:
        """Add a room to the transaction; StoreError when it, and all of it, could not be."""

    def delete(self, room: RoomEntry) -> None:
        """Remove a room in the transaction; StoreError when it, and all of it, could not be."""

    def commit(self, version: int) -> None:
        """Put the transaction and `version` on the disk; StoreError when nothing of it is there."""

    def rollback(self) -> None:
        """Forget the transaction."""

    def close(self) -> None:
        """Close the file; what was not committed is forgotten."""


class Store:
    """The state file of `path`, opened by `open_store`. Methods as in MemoryStore."""

    __slots__ = ("_connection", "_faults", "_files", "_open", "_path", "on_sync")

    def __init__(self, path: str, connection: sqlite3.Connection) -> None:
        from sqlite3 import Error

        self._path = path
        self._connection = connection
        # What sqlite3 raises for what the disk, or a value that it cannot hold, does to it.
        self._faults = (Error, ArithmeticError, TypeError, ValueError)
        self._open = False
        self._files = self._identities()
        self.on_sync: Callable[[float], object] = nothing

    def load(self) -> tuple[int, list[RoomEntry]]:
        try:
            (version,) = self._connection.execute("SELECT version FROM state").fetchone()
            rooms = [RoomEntry(*columns) for columns in self._connection.execute(_SELECT)]
        except self._faults as error:
            raise _setup_error(self._path, f"it is damaged: {error}") from error
        return version, rooms

    def load_seen(self) -> tuple[float, dict[str, float]]:
        execute = self._connection.execute
        try:
            (ran,) = execute("SELECT ran FROM state").fetchone()
            seen = dict(execute("SELECT name, seen FROM rooms WHERE seen IS NOT NULL"))
        except self._faults as error:
            raise _setup_error(self._path, f"it is damaged: {error}") from error
        return ran, seen

    def note_seen(self, ran_s: float, seen: Mapping[RoomEntry, float]) -> None:
        self._change("UPDATE state SET ran = ?", (int(ran_s),))
        for room, when in seen.items():
            self._change("UPDATE rooms SET seen = ? WHERE name = ?", (int(when), room.name))

    def insert(self, room: RoomEntry) -> None:
        columns = room.name, room.address, room.port, room.mode, room.made, room.maker, room.token
        self._change(_INSERT, columns)

    def delete(self, room: RoomEntry) -> None:
        if self._change(_DELETE, (room.name,)) != 1:
            self.rollback()
            raise StoreError("the room is not in the state file")

    def commit(self, version: int) -> None:
        if not self._open:
            return
        self._change("UPDATE state SET version = ?", (version,))
        if self._identities() != self._files:
            self.rollback()
            raise StoreError("the state file was removed or replaced while the server runs")
        begin = perf_counter()
        self._change("COMMIT")
        self._open = False
        self.on_sync(perf_counter() - begin)

    def rollback(self) -> None:
        self._open = False
        if self._connection.in_transaction:
            try:
                self._connection.execute("ROLLBACK")
            except self._faults as error:
                # Should a transaction stay open, the next BEGIN fails: nothing is mixed up.
                raise StoreError(f"a change could not be undone on the disk: {error}") from error

    def close(self) -> None:
        self._connection.close()

    def _change(self, sql: str, values: tuple[object, ...] = ()) -> int:
        try:
            if not self._open:
                self._connection.execute("BEGIN IMMEDIATE")
                self._open = True
            return self._connection.execute(sql, values).rowcount
        except self._faults as error:
            self.rollback()
            raise StoreError(f"the change could not be stored: {error}") from error

    def _identities(self) -> list[tuple[int, int] | None]:
        """What is found under the names of our two files. sqlite goes on writing to a file that
        was removed, and what it acknowledged would be gone with the process."""
        found: list[tuple[int, int] | None] = []
        for path in (self._path, self._path + "-wal"):
            try:
                status = os.stat(path)
            except OSError:
                found.append(None)
            else:
                found.append((status.st_dev, status.st_ino))
        return found


# -- opening ---------------------------------------------------------------------------------------


def open_store(path: str) -> Store:
    """Open the state file, made with its directory if need be (0600, 0700), for us alone.

    Raises SetupError with status 73 and a sentence that says what is wrong and what to do. When
    it returns, the file was written to once: a server that listens can store.
    """
    try:
        from sqlite3 import Error, connect
    except ImportError:
        raise SetupError(
            "this Python has no sqlite3 to keep the rooms with; start with --memory", CANT_CREATE
        ) from None
    path = os.path.abspath(path)  # also, so that ":memory:" is a file like any other
    try:
        _make_file(path)
    except OSError as error:
        raise _setup_error(path, error.strerror or str(error)) from error
    connection = None
    try:
        connection = connect(path, timeout=0, isolation_level=None)
        _prepare(path, connection)
        return Store(path, connection)
    except Error as error:
        _close(connection)
        raise _explain(path, error) from error
    except SetupError:
        _close(connection)
        raise


def _close(connection: sqlite3.Connection | None) -> None:
    if connection is not None:
        connection.close()


def _make_file(path: str) -> None:
    """Make sure that a regular file is there.

    One that exists is not opened: closing any descriptor of a file drops all the locks that the
    process has on it (POSIX), those of a store that is open already among them.
    """
    missing = []
    directory = os.path.dirname(path)
    while not os.path.isdir(directory):
        missing.append(directory)
        directory = os.path.dirname(directory)
    for directory in reversed(missing):
        os.mkdir(directory, 0o700)
        _sync_directory(os.path.dirname(directory))
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise OSError(0, "it is not a regular file") from None


def _sync_directory(directory: str) -> None:
    """Put the names in `directory` on the disk. sqlite does so for that of its files only."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _prepare(path: str, connection: sqlite3.Connection) -> None:
    """Make sure that the file is ours, bring it to the newest layout, and write to it once."""
    execute = connection.execute
    execute("PRAGMA locking_mode = EXCLUSIVE")
    (application,) = execute("PRAGMA application_id").fetchone()
    (layout,) = execute("PRAGMA user_version").fetchone()
    (tables,) = execute("SELECT count(*) FROM sqlite_master").fetchone()
    if tables and application != _APPLICATION_ID:
        raise _setup_error(path, "it is the database of another program")
    if layout > len(_LAYOUTS):
        raise _setup_error(
            path,
            f"it was written by a newer evloop (layout {layout}, this one knows {len(_LAYOUTS)})",
            "install that version, or name another file with --state",
        )
    (journal,) = execute("PRAGMA journal_mode = WAL").fetchone()
    if journal != "wal":
        raise _setup_error(path, f"its file system allows no write-ahead log (but {journal})")
    execute("PRAGMA synchronous = FULL")
    # The log is copied into the file at 1,000 pages, sqlite's own figure: that commit takes 2.9 ms
    # instead of 0.6 (100,000 rooms, groups of 64). At 250 pages it took 2.4, but all of them 10 %
    # more; at 64, 1.9 and 50 %.
    execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    execute("BEGIN IMMEDIATE")
    for steps in _LAYOUTS[layout:]:
        for step in steps:
            execute(step)
    execute(f"PRAGMA application_id = {_APPLICATION_ID}")
    execute(f"PRAGMA user_version = {len(_LAYOUTS)}")
    execute("UPDATE state SET version = version")
    execute("COMMIT")


def _setup_error(
    path: str, why: str, what_next: str = "name another file with --state, or start with --memory"
) -> SetupError:
    return SetupError(f"cannot use the state file {path}: {why}; {what_next}", CANT_CREATE)


def _primary_code(error: sqlite3.Error) -> int:
    """The result code as sqlite.org/rescode.html numbers them, 0 where it cannot be told.

    Python 3.9 and 3.10 do not pass it on: there sqlite's own words tell.
    """
    code: int | None = getattr(error, "sqlite_errorcode", None)
    if code is not None:
        return code & 0xFF  # without the extension of the code
    words = str(error)
    return next((code for part, code in _CODES_BY_WORDS.items() if part in words), 0)


def _explain(path: str, error: sqlite3.Error) -> SetupError:
    code = _primary_code(error)
    if code == _BUSY:
        who = _holder(path)
        whom = f"process {who}" if who else "another process"
        next_step = "stop it first, or name another file with --state"
        return _setup_error(path, f"{whom} is using it", next_step)
    if code in (_NOT_A_DATABASE, _CORRUPT):
        next_step = "move it away to start anew, or name another file with --state"
        return _setup_error(path, f"it is damaged or no evloop state file ({error})", next_step)
    return _setup_error(path, str(error))


def _holder(path: str) -> int:
    """The process that holds sqlite's lock on the file, 0 when it cannot be told: fcntl(2)
    F_GETLK asks whether a lock could be had, and names who has one in the way.

    For a process that has no store on this file: closing the descriptor would drop its locks.
    """
    from fcntl import F_GETLK, F_WRLCK, fcntl
    from struct import calcsize, pack, unpack

    flock = "hhqqi"  # type, whence, start, length, pid: struct flock with 64-bit offsets
    question = pack(flock + "0q", F_WRLCK, os.SEEK_SET, _LOCKS_AT, _LOCKS_LENGTH, 0)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            answer = fcntl(descriptor, F_GETLK, question)
        finally:
            os.close(descriptor)
    except OSError:
        return 0
    kind, _, _, _, pid = unpack(flock, answer[: calcsize(flock)])
    return pid if kind == F_WRLCK else 0
