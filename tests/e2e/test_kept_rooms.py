"""Kept rooms, by whole programs: what `say` was confirmed is there after kill -9."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.live import Process
from tests.support.processes import ROOT, environment, fresh_words

SAID = "kept by the directory; nobody else is here"


def serve(folder: Path) -> Process:
    state = str(folder / "directory.db")
    return Process("--state", state, "--interface", "127.0.0.1", memory=False).ready()


def client(server: Process, *words: str, seconds: float = 30.0) -> subprocess.CompletedProcess[str]:
    """A one-shot client, to its end."""
    port = server.address[1]
    arguments = [sys.executable, "-m", "evloop.client", "--server", f"127.0.0.1:{port}", *words]
    return subprocess.run(
        arguments, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=seconds,
        stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip


def kill(server: Process) -> None:
    os.kill(server.process.pid, signal.SIGKILL)
    server.close()


def told(server: Process, *words: str) -> str:
    """The first line that `tail` shows."""
    port = server.address[1]
    arguments = [sys.executable, "-m", "evloop.client", "--server", f"127.0.0.1:{port}", *words]
    tail = subprocess.Popen(
        arguments, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        text=True,
    )  # fmt: skip
    assert tail.stdout is not None
    try:
        line = tail.stdout.readline()
    finally:
        tail.kill()
        tail.wait()
        tail.stdout.close()
    return line


def confirmed_and_killed(folder: Path, rounds: int, rng: random.Random) -> int:
    """In each round say something, kill the server when that is confirmed; return what is lost."""
    server = serve(folder)
    client(server, "makeroom", "ops", *fresh_words(), "--keep")
    lost = 0
    for number in range(rounds):
        text = f"line {number} {rng.random()}"
        said = client(server, "say", "ops", text)
        for _ in range(4):
            if "not confirmed" not in said.stderr:
                break
            said = client(server, "say", "ops", text)  # a busy machine was late
        kill(server)
        assert said.returncode == 0, said.stderr
        assert SAID in said.stderr
        server = serve(folder)
        lost += text not in told(server, "tail", "ops", "-n", "1")
    server.close()
    return lost


def test_what_was_confirmed_by_the_keeper_is_there_after_a_kill(tmp_path: Path) -> None:
    assert confirmed_and_killed(tmp_path, 1, random.Random(1)) == 0
    server = serve(tmp_path)
    deleted = client(server, "deleteroom", "ops")
    assert deleted.returncode == 0

    def files() -> bytes:
        return b"".join(one.read_bytes() for one in tmp_path.glob("history.db*"))

    server.until(lambda: b"line 0" not in files())
    server.close()


def test_a_copy_that_is_put_in_place_has_the_rooms_and_what_was_said(tmp_path: Path) -> None:
    """Copied while the server runs; then the room is deleted, and the copy put in its place."""
    (tmp_path / "old").mkdir()
    server = serve(tmp_path / "old")
    client(server, "makeroom", "ops", *fresh_words(), "--keep")
    assert client(server, "say", "ops", "line 1").returncode == 0
    state, night = str(tmp_path / "old" / "directory.db"), str(tmp_path / "night.db")
    copied = subprocess.run(
        [sys.executable, "-m", "evloop.server", "--state", state, "--backup", night],
        cwd=ROOT, env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert copied.returncode == 0, copied.stderr
    assert "copied what was said in 1 room of" in copied.stdout, copied.stdout
    assert client(server, "deleteroom", "ops").returncode == 0
    server.close()
    (tmp_path / "new").mkdir()
    shutil.copy(night, tmp_path / "new" / "directory.db")
    shutil.copy(night + ".history", tmp_path / "new" / "history.db")
    server = serve(tmp_path / "new")
    assert "line 1" in told(server, "tail", "ops", "-n", "1")
    server.close()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_many_kills_right_after_a_confirmed_line(tmp_path: Path) -> None:
    assert confirmed_and_killed(tmp_path, 25, random.Random(2)) == 0
