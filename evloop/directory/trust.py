"""Whom the client trusts, and what it can prove: TLS, pinned certificates, owner tokens.

    known_directories   127.0.0.1:44444 5f2e...            SHA-256 of its certificate
    owner_tokens        127.0.0.1:44444/lab 9a41...        the token that makeroom returned

One line a keepsake, 0600, in the user's state directory. Lines are appended, so that two clients
that write at the same time both keep theirs; of two lines with one key the later counts. A line
of another form makes the file unusable, aloud: to skip it could mean to trust a stranger anew.

    options          certificate of the directory
    (none)           plain TCP
    --tls            the first one seen at a HOST:PORT is kept, another one refused
    --tls-ca FILE    signed by that authority, and for that host name
"""

from __future__ import annotations

import os

from evloop.base.addresses import plain_host
from evloop.base.errors import FAILED, REFUSED, USAGE, SetupError
from evloop.base.names import fold, quoted
from evloop.directory.limits import (
    KEEPSAKE_BYTES_MAX,
    KEEPSAKE_KEY_CHARS_MAX,
    KEEPSAKE_LINES_MAX,
)
from evloop.system.files import followed, read_small, state_directory, write_private

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Mapping
    from ssl import SSLContext

    from evloop.net.tls import TlsPipe

PINS = "known_directories"
TOKENS = "owner_tokens"
_HEX = frozenset("0123456789abcdef")


def is_hex(text: str) -> bool:
    """Whether `text` can be kept: lower-case hexadecimal."""
    return bool(text) and not set(text) - _HEX


class KeyFile:
    """The file `name` in `directory`, read again at each question: another client may add."""

    __slots__ = ("path",)

    def __init__(self, directory: str, name: str) -> None:
        self.path = os.path.join(directory, name)

    def get(self, key: str) -> str | None:
        """The value kept for `key`, or None. SetupError when the file cannot be used."""
        return self._load().get(key)

    def put(self, key: str, value: str) -> None:
        """Keep `value`, hexadecimal text, for `key`, which has no white space. SetupError."""
        kept = self._load()
        try:
            if len(kept) < KEEPSAKE_LINES_MAX:
                self._append(f"{key} {value}\n".encode())
                return
            newest = [*kept.items(), (key, value)][-KEEPSAKE_LINES_MAX:]
            write_private(self.path, "".join(f"{k} {v}\n" for k, v in newest).encode())
        except OSError as error:
            raise self._unusable(error.strerror or str(error), FAILED) from None

    def _append(self, line: bytes) -> None:
        os.makedirs(os.path.dirname(self.path), mode=0o700, exist_ok=True)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(followed(self.path), flags | os.O_NONBLOCK, 0o600)
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
            raise self._unusable(error.strerror or str(error), FAILED) from None
        kept: dict[str, str] = {}
        for number, line in enumerate(data.decode("utf-8", "replace").split("\n")[:-1], 1):
            key, _, value = line.rpartition(" ")
            if not key or len(key) > KEEPSAKE_KEY_CHARS_MAX or not is_hex(value):
                why = f'line {number} ("{quoted(line, 40)}") is damaged; mend or remove that line'
                raise self._unusable(why, FAILED)
            kept.pop(key, None)  # the newest last: the oldest are dropped first
            kept[key] = value
        if data and not data.endswith(b"\n"):
            raise self._unusable("its last line is damaged; mend or remove that line", FAILED)
        return kept

    def _unusable(self, why: str, status: int) -> SetupError:
        return SetupError(f"cannot use {self.path}: {why}", status)


def check_pin(pins: KeyFile, place: str, shown: str) -> str | None:
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
        REFUSED,
    )


class Trust:
    """`tell` says a sentence to the user. SetupError when the options' files cannot be used."""

    __slots__ = ("_ca", "_context", "_directory", "_met", "_tell")

    def __init__(
        self,
        options: Namespace,
        environ: Mapping[str, str],
        tell: Callable[[str], object],
    ) -> None:
        self._directory = state_directory(environ)
        self._tell = tell
        self._met: dict[str, bool] = {}  # directories accepted by this run; no later refusal told
        self._ca: str | None = options.tls_ca
        self._context: SSLContext | None = None
        if options.tls or options.tls_ca or options.tls_cert:
            try:
                from evloop.net.tls import client_context  # late: ssl takes 20 MB
            except ImportError:
                raise SetupError("this Python has no ssl, and so no --tls", USAGE) from None
            self._context = client_context(options.tls_ca, options.tls_cert, options.tls_key)

    def pipe(self, host: str, endpoint: str) -> TlsPipe | None:
        """The TLS of a new connection to `endpoint` (HOST:PORT), None for plain TCP."""
        if self._context is None:
            return None
        from evloop.net.tls import TlsPipe

        check = None if self._ca is not None else self._check_of(endpoint)
        return TlsPipe(self._context, server_side=False, host=plain_host(host), check=check)

    def _check_of(self, endpoint: str) -> Callable[[bytes], str | None]:
        from evloop.net.tls import fingerprint

        pins = self._key_file(PINS)

        def check(certificate: bytes) -> str | None:
            try:
                news = check_pin(pins, endpoint.lower(), fingerprint(certificate))
            except SetupError as error:
                return self._refusal(endpoint, error.sentence)
            self._met[endpoint] = True
            if news is not None:
                self._tell(news)
            return None

        return check

    def _refusal(self, endpoint: str, sentence: str) -> str:
        """Why a connection ends; in full to who connects, and once to who is reconnected."""
        if endpoint not in self._met:
            return sentence
        if self._met[endpoint]:
            self._met[endpoint] = False
            self._tell(sentence)
        return "its certificate is not the one that it was"

    def keep_token(self, endpoint: str, room: str, token: str) -> None:
        """Keep the token of a room that was made here; SetupError."""
        self._key_file(TOKENS).put(_room_key(endpoint, room), token)

    def token(self, endpoint: str, room: str) -> str | None:
        """The token of a room, if it was made here; SetupError when the file is damaged."""
        if self._directory is None:
            return None
        return self._key_file(TOKENS).get(_room_key(endpoint, room))

    def _key_file(self, name: str) -> KeyFile:
        if self._directory is None:
            raise SetupError("there is no home directory to remember things in; set HOME", FAILED)
        return KeyFile(self._directory, name)


def _room_key(endpoint: str, room: str) -> str:
    return f"{endpoint.lower()}/{fold(room)}"
