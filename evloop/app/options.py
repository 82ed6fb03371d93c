"""The client's options: command line over `EVLOOP_*` variable over default."""

from __future__ import annotations

import os
from types import SimpleNamespace

from evloop import __version__
from evloop.app.commands import UsageError, help_lines
from evloop.app.limits import TTL_MAX
from evloop.base.addresses import DEFAULT_SERVER
from evloop.base.errors import CLIENT_STATUSES, Refused, status_lines
from evloop.base.names import check_nickname, quoted
from evloop.system.files import kept_name
from evloop.system.process import formatter, parser_kind

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

VERSION = f"evloop {__version__}"
PROGRAM = "evloop-client"
ESCAPE = "^]"  # what telnet taught; bound by no terminal

# What the parser below returns for no arguments, so that the prompt does not wait for it (6 ms).
DEFAULTS: dict[str, Any] = {
    **dict.fromkeys(("server", "name", "interface", "ttl", "relay", "time", "key_file")),
    **dict.fromkeys(("tls_ca", "tls_cert", "tls_key")),
    **dict.fromkeys(
        ("tls", "plain", "slow", "wide", "no_history", "no_announce", "json", "debug"), False
    ),
    "color": "auto",
    "escape": ESCAPE,
    "command": [],
}


def parse_escape(text: str) -> bytes:
    """The control byte of "^]" or "Ctrl-]"; UsageError when it is none, or is needed elsewhere."""
    letter = text.removeprefix("^") if text.startswith("^") else text.removeprefix("Ctrl-")
    known = len(letter) == 1 and letter.isascii() and letter != text
    byte = ord(letter.upper()) ^ 64 if known else 0
    if not 1 <= byte <= 31 or byte in b"\r\n\x03\x1b":
        raise UsageError(f'--escape takes a control character like ^] or ^X, not "{quoted(text)}"')
    return bytes([byte])


def parse_ttl(text: str) -> int:
    """The time to live of multicast: 0 (this machine) to 255; 1 stays on the link."""
    if not (text.isascii() and text.isdigit() and len(text) <= 3) or int(text) > TTL_MAX:
        raise UsageError(f'a TTL is a number from 0 to {TTL_MAX}, not "{quoted(text)}"')
    return int(text)


def parse_relay(text: str) -> str:
    """Whether the directory carries rooms: auto, always or never."""
    if text not in ("auto", "always", "never"):
        raise UsageError(f'--relay takes auto, always or never, not "{quoted(text)}"')
    return text


def is_on(text: str) -> bool:
    """Whether a variable of the environment switches something on: not when empty, 0, no, off."""
    return text.strip().casefold() not in ("", "0", "no", "off", "false")


def text_of(word: str) -> str:
    """`word`, read as UTF-8. In the plain locale C, with Python's UTF-8 mode off, Python reads all
    arguments and variables as ASCII, and the bytes of other letters come as surrogates."""
    if word.isascii():
        return word
    try:
        return word.encode(errors="surrogateescape").decode()
    except UnicodeError:
        return word


def check_text(words: Iterable[str]) -> None:
    """Raise UsageError for what was no text: bytes that are not UTF-8 come as surrogates."""
    for word in words:
        wrong = [char for char in word if "\udc80" <= char <= "\udcff"]
        if wrong:
            shown = word.encode(errors="surrogateescape").decode(errors="replace")
            byte = ord(wrong[0]) - 0xDC00
            raise UsageError(f'"{quoted(shown)}" is not UTF-8 (byte {byte:02x}); it was not taken')


def default_name(environ: Mapping[str, str], no_history: bool) -> str:
    """The name that was given last at a terminal, else $USER if it is one, else guest-xxxx."""
    for name in ("" if no_history else kept_name(environ), text_of(environ.get("USER", ""))):
        try:
            return check_nickname(name)
        except Refused:  # also the empty one
            continue
    return f"guest-{os.urandom(2).hex()}"


