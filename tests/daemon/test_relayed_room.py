"""The forwarding table of a relayed room, cell by cell, with fakes for sockets and connections."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evloop.daemon.limits import (
    BOUND_AFTER_S,
    EARLY_S,
    EARLY_SENDERS_MAX,
    RELAY_ASKER_S,
    RELAY_ASKERS_MAX,
    RELAY_QUEUE_BYTES,
    RELAY_STALE_S,
    RELAY_UP_BURST_BYTES,
    RELAY_UP_BYTES_PER_S,
)
from evloop.daemon.relayed_room import (
    ASKED,
    DOWN,
    FOREIGN,
    FRAME,
    GRANT,
    LEG,
    RATE,
    SERVER_RATE,
    SLOW,
    STALE,
    Member,
    RelayedRoom,
)
from evloop.directory.protocol import RoomEntry
from evloop.directory.relay_frames import parse_down
from evloop.framing import FrameDecoder
from evloop.system.timers import NEVER

X, Y, Z, G = (bytes([number]) * 8 for number in (1, 2, 3, 9))
KEEPER = b"keepkeep"
GROUP = ("192.0.2.9", 40_000)
NOBODY = bytes(8)


def datagram(kind: int, sender: bytes, flags: int = 0, to: bytes = NOBODY, size: int = 40) -> bytes:
    """One that looks like one of a session: nothing else of it is looked at."""
    head = bytes([0xF5, 0x45, 0x10 | kind, flags]) + bytes(4) + sender + bytes(8) + to
    return head.ljust(size, b".")


def data(sender: bytes, flags: int = 0) -> bytes:
    return datagram(1, sender, flags)


def nack(sender: bytes, to: bytes = NOBODY) -> bytes:
    return datagram(2, sender, to=to)


class FakeConnection:
    def __init__(self) -> None:
        self.queued = 0
        self.behind_since = NEVER
        self.sent: list[bytes] = []
        self.sends = 0

    def send_loose(self, frames: bytes) -> None:
        self.sends += 1
        decoder = FrameDecoder()
        decoder.feed(frames)
        while (payload := decoder.next_frame()) is not None:
            parsed = parse_down(payload)
            assert parsed is not None
            self.sent.append(parsed[2])


class FakeLeg:
    def __init__(self) -> None:
        self.sent: list[tuple[bytes, Any]] = []
        self.takes = True

    def send(self, datagram: bytes, target: Any = None) -> bool:
        if self.takes:
            self.sent.append((datagram, target))
        return self.takes


class FakeSeat:
    def __init__(self) -> None:
        self.taken: list[tuple[bytes, Any]] = []
        self.bursts = 0

    def take(self, burst: list[tuple[bytes, Any]]) -> None:
        self.bursts += 1
        self.taken += burst

    def gone(self) -> None:
        raise AssertionError("nobody has deleted the room")


class World:
    """One room of a relay that has no other."""

    def __init__(self, mode: str = "reliable") -> None:
        self.now = 1_000.0
        self.budget = 10**9
        self.drops: dict[str, int] = {}
        self.ways: dict[str, int] = {}
        self.woken = 0
        entry = RoomEntry("lab", "239.255.7.1", 5751, mode)
        entry.handle = 7
        self.room = RelayedRoom(self, entry, "192.0.2.1")
        self.leg = FakeLeg()
        self.room.leg = self.leg  # type: ignore[assignment]
        self.connections: dict[bytes, FakeConnection] = {}

    def wake(self, room: RelayedRoom, /) -> None:
        self.woken += 1

    def drop(self, why: str, count: int = 1, /) -> None:
        self.drops[why] = self.drops.get(why, 0) + count

    def may_send(self, size: int, /) -> bool:
        self.budget -= size
        return self.budget >= 0

    def count(self, way: str, datagrams: int, /) -> None:
        self.ways[way] = self.ways.get(way, 0) + datagrams

    def hand(self, seat: Any, burst: list[tuple[bytes, Any]], /) -> None:
        seat.take(burst)

    def member(self, sender: bytes, wish: str = "full") -> Member:
        connection = self.connections[sender] = FakeConnection()
        member = self.room.join(connection, sender)  # type: ignore[arg-type]
        self.room.grant(member, wish)
        return member

    def got(self, sender: bytes) -> list[bytes]:
        """What that member was sent by now, once."""
        self.room.flush()
        sent, self.connections[sender].sent = self.connections[sender].sent, []
        return sent

    def grouped(self) -> list[tuple[bytes, Any]]:
        """What the group, or an address, was sent by now, once."""
        sent, self.leg.sent = self.leg.sent, []
        return sent


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def full(world: World) -> World:
    """X and Y with `full`, Z with `up`."""
    for sender, wish in ((X, "full"), (Y, "full"), (Z, "up")):
        world.member(sender, wish)
    return world


# -- what the group brings -------------------------------------------------------------------------


def test_the_group_to_all_with_full_and_never_to_the_group(full: World) -> None:
    full.room.hear([(data(G), GROUP)])
    assert full.got(X) == full.got(Y) == [data(G)]
    assert full.got(Z) == []
    assert full.grouped() == []


def test_the_group_brings_nobody_his_own_words(full: World) -> None:
    full.room.hear([(data(X), GROUP)])
    assert full.got(X) == []
    assert full.got(Y) == [data(X)]


def test_a_repair_goes_to_its_first_speaker_too(full: World) -> None:
    """Its id is that of who said it, and it may answer what that one has lost of himself."""
    repair = data(X, flags=1)
    full.room.hear([(repair, GROUP)])
    assert full.got(X) == full.got(Y) == [repair]


def test_the_group_is_carried_unchanged_copies_too(full: World) -> None:
    copies = [data(G, flags=0x20), data(G, flags=0x10), data(G), data(G)]
    full.room.hear([(copy, GROUP) for copy in copies])
    assert full.got(X) == copies


def test_what_the_group_brings_is_not_judged(full: World) -> None:
    for foreign in (b"x", b"\xf5\x45", b"Mel: hello"):
        full.room.hear([(foreign, GROUP)])
        assert full.got(X) == [foreign]


def test_what_is_empty_or_too_long_is_not_carried(full: World) -> None:
    full.room.hear([(b"", GROUP), (bytes(2_049), GROUP), (bytes(2_048), GROUP)])
    assert full.got(X) == [bytes(2_048)]
    assert full.drops == {FRAME: 2}


def test_two_connections_of_one_id(world: World) -> None:
    """Each is sent what the other says, and the group brings neither its own."""
    world.member(Y)
    first, one = world.member(X), world.connections[X]
    world.member(X)
    two = world.connections[X]
    world.room.take(first, None, data(X))
    world.room.flush()
    assert (one.sent, two.sent) == ([], [data(X)])
    assert world.got(Y) == [data(X)]
    two.sent = []
    world.room.hear([(data(X), GROUP)])
    world.room.flush()
    assert (one.sent, two.sent) == ([], [])


# -- what a member says ----------------------------------------------------------------------------


def test_a_member_to_the_group_and_to_all_others(full: World) -> None:
    for sender in (X, Z):
        member = next(it for it in full.room.members.values() if it.sender == sender)
        full.room.take(member, None, data(sender))
        assert full.grouped() == [(data(sender), None)]
        assert full.got(Y) == [data(sender)]
        assert full.got(sender) == []


def test_a_member_without_a_grant_says_nothing(full: World) -> None:
    member = full.member(G, "off")
    full.room.take(member, None, data(G))
    full.room.take(member, X, data(G))
    assert full.grouped() == []
    assert full.got(X) == []
    assert full.drops == {GRANT: 2}


def test_a_member_says_only_what_a_session_says(full: World) -> None:
    member = full.member(G)
    for foreign in (b"Mel: hello", b"\xf5", b"\xf5\x46" + bytes(30)):
        full.room.take(member, None, foreign)
    assert full.grouped() == []
    assert full.got(X) == []
    assert full.drops == {FOREIGN: 3}


def test_in_a_plain_room_anything_goes_both_ways() -> None:
    world = World("plain")
    member = world.member(X)
    world.member(Y)
    world.room.take(member, None, b"Mel: hello")
    assert world.grouped() == [(b"Mel: hello", None)]
    assert world.got(Y) == [b"Mel: hello"]
    # No ids there: what looks like one is text, and reaches everybody.
    world.room.hear([(data(X), GROUP), (b"Cy: hi", GROUP)])
    assert world.got(X) == [data(X), b"Cy: hi"]
    assert member.heard == float("-inf")


def test_another_id_in_a_datagram_changes_nothing(full: World) -> None:
    """Who enters with another's id, or speaks as another: all others hear it."""
    member = next(it for it in full.room.members.values() if it.sender == X)
    full.room.take(member, None, data(Y))
    assert full.got(Y) == [data(Y)]
    assert full.got(X) == []
    assert all(it.heard == float("-inf") for it in full.room.members.values())


