"""Each datagram by its road: the group and the directory as one transport, on none of both."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from evloop.room.events import Road
from evloop.room.limits import (
    CROWD_SENDERS,
    HEARD_S,
    MISSES_MAX,
    PROBING_S,
    RELAY_BURST_MAX,
    RELAY_HELD_MAX,
    ROAD_PROBE_S,
    ROAD_SENDERS_MAX,
)
from evloop.room.live import LiveRoom
from evloop.room.relay import RelayTransport
from evloop.room.reliable.packets import BYE, DATA, NACK, SESSION
from evloop.room.reliable.session import RoomSession
from evloop.room.roads import ALONE, FULL, OFF, PROBING, UP, Roads, Word
from evloop.system.loop import Loop

ME, BOB = b"me......", b"bob....."
HOST = ("192.0.2.7", 40_000)
LEG = ("192.0.2.1", 51_234)
PLACE = "239.255.7.1:5751"


def datagram(kind: int, sender: bytes = BOB, flags: int = 0) -> bytes:
    """The beginning of one, as far as a road is interested in it."""
    return b"\xf5\x45" + bytes([0x10 | kind, flags]) + bytes(4) + sender + bytes(24)


class Group:
    """A multicast group that the test drives."""

    source = HOST
    echoes = True

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, Any]] = []
        self.calls: list[str] = []
        self.fails = False
        self.deliver: Callable[[list[tuple[bytes, Any]]], object] = list

    def receive(self, deliver: Any, ready: Any) -> None:
        self.deliver = deliver

    def send(self, data: bytes, target: Any) -> bool:
        if self.fails:
            raise OSError("the network is away")
        self.sent.append((data, target))
        return True

    def __getattr__(self, name: str) -> Any:
        return lambda *_: self.calls.append(name)

    def describe(self) -> str:
        return "eth0"

    def stats(self) -> dict[str, int]:
        return {"dropped_by_kernel": 3}


class Directory:
    """The directory as the transport sees it."""

    def __init__(self) -> None:
        self.known = False
        self.full = False
        self.carried: list[tuple[bytes, bytes | None]] = []
        self.asked: list[str] = []
        self._answer: Any = None

    def ask(self, wish: str, answered: Any) -> None:
        self.asked.append(wish)
        self._answer = answered

    def up(self, data: bytes, member: bytes | None) -> bool:
        if self.full:
            return False
        self.carried.append((data, member))
        return True

    def answer(self, word: Word | None, leg: str = "192.0.2.1:51234") -> None:
        self.known = word is not None
        answered, self._answer = self._answer, None
        answered(word, leg)


loops: list[Loop] = []


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    while loops:
        loops.pop().close()


class World:
    def __init__(self, *, sockets: bool = True) -> None:
        self.time = 1_000.0
        self.loop = Loop(clock=lambda: self.time)
        loops.append(self.loop)
        self.group = Group()
        self.directory = Directory()
        self.roads = Roads(ME, sockets=sockets)
        group: Any = self.group if sockets else None
        self.transport = RelayTransport(self.loop, self.roads, group, self.directory)
        self.delivered: list[tuple[bytes, Any]] = []
        self.sampled: list[bool] = []
        self.told: list[Road] = []
        self.turned = 0
        self.transport.tell = self.told.append  # type: ignore[assignment]
        self.transport.turned = self._turned

    def _turned(self) -> None:
        self.turned += 1

    def start(self, *, linked: bool = True) -> World:
        if linked:
            self.transport.linked()
        self.transport.receive(self._take, lambda: None)
        return self

    def _take(
        self, burst: list[tuple[bytes, Any]], sampled: bool = True, direct: bool = False
    ) -> None:
        self.delivered += burst
        self.sampled += [sampled] * len(burst)

    def word(self, **fields: Any) -> Word:
        usual = {"granted": self.directory.asked[-1], "heard": 1, "members": 2}
        more = {"multicast": True, "bound": (), "keeper": b""}
        return Word(**{**usual, **more, **fields})

    def answer(self, **fields: Any) -> None:
        if self.directory._answer is not None:
            self.directory.answer(self.word(**fields))

    def tick(self) -> None:
        self.loop.defer(lambda: None)
        self.loop.tick()

    def wait(self, seconds: float, *, group: bool = True, relay: bool = True, **word: Any) -> None:
        """A word of Bob's each second, by the roads that work."""
        end = self.time + seconds
        while self.time < end:
            self.time += 1.0
            self.tick()
            self.answer(**word)
            if group:
                self.group.deliver([(datagram(SESSION), HOST)])
            if relay:
                self.transport.came(datagram(SESSION))
            self.tick()
            self.answer(**word)

    def into(self, state: str) -> World:
        self.start()
        self.answer()
        if state == OFF:
            self.wait(PROBING_S + 4)
        elif state == UP:
            self.wait(HEARD_S + 4, heard=None)
        elif state == FULL:
            self.wait(PROBING_S + 4, group=False)
        assert self.roads.state == state
        self.group.sent.clear()
        self.directory.carried.clear()
        self.delivered.clear()
        self.sampled.clear()
        self.time += 2 * ROAD_PROBE_S
        self.tick()
        self.answer()
        return self


