"""irctest (github.com/progval/irctest) against the door, where it is installed.

It is no part of this repository. Whoever wants to run it clones it, installs what its
requirements.txt names into this Python, and says where it is:

    IRCTEST=/path/to/irctest .venv/bin/python -m pytest -m slow tests/irc/test_irctest.py

That takes ten minutes and more; as root a quarter, since each part of it then has a network of its
own. The names of its tests are those of commit b00c039.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.irc.irctest_names import FAIL_BY_DESIGN, MARKS, MUST_PASS
from tests.support.processes import DIES_WITH_US, PATIENCE_S, ROOT

IRCTEST = os.environ.get("IRCTEST", "")
PACKAGE = "irctest.server_tests."
PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"
# All doors have a room #chan, and so one group: doors that run at the same time hear each other,
# unless each has a network of its own. Nearly all of a test is waiting.
CAN_PART = os.geteuid() == 0 and bool(shutil.which("unshare") and shutil.which("ip"))
APART = ("unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh")
SHARDS = 4 if CAN_PART else 1


def read_report(path: Path) -> list[tuple[str, str, str, str]]:
    """(file, class, test, verdict) of each test in a report of pytest (JUnit's XML)."""
    results = []
    for case in ElementTree.parse(path).iter("testcase"):
        module, _, kind = case.get("classname", "").removeprefix(PACKAGE).rpartition(".")
        found = {child.tag for child in case}
        verdict = FAILED if found & {"failure", "error"} else PASSED
        verdict = SKIPPED if "skipped" in found else verdict
        results.append((module.replace(".", "/") + ".py", kind, case.get("name", ""), verdict))
    return results


def shards() -> list[list[str]]:
    """The files of irctest's tests, dealt out."""
    folder = Path(IRCTEST) / "irctest" / "server_tests"
    files = sorted(str(path.relative_to(IRCTEST)) for path in folder.rglob("*.py"))
    files = [file for file in files if not file.endswith("__init__.py")]
    return [files[number::SHARDS] for number in range(SHARDS)]


def test_a_report_is_read(tmp_path: Path) -> None:
    path = tmp_path / "report.xml"
    path.write_text(
        "<testsuites><testsuite>"
        '<testcase classname="irctest.server_tests.chmodes.ban.BanTestCase" name="testBan[x-y]">'
        '<failure message="no">trace</failure></testcase>'
        '<testcase classname="irctest.server_tests.away.AwayTestCase" name="testAway"/>'
        '<testcase classname="irctest.server_tests.away.AwayTestCase" name="testOther">'
        '<skipped message="why"/></testcase></testsuite></testsuites>'
    )
    assert read_report(path) == [
        ("chmodes/ban.py", "BanTestCase", "testBan[x-y]", FAILED),
        ("away.py", "AwayTestCase", "testAway", PASSED),
        ("away.py", "AwayTestCase", "testOther", SKIPPED),
    ]


def test_the_lists_are_about_different_tests() -> None:
    """Whole files may be named by design only where none of their tests must pass by name."""
    names = [name for names in MUST_PASS.values() for name in names]
    assert len(names) > 100
    for pattern, why in FAIL_BY_DESIGN:
        assert re.compile(pattern) and why


@pytest.mark.skipif(not DIES_WITH_US, reason="needs setpriv")
def test_what_irctest_starts_ends_with_it_however_it_ends() -> None:
    door = "import signal; print('here', flush=True); signal.pause()"
    runner = "import subprocess, sys; subprocess.call(sys.argv[1:])"
    command = [sys.executable, "-c", runner, *DIES_WITH_US, sys.executable, "-c", door]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == b"here\n"
        run.kill()
        # Both write to this pipe, so its end comes when both have gone.
        assert run.communicate(timeout=PATIENCE_S)[0] == b""


@pytest.mark.slow
@pytest.mark.timeout(3_600)
@pytest.mark.skipif(not IRCTEST, reason="needs irctest: its folder in the variable IRCTEST")
def test_what_must_pass_passes_and_nothing_else_fails_but_by_design(tmp_path: Path) -> None:
    runs = {}
    paths = f"{ROOT}{os.pathsep}{Path(IRCTEST).resolve()}"
    for number, files in enumerate(shards()):
        folder = tmp_path / str(number)  # where irctest notes which ports are taken
        folder.mkdir()
        report = folder / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "ignore"]
        command += ["--controller", "tests.irc.irctest_controller", "-m", MARKS]
        runs[report] = subprocess.Popen(
            [*DIES_WITH_US, *(APART if CAN_PART else ()), *command, f"--junitxml={report}", *files],
            cwd=IRCTEST,
            env={**os.environ, "PYTHONPATH": paths, "TMPDIR": str(folder)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    results = []
    try:
        for report, run in runs.items():
            run.wait()
            results += read_report(report)
    finally:  # interrupted: its doors and directories end with it
        for run in runs.values():
            run.kill()
            run.wait()
    assert len(results) > 400
    must = {(file, name) for file, names in MUST_PASS.items() for name in names}
    passed = {(file, name) for file, _, name, verdict in results if verdict == PASSED}
    failed = [(file, kind, name) for file, kind, name, verdict in results if verdict == FAILED]
    assert must - passed == set()
    surprising = [
        "::".join(one)
        for one in failed
        if not any(re.search(pattern, "::".join(one)) for pattern, _ in FAIL_BY_DESIGN)
    ]
    assert surprising == []
