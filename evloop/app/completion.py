"""What Tab offers: commands and rooms at the prompt, commands and nicknames in a room.

A candidate replaces the word before the cursor, and holds what should follow it.
"""

from __future__ import annotations

from evloop.app.commands import (
    UsageError,
    find,
    words_at,
)
from evloop.base.names import fold

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


def at_prompt(before: str, rooms: Iterable[str]) -> list[str]:
    """Candidates at the main prompt; `before` is the line up to the cursor."""
    words = before.split(" ")
    if len(words) == 1:
        return _commands("prompt", words[0])
    try:
        command = find("prompt", words[0])
    except UsageError:
        return []
    last = words[-1]
    if last.startswith("-"):
        return [f"{option} " for option in command.options if option.startswith(last)]
    if len(words) >= 3 and words[-2] in command.options:
        choices = command.options[words[-2]] or ()
        return [f"{choice} " for choice in choices if choice.startswith(last)]
    if command.completes == "rooms" and len(words) <= (command.most or 1) + 1:
        return _rooms(rooms, last)
    if len(words) == 2 and command.completes == "commands":
        return _commands("prompt", last)
    return []


def in_chat(
    before: str,
    speakers: list[str],
    present: Iterable[str],
    rooms: Iterable[str] = (),
    own: Iterable[str] = (),
) -> list[str]:
    """Candidates in a room: names, the latest speaker first, then who is present and silent; of
    commands about `rooms` of the directory, or our `own`, those."""
    word = before.rpartition(" ")[2]
    first = word == before
    if first and word.startswith("/") and not word.startswith("//"):
        return _commands("chat", word)
    if before.startswith("/help "):
        return _commands("chat", word)
    about = _completes(before)
    if about in ("rooms", "own rooms"):
        return _rooms(rooms if about == "rooms" else own, word)
    after = ": " if first else " "
    if before.startswith("/ignore ") and word.startswith("-"):
        return [f"-{name} " for name in [*reversed(speakers), *present] if _begins(name, word[1:])]
    names = dict.fromkeys([*reversed(speakers), *present])
    return [name + after for name in names if _begins(name, word)]


def _completes(before: str) -> str:
    """What is to be completed behind a command of a room; "" elsewhere."""
    words = before.split(" ")
    if len(words) != 2 or not before.startswith("/") or before.startswith("//"):
        return ""
    try:
        return find("chat", words[0][1:]).completes
    except UsageError:
        return ""


def _rooms(rooms: Iterable[str], word: str) -> list[str]:
    return [f"{room} " for room in sorted(rooms, key=fold) if _begins(room, word)]


def _commands(door: str, word: str) -> list[str]:
    return [f"{command} " for command in words_at(door) if command.startswith(word.casefold())]


def _begins(name: str, word: str) -> bool:
    return fold(name).startswith(fold(word))
