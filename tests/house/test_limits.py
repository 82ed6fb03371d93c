"""The caps as a whole: none is named twice, and the table in docs/operating.md is true."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path
from typing import Any

from tests.support.sources import PACKAGE, ROOT, SOURCES, tree_of

# All caps of all packages, by name.
FILES = sorted((ROOT / "evloop").rglob("limits.py"))
CAPS: dict[str, Any] = {}


def names_in(path: Path) -> list[str]:
    names: list[str] = []
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign):
            for target in node.targets:
                parts = target.elts if isinstance(target, ast.Tuple) else [target]
                names += [part.id for part in parts if isinstance(part, ast.Name)]
    return names


for _path in FILES:
    _module = importlib.import_module(".".join(_path.relative_to(ROOT).with_suffix("").parts))
    CAPS |= {name: getattr(_module, name) for name in names_in(_path)}


def test_every_package_has_its_caps() -> None:
    assert len(FILES) >= 9
    assert len(CAPS) > 250


def test_no_cap_is_defined_twice() -> None:
    """The second would silently win, for both readers."""
    names = [name for path in FILES for name in names_in(path)]
    assert len(names) == len(set(names)), sorted(n for n in set(names) if names.count(n) > 1)


def test_every_cap_is_used() -> None:
    """A cap that nobody reads limits nothing."""
    used = {
        node.id if isinstance(node, ast.Name) else node.attr
        for path in SOURCES
        if PACKAGE in path.parents
        for node in ast.walk(tree_of(path))
        if (isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load))
        or isinstance(node, ast.Attribute)
    }
    assert not set(CAPS) - used


def _table() -> str:
    text = (ROOT / "docs" / "operating.md").read_text()
    return text[text.index("## Limits") : text.index("## Backup")]


def test_the_table_names_caps_that_exist() -> None:
    table = _table()
    named = re.findall(r"`([A-Z][A-Z0-9_]+)`", table)
    assert len(named) > 15
    for name in named:
        assert name in CAPS, name


def test_the_table_says_the_values() -> None:
    """The numbers of the table that are the caps' own."""
    text = _table()
    rows = {
        "64 / 32 bytes": (CAPS["ROOM_NAME_BYTES_MAX"], CAPS["NICKNAME_BYTES_MAX"]),
        "8 parts of 900": (CAPS["PARTS_MAX"], CAPS["PART_BYTES_MAX"]),
        "256 bytes with": (CAPS["PLAIN_DATAGRAM_BYTES_MAX"],),
        "5 a second, 10 at once": (CAPS["DATA_PER_S"], CAPS["DATA_BURST"]),
        "4,096 messages, 4 MiB": (CAPS["HISTORY_MESSAGES_MAX"], CAPS["HISTORY_BYTES_MAX"] >> 20),
        "16,384": (CAPS["MEMBERS_MAX"],),
        "65,536 bytes": (CAPS["PAYLOAD_BYTES_MAX"],),
        "10,000, 256": (CAPS["CLIENTS_MAX"], CAPS["CLIENTS_PER_ADDRESS_MAX"]),
        "24 hours": (CAPS["HISTORY_S"] / 3600,),
        "5 in 10 s": (CAPS["LOG_REPEATS_MAX"], CAPS["LOG_WINDOW_S"]),
        "50 in 10 s": (CAPS["LOG_EVENT_REPEATS_MAX"], CAPS["LOG_WINDOW_S"]),
        "1 MiB": (CAPS["OUT_QUEUE_BYTES_MAX"] >> 20,),
        "256 KiB": (CAPS["OUT_HIGH_WATER_BYTES"] >> 10,),
        "200 a second, 1,000 at": (CAPS["CONNECTIONS_PER_S"], CAPS["CONNECTIONS_BURST"]),
        "10,000, 2,000": (CAPS["ROOMS_MAX"], CAPS["ROOMS_PER_ADDRESS_MAX"]),
        "100 a second, 2,000 at": (CAPS["CHANGES_PER_S"], CAPS["CHANGE_BURST"]),
    }
    for words, values in rows.items():
        assert words in text, words
        numbers = [int(number.replace(",", "")) for number in re.findall(r"\d[\d,]*\d|\d", words)]
        assert numbers == [int(value) for value in values], words
