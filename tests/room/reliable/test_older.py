"""Messages from a directory's file among those that a member holds."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from evloop.room.plain import PlainSession
from evloop.room.reliable.older import merged
from evloop.room.reliable.packets import MORE, as_repair
from tests.support.rooms import ANN, BOB, EVE, PLACE, data, session, settled


def test_what_is_held_counts_once_and_all_is_in_one_order() -> None:
    room = settled()
    room.hear(data(ANN, 0, lamport=9), data(ANN, 1, lamport=11), data(ANN, 3, lamport=13))
    kept = [data(BOB, 0, lamport=10, name="Bob"), data(ANN, 1, lamport=11), data(EVE, 3, lamport=8)]
    events = merged(room.session, kept, 10)
    order = [(event.sender, event.seq) for event in events]
    assert order == [(EVE, 3), (ANN, 0), (BOB, 0), (ANN, 1)]  # ANN 3 waits for ANN 2
    assert [event.mark for event in events] == ["history", "", "history", ""]
    assert [(one.sender, one.seq) for one in merged(room.session, kept, 2)] == order[-2:]
    assert merged(room.session, kept, 0) == []
    assert not any(event.verified for event in events)


def test_what_was_not_said_here_is_left_out() -> None:
    room = settled()
    spoilt = bytearray(data(BOB, 1))
    spoilt[40] ^= 1
    kept = [bytes(spoilt), b"", b"plain text", session(BOB, 0, []), as_repair(data(BOB, 2))]
    assert [event.seq for event in merged(room.session, kept, 10)] == [2]
    plain = PlainSession(place=PLACE, sender_id=BOB, nickname="Me", rng=Random(1), now=0.0)
    assert merged(plain, kept, 10) == []


def test_parts_are_put_together_and_a_part_alone_is_shown() -> None:
    room = settled()
    kept = [
        data(BOB, 0, "first ", lamport=4, flags=MORE),
        data(BOB, 1, "second ", lamport=4, flags=MORE),
        data(BOB, 2, "third", lamport=4),
        data(BOB, 3, "alone", lamport=5),
        data(EVE, 7, "the end of a long one", lamport=2, flags=MORE),
        data(EVE, 9, "after a gap", lamport=2),
    ]
    texts = [event.text for event in merged(room.session, kept, 10)]
    assert texts == ["the end of a long one", "after a gap", "first second third", "alone"]


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_it_is_the_same_in_any_order_and_pages(seed: int) -> None:
    rng = Random(seed)
    everything = [
        data(who, seq, lamport=rng.randrange(1, 30)) for who in (ANN, BOB, EVE) for seq in range(8)
    ]
    heard = [one for one in everything if rng.random() < 0.3]
    room = settled()
    for one in heard:
        room.hear(as_repair(one))
    shuffled = everything * 2
    rng.shuffle(shuffled)
    count = rng.randrange(1, 30)
    found = [(event.sender, event.seq) for event in merged(room.session, shuffled, count)]
    whole = [(event.sender, event.seq) for event in merged(room.session, everything, 99)]
    assert found == whole[-count:]
    assert len(set(whole)) == len(whole) == 24
