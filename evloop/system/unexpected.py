"""What a person is told of an exception that nobody has foreseen; loaded when there is one."""

from __future__ import annotations

import errno

from evloop.base.errors import FAILED, INTERNAL

# From a call without which evloop cannot work: a sandbox (seccomp and the like) forbids it.
_FORBIDDEN = (errno.ENOSYS, errno.EPERM)


def told(error: Exception) -> tuple[str, int]:
    """The sentence, and the status with which a program ends because of it.

    A call that the system does not know or does not allow is not a mistake of ours.
    """
    if isinstance(error, OSError) and error.errno in _FORBIDDEN:
        what = f"{error.strerror}: {error.filename!r}" if error.filename else error.strerror
        return f"this system refuses a call that evloop needs: {what}; --debug shows where", FAILED
    what = f"{type(error).__name__}: {error}"
    return f"internal error: {what}; --debug shows where", INTERNAL
