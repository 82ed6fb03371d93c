"""The file of the directories that were met before."""

from __future__ import annotations

from pathlib import Path

import pytest

from evloop.base.errors import SetupError
from evloop.directory.known import KnownIds, is_id
from evloop.directory.limits import KNOWN_IDS_MAX, KNOWN_NAME_CHARS_MAX

ID, OTHER = "01" * 8, "02" * 8
FP = "5f" * 32
PLACE = "192.0.2.10:44444"


@pytest.fixture
def known(tmp_path: Path) -> KnownIds:
    return KnownIds(str(tmp_path / "evloop"))


def lines(known: KnownIds) -> list[str]:
    return Path(known.path).read_text().splitlines()


def test_a_line_is_id_certificate_and_name(known: KnownIds) -> None:
    known.keep(ID, FP, "kitchen pi", PLACE)
    known.keep(OTHER, "", "", PLACE)
    assert lines(known) == [f"{ID} {FP} kitchen pi", f"{OTHER} - {PLACE}"]
    assert known.entries() == {ID: (FP, "kitchen pi"), OTHER: ("", PLACE)}


def test_who_is_met_again_costs_no_line(known: KnownIds) -> None:
    for _ in range(3):
        known.keep(ID, "", "box", PLACE)
    assert len(lines(known)) == 1
    known.keep(ID, "", "", PLACE)  # by its address: its name stays
    assert known.entries() == {ID: ("", "box")}
    known.keep(ID, "", "attic", PLACE)
    assert known.entries() == {ID: ("", "attic")}


def test_a_certificate_is_never_forgotten_for_plain_tcp(known: KnownIds) -> None:
    known.keep(ID, FP, "box", PLACE)
    known.keep(ID, "", "box", PLACE)
    assert known.entries() == {ID: (FP, "box")}


def test_the_newest_stay(known: KnownIds) -> None:
    for number in range(KNOWN_IDS_MAX + 10):
        known.keep(f"{number:016x}", "", "box", PLACE)
        known.keep(ID, "", "mine", PLACE)
    assert len(lines(known)) <= KNOWN_IDS_MAX
    assert list(known.entries())[-1] == ID
    assert f"{KNOWN_IDS_MAX + 9:016x}" in known.entries()
    assert f"{0:016x}" not in known.entries()


@pytest.mark.parametrize("name", ["a\nb", "\x1b[31mred", "x" * 500, "  ", "é" * 64])
def test_a_name_from_the_network_cannot_damage_it(known: KnownIds, name: str) -> None:
    known.keep(ID, FP, name, PLACE)
    (entry,) = known.entries().values()
    assert entry[1].isprintable() and 0 < len(entry[1]) <= KNOWN_NAME_CHARS_MAX


@pytest.mark.parametrize(
    "line",
    [
        f"{ID[:-1]} - box",
        f"{ID} {FP[:-2]} box",
        f"{ID} {FP.upper()} box",
        f"{ID} -",
        f"{ID} - ",
        f"{ID}  box",
        f"{ID} - {'x' * (KNOWN_NAME_CHARS_MAX + 1)}",
        "junk",
        "",
    ],
)
def test_a_damaged_file_is_told_and_not_skipped(known: KnownIds, line: str) -> None:
    known.keep(ID, FP, "box", PLACE)
    with open(known.path, "a") as file:
        file.write(line + "\n")
    with pytest.raises(SetupError, match=r"line 2 .* is damaged"):
        known.entries()
    with pytest.raises(SetupError):
        known.keep(OTHER, "", "box", PLACE)


def test_what_can_be_an_id() -> None:
    assert is_id(ID)
    assert not any(map(is_id, ("", "01" * 7, "0G" * 8, "box.local:44444", None, 7)))
