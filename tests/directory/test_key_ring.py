"""The file of remembered keys: found by place, by name, forgotten; damage is told."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evloop.base.errors import SetupError
from evloop.base.names import fold
from evloop.directory.key_ring import NONE, KeyRing

PLACE, OTHER = "239.255.7.1:5751", "239.255.9.9:50000"
ONE, TWO, LONG = bytes(16), bytes(range(16)), bytes(range(32))


@pytest.fixture
def ring(tmp_path: Path) -> KeyRing:
    return KeyRing(str(tmp_path))


def test_a_line_of_the_file(ring: KeyRing) -> None:
    ring.keep("9f0c55d01a2b3c4d", "Lab", PLACE, TWO)
    ring.keep("127.0.0.1:44444", "day room", "[ff15::7]:5751", LONG)
    ring.keep(NONE, NONE, OTHER, ONE)
    assert Path(ring.path).read_text() == (
        f"9f0c55d01a2b3c4d/lab/{PLACE} {TWO.hex()}\n"
        f"127.0.0.1:44444/day room/[ff15::7]:5751 {LONG.hex()}\n"
        f"-/-/{OTHER} {ONE.hex()}\n"
    )
    assert stat.S_IMODE(os.stat(ring.path).st_mode) == 0o600


def test_the_newest_counts(ring: KeyRing) -> None:
    assert ring.at(PLACE) is None and ring.named("d", "lab") == {}
    ring.keep("d", "lab", PLACE, ONE)
    ring.keep("d", "LAB", PLACE, TWO)
    assert ring.at(PLACE) == TWO and ring.named("d", "Lab") == {PLACE: TWO}
    ring.keep("d", "lab", OTHER, LONG)
    assert list(ring.named("d", "lab")) == [PLACE, OTHER]
    assert ring.named("e", "lab") == {}
    assert list(ring.anywhere("lab")) == [PLACE, OTHER]


def test_forgetting_a_name_forgets_its_places(ring: KeyRing) -> None:
    ring.keep("d", "lab", PLACE, ONE)
    ring.keep(NONE, NONE, PLACE, ONE)
    ring.keep("d", "garden", OTHER, TWO)
    assert ring.forget("d", "Lab") == 2
    assert ring.at(PLACE) is None and ring.at(OTHER) == TWO
    assert ring.forget("d", "lab") == 0
    assert ring.forget(NONE, NONE, OTHER) == 1
    assert Path(ring.path).read_text() == ""


def test_nothing_was_ever_kept(ring: KeyRing) -> None:
    assert ring.forget("d", "lab") == 0
    assert not os.path.exists(ring.path)


@pytest.mark.parametrize(
    "line",
    ["lab 00", f"d/lab/{PLACE} {'0' * 31}", f"d/lab {'0' * 32}", f"d/lab/{PLACE} {'G' * 32}"],
)
def test_a_damaged_line_is_told_and_never_passed_over(ring: KeyRing, line: str) -> None:
    Path(ring.path).write_text(line + "\n")
    for ask in (lambda: ring.at(PLACE), lambda: ring.forget("d", "lab"), ring.all):
        with pytest.raises(SetupError, match="line 1"):
            ask()
    assert Path(ring.path).read_text() == line + "\n"


def test_a_file_that_another_client_writes_is_left_alone(ring: KeyRing) -> None:
    from fcntl import LOCK_EX, flock

    ring.keep("d", "lab", PLACE, ONE)
    with open(ring.path, "rb") as held:
        flock(held, LOCK_EX)
        with pytest.raises(SetupError, match="try again"):
            ring.forget("d", "lab")
    assert ring.at(PLACE) == ONE


NAMES = st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=12)


@given(st.lists(st.tuples(st.sampled_from("de"), NAMES, st.integers(1, 9), st.booleans())))
def test_as_a_dict_would_do(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str, int, bool]]
) -> None:
    ring = KeyRing(str(tmp_path_factory.mktemp("ring")))
    model: dict[tuple[str, str, str], bytes] = {}
    for directory, name, number, keeps in steps:
        place = f"239.255.7.{number}:5751"
        if keeps:
            key = directory, fold(name), place
            model.pop(key, None)
            model[key] = bytes([number]) * 16
            ring.keep(directory, name, place, model[key])
        else:
            gone = {p for d, n, p in model if (d, n) == (directory, fold(name))} | {place}
            before = len(model)
            model = {key: value for key, value in model.items() if key[2] not in gone}
            assert ring.forget(directory, name, place) == before - len(model)
        found = [value for (_, _, p), value in model.items() if p == place]
        assert ring.at(place) == (found[-1] if found else None)
        assert ring.named(directory, name) == {
            p: value for (d, n, p), value in model.items() if (d, n) == (directory, fold(name))
        }
