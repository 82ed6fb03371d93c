"""docs/room-protocol.md against the code: neither tells what the other does not have.

The vectors are read out of the page, and everything that is a table there is compared as a table.
"""

from __future__ import annotations

import ast
import re
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from evloop.net import compat, multicast
from evloop.room import events, plain
from evloop.room.reliable import packets, session
from evloop.room.reliable.packets import Codec, as_repair
from evloop.room.reliable.vector import digest_item
from tests.house.pages import Page
from tests.house.pages import plain as plain_text
from tests.support.sources import ROOT

PAGE = Page(ROOT / "docs" / "room-protocol.md")
COLUMNS_MAX = 100
RULES = range(1, 14)
OF_NAMES = {"NICKNAME_BYTES_MAX", "PORT_MAX", "PORT_MIN", "ROOM_NAME_BYTES_MAX"}

PLACE = "239.255.7.1:5751"
MEL = bytes.fromhex("0102030405060708")
ANN = bytes.fromhex("1112131415161718")
DIGEST = 0x81C8F5F0639F870C

TYPES = {name: getattr(packets, name) for name in ("DATA", "NACK", "SESSION", "BYE", "PROBE")}
FLAGS = {"RELAYED": packets.RELAYED, "SEALED": packets.SEALED, "MORE": packets.MORE}


def section(heading: str) -> str:
    """The text below a heading."""
    return "\n".join(PAGE.section(heading))


def vectors() -> dict[str, bytes]:
    """The blocks `vector NAME` of the page."""
    named = [(what.split(), lines) for what, lines in PAGE.blocks]
    return {
        words[1]: bytes.fromhex("".join(lines)) for words, lines in named if words[:1] == ["vector"]
    }


VECTORS = vectors()


def opened(name: str) -> tuple[Any, ...]:
    packet = Codec(PLACE).open(VECTORS[name])
    assert isinstance(packet, tuple), packet
    return packet


# -- vectors ---------------------------------------------------------------------------------------


def test_the_page_has_a_vector_for_everything() -> None:
    assert set(VECTORS) == {"data", "repair", "nack", "session", "bye", "probe", "digest"}
    # Their places and lengths stand beside them.
    for name in ("data", "nack", "session", "bye", "probe"):
        assert f"({len(VECTORS[name])} bytes)" in section("Vectors")
    assert f"`{PLACE}`" in section("Vectors")


def test_the_data_vector() -> None:
    body = packets.data_body(1, (), b"Mel", events.TEXT, b"Good morning!")
    packed = Codec(PLACE).pack(packets.DATA, 0, MEL, 0, 1795348801, body)
    assert packed == VECTORS["data"]
    fields = (1, (), b"Mel", events.TEXT, b"Good morning!")
    assert opened("data") == (packets.DATA, 0, MEL, 0, 1795348801, fields)


def test_the_repair_vector() -> None:
    assert as_repair(VECTORS["data"]) == VECTORS["repair"]
    assert opened("repair") == (packets.DATA, packets.RELAYED, *opened("data")[2:])


def test_the_nack_vector() -> None:
    body = packets.nack_body(packets.NOBODY, [(ANN, 3, 5)])
    assert Codec(PLACE).pack(packets.NACK, 0, MEL, 0, 0, body) == VECTORS["nack"]
    *head, (to, raw) = opened("nack")
    assert head == [packets.NACK, 0, MEL, 0, 0]
    assert (to, packets.ranges(raw)) == (packets.NOBODY, [(ANN, 3, 5)])


def test_the_session_vector() -> None:
    listed = [(MEL, 0, 1), (ANN, 0, 5)]
    fields = (DIGEST, 1_000_000, (ANN, 999_000, 500), 1, 30, 2, b"Mel", listed)
    body = packets.session_body(*fields)
    assert Codec(PLACE).pack(packets.SESSION, 0, MEL, 1, 0, body) == VECTORS["session"]
    *head, (*told, raw) = opened("session")
    assert head == [packets.SESSION, 0, MEL, 1, 0]
    assert told == [DIGEST, 1_000_000, ANN, 999_000, 500, 1, 30, 2, b"Mel"]
    assert packets.ranges(raw) == listed


