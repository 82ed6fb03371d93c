"""The house, read off the imports: who may import whom, what is pure, what is loaded when.

    python3 -m tests.house.layout

prints the packages with their modules, lines and edges.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.house.layout import MAY_IMPORT, edges, package_of
from tests.support.sources import (
    MODULES,
    PACKAGES,
    ROOT,
    imports,
    is_pure,
    module_path,
    modules_by_package,
    tree_of,
)

BY_PACKAGE = modules_by_package()


def _words(*lines: str) -> frozenset[str]:
    return frozenset(" ".join(lines).split())


# All that a pure module may know of the standard library.
PURE = _words(
    "__future__ _blake2 _operator binascii bisect codecs collections difflib hashlib heapq hmac",
    "ipaddress itertools json math operator re struct unicodedata",
)
# Never at run time. (Measured: logging +5 ms, dataclasses +8 ms and 1.5 MB, asyncio 33 ms, 19 MB.)
NEVER = _words(
    "asyncio concurrent contextlib dataclasses enum importlib inspect logging",
    "multiprocessing pathlib queue subprocess threading typing uuid",
)
# Only inside functions, where they are needed: each costs start-up time or memory.
LATE = _words(
    "argparse array difflib hashlib hmac ipaddress json re sqlite3 ssl traceback unicodedata",
)
# Modules that exist for such a library; they are then imported late themselves.
LATE_IN_WHOLE = {
    "daemon.store": {"sqlite3"},
    "base.strictjson": {"json", "re"},
    "net.tls": {"ssl"},
    "net.natswire": {"json"},
}

# Names of all modules of the standard library, where the interpreter knows them.
STDLIB: frozenset[str] = getattr(sys, "stdlib_module_names", frozenset())

# Must not be loaded for `--version`, nor (with the second row) before the first prompt.
HEAVY = _words("asyncio dataclasses logging subprocess threading")
NOT_YET = _words("difflib hashlib ipaddress json pathlib sqlite3 ssl traceback typing unicodedata")


def test_the_sources_are_found() -> None:
    """A search that found five files would let every other test here pass."""
    assert len(MODULES) > 70
    assert set(PACKAGES) - {"", "room.reliable"} == set(MAY_IMPORT)


@pytest.mark.parametrize("package", BY_PACKAGE)
def test_a_package_imports_what_its_row_allows(package: str) -> None:
    """Types too: a type from above is knowledge of what is above."""
    for module in BY_PACKAGE[package]:
        mine = package_of(module)
        if mine == "":  # the entry points
            continue
        for name in imports(module_path(module), typing=True):
            if name.startswith("evloop.") and name != "evloop.__version__":
                other = name.removeprefix("evloop.")
                assert other in MODULES, f"{module} imports {other}, which is no module"
                allowed = {mine, *MAY_IMPORT[mine]}
                assert package_of(other) in allowed, f"{module} imports {other}"


def test_there_is_no_import_cycle() -> None:
    """At run time, late imports included."""
    below = {
        module: {
            name.removeprefix("evloop.")
            for name in imports(module_path(module))
            if name.startswith("evloop.") and name != "evloop.__version__"
        }
        for module in MODULES
    }
    while below:
        free = [module for module, needs in below.items() if not needs & set(below)]
        assert free, f"a cycle among {sorted(below)}"
        for module in free:
            del below[module]


def test_pure_modules_know_no_system() -> None:
    pure = [module for module in MODULES if is_pure(module)]
    assert len(pure) > 60
    for module in pure:
        found = imports(module_path(module))
        outside = {name for name in found if not name.startswith("evloop")}
        assert outside <= PURE, f"{module} imports {outside - PURE}"
        ours = {name.removeprefix("evloop.") for name in found if name.startswith("evloop.")}
        assert not [name for name in ours if not is_pure(name)], module


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_is_one_docstring(package: str) -> None:
    body = tree_of(module_path(package)).body
    # evloop itself has its version, and a word for interpreters that are too old.
    assert len(body) == (4 if package == "" else 1)


def test_the_table_of_edges_is_printed() -> None:
    """What `python3 -m tests.house.layout` shows is what was just checked."""
    for package, others in edges().items():
        if package:
            assert set(others) <= set(MAY_IMPORT[package])


@pytest.mark.parametrize("package", BY_PACKAGE)
def test_what_is_never_imported(package: str) -> None:
    for module in BY_PACKAGE[package]:
        found = {name.partition(".")[0] for name in imports(module_path(module))}
        assert not found & NEVER, module


@pytest.mark.parametrize("package", BY_PACKAGE)
def test_what_is_imported_late(package: str) -> None:
    for module in BY_PACKAGE[package]:
        found = {name.partition(".")[0] for name in imports(module_path(module), late=False)}
        if "_blake2" in found:
            found.discard("hashlib")  # only where there is no _blake2
        assert not (found & LATE) - LATE_IN_WHOLE.get(module, set()), module


@pytest.mark.skipif(not STDLIB, reason="Python 3.9 does not tell the names of its modules")
@pytest.mark.parametrize("package", BY_PACKAGE)
def test_only_the_standard_library_and_ourselves(package: str) -> None:
    for module in BY_PACKAGE[package]:
        found = {name.partition(".")[0] for name in imports(module_path(module), typing=True)}
        assert found <= STDLIB | {"evloop"}, module


def loaded_by(program: str, *arguments: str, typed: str = "") -> set[str]:
    """Names of all modules that a run of the program loads, but for what `-m` itself loads."""
    loaded = _loaded("-m", f"evloop.{program}", *arguments, typed=typed)
    assert {"evloop", "evloop.base.limits"} <= loaded  # the listing was understood
    return loaded - _loaded("-c", "import runpy")  # in Python 3.9 it loads typing


def _loaded(*arguments: str, typed: str = "") -> set[str]:
    done = subprocess.run(
        [sys.executable, "-S", "-X", "importtime", *arguments],
        cwd=ROOT,
        input=typed,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}


@pytest.mark.parametrize("program", ["server", "client"])
def test_version_loads_nothing_heavy(program: str) -> None:
    assert not loaded_by(program, "--version") & HEAVY


@pytest.mark.parametrize("program", ["server", "client"])
def test_version_does_not_wait_for_what_serves_or_chats(program: str) -> None:
    parts = {"socket", "selectors", "evloop.system.loop", "evloop.net.stream", "argparse"}
    assert not loaded_by(program, "--version") & parts


def test_the_client_comes_to_its_prompt_with_nothing_heavy() -> None:
    loaded = loaded_by("client", typed="quit\n")
    assert not loaded & (HEAVY | NOT_YET)
    rooms = {name for name in loaded if name.startswith("evloop.room.")}
    assert rooms <= {"evloop.room.limits"}, "a room is loaded when the first one is entered"
