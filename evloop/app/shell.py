"""The client between its user, a directory and rooms.

One process with one loop serves the connection to the directory, stdin and the rooms' sockets. The
commands are in `prompt`, chat mode is in `chat`, what several rooms share in `rooms`, and the
frontends show everything.

A line goes to the room in front if there is one, else it is a command. One command runs at a time,
and the lines after it wait in the frontend (`hold`).
"""

from __future__ import annotations

import os

from evloop.app.commands import UsageError, is_command, parse_line
from evloop.app.limits import FAULTS_MAX, SLOW_S
from evloop.app.prompt import Prompt
from evloop.app.reach import Reach, client_name
from evloop.app.startup import doctor
from evloop.app.style import Stamps, Style
from evloop.base.errors import INTERRUPTED, REFUSED, EvloopError, SetupError
from evloop.base.names import quoted
from evloop.directory.client import DirectoryClient
from evloop.directory.greeting import STALE
from evloop.directory.protocol import SEALED
from evloop.net.hub import Hub
from evloop.net.stream import Stream
from evloop.system import unexpected
from evloop.system.files import keep_name
from evloop.system.loop import Loop
from evloop.system.timers import NEVER, nothing
from evloop.terminal import report
from evloop.terminal.frontend import open_frontend

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Iterator
    from random import Random
    from typing import Any

    from evloop.app.carrying import Carried
    from evloop.app.chat import Chat
    from evloop.app.network import Network
    from evloop.app.presence import Presence
    from evloop.app.room_commands import RoomCommands
    from evloop.app.rooms import Rooms
    from evloop.directory.protocol import RoomEntry
    from evloop.room.live import LiveRoom
    from evloop.terminal.frontend import Frontend


URGENT = ("connect", "bye", "quit")  # these do not wait behind a command that takes long


