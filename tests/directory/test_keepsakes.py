"""What a client remembers: kept, private, and never guessed at when it is damaged."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evloop.base.errors import SetupError
from evloop.directory.limits import KEEPSAKE_LINES_MAX
from evloop.directory.trust import (
    PINS,
    KeyFile,
    check_pin,
)

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
