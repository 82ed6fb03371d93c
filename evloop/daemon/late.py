"""Modules that a server loads with the first need for them: its files may be others by then.

A server runs for months, and most never relay or keep a room: what does that is loaded when it is
needed first. By then the program may have been upgraded under the server (`git pull`, `pip install
-U`), or be gone. What cannot be loaded any more is switched off and the log says so, once: nobody
who is connected is cut off for it.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from evloop.system.log import Log

    T = TypeVar("T")

# What an import raises where a file is gone, or fits those that are loaded no more.
_MISFITS = (ImportError, AttributeError, SyntaxError, OSError)


def load_late(log: Log, what: str, load: Callable[[], T]) -> T | None:
    """What `load` returns, which imports and does nothing else; None where that cannot be had.

    `what` it is for is told in the log then.
    """
    try:
        return load()
    except _MISFITS as error:
        why = f"{type(error).__name__}: {error}"
        log.error("the files of this program are others now; restart it", lost=what, why=why)
        return None
