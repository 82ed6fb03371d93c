"""A small terminal emulator: what the bytes that we write look like.

It knows the control functions that evloop may write and no other: anything else is a
ForeignByte. The terminal driver is part of it (ONLCR: LF goes to column 0 too).

Nobody agrees how emoji chains are drawn, so there are two kinds of terminal: `whole=False` gives
every part its own columns (xterm), `whole=True` draws a cluster in the columns of its first
character. And two ways of resizing: `reflow=True` wraps the visible lines anew (tmux, VTE), else
rows are cut or padded (xterm).
"""

from __future__ import annotations

from unicodedata import category, east_asian_width

from evloop.terminal.graphemes import joins


class ForeignByte(Exception):
    """Something was written that evloop has promised not to write."""


class Row:
    """One row: the text and the SGR parameters of each column; "" under a wide character."""

    __slots__ = ("cells", "styles", "wrapped")

    def __init__(self, columns: int) -> None:
        self.cells = [" "] * columns
        self.styles = [""] * columns
        self.wrapped = False  # the line goes on in the next row

    def text(self) -> str:
        return "".join(self.cells).rstrip(" ")


def columns_of(char: str) -> int:
    """Columns of one character, as most terminals have it."""
    if char.isascii():
        return 1
    if category(char) in ("Mn", "Me", "Cf") or "\u1160" <= char <= "\u11ff":
        return 0
    return 2 if east_asian_width(char) in "WF" else 1


