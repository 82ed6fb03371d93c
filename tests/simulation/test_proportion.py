"""What 50 members together send because of one stranger is in proportion to what he sends."""

from __future__ import annotations

import functools

import pytest

from evloop.room.reliable.limits import ANSWERS_BURST, ANSWERS_MEMBERS_BURST, ANSWERS_PER_S
from tests.simulation.proportion import (
    ANSWERED,
    ATTACKS,
    DRIPS,
    HAUNTED,
    MEASURED_S,
    RATES,
    Bench,
)

MEMBERS = 50
DATAGRAMS_EACH = 3.0
BYTES_PER_S = 64_000
# Of each cause of answers one in ./check: NACKs, SESSIONs, repairs, one's own word.
QUICK = (
    "hearsay", "one that is behind", "NACK to anyone", "NACK to anyone, by members",
    "DATA with holes, by members", "a ghost's word",
)  # fmt: skip
# By who has patience: what he claims once is not asked for without end. (Hearsay about members, and
# a line, cost 2 to 4 SESSIONs besides, as each honest line does; SECURITY.md has the figures.)
DRIPPED = HAUNTED - {"a ghost's hearsay of members"}


@functools.lru_cache(maxsize=1)
def _bench() -> Bench:
    return Bench(MEMBERS)


def _tried(names: object) -> list[object]:
    return [
        pytest.param(
            name, rate, marks=() if name in QUICK and rate == RATES[0] else pytest.mark.slow
        )
        for name in ATTACKS
        if (name in ANSWERED) == (names is ANSWERED)
        for rate in (*RATES, *(DRIPS if name in DRIPPED else ()))
    ]


@pytest.mark.parametrize(("attack", "rate"), _tried(ATTACKS))
def test_a_datagram_of_a_stranger_makes_the_room_send_three_at_most(
    attack: str, rate: float
) -> None:
    cost = _bench().measure(attack, rate)
    assert cost.datagrams <= DATAGRAMS_EACH, cost
    assert cost.bytes_per_s <= BYTES_PER_S, cost


@pytest.mark.slow
def test_what_is_given_up_is_given_up_by_all_at_one_time() -> None:
    """A hole that is never filled: who steps over it alone is at odds with all others. (When each
    did so at a time of its own, that cost 36 SESSIONs and not 3.)"""
    cost = _bench().measure("DATA with holes", DRIPS[-1])
    assert cost.datagrams <= 2.5 * DATAGRAMS_EACH, cost


@pytest.mark.parametrize(("attack", "rate"), _tried(ANSWERED))
def test_asks_are_answered_once_a_second_by_each(attack: str, rate: float) -> None:
    cost = _bench().measure(attack, rate)
    # Those of strangers together, and those in the name of members; and the talk about their lists.
    both = 2 * ANSWERS_PER_S * MEASURED_S + ANSWERS_BURST + ANSWERS_MEMBERS_BURST
    assert cost.datagrams * rate * MEASURED_S <= MEMBERS * both + 2 * rate * MEASURED_S, cost
    assert cost.bytes_per_s <= BYTES_PER_S, cost


def test_the_measure_sees_what_is_sent() -> None:
    """Not by accident is nothing found: an ask is answered by all of them."""
    cost = _bench().measure("ask", 2.0)
    assert cost.kinds["session"] * 2.0 * MEASURED_S >= MEMBERS * MEASURED_S
