"""What is announced of which listener. How it is announced is tried in tests/lab."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

import pytest

from evloop.daemon.announcer import announcer_of, listening_on
from evloop.daemon.metrics import Metrics
from evloop.daemon.options import parse_options
from evloop.net.interfaces import packed_of
from evloop.system.log import INFO, Log
from evloop.system.loop import Loop
from tests.support.namespaces import ipv6
from tests.support.processes import Crew


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def listeners(stack: ExitStack, places: Sequence[tuple[str, bool]]) -> list[socket.socket]:
    """Listening sockets, all on one port; the second value: of IPv6, for IPv4 too."""
    made: list[socket.socket] = []
    port = 0
    for host, both in places:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        sock = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not both)
        sock.bind((host, port))
        port = port or sock.getsockname()[1]
        sock.listen(1)
        made.append(sock)
    return made


CASES: dict[str, tuple[list[tuple[str, bool]], tuple[set[int], set[bytes]] | None]] = {
    "loopback": ([("127.0.0.1", False)], None),
    "loopback, both": ([("127.0.0.1", False), ("::1", False)], None),
    "all of IPv4": ([("0.0.0.0", False)], ({4}, set())),
    "all of IPv6": ([("::", False)], ({16}, set())),
    "all": ([("0.0.0.0", False), ("::", False)], ({4, 16}, set())),
    "all, one socket": ([("::", True)], ({4, 16}, set())),
    "loopback and all of IPv6": ([("127.0.0.1", False), ("::", False)], ({16}, set())),
}


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, marks=ipv6 if any(":" in host for host, _ in places) else ())
        for case, (places, _) in CASES.items()
    ],
)
def test_what_is_listened_on(stack: ExitStack, case: str) -> None:
    places, expected = CASES[case]
    socks = listeners(stack, places)
    found = listening_on(socks)
    if expected is None:
        assert found is None
        return
    families, addresses = expected
    port = socks[-1].getsockname()[1]
    assert found is not None
    assert (found.port, found.families, found.addresses) == (port, families, addresses)


class Bound(socket.socket):
    """This machine may have no address but loopback's, so the socket is made to say so."""

    def getsockname(self) -> tuple[str, int]:
        return "192.0.2.10", 4000


def test_when_it_ends_nothing_of_it_is_left(stack: ExitStack) -> None:
    """A client that has hosted goes on."""
    loop = Loop()
    stack.callback(loop.close)
    told: list[str] = []
    log = Log(told.append, level=INFO, journal=False, wall=lambda: 0.0, clock=lambda: 0.0)
    who = ("kitchen-pi", "0102030405060708", "guest", "")
    listener = stack.enter_context(Bound())
    announcer = announcer_of(loop, log, [listener], who, "lo", Metrics(dict))
    assert announcer is not None
    announcer.close()
    announcer.close()
    assert not loop.watches
    assert loop.timers.next_deadline() == float("inf")
    assert told == []


def test_one_address(stack: ExitStack) -> None:
    found = listening_on([stack.enter_context(Bound())])
    assert found is not None
    own = {bytes([192, 0, 2, 10])}
    assert (found.port, found.families, found.addresses) == (4000, set(), own)


@pytest.mark.parametrize(
    ("text", "packed"),
    [
        ("192.0.2.10", bytes([192, 0, 2, 10])),
        ("fe80::1%eth0", b"\xfe\x80" + bytes(13) + b"\1"),
        ("::1", bytes(15) + b"\1"),
    ],
)
def test_addresses(text: str, packed: bytes) -> None:
    assert packed_of(text) == packed


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "\x1b[1m", "\udcff"])
def test_a_name_can_be_shown(name: str) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_options(["--name", name])
    assert ended.value.code == 2


def test_names() -> None:
    assert parse_options(["--name", " kitchen pi "]).name == "kitchen pi"
    assert parse_options([]).name is None
    assert parse_options(["--no-announce"]).no_announce


def test_the_variable_is_read_too(crew: Crew) -> None:
    server = crew.start_server(prefix=("env", "EVLOOP_INTERFACE=no-such0"))
    crew.finish(server)
    assert server.status == 1
    assert 'no interface has the name or address "no-such0"' in server.err