# -- bulk answers, to one --------------------------------------------------------------------------


def test_a_bulk_answer_goes_where_the_group_asked_from(full: World) -> None:
    member = next(it for it in full.room.members.values() if it.sender == X)
    full.room.hear([(nack(G, to=X), GROUP)])
    full.room.take(member, G, data(Y))
    assert full.grouped() == [(data(Y), GROUP)]
    assert full.got(Y) == [nack(G, to=X)]
    full.now += RELAY_ASKER_S + 0.1
    full.room.take(member, G, data(Y))
    assert full.grouped() == []
    assert full.drops == {ASKED: 1}


def test_each_nack_begins_the_time_anew(full: World) -> None:
    member = next(it for it in full.room.members.values() if it.sender == X)
    for _ in range(3):
        full.room.hear([(nack(G, to=X), GROUP)])
        full.now += RELAY_ASKER_S * 0.7
    full.room.take(member, G, data(Y))
    assert full.grouped() == [(data(Y), GROUP)]


def test_who_asks_all_is_answered_by_all(full: World) -> None:
    """A NACK to nobody is no bulk one: its answers go to the group."""
    member = next(it for it in full.room.members.values() if it.sender == X)
    full.room.hear([(nack(G), GROUP)])
    full.room.take(member, G, data(Y))
    assert full.grouped() == []
    assert full.drops == {ASKED: 1}


