"""The oracle is tested too: rules are taken out of the session, and the simulator must notice.

Each rule has a stage, a small play that ends in one figure, and a most that this figure may be.
The session as it is stays below; without the rule the play goes over, or breaks a safety rule.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from math import inf

import pytest

from evloop.room.reliable import (
    gaps,
    membership,
    repair,
    suppression,
)
from evloop.room.reliable.limits import WINDOW_MESSAGES
from evloop.room.reliable.reorder import (
    LATE,
    NEW,
    OLD,
    Message,
    Sender,
)
from tests.simulation import forgery
from tests.simulation.planting import Planted, assert_noticed
from tests.simulation.room import Setting, measure
from tests.simulation.world import NACK, PLACE, REPAIR, Member, World

STRANGER = -1
COPIES_S = 0.15  # all unasked copies of a message have had their time


def _room(count: int, settle_s: float = 6.0) -> tuple[World, list[Member]]:
    """A lossless room whose members know each other."""
    world = World(3)
    members = [world.join(f"m{number}") for number in range(count)]
    world.run(settle_s)
    return world, members


def _deafen(world: World, members: list[Member], deaf: bool) -> None:
    for member in members:
        member.deaf = deaf
    world.changed()


def _until(world: World, done: Callable[[], bool], most: float) -> float:
    """Seconds until `done`; inf when `most` pass."""
    start = world.now
    while not done():
        if world.now >= start + most:
            return inf
        world.run(world.now + 0.01)
    return world.now - start


def _orphan(world: World, ann: Member, others: list[Member]) -> None:
    """Ann says two lines, of which the first reaches nobody, and is gone."""
    _deafen(world, others, True)
    world.say(ann, "heard by nobody")
    world.run(world.now + COPIES_S)
    _deafen(world, others, False)
    world.say(ann, "heard by all")
    world.run(world.now + 0.005)
    world.crash(ann)


def nacks_for_an_orphan() -> float:
    """NACKs of five members in 20 s for a message that exists nowhere."""
    world, (ann, *others) = _room(6)
    _orphan(world, ann, others)
    before = world.sent[NACK]
    world.run(world.now + 20.0)
    return world.sent[NACK] - before


def life_after_an_orphan() -> float:
    """Seconds until what follows an orphan is shown by all."""
    world, (ann, *others) = _room(4)
    _orphan(world, ann, others)
    return _until(world, lambda: world.oracle.have[1] == len(others), 75.0)


def talk_beside_an_orphan() -> float:
    """Seconds that five lost last messages take to be repaired, while all miss an orphan."""
    world, (ann, ben, cid) = _room(3)
    _orphan(world, ann, [ben, cid])
    world.run(world.now + 10.0)
    total = 0.0
    for _ in range(5):
        _deafen(world, [cid], True)
        world.say(ben, "did you hear that?")
        world.run(world.now + COPIES_S)
        _deafen(world, [cid], False)
        total += _until(world, lambda: world.oracle.complete(2), 10.0)
        world.run(world.now + 1.0)
    return total


def nacks_for_what_all_miss() -> float:
    """NACKs of 29 members in 2 s for a message that nobody can give them."""
    world, (ann, *others) = _room(30)
    before = world.sent[NACK]
    _orphan(world, ann, others)
    world.run(world.now + 2.0)
    return world.sent[NACK] - before


def repairs_for_many_asks() -> float:
    """Repairs of one message for which a stranger asks a thousand times in a second."""
    world, (ann, *_) = _room(6)
    world.say(ann, "say that again")
    world.run(world.now + 1.0)
    wanted = [(ann.session.sender_id, 0, 1)]
    before = world.sent[REPAIR]
    for counter in range(1_000):
        world.multicast(forgery.nack(PLACE, b"stranger", counter, wanted), STRANGER)
        world.run(world.now + 0.001)
    return world.sent[REPAIR] - before


def repair_of_the_last_message() -> float:
    """Seconds that five lost last messages take to be repaired, each after a long silence."""
    world, (ann, ben) = _room(2)
    total = 0.0
    for _ in range(5):
        world.run(world.now + 40.0)
        _deafen(world, [ben], True)
        world.say(ann, "and that is that")
        world.run(world.now + COPIES_S)
        _deafen(world, [ben], False)
        total += _until(world, world.oracle.complete, 20.0)
    return total


def legacy_of_the_dead() -> float:
    """Seconds until all have the last words of a dead one, heard by one member alone."""
    world, (ann, ben, *others) = _room(6)
    _deafen(world, others, True)
    world.say(ann, "tell my wife")
    world.run(world.now + 0.001)
    world.crash(ann)
    _deafen(world, others, False)
    assert world.oracle.have[0] == 1
    assert world.oracle.state(ben.index, 0)
    return _until(world, world.oracle.complete, 20.0)


def burst_out_of_the_window() -> float:
    """Messages held ahead of one that is missing, when all numbers up to 1,100 were sent."""
    world, (ann,) = _room(1, settle_s=10.0)
    for seq in range(1_101):
        world.oracle.forged(b"stranger", seq, "Eve", str(seq), world.now)
    for seq in [*range(1, 1_101), 0]:
        world.hand(ann, forgery.data(PLACE, b"stranger", seq, str(seq)), STRANGER)
    world.run(world.now + 0.01)  # so many are shown in steps
    return sum(world.oracle.state(0, number) == 1 for number in range(1_101))


@cache
def _steady() -> Setting:
    return Setting(members=20, loss=0.3, messages=40, warmup=30)


def _long_talk() -> Setting:
    # So long that somebody surely misses a message with all its copies (one in 500 do).
    return Setting(members=20, loss=0.3, messages=200, warmup=30)


def sessions_per_message() -> float:
    """SESSIONs that a message costs in a steady room."""
    return measure(_steady()).costs["session"]


def latency_ms() -> float:
    """p95 of delivery in a steady room."""
    return 1_000 * measure(_steady()).quantile(0.95)


def undelivered() -> float:
    """What a steady room loses; order and sameness are judged on the way."""
    return measure(_long_talk()).undelivered


# -- the planted bugs ------------------------------------------------------------------------------


def _eager_nacks(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(gaps, "retry_wait", lambda *_: 0.05)


def _deaf_to_equals(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(suppression.Trickle, "heard_equal", lambda *_: False)


def _deaf_to_nacks(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(gaps.Gaps, "heard_nack", lambda *_: None)


def _no_reset(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(suppression.Trickle, "reset", lambda *_: None)
    patch.setattr(suppression.Trickle, "news", lambda *_: None)


def _never_stuck(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(gaps, "STUCK_ASKS", 1_000_000)


def _never_gone(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(gaps, "GONE_ASKS", 1_000_000)


def _wide_window(patch: pytest.MonkeyPatch) -> None:
    def in_window(stream: Sender, seq: int) -> bool:
        return seq <= stream.hi + WINDOW_MESSAGES

    patch.setattr(Sender, "in_window", in_window)


def _over_the_gap(patch: pytest.MonkeyPatch) -> None:
    def accept(stream: Sender, seq: int, message: Message, now: float) -> str:
        if seq < stream.hi:
            return LATE if any(lo <= seq < hi for lo, hi in stream.skipped) else OLD
        stream.backlog.append((now, message))
        stream.hi = seq + 1
        return NEW

    patch.setattr(Sender, "accept", accept)


def _again(patch: pytest.MonkeyPatch) -> None:
    accept = Sender.accept

    def twice(stream: Sender, seq: int, message: Message, now: float) -> str:
        if seq == stream.hi - 1:
            stream.backlog.append((now, message))
            return NEW
        return accept(stream, seq, message, now)

    patch.setattr(Sender, "accept", twice)
    patch.setattr(Sender, "knows", lambda stream, seq: seq < stream.hi - 1)


def _no_hold_down(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(repair.Repairs, "held", lambda *_: False)


def _no_copies(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(membership, "copies", lambda *_: 0)


def _only_the_source_answers(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(repair, "VOLUNTEERS", 0)


PLANTED: dict[str, Planted] = {
    "no NACK back-off": (_eager_nacks, nacks_for_an_orphan, 60),
    "no suppression of SESSIONs": (_deaf_to_equals, sessions_per_message, 8),
    "no suppression of NACKs": (_deaf_to_nacks, nacks_for_what_all_miss, 120),
    "no Trickle reset": (_no_reset, repair_of_the_last_message, 2.0),
    "no orphan rule: never stuck": (_never_stuck, talk_beside_an_orphan, 2.0),
    "no orphan rule: never gone": (_never_gone, life_after_an_orphan, 60.0),
    "off by one in the window": (_wide_window, burst_out_of_the_window, 1_024),
    "delivery on a gap": (_over_the_gap, undelivered, 0),
    "duplicate delivery": (_again, undelivered, 0),
    "no hold-down": (_no_hold_down, repairs_for_many_asks, 30),
    "no copies": (_no_copies, latency_ms, 40),
    "no volunteers": (_only_the_source_answers, legacy_of_the_dead, 5.0),
}


@pytest.mark.parametrize("bug", PLANTED)
def test_the_planted_bug_is_noticed(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_noticed(PLANTED[bug], monkeypatch)
