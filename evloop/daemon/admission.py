"""Which connections are admitted: how many at once, and how many new ones a second from a visitor.

A visitor is an IPv4 address, a near IPv6 address or the /64 of a far one (base.addresses). All near
ones of a /64 together have a limit too, NETWORK_FACTOR times that of one. The questions, in order:

    question                                        no                      yes
    fewer than `clients` connections in all?        Refused, retry in 5 s   go on
    fewer than `per_visitor` of this visitor?       Refused, retry in 5 s   go on
    fewer than the limit of its network?            Refused, retry in 5 s   go on
    a token in its bucket, and its network's?       Refused, retry then     counted, admitted

Only admitted connections are counted, so the table of counts is never longer than twice `clients`;
the tables of buckets have their own cap. How long a client may be silent is not decided here: the
spans are in `limits` (UNFINISHED_FRAME_S, WRITE_PROGRESS_S, TLS_HANDSHAKE_S) and run in the stream.

What a new connection is told:

    accepted by the kernel   plain                            with TLS
    the guard admits it      welcome                          welcome, with a pipe
    the guard refuses it     one error reply, then closed     one TLS alert, then closed
    more than                the same, without waiting for it to be read
    TURNED_AWAY_MAX of those

A refused client with TLS gets no sentence: the connection has no keys yet, and to make them would
cost more than to serve it.
"""

from __future__ import annotations

import socket

from evloop.base.addresses import endpoint_of, plain_host, prefix_of, visitor_of
from evloop.base.errors import SLOW_DOWN, Refused
from evloop.base.ratelimit import AddressRates
from evloop.daemon.limits import (
    CONNECTIONS_BURST,
    CONNECTIONS_PER_S,
    DESCRIPTORS_RESERVED,
    FULL_RETRY_S,
    NETWORK_FACTOR,
    TURNED_AWAY_MAX,
)
from evloop.directory import protocol
from evloop.framing import pack_frame
from evloop.net.acceptor import Acceptor
from evloop.net.hub import Hub
from evloop.net.stream import Stream
from evloop.net.tcp import tune
from evloop.system.limits import READ_BYTES_PER_WAKE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from evloop.daemon.connection import Connection
    from evloop.daemon.dispatcher import Dispatcher
    from evloop.net.tls import ServerTls
    from evloop.system.loop import Loop


def _slow_down(sentence: str, retry_after: float) -> Refused:
    return Refused(SLOW_DOWN, "slow_down", sentence, {"retry_after": round(retry_after, 3)})


class Guard:
    """Admits connections: at most `clients` in all and `per_visitor` (0: no cap) from each."""

    __slots__ = ("_network_rates", "_rates", "clients", "count", "counts", "per_visitor")

    def __init__(self, clients: int, per_visitor: int) -> None:
        self.clients = clients
        self.per_visitor = per_visitor
        self.count = 0
        self.counts: dict[str, tuple[str, int]] = {}  # the key again, and how many
        rate = CONNECTIONS_PER_S if per_visitor else 0.0
        self._rates = AddressRates(rate, float(CONNECTIONS_BURST))
        self._network_rates = self._rates.times(NETWORK_FACTOR)

    def admit(self, host: str, now: float, own: str = "") -> str:
        """Count a connection from the numeric address `host`; return its visitor for `release`.

        `own` is the address of ours that was connected to.

        Raises Refused `slow_down` (with `retry_after`) when there is no place.
        """
        if self.count >= self.clients:
            raise _slow_down(
                f"the server is full ({self.clients} clients); try again later", FULL_RETRY_S
            )
        visitor = visitor_of(host, own)
        # All connections of one visitor share one text, which is kept once for 10,000 of them.
        visitor, count = self.counts.get(visitor, (visitor, 0))
        if self.per_visitor and count >= self.per_visitor:
            raise _slow_down(f"{count} connections from {visitor} are enough", FULL_RETRY_S)
        network = prefix_of(visitor)
        together = self.counts.get(network, (network, 0))[1] if network != visitor else 0
        if self.per_visitor and together >= NETWORK_FACTOR * self.per_visitor:
            raise _slow_down(f"{together} connections from {network} are enough", FULL_RETRY_S)
        wait = self._rates.take(visitor, now)
        if network != visitor and not wait:
            wait = self._network_rates.take(network, now)
        if wait:
            raise _slow_down(f"too many new connections from {visitor}; wait a moment", wait)
        self._count(visitor, 1)
        if network != visitor:
            self._count(network, 1)
        self.count += 1
        return visitor

    def release(self, visitor: str) -> None:
        """The connection that `admit` gave `visitor` for has ended."""
        self._count(visitor, -1)
        network = prefix_of(visitor)
        if network != visitor:
            self._count(network, -1)
        self.count -= 1

    def _count(self, who: str, more: int) -> None:
        who, count = self.counts.get(who, (who, 0))
        if count + more:
            self.counts[who] = who, count + more
        else:
            del self.counts[who]


