"""A member hears a PROBE: rule 13's answer, its echo, its limits, and that nobody is present."""

from __future__ import annotations

from random import Random
from typing import Any

from evloop.room.reliable.announce import Confirm
from evloop.room.reliable.packets import ASKER, DIRECTORY, NOBODY, PROBE, SESSION, probe_body
from tests.support.rooms import ANN, BOB, CODEC, EVE, Room, session, settled

NONCE = 0x1122334455667788
DOCTOR = b"doctor-1"


def probe(
    nonce: int = NONCE,
    sender: bytes = DOCTOR,
    *,
    origin: int = ASKER,
    index: int = 0,
    sent: int = 5,
) -> bytes:
    body = probe_body(nonce, sent, origin, index, 20, 1_200 if index % 2 else 55)
    return CODEC.pack(PROBE, 0, sender, 0, 0, body)


def echoes(room: Room) -> list[tuple[bytes, int, int]]:
    """(to whom, its time of sending, us held) of the SESSIONs sent."""
    return [packet[5][2:5] for _, packet in room.said(SESSION)]


def answers(room: Room, asker: bytes = DOCTOR) -> int:
    return sum(echo[0] == asker for echo in echoes(room))


def test_a_burst_is_answered_once_with_the_asker_in_the_echo() -> None:
    room = settled()
    began = room.now
    room.hear(*(probe(index=n, sent=1_000 + n) for n in range(20)))
    room.run(0.2)
    said = [(when, packet[5]) for when, packet in room.said(SESSION) if packet[5][2] == DOCTOR]
    ((when, fields),) = said
    assert fields[3] == 1_000  # of the first that was heard
    assert abs(fields[4] - (when - began) * 1e6) <= 1
    room.run(0.5)
    room.hear(*(probe(index=n, sent=9_000) for n in range(20)))
    room.run(0.3)
    assert answers(room) == 1


def test_another_nonce_is_another_ask() -> None:
    room = settled()
    for n in range(3):
        room.hear(probe(NONCE + n, sent=100 * n))
        room.run(0.6)
    assert [echo[1] for echo in echoes(room) if echo[0] == DOCTOR] == [0, 100, 200]


def test_a_probe_of_a_directory_is_not_answered() -> None:
    room = settled()
    room.hear(*(probe(index=n, origin=DIRECTORY) for n in range(20)))
    room.run(0.5)
    assert not answers(room)


def test_who_probes_is_not_present() -> None:
    room = settled()
    room.hear(probe())
    room.run(1.0)
    assert room.session.members(room.now) == [(room.session.sender_id, "Mel", 0.0)]
    assert not room.told("joined")
    assert room.stat("members_estimate") == 1


def test_probes_of_any_number_of_ids_are_answered_once_a_second() -> None:
    """At once three, as to all strangers together: what a forger makes a room say is bounded."""
    room = settled()
    for n in range(100):
        room.hear(*(probe(n, bytes([n, k] * 4)) for k in range(10)))
        room.run(0.1)
    assert len(room.said(SESSION)) <= 3 + 10 + 3  # and Trickle's own


def test_the_nonces_remembered_are_bounded() -> None:
    confirm = Confirm(Random(1))
    for n in range(1_000):
        confirm.probed(DOCTOR, n, 0, float(n), 2)
        confirm.answered()
    assert not confirm.probed(DOCTOR, 999, 0, 2_000.0, 2)
    assert confirm.probed(DOCTOR, 1, 0, 2_000.0, 2)  # forgotten by now


def test_in_a_large_room_a_part_of_the_members_answers() -> None:
    rng = Random(7)

    def share(members: int) -> float:
        asked = [Confirm(rng).probed(DOCTOR, 1, 0, 1.0, members) for _ in range(2_000)]
        return sum(asked) / len(asked)

    assert share(64) == 1.0
    assert 0.45 < share(128) < 0.55
    assert 0.04 < share(1_280) < 0.06


def test_the_answer_to_an_ask_has_the_asker_in_its_echo() -> None:
    """Rule 13: not whoever was heard last (today's releases echo that one)."""
    room = settled()
    room.hear(session(ANN, 0, [], sent=1), session(BOB, 0, [], sent=2), session(EVE, 0, [], sent=3))
    room.run(3.0)
    room.sent.clear()
    room.hear(session(ANN, 1, [], ask=1, sent=77))
    room.run(0.02)
    room.hear(session(BOB, 1, [], sent=88), session(EVE, 1, [], sent=99))
    room.run(1.2)
    assert (ANN, 77) in [echo[:2] for echo in echoes(room)]


def test_of_several_asks_that_of_a_probe_is_echoed() -> None:
    confirm = Confirm(Random(1))
    confirm.asked_by(ANN, 1.0, 3, False, 10)
    confirm.probed(DOCTOR, 1, 20, 1.5, 3)
    confirm.asked_by(BOB, 2.0, 3, False, 30)
    assert confirm.echo(2.5) == (DOCTOR, 20, 1_000_000)
    confirm.answered()
    assert confirm.echo(3.0) is None


def test_an_ordinary_session_echoes_whom_it_heard_last() -> None:
    room = settled()
    room.hear(session(ANN, 0, [], sent=5))
    room.run(20.0)
    last: Any = echoes(room)[-1]
    assert last[0] in (ANN, NOBODY)
    assert last[1] == 5
