"""What somebody on the same network can do to a room, open or sealed: each attack is one figure.

He hears everything, may hold datagrams back, change and repeat them, and has a tape of yesterday,
when other members met here. In an open room he can make right tags; of a sealed one he has no key
(`test_sealed_attacks` says what each figure may be; `test_sealed_planted` takes rules out).
"""

from __future__ import annotations

from math import inf
from random import Random
from typing import Any

from tests.simulation import forgery
from tests.simulation.room import KEY
from tests.simulation.swarm import yesterday
from tests.simulation.world import DATA, PLACE, SESSION, Member, World

STRANGER = -7
SILENT_S = 3.5 * 6.0  # a member of a small room that was silent for so long is gone
SEALED_PLACE = forgery.SealedPlace(PLACE, KEY)


class Siege:
    """A room of `members` that know each other, and all that they were shown."""

    def __init__(self, sealed: bool, members: int = 5, loss: float = 0.0, seed: int = 7) -> None:
        self.sealed = sealed
        self.place = SEALED_PLACE if sealed else PLACE  # for who has what there is to have
        self.world = world = World(seed, key=KEY if sealed else b"")
        world.loss = loss
        world.oracle.conflicts_allowed = world.oracle.forgiving = True
        self.events: list[tuple[int, Any]] = []
        shown = world.oracle.shown

        def recorded(index: int, events: list[Any], now: float) -> None:
            self.events += [(index, event) for event in events]
            shown(index, events, now)

        world.oracle.shown = recorded  # type: ignore[method-assign]
        self.members = [world.join(f"m{number}") for number in range(members)]
        self.rng = Random(seed)
        world.run(3.0)

    def tape(self) -> list[bytes]:
        """What was sent yesterday."""
        return yesterday(3, KEY if self.sealed else b"")

    def said(self, sender: Member, text: str, pause: float = 0.2) -> None:
        assert self.world.say(sender, text)
        self.world.run(self.world.now + pause)

    def replay(self, tape: list[bytes], per_s: float, seconds: float) -> None:
        """Repeat `tape` from its begin, again and again: to all, and each fifth to one alone."""
        world = self.world
        start = world.now
        for number in range(int(per_s * seconds)):
            world.at(start + number / per_s, self._repeat, (number, tape[number % len(tape)]))
        world.run(start + seconds)

    def _repeat(self, what: tuple[int, bytes]) -> None:
        number, data = what
        if number % 5:
            self.world.multicast(data, STRANGER)
        else:
            live = [member for member in self.world.members if not member.gone]
            self.world.hand(live[number % len(live)], data, STRANGER, direct=number % 2 == 0)

    def strange(self) -> tuple[int, int]:
        """(messages, joins) shown of senders that are no members."""
        nobody = self.world.oracle.invented
        messages = sum(
            event.what == "message" and event.mark != "plain" and nobody(event.sender)
            for _, event in self.events
        )
        joins = sum(event.what == "joined" and nobody(event.sender) for _, event in self.events)
        return messages, joins

    def lists(self, member: Member, other: Member) -> bool:
        listed = member.session.members(self.world.now + member.offset)
        return other.session.sender_id in {entry[0] for entry in listed}

    def until(self, done: Any, most: float, step: float = 0.01) -> float:
        """Seconds until `done()`; inf when `most` pass."""
        start = self.world.now
        while not done():
            if self.world.now >= start + most:
                return inf
            self.world.run(self.world.now + step)
        return self.world.now - start


def forge(sealed: bool) -> int:
    """Of 20 lines that a stranger makes, how many are shown to each of two members."""
    siege = Siege(sealed, members=2)
    for seq in range(20):
        data = forgery.data(PLACE, b"stranger", seq, f"line {seq}")
        siege.world.multicast(data, STRANGER)
        if sealed:
            near = data[:3] + bytes([data[3] | 2]) + forgery.key_id_of(KEY) + data[6:]
            siege.world.multicast(near, STRANGER)
        siege.world.run(siege.world.now + 0.3)
    return siege.strange()[0]


