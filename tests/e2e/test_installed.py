"""Installed by pip, by pipx, and as evloop.pyz, with each Python of this machine: it chats."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.test_pythons import PYTHONS
from tests.support.processes import ROOT, Crew, Program, Server, no_trace

Programs = tuple[list[str], list[str]]  # what starts the server, and the client

each_python = pytest.mark.parametrize("version", PYTHONS)


def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in words], cwd="/", capture_output=True, text=True, check=False
    )


def chats(crew: Crew, programs: Programs) -> None:
    """A directory, a room, two members, a one-shot; none of it from this checkout."""
    server_words, client_words = programs
    outside = Path("/")
    server = Server([*server_words, "--listen", "127.0.0.1:0", "--memory"], cwd=outside)
    crew.add(server)
    crew.until(lambda: server.listens or server.done)
    at = [*client_words, "--server", server.place]
    made = crew.finish(crew.add(Program([*at, "makeroom", "lab"], cwd=outside)))
    assert made.status == 0, made.tell()
    members = [
        crew.add(Program([*at, "--name", name, "chat", "lab"], cwd=outside))
        for name in ("Ann", "Bob")
    ]
    crew.in_room(*members)
    members[0].type("Grüße\n")
    crew.until(lambda: "Ann: Grüße\n" in members[1].out)
    said = crew.finish(crew.add(Program([*at, "say", "lab", "a word"], cwd=outside)))
    assert said.status == 0, said.tell()
    for member in members:
        member.end()
        assert crew.finish(member).status == 0, member.tell()
    no_trace(server, *members, said)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("pyz") / "evloop.pyz"
    subprocess.run(
        [sys.executable, "-m", "tools.pyz", str(made)], cwd=ROOT, check=True, capture_output=True
    )
    return made


@pytest.mark.slow
@each_python
def test_evloop_pyz(crew: Crew, archive: Path, version: str) -> None:
    python = PYTHONS[version]
    chats(crew, ([python, str(archive), "server"], [python, str(archive), "client"]))


@pytest.mark.slow
@pytest.mark.timeout(300)
@each_python
def test_pip_install(crew: Crew, tmp_path: Path, version: str) -> None:
    venv = tmp_path / "venv"
    made = run(PYTHONS[version], "-m", "venv", venv)
    if made.returncode:
        pytest.skip(f"Python {version} makes no virtual environment")
    source = tmp_path / "source"  # pip builds in the folder that it is given
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(".venv*", ".git", "__pycache__"))
    done = run(venv / "bin/python", "-m", "pip", "install", "-q", "--no-deps", source)
    if "flit_core" in done.stderr and done.returncode:
        pytest.skip("flit_core, which builds the package, cannot be had here")
    assert done.returncode == 0, done.stderr
    chats(crew, ([str(venv / "bin/evloop-server")], [str(venv / "bin/evloop-client")]))
    version_told = run(venv / "bin/evloop", "--version").stdout
    assert version_told == run(venv / "bin/evloop-server", "--version").stdout != ""


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(shutil.which("pipx") is None, reason="needs pipx")
@each_python
def test_pipx_install(
    crew: Crew, tmp_path: Path, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIPX_HOME", str(tmp_path / "pipx"))
    monkeypatch.setenv("PIPX_BIN_DIR", str(tmp_path / "bin"))
    # Of its shared pip: the newest one does not run on the oldest Python.
    monkeypatch.setenv("PIPX_DEFAULT_PYTHON", PYTHONS[version])
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    done = run("pipx", "install", "--python", PYTHONS[version], ROOT)
    if "flit_core" in done.stderr and done.returncode:
        pytest.skip("flit_core, which builds the package, cannot be had here")
    assert done.returncode == 0, done.stderr
    chats(crew, ([str(tmp_path / "bin/evloop-server")], [str(tmp_path / "bin/evloop-client")]))
