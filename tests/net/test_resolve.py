"""Host names: numeric at once, the rest by a child that may be slow, wrong, mad or dead."""

from __future__ import annotations

import errno
import os
import signal
import socket
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evloop.net.acceptor import listen_on
from evloop.net.limits import (
    RESOLVE_ADDRESSES_MAX,
    RESOLVE_ANSWER_BYTES_MAX,
    RESOLVE_S_MAX,
)
from evloop.net.resolve import (
    Lookup,
    answer_to,
    parse_answer,
)
from evloop.system.loop import Loop
from tests.support.clocks import StandingClock

Found = Iterable[tuple[Any, ...]]
Answer = tuple[list[tuple[int, tuple[Any, ...]]], str]

# The watchdog of conftest is a thread, and Python from 3.12 on warns of fork beside threads.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


class Bench:
    def __init__(self) -> None:
        self.clock = StandingClock()
        self.loop = Loop(clock=self.clock)
        self.answers: list[Answer] = []

    def ask(self, host: str, resolver: Callable[[bytes | str, int], Found]) -> Lookup:
        return Lookup(self.loop, host, 44444, self.done, resolver)

    def done(self, addresses: list[tuple[int, tuple[Any, ...]]], why: str) -> None:
        self.answers.append((addresses, why))

    def wait(self) -> Answer:
        while not self.answers:
            self.loop.tick()
        assert len(self.answers) == 1
        return self.answers[0]


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.loop.close()
    with pytest.raises(ChildProcessError):  # no child, no zombie
        os.waitpid(-1, os.WNOHANG)


def v4(address: str, port: int = 44444) -> tuple[Any, ...]:
    return (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))


def v6(address: str, scope: int = 0) -> tuple[Any, ...]:
    return (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, 44444, 0, scope))


def never(host: bytes | str, port: int) -> Found:
    signal.pause()
    return []


def forbidden(host: bytes | str, port: int) -> Found:
    raise AssertionError("a numeric address needs no resolver")


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", (socket.AF_INET, ("127.0.0.1", 44444))),
        ("::1", (socket.AF_INET6, ("::1", 44444, 0, 0))),
        ("fe80::1%lo", (socket.AF_INET6, ("fe80::1", 44444, 0, 1))),
    ],
)
def test_numeric_addresses_need_no_child(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, host: str, expected: tuple[Any, ...]
) -> None:
    monkeypatch.setattr(os, "fork", lambda: pytest.fail("forked"))
    bench.ask(host, forbidden)
    assert bench.answers == []  # never from inside the call
    bench.loop.tick()
    assert bench.answers == [([expected], "")]


@pytest.mark.parametrize("host", ["", "a\0b", "127.0.0.1\0.example", "a\nb", "\x1b[2J"])
def test_what_is_no_name_is_not_asked_for(bench: Bench, host: str) -> None:
    bench.ask(host, forbidden)
    assert bench.wait() == ([], "that is no host name")


def nobody_tells(name: bytes | str | None, port: int, **more: Any) -> Any:
    """A system without /etc/hosts, and no name server."""
    if more.get("flags", 0) & socket.AI_NUMERICHOST or name == b"127.0.0.1":
        return GETADDRINFO(name, port, **more)
    raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")


GETADDRINFO = socket.getaddrinfo


@pytest.mark.parametrize("name", ["localhost", "LocalHost"])
@pytest.mark.parametrize("told", [True, False])
def test_localhost_is_this_machine_whether_the_system_tells_it_or_not(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, name: str, told: bool
) -> None:
    if not told:
        monkeypatch.setattr(socket, "getaddrinfo", nobody_tells)
    Lookup(bench.loop, name, 44444, bench.done)
    addresses, why = bench.wait()
    assert why == ""
    assert (socket.AF_INET, ("127.0.0.1", 44444)) in addresses


