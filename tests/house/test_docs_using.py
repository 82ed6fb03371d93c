"""The pages for users are complete: what the code has stands there, and the reverse.

Commands, options, variables, exit codes, JSON objects, keys, counters, figures and log events are
taken from the code's own objects, or from its syntax trees where it has none.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from evloop.app.commands import COMMANDS
from evloop.app.options import parse_options as parse_client_options
from evloop.app.prompt import HANDLERS
from evloop.app.view import COUNTED, EVENTS
from evloop.base import errors
from evloop.base.errors import CANT_CREATE, FAILED, INTERNAL, MISMATCH, USAGE
from evloop.daemon.console import ANSWERS
from evloop.daemon.metrics import (
    CLUSTER_COUNTERS,
    CLUSTER_GAUGES,
    COUNTERS,
    GAUGES,
    Metrics,
)
from evloop.daemon.options import parse_options as parse_server_options
from evloop.directory.protocol import RoomEntry
from evloop.room.events import ME, TABLE, TEXT, Said
from evloop.room.plain import PlainSession
from evloop.room.reliable.session import RoomSession
from evloop.terminal import report
from evloop.terminal.editor import COMMANDS as KEYS
from evloop.terminal.editor import SEARCHING, SWITCHES
from evloop.terminal.line import MOTIONS
from tests.support.sources import (
    PACKAGE,
    ROOT,
    nodes_of,
    tree_of,
)

DOCS = ROOT / "docs"
USING = (DOCS / "using.md").read_text()
OPERATING = (DOCS / "operating.md").read_text()
PAGES = ["using", "reach", "operating", "troubleshooting", "terminal", "performance"]
FILES = sorted(PACKAGE.rglob("*.py"))


def section(page: str, heading: str) -> str:
    """The text below a heading, up to the next one that is not deeper."""
    level = heading.index(" ")
    start = page.index(f"\n{heading}\n") + len(heading) + 2
    end = re.search(rf"^#{{1,{level}}} ", page[start:], re.MULTILINE)
    return page[start : start + end.start()] if end else page[start:]


def bullets(text: str) -> list[str]:
    """The items of a list, each on one line."""
    items = re.findall(r"^- (.*(?:\n  .*)*)", text, re.MULTILINE)
    return [" ".join(item.split()) for item in items]


def first_cells(text: str) -> list[str]:
    """The first column of a table, without its head."""
    rows = re.findall(r"^\| (.*?) \|", text, re.MULTILINE)
    return rows[1:]


def code_words(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


# -- commands --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "door, heading",
    [
        ("prompt", "## Commands of the main prompt"),
        ("chat", "## Commands in a room"),
        ("shell", "## Commands for scripts"),
    ],
)
def test_every_command_is_described(door: str, heading: str) -> None:
    described = {code_words(item)[0]: item for item in bullets(section(USING, heading))}
    rows = {row.usage: row for row in COMMANDS if door in row.where}
    assert set(described) == set(rows)
    for usage, row in rows.items():
        for option, choices in row.options.items():
            assert option in described[usage], usage
            for choice in choices or ():
                assert choice in USING, choice


def test_every_command_of_the_prompt_has_a_handler() -> None:
    """The table that the page was held against is the one that is run."""
    assert {row.word for row in COMMANDS if "prompt" in row.where} == set(HANDLERS)


def test_every_command_of_the_console_is_described() -> None:
    described = {code_words(item)[0] for item in bullets(section(OPERATING, "## Console"))}
    assert described == {usage.partition("  ")[0] for usage, _ in ANSWERS.values()}


# -- options and variables -------------------------------------------------------------------------


class Caught(Exception):
    """A parser, caught when it was about to parse."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        super().__init__()
        self.parser = parser


def parser_of(program: str, monkeypatch: pytest.MonkeyPatch) -> argparse.ArgumentParser:
    def catch(parser: argparse.ArgumentParser, *_: object) -> Any:
        raise Caught(parser)

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", catch)
    with pytest.raises(Caught) as caught:
        if program == "client":
            parse_client_options(["--debug"], {}, False)
        else:
            parse_server_options(["--debug"])
    return caught.value.parser


