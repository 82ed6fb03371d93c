"""Reaches the directory: the one that was named, else that of this machine, else one that is found.

    named              what is done
    nothing            127.0.0.1:44444; where nobody listens there, the network is searched
    HOST[:PORT],...    these, in their order; the network is never searched
    N                  of the list that was shown last
    NAME               the directory announced under that name, else the host that is called so; a
                       script asks the resolver first, so that it never waits for a search in vain

What searches is loaded when it is needed first.
"""

from __future__ import annotations

import os

from evloop import __version__
from evloop.app.limits import KEEP_S
from evloop.base.addresses import DEFAULT_SERVER, is_loopback
from evloop.base.errors import SetupError
from evloop.base.names import display, fold, place_of
from evloop.directory.client import READY, Unreachable
from evloop.directory.protocol import RELIABLE, SEALED, RoomEntry
from evloop.directory.target import may_be_announced, targets_of
from evloop.system.files import state_directory
from evloop.system.timers import nothing
from evloop.terminal import report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from evloop.app.finding import Finder
    from evloop.app.room_keys import Go, RoomKeys
    from evloop.app.shell import Client
    from evloop.base.errors import EvloopError
    from evloop.directory.target import Target
    from evloop.directory.trust import Trust
    from evloop.net.tls import TlsPipe

    Done = Callable[[EvloopError | None], object]
ROOM_KEYS = "room_keys"  # the file of `directory.key_ring`, which is loaded when it is there
NUMBER_DIGITS = 3  # of `connect N`; an address as one number (inet_aton) has more


def client_name(command: list[str]) -> str:
    """How the program greets: a person is `evloop/...`, a command that ends at once is none."""
    person = not command or command[0].casefold() in ("chat", "join")
    return f"{'evloop' if person else 'evloop-command'}/{__version__}"


