"""One cell of the table of figures: a steady room, and what a message costs in it.

A run has four parts. Members join (spread over `join` seconds) and get to know each other.
`warmup` messages are said that must arrive but are not measured: the room learns its loss.
`messages` messages are said, at exponentially distributed intervals (`rate` a second in all), each
by a member drawn at random: these are measured. Then the room is given up to `DRAIN_S` to finish.

What a message costs is what was sent from one mean interval after the last message of the warm-up
until one mean interval after the last measured one, divided by the number of the measured: idle
SESSIONs are in it, and every copy and repair.

A large room cannot be joined in earnest (10,000 newcomers soliciting at once are 10^8
deliveries), so `prime` hands N in (`expect`, as the directory does), keeps the network down for the
first `PRIMED_S` seconds, until everybody has settled, and then hands p in, by some SESSIONs.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil
from random import Random
from time import process_time
from typing import NamedTuple

from tests.simulation import forgery
from tests.simulation.world import BYE, DATA, NACK, PLACE, REPAIR, SESSION, UNICAST, Member, World
from tests.support.pairs import both

KEY = bytes(range(32))  # of sealed rooms
DRAIN_S = 60.0
PRIMED_S = 40.0
PRIMING_SESSIONS = 64
POLL_S = 0.01
DEAF_SHARE = 0.3  # of the time, when there are bursts


class Setting(NamedTuple):
    """What a cell varies; times in seconds."""

    members: int = 50
    loss: float = 0.3
    messages: int = 1_000
    seed: int = 1
    rate: float = 5.0  # messages a second, all members together
    warmup: int = 100
    talkers: int = 0  # how many of the members talk; 0: all
    join: float = 2.0
    burst: float = 0.0  # mean length of a time without hearing anything
    late: bool = False  # one joins when all is said
    partition: bool = False  # the room is cut in halves while the measured messages are said
    prime: bool = False
    sealed: bool = False  # the room has a key
    idle: float = 0.0  # then listen to the silent room for so long


class Result(NamedTuple):
    """What was seen; `costs` are datagrams (bytes) per measured message."""

    undelivered: int
    latencies: list[float]  # seconds, sorted
    costs: dict[str, float]
    minimum: float
    heal_s: float  # from the end of a partition, or a late join, until all is well; -1: neither
    idle_per_s: float  # SESSION datagrams a second in the silent room; -1: not measured
    lost: int
    overdue: bool  # the room did not finish within DRAIN_S
    delivered: int
    cpu_s: float
    trace: str

    def quantile(self, share: float) -> float:
        """Delivery latency in seconds that `share` of the deliveries do not exceed."""
        if not self.latencies:
            return 0.0
        return self.latencies[max(0, ceil(share * len(self.latencies)) - 1)]

    @property
    def over(self) -> float:
        """(DATA + REPAIR) / minimum."""
        return (self.costs["data"] + self.costs["repair"]) / self.minimum


def minimum(receivers: int, loss: float) -> float:
    """E[max of `receivers` geometric(1 - loss)]: transmissions that one message needs at best.

    Independent losses, feedback free and instant: the sum over k >= 0 of P(max > k).
    """
    total, power = 0.0, 1.0
    while True:
        unfinished = 1.0 - (1.0 - power) ** receivers
        total += unfinished
        if unfinished < 1e-12:
            return total
        power *= loss


class Run:
    """One run of one setting."""

    def __init__(self, setting: Setting, tell: Callable[[str], None] | None) -> None:
        self.setting = setting
        self.world = World(setting.seed, tell=tell, key=KEY if setting.sealed else b"")
        self.world.loss = setting.loss
        self.script = Random(f"script {setting.seed}")  # who says what when, apart from the network
        self.said = 0

    def run(self) -> Result:
        began = process_time()
        setting, world = self.setting, self.world
        world.oracle.measure_from = setting.warmup  # only messages are numbered, all of them ours
        self.join()
        self.talk(setting.warmup)
        if setting.warmup:  # copies of the last of these belong to it
            world.run(world.now + 1 / setting.rate)
        before, bytes_before = list(world.sent), world.sent_bytes
        heal_s = -1.0
        if setting.partition:
            self._split()
        self.talk(setting.messages)
        world.run(world.now + 1 / setting.rate)
        sent = [after - start for after, start in both(world.sent, before)]
        sent_bytes = world.sent_bytes - bytes_before
        healed_at = world.now
        if setting.partition:
            world.blocked.clear()
            world.changed()
        elif setting.late:
            self._settle()
            healed_at = world.now
            world.join("Zoe")
        overdue = not self._settle()
        if setting.partition or setting.late:
            heal_s = world.now - healed_at
        idle_per_s = self._idle() if setting.idle else -1.0
        for member in world.members:
            world.oracle.judge_bounds(member.index, member.session, world.now)
        lacking = len(world.oracle.lacking()) if setting.late else 0
        return Result(
            undelivered=world.oracle.undelivered() + lacking,
            latencies=sorted(world.oracle.latencies),
            costs=self._costs(sent, sent_bytes),
            minimum=minimum(setting.members - 1, setting.loss),
            heal_s=heal_s,
            idle_per_s=idle_per_s,
            lost=world.oracle.lost,
            overdue=overdue,
            delivered=world.delivered,
            cpu_s=process_time() - began,
            trace=world.trace_hash(),
        )

    def _costs(self, sent: list[int], sent_bytes: int) -> dict[str, float]:
        messages = self.setting.messages
        return {
            "data": sent[DATA] / messages,
            "repair": (sent[REPAIR] + sent[UNICAST]) / messages,
            "nack": sent[NACK] / messages,
            "session": sent[SESSION] / messages,
            "bye": sent[BYE] / messages,
            "bytes": sent_bytes / messages,
        }

    def join(self) -> None:
        """All members join, and know each other or what `prime` tells them."""
        setting, world = self.setting, self.world
        if setting.prime:
            world.cut = True
            for index in range(setting.members):
                world.join(f"m{index}")
                world.members[index].session.expect(setting.members)
            world.run(PRIMED_S)
            self._prime()
            world.cut = False
        else:
            for index in range(setting.members):
                world.join(f"m{index}")
                world.run(world.now + setting.join / setting.members)
        if setting.burst:
            for member in world.members:
                self._hear(member)

    def _prime(self) -> None:
        # With the numbers that the members have reached by now: else what the network lost while
        # it was down would count as the loss of each, and they would tell 50 % and not `loss`.
        world, setting = self.world, self.setting
        reached = [member.session.stats()["sessions_sent"] - 1 for member in world.members]
        place = forgery.SealedPlace(PLACE, KEY) if setting.sealed else PLACE
        percent = round(100 * setting.loss)
        for member in world.members:
            for peer in self.script.sample(world.members, min(PRIMING_SESSIONS, setting.members)):
                if peer is not member:
                    data = forgery.session(
                        place,
                        peer.session.sender_id,
                        max(reached[peer.index], 0),
                        [],
                        name=f"m{peer.index}",
                        loss=percent,
                        members=setting.members,
                        known=(member.session.sender_id,),
                    )
                    world.hand(member, data, peer.index)

    def _hear(self, member: Member) -> None:
        # Gilbert's model: deaf and hearing times are exponentially distributed.
        member.deaf = False
        self.world.changed()
        mean = self.setting.burst * (1 - DEAF_SHARE) / DEAF_SHARE
        self.world.at(self.world.now + self.script.expovariate(1 / mean), self._deafen, member)

    def _deafen(self, member: Member) -> None:
        member.deaf = True
        self.world.changed()
        length = self.script.expovariate(1 / self.setting.burst)
        self.world.at(self.world.now + length, self._hear, member)

    def _split(self) -> None:
        for member in self.world.members[::2]:
            member.side = 1
        self.world.blocked = {(0, 1), (1, 0)}
        self.world.changed()

    def talk(self, messages: int) -> None:
        """So many messages are said."""
        setting, world = self.setting, self.world
        talkers = world.members[: setting.talkers or setting.members]
        for _ in range(messages):
            world.run(world.now + self.script.expovariate(setting.rate))
            self.said += 1
            text = f"message {self.said} of this conversation"
            while not world.say(self.script.choice(talkers), text):
                pass  # its queue is full: another one talks

    def _settle(self) -> bool:
        # True as soon as everybody has everything and all digests agree.
        world = self.world
        until = world.now + DRAIN_S
        while world.now < until:
            if world.oracle.complete() or not world.oracle.lacking():
                digests = {world.digest(member) for member in world.members if not member.gone}
                if len(digests) == 1:
                    return True
            world.run(world.now + POLL_S)
        return False

    def _idle(self) -> float:
        world = self.world
        world.run(world.now + 30)  # Trickle grows to its longest interval
        before = world.sent[SESSION]
        world.run(world.now + self.setting.idle)
        return (world.sent[SESSION] - before) / self.setting.idle


def measure(setting: Setting, tell: Callable[[str], None] | None = None) -> Result:
    """Run one setting. Raises Violation when the session breaks a rule."""
    return Run(setting, tell).run()
