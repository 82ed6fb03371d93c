"""The directory at work: requests of many connections in, replies and news out. Floor 6.

A request's way: `Connection.payload -> messages.parse -> HANDLERS[method] -> directory.check_... ->
store.insert -> directory.add -> stream.send`, which only queues. At the end of the tick
(`Registrar.end_tick`, a before_sleep hook): commit, then the news to the watchers, then flush.
So all requests of a tick share one commit, and no reply goes out before what it promises is on
disk.

What a reply says is provisional while the tick has changed something that is not yet committed:
see `promises`. When the commit fails, the directory goes back too (version, rooms, memberships).

A commit waits while more requests come in, a few polls that do not sleep: all that 16 clients ask
at once is one sync of the disk then (measured: 1.2 to 1.5 times as many changes a second).
"""

from evloop import __version__, messages, params
from evloop.endpoints import endpoint_of
from evloop.errors import BadMessage, FrameError, Refused, StoreError
from evloop.framing import pack_frame
from evloop.limits import (
    BAD_MESSAGES_MAX,
    CHANGE_UNITS,
    COMMIT_WAIT_TICKS,
    HELLO_CHARS_MAX,
    TOKEN_BYTES,
)
from evloop.messages import Room
from evloop.names import fold
from evloop.owner import check_owner, new_token, token_hash
from evloop.peers import is_loopback, prefix_of
from evloop.promises import Promises, all_failed, batch, storage_failed
from evloop.stream import Hub, Stream
from evloop.strictjson import PARSE_ERROR, encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping
    from random import Random
    from typing import Any

    from evloop.directory import Directory
    from evloop.log import Log
    from evloop.loop import Loop
    from evloop.metrics import Metrics
    from evloop.promises import Replies
    from evloop.ratelimit import AddressRates
    from evloop.store import MemoryStore, Store
    from evloop.tls import TlsPipe

    Handler = Callable[["Registrar", "Connection", dict[str, Any]], bytes]

SERVER = f"evloop/{__version__}"
INDEPENDENT = frozenset(("ping",))  # methods whose replies hold whatever becomes of the tick
_BAD_REASONS = {messages.INVALID_REQUEST: "invalid_request", PARSE_ERROR: "parse_error"}


class Connection(Stream):
    """One client. `number` names it on the console, `peer` in the log.

    There are 10,000 of these: what is hardly ever asked for is made when it is asked for.
    """

    __slots__ = (
        "bad",
        "client",
        "host",
        "name",
        "number",
        "port",
        "server",
        "visitor",
    )

    def __init__(
        self,
        server: "Registrar",
        sock: "socket.socket",
        host: str,
        port: int,
        pipe: "TlsPipe | None",
    ) -> None:
        super().__init__(server.hub, sock, pipe)
        self.server = server
        self.host = host
        self.port = port
        self.number = 0
        self.visitor = ""  # the guard's name for where it comes from
        self.bad = 0  # payloads in a row that were no requests
        self.client = ""
        self.name = ""

    @property
    def peer(self) -> str:
        """Where it comes from, as text."""
        return endpoint_of(self.host, self.port)

    def payload(self, data: bytes) -> None:
        self.server.handle(self, data)

    def broken(self, error: FrameError) -> None:
        self.server.blame(self, "broken", str(error))
        if not self._eof:
            reply = messages.error(
                messages.NULL,
                messages.INVALID_REQUEST,
                str(error),
                {"reason": "frame_too_large"},
            )
            self.server.answer(self, reply, None)
        self.close(str(error))

    def insecure(self, why: str) -> None:
        self.server.blame(self, "insecure", why)
        if self.go_plain():
            sentence = "this port speaks TLS only: connect with --tls"
            reply = messages.error(messages.NULL, messages.INVALID_REQUEST, sentence)
            self.server.answer(self, reply, None)
        self.close(why)

    def expired(self) -> None:
        self.server.blame(self, "timed out", None)
        super().expired()

    def ended(self, why: str) -> None:
        self.server.forget(self)


