"""The reliable room: order and parts, Trickle and presence, names (rules 1 to 3)."""

from __future__ import annotations

from random import Random

import pytest

from evloop.base.errors import Refused
from evloop.room.events import Said
from evloop.room.reliable.packets import (
    DATA,
    MORE,
    SESSION,
    as_repair,
    ranges,
)
from evloop.room.reliable.session import RoomSession
from tests.support.pairs import pairwise
from tests.support.rooms import (
    ANN,
    BOB,
    EVE,
    ME,
    Room,
    bye,
    data,
    nack,
    repair,
    session,
    settled,
)

# -- rule 1: order ---------------------------------------------------------------------------------


def test_each_sender_is_shown_in_its_order_and_once() -> None:
    room = settled()
    order = [data(ANN, seq) for seq in range(8)] + [data(BOB, seq, name="Bob") for seq in range(8)]
    Random(3).shuffle(order)
    room.hear(*order, *order)
    for sender in (ANN, BOB):
        assert room.shown(sender) == [(seq, "") for seq in range(8)]
    assert room.stat("duplicates") == 16


def test_nothing_is_shown_over_a_gap() -> None:
    room = settled()
    room.hear(data(ANN, 0), data(ANN, 2))
    assert room.shown() == [(0, "")]
    room.hear(repair(ANN, 1))
    assert room.shown() == [(0, ""), (1, ""), (2, "")]


def test_the_window_is_1024_messages() -> None:
    room = settled()
    room.hear(data(ANN, 0), data(ANN, 1_024), data(ANN, 1_025))
    assert room.stat("dropped_window") == 1
    assert room.session.stats()["received"] == 2


def test_a_message_waits_for_its_parents_a_second() -> None:
    room = settled()
    room.hear(data(BOB, 0), data(ANN, 0, parents=((BOB, 1),)), data(ANN, 1))
    assert room.shown(ANN) == []
    room.run(0.99)
    assert room.shown(ANN) == []
    room.run(0.02)
    assert room.shown(ANN) == [(0, "early"), (1, "")]


def test_a_parent_that_comes_frees_who_waits_for_it() -> None:
    room = settled()
    room.hear(data(EVE, 0), data(ANN, 0, parents=((BOB, 0), (EVE, 0))), data(EVE, 1))
    assert room.shown(ANN) == []
    room.hear(data(BOB, 0))
    assert room.shown(ANN) == [(0, "")]


def test_an_unheard_parent_is_asked_for() -> None:
    room = settled()
    room.hear(data(BOB, 0), data(ANN, 0, parents=((BOB, 1),)))
    room.run(0.2)
    assert (BOB, 1, 2) in room.nacks()[0][2]


def test_what_i_say_names_the_newest_heads() -> None:
    room = settled()
    room.hear(*[data(bytes([n]) * 8, 0) for n in range(10, 15)])
    room.say("one")
    room.say("two")
    first, second = ({p[3]: p[5] for _, p in room.said(DATA)}[seq] for seq in (0, 1))
    assert [parent[0][0] for parent in first[1]] == [12, 13, 14]
    assert (ME, 0) in second[1]
    assert second[0] == first[0] + 1 == 3  # lamport


def test_a_lamport_leap_is_not_followed() -> None:
    room = settled()
    room.hear(data(ANN, 0, lamport=2**30))
    room.say("small")
    assert room.said(DATA)[-1][1][5][0] < 10
    assert room.shown(ANN) == [(0, "")]


def test_history_is_sorted_the_same_everywhere() -> None:
    made = [data(ANN, 0, lamport=5), data(BOB, 0, lamport=2), data(EVE, 0, lamport=5)]
    views = []
    for order in (made, made[::-1]):
        room = settled()
        room.hear(*order)
        views.append([event.sender for event in room.session.history(10)])
    assert views[0] == views[1] == [BOB, ANN, EVE]
    assert room.session.history(0) == []


# -- parts -----------------------------------------------------------------------------------------


