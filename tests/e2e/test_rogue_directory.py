"""The client at a directory that lies, errs or talks to the terminal: clear words, no crash."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from evloop.base.errors import FAILED, MISMATCH
from evloop.base.names import display
from evloop.framing import FrameDecoder, pack_frame

ROOT = Path(__file__).parents[2]
PATIENCE_S = 20.0
HELLO = {"server": "rogue/1", "protocol": 1, "version": 3}
ROOM = {"name": "lab", "address": "239.255.7.1", "port": 5751, "mode": "reliable", "made": 1}
EVIL = "\x1b[2J\nMel: forged\x9b\u202e"

Answers = dict[str, Any]


class Rogue:
    """A directory of few words: `answers` maps a method to its result, or to whole messages."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(PATIENCE_S)

    def run(self, answers: Answers, *arguments: str, typed: str = "") -> tuple[int, str, str]:
        """A client at it: exit status, stdout, stderr."""
        host, port = self.listener.getsockname()
        client = subprocess.Popen(
            [sys.executable, "-m", "evloop.client", "--server", f"{host}:{port}", *arguments],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "USER": "mel"},
        )
        assert client.stdin is not None
        client.stdin.write(typed.encode())
        client.stdin.close()
        client.stdin = None
        peer, _ = self.listener.accept()
        with peer:
            peer.settimeout(PATIENCE_S)
            self.serve(peer, {"hello": HELLO, "watch": {"version": 3}, **answers})
        out, err = client.communicate(timeout=PATIENCE_S)
        return client.returncode, out.decode(), err.decode()

    def serve(self, peer: socket.socket, answers: Answers) -> None:
        decoder = FrameDecoder()
        while data := self.receive(peer):
            decoder.feed(data)
            while (frame := decoder.next_frame()) is not None:
                request = json.loads(frame)
                answer = answers.get(request["method"], {})
                replies = answer(request) if callable(answer) else [reply(request, answer)]
                try:
                    peer.sendall(b"".join(pack_frame(json.dumps(it).encode()) for it in replies))
                except OSError:  # the client has had enough
                    return

    @staticmethod
    def receive(peer: socket.socket) -> bytes:
        try:
            return peer.recv(1 << 16)
        except ConnectionResetError:
            return b""


def reply(request: Any, result: object) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": request["id"], "result": result}


def refusal(message: str, code: int = 99) -> Callable[[Any], list[Any]]:
    def answer(request: Any) -> list[Any]:
        error = {"code": code, "message": message}
        return [{"jsonrpc": "2.0", "id": request["id"], "error": error}]

    return answer


def notified(method: str, params: object) -> Callable[[Any], list[Any]]:
    """A notification, then an empty list of rooms."""

    def answer(request: Any) -> list[Any]:
        return [
            {"jsonrpc": "2.0", "method": method, "params": params},
            reply(request, {"version": 3, "rooms": [], "next": None}),
        ]

    return answer


@pytest.fixture
def rogue() -> Iterator[Rogue]:
    rogue = Rogue()
    yield rogue
    rogue.listener.close()


@pytest.mark.parametrize(
    "answers",
    [
        {"hello": {"protocol": 1}},
        {"hello": {"protocol": 1, "version": None}},
        {"hello": {"protocol": 1, "version": "3"}},
        {"hello": {"protocol": "\x1b[2J", "version": 3}},
        {"getdir": {}},
        {"getdir": []},
        {"getdir": {"version": 3, "rooms": [7], "next": None}},
        {"getdir": {"version": 3, "rooms": [], "next": "a"}},
        {"getdir": lambda request: [{"jsonrpc": "2.0", "id": EVIL, "result": {}}]},
        {"getdir": notified("room_made", {})},
    ],
    ids=lambda answers: json.dumps(answers, default=lambda _: "...")[:60],
)
def test_who_is_no_directory_is_said_to_be_none(rogue: Rogue, answers: Answers) -> None:
    status, out, err = rogue.run(answers, "getdir")
    assert (status, out) == (MISMATCH, "")
    assert err.startswith("evloop: getdir: ") and err.count("\n") == 1, err
    assert display(err.removesuffix("\n")) == err.removesuffix("\n")


def test_a_list_without_end_ends(rogue: Rogue) -> None:
    page = {"version": 3, "rooms": [], "next": "a"}
    status, _, err = rogue.run({"getdir": page}, "getdir")
    assert status == MISMATCH and "does not end" in err


@pytest.mark.parametrize("door", [{"getdir": refusal(EVIL)}, {"hello": refusal(EVIL)}])
def test_what_a_directory_says_does_not_act_on_the_terminal(rogue: Rogue, door: Answers) -> None:
    status, _, err = rogue.run(door, "getdir")
    assert status == FAILED
    assert err == "evloop: getdir: ^[[2J^JMel: forged\ufffd\ufffd\n"


def test_a_room_of_a_directory_does_not_act_on_the_terminal(rogue: Rogue) -> None:
    room = {**ROOM, "name": EVIL, "address": EVIL, "members": 1}
    page = {"version": 3, "rooms": [room], "next": None}
    status, out, err = rogue.run({"getdir": page, "makeroom": {"version": 4, "room": room}},
                                 typed="connect\ngetdir\nmakeroom x\n")  # fmt: skip
    assert (status, err) == (0, "")
    for line in out.removesuffix("\n").split("\n"):
        assert display(line) == line


def test_a_broken_notification_costs_the_connection_and_not_the_client(rogue: Rogue) -> None:
    status, out, err = rogue.run(
        {"getdir": notified("room_made", {})}, typed="connect\ngetdir\nname\n"
    )
    assert (status, out) == (MISMATCH, "mel\n")
    assert "evloop: getdir: " in err and "internal error" not in err