class Registrar:
    """All connections of one directory."""

    def __init__(
        self,
        loop: "Loop",
        directory: "Directory",
        store: "Store | MemoryStore",
        log: "Log",
        metrics: "Metrics",
        *,
        rng: "Random",
        wall: "Callable[[], float]",
        random_bytes: "Callable[[int], bytes]",
        change_rates: "AddressRates",
        default_mode: str,
        owned: bool,
    ) -> None:
        self.loop = loop
        self.directory = directory
        self.store = store
        self.log = log
        self.metrics = metrics
        self.stats_for: set[str] = set()  # hosts that may ask for `stats`, besides loopback
        self.visited: set[str] | None = None  # folds of rooms entered, where somebody counts them
        self.hub = Hub(loop)
        self.connections: dict[int, Connection] = {}
        self.handled = 0
        self.on_forget: Callable[[Connection], object] = _nothing
        self._rng = rng
        self._wall = wall
        self._random_bytes = random_bytes
        self._owned = owned
        self._requests = metrics.kinds("requests", HANDLERS)
        self._change_rates = change_rates
        self._default_mode = default_mode
        self._numbers = 0
        self._promises = Promises()
        self._gathered = 0  # ticks that the commit has waited for more requests
        self._handled_before = 0  # requests until the last look
        self._figures = (-1.0, b"")  # when, and what `stats` said then
        self._failing = False  # so that a full disk is logged once and not for each request
        loop.before_sleep(self.end_tick)

    # -- connections -------------------------------------------------------------------------

    def welcome(
        self, sock: "socket.socket", host: str, port: int, pipe: "TlsPipe | None" = None
    ) -> Connection:
        """Take over a connected, non-blocking socket; it comes from `host` and `port`."""
        connection = Connection(self, sock, host, port, pipe)
        self._numbers += 1
        connection.number = self._numbers
        self.connections[connection.number] = connection
        if self.log.debugging:
            self.log.debug("connected", peer=connection.peer)
        return connection

    def forget(self, connection: Connection) -> None:
        """A connection has ended: it leaves all its rooms."""
        del self.connections[connection.number]
        self._promises.forget(connection)
        self.directory.leave_all(connection)
        if self.log.debugging:
            self.log.debug("closed", peer=connection.peer, why=connection.why)
        self.on_forget(connection)

    def blame(self, connection: Connection, what: str, why: str | None) -> None:
        """A connection ends for a fault of its peer."""
        self.log.info(what, peer=connection.peer, why=why)
        self.metrics.count_kind("connections_broken", what)

    def send_away(self, connection: Connection, reason: str) -> None:
        """Tell a client that its connection ends, and why; then end it."""
        connection.send(pack_frame(messages.closing(reason)))
        connection.close(reason)

    def send_all_away(self, reason: str) -> None:
        """The server ends: tell everybody, and close when they have been told."""
        for connection in list(self.connections.values()):
            self.send_away(connection, reason)

    # -- requests ----------------------------------------------------------------------------

    def handle(self, connection: Connection, payload: bytes) -> None:
        """Answer one payload, whatever it is."""
        self.handled += 1
        try:
            request = messages.parse(payload)
        except BadMessage as bad:
            self._count_bad(connection)
            self.metrics.count_kind("rejects", _BAD_REASONS[bad.code])
            self.answer(connection, messages.bad_message(bad), None)
            return
        if isinstance(request, list):
            self._handle_batch(connection, request)
            return
        connection.bad = 0
        request_id, method, parameters = request
        reply = self._reply(connection, request_id, method, parameters)
        if reply is not None:
            self.answer(connection, reply, None if method in INDEPENDENT else request_id)

    def _handle_batch(self, connection: Connection, members: "list[Any]") -> None:
        replies: Replies = []  # (id, reply); the id of what was no request is None
        requests = 0
        for member in members:
            if isinstance(member, BadMessage):
                self.metrics.count_kind("rejects", _BAD_REASONS[member.code])
                replies.append((None, messages.bad_message(member)))
                continue
            requests += 1
            request_id, method, parameters = member
            undone = self._promises.undone
            try:
                messages.check_in_batch(method)
            except Refused as refused:
                reply = messages.refusal(request_id, refused) if request_id is not None else None
            else:
                reply = self._reply(connection, request_id, method, parameters)
            if undone != self._promises.undone:  # with this member all before it were undone
                replies = all_failed(replies)
            if reply is not None:
                replies.append((request_id, reply))
        if requests:
            connection.bad = 0
        else:
            self._count_bad(connection)
        if replies:
            self.answer(connection, batch(replies), replies)

    def _reply(
        self,
        connection: Connection,
        request_id: bytes | None,
        method: str,
        parameters: "dict[str, Any]",
    ) -> bytes | None:
        """Act, and return the reply; None for a notification."""
        handler = HANDLERS.get(method)
        if handler is None:
            self.metrics.count_kind("rejects", "method_not_found")
            return None if request_id is None else messages.unknown_method(request_id, method)
        self._requests[method] += 1
        try:
            body = handler(self, connection, parameters)
        except Refused as refused:
            self.metrics.count_kind("rejects", refused.reason)
            return None if request_id is None else messages.refusal(request_id, refused)
        except StoreError as error:
            self._undo(error)
            return None if request_id is None else storage_failed(request_id)
        return None if request_id is None else messages.result(request_id, body)

    def answer(
        self, connection: Connection, reply: bytes, depends: "bytes | Replies | None"
    ) -> None:
        """Queue `reply`; `depends` as in `Promises.answer`."""
        if self.directory.provisional:
            self._promises.answer(connection, reply, depends)
        else:
            connection.send(pack_frame(reply))

    def _count_bad(self, connection: Connection) -> None:
        connection.bad += 1
        if connection.bad > BAD_MESSAGES_MAX:
            self.blame(connection, "closing", "too many messages are no requests")
            connection.close("too many messages in a row were no requests")

    # -- the end of a tick ---------------------------------------------------------------------

    def end_tick(self) -> None:
        """Commit what the tick changed, tell the watchers, send everything."""
        if self.directory.provisional:
            if self.handled != self._handled_before and self._gathered < COMMIT_WAIT_TICKS:
                self._handled_before = self.handled
                self._gathered += 1
                self.loop.defer(_look_again)
                return
            try:
                self.store.commit(self.directory.version)
            except StoreError as error:
                self._undo(error)
            else:
                self.metrics.count("commits")
                self._settle()
            self._gathered = 0
        self.hub.flush()

    def _settle(self) -> None:
        self.directory.commit()
        if self._failing:
            self._failing = False
            self.log.notice("the store takes changes again")
        told = self._promises.keep()
        if told:
            self.metrics.count("notifications", told)

    def _undo(self, error: StoreError) -> None:
        if not self._failing:
            self._failing = True
            self.log.error("the store takes no changes", why=str(error))
        self.metrics.count("commits_failed")
        self.directory.rollback()
        self._promises.take_back()

    def readings(self) -> dict[str, float]:
        """The gauges that metrics.py names, and the counter of frames, which is kept here."""
        return {
            "clients": len(self.connections),
            "rooms": len(self.directory),
            "watchers": self._promises.watchers,
            "directory_version": self.directory.version,
            "queued_bytes": sum(one.queued for one in self.connections.values()),
            "frames": self.handled,
        }

    # -- what the console asks for too -------------------------------------------------------

    def make_room(
        self,
        name: str,
        place: tuple[str, int] | None,
        mode: str | None,
        maker: str,
        owner: bytes,
    ) -> bytes:
        """Make a room, or raise Refused or StoreError; return the body of the reply.

        `owner` is the hash of its owner's token, or empty.
        """
        directory = self.directory
        address, port = place or directory.free_place(self._rng)
        made = int(self._wall())
        room = Room(name, address, port, mode or self._default_mode, made, maker, owner)
        directory.check_make(room)
        self._take_change(maker)
        self.store.insert(room)
        body = directory.add(room)
        self._promises.announce(b"room_made", body)
        return body

    def delete_room(self, name: str, maker: str | None, token: str | None = None) -> bytes:
        """Delete a room, or raise Refused or StoreError; `maker` None is the operator."""
        room = self.directory.check_delete(name)
        if maker is not None:
            if self._owned:
                check_owner(room, token)
            self._take_change(maker)
        self.store.delete(room)
        body = self.directory.remove(room)
        self._promises.announce(b"room_deleted", body)
        return body

    def note_seen(self, ran_s: float, seen: "Mapping[Room, float]") -> None:
        """Store when rooms were last in use (expiry.py); a failure undoes the tick."""
        try:
            self.store.note_seen(ran_s, seen)
            if not self.directory.provisional:
                self.store.commit(self.directory.version)
        except StoreError as error:
            self._undo(error)

    def _take_change(self, maker: str) -> None:
        self.hub.frames_left -= CHANGE_UNITS
        wait = self._change_rates.take(maker, self.loop.now)
        if wait:
            raise Refused(
                messages.SLOW_DOWN,
                "slow_down",
                f"too many changes from {maker}; try again in {wait:.2g} s",
                {"retry_after": wait},
            )

    # -- methods -----------------------------------------------------------------------------

    def _hello(self, connection: Connection, parameters: "dict[str, Any]") -> bytes:
        client, name = params.read_hello(parameters)
        # Kept as long as the connection lives: no more than the console could show.
        connection.client, connection.name = client[:HELLO_CHARS_MAX], name[:HELLO_CHARS_MAX]
        return messages.hello_body(SERVER, self.directory.version)

    def _ping(self, connection: Connection, parameters: "dict[str, Any]") -> bytes:
        params.read_nothing(parameters)
        return messages.EMPTY

    def _getdir(self, connection: Connection, parameters: "dict[str, Any]") -> bytes:
        after, limit = params.read_getdir(parameters)
        return self.directory.page(after, limit)

    def _makeroom(self, connection: Connection, parameters: "dict[str, Any]") -> bytes:
        name, place, mode = params.read_makeroom(parameters)
        maker = prefix_of(connection.host)
        if not self._owned:
            return self.make_room(name, place, mode, maker, b"")
        token = new_token(self._random_bytes(TOKEN_BYTES))
        body = self.make_room(name, place, mode, maker, token_hash(token))
        # Into the reply alone: the same body goes to all watchers.
        return b'%s,"token":"%s"}' % (body[:-1], token.encode())

    def _deleteroom(self, connection: Connection, parameters: "dict[str, Any]") -> bytes:
        name, token = params.read_deleteroom(parameters)
        return self.delete_room(name, prefix_of(connection.host), token)

    def _enter(self, connection: Connection, parameters: "dict[str, Any]") -> bytes:
        name = params.read_name(parameters)
        body = self.directory.enter(name, connection)
        if self.visited is not None:
            self.visited.add(fold(name))
        return body

    def _leave(self, connection: Connection, parameters: "dict[str, Any]") -> bytes:
        self.directory.leave(params.read_name(parameters), connection)
        return messages.EMPTY

    def _watch(self, connection: Connection, parameters: "dict[str, Any]") -> bytes:
        params.read_nothing(parameters)
        self._promises.watch(connection)
        return messages.version_body(self.directory.version)

    def _stats(self, connection: Connection, parameters: "dict[str, Any]") -> bytes:
        params.read_nothing(parameters)
        if not is_loopback(connection.host) and connection.host not in self.stats_for:
            sentence = f"stats are not for {connection.host}; see --stats-from"
            raise Refused(messages.NOT_ALLOWED, "not_allowed", sentence)
        now = self.loop.now
        if self._figures[0] != now:  # once a tick, however often it is asked
            self._figures = (now, encode(self.metrics.figures()))
        return self._figures[1]

    def _unwatch(self, connection: Connection, parameters: "dict[str, Any]") -> bytes:
        params.read_nothing(parameters)
        self._promises.unwatch(connection)
        return messages.EMPTY


def _nothing(connection: Connection) -> None:
    """Nobody wants to know."""


def _look_again() -> None:
    """Deferred, so that the next poll does not sleep."""


HANDLERS: "dict[str, Handler]" = {
    "hello": Registrar._hello,
    "ping": Registrar._ping,
    "getdir": Registrar._getdir,
    "makeroom": Registrar._makeroom,
    "deleteroom": Registrar._deleteroom,
    "enter": Registrar._enter,
    "leave": Registrar._leave,
    "watch": Registrar._watch,
    "unwatch": Registrar._unwatch,
    "stats": Registrar._stats,
}
