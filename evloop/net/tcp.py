"""What we ask of a TCP socket, and about it."""

from __future__ import annotations

import socket
from sys import byteorder

from evloop.net.limits import (
    KEEPALIVE_IDLE_S,
    KEEPALIVE_INTERVAL_S,
    KEEPALIVE_PROBES,
    USER_TIMEOUT_MS,
)


def tune(sock: socket.socket) -> None:
    """Send at once, and find out when the peer is gone without a word."""
    # One send a tick is all a reply needs; waiting for more to send would only delay it.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # RFC 5482; Linux and few others
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)


def unacknowledged(sock: socket.socket) -> int:
    """Bytes in the kernel's send queue (SIOCOUTQ, which is TIOCOUTQ)."""
    import fcntl  # late: both are for slow readers only
    import termios

    return int.from_bytes(fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)), byteorder)
