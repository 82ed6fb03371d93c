"""What several rooms cost: bytes to the terminal, and memory with 16 rooms."""

from __future__ import annotations

import tracemalloc

import pytest

from evloop.app.limits import ROOMS_HISTORY_MESSAGES_MAX
from evloop.terminal.room_notes import front, prompt
from tests.support.rooms import ANN, Room, data
from tests.support.several import Several


class Drawn:
    """Two rooms, the first in front; what the editor draws is counted."""

    def __init__(self) -> None:
        self.world = Several()
        screen = self.world.frontend
        self.editor = screen.editor
        screen.prompt = self._prompt  # type: ignore[method-assign]
        screen.note = self._note  # type: ignore[method-assign]
        self.world.enter("lab")
        self.world.enter("garden")
        self.world.rooms.switch(self.world.pane("lab"))
        self.bytes()

    def _prompt(self, text: str, *, chatting: bool) -> None:
        self.editor.set_prompt(text, echo=False)

    def _note(self, text: str, manner: str = "") -> None:
        self.editor.above(text, urgent=True)

    def bytes(self) -> bytes:
        return self.editor.take(0.0)


@pytest.mark.parametrize("typed", ["", "x" * 29])
@pytest.mark.parametrize("wanted", [" ", "*", "!"])
def test_the_mark_of_the_prompt_costs_at_most_12_bytes(typed: str, wanted: str) -> None:
    drawn = Drawn()
    drawn.world.frontend.press(typed.encode())
    drawn.bytes()
    garden = drawn.world.pane("garden").backlog
    garden.unread, garden.for_you = int(wanted == "*"), int(wanted == "!")
    if wanted == " ":
        garden.unread = 1
        drawn.world.rooms.refresh()
        drawn.bytes()
        garden.unread = 0
    drawn.world.rooms.refresh()
    assert drawn.world.rooms.prompt() == f"1:lab{wanted}> "
    assert 0 < len(drawn.bytes()) <= 12
    drawn.world.loop.close()


def test_another_room_to_the_front_costs_at_most_30_bytes_and_its_line() -> None:
    drawn = Drawn()
    drawn.world.rooms.switch(drawn.world.pane("garden"))
    line, there = front(2, "garden"), prompt(2, "garden", " ")
    written = drawn.bytes()
    assert line.encode() in written and there.strip().encode() in written
    assert len(written) - len(line) <= 30
    drawn.world.loop.close()


def test_all_rooms_of_a_process_hold_at_most_24_mb() -> None:
    """16 rooms whose share of the history is full of messages of 53 characters."""
    share = ROOMS_HISTORY_MESSAGES_MAX // 16
    tracemalloc.start()
    try:
        rooms = [Room(seed=n) for n in range(2)]
        before, _ = tracemalloc.get_traced_memory()
        for room in rooms:
            room.session.limit_history(share)
            for seq in range(share + 10):
                room.now += 0.2
                text = f"{seq:053}"
                room.session.receive_datagram(data(ANN, seq, text), "there", room.now)
                room.session.handle_timer(room.now)
                room.session.events()
                room.session.datagrams_to_send()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert all(room.stat("history") == share for room in rooms)
    assert 8 * (after - before) <= 24_000_000
