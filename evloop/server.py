"""The directory server: `python3 -m evloop.server`. Floor 7: wiring.

Options -> store -> sockets -> loop. What a rule is lives in `directory`, what a request does in
`registrar`, how bytes move in `stream` and `loop`.

    state      accepts   SIGTERM, SIGINT, `quit`     all gone, or DRAIN_S
    serving    yes       -> draining                 -
    draining   no        -> ended                    -> ended
"""

import os
import random
import resource
import signal
import socket
import sys
import time

from evloop import __version__, messages
from evloop.accept import Acceptor
from evloop.console import Console
from evloop.directory import Directory
from evloop.endpoints import DIRECTORY_PORT, endpoint_of
from evloop.errors import EvloopError, Refused, SetupError
from evloop.framing import pack_frame
from evloop.guard import Guard, clients_that_fit
from evloop.limits import (
    CHANGES_PER_S,
    CLIENTS_MAX,
    CLIENTS_PER_ADDRESS_MAX,
    DRAIN_S,
    ROOMS_MAX,
    ROOMS_PER_ADDRESS_MAX,
    TURNED_AWAY_MAX,
)
from evloop.listeners import open_listeners
from evloop.log import DEBUG, INFO, WARNING, stderr_log
from evloop.loop import Loop
from evloop.peers import plain_host
from evloop.ratelimit import AddressRates, change_burst
from evloop.registrar import Connection, Registrar
from evloop.store import MemoryStore, open_store
from evloop.stream import Stream

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Sequence
    from typing import Any

    from evloop.log import Log

INTERNAL = 70


def parse_options(arguments: "Sequence[str]") -> "Namespace":
    """The options of operations.md; leaves with status 2 when they are off."""
    from argparse import ArgumentParser  # late: `__main__` hosts a server without options

    parser = ArgumentParser(
        prog="evloop-server",
        allow_abbrev=False,
        description="The directory of evloop's chat rooms.",
        epilog="On a terminal, help lists the commands of the operator's console.",
    )
    add = parser.add_argument
    add(
        "--listen",
        metavar="HOST:PORT",
        action="append",
        help=f"where to listen (again for more); default: every address, port {DIRECTORY_PORT};"
        " port 0 takes any free one and prints it",
    )
    add("--interface", metavar="NAME|ADDRESS", help="the interface for multicast")
    place = parser.add_mutually_exclusive_group()
    place.add_argument("--state", metavar="FILE", help="where the rooms are kept (sqlite3)")
    place.add_argument("--memory", action="store_true", help="keep the rooms in memory only")
    for name, default, what in (
        ("--max-clients", CLIENTS_MAX, "connections at once"),
        ("--max-per-address", CLIENTS_PER_ADDRESS_MAX, "of them from one address; 0: any"),
        ("--max-rooms", ROOMS_MAX, "rooms; 0: any number"),
        ("--rooms-per-address", ROOMS_PER_ADDRESS_MAX, "rooms made from one address; 0: any"),
        ("--change-rate", CHANGES_PER_S, "changes a second from one address; 0: any"),
    ):
        add(name, metavar="N", type=_count, default=default, help=f"{what} (default {default})")
    loud = parser.add_mutually_exclusive_group()
    loud.add_argument("--quiet", action="store_true", help="log warnings and errors only")
    loud.add_argument("-v", "--verbose", action="store_true", help="log every connection")
    add("--debug", action="store_true", help="show the trace of an internal error")
    add("--version", action="version", version=f"evloop {__version__}")
    return parser.parse_args(arguments)


def _count(text: str) -> int:
    """A number that is not negative; argparse words the error."""
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise ValueError(text)
    return int(text)


_count.__name__ = "number"


def state_path(environ: "dict[str, str]") -> str:
    """Where the rooms are kept when nobody says: systemd's place, else XDG's."""
    directory = environ.get("STATE_DIRECTORY", "").partition(":")[0]
    if directory:
        return os.path.join(directory, "directory.db")
    home = environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local/state")
    return os.path.join(home, "evloop", "directory.db")


