"""Members that the directory carries, as real processes: one is stopped for a minute and goes on,
one is behind a line of 3 kB/s, and a stranger enters with another's id and floods."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.live import ROOT, Caller, Process, request

STOPPED_S = 60.0
LINES = 120
PATIENCE_S = 60.0
SLOW_BYTES_PER_S = 3_000
SLOW_LINES_PER_S = 5
SLOW_TALK_S = 15.0
SLOW_CHARS = 200
FLOOD_BYTES = 10_000_000
FLOOD_LINES_MAX = 60
ROOM = f"stopped-{os.getpid()}"


class Client:
    """`evloop-client` that goes by the relay alone."""

    def __init__(
        self, server: Process, folder: Path, name: str, *words: str, port: int = 0
    ) -> None:
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "evloop.client", "--relay", "always", "--name", name),
                *("--server", f"127.0.0.1:{port or server.address[1]}", "--json", *words),
            ],
            cwd=ROOT,
            env={**os.environ, "HOME": str(folder), "XDG_STATE_HOME": str(folder)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.stdin, self.stdout = self.process.stdin, self.process.stdout
        os.set_blocking(self.stdout.fileno(), False)
        self._rest = b""
        self.events: list[dict[str, Any]] = []
        self.shown: list[str] = []  # texts, in their order

    def read(self) -> list[str]:
        """The texts that were shown by now."""
        *lines, self._rest = (self._rest + (self.stdout.read() or b"")).split(b"\n")
        events = [json.loads(line) for line in lines]
        self.events += events
        self.shown += [it["text"] for it in events if it["type"] == "message"]
        return self.shown

    def say(self, text: str) -> None:
        self.stdin.write(text.encode() + b"\n")
        self.stdin.flush()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.stdout.close()
        try:
            self.stdin.close()
        except BrokenPipeError:  # it had ended by itself, and a test has failed for that
            pass


@pytest.fixture
def server() -> Iterator[Process]:
    process = Process("--interface", "127.0.0.1").ready()
    caller = Caller(process.address)
    process.call(caller, "makeroom", name=ROOM)
    caller.close()
    yield process
    process.close()


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_member_that_was_stopped_for_a_minute_shows_the_same(
    server: Process, tmp_path: Path
) -> None:
    reader, sleeper, talker = (
        Client(server, tmp_path, name, "chat", ROOM) for name in ("reader", "sleeper", "talker")
    )
    clients = (reader, sleeper, talker)
    try:
        number = 0
        while not all(client.read() for client in (reader, sleeper)):  # all have met
            number += 1
            talker.say(f"hello {number}")
            select.select([reader.stdout], [], [], 0.5)
            assert talker.process.poll() is None
        os.kill(sleeper.process.pid, signal.SIGSTOP)
        begun = time.monotonic()
        for line in range(LINES):
            talker.say(f"line {line}")
            # What is waited for is time itself: that the room goes on for a minute.
            wake = begun + (line + 1) * STOPPED_S / LINES
            select.select([], [], [], max(0.0, wake - time.monotonic()))
        assert f"line {LINES - 2}" in reader.read()
        os.kill(sleeper.process.pid, signal.SIGCONT)
        last = f"line {LINES - 1}"
        server.until(lambda: last in reader.read() and last in sleeper.read(), PATIENCE_S)
        assert [it for it in reader.shown if it.startswith("line")] == [
            f"line {line}" for line in range(LINES)
        ]
        assert [it for it in sleeper.shown if it.startswith("line")] == [
            f"line {line}" for line in range(LINES)
        ]
        assert "cut off" not in server.log
    finally:
        for client in clients:
            client.close()


def texts(client: Client, start: str) -> list[str]:
    return [it for it in client.read() if it.startswith(start)]


def meet(server: Process, talker: Client, *listeners: Client) -> None:
    """Wait until all of them hear what `talker` says."""
    number = 0
    while not all(client.read() for client in listeners):
        number += 1
        talker.say(f"hello {number}")
        select.select([listeners[0].stdout], [], [], 0.5)
        assert talker.process.poll() is None


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_member_behind_a_line_of_3_kilobytes_a_second(server: Process, tmp_path: Path) -> None:
    """With copies and the rest a talk of 5 lines a second is more than its line can bear. It is not
    cut off and does not hold up the others; when they are silent again it has everything."""
    words = (sys.executable, "-m", "tests.lab.line", f"30@{SLOW_BYTES_PER_S}")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    line = subprocess.Popen(
        [*words, f"127.0.0.1:{port}", f"127.0.0.1:{server.address[1]}"],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    clients: list[Client] = []
    try:
        assert line.stdout is not None
        assert line.stdout.readline() == b"ready\n"
        for name in ("reader", "talker"):
            clients.append(Client(server, tmp_path, name, "chat", ROOM))
        slow = Client(server, tmp_path, "slow", "chat", ROOM, port=port)
        clients.append(slow)
        reader, talker, _ = clients
        meet(server, talker, reader, slow)
        begun = time.monotonic()
        long = "x" * SLOW_CHARS
        count = int(SLOW_TALK_S * SLOW_LINES_PER_S)
        for number in range(count):
            talker.say(f"line {number} {long}")
            # What is waited for is time itself: a rate is a rate.
            wake = begun + (number + 1) / SLOW_LINES_PER_S
            select.select([], [], [], max(0.0, wake - time.monotonic()))
        wanted = [f"line {number} {long}" for number in range(count)]
        server.until(lambda: texts(reader, "line") == wanted, PATIENCE_S)
        behind = len(texts(slow, "line"))
        assert behind < count, "the line was not slow"
        server.until(lambda: texts(slow, "line") == wanted, 2 * PATIENCE_S)
        assert slow.process.poll() is None
        assert "cut off" not in server.log
    finally:
        for client in clients:
            client.close()
        line.kill()
        line.wait()
        for pipe in (line.stdin, line.stdout):
            assert pipe is not None
            pipe.close()


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_stranger_with_anothers_id_who_floods_and_asks_for_ten_thousand_rooms(
    server: Process, tmp_path: Path
) -> None:
    """What three people say meanwhile is the same on all screens; the directory answers in its
    turn, and what the stranger has said is bounded."""
    names = ("ann", "bob", "cy")
    people = [Client(server, tmp_path, name, "chat", ROOM) for name in names]
    ann, bob, cy = people
    callers: list[Caller] = []
    try:
        meet(server, ann, bob, cy)
        stranger, watcher = (Caller(server.address) for _ in range(2))
        callers += [stranger, watcher]
        (sender,) = {it["sender"] for it in bob.events if it["type"] == "message"}
        number = stranger.ask("enter", name=ROOM, sender=sender, relay="full")
        server.until(lambda: stranger.reply(number))
        handle = stranger.reply(number)["result"]["handle"]  # type: ignore[index]
        # As ann's BYE, and as noise that begins as a datagram of a room does.
        junk = bytes.fromhex("f545 1100 0000 0000".replace(" ", "")) + bytes.fromhex(sender)
        datagram = junk.ljust(1_000, b"z")
        frame = (6 + len(datagram)).to_bytes(4, "big") + b"\xf5\x52" + handle.to_bytes(4, "big")
        flood = (frame + datagram) * (FLOOD_BYTES // len(datagram))
        rooms = b"".join(
            request("enter", at, {"name": f"room-{at}", "sender": sender, "relay": "full"})
            for at in range(10_000)
        )
        lines: list[str] = []
        waiting = flood + rooms
        while waiting:
            waiting = waiting[stranger.send(waiting[:200_000]) :]
            stranger.read()
            for person, name in zip(people, names):
                if len(lines) < FLOOD_LINES_MAX:
                    lines.append(f"{name} {len(lines)}")
                    person.say(lines[-1])
            asked = watcher.ask("ping")
            server.until(lambda asked=asked: watcher.reply(asked))  # type: ignore[misc]
            for person in people:
                person.read()
        stranger.read()
        for person in people:
            server.until(
                lambda it=person: sorted(said(it)) == sorted(lines),  # type: ignore[misc]
                PATIENCE_S,
            )
        assert all(person.process.poll() is None for person in people)
        asked = watcher.ask("stats")
        server.until(lambda: watcher.reply(asked))
        figures: Any = watcher.reply(asked)["result"]  # type: ignore[index]
        assert figures["relay_drops"]["rate"] > 0
        assert figures["relay_rooms"] <= 64
    finally:
        for person in people:
            person.close()
        for caller in callers:
            caller.close()


def said(client: Client) -> list[str]:
    return [it for it in client.read() if not it.startswith("hello")]
