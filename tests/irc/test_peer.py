"""Whose program is at the other end of a connection: by netlink, by /proc, by a unix socket."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator

import pytest

from evloop.irc import peer

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells it so")
HOSTS = ("127.0.0.1", "::1")


@pytest.fixture(params=HOSTS)
def ends(request: pytest.FixtureRequest) -> Iterator[tuple[socket.socket, socket.socket]]:
    """(a client's end, the door's end) of a connection on this machine."""
    host = request.param
    try:
        listener = socket.create_server(
            (host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET
        )
    except OSError:
        pytest.skip(f"no {host} here")
    with listener:
        theirs = socket.create_connection(listener.getsockname()[:2])
        ours, _ = listener.accept()
    with theirs, ours:
        yield theirs, ours


@pytest.mark.parametrize("netlink", [True, False])
def test_it_is_us(
    ends: tuple[socket.socket, socket.socket], netlink: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs, ours = ends
    if not netlink:
        monkeypatch.delattr(socket, "AF_NETLINK")
    assert peer.is_told()
    assert peer.uid_of(ours) == os.getuid()
    theirs.shutdown(socket.SHUT_WR)  # as `printf | nc` does before the door has accepted it
    assert peer.uid_of(ours) == os.getuid()
    theirs.close()  # it reads uid 0 and inode 0 now, or is no socket any more
    assert peer.uid_of(ours) == peer.NOBODY


def test_where_nothing_tells_it_is_nobody(
    ends: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(socket, "AF_NETLINK")
    monkeypatch.setattr(peer, "TABLES", ("/nowhere/tcp",))
    assert not peer.is_told()
    assert peer.uid_of(ends[1]) == peer.NOBODY


def test_a_unix_socket_tells_by_itself() -> None:
    one, other = socket.socketpair(socket.AF_UNIX)
    with one, other:
        assert peer.uid_of(one) == os.getuid()
