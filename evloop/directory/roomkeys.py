"""The keys of sealed rooms as people hand them on: codes to paste, and passphrases.

A generated secret has 128 random bits. Its code is written in Crockford's base 32, in groups of 4:

    000G-40R4-0M30-E209-185G-R38E-1ZF0       the secret, then 12 bits of its check

    check = BLAKE2b-128("evloop key check" 00 secret), the first 12 bits

Read in any case, O as 0, I and L as 1, with or without dashes, and of a pasted line the last word.
What looks like a code must fit its check; anything else is a passphrase:

    the last word has                                           it is
    28 letters of base 32, dashes left out                      a code
    5 or more groups of 1 to 4 letters or digits, by dashes     a code (a slip, if not 28 letters)
    anything else                                               a passphrase: the whole line

A passphrase becomes 32 bytes by scrypt (RFC 7914) with the room's place as its salt. That takes a
third of a second and 32 MiB on a desktop and seconds on a small board, so a child does it
(`Derivation`), and OpenSSL is loaded there and not here.
"""

from __future__ import annotations

import os

from evloop.base.errors import REFUSED, SetupError
from evloop.directory.limits import (
    KEY_DERIVE_S_MAX,
    PASSPHRASE_BYTES_MAX,
    PASSPHRASE_CHARACTERS_MIN,
)
from evloop.system.child import Child

try:  # the extension itself: hashlib may load OpenSSL
    from _blake2 import blake2b
except ImportError:
    from hashlib import blake2b

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from evloop.system.loop import Loop

SECRET_BYTES = 16  # of a generated secret
PASSPHRASE_SECRET_BYTES = 32
CODE_LETTERS = 28
_DIGITS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_VALUES = {digit: value for value, digit in enumerate(_DIGITS)}
_VALUES.update(O=0, I=1, L=1)
_CHECK_BITS = 12
# Dashes, and what is not seen: a soft hyphen, a break that may be, a byte order mark.
_NO_LETTERS = "-\u2010\u2011\u2012\u2013\u2014\u2212\u00ad\u200b\u2060\ufeff"
_GROUPS_MIN = 5
_SALT = b"evloop sealed 1\0"
# N, r and p of scrypt: 128 * N * r bytes are 32 MiB. A million words cost one core four days.
SCRYPT_N, SCRYPT_R, SCRYPT_P = 2**15, 8, 3
_SCRYPT_BYTES_MAX = 64 * 2**20
NO_SCRYPT = "this Python makes no keys of passphrases; use a key made by makeroom"
SLIP = "the key has a slip, ask for it again"


def new_secret() -> bytes:
    """A secret of 128 random bits."""
    return os.urandom(SECRET_BYTES)


def _check(secret: bytes) -> int:
    found = blake2b(b"evloop key check\0" + secret, digest_size=16).digest()
    return int.from_bytes(found[:2], "big") >> 16 - _CHECK_BITS


def code_of(secret: bytes) -> str:
    """The code of a generated secret, in groups of 4 letters."""
    number = int.from_bytes(secret, "big") << _CHECK_BITS | _check(secret)
    letters = [_DIGITS[number >> 5 * at & 31] for at in reversed(range(CODE_LETTERS))]
    groups = ["".join(letters[at : at + 4]) for at in range(0, CODE_LETTERS, 4)]
    return "-".join(groups)


def _looks_like_code(word: str) -> bool:
    letters = word.replace("-", "").upper()
    if len(letters) == CODE_LETTERS and all(letter in _VALUES for letter in letters):
        return True
    groups = word.split("-")
    return len(groups) >= _GROUPS_MIN and all(
        0 < len(group) <= 4 and group.isascii() and group.isalnum() for group in groups
    )


def _secret_of(word: str) -> bytes | None:
    """The secret whose code `word` is; None when it has a slip."""
    letters = word.replace("-", "").upper()
    if len(letters) != CODE_LETTERS or not all(letter in _VALUES for letter in letters):
        return None
    number = 0
    for letter in letters:
        number = number << 5 | _VALUES[letter]
    secret = (number >> _CHECK_BITS).to_bytes(SECRET_BYTES, "big")
    return secret if number & (1 << _CHECK_BITS) - 1 == _check(secret) else None


