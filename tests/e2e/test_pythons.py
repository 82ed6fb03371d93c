"""Every Python from 3.9 on that this machine has, in one room: they see the same."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.elsewhere import box
from tests.support.pairs import both
from tests.support.processes import ROOT, Crew, Program, Server, fresh_room, no_trace
from tests.support.pythons import interpreters

PYTHONS = {
    "{}.{}".format(*version): path for version, path in interpreters().items() if version >= (3, 9)
}
several = pytest.mark.skipif(len(PYTHONS) < 2, reason="needs two Pythons from 3.9 on")


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The variables by which each Python compiles all of ours once, and not at each start."""
    folder = tmp_path_factory.mktemp("compiled")
    return {"PYTHONPYCACHEPREFIX": str(folder), "PYTHONDONTWRITEBYTECODE": ""}


def printed(compiled: dict[str, str], python: str, *words: str) -> str:
    done = subprocess.run(
        [python, "-m", *words],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "80", **compiled},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


@several
@pytest.mark.parametrize("program", ["evloop", "evloop.client", "evloop.server"])
def test_help_and_version_are_the_same(program: str, compiled: dict[str, str]) -> None:
    for word in ("--help", "--version"):
        texts = {printed(compiled, python, program, word) for python in PYTHONS.values()}
        assert len(texts) == 1


@several
@pytest.mark.parametrize(
    "mode", ["reliable", "plain", pytest.param("sealed", marks=pytest.mark.slow)]
)
def test_members_with_each_python_see_the_same(
    crew: Crew, mode: str, tmp_path: Path, compiled: dict[str, str]
) -> None:
    """The directory runs on the oldest, then each member on another, every second one elsewhere.

    Foreign letters, and order.
    """
    elsewhere = box(tmp_path / "box", "darwin", "kqueue")
    hidden = ["env", *(f"{name}={value}" for name, value in elsewhere.items())]
    oldest, *_ = PYTHONS.values()
    words = [oldest, "-m", "evloop.server", "--listen", "127.0.0.1:0", "--memory"]
    server = Server(words, environ=compiled)
    crew.add(server)
    crew.until(lambda: server.listens or server.done)
    address, _, port = fresh_room().partition(":")
    how = ["--sealed"] if mode == "sealed" else ["--mode", mode]
    made = crew.piped("", "makeroom", "lab", address, port, *how, server=server)
    assert made.status == 0, made.tell()
    key = tmp_path / "key"
    key.touch(mode=0o600)
    key.write_text(made.out.partition("key ")[2])
    with_key = ["--key-file", str(key)] if mode == "sealed" else []
    members = []
    for number, (version, python) in enumerate(PYTHONS.items()):
        command = [*(hidden if number % 2 else []), python, "-m", "evloop.client", *with_key]
        words = ["--server", server.place, "--name", f"P{version}", "chat", "lab"]
        members.append(crew.add(Program([*command, *words], environ=compiled)))
    crew.in_room(*members)
    wanted = []
    for number in range(4):
        for version, one in both(PYTHONS, members):
            text = f"{number} Grüße 你好 \U0001f9d1\u200d\U0001f680 e\u0301"
            one.type(f"{text}\n")
            wanted.append(f"P{version}: {text}")
    crew.until(lambda: all(len(one.lines) >= len(wanted) for one in members))
    histories = set()
    for one in members:
        assert sorted(one.lines) == sorted(wanted), one.tell()
        one.type("/history\n")
        crew.until(lambda: "-- end of history --" in one.err)  # noqa: B023
        told = one.err.rpartition("-- the last ")[2].partition("-- end of history --")[0]
        lines = (line.removesuffix("  [late]") for line in told.splitlines()[1:])
        histories.add("\n".join(line.partition(" ")[2] for line in lines))
    assert len(histories) == 1 or mode == "plain", histories
    for one in members:
        one.end()
    for one in members:
        assert crew.finish(one).status == 0, one.tell()
    no_trace(server, *members)
