"""The one table of commands, behind parsing, help and completion.

A command is a row of `COMMANDS`; `where` says at which doors it is taken: "prompt" (typed or
piped), "shell" (one-shot, as arguments of the program), "chat" (written `/word` in a room). What a
command does lives in the client; what it is called, takes and means lives here.
"""

from __future__ import annotations

from collections import namedtuple

from evloop.base.errors import USAGE, EvloopError
from evloop.base.names import quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

Command = namedtuple("Command", "word where usage least most options summary completes")
# least, most: number of arguments (most None: the rest of the line is one text argument);
# options: {"--mode": ("reliable", "plain")}, None instead of the choices: any text, (): no value;
# completes: what Tab offers for the first argument ("rooms", "names", "commands" or "").

UNLIMITED = 1 << 30

_PROMPT = ("prompt",)
_BOTH = ("prompt", "shell")
_SHELL = ("shell",)
_CHAT = ("chat",)

COMMANDS = (
    Command(
        "connect",
        _PROMPT,
        "connect [HOST[:PORT]]",
        0,
        1,
        {},
        "connect to a directory of rooms",
        "",
    ),
    Command("bye", _PROMPT, "bye", 0, 0, {}, "close the connection to the directory", ""),
    Command("name", _PROMPT, "name [NAME]", 0, 1, {}, "set or show your chat name", ""),
    Command("getdir", _BOTH, "getdir", 0, 0, {}, "list the rooms", ""),
    Command(
        "makeroom",
        _BOTH,
        "makeroom NAME [ADDRESS PORT] [--mode reliable|plain]",
        1,
        3,
        {"--mode": ("reliable", "plain")},
        "make a room; without an address one is picked",
        "",
    ),
    Command(
        "deleteroom",
        _BOTH,
        "deleteroom NAME [--yes]",
        1,
        1,
        {"--yes": ()},
        "remove a room; --yes: even if others are in it",
        "rooms",
    ),
    Command(
        "chat",
        _BOTH,
        "chat NAME | ADDRESS:PORT",
        1,
        1,
        {"--mode": ("reliable", "plain")},
        "talk in a room; ADDRESS:PORT needs no directory",
        "rooms",
    ),
    Command(
        "say",
        _SHELL,
        "say ROOM [TEXT...]",
        1,
        UNLIMITED,
        {"--mode": ("reliable", "plain")},
        "send lines; wait until they are confirmed",
        "rooms",
    ),
    Command(
        "tail",
        _SHELL,
        "tail ROOM [-n N]",
        1,
        1,
        {"-n": None, "--mode": ("reliable", "plain")},
        "follow a room, after its last N messages",
        "rooms",
    ),
    Command(
        "help", _BOTH, "help [COMMAND]", 0, 1, {}, "list the commands, or explain one", "commands"
    ),
    Command("quit", _PROMPT, "quit", 0, 0, {}, "leave evloop", ""),
    Command("leave", _CHAT, "/leave", 0, 0, {}, "go back to the prompt (as Ctrl-] does)", ""),
    Command("who", _CHAT, "/who", 0, 0, {}, "who is here, and when each was last heard", ""),
    Command("name", _CHAT, "/name NEW", 1, 1, {}, "change your chat name", ""),
    Command("me", _CHAT, "/me TEXT", 1, None, {}, "say what you do: * Mel waves", ""),
    Command("history", _CHAT, "/history [N]", 0, 1, {}, "show the last N messages again", ""),
    Command(
        "show", _CHAT, "/show [N]", 0, 1, {}, "print the (Nth) last message alone, to copy", ""
    ),
    Command("save", _CHAT, "/save FILE", 1, 1, {}, "write the history into a new file", ""),
    Command(
        "ignore",
        _CHAT,
        "/ignore [NAME | -NAME]",
        0,
        1,
        {},
        "hide somebody here; -NAME shows again; or list",
        "names",
    ),
    Command("stats", _CHAT, "/stats", 0, 0, {}, "what was sent, received, repaired and lost", ""),
    Command(
        "help", _CHAT, "/help [COMMAND]", 0, 1, {}, "list the commands, or explain one", "commands"
    ),
    Command("quit", _CHAT, "/quit", 0, 0, {}, "leave the room and evloop", ""),
)

