"""What others type to come: which addresses, in which order, as which words of a shell."""

from __future__ import annotations

import shlex
import socket
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evloop.app.invite import (
    hosts_of,
    is_served,
    line_to_place,
    lines,
    own_hosts,
    quoted_word,
)
from evloop.net.links import LOOPBACK, MULTICAST, RUNNING, UP, Link, Own
from tests.support.chats import World

ON = UP | RUNNING | MULTICAST


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.loop.close()


LO = Link(1, "lo", UP | RUNNING | LOOPBACK, (Own("127.0.0.1", 8, False), Own("::1", 128, False)), 0)
WLAN = Link(
    3,
    "wlan0",
    ON,
    (
        Own("192.0.2.33", 24, False),
        Own("fe80::1", 64, False),
        Own("2001:db8::33", 64, False),
        Own("2001:db8::9a41:77", 64, True),
    ),
    0,
)
DOCKER = Link(4, "docker0", ON, (Own("172.17.0.1", 16, False),), 0)
DOWN = Link(5, "eth1", MULTICAST, (Own("198.51.100.4", 24, False),), 0)
BARE = Link(6, "eth2", ON, (Own("169.254.7.7", 16, False),), 0)


def all_served(host: str) -> bool:
    return True


@pytest.mark.parametrize(
    ("links", "hosts"),
    [
        ((LO, WLAN, DOCKER, DOWN, BARE), ["192.0.2.33", "2001:db8::33"]),
        ((LO, BARE, DOCKER), ["169.254.7.7"]),
        ((LO, DOCKER, DOWN), []),
        ((), []),
    ],
)
def test_the_addresses_that_others_reach(links: Sequence[Link], hosts: list[str]) -> None:
    assert own_hosts(links, None, False, all_served) == hosts


def test_an_address_at_which_nothing_listens_is_none() -> None:
    links = (LO, WLAN)
    assert own_hosts(links, None, False, lambda host: ":" in host) == ["2001:db8::33"]
    assert own_hosts(links, None, False, lambda host: False) == []


def test_the_interface_that_was_asked_for_is_the_only_one() -> None:
    links = (LO, WLAN, BARE)
    assert own_hosts(links, BARE, True, all_served) == ["169.254.7.7"]
    assert own_hosts(links, LO, True, all_served) == []
    assert own_hosts(links, None, True, all_served) == [], "it is not there now"


@pytest.mark.parametrize(
    ("typed", "address", "own", "hosts", "only_here"),
    [
        ("192.0.2.10", ("192.0.2.10", 44444), [], ["192.0.2.10"], False),
        ("box.lan", ("192.0.2.10", 44444), [], ["box.lan", "192.0.2.10"], False),
        ("fd00::1", ("fd00::1", 44444, 0, 0), [], ["fd00::1"], False),
        ("fe80::1%eth0", ("fe80::1%eth0", 44444, 0, 2), [], ["fe80::1%eth0"], False),
        # on this very machine
        ("127.0.0.1", ("127.0.0.1", 44444), ["192.0.2.33"], ["192.0.2.33"], False),
        ("localhost", ("::1", 44444, 0, 0), ["192.0.2.33"], ["192.0.2.33"], False),
        ("192.0.2.33", ("192.0.2.33", 44444), ["192.0.2.33", "fd00::2"],
         ["192.0.2.33", "fd00::2"], False),
        ("127.0.0.1", ("127.0.0.1", 44444), [], ["127.0.0.1"], True),
        ("localhost", ("::ffff:127.0.0.1", 44444, 0, 0), [], ["127.0.0.1"], True),
    ],
)  # fmt: skip
def test_what_others_may_type_for_a_directory(
    typed: str, address: tuple[object, ...], own: list[str], hosts: list[str], only_here: bool
) -> None:
    assert hosts_of(typed, address, lambda: own) == (hosts, only_here)


def test_the_lines_the_shortest_first() -> None:
    two = ["box.lan", "192.0.2.10"]
    assert lines(two, 44444, False, "", False) == [
        "python3 -m evloop --server box.lan",
        "python3 -m evloop --server 192.0.2.10",
    ]
    assert lines(two, 4711, True, "lab", True) == [
        "python3 -m evloop --tls chat lab",
        "python3 -m evloop --server box.lan:4711 --tls chat lab",
        "python3 -m evloop --server 192.0.2.10:4711 --tls chat lab",
    ]
    assert lines(["fd00::1"], 44444, False, "", False) == ["python3 -m evloop --server fd00::1"]
    assert lines(["fd00::1"], 4711, False, "", False) == [
        "python3 -m evloop --server '[fd00::1]:4711'"
    ]


def test_a_room_that_needs_no_directory() -> None:
    command = "python3 -m evloop.client chat"
    assert line_to_place("239.255.7.1:5751", "") == f"{command} 239.255.7.1:5751"
    assert line_to_place("[ff15::7]:5751", "plain") == f"{command} '[ff15::7]:5751' --mode plain"


@given(st.text(min_size=1).filter(lambda text: "\0" not in text))
def test_any_name_is_one_word_of_a_shell(name: str) -> None:
    assert shlex.split(quoted_word(name)) == [name]


@pytest.mark.parametrize("word", ["lab", "Küche", "10:30", "a/b", "$HOME", "it's", "*", "`x`"])
def test_only_what_needs_it_is_quoted(word: str) -> None:
    assert (quoted_word(word) == word) == (word in ("lab", "Küche", "10:30", "a/b"))


def test_whether_something_listens() -> None:
    with socket.create_server(("127.0.0.2", 0)) as listener:
        port = listener.getsockname()[1]
        assert is_served("127.0.0.2", port) and not is_served("127.0.0.3", port)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    assert not is_served("127.0.0.1", port), "it is free again"
    assert not is_served("192.0.2.255", port), "no address of this machine"


def test_the_invitation_in_a_room(world: World) -> None:
    world.enter().line("/invite")
    assert world.frontend.notes[-2:] == ["-- others type, in a shell: --", "  come here"]
    world.only_here = True
    world.chat.line("/invite")
    assert world.frontend.notes[-2] == (
        "-- only this machine can come here; in another window, type: --"
    )
    assert world.frontend.manners[-2:] == ["answer", "text"], "not dim"
