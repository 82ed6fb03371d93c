"""What the tests of whole programs share."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from evloop import __version__
from tests.e2e.old_release import Release, unpack_old_release
from tests.support.homes import Home
from tests.support.live import Process
from tests.support.processes import ROOT


@pytest.fixture(scope="session")
def releases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Release]:
    """ "old": 0.1.0; "new": what is built now. Skips where there is no history."""
    if sys.version_info < (3, 11):
        pytest.skip("0.1.0 needs Python 3.11")
    folder = tmp_path_factory.mktemp("old-release")
    unpack_old_release(folder)
    return {"old": Release(folder, "0.1.0"), "new": Release(ROOT, __version__)}


@pytest.fixture
def ann(tmp_path: Path, server: Process) -> Home:
    """A user of the `server` of the module."""
    return Home(tmp_path / "ann", server)


@pytest.fixture
def bob(tmp_path: Path, server: Process) -> Home:
    """Another one."""
    return Home(tmp_path / "bob", server)