def raise_descriptor_limit() -> int:
    """Raise the soft limit of open files to the hard one; return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):  # some systems have a lower ceiling than they say
            return soft
    return 1 << 20 if hard == resource.RLIM_INFINITY else hard


class TurnedAway(Stream):
    """A connection that gets one error reply and is closed, without a reset."""

    __slots__ = ("_over",)

    def __init__(
        self, registrar: Registrar, sock: socket.socket, why: Refused, over: "Any"
    ) -> None:
        super().__init__(registrar.hub, sock)
        self._over = over
        self.send(pack_frame(messages.refusal(messages.NULL, why)))
        self.close(why.reason)

    def ended(self, why: str) -> None:
        self._over(self)


class Server:
    """One directory server on `loop`. `on_end()` is called when it has drained."""

    def __init__(
        self,
        loop: Loop,
        options: "Namespace",
        log: "Log",
        on_end: "Callable[[], object]",
    ) -> None:
        wall = time.time
        if options.memory:
            self._store: Any = MemoryStore(int(wall()))
        else:
            self._store = open_store(options.state or state_path(dict(os.environ)))
        version, rooms = self._store.load()
        self.loop = loop
        self.log = log
        self.directory = Directory(
            rooms,
            version,
            rooms_max=options.max_rooms,
            rooms_per_address=options.rooms_per_address,
        )
        rate = float(options.change_rate)
        self.registrar = Registrar(
            loop,
            self.directory,
            self._store,
            log,
            rng=random.Random(os.urandom(16)),
            wall=wall,
            change_rates=AddressRates(rate, change_burst(rate)),
            default_mode=DEFAULT_MODE,
        )
        self.registrar.on_forget = self._forget
        clients = clients_that_fit(options.max_clients, raise_descriptor_limit())
        if clients < options.max_clients:
            log.notice("fewer clients fit the limit of open files", clients=clients)
        self._guard = Guard(clients, options.max_per_address)
        self._visitors: dict[Connection, str] = {}
        self._turned_away: set[TurnedAway] = set()
        self._acceptors: list[Acceptor] = []
        self._on_end = on_end
        self._draining = False
        self._deadline = loop.call_at(float("inf"), self._end)

    def listen(self, places: "Sequence[str] | None") -> list[str]:
        """Begin to serve; return the addresses as text."""
        listeners = open_listeners(places)
        for listener in listeners:
            self._acceptors.append(Acceptor(self.loop, listener, self._accept, self._full))
        return [endpoint_of(*listener.getsockname()[:2]) for listener in listeners]

    def drain(self, reason: str) -> None:
        """Accept no more, say goodbye; end when all are gone, after DRAIN_S, or if called again."""
        if self._draining:
            self._end()
            return
        self._draining = True
        self.log.notice("stopping", why=reason, clients=len(self.registrar.connections))
        for acceptor in self._acceptors:
            acceptor.close()
        self.registrar.send_all_away(reason)
        self._deadline.move(self.loop.now + DRAIN_S)
        self._end_if_empty()

    def close(self) -> None:
        """Let go of everything; whoever is still connected is cut off."""
        for acceptor in self._acceptors:
            acceptor.close()
        for stream in (*self.registrar.connections.values(), *self._turned_away):
            stream.abort("the server has ended")
        self.registrar.end_tick()
        self._store.close()

    def _end(self) -> None:
        self._deadline.cancel()
        self._on_end()

    def _end_if_empty(self) -> None:
        if self._draining and not self.registrar.connections:
            self._end()

    def _accept(self, sock: socket.socket, address: "Any") -> None:
        host = plain_host(address[0])
        peer = endpoint_of(host, address[1])
        try:
            visitor = self._guard.admit(host, self.loop.now)
        except Refused as refused:
            self.log.info("turned away", peer=peer, why=refused.sentence)
            if len(self._turned_away) < TURNED_AWAY_MAX:
                away = TurnedAway(self.registrar, sock, refused, self._turned_away.discard)
                self._turned_away.add(away)
            else:
                sock.close()
            return
        # One send a tick is all a reply needs; waiting for more to send would only delay it.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._visitors[self.registrar.welcome(sock, host, peer)] = visitor

    def _forget(self, connection: Connection) -> None:
        self._guard.release(self._visitors.pop(connection))
        self._end_if_empty()

    def _full(self, error: OSError) -> None:
        self.log.warning("no more connections can be taken for a moment", why=error.strerror)


DEFAULT_MODE = messages.PLAIN


def guard_handlers(loop: Loop, log: "Log", debug: bool) -> None:
    """A bug in a handler is logged, and costs the connection that it was about, nothing more."""

    def failed(origin: object, error: Exception) -> None:
        read = getattr(origin, "on_read", None)
        owner = getattr(read, "__self__", None)
        peer = getattr(owner, "peer", None)
        log.error("internal error", peer=peer, what=f"{type(error).__name__}: {error}")
        if debug:
            from traceback import print_exception

            print_exception(error)
        if isinstance(owner, Stream):
            owner.abort("internal error")

    loop.on_error = failed


def run(options: "Namespace") -> int:
    """Serve until told to stop; return the exit status."""
    log = stderr_log(WARNING if options.quiet else DEBUG if options.verbose else INFO)
    loop = Loop()
    log.schedule = loop.call_at
    guard_handlers(loop, log, options.debug)
    server = Server(loop, options, log, loop.stop)
    try:
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.on_signal(signum, lambda: server.drain("the server was told to end"))
        places = server.listen(options.listen)
        if os.isatty(0):
            Console(loop, server.registrar, lambda: server.drain("the operator ended the server"))
        for place in places:
            sys.stderr.write(f"evloop.server: listening on {place}\n")
        sys.stderr.flush()
        loop.run()
    finally:
        server.close()
        loop.close()
        log.close()
    return 0


def main(arguments: "Sequence[str] | None" = None) -> int:
    """The program; returns the exit status."""
    options = parse_options(sys.argv[1:] if arguments is None else arguments)
    try:
        return run(options)
    except SetupError as error:
        sys.stderr.write(f"evloop: {error.sentence}\n")
        return error.status
    except (EvloopError, OSError) as error:
        if options.debug:
            raise
        sys.stderr.write(f"evloop: internal error: {error}; --debug shows where\n")
        return INTERNAL


if __name__ == "__main__":
    sys.exit(main())
