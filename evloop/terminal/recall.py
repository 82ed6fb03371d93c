"""Lines typed before: going back through them, and searching.

`Recall` holds at most HISTORY_LINES_MAX lines, oldest first, and a position: `len(lines)` is the
line being typed, which is kept while one looks at older ones.
"""

from evloop.base.limits import HISTORY_LINES_MAX

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


class Recall:
    """The history of one prompt."""

    __slots__ = ("_at", "_draft", "lines")

    def __init__(self, lines: "Iterable[str]" = ()) -> None:
        self.lines = list(lines)[-HISTORY_LINES_MAX:]
        self._at = len(self.lines)
        self._draft = ""

    def add(self, text: str) -> None:
        """Remember a line that was submitted; blank ones and repeats are not worth it."""
        if text.strip() and self.lines[-1:] != [text]:
            self.lines.append(text)
            if len(self.lines) > HISTORY_LINES_MAX:
                del self.lines[0]
        self._at = len(self.lines)
        self._draft = ""

    def back(self, typed: str) -> str | None:
        """The line before; None at the oldest. `typed` is what the line holds now."""
        if not self._at:
            return None
        if self._at == len(self.lines):
            self._draft = typed
        self._at -= 1
        return self.lines[self._at]

    def forward(self) -> str | None:
        """The line after, at last the half-typed one; None when that is already shown."""
        if self._at >= len(self.lines):
            return None
        self._at += 1
        return self._draft if self._at == len(self.lines) else self.lines[self._at]

    def search(self, wanted: str, before: int) -> int:
        """Index of the newest line older than index `before` that holds `wanted`; -1: none."""
        if not wanted:
            return -1
        folded = wanted.casefold()
        for index in range(min(before, len(self.lines)) - 1, -1, -1):
            if folded in self.lines[index].casefold():
                return index
        return -1
