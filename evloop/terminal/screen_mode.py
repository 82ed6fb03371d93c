"""The frontend of the client with the line editor, on a terminal.

What is typed goes to the editor, what the editor draws goes to the terminal once a tick, from a
before_sleep hook. The terminal's states:

    state       Ctrl-Z, SIGTSTP   continued (SIGCONT), or the poll     hung up, close()
    foreground  -> stopped        stays                                -> closed
    stopped     -                 -> foreground or background          -
    background  -                 -> foreground when it is ours again  -> closed
    closed      -                 -                                    -

In the background nothing is drawn or read; messages wait in the editor. `fg` after `bg` sends no
signal, so a timer asks whether the terminal is ours.
"""

from __future__ import annotations

import os
import signal

from evloop.system.files import (
    load_history,
    save_history,
    state_directory,
)
from evloop.system.limits import FOREGROUND_POLL_S
from evloop.system.timers import NEVER, nothing
from evloop.terminal.editor import Editor
from evloop.terminal.graphemes import width
from evloop.terminal.layout import broken_at_blanks
from evloop.terminal.limits import BAUD_SLOW, LINES_WAITING_MAX
from evloop.terminal.line import Draft
from evloop.terminal.tty import Tty, charset_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from evloop.system.loop import Loop
    from evloop.system.stdin import Owner
    from evloop.terminal.line_mode import Answered

# SGR codes that are readable on dark and light ground; a nickname always has the same one.
_COLORS = ("31", "32", "33", "34", "35", "36")
_DIM, _REVERSE = "2", "7"
# What may be overlooked, which of it answers a key, and what must not be overlooked.
_TINTS = {"remark": _DIM, "front": _DIM, "error": "1;31"}
_URGENT = ("answer", "error", "front", "text")


def color_of(name: str) -> str:
    """The colour of a nickname: the same in every run and on every machine."""
    from binascii import crc32  # late: the first prompt does not need this extension module

    return _COLORS[crc32(name.encode(errors="replace")) % len(_COLORS)]


