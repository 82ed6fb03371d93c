"""A member that the directory carries is stopped for a minute, and goes on: real processes."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.live import ROOT, Caller, Process

STOPPED_S = 60.0
LINES = 120
PATIENCE_S = 60.0
ROOM = f"stopped-{os.getpid()}"


class Client:
    """`evloop-client` that goes by the relay alone."""

    def __init__(self, server: Process, folder: Path, name: str, *words: str) -> None:
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "evloop.client", "--relay", "always", "--name", name),
                *("--server", f"127.0.0.1:{server.address[1]}", "--json", *words),
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
        self.shown: list[str] = []  # texts, in their order

    def read(self) -> list[str]:
        """The texts that were shown by now."""
        *lines, self._rest = (self._rest + (self.stdout.read() or b"")).split(b"\n")
        events = [json.loads(line) for line in lines]
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
