"""How a connection that was begun has fared, also where a sandbox does not tell."""

from __future__ import annotations

import errno
import os
import select
import socket
from typing import Any

import pytest

from evloop.net.tcp import connect_error, connecting
from tests.support.processes import PATIENCE_S

REFUSALS = [errno.ENOSYS, errno.EPERM, errno.EACCES]
NAMES = ("getsockopt", "getpeername", "getsockname")


class Muzzled:
    """A socket that answers `number` to each call of `names`."""

    def __init__(self, sock: socket.socket, number: int, names: tuple[str, ...]) -> None:
        self._sock = sock
        self._number = number
        self._names = names

    def __getattr__(self, name: str) -> Any:
        if name in self._names:
            return self._refuse
        return getattr(self._sock, name)

    def _refuse(self, *arguments: object) -> None:
        raise OSError(self._number, os.strerror(self._number))


def fared(there: bool, number: int = 0, *names: str) -> int:
    """What is said of a connection to somebody who listens, or to a port that nobody has."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if there:
            server.listen()
        try:
            sock = connecting(socket.AF_INET, server.getsockname())
        except ConnectionRefusedError as at_once:
            return at_once.errno or 0
        with sock:
            assert select.select([], [sock], [], PATIENCE_S)[1]
            muzzled: Any = Muzzled(sock, number, names)
            return connect_error(muzzled)


def test_what_the_kernel_tells() -> None:
    assert fared(there=True) == 0
    assert fared(there=False) == errno.ECONNREFUSED


@pytest.mark.parametrize("number", REFUSALS)
@pytest.mark.parametrize("name", NAMES)
def test_one_call_is_refused(name: str, number: int) -> None:
    assert fared(True, number, name) == 0
    assert fared(False, number, name) in (errno.ECONNREFUSED, errno.ENOTCONN)


@pytest.mark.parametrize("number", REFUSALS)
def test_all_calls_are_refused(number: int) -> None:
    """Then whoever reads will learn it."""
    assert fared(True, number, *NAMES) == 0
    assert fared(False, number, *NAMES) == 0
