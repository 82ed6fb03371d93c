"""The frontend of the client without a line editor: pipes, files, a cooked terminal.

Lines come in whole, lines go out whole; there is no redraw and no escape byte. On a terminal the
escape key is the second end-of-line character (VEOL), so that the kernel hands the line over at
once, without Enter. Results and chat go to stdout, everything else to stderr.

A frontend tells its owner (set with `owner`): `line(text)`, `leave()` for the escape key, `eof()`
for the end of input, or Ctrl-D on an empty line, and `bad_line(why)` for what is no line of text.
"""

from __future__ import annotations

import os
from collections import deque

from evloop.system.stdin import Input, LineReader
from evloop.system.stdout import Writer
from evloop.system.timers import nothing
from evloop.terminal.limits import LINES_WAITING_MAX
from evloop.terminal.tty import in_foreground, set_escape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from evloop.system.loop import Loop

    class Owner(Protocol):
        def line(self, text: str) -> None: ...
        def passes(self, text: str) -> bool: ...
        def suspending(self) -> str: ...
        def bad_line(self, why: str) -> None: ...
        def leave(self) -> None: ...
        def interrupt(self) -> None: ...
        def eof(self) -> None: ...


class LineMode:
    """Stdin, stdout and stderr as lines. `is_terminal`: a person sits there."""

    def __init__(self, loop: Loop, escape: bytes, on_gone: Callable[[str], object]) -> None:
        self.is_terminal = os.isatty(0) and os.isatty(1)
        self.owner: Owner | None = None
        self.complete: Callable[[str, int], list[str]] = _no_candidates  # no Tab here
        self._out = Writer(1, loop, on_gone)
        self._err = Writer(2, loop)
        self._escape = escape if os.isatty(0) else b""
        self._restore: Callable[[], object] = nothing
        self._reader = LineReader(self._escape)
        self._loop = loop
        self._input: Input | None = None
        self._waiting: deque[tuple[str, str]] = deque()
        self._held = False
        self._ended = False

    def start(self) -> None:
        """Begin to read stdin."""
        if self._escape:
            self._restore = set_escape(0, self._escape)
        self._input = Input(self._loop, 0, self._on_data, in_foreground)

    # -- out ---------------------------------------------------------------------------------

    def show(self, text: str) -> None:
        """A line of data: a chat line or a result."""
        self._out.line(text)

    def note(self, text: str) -> None:
        """A line that is not data."""
        self._err.line(text)

    def message(
        self,
        time: str,
        parts: tuple[str, str, str, list[str]],
        *,
        old: bool,
        mention: bool,
        bell: bool,
    ) -> None:
        """A chat line (`parts` of report.message_parts); further lines of it are indented."""
        before, who, after, lines = parts
        head = time + before + who + after
        self._out.line(head + ("\n" + " " * len(head)).join(lines))

    def prompt(self, text: str, *, chatting: bool) -> None:
        """Say where Enter will go; only a person is told, and in a room it would be in the way."""
        if self.is_terminal and not chatting:
            self._out.write(text)

    def progress(self, text: str) -> None:
        """Progress is a line that is replaced: there is none without redraw."""

    def put_back(self, text: str) -> None:
        """The line could not be sent: a cooked terminal can only show it again."""
        if self.is_terminal:
            self._err.line(f"not sent: {text}")

    @property
    def queued(self) -> int:
        """Bytes of output not yet written."""
        return self._out.queued + self._err.queued

    def close(self) -> None:
        """Give the terminal back; wait a moment for a slow reader of the last lines."""
        if self._input is not None:
            self._input.close()
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
            self._loop.defer(self._hand_out)

    def _on_data(self, data: bytes) -> None:
        if data:
            self._waiting += self._reader.feed(data)
        elif self._reader._partial or not self.is_terminal:
            self._waiting += self._reader.finish()
        if not data:
            self._waiting.append(("eof", ""))
        self._hand_out()

    def _next(self) -> int:
        """Which of what waits is handed out now; -1: none. A script's lines keep their order."""
        if not self._held:
            return 0
        assert self.owner is not None
        for at, (kind, text) in enumerate(self._waiting):
            if kind == "escape" and not at:
                return at
            if kind == "line" and self.is_terminal and self.owner.passes(text):
                return at
        return -1

    def _hand_out(self) -> None:
        owner, waiting = self.owner, self._waiting
        assert owner is not None
        tell = {"line": owner.line, "bad": owner.bad_line}
        ends: dict[str, Callable[[], object]] = {"escape": owner.leave, "eof": owner.eof}
        while waiting:
            at = self._next()
            if at < 0:
                break
            kind, text = waiting[at]
            del waiting[at]
            if kind in tell:
                self._loop.guard(self, tell[kind], text)
            else:
                self._loop.guard(self, ends[kind])
        if self._input is not None:
            self._input.want_read(len(waiting) < LINES_WAITING_MAX)


def _no_candidates(text: str, cursor: int) -> list[str]:
    return []
