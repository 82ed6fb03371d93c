"""A room with more senders in its life than it keeps records of becomes quiet all the same.

The cap is small here, and `evloop say` from cron is a new sender each time, which is gone when its
line is said.
"""

from __future__ import annotations

import pytest

from evloop.room.reliable import vector
from evloop.room.reliable.limits import (
    FORGOTTEN_MAX,
    GONE_S,
    LAMPORT_JUMP_MAX,
    SENDER_KEPT_S,
    STANDING_S,
)
from tests.support.hall import Hall
from tests.support.rooms import (
    BOB,
    EVE,
    Room,
    data,
    repair,
    session,
    settled,
)

CAP = 60  # more than the longest list of a SESSION names


def ident(n: int) -> bytes:
    return b"cron" + n.to_bytes(4, "big")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vector, "SENDERS_MAX", CAP)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("senders", [CAP + 10, 2 * CAP + 1])
def test_after_a_newcomer_and_more_senders_it_is_quiet(senders: int) -> None:
    hall = Hall(4)
    hall.run(70)
    hall.lines(senders)
    hall.is_quiet()
    hall.join(9)
    hall.run(120)
    hall.is_quiet()
    hall.lines(5)
    hall.run(60)
    hall.is_quiet()
    hall.lines(CAP)
    hall.run(60)
    hall.is_quiet()


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("missed", [5, CAP + 20])
def test_a_member_that_was_away_meanwhile_makes_it_no_louder(missed: int) -> None:
    hall = Hall(4)
    hall.run(70)
    hall.lines(CAP + 10)
    hall.away.add(2)
    hall.lines(missed)
    hall.away.clear()
    hall.run(120)
    hall.is_quiet()
    hall.lines(3)
    hall.is_quiet()


@pytest.mark.usefixtures("small")
def test_members_that_speak_and_leave_make_it_no_louder() -> None:
    hall = Hall(5)
    hall.run(70)
    for n in (0, 1, 4):
        hall.members[n].say(f"I am {n}", hall.now, 0)
        hall.run(2)
    hall.lines(CAP + 10)
    for one in hall.members.values():  # they are present: no stranger takes their places
        assert {bytes([200 + n]) * 8 for n in (0, 1, 4)} <= set(one.message_log.streams)
    hall.is_quiet()
    hall.join(9)
    hall.run(120)
    hall.members[4].leave(hall.now, 0)
    hall.run(1)
    del hall.members[4]
    hall.lines(5)
    hall.run(SENDER_KEPT_S)  # so long it is kept by those that knew it
    hall.lines(5)
    hall.run(60)
    hall.is_quiet()


@pytest.mark.usefixtures("small")
def test_my_first_word_takes_a_place_with_me_as_with_the_others() -> None:
    hall = Hall(4)
    hall.run(70)
    hall.lines(CAP + 10)
    for n in (0, 3):
        hall.members[n].say("good evening", hall.now, 0)
        hall.run(30)
    hall.is_quiet()
    assert all(one.message_log.senders.listed() == CAP for one in hall.members.values())


@pytest.mark.usefixtures("small")
def test_who_speaks_without_heed_to_lamport_times_is_shown_and_it_becomes_quiet() -> None:
    hall = Hall(4)
    hall.run(70)
    hall.lines(CAP + 10)
    hall.hear(data(EVE, 0, "simple", lamport=1), deaf=3)
    assert all((EVE, 0) in hall.shown[n] for n in range(3))
    hall.run(120)
    hall.is_quiet()


# -- one member, by hand --------------------------------------------------------------------------


def crowd(count: int = CAP, lamport: int = 10) -> Room:
    """A room in which so many strangers spoke more than STANDING_S ago."""
    room = settled()
    for n in range(count):
        room.hear(data(ident(n), 0, lamport=lamport + n))
        room.run(0.1)
    room.run(STANDING_S)
    room.sent.clear()
    room.events.clear()
    return room


@pytest.mark.usefixtures("small")
def test_a_repair_of_what_is_older_than_all_is_refused_and_not_asked_for_again() -> None:
    room = crowd()
    room.hear(session(BOB, 0, [(EVE, 0, 1)]))
    room.run(1)
    assert any((EVE, 0, 1) in listed for _, _, listed in room.nacks())
    room.hear(repair(EVE, 0, lamport=5))
    assert room.shown(EVE) == []
    room.sent.clear()
    for counter in range(1, 20):
        room.hear(session(BOB, counter, [(EVE, 0, 1)]))
        room.run(GONE_S / 10)
    assert room.nacks() == [] and room.stat("gaps") == 0
    # What is newer is asked for, and taken.
    room.hear(session(BOB, 20, [(EVE, 0, 2)]))
    room.run(1)
    assert any((EVE, 1, 2) in listed for _, _, listed in room.nacks())
    room.hear(repair(EVE, 1, lamport=500))
    assert EVE in room.session.message_log.streams
    assert ident(0) not in room.session.message_log.streams


