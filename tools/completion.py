"""Write contrib/completion, for bash, zsh and fish: `python3 -m tools.completion [FOLDER]`.

Made from the table of commands and from the options as argparse has them, so that nothing can be
forgotten. What a shell completes:

- options, with what fits as their value: a file, a network interface, one of some words
- commands, and their own options
- rooms, where a command takes one: `evloop-client getdir` is asked, for 2 seconds at most. Names of
  rooms come from strangers, so no shell may ever expand them.
"""

from __future__ import annotations

import sys
from argparse import Action, ArgumentParser
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from evloop.app.commands import COMMANDS, MAYBE_NUMBER, Command, words_at
from evloop.app.options import make_parser as make_client_parser
from evloop.daemon.options import make_parser as make_server_parser
from tools import completion_shells as shells

FOLDER = Path(__file__).resolve().parents[1] / "contrib" / "completion"
CLIENTS = ("evloop", "evloop-client")
SERVER = "evloop-server"


class Option(NamedTuple):
    """An option: its names; what its value is: "" (it takes none), "file", "interface", "words",
    "any"; the words; what it is for."""

    names: list[str]
    value: str
    words: list[str]
    summary: str


def _value_of(action: Action) -> tuple[str, list[str]]:
    metavar = str(action.metavar or "")
    if action.nargs == 0:
        return "", []
    if action.choices is not None:
        return "words", [str(choice) for choice in action.choices]
    if metavar == "FILE":
        return "file", []
    if metavar == "NAME|ADDRESS":
        return "interface", []
    if "|" in metavar:  # the words themselves: off|HH:MM|iso
        return "words", metavar.split("|")
    return "any", []


def options_of(parser: ArgumentParser) -> list[Option]:
    """All options of a program, in the order of its help."""
    return [
        Option(list(action.option_strings), *_value_of(action), action.help or "")
        for action in parser._actions
        if action.option_strings
    ]


def options_of_command(command: Command) -> list[Option]:
    """Its own options; in the table None is any value, and no words, or perhaps a number, none."""
    found = []
    for name, words in command.options.items():
        if words == MAYBE_NUMBER:
            words = ()
        kind = "any" if words is None else "words" if words else ""
        found.append(Option([name], kind, list(words or ()), ""))
    return found


CLIENT_OPTIONS = options_of(make_client_parser("evloop-client"))
SERVER_OPTIONS = options_of(make_server_parser())
SHELL_COMMANDS = [command for command in COMMANDS if "shell" in command.where]


def taking(completes: str) -> list[str]:
    """The commands whose first argument is such a thing."""
    return [command.word for command in SHELL_COMMANDS if command.completes == completes]


# -- bash ------------------------------------------------------------------------------------------


def _bash_values(options: Iterable[Option], indent: str) -> str:
    """The branches of a `case` on the option before the cursor; flags have none."""
    lines = []
    for option in options:
        act = {
            "file": "_evloop_files",
            "interface": "_evloop_fits $(command ls /sys/class/net 2>/dev/null)",
            "words": f"_evloop_fits {' '.join(option.words)}",
            "any": ":",
        }
        if option.value:
            lines.append(f"{indent}{'|'.join(option.names)}) {act[option.value]}; return 0 ;;")
    return "\n".join(lines)


def _names(options: Iterable[Option], valued: bool = False) -> str:
    return " ".join(name for one in options if one.value or not valued for name in one.names)


def bash() -> str:
    own = [
        f"        {command.word}) own='{_names(options_of_command(command))}' ;;"
        for command in SHELL_COMMANDS
        if command.options
    ]
    of_commands = {
        option.names[0]: option
        for command in SHELL_COMMANDS
        for option in options_of_command(command)
    }
    return shells.BASH.format(
        note=shells.NOTE,
        client_valued=_names([*CLIENT_OPTIONS, *of_commands.values()], valued=True),
        server_valued=_names(SERVER_OPTIONS, valued=True),
        client_options=_names(CLIENT_OPTIONS),
        server_options=_names(SERVER_OPTIONS),
        client_values=_bash_values([*CLIENT_OPTIONS, *of_commands.values()], "        "),
        server_values=_bash_values(SERVER_OPTIONS, "        "),
        own="\n".join(own),
        commands=" ".join(command.word for command in SHELL_COMMANDS),
        rooms="|".join(taking("rooms")),
        help="|".join(taking("commands")),
        prompt=" ".join(words_at("prompt")),
        clients=" ".join(CLIENTS),
        server=SERVER,
    )


