"""The connections to etcd: the calls of a replica go out, their answers come in.

One request at a time on a connection, as HTTP/1.1 wants it; a connection whose answer is whole is
kept for the next call. A watch has a connection for as long as it lasts.

    state       connected   the answer is whole   lost, or bytes that are no HTTP   dropped
    connecting  -> busy     -                     -> closed, the call failed        -> closed
    busy        -           -> idle (or closed)   -> closed, the call failed        -> closed
    idle        a call: -> busy                   -> closed                         -> closed

The name of an endpoint is looked up anew for each connection, by a child where it is no number.
With TLS the bytes pass a pipe on their way, which checks the certificate against --cluster-ca.
"""

from __future__ import annotations

import errno
import os
import socket

from evloop.base.addresses import endpoint_of
from evloop.net.compat import why_not_connected
from evloop.net.http1 import Answer, HttpError, request
from evloop.net.limits import HTTP_IDLE_MAX
from evloop.net.resolve import Lookup
from evloop.net.tcp import tune
from evloop.system.limits import READ_BYTES_PER_WAKE
from evloop.system.loop import Watched
from evloop.system.timers import NEVER

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Sequence
    from typing import Any

    from evloop.daemon.calls import Call
    from evloop.daemon.replica import Replica
    from evloop.net.tls import TlsPipe
    from evloop.system.loop import Loop


class Engine:
    """Runs `replica` on the loop. `on_events()` is called when it has events.

    `endpoints` are (host, port), `context` is that of TLS or None.
    """

    __slots__ = (
        "_connections",
        "_context",
        "_endpoints",
        "_idle",
        "_idle_at",
        "_loop",
        "_on_events",
        "_pumping",
        "_replica",
        "_timer",
    )

    def __init__(
        self,
        loop: Loop,
        replica: Replica,
        endpoints: Sequence[tuple[str, int]],
        context: ssl.SSLContext | None,
        on_events: Callable[[], object],
    ) -> None:
        self._loop = loop
        self._replica = replica
        self._endpoints = endpoints
        self._context = context
        self._on_events = on_events
        self._connections: dict[int, Carrier] = {}  # by the number of their call
        self._idle: list[Carrier] = []
        self._idle_at = 0  # the endpoint that these lead to
        self._pumping = False
        self._timer = loop.call_at(NEVER, self._on_timer)

    def pump(self) -> None:
        """Do what the replica wants: to be called after everything that was told to it."""
        if self._pumping:
            return
        self._pumping = True
        replica, calls = self._replica, self._replica.calls
        try:
            while calls.dropped or calls.to_send or replica.events:
                dropped, calls.dropped = calls.dropped, []
                for number in dropped:
                    connection = self._connections.pop(number, None)
                    if connection is not None:
                        connection.close()
                if self._idle_at != calls.endpoint:
                    self._forget_idle()
                    self._idle_at = calls.endpoint
                to_send, calls.to_send = calls.to_send, []
                for call in to_send:
                    self._send(call)
                if replica.events:
                    self._on_events()
        finally:
            self._pumping = False
        self._timer.move(replica.next_deadline())

    def close(self) -> None:
        """Let go of everything."""
        self._timer.cancel()
        for connection in list(self._connections.values()):
            connection.close()
        self._connections.clear()
        self._forget_idle()

    def _on_timer(self) -> None:
        self._replica.handle_timer(self._loop.now)
        self.pump()

    def _forget_idle(self) -> None:
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _send(self, call: Call) -> None:
        connection = self._idle.pop() if self._idle else None
        if connection is None:
            host, port = self._endpoints[call.endpoint]
            connection = Carrier(self, self._loop, host, port, self._context)
        self._connections[call.number] = connection
        connection.carry(call)

    # -- what the connections tell -----------------------------------------------------------

    def line(self, call: Call, line: bytes) -> None:
        self._replica.calls.line(call.number, line, self._loop.now)

    def answered(self, connection: Carrier, call: Call, answer: Answer) -> None:
        del self._connections[call.number]
        at_hand = call.endpoint == self._replica.calls.endpoint == self._idle_at
        if answer.reusable and at_hand and len(self._idle) < HTTP_IDLE_MAX:
            self._idle.append(connection)
        else:
            connection.close()
        self._replica.calls.answered(call.number, answer.status, answer.body, self._loop.now)

    def lost(self, connection: Carrier, call: Call | None, why: str) -> None:
        if call is None:
            if connection in self._idle:
                self._idle.remove(connection)
            return
        self._connections.pop(call.number, None)
        self._replica.calls.failed(call.number, why, self._loop.now)
        self.pump()


