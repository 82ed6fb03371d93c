"""The table of events: complete, and the same in its documentation and in its code."""

from __future__ import annotations

import re

from evloop.room import events
from evloop.room.events import TABLE


def test_every_row_of_the_docstring_is_a_class_with_these_fields() -> None:
    text = events.__doc__ or ""
    start = text.index("what      class")
    rows = re.findall(r"^    (\w+) +([A-Z]\w+) +((?:[a-z]+ ?)+?)  ", text[start:], re.MULTILINE)
    assert {what for what, _, _ in rows} == set(TABLE)
    for what, name, fields in rows:
        made = TABLE[what]
        assert made.__name__ == name
        expected = ["what", *fields.split()]
        if what == "message":
            expected.append("verified")  # on the row's second line
        assert list(made._fields) == expected


def test_every_field_is_explained() -> None:
    text = events.__doc__ or ""
    explained = set(re.findall(r"^    ([a-z]+)  +\S", text, re.MULTILINE))
    for made in TABLE.values():
        assert set(made._fields) <= explained
