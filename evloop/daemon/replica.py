"""One server's copy of a directory that lives in etcd: requests out, answers and time in.

Nothing here touches a socket or a clock. `calls` has what is to be sent and takes the answers,
`handle_timer` is told the time, and `events` are to be acted on in order.

    state     does                                     the engine answers   it fails, or 1.5 s pass
    seeking   tries the endpoints in turn, backing off -> founding          next endpoint
    founding  a lease, `found` (or an import), a fence -> loading           -> seeking
    loading   goes on with its log, or reads all anew  -> live              -> seeking
    live      follows `head`; sends changes; probes    -                    -> seeking
    broken    nothing, until a restart: what is in etcd is not this directory any more

The copy (`rooms`, `version`) is what the log told, and nothing else; own changes come to it by the
log too. Everything that is read otherwise may be old: only speed depends on it.

A change is sent in a transaction that holds while our epoch does: the revision at which our key
s/SERVER was last put. A fence puts it again. Once that is acknowledged, whatever was sent before
and has not happened never will. So "no answer" becomes yes or no: see `changes`.
"""

from __future__ import annotations

from evloop.base.errors import CANT_CREATE, MISMATCH
from evloop.base.strictjson import encode
from evloop.daemon import etcd
from evloop.daemon.calls import Calls
from evloop.daemon.census import Census
from evloop.daemon.changes import Changes, storage_failed
from evloop.daemon.etcd import EngineError, Head, NewerFormat
from evloop.daemon.limits import (
    BROKEN_EVERY_S,
    ENGINE_AWAY_S,
    ENGINE_BACKOFF_S_MAX,
    ENGINE_BACKOFF_S_MIN,
    ENGINE_PROBE_S,
    ENGINE_REQUEST_S,
    KEEP_ALIVE_S,
    LEASE_S,
    STALE_S,
)
from evloop.daemon.loading import load
from evloop.system.timers import NEVER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random
    from typing import Any

    from evloop.daemon.calls import Call
    from evloop.daemon.changes import Change
    from evloop.daemon.etcd import Json, KeyValue
    from evloop.daemon.importing import Import
    from evloop.directory.protocol import RoomEntry

SEEKING, FOUNDING, LOADING, LIVE, BROKEN = "seeking", "founding", "loading", "live", "broken"
# Events, each (kind, ...); see `Replica.events`.
APPLIED, READING, READ, LOADED, OUTCOME, READY, AWAY, BACK, FATAL, IS_BROKEN, FULL_DISK = range(11)


