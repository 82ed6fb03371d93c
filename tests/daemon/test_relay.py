"""The relay in a whole server: frames among requests, grants, the leg; with real sockets on lo."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from evloop.base.errors import FAILED, SetupError, StoreError
from evloop.daemon.relayed_room import FRAME, GRANT
from evloop.directory.relay_frames import TO_ROOM, member_frame, parse_down, room_frame
from evloop.framing import pack_frame
from evloop.net.links import Interface
from evloop.net.multicast import open_receiver, open_sender
from tests.support.live import Caller, House, request

X, Y, Z = "0101010101010101", "0202020202020202", "0303030303030303"
NAME = f"relay-{os.getpid()}"  # a place that no other test run on this machine has
LOOPBACK = Interface(socket.if_nametoindex("lo"), "lo", "127.0.0.1")


def data(sender: str, text: bytes = b"hello", flags: int = 0) -> bytes:
    """A datagram that looks like DATA of `sender`."""
    return b"\xf5\x45\x11" + bytes([flags]) + bytes(4) + bytes.fromhex(sender) + bytes(8) + text


def nack(sender: str, to: str) -> bytes:
    return (
        b"\xf5\x45\x12\0"
        + bytes(4)
        + bytes.fromhex(sender)
        + bytes(8)
        + bytes.fromhex(to)
        + bytes(17)
    )


class Group:
    """A member of the room's group on this machine that needs no directory."""

    def __init__(self, house: House, place: dict[str, Any]) -> None:
        self.house = house
        self.receiver = open_receiver(place["address"], place["port"], LOOPBACK)
        self.sender = open_sender(place["address"], place["port"], LOOPBACK, 1)
        self.place = (place["address"], place["port"])
        self.heard: list[tuple[bytes, tuple[str, int]]] = []
        self.told: list[bytes] = []

    @property
    def own(self) -> tuple[str, int]:
        host, port = self.sender.getsockname()
        return host, port

    def say(self, datagram: bytes, target: tuple[str, int] | None = None) -> None:
        self.sender.sendto(datagram, target or self.place)

    def read(self) -> list[tuple[bytes, tuple[str, int]]]:
        """All that was heard so far, but what it said itself."""
        for sock in (self.receiver, self.sender):
            try:
                while True:
                    datagram, source = sock.recvfrom(4_096)
                    if sock is self.sender:
                        self.told.append(datagram)
                    elif source != self.own:
                        self.heard.append((datagram, source))
            except BlockingIOError:
                pass
        return self.heard

    def close(self) -> None:
        self.receiver.close()
        self.sender.close()


@pytest.fixture
def house() -> Iterator[House]:
    house = House("--change-rate", "0", "--interface", "127.0.0.1")
    yield house
    house.close()


@pytest.fixture
def group(house: House) -> Iterator[Group]:
    made = house.call(house.caller(), "makeroom", name=NAME)["result"]["room"]
    group = Group(house, made)
    yield group
    group.close()


def enter(house: House, caller: Caller, sender: str, relay: str, name: str = NAME) -> Any:
    reply = house.call(caller, "enter", name=name, sender=sender, relay=relay)
    return reply["result"]


def relayed(house: House, caller: Caller, count: int) -> list[bytes]:
    """The next `count` datagrams of the relay; no others came by then."""
    house.until(lambda: caller.read() or len(caller.relayed) >= count)
    found = []
    for payload in caller.relayed:
        parsed = parse_down(payload)
        assert parsed is not None
        assert parsed[0] == TO_ROOM
        found.append(parsed[2])
    caller.relayed.clear()
    assert len(found) == count
    return found


# -- grants ----------------------------------------------------------------------------------------


def test_hello_says_that_it_relays(house: House) -> None:
    assert house.call(house.caller(), "hello")["result"]["relay"] is True
    for options in (("--relay", "off"), ("--relay-members", "0")):
        off = House(*options)
        try:
            assert "relay" not in off.call(off.caller(), "hello")["result"]
            caller = off.caller()
            off.call(caller, "makeroom", name=NAME)
            told = enter(off, caller, X, "full")
            assert (told["relay"], told["multicast"], told["leg"]) == ("off", False, None)
        finally:
            off.close()


