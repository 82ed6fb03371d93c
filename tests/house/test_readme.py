"""README is true: its transcript is run, its files and options exist."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from evloop import __version__
from tests.support.live import Process
from tests.support.sources import MODULES, ROOT

README = (ROOT / "README.md").read_text()


@pytest.fixture
def server() -> Iterator[Process]:
    server = Process().ready()
    yield server
    server.close()


def _transcript() -> list[tuple[str, list[str]]]:
    """(command, lines that follow it) of the console block."""
    match = re.search(r"```console\n(.*?)```", README, re.DOTALL)
    assert match
    steps: list[tuple[str, list[str]]] = []
    for line in match[1].splitlines():
        if line.startswith("$ "):
            steps.append((line[2:], []))
        else:
            steps[-1][1].append(line)
    return steps


def test_the_transcript_is_what_happens(server: Process) -> None:
    steps = _transcript()
    assert len(steps) > 3
    host, port = server.address
    for command, expected in steps:
        done = subprocess.run(
            ["sh", "-c", command.replace("python3", sys.executable) + " 2>&1"],
            check=False,
            cwd=ROOT,
            env={**os.environ, "EVLOOP_SERVER": f"{host}:{port}"},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.stdout.splitlines() == expected, command


def test_every_file_that_it_links_to_is_there() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_the_tour_names_modules_that_exist() -> None:
    tour = README[README.index("## Reading the code") :]
    for name in re.findall(r"`([a-z_]+)\.py`", tour):
        assert name in {module.rpartition(".")[2] for module in MODULES}, name


@pytest.mark.parametrize("program", ["server", "client"])
def test_help_and_version_answer(program: str) -> None:
    for option in ("--help", "--version"):
        done = subprocess.run(
            [sys.executable, "-m", f"evloop.{program}", option],
            check=False,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0 and "evloop" in done.stdout and not done.stderr
    assert done.stdout == f"evloop {__version__}\n"


def test_the_changelog_begins_with_this_version_and_dates_the_old_by_their_commits() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    versions = re.findall(r"^## \[(.+?)\]", text, re.MULTILINE)
    assert versions[0] == __version__ and versions[-1] == "0.1.0"
    old = text.partition("## [0.1.0]")[2]
    assert re.search(r"\b90ae7cb\b", old.partition("\n### ")[0])
