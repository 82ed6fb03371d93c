"""`probe` and `probed`: what they do, and what a stranger cannot make them do."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from evloop.daemon.limits import PROBE_S, PROBES_BURST, PROBES_MAX
from evloop.room.limits import PROBES_SENT
from evloop.room.reliable.packets import ASKER, DIRECTORY, PROBE, Codec, probe_body
from tests.support.live import Caller, House

NONCE = "1122334455667788"


@pytest.fixture
def house() -> Iterator[House]:
    house = House("--interface", "127.0.0.1")
    yield house
    house.close()


class Asker:
    """The other side, by hand: a socket in the group, and one for what comes alone."""

    def __init__(self) -> None:
        self.alone = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.alone.bind(("127.0.0.1", 0))
        self.alone.setblocking(False)
        self.group = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.group.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.group.setblocking(False)
        self.place: tuple[str, int] = ("", 0)
        self.heard: list[Any] = []
        self.heard_alone: list[Any] = []

    @property
    def port(self) -> int:
        port: int = self.alone.getsockname()[1]
        return port

    def join(self, result: dict[str, Any]) -> None:
        self.place = result["group"], result["port"]
        self.group.bind(self.place)
        member = socket.inet_aton(self.place[0]) + socket.inet_aton("127.0.0.1")
        self.group.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)

    @property
    def codec(self) -> Codec:
        return Codec("{}:{}".format(*self.place))

    def pack(self, index: int) -> bytes:
        body = probe_body(int(NONCE, 16), 0, ASKER, index, PROBES_SENT, 55)
        return self.codec.pack(PROBE, 0, b"\7" * 8, 0, 0, body)

    def send(self, *datagrams: bytes, to: tuple[str, int] | None = None) -> None:
        """To the group, or to one."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            by = socket.inet_aton("127.0.0.1")
            sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, by)
            for datagram in datagrams:
                sender.sendto(datagram, to or self.place)

    def drain(self, sock: socket.socket) -> list[Any]:
        """The PROBEs that have come in all to the group, or to me alone, opened."""
        heard = self.heard if sock is self.group else self.heard_alone
        while True:
            try:
                packet = self.codec.open(sock.recv(2_048))
            except BlockingIOError:
                return heard
            heard.append(packet)

    def close(self) -> None:
        self.alone.close()
        self.group.close()


@pytest.fixture
def asker() -> Iterator[Asker]:
    asker = Asker()
    yield asker
    asker.close()


def probe(house: House, caller: Caller, udp: int = 40_000, **place: Any) -> dict[str, Any]:
    """The reply to `probe`; of a fresh group unless a place is given."""
    place = place or {"fresh": True}
    return house.call(caller, "probe", nonce=NONCE, udp=udp, **place)


def pass_time(house: House, seconds: float) -> None:
    """As `House.skip`, in steps in which each datagram of a burst has its time."""
    for _ in range(int(seconds / 0.003) + 1):
        house.skip(0.003)


def code_of(reply: dict[str, Any]) -> tuple[int, str]:
    return reply["error"]["code"], reply["error"]["data"]["reason"]


def test_both_sides_hear_each_other(house: House, asker: Asker) -> None:
    caller = house.caller()
    house.call(caller, "makeroom", name="lab", address="239.255.7.1", port=25_751)
    result = probe(house, caller, asker.port, name="LAB")["result"]
    assert (result["group"], result["port"]) == ("239.255.7.1", 25_751)
    assert (result["address"], result["prefix"]) == ("127.0.0.1", 8)
    assert (result["interface"], result["seen_as"]) == ("lo", "127.0.0.1")
    asker.join(result)
    house.skip(0.25)
    house.until(lambda: len(asker.drain(asker.group)) == 20)
    assert [packet[5][2:] for packet in asker.heard] == [(DIRECTORY, n, 20) for n in range(20)]
    house.skip(0.15)
    asker.send(*map(asker.pack, range(PROBES_SENT)), b"anything")
    asker.send(asker.pack(3), to=("127.0.0.1", result["udp"]))
    house.tick(20)
    house.skip(0.8)
    report = house.call(caller, "probed", nonce=NONCE)["result"]
    assert report["sent"] == report["heard"] == report["own"] == 20
    assert report["foreign"] == {"127.0.0.1": 1}
    assert (report["heard_long"], report["unicast"], report["refused"]) == (10, 1, 0)
    assert set(report["ladder"]) == {"wire", "ip", "mcast", "rp_filter", "rcvbuf"}
    assert len(json.dumps(report)) < 1_000
    assert len(asker.drain(asker.alone)) == 5  # to the address of the connection


