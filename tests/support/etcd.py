"""A real etcd of one member on loopback, in memory-backed storage where the system has some."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.support.processes import Crew, Program

ETCD = shutil.which("etcd")
real_etcd = pytest.mark.skipif(ETCD is None, reason="needs etcd (Debian: etcd-server)")


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody has just now."""
    socks = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [sock.getsockname()[1] for sock in socks]
    for sock in socks:
        sock.close()
    return ports


class Etcd:
    """One member; `endpoint` is what `--cluster` is given. `stop` and `start` keep its data."""

    def __init__(self, crew: Crew, *options: str) -> None:
        assert ETCD is not None
        self._crew = crew
        self.client, self.peer = free_ports(2)
        self.endpoint = f"127.0.0.1:{self.client}"
        shm = Path("/dev/shm")
        self.folder = tempfile.mkdtemp(dir=shm if shm.is_dir() else None)
        self._options = options
        self.scheme = "https" if any("--cert-file" in one for one in options) else "http"
        self.program: Program | None = None
        self.start()

    def start(self) -> None:
        us, peer = f"{self.scheme}://{self.endpoint}", f"http://127.0.0.1:{self.peer}"
        words = [
            *(str(ETCD), "--name", "one", "--data-dir", self.folder),
            *("--listen-client-urls", us, "--advertise-client-urls", us),
            *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
            *("--initial-cluster", f"one={peer}", "--log-level", "error"),
            *self._options,
        ]
        self.program = program = Program(words, environ={"ETCD_UNSUPPORTED_ARCH": "arm64"})
        self._crew.add(program)

        def answers() -> bool:
            try:
                if self.scheme == "http":
                    # Killed before it has a leader, its first entry is not on disk, and started
                    # again it never gets one.
                    with urlopen(f"{us}/health", timeout=1) as reply:
                        return b"true" in reply.read()
                socket.create_connection(("127.0.0.1", self.client), 1).close()
            except OSError:
                return False
            return True

        self._crew.until(answers, every=0.02, why="etcd is healthy")

    def stop(self) -> None:
        """kill -9."""
        assert self.program is not None
        self.program.process.kill()
        self._crew.finish(self.program)

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def etcdctl(etcd: Etcd, *options: str) -> Callable[..., str]:
    """A function that runs etcdctl with these words; skips the test where it is not there."""
    program = shutil.which("etcdctl")
    if program is None:
        pytest.skip("needs etcdctl (Debian: etcd-client)")
    endpoint = f"--endpoints={etcd.scheme}://{etcd.endpoint}"

    def run(*words: str) -> str:
        done = subprocess.run(
            [str(program), endpoint, *options, *words],
            capture_output=True,
            text=True,
            env={"ETCDCTL_API": "3", "PATH": ""},
            timeout=30,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run
