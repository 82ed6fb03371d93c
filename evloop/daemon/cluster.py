"""A server of a directory in etcd, put together: options, replica, sockets, cache, and the start.

    state      the first load     10 s without etcd     live is lost   etcd is another directory
    waiting    -> serving         a cache: -> cached    -              exit 76, or 73 (an import)
    cached     -> serving         -                     -              -> serving, changes refused
    serving    -                  -                     says so        the same

The cache is an ordinary state file, brought up to date at most once a second: what a server gives
from it is old and says so (`stale`). Nothing of the directory's safety depends on it.
"""

from __future__ import annotations

import os
import random

from evloop import __version__
from evloop.base.addresses import endpoint_of, split_endpoint
from evloop.base.errors import CANT_CREATE, USAGE, SetupError
from evloop.daemon.cache import Cache, open_cache
from evloop.daemon.changes import Change
from evloop.daemon.engine import Engine
from evloop.daemon.etcd import Head
from evloop.daemon.limits import (
    CACHE_SERVED_S,
    HELLO_VERSION_S,
    MEMBERS_PER_TICK,
    PASSWORD_BYTES_MAX,
    REVOKE_S,
    WAITING_EVERY_S,
    WAITING_FIRST_S,
)
from evloop.daemon.replica import (
    APPLIED,
    AWAY,
    BACK,
    FATAL,
    FULL_DISK,
    IS_BROKEN,
    LIVE,
    LOADED,
    OUTCOME,
    READ,
    READING,
    READY,
    Replica,
)
from evloop.daemon.shared import ClusterDispatcher, Draft, SharedDirectory
from evloop.daemon.store import open_store
from evloop.directory.protocol import change_body, room_json
from evloop.directory.registry import Directory
from evloop.system.timers import NEVER, nothing

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from argparse import Namespace
    from collections.abc import Callable
    from typing import Any

    from evloop.daemon.dispatcher import Dispatcher
    from evloop.daemon.importing import Import
    from evloop.system.log import Log
    from evloop.system.loop import Loop

SERVER_ID_BYTES = 4
ETCD_PORT = 2379


class ClusterStart:
    """What of a cluster is there before the rest of the server: its cache, its files.

    SetupError when one of them cannot be used.
    """

    __slots__ = ("_context", "_import", "_log", "_loop", "_options", "_password", "cache", "state")

    def __init__(
        self,
        loop: Loop,
        log: Log,
        options: Namespace,
        state_path: Callable[[dict[str, str]], str],
    ) -> None:
        self._loop, self._log, self._options = loop, log, options
        options.directory = options.directory or "main"
        self._context = engine_tls(
            "--cluster-ca", options.cluster_ca, options.cluster_cert, options.cluster_key
        )
        self._password = password_of(options)
        if self._password is not None and self._context is None:
            log.warning("the password for etcd can be overheard: --cluster-ca encrypts it")
        self._import = None if options.import_file is None else importer(options.import_file)
        path = None
        if not options.memory:
            path = options.state
            if path is None:
                beside = os.path.dirname(state_path(dict(os.environ)))
                path = os.path.join(beside, f"cluster-{options.directory}.db")
        self.cache = open_cache(loop, log, path, options.state is not None)
        self.state = f"etcd at {options.cluster}"

    def kinds(self) -> tuple[type[SharedDirectory], type[ClusterDispatcher]]:
        """What stands for the directory and the dispatcher of a server that is alone."""
        return SharedDirectory, ClusterDispatcher

    def make(self, dispatcher: Dispatcher) -> Cluster:
        assert isinstance(dispatcher, ClusterDispatcher)
        options = self._options
        cluster = Cluster(self._loop, self._log, dispatcher, self.cache, options, self._context)
        dispatcher.cluster = cluster
        if self._password is not None:
            cluster.replica.password = options.cluster_user, self._password
        if self._import is not None:
            cluster.replica.importing = self._import
        return cluster


