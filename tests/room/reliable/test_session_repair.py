"""The reliable room: what is asked for, by whom, who answers, and lies (rules 4 to 10)."""

from __future__ import annotations

from random import Random

from evloop.room.reliable.limits import (
    ECHOES_MAX,
    GONE_ASKS,
    GONE_S,
    LET_GO_S,
    NACK_HELD_S_MAX,
    STANDING_S,
    STUCK_ASKS,
)
from evloop.room.reliable.packets import (
    DATA,
    NOBODY,
    SESSION,
    as_copy,
    as_repair,
)
from tests.support.pairs import pairwise
from tests.support.rooms import (
    ANN,
    BOB,
    EVE,
    ME,
    SETTLED,
    Room,
    data,
    nack,
    repair,
    session,
    settled,
)

# -- rules 4 and 5: NACK and REPAIR ----------------------------------------------------------------


def test_one_nack_asks_for_all_gaps() -> None:
    room = settled()
    room.hear(data(ANN, 0), data(ANN, 3), data(BOB, 0), data(BOB, 2))
    began = room.now
    room.run(0.2)
    when, to, listed = room.nacks()[0]
    assert (to, sorted(listed)) == (NOBODY, [(ANN, 1, 3), (BOB, 1, 2)])
    assert 0.02 <= when - began <= 0.06  # 2 d, and a window of 4 d


def test_no_nack_before_announced_copies_have_had_their_time() -> None:
    room = settled()
    room.hear(data(ANN, 0), as_copy(data(ANN, 2), 10))
    began = room.now
    room.run(0.5)
    assert room.nacks()[0][0] - began >= 10 * 0.008


def test_nacks_back_off() -> None:
    room = settled()
    room.hear(data(ANN, 0), data(ANN, 2))
    room.run(15)
    times = [when for when, *_ in room.nacks()]
    waits = [b - a for a, b in pairwise(times)]
    assert waits[3] > 2 * waits[0]  # 48 d and 12 d, each within a quarter
    assert waits[5] >= 0.75 * 8  # asked 6 times: 8 s


def test_the_same_nack_from_another_puts_mine_off_but_not_for_ever() -> None:
    calm, pushed = settled(), settled()
    for room in (calm, pushed):
        room.hear(data(ANN, 0), data(ANN, 2))
    for counter in range(400):
        pushed.run(0.01)
        pushed.hear(nack(EVE, counter, [(ANN, 0, 9)]))
    calm.run(4.0)
    first = [room.nacks()[0][0] - 1_000 - SETTLED for room in (calm, pushed)]
    assert first[0] < 0.1
    assert 1.0 < first[1] <= 2.1


def test_the_source_answers_within_the_delay() -> None:
    room = settled()
    room.session.egress.echoes.clear()
    room.say("mine")
    room.run(1.0)
    asked = room.now
    room.hear(nack(ANN, 0, [(ME, 0, 1)]))
    room.run(0.5)
    ((when, sender, seq),) = room.repairs()
    assert (sender, seq) == (ME, 0)
    assert when - asked <= 0.01
    original = next(packet for _, packet in room.said(DATA))
    assert as_repair(next(d for _, d, _ in room.sent)) in [d for _, d, _ in room.sent]
    assert original[5][4] == b"mine"


def test_another_holder_answers_later_unless_it_hears_the_repair() -> None:
    alone, silenced = settled(), settled()
    for room in (alone, silenced):
        room.hear(data(ANN, 0))
        room.hear(nack(BOB, 0, [(ANN, 0, 1)]))
    silenced.run(0.02)
    silenced.hear(repair(ANN, 0))
    silenced.run(1.0)
    asked = alone.now
    alone.run(1.0)
    assert silenced.repairs() == []
    ((when, sender, seq),) = alone.repairs()
    assert 0.03 <= when - asked <= 0.11
    assert (sender, seq) == (ANN, 0)


def test_after_a_repair_comes_a_hold_down() -> None:
    room = settled()
    room.say("mine")
    room.run(1)
    for counter in range(9):
        room.hear(nack(ANN, counter, [(ME, 0, 1)]))
        room.run(0.02)
    assert len(room.repairs()) == 1
    room.run(0.2)
    room.hear(nack(ANN, 9, [(ME, 0, 1)]))
    room.run(0.2)
    assert len(room.repairs()) == 2