class Carrier:
    """A connection to an endpoint of etcd, which carries one call at a time."""

    __slots__ = (
        "_addresses",
        "_answer",
        "_call",
        "_closed",
        "_context",
        "_engine",
        "_host",
        "_lookup",
        "_loop",
        "_out",
        "_pipe",
        "_port",
        "_wire",
    )

    def __init__(
        self, engine: Engine, loop: Loop, host: str, port: int, context: ssl.SSLContext | None
    ) -> None:
        self._engine = engine
        self._loop = loop
        self._host, self._port = host, port
        self._context = context
        self._call: Call | None = None
        self._answer = Answer()
        self._out = b""  # what goes on the wire and the kernel did not take yet
        self._addresses: list[tuple[int, tuple[Any, ...]]] = []
        self._wire: Wire | None = None
        self._pipe: TlsPipe | None = None
        self._closed = False
        self._lookup: Lookup | None = Lookup(loop, host, port, self._found)

    def carry(self, call: Call) -> None:
        """Send a call; the connection is new, or its last answer is whole."""
        self._call = call
        self._answer = Answer(lines=call.lines is not None)
        fields = {"Authorization": call.token} if call.token else {}
        method = "GET" if call.body is None else "POST"
        host = endpoint_of(self._host, self._port)
        self._send(request(method, call.path, host, call.body, fields))

    def close(self) -> None:
        """Let go of it; nobody is told."""
        self._closed = True
        self._call = None
        if self._lookup is not None:
            self._lookup.cancel()
            self._lookup = None
        if self._wire is not None:
            self._wire.close_descriptor()

    def _fail(self, why: str) -> None:
        if not self._closed:
            call = self._call
            self.close()
            where = endpoint_of(self._host, self._port)
            self._engine.lost(self, call, f"{where}: {why}")

    # -- connecting --------------------------------------------------------------------------

    def _found(self, addresses: list[tuple[int, tuple[Any, ...]]], why: str) -> None:
        self._lookup = None
        self._addresses = addresses
        self._connect(why)

    def _connect(self, why: str) -> None:
        """Try the next address; `why` the last one was none."""
        while self._addresses:
            family, address = self._addresses.pop(0)
            sock = None
            try:
                sock = socket.socket(family, socket.SOCK_STREAM)
                sock.setblocking(False)
                code = sock.connect_ex(address)
                if code not in (0, errno.EINPROGRESS):
                    raise OSError(code, os.strerror(code))
                tune(sock)
                self._wire = Wire(self._loop, sock, self)
                return
            except OSError as error:
                why = error.strerror or str(error)
                if sock is not None:
                    sock.close()
        self._fail(why)

    def connected(self) -> None:
        """The socket is writable for the first time."""
        wire = self._wire
        assert wire is not None
        why = why_not_connected(wire.fileobj)
        if why:
            wire.close_descriptor()
            self._wire = None
            self._connect(why)
            return
        wire.ready = True
        wire.want_read(True)
        if self._context is not None:
            from evloop.net.tls import TlsPipe  # late: ssl takes 20 MB

            self._pipe = TlsPipe(self._context, server_side=False, host=self._host)
            early, self._out = self._out, self._pipe.start()
            self._out += self._pipe.send(early)
        self.flush()

    # -- moving bytes ------------------------------------------------------------------------

    def _send(self, data: bytes) -> None:
        self._out += data if self._pipe is None else self._pipe.send(data)
        if self._wire is not None and self._wire.ready:
            self.flush()

    def flush(self) -> None:
        """Send as much as the kernel takes."""
        wire = self._wire
        if wire is None or self._closed:
            return
        if self._out:
            try:
                sent = wire.fileobj.send(self._out)
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError:
                self._loop.defer(lambda: self._fail(error.strerror or str(error)))
                return
            self._out = self._out[sent:]
        wire.want_write(bool(self._out))

    def received(self, data: bytes) -> None:
        """Bytes of the wire, or its end."""
        plain, ended = data, not data
        if self._pipe is not None:
            if data:
                plain, wire = self._pipe.receive(data)
                self._out += wire
            else:
                self._pipe.end()
            ended = ended or self._pipe.ended
            if self._pipe.failure is not None:
                self.flush()
                self._fail(self._pipe.failure)
                return
            self.flush()
        call, answer = self._call, self._answer
        if call is None:
            if plain or ended:
                self._fail("it ended an idle connection")
            return
        try:
            for line in answer.feed(plain) if plain else ():
                if self._call is call:
                    self._engine.line(call, line)
            if ended and not answer.over:
                answer.end()
        except HttpError as error:
            self._fail(str(error))
            return
        if answer.over and self._call is call:
            self._call = None
            if ended:
                answer.reusable = False
            self._engine.answered(self, call, answer)
        self._engine.pump()


class Wire(Watched):
    """The socket of a Carrier."""

    __slots__ = ("_carrier", "ready")

    fileobj: socket.socket

    def __init__(self, loop: Loop, sock: socket.socket, carrier: Carrier) -> None:
        super().__init__(loop, sock, False)
        self._carrier = carrier
        self.ready = False
        self.want_write(True)

    def on_read(self) -> None:
        try:
            data = self.fileobj.recv(READ_BYTES_PER_WAKE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._carrier._fail(error.strerror or str(error))
            return
        self._carrier.received(data)

    def on_write(self) -> None:
        if self.ready:
            self._carrier.flush()
        else:
            self._carrier.connected()

    def release(self) -> None:
        self.fileobj.close()
