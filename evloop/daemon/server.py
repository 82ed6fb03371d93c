"""The directory server, put together and run.

It takes the options, opens the store and the sockets, and runs the loop. The rules are in
`directory.registry`, the requests in `dispatcher`, the moving of bytes in `net.stream`.

    state      accepts   SIGTERM, SIGINT, `quit`     all gone, or DRAIN_S
    serving    yes       -> draining                 -
    draining   no        -> ended                    -> ended
"""

from __future__ import annotations

import gc
import os
import random
import signal
import socket
import time

from evloop import __version__
from evloop.base.addresses import endpoint_of, is_loopback
from evloop.base.errors import CANT_CREATE, FAILED, USAGE, SetupError
from evloop.base.ratelimit import AddressRates, change_burst
from evloop.daemon.admission import Admission, Guard, clients_that_fit
from evloop.daemon.dispatcher import Dispatcher
from evloop.daemon.expiry import Expiry, Sweeper
from evloop.daemon.keeping import keeping_of, prepare_keeper
from evloop.daemon.late import load_late
from evloop.daemon.limits import (
    CLIENTS_MAX,
    DESCRIPTORS_MIN,
    DRAIN_S,
    RELAY_LEG_SHARE,
    RELAY_LEGS_MAX,
    RELOAD_PAUSE_S,
)
from evloop.daemon.metrics import Metrics, publish
from evloop.daemon.prober import Prober
from evloop.daemon.store import MemoryStore, open_store
from evloop.daemon.systemd import Watchman, listening_sockets, notifier_from, status_of
from evloop.directory import protocol
from evloop.directory.limits import DIRECTORY_ID_DIGITS
from evloop.directory.registry import Directory
from evloop.net.acceptor import open_listeners
from evloop.net.limits import SENDS_PER_TICK
from evloop.net.stream import Stream
from evloop.system.files import state_directory
from evloop.system.log import (
    DEBUG,
    INFO,
    WARNING,
    log_writer,
    stderr_log,
)
from evloop.system.loop import Loop
from evloop.system.process import raise_limit
from evloop.system.timers import NEVER, Paced

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Sequence
    from typing import Any

    from evloop.daemon.announcer import DirectoryAnnouncer
    from evloop.daemon.bridge import Bridge
    from evloop.daemon.cluster import ClusterStart
    from evloop.daemon.connection import Connection
    from evloop.daemon.console import Console
    from evloop.daemon.relay import Relay
    from evloop.daemon.systemd import Notifier
    from evloop.net.tls import ServerTls
    from evloop.system.log import Log
    from evloop.system.stdout import Writer

DAY_S = 86_400.0
ANY_GROUP = "239.255.1.1"  # for asking whether an interface can do multicast


def state_path(environ: dict[str, str]) -> str:
    """The default place of the state file: systemd's, else XDG's; SetupError when there is none.

    Never in the working directory: after a start from another one all rooms would be gone.
    """
    directory: str | None = environ.get("STATE_DIRECTORY", "").partition(":")[0]
    if not directory or not directory.startswith("/"):
        directory = state_directory(environ)
    if directory is None:
        raise SetupError(
            "this user has no home directory to keep the rooms in: --state FILE says where,"
            " --memory keeps none",
            CANT_CREATE,
        )
    return os.path.join(directory, "directory.db")


