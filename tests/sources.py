"""The project's own source files as syntax trees, for the tests that read them."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "evloop"
MODULES = sorted(path.stem for path in PACKAGE.glob("*.py") if path.stem != "__init__")


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def module_path(module: str) -> Path:
    return PACKAGE / f"{module}.py"


def _is_type_checking(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.If)
        and isinstance(node.test, ast.Name)
        and node.test.id == "TYPE_CHECKING"
    )


def run_time_nodes(node: ast.AST, *, late: bool = True) -> Iterator[ast.AST]:
    """Every node below `node` that runs: no `if TYPE_CHECKING:`; without `late` no function."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and _is_type_checking(child):
            for other in child.orelse:
                yield other
                yield from run_time_nodes(other, late=late)
            continue
        if not late and isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        yield child
        yield from run_time_nodes(child, late=late)


def imports(path: Path, *, late: bool = True, typing: bool = False) -> set[str]:
    """Full names of the modules that a file imports; `from evloop import x` gives evloop.x.

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
            if module == "evloop":
                found |= {f"evloop.{alias.name}" for alias in node.names}
            else:
                found.add(module)
    return found
