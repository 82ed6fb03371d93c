"""The bridge between sites: who carries what, where each datagram goes, and what is dropped."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from hashlib import blake2b
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evloop.daemon.bridge import (
    DROPS,
    Bridge,
    Sites,
    carrier,
    goes_to_other_sites,
    subject_of,
    wanted_folds,
)
from evloop.daemon.limits import (
    BRIDGE_BURST_S,
    BRIDGE_HEARD_MAX,
    BRIDGE_LINGER_S,
    BRIDGE_ROOM_PER_S,
)
from evloop.net.interfaces import Interface
from evloop.net.multicast import BRIDGE_PORTS, destination, open_receiver, open_sender, receive
from evloop.system.loop import Loop
from evloop.system.timers import nothing

LOOPBACK = Interface(socket.if_nametoindex("lo"), "lo", "127.0.0.1")
GROUP = f"239.255.78.{1 + os.getpid() % 250}"  # of this process alone
PORT = 15_753
PLACE = (GROUP, PORT)
NORTH, SOUTH = "0000000a", "0000000b"


def sites(
    members: dict[str, dict[str, int]],
    servers: dict[str, dict[str, Any]] | None = None,
    places: dict[str, tuple[str, int]] | None = None,
) -> Sites:
    two = {
        NORTH: {"site": "north", "bridge": True},
        SOUTH: {"site": "south", "bridge": True},
    }
    return Sites(servers or two, members, {"lab": PLACE} if places is None else places)


BOTH = sites({NORTH: {"lab": 1}, SOUTH: {"lab": 2}})


# -- who carries -----------------------------------------------------------------------------------


def test_the_carrier_is_the_highest_hash_of_server_and_place() -> None:
    servers = ["00000001", "00000002", "00000003"]
    place = "239.255.7.1:5751"
    by_hand = sorted(
        servers, key=lambda one: blake2b((one + place).encode(), digest_size=8).digest()
    )
    assert carrier(servers, place) == carrier(reversed(servers), place) == by_hand[-1]
    assert carrier([], place) == ""


@given(st.sets(st.integers(0, 2**32 - 2), min_size=2, max_size=6), st.integers(1, 60_000))
def test_one_server_of_a_site_carries_a_room_and_another_when_it_dies(
    numbers: set[int], port: int
) -> None:
    servers = {f"{n:08x}": {"site": "north", "bridge": True} for n in numbers}
    everybody = {**servers, "ffffffff": {"site": "south", "bridge": True}}
    members = {one: {"lab": 1} for one in everybody}
    places = {"lab": ("239.255.7.1", port)}
    carriers = [
        one for one in servers if wanted_folds(sites(members, everybody, places), one, "north")
    ]
    assert len(carriers) == 1
    del everybody[carriers[0]]
    rest = [one for one in servers if one in everybody]
    after = [one for one in rest if wanted_folds(sites(members, everybody, places), one, "north")]
    # Its members are gone with it, but the other servers of the site have some.
    assert len(after) == 1


@pytest.mark.parametrize(
    ("why", "at"),
    [
        ("nobody is elsewhere", sites({NORTH: {"lab": 5}})),
        ("nobody is here", sites({SOUTH: {"lab": 5}})),
        ("the number elsewhere is 0", sites({NORTH: {"lab": 1}, SOUTH: {"lab": 0}})),
        ("the room has gone", sites({NORTH: {"lab": 1}, SOUTH: {"lab": 1}}, places={})),
        (
            "the server elsewhere has lost its lease",
            sites(
                {NORTH: {"lab": 1}, SOUTH: {"lab": 1}}, {NORTH: {"site": "north", "bridge": True}}
            ),
        ),
        (
            "both servers are at this site",
            sites(
                {NORTH: {"lab": 1}, SOUTH: {"lab": 1}},
                {
                    NORTH: {"site": "north", "bridge": True},
                    SOUTH: {"site": "north", "bridge": True},
                },
            ),
        ),
        (
            "this server has no bridge now",
            sites(
                {NORTH: {"lab": 1}, SOUTH: {"lab": 1}},
                {NORTH: {"site": "north", "bridge": False}, SOUTH: {"site": "south"}},
            ),
        ),
    ],
)
def test_a_room_that_is_not_to_be_carried(why: str, at: Sites) -> None:
    assert not wanted_folds(at, NORTH, "north"), why
    assert wanted_folds(BOTH, NORTH, "north") == {"lab"}


@pytest.mark.parametrize("port", [24_443, 24_444, 24_700, 24_955, 24_956])
@pytest.mark.parametrize("by_group", [True, False])
@pytest.mark.parametrize("heard", [True, False])
def test_the_table_of_what_goes_where(port: int, by_group: bool, heard: bool) -> None:
    bridges = 24_444 <= port <= 24_955
    assert goes_to_other_sites(port, by_group, heard) == (not bridges and (by_group or heard))


def test_the_subject_of_a_room() -> None:
    assert subject_of("main", "239.255.7.1", 5751, "north") == "evloop.main.r.efff0701-5751.north"
    assert subject_of("main", "ff15::7", 5751, "*") == f"evloop.main.r.ff15{'0' * 26}07-5751.*"


# -- real sockets on loopback ----------------------------------------------------------------------


class FakeLink:
    """What a NatsLink is for its owner, and what it was told to do."""

    server = "127.0.0.1:4222"
    ready: Callable[[], object]
    lost: Callable[[str], object]
    message: Callable[[str, str, bytes], object]
    refused: Callable[[str], object]

    def __init__(self) -> None:
        self.state = "waiting"
        self.full = False
        self.said: list[str] = []
        self.published: list[bytes] = []

    def subscribe(self, subject: str, sid: int) -> bool:
        self.said.append(f"SUB {subject} {sid}")
        return True

    def unsubscribe(self, sid: int) -> bool:
        self.said.append(f"UNSUB {sid}")
        return True

    def publish(self, subject: bytes, payloads: list[bytes]) -> bool:
        if self.state != "ready" or self.full:
            return False
        self.published += payloads
        return True

    def close(self) -> None:
        self.state = "closed"


class FakeLog:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def notice(self, event: str, **fields: object) -> None:
        self.lines.append(event)

    def warning(self, event: str, **fields: object) -> None:
        self.lines.append(f"{event}: {fields.get('why', '')}")


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


class Scene:
    """A bridge of north on loopback, a member of the room, and the clock of both."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.loop = Loop(clock=self.clock)
        self.link, self.log = FakeLink(), FakeLog()
        self.now = BOTH
        self.wanted: list[bool] = []
        self.drops = dict.fromkeys(DROPS, 0)
        self.bridge = Bridge(
            self.loop,
            self.log,  # type: ignore[arg-type]
            self.link,  # type: ignore[arg-type]
            ("main", NORTH, "north"),
            lambda: self.now,
            self.wanted.append,
            lambda address: LOOPBACK,
            0,
            self.drops,
        )
        self.hears = open_receiver(GROUP, PORT, LOOPBACK)
        self.speaks = open_sender(GROUP, PORT, LOOPBACK, 0)
        self.open = [self.hears, self.speaks]

    def turn(self, seconds: float = 0.2) -> None:
        """So much time passes, and the loop does what is due and what has come."""
        self.clock.now += seconds
        for _ in range(4):
            self.loop.call_at(self.loop.now, nothing)
            self.loop.tick()

    def join(self) -> None:
        self.link.state = "ready"
        self.link.ready()
        self.turn()

    def say(self, text: bytes, sender: socket.socket | None = None) -> None:
        (sender or self.speaks).sendto(text, destination(GROUP, PORT, LOOPBACK))
        self.turn(0.0)

    def heard(self) -> list[bytes]:
        return [data for data, _ in receive(self.hears)]

    def address(self) -> tuple[str, int]:
        """Of the bridge's sending socket."""
        self.link.message("1", "evloop.main.r.x.south", b"who are you?")
        [(data, source)] = receive(self.hears)
        assert data == b"who are you?"
        host, port = source
        return host, port


