"""The error family. Imports nothing.

Every error says who is wrong, because that decides what happens next:

    LocalProtocolError    our own caller: a bug, let it rise
    RemoteProtocolError   the peer: answer it, perhaps hang up, never crash
      FrameError          the byte stream itself is broken: hang up
      BadMessage          one message is broken: answer with its code, go on
    Refused               a rule of the house said no: answer with code, reason and sentence
    StoreError            the disk: undo, answer `storage_failed`, go on
    SetupError            the user or the machine: say what failed, why, and leave with a status
"""


class EvloopError(Exception):
    """The root of the family."""


class LocalProtocolError(EvloopError):
    """Our caller broke the rules of an interface."""


class RemoteProtocolError(EvloopError):
    """The peer broke the rules of a protocol."""


class FrameError(RemoteProtocolError):
    """The length-prefixed stream can not be read any further."""


class BadMessage(RemoteProtocolError):
    """One message can not be understood; `code` is JSON-RPC's error code for it."""

    def __init__(self, code: int, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence


class Refused(EvloopError):
    """A rule said no.

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


class StoreError(EvloopError):
    """The disk did not take a change."""


class SetupError(EvloopError):
    """Something outside must change before the program can go on; `status` is the exit status."""

    def __init__(self, sentence: str, status: int) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.status = status