def test_the_bye_vector() -> None:
    assert Codec(PLACE).pack(packets.BYE, 0, MEL, 2, 0, b"") == VECTORS["bye"]
    assert opened("bye") == (packets.BYE, 0, MEL, 2, 0, ())


def test_the_probe_vector() -> None:
    fields = (0x1122334455667788, 1_000_000, packets.ASKER, 2, 20)
    body = packets.probe_body(*fields, 55)
    assert Codec(PLACE).pack(packets.PROBE, 0, MEL, 0, 0, body) == VECTORS["probe"]
    assert opened("probe") == (packets.PROBE, 0, MEL, 0, 0, fields)


def test_the_digest_vector() -> None:
    assert VECTORS["digest"] == (digest_item(MEL, 1) ^ digest_item(ANN, 5)).to_bytes(8, "big")


def test_the_vectors_are_those_of_the_codecs_own_test() -> None:
    """Wherever that test lives, it holds the same bytes."""
    own = list((ROOT / "tests").rglob("test_packets.py"))
    assert len(own) == 1
    written = "".join(re.findall(r'"([0-9a-f]{20,})"', own[0].read_text(encoding="utf-8")))
    for name in ("data", "nack", "session", "bye", "probe"):
        assert VECTORS[name].hex() in written


# -- datagrams -------------------------------------------------------------------------------------


def test_the_types() -> None:
    told = {row[1]: int(row[0]) for row in PAGE.table("Datagrams", "type")}
    assert told == TYPES
    assert {kind & 0x0F for kind in packets.PARSERS} == set(told.values())
    for name in TYPES:
        assert section(name)


def test_the_flags() -> None:
    flags = PAGE.table("Datagrams", "flag")
    named = {row[1]: int(row[0], 16) for row in flags if row[1]}
    assert named == FLAGS
    under = sum(int(row[0], 16) for row in flags if row[-1] == "yes")
    whole = sum(int(row[0], 16) for row in flags)
    assert (under, whole) == (packets.UNDER_TAG, 0xFF)
    refused = sum(int(row[0], 16) for row in flags if "is dropped" in row[2])
    assert refused == 0xFF & ~packets.KNOWN_FLAGS


def test_the_header() -> None:
    at = 0
    for row in PAGE.table("Datagrams", "offset")[:-2]:  # but for the body and the tag
        assert int(row[0]) == at, row
        at += int(row[1])
    assert at == packets.HEADER_BYTES == packets.HEADER.size
    sizes = f"a header of {packets.HEADER_BYTES} bytes, a body, and a tag of {packets.TAG_BYTES}"
    assert sizes in section("Datagrams")


@pytest.mark.parametrize(
    ("name", "fixed"),
    [
        ("DATA", packets.DATA_HEAD.size),
        ("NACK", packets.NACK_HEAD.size),
        ("SESSION", packets.SESSION_HEAD.size),
        ("PROBE", packets.PROBE_HEAD.size),
    ],
)
def test_the_bodies(name: str, fixed: int) -> None:
    """Fields with a fixed offset leave no gaps, and end where the struct of the code ends."""
    at = packets.HEADER_BYTES
    for row in PAGE.table(name, "offset"):
        if row[0].isdigit():
            assert int(row[0]) == at, row
            at += int(row[1]) if row[1].isdigit() else 0
    assert at == packets.HEADER_BYTES + fixed


def test_the_reasons() -> None:
    told = [plain_text(row[0]) for row in PAGE.table("What is dropped", "reason")]
    assert tuple(told[: len(packets.REASONS)]) == packets.REASONS
    source = "".join(
        path.read_text(encoding="utf-8") for path in closure(session.__name__).values()
    )
    for reason in told[len(packets.REASONS) :]:
        assert f'"{reason}"' in source, reason
    dropped = re.findall(r'self\._drop\("(\w+)"', source)
    assert set(dropped) <= set(told)


