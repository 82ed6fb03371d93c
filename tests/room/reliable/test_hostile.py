"""No datagram and no sequence of them makes a session raise: extremes, floods, small tables."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from evloop.room.reliable.limits import HISTORY_BYTES_MAX, SEQ_END
from tests.support.hostile import SMALL, Hostile, shrink
from tests.support.rooms import ANN, BOB, EVE, ME, Room, bye, data, nack, repair, session, settled

SEEDS = 24
STEPS = 250
FLOOD = 10_000


def _live(room: Room, stranger: Hostile, steps: int) -> None:
    for step in range(steps):
        room.hear(stranger.datagram())
        chance = stranger.rng.random()
        if chance < 0.10:
            room.run(stranger.rng.choice((0.01, 0.3, 2.0, 40.0)))
        elif chance < 0.12 and room.session.queued() < 900:
            room.say("z" * stranger.rng.choice((1, 2_000)))
        elif chance < 0.125:
            room.session.rename(f"N{step}", room.now, 0)
        elif chance < 0.13:
            room.session.confirm(room.now)
    room.run(60)
    assert all(len(datagram) <= 1_200 for _, datagram, _ in room.sent)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_extremes_with_small_tables(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    shrink(monkeypatch)
    room = Room(seed=seed)
    _live(room, Hostile(seed), STEPS)
    stats = room.session.stats()
    assert stats["gaps"] <= SMALL["GAPS_MAX"]
    assert stats["senders"] <= SMALL["SENDERS_MAX"]
    assert stats["members"] <= SMALL["MEMBERS_MAX"] + 1
    assert stats["history"] <= SMALL["HISTORY_MESSAGES_MAX"]
    assert stats["history_bytes"] <= SMALL["HISTORY_BYTES_MAX"]


@pytest.mark.parametrize("seed", range(2))
def test_extremes_with_the_real_tables(seed: int) -> None:
    room = Room(seed=seed)
    _live(room, Hostile(seed), STEPS)
    assert room.session.stats()["history_bytes"] <= HISTORY_BYTES_MAX


FLOODS: dict[str, Callable[[int], bytes]] = {
    "the same message asked for": lambda n: nack(EVE, n, [(ME, 0, 1)]),
    "all messages asked for": lambda n: nack(EVE, n, [(BOB, 0, 2**32 - 1)] * 55),
    "asked for by name": lambda n: nack(EVE, n, [(BOB, 0, 2**32 - 1)] * 55, to=ME),
    "claims": lambda n: session(EVE, n, [(n.to_bytes(8, "big"), 0, 2**32 - 1)], digest=n),
    "the last number": lambda n: session(BOB, n, [(BOB, 0, 2**32 - 1 - n % 3)], digest=n),
    "members": lambda n: session(n.to_bytes(8, "big"), n, [], digest=7, members=65_535),
    "goodbyes": lambda n: bye(BOB, n),
    "goodbyes of anybody": lambda n: bye(n.to_bytes(8, "big"), n),
    "senders": lambda n: data(n.to_bytes(8, "big"), n % 5),
    "far ahead": lambda n: data((n // 1_000).to_bytes(8, "big"), 1_023 - n % 1_000),
    "large numbers": lambda n: data(EVE, SEQ_END - n),
    "names": lambda n: session(EVE, n, [], digest=n, name="\ufdfa" * (n % 80)),
    "parents": lambda n: data(EVE, n, parents=((BOB, n + 5), (ME, SEQ_END - 1), (EVE, n + 1))),
    "further parts": lambda n: data(EVE, n, flags=8),
    "bodies for one number": lambda n: data(BOB, 0, f"text {n}"),
    "repairs": lambda n: repair(BOB, n % 3),
    "asks for confirmation": lambda n: session(EVE, n, [], digest=n, ask=1),
}


@pytest.mark.parametrize("what", FLOODS)
def test_ten_thousand_of_one_kind(what: str) -> None:
    room = settled()
    room.hear(session(BOB, 0, [], name="Bob"), data(BOB, 0), data(BOB, 1))
    room.say("hello")
    make = FLOODS[what]
    for n in range(FLOOD):
        room.session.receive_datagram(make(n), "eve", room.now)
        if n % 20 == 0:
            room.pump()
            room.run(0.125)
    room.run(90)
    room.hear(session(ANN, 0, [(ANN, 0, 0)]), data(ANN, 0))
    assert room.shown(ANN) == [(0, "")]


@pytest.mark.parametrize("number", [SEQ_END - 1, SEQ_END])
def test_numbers_at_their_end_are_refused_where_they_enter(number: int) -> None:
    room = settled()
    room.hear(data(ANN, 0), session(ANN, 1, [(ANN, 0, SEQ_END)], digest=9))
    room.hear(data(BOB, 0, parents=((ANN, number),)))
    room.run(5)
    for _, _, listed in room.nacks():
        assert all(lo < hi <= SEQ_END for _, lo, hi in listed)
    assert room.stat("dropped_number") == (number == SEQ_END)
    room.hear(data(EVE, number))
    assert room.stat("dropped_number") == 2 * (number == SEQ_END)