def test_repairs_are_capped_at_20_a_second() -> None:
    room = settled()
    room.hear(*[data(ANN, seq) for seq in range(300)])
    for counter in range(1_000):
        room.run(0.01)
        room.hear(nack(EVE, counter, [(ANN, 0, 300)]))
    assert len(room.repairs()) <= 20 + 10 * 20


# -- rule 6: bulk ----------------------------------------------------------------------------------


def test_much_is_asked_of_one_holder_and_then_of_another() -> None:
    room = settled()
    room.hear(data(ANN, 0), data(ANN, 40))
    for member in (BOB, EVE):
        room.hear(session(member, 0, [(ANN, 0, 41)]))
    room.run(0.15)
    named = [to for _, to, _ in room.nacks()]
    assert set(named[:1]) <= {BOB, EVE}
    room.run(2)
    assert {BOB, EVE, NOBODY} <= {to for _, to, _ in room.nacks()}


def test_a_newcomer_asks_another_holder_soon_and_others_wait() -> None:
    """Nobody else lacks what was said before it came, so nobody's NACK spares its own."""
    gaps_s = []
    for room, reached, shared in (
        (Room(), True, False),
        (Room(), False, False),
        (Room(), True, True),
        (settled(), True, False),
    ):
        room.hear(data(ANN, 40))
        for member in (BOB, EVE):
            room.hear(session(member, 0, [(ANN, 0, 41)]))
        if reached:  # the repair of an earlier ask: what is sent to me alone comes
            room.session.receive_datagram(repair(ANN, 39), "bob", room.now, True, True)
        if shared:  # another one that has just come
            room.hear(nack(b"another!", 0, [(ANN, 0, 40)], to=BOB))
        while len(room.nacks()) < 2:
            room.run(0.001)
        first, second = (when for when, _, _ in room.nacks()[:2])
        gaps_s.append(second - first)
        assert {to for _, to, _ in room.nacks()[:1]} <= {BOB, EVE}
    new, walled, one_of_two, old = gaps_s
    d = 0.01
    assert 3 * d <= new <= 5 * d + 0.002
    # Behind a firewall it would only be sent more in vain.
    assert 9 * d <= walled <= 15 * d + 0.002
    # What strangers may have together would be used up sooner.
    assert 9 * d <= one_of_two <= 15 * d + 0.002
    assert 9 * d <= old <= 15 * d + 0.002


def test_hearsay_uses_the_whole_burst_of_nacks_of_a_newcomer_and_half_of_others() -> None:
    """All that was said is hearsay to who has just come: nothing else waits for those NACKs."""
    asked = []
    for room, shared in ((Room(), False), (Room(), True), (settled(), False)):
        if shared:
            room.hear(nack(b"another!", 0, [(ANN, 0, 40)], to=BOB))
        for number in range(30):  # of another sender each time, within a second and a half
            room.hear(session(BOB, number, [(b"sender%2d" % number, 0, 1)], digest=2))
            room.run(0.05)
        asked.append(len(room.nacks()))
    new, one_of_two, old = asked
    assert new > 10 + 8 >= old > 10
    assert 10 + 8 >= one_of_two > 10


def test_bulk_goes_only_to_the_asker_within_its_caps() -> None:
    room = settled()
    room.hear(*[data(ANN, seq) for seq in range(1_200)])
    room.sent.clear()
    room.session.receive_datagram(nack(BOB, 0, [(ANN, 0, 1_200)], to=ME), "bob", room.now)
    room.session.receive_datagram(nack(EVE, 0, [(ANN, 0, 9)], to=ME), "eve", room.now)
    room.run(1.0)
    targets = {to for _, d, to in room.sent if d[3] & 1}
    assert targets == {"bob"}
    assert len(room.repairs()) <= 128 + 400
    for counter in range(1, 20):
        room.hear(nack(BOB, counter, [(ANN, 0, 1_200)], to=ME), source="bob")
        room.run(1.0)
    assert len(room.repairs()) == 1_000  # a minute's worth


def test_a_nack_to_another_is_not_mine() -> None:
    room = settled()
    room.hear(data(ANN, 0))
    room.hear(nack(BOB, 0, [(ANN, 0, 1)], to=EVE))
    room.run(1.0)
    assert room.repairs() == []


