"""What a room sends because of a stranger: the same room with and without, side by side.

One settled room goes on twice from the same moment; in one of the two a stranger sends a kind of
datagram at a rate. What the members send more, per datagram of his and in bytes a second, is the
answer. (The draws of the two part when he begins, so a difference of a few datagrams is chance.)
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from multiprocessing import get_context
from random import Random
from typing import Any, NamedTuple

from evloop.room.reliable.limits import STANDING_S
from tests.simulation import forgery
from tests.simulation.world import KINDS, PLACE, Member, World

STRANGER = -1
LINES = 40  # said before: there is something to ask for
MEASURED_S = 10.0
RATES = (2.0, 20.0)  # datagrams of the stranger a second


class Cost(NamedTuple):
    """Of one attack; `datagrams` for each of the stranger's, `bytes_per_s` of the whole room."""

    datagrams: float
    bytes_per_s: float
    kinds: dict[str, float]  # the datagrams, by kind


class Stranger:
    """Makes datagrams of one kind in a room; `turn` counts them."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.rng = Random(f"stranger {seed}")
        self.turn = 0
        self.ahead: dict[bytes, int] = {}  # control datagrams forged under the id of a member

    def fresh(self) -> bytes:
        """An id that nobody has used."""
        return self.rng.randbytes(8)

    def victim(self) -> Member:
        """A member that is there."""
        return self.rng.choice(self.world.members)

    def vector(self, back: int) -> list[tuple[bytes, int, int]]:
        """What the room holds of 16 members, but for the last `back` messages of each."""
        listed = []
        for member in self.world.members[:16]:
            hi = member.session.stats()["sent"]
            if hi > back:
                listed.append((member.session.sender_id, 0, hi - back))
        return listed


def _ask(s: Stranger) -> bytes:
    return forgery.session(PLACE, s.fresh(), 1, s.vector(0), ask=1, digest=5)


def _ask_same(s: Stranger) -> bytes:
    return forgery.session(PLACE, b"stranger", s.turn, s.vector(0), ask=1, digest=5)


def _ask_as_member(s: Stranger) -> bytes:
    return forgery.session(
        PLACE, s.victim().session.sender_id, s.turn, s.vector(0), ask=1, digest=5
    )


def _solicit(s: Stranger) -> bytes:
    return forgery.session(PLACE, s.fresh(), 1, [])


def _solicit_same(s: Stranger) -> bytes:
    return forgery.session(PLACE, b"stranger", s.turn, [])


def _behind(s: Stranger) -> bytes:
    return forgery.session(PLACE, b"stranger", s.turn, s.vector(1), digest=5)


def _unexplained(s: Stranger) -> bytes:
    return forgery.session(PLACE, b"stranger", s.turn, s.vector(0), digest=s.turn + 1)


def _hearsay(s: Stranger) -> bytes:
    listed = [(s.victim().session.sender_id, 0, 500) for _ in range(8)]
    return forgery.session(PLACE, b"stranger", s.turn, listed, digest=s.turn + 1)


def _nack(s: Stranger) -> bytes:
    return forgery.nack(PLACE, b"stranger", s.turn, s.vector(0))


def _bulk(s: Stranger) -> bytes:
    return forgery.nack(PLACE, b"stranger", s.turn, s.vector(0), s.victim().session.sender_id)


def _bulk_many(s: Stranger) -> bytes:
    return forgery.nack(PLACE, s.fresh(), 1, s.vector(0), s.victim().session.sender_id)


def _data(s: Stranger) -> bytes:
    return forgery.data(PLACE, b"stranger", s.turn, f"noise {s.turn}")


def _data_fresh(s: Stranger) -> bytes:
    return forgery.data(PLACE, s.fresh(), 0, f"noise {s.turn}")


def _data_gaps(s: Stranger) -> bytes:
    return forgery.data(PLACE, b"stranger", 2 * s.turn, f"noise {s.turn}")


def _data_parents(s: Stranger) -> bytes:
    parents = tuple((s.fresh(), 7) for _ in range(3))
    return forgery.data(PLACE, b"stranger", s.turn, f"noise {s.turn}", parents=parents)


def _member(s: Stranger) -> tuple[bytes, int]:
    """(id, next control counter) of somebody who is there: as forged as can be."""
    session = s.victim().session
    stats = session.stats()
    counter = sum(stats[what] for what in ("nacks_sent", "sessions_sent", "byes_sent"))
    s.ahead[session.sender_id] = s.ahead.get(session.sender_id, 0) + 1
    return session.sender_id, counter + s.ahead[session.sender_id] - 1


def _ask_fresh(s: Stranger) -> bytes:
    sender, counter = _member(s)
    return forgery.session(PLACE, sender, counter, s.vector(0), ask=1, digest=5)


def _word(s: Stranger) -> bytes:
    sender, counter = _member(s)
    return forgery.session(PLACE, sender, counter, [(sender, 0, 500)], digest=5)


def _hearsay_fresh(s: Stranger) -> bytes:
    sender, counter = _member(s)
    listed = [(s.victim().session.sender_id, 0, 500) for _ in range(8)]
    return forgery.session(PLACE, sender, counter, listed, digest=s.turn + 1)


def _bulk_fresh(s: Stranger) -> bytes:
    sender, counter = _member(s)
    return forgery.nack(PLACE, sender, counter, s.vector(0), s.victim().session.sender_id)


def _data_pose(s: Stranger) -> bytes:
    session = s.victim().session
    return forgery.data(PLACE, session.sender_id, 20 + s.turn, f"noise {s.turn}")


def _bye(s: Stranger) -> bytes:
    return forgery.bye(PLACE, s.victim().session.sender_id, 1_000 + s.turn)


ATTACKS: dict[str, Callable[[Stranger], bytes]] = {
    "ask, another id each time": _ask,
    "ask": _ask_same,
    "ask under the ids of members": _ask_as_member,
    "solicit, another id each time": _solicit,
    "solicit": _solicit_same,
    "one that is behind": _behind,
    "a digest that nothing explains": _unexplained,
    "hearsay": _hearsay,
    "NACK to anyone": _nack,
    "NACK to one": _bulk,
    "NACK to one, another id each time": _bulk_many,
    "DATA": _data,
    "DATA, another id each time": _data_fresh,
    "DATA with holes": _data_gaps,
    "DATA with parents that are nowhere": _data_parents,
    "ask under the ids of members, in step": _ask_fresh,
    "the word of a member": _word,
    "hearsay under the ids of members": _hearsay_fresh,
    "NACK to one, by members": _bulk_fresh,
    "DATA with holes, by members": _data_pose,
    "BYE under the ids of members": _bye,
}


# Answers, of which each member gives one a second to all strangers together, and one to members.
ANSWERED = {name for name in ATTACKS if name.startswith("ask")}
# What is answered out of what was saved: a newcomer's history, what was missed in a long outage.
SAVED = {name for name in ATTACKS if name.startswith("NACK to one")}
SPENDING_S = 15


def _room(members: int, seed: int) -> World:
    """A room that has said LINES lines and is of standing."""
    world = World(seed)
    world.oracle.conflicts_allowed = True
    for number in range(members):
        world.join(f"m{number}")
        world.run(world.now + 0.02)
    for line in range(LINES):
        world.say(world.members[line % members], f"line {line} of this room")
        world.run(world.now + 0.5)
    world.run(STANDING_S + 20.0)
    world.oracle.forgiving = True
    return world


class Bench:
    """A settled room, in which each attack is tried in a process of its own: so all begin alike."""

    def __init__(self, members: int = 50, seed: int = 1) -> None:
        self.seed = seed
        self.world = _room(members, seed)
        self._calm = self._apart(None, 0.0, MEASURED_S)

    def _apart(self, attack: str | None, rate: float, seconds: float) -> list[int]:
        """What all members send within `seconds`, by kind, and their bytes."""
        context = get_context("fork")
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=self._run, args=(theirs, attack, rate, seconds))
        process.start()
        theirs.close()
        told: list[int] = ours.recv()
        process.join()
        return told

    def _run(self, answer: Any, attack: str | None, rate: float, seconds: float) -> None:
        world = self.world
        before, bytes_before = list(world.sent), world.sent_bytes
        stranger = Stranger(world, self.seed)
        start = world.now

        def strike(_: object) -> None:
            stranger.turn += 1
            world.multicast(ATTACKS[str(attack)](stranger), STRANGER)

        if attack in SAVED:  # what was saved before for an honest need goes first
            for number in range(SPENDING_S * 20):
                world.at(start + number / 20, strike)
            world.run(start + SPENDING_S + 1.0)
            before, bytes_before, start = list(world.sent), world.sent_bytes, world.now
        for number in range(int(rate * seconds) if attack else 0):
            world.at(start + number / rate, strike)
        world.run(start + seconds)
        sent = [after - earlier for after, earlier in zip(world.sent, before)]
        answer.send([*sent, world.sent_bytes - bytes_before])

    def measure(self, attack: str, rate: float) -> Cost:
        """What the members send more when a stranger sends `rate` a second for MEASURED_S."""
        told = self._apart(attack, rate, MEASURED_S)
        more = [with_ - without for with_, without in zip(told, self._calm)]
        strikes = int(rate * MEASURED_S)
        kinds = {kind: round(count / strikes, 2) for kind, count in zip(KINDS, more) if count}
        return Cost(sum(more[:-1]) / strikes, more[-1] / MEASURED_S, kinds)


if __name__ == "__main__":
    bench = Bench()
    for name in sys.argv[1:] or ATTACKS:
        for pace in RATES:
            cost = bench.measure(name, pace)
            print(
                f"{name:36} {pace:5.0f}/s: {cost.datagrams:7.2f} datagrams each,"
                f" {cost.bytes_per_s / 1000:7.1f} kB/s {cost.kinds}",
                flush=True,
            )
