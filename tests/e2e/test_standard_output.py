"""Whoever prints fails when it could not: a full disk, a closed standard output."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import ROOT, Crew, environment, fresh_room

WAYS = {
    "full": (">/dev/full", "No space left on device"),
    "closed": (">&-", "Bad file descriptor"),
}
NO_FULL = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
FULL = pytest.param("full", marks=NO_FULL)


def run(how: str, *words: str) -> tuple[int, str]:
    """The status and standard error of `python3 -m words` with nowhere to print to."""
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {WAYS[how][0]}', "sh", sys.executable, "-m", *words],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        env=environment(),
        check=False,
        text=True,
    )
    return done.returncode, done.stderr


def failed(how: str) -> tuple[int, str]:
    return 1, f"evloop: standard output: {WAYS[how][1]}\n"


@pytest.mark.parametrize("how", [FULL, "closed"])
@pytest.mark.parametrize("module", ["evloop", "evloop.client", "evloop.server"])
@pytest.mark.parametrize("words", ["--help", "-h", "--version", "--debug --version"])
def test_help_and_version_that_nobody_got_failed(module: str, words: str, how: str) -> None:
    assert run(how, module, *words.split()) == failed(how)


@pytest.mark.parametrize("how", [FULL, "closed"])
@pytest.mark.parametrize("module", ["evloop", "evloop.client"])
@pytest.mark.parametrize("words", ["help", "help say", "say --help", "getdir", "tail lab"])
def test_so_did_what_prints_and_ends(crew: Crew, module: str, words: str, how: str) -> None:
    server = crew.server()
    crew.finish(crew.client("makeroom", "lab", server=server))
    if words == "tail lab":  # its history is what it prints
        somebody = crew.chatter("Ann", "lab", server=server)
        crew.in_room(somebody)
        somebody.type("a word\n")
    status, err = run(how, module, "--server", server.place, *words.split())
    told = [line for line in err.splitlines(keepends=True) if not line.startswith("-- ")]
    assert (status, "".join(told)) == failed(how)


@pytest.mark.parametrize("how", [FULL, "closed"])
def test_what_prints_nothing_did_not_fail(how: str) -> None:
    assert run(how, "evloop.client", "say", "--anybody", fresh_room(), "a word") == (0, "")


@pytest.mark.parametrize("how", [FULL, "closed"])
def test_a_backup_whose_receipt_was_lost_is_made_and_told(
    crew: Crew, how: str, tmp_path: Path
) -> None:
    state, copy = str(tmp_path / "directory.db"), str(tmp_path / "copy.db")
    crew.server("--state", state)
    assert run(how, "evloop.server", "--state", state, "--backup", copy) == failed(how)
    assert os.path.exists(copy)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
@pytest.mark.parametrize("how", [FULL, "closed"])
def test_so_is_a_certificate(how: str, tmp_path: Path) -> None:
    cert = str(tmp_path / "cert.pem")
    status, err = run(how, "evloop.server", "--make-cert", cert)
    assert (status, err[err.index("evloop:") :]) == failed(how)
    assert os.path.exists(cert)
