"""What a person is told when something happened that nobody has foreseen."""

from __future__ import annotations

import errno
import os

import pytest

from evloop.base.errors import FAILED, INTERNAL
from evloop.system.unexpected import told

REFUSES = "this system refuses a call that evloop needs: "
SHOWS = "; --debug shows where"


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EPERM])
def test_a_call_that_is_refused_is_no_mistake_of_ours(number: int) -> None:
    why = os.strerror(number)
    assert told(OSError(number, why)) == (REFUSES + why + SHOWS, FAILED)
    named = f"{REFUSES}{why}: '/a'{SHOWS}"
    assert told(OSError(number, why, "/a")) == (named, FAILED)


@pytest.mark.parametrize("error", [OSError(errno.EBADF, "Bad file descriptor"), KeyError("x")])
def test_all_else_is(error: Exception) -> None:
    what = f"{type(error).__name__}: {error}"
    assert told(error) == (f"internal error: {what}{SHOWS}", INTERNAL)
