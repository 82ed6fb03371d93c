"""The line editor. Keys in, events and draw bytes out; no descriptor, no clock.

    data -> feed -> keys -> COMMANDS change the model -> events      (nothing is drawn yet)
    take -> the one renderer draws the difference between screen and model

Events are tuples:

    ("line", text)    Enter; the line is empty again
    ("leave",)        the escape key (Ctrl-])
    ("eof",)          Ctrl-D on an empty line
    ("hint", text)    Ctrl-C on an empty line: show this text
    ("interrupt",)    a second Ctrl-C within two seconds, or the first while `busy`
    ("switch", key)   another room is asked for: "alt-1" ... "alt-9", "alt-a", and where there are
                      `several` rooms "alt-left", "alt-right"
    ("suspend",)      Ctrl-Z
    ("abort",)        Ctrl-\\, where the terminal driver passes it on

Modes, and what a key does in them:

    mode        text, paste      Enter      Esc, other command     Ctrl-C, Ctrl-G
    editing     insert           submit     the command            clear, hint, interrupt
    searching   add to the text  take the   take the line found,   back to what was typed
                that is wanted   line, send then the command
"""

from __future__ import annotations

from collections import deque

from evloop.base.names import display
from evloop.system.limits import HISTORY_LINES_MAX
from evloop.system.timers import NEVER
from evloop.terminal.graphemes import split
from evloop.terminal.keys import KeyDecoder
from evloop.terminal.layout import lay_out, one_row
from evloop.terminal.limits import INTERRUPT_TWICE_S, SEARCH_CHARACTERS_MAX
from evloop.terminal.line import MOTIONS, Draft, Line, LineHistory
from evloop.terminal.pacing import Pacer
from evloop.terminal.renderer import TYPED, Renderer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from evloop.terminal.hidden import HiddenLine
    from evloop.terminal.keys import Key
    from evloop.terminal.renderer import Styled

    Event = tuple[str, ...]
    Complete = Callable[[str, int], list[str]]

INTERRUPT_HINT = "Ctrl-C again leaves"


def _no_completion(_text: str, _cursor: int) -> list[str]:
    return []


