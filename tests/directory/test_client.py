"""The client's link to a directory: a real server on the same loop, whose clock can skip."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from evloop.app.prompt import advised
from evloop.base.errors import EvloopError, Refused
from evloop.directory.client import (
    IDLE,
    READY,
    WAITING,
    DirectoryClient,
    NobodyThere,
    ProtocolMismatch,
    Unreachable,
)
from evloop.directory.limits import CONNECT_S_MAX, RECONNECT_S_MAX, REQUEST_S_MAX
from evloop.framing import FrameDecoder, pack_frame
from evloop.net.hub import Hub
from tests.support.live import House


class World(House):
    """A server, and a link on its loop."""

    def __init__(self) -> None:
        super().__init__()
        hub = Hub(self.loop)
        self.loop.before_sleep(hub.flush)
        rng = random.Random(1)
        self.link = DirectoryClient(self.loop, hub, lambda: rng, "test/1", lambda: "Mel")
        self.ready = 0
        self.lost: list[tuple[str, float]] = []
        self.news: list[tuple[str, dict[str, Any]]] = []
        self.answers: list[tuple[Any, EvloopError | None]] = []
        self.link.on_ready = self._ready
        self.link.on_lost = lambda why, delay: self.lost.append((why, delay))
        self.link.on_news = lambda method, params: self.news.append((method, params))

    def _ready(self) -> None:
        self.ready += 1

    def answer(self, value: object, error: EvloopError | None) -> None:
        self.answers.append((value, error))

    def connect(self, address: tuple[str, int] | None = None) -> EvloopError | None:
        self.answers.clear()
        host, port = address or self.address
        self.link.connect(host, port, self.answer)
        self.until(lambda: self.answers)
        return self.answers.pop()[1]

    def begin(self, listener: socket.socket) -> None:
        """Connect to `listener`, and do not wait."""
        host, port = listener.getsockname()
        self.link.connect(host, port, self.answer)

    def ask(self, method: str, **params: Any) -> tuple[Any, EvloopError | None]:
        self.answers.clear()
        self.link.request(method, params, self.answer)
        self.until(lambda: self.answers)
        return self.answers.pop()

    def cut(self) -> None:
        """The server loses the connection."""
        for connection in list(self.dispatcher.connections.values()):
            connection.abort("cut")


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.link.close()
    world.close()


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


def test_a_link_greets_asks_and_is_answered(world: World) -> None:
    assert world.connect() is None
    assert world.link.state == READY and world.ready == 1
    connection = next(iter(world.dispatcher.connections.values()))
    assert (connection.client, connection.name) == ("test/1", "Mel")
    value, error = world.ask("makeroom", name="lab")
    assert error is None and value["room"]["name"] == "lab"
    value, error = world.ask("makeroom", name="lab")
    assert isinstance(error, Refused) and error.reason == "room_exists"


def test_a_link_knows_which_directory_greeted_it(world: World, listener: socket.socket) -> None:
    world.connect()
    assert world.link.identity == world.dispatcher.store.identity != ""
    world.answers.clear()
    world.begin(listener)
    world.tick(5)
    peer, _ = listener.accept()
    with peer:  # greets as 0.1.0 does
        peer.sendall(pack_frame(b'{"jsonrpc":"2.0","id":2,"result":{"protocol":1,"version":7}}'))
        world.until(lambda: world.answers)
    assert world.link.state == READY and world.link.identity == ""


def test_answers_come_to_who_asked(world: World) -> None:
    world.connect()
    got: list[tuple[str, Any]] = []

    def note(name: str, value: object, error: EvloopError | None) -> None:
        got.append((name, value))

    for number in range(50):
        name = f"r{number}"
        world.link.request("makeroom", {"name": name}, partial(note, name))
    world.until(lambda: len(got) == 50)
    assert all(value["room"]["name"] == name for name, value in got)


def test_nobody_there_is_told_and_given_up(world: World, listener: socket.socket) -> None:
    address = listener.getsockname()
    listener.close()
    error = world.connect(address)
    assert isinstance(error, Unreachable) and "refused" in str(error)
    assert world.link.state == IDLE
    world.skip(2 * RECONNECT_S_MAX)
    assert world.link.state == IDLE and world.lost == []


def test_a_silent_directory_is_given_up_after_its_time(
    world: World, listener: socket.socket
) -> None:
    world.begin(listener)
    world.tick(10)
    world.skip(CONNECT_S_MAX + 1)
    assert "does not answer" in str(world.answers[0][1])
    assert isinstance(world.answers[0][1], Unreachable) and len(world.answers) == 1


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", ProtocolMismatch),
        (pack_frame(b"hello?"), ProtocolMismatch),
        (pack_frame(b'{"jsonrpc":"2.0","id":99,"result":{}}'), ProtocolMismatch),
        (pack_frame(b'{"jsonrpc":"2.0","id":1,"result":{"protocol":2}}'), ProtocolMismatch),
        (pack_frame(b'{"jsonrpc":"2.0","id":1,"result":7}'), ProtocolMismatch),
        (b"", Unreachable),
    ],
)
def test_who_is_no_directory_is_recognised(
    world: World, listener: socket.socket, words: bytes, kind: type[EvloopError]
) -> None:
    world.begin(listener)
    world.tick(5)
    peer, _ = listener.accept()
    peer.sendall(words)
    peer.shutdown(socket.SHUT_WR)
    world.until(lambda: world.answers)
    peer.close()
    assert type(world.answers[0][1]) is kind, world.answers
    assert world.link.state == IDLE


def test_who_turns_us_away_is_there(world: World, listener: socket.socket) -> None:
    world.begin(listener)
    world.tick(5)
    peer, _ = listener.accept()
    with peer:
        error = b'{"code":6,"message":"full"}'
        peer.sendall(pack_frame(b'{"jsonrpc":"2.0","id":null,"error":%b}' % error))
        peer.shutdown(socket.SHUT_WR)
        world.until(lambda: world.answers)
    error_told = world.answers[0][1]
    assert type(error_told) is Unreachable and str(error_told).endswith(": full")
    assert advised(error_told) is error_told


def test_a_lost_link_comes_back_by_itself(world: World) -> None:
    world.connect()
    world.cut()
    world.until(lambda: world.lost)
    assert world.link.state == WAITING
    with pytest.raises(Unreachable):
        world.link.request("ping", {}, world.answer)
    world.skip(1)
    world.until(lambda: world.ready == 2)
    assert world.ask("ping") == ({}, None)


def test_who_asks_again_when_the_link_is_lost_is_refused(world: World) -> None:
    """It is no link any more when those are told who wait for an answer."""
    assert world.connect() is None
    seen: list[tuple[int, str]] = []

    def again(_: object, error: EvloopError | None) -> None:
        assert error is not None
        try:
            world.link.request("getdir", {}, world.answer)
        except Unreachable as refused:
            seen.append((world.link.state, str(refused)))

    world.link.request("getdir", {}, again)
    world.cut()
    world.until(lambda: world.lost)
    assert [state for state, _ in seen] == [WAITING]
    assert "not connected" in seen[0][1]


def test_what_was_asked_and_not_answered_is_told(world: World) -> None:
    world.connect()
    world.link.request("ping", {}, world.answer)
    world.cut()
    world.until(lambda: world.answers)
    assert isinstance(world.answers[0][1], Unreachable) and len(world.answers) == 1


def test_the_back_off_grows_is_bounded_and_never_ends(world: World) -> None:
    world.connect()
    world.server.door.close()
    world.cut()
    world.until(lambda: world.lost)
    while len(world.lost) < 12:
        world.skip(RECONNECT_S_MAX)
        world.tick(20)
    delays = [delay for _, delay in world.lost]
    assert delays[0] <= 0.5 and max(delays) <= RECONNECT_S_MAX
    assert delays[-1] >= RECONNECT_S_MAX / 2
    assert len(set(delays)) == len(delays), "jitter keeps clients from coming back together"


def test_closing_is_final(world: World) -> None:
    world.connect()
    world.link.request("ping", {}, world.answer)
    world.link.close()
    assert isinstance(world.answers[0][1], Unreachable)
    world.skip(60)
    assert world.link.state == IDLE and world.lost == []
    world.until(lambda: not world.dispatcher.connections)


def test_connecting_anew_gives_up_the_old(world: World) -> None:
    world.connect()
    assert world.connect() is None
    world.until(lambda: len(world.dispatcher.connections) == 1)
    assert world.ask("ping") == ({}, None) and world.lost == []


def test_news_comes_in_order(world: World) -> None:
    world.connect()
    world.ask("watch")
    other = world.caller()
    for number in range(20):
        world.call(other, "makeroom", name=f"r{number}")
    world.until(lambda: len(world.news) == 20)
    versions = [params["version"] for _, params in world.news]
    assert versions == list(range(versions[0], versions[0] + 20))


def test_the_servers_goodbye_is_the_reason_of_the_loss(world: World) -> None:
    world.connect()
    (connection,) = world.dispatcher.connections.values()
    world.dispatcher.send_away(connection, "the server ends")
    world.until(lambda: world.lost)
    assert world.news == [("closing", {"reason": "the server ends"})]
    assert world.lost[0][0] == "the server ends"


def test_who_was_kicked_does_not_come_back_by_itself(world: World) -> None:
    world.connect()
    (connection,) = world.dispatcher.connections.values()
    world.dispatcher.send_away(connection, "the operator closed this connection", True)
    world.until(lambda: world.lost)
    assert world.lost == [("the operator closed this connection", float("inf"))]
    world.skip(2 * RECONNECT_S_MAX)
    assert world.link.state == IDLE and not world.dispatcher.connections
    assert world.connect() is None, "who asks for it is let in"
    world.cut()
    world.until(lambda: len(world.lost) == 2)
    assert world.lost[1][1] < RECONNECT_S_MAX, "and a loss after that is an ordinary one"


def test_a_server_that_talks_nonsense_later_is_left(world: World, listener: socket.socket) -> None:
    world.begin(listener)
    world.tick(5)
    peer, _ = listener.accept()
    decoder = FrameDecoder()
    peer.sendall(pack_frame(b'{"jsonrpc":"2.0","id":1,"result":{"protocol":1,"version":3}}'))
    world.until(lambda: world.ready)
    decoder.feed(peer.recv(1000))
    assert decoder.next_frame() is not None
    peer.sendall(pack_frame(b"\xff"))
    world.until(lambda: world.lost)
    peer.close()
    assert "no directory" in world.lost[0][0]


def test_a_bug_at_one_who_waits_keeps_no_other_waiting(world: World) -> None:
    faults: list[Exception] = []
    world.loop.on_error = lambda origin, error: faults.append(error)
    world.connect()
    world.answers.clear()

    def planted(value: object, error: EvloopError | None) -> None:
        raise ZeroDivisionError("planted")

    for done in (world.answer, planted, world.answer):
        world.link.request("ping", {}, done)
    world.link.close()
    assert len(world.answers) == 2 and len(faults) == 1


def test_a_directory_that_falls_silent_is_given_up_and_tried_anew(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process was stopped, or its machine is gone without a word: nothing comes, for ever."""
    world.connect()
    world.answers.clear()
    monkeypatch.setattr(world.dispatcher, "handle", lambda connection, frames: len(frames))
    for _ in range(2):
        world.link.request("getdir", {}, world.answer)
    world.skip(REQUEST_S_MAX - 1.0)
    assert world.answers == []
    world.skip(2.0)
    assert [str(error).partition(": ")[2] for _, error in world.answers] == [
        f"it has not answered in {REQUEST_S_MAX:g} s"
    ] * 2
    assert world.lost and world.link.state != READY
    monkeypatch.undo()
    world.skip(RECONNECT_S_MAX)
    world.until(lambda: world.link.state == READY)
    assert world.ask("ping")[0] == {}


