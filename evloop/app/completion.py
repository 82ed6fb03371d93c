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
    if len(words) == 2 and command.completes == "rooms":
        return [f"{room} " for room in sorted(rooms, key=fold) if _begins(room, last)]
    if len(words) == 2 and command.completes == "commands":
        return _commands("prompt", last)
    return []


def in_chat(before: str, speakers: list[str], present: Iterable[str]) -> list[str]:
    """Candidates in a room: names, the latest speaker first, then who is present and silent."""
    word = before.rpartition(" ")[2]
    first = word == before
    if first and word.startswith("/") and not word.startswith("//"):
        return _commands("chat", word)
    if before.startswith("/help "):
        return _commands("chat", word)
    after = ": " if first else " "
    if before.startswith("/ignore ") and word.startswith("-"):
        return [f"-{name} " for name in [*reversed(speakers), *present] if _begins(name, word[1:])]
    names = dict.fromkeys([*reversed(speakers), *present])
    return [name + after for name in names if _begins(name, word)]


def _commands(door: str, word: str) -> list[str]:
    return [f"{command} " for command in words_at(door) if command.startswith(word.casefold())]


def _begins(name: str, word: str) -> bool:
    return fold(name).startswith(fold(word))
