"""What a room sends because of a stranger: the same room with and without, side by side.

Two worlds of one seed; in one of them a stranger sends a kind of datagram at a rate. What the
members send more, per datagram of his and in bytes a second, is the answer. (The draws of the two
worlds part when he begins, so a difference of a few datagrams is chance.)
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import NamedTuple

from evloop.room.reliable.limits import STANDING_S
from tests.simulation import forgery
from tests.simulation.world import PLACE, Member, World

STRANGER = -1
LINES = 40  # said before: there is something to ask for
MEASURED_S = 10.0


class Cost(NamedTuple):
    """Of one attack; `datagrams` for each of the stranger's, `bytes_per_s` of the whole room."""

    datagrams: float
    bytes_per_s: float


class Stranger:
    """Makes datagrams of one kind in a room; `turn` counts them."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.rng = Random(f"stranger {seed}")
        self.turn = 0

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
    "BYE under the ids of members": _bye,
}


def _room(members: int, seed: int) -> World:
    world = World(seed)
    world.oracle.conflicts_allowed = True
    for number in range(members):
        world.join(f"m{number}")
        world.run(world.now + 0.02)
    for line in range(LINES):
        world.say(world.members[line % members], f"line {line} of this room")
        world.run(world.now + 0.5)
    world.run(STANDING_S + 20.0)
    return world


def _sent(world: World) -> int:
    return sum(world.sent)


def measure(attack: str, rate: float, members: int = 50, seed: int = 1) -> Cost:
    """What `members` send more when a stranger sends `rate` a second for MEASURED_S."""
    sent, size = [], []
    for attacked in (False, True):
        world = _room(members, seed)
        world.oracle.forgiving = True
        before, bytes_before = _sent(world), world.sent_bytes
        stranger = Stranger(world, seed)
        start = world.now

        def strike(_: object, world: World = world, stranger: Stranger = stranger) -> None:
            stranger.turn += 1
            world.multicast(ATTACKS[attack](stranger), STRANGER)

        if attacked:
            for number in range(int(rate * MEASURED_S)):
                world.at(start + number / rate, strike)
        world.run(start + MEASURED_S)
        sent.append(_sent(world) - before)
        size.append(world.sent_bytes - bytes_before)
    return Cost((sent[1] - sent[0]) / (rate * MEASURED_S), (size[1] - size[0]) / MEASURED_S)


if __name__ == "__main__":
    for attack in ATTACKS:
        for rate in (2.0, 20.0):
            cost = measure(attack, rate)
            print(
                f"{attack:36} {rate:5.0f}/s: {cost.datagrams:7.2f} datagrams each,"
                f" {cost.bytes_per_s / 1000:7.1f} kB/s",
                flush=True,
            )