def test_a_bulk_answer_between_two_members(full: World) -> None:
    """It goes to the one who asked, also with `up`, and to nobody else."""
    members = {it.sender: it for it in full.room.members.values()}
    for asker in (X, Z):
        full.room.take(members[asker], None, nack(asker, to=Y))
        assert full.grouped() == [(nack(asker, to=Y), None)]
        full.room.take(members[Y], asker, data(Y))
        assert full.got(asker)[-1:] == [data(Y)]
        assert full.grouped() == []
    full.got(X)
    full.now += RELAY_ASKER_S + 0.1
    full.room.take(members[Y], X, data(Y))
    assert full.got(X) == []


def test_the_last_of_two_roads_is_answered(full: World) -> None:
    members = {it.sender: it for it in full.room.members.values()}
    full.room.take(members[X], None, nack(X, to=Y))
    full.now += 1
    full.room.hear([(nack(X, to=Y), GROUP)])
    full.grouped()
    full.room.take(members[Y], X, data(Y))
    assert full.grouped() == [(data(Y), GROUP)]
    full.now += 1
    full.room.take(members[X], None, nack(X, to=Y))
    full.grouped()
    full.room.take(members[Y], X, data(Y))
    assert full.grouped() == []
    assert full.got(X)[-1:] == [data(Y)]


def test_unicast_to_the_leg_goes_to_members_that_asked(full: World) -> None:
    members = {it.sender: it for it in full.room.members.values()}
    full.room.told([(data(G), GROUP)])
    assert full.drops == {ASKED: 1}
    full.room.take(members[Z], None, nack(Z, to=G))
    full.grouped()
    full.room.flush()
    full.room.told([(data(G, flags=1), GROUP)])
    assert full.got(Z) == [data(G, flags=1)]
    assert full.got(X) == [nack(Z, to=G)]
    assert full.grouped() == []
    full.now += RELAY_ASKER_S + 0.1
    full.room.told([(data(G), GROUP)])
    assert full.got(Z) == []


