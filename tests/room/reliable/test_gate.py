"""The gate of a sealed room, cell by cell: who is there now, and what of whom is taken in."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from evloop.room.reliable.gate import REPLAYED, TAKEN, UNPROVEN, WAITS, Gate
from evloop.room.reliable.limits import (
    LISTED_SENDERS_MAX,
    NAMES_MAX,
    REPLAY_WINDOW,
    SPANS_MAX,
    STRANGER_S,
    STRANGERS_MAX,
    WAITING_MAX,
)
from evloop.room.reliable.packets import NOBODY
from evloop.system.timers import NEVER

ME, ANN, BOB, CID = b"myselfid", b"ann-ann-", b"bob-bob-", b"cid-cid-"
Range = tuple[bytes, int, int]


def told(
    *,
    echo: bytes = NOBODY,
    listed: tuple[Range, ...] = (),
    strangers: tuple[bytes, ...] = (),
    members: tuple[bytes, ...] = (),
) -> Any:
    """The fields of a SESSION."""
    raw = b"".join(
        sender + lo.to_bytes(4, "big") + hi.to_bytes(4, "big") for sender, lo, hi in listed
    )
    head = (0, 0, echo, 0, 0, 0, 255, 2, b"Ann")
    return (*head, raw, b"".join(strangers), b"".join(members))


NAMED = {
    "as echo": told(echo=ME),
    "as an entry": told(listed=((ANN, 0, 3), (ME, 0, 1))),
    "as a stranger": told(strangers=(BOB, ME)),
    "as a member": told(members=(BOB, ME)),
}
OTHERS = told(echo=BOB, listed=((ANN, 0, 2),), strangers=(BOB,), members=())


class Room:
    """A gate and its time; each state of the table is one call."""

    def __init__(self) -> None:
        self.gate = Gate(ME)
        self.now = 100.0
        self.counter = 0  # of who lists

    def session(self, sender: bytes, counter: int, fields: Any, differs: bool = True) -> str:
        return self.gate.session(sender, counter, fields, (sender, counter), differs, self.now)

    def nack(self, sender: bytes, counter: int, *, to: bytes = NOBODY, listed: Any = ()) -> str:
        raw = told(listed=tuple(listed))[9]
        return self.gate.nack(sender, counter, (to, raw), self.now)

    def proven(self, sender: bytes = ANN, counter: int = 5) -> Room:
        assert self.session(sender, counter, told(echo=ME)) == TAKEN
        return self

    def stranger(self, sender: bytes = ANN, counter: int = 5) -> Room:
        assert self.session(sender, counter, OTHERS) == UNPROVEN
        return self

    def by_list(self, *senders: bytes) -> Room:
        """A proven member's list of members has `senders`."""
        self.counter += 2
        self.proven(CID, self.counter)
        assert self.session(CID, self.counter + 1, told(members=senders)) == TAKEN
        return self


def test_each_way_to_name_me_proves_and_each_from_each_state() -> None:
    for fields in NAMED.values():
        for state in (Room(), Room().stranger(), Room().proven()):
            assert state.session(ANN, 6, fields) == TAKEN
            assert state.gate.is_proven(ANN)


def test_an_id_across_two_entries_does_not_name_me() -> None:
    fields = (*told()[:9], b"xxxx" + ME + bytes(4), b"abcd" + ME + b"efgh", b"")
    room = Room()
    assert ME in fields[9]
    assert ME in fields[10]
    assert room.session(ANN, 1, fields) == UNPROVEN
    assert room.nack(ANN, 2) == UNPROVEN
    assert room.gate.nack(ANN, 2, (NOBODY, fields[9]), room.now) == UNPROVEN


def test_a_session_that_does_not_name_me() -> None:
    unknown, stranger, proven = Room(), Room().stranger(), Room().proven()
    assert unknown.session(ANN, 6, OTHERS) == UNPROVEN
    assert not unknown.gate.is_proven(ANN)
    assert unknown.gate.has_strangers(unknown.now)
    assert stranger.session(ANN, 6, OTHERS) == UNPROVEN
    assert not stranger.gate.is_proven(ANN)
    assert proven.session(ANN, 6, OTHERS) == TAKEN
    assert proven.gate.is_proven(ANN)