def test_long_and_short_ones_take_turns(house: House, asker: Asker) -> None:
    asker.join(probe(house, house.caller(), asker.port)["result"])
    house.skip(0.25)
    sizes: list[int] = []

    def came() -> bool:
        try:
            sizes.append(len(asker.group.recv(2_048)))
        except BlockingIOError:
            return False
        return len(sizes) == 20

    house.until(came)
    assert sizes == [55, 1_200] * 10


def test_a_fresh_group_is_one_that_no_room_has(house: House) -> None:
    caller = house.caller()
    house.call(caller, "makeroom", name="lab")
    result = probe(house, caller)["result"]
    assert result["group"].startswith("239.255.")
    room = house.call(caller, "enter", name="lab")["result"]["room"]
    assert (result["group"], result["port"]) != (room["address"], room["port"])


@pytest.mark.parametrize(
    ("mode", "port", "probed"), [("reliable", 5_751, 5_751), ("plain", 5_751, 5_752),
                                 ("plain", 65_535, 65_534)]
)  # fmt: skip
def test_a_plain_room_is_probed_on_the_port_beside(
    house: House, mode: str, port: int, probed: int
) -> None:
    caller = house.caller()
    house.call(caller, "makeroom", name="lab", address="239.255.7.9", port=port, mode=mode)
    assert probe(house, caller, name="lab")["result"]["port"] == probed
    other = house.caller()
    reply = probe(house, other, address="239.255.7.9", port=port)
    assert reply["result"]["port"] == probed


def test_a_place_that_is_not_listed_is_probed_on_the_port_beside(house: House) -> None:
    reply = probe(house, house.caller(), address="239.255.7.9", port=5_751)
    assert reply["result"]["port"] == 5_752


def test_no_such_room(house: House) -> None:
    assert code_of(probe(house, house.caller(), name="lab")) == (3, "no_such_room")


@pytest.mark.parametrize(
    "params",
    [
        {"nonce": NONCE, "udp": 40_000},
        {"nonce": NONCE, "udp": 40_000, "fresh": False},
        {"nonce": NONCE, "udp": 40_000, "fresh": True, "name": "lab"},
        {"nonce": "1122", "udp": 40_000, "fresh": True},
        {"nonce": "112233445566778X", "udp": 40_000, "fresh": True},
    ],
)
def test_what_is_no_probe(house: House, params: dict[str, Any]) -> None:
    reply = house.call(house.caller(), "probe", **params)
    assert code_of(reply) == (-32602, "bad_probe")


def test_who_asks_and_has_gone_is_no_mistake_of_ours(house: House) -> None:
    caller = house.caller()
    house.call(caller, "ping")
    caller.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    caller.ask("probe", nonce=NONCE, udp=40_000, fresh=True)
    caller.close()  # by a reset: nobody can be asked any more who was at the other end
    house.until(lambda: not house.dispatcher.connections)
    assert not [line for line in house.lines if "rror" in line]


@pytest.mark.parametrize("udp", [0, 53, 1_023, 65_536, -1])
def test_no_privileged_port_is_a_target(house: House, udp: int) -> None:
    assert code_of(probe(house, house.caller(), udp)) == (-32602, "bad_port")


def test_no_probe() -> None:
    house = House("--interface", "127.0.0.1", "--no-probe")
    try:
        reply = probe(house, house.caller())
        assert code_of(reply) == (8, "no_probe")
        assert "--no-probe" in reply["error"]["message"]
    finally:
        house.close()


