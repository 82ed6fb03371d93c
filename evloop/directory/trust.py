"""Whom the client trusts, and what it can prove: TLS, pinned certificates, owner tokens.

    known_directories   127.0.0.1:44444 5f2e...            SHA-256 of its certificate
    owner_tokens        127.0.0.1:44444/lab 9a41...        the token that makeroom returned

Both files are in the user's state directory, with mode 0600. Each line is a key and a value. Lines
are appended, so that two clients that write at the same time both keep theirs; of two lines with
one key the later counts. A line that does not fit on the disk is taken back. A file of
KEEPSAKE_LINES_MAX lines is written anew with the newest line of each key, under a lock that a
second client does not wait for. A damaged line makes the file unusable, and the user is told: to
skip it could mean to trust a stranger as if it were new.

A token is looked up by its room in all directories, because one directory has many names: it is
127.0.0.1, a host name, and an address of the network. Tokens kept under its present name come
first.

    options          certificate of the directory
    (none)           plain TCP
    --tls            the first one seen at a HOST:PORT is kept, another one refused
    --tls-ca FILE    signed by that authority, and for that host name
"""

from __future__ import annotations

import os
from errno import ENOSPC

from evloop.base.addresses import plain_host
from evloop.base.errors import FAILED, REFUSED, USAGE, SetupError
from evloop.base.names import fold, quoted
from evloop.directory.limits import (
    KEEPSAKE_BYTES_MAX,
    KEEPSAKE_KEY_CHARS_MAX,
    KEEPSAKE_LINES_MAX,
    TOKENS_TRIED_MAX,
)
from evloop.system.files import followed, read_small, state_directory, write_atomically

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Mapping
    from ssl import SSLContext

    from evloop.net.tls import TlsPipe

PINS = "known_directories"
TOKENS = "owner_tokens"


def is_hex(text: str) -> bool:
    """Whether `text` can be kept: lower-case hexadecimal."""
    return bool(text) and not text.strip("0123456789abcdef")


def _lock(descriptor: int) -> bool:
    """Try to be the only writer, without waiting: the process with the lock may be stopped."""
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
    """The file `name` in `directory`, read again at each question: another client may add."""

    __slots__ = ("path",)

    def __init__(self, directory: str, name: str) -> None:
        self.path = os.path.join(directory, name)

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
        if not (0 < len(key) <= KEEPSAKE_KEY_CHARS_MAX and is_hex(value)) or "\n" in key:
            raise self._unusable(f'"{quoted(key)}" cannot be a key in it', FAILED)
        try:
            os.makedirs(os.path.dirname(followed(self.path)), mode=0o700, exist_ok=True)
            while not self._put(key, value):
                pass  # another client has replaced the file meanwhile
        except OSError as error:
            raise self._unusable(error.strerror or str(error), FAILED) from None

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
            if lines >= KEEPSAKE_LINES_MAX and locked:
                kept.pop(key, None)
                newest = [*kept.items(), (key, value)][-KEEPSAKE_LINES_MAX:]
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
            key, _, value = line.rpartition(" ")
            if not key or not is_hex(value) or len(key) > KEEPSAKE_KEY_CHARS_MAX:
                why = f'line {number} ("{quoted(line, 40)}") is damaged; correct or remove it'
                raise self._unusable(why, FAILED)
            kept.pop(key, None)  # the newest last: the oldest are dropped first
            kept[key] = value
        if lines[-1]:
            raise self._unusable("its last line is damaged; correct or remove it", FAILED)
        return kept, len(lines) - 1

    def _unusable(self, why: str, status: int) -> SetupError:
        return SetupError(f"cannot use {self.path}: {why}", status)


def check_pin(pins: KeyFile, place: str, shown: str) -> str | None:
    """Trust the certificate with the fingerprint `shown` at `place` ("HOST:PORT"), or refuse.

    The first one is kept, and what to tell the user about it is returned. The one that is known
    returns None. Another one raises SetupError 77: somebody may be between client and directory, or
    the operator has renewed the certificate.
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

    __slots__ = ("_ca", "_context", "_directory", "_met", "_tell", "new")

    def __init__(
        self,
        options: Namespace,
        environ: Mapping[str, str],
        tell: Callable[[str], object],
    ) -> None:
        self._directory = state_directory(environ)
        self._tell = tell
        self._met: dict[str, bool] = {}  # directories accepted by this run; no later refusal told
        self.new: set[str] = set()  # directories whose certificate was not known before this run
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
                self.new.add(endpoint)
                self._tell(news)
            return None

        return check

    def _refusal(self, endpoint: str, sentence: str) -> str:
        """Why a connection ends: in full for a new one, and once for one that is made anew."""
        if endpoint not in self._met:
            return sentence
        if self._met[endpoint]:
            self._met[endpoint] = False
            self._tell(sentence)
        return "its certificate is not the one that it was"

    def keep_token(self, endpoint: str, room: str, token: str) -> None:
        """Keep the token of a room that was made here; SetupError."""
        self._key_file(TOKENS).put(_room_key(endpoint, room), token)

    def tokens(self, endpoint: str, room: str) -> list[str]:
        """The tokens that may be that room's, the likeliest first; SetupError when the file is
        damaged.

        At most TOKENS_TRIED_MAX: of rooms of that name made at `endpoint`, then elsewhere, newest
        first.
        """
        if self._directory is None:
            return []
        wanted, here = fold(room), f"{endpoint.lower()}/{fold(room)}"
        kept = self._key_file(TOKENS).all()
        found = dict.fromkeys([kept[here]] if here in kept else [])
        for key in reversed(kept):
            if key.partition("/")[2] == wanted:
                found[kept[key]] = None
        return list(found)[:TOKENS_TRIED_MAX]

    def _key_file(self, name: str) -> KeyFile:
        if self._directory is None:
            raise SetupError("there is no home directory to remember things in; set HOME", FAILED)
        return KeyFile(self._directory, name)


def _room_key(endpoint: str, room: str) -> str:
    return f"{endpoint.lower()}/{fold(room)}"
