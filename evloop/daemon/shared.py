"""One of several servers of a directory in etcd: the dispatcher of a replica.

The directory in memory changes only by what the log tells (`Cluster._applied`), so nothing is ever
provisional, and there is nothing to undo. A request that changes something holds its connection
until its outcome is known: frames behind it are not handled, and nothing more is read.

    request             its connection   the outcome                    its reply goes out
    reads               open             at once, from the copy         at the end of the tick
    makeroom            -> held          done: by the log, at its V     after the news of that V
    deleteroom          -> held          refused, failed, unknown       at once
    hello, a version    -> held          the copy has it, or 2 s        then
      that is not here
    a batch of these    -> held          of its last member             once for all
"""

from __future__ import annotations

from collections import deque

from evloop.base.errors import BadMessage, Refused, StoreError
from evloop.base.names import fold as fold_of
from evloop.daemon.changes import DELETE, MAKE, Change
from evloop.daemon.dispatcher import FAILURES, HANDLERS, Dispatcher
from evloop.directory import protocol, requests
from evloop.directory.limits import TOKEN_BYTES
from evloop.directory.places import places_of
from evloop.directory.protocol import NULL, RoomEntry
from evloop.directory.registry import Directory, may_be_a_name, new_token, token_hash
from evloop.framing import pack_frame
from evloop.net.stream import HELD

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator
    from typing import Any, Protocol

    from evloop.daemon.connection import Connection
    from evloop.daemon.group_commit import Replies
    from evloop.directory.protocol import Request

    Told = Callable[[bytes | None], object]

    class Store(Protocol):
        """What asks the store of the directory, which is not here."""

        def ask(self, change: Change, fields: dict[str, object], /) -> None: ...
        def wait_for_version(self, version: int, over: Callable[[], object], /) -> None: ...
        def stale_s(self) -> int: ...
        def aside(self) -> str: ...
        def readings(self) -> dict[str, float]: ...


MISSED = "this server missed changes of the directory; connect again"


class Later(StoreError):
    """Raised by a handler: the reply to this request comes later, from `change`, or when the copy
    is at `version`.

    `finish` makes the body of the result out of that of the change; `fields` are logged with it.
    """

    def __init__(self, connection: Connection, finish: Callable[[bytes], bytes]) -> None:
        super().__init__("the reply comes later")
        self.connection = connection
        self.finish = finish
        self.change: Change | None = None
        self.version = 0
        self.fields: dict[str, object] = {}


class SharedDirectory(Directory):
    """The copy of a directory that other servers have too: they count members as well.

    `touched` are the folds of rooms that one of our own connections has entered or left.
    """

    __slots__ = ("elsewhere", "touched")

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.elsewhere: dict[str, int] = {}
        self.touched: set[str] = set()
        super().__init__(*arguments, **options)

    def members(self, room: RoomEntry) -> int:
        return self.own(room.fold) + self.elsewhere.get(room.fold, 0)

    def own(self, fold: str) -> int:
        """How many of our own connections are in a room."""
        return len(self._inside.get(fold, ()))

    def get(self, fold: str) -> RoomEntry | None:
        return self._rooms.get(fold)

    def key_of(self, name: str) -> str:
        """The fold of a room, be it there or not; Refused when there can be none of that name."""
        try:
            return self.find(name).fold
        except Refused:
            if not may_be_a_name(name):
                raise
            return fold_of(name)

    def set_elsewhere(self, fold: str, count: int) -> None:
        """So many connections of other servers are in a room, which may be gone already."""
        if count:
            self.elsewhere[fold] = count
        else:
            self.elsewhere.pop(fold, None)
        room = self._rooms.get(fold)
        if room is not None:
            self._recount(room)

    def become(self, draft: Draft, version: int) -> list[RoomEntry]:
        """Be what was read anew; return the rooms that are gone. Members stay in those that stay.

        Of 10,000 rooms this takes 3 ms: they were put together piece by piece, in the draft.
        """
        gone = [room for fold, room in self._rooms.items() if draft.get(fold) is not room]
        for room in gone:
            del self._rooms[room.fold]
            for member in tuple(self._inside.get(room.fold, ())):
                self._part(room.fold, member)
        self.commit()
        self.version = version
        self._rooms, self._places, self._namesakes = draft._rooms, draft._places, draft._namesakes
        self.made_by, self.listing = draft.made_by, draft.listing
        self.pages.clear()
        for fold in {*draft.counted, *self._inside, *self.elsewhere}:
            room_now = self._rooms.get(fold)
            if room_now is not None and self.members(room_now) != draft.counted.get(fold, 0):
                self._recount(room_now)
        return gone

    def _join(self, key: str, member: Hashable) -> None:
        super()._join(key, member)
        self.touched.add(key)

    def _part(self, key: str, member: Hashable) -> None:
        super()._part(key, member)
        self.touched.add(key)


