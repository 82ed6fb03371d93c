"""Prompt and clusters -> rows of cells, and where the cursor stands.

A row is a list with one entry a column: the text of the cluster that begins there, or "" under
the rest of a wide one. So a column is an index, and comparing rows is comparing lists.
The last column is never used: writing it leaves terminals in a state that they disagree about.
"""

from evloop.terminal.graphemes import cell

TYPE_CHECKING = False
if TYPE_CHECKING:
    Row = list[str]


def one_row(clusters: list[str], columns: int, charset: str) -> "Row":
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
) -> "tuple[list[Row], int, int]":
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
            at = (at[0] - 1, room)  # behind a full last row, not on a row of its own
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