# -- rule 7: copies --------------------------------------------------------------------------------


def test_copies_follow_the_losses_that_others_tell() -> None:
    counts = {}
    for loss in (0, 30):
        room = settled()
        for n in range(10):
            room.hear(session(bytes([n + 20]) * 8, 0, [], loss=loss, members=11))
        room.say("x")
        room.run(0.5)
        copies = [packet[1] >> 4 for _, packet in room.said(DATA)]
        assert copies == list(range(len(copies) - 1, -1, -1))  # each tells how many follow
        times = [when for when, _ in room.said(DATA)]
        assert all(0.006 < b - a <= 0.008 for a, b in pairwise(times))
        counts[loss] = len(copies)
    assert counts[0] == 1
    assert counts[30] in (4, 5)


def test_loss_is_measured_from_announced_copies() -> None:
    room = settled()
    for seq in range(60):
        first = data(ANN, seq)
        room.hear(as_copy(first, 4), as_copy(first, 2), as_copy(first, 0))  # 3 and 1 are lost
        room.run(0.1)
    assert 45 <= room.stat("loss_percent") <= 52


# -- rules 8 and 9: orphans, evidence, hearsay -----------------------------------------------------


def test_an_orphan_is_reported_and_stepped_over_after_30_seconds() -> None:
    room = settled()
    room.hear(data(ANN, 0), data(ANN, 3))
    room.run(29)
    assert room.shown() == [(0, "")]
    room.run(20)
    assert room.told("lost") and sum(event.count for event in room.told("lost")) == 2
    assert room.shown() == [(0, ""), (3, "")]
    room.hear(repair(ANN, 1))
    assert room.shown()[-1] == (1, "late")
    room.hear(repair(ANN, 1))
    assert len(room.shown()) == 3
    assert room.stat("lost") == 2


def test_what_a_present_sender_vouches_for_is_asked_for_as_long_as_it_may_come() -> None:
    room = settled()
    room.hear(data(ANN, 0))
    for counter in range(20):  # far more than 8 tries and 30 s
        room.hear(session(ANN, counter, [(ANN, 0, 2)]))
        room.run(5)
    assert not room.told("lost")
    for counter in range(20, 24):
        room.sent.clear()
        room.hear(session(ANN, counter, [(ANN, 0, 2)]))
        room.run(0.5)
        assert any((ANN, 1, 2) in listed for _, _, listed in room.nacks())
        room.run(4.5)
    room.hear(repair(ANN, 1))
    assert room.shown() == [(0, ""), (1, "")] and room.stat("recovered") == 1


def test_a_simple_program_that_names_no_parents_is_shown_behind_a_gap() -> None:
    room = settled()
    room.hear(data(ANN, 5))  # at time 6, as one is that heeds nobody's
    room.run(60)
    assert sum(event.count for event in room.told("lost")) == 5
    assert room.shown() == [(5, "")]


def test_a_stuck_gap_does_not_silence_me() -> None:
    room = settled()
    room.hear(data(ANN, 0), data(ANN, 2))
    room.run(8)
    room.sent.clear()
    room.run(8)
    assert room.said(SESSION)


def test_evidence_makes_a_gap_due_at_once_but_once_a_second() -> None:
    room = settled()
    room.hear(data(ANN, 0), data(ANN, 2))
    room.run(12)
    room.sent.clear()
    began = room.now
    for counter in range(40):
        room.hear(session(BOB, counter, [(ANN, 0, 3)]))
        room.run(0.02)
    times = [when - began for when, *_ in room.nacks()]
    assert times and times[0] < 0.1
    assert len(times) <= 4


def test_a_lie_about_ann_delays_nothing_and_is_never_reported() -> None:
    for liar in (EVE, ANN):
        room = settled()
        room.hear(data(ANN, 0), session(ANN, 0, [(ANN, 0, 1)]))
        room.hear(session(liar, 1, [(ANN, 0, 500)], digest=7))
        shown = 1
        for counter in range(2, 30):
            room.run(2)
            room.hear(data(ANN, shown), session(ANN, counter, [(ANN, 0, shown + 1)]))
            shown += 1
            assert len(room.shown(ANN)) == shown
        assert not room.told("lost")


