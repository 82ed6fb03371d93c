"""What work costs, counted instead of timed: the same on a busy machine as on a quiet one."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable


def calls(act: Callable[[], object]) -> int:
    """How many functions, of Python and of C, are called while `act` runs in this process.

    A call of a C function counts as one, however long it takes: this finds work that is done too
    often, not work that is slow.
    """
    count = 0

    def on_event(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before, collecting = sys.getprofile(), gc.isenabled()
    gc.disable()  # finalizers of whoever came before are not the work of `act`
    sys.setprofile(on_event)
    try:
        act()
    finally:
        sys.setprofile(before)
        if collecting:
            gc.enable()
    return count
