"""The ways to start the client.

no command, a terminal    connect if a directory answers, then the prompt until `quit` or Ctrl-D
no command, a pipe        each line is a command; at the end the status of the first that failed
a command                 connect, run it, leave with its status
say                       enter, send, wait until it is confirmed: nothing is shown
tail                      enter and show, until interrupted; stdin is not read
"""

from __future__ import annotations

from evloop.app.commands import (
    UsageError,
    find,
    parse_arguments,
)
from evloop.app.limits import SHOWN_LINES_DEFAULT
from evloop.app.prompt import advised
from evloop.base.errors import UNCONFIRMED, EvloopError, Refused
from evloop.base.names import fold, split_place
from evloop.room.limits import HISTORY_MESSAGES_MAX
from evloop.terminal import report

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

    def listed(rooms: list[Any], error: EvloopError | None) -> None:
        if error is None:
            prompt.rooms = {fold(room.name): room.name for room, _ in rooms}
            client.frontend.note(
                f"evloop: directory {client.link.endpoint}, {report.plural(len(rooms), 'room')}."
                " help lists the commands, Ctrl-D quits."
            )
        ready()

    def connected(error: EvloopError | None) -> None:
        if error is None:
            prompt.list_rooms(listed)
            return
        if client.host_directory is not None:
            host, client.host_directory = client.host_directory, None
            host(error, connected)
            return
        client.frontend.note(f"evloop: {error}")
        client.frontend.note(
            "evloop: no directory yet. connect HOST[:PORT] tries another,"
            " chat ADDRESS:PORT needs none, help lists the commands."
        )
        ready()

    def ready() -> None:
        client.awaiting(False)
        client.frontend.hold(False)
        client.show_prompt()

    client.frontend.hold(True)
    client.awaiting(True)
    prompt.connect(prompt.server, connected)


def _connected(client: Client, word: str, room: str, act: Callable[[], object]) -> None:
    """Act once a directory is connected; at once when ADDRESS:PORT says where the room is."""

    not_a_place: Refused | None = None

    def connected(error: EvloopError | None) -> None:
        if error is None:
            act()
        else:
            client.failed(word, not_a_place or advised(error) or error)
            client.quit()

    try:
        needs_none = word == "chat" and split_place(room) is not None
    except Refused as refused:  # or it is the name of a room: the directory knows
        needs_none, not_a_place = False, refused
    if needs_none:
        act()
    else:
        client.awaiting(True)
        client.prompt.connect(client.prompt.server, connected)


def _command(client: Client, word: str, arguments: list[str], options: dict[str, str]) -> None:
    def act() -> None:
        client.run(word, arguments, options)

    if word == "help":
        act()
        return
    _connected(client, word, arguments[0] if arguments else "", act)


def _chat(client: Client, word: str, arguments: list[str], options: dict[str, str]) -> None:
    client.frontend.hold(True)  # until the room is open, which may be at once
    _command(client, word, arguments, options)
    client.frontend.start()


def _say(client: Client, word: str, arguments: list[str], options: dict[str, str]) -> None:
    room, *words = arguments
    client.style = client.style._replace(answered=True, history=0, muted=True)

    def opened(chat: Chat) -> None:
        if words:
            try:
                chat.say(" ".join(words))
            except EvloopError as error:
                client.failed(f"say {room}", error)
            chat.finish()
        else:
            chat.verbatim = True
            client.frontend.start()

    def over(chat: Chat) -> None:
        confirmed, asked = chat.outcome
        if not chat.plain and (not confirmed or confirmed < asked) and not client.status:
            what = "nobody is there" if not asked else f"{asked - confirmed} of {asked} did not"
            client.failed(
                f"say {room}", EvloopError(f"not confirmed: {what}; try again"), UNCONFIRMED
            )

    client.on_chat, client.on_chat_over = opened, over
    _command(client, "chat", [room], options)


def _tail(client: Client, word: str, arguments: list[str], options: dict[str, str]) -> None:
    count = options.get("-n", str(SHOWN_LINES_DEFAULT))
    if not (count.isascii() and count.isdigit() and len(count) <= 6):
        raise UsageError(f'tail: -n takes a number of messages, not "{count}"')
    client.style = client.style._replace(history=min(int(count), HISTORY_MESSAGES_MAX))
    _command(client, "chat", arguments, {k: v for k, v in options.items() if k != "-n"})


ONE_SHOTS: dict[str, Callable[[Client, str, list[str], dict[str, str]], None]] = {
    "chat": _chat,
    "say": _say,
    "tail": _tail,
}
