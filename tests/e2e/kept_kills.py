"""kill -9 of the directory right after a confirmed `say`, many times: is the line there?

    python3 -m tests.e2e.kept_kills --rounds 1000

Each round is a server, a `say` that the keeper alone confirms (it ends with 0), SIGKILL to the
server in the same moment, and a look for the line in a copy of the file and the log beside it, as
they lie there then; the next server goes on with them. What a busy machine confirmed too late is
said again, and counted. Every TAIL_EVERY rounds `tail` of a client
must show it, too. Server and clients are the whole programs, each in a process of its own that is
forked from this one: so a round costs no start of Python.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import socket
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from evloop.client import main as client_main
from evloop.server import main as server_main
from tests.support.processes import fresh_words

SAID = b"kept by the directory; nobody else is here"
LATE = b"not confirmed: "
TAIL_EVERY = 50
LATE_MAX = 100


class Child:
    """A program in a process of its own, whose standard output and error are read together."""

    def __init__(self, main: Callable[[Sequence[str]], int], *words: str) -> None:
        self.told = b""
        self._read, write = os.pipe()
        sys.stdout.flush()
        self.pid = os.fork()
        if not self.pid:
            null = os.open(os.devnull, os.O_RDONLY)
            for descriptor, place in ((null, 0), (write, 1), (write, 2)):
                os.dup2(descriptor, place)
            os.closerange(3, 1_024)
            os._exit(main(words))
        os.close(write)

    def until(self, what: bytes) -> bool:
        """Read until it has told `what`; False: it has ended before."""
        while what not in self.told:
            data = os.read(self._read, 65_536)
            if not data:
                return False
            self.told += data
        return True

    def end(self) -> int:
        """Wait for its end; its exit status, negative for a signal."""
        while data := os.read(self._read, 65_536):
            self.told += data
        os.close(self._read)
        _, status = os.waitpid(self.pid, 0)
        return os.waitstatus_to_exitcode(status)

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        self.end()


class Kills:
    """Rounds in `folder`. `lost`: lines that are not in the file; `hidden`: those that `tail` does
    not show as the newest."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lost = self.hidden = self.late = 0
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.place = f"127.0.0.1:{free.getsockname()[1]}"
        self.server = self.serve()
        made = self.client("makeroom", "ops", *fresh_words(), "--keep")
        assert made.end() == 0, made.told

    def serve(self) -> Child:
        state = str(self.folder / "directory.db")
        words = ("--state", state, "--listen", self.place, "--interface", "127.0.0.1")
        server = Child(server_main, *words, "--no-announce")
        assert server.until(b"listening on"), server.told
        return server

    def client(self, *words: str) -> Child:
        return Child(client_main, "--server", self.place, *words)

    def round(self, text: str, *, tail: bool) -> None:
        """One kill: count what was confirmed and is not there."""
        said = self.client("say", "ops", text)
        status = said.end()
        while status and LATE in said.told:
            self.late += 1
            assert self.late < LATE_MAX, said.told
            said = self.client("say", "ops", text)
            status = said.end()
        self.server.kill()
        assert status == 0 and SAID in said.told, said.told
        self.lost += not self._in_the_file(text)
        self.server = self.serve()
        if tail:
            shown = self.client("tail", "ops", "-n", "1")
            self.hidden += not (shown.until(b": line ") and text.encode() in shown.told)
            shown.kill()

    def _in_the_file(self, text: str) -> bool:
        with tempfile.TemporaryDirectory() as folder:
            for suffix in ("", "-wal"):
                if (self.folder / f"history.db{suffix}").exists():
                    shutil.copy(self.folder / f"history.db{suffix}", folder)
            connection = sqlite3.connect(f"{folder}/history.db")
            rows = connection.execute("SELECT datagram FROM messages ORDER BY at DESC").fetchall()
            connection.close()
        return any(text.encode() in datagram for (datagram,) in rows)


def confirmed_and_killed(folder: Path, rounds: int, tail_every: int = TAIL_EVERY) -> Kills:
    """So many rounds, each with a line of its own."""
    kills = Kills(folder)
    try:
        for number in range(rounds):
            kills.round(f"line {number} ", tail=number % tail_every == 0)
    finally:
        kills.server.kill()
    return kills


def main() -> int:
    parser = argparse.ArgumentParser(prog="python3 -m tests.e2e.kept_kills")
    parser.add_argument("--rounds", type=int, default=1_000)
    rounds = parser.parse_args().rounds
    os.environ.setdefault("EVLOOP_INTERFACE", "127.0.0.1")
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        kills = confirmed_and_killed(Path(folder), rounds)
    seconds = time.monotonic() - start
    print(
        f"{rounds} kills in {seconds:.0f} s: {kills.lost} lines lost, {kills.hidden} not shown;"
        f" {kills.late} were confirmed too late, and said again"
    )
    return int(kills.lost + kills.hidden > 0)


if __name__ == "__main__":
    sys.exit(main())
