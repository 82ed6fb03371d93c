"""Prompt and clusters -> rows of cells, and where the cursor stands. Floor 2.

A row is a list with one entry a column: the text of the cluster that begins there, or "" under
the rest of a wide one. So a column is an index, and comparing rows is comparing lists.
The last column is never used: writing it leaves terminals in a state that they disagree about.
"""

from evloop.clusters import cell

TYPE_CHECKING = False
if TYPE_CHECKING:
    Row = list[str]


def cells_of(clusters: list[str], charset: str) -> "Row":
    """One row, as wide as it comes."""
    row: list[str] = []
    for cluster in clusters:
        shown, columns, _ = cell(cluster, charset)
        row.append(shown)
        row += [""] * (columns - 1)
    return row


def lay_out(
    prompt: "Row", clusters: list[str], cursor: int, columns: int, charset: str
) -> "tuple[list[Row], int, int]":
    """Return (rows, cursor row, cursor column) in a window of `columns` columns (2 or more)."""
    room = max(1, columns - 1)
    rows: list[Row] = [prompt[i : i + room] for i in range(0, len(prompt), room)] or [[]]
    text = "".join(clusters)
    if len(prompt) + len(text) <= room and text.isascii() and "\n" not in text:
        return [prompt + clusters], 0, len(prompt) + cursor  # the usual case, and quick
    row = rows[-1]
    at = (0, 0)
    for index, cluster in enumerate(clusters):
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
    if cursor >= len(clusters):
        at = (len(rows) - 1, len(row))
    return rows, at[0], at[1]
