"""The frontend of the client without a line editor: pipes, files, a cooked terminal.

Whole lines are read and written; nothing is redrawn. On a terminal the escape key is the second
end-of-line character (VEOL), so that the kernel hands the line over at once, without Enter. Results
and chat go to stdout, everything else to stderr.

The prompt and a question stand on a row without an end. A line that comes meanwhile begins a row of
its own, and the prompt or the question is shown again behind it.

A frontend tells its owner (set with `owner`): `line(text)`, `leave()` for the escape key, `eof()`
for the end of input, or Ctrl-D on an empty line, and `bad_line(why)` for what is no line of text.
"""

from __future__ import annotations

import os
import signal
from collections import deque

from evloop.system.stdin import Input, LineReader
from evloop.system.stdout import Writer
from evloop.system.timers import nothing
from evloop.terminal.graphemes import width
from evloop.terminal.layout import HANGING_COLUMNS, broken_at_blanks, hung
from evloop.terminal.limits import COLUMNS_DEFAULT, LINES_WAITING_MAX
from evloop.terminal.tty import hide_echo, in_foreground, set_escape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from evloop.system.loop import Loop
    from evloop.system.stdin import Owner

    Answered = Callable[[str, str], object]


# What the reader calls it -> what whoever asks is told: the escape key, a line that is no text.
_ANSWERS = {"escape": ("interrupt", ""), "bad": ("line", "")}