def clients_that_fit(wanted: int, descriptors: int) -> int:
    """`wanted` clients (0: any number), or as many as `descriptors` open files leave room for."""
    fit = max(0, descriptors - DESCRIPTORS_RESERVED)
    return min(wanted, fit) if wanted else fit


class TurnedAway(Stream):
    """A connection that gets one error and is closed, without a reset."""

    __slots__ = ("_over",)

    def __init__(
        self, hub: Hub, sock: socket.socket, last_words: bytes, over: Callable[[Any], object]
    ) -> None:
        super().__init__(hub, sock)
        self._over = over
        self.send(last_words)
        self.close("turned away")

    def ended(self, why: str) -> None:
        self._over(self)


class Admission:
    """Accepts on its listeners until it is closed; gives admitted connections to the dispatcher.

    When a connection has ended, `release` must be called.
    """

    __slots__ = ("_acceptors", "_dispatcher", "_loop", "_tls", "_turned_away", "guard")

    def __init__(
        self, loop: Loop, dispatcher: Dispatcher, guard: Guard, tls: ServerTls | None
    ) -> None:
        self._loop = loop
        self._dispatcher = dispatcher
        self.guard = guard
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
        """Accept no more, and drop refused connections that were still being told why."""
        self.close()
        for stream in list(self._turned_away):
            stream.abort("the server has ended")

    def release(self, connection: Connection) -> None:
        """A connection has ended."""
        self.guard.release(connection.visitor)

    def _accept(self, sock: socket.socket, address: Any) -> None:
        host, port = plain_host(address[0]), address[1]
        try:
            own = sock.getsockname()[0] if ":" in host else ""
            visitor = self.guard.admit(host, self._loop.now, own)
        except Refused as refused:
            self._turn_away(sock, endpoint_of(host, port), refused)
            return
        dispatcher = self._dispatcher
        dispatcher.metrics.count("connections")
        try:
            tune(sock)
            pipe = None if self._tls is None else self._tls.pipe()
        except BaseException:  # such as out of memory: the count must not keep this connection
            self.guard.release(visitor)
            sock.close()
            raise
        if host == visitor:
            host = visitor  # the same text, which is kept anyway
        dispatcher.welcome(sock, host, port, pipe).visitor = visitor

    def _turn_away(self, sock: socket.socket, peer: str, refused: Refused) -> None:
        self._dispatcher.metrics.count("connections_refused")
        self._dispatcher.log.info("turned away", peer=peer, why=refused.sentence)
        if self._tls is None:
            last_words = pack_frame(protocol.refusal(protocol.NULL, refused))
        else:
            last_words = self._tls.refusal
        if len(self._turned_away) < TURNED_AWAY_MAX:
            hub = self._dispatcher.hub
            self._turned_away.add(TurnedAway(hub, sock, last_words, self._turned_away.discard))
        else:
            _tell_and_close(sock, last_words)

    def _full(self, error: OSError) -> None:
        self._dispatcher.metrics.count("accept_pauses")
        self._dispatcher.log.warning(
            "no more connections can be taken for a moment", why=error.strerror
        )


def _tell_and_close(sock: socket.socket, last_words: bytes) -> None:
    """Send `last_words` and close at once. What has come is read first: else closing is a reset."""
    try:
        sock.send(last_words)
        sock.recv(READ_BYTES_PER_WAKE)
    except OSError:  # gone, or nothing has come: closed all the same
        pass
    sock.close()
