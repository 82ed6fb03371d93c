"""What we ask of a TCP socket, and about it."""

from __future__ import annotations

import socket

from evloop.net.compat import ask, first_probe, named_option
from evloop.net.compat import unsent_bytes as unacknowledged
from evloop.net.limits import (
    KEEPALIVE_IDLE_S,
    KEEPALIVE_INTERVAL_S,
    KEEPALIVE_PROBES,
    USER_TIMEOUT_MS,
)

__all__ = ["tune", "unacknowledged"]

# All of it is only better than nothing: a connection lives without.
_OPTIONS = (
    # One send a tick is all a reply needs; waiting for more to send would only delay it.
    (socket.IPPROTO_TCP, named_option("TCP_NODELAY"), 1),
    (socket.SOL_SOCKET, named_option("SO_KEEPALIVE"), 1),
    (socket.IPPROTO_TCP, first_probe(), KEEPALIVE_IDLE_S),
    (socket.IPPROTO_TCP, named_option("TCP_KEEPINTVL"), KEEPALIVE_INTERVAL_S),
    (socket.IPPROTO_TCP, named_option("TCP_KEEPCNT"), KEEPALIVE_PROBES),
    # RFC 5482: keepalive says nothing about a peer to whom something is under way.
    (socket.IPPROTO_TCP, named_option("TCP_USER_TIMEOUT"), USER_TIMEOUT_MS),
)


def tune(sock: socket.socket) -> None:
    """Send at once, and find out when the peer is gone without a word."""
    for level, option, value in _OPTIONS:
        ask(sock, level, option, value)
