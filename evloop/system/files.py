"""The user's small files: history, pinned certificates, owner tokens.

They live in $XDG_STATE_HOME/evloop (~/.local/state/evloop), for nobody else to read (0700, 0600),
and are replaced whole: a crash leaves the old file or the new one, never half of one.
"""

from __future__ import annotations

import os

from evloop.system.limits import HISTORY_FILE_BYTES_MAX, HISTORY_LINES_MAX

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


HISTORY = "history"


def state_directory(environment: Mapping[str, str]) -> str | None:
    """The directory, which need not exist; None when there is no home to put it in.

    A relative $XDG_STATE_HOME is ignored, as the XDG Base Directory Specification says.
    """
    base = environment.get("XDG_STATE_HOME", "")
    if not base.startswith("/"):
        home = environment.get("HOME", "")
        if not home.startswith("/"):
            return None
        base = os.path.join(home, ".local", "state")
    return os.path.join(base, "evloop")


def read_small(path: str, most: int) -> bytes:
    """The file's bytes, at most `most`; b"" when there is no such file. Raises OSError.

    Never waits: what is not a regular file (a FIFO put in its place) is an OSError.
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


def write_atomically(path: str, data: bytes) -> None:
    """Replace the file by `data`, mode 0600; its directory is made with 0700. Raises OSError."""
    directory = os.path.dirname(path)
    os.makedirs(directory, mode=0o700, exist_ok=True)
    temporary = f"{path}.{os.getpid()}.new"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        fd = os.open(temporary, flags, 0o600)
    except FileExistsError:
        os.unlink(temporary)  # of a run that was killed; a link is removed, not followed
        fd = os.open(temporary, flags, 0o600)
    try:
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    sync_directory(directory)


def sync_directory(directory: str) -> None:
    """Put the names in `directory` on the disk. Raises OSError."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def load_history(directory: str) -> list[str]:
    """The typed lines of earlier runs, oldest first. A damaged file is as good as none."""
    try:
        data = read_small(os.path.join(directory, HISTORY), HISTORY_FILE_BYTES_MAX)
    except OSError:
        return []  # a history that cannot be read is no reason not to chat
    lines = data.decode("utf-8", "replace").split("\n")[:-1]
    return [_unescape(line) for line in lines[-HISTORY_LINES_MAX:]]


def save_history(directory: str, before: Iterable[str], lines: Iterable[str]) -> None:
    """Write the history. Raises OSError.

    `before` is what `load_history` gave, `lines` what it has become. What another run has added
    meanwhile is kept in front of what this one added.
    """
    old, now = list(before), list(lines)
    added = now
    for start in range(len(old) + 1):  # old lines may have been dropped at the front
        kept = old[start:]
        if now[: len(kept)] == kept:
            added = now[len(kept) :]
            break
    merged = [*load_history(directory), *added][-HISTORY_LINES_MAX:]
    text = "".join(_escape(line) + "\n" for line in merged)
    write_atomically(os.path.join(directory, HISTORY), text.encode("utf-8", "replace"))


def _escape(line: str) -> str:
    return line.replace("\\", "\\\\").replace("\n", "\\n")


def _unescape(line: str) -> str:
    return "\\".join(part.replace("\\n", "\n") for part in line.split("\\\\"))


def write_file(path: str, text: str) -> None:
    """Replace the file at `path` by `text` at once: a reader sees the old or the new. OSError."""
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f".{name}.new")
    try:
        os.unlink(temporary)
    except FileNotFoundError:
        pass
    # O_EXCL: what somebody else puts there meanwhile, a link or a pipe, is not followed.
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    os.rename(temporary, path)
