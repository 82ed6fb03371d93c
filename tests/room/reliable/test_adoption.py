"""A room in which nobody holds any more what was said becomes quiet all the same, and no lie about
that keeps a message from anybody."""

from __future__ import annotations

from random import Random

import pytest

from evloop.room.reliable import vector
from evloop.room.reliable.adoption import Adoption
from evloop.room.reliable.limits import (
    ADOPT_S,
    ADOPTIONS_TOLD_MAX,
    EXPLAIN_S,
    GONE_S,
    HISTORY_S,
    LISTED_S,
    NEW_SENDERS_PER_S,
)
from evloop.room.reliable.packets import SESSION
from evloop.room.reliable.vector import digest_item
from tests.support.hall import Hall
from tests.support.rooms import ANN, BOB, EVE, ME, Range, Room, data, repair, session, settled

CAP = 60
STRANGE = 0x5A5A  # added to a digest: nothing that is listed explains it


def _day_later(hall: Hall) -> None:
    hall.now += 1.1 * HISTORY_S  # no timers in between: a machine that slept
    hall.run(120)
    assert not any(one.stats()["history"] for one in hall.members.values())


@pytest.mark.parametrize("senders", [1, 5, 40, 200])
def test_a_newcomer_makes_a_room_of_25_hours_no_louder(senders: int) -> None:
    hall = Hall(4)
    hall.run(70)
    hall.lines(senders, apart=5.0)
    _day_later(hall)
    before = hall.is_quiet()
    hall.join(9)
    hall.run(60 if senders <= 40 else 300)
    assert hall.is_quiet() <= 1.2 * before * 5 / 4  # there are five now


def test_members_that_spoke_and_are_still_there_are_agreed_on_too() -> None:
    hall = Hall(4)
    hall.run(70)
    for n in (0, 2):
        hall.members[n].say("yesterday", hall.now, 1_800_000_000)
        hall.run(5)
    _day_later(hall)
    hall.join(9)
    hall.run(60)
    hall.is_quiet()
    for n in (2, 9, 0):
        hall.members[n].say("today", hall.now, 1_800_000_000)
        hall.run(60)
    hall.is_quiet()
    assert len([one for one in hall.shown[9] if one[1] == 1]) == 2  # 0 and 2 said one yesterday


def test_of_more_senders_than_records_it_becomes_quiet_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vector, "SENDERS_MAX", CAP)
    hall = Hall(4)
    hall.run(70)
    hall.lines(CAP + 10, apart=5.0)
    _day_later(hall)
    hall.join(9)
    hall.run(300)
    hall.is_quiet()
    hall.lines(5, apart=60.0)
    hall.run(LISTED_S + 60)  # what the others have dropped, nobody has listed for so long
    hall.is_quiet()


def test_after_a_flood_of_invented_senders_it_is_quiet() -> None:
    hall = Hall(4)
    hall.run(70)
    chance = Random(1)
    for counter in range(200):  # she is of standing when she begins
        listed = [(chance.randbytes(8), 7, 7) for _ in range(50 if counter > 140 else 0)]
        hall.hear(session(EVE, counter, listed, digest=chance.getrandbits(64)))
        hall.run(0.5)
    assert len({one.digest() for one in hall.members.values()}) > 1
    hall.run(60)
    hall.sent = 0
    hall.run(60)
    assert hall.sent <= 60 * 3  # she makes it three times as loud at most, and not for long
    hall.run(780)
    hall.is_quiet()
    assert 1_000 < len(hall.members[0].message_log.senders.adopted) <= 1_024


# -- one session ----------------------------------------------------------------------------------


class Teller:
    """A member that lists what it is told to, with a digest that this does not explain."""

    def __init__(self, room: Room, sender: bytes = EVE) -> None:
        self.room = room
        self.sender = sender
        self.counter = 0
        self.own: list[Range] = []

    def tell(self, *listed: Range, times: int = 1, apart: float = 0.5) -> None:
        for _ in range(times):
            self.counter += 1
            digest = self.room.session.digest() ^ STRANGE
            entries = [*self.own, *listed]
            self.room.hear(session(self.sender, self.counter, entries, digest=digest))
            self.room.run(apart)


def _adopted(room: Room) -> set[bytes]:
    return set(room.session.message_log.senders.adopted)


def _adopts(hi: int = 5) -> Room:
    room = settled()
    Teller(room).tell((ANN, hi, hi), times=6)
    assert _adopted(room) == {ANN}
    assert room.session.digest() == digest_item(ANN, hi)
    return room


def test_what_nobody_holds_is_adopted_after_a_while() -> None:
    room = settled()
    eve = Teller(room)
    eve.tell((ANN, 5, 5), times=int(ADOPT_S / 0.5))
    assert not _adopted(room)
    eve.tell((ANN, 5, 5))
    assert _adopted(room) == {ANN}
    assert room.shown() == [] and room.nacks() == []


