"""The reliable room: history, bounds, confirmation; every state with every input."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evloop.base.errors import Refused
from evloop.room.reliable.packets import (
    DATA,
    MORE,
    NOBODY,
    SESSION,
    as_repair,
    ranges,
)
from evloop.room.reliable.vector import digest_item
from tests.support.pairs import pairwise
from tests.support.rooms import (
    ANN,
    BOB,
    EVE,
    ME,
    SETTLED,
    Room,
    bye,
    data,
    nack,
    repair,
    session,
    settled,
)

# -- rules 11 and 12: history and bounds -----------------------------------------------------------


def test_a_newcomer_wants_the_last_200() -> None:
    room = Room()
    room.hear(session(BOB, 0, [(ANN, 0, 900)]))
    room.run(0.2)
    assert room.nacks()[0][2] == [(ANN, 884, 900)]
    parents = ((ANN, 0),)  # before my time: they count as shown
    room.hear(repair(ANN, 899, parents=parents), source="bob")
    room.run(0.5)
    asked = {seq for _, _, listed in room.nacks() for _, lo, hi in listed for seq in range(lo, hi)}
    assert min(asked) == 700
    room.hear(*[repair(ANN, seq, parents=parents) for seq in range(700, 899)])
    assert room.shown() == [(seq, "history") for seq in range(700, 900)]
    room.hear(data(ANN, 900))
    assert room.shown()[-1] == (900, "")


def test_what_somebody_says_who_had_said_nothing_is_no_history() -> None:
    """Swarm, seed 9124: a newcomer missed all of somebody's first messages, and their repairs."""
    for silent, lost in ((True, 2), (False, 0)):
        room = Room()
        room.hear(session(BOB, 0, [(ANN, 0, 1)]))
        if silent:  # the word of somebody who knows of no message, not of one of its own
            room.hear(session(ANN, 0, []))
        room.run(1.0)
        room.hear(data(ANN, 2, parents=((ANN, 1),)))
        assert not room.shown()  # it waits for 0 and 1
        room.run(60)
        assert room.shown(ANN) == [(2, "")]
        assert sum(event.count for event in room.told("lost")) == lost


def test_a_replay_shows_nothing_again() -> None:
    room = settled()
    tape = [data(ANN, seq) for seq in range(20)] + [data(BOB, seq) for seq in range(20)]
    room.hear(*tape)
    before = len(room.shown())
    room.run(60)
    room.hear(*tape, *[as_repair(datagram) for datagram in tape])
    assert len(room.shown()) == before == 40


def test_typing_faster_queues() -> None:
    room = settled()
    for n in range(30):
        room.say(f"line {n}")
    assert len(room.shown(ME)) == 30  # shown at once
    assert room.session.queued() == 20
    room.run(4.1)
    assert room.session.queued() == 0
    originals = [packet[3] for _, packet in room.said(DATA)]
    assert sorted(set(originals)) == list(range(30))


def test_a_full_queue_refuses() -> None:
    room = settled()
    with pytest.raises(Refused) as refused:
        for n in range(2_000):
            room.say(f"line {n}")
    assert refused.value.reason == "too_fast"


def test_unsent_messages_are_not_repaired() -> None:
    room = settled()
    for n in range(12):
        room.say(f"line {n}")
    room.hear(nack(ANN, 0, [(ME, 0, 12)]))
    room.run(0.05)
    assert max((seq for _, _, seq in room.repairs()), default=0) < 10


def test_new_senders_are_bounded() -> None:
    room = settled()
    rng = Random(4)
    for _ in range(20):
        room.hear(*[data(rng.randbytes(8), 0) for _ in range(100)])
        room.run(1.0)
    assert room.stat("senders") <= 1_024 + 1  # my own takes no place until I speak
    assert room.stat("dropped_rate") > 0
    assert room.stat("dropped_senders") > 0  # all were heard within ten minutes
    room.run(700)
    room.hear(data(ANN, 0))
    assert room.shown(ANN) == [(0, "")]
    assert room.stat("senders") <= 1_024 + 1


