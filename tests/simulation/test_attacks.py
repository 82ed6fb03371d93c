"""What a stranger will try, in the simulator: open rooms, right tags, no rules followed."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from tests.simulation import forgery
from tests.simulation.oracle import SHOWN
from tests.simulation.world import NACK, PLACE, REPAIR, UNICAST, Member, World

STRANGER = -1
ELSEWHERE = "192.0.2.1"  # a forged source address: whatever goes there has left the link


class _Talk:
    """A small lossless room that has said a few lines, with all events on record."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, members: int = 5, loss: float = 0.0
    ) -> None:
        self.world = World(7)
        self.world.loss = loss
        self.world.tape = []
        self.world.oracle.conflicts_allowed = True
        self.events: list[tuple[int, Any]] = []
        shown = self.world.oracle.shown

        def recorded(index: int, events: list[Any], now: float) -> None:
            self.events += [(index, event) for event in events]
            shown(index, events, now)

        monkeypatch.setattr(self.world.oracle, "shown", recorded)
        self.members = [self.world.join(f"m{number}") for number in range(members)]
        self.lines = 0
        self.world.run(2.0)
        for _ in range(10):
            self.say()
        self.world.run(self.world.now + 2.0)

    def say(self, member: Member | None = None, pause: float = 0.3) -> None:
        """Somebody says the next line."""
        self.lines += 1
        speaker = member or self.members[self.lines % len(self.members)]
        assert self.world.say(speaker, f"line {self.lines}")
        self.world.run(self.world.now + pause)

    def forge(self, data: bytes) -> None:
        """A stranger's datagram, heard by all."""
        self.world.multicast(data, STRANGER)

    def kinds(self, *wanted: str) -> list[tuple[int, Any]]:
        """All events of these kinds so far, with who showed them."""
        return [(index, event) for index, event in self.events if event.what in wanted]

    def slowest(self) -> float:
        """The longest time from `say` to screen since `measure_from`."""
        return max(self.world.oracle.latencies)


def _id(member: Member) -> bytes:
    return member.session.sender_id


@pytest.mark.parametrize("loss", [0.0, 0.3])
@pytest.mark.parametrize("own", [False, True], ids=["hearsay", "in Ann's name"])
def test_one_forged_session_with_hi_500(
    monkeypatch: pytest.MonkeyPatch, own: bool, loss: float
) -> None:
    talk = _Talk(monkeypatch, loss=loss)
    ann = talk.members[0]
    claim = [(_id(ann), 0, 500)]
    talk.forge(forgery.session(PLACE, _id(ann) if own else b"stranger", 77, claim))
    talk.world.oracle.measure_from = len(talk.world.oracle.said_at)
    for _ in range(5):
        talk.say(ann)
    assert talk.slowest() < (0.01 if loss == 0 else 1.0)
    talk.world.run(talk.world.now + 90.0)
    assert talk.kinds("lost") == []
    assert talk.world.oracle.complete()


def test_an_unheard_senders_claims_are_neither_shown_nor_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    talk = _Talk(monkeypatch)
    for number in range(10):
        ghost = b"ghost" + bytes([0, 0, number])
        talk.forge(forgery.session(PLACE, ghost, 1, [(b"unheard" + bytes([number]), 0, 50)]))
    talk.say()
    talk.world.run(talk.world.now + 90.0)
    assert talk.kinds("lost") == []
    assert talk.world.oracle.complete()


def test_a_recorded_conversation_replayed_a_minute_later(monkeypatch: pytest.MonkeyPatch) -> None:
    talk = _Talk(monkeypatch, loss=0.2)
    tape = list(talk.world.tape or [])
    talk.world.run(talk.world.now + 60.0)
    before = len(talk.kinds("message"))
    for data in tape:
        talk.forge(data)
        talk.world.run(talk.world.now + 0.01)
    talk.world.run(talk.world.now + 30.0)
    assert len(talk.kinds("message")) == before
    assert talk.kinds("lost", "conflict") == []
    talk.say()
    talk.world.run(talk.world.now + 5.0)
    assert talk.world.oracle.complete()


def test_forged_byes_are_void_when_their_sender_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    talk = _Talk(monkeypatch)
    for member in talk.members:
        for counter in (1_000, 1_001, 1_002):
            talk.forge(forgery.bye(PLACE, _id(member), counter))
    talk.world.run(talk.world.now + 0.5)
    for _ in range(5):
        talk.say()
    talk.world.run(talk.world.now + 10.0)
    assert talk.world.oracle.complete()
    everybody = {_id(member) for member in talk.members}
    for member in talk.members:
        assert {entry[0] for entry in member.session.members(talk.world.now)} == everybody


def test_of_two_bodies_for_one_number_the_first_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    talk = _Talk(monkeypatch)
    ann = talk.members[0]
    seq = 2  # Ann has said two of the ten lines
    oracle = talk.world.oracle
    oracle.forged(_id(ann), 1, "m0", "never said", talk.world.now)
    talk.forge(forgery.data(PLACE, _id(ann), 1, "never said", name="m0"))
    talk.world.run(talk.world.now + 1.0)
    first = talk.kinds("conflict")
    assert sorted(index for index, _ in first) == [0, 1, 2, 3, 4]
    assert {(event.sender, event.seq) for _, event in first} == {(_id(ann), 1)}
    # Once per sender and minute, however often it is tried.
    for attempt in range(20):
        oracle.forged(_id(ann), 0, "m0", f"again {attempt}", talk.world.now)
        talk.forge(forgery.data(PLACE, _id(ann), 0, f"again {attempt}", name="m0"))
        talk.world.run(talk.world.now + 0.1)
    assert talk.kinds("conflict") == first
    assert seq * len(talk.members) == sum(
        event.sender == _id(ann) for _, event in talk.kinds("message")
    )
    for _ in range(5):
        talk.say(ann)
    talk.world.run(talk.world.now + 5.0)
    assert oracle.complete()


