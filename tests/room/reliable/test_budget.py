"""What all members together may send because of strangers."""

from __future__ import annotations

from random import Random

from evloop.room.reliable.budget import RoomBudget
from evloop.room.reliable.limits import (
    BULK_PER_NACK,
    CLAIM_NACKS,
    MEMBERS_BULK_BURST,
    NACKS_PER_PROMISE,
    NACKS_PER_REPAIR,
    PROMISES_NACKS_BURST,
    PROMISES_NACKS_PER_S,
    REPAIRS_EARNED_MAX,
    REPAIRS_OWED_PER_S,
    REPAIRS_PER_NACK,
    ROOM_BULK_BYTES_BURST,
    ROOM_SESSIONS_BURST,
    ROOM_SESSIONS_PER_S,
    STANDING_S,
    STRANGERS_BULK_BURST,
)
from evloop.room.reliable.nack import Holders
from evloop.room.reliable.packets import NOBODY, SESSION
from tests.support.rooms import ANN, BOB, EVE, ME, Room, data, nack, session


def test_what_is_promised_is_asked_for_as_far_as_promises_and_repairs_go() -> None:
    budget = RoomBudget(0.0)
    asks = 0
    while budget.may_ask(0.0):
        budget.asked_promised(0.0)
        asks += 1
    assert asks == PROMISES_NACKS_BURST
    for _ in range(10):
        budget.promised(1.0)  # a datagram counts once, whatever it names
    for n in range(3):
        budget.repaired(False, 2.0 + n)
    assert budget.may_ask(4.0)
    earned = NACKS_PER_PROMISE + 3 * NACKS_PER_REPAIR + 4 * PROMISES_NACKS_PER_S
    asks = 0
    while budget.may_ask(4.0):
        budget.asked_promised(4.0)
        asks += 1
    assert asks == int(earned)
    assert 4.0 < budget.ask_due() <= 4.0 + (1 - earned % 1) / PROMISES_NACKS_PER_S + 1e-3


def test_asks_of_many_at_once_are_owed_but_not_for_ever() -> None:
    budget = RoomBudget(0.0)
    for _ in range(10_000):
        budget.asked_promised(0.0)
    assert not budget.may_ask(10.0)
    assert budget.ask_due() <= 6 * PROMISES_NACKS_BURST / PROMISES_NACKS_PER_S


def test_each_nack_allows_two_repairs_and_what_it_does_not_need_stays() -> None:
    budget = RoomBudget(0.0)
    assert not budget.may_repair(0.0), "nothing is saved before anybody asks"
    for nacks in (1, 100):
        for _ in range(nacks):
            budget.asked(0.0)
        repairs = 0
        while budget.may_repair(0.0):
            budget.repaired(True, 0.0)
            repairs += 1
        assert repairs == min(nacks * REPAIRS_PER_NACK, REPAIRS_EARNED_MAX)


