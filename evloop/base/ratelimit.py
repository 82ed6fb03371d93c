"""How much somebody, or each address, may do: token buckets.

A take may cost any amount (bytes, say), and a look at the level takes nothing: what is less urgent
gives way to what is more.

A bucket holds up to `burst` tokens and gains `rate` a second; each act takes one. An address that
is not in the table has a full bucket, so only those below full need to be remembered.
"""

from __future__ import annotations

from evloop.base.limits import (
    CHANGE_BURST,
    CHANGE_BURST_S,
    RATED_ADDRESSES_MAX,
)


class TokenBucket:
    """Holds up to `burst` tokens, gains `rate` a second; begins full."""

    __slots__ = ("_burst", "_level", "_rate", "_when")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._level = burst
        self._when = now

    def level(self, now: float) -> float:
        """Tokens there are at `now`; below 0 when they were taken on credit."""
        if now > self._when:
            level = self._level + (now - self._when) * self._rate
            self._level = level if level < self._burst else self._burst
            self._when = now
        return self._level

    def take(self, now: float, cost: float = 1.0) -> bool:
        """Take `cost` tokens if there are as many."""
        if self.level(now) < cost:
            return False
        self._level -= cost
        return True

    def spend(self, now: float, cost: float) -> None:
        """Take `cost` tokens in any case: the debt holds up those who ask."""
        self._level = self.level(now) - cost

    def when(self, cost: float = 1.0) -> float:
        """When there will be `cost` (at most `burst`) tokens, if nobody takes any."""
        if self._level >= cost:
            return self._when
        # A hair later than exact: a timer at the exact time could find 0.999... tokens for ever.
        return self._when + (cost - self._level) / self._rate + 1e-6


def change_burst(rate: float) -> float:
    """The burst that belongs to a `--change-rate`: max(2,000, 20 N)."""
    return max(float(CHANGE_BURST), CHANGE_BURST_S * rate)


class AddressRates:
    """A bucket for each address, made when first used. A rate of 0 lifts the limit.

    Over RATED_ADDRESSES_MAX the address that was quiet longest is forgotten: its bucket is the
    likeliest to be full again, and a full one says nothing.
    """

    __slots__ = ("_buckets", "_burst", "_rate")

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._buckets: dict[str, TokenBucket] = {}  # the order is that of the last use

    def __len__(self) -> int:
        return len(self._buckets)

    def times(self, factor: float) -> AddressRates:
        """The same for what holds many addresses."""
        return AddressRates(factor * self._rate, factor * self._burst)

    def take(self, address: str, now: float) -> float:
        """Take a token and return 0.0, or take none and return the seconds until there is one."""
        if not self._rate:
            return 0.0
        bucket = self._buckets.pop(address, None)
        if bucket is None:
            if len(self._buckets) >= RATED_ADDRESSES_MAX:
                del self._buckets[next(iter(self._buckets))]
            bucket = TokenBucket(self._rate, self._burst, now)
        self._buckets[address] = bucket
        return 0.0 if bucket.take(now) else bucket.when() - now
