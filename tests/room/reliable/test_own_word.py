"""What a present member says of itself wins over what is said in its name or about it."""

from __future__ import annotations

from evloop.room.reliable.limits import DATA_BURST
from evloop.room.reliable.membership import Member
from evloop.room.reliable.packets import SESSION, ranges
from tests.support.rooms import ANN, BOB, CODEC, EVE, ME, Room, bye, data, repair, session, settled


def with_ann(said: int = 5) -> Room:
    """A room with Ann, who has said so much."""
    room = settled()
    room.hear(session(ANN, 0, []))
    room.hear(*[data(ANN, seq, parents=((ANN, seq - 1),) if seq else ()) for seq in range(said)])
    room.hear(own(1, said))
    room.events.clear()
    return room


def own(counter: int, hi: int) -> bytes:
    """Ann's SESSION: she has said so much. Its digest is equal to mine, or not."""
    return session(ANN, counter, [(ANN, 0, hi)] if hi else [])


def ann_speaks(room: Room, first: int, hi: int, times: int) -> None:
    """Ann goes on telling how much she has said."""
    for n in range(times):
        room.run(5)
        room.hear(own(first + n, hi))


def test_data_far_beyond_its_senders_word_is_not_believed() -> None:
    room = with_ann()
    room.hear(data(ANN, 805, "forged"), repair(ANN, 805, "forged"))
    assert room.stat("gaps") == 0
    assert room.stat("dropped_window") == 2


def test_data_a_little_beyond_it_is_taken_back_by_its_next_session() -> None:
    room = with_ann()
    room.hear(data(ANN, 45, "forged"))
    assert room.stat("gaps") == 40
    ann_speaks(room, 2, 5, 1)
    assert room.stat("gaps") == 0
    assert room.stat("history") == 5
    ann_speaks(room, 3, 5, 10)
    assert not room.told("lost")
    room.hear(data(ANN, 5, parents=((ANN, 4),)))
    assert room.shown() == [(5, "")]
    for seq in range(6, 46):
        room.hear(data(ANN, seq, parents=((ANN, seq - 1),)))
    assert room.shown() == [(seq, "") for seq in range(5, 46)]
    assert not room.told("conflict")


def test_what_only_overtook_its_word_stays() -> None:
    room = with_ann()
    room.hear(data(ANN, 6, parents=((ANN, 4),)), own(2, 5))
    assert room.stat("history") == 6
    room.hear(repair(ANN, 5, parents=((ANN, 4),)))
    assert room.shown() == [(5, ""), (6, "")]


def test_nothing_is_given_up_that_its_present_sender_has_not_said() -> None:
    room = with_ann()
    for n in range(12):
        room.hear(data(ANN, 20, "forged"))  # again and again
        ann_speaks(room, 2 + n, 5, 1)
    assert not room.told("lost")
    room.hear(data(ANN, 5, parents=((ANN, 4),)))
    assert room.shown() == [(5, "")]


def test_what_it_has_said_is_given_up_as_ever() -> None:
    room = with_ann()
    room.hear(data(ANN, 6, parents=((ANN, 4),)))
    ann_speaks(room, 2, 7, 12)
    assert [event[3] for event in room.told("lost")] == [1]
    assert room.shown() == [(6, "")]


def test_a_first_word_in_anothers_name_does_not_silence_it() -> None:
    """One DATA, numbered far ahead, under the id of a member that had not spoken."""
    for seconds in (0.0, 30.0):  # Ann is known before; or is heard for the first time after
        room = settled()
        if seconds:
            room.hear(session(ANN, 0, []))
        room.hear(data(ANN, 2**31, "forged"))
        for n in range(4):
            room.hear(session(ANN, 1 + n, []))
            room.run(3)
        for seq in range(5):
            room.hear(data(ANN, seq, parents=((ANN, seq - 1),) if seq else ()))
        shown = [seq for seq, _ in room.shown(ANN) if seq < 2**31]
        assert shown == list(range(5))


def test_a_record_that_its_sender_vouched_for_is_never_begun_anew() -> None:
    room = with_ann()
    for n in range(6):
        room.hear(session(ANN, 2 + n, [], digest=77))  # forged: she has said nothing
        room.run(3)
    for seq in range(5):
        room.hear(data(ANN, seq, parents=((ANN, seq - 1),) if seq else ()))
    assert room.shown() == []