# -- rules -----------------------------------------------------------------------------------------


def mentioned(text: str) -> set[int]:
    """The numbers in "rule 5", "rules 1 to 3", "rules 4, 6, 8 and 9"."""
    found: set[int] = set()
    for words in re.findall(r"\brules? (\d+(?:(?:, | and | to )\d+)*)", text, re.I):
        for part in re.split(r", | and ", words):
            first, _, last = part.partition(" to ")
            found.update(range(int(first), int(last or first) + 1))
    return found


def test_the_rules_have_the_numbers_that_code_and_tests_speak_of() -> None:
    told = re.findall(r"^(\d+)\. \*\*([\w ]+)\.\*\* ", section("The rules"), re.M)
    assert [int(number) for number, _ in told] == list(RULES)
    paths = [*(ROOT / "evloop").rglob("*.py"), *(ROOT / "tests").rglob("*.py")]
    used: set[int] = set()
    for path in paths:
        if path != Path(__file__):
            used |= mentioned(path.read_text(encoding="utf-8"))
    assert used == set(RULES)
    for page in (ROOT / "docs").glob("*.md"):
        assert mentioned(page.read_text(encoding="utf-8")) <= set(RULES), page


def test_numbers_of_rules_are_found() -> None:
    assert mentioned("rules 4, 6, 8 and 9 of; Rule 1; (rules 2 to 3), rule 12") == {
        1, 2, 3, 4, 6, 8, 9, 12,
    }  # fmt: skip


# -- caps ------------------------------------------------------------------------------------------


def closure(*names: str) -> dict[str, Path]:
    """The modules of evloop that these import, one through another, themselves included."""
    found: dict[str, Path] = {}
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        spec = find_spec(name)
        if spec is None or spec.origin is None:  # `from package import name`, not a module
            continue
        found[name] = Path(spec.origin)
        for module, _ in imported(found[name]):
            waiting.append(module)
    return found


def imported(path: Path) -> list[tuple[str, str]]:
    """(module, name) of each `from evloop... import name`."""
    return [
        (node.module, alias.name)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("evloop")
        for alias in node.names
        if node.module
    ]


def test_every_cap_stands_in_the_page_with_its_value() -> None:
    """Every cap that the room's own modules import, the bounds of names, and no other."""
    told = {plain_text(row[0]): row[1] for row in PAGE.table("Caps", "name")}
    modules = closure(session.__name__, plain.__name__, multicast.__name__)
    packages = session.__package__, plain.__package__
    used = {
        name
        for importer, path in modules.items()
        if importer == multicast.__name__ or importer.rpartition(".")[0] in packages
        for module, name in imported(path)
        if module.split(".")[-1] == "limits" and name.isupper()
    }
    limits = [
        import_module(path.relative_to(ROOT).with_suffix("").as_posix().replace("/", "."))
        for path in (ROOT / "evloop").rglob("limits.py")
    ]
    assert set(told) == used | OF_NAMES
    for name, value in told.items():
        values = [getattr(module, name) for module in limits if hasattr(module, name)]
        assert values and {float(value.replace(",", ""))} == set(values), name


# -- sockets ---------------------------------------------------------------------------------------


def test_the_numbers_of_the_sockets() -> None:
    told = section("Sockets")
    for name, number in re.findall(r"`(\w+)` \((\d+)\)", told):
        assert getattr(compat, name) == int(number), name
    assert len(re.findall(r"`\w+` \(\d+\)", told)) == 3


# -- the page itself -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["room-protocol.md", "testing.md"])
def test_lines_fit(name: str) -> None:
    lines = (ROOT / "docs" / name).read_text(encoding="utf-8").splitlines()
    assert not [n for n, line in enumerate(lines, 1) if len(line) > COLUMNS_MAX]
