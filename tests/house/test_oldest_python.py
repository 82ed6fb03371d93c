"""Python 3.9 reads every file of ours: seen in the syntax tree, so that any Python sees it.

What is said to still older ones is tried with those that this machine has.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.pythons import interpreters
from tests.support.sources import (
    OLDEST,
    PACKAGE,
    SOURCES,
    by_folder,
    name_of,
    run_time_nodes,
    tree_of,
)

FOLDERS = by_folder(SOURCES)


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# What came later, as it is written: by whom it is had, or what it is called wherever it stands.
LATER_NAMES = _words(
    """
    aiter anext ExceptionGroup BaseExceptionGroup EncodingWarning PythonFinalizationError
    itertools.pairwise itertools.batched os.login_tty os.eventfd os.EFD_NONBLOCK os.unshare
    os.process_cpu_count termios.tcsetwinsize termios.tcgetwinsize sys.stdlib_module_names
    sys.exception sys.orig_argv sys.monitoring datetime.UTC enum.StrEnum math.cbrt math.exp2
    math.sumprod hashlib.file_digest contextlib.chdir contextlib.aclosing inspect.get_annotations
    random.binomialvariate types.NoneType types.UnionType types.EllipsisType operator.call
    asyncio.timeout asyncio.TaskGroup asyncio.Runner typing.TypeAlias typing.ParamSpec
    typing.Self typing.Never typing.assert_never typing.override typing.Concatenate
    typing.TypeGuard typing.TypeIs typing.LiteralString typing.NotRequired typing.Required
    typing.Unpack typing.TypeVarTuple typing.assert_type typing.ReadOnly
    """
)
LATER_METHODS = _words("add_note bit_count hardlink_to")
LATER_MODULES = _words("tomllib annotationlib compression")
LATER_ARGUMENTS = {
    "zip": {"strict"},
    "dataclass": {"slots", "kw_only", "weakref_slot"},
    "bisect_left": {"key"},
    "bisect_right": {"key"},
    "insort": {"key"},
    "rmtree": {"onexc"},
    "glob": {"root_dir", "include_hidden"},
}
TYPES = _words("bool bytes dict float frozenset int list object set str tuple type")


def _dotted(node: ast.AST) -> str:
    """`os.login_tty` as it is written; "" when it is no such thing."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (before := _dotted(node.value)):
        return f"{before}.{node.attr}"
    return ""


def _annotations(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            given += [extra for extra in (node.args.vararg, node.args.kwarg) if extra is not None]
            yield from (one.annotation for one in given if one.annotation is not None)
            if node.returns is not None:
                yield node.returns
        elif isinstance(node, ast.AnnAssign):
            yield node.annotation


def _is_type(node: ast.AST) -> bool:
    if isinstance(node, ast.Subscript):
        node = node.value
    is_none = isinstance(node, ast.Constant) and node.value is None
    return is_none or (isinstance(node, ast.Name) and node.id in TYPES)


def _faults_of_call(node: ast.Call) -> Iterator[str]:
    name = node.func.attr if isinstance(node.func, ast.Attribute) else _dotted(node.func)
    for keyword in node.keywords:
        if keyword.arg in LATER_ARGUMENTS.get(name, ()):
            yield f"{name}({keyword.arg}=)"
    if name in ("from_bytes", "to_bytes") and len(node.args) + len(node.keywords) < 2:
        yield f"{name} without a byte order"
    if name in ("isinstance", "issubclass") and isinstance(node.args[-1], ast.BinOp):
        yield f"{name}(x, A | B)"


def faults(tree: ast.Module) -> Iterator[str]:
    """What Python 3.9 would stumble over when it runs this."""
    annotations = list(_annotations(tree))
    unread = {id(node) for one in annotations for node in ast.walk(one)}
    postponed = any(
        isinstance(node, ast.ImportFrom) and node.module == "__future__" for node in tree.body
    )
    if annotations and not postponed:
        yield "no `from __future__ import annotations`"
    for node in run_time_nodes(tree):
        if id(node) in unread:
            continue
        line = getattr(node, "lineno", 0)
        found: list[str] = []
        if isinstance(node, ast.Call):
            found += _faults_of_call(node)
        elif isinstance(node, (ast.Name, ast.Attribute)):
            name = _dotted(node)
            last = name.rpartition(".")[2]
            if name in LATER_NAMES or (last in LATER_METHODS and "." in name):
                found.append(name)
            if name.startswith("sqlite3.SQLITE_"):
                found.append(name)
        elif isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name in LATER_MODULES]
        elif isinstance(node, ast.ImportFrom):
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found += sorted(name for name in names if name.startswith("sqlite3.SQLITE_"))
            found += sorted(names & LATER_NAMES)
            found += [node.module] if node.module in LATER_MODULES else []
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
            types = _is_type(node.left) or _is_type(node.right)
            found += ["a union of types that is evaluated"] if types else []
        for what in found:
            yield f"{what} in line {line}"


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_oldest_python_reads_it(folder: str) -> None:
    """`tree_of` reads as it does."""
    told = {name_of(path): list(faults(tree_of(path))) for path in FOLDERS[folder]}
    assert {name: found for name, found in told.items() if found} == {}


