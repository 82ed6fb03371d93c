"""The client's connection to a directory: look up, connect, greet, ask, and come back.

    state        connect()      works           fails                    close()
    idle         -> resolving   -               -                        -
    resolving    -              -> connecting   -> idle (or waiting)     -> idle
    connecting   -              -> greeting     -> idle (or waiting)     -> idle
    greeting     -              -> ready        -> idle (or waiting)     -> idle
    ready        -              -               -> waiting               -> idle
    waiting      -              (time comes)    -> resolving             -> idle

A connection that the operator has ended (`closing` with `final`) is not made anew by itself: to
come back after two seconds would undo his `kick`. It is idle, and `on_lost` gets inf.

When the network changes, a client that waits tries at once, and one that is ready may doubt its
connection (`doubt`).

When a connection that the user asked for fails, the failure is reported and no further try is made.
One that was ready and is lost is made anew, without end, with back-off and jitter. Of several
targets (`--server A,B`) the next one is tried when one does not answer: at once on behalf of the
user, and with each back-off when the connection was lost. `redirect` adds one that was found.
"""

from __future__ import annotations

import socket

from evloop.base.addresses import endpoint_of, plain_host
from evloop.base.errors import (
    INVALID_REQUEST,
    MISMATCH,
    PARSE_ERROR,
    REFUSED,
    UNREACHABLE,
    EvloopError,
    FrameError,
    Refused,
    RemoteProtocolError,
)
from evloop.base.names import quoted
from evloop.directory import protocol
from evloop.directory.greeting import Greeting, other_protocol
from evloop.directory.limits import (
    ADDRESS_S_MAX,
    CONNECT_S_MAX,
    RECONNECT_S_MAX,
    RECONNECT_S_MIN,
    REQUEST_S_MAX,
    SENTENCE_CHARS_MAX,
)
from evloop.directory.target import Target
from evloop.framing import pack_frame
from evloop.net.compat import why_not_connected
from evloop.net.resolve import Lookup
from evloop.net.stream import OPEN, Stream
from evloop.net.tcp import connect_error, connecting
from evloop.system.timers import NEVER, Timeouts, nothing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random
    from typing import Any

    from evloop.directory.doubt import Doubt
    from evloop.net.hub import Hub
    from evloop.net.links import Link
    from evloop.net.tls import TlsPipe
    from evloop.system.loop import Loop, Watch

    Done = Callable[[Any, EvloopError | None], object]

# What answers a greeting that is none to the other side: it speaks TLS only, or is no directory.
_NOT_UNDERSTOOD = (PARSE_ERROR, INVALID_REQUEST)
IDLE, RESOLVING, CONNECTING, GREETING, READY, WAITING = range(6)
PROTOCOL = 1


class Unreachable(EvloopError):
    """The directory could not be reached, or was lost before it answered."""

    exit_status = UNREACHABLE


class NobodyThere(Unreachable):
    """Nothing answers at that address."""

    __slots__ = ()


class Searched(Unreachable):
    """No directory was found on the network: the sentence says all; "": it was said."""

    __slots__ = ()


class ProtocolMismatch(EvloopError):
    """The directory speaks another version of the protocol, or another protocol."""

    exit_status = MISMATCH


class Insecure(EvloopError):
    """TLS with the directory failed: its certificate is not accepted, or it refuses ours."""

    exit_status = REFUSED


class _DirectoryStream(Stream):
    """The TCP connection of a `DirectoryClient`."""

    __slots__ = ("_link",)

    def __init__(
        self, link: DirectoryClient, hub: Hub, sock: socket.socket, pipe: TlsPipe | None
    ) -> None:
        self._link = link
        super().__init__(hub, sock, pipe)

    def payloads(self, frames: list[bytes]) -> int:
        for taken, data in enumerate(frames, 1):
            self._link.received(data)
            if self.state != OPEN:
                return taken
        return len(frames)

    def broken(self, error: FrameError) -> None:
        self._link.mismatch(error)

    def insecure(self, why: str) -> None:
        self._link.insecure(self, why, self.go_plain())
        self.close(why)

    def expired(self) -> None:
        self.abort("it does not answer")

    def ended(self, why: str) -> None:
        self._link.lost(self, why)


