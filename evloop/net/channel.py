"""One outgoing connection of bytes, by TCP or TLS, to a server of somebody else.

Whoever speaks the protocol (HTTP to etcd, NATS) is handed bytes and hands bytes in:

    state       next address fails   connected          TLS done   bytes           close
    resolving   -                    -                  -          -               -> closed
    connecting  the next, or lost    -> open, shaking   -          -               -> closed
    shaking     lost                 -                  -> open    kept by TLS     -> closed
    open        -                    -                  -          `received`      -> closed
    closed      nothing, for ever

`opened()`, `received(data)` and `lost(why)` come from the loop, never from a call of the owner's;
`lost` comes once and is the last, and it never comes after `close`.
"""

from __future__ import annotations

import os
import socket

from evloop.net.compat import why_not_connected
from evloop.net.limits import CHANNEL_OPEN_S, CHANNEL_READ_BYTES, CHANNEL_UNSENT_BYTES_MAX
from evloop.net.resolve import Lookup
from evloop.net.tcp import connect_error, connecting
from evloop.system.timers import NEVER, nothing

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from typing import Any

    from evloop.net.tls import TlsPipe
    from evloop.system.loop import Loop, Watch

    Address = tuple[int, Any]

RESOLVING, CONNECTING, SHAKING, OPEN, CLOSED = (
    "resolving",
    "connecting",
    "shaking",
    "open",
    "closed",
)


class Channel:
    """A connection to TCP `port` of `host` (a name or a number), in at most `seconds` an address.

    `context` (of net/tls) speaks TLS from the first byte. `state` is for reading.
    """

    __slots__ = (
        "_address",
        "_addresses",
        "_context",
        "_host",
        "_lookup",
        "_loop",
        "_lost",
        "_opened",
        "_out",
        "_pipe",
        "_received",
        "_seconds",
        "_timer",
        "_watch",
        "_why",
        "state",
    )

    def __init__(
        self,
        loop: Loop,
        host: str,
        port: int,
        *,
        opened: Callable[[], object],
        received: Callable[[bytes], object],
        lost: Callable[[str], object],
        context: ssl.SSLContext | None = None,
        seconds: float = CHANNEL_OPEN_S,
    ) -> None:
        self._loop = loop
        self._host = host
        self._opened, self._received, self._lost = opened, received, lost
        self._context = context
        self._seconds = seconds
        self._address: Any = None  # that is being connected to
        self._addresses: list[Address] = []  # to be tried after it
        self._watch: Watch | None = None
        self._pipe: TlsPipe | None = None
        self._out = b""  # wire bytes that the kernel did not take yet
        self._why = ""
        self._timer = loop.call_at(NEVER, self._too_late)
        self.state = RESOLVING
        self._lookup: Lookup | None = Lookup(loop, host, port, self._resolved)

    @property
    def unsent(self) -> int:
        """Bytes that wait for the kernel to take them."""
        return len(self._out)

    def send(self, data: bytes) -> bool:
        """Send `data`; False when nothing of it was taken: not open, or too much is unsent."""
        if self.state is not OPEN or len(self._out) + len(data) > CHANNEL_UNSENT_BYTES_MAX:
            return False
        self._write(self._pipe.send(data) if self._pipe is not None else data)
        return True

    def start_tls(self, context: ssl.SSLContext) -> None:
        """Speak TLS from now on; `opened` comes once more when it stands.

        For protocols whose first words are plain. Nothing may have come that is not handled.
        """
        if self.state is CLOSED:
            return
        from evloop.net.tls import TlsPipe  # late: most speak none, and ssl takes 20 MB

        self._pipe = TlsPipe(context, server_side=False, host=self._host)
        self.state = SHAKING
        self._timer.move(self._loop.now + self._seconds)
        self._write(self._pipe.start())

    def close(self) -> None:
        """Close at once; what is unsent is lost. A second call does nothing."""
        if self.state is CLOSED:
            return
        self.state = CLOSED
        self._out = b""
        self._timer.cancel()
        if self._lookup is not None:
            self._lookup.cancel()
            self._lookup = None
        if self._watch is not None:
            self._watch.close()
            self._watch = None
        self._opened = self._received = self._lost = nothing

    # -- connecting --------------------------------------------------------------------------

    def _resolved(self, addresses: list[Address], why: str) -> None:
        self._lookup = None
        self._addresses, self._why = addresses, why
        self._next_address()

    def _next_address(self) -> None:
        while self._addresses:
            family, address = self._addresses.pop(0)
            self.state = CONNECTING
            try:
                sock = connecting(family, address)
            except OSError as error:
                self._why = why_not_connected(address, error.errno)
                continue
            self._timer.move(self._loop.now + self._seconds)
            self._address = address
            self._watch = self._loop.watch(sock, None, self._connected, sock.close)
            self._watch.want_write(True)
            return
        self._fail(self._why)

    def _connected(self) -> None:
        assert self._watch is not None
        sock = self._watch.fileobj
        assert isinstance(sock, socket.socket)
        error = connect_error(sock)
        if error:
            self._drop_socket()
            self._why = why_not_connected(self._address, error)
            self._next_address()
            return
        self._watch.release = nothing  # the descriptor lives on
        self._watch.close()
        self._watch = self._loop.watch(sock, self._read, self._flush, sock.close)
        self._addresses = []
        if self._context is not None:
            self.start_tls(self._context)
            return
        self._is_open()

    def _is_open(self) -> None:
        self.state = OPEN
        self._timer.move(NEVER)
        self._opened()

    def _too_late(self) -> None:
        self._why = "it does not answer"
        self._drop_socket()
        if self.state is CONNECTING and self._addresses:
            self._next_address()
        else:
            self._fail(self._why)

    def _drop_socket(self) -> None:
        if self._watch is not None:
            self._watch.close()
            self._watch = None

    def _fail(self, why: str) -> None:
        lost = self._lost
        self.close()
        lost(why)

    # -- bytes -------------------------------------------------------------------------------

    def _read(self) -> None:
        assert self._watch is not None
        sock = self._watch.fileobj
        assert isinstance(sock, socket.socket)
        try:
            data = sock.recv(CHANNEL_READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._fail(os.strerror(error.errno or 0))
            return
        if self._pipe is not None:
            self._unseal(self._pipe, data)
        elif data:
            self._received(data)
        else:
            self._fail("it closed the connection")

    def _unseal(self, pipe: TlsPipe, data: bytes) -> None:
        if data:
            plain, wire = pipe.receive(data)
            self._write(wire)
        else:
            pipe.end()
            plain = b""
        if self.state is SHAKING and not pipe.shaking and pipe.failure is None:
            self._is_open()
        if plain and self.state is OPEN:
            self._received(plain)
        if self.state is CLOSED:  # by the owner, on what it was handed
            return
        if pipe.failure is not None:
            self._fail(pipe.failure)
        elif pipe.ended:
            self._fail("it closed the connection")

    def _write(self, wire: bytes) -> None:
        waiting = bool(self._out)
        self._out += wire
        if not waiting:
            self._flush()

    def _flush(self) -> None:
        if self._watch is None or not self._out:
            return
        sock = self._watch.fileobj
        assert isinstance(sock, socket.socket)
        try:
            sent = sock.send(self._out)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            # The next read tells why, in a tick of its own: `lost` never comes from a call of the
            # owner's.
            self._out = b""
            sent = 0
        self._out = self._out[sent:]
        self._watch.want_write(bool(self._out))
