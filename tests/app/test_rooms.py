"""Several rooms in one client: what is shown, what waits, which line is whose."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from evloop.base.errors import EvloopError
from tests.support.chats import BOB
from tests.support.several import Several


@pytest.fixture
def world() -> Iterator[Several]:
    several = Several()
    yield several
    several.loop.close()


def two(world: Several) -> None:
    """In front is lab, in the background garden."""
    world.enter("lab")
    world.enter("garden")
    world.rooms.switch(world.pane("lab"))
    world.frontend.taken()


# -- the prompt and the first line -----------------------------------------------------------------


def test_with_one_room_all_is_as_with_one_room(world: Several) -> None:
    world.enter("lab")
    world.say("lab", "hello Mel")
    assert world.frontend.all == ["-- in lab. Ctrl-] or /leave goes back --", "Bob: hello Mel"]
    assert world.frontend.prompts == ["lab> "] and world.frontend.bells == 1
    world.frontend.press(b"one two\x1b[1;3D\x1b2")
    assert world.frontend.editor.cursor == 4  # Alt-Left is by word
    world.rooms.leave_all()
    assert world.frontend.all[-1] == "-- left lab --" and world.emptied == 1


def test_a_further_room_comes_to_the_front(world: Several) -> None:
    world.enter("lab")
    world.frontend.taken()
    world.enter("garden")
    assert world.frontend.taken() == [
        "-- in garden. Alt-1 or /switch goes to lab, /leave leaves, Ctrl-] leaves all --"
    ]
    assert world.frontend.prompts == ["lab> ", "2:garden > "]


def test_a_room_entered_behind_tells_its_line_with_a_label(world: Several) -> None:
    world.enter("lab")
    world.frontend.taken()
    world.enter("garden", behind=True)
    assert world.frontend.taken() == ["[2:garden] -- in garden --"]
    assert world.frontend.prompts[-1] == "1:lab > "


def test_numbers_are_the_lowest_that_are_free(world: Several) -> None:
    for name in "abc":
        world.enter(name)
    world.pane("b").chat.leave()
    assert world.enter("d").number == 2 and sorted(world.rooms.panes) == [1, 2, 3]
    for n in range(13):
        world.rooms.check_more()
        world.enter(f"x{n}")
    with pytest.raises(EvloopError) as caught:
        world.rooms.check_more()
    assert str(caught.value) == (
        "join: you are in 16 rooms, and that is the most; /leave one first"
    )


# -- the background --------------------------------------------------------------------------------


def test_calm_messages_come_at_once_and_further_ones_are_kept(world: Several) -> None:
    two(world)
    for n in range(5):
        world.say("garden", f"n{n}")
    assert world.frontend.taken() == [f"[2:garden] Bob: n{n}" for n in range(3)]
    assert world.frontend.prompts[-1] == "1:lab*> "
    world.wait(1.9)
    assert world.frontend.taken() == []
    world.wait(0.2)
    assert world.frontend.taken() == ["-- 2:garden: 2 more messages (Alt-2) --"]
    world.say("garden", "n5")
    world.wait(59.0)
    assert world.frontend.taken() == []
    world.wait(1.1)
    assert world.frontend.taken() == ["-- 2:garden: 3 more messages (Alt-2) --"]
    world.wait(600.0)  # nothing new: no further line
    assert world.frontend.taken() == []
    world.frontend.press(b"\x1b2")
    assert world.frontend.taken() == ["-- 2:garden --", "Bob: n3", "Bob: n4", "Bob: n5"]
    assert world.frontend.prompts[-1] == "2:garden > "


def test_more_than_are_kept_are_counted(world: Several) -> None:
    two(world)
    for n in range(3 + 57):
        world.say("garden", f"n{n}")
    world.frontend.taken()
    world.rooms.switch(world.pane("garden"))
    assert world.frontend.taken() == [
        "-- 2:garden --",
        "-- 37 older messages: /history 57 shows them --",
        *(f"Bob: n{n}" for n in range(40, 60)),
    ]


def test_a_mention_comes_at_once_and_is_remembered(world: Several) -> None:
    two(world)
    world.pane("garden").backlog.muted = True
    world.say("garden", "quiet")
    world.say("garden", "Mel: here?")
    assert world.frontend.taken() == ["[2:garden] Bob: Mel: here?"]
    assert (world.frontend.mentions, world.frontend.bells) == (1, 1)
    assert world.frontend.prompts[-1] == "1:lab!> "
    world.say("lab", "Mel!")  # one bell in 5 seconds, whatever the room
    assert world.frontend.bells == 1
    world.wait(5.0)
    world.say("lab", "Mel!")
    assert world.frontend.bells == 2
    world.frontend.taken()
    world.frontend.press(b"\x1ba")
    assert world.frontend.taken() == ["-- 2:garden --", "Bob: quiet"]


def test_who_comes_and_goes_is_told_in_front_only(world: Several) -> None:
    two(world)
    world.hear("garden", ("joined", BOB, "Bob"), ("renamed", BOB, "Bob", "Rob"))
    world.wait(3.0)
    assert world.frontend.taken() == []
    world.hear("garden", ("lost", BOB, "Bob", 12))
    (line,) = world.frontend.taken()
    assert line.startswith("[2:garden] -- 12 messages from Bob are gone")
    world.hear("lab", ("joined", BOB, "Bob"))
    world.wait(3.0)
    assert world.frontend.taken() == ["-- Bob joined --"]


# -- lines -----------------------------------------------------------------------------------------


def test_a_half_typed_line_stays_with_its_room(world: Several) -> None:
    two(world)
    screen = world.frontend
    screen.press(b"half a li\x1b2")
    assert screen.editor.text == ""
    screen.press(b"other\x1b1ne")
    assert screen.editor.text == "half a line"
    screen.press(b"\x1f")  # undo comes back with it
    assert screen.editor.text != "half a line"
    screen.press(b"\x1b[1;3C")
    assert screen.editor.text == "other" and world.rooms.front is world.pane("garden")


def test_no_draft_becomes_a_command(world: Several) -> None:
    two(world)
    world.frontend.press(b"half\x1b2more")
    world.rooms.leave_all()
    assert world.frontend.taken()[-1] == "-- left lab, garden --"
    assert world.frontend.editor.text == "" and world.emptied == 1
    assert world.rooms.last_left == ["lab", "garden"]
