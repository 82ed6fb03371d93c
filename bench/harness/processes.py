"""Children of the bench: servers and loads, each pinned to its core, each ended by us.

preexec_fn, which is unsafe in programs with threads, is safe here: the bench has none.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.harness import machine

ROOT = Path(__file__).resolve().parents[2]
LISTENING = re.compile(r"listening on 127\.0\.0\.1:(\d+)")
START_S = 15.0


class Failed(Exception):
    """A child process did not do its task; the text has the last of its output."""


def pinned(core: int | None) -> Callable[[], None]:
    """What a child does first: bind itself to its core, and raise its limit of descriptors."""

    def prepare() -> None:
        import resource

        if core is not None:
            os.sched_setaffinity(0, {core})
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    return prepare


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """A child's variables: multicast pinned to loopback, nothing of ours on its import path."""
    found = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "EVLOOP"))}
    return found | {"EVLOOP_INTERFACE": "127.0.0.1", "LC_ALL": "C.UTF-8"} | dict(extra or {})


class Server:
    """A server process; a context manager. `port` once it has said that it listens."""

    def __init__(
        self,
        command: Sequence[object],
        *,
        core: int | None = None,
        cwd: Path = ROOT,
        port: int = 0,
        extra: Mapping[str, str] | None = None,
    ) -> None:
        self.command = [str(part) for part in command]
        self._core = machine.cores()[0] if core is None else core
        self._cwd = cwd
        self._extra = extra
        self._words = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __exit__
        self.port = port

    def __enter__(self) -> Server:
        self.process = subprocess.Popen(
            self.command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._words,  # a file: a pipe that nobody empties would stop the server
            cwd=self._cwd,
            env=environment(self._extra),
            preexec_fn=pinned(self._core),  # noqa: PLW1509
        )
        if not self.port:
            self.port = self._wait_listening()
        return self

    def __exit__(self, *_: object) -> None:
        end(self.process)
        self._words.close()

    def words(self) -> str:
        """What the server has said on stderr."""
        self._words.seek(0)
        return self._words.read().decode(errors="replace").strip()

    def _wait_listening(self) -> int:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            found = LISTENING.search(self.words())
            if found:
                return int(found.group(1))
            if self.process.poll() is not None:
                break
            time.sleep(0.01)
        end(self.process)
        raise Failed(f"{' '.join(self.command)}: {self.words()[-300:]}")

    @property
    def pid(self) -> int:
        return self.process.pid

    def rss_kb(self) -> int:
        return machine.rss_kb(self.pid)


def end(process: subprocess.Popen[bytes], patience_s: float = 3.0) -> None:
    """Ask, wait, then kill."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(patience_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            try:
                pipe.close()
            except BrokenPipeError:
                pass  # unsent input of a process that has ended


def run_load(program: Path, arguments: Mapping[str, object], *, realtime: bool = False) -> Any:
    """Run the load generator to its end; its figures as a dict."""
    process = start_load(program, arguments, realtime=realtime)
    return finish_load(process)


def start_load(
    program: Path, arguments: Mapping[str, object], *, realtime: bool = False
) -> subprocess.Popen[bytes]:
    """Start it; `realtime` asks for SCHED_FIFO, so that a probe is not kept waiting by a load on
    the same core (root only: refused elsewhere, and then the probe waits its turn)."""
    flags: list[str] = [sys.executable] if program.suffix == ".py" else []
    flags.append(str(program))
    for name, value in arguments.items():
        for item in value if isinstance(value, list) else [value]:
            flags.append(f"--{name}")
            if item is not True:
                flags.append(str(item))
    prepare = pinned(machine.cores()[1])

    def prepare_realtime() -> None:
        prepare()
        try:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))
        except PermissionError:
            pass  # not root: the figures then come out a little worse than they are

    return subprocess.Popen(
        flags,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=prepare_realtime if realtime else prepare,  # noqa: PLW1509
    )


def finish_load(process: subprocess.Popen[bytes], timeout_s: float = 60.0) -> Any:
    """Wait for the load's figures."""
    try:
        out, err = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        raise Failed(f"the load did not end: {err.decode(errors='replace')[-300:]}") from None
    if process.returncode:
        raise Failed(f"load: {err.decode(errors='replace').strip()[-300:]}")
    return json.loads(out)
