"""Where the program's own sentences are broken, and which of them wait for a slow terminal."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evloop.terminal.graphemes import width
from evloop.terminal.layout import broken_at_blanks
from evloop.terminal.screen_mode import ScreenMode


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("short", ["short"]),
        ("exactly nineteen ch", ["exactly nineteen ch"]),
        ("one more word is too much", ["one more word is", "  too much"]),
        ("  indented words and more", ["  indented words", "    and more"]),
        ("a https://example.org/very/long b", ["a", "  https://example.org/very/long", "  b"]),
        ("two\nlines that are long enough", ["two", "lines that are long", "  enough"]),
        ("日本語 日本語 日本語 日本語", ["日本語 日本語", "  日本語 日本語"]),
        ("", [""]),
    ],
)
def test_sentences_break_between_words(text: str, rows: list[str]) -> None:
    assert broken_at_blanks(text, 20).split("\n") == rows


@given(st.lists(st.text("abcdefgh日é", min_size=1, max_size=12), min_size=1), st.integers(16, 90))
def test_no_word_is_lost_or_broken(words: list[str], columns: int) -> None:
    broken = broken_at_blanks(" ".join(words), columns)
    assert broken.split() == words
    assert all(width(row) < columns for row in broken.split("\n") if " " in row.strip())


class Editor:
    def __init__(self) -> None:
        self.lines: list[tuple[Any, bool]] = []

    def above(self, line: Any, indent: int = 0, *, urgent: bool = False) -> None:
        self.lines.append((line, urgent))


@pytest.mark.parametrize(
    ("manner", "tint", "urgent"),
    [("", "", False), ("remark", "2", False), ("error", "1;31", True), ("text", "", True)],
)
def test_what_others_cause_waits_with_the_chat_lines(manner: str, tint: str, urgent: bool) -> None:
    """Of those only so many wait for a terminal that is not read; see pacing."""
    screen = ScreenMode.__new__(ScreenMode)
    screen.color, screen.columns = True, 80
    screen.editor = editor = Editor()  # type: ignore[assignment]
    screen.note("said", manner)
    assert editor.lines == [([(tint, "said")], urgent)]
