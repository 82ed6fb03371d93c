"""What a bad or slow member of a relayed room costs: bounds hold, and the others notice nothing."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest

from evloop.daemon.connection import Connection
from evloop.daemon.limits import (
    RELAY_LEGS_PER_ADDRESS_MAX,
    RELAY_OUT_BURST_BYTES,
    RELAY_QUEUE_BYTES,
    RELAY_UP_BURST_BYTES,
    RELAY_UP_BYTES_PER_S,
)
from evloop.daemon.relayed_room import FRAME, GRANT, RATE
from evloop.directory.relay_frames import parse_down, room_frame
from evloop.net.stream import CLOSED, OPEN
from evloop.net.tcp import unacknowledged
from tests.daemon.test_relay import NAME, X, Y, Z, data, enter
from tests.support.live import Caller, House, request
from tests.support.tls_files import Files, trusting

SENT_S = 35


@pytest.fixture
def house() -> Iterator[House]:
    # A room without a leg, so that nothing but the relay is measured, and no group is flooded.
    house = House("--change-rate", "0", "--interface", "127.0.0.1")
    relay_of = house.dispatcher.make_relay
    assert relay_of is not None
    relay = house.dispatcher.relay = relay_of()
    assert relay is not None
    relay.legs_max = 0
    house.call(house.caller(), "makeroom", name=NAME)
    yield house
    house.close()


def stream_of(house: House, caller: Caller) -> Connection:
    """The server's side of a caller."""
    port = caller.sock.getsockname()[1]
    return next(it for it in house.dispatcher.connections.values() if it.port == port)


def numbers(payloads: list[bytes]) -> list[int]:
    """Those that stand behind the header of each datagram."""
    found = []
    for payload in payloads:
        parsed = parse_down(payload)
        assert parsed is not None
        found.append(int.from_bytes(parsed[2][24:28], "big"))
    return found


def numbered(number: int, sender: str, size: int = 1_000) -> bytes:
    return data(sender, number.to_bytes(4, "big").ljust(size - 24, b"."))


def test_a_member_that_sleeps_for_35_seconds_is_not_cut(house: House) -> None:
    """40 kB/s are said meanwhile; the others lose nothing of it. Awake, it gets a little of what
    is old, then the newest, and its ping is answered."""
    talker, reader, sleeper = (house.caller() for _ in range(3))
    for caller, sender in ((talker, X), (reader, Y), (sleeper, Z)):
        handle = enter(house, caller, sender, "full")["handle"]
    stream = stream_of(house, sleeper)
    held = 0
    for number in range(SENT_S * 40):
        talker.send(room_frame(handle, numbered(number, X)))
        house.skip(1 / 40)
        reader.read()
        held = max(held, stream.queued)
        assert unacknowledged(stream.fileobj) < 200_000
    house.until(lambda: reader.read() or len(reader.relayed) >= SENT_S * 40)
    assert numbers(reader.relayed) == list(range(SENT_S * 40))
    assert 0 < held <= RELAY_QUEUE_BYTES
    sleeper.ask("ping")  # it wakes up
    house.until(lambda: sleeper.reply(sleeper.last_id))
    old = numbers(sleeper.relayed)
    assert old == list(range(len(old)))
    assert len(old) < SENT_S * 10
    assert sum(map(len, sleeper.relayed)) <= 200_000
    talker.send(room_frame(handle, numbered(5_000, X)))
    house.until(lambda: sleeper.read() or numbers(sleeper.relayed)[-1] == 5_000)
    assert not sleeper.closed
    drops: Any = house.dispatcher.metrics.figures()["relay_drops"]
    assert drops["stale"] + drops["slow"] == SENT_S * 40 - len(old)


def test_a_reply_to_one_that_sleeps_still_ends_it(house: House) -> None:
    """As without the relay: who does not read what was answered for 10 s is gone."""
    talker, sleeper = house.caller(), house.caller()
    enter(house, sleeper, Z, "full")
    handle = enter(house, talker, X, "full")["handle"]
    stream = stream_of(house, sleeper)
    for number in range(2_000):
        talker.send(room_frame(handle, numbered(number, X)))
        house.skip(1 / 40)
        if stream.queued:
            break
    house.skip(30)
    assert stream.state == OPEN
    sleeper.ask("ping")
    house.skip(9)
    assert stream.state == OPEN
    # The kernel may have acknowledged something meanwhile, and the span began anew: once at most.
    for _ in range(12):
        house.skip(1)
    assert stream.state == CLOSED