def test_hearsay_makes_bounded_gaps_and_nobody_behind() -> None:
    room = settled()
    room.hear(data(ANN, 0))
    room.hear(session(EVE, 0, [(ANN, 0, 500)], digest=1))
    assert room.stat("gaps") == 64
    room.hear(session(EVE, 1, [(BOB, 0, 500)], digest=1))
    assert room.stat("gaps") == 80
    rng = Random(1)
    for counter in range(2, 60):
        room.hear(session(EVE, counter, [(rng.randbytes(8), 0, 2**31)] * 1, digest=1))
    assert room.stat("gaps") <= 512
    room.run(0.3)
    assert room.said(SESSION)


def test_true_hearsay_is_not_kept_out_by_false() -> None:
    room = settled()
    room.hear(session(EVE, 0, [(ANN, 400, 500)], digest=1))
    room.run(0.5)
    room.hear(session(BOB, 0, [(ANN, 0, 1)], digest=2))
    room.run(0.5)
    assert any((ANN, 0, 1) in listed for _, _, listed in room.nacks())


# -- rule 10: two claims ---------------------------------------------------------------------------


def test_the_first_body_stays_and_the_second_is_told_once_a_minute() -> None:
    room = settled()
    room.hear(data(ANN, 0, "true"), data(ANN, 0, "false"), data(ANN, 0, "fake"))
    assert room.told("conflict") == [("conflict", ANN, "Ann", 0)]
    assert [event.text for event in room.session.history(9)] == ["true"]
    room.run(61)
    room.hear(data(ANN, 0, "false"))
    assert len(room.told("conflict")) == 2


def test_foreign_data_under_my_id_is_told() -> None:
    room = settled()
    room.say("mine")
    mine = next(d for _, d, _ in room.sent)
    room.hear(mine, as_repair(mine))
    assert not room.told("conflict")
    room.hear(data(ME, 0, "theirs"))
    assert room.told("conflict") == [("conflict", ME, "Mel", 0)]
    assert room.shown(ME) == [(0, "")]
    assert room.stat("dropped_own") == 3


def test_what_comes_back_of_mine_is_known_by_its_bytes_and_once() -> None:
    room = settled()
    room.session.egress.echoes.clear()
    room.say("mine")
    room.run(1.0)
    mine = [d for _, d, to in room.sent if to is None]
    assert len(mine) > 3  # the line, its copies, SESSIONs
    before = room.stat("dropped_own")
    room.hear(*mine)
    assert room.stat("dropped_own") == before + len(mine)
    assert not room.session.egress.echoes
    room.hear(*mine)  # replayed: judged as anything else
    assert room.stat("dropped_own") == before + 2 * len(mine)
    assert not room.told("conflict")


def test_echoes_awaited_are_bounded() -> None:
    room = settled()
    for n in range(2 * ECHOES_MAX):
        room.say(f"line {n}")
        room.run(0.3)
    assert len(room.session.egress.echoes) == ECHOES_MAX


def test_the_rest_of_the_very_first_message_is_no_message_of_its_own() -> None:
    """Seed 537 of the swarm: number 0 of one in parts is gone, and it names no parents."""
    room = settled()
    more = 0x08
    parts = [data(ANN, n, f"part {n}", flags=more * (n < 2), lamport=1) for n in range(3)]
    room.hear(parts[1], parts[2], data(ANN, 3, parents=((ANN, 2),), lamport=4))
    for counter in range(40):
        room.hear(session(ANN, counter, [(ANN, 0, 4)]))
        room.run(2.0)
    assert [seq for seq, _ in room.shown(ANN)] in ([], [3])
    assert "part" not in str(room.told("message"))


def test_the_last_words_of_one_who_left_are_reported_when_nobody_holds_them() -> None:
    """The promise: what is not delivered is reported, at the end of a sender's messages too."""
    room = settled()
    room.hear(data(ANN, 0), session(ANN, 0, [(ANN, 0, 3)]))
    for counter in range(40):  # Bob stays, Ann is not heard any more
        room.hear(session(BOB, counter, [(ANN, 0, 1)], name="Bob"))
        room.run(5.0)
    assert ("left", ANN, "Ann", "silent") in room.told("left")
    assert sum(event.count for event in room.told("lost")) == 2
    assert room.stat("lost") == 2 and room.stat("gaps") == 0


