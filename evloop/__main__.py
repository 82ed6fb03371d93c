"""`python3 -m evloop`: the one command for a first try.

Starts the client on the directory at `--server` or $EVLOOP_SERVER, else on that of this machine,
else on one that answers on the network. If there is none (and none elsewhere was named), this
process hosts one itself, on the same loop: in memory, on every address, for as long as it runs.

Two on one machine that start at the same moment settle it by the port: who comes second finds it
taken, and connects to the first. Two on one network host both for a moment; then one makes way for
the other, as `directory.yielding` says.
"""

from __future__ import annotations

import os
import signal
import sys
import time

# This folder alone, as `python3 -m zipapp evloop` packs it. Python 3.9 tells no package to a module
# that it imports out of an archive.
if __name__ == "__main__" and not __package__:
    sys.exit("evloop: start this as `python3 -m evloop`; `make pyz` makes one file of it")

from evloop.app.commands import words_at
from evloop.app.limits import NOBODY_CAME_S
from evloop.app.reach import client_name
from evloop.app.shell import Client
from evloop.base.addresses import DEFAULT_SERVER, split_endpoint
from evloop.base.errors import EvloopError, SetupError
from evloop.client import run_main
from evloop.daemon.connection import Connection
from evloop.daemon.options import parse_options
from evloop.daemon.server import Server, guard_handlers
from evloop.directory.announcement import GUEST
from evloop.directory.client import READY, DirectoryClient, Searched, Unreachable
from evloop.directory.target import targets_of
from evloop.system.log import WARNING, Log
from evloop.system.process import command_of
from evloop.system.timers import NEVER
from evloop.terminal.report import nobody_came

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from evloop.directory.browser import Browser
    from evloop.directory.discovery import Found
    from evloop.directory.target import Target
    from evloop.directory.yielding import Yielding

    Done = Callable[[EvloopError | None], object]

LOCAL_HOSTS = ("127.0.0.1", "localhost", "::1")


def prepare(client: Client) -> None:
    """Let `client` host a directory when none answers."""
    Host(client)