def test_a_list_of_members_proves_and_the_strangers_last_session_is_taken_in() -> None:
    unknown = Room().by_list(ANN)
    assert unknown.gate.is_proven(ANN)
    assert unknown.gate.released == []
    stranger = Room().stranger(ANN, 5)
    stranger.now += 1.0
    stranger.session(ANN, 7, OTHERS)
    when = stranger.now
    stranger.now += 1.0
    stranger.by_list(ANN)
    assert stranger.gate.released == [((ANN, 7), when)]
    assert not stranger.gate.has_strangers(stranger.now)
    proven = Room().proven()
    proven.by_list(ANN)
    assert proven.gate.released == []


def test_a_stranger_proves_nobody() -> None:
    room = Room()
    room.session(CID, 1, told(members=(ANN,), listed=((BOB, 0, 9),)))
    assert not room.gate.is_proven(ANN)
    assert not room.gate.admits(BOB, 1)


def test_a_session_that_overtook_another_proves_and_the_later_one_is_taken_in() -> None:
    room = Room().stranger(ANN, 7)
    assert room.session(ANN, 6, told(echo=ME)) == REPLAYED
    assert room.gate.is_proven(ANN)
    assert room.gate.released == [((ANN, 7), room.now)]


def test_counters_of_sessions_rise() -> None:
    room = Room().proven(ANN, 5)
    assert room.session(ANN, 5, told(echo=ME)) == REPLAYED
    assert room.session(ANN, 4, told(echo=ME)) == REPLAYED
    assert room.nack(ANN, 9) == TAKEN
    assert room.session(ANN, 8, told(echo=ME)) == REPLAYED, "above all before, NACKs too"
    assert room.session(ANN, 10, told(echo=ME)) == TAKEN
    stranger = Room().stranger(ANN, 5)
    assert stranger.session(ANN, 5, OTHERS) == REPLAYED
    assert stranger.session(ANN, 4, OTHERS) == REPLAYED


def test_who_was_silent_for_too_long_is_unknown_and_its_counters_stay() -> None:
    room = Room().proven(ANN, 5)
    room.gate.gone(ANN)
    assert not room.gate.is_proven(ANN)
    assert room.session(ANN, 5, told(echo=ME)) == REPLAYED
    assert room.session(ANN, 4, OTHERS) == REPLAYED
    assert room.session(ANN, 6, OTHERS) == UNPROVEN
    assert room.session(ANN, 5, told(echo=ME)) == REPLAYED, "below what it had shown before"
    assert room.session(ANN, 7, told(echo=ME)) == TAKEN


def test_bye_is_final() -> None:
    for counter, before in ((9, REPLAYED), (10, REPLAYED), (11, TAKEN)):
        room = Room().proven(ANN, 10)
        assert room.gate.bye(ANN, counter, room.now) == before
        assert room.gate.is_proven(ANN) == (before == REPLAYED)
    assert room.gate.bye(ANN, 12, room.now) == UNPROVEN
    assert room.session(ANN, 13, told(echo=ME)) == REPLAYED
    assert room.nack(ANN, 14, to=ME) == REPLAYED
    room.by_list(ANN)
    assert not room.gate.is_proven(ANN), "its list was made before"
    stranger = Room().stranger(ANN, 5)
    assert stranger.gate.bye(ANN, 6, stranger.now) == UNPROVEN
    assert not stranger.gate.has_strangers(stranger.now)
    assert stranger.session(ANN, 7, told(echo=ME)) == REPLAYED
    unknown = Room()
    assert unknown.gate.bye(ANN, 6, unknown.now) == UNPROVEN


def test_the_first_bye_of_who_is_proven_by_a_list_alone_may_have_any_counter() -> None:
    room = Room().by_list(ANN)
    assert room.gate.bye(ANN, 0, room.now) == TAKEN


def test_each_nack_once_within_its_window() -> None:
    room = Room().proven(ANN, 100)
    low = 101 - REPLAY_WINDOW
    for counter in (101, 103, 102, 99, low + 3):
        assert room.nack(ANN, counter) == TAKEN, counter
        assert room.nack(ANN, counter) == REPLAYED, counter
    assert room.nack(ANN, 103 - REPLAY_WINDOW) == REPLAYED
    assert room.nack(ANN, 105 - REPLAY_WINDOW) == TAKEN
    assert room.nack(ANN, 1_000) == TAKEN
    assert room.nack(ANN, 102) == REPLAYED