def test_who_gives_up_is_told_and_a_late_answer_is_nobodys(world: World) -> None:
    world.connect()
    world.answers.clear()
    world.link.request("ping", {}, world.answer)
    world.link.give_up()
    assert len(world.answers) == 1 and "given up" in str(world.answers[0][1])
    world.tick(5)
    assert world.link.state == READY and len(world.answers) == 1
    assert world.ask("ping")[0] == {}


def test_giving_up_what_connects_ends_it(world: World, listener: socket.socket) -> None:
    world.begin(listener)
    world.link.give_up()
    assert world.link.state == IDLE and "given up" in str(world.answers[0][1])


def test_both_sides_give_up_what_nobody_acknowledges(world: World) -> None:
    """TCP_USER_TIMEOUT: while something is unacknowledged no keepalive is asked."""
    world.connect()
    connection = next(iter(world.dispatcher.connections.values()))
    assert world.link.wire is not None
    for sock in (world.link.wire.fileobj, connection.fileobj):
        timeout = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
        assert 0 < timeout <= 180_000


def test_a_socket_that_is_connected_to_itself_is_refused(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel gave it the directory's port, where nobody listens."""
    connect = socket.socket.connect
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        place = taken.getsockname()

    def to_itself(sock: socket.socket, address: Any) -> None:
        if address == place:
            sock.bind(place)
        connect(sock, address)

    monkeypatch.setattr(socket.socket, "connect", to_itself)
    error = world.connect(place)
    assert isinstance(error, NobodyThere) and "refused" in str(error)
