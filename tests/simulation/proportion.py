"""What a room sends because of a stranger: the same room with and without, side by side.

One settled room goes on twice from the same moment; in one of the two a stranger sends a kind of
datagram at a rate. What the members send more, per datagram of his and in bytes a second, is the
answer. (The draws of the two part when he begins, so a difference of a few datagrams is chance.)

A ghost is a member that he has made up, and kept there until it is of standing. In the room without
his datagrams it is there just as well.
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
DRIPS = (0.5, 1 / 60)  # of who has patience
DRIPS_LEAST = 12  # of his datagrams that are measured, which takes longer than MEASURED_S
GHOST = b"ghost!!!"
GHOST_S = 75.0  # so long it is there before
GHOST_EVERY_S = 10.0  # a SESSION of it


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
        self.counter = 0  # of the control datagrams of his ghost
        self.ahead: dict[bytes, int] = {}  # control datagrams forged under the id of a member

    def fresh(self) -> bytes:
        """An id that nobody has used."""
        return self.rng.randbytes(8)

    def victim(self) -> Member:
        """A member that is there."""
        return self.rng.choice(self.world.members)

    def ghost(self, entries: list[tuple[bytes, int, int]], digest: int) -> bytes:
        """A SESSION of his ghost, in step."""
        self.counter += 1
        return forgery.session(PLACE, GHOST, self.counter, entries, digest=digest, members=50)

    def haunt(self, _: object = None) -> None:
        """His ghost is there, and has what all have."""
        said = [(GHOST, 0, 1)] if self.counter else []
        if not said:
            self.world.multicast(forgery.data(PLACE, GHOST, 0, "hello"), STRANGER)
        self.world.multicast(self.ghost(said, self.world.digest(self.world.members[0])), STRANGER)

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


def _nack_fresh(s: Stranger) -> bytes:
    sender, counter = _member(s)
    return forgery.nack(PLACE, sender, counter, s.vector(0))


def _probe(s: Stranger, sender: bytes = b"stranger") -> bytes:
    return forgery.probe(PLACE, sender, s.turn)


def _probe_as_member(s: Stranger) -> bytes:
    return _probe(s, s.victim().session.sender_id)


def _repair(s: Stranger) -> bytes:
    return forgery.data(PLACE, b"stranger", 2 * s.turn, "never", flags=forgery.REPAIRED)


def _repair_pose(s: Stranger) -> bytes:
    sender = s.victim().session.sender_id
    return forgery.data(PLACE, sender, 20 + s.turn, "never", flags=forgery.REPAIRED, lamport=9)


def _repair_true(s: Stranger) -> bytes:
    sender, _, hi = s.rng.choice(s.vector(0))
    said = s.world.members[0].session.message_log.history.get((sender, hi - 1))
    data = said.datagram if said else _repair(s)
    return data[:3] + bytes([data[3] | forgery.REPAIRED]) + data[4:]


def _ghost_lie(s: Stranger) -> bytes:
    nowhere = [(s.fresh(), 0, 400) for _ in range(15)]
    return s.ghost([(GHOST, 0, 1), *nowhere], s.turn + 1)


def _ghost_hearsay(s: Stranger) -> bytes:
    listed = [(s.victim().session.sender_id, 0, 500) for _ in range(8)]
    return s.ghost([(GHOST, 0, 1), *listed], s.turn + 1)


def _ghost_word(s: Stranger) -> bytes:
    return s.ghost([(GHOST, 0, 1 + 3 * s.turn)], s.turn + 1)


def _ghost_data(s: Stranger) -> bytes:
    return forgery.data(PLACE, GHOST, 1 + 2 * s.turn, f"noise {s.turn}")


def _ghost_ahead(s: Stranger) -> bytes:
    return forgery.data(PLACE, GHOST, 50 * s.turn, f"noise {s.turn}")


def _ghost_nack(s: Stranger) -> bytes:
    s.counter += 1
    return forgery.nack(PLACE, GHOST, s.counter, s.vector(0))


def _ghost_behind(s: Stranger) -> bytes:
    return s.ghost(s.vector(1), 5)


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
    "NACK to anyone, by members": _nack_fresh,
    "PROBE": _probe,
    "PROBE under the ids of members": _probe_as_member,
    "repairs of what was never said": _repair,
    "repairs of what members never said": _repair_pose,
    "repairs that nobody needs": _repair_true,
    "a ghost's hearsay of nobody": _ghost_lie,
    "a ghost's hearsay of members": _ghost_hearsay,
    "a ghost's word": _ghost_word,
    "a ghost's DATA with holes": _ghost_data,
    "a ghost's DATA far ahead": _ghost_ahead,
    "a ghost's NACK to anyone": _ghost_nack,
    "a ghost that is behind": _ghost_behind,
}


# Answers, of which each member gives one a second to all strangers together, and one to members.
ANSWERED = {name for name in ATTACKS if name.startswith(("ask", "PROBE"))}
HAUNTED = {name for name in ATTACKS if name.startswith("a ghost")}
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
        self._calm: dict[tuple[bool, float], list[int]] = {}

    def _apart(self, attack: str | None, haunted: bool, rate: float, seconds: float) -> list[int]:
        """What all members send within `seconds`, by kind, and their bytes."""
        context = get_context("fork")
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=self._run, args=(theirs, attack, haunted, rate, seconds))
        process.start()
        theirs.close()
        told: list[int] = ours.recv()
        process.join()
        return told

    def _run(
        self, answer: Any, attack: str | None, haunted: bool, rate: float, seconds: float
    ) -> None:
        world = self.world
        stranger = Stranger(world, self.seed)
        if haunted:
            for number in range(int(GHOST_S / GHOST_EVERY_S)):
                world.at(world.now + GHOST_EVERY_S * number, stranger.haunt)
            world.run(world.now + GHOST_S)
        before, bytes_before, start = list(world.sent), world.sent_bytes, world.now

        def strike(_: object) -> None:
            stranger.turn += 1
            world.multicast(ATTACKS[str(attack)](stranger), STRANGER)

        if attack in SAVED:  # what was saved before for an honest need goes first
            for number in range(SPENDING_S * 20):
                world.at(start + number / 20, strike)
            world.run(start + SPENDING_S + 1.0)
            before, bytes_before, start = list(world.sent), world.sent_bytes, world.now
        for number in range(round(rate * seconds) if attack else 0):
            world.at(start + number / rate, strike)
        world.run(start + seconds)
        sent = [after - earlier for after, earlier in zip(world.sent, before)]
        answer.send([*sent, world.sent_bytes - bytes_before])

    def measure(self, attack: str, rate: float) -> Cost:
        """What the members send more when a stranger sends `rate` a second for MEASURED_S, or until
        he has sent DRIPS_LEAST."""
        seconds = max(MEASURED_S, DRIPS_LEAST / rate)
        haunted = attack in HAUNTED
        if (haunted, seconds) not in self._calm:
            self._calm[haunted, seconds] = self._apart(None, haunted, 0.0, seconds)
        told = self._apart(attack, haunted, rate, seconds)
        more = [with_ - without for with_, without in zip(told, self._calm[haunted, seconds])]
        strikes = round(rate * seconds)
        kinds = {kind: round(count / strikes, 2) for kind, count in zip(KINDS, more) if count}
        return Cost(sum(more[:-1]) / strikes, more[-1] / seconds, kinds)


if __name__ == "__main__":
    bench = Bench()
    for name in sys.argv[1:] or ATTACKS:
        for pace in (*RATES, *DRIPS):
            cost = bench.measure(name, pace)
            print(
                f"{name:38} {pace:6.3f}/s: {cost.datagrams:7.2f} datagrams each,"
                f" {cost.bytes_per_s / 1000:7.1f} kB/s {cost.kinds}",
                flush=True,
            )