@pytest.mark.usefixtures("group")
def test_what_enter_tells(house: House) -> None:
    caller = house.caller()
    told = enter(house, caller, X, "off")
    assert told["handle"] == 1
    assert (told["relay"], told["heard"], told["bound"]) == ("off", None, [])
    assert told["multicast"] is True
    assert told["leg"].startswith("127.0.0.1:")
    assert enter(house, caller, X, "up")["relay"] == "up"
    assert enter(house, caller, X, "full")["relay"] == "full"
    assert house.dispatcher.readings()["relay_members"] == 1
    plain = house.call(house.caller(), "enter", name=NAME)["result"]
    assert set(plain) == {"room", "handle"}
    assert plain["handle"] == 1


def test_a_member_by_the_relay_and_one_by_the_group(house: House, group: Group) -> None:
    caller, other = house.caller(), house.caller()
    told = enter(house, caller, X, "full")
    enter(house, other, Y, "full")
    caller.send(room_frame(told["handle"], data(X)))
    assert relayed(house, other, 1) == [data(X)]
    heard = house.until(group.read)
    assert [it for it, _ in heard] == [data(X)]
    assert "{}:{}".format(*heard[0][1]) == told["leg"]
    group.say(data(Z))
    assert relayed(house, caller, 1) == relayed(house, other, 1) == [data(Z)]
    house.tick(5)
    assert [it for it, _ in group.read()] == [data(X)]  # and nothing came back to the group
    assert caller.relayed == []
    figures: Any = house.dispatcher.metrics.figures()
    assert figures["relay_datagrams"] == {"up": 1, "down": 3}


def test_the_group_tells_who_is_heard(house: House, group: Group) -> None:
    caller, other = house.caller(), house.caller()
    enter(house, caller, X, "up")
    enter(house, other, Y, "full")
    group.say(data(Z))
    group.say(data(X))
    assert relayed(house, other, 2) == [data(Z), data(X)]
    house.skip(3)
    assert enter(house, caller, X, "up")["heard"] == 3
    house.skip(23)
    assert enter(house, caller, X, "up")["bound"] == [Y]
    assert set(enter(house, other, Y, "up")["bound"]) == {X}
    group.say(data(Y))
    house.until(lambda: enter(house, other, Y, "up")["heard"] is not None)
    assert enter(house, caller, Z, "up")["heard"] is None  # another id, another ear


def test_bulk_answers_by_unicast(house: House, group: Group) -> None:
    caller, other = house.caller(), house.caller()
    told = enter(house, caller, X, "full")
    enter(house, other, Y, "full")
    host, _, port = told["leg"].rpartition(":")
    group.say(nack(Z, to=X))
    assert relayed(house, caller, 1) == relayed(house, other, 1) == [nack(Z, to=X)]
    caller.send(member_frame(told["handle"], bytes.fromhex(Z), data(Y, flags=1)))
    house.until(lambda: group.read() is not None and group.told)
    assert group.told == [data(Y, flags=1)]
    caller.send(room_frame(told["handle"], nack(X, to=Z)))
    assert relayed(house, other, 1) == [nack(X, to=Z)]
    group.say(data(Z), (host, int(port)))
    assert relayed(house, caller, 1) == [data(Z)]
    house.tick(5)
    other.read()
    assert other.relayed == []


def test_leave_the_end_and_a_deletion_end_a_grant(house: House, group: Group) -> None:
    one, two, three = house.caller(), house.caller(), house.caller()
    for caller, sender in ((one, X), (two, Y), (three, Z)):
        enter(house, caller, sender, "full")
    relay = house.dispatcher.relay
    assert relay is not None
    assert relay.granted == 3
    house.call(one, "leave", name=NAME)
    assert relay.granted == 2
    two.close()
    house.until(lambda: relay.granted == 1)
    assert len(relay.rooms) == 1
    house.call(one, "deleteroom", name=NAME)
    assert relay.granted == 0
    assert relay.rooms == {}
    three.send(room_frame(1, data(Z)) + request("ping", 99, {}))
    house.until(lambda: three.reply(99))
    drops: Any = house.dispatcher.metrics.figures()["relay_drops"]
    assert drops[GRANT] == 1
    assert group.read() == []
    # Made anew it is another room, with another handle.
    house.call(one, "makeroom", name=NAME)
    assert enter(house, three, Z, "full")["handle"] == 2


