"""How often one address may do a thing: token buckets.

A bucket holds up to `burst` tokens and gains `rate` a second; each act takes one. An address that
is not in the table has a full bucket, so only those below full need to be remembered.
"""

from evloop.base.buckets import Bucket
from evloop.base.limits import (
    CHANGE_BURST,
    CHANGE_BURST_S,
    RATED_ADDRESSES_MAX,
)


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
        self._buckets: dict[str, Bucket] = {}  # the order is that of the last use

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, address: str, now: float) -> float:
        """Take a token and return 0.0, or take none and return the seconds until there is one."""
        if not self._rate:
            return 0.0
        bucket = self._buckets.pop(address, None)
        if bucket is None:
            if len(self._buckets) >= RATED_ADDRESSES_MAX:
                del self._buckets[next(iter(self._buckets))]
            bucket = Bucket(self._rate, self._burst, now)
        self._buckets[address] = bucket
        return 0.0 if bucket.take(now) else bucket.when() - now
