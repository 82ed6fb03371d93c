"""Trickle, the delay estimate, confirmation, buckets and the window law, by hand."""

from __future__ import annotations

from random import Random

import pytest

from evloop.base.ratelimit import TokenBucket
from evloop.room.reliable.announce import Confirm, answer_window
from evloop.room.reliable.delay import Delay
from evloop.room.reliable.suppression import Trickle, window_wait

ANN = b"a" * 8


@pytest.mark.parametrize("members", [1, 2, 50, 10_000])
def test_the_window_law(members: int) -> None:
    rng = Random(2)
    waits = [window_wait(rng, 1.0, members) for _ in range(20_000)]
    assert min(waits) >= 0 and max(waits) <= 1
    # P(wait < t) = (exp(l t) - 1) / (e N - 1): before t = 1/2 it is about 1 / sqrt(e N).
    early = sum(wait < 0.5 for wait in waits) / len(waits)
    steep = (2.718281828 * members) ** 0.5
    assert early == pytest.approx((steep - 1) / (steep**2 - 1), rel=0.2, abs=0.003)


def spoken(trickle: Trickle, until: float) -> list[float]:
    """When it calls for a SESSION, up to `until`."""
    times = []
    while trickle.deadline() <= until:
        now = trickle.deadline()
        if trickle.handle_timer(now, 50):
            times.append(now)
    return times


def test_intervals_double_to_eight_seconds() -> None:
    times = spoken(Trickle(Random(1), 0.0, 50), 100.0)
    start, interval = 0.0, 0.1
    for when in times:
        assert start + interval / 2 <= when <= start + interval
        start, interval = start + interval, min(2 * interval, 8.0)


def test_an_equal_digest_silences_one_interval() -> None:
    trickle = Trickle(Random(1), 0.0, 50)
    trickle.heard_equal(0.0, 50)
    assert spoken(trickle, 0.1) == []
    assert len(spoken(trickle, 0.3)) == 1


def test_what_is_heard_after_the_end_of_an_interval_is_about_the_next() -> None:
    trickle = Trickle(Random(1), 0.0, 50)
    assert trickle.heard_equal(0.02, 50)  # the first is over; the second goes from 0.1 to 0.3
    assert 0.2 <= trickle.deadline() <= 0.3
    before = trickle.deadline()
    assert not trickle.heard_equal(0.09, 50)  # says nothing about the second
    assert trickle.deadline() == before
    trickle.reset(0.09, 50)  # still the shortest
    assert trickle.deadline() == before
    assert trickle.heard_equal(0.11, 50)
    assert 0.5 <= trickle.deadline() <= 0.7


def test_a_late_timer_is_not_made_up_for() -> None:
    trickle = Trickle(Random(1), 0.0, 50)
    assert trickle.handle_timer(1_000.0, 50)  # the machine slept
    assert 1_000.1 <= trickle.deadline() <= 1_000.2


def test_an_equal_digest_counts_while_copies_are_still_announced() -> None:
    trickle = Trickle(Random(1), 0.0, 50)
    trickle.news(0.0, 50, 0.5)
    assert trickle.heard_equal(0.1, 50)
    assert spoken(trickle, 0.65) == []


def test_news_begin_anew_when_the_copies_have_had_their_time() -> None:
    trickle = Trickle(Random(1), 0.0, 50)
    spoken(trickle, 30.0)
    trickle.news(30.0, 50, 30.04)
    assert 30.09 <= spoken(trickle, 30.2)[0] <= 30.14


def test_the_shortest_interval_is_longer_than_a_way_and_back() -> None:
    trickle = Trickle(Random(1), 0.0, 20)
    trickle.shortest = 0.24
    spoken(trickle, 10.0)
    trickle.news(10.0, 20, 10.0)
    assert 10.12 <= trickle.deadline() <= 10.24
    spoken(trickle, 10.3)
    trickle.reset(10.4, 20)
    assert trickle.deadline() >= 10.4 + 0.12


def test_steady_news_do_not_put_it_off_for_ever() -> None:
    trickle = Trickle(Random(1), 0.0, 50)
    now, times = 0.0, []
    while now < 5.0:
        now += 0.02
        times += spoken(trickle, now)
        trickle.news(now, 50, 0.0)
    assert len(times) > 25


def test_somebody_behind_shortens_only_a_long_interval() -> None:
    trickle = Trickle(Random(1), 0.0, 50)
    before = trickle.deadline()
    trickle.reset(0.01, 50)
    assert trickle.deadline() == before
    spoken(trickle, 30.0)
    trickle.reset(30.0, 50)
    assert 30.05 <= trickle.deadline() <= 30.1


def test_the_delay_believes_only_what_was_sent() -> None:
    delay = Delay()
    before = delay.value
    delay.echoed(ANN, 12_345, 0, 100.0)  # never sent
    stamp = delay.sending(100.0)
    delay.echoed(ANN, stamp, 0, 103.0)  # a pause, not the network
    assert delay.value == before
    for n in range(20):
        delay.sending(200.0 + n)
    delay.echoed(ANN, stamp, 0, 100.01)  # long ago
    assert delay.value == before
    stamp = delay.sending(4294.9672)  # the clock of 32 bits wraps here
    delay.echoed(ANN, stamp, 0, 4294.9872)
    assert delay.value == pytest.approx(0.01, abs=1e-5)


def test_the_echo_tells_how_long_it_was_held() -> None:
    delay = Delay()
    assert delay.echo(5.0) == (bytes(8), 0, 0)
    delay.heard(ANN, 777, 5.0)
    assert delay.echo(5.25) == (ANN, 777, 250_000)


def test_confirmation_backs_off_and_answers_all_askers_at_once() -> None:
    confirm = Confirm(Random(1))
    confirm.start(1.0)
    assert confirm.ask_due == 1.0
    waits, now = [], 1.0
    for _ in range(9):
        confirm.asked(now, 0.005, 50)
        waits.append(confirm.ask_due - now)
        now = confirm.ask_due
    confirm.start(now)  # changes nothing while it is going on
    assert confirm.ask_due == now
    assert waits == sorted(waits)
    assert waits[0] == pytest.approx(0.12) and waits[-1] == pytest.approx(8.0)
    assert answer_window(10_000) == 20.0
    for n in range(12):
        confirm.asked_by(bytes([n]), now, 50)
    assert len(confirm.askers) == 8
    assert now <= confirm.answer_due <= now + 0.1
    confirm.answered()
    assert not confirm.askers


def test_a_bucket_lets_through_its_burst_and_then_its_rate() -> None:
    bucket = TokenBucket(5.0, 10.0, 0.0)
    assert sum(bucket.take(0.0) for _ in range(50)) == 10
    taken, now = 0, 0.0
    while now < 10.0:
        now = bucket.when()
        assert bucket.take(now), "it was not there when it said"
        taken += 1
    assert 49 <= taken <= 51
    bucket.spend(now, 7)
    assert bucket.level(now) < -6
    assert bucket.when() == pytest.approx(now + 8 / 5, abs=0.21)
    assert bucket.level(now - 5) == bucket.level(now)  # a clock that goes back gives nothing