def test_a_session_out_of_step_takes_nothing_back() -> None:
    room = with_ann()
    room.hear(data(ANN, 7, parents=((ANN, 4),)))
    room.run(3)
    room.hear(
        session(ANN, 0, [(ANN, 0, 3)], digest=7), session(ANN, 9_000, [(ANN, 0, 3)], digest=7)
    )
    room.run(1)
    room.hear(repair(ANN, 5, parents=((ANN, 4),)), repair(ANN, 6, parents=((ANN, 5),)))
    assert room.shown() == [(5, ""), (6, ""), (7, "")]


def test_a_counter_that_jumps_is_followed_only_when_the_old_one_stands_still() -> None:
    member = Member(0.0, b"Ann", 5)
    assert member.fresh(6, 1.0, 8.0)
    assert not member.fresh(9_000, 2.0, 8.0)
    assert not member.fresh(9_001, 3.0, 8.0)  # forged: the old count goes on
    assert member.fresh(7, 4.0, 8.0)
    assert not member.fresh(7, 4.0, 8.0)  # a duplicate
    assert not member.fresh(3, 4.0, 8.0)  # a replay
    assert not member.fresh(500, 13.0, 8.0)  # an outage
    assert member.fresh(501, 14.0, 8.0)
    assert member.counter == 501
    # A forged counter that was followed stands still, and its owner's goes on.
    assert member.fresh(530, 15.0, 60.0)
    assert not member.fresh(9_000, 16.0, 60.0)
    assert [member.fresh(502 + n, 17.0 + n, 60.0) for n in range(4)] == [False, False, False, True]
    # Nor do two that alternate with it make another its own.
    for n in range(10):
        assert member.fresh(506 + n, 20.0 + n, 60.0)
        assert not member.fresh(9_000 + 2 * n, 20.0 + n, 60.0)
        assert not member.fresh(9_001 + 2 * n, 20.0 + n, 60.0)
    wraps = Member(0.0, b"Ann", 2**32 - 2)
    assert wraps.fresh(1, 1.0, 8.0)


def test_a_goodbye_in_its_name_keeps_nobody_away() -> None:
    room = with_ann()
    absent = 0
    for n in range(30):
        room.hear(bye(ANN, 2**31 + n))
        room.run(1.1)
        room.hear(own(2 + n, 5))
        absent += ANN not in {sender for sender, _, _ in room.session.members(room.now)}
    assert absent == 0
    assert len(room.told("left")) == 1  # the first was believed


def test_a_goodbye_of_its_own_is_believed_at_once() -> None:
    room = with_ann()
    room.hear(bye(ANN, 2))
    assert [event[3] for event in room.told("left")] == ["bye"]


def test_nothing_is_confirmed_by_more_than_was_said_nor_by_a_word_taken_back() -> None:
    room = with_ann()
    room.hear(session(BOB, 0, [], digest=3, name="Bob"))
    room.say("hello")
    room.hear(session(BOB, 1, [(ME, 0, 2**31)], digest=3, name="Bob"))
    room.hear(session(ANN, 2, [(ME, 0, 1), (ANN, 0, 5)], digest=3))
    assert room.session.confirmers() == (1, 2)
    assert room.session.unconfirmed() == 1
    room.hear(session(ANN, 3, [(ME, 0, 0), (ANN, 0, 5)], digest=3))  # the former was forged
    assert room.session.confirmers() == (0, 2)


def test_what_it_says_out_of_step_is_hearsay() -> None:
    room = with_ann()
    room.hear(session(ANN, 9_000, [(ANN, 0, 500)], digest=4))
    assert room.stat("gaps") == 64
    assert not room.session.asker.behind()
    assert room.session.asker.gaps.hearsay == 64


def test_all_that_it_says_from_its_first_word_on_is_wanted_whatever_lists_claim() -> None:
    """I came just now; Ann has told that she has said nothing, and a liar lists her from 60 on."""
    room = Room()
    room.hear(session(ANN, 0, [], digest=0))
    room.hear(session(EVE, 0, [(ANN, 60, 61)], digest=4, name="Eve"))
    room.hear(data(ANN, 60, "forged"))
    for seq in range(5):
        room.hear(data(ANN, seq, parents=((ANN, seq - 1),) if seq else ()))
    assert room.shown(ANN) == [(seq, "") for seq in range(5)]