def test_bytes_are_bounded() -> None:
    room = settled()
    for n in range(20):
        room.hear(session(bytes([n + 20]) * 8, 0, [], loss=50, members=21))
    for _ in range(40):
        room.say("x" * 6_000)
    room.run(10)
    assert sum(len(d) for _, d, _ in room.sent) <= 64_000 * 11


@pytest.mark.parametrize("leap, wakes", [(60.0, False), (1.0, True)])
def test_bytes_are_bounded_when_the_clock_leaps(leap: float, wakes: bool) -> None:
    """Swarm, seeds 5527 and (`wakes`: the copies go out before anything new is said) 601259: what
    was reserved for copies went out beside a full bucket."""
    room = settled()
    for n in range(20):
        room.hear(session(bytes([n + 20]) * 8, 0, [], loss=50, members=21))
    room.say("x" * 900)
    room.say("x" * 7_000)
    announced = sum((d[3] >> 4) * len(d) for _, d, _ in room.sent if d[2] & 15 == DATA)
    assert announced > 20_000
    room.sent.clear()
    room.now += leap  # the copies are still to come
    if wakes:
        room.run(0.0)
        assert sum(len(d) for _, d, _ in room.sent) > 20_000
    for _ in range(40):
        room.say("x" * 6_000)
    room.run(0.2)
    assert sum(len(d) for _, d, _ in room.sent) <= 64_000 * 1.2


def test_a_part_whose_beginning_is_lost_is_never_shown_alone() -> None:
    """Swarm, seed 7042: its Lamport time was that of a program that heeds none."""
    for heard in range(1, 12):
        speaker = settled()
        speaker.hear(data(ANN, 0, lamport=heard))
        speaker.say("y" * 7_000)
        speaker.run(20)
        parts = {p[3]: p[5][0] for _, p in speaker.said(DATA) if p[3] > 0}
        assert len(parts) == 7
        assert all(heard < lamport != seq + 1 for seq, lamport in parts.items())


def test_two_thousand_forged_sessions() -> None:
    room = settled()
    rng = Random(9)
    room.hear(session(ANN, 0, [(ANN, 0, 0)]))
    for n in range(2_000):
        listed = [(rng.randbytes(8), 0, rng.randrange(2**32)) for _ in range(16)]
        room.hear(session(rng.randbytes(8), n, listed, digest=n, members=65_535))
        room.run(0.005)
    stats = room.session.stats()
    assert stats["gaps"] <= 512
    assert stats["members"] <= 2_002
    seconds = 10
    assert stats["nacks_sent"] <= 20 + 5 * (seconds + 7)
    assert stats["sessions_sent"] <= 20 + 20 * (seconds + 7)
    room.hear(data(ANN, 0))
    assert room.shown(ANN) == [(0, "")]


# -- rule 13: confirmation -------------------------------------------------------------------------


def test_confirmation_by_digest_and_by_list() -> None:
    room = settled()
    room.hear(session(ANN, 0, []), session(BOB, 0, [], name="Bob"))
    room.say("done")
    room.session.confirm(room.now)
    room.run(0.05)
    assert any(packet[5][5] == 1 for _, packet in room.said(SESSION))
    assert (room.session.unconfirmed(), room.session.confirmers()) == (1, (0, 2))
    room.hear(session(ANN, 1, [(ME, 0, 1)], digest=99))
    assert (room.session.unconfirmed(), room.session.confirmers()) == (1, (1, 2))
    room.hear(session(BOB, 1, [], digest=digest_item(ME, 1), name="Bob"))
    assert (room.session.unconfirmed(), room.session.confirmers()) == (0, (2, 2))
    room.run(1)
    room.sent.clear()
    room.run(5)
    assert all(packet[5][5] == 0 for _, packet in room.said(SESSION))


def test_asking_backs_off_and_goes_on() -> None:
    room = settled()
    room.hear(session(ANN, 0, []))
    room.say("done")
    room.session.confirm(room.now)
    room.run(15)
    asks = [when for when, packet in room.said(SESSION) if packet[5][5] == 1]
    waits = [b - a for a, b in pairwise(asks)]
    assert len(waits) >= 5
    assert waits == sorted(waits)


