"""Clocks for a loop in a test."""

from __future__ import annotations

from time import monotonic


class PushedClock:
    """Real time, that a test can push forward: add to `ahead`."""

    ahead = 0.0

    def __call__(self) -> float:
        return monotonic() + self.ahead
