"""Style as a test: length, and what must not be written."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.support.sources import (
    MODULES,
    PACKAGE,
    ROOT,
    SOURCES,
    module_path,
    run_time_nodes,
    tree_of,
)

COLUMNS_MAX = 100
FUNCTION_LINES_MAX = 70
FILE_LINES_MAX = 550


# Wall time is for people: only the wiring and the log read it.
WALL_CLOCK = {"daemon.server", "client", "system.log"}

# One of each in a process: they wire, and hold much.
ONE_OF_A_KIND = {
    "Admission",
    "Chat",
    "Client",
    "ClusterDispatcher",
    "Console",
    "DirectoryClient",
    "Dispatcher",
    "LineMode",
    "Prompt",
    "ScreenMode",
    "Server",
}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_lines_fit(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert not [n for n, line in enumerate(lines, 1) if len(line) > COLUMNS_MAX]
    assert not [n for n, line in enumerate(lines, 1) if line != line.rstrip() or "\t" in line]


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_functions_fit_a_screen(path: Path) -> None:
    long = []
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES_MAX:
                long.append(f"{node.name}: {lines} lines")
    assert not long


def test_files_hold_one_idea() -> None:
    lengths = {
        name_of(path): len(path.read_text(encoding="utf-8").splitlines())
        for path in SOURCES
        if PACKAGE in path.parents
    }
    too_long = {name: lines for name, lines in lengths.items() if lines > FILE_LINES_MAX}
    assert not too_long


@pytest.mark.parametrize("module", MODULES)
def test_words_that_are_not_written(module: str) -> None:
    for node in run_time_nodes(tree_of(module_path(module))):
        line = getattr(node, "lineno", 0)
        if isinstance(node, (ast.Name, ast.Attribute, ast.alias)):
            name = {ast.Name: "id", ast.Attribute: "attr", ast.alias: "name"}[type(node)]
            # A table on remote input that grows by being asked.
            assert getattr(node, name) != "defaultdict", f"defaultdict in line {line}"
        assert not isinstance(node, (ast.AsyncFunctionDef, ast.Await)), f"line {line}"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("eval", "exec", "__import__"), f"line {line}"
            if node.func.id == "getattr":
                # Dispatch is by a table that can be read, never by a name put together.
                made = not isinstance(node.args[1], (ast.Name, ast.Constant))
                on_us = isinstance(node.args[0], ast.Name) and node.args[0].id == "self"
                assert not (made and on_us), f"getattr in line {line}"


@pytest.mark.parametrize("module", [name for name in MODULES if name not in WALL_CLOCK])
def test_wall_time_is_not_read(module: str) -> None:
    for node in run_time_nodes(tree_of(module_path(module))):
        line = getattr(node, "lineno", 0)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            wall = (node.value.id, node.attr) in {("time", "time"), ("time", "time_ns")}
            assert not wall, f"line {line}"
            assert node.value.id != "datetime", f"line {line}"
        if isinstance(node, ast.ImportFrom) and node.module == "time":
            assert not {alias.name for alias in node.names} & {"time", "time_ns"}, f"line {line}"


@pytest.mark.parametrize("module", MODULES)
def test_classes_have_slots(module: str) -> None:
    """Peers, rooms and connections are many, and a misspelt attribute is an error."""
    bare = []
    for node in run_time_nodes(tree_of(module_path(module))):
        if not isinstance(node, ast.ClassDef):
            continue
        has_slots = any(
            isinstance(item, ast.Assign)
            and any(isinstance(name, ast.Name) and name.id == "__slots__" for name in item.targets)
            for item in node.body
        )
        exception = module == "base.errors" or any(
            isinstance(base, ast.Name) and base.id.endswith(("Error", "Exception", "Refused"))
            for base in node.bases
        )
        if not has_slots and not exception and node.name not in ONE_OF_A_KIND:
            bare.append(node.name)
    assert not bare


@pytest.mark.parametrize("module", MODULES)
def test_a_module_says_what_it_is(module: str) -> None:
    assert ast.get_docstring(tree_of(module_path(module)))
