"""The two delays: to the nearest, by which I ask and answer, and to all, by which I hold down."""

from __future__ import annotations

import pytest

from evloop.room.reliable.delay import Delay
from evloop.room.reliable.limits import (
    DELAY_DOUBT,
    DELAY_ECHOES,
    DELAY_PEERS_MAX,
    DELAY_S_MIN,
    DELAY_S_START,
    TRICKLE_DELAYS,
    TRICKLE_S_MIN,
)
from evloop.room.reliable.packets import SESSION
from tests.support.rooms import ANN, BOB, EVE, ME, Room, data, session, settled


def ident(n: int) -> bytes:
    return n.to_bytes(8, "big")


def echo(delay: Delay, peer: bytes, one_way: float, now: float = 100.0) -> None:
    sent = delay.sending(now)
    delay.echoed(peer, sent, 0, now + 2 * one_way, True)


def test_it_is_half_of_the_trip_less_the_time_held() -> None:
    delay = Delay()
    assert delay.value == delay.far == DELAY_S_START
    sent = delay.sending(100.0)
    delay.echoed(ANN, sent, 500_000, 100.54, True)
    assert delay.value == pytest.approx(0.02, abs=1e-5)
    assert delay.far == pytest.approx(0.02, abs=1e-5)


def test_the_far_delay_rises_fast_and_falls_slowly() -> None:
    delay = Delay()
    echo(delay, ANN, 0.02)
    echo(delay, ANN, 0.04)
    assert delay.far == pytest.approx(0.03, abs=1e-5)  # up by a half
    echo(delay, ANN, 0.022)
    assert delay.far == pytest.approx(0.03 - 0.008 / 16, abs=1e-5)  # down by a sixteenth
    echo(delay, ANN, 0.005)
    assert delay.far == pytest.approx(0.0295 - 0.0245 / 4, abs=1e-5)  # or a quarter, when far


def test_one_member_far_away_makes_nobody_slow() -> None:
    delay = Delay()
    for turn in range(5):
        echo(delay, EVE, 0.2, 100.0 + turn)
        for n in range(3):
            echo(delay, ident(n), 0.006 + n / 1_000, 100.5 + turn)
    assert delay.value == pytest.approx(0.007, abs=1e-5)


def test_where_most_are_far_the_far_delay_is_theirs() -> None:
    delay = Delay()
    for turn in range(8):
        for n in range(9):
            echo(delay, ident(n), 0.06 if n < 6 else 0.006, 100.0 + turn)
    assert delay.value == pytest.approx(0.006, abs=1e-5)
    assert delay.far == pytest.approx(0.06, abs=1e-3)


def test_each_counts_by_the_least_of_its_last_echoes() -> None:
    delay = Delay()
    echo(delay, BOB, 0.005)
    echo(delay, EVE, 0.4)
    echo(delay, ANN, 0.01)
    for turn in range(DELAY_ECHOES - 1):
        echo(delay, ANN, 0.05)  # a busy machine, or a queue
        assert delay.value == pytest.approx(0.01, abs=1e-5), turn
    echo(delay, ANN, 0.05)
    assert delay.value == pytest.approx(0.05, abs=1e-5)  # no: it is the way


def test_one_forged_echo_sets_nothing_where_there_are_others_and_two_do() -> None:
    delay = Delay()
    for n in range(5):
        echo(delay, ident(n), 0.03)
    for _ in range(100):
        echo(delay, EVE, 0.0)
    assert delay.value == pytest.approx(0.03, abs=1e-5)
    echo(delay, ANN, 0.0)
    assert delay.value == DELAY_S_MIN


def test_of_two_neither_decides_alone() -> None:
    delay = Delay()
    echo(delay, ANN, 0.01)
    assert delay.value == pytest.approx(0.01, abs=1e-5)
    echo(delay, EVE, 0.25)
    assert delay.value == pytest.approx(DELAY_DOUBT * 0.01, abs=1e-4)
    for _ in range(DELAY_ECHOES):
        echo(delay, EVE, 0.0)
    assert delay.value == pytest.approx(0.01, abs=1e-5)


def test_who_leaves_is_forgotten_with_its_echoes() -> None:
    delay = Delay()
    for peer in (ANN, EVE):
        echo(delay, peer, 0.005)
    for n in range(3):
        echo(delay, ident(n), 0.03)
    assert delay.value == DELAY_S_MIN
    delay.gone(EVE)
    assert delay.value == pytest.approx(0.03, abs=1e-5)
    for peer in (ANN, *(ident(n) for n in range(3))):
        delay.gone(peer)
    assert delay.value == pytest.approx(0.03, abs=1e-5)  # nobody is left to tell


def test_those_count_that_echoed_last() -> None:
    delay = Delay()
    for n in range(2):
        echo(delay, ident(n), 0.005)
    for n in range(2, 2 + DELAY_PEERS_MAX):
        echo(delay, ident(n), 0.02)
    assert delay.value == pytest.approx(0.02, abs=1e-5)


# -- what follows from it -------------------------------------------------------------------------


def _far_away(way: float) -> Room:
    """A room of three whose other two are `way` seconds from me."""
    room = settled()
    room.say("hello")
    for counter, peer in ((1, ANN), (1, BOB)):
        room.run(1.0)
        room.hear(session(peer, counter, [(ME, 0, 1)]))
    for counter, peer in ((2, ANN), (2, BOB)):
        room.run(9.0)
        when, packet = room.said(SESSION)[-1]
        held = int((room.now - when - 2 * way) * 1e6)
        room.hear(session(peer, counter, [(ME, 0, 1)], echo=(ME, packet[5][1], held)))
    assert room.stat("delay_us") == pytest.approx(way * 1e6, abs=100)
    return room


def test_nobody_speaks_before_a_way_and_back_is_over() -> None:
    for way in (0.005, 0.03, 0.1):
        room = _far_away(way)
        room.sent.clear()
        begin = room.now
        room.hear(data(ANN, 0))
        room.run(8.0)
        first = room.said(SESSION)[0][0] - begin
        shortest = max(TRICKLE_S_MIN, TRICKLE_DELAYS * way)
        assert shortest / 2 <= first <= shortest + 0.2