def test_a_plain_nack_of_a_member_opens_nothing(full: World) -> None:
    members = {it.sender: it for it in full.room.members.values()}
    full.room.take(members[X], None, nack(X))
    full.room.told([(data(G), GROUP)])
    assert full.got(X) == []


def test_in_a_sealed_room_every_nack_counts() -> None:
    """Whom it names cannot be read there."""
    world = World("sealed")
    member = world.member(X)
    world.room.take(member, None, nack(X))
    world.room.told([(data(G), GROUP)])
    assert world.got(X) == [data(G)]


def test_who_has_lost_his_grant_is_told_nothing(full: World) -> None:
    members = {it.sender: it for it in full.room.members.values()}
    full.room.take(members[X], None, nack(X, to=Y))
    full.room.grant(members[X], "off")
    full.room.told([(data(G), GROUP)])
    full.room.take(members[Y], X, data(Y))
    assert full.got(X) == []


def test_a_flood_of_askers_evicts_the_oldest_of_the_group_alone(full: World) -> None:
    members = {it.sender: it for it in full.room.members.values()}
    full.room.take(members[X], None, nack(X, to=Y))
    full.room.hear([(nack(G, to=Y), GROUP)])
    for number in range(RELAY_ASKERS_MAX):
        full.room.hear([(nack(number.to_bytes(8, "big"), to=Y), ("192.0.2.66", number))])
    full.grouped()
    full.room.take(members[Y], G, data(Y))
    assert full.grouped() == []
    full.got(X)
    full.room.take(members[Y], X, data(Y))
    assert full.got(X) == [data(Y)]


# -- the seat --------------------------------------------------------------------------------------


def test_the_seat_hears_as_a_member_and_knows_the_sources(full: World) -> None:
    members = {it.sender: it for it in full.room.members.values()}
    seat = FakeSeat()
    full.room.sit(seat, KEEPER)
    full.room.hear([(data(G), GROUP)])
    full.room.take(members[X], None, data(X))
    full.room.flush()
    assert seat.taken == [(data(G), GROUP), (data(X), members[X])]
    assert seat.bursts == 1


def test_the_seat_says_it_to_the_group_and_to_all(full: World) -> None:
    seat = FakeSeat()
    full.room.sit(seat, KEEPER)
    full.room.say(data(KEEPER))
    assert full.grouped() == [(data(KEEPER), None)]
    assert full.got(X) == full.got(Y) == [data(KEEPER)]
    assert full.got(Z) == []
    assert seat.taken == []


def test_the_seat_answers_who_asked_it_in_bulk(full: World) -> None:
    members = {it.sender: it for it in full.room.members.values()}
    full.room.sit(FakeSeat(), KEEPER)
    for source in (members[X], members[Z], GROUP):
        full.room.tell(source, data(Y))
    assert full.drops == {ASKED: 3}
    full.room.take(members[Z], None, nack(Z, to=KEEPER))
    full.room.hear([(nack(G, to=KEEPER), GROUP)])
    full.grouped()
    full.got(X)
    full.room.tell(members[Z], data(Y))
    full.room.tell(GROUP, data(X))
    assert full.got(Z) == [data(Y)]
    assert full.grouped() == [(data(X), GROUP)]
    assert full.got(X) == []


def test_the_seat_is_answered_when_it_asks(full: World) -> None:
    members = {it.sender: it for it in full.room.members.values()}
    seat = FakeSeat()
    full.room.sit(seat, KEEPER)
    full.room.take(members[X], KEEPER, data(X))
    full.room.told([(data(G), GROUP)])
    full.room.flush()
    assert seat.taken == []
    full.room.say(nack(KEEPER, to=X))
    full.room.take(members[X], KEEPER, data(X))
    full.room.told([(data(G), GROUP)])
    full.room.flush()
    assert seat.taken == [(data(X), members[X]), (data(G), GROUP)]


