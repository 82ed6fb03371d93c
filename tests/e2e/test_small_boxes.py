"""A Python without sqlite3, ssl, unicodedata or termios: what can run runs, the rest is a line."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.live import ROOT, Caller, Process
from tests.support.processes import PATIENCE_S

# Put before everything else that is imported: who asks for a hidden module is told there is none.
HIDE = """
import os, sys
hidden = os.environ["HIDDEN"].split()
class Hide:
    def find_spec(self, name, path=None, target=None):
        if name in hidden:
            raise ModuleNotFoundError(name, name=name)
for name in hidden:
    sys.modules.pop(name, None)
sys.meta_path.insert(0, Hide())
"""

Box = Callable[[str], dict[str, str]]


@pytest.fixture
def box(tmp_path: Path) -> Box:
    """The environment of a box without some modules."""
    (tmp_path / "sitecustomize.py").write_text(HIDE)

    def without(modules: str) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(tmp_path), "HIDDEN": modules, "USER": "mel"}

    return without


def run(environ: dict[str, str], *arguments: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        check=False,
        cwd=ROOT,
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=20,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("modules", "command", "status"),
    [
        ("sqlite3 _sqlite3", "evloop.server --state rooms.db --listen 127.0.0.1:0", 73),
        ("ssl _ssl", "evloop.server --memory --tls-cert cert.pem --listen 127.0.0.1:0", 2),
        ("ssl _ssl", "evloop.client --tls getdir", 2),
        ("termios", "evloop.client getdir", 1),
    ],
)
def test_what_is_missing_is_one_line(box: Box, modules: str, command: str, status: int) -> None:
    code, out, err = run(box(modules), *command.split())
    assert (code, out) == (status, "")
    assert err.startswith("evloop: ") and err.count("\n") == 1 and modules.split()[0] in err


def test_in_memory_no_sqlite_ssl_or_unicodedata_is_needed(box: Box) -> None:
    environ = box("sqlite3 _sqlite3 ssl _ssl unicodedata _blake2")
    server = Process(environ=environ).ready()
    try:
        at = "{}:{}".format(*server.address)
        assert run(environ, "evloop.client", "--server", at, "makeroom", "grüße")[0] == 0
        code, out, err = run(environ, "evloop.client", "--server", at, "getdir")
        assert (code, err) == (0, "") and out.startswith("  grüße  239.255.")
        caller = Caller(server.address)
        assert server.call(caller, "getdir")["result"]["rooms"][0]["name"] == "grüße"
        caller.close()
    finally:
        server.close()


@pytest.mark.parametrize("program", ["evloop.server", "evloop.client"])
def test_a_full_disk_is_told_of_the_version_too(program: str) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", program, "--version"],
            check=False,
            cwd=ROOT,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 1
    assert done.stderr == "evloop: standard output: No space left on device\n"


def test_a_server_whose_log_is_on_a_full_disk_serves() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        address = probe.getsockname()
    with open("/dev/full", "w") as full:
        server = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "evloop.server",
                "--memory",
                "--listen",
                "{}:{}".format(*address),
            ],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stderr=full,
        )
    deadline = time.monotonic() + PATIENCE_S
    try:
        while True:
            try:
                caller = Caller(address)
                break
            except ConnectionRefusedError:
                assert server.poll() is None and time.monotonic() < deadline
        caller.close()
    finally:
        server.terminate()
        assert server.wait() == 0


def test_a_host_that_is_none_is_one_line() -> None:
    code, _, err = run({**os.environ}, "evloop.server", "--memory", "--listen", f"{'a' * 70}:1")
    assert code == 2 and err.count("\n") == 1 and "[Errno" not in err
