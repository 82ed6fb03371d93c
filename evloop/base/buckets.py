"""How much somebody may do: token buckets.

A take may cost any amount (bytes, say), and a look at the level takes nothing: what is less urgent
gives way to what is more.
"""


class Bucket:
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