def test_what_a_seat_says_of_what_it_took_leaves_in_the_same_tick(full: World) -> None:
    class Parrot(FakeSeat):
        def take(self, burst: list[tuple[bytes, Any]]) -> None:
            super().take(burst)
            full.room.say(data(KEEPER))

    full.room.sit(Parrot(), KEEPER)
    full.room.hear([(data(G), GROUP)])
    assert full.got(X) == [data(G), data(KEEPER)]
    full.room.rise()
    full.room.hear([(data(G), GROUP)])
    assert full.got(X) == [data(G)]


# -- rates, queues, slow readers -------------------------------------------------------------------


def test_the_rate_of_a_member_counts_bytes_both_ways(world: World) -> None:
    member = world.member(X)
    world.room.hear([(nack(G, to=X), GROUP)])
    size = 1_000
    burst = int(RELAY_UP_BURST_BYTES) // size
    for number in range(burst + 10):
        target = G if number % 2 else None
        world.room.take(member, target, datagram(1, X, size=size))
    assert len(world.grouped()) == burst
    assert world.drops == {RATE: 10}
    world.now += 1
    for _ in range(200):
        world.room.take(member, None, datagram(1, X, size=size))
    assert len(world.grouped()) == int(RELAY_UP_BYTES_PER_S) // size


def test_over_the_rate_of_the_server_nothing_goes_out(full: World) -> None:
    full.budget = 99  # less than one datagram to two members
    full.room.hear([(data(G), GROUP)])
    assert full.got(X) == full.got(Y) == []
    assert full.drops == {SERVER_RATE: 2}


def test_a_leg_that_takes_nothing_is_loss(full: World) -> None:
    member = full.member(G)
    full.leg.takes = False
    full.room.take(member, None, data(G))
    assert full.got(X) == [data(G)]
    assert full.drops == {LEG: 1}


def test_a_hub_without_a_leg_carries_between_members(full: World) -> None:
    full.room.leg = None
    member = full.member(G)
    full.room.take(member, None, data(G))
    assert full.got(X) == [data(G)]
    assert full.drops == {}


def test_what_has_no_room_in_a_queue_is_dropped(full: World) -> None:
    """The newest of one tick: who has a little room gets the first of them."""
    size = len(data(G)) + 10
    full.connections[X].queued = RELAY_QUEUE_BYTES - 2 * size - 1
    full.connections[Y].queued = RELAY_QUEUE_BYTES
    full.room.hear([(data(G), GROUP)] * 3)
    assert len(full.got(X)) == 2
    assert full.got(Y) == []
    assert full.drops == {SLOW: 4}
    assert full.ways == {DOWN: 2}


def test_one_send_a_tick_for_each_member(full: World) -> None:
    full.room.hear([(data(G), GROUP)] * 30)
    full.room.take(full.member(G), None, data(G))
    full.room.flush()
    assert full.connections[X].sends == 1
    assert len(full.connections[X].sent) == 31


def test_who_is_behind_for_too_long_gets_nothing_new(full: World) -> None:
    slow = full.connections[X]
    slow.queued, slow.behind_since = 100, full.now
    full.now += RELAY_STALE_S - 0.1
    full.room.hear([(data(G), GROUP)])
    assert full.got(X) == [data(G)]
    full.now += 0.1
    full.room.hear([(data(G), GROUP)])
    assert full.got(X) == []
    assert full.got(Y) == [data(G)] * 2
    assert full.drops == {STALE: 1}
    slow.queued, slow.behind_since = 0, NEVER  # it has taken everything
    full.room.hear([(data(G), GROUP)])
    assert full.got(X) == [data(G)]


# -- who is heard, who is bound --------------------------------------------------------------------


def test_who_is_heard_and_who_is_bound(full: World) -> None:
    members = {it.sender: it for it in full.room.members.values()}
    assert full.room.bound(Z) == []  # too early to say
    full.now += BOUND_AFTER_S
    full.room.hear([(data(X), GROUP)])
    assert members[X].heard == full.now
    assert full.room.bound(Z) == [Y]
    assert full.room.bound(Y) == [Z]
    full.room.hear([(data(Y, flags=1), GROUP)])  # a repair by anybody
    assert members[Y].heard == float("-inf")
    full.now += BOUND_AFTER_S
    assert full.room.bound(G) == [Z, Y, X]  # the newest first