@pytest.mark.parametrize("program, page", [("client", USING), ("server", OPERATING)])
def test_every_option_is_described(
    program: str, page: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    parser = parser_of(program, monkeypatch)
    described: dict[str, str] = {}
    for item in bullets(section(page, "## Options")):
        head, _, text = item.partition(": ")
        for words in code_words(head):
            name, _, value = words.partition(" ")
            described[name] = value + " " + text
    options = {name: action for action in parser._actions for name in action.option_strings}
    assert set(described) == set(options)
    for name, action in options.items():
        if action.nargs == 0:
            assert described[name].startswith(" "), f"{name} takes no value"
        elif action.choices is None:
            assert described[name].startswith(f"{action.metavar} "), name
            if isinstance(action.default, int):
                assert re.search(rf"default {action.default}\b", described[name]), name
        else:
            assert set(action.choices) <= set(code_words(described[name])), name


def _is_environment(node: ast.expr) -> bool:
    name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
    return name in ("environ", "environment")


def _asked(path: Path) -> Iterator[str]:
    """The variables of the environment that a file of the code reads."""
    tree = tree_of(path)
    loops: dict[str, list[str]] = {}  # of `for variable in ("LC_ALL", ...)`
    for node in ast.walk(tree):
        if isinstance(node, ast.For) and isinstance(node.target, ast.Name):
            with contextlib.suppress(ValueError, TypeError):
                loops[node.target.id] = [str(word) for word in ast.literal_eval(node.iter)]
    for node in ast.walk(tree):
        argument: ast.expr | None = None
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if node.func.attr in ("get", "pop") and _is_environment(node.func.value):
                argument = node.args[0]
            elif node.func.attr == "expanduser":
                yield "HOME"
        elif isinstance(node, ast.Subscript) and _is_environment(node.value):
            argument = node.slice
        if isinstance(argument, ast.Constant):
            yield str(argument.value)
        elif isinstance(argument, ast.Name):
            yield from loops[argument.id]


def described_variables(page: str) -> set[str]:
    return {code_words(item)[0] for item in bullets(section(page, "## Variables"))}


def test_every_variable_is_described() -> None:
    read = {name for path in FILES for name in _asked(path)}
    assert {"EVLOOP_TTL", "LC_CTYPE", "LISTEN_FDS", "HOME", "NO_COLOR"} <= read
    assert described_variables(USING) | described_variables(OPERATING) == read


class Watched(dict[str, str]):
    """An environment that knows what it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: set[str] = set()

    def get(self, key: str, default: Any = None) -> Any:
        self.asked.add(key)
        return super().get(key, default)


def test_the_variables_of_the_client_are_on_its_page() -> None:
    environ = Watched()
    parse_client_options([], environ, False)
    assert "EVLOOP_SERVER" in environ.asked
    assert environ.asked <= described_variables(USING)
    assert not {name for name in described_variables(OPERATING) if name.startswith("EVLOOP_")}


# -- exit codes ------------------------------------------------------------------------------------


def exit_statuses() -> set[int]:
    """Those of the table in base/errors.py, which also holds the codes of the protocol."""
    text = (ROOT / "evloop" / "base" / "errors.py").read_text()
    table = text[text.index("# Exit statuses") : text.index("# What --help")]
    names = re.findall(r"\b[A-Z][A-Z_]+\b(?=[A-Z_, ]* =)", table)
    assert len(names) >= 11
    return {getattr(errors, name) for name in names}


def test_every_exit_code_of_the_client_is_described() -> None:
    codes = {0, *exit_statuses()} - {CANT_CREATE}  # it keeps no rooms
    described = first_cells(section(USING, "## Exit codes"))
    assert described == [str(code) for code in sorted(codes)]


def test_every_exit_code_of_the_server_is_described() -> None:
    codes = {0, FAILED, USAGE, INTERNAL, CANT_CREATE, MISMATCH}
    described = first_cells(section(OPERATING, "## Exit codes"))
    assert described == [str(code) for code in sorted(codes)]


# -- JSON ------------------------------------------------------------------------------------------

SENDER = bytes(range(8))


def _fields(line: str) -> set[str]:
    import json

    return set(json.loads(line))


def _presence(kind: str) -> str:
    rest = {"left": ("bye",), "renamed": ("New",), "lost": (2,), "conflict": (7,)}.get(kind, ())
    return report.json_presence("lab", TABLE[kind](kind, SENDER, "Mel", *rest))


def json_objects() -> dict[str, set[str]]:
    """type -> the fields that the code gives it."""
    found: dict[str, set[str]] = {}
    for kind in (TEXT, ME):
        for mark in ("", "late", "plain", "history"):
            event = Said("message", SENDER, 1, "Mel", kind, "hello", 0, mark, False)
            line = report.json_message("lab", event, kind == ME, "2026-11-22T12:01:07.412Z")
            found.setdefault("message", set()).update(_fields(line))
    for name in EVENTS:
        if name != "message" and "sender" in TABLE[name]._fields:  # others are told to people only
            found[name] = _fields(_presence(name))
    room = RoomEntry("lab", "239.255.7.1", 5751, "reliable", 0, "", b"")
    found["room"] = _fields(report.json_line("room", **report.room_object(room, 0)))
    for node in (node for path in FILES for node in nodes_of(path)):
        if (
            isinstance(node, ast.Call)
            and getattr(node.func, "attr", getattr(node.func, "id", "")) == "json_line"
            and isinstance(node.args[0], ast.Constant)
        ):
            keywords = {word.arg for word in node.keywords if word.arg is not None}
            found.setdefault(str(node.args[0].value), {"v", "type"}).update(keywords)
    return found


def test_every_json_object_and_field_is_described() -> None:
    text = section(USING, "## JSON")
    described = {
        name: {cell.strip("`") for cell in first_cells(section(USING, f"### `{name}`"))}
        for name in re.findall(r"^### `(\w+)`$", text, re.MULTILINE)
    }
    assert described == json_objects()


@pytest.mark.parametrize("mark", sorted(report.MARKS))
def test_every_mark_is_described(mark: str) -> None:
    assert f"`{mark}`" in section(USING, "### `message`")


# -- keys, counters, figures, log ------------------------------------------------------------------


def test_every_key_is_described() -> None:
    cells = " ".join(first_cells(section(USING, "## Keys")))
    described = {word.casefold() for word in code_words(cells)}
    keys = {*KEYS, *SEARCHING, *SWITCHES, *MOTIONS}
    names = {"ctrl-]" if name == "leave" else name for name in keys}
    assert described == names


def test_every_counter_of_stats_is_described() -> None:
    described = {cell.strip("`") for cell in first_cells(section(USING, "## What /stats shows"))}
    sessions: Any = (RoomSession, PlainSession)
    counted = set()
    for kind in sessions:
        session = kind(
            place="239.255.7.1:5751", sender_id=SENDER, nickname="Mel", rng=Random(1), now=0.0
        )
        counted |= set(session.stats())
    sockets = {"send_errors", "dropped_by_kernel", "receive_buffer_bytes"}
    sockets |= {"relayed_in", "relayed_out", "relay_dropped"}
    assert described == counted | sockets | {"dropped_own"} | {*COUNTED.values(), "ignored"}


def test_every_figure_of_the_server_is_described() -> None:
    text = section(OPERATING, "## Figures")
    head, _, lag = text.partition("`lag` tells")
    assert {cell.strip("`") for cell in first_cells(head)} == {
        *(*COUNTERS, *GAUGES, *CLUSTER_COUNTERS, *CLUSTER_GAUGES)
    }
    fields = Metrics(dict).figures()["lag"]
    assert isinstance(fields, dict)
    assert {cell.strip("`") for cell in first_cells(lag)} == set(fields)


def _word(part: ast.expr) -> str:
    """A piece of an f-string as the page writes it: `quoted(name)` is NAME."""
    if isinstance(part, ast.Constant):
        return str(part.value)
    names = [node.id for node in ast.walk(part) if isinstance(node, ast.Name)]
    return names[-1].upper()


def test_every_log_event_is_described() -> None:
    described = {code_words(item)[0] for item in bullets(section(OPERATING, "## Log"))}
    logged = set()
    for node in (node for path in FILES for node in nodes_of(path)):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        for keyword in node.keywords:  # of a change, logged when it is on the disk
            if keyword.arg == "logged" and isinstance(keyword.value, ast.Constant):
                logged.add(str(keyword.value.value))
        name, of = node.func.attr, ast.unparse(node.func.value)
        if name in ("add", "remove") and of.endswith("group_commit"):
            texts = [one for one in ast.walk(node.args[1]) if isinstance(one, ast.Constant)]
            logged.update(str(one.value) for one in texts)
        logs = name in ("error", "warning", "notice", "info", "debug") and of.endswith("log")
        # A connection that ends for a fault of its peer is logged by `blame`.
        for argument in node.args[:1] if logs else node.args[1:2] if name == "blame" else []:
            if isinstance(argument, ast.Constant):
                logged.add(str(argument.value))
            elif isinstance(argument, ast.JoinedStr):  # what is put in stands there in capitals
                logged.add("".join(_word(part) for part in argument.values))
    assert {"turned away", "broken", "stopping"} <= logged
    assert described == logged


# -- quoted messages -------------------------------------------------------------------------------

NOT_OURS = (
    os.strerror(errno.ECONNREFUSED),
    os.strerror(errno.EADDRINUSE),
    "Name or service not known",  # getaddrinfo's
    "TypeError",  # Python's, of versions that are too old
    "No module named evloop",
)


def _quoted_messages() -> list[str]:
    """The pieces of messages in the bold part of each symptom, without what stands for others."""
    text = (DOCS / "troubleshooting.md").read_text()
    pieces = []
    for symptom in re.findall(r"^\*\*(.+?)\*\*", text, re.MULTILINE | re.DOTALL):
        for words in code_words(" ".join(symptom.split())):
            pieces += re.split(r"\.\.\.|;|\bN\b|\bMel\b|\blab\b", words)
    return sorted({piece.strip() for piece in pieces if len(piece.strip()) > 5})


@pytest.fixture(scope="module")
def sentences() -> str:
    """All text of the code: its string constants, an f-string's pieces among them."""
    nodes = (node for path in FILES for node in nodes_of(path))
    constants = (node.value for node in nodes if isinstance(node, ast.Constant))
    return "\n".join(text for text in constants if isinstance(text, str)).replace("_", " ")


@pytest.mark.parametrize("piece", _quoted_messages())
def test_every_quoted_message_is_one_of_the_code(piece: str, sentences: str) -> None:
    known = piece in sentences or any(piece in words for words in NOT_OURS)
    assert known or re.fullmatch(r"Mel~\w+|python3 .*|--[a-z-]+", piece)


def test_enough_messages_are_quoted() -> None:
    assert len(_quoted_messages()) > 25


# -- the pages themselves --------------------------------------------------------------------------


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.strip().casefold()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES)
def test_lines_and_links(page: str) -> None:
    text = (DOCS / f"{page}.md").read_text()
    text = re.sub(r"<!-- bench:begin.*bench:end -->", "", text, flags=re.DOTALL)
    assert [line for line in text.splitlines() if len(line) > 100 or line != line.rstrip()] == []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = target.partition("#")
        if path.startswith("https:"):
            continue
        file = (DOCS / path) if path else DOCS / f"{page}.md"
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
            assert anchor in map(_anchor, headings), target