def world(state: str) -> World:
    return World(sockets=state != ALONE).into(state)


STATES = (OFF, PROBING, UP, FULL, ALONE)


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("kind", [DATA, NACK, SESSION, BYE])
def test_by_which_road_what_is_for_everybody_goes(state: str, kind: int) -> None:
    at = world(state)
    said = datagram(kind, ME)
    at.transport.send(said, None)
    both = kind == SESSION  # the probe
    assert at.group.sent == ([(said, None)] if state == OFF or (both and state != ALONE) else [])
    assert at.directory.carried == ([] if state == OFF else [(said, None)])


@pytest.mark.parametrize("state", STATES)
def test_a_goodbye_goes_both_ways_and_does_not_overtake_the_last_word(state: str) -> None:
    at = world(state)
    word, bye = datagram(DATA, ME), datagram(BYE, ME)
    for said in (word, bye, bye, bye):
        at.transport.send(said, None)
    everything = [(said, None) for said in (word, bye, bye, bye)]
    assert at.directory.carried == ([] if state == OFF else everything)
    assert at.group.sent == {OFF: everything, ALONE: []}.get(state, [(bye, None)] * 2)


@pytest.mark.parametrize("state", [PROBING, UP, FULL])
def test_one_session_in_a_while_goes_by_the_group_as_well(state: str) -> None:
    at = world(state)
    for _ in range(20):
        at.transport.send(datagram(SESSION, ME), None)
        at.time += ROAD_PROBE_S / 4
        at.tick()
        at.answer()
    assert len(at.group.sent) == 5 and len(at.directory.carried) == 20


@pytest.mark.parametrize("state", STATES)
def test_which_road_is_heard(state: str) -> None:
    at = world(state)
    at.transport.came(datagram(DATA))
    at.tick()
    by_relay = [(datagram(DATA), ("relay", BOB))]
    assert at.delivered == (by_relay if state in (PROBING, FULL, ALONE) else [])
    # What the relay brings while both are tried is no sample of loss.
    assert at.sampled == ([state != PROBING] if at.delivered else [])
    if state != ALONE:
        at.group.deliver([(datagram(NACK), HOST)])
        assert at.delivered[-1] == (datagram(NACK), HOST) and at.sampled[-1]


@pytest.mark.parametrize("state", STATES)
def test_an_answer_to_one_alone_goes_where_its_question_came_from(state: str) -> None:
    at = world(state)
    repair = datagram(DATA, ME, flags=1)
    at.transport.send(repair, ("relay", BOB))
    assert at.directory.carried == ([] if state == OFF else [(repair, BOB)])
    assert at.group.sent == []
    if state != ALONE:
        at.transport.send(repair, HOST)
        assert at.group.sent == [(repair, HOST)]


def test_what_the_relay_brings_is_handed_on_once_a_tick_and_in_order() -> None:
    at = world(FULL)
    for kind in (DATA, NACK, DATA):
        at.transport.came(datagram(kind))
    assert at.delivered == []
    at.tick()
    assert [data[2] & 15 for data, _ in at.delivered] == [DATA, NACK, DATA]
    assert at.transport.stats()["relayed_in"] >= 3


def test_a_flood_of_the_relay_is_cut() -> None:
    at = world(FULL)
    for _ in range(RELAY_BURST_MAX + 10):
        at.transport.came(datagram(DATA))
    at.tick()
    assert len(at.delivered) == RELAY_BURST_MAX
    assert at.transport.stats()["relay_dropped"] == 10


