"""The rules of the directory, held against plain dicts; listings, versions, undoing."""

from __future__ import annotations

import json
import random
import unicodedata
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from evloop.base.errors import Refused
from evloop.base.limits import PAYLOAD_BYTES_MAX, ROOM_NAME_BYTES_MAX
from evloop.base.names import check_room_name, fold, normalize
from evloop.base.strictjson import encode
from evloop.directory import protocol
from evloop.directory import registry as directory_module
from evloop.directory.limits import (
    AFTER_BYTES_MAX,
    BLOCK_ROOMS,
    ID_CHARS_MAX,
    NAME_AS_SENT_FACTOR,
    NETWORK_ROOMS_FACTOR,
    PAGE_ROOMS_MAX,
    PAGES_CACHED_MAX,
    PLACE_DRAWS_MAX,
    ROOMS_ENTERED_MAX,
)
from evloop.directory.places import places_of
from evloop.directory.protocol import RoomEntry
from evloop.directory.registry import Directory
from tests.support.pairs import both

LONGEST_ID = encode("\0" * ID_CHARS_MAX)


def room(name: str, number: int = 0, maker: str = "192.0.2.1") -> RoomEntry:
    address = f"239.1.{number >> 8 & 255}.{number & 255}"
    return RoomEntry(name, address, 5000 + (number >> 16), "reliable", 1795348801, maker)


def filled(count: int, **options: Any) -> Directory:
    rooms = [room(f"room-{number:05}", number) for number in range(count)]
    return Directory(rooms, 7, **options)


def listed(directory: Directory, limit: int = PAGE_ROOMS_MAX) -> list[dict[str, Any]]:
    """The whole listing, as a client reads it; each reply is checked to fit a frame."""
    found: list[dict[str, Any]] = []
    after = None
    while True:
        body = directory.page(after, limit)
        assert len(protocol.result(LONGEST_ID, body)) <= PAYLOAD_BYTES_MAX
        page = json.loads(body)
        assert page["version"] == directory.version
        assert len(page["rooms"]) <= limit
        found += page["rooms"]
        after = page["next"]
        if after is None:
            return found
        assert after == page["rooms"][-1]["name"]