class Editor:
    """One line of input at the bottom of a terminal, with text scrolling above it."""

    __slots__ = (
        "_bell",
        "_changed",
        "_charset",
        "_cleared",
        "_columns",
        "_complete",
        "_decoder",
        "_echo",
        "_hidden",
        "_interrupted",
        "_is_command",
        "_keys",
        "_laid_out",
        "_line_history",
        "_now",
        "_pacer",
        "_progress",
        "_prompt",
        "_rows",
        "_screen",
        "_urgent",
        "busy",
        "line",
        "search",
        "secret",
        "several",
        "touched",
    )

    def __init__(
        self,
        columns: int,
        rows: int,
        *,
        prompt: str = "",
        echo: bool = False,
        complete: Complete = _no_completion,
        is_command: Callable[[str], bool] = bool,
        history: Iterable[str] = (),
        escape: int = 0x1D,
        charset: str = "utf-8",
        shift: bool = True,
        slow: bool = False,
    ) -> None:
        self._columns = max(2, columns)
        self._rows = max(1, rows)
        self._complete = complete
        self._is_command = is_command
        self._charset = charset
        self._decoder = KeyDecoder(escape=escape, charset=charset)
        self._screen = Renderer(self._columns, charset=charset, shift=shift)
        self._pacer = Pacer(slow=slow)
        self.line = Line()
        self._line_history = LineHistory(history)
        self._keys: deque[Key] = deque()
        self._laid_out: tuple[list[list[str]], int, int] = [], 0, 0  # as last drawn
        self._urgent: list[tuple[Styled, int]] = []  # echoes and answers to keys: not paced
        self._bell = False
        self.busy = False  # a command runs: Ctrl-C on an empty line interrupts it at once
        self.several = False  # there are several rooms: Alt with an arrow goes to the next
        self._changed = True  # the prompt, the line or the window: they must be laid out anew
        self.touched = True  # a `take` may have something to draw, or `next_deadline` has moved
        self._cleared = False
        self._hidden = False
        self._interrupted = -NEVER
        self._now = 0.0
        self._progress = ""
        self.secret: HiddenLine | None = None  # takes the keys: what is typed is not shown
        self.search: tuple[str, int, str] | None = None  # wanted, index found, what was typed
        self.set_prompt(prompt, echo=echo)

    # -- for the caller --------------------------------------------------------------------

    @property
    def text(self) -> str:
        """The line as typed so far."""
        return self.line.text

    @property
    def cursor(self) -> int:
        """The cursor, in characters of `text`."""
        return sum(map(len, self.line.clusters[: self.line.cursor]))

    @property
    def history(self) -> list[str]:
        """The lines submitted, oldest first, at most HISTORY_LINES_MAX."""
        return self._line_history.lines

    @property
    def commands(self) -> list[str]:
        """The lines of `history` that may be kept in a file: what was said in a room may not."""
        return self._line_history.commands

    def next_deadline(self, drawing: bool = True) -> float:
        """When `handle_timer` or `take` has something to do without a key; inf: never.

        Without `drawing` (the terminal is full, or not ours) the deadlines of `take` are left out.
        """
        return min(self._decoder.next_deadline(), self._pacer.next_deadline(drawing))

    # -- input -----------------------------------------------------------------------------

    def feed(self, data: bytes, now: float) -> Iterator[Event]:
        """Take bytes from the terminal; iterating over the result acts on the keys, one by one.

        Keys after an event are acted on when the next event is asked for, so the caller can change
        the prompt, or stop, in between; the keys left over then come first in the next call.
        """
        self._keys += self._decoder.feed(data, now)
        self.touched = True
        return self._act(now)

    def handle_timer(self, now: float) -> Iterator[Event]:
        """As `feed`, for time that has passed. Call it after the reads of a tick."""
        self._keys += self._decoder.handle_timer(now)
        self._pacer.handle_timer(now)
        self.touched = True
        return self._act(now)

    def _act(self, now: float) -> Iterator[Event]:
        self._now = now
        while self._keys:
            event = self._press(self._keys.popleft())
            self._change()
            if event is not None:
                yield event

    def _press(self, key: Key) -> Event | None:
        name, text = key
        if self.secret is not None and name != "receipt":
            return self.secret.press(name, text)
        line = self.line
        if name == "text" or name == "paste":
            if self.search is not None:
                self._search_for(self.search[0] + text.replace("\n", " "))
                return None
            line.begin(killing=False, typing=name == "text")
            if not line.insert(text):
                self._bell = True
            return None
        if name == "receipt":
            self._pacer.receipt(self._now)
            return None
        if name in SWITCHES and (self.several or name not in MOTIONS):
            return ("switch", name)
        if self.search is not None:
            command = SEARCHING.get(name)
            if command is not None:
                command(self)
                return None
            self.search = None
            if name == "escape":
                return None
        line.begin(killing=name in KILLS, typing=False)
        if name in MOTIONS:
            line.cursor = MOTIONS[name](line)
            return None
        command_or_none = COMMANDS.get(name)
        return None if command_or_none is None else command_or_none(self)

    # -- output ----------------------------------------------------------------------------

    def _change(self) -> None:
        self._changed = self.touched = True

    def above(self, line: Styled, indent: int = 0, *, urgent: bool = False) -> None:
        """Print a line above the prompt, soon (see pacing.py); in the next `take` when `urgent`.

        With `urgent`, waiting lines are printed first, so that the order stays, unless the terminal
        was found to be slow.

        `line` is text, or pieces of (SGR parameters, text); "\\n" breaks it, and rows after a
        break are indented by `indent` columns. Control characters are made visible.
        """
        if urgent:
            self._urgent += [*self._pacer.rest(), (line, indent)]
        else:
            self._pacer.add(line, indent)
        self.touched = True

    def bell(self) -> None:
        """Ring with the next `take`."""
        self._bell = True
        self._change()

    def progress(self, text: str) -> None:
        """Show `text` on one line above the prompt, replacing the last one; "" removes it."""
        self._progress = display(text)
        self._change()

    def set_prompt(self, prompt: str, *, echo: bool) -> None:
        """Change the prompt. `echo`: a submitted line stays on the screen, as in a shell."""
        self._prompt = display(prompt)
        self._echo = echo
        self._change()

    def restore(self, text: str) -> bool:
        """Put the text of a failed send back into the line; whether that was possible.

        When something else was typed meanwhile it was not: then Ctrl-Y brings the text back.
        """
        if self.line.clusters:
            self.line.killed = split(text)
            return False
        self.line.set(text)
        self._change()
        return True

    def swap_line(self, draft: Draft) -> Draft:
        """Go on with the line of `draft` and its place in the history; return those of before.

        A search ends, and leaves the line that it has found. What was killed last stays.
        """
        self.search = None
        before, self.line = self.line, draft.line
        self.line.killed = before.killed
        self.line.begin(killing=False, typing=False)
        self._change()
        return Draft(before, self._line_history.swap(draft.place))

    def discard(self) -> None:
        """Empty the line."""
        self.line.clear()
        self._change()

    def slow(self) -> None:
        """The terminal refused bytes: from now on measure how quick it is."""
        self._pacer.slow()
        self.touched = True

    def resize(self, columns: int, rows: int) -> None:
        """The window has another size."""
        self._columns = max(2, columns)
        self._rows = max(1, rows)
        self._screen.resize(self._columns, self._rows)
        self._change()

    def hide(self) -> None:
        """Take prompt and line off the screen, for others to write; `take` draws no prompt."""
        self._hidden = True
        self._urgent += self._pacer.rest()
        self._screen.erase()
        self._change()

    def show(self) -> None:
        """The end of `hide`, or of a time in which others wrote without our knowing (SIGSTOP).

        Prompt and line are drawn anew where the cursor is. Half-received keys are forgotten.
        """
        if not self._hidden:
            self._screen.restart()
        self._hidden = False
        self._decoder.reset()
        self._change()

    def take(self, now: float) -> bytes:
        """Return the bytes that bring the screen up to date; b"" when it is."""
        self._now = now
        self.touched = False
        lines = self._pacer.take(now)
        if self._urgent:
            lines = self._urgent + lines
            self._urgent = []
        if not (lines or self._changed):
            return b""  # the usual case after a datagram: new lines wait for the next flush
        screen = self._screen
        if self._cleared:
            self._cleared = False
            screen.clear()
        if lines:
            screen.print_above(lines)
        if not self._hidden:
            if self._changed:  # else chat lines are printed above the same prompt and line
                self._laid_out = self._lay_out()
            screen.show(*self._laid_out)
        self._changed = False
        if lines and self._pacer.awaiting:
            screen.ask_receipt()
        if self._bell:
            self._bell = False
            screen.bell()
        return screen.take()

    def _lay_out(self) -> tuple[list[list[str]], int, int]:
        line = self.line
        prompt, clusters, cursor = self._prompt, line.clusters, line.cursor
        if self.search is not None:
            wanted, found, _ = self.search
            failing = "" if found >= 0 or not wanted else "no "
            prompt = f"({failing}search) {display(wanted)}: "
        rows, row, column = lay_out(split(prompt), clusters, cursor, self._columns, self._charset)
        most = self._rows - bool(self._progress) or 1
        if len(rows) > most:
            first = min(max(0, row - most // 2), len(rows) - most)
            rows = rows[first : first + most]
            row -= first
        if self._progress and self._rows > 1:
            rows.insert(0, one_row(split(self._progress), self._columns, self._charset))
            row += 1
        return rows, row, column

    # -- commands: change the model, draw nothing ------------------------------------------

    def _submit(self) -> Event:
        text = self.line.text.rstrip("\n")
        self._line_history.add(text, self._is_command(text))
        if self._echo:
            shown = display(text.replace("\n", " "))
            self.above(self._prompt + shown, TYPED, urgent=True)
        self.line.clear()
        return ("line", text)

    def _newline(self) -> None:
        self.line.insert("\n")

    def _delete_left(self) -> None:
        self.line.delete(max(0, self.line.cursor - 1), self.line.cursor)

    def _delete_right(self) -> None:
        self.line.delete(self.line.cursor, self.line.cursor + 1)

    def _delete_or_eof(self) -> Event | None:
        if not self.line.clusters:
            return ("eof",)
        self._delete_right()
        return None

    def _kill_right(self) -> None:
        self.line.kill(self.line.cursor, len(self.line.clusters))

    def _kill_left(self) -> None:
        self.line.kill(0, self.line.cursor)

    def _kill_blank_word_left(self) -> None:
        self.line.kill(self.line.word_left(blank_only=True), self.line.cursor)

    def _kill_word_left(self) -> None:
        self.line.kill(self.line.word_left(), self.line.cursor)

    def _kill_word_right(self) -> None:
        self.line.kill(self.line.cursor, self.line.word_right())

    def _yank(self) -> None:
        self._bell |= not self.line.yank()

    def _swap(self) -> None:
        self._bell |= not self.line.swap()

    def _undo(self) -> None:
        self._bell |= not self.line.undo()

    def _older(self) -> None:
        text = self._line_history.back(self.line.text)
        self._recalled(text)

    def _newer(self) -> None:
        self._recalled(self._line_history.forward())

    def _recalled(self, text: str | None) -> None:
        if text is None:
            self._bell = True
        else:
            self.line.set(text)

    def _clear_screen(self) -> None:
        self._cleared = True

    def _interrupt(self) -> Event | None:
        line = self.line
        if line.clusters:
            line.begin(killing=False, typing=False)
            line.kill(0, len(line.clusters))
            self._interrupted = -NEVER
            return None
        if self.busy or self._now - self._interrupted <= INTERRUPT_TWICE_S:
            self._interrupted = -NEVER
            return ("interrupt",)
        self._interrupted = self._now
        return ("hint", INTERRUPT_HINT)

    def _leave(self) -> Event:
        return ("leave",)

    def _complete_word(self) -> None:
        from evloop.terminal.layout import common_prefix, listed

        line = self.line
        text, cursor = line.text, self.cursor
        candidates = self._complete(text, cursor)
        start = max(text.rfind(" ", 0, cursor), text.rfind("\n", 0, cursor)) + 1
        word = text[start:cursor]
        if not candidates:
            self._bell = True
            return
        common = common_prefix(candidates)
        if len(common) > len(word) or (len(candidates) == 1 and common != word):
            low = line.cursor - len(split(word))
            line.delete(low, line.cursor)
            line.insert(common)
        elif len(candidates) > 1:
            self.above(listed(candidates, self._columns), urgent=True)
        else:
            self._bell = True

    # -- search ----------------------------------------------------------------------------

    def _search_begin(self) -> None:
        self.search = ("", -1, self.line.text)

    def _search_for(self, wanted: str) -> None:
        assert self.search is not None
        wanted = wanted[:SEARCH_CHARACTERS_MAX]
        self._search_found(wanted, self._line_history.search(wanted, HISTORY_LINES_MAX))

    def _search_found(self, wanted: str, found: int) -> None:
        assert self.search is not None
        self.search = (wanted, found, self.search[2])
        if found >= 0:
            self.line.set(self._line_history.lines[found])
        elif wanted:
            self._bell = True

    def _search_older(self) -> None:
        assert self.search is not None
        wanted, found, _ = self.search
        older = self._line_history.search(wanted, found) if found > 0 else -1
        if older >= 0:
            self._search_found(wanted, older)
        else:
            self._bell = True

    def _search_shorter(self) -> None:
        assert self.search is not None
        self._search_for(self.search[0][:-1])

    def _search_cancel(self) -> None:
        assert self.search is not None
        self.line.set(self.search[2])
        self.search = None


SWITCHES = frozenset({*(f"alt-{n}" for n in range(1, 10)), "alt-a", "alt-left", "alt-right"})
KILLS = frozenset({"ctrl-k", "ctrl-u", "ctrl-w", "alt-d", "alt-backspace"})

COMMANDS: dict[str, Callable[[Editor], Event | None]] = {
    "enter": Editor._submit,
    "alt-enter": Editor._newline,
    "backspace": Editor._delete_left,
    "delete": Editor._delete_right,
    "ctrl-d": Editor._delete_or_eof,
    "up": Editor._older,
    "ctrl-p": Editor._older,
    "down": Editor._newer,
    "ctrl-n": Editor._newer,
    "ctrl-k": Editor._kill_right,
    "ctrl-u": Editor._kill_left,
    "ctrl-w": Editor._kill_blank_word_left,
    "alt-d": Editor._kill_word_right,
    "alt-backspace": Editor._kill_word_left,
    "ctrl-y": Editor._yank,
    "ctrl-t": Editor._swap,
    "ctrl-_": Editor._undo,
    "tab": Editor._complete_word,
    "ctrl-r": Editor._search_begin,
    "ctrl-l": Editor._clear_screen,
    "ctrl-c": Editor._interrupt,
    "leave": Editor._leave,
    "ctrl-z": lambda _: ("suspend",),
    "ctrl-\\": lambda _: ("abort",),
}

SEARCHING: dict[str, Callable[[Editor], None]] = {
    "ctrl-r": Editor._search_older,
    "backspace": Editor._search_shorter,
    "ctrl-c": Editor._search_cancel,
    "ctrl-g": Editor._search_cancel,
}