def test_repairs_that_several_sent_at_once_come_off_the_next_nacks() -> None:
    budget = RoomBudget(0.0)
    for _ in range(100):
        budget.repaired(True, 0.0)
    nacks = 0
    while not budget.may_repair(2.0):
        budget.asked(2.0)
        nacks += 1
    assert nacks == -(-(REPAIRS_EARNED_MAX + 1) // REPAIRS_PER_NACK)
    budget = RoomBudget(0.0)
    for _ in range(100):
        budget.repaired(True, 0.0)
    later = REPAIRS_EARNED_MAX / REPAIRS_OWED_PER_S  # what is owed is forgiven in time
    budget.asked(later)
    assert budget.may_repair(later)


def test_messages_by_unicast_are_saved_up_for_honest_needs() -> None:
    for standing, burst in ((False, STRANGERS_BULK_BURST), (True, MEMBERS_BULK_BURST)):
        budget = RoomBudget(0.0)
        given = asked = 0
        for second in range(60):
            for _ in range(20):
                asked += 1
                if budget.bulk(16, 10, standing, float(second)):
                    given += 16
        assert burst - 16 <= given <= burst + BULK_PER_NACK * asked + 60
        # The others are served all the same.
        assert budget.bulk(128, 10, not standing, 60.0)
    budget = RoomBudget(0.0)
    assert not budget.bulk(128, ROOM_BULK_BYTES_BURST // 100, True, 0.0)


def test_sessions_for_trickle_are_bounded_for_the_room() -> None:
    budget = RoomBudget(0.0)
    for _ in range(10 * ROOM_SESSIONS_BURST):
        budget.told(0.0)
    assert not budget.may_tell(0.5)
    assert budget.may_tell(0.1 + 2 * ROOM_SESSIONS_BURST / ROOM_SESSIONS_PER_S)


def _old_room() -> Room:
    """Ann and Bob have been here for over a minute, and so have I."""
    room = Room()
    for n in range(16):
        room.hear(session(ANN, n, []), session(BOB, n, [], name="Bob"))
        room.run(STANDING_S / 12)
    room.sent.clear()
    return room


def test_of_hearsay_anyone_is_asked_and_a_member_that_waits_asks_after_a_promise() -> None:
    room = _old_room()
    for n in range(16, 36):
        room.hear(session(EVE, n, [(ANN, 100 * n, 100 * n + 60)], digest=n, name="Eve"))
        room.run(0.5)
        room.hear(session(ANN, n, []), session(BOB, n, [], name="Bob"))
    asked = room.nacks()
    assert {to for _, to, _ in asked} == {bytes(8)}
    budget = PROMISES_NACKS_BURST + 10 * PROMISES_NACKS_PER_S + 20 * NACKS_PER_PROMISE
    assert 5 <= len(asked) <= budget + 1


def test_nacks_of_others_count_in_my_budget_when_they_are_members_in_step() -> None:
    for forged in (False, True):
        room = _old_room()
        for n in range(16, 36):
            counter = 7_000 * n if forged else n
            room.hear(nack(BOB, counter, [(EVE, 0, 5)]))
        room.hear(data(EVE, 3, "I have said three before", name="Eve"))
        room.run(0.5)
        assert bool(room.nacks()) == forged


def test_what_was_claimed_once_is_not_asked_for_without_end() -> None:
    """Ann, who is of standing, says that she has said five messages, of which none is anywhere."""
    room = _old_room()
    lie = [(ANN, 0, 5)]
    room.hear(data(ANN, 0), session(ANN, 16, lie))
    room.run(10.0)
    assert len(room.nacks()) == CLAIM_NACKS
    room.hear(session(ANN, 17, lie), session(BOB, 16, [], name="Bob"))
    room.run(10.0)
    assert len(room.nacks()) == CLAIM_NACKS + 1, "claimed anew"
    room.hear(session(ANN, 18, lie), nack(BOB, 17, [(ANN, 1, 5)]))
    room.run(1.0)
    assert len(room.nacks()) == CLAIM_NACKS + 1, "Bob has asked for it"
    room.hear(data(ANN, 5))
    room.run(5.0)
    assert len(room.nacks()) == CLAIM_NACKS + 2, "she has said more"


def test_what_nobody_claims_any_more_is_given_up_in_its_time() -> None:
    room = _old_room()
    room.hear(data(ANN, 0), data(ANN, 2))
    room.run(45.0)
    assert len(room.nacks()) == CLAIM_NACKS
    assert room.shown(ANN) == [(0, ""), (2, "")]
    assert [event.count for event in room.told("lost")] == [1]


def test_a_nack_in_my_name_is_answered_by_no_word_of_mine() -> None:
    for forged, words in ((nack, 0), (session, 1)):
        room = _old_room()
        stats = room.session.stats()
        mine = stats["nacks_sent"] + stats["sessions_sent"]
        room.hear(forged(ME, mine, [(ANN, 0, 5)]))
        room.run(0.5)
        assert len(room.said(SESSION)) == words
        room.run(10.0)
        assert room.said(SESSION)[0][1][3] == mine + 1, "I go on behind its number"


def test_nobody_is_named_alone_for_what_only_it_says_to_have_said() -> None:
    holders = Holders(Random(1))
    missing = [(ANN, 0, 100)]
    holders.claimed(ANN, {ANN: (0, 100)}, True)
    assert holders.choose(missing, 0.0, 0.06, strangers=False) == NOBODY
    holders.claimed(BOB, {ANN: (0, 100)}, True)
    assert holders.choose(missing, 0.0, 0.06, strangers=False) == BOB
    holders = Holders(Random(1))
    holders.claimed(ANN, {ANN: (0, 100)}, True)
    assert holders.choose(missing, 0.0, 0.06) == ANN, "a newcomer asks whoever is there"
