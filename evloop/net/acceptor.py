"""Listening sockets, and accepting connections in batches, also when descriptors run out.

    state      ready                                     time comes    close
    listening  accept up to a batch; no descriptors      -             -> closed
               or memory left: -> paused
    paused     -                                         -> listening  -> closed
    closed     -                                         -             nothing

While no connection can be accepted the listener stays readable: without `paused` the loop would
spin.
"""

from __future__ import annotations

import errno
import socket

from evloop.base.addresses import (
    DIRECTORY_PORT,
    endpoint_of,
    split_endpoint,
)
from evloop.base.errors import FAILED, USAGE, SetupError
from evloop.net.compat import ask, stream_addresses
from evloop.net.limits import (
    ACCEPT_BATCH_MAX,
    ACCEPT_PAUSE_S,
    LISTEN_BACKLOG,
)
from evloop.system.timers import NEVER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from evloop.system.loop import Loop

# The last two: a sandbox lets us accept nothing.
_FULL = frozenset(
    (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ENOSYS, errno.EACCES)
)
# What became of one connection in the queue; accept(2): "treat them like EAGAIN by retrying".
# EPERM comes from a firewall, or for all of them from a sandbox.
_NEXT = frozenset(
    (
        errno.ECONNABORTED,
        errno.EPERM,
        errno.EPROTO,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENOPROTOOPT,
        errno.EOPNOTSUPP,
    )
)

# The resolver does not work now, and may work soon (gai_strerror), as at boot.
_NOT_YET = frozenset((socket.EAI_AGAIN, socket.EAI_FAIL, socket.EAI_SYSTEM, socket.EAI_MEMORY))
_ADVICE = {
    errno.EADDRINUSE: "is another server running? --listen HOST:PORT takes another",
    errno.EADDRNOTAVAIL: "no interface of this machine has that address, or not yet",
    errno.EACCES: "ports below 1024 need a privilege; --listen HOST:PORT takes another",
}


class Acceptor:
    """Owns `listener` and accepts its connections.

    `on_connection(sock, address)` gets a non-blocking socket, and owns it. `on_full(error)` is
    told when the kernel has no descriptor or memory for another one, once for each shortage; the
    next try is after `ACCEPT_PAUSE_S`.
    """

    __slots__ = ("_listener", "_loop", "_on_full", "_short", "_timer", "on_connection", "watch")

    def __init__(
        self,
        loop: Loop,
        listener: socket.socket,
        on_connection: Callable[[socket.socket, Any], object],
        on_full: Callable[[OSError], object] | None = None,
    ) -> None:
        listener.setblocking(False)
        self._loop = loop
        self._listener = listener
        self.on_connection = on_connection
        self._on_full = on_full
        self._short = False
        self.watch = loop.watch(listener, self._accept, release=listener.close)
        self._timer = loop.call_at(NEVER, self._resume)

    def close(self) -> None:
        """Close the listener; a second call does nothing."""
        self._timer.cancel()
        self.watch.close()

    def _accept(self) -> None:
        refused: OSError | None = None
        for _ in range(ACCEPT_BATCH_MAX):
            if self.watch.fd < 0:  # closed by on_connection
                return
            try:
                sock, address = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _NEXT:
                    refused = error if error.errno == errno.EPERM else None
                    continue
                if error.errno not in _FULL:
                    raise
                self._pause(error)
                return
            refused = None
            self._short = False
            sock.setblocking(False)
            self.on_connection(sock, address)
        if refused is not None:  # a refused one may stay in the queue: each tick would meet it
            self._pause(refused)

    def _pause(self, error: OSError) -> None:
        self.watch.want_read(False)
        self._timer.move(self._loop.now + ACCEPT_PAUSE_S)
        if not self._short:
            self._short = True
            if self._on_full is not None:
                self._on_full(error)

    def _resume(self) -> None:
        self.watch.want_read(True)


def open_listeners(places: Sequence[str] | None) -> list[socket.socket]:
    """Listening sockets for `--listen`; SetupError names the place that cannot be had."""
    if places:
        listeners: list[socket.socket] = []
        try:
            for place in places:
                listeners += listen_on(*split_endpoint(place), _ADVICE)
        except SetupError:
            for listener in listeners:
                listener.close()
            raise
        return listeners
    return listen_on("", DIRECTORY_PORT, _ADVICE)


def listen_on(host: str, port: int, advice: Mapping[int, str]) -> list[socket.socket]:
    """Listen on `host` ("": every address, IPv4 and IPv6) and `port`; SetupError.

    `advice`: what to do, by errno, where that is told.
    """
    try:
        # May block, but there is no loop yet that could wait. As bytes: a str goes through the idna
        # codec, which needs unicodedata.
        known = (host.encode() if host.isascii() else host) or None
        found = stream_addresses(known, port, socket.AI_PASSIVE)
    except (OSError, LookupError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or error
        # The network may not be up yet: with FAILED a service manager tries again.
        status = FAILED if getattr(error, "errno", 0) in _NOT_YET else USAGE
        raise SetupError(f"cannot listen on {endpoint_of(host, port)}: {why}", status) from None
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
            place = endpoint_of(str(address[0]), int(address[1]))
            sentence = f"cannot listen on {place}: {error.strerror}"
            hint = advice.get(error.errno or 0)
            if hint:
                sentence += f"; {hint}"
            raise SetupError(sentence, FAILED) from None
    if not listeners:
        raise SetupError(f"cannot listen on {endpoint_of(host, port)}", FAILED)
    return listeners


def _listener(family: int, kind: int, proto: int, address: Any) -> socket.socket:
    sock = socket.socket(family, kind, proto)
    try:
        ask(sock, socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
        sock.listen(LISTEN_BACKLOG)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock
