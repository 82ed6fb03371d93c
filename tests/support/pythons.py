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
    asked: list[tuple[str, subprocess.Popen[str]]] = []  # all at once: each takes 0.1 s
    for name in _NAMES:
        pyenv = f"{os.path.expanduser('~')}/.pyenv/versions/*/bin/{name}"
        for place in (*sorted(glob.glob(pyenv)), shutil.which(name)):
            if place:
                asked.append((place, _ask_version(place)))
    found: dict[tuple[int, int], str] = {}
    for place, process in asked:
        version = _version_of(process)
        if version is not None:
            found.setdefault(version, place)
    return found


def _ask_version(place: str) -> subprocess.Popen[str]:
    command = [place, "-S", "-c", _VERSION]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def _version_of(process: subprocess.Popen[str]) -> tuple[int, int] | None:
    """None for what does not run: shims of pyenv are there whatever may be run by them."""
    told, _ = process.communicate()
    if process.returncode:
        return None
    major, minor = told.split()
    return int(major), int(minor)