def test_what_it_does_not_read_is_no_tree(tmp_path: Path) -> None:
    path = tmp_path / "new.py"
    path.write_text("with (open('a') as a, open('b') as b): pass\n")
    tree_of(path)  # 3.9 has the parser for it already
    other = tmp_path / "newer.py"
    other.write_text("try: pass\nexcept* OSError: pass\n")
    with pytest.raises(SyntaxError):
        tree_of(other)


@pytest.mark.parametrize(
    "text",
    [
        "zip(a, b, strict=True)",
        "import tomllib",
        "from itertools import pairwise",
        "os.login_tty(3)",
        "int.from_bytes(b'GE')",
        "(7).to_bytes()",
        "isinstance(x, int | str)",
        "Names = dict[str, int] | None",
        "from sqlite3 import SQLITE_BUSY",
        "error.add_note('why')",
        "def f(x: int | None): pass",
        "insort(a, b, key=c)",
    ],
)
def test_what_it_lacks_is_found(text: str) -> None:
    assert list(faults(ast.parse(text)))


@pytest.mark.parametrize(
    "text",
    [
        "from __future__ import annotations\ndef f(x: int | None) -> dict[str, int] | None: pass",
        "flags = READ | WRITE",
        "int.from_bytes(b'GE', 'big')",
        "zip(a, b)",
        "insort(a, b)",
        "isinstance(x, (int, str))",
    ],
)
def test_what_it_knows_is_not_blamed(text: str) -> None:
    assert not list(faults(ast.parse(text)))


@pytest.mark.skipif(sys.version_info < (3, 10), reason="Python 3.9 knows no other syntax")
def test_a_match_is_found() -> None:
    with pytest.raises(SyntaxError, match=r"3\.10"):
        ast.parse("match x:\n    case 1: pass", feature_version=OLDEST)


# -- interpreters that are too old -----------------------------------------------------------------


def _told(python: str, *arguments: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [python, *arguments],
        cwd=PACKAGE.parent,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        timeout=60,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("program", ["evloop", "evloop.client", "evloop.server"])
def test_an_older_python_gets_one_sentence(program: str) -> None:
    pythons = [path for version, path in interpreters().items() if version < OLDEST]
    if not pythons:
        pytest.skip("no Python older than 3.9 on this machine")
    for python in pythons:
        status, out, err = _told(python, "-m", program, "--version")
        version = Path(python).name.replace("python", "")
        assert (status, out) == (1, "")
        assert err.startswith(f"evloop needs Python 3.9 or newer; this is {version} (/")
        assert err.count("\n") == 1


def test_the_sentence_is_tried_without_one_too() -> None:
    code = "import sys; sys.version_info = (3, 8, 18); import evloop.client"
    status, out, err = _told(sys.executable, "-c", code)
    sentence = f"evloop needs Python 3.9 or newer; this is 3.8 ({sys.executable})\n"
    assert (status, out, err) == (1, "", sentence)


@pytest.mark.parametrize("name", ["evloop/__init__.py", "tools/pyz_main.py"])
def test_the_first_file_is_in_words_that_old_ones_read(name: str) -> None:
    text = (PACKAGE.parent / name).read_text(encoding="ascii")
    tree = ast.parse(text, feature_version=(3, 7))
    newer = (ast.JoinedStr, ast.AnnAssign, ast.NamedExpr)
    assert not [node for node in ast.walk(tree) if isinstance(node, newer)]
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    assert not [one.name for one in functions if one.returns is not None or one.args.args]
    assert "__future__" not in text