# -- zsh -------------------------------------------------------------------------------------------


def _zsh_quoted(text: str) -> str:
    """In single quotes, and in the language of _arguments, where brackets and colons end a part."""
    for char in "\\[]:":
        text = text.replace(char, f"\\{char}")
    return text.replace("'", "'\\''")


def _zsh_option(option: Option) -> str:
    acts = {
        "file": ":file:_files",
        "interface": ":interface:_net_interfaces",
        "words": f":word:({' '.join(_zsh_quoted(word) for word in option.words)})",
        "any": ":value: ",
        "": "",
    }
    summary = f"[{_zsh_quoted(option.summary)}]" if option.summary else ""
    names = [name + ("=" if option.value and name[:2] == "--" else "") for name in option.names]
    alone = f"({' '.join(option.names)})" if len(names) > 1 else ""
    return "\n".join(f"    '{alone}{name}{summary}{acts[option.value]}'" for name in names)


def _zsh_command(command: Command) -> str:
    specs = [_zsh_option(option).strip() for option in options_of_command(command)]
    if command.completes == "rooms":
        specs.append("'1:room:_evloop_rooms'")
    elif command.completes == "commands":
        specs.append(f"'1:command:({' '.join(words_at('prompt'))})'")
    specs.append("'*: : '")
    general = "" if command.word == "say" else ' "$client[@]"'
    return f"        {command.word}) _arguments{general} {' '.join(specs)} ;;"


def zsh() -> str:
    return shells.ZSH.format(
        note=shells.NOTE,
        programs=" ".join((*CLIENTS, SERVER)),
        server=SERVER,
        client_options="\n".join(map(_zsh_option, CLIENT_OPTIONS)),
        server_options="\n".join(map(_zsh_option, SERVER_OPTIONS)),
        commands="\n".join(
            f"    '{command.word}:{_zsh_quoted(command.summary)}'" for command in SHELL_COMMANDS
        ),
        cases="\n".join(map(_zsh_command, SHELL_COMMANDS)),
    )


# -- fish ------------------------------------------------------------------------------------------


def _fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _fish_option(program: str, option: Option, condition: str = "") -> str:
    parts = [f"complete -c {program}"]
    parts += [f"-n {_fish_quoted(condition)}"] if condition else []
    for name in option.names:
        parts.append(f"-l {name[2:]}" if name[:2] == "--" else f"-s {name[1:]}")
    parts += {
        "file": ["-r -F"],
        "interface": ["-x -a '(command ls /sys/class/net 2>/dev/null)'"],
        "words": [f"-x -a {_fish_quoted(' '.join(option.words))}"],
        "any": ["-x"],
        "": [],
    }[option.value]
    parts += [f"-d {_fish_quoted(option.summary)}"] if option.summary else []
    return " ".join(parts)


def fish(program: str) -> str:
    if program == SERVER:
        lines = [shells.NOTE, f"complete -c {program} -f"]
        return "\n".join([*lines, *(_fish_option(program, one) for one in SERVER_OPTIONS), ""])
    of_commands = [one for command in SHELL_COMMANDS for one in options_of_command(command)]
    lines = [
        shells.FISH.format(
            note=shells.NOTE, valued=_names([*CLIENT_OPTIONS, *of_commands], valued=True)
        ),
        f"complete -c {program} -f",
    ]
    lines += [_fish_option(program, one, "not __evloop_at say") for one in CLIENT_OPTIONS]
    for command in SHELL_COMMANDS:
        lines.append(
            f"complete -c {program} -n '__evloop_at'"
            f" -a {command.word} -d {_fish_quoted(command.summary)}"
        )
        at = f"__evloop_at {command.word}"
        lines += [_fish_option(program, one, at) for one in options_of_command(command)]
    for words, offered in (
        (taking("rooms"), "(__evloop_rooms)"),
        (taking("commands"), " ".join(words_at("prompt"))),
    ):
        at = f"__evloop_first_of {' '.join(words)}"
        lines.append(f"complete -c {program} -n '{at}' -a {_fish_quoted(offered)}")
    return "\n".join([*lines, ""])


def files() -> dict[str, str]:
    """Name below contrib/completion -> text."""
    made = {"evloop.bash": bash(), "_evloop": zsh()}
    return {**made, **{f"{program}.fish": fish(program) for program in (*CLIENTS, SERVER)}}


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files().items():
        (folder / name).write_text(text)
        print(folder / name)


if __name__ == "__main__":
    main()