@pytest.fixture
def scene() -> Iterator[Scene]:
    scene = Scene()
    yield scene
    scene.bridge.close()
    for one in scene.open:
        one.close()
    scene.loop.close()


def test_a_room_is_carried_both_ways(scene: Scene) -> None:
    scene.turn()
    assert scene.bridge.rooms == 0, "there is no NATS yet"
    scene.join()
    assert scene.wanted == [True] and scene.bridge.rooms == 1
    subject = subject_of("main", *PLACE, "*")
    assert scene.link.said == [f"SUB {subject} 1"]
    scene.say(b"\xf5E north speaks")
    assert scene.link.published == [b"\xf5E north speaks"]
    scene.heard()
    assert scene.address()[1] in BRIDGE_PORTS
    scene.turn()
    assert scene.link.published == [b"\xf5E north speaks"], "what a bridge said is not carried"
    assert (scene.bridge.carried_out, scene.bridge.carried_in) == (1, 1)


def test_what_another_bridge_put_into_the_group_is_not_carried(scene: Scene) -> None:
    scene.join()
    other = open_sender(GROUP, PORT, LOOPBACK, 0, bridge=True)
    scene.open.append(other)
    scene.say(b"of another bridge", other)
    scene.say(b"of a member")
    assert scene.link.published == [b"of a member"]


def test_what_its_own_site_published_is_dropped(scene: Scene) -> None:
    scene.join()
    scene.link.message("1", subject_of("main", *PLACE, "north"), b"a twin's")
    scene.link.message("1", subject_of("main", *PLACE, "south"), b"the other site's")
    scene.link.message("9", subject_of("main", *PLACE, "south"), b"of a room that was left")
    assert scene.heard() == [b"the other site's"]


def test_answers_by_unicast_are_carried_only_from_who_was_heard_in_the_group(scene: Scene) -> None:
    scene.join()
    bridge = scene.address()
    scene.speaks.sendto(b"not heard yet", bridge)
    scene.turn(0.0)
    assert scene.link.published == []
    scene.say(b"I am here")
    scene.speaks.sendto(b"in bulk", bridge)
    scene.turn(0.0)
    assert scene.link.published == [b"I am here", b"in bulk"]
    other = open_sender(GROUP, PORT, LOOPBACK, 0, bridge=True)
    scene.open.append(other)
    other.sendto(b"from the port of a bridge", bridge)
    scene.turn(0.0)
    assert scene.link.published == [b"I am here", b"in bulk"]