def _flood_sessions(rng: Random, ids: list[bytes]) -> bytes:
    ghost = rng.randbytes(8)
    entries = [(rng.choice(ids), 0, rng.randrange(2**32)) for _ in range(8)]
    entries += [(rng.randbytes(8), 0, rng.randrange(2**32)) for _ in range(8)]
    return forgery.session(
        PLACE, ghost, 1, entries, digest=rng.getrandbits(64), loss=100, members=65_535, ask=1
    )


def _flood_nacks(rng: Random, ids: list[bytes]) -> bytes:
    ranges = [(sender, 0, 100) for sender in ids]
    to = rng.choice([bytes(8), *ids])
    return forgery.nack(
        PLACE, rng.choice([rng.randbytes(8), *ids]), rng.getrandbits(32), ranges, to
    )


@pytest.mark.parametrize("seconds", [1, pytest.param(10, marks=pytest.mark.slow)])
def test_200_forged_sessions_and_1000_nacks_a_second(
    monkeypatch: pytest.MonkeyPatch, seconds: int
) -> None:
    talk = _Talk(monkeypatch)
    world, rng = talk.world, Random(5)
    ids = [_id(member) for member in talk.members]
    world.tape = None
    start = world.now
    for number in range(200 * seconds):
        world.at(start + number / 200, lambda _: talk.forge(_flood_sessions(rng, ids)))
    for number in range(1_000 * seconds):
        world.at(start + number / 1_000, lambda _: talk.forge(_flood_nacks(rng, ids)))
    before = list(world.sent)
    world.oracle.measure_from = len(world.oracle.said_at)
    for _ in range(2 * seconds):
        talk.say(pause=0.5)
    # The oracle judges every member's own rates; here is what all of them do together.
    assert world.sent[REPAIR] - before[REPAIR] <= seconds * 100 + 5 * 20
    assert world.sent[UNICAST] - before[UNICAST] <= 5 * (seconds * 400 + 400)
    for member in talk.members:
        world.oracle.judge_bounds(member.index, member.session, world.now)
    world.run(world.now + 5.0)
    assert world.oracle.complete()
    assert talk.slowest() < 1.1  # at most the wait for parents that nobody has
    assert talk.kinds("lost") == []


def _deafened(talk: _Talk) -> Member:
    # Ann misses 40 lines, so that whoever asks in her name asks for much.
    ann = talk.members[0]
    ann.deaf = True
    talk.world.changed()
    for _ in range(40):
        talk.say(talk.members[1])
    return ann


def test_a_nack_with_a_forged_source_gets_what_rule_6_allows_and_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    talk = _Talk(monkeypatch)
    world = talk.world
    ann = _deafened(talk)
    ben = _id(talk.members[1])
    for counter in range(600):
        wanted = forgery.nack(PLACE, _id(ann), 2_000 + counter, [(ben, 0, 40)], to=ben)
        for member in world.members:
            if not member.deaf:
                world.hand(member, wanted, ELSEWHERE)
        world.run(world.now + 0.05)
    assert sum(world.stray.values()) <= 1_000
    assert set(world.stray) <= {ELSEWHERE}
    ann.deaf = False
    world.changed()
    world.run(world.now + 60.0)
    assert world.oracle.complete()


@pytest.mark.parametrize("spoil", [forgery.mutate, lambda _, rng: rng.randbytes(60)])
def test_junk_is_counted_and_slows_nothing(
    monkeypatch: pytest.MonkeyPatch, spoil: Callable[[bytes, Random], bytes]
) -> None:
    talk = _Talk(monkeypatch, members=3)
    world, rng = talk.world, Random(11)
    tape = list(world.tape or [])
    world.oracle.measure_from = len(world.oracle.said_at)
    for _ in range(5):
        for _ in range(600):
            world.at(
                world.now + rng.uniform(0, 0.3),
                lambda _: talk.forge(spoil(rng.choice(tape), rng)),
            )
        talk.say()
    world.run(world.now + 1.0)
    assert talk.slowest() < 0.01
    assert talk.kinds("lost", "conflict") == []
    stats = talk.members[0].session.stats()
    assert sum(count for reason, count in stats.items() if reason.startswith("dropped_")) > 1_000


def test_repairs_heard_by_a_newcomer_are_not_an_echo(monkeypatch: pytest.MonkeyPatch) -> None:
    # A conversation replayed to somebody who never heard it is history, in order, once.
    talk = _Talk(monkeypatch)
    tape = [data for data in talk.world.tape or [] if data[2] & 15 == forgery.DATA]
    zoe = talk.world.join("Zoe")
    for data in reversed(tape):
        talk.world.hand(zoe, data, STRANGER)
    talk.world.run(talk.world.now + 5.0)
    oracle = talk.world.oracle
    assert all(oracle.state(zoe.index, number) == SHOWN for number in range(10))
    assert talk.world.sent[NACK] < 20
