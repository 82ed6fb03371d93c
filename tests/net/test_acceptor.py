"""Accepting in batches, without descriptors, and past connections that died in the queue."""

from __future__ import annotations

import errno
import os
import resource
import socket
from collections.abc import Iterator

import pytest

from evloop.base.errors import FAILED, USAGE, SetupError
from evloop.net.acceptor import Acceptor, open_listeners
from evloop.net.limits import ACCEPT_BATCH_MAX, ACCEPT_PAUSE_S
from evloop.system.loop import Loop


class FakeClock:
    time = 100.0

    def __call__(self) -> float:
        return self.time


class BadListener(socket.socket):
    """A listener whose accept fails as `errors` says, before it does its work."""

    errors: list[int]

    def accept(self) -> tuple[socket.socket, object]:
        if self.errors:
            number = self.errors.pop(0)
            raise OSError(number, os.strerror(number))
        return super().accept()


class Bench:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.loop = Loop(clock=self.clock)
        self.listener = BadListener()
        self.listener.errors = []
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(256)
        self.taken: list[socket.socket] = []
        self.full: list[int | None] = []
        self.calls: list[socket.socket] = []
        self.acceptor = Acceptor(
            self.loop, self.listener, self.take, lambda error: self.full.append(error.errno)
        )

    def take(self, sock: socket.socket, address: object) -> None:
        assert address == sock.getpeername()
        assert sock.gettimeout() == 0.0
        self.taken.append(sock)

    def call(self, count: int) -> None:
        for _ in range(count):
            self.calls.append(socket.create_connection(self.listener.getsockname()))

    def tick(self) -> int:
        """One tick that does not sleep; how many connections it took."""
        before = len(self.taken)
        self.loop.defer(lambda: None)
        self.loop.tick()
        return len(self.taken) - before

    def close(self) -> None:
        self.loop.close()
        for sock in self.taken + self.calls:
            sock.close()


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.close()


def test_a_storm_is_taken_in_batches(bench: Bench) -> None:
    bench.call(ACCEPT_BATCH_MAX + 10)
    assert [bench.tick() for _ in range(3)] == [ACCEPT_BATCH_MAX, 10, 0]
    assert bench.full == []


def test_a_connection_that_died_in_the_queue_is_passed_over(bench: Bench) -> None:
    bench.listener.errors = [errno.ECONNABORTED, errno.EPROTO, errno.EPERM]
    bench.call(2)
    assert bench.tick() == 2


def test_a_queue_of_the_dead_is_bounded_too(bench: Bench) -> None:
    bench.listener.errors = [errno.ECONNABORTED] * (ACCEPT_BATCH_MAX + 1)
    bench.call(1)
    assert [bench.tick() for _ in range(2)] == [0, 1]


def test_a_sandbox_that_lets_nobody_in_is_not_asked_all_the_time(bench: Bench) -> None:
    bench.listener.errors = [errno.EPERM] * (ACCEPT_BATCH_MAX + 1)
    bench.call(1)
    assert [bench.tick() for _ in range(3)] == [0, 0, 0]
    assert (len(bench.listener.errors), bench.full) == (1, [errno.EPERM])
    bench.clock.time += ACCEPT_PAUSE_S
    assert [bench.tick() for _ in range(2)] == [0, 1]
    assert bench.full == [errno.EPERM]


FULL = [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ENOSYS, errno.EACCES]


@pytest.mark.parametrize("number", FULL)
def test_when_the_kernel_is_full_it_waits_and_tries_again(bench: Bench, number: int) -> None:
    bench.listener.errors = [number, number]
    bench.call(1)
    assert [bench.tick() for _ in range(3)] == [0, 0, 0]
    assert bench.listener.errors == [number]  # one try, then silence: no spinning
    bench.clock.time += ACCEPT_PAUSE_S
    assert [bench.tick() for _ in range(3)] == [0, 0, 0]
    assert bench.listener.errors == []
    assert bench.full == [number]  # one shortage, told once
    bench.clock.time += ACCEPT_PAUSE_S
    assert [bench.tick() for _ in range(2)] == [0, 1]
    bench.listener.errors = [number]
    bench.call(1)
    bench.tick()
    assert bench.full == [number, number]


def test_out_of_descriptors_for_true(bench: Bench) -> None:
    bench.call(3)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    holes: list[int] = []
    while not holes or holes[-1] < highest:
        holes.append(os.open("/dev/null", os.O_RDONLY))
    resource.setrlimit(resource.RLIMIT_NOFILE, (holes[-1] + 2, hard))
    assert [bench.tick() for _ in range(2)] == [1, 0]
    assert bench.full == [errno.EMFILE]
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    bench.clock.time += ACCEPT_PAUSE_S
    assert [bench.tick() for _ in range(2)] == [0, 2]
    for fd in holes:
        os.close(fd)


def test_a_broken_listener_is_an_error_and_not_a_loop(bench: Bench) -> None:
    bench.listener.errors = [errno.EINVAL]
    bench.call(1)
    with pytest.raises(OSError, match="Invalid argument"):
        bench.tick()


def test_closed_by_the_connection_it_took(bench: Bench) -> None:
    bench.call(2)
    take = bench.take

    def take_and_close(sock: socket.socket, address: object) -> None:
        take(sock, address)
        bench.acceptor.close()

    bench.acceptor.on_connection = take_and_close
    assert [bench.tick() for _ in range(2)] == [1, 0]
    assert bench.listener.fileno() == -1


def test_closed_while_it_waits(bench: Bench) -> None:
    bench.listener.errors = [errno.EMFILE]
    bench.call(1)
    bench.tick()
    bench.acceptor.close()
    bench.acceptor.close()
    bench.clock.time += ACCEPT_PAUSE_S
    assert bench.tick() == 0


@pytest.mark.parametrize(
    ("number", "status"),
    [(socket.EAI_AGAIN, FAILED), (socket.EAI_FAIL, FAILED), (socket.EAI_NONAME, USAGE)],
)
def test_a_name_that_is_not_known_yet_is_no_wrong_option(
    monkeypatch: pytest.MonkeyPatch, number: int, status: int
) -> None:
    """At boot the resolver may not be there: a service manager is to try again."""

    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(number, "as the resolver says")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(SetupError, match=r"cannot listen on box\.lan:44444: as the resolver") as it:
        open_listeners(["box.lan:44444"])
    assert it.value.exit_status == status


def test_an_address_that_is_not_there_yet_is_not_another_server() -> None:
    with pytest.raises(SetupError, match="no interface of this machine has that address") as it:
        open_listeners(["192.0.2.9:44444"])
    assert it.value.exit_status == FAILED and "another server" not in it.value.sentence
