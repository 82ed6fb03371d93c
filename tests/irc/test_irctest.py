"""irctest (github.com/progval/irctest) against the door, where it is installed.

It is no part of this repository. Whoever wants to run it clones it, installs what its
requirements.txt names into this Python, and says where it is:

    IRCTEST=/path/to/irctest .venv/bin/python -m pytest -m slow tests/irc/test_irctest.py
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.irc.irctest_names import FAIL_BY_DESIGN, MARKS, MUST_PASS
from tests.support.live import ROOT

IRCTEST = os.environ.get("IRCTEST", "")
RESULT = re.compile(
    r"^irctest/server_tests/(\S+?)::(\S+?)::(.+?) (PASSED|FAILED|ERROR|SKIPPED)", re.M
)


def test_the_lists_are_about_different_tests() -> None:
    """Whole files may be named by design only where none of their tests must pass by name."""
    names = [name for names in MUST_PASS.values() for name in names]
    assert len(names) > 100
    for pattern, why in FAIL_BY_DESIGN:
        assert re.compile(pattern) and why


@pytest.mark.slow
@pytest.mark.timeout(3_600)
@pytest.mark.skipif(not IRCTEST, reason="needs irctest: its folder in the variable IRCTEST")
def test_what_must_pass_passes_and_nothing_else_fails_but_by_design() -> None:
    command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", "-W", "ignore"]
    done = subprocess.run(
        [*command, "--controller", "tests.irc.irctest_controller", "-m", MARKS],
        cwd=IRCTEST,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{Path(IRCTEST).resolve()}"},
        text=True,
        capture_output=True,
        check=False,
    )
    results = RESULT.findall(done.stdout)
    assert len(results) > 400, done.stdout[-2_000:] + done.stderr[-2_000:]
    must = {(file, name) for file, names in MUST_PASS.items() for name in names}
    passed = {(file, name) for file, _, name, verdict in results if verdict == "PASSED"}
    failed = [(file, kind, name) for file, kind, name, verdict in results if verdict == "FAILED"]
    assert must - passed == set()
    surprising = [
        "::".join(one)
        for one in failed
        if not any(re.search(pattern, "::".join(one)) for pattern, _ in FAIL_BY_DESIGN)
    ]
    assert surprising == []
