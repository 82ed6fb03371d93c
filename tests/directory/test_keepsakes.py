"""What a client remembers: kept, private, and never guessed at when it is damaged."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evloop.base.errors import SetupError
from evloop.base.names import fold
from evloop.directory import key_file
from evloop.directory.key_file import KeyFile
from evloop.directory.limits import KEEPSAKE_BYTES_MAX, KEEPSAKE_LINES_MAX
from evloop.directory.trust import PINS, TOKENS, check_pin
from evloop.system.files import write_atomically

A, B = "a1" * 32, "b2" * 32
PLACE = "192.0.2.1:44444"


@pytest.fixture
def pins(tmp_path: Path) -> KeyFile:
    return KeyFile(str(tmp_path / "evloop"), PINS)


def test_the_first_certificate_is_kept_and_told(pins: KeyFile) -> None:
    told = check_pin(pins, PLACE, A)
    assert told is not None and A in told and PLACE in told
    assert check_pin(pins, PLACE, A) is None
    assert Path(pins.path).read_text() == f"{PLACE} {A}\n"
    assert os.stat(pins.path).st_mode & 0o777 == 0o600
    assert os.stat(os.path.dirname(pins.path)).st_mode & 0o777 == 0o700


def test_another_certificate_is_refused_aloud(pins: KeyFile) -> None:
    check_pin(pins, PLACE, A)
    check_pin(pins, "192.0.2.1:55555", B)
    with pytest.raises(SetupError) as raised:
        check_pin(pins, PLACE, B)
    assert raised.value.exit_status == 77
    for part in ("HAS CHANGED", A, B, PLACE, pins.path, "Nothing was sent"):
        assert part in raised.value.sentence
    with pytest.raises(SetupError):
        check_pin(pins, PLACE, B)
    assert check_pin(pins, PLACE, A) is None, "the refused one was not kept"


@pytest.mark.parametrize(
    "junk",
    [b"junk\n", b"\xff\xfe\0\n", b"x y z\n", b"\n", b" ab\n", b"192.0.2.1:44444 a1", b"k 12 AB\n"],
)
def test_a_damaged_file_is_not_guessed_at(pins: KeyFile, junk: bytes) -> None:
    check_pin(pins, PLACE, A)
    with open(pins.path, "ab") as file:
        file.write(junk)
    with pytest.raises(SetupError, match=r"cannot use .*damaged"):
        check_pin(pins, PLACE, A)


def test_what_can_not_be_read_or_written_is_told(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / PINS)
    with pytest.raises(SetupError, match="not a regular file"):
        KeyFile(str(tmp_path), PINS).get(PLACE)
    (tmp_path / "file").write_text("")
    with pytest.raises(SetupError, match="cannot use"):
        KeyFile(str(tmp_path / "file"), PINS).put(PLACE, A)


def test_two_clients_keep_both_of_theirs(pins: KeyFile) -> None:
    other = KeyFile(os.path.dirname(pins.path), PINS)
    pins.put("one", A)
    other.put("two", B)
    pins.put("three", A)
    assert [other.get(key) for key in ("one", "two", "three", "four")] == [A, B, A, None]


def test_a_key_that_is_put_again_and_again_does_not_fill_the_file(pins: KeyFile) -> None:
    """As it was found: keys were counted and not lines, and after 64,528 tokens of one room the
    file was longer than what is read of it, and so damaged."""
    os.makedirs(os.path.dirname(pins.path))
    line = f"127.0.0.1:44444/lab {A}\n"
    Path(pins.path).write_text("first 01\n" + line * (KEEPSAKE_LINES_MAX - 2))
    pins.put("127.0.0.1:44444/lab", B)
    assert Path(pins.path).read_text().count("\n") == KEEPSAKE_LINES_MAX
    pins.put("127.0.0.1:44444/lab", A)
    assert Path(pins.path).read_text() == f"first 01\n{line}"
    assert pins.get("127.0.0.1:44444/lab") == A


def test_a_file_that_is_too_large_says_so(pins: KeyFile) -> None:
    os.makedirs(os.path.dirname(pins.path))
    Path(pins.path).write_text("key 01\n" * (KEEPSAKE_BYTES_MAX // 7 + 1))
    with pytest.raises(SetupError, match="larger than"):
        pins.get("key")


def test_a_look_up_in_a_full_file_is_cheap(pins: KeyFile) -> None:
    """2 us a line, counted in calls of Python's interpreter and not in time."""
    os.makedirs(os.path.dirname(pins.path))
    lines = "".join(f"127.0.0.1:44444/room-{n} {n:064x}\n" for n in range(KEEPSAKE_LINES_MAX))
    Path(pins.path).write_text(lines)
    calls = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += 1

    sys.setprofile(count)
    try:
        assert pins.get("127.0.0.1:44444/room-7") == f"{7:064x}"
    finally:
        sys.setprofile(None)
    assert calls < 15 * KEEPSAKE_LINES_MAX