def make_parser(program: str) -> ArgumentParser:
    from argparse import REMAINDER, RawDescriptionHelpFormatter

    parser = parser_kind()(
        prog=program,
        allow_abbrev=False,
        usage="%(prog)s [OPTIONS] [COMMAND [ARGUMENT ...]]",
        description="Chat in the rooms of the local network.",
        formatter_class=formatter(RawDescriptionHelpFormatter),
        epilog="commands (without one: a prompt, or commands from a pipe):\n"
        + "\n".join([*help_lines("shell"), "", *status_lines(CLIENT_STATUSES)]),
    )
    parser._optionals.title = "options"  # Python 3.9 calls them "optional arguments"
    add = parser.add_argument
    add(
        "--server",
        metavar="HOST[:PORT],...",
        help=f"the directory; more are tried in their order (default: {DEFAULT_SERVER}, else the"
        " one that answers on the network)",
    )
    add("--name", metavar="NAME", help="your chat name (default: the last one given, else $USER)")
    add("--interface", metavar="NAME|ADDRESS", help="the network interface for multicast")
    add("--ttl", metavar="N", help="how far multicast may go (default 1: this link)")
    add(
        "--relay",
        choices=("auto", "always", "never"),
        help="whether the directory carries the room where multicast does not (default auto)",
    )
    add("--key-file", metavar="FILE", help="the key of the sealed room, in its first line")
    add("--tls", action="store_true", help="speak TLS with the directory; trust it on first use")
    add("--tls-ca", metavar="FILE", help="trust only directories that this authority signed (PEM)")
    add("--tls-cert", metavar="FILE", help="show this certificate to a directory that asks (PEM)")
    add("--tls-key", metavar="FILE", help="its key, where it is not in the same file")
    add("--plain", action="store_true", help="no line editor: for screen readers, slow terminals")
    add("--slow", action="store_true", help="draw as for a slow line")
    add("--wide", action="store_true", help="Greek, arrows... take two columns (CJK terminals)")
    add("--time", metavar="off|HH:MM|iso", help="time stamps (default HH:MM, off in pipes)")
    add("--color", choices=("auto", "always", "never"), default="auto")
    add("--escape", metavar="^X", default=ESCAPE, help=f"leaves the room (default {ESCAPE})")
    add("--no-history", action="store_true", help="keep no history of typed lines, and no name")
    add("--no-announce", action="store_true", help="host unannounced (python3 -m evloop)")
    add("--json", action="store_true", help="one JSON object a line")
    add("--debug", action="store_true", help="show the trace of an internal error")
    add("--version", action="version", version=VERSION)
    add("command", nargs=REMAINDER, metavar="COMMAND", help="see below")
    return parser


def _take_options(parser: ArgumentParser, options: Namespace) -> None:
    """Take options after the command too: `tail lab --json`. The text of `say` is left as it is.

    Behind `--` there are no options (POSIX, Utility Syntax Guidelines, 10); behind the first, the
    command may come.
    """
    if options.command[:1] == ["--"]:
        del options.command[0]
        return
    words = options.command
    if not words or words[0].casefold() == "say":
        return
    takes = {name: action.nargs != 0 for name, action in parser._option_string_actions.items()}
    if words[0].casefold() == "irc":  # behind it these are the door's own certificate
        del takes["--tls-cert"], takes["--tls-key"]
    found, rest = [], words[:1]
    following = iter(words[1:])
    for word in following:
        if word == "--":
            rest.extend(following)
        elif word.partition("=")[0] in takes:
            found.append(word)
            if "=" not in word and takes[word]:
                found.extend([value] if (value := next(following, None)) is not None else [])
        else:
            rest.append(word)
    parser.parse_args(found, options)
    options.command = rest


def _parse(arguments: Sequence[str], program: str) -> Namespace:
    if not arguments:
        defaults: Any = SimpleNamespace(**DEFAULTS)
        options: Namespace = defaults
        return options
    parser = make_parser(program)
    options = parser.parse_args(arguments)
    _take_options(parser, options)
    return options


def parse_options(
    arguments: Sequence[str],
    environ: Mapping[str, str],
    terminal: bool,
    program: str = PROGRAM,
) -> Namespace:
    """The options, complete and checked; `program` is the name that help and usage show.

    Leaves with status 2 as argparse does; raises UsageError or Refused (a chat name).
    """
    options = _parse(arguments, program)
    options.server = text_of(options.server or environ.get("EVLOOP_SERVER") or "")
    name = options.name if options.name is not None else environ.get("EVLOOP_NAME")
    name = text_of(name or "")
    options.command = list(map(text_of, options.command))
    # Names of files may be any bytes, but these words are sent to others or shown to them.
    check_text((*options.command, name, options.server))
    options.name = check_nickname(name) if name else default_name(environ, options.no_history)
    options.interface = options.interface or environ.get("EVLOOP_INTERFACE") or None
    options.ttl = parse_ttl(options.ttl or environ.get("EVLOOP_TTL") or "1")
    options.relay = parse_relay(options.relay or environ.get("EVLOOP_RELAY") or "auto")
    # The option means the room that is entered, the variable only rooms that are sealed.
    options.key_file_of_sealed = environ.get("EVLOOP_KEY_FILE") or None
    options.plain = options.plain or is_on(environ.get("EVLOOP_PLAIN", ""))
    options.wide = options.wide or is_on(environ.get("EVLOOP_WIDE", ""))
    # All commands but `chat` print something and end: there is no line to edit.
    options.prints = bool(options.command) and options.command[0].casefold() != "chat"
    options.escape = parse_escape(options.escape)
    if options.tls_key and not options.tls_cert:
        raise UsageError("--tls-key needs --tls-cert, the certificate that it belongs to")
    if options.time is None:
        options.time = "HH:MM" if terminal else "off"
    elif options.time not in ("off", "HH:MM", "iso"):
        raise UsageError(f'--time takes off, HH:MM or iso, not "{quoted(options.time)}"')
    return options
