"""Token buckets: the burst, the rate, and a table that does not grow for ever."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evloop.base.limits import CHANGE_BURST, RATED_ADDRESSES_MAX
from evloop.base.ratelimit import AddressRates, change_burst


class TokenBucket:
    """The bucket of one address."""

    def __init__(self, rate: float, burst: float) -> None:
        self.rates = AddressRates(rate, burst)

    def take(self, now: float) -> float:
        return self.rates.take("a", now)


def nearly(seconds: float) -> float:
    """What is told is a hair longer, so that who waits as told gets through."""
    return pytest.approx(seconds, abs=2e-6)  # type: ignore[return-value]


def test_the_burst_and_then_the_rate() -> None:
    bucket = TokenBucket(rate=4.0, burst=10.0)
    assert [bucket.take(100.0) for _ in range(10)] == [0.0] * 10
    assert bucket.take(100.0) == nearly(0.25)
    assert bucket.take(100.125) == nearly(0.125)
    assert bucket.take(100.25) == 0.0
    assert bucket.take(100.25) == nearly(0.25)


def test_waiting_fills_it_up_to_the_burst_only() -> None:
    bucket = TokenBucket(rate=1.0, burst=3.0)
    for _ in range(3):
        bucket.take(0.0)
    assert [bucket.take(1e6) for _ in range(4)] == [0.0, 0.0, 0.0, nearly(1.0)]


@given(
    st.lists(st.floats(min_value=0, max_value=10), max_size=200),
    st.floats(min_value=0.5, max_value=100),
    st.integers(min_value=1, max_value=20),
)
def test_never_more_than_burst_and_rate_allow(steps: list[float], rate: float, burst: int) -> None:
    bucket = TokenBucket(rate, burst)
    now = 0.0
    taken = 0
    for step in steps:
        now += step
        wait = bucket.take(now)
        assert 0.0 <= wait <= 1.0 / rate + 2e-6
        taken += not wait
        assert taken <= burst + rate * now + 1e-6


@given(st.floats(min_value=0.5, max_value=100), st.integers(min_value=1, max_value=20))
def test_who_waits_as_told_gets_through(rate: float, burst: int) -> None:
    bucket = TokenBucket(rate, burst)
    for _ in range(burst):
        assert bucket.take(0.0) == 0.0
    now = bucket.take(0.0)
    assert now > 0.0
    assert bucket.take(now) == 0.0


def test_addresses_do_not_spend_each_others_tokens() -> None:
    rates = AddressRates(rate=1.0, burst=2.0)
    assert [rates.take("a", 0.0) for _ in range(3)] == [0.0, 0.0, nearly(1.0)]
    assert rates.take("b", 0.0) == 0.0


def test_a_rate_of_nought_lifts_the_limit() -> None:
    rates = AddressRates(rate=0.0, burst=1.0)
    assert not any(rates.take("a", 0.0) for _ in range(10))
    assert len(rates) == 0


def test_the_quietest_address_is_forgotten() -> None:
    rates = AddressRates(rate=1.0, burst=1.0)
    rates.take("busy", 0.0)
    rates.take("quiet", 0.0)
    for number in range(RATED_ADDRESSES_MAX - 2):
        rates.take(str(number), 0.0)
    assert rates.take("busy", 0.0) == nearly(1.0)
    rates.take("one more", 0.0)
    assert len(rates) == RATED_ADDRESSES_MAX
    assert rates.take("busy", 0.0) == nearly(1.0)
    assert rates.take("quiet", 0.0) == 0.0


@pytest.mark.parametrize(("rate", "burst"), [(0.5, 2000), (100, 2000), (101, 2020), (1000, 20_000)])
def test_the_burst_that_belongs_to_a_rate(rate: float, burst: float) -> None:
    assert change_burst(rate) == burst >= CHANGE_BURST
