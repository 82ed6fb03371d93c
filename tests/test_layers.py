"""The floors of the house, read off the imports; what is loaded before the first prompt.

A module imports only modules on lower floors. Floors 0 to 3 are pure: bytes and values in, bytes
and values out. Types may be imported from the same floor, never from a higher one.
"""

import re
import subprocess
import sys

import pytest

from tests.sources import MODULES, ROOT, imports, module_path, tree_of

# One row a floor. A module that is not here fails the test: say where it belongs.
FLOORS = (
    "errors limits",
    "buckets clusters delay framing history keys loss names packets peers senders shelf streams"
    " strictjson style timers turns waits",
    "answerer asker bulk candidates commands confirm draw endpoints gaps herald layout ledger"
    " line listing messages outbox pacing presence ratelimit recall repairs report trickle voice",
    "completion directory editor expiry guard owner params plain session",
    "accept arguments deadlines descriptors log loop makecert multicast outlet resolve service"
    " statefiles stdin stamps store tcp terminal tls",
    "cooked keepsakes listeners metrics promises room screen stream",
    "connection faces link server_options trust",
    "chat console door exits prompt registrar settings upkeep",
    "hosting shell",
    "server starts",
    "client",
    "__main__",
)
FLOOR_OF = {module: floor for floor, row in enumerate(FLOORS) for module in row.split()}
PURE_FLOORS = 4
KNOWN = [module for module in MODULES if module in FLOOR_OF]


def _words(*lines: str) -> frozenset[str]:
    return frozenset(" ".join(lines).split())


# All that a pure module may know of the standard library.
PURE = _words(
    "_blake2 bisect codecs collections difflib hashlib heapq hmac ipaddress json math re struct",
    "unicodedata",
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
    "store": {"sqlite3"},
    "strictjson": {"json", "re"},
    "tls": {"ssl"},
}

# Must not be loaded for `--version`, nor (with the second row) before the first prompt.
HEAVY = _words("asyncio dataclasses logging subprocess threading")
NOT_YET = _words("difflib hashlib ipaddress json pathlib sqlite3 ssl traceback typing unicodedata")


def test_every_module_has_its_floor() -> None:
    assert sorted(FLOOR_OF) == sorted(MODULES)


@pytest.mark.parametrize("module", KNOWN)
def test_imports_go_down(module: str) -> None:
    mine = FLOOR_OF[module]
    for name in imports(module_path(module)):
        if name.startswith("evloop.") and name != "evloop.__version__":
            other = name.removeprefix("evloop.")
            assert FLOOR_OF.get(other, 99) < mine, f"{module} (floor {mine}) imports {other}"


@pytest.mark.parametrize("module", KNOWN)
def test_types_never_come_from_above(module: str) -> None:
    mine = FLOOR_OF[module]
    for name in imports(module_path(module), typing=True):
        if name.startswith("evloop.") and name != "evloop.__version__":
            other = name.removeprefix("evloop.")
            assert FLOOR_OF.get(other, 99) <= mine, f"{module} (floor {mine}) knows {other}"


@pytest.mark.parametrize("module", [name for name in KNOWN if FLOOR_OF[name] < PURE_FLOORS])
def test_the_lower_floors_are_pure(module: str) -> None:
    outside = {name for name in imports(module_path(module)) if not name.startswith("evloop")}
    assert outside <= PURE, f"{module} imports {outside - PURE}"


@pytest.mark.parametrize("module", MODULES)
def test_what_is_never_imported(module: str) -> None:
    found = {name.partition(".")[0] for name in imports(module_path(module))}
    assert not found & NEVER


@pytest.mark.parametrize("module", MODULES)
def test_what_is_imported_late(module: str) -> None:
    found = {name.partition(".")[0] for name in imports(module_path(module), late=False)}
    if "_blake2" in found:
        found.discard("hashlib")  # only where there is no _blake2
    assert not (found & LATE) - LATE_IN_WHOLE.get(module, set())


@pytest.mark.parametrize("module", MODULES)
def test_only_the_standard_library_and_ourselves(module: str) -> None:
    found = {name.partition(".")[0] for name in imports(module_path(module), typing=True)}
    assert found <= sys.stdlib_module_names | {"evloop"}


@pytest.mark.parametrize("module", KNOWN)
def test_a_module_says_its_floor(module: str) -> None:
    doc = tree_of(module_path(module)).body[0]
    text = getattr(getattr(doc, "value", None), "value", "")
    said = re.search(r"\b[Ff]loor (\d+)\b", text)
    assert said, f"{module} does not say its floor"
    assert int(said[1]) == FLOOR_OF[module]


def loaded_by(program: str, *arguments: str, typed: str = "") -> set[str]:
    """Names of all modules that a run of the program loads."""
    done = subprocess.run(
        [sys.executable, "-S", "-X", "importtime", "-m", f"evloop.{program}", *arguments],
        cwd=ROOT,
        input=typed,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert {"evloop", "evloop.limits"} <= loaded  # the listing was understood
    return loaded


@pytest.mark.parametrize("program", ["server", "client"])
def test_version_loads_nothing_heavy(program: str) -> None:
    assert not loaded_by(program, "--version") & HEAVY


def test_the_client_comes_to_its_prompt_with_nothing_heavy() -> None:
    assert not loaded_by("client", typed="quit\n") & (HEAVY | NOT_YET)
