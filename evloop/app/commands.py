"""The one table of commands, behind parsing, help and completion.

A command is a row of `COMMANDS`; `where` says at which doors (places to enter it) it is accepted:
"prompt" (typed or piped), "shell" (one-shot, as arguments of the program), "chat" (written `/word`
in a room). The client carries commands out; this table has their names, arguments and summaries.

Users of IRC type its commands out of habit: `ALIASES` are such words for a row of the table.
`ELSEWHERE` are words that do nothing where they were typed, with a sentence that says why and what
to type instead. At the prompt every word may have a `/` before it.
"""

from __future__ import annotations

from evloop.app.limits import CHAT_ROOMS_MAX
from evloop.base.errors import USAGE, EvloopError
from evloop.base.names import quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


class Command:
    """One row of COMMANDS.

    `least`, `most`: how many arguments it takes (`most` UNLIMITED: the second and all further
    words are text; None: the rest of a chat line is one text argument);
    `options`: {"--mode": ("reliable", "plain")}, None instead of the choices: any text, (): no
    value, MAYBE_NUMBER: perhaps a number; `completes`: what Tab offers for the first argument
    ("rooms", "own rooms", "names", "commands", "").
    """

    # No named tuple: to make the class of one takes 0.1 ms, and each start would wait for it.
    __slots__ = ("completes", "least", "most", "options", "summary", "usage", "where", "word")

    def __init__(
        self,
        word: str,
        where: tuple[str, ...],
        usage: str,
        least: int,
        most: int | None,
        options: dict[str, tuple[str, ...] | None],
        summary: str,
        completes: str,
    ) -> None:
        self.word = word
        self.where = where
        self.usage = usage
        self.least = least
        self.most = most
        self.options = options
        self.summary = summary
        self.completes = completes


UNLIMITED = 1 << 30
MAYBE_NUMBER = ("",)

MODES = ("reliable", "plain", "sealed")
_PROMPT = ("prompt",)
_BOTH = ("prompt", "shell")
_SHELL = ("shell",)
_CHAT = ("chat",)