def test_ten_megabytes_a_second_up(house: House) -> None:
    """A second of it: what is over the rate is dropped, and nobody else waits for it."""
    talker, reader, flooder = (house.caller() for _ in range(3))
    for caller, sender in ((talker, X), (reader, Y), (flooder, Z)):
        handle = enter(house, caller, sender, "full")["handle"]
    frame = room_frame(handle, data(Z, bytes(1_000)))
    flood = frame * 10_000
    sent = 0
    answered = 0
    began = house.loop.now
    while sent < len(flood):
        sent += flooder.send(flood[sent : sent + 200_000])
        talker.send(room_frame(handle, data(X)))
        assert house.call(talker, "ping")["result"] == {}  # in its turn
        answered += 1
        reader.read()
    house.tick(20)
    reader.read()
    carried = sum(len(it) for it in reader.relayed if it[14:22] == bytes.fromhex(Z))
    granted = RELAY_UP_BURST_BYTES + (house.loop.now - began) * RELAY_UP_BYTES_PER_S
    assert carried <= granted + len(frame)
    assert len([it for it in reader.relayed if it[14:22] == bytes.fromhex(X)]) == answered
    drops: Any = house.dispatcher.metrics.figures()["relay_drops"]
    datagram = len(frame) - 10
    assert drops[RATE] >= len(flood) / len(frame) - granted / datagram - 2
    assert not flooder.closed
    assert house.dispatcher.metrics.figures()["connections_broken"] == {}


def test_ten_thousand_rooms_are_asked_for(house: House) -> None:
    """A connection is in 64 at most, and one address makes the directory join 32 groups at most."""
    relay = house.dispatcher.relay
    assert relay is not None
    relay.legs_max = 1_000
    opened: list[object] = []

    class Leg:
        source = "192.0.2.1:4000"
        works = True

        def close(self) -> None:
            opened.remove(self)

    def open_leg(*_: object) -> Any:
        opened.append(Leg())
        return opened[-1]

    relay.open_leg = open_leg
    greedy = house.caller()
    for number in range(100):
        house.call(greedy, "makeroom", name=f"r{number}")
    asked = b"".join(
        request("enter", number, {"name": f"r{number % 100}", "sender": X, "relay": "full"})
        for number in range(1, 10_001)
    )
    while asked:
        asked = asked[greedy.send(asked[:50_000]) :]
        house.tick()
        greedy.read()
    house.until(lambda: greedy.reply(10_000))
    granted = [it["result"]["multicast"] for it in greedy.got if "relay" in it.get("result", {})]
    assert len(relay.rooms) == 64
    assert sum(granted[:64]) == len(opened) == RELAY_LEGS_PER_ADDRESS_MAX
    assert relay.granted == 64
    reasons = {it["error"]["data"]["reason"] for it in greedy.got if "error" in it}
    assert reasons == {"too_many_rooms"}
    greedy.close()
    house.until(lambda: not relay.rooms)
    assert opened == []
    assert relay.granted == 0


def test_the_whole_server_sends_so_much_at_most(house: House) -> None:
    """Many members that are sent to: over the budget it is loss."""
    callers = [house.caller() for _ in range(40)]
    for number, caller in enumerate(callers):
        handle = enter(house, caller, f"{number + 1:016x}", "full")["handle"]
    frozen = house.loop.now

    def clock() -> float:
        return frozen

    house.clock = clock  # type: ignore[method-assign]
    relay = house.dispatcher.relay
    assert relay is not None
    allowed = sum(relay.may_send(100_000) for _ in range(1_000))
    assert allowed <= RELAY_OUT_BURST_BYTES / 100_000
    assert allowed >= RELAY_OUT_BURST_BYTES / 100_000 - 5
    callers[0].send(room_frame(handle, data(X, bytes(1_000))) * 100)
    number = callers[0].ask("ping")
    house.until(lambda: callers[0].reply(number))
    drops: Any = house.dispatcher.metrics.figures()["relay_drops"]
    assert drops["server_rate"] > 0


def _fuzzed(handle: int, rng: Random) -> bytes:
    kind = rng.choice((0x52, 0x55, 0x48, 0x00, 0xF5))
    head = bytes([0xF5, kind]) + rng.choice((handle, 0, 2**32 - 1)).to_bytes(4, "big")
    body = rng.choice((b"", bytes(8), data(X), data(X, bytes(rng.randrange(2_300)))))
    payload = (head + body)[: rng.choice((1, 2, 5, 6, 7, 14, 15, 5_000))]
    return len(payload).to_bytes(4, "big") + payload


