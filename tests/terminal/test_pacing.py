"""Chat lines on their way to a terminal that may be slower than the room."""

from __future__ import annotations

import pytest

from evloop.system.timers import NEVER
from evloop.terminal.limits import (
    BATCH_BYTES_MAX,
    BATCH_BYTES_MIN,
    BATCH_BYTES_START,
    FLUSH_BYTES_MAX,
    FLUSH_INTERVAL_S,
    MESSAGES_WAITING_MAX,
    RECEIPT_LOST_S,
)
from evloop.terminal.pacing import Pacer


def add(pacer: Pacer, count: int, size: int = 10) -> None:
    for number in range(count):
        pacer.add(f"{number}".ljust(size), 0)


def sizes(pacer: Pacer, now: float) -> int:
    return sum(len(line) + 1 for line, _ in pacer.take(now) if not str(line).startswith("--"))


def test_the_first_line_goes_at_once_and_then_20_flushes_a_second() -> None:
    pacer = Pacer()
    assert pacer.next_deadline() == NEVER
    flushes = 0
    for millisecond in range(1000):
        add(pacer, 1)
        flushes += bool(pacer.take(10.0 + millisecond / 1000))
    assert 19 <= flushes <= 20
    add(pacer, 1)
    assert pacer.next_deadline() <= 11.0 + FLUSH_INTERVAL_S
    assert pacer.next_deadline(drawing=False) == NEVER
    assert len(pacer.take(pacer.next_deadline())) > 0
    assert pacer.next_deadline() == NEVER


def test_the_newest_lines_wait_and_the_rest_are_counted() -> None:
    pacer = Pacer()
    add(pacer, MESSAGES_WAITING_MAX + 812)
    lines = pacer.take(0.0)
    assert lines[0] == ("-- 812 messages not shown (terminal too slow) --", 0)
    assert len(lines) == 1 + MESSAGES_WAITING_MAX
    assert lines[1][0] == "812".ljust(10)
    add(pacer, 1)
    assert len(pacer.take(1.0)) == 1


def test_a_slow_terminal_is_asked_and_nothing_is_sent_until_it_answers() -> None:
    pacer = Pacer(slow=True)
    add(pacer, 300)
    assert BATCH_BYTES_START <= sizes(pacer, 0.0) < BATCH_BYTES_START + 11
    assert pacer.awaiting
    assert pacer.take(1.0) == []
    assert pacer.next_deadline() == RECEIPT_LOST_S
    pacer.receipt(1.0)
    assert not pacer.awaiting
    assert BATCH_BYTES_START // 2 <= sizes(pacer, 1.0) < BATCH_BYTES_START // 2 + 11


@pytest.mark.parametrize(("took", "end"), [(0.01, BATCH_BYTES_MAX), (0.5, BATCH_BYTES_MIN)])
def test_the_batch_follows_the_terminal_within_bounds(took: float, end: int) -> None:
    pacer = Pacer(slow=True)
    now, size = 0.0, 0
    for _ in range(12):
        add(pacer, 500, size=50)
        size = sizes(pacer, now)
        pacer.receipt(now + took)
        now += 1.0
    assert end <= size < end + 51


def test_in_between_the_batch_stays() -> None:
    pacer = Pacer(slow=True)
    add(pacer, 500)
    first = sizes(pacer, 0.0)
    pacer.receipt(0.1)
    assert sizes(pacer, 1.0) == first


def test_a_terminal_that_never_answers_is_never_asked_again() -> None:
    pacer = Pacer(slow=True)
    add(pacer, 400)
    pacer.take(0.0)
    pacer.handle_timer(RECEIPT_LOST_S)
    pacer.slow()
    assert len(pacer.take(3.0)) > 300
    assert not pacer.awaiting
    pacer.receipt(3.0)
    add(pacer, 1)
    assert pacer.take(4.0)
    assert not pacer.awaiting


def test_a_fast_terminal_is_measured_once_it_has_refused() -> None:
    pacer = Pacer()
    add(pacer, 1)
    pacer.take(0.0)
    assert not pacer.awaiting
    pacer.slow()
    add(pacer, 1)
    pacer.take(1.0)
    assert pacer.awaiting


def test_a_line_longer_than_the_batch_goes_alone() -> None:
    pacer = Pacer(slow=True)
    add(pacer, 2, size=3 * BATCH_BYTES_START)
    assert len(pacer.take(0.0)) == 1


def test_a_quick_terminal_gets_no_flood_in_one_write_either() -> None:
    pacer = Pacer()
    add(pacer, 500, size=7200)
    assert FLUSH_BYTES_MAX <= sizes(pacer, 0.0) < FLUSH_BYTES_MAX + 7201
    assert pacer.next_deadline() == FLUSH_INTERVAL_S


def test_the_rest_can_be_had_out_of_turn_but_not_on_a_slow_terminal() -> None:
    for slow in (False, True):
        pacer = Pacer(slow=slow)
        add(pacer, MESSAGES_WAITING_MAX + 1)
        lines = pacer.rest()
        assert len(lines) == (0 if slow else MESSAGES_WAITING_MAX + 1)
    assert len(Pacer().rest()) == 0


def test_styled_lines_count_their_text() -> None:
    pacer = Pacer(slow=True)
    for _ in range(10):
        pacer.add([("36", "x" * BATCH_BYTES_START), ("", "y")], 0)
    assert len(pacer.take(0.0)) == 1
