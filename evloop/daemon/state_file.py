"""Opening the state file: is it ours, is it undamaged, and does the log beside it belong to it?

Whatever is wrong with it is a SetupError with status 73 that says what to do next. The contents are
checked before they are used: every column of each room, and that no two rooms have one place. How a
log is told from the log of another file: see `store`.
"""

from __future__ import annotations

import os
import stat

from evloop.base.errors import CANT_CREATE, Refused, SetupError
from evloop.base.limits import INTEGER_MAX, ROOM_NAME_BYTES_MAX
from evloop.base.names import check_address, check_port, quoted
from evloop.daemon.file_lock import LOCK, InUse, forget_lock, take_lock
from evloop.daemon.limits import MAKER_CHARS_MAX, VERSION_MAX
from evloop.directory.protocol import MODES, RoomEntry
from evloop.system.files import sync_directory

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable


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
# Columns of `state` that came later, and that 0.1.0 does not mind: it can be gone back to. See
# `store` for the first three. `identity` tells this directory from all others: 64 random bits, as
# sqlite's signed integer, drawn once (0: not yet). A copy of the file is the same directory.
_LATER_COLUMNS = ("name", "former", "overwritten", "identity")
# Rooms that are to be kept. It is a table of its own, at which 0.1.0 does not look; when that
# deletes a room, `made` tells that a later one of the same name is another.
_KEPT = "CREATE TABLE IF NOT EXISTS kept (name TEXT PRIMARY KEY, made INTEGER NOT NULL)"
_SELECT_KEPT = "SELECT name, made FROM kept"
# The columns stand in the order of RoomEntry's arguments.
_SELECT = "SELECT name, address, port, mode, made, maker, token FROM rooms"
_RENAME = "UPDATE state SET former = name, name = ?"
_IDENTIFY = "UPDATE state SET identity = ? WHERE identity = 0"
_IDENTITY_BYTES = 8

_BUSY, _CORRUPT, _NOT_A_DATABASE = 5, 11, 26  # result codes
_CODES_BY_WORDS = {"locked": _BUSY, "malformed": _CORRUPT, "not a database": _NOT_A_DATABASE}

_CACHE_KIB = 512  # sqlite's own 2 MiB are for queries; we read once and then only write
_LOCKS_AT = 0x40000000  # where sqlite's locks lie in its file (its "pending byte"), and how many
_LOCKS_LENGTH = 512
_PAGE_BYTES_MIN = 512  # pages are multiples of it
_TOKEN_LENGTHS = (0, 32)  # of a SHA-256, where the room has an owner

BESIDE = ("-wal", "-shm")  # the log, and what readers share about it
_JOURNAL = "-journal"  # sqlite looks for it too, with an `open` that would wait for a pipe

# -- opening ---------------------------------------------------------------------------------------


def open_state(path: str, name: int) -> tuple[sqlite3.Connection, int, bool]:
    """Open the state file, made with its directory if need be (0600, 0700), for us alone.

    `name` is what the file is called from now on. Returns the connection, the descriptor of our
    lock, and whether the log is empty. Raises SetupError with status 73 and a sentence that says
    what is wrong and what to do. When it returns, the file was written to: a server that listens
    can store.
    """
    try:
        from sqlite3 import Error, connect
    except ImportError:
        raise SetupError(
            "this Python has no sqlite3 to keep the rooms with; start with --memory", CANT_CREATE
        ) from None
    try:
        _make_file(path)
    except OSError as error:
        raise _setup_error(path, error.strerror or str(error)) from error
    check_beside(path)
    lock = _take_lock(path)
    connection = None
    try:
        check_log(path)
        connection = connect(path, timeout=0, isolation_level=None)
        settled = _prepare(path, connection, name)
        return connection, lock, settled
    except (Error, ArithmeticError, TypeError, ValueError) as error:
        _let_go(connection, lock)
        raise explain(path, error) from error
    except BaseException:
        _let_go(connection, lock)
        raise


