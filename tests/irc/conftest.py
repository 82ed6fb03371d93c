"""What the tests of the IRC door as a process share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.irc.live import DoorProcess


@pytest.fixture
def door() -> Iterator[DoorProcess]:
    one = DoorProcess()
    try:
        yield one.ready()
    finally:
        one.close()
