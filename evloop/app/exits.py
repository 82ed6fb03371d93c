"""Exit statuses of the client, after sysexits.h and the shell."""

from evloop.app.commands import UsageError
from evloop.base.errors import (
    EvloopError,
    Refused,
    SetupError,
)
from evloop.directory.client import (
    Insecure,
    ProtocolMismatch,
    Unreachable,
)

FAILED, USAGE, UNREACHABLE, INTERNAL = 1, 2, 69, 70
UNCONFIRMED, MISMATCH, REFUSED = 75, 76, 77
HUNG_UP, INTERRUPTED, TERMINATED = 129, 130, 143  # 128 and the signal, as shells count
NOT_ALLOWED = 4  # the code of a refusal that is about who one is

_STATUS_OF = (
    (UsageError, USAGE),
    (Unreachable, UNREACHABLE),
    (Insecure, REFUSED),
    (ProtocolMismatch, MISMATCH),
)


def status_of(error: EvloopError) -> int:
    """The exit status that says what kind of failure `error` is."""
    if isinstance(error, SetupError):
        return error.status
    if isinstance(error, Refused):
        return REFUSED if error.code == NOT_ALLOWED else FAILED
    for kind, status in _STATUS_OF:
        if isinstance(error, kind):
            return status
    return FAILED