class Replica:
    """The copy of the directory `name`, followed by server `server` (8 hex digits).

    `endpoints` is how many there are; `info` is what s/SERVER says of this server. `identity` is
    drawn for the case that this server founds the directory. `events` are (kind, ...):

        APPLIED, head, change or None    one change, the next one; it is ours
        READING                          all is about to be read anew
        READ, rooms                      of that, the next rooms; no LOADED may follow
        LOADED, version, moved           all was read anew; `moved`: changes were missed
        OUTCOME, change                  a change is over, `outcome` says how
        READY / AWAY, why / BACK         the first load is done; live was lost; live again
        FATAL, sentence, status          before it was ever live: the program cannot go on
        IS_BROKEN, sentence              again each minute
        FULL_DISK, sentence              etcd takes nothing
    """

    __slots__ = (
        "_after",
        "_asked",
        "_away_since",
        "_behind_since",
        "_fence_revision",
        "_fence_version",
        "_fencing",
        "_keep_at",
        "_must_load",
        "_next_endpoint",
        "_probe_at",
        "_rng",
        "_said",
        "_said_at",
        "_tries",
        "base",
        "calls",
        "census",
        "changes",
        "endpoints",
        "epoch",
        "events",
        "fences",
        "floor",
        "identity",
        "importing",
        "info",
        "keys",
        "lease",
        "name",
        "password",
        "probed_at",
        "ready",
        "resyncs",
        "revision",
        "rooms",
        "server",
        "state",
        "version",
        "why",
    )

    def __init__(
        self,
        name: str,
        server: str,
        endpoints: int,
        info: Json,
        identity: str,
        rng: Random,
        now: float,
    ) -> None:
        self.name, self.server, self.endpoints = name, server, endpoints
        self.info, self.identity = info, identity
        self.keys = etcd.Keys(name)
        self._rng = rng
        self.password: tuple[str, str] | None = None  # user and password; set before the start
        self.importing: Import | None = None  # what the directory is made of; likewise
        self.version = -1  # of the copy; -1: nothing was loaded yet
        self.floor = -1  # the version that clients have seen all the same, of a copy on disk
        self.revision = 0  # the log was followed up to here
        self.base = -1
        self.rooms: dict[str, tuple[RoomEntry, int]] = {}  # by fold: the room, and its revision
        self.state = SEEKING
        self.why = "no answer yet"
        self.ready = False
        self._next_endpoint = 0
        self._tries = 0
        self._after = now  # when the next endpoint is tried
        self._away_since = now
        self.lease = ""
        self.epoch, self._fencing = 0, False
        self._said: Json = {}  # what s/SERVER says
        self._asked = -1, 0  # the version and revision known when the fence was asked for
        self._fence_version = 0  # changes that are unknown are judged when the copy is there
        self._fence_revision = 0  # what is read at an older one is old
        self._must_load = False
        self._keep_at = self._probe_at = self._said_at = NEVER
        self._behind_since = NEVER
        self.probed_at = now
        self.calls = Calls(self)
        self.events: list[tuple[Any, ...]] = []
        self.changes = Changes(self)
        self.fences = self.resyncs = 0
        self.census = Census(self)

    def ask(self, change: Change, now: float) -> None:
        """Make or delete a room; an OUTCOME or APPLIED event follows, maybe at once."""
        if self.state == BROKEN or self.away_s(now) >= ENGINE_AWAY_S:
            change.outcome = storage_failed()
            self.over(change)
        else:
            self.changes.ask(change, now)

    def away_s(self, now: float) -> float:
        return 0.0 if self.state == LIVE else now - self._away_since

    def stale_s(self, now: float) -> int:
        """Whole seconds since etcd last answered a probe; 0 where that is not long ago."""
        age = now - self.probed_at
        return int(age) if age >= STALE_S else 0

    def takes_changes(self) -> bool:
        return self.state == LIVE and not self._fencing

    def over(self, change: Change) -> None:
        self.events.append((OUTCOME, change))

    def full(self, why: str) -> None:
        self.events.append((FULL_DISK, why))

    def fence(self, now: float) -> None:
        """Put s/SERVER anew, if what it says has changed."""
        if self.takes_changes() and self.lease and self.info != self._said:
            self._fence(now)

    def end(self, then: Callable[[], object], now: float) -> None:
        """A clean end: our keys in etcd go with the lease, then `then()` is called."""
        if self.lease and self.state == LIVE:
            body = etcd.of_lease(self.lease)
            self.lease, self._keep_at = "", NEVER
            self.calls.post(etcd.REVOKE, body, lambda *_: then(), now)
        else:
            then()

    # -- what happened -----------------------------------------------------------------------

    def trouble(self, error: EngineError, now: float) -> None:
        """An answer, or that there is none: this endpoint is no good just now."""
        if isinstance(error, NewerFormat):
            self._unfit(str(error), now)
        else:
            self._seek(str(error), now)

    def not_authenticated(self, call: Call, now: float) -> None:
        """The token of our password is not valid any more; nothing was done."""
        if call.change is not None:
            self.changes.again(call.change)
        self._seek("the password's token is not valid any more", now, again=True)

    def next_deadline(self) -> float:
        """When `handle_timer` wants to be called."""
        times = [self._after if self.state == SEEKING else NEVER, self._said_at]
        times += [self.calls.next_deadline(), self.changes.next_deadline()]
        if self.calls.working:
            return 0.0  # at once; what comes meanwhile has its turn too
        if self.state == LIVE:
            times += [self._keep_at, self._probe_at, self._behind_since + ENGINE_REQUEST_S]
            times.append(self.census.next_deadline())
        return min(times)

    def handle_timer(self, now: float) -> None:
        """It is `next_deadline`, or later."""
        self.calls.work(now)
        self.changes.handle_timer(now)
        if self.calls.next_deadline() <= now:
            self._seek("it does not answer in time", now)
        if self.state == SEEKING and self._after <= now:
            self._try(now)
        elif self.state == LIVE:
            self._live_timer(now)
        elif self.state == BROKEN and self._said_at <= now:
            self._said_at = now + BROKEN_EVERY_S
            self.events.append((IS_BROKEN, self.why))

    # -- seeking -----------------------------------------------------------------------------

    def _seek(self, why: str, now: float, again: bool = False) -> None:
        """This endpoint does not answer as it should: the next one, or this one `again`."""
        if self.state == BROKEN:
            return
        if self.state == LIVE:
            self.events.append((AWAY, why))
        self._leave(now)
        self.why = why
        self.state = SEEKING
        self._next_endpoint = (self.calls.endpoint + (not again)) % self.endpoints
        delay = min(ENGINE_BACKOFF_S_MAX, ENGINE_BACKOFF_S_MIN * 2 ** min(self._tries, 16))
        self._tries += 1
        self._after = now + delay * self._rng.uniform(0.5, 1.0)

    def _leave(self, now: float) -> None:
        """No longer live here: what was sent is unknown."""
        if self.state == LIVE:
            self._away_since = now
        self.calls.drop_all()
        self._fencing = False
        self.census.lost()
        self._keep_at = self._probe_at = self._behind_since = NEVER
        self.changes.lost()

    def _broken(self, why: str, now: float) -> None:
        """etcd holds another directory than the one that we know."""
        self._leave(now)
        self.state, self.why = BROKEN, why
        self._said_at = now
        self.changes.fail_all()

    def _unfit(self, why: str, now: float) -> None:
        """This etcd, or what is in it, is nothing for us."""
        if self.ready or self.floor >= 0:
            self._broken(why, now)
        else:
            self._fatal(why, MISMATCH, now)

    def _fatal(self, why: str, status: int, now: float) -> None:
        self._broken(why, now)
        self._said_at = NEVER
        self.events.append((FATAL, why, status))

    def _try(self, now: float) -> None:
        self.calls.endpoint = self._next_endpoint
        self._after = NEVER
        if self.password is not None and not self.calls.token:
            body = etcd.credentials(*self.password)
            self.calls.post(etcd.AUTHENTICATE, body, self._authenticated, now)
        else:
            self.calls.post(etcd.VERSION, None, self._greeted, now)

    def _authenticated(self, status: int, answer: Json, now: float) -> None:
        if status != etcd.OK:
            raise EngineError(f"the password was not accepted ({etcd.sentence_of(answer)})")
        self.calls.token = etcd.read_token(answer)
        self.calls.post(etcd.VERSION, None, self._greeted, now)

    def _greeted(self, status: int, answer: Json, now: float) -> None:
        etcd.check(status, answer)
        release = etcd.read_release(answer)
        if release < etcd.RELEASE_MIN:
            text = answer.get("etcdserver")
            self._unfit(f"the cluster runs etcd {text}; 3.4 or newer is needed", now)
            return
        self.state, self.why = FOUNDING, "the directory is being read"
        if self.lease:
            self._leased(now)
        else:
            self.calls.post(etcd.GRANT, etcd.grant(LEASE_S), self._granted_lease, now)

    # -- founding ----------------------------------------------------------------------------

    def _granted_lease(self, status: int, answer: Json, now: float) -> None:
        etcd.check(status, answer)
        self.lease = etcd.read_lease(answer)
        self.census.renew()
        self._leased(now)

    def _leased(self, now: float) -> None:
        if self.ready:
            self._fence(now)
        elif self.importing is not None:
            self.importing.begin(self, now)
        else:
            self._found(now)

    def _found(self, now: float) -> None:
        keys = self.keys
        head = etcd.head_value(0, self.changes.next_tag(), "found")
        body = etcd.txn(
            [etcd.is_there(keys.head, False), etcd.created_never(*keys.all_of("n"))],
            [etcd.put(keys.head, head), etcd.put(keys.id, self.identity.encode())],
            [etcd.get(keys.head)],
        )
        self.calls.post(etcd.TXN, body, self._founded, now)

    def _founded(self, status: int, answer: Json, now: float) -> None:
        etcd.check(status, answer)
        held, found = etcd.read_txn(answer)
        if not held and not (found and found[0]):
            raise EngineError("an import was broken off: run it again")
        self._fence(now)

    def imported(self, now: float) -> None:
        self.importing = None
        self._fence(now)

    def not_imported(self, why: str, now: float) -> None:
        self._fatal(why, CANT_CREATE, now)

    def _fence(self, now: float) -> None:
        keys = self.keys
        own = keys.server(self.server)
        success = [
            etcd.put(own, encode(self.info), self.lease),
            etcd.get(own),
            etcd.get(keys.head),
            etcd.get(keys.id),
        ]
        self._fencing, self._said = True, dict(self.info)
        self._asked = max(self.version, self.floor), self.revision
        self.calls.post(etcd.TXN, etcd.txn([], success), self._fenced, now)

    def _fenced(self, status: int, answer: Json, now: float) -> None:
        self._fencing = False
        if status == etcd.NOT_FOUND:
            self.lease = ""
        etcd.check(status, answer)
        _, found = etcd.read_txn(answer)
        if len(found) != 3 or not found[0]:
            raise EngineError("etcd's answer to a fence is not whole")
        if not self._fits(found[1], etcd.revision_of(answer), now):
            return
        self.fences += 1
        self.epoch = found[0][0].mod
        if found[2]:
            self.identity = found[2][0].value.decode("ascii", "replace")[:16]
        self._fence_version = Head(found[1][0]).version
        self._fence_revision = etcd.revision_of(answer)
        if self.state == LIVE:
            self.changes.send(now)
            return
        self.state = LOADING
        self._keep_at = now + KEEP_ALIVE_S
        if self.version < 0 or self._must_load:
            self._load(now)
        else:
            self._follow(now)

    def _fits(self, heads: list[KeyValue], revision: int, now: float) -> bool:
        """Whether what is in etcd can be what we know of, some changes later."""
        if not heads:
            if not self.ready:
                raise EngineError("the directory in etcd has no head: an import was broken off")
            self._broken("the directory has vanished from etcd; restart when it is there", now)
            return False
        head = Head(heads[0])
        seen, followed = self._asked  # of now would be wrong: the log may overtake an answer
        other = self.version >= 0 and head.base != self.base
        if other or head.version < seen or revision < followed:
            self._broken(
                f"etcd holds version {head.version} of the directory, and this server has seen"
                f" {seen}: was a backup restored? Restart this server to take it",
                now,
            )
            return False
        return True

    # -- loading -----------------------------------------------------------------------------

    def _load(self, now: float) -> None:
        self.events.append((READING,))
        read = lambda rooms: self.events.append((READ, rooms))  # noqa: E731
        load(self.calls, self.keys, read, self._loaded, now)

    def _loaded(
        self,
        status: int,
        answer: Json,
        rooms: dict[str, tuple[RoomEntry, int]],
        revision: int,
        now: float,
    ) -> None:
        etcd.check(status, answer)
        found, _ = etcd.read_page(answer)
        if revision < self._fence_revision:
            raise EngineError("it answers with what the directory was before")
        if not self._fits(found, revision, now):
            return
        head = Head(found[0])
        moved = self.version >= 0 and head.version > self.version
        self.resyncs += self.version >= 0
        self.rooms = rooms
        self.version, self.revision, self.base = head.version, revision, head.base
        self._must_load = False
        self.events.append((LOADED, head.version, moved))
        self.changes.loaded(moved)
        self._follow(now)

    def _follow(self, now: float) -> None:
        body = etcd.watch(self.keys.head, b"", self.revision + 1)
        self.calls.post(etcd.WATCH, body, etcd.nothing, now, self._watched)

    def _watched(self, line: bytes, now: float) -> None:
        begun, ended, events = etcd.read_watch(line)
        if ended:
            self._resync("the log that this server missed is compacted", now)
            return
        if begun and self.state == LOADING:
            self._live(now)
        for deleted, found in events:
            if deleted:
                self._broken("the directory was deleted from etcd; restart when it is there", now)
                return
            if not self._apply(Head(found), now):
                return
        self._judge(now)

    def _resync(self, why: str, now: float) -> None:
        self._must_load = True
        self._seek(why, now, again=True)

    def _apply(self, head: Head, now: float) -> bool:
        """One value of `head`, of the log; False when the log cannot go on."""
        if head.base == self.base and head.version <= self.version:
            return True
        if head.base != self.base or head.op == "found":
            self._broken("another directory was put into etcd; restart this server to take it", now)
            return False
        if head.version != self.version + 1:
            self._resync("the log that etcd sends has a gap", now)
            return False
        if head.room is not None:
            self.rooms[head.fold] = head.room, head.mod
        else:
            known = self.rooms.pop(head.fold, None)
            head.room = known[0] if known is not None else None
        self.version, self.revision = head.version, head.mod
        change = self.changes.in_log(head.change, head.version)
        self.events.append((APPLIED, head, change))
        return True

    # -- live --------------------------------------------------------------------------------

    def _live(self, now: float) -> None:
        self.state = LIVE
        self._tries = 0
        self.probed_at = now
        self._probe_at = now + ENGINE_PROBE_S
        self.events.append((BACK if self.ready else READY,))
        self.ready = True
        self.census.follow(now)
        self._judge(now)
        self.changes.send(now)

    def _judge(self, now: float) -> None:
        """The log is at the fence's V: what it has not told by now has not happened."""
        if self.version < self._fence_version or self.state != LIVE:
            return
        self.changes.judge(now)

    def _live_timer(self, now: float) -> None:
        if self._keep_at <= now:
            self._keep_at = now + KEEP_ALIVE_S
            body = etcd.of_lease(self.lease)
            self.calls.post(etcd.KEEP_ALIVE, body, self._kept, now)
        if self._probe_at <= now:
            self.fence(now)
            self._probe_at = now + ENGINE_PROBE_S
            self.calls.post(etcd.RANGE, etcd.read_key(self.keys.head), self._probed, now)
        if self._behind_since + ENGINE_REQUEST_S <= now:
            self._seek("its watch is silent while the directory changes", now)
            return
        self.census.handle_timer(now)

    def _kept(self, status: int, answer: Json, now: float) -> None:
        etcd.check(status, answer)
        if not etcd.lease_lives(answer):
            self.lost_lease(now)

    def lost_lease(self, now: float) -> None:
        """A new lease, a fence, and all counts anew: no word about any change."""
        self.lease = ""
        self._seek("the lease of this server had ended", now, again=True)

    def lost_epoch(self, now: float) -> None:
        """Somebody else has put our key s/: another server has drawn the same number."""
        self._seek("another server goes by the number of this one", now, again=True)

    def lost_head(self, now: float) -> None:
        self._broken("the directory has vanished from etcd; restart when it is there", now)

    def _probed(self, status: int, answer: Json, now: float) -> None:
        etcd.check(status, answer)
        self.probed_at = now
        found, _ = etcd.read_page(answer)
        if not found or Head(found[0]).version <= self.version:
            self._behind_since = NEVER
        elif self._behind_since == NEVER:
            self._behind_since = now
