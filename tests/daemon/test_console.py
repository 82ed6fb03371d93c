"""The operator's console, and what a hang-up means to it."""

from __future__ import annotations

import os
import pty
from collections.abc import Iterator

import pytest

from evloop.daemon.console import Console
from evloop.daemon.limits import HANG_UP_S
from tests.support.live import House


@pytest.fixture
def master() -> Iterator[int]:
    """A terminal is our standard input; this is its other side."""
    kept = os.dup(0)
    outer, inner = pty.openpty()
    os.dup2(inner, 0)
    os.close(inner)
    yield outer
    os.dup2(kept, 0)
    os.close(kept)


def test_who_was_spared_when_the_terminal_went_is_not_ended_by_a_later_hang_up(master: int) -> None:
    house = House()
    console = Console(house.loop, house.dispatcher, lambda: None)
    try:
        house.tick(3)
        assert not console.hung_up()  # the terminal is there: SIGHUP is a wish
        os.close(master)
        assert console.hung_up()
        house.tick(3)
        assert console.hung_up()
        house.skip(HANG_UP_S + 1.0)
        assert not console.hung_up()
    finally:
        console.close()
        house.close()
