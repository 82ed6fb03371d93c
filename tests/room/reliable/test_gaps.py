"""What is missing, and when it is asked for."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evloop.room.reliable.estimators import LossMeter
from evloop.room.reliable.gaps import (
    Gaps,
    first_wait,
    retry_wait,
)
from evloop.room.reliable.limits import (
    GAPS_MAX,
    GAPS_NOTED_MAX,
    GAPS_SENDER_MAX,
    HEARSAY_GAPS_MAX,
    STUCK_ASKS,
)

ANN, BOB = b"a" * 8, b"b" * 8
D = 0.005


def counted(gaps: Gaps) -> tuple[int, int, int]:
    """(count, hearsay, pressing), found by a walk."""
    every = [gap for sender in (ANN, BOB) for gap in gaps.of(sender).values()]
    pressing = sum(gap.word and gap.asks < STUCK_ASKS for gap in every)
    return len(every), sum(not gap.word for gap in every), pressing


def fill(gaps: Gaps, sender: bytes) -> None:
    """As many gaps of one sender as there may be, the lowest numbers."""
    for start in range(0, GAPS_SENDER_MAX, GAPS_NOTED_MAX):
        gaps.add(sender, range(start, start + GAPS_NOTED_MAX), (), 0.0, 0.0)


def test_waits() -> None:
    rng = Random(1)
    for members, window in ((2, 4), (199, 4), (200, 8), (10_000, 8)):
        waits = [first_wait(rng, D, members) for _ in range(2_000)]
        assert min(waits) >= 2 * D and max(waits) <= (2 + window) * D
        # Most wait long and few early: the mean is near the end of the window.
        assert sum(waits) / len(waits) > (2 + 0.55 * window) * D
    assert [round(retry_wait(n, D) / D) for n in range(1, 6)] == [12, 24, 36, 48, 60]
    assert retry_wait(5, 0.2) == pytest.approx(2.4)
    assert retry_wait(3, 0.1) == pytest.approx(1.2)
    assert retry_wait(4, 0.05) == 1.0
    assert retry_wait(6, D) == 8.0
    assert retry_wait(9, D, flowing=True) == 12 * D


def test_gaps_found_during_one_wait_share_its_end() -> None:
    gaps = Gaps(Random(1), LossMeter())
    first = gaps.round(10.0, D, 50, 0.0)
    assert gaps.round(10.004, D, 50, 0.0) == first
    assert gaps.round(first + 0.001, D, 50, 0.0) > first
    assert gaps.round(first + 0.002, D, 50, first + 0.5) > first + 0.5  # announced copies


def test_what_is_asked_together_stays_together() -> None:
    gaps = Gaps(Random(1), LossMeter())
    gaps.add(ANN, range(30), (), 0.0, 0.01)
    now = 0.01
    for _ in range(5):
        due, gone = gaps.take_due(now, D)
        assert len(due) == 30 and not gone
        gaps.asked(due, now, D)
        now = gaps.next_due
        assert all(gap.due == now for gap in gaps.of(ANN).values())


def test_what_would_soon_be_due_goes_along() -> None:
    gaps = Gaps(Random(1), LossMeter())
    gaps.add(ANN, [1], (), 0.0, 0.100)
    gaps.add(BOB, [1], (), 0.0, 0.104)
    gaps.add(BOB, [2], (), 0.0, 0.200)
    assert gaps.take_due(0.099, D) == ([], [])
    due, _ = gaps.take_due(0.1, D)
    assert [gap.key for gap in due] == [(ANN, 1), (BOB, 1)]


def test_evidence_resets_the_back_off_but_not_the_count() -> None:
    gaps = Gaps(Random(1), LossMeter())
    gaps.add(ANN, [1], (), 0.0, 0.0)
    gap = gaps.of(ANN)[1]
    for _ in range(7):
        gaps.asked([gap], 1.0, D)
    assert gap.due > 5 and gaps.pressing == 0
    assert gaps.evidence({ANN: (0, 2)}, 1.5, 1.52)
    assert (gap.due, gap.asks, gap.tries) == (1.52, 7, 0)
    gaps.asked([gap], 1.52, D)
    assert gap.due < 1.7
    assert gaps.evidence({ANN: (0, 2)}, 2.0, 2.01)  # missing, but told less than a second ago
    assert gap.tries == 1
    assert not gaps.evidence({ANN: (2, 9)}, 3.0, 3.01)


def test_asks_while_repairs_arrive_make_no_back_off() -> None:
    gaps = Gaps(Random(1), LossMeter())
    gaps.add(ANN, [1], (), 0.0, 0.0)
    gaps.add(BOB, range(7), (), 0.0, 0.0)
    gap = gaps.of(ANN)[1]
    now = 0.0
    for seq in range(7):
        now += 15 * D
        assert gaps.recovered(BOB, seq, now)
        gaps.asked([gap], now, D)
    assert gap.asks == 7
    gaps.heard_nack([(ANN, 1, 2)], now, D)
    assert gap.due <= now + 15 * D
    for k in (1, 2, 3):  # the last repair was long ago: from here on each wait is longer
        now += 40 * D
        gaps.asked([gap], now, D)
        assert 9 * D * k <= gap.due - now <= 15 * D * k


def test_gone_needs_eight_asks_and_thirty_seconds() -> None:
    gaps = Gaps(Random(1), LossMeter())
    gaps.add(ANN, [1], (), 0.0, 0.0)
    now, asks = 0.0, 0
    while True:
        due, gone = gaps.take_due(now, D)
        if gone:
            break
        gaps.asked(due, now, D)
        asks += len(due)
        now = gaps.next_due
    assert asks >= 8
    assert 30 <= now < 45


def test_what_was_asked_for_before_its_sender_said_it_is_asked_for_anew() -> None:
    """A forged claim about number 3 was asked for in vain, and then number 3 is said, and lost."""
    for said in ("SESSION", "DATA"):
        gaps = Gaps(Random(1), LossMeter())
        gaps.hear_of(ANN, [3], 64, 0.0, 0.0)
        now = 0.0
        while gaps.of(ANN)[3].asks < 14:
            now = gaps.next_due
            due, gone = gaps.take_due(now, D)
            gaps.asked(due or gone, now, D)
        now += 60.0
        if said == "DATA":  # of number 4, so number 3 is wanted
            gaps.add(ANN, [3], (), now, now + 0.02)
        else:
            gaps.believe(ANN, 4, now, now + 0.02)
        assert gaps.pressing == 1
        due, gone = gaps.take_due(now + 0.02, D)
        assert [gap.seq for gap in due] == [3] and not gone
        gaps.asked(due, now, D)
        assert gaps.take_due(now + 29.0, D)[1] == []


def test_hearsay_of_what_its_sender_has_not_said_goes() -> None:
    gaps = Gaps(Random(1), LossMeter())
    gaps.hear_of(ANN, [3, 4, 5], 64, 10.0, 10.0)
    gaps.hear_of(ANN, [6], 64, 11.5, 11.5)
    gaps.refute(ANN, 4, 11.0)
    assert sorted(gaps.of(ANN)) == [3, 6]  # number 6 may have been said since
    assert counted(gaps) == (gaps.count, gaps.hearsay, gaps.pressing) == (2, 2, 0)


def test_hearsay_makes_room_for_words() -> None:
    gaps = Gaps(Random(1), LossMeter())
    for n in range(20):
        gaps.hear_of(bytes([n]) * 8, range(64), 64, 0.0, 0.0)
    assert gaps.hearsay == gaps.count == HEARSAY_GAPS_MAX
    senders = [bytes([n]) * 8 for n in range(100, 106)]
    for sender in senders:
        fill(gaps, sender)
    words = len(senders) * GAPS_SENDER_MAX
    assert (gaps.count, gaps.hearsay) == (GAPS_MAX, GAPS_MAX - words)
    due, _ = gaps.take_due(0.0, D)
    assert [gap.word for gap in due] == [True] * words + [False] * 512
    gaps.asked(due, 0.0, D)
    assert gaps.add(BOB, range(60), (), 0.0, 0.0) == 60  # those asked for went first
    assert (gaps.count, gaps.hearsay, gaps.dropped) == (GAPS_MAX, 452, [])


def test_what_one_call_notes_and_what_one_sender_may_have_is_bounded() -> None:
    gaps = Gaps(Random(1), LossMeter())
    assert gaps.add(ANN, range(1_000), (), 0.0, 0.0) == GAPS_NOTED_MAX
    fill(gaps, ANN)
    assert gaps.add(ANN, range(GAPS_SENDER_MAX, 1_000), (), 0.0, 0.0) == -1
    gaps.remove(ANN, 5)
    top = gaps.add(ANN, range(GAPS_SENDER_MAX, 1_000), {GAPS_SENDER_MAX}, 0.0, 0.0)
    assert top == GAPS_SENDER_MAX + 2
    assert gaps.count == GAPS_SENDER_MAX


def test_in_a_full_table_who_lacks_little_takes_a_place_from_who_lacks_most() -> None:
    gaps = Gaps(Random(1), LossMeter())
    many = [bytes([n]) * 8 for n in range(100, 100 + GAPS_MAX // GAPS_SENDER_MAX)]
    for sender in many:
        fill(gaps, sender)
    assert gaps.count == GAPS_MAX
    assert gaps.add(ANN, [7], (), 1.0, 1.0) == 8
    assert gaps.count == GAPS_MAX
    assert 7 in gaps.of(ANN)
    assert gaps.dropped == [(many[0], GAPS_SENDER_MAX - 1)]  # it would be shown last
    # Of as many as there are, each gets its share and no more.
    for _ in range(4):
        top = gaps.add(ANN, range(8, 500), gaps.of(ANN), 1.0, 1.0)
    assert top == len(gaps.of(ANN)) + 7  # the first that found no room
    shares = [len(gaps.of(sender)) for sender in [*many, ANN]]
    assert max(shares) - min(shares) <= 1
    assert sum(shares) == GAPS_MAX


_STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["add", "hear", "remove", "believe", "ask", "forget", "nack", "evidence", "refute"]
        ),
        st.sampled_from([ANN, BOB]),
        st.integers(0, 12),
        st.integers(0, 12),
    ),
    max_size=40,
)


@given(_STEPS)
def test_the_counters_agree_with_a_walk(steps: list[tuple[str, bytes, int, int]]) -> None:
    gaps = Gaps(Random(1), LossMeter())
    now = 0.0
    for what, sender, a, b in steps:
        now += 0.05
        if what == "add":
            gaps.add(sender, range(a, a + b), {a + 1}, now, now + 0.01)
        elif what == "hear":
            gaps.hear_of(sender, range(a, a + b), 8, now, now + 0.02)
        elif what == "remove":
            missing = a in gaps.of(sender)
            assert gaps.remove(sender, a) == missing
        elif what == "believe":
            gaps.believe(sender, a, now, now + 0.01)
        elif what == "refute":
            gaps.refute(sender, a, now - b / 10)
        elif what == "ask":
            due, gone = gaps.take_due(now, D)
            assert not gone
            gaps.asked(due, now, D)
        elif what == "forget":
            gaps.forget(sender, a)
        elif what == "nack":
            gaps.heard_nack([(sender, a, a + b)], now, D)
        else:
            gaps.evidence({sender: (a, a + b)}, now, now + 0.01)
        assert (gaps.count, gaps.hearsay, gaps.pressing) == counted(gaps)
        every = [gap.due for one in (ANN, BOB) for gap in gaps.of(one).values()]
        assert gaps.next_due <= min(every, default=gaps.next_due)
