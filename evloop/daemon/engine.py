"""The connections to etcd: the calls of a replica go out, their answers come in.

One request at a time on a connection, as HTTP/1.1 wants it; a connection whose answer is whole is
kept for the next call. A watch has a connection for as long as it lasts.

    state       connected   the answer is whole   lost, or bytes that are no HTTP   dropped
    connecting  -> busy     -                     -> closed, the call failed        -> closed
    busy        -           -> idle (or closed)   -> closed, the call failed        -> closed
    idle        a call: -> busy                   -> closed                         -> closed

With --cluster-ca all of them speak TLS, and etcd's certificate is checked.
"""

from __future__ import annotations

from evloop.base.addresses import endpoint_of
from evloop.net.channel import OPEN, Channel
from evloop.net.http1 import Answer, HttpError, request
from evloop.net.limits import HTTP_IDLE_MAX
from evloop.system.timers import NEVER

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Sequence

    from evloop.daemon.calls import Call
    from evloop.daemon.replica import Replica
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
        self.pump()

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

    __slots__ = ("_answer", "_call", "_channel", "_engine", "_request", "_where")

    def __init__(
        self, engine: Engine, loop: Loop, host: str, port: int, context: ssl.SSLContext | None
    ) -> None:
        self._engine = engine
        self._where = endpoint_of(host, port)
        self._call: Call | None = None
        self._answer = Answer()
        self._request = b""  # what waits for the connection to be made
        self._channel = Channel(
            loop,
            host,
            port,
            opened=self._opened,
            received=self._received,
            lost=self._lost,
            context=context,
        )

    def carry(self, call: Call) -> None:
        """Send a call; the connection is new, or its last answer is whole."""
        self._call = call
        self._answer = Answer(lines=call.lines is not None)
        fields = {"Authorization": call.token} if call.token else {}
        method = "GET" if call.body is None else "POST"
        self._request = request(method, call.path, self._where, call.body, fields)
        if self._channel.state is OPEN:
            self._opened()

    def close(self) -> None:
        """Let go of it; nobody is told."""
        self._call = None
        self._channel.close()

    def _opened(self) -> None:
        data, self._request = self._request, b""
        sent = self._channel.send(data)
        assert sent, "one request at a time is unsent, and none is as large as the cap"

    def _lost(self, why: str) -> None:
        call, answer = self._call, self._answer
        self._call = None
        if call is not None and answer.status:
            try:
                answer.end()  # one whose length was not told ends so
            except HttpError as error:
                why = str(error)
            else:
                answer.reusable = False
                self._engine.answered(self, call, answer)
                return
        self._engine.lost(self, call, f"{self._where}: {why}")

    def _received(self, data: bytes) -> None:
        call, answer = self._call, self._answer
        if call is None:  # it speaks while it was asked nothing
            self._channel.close()
            self._engine.lost(self, None, "")
            return
        try:
            for line in answer.feed(data):
                if self._call is call:  # what it was told may make the replica give up
                    self._engine.line(call, line)
        except HttpError as error:
            self._channel.close()
            self._lost(str(error))
            return
        if answer.over and self._call is call:
            self._call = None
            self._engine.answered(self, call, answer)
        self._engine.pump()