COMMANDS = (
    Command(
        "connect",
        _PROMPT,
        "connect [HOST[:PORT] | NAME | N]",
        0,
        1,
        {},
        "connect to a directory of rooms; alone it finds one",
        "",
    ),
    Command(
        "directories", _BOTH, "directories", 0, 0, {}, "list the directories of this network", ""
    ),
    Command("bye", _PROMPT, "bye", 0, 0, {}, "close the connection to the directory", ""),
    Command("name", _PROMPT, "name [NAME]", 0, 1, {}, "set or show your chat name", ""),
    Command("getdir", _BOTH, "getdir", 0, 0, {}, "list the rooms", ""),
    Command(
        "makeroom",
        _BOTH,
        "makeroom NAME [ADDRESS PORT] [--sealed | --passphrase | --mode MODE] [--keep]",
        1,
        3,
        {"--mode": MODES, "--sealed": (), "--passphrase": (), "--keep": ()},
        "make a room, with a key or a history if need be",
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
        "chat ROOM | ADDRESS:PORT ...",
        0,
        CHAT_ROOMS_MAX,
        {"--mode": MODES},
        "talk in rooms; ADDRESS:PORT needs no directory",
        "rooms",
    ),
    Command(
        "key",
        _BOTH,
        "key NAME [--set | --new | --forget]",
        1,
        1,
        {"--set": (), "--new": (), "--forget": ()},
        "show the key of a sealed room, or take another",
        "rooms",
    ),
    Command("invite", _PROMPT, "invite", 0, 0, {}, "what others type to come here", ""),
    Command(
        "say",
        _SHELL,
        "say ROOM [--timeout S] [--anybody] [--] [TEXT...]",
        1,
        UNLIMITED,
        {"--mode": MODES, "--timeout": None, "--anybody": ()},
        "send lines; wait until they are confirmed",
        "rooms",
    ),
    Command(
        "tail",
        _SHELL,
        "tail ROOM [-n N]",
        1,
        1,
        {"-n": None, "--mode": MODES},
        "follow a room, after its last N messages",
        "rooms",
    ),
    Command(
        "irc",
        _SHELL,
        "irc [ADDRESS:PORT | /PATH] [--no-make] [--no-share]",
        0,
        1,
        {"--no-make": (), "--no-share": (), "--tls-cert": None, "--tls-key": None},
        "let IRC clients in (default 127.0.0.1:6667)",
        "",
    ),
    Command(
        "doctor",
        _BOTH,
        "doctor [ROOM | ADDRESS:PORT] [--watch [S]]",
        0,
        1,
        {"--watch": MAYBE_NUMBER},
        "find out why nobody is heard, and what to do",
        "rooms",
    ),
    Command(
        "help", _BOTH, "help [COMMAND]", 0, 1, {}, "list the commands, or explain one", "commands"
    ),
    Command("quit", _PROMPT, "quit", 0, 0, {}, "leave evloop", ""),
    Command(
        "leave", _CHAT, "/leave [N | ROOM]", 0, 1, {}, "leave this room, or another", "own rooms"
    ),
    Command(
        "join",
        _CHAT,
        "/join ROOM | ADDRESS:PORT",
        1,
        1,
        {"--mode": MODES},
        "enter one more room",
        "rooms",
    ),
    Command(
        "switch", _CHAT, "/switch [N | ROOM]", 0, 1, {}, "go to another of your rooms", "own rooms"
    ),
    Command("rooms", _CHAT, "/rooms", 0, 0, {}, "list your rooms, and what waits there", ""),
    Command("mute", _CHAT, "/mute", 0, 0, {}, "only count what is said here; again: show it", ""),
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
    Command("doctor", _CHAT, "/doctor", 0, 0, {}, "why somebody is not heard here", ""),
    Command("key", _CHAT, "/key", 0, 0, {}, "show the key of this room, if it is sealed", ""),
    Command("invite", _CHAT, "/invite", 0, 0, {}, "what others type to come here", ""),
    Command("stats", _CHAT, "/stats", 0, 0, {}, "what was sent, received, repaired and lost", ""),
    Command(
        "help", _CHAT, "/help [COMMAND]", 0, 1, {}, "list the commands, or explain one", "commands"
    ),
    Command("getdir", _CHAT, "/getdir", 0, 0, {}, "list the rooms of the directory", ""),
    Command(
        "makeroom",
        _CHAT,
        "/makeroom NAME [ADDRESS PORT] [--sealed | --passphrase | --mode MODE] [--keep]",
        1,
        3,
        {"--mode": MODES, "--sealed": (), "--passphrase": (), "--keep": ()},
        "make a room; /join enters it",
        "",
    ),
    Command(
        "deleteroom",
        _CHAT,
        "/deleteroom NAME [--yes]",
        1,
        1,
        {"--yes": ()},
        "remove a room; --yes: even if others are in it",
        "rooms",
    ),
    Command("quit", _CHAT, "/quit", 0, 0, {}, "leave all rooms and evloop", ""),
)

_TABLES = {
    door: {command.word: command for command in COMMANDS if door in command.where}
    for door in ("prompt", "shell", "chat")
}


# Words that are typed out of habit, and the words of the table with that meaning.
ALIASES = {
    "prompt": {"join": "chat", "list": "getdir", "nick": "name", "exit": "quit", "q": "quit"},
    "shell": {"join": "chat", "list": "getdir"},
    "chat": {
        "part": "leave",
        "nick": "name",
        "names": "who",
        "list": "getdir",
        "chat": "join",
        "exit": "quit",
        "q": "quit",
    },
}

