"""The operator's console: commands typed at the server's own terminal.

One dict from word to function; each returns the lines to print, or raises Refused or UsageError
with a sentence that says what to do.
"""

from __future__ import annotations

import os

from evloop.base.errors import EvloopError, Refused
from evloop.base.names import display, quoted
from evloop.base.strictjson import decode
from evloop.daemon.limits import HANG_UP_S
from evloop.system.stdin import Input, LineReader
from evloop.system.stdout import Writer
from evloop.system.timers import NEVER
from evloop.terminal.report import room_lines, stats_lines
from evloop.terminal.tty import in_foreground

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from evloop.daemon.dispatcher import Dispatcher
    from evloop.daemon.server import Server
    from evloop.system.loop import Loop

    Answer = Callable[["Console", str], list[str]]


class Console:
    """Reads stdin, a terminal, on the loop. `quit` calls `on_quit`."""

    def __init__(
        self,
        loop: Loop,
        dispatcher: Dispatcher,
        on_quit: Callable[[], object],
        answers: Mapping[str, tuple[str, Answer]] | None = None,
    ) -> None:
        self._loop = loop
        self.dispatcher = dispatcher
        self._on_quit = on_quit
        self.answers = ANSWERS if answers is None else answers
        self._reader = LineReader()
        self._out = Writer(1, loop)
        self._gone_at = NEVER  # when the terminal was seen to have gone
        self._input = Input(loop, 0, self.on_data, in_foreground)
        self._out.line("help lists the commands of this console")

    def close(self) -> None:
        """Read no more; a slow reader of the last lines is waited for a moment."""
        self._input.close()
        self._out.drain(0.5)
        self._out.close()

    def on_data(self, data: bytes) -> None:
        if not data:
            # Ctrl-D, or the terminal is gone. The server runs on: the user who started it may have
            # logged out.
            self._input.close()
            if not os.isatty(0):
                self._gone_at = self._loop.now
            return
        for kind, text in self._reader.feed(data):
            self._loop.guard(self, self._take, kind, text)

    def hung_up(self) -> bool:
        """Whether a SIGHUP that comes now says that the terminal has gone.

        It comes with the end of the terminal or a little later, from the shell. A server that was
        spared then (`disown`) has been left alone on purpose: SIGHUP is a wish to it again.
        """
        return not os.isatty(0) and self._loop.now - self._gone_at <= HANG_UP_S

    def say(self, line: str) -> None:
        """Print a line that comes later than its command."""
        self._out.line(line)

    def _take(self, kind: str, text: str) -> None:
        for line in self.answer(text) if kind == "line" else [text]:
            self._out.line(line)

    def answer(self, line: str) -> list[str]:
        """The lines to print for a typed line."""
        word, _, rest = line.strip().partition(" ")
        if not word:
            return []
        row = self.answers.get(word.casefold())
        if row is None:
            return [f'unknown command "{quoted(word)}": help lists the commands']
        try:
            return row[1](self, rest.strip())
        except EvloopError as error:
            return [str(error)]

    def _rooms(self, rest: str) -> list[str]:
        directory, relay = self.dispatcher.directory, self.dispatcher.relay
        rooms = [
            {
                "name": room.name,
                "address": room.address,
                "port": room.port,
                "mode": room.mode,
                "members": directory.members(room),
                "relayed": 0 if relay is None else relay.grants_in(room),
            }
            for room in directory.rooms()
        ]
        return room_lines(rooms) or ["no rooms"]

    def _clients(self, rest: str) -> list[str]:
        lines = [
            f"  {number:>5}  {one.peer:<24}  {display(one.name)}  {display(one.client)}".rstrip()
            for number, one in self.dispatcher.connections.items()
        ]
        return lines or ["no clients"]

    def _stats(self, rest: str) -> list[str]:
        return stats_lines(self.dispatcher.metrics.flat())

    def _deleteroom(self, rest: str) -> list[str]:
        change = decode(self.dispatcher.delete_room(rest, None, who={"by": "the console"}))
        failure = self.dispatcher.commit()  # now: what is said here cannot be taken back
        if failure is not None:
            raise failure
        return [f"deleted room {display(change['room']['name'])}"]

    def _kick(self, rest: str) -> list[str]:
        number = int(rest) if rest.isascii() and rest.isdigit() and len(rest) < 10 else 0
        connection = self.dispatcher.connections.get(number)
        if connection is None:
            raise Refused(1, "no_such_client", f'no client "{quoted(rest)}": clients lists them')
        self.dispatcher.log.notice(
            "kicked", peer=connection.peer, user=connection.name or None, by="the console"
        )
        self.dispatcher.send_away(connection, "the operator closed this connection", True)
        return [f"closed {connection.peer}"]

    def _help(self, rest: str) -> list[str]:
        return [f"  {usage}" for usage, _ in self.answers.values()]

    def _quit(self, rest: str) -> list[str]:
        self._on_quit()
        return []


ANSWERS: dict[str, tuple[str, Answer]] = {
    "rooms": ("rooms              the rooms, who is in each, how many relayed", Console._rooms),
    "clients": ("clients            who is connected", Console._clients),
    "stats": ("stats              figures of this server", Console._stats),
    "deleteroom": ("deleteroom NAME    remove a room, whoever made it", Console._deleteroom),
    "kick": ("kick CLIENT        close a connection, by its number", Console._kick),
    "help": ("help               this list", Console._help),
    "quit": ("quit               say goodbye and end the server", Console._quit),
}


def answers_of(server: Server) -> Mapping[str, tuple[str, Answer]]:
    """The commands of this server's console."""
    if server.cluster is None:
        return ANSWERS
    from evloop.daemon.cluster_console import answers  # late: hardly any server has a cluster

    return answers(ANSWERS, server.cluster)
