"""A state file becomes the directory in etcd, once and for all.

    step      the transaction               it holds      it does not
    begin     no head: put `import`         -> emptying   a head: of ours -> over, else an error
    emptying  remove what is in n/ and p/   -> filling    a head: the same; `import` is
    filling   60 rooms                      -> filling    another's: an error; ours: -> begin
              no rooms are left             -> founding
    founding  put head and id               -> over       the same

Every step compares that there is no head yet, and that `import` is as we put it. An import that is
broken off leaves no head, and can be run again; so does the replica when an endpoint does not
answer. What it has asked before may then be done late: a beginning, which makes us begin again, or
the last step, by whose head we know that all is done.
"""

from __future__ import annotations

from evloop.base.strictjson import encode
from evloop.daemon import etcd
from evloop.daemon.etcd import EngineError, Head
from evloop.daemon.limits import IMPORT_ROOMS_PER_WRITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from evloop.daemon.etcd import Json, KeyValue
    from evloop.daemon.replica import Replica
    from evloop.directory.protocol import RoomEntry


class Import:
    """The import of `rooms`, which were at `version` in the directory `identity`.

    The `fold` of a room is that of its key, also of one whose name another room has.
    """

    __slots__ = ("_at", "_identity", "_mod", "_replica", "_rooms", "_tag", "_version")

    def __init__(self, rooms: Sequence[RoomEntry], version: int, identity: str) -> None:
        self._rooms = rooms
        self._version = version
        self._identity = identity
        self._tag = ""
        self._mod = 0
        self._at = 0
        self._replica: Replica | None = None

    def begin(self, replica: Replica, now: float) -> None:
        """From the start; `replica.imported` or `not_imported` follows, if the endpoint answers."""
        self._replica = replica
        replica.why = "the rooms of the state file are being imported"
        self._tag = self._tag or replica.changes.next_tag()
        self._at = 0
        keys = replica.keys
        body = etcd.txn(
            [etcd.is_there(keys.head, False)],
            [etcd.put(keys.importing, replica.server.encode()), etcd.get(keys.importing)],
            [etcd.get(keys.head)],
        )
        replica.calls.post(etcd.TXN, body, self._begun, now)

    def _begun(self, status: int, answer: Json, now: float) -> None:
        replica = self._known()
        etcd.check(status, answer)
        held, found = etcd.read_txn(answer)
        if not found or not found[0]:
            raise EngineError("etcd's answer to an import is not whole")
        if not held:
            self._there_is_a_head(Head(found[0][0]), now)
            return
        self._mod = found[0][0].mod
        keys = replica.keys
        self.step([etcd.delete(*keys.all_of("n")), etcd.delete(*keys.all_of("p"))], now)

    def _there_is_a_head(self, head: Head, now: float) -> None:
        replica = self._known()
        if head.change == self._tag:  # the last step was done, unheard
            replica.imported(now)
            return
        name = replica.name
        sentence = f"the directory {name} is in etcd already; --import is for the first start"
        replica.not_imported(sentence, now)

    def step(self, steps: Sequence[Json], now: float) -> None:
        """Do `steps`, if there is no head yet and `import` is as we put it."""
        replica = self._known()
        keys = replica.keys
        compare = [etcd.is_there(keys.head, False), etcd.modified_at(keys.importing, self._mod)]
        look = [etcd.get(keys.head), etcd.get(keys.importing)]
        replica.calls.post(etcd.TXN, etcd.txn(compare, steps, look), self._stepped, now)

    def _stepped(self, status: int, answer: Json, now: float) -> None:
        replica = self._known()
        etcd.check(status, answer)
        held, found = etcd.read_txn(answer)
        if not held:
            self._stopped(found, now)
        elif self._at < 0:
            replica.imported(now)
        elif self._at < len(self._rooms):
            steps: list[Json] = []
            for room in self._rooms[self._at : self._at + IMPORT_ROOMS_PER_WRITE]:
                place = replica.keys.place(etcd.place_text(room.address, room.port))
                record = encode(etcd.record_of(room))
                steps.append(etcd.put(replica.keys.name(room.fold), record))
                steps.append(etcd.put(place, room.name.encode()))
            self._at += IMPORT_ROOMS_PER_WRITE
            self.step(steps, now)
        else:
            self._at = -1
            keys = replica.keys
            head = etcd.head_value(self._version, self._tag, "found")
            identity = etcd.put(keys.id, self._identity.encode())
            self.step([etcd.put(keys.head, head), identity, etcd.delete(keys.importing)], now)

    def _stopped(self, found: list[list[KeyValue]], now: float) -> None:
        """A step was not done: there is a head, or `import` was put anew."""
        replica = self._known()
        if len(found) != 2:
            raise EngineError("etcd's answer to an import is not whole")
        head, importing = found
        if head:
            self._there_is_a_head(Head(head[0]), now)
        elif importing and importing[0].value == replica.server.encode():
            self.begin(replica, now)  # by an older beginning of ours, which has come late
        else:
            sentence = f"another server imports into the directory {replica.name} just now"
            replica.not_imported(sentence, now)

    def _known(self) -> Replica:
        assert self._replica is not None, "it has begun"
        return self._replica
