"""Exit codes are the same in the code, in --help, on the pages, in the man pages and in README."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from evloop.base import errors
from evloop.base.errors import CLIENT_STATUSES, SERVER_STATUSES
from tests.house.pages import Page, plain
from tests.support.sources import ROOT

PROGRAMS = [
    ("evloop.client", CLIENT_STATUSES, "docs/using.md", "man/evloop-client.1"),
    ("evloop.server", SERVER_STATUSES, "docs/operating.md", "man/evloop-server.1"),
]
each_program = pytest.mark.parametrize(("module", "statuses", "page", "man"), PROGRAMS)


@each_program
def test_help_lists_them(module: str, statuses: dict[int, str], page: str, man: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", module, "--help"],
        check=True, cwd=ROOT, capture_output=True, text=True, env={"COLUMNS": "200"},
    )  # fmt: skip
    told = done.stdout[done.stdout.index("exit codes:\n") :]
    rows = re.findall(r"^ {2,4}(\d+)  (.+)$", told, re.MULTILINE)
    assert [(int(code), meaning) for code, meaning in rows] == list(statuses.items())


@each_program
def test_the_page_lists_them(module: str, statuses: dict[int, str], page: str, man: str) -> None:
    rows = Page(ROOT / page).table("Exit codes", "code")
    assert [int(plain(row[0])) for row in rows] == list(statuses)


@each_program
def test_the_man_page_lists_them(
    module: str, statuses: dict[int, str], page: str, man: str
) -> None:
    text = (ROOT / man).read_text()
    listed = text[text.index('.SH "EXIT STATUS"') :]
    listed = listed[: listed.index("\n.SH", 1)]
    assert [int(code) for code in re.findall(r"^\.B (\d+)$", listed, re.MULTILINE)] == list(
        statuses
    )


def test_every_status_of_the_code_is_one_of_a_program() -> None:
    text = Path(str(errors.__file__)).read_text()
    table = text[text.index("# Exit statuses") : text.index("# What --help")]
    names = re.findall(r"\b[A-Z][A-Z_]+\b(?=[A-Z_, ]* =)", table)
    assert {0, *(getattr(errors, name) for name in names)} == {*CLIENT_STATUSES, *SERVER_STATUSES}
    classes = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    used = {getattr(kind, "exit_status", 0) for kind in classes}
    assert used <= {*CLIENT_STATUSES}


def test_those_in_readme_are_right() -> None:
    text = " ".join((ROOT / "README.md").read_text().split())
    sentence = re.search(r"exit code says what went wrong: ([^;]+);", text)
    assert sentence is not None
    told = re.findall(r"(\d+) ([a-z]+)", sentence[1])
    assert len(told) >= 5
    assert {int(code) for code, _ in told} <= set(CLIENT_STATUSES)
