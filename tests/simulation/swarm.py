"""One seed, one bad day: every fault drawn at random, then the network heals.

Swarm testing (Groce et al. 2012): each seed switches each fault on or off, so that rare
combinations happen and a mild day with ONE fault happens too. Phase 1 is judged for safety by the
oracle at every moment. Then all faults end, and phase 2 asks, by the clock:

    after HEAL_S      everybody has what anybody has, all digests are equal, everybody knows
                      everybody; where a message died with its sender, ORPHAN_S
    then              the room falls silent: no NACK, no repair, few SESSIONs
    after 3.5 T       (in one seed of four) nobody lists those who are gone

A sealed day is the same with a key, which strangers do not have: what they make themselves is of no
use, and they have a tape of yesterday, when other members met in this room. Nothing of it may be
shown, and nobody of it listed.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import NamedTuple

from tests.simulation import forgery
from tests.simulation.oracle import Violation
from tests.simulation.room import KEY
from tests.simulation.world import NACK, PLACE, REPAIR, SESSION, UNICAST, Member, World

HEAL_S = 10.0
ORPHAN_S = 75.0  # 8 tries over at least 30 s, the last at most 8 s apart, and what they wait for
POLL_S = 0.05
SILENCE_S = 5.0
KEY_ID = forgery.key_id_of(KEY)
STRANGER = -7  # a source address that is no member's

FAULTS = (
    "loss",
    "bursts",
    "duplication",
    "stragglers",
    "slow",
    "partitions",
    "pauses",
    "overflows",
    "crashes",
    "leaves",
    "newcomers",
    "clocks",
    "mutation",
    "forger",
    "replay",
    "renames",
    "parts",
    "confirmations",
    "yesterday",  # of sealed days alone
)


class Outcome(NamedTuple):
    """How one seed went; `failure` is empty when all was well."""

    seed: int
    failure: str
    heal_s: float
    orphaned: bool
    messages: int
    delivered: int
    trace: str
    strange: int = 0  # messages of invented members that some lack, or saw out of place


def yesterday(seed: int, key: bytes = KEY) -> list[bytes]:
    """What was sent in this room on another day, with the same `key`."""
    world, rng = World(10**9 + seed, key=key), Random(f"yesterday {seed}")
    world.tape = []
    members = [world.join(f"m{number}") for number in range(rng.randint(2, 5))]
    for number in range(rng.randint(5, 20)):
        world.run(world.now + rng.uniform(0.05, 0.5))
        world.say(rng.choice(members), f"said yesterday {number}")
    if rng.random() < 0.5:
        for member in members:
            world.leave(member)
    world.run(world.now + 1.0)
    return world.tape


class Day:
    """The script of one seed."""

    def __init__(self, seed: int, tell: Callable[[str], None] | None, sealed: bool = False) -> None:
        self.rng = rng = Random(f"day {seed}")
        self.sealed = sealed
        self.world = self.make_world(seed, tell, KEY if sealed else b"")
        self.faults = {fault for fault in FAULTS if fault != "yesterday" and rng.random() < 0.4}
        self.old: list[bytes] = []
        if sealed:
            self.world.oracle.closed = True
            if rng.random() < 0.7:
                self.faults.add("yesterday")
                self.old = yesterday(seed)
        self.length = rng.uniform(5, 18)
        self.count = rng.choice((2, 3, 4, 5, 6, 8, 10, 12)) if rng.random() < 0.97 else 25
        self.counter = 0
        self.forged: dict[bytes, list[int]] = {}  # numbers used, rising
        self.over = False  # the network has healed
        self.told = 0

    def make_world(self, seed: int, tell: Callable[[str], None] | None, key: bytes) -> World:
        """Where the day is spent."""
        return World(seed, tell=tell, key=key)

    def live(self) -> list[Member]:
        """Members that are not gone."""
        return [member for member in self.world.members if not member.gone]

    def any(self) -> Member:
        """One of them."""
        return self.rng.choice(self.live())

    # -- phase 1 -----------------------------------------------------------------------------

    def prepare(self) -> None:
        """Draw the day: the network, the talk and the faults."""
        rng, world, faults = self.rng, self.world, self.faults
        if world.tell:
            world.tell(f"{self.count} members, {self.length:.1f} s of {' '.join(sorted(faults))}")
        world.delay = (0.0002, rng.uniform(0.005, 0.05) if "slow" in faults else 0.001)
        if "loss" in faults:
            world.loss = rng.uniform(0.01, 0.5)
        if "duplication" in faults:
            world.duplication = rng.uniform(0.01, 0.3)
        if "stragglers" in faults or "duplication" in faults:
            world.straggling = (rng.uniform(0.01, 0.3), 0.05)
        if "mutation" in faults:
            world.mutation = rng.uniform(0.001, 0.05)
        if "replay" in faults:
            world.tape = []
        world.oracle.conflicts_allowed = "forger" in faults and not self.sealed
        for _ in range(self.count):
            world.at(rng.uniform(0, 1.0), self._join)
        self.plan("newcomers", 1, 3, self._join)
        self._talk()
        self.plan("bursts", 5, 40, self._deafen)
        self.plan("partitions", 1, 3, self._split)
        self.plan("pauses", 1, 4, self._pause)
        self.plan("overflows", 2, 10, self._overflow)
        self.plan("crashes", 1, 2, self._crash)
        self.plan("leaves", 1, 2, self._leave)
        self.plan("clocks", 1, 5, self._clock)
        self.plan("forger", 10, 150, self._forge)
        self.plan("replay", 10, 150, self._replay)
        self.plan("yesterday", 5, 100, self._repeat)
        self.plan("renames", 1, 4, self._rename)
        self.plan("confirmations", 1, 3, self._confirm)

    def plan(self, fault: str, least: int, most: int, action: Callable[[object], None]) -> None:
        if fault in self.faults:
            for _ in range(self.rng.randint(least, most)):
                self.world.at(self.rng.uniform(1.0, self.length), action)

    def _talk(self) -> None:
        rng = self.rng
        when = 0.5
        pace = rng.choice((0.5, 2.0, 8.0))
        most = rng.randint(5, 60)
        for _ in range(most):
            when += rng.expovariate(pace)
            if when >= self.length:
                break
            self.world.at(when, self._say)
        if rng.random() < 0.5:  # the last word, just before the network heals
            self.world.at(self.length - rng.uniform(0, 0.01), self._say)

    def _join(self, _: object) -> None:
        rng = self.rng
        offset = rng.uniform(0, 5_000) if "clocks" in self.faults else 0.0
        loss = self.world.loss
        if loss and rng.random() < 0.3:
            loss = rng.uniform(0, 0.5)
        member = self.move_in(f"m{len(self.world.members)}", offset, loss)
        if "slow" in self.faults:
            member.extra_delay = rng.uniform(0, 0.01)

    def move_in(self, name: str, offset: float, loss: float) -> Member:
        """A new member joins."""
        return self.world.join(name, offset=offset, loss=loss)

    def _say(self, _: object) -> None:
        if not self.live():
            return
        self.told += 1
        text = f"line {self.told}"
        if "parts" in self.faults and self.rng.random() < 0.2:
            text += " ä" * self.rng.randint(300, 2_300)
        self.world.say(self.any(), text, int(self.rng.random() < 0.1))

    def _deafen(self, _: object) -> None:
        if not self.live():
            return
        member = self.any()
        member.deaf = True
        self.world.changed()
        length = self.rng.expovariate(1 / self.rng.choice((0.1, 0.5, 2.0)))
        self.world.at(min(self.world.now + length, self.length), self._undeafen, member)

    def _undeafen(self, member: Member) -> None:
        member.deaf = False
        self.world.changed()

    def _split(self, _: object) -> None:
        world, rng = self.world, self.rng
        for member in world.members:
            member.side = rng.randrange(2)
        world.blocked = {(0, 1)} if rng.random() < 0.4 else {(0, 1), (1, 0)}
        world.changed()
        if world.tell:
            sides = " ".join(f"{member}:{member.side}" for member in world.members)
            world.tell(f"partition, blocked {sorted(world.blocked)}, sides {sides}")
        world.at(min(world.now + rng.uniform(0.2, 10), self.length), self._unite)

    def _unite(self, _: object) -> None:
        self.world.blocked = set()
        self.world.changed()

    def _pause(self, _: object) -> None:
        self._stop(self.rng.uniform(0.1, 8), 6_000)

    def _overflow(self, _: object) -> None:
        self._stop(self.rng.uniform(0.02, 0.5), self.rng.choice((0, 4, 16)))

    def _stop(self, length: float, buffer_most: int) -> None:
        if self.live():
            member = self.any()
            self.world.pause(member, buffer_most)
            self.world.at(min(self.world.now + length, self.length), self.world.resume, member)

    def _crash(self, _: object) -> None:
        if len(self.live()) > 2:
            self.world.crash(self.any())

    def _leave(self, _: object) -> None:
        if len(self.live()) > 2:
            member = self.any()
            self.world.leave(member)
            self.world.at(min(self.world.now + 0.2, self.length), self._gone, member)

    def _gone(self, member: Member) -> None:
        if not member.gone:
            self.world.crash(member)

    def _clock(self, _: object) -> None:
        if self.live():
            member = self.any()
            member.wall_offset += self.rng.randint(-(10**8), 10**8)
            self.world.jump(member, self.rng.expovariate(1.0))

    def _rename(self, _: object) -> None:
        if self.live():
            self.world.rename(self.any(), f"r{self.rng.randrange(5)}")

    def _confirm(self, _: object) -> None:
        if self.live():
            self.world.confirm(self.any())

    def _replay(self, _: object) -> None:
        tape = self.world.tape
        if tape:
            for _ in range(self.rng.randint(1, 5)):
                self.world.multicast(self.rng.choice(tape), STRANGER)

    def _repeat(self, _: object) -> None:
        """A piece of yesterday: to all, or to one alone."""
        start = self.rng.randrange(len(self.old))
        for data in self.old[start : start + self.rng.choice((1, 5, 50))]:
            if self.rng.random() < 0.5:
                data = data[:3] + bytes([data[3] ^ forgery.REPAIRED]) + data[4:]
            if self.rng.random() < 0.2 and self.live():
                self.world.hand(self.any(), data, STRANGER, direct=self.rng.random() < 0.8)
            else:
                self.world.multicast(data, STRANGER)

    # -- strangers ---------------------------------------------------------------------------

    def _forge(self, _: object) -> None:
        if self.live():
            makers = (self._data, self._nack, self._session, self._bye)
            data = self.rng.choice(makers)()
            if self.sealed and self.rng.random() < 0.8:  # as near as he comes to the real thing
                data = data[:3] + bytes([data[3] | forgery.SEALED]) + KEY_ID + data[6:]
            self.world.multicast(data, STRANGER)

    def _victim(self) -> bytes:
        # Mostly somebody real, dead or alive; else somebody made up.
        if self.rng.random() < 0.7:
            return self.rng.choice(self.world.members).session.sender_id
        return bytes([self.rng.randrange(3)]) * 8

    def _ranges(self) -> list[tuple[bytes, int, int]]:
        rng = self.rng
        ranges = []
        for _ in range(rng.randint(0, 6)):
            low = rng.choice((0, rng.randrange(100), rng.randrange(2**32)))
            ranges.append((self._victim(), low, min(2**32 - 1, low + rng.randrange(600))))
        return ranges

    def _data(self) -> bytes:
        rng = self.rng
        sender = b"forger" + bytes([0, rng.randrange(3)])
        used = self.forged.setdefault(sender, [])
        if used and rng.random() < 0.2:
            seq = rng.choice(used)  # a second body for a number that is taken
        else:
            seq = used[-1] + 1 if used else 0
            if rng.random() < 0.05:
                seq += rng.randrange(1, 30)
            used.append(seq)
        text = f"forged {rng.randrange(100)}"
        if not self.sealed:
            self.world.oracle.forged(sender, seq, "Eve", text, self.world.now)
        lamport = rng.choice((1, rng.randrange(2**32)))
        flags = rng.randrange(16) << 4
        parents = ((sender, seq - 1),) if seq else ()
        return forgery.data(PLACE, sender, seq, text, lamport=lamport, flags=flags, parents=parents)

    def _nack(self) -> bytes:
        self.counter += 1
        to = self._victim() if self.rng.random() < 0.5 else bytes(8)
        return forgery.nack(PLACE, self._victim(), self.counter, self._ranges(), to)

    def _session(self) -> bytes:
        self.counter += 1
        rng = self.rng
        return forgery.session(
            PLACE,
            b"ghost" + bytes([0, 0, rng.randrange(5)]),
            self.counter,
            self._ranges(),
            name=rng.choice(("Eve", "m0", "", "a b", "\u202e")),
            digest=rng.getrandbits(64),
            sent=rng.getrandbits(32),
            ask=rng.randrange(2),
            loss=rng.randrange(256),
            members=rng.randrange(65_536),
        )

    def _bye(self) -> bytes:
        self.counter += 1
        return forgery.bye(PLACE, self._victim(), self.counter)

    # -- phase 2 -----------------------------------------------------------------------------

    def heal(self) -> None:
        """All faults end."""
        world = self.world
        world.run(self.length)
        world.duplication = world.mutation = 0.0
        world.straggling = (0.0, 0.0)
        world.blocked = set()
        for member in self.live():
            member.loss = 0.0
            member.deaf = False
            member.extra_delay = 0.0
            world.resume(member)
        world.changed()
        if world.tell:
            world.tell("the network heals")

    def settle(self) -> float:
        """Run until all is well; the seconds that took. Raises Violation when it takes long."""
        world, oracle = self.world, self.world.oracle
        spared = oracle.orphaned()
        while True:
            passed = world.now - self.length
            lacking = [] if oracle.complete() else oracle.lacking(spare_orphans=passed < ORPHAN_S)
            digests = {world.digest(member) for member in self.live()}
            if len(digests) == 1 and not (lacking or oracle.lacking()):
                return passed
            real = oracle.by_people(lacking) if passed > HEAL_S else []
            if passed > HEAL_S and real:
                index, number = real[0]
                raise Violation(
                    "liveness",
                    f"m{index} lacks {oracle.spelt(number)}, {len(real)} such",
                    world.now,
                )
            if passed > (ORPHAN_S if spared or lacking else HEAL_S):
                if oracle.lacking() and not oracle.by_people(oracle.lacking()):
                    oracle.strange += len(oracle.lacking())  # of members that nobody is
                    return passed
                raise Violation("liveness", f"{len(digests)} different digests", world.now)
            world.run(world.now + POLL_S)

    def judge_silence(self) -> None:
        """A room where everybody has everything falls silent."""
        world = self.world
        if (self.faults & {"forger", "replay"} and not self.sealed) or world.oracle.orphaned():
            return  # what strangers claimed, or what is no more, may be asked for a while
        world.run(max(world.now, self.length + HEAL_S) + 1.0)
        before = list(world.sent)
        world.run(world.now + SILENCE_S)
        for kind, what in ((NACK, "NACKs"), (REPAIR, "repairs"), (UNICAST, "unicast repairs")):
            if world.sent[kind] != before[kind]:
                raise Violation("silence", f"{what} in a room that has everything", world.now)
        sessions = world.sent[SESSION] - before[SESSION]
        asked = "confirmations" in self.faults  # of the dead, until they count as gone
        if sessions > 2 * len(self.live()) + 2 and not asked:
            raise Violation("silence", f"{sessions} SESSIONs in a silent room", world.now)

    def judge_presence(self) -> None:
        """Everybody lists all who are there and, much later, nobody else."""
        world = self.world
        if "forger" in self.faults and not self.sealed:
            return
        live = {member.session.sender_id for member in self.live()}
        world.run(max(world.now, self.length + HEAL_S + 2.0))
        late = self.rng.random() < 0.25
        if late:
            world.run(self.length + 60.0)
        for member in self.live():
            listed = {entry[0] for entry in member.session.members(world.now + member.offset)}
            if not live <= listed:
                raise Violation("presence", f"{member} does not list all who are here", world.now)
            if late and listed != live:
                raise Violation("presence", f"{member} lists some who are gone", world.now)

    def judge_bounds(self) -> None:
        """All tables within their caps."""
        for member in self.live():
            self.world.oracle.judge_bounds(member.index, member.session, self.world.now)


def run_sealed(seed: int, tell: Callable[[str], None] | None = None) -> Outcome:
    """The same day in a sealed room."""
    return run(seed, tell, sealed=True)


def run(seed: int, tell: Callable[[str], None] | None = None, *, sealed: bool = False) -> Outcome:
    """Live through the day of `seed`; a broken rule is in the outcome, not raised."""
    return live_through(Day(seed, tell, sealed), seed)


def live_through(day: Day, seed: int) -> Outcome:
    """How that day goes."""
    tell = day.world.tell
    heal_s = -1.0
    failure = ""
    try:
        day.prepare()
        day.heal()
        day.judge_bounds()
        heal_s = day.settle()
        day.judge_silence()
        day.judge_presence()
        day.judge_bounds()
    except Violation as violation:
        failure = str(violation)
    except Exception as error:  # a session that raises is a finding, not a crash
        failure = f"raised: {type(error).__name__}: {error}"
        if tell:
            raise
    world = day.world
    return Outcome(
        seed=seed,
        failure=failure,
        heal_s=heal_s,
        orphaned=world.oracle.orphaned(),
        messages=len(world.oracle.said_at),
        delivered=world.delivered,
        trace=world.trace_hash(),
        strange=world.oracle.strange,
    )
