"""Keeping a second server away from a file of sqlite.

It is the lock of a file of its own, PATH-lock: sqlite unlocks all of the file that it opened
whenever it unlocks anything (POSIX locks belong to the process), and its tools may read. PATH-lock
holds the number of the process, and stays: to remove it could let in two at once.
"""

from __future__ import annotations

import os

LOCK = "-lock"

_held: set[tuple[int, int]] = set()  # lock files that this process has locked


class InUse(Exception):
    """`holder` is the number of the process that uses the file, 0 when it cannot be told."""

    __slots__ = ("holder",)

    def __init__(self, holder: int) -> None:
        super().__init__(holder)
        self.holder = holder


def take_lock(path: str) -> int:
    """Return the descriptor that holds the lock; InUse, or OSError (a file system without locks,
    a full disk)."""
    from fcntl import LOCK_EX, LOCK_NB, lockf

    name = path + LOCK
    # Locks of one process do not stand against each other, and to close a second descriptor
    # would drop the lock of our own store.
    if os.path.exists(name) and _identity(name) in _held:
        raise InUse(os.getpid())
    lock = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        lockf(lock, LOCK_EX | LOCK_NB)
        os.ftruncate(lock, 0)
        os.pwrite(lock, b"%d\n" % os.getpid(), 0)
    except (BlockingIOError, PermissionError):
        holder = os.pread(lock, 20, 0).strip()
        os.close(lock)
        raise InUse(int(holder) if holder.isdigit() else 0) from None
    except OSError:
        os.close(lock)
        raise
    _held.add(_identity(lock))
    return lock


def _identity(file: str | int) -> tuple[int, int]:
    status = os.stat(file)
    return status.st_dev, status.st_ino


def forget_lock(lock: int) -> None:
    """Let others have the file."""
    _held.discard(_identity(lock))
    os.close(lock)
