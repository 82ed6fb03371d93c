"""The changes that one server asks of etcd, each until its outcome is known.

    state     sent      the log has it   refused             lost, not 200   its 10 s are over
    queued    -> sent                                                        failed: not done
    sent                done             over, or -> queued  -> unknown      unknown
    unknown             done             (log at the fence's V: -> queued)      unknown
    granted             done: the copy is at its V                           unknown

A refusal is etcd's word and never that of the copy, and it is judged in this order. Our key s/ is
gone or of another epoch: that is no word on the change. The room to make is there, or its place is
taken. The room to delete is not there, or it is another one: its owner is asked for, then again.
"""

from __future__ import annotations

from collections import deque

from evloop.base.errors import (
    ADDRESS_IN_USE,
    NO_SUCH_ROOM,
    ROOM_EXISTS,
    STORAGE_FAILED,
    Refused,
)
from evloop.base.names import quoted
from evloop.base.strictjson import encode
from evloop.daemon import etcd
from evloop.daemon.etcd import EngineError, Head
from evloop.daemon.limits import CHANGE_S, CHANGE_TRIES_MAX, CHANGES_IN_FLIGHT
from evloop.directory.registry import check_owner
from evloop.system.timers import NEVER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from evloop.daemon.etcd import Json, KeyValue
    from evloop.daemon.replica import Replica
    from evloop.directory.protocol import RoomEntry

QUEUED, SENT, UNKNOWN, GRANTED, OVER = "queued", "sent", "unknown", "granted", "over"
MAKE, DELETE = "make", "delete"


class Change:
    """A room to be made or deleted.

    `room` is the room to make, or, once it is known, the one to delete; `places`, where the server
    drew the place, gives the next one that is free. `token` is what the owner of a room to delete
    has shown; `owned`: it is compared. `outcome`: why it was not done.
    """

    __slots__ = (
        "deadline",
        "epoch",
        "fold",
        "known",
        "name",
        "op",
        "outcome",
        "owned",
        "places",
        "room",
        "state",
        "tag",
        "then",
        "token",
        "tries",
        "version",
    )

    def __init__(self, op: str, name: str, fold: str) -> None:
        self.op = op
        self.name = name
        self.fold = fold
        self.room: RoomEntry | None = None
        self.places: Iterator[tuple[str, int]] | None = None
        self.owned = False
        self.token: str | None = None
        self.known = 0  # the revision of the room to delete; 0: it has to be asked for
        self.state = QUEUED
        self.epoch = 0
        self.version = 0  # of the directory, once it was granted
        self.deadline = 0.0
        self.tag = ""  # what `head` tells it by
        self.tries = 0
        self.outcome: Refused | None = None
        self.then: Callable[[Change, bytes], object] | None = None  # the owner's, with the body


