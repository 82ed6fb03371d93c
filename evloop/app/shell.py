"""The client between its user, a directory and a room.

One process, one loop: the connection to the directory, stdin and the room's sockets. What a
command does lives in `prompt`, chat mode in `chat`, how things look in the faces.

A line goes to the room if there is one, else it is a command; one command runs at a time, and the
lines behind it wait in the frontend (`hold`).
"""

from __future__ import annotations

import os

from evloop import __version__
from evloop.app.commands import UsageError, is_command, parse_line
from evloop.app.prompt import Prompt
from evloop.app.style import Stamps, Style
from evloop.base.errors import INTERRUPTED, EvloopError, Refused
from evloop.base.names import place_of, quoted
from evloop.directory import protocol
from evloop.directory.client import READY, DirectoryClient
from evloop.directory.trust import Trust
from evloop.net.stream import Hub
from evloop.system.loop import Loop
from evloop.system.timers import nothing
from evloop.terminal import report
from evloop.terminal.frontend import open_frontend

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable
    from random import Random
    from typing import Any

    from evloop.app.chat import Chat
    from evloop.room.live import LiveRoom
    from evloop.terminal.frontend import Frontend


def _reliable(**arguments: Any) -> Any:
    from evloop.room.reliable.session import RoomSession

    return RoomSession(**arguments)


def _plain(**arguments: Any) -> Any:
    from evloop.room.plain import PlainSession

    return PlainSession(**arguments)


# Loaded with the first room, as all that a chat needs: the prompt comes first, and sooner.
SESSIONS: dict[str, Any] = {"plain": _plain, "reliable": _reliable}


