"""A history that becomes shorter, because its client is in several rooms: nothing else changes."""

from __future__ import annotations

from random import Random

import pytest

from evloop.room.plain import PlainSession
from evloop.room.reliable.packets import DATA
from tests.support.hall import Hall
from tests.support.rooms import ANN, BOB, ME, data, nack, session, settled

FEW = 16


def test_the_oldest_go_and_the_rest_stays_the_same() -> None:
    room = settled()
    for seq in range(40):
        room.now += 0.5
        room.hear(data(ANN, seq, lamport=2 * seq + 1), data(BOB, seq, lamport=2 * seq + 2))
    digest = room.session.digest()
    room.session.limit_history(FEW)
    held = [(event.sender, event.seq) for event in room.session.history(100)]
    assert held == [(sender, seq) for seq in range(32, 40) for sender in (ANN, BOB)]
    assert room.session.digest() == digest and room.stat("history") == FEW
    room.now += 0.5
    room.hear(data(ANN, 40, lamport=90))
    assert room.stat("history") == FEW  # and so it stays
    room.session.limit_history(FEW + 1)
    room.hear(data(BOB, 40, lamport=91))
    assert room.stat("history") == FEW + 1


def test_what_went_is_repaired_by_nobody_and_asked_for_by_nobody() -> None:
    room = settled()
    room.hear(session(ANN, 1, [(ANN, 0, 40)]), *(data(ANN, seq) for seq in range(40)))
    room.run(3.0)
    room.session.limit_history(FEW)
    room.sent.clear()
    room.hear(nack(BOB, 1, [(ANN, 10, 24)]))
    room.run(5.0)
    assert room.repairs() == []
    room.hear(nack(BOB, 2, [(ANN, 20, 28)]))
    room.run(5.0)
    assert {seq for _, _, seq in room.repairs()} == {24, 25, 26, 27}
    room.hear(session(ANN, 2, [(ANN, 0, 40)]))
    room.run(60.0)
    assert room.nacks() == []


def test_what_is_held_ahead_of_a_gap_is_asked_for_again() -> None:
    """A message that went before it could be shown is missing again, and comes again."""
    room = settled()
    room.hear(session(ANN, 1, [(ANN, 0, 10)]), *(data(ANN, seq) for seq in range(1, 10)))
    room.session.limit_history(4)
    room.sent.clear()
    room.hear(session(ANN, 2, [(ANN, 0, 10)]))
    room.run(3.0)
    assert any(lo <= 1 < hi for _, _, listed in room.nacks() for sender, lo, hi in listed)
    room.session.limit_history(FEW)
    room.hear(*(data(ANN, seq) for seq in range(10)))
    assert [seq for seq, _ in room.shown(ANN)] == [*range(10)]


def test_own_messages_that_wait_to_be_sent_stay() -> None:
    room = settled()
    for n in range(60):
        room.say(f"line {n}")
    room.session.limit_history(FEW)
    room.run(30.0)
    sent = {packet[3] for _, packet in room.said(DATA) if packet[2] == ME}
    assert sent == set(range(60))
    assert room.session.queued() == 0
    room.hear(nack(BOB, 1, [(ME, 30, 34)]), nack(BOB, 2, [(ME, 30, 34)]))
    room.run(5.0)
    assert {seq for _, _, seq in room.repairs()} == {30, 31, 32, 33}  # and so they can be repaired


@pytest.mark.parametrize("most", [1, 7, 64])
def test_members_with_short_histories_agree_and_fall_silent(most: int) -> None:
    """Short and long histories, a newcomer, and one that was away: all come to rest."""
    hall = Hall(3)
    hall.members[1].limit_history(most)
    hall.lines(30, apart=0.5)
    hall.members[0].limit_history(most)
    hall.join(3)
    hall.members[3].limit_history(most)
    hall.run(60.0)
    hall.away.add(2)
    hall.lines(12, apart=1.0)
    hall.run(30.0)
    hall.away.clear()
    hall.run(120.0)
    assert len({one.digest() for one in hall.members.values()}) == 1
    assert all(one.stats()["history"] <= most for n, one in hall.members.items() if n != 2)
    assert len(hall.shown[1]) == len(set(hall.shown[1])) == 42  # each once
    hall.is_quiet()


def test_of_a_plain_room() -> None:
    plain = PlainSession(
        place="239.255.7.1:5751", sender_id=ME, nickname="Mel", rng=Random(1), now=0.0
    )
    for n in range(20):
        plain.receive_datagram(f"Ann: {n}".encode(), "there", 0.0)
    plain.limit_history(FEW)
    assert len(plain.history(100)) == FEW
    plain.limit_history(100_000)
    assert len(plain.history(100)) == FEW
