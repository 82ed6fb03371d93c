"""Network namespaces that a test makes: a program in one sees only interfaces of its own."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def _can_make_one() -> bool:
    """Root in a container may be forbidden to."""
    return (
        subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False).returncode
        == 0
    )


namespaced = pytest.mark.skipif(
    not shutil.which("unshare") or not shutil.which("ip") or not _can_make_one(),
    reason="needs unshare, ip (iproute2) and the right to make a network namespace",
)


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


ipv6 = pytest.mark.skipif(not _has_ipv6(), reason="needs IPv6 on the loopback interface")


def in_namespace(setup: str, program: str) -> str:
    """What `program` prints in a network namespace of its own, prepared by shell lines."""
    script = f'set -e\nip link set lo up\n{setup}\nexec "$0" -c "$1"'
    done = subprocess.run(
        ["unshare", "--net", "sh", "-c", script, sys.executable, program],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
