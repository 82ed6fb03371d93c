"""Instructions and page faults of a command: what a start costs on any machine, however busy."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from bench.harness import build
from bench.harness.processes import ROOT, Failed, environment

COLLECTED = re.compile(r"Collected : (\d+)")
TIME_LIMIT_S = 60


def _environment() -> dict[str, str]:
    return environment({"PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"})


def instructions(command: Sequence[str], out: Path) -> int:
    """Instructions of `command` in user space, by callgrind, which writes to `out`.

    Missing without valgrind; Failed when the command does.
    """
    if shutil.which("valgrind") is None:
        raise build.Missing("no valgrind here")
    done = subprocess.run(
        ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", *command],
        cwd=ROOT,
        env=_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIME_LIMIT_S,
        check=False,
    )
    found = COLLECTED.search(done.stderr)
    if done.returncode or found is None:
        raise Failed(f"callgrind: {done.stderr.strip()[-300:]}")
    return int(found.group(1))


def page_faults(command: Sequence[str]) -> int:
    """Pages that the kernel had to give or map while `command` ran, none of them from a disk."""
    process = subprocess.Popen(
        list(command),
        cwd=ROOT,
        env=_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise Failed(f"{' '.join(command)}: exit status {process.returncode}")
    return used.ru_minflt