class Host:
    """The directory that `client` hosts, if it does, and how it makes way for another one.

    state     nobody answers        another is to be gone to   it answers        it does not
    idle      `host` -> hosting     -                          -                 -
    hosting   -                     -> going: a link of its    -                 -
                                    own connects there
    going     -                     -                          -> idle, closed   -> hosting
    """

    __slots__ = ("_browser", "_client", "_link", "_log", "_server", "_survives", "_timer",
                 "_yielding")  # fmt: skip

    def __init__(self, client: Client) -> None:
        self._client = client
        self._log = _log(client)
        self._server: Server | None = None
        self._yielding: Yielding | None = None
        self._browser: Browser | None = None  # asks for others
        self._link: DirectoryClient | None = None  # to the one that we go to
        self._survives = False
        self._timer = client.loop.call_at(NEVER, self._ask)
        client.host_directory = self.host
        client.reach.host_again = lambda: self.host(Searched(""), self._joined)
        client.on_end = self.close
        client.reach.joins = True

    def close(self) -> None:
        """End all of it."""
        self._stop_asking()
        if self._link is not None:
            self._link.close()
        server, self._server = self._server, None
        if server is not None:
            server.close()

    def host(self, error: EvloopError, then: Done) -> None:
        """No directory was reached, because of `error`: be one, and connect to it."""
        client = self._client
        place = client.reach.server or DEFAULT_SERVER
        here = "," not in place and split_endpoint(place)[0] in LOCAL_HOSTS
        if self._server is not None or not here or not isinstance(error, Unreachable):
            then(error)
            return
        port = split_endpoint(place)[1]
        if not self._survives:
            self._survives = True
            _survive(client, self._log)
        options = parse_options(["--memory"])
        options.interface = client.options.interface
        options.no_announce = client.options.no_announce
        try:
            server = Server(client.loop, options, self._log, client.loop.stop)
        except SetupError as wrong:  # the named interface is not there
            then(wrong)
            return
        server.kind = GUEST
        try:
            server.listen([f":{port}"])
        except SetupError:
            # Somebody took the port since: most likely another `python3 -m evloop`.
            server.close()
        else:
            self._server = server
            client.reach.hosted = server.dispatcher.store.identity
            searched = isinstance(error, Searched)
            client.reach.announces = searched and not options.no_announce
            _tell_hosting(client, server, port)
            if searched:
                self._begin_asking(server)
            _mind_the_others(client, server)
        client.prompt.forget_rooms()
        client.link.connect_to(targets_of(place), lambda _, failure: then(failure))

    def _lost(self, error: EvloopError | None) -> None:
        if error is not None:
            self.host(error, self._joined)

    def _joined(self, error: EvloopError | None) -> None:
        if error is not None:
            self._client.failed("", error)

    # -- others that began at the same moment ------------------------------------------------------

    def _begin_asking(self, server: Server) -> None:
        from evloop.directory.yielding import Yielding

        client = self._client
        self._yielding = Yielding(server.dispatcher.store.identity, client.loop.now, client.rng())
        self._timer.move(self._yielding.next_ask())

    def _stop_asking(self) -> None:
        self._yielding = None
        self._timer.move(NEVER)
        self._end_search()

    def _end_search(self) -> None:
        browser, self._browser = self._browser, None
        if browser is not None:
            browser.close()

    def _ask(self) -> None:
        """Ask the network who else is there."""
        from evloop.directory.browser import Browser, searched_links

        if self._yielding is None:
            return
        client = self._client
        self._yielding.asked(client.loop.now)
        self._timer.move(self._yielding.next_ask())
        try:
            links = searched_links(client.options.interface)
        except SetupError:
            return  # the interface that was named is gone for now
        self._end_search()
        told: set[str] = set()
        self._browser = Browser(
            client.loop,
            links,
            lambda found, over: self._look(found, told, over),
            own=client.options.interface or "",
        )

    def _look(self, found: Sequence[Found], told: set[str], over: bool) -> float:
        """`told`: those that have answered this question before."""
        from evloop.directory.announcement import SERVER
        from evloop.directory.discovery import DOUBTFUL, standing_of

        if over:
            self._end_search()
        if self._yielding is None or self._server is None:
            return NEVER
        now, known = self._client.loop.now, self._client.reach.trust().known()
        fit = [one for one in found if standing_of(one, known) != DOUBTFUL]
        for one in fit:
            if one.id not in told:
                told.add(one.id)
                self._yielding.seen(one.id, server=one.kind == SERVER, now=now)
        people, rooms = self._inside()
        number = self._yielding.decide(now, people=people, rooms=rooms)
        for one in fit:
            if one.id == number:
                self._go(one)
            elif self._yielding.tell(one.id, rooms=rooms):
                self._tell(one)
        self._timer.move(self._yielding.next_ask())
        return NEVER if over else self._yielding.next_decision()

    def _tell(self, one: Found) -> None:
        from evloop.app.finding import Listing
        from evloop.terminal.directories import hosts_too

        listing = Listing([one], {})
        self._client.frontend.note(hosts_too(listing.names[0], listing.endpoint(0)))

    def _inside(self) -> tuple[bool, bool]:
        """Whether others are connected as people, and whether there is a room, or just being made.

        A script, a scan and `doctor` are nobody's reason to stay.
        """
        assert self._server is not None
        client, dispatcher = self._client, self._server.dispatcher
        people = sum(it.client.startswith("evloop/") for it in dispatcher.connections.values())
        own = _is_connected(client, self._server)
        return people > own, bool(len(self._server.directory)) or client.busy

    def _may_go(self, number: str) -> bool:
        if self._yielding is None or self._server is None:
            return False
        people, rooms = self._inside()
        return self._yielding.may_go(number, people=people, rooms=rooms)

    def _go(self, one: Found) -> None:
        """Connect to another one; close our own only when it has counted us."""
        from evloop.app.finding import Listing

        client = self._client
        target = Listing([one], client.reach.trust().known()).target(0)
        link = DirectoryClient(client.loop, client.hub, client.rng, client_name([]),
                               lambda: client.prompt.nickname)  # fmt: skip
        link.make_pipe = client.reach.trust().pipe
        self._link = link

        def connected(version: object, error: EvloopError | None) -> None:
            if error is None and link.identity == one.id:
                link.request("watch", {}, counted)
            else:
                failed()

        def counted(value: object, error: EvloopError | None) -> None:
            if error is not None:
                failed()
            else:  # from the loop: the link is in the middle of its answer
                client.loop.defer(lambda: self._move(target, end_link))

        def failed() -> None:
            end_link()
            if self._yielding is not None:
                self._yielding.failed(client.loop.now)

        def end_link() -> None:
            if self._link is link:
                self._link = None
            client.loop.defer(link.close)  # from the loop: it is in the middle of its answer

        link.connect_to([target], connected)

    def _move(self, target: Target, end_link: Callable[[], object]) -> None:
        """The other directory has counted us: leave our own, and be a client there.

        The link that brought us there is held until the client's own has come."""
        client = self._client
        if not self._may_go(target.id):  # somebody has come meanwhile, or a room
            end_link()
            if self._yielding is not None:
                self._yielding.crossed(client.loop.now)
                self._timer.move(self._yielding.next_ask())
            return
        client.prompt.forget_rooms()

        def moved(version: object, error: EvloopError | None) -> None:
            end_link()
            if error is None:
                from evloop.terminal.directories import moved

                client.frontend.note(moved(target.name, client.link.endpoint))
            else:  # it has gone at this moment: look again, and host again if there is none
                client.prompt.connect("", self._lost)

        client.link.connect_to([target], moved)
        server, self._server = self._server, None
        assert server is not None  # `_may_go` says so
        self._stop_asking()
        client.reach.hosted = ""
        client.reach.announces = False
        client.before_quit = client.before_stop = str
        client.finish = client.loop.stop
        server.close()