class DirectoryClient:
    """One directory. The owner sets the three functions that tell it what happens.

    `rng()` gives the random source, when one is needed: a first prompt does not wait for it.
    """

    def __init__(
        self,
        loop: Loop,
        hub: Hub,
        rng: Callable[[], Random],
        client: str,
        name: Callable[[], str],
    ) -> None:
        self.state = IDLE
        self.endpoint = ""  # as text, for people
        self.address: tuple[Any, ...] | None = None  # of the socket, when connected
        self.version = 0
        self.identity = ""  # of the directory that greeted last: 16 hex digits; "" of 0.1.0
        self.on_history: Callable[[bytes], object] = nothing  # takes pieces of kept history
        self.greeting = Greeting()
        self.on_ready: Callable[[], object] = nothing  # each time that it is ready
        self.failure: EvloopError | None = None  # why the last `connect` failed
        self.on_give_up: Callable[[], object] = nothing  # who waits for more than an answer
        self.on_lost: Callable[[str, float], object] = nothing  # why, seconds to the next try
        self.on_news: Callable[[str, dict[str, Any]], object] = nothing
        self.relays = False  # the directory carries datagrams of rooms
        self.on_datagrams: Callable[[bytes], object] | None = None  # takes what it carries
        self.make_pipe: Callable[[Target, str], TlsPipe | None] = _plain  # (target, its address)
        self._loop = loop
        self._hub = hub
        self._rng = rng
        self._client = client
        self._name = name
        self._targets: list[Target] = []
        self._met: Target | None = None  # the announced one that was itself when it was greeted
        self._at = 0  # which of them is tried, or connected
        self._done: Done | None = None  # of a connect() that is under way
        self._lookup: Lookup | None = None
        self._addresses: list[tuple[int, Any]] = []
        self._connecting: Watch | None = None
        self.wire: _DirectoryStream | None = None
        self._pending: dict[int, Done] = {}
        self._ids = 0
        self._tries = 0
        self._why = ""
        self._final = False  # the directory does not want this connection back
        self.own = ""  # our address of the connection
        self._hurry = False  # the next try need not wait
        self._doubt: Doubt | None = None  # with the first change of the network
        self._timer = loop.call_at(NEVER, self._on_timer)
        self._unanswered = Timeouts(loop, REQUEST_S_MAX, self._silent)

    # -- for the owner -----------------------------------------------------------------------

    def connect(self, host: str, port: int, done: Done) -> None:
        """Connect anew; `done(version, None)` or `done(None, error)` is called once, later."""
        self.connect_to([Target(host, port)], done)

    def connect_to(self, targets: Sequence[Target], done: Done) -> None:
        """As `connect`, to the first of `targets` that answers."""
        self.close()
        self.failure = None
        self._targets = list(targets)
        self._at = 0
        self._done = done
        self._resolve()

    @property
    def target(self) -> Target | None:
        """The one that is tried, or connected; None before the first `connect`."""
        return self._targets[self._at] if self._targets else None

    def redirect(self, found: Target) -> None:
        """The directory that is away was found: try it there, now. Else nothing changes."""
        if self._done is None and self.state in (RESOLVING, CONNECTING, WAITING):
            # Should it be wrong, those that were given are tried again; an earlier find is gone.
            self._targets = [found, *(it for it in self._targets if not it.addresses)]
            self._at = 0
            self._try_now()

    def close(self) -> None:
        """Be idle; pending requests end with an error."""
        self.state = IDLE
        self._drop()
        done, self._done = self._done, None
        self._fail_pending(Unreachable(f"{self.endpoint}: the connection was closed"))
        if done is not None:
            done(None, Unreachable(f"{self.endpoint}: given up"))

    def give_up(self) -> None:
        """Pending requests end with an error; the connection stays."""
        self.on_give_up()
        if self._done is not None:
            self.close()
            return
        error = Unreachable(f"{self.endpoint}: given up; what was asked may still be done")
        pending = self._pending
        self._pending = dict.fromkeys(pending, nothing)  # the answers may still come
        self._tell_all(pending, error)

    def request(self, method: str, params: dict[str, Any], done: Done) -> None:
        """Ask; `done(result, None)` or `done(None, error)` is called once, later."""
        if self.state != READY:
            raise Unreachable("not connected; connect [HOST[:PORT]] connects to a directory")
        self._ask(method, params, done)
        self._unanswered.start(self._ids)

    def network_changed(self, before: tuple[Link, ...], links: tuple[Link, ...]) -> None:
        """The interfaces of this machine were `before` and are `links` now."""
        from evloop.directory.doubt import Doubt  # late: the first prompt does without
        from evloop.net.links import arrived

        if self._doubt is None:
            self._doubt = Doubt(self._loop, self)
        if self.state == READY:
            self._doubt.network_changed(before, links, self._loop.now)
        elif self.state != IDLE and arrived(before, links):
            self._try_now()

    def connect_anew(self, why: str) -> None:
        """Give up the connection because of `why`, and make another one at once."""
        if self.wire is not None:
            self._why, self._hurry = why, True
            self.wire.abort(why)

    def _try_now(self) -> None:
        self._drop()
        self._resolve()

    # -- on the way to ready -----------------------------------------------------------------

    def _resolve(self) -> None:
        target = self._targets[self._at]
        self.state = RESOLVING
        self.endpoint = target.endpoint
        if target.addresses:
            self._timer.move(self._loop.now)
        else:  # it tells by itself, however long the resolver is silent
            self._lookup = Lookup(self._loop, target.host, target.port, self._resolved)

    def _resolved(self, addresses: list[tuple[int, Any]], why: str) -> None:
        self._lookup = None
        self._addresses = addresses
        self._why = why
        self._next_address()

    def _next_address(self) -> None:
        """Try the next of the addresses; when there is none left, this try has failed."""
        while self._addresses:
            family, address = self._addresses.pop(0)
            self.state = CONNECTING
            self.address = address
            announced = bool(self._targets[self._at].addresses)
            if announced:
                self.endpoint = endpoint_of(*address[:2])
            self._timer.move(self._loop.now + (ADDRESS_S_MAX if announced else CONNECT_S_MAX))
            try:
                sock = connecting(family, address)
            except OSError as error:
                self._why = why_not_connected(address, error.errno)
                continue
            self._connecting = self._loop.watch(sock, None, self._connected, sock.close)
            self._connecting.want_write(True)
            return
        self._failed(NobodyThere(f"connect {self.endpoint}: {self._why}"))

    def _connected(self) -> None:
        assert self._connecting is not None
        sock = self._connecting.fileobj
        assert isinstance(sock, socket.socket)
        error = connect_error(sock)
        if error:
            self._connecting.close()
            self._connecting = None
            self._why = why_not_connected(self.address, error)
            self._next_address()
            return
        self.own = str(sock.getsockname()[0]).partition("%")[0].removeprefix("::ffff:")
        self._connecting.release = nothing  # from now on it is the stream's
        self._connecting.close()
        self._connecting = None
        self._addresses = []
        self.state = GREETING
        self._timer.move(self._loop.now + CONNECT_S_MAX)
        try:
            target = self._targets[self._at]
            assert self.address is not None
            host = plain_host(self.address[0]) if target.addresses else target.host
            pipe = self.make_pipe(target, host)
        except EvloopError as failure:
            sock.close()
            self._failed(failure)
            return
        self.wire = _DirectoryStream(self, self._hub, sock, pipe)
        self._final = False
        self._say_hello()

    def _say_hello(self) -> None:
        self._ask("hello", self.greeting.params(self._client, self._name()), self._greeted)

    def _greeted(self, result: Any, error: EvloopError | None) -> None:
        if error is not None:
            if self.greeting.again_without(error):
                self._say_hello()
            else:
                self._failed(error)
            return
        fields = result if isinstance(result, dict) else {}
        spoken, version = fields.get("protocol"), fields.get("version")
        if spoken != PROTOCOL:
            self._failed(ProtocolMismatch(other_protocol(self.endpoint, spoken, PROTOCOL)))
            return
        if type(version) is not int:
            raise RemoteProtocolError("its greeting does not say which version the rooms have")
        identity, target = protocol.read_identity(fields), self._targets[self._at]
        if target.id and identity and identity != target.id and target is not self._met:
            self._failed(NobodyThere(f"connect {self.endpoint}: another directory answers there"))
            return
        if self.greeting.is_behind(fields, identity, len(self._targets) > 1):
            self._failed(Unreachable(f"connect {self.endpoint}: its list is older than ours"))
            return
        self._met = None if target.tls else target  # started again it may have another id
        self.state = READY
        self._tries = 0
        self._timer.move(NEVER)
        self.version = version
        self.identity = identity
        self.relays = fields.get("relay") is True
        done, self._done = self._done, None
        if done is not None:
            done(self.version, None)
        self.on_ready()

    def _on_timer(self) -> None:
        if self.state == WAITING:
            self._resolve()
            return
        if self.state == RESOLVING:  # an announced one: its addresses are known
            self._resolved(list(self._targets[self._at].addresses), "")
            return
        self._why = "it does not answer"
        if self.state == CONNECTING and self._addresses:
            self._drop()
            self._next_address()
            return
        self._failed(NobodyThere(f"connect {self.endpoint}: {self._why}"))

    def _failed(self, error: EvloopError) -> None:
        """This try is over."""
        self._drop()
        self._pending.clear()  # at most the greeting, which nobody else waits for
        another = self._at + 1 < len(self._targets)
        if self._done is not None and another and isinstance(error, Unreachable):
            self._at += 1
            self._resolve()
            return
        done, self._done = self._done, None
        if done is not None:
            self.state = IDLE
            self.failure = error
            done(None, error)
            return
        self._wait(str(error))

    def _wait(self, why: str) -> None:
        self.state = WAITING
        self._tries += 1
        most = min(RECONNECT_S_MAX, RECONNECT_S_MIN * 2 ** min(self._tries - 1, 10))
        delay = 0.0 if self._hurry else most * (0.5 + 0.5 * self._rng().random())
        self._at = (self._at + (not self._hurry)) % len(self._targets)
        self._hurry = False
        self._timer.move(self._loop.now + delay)
        self.on_lost(why, delay)

    def _drop(self) -> None:
        """Release the look-up, the sockets and the timer of this try."""
        if self._doubt is not None:
            self._doubt.settle()
        self._timer.move(NEVER)
        if self._lookup is not None:
            self._lookup.cancel()
            self._lookup = None
        if self._connecting is not None:
            self._connecting.close()
            self._connecting = None
        wire, self.wire = self.wire, None
        if wire is not None:
            wire.abort("closed by this side")

    # -- while connected ---------------------------------------------------------------------

    def _ask(self, method: str, params: dict[str, Any], done: Done) -> None:
        assert self.wire is not None
        self._ids += 1
        self._pending[self._ids] = done
        self.wire.send(pack_frame(protocol.request(self._ids, method, params)))

    def received(self, data: bytes) -> None:
        """One frame came from the directory. A bad one ends the connection and nothing more."""
        taker = self.on_history if data[:2] == b"\xf5H" else self.on_datagrams
        if taker is not None and data[:1] == b"\xf5":  # no JSON begins so
            taker(data)
            return
        try:
            self._take(*protocol.parse_from_server(data))
        except RemoteProtocolError as bad:
            self.mismatch(bad)

    def _take(self, kind: str, key: Any, value: Any) -> None:
        if kind == protocol.NOTIFICATION:
            if key == "closing":
                self._why = quoted(str(value.get("reason", "")), SENTENCE_CHARS_MAX)
                self._final = value.get("final") is True
            self.greeting.heard(key, value)
            self.on_news(key, value)
            return
        if kind == protocol.ERROR:  # text of the peer, and shown as it is from here on
            sentence = quoted(value.sentence, SENTENCE_CHARS_MAX)
            value = Refused(value.code, value.reason, sentence, value.data)
        if kind == protocol.ERROR and key is None:
            # About no request of ours: refused at admission, or the stream is broken.
            self._why = value.sentence
            if self.state == GREETING and value.code in _NOT_UNDERSTOOD:
                self._failed(ProtocolMismatch(f"connect {self.endpoint}: {value.sentence}"))
            return  # else the connection is about to end; `lost` tells why
        self._unanswered.stop(key)
        done = self._pending.pop(key, None)
        if done is None:
            why = f"an answer to question {quoted(str(key))}, never asked"
            raise RemoteProtocolError(why)
        if kind == protocol.ERROR:
            done(None, value)
            return
        try:
            done(value, None)
        except RemoteProtocolError as bad:  # not what was asked for: who asked is told that, too
            if done != self._greeted:
                done(None, self._foreign(bad))
            raise

    def mismatch(self, error: EvloopError) -> None:
        """What came is not the directory protocol."""
        foreign = self._foreign(error)
        if self.state == GREETING:
            self._failed(foreign)
            return
        self._fail_pending(foreign)
        if self.wire is not None:  # the callback may have closed it
            self.wire.abort(str(foreign))

    def _foreign(self, error: EvloopError) -> ProtocolMismatch:
        return ProtocolMismatch(f"{self.endpoint} is no directory of evloop: {error}")

    def lost(self, wire: _DirectoryStream, why: str) -> None:
        """The stream has ended."""
        if wire is not self.wire:
            return  # one that was dropped before
        self.wire = None
        why, self._why = self._why or why, ""
        if self.state == GREETING:
            self._failed(Unreachable(f"connect {self.endpoint}: {why}"))
            return
        self.state = IDLE if self._final else WAITING  # before anybody asks something anew
        self._fail_pending(Unreachable(f"{self.endpoint}: {why}"))
        if self._final:
            self._timer.move(NEVER)
            self.on_lost(why, NEVER)
        else:
            self._wait(why)

    def insecure(self, wire: _DirectoryStream, why: str, plain: bool) -> None:
        """TLS failed on `wire`; `plain`: because the other side speaks none."""
        if wire is not self.wire or self.state != GREETING:
            return  # `lost` will tell
        self.wire = None  # it may still send its alert
        target = self._targets[self._at]
        if plain and target.addresses:
            name = quoted(target.name)
            why = f"it speaks no TLS; it is NOT the {name} of before"
            self._failed(Insecure(f"connect {self.endpoint}: {why}"))
        elif plain:
            self._failed(ProtocolMismatch(f"{self.endpoint} speaks no TLS; leave out --tls"))
        else:
            self._failed(Insecure(f"connect {self.endpoint}: {why}"))

    def _silent(self, key: int) -> None:
        """A request was not answered in time: a directory that is there answers at once."""
        if self.wire is not None:
            self._why = f"it has not answered in {REQUEST_S_MAX:g} s"
            self.wire.abort(self._why)

    def _fail_pending(self, error: EvloopError) -> None:
        pending, self._pending = self._pending, {}
        for key in pending:
            self._unanswered.stop(key)
        self._tell_all(pending, error)

    def _tell_all(self, pending: dict[int, Done], error: EvloopError) -> None:
        for done in pending.values():
            self._loop.guard(self, done, None, error)


def _plain(target: Target, host: str) -> None:
    """No TLS."""
