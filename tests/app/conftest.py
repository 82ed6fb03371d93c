"""What the tests of several rooms share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.several import Several


@pytest.fixture
def world() -> Iterator[Several]:
    several = Several()
    yield several
    several.loop.close()