def test_what_others_said_in_the_group_is_counted_without_repairs(full: World) -> None:
    """So who hears nothing there learns whether there was something to hear."""
    room = full.room
    one, other = list(room.members.values())[:2]
    for sender, flags, by_us in (
        (one.sender, 0, False), (one.sender, 1, False), (other.sender, 0, False),
        (b"stranger", 0, False), (other.sender, 0, True),
    ):  # fmt: skip
        datagram = b"\xf5\x45\x13" + bytes([flags]) + bytes(4) + sender + bytes(16)
        if by_us:
            room.take(other, None, datagram)
        else:
            room.hear([(datagram, ("10.0.0.9", 5))])
    assert (room.heard, one.said, other.said) == (3, 1, 1)


def test_who_spoke_in_the_group_just_before_it_entered_was_heard(full: World) -> None:
    room, began = full.room, full.now
    early = [data(X), data(G, flags=1)]  # one that is here already, and a repair by anybody
    room.hear([(one, GROUP) for one in (*early, data(b"newcomer"), data(b"too late"))])
    full.now += EARLY_S / 2
    assert full.member(b"newcomer", "full").heard == began
    assert full.member(G, "full").heard == float("-inf")
    full.now += EARLY_S / 2
    assert full.member(b"too late", "full").heard == float("-inf")


def test_of_strangers_in_the_group_so_many_are_remembered(full: World) -> None:
    strangers = [number.to_bytes(8, "big") for number in range(100, 101 + EARLY_SENDERS_MAX)]
    full.room.hear([(data(one), GROUP) for one in strangers])
    assert full.member(strangers[0], "full").heard == float("-inf")
    assert full.member(strangers[1], "full").heard == full.now


def test_what_a_member_says_by_us_is_not_heard(full: World) -> None:
    members = {it.sender: it for it in full.room.members.values()}
    full.room.take(members[X], None, data(X))
    assert members[X].heard == float("-inf")


def test_another_id_is_a_new_member(full: World) -> None:
    members = {it.sender: it for it in full.room.members.values()}
    full.now += BOUND_AFTER_S
    full.room.hear([(data(X), GROUP)])
    connection = members[X].connection
    assert full.room.join(connection, X) is members[X]
    assert members[X].heard == full.now
    assert full.room.join(connection, G) is members[X]
    assert members[X].heard == float("-inf")
    full.room.hear([(data(X), GROUP), (data(G), GROUP)])
    assert full.got(X) == [data(X), data(X)]


def test_no_more_ids_than_are_told(world: World) -> None:
    for number in range(200):
        world.member(number.to_bytes(8, "big"), "off")
    world.now += BOUND_AFTER_S
    newest = (199).to_bytes(8, "big")
    told = world.room.bound(newest)
    assert len(told) == 64
    assert told[0] == (198).to_bytes(8, "big")


def test_a_room_is_empty_when_all_have_parted(full: World) -> None:
    for member in list(full.room.members.values()):
        assert not full.room.empty
        full.room.part(member)
    assert full.room.empty
    full.room.sit(FakeSeat(), KEEPER)
    assert not full.room.empty
    full.room.rise()
    assert full.room.empty


@given(st.lists(st.binary(min_size=0, max_size=60) | st.just(nack(X, to=Y)), max_size=20))
def test_any_bytes_of_anybody_are_carried_or_dropped(datagrams: list[bytes]) -> None:
    for mode in ("reliable", "plain", "sealed"):
        world = World(mode)
        member = world.member(X)
        world.member(Y)
        for one in datagrams:
            world.room.hear([(one, GROUP)])
            world.room.told([(one, GROUP)])
            if one:
                world.room.take(member, None, one)
                world.room.take(member, Y, one)
        world.room.flush()
        assert all(one in datagrams for one in world.got(Y))
