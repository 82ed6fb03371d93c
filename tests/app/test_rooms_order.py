"""Several rooms in one client: which of them is meant, and which comes to the front."""

from __future__ import annotations

import pytest

from evloop.base.errors import EvloopError
from tests.support.several import Piped, Several, two


def test_arrows_follow_the_numbers_and_so_does_back_where_none_was_before(world: Several) -> None:
    for name in "abcd":
        world.enter(name)
    for key, there in [("right", "a"), ("right", "b"), ("left", "a"), ("left", "d"), ("left", "c")]:
        world.rooms.key(f"alt-{key}")
        assert world.rooms.front is world.pane(there)
    world.rooms.back()
    assert world.rooms.front is world.pane("d")
    world.pane("c").chat.leave()  # the one before
    world.rooms.back()
    assert world.rooms.front is world.pane("a")


def test_a_room_is_found_by_number_by_name_and_by_a_beginning_of_one_alone(world: Several) -> None:
    for name in ("lab", "lab2", "garden"):
        world.enter(name)
    found = {wanted: world.rooms.find("switch", wanted) for wanted in ("LAB", "lab2", "g", "2")}
    assert {wanted: pane.name for wanted, pane in found.items()} == {
        "LAB": "lab",
        "lab2": "lab2",
        "g": "garden",
        "2": "lab2",
    }
    for wanted in ("la", "9", "x"):
        with pytest.raises(EvloopError, match=f'you are in no room "{wanted}"; /rooms lists'):
            world.rooms.find("switch", wanted)


def test_a_refused_line_takes_no_place_from_what_was_typed_since(world: Several) -> None:
    two(world)
    world.rooms.switch(world.pane("garden"))
    world.frontend.press(b"half")
    world.rooms.switch(world.pane("lab"))
    world.pane("garden").put_back("refused")
    world.rooms.switch(world.pane("garden"))
    assert world.frontend.editor.text == "half"


def test_lines_wait_for_the_room_in_front_alone(world: Several) -> None:
    two(world)
    world.pane("garden").hold(True)
    assert not world.rooms.held
    world.rooms.switch(world.pane("garden"))
    assert world.rooms.held


def test_at_the_end_of_input_no_room_comes_to_the_front_any_more() -> None:
    world = Several(Piped())
    try:
        for name in ("lab", "garden"):
            world.enter(name)
        world.frontend.taken()
        world.rooms.finish_all()
        world.pane("garden").chat.leave()
        assert "-- 1:lab --" not in world.frontend.taken()
    finally:
        world.loop.close()


def test_above_nine_a_command_stands_for_the_key_and_the_key_that_leaves_has_its_name(
    world: Several,
) -> None:
    world.style.escape = "Ctrl-Q"
    for n in range(9):
        world.enter(f"r{n}")
    world.frontend.taken()
    world.enter("tenth")
    ways = "Alt-9 or /switch goes to r8, /leave leaves, Ctrl-Q leaves all"
    assert world.frontend.taken() == [f"-- in tenth. {ways} --"]
    world.enter("eleventh")
    ways = "/switch goes to tenth, /leave leaves, Ctrl-Q leaves all"
    assert world.frontend.taken() == [f"-- in eleventh. {ways} --"]
    for n in range(4):
        world.say("tenth", f"n{n}")
    world.frontend.taken()
    world.wait(2.1)
    assert world.frontend.taken() == ["-- 10:tenth: 1 more message (/switch 10) --"]


def test_alt_a_goes_where_most_mentions_wait_and_then_where_something_is_unread_the_longest(
    world: Several,
) -> None:
    for name in "abcd":
        world.enter(name)
    for name, texts in (("a", 4 * ["n"]), ("b", ["Mel"]), ("c", ["Mel", "Mel"])):
        for text in texts:
            world.say(name, text)
        world.wait(1.0)
    for there in "cba":
        world.rooms.key("alt-a")
        assert world.rooms.front is world.pane(there)
    world.rooms.key("alt-a")
    assert world.frontend.rung == 1 and world.rooms.front is world.pane("a")
