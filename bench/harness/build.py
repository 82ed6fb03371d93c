"""What the bench needs and does not hold: C programs, uvloop, IRC servers. All in bench/build/.

Each `find_*` returns a path, or raises Missing with the reason that its row will give. Packages
come through pip and apt-get, and are unpacked here: nothing is installed on the machine.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

HERE = Path(__file__).resolve().parents[1]
BUILD = HERE / "build"
T = TypeVar("T")
FLAGS = ["-O2", "-Wall", "-Wextra", "-Werror"]


class Missing(Exception):
    """Something optional cannot be had here; the text says why."""


def _run(command: list[str], timeout_s: float, cwd: Path | None = None) -> str:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout_s, check=False, cwd=cwd
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Missing(f"{Path(command[0]).name}: {error}") from None
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "no words").splitlines()[-1]
        raise Missing(f"{Path(command[0]).name}: {last}")
    return done.stdout


def native(name: str) -> Path:
    """Compile bench/native/NAME.c when it is newer than what was built."""
    source, program = HERE / "native" / f"{name}.c", BUILD / name
    if program.exists() and program.stat().st_mtime >= source.stat().st_mtime:
        return program
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise Missing("no C compiler")
    BUILD.mkdir(exist_ok=True)
    _run([compiler, *FLAGS, "-o", str(program), str(source)], 60)
    return program


def venv_python(python: str) -> Path:
    """An environment of our own around the interpreter `python`."""
    version = _run([python, "-c", "import sys; print('%d.%d.%d' % sys.version_info[:3])"], 10)
    home = BUILD / f"venv-{version.strip()}"
    program = home / "bin" / "python"
    if not program.exists():
        _run([python, "-m", "venv", str(home)], 120)
    return program


def with_package(python: str, package: str, module: str) -> Path:
    """The environment's interpreter, once `module` can be imported in it."""
    return _once(package, lambda: _with_package(python, package, module))


def _with_package(python: str, package: str, module: str) -> Path:
    program = venv_python(python)
    try:
        _run([str(program), "-c", f"import {module}"], 20)
    except Missing:
        pip = [str(program), "-m", "pip", "install", "-q", "--timeout", "10", "--retries", "1"]
        _run([*pip, package], 90)
        _run([str(program), "-c", f"import {module}"], 20)
    return program


def debian(package: str, program: str, libraries: tuple[str, ...] = ()) -> tuple[Path, Path]:
    """(program, directory of libraries) out of Debian packages, unpacked and not installed."""
    home = BUILD / package
    path = home / program
    if not path.exists():
        _once(package, lambda: _unpack(package, libraries, home))
    found = sorted(home.glob("usr/lib/*-linux-gnu"))
    return path, found[0] if found else home


def _unpack(package: str, libraries: tuple[str, ...], home: Path) -> None:
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        raise Missing(f"{package}: no apt-get here")
    downloads = BUILD / "debs"
    downloads.mkdir(parents=True, exist_ok=True)
    patience = ["-o", "Acquire::http::Timeout=10", "-o", "Acquire::Retries=0"]
    _run(["apt-get", *patience, "download", package, *libraries], 60, downloads)
    for name in (package, *libraries):
        archives = sorted(downloads.glob(f"{name}_*.deb"))
        if not archives:
            raise Missing(f"{name}: nothing was downloaded")
        _run(["dpkg-deb", "-x", str(archives[-1]), str(home)], 60)


_refused: dict[str, str] = {}


def _once(what: str, get: Callable[[], T]) -> T:
    """Do not ask again in this run for what could not be had: each try may take its whole time."""
    if what in _refused:
        raise Missing(_refused[what])
    try:
        return get()
    except Missing as missing:
        _refused[what] = str(missing)
        raise
