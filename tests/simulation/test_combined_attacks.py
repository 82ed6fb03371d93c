"""What a stranger can do by kinds of datagrams that only together mean something, in an open room.

A goodbye with a replay behind it, repairs of what was never said, PROBEs in the name of members,
and one lie a minute by somebody who waited until he was of standing.
"""

from __future__ import annotations

from evloop.room.reliable.limits import (
    ANSWERS_BURST,
    ANSWERS_PER_S,
    STANDING_S,
)
from tests.simulation import forgery
from tests.simulation.sieges import STRANGER, Siege
from tests.simulation.world import NACK, PLACE, REPAIR, SESSION

LINES = 6


def _settled(members: int = 4) -> Siege:
    siege = Siege(False, members)
    for number in range(LINES):
        siege.said(siege.members[number % members], f"line {number}", 0.5)
    siege.world.run(STANDING_S + 15.0)
    return siege


def test_a_goodbye_and_a_replay_of_who_said_it_take_nobody_away() -> None:
    """In the name of Ann and in step, once a second, with her last SESSION right behind it."""
    siege = _settled()
    world, (ann, *others) = siege.world, siege.members
    tape: list[bytes] = []
    world.tape = tape
    sender = ann.session.sender_id
    start, before = world.now, len(siege.events)

    def strike(_: object) -> None:
        own = [data for data in tape if data[8:16] == sender and data[2] & 15 == forgery.SESSION]
        newest = int.from_bytes(own[-1][16:20], "big") if own else 0
        world.multicast(forgery.bye(PLACE, sender, newest + 1), STRANGER)
        if own:
            world.at(world.now + 0.002, lambda _: world.multicast(own[-1], STRANGER))

    for second in range(30):
        world.at(start + 8.0 + second, strike)
    looks = absent = 0
    while world.now < start + 40.0:
        world.run(world.now + 0.05)
        looks += len(others)
        absent += sum(not siege.lists(other, ann) for other in others)
        if looks % 120 == 0:
            world.say(ann, f"at {world.now}")
    world.run(world.now + 5.0)
    assert absent <= looks / 100
    told = [event for _, event in siege.events[before:] if event.what in ("left", "joined")]
    assert 0 < len(told) <= 2 * len(others)  # the first one is believed, and taken back at once
    assert world.oracle.complete()


def test_repairs_of_what_a_member_never_said_hold_up_nothing() -> None:
    siege = _settled()
    world, ann = siege.world, siege.members[0]
    sender, start = ann.session.sender_id, world.now
    world.oracle.measure_from = len(world.oracle.said_at)
    world.oracle.forgiving = True

    def strike(number: object) -> None:
        seq = ann.session.stats()["sent"] + 1 + int(str(number)) % 20
        repair = forgery.data(PLACE, sender, seq, "never", flags=forgery.REPAIRED, lamport=9)
        world.multicast(repair, STRANGER)

    for number in range(200):
        world.at(start + number / 10, strike, number)
    for number in range(20):
        siege.said(siege.members[number % 4], f"honest {number}", 1.0)
    world.run(world.now + 40.0)
    assert max(world.oracle.latencies) < 0.1
    assert world.oracle.complete() and not world.oracle.gone
    assert [member.session.stats()["gaps"] for member in siege.members] == [0, 0, 0, 0]


def test_probes_in_the_name_of_members_are_asks_of_strangers() -> None:
    siege = _settled()
    world, start = siege.world, siege.world.now
    before = world.sent[SESSION]
    for number in range(200):
        member = siege.members[number % 4]
        probe = forgery.probe(PLACE, member.session.sender_id, number)
        world.at(start + number / 20, lambda data: world.multicast(data, STRANGER), probe)
    world.run(start + 10.0)
    most = 4 * (10 * ANSWERS_PER_S + ANSWERS_BURST) + 4 * 3  # and the SESSIONs of presence
    assert 20 < world.sent[SESSION] - before <= most


def test_one_lie_a_minute_of_who_waited_for_his_standing() -> None:
    """Hearsay of fifteen senders that are nowhere, every minute for five. Each might be somebody's
    last word, so the room asks; but not on and on, for nobody says so again."""
    siege = _settled()
    world, counter = siege.world, 0

    def session(entries: list[tuple[bytes, int, int]], digest: int) -> None:
        nonlocal counter
        counter += 1
        lie = forgery.session(
            PLACE, b"ghost!!!", counter, entries, digest=digest, members=65_535, loss=100
        )
        world.multicast(lie, STRANGER)

    def wait(times: int) -> None:
        for _ in range(times):
            session([], world.digest(siege.members[0]))
            world.run(world.now + 15.0)

    wait(6)
    before, start = list(world.sent), world.now
    for minute in range(5):
        session([(bytes([minute, n] * 4), 0, 400) for n in range(15)], minute + 1)
        world.run(world.now + 1.0)
        wait(4)
    sent = [after - earlier for after, earlier in zip(world.sent, before)]
    seconds = world.now - start
    assert 5 <= sent[NACK] <= 5 * 3
    assert sent[REPAIR] == 0
    assert sent[SESSION] <= 2 * seconds  # four members say every 6 s that they are here
    assert [member.session.stats()["members_estimate"] for member in siege.members] == [5] * 4
    siege.said(siege.members[1], "heard at once")
    assert world.oracle.complete()