def test_until_the_directory_answers_words_are_held_and_go_by_the_group_too() -> None:
    at = World().start()
    said = [datagram(DATA, ME) + bytes([number]) for number in range(3)]
    for one in said:
        at.transport.send(one, None)
    assert at.directory.asked == ["full"] and at.directory.carried == []
    assert [data for data, _ in at.group.sent] == said
    at.answer()
    assert [data for data, _ in at.directory.carried] == said
    for _ in range(2):
        at.transport.send(said[0], None)
    assert len(at.directory.carried) == 5


@pytest.mark.parametrize(("heard", "more"), [(None, 1), (0, 0), (0, 1)])
def test_a_crowds_first_words_that_the_directory_has_heard_are_not_sent_to_it(
    heard: int | None, more: int
) -> None:
    """It has brought them to all that it carries; what is said is sent all the same."""
    at = World().start()
    said = [datagram(SESSION, ME), datagram(DATA, ME)]
    for one in said:
        at.transport.send(one, None)
    at.answer(heard=heard, members=CROWD_SENDERS + more)
    spared = heard is not None and more
    assert [data for data, _ in at.directory.carried] == (said[1:] if spared else said)


def test_what_is_held_is_bounded() -> None:
    at = World(sockets=False).start()
    for _ in range(RELAY_HELD_MAX + 5):
        at.transport.send(datagram(DATA, ME), None)
    at.answer()
    assert len(at.directory.carried) == RELAY_HELD_MAX
    assert at.transport.dropped == 5


def test_what_is_held_goes_by_the_group_when_nothing_is_granted() -> None:
    at = World().start()
    at.transport.send(datagram(DATA, ME), None)
    at.group.sent.clear()
    at.answer(granted="off")
    assert at.roads.state == OFF
    assert at.group.sent == [(datagram(DATA, ME), None)]


def test_when_too_much_waits_up_frames_are_dropped() -> None:
    at = world(FULL)
    at.directory.full = True
    assert at.transport.send(datagram(DATA, ME), None) is True
    assert at.transport.stats()["relay_dropped"] == 1


def test_a_probe_that_the_network_refuses_costs_nothing() -> None:
    at = world(FULL)
    at.group.fails = True
    assert at.transport.send(datagram(SESSION, ME), None)
    assert len(at.directory.carried) == 1


def test_the_link_lost_is_off_at_once_and_probing_when_it_is_back() -> None:
    at = world(FULL)
    at.told.clear()
    turned = at.turned
    at.directory.known = False
    at.transport.lost()
    assert at.roads.state == OFF and [it.why for it in at.told] == ["lost"]
    at.transport.send(datagram(DATA, ME), None)
    assert at.group.sent == [(datagram(DATA, ME), None)]
    at.transport.linked()
    assert at.roads.state == PROBING and at.turned == turned + 1
    assert at.directory.asked[-1] == "full"


def test_alone_speaks_again_when_the_link_is_back() -> None:
    at = world(ALONE)
    at.directory.known = False
    at.transport.lost()
    at.transport.send(datagram(DATA, ME), None)
    at.transport.linked()
    at.answer()
    assert at.directory.carried == [(datagram(DATA, ME), None)]


def test_the_leg_is_known_by_its_source() -> None:
    for leg, source, told in (
        ("192.0.2.1:51234", LEG, True),
        ("192.0.2.1:51234", HOST, False),
        ("192.0.2.1:51234", ("192.0.2.1", 51_235), False),
        ("[fe80::1]:51234", ("fe80::1%eth0", 51_234, 0, 2), True),
    ):
        at = World().start()
        at.directory.answer(at.word(), leg)
        at.group.deliver([(datagram(SESSION), source)])
        heard = at.roads.senders[BOB]
        assert (heard.leg > 0, heard.direct > 0) == (told, not told)


def test_one_who_is_isolated_is_told_once_who_does_not_reach_it() -> None:
    at = world(PROBING)
    for _ in range(MISSES_MAX):
        at.transport.came(datagram(DATA))
    at.tick()
    at.wait(PROBING_S + 2, group=False)
    assert at.told == [("road", FULL, (BOB,), "")]


def test_who_has_left_enters_no_more() -> None:
    at = world(FULL)
    at.transport.leaving()
    asked = len(at.directory.asked)
    at.time += 600.0
    at.tick()
    at.transport.linked()
    assert len(at.directory.asked) == asked
    for _ in range(2):
        at.transport.send(datagram(BYE, ME), None)
    assert at.group.sent and at.directory.carried


