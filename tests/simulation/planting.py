"""A bug that is planted must be noticed: the shape of such a test."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.simulation.oracle import Violation

Patch = Callable[[pytest.MonkeyPatch], None]
# How it is planted; what then measures it; and what that measures at most without it.
Planted = tuple[Patch, Callable[[], float], float]


def assert_noticed(planted: Planted, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the bug the figure is within its bound; with it beyond, or the oracle objects."""
    plant, play, most = planted
    assert play() <= most
    plant(monkeypatch)
    try:
        figure = play()
    except Violation:
        return
    assert figure > most
