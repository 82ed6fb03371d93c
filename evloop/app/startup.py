"""The ways to start the client.

no command, a terminal    connect if a directory answers, then the prompt until `quit` or Ctrl-D
no command, a pipe        each line is a command; at the end the status of the first that failed
a command                 connect, run it, leave with its status
say                       enter with the first line, send, wait until it is confirmed: nothing is
                          shown
tail                      enter and show, until interrupted; stdin is not read
"""

from __future__ import annotations

from evloop.app.commands import (
    UsageError,
    find,
    help_lines,
    parse_arguments,
    too_few,
)
from evloop.app.limits import CONFIRM_S, SAY_TIMEOUT_S_MAX, SHOWN_LINES_DEFAULT
from evloop.app.prompt import advised
from evloop.base.errors import REFUSED, UNCONFIRMED, EvloopError, Refused
from evloop.base.names import quoted, split_place
from evloop.directory.client import Searched, Unreachable
from evloop.terminal.report import KEPT_ALONE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from evloop.app.chat import Chat
    from evloop.app.shell import Client


def start(client: Client) -> None:
    """Begin with what the options say."""
    words = client.options.command
    if words:
        command = find("shell", words[0])
        arguments, options = parse_arguments(command, words[1:])
        ONE_SHOTS.get(command.word, _command)(client, command.word, arguments, options)
    else:
        if client.frontend.is_terminal or client.host_directory is not None:
            _interactive(client)
        client.frontend.start()


def _interactive(client: Client) -> None:
    """At a terminal: look whether the directory is there, and say so; then the prompt."""
    prompt = client.prompt

    def known(rooms: int, error: EvloopError | None) -> None:
        if error is None:
            more = f". You are {prompt.nickname}.\nevloop: help lists the commands, Ctrl-D quits."
            client.frontend.note(client.reach.greeting(rooms, more))
        ready()

    def connected(error: EvloopError | None) -> None:
        if error is None:
            prompt.await_rooms(known)
            return
        if client.host_directory is not None:
            host, client.host_directory = client.host_directory, None
            host(error, connected)
            return
        if str(error):  # else there are several, and they are listed
            client.frontend.note(f"evloop: {error}", "error")
        if not isinstance(error, Searched):
            client.frontend.note(
                f"evloop: no directory yet, {prompt.nickname}. connect HOST[:PORT] tries another,"
                " chat ADDRESS:PORT needs none, help lists the commands."
            )
        ready()

    def ready() -> None:
        client.awaiting(False)
        client.hold(False)
        client.show_prompt()

    client.hold(True)
    client.awaiting(True)
    prompt.connect(client.reach.server, connected)


def _connected(client: Client, word: str, rooms: list[str], act: Callable[[], object]) -> None:
    """Act once a directory is connected; at once when ADDRESS:PORT says where all rooms are."""

    not_a_place: Refused | None = None

    def connected(error: EvloopError | None) -> None:
        host, client.host_directory = client.host_directory, None
        if error is None:
            act()
        elif host is not None and client.prompt.makes_rooms:
            host(error, connected)
        elif word == "chat" and client.reach.alone and client.frontend.is_terminal:
            act()  # the room is where its name says
        else:
            client.failed(word, not_a_place or advised(error) or error)
            client.quit()

    try:
        needs_none = word == "chat" and all(split_place(room) is not None for room in rooms)
    except Refused as refused:  # or it is the name of a room: the directory knows
        needs_none, not_a_place = False, refused
    if needs_none:
        act()
    else:
        client.awaiting(True)
        about = rooms[0] if word in ("chat", "say", "tail") else ""
        client.prompt.connect(client.reach.server, connected, about)


def _command(client: Client, word: str, arguments: list[str], options: dict[str, str]) -> None:
    def act() -> None:
        client.run(word, arguments, options)

    _connected(client, word, arguments, act)


def _chat(client: Client, word: str, arguments: list[str], options: dict[str, str]) -> None:
    if not arguments:
        raise too_few(word, "shell")
    # `python3 -m evloop chat lab` is a first try: there need be neither a directory nor a room.
    client.prompt.makes_rooms = client.host_directory is not None
    client.stays = True
    client.hold(True)  # until the room is open, which may be at once
    _command(client, word, arguments, options)
    client.frontend.start()


def _say(client: Client, word: str, arguments: list[str], options: dict[str, str]) -> None:
    if "--help" in options:
        _show_help(client, ["say"])
        return
    room, *words = arguments
    anybody = options.pop("--anybody", None) is not None
    patience = _seconds(options.pop("--timeout", str(CONFIRM_S)))
    style = client.style
    style.answered = not anybody
    style.history = 0
    style.muted = True
    style.patience = patience
    if not words:
        first = _FirstLine(client, lambda text: _send(client, room, text, options, anybody))
        client.frontend.owner = first
        client.frontend.start()
    elif " ".join(words).strip():
        _send(client, room, " ".join(words), options, anybody)
    else:
        client.quit()  # there is nothing to say: nobody is told, and nobody need confirm


