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
        "contrib/systemd/evloop-irc.service",
        "contrib/cluster/evloop-cluster.service",
        "contrib/cluster/evloop-etcd.service",
    )
    said = [line for line in result.stderr.splitlines() if line.startswith("evloop")]
    # They are not installed here.
    absent = re.compile(r"/usr/bin/(evloop-server|evloop-client|etcd) is not executable")
    assert [line for line in said if not absent.search(line)] == []


@pytest.mark.skipif(shutil.which("nats-server") is None, reason="needs nats-server")
def test_the_example_configuration_of_nats_is_one() -> None:
    result = run("nats-server", "-t", "-c", "contrib/cluster/nats.conf")
    assert result.returncode == 0, result.stderr


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


# -- installing ------------------------------------------------------------------------------------


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_what_make_installs_runs_and_can_be_removed(tmp_path: Path) -> None:
    prefix = tmp_path / "usr"
    words = (f"PREFIX={prefix}", f"PYTHON3={sys.executable}")
    result = run("make", "-s", "install", *words)
    assert (result.returncode, result.stderr) == (0, "")
    there = files_in(prefix)
    assert {f"share/man/man{page.suffix[1:]}/{page.name}" for page in PAGES} <= there
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "evloop").rglob("*.py")}
    assert {
        name[len("lib/evloop/") :] for name in there if name.startswith("lib/evloop/")
    } == modules
    for name in ("evloop", "evloop-server", "evloop-client"):
        done = subprocess.run(
            [str(prefix / "bin" / name), "--version"],
            cwd=tmp_path,
            env={"PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0 and done.stdout.startswith("evloop "), done.stderr
    unit = (prefix / "lib/systemd/system/evloop.service").read_text()
    assert f"\nExecStart={prefix}/bin/evloop-server\n" in unit
    assert "/usr/bin/evloop-server\n" not in unit.replace(str(prefix), "")
    (prefix / "bin" / "other").touch()
    assert run("make", "-s", "uninstall", *words).returncode == 0
    assert files_in(prefix) == {"bin/other"}


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_a_package_is_staged_elsewhere(tmp_path: Path) -> None:
    words = (f"DESTDIR={tmp_path}", "PREFIX=/opt/evloop", f"PYTHON3={sys.executable}")
    assert run("make", "-s", "install", *words).returncode == 0
    program = (tmp_path / "opt/evloop/bin/evloop-server").read_text()
    assert 'sys.path.insert(0, "/opt/evloop/lib/evloop")' in program
    assert (
        "ExecStart=/opt/evloop/bin/"
        in (tmp_path / "opt/evloop/lib/systemd/system/evloop.service").read_text()
    )


def test_the_unit_tries_again_where_it_may_help() -> None:
    unit = (ROOT / "contrib/systemd/evloop.service").read_text()
    assert re.findall(r"^RestartPreventExitStatus=(.*)$", unit, re.MULTILINE) == ["2"]
    assert re.findall(r"^StartLimitIntervalSec=(.*)$", unit, re.MULTILINE) == ["0"]
    assert not re.findall(r"^IPAddress", unit, re.MULTILINE)


def test_the_wheel_brings_the_man_pages() -> None:
    """By flit's external data, a tree of links to the pages of `man`."""
    settings = (ROOT / "pyproject.toml").read_text()
    (directory,) = re.findall(
        r'^\[tool.flit.external-data\]\ndirectory = "(.*)"$', settings, re.MULTILINE
    )
    folder = ROOT / directory
    wanted = {f"share/man/man{page.suffix[1:]}/{page.name}" for page in PAGES}
    assert files_in(folder) == wanted
    for name in wanted:
        assert (folder / name).read_bytes() == (ROOT / "man" / Path(name).name).read_bytes()
