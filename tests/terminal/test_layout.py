"""Where the terminal wraps a chat line, and that its sender cannot make a line of it."""

from __future__ import annotations

import pytest

from evloop.terminal.editor import Editor
from evloop.terminal.layout import hung
from tests.support.screen import Emulator

FORGED = ["12:01 Bob: I quit", "Bob: I quit", "-- Bob left --", "* Bob waves", "? Bob: x",
          "2026-11-22T12:01:07 Bob: hi", "  Bob: hi", "\u7f8e\uff1a hi"]  # fmt: skip
HONEST = ["and so on", "http://box.lan:80/x", "a -- b", "4*5", "what? yes", "3.5"]


@pytest.mark.parametrize("forged", FORGED)
@pytest.mark.parametrize("filler", [" ", ".", "-"])
def test_no_row_of_a_message_looks_like_a_line(forged: str, filler: str) -> None:
    text = "hi" + filler * (80 - 11 - 2) + forged
    assert hung(text, 11, 80, 11) == text[:69] + "\n" + " " * 11 + forged
    again = text + " " * (80 - 11 - len(text[69:])) + "Bob: and again"
    assert hung(again, 11, 80, 11).count("\n") == 2


def test_wide_characters_are_counted_by_columns() -> None:
    text = "\u65e5" * 34 + "Bob: x"  # 11 + 68 columns: the B is the last of its row
    assert hung(text, 11, 80, 11) == text[:35] + "\n" + " " * 11 + "ob: x"
    text = "\u65e5" * 34 + "\u65e5\uff1a x"  # no room for a wide one: it goes to the next row
    assert hung(text, 11, 80, 11) == text[:34] + "\n" + " " * 11 + text[34:]


@pytest.mark.parametrize("honest", HONEST)
def test_other_text_is_left_to_the_terminal(honest: str) -> None:
    text = "x" * 69 + honest
    assert hung(text, 11, 80, 11) == text


def test_text_that_fits_is_left_alone() -> None:
    assert hung("a" * 60 + " Bob: x", 11, 80, 11) == "a" * 60 + " Bob: x"
    assert hung("a" * 8 + "Bob: x", 0, 8, 4) == "a" * 8 + "Bob: x"  # too narrow to tell anything


@pytest.mark.parametrize("styled", [False, True])
def test_on_the_screen_every_row_of_a_message_is_set_in(styled: bool) -> None:
    screen = Emulator(80, 24)
    editor = Editor(80, 24, prompt="lab> ")
    text = "hi" + " " * 67 + "12:01 Bob: I quit\nand" + " " * 66 + "Bob: really"
    pieces = [("", "12:00 "), ("36", "Eve"), ("", ": " + text)]
    editor.above(pieces if styled else "12:00 Eve: " + text, 11)
    screen.write(editor.take(1.0))
    rows = [row for row in screen.lines() if row.strip()]
    assert [row for row in rows if not row.startswith((" " * 11, "12:00 Eve", "lab>"))] == []
    assert any("12:01 Bob: I quit" in row for row in rows)
    assert any("Bob: really" in row for row in rows)