@pytest.mark.parametrize("numbers", [[0, 1, 2], [5, 6], [3, 2], [9], [4, 5, 6]])
def test_data_makes_the_record_as_if_there_had_been_none(numbers: list[int]) -> None:
    def heard(room: Room) -> tuple[object, ...]:
        room.events.clear()
        for seq in numbers:
            room.hear(data(ANN, seq))
            room.run(0.1)
        room.run(GONE_S + 10)
        stream = room.session.message_log.streams[ANN]
        return stream.base, stream.hi, stream.lo, room.shown(), room.told("lost")

    plain = settled()
    Teller(plain).tell(times=6)
    room = _adopts()
    assert heard(room) == heard(plain)
    assert not _adopted(room)


def test_what_somebody_holds_after_all_is_asked_for_and_shown() -> None:
    room = _adopts()
    Teller(room, BOB).tell((ANN, 0, 5))
    assert room.nacks()[0][2] == [(ANN, 0, 5)]
    room.hear(*[repair(ANN, seq) for seq in range(5)])
    room.run(1)
    assert [seq for seq, _ in room.shown(ANN)] == [0, 1, 2, 3, 4]
    assert not _adopted(room)


def test_what_is_asked_for_is_not_adopted() -> None:
    room = settled()
    Teller(room, BOB).tell((ANN, 0, 5))
    Teller(room).tell((ANN, 5, 5), times=20)
    assert not _adopted(room)


def test_a_member_is_adopted_by_its_own_word_alone() -> None:
    room = settled()
    ann, eve = Teller(room, ANN), Teller(room)
    ann.own = [(ANN, 3, 3)]
    ann.tell(times=2)
    eve.tell((ANN, 9, 9), times=8)
    assert not _adopted(room)
    ann.tell(times=8)
    assert room.session.digest() == digest_item(ANN, 3)
    ann.own = [(ANN, 2, 2)]  # it knows better
    ann.tell()
    assert not _adopted(room)


def test_a_false_number_gives_way_to_what_others_tell() -> None:
    room = _adopts(hi=1_000_000)
    bob = Teller(room, BOB)
    bob.tell((ANN, 7, 7), times=8)
    assert room.session.digest() == digest_item(ANN, 7)
    assert room.nacks() == []


def test_adopted_records_make_room_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vector, "SENDERS_MAX", 3)
    room = settled()
    others = [bytes([n]) * 8 for n in range(0x20, 0x26)]
    Teller(room).tell(*[(one, 4, 4) for one in others], times=8)
    assert len(_adopted(room)) == 3
    for count, one in enumerate(others[:3]):
        room.hear(data(one, 0))
        assert len(_adopted(room)) == 2 - count
        assert room.shown(one) == [(0, "")]  # nothing was taken for old


def test_adoption_has_its_rate_and_its_bound() -> None:
    adoption = Adoption(0.0)
    for n in range(ADOPTIONS_TOLD_MAX + 100):
        adoption.told(n.to_bytes(8, "big"), 1, 0.0)
    assert len(adoption) == ADOPTIONS_TOLD_MAX
    assert adoption.take(ADOPT_S - 0.1) == []
    taken = [len(adoption.take(ADOPT_S + n / 10)) for n in range(11)]
    assert taken[0] == NEW_SENDERS_PER_S
    assert NEW_SENDERS_PER_S - 1 <= sum(taken[1:]) <= NEW_SENDERS_PER_S
    adoption.agreed()
    assert adoption.take(100.0) == []


def test_an_equal_digest_makes_what_was_told_void() -> None:
    room = settled()
    eve, bob = Teller(room), Teller(room, BOB)
    eve.tell((ANN, 5, 5), times=4)
    room.hear(session(BOB, 1, [(ME, 0, 0)], digest=room.session.digest()))
    bob.counter = 1
    bob.tell(times=4)
    assert not _adopted(room)


# -- wonder ---------------------------------------------------------------------------------------


def test_an_unexplained_digest_is_wondered_at_ever_less_often() -> None:
    room = settled()
    room.say("hello")
    room.run(10)
    before = len(room.said(SESSION))
    Teller(room).tell((ME, 0, 1), times=1_200, apart=0.25)  # for 300 s
    sent = [when for when, _ in room.said(SESSION)[before:]]
    # 0.3 + 0.6 + ... + 38.4 s: after that there are a few a minute, as in a room that agrees.
    assert len([when for when in sent if when > room.now - 150]) <= 150 / 3
    assert len(sent) <= 300 / 3 + 40


def test_after_a_change_of_my_own_it_is_wondered_at_anew() -> None:
    room = settled()
    room.say("hello")
    eve = Teller(room)
    eve.tell((ME, 0, 1), times=600, apart=0.25)
    room.say("again")
    before = room.now
    eve.tell((ME, 0, 2), times=int(4 * (4 * EXPLAIN_S + 1)), apart=0.25)
    sent = [when for when, _ in room.said(SESSION) if when > before]
    assert len(sent) >= 3


def test_who_lacks_only_what_i_do_not_hold_is_not_behind() -> None:
    room = _adopts()
    before = len(room.said(SESSION))
    Teller(room, BOB).tell((BOB, 0, 0), times=240, apart=0.25)  # for 60 s
    # Each time that it is wondered at, Trickle begins anew: seven SESSIONs in 13 s.
    assert len(room.said(SESSION)) - before <= 60 / 3 + 7 * 4
