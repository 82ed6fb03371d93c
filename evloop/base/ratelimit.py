"""Token buckets: how much one peer, or each address, may do.

A bucket holds up to `burst` tokens and gains `rate` a second; each act takes one, or as many as it
costs (bytes, for example). Looking at the level takes nothing, so that less urgent work can leave
a part to more urgent work. An address that is not in the table has a full bucket, so only buckets
that are not full need to be remembered.
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
        """Take `cost` tokens in any case; below zero, `take` says no until the debt is paid."""
        self._level = self.level(now) - cost

    def when(self, cost: float = 1.0) -> float:
        """When there will be `cost` (at most `burst`) tokens, if nobody takes any."""
        if self._level >= cost:
            return self._when
        # A microsecond later than exact: at the exact time a timer might find 0.999... tokens.
        return self._when + (cost - self._level) / self._rate + 1e-6


def change_burst(rate: float) -> float:
    """The burst that belongs to a `--change-rate`: max(2,000, 20 N)."""
    return max(float(CHANGE_BURST), CHANGE_BURST_S * rate)


class AddressRates:
    """A bucket for each address, made when first used. A rate of 0 lifts the limit.

    Over RATED_ADDRESSES_MAX the address that was quiet for longest is forgotten: its bucket is most
    likely full again, and a full bucket need not be remembered.
    """

    __slots__ = ("_buckets", "_burst", "_rate")

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._buckets: dict[str, TokenBucket] = {}  # the order is that of the last use

    def __len__(self) -> int:
        return len(self._buckets)

    def times(self, factor: float) -> AddressRates:
        """Rates for whole networks of addresses: `factor` times these."""
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
