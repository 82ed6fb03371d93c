"""Every example of docs/directory-protocol.md is what a real server says, byte by byte."""

from __future__ import annotations

import random
import re
import signal
import socket
import struct
from pathlib import Path
from typing import Any

import pytest

from evloop.daemon.dispatcher import HANDLERS
from tests.house.pages import Page
from tests.support.pairs import both
from tests.support.processes import (
    Crew,
    Program,
    Server,
)
from tests.support.rpc import Wire
from tests.support.sources import ROOT

PAGE = Page(ROOT / "docs" / "directory-protocol.md")
REPLY_S = 30.0  # far above any honest wait

STARTED = "# a server started with "
TAKEN = ", while somebody else is connected"
TERM = "# the server gets SIGTERM"
FREE_PORT_MIN = 25_000  # the server picks places with ports from here on

# What differs from run to run, and what stands for it in a comparison.
_MASKS = (
    (re.compile(r'"made":\d+'), '"made":0'),
    (re.compile(r'"server":"evloop/[^"]+"'), '"server":"evloop/"'),
    (re.compile(r'"id":"[0-9a-f]{16}"'), '"id":""'),
    (re.compile(r'"token":"[0-9a-f]{32}"}}$'), '"token":""}}'),
)
_PLACE = re.compile(r'"address":"239\.255\.\d+\.\d+","port":(\d+)')
_TOKEN = re.compile(r'"token":"([0-9a-f]{32})"')


def masked(text: str) -> str:
    for pattern, instead in _MASKS:
        text = pattern.sub(instead, text)
    return _PLACE.sub(lambda place: place[0] if int(place[1]) < FREE_PORT_MIN else "*", text)


def joined(block: list[str]) -> list[str]:
    """The lines of a block, those that continue another joined with it."""
    lines: list[str] = []
    for line in block:
        if line.startswith("  "):
            lines[-1] += line[2:]
        else:
            lines.append(line)
    return lines


EXAMPLES = [joined(block) for kind, block in PAGE.blocks if kind == "frames"]
COMMON = [lines for lines in EXAMPLES if not lines[0].startswith("#")]
SPECIAL = [lines for lines in EXAMPLES if lines[0].startswith("#")]


