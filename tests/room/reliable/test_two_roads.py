"""Loss is measured on one road: what another road brings fills no gap in what is counted."""

from __future__ import annotations

from random import Random

import pytest

from evloop.room.reliable.estimators import LossMeter
from evloop.room.reliable.limits import LOSS_PENDING_MAX, LOSS_UNKNOWN
from tests.support.rooms import ANN, BOB, Room, data, session, settled

Heard = tuple[bytes, bool]


def _talk(room: Room, rng: Random, loss: float, relay: str) -> None:
    """Ann and Bob say 60 messages each, with copies and SESSIONs; the group loses some, and the
    relay ("before", "after" or "none") brings everything as well."""
    counters = {ANN: 2**32 - 40, BOB: 1_000}
    for n in range(60):
        for sender in (ANN, BOB):
            counters[sender] = (counters[sender] + 1) & 0xFFFFFFFF
            listed = [(sender, 0, n)]
            heard = [data(sender, n, flags=more << 4) for more in (3, 2, 1, 0)]
            heard.append(session(sender, counters[sender], listed, digest=1))
            for datagram in heard:
                roads: list[Heard] = [(datagram, True)] if rng.random() >= loss else []
                if relay == "before":
                    roads.insert(0, (datagram, False))
                elif relay == "after":
                    roads.append((datagram, False))
                for one, sample in roads:
                    room.session.receive_datagram(one, "there", room.now, sample)
                room.run(0.008)
        room.run(0.4)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("relay", ["before", "after"])
def test_what_the_relay_brings_changes_no_sample(relay: str, seed: int) -> None:
    told = []
    for road in ("none", relay):
        room = settled()
        _talk(room, Random(seed), 0.3, road)
        told.append(room.stat("loss_percent"))
    assert abs(told[0] - told[1]) <= 1  # a message of which the group brought no copy is no sample
    assert 22 <= told[1] <= 38


def test_by_the_relay_alone_the_loss_is_unknown() -> None:
    room = settled()
    _talk(room, Random(1), 1.0, "after")
    assert room.stat("received") == 120
    assert room.stat("loss_percent") == LOSS_UNKNOWN


def test_what_the_relay_brought_meanwhile_counts_as_lost_by_the_group() -> None:
    room = settled()
    _talk(room, Random(1), 0.0, "after")
    assert room.stat("loss_percent") == 0
    for counter in range(21, 41):  # Ann's, by the relay alone
        forty = session(ANN, counter, [(ANN, 0, 60)], digest=1)
        room.session.receive_datagram(forty, "relay", room.now, False)
    assert room.stat("loss_percent") == 0  # nothing tells yet that the group has lost them
    room.session.receive_datagram(session(ANN, 41, [], digest=1), "group", room.now)
    assert room.stat("loss_percent") >= 3


def test_what_came_by_the_other_road_alone_is_bounded() -> None:
    meter = LossMeter()
    for n in range(LOSS_PENDING_MAX + 50):
        meter.data((ANN, n), 3, True, False, 0.0)
    assert len(meter.elsewhere) == LOSS_PENDING_MAX