def refused(code: int, reason: str, call: Any, *arguments: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        call(*arguments)
    assert (caught.value.code, caught.value.reason) == (code, reason)
    assert caught.value.sentence.isprintable()
    return caught.value


# -- the model: plain dicts, everything computed anew ----------------------------------------------

# Few names and places, so that they meet; some differ only until they are folded.
NAMES = ["lab", "LAB", "ｌａｂ", "Straße", "STRASSE", "z", "a", "éa", "e\u0301A", "Ω", 'q"\\', "😀"]
PLACES = [("239.1.0.1", 5000), ("239.1.0.1", 5001), ("239.1.0.2", 5000), ("ff15::7", 5000)]
MAKERS = ["192.0.2.1", "192.0.2.2", "2001:db8:0:7::/64"]
MEMBERS = range(4)
ROOMS_MAX, PER_ADDRESS = 3, 2


class DirectoryMachine(RuleBasedStateMachine):
    """Every operation on the directory and on a model; after each, all that can be seen agrees."""

    @initialize(version=st.integers(min_value=0, max_value=10**9), capped=st.booleans())
    def start(self, version: int, capped: bool) -> None:
        rooms_max, per_address = (ROOMS_MAX, PER_ADDRESS) if capped else (0, 0)
        self.caps = rooms_max, per_address
        self.directory = Directory(
            version=version, rooms_max=rooms_max, rooms_per_address=per_address
        )
        self.version = version
        self.rooms: dict[str, RoomEntry] = {}
        self.inside: dict[str, set[int]] = {}
        self.remember()

    def remember(self) -> None:
        """What a rollback leads back to."""
        self.committed = self.version, dict(self.rooms)
        self.parted: dict[str, set[int]] = {}  # who was in a committed room when it was deleted

    def why_not(self, new: RoomEntry) -> str | None:
        rooms_max, per_address = self.caps
        if new.fold in self.rooms:
            return "room_exists"
        for other in self.rooms.values():
            if (other.address, other.port) == (new.address, new.port):
                return "address_in_use"
        made = sum(other.maker == new.maker for other in self.rooms.values())
        if per_address and made >= per_address:
            return "too_many_rooms"
        if rooms_max and len(self.rooms) >= rooms_max:
            return "directory_full"
        return None

    def as_object(self, one: RoomEntry) -> dict[str, Any]:
        return {
            "name": one.name,
            "address": one.address,
            "port": one.port,
            "mode": one.mode,
            "members": len(self.inside[one.fold]),
            "made": one.made,
            "keep": False,
        }

    @rule(
        name=st.sampled_from(NAMES),
        place=st.sampled_from(PLACES),
        maker=st.sampled_from(MAKERS),
        mode=st.sampled_from(protocol.MODES),
        made=st.integers(min_value=0, max_value=2**40),
    )
    def make(self, name: str, place: tuple[str, int], maker: str, mode: str, made: int) -> None:
        new = RoomEntry(name, *place, mode, made, maker)
        why_not = self.why_not(new)
        try:
            self.directory.check_make(new)
        except Refused as no:
            assert no.reason == why_not
            if why_not == "address_in_use":
                assert no.data is not None
                assert self.rooms[fold(str(no.data["room"]))].address == new.address
            return
        assert why_not is None
        body = self.directory.add(new)
        self.version += 1
        self.rooms[new.fold] = new
        self.inside[new.fold] = set()
        assert json.loads(body) == {"version": self.version, "room": self.as_object(new)}

    @rule(name=st.sampled_from(NAMES))
    def delete(self, name: str) -> None:
        key = fold(name)
        if key not in self.rooms:
            refused(3, "no_such_room", self.directory.check_delete, name)
            return
        gone = self.directory.check_delete(name)
        assert gone is self.rooms[key]
        expected = self.as_object(gone)
        body = self.directory.remove(gone)
        self.version += 1
        assert json.loads(body) == {"version": self.version, "room": expected}
        del self.rooms[key]
        inside = self.inside.pop(key)
        if self.committed[1].get(key) is gone:
            self.parted[key] = inside

    @rule()
    def commit(self) -> None:
        self.directory.commit()
        self.remember()

    @rule()
    def rollback(self) -> None:
        self.directory.rollback()
        self.version, self.rooms = self.committed[0], dict(self.committed[1])
        self.inside = {
            # Deleted meanwhile: those who were in it then; never gone: those who are in it now.
            key: self.parted[key] if key in self.parted else self.inside[key]
            for key in self.rooms
        }
        self.remember()

    @rule(name=st.sampled_from(NAMES), member=st.sampled_from(MEMBERS))
    def enter(self, name: str, member: int) -> None:
        key = fold(name)
        if key not in self.rooms:
            refused(3, "no_such_room", self.directory.enter, name, member)
            return
        body = self.directory.enter(name, member)
        self.inside[key].add(member)
        assert json.loads(body) == {"room": self.as_object(self.rooms[key])}

    @rule(name=st.sampled_from(NAMES), member=st.sampled_from(MEMBERS))
    def leave(self, name: str, member: int) -> None:
        self.directory.leave(name, member)
        self.inside.get(fold(name), set()).discard(member)

    @rule(member=st.sampled_from(MEMBERS))
    def leave_all(self, member: int) -> None:
        self.directory.leave_all(member)
        for inside in [*self.inside.values(), *self.parted.values()]:
            inside.discard(member)

    @rule(
        after=st.none() | st.sampled_from(NAMES) | st.text(max_size=3),
        limit=st.integers(min_value=1, max_value=5),
    )
    def page(self, after: str | None, limit: int) -> None:
        keys = sorted(key for key in self.rooms if after is None or key > fold(after))
        page = json.loads(self.directory.page(after, limit))
        assert page == {
            "version": self.version,
            "rooms": [self.as_object(self.rooms[key]) for key in keys[:limit]],
            "next": self.rooms[keys[limit - 1]].name if len(keys) > limit else None,
        }

    @invariant()
    def all_that_can_be_seen_agrees(self) -> None:
        keys = sorted(self.rooms)
        assert listed(self.directory, 2) == [self.as_object(self.rooms[key]) for key in keys]
        assert self.directory.rooms() == [self.rooms[key] for key in keys]
        assert len(self.directory) == len(keys)
        assert self.directory.version == self.version
        assert self.directory.provisional == (self.version != self.committed[0])
        for key in keys:
            one = self.rooms[key]
            assert self.directory.find(one.name) is one
            assert self.directory.members(one) == len(self.inside[key])


TestDirectoryMachine = DirectoryMachine.TestCase
TestDirectoryMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


# -- the listing -----------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 7, BLOCK_ROOMS, 2 * BLOCK_ROOMS + 1, PAGE_ROOMS_MAX])
def test_every_limit_lists_every_room_once_and_in_order(limit: int) -> None:
    directory = filled(1000)
    names = [one["name"] for one in listed(directory, limit)]
    assert names == [f"room-{number:05}" for number in range(1000)]


def test_a_page_has_as_many_rooms_as_the_limit_says() -> None:
    directory = filled(1000)
    for limit in (1, 200, PAGE_ROOMS_MAX):
        assert len(json.loads(directory.page(None, limit))["rooms"]) == limit


def test_a_page_of_long_names_is_cut_by_the_frame() -> None:
    rooms = [RoomEntry(f"{i:03}" + '"' * 61, f"ff15::{i:x}", 5000) for i in range(900)]
    directory = Directory(rooms, rooms_max=0)
    first = directory.page(None, PAGE_ROOMS_MAX)
    assert PAYLOAD_BYTES_MAX - 1500 < len(first) < PAYLOAD_BYTES_MAX
    assert [one["name"] for one in listed(directory)] == [one.name for one in rooms]


def test_rooms_are_sorted_by_the_code_points_of_the_fold() -> None:
    names = ["zoo", "Ärger", "ärger2", "Ab", "aa", "😀", "｡", "éa", "10", "9", "~"]
    directory = Directory([room(name, number) for number, name in enumerate(names)])
    expected = sorted(names, key=lambda name: [ord(c) for c in fold(name)])
    assert [one["name"] for one in listed(directory)] == expected


def test_after_need_not_exist_and_is_folded() -> None:
    directory = filled(10)
    for after in ("ROOM-00004", "room-00004", "room-00004zzz", "ｒoom-00004"):
        assert json.loads(directory.page(after, 1))["rooms"][0]["name"] == "room-00005"
    assert json.loads(directory.page("z" * 60_000, 5))["rooms"] == []
    assert json.loads(directory.page("\0", 1))["rooms"][0]["name"] == "room-00000"
    assert json.loads(directory.page("", 1))["rooms"][0]["name"] == "room-00000"


COSTLY = "\ufdfa\u0f81\u0958\u1f82\U0001d160\u00c5\u0344a"


def test_a_long_name_is_not_folded_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it was found: U+FDFA is 18 characters when it is folded, and 64 names of 256 of it in
    one batch took 50 ms. Bytes are judged before anything is folded."""
    folded: list[int] = []
    normalized: list[int] = []
    by_name: list[int] = []
    by_after: list[int] = []

    def measured(name: str) -> str:
        folded.append(len(name.encode()))
        return fold(name)

    def also_measured(form: Any, text: str) -> str:
        normalized.append(len(text.encode()))
        return normalize(form, text)

    directory = filled(1)
    monkeypatch.setattr(directory_module, "fold", measured)
    monkeypatch.setattr(directory_module, "normalize", also_measured)
    for sign in COSTLY:
        for length in (1, 15, 16, 21, 22, 64, 85, 86, 192, 193, 256, 257, 1_024, 60_000):
            refused(3, "no_such_room", directory.find, sign * length)
            refused(3, "no_such_room", directory.enter, sign * length, "somebody")
            directory.leave(sign * length, "somebody")
            by_name += folded
            folded.clear()
            directory.page(sign * length, 5)
            by_after += folded
            folded.clear()
    assert max(by_after) <= AFTER_BYTES_MAX
    assert max(normalized) <= NAME_AS_SENT_FACTOR * ROOM_NAME_BYTES_MAX
    assert max(by_name) <= ROOM_NAME_BYTES_MAX, "only what `after` says is longer than a name"


@given(st.text(max_size=40))
def test_any_room_is_found_however_its_name_is_composed(text: str) -> None:
    try:
        name = check_room_name(text)
    except Refused:
        return
    directory = Directory([RoomEntry(name, "239.1.1.1", 5000)])
    for form in ("NFC", "NFD"):
        assert directory.find(unicodedata.normalize(form, name)).name == name


def test_a_page_is_made_once_until_something_changes() -> None:
    directory = filled(600)
    first = directory.page(None, 500)
    assert directory.page(None, 500) is first
    directory.enter("room-00003", "me")
    second = directory.page(None, 500)
    assert json.loads(second)["rooms"][3]["members"] == 1
    for number in range(2 * PAGES_CACHED_MAX):
        directory.page(f"room-{number:05}", 1)
        assert len(directory.pages) <= PAGES_CACHED_MAX
    again = directory.page(None, 500)  # was pushed out of the cache
    assert again == second
    assert again is not second


def test_after_a_change_only_what_changed_is_encoded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    directory = filled(2000)
    listed(directory)
    encoded: list[str] = []

    def counting(one: RoomEntry, members: int) -> bytes:
        encoded.append(one.name)
        return protocol.room_json(one, members)

    monkeypatch.setattr(directory_module, "room_json", counting)
    new = room("room-00500a", 5000)
    directory.add(new)
    listed(directory)
    assert encoded == ["room-00500a"]
    # Of what was joined before, all but the block of the change stands as it was.
    before = [block.joined for block in directory.listing.blocks]
    assert sum(piece is not None for piece in before) > 5
    directory.remove(new)
    listed(directory)
    after = [block.joined for block in directory.listing.blocks]
    changed = [old for old, now in both(before, after) if old and old is not now]
    assert len(changed) <= 1


# -- making and deleting ---------------------------------------------------------------------------


def test_the_sentences_are_fit_for_a_person() -> None:
    directory = Directory([RoomEntry("lab", "239.255.7.1", 5751)])
    no = refused(1, "room_exists", directory.check_make, RoomEntry("LAB", "239.255.7.1", 5751))
    assert no.sentence == "room lab exists already (239.255.7.1:5751)"
    no = refused(2, "address_in_use", directory.check_make, RoomEntry("x", "239.255.7.1", 5751))
    assert no.sentence == "239.255.7.1:5751 is in use by room lab"
    assert no.data == {"room": "lab"}
    no = refused(3, "no_such_room", directory.check_delete, "nope\x1b")
    assert no.sentence == "there is no room nope^["


def test_a_name_that_is_far_too_long_is_looked_up_without_folding_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(directory_module, "fold", lambda name: pytest.fail("folded"))
    directory = filled(1)
    refused(3, "no_such_room", directory.find, "x" * 60_000)
    directory.leave("x" * 60_000, "me")


def test_caps() -> None:
    directory = Directory(rooms_max=3, rooms_per_address=2)
    for number in range(2):
        directory.add(room(f"r{number}", number))
    refused(5, "too_many_rooms", directory.check_make, room("r2", 2))
    other = room("r2", 2, "192.0.2.2")
    directory.check_make(other)
    directory.add(other)
    refused(5, "directory_full", directory.check_make, room("r3", 3, "192.0.2.3"))
    directory.remove(directory.find("r0"))  # gives its place back, to its maker too
    directory.check_make(room("r3", 3))


def test_caps_of_nought_are_lifted() -> None:
    directory = filled(20, rooms_max=0, rooms_per_address=0)
    directory.check_make(room("one-more", 20))


def test_rooms_from_the_store_count() -> None:
    directory = filled(5, rooms_max=100, rooms_per_address=6)
    sixth = room("sixth", 5)
    directory.check_make(sixth)
    directory.add(sixth)
    directory.commit()
    refused(5, "too_many_rooms", directory.check_make, room("seventh", 6))
    assert directory.version == 8
    assert not directory.provisional


def test_the_rooms_of_a_network_of_ours_are_counted_one_by_one_and_together() -> None:
    directory = Directory(rooms_per_address=2)

    def made_by(maker: str, number: int) -> RoomEntry:
        return RoomEntry(f"r{number}", "239.1.1.1", 5000 + number, maker=maker)

    number = 0
    for host in range(NETWORK_ROOMS_FACTOR):
        for _ in range(2):
            number += 1
            directory.check_make(made_by(f"fd00::{host}", number))
            directory.add(made_by(f"fd00::{host}", number))
        if host < NETWORK_ROOMS_FACTOR - 1:
            refused(5, "too_many_rooms", directory.check_make, made_by(f"fd00::{host}", 99))
    sentence = refused(5, "too_many_rooms", directory.check_make, made_by("fd00::ffff", 99))
    assert "8 rooms from fd00::/64" in str(sentence)
    directory.check_make(made_by("fd00:0:0:1::1", 99))
    directory.check_make(made_by("192.0.2.1", 99))
    directory.rollback()
    assert directory.made_by == {}


class Stuck(random.Random):
    """Always draws the same."""

    draws = 0

    def getrandbits(self, bits: int) -> int:
        self.draws += 1
        return 0


@pytest.mark.parametrize("ipv6", [False, True])
def test_a_room_gets_the_first_of_its_places_that_is_free(ipv6: bool) -> None:
    """Without a draw, and the same in every directory; only when all are taken it is drawn."""
    directory, rng = Directory(), Stuck()
    places = list(places_of("lab", ipv6))
    for number, place in enumerate(places):
        for name in ("lab", "LAB", "ＬＡＢ"):
            assert directory.free_place(name, rng, ipv6) == place
        directory.add(RoomEntry(f"r{number}", *place))
    directory.remove(directory.find("r5"))
    assert directory.free_place("lab", rng, ipv6) == places[5]
    directory.add(RoomEntry("r5", *places[5]))
    assert rng.draws == 0
    drawn = directory.free_place("lab", rng, ipv6)
    assert drawn == (("ff15::", 25000) if ipv6 else ("239.255.1.0", 25000))
    directory.add(RoomEntry("drawn", *drawn))
    rng.draws = 0
    refused(5, "directory_full", directory.free_place, "lab", rng, ipv6)
    assert rng.draws == PLACE_DRAWS_MAX


def test_what_was_not_checked_is_our_own_mistake() -> None:
    directory = Directory([RoomEntry("lab", "239.255.7.1", 5751)])
    with pytest.raises(AssertionError):
        directory.add(RoomEntry("Lab", "239.255.7.2", 5751))
    with pytest.raises(AssertionError):
        directory.add(RoomEntry("x", "239.255.7.1", 5751))
    with pytest.raises(AssertionError):
        directory.remove(RoomEntry("lab", "239.255.7.1", 5751))


# -- members ---------------------------------------------------------------------------------------


def test_entering_and_leaving_may_be_repeated() -> None:
    directory = filled(2)
    for _ in range(2):
        assert json.loads(directory.enter("ROOM-00001", "me"))["room"]["members"] == 1
    assert json.loads(directory.enter("room-00001", "you"))["room"]["members"] == 2
    for _ in range(2):
        directory.leave("Room-00001", "me")
    directory.leave("nope", "me")
    assert [one["members"] for one in listed(directory)] == [0, 1]
    assert directory.version == 7
    assert not directory.provisional


def test_nobody_is_in_all_rooms() -> None:
    directory = filled(ROOMS_ENTERED_MAX + 1)
    for number in range(ROOMS_ENTERED_MAX):
        directory.enter(f"room-{number:05}", "me")
    directory.enter("room-00000", "me")  # is in it already
    refused(5, "too_many_rooms", directory.enter, f"room-{ROOMS_ENTERED_MAX:05}", "me")
    directory.leave("room-00000", "me")
    directory.enter(f"room-{ROOMS_ENTERED_MAX:05}", "me")
    directory.leave_all("me")
    assert sum(one["members"] for one in listed(directory)) == 0


def test_a_room_made_anew_has_nobody_in_it() -> None:
    directory = filled(1)
    directory.enter("room-00000", "me")
    gone = directory.find("room-00000")
    assert json.loads(directory.remove(gone))["room"]["members"] == 1
    assert json.loads(directory.add(gone))["room"]["members"] == 0
    directory.leave("room-00000", "me")
    assert directory.members(gone) == 0


def test_a_rollback_brings_members_back_but_not_those_who_are_gone() -> None:
    directory = filled(1)
    for member in ("me", "you"):
        directory.enter("room-00000", member)
    old = directory.find("room-00000")
    directory.remove(old)
    directory.add(room("room-00000", 77))
    directory.enter("room-00000", "them")
    directory.leave_all("you")
    directory.rollback()
    assert directory.find("room-00000") is old
    assert listed(directory)[0]["members"] == 1
    directory.leave("room-00000", "them")
    assert directory.members(old) == 1
    directory.leave_all("me")
    assert directory.members(old) == 0


# -- names that were not the same when they were made ---------------------------------------------


def test_two_rooms_of_one_fold_in_the_state_file_stay_reachable() -> None:
    """An older release took `lab` and `lab` with a variation selector for two names."""
    rooms = [
        RoomEntry(name, "239.255.7.1", 5751 + port, "reliable", 0, "", b"")
        for port, name in enumerate(["LAB\ufe0f", "lab", "Lab\u034f", "other"])
    ]
    directory = Directory(rooms, 9)
    assert len(directory) == 4
    assert [directory.find(room.name) for room in rooms] == rooms
    assert directory.find("laB") is rooms[0]
    body = directory.page(None, 1)
    told = []
    while True:
        page = json.loads(body)
        told += [room["name"] for room in page["rooms"]]
        if page["next"] is None:
            break
        body = directory.page(page["next"], 1)
    assert sorted(told) == sorted(room.name for room in rooms)
    directory.enter("lab", "somebody")
    assert directory.members(rooms[1]) == 1
    directory.remove(directory.check_delete("lab"))
    directory.rollback()
    assert directory.find("lab") is rooms[1]
    assert directory.members(rooms[1]) == 1
    for room in (rooms[1], rooms[0], rooms[2]):
        directory.remove(directory.check_delete(room.name))
    assert directory.rooms() == [rooms[3]]
    directory.commit()
    with pytest.raises(Refused):
        directory.find("lab")