_NOT_PRIVATE = "rooms have no private messages: everybody in a room reads what is said there"
_NO_TOPIC = "rooms have no topic; a room is known by its name"
_NO_AWAY = "nobody is marked as away; /who in a room tells when each was last heard"
_IN_A_ROOM = "you are in no room; chat NAME enters one, and /{} works there"
_AT_THE_PROMPT = "/{} works at the main prompt: /leave goes back there"
_OF_THE_PROMPT = "{} is a command of the main prompt, which comes when no command is given"
_NOTHING_TO_DO = {"msg": _NOT_PRIVATE, "query": _NOT_PRIVATE, "topic": _NO_TOPIC, "away": _NO_AWAY}
ELSEWHERE = {
    "prompt": {
        **_NOTHING_TO_DO,
        **dict.fromkeys(
            ("leave", "part", "switch", "rooms", "mute", "who", "names", "me", "history", "stats"),
            _IN_A_ROOM,
        ),
        **dict.fromkeys(("say", "tail"), "{} is a command for scripts; chat NAME enters a room"),
    },
    "shell": {
        "connect": _OF_THE_PROMPT + "; here --server HOST[:PORT] says which directory to take",
        **dict.fromkeys(("bye", "name", "nick", "quit", "exit"), _OF_THE_PROMPT),
    },
    "chat": {
        **_NOTHING_TO_DO,
        **dict.fromkeys(("connect", "bye"), _AT_THE_PROMPT),
    },
}
_WHERE = {
    "prompt": "at the main prompt",
    "shell": "for scripts, as an argument of the program",
    "chat": "in a room",
}
# A lone line of these in a room was most likely meant for the main prompt.
_MISTAKEN = {
    "quit": "/quit leaves evloop",
    "exit": "/quit leaves evloop",
    "help": "/help lists the commands",
    "leave": "/leave goes back",
    "getdir": "/getdir lists the rooms",
    "connect": "/leave goes back to where connect works",
}
_MISTAKEN_WITH_A_NAME = {
    "chat": "/join {} enters it",
    "join": "/join {} enters it",
    "makeroom": "/makeroom {} makes it",
    "deleteroom": "/deleteroom {} removes it",
}


class UsageError(EvloopError):
    """A command is used wrongly; the sentence says what is right. Exit status 2."""

    exit_status = USAGE


def words_at(door: str) -> list[str]:
    """The command words taken at `door`, in the order of the table; in a room with their `/`."""
    return [("/" if door == "chat" else "") + word for word in _TABLES[door]]


def _known(door: str, word: str) -> tuple[str, Command | None]:
    """The word without case, habits and, at the prompt, its `/`; and its row at `door`."""
    word = word.casefold()
    if door == "prompt":
        word = word.removeprefix("/")
    return word, _TABLES[door].get(ALIASES[door].get(word, word))


def find(door: str, word: str) -> Command:
    """The row of `word` (any case) at `door`; UsageError with a guess when there is none."""
    known, command = _known(door, word)
    if command is not None:
        return command
    slash = "/" if door == "chat" else ""
    if known in ELSEWHERE[door]:
        raise UsageError(f"{slash}{known}: {ELSEWHERE[door][known].format(known)}")
    from difflib import get_close_matches  # late: needed after a typing mistake only

    near = get_close_matches(known[:40], list(_TABLES[door]), 1)
    advice = f"did you mean {slash}{near[0]}?" if near else f"{slash}help lists the commands"
    if door == "chat":
        advice += "; begin with // to send a line that begins with /"
    raise UsageError(f'unknown command "{slash}{quoted(word)}": {advice}')


def is_command(line: str, chatting: bool) -> bool:
    """Whether a typed line is a command and nothing said: what a history file may keep.

    At the prompt those of a room count too, for they come from the file of an earlier run. A key
    that was pasted in the wrong place is none.
    """
    line = line.strip()
    words = line.split()
    if _reads_like_key(words):
        return False
    return _is_command_at("chat", line) or (not chatting and _is_command_at("prompt", line))


def _is_command_at(door: str, line: str) -> bool:
    if door == "chat":
        if not line.startswith("/") or line.startswith("//"):
            return False
        line = line[1:]
    try:
        parsed = parse_line(door, line)
    except UsageError:
        return False
    return parsed is not None and parsed[0].most is not None  # a row with a text is something said


