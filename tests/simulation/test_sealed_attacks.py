"""The table of threats in SECURITY.md, open and sealed side by side: each attack has one figure."""

from __future__ import annotations

from random import Random

import pytest

from tests.simulation import forgery, sieges
from tests.simulation.sieges import SEALED_PLACE, SILENT_S, STRANGER, Siege
from tests.simulation.world import REPAIR, UNICAST


def test_a_forger_speaks_in_an_open_room_and_not_in_a_sealed_one() -> None:
    assert sieges.forge(False) == 40
    assert sieges.forge(True) == 0


@pytest.mark.parametrize(
    "attack",
    [
        sieges.replay_to_an_empty_room,
        sieges.replay_to_a_live_room_and_a_newcomer,
        sieges.replay_to_one_that_slept,
    ],
)
def test_yesterday_does_not_happen_again(attack: object) -> None:
    assert callable(attack)
    messages, joins = attack(False)
    assert messages > 5
    assert joins >= 2
    assert attack(True) == (0, 0)


def test_one_that_slept_is_shown_what_was_said_meanwhile_once_and_lists_nobody_who_left() -> None:
    """The tape is of that very time: its SESSIONs name the sleeper, so they may prove senders."""
    said = [f"slept {number}" for number in range(9)]
    for byes in (True, False):
        assert sieges.tape_of_its_sleep(True, byes) == (0, said)
    assert sieges.tape_of_its_sleep(False, False) == (2, said), "in an open room they stay listed"


def test_replays_make_a_sealed_room_say_little() -> None:
    assert sieges.amplify(True) <= 2.0 * 5 + 1


def test_a_join_under_replays_takes_no_longer() -> None:
    assert sieges.join_under_replay(True) <= 0.5
    assert sieges.join_under_replay(True, distinct=True) <= 2.0


def test_the_dead_are_not_kept_present() -> None:
    assert sieges.keep_the_dead_present(False) > 60.0
    assert sieges.keep_the_dead_present(True) <= 2 * SILENT_S


def test_what_no_tag_covers_loses_nothing() -> None:
    shown, cost = sieges.flip_what_no_tag_covers(True)
    assert shown == 60
    assert cost <= 2.0


def test_an_echo_with_a_false_number_of_copies() -> None:
    assert sieges.echo_at_once(True) <= 1.1


def test_honest_messages_arrive_under_ten_thousand_forgeries_a_second() -> None:
    siege = Siege(True, members=3)
    world = siege.world
    real = forgery.data(SEALED_PLACE, b"stranger", 0, "nobody said that")
    forged = real[:-1] + bytes([real[-1] ^ 1])
    start = world.now
    for number in range(10_000):
        world.at(start + number / 10_000, lambda data: world.multicast(data, STRANGER), forged)
    world.oracle.measure_from = len(world.oracle.said_at)
    for number in range(5):
        siege.said(siege.members[number % 3], f"line {number}", 0.2)
    assert world.oracle.complete()
    assert max(world.oracle.latencies) < 0.01
    world.run(world.now + 0.1)
    assert siege.members[0].session.stats()["dropped_tag"] == 10_000


def test_with_the_key_the_caps_of_a_member_hold() -> None:
    """A member that floods: SESSIONs that name everybody, and NACKs for everything."""
    siege = Siege(True)
    world, rng = siege.world, Random(5)
    ids = [member.session.sender_id for member in siege.members]
    for number in range(10):
        siege.said(siege.members[number % 5], f"line {number}")
    start = world.now
    for number in range(600):
        entries = [(rng.choice(ids), 0, rng.randrange(2**32)) for _ in range(8)]
        made = forgery.session(
            SEALED_PLACE, rng.randbytes(8), 1, entries, digest=rng.getrandbits(64), loss=100,
            members=65_535, ask=1, known=tuple(ids),
        )  # fmt: skip
        world.at(start + number / 200, lambda data: world.multicast(data, STRANGER), made)
    for number in range(3_000):
        ranges = [(sender, 0, 100) for sender in ids]
        made = forgery.nack(SEALED_PLACE, rng.choice(ids), 1_000 + number, ranges)
        world.at(start + number / 1_000, lambda data: world.multicast(data, STRANGER), made)
    before = list(world.sent)
    for number in range(6):
        siege.said(siege.members[number % 5], f"meanwhile {number}", 0.5)
    assert world.sent[REPAIR] - before[REPAIR] <= 3 * 100 + 5 * 20
    assert world.sent[UNICAST] - before[UNICAST] <= 5 * (3 * 400 + 400)
    for member in siege.members:
        world.oracle.judge_bounds(member.index, member.session, world.now)
    world.run(world.now + 5.0)
    assert world.oracle.complete()
