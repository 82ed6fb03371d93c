"""The client's options: what wins over what, and what is refused."""

from __future__ import annotations

from argparse import HelpFormatter, Namespace
from pathlib import Path
from typing import Any

import pytest

from evloop import __version__
from evloop.app.commands import UsageError
from evloop.app.options import (
    DEFAULTS,
    PROGRAM,
    default_name,
    make_parser,
    parse_escape,
    parse_options,
)
from evloop.base.errors import Refused
from evloop.system.files import keep_name
from evloop.system.process import columns, formatter

ENVIRON = {"USER": "mel"}


def options(*arguments: str, terminal: bool = False, **environ: str) -> Namespace:
    return parse_options(arguments, {**ENVIRON, **environ}, terminal)


def test_option_over_variable_over_default() -> None:
    assert options().server == "", "that of this machine, else one that is found"
    assert options(EVLOOP_SERVER="a:1").server == "a:1"
    assert options("--server", "b:2", EVLOOP_SERVER="a:1").server == "b:2"
    assert options().name == "mel"
    assert options(EVLOOP_NAME="Ann").name == "Ann"
    assert options("--name", "Bob", EVLOOP_NAME="Ann").name == "Bob"
    assert options().ttl == 1 and options(EVLOOP_TTL="4").ttl == 4
    assert options("--ttl", "7", EVLOOP_TTL="4").ttl == 7
    assert options(EVLOOP_INTERFACE="127.0.0.1").interface == "127.0.0.1"
    assert options("--interface", "eth0", EVLOOP_INTERFACE="x").interface == "eth0"
    assert options(EVLOOP_PLAIN="1").plain and not options(EVLOOP_PLAIN="").plain
    assert options("--plain", EVLOOP_PLAIN="0").plain and not options(EVLOOP_PLAIN="0").plain
    assert not any(options(EVLOOP_PLAIN=off).plain for off in ("no", "OFF", "false", " 0 "))
    assert options("--wide").wide and options(EVLOOP_WIDE="1").wide
    assert not options().wide and not options(EVLOOP_WIDE="0").wide


def test_time_stamps_are_for_people() -> None:
    assert options(terminal=True).time == "HH:MM"
    assert options(terminal=False).time == "off"
    assert options("--time", "iso", terminal=False).time == "iso"


def test_a_user_name_that_is_no_chat_name_makes_a_guest() -> None:
    for user in ("", "a b", "x" * 40, "a:b"):
        assert default_name({"USER": user}, False).startswith("guest-")


def test_the_name_given_last_comes_before_the_user_name(tmp_path: Path) -> None:
    environ = {"USER": "student", "XDG_STATE_HOME": str(tmp_path)}
    assert default_name(environ, False) == "student"
    keep_name(environ, "Fay")
    assert default_name(environ, False) == "Fay" and default_name(environ, True) == "student"
    assert parse_options([], environ, True).name == "Fay"
    assert parse_options(["--no-history"], environ, True).name == "student"
    assert parse_options([], {**environ, "EVLOOP_NAME": "Ann"}, True).name == "Ann"
    (tmp_path / "evloop" / "name").write_bytes(b"no name\xff\n")
    assert default_name(environ, False) == "student"


def test_options_may_follow_the_command() -> None:
    got = options("tail", "lab", "--json", "-n", "3", "--server", "a:1")
    assert got.json and got.server == "a:1" and got.command == ["tail", "lab", "-n", "3"]
    got = options("makeroom", "x", "--mode", "plain", "--server=a:1")
    assert got.server == "a:1" and got.command == ["makeroom", "x", "--mode", "plain"]


@pytest.mark.parametrize(
    ("words", "command", "json"),
    [
        (["--", "getdir"], ["getdir"], False),
        (["--json", "--", "getdir"], ["getdir"], True),
        (["--", "getdir", "--json"], ["getdir", "--json"], False),
        (["tail", "--json", "--", "--name"], ["tail", "--name"], True),
        (["say", "lab", "--", "--json"], ["say", "lab", "--", "--json"], False),
        (["--"], [], False),
    ],
)
def test_behind_two_dashes_there_are_no_options(
    words: list[str], command: list[str], json: bool
) -> None:
    got = options(*words)
    assert (got.command, got.json) == (command, json)


def test_what_is_said_is_left_as_it_is() -> None:
    got = options("say", "lab", "use", "--json", "please")
    assert not got.json and got.command == ["say", "lab", "use", "--json", "please"]


