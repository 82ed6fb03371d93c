"""Clocks for a loop in a test."""

from __future__ import annotations

from time import monotonic


class PushedClock:
    """Real time, that a test can push forward: add to `ahead`."""

    ahead = 0.0

    def __call__(self) -> float:
        return monotonic() + self.ahead


class StandingClock:
    """Time passes by `ahead` alone: what a busy machine does late is not too late."""

    def __init__(self) -> None:
        self.ahead = 0.0
        self._begin = monotonic()

    def __call__(self) -> float:
        return self._begin + self.ahead
