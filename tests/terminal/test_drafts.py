"""The place in the history of lines belongs to who types; the lines are common."""

from __future__ import annotations

from evloop.system.limits import HISTORY_LINES_MAX
from evloop.terminal.line import LineHistory


def test_a_place_stays_at_its_line_when_older_lines_are_dropped() -> None:
    history = LineHistory(f"line {n}" for n in range(HISTORY_LINES_MAX))
    for _ in range(3):
        history.back("half")
    mine = history.swap(None)  # another one has the line
    for n in range(5):
        history.add(f"new {n}", False)
    assert history.swap(mine) is None
    assert history.forward() == f"line {HISTORY_LINES_MAX - 2}"
    for _ in range(6):
        history.forward()
    assert history.forward() == "half"  # what was typed before looking back


def test_a_place_whose_line_was_dropped_is_the_oldest_left() -> None:
    history = LineHistory(f"line {n}" for n in range(HISTORY_LINES_MAX))
    for _ in range(HISTORY_LINES_MAX):
        history.back("")
    mine = history.swap(None)
    for n in range(5):
        history.add(f"new {n}", False)
    history.swap(mine)
    assert history.back("") is None and history.forward() == "line 6"


def test_who_is_at_the_end_stays_at_the_end() -> None:
    history = LineHistory(["one"])
    mine = history.swap(None)
    history.add("two", False)
    history.swap(mine)
    assert history.forward() is None and history.back("") == "two"
