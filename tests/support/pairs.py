"""Pairs of two sequences, and of neighbours in one, as Python 3.10 has them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import tee
from typing import TypeVar

One = TypeVar("One")
Other = TypeVar("Other")


def pairwise(items: Iterable[One]) -> Iterator[tuple[One, One]]:
    """Each item with the one after it: "abc" -> ("a", "b"), ("b", "c")."""
    first, second = tee(items)
    next(second, None)
    return zip(first, second)


def both(ones: Iterable[One], others: Iterable[Other]) -> Iterator[tuple[One, Other]]:
    """As `zip`, but fails when one of them ends before the other."""
    left, right = iter(ones), iter(others)
    nothing = object()
    for one in left:
        other = next(right, nothing)
        assert other is not nothing, "the second ends before the first"
        yield one, other  # type: ignore[misc]
    assert next(right, nothing) is nothing, "the first ends before the second"
