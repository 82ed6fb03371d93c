"""The directory at work: requests of many connections in, replies and news out.

A request's way: `Connection.payloads -> handle -> protocol.parse -> HANDLERS[method] ->
directory.check_... -> group_commit.add -> stream.send`, which only queues. At the end of the tick
(`Dispatcher.end_tick`, a before_sleep hook): commit, then the news to the watchers, then flush. So
all requests of a tick share one commit, and no reply is sent before the changes that it reports
are on the disk.

A reply is provisional while the tick has changed something that is not yet committed: see
`group_commit`, which makes every change. When a change or the commit fails, the directory in memory
is rolled back too: version, rooms, memberships.

A commit waits while more requests come in, for a few polls that do not sleep: what 16 clients ask
at once then needs one sync of the disk (measured: 1.2 to 1.5 times as many changes a second).
"""

from __future__ import annotations

from evloop import __version__
from evloop.base.addresses import prefix_of
from evloop.base.errors import (
    INTERNAL_ERROR,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    PARSE_ERROR,
    SLOW_DOWN,
    BadMessage,
    Refused,
    StoreError,
)
from evloop.base.names import place_of
from evloop.daemon.connection import Connection
from evloop.daemon.entering import enter, handle_mixed, leave, take_frame
from evloop.daemon.group_commit import (
    GroupCommit,
    all_failed,
    batch,
    storage_failed,
)
from evloop.daemon.inspection import probe, probed, stats
from evloop.daemon.keeping import FramesFirst, Keeping, history
from evloop.daemon.limits import (
    BAD_MESSAGES_MAX,
    CHANGE_UNITS,
    CHECKPOINT_S,
    COMMIT_WAIT_TICKS,
    HELLO_CHARS_MAX,
    LEAVES_PER_END,
    NETWORK_FACTOR,
)
from evloop.daemon.making import deleteroom, makeroom
from evloop.directory import protocol, requests
from evloop.directory.protocol import (
    NULL,
    RESULT_AROUND_BYTES,
    RESULT_END,
    RESULT_HEAD,
    RESULT_MIDDLE,
    RoomEntry,
    parse,
)
from evloop.directory.registry import check_owner
from evloop.directory.relay_frames import is_relay
from evloop.framing import pack_frame, pack_header
from evloop.net.hub import Hub
from evloop.net.interfaces import has_ipv4
from evloop.net.limits import OUT_HIGH_WATER_BYTES
from evloop.net.stream import OPEN
from evloop.system.timers import NEVER, nothing

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping
    from random import Random
    from typing import Any

    from evloop.base.ratelimit import AddressRates
    from evloop.daemon.group_commit import Replies
    from evloop.daemon.metrics import Metrics
    from evloop.daemon.prober import Prober
    from evloop.daemon.relay import Relay
    from evloop.daemon.store import MemoryStore, Store
    from evloop.directory.protocol import Request
    from evloop.directory.registry import Directory
    from evloop.net.tls import TlsPipe
    from evloop.system.log import Log
    from evloop.system.loop import Loop

    Handler = Callable[["Dispatcher", "Connection", dict[str, Any]], bytes]

SERVER = f"evloop/{__version__}"
INDEPENDENT = frozenset(("ping",))  # methods whose replies hold whatever becomes of the tick
FAILURES = (BadMessage, Refused, StoreError)  # what handling a request may raise
_BAD_REASONS = {
    INVALID_REQUEST: "invalid_request",
    METHOD_NOT_FOUND: "method_not_found",
    PARSE_ERROR: "parse_error",
}


