"""Listening sockets for the directory server."""

import socket

from evloop.base.endpoints import (
    DIRECTORY_PORT,
    USAGE,
    endpoint_of,
    split_endpoint,
)
from evloop.base.errors import SetupError
from evloop.base.limits import LISTEN_BACKLOG

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

CANNOT_LISTEN = 1


def open_listeners(places: "Sequence[str] | None") -> list[socket.socket]:
    """Listening sockets for `--listen`; SetupError names the place that can not be had."""
    if places:
        return [sock for place in places for sock in _listen(*split_endpoint(place))]
    return _listen("", DIRECTORY_PORT)


def _listen(host: str, port: int) -> list[socket.socket]:
    """Listen on `host` ("": every address, IPv4 and IPv6) and `port`."""
    try:
        # May block, but there is no loop yet that could wait. As bytes: a str goes through the idna
        # codec, which needs unicodedata.
        found = socket.getaddrinfo(
            (host.encode() if host.isascii() else host) or None,
            port,
            type=socket.SOCK_STREAM,
            flags=socket.AI_PASSIVE,
        )
    except (OSError, LookupError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise SetupError(f"can not listen on {endpoint_of(host, port)}: {why}", USAGE) from None
    listeners: list[socket.socket] = []
    for family, kind, proto, _, address in found:
        if family not in (socket.AF_INET, socket.AF_INET6):
            continue
        if port == 0 and listeners:
            address = (address[0], listeners[0].getsockname()[1], *address[2:])
        try:
            listeners.append(_listener(family, kind, proto, address))
        except OSError as error:
            if family == socket.AF_INET6 and not host:
                continue  # a machine without IPv6; the IPv4 socket is enough
            for listener in listeners:
                listener.close()
            raise SetupError(
                f"can not listen on {endpoint_of(str(address[0]), int(address[1]))}:"
                f" {error.strerror}; is another server running? --listen HOST:PORT takes another",
                CANNOT_LISTEN,
            ) from None
    if not listeners:
        raise SetupError(f"can not listen on {endpoint_of(host, port)}", CANNOT_LISTEN)
    return listeners


def _listener(family: int, kind: int, proto: int, address: "Any") -> socket.socket:
    sock = socket.socket(family, kind, proto)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
        sock.listen(LISTEN_BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock
