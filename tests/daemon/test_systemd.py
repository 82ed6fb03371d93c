"""systemd's two protocols, against real unix datagram sockets and real listening sockets."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from evloop.base.errors import SetupError
from evloop.daemon.limits import LISTEN_SOCKETS_MAX
from evloop.daemon.systemd import (
    Notifier,
    listening_sockets,
    notifier_from,
)
from tests.support.namespaces import ipv6

PID = 4711
FIRST = 700  # far above what pytest holds open


class Manager:
    """The service manager's end of NOTIFY_SOCKET."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self.socket.setblocking(False)

    def heard(self) -> list[str]:
        said = []
        while True:
            try:
                said.append(self.socket.recv(4096).decode())
            except BlockingIOError:
                return said


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    abstract = request.param == "abstract"
    manager = Manager(f"@evloop-test-{os.getpid()}" if abstract else str(tmp_path / "notify"))
    yield manager
    manager.socket.close()


def test_the_life_of_a_service_is_told(manager: Manager) -> None:
    environ = {"NOTIFY_SOCKET": manager.address, "HOME": "/"}
    notifier = notifier_from(environ, PID)
    assert environ == {"HOME": "/"}, "a child of ours must not take itself for the service"
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    assert notifier.ready("0 rooms, 0 clients")
    assert notifier.status("3 rooms,\n17 clients")
    assert notifier.reloading()
    assert notifier.stopping()
    after = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    notifier.close()
    heard = manager.heard()
    reloading = heard.pop(2)
    assert heard == [
        "READY=1\nSTATUS=0 rooms, 0 clients",
        "STATUS=3 rooms, 17 clients",
        "STOPPING=1",
    ]
    first, _, usec = reloading.partition("\nMONOTONIC_USEC=")
    assert first == "RELOADING=1"
    assert before <= int(usec) <= after
    assert not notifier.stopping(), "closed"


def test_the_watchdog_is_pinged_at_half_its_patience(manager: Manager) -> None:
    environ = {
        "NOTIFY_SOCKET": manager.address,
        "WATCHDOG_USEC": "30000000",
        "WATCHDOG_PID": str(PID),
    }
    notifier = notifier_from(environ, PID)
    assert environ == {}
    timers: list[tuple[float, Callable[[], None]]] = []
    now = 100.0
    notifier.keep_alive(lambda: now, lambda when, fn: timers.append((when, fn)))
    for due, ran in ((115.0, 115.0), (130.0, 500.0), (515.0, 515.0)):  # it was stopped once
        when, fn = timers.pop()
        assert when == due
        now = ran
        fn()
    assert manager.heard() == ["WATCHDOG=1"] * 4
    notifier.close()


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"NOTIFY_SOCKET": ""},
        {"NOTIFY_SOCKET": "@"},
        {"NOTIFY_SOCKET": "relative/path"},
        {"NOTIFY_SOCKET": "vsock:2:1234"},
        {"WATCHDOG_USEC": "1000000"},
    ],
)
def test_without_a_manager_nothing_is_said(environ: dict[str, str]) -> None:
    notifier = notifier_from(environ, PID)
    assert not notifier.ready("x")
    notifier.keep_alive(lambda: 1.0, lambda when, fn: pytest.fail("no watchdog, no timer"))
    notifier.close()
    assert environ == {}


