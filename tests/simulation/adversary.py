"""A stranger who means harm: what he sends, how that is chosen, and what must hold all the same.

He hears what the room hears, and composes from it: all types of datagrams with right tags, under
ids of his own and of members, with numbers at the ends of their ranges, in floods, as replays, and
with echoes that he holds back. A `Plan` says how much of each; it is drawn from a seed, and may be
changed step by step: `search` keeps the changes that do more harm. A plan is spelt as its seed and
its changes (`12:3:7`), so a plan that once did harm can be kept. `12:3:7@12` is the plan that
`12:3:7` was when there were but the first 12 moves: it draws the same and does the same.

What must hold (`play` tells what did not):

    always             no exception; the rates and tables of every member within their caps; no
                       message of a member twice or out of order
    in all             what is sent and shown is in proportion to what he sent
    RECOVERY_S after   everybody who is there is listed; every message of a member is shown by
                       everybody; nothing of a member was reported as gone
    after 4.5 T        nobody else is listed; T is that of the members and his ids together

One thing is not asked for: that of two DATA with one number, which set out at the same time, the
member's is shown. Such numbers are counted (`contested`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, NamedTuple

from evloop.room.reliable.limits import STANDING_S
from tests.simulation import forgery
from tests.simulation.oracle import Violation
from tests.simulation.world import PLACE, World

if TYPE_CHECKING:
    from evloop.room.events import Event

RECOVERY_S = 60.0
STRANGER = -7
OVERHEARD_MAX = 400
ENDS = (0, 1, 2, 255, 2**16, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1)
MOVES = (
    "speak", "pose", "twin", "session", "word", "echo", "nack", "bulk", "bye", "replay", "ask",
    "junk", "probe",
)  # fmt: skip
FIRST_MOVES = 12  # whose weights are drawn first; those of later ones come last


class Plan(NamedTuple):
    """How he goes about it."""

    weights: tuple[float, ...]  # of MOVES
    rate: float  # datagrams a second
    seconds: float
    ids: int  # of his own
    extreme: float  # chance that a number is at an end of its range
    posing: float  # chance that he uses a member's id
    held_s: float  # how long echoes are held back
    settled: bool  # whether the room has been together for a while


def draw(rng: Random, moves: int = len(MOVES)) -> Plan:
    """A plan at random of the first `moves`: often few kinds, for then each is done much."""
    weights = tuple(rng.random() ** 4 for _ in MOVES[:FIRST_MOVES])
    plan = Plan(
        weights=weights,
        rate=min(500.0, 10 ** rng.uniform(0, 2.7)),
        seconds=rng.uniform(3, 12),
        ids=rng.choice((1, 3, 20, 300)),
        extreme=rng.choice((0.0, 0.1, 0.5)),
        posing=rng.choice((0.0, 0.3, 0.9)),
        held_s=rng.choice((0.05, 0.3, 0.9)),
        settled=rng.random() < 0.7,
    )
    later = [rng.random() ** 4 for _ in MOVES[FIRST_MOVES:moves]]
    return plan._replace(weights=(*weights, *later, *[0.0] * (len(MOVES) - moves)))


def change(plan: Plan, rng: Random, moves: int = len(MOVES)) -> Plan:
    """`plan` with one thing drawn anew."""
    other = draw(rng, moves)
    field = rng.choice(Plan._fields)
    return plan._replace(**{field: getattr(other, field)})


def spelt(text: str) -> tuple[int, Plan]:
    """(seed, plan) of `12:3:7`: that of seed 12, changed by 3 and by 7."""
    steps, _, first = text.partition("@")
    moves = int(first or len(MOVES))
    seed, *changes = [int(part) for part in steps.split(":")]
    plan = draw(Random(f"plan {seed}"), moves)
    for number in changes:
        plan = change(plan, Random(f"change {number}"), moves)
    return seed, plan


class Outcome(NamedTuple):
    """How one siege went; `failure` is empty when all was well."""

    plan: str
    failure: str
    harm: float
    sent: int  # by him
    answered: int  # datagrams of the members meanwhile
    contested: int
    trace: str


class Adversary:
    """One stranger in one world."""

    def __init__(self, world: World, plan: Plan, rng: Random) -> None:
        self.world = world
        self.plan = plan
        self.rng = rng
        self.sent = 0
        self.heard: deque[bytes] = deque(maxlen=OVERHEARD_MAX)
        self.newest: dict[tuple[bytes, int], int] = {}  # (id, type): newest number heard
        self.posed: set[tuple[bytes, int]] = set()  # DATA made under the ids of members
        self.ids = [b"evil" + rng.randbytes(4) for _ in range(plan.ids)]
        self.seqs = dict.fromkeys(self.ids, 0)
        self.counter = rng.randrange(2**32)
        self.held: deque[tuple[float, bytes, int]] = deque(maxlen=64)

    def overhear(self, data: bytes) -> None:
        """A member sent `data`."""
        self.heard.append(data)
        kind, sender, seq = data[2] & 15, data[8:16], int.from_bytes(data[16:20], "big")
        if kind == forgery.DATA:
            self.newest[sender, kind] = max(seq, self.newest.get((sender, kind), -1))
        else:
            self.newest[sender, forgery.SESSION] = seq
        if kind == forgery.SESSION:
            sent = int.from_bytes(data[32:36], "big")
            self.held.append((self.world.now + self.plan.held_s, sender, sent))

    def strike(self, _: object = None) -> None:
        """Send the next one."""
        move = self.rng.choices(MOVES, self.plan.weights)[0]
        data: bytes = getattr(self, "_" + move)()
        self.sent += 1
        self.world.multicast(data, STRANGER)

    # -- parts -------------------------------------------------------------------------------

    def _member(self) -> bytes:
        return self.rng.choice(self.world.members).session.sender_id

    def _id(self) -> bytes:
        return self._member() if self.rng.random() < self.plan.posing else self.rng.choice(self.ids)

    def _number(self, near: int) -> int:
        rng = self.rng
        if rng.random() < self.plan.extreme:
            return rng.choice(ENDS)
        return max(0, near + rng.choice((-1, 0, 1, 1, 2, 60, 800, 1_030))) & 0xFFFFFFFF

    def _counter(self, sender: bytes) -> int:
        if sender in self.seqs:
            self.counter += 1
            return (
                self._number(self.counter) if self.rng.random() < 0.1 else self.counter & 0xFFFFFFFF
            )
        return self._number(self.newest.get((sender, forgery.SESSION), 0))

    def _ranges(self, most: int) -> list[tuple[bytes, int, int]]:
        ranges = []
        for _ in range(self.rng.randint(0, most)):
            sender = self._id()
            hi = self._number(self.newest.get((sender, forgery.DATA), self.seqs.get(sender, 0)) + 1)
            lo = self.rng.choice((0, max(0, hi - 1), max(0, hi - 200), hi, self._number(hi)))
            ranges.append((sender, lo, hi))
        return ranges

    def _data(self, sender: bytes, seq: int, text: str) -> bytes:
        rng = self.rng
        if sender not in self.seqs:
            self.posed.add((sender, seq))
            self.world.oracle.contested.add((sender, seq))
        parents = [(self._id(), self._number(5)) for _ in range(rng.choice((0, 0, 1, 3)))]
        flags = rng.choice((0, 0, 0xF0, forgery.MORE, forgery.REPAIRED))
        lamport = rng.choice((1, self._number(self.sent), rng.choice(ENDS)))
        name = rng.choice(("Eve", f"m{rng.randrange(4)}", "", "x" * rng.randrange(256)))
        text += "!" * rng.choice((0, 0, 800))
        return forgery.data(
            PLACE, sender, seq, text, name=name, lamport=lamport, flags=flags,
            parents=tuple(parents), wall=rng.choice(ENDS),
        )  # fmt: skip

    # -- moves -------------------------------------------------------------------------------

    def _speak(self) -> bytes:
        sender = self.rng.choice(self.ids)
        seq = self.seqs[sender]
        if self.rng.random() < 0.3:
            seq = self._number(seq)
        self.seqs[sender] = min(max(seq + 1, self.seqs[sender]), 2**32 - 1)
        return self._data(sender, seq, f"noise {self.sent}")

    def _pose(self) -> bytes:
        sender = self._member()
        seq = self._number(self.newest.get((sender, forgery.DATA), -1) + 1)
        return self._data(sender, seq, f"I am not {self.sent}")

    def _twin(self) -> bytes:
        said = [data for data in self.heard if data[2] & 15 == forgery.DATA]
        if not said:
            return self._pose()
        data = self.rng.choice(said)
        return self._data(data[8:16], int.from_bytes(data[16:20], "big"), f"twin {self.sent}")

    def _digest(self) -> int:
        told = [data for data in self.heard if data[2] & 15 == forgery.SESSION]
        if told and self.rng.random() < 0.5:
            return int.from_bytes(self.rng.choice(told)[24:32], "big")
        return self.rng.choice((0, self.rng.getrandbits(64)))

    def _session_of(self, sender: bytes, ask: int = 0) -> bytes:
        rng = self.rng
        return forgery.session(
            PLACE, sender, self._counter(sender), self._ranges(rng.choice((0, 3, 16, 50))),
            name=rng.choice(("Eve", f"m{rng.randrange(4)}", f"e{rng.randrange(10**6)}")),
            digest=self._digest(), sent=rng.choice(ENDS), ask=ask,
            loss=rng.choice((0, 100, 254, 255)), members=rng.choice((0, 1, 2, 65_535)),
        )  # fmt: skip

    def _session(self) -> bytes:
        return self._session_of(self.rng.choice(self.ids))

    def _word(self) -> bytes:
        return self._session_of(self._member())

    def _ask(self) -> bytes:
        return self._session_of(self._id(), ask=1)

    def _echo(self) -> bytes:
        if not self.held or self.held[0][0] > self.world.now:
            return self._session()
        _, peer, sent = self.held.popleft()
        sender = self._id()
        return forgery.session(
            PLACE, sender, self._counter(sender), [], digest=self._digest(), echo=(peer, sent, 0)
        )

    def _nack(self) -> bytes:
        return forgery.nack(PLACE, self._id(), self._counter(self.ids[0]), self._ranges(55))

    def _bulk(self) -> bytes:
        return forgery.nack(
            PLACE, self._id(), self._counter(self.ids[0]), self._ranges(55), self._member()
        )

    def _bye(self) -> bytes:
        sender = self._id()
        return forgery.bye(PLACE, sender, self._counter(sender))

    def _replay(self) -> bytes:
        return self.rng.choice(self.heard) if self.heard else self._session()

    def _probe(self) -> bytes:
        rng = self.rng
        nonce = rng.choice((0, 1, rng.getrandbits(64)))
        return forgery.probe(
            PLACE, self._id(), nonce, sent=rng.choice(ENDS), origin=rng.choice((0, 0, 0, 1, 255)),
            padding=rng.choice((0, 1_145, 1)),
        )  # fmt: skip

    def _junk(self) -> bytes:
        return forgery.mutate(self._replay(), self.rng)


class _Siege:
    """A room, its talk, and the stranger."""

    def __init__(self, seed: int, plan: Plan, tell: Callable[[str], None] | None) -> None:
        self.rng = rng = Random(f"siege {seed}")
        self.plan = plan
        self.world = world = World(seed, tell=tell)
        world.oracle.conflicts_allowed = True
        world.oracle.forgiving = True
        world.loss = rng.choice((0.0, 0.0, 0.1, 0.3))
        self.lines = 0
        self.events = 0
        shown = world.oracle.shown

        def counted(index: int, events: list[Event], now: float) -> None:
            self.events += sum(event.what != "message" for event in events)
            shown(index, events, now)

        world.oracle.shown = counted  # type: ignore[method-assign]
        for number in range(rng.choice((2, 3, 4, 5, 8))):
            world.join(f"m{number}")
            world.run(world.now + 0.05)
        self.adversary = Adversary(world, plan, Random(f"adversary {seed}"))
        world.tape = _Tape(self.adversary.overhear)

    def talk(self, seconds: float) -> None:
        """Somebody says a line now and then."""
        until = self.world.now + seconds
        while True:
            self.world.run(min(until, self.world.now + self.rng.expovariate(1.5)))
            if self.world.now >= until:
                return
            self.lines += 1
            self.world.say(self.rng.choice(self.world.members), f"line {self.lines}")

    def run(self) -> tuple[int, float]:
        """(datagrams of the members during the attack, the harm done)."""
        world, plan = self.world, self.plan
        self.talk(4.0)
        if plan.settled:
            world.run(STANDING_S + 5.0)
            self.talk(3.0)
        before, events, start = sum(world.sent), self.events, world.now
        oracle = world.oracle
        oracle.measure_from = len(oracle.said_at)
        for number in range(int(plan.rate * plan.seconds)):
            world.at(start + number / plan.rate, self.adversary.strike)
        self.talk(plan.seconds)
        answered = sum(world.sent) - before
        self.judge_proportion(answered, self.events - events)
        self.judge_bounds()
        self.talk(RECOVERY_S - 10.0)
        world.run(start + plan.seconds + RECOVERY_S)
        self.judge_recovery()
        slow = sorted(oracle.latencies)
        late = slow[int(0.9 * len(slow))] if slow else 0.0
        return answered, late + answered / (self.adversary.sent + 20) / 3

    def judge_bounds(self) -> None:
        for member in self.world.members:
            self.world.oracle.judge_bounds(member.index, member.session, self.world.now)

    def judge_proportion(self, answered: int, events: int) -> None:
        world, members, seconds = self.world, len(self.world.members), self.plan.seconds
        # Its own: talk with its copies and repairs, SESSIONs; and the answers to asks.
        own = 40 * members + 6 * members * seconds + 20 * 1.5 * seconds
        most = 3 * self.adversary.sent + own
        if answered > most:
            raise Violation(
                "proportion", f"{answered} datagrams for {self.adversary.sent}", world.now
            )
        shown = 3 * members * self.adversary.sent + 100 * members
        if events > shown:
            raise Violation("lines", f"{events} events for {self.adversary.sent}", world.now)

    def judge_recovery(self) -> None:
        world = self.world
        live = {member.session.sender_id for member in world.members}
        for member in world.members:
            listed = {entry[0] for entry in member.session.members(world.now)}
            if not live <= listed:
                raise Violation("presence", f"{member} does not list all who are here", world.now)
        for (sender, index), count in world.oracle.gone.items():
            forged = sum(key[0] == sender for key in self.adversary.posed)
            if sender in live and count > forged:
                raise Violation("gone", f"m{index} calls {count} messages gone", world.now)
        lacking = world.oracle.lacking_uncontested()
        if lacking:
            index, number = lacking[0]
            raise Violation(
                "liveness",
                f"m{index} lacks {world.oracle.spelt(number)}, {len(lacking)} such",
                world.now,
            )
        self.judge_bounds()
        # His ids go as members go: when they were silent for 3.5 T, and T is that of all of them.
        # Nothing is lost meanwhile: at 30 % loss three SESSIONs in a row of a member that is there
        # are lost often enough, and he is not to blame for that.
        for member in world.members:
            member.loss = 0.0
        world.changed()
        size = len(world.members) + self.plan.ids
        patience = 4.5 * max(6.0, min(0.4 * size, 20.0), 0.15 * size)
        world.run(max(world.now, world.now - RECOVERY_S + patience))
        for member in world.members:
            listed = {entry[0] for entry in member.session.members(world.now)}
            if listed != live:
                ghosts = len(listed - live)
                raise Violation("presence", f"{member} lists {ghosts} ghosts", world.now)


class _Tape(list[bytes]):
    """Where the world writes what is sent: here somebody listens."""

    def __init__(self, hear: Callable[[bytes], None]) -> None:
        super().__init__()
        self.hear = hear

    def append(self, data: bytes) -> None:
        self.hear(data)


def play(text: str, tell: Callable[[str], None] | None = None) -> Outcome:
    """The siege by plan `text`; what was broken is in the outcome."""
    seed, plan = spelt(text)
    siege = _Siege(seed, plan, tell)
    answered, harm, failure = 0, 0.0, ""
    if tell:
        tell(str(plan))
    try:
        answered, harm = siege.run()
    except Violation as violation:
        failure = str(violation)
    except Exception as error:  # a session that raises is a finding, not a crash
        failure = f"raised: {type(error).__name__}: {error}"
        if tell:
            raise
    oracle = siege.world.oracle
    contested = sum(key in oracle.contested for key in oracle.numbers())
    return Outcome(
        text, failure, harm, siege.adversary.sent, answered, contested, siege.world.trace_hash()
    )


def play_seed(seed: int) -> Outcome:
    """The siege by the plan of `seed`."""
    return play(str(seed))


def search(seed: int, steps: int, tell: Callable[[str], None] | None = None) -> Outcome:
    """The most harmful plan within `steps` changes of that of `seed`, by climbing."""
    best = play(str(seed))
    for step in range(1, steps + 1):
        if best.failure:
            break
        tried = play(f"{best.plan}:{step}")
        if tried.failure or tried.harm > best.harm:
            best = tried
            if tell:
                tell(f"{best.plan} harm {best.harm:.3f} {best.failure}")
    return best
