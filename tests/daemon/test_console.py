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


def test_rooms_that_are_relayed_are_marked(master: int) -> None:
    house = House("--interface", "127.0.0.1")
    console = Console(house.loop, house.dispatcher, lambda: None)
    names = [f"marked-{os.getpid()}-{number}" for number in range(2)]
    house.call(house.caller(), "makeroom", name=names[0])
    house.call(house.caller(), "makeroom", name=names[1], mode="plain")
    try:
        for number, (name, relay) in enumerate(zip((*names, names[0]), ("full", "up", "off"))):
            wish = {"name": name, "sender": f"{number + 1:016x}", "relay": relay}
            house.call(house.caller(), "enter", **wish)
        first, second = console.answer("rooms")
        assert first.endswith("2 here, 1 relayed")
        assert second.endswith("1 here, 1 relayed  plain")
    finally:
        console.close()
        house.close()
        os.close(master)