class Reach:
    """`server` is what was named, by an option or by `connect`; "": nothing."""

    __slots__ = (
        "_client",
        "_finder",
        "_keys",
        "_remembers",
        "_trust",
        "alone",
        "announces",
        "connections",
        "host_again",
        "hosted",
        "joins",
        "server",
    )

    def __init__(self, client: Client, server: str) -> None:
        self._client = client
        self._finder: Finder | None = None
        self.server = server
        self.alone = False  # the network was searched, and nobody was there
        self.connections = 0  # made so far
        self.joins = False  # of several directories the first is taken, as others do
        self.announces = False  # this process hosts a directory, and others find it
        self.hosted = ""  # the identity of the directory that this process is itself
        self.host_again: Callable[[], object] = nothing  # the one that somebody hosted is gone
        self._remembers = True
        self._trust: Trust | None = None
        self._keys: RoomKeys | None = None
        options = client.options
        if options.tls or options.tls_ca or options.tls_cert:
            self.trust()  # what is wrong with these files is told at once

    def trust(self) -> Trust:
        """Certificates and owner tokens; the first prompt mostly needs none, so they come later."""
        if self._trust is None:
            from evloop.directory.trust import Trust

            note = self._client.frontend.note
            self._trust = Trust(
                self._client.options, os.environ, lambda text: note(report.note(text))
            )
        return self._trust

    def keys(self) -> RoomKeys:
        """The keys of sealed rooms."""
        if self._keys is None:
            from evloop.app.room_keys import RoomKeys

            client = self._client
            self._keys = RoomKeys(
                client.loop, client.frontend, client.link, client.options, os.environ, client.rng
            )
        return self._keys

    @property
    def keys_matter(self) -> bool:
        """Whether a room that is not sealed may be refused: a key was named, or is remembered."""
        home = state_directory(os.environ)
        remembered = home is not None and os.path.exists(os.path.join(home, ROOM_KEYS))
        return self._client.options.key_file is not None or remembered

    def key_of(
        self, entry: RoomEntry, mode: str | None, go: Go, failed: Callable[[EvloopError], object]
    ) -> None:
        """`go(secret)` when `entry` may be entered, None for a room that is not sealed; else
        `failed(error)`, or EvloopError at once. `mode`: the one that the user has named."""
        if SEALED in (entry.mode, mode) or self.keys_matter:
            self.keys().enter(entry, go, failed, named=mode == SEALED)
        else:
            go(None)

    def likely_mode(self, place: str) -> str:
        """The mode of a room at a place of which nobody tells; SetupError."""
        sealed = self.keys_matter and self.keys().sealed_at(place)
        return SEALED if sealed else RELIABLE

    def give_up_keys(self) -> bool:
        """Ctrl-C: whether there was a question to be ended."""
        return self._keys is not None and self._keys.give_up()

    def pipe(self, target: Target, host: str) -> TlsPipe | None:
        """The TLS of a new connection to `target` at `host`; None: plain TCP."""
        return self.trust().pipe(target, host) if self._trust is not None or target.tls else None

    @property
    def finder(self) -> Finder:
        if self._finder is None:
            from evloop.app.finding import Finder

            self._finder = Finder(self._client)
        self._finder.joins = self.joins
        return self._finder

    @property
    def searches(self) -> bool:
        """Whether the network may be searched: it was not narrowed to this machine."""
        wanted = self._client.options.interface or ""
        return not (is_loopback(wanted) or wanted == "lo")

    def connect(self, server: str, done: Done, room: str = "") -> None:
        """Connect to `server`, as above; `room`: what a script wants there. SetupError when it is
        no such text; else `done(error)` once, later."""
        link = self._client.link

        def connected(error: EvloopError | None) -> None:
            if error is None and server:
                self.server = server
            done(error)

        def reached(version: object, error: EvloopError | None) -> None:
            connected(error)

        def missing(version: object, error: EvloopError | None) -> None:
            if error is None or not isinstance(error, Unreachable) or not self.searches:
                connected(error)
            else:
                self._search(error, connected, name=server, room=room)

        def unnamed(error: EvloopError | None) -> None:
            if isinstance(error, Unreachable):
                link.connect_to(targets_of(server), reached)
            else:
                connected(error)

        if len(server) <= NUMBER_DIGITS and server.isascii() and server.isdigit():
            self.finder.connect_listed(int(server), done)
        elif not server:
            link.connect_to(targets_of(DEFAULT_SERVER), missing)
        elif not may_be_announced(server) or not self.searches:
            link.connect_to(targets_of(server), reached)
        elif self._client.options.command:
            link.connect_to(targets_of(server), missing)
        else:
            self._search(Unreachable(""), unnamed, name=server)

    def _search(self, error: EvloopError, done: Done, *, name: str = "", room: str = "") -> None:
        client = self._client
        if not client.options.command and client.frontend.edits:
            client.show_prompt()  # the search takes a while: a person may type meanwhile
        self.finder.connect(error, done, name=name, room=room)

    def give_up(self) -> None:
        """Whoever waits for a search is told that he does so no more."""
        if self._finder is not None:
            self._finder.give_up()

    def network_changed(self) -> None:
        """Interfaces have come or gone."""
        if self._finder is not None and self.searches:
            self._finder.network_changed()

    def close(self) -> None:
        """Search no more."""
        if self._finder is not None:
            self._finder.close()

    def lost(self) -> None:
        """The directory is away: it may be found elsewhere."""
        if self.searches and self._client.link.identity:
            self.finder.follow()

    def back(self) -> None:
        """The directory is there, perhaps again."""
        self.alone = False
        self.connections += 1
        if self._finder is not None:
            self._finder.settled()
        target = self._client.link.target
        self._client.announced = self.announces or (target is not None and bool(target.via))
        # A script may end at once; for a person the disk can wait until the prompt is drawn.
        pause = 0.0 if self._client.options.command else KEEP_S
        if self._remembers:
            self._client.loop.call_at(self._client.loop.now + pause, self._remember)

    def _remember(self) -> None:
        """Keep in mind which directory was connected."""
        link, target = self._client.link, self._client.link.target
        if target is None or link.state != READY or link.identity == self.hosted:
            return
        try:
            self.trust().remember(link.identity, target)
        except SetupError as error:
            self._remembers = False  # said once
            self._client.frontend.note(f"evloop: {error.sentence}")

    def room_by_name(self, name: str) -> RoomEntry:
        """Where a room is that no directory has: its place follows from its name."""
        from evloop.directory.places import places_of  # late: nearly always there is a directory

        return RoomEntry(name, *next(places_of(fold(name))), RELIABLE)

    def by_name(self, room: RoomEntry) -> str:
        """The place of a room that no directory has; from now on one is looked for."""
        self.finder.seek()
        return place_of(room.address, room.port)

    def greeting(self, rooms: int, more: str = "") -> str:
        """Which directory is connected; `more`: what is said of one that was not found."""
        link = self._client.link
        target = link.target
        if target is None or not target.via:
            return f"evloop: directory {link.endpoint}, {report.plural(rooms, 'room')}{more}"
        from evloop.terminal.directories import connected

        return connected(display(target.name), link.endpoint, target.via, rooms)
