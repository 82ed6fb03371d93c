"""`--backup FILE`: a copy of the state file, and of the history of kept rooms; a server may run.

Copies are made by sqlite: it reads a file and its log as of one moment, while a server goes on. A
copy is one file that needs no log beside it, and private like the original. It replaces an older
copy in one step: a reader finds the old one or the new one, never a part.

    copied             to             when
    the state file     FILE           always, first
    the history        FILE.history   there is one, and it is not switched off (--keep none)

So the history may be the younger one. Then it has rooms of which the state file knows nothing,
which are forgotten by a server that starts with both. What was deleted is in no copy: not even
what the server has not got to yet, because it deletes the history of a room in pieces.
"""

from __future__ import annotations

import os
import stat

from evloop.base.errors import CANT_CREATE, SetupError
from evloop.daemon.limits import BACKUP_WAIT_S, HISTORY_PAGES_PER_TICK
from evloop.daemon.state_file import (
    add_later_columns,
    check_beside,
    check_log,
    explain,
    is_state_file,
    read_rooms,
    uri_of,
)
from evloop.daemon.store import new_name
from evloop.system.files import sync_directory
from evloop.system.process import print_out
from evloop.terminal.report import plural

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

SUFFIX = ".history"  # of the copy of the history


def make_backup(path: str, target: str, history: str | None) -> int:
    """Copy the state file `path` to `target`, and `history` (None: nothing is kept) beside it, and
    say so; SetupError. Returns the exit status."""
    try:
        from sqlite3 import Error
    except ImportError:
        raise _cannot(target, "this Python has no sqlite3") from None
    path, target = os.path.abspath(path), os.path.abspath(target)
    _check_target(path, target, "state file", is_state_file)
    check_beside(path)
    check_log(path)
    if history is not None and os.path.exists(history) and os.path.getsize(history):
        from evloop.daemon import history_store

        history = os.path.abspath(history)
        _check_target(history, target + SUFFIX, "history", history_store.is_history_file)
        history_store.check_beside(history)
    else:
        history = None
    try:
        rooms = _replace(path, target, _finish_state)
    except (Error, ArithmeticError, TypeError, ValueError) as error:
        raise explain(path, error) from error
    print_out(f"copied {plural(rooms, 'room')} of {path} to {target}\n")
    if history is not None:
        try:
            kept = _replace(history, target + SUFFIX, _finish_history)
        except (Error, ArithmeticError, TypeError, ValueError) as error:
            raise _cannot(target + SUFFIX, f"{history}: {error}") from error
        print_out(
            f"copied what was said in {plural(kept, 'room')} of {history} to {target}{SUFFIX}\n"
        )
    return 0


def _replace(path: str, target: str, finish: Callable[[str, sqlite3.Connection], int]) -> int:
    """Put a copy of `path`, as `finish` leaves it, in the place of `target`; return what `finish`
    counts. SetupError, or an error of sqlite."""
    temporary = f"{target}.{os.getpid()}.new"
    try:
        count = _copy(path, temporary, finish)
        os.rename(temporary, target)
        sync_directory(os.path.dirname(target))
        return count
    except OSError as error:
        raise _cannot(target, error.strerror or str(error)) from error
    finally:
        for left in (temporary, temporary + "-journal"):
            if os.path.lexists(left):
                os.unlink(left)


def _check_target(path: str, target: str, what: str, is_one: Callable[[str], bool]) -> None:
    """Raise SetupError unless `target` is free, or an older copy that may be replaced."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise _cannot(target, f"{path} is not a regular file")
        if os.path.lexists(target):
            if os.path.exists(target) and os.path.samefile(path, target):
                raise _cannot(target, f"it is the {what} itself")
            if not is_one(target):
                raise _cannot(target, f"what is there is no copy of a {what}")
    except OSError as error:
        where = error.filename or path
        raise _cannot(target, f"{where}: {error.strerror or error}") from error


def _copy(path: str, temporary: str, finish: Callable[[str, sqlite3.Connection], int]) -> int:
    """Make `temporary` a copy of `path`, on the disk; return what `finish` counts."""
    from sqlite3 import connect

    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, 0o600)
    try:
        source = connect(uri_of(path, "mode=rw"), timeout=BACKUP_WAIT_S, uri=True)
        try:
            copy = connect(temporary, isolation_level=None)
            try:
                source.backup(copy)
                count = finish(path, copy)
            finally:
                copy.close()
        finally:
            source.close()
        if finish is _finish_history:
            _scrub(temporary)
        return count
    finally:
        os.fsync(descriptor)
        os.close(descriptor)


def _finish_state(path: str, copy: sqlite3.Connection) -> int:
    """Make the copy a file that needs no log, and with a name of its own: no log fits it."""
    _, rooms = read_rooms(path, copy)
    copy.execute("PRAGMA journal_mode = DELETE")
    add_later_columns(copy)
    name = new_name()
    copy.execute("UPDATE state SET name = ?, former = ?", (name, name))
    return len(rooms)


def _finish_history(path: str, copy: sqlite3.Connection) -> int:
    """Make the copy a file that needs no log, and without what is deleted already."""
    from evloop.daemon.history_store import is_history

    if not is_history(copy):  # its head does not tell yet while all is in the log
        raise SetupError(f"{path} is no history of evloop", CANT_CREATE)
    copy.execute("PRAGMA journal_mode = DELETE")
    copy.execute("PRAGMA secure_delete = ON").fetchone()
    copy.execute("DELETE FROM messages WHERE room IN (SELECT number FROM rooms WHERE dead)")
    copy.execute("DELETE FROM rooms WHERE dead")
    copy.execute("PRAGMA incremental_vacuum").fetchall()
    count: int = copy.execute("SELECT count(*) FROM rooms").fetchone()[0]
    return count


def _scrub(path: str) -> None:
    """Overwrite what sqlite has left in gaps of the pages."""
    from evloop.daemon.scrubbing import scrub

    following = 1
    while following:
        following = scrub(path, following, HISTORY_PAGES_PER_TICK)


def _cannot(target: str, why: str) -> SetupError:
    return SetupError(f"cannot write a copy to {target}: {why}", CANT_CREATE)
