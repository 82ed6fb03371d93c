"""The line being typed: clusters, a cursor, what was killed, what can be undone.

It knows neither keys nor drawing: a method changes the model and returns whether it did.

Undo holds edits, not copies: (position, removed clusters, inserted clusters, cursor before).
Characters typed one after another are one step, as long as no word ends in between.

`LineHistory` goes back through the lines typed before, and searches them. It holds at most
HISTORY_LINES_MAX lines, oldest first, and a position: `len(lines)` is the line being typed, which
is kept while one looks at older ones.

A `Draft` is a line with its position in the history: of several rooms each has its own, while the
lines of the history and what was killed last are common to all.
"""

from __future__ import annotations

from evloop.system.limits import HISTORY_LINES_MAX
from evloop.terminal.graphemes import joins, split
from evloop.terminal.limits import LINE_CHARACTERS_MAX, UNDO_STEPS_MAX

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Optional

    Edit = tuple[int, list[str], list[str], int]
    # The number of a line, counted from the first ever, and what was typed before looking back;
    # None: at the line being typed.
    Place = Optional[tuple[int, str]]


class Line:
    """Text as clusters with a cursor between them (0 .. len(clusters))."""

    __slots__ = ("_characters", "_joined_kill", "_undo", "clusters", "cursor", "killed", "typing")

    def __init__(self) -> None:
        self.clusters: list[str] = []
        self.cursor = 0
        self.killed: list[str] = []
        self.typing = False  # the last command inserted text: the next may join its undo step
        self._joined_kill = False  # the last command killed: the next kill adds to it
        self._characters = 0
        self._undo: list[Edit] = []

    @property
    def text(self) -> str:
        """The line as a string; "\\n" where a line break was put in."""
        return "".join(self.clusters)

    def begin(self, killing: bool, typing: bool) -> None:
        """Say what kind of command comes next; runs of kills and of typing belong together."""
        if not killing:
            self._joined_kill = False
        if not typing:
            self.typing = False

    def insert(self, text: str) -> bool:
        """Insert at the cursor. False, and nothing changed, when the line would be too long."""
        if self._characters + len(text) > LINE_CHARACTERS_MAX:
            return False
        together = self.typing and text != " "
        self._splice(self.cursor, self.cursor, text, together)
        self.typing = True
        return True

    def _splice(self, low: int, high: int, text: str, together: bool = False) -> None:
        """Put `text` where clusters[low:high] are, the cursor behind it, as one step of undo.

        Clusters that are neighbours afterwards may join: `clusters` is always what `split` makes of
        the text. A cluster depends only on the text before it, so it is enough to begin one
        cluster to the left.
        """
        clusters = self.clusters
        left = ""
        if low and joins(clusters[low - 1], text[0] if text else self._first(high)):
            low -= 1
            left = clusters[low]
        fresh = split(left + text)
        while high < len(clusters) and fresh and joins(fresh[-1], clusters[high][0]):
            fresh[-1:] = split(fresh[-1] + clusters[high])
            high += 1
        cursor, seen = low, 0
        for cluster in fresh:
            if seen >= len(left) + len(text):
                break
            seen += len(cluster)
            cursor += 1
        removed = clusters[low:high]
        self._remember(low, removed, fresh, together)
        self._apply(low, high, fresh, cursor)

    def _first(self, at: int) -> str:
        return self.clusters[at][0] if at < len(self.clusters) else " "

    def _remember(self, low: int, removed: list[str], fresh: list[str], together: bool) -> None:
        if together and self._undo:
            at, gone, came, cursor = self._undo[-1]
            # `removed` is not empty when a mark has joined the character typed just before.
            end = at + len(came)
            if at <= low <= end and low + len(removed) == end:
                kept = came[: low - at]
                self._undo[-1] = (at, gone, kept + fresh, cursor)
                return
        self._push((low, removed, fresh, self.cursor))

    def _push(self, edit: Edit) -> None:
        self._undo.append(edit)
        if len(self._undo) > UNDO_STEPS_MAX:
            del self._undo[0]

    def _apply(self, low: int, high: int, fresh: list[str], cursor: int) -> None:
        self._characters += sum(map(len, fresh)) - sum(map(len, self.clusters[low:high]))
        self.clusters[low:high] = fresh
        self.cursor = cursor

    def undo(self) -> bool:
        """Take the last step back."""
        if not self._undo:
            return False
        at, gone, came, cursor = self._undo.pop()
        self._apply(at, at + len(came), gone, cursor)
        return True

    def set(self, text: str) -> None:
        """Replace everything (history, search), cursor at the end; undo brings it back."""
        self._splice(0, len(self.clusters), text[:LINE_CHARACTERS_MAX])

    def clear(self) -> None:
        """Begin a new line: nothing to undo."""
        self.clusters = []
        self.cursor = 0
        self.typing = False
        self._joined_kill = False
        self._characters = 0
        self._undo.clear()

    def delete(self, low: int, high: int) -> bool:
        """Delete clusters[low:high]; the cursor goes to `low`."""
        if low >= high:
            return False
        self._splice(low, high, "")
        return True

    def kill(self, low: int, high: int) -> bool:
        """Delete clusters[low:high] and keep them for `yank`; a run of kills is kept together."""
        if low >= high:
            return False
        gone = self.clusters[low:high]
        if not self._joined_kill:
            self.killed = gone
        elif low < self.cursor:
            self.killed = gone + self.killed
        else:
            self.killed = self.killed + gone
        self._joined_kill = True
        return self.delete(low, high)

    def yank(self) -> bool:
        """Insert what was killed last."""
        return bool(self.killed) and self.insert("".join(self.killed))

    def swap(self) -> bool:
        """Exchange the clusters around the cursor (at the end: the last two)."""
        at = min(self.cursor, len(self.clusters) - 1)
        if at < 1:
            return False
        self._splice(at - 1, at + 1, self.clusters[at] + self.clusters[at - 1])
        return True

    def word_left(self, blank_only: bool = False) -> int:
        """Where the word to the left begins; a word is letters and digits, or non-blanks."""
        at = self.cursor
        while at and not _in_word(self.clusters[at - 1], blank_only):
            at -= 1
        while at and _in_word(self.clusters[at - 1], blank_only):
            at -= 1
        return at

    def word_right(self) -> int:
        """Where the word to the right ends."""
        at, end = self.cursor, len(self.clusters)
        while at < end and not _in_word(self.clusters[at], False):
            at += 1
        while at < end and _in_word(self.clusters[at], False):
            at += 1
        return at