def _let_go(connection: sqlite3.Connection | None, lock: int) -> None:
    if connection is not None:
        connection.close()
    forget_lock(lock)


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
        sync_directory(os.path.dirname(directory))
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(0, "it is not a regular file") from None
        # To sqlite, less than a page is as good as empty, and what is missing of the last page is
        # zeros. A crash may leave half a page too, but then all of it is in the log.
        if status.st_size % _PAGE_BYTES_MIN and not _log_bytes(path):
            raise damaged(path, f"it has {status.st_size} bytes, no whole pages") from None


def check_beside(path: str) -> None:
    """Nothing waits under a name that sqlite opens: it would wait for a pipe's other end."""
    for suffix in (_JOURNAL, LOCK, *BESIDE):
        beside = path + suffix
        try:
            regular = stat.S_ISREG(os.stat(beside).st_mode)
        except FileNotFoundError:
            continue
        except OSError as error:
            why = f"{beside} cannot be looked at ({error.strerror})"
            raise _setup_error(path, why, "remove that") from error
        if not regular:
            raise _setup_error(path, f"{beside} is not a regular file", "remove that")


# -- who has it open -------------------------------------------------------------------------------


def _take_lock(path: str) -> int:
    """Keep other servers away from the file; return the descriptor that holds the lock."""
    try:
        return take_lock(path)
    except InUse as error:
        raise _in_use(path, error.holder) from None
    except OSError as error:
        raise _setup_error(path, f"{path}{LOCK}: {error.strerror}") from error


def _in_use(path: str, who: int) -> SetupError:
    whom = f"process {who}" if who else "another process"
    next_step = "stop it first, or name another file with --state"
    return _setup_error(path, f"{whom} is using it", next_step)


