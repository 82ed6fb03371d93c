"""The door of the server: who comes in, who is turned away, and how they are told.

    accepted by the kernel   plain                            with TLS
    the guard admits it      welcome                          welcome, with a pipe
    the guard refuses it     one error reply, then closed     one TLS alert, then closed
    more than                the same, without waiting for it to be read
    TURNED_AWAY_MAX of those

A refused client with TLS gets no sentence: it has no keys yet, and to make them would cost more
than to serve it.
"""

import socket

from evloop.base.endpoints import endpoint_of
from evloop.base.errors import Refused
from evloop.base.limits import READ_BYTES_PER_WAKE, TURNED_AWAY_MAX
from evloop.base.peers import plain_host
from evloop.directory import protocol
from evloop.framing import pack_frame
from evloop.net.acceptor import Acceptor
from evloop.net.stream import Hub, Stream
from evloop.net.tcp import tune

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from evloop.daemon.admission import Guard
    from evloop.daemon.connection import Connection
    from evloop.daemon.dispatcher import Registrar
    from evloop.net.tls import ServerTls
    from evloop.system.loop import Loop


class TurnedAway(Stream):
    """A connection that gets one error and is closed, without a reset."""

    __slots__ = ("_over",)

    def __init__(
        self, hub: Hub, sock: socket.socket, last_words: bytes, over: "Callable[[Any], object]"
    ) -> None:
        super().__init__(hub, sock)
        self._over = over
        self.send(last_words)
        self.close("turned away")

    def ended(self, why: str) -> None:
        self._over(self)


class Door:
    """Accepts on its listeners until it is closed, and hands whom it admits to the registrar.

    When a connection has ended, `release` must be told.
    """

    __slots__ = ("_acceptors", "_guard", "_loop", "_registrar", "_tls", "_turned_away")

    def __init__(
        self, loop: "Loop", registrar: "Registrar", guard: "Guard", tls: "ServerTls | None"
    ) -> None:
        self._loop = loop
        self._registrar = registrar
        self._guard = guard
        self._tls = tls
        self._acceptors: list[Acceptor] = []
        self._turned_away: set[TurnedAway] = set()

    def open(self, listener: socket.socket) -> None:
        """Accept from `listener`, and own it."""
        self._acceptors.append(Acceptor(self._loop, listener, self._accept, self._full))

    def close(self) -> None:
        """Accept no more."""
        for acceptor in self._acceptors:
            acceptor.close()

    def abort(self) -> None:
        """Accept no more, and forget whom we were still telling why."""
        self.close()
        for stream in list(self._turned_away):
            stream.abort("the server has ended")

    def release(self, connection: "Connection") -> None:
        """A connection has ended."""
        self._guard.release(connection.visitor)

    def _accept(self, sock: socket.socket, address: "Any") -> None:
        host, port = plain_host(address[0]), address[1]
        try:
            visitor = self._guard.admit(host, self._loop.now)
        except Refused as refused:
            self._turn_away(sock, endpoint_of(host, port), refused)
            return
        registrar = self._registrar
        registrar.metrics.count("connections")
        try:
            tune(sock)
            pipe = None if self._tls is None else self._tls.pipe()
        except BaseException:  # out of memory, say: its place must not be lost with it
            self._guard.release(visitor)
            sock.close()
            raise
        if host == visitor:
            host = visitor  # the same text, which is kept anyway
        registrar.welcome(sock, host, port, pipe).visitor = visitor

    def _turn_away(self, sock: socket.socket, peer: str, refused: Refused) -> None:
        self._registrar.metrics.count("connections_refused")
        self._registrar.log.info("turned away", peer=peer, why=refused.sentence)
        if self._tls is None:
            last_words = pack_frame(protocol.refusal(protocol.NULL, refused))
        else:
            last_words = self._tls.refusal
        if len(self._turned_away) < TURNED_AWAY_MAX:
            hub = self._registrar.hub
            self._turned_away.add(TurnedAway(hub, sock, last_words, self._turned_away.discard))
        else:
            _tell_and_close(sock, last_words)

    def _full(self, error: OSError) -> None:
        self._registrar.metrics.count("accept_pauses")
        self._registrar.log.warning(
            "no more connections can be taken for a moment", why=error.strerror
        )


def _tell_and_close(sock: socket.socket, last_words: bytes) -> None:
    """Without keeping the descriptor. What has come is read, or closing would be a reset."""
    try:
        sock.send(last_words)
        sock.recv(READ_BYTES_PER_WAKE)
    except OSError:  # gone, or nothing has come: closed all the same
        pass
    sock.close()
