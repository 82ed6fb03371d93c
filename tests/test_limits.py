"""The caps as a whole: none is named twice, and the table in docs/operating.md is true."""

import ast
import re

from evloop import limits
from tests.sources import ROOT


def test_no_cap_is_defined_twice() -> None:
    """The second would silently win, for both readers."""
    tree = ast.parse((ROOT / "evloop" / "limits.py").read_text())
    names: list[str] = []
    for node in tree.body:
        if isinstance(node, ast.Assign):
            for target in node.targets:
                parts = target.elts if isinstance(target, ast.Tuple) else [target]
                names += [part.id for part in parts if isinstance(part, ast.Name)]
    assert len(names) == len(set(names)), sorted(n for n in set(names) if names.count(n) > 1)


def _table() -> str:
    text = (ROOT / "docs" / "operating.md").read_text()
    return text[text.index("## Limits") : text.index("## Backup")]


def test_the_table_names_caps_that_exist() -> None:
    table = _table()
    named = re.findall(r"`([A-Z][A-Z0-9_]+)`", table)
    assert len(named) > 15
    for name in named:
        assert hasattr(limits, name), name


def test_the_table_says_the_values() -> None:
    """The numbers of the table that are the caps' own."""
    text = _table()
    rows = {
        "64 / 32 bytes": (limits.ROOM_NAME_BYTES_MAX, limits.NICKNAME_BYTES_MAX),
        "8 parts of 900": (limits.PARTS_MAX, limits.PART_BYTES_MAX),
        "256 bytes with": (limits.PLAIN_DATAGRAM_BYTES_MAX,),
        "5 a second, 10 at once": (limits.DATA_PER_S, limits.DATA_BURST),
        "4,096 messages, 4 MiB": (limits.HISTORY_MESSAGES_MAX, limits.HISTORY_BYTES_MAX >> 20),
        "16,384": (limits.MEMBERS_MAX,),
        "65,536 bytes": (limits.PAYLOAD_BYTES_MAX,),
        "10,000, 256": (limits.CLIENTS_MAX, limits.CLIENTS_PER_ADDRESS_MAX),
        "24 hours": (limits.HISTORY_S / 3600,),
        "5 in 10 s": (limits.LOG_REPEATS_MAX, limits.LOG_WINDOW_S),
        "50 in 10 s": (limits.LOG_EVENT_REPEATS_MAX, limits.LOG_WINDOW_S),
        "1 MiB": (limits.OUT_QUEUE_BYTES_MAX >> 20,),
        "256 KiB": (limits.OUT_HIGH_WATER_BYTES >> 10,),
        "200 a second, 1,000 at": (limits.CONNECTIONS_PER_S, limits.CONNECTIONS_BURST),
        "10,000, 2,000": (limits.ROOMS_MAX, limits.ROOMS_PER_ADDRESS_MAX),
        "100 a second, 2,000 at": (limits.CHANGES_PER_S, limits.CHANGE_BURST),
    }
    for words, values in rows.items():
        assert words in text, words
        numbers = [int(number.replace(",", "")) for number in re.findall(r"\d[\d,]*\d|\d", words)]
        assert numbers == [int(value) for value in values], words