_TABLES = {
    door: {command.word: command for command in COMMANDS if door in command.where}
    for door in ("prompt", "shell", "chat")
}


class UsageError(EvloopError):
    """The words are off; the sentence says which and what would be right. Exit status 2."""

    exit_status = USAGE


def words_at(door: str) -> list[str]:
    """The command words taken at `door`, in the order of the table; in a room with their `/`."""
    return [("/" if door == "chat" else "") + word for word in _TABLES[door]]


def find(door: str, word: str) -> Command:
    """The row of `word` (any case) at `door`; UsageError with a guess when there is none."""
    command = _TABLES[door].get(word.casefold())
    if command is not None:
        return command
    slash = "/" if door == "chat" else ""
    from difflib import get_close_matches  # late: only for who mistyped

    near = get_close_matches(word.casefold()[:40], list(_TABLES[door]), 1)
    advice = f"did you mean {slash}{near[0]}?" if near else f"{slash}help lists the commands"
    if door == "chat":
        advice += "; begin with // to send a line that begins with /"
    raise UsageError(f'unknown command "{slash}{quoted(word)}": {advice}')


def split_words(line: str) -> list[str]:
    """Split at white space; a part between quotes stays whole. UsageError if one is left open.

    A single quote opens only at the start of a word: O'Brien is a name.
    """
    words: list[str] = []
    word: str | None = None
    quote = ""
    for char in line:
        if char == quote:
            quote = ""
        elif not quote and (char == '"' or (char == "'" and word is None)):
            quote = char
            word = word or ""
        elif quote or not char.isspace():
            word = (word or "") + char
        elif word is not None:
            words.append(word)
            word = None
    if quote:
        raise UsageError(f"{quoted(line)}: a {quote} is never closed")
    if word is not None:
        words.append(word)
    return words


def _usage(command: Command, why: str) -> UsageError:
    return UsageError(f"{command.word}: {why}; usage: {command.usage}")


def parse_arguments(command: Command, words: Iterable[str]) -> tuple[list[str], dict[str, str]]:
    """Sort `words` into arguments and options; UsageError when they do not fit the row."""
    arguments: list[str] = []
    options: dict[str, str] = {}
    rest = iter(words)
    for word in rest:
        name, equals, value = word.partition("=")
        if name not in command.options:
            if word.startswith("--") and len(word) > 2 and command.most != UNLIMITED:
                raise _usage(command, f'unknown option "{quoted(word)}"')
            arguments.append(word)
            continue
        choices = command.options[name]
        if choices == ():
            if equals:
                raise _usage(command, f"{name} takes no value")
            options[name] = name
            continue
        if not equals:
            value = next(rest, "")
        if not value or (choices is not None and value not in choices):
            wanted = " or ".join(choices) if choices else "a value"
            raise _usage(command, f'{name} takes {wanted}, not "{quoted(value)}"')
        options[name] = value
    if len(arguments) < command.least:
        raise _usage(command, "too few arguments")
    if len(arguments) > command.most:
        raise _usage(command, f'too many arguments from "{quoted(arguments[command.most])}" on')
    return arguments, options


def parse_line(door: str, line: str) -> tuple[Command, list[str], dict[str, str]] | None:
    """A typed line (in a room without its leading `/`) -> (row, arguments, options); None: empty.

    Raises UsageError with a sentence that says what is wrong and what to do.
    """
    line = line.strip()
    if not line:
        return None
    word = line.split(None, 1)[0]
    command = find(door, word)
    rest = line[len(word) :].strip()
    if command.most is None:
        if not rest:
            raise _usage(command, "too few arguments")
        return command, [rest], {}
    arguments, options = parse_arguments(command, split_words(rest))
    return command, arguments, options


def help_lines(door: str, word: str | None = None) -> list[str]:
    """The lines of `help` at `door`, for all commands or for one."""
    if word is not None:
        command = find(door, word.removeprefix("/") if door == "chat" else word)
        return [f"  {command.usage}", f"      {command.summary}"]
    rows = [(command.usage, command.summary) for command in _TABLES[door].values()]
    width = min(24, max(len(usage) for usage, _ in rows))
    lines = []
    for usage, summary in rows:
        if len(usage) > width:
            lines += [f"  {usage}", f"  {'':{width}}  {summary}"]
        else:
            lines.append(f"  {usage:{width}}  {summary}")
    return lines
