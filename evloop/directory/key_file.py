"""A small file of keys and values: what the client remembers.

It is in the user's state directory, with mode 0600; each line is a key and a value. Lines are
appended, so that two clients that write at the same time both keep theirs; of two lines with one
key the later counts. A line that does not fit on the disk is taken back. A file of `lines_max`
lines is written anew with the newest line of each key, under a lock that a second client does not
wait for. A damaged line makes the file unusable, and the user is told: to skip it could mean to
trust a stranger as if it were new.
"""

from __future__ import annotations

import os
from errno import ENOSPC

from evloop.base.errors import FAILED, SetupError
from evloop.base.names import quoted
from evloop.directory.limits import (
    KEEPSAKE_BYTES_MAX,
    KEEPSAKE_KEY_CHARS_MAX,
    KEEPSAKE_LINES_MAX,
)
from evloop.system.files import followed, read_small, write_atomically

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def is_hex(text: str) -> bool:
    """Whether `text` can be kept: lower-case hexadecimal."""
    return bool(text) and not text.strip("0123456789abcdef")


def _lock(descriptor: int) -> bool:
    """Try to be the only one who writes; without waiting, for who has it may be stopped."""
    from fcntl import LOCK_EX, LOCK_NB, flock

    try:
        flock(descriptor, LOCK_EX | LOCK_NB)
    except OSError:  # somebody else, or a file system without locks
        return False
    return True


def _is_at(descriptor: int, path: str) -> bool:
    """Whether `path` is still the file behind `descriptor`."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def append_line(descriptor: int, line: bytes) -> None:
    """Add `line` to the file and put it on the disk; OSError when nothing of it is there."""
    before = os.fstat(descriptor).st_size
    try:
        # One write, so that the lines of two clients do not mix.
        if os.write(descriptor, line) != len(line):
            raise OSError(ENOSPC, os.strerror(ENOSPC))
        os.fsync(descriptor)
    except OSError:
        if os.fstat(descriptor).st_size <= before + len(line):  # nobody has added more
            os.ftruncate(descriptor, before)
        raise


class KeyFile:
    """The file `name` in `directory`, read again at each question: another client may add.

    `lines_max`: so many lines, then it is written anew. What a line looks like is for a subclass
    to say: `good` judges an entry, `split` takes a line apart.
    """

    __slots__ = ("path",)

    lines_max = KEEPSAKE_LINES_MAX

    def __init__(self, directory: str, name: str) -> None:
        self.path = os.path.join(directory, name)

    def good(self, key: str, value: str) -> bool:
        """Whether `key` and `value` make a line that can be read again."""
        return bool(key) and is_hex(value)

    def split(self, line: str) -> tuple[str, str]:
        """(key, value) of a line; what comes out need not be `good`."""
        key, _, value = line.rpartition(" ")
        return key, value

    def get(self, key: str) -> str | None:
        """The value kept for `key`, or None. SetupError when the file cannot be used."""
        return self.all().get(key)

    def all(self) -> dict[str, str]:
        """Every key with its newest value, the newest last. SetupError."""
        try:
            data = read_small(self.path, KEEPSAKE_BYTES_MAX + 1)
        except OSError as error:
            raise self._unusable(error.strerror or str(error), FAILED) from None
        return self._parse(data)[0]

    def put(self, key: str, value: str) -> None:
        """Keep `value`, hexadecimal text, for `key`, a line of text. SetupError."""
        long = len(key) > KEEPSAKE_KEY_CHARS_MAX
        if long or not self.good(key, value) or "\n" in key or "\n" in value:
            raise self._unusable(f'"{quoted(key)}" cannot be a key in it', FAILED)
        try:
            os.makedirs(os.path.dirname(followed(self.path)), mode=0o700, exist_ok=True)
            while not self._put(key, value):
                pass  # another client has replaced the file meanwhile
        except OSError as error:
            raise self._unusable(error.strerror or str(error), FAILED) from None

    def remove(self, gone: Callable[[str], bool]) -> int:
        """Forget every key that is `gone`; return how many there were. SetupError."""
        path = followed(self.path)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise self._unusable(error.strerror or str(error), FAILED) from None
        try:
            if not _lock(descriptor) or not _is_at(descriptor, path):
                raise self._unusable("another evloop writes it just now; try again", FAILED)
            kept = self._parse(read_small(path, KEEPSAKE_BYTES_MAX + 1))[0]
            rest = {key: value for key, value in kept.items() if not gone(key)}
            if len(rest) < len(kept):
                text = "".join(f"{key} {value}\n" for key, value in rest.items())
                write_atomically(path, text.encode())
            return len(kept) - len(rest)
        except OSError as error:
            raise self._unusable(error.strerror or str(error), FAILED) from None
        finally:
            os.close(descriptor)

    def _put(self, key: str, value: str) -> bool:
        path = followed(self.path)
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(path, flags | os.O_NONBLOCK, 0o600)
        try:
            locked = _lock(descriptor)
            if not _is_at(descriptor, path):
                return False
            data = read_small(path, KEEPSAKE_BYTES_MAX + 1)
            kept, lines = self._parse(data)
            if lines >= self.lines_max and locked:
                kept.pop(key, None)
                newest = [*kept.items(), (key, value)][-self.lines_max :]
                write_atomically(path, "".join(f"{k} {v}\n" for k, v in newest).encode())
                return True
            append_line(descriptor, f"{key} {value}\n".encode())
            return _is_at(descriptor, path)
        finally:
            os.close(descriptor)

    def _parse(self, data: bytes) -> tuple[dict[str, str], int]:
        """What `data` holds, and in how many lines."""
        if len(data) > KEEPSAKE_BYTES_MAX:
            why = f"it is larger than {KEEPSAKE_BYTES_MAX} bytes; move it away"
            raise self._unusable(why, FAILED)
        kept: dict[str, str] = {}
        lines = data.decode("utf-8", "replace").split("\n")
        for number, line in enumerate(lines[:-1], 1):
            key, value = self.split(line)
            if len(key) > KEEPSAKE_KEY_CHARS_MAX or not self.good(key, value):
                why = f'line {number} ("{quoted(line, 40)}") is damaged; correct or remove it'
                raise self._unusable(why, FAILED)
            kept.pop(key, None)  # the newest last: the oldest are dropped first
            kept[key] = value
        if lines[-1]:
            raise self._unusable("its last line is damaged; correct or remove it", FAILED)
        return kept, len(lines) - 1

    def _unusable(self, why: str, status: int) -> SetupError:
        return SetupError(f"cannot use {self.path}: {why}", status)
