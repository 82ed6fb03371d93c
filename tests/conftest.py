"""What holds for every test: nothing leaves this machine, nothing leaks, nothing blocks."""

from __future__ import annotations

import compileall
import faulthandler
import os
import pwd
import signal
import sys
from collections.abc import Iterator
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from evloop.system.loop import Loop
from tests.support.processes import Crew
from tests.support.sources import PACKAGE, ROOT, imports, is_pure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tests.support.live import Process

# Of the tests' own helpers, those that need nothing but text.
PURE_HELPERS = (
    "support.json_texts",
    "support.mdns",
    "support.pairs",
    "support.responders",
    "support.screen",
)
LINUX = sys.platform == "linux"
OWN_DESCRIPTORS = "/proc/self/fd" if LINUX else "/dev/fd"
LIBFFI = "libffi"  # keeps what its closures run in open, a memfd or its own file, as long as we run
MEMORY = "/dev/shm"  # in a container it may be too small, or run nothing
TESTS_BYTES = 1 << 30  # far above what those of three runs take
STUCK_SHARE = 0.5  # of its time: then every thread's stack is printed, though a test goes on
BUSY_S_MAX = 2.0  # of one tick; far above any honest one, even on a busy machine of two cores

# The machine may be busy: an example that took long once says nothing. Each run draws other
# examples, and CI runs the pure tests on every Python: so many a time are enough.
hypothesis.settings.register_profile("evloop", deadline=None, max_examples=50)
hypothesis.settings.load_profile("evloop")

_NUMBERS = count()

# The real one: while a test runs, descriptor 2 is pytest's.
_STDERR = pytest.StashKey[int]()


def _fits(place: str) -> bool:
    """Whether the files of all tests have room at `place`, and programs among them can be run."""
    try:
        found = os.statvfs(place)
    except OSError:
        return False
    free = found.f_bavail * found.f_frsize
    return free >= TESTS_BYTES and not found.f_flag & os.ST_NOEXEC and os.access(place, os.W_OK)


def pytest_configure(config: pytest.Config) -> None:
    if LINUX and _fits(MEMORY):  # what must be on the disk at once is 20 times as quick there
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", MEMORY)
    # A shell starts `./check &` with both ignored; the programs under test would leave it so.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    config.stash[_STDERR] = os.dup(2)
    # The programs under test write no bytecode. Without any, as in a fresh clone, each of hundreds
    # of starts would compile all that it imports: 0.4 s instead of 0.08 s.
    if not hasattr(config, "workerinput"):
        for folder in (PACKAGE, ROOT / "tests" / "support"):
            compileall.compile_dir(folder, quiet=2)