def test_sources_are_remembered_up_to_a_cap(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    assert BRIDGE_HEARD_MAX == 4_096
    monkeypatch.setattr("evloop.daemon.bridge.BRIDGE_HEARD_MAX", 2)
    scene.join()
    bridge = scene.address()
    senders = [open_sender(GROUP, PORT, LOOPBACK, 0) for _ in range(3)]
    scene.open += senders
    for number, sender in enumerate(senders):
        scene.say(b"%d" % number, sender)
    senders[0].sendto(b"forgotten", bridge)
    senders[2].sendto(b"remembered", bridge)
    scene.turn(0.0)
    assert scene.link.published[-1] == b"remembered"
    assert b"forgotten" not in scene.link.published


def test_what_cannot_be_carried_is_counted(scene: Scene) -> None:
    scene.join()
    scene.say(b"")
    scene.say(b"x" * 1_201)
    assert scene.drops == {"away": 0, "unsent": 0, "rate": 0, "size": 2, "refused": 0}
    scene.link.full = True
    scene.say(b"too much is unsent")
    scene.link.full, scene.link.state = False, "waiting"
    scene.say(b"nobody there")
    assert scene.drops["unsent"] == scene.drops["away"] == 1
    scene.link.state = "ready"
    burst = int(BRIDGE_BURST_S * BRIDGE_ROOM_PER_S)
    for _ in range(burst + 50):
        scene.link.message("1", subject_of("main", *PLACE, "south"), b"flood")
        scene.heard()
    assert scene.drops["rate"] == 50 and scene.bridge.carried_in == burst
    scene.link.message("1", subject_of("main", *PLACE, "south"), b"x" * 1_201)
    assert scene.drops["size"] == 3
    for _ in range(burst + 50):
        scene.say(b"flood the other way")
    assert scene.drops["rate"] == 50 + 50 + 2, "two tokens were spent on what had no way"
    assert len(scene.link.published) == burst - 2


def test_a_room_is_carried_on_for_a_while_after_the_last_member(scene: Scene) -> None:
    scene.join()
    scene.now = sites({NORTH: {"lab": 1}})
    scene.bridge.changed()
    scene.turn()
    assert scene.bridge.rooms == 1
    scene.turn(BRIDGE_LINGER_S - 0.5)
    assert scene.bridge.rooms == 1
    scene.now = BOTH
    scene.bridge.changed()
    scene.turn()
    scene.turn(BRIDGE_LINGER_S + 1)
    assert scene.bridge.rooms == 1, "somebody came back"
    scene.now = sites({})
    scene.bridge.changed()
    scene.turn()
    scene.turn(BRIDGE_LINGER_S + 1)
    assert scene.bridge.rooms == 0 and scene.link.said[-1] == "UNSUB 1"
    assert len(scene.loop.watches) == 0


@pytest.mark.parametrize(
    "now",
    [
        sites({NORTH: {"lab": 1}, SOUTH: {"lab": 1}}, places={}),
        sites(
            {NORTH: {"lab": 1}, SOUTH: {"lab": 1}},
            {NORTH: {"site": "north", "bridge": False}, SOUTH: {"site": "south"}},
        ),
    ],
    ids=["deleted", "another server's now"],
)
def test_a_room_that_is_not_ours_any_more_is_left_at_once(scene: Scene, now: Sites) -> None:
    scene.join()
    scene.now = now
    scene.bridge.changed()
    scene.turn()
    assert scene.bridge.rooms == 0


def test_without_nats_nothing_is_carried_and_the_operator_is_told_once_a_minute(
    scene: Scene,
) -> None:
    scene.join()
    scene.link.state = "waiting"
    for _ in range(5):
        scene.link.lost("127.0.0.1:4222: Connection refused")
        scene.turn(1.0)
    assert scene.bridge.rooms == 0 and scene.wanted == [True] + [False] * 5
    carries_nothing = "the bridge carries nothing: 127.0.0.1:4222: Connection refused"
    assert scene.log.lines == ["the bridge is connected", carries_nothing]
    scene.join()
    assert scene.bridge.rooms == 1 and scene.link.said[-1].startswith("SUB")


def test_a_room_whose_sockets_cannot_be_had_is_tried_again(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    from evloop.base.errors import FAILED, SetupError

    def refused(*_: object, **__: object) -> socket.socket:
        raise SetupError("cannot open it: the port is taken", FAILED)

    with monkeypatch.context() as patch:
        patch.setattr("evloop.daemon.bridge.open_sender", refused)
        scene.join()
        assert scene.bridge.rooms == 0 and not scene.loop.watches
        assert scene.log.lines[-1].startswith("the bridge cannot carry a room: cannot open it")
    scene.turn(BRIDGE_LINGER_S + 0.1)
    scene.turn()
    assert scene.bridge.rooms == 1
