"""File systems for tests: one that is soon full."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk_at(place: Path, kib: int) -> Iterator[Path]:
    """A tmpfs of so many KiB at `place`. Unmounted lazily at the end, whatever is open on it."""
    if shutil.which("mount") is None:
        pytest.skip("needs mount")
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "evloop-test", str(place)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)
