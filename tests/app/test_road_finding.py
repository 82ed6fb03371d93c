"""What doctor says of the road that a room takes: each row, in a table."""

from __future__ import annotations

import pytest

from evloop.app.diagnosis import Evidence, Finding
from evloop.app.road_finding import road_words
from evloop.room.roads import WISHES

DEAF = Finding("receiving", "network_drops", "bad", "", "", {})
MUTE = Finding("sending", "firewall_out", "bad", "", "", {})
CLOCK = Finding("clock", "clock", "note", "", "", {})


@pytest.mark.parametrize(
    ("relay", "road", "found", "says", "do"),
    [
        ("", "", [], "", ""),
        ("none", "", [DEAF], "this directory carries none", ""),
        ("never", "", [], "--relay is never", ""),
        ("never", "", [DEAF], "--relay is never", "--relay auto"),
        ("always", "alone", [], "--relay always", ""),
        ("auto", "", [CLOCK], "rooms go by multicast;", ""),
        ("auto", "", [DEAF], "by the directory: multicast does not reach this machine", ""),
        ("auto", "", [MUTE], "by the directory: multicast of this machine does not get out", ""),
        ("auto", "off", [], "by multicast, which works", ""),
        ("auto", "full", [DEAF], "multicast does not bring everybody", ""),
    ],
)
def test_each_row(relay: str, road: str, found: list[Finding], says: str, do: str) -> None:
    what, advice = road_words(Evidence(relay=relay, road=road), found)
    assert says in what and bool(what) == bool(relay)
    assert advice == do


@pytest.mark.parametrize("road", WISHES)
def test_each_road_has_its_sentence(road: str) -> None:
    told = {road_words(Evidence(relay="auto", road=one), [])[0] for one in WISHES}
    assert len(told) == len(WISHES)
    assert road_words(Evidence(relay="auto", road=road), [])[0]
