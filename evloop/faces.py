"""Which face the client shows: the line editor, or cooked lines. Floor 6."""

import os

from evloop.cooked import CookedFace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from evloop.cooked import Owner
    from evloop.loop import Loop

    class Face(Protocol):
        """What the client needs of stdin, stdout and stderr together.

        `show` writes data (stdout), `note` what is not data (stderr), `error` what went wrong.
        """

        is_terminal: bool
        owner: Owner | None

        def start(self) -> None: ...
        def close(self) -> None: ...
        def hold(self, held: bool) -> None: ...
        def show(self, text: str) -> None: ...
        def note(self, text: str) -> None: ...
        def message(
            self,
            time: str,
            parts: tuple[str, str, str, list[str]],
            *,
            old: bool,
            mention: bool,
            bell: bool,
        ) -> None: ...
        def prompt(self, text: str, *, chatting: bool) -> None: ...
        def progress(self, text: str) -> None: ...
        def put_back(self, text: str) -> None: ...


def open_face(
    loop: "Loop",
    *,
    cooked: bool,
    escape: bytes,
    on_gone: "Callable[[], object]",
) -> "Face":
    """The face for this terminal, or these pipes; `cooked` is what the user asked for."""
    return CookedFace(loop, escape, on_gone)


def is_tty() -> bool:
    """Whether a person sits at both ends."""
    return os.isatty(0) and os.isatty(1)
