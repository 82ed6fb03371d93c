"""The one renderer: turns what the screen shows into what it should show, with few bytes.

The edit area (a progress line, the prompt and what is typed) is the last thing on the screen; chat
lines scroll away above it. `Screen` knows the area's rows and the cursor, relative to
the area's first row, and nothing else: where the area is on the terminal does not matter.

It writes `\\r \\n \\b BEL ESC[A B C D H J K @ P` and text, nothing else (and SGR for colours).
`\\n` also goes to column 0: the terminal driver is told so (ONLCR).
"""

from __future__ import annotations

from evloop.base.names import display
from evloop.terminal.graphemes import cell, width
from evloop.terminal.layout import HANGING_COLUMNS, hung

TYPE_CHECKING = False
if TYPE_CHECKING:
    from evloop.terminal.layout import Row

    # A chat line: text, or pieces of (SGR parameters, text); "\n" breaks it.
    Styled = str | list[tuple[str, str]]

TYPED = -1  # in place of an indent: a line that was typed here, so it is not checked for forgery
CARRIED_MAX = 9  # columns that go over to the next row of a wrapped line, at most
CARRY_COST = 12  # bytes of moving a row's cells; below, they are written anew


def _csi(count: int, final: str) -> str:
    return "\x1b[" + final if count == 1 else f"\x1b[{count}{final}"


class Renderer:
    """Draws rows by difference. `shift`: the terminal knows ESC[@ and ESC[P (a vt100 does not)."""

    __slots__ = ("_charset", "_column", "_columns", "_out", "_row", "_rows", "_shift")

    def __init__(self, columns: int, *, charset: str = "utf-8", shift: bool = True) -> None:
        self._columns = columns
        self._charset = charset
        self._shift = shift
        self._rows: list[Row] = [[]]  # as shown
        self._row = 0
        self._column = 0
        self._out: list[str] = []

    def take(self) -> bytes:
        """Return what was drawn since the last call."""
        text = "".join(self._out)
        self._out.clear()
        return text.encode(self._charset, "replace")

    def bell(self) -> None:
        self._out.append("\a")

    def ask_receipt(self) -> None:
        """Have the terminal say when it has got this far (it answers ESC[0n)."""
        self._out.append("\x1b[5n")

    # -- the edit area ----------------------------------------------------------------------

    def show(self, rows: list[Row], row: int, column: int) -> None:
        """Make the edit area show `rows` and the cursor stand at (row, column)."""
        shown = self._rows
        for index, new in enumerate(rows):
            if index >= len(shown):
                self._go(index - 1, self._column)
                self._out.append("\n")
                shown.append([])
                self._row, self._column = index, 0
            old = shown[index]
            if old != new:
                self._draw_row(index, old, new, column if index == row else -1)
                shown[index] = new
        if len(shown) > len(rows):
            self._go(len(rows), 0)
            self._out.append("\x1b[J")
            del shown[len(rows) :]
        self._go(row, column)

    def _draw_row(self, index: int, old: Row, new: Row, wanted: int) -> None:
        """Turn row `index` from `old` into `new`; the cursor is `wanted` there next (-1: not)."""
        if not old:  # as after every chat line
            self._go(index, 0)
            self._put(0, new)
            return
        same = 0
        for a, b in zip(old, new):
            if a != b:
                break
            same += 1
        while same and (old[same : same + 1] == [""] or new[same : same + 1] == [""]):
            same -= 1
        most = min(len(old), len(new)) - same
        tail = 0
        while tail < most and old[-1 - tail] == new[-1 - tail]:
            tail += 1
        while tail and new[-tail] == "":
            tail -= 1
        grown = len(new) - len(old)
        self._go(index, same)
        if self._shift and (
            self._move_tail(same, tail, grown, new)
            if grown
            else not tail and self._carry(index, same, old, new)
        ):
            return
        self._put(same, new[same:] if grown else new[same : len(new) - tail])
        if grown < 0:
            self._erase_tail(-grown, wanted)

    def _move_tail(self, same: int, tail: int, grown: int, new: Row) -> bool:
        """Have the terminal move the row's last `tail` columns, if that is cheaper."""
        moved = _csi(grown, "@") if grown > 0 else _csi(-grown, "P")
        if len(moved) >= tail + (3 if grown < 0 else 0):
            return False
        self._out.append(moved)
        self._put(same, new[same : len(new) - tail])
        return True

    def _carry(self, index: int, same: int, old: Row, new: Row) -> bool:
        """A row within a wrapped line: a few columns go over to the next row or come from it."""
        end = len(new)
        for count in range(1, min(CARRIED_MAX, end - same - CARRY_COST)):
            into, over = old[same : end - count], new[same + count :]
            if into == over and over[0] != "" and old[end - count] != "":
                self._out.append(_csi(count, "@"))
                self._put(same, new[same : same + count])
                self._rows[index] = new
                self._go(index, end)
                self._out.append("\x1b[K")  # what was pushed over the end
                return True
            into, over = new[same : end - count], old[same + count :]
            if into == over and over[0] != "" and new[end - count] != "":
                self._out.append(_csi(count, "P"))
                self._rows[index] = new
                self._go(index, end - count)
                self._put(end - count, new[end - count :])
                return True
        return False

    def _erase_tail(self, count: int, wanted: int) -> None:
        """Blank the `count` columns at the cursor, the last ones of the row."""
        back = self._column - wanted if wanted >= 0 else count
        if count == 1 and back >= 0:
            self._out.append(" ")
            self._column += 1
        else:
            self._out.append("\x1b[K")

    def _put(self, column: int, cells: Row) -> None:
        """Write `cells` at the cursor, which is in `column`."""
        self._column = column + len(cells)
        text = "".join(cells)
        if text.isascii():
            self._out.append(text)
            return
        for at, shown in enumerate(cells, column):
            if shown:
                self._out.append(shown)
            if shown.isascii():
                continue
            _, wide, certain = cell(shown, self._charset)
            if not certain:
                # Room first, then the cluster, then to where we say that it ends.
                self._out[-1] = " " * wide + "\b" * wide + shown + "\r" + _csi(at + wide, "C")

    def _go(self, row: int, column: int) -> None:
        """Move the cursor the cheapest way."""
        if row < self._row:
            self._out.append(_csi(self._row - row, "A"))
        elif row > self._row:
            down = row - self._row
            # LF costs a byte a row and takes us to column 0.
            if down <= 3 or not column:
                self._out.append("\n" * down)
                self._column = 0
            else:
                self._out.append(_csi(down, "B"))
        self._row = row
        if column != self._column:
            self._out.append(self._sideways(row, self._column, column))
            self._column = column

    def _sideways(self, row: int, start: int, end: int) -> str:
        best = "\r" if not end else "\r" + self._forward(row, 0, end)
        if end > start:
            other = self._forward(row, start, end)
        else:
            other = "\b" * (start - end) if start - end < 5 else _csi(start - end, "D")
        return other if len(other) <= len(best) else best

    def _forward(self, row: int, start: int, end: int) -> str:
        moved = _csi(end - start, "C")
        if end - start < len(moved):
            again = "".join(self._rows[row][start:end])
            if len(again) == end - start and again.isascii():
                return again
        return moved

    # -- above it ---------------------------------------------------------------------------

    def print_above(self, lines: list[tuple[Styled, int]]) -> None:
        """Print chat lines where the edit area stands; it is gone afterwards and to be shown anew.

        Each is (line, columns by which its second and later rows are indented).
        """
        rows = self._rows
        composed = [_compose(line, indent, self._columns) for line, indent in lines]
        if composed[0] == "".join(map("".join, rows)) and composed[0].isascii():
            # The typed line stays on the screen, as in a shell.
            self._out.append("\n" * (len(rows) - self._row))
            del composed[0]
        else:
            self._go(0, 0)
            if len(rows) > 1:
                self._out.append("\x1b[J")
            elif len(rows[0]) > _sure_columns(lines[0][0]):
                self._out.append("\x1b[K")
        for text in composed:
            self._out.append(text + "\n")
        self._reset()

    def erase(self) -> None:
        """Take the edit area off the screen; the cursor stands where it began."""
        if self._rows != [[]]:
            self._go(0, 0)
            self._out.append("\x1b[J")
        self._reset()

    def restart(self) -> None:
        """Other programs have written: our rows are somewhere above. Begin on the cursor's row."""
        self._out.append("\r\x1b[J")
        self._reset()

    def clear(self) -> None:
        """Clear the whole screen."""
        self._out.append("\x1b[H\x1b[J")
        self._reset()

    def resize(self, columns: int, rows: int) -> None:
        """The window has another size.

        Terminals disagree about where rows go that no longer fit: the old rows are left as they
        are, and drawing begins on a fresh row. Below the cursor is nothing but our own rows.
        """
        self._columns = columns
        if self._row >= rows or any(len(row) >= columns for row in self._rows):
            # Erase from the cursor on, so that the old row no longer counts as wrapped: else the
            # next reflow would join our fresh row to it.
            self._out.append("\x1b[J\n")
            self._reset()
        elif len(self._rows) > 1:
            self.erase()  # rows below the cursor may be gone

    def _reset(self) -> None:
        self._rows = [[]]
        self._row = 0
        self._column = 0


