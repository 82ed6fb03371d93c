"""The programs of 0.1.0, out of the history of this repository, beside those that are built now.

The old program is run from a folder of its own, and never imported into a test.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support.processes import ROOT

COMMIT = "90ae7cb"  # 0.1.0, as CHANGELOG says
LOSSY = str(Path(__file__).with_name("lossy.py"))


def unpack_old_release(folder: Path, repository: Path = ROOT) -> None:
    """Put the package of 0.1.0 into `folder`; skip the test where there is no history."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed, so 0.1.0 cannot be brought back")
    # As a zip: an old tarfile warns or extracts without care, and a tar program need not be there.
    archive = subprocess.run(
        ["git", "archive", "--format=zip", COMMIT, "evloop"],
        check=False,
        cwd=repository,
        capture_output=True,
    )
    if archive.returncode:
        why = archive.stderr.decode(errors="replace").strip()
        pytest.skip(f"this is no clone with the whole history: no commit {COMMIT} (git: {why})")
    with zipfile.ZipFile(io.BytesIO(archive.stdout)) as package:
        package.extractall(folder)


class Release:
    """The evloop in `folder`, which calls itself `version`."""

    def __init__(self, folder: Path, version: str) -> None:
        self.folder = folder
        self.version = version

    @property
    def prefix(self) -> tuple[str, ...]:
        """Before a command: run it where this release is what `python -m evloop` finds."""
        return ("sh", "-c", 'cd "$0" && exec "$@"', str(self.folder))

    def command(self, module: str, *words: str) -> list[str]:
        return [*self.prefix, sys.executable, "-m", module, *words]

    def lossy(self, lost: int, twice: int, seed: int, module: str, *words: str) -> list[str]:
        """The same, with a bad network: see lossy.py."""
        numbers = (str(lost), str(twice), str(seed))
        return [*self.prefix, sys.executable, LOSSY, *numbers, module, *words]
