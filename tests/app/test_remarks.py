"""What strangers can make the program say shares one budget, and is counted where it is over."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from evloop.app.limits import NEWS_FOLD_S, NEWS_NAMES_MAX, PASSING_S, REMARKS_BURST, REMARKS_PER_S
from evloop.app.remarks import Remarks
from evloop.terminal import report

BURST = int(REMARKS_BURST)


class Screen:
    """The lines that were told, on a clock of the test's own."""

    def __init__(self) -> None:
        self.now = 100.0
        self.lines: list[str] = []
        self.remarks = Remarks(self.now, self.lines.append)

    def rename(self) -> None:
        self.remarks.remark("renamed", "-- a is now b --", self.now)

    def wait(self, seconds: float) -> None:
        """Let time pass, the timer in time."""
        until = self.now + seconds
        while self.remarks.next_deadline() <= until:
            self.now = max(self.now, self.remarks.next_deadline())
            self.remarks.handle_timer(self.now)
        self.now = until


def test_a_few_are_told_at_once() -> None:
    screen = Screen()
    for _ in range(BURST):
        screen.rename()
    assert len(screen.lines) == BURST


def test_a_flood_becomes_counts_and_stays_within_the_budget() -> None:
    screen = Screen()
    for _ in range(6_000):  # 500 a second
        screen.rename()
        screen.wait(0.002)
    assert len(screen.lines) <= BURST + 12 * REMARKS_PER_S
    screen.wait(60)
    told = sum(line == "-- a is now b --" for line in screen.lines)
    counted = [re.search(r": (\d+) renames?;", line) for line in screen.lines]
    assert told + sum(int(found[1]) for found in counted if found) == 6_000
    assert screen.remarks.counts == {"renamed": 6_000, "not_shown": 6_000 - told}


def test_after_a_flood_remarks_are_told_again() -> None:
    screen = Screen()
    for _ in range(100):
        screen.rename()
    screen.wait(10)
    screen.rename()
    assert screen.lines[-1] == "-- a is now b --" and "80 renames" in screen.lines[-2]


def test_all_kinds_share_the_budget() -> None:
    screen = Screen()
    for _ in range(BURST):
        screen.rename()
    assert not screen.remarks.allow("plain", screen.now)
    screen.remarks.remark("lost", "-- gone --", screen.now)
    screen.remarks.presence(b"bob", "joined", "Bob", screen.now)
    screen.wait(NEWS_FOLD_S)
    folded = "-- not shown, because there were too many: 1 plain text, 1 report of a loss, 1 join"
    assert screen.lines[BURST:] == [folded + "; /stats counts on --"]


@given(st.lists(st.tuples(st.sampled_from(sorted(report.FOLDED)), st.floats(0, 3)), max_size=200))
def test_whatever_comes_it_is_one_budget(steps: list[tuple[str, float]]) -> None:
    screen = Screen()
    begin = screen.now
    for number, (kind, pause) in enumerate(steps):
        if kind in ("joined", "left"):
            what = "joined" if kind == "joined" else "bye"
            screen.remarks.presence(b"%d" % number, what, f"m{number}", screen.now)
        elif kind == "line":
            screen.remarks.too_fast(f"m{number}", screen.now)
        else:
            screen.remarks.remark(kind, "-- said --", screen.now)
        screen.wait(pause)
        assert len(screen.lines) <= BURST + (screen.now - begin) * REMARKS_PER_S + 1


def test_a_storm_of_joins_is_bounded_in_memory_and_counted_in_full() -> None:
    screen = Screen()
    for number in range(5_000):
        screen.remarks.presence(b"%d" % number, "joined", f"m{number}", screen.now)
    assert len(screen.remarks.news) == NEWS_NAMES_MAX
    screen.wait(NEWS_FOLD_S)
    assert len(screen.lines) == 1 and ": 5000 joins;" in screen.lines[0]
    assert screen.remarks.counts["joined"] == 5_000


def test_a_thousand_that_send_too_fast_are_one_line() -> None:
    screen = Screen()
    for number in range(1_000):
        for _ in range(3 if number else 7):
            screen.remarks.too_fast(f"m{number}", screen.now)
    screen.wait(NEWS_FOLD_S)
    assert screen.lines == [
        "-- 7 more lines from m0, 3 more lines from m1, 3 more lines from m2, 2991 from 997 others"
        " (too fast; /history has them) --"
    ]


def test_who_leaves_hears_what_waited() -> None:
    screen = Screen()
    for _ in range(BURST + 3):
        screen.rename()
    screen.remarks.presence(b"bob", "bye", "Bob", screen.now)
    screen.remarks.last_words()
    assert screen.lines[BURST] == "-- Bob left --" and "3 renames" in screen.lines[BURST + 1]
    screen.wait(60)
    assert len(screen.lines) == BURST + 2


# -- who comes, speaks and goes -------------------------------------------------------------------


def test_who_spoke_at_once_is_told_of_when_he_stays() -> None:
    screen = Screen()
    screen.remarks.presence(b"b", "joined", "Bob", screen.now)
    screen.remarks.precede(b"b", screen.now)
    screen.wait(PASSING_S - 0.1)
    assert screen.lines == []
    screen.wait(NEWS_FOLD_S + 0.1)
    assert screen.lines == ["-- Bob joined --"]
    assert screen.remarks.next_deadline() == float("inf")


def test_who_passes_through_is_counted_and_not_told_of() -> None:
    screen = Screen()
    for _ in range(3):
        screen.remarks.presence(b"b", "joined", "Bob", screen.now)
        screen.remarks.precede(b"b", screen.now)
        screen.wait(PASSING_S - 0.1)
        screen.remarks.presence(b"b", "bye", "Bob", screen.now)
        screen.wait(PASSING_S)
    assert screen.lines == []
    assert screen.remarks.counts == {"joined": 3, "left": 3}


def test_who_was_here_before_is_told_of_before_he_talks() -> None:
    screen = Screen()
    screen.remarks.presence(b"b", "here", "Bob", screen.now)
    screen.remarks.precede(b"b", screen.now)
    assert len(screen.lines) == 1


def test_who_came_and_takes_another_name_is_told_of_before() -> None:
    for speaks in (False, True):
        screen = Screen()
        screen.remarks.presence(b"b", "joined", "Bob", screen.now)
        if speaks:
            screen.remarks.precede(b"b", screen.now)
        screen.remarks.before_rename(b"b", screen.now)
        assert screen.lines == ["-- Bob joined --"]
        screen.wait(PASSING_S + NEWS_FOLD_S)
        assert len(screen.lines) == 1
        screen.remarks.before_rename(b"b", screen.now)
        assert len(screen.lines) == 1


def test_those_who_pass_are_bounded() -> None:
    screen = Screen()
    for n in range(NEWS_NAMES_MAX + 5):
        sender = n.to_bytes(8, "big")
        screen.remarks.presence(sender, "joined", f"n{n}", screen.now)
        screen.remarks.precede(sender, screen.now)
    assert len(screen.remarks.passing) == NEWS_NAMES_MAX
    screen.wait(NEWS_FOLD_S)
    assert screen.lines == ["-- n0, n1, n2, n3, n4 joined --"]
