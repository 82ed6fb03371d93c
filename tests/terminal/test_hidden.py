"""The line that is never shown: every key, and what becomes of the editor meanwhile."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evloop.terminal.editor import Editor
from evloop.terminal.hidden import HiddenLine
from evloop.terminal.limits import HIDDEN_CHARACTERS_MAX

Keys = list[tuple[str, str]]


def typed(*keys: tuple[str, str]) -> list[object]:
    line = HiddenLine()
    return [event for event in (line.press(*key) for key in keys) if event is not None]


@pytest.mark.parametrize(
    ("keys", "events"),
    [
        ([("text", "ab"), ("enter", "")], [("answer", "line", "ab")]),
        ([("paste", "key 000G-40R4\n"), ("enter", "")], [("answer", "line", "key 000G-40R4 ")]),
        ([("text", "abc"), ("backspace", ""), ("enter", "")], [("answer", "line", "ab")]),
        ([("backspace", ""), ("enter", "")], [("answer", "line", "")]),
        ([("text", "abc"), ("ctrl-u", ""), ("enter", "")], [("answer", "line", "")]),
        ([("text", "a"), ("ctrl-d", ""), ("enter", "")], [("answer", "line", "a")]),
        ([("ctrl-d", "")], [("answer", "eof", "")]),
        ([("text", "a"), ("ctrl-c", "")], [("answer", "interrupt", "")]),
        ([("leave", "")], [("answer", "interrupt", "")]),
        ([("ctrl-z", "")], [("suspend",)]),
        ([("ctrl-\\", "")], [("abort",)]),
        ([("up", ""), ("tab", ""), ("ctrl-r", ""), ("escape", "")], []),
    ],
)
def test_every_row_of_the_table(keys: Keys, events: list[object]) -> None:
    assert typed(*keys) == events


def test_a_flood_of_text_is_bounded() -> None:
    [event] = typed(*[("paste", "x" * 1_000)] * 50, ("enter", ""))
    assert event == ("answer", "line", "x" * HIDDEN_CHARACTERS_MAX)


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=30))
def test_nothing_of_it_is_on_the_screen_or_in_the_history(text: str) -> None:
    editor = Editor(80, 24, prompt="lab> ", echo=True)
    editor.take(0.0)
    editor.secret = HiddenLine()
    editor.set_prompt("key of lab (not shown): ", echo=False)
    shown = editor.take(0.0)
    events = list(editor.feed(text.encode() + b"\r", 1.0))
    shown += editor.take(1.0)
    assert [event[:2] for event in events] == [("answer", "line")]
    assert shown.count(b"key of lab (not shown): ") == 1
    rest = shown.replace(b"key of lab (not shown): ", b"").decode()
    assert not any(char in rest for char in text if ord(char) > 127)
    assert editor.history == [] and editor.text == ""


def test_keys_behind_the_enter_are_the_editors_again() -> None:
    editor = Editor(80, 24, prompt="", echo=True)
    editor.secret = HiddenLine()
    events = editor.feed(b"secret\rhello\r", 0.0)
    assert next(events) == ("answer", "line", "secret")
    editor.secret = None
    assert next(events) == ("line", "hello")
    assert editor.history == ["hello"]
