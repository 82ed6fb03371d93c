"""One connection to a NATS server, for as long as the process runs: lost, it is made again.

Source: "NATS Client Protocol", docs.nats.io. Core NATS only: it forgets, which is what datagrams
want. Of several servers they are tried in turn.

    state     INFO                    channel opens     PONG       -ERR, lost, 10 s of silence
    waiting   -                       -                 -          -
    opening   -                       -> greeting       -          -> waiting
    greeting  TLS: -> shaking         -                 -          -> waiting
              else says CONNECT, PING: -> joining
    shaking   -                       says CONNECT,     -          -> waiting
                                      PING: -> joining
    joining   -                       -                 -> ready   -> waiting
    ready     -                       -                 -          -> waiting

`waiting` ends by a timer: NATS_RETRY_S_MIN doubled up to NATS_RETRY_S_MAX, jittered. Nothing is
kept for later: what cannot be sent now is not sent.
"""

from __future__ import annotations

from evloop.base.addresses import endpoint_of
from evloop.base.errors import FrameError
from evloop.net.channel import Channel
from evloop.net.limits import (
    NATS_PING_S,
    NATS_RETRY_S_MAX,
    NATS_RETRY_S_MIN,
    NATS_SILENCE_S,
)
from evloop.net.natswire import (
    ANSWER,
    ASK,
    PING,
    PONG,
    Info,
    Message,
    NatsDecoder,
    Refusal,
    connect,
    publish,
    subscribe,
    unsubscribe,
)
from evloop.system.timers import NEVER, nothing

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable, Sequence
    from random import Random
    from typing import Any

    from evloop.net.natswire import Event
    from evloop.system.loop import Loop

WAITING, OPENING, GREETING, SHAKING, JOINING, READY = (
    "waiting",
    "opening",
    "greeting",
    "shaking",
    "joining",
    "ready",
)


class NatsLink:
    """Connected to one of `servers` (host, port) whenever it can be.

    `fields` go into CONNECT (name, user, pass, auth_token). `context` speaks TLS after INFO, as
    NATS does. From the loop come `ready()`; `message(sid, subject, payload)`; `refused(words)`, of
    a subject that we may not use, and the connection goes on; `lost(why)`, at each try that fails
    too. Subscriptions end with the connection: `ready` makes them.
    """

    __slots__ = (
        "_at",
        "_channel",
        "_context",
        "_decoder",
        "_fields",
        "_heard",
        "_loop",
        "_rng",
        "_servers",
        "_timer",
        "_tries",
        "lost",
        "message",
        "ready",
        "refused",
        "state",
    )

    def __init__(
        self,
        loop: Loop,
        servers: Sequence[tuple[str, int]],
        fields: dict[str, Any],
        context: ssl.SSLContext | None,
        rng: Random,
    ) -> None:
        self._loop = loop
        self._servers = servers
        self._fields = {"verbose": False, "pedantic": False, "echo": False, **fields}
        self._context = context
        self._rng = rng
        self._at = 0
        self._tries = 0
        self._heard = 0.0  # when the server last sent something
        self._channel: Channel | None = None
        self._decoder = NatsDecoder()
        self._timer = loop.call_at(loop.now, self._on_timer)
        self.ready: Callable[[], object] = nothing
        self.message: Callable[[str, str, bytes], object] = nothing
        self.lost: Callable[[str], object] = nothing
        self.refused: Callable[[str], object] = nothing
        self.state = WAITING

    @property
    def server(self) -> str:
        """HOST:PORT of the one that is connected, or tried."""
        host, port = self._servers[self._at]
        return endpoint_of(host, port)

    def subscribe(self, subject: str, sid: int) -> bool:
        """Ask for what is published under `subject`; False: not connected."""
        return self._say(subscribe(subject, sid))

    def unsubscribe(self, sid: int) -> bool:
        return self._say(unsubscribe(sid))

    def publish(self, subject: bytes, payloads: Iterable[bytes]) -> bool:
        """Publish all of them now, or nothing; False: not connected, or too much is unsent."""
        return self._say(b"".join([publish(subject, payload) for payload in payloads]))

    def close(self) -> None:
        """End it for good."""
        self._timer.cancel()
        self._drop()

    # -- the way to ready ------------------------------------------------------------------------

    def _on_timer(self) -> None:
        if self.state == WAITING:
            self._open()
            return
        silent = self._loop.now - self._heard
        if silent >= NATS_SILENCE_S or self.state != READY:
            self._lost("it is silent")
            return
        self._say(ASK)
        self._timer.move(self._heard + NATS_SILENCE_S)

    def _open(self) -> None:
        host, port = self._servers[self._at]
        self.state = OPENING
        self._decoder = NatsDecoder()
        self._timer.move(NEVER)
        self._channel = Channel(
            self._loop, host, port, opened=self._opened, received=self._received, lost=self._lost
        )

    def _opened(self) -> None:
        self._timer.move(self._loop.now + NATS_SILENCE_S)
        if self.state == OPENING:
            self.state = GREETING
        elif self.state == SHAKING:
            self._join()

    def _greeted(self, info: Info) -> None:
        if self.state != GREETING:  # news of its cluster
            return
        if self._context is None:
            if info.fields.get("tls_required"):
                self._lost("it wants TLS; --bridge-ca says who signed its certificate")
                return
            self._join()
            return
        if not (info.fields.get("tls_required") or info.fields.get("tls_available")):
            self._lost("it speaks no TLS, and --bridge-ca asks for it")
            return
        assert self._channel is not None
        self.state = SHAKING
        self._channel.start_tls(self._context)

    def _join(self) -> None:
        self.state = JOINING
        self._say(connect(self._fields) + ASK)

    def _received(self, data: bytes) -> None:
        self._heard = self._loop.now
        if self.state == READY:
            self._timer.move(self._heard + NATS_PING_S)
        try:
            events = self._decoder.feed(data)
        except FrameError as error:
            self._lost(str(error))
            return
        channel = self._channel
        for event in events:
            self._take(event)
            if self._channel is not channel:  # this event ended it
                return

    def _take(self, event: Event) -> None:
        if isinstance(event, Message):
            self.message(event.sid, event.subject, event.payload)
        elif event == PING:
            self._say(ANSWER)
        elif event == PONG:
            if self.state == JOINING:
                self.state = READY
                self._tries = 0
                self._timer.move(self._loop.now + NATS_PING_S)
                self.ready()
        elif isinstance(event, Info):
            self._greeted(event)
        elif isinstance(event, Refusal):
            # Of one subject the connection survives; the operator reads the words all the same.
            if event.text.startswith("Permissions Violation") and self.state == READY:
                self.refused(f"{self.server}: {event.text}")
            else:
                self._lost(event.text)

    def _lost(self, why: str) -> None:
        self._drop()
        self.state = WAITING
        most = min(NATS_RETRY_S_MAX, NATS_RETRY_S_MIN * 2 ** min(self._tries, 10))
        self._tries += 1
        self._timer.move(self._loop.now + most * (0.5 + 0.5 * self._rng.random()))
        server = self.server
        self._at = (self._at + 1) % len(self._servers)
        self.lost(f"{server}: {why}")

    def _drop(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def _say(self, data: bytes) -> bool:
        return self._channel is not None and self._channel.send(data)
