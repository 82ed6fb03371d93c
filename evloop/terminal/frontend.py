"""Which frontend the client shows: the line editor, or cooked lines."""

from __future__ import annotations

import os

from evloop.terminal.graphemes import set_ambiguous
from evloop.terminal.tty import is_smart

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Mapping
    from typing import Protocol

    from evloop.system.loop import Loop
    from evloop.system.stdin import Owner
    from evloop.terminal.line import Draft
    from evloop.terminal.line_mode import Answered, LineMode
    from evloop.terminal.screen_mode import ScreenMode

    class Answering(Protocol):
        """What a command needs of them, to answer."""

        @property
        def is_terminal(self) -> bool: ...
        def show(self, text: str) -> None: ...
        def note(self, text: str, manner: str = "") -> None: ...
        def progress(self, text: str) -> None: ...

    class RoomFrontend(Protocol):
        """What one room needs of stdin, stdout and stderr together.

        `show` writes data (stdout), `note` what is not data (stderr). The `manner` of a note is
        "" for a sentence to the user, "answer" for one that comes at once because a line was typed,
        "error" for one that must not be missed, "remark" for one that may be overlooked, "front"
        for such a one that comes at once because a key or command asked for it, "text" for text
        with its own line breaks. Of a room three kinds of remarks have their own manner, for where
        there are several rooms: "presence", who came and went; "day", the day of the next message;
        "left", that the room is left.
        """

        @property
        def is_terminal(self) -> bool: ...
        def hold(self, held: bool) -> None: ...
        def show(self, text: str) -> None: ...
        def note(self, text: str, manner: str = "") -> None: ...
        def message(
            self,
            time: str,
            parts: tuple[str, str, str, list[str]],
            *,
            old: bool,
            mention: bool,
            bell: bool,
            own: bool,
        ) -> None: ...
        def put_back(self, text: str) -> None: ...

    class Frontend(RoomFrontend, Protocol):
        """What the client needs of them.

        `complete` is set by the owner: (text of the line, cursor) -> candidates for the word at the
        cursor. `edits`: it is the line editor, so that the line can be another one. `ask`, on a
        terminal only, is for a line that is not shown; `asking`: it waits for it. `private`: what
        is typed now goes into no file.
        """

        edits: bool
        private: bool
        owner: Owner | None
        complete: Callable[[str, int], list[str]]

        @property
        def asking(self) -> bool: ...
        def start(self) -> None: ...
        def close(self) -> None: ...
        def prompt(self, text: str, *, chatting: bool) -> None: ...
        def progress(self, text: str) -> None: ...
        def ask(self, question: str, done: Answered) -> None: ...
        def unask(self) -> None: ...

    class Editing(Frontend, Protocol):
        """A frontend that `edits`: see `ScreenMode`."""

        on_switch: Callable[[str], object]

        def swap_line(self, draft: Draft) -> Draft: ...
        def set_several(self, several: bool) -> None: ...
        def bell(self) -> None: ...


def open_frontend(
    loop: Loop,
    options: Namespace,
    on_gone: Callable[[str], object],
    is_command: Callable[[str, bool], bool],
) -> ScreenMode | LineMode:
    """The frontend for this terminal, or these pipes, and for what the user asked for.

    `is_command(line, chatting)`: whether a line that is submitted in a room or at the main prompt
    is a command. Only commands go into the history file: what was said in a room is not for the
    next user of this machine.
    """
    set_ambiguous(options.wide)
    if options.plain or options.json or options.prints or not is_smart(os.environ, 0, 1):
        from evloop.terminal.line_mode import LineMode  # late: one of the two is loaded

        return LineMode(loop, options.escape, on_gone)
    from evloop.terminal.screen_mode import ScreenMode

    return ScreenMode(
        loop,
        escape=options.escape,
        color=wants_color(options.color, os.environ),
        slow=options.slow,
        history=not options.no_history,
        is_command=is_command,
    )


def wants_color(choice: str, environ: Mapping[str, str]) -> bool:
    """--color wins; else colour unless NO_COLOR (no-color.org) is set and not empty."""
    return choice == "always" or (choice == "auto" and not environ.get("NO_COLOR"))


def is_tty() -> bool:
    """Whether both standard input and standard output are terminals."""
    return os.isatty(0) and os.isatty(1)