class Client:
    """The client on its loop. `status` is what the process will exit with."""

    def __init__(self, loop: Loop, options: Namespace, hub: Hub, wall: Callable[[], float]) -> None:
        self.loop = loop
        self.options = options
        self._wall = wall
        self.status = 0
        self.chat: Chat | None = None
        self.verbatim = False  # lines are messages even when they begin with /
        self.plain_room = False
        self.outcome = (0, 0)  # of the last room: members that confirmed, members asked
        self.on_end: Callable[[], object] = nothing
        # What to do when no directory answers at the start: host(error, then).
        self.host_directory: Callable[[EvloopError, Any], object] | None = None
        self.on_room_open: Callable[[], object] = nothing
        self.on_room_over: Callable[[], object] = nothing
        self._quitting = False
        self._rooms: set[LiveRoom] = set()  # open; those that were left are still saying goodbye
        self._ending = False
        self._away = False  # the directory was lost, and the user was told
        self._entered = False  # the room is one of the directory's: it counts us
        self._chat_done: Callable[[EvloopError | None], object] | None = None
        self._random: Random | None = None
        self.style = Style(
            options.json,
            _escape_text(options.escape),
            Stamps(options.time, wall),
            None,
            False,
            False,
        )
        self.frontend: Frontend = open_frontend(loop, options, self._output_gone, is_command)
        self.frontend.owner = self
        self.frontend.complete = self._complete
        self.link = DirectoryClient(
            loop, hub, self._rng, f"evloop/{__version__}", lambda: self.prompt.nickname
        )
        trust = Trust(options, os.environ, lambda text: self.frontend.note(report.note(text)))
        self.link.make_pipe = trust.pipe
        self.prompt = Prompt(
            self.frontend,
            self.link,
            nickname=options.name,
            trust=trust,
            server=options.server,
            as_json=options.json,
            open_room=self._open_room,
            on_quit=self.quit,
        )
        self.link.on_ready = self._ready
        self.link.on_lost = self._lost
        self.link.on_news = self.prompt.news

    # -- what the frontend tells ------------------------------------------------------------------

    def line(self, text: str) -> None:
        """A line was typed, or came from the pipe. What stands behind `quit` is nobody's."""
        if self._quitting:
            return
        if self.chat is not None:
            try:
                if self.verbatim:
                    if text.strip():
                        self.chat.say(text, report.TEXT, "")
                else:
                    self.chat.line(text)
            except EvloopError as error:
                self.failed("", error)
            return
        try:
            parsed = parse_line("prompt", text)
        except UsageError as error:
            self.failed("", error)
            self.show_prompt()
            return
        if parsed is None:
            self.show_prompt()
            return
        command, arguments, options = parsed
        self.run(command.word, arguments, options)

    def bad_line(self, why: str) -> None:
        """The line was no text."""
        if self._quitting:
            return
        self.failed("", UsageError(f"{why}; it was not taken"))
        self.show_prompt()

    def leave(self) -> None:
        """The escape key: out of the room, at once."""
        if self.chat is not None:
            self.chat.leave()
        else:
            self.frontend.note("evloop: not in a room; quit or Ctrl-D leaves evloop")
            self.show_prompt()

    def interrupt(self) -> None:
        """Ctrl-C twice: out of the room; at the main prompt out of the program."""
        if self.chat is not None:
            self.chat.leave()
        else:
            self.signalled(INTERRUPTED)

    def eof(self) -> None:
        """The end of input, or Ctrl-D."""
        if self.chat is None:
            self.quit()
            return
        if not self.frontend.is_terminal:
            self._quitting = True
        self.chat.finish()

    def _complete(self, text: str, cursor: int) -> list[str]:
        """What Tab offers for the word before the cursor."""
        from evloop.app.completion import at_prompt, in_chat

        if self.chat is None:
            return at_prompt(text[:cursor], self.prompt.rooms.values())
        present = (name for _, name, _ in self.chat.room.session.members(self.loop.now)[1:])
        return in_chat(text[:cursor], list(self.chat.speakers), present)

    # -- commands --------------------------------------------------------------------------------

    def run(self, word: str, arguments: list[str], options: dict[str, str]) -> None:
        """Run one command of the prompt; lines wait until it is done."""
        self.frontend.hold(True)
        self._away = self._away and word not in ("connect", "bye")
        finished = False

        def done(error: EvloopError | None) -> None:
            nonlocal finished
            assert not finished, f"{word} ended twice"
            finished = True
            if error is not None:
                said = self.options.command[0] if self.options.command else word
                self.failed(" ".join([said, *arguments[:1]]), error)
            self.frontend.hold(False)
            if self.options.command:
                self.quit()
            elif not self._quitting:
                self.show_prompt()

        try:
            self.prompt.run(word, arguments, options, done)
        except EvloopError as error:
            done(error)

    def failed(self, what: str, error: EvloopError, status: int = 0) -> None:
        """Say what failed and why; the first failure decides the exit status."""
        why = str(error)
        if self.options.json:
            self.frontend.note(report.json_line("error", what=what, why=why))
        else:
            begin = f"evloop: {quoted(what)}: " if what and not why.startswith(what) else "evloop: "
            self.frontend.note(begin + why)
        one_shot = self.options.command and self.chat is None
        if one_shot or not self.frontend.is_terminal:
            self.status = self.status or status or error.exit_status

    def show_prompt(self) -> None:
        """Say where Enter will go."""
        chatting = self.chat is not None
        name = self.chat.name if self.chat is not None else "evloop"
        self.frontend.prompt(f"{name}> ", chatting=chatting)

    # -- the directory ---------------------------------------------------------------------------

    def _ready(self) -> None:
        """Connected, or connected again: be told of changes, and be in the room again."""
        if self._away:
            self._away = False
            self.frontend.note(report.directory_back(self.link.endpoint))
        if not self.options.command:
            self.link.request("watch", {}, _ignore)
        if self.chat is not None and self._entered:
            self.link.request("enter", {"name": self.chat.name}, _ignore)

    def _lost(self, why: str, delay: float) -> None:
        if self.options.command and self.chat is None:
            return  # the command has been told, and ends the program
        if not self._away:  # told once, however many tries it takes
            self._away = True
            self.frontend.note(report.directory_away(self.link.endpoint, why, delay))

    # -- rooms -----------------------------------------------------------------------------------

    def _open_room(
        self,
        name: str,
        address: str,
        port: int,
        mode: str,
        done: Callable[[EvloopError | None], object],
    ) -> None:
        if mode not in SESSIONS:
            raise Refused(1, "bad_mode", f'room {name} has mode "{quoted(mode)}", which this'
                          " client does not know; use a newer release")  # fmt: skip
        from evloop.app.chat import Chat
        from evloop.room.live import LiveRoom

        self._entered = name != place_of(address, port)
        chat = Chat(
            self.loop,
            self.frontend,
            name,
            self.style,
            on_over=self._chat_over,
            on_quit=self.quit,
            on_renamed=lambda new: setattr(self.prompt, "nickname", new),
            on_alone=self._alone,
        )
        room = LiveRoom(
            self.loop,
            address,
            port,
            make_session=lambda own: self._session(mode, place_of(address, port), own),
            interface=self.options.interface,
            directory=self.link.address if self.link.state == READY else None,
            ttl=self.options.ttl,
            wall=self._wall,
            on_events=chat.events,
        )
        self._rooms.add(room)
        room.on_closed = lambda: self._room_closed(room)
        self.chat = chat
        self._chat_done = done
        self.plain_room = mode == "plain"
        chat.attach(room, self.plain_room)
        self.show_prompt()
        self.frontend.hold(False)
        self.on_room_open()

    def _rng(self) -> Random:
        """The random source. Loaded late, as with all that the first prompt can do without."""
        if self._random is None:
            import random

            self._random = random.Random(os.urandom(16))
        return self._random

    def _session(self, mode: str, place: str, own_source: object) -> Any:
        session = SESSIONS[mode](
            place=place,
            sender_id=self._rng().randbytes(8),
            nickname=self.prompt.nickname,
            rng=self._rng(),
            now=self.loop.now,
        )
        if mode == "plain":
            session.own_source = own_source
        return session

    def _chat_over(self) -> None:
        chat, self.chat = self.chat, None
        assert chat is not None
        if self._entered and self.link.state == READY:
            self.link.request("leave", {"name": chat.name}, _ignore)
        self.outcome = chat.outcome
        self.on_room_over()
        done, self._chat_done = self._chat_done, None
        if done is not None:
            done(None)
        if self._quitting:
            self._end()

    def _alone(self) -> None:
        """Nothing was heard for a while: ask the directory whether somebody should be."""
        chat = self.chat
        if chat is None or not self._entered or self.link.state != READY:
            return

        def counted(value: Any, error: EvloopError | None) -> None:
            room = value.get("room") if isinstance(value, dict) else None
            members = protocol.read_room(room)[1] if error is None else 0
            if members > 1 and self.chat is chat:
                self.frontend.note(report.alone(members, chat.room.interface.name))

        self.link.request("enter", {"name": chat.name}, counted)

    # -- the end ---------------------------------------------------------------------------------

    def quit(self) -> None:
        """Leave the room, if any, then the program."""
        self._quitting = True
        if self.chat is None:
            self._end()
        else:
            self.chat.finish()

    def signalled(self, status: int) -> None:
        """A signal: say goodbye in the room and go, with `status`."""
        self.status = status
        if self._quitting or self.chat is None:
            self._end()
            return
        self._quitting = True
        self.chat.leave()

    def _output_gone(self, why: str) -> None:
        """Nobody reads our output any more (`| head -1`): end, without a word; else say `why`."""
        self._quitting = True
        if why:
            self.failed("standard output", EvloopError(why))
        if self.chat is not None:
            self.chat.leave()
        else:
            self._end()

    def _room_closed(self, room: LiveRoom) -> None:
        self._rooms.discard(room)
        if self._ending:
            self._end()

    def _end(self) -> None:
        self._ending = True
        if not self._rooms:
            self.link.close()
            self.loop.stop()


def _ignore(value: object, error: object) -> None:
    """Nothing depends on the answer."""


def _escape_text(escape: bytes) -> str:
    return f"Ctrl-{chr(escape[0] + 64)}"