def pytest_unconfigure(config: pytest.Config) -> None:
    os.close(config.stash[_STDERR])


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """At the end, for whoever reads no list: how many were skipped, and for want of what.

    $CHECK_SKIPPED is a file of ./check and .ci/run, to which each reason is added: they tell at
    their own end what all runs of pytest have skipped.
    """
    wants: dict[str, int] = {}
    for report in terminalreporter.stats.get("skipped", ()):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        reason = reason.removeprefix("Skipped: ")
        wants[reason] = wants.get(reason, 0) + 1
        if "CHECK_SKIPPED" in os.environ:
            with open(os.environ["CHECK_SKIPPED"], "a") as file:
                file.write(" ".join(reason.split()) + "\n")
    if wants:
        terminalreporter.section(f"{sum(wants.values())} skipped")
        for reason, count in sorted(wants.items(), key=lambda want: -want[1]):
            terminalreporter.write_line(f"{count:5} {reason}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark as `pure` the tests of pure modules alone, where such are asked for: CI runs these on
    every CPython. To find them takes each worker seconds."""
    if "pure" not in config.option.markexpr:
        return
    for item in items:
        if _is_pure_file(item.path):
            item.add_marker(pytest.mark.pure)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Where pure tests alone are asked for, no other file is even compiled."""
    unwanted = (
        config.option.markexpr == "pure"
        and collection_path.match("test_*.py")
        and not _is_pure_file(collection_path)
    )
    return unwanted or None


@cache
def _is_pure_file(path: Path) -> bool:
    return all(_is_pure(name) for name in imports(path))


def _is_pure(name: str) -> bool:
    top, _, rest = name.partition(".")
    if top == "tests":
        return rest in PURE_HELPERS
    if top in ("socket", "subprocess", "pty"):
        return False
    return top != "evloop" or is_pure(rest)


def _unknown_user(number: int) -> object:
    raise KeyError(number)


@pytest.fixture(autouse=True)
def surroundings(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Multicast stays on loopback, state goes to a directory of the test's own.

    That is in `tmp_path` for a test that asks for it; to make one for every test would take longer
    than most tests do. The directory is made by the first program that keeps something.
    """
    if "tmp_path" in request.fixturenames:
        home = request.getfixturevalue("tmp_path")
    else:
        home = tmp_path_factory.getbasetemp() / f"home{next(_NUMBERS)}"
    for name in [name for name in os.environ if name.startswith("EVLOOP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("EVLOOP_INTERFACE", "127.0.0.1")
    monkeypatch.setenv("XDG_STATE_HOME", str(home / "state"))
    monkeypatch.setattr(pwd, "getpwuid", _unknown_user)  # nor by way of the user database


def _open_descriptors() -> dict[int, str]:
    found = {}
    for name in os.listdir(OWN_DESCRIPTORS):
        try:
            found[int(name)] = os.readlink(f"{OWN_DESCRIPTORS}/{name}") if LINUX else name
        except FileNotFoundError:  # the listing's own
            continue
    return found


@pytest.fixture(autouse=True)
def no_leaks(surroundings: None) -> Iterator[None]:
    """Fails a test that leaves a descriptor open, and says which."""
    before = _open_descriptors()
    yield
    leaked = {
        fd: what
        for fd, what in _open_descriptors().items()
        if before.get(fd) != what and LIBFFI not in what
    }
    assert not leaked, f"left open: {leaked}"


def _waited_s() -> float:
    """Seconds for which this process could have run, and the machine ran others; 0: not told."""
    try:
        with open("/proc/self/schedstat") as file:
            return int(file.read().split()[1]) / 1e9
    except OSError:
        return 0.0


def _time_of(item: pytest.Item) -> float:
    """Seconds that a test may take."""
    marker = item.get_closest_marker("timeout")
    return float(marker.args[0] if marker is not None else item.config.getini("timeout"))


@pytest.fixture(autouse=True)
def nothing_blocks(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, pytestconfig: pytest.Config
) -> Iterator[None]:
    """Fails a test in whose process a loop did not come back to its select for too long."""
    too_long: list[float] = []
    make = Loop.__init__
    waited = _waited_s()  # what the machine takes from us is not ours

    def on_busy(seconds: float) -> None:
        nonlocal waited
        if seconds > BUSY_S_MAX:
            before, waited = waited, _waited_s()
            if seconds - (waited - before) > BUSY_S_MAX:
                too_long.append(seconds)

    def make_watched(loop: Loop, **options: Any) -> None:
        make(loop, **options)
        if "clock" not in options:  # a test that brings its own clock reads it as it likes
            loop.on_busy = on_busy

    monkeypatch.setattr(Loop, "__init__", make_watched)
    stuck_s = STUCK_SHARE * _time_of(request.node)
    faulthandler.dump_traceback_later(stuck_s, file=pytestconfig.stash[_STDERR])
    yield
    faulthandler.cancel_dump_traceback_later()
    assert not too_long, f"ticks of {too_long} seconds: something blocked"


@pytest.fixture
def crew() -> Iterator[Crew]:
    """Programs as processes, ended when the test is."""
    with Crew() as crew:
        yield crew


@pytest.fixture
def processes() -> Iterator[list[Process]]:
    """Servers that a test starts and appends here; ended when the test is."""
    started: list[Process] = []
    yield started
    for process in started:
        process.close()