@pytest.mark.parametrize("granted", [True, False])
def test_any_frames_of_the_relay_among_requests(house: House, granted: bool) -> None:
    """2,000 of them, cut anywhere: each request is answered once, in its order, and with a grant
    nothing else is."""
    rng = Random(16)
    caller, reader = house.caller(), house.caller()
    handle = enter(house, reader, Y, "full")["handle"]
    if granted:
        enter(house, caller, X, "full")
        caller.got.clear()
    stream = b""
    asked = []
    for number in range(2_000):
        stream += _fuzzed(handle, rng)
        if number % 10 == 0:
            asked.append(1_000 + number)
            stream += request("ping", asked[-1], {})
    while stream:
        cut = rng.randrange(1, 3_000)
        sent = caller.send(stream[:cut])
        stream = stream[sent:]
        house.tick()
        caller.read()
    house.until(lambda: caller.reply(asked[-1]))
    assert [it["id"] for it in caller.got if it["id"] is not None] == asked
    unread = [it["error"]["code"] for it in caller.got if it["id"] is None]
    assert set(unread) == (set() if granted else {-32700})
    assert len(unread) == (0 if granted else 2_000)
    if granted:
        drops: Any = house.dispatcher.metrics.figures()["relay_drops"]
        assert min(drops[FRAME], drops[GRANT]) > 100
    assert not caller.closed


# -- TLS -------------------------------------------------------------------------------------------


class TlsCaller(Caller):
    """The same, by TLS; what was written waits until the handshake is over."""

    def __init__(self, address: tuple[str, int], ca: str) -> None:
        super().__init__(address)
        context = trusting(ca)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")
        self.early = b""
        self.shaken = False
        self._shake()

    def _shake(self) -> None:
        try:
            self.tls.do_handshake()
            self.shaken = True
        except ssl.SSLWantReadError:
            pass
        self._flush()
        if self.shaken and self.early:
            early, self.early = self.early, b""
            self.send(early)

    def _flush(self) -> None:
        wire = self.outgoing.read()
        if wire:
            self.sock.setblocking(True)
            self.sock.sendall(wire)
            self.sock.setblocking(False)

    def send(self, data: bytes) -> int:
        if not self.shaken:
            self.early += data
        else:
            self.tls.write(data)
            self._flush()
        return len(data)

    def take(self, data: bytes) -> None:
        self.incoming.write(data)
        if not self.shaken:
            self._shake()
        try:
            while self.shaken:
                self.decoder.feed(self.tls.read(1 << 16))
        except ssl.SSLWantReadError:
            pass


def test_the_same_by_tls(tmp_path: Any) -> None:
    """Each has its own records; who sleeps is not cut there either."""
    files = Files(tmp_path)
    options = ("--tls-cert", files.cert, "--tls-key", files.key, "--interface", "127.0.0.1")
    house = House(*options)
    try:
        callers = [TlsCaller(house.address, files.ca) for _ in range(3)]
        house.callers += callers
        talker, reader, sleeper = callers
        house.call(talker, "makeroom", name=NAME)
        for caller, sender in zip(callers, (X, Y, Z)):
            handle = enter(house, caller, sender, "full")["handle"]
        for number in range(15 * 40):
            talker.send(room_frame(handle, numbered(number, X)))
            house.skip(1 / 40)
            reader.read()
        house.until(lambda: reader.read() or len(reader.relayed) >= 15 * 40)
        assert numbers(reader.relayed) == list(range(15 * 40))
        sleeper.ask("ping")
        house.until(lambda: sleeper.reply(sleeper.last_id))
        assert sum(map(len, sleeper.relayed)) <= 300_000
        talker.send(room_frame(handle, numbered(5_000, X)))
        house.until(lambda: sleeper.read() or numbers(sleeper.relayed)[-1] == 5_000)
    finally:
        house.close()


def test_the_room_in_the_kernel_is_small_with_a_grant(house: House) -> None:
    option = getattr(socket, "TCP_NOTSENT_LOWAT", None)
    if option is None:
        pytest.skip("this system has no such option")
    caller = house.caller()
    enter(house, caller, X, "off")
    stream = stream_of(house, caller)
    before = stream.fileobj.getsockopt(socket.IPPROTO_TCP, option)
    enter(house, caller, X, "up")
    assert stream.fileobj.getsockopt(socket.IPPROTO_TCP, option) == 16_384 != before
