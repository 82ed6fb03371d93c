"""Hostile text: whatever is in a name or a message, only our own control bytes reach the tty."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evloop.terminal.editor import Editor
from tests.support.screen import Emulator

# Everything that the renderer may write but text (and SGR, which chat lines may carry).
OURS = re.compile(r"\x1b\[[0-9]*[ABCDHJK@Pm]|[\r\n\b\a]")
INVISIBLE = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u2028\u2029]")

ATTACKS = [
    "\x1b[2J\x1b[H",  # clear the screen
    "\x1b]0;root@server\x07",  # the window's title
    "\x1b]52;c;cm0gLXJmIH4=\x07",  # the clipboard
    "\x1b]8;;http://evil.example\x1b\\click\x1b]8;;\x1b\\",  # a link
    '\x1bP$q"p\x1b\\',  # a question whose answer is typed
    "\x1b[6n",
    "\x1b[5n",
    "\x1b[21t",
    "\x1b[?2004l",  # end of bracketed paste
    "\x1b[201~rm -rf ~\r",
    "\x9b2J",  # the same in one byte
    "\x9d0;title\x9c",
    "\x90\x9c\x84\x85\x8d",
    "\x1bc",  # reset
    "\x1b(0",  # line drawing
    "\x0e\x0f",  # shift out, shift in
    "\x05",  # answerback
    "\r12:01 carol: I am carol",  # over what stands there
    "\b\b\b\b\b\b\bcarol:",
    "one\x0btwo\x0cthree",
    "\x00\x01\x02\x03\x04",
    "\x7f\x7f\x7f",
    "\u202etxet desrever",
    "\u2066isolated\u2069",
    "line\u2028paragraph\u2029",
    "\ud800 lone \udfff",
    "\u200b\u200c\u200d\ufeff\u00ad",
    "\x1b\x1b\x1b[[[31m",
    "\x18\x1a\x1b",
    "\t\t\ttabs",
    "Z\u0351\u036b\u0343\u036a" * 50,
    "\U000e0001\U000e0041\U000e007f",
    "👩\u200d" * 40,
]


def assert_ours(data: bytes) -> None:
    text = OURS.sub("", data.decode("utf-8"))
    found = INVISIBLE.search(text)
    assert not found, (found, data)


def as_message(text: str) -> bytes:
    """A chat line with `text` as nickname (coloured) and as message, above a half-typed line."""
    editor = Editor(80, 24, prompt="lab> ")
    list(editor.feed(b"half", 0.0))
    editor.take(0.0)
    editor.above([("", "12:01 "), ("36", text), ("", ": " + text)], 11)
    return editor.take(1.0)


def everywhere(text: str) -> bytes:
    """`text` as prompt, progress line, candidate, restored line, history and search."""
    editor = Editor(
        80, 24, prompt=text, complete=lambda typed, cursor: [text, text + "x"], history=[text, "x"]
    )
    editor.progress(text)
    data = editor.take(0.0)
    for keys in (b"\t\t", b"\x10\x10", b"\x12" + text.encode("utf-8", "replace"), b"\x07"):
        list(editor.feed(keys, 0.0))
        data += editor.take(1.0)
    editor.discard()
    editor.restore(text)
    return data + editor.take(2.0)


@pytest.mark.parametrize("attack", ATTACKS)
def test_known_attacks(attack: str) -> None:
    assert_ours(as_message(attack))
    assert_ours(as_message("\n" + attack + "\n\n" + attack))
    assert_ours(everywhere(attack))


@pytest.mark.parametrize("attack", ATTACKS)
def test_the_screen_stays_in_step(attack: str) -> None:
    """The attack cannot move our cursor, ring, or put a row out of place."""
    attack = attack.replace("\n", " ")
    editor, screen = Editor(80, 24, prompt="lab> "), Emulator(80, 24)
    list(editor.feed(b"half", 0.0))
    screen.write(editor.take(0.0))
    editor.above("12:01 " + attack + ": " + attack)
    editor.above("12:02 bob: I am bob")
    screen.write(editor.take(1.0))
    assert screen.used()[-2:] == ["12:02 bob: I am bob", "lab> half"]
    assert screen.column == 9
    assert screen.bells == 0
    assert screen.used()[0].startswith("12:01 ")


def test_all_two_byte_strings() -> None:
    """All 65,536 strings of two bytes, as they come off the network (replaced where invalid)."""
    for start in range(0, 256, 16):
        texts = [
            bytes(pair).decode("utf-8", "replace").replace("\n", "\\n")
            for pair in itertools.product(range(start, start + 16), range(256))
        ]
        editor = Editor(80, 24, prompt="lab> ")
        for text in texts:
            editor.above([("31", text), ("", text)], urgent=True)
        data = editor.take(0.0)
        assert_ours(data)
        assert data.count(b"\n") == len(texts)


def test_all_two_character_strings_of_controls() -> None:
    controls = [*map(chr, range(32)), *map(chr, range(0x7F, 0xA0)), "\u202e", "\u2028", "["]
    for pair in itertools.product(controls, repeat=2):
        assert_ours(as_message("".join(pair)))


@given(st.text())
def test_any_text(text: str) -> None:
    assert_ours(as_message(text))
    assert_ours(everywhere(text))


@given(st.binary(max_size=300))
def test_any_bytes_typed(data: bytes) -> None:
    editor = Editor(40, 10, prompt="lab> ", complete=lambda text, cursor: [text])
    screen = Emulator(40, 10)
    for event in editor.feed(data, 0.0):
        if event[0] == "line":
            editor.above(event[1], urgent=True)
    list(editor.handle_timer(9.0))
    drawn = editor.take(9.0)
    assert_ours(drawn)
    screen.write(drawn)
