"""`--backup FILE`: a copy of the state file, also of a server that runs.

The copy is made by sqlite: it reads the file and its log as of one moment, while a server goes on.
The copy is one file that needs no log beside it, and private like the original. It replaces FILE
in one step: a reader of FILE finds the old copy or the new one, never a part.
"""

from __future__ import annotations

import os
import stat

from evloop.base.errors import CANT_CREATE, SetupError
from evloop.daemon.limits import BACKUP_WAIT_S
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


def make_backup(path: str, target: str) -> int:
    """Copy the state file `path` to `target` and say so; SetupError. Returns the exit status."""
    try:
        from sqlite3 import Error
    except ImportError:
        raise _cannot(target, "this Python has no sqlite3") from None
    path, target = os.path.abspath(path), os.path.abspath(target)
    _check_target(path, target)
    check_beside(path)
    check_log(path)
    temporary = f"{target}.{os.getpid()}.new"
    try:
        rooms = _copy(path, temporary)
        os.rename(temporary, target)
        sync_directory(os.path.dirname(target))
    except OSError as error:
        raise _cannot(target, error.strerror or str(error)) from error
    except (Error, ArithmeticError, TypeError, ValueError) as error:
        raise explain(path, error) from error
    finally:
        for left in (temporary, temporary + "-journal"):
            if os.path.lexists(left):
                os.unlink(left)
    print_out(f"copied {plural(rooms, 'room')} of {path} to {target}\n")
    return 0


def _check_target(path: str, target: str) -> None:
    """Raise SetupError unless `target` is free, or an older copy that may be replaced."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise _cannot(target, f"{path} is not a regular file")
        if os.path.lexists(target):
            if os.path.exists(target) and os.path.samefile(path, target):
                raise _cannot(target, "it is the state file itself")
            if not is_state_file(target):
                raise _cannot(target, "what is there is no copy of a state file")
    except OSError as error:
        where = error.filename or path
        raise _cannot(target, f"{where}: {error.strerror or error}") from error


def _copy(path: str, temporary: str) -> int:
    """Make `temporary` a copy of the state file, on the disk; return how many rooms it has."""
    from sqlite3 import connect

    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, 0o600)
    try:
        source = connect(uri_of(path, "mode=rw"), timeout=BACKUP_WAIT_S, uri=True)
        try:
            copy = connect(temporary, isolation_level=None)
            try:
                source.backup(copy)
                return _finish(path, copy)
            finally:
                copy.close()
        finally:
            source.close()
    finally:
        os.fsync(descriptor)
        os.close(descriptor)


def _finish(path: str, copy: sqlite3.Connection) -> int:
    """Make the copy a file that needs no log, and with a name of its own: no log fits it."""
    _, rooms = read_rooms(path, copy)
    copy.execute("PRAGMA journal_mode = DELETE")
    add_later_columns(copy)
    name = new_name()
    copy.execute("UPDATE state SET name = ?, former = ?", (name, name))
    return len(rooms)


def _cannot(target: str, why: str) -> SetupError:
    return SetupError(f"cannot write a copy to {target}: {why}", CANT_CREATE)