def _in_word(cluster: str, blank_only: bool) -> bool:
    return not cluster.isspace() if blank_only else cluster[0].isalnum()


def _left(line: Line) -> int:
    return max(0, line.cursor - 1)


def _right(line: Line) -> int:
    return min(len(line.clusters), line.cursor + 1)


def _home(line: Line) -> int:
    return 0


def _end(line: Line) -> int:
    return len(line.clusters)


# Keys that move the cursor and change nothing else -> where it goes.
MOTIONS: dict[str, Callable[[Line], int]] = {
    "left": _left,
    "ctrl-b": _left,
    "right": _right,
    "ctrl-f": _right,
    "home": _home,
    "ctrl-a": _home,
    "end": _end,
    "ctrl-e": _end,
    "ctrl-left": Line.word_left,
    "alt-left": Line.word_left,
    "alt-b": Line.word_left,
    "ctrl-right": Line.word_right,
    "alt-right": Line.word_right,
    "alt-f": Line.word_right,
}


class Draft:
    """A line, its undo with it, and the place in the history of whoever types it."""

    __slots__ = ("line", "place")

    def __init__(self, line: Line | None = None, place: Place = None) -> None:
        self.line = Line() if line is None else line
        self.place = place


class LineHistory:
    """The history of one prompt."""

    __slots__ = ("_at", "_draft", "_dropped", "commands", "lines")

    def __init__(self, lines: Iterable[str] = ()) -> None:
        self.lines = list(lines)[-HISTORY_LINES_MAX:]
        self.commands = list(self.lines)  # of these, what may be kept on disk
        self._at = len(self.lines)
        self._draft = ""
        self._dropped = 0  # lines that were too many

    def swap(self, place: Place) -> Place:
        """Go to `place`; return where one was."""
        end = self._at == len(self.lines)
        before = None if end else (self._dropped + self._at, self._draft)
        number, self._draft = (self._dropped + len(self.lines), "") if place is None else place
        self._at = min(max(0, number - self._dropped), len(self.lines))
        return before

    def add(self, text: str, command: bool) -> None:
        """Remember a line that was submitted, but no blank line and no repeat."""
        for lines in (self.lines, self.commands) if command else (self.lines,):
            if text.strip() and lines[-1:] != [text]:
                lines.append(text)
                if len(lines) > HISTORY_LINES_MAX:
                    del lines[0]
                    self._dropped += lines is self.lines
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
        """The line after, at the end the one being typed; None when that is already shown."""
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
