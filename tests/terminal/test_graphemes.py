"""Clusters and their columns, with and without unicodedata."""

from __future__ import annotations

import builtins
import sys
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evloop.terminal import graphemes
from evloop.terminal.editor import Editor
from evloop.terminal.graphemes import (
    DOTTED_CIRCLE,
    REPLACEMENT,
    cell,
    joins,
    padded,
    set_ambiguous,
    split,
    width,
)
from evloop.terminal.limits import CELLS_CACHED_MAX, CLUSTER_CHARACTERS_MAX
from tests.support.pairs import pairwise
from tests.support.screen import Emulator

FAMILY = "👩\u200d👩\u200d👧\u200d👦"
WHOLE = [
    "a", "é", "e\u0301", "n\u0303\u0323", "日", "한", "\u1112\u1161\u11ab", "नि", "👍",
    "👍\U0001f3fd", FAMILY, "👩\U0001f3fd\u200d❤\ufe0f\u200d👩", "🧔\u200d♂\ufe0f", "🇳🇱", "❤\ufe0f",
    "1\ufe0f\u20e3", "🏴\U000e0067\U000e0062\U000e007f", "\n",
]  # fmt: skip


@pytest.fixture
def no_unicodedata(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A box without the module."""
    real = builtins.__import__

    def refuse(name: str, *args: object, **kwargs: object) -> object:
        if name == "unicodedata":
            raise ImportError(name)
        return real(name, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(graphemes, "char_traits", None)
    monkeypatch.setattr(graphemes, "cells_cached", {})
    monkeypatch.delitem(sys.modules, "unicodedata", raising=False)
    monkeypatch.setattr(builtins, "__import__", refuse)
    yield


@pytest.mark.parametrize("cluster", WHOLE)
def test_a_cluster_is_one(cluster: str) -> None:
    assert split(cluster) == [cluster]
    assert split("a" + cluster + "b") == ["a", cluster, "b"]


@pytest.mark.parametrize("cluster", [c for c in WHOLE if c != "नि"])
def test_it_is_one_without_unicodedata_too(cluster: str, no_unicodedata: None) -> None:
    assert split("a" + cluster + "b") == ["a", cluster, "b"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("🇳🇱🇧🇪", ["🇳🇱", "🇧🇪"]),
        ("🇳🇱🇧", ["🇳🇱", "🇧"]),
        ("👍👍", ["👍", "👍"]),
        ("a\u200db", ["a\u200d", "b"]),
        ("\u0301a", ["\u0301", "a"]),
        ("a\n\u0301", ["a", "\n", "\u0301"]),
        ("日\U0001f3fd", ["日\U0001f3fd"]),
        ("a\U0001f3fd", ["a", "\U0001f3fd"]),
    ],
)
def test_where_clusters_end(text: str, expected: list[str]) -> None:
    assert split(text) == expected


COLUMNS = [
    ("a", "a", 1, True),
    ("é", "é", 1, True),
    ("e\u0301", "e\u0301", 1, True),
    ("日", "日", 2, True),
    ("ｱ", "ｱ", 1, True),
    ("👍", "👍", 2, True),
    ("\n", "⏎", 1, True),
    ("👍\U0001f3fd", "👍\U0001f3fd", 4, False),
    (FAMILY, FAMILY, 8, False),
    ("🇳🇱", "🇳🇱", 2, False),
    ("🇳", "N", 1, True),
    ("🇳\u200b", "N", 1, True),
    ("❤\ufe0f", "❤\ufe0f", 2, False),
    ("\u0301", "\u25cc\u0301", 1, True),
    ("\u200b", "\ufffd", 1, True),
    ("\u202e", "\ufffd", 1, True),
    ("\x85", "\ufffd", 1, True),
    ("a\u202e", "a", 1, True),
    ("a\u200d", "a", 1, True),
]


@pytest.mark.parametrize(("cluster", "shown", "columns", "certain"), COLUMNS)
def test_how_a_cluster_is_drawn(cluster: str, shown: str, columns: int, certain: bool) -> None:
    assert cell(cluster) == (shown, columns, certain)


@pytest.mark.parametrize(
    ("cluster", "columns"), [("é", 1), ("日", 2), ("한", 2), ("👍", 2), ("ж", 1)]
)
def test_widths_without_unicodedata(cluster: str, columns: int, no_unicodedata: None) -> None:
    assert cell(cluster)[1] == columns


def test_the_editor_works_without_unicodedata(no_unicodedata: None) -> None:
    editor, screen = Editor(20, 5, prompt="> "), Emulator(20, 5)
    for key in ["e", "\u0301", "日", "👍\U0001f3fd", FAMILY, "🇳", "🇱", "x", "\x02\x02\x02"]:
        list(editor.feed(key.encode(), 0.0))
        screen.write(editor.take(0.0))
    assert editor.text[: editor.cursor] == "e\u0301日👍\U0001f3fd"
    assert screen.column == 2 + 1 + 2 + 4
    list(editor.feed(b"\x05" + 7 * b"\x7f", 0.0))
    screen.write(editor.take(0.0))
    assert editor.text == ""
    assert screen.used() == [">"]


@pytest.mark.parametrize(
    ("cluster", "charset", "expected"),
    [
        ("é", "latin-1", ("é", 1, True)),
        ("é", "ascii", ("?", 1, True)),
        ("日", "latin-1", ("?", 1, True)),
        ("\n", "ascii", ("^J", 2, True)),
        ("e\u0301", "ascii", ("e", 1, True)),
        ("\x9b", "latin-1", ("?", 1, True)),
    ],
)
def test_terminals_without_utf_8(
    cluster: str, charset: str, expected: tuple[str, int, bool]
) -> None:
    assert cell(cluster, charset) == expected


def test_width_of_a_text() -> None:
    assert width("12:01 bob: ") == 11
    assert width("12:01 日本: ") == 12


def test_the_caches_are_bounded() -> None:
    for code in range(0x4E00, 0x4E00 + CELLS_CACHED_MAX + 10):
        cell(chr(code))
    assert len(graphemes.cells_cached) <= CELLS_CACHED_MAX


def test_piled_up_marks_are_cut_apart() -> None:
    parts = split("a" + "\u0301" * 100)
    assert max(map(len, parts)) == CLUSTER_CHARACTERS_MAX
    assert "".join(parts) == "a" + "\u0301" * 100


@given(st.text())
def test_nothing_is_lost_and_no_neighbours_join(text: str) -> None:
    parts = split(text)
    assert "".join(parts) == text
    for left, right in pairwise(parts):
        assert not joins(left, right[0])


@given(st.text(max_size=5), st.sampled_from(["utf-8", "latin-1", "ascii"]))
def test_what_is_drawn_is_safe_and_takes_columns(text: str, charset: str) -> None:
    for cluster in split(text):
        shown, columns, _ = cell(cluster, charset)
        assert columns >= 1
        assert shown
        assert all(" " <= char <= "~" or char >= "\xa0" for char in shown)
        assert not any(
            "\u202a" <= char <= "\u202e" or "\u2066" <= char <= "\u2069" for char in shown
        )
        shown.encode(charset)


# -- what isprintable() does not know -------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "columns"),
    [
        ("\u3000", 2),  # ideographic space
        ("\xa0", 1),  # no-break space
        ("\u2003", 1),
        ("\U0001faff", 2),  # unassigned in this Python's Unicode, among the emoji
        ("\ue0b0", 1),  # private use: icons of many fonts
        ("\u0600", 0),  # a visible format character (on a dotted circle)
    ],
)
def test_what_is_typed_is_drawn(typed: str, columns: int) -> None:
    shown, wide, _ = cell(typed)
    assert typed in shown and REPLACEMENT not in shown
    assert wide == columns or (shown[0] == DOTTED_CIRCLE and wide == columns + 1)


@pytest.mark.parametrize("typed", ["\u200b", "\u202e", "\x9b", "\u2028", "\ufeff", "\u2065"])
def test_what_has_no_picture_or_could_act_is_not(typed: str) -> None:
    assert cell(typed)[0] == REPLACEMENT


def test_what_terminals_may_draw_in_another_width_is_not_certain() -> None:
    assert cell("\u3000")[2] and cell("\xa0")[2] and cell("\u65e5")[2]
    assert not cell("\ue0b0")[2] and not cell("\U0001faff")[2]


def test_ambiguous_characters_take_what_the_terminal_gives_them() -> None:
    text = "\u0416\u03b1\u2192\u2460\u2026"  # Cyrillic, Greek, an arrow, a number, dots
    assert width(text) == 5
    set_ambiguous(True)
    try:
        assert width(text) == 10
        assert width("abc\u65e5e\u0301") == 6
    finally:
        set_ambiguous(False)
    assert width(text) == 5


def test_text_is_padded_by_columns() -> None:
    assert padded("\u65e5\u672c", 6) == "\u65e5\u672c  "
    assert padded("abc", 2) == "abc"
