"""The NATS link against a server that the test plays, and against nats-server."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from time import monotonic
from typing import Any

import pytest

from evloop.net.limits import NATS_PING_S, NATS_RETRY_S_MAX, NATS_SILENCE_S
from evloop.net.nats import READY, WAITING, NatsLink
from evloop.net.tls import client_context
from evloop.system.loop import Loop
from evloop.system.timers import nothing
from tests.support.clocks import PushedClock

INFO = b'INFO {"version":"2.9.10","max_payload":1048576} \r\n'


class Scene:
    """A loop, a listening socket for the server that the test plays, and what the link has told."""

    def __init__(self) -> None:
        self.clock = PushedClock()
        self.loop = Loop(clock=self.clock)
        self.server = socket.create_server(("127.0.0.1", 0))
        self.server.settimeout(10)
        self.peers: list[socket.socket] = []
        self.links: list[NatsLink] = []
        self.told: list[str] = []
        self.messages: list[tuple[str, str, bytes]] = []

    def link(self, *ports: int, context: Any = None, **fields: Any) -> NatsLink:
        servers = [("127.0.0.1", port) for port in ports or (self.server.getsockname()[1],)]
        link = NatsLink(self.loop, servers, {"name": "evloop t", **fields}, context, Random(1))
        link.ready = lambda: self.told.append("ready")
        link.lost = lambda why: self.told.append(f"lost {why}")
        link.refused = lambda words: self.told.append(f"refused {words}")
        link.message = lambda sid, subject, data: self.messages.append((sid, subject, data))
        self.links.append(link)
        return link

    def accept(self) -> socket.socket:
        peer, _ = self.server.accept()
        peer.setblocking(False)
        self.peers.append(peer)
        return peer

    def until(self, true: Callable[[], bool]) -> None:
        end = monotonic() + 10  # of real time: a test pushes the loop's clock
        while not true():
            assert monotonic() < end, self.told
            self.loop.call_at(self.loop.now + 0.02, nothing)
            self.loop.tick()

    def read(self, peer: socket.socket, end: bytes) -> bytes:
        """What the link has sent to `peer`, when it ends in `end`."""
        heard = b""

        def ended() -> bool:
            nonlocal heard
            try:
                heard += peer.recv(65_536)
            except BlockingIOError:
                pass
            return heard.endswith(end)

        self.until(ended)
        return heard

    def ready(self, **fields: Any) -> tuple[NatsLink, socket.socket]:
        link = self.link(**fields)
        self.until(lambda: link.state == "greeting")
        peer = self.accept()
        peer.sendall(INFO)
        self.read(peer, b"PING\r\n")
        peer.sendall(b"PONG\r\n")
        self.until(lambda: link.state == READY)
        return link, peer


@pytest.fixture
def scene() -> Iterator[Scene]:
    scene = Scene()
    yield scene
    for link in scene.links:
        link.close()
    for one in (scene.server, *scene.peers):
        one.close()
    scene.loop.close()


def test_it_greets_and_says_what_it_wants(scene: Scene) -> None:
    link = scene.link(user="north", **{"pass": "secret"})
    assert not link.publish(b"a", [b"too early"])
    scene.until(lambda: link.state == "greeting")
    peer = scene.accept()
    peer.sendall(INFO)
    said = scene.read(peer, b"PING\r\n").split(b"\r\n")[0]
    assert said.startswith(b"CONNECT ")
    said_of_itself = {"name": "evloop t", "user": "north", "pass": "secret"}
    how = {"verbose": False, "pedantic": False, "echo": False}
    assert json.loads(said[8:]) == {**how, **said_of_itself}
    assert scene.told == []
    peer.sendall(b"PONG\r\n")
    scene.until(lambda: scene.told == ["ready"])
    assert link.subscribe("evloop.main.r.*.x", 7) and link.publish(b"s.t", [b"\r\n\x00"])
    assert scene.read(peer, b"\x00\r\n") == b"SUB evloop.main.r.*.x 7\r\nPUB s.t 3\r\n\r\n\x00\r\n"
    peer.sendall(b"PING\r\nMSG s.u 7 2\r\nhi\r\n")
    scene.until(lambda: scene.messages == [("7", "s.u", b"hi")])
    assert scene.read(peer, b"PONG\r\n") == b"PONG\r\n"


def test_a_silent_server_is_asked_and_then_left(scene: Scene) -> None:
    link, peer = scene.ready()
    scene.clock.ahead += NATS_PING_S + 0.1
    assert scene.read(peer, b"PING\r\n") == b"PING\r\n"
    peer.sendall(b"PONG\r\n")
    scene.clock.ahead += NATS_SILENCE_S - NATS_PING_S - 0.2
    scene.loop.tick()
    assert link.state == READY
    scene.clock.ahead += NATS_PING_S + 0.2
    scene.read(peer, b"PING\r\n")
    scene.clock.ahead += NATS_SILENCE_S
    scene.until(lambda: link.state == WAITING)
    assert scene.told[1:] == [f"lost {link.server}: it is silent"]
    scene.clock.ahead += NATS_RETRY_S_MAX
    scene.until(lambda: link.state == "greeting")


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (b"-ERR 'Authorization Violation'\r\n", "Authorization Violation"),
        (b"-ERR 'Stale Connection'\r\nPING\r\n", "Stale Connection"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "no NATS: a line that begins 'SSH-2.0-OpenSSH_'"),
    ],
)
def test_the_words_of_the_server_are_told(scene: Scene, said: bytes, told: str) -> None:
    link, peer = scene.ready()
    peer.sendall(said)
    scene.until(lambda: link.state == WAITING)
    assert scene.told[1:] == [f"lost {link.server}: {told}"]
    assert not link.publish(b"a", [b"b"])


def test_a_subject_that_it_may_not_use_does_not_end_the_connection(scene: Scene) -> None:
    link, peer = scene.ready()
    peer.sendall(b"-ERR 'Permissions Violation for Publish to \"a\"'\r\nMSG s 1 1\r\nx\r\n")
    scene.until(lambda: bool(scene.messages))
    words = 'Permissions Violation for Publish to "a"'
    assert scene.told[1:] == [f"refused {link.server}: {words}"] and link.state == READY


def test_the_next_server_is_tried_and_patience_grows_to_its_bound(scene: Scene) -> None:
    free = socket.create_server(("127.0.0.1", 0))
    dead = free.getsockname()[1]
    free.close()
    link = scene.link(dead, dead)
    waits = []
    for tries in range(1, 9):
        scene.until(lambda tries=tries: len(scene.told) == tries)  # type: ignore[misc]
        before = scene.clock.ahead
        while link.state == WAITING and len(scene.told) == tries:
            scene.clock.ahead += 0.05
            scene.loop.call_at(scene.loop.now, nothing)
            scene.loop.tick()
        waits.append(scene.clock.ahead - before)
    assert scene.told[0] == f"lost 127.0.0.1:{dead}: Connection refused"
    assert waits[0] <= 0.6 and NATS_RETRY_S_MAX / 2 - 0.5 <= waits[-1] <= NATS_RETRY_S_MAX + 0.5


@pytest.mark.parametrize(
    ("with_tls", "info", "why"),
    [
        (False, b'{"tls_required":true}', "it wants TLS; --bridge-ca says who signed its"),
        (True, b"{}", "it speaks no TLS, and --bridge-ca asks for it"),
    ],
)
def test_tls_is_spoken_if_and_only_if_it_was_asked_for(
    scene: Scene, with_tls: bool, info: bytes, why: str
) -> None:
    link = scene.link(context=client_context() if with_tls else None)
    scene.until(lambda: link.state == "greeting")
    scene.accept().sendall(b"INFO %b\r\n" % info)
    scene.until(lambda: link.state == WAITING)
    assert scene.told[0].startswith(f"lost {link.server}: {why}")


# -- the real thing --------------------------------------------------------------------------------

NATS = shutil.which("nats-server")


class RealServer:
    """nats-server on a port of loopback."""

    def __init__(self, *options: str) -> None:
        held = socket.create_server(("127.0.0.1", 0))
        self.port: int = held.getsockname()[1]
        held.close()
        assert NATS is not None
        self.process = subprocess.Popen(
            [NATS, "-a", "127.0.0.1", "-p", str(self.port), *options],
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )

    def end(self) -> None:
        self.process.kill()
        self.process.wait(10)


@pytest.mark.skipif(NATS is None, reason="no nats-server here")
@pytest.mark.parametrize("way", ["open", "password", "token", "TLS"])
def test_two_links_over_a_real_server(scene: Scene, way: str, tmp_path: Path) -> None:
    options: list[str] = []
    fields: dict[str, Any] = {}
    context = None
    if way == "password":
        options = ["--user", "north", "--pass", "secret"]
        fields = {"user": "north", "pass": "secret"}
    elif way == "token":
        options, fields = ["--auth", "secret"], {"auth_token": "secret"}
    elif way == "TLS":
        cert, key = str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt"),
                *("ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-out", cert),
                *("-days", "2", "-subj", "/CN=x", "-addext", "subjectAltName=IP:127.0.0.1"),
            ],
            check=True,
            capture_output=True,
            timeout=60,
        )
        options = ["--tls", "--tlscert", cert, "--tlskey", key]
        context = client_context(cert)
    server = RealServer(*options)
    try:
        one, other = (scene.link(server.port, context=context, **fields) for _ in range(2))

        def joined() -> bool:
            scene.clock.ahead += 0.02  # so that a server which is not up yet is tried again soon
            return one.state == other.state == READY

        scene.until(joined)
        assert one.subscribe("evloop.main.r.efff0701-5751.*", 3)
        assert other.subscribe("evloop.main.r.efff0701-5751.*", 4)
        subject, payload = b"evloop.main.r.efff0701-5751.south", bytes(range(256)) * 4

        def subscribed() -> bool:
            """The server reads its connections in any order: a busy one may be late with one."""
            assert other.publish(subject, [b"who hears this?"])
            return bool(scene.messages)

        scene.until(subscribed)
        for number in range(20):
            assert other.publish(subject, [b"%d" % number + payload])
        scene.until(lambda: bool(scene.messages) and scene.messages[-1][2] == b"19" + payload)
        assert {sid for sid, _, _ in scene.messages} == {"3"}, "who speaks does not hear itself"
        told = len(scene.told)
        server.end()
        scene.until(lambda: one.state == other.state == WAITING)
        assert scene.told[told:] == [f"lost {one.server}: it closed the connection"] * 2
    finally:
        server.end()