def test_a_newcomer_has_caught_up_when_nothing_is_missing_and_somebody_agrees() -> None:
    room = Room()
    assert not room.session.caught_up()
    room.hear(session(ANN, 1, [(BOB, 0, 3)]))
    assert not room.session.caught_up()
    room.hear(*[repair(BOB, n) for n in (2, 1)])
    assert not room.session.caught_up()
    room.hear(repair(BOB, 0))
    assert not room.session.caught_up()  # no gap, but nobody has said that this is all
    room.hear(session(ANN, 2, [(BOB, 0, 3)]))
    assert room.session.caught_up()
    room.hear(session(ANN, 3, [(BOB, 0, 4)]))
    assert not room.session.caught_up()


def test_where_nothing_was_said_one_has_caught_up_at_once() -> None:
    room = Room()
    room.hear(session(ANN, 1, [], digest=0))
    assert room.session.caught_up()


def test_history_that_others_may_still_hold_is_not_let_go_within_two_seconds() -> None:
    """While repairs arrive nothing backs off: six asks for one that is lost each time are soon."""
    room = Room()
    room.hear(data(ANN, 14, parents=((ANN, 13),)))
    for seq in range(13, 0, -1):
        room.run(0.12)
        room.hear(repair(ANN, seq, parents=((ANN, seq - 1),)))
    asks = [when for when, _, listed in room.nacks() if any(lo == 0 for _, lo, _ in listed)]
    assert len(asks) > 6
    room.hear(repair(ANN, 0))
    room.run(0.1)
    assert room.shown(ANN) == [(seq, "history" if seq < 14 else "") for seq in range(15)]


def test_history_is_let_go_only_when_a_repair_held_down_could_have_come() -> None:
    """The sixth ask may meet holders that have just repaired it for others, in vain for me."""
    room = Room()
    numbers = iter(range(39, 0, -1))
    room.hear(data(ANN, 40, parents=((ANN, 39),)))

    def asks() -> list[float]:
        return [when for when, _, listed in room.nacks() if any(lo == 0 for _, lo, _ in listed)]

    def go_on() -> None:
        room.run(0.25)
        seq = next(numbers)
        room.hear(repair(ANN, seq, parents=((ANN, seq - 1),)))

    while len(asks()) < STUCK_ASKS:
        go_on()
    while room.now + 0.25 < asks()[STUCK_ASKS - 1] + LET_GO_S:
        go_on()
    room.hear(repair(ANN, 0))
    assert room.now > 1_000 + NACK_HELD_S_MAX + 0.5
    for seq in numbers:
        room.hear(repair(ANN, seq, parents=((ANN, seq - 1),)))
    room.run(0.1)
    assert room.shown(ANN) == [(seq, "history" if seq < 40 else "") for seq in range(41)]


def test_who_hears_nobody_does_not_let_go_of_history() -> None:
    """That nobody lists a message says nothing to a member that is cut off from all."""
    room = Room()
    room.hear(data(ANN, 1, parents=((ANN, 0),)))
    room.run(GONE_S * 0.7)
    assert len(room.nacks()) > STUCK_ASKS
    assert room.shown(ANN) == []
    room.hear(repair(ANN, 0))
    assert room.shown(ANN) == [(0, "history"), (1, "")]


def test_who_hears_others_lets_go_of_history_that_nobody_lists() -> None:
    room = Room()
    room.hear(data(ANN, 1, parents=((ANN, 0),)))
    for number in range(int(GONE_S * 0.7)):
        room.run(1.0)
        room.hear(session(BOB, number, []))
    assert room.shown(ANN) == [(1, "")]


def test_who_has_asked_enough_gives_up_without_leave_to_ask_once_more() -> None:
    room = settled()
    room.run(STANDING_S)
    found = room.now
    room.hear(data(ANN, 0), data(ANN, 2))
    while room.session.asker.gaps.of(ANN)[1].asks < GONE_ASKS:
        room.run(1.0)
    for _ in range(40):  # others have asked for what strangers promise, too
        room.session.egress.room.asked_promised(room.now)
    assert room.now < found + GONE_S
    room.run(found + GONE_S - room.now + 10.0)
    assert len(room.told("lost")) == 1
    assert room.shown(ANN) == [(0, ""), (2, "")]