class Cluster:
    """What stands between a `ClusterDispatcher` and etcd."""

    __slots__ = (
        "_cache",
        "_draft",
        "_endpoints",
        "_engine",
        "_fatal",
        "_fields",
        "_log",
        "_loop",
        "_may_serve_at",
        "_on_ready",
        "_on_waiting",
        "_pump_due",
        "_ready",
        "_said_at",
        "_timer",
        "_waiting",
        "changed",
        "dispatcher",
        "replica",
    )

    def __init__(
        self,
        loop: Loop,
        log: Log,
        dispatcher: ClusterDispatcher,
        cache: Cache,
        options: Namespace,
        context: ssl.SSLContext | None,
    ) -> None:
        self._loop = loop
        self._log = log
        self.dispatcher = dispatcher
        self._cache = cache
        self._draft = Draft(dispatcher.directory)  # what is being read anew
        self._on_ready: Callable[[], list[str]] = list
        self._on_waiting: Callable[[str], object] = str
        self._fatal: SetupError | None = None
        rng = random.Random(os.urandom(16))
        endpoints = [split_endpoint(text, ETCD_PORT) for text in options.cluster.split(",")]
        self._endpoints = ",".join(endpoint_of(*one) for one in endpoints)
        self.replica = Replica(
            options.directory,
            os.urandom(SERVER_ID_BYTES).hex(),
            len(endpoints),
            {"evloop": __version__, "site": options.site or "main", "listen": []},
            os.urandom(8).hex(),
            rng,
            loop.now,
        )
        self.replica.calls.endpoint = rng.randrange(len(endpoints))
        self._engine = Engine(loop, self.replica, endpoints, context, self._on_events)
        # For who carries rooms between sites: called when rooms, servers or counts have changed.
        self.changed: Callable[[], object] = nothing
        self._fields: dict[Change, dict[str, object]] = {}  # what is logged with each
        self._waiting: list[tuple[int, float, Callable[[], object]]] = []  # for a version
        self._pump_due = False
        self._ready = False
        self._said_at = loop.now + WAITING_FIRST_S
        self._may_serve_at = loop.now + CACHE_SERVED_S if cache.rooms_kept else NEVER
        self._timer = loop.call_at(self._said_at, self._on_timer)
        loop.before_sleep(self._count_members)

    def follow(self, begin: Callable[[], list[str]], waiting: Callable[[str], object]) -> None:
        """From now on. `begin()` is called once, when there is something to serve, and returns
        where; `waiting(why)` now and then before that."""
        self._on_ready, self._on_waiting = begin, waiting
        self._pump()

    def run(self, begin: Callable[[], list[str]], waiting: Callable[[str], object]) -> None:
        """`follow` the directory until the loop is stopped.

        Raises SetupError when that can never be, or when `begin` has.
        """
        self.follow(begin, waiting)
        self._loop.run()
        if self._fatal is not None:
            raise self._fatal

    def close(self) -> None:
        self._timer.cancel()
        self._engine.close()

    def end(self, then: Callable[[], object]) -> None:
        """A clean end: our keys in etcd go with the lease, then `then()` is called."""
        self._loop.call_at(self._loop.now + REVOKE_S, then)
        self.replica.end(then, self._loop.now)
        self._engine.pump()

    # -- for the dispatcher ------------------------------------------------------------------

    def ask(self, change: Change, fields: dict[str, object]) -> None:
        self._fields[change] = fields
        self.replica.ask(change, self._loop.now)
        self._pump()

    def wait_for_version(self, version: int, over: Callable[[], object]) -> None:
        self._waiting.append((version, self._loop.now + HELLO_VERSION_S, over))
        self._set_timer()

    def set_bridge(self, carries: bool) -> None:
        """Tell the other servers whether this one carries rooms between sites."""
        self.replica.info["bridge"] = carries
        self.replica.fence(self._loop.now)
        self._pump()

    def aside(self) -> str:
        replica = self.replica
        return "" if replica.state == LIVE else f"; the cluster does not answer: {replica.why}"

    def stale_s(self) -> int:
        return self.replica.stale_s(self._loop.now)

    def readings(self) -> dict[str, float]:
        replica = self.replica
        return {
            "cluster_live": int(replica.state == LIVE),
            "cluster_away_seconds": round(replica.away_s(self._loop.now), 3),
            "changes_unknown": replica.changes.unknown,
            "fences": replica.fences,
            "resyncs": replica.resyncs,
        }

    def _pump(self) -> None:
        """From the loop: who asks is in the middle of a request."""
        if not self._pump_due:
            self._pump_due = True
            self._loop.defer(self._pump_now)

    def _pump_now(self) -> None:
        self._pump_due = False
        self._engine.pump()

    # -- what the replica tells --------------------------------------------------------------

    def _on_events(self) -> None:
        events, self.replica.events = self.replica.events, []
        for event in events:
            self._loop.guard(self, self._act_on, event)
        if any(event[0] in (APPLIED, LOADED) for event in events):
            self.replica.census.news = True

    def _act_on(self, event: tuple[Any, ...]) -> None:
        kind = event[0]
        if kind == APPLIED:
            self._applied(event[1], event[2])
        elif kind == OUTCOME:
            self._told(event[1])
        elif kind == READING:
            self._draft = Draft(self.dispatcher.directory)
        elif kind == READ:
            self._draft.take(event[1])
        elif kind == LOADED:
            self._loaded(*event[1:])
        elif kind == READY:
            self._begin()
        elif kind == AWAY:
            self._log.warning("the cluster does not answer", why=event[1])
        elif kind == BACK:
            self._log.notice("the cluster answers again")
        elif kind in (IS_BROKEN, FULL_DISK):
            self._log.error("the cluster takes no changes", why=event[1])
        elif kind == FATAL:
            self._give_up(SetupError(event[1], event[2]))

    def _applied(self, head: Head, change: Change | None) -> None:
        """The next change of the log: the only way in which the directory changes."""
        commit, directory = self.dispatcher.group_commit, self.dispatcher.directory
        fields = self._fields.pop(change, None) if change is not None else None
        logged = {"by": f"server {head.change.partition('-')[0]}"} if fields is None else fields
        if head.op == "make":
            assert head.room is not None
            body = commit.add(head.room, "a room was made", room=head.room.name, **logged)
        else:
            room = directory.get(head.fold)
            assert room is not None, "the log makes a room before it deletes it"
            body = commit.remove(room, "a room was deleted", room=room.name, **logged)
        commit.commit()
        assert directory.version == head.version
        if change is not None and change.then is not None:
            change.then(change, body)
        self._look_who_waits()

    def _told(self, change: Change) -> None:
        """An outcome that the log does not tell."""
        self._fields.pop(change, None)
        body = b""
        if change.outcome is None:
            assert change.room is not None
            room, directory = change.room, self.dispatcher.directory
            body = change_body(change.version, room_json(room, directory.members(room)))
        if change.then is not None:
            change.then(change, body)

    def _loaded(self, version: int, moved: bool) -> None:
        directory, come = self.dispatcher.directory, self._draft.come
        gone = directory.become(self._draft, version)
        self._draft = Draft(directory)  # this one is taken
        for room in gone:
            self.dispatcher.group_commit.on_gone(room)
        self._cache.replaced(gone, come, version, self.replica.identity)
        if moved or (self._ready and (gone or come)):
            self._log.warning("this server missed changes of the directory", version=version)
            self.dispatcher.watchers_away()
        self._look_who_waits()

    def _begin(self) -> None:
        if not self._ready:
            self._ready = True
            self._may_serve_at = self._said_at = NEVER
            try:
                places = self._on_ready()
            except SetupError as error:
                self._give_up(error)
                return
            self.replica.info["listen"] = places
            self.replica.fence(self._loop.now)
            self._pump()
        else:
            self._log.notice("the cluster answers")

    def _give_up(self, error: SetupError) -> None:
        self._fatal = error
        self._loop.stop()

    # -- time --------------------------------------------------------------------------------

    def _set_timer(self) -> None:
        waits = min((until for _, until, _ in self._waiting), default=NEVER)
        self._timer.move(min(waits, self._said_at, self._may_serve_at))

    def _on_timer(self) -> None:
        now = self._loop.now
        if self._may_serve_at <= now:
            self._log.warning("the rooms are those of the last time", why=self.replica.why)
            self.replica.floor = self.dispatcher.directory.version
            self._begin()
        elif self._said_at <= now:
            self._said_at = now + WAITING_EVERY_S
            self._on_waiting(f"waiting for the cluster at {self._endpoints}: {self.replica.why}")
        self._look_who_waits()

    def _look_who_waits(self) -> None:
        """Those who said hello with a version, and the copy has it now, or their time is over."""
        if self._waiting:
            now, version = self._loop.now, self.dispatcher.directory.version
            due = [one for one in self._waiting if one[0] <= version or one[1] <= now]
            self._waiting = [one for one in self._waiting if one not in due]
            for _, _, over in due:
                over()
        self._set_timer()

    def _count_members(self) -> None:
        """Before each sleep: which of our rooms have other numbers, here and elsewhere."""
        directory, census = self.dispatcher.directory, self.replica.census
        if directory.touched:
            for fold in directory.touched:
                census.set_own(fold, directory.own(fold), self._loop.now)
            directory.touched.clear()
            self._pump()
        if census.news:
            census.news = False
            self._loop.guard(self, self.changed)
        if census.moved:
            for fold in [fold for fold, _ in zip(census.moved, range(MEMBERS_PER_TICK))]:
                census.moved.discard(fold)
                directory.set_elsewhere(fold, census.elsewhere(fold))
            if census.moved:
                self._loop.defer(_look_again)