class Server:
    """One directory server on `loop`. `on_end()` is called when it has drained."""

    def __init__(
        self,
        loop: Loop,
        options: Namespace,
        log: Log,
        on_end: Callable[[], object],
    ) -> None:
        # First what can be wrong without touching the store.
        self.tls = tls_of(options)
        options.interface = options.interface or os.environ.get("EVLOOP_INTERFACE") or None
        if options.interface is not None and not is_loopback(options.interface):
            check_interface(options.interface)
        descriptors = enough_descriptors()
        wall = time.time
        start = cluster_start(loop, options, log)
        self._store: Any
        if start is not None:
            self.state, self._store = start.state, start.cache
        elif options.memory:
            self.state = "memory"  # what the operator is told of where the rooms are kept
            self._store = MemoryStore(int(wall()), _identity_in_memory(self.tls))
        else:
            self.state = os.path.realpath(options.state or state_path(dict(os.environ)))
            self._store = open_store(self.state)
        try:
            version, rooms = self._store.load()
            self._seen = self._store.load_seen()
        except BaseException:
            self._store.close()
            raise
        keeping = keeping_of(options, rooms)
        self.loop = loop
        self.log = log
        directory, dispatcher = start.kinds() if start is not None else (Directory, Dispatcher)
        caps = {"rooms_max": options.max_rooms, "rooms_per_address": options.rooms_per_address}
        self.directory = directory(rooms, version, **caps)
        self._started = loop.now
        self.metrics = Metrics(self._readings)
        self._store.on_sync = self.metrics.observe_sync
        loop.defer(self._observe)  # from the next tick on: a start keeps nobody waiting
        rate = float(options.change_rate)
        self.dispatcher = dispatcher(
            loop,
            self.directory,
            self._store,
            log,
            self.metrics,
            rng=random.Random(os.urandom(16)),
            wall=wall,
            random_bytes=os.urandom,
            change_rates=AddressRates(rate, change_burst(rate)),
            default_mode=DEFAULT_MODE,
            owned=options.delete == "owner",
        )
        self.dispatcher.keeping = keeping
        self.dispatcher.on_forget = self._forget
        self.cluster = start.make(self.dispatcher) if start is not None else None
        self._prober = self.dispatcher.prober = make_prober(loop, log, self.directory, options)
        self.dispatcher.stats_for.update(options.stats_from)
        descriptors -= prepare_relay(self.dispatcher, options, descriptors)
        prepare_keeper(self.dispatcher, options, self.state, wall)
        guard = make_guard(options, descriptors, log)
        self.door = Admission(loop, self.dispatcher, guard, self.tls)
        self.options, self._on_end = options, on_end
        self._bridge = make_bridge(self, options)
        self._draining = False
        self._deadline = loop.call_at(NEVER, self._end)
        self._announcer: DirectoryAnnouncer | None = None
        self.kind = "server"  # as it is announced; "guest": it lives in somebody's client

    def listen(self, places: Sequence[str] | None) -> list[str]:
        """Begin to serve on `places` (None: everywhere); return the addresses as text."""
        return self.serve_on(open_listeners(places))

    def serve_on(self, listeners: Sequence[socket.socket]) -> list[str]:
        """Begin to serve on sockets that listen; return their addresses as text."""
        for listener in listeners:
            self.door.open(listener)
        hosts = [listener.getsockname()[0] for listener in listeners]
        if self.options.delete == "owner" and not self.tls and not all(map(is_loopback, hosts)):
            self.log.warning("owner tokens can be overheard: --tls-cert encrypts them")
        if self.options.expire is not None:
            ran, seen = self._seen
            expiry = Expiry(self.options.expire * DAY_S, ran, seen, self.loop.now)
            self.dispatcher.visited = expiry.visited
            Sweeper(self.loop, self.dispatcher, expiry)
        if self.options.metrics_file is not None:
            publish(self.loop, self.log, self.options.metrics_file, self.metrics)
        if not self.options.no_announce and not all(map(is_loopback, hosts)):
            self.loop.defer(lambda: self._announce(listeners))
        return [endpoint_of(*listener.getsockname()[:2]) for listener in listeners]

    def reload(self) -> None:
        """Read the TLS files again; the old ones serve on if that fails."""
        if self.tls is None:
            return
        try:
            self.tls.reload()
        except SetupError as error:
            self.log.error("the TLS files were not reloaded", why=error.sentence)
        else:
            self.log.notice("the TLS files were reloaded")
            fingerprint = self._fingerprint()
            if self._announcer is not None and fingerprint is not None:
                self._announcer.set_fingerprint(fingerprint)

    def drain(self, reason: str) -> None:
        """Accept no more, say goodbye; end when all are gone, after DRAIN_S, or if called again."""
        if self._draining:
            self._end()
            return
        self._draining = True
        staying = list(self.dispatcher.connections.values())
        self.log.notice("stopping", why=reason, clients=len(staying))
        self.door.close()
        self._be_quiet()
        self.dispatcher.keeping.say_goodbye()
        self._send_away(staying, reason)
        self._deadline.move(self.loop.now + DRAIN_S)
        self._end_if_empty()

    def _send_away(self, staying: list[Connection], reason: str) -> None:
        """Send goodbyes to a part of `staying` in each tick (5,000 at once would take 24 ms)."""
        for connection in staying[:SENDS_PER_TICK]:
            self.loop.guard(connection, self.dispatcher.send_away, connection, reason)
        del staying[:SENDS_PER_TICK]
        if staying:
            self.loop.defer(lambda: self._send_away(staying, reason))

    def close(self) -> None:
        """Let go of everything; whoever is still connected is cut off."""
        self._be_quiet()
        self.door.abort()
        self._prober.close()
        self.dispatcher.keeping.close()
        if self._bridge is not None:
            self._bridge.close()
        if self.cluster is not None:
            self.cluster.close()
        if self.dispatcher.relay is not None:
            self.dispatcher.relay.close()
        for stream in list(self.dispatcher.connections.values()):
            self.loop.guard(stream, stream.abort, "the server has ended")
        self.dispatcher.end_tick()
        while self.dispatcher.hub.turns.closed:
            self.dispatcher.end_tick()
        self._store.close()

    def _announce(self, listeners: Sequence[socket.socket]) -> None:
        """Be found on the network: from the first tick on, so that no start waits for it."""
        wanted = self.options.interface
        if self._draining or (wanted is not None and is_loopback(wanted)):
            return
        from evloop.daemon.announcer import announcer_of  # late: 2 ms, and not everybody announces

        fingerprint = self._fingerprint()
        if fingerprint is None:
            return
        name = self.options.name or socket.gethostname().partition(".")[0] or "evloop"
        self._announcer = announcer_of(
            self.loop,
            self.log,
            listeners,
            (name, self._store.identity, self.kind, fingerprint),
            wanted,
            self.metrics,
        )

    def _fingerprint(self) -> str | None:
        """Of the certificate that is announced; "" without TLS, None: it cannot be told."""
        try:
            return "" if self.tls is None else self.tls.fingerprint()
        except (SetupError, ValueError) as error:  # a form of PEM that OpenSSL alone reads
            self.log.warning("this directory cannot be announced", why=str(error))
            return None

    def _be_quiet(self) -> None:
        """Say on the network that this directory goes."""
        announcer, self._announcer = self._announcer, None
        if announcer is not None:
            announcer.close()

    def _end(self) -> None:
        self._deadline.cancel()
        if self.cluster is not None:
            self.cluster.end(self._on_end)
        else:
            self._on_end()

    def _end_if_empty(self) -> None:
        if self._draining and not self.dispatcher.connections:
            self._end()

    def _observe(self) -> None:
        self.loop.on_busy = self.metrics.observe_lag

    def _forget(self, connection: Connection) -> None:
        self.door.release(connection)
        self._end_if_empty()

    def _readings(self) -> dict[str, float]:
        return {
            **self.dispatcher.readings(),
            **(self._bridge.readings() if self._bridge is not None else {}),
            "uptime_seconds": round(self.loop.now - self._started, 3),
        }