def _compose(line: Styled, indent: int, columns: int) -> str:
    """The text of a chat line, safe and indented."""
    out = ""
    column = 0
    for style, text in [("", line)] if isinstance(line, str) else line:
        # Most lines are one row of printable text: asking for that first takes a third of the time.
        shown = text if text.isprintable() else _safe_rows(text, indent)
        if indent != TYPED and column + 2 * len(shown) > columns:  # it may be wrapped
            shown, column = _hung_rows(shown, column, columns, indent)
        else:
            column += width(shown)
        out += f"\x1b[{style}m{shown}\x1b[m" if style and shown else shown
    return out


def _hung_rows(text: str, column: int, columns: int, indent: int) -> tuple[str, int]:
    """The rows of `text`, and where the last one ends, in columns from where its row begins."""
    rows = []
    for row in text.split("\n"):
        rows.append(hung(row, column, columns, indent or HANGING_COLUMNS))
        column += width(row)
        last, column = column, 0
    return "\n".join(rows), last


def _safe_rows(text: str, indent: int) -> str:
    return ("\n" + " " * indent).join([display(row) for row in text.split("\n")])


def _sure_columns(line: Styled) -> int:
    """How many columns the first row of a chat line surely has: those of its ASCII."""
    text = line if isinstance(line, str) else "".join([text for _, text in line])
    return len(display(text.partition("\n")[0]).encode("ascii", "ignore"))