class Changes:
    """All changes of `replica` that are not over. `unknown` counts how many ever were."""

    __slots__ = ("_queue", "_replica", "_sent", "_tags", "unknown")

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._tags = 0
        self._sent: dict[str, Change] = {}  # by tag
        self._queue: deque[Change] = deque()
        self.unknown = 0

    def __len__(self) -> int:
        return len(self._queue) + len(self._sent)

    def ask(self, change: Change, now: float) -> None:
        change.deadline = now + CHANGE_S
        self._queue.append(change)
        self.send(now)

    def next_tag(self) -> str:
        """What the next put of `head` is known by: no other has the same."""
        self._tags += 1
        return f"{self._replica.server}-{self._tags}"

    def next_deadline(self) -> float:
        times = [change.deadline for change in self._sent.values()]
        times += [change.deadline for change in self._queue]
        return min(times, default=NEVER)

    def handle_timer(self, now: float) -> None:
        for change in [it for it in self._sent.values() if it.deadline <= now]:
            self._give_up(change)
        for change in [it for it in self._queue if it.deadline <= now]:
            self._queue.remove(change)
            self._over(change, storage_failed())

    # -- what becomes of them ----------------------------------------------------------------

    def lost(self) -> None:
        """No answer will come to what was sent."""
        for change in self._sent.values():
            if change.state == SENT:
                change.state = UNKNOWN
                self.unknown += 1

    def again(self, change: Change) -> None:
        """It was surely not done: send it anew when that can be."""
        if self._sent.pop(change.tag, None) is not None:
            change.state = QUEUED
            self._queue.appendleft(change)

    def in_log(self, tag: str, version: int) -> Change | None:
        """The log tells of this change: it is done. None: it is not ours, or was given up."""
        change = self._sent.pop(tag, None)
        if change is not None:
            change.state, change.version = OVER, version
        return change

    def loaded(self, moved: bool) -> None:
        """All was read anew. Where that skipped versions, so did it the log that would tell."""
        for change in list(self._sent.values()):
            if change.state == GRANTED and change.version <= self._replica.version:
                self._over(change, None)
            elif moved and change.state == UNKNOWN:
                self._give_up(change)

    def judge(self, now: float) -> None:
        """The log is at the fence's V: what it has not told by now has not happened."""
        for change in list(self._sent.values()):
            if change.state == UNKNOWN:
                self.again(change)
        self.send(now)

    def fail_all(self) -> None:
        """etcd holds another directory."""
        for change in list(self._sent.values()):
            self._give_up(change)
        while self._queue:
            self._over(self._queue.popleft(), storage_failed())

    def _give_up(self, change: Change) -> None:
        self._over(change, storage_unknown(change))

    def _over(self, change: Change, outcome: Refused | None) -> None:
        self._sent.pop(change.tag, None)
        change.state, change.outcome = OVER, outcome
        self._replica.over(change)

    # -- to etcd -----------------------------------------------------------------------------

    def send(self, now: float) -> None:
        """Send what waits, as much as may be under way."""
        replica = self._replica
        while self._queue and replica.takes_changes():
            if sum(it.state == SENT for it in self._sent.values()) >= CHANGES_IN_FLIGHT:
                return
            change = self._queue.popleft()
            change.tag = self.next_tag()
            change.state, change.epoch = SENT, replica.epoch
            self._sent[change.tag] = change
            body = self._make(change) if change.op == MAKE else self._delete(change)
            call = replica.calls.post(
                etcd.TXN,
                body,
                lambda s, a, t, change=change: self.decided(change, s, a, t),  # type: ignore[misc]
                now,
            )
            call.change = change

    def _always(self) -> list[Json]:
        replica = self._replica
        own = replica.keys.server(replica.server)
        return [etcd.modified_at(own, replica.epoch), etcd.is_there(replica.keys.head)]

    def _look(self, change: Change) -> list[Json]:
        keys = self._replica.keys
        own = keys.server(self._replica.server)
        return [etcd.get(own), etcd.get(keys.head), etcd.get(keys.name(change.fold))]

    def _make(self, change: Change) -> bytes:
        room, keys = change.room, self._replica.keys
        assert room is not None, "a change that makes has the room"
        name = keys.name(change.fold)
        place = keys.place(etcd.place_text(room.address, room.port))
        record = etcd.record_of(room)
        head = etcd.head_value(self._replica.base, change.tag, MAKE, change.fold, record)
        return etcd.txn(
            [etcd.created_never(name), etcd.created_never(place), *self._always()],
            [
                etcd.put(name, encode(record)),
                etcd.put(place, room.name.encode()),
                etcd.put(keys.head, head),
                etcd.get(keys.head),
            ],
            [*self._look(change), etcd.get(place)],
        )

    def _delete(self, change: Change) -> bytes:
        keys = self._replica.keys
        if not change.known:
            room, revision = self._replica.rooms.get(change.fold, (None, 0))
            if room is not None and _not_owned(change, room) is None:
                change.room, change.known = room, revision
        if not change.known:  # this never holds: etcd is asked what is there
            return etcd.txn([etcd.is_there(keys.head, False)], [], self._look(change))
        room = change.room
        assert room is not None
        head = etcd.head_value(self._replica.base, change.tag, DELETE, change.fold)
        name = keys.name(change.fold)
        return etcd.txn(
            [etcd.modified_at(name, change.known), *self._always()],
            [
                etcd.delete(name),
                etcd.delete(keys.place(etcd.place_text(room.address, room.port))),
                etcd.put(keys.head, head),
                etcd.get(keys.head),
            ],
            self._look(change),
        )

    def decided(self, change: Change, status: int, answer: Json, now: float) -> None:
        """etcd's answer to a change that was sent."""
        if change.state != SENT:
            return  # the log was faster, or its time is over
        if status != etcd.OK:
            words = etcd.sentence_of(answer)
            if etcd.NO_SPACE in words:  # said before anything is done
                self._replica.full(words)
                self._over(change, storage_failed())
                return
            raise EngineError(words or f"etcd answers {status}")
        held, found = etcd.read_txn(answer)
        if held:
            if not found or not found[0]:
                raise EngineError("etcd's answer to a change is not whole")
            change.state, change.version = GRANTED, Head(found[0][0]).version
            if change.version <= self._replica.version:
                self._over(change, None)
        else:
            self._refused(change, found, now)
        self.send(now)

    def _refused(self, change: Change, found: list[list[KeyValue]], now: float) -> None:
        if len(found) != 3 + (change.op == MAKE):
            raise EngineError("etcd's answer to a change is not whole")
        replica = self._replica
        own, head, there = found[0], found[1], found[2]
        asked_only = change.op == DELETE and not change.known
        if not own or (own[0].mod != change.epoch and not asked_only):
            self.again(change)
            if not own:
                replica.lost_lease(now)
            elif replica.epoch == change.epoch:
                replica.lost_epoch(now)
        elif not head:
            self.again(change)
            replica.lost_head(now)
        elif change.op == MAKE:
            self._not_made(change, there, found[3])
        elif not there:
            sentence = f"there is no room {quoted(change.name)}"
            self._over(change, Refused(NO_SUCH_ROOM, "no_such_room", sentence))
        else:
            room = etcd.read_room(etcd.read_json(there[0].value), change.fold)
            refused = _not_owned(change, room)
            if refused is None:
                change.room, change.known = room, there[0].mod
                self._once_more(change)
            else:
                self._over(change, refused)

    def _not_made(self, change: Change, there: list[KeyValue], taken: list[KeyValue]) -> None:
        assert change.room is not None
        where = etcd.place_text(change.room.address, change.room.port)
        if there:
            other = etcd.read_room(etcd.read_json(there[0].value), change.fold)
            place = etcd.place_text(other.address, other.port)
            sentence = f"room {other.name} exists already ({place})"
            self._over(change, Refused(ROOM_EXISTS, "room_exists", sentence))
        elif taken:
            following = next(change.places, None) if change.places is not None else None
            if following is not None:
                change.room.address, change.room.port = following
                self._once_more(change)
                return
            name = taken[0].value.decode("utf-8", "replace")
            sentence = f"{where} is in use by room {name}"
            data: dict[str, object] = {"room": name}
            self._over(change, Refused(ADDRESS_IN_USE, "address_in_use", sentence, data))
        else:
            raise EngineError("etcd refuses a change for no reason")

    def _once_more(self, change: Change) -> None:
        change.tries += 1
        if change.tries < CHANGE_TRIES_MAX:
            self.again(change)
        else:
            self._over(change, storage_failed())


def _not_owned(change: Change, room: RoomEntry) -> Refused | None:
    """Why who asks may not delete `room`."""
    if change.owned:
        try:
            check_owner(room, change.token)
        except Refused as refused:
            return refused
    return None


def storage_failed() -> Refused:
    sentence = "the directory's store is away; nothing was changed, try again later"
    return Refused(STORAGE_FAILED, "storage_failed", sentence)


def storage_unknown(change: Change) -> Refused:
    done = "made" if change.op == MAKE else "deleted"
    sentence = (
        f"the directory's store did not answer in 10 s; whether room {quoted(change.name)} was"
        f" {done} is not known yet: look with getdir"
    )
    return Refused(STORAGE_FAILED, "storage_unknown", sentence)
