"""No test reaches into what a class or a module keeps for itself."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.support.sources import ROOT, by_folder, name_of, tree_of

TESTS = by_folder(sorted((ROOT / "tests").rglob("*.py")))

# The public methods of a namedtuple, whose underscore keeps them apart from its fields.
NAMEDTUPLE = {"_replace", "_fields", "_asdict", "_make", "_field_defaults"}

# What the standard library has no other way for; none of it is evloop's.
FOREIGN = {
    ("tests/support/elsewhere.py", "_obj"),  # of ctypes.byref: the object behind it
    ("tests/house/test_docs_using.py", "_actions"),  # of argparse: all options of a parser
}


def is_private(name: str) -> bool:
    return name.startswith("_") and not (name.startswith("__") and name.endswith("__"))


def own_names(tree: ast.AST) -> set[str]:
    """The private names that this file itself gives: functions, variables, fields of self."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif (
            isinstance(node, ast.Attribute)
            and isinstance(node.ctx, ast.Store)
            and isinstance(node.value, ast.Name)
            and node.value.id == "self"
        ):
            names.add(node.attr)
    return names


def intrusions(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, name) of each private name of others that is read, set, planted or imported."""
    own = own_names(tree)
    for node in ast.walk(tree):
        found: list[str] = []
        if isinstance(node, ast.Attribute):
            if not (
                isinstance(node.value, ast.Name) and node.value.id in ("self", "cls", "os", "sys")
            ):
                found = [node.attr]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("evloop"):
            names = [alias.name for alias in node.names]
            yield from ((node.lineno, name) for name in names if is_private(name))
        elif isinstance(node, ast.Call) and len(node.args) > 1:
            called = getattr(node.func, "attr", getattr(node.func, "id", ""))
            text = node.args[1]
            if called in ("setattr", "getattr", "delattr") and isinstance(text, ast.Constant):
                found = [str(text.value)]
        for name in found:
            if is_private(name) and name not in own | NAMEDTUPLE:
                yield getattr(node, "lineno", 0), name


@pytest.mark.parametrize("folder", TESTS)
def test_a_test_uses_what_is_public(folder: str) -> None:
    found = []
    for path in TESTS[folder]:
        for line, name in intrusions(tree_of(path)):
            if (name_of(path), name) not in FOREIGN:
                found.append(f"{name_of(path)}:{line}: {name}")
    assert not found, "give the class a public way, or judge by what it does"


@pytest.mark.parametrize(
    "text",
    [
        "room._log.clear()",
        "room._log = 1",
        "patch.setattr(module, '_log', 1)",
        "getattr(room, '_log')",
        "from evloop.net.tls import _log",
    ],
)
def test_an_intrusion_is_found(text: str) -> None:
    assert [name for _, name in intrusions(ast.parse(text))] == ["_log"]
    assert not list(intrusions(ast.parse(text.replace("_log", "log"))))