@pytest.mark.parametrize("how", ["short", "fsync", "none"])
def test_what_does_not_fit_on_the_disk_is_taken_back(
    pins: KeyFile, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """As it was found: half a line, and `--tls` refused every directory from then on."""
    pins.put("one", A)
    write = os.write

    def short(descriptor: int, data: bytes) -> int:
        return write(descriptor, data[:9])

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    if how == "fsync":
        monkeypatch.setattr(os, "fsync", full)
    else:
        monkeypatch.setattr(os, "write", short if how == "short" else full)
    with pytest.raises(SetupError, match="No space left on device"):
        pins.put("two", B)
    monkeypatch.undo()
    assert Path(pins.path).read_text() == f"one {A}\n"
    pins.put("two", B)
    assert pins.all() == {"one": A, "two": B}


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small tmpfs: needs root")
@pytest.mark.skipif(shutil.which("mount") is None, reason="needs mount")
def test_a_full_disk_while_a_certificate_is_pinned(tmp_path: Path) -> None:
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "evloop-test", str(tmp_path)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        pins = KeyFile(str(tmp_path), PINS)
        pins.put("first", A)
        ballast = tmp_path / "ballast"
        with open(ballast, "wb", buffering=0) as file, pytest.raises(OSError):
            while True:
                file.write(b"x" * 512)
        kept = 1
        with pytest.raises(SetupError, match="No space left"):
            for number in range(200):
                pins.put(f"192.0.2.{number}:44444", A)
                kept += 1
        assert len(pins.all()) == kept, "whole, or not there"
        assert check_pin(pins, "first", A) is None
        ballast.unlink()
        pins.put("after", B)
        assert len(pins.all()) == kept + 1
    finally:
        subprocess.run(["umount", "-l", str(tmp_path)], check=True)


def test_a_file_that_is_replaced_meanwhile_loses_nothing(
    pins: KeyFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another client writes it anew between our look and our line."""
    pins.put("one", A)
    real = key_file.append_line
    replaced: list[bool] = []

    def append(descriptor: int, line: bytes) -> None:
        if not replaced:
            replaced.append(True)
            write_atomically(pins.path, f"one {A}\nother {B}\n".encode())
        real(descriptor, line)

    monkeypatch.setattr(key_file, "append_line", append)
    pins.put("two", B)
    assert pins.all() == {"one": A, "other": B, "two": B}


def test_a_client_that_is_stopped_with_the_lock_stops_nobody(pins: KeyFile) -> None:
    pins.put("one", A)
    with open(pins.path, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        pins.put("two", B)
    assert pins.all() == {"one": A, "two": B}


def test_the_longest_room_name_can_be_kept(tmp_path: Path) -> None:
    """U+FDFA folds to 18 characters, with spaces in them."""
    tokens = KeyFile(str(tmp_path), TOKENS)
    key = f"{'h' * 253}:65535/{fold(chr(0xFDFA) * 21)}"
    tokens.put(key, A)
    assert tokens.get(key) == A
    with pytest.raises(SetupError, match="cannot be a key"):
        tokens.put("k" * 1000, A)
    assert tokens.get(key) == A


def test_the_newest_are_kept_when_there_are_too_many(pins: KeyFile) -> None:
    os.makedirs(os.path.dirname(pins.path))
    lines = "".join(f"key{n} {n:04x}\n" for n in range(KEEPSAKE_LINES_MAX))
    Path(pins.path).write_text(lines)
    pins.put("newest", A)
    assert pins.get("key0") is None
    assert pins.get("key1") == "0001"
    assert pins.get("newest") == A


@given(
    st.lists(
        st.tuples(
            st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=90),
            st.binary(min_size=1, max_size=32).map(bytes.hex),
        ),
        max_size=8,
    )
)
def test_it_is_a_dict(
    tmp_path_factory: pytest.TempPathFactory, puts: list[tuple[str, str]]
) -> None:
    kept = KeyFile(str(tmp_path_factory.mktemp("kept")), PINS)
    for key, value in puts:
        kept.put(key, value)
    for key, value in dict(puts).items():
        assert kept.get(key) == value


def test_our_own_link_is_written_through(tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    (tmp_path / "pins").symlink_to(target)
    kept = KeyFile(str(tmp_path), "pins")
    kept.put("host:1", "ab")
    kept.put("host:2", "cd")
    assert (tmp_path / "pins").is_symlink()
    assert target.read_text() == "host:1 ab\nhost:2 cd\n"
