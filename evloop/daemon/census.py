"""Which servers of a directory run, and how many of their connections are in which room.

Each server writes its own numbers (m/SERVER/FOLD, under its lease) at most once a second, and
follows those of the others and their keys s/SERVER, in two watches beside that of the log. Nothing
of this is versioned: a number may be a second old. A server that has died takes its numbers with
its lease.

    state      follow             a page        the last page   a watch ends   lost
    idle       -> reading         -             -               -              idle
    reading    -                  the next one  -> following    -              -> idle
    following  -                  -             -               -> reading     -> idle
"""

from __future__ import annotations

from evloop.daemon import etcd
from evloop.daemon.etcd import EngineError
from evloop.daemon.limits import (
    COUNTS_EVERY_S,
    COUNTS_PER_WRITE,
    SERVERS_FOLLOWED_MAX,
)
from evloop.system.timers import NEVER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from evloop.daemon.etcd import Json, KeyValue
    from evloop.daemon.replica import Replica

SERVERS, MEMBERS = "s", "m"


class Census:
    """The servers and counts of all servers of `replica`'s directory.

    `servers` is what each says of itself. `counts` are the numbers of the others, by server and
    fold; `own` are ours. `moved` holds the folds of which the sum of the others has changed: the
    owner takes them away. `news`: something of all this has changed since it was last set to False.
    """

    __slots__ = (
        "_dirty",
        "_replica",
        "_write_at",
        "_writing",
        "counts",
        "moved",
        "news",
        "own",
        "servers",
    )

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self.servers: dict[str, Json] = {}
        self.counts: dict[str, dict[str, int]] = {}
        self.moved: set[str] = set()
        self.news = False
        self.own: dict[str, int] = {}  # what is in each room of ours now, never 0
        self._dirty: set[str] = set()  # folds whose own number has to be written
        self._writing: dict[str, int] | None = None
        self._write_at = NEVER

    def set_own(self, fold: str, count: int, now: float) -> None:
        """So many connections of ours are in that room."""
        if count:
            self.own[fold] = count
        else:
            self.own.pop(fold, None)
        self.news = True
        self._dirty.add(fold)
        if self._write_at == NEVER:
            self._write_at = now + COUNTS_EVERY_S

    def elsewhere(self, fold: str) -> int:
        """How many connections of other servers are in a room."""
        return sum(counts.get(fold, 0) for counts in self.counts.values())

    def next_deadline(self) -> float:
        return NEVER if self._writing is not None else self._write_at

    # -- writing -----------------------------------------------------------------------------

    def renew(self) -> None:
        """There is a new lease: what was written goes with the old one."""
        self._dirty |= set(self.own)

    def handle_timer(self, now: float) -> None:
        replica, keys = self._replica, self._replica.keys
        if self._writing is not None or now < self._write_at:
            return
        if not replica.lease:  # this server ends: what is written now would be there for ever
            self._write_at = NEVER
            return
        folds = [fold for fold, _ in zip(self._dirty, range(COUNTS_PER_WRITE))]
        self._write_at = now + COUNTS_EVERY_S if folds else NEVER
        if not folds:
            return
        self._dirty.difference_update(folds)
        self._writing = {fold: self.own.get(fold, 0) for fold in folds}
        success = [
            etcd.put(keys.members(replica.server, fold), b"%d" % count, replica.lease)
            if count
            else etcd.delete(keys.members(replica.server, fold))
            for fold, count in self._writing.items()
        ]
        replica.calls.post(etcd.TXN, etcd.txn([], success), self._written, now)

    def _written(self, status: int, answer: Json, now: float) -> None:
        if status == etcd.OK:
            self._writing = None
            return
        self._not_written()
        if status == etcd.NOT_FOUND:
            self._replica.lost_lease(now)
        else:
            raise EngineError(etcd.sentence_of(answer) or f"etcd answers {status}")

    def _not_written(self) -> None:
        if self._writing is not None:
            self._dirty.update(self._writing)
            self._writing = None

    # -- following ---------------------------------------------------------------------------

    def lost(self) -> None:
        """The endpoint is given up; what was known of the others stays until it is known better."""
        self._not_written()

    def follow(self, now: float) -> None:
        """Live: read and follow the servers and the counts. The own ones are written again."""
        if self._dirty and self._write_at == NEVER:
            self._write_at = now + COUNTS_EVERY_S
        self._read(SERVERS, now)
        self._read(MEMBERS, now)

    def _read(self, kind: str, now: float) -> None:
        calls, keys = self._replica.calls, self._replica.keys.all_of(kind)
        servers: dict[str, Json] = {}
        counts: dict[str, dict[str, int]] = {}

        def each(piece: list[KeyValue]) -> None:
            for one in piece:
                self._take(kind, one, False, servers, counts)

        def all_read(revision: int, now: float) -> None:
            self.news = True
            if kind == SERVERS:
                self.servers = servers
            else:
                for numbers in (*self.counts.values(), *counts.values()):
                    self.moved.update(numbers)
                self.counts = counts
            calls.post(etcd.WATCH, etcd.watch(*keys, revision + 1), etcd.nothing, now, line)

        def line(text: bytes, now: float) -> None:
            _, ended, events = etcd.read_watch(text)
            for deleted, one in events:
                self.news = True
                fold = self._take(kind, one, deleted, self.servers, self.counts)
                if fold is not None:
                    self.moved.add(fold)
            if ended:
                raise EngineError("a watch was ended by etcd")

        calls.read_all(keys, each, all_read, now)

    def _take(
        self,
        kind: str,
        found: KeyValue,
        deleted: bool,
        servers: dict[str, Json],
        counts: dict[str, dict[str, int]],
    ) -> str | None:
        """Note what a key says; return the fold of the room of which a number has changed."""
        rest = self._replica.keys.rest_of(found.key)
        if kind == SERVERS:
            if deleted:
                servers.pop(rest, None)
            elif rest in servers or len(servers) < SERVERS_FOLLOWED_MAX:
                servers[rest] = etcd.read_json(found.value)
            return None
        server, slash, fold = rest.partition("/")
        if server == self._replica.server or not slash:
            return None
        numbers = counts.get(server)
        if numbers is None:
            if deleted or len(counts) >= SERVERS_FOLLOWED_MAX:
                return None
            numbers = counts[server] = {}
        value = found.value
        if deleted:
            numbers.pop(fold, None)
        elif value.isdigit() and len(value) < 9:
            numbers[fold] = int(value)
        if not numbers:
            del counts[server]
        return fold