def test_a_strangers_nack_gets_in_when_it_names_me() -> None:
    for room in (Room(), Room().stranger()):
        assert room.nack(ANN, 6) == UNPROVEN
        assert room.nack(ANN, 6, listed=[(BOB, 0, 9)]) == UNPROVEN
        assert room.nack(ANN, 6, to=ME) == TAKEN
        assert room.nack(ANN, 6, to=ME) == REPLAYED
        assert room.nack(ANN, 7, listed=[(BOB, 0, 1), (ME, 0, 2)]) == TAKEN
        assert not room.gate.is_proven(ANN)


# -- DATA ------------------------------------------------------------------------------------------


def test_data_of_who_is_proven_from_the_lowest_number_listed_on() -> None:
    room = Room()
    room.session(ANN, 1, told(echo=ME, listed=((ANN, 3, 5),)))
    assert [room.gate.admits(ANN, seq) for seq in (2, 3, 5, 99)] == [False, True, True, True]
    assert room.gate.wait(ANN, 2, "old", room.now) == UNPROVEN, "nothing makes that fresh"
    silent = Room().proven(ANN)  # no entry of its own: it has said nothing
    assert silent.gate.admits(ANN, 0)
    listed = Room().by_list(ANN)
    assert listed.gate.admits(ANN, 0)


def test_data_of_others_within_what_proven_members_list() -> None:
    room = Room()
    room.session(CID, 1, told(echo=ME, listed=((CID, 0, 1), (ANN, 3, 5))))
    for gone in (False, True):
        assert [room.gate.admits(ANN, seq) for seq in (2, 3, 4, 5)] == [False, True, True, False]
        assert [room.gate.lists(ANN, seq) for seq in (4, 5)] == [True, False]
        if not gone:
            room.gate.gone(CID)
    assert not room.gate.admits(BOB, 0)


def test_a_list_is_read_only_when_the_digest_differs() -> None:
    room = Room().proven(CID, 1)
    room.session(CID, 2, told(listed=((ANN, 0, 5),)), differs=False)
    assert not room.gate.admits(ANN, 1)
    room.session(CID, 3, told(listed=((ANN, 0, 5),)))
    assert room.gate.admits(ANN, 1)


def test_spans_are_united_where_they_touch_and_the_newest_stay() -> None:
    room = Room().proven(CID, 0)
    counter = 0

    def lists(lo: int, hi: int) -> None:
        nonlocal counter
        counter += 1
        assert room.session(CID, counter, told(listed=((ANN, lo, hi),))) == TAKEN

    lists(0, 5)
    lists(5, 9)
    lists(20, 30)
    assert [room.gate.admits(ANN, seq) for seq in (0, 8, 9, 19, 20)] == [
        True, True, False, False, True,
    ]  # fmt: skip
    lists(7, 22)
    assert room.gate.admits(ANN, 15)
    for lo in range(100, 100 + 10 * SPANS_MAX, 10):
        lists(lo, lo + 2)
    assert not room.gate.admits(ANN, 15), "the oldest went"
    assert room.gate.admits(ANN, 100)


def _listed_by_cid(room: Room) -> None:
    room.proven(CID).session(CID, 9, told(listed=((ANN, 0, 1),)))


PROOFS: list[Callable[[Room], object]] = [
    lambda room: room.proven(ANN),
    lambda room: room.by_list(ANN),
    _listed_by_cid,
]


@pytest.mark.parametrize("prove", PROOFS)
def test_data_waits_for_proof(prove: Callable[[Room], object]) -> None:
    room = Room()
    assert not room.gate.admits(ANN, 0)
    assert room.gate.wait(ANN, 0, "one", room.now) == WAITS
    assert room.gate.wait(ANN, 0, "copy", room.now) == UNPROVEN
    assert room.gate.wait(BOB, 0, "other", room.now) == WAITS
    prove(room)
    assert room.gate.admitted
    assert room.gate.take_admitted() == ["one"]
    assert not room.gate.admitted
    assert room.gate.take_admitted() == []


def test_what_waits_is_bounded_in_number_and_time() -> None:
    room = Room()
    for seq in range(WAITING_MAX + 3):
        room.gate.wait(ANN, seq, seq, room.now)
    assert room.gate.vain == [(ANN, 0), (ANN, 1), (ANN, 2)]
    assert room.gate.stats()["waiting"] == WAITING_MAX
    assert room.gate.waits_until() == room.now + STRANGER_S
    room.gate.expire(room.now + STRANGER_S - 0.1)
    assert room.gate.stats()["waiting"] == WAITING_MAX
    room.gate.expire(room.now + STRANGER_S)
    assert room.gate.stats()["waiting"] == 0
    assert len(room.gate.vain) == WAITING_MAX + 3
    assert room.gate.waits_until() == NEVER


