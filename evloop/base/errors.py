"""The error family, the codes of the directory protocol, and exit statuses. Imports nothing.

Every error says who is wrong, because that decides what happens next:

    LocalProtocolError    our own caller: it is a bug, let the exception rise
    RemoteProtocolError   the peer: answer it, perhaps hang up, never crash
      FrameError          the byte stream itself is broken: hang up
      BadMessage          one message is broken: answer with its code, go on
    Refused               a rule forbids it: answer with code, reason and sentence
    StoreError            the disk: undo, answer `storage_failed`, go on
    SetupError            the user or the machine: say what failed, why, and leave with a status

Each class carries the `exit_status` with which a program ends because of it.
"""

from __future__ import annotations

# Exit statuses, after sysexits.h and the shell.
FAILED = 1  # what was asked for was refused, or went wrong
USAGE = 2  # a wrong option or argument
UNREACHABLE = 69  # no directory answered
INTERNAL = 70  # a bug of ours
CANT_CREATE = 73  # the state file cannot be made or used
UNCONFIRMED = 75  # nobody has confirmed what was said
MISMATCH = 76  # what answered speaks another protocol
REFUSED = 77  # a certificate, a token or a key was not accepted
HUNG_UP, INTERRUPTED, TERMINATED = 129, 130, 143  # 128 and the signal, as shells count

# What --help of each program tells of them; the pages and the man pages say more.
CLIENT_STATUSES = {
    0: "done",
    FAILED: "the command failed, or was refused",
    USAGE: "an unknown word or option, or a wrong number of arguments",
    UNREACHABLE: "the directory cannot be reached",
    INTERNAL: "an internal error",
    UNCONFIRMED: "say: not confirmed by everybody; try again",
    MISMATCH: "the other side speaks another protocol",
    REFUSED: "not allowed, or the certificate or the key is not accepted",
    HUNG_UP: "hang-up (SIGHUP)",
    INTERRUPTED: "Ctrl-C (SIGINT)",
    TERMINATED: "SIGTERM",
}
SERVER_STATUSES = {
    0: "ended as it was asked to",
    FAILED: "it cannot serve",
    USAGE: "an option is wrong, or its file cannot be used",
    INTERNAL: "an internal error",
    CANT_CREATE: "the state file cannot be used",
    MISMATCH: "etcd, or the directory in it, is of another release",
}

# Error codes of the directory protocol: JSON-RPC's own, then ours.
PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603
ROOM_EXISTS = 1
ADDRESS_IN_USE = 2
NO_SUCH_ROOM = 3
NOT_ALLOWED = 4
FULL = 5
SLOW_DOWN = 6
STORAGE_FAILED = 7
NO_PROBE = 8


def status_lines(statuses: dict[int, str]) -> list[str]:
    """The table of exit codes as `--help` prints it."""
    return ["exit codes:", *(f"  {status:3}  {meaning}" for status, meaning in statuses.items())]


class EvloopError(Exception):
    """The root of the family."""

    exit_status = FAILED


class LocalProtocolError(EvloopError):
    """Our caller broke the rules of an interface."""


class RemoteProtocolError(EvloopError):
    """The peer broke the rules of a protocol."""


class FrameError(RemoteProtocolError):
    """The length-prefixed stream cannot be read any further."""


class BadMessage(RemoteProtocolError):
    """One message cannot be understood; `code` is JSON-RPC's error code for it."""

    def __init__(self, code: int, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence


class Refused(EvloopError):
    """A rule forbids what was asked for.

    `code` and `reason` are those of the table of errors of the directory protocol, `sentence` is
    fit to be shown to a person, `data` holds further members of the error's `data` object.
    """

    def __init__(
        self, code: int, reason: str, sentence: str, data: dict[str, object] | None = None
    ) -> None:
        super().__init__(sentence)
        self.code = code
        self.reason = reason
        self.sentence = sentence
        self.data = data
        if code == NOT_ALLOWED:
            self.exit_status = REFUSED


class StoreError(EvloopError):
    """A change could not be written to the disk."""


class SetupError(EvloopError):
    """Something outside must change before the program can go on."""

    def __init__(self, sentence: str, exit_status: int) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.exit_status = exit_status
