"""The user's small files: history, chat name, pinned certificates, owner tokens.

They live in $XDG_STATE_HOME/evloop (~/.local/state/evloop), for nobody else to read (0700, 0600),
and are replaced whole: a crash leaves the old file or the new one, never half of one.
"""

from __future__ import annotations

import errno
import os
import stat

from evloop.system.limits import (
    HISTORY_FILE_BYTES_MAX,
    HISTORY_LINES_MAX,
    NAME_FILE_BYTES_MAX,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


HISTORY = "history"
NAME = "name"


def state_directory(environment: Mapping[str, str]) -> str | None:
    """The directory of both programs, which need not exist; None when there is no home for it.

    A relative $XDG_STATE_HOME is ignored, as the XDG Base Directory Specification says; so is a
    relative $HOME. Without $HOME the user database tells; a container's user may not be in it.
    """
    base = environment.get("XDG_STATE_HOME", "")
    if not base.startswith("/"):
        home = environment.get("HOME", "")
        if not home.startswith("/"):
            home = _home_of_user()
        if not home.startswith("/"):
            return None
        base = os.path.join(home, ".local", "state")
    return os.path.join(base, "evloop")


def _home_of_user() -> str:
    try:
        from pwd import getpwuid  # late: nearly always $HOME says it

        return getpwuid(os.geteuid()).pw_dir
    except (ImportError, KeyError):
        return ""


def read_small(path: str, most: int) -> bytes:
    """The file's bytes, at most `most`; b"" when there is no such file. Raises OSError.

    It never waits: anything but a regular file (such as a FIFO put in its place) is an OSError.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except FileNotFoundError:
        return b""
    try:
        if not os.path.isfile(fd):
            raise OSError(f"{path} is not a regular file")
        data = bytearray()
        while len(data) < most:
            piece = os.read(fd, most - len(data))
            if not piece:
                break
            data += piece
        return bytes(data)
    finally:
        os.close(fd)


def followed(path: str) -> str:
    """`path`, or where the symbolic link at `path` leads, if it is one of ours or of root's.

    A user who keeps settings elsewhere has put the link there, and it stays a link. Another user's
    link, in a directory where others may write, is replaced like any file.
    """
    try:
        status = os.lstat(path)
    except OSError:
        return path
    if os.path.islink(path) and status.st_uid in (0, os.geteuid()):
        return os.path.realpath(path)
    return path


def write_private(path: str, data: bytes) -> None:
    """Replace the file by `data`, for us alone; its directory is made. Raises OSError."""
    os.makedirs(os.path.dirname(followed(path)), mode=0o700, exist_ok=True)
    write_atomically(path, data)


def write_atomically(path: str, data: bytes, *, mode: int = 0o600, durable: bool = True) -> None:
    """Replace the file by `data`. Raises OSError.

    `mode` holds whatever the umask is. `durable`: it is on the disk afterwards.
    What is no file is never replaced; a link to /dev/null says that nothing is to be kept.
    """
    path = followed(path)
    if not _may_replace(path):
        return
    directory = os.path.dirname(path) or "."
    temporary = f"{path}.{os.getpid()}.new"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        fd = os.open(temporary, flags, 0o600)
    except FileExistsError:
        os.unlink(temporary)  # left by a run that was killed; a link is removed, not followed
        fd = os.open(temporary, flags, 0o600)
    try:
        try:
            os.fchmod(fd, mode)
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
            if durable:
                os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    if durable:
        sync_directory(directory)


def _may_replace(path: str) -> bool:
    """Whether there is a file at `path`, or none; False when it is /dev/null; else OSError."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return True
    form = stat.S_IFMT(status.st_mode)
    # A directory is refused by the rename, and a link is one that is not ours: see `followed`.
    if form in (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK):
        return True
    if form == stat.S_IFCHR and status.st_rdev == os.stat(os.devnull).st_rdev:
        return False
    raise OSError(errno.EINVAL, "it is not a regular file")


def sync_directory(directory: str) -> None:
    """Put the names in `directory` on the disk. Raises OSError."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def kept_name(environment: Mapping[str, str]) -> str:
    """The chat name that was kept last, as it stands in the file; "" when there is none."""
    directory = state_directory(environment)
    if directory is None:
        return ""
    try:
        data = read_small(os.path.join(directory, NAME), NAME_FILE_BYTES_MAX)
    except OSError:
        return ""  # a file that is not UTF-8 counts as none
    return data.decode("utf-8", "replace").removesuffix("\n")


def keep_name(environment: Mapping[str, str], name: str) -> str:
    """Keep the chat name for the next start; returns why that is not possible, "" if it is."""
    directory = state_directory(environment)
    if directory is None:
        return "there is no home directory; set HOME"
    try:
        write_private(os.path.join(directory, NAME), f"{name}\n".encode())
    except OSError as error:
        return error.strerror or str(error)
    return ""


def write_new(path: str, text: str) -> None:
    """Write `text` into a file that is not there yet, all of it or nothing. Raises OSError."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(path, flags, 0o666)
    try:
        with open(descriptor, "w", encoding="utf-8", errors="replace") as file:
            file.write(text)
    except BaseException:
        os.unlink(path)
        raise


def load_history(directory: str, is_command: Callable[[str], bool] = bool) -> list[str]:
    """The commands of earlier runs, oldest first. A damaged file counts as none.

    Releases before 0.2 kept lines of conversation too: they are left out here, and so they vanish
    from the file when it is written next.
    """
    try:
        data = read_small(os.path.join(directory, HISTORY), HISTORY_FILE_BYTES_MAX)
    except OSError:
        return []  # a history that cannot be read is no reason not to chat
    lines = data.decode("utf-8", "replace").split("\n")[:-1]
    return [*filter(is_command, map(unescape, lines))][-HISTORY_LINES_MAX:]


def save_history(
    directory: str,
    before: Iterable[str],
    lines: Iterable[str],
    is_command: Callable[[str], bool] = bool,
) -> None:
    """Write the history. Raises OSError.

    `before` is what `load_history` returned, `lines` is the list after this run. Lines that another
    run has added to the file meanwhile are kept, before those that this run added.
    """
    old, now = list(before), list(lines)
    added = now
    for start in range(len(old) + 1):  # old lines may have been dropped at the front
        kept = old[start:]
        if now[: len(kept)] == kept:
            added = now[len(kept) :]
            break
    merged = [*load_history(directory, is_command), *added][-HISTORY_LINES_MAX:]
    text = "".join(escape(line) + "\n" for line in merged)
    write_private(os.path.join(directory, HISTORY), text.encode("utf-8", "replace"))


def escape(line: str) -> str:
    return line.replace("\\", "\\\\").replace("\n", "\\n")


def unescape(line: str) -> str:
    return "\\".join(part.replace("\\n", "\n") for part in line.split("\\\\"))