def test_a_long_message_goes_in_parts_and_comes_whole() -> None:
    text = "ä" * 1_000 + "\n" + "b" * 1_000
    room = settled()
    room.say(text)
    listener = RoomSession(
        place="239.255.7.1:5751", sender_id=ANN, nickname="Ann", rng=Random(2), now=0.0
    )
    for _, datagram, _ in room.sent:
        listener.receive_datagram(datagram, None, 1.0)
    (event,) = [event for event in listener.events() if isinstance(event, Said)]
    assert (event.seq, event.text) == (0, text)
    assert [packet[1] & MORE for _, packet in room.said(DATA)[:1]] == [MORE]


def test_too_long_is_refused_and_changes_nothing() -> None:
    room = settled()
    with pytest.raises(Refused) as refused:
        room.say("x" * 7_201)
    assert refused.value.reason == "too_long"
    assert room.session.queued() == 0
    assert not room.said(DATA)


def test_a_message_that_lost_a_part_is_reported_as_one() -> None:
    room = settled()
    room.hear(data(ANN, 0), data(ANN, 1, "begin", lamport=7, parents=((ANN, 0),), flags=MORE))
    room.hear(data(ANN, 3, "end", lamport=7), data(ANN, 4, "next", parents=((ANN, 3),)))
    room.run(60)
    assert [event.count for event in room.told("lost")] == [1]
    assert room.shown(ANN) == [(0, ""), (4, "")]


def test_a_late_part_makes_its_message_whole() -> None:
    room = settled()
    parts = [data(ANN, 1, "be", lamport=7, flags=MORE), data(ANN, 2, "gin", lamport=7)]
    room.hear(data(ANN, 0), parts[0], data(ANN, 3, "next", parents=((ANN, 2),)))
    room.run(60)
    room.hear(as_repair(parts[1]))
    late = [event for event in room.told("message") if event.mark == "late"]
    assert [(event.seq, event.text) for event in late] == [(1, "begin")]


# -- rules 2 and 3: Trickle and presence -----------------------------------------------------------


def test_a_newcomer_solicits_at_once() -> None:
    room = Room()
    room.run(0.01)
    ((_, packet),) = room.said(SESSION)
    assert packet[5][-1] == b""


def test_a_solicitation_is_answered_with_a_long_list() -> None:
    room = settled()
    room.hear(*[data(bytes([n]) * 8, 0) for n in range(10, 40)])
    room.run(20)
    room.sent.clear()
    room.hear(session(ANN, 0, []))
    room.run(0.2)
    assert max(len(ranges(packet[5][-1])) for _, packet in room.said(SESSION)) == 30


def test_silence_makes_sessions_rarer() -> None:
    room = settled()
    room.hear(data(ANN, 0))
    room.run(40)
    times = [when for when, _ in room.said(SESSION)]
    gaps = [after - before for before, after in pairwise(times)]
    assert gaps[0] < 0.3
    assert max(gaps) > 3


def test_an_equal_digest_silences_trickle_but_not_presence() -> None:
    room = settled()
    room.hear(data(ANN, 0))
    said = 0
    for counter in range(200):
        room.run(0.03)
        room.hear(session(BOB, counter, [(ANN, 0, 1)]))
    said = len(room.said(SESSION))
    assert 1 <= said <= 3  # 6 s: the greeting of Bob and presence; Trickle would have said 6


def test_somebody_behind_makes_me_speak() -> None:
    room = settled()
    room.hear(data(ANN, 0))
    room.run(30)
    room.sent.clear()
    room.hear(session(BOB, 0, [], digest=1), session(BOB, 1, [(ANN, 0, 0)], digest=1))
    room.run(0.2)
    assert room.said(SESSION)


def test_who_is_behind_asks_and_does_not_tell() -> None:
    room = settled()
    room.hear(data(ANN, 0), data(ANN, 2))
    room.run(1.0)
    assert room.nacks()
    assert not room.said(SESSION)


