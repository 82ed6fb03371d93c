"""The words about directories that were found on the network.

What comes in is remote text, what goes out is safe for a terminal. A row of a list is (name,
endpoint, link, marks): the marks are words like "TLS".
"""

from __future__ import annotations

from evloop.base.names import display
from evloop.terminal.graphemes import padded, width
from evloop.terminal.report import note, plural

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    Row = tuple[str, str, str, Sequence[str]]

TLS, BY_A_CLIENT, KNOWN_BEFORE = "TLS", "hosted by a client", "known"


def not_of_before(name: str) -> str:
    """The mark of a directory that is not the one that it says it is."""
    return f"NOT the {display(name)} of before"


def marks_of(name: str, *, tls: bool, guest: bool, doubtful: bool, known: bool) -> list[str]:
    """What there is to say about a directory in a list."""
    marks = {
        TLS: tls,
        BY_A_CLIENT: guest,
        KNOWN_BEFORE: known,
        not_of_before(name): doubtful,
    }
    return [mark for mark, holds in marks.items() if holds]


def rows(found: Sequence[Row], *, links: bool) -> list[str]:
    """The lines of a list, numbered; `links`: with the interfaces."""
    names = [display(name) for name, _, _, _ in found]
    wide = max(map(width, names), default=0)
    where = max((width(endpoint) for _, endpoint, _, _ in found), default=0)
    lines = []
    for at, (_, endpoint, link, marks) in enumerate(found):
        cells = [f"{at + 1:>3}", padded(names[at], wide), padded(endpoint, where)]
        cells += [display(link)] if links else []
        lines.append("  ".join([*cells, ", ".join(marks)]).rstrip())
    return lines


def answer_here(count: int) -> str:
    """The line above a list of which one is to be chosen."""
    which = " or ".join(f"connect {number}" for number in (1, count)[: min(count, 2)])
    if count > 2:
        which = f"connect 1 ... connect {count}"
    verb = "directory answers" if count == 1 else "directories answer"
    return f"evloop: {count} {verb} here; {which} chooses:"


def ambiguous(found: Sequence[Row]) -> str:
    """For a script, which cannot choose."""
    all_of_them = ", ".join(f"{display(name)} {endpoint}" for name, endpoint, _, _ in found)
    verb = "directory answers" if len(found) == 1 else "directories answer"
    return f"{len(found)} {verb} here ({all_of_them}); --server says which"


def others_too(found: Sequence[Row]) -> str:
    """Of several one was taken: which the others are."""
    all_of_them = ", ".join(f"{display(name)} {endpoint}" for name, endpoint, _, _ in found)
    verb = "answers" if len(found) == 1 else "answer"
    return note(f"{all_of_them} {verb} here too; connect NAME goes there")


def nobody(links: Sequence[str]) -> str:
    """The search is over, and nothing was found."""
    return (
        f"no directory answers on this network (asked on {display(', '.join(links))})."
        " connect HOST[:PORT] tries one, chat ADDRESS:PORT needs none, doctor says more."
    )


def connected(name: str, endpoint: str, via: str, rooms: int) -> str:
    """A directory that was found is connected."""
    return (
        f"evloop: directory {display(name)} ({endpoint}, {via}), {plural(rooms, 'room')}."
        " help lists the commands, Ctrl-D quits."
    )


OTHERWISE = "evloop: where that does not find it, others type:"


def hosting() -> str:
    """Nobody answered: this process is the directory now."""
    return (
        "evloop: no directory answered on this network, so this one hosts it (in memory, on every"
        " address); others just type: python3 -m evloop"
    )


def moved(name: str, endpoint: str) -> str:
    """Two began to host at once, and this one gave way."""
    return f"evloop: {display(name)} hosts a directory already; moved there ({endpoint})"


def hosts_too(name: str, endpoint: str) -> str:
    """Two host, and both have rooms already."""
    return note(f"{display(name)} hosts a directory too ({endpoint}); connect goes there")