class Draft(Directory):
    """What is read anew, while `old` serves. `come`: the rooms that are not in it as they are."""

    __slots__ = ("_old", "come", "counted")

    def __init__(self, old: SharedDirectory) -> None:
        super().__init__()
        self._old = old
        self.come: list[RoomEntry] = []
        self.counted: dict[str, int] = {}  # by fold, the members that the listing tells

    def take(self, rooms: Iterable[RoomEntry]) -> None:
        """Add some of the rooms; those that `old` has are the same objects."""
        for room in rooms:
            known = self._old.get(room.fold)
            if known is None or _as_row(known) != _as_row(room):
                self.come.append(room)
                known = room
            self._put(known)

    def get(self, fold: str) -> RoomEntry | None:
        return self._rooms.get(fold)

    def members(self, room: RoomEntry) -> int:
        count = self._old.members(room)
        if count:
            self.counted[room.fold] = count
        return count


def _as_row(room: RoomEntry) -> tuple[object, ...]:
    return room.name, room.address, room.port, room.mode, room.made, room.maker, room.token


class ClusterDispatcher(Dispatcher):
    """The dispatcher of one of several servers. `cluster` is set before the first connection."""

    cluster: Store
    directory: SharedDirectory

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.handlers = {**HANDLERS, **_LATER}
        self.group_commit = self._group_commit
        self._leaving: dict[Connection, tuple[str, bool]] = {}  # to be sent away once released

    @property
    def aside(self) -> str:  # type: ignore[override]
        """Why no change can be made just now."""
        return self.cluster.aside()

    def forget(self, connection: Connection) -> None:
        self._leaving.pop(connection, None)
        super().forget(connection)

    def send_away(self, connection: Connection, reason: str, final: bool = False) -> None:
        """One that is held hears its reply first."""
        if connection.state == HELD:
            self._leaving[connection] = reason, final
        else:
            super().send_away(connection, reason, final)

    def release(self, connection: Connection) -> None:
        """The reply that a connection was held for is queued, if there was one."""
        connection.release_hold()
        leaving = self._leaving.pop(connection, None)
        if leaving is not None:
            super().send_away(connection, *leaving)

    def watchers_away(self) -> None:
        """Changes were missed: nobody may go on as if there had been none."""
        for connection in self.group_commit.all_watchers():
            self.group_commit.unwatch(connection)
            self.send_away(connection, MISSED)  # type: ignore[arg-type]

    def readings(self) -> dict[str, float]:
        return {**super().readings(), **self.cluster.readings()}

    # -- requests that are answered later ----------------------------------------------------

    def _excuse(
        self, request_id: bytes | None, error: BadMessage | Refused | StoreError
    ) -> bytes | None:
        if not isinstance(error, Later):
            return super()._excuse(request_id, error)
        connection = error.connection

        def told(reply: bytes | None) -> None:
            if reply is not None:
                connection.send(pack_frame(reply))
            self.release(connection)

        connection.hold()
        self._wait_for(error, request_id, told)
        return None

    def _wait_for(self, later: Later, request_id: bytes | None, told: Told) -> None:
        """`told(reply)` is called once the outcome is known, from a later step of the loop; with
        None for a notification."""

        def done(body: bytes) -> None:
            result = later.finish(body)
            told(None if request_id is None else protocol.result(request_id, result))

        def over(change: Change, body: bytes) -> None:
            if change.outcome is None:
                done(body)
            else:
                told(self._excuse(request_id, change.outcome))

        if later.change is None:
            self.cluster.wait_for_version(later.version, lambda: done(b""))
        else:
            later.change.then = over
            self.cluster.ask(later.change, later.fields)

    def _handle_batch(
        self, connection: Connection, members: list[Request | BadMessage]
    ) -> tuple[bytes | None, Replies]:
        changes = ("makeroom", "deleteroom", "hello")
        if all(isinstance(one, BadMessage) or one[1] not in changes for one in members):
            return super()._handle_batch(connection, members)
        connection.bad = 0
        connection.hold()
        self._go_on(connection, deque(members), [])
        return None, []

    def _go_on(
        self,
        connection: Connection,
        left: deque[Request | BadMessage],
        replies: list[bytes],
    ) -> None:
        """The members of a batch, one after another; it is answered once, at its end."""

        def told(reply: bytes | None) -> None:
            if reply is not None:
                replies.append(reply)
            self._go_on(connection, left, replies)

        while left:
            member = left.popleft()
            request_id: bytes | None = NULL
            reply: bytes | None
            try:
                if isinstance(member, BadMessage):
                    raise member
                request_id, method, parameters = member
                protocol.check_in_batch(method)
                body = self._act(connection, method, parameters)
                reply = None if request_id is None else protocol.result(request_id, body)
            except Later as later:
                self._wait_for(later, request_id, told)
                return
            except FAILURES as error:
                reply = self._excuse(request_id, error)
            if reply is not None:
                replies.append(reply)
        if replies:
            connection.send(pack_frame(protocol.batch(replies)))
        # From the loop: the first member may have been refused inside of the request's own call.
        self.loop.defer(lambda: self.release(connection))

    # -- methods -----------------------------------------------------------------------------

    def _hello_with_version(self, connection: Connection, parameters: dict[str, Any]) -> bytes:
        body = self._hello(connection, parameters)
        wanted = parameters.get("version", 0)
        if wanted <= self.directory.version:
            return self._greeting(body)
        later = Later(connection, lambda _: self._greeting(self._hello(connection, parameters)))
        later.version = wanted
        raise later

    def _greeting(self, body: bytes) -> bytes:
        """The result of hello, which tells too how old it may be."""
        stale = self.cluster.stale_s()
        return b'%b,"stale":%d}' % (body[:-1], stale) if stale else body

    def _makeroom_later(self, connection: Connection, parameters: dict[str, Any]) -> bytes:
        name, place, mode, keep = requests.read_makeroom(parameters)
        who: dict[str, object] = {"peer": connection.peer, "user": connection.name or None}
        ipv6 = place is None and connection.by_ipv6 and not self.has_ipv4()
        token, owner = "", b""
        if self.owned:
            token = new_token(self.random_bytes(TOKEN_BYTES))
            owner = token_hash(token)
            who["token"] = "given"
        change = Change(MAKE, name, fold_of(name))
        if place is None:
            change.places = self._free_places(name, ipv6)
            place = next(change.places)
        maker, made = connection.visitor, int(self._wall())
        room = RoomEntry(name, *place, mode or self._default_mode, made, maker, owner)
        if keep:
            self.keeping.mark(room)
        change.room = room
        self._check_caps(room)
        self._take_change(maker)
        finish = (lambda body: _with_token(body, token)) if token else bytes
        raise _later(connection, change, who, finish)

    def _deleteroom_later(self, connection: Connection, parameters: dict[str, Any]) -> bytes:
        name, token = requests.read_deleteroom(parameters)
        who: dict[str, object] = {"peer": connection.peer, "user": connection.name or None}
        change = Change(DELETE, name, self.directory.key_of(name))
        if self.owned:
            who["token"] = "none" if token is None else "shown"
            change.owned, change.token = True, token
        self._take_change(connection.visitor)
        raise _later(connection, change, who)

    def _check_caps(self, room: RoomEntry) -> None:
        """The caps are judged by the copy, and nothing else is: the rest is etcd's word."""
        try:
            self.directory.check_make(room)
        except Refused as refused:
            if refused.reason not in ("room_exists", "address_in_use"):
                raise

    def _free_places(self, name: str, ipv6: bool) -> Iterator[tuple[str, int]]:
        """Places for a room, each of which no room had when it was asked for."""
        for place in places_of(fold_of(name), ipv6):
            if self.directory.at(*place) is None:
                yield place
        while True:
            yield self.directory.fresh_place(self._rng, ipv6)

    def operator_deletes(self, name: str, then: Callable[[bytes, Refused | None], object]) -> None:
        """The console's way: `then(body, why not)` is called once it is known."""
        change = Change(DELETE, name, self.directory.key_of(name))
        change.then = lambda change, body: then(body, change.outcome)
        self.cluster.ask(change, {"by": "the console"})


_LATER: dict[str, Any] = {
    "hello": ClusterDispatcher._hello_with_version,
    "makeroom": ClusterDispatcher._makeroom_later,
    "deleteroom": ClusterDispatcher._deleteroom_later,
}


def _later(
    connection: Connection,
    change: Change,
    fields: dict[str, object],
    finish: Callable[[bytes], bytes] = bytes,
) -> Later:
    later = Later(connection, finish)
    later.change, later.fields = change, fields
    return later


def _with_token(body: bytes, token: str) -> bytes:
    """The token is in the reply only: watchers get the body without it."""
    return b'%b,"token":"%b"}' % (body[:-1], token.encode())
