"""docs/testing.md against the tests that there are: folders, commands, names to change."""

from __future__ import annotations

import ast
import re

import pytest

from tests.house.pages import Page, plain
from tests.simulation.__main__ import arguments
from tests.support.sources import ROOT

PAGE = Page(ROOT / "docs" / "testing.md")
TESTS = ROOT / "tests"
COMMANDS = re.findall(r"^python3 -m (tests\.[\w.]+)(.*)$", PAGE.text, re.M)


def column(section: str, head: str) -> list[str]:
    """The first cells of a table."""
    return [plain(row[0]) for row in PAGE.table(section, head)]


def test_every_folder_of_tests_is_told_and_no_other() -> None:
    folders = {path.parent.relative_to(ROOT) for path in TESTS.glob("*/__init__.py")}
    assert set(column("Where a test lives", "folder")) == {path.as_posix() for path in folders}


def test_what_is_named_is_there() -> None:
    paths = re.findall(r"`((?:tests|docs|evloop)/[\w/.]+)`", PAGE.text)
    assert len(paths) > 20
    assert [path for path in paths if not (ROOT / path).exists()] == []
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    commands = column("Testing", "command")
    named = [command.removeprefix("make ") for command in commands if "make" in command]
    assert named and set(named) <= set(targets)
    assert (ROOT / ".ci" / "run").exists() and (ROOT / "check").exists()


def test_the_commands_can_be_given() -> None:
    modules = {module for module, _ in COMMANDS}
    assert modules == {
        "tests.simulation", "tests.simulation.road_figures", "tests.lab", "tests.lab.clinic",
        "tests.lab.find", "tests.fuzz.editor", "tests.e2e.kept_kills", "tests.lab.test_cluster",
        "tests.simulation.site_figures",
    }  # fmt: skip
    for module, words in COMMANDS:
        if module == "tests.simulation":
            arguments().parse_args(words.split())
            continue
        path = ROOT.joinpath(*module.split("."))
        source = path / "__main__.py" if path.is_dir() else path.with_suffix(".py")
        options = re.findall(r'"(--\w+)"', source.read_text(encoding="utf-8"))
        assert set(re.findall(r"--\w+", words)) <= set(options), words


def test_the_kinds_of_violations_are_those_that_are_raised() -> None:
    kinds = set()
    for path in (TESTS / "simulation").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Violation":
                assert isinstance(node.args[0], ast.Constant)
                kinds.add(node.args[0].value)
    assert set(column("The oracle", "kind")) == kinds


@pytest.mark.parametrize("name", ["FAULTS", "REGRESSIONS", "PLANTED", "Violation", "Day.heal"])
def test_names_to_look_for_are_written_as_they_are(name: str) -> None:
    assert f"`{name}`" in PAGE.text
    sources = "".join(path.read_text() for path in (TESTS / "simulation").glob("*.py"))
    for part in name.split("."):
        assert re.search(rf"^ *(def |class )?{part}\b", sources, re.M), part
