"""A connection to somebody else's server: every state, real sockets on loopback, TLS too."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from evloop.net.channel import CLOSED, OPEN, Channel
from evloop.net.limits import CHANNEL_OPEN_S, CHANNEL_UNSENT_BYTES_MAX
from evloop.net.tls import TlsPipe, client_context, server_context
from evloop.system.loop import Loop
from evloop.system.timers import nothing
from tests.support.clocks import PushedClock

HELLO = b"INFO {}\r\n"


class Scene:
    """A loop, a server's listening socket, and what a channel has told."""

    def __init__(self) -> None:
        self.clock = PushedClock()
        self.loop = Loop(clock=self.clock)
        self.server = socket.create_server(("127.0.0.1", 0))
        self.server.settimeout(10)
        self.peers: list[socket.socket] = []
        self.told: list[str] = []
        self.received = b""

    def accept(self) -> socket.socket:
        peer, _ = self.server.accept()
        self.peers.append(peer)
        return peer

    @property
    def port(self) -> int:
        port: int = self.server.getsockname()[1]
        return port

    def channel(self, host: str = "127.0.0.1", port: int | None = None, **more: object) -> Channel:
        return Channel(
            self.loop,
            host,
            self.port if port is None else port,
            opened=lambda: self.told.append("opened"),
            received=self._take,
            lost=lambda why: self.told.append(f"lost: {why}"),
            **more,  # type: ignore[arg-type]
        )

    def _take(self, data: bytes) -> None:
        self.received += data

    def until(self, true: Callable[[], bool]) -> None:
        timer = self.loop.call_at(self.loop.now + 10, lambda: self.told.append("too late"))
        while not true():
            assert "too late" not in self.told, self.told
            self.loop.tick()
        timer.cancel()


@pytest.fixture
def scene() -> Iterator[Scene]:
    scene = Scene()
    yield scene
    for one in (scene.server, *scene.peers):
        one.close()
    scene.loop.close()


def test_bytes_go_both_ways_and_the_end_is_told_once(scene: Scene) -> None:
    channel = scene.channel()
    assert not channel.send(b"too early")
    scene.until(lambda: channel.state is OPEN)
    peer = scene.accept()
    assert channel.send(b"PING\r\n")
    assert peer.recv(100) == b"PING\r\n"
    peer.sendall(b"PONG\r\n")
    scene.until(lambda: scene.received == b"PONG\r\n")
    peer.close()
    scene.until(lambda: channel.state is CLOSED)
    assert scene.told == ["opened", "lost: it closed the connection"]
    assert not channel.send(b"too late")
    channel.close()
    assert not scene.loop.watches


def test_nobody_there_is_told_in_words(scene: Scene) -> None:
    scene.server.close()
    free = socket.create_server(("127.0.0.1", 0))
    port = free.getsockname()[1]
    free.close()
    channel = scene.channel(port=port)
    scene.until(lambda: channel.state is CLOSED)
    assert scene.told == ["lost: Connection refused"]