def read_key(line: str) -> bytes | str:
    """The secret of the code at the end of `line`, or else the passphrase that the whole line is
    (normalised; "": there is nothing). Raises SetupError: a code with a slip."""
    whole = _together(line)
    if whole is not None:
        return whole
    words = line.split()
    if words and _looks_like_code(words[-1]):
        secret = _secret_of(words[-1])
        if secret is None:
            raise SetupError(SLIP, REFUSED)
        return secret
    return normal(line)


def _together(line: str) -> bytes | None:
    """The secret of a code that came with blanks, line breaks or other dashes among its letters, as
    mail and documents make them. Raises SetupError: with a slip.

    Words without a digit that do not fit the check are a passphrase.
    """
    words = line.split()
    joined = "".join(words[1:] if words[:1] == ["key"] else words)
    letters = "".join(letter for letter in joined if letter not in _NO_LETTERS).upper()
    if len(letters) != CODE_LETTERS or not all(letter in _VALUES for letter in letters):
        return None
    secret = _secret_of(letters)
    if secret is None and not letters.isalpha():
        raise SetupError(SLIP, REFUSED)
    return secret


def normal(passphrase: str) -> str:
    """A passphrase as all write it: NFC, runs of white space one space, none around it."""
    passphrase = " ".join(passphrase.split())
    if not passphrase.isascii():
        from unicodedata import normalize

        passphrase = normalize("NFC", passphrase)
    return passphrase


def check_passphrase(passphrase: str) -> str:
    """`passphrase` (normalised) when it may make a room; else SetupError."""
    passphrase = normal(passphrase)
    if len(passphrase) < PASSPHRASE_CHARACTERS_MIN:
        least = PASSPHRASE_CHARACTERS_MIN
        raise SetupError(f"a passphrase has at least {least} characters", REFUSED)
    if len(passphrase.encode(errors="replace")) > PASSPHRASE_BYTES_MAX:
        raise SetupError("the passphrase is too long", REFUSED)
    return passphrase


def stretched(passphrase: str, place: str) -> bytes:
    """The secret of `passphrase` for the room at `place`, "ADDRESS:PORT". It takes long: a child
    does it. OSError: this Python has no scrypt."""
    try:
        from hashlib import scrypt
    except ImportError:
        raise OSError(0, NO_SCRYPT) from None
    return scrypt(
        normal(passphrase).encode(errors="replace"),
        salt=_SALT + place.encode(),
        n=SCRYPT_N,
        r=SCRYPT_R,
        p=SCRYPT_P,
        maxmem=_SCRYPT_BYTES_MAX,
        dklen=PASSPHRASE_SECRET_BYTES,
    )


class Derivation:
    """The secret of a passphrase, made by a child while the loop goes on.

    `on_done(secret, why)` is called once, from a later tick, unless cancelled: `secret` has 32
    bytes, or is empty, and then `why` says so.
    """

    __slots__ = ("_child", "_on_done")

    def __init__(
        self, loop: Loop, passphrase: str, place: str, on_done: Callable[[bytes, str], object]
    ) -> None:
        self._on_done = on_done
        self._child = Child(
            loop,
            lambda: _answer(passphrase, place),
            self._done,
            seconds_max=KEY_DERIVE_S_MAX,
            answer_bytes_max=1_024,
        )

    def cancel(self) -> None:
        """Forget it: `on_done` will not be called. A second call does nothing."""
        self._child.cancel()

    def _done(self, answer: bytes, why: str) -> None:
        if why:
            self._on_done(b"", f"cannot make the key: {why}")
        elif len(answer) == PASSPHRASE_SECRET_BYTES + 1 and answer[:1] == b"=":
            self._on_done(answer[1:], "")
        else:
            self._on_done(b"", answer[1:].decode(errors="replace") or "cannot make the key")


def _answer(passphrase: str, place: str) -> bytes:
    """What the child writes: "=" and the secret, or "!" and why there is none."""
    try:
        return b"=" + stretched(passphrase, place)
    except (OSError, ValueError, MemoryError) as error:  # OpenSSL may refuse so much memory
        return b"!" + (str(getattr(error, "strerror", "") or error) or "no memory").encode()