class Talk:
    """One connection: sends what the page says, and reads frame by frame."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._sock = socket.create_connection(("127.0.0.1", server.port), timeout=REPLY_S)
        self._read = self._sock.makefile("rb")
        self._tokens: dict[str, str] = {}  # of the page -> of this server

    def play(self, lines: list[str]) -> None:
        try:
            for line in lines:
                if line.startswith("> raw "):
                    self._sock.sendall(line[6:].encode())
                elif line.startswith("> "):
                    self._send(line[2:])
                elif line.startswith("< "):
                    self._expect(line[2:])
                else:
                    assert line == TERM, line
                    self._server.signal(signal.SIGTERM)
            self._end()
        finally:
            self._read.close()
            self._sock.close()

    def _send(self, text: str) -> None:
        for ours, theirs in self._tokens.items():
            text = text.replace(ours, theirs)
        payload = text.encode()
        self._sock.sendall(struct.pack("!I", len(payload)) + payload)

    def _frame(self) -> str | None:
        header = self._read.read(4)
        if not header:
            return None
        (length,) = struct.unpack("!I", header)
        return self._read.read(length).decode()

    def _expect(self, text: str) -> None:
        frame = self._frame()
        assert frame is not None, f"the server closed instead of saying {text}"
        assert masked(frame) == masked(text)
        self._tokens.update(both(_TOKEN.findall(text), _TOKEN.findall(frame)))

    def _end(self) -> None:
        """The page has told all that the server says."""
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:  # it has closed already
            pass
        assert self._frame() is None


def test_the_examples_one_after_another(crew: Crew, tmp_path: Path) -> None:
    server = crew.server("--state", str(tmp_path / "rooms.db"))
    for lines in COMMON:
        Talk(server).play(lines)


@pytest.mark.parametrize("lines", SPECIAL, ids=lambda lines: lines[0])
def test_an_example_with_a_server_of_its_own(crew: Crew, tmp_path: Path, lines: list[str]) -> None:
    first, *rest = lines
    assert first.startswith(STARTED), first
    options = first.removeprefix(STARTED).removesuffix(TAKEN).split()
    if "FILE" in options:
        from tests.support.tls_files import Files

        files = Files(tmp_path)
        options[options.index("FILE")] = files.cert
        options += ["--tls-key", files.key]
    if "--memory" not in options:
        options += ["--state", str(tmp_path / "rooms.db")]
    server = crew.server(*options)
    if first.endswith(TAKEN):
        with Wire(server.port) as other:
            other.result("ping")
            Talk(server).play(rest)
    else:
        Talk(server).play(rest)


class Follower:
    """Keeps the list of rooms by the recipe of the page: whatever comes, in the order it comes."""

    def __init__(self, wire: Wire) -> None:
        self.rooms: dict[str, str] = {}  # name -> address
        self._wire = wire
        self._wire.result("watch")

    def page(self, after: str | None) -> str | None:
        """Read one page; return what to ask on after."""
        self._wire.send(self._wire.frame("getdir", limit=3, **({"after": after} if after else {})))
        following: str | None = self._take_until_reply()["next"]
        return following

    def catch_up(self) -> None:
        """Read all that was told before now."""
        self._wire.send(self._wire.frame("ping"))
        self._take_until_reply()

    def _take_until_reply(self) -> dict[str, Any]:
        while True:
            message = self._wire.receive()
            assert message is not None
            if "id" in message:
                result: dict[str, Any] = message["result"]
                for room in result.get("rooms", []):
                    self.rooms[room["name"]] = room["address"]
                return result
            room = message["params"]["room"]
            if message["method"] == "room_made":
                self.rooms[room["name"]] = room["address"]
            else:
                self.rooms.pop(room["name"], None)  # its page may be still to come


@pytest.mark.parametrize("seed", range(5))
def test_the_recipe_gives_a_list_that_is_true(crew: Crew, seed: int) -> None:
    """Somebody makes and deletes rooms, those of one name again and again, around each page."""
    rng = random.Random(seed)
    server = crew.server()
    with Wire(server.port) as maker, Wire(server.port) as reader:

        def change() -> None:
            for _ in range(rng.randint(0, 6)):
                name = f"room{rng.randint(0, 19):02}"
                if "error" in maker.call("deleteroom", name=name):
                    maker.result("makeroom", name=name)

        change()
        change()
        follower = Follower(reader)
        change()
        pages, after = 1, follower.page(None)
        while after is not None:
            change()
            pages, after = pages + 1, follower.page(after)
        change()
        follower.catch_up()
        assert follower.rooms == {room["name"]: room["address"] for room in maker.rooms()}
        assert pages > 1


def test_every_method_has_an_example() -> None:
    """But stats, whose figures are never twice the same."""
    asked = {
        method
        for lines in EXAMPLES
        for line in lines
        if line.startswith("> ")
        for method in re.findall(r'"method":"(\w+)"', line)
    }
    assert asked >= set(HANDLERS) - {"stats"}


def test_the_lengths_that_the_page_shows_are_right() -> None:
    shown = [line for kind, block in PAGE.blocks if kind == "wire" for line in block]
    assert len(shown) > 1
    for line in shown:
        match = re.fullmatch(r"(?:client|server)  ((?:[0-9a-f]{2} ?){4})  (\{.*\})", line)
        assert match is not None, line
        assert int.from_bytes(bytes.fromhex(match[1]), "big") == len(match[2].encode()), line


def test_the_lines_for_the_shell_are_commands_that_work(crew: Crew) -> None:
    """The bytes that `printf` makes are a request, whatever program carries them."""
    (command,) = [line[2:] for _, block in PAGE.blocks for line in block if "| nc" in line]
    printing = command.partition(" |")[0]
    made = crew.finish(crew.add(Program(["sh", "-c", printing]))).out_bytes
    server = crew.server()
    with socket.create_connection(("127.0.0.1", server.port), timeout=REPLY_S) as sock:
        sock.sendall(made)
        sock.shutdown(socket.SHUT_WR)
        with sock.makefile("rb") as answer:
            assert answer.read()[4:] == b'{"jsonrpc":"2.0","id":1,"result":{}}'