def _look_again() -> None:
    """Deferred, so that the next tick comes at once."""


def engine_tls(
    option: str, ca: str | None, cert: str | None, key: str | None
) -> ssl.SSLContext | None:
    """TLS towards etcd or NATS, which `option` asks for by naming `ca`; SetupError when a file
    cannot be used."""
    if ca is None:
        return None
    try:
        from evloop.net.tls import client_context  # late: ssl takes 20 MB
    except ImportError:
        raise SetupError(f"this Python has no ssl, and so no {option}", USAGE) from None
    try:
        return client_context(ca, cert, key)
    except SetupError as error:
        raise SetupError(error.sentence, USAGE) from None


def password_of(options: Namespace) -> str | None:
    """The one line of --cluster-password-file; SetupError."""
    path = options.cluster_password_file
    return None if path is None else secret_line(path)


def secret_line(path: str) -> str:
    """The one line of a file that holds a password; SetupError."""
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read(PASSWORD_BYTES_MAX + 1)
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8"
        raise SetupError(f"cannot read the password in {path}: {why}", USAGE) from None
    lines = text.splitlines()
    if len(lines) != 1 or not lines[0] or len(text) > PASSWORD_BYTES_MAX:
        raise SetupError(f"the password file {path} is not one line", USAGE)
    return lines[0]


def importer(path: str) -> Import:
    """The import of a state file, as a server that is alone would load it; SetupError."""
    from evloop.daemon.importing import Import  # late: it is for one start

    if not os.path.isfile(path):
        raise SetupError(f"cannot import {path}: there is no such file", CANT_CREATE)
    store = open_store(os.path.realpath(path))
    try:
        version, rooms = store.load()
        return Import(Directory(rooms).rooms(), version, store.identity)
    finally:
        store.close()
