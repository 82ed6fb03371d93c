"""README is true: its transcript is run, its files and options exist."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from evloop import __version__
from tests.support.live import Process
from tests.support.sources import ROOT

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
    assert len(_transcript()) > 3
    host, port = server.address
    # In a room of its own, as long to write: this test may run more than once on one machine.
    rng = random.Random(os.urandom(8))
    place = f"239.255.{rng.randint(1, 9)}.{rng.randint(1, 9)}", str(rng.randint(2_000, 9_999))
    for command, expected in _transcript():
        for said, meant in zip(("239.255.7.1", "5751"), place):
            command = command.replace(said, meant)
            expected = [line.replace(said, meant) for line in expected]
        # A reader's interface; this test stays on the machine.
        expected = [line.replace("(eth0, 192.0.2.33)", "(lo, 127.0.0.1)") for line in expected]
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


def test_it_is_short() -> None:
    lines = README.splitlines()
    assert len(lines) <= 120
    assert [line for line in lines if len(line) > 100] == []


FIGURES = {  # a command of the table -> the goal in bench/results/results.json that it shows
    "requests": "CPU per getdir at 50x1, against asyncio Protocol",
    "idle": "kB of resident memory per idle connection, 10000 held",
    "durable": "durable makeroom/s from 16 at once, against 1",
    "startup": "time of --version, against import asyncio",
}


def _figures() -> dict[str, str]:
    """command -> measured, of the table of figures."""
    table = README[README.index("## Five figures") : README.index("## Test it")]
    return {
        command: measured
        for measured, command in re.findall(r"^\|.*\| (.*?) \| `(.*?)` \|$", table, re.MULTILINE)
    }


def test_the_figures_are_those_that_were_measured() -> None:
    figures = _figures()
    assert len(figures) == 5
    results = json.loads((ROOT / "bench" / "results" / "results.json").read_text())
    for name, what in FIGURES.items():
        (told,) = [told for command, told in figures.items() if f"bench {name}" in command]
        (goal,) = [goal for goal in results["sections"][name]["goals"] if goal["what"] == what]
        digits = told.split()[0]
        places = len(digits.partition(".")[2])
        assert digits == f"{goal['value']:.{places}f}", name


@pytest.mark.slow
def test_the_figure_of_the_simulator_is_what_it_prints() -> None:
    (told,) = [told for command, told in _figures().items() if "tests.simulation" in command]
    delay, lost = re.findall(r"\d+", told)
    done = subprocess.run(
        [sys.executable, "-m", "tests.simulation"],
        check=True,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
    )
    printed = dict(word.split("=") for word in done.stdout.split())
    assert (f"{float(printed['p99_ms']):.0f}", printed["undelivered"]) == (delay, lost)


def _install_words(text: str) -> list[str]:
    """What is handed to pip and pipx in `text`, wherever it says install."""
    commands = re.findall(r"\bpipx?\s+install\s+([^\n`]+)", text)
    return [word for words in commands for word in words.split()]


@pytest.mark.parametrize(
    "page",
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").glob("*.md"),
        *(ROOT / "man").iterdir(),
        *(path for path in (ROOT / "contrib").rglob("*") if path.is_file()),
    ],
    ids=lambda page: page.name,
)
def test_nobody_is_told_to_install_the_program_of_that_name(page: Path) -> None:
    """In the package index that name is a stranger's program."""
    for word in _install_words(page.read_text()):
        assert re.split(r"[\[=<>~!@.,;)]", word.strip("'\""))[0].casefold() != "evloop", word


def test_the_judge_of_installing_is_awake() -> None:
    told = "`pip install evloop` or pipx install  -q evloop[test]==1, pip install ./evloop"
    assert _install_words(told) == [
        "evloop",
        "-q",
        "evloop[test]==1,",
        "pip",
        "install",
        "./evloop",
    ]


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