def test_what_it_has_just_denied_is_not_asked_for_before_its_next_word() -> None:
    room = with_ann()
    room.sent.clear()
    room.hear(data(ANN, 60, "forged"))
    room.run(0.005)
    room.hear(own(2, 5))
    room.run(1.1)
    assert room.nacks() == []
    room.hear(own(3, 5))
    assert room.stat("gaps") == 0
    # Without another word it is asked for: the DATA may have overtaken the word.
    room.hear(data(ANN, 60, "forged"))
    room.hear(own(4, 5))
    room.run(1.6)
    assert room.nacks()


# -- my own word -----------------------------------------------------------------------------------


def my_words(room: Room) -> list[tuple[float, int, int]]:
    """(when, counter, number of messages that I say to have said) of my SESSIONs."""
    found = []
    for when, packet in room.said(SESSION):
        listed = {origin: hi for origin, _, hi in ranges(packet[5][-1])}
        found.append((when, packet[3], listed.get(ME, 0)))
    return found


def test_who_speaks_with_my_id_is_answered_by_my_own_word() -> None:
    room = with_ann()
    room.say("hello")
    room.run(3)
    counter = my_words(room)[-1][1]
    for ahead, forged in (
        (counter + 20, session(ME, counter + 20, [(ME, 0, 500)], digest=4)),
        (counter + 30, bye(ME, counter + 30)),
    ):
        room.sent.clear()
        room.hear(forged)
        room.run(room.session.stats()["delay_us"] / 1e6 + 0.001)
        assert [(n, hi) for _, n, hi in my_words(room)] == [(ahead + 1, 1)]
    room.sent.clear()
    start = room.now
    room.hear(data(ME, 40, "not me"))
    room.run(2)
    words = [when - start for when, _, hi in my_words(room) if hi == 1]
    assert words[0] < 0.05 and any(1.0 < when < 1.3 for when in words)


def test_what_may_have_overtaken_my_last_word_is_answered() -> None:
    """It has the number of my last word: both went out at one time."""
    room = with_ann()
    room.say("hello")
    room.run(3)
    counter = my_words(room)[-1][1]
    last = [sent for _, sent, _ in room.sent if CODEC.open(sent)[0] == SESSION][-1]
    for heard, words in (
        ((last, last, last), []),
        ((session(ME, counter, [(ME, 0, 500)], digest=4),), [(counter + 1, 1)]),
    ):
        room.sent.clear()
        room.hear(*heard)
        room.run(room.session.stats()["delay_us"] / 1e6 + 0.001)
        assert [(n, hi) for _, n, hi in my_words(room)] == words


def test_a_replay_of_my_word_is_no_reason_to_speak() -> None:
    room = with_ann()
    room.run(20)
    mine = [datagram for _, datagram, _ in room.sent if datagram[2] & 15 == SESSION]
    room.session.egress.echoes.clear()
    room.sent.clear()
    room.hear(*mine)
    room.run(0.05)
    assert my_words(room) == []


def test_however_often_somebody_speaks_with_my_id_i_answer_ten_times_a_second() -> None:
    room = with_ann()
    room.sent.clear()
    for _ in range(300):
        room.hear(session(ME, my_counter(room) + 1, [], digest=4))
        room.run(0.01)
    assert 20 <= len(my_words(room)) <= 10 + 3 * 10 + 5


def my_counter(room: Room) -> int:
    """The next number of my control datagrams, as one can know it who hears them."""
    return max([counter for _, counter, _ in my_words(room)], default=-1) + 1


def test_a_claim_about_it_makes_no_gap_for_longer_than_its_next_word() -> None:
    room = with_ann()
    room.hear(session(ANN, 2, [(ANN, 0, 500)], digest=4))  # forged
    assert room.stat("gaps") > 0
    room.hear(own(3, 5))
    assert room.stat("gaps") == 0
    room.hear(session(EVE, 0, [(ANN, 0, 500)], digest=4))
    room.run(60)
    assert not room.told("lost")
    assert DATA_BURST < 64