def _send(client: Client, room: str, text: str, options: dict[str, str], anybody: bool) -> None:
    """Enter `room`, say `text`, and the lines after it if it came from a pipe; then leave."""
    piped = client.frontend.owner is not client

    def opened(chat: Chat) -> None:
        try:
            chat.say(text)
        except EvloopError as error:
            client.failed(f"say {room}", error)
        if piped:
            chat.verbatim = True
            client.frontend.owner = client
            client.hold(False)
        else:
            chat.finish()

    def over(chat: Chat) -> None:
        confirmed, asked = chat.outcome
        if chat.kept_alone and chat.sent and not client.status:
            client.frontend.note(f"evloop: {KEPT_ALONE}", "text")
        enough = anybody or bool(confirmed)
        if chat.plain or not chat.sent or client.status or (enough and confirmed >= asked):
            return
        if chat.other_key and not confirmed:
            why = "not confirmed: who is there has another key, or none"
            client.failed(f"say {room}", EvloopError(why), REFUSED)
            return
        what = "nobody is there" if not asked else f"{asked - confirmed} of {asked} did not"
        client.failed(f"say {room}", EvloopError(f"not confirmed: {what}; try again"), UNCONFIRMED)

    client.on_chat, client.on_chat_over = opened, over
    _command(client, "chat", [room], options)


class _FirstLine:
    """Reads the first line for `say`: with an empty pipe no room is entered."""

    __slots__ = ("_client", "_on_text")

    def __init__(self, client: Client, on_text: Callable[[str], object]) -> None:
        self._client = client
        self._on_text = on_text

    def line(self, text: str) -> None:
        if text.strip():
            self._client.hold(True)  # the lines behind it, until the room is open
            self._on_text(text)

    def passes(self, text: str) -> bool:
        return False

    def suspending(self) -> str:
        return self._client.suspending()

    def bad_line(self, why: str) -> None:
        self._client.bad_line(why)

    def leave(self) -> None:
        self._client.quit()

    def interrupt(self) -> None:
        self._client.interrupt()

    def eof(self) -> None:
        self._client.quit()


def _seconds(text: str) -> float:
    whole, _, part = text.partition(".")
    good = (whole + part).isascii() and (whole + part).isdigit() and len(text) <= 9
    if not good or float(text) > SAY_TIMEOUT_S_MAX:
        raise UsageError(f'say: --timeout takes a number of seconds, not "{quoted(text)}"')
    return float(text)


def _help(client: Client, word: str, arguments: list[str], options: dict[str, str]) -> None:
    _show_help(client, arguments)


def _show_help(client: Client, arguments: list[str]) -> None:
    """Show the help of one command, or the two tables of commands, and quit."""
    lines = help_lines("shell", *arguments[:1])
    if not arguments:
        lines = [
            "commands for scripts, as an argument of the program (--help has the options too):",
            *lines,
            "commands of the main prompt, which comes when no command is given:",
            *help_lines("prompt"),
        ]
    for line in lines:
        client.frontend.show(line)
    client.quit()


def doctor(client: Client, *command: Any) -> None:
    """The command `doctor`: with its arguments, options and `done`; without, in a room."""
    from evloop.app.checkup import begin, begin_in_room  # loaded by `late`

    if client.chat is None:
        begin(client, *command)
    else:
        begin_in_room(client, client.chat)


def _doctor(client: Client, word: str, arguments: list[str], options: dict[str, str]) -> None:
    """It has something to say also, and above all, where no directory answers."""

    def connected(error: EvloopError | None) -> None:
        if error is None or isinstance(error, Unreachable):
            client.run(word, arguments, options)
        else:
            client.failed(word, error)
            client.quit()

    client.awaiting(True)
    client.prompt.connect(client.reach.server, connected)


def _tail(client: Client, word: str, arguments: list[str], options: dict[str, str]) -> None:
    count = options.get("-n", str(SHOWN_LINES_DEFAULT))
    if not (count.isascii() and count.isdigit() and len(count) <= 6):
        raise UsageError(f'tail: -n takes a number of messages, not "{count}"')
    from evloop.room.limits import HISTORY_MESSAGES_MAX  # late: nothing else here is of a room

    client.style.history = min(int(count), HISTORY_MESSAGES_MAX)
    client.stays = True
    _command(client, "chat", arguments, {k: v for k, v in options.items() if k != "-n"})


def _directories(client: Client, word: str, arguments: list[str], options: dict[str, str]) -> None:
    client.run(word, arguments, options)  # of all directories: none need be connected


ONE_SHOTS: dict[str, Callable[[Client, str, list[str], dict[str, str]], None]] = {
    "chat": _chat,
    "directories": _directories,
    "doctor": _doctor,
    "help": _help,
    "say": _say,
    "tail": _tail,
}