@pytest.mark.usefixtures("small")
def test_a_repair_of_what_is_newer_takes_the_place_of_the_oldest() -> None:
    room = crowd()
    room.hear(repair(EVE, 0, lamport=10 + CAP))
    assert room.shown(EVE) == [(0, "")]
    assert set(room.session.message_log.streams) == {
        room.session.sender_id, EVE, *(ident(n) for n in range(1, CAP))
    }  # fmt: skip


@pytest.mark.usefixtures("small")
def test_who_had_to_make_room_and_speaks_again_goes_on_where_it_was() -> None:
    room = crowd()
    room.hear(data(EVE, 0, lamport=500))
    assert ident(0) not in room.session.message_log.streams
    room.sent.clear()
    room.hear(data(ident(0), 1, lamport=501))
    assert room.shown(ident(0)) == [(1, "")]
    room.run(5)
    assert room.nacks() == []
    assert room.session.message_log.streams[ident(0)].hi == 2
    room.hear(data(ident(0), 0, lamport=10))  # a replay
    assert room.shown(ident(0)) == [(1, "")]


@pytest.mark.usefixtures("small")
def test_of_who_had_to_make_room_nothing_is_asked_for_that_was_shown() -> None:
    room = crowd()
    room.hear(data(EVE, 0, lamport=1))
    room.hear(session(BOB, 0, [(ident(0), 0, 2)]))
    room.run(1)
    assert {asked for _, _, listed in room.nacks() for asked in listed} == {(ident(0), 1, 2)}
    room.run(STANDING_S)  # from now on EVE makes room again
    room.hear(session(BOB, 1, [(ident(0), 0, 2)]))
    room.run(1)
    room.hear(repair(ident(0), 1, lamport=501))
    assert room.shown(ident(0)) == [(1, "")]
    room.sent.clear()
    room.run(2 * GONE_S)
    assert room.nacks() == [] and room.stat("gaps") == 0


@pytest.mark.usefixtures("small")
def test_who_made_room_for_what_is_older_comes_back_without_an_ask() -> None:
    room = crowd()
    room.hear(data(EVE, 0, lamport=1))  # it heeds no Lamport times, and speaks now
    records = room.session.message_log.streams
    assert EVE in records and ident(0) not in records
    room.events.clear()
    room.hear(session(BOB, 0, [(ident(0), 0, 1)]))
    assert ident(0) not in records
    room.run(STANDING_S + 1)
    room.hear(session(BOB, 1, [(ident(0), 0, 1)]))
    assert EVE not in records
    assert (records[ident(0)].lo, records[ident(0)].hi) == (1, 1)
    room.run(5)
    assert room.nacks() == [] and room.shown() == []


@pytest.mark.usefixtures("small")
def test_a_stranger_in_the_name_of_a_member_does_not_make_its_words_old() -> None:
    """His DATA had made room, and was remembered; its first words are shown all the same."""
    room = crowd(CAP - 1)
    for seq in range(3):
        room.hear(data(BOB, seq, "forged", lamport=1))
    room.run(STANDING_S + 1)
    room.hear(data(EVE, 0, lamport=500))
    assert BOB not in room.session.message_log.streams
    room.events.clear()
    room.hear(session(BOB, 0, [(BOB, 0, 0)], name="Bob"))
    room.hear(data(BOB, 0, "mine", lamport=501, name="Bob"))
    assert room.shown(BOB) == [(0, "")]


@pytest.mark.usefixtures("small")
def test_forged_times_do_not_hold_places_for_ever() -> None:
    room = crowd()
    for n in range(2 * CAP):  # each far ahead of the clock of the room
        lamport = 2**32 - 1 if n % 2 else 10 + n + LAMPORT_JUMP_MAX
        room.hear(data(b"forged" + n.to_bytes(2, "big"), 0, lamport=lamport))
        room.run(0.05)
    room.run(STANDING_S)
    for n in range(CAP):
        lamport = room.session.message_log.lamport.value + 1
        room.hear(data(b"honest" + n.to_bytes(2, "big"), 0, lamport=lamport))
        room.run(5)
    records = set(room.session.message_log.streams) - {room.session.sender_id}
    assert {record[:6] for record in records} == {b"honest"}


@pytest.mark.usefixtures("small")
def test_of_the_forgotten_a_bounded_number_is_remembered() -> None:
    room = crowd()
    vector_ = room.session.message_log.senders
    for n in range(FORGOTTEN_MAX + 100):
        room.hear(repair(b"old" + n.to_bytes(5, "big"), 0, lamport=1))
        room.run(1 / 50)
    assert len(vector_.forgotten) == FORGOTTEN_MAX
    assert vector_.streams.keys() >= {ident(n) for n in range(CAP)}
