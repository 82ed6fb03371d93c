"""The durable directory: one sqlite3 file, at work. `state_file` opens it.

All changes of one tick of the loop share one transaction, and with it one sync of the disk:

    state  insert, delete           commit                      rollback   a failure in any
    idle   begin, change -> open    nothing                     nothing    StoreError, -> idle
    open   change                   version, sync -> idle       -> idle    StoreError, -> idle

A failure rolls back the WHOLE transaction. sqlite does so by itself on a full disk (measured:
savepoints do not survive it either), so no part of it is ever kept: `group_commit` undoes the whole
tick when it catches a StoreError.

Each commit is on the disk when it returns (WAL with synchronous=FULL). What is in the log is
copied into the file by `checkpoint`, a few seconds after a change, so that a copy of the file
alone is a backup. Other programs may read the file meanwhile; two servers on one file are kept
apart by a lock of ours (state_file.py).

A log belongs to one file. sqlite itself would apply the log of yesterday's server to the copy that
was put in its place. So the row `state` names the file, in two columns, and every transaction
writes that row. What the file says without its log is compared at the next start:

    moment                        the file says     the log says          allowed is
    after a checkpoint            name E            nothing, it is empty
    a change                      name E            name E, former E      name or former is E
    a start, a checkpoint begins  name E            name F, former E      name or former is E
    in the middle of it           name E or F       name F, former E      name or former is it
    it has ended                  name F            nothing, it is empty
"""

from __future__ import annotations

import os
from time import perf_counter

from evloop.base.errors import StoreError
from evloop.daemon.file_lock import forget_lock
from evloop.daemon.limits import LOG_BYTES_MAX
from evloop.daemon.state_file import (
    BESIDE,
    damaged,
    open_state,
    read_identity,
    read_rooms,
)
from evloop.directory.protocol import RoomEntry
from evloop.system.timers import nothing

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Mapping

_INSERT = "INSERT INTO rooms VALUES (?, ?, ?, ?, ?, ?, ?, NULL)"
_DELETE = "DELETE FROM rooms WHERE name = ?"
_KEEP = "INSERT OR REPLACE INTO kept VALUES (?, ?)"
_KEEP_NO_MORE = "DELETE FROM kept WHERE name = ?"
# The first change after a checkpoint says that there is no former name any more.
_VERSION = "UPDATE state SET version = ?"
_VERSION_SETTLED = "UPDATE state SET version = ?, former = name"
_RENAME = "UPDATE state SET former = name, name = ?"
_OVERWRITE = "UPDATE state SET overwritten = overwritten + 1"


class MemoryStore:
    """Keeps nothing: the store of `--memory`, and the interface of all stores.

    `identity`: 16 hex digits that tell this directory from all others, see `hello` in the
    directory protocol. `on_sync(seconds)` is told after each commit how long the disk took for it.
    """

    __slots__ = ("_version", "identity", "on_sync")

    def __init__(self, version: int, identity: str) -> None:
        self._version = version
        self.identity = identity
        self.on_sync: Callable[[float], object] = nothing

    def load(self) -> tuple[int, list[RoomEntry]]:
        """Return version and rooms as they were last committed. For once, after opening."""
        return self._version, []

    def identify(self, identity: str) -> None:
        """Be the directory `identity` from now on; StoreError. For the copy of a cluster's."""
        self.identity = identity

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

    def checkpoint(self) -> bool:
        """Copy the log into the file; False when it should be tried again later."""
        return True

    def close(self) -> None:
        """Close the file; what was not committed is forgotten."""


