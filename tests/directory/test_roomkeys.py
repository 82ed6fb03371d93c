"""Codes and passphrases of sealed rooms: what is pasted, what was mistyped, what takes long."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evloop.base.errors import REFUSED, SetupError
from evloop.directory import roomkeys
from evloop.directory.limits import KEY_DERIVE_S_MAX
from evloop.directory.roomkeys import (
    Derivation,
    check_passphrase,
    code_of,
    new_secret,
    normal,
    read_key,
    stretched,
)
from evloop.system.loop import Loop

VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "room" / "reliable" / "sealed-vectors.json").read_text()
)
CODE = VECTORS["code"]
SECRET = bytes.fromhex(VECTORS["secret"])
LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

# The watchdog of conftest is a thread, and Python from 3.12 on warns of fork beside threads.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


def test_the_code_of_the_document() -> None:
    assert code_of(SECRET) == CODE
    assert read_key(CODE) == SECRET


@given(st.binary(min_size=16, max_size=16))
def test_a_code_comes_back_as_people_write_it(secret: bytes) -> None:
    code = code_of(secret)
    for written in (
        code,
        code.lower(),
        code.replace("-", ""),
        f"  key {code}\n",
        code.replace("0", "O").replace("1", "l"),
        code.replace("1", "I").replace("0", "o"),
    ):
        assert read_key(written) == secret


def test_secrets_are_drawn() -> None:
    assert len({new_secret() for _ in range(50)}) == 50
    assert {len(new_secret()) for _ in range(5)} == {16}


def _refused(line: str) -> bool:
    try:
        key = read_key(line)
    except SetupError as refused:
        assert refused.exit_status == REFUSED
        return True
    assert isinstance(key, bytes), "a slip must not become a passphrase"
    return False


def test_a_slip_of_one_letter_is_noticed() -> None:
    rng = Random(3)
    passed = 0
    for _ in range(4_000):
        code = code_of(rng.randbytes(16))
        at = rng.choice([n for n, letter in enumerate(code) if letter != "-"])
        other = rng.choice([letter for letter in LETTERS if letter != code[at]])
        passed += not _refused(code[:at] + other + code[at + 1 :])
    assert passed <= 8  # one in 4,096


@pytest.mark.parametrize(
    "slip",
    [
        CODE[:-1],
        CODE[:-5],
        CODE + "-0000",
        CODE.replace("G", "U", 1),
        CODE.replace("-1ZF0", "-1Z?0").replace("?", "U"),
        "key " + CODE[:-5],
        CODE[5:],
        "a-b-c-d-e",
    ],
)
def test_what_looks_like_a_code_is_no_passphrase(slip: str) -> None:
    assert _refused(slip)


@pytest.mark.parametrize(
    ("line", "passphrase"),
    [
        ("correct horse battery staple", "correct horse battery staple"),
        ("  correct \t horse\nbattery  staple ", "correct horse battery staple"),
        ("Cafe\u0301 am Eck", "Café am Eck"),
        ("a-b-c-d", "a-b-c-d"),
        ("mutter-gottes-und-alle-engel", "mutter-gottes-und-alle-engel"),
        ("", ""),
        ("12345678901234567890123456789", "12345678901234567890123456789"),
    ],
)
def test_anything_else_is_a_passphrase(line: str, passphrase: str) -> None:
    assert read_key(line) == passphrase


BROKEN = ("{} ", "{}\n", "{}\u00a0", "{}\u2013", "{}\u2011", "{}-\u200b", "{} - ", "{}-\r\n")


@pytest.mark.parametrize("group", BROKEN)
@pytest.mark.parametrize("before", ["", "key ", "\ufeff"])
def test_a_code_that_mail_or_a_document_has_broken(group: str, before: str) -> None:
    groups = CODE.split("-")
    assert read_key(before + "".join(map(group.format, groups))) == SECRET
    groups[2] = "5" + groups[2][1:]
    assert _refused(before + "".join(map(group.format, groups)))


def test_words_of_as_many_letters_are_no_code() -> None:
    for words in ("near that lake tame bear rest here", "that-then here_is a pear tree at last"):
        assert read_key(words) == words


@given(st.text(max_size=80))
def test_any_line_is_a_key_a_passphrase_or_a_slip(line: str) -> None:
    try:
        key = read_key(line)
    except SetupError:
        return
    assert isinstance(key, bytes) or normal(key) == key


def test_what_makes_a_room_is_no_five_letters() -> None:
    assert check_passphrase("twelve  letters") == "twelve letters"
    for short in ("lab12", "elevenchars", "a          b"):
        with pytest.raises(SetupError, match="at least 12 characters"):
            check_passphrase(short)
    with pytest.raises(SetupError, match="too long"):
        check_passphrase("x" * 1_025)


def test_the_secret_of_a_passphrase() -> None:
    made = stretched(" correct  horse battery staple", VECTORS["place"])
    assert made.hex() == VECTORS["passphrase_secret"]


def test_another_scrypt_agrees() -> None:
    bindings = pytest.importorskip("nacl.bindings", reason="needs PyNaCl (the test extra)")
    salt = b"evloop sealed 1\0" + VECTORS["place"].encode()
    made = bindings.crypto_pwhash_scryptsalsa208sha256_ll(
        VECTORS["passphrase"].encode(), salt, n=2**15, r=8, p=3, maxmem=2**26, dklen=32
    )
    assert made.hex() == VECTORS["passphrase_secret"]


class Clock:
    ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def loop(clock: Clock) -> Iterator[Loop]:
    loop = Loop(clock=clock)
    yield loop
    loop.close()
    with pytest.raises(ChildProcessError):  # no child, no zombie
        os.waitpid(-1, os.WNOHANG)


def test_a_child_derives_it_while_the_loop_goes_on(loop: Loop) -> None:
    told: list[tuple[bytes, str]] = []
    Derivation(loop, VECTORS["passphrase"], VECTORS["place"], lambda *told_: told.append(told_))
    turns: list[int] = []
    loop.defer(lambda: turns.append(1))
    loop.tick()
    assert turns == [1]
    while not told:
        loop.tick()
    assert [(secret.hex(), why) for secret, why in told] == [(VECTORS["passphrase_secret"], "")]


def test_a_derivation_can_be_cancelled(loop: Loop) -> None:
    derivation = Derivation(loop, "correct horse", "239.255.7.1:5751", lambda *_: pytest.fail())
    derivation.cancel()
    derivation.cancel()
    assert not loop.watches


def test_one_that_takes_too_long(loop: Loop, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    def sleeps(passphrase: str, place: str) -> bytes:
        time.sleep(600)
        return b""

    monkeypatch.setattr(roomkeys, "stretched", sleeps)
    told: list[tuple[bytes, str]] = []
    Derivation(loop, "correct horse", "239.255.7.1:5751", lambda *told_: told.append(told_))
    clock.ahead = KEY_DERIVE_S_MAX
    while not told:
        loop.tick()
    assert told == [(b"", "cannot make the key: it took too long")]


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (OSError(0, roomkeys.NO_SCRYPT), roomkeys.NO_SCRYPT),
        (MemoryError(), "no memory"),
        (ValueError("memory limit exceeded"), "memory limit exceeded"),
    ],
)
def test_why_there_is_none(
    loop: Loop, monkeypatch: pytest.MonkeyPatch, error: Exception, why: str
) -> None:
    def fails(passphrase: str, place: str) -> bytes:
        raise error

    monkeypatch.setattr(roomkeys, "stretched", fails)
    told: list[tuple[bytes, str]] = []
    Derivation(loop, "correct horse", "239.255.7.1:5751", lambda *told_: told.append(told_))
    while not told:
        loop.tick()
    assert told == [(b"", why)]


def test_a_python_without_scrypt(monkeypatch: pytest.MonkeyPatch) -> None:
    import hashlib

    monkeypatch.delattr(hashlib, "scrypt")
    with pytest.raises(OSError, match="makes no keys of passphrases"):
        stretched("correct horse battery staple", VECTORS["place"])