def _mind_the_others(client: Client, server: Server) -> None:
    """Others use this directory too: warn the user before the process ends or stops, and tell the
    others why it ends."""

    def others() -> int:
        return max(0, len(server.dispatcher.connections) - _is_connected(client, server))

    def before_quit() -> str:
        count = others()
        users = "1 other uses" if count == 1 else f"{count} others use"
        return f"evloop: {users} this directory: quit again to end it" if count else ""

    def before_stop() -> str:
        count = others()
        users = f" for {count} other{'s' * (count != 1)}" if count else " for everybody"
        return f"evloop: this stops the directory{users}, until fg (or bg) goes on"

    client.before_quit = before_quit
    client.before_stop = before_stop
    client.finish = lambda: server.drain("its host has quit")
    if not client.frontend.edits:
        _stop_with_a_word(client)


def _is_connected(client: Client, server: Server) -> bool:
    """Whether one of the connections is our own user's."""
    link = client.link
    return link.state == READY and link.identity == server.dispatcher.store.identity


def _stop_with_a_word(client: Client) -> None:
    """Ctrl-Z while the kernel edits the line: print the warning, then stop as the kernel would."""

    def stop() -> None:
        client.frontend.note(client.suspending())
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)  # we stop in here
        client.loop.on_signal(signal.SIGTSTP, stop)
        client.show_prompt()

    if signal.getsignal(signal.SIGTSTP) != signal.SIG_IGN:
        client.loop.on_signal(signal.SIGTSTP, stop)


def _survive(client: Client, log: Log) -> None:
    """From now on others depend on this process: an exception in a callback does not end it."""
    guard_handlers(client.loop, log, client.options.debug)
    tell = client.loop.on_error
    assert tell is not None

    def failed(origin: object, error: Exception) -> None:
        tell(origin, error)
        if not isinstance(origin, Connection):
            client.recover()

    client.loop.on_error = failed


def _log(client: Client) -> Log:
    """The log of the directory in this process: lines on the client's screen."""

    def write(line: str) -> None:
        client.frontend.note(f"evloop: {line}")

    log = Log(write, level=WARNING, journal=False, wall=client.wall, clock=time.monotonic)
    log.schedule = client.loop.call_at
    return log


def _tell_hosting(client: Client, server: Server, port: int) -> None:
    """Say that we host, and what others type to come: that is not to be overlooked."""
    from evloop.app.invite import hosts_here, lines

    note = client.frontend.note
    hosts = hosts_here(port, client.options.interface)
    shown = hosts
    if client.reach.announces:
        from evloop.terminal.directories import OTHERWISE, hosting  # late, as the search itself

        note(hosting())
        if hosts:
            note(OTHERWISE)
    else:
        words = "others type:" if hosts else "only this machine can come; in another window, type:"
        note(
            "evloop: no directory answered, so this one hosts it (in memory, on every address);"
            f" {words}"
        )
        shown = hosts or ["127.0.0.1"]
    for line in lines(shown, port, False, "", False):
        note(f"  {line}", "text")
    if hosts or client.reach.announces:
        _tell_if_nobody_comes(client, server)


def _tell_if_nobody_comes(client: Client, server: Server) -> None:
    """Where guests are kept apart, each of them hosts, and none of them knows of the others."""

    before = client.reach.connections

    def tell() -> None:
        hosts = client.link.identity == server.dispatcher.store.identity
        own = client.reach.connections - before  # whoever hosts may connect anew
        if hosts and server.metrics.flat()["connections"] <= own:
            client.frontend.note(f"evloop: {nobody_came('doctor' in words_at('prompt'))}")

    client.loop.call_at(client.loop.now + NOBODY_CAME_S, tell)


def main(arguments: Sequence[str] | None = None) -> int:
    """The program; returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    return run_main(arguments, os.environ, prepare, command_of())


if __name__ == "__main__":
    sys.exit(main())