def test_joined_renamed_left() -> None:
    room = settled()
    room.hear(session(ANN, 0, []))
    room.hear(session(ANN, 1, [], name="Anna"))
    room.hear(bye(ANN, 2), bye(ANN, 3), bye(ANN, 4))
    assert [event for event in room.events if event.sender == ANN] == [
        ("joined", ANN, "Ann"),
        ("renamed", ANN, "Ann", "Anna"),
        ("left", ANN, "Anna", "bye"),
    ]


def test_a_bye_is_void_when_its_sender_is_heard_again() -> None:
    room = settled()
    room.hear(session(ANN, 5, []), bye(ANN, 9), session(ANN, 8, []))
    assert [event.what for event in room.events] == ["joined", "left"]  # 8 was overtaken
    room.run(1.1)
    room.hear(session(ANN, 6, []))  # a forged BYE with a high number does not last
    assert [event.what for event in room.events] == ["joined", "left", "joined"]


def test_silent_members_are_gone_after_three_and_a_half_intervals() -> None:
    room = settled()
    room.hear(session(ANN, 0, []))
    room.run(3.5 * 6.0 - 0.1)
    assert not room.told("left")
    room.run(0.2)
    assert room.told("left") == [("left", ANN, "Ann", "silent")]


def test_a_repair_is_no_word_of_its_sender() -> None:
    room = settled()
    room.hear(session(ANN, 0, []))
    for seq in range(10):
        room.run(2.5)
        room.hear(repair(ANN, seq))
    assert room.told("left")


def test_presence_never_pauses_longer_than_its_interval() -> None:
    room = Room()
    room.run(60)
    times = [when for when, _ in room.said(SESSION)]
    assert max(b - a for a, b in pairwise(times)) <= 6.0


# -- names, plain text, leaving --------------------------------------------------------------------


def test_equal_names_are_told_apart_and_bad_ones_shown_by_id() -> None:
    room = settled()
    room.hear(session(ANN, 0, [], name="ANN"), session(BOB, 0, [], name="Ann"))
    assert room.session.label(ANN, "ANN") == "ANN~0a0a"
    assert room.session.label(BOB, "Ann") == "Ann~0b0b"
    assert room.session.label(EVE, "Eve") == "Eve"
    assert room.session.label(EVE, "E\u202eve") == EVE.hex()
    room.hear(bye(ANN, 1))
    assert room.session.label(BOB, "Ann") == "Ann"


def test_plain_text_is_shown_when_it_is_harmless() -> None:
    room = settled()
    room.hear(b"Mel: hello\n", "Zoë: ü".encode(), b"\x1b[2J", b"\xff\xfe", b"", b"\xf5E")
    assert [event.text for event in room.told("message")] == ["Mel: hello", "Zoë: ü"]
    assert all(event.mark == "plain" for event in room.told("message"))
    assert room.session.history(5) == []
    assert room.stat("dropped_magic") == 3
    assert room.stat("dropped_short") == 1


def test_leaving_says_bye_three_times_and_nothing_else() -> None:
    room = settled()
    room.say("last")
    room.run(2)
    room.sent.clear()
    room.session.leave(room.now, 0)
    room.pump()
    room.hear(nack(ANN, 0, [(ME, 0, 1)]), session(ANN, 1, [], ask=1))
    room.run(30)
    assert [data[2] & 15 for _, data, _ in room.sent] == [4, 4, 4]
    times = [when for when, *_ in room.sent]
    assert times[2] - times[0] == pytest.approx(0.1)
    assert room.session.next_deadline() == float("inf")


def test_who_was_away_asks_everybody_at_once_for_what_there_is() -> None:
    """Its SESSION lists nothing, which solicits; the next one is as ever."""
    room = settled()
    room.hear(data(ANN, 0), data(ANN, 1))
    room.run(20.0)
    before = len(room.said(SESSION))
    room.session.solicit()
    room.run(0.0)
    ((when, packet),) = room.said(SESSION)[before:]
    assert when == room.now
    assert packet[5][0] and ranges(packet[5][-1]) == []  # it has a digest all the same
    room.run(20.0)
    assert len(room.said(SESSION)) > before + 1
    assert all(ranges(packet[5][-1]) for _, packet in room.said(SESSION)[before + 1 :])
