"""Rule 1: what a one-shot says sorts behind what was said before it came."""

from __future__ import annotations

import pytest

from evloop.room.reliable.limits import FIRST_WORD_ASKED_S, FIRST_WORD_S
from evloop.room.reliable.packets import DATA, NOBODY
from tests.support.rooms import ANN, BOB, ME, Room, data, repair, session, settled


def sent(room: Room) -> list[tuple[float, int, int]]:
    """(when, number, Lamport time) of the DATA that went out, copies left out."""
    found: dict[int, tuple[float, int, int]] = {}
    for when, packet in room.said(DATA):
        found.setdefault(packet[3], (round(when - 1_000.0, 3), packet[3], packet[5][0]))
    return list(found.values())


def test_it_asks_for_the_newest_message_and_comes_after_it() -> None:
    room = Room()
    room.say("the backup is done")
    room.say("y" * 2_000)
    assert sent(room) == []
    assert [event.text[:10] for event in room.told("message")] == ["the backup", "y" * 10]
    room.run(0.1)
    room.hear(session(BOB, 0, [(ANN, 39, 40), (BOB, 6, 7)], name="Bob"))
    room.run(0.01)
    assert room.nacks()[0][1:] == (NOBODY, [(ANN, 39, 40)])
    assert sent(room) == []
    room.run(0.03)
    room.hear(repair(ANN, 39, lamport=700, parents=((ANN, 38),)))
    room.run(0.5)
    assert [(seq, lamport) for _, seq, lamport in sent(room)] == [
        (0, 701), (1, 702), (2, 702), (3, 702),
    ]  # fmt: skip
    assert all(when < 0.2 for when, _, _ in sent(room))
    # The look back agrees: what is mine stands behind what was there before.
    assert [event.sender for event in room.session.history(9)] == [ANN, ME, ME]
    room.hear(session(BOB, 1, [(ME, 0, 4)], digest=3, name="Bob"))
    assert room.session.confirmers() == (1, 1)


@pytest.mark.parametrize("lamport", range(1, 6))
def test_what_it_hears_before_it_speaks_sorts_before_it(lamport: int) -> None:
    """Also when it has the very Lamport time that mine had while they waited: a `say` from cron
    after a `say` from cron."""
    room = Room()
    for text in ("one", "two", "three"):
        room.say(text)
    room.run(0.1)
    room.hear(session(BOB, 0, [(ANN, 0, 1)], name="Bob"))
    room.run(0.01)
    room.hear(repair(ANN, 0, lamport=lamport))
    room.run(0.5)
    times = [time for _, _, time in sent(room)]
    assert times[0] > lamport
    assert times == sorted(set(times))
    assert [event.sender for event in room.session.history(9)] == [ANN, ME, ME, ME]


@pytest.mark.parametrize("listed", [[], [(ANN, 0, 40)]])
def test_it_waits_no_longer_than_it_has_to(listed: list[tuple[bytes, int, int]]) -> None:
    room = Room()
    room.say("hello")
    heard = 0.1 if listed else 0.0
    room.run(0.1)
    if listed:  # somebody says that there is something, and nobody sends it
        room.hear(session(BOB, 0, listed, name="Bob"))
    room.run(2.0)
    ((when, seq, _),) = sent(room)
    assert seq == 0
    assert when == pytest.approx(heard + FIRST_WORD_S, abs=0.011)


@pytest.mark.parametrize("listed", [[], [(ANN, 0, 40)]])
def test_who_waits_for_confirmation_is_in_no_hurry(listed: list[tuple[bytes, int, int]]) -> None:
    room = Room()
    room.say("hello")
    room.session.confirm(room.now)
    heard = 0.6 if listed else 0.0
    room.run(0.6)
    if listed:
        room.hear(session(BOB, 0, listed, name="Bob"))
    room.run(2.0)
    ((when, _, _),) = sent(room)
    assert when == pytest.approx(heard + FIRST_WORD_ASKED_S, abs=0.011)


def test_it_does_not_wait_where_nothing_was_said() -> None:
    room = Room()
    room.say("hello")
    room.run(0.1)
    room.hear(session(BOB, 0, [], digest=0, name="Bob"))
    assert [(when, seq) for when, seq, _ in sent(room)] == [(0.1, 0)]


def test_it_does_not_wait_when_it_knows_what_time_it_is() -> None:
    room = settled()
    room.say("hello")
    assert len(sent(room)) == 1
    room = Room()
    room.hear(data(ANN, 5, lamport=90))
    room.say("hello")
    assert sent(room) == [(0.0, 0, 91)]
