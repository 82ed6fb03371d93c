"""Rooms that nobody needs: by the time that the server ran, not by the calendar."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from evloop.daemon.expiry import Expiry
from evloop.daemon.limits import EXPIRED_PER_SWEEP_MAX
from evloop.daemon.store import open_store
from evloop.directory.protocol import RoomEntry
from tests.support.live import House


def rooms(*names: str) -> list[RoomEntry]:
    return [RoomEntry(name, "239.255.7.1", 2000 + at) for at, name in enumerate(names)]


def sweep(
    expiry: Expiry, now: float, found: list[RoomEntry], members: Callable[[RoomEntry], int]
) -> tuple[dict[RoomEntry, float], list[RoomEntry]]:
    """A whole sweep, in pieces of one."""
    changed: dict[RoomEntry, float] = {}
    expired: list[RoomEntry] = []
    expiry.begin()
    for room in found:
        newly, gone = expiry.look(now, [room], members)
        changed |= newly
        expired += gone
    expiry.end()
    return changed, expired


def test_an_empty_room_expires_after_its_span() -> None:
    (lab,) = rooms("lab")
    expiry = Expiry(10.0, 0.0, {}, 100.0)
    assert sweep(expiry, 100.0, [lab], lambda _: 0) == ({lab: 0.0}, [])
    assert sweep(expiry, 109.9, [lab], lambda _: 0) == ({}, [])
    assert sweep(expiry, 110.0, [lab], lambda _: 0) == ({}, [lab])


def test_somebody_in_it_or_a_short_visit_keeps_it() -> None:
    lab, den = rooms("lab", "den")
    expiry = Expiry(10.0, 0.0, {}, 0.0)
    sweep(expiry, 0.0, [lab, den], lambda _: 0)
    changed, expired = sweep(expiry, 10.0, [lab, den], lambda room: room is lab)
    assert changed == {lab: 10.0} and expired == [den]
    expiry.visited.add("den")
    assert sweep(expiry, 11.0, [lab, den], lambda _: 0) == ({den: 11.0}, [])
    assert expiry.visited == set()


def test_a_room_made_anew_under_its_name_is_new() -> None:
    (old,) = rooms("lab")
    (new,) = rooms("lab")
    expiry = Expiry(10.0, 0.0, {}, 0.0)
    sweep(expiry, 0.0, [old], lambda _: 0)
    assert sweep(expiry, 50.0, [new], lambda _: 0) == ({new: 50.0}, [])


def test_time_goes_on_after_a_restart_and_stands_still_between() -> None:
    lab, den = rooms("lab", "den")
    expiry = Expiry(10.0, 1_000.0, {"lab": 994.0}, 7.0)
    assert expiry.ran(7.0) == 1_000.0
    changed, expired = sweep(expiry, 7.0, [lab, den], lambda _: 0)
    assert (changed, expired) == ({den: 1_000.0}, [])
    assert sweep(expiry, 11.0, [lab, den], lambda _: 0) == ({}, [lab])


def test_the_store_keeps_it(tmp_path: Path) -> None:
    path = str(tmp_path / "directory.db")
    lab, den = rooms("lab", "den")
    store = open_store(path)
    for room in (lab, den):
        store.insert(room)
    store.note_seen(1234.9, {lab: 17.5})
    store.commit(2)
    store.close()
    store = open_store(path)
    assert store.load_seen() == (1234, {"lab": 17})
    store.delete(lab)
    store.insert(lab)
    store.commit(4)
    assert store.load_seen() == (1234, {}), "deleted with its room"
    store.close()


def test_a_server_removes_what_nobody_needs_and_says_so() -> None:
    house = House("--expire", "0.001")  # 86.4 s
    try:
        caller, other = house.caller(), house.caller()
        for name in ("used", "visited", "empty"):
            house.call(caller, "makeroom", name=name)
        house.call(caller, "enter", name="used")
        house.call(other, "watch")
        house.skip(80.0)
        house.call(caller, "enter", name="visited")
        house.call(caller, "leave", name="visited")
        house.skip(20.0)
        other.read()
        gone = [it["params"]["room"]["name"] for it in other.got if "method" in it]
        assert gone == ["empty"]
        assert any("a room has expired room=empty" in line for line in house.lines)
        house.skip(90.0)
        names = [room.name for room in house.dispatcher.directory.rooms()]
        assert names == ["used"]
    finally:
        house.close()


def test_many_expired_rooms_go_a_few_at_a_time() -> None:
    house = House("--expire", "0.001", "--change-rate", "0")
    try:
        caller = house.caller()
        for number in range(EXPIRED_PER_SWEEP_MAX + 50):
            house.call(caller, "makeroom", name=f"room{number}")
        house.skip(85.0)
        sizes = set()
        for _ in range(30):
            house.skip(0.5)
            sizes.add(len(house.dispatcher.directory))
        assert sizes == {EXPIRED_PER_SWEEP_MAX + 50, 50, 0}
    finally:
        house.close()


class ExpiryMachine(RuleBasedStateMachine):
    """Against the plain truth: for each room, how long it has been empty."""

    SPAN = 20.0

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.expiry = Expiry(self.SPAN, 0.0, {}, 0.0)
        self.rooms = rooms("a", "b", "c")
        self.inside: set[RoomEntry] = set()
        self.used = dict.fromkeys(self.rooms, 0.0)
        sweep(self.expiry, 0.0, self.rooms, lambda room: room in self.inside)
        self.swept = 0.0

    @rule(which=st.integers(0, 2))
    def toggle(self, which: int) -> None:
        room = self.rooms[which]
        self.used[room] = self.now
        if room in self.inside:
            self.inside.remove(room)
        else:
            self.inside.add(room)
            self.expiry.visited.add(room.fold)

    @rule(seconds=st.floats(0.0, 30.0))
    def wait_and_sweep(self, seconds: float) -> None:
        self.now += seconds
        for room in self.inside:
            self.used[room] = self.now
        _, expired = sweep(self.expiry, self.now, self.rooms, lambda room: room in self.inside)
        for room in self.rooms:
            empty = self.now - self.used[room]
            if room in expired:
                assert empty >= self.SPAN - 1e-6, "too early"
            elif room not in self.inside:
                # Seen at worst at the sweep after it was used.
                assert empty - (self.now - self.swept) - 30.0 < self.SPAN, "too late"
        self.swept = self.now


TestExpiryMachine = ExpiryMachine.TestCase
TestExpiryMachine.settings = settings(max_examples=60)
