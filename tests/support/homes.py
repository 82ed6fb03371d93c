"""Users with a state directory of their own, who make and enter rooms of a server."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.support.live import Process
from tests.support.processes import fresh_words
from tests.support.pty_run import PtyRun

CODE = re.compile(r"key ((?:[0-9A-Z]{4}-){6}[0-9A-Z]{4})")


class Home:
    """One user's machine: a state directory, and the programs that are started there."""

    def __init__(self, path: Path, server: Process) -> None:
        path.mkdir()
        self.path = path
        self.server = f"127.0.0.1:{server.address[1]}"
        self.env = {
            "HOME": str(path),
            "XDG_STATE_HOME": str(path),
            "EVLOOP_INTERFACE": "127.0.0.1",
            "LC_ALL": "C.UTF-8",
        }

    def client(self, *words: str, text: str = "", **env: str) -> subprocess.CompletedProcess[str]:
        """A one-shot in a pipe."""
        return subprocess.run(
            [sys.executable, "-m", "evloop.client", "--server", self.server, *words],
            input=text,
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, **self.env, **env},
            check=False,
        )

    def person(self, name: str, *words: str) -> PtyRun:
        options = ("--server", self.server, "--name", name, "--time=off", *words)
        return PtyRun.python("evloop.client", *options, env=self.env)

    def files(self) -> dict[str, bytes]:
        found = (path for path in self.path.rglob("*") if path.is_file())
        return {path.name: path.read_bytes() for path in found}


def make(home: Home, *more: str, name: str = "lab") -> str:
    """Make the sealed room; its code."""
    address, port = fresh_words()
    done = home.client("makeroom", name, address, port, *(more or ("--sealed",)))
    assert done.returncode == 0, done.stderr
    made, key = done.stdout.splitlines()
    assert made == f"made room {name}: {address}:{port}, sealed"
    assert f"whoever has this key reads and speaks in {name}" in done.stderr
    found = CODE.fullmatch(key)
    assert found is not None
    return found[1]


def key_file(home: Home, text: str, mode: int = 0o600) -> str:
    path = home.path / "the key"
    path.write_text(text + "\n")
    path.chmod(mode)
    return str(path)


def screen_of(run: PtyRun) -> str:
    assert run.screen is not None
    return "\n".join(run.screen.scrollback + run.screen.used())
