"""Style as a test: length, and what must not be written."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.support.sources import (
    PACKAGE,
    SOURCES,
    by_folder,
    module_path,
    modules_by_package,
    name_of,
    nodes_of,
    tree_of,
)

COLUMNS_MAX = 100
FUNCTION_LINES_MAX = 70
FILE_LINES_MAX = 550

FOLDERS = by_folder(SOURCES)
PACKAGES = modules_by_package()

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


@pytest.mark.parametrize("folder", FOLDERS)
def test_lines_fit(folder: str) -> None:
    wrong = []
    for path in FOLDERS[folder]:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if len(line) > COLUMNS_MAX or line != line.rstrip() or "\t" in line:
                wrong.append(f"{name_of(path)}:{number}")
    assert not wrong


def _functions(body: list[ast.stmt]) -> Iterator[ast.FunctionDef]:
    """All in these statements, those in others too. (`ast.walk` goes into each expression, where
    there can be none: that takes ten times as long.)"""
    for node in body:
        if isinstance(node, ast.FunctionDef):
            yield node
        for field in ("body", "orelse", "finalbody"):
            yield from _functions(getattr(node, field, []))
        for handler in getattr(node, "handlers", []):
            yield from _functions(handler.body)


@pytest.mark.parametrize("folder", FOLDERS)
def test_functions_fit_a_screen(folder: str) -> None:
    long = []
    for path in FOLDERS[folder]:
        for node in _functions(tree_of(path).body):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES_MAX:
                long.append(f"{name_of(path)}: {node.name}: {lines} lines")
    assert not long


def test_functions_are_found_wherever_they_stand() -> None:
    text = """
class A:
    def a(self):
        def b(): pass
if A:
    def c(): pass
else:
    try:
        def d(): pass
    except OSError:
        def e(): pass
    else:
        def f(): pass
    finally:
        def g(): pass
with A:
    for h in A:
        def h(): pass
"""
    tree = ast.parse(text)
    walked = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    assert {node.name for node in _functions(tree.body)} == walked == set("abcdefgh")


def test_files_hold_one_idea() -> None:
    lengths = {
        name_of(path): len(path.read_text(encoding="utf-8").splitlines())
        for path in SOURCES
        if PACKAGE in path.parents
    }
    too_long = {name: lines for name, lines in lengths.items() if lines > FILE_LINES_MAX}
    assert not too_long


@pytest.mark.parametrize("package", PACKAGES)
def test_words_that_are_not_written(package: str) -> None:
    for module in PACKAGES[package]:
        for node in nodes_of(module_path(module)):
            _check_words(node, f"{module}:{getattr(node, 'lineno', 0)}")


def _check_words(node: ast.AST, where: str) -> None:
    if isinstance(node, (ast.Name, ast.Attribute, ast.alias)):
        name = {ast.Name: "id", ast.Attribute: "attr", ast.alias: "name"}[type(node)]
        # A table on remote input that grows by being asked.
        assert getattr(node, name) != "defaultdict", where
    assert not isinstance(node, (ast.AsyncFunctionDef, ast.Await)), where
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        assert node.func.id not in ("eval", "exec", "__import__"), where
        if node.func.id == "getattr":
            # Dispatch is by a table that can be read, never by a name put together.
            made = not isinstance(node.args[1], (ast.Name, ast.Constant))
            on_us = isinstance(node.args[0], ast.Name) and node.args[0].id == "self"
            assert not (made and on_us), where


@pytest.mark.parametrize("package", PACKAGES)
def test_wall_time_is_not_read(package: str) -> None:
    for module in PACKAGES[package]:
        if module in WALL_CLOCK:
            continue
        for node in nodes_of(module_path(module)):
            where = f"{module}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                wall = (node.value.id, node.attr) in {("time", "time"), ("time", "time_ns")}
                assert not wall, where
                assert node.value.id != "datetime", where
            if isinstance(node, ast.ImportFrom) and node.module == "time":
                assert not {alias.name for alias in node.names} & {"time", "time_ns"}, where


@pytest.mark.parametrize("package", PACKAGES)
def test_classes_have_slots(package: str) -> None:
    """Peers, rooms and connections are many, and a misspelt attribute is an error."""
    bare = []
    for module in PACKAGES[package]:
        for node in nodes_of(module_path(module)):
            if not isinstance(node, ast.ClassDef):
                continue
            exception = module == "base.errors" or any(
                isinstance(base, ast.Name) and base.id.endswith(("Error", "Exception", "Refused"))
                for base in node.bases
            )
            if not _has_slots(node) and not exception and node.name not in ONE_OF_A_KIND:
                bare.append(f"{module}: {node.name}")
    assert not bare


def _has_slots(node: ast.ClassDef) -> bool:
    return any(
        isinstance(item, ast.Assign)
        and any(isinstance(name, ast.Name) and name.id == "__slots__" for name in item.targets)
        for item in node.body
    )


@pytest.mark.parametrize("package", PACKAGES)
def test_a_module_says_what_it_is(package: str) -> None:
    modules = PACKAGES[package]
    assert [one for one in modules if not ast.get_docstring(tree_of(module_path(one)))] == []
