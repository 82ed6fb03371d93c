"""What is said about several rooms in one client. A room is given as (number, name).

Numbers up to ROOM_KEYS have a key (Alt-2), the others a command (/switch 12).
"""

from __future__ import annotations

from evloop.base.names import display, quoted
from evloop.terminal.report import note, plural

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

ROOM_KEYS = 9


def label(number: int, name: str) -> str:
    """What stands before a line of a room that is not in front."""
    return f"[{number}:{display(name)}] "


def prompt(number: int, name: str, mark: str) -> str:
    """Of the room in front; `mark` has one column, so that the line does not move."""
    return f"{number}:{name}{mark}> "


def front(number: int, name: str) -> str:
    return note(f"{number}:{display(name)}")


def older(count: int, unread: int) -> str:
    """So many of the unread messages are not shown."""
    show = "shows it" if count == 1 else "shows them"
    return note(f"{plural(count, 'older message')}: /history {unread} {show}")


def more(number: int, name: str, unread: int) -> str:
    way = f"Alt-{number}" if number <= ROOM_KEYS else f"/switch {number}"
    return note(f"{number}:{display(name)}: {plural(unread, 'more message')} ({way})")


def ways_out(number: int, name: str, escape: str, *, keys: bool) -> str:
    """How to leave a further room; the room in front before it was `number`, `name`. `keys`: there
    are keys for it."""
    way = f"Alt-{number} or /switch" if keys and number <= ROOM_KEYS else "/switch"
    return f"{way} goes to {display(name)}, /leave leaves, {escape} leaves all"


def left(names: Iterable[str]) -> str:
    return note(f"left {', '.join(map(display, names))}")


def muted(name: str, on: bool) -> str:
    return note(f"{display(name)} is {'muted' if on else 'shown again'}")


def listed(
    number: int, name: str, here: int, unread: int, for_you: int, marks: Iterable[str]
) -> str:
    """A row of /rooms."""
    words = [f"{here} here"]
    if unread:
        words.append(f"{unread} unread")
    if for_you:
        words.append(f"{for_you} for you")
    return f"{number:3}  {display(name)}  {', '.join([*words, *marks])}"


def too_many(most: int) -> str:
    return f"join: you are in {most} rooms, and that is the most; /leave one first"


def no_such(command: str, wanted: str) -> str:
    return f'{command}: you are in no room "{quoted(wanted)}"; /rooms lists yours'
