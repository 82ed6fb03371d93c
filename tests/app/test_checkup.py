"""`doctor` as a command: its words, an examination with a real directory on loopback, --watch."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest

from evloop.app.checkup import Checkup, place_asked, watch_seconds
from evloop.app.commands import UsageError, parse_line
from evloop.app.diagnosis import Evidence
from evloop.app.doctor import Examination, Place, Setting
from evloop.app.limits import DOCTOR_EVERY_S, DOCTOR_WATCH_S
from evloop.base.errors import BadMessage, EvloopError, Refused
from evloop.daemon.dispatcher import HANDLERS
from evloop.directory import protocol
from evloop.directory.client import READY, DirectoryClient
from evloop.net.hub import Hub
from tests.support.live import House

# -- words -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "arguments", "seconds"),
    [
        ("doctor", [], 0.0),
        ("doctor lab", ["lab"], 0.0),
        ("doctor lab --watch", ["lab"], DOCTOR_WATCH_S),
        ("doctor --watch lab", ["lab"], DOCTOR_WATCH_S),
        ("doctor --watch 130 lab", ["lab"], 130.0),
        ("doctor --watch=2.5", [], 2.5),
        ("doctor lab --watch 7", ["lab"], 7.0),
    ],
)
def test_the_number_behind_watch_may_be_left_out(
    line: str, arguments: list[str], seconds: float
) -> None:
    parsed = parse_line("prompt", line)
    assert parsed is not None
    assert parsed[1] == arguments
    assert watch_seconds(parsed[2]) == seconds


@pytest.mark.parametrize("text", ["x", "-1", "0", "1e9", "99999999", "1.2.3"])
def test_what_is_no_span(text: str) -> None:
    with pytest.raises(UsageError, match="takes a number of seconds"):
        watch_seconds({"--watch": text})


def test_what_is_looked_at() -> None:
    assert place_asked(None, True).params == {"fresh": True}
    assert place_asked("lab", True).params == {"name": "lab"}
    place = place_asked("239.255.7.1:5751", True)
    assert place.params == {"address": "239.255.7.1", "port": 5_751}
    assert place_asked("1.2.3.4:80", True).params == {"name": "1.2.3.4:80"}
    with pytest.raises(Refused):
        place_asked("1.2.3.4:80", False)


# -- what a directory answers ----------------------------------------------------------------------

PLACE = {
    "group": "239.255.7.1", "port": 5_751, "address": "192.0.2.10", "prefix": 24,
    "interface": "eth0", "seen_as": "192.0.2.33", "udp": 40_000, "wall": 1_795_348_801,
}  # fmt: skip
REPORT = {
    "sent": 20, "refused": 0, "heard": 20, "heard_long": 10, "own": 20, "unicast": 5,
    "foreign": {"192.0.2.9": 3}, "ladder": {"wire": 1, "ip": None}, "noise": {},
}  # fmt: skip


def test_what_a_directory_answers_is_read() -> None:
    read = protocol.read_probe(PLACE)
    assert (read.group, read.port, read.prefix) == ("239.255.7.1", 5_751, 24)
    report = protocol.read_report({**REPORT, "news": 1})
    assert report["ladder"] == {
        "wire": 1, "ip": None, "mcast": None, "rp_filter": None, "rcvbuf": None
    }  # fmt: skip
    assert "news" not in report


@pytest.mark.parametrize(
    "wrong",
    [
        {"group": "192.0.2.1"},
        {"group": 7},
        {"port": 80},
        {"port": True},
        {"wall": "now"},
        {"prefix": None},
        {"seen_as": []},
    ],
)
def test_a_place_that_is_none(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadMessage):
        protocol.read_probe({**PLACE, **wrong})


@pytest.mark.parametrize(
    "wrong",
    [
        {"heard": -1},
        {"heard": "20"},
        {"sent": 10**9},
        {"foreign": []},
        {"ladder": None},
        {"own": 1.5},
    ],
)
def test_a_report_that_is_none(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadMessage):
        protocol.read_report({**REPORT, **wrong})


def test_a_report_of_a_stranger_is_bounded() -> None:
    foreign = {f"192.0.2.{n}": n for n in range(200)}
    assert len(protocol.read_report({**REPORT, "foreign": foreign})["foreign"]) == 8


# -- an examination on loopback --------------------------------------------------------------------


class World:
    """A directory and a client of it on one loop."""

    def __init__(self, *options: str) -> None:
        self.house = House("--interface", "127.0.0.1", *options)
        self.loop = self.house.loop
        hub = Hub(self.loop)
        self.loop.before_sleep(hub.flush)
        self.rng = Random(1)
        self.link = DirectoryClient(self.loop, hub, lambda: self.rng, "test/1", lambda: "Mel")
        self.link.connect(*self.house.address, lambda version, error: None)
        self.house.until(lambda: self.link.state == READY)
        self.late_s = 0.0  # of the wall clock
        self.said: list[str] = []
        self.found: list[tuple[Evidence, EvloopError | None]] = []

    def setting(self) -> Setting:
        return Setting(
            self.loop,
            self.link,
            wanted="127.0.0.1",
            ttl=1,
            rng=self.rng,
            wall=lambda: time.time() + self.late_s,
        )

    def examine(self, place: Place) -> Examination:
        examination = Examination(
            self.setting(), place, self.said.append, lambda *found: self.found.append(found)
        )
        examination.begin()
        return examination

    def evidence(self, place: Place) -> Evidence:
        self.examine(place)
        self.house.until(lambda: self.found)
        evidence, error = self.found.pop()
        assert error is None
        return evidence

    def close(self) -> None:
        self.link.close()
        self.house.close()


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.close()


def test_both_directions_are_measured(world: World) -> None:
    evidence = world.evidence(Place())
    (mine,), (theirs,) = evidence.mine, evidence.theirs
    assert mine["heard"] == theirs["heard"] == mine["own"] == 20
    assert mine["unicast"] == theirs["unicast"] == 5
    assert (evidence.interface, evidence.here) == ("lo", True)
    assert not evidence.can_ask


def test_who_is_in_the_room_is_counted_and_the_doctor_is_not(world: World) -> None:
    caller = world.house.caller()
    world.house.call(caller, "makeroom", name="lab")
    world.house.call(caller, "enter", name="lab")
    assert world.evidence(Place("lab", listed=True, counted=-1)).counted == 1
    room = world.house.call(caller, "enter", name="lab")["result"]["room"]
    assert room["members"] == 1


def test_no_such_room(world: World) -> None:
    world.examine(Place("lab", listed=True))
    world.house.until(lambda: world.found)
    error = world.found[0][1]
    assert isinstance(error, Refused) and error.reason == "no_such_room"


def test_a_directory_that_is_too_old(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(HANDLERS, "probe")
    assert world.evidence(Place()).no_probe == "the directory is too old for probes"


def test_a_directory_that_makes_no_probes() -> None:
    world = World("--no-probe")
    try:
        assert "--no-probe" in world.evidence(Place()).no_probe
    finally:
        world.close()


def test_slow_down_is_waited_out_and_said(world: World) -> None:
    other = {"fresh": True, "nonce": "1122334455667788", "udp": 40_000}
    world.link.request("probe", other, lambda value, error: None)
    evidence = world.evidence(Place())
    assert world.said and "the directory asks to wait" in world.said[0]
    assert len(evidence.theirs) == 1


@pytest.mark.parametrize("mode", ["plain", "sealed"])
def test_a_room_that_answers_no_probe_is_looked_at_beside_its_port(world: World, mode: str) -> None:
    caller = world.house.caller()
    world.house.call(caller, "makeroom", name="lab", mode=mode)
    evidence = world.evidence(Place("lab", listed=True))
    assert not evidence.can_ask and len(evidence.theirs) == 1


def test_what_is_given_up_holds_nothing(world: World) -> None:
    watched = len(world.loop.watches)
    examination = world.examine(Place())
    world.house.until(lambda: len(world.loop.watches) > watched + 2)
    examination.stop()
    world.house.skip(3.0)
    assert len(world.loop.watches) == watched
    assert not world.found


def test_the_directory_goes_while_it_looks(world: World) -> None:
    world.examine(Place())
    world.house.until(lambda: len(world.loop.watches) > 6)
    for connection in list(world.house.dispatcher.connections.values()):
        connection.abort("gone")
    world.house.until(lambda: world.found)
    ((evidence, error),) = world.found
    assert error is not None or evidence.no_probe  # where it is connected again in time


# -- telling ---------------------------------------------------------------------------------------


class Told:
    """A checkup and what it has printed."""

    def __init__(self, world: World, place: Place, watch_s: float = 0.0, as_json: bool = False):
        self.shown: list[str] = []
        self.notes: list[str] = []
        self.done: list[tuple[int, EvloopError | None]] = []
        self.checkup = Checkup(
            world.setting(),
            place,
            watch_s=watch_s,
            as_json=as_json,
            show=self.shown.append,
            note=self.notes.append,
            time_of_day=lambda: "12:04:21",
            done=lambda *status: self.done.append(status),
        )
        self.checkup.begin(None)


def test_findings_are_shown_and_the_last_line_is_a_note(world: World) -> None:
    told = Told(world, Place())
    world.house.until(lambda: told.done)
    assert told.done == [(0, None)]
    assert [line.split()[1] for line in told.shown] == [
        "interface", "directory", "receiving", "sending", "road"
    ]  # fmt: skip
    assert told.notes == ["evloop: doctor: nothing is wrong"]


def test_json(world: World) -> None:
    told = Told(world, Place(), as_json=True)
    world.house.until(lambda: told.done)
    *findings, last = map(json.loads, told.shown)
    assert {one["type"] for one in findings} == {"finding"}
    assert last == {"v": 1, "type": "doctor", "room": "", "interface": "lo", "bad": 0, "unknown": 0}
    assert not told.notes


def test_watch_tells_what_changes_with_its_time(world: World) -> None:
    told = Told(world, Place(), watch_s=2 * DOCTOR_EVERY_S)
    world.house.until(lambda: len(told.shown) == 5)
    assert not told.done
    world.late_s = -100.0  # this machine's clock was set
    world.house.skip(DOCTOR_EVERY_S)
    world.house.until(lambda: len(told.shown) > 5)
    assert re.match("12:04:21 note clock: the clocks differ by (99|100) s", told.shown[5])
    world.house.skip(DOCTOR_EVERY_S + 5)
    world.house.until(lambda: told.done)
    assert len(told.shown) == 6


def test_given_up(world: World) -> None:
    told = Told(world, Place(), watch_s=60.0)
    world.house.until(lambda: told.shown)
    told.checkup.give_up()
    ((status, error),) = told.done
    assert status == 1 and str(error) == "given up"