def holder_of(path: str) -> int:
    """The process that holds sqlite's lock on the file, 0 when it cannot be told: fcntl(2)
    F_GETLK asks whether a lock could be had, and names who has one in the way. For servers of
    0.1.0, which hold it as long as they run.

    Our own connection must be closed already: closing the descriptor would drop its locks.
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


# -- what is in it ---------------------------------------------------------------------------------


def check_log(path: str) -> None:
    """Raise SetupError when the log beside the file is the log of another file.

    sqlite would apply it all the same: rooms of another day, or pages that fit nothing. What
    cannot be told is left to sqlite.
    """
    if not _log_bytes(path):
        return
    alone = _names_of(path, "immutable=1")  # as if there were no log
    with_log = _names_of(path, "mode=ro")  # a reader does not put the log into the file
    if alone is None or with_log is None:
        return
    if alone[0] in with_log[:2] and alone[2] <= with_log[2]:
        return  # of this file, and not older than it
    raise _setup_error(
        path,
        f"the log {path}-wal belongs to another file; it was left there by a server that did not"
        " end in order, before this file was put in its place",
        f"remove {path}-wal and {path}-shm, and start again",
    )


def _log_bytes(path: str) -> int:
    """The size of the log, 0 when there is none."""
    try:
        return os.stat(path + "-wal").st_size
    except OSError:
        return 0


def uri_of(path: str, how: str) -> str:
    """The absolute `path` as a URI for sqlite, with its parameters `how`."""
    safe = b"/._-"
    text = "".join(
        chr(byte) if byte in safe or (byte < 128 and chr(byte).isalnum()) else f"%{byte:02X}"
        for byte in os.fsencode(path)
    )
    return f"file:{text}?{how}"


def _names_of(path: str, how: str) -> tuple[int, int, int] | None:
    """(name, former name, version) of the file; None when they cannot be told."""
    from sqlite3 import Error, connect

    connection = None
    try:
        connection = connect(uri_of(path, how), timeout=0, uri=True)
        (names,) = connection.execute("SELECT name, former, version FROM state").fetchall()
        return names if all(type(one) is int for one in names) else None
    except (Error, ArithmeticError, TypeError, ValueError):
        return None
    finally:
        if connection is not None:
            connection.close()


def _prepare(path: str, connection: sqlite3.Connection, name: int) -> bool:
    """Make sure that the file is ours and whole, bring it to the newest layout, and write to it.

    Returns whether the log is empty then.
    """
    execute = connection.execute
    had_log = _log_bytes(path) > 0
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
    (health,) = execute("PRAGMA quick_check(1)").fetchone()
    if health != "ok":
        raise damaged(path, quoted(str(health), 200))
    (journal,) = execute("PRAGMA journal_mode = WAL").fetchone()
    if journal != "wal":
        raise _setup_error(path, f"its file system allows no write-ahead log (but {journal})")
    execute("PRAGMA synchronous = FULL")
    execute("PRAGMA wal_autocheckpoint = 0")  # the store sees to it
    execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    # What a crash has left in the log goes into the file, which keeps its name until then.
    renamed = not had_log or _empty_log(connection)
    execute("BEGIN IMMEDIATE")
    for steps in _LAYOUTS[layout:]:
        for step in steps:
            execute(step)
    add_later_columns(connection)
    execute(_KEPT)
    drawn = int.from_bytes(os.urandom(_IDENTITY_BYTES), "big", signed=True)
    execute(_IDENTIFY, (drawn or 1,))
    execute(f"PRAGMA application_id = {_APPLICATION_ID}")
    execute(f"PRAGMA user_version = {len(_LAYOUTS)}")
    if renamed:
        execute(_RENAME, (name,))
    execute("COMMIT")
    # Without a crash before, the log waits for its time; after one, two contents of the file have
    # had the same name, and a log that names it so must not last.
    return had_log and _empty_log(connection)


def add_later_columns(connection: sqlite3.Connection) -> None:
    """Make the columns that 0.1.0 did not have."""
    there = {row[1] for row in connection.execute("PRAGMA table_info(state)")}
    for column in _LATER_COLUMNS:
        if column not in there:
            added = f"ALTER TABLE state ADD COLUMN {column} INTEGER NOT NULL DEFAULT 0"
            connection.execute(added)


def is_state_file(path: str) -> bool:
    """Whether the file is one of ours, or empty. OSError."""
    return is_database(path, _APPLICATION_ID)


def is_database(path: str, application: int) -> bool:
    """Whether the file is one of sqlite3 with this application id, or empty. OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return False
        head = os.read(descriptor, 100)
    finally:
        os.close(descriptor)
    found = int.from_bytes(head[68:72], "big")  # fileformat2, 1.3
    return not head or (head.startswith(b"SQLite format 3\0") and found == application)