def replay_to_an_empty_room(sealed: bool) -> tuple[int, int]:
    """(messages, joins) of yesterday that are shown to one member that is alone."""
    siege = Siege(sealed, members=1)
    siege.replay(siege.tape(), 100, 15)
    siege.world.run(siege.world.now + 15)
    return siege.strange()


def replay_to_a_live_room_and_a_newcomer(sealed: bool) -> tuple[int, int]:
    """The same to three members that talk, and one that comes meanwhile."""
    siege = Siege(sealed, members=3)
    tape = siege.tape()
    siege.replay(tape, 50, 4)
    zoe = siege.world.join("Zoe")
    for number in range(5):
        siege.said(siege.members[number % 3], f"today {number}")
        siege.replay(tape, 50, 2)
    siege.world.run(siege.world.now + 15)
    assert all(siege.lists(zoe, member) for member in siege.members)
    assert siege.world.oracle.complete() or not sealed
    return siege.strange()


def replay_to_one_that_slept(sealed: bool) -> tuple[int, int]:
    """The same to a member that was stopped until the others counted it as gone."""
    siege = Siege(sealed, members=3)
    zoe = siege.members[0]
    siege.said(siege.members[1], "before")
    siege.world.pause(zoe)
    siege.world.run(siege.world.now + 30)
    siege.replay(siege.tape(), 100, 5)
    siege.world.resume(zoe)
    siege.replay(siege.tape(), 100, 5)
    siege.said(siege.members[2], "after")
    siege.world.run(siege.world.now + 15)
    assert siege.world.oracle.complete() or not sealed
    return siege.strange()


def tape_of_its_sleep(sealed: bool, byes: bool) -> tuple[int, list[str]]:
    """A stranger tapes what is said while a member sleeps, and repeats it, before that one wakes
    and after, to all and to it alone. One member has left meanwhile, one has come and left.
    `byes`: their last words are on the tape; else they were held back from all.

    (How many who have left the one that slept lists; what it was shown since it woke, where nine
    messages were said meanwhile, numbered in order); what is shown twice is a Violation."""
    siege = Siege(sealed, members=3)
    world = siege.world
    ann, zoe, cid = siege.members
    siege.said(zoe, "before")  # so that the others list it: what they send names it
    siege.said(cid, "before too")
    world.pause(zoe)
    tape: list[bytes] = []
    world.tape = tape
    siege.said(ann, "slept 0", 1.0)
    dan = world.join("Dan")
    world.run(world.now + 1.0)
    for number in range(1, 9):
        siege.said((ann, cid, dan)[number % 3], f"slept {number}", 0.5)
    gone = (cid, dan)
    for member in gone:
        if byes:
            world.leave(member)
            world.run(world.now + 0.3)
        world.crash(member)
    world.run(world.now + 30)
    world.tape = None
    siege.replay(tape, 100, 5)
    shown = len(siege.events)
    world.resume(zoe)
    siege.replay(tape, 100, SILENT_S + 5)
    listed = sum(siege.lists(zoe, member) for member in gone)
    slept = [
        event.text
        for index, event in siege.events[shown:]
        if index == zoe.index and event.what == "message"
    ]
    assert world.oracle.complete()
    return listed, slept


def sessions_of_many(sealed: bool, count: int) -> list[bytes]:
    """SESSIONs of so many members of other days."""
    rng = Random(5)
    place = SEALED_PLACE if sealed else PLACE
    return [
        forgery.session(place, rng.randbytes(8), 9, [(rng.randbytes(8), 0, 3)], members=5)
        for _ in range(count)
    ]


def amplify(sealed: bool) -> float:
    """SESSIONs a second of five members, while 120 new strangers a second are repeated; what they
    may say at once is used up by then."""
    siege = Siege(sealed)
    tape = sessions_of_many(sealed, 1_800)
    siege.replay(tape[:840], 120, 7)
    before = siege.world.sent[SESSION]
    siege.replay(tape[840:], 120, 8)
    return (siege.world.sent[SESSION] - before) / 8