def cluster_start(loop: Loop, options: Namespace, log: Log) -> ClusterStart | None:
    """What makes this one of several servers of a directory, None: it is alone. SetupError."""
    if options.cluster is None:
        return None
    from evloop.daemon.cluster import ClusterStart  # late: hardly any server has one

    return ClusterStart(loop, log, options, state_path)


def enough_descriptors() -> int:
    """Raise the limit of open files as far as it goes; return it, or raise SetupError."""
    descriptors = raise_limit()
    if descriptors < DESCRIPTORS_MIN:
        sentence = f"the limit of {descriptors} open files is too low; see ulimit -n"
        raise SetupError(sentence, FAILED)
    return descriptors


def check_interface(wanted: str) -> None:
    """Raise SetupError when no interface of this machine has that name or address."""
    from evloop.net.interfaces import choose_interface  # late: hardly ever asked for

    choose_interface(ANY_GROUP, wanted, None)


def _identity_in_memory(tls: ServerTls | None) -> str:
    """The identity of a directory that keeps nothing: new at each start. But not where there is
    a certificate: that proves who it is, and a restart changes nothing about that."""
    if tls is None:
        return os.urandom(DIRECTORY_ID_DIGITS // 2).hex()
    return tls.fingerprint()[:DIRECTORY_ID_DIGITS]


def make_guard(options: Namespace, descriptors: int, log: Log) -> Guard:
    """Who is let in, where so many `descriptors` can be had."""
    clients = clients_that_fit(options.max_clients, descriptors)
    if clients < (options.max_clients or CLIENTS_MAX):
        log.warning("fewer clients fit the limit of open files", clients=clients)
    return Guard(clients, options.max_per_address)


def make_prober(loop: Loop, log: Log, directory: Directory, options: Namespace) -> Prober:
    """The probes of this server, which may be switched off."""
    return Prober(
        loop,
        log,
        directory,
        rng=random.Random(os.urandom(16)),
        wall=time.time,
        random_bytes=os.urandom,
        interface=options.interface,
        allowed=not options.no_probe,
    )


def make_bridge(server: Server, options: Namespace) -> Bridge | None:
    """What carries rooms between sites; None without --bridge. SetupError."""
    if server.cluster is None or options.bridge is None:
        return None
    from evloop.daemon.bridging import bridge_of  # late: hardly any server has one

    return bridge_of(server.loop, server.log, options, server.cluster, server.metrics)


def prepare_relay(dispatcher: Dispatcher, options: Namespace, descriptors: int) -> int:
    """Tell `dispatcher` whether it relays, and how it makes its relay once it needs one.

    Returns how many of the `descriptors` are kept for the groups of relayed rooms, two each."""
    share = min(2 * RELAY_LEGS_MAX, descriptors // RELAY_LEG_SHARE)
    members = options.relay_members if options.relay == "on" else 0

    def load() -> Callable[..., Relay]:
        from evloop.daemon import relay_leg  # noqa: F401 - all that it will need, at one moment
        from evloop.daemon.relay import relay_of  # late: nobody may need it

        return relay_of

    def make() -> Relay | None:
        relay_of = load_late(dispatcher.log, "relay", load)
        if relay_of is None:
            return None
        limits = members, options.interface, options.ttl, share // 2
        return relay_of(dispatcher.loop, dispatcher.log, dispatcher.metrics, *limits)

    dispatcher.relays = members > 0
    dispatcher.make_relay = make
    return share


def tls_of(options: Namespace) -> ServerTls | None:
    """The server's TLS, or None; SetupError when its files cannot be used."""
    if options.tls_cert is None:
        return None
    try:
        from evloop.net.tls import ServerTls  # late: ssl takes 20 MB
    except ImportError:
        raise SetupError("this Python has no ssl, and so no --tls-cert", USAGE) from None
    return ServerTls(options.tls_cert, options.tls_key, options.tls_client_ca)


DEFAULT_MODE = protocol.RELIABLE


def guard_handlers(loop: Loop, log: Log, debug: bool) -> None:
    """A bug in a handler is logged, and costs the connection that it was about, nothing more."""

    def failed(origin: object, error: Exception) -> None:
        peer = getattr(origin, "peer", None)
        log.error("internal error", peer=peer, what=f"{type(error).__name__}: {error}")
        if debug:
            log.trace(error)
        if isinstance(origin, Stream):
            origin.fail()

    loop.on_error = failed


def collect_the_young_only() -> None:
    """Keep the garbage collector from walking over all objects of this process.

    A full collection goes over every room: 150 ms with 300,000 of them, 1.6 ms with 10,000. Young
    objects in a cycle (an exception and its frames) are still collected, in 1 ms at most. Objects
    that live long (connections, rooms, their parts) are in no cycle when they end, as test_soak
    shows.
    """
    young, middle, _ = gc.get_threshold()
    gc.set_threshold(young, middle, 2**31 - 1)


def listen_and_say(
    server: Server, handed_over: Sequence[tuple[str, socket.socket]], errors: Writer
) -> list[str]:
    """Listen where we were told to, or on the sockets of the service manager; return where."""
    if handed_over:
        places = server.serve_on([sock for _, sock in handed_over])
    else:
        places = server.listen(server.options.listen)
    for place in places:  # a full disk behind stderr does not keep the server from serving
        errors.line(f"evloop.server: listening on {place}")
    return places


def say_waiting(why: str, errors: Writer, notifier: Notifier) -> None:
    """There is nothing to serve yet: tell whoever started us."""
    errors.line(f"evloop.server: {why}")
    notifier.status(why)


def run(options: Namespace) -> int:
    """Serve until told to stop; return the exit status."""
    collect_the_young_only()
    notifier = notifier_from(os.environ, os.getpid())
    handed_over = listening_sockets(os.environ, os.getpid())
    loop = Loop()
    errors = log_writer(loop)
    log = stderr_log(errors, WARNING if options.quiet else DEBUG if options.verbose else INFO)
    log.schedule = loop.call_at
    guard_handlers(loop, log, options.debug)
    server = Server(loop, options, log, loop.stop)
    console: Console | None = None

    def drain(reason: str) -> None:
        notifier.stopping()
        server.drain(reason)

    def reload() -> None:
        notifier.reloading()
        server.reload()
        notifier.ready(status_of(server.dispatcher))

    reloading = Paced(loop, RELOAD_PAUSE_S, reload)

    def begin() -> list[str]:
        """Listen, and say so."""
        nonlocal console
        places = listen_and_say(server, handed_over, errors)
        if os.isatty(0):
            from evloop.daemon.console import Console, answers_of  # late: no service has one

            end = "the operator ended the server"
            console = Console(loop, server.dispatcher, lambda: drain(end), answers_of(server))
        # Behind the ready lines: those are read by programs, which expect them first.
        log.notice("started", version=__version__, state=server.state, rooms=len(server.directory))
        Watchman(loop, server.dispatcher, notifier).ready()
        return places

    hanging_up = False  # the kernel says it, and the shell may say it again

    def hung_up() -> None:
        nonlocal hanging_up
        if hanging_up:
            return
        if console is not None and console.hung_up():
            hanging_up = True
            drain("its terminal has gone")
        else:
            reloading.ask()

    try:
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.on_signal(signum, lambda: drain("the server was told to end"))
        loop.on_signal(signal.SIGHUP, hung_up)
        if server.cluster is None:
            begin()
            loop.run()
        else:
            server.cluster.run(begin, lambda why: say_waiting(why, errors, notifier))
    finally:
        server.close()
        loop.close()
        log.close()
        notifier.close()
        if console is not None:
            console.close()
        errors.drain(0.5)
        errors.close()
    return 0