def test_a_room_that_was_never_stored_was_never_relayed(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller = house.caller()

    def fails(store: object, version: int) -> None:
        raise StoreError("the disk is full")

    monkeypatch.setattr(type(house.dispatcher.store), "commit", fails)
    caller.send(
        request("makeroom", 1, {"name": "new"})
        + request("enter", 2, {"name": "new", "sender": X, "relay": "full"})
    )
    reply = house.until(lambda: caller.reply(2))
    assert reply["error"]["data"]["reason"] == "storage_failed"
    assert house.dispatcher.relay is not None
    assert house.dispatcher.relay.rooms == {}
    assert house.dispatcher.relay.granted == 0


def test_more_grants_than_there_are(house: House) -> None:
    small = House("--interface", "127.0.0.1", "--relay-members", "2")
    try:
        callers = [small.caller() for _ in range(3)]
        small.call(callers[0], "makeroom", name=NAME)
        granted = [
            enter(small, it, sender, "full")["relay"] for it, sender in zip(callers, (X, Y, Z))
        ]
        assert granted == ["full", "full", "off"]
        assert enter(small, callers[0], X, "up")["relay"] == "up"  # who has one keeps it
        assert enter(small, callers[2], Z, "full")["relay"] == "off"
        enter(small, callers[1], Y, "off")
        assert enter(small, callers[2], Z, "full")["relay"] == "full"
    finally:
        small.close()


# -- frames among requests -------------------------------------------------------------------------


def test_frames_and_requests_in_one_segment_keep_their_order(house: House, group: Group) -> None:
    """Also right behind the `enter` that makes them good, and up to the `leave` that ends them."""
    other = house.caller()
    enter(house, other, Y, "full")
    caller = house.caller()
    wish = {"name": NAME, "sender": X, "relay": "full"}
    caller.send(
        request("enter", 1, wish)
        + room_frame(1, data(X, b"one"))
        + request("ping", 2, {})
        + room_frame(1, data(X, b"two"))
        + room_frame(1, data(X, b"three"))
        + request("leave", 3, {"name": NAME})
        + room_frame(1, data(X, b"too late"))
        + request("enter", 4, wish)
        + room_frame(1, data(X, b"four"))
        + request("ping", 5, {})
    )
    house.until(lambda: caller.reply(5))
    assert [it["id"] for it in caller.got] == [1, 2, 3, 4, 5]
    expected = [data(X, text) for text in (b"one", b"two", b"three", b"four")]
    assert relayed(house, other, 4) == expected
    house.until(lambda: len(group.read()) == 4)
    assert [it for it, _ in group.heard] == expected


def test_without_an_enter_such_a_frame_is_no_request(house: House) -> None:
    caller = house.caller()
    caller.send(room_frame(1, data(X)) + request("ping", 1, {}))
    house.until(lambda: caller.reply(1))
    assert caller.got[0]["error"]["code"] == -32700
    assert caller.got[0]["id"] is None
    # A plain enter does not change that, and 17 in a row end the connection, as today.
    house.call(caller, "makeroom", name=NAME)
    house.call(caller, "enter", name=NAME)
    caller.send(room_frame(1, data(X)) * 17)
    house.until(caller.read)
    assert len([it for it in caller.got if "error" in it]) == 18


@pytest.mark.usefixtures("group")
def test_where_they_cannot_act_they_are_dropped_in_silence(house: House) -> None:
    caller = house.caller()
    handle = enter(house, caller, X, "full")["handle"]
    bad = [
        b"\xf5", b"\xf5\x52", b"\xf5\x52\0\0\0", b"\xf5\x52\0\0\0\1", b"\xf5\x00\0\0\0\1abc",
        b"\xf5\x48\0\0\0\1\0\0\0\0\0\1x", b"\xf5\x55\0\0\0\1" + bytes(8),
        b"\xf5\x52" + bytes(3_000),
    ]  # fmt: skip
    ungranted = [room_frame(handle + 1, data(X)), member_frame(handle + 9, bytes(8), data(X))]
    caller.send(b"".join(map(pack_frame, bad * 3)) + b"".join(ungranted) + request("ping", 7, {}))
    house.until(lambda: caller.reply(7))
    assert [it["id"] for it in caller.got[1:]] == [7]
    drops: Any = house.dispatcher.metrics.figures()["relay_drops"]
    assert drops[FRAME] == 3 * len(bad)
    assert drops[GRANT] == 2


@pytest.mark.usefixtures("group")
def test_bad_requests_are_counted_as_before_between_frames(house: House) -> None:
    caller = house.caller()
    handle = enter(house, caller, X, "full")["handle"]
    caller.send((pack_frame(b"junk") + room_frame(handle, data(X))) * 17)
    house.until(caller.read)
    assert caller.closed


def test_hub_without_multicast() -> None:
    """A leg that cannot be had: members still hear each other, and the log says it once."""
    house = House()  # without --interface a leg on loopback is none
    try:
        relay_of = house.dispatcher.make_relay
        assert relay_of is not None
        relay = house.dispatcher.relay = relay_of()
        assert relay is not None
        refused = 0

        def refuse(*_: object) -> Any:
            nonlocal refused
            refused += 1
            raise SetupError("this machine has no network", FAILED)

        relay.open_leg = refuse
        callers = [house.caller(), house.caller()]
        house.call(callers[0], "makeroom", name=NAME)
        house.call(callers[0], "makeroom", name="hall")
        told = [enter(house, it, sender, "full") for it, sender in zip(callers, (X, Y))]
        assert [it["multicast"] for it in told] == [False, False]
        assert [it["leg"] for it in told] == [None, None]
        enter(house, callers[0], X, "full", "hall")
        callers[0].send(room_frame(told[0]["handle"], data(X)))
        assert relayed(house, callers[1], 1) == [data(X)]
        assert refused == 2
        warned = [line for line in house.lines if "without multicast" in line]
        assert len(warned) == 1
        assert "this machine has no network" in warned[0]
        house.skip(31)
        enter(house, callers[0], X, "full")
        assert refused == 3  # and tries again, at most so often
    finally:
        house.close()


# -- several directories ---------------------------------------------------------------------------


def test_two_directories_relay_one_room(house: House, group: Group) -> None:
    """All hear all, nothing twice, and the group gets as many datagrams as from one directory."""
    second = House("--interface", "127.0.0.1")
    try:
        address, port = group.place
        second.call(second.caller(), "makeroom", name=NAME, address=address, port=port)
        here, there = house.caller(), second.caller()
        first_told = enter(house, here, X, "full")
        second_told = enter(second, there, Y, "full")

        def both(done: Any) -> None:
            def look() -> Any:
                second.tick()
                return done()

            house.until(look)

        said_here = [data(X, b"%d" % number) for number in range(100)]
        said_there = [data(Y, b"%d" % number) for number in range(100)]
        said_by_group = [data(Z, b"%d" % number) for number in range(100)]
        for one, two, three in zip(said_here, said_there, said_by_group):
            here.send(room_frame(first_told["handle"], one))
            there.send(room_frame(second_told["handle"], two))
            group.say(three)
            both(lambda: True)
        both(lambda: here.read() or len(here.relayed) >= 200)
        both(lambda: there.read() or len(there.relayed) >= 200)
        both(lambda: len(group.read()) >= 200)
        for _ in range(20):
            both(lambda: True)
        for sock in (here, there):
            sock.read()
        found = {sock: [parse_down(it) for it in sock.relayed] for sock in (here, there)}
        for sock, others in ((here, said_there), (there, said_here)):
            heard = sorted(parsed[2] for parsed in found[sock] if parsed is not None)
            assert heard == sorted(others + said_by_group)
        assert sorted(it for it, _ in group.read()) == sorted(said_here + said_there)
        # A bulk answer finds its way between members of the two.
        here.relayed.clear()
        there.relayed.clear()
        here.send(room_frame(first_told["handle"], nack(X, to=Y)))
        both(lambda: there.read() or there.relayed)
        there.send(member_frame(second_told["handle"], bytes.fromhex(X), data(Z, flags=1)))
        both(lambda: here.read() or here.relayed)
        assert [parse_down(it) for it in here.relayed] == [
            (TO_ROOM, first_told["handle"], data(Z, flags=1))
        ]
        assert len(group.read()) == 201  # the NACK, and no answer
    finally:
        second.close()
