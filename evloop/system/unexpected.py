"""What a person is told of an exception that nobody has foreseen.

Who ends because of one has loaded this before: where no file can be opened, nothing is imported.
"""

from __future__ import annotations

import errno
import os

from evloop.base.errors import FAILED, INTERNAL

# From a call without which evloop cannot work: a sandbox (seccomp and the like) forbids it.
_FORBIDDEN = (errno.ENOSYS, errno.EPERM)


def told(error: Exception) -> tuple[str, int]:
    """The sentence, and the status with which a program ends because of it.

    A call that the system does not know or does not allow is not a mistake of ours, nor is it one
    that this process may open no more files.
    """
    if _used_up(error):
        limit = os.sysconf("SC_OPEN_MAX")  # `resource` may be one file too many
        return f"the limit of {limit} open files is too low; see ulimit -n", FAILED
    if isinstance(error, OSError) and error.errno in _FORBIDDEN:
        what = f"{error.strerror}: {error.filename!r}" if error.filename else error.strerror
        return f"this system refuses a call that evloop needs: {what}; --debug shows where", FAILED
    what = f"{type(error).__name__}: {error}"
    return f"internal error: {what}; --debug shows where", INTERNAL


def trace(error: Exception) -> str:
    """Where it happened, for --debug."""
    from traceback import format_exception  # late: it costs memory, and hardly anybody asks

    return "".join(format_exception(type(error), error, error.__traceback__)).rstrip()


def _used_up(error: Exception) -> bool:
    """Whether it comes of the limit of open files."""
    if isinstance(error, ImportError):  # of an extension module: it has the words of the loader
        return os.strerror(errno.EMFILE) in str(error)
    return isinstance(error, OSError) and error.errno == errno.EMFILE