def _empty_log(connection: sqlite3.Connection) -> bool:
    (busy, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return bool(busy == 0)


def read_rooms(path: str, connection: sqlite3.Connection) -> tuple[int, list[RoomEntry]]:
    """Version and rooms, each value judged; SetupError."""
    from sqlite3 import Error

    try:
        states = connection.execute("SELECT version FROM state").fetchall()
        if len(states) != 1 or type(states[0][0]) is not int:
            raise ValueError("it does not say which version the rooms have")
        version: int = states[0][0]
        if not 0 <= version <= VERSION_MAX:
            raise ValueError(f"version {version} is none that a server reaches")
        cursor = connection.execute(_SELECT)
        try:
            rooms = [_read_room(*columns) for columns in cursor]
        finally:
            cursor.close()  # else the connection could not be closed before the error is forgotten
        kept = _read_kept(connection)
        for room in rooms:
            room.marked = (room.name, room.made) in kept
        _check_apart(rooms)
    except (Error, Refused, ArithmeticError, TypeError, ValueError) as error:
        raise damaged(path, str(error)) from error
    return version, rooms


def _read_kept(connection: sqlite3.Connection) -> set[tuple[object, object]]:
    """(name, made) of the rooms that are to be kept; none in a file of an older release."""
    found = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'kept'"
    if not connection.execute(found).fetchone()[0]:
        return set()
    return set(connection.execute(_SELECT_KEPT).fetchall())


def read_identity(path: str, connection: sqlite3.Connection) -> str:
    """The identity of the directory in this file, as 16 hex digits; SetupError."""
    from sqlite3 import Error

    try:
        (value,) = connection.execute("SELECT identity FROM state").fetchone()
        if type(value) is not int:
            raise ValueError("its identity is no number")
        return value.to_bytes(_IDENTITY_BYTES, "big", signed=True).hex()
    except (Error, ArithmeticError, TypeError, ValueError) as error:
        raise damaged(path, str(error)) from error


def _read_room(
    name: object,
    address: object,
    port: object,
    mode: object,
    made: object,
    maker: object,
    token: object,
) -> RoomEntry:
    if type(name) is not str or not 0 < len(name.encode()) <= ROOM_NAME_BYTES_MAX:
        raise ValueError(f'the room name "{quoted(str(name))}" is none')
    # Not `check_room_name`: a name that a newer Unicode allows is for its deletion too.
    if not name.isprintable() and any(code < 33 or 126 < code < 160 for code in map(ord, name)):
        raise ValueError(f'the room name "{quoted(name)}" has a control character in it')
    shown = f'of room "{quoted(name)}"'
    if type(address) is not str or check_address(address) != address:
        raise ValueError(f"the address {shown} is none")
    if type(port) is not int or check_port(port) != port:
        raise ValueError(f"the port {shown} is none")
    if type(mode) is not str or mode not in MODES:
        raise ValueError(f"the mode {shown} is none of {', '.join(MODES)}")
    if type(made) is not int or not 0 <= made <= INTEGER_MAX:
        raise ValueError(f"the time {shown} is none")
    if type(maker) is not str or len(maker) > MAKER_CHARS_MAX:
        raise ValueError(f"the maker {shown} is no address")
    if type(token) is not bytes or len(token) not in _TOKEN_LENGTHS:
        raise ValueError(f"the token {shown} is none")
    return RoomEntry(name, address, port, mode, made, maker, token)


def _check_apart(rooms: Iterable[RoomEntry]) -> None:
    """No two rooms are at one place. Names that a newer Unicode makes one are the registry's."""
    places: dict[tuple[str, int], RoomEntry] = {}
    for room in rooms:
        other = places.setdefault((room.address, room.port), room)
        if other is not room:
            raise ValueError(
                f'the rooms "{quoted(other.name)}" and "{quoted(room.name)}" have one address'
                " and port"
            )


# -- what is said when it cannot be used -----------------------------------------------------------


def _setup_error(
    path: str, why: str, what_next: str = "name another file with --state, or start with --memory"
) -> SetupError:
    return SetupError(f"cannot use the state file {path}: {why}; {what_next}", CANT_CREATE)


def damaged(path: str, why: str) -> SetupError:
    """What is in the file cannot be used."""
    next_step = "put a backup in its place, or move it away to start anew"
    return _setup_error(path, f"it is damaged or no evloop state file ({why})", next_step)


def _primary_code(error: Exception) -> int:
    """The result code as sqlite.org/rescode.html numbers them, 0 where it cannot be told.

    Python 3.9 and 3.10 do not pass it on: there sqlite's own words tell.
    """
    code: int | None = getattr(error, "sqlite_errorcode", None)
    if code is not None:
        return code & 0xFF  # without the extension of the code
    words = str(error)
    return next((code for part, code in _CODES_BY_WORDS.items() if part in words), 0)


def explain(path: str, error: Exception) -> SetupError:
    """What is told for an error of sqlite3, or of what it made of a damaged file."""
    code = _primary_code(error)
    if code == _BUSY:
        return _in_use(path, holder_of(path))
    ours = isinstance(error, (ArithmeticError, TypeError, ValueError))  # text that is no UTF-8, say
    if ours or code in (_NOT_A_DATABASE, _CORRUPT):
        return damaged(path, str(error))
    return _setup_error(path, str(error))