class Emulator:
    """A screen of `columns` x `rows` with its scrollback."""

    def __init__(
        self, columns: int, rows: int, *, whole: bool = False, reflow: bool = False
    ) -> None:
        self.columns = columns
        self.rows = rows
        self.whole = whole
        self.reflow = reflow
        self.scrollback: list[str] = []
        self.grid = [Row(columns) for _ in range(rows)]
        self.row = 0
        self.column = 0  # == columns: the last column was written, the wrap is pending
        self.style = ""
        self.bells = 0
        self.receipts = 0  # how often ESC[5n was asked
        self.bracketed = False
        self._held = ""

    # -- reading ----------------------------------------------------------------------------

    def __str__(self) -> str:
        return "\n".join(self.used())

    def lines(self) -> list[str]:
        """The visible rows, without blanks at their ends."""
        return [row.text() for row in self.grid]

    def used(self) -> list[str]:
        """The visible rows down to the last one that holds something or the cursor."""
        lines = self.lines()
        while len(lines) > self.row + 1 and not lines[-1]:
            lines.pop()
        return lines

    # -- writing ----------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        text = self._held + data.decode()
        self._held = ""
        at = 0
        while at < len(text):
            char = text[at]
            if char == "\x1b":
                end = at + 2
                while end < len(text) and not "@" <= text[end] <= "~":
                    end += 1
                if end >= len(text):
                    self._held = text[at:]
                    return
                self._sequence(text[at : end + 1])
                at = end + 1
                continue
            if char >= " " and char != "\x7f" and not "\x80" <= char < "\xa0":
                self._print(char)
            else:
                self._control(char)
            at += 1

    def _control(self, char: str) -> None:
        if char == "\n":
            self.column = 0
            self._line_feed()
        elif char == "\r":
            self.column = 0
        elif char == "\b":
            self.column = max(0, min(self.column, self.columns - 1) - 1)
        elif char == "\a":
            self.bells += 1
        else:
            raise ForeignByte(repr(char))

    def _line_feed(self) -> None:
        if self.row < self.rows - 1:
            self.row += 1
            return
        self._scroll_out(self.grid.pop(0))
        self.grid.append(Row(self.columns))

    def _scroll_out(self, row: Row) -> None:
        self.scrollback.append(row.text())

    def _print(self, char: str) -> None:
        wide = columns_of(char)
        row = self.grid[self.row]
        at = self.column - 1
        while at > 0 and row.cells[at] == "":
            at -= 1
        if self.column and (
            wide == 0 or (self.whole and joins(row.cells[at], char) and row.cells[at] != " ")
        ):
            row.cells[at] += char
            return
        if self.column + max(wide, 1) > self.columns:
            row.wrapped = True
            self.column = 0
            self._line_feed()
            row = self.grid[self.row]
        self._blank(row, self.column, self.column + max(wide, 1))
        row.cells[self.column] = char
        row.styles[self.column] = self.style
        for extra in range(self.column + 1, self.column + wide):
            row.cells[extra] = ""
            row.styles[extra] = self.style
        self.column += max(wide, 1)

    def _blank(self, row: Row, start: int, end: int) -> None:
        """Blank columns start..end, and what is left of wide characters cut at the edges."""
        low, high = start, end
        while low > 0 and row.cells[low] == "":
            low -= 1
        while high < self.columns and row.cells[high] == "":
            high += 1
        for at in range(low, high):
            row.cells[at] = " "
            row.styles[at] = ""

    def _sequence(self, sequence: str) -> None:
        if sequence in ("\x1b[?2004h", "\x1b[?2004l"):
            self.bracketed = sequence.endswith("h")
            return
        parameters, final = sequence[2:-1], sequence[-1]
        if sequence[1] != "[" or not all(c in "0123456789;" for c in parameters):
            raise ForeignByte(repr(sequence))
        if final == "m":
            self.style = parameters
            return
        if final == "n" and parameters == "5":
            self.receipts += 1
            return
        if ";" in parameters or final not in "ABCDHJK@P":
            raise ForeignByte(repr(sequence))
        count = int(parameters or 1)
        row = self.grid[self.row]
        column = min(self.column, self.columns - 1)
        if final == "A":
            self.row = max(0, self.row - count)
        elif final == "B":
            self.row = min(self.rows - 1, self.row + count)
        elif final == "C":
            column = min(self.columns - 1, column + count)
        elif final == "D":
            column = max(0, column - count)
        elif final == "H":
            self.row = column = 0
        elif final in "JK":
            self._blank(row, column, self.columns)
            row.wrapped = False
            if final == "J":
                self.grid[self.row + 1 :] = [Row(self.columns) for _ in self.grid[self.row + 1 :]]
        elif final == "@":
            self._blank(row, column, column)
            row.cells[column:column] = [" "] * count
            row.styles[column:column] = [""] * count
        else:
            self._blank(row, column, min(self.columns, column + count))
            del row.cells[column : column + count], row.styles[column : column + count]
        self.column = column
        self._fit(row)

    def _fit(self, row: Row) -> None:
        missing = self.columns - len(row.cells)
        row.cells += [" "] * missing
        row.styles += [""] * missing
        del row.cells[self.columns :], row.styles[self.columns :]

    # -- resizing ---------------------------------------------------------------------------

    def resize(self, columns: int, rows: int) -> None:
        """The user drags the corner of the window."""
        if self.reflow and columns != self.columns:
            self._reflow(columns)
        self.columns = columns
        for row in self.grid:
            self._fit(row)
            if len(row.cells) and columns_of(row.cells[-1][:1] or " ") == 2:
                row.cells[-1] = " "  # a wide character cut in two
        while len(self.grid) > rows and self.row < len(self.grid) - 1:
            self.grid.pop()
        while len(self.grid) > rows:
            self._scroll_out(self.grid.pop(0))
            self.row -= 1
        self.grid += [Row(columns) for _ in range(rows - len(self.grid))]
        self.rows = rows
        self.column = min(self.column, columns - 1)

    def _reflow(self, columns: int) -> None:
        """Wrap the visible lines anew; the cursor stays at its character."""
        fresh: list[Row] = []
        cursor = (0, 0)
        lines: list[list[int]] = []
        for index in range(len(self.grid)):
            if index and self.grid[index - 1].wrapped:
                lines[-1].append(index)
            else:
                lines.append([index])
        for line in lines:
            cells: list[str] = []
            styles: list[str] = []
            at = -1
            for index in line:
                if index == self.row:
                    at = len(cells) + self.column
                cells += self.grid[index].cells
                styles += self.grid[index].styles
            while cells and cells[-1] == " " and len(cells) > max(at, 0):
                cells.pop()
            start = 0
            while True:
                end = min(start + columns, len(cells))
                if end < len(cells) and cells[end] == "" and end > start + 1:
                    end -= 1
                row = Row(0)
                row.cells, row.styles = cells[start:end], styles[start:end]
                row.wrapped = end < len(cells)
                fresh.append(row)
                if start <= at and (at < end or end == len(cells)):
                    cursor = (len(fresh) - 1, min(at - start, columns - 1))
                start = end
                if start >= len(cells):
                    break
        while len(fresh) > cursor[0] + 1 and not fresh[-1].text():
            fresh.pop()
        while len(fresh) > self.rows and cursor[0] > 0:
            self._scroll_out(fresh.pop(0))
            cursor = (cursor[0] - 1, cursor[1])
        del fresh[self.rows :]
        self.columns = columns
        self.grid = fresh + [Row(columns) for _ in range(self.rows - len(fresh))]
        self.row, self.column = cursor