def test_its_own_words_come_back_by_a_group_alone() -> None:
    for state in STATES:
        assert world(state).transport.echoes is (state == OFF)


def test_without_sockets_the_group_is_not_needed() -> None:
    at = world(ALONE)
    at.transport.leave()
    at.transport.join()
    at.transport.reopen()
    at.transport.move("239.255.7.2", 5751, lambda: None)
    assert at.transport.describe() == "the directory" and at.transport.source is None
    at.transport.close()
    at = world(FULL)
    at.transport.leave()
    at.transport.close()
    assert at.group.calls == ["leave", "close"]
    assert at.transport.stats()["dropped_by_kernel"] == 3
    assert at.transport.describe() == "eth0"


def test_a_session_talks_by_the_relay_and_neither_knows_it() -> None:
    """Two members without any multicast, and what one says at the other."""
    time = [1_000.0]
    loop = Loop(clock=lambda: time[0])
    loops.append(loop)
    rooms: list[LiveRoom] = []
    ends: list[RelayTransport] = []

    class Hub(Directory):
        def up(self, data: bytes, member: bytes | None) -> bool:
            for end, room in zip(ends, rooms):
                if end.carrier is not self and member in (None, room.session.sender_id):
                    end.came(data)
            return True

    for number in range(2):
        sender = b"member %d" % number
        session = RoomSession(
            place=PLACE, sender_id=sender, nickname=f"m{number}", rng=random.Random(number),
            now=loop.now,
        )  # fmt: skip
        end = RelayTransport(loop, Roads(sender, sockets=False), None, Hub())
        room = LiveRoom(loop, end, session, lambda: 7.0)
        room.roads = end.roads
        end.tell, end.turned = room.tell, room.missed
        ends.append(end)
        rooms.append(room)
        end.linked()
        room.start()
        carrier: Any = end.carrier
        carrier.answer(Word("full", None, 2, False, (), b""), "")
    rooms[0].say("by the directory", 0)
    for _ in range(400):
        time[0] += 0.01
        loop.defer(lambda: None)
        loop.tick()
    assert [it.text for it in rooms[1].session.history(10)] == ["by the directory"]
    assert rooms[0].way() == {"interface": "the directory", "road": ALONE}
    assert rooms[0].session.confirmers() == (1, 1)


# -- a crowd ---------------------------------------------------------------------------------------

OTHER_LEG = ("192.0.2.9", 51_234)  # of a directory that is not ours
CROWD = [b"crowd%3d" % number for number in range(CROWD_SENDERS)]


def in_a_crowd() -> World:
    at = World().start()
    at.answer(heard=0, members=100)
    assert at.roads.state == PROBING
    return at


def test_a_crowd_is_heard_from_addresses_of_their_own() -> None:
    at = in_a_crowd()
    for number, sender in enumerate(CROWD):
        assert at.roads.state == PROBING
        at.group.deliver([(datagram(SESSION, sender), ("192.0.2.7", 40_000 + number))])
    assert at.roads.state == OFF


def test_a_crowd_that_another_directory_brings_proves_nothing() -> None:
    """A guest hears all whom its leg carries, and nobody else: none of them by itself."""
    at = in_a_crowd()
    for _ in range(3):
        at.group.deliver([(datagram(SESSION, sender), OTHER_LEG) for sender in CROWD])
    assert at.roads.state == PROBING
    # Those that are heard by themselves count, whoever has brought them before.
    ends = [("192.0.2.7", 40_000 + number) for number in range(len(CROWD))]
    at.group.deliver([(datagram(SESSION, CROWD[number]), ends[number]) for number in range(1, 15)])
    assert at.roads.state == PROBING
    at.group.deliver([(datagram(SESSION, CROWD[15]), ends[15])])
    assert at.roads.state == OFF


def test_a_flood_of_addresses_is_no_crowd_beyond_those_that_are_told_apart() -> None:
    at = in_a_crowd()
    for number in range(ROAD_SENDERS_MAX):
        at.group.deliver([(datagram(SESSION, BOB), ("192.0.2.66", number))])
    at.group.deliver([(datagram(SESSION, sender), ("192.0.2.7", 1)) for sender in CROWD])
    assert at.roads.state == PROBING
