"""How often the room asks for what is only claimed."""

from __future__ import annotations

import pytest

from evloop.room.reliable.estimators import LossMeter
from evloop.room.reliable.leave import Leave
from evloop.room.reliable.limits import CLAIM_NACKS, LOSS_UNKNOWN, STUCK_ASKS
from tests.support.rooms import ANN, BOB


def _leave(percent: int) -> Leave:
    meter = LossMeter()
    meter.told = percent
    return Leave(meter)


def _spent(leave: Leave) -> int:
    """So many NACKs about Ann are left."""
    count = 0
    while leave.has([ANN]):
        leave.spend([ANN])
        count += 1
        assert count < 100
    return count


@pytest.mark.parametrize(
    ("percent", "most"), [(0, CLAIM_NACKS), (1, 3), (4, 3), (5, 4), (30, 6), (LOSS_UNKNOWN, 6)]
)
def test_the_more_is_lost_the_more_is_asked(percent: int, most: int) -> None:
    leave = _leave(percent)
    assert leave.all() == most <= STUCK_ASKS
    assert _spent(leave) == most
    leave.claimed(ANN)
    assert _spent(leave) == most // 2
    for _ in range(10):
        leave.claimed(ANN)
    assert _spent(leave) == most


def test_one_of_those_that_are_named_pays() -> None:
    leave = _leave(0)
    _spent(leave)
    assert leave.has([ANN, BOB])
    leave.spend([ANN, BOB])
    leave.claimed(ANN)
    assert leave.has([ANN]) and leave.has([BOB])
    leave.spend([BOB])
    assert not leave.has([BOB])
    leave.forget(BOB)
    assert _spent(leave) == 1 and leave.has([BOB])