def test_no_interface(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    from evloop.base.errors import SetupError
    from evloop.daemon import prober

    def none(*_: object) -> None:
        raise SetupError("this machine has no network", 1)

    monkeypatch.setattr(prober, "choose_interface", none)
    reply = probe(house, house.caller())
    assert code_of(reply) == (8, "no_probe")
    assert "no network" in reply["error"]["message"]


def test_a_connection_has_one_probe_at_a_time(house: House) -> None:
    caller = house.caller()
    assert "result" in probe(house, caller)
    reply = probe(house, caller)
    assert code_of(reply) == (6, "slow_down")
    assert 0 < reply["error"]["data"]["retry_after"] <= PROBE_S


def test_the_report_comes_when_it_is_whole_and_ends_the_probe(house: House) -> None:
    caller = house.caller()
    probe(house, caller)
    reply = house.call(caller, "probed", nonce=NONCE)
    assert code_of(reply) == (6, "slow_down")
    assert 0 < reply["error"]["data"]["retry_after"] <= 1.1
    pass_time(house, 1.1)
    assert house.call(caller, "probed", nonce=NONCE)["result"]["sent"] == 20
    assert code_of(house.call(caller, "probed", nonce=NONCE)) == (8, "no_probe")
    assert "result" in probe(house, caller)  # at once


def test_who_comes_late_gets_the_report_of_then(house: House) -> None:
    caller = house.caller()
    probe(house, caller)
    pass_time(house, PROBE_S + 0.1)
    assert house.call(caller, "probed", nonce=NONCE)["result"]["sent"] == 20


def test_the_report_is_for_the_connection_that_asked(house: House) -> None:
    caller, other = house.caller(), house.caller()
    probe(house, caller)
    house.skip(1.1)
    assert code_of(house.call(other, "probed", nonce=NONCE)) == (8, "no_probe")
    assert code_of(house.call(caller, "probed", nonce="0" * 16)) == (8, "no_probe")


def test_probed_is_not_of_a_batch(house: House) -> None:
    caller = house.caller()
    member = {"jsonrpc": "2.0", "id": 1, "method": "probed", "params": {"nonce": NONCE}}
    payload = json.dumps([member]).encode()
    caller.send(struct.pack("!I", len(payload)) + payload)
    ((reply,),) = house.until(lambda: caller.read() or caller.got)
    assert code_of(reply) == (-32600, "not_in_batch")


def test_an_address_has_a_burst_and_then_one_in_five_seconds(house: House) -> None:
    for _ in range(PROBES_BURST):
        caller = house.caller()
        assert "result" in probe(house, caller)
        house.skip(1.1)
        house.call(caller, "probed", nonce=NONCE)
    house.skip(0.1)
    asked = 0
    waited = 0.0
    while "error" in (reply := probe(house, house.caller())):
        assert code_of(reply) == (6, "slow_down")
        wait = reply["error"]["data"]["retry_after"]
        assert 0 < wait <= 5
        house.skip(wait + 0.01)
        waited += wait
        asked += 1
        assert asked < 5
    assert asked == 1


def test_four_at_once_whoever_asks(house: House) -> None:
    callers = [house.caller(f"127.0.0.{n}") for n in range(2, PROBES_MAX + 3)]
    replies = [probe(house, caller) for caller in callers]
    assert all("result" in reply for reply in replies[:-1])
    assert code_of(replies[-1]) == (6, "slow_down")
    callers[0].close()
    house.until(lambda: "result" in probe(house, callers[-1]))


def test_sockets_are_closed_after_two_seconds(house: House) -> None:
    caller = house.caller()
    probe(house, caller)
    watched = len(house.loop.watches)
    house.skip(PROBE_S + 0.1)
    assert len(house.loop.watches) == watched - 2


def test_a_connection_that_ends_takes_its_probe_along(house: House) -> None:
    caller = house.caller()
    before = len(house.loop.watches)
    probe(house, caller)
    caller.close()
    house.until(lambda: len(house.loop.watches) <= before)


def test_ten_thousand_probes(house: House, asker: Asker) -> None:
    """Of as many connections and from as many addresses as they like: four bursts at once, and
    nothing that grows."""
    callers = [house.caller(f"127.0.1.{n}") for n in range(1, 51)]
    for one in callers:
        house.call(one, "ping")
    before = len(house.loop.watches)
    got = 0
    asked: dict[str, Any] = {"nonce": NONCE, "udp": asker.port, "fresh": True}
    for _ in range(200):
        numbers = [(one, one.ask("probe", **asked)) for one in callers]
        for one, number in numbers:
            reply: Any = house.until(partial(one.reply, number))
            if "result" in reply:
                got += 1
            else:
                assert code_of(reply) == (6, "slow_down")
            one.got.clear()
        assert len(house.loop.watches) <= before + 2 * PROBES_MAX
        house.skip(0.05)
    assert PROBES_MAX <= got <= PROBES_MAX * (1 + 200 * 0.1 / PROBE_S)
    assert house.call(callers[0], "ping")["result"] == {}
    house.skip(PROBE_S)
    assert len(house.loop.watches) == before
