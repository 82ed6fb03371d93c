"""A link that is given more than a host and port: several servers, announced ones, one that moved.

Real servers on the same loop as the link, whose clock can skip.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from evloop.base.errors import SetupError
from evloop.directory.client import READY, WAITING, NobodyThere
from evloop.directory.limits import RECONNECT_S_MAX, SERVERS_MAX
from evloop.directory.target import Target, may_be_announced, targets_of
from tests.directory.test_client import World


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.link.close()
    world.close()


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def announced(port: int, *, id: str = "", first: int = 0) -> Target:
    ports = [first, port] if first else [port]
    addresses = [(socket.AF_INET, ("127.0.0.1", it)) for it in ports]
    return Target("127.0.0.1", ports[0], addresses=addresses, id=id, name="box")


def connect(world: World, *targets: Target) -> Exception | None:
    world.answers.clear()
    world.link.connect_to(targets, world.answer)
    world.until(lambda: world.answers)
    return world.answers.pop()[1]


def test_the_first_of_several_that_answers_is_taken(world: World) -> None:
    port = world.address[1]
    assert connect(world, Target("127.0.0.1", closed_port()), Target("127.0.0.1", port)) is None
    assert world.link.endpoint == f"127.0.0.1:{port}" and world.ready == 1
    bad = [Target("127.0.0.1", closed_port()) for _ in range(3)]
    error = connect(world, *bad)
    assert isinstance(error, NobodyThere) and bad[-1].endpoint in str(error)


def test_after_a_loss_the_next_one_is_tried(world: World) -> None:
    port = world.address[1]
    nobody = Target("127.0.0.1", closed_port())
    assert connect(world, Target("127.0.0.1", port), nobody) is None
    world.cut()
    world.until(lambda: world.link.state == WAITING)
    world.skip(2 * RECONNECT_S_MAX)
    world.until(lambda: world.link.state == READY)
    first, second = [why for why, _ in world.lost]
    assert nobody.endpoint not in first and nobody.endpoint in second
    assert world.link.endpoint == f"127.0.0.1:{port}"


def test_a_greeting_that_fails_is_told_as_one_loss(world: World) -> None:
    """Else the back-off would double twice, and of two servers one would never be tried."""
    assert world.connect() is None
    with socket.create_server(("127.0.0.1", 0)) as listener:
        world.cut()
        world.until(lambda: world.link.state == WAITING)
        told = len(world.lost)
        world.link.redirect(announced(listener.getsockname()[1]))
        accepted = []
        listener.setblocking(False)

        def come() -> bool:
            try:
                accepted.append(listener.accept()[0])
            except BlockingIOError:
                return False
            return True

        world.until(come)
        accepted[0].close()
        world.until(lambda: world.link.state == WAITING)
    assert len(world.lost) == told + 1


def test_the_addresses_of_an_announced_one_are_tried_in_their_order(world: World) -> None:
    port = world.address[1]
    assert connect(world, announced(port, first=closed_port())) is None
    assert world.link.endpoint == f"127.0.0.1:{port}"


def test_another_directory_at_the_announced_address_is_not_taken(world: World) -> None:
    port = world.address[1]
    error = connect(world, announced(port, id="ab" * 8))
    assert error is not None and "another directory answers there" in str(error)
    assert connect(world, announced(port, id=world.dispatcher.store.identity)) is None


def test_an_announced_one_that_was_started_again_is_the_same_place(world: World) -> None:
    """Without a state file it has another id then: who found it comes back like who typed it."""
    port = world.address[1]
    assert connect(world, announced(port, id=world.dispatcher.store.identity)) is None
    world.cut()
    world.until(lambda: world.link.state == WAITING)
    world.dispatcher.store.identity = "cd" * 8
    world.skip(RECONNECT_S_MAX)
    world.until(lambda: world.link.state == READY)
    assert world.link.identity == "cd" * 8


def test_a_directory_that_moved_is_tried_at_once_and_forgotten_when_it_is_wrong(
    world: World,
) -> None:
    port = world.address[1]
    assert connect(world, Target("127.0.0.1", port)) is None
    world.link.redirect(announced(closed_port()))
    assert world.link.state == READY, "it is not away"
    world.cut()
    world.until(lambda: world.link.state == WAITING)
    world.link.redirect(announced(port, id=world.link.identity))
    world.until(lambda: world.link.state == READY)
    world.cut()
    world.until(lambda: world.link.state == WAITING)
    world.link.redirect(announced(closed_port()))
    world.until(lambda: world.link.state == WAITING)
    world.skip(RECONNECT_S_MAX)
    world.until(lambda: world.link.state == READY)
    target = world.link.target
    assert target is not None and not target.addresses, "the one that was typed"


def test_a_silent_resolver_is_told_as_such(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not as a directory that does not answer."""

    def silent(host: object, port: int, **options: object) -> list[tuple[object, ...]]:
        if "flags" in options:  # whether it is a number: asked of nobody
            raise socket.gaierror(socket.EAI_NONAME, "no number")
        reader, writer = socket.socketpair()
        with reader, writer:
            reader.recv(1)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", silent)
    world.answers.clear()
    world.link.connect("box.example", 44444, world.answer)
    world.tick()
    world.skip(60.0)
    world.until(lambda: world.answers)
    error = world.answers.pop()[1]
    assert str(error) == ("connect box.example:44444: no answer from the resolver; use the number")


def test_what_a_list_of_servers_may_be() -> None:
    targets = targets_of("a.lan, [fd00::1]:5 ,192.0.2.1")
    assert [(it.host, it.port) for it in targets] == [
        ("a.lan", 44444),
        ("fd00::1", 5),
        ("192.0.2.1", 44444),
    ]
    for text in ("", "a,,b", ":44444", "a:0", ",".join(["a"] * (SERVERS_MAX + 1))):
        with pytest.raises(SetupError) as caught:
            targets_of(text)
        assert caught.value.exit_status == 2


def test_what_may_be_the_name_of_an_announced_directory() -> None:
    assert all(map(may_be_announced, ("kitchen-pi", "box 2", "Küche")))
    assert not any(
        map(may_be_announced, ("box.lan", "a:1", "[::1]", "a,b", "localhost", "192.0.2.1", "1"))
    )
