"""`python3 -m evloop`: the one command for a first try.

Starts the client on the directory that answers at `--server`, $EVLOOP_SERVER or 127.0.0.1:44444.
If none does, and it would be on this machine, this process hosts one itself, on the same loop: in
memory, on every address, for as long as it runs. When two of them start at the same moment, the
second finds the port taken and connects to the first.
"""

from __future__ import annotations

import os
import signal
import sys
import time

if not __package__:  # this folder alone, as `python3 -m zipapp evloop` packs it
    sys.exit("evloop: start this as `python3 -m evloop`; `make pyz` makes one file of it")

from evloop.app.commands import words_at
from evloop.app.limits import NOBODY_CAME_S
from evloop.app.shell import Client
from evloop.base.addresses import split_endpoint
from evloop.base.errors import EvloopError, SetupError
from evloop.client import run_main
from evloop.daemon.connection import Connection
from evloop.daemon.options import parse_options
from evloop.daemon.server import Server, guard_handlers
from evloop.directory.client import READY, Unreachable
from evloop.system.log import WARNING, Log
from evloop.system.process import command_of
from evloop.terminal.line_mode import LineMode
from evloop.terminal.report import nobody_came

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

OWN_CONNECTIONS = 1  # the host's own client is connected too
LOCAL_HOSTS = ("127.0.0.1", "localhost", "::1")


def prepare(client: Client) -> None:
    """Let `client` host a directory when none answers."""
    server: Server | None = None
    log = _log(client)

    def stop_server() -> None:
        if server is not None:
            server.close()

    def host(error: EvloopError, then: Callable[[EvloopError | None], object]) -> None:
        nonlocal server
        place = client.options.server
        name, port = split_endpoint(place)
        if server is not None or name not in LOCAL_HOSTS or not isinstance(error, Unreachable):
            then(error)
            return
        options = parse_options(["--memory"])
        options.interface = client.options.interface
        options.no_announce = client.options.no_announce
        _survive(client, log)
        try:
            server = Server(client.loop, options, log, client.loop.stop)
        except SetupError as wrong:  # the named interface is not there
            then(wrong)
            return
        server.kind = "guest"
        try:
            server.listen([f":{port}"])
        except SetupError:
            # Somebody took the port since: most likely another `python3 -m evloop`.
            server.close()
            server = None
        else:
            _tell_hosting(client, server, port)
            _mind_the_others(client, server)
        client.prompt.connect(place, then)

    client.host_directory = host
    client.on_end = stop_server


def _mind_the_others(client: Client, server: Server) -> None:
    """Others use this directory too: warn the user before the process ends or stops, and tell the
    others why it ends."""

    def others() -> int:
        return max(0, len(server.dispatcher.connections) - (client.link.state == READY))

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
    if isinstance(client.frontend, LineMode):
        _stop_with_a_word(client)


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

    hosts = hosts_here(port, client.options.interface)
    words = "others type:" if hosts else "only this machine can come; in another window, type:"
    note = client.frontend.note
    note(
        "evloop: no directory answered, so this one hosts it (in memory, on every address);"
        f" {words}"
    )
    for line in lines(hosts or ["127.0.0.1"], port, False, "", client.announced):
        note(f"  {line}", "text")
    if hosts:
        _tell_if_nobody_comes(client, server)


def _tell_if_nobody_comes(client: Client, server: Server) -> None:
    """Where guests are kept apart, each of them hosts, and none of them knows of the others."""

    def tell() -> None:
        hosts = client.link.identity == server.dispatcher.store.identity
        if hosts and server.metrics.flat()["connections"] <= OWN_CONNECTIONS:
            client.frontend.note(f"evloop: {nobody_came('doctor' in words_at('prompt'))}")

    client.loop.call_at(client.loop.now + NOBODY_CAME_S, tell)


def main(arguments: Sequence[str] | None = None) -> int:
    """The program; returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    return run_main(arguments, os.environ, prepare, command_of())


if __name__ == "__main__":
    sys.exit(main())
