"""The Python interpreters of this machine."""

from __future__ import annotations

import glob
import os
import shutil
import subprocess
from functools import cache

_NAMES = ("python2.7", *(f"python3.{minor}" for minor in range(4, 20)))
_VERSION = "import sys; print('%d %d' % sys.version_info[:2])"


@cache
def interpreters() -> dict[tuple[int, int], str]:
    """The path of one of each version, oldest first: on PATH, or pyenv's."""
    found: dict[tuple[int, int], str] = {}
    for name in _NAMES:
        pyenv = f"{os.path.expanduser('~')}/.pyenv/versions/*/bin/{name}"
        for place in (*sorted(glob.glob(pyenv)), shutil.which(name)):
            version = _version_of(place) if place else None
            if place and version is not None:
                found.setdefault(version, place)
    return found


def _version_of(place: str) -> tuple[int, int] | None:
    """None for what does not run: shims of pyenv are there whatever may be run by them."""
    done = subprocess.run([place, "-c", _VERSION], capture_output=True, text=True, check=False)
    if done.returncode:
        return None
    major, minor = done.stdout.split()
    return int(major), int(minor)