class Store:
    """The state file of `path`, opened by `state_file.open_state`. Methods as in MemoryStore.

    `lock` is the descriptor that keeps other servers out; `settled`: the log is empty.
    """

    __slots__ = (
        "_checkpoint_at",
        "_faults",
        "_files",
        "_lock",
        "_open",
        "_path",
        "connection",
        "identity",
        "on_sync",
        "settled",
    )

    def __init__(self, path: str, connection: sqlite3.Connection, lock: int, settled: bool) -> None:
        from sqlite3 import Error

        self._path = path
        self.connection = connection
        self._lock = lock
        # What sqlite3 raises for what the disk, or a value that it cannot hold, does to it.
        self._faults = (Error, ArithmeticError, TypeError, ValueError)
        self._open = False
        # The file says the newest name by itself, so that no log needs to know the former.
        self.settled = settled
        self._checkpoint_at = LOG_BYTES_MAX  # this size of the log does not wait for its time
        self._files = self._identities()[0]
        self.identity = ""  # known when it is loaded
        self.on_sync: Callable[[float], object] = nothing

    def load(self) -> tuple[int, list[RoomEntry]]:
        version, rooms = read_rooms(self._path, self.connection)
        self.identity = read_identity(self._path, self.connection)
        return version, rooms

    def identify(self, identity: str) -> None:
        number = int.from_bytes(bytes.fromhex(identity), "big", signed=True)
        self._change("UPDATE state SET identity = ?", (number,))
        self.identity = identity

    def load_seen(self) -> tuple[float, dict[str, float]]:
        execute = self.connection.execute
        try:
            (ran,) = execute("SELECT ran FROM state").fetchone()
            seen = dict(execute("SELECT name, seen FROM rooms WHERE seen IS NOT NULL"))
        except self._faults as error:
            raise damaged(self._path, str(error)) from error
        for value in (ran, *seen.values()):
            if type(value) is not int or value < 0:
                raise damaged(self._path, "a time in it is no number of seconds")
        return ran, seen

    def note_seen(self, ran_s: float, seen: Mapping[RoomEntry, float]) -> None:
        self._change("UPDATE state SET ran = ?", (int(ran_s),))
        for room, when in seen.items():
            self._change("UPDATE rooms SET seen = ? WHERE name = ?", (int(when), room.name))

    def insert(self, room: RoomEntry) -> None:
        columns = room.name, room.address, room.port, room.mode, room.made, room.maker, room.token
        self._change(_INSERT, columns)
        if room.marked:
            self._change(_KEEP, (room.name, room.made))

    def delete(self, room: RoomEntry) -> None:
        if self._change(_DELETE, (room.name,)) != 1:
            self.rollback()
            raise StoreError("the room is not in the state file")
        if room.marked:
            self._change(_KEEP_NO_MORE, (room.name,))

    def commit(self, version: int) -> None:
        if not self._open:
            return
        self._change(_VERSION_SETTLED if self.settled else _VERSION, (version,))
        files, log_bytes = self._identities()
        if files != self._files:
            self.rollback()
            raise StoreError("the state file was removed or replaced while the server runs")
        begin = perf_counter()
        try:
            self._change("COMMIT")
        except StoreError:
            self._overwrite()
            raise
        self._open = False
        self.on_sync(perf_counter() - begin)
        if log_bytes > self._checkpoint_at:
            self._checkpoint_at = log_bytes + LOG_BYTES_MAX
            self.checkpoint()

    def _overwrite(self) -> None:
        """Write something else where a commit has failed.

        When the sync of the disk fails, all of the refused transaction is in the log already, and
        would be found there after a crash. Any other transaction is written in its place; what
        follows that one has sums that do not fit and is not read (fileformat2, 4.1).
        """
        try:
            self.connection.execute(_OVERWRITE)
        except self._faults:  # the disk takes nothing at all: nor did it take what was refused
            return

    def rollback(self) -> None:
        self._open = False
        if self.connection.in_transaction:
            try:
                self.connection.execute("ROLLBACK")
            except self._faults as error:
                # Should a transaction stay open, the next BEGIN fails: nothing is mixed up.
                raise StoreError(f"a change could not be undone on the disk: {error}") from error

    def checkpoint(self) -> bool:
        """Copy the log into the file and empty it; False when it should be tried again later.

        Measured (100,000 rooms, 1,000 pages in the log): 4 ms, of which the disk's syncs are 3.
        """
        if self._open or self._identities()[0] != self._files:
            return False
        begin = perf_counter()
        try:
            if self.settled:  # else it has its new name, and the log may be half copied
                self.settled = False
                self.connection.execute(_RENAME, (new_name(),))
            answer = self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except self._faults:  # everything stays in the log, where it is as safe
            return False
        self.on_sync(perf_counter() - begin)
        self.settled = answer[0] == 0  # else somebody reads an older state just now
        if self.settled:
            self._checkpoint_at = LOG_BYTES_MAX
        return self.settled

    def close(self) -> None:
        if self._lock >= 0 and self._identities()[1]:
            self.rollback()
            self.checkpoint()  # sqlite would do so by itself, but not rename the file
        self.connection.close()
        lock, self._lock = self._lock, -1
        if lock >= 0:
            forget_lock(lock)

    def _change(self, sql: str, values: tuple[object, ...] = ()) -> int:
        try:
            if not self._open:
                self.connection.execute("BEGIN IMMEDIATE")
                self._open = True
            return self.connection.execute(sql, values).rowcount
        except self._faults as error:
            self.rollback()
            raise StoreError(f"the change could not be stored: {error}") from error

    def _identities(self) -> tuple[list[tuple[int, int] | None], int]:
        """What is found under the names of our files, and the size of the log. sqlite goes on
        writing to a file that was removed, and what it acknowledged would be gone with it."""
        found: list[tuple[int, int] | None] = []
        log_bytes = 0
        for suffix in ("", *BESIDE):
            try:
                status = os.stat(self._path + suffix)
            except OSError:
                found.append(None)
            else:
                found.append((status.st_dev, status.st_ino))
                if suffix == "-wal":
                    log_bytes = status.st_size
        return found, log_bytes


def new_name() -> int:
    """A name for the file that no other has: 63 random bits."""
    return int.from_bytes(os.urandom(8), "big") >> 1


def open_store(path: str) -> Store:
    """Open the state file for us alone, see `state_file.open_state`. SetupError with status 73."""
    path = os.path.abspath(path)  # also, so that ":memory:" is a file like any other
    return Store(path, *open_state(path, new_name()))