@pytest.mark.parametrize(("text", "byte"), [("^]", b"\x1d"), ("^x", b"\x18"), ("Ctrl-G", b"\x07")])
def test_escape_keys(text: str, byte: bytes) -> None:
    assert parse_escape(text) == byte


@pytest.mark.parametrize("text", ["", "x", "^", "^M", "^J", "^C", "^[", "^^^", "]", "^1", "^é"])
def test_escape_keys_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match="--escape"):
        parse_escape(text)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--ttl", "256"], UsageError),
        (["--ttl", "-1"], UsageError),
        (["--ttl", "x"], UsageError),
        (["--time", "noon"], UsageError),
        (["--name", "a:b"], Refused),
        (["--name", "x" * 33], Refused),
    ],
)
def test_values_that_are_refused(arguments: list[str], error: type[Exception]) -> None:
    with pytest.raises(error):
        options(*arguments)


def test_an_unknown_option_is_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        options("--colour", "red")
    assert caught.value.code == 2 and "--colour" in capsys.readouterr().err


def test_the_defaults_are_those_of_the_parser() -> None:
    """Without arguments no parser is made: nobody would notice that they differ."""
    assert vars(make_parser(PROGRAM).parse_args([])) == DEFAULTS


@pytest.mark.parametrize(("given", "wide"), [("40", 40), ("", 80), ("0", 80), ("x", 80)])
def test_help_is_as_wide_as_the_terminal(
    given: str, wide: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", given)
    monkeypatch.setattr("os.get_terminal_size", fail)
    assert columns() == wide


def fail(fd: int) -> None:
    raise OSError(f"{fd} is no terminal")


class Colorful(HelpFormatter):
    """As of Python 3.14: it loads much as soon as it is made."""

    _theme: Any
    _decolor: Any

    def __init__(self, prog: str, width: int) -> None:
        super().__init__(prog, width=width)
        self._set_color(True)

    def _set_color(self, color: object) -> None:
        raise ImportError("this would load dataclasses")

    def shown(self, text: str) -> str:
        return str(self._theme.summary_long_option + self._decolor(text) + self._theme.reset)


def test_no_start_pays_for_the_colors_of_help() -> None:
    made: Any = formatter(Colorful)("evloop-client")
    assert made.shown("text") == "text"


def test_the_version_is_the_same_alone_and_among_others(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for words in (["--version"], ["--json", "--version"]):
        with pytest.raises(SystemExit) as left:
            options(*words)
        assert not left.value.code
        assert capsys.readouterr().out == f"evloop {__version__}\n"


def test_help_and_usage_name_what_was_called(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--help"], ["--nix"]):
        with pytest.raises(SystemExit):
            parse_options(arguments, {}, True, "python3 -m evloop")
        said = capsys.readouterr()
        assert (said.out + said.err).startswith("usage: python3 -m evloop ")


def test_a_key_without_its_certificate_is_no_plain_connection() -> None:
    with pytest.raises(UsageError, match="--tls-key needs --tls-cert"):
        options("--tls-key", "key.pem")


@pytest.mark.parametrize("text", ["^é", "^ß", "^ı", "^ﬁ", "^Ａ", "Ctrl-é", "^😀", "^€"])
def test_an_escape_key_that_is_no_ascii_letter_is_usage(text: str) -> None:
    with pytest.raises(UsageError, match="--escape"):
        parse_escape(text)


def test_what_is_utf_8_is_taken_though_python_has_read_it_as_ascii() -> None:
    """LC_ALL=C without Python's UTF-8 mode: the bytes of each letter come as surrogates."""
    green = "gr\udcc3\udcbcn"
    assert options("say", green, f"{green} ✓").command == ["say", "grün", "grün ✓"]
    assert options("--name", green, "--server", green).name == "grün"
    assert options("--server", green).server == options(EVLOOP_SERVER=green).server == "grün"
    assert options(EVLOOP_NAME=green).name == options(USER=green).name == "grün"


@pytest.mark.parametrize("where", [["say", "ops"], ["--name"], ["--server"]])
def test_what_is_not_utf_8_is_refused_where_it_would_be_said(where: list[str]) -> None:
    with pytest.raises(UsageError, match=r"is not UTF-8 \(byte e9\)"):
        options(*where, "caf\udce9")
    assert options("--tls-ca", "caf\udce9").tls_ca == "caf\udce9"  # the name of a file