def test_an_ask_is_answered_with_the_asker_first() -> None:
    room = settled()
    room.hear(*[data(bytes([n]) * 8, 0) for n in range(20, 40)], data(ANN, 0), data(BOB, 0))
    room.run(30)
    room.sent.clear()
    asked = room.now
    room.hear(session(ANN, 0, [(ANN, 0, 1)], ask=1, digest=5))
    room.run(0.11)
    answers = [(when, ranges(packet[5][-1])) for when, packet in room.said(SESSION)]
    assert any(listed[0] == (ANN, 0, 1) for _, listed in answers)
    assert answers[0][0] - asked <= 0.1


# -- every state, every input ----------------------------------------------------------------------

_IDS = st.sampled_from([ANN, BOB, EVE, ME, NOBODY])
_SEQS = st.one_of(st.integers(0, 6), st.sampled_from([1_023, 1_024, 2**31, 2**32 - 1]))
_RANGES = st.lists(st.tuples(_IDS, _SEQS, _SEQS), max_size=4)
_INPUTS = st.one_of(
    st.builds(data, _IDS, _SEQS, parents=st.lists(st.tuples(_IDS, _SEQS), max_size=2).map(tuple)),
    st.builds(repair, _IDS, _SEQS),
    st.builds(data, _IDS, _SEQS, flags=st.sampled_from([MORE, 0x30, 0xF8])),
    st.builds(nack, _IDS, _SEQS, _RANGES, to=_IDS),
    st.builds(session, _IDS, _SEQS, _RANGES, ask=st.integers(0, 1), loss=st.integers(0, 255),
              members=st.integers(0, 65_535), echo=st.tuples(_IDS, _SEQS, _SEQS)),
    st.builds(bye, _IDS, _SEQS),
    st.binary(max_size=60),
    st.sampled_from(["say", "long", "rename", "confirm", "leave", "wait", "sleep", "ask"]),
)  # fmt: skip


def _prepared(state: str) -> Room:
    room = Room()
    if state == "joining":
        return room
    room.run(SETTLED)
    room.hear(session(ANN, 0, []), data(ANN, 0))
    if state == "behind":
        room.hear(data(ANN, 2), data(BOB, 2))
    elif state == "orphaned":
        room.hear(data(ANN, 2))
        room.run(15)
    elif state == "waiting":
        room.hear(data(BOB, 0, parents=((EVE, 0),)))
    elif state == "asking":
        room.say("x")
        room.session.confirm(room.now)
    elif state == "leaving":
        room.session.leave(room.now, 0)
        room.pump()
    elif state == "left":
        room.session.leave(room.now, 0)
        room.run(1)
    return room


def _do(room: Room, step: bytes | str) -> None:
    if isinstance(step, bytes):
        room.hear(step)
    elif step == "say":
        room.say("hello")
    elif step == "long":
        room.say("y" * 2_000)
    elif step == "rename":
        room.session.rename("Melanie", room.now, 0)
    elif step == "confirm":
        room.session.confirm(room.now)
    elif step == "leave":
        room.session.leave(room.now, 0)
    else:
        room.run({"wait": 0.05, "sleep": 40.0, "ask": 2.0}[step])


@settings(max_examples=30, deadline=None)
@given(st.lists(_INPUTS, max_size=25))
@pytest.mark.parametrize(
    "state", ["joining", "current", "behind", "orphaned", "waiting", "asking", "leaving", "left"]
)
def test_every_state_takes_every_input(state: str, steps: list[bytes | str]) -> None:
    room = _prepared(state)
    for step in steps:
        _do(room, step)
    room.run(3.0)
    seen: dict[bytes, list[int]] = {}
    for event in room.told("message"):
        if event.mark == "plain":
            continue
        numbers = seen.setdefault(event.sender, [])
        assert event.seq not in numbers, "shown twice"
        if event.mark != "late":
            assert all(event.seq > earlier for earlier in numbers[-1:]), "out of order"
            numbers.append(event.seq)
    stats = room.session.stats()
    assert stats["gaps"] <= 2_048
    assert stats["history"] <= 4_096
    assert room.session.members(room.now)[0] == (ME, room.session.nickname, 0.0)
    assert room.session.unconfirmed() >= 0
    assert all(len(datagram) <= 1_200 for _, datagram, _ in room.sent)