@pytest.mark.parametrize(
    ("usec", "pid"), [("1000000", "1"), ("x", str(PID)), ("0", str(PID)), ("-5", str(PID))]
)
def test_a_watchdog_that_is_not_ours_is_not_fed(usec: str, pid: str, tmp_path: Path) -> None:
    manager = Manager(str(tmp_path / "notify"))
    notifier = notifier_from(
        {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": usec, "WATCHDOG_PID": pid}, PID
    )
    assert notifier.watchdog_s == 0.0
    notifier.close()
    manager.socket.close()


def test_a_manager_that_is_full_or_gone_costs_nothing(manager: Manager) -> None:
    notifier = Notifier(manager.address)
    told = 0
    while notifier.status(str(told)):  # would wait for ever here if it waited at all
        told += 1
    assert told > 0
    manager.heard()
    assert notifier.status("room again")
    manager.socket.close()
    assert not notifier.status("gone")
    notifier.close()


# -- sockets that listen already -----------------------------------------------------------------


@pytest.fixture
def handed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Puts sockets at FIRST, FIRST + 1, ... as the service manager does: inheritable."""
    given: list[int] = []

    def hand(*sockets: socket.socket) -> None:
        for one in sockets:
            given.append(os.dup2(one.fileno(), FIRST + len(given), inheritable=True))
            one.close()

    yield hand
    for descriptor in given:
        try:
            os.close(descriptor)
        except OSError:  # taken over, and closed by the test
            continue


def listener(family: socket.AddressFamily = socket.AF_INET) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    made.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
    made.listen()
    return made


def environ_for(count: int, names: str | None = None) -> dict[str, str]:
    environ = {"LISTEN_FDS": str(count), "LISTEN_PID": str(PID), "KEEP": "me"}
    if names is not None:
        environ["LISTEN_FDNAMES"] = names
    return environ


@ipv6
def test_listening_sockets_are_taken_over(handed: Callable[..., None]) -> None:
    one, two = listener(), listener(socket.AF_INET6)
    places = [one.getsockname()[:2], two.getsockname()[:2]]
    handed(one, two)
    environ = environ_for(2, "main:v6")
    taken = listening_sockets(environ, PID, FIRST)
    assert environ == {"KEEP": "me"}
    assert [name for name, _ in taken] == ["main", "v6"]
    assert [it.getsockname()[:2] for _, it in taken] == places
    for _, it in taken:
        assert not it.get_inheritable()
        assert not it.getblocking()
        with pytest.raises(BlockingIOError):
            it.accept()
        it.close()


def test_names_may_be_missing(handed: Callable[..., None]) -> None:
    handed(listener())
    ((name, it),) = listening_sockets(environ_for(1), PID, FIRST)
    assert name == "unknown"
    it.close()


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"LISTEN_FDS": "1"},
        {"LISTEN_FDS": "1", "LISTEN_PID": "1"},
        {"LISTEN_FDS": "1", "LISTEN_PID": "x"},
        {"LISTEN_PID": str(PID)},
    ],
)
def test_sockets_meant_for_others_are_left_alone(
    environ: dict[str, str], handed: Callable[..., None]
) -> None:
    handed(listener())
    assert listening_sockets(environ, PID, FIRST) == []
    assert environ == {}
    assert os.get_inheritable(FIRST)


@pytest.mark.parametrize("count", ["0", "-1", "x", "", str(LISTEN_SOCKETS_MAX + 1)])
def test_a_senseless_number_is_an_error(count: str) -> None:
    environ = {"LISTEN_FDS": count, "LISTEN_PID": str(PID)}
    with pytest.raises(SetupError) as raised:
        listening_sockets(environ, PID, FIRST)
    assert raised.value.exit_status == 2
    assert environ == {}


def test_what_does_not_listen_is_an_error(handed: Callable[..., None]) -> None:
    unix = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    datagram = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    idle = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    handed(unix, datagram, idle)
    for first in (FIRST, FIRST + 1, FIRST + 2):
        with pytest.raises(SetupError, match=f"descriptor {first} is no listening TCP socket"):
            listening_sockets(environ_for(1), PID, first)
    with pytest.raises(SetupError, match=f"descriptor {FIRST + 3} is no socket"):
        listening_sockets(environ_for(1), PID, FIRST + 3)


def test_names_and_sockets_must_be_as_many(handed: Callable[..., None]) -> None:
    handed(listener(), listener())
    with pytest.raises(SetupError, match="3 names for 2 sockets"):
        listening_sockets(environ_for(2, "a:b:c"), PID, FIRST)