def join_under_replay(sealed: bool, distinct: bool = False) -> float:
    """Seconds until one that comes lists all of five and is listed by all, while 500 datagrams a
    second are repeated: yesterday's, or SESSIONs of so many `distinct` strangers."""
    siege = Siege(sealed)
    world = siege.world
    tape = sessions_of_many(sealed, 4_000) if distinct else siege.tape()
    start = world.now
    for number in range(4_000):
        world.at(start + number / 500, self_repeat(siege), tape[number % len(tape)])
    world.run(start + 3.0)
    zoe = world.join("Zoe")

    def known() -> bool:
        return all(siege.lists(zoe, one) and siege.lists(one, zoe) for one in siege.members)

    return siege.until(known, 5.0)


def self_repeat(siege: Siege) -> Any:
    return lambda data: siege.world.multicast(data, STRANGER)


def keep_the_dead_present(sealed: bool) -> float:
    """Seconds for which one that crashed is listed by a member, while a stranger repeats all that
    it ever sent, and what he held back of its last words."""
    siege = Siege(sealed, members=3)
    world = siege.world
    ann, ben, _ = siege.members
    tape: list[bytes] = []
    world.tape = tape
    for number in range(8):
        siege.said(ann, f"line {number}", 2.0)
    ben.deaf = True  # the last word is held back from him
    world.changed()
    siege.said(ann, "the last", 1.5)
    ben.deaf = False
    world.changed()
    world.crash(ann)
    world.tape = None
    mine = [data for data in tape if data[8:16] == ann.session.sender_id]
    start = world.now
    for number in range(200 * 20):
        world.at(start + number / 20, self_repeat(siege), mine[number % len(mine)])
    return siege.until(lambda: not siege.lists(ben, ann), 100.0, 0.1)


def flip_what_no_tag_covers(sealed: bool) -> tuple[int, float]:
    """(messages shown to all of 60, bytes to those without him) when he sets flag 01 on the way."""
    sent_bytes = []
    shown = 0
    for flips in (False, True):
        siege = Siege(sealed, members=4)
        world = siege.world
        multicast = world.multicast

        def flipped(data: bytes, source: int, side: int = 0, send: Any = multicast) -> None:
            if data[2] & 15 == forgery.DATA:
                data = data[:3] + bytes([data[3] | 1]) + data[4:]
            send(data, source, side)

        if flips:
            world.multicast = flipped  # type: ignore[method-assign]
        before = world.sent_bytes
        for number in range(60):
            siege.said(siege.members[number % 4], f"line {number}", 0.25)
        world.run(world.now + 5.0)
        sent_bytes.append(world.sent_bytes - before)
        shown = sum(have == 4 for have in world.oracle.have)
    return shown, sent_bytes[1] / sent_bytes[0]


def echo_at_once(sealed: bool) -> float:
    """DATA that a message costs, to that without him, when he echoes each first copy and claims
    that no further copies follow. (30 % loss, so that there are copies.)"""
    costs = []
    for echoes in (False, True):
        siege = Siege(sealed, members=8, loss=0.3)
        world = siege.world
        for number in range(30):
            siege.said(siege.members[number % 8], f"line {number}", 0.2)
        if echoes:
            world.tape = _Echoes(world)
        before = world.sent[DATA]
        for number in range(80):
            siege.said(siege.members[number % 8], f"line {number}", 0.2)
        costs.append((world.sent[DATA] - before) / 80)
    return costs[1] / costs[0]


class _Echoes(list[bytes]):
    """Where the world writes what is sent: he echoes it at once."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world

    def append(self, data: bytes) -> None:
        if data[2] & 15 == forgery.DATA and data[3] >> 4:
            echo = data[:3] + bytes([data[3] & 0x0F]) + data[4:]
            self.world.at(self.world.now + 0.0015, lambda _: self.world.multicast(echo, STRANGER))
