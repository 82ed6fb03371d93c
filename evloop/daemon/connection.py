"""One client's connection to the directory: who it is, and how it can fail."""

from __future__ import annotations

from evloop.base.addresses import endpoint_of, is_loopback, plain_host
from evloop.base.errors import INVALID_REQUEST, FrameError
from evloop.directory import protocol
from evloop.net.hub import Hub
from evloop.net.stream import Stream

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from typing import Protocol

    from evloop.daemon.relayed_room import Member
    from evloop.net.tls import TlsPipe

    class Server(Protocol):
        """The owner of connections, which is told what happens to them."""

        hub: Hub

        def handle(self, connection: Connection, payloads: list[bytes], /) -> int: ...
        def handle_mixed(self, connection: Connection, payloads: list[bytes], /) -> int: ...
        def answer(self, connection: Connection, reply: bytes, depends: None, /) -> None: ...
        def blame(self, connection: Connection, what: str, why: str | None, /) -> None: ...
        def forget(self, connection: Connection, /) -> None: ...


class Connection(Stream):
    """One client. `number` names it on the console, `peer` in the log.

    There may be 10,000 of these: values that are seldom needed are made when they are asked for.
    """

    __slots__ = (
        "bad",
        "client",
        "host",
        "name",
        "number",
        "port",
        "relayed",
        "server",
        "visitor",
    )

    def __init__(
        self,
        server: Server,
        sock: socket.socket,
        host: str,
        port: int,
        pipe: TlsPipe | None,
    ) -> None:
        super().__init__(server.hub, sock, pipe)
        self.server = server
        self.host = host
        self.port = port
        self.number = 0
        self.visitor = ""  # what `Guard.admit` returned for it
        self.bad = 0  # payloads in a row that were no requests
        self.client = ""
        self.name = ""
        # By handle, what it is in relayed rooms; None: it has never entered with a sender.
        self.relayed: dict[int, Member] | None = None

    @property
    def peer(self) -> str:
        """Where it comes from, as text."""
        return endpoint_of(self.host, self.port)

    @property
    def by_ipv6(self) -> bool:
        """Whether it comes from elsewhere, by IPv6."""
        host = plain_host(self.host)
        return ":" in host and not is_loopback(host)

    def payloads(self, frames: list[bytes]) -> int:
        if self.relayed is None:
            return self.server.handle(self, frames)
        return self.server.handle_mixed(self, frames)

    def broken(self, error: FrameError) -> None:
        self.server.blame(self, "broken", str(error))
        if not self._eof:
            reply = protocol.error(
                protocol.NULL,
                INVALID_REQUEST,
                str(error),
                {"reason": "frame_too_large"},
            )
            self.server.answer(self, reply, None)
        self.close(str(error))

    def insecure(self, why: str) -> None:
        self.server.blame(self, "insecure", why)
        if self.go_plain():
            sentence = "this port speaks TLS only: connect with --tls"
            reply = protocol.error(protocol.NULL, INVALID_REQUEST, sentence)
            self.server.answer(self, reply, None)
        self.close(why)

    def expired(self) -> None:
        self.server.blame(self, "timed out", None)
        super().expired()

    def overloaded(self) -> None:
        self.server.blame(self, "cut off", "too much waits for slow readers")
        super().overloaded()

    def ended(self, why: str) -> None:
        self.server.forget(self)