class Dispatcher:
    """All connections of one directory."""

    aside = ""  # what the service manager is told beside the figures

    def __init__(
        self,
        loop: Loop,
        directory: Directory,
        store: Store | MemoryStore,
        log: Log,
        metrics: Metrics,
        *,
        rng: Random,
        wall: Callable[[], float],
        random_bytes: Callable[[int], bytes],
        change_rates: AddressRates,
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
        self.has_ipv4: Callable[[], bool] = has_ipv4  # whether this machine does
        self.handled = 0
        self.handles = 0  # numbers given to rooms that were entered
        self.on_forget: Callable[[Connection], object] = nothing
        self.prober: Prober | None = None  # None: no probes
        self.keeping = Keeping()  # what is said in rooms
        self.make_relay: Callable[[], Relay | None] | None = None  # at the first need
        self.relays = False  # whether members may be granted it
        self.relay: Relay | None = None
        self._rng = rng
        self._wall = wall
        self.random_bytes = random_bytes
        self.owned = owned
        self.handlers = HANDLERS
        self._requests = metrics.kinds("requests", HANDLERS)
        self._change_rates = change_rates
        self._network_rates = change_rates.times(NETWORK_FACTOR)
        self._default_mode = default_mode
        self._numbers = 0
        gave_up = self.hub.gave_up
        self._group_commit = GroupCommit(directory, store, log, metrics, gave_up)
        self._group_commit.on_stored = self._stored
        self._group_commit.on_deleted = self._deleted
        directory.on_empty = self._emptied
        self._group_commit.on_gone = self._gone
        self._checkpoint = loop.call_at(NEVER, self._copy_log)
        self._checkpoint_due = False
        self._gathered = 0  # ticks that the commit has waited for more requests
        self._handled_before = 0  # requests until the last look
        self.told_figures = (-1.0, b"")  # when, and what `stats` said then
        loop.before_sleep(self.end_tick)

    # -- connections -------------------------------------------------------------------------

    def welcome(
        self, sock: socket.socket, host: str, port: int, pipe: TlsPipe | None = None
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
        if self.prober is not None:
            self.prober.forget(connection)
        if self.relay is not None and connection.relayed:
            self.relay.forget(connection)
        self._group_commit.forget(connection)
        self.hub.turns.ends_left -= self.directory.leave_all(connection) // LEAVES_PER_END
        if self.log.debugging:
            self.log.debug("closed", peer=connection.peer, why=connection.why)
        self.on_forget(connection)

    def blame(self, connection: Connection, what: str, why: str | None) -> None:
        """Count and log that a connection ends because of a fault of its peer."""
        self.log.info(what, peer=connection.peer, why=why)
        self.metrics.count_kind("connections_broken", what)

    def send_away(self, connection: Connection, reason: str, final: bool = False) -> None:
        """Tell a client that its connection ends, and why; then end it.

        `final`: its program should not come back by itself.
        """
        connection.send(pack_frame(protocol.closing(reason, final)))
        connection.close(reason)

    # -- requests ----------------------------------------------------------------------------

    def handle(self, connection: Connection, payloads: list[bytes]) -> int:
        """Answer payloads, whatever they are, in turn; return how many were.

        Fewer than all when the queue is full or the connection was closed. Nearly all replies are
        results that hold already: these are put together from their parts at the end (measured
        with 16 in flight, against a frame and a call for each: 1.6 times as many a second).
        """
        directory, counts, handlers = self.directory, self._requests, self.handlers
        room = OUT_HIGH_WATER_BYTES - connection.queued  # that is left in its queue
        parts: list[bytes] = []
        self.handled += len(payloads)
        taken = 0
        for payload in payloads:
            taken += 1
            request_id: bytes | None = NULL
            depends: Replies | None = None
            reply: bytes | None
            method = ""
            try:
                request = parse(payload)
                if isinstance(request, list):
                    reply, depends = self._handle_batch(connection, request)
                else:
                    connection.bad = 0
                    request_id, method, parameters = request
                    # `_act`, written out: the call is 2 to 3 % of a ping's instructions.
                    handler = handlers.get(method)
                    if handler is None:
                        raise protocol.unknown_method(method)
                    counts[method] += 1
                    body = handler(self, connection, parameters)
                    if request_id is None:
                        continue
                    if not directory.provisional:
                        size = RESULT_AROUND_BYTES + len(request_id) + len(body)
                        head = pack_header(size)
                        parts += head, RESULT_HEAD, request_id, RESULT_MIDDLE, body, RESULT_END
                        room -= size
                        if room < 0:
                            break
                        continue
                    reply = protocol.result(request_id, body)
            except FramesFirst as both:
                reply = both.reply(request_id, parts)
            except FAILURES as error:
                if connection.relayed is not None and is_relay(payload):
                    take_frame(self, connection, payload)  # right behind its `enter`
                    continue
                reply = self._excuse(request_id, error)
                if request_id is NULL:
                    self._count_bad(connection)
            except Exception as error:
                self._own_fault(connection, parts, request_id, error)
                raise
            if reply is None:
                if connection.state == OPEN:
                    continue
                break  # it is held, and its reply comes later (shared.py)
            if parts:
                connection.send(b"".join(parts))
                parts = []
            held = request_id is NULL or method in INDEPENDENT
            self.answer(connection, reply, depends or (None if held else request_id))
            if connection.full or connection.state != OPEN:
                break
            room = OUT_HIGH_WATER_BYTES - connection.queued
        if parts:
            connection.send(b"".join(parts))
        self.handled -= len(payloads) - taken
        return taken

    def handle_mixed(self, connection: Connection, payloads: list[bytes]) -> int:
        """As `handle`, where frames of the relay stand among the requests."""
        return handle_mixed(self, connection, payloads)

    def _handle_batch(
        self, connection: Connection, members: list[Request | BadMessage]
    ) -> tuple[bytes | None, Replies]:
        """Answer a batch: its reply, and what that depends on."""
        replies: Replies = []  # (id, reply); the id of what was no request is None
        requests = 0
        for member in members:
            if isinstance(member, BadMessage):
                reply = self._excuse(NULL, member)
                assert reply is not None
                replies.append((None, reply))
                continue
            requests += 1
            request_id, method, parameters = member
            undone = self._group_commit.undone
            try:
                protocol.check_in_batch(method)
                body = self._act(connection, method, parameters)
            except FAILURES as error:
                reply = self._excuse(request_id, error)
            else:
                reply = None if request_id is None else protocol.result(request_id, body)
            if undone != self._group_commit.undone:  # with this member all before it were undone
                replies = all_failed(replies)
            if reply is not None:
                replies.append((request_id, reply))
        if requests:
            connection.bad = 0
        else:
            self._count_bad(connection)
        return batch(replies) if replies else None, replies

    def _act(self, connection: Connection, method: str, parameters: dict[str, Any]) -> bytes:
        """Do what a request asks for, and return the body of its result; raises FAILURES."""
        handler = self.handlers.get(method)
        if handler is None:
            raise protocol.unknown_method(method)
        self._requests[method] += 1
        return handler(self, connection, parameters)

    def _excuse(
        self, request_id: bytes | None, error: BadMessage | Refused | StoreError
    ) -> bytes | None:
        """The reply when a request has raised `error`; None for a notification."""
        if isinstance(error, StoreError):  # and the group commit has undone the tick
            return None if request_id is None else storage_failed(request_id)
        if isinstance(error, Refused):
            self.metrics.count_kind("rejects", error.reason)
            return None if request_id is None else protocol.refusal(request_id, error)
        self.metrics.count_kind("rejects", _BAD_REASONS[error.code])
        return None if request_id is None else protocol.bad_message(error, request_id)

    def _own_fault(
        self,
        connection: Connection,
        parts: list[bytes],
        request_id: bytes | None,
        error: Exception,
    ) -> None:
        """A handler raised an unexpected exception: undo the tick, since its changes may be
        incomplete, answer that there was an internal error, and close the connection."""
        self.metrics.count_kind("rejects", "internal_error")
        self._group_commit.undo(error)
        sentence = "internal error; the server's log says more"
        reply = protocol.error(request_id or NULL, INTERNAL_ERROR, sentence)
        connection.send(b"".join(parts) + pack_frame(reply))
        connection.close("internal error")

    def answer(self, connection: Connection, reply: bytes, depends: bytes | Replies | None) -> None:
        """Queue `reply`; `depends` as in `GroupCommit.answer`."""
        if self.directory.provisional:
            self._group_commit.answer(connection, reply, depends)
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
            self.commit()
            self._gathered = 0
        if self.relay is not None and self.relay.dirty:
            self.relay.flush()
        self.hub.flush()

    def commit(self) -> StoreError | None:
        """Put what was changed on the disk; the error when that failed and all was undone."""
        try:
            self._group_commit.commit()
        except StoreError as error:
            return error
        return None

    def _stored(self) -> None:
        if not self._checkpoint_due:
            self._checkpoint_due = True
            self._checkpoint.move(self.loop.now + CHECKPOINT_S)

    def _deleted(self, room: RoomEntry) -> None:
        self.loop.guard(self, self.keeping.deleted, room)

    def _emptied(self, fold: str) -> None:
        self.loop.guard(self, self.keeping.emptied, fold)

    def _gone(self, room: RoomEntry) -> None:
        if self.relay is not None:
            self.relay.gone(room)

    def _copy_log(self) -> None:
        """A while after a change: from now on a copy of the state file alone holds it."""
        self._checkpoint_due = False
        if not self.store.checkpoint():
            self._stored()  # a tick's changes wait for their commit, or somebody reads: later

    def readings(self) -> dict[str, float]:
        """The gauges that metrics.py names, and the counter of frames, which is kept here."""
        return {
            "clients": len(self.connections),
            "rooms": len(self.directory),
            "watchers": self._group_commit.watchers,
            "directory_version": self.directory.version,
            "queued_bytes": sum(one.queued for one in self.connections.values()),
            "frames": self.handled,
            "relay_members": 0 if self.relay is None else self.relay.granted,
            "relay_rooms": 0 if self.relay is None else len(self.relay.rooms),
            **self.keeping.readings(),
        }

    # -- what the console asks for too -------------------------------------------------------

    def make_room(
        self,
        name: str,
        place: tuple[str, int] | None,
        mode: str | None,
        maker: str,
        owner: bytes,
        who: Mapping[str, object] | None = None,
        ipv6: bool = False,
        keep: bool = False,
    ) -> bytes:
        """Make a room, or raise Refused or StoreError; return the body of the reply.

        `owner` is the hash of its owner's token, or empty; `who` is logged. `ipv6`: without a
        `place` it gets an IPv6 group. `keep`: what is said there is to be kept.
        """
        directory = self.directory
        address, port = place or directory.free_place(name, self._rng, ipv6)
        made = int(self._wall())
        room = RoomEntry(name, address, port, mode or self._default_mode, made, maker, owner)
        if keep:
            self.keeping.mark(room)
        self.keeping.judge(room)
        directory.check_make(room)
        self._take_change(maker)
        where = place_of(address, port)
        return self._group_commit.add(
            room, "a room was made", room=name, place=where, **(who or {})
        )

    def delete_room(
        self,
        name: str,
        maker: str | None,
        token: str | None = None,
        logged: str | None = None,
        who: Mapping[str, object] | None = None,
    ) -> bytes:
        """Delete a room, or raise Refused or StoreError; `maker` None is the operator.

        `logged` and `who` are logged, once it is on the disk.
        """
        room = self.directory.check_delete(name)
        if maker is not None:
            if self.owned:
                check_owner(room, token)
            self._take_change(maker)
        fields = {"room": room.name, **(who or {})}
        return self._group_commit.remove(room, logged or "a room was deleted", **fields)

    def note_seen(self, ran_s: float, seen: Mapping[RoomEntry, float]) -> None:
        """Store when rooms were last in use (expiry.py); a failure undoes the tick."""
        self._group_commit.note_seen(ran_s, seen)

    def _take_change(self, maker: str) -> None:
        self.hub.turns.frames_left -= CHANGE_UNITS
        wait = self._change_rates.take(maker, self.loop.now)
        network = prefix_of(maker)
        if network != maker and not wait:
            wait = self._network_rates.take(network, self.loop.now)
        if wait:
            raise Refused(
                SLOW_DOWN,
                "slow_down",
                f"too many changes from {maker}; try again in {wait:.2g} s",
                {"retry_after": wait},
            )

    # -- methods -----------------------------------------------------------------------------

    def _hello(self, connection: Connection, parameters: dict[str, Any]) -> bytes:
        client, name = requests.read_hello(parameters)
        # Kept as long as the connection lives: no more than the console could show.
        connection.client, connection.name = client[:HELLO_CHARS_MAX], name[:HELLO_CHARS_MAX]
        version, identity = self.directory.version, self.store.identity
        return protocol.hello_body(SERVER, version, identity, self.relays)

    def _ping(self, connection: Connection, parameters: dict[str, Any]) -> bytes:
        if parameters:
            requests.read_nothing(parameters)
        return protocol.EMPTY

    def _getdir(self, connection: Connection, parameters: dict[str, Any]) -> bytes:
        after, limit = requests.read_getdir(parameters)
        return self.directory.page(after, limit)

    def _watch(self, connection: Connection, parameters: dict[str, Any]) -> bytes:
        requests.read_nothing(parameters)
        self._group_commit.watch(connection)
        return protocol.version_body(self.directory.version)

    def _unwatch(self, connection: Connection, parameters: dict[str, Any]) -> bytes:
        requests.read_nothing(parameters)
        self._group_commit.unwatch(connection)
        return protocol.EMPTY


def _look_again() -> None:
    """Deferred, so that the next poll does not sleep."""


HANDLERS: dict[str, Handler] = {
    "hello": Dispatcher._hello,
    "ping": Dispatcher._ping,
    "getdir": Dispatcher._getdir,
    "makeroom": makeroom,
    "deleteroom": deleteroom,
    "enter": enter,
    "leave": leave,
    "history": history,
    "watch": Dispatcher._watch,
    "unwatch": Dispatcher._unwatch,
    "stats": stats,
    "probe": probe,
    "probed": probed,
}
