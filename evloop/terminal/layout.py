"""Prompt and clusters -> rows of cells, and where the cursor stands.

A row is a list with one entry a column: the text of the cluster that begins there, or "" under
the rest of a wide one. So a column is an index, and comparing rows is comparing lists.
The last column is never used: writing it leaves terminals in a state that they disagree about.

A chat line is wrapped by the terminal itself, so its sender decides where its second row begins:
`hung` keeps such a row from looking like a line of somebody else.

This module also makes what Tab shows of its candidates (their common prefix, or a list), and breaks
the program's own sentences into rows.
"""

from __future__ import annotations

from evloop.base.names import display
from evloop.terminal.graphemes import cell, split, width
from evloop.terminal.limits import (
    CANDIDATES_SHOWN_MAX,
    HUNG_COLUMNS_MIN,
    LINE_START_CHARACTERS_MAX,
)

HANGING_COLUMNS = 4  # of a wrapped row that would look like a line of its own, without an indent

TYPE_CHECKING = False
if TYPE_CHECKING:
    Row = list[str]


def broken_at_blanks(text: str, columns: int) -> str:
    """`text` with line breaks where it would not fit `columns`, between words only.

    Further rows are indented as the first one, and by two more. A word that is wider than a row is
    left whole: a terminal breaks it, and it can still be copied.
    """
    if "\n" in text:
        return "\n".join([broken_at_blanks(line, columns) for line in text.split("\n")])
    if width(text) < columns:
        return text
    words = text.lstrip(" ").split(" ")
    indent = len(text) - len(text.lstrip(" "))
    rows, row = [], " " * indent + words[0]
    for word in words[1:]:
        if width(row) + 1 + width(word) < columns:
            row += " " + word
        else:
            rows.append(row)
            row = " " * (indent + 2) + word
    return "\n".join([*rows, row])


def one_row(clusters: list[str], columns: int, charset: str) -> Row:
    """As much as fits one row of a window of `columns` columns."""
    row: Row = []
    for cluster in clusters:
        shown, wide, _ = cell(cluster, charset)
        if len(row) + wide > columns - 1:
            break
        row.append(shown)
        row += [""] * (wide - 1)
    return row


def lay_out(
    prompt: list[str], clusters: list[str], cursor: int, columns: int, charset: str
) -> tuple[list[Row], int, int]:
    """Return (rows, cursor row, cursor column) in a window of `columns` columns.

    `prompt` and what is typed are both clusters; the cursor counts in the second.
    """
    room = max(1, columns - 1)
    everything = prompt + clusters
    cursor += len(prompt)
    text = "".join(everything)
    if text.isascii() and text.isprintable():  # the usual case, at the speed of slices
        rows = [everything[start : start + room] for start in range(0, len(everything), room)]
        at = divmod(cursor, room)
        if cursor == len(everything) and cursor and not at[1]:
            at = (at[0] - 1, room)  # the cursor stands after a full last row, not on a new one
        return rows or [[]], *at
    row: Row = []
    rows = [row]
    at = 0, 0
    for index, cluster in enumerate(everything):
        shown, wide, _ = cell(cluster, charset)
        if wide > room:
            shown, wide = "?", 1
        if len(row) + wide > room:
            row = []
            rows.append(row)
        if index == cursor:
            at = (len(rows) - 1, len(row))
        row.append(shown)
        if wide > 1:
            row += [""] * (wide - 1)
    if cursor == len(everything):
        at = (len(rows) - 1, len(row))
    return rows, at[0], at[1]


def hung(text: str, start: int, columns: int, indent: int) -> str:
    """One row of a chat line, which a window of `columns` columns may have to wrap.

    It begins in column `start`. Where a row that the terminal wraps would begin as a line of a chat
    does (a time, a name and a colon, `-- `, `* `, `? `), a line break and `indent` blanks are put
    in: a sender that pads a text to the width of a window cannot forge a line in the next row. All
    other text is left to the terminal, so that it can be copied as it was said.
    """
    if columns < HUNG_COLUMNS_MIN:
        return text
    indent = min(indent, columns // 2)
    column = start % columns or (columns if start else 0)
    if column + (len(text) if text.isascii() else 2 * len(text)) <= columns:
        return text
    rows = []
    begin = at = 0  # where the row begins; which character is looked at
    while text.isascii() and at + columns - column < len(text):
        at += columns - column
        column = 0
        if _looks_like_a_line(text[at : at + LINE_START_CHARACTERS_MAX]):
            rows.append(text[begin:at])
            begin, column = at, indent
    for cluster in () if text.isascii() else split(text):
        wide = cell(cluster)[1]
        if column + wide > columns:
            column = 0
            if _looks_like_a_line(text[at : at + LINE_START_CHARACTERS_MAX]):
                rows.append(text[begin:at])
                begin, column = at, indent
        column += wide
        at += len(cluster)
    return ("\n" + " " * indent).join([*rows, text[begin:]])


def _looks_like_a_line(text: str) -> bool:
    """Whether `text`, at the start of a row, could be taken for a line of its own."""
    text = text.lstrip()
    word = text.partition(" ")[0]
    if word in ("--", "*", "?"):
        return True
    if word.endswith((":", "\uff1a")):
        return True
    digits = word.replace(":", "").replace("-", "").replace("T", "")
    return ":" in word and digits.isdecimal()


def common_prefix(candidates: list[str]) -> str:
    """What all candidates begin with, in the first one's letters; case does not matter."""
    first = candidates[0]
    length = len(first)
    for other in candidates[1:]:
        length = min(length, len(other))
        for at in range(length):
            if first[at].casefold() != other[at].casefold():
                length = at
                break
    return first[:length]


def listed(candidates: list[str], columns: int) -> str:
    """The candidates side by side in rows that fit `columns`, at most CANDIDATES_SHOWN_MAX."""
    shown = [display(word.strip()) for word in candidates[:CANDIDATES_SHOWN_MAX]]
    widest = max(map(width, shown)) + 2
    across = max(1, (columns - 1) // widest)
    rows = []
    for start in range(0, len(shown), across):
        row = "".join(word + " " * (widest - width(word)) for word in shown[start : start + across])
        rows.append(row.rstrip())
    more = len(candidates) - len(shown)
    if more > 0:
        rows.append(f"and {more} more")
    return "\n".join(rows)
