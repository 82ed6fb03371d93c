"""What a client remembers of directories: pinned certificates and owner tokens.

    known_directories   127.0.0.1:44444 5f2e...            SHA-256 of its certificate
    owner_tokens        127.0.0.1:44444/lab 9a41...        the token that makeroom returned

One line a keepsake, 0600, in the user's state directory. Lines are appended, so that two clients
that write at the same time both keep theirs; of two lines with one key the later counts. A line
of another form makes the file unusable, aloud: to skip it could mean to trust a stranger anew.
"""

import os

from evloop.base.errors import SetupError
from evloop.base.limits import (
    KEEPSAKE_BYTES_MAX,
    KEEPSAKE_KEY_CHARS_MAX,
    KEEPSAKE_LINES_MAX,
)
from evloop.base.names import quoted
from evloop.system.statefiles import read_small, write_atomically

PINS = "known_directories"
TOKENS = "owner_tokens"

_FAILED = 1
_REFUSED = 77  # the exit status of a refusal
_HEX = frozenset("0123456789abcdef")


def is_hex(text: str) -> bool:
    """Whether `text` can be kept: lower-case hexadecimal."""
    return bool(text) and not set(text) - _HEX


class Keepsakes:
    """The file `name` in `directory`, read again at each question: another client may add."""

    __slots__ = ("path",)

    def __init__(self, directory: str, name: str) -> None:
        self.path = os.path.join(directory, name)

    def get(self, key: str) -> str | None:
        """The value kept for `key`, or None. SetupError when the file can not be used."""
        return self._load().get(key)

    def put(self, key: str, value: str) -> None:
        """Keep `value`, hexadecimal text, for `key`, which has no white space. SetupError."""
        kept = self._load()
        try:
            if len(kept) < KEEPSAKE_LINES_MAX:
                self._append(f"{key} {value}\n".encode())
                return
            newest = [*kept.items(), (key, value)][-KEEPSAKE_LINES_MAX:]
            write_atomically(self.path, "".join(f"{k} {v}\n" for k, v in newest).encode())
        except OSError as error:
            raise self._unusable(error.strerror or str(error), _FAILED) from None

    def _append(self, line: bytes) -> None:
        os.makedirs(os.path.dirname(self.path), mode=0o700, exist_ok=True)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(self.path, flags | os.O_NONBLOCK, 0o600)
        try:
            written = os.write(descriptor, line)  # one write: lines of two clients do not mix
            if written != len(line):
                raise OSError("the disk is full")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _load(self) -> dict[str, str]:
        try:
            data = read_small(self.path, KEEPSAKE_BYTES_MAX)
        except OSError as error:
            raise self._unusable(error.strerror or str(error), _FAILED) from None
        kept: dict[str, str] = {}
        for number, line in enumerate(data.decode("utf-8", "replace").split("\n")[:-1], 1):
            key, _, value = line.rpartition(" ")
            if not key or len(key) > KEEPSAKE_KEY_CHARS_MAX or not is_hex(value):
                why = f'line {number} ("{quoted(line, 40)}") is damaged; mend or remove that line'
                raise self._unusable(why, _FAILED)
            kept.pop(key, None)  # the newest last: the oldest are dropped first
            kept[key] = value
        if data and not data.endswith(b"\n"):
            raise self._unusable("its last line is damaged; mend or remove that line", _FAILED)
        return kept

    def _unusable(self, why: str, status: int) -> SetupError:
        return SetupError(f"can not use {self.path}: {why}", status)


def check_pin(pins: Keepsakes, place: str, shown: str) -> str | None:
    """Trust the certificate with the fingerprint `shown` at `place` ("HOST:PORT"), or refuse.

    The first one is kept, and what to tell the user about it is returned. The one that is known
    returns None. Another one raises SetupError 77: the house was broken into, or it moved.
    """
    known = pins.get(place)
    if known == shown:
        return None
    if known is None:
        pins.put(place, shown)
        return f"trusting {place} from now on by its certificate, SHA-256 {shown}"
    raise SetupError(
        f"THE CERTIFICATE OF {place} HAS CHANGED.\n"
        "Either somebody is in the middle and reads along, or the operator has renewed it.\n"
        f"known: {known}\n"
        f"shown: {shown}\n"
        "Nothing was sent. Ask the operator, by another road, whether the shown one is right;"
        f" if it is, remove the line that begins with {place} from {pins.path} and connect again.",
        _REFUSED,
    )
