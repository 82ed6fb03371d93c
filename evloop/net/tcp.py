"""The options that are set on a TCP socket, and what is asked about one."""

from __future__ import annotations

import errno
import socket

from evloop.net.compat import ask, first_probe, named_option
from evloop.net.compat import unsent_bytes as unacknowledged
from evloop.net.limits import (
    KEEPALIVE_IDLE_S,
    KEEPALIVE_INTERVAL_S,
    KEEPALIVE_PROBES,
    USER_TIMEOUT_MS,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["connect_error", "connecting", "hold_unsent", "tune", "unacknowledged"]

# All of these are useful, but a connection works without them.
_OPTIONS = (
    # One send a tick is all a reply needs; waiting for more to send would only delay it.
    (socket.IPPROTO_TCP, named_option("TCP_NODELAY"), 1),
    (socket.SOL_SOCKET, named_option("SO_KEEPALIVE"), 1),
    (socket.IPPROTO_TCP, first_probe(), KEEPALIVE_IDLE_S),
    (socket.IPPROTO_TCP, named_option("TCP_KEEPINTVL"), KEEPALIVE_INTERVAL_S),
    (socket.IPPROTO_TCP, named_option("TCP_KEEPCNT"), KEEPALIVE_PROBES),
    # RFC 5482: while data is unacknowledged no keepalive probes are sent.
    (socket.IPPROTO_TCP, named_option("TCP_USER_TIMEOUT"), USER_TIMEOUT_MS),
)

# A sandbox does not let us ask whom a socket is connected to.
_NOT_TOLD = (errno.ENOSYS, errno.EPERM, errno.EACCES)


def tune(sock: socket.socket) -> None:
    """Have `sock` send at once, and notice a peer that has vanished without closing."""
    for level, option, value in _OPTIONS:
        ask(sock, level, option, value)


def hold_unsent(sock: socket.socket, most: int) -> None:
    """Have the kernel take about `most` bytes beyond those that it has sent already: the rest is
    ours to drop."""
    ask(sock, socket.IPPROTO_TCP, named_option("TCP_NOTSENT_LOWAT"), most)


def connecting(family: int, address: Any) -> socket.socket:
    """A socket that connects to `address`: writable when that is decided, see `connect_error`.

    OSError when it is decided at once, or no socket of this family can be had.
    """
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setblocking(False)
    tune(sock)
    try:
        sock.connect(address)
    except BlockingIOError:
        pass
    except OSError:
        sock.close()
        raise
    return sock


def connect_error(sock: socket.socket) -> int:
    """How a `connecting` socket that is writable has fared: an errno, 0 when it is connected."""
    try:
        error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    except OSError:  # a sandbox that does not tell: one that is not connected has no peer
        error = 0
    return error or _connected_to_itself(sock)


def _connected_to_itself(sock: socket.socket) -> int:
    """ECONNREFUSED when the kernel gave the port that `sock` connected to to `sock` itself, else 0.

    Where nobody listens, TCP's simultaneous open then connects a socket to itself (RFC 9293, 3.5):
    a server's port may be among those that Linux gives to sockets that connect.
    """
    try:
        return errno.ECONNREFUSED if sock.getsockname() == sock.getpeername() else 0
    except OSError as gone:
        if gone.errno in _NOT_TOLD:
            return 0
        return gone.errno or errno.ECONNRESET  # reset at once: whoever reads will say so