class ScreenMode:
    """The line editor on a terminal. The owner sets `complete`: (text, cursor) -> candidates, and
    `on_switch(key)`, which is told of a key that asks for another room."""

    edits = True

    def __init__(
        self,
        loop: Loop,
        *,
        escape: bytes,
        color: bool,
        slow: bool,
        history: bool,
        is_command: Callable[[str, bool], bool],
    ) -> None:
        self.is_terminal = True
        self.private = False
        self.owner: Owner | None = None
        self.complete: Callable[[str, int], list[str]] = _no_candidates
        self.on_switch: Callable[[str], object] = nothing
        self._loop = loop
        self.color = color
        self._waiting: list[str] = []
        self._answered: Answered = nothing
        self._set_aside = Draft()  # what was typed when a question came
        self._prompt = "", False
        self._held = False
        self._directory = state_directory(os.environ) if history else None
        self._chatting = False
        self._kept = lambda text: is_command(text, False)  # of the lines of a history file
        self._loaded = load_history(self._directory, self._kept) if self._directory else []
        self._terminal = Tty()
        self.columns, rows = self._terminal.size()
        self.editor = Editor(
            self.columns,
            rows,
            prompt="",
            echo=True,
            complete=self._candidates,
            is_command=lambda text: not self.private and is_command(text, self._chatting),
            history=list(self._loaded),
            escape=escape[0],
            charset=charset_of(os.environ),
            shift=os.environ.get("TERM") != "vt100",
            slow=slow or self._terminal.baud < BAUD_SLOW,
        )
        self._expected = False  # SIGCONT, after our own suspend
        self._mine = False  # whether the terminal is ours: in the foreground
        self._full = False  # the terminal had not taken all when it was last looked at
        self._started = False
        terminal = self._terminal
        self._watch = loop.watch(terminal, self._on_read, self._on_write, terminal.close)
        self._watch.want_read(False)
        self._timer = loop.call_at(NEVER, self._on_timer)
        self._poll = loop.call_at(NEVER, self._come_back)

    def start(self) -> None:
        """Take the terminal, as soon as it is ours, and begin to read."""
        self._started = True
        loop = self._loop
        loop.on_signal(signal.SIGWINCH, self._resize)
        loop.on_signal(signal.SIGCONT, self._continued)
        loop.on_signal(signal.SIGTSTP, self._suspend)
        loop.on_signal(signal.SIGQUIT, self._abort)
        loop.before_sleep(self._draw)
        self._come_back()

    def close(self) -> None:
        """Keep the history; give the terminal back as it was."""
        if self._watch.fd < 0:
            return
        if not self._started:
            self._come_back()  # the reason why we could not start must be shown
        if self._directory is not None:
            try:
                save_history(self._directory, self._loaded, self.editor.commands, self._kept)
            except OSError as error:
                self.note(f"evloop: the history was not kept: {error.strerror}")
        if self._mine:
            self.editor.hide()
            self._terminal.write(self.editor.take(self._loop.now))
        self._watch.close()

    # -- out -------------------------------------------------------------------------------------

    def show(self, text: str) -> None:
        """A line of data: the result of a command."""
        self.editor.above(text, urgent=True)

    def note(self, text: str, manner: str = "") -> None:
        """A line of the program itself; `manner` as in `Frontend`."""
        if manner != "text":
            text = broken_at_blanks(text, self.columns)
        tint = _TINTS.get(manner, "") if self.color else ""
        # Notes that others can cause wait with the chat lines, whose number has a cap for a slow
        # terminal; answers to typed lines do not wait.
        self.editor.above([(tint, text)], urgent=manner in _URGENT)

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
        before, who, after, lines = parts
        text = "\n".join(lines)
        indent = width(time + before + who + after)
        if old and self.color:
            pieces = [(_DIM, time + before + who + after + text)]
        elif mention:
            pieces = [("", time), (_REVERSE, before + who + after + text)]
        else:
            tint = color_of(who) if self.color and who else ""
            pieces = [("", time + before), (tint, who), ("", after + text)]
        self.editor.above(pieces, indent=indent)
        if bell:
            self.editor.bell()

    def prompt(self, text: str, *, chatting: bool) -> None:
        """Say where Enter will go. A message is printed once, as others see it: no echo."""
        self._chatting = chatting
        self._prompt = text, chatting
        if self.asking:
            return  # until it is answered
        self.editor.busy = self._held and not chatting
        self.editor.set_prompt(text, echo=not chatting)

    def progress(self, text: str) -> None:
        """One line that is replaced; "" takes it away."""
        self.editor.progress(text)

    def swap_line(self, draft: Draft) -> Draft:
        """Another room has the line: see `Editor.swap_line`."""
        return self.editor.swap_line(draft)

    def set_several(self, several: bool) -> None:
        """Whether there are several rooms, and Alt with an arrow goes to the next."""
        self.editor.several = several

    def bell(self) -> None:
        self.editor.bell()

    def put_back(self, text: str) -> None:
        """The line could not be sent: it goes back into the line editor."""
        if text and not self.editor.restore(text):
            self.note("Ctrl-Y brings the unsent line back")

    def _candidates(self, text: str, cursor: int) -> list[str]:
        return self.complete(text, cursor)

    def ask(self, question: str, done: Answered) -> None:
        """Ask for a line that is not shown. `done(kind, text)`: as in `terminal.hidden`."""
        from evloop.terminal.hidden import HiddenLine  # late: few rooms are sealed

        editor = self.editor
        if editor.secret is None:
            self._set_aside = editor.swap_line(Draft())
        self._answered, editor.search, editor.secret = done, None, HiddenLine()
        editor.set_prompt(question, echo=False)

    def unask(self) -> None:
        """Give the question up, if there is one: `done("interrupt", "")`."""
        if self.editor.secret is not None:
            self._answer("interrupt", "")

    @property
    def asking(self) -> bool:
        """Whether a question waits for its answer."""
        return self.editor.secret is not None

    def _answer(self, kind: str, text: str) -> None:
        editor = self.editor
        editor.secret = None
        editor.swap_line(self._set_aside)
        text_before, chatting = self._prompt
        self.prompt(text_before, chatting=chatting)
        done, self._answered = self._answered, nothing
        done(kind, text)

    # -- in --------------------------------------------------------------------------------------

    def hold(self, held: bool) -> None:
        """While held, lines wait: the command before them is still running."""
        self._held = held
        # In a room Ctrl-C leaves, so that it is asked for twice whatever runs.
        self.editor.busy = held and not self._chatting
        if self._waiting:
            self._loop.defer(self.hand_out)

    def hand_out(self) -> None:
        assert self.owner is not None
        waiting = self._waiting
        while waiting:
            at = 0
            if self._held:
                urgent = (n for n, text in enumerate(waiting) if self.owner.passes(text))
                at = next(urgent, -1)
            if at < 0:
                break
            self._loop.guard(self, self.owner.line, waiting.pop(at))
        self._watch.want_read(self._mine and len(self._waiting) < LINES_WAITING_MAX)

    def _on_read(self) -> None:
        data = self._terminal.read()
        if data is None:
            return
        if not data:
            self._mine = False
            self._watch.want_read(False)
            os.kill(os.getpid(), signal.SIGHUP)  # the terminal is gone: as if its driver had told
            return
        self._handle(self.editor.feed(data, self._loop.now))

    def _on_timer(self) -> None:
        self._handle(self.editor.handle_timer(self._loop.now))

    def _handle(self, events: Iterable[tuple[Any, ...]]) -> None:
        for kind, *rest in events:
            self._loop.guard(self, HANDLERS[kind], self, *rest)

    def _line(self, text: str) -> None:
        self._waiting.append(text)
        self.hand_out()

    def _leave(self) -> None:
        assert self.owner is not None
        self.editor.discard()  # a line that was meant for the room is no command
        self.owner.leave()

    def _interrupt(self) -> None:
        assert self.owner is not None
        self.owner.interrupt()

    def _eof(self) -> None:
        assert self.owner is not None
        self.owner.eof()

    def _switch(self, key: str) -> None:
        self.on_switch(key)

    def _hint(self, text: str) -> None:
        self.editor.above(text, urgent=True)

    # -- the terminal ----------------------------------------------------------------------------

    def _draw(self) -> None:
        terminal, editor = self._terminal, self.editor
        # Most ticks change nothing here: going on would cost each of them 14,000 instructions.
        if not self._mine or not (editor.touched or self._full):
            return
        if not terminal.pending:
            data = editor.take(self._loop.now)
            if data:
                terminal.write(data)
        if terminal.refused:
            editor.slow()
        self._full = terminal.pending
        self._watch.want_write(self._full)
        self._timer.move(editor.next_deadline(not self._full))

    def _on_write(self) -> None:
        self._terminal.flush()

    def _resize(self) -> None:
        self.columns, rows = self._terminal.size()
        self.editor.resize(self.columns, rows)

    def _suspend(self) -> None:
        if not self._mine:
            return
        sentence = self.owner.suspending() if self.owner is not None else ""
        if sentence:
            self.note(sentence)
        self.editor.hide()
        self._terminal.write(self.editor.take(self._loop.now))
        self._mine = False
        self._expected = True
        self._terminal.suspend()  # returns when the shell lets us go on
        self._come_back()

    def _continued(self) -> None:
        """SIGCONT came: expected after our own `suspend`, unexpected after a SIGSTOP."""
        if self._expected:
            self._expected = False
            return
        self._mine = False  # the shell had it, and has drawn there
        self._come_back()

    def _come_back(self) -> None:
        if self._watch.fd < 0:
            return
        if self._terminal.resume():
            if not self._mine:
                self._mine = True
                self._resize()
                self.editor.show()
            self._watch.want_read(len(self._waiting) < LINES_WAITING_MAX)
            return
        self._mine = False
        self._watch.want_read(False)
        self._watch.want_write(False)
        self._timer.move(NEVER)
        self._poll.move(self._loop.now + FOREGROUND_POLL_S)

    def _abort(self) -> None:
        """Ctrl-\\: give the terminal back and end by that signal, as the user asked."""
        self._watch.close()
        signal.signal(signal.SIGQUIT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGQUIT)


def _no_candidates(text: str, cursor: int) -> list[str]:
    return []


HANDLERS: dict[str, Callable[..., None]] = {
    "answer": ScreenMode._answer,
    "line": ScreenMode._line,
    "leave": ScreenMode._leave,
    "eof": ScreenMode._eof,
    "hint": ScreenMode._hint,
    "switch": ScreenMode._switch,
    "interrupt": ScreenMode._interrupt,
    "suspend": ScreenMode._suspend,
    "abort": ScreenMode._abort,
}