# -- names -----------------------------------------------------------------------------------------


def test_members_that_became_proven_are_named_twice_and_again_when_they_do_not_know_me() -> None:
    room = Room().proven(ANN, 1)
    assert [room.gate.names(room.now) for _ in range(3)] == [([], [ANN]), ([], [ANN]), ([], [])]
    room.session(ANN, 2, told(echo=ME))
    assert room.gate.names(room.now) == ([], [])
    room.session(ANN, 3, told(strangers=(ME,)))
    assert [room.gate.names(room.now) for _ in range(2)] == [([], [ANN]), ([], [])]
    room.by_list(BOB)
    assert BOB in room.gate.names(room.now)[1]


def test_strangers_are_named_once_for_each_session_and_the_newest_first() -> None:
    room = Room().stranger(ANN, 1)
    room.now += 1
    room.stranger(BOB, 1)
    assert room.gate.names(room.now) == ([BOB, ANN], [])
    assert room.gate.names(room.now) == ([], [])
    room.stranger(ANN, 2)
    assert room.gate.names(room.now) == ([ANN], [])
    room.stranger(ANN, 3)
    assert room.gate.has_strangers(room.now + STRANGER_S)
    assert not room.gate.has_strangers(room.now + STRANGER_S + 0.1)
    assert room.gate.names(room.now + STRANGER_S + 0.1) == ([], [])


def test_members_come_before_strangers_where_there_is_no_room_for_all() -> None:
    room = Room()
    members = [b"member%02d" % number for number in range(NAMES_MAX - 2)]
    for member in members:
        room.proven(member, 1)
    strangers = [b"strang%02d" % number for number in range(NAMES_MAX)]
    for stranger in strangers:
        room.stranger(stranger, 1)
    named = room.gate.names(room.now)
    assert named == ([strangers[-1], strangers[-2]], members)
    assert room.gate.names(room.now)[0][:2] == [strangers[-3], strangers[-4]]


def test_who_is_proven_by_a_list_and_stays_silent_is_forgotten() -> None:
    room = Room().by_list(ANN)
    assert room.gate.unheard_until(21.0) == room.now + 21.0
    room.gate.forget_unheard(21.0, room.now + 20.9)
    assert room.gate.is_proven(ANN)
    room.gate.forget_unheard(21.0, room.now + 21.0)
    assert not room.gate.is_proven(ANN)
    heard = Room().by_list(ANN)
    heard.session(ANN, 1, OTHERS)
    heard.gate.forget_unheard(21.0, heard.now + 99.0)
    assert heard.gate.is_proven(ANN)


# -- bounds ----------------------------------------------------------------------------------------


def test_the_gate_is_bounded() -> None:
    """20,000 strangers, and members that list as many."""
    rng = Random(1)
    room = Room().proven(ANN, 1)
    counter = 1
    for number in range(2 * STRANGERS_MAX):  # each `evloop say` is one
        room.proven(number.to_bytes(8, "big"), 1).gate.gone(number.to_bytes(8, "big"))
    for number in range(20_000):
        other = rng.randbytes(8)
        kind = number % 4
        if kind == 0:
            room.session(other, rng.randrange(2**32), OTHERS)
        elif kind == 1:
            room.gate.wait(other, rng.randrange(2**32), b"", room.now)
        elif kind == 2:
            room.gate.bye(other, rng.randrange(2**32), room.now)
        else:
            counter += 1
            listed = tuple((rng.randbytes(8), 0, 9) for _ in range(16))
            room.session(ANN, counter, told(listed=listed, strangers=(ME,)))
    stats = room.gate.stats()
    assert stats["listed"] <= LISTED_SENDERS_MAX
    assert stats["waiting"] <= WAITING_MAX
    assert stats["strangers"] + stats["former"] <= STRANGERS_MAX
    assert len(room.gate.strangers) <= STRANGERS_MAX
    strangers, members = room.gate.names(room.now)
    assert len(strangers) + len(members) <= NAMES_MAX


def test_a_flood_does_not_make_me_forget_who_was_here() -> None:
    room = Room().proven(ANN, 50)
    room.gate.gone(ANN)
    rng = Random(1)
    for _ in range(3 * STRANGERS_MAX):
        room.session(rng.randbytes(8), 7, OTHERS)
    assert room.session(ANN, 49, told(echo=ME)) == REPLAYED
