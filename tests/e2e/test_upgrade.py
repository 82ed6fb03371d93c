"""The files are replaced, or gone, while a client sits at its prompt for hours."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from evloop.app.shell import LATE
from tests.support.processes import ROOT, Crew, Program, fresh_room
from tests.support.pty_run import PtyRun
from tests.support.sources import MODULES, module_path

# Loaded late too, but within the same moment: at the start, or with the first connection by TLS.
AT_ONCE = {
    "app.startup",
    "daemon.certificate",
    "daemon.console",
    "daemon.server",
    "net.tls",
    "room.reliable.session",
    "system.stdout",
    "terminal.screen_mode",
}


def late_imports(module: str) -> set[str]:
    """Our own modules that functions of `module` import."""
    found = set()
    for node in ast.walk(ast.parse(module_path(module).read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef):
            for inner in ast.walk(node):
                if isinstance(inner, ast.ImportFrom) and str(inner.module).startswith("evloop."):
                    found.add(str(inner.module).removeprefix("evloop."))
    return found


def test_every_module_that_is_loaded_late_is_loaded_soon() -> None:
    late = {name for module in MODULES for name in late_imports(module)}
    assert late - AT_ONCE <= {name.removeprefix("evloop.") for name in LATE}


def test_the_list_loads_all_that_a_room_needs(tmp_path: Path) -> None:
    """Whatever a chat in a reliable and in a plain room imports is there already."""
    program = (
        "import sys\n"
        "import evloop.client\n"
        "from evloop.app.shell import LATE\n"
        "for name in LATE: __import__(name)\n"
        "print(*sorted(name for name in sys.modules if name.startswith('evloop')))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    for module in MODULES:
        if module.split(".")[0] == "room" and module != "room":
            assert f"evloop.{module}" in loaded


@pytest.mark.parametrize("module", ["evloop.client", "evloop"])
def test_the_files_go_away_under_a_prompt(crew: Crew, tmp_path: Path, module: str) -> None:
    server = crew.server()
    shutil.copytree(ROOT / "evloop", tmp_path / "evloop")
    run = PtyRun(
        [
            *("sh", "-c", f'cd {tmp_path}; exec "$@"', "sh", sys.executable, "-m", module),
            *("--server", server.place, "--name", "Mel"),
        ]
    )
    with run:
        run.expect_line("help lists the commands")
        run.send("name\r")
        run.expect_line("Mel")
        for number in range(len(LATE)):  # each takes a tick at least, in which a module is loaded
            run.send(f"name Cyd{number}\rname\r")
            run.expect(lambda screen, name=f"Cyd{number}": name in screen.used())  # type: ignore[misc]
        os.rename(tmp_path / "evloop", tmp_path / "evloop.old")
        room = fresh_room()
        run.send(f"chat {room}\r")
        run.expect_line(f"in {room}")
        run.send("/leave\r")
        run.expect_last("evloop>")
        run.send("quit\r")
        assert run.wait() == 0


def test_the_files_go_away_under_a_pipe(crew: Crew, tmp_path: Path) -> None:
    server = crew.server()
    shutil.copytree(ROOT / "evloop", tmp_path / "evloop")
    prefix = ("sh", "-c", f'cd {tmp_path}; exec "$@"', "sh")
    client: Program = crew.client("--name", "Bot", server=server, prefix=prefix)
    client.type("connect\nname\n")
    crew.until(lambda: client.out)
    os.rename(tmp_path / "evloop", tmp_path / "evloop.old")
    client.type(f"chat {fresh_room()}\n/leave\nname Dee\nname\n")
    client.end()
    crew.finish(client)
    assert client.lines[-1] == "Dee", client.tell()