def test_other_names_of_nobody_stay_unknown(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", nobody_tells)
    Lookup(bench.loop, "localhost.example", 44444, bench.done)
    assert bench.wait() == ([], "Temporary failure in name resolution")


def test_a_server_listens_on_localhost_though_nobody_tells_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", nobody_tells)
    (listener,) = listen_on("localhost", 0, {})
    with listener:
        assert listener.getsockname()[0] == "127.0.0.1"


def test_addresses_keep_their_order_and_lose_their_doubles(bench: Bench) -> None:
    def resolver(host: bytes | str, port: int) -> Found:
        assert (host, port) == (b"chat.example", 44444)
        return [v6("2001:db8::1"), v4("192.0.2.1"), v6("2001:db8::1"), v6("fe80::1", 3)]

    bench.ask("chat.example", resolver)
    assert bench.wait() == (
        [
            (socket.AF_INET6, ("2001:db8::1", 44444, 0, 0)),
            (socket.AF_INET, ("192.0.2.1", 44444)),
            (socket.AF_INET6, ("fe80::1", 44444, 0, 3)),
        ],
        "",
    )


def test_a_name_in_other_letters_is_left_to_the_idna_codec(bench: Bench) -> None:
    bench.ask(
        "bücher.example", lambda host, port: [v4("192.0.2.1")] if host == "bücher.example" else []
    )
    assert bench.wait()[1] == ""


def test_a_flood_of_addresses_is_cut(bench: Bench) -> None:
    bench.ask(
        "many",
        lambda host, port: [
            v6(f"2001:db8:ffff:ffff:ffff:ffff:ffff:{n:x}") for n in range(4096, 9000)
        ],
    )
    addresses, why = bench.wait()
    assert (len(addresses), why) == (RESOLVE_ADDRESSES_MAX, "")


def test_the_loop_goes_on_while_it_waits_and_gives_up_in_time(bench: Bench) -> None:
    started = bench.loop.now
    bench.ask("silent", never)
    turns: list[int] = []
    for _ in range(3):
        bench.loop.defer(lambda: turns.append(1))
        bench.loop.tick()
    assert (len(turns), bench.answers) == (3, [])
    bench.clock.ahead = RESOLVE_S_MAX
    assert bench.wait() == ([], "no answer from the resolver; use the number")
    assert bench.loop.now - started < RESOLVE_S_MAX + 2


def test_an_unknown_name(bench: Bench) -> None:
    def resolver(host: bytes | str, port: int) -> Found:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    bench.ask("nobody", resolver)
    assert bench.wait() == ([], "Name or service not known")


def test_a_name_without_address(bench: Bench) -> None:
    bench.ask("empty", lambda host, port: [])
    assert bench.wait() == ([], "it has no address")


def test_a_name_that_the_codec_refuses(bench: Bench) -> None:
    def resolver(host: bytes | str, port: int) -> Found:
        raise UnicodeError("label too long")

    bench.ask("ü" * 70, resolver)
    assert bench.wait() == ([], "that is no host name")


@pytest.mark.parametrize("junk", [[("what",)], [v4("no address")], [(2, 1, 6, "", ())], 5, None])
def test_junk_from_the_resolver(bench: Bench, junk: Any) -> None:
    bench.ask("junk", lambda host, port: junk)
    addresses, why = bench.wait()
    assert addresses == []
    assert why in ("the resolver died", "the resolver's answer makes no sense")


def test_a_child_that_dies(bench: Bench) -> None:
    def resolver(host: bytes | str, port: int) -> Found:
        os.kill(os.getpid(), signal.SIGSEGV)
        return []

    bench.ask("crash", resolver)
    assert bench.wait() == ([], "the resolver died")


def test_a_child_that_floods_the_pipe(bench: Bench) -> None:
    def resolver(host: bytes | str, port: int) -> Found:
        writer = max(int(name) for name in os.listdir("/proc/self/fd"))
        while True:
            os.write(writer, b"x" * RESOLVE_ANSWER_BYTES_MAX)

    bench.ask("flood", resolver)
    assert bench.wait() == ([], "the resolver's answer makes no sense")


def test_cancelled_it_tells_nothing(bench: Bench) -> None:
    lookups = [bench.ask("silent", never), bench.ask("127.0.0.1", forbidden)]
    for lookup in lookups:
        lookup.cancel()
        lookup.cancel()
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
    bench.loop.defer(lambda: None)
    bench.loop.tick()
    assert bench.answers == []
    assert not bench.loop.watches


def test_cancelled_by_its_own_answer(bench: Bench) -> None:
    def done(addresses: list[tuple[int, tuple[Any, ...]]], why: str) -> None:
        lookup.cancel()
        bench.done(addresses, why)

    lookup = Lookup(bench.loop, "x", 1, done, lambda host, port: [])
    assert bench.wait() == ([], "it has no address")


def test_the_child_holds_nothing_of_ours_open(bench: Bench) -> None:
    """A connection that we close while a look-up is under way ends for its peer at once."""
    ours, peer = socket.socketpair()
    lookup = bench.ask("silent", never)
    ready = bench.ask("probe", lambda host, port: [v4(f"0.0.0.{len(os.listdir('/proc/self/fd'))}")])
    addresses, _ = bench.wait()
    assert addresses[0][1][0] == "0.0.0.2"  # the pipe, and the listing's own
    ours.close()
    peer.settimeout(10)
    assert peer.recv(1) == b""
    peer.close()
    lookup.cancel()
    ready.cancel()


def test_signals_of_the_child_are_its_own(bench: Bench) -> None:
    """SIGTERM to the child ends the child, and is no signal to our loop."""
    terms: list[int] = []
    bench.loop.on_signal(signal.SIGTERM, lambda: terms.append(1))

    def resolver(host: bytes | str, port: int) -> Found:
        os.kill(os.getpid(), signal.SIGTERM)
        return [v4("192.0.2.1")]

    bench.ask("x", resolver)
    assert bench.wait() == ([], "the resolver died")
    bench.loop.defer(lambda: None)
    bench.loop.tick()
    assert terms == []
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()


@pytest.mark.parametrize("missing", ["pipe", "fork"])
def test_no_process_or_descriptor_to_be_had(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    def refuse() -> int:
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(os, missing, refuse)
    bench.ask("x", never)
    assert bench.wait() == ([], "cannot look it up: Resource temporarily unavailable")
    assert not bench.loop.watches


@given(st.binary(max_size=200) | st.text("46! .:0a\n", max_size=60).map(str.encode))
def test_no_answer_breaks_the_parser(answer: bytes) -> None:
    addresses, why = parse_answer(answer, 1)
    assert bool(addresses) != bool(why)


@given(
    st.lists(
        st.ip_addresses(v=4).map(lambda a: v4(str(a)))
        | st.ip_addresses(v=6).map(lambda a: v6(str(a))),
        unique=True,
        max_size=RESOLVE_ADDRESSES_MAX,
    )
)
def test_what_the_child_writes_is_what_we_read(found: list[tuple[Any, ...]]) -> None:
    answer = answer_to("x", 44444, lambda host, port: found)
    assert len(answer) <= RESOLVE_ANSWER_BYTES_MAX
    expected = [(family, address) for family, _, _, _, address in found]
    assert parse_answer(answer, 44444) == (expected, "" if found else "it has no address")
