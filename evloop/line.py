"""The line being typed: clusters, a cursor, what was killed, what can be undone. Floor 2.

No keys, no drawing: every method changes the model and says whether anything changed.

Undo holds edits, not copies: (position, removed clusters, inserted clusters, cursor before).
Characters typed one after another are one step, as long as no word ends in between.
"""

from evloop.clusters import split
from evloop.limits import LINE_CHARACTERS_MAX, UNDO_STEPS_MAX

TYPE_CHECKING = False
if TYPE_CHECKING:
    Edit = tuple[int, list[str], list[str], int]


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
        at = self.cursor
        # A mark joins the cluster on its left; what stands on the right may join what comes in.
        low = at - 1 if at and not text.isascii() else at
        high = min(at + 1, len(self.clusters)) if not text.isascii() else at
        left = "".join(self.clusters[low:at])
        fresh = split(left + text + "".join(self.clusters[at:high]))
        end, seen = 0, 0
        while end < len(fresh) and seen < len(left) + len(text):
            seen += len(fresh[end])
            end += 1
        self._replace(low, high, fresh, low + end, join=self.typing and fresh[-1:] != [" "])
        self.typing = True
        return True

    def _replace(
        self, low: int, high: int, fresh: list[str], cursor: int, join: bool = False
    ) -> None:
        """Put `fresh` where clusters[low:high] are, as one step of undo."""
        removed = self.clusters[low:high]
        before = self.cursor
        if join and self._undo and not removed:
            at, gone, came, was = self._undo[-1]
            if at + len(came) == low:
                self._undo[-1] = (at, gone, came + fresh, was)
                join = False
            else:
                self._push((low, removed, fresh, before))
        else:
            self._push((low, removed, fresh, before))
        self._apply(low, high, fresh, cursor)

    def _push(self, edit: "Edit") -> None:
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
        fresh = split(text[:LINE_CHARACTERS_MAX])
        self._replace(0, len(self.clusters), fresh, len(fresh))

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
        self._replace(low, high, [], low)
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
        self._replace(at - 1, at + 1, [self.clusters[at], self.clusters[at - 1]], at + 1)
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
