"""The drawing budget, in bytes, and that nothing foreign is ever written."""

from __future__ import annotations

import pytest

from evloop.terminal.editor import Editor
from tests.support.screen import Emulator

SENTENCE = "the quick brown fox jumps over the lazy dog and is not tired at all, no"
MOVES = {"start": b"\x01", "end": b"", "middle": b"\x1bb\x1bb\x1bb\x1bb\x1bb\x1bb"}
EDITS = {
    "a character": b"x",
    "backspace": b"\x7f",
    "delete": b"\x04",
    "swap": b"\x14",
    "left": b"\x02",
    "right": b"\x06",
    "start": b"\x01",
    "end": b"\x05",
    "word left": b"\x1bb",
    "word right": b"\x1bf",
    "kill word left": b"\x17",
    "kill word right": b"\x1bd",
    "kill to the end": b"\x0b",
    "tab without candidates": b"\t",
}


def drawn(editor: Editor, keys: bytes) -> bytes:
    list(editor.feed(keys, 0.0))
    return editor.take(0.0)


def typed(text: str, *, shift: bool = True) -> Editor:
    editor = Editor(80, 24, prompt="lab> ", shift=shift)
    drawn(editor, text.encode())
    return editor


def test_a_key_at_the_end_of_the_line_is_one_byte() -> None:
    editor = typed("")
    for char in SENTENCE:
        assert drawn(editor, char.encode()) == char.encode()


@pytest.mark.parametrize("where", MOVES)
@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_in_an_80_column_line_is_at_most_8_bytes(edit: str, where: str) -> None:
    editor = typed(SENTENCE)
    drawn(editor, MOVES[where])
    assert len(drawn(editor, EDITS[edit])) <= 8


@pytest.mark.parametrize("where", MOVES)
@pytest.mark.parametrize("edit", EDITS)
def test_without_ich_it_is_at_most_the_rest_of_the_line(edit: str, where: str) -> None:
    editor = typed(SENTENCE[:56], shift=False)
    drawn(editor, MOVES[where])
    data = drawn(editor, EDITS[edit])
    assert len(data) <= 64
    assert b"@" not in data
    assert b"P" not in data


@pytest.mark.parametrize("edit", ["a character", "backspace", "delete", "swap", "kill word left"])
def test_an_edit_at_the_start_of_three_rows_moves_them(edit: str) -> None:
    """Written anew they would be 200 bytes."""
    editor = typed(SENTENCE * 3)
    drawn(editor, b"\x01" + 3 * b"\x1bf")
    assert len(drawn(editor, EDITS[edit])) <= 48


def test_killing_to_the_start_of_the_line() -> None:
    editor = typed(SENTENCE)
    drawn(editor, MOVES["middle"])
    assert len(drawn(editor, b"\x15")) <= 10  # to the prompt, and delete what stood there
    editor = typed(SENTENCE)
    assert len(drawn(editor, b"\x15")) <= 8


@pytest.mark.parametrize("prompt", ["lab> ", "evloop> "])
def test_a_message_above_an_empty_prompt_is_at_most_10_bytes_more(prompt: str) -> None:
    editor = Editor(80, 24, prompt=prompt)
    editor.take(0.0)
    text = "12:01 bob: is the kettle on?"
    editor.above(text)
    data = editor.take(1.0)
    assert text.encode() in data
    assert len(data) - len(text) <= 10


def test_a_message_above_a_half_typed_line_costs_that_line_once() -> None:
    editor = typed(SENTENCE)
    text = "12:01 bob: is the kettle on? " * 4
    for _ in range(20):
        editor.above(text)
    data = editor.take(1.0)
    assert len(data) == 20 * (len(text) + 1) + len("\rlab> ") + len(SENTENCE)


def test_a_shorter_message_leaves_nothing_of_the_line() -> None:
    editor, screen = typed(SENTENCE), Emulator(80, 24)
    screen.write(b"lab> " + SENTENCE.encode())
    editor.above("hi")
    screen.write(editor.take(1.0))
    assert screen.used() == ["hi", "lab> " + SENTENCE]


def test_the_last_column_is_never_written() -> None:
    editor, screen = Editor(20, 5, prompt="lab> "), Emulator(20, 5)
    for char in "日" + SENTENCE + "日" * 9:
        screen.write(drawn(editor, char.encode()))
        assert all(row.cells[-1] == " " for row in screen.grid)


def test_a_line_taller_than_the_window_shows_the_part_with_the_cursor() -> None:
    editor, screen = Editor(10, 3, prompt="> "), Emulator(10, 3)
    screen.write(drawn(editor, b"aaaaaaa" + b"bbbbbbbbb" + b"ccccccccc" + b"ddd"))
    assert screen.lines() == ["bbbbbbbbb", "ccccccccc", "ddd"]
    screen.write(drawn(editor, b"\x01"))
    assert screen.lines() == ["> aaaaaaa", "bbbbbbbbb", "ccccccccc"]
    assert (screen.row, screen.column) == (0, 2)


def test_a_narrowed_window_leaves_a_ghost_and_no_chat_line_is_erased() -> None:
    for reflow in (False, True):
        editor, screen = Editor(80, 24, prompt="lab> "), Emulator(80, 24, reflow=reflow)
        for number in range(5):
            editor.above(f"12:0{number} bob: line")
            screen.write(editor.take(number))
        screen.write(drawn(editor, SENTENCE.encode()))
        for columns in (20, 40, 80):
            screen.resize(columns, 24)
            editor.resize(columns, 24)
            screen.write(editor.take(9.0))
            lines = screen.used()
            assert [line for line in lines if "bob" in line] == [
                f"12:0{number} bob: line" for number in range(5)
            ]
            room = columns - 1
            full = "lab> " + SENTENCE
            rows = [full[i : i + room].rstrip() for i in range(0, len(full), room)]
            assert lines[-len(rows) :] == rows


def test_a_ghost_and_the_fresh_row_never_become_one() -> None:
    editor, screen = Editor(80, 24, prompt="lab> "), Emulator(80, 24, reflow=True)
    screen.write(drawn(editor, SENTENCE.encode() + b"\x01"))
    for columns in (20, 80):
        screen.resize(columns, 24)
        editor.resize(columns, 24)
        screen.write(editor.take(1.0) + drawn(editor, b"\x0b"))
    assert screen.used()[-1] == "lab>"
    assert screen.column == 5


def test_a_window_that_still_fits_is_not_redrawn() -> None:
    editor = typed("half")
    editor.resize(40, 10)
    assert editor.take(1.0) == b""


def test_emoji_of_unknown_width_never_put_the_line_out_of_step() -> None:
    for whole in (False, True):
        editor, screen = Editor(80, 24, prompt="> "), Emulator(80, 24, whole=whole)
        for key in ["a", "👩\u200d👩\u200d👧", "b", "\x02\x02", "🇳🇱", "\x06\x06", "c", "\x7f"]:
            screen.write(drawn(editor, key.encode()))
        assert screen.column == 2 + 1 + 2 + 6 + 1
        assert screen.used()[0].replace(" ", "") == ">a🇳🇱👩\u200d👩\u200d👧b"


def test_half_a_flag_is_shown_as_a_letter() -> None:
    assert drawn(typed(""), "🇳".encode()) == b"N"


def test_a_mark_without_a_base_does_not_land_on_the_prompt() -> None:
    assert drawn(typed(""), "\u0301".encode()).decode() == "\u25cc\u0301"