def _reads_like_key(words: list[str]) -> bool:
    """Whether a word has the form of a key's code, right or with a slip, or the end of the line has
    it, in pieces: with a digit, for seven words may have four letters each."""
    end = [group for group in "-".join(words).split("-") if group][-7:]
    return any(_is_code(word.split("-")) for word in words) or (
        _is_code(end) and any(map(str.isdigit, "".join(end)))
    )


def _is_code(groups: list[str]) -> bool:
    return len(groups) == 7 and all(len(group) == 4 and group.isalnum() for group in groups)


def mistaken(line: str) -> str | None:
    """What to type instead of a line of a room that was meant for the main prompt; None: it is no
    such line."""
    words = line.split()
    word = words[0].casefold() if words else ""
    if _reads_like_key(words):
        return "it reads like the key of a sealed room"
    if len(words) == 3 and word == "key" and words[2] in ("--set", "--new", "--forget"):
        return "/leave goes back to where key works"
    if len(words) == 1:
        return _MISTAKEN.get(word)
    if len(words) == 2 and word in _MISTAKEN_WITH_A_NAME:
        return _MISTAKEN_WITH_A_NAME[word].format(quoted(words[1]))
    return None


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


def too_few(word: str, door: str) -> UsageError:
    """The command `word` lacks an argument, which its row takes as optional."""
    return _usage(_TABLES[door][word], "too few arguments")


def parse_arguments(command: Command, words: Iterable[str]) -> tuple[list[str], dict[str, str]]:
    """Sort `words` into arguments and options; UsageError when they do not fit the row.

    After `--` everything is an argument; in a command that says a text, everything from its first
    word on is text. `--help` before that is returned alone: the program's own parser left it.
    """
    arguments: list[str] = []
    options: dict[str, str] = {}
    rest = list(words)
    says = command.most == UNLIMITED
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        if says and len(arguments) > 1:
            arguments += [word, *rest]
            break
        if word == "--":
            arguments += rest
            break
        if says and word in ("--help", "-h"):
            return [], {"--help": ""}
        if name in command.options:
            options[name] = _option_value(command, name, value if equals else None, rest)
        elif word.startswith("--") and word[2:3].isalpha():
            hint = "; behind -- it is text" if says else ""
            raise _usage(command, f'unknown option "{quoted(word)}"{hint}')
        else:
            arguments.append(word)
    if len(arguments) < command.least:
        raise _usage(command, "too few arguments")
    assert command.most is not None  # only commands of a chat have one text argument
    if len(arguments) > command.most:
        raise _usage(command, f'too many arguments from "{quoted(arguments[command.most])}" on')
    return arguments, options


def _option_value(command: Command, name: str, given: str | None, rest: list[str]) -> str:
    """The value of an option, given behind `=` or as the next word; "" where it takes none."""
    choices = command.options[name]
    if choices == MAYBE_NUMBER:
        numbered = given is None and rest and rest[0].replace(".", "", 1).isdigit()
        return rest.pop(0) if numbered else given or ""
    if choices == ():
        if given is not None:
            raise _usage(command, f"{name} takes no value")
        return name
    value = (rest.pop(0) if rest else "") if given is None else given
    if not value or (choices is not None and value not in choices):
        wanted = " or ".join(choices) if choices else "a value"
        raise _usage(command, f'{name} takes {wanted}, not "{quoted(value)}"')
    return value


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
        where = ""
        word = word.removeprefix("/")
        command = _known(door, word)[1]
        if command is None:
            others = (other for other in _TABLES if _known(other, word)[1] is not None)
            other = next(others, door)
            command = find(other, word)  # raises with a guess when it is nowhere
            where = f" ({_WHERE[other]})"
        return [f"  {command.usage}", f"      {command.summary}{where}"]
    rows = [(command.usage, command.summary) for command in _TABLES[door].values()]
    width = min(24, max(len(usage) for usage, _ in rows))
    lines = []
    for usage, summary in rows:
        if len(usage) > width:
            lines += [f"  {usage}", f"  {'':{width}}  {summary}"]
        else:
            lines.append(f"  {usage:{width}}  {summary}")
    return lines