def test_the_next_address_is_tried(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    free = socket.create_server(("127.0.0.1", 0))
    dead = free.getsockname()
    free.close()
    found = [(socket.AF_INET, dead), (socket.AF_INET, ("127.0.0.1", scene.port))]

    def look_up(loop: Loop, host: str, port: int, done: Callable[..., object]) -> None:
        loop.defer(lambda: done(found, ""))

    monkeypatch.setattr("evloop.net.channel.Lookup", look_up)
    channel = scene.channel(host="etcd.example")
    scene.until(lambda: channel.state is OPEN)
    assert scene.told == ["opened"]


def test_a_name_that_nobody_knows_is_told(scene: Scene) -> None:
    channel = scene.channel(host="a\x00b")
    scene.until(lambda: channel.state is CLOSED)
    assert scene.told == ["lost: that is no host name"]


def test_who_does_not_answer_the_handshake_is_given_up(scene: Scene) -> None:
    channel = scene.channel(context=client_context())
    scene.until(lambda: channel.state == "shaking")
    scene.clock.ahead = CHANNEL_OPEN_S + 1
    scene.until(lambda: channel.state is CLOSED)
    assert scene.told == ["lost: it does not answer"]


def test_no_more_than_the_cap_waits_for_a_peer_that_does_not_read(scene: Scene) -> None:
    channel = scene.channel()
    scene.until(lambda: channel.state is OPEN)
    piece = b"x" * 65_536
    taken = 0
    while channel.send(piece):
        taken += len(piece)
        assert taken < 64 * 2**20
    assert CHANNEL_UNSENT_BYTES_MAX - len(piece) < channel.unsent <= CHANNEL_UNSENT_BYTES_MAX
    peer = scene.accept()
    peer.setblocking(False)
    read = 0
    while read < taken:
        scene.loop.call_at(scene.loop.now + 0.01, nothing)
        scene.loop.tick()
        try:
            read += len(peer.recv(2**20))
        except BlockingIOError:
            continue
    assert read == taken and channel.unsent == 0
    assert channel.send(piece)
    peer.close()


def test_close_says_nothing_in_any_state(scene: Scene) -> None:
    resolving = scene.channel()
    resolving.close()
    connecting = scene.channel()
    scene.until(lambda: connecting.state == "connecting")
    connecting.close()
    opened = scene.channel()
    scene.until(lambda: opened.state is OPEN)
    opened.close()
    opened.close()
    scene.loop.call_at(scene.loop.now, nothing)
    scene.loop.tick()
    assert not scene.loop.watches
    assert scene.told == ["opened"]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder: Path = tmp_path_factory.mktemp("channel")
    cert, key = str(folder / "cert.pem"), str(folder / "key.pem")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-keyout", key, "-out", cert, "-days", "2", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
        ],
        check=True,
        capture_output=True,
        timeout=60,
    )
    return cert, key


def serve_tls(scene: Scene, certificate: tuple[str, str], first: bytes) -> Callable[[bytes], bytes]:
    """Accept one connection, say `first` in plain, then TLS; what it returns sends and receives."""
    peer = scene.accept()
    peer.sendall(first)
    peer.setblocking(False)
    pipe = TlsPipe(server_context(*certificate), server_side=True)

    def exchange(data: bytes) -> bytes:
        plain = b""
        peer.sendall(pipe.start() + pipe.send(data))
        try:
            came, wire = pipe.receive(peer.recv(65_536))
            plain += came
            peer.sendall(wire)
        except BlockingIOError:
            pass
        return plain

    return exchange


@pytest.mark.parametrize("late", [False, True], ids=["at once", "after the first words"])
def test_tls(scene: Scene, certificate: tuple[str, str], late: bool) -> None:
    context = client_context(certificate[0])
    channel = scene.channel(context=None if late else context)
    scene.until(lambda: channel.state in (OPEN, "shaking"))
    exchange = serve_tls(scene, certificate, HELLO if late else b"")
    if late:
        scene.until(lambda: scene.received == HELLO)
        channel.start_tls(context)
        assert not channel.send(b"too early")
    heard = b""

    def shaken() -> bool:
        nonlocal heard
        heard += exchange(b"")
        return channel.state is OPEN

    scene.until(shaken)
    assert scene.told == ["opened"] * (2 if late else 1)
    assert channel.send(b"CONNECT {}\r\n")
    scene.until(lambda: bool(exchange(b"")) or True)
    exchange(b"PING\r\n")
    scene.until(lambda: scene.received.endswith(b"PING\r\n"))
    channel.close()


def test_a_certificate_that_nobody_signed_is_told(
    scene: Scene, certificate: tuple[str, str], tmp_path: Path
) -> None:
    other = tmp_path / "other.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-keyout", str(tmp_path / "k"), "-out", str(other), "-subj", "/CN=x"),
        ],
        check=True,
        capture_output=True,
        timeout=60,
    )
    channel = scene.channel(context=client_context(str(other)))
    scene.until(lambda: channel.state == "shaking")
    exchange = serve_tls(scene, certificate, b"")

    def over() -> bool:
        if channel.state is not CLOSED:
            exchange(b"")
        return channel.state is CLOSED

    scene.until(over)
    [told] = scene.told
    assert told.startswith("lost: ") and "certificate" in told
