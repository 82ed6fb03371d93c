"""Service files, man pages: what can be checked without installing them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "man").iterdir())
EXPOSURE_MAX = 1.5


def run(*command: str) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "LC_ALL": "C.UTF-8", "COLUMNS": "80"}
    return subprocess.run(
        command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_the_unit_is_hardened() -> None:
    unit = "contrib/systemd/evloop.service"
    result = run("systemd-analyze", "security", "--offline=true", "--no-pager", unit)
    if "Unknown" in result.stderr or "unrecognized" in result.stderr:
        pytest.skip("this systemd-analyze cannot judge a file")
    exposure = re.search(r"Overall exposure level for evloop.service: ([0-9.]+)", result.stdout)
    assert exposure, result.stderr
    assert float(exposure[1]) <= EXPOSURE_MAX


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_the_units_have_no_mistakes() -> None:
    result = run(
        "systemd-analyze",
        "verify",
        "--man=no",
        "contrib/systemd/evloop.service",
        "contrib/systemd/evloop.socket",
    )
    said = [line for line in result.stderr.splitlines() if "evloop." in line]
    # It is not installed here.
    assert [line for line in said if "/usr/bin/evloop-server is not executable" not in line] == []


def test_the_init_script_is_posix_sh() -> None:
    result = run("sh", "-n", "contrib/openrc/evloop")
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.skipif(shutil.which("groff") is None, reason="needs man and groff")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_man_page_is_clean(page: Path) -> None:
    result = run("man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", str(page))
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize("program", ["server", "client"])
def test_every_option_is_in_the_man_page(program: str) -> None:
    result = run(sys.executable, "-m", f"evloop.{program}", "--help")
    assert result.returncode == 0, result.stderr
    options = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", result.stdout))
    assert len(options) > 10
    page = (ROOT / "man" / f"evloop-{program}.1").read_text().replace("\\-", "-")
    described = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", re.sub(r"\\f[A-Z]", " ", page)))
    assert options - described == set()
