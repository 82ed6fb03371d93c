"""The project's own source files as syntax trees, for the tests that read them."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "evloop"
OLDEST = (3, 9)  # the Python that must read every file of ours


def module_name(path: Path) -> str:
    """`evloop/net/tls.py` -> "net.tls"; a package's `__init__.py` has the package's name."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


# All modules but the packages' `__init__`, by their dotted names below evloop.
MODULES = sorted(module_name(path) for path in PACKAGE.rglob("*.py") if path.stem != "__init__")
PACKAGES = sorted(module_name(path) for path in PACKAGE.rglob("__init__.py"))

# Every file of the project that is Python, for the tests of style.
SOURCES = sorted(
    path
    for folder in ("evloop", "tests", "bench", "tools")
    for path in (ROOT / folder).rglob("*.py")
    if "build" not in path.relative_to(ROOT).parts
)


# Modules without sockets, clocks and files: bytes and values in, bytes and values out.
_PURE_PACKAGES = ("base", "irc", "room.reliable", "terminal")
_PURE_MODULES = {
    "framing",
    "room.attachment",
    "room.events",
    "room.plain",
    "room.roads",
    "directory.announcement",
    "directory.greeting",
    "directory.owner",
    "directory.discovery",
    "directory.pages",
    "directory.places",
    "directory.protocol",
    "directory.registry",
    "directory.relay_frames",
    "directory.requests",
    "directory.responder",
    "directory.yielding",
    "daemon.calls",
    "daemon.census",
    "daemon.loading",
    "daemon.changes",
    "daemon.etcd",
    "daemon.importing",
    "daemon.replica",
    "net.http1",
    "net.links",
    "net.netlink",
    "net.mdns",
    "net.natswire",
    "net.scheduler",
    "system.timers",
    "app.commands",
    "app.completion",
    "app.reconcile",
    "app.road_finding",
}
_NOT_PURE = {
    "irc.door",
    "irc.locks",
    "irc.peer",
    "irc.rooms",
    "terminal.tty",
    "terminal.screen_mode",
    "terminal.line_mode",
    "terminal.frontend",
}


def is_pure(module: str) -> bool:
    """`module` is a dotted name below evloop."""
    package, _, name = module.rpartition(".")
    if module in _PURE_MODULES or name == "limits":
        return True
    return package in _PURE_PACKAGES and module not in _NOT_PURE


def by_folder(paths: Iterable[Path]) -> dict[str, list[Path]]:
    """ "evloop/net" -> its files among `paths`. A rule for all files is one test for each folder:
    one for each file would cost more in pytest than in the rule."""
    found: dict[str, list[Path]] = {}
    for path in paths:
        found.setdefault(path.parent.relative_to(ROOT).as_posix(), []).append(path)
    return found


def name_of(path: Path) -> str:
    """As it is called from the top of the repository."""
    return path.relative_to(ROOT).as_posix()


@cache
def tree_of(path: Path) -> ast.Module:
    """SyntaxError where Python 3.9 would not read it."""
    return ast.parse(path.read_text(encoding="utf-8"), str(path), feature_version=OLDEST)


def modules_by_package() -> dict[str, list[str]]:
    """ "net" -> its modules; "" has the entry points. See `by_folder`."""
    found: dict[str, list[str]] = {}
    for module in MODULES:
        found.setdefault(module.rpartition(".")[0], []).append(module)
    return found


def module_path(module: str) -> Path:
    path = PACKAGE.joinpath(*module.split(".")) if module else PACKAGE
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _is_type_checking(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.If)
        and isinstance(node.test, ast.Name)
        and node.test.id == "TYPE_CHECKING"
    )


@cache
def nodes_of(path: Path) -> tuple[ast.AST, ...]:
    """All that runs in a file: see `run_time_nodes`."""
    return tuple(run_time_nodes(tree_of(path)))


def run_time_nodes(node: ast.AST, *, late: bool = True) -> Iterator[ast.AST]:
    """Every node below `node` that runs: no `if TYPE_CHECKING:`; without `late` no function."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and _is_type_checking(child):
            for other in child.orelse:
                yield other
                yield from run_time_nodes(other, late=late)
            continue
        if not late and isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        yield child
        yield from run_time_nodes(child, late=late)


@cache
def imports(path: Path, *, late: bool = True, typing: bool = False) -> frozenset[str]:
    """Full names of the modules that a file imports: `from evloop.net import tls` is evloop.net.tls

    `typing`: those of `if TYPE_CHECKING:` too.
    """
    tree = tree_of(path)
    found = set()
    for node in ast.walk(tree) if typing else run_time_nodes(tree, late=late):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            module = node.module or ""
            if (ROOT / module.replace(".", "/") / "__init__.py").exists():
                found |= {f"{module}.{alias.name}" for alias in node.names}
            else:
                found.add(module)
    return frozenset(found)