class Client:
    """The client on its loop. `status` is what the process will exit with."""

    def __init__(self, loop: Loop, options: Namespace, hub: Hub, wall: Callable[[], float]) -> None:
        self.loop = loop
        self.options = options
        self.wall = wall
        self.status = 0
        self.checkup: Any = None  # `doctor` at work
        self.rooms: Rooms | None = None  # with the first room
        self._room_commands: RoomCommands | None = None
        self.on_end: Callable[[], object] = nothing
        # What to do when no directory answers at the start: host(error, then).
        self.host_directory: Callable[[EvloopError, Any], object] | None = None
        # What a one-shot does with its room when it is open, and when it is left.
        self.on_chat: Callable[[Chat], object] = nothing
        self.on_chat_over: Callable[[Chat], object] = nothing
        self.before_quit: Callable[[], str] = str  # a person is told it, once; "": nothing
        self.before_stop: Callable[[], str] = str  # what Ctrl-Z has to say; "": nothing
        self.announced = False  # others find this directory without being told its address
        self.finish: Callable[[], object] = loop.stop  # the very end, when all rooms are left
        self._asked = False  # `before_quit` had something to say
        self._faults = 0
        self._late: Iterator[None] | None = None  # loads what the prompt did without
        self._slow = loop.call_at(NEVER, self._tell_slow)  # armed while a command waits
        self.stays = not options.command  # in rooms, and is told of changes of the list of rooms
        self.busy = False  # a command, or the start, waits for the directory
        self._told_slow = False  # and has done so for a while
        self._quitting = False
        self._held = False  # a command wants lines to wait
        # Rooms that are open, those that were left are still saying goodbye; and what the directory
        # does for each.
        self.live: dict[LiveRoom, Carried | None] = {}
        self._ending = False
        self._away = False  # the directory was lost, and the user was told
        self._random: Random | None = None
        self._follower: Network | None = None
        self.style = Style(options.json, _escape_text(options.escape), Stamps(options.time, wall))
        self.frontend: Frontend = open_frontend(loop, options, self._output_gone, is_command)
        self.frontend.owner = self
        self.frontend.complete = self._complete
        self.link = DirectoryClient(
            loop, hub, self.rng, client_name(options.command), lambda: self.prompt.nickname
        )
        self.hub = hub
        self.reach = Reach(self, options.server)
        self.trust = self.reach.trust
        self.link.make_pipe = self.reach.pipe
        self._present: Presence | None = None
        self.prompt = Prompt(
            self.frontend,
            self.link,
            nickname=options.name,
            trust=self.reach.trust,
            reach=self.reach,
            as_json=options.json,
            open_room=self._open_room,
            on_quit=self.quit,
            on_change=lambda method, room: self.presence().changed(method, room),
            on_renamed=self.keep_name,
            on_invite=self._invite,
            on_doctor=lambda *command: doctor(self, *command),
        )
        self.link.on_ready = self._ready
        self.link.on_lost = self._lost
        self.link.on_news = self.prompt.news

    @property
    def chat(self) -> Chat | None:
        """The room in front, if the user is in one."""
        rooms = self.rooms
        return rooms.front.chat if rooms is not None and rooms.front is not None else None

    def hold(self, held: bool) -> None:
        """While held, lines wait: the command before them is still running."""
        self._held = held
        self.hold_lines()

    def hold_lines(self) -> None:
        self.frontend.hold(self._held or (self.rooms is not None and self.rooms.held))

    # -- called by the frontend -------------------------------------------------------------------

    def line(self, text: str) -> None:
        """A line was typed, or came from the pipe. Lines after `quit` are ignored."""
        if self._quitting:
            return
        if self.chat is not None:
            try:
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
        """The escape key: out of all rooms, at once."""
        if self.chat is not None:
            self._commands_of_rooms().leave_all()
        else:
            self.frontend.note("evloop: not in a room; quit or Ctrl-D leaves evloop")
            self.show_prompt()

    def interrupt(self) -> None:
        """Ctrl-C: a command that waits is given up. Twice: out of all rooms, or the program."""
        if self.chat is not None:
            self._commands_of_rooms().leave_all()
        else:
            self.signalled(INTERRUPTED)

    def eof(self) -> None:
        """The end of input, or Ctrl-D."""
        if self.chat is None:
            self.quit()
            if not self._quitting:
                self.show_prompt()
            return
        if self.frontend.is_terminal:
            self.chat.finish()
        else:
            self._quitting = True
            self._commands_of_rooms().rooms.finish_all()

    def _complete(self, text: str, cursor: int) -> list[str]:
        """What Tab offers for the word before the cursor."""
        from evloop.app.completion import at_prompt, in_chat

        listed = (room.name for room in self.prompt.rooms.values())
        if self.chat is None or self.rooms is None:
            return at_prompt(text[:cursor], listed)
        present = (name for _, name, _ in self.chat.room.session.members(self.loop.now)[1:])
        own = (pane.name for pane in self.rooms.panes.values())
        return in_chat(text[:cursor], list(self.chat.view.speakers), present, listed, own)

    def passes(self, text: str) -> bool:
        """Whether a line need not wait for the command before it: that one takes long already."""
        if self.chat is not None or not self._told_slow:
            return False  # in a room no word is a command
        word = text.split()[:1]
        return bool(word) and word[0].casefold() in URGENT

    # -- commands --------------------------------------------------------------------------------

    def run(self, word: str, arguments: list[str], options: dict[str, str]) -> None:
        """Run one command of the prompt; lines wait until it is done."""
        if self.busy:
            self.give_up()  # only what is urgent gets here meanwhile
        self.hold(True)
        self.awaiting(True)
        self._away = self._away and word not in ("connect", "bye")
        finished = False

        def done(error: EvloopError | None) -> None:
            nonlocal finished
            assert not finished, f"{word} ended twice"
            finished = True
            self.awaiting(False)
            if error is not None:
                said = self.options.command[0] if self.options.command else word
                self.failed(" ".join([said, *arguments[:1]]), error)
            self.hold(False)
            if self.chat is None:  # else the room has the line from now on
                self._at_the_prompt()

        try:
            if word == "chat" and len(arguments) != 1:
                self._commands_of_rooms().enter_all(arguments, options, done)
            else:
                self.prompt.run(word, arguments, options, done)
        except EvloopError as error:
            done(error)

    def _at_the_prompt(self) -> None:
        """There is nothing to do: a one-shot ends."""
        if self._quitting:
            return
        if self.options.command:
            self.quit()
        else:
            self.show_prompt()

    def give_up(self) -> None:
        """Whoever waits for the directory is told that he does so no more."""
        if self.reach.give_up_keys():
            return
        if self._room_commands is not None:
            self._room_commands.forget()
        self.link.give_up()
        self.reach.give_up()

    def awaiting(self, waits: bool) -> None:
        """A command, or the start, waits for the directory from now on, or no more."""
        self.busy = waits
        self._told_slow = False
        self._slow.move(self.loop.now + SLOW_S if waits else NEVER)

    def _tell_slow(self) -> None:
        if self.frontend.asking:  # it waits for its user
            return
        self._told_slow = True
        if self.frontend.is_terminal and self.checkup is None:
            self.frontend.note(report.still_waiting(self.link.endpoint, self.chat is None))
            self.hold(True)  # what was typed meanwhile and is urgent goes on now

    def failed(self, what: str, error: EvloopError, status: int = 0) -> None:
        """Say what failed and why; the first failure decides the exit status."""
        why, one_shot = str(error), self.options.command and self.chat is None
        if not why:  # all that there is to say was said
            if one_shot and error.exit_status == INTERRUPTED:
                self.status = self.status or INTERRUPTED
            return
        if self.options.json:
            self.frontend.note(report.json_line("error", what=what, why=why), "text")
        else:
            told = why.startswith((what, what.partition(" ")[0] + ":"))  # the sentence says it
            self.frontend.note(f"evloop: {'' if told else quoted(what) + ': '}{why}", "error")
        if one_shot or not self.frontend.is_terminal:
            self.status = self.status or status or error.exit_status

    def fault(self, origin: object, error: Exception) -> None:
        """An unexpected exception in a callback of `origin`: it is shown, and the chat goes on.

        A one-shot command and a client in a pipe end with a status instead; so does a client with
        more than FAULTS_MAX such exceptions.
        """
        if isinstance(error, EvloopError):
            status = error.exit_status
            self.failed("", error)
        else:
            sentence, status = unexpected.told(error)
            self.frontend.note(f"evloop: {sentence}")
            if self.options.debug:
                self.frontend.note(unexpected.trace(error))
        if isinstance(origin, Stream):
            origin.fail()
        self._faults += 1
        if self.options.command or not self.frontend.is_terminal or self._faults > FAULTS_MAX:
            self.signalled(status)
        else:
            self.recover()

    def recover(self) -> None:
        """After such an exception the running command may never end, so accept the next."""
        if self._room_commands is not None:
            self._room_commands.recover()
        if self.chat is None and not self._quitting:
            self.awaiting(False)
            self.hold(False)
            self.show_prompt()

    def _load_late(self) -> None:
        """Load what was left for later; at a terminal a step in each tick."""
        if self._late is None:
            from evloop.app.late import steps

            self._late = steps()
        try:
            for _ in self._late:
                if self.frontend.is_terminal:
                    self.loop.defer(self._load_late)
                    return
            self.network()
        except ImportError:  # the command that needs the module will report it
            return

    def show_prompt(self) -> None:
        """Say where Enter will go."""
        if self._late is None and self.frontend.is_terminal:
            # In the tick after this one: the prompt is drawn before.
            self.loop.defer(lambda: self.loop.defer(self._load_late))
        self.frontend.private = self.chat is not None and self.chat.mode == SEALED
        if self.rooms is not None and self.rooms.front is not None:
            self.frontend.prompt(self.rooms.prompt(), chatting=True)
        else:
            self.frontend.prompt("evloop> ", chatting=False)

    # -- the directory ---------------------------------------------------------------------------

    def _ready(self) -> None:
        """Connected, or connected again: be told of changes, and be in the room again."""
        self.reach.back()
        if self._away:
            self._away = False
            self.frontend.note(report.directory_back(self.link.endpoint))
        if self.link.greeting.stale:
            self.frontend.note(f"evloop: {STALE}")
        if self.stays:
            self.link.request("watch", {}, nothing)
            if not self.frontend.is_terminal and not self.options.command:
                self._load_late()
            if self.frontend.is_terminal or self.prompt.awaits_rooms:
                self.prompt.learn_rooms()
        if self._present is not None:
            self._present.ready()
        for carried in filter(None, self.live.values()):
            carried.ready()

    def _invite(self) -> None:
        from evloop.app.invite import show

        show(self)

    def invitation(self, chat: Chat) -> tuple[list[str], bool]:
        from evloop.app.invite import invitation

        return invitation(self, chat)

    def _remark(self, text: str) -> None:
        # A script in a room is told of that one alone.
        if not self.options.json and (self.frontend.is_terminal or not self.options.command):
            self.frontend.note(text, "remark")

    def keep_name(self, name: str) -> None:
        """The user has another name from now on, and at the next start."""
        self.prompt.nickname = name
        if self.frontend.is_terminal and not self.options.no_history:
            why = keep_name(os.environ, name)
            if why:
                self.frontend.note(f"evloop: the name is not kept for the next start: {why}")

    def _lost(self, why: str, delay: float) -> None:
        if self._present is not None:
            self._present.lost()
        relied = sum(it.lost() for it in self.live.values() if it is not None) > 0  # all are told
        if self.options.command and self.chat is None:
            return  # the command has been told, and ends the program
        if not self._away:  # told once, however many tries it takes
            self._away = True
            away = report.carrier_away if relied else report.directory_away
            self.frontend.note(away(self.link.endpoint, why, delay))
        self.reach.lost()

    def presence(self) -> Presence:
        """What the directory is told of the user's room; made with the first room or its news."""
        if self._present is None:
            from evloop.app.presence import Presence

            self._present = Presence(
                self.loop, self.link, self._remark,
                rng=self.rng, move=self._move_room, made=self.prompt.keep_token,
            )  # fmt: skip
        return self._present

    # -- rooms -----------------------------------------------------------------------------------

    def _open_room(self, entry: RoomEntry, counted: int, secret: bytes | None, done: Any) -> None:
        """Open `entry` for the user: see `RoomCommands.open`."""
        self._commands_of_rooms().open(entry, counted, secret, done)

    def _commands_of_rooms(self) -> RoomCommands:
        """What the rooms share; made with the first of them."""
        if self._room_commands is None:
            from evloop.app.room_commands import RoomCommands

            self._room_commands = RoomCommands(self)
            self.rooms = self._room_commands.rooms
        return self._room_commands

    def network(self) -> Network:
        """Which interface a room takes; and from the first call on, what follows the network."""
        if self._follower is None:
            from evloop.app.network import Network

            wanted, change = self.options.interface, self.reach.network_changed
            self._follower = Network(self.loop, self.link, self.live, wanted, change)
            change()  # perhaps since the start
        return self._follower

    def opened(self, room: LiveRoom, carried: Carried | None) -> None:
        """`room` is open, and the directory may carry it."""
        self.live[room] = carried
        room.on_closed = lambda: self._room_closed(room)

    def left(self, chat: Chat) -> None:
        """The room of `chat` is left; it is still saying goodbye."""
        carried = self.live.get(chat.room)
        if carried is not None:
            carried.left()
        self.presence().left(chat)
        self.on_chat_over(chat)

    def _move_room(self, chat: Chat, address: str, port: int) -> None:
        """The same session on new sockets at another place; SetupError: they cannot be had."""
        if chat.mode == SEALED:
            raise SetupError("a sealed room is at its place alone", REFUSED)
        self.network().move(chat.room, address, port)
        chat.move(address, port)

    def rng(self) -> Random:
        """The random source. Loaded late, as with all that the first prompt can do without."""
        if self._random is None:
            import random

            self._random = random.Random(os.urandom(16))
        return self._random

    def rooms_over(self) -> None:
        """The last room is left."""
        self.awaiting(False)
        self.hold(False)
        if self._quitting:
            self._end()
        else:
            self._at_the_prompt()

    # -- the end ---------------------------------------------------------------------------------

    def _stays(self) -> bool:
        """Whether the user, who wants to quit, is first told what that means for others."""
        if self._asked or self._quitting or not self.frontend.is_terminal or self.options.command:
            return False
        sentence = self.before_quit()
        if sentence:
            self._asked = True
            self.frontend.note(sentence)
        return bool(sentence)

    def suspending(self) -> str:
        """The sentence to show before the process is stopped by Ctrl-Z; "": none."""
        return self.before_stop()

    def quit(self) -> None:
        """Leave the room, if any, then the program."""
        if self._stays():
            return
        self._quitting = True
        if self.chat is None:
            self._end()
        else:
            self._commands_of_rooms().rooms.finish_all()

    def signalled(self, status: int) -> None:
        """A signal: say goodbye in the room and go, with `status`.

        Ctrl-C at an open question, or of a person whose command waits, ends that alone.
        """
        person = self.frontend.is_terminal and not self.options.command
        if status == INTERRUPTED and person and self.busy and not self._quitting:
            self.give_up()
            return
        if status == INTERRUPTED and (self.reach.give_up_keys() or self._stays()):
            return
        self.status = status
        for room in list(self.live) if self._ending else ():  # once more: wait for no goodbye
            room.close()
        if self._quitting or self.chat is None:
            self._end()
            return
        self._quitting = True
        self._commands_of_rooms().leave_all()

    def _output_gone(self, why: str) -> None:
        """Output can be written no more: end. `why` is "" when the reader has ended (`| head`)."""
        self._quitting = True
        if why:
            self.failed("standard output", EvloopError(why))
        if self.chat is not None:
            self._commands_of_rooms().leave_all()
        else:
            self._end()

    def _room_closed(self, room: LiveRoom) -> None:
        carried = self.live.pop(room)
        if carried is not None:
            carried.closed()
        if self._ending:
            self._end()

    def _end(self) -> None:
        self._ending = True
        if not self.live:
            self.reach.close()
            self.link.close()
            self.finish()


def _escape_text(escape: bytes) -> str:
    return f"Ctrl-{chr(escape[0] + 64)}"
