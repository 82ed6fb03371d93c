"""A line that is typed and never shown, as the key of a room is.

It is no line of the editor's: not on the screen, not in the history, not in the kill buffer.

    key                 what it does
    text, paste         added; the line breaks of a paste are blanks
    backspace, Ctrl-U   the last character, or everything, is taken away
    Enter               ("answer", "line", text)
    Ctrl-C, Ctrl-]      ("answer", "interrupt", "")
    Ctrl-D              ("answer", "eof", "") when nothing is typed
    Ctrl-Z, Ctrl-\\      ("suspend",), ("abort",), as in the editor
    any other           nothing
"""

from __future__ import annotations

from evloop.terminal.limits import HIDDEN_CHARACTERS_MAX

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Event = tuple[Any, ...]

LINE, INTERRUPT, EOF = "line", "interrupt", "eof"
_ANSWERS = {
    "ctrl-c": ("answer", INTERRUPT, ""),
    "leave": ("answer", INTERRUPT, ""),
    "ctrl-z": ("suspend",),
    "ctrl-\\": ("abort",),
}


class HiddenLine:
    """Takes the keys of `terminal.keys`, one by one."""

    __slots__ = ("_text",)

    def __init__(self) -> None:
        self._text = ""

    def press(self, name: str, text: str) -> Event | None:
        """Act on a key; the event that it causes, if any."""
        if name in ("text", "paste"):
            self._text = (self._text + text.replace("\n", " "))[:HIDDEN_CHARACTERS_MAX]
        elif name == "backspace":
            self._text = self._text[:-1]
        elif name == "ctrl-u":
            self._text = ""
        elif name == "enter":
            return ("answer", LINE, self._text)
        elif name == "ctrl-d" and not self._text:
            return ("answer", EOF, "")
        return _ANSWERS.get(name)