class LineMode:
    """Stdin, stdout and stderr as lines. `is_terminal`: they are a terminal."""

    edits = False

    def __init__(self, loop: Loop, escape: bytes, on_gone: Callable[[str], object]) -> None:
        self.is_terminal = os.isatty(0) and os.isatty(1)
        self.private = True  # nothing is kept here
        self.owner: Owner | None = None
        self.complete: Callable[[str, int], list[str]] = _no_candidates  # no Tab here
        self._room = ""  # the name of the room that we are in
        self._out = Writer(1, loop, on_gone)
        self._err = Writer(2, loop)
        self._escape = escape if os.isatty(0) else b""
        self._restore: Callable[[], object] = nothing
        self._reader = LineReader(self._escape)
        self._loop = loop
        self._input: Input | None = None
        self._waiting: deque[tuple[str, str]] = deque()
        self._held = False
        self._started = False  # input is read
        self._ended = False
        self._answered: Answered | None = None  # a question waits for a line that is not shown
        self._question = ""
        self._row = ""  # the prompt or the question that the cursor stands behind
        self._cut = False  # a line has come, and the row is to be shown again
        self._show_again: Callable[[], object] = nothing

    def start(self) -> None:
        """Begin to read stdin."""
        if self._escape:
            self._restore = set_escape(0, self._escape)
        if self._input is not None:  # a question was asked before
            self._input.close()
        self._input = Input(self._loop, 0, self.on_data, in_foreground)
        self._started = True

    # -- out ---------------------------------------------------------------------------------

    def show(self, text: str) -> None:
        """A line of data: a chat line or a result."""
        self._end_row()
        self._out.line(text)

    def note(self, text: str, manner: str = "") -> None:
        """A line that is not data; a sentence on a terminal is broken between words only."""
        seen = os.isatty(2)
        if manner != "text" and seen:
            text = broken_at_blanks(text, _columns())
        else:
            text = self._hung(text, HANGING_COLUMNS)
        if seen:
            self._end_row()
        self._err.line(text)

    def _hung(self, text: str, indent: int) -> str:
        if not self.is_terminal:
            return text
        wide = _columns()
        return "\n".join([hung(row, 0, wide, indent) for row in text.split("\n")])

    def message(
        self,
        time: str,
        parts: tuple[str, str, str, list[str]],
        *,
        old: bool,
        mention: bool,
        bell: bool,
        own: bool,
    ) -> None:
        """A chat line (`parts` of report.message_parts); further lines of it are indented."""
        if own and self.is_terminal:
            return  # it is on the screen already, as it was typed
        before, who, after, lines = parts
        head = time + before + who + after
        indent = width(head)
        text = self._hung(head + ("\n" + " " * indent).join(lines), indent)
        self.show(text + "\a" if bell and self.is_terminal else text)

    def prompt(self, text: str, *, chatting: bool) -> None:
        """Show where Enter will send the line: on a terminal only, and not in a room."""
        self._room = text.removesuffix("> ").rstrip() if chatting else ""
        if self.is_terminal and not chatting and not self.asking:
            self._begin_row(text)

    def _begin_row(self, text: str) -> None:
        """Show `text`, the prompt or a question, unless it is what the cursor stands behind."""
        if self._cut or self._row != text:
            self._out.write(text)
        self._row, self._cut = text, False

    def _end_row(self) -> None:
        """A line comes."""
        if self._row and not self._cut:
            self._cut = True
            self._out.line("")
            self._loop.defer(self._show_row)  # behind all the lines that come now

    def _show_row(self) -> None:
        if self._row and self._cut:
            self._begin_row(self._row)

    def progress(self, text: str) -> None:
        """Do nothing: progress is a line that is replaced, and this frontend redraws nothing."""

    def put_back(self, text: str) -> None:
        """The line could not be sent: show it, since it cannot be put back to be edited."""
        if self.is_terminal:
            self.note(f"not sent: {text}", "text")

    # -- a question ----------------------------------------------------------------------------

    def ask(self, question: str, done: Answered) -> None:
        """Ask for a line that is not shown. `done(kind, text)`: as in `terminal.hidden`.

        Only on a terminal. The line is read whole by its driver, with the echo off.
        """
        if not self._question:  # the first one
            self._loop.on_signal(signal.SIGTSTP, self._stop)
            self._loop.on_signal(signal.SIGQUIT, self._abort)
        if self._input is None:  # a command that reads no input: it reads the answer alone
            self._input = Input(self._loop, 0, self._on_answer, in_foreground)
        self._answered, self._question = done, question
        self._ask_again()

    def unask(self) -> None:
        """Give the question up, if there is one: `done("interrupt", "")`."""
        if self._answered is not None:
            self._reader.drop()  # Ctrl-D has handed over a part of a key, perhaps
            self._answer("interrupt", "")

    @property
    def asking(self) -> bool:
        """Whether a question waits for its answer."""
        return self._answered is not None

    def _ask_again(self) -> None:
        self._show_again = hide_echo(0)  # first: who sees the question may type at once
        if self._row and not self._cut:
            self._out.line("")
        self._row = ""
        self._begin_row(self._question)

    def _answer(self, kind: str, text: str) -> None:
        show_again, self._show_again = self._show_again, nothing
        show_again()
        if not self._cut:
            self._out.line("")  # the Enter was not shown either
        self._row = ""
        if self._input is not None and not self._started:
            self._input.close()
            self._input = None
        done, self._answered = self._answered, None
        assert done is not None
        done(kind, text)

    def _on_answer(self, data: bytes) -> None:
        """What was typed at a question of a command that reads no input; the rest is dropped."""
        if self._answered is not None:
            self.on_data(data)
            self._waiting.clear()

    def _stop(self) -> None:
        """Ctrl-Z: the shell gets its terminal with the echo on."""
        if self._answered is not None:
            self._show_again()
        os.kill(os.getpid(), signal.SIGSTOP)
        self._row = ""  # the shell has drawn there
        if self._answered is not None:
            self._ask_again()

    def _abort(self) -> None:
        """Ctrl-\\: give the terminal back and end by that signal, as the user asked."""
        self._show_again()
        self._restore()
        signal.signal(signal.SIGQUIT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGQUIT)

    @property
    def queued(self) -> int:
        """Bytes of output not yet written."""
        return self._out.queued + self._err.queued

    def close(self) -> None:
        """Give the terminal back; wait a moment for a slow reader of the last lines."""
        if self._input is not None:
            self._input.close()
        show_again, self._show_again = self._show_again, nothing
        show_again()
        self._out.drain(2.0)
        self._err.drain(0.5)
        self._out.close()
        self._err.close()
        restore, self._restore = self._restore, nothing
        restore()

    # -- in ----------------------------------------------------------------------------------

    def hold(self, held: bool) -> None:
        """While held, lines wait: the command before them is still running."""
        self._held = held
        if self._waiting or self._ended:
            self._loop.defer(self.hand_out)

    def on_data(self, data: bytes) -> None:
        if data:
            lines = self._reader.feed(data)
            if self._answered is not None and lines:
                kind, text = lines.pop(0)
                self._loop.guard(self, self._answer, *(_ANSWERS.get(kind) or (kind, text)))
            self._waiting += lines
        elif self._answered is not None:
            self._reader.drop()
            self._loop.guard(self, self._answer, "eof", "")
            return
        elif self._reader.partial or not self.is_terminal:
            self._waiting += self._reader.finish()
        if not data:
            self._waiting.append(("eof", ""))
        self.hand_out()

    def _next(self) -> int:
        """The index of the line to hand out now, or -1. A script's lines keep their order."""
        if not self._held:
            return 0
        assert self.owner is not None
        for at, (kind, text) in enumerate(self._waiting):
            if kind == "escape" and not at:
                return at
            if kind == "line" and self.is_terminal and self.owner.passes(text):
                return at
        return -1

    def hand_out(self) -> None:
        waiting = self._waiting
        while waiting:
            at = self._next()
            if at < 0:
                break
            kind, text = waiting[at]
            del waiting[at]
            self._row = ""  # its Enter was shown
            owner = self.owner  # a line may set another one
            assert owner is not None
            tell = {"line": owner.line, "bad": owner.bad_line}
            ends: dict[str, Callable[[], object]] = {"escape": owner.leave, "eof": owner.eof}
            if kind == "line" and self._room and self.is_terminal and not text.strip():
                self.note(f"-- in {self._room}: what you type is said here; /leave goes back --")
            elif kind in tell:
                self._loop.guard(self, tell[kind], text)
            else:
                self._loop.guard(self, ends[kind])
        if self._input is not None:
            self._input.want_read(len(waiting) < LINES_WAITING_MAX)


def _columns() -> int:
    """The width of the terminal on stderr."""
    try:
        return os.get_terminal_size(2).columns or COLUMNS_DEFAULT
    except OSError:  # it has just gone
        return COLUMNS_DEFAULT


def _no_candidates(text: str, cursor: int) -> list[str]:
    return []
