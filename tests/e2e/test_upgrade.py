"""The files are replaced, or gone, while a client sits at its prompt for hours."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from tests.support.processes import ROOT, Crew, Program, fresh_room
from tests.support.pty_run import PtyRun
from tests.support.screen import Emulator
from tests.support.sources import MODULES, PACKAGES, module_path

# Loaded late too, but within the same moment: at the start, or with the first connection by TLS.
AT_ONCE = {
    "app.late",
    "app.shell",
    "daemon.announcer",
    "daemon.backup",
    "net.stream",
    "system.loop",
    "terminal.frontend",
    "app.startup",
    "daemon.certificate",
    "daemon.console",
    "daemon.bridging",
    "daemon.cluster",
    "daemon.cluster_console",
    "daemon.importing",
    "daemon.keeping",
    "daemon.scrubbing",
    "daemon.server",
    "irc.door",
    "net.hub",
    "net.tls",
    "room.limits",
    "room.reliable.session",
    "system.stdout",
    "terminal.line_mode",
    "terminal.screen_mode",
}

# By a directory that is asked for a probe: with other files by then, only that probe fails.
PROBES = {"net.counters", "room.probe", "room.reliable.packets"}

# By a program that serves others, with the first room that is relayed, kept or (in the IRC door)
# sealed. Its operator replaces it: unlike a person at a prompt, it is restarted with its release.
SERVED = {
    "daemon.entering",
    "daemon.history_store",
    "daemon.keeper",
    "daemon.relay",
    "daemon.relay_leg",
    "irc.locks",
}
KEPT_BY_SERVERS = {"room.reliable.recording"}  # no client loads it


def steps() -> list[str]:
    """The modules that are loaded soon after the prompt."""
    tree = ast.parse(module_path("app.late").read_text(encoding="utf-8"))
    return [node.names[0].name for node in ast.walk(tree) if isinstance(node, ast.Import)]


LATE = steps()


def late_imports(module: str) -> set[str]:
    """Our own modules that functions of `module` import."""
    found = set()
    for node in ast.walk(ast.parse(module_path(module).read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef):
            for inner in ast.walk(node):
                if isinstance(inner, ast.ImportFrom) and str(inner.module).startswith("evloop."):
                    name = str(inner.module).removeprefix("evloop.")
                    parts = [f"{name}.{one.name}" for one in inner.names]
                    found |= set(parts if name in PACKAGES else [name])
    return found


def test_every_module_that_is_loaded_late_is_loaded_soon() -> None:
    late = {name for module in MODULES for name in late_imports(module)}
    assert late - AT_ONCE - PROBES - SERVED <= {name.removeprefix("evloop.") for name in LATE}


def test_the_list_loads_all_that_a_room_needs(tmp_path: Path) -> None:
    """Whatever a chat in a reliable and in a plain room imports is there already."""
    program = (
        "import sys\n"
        "import evloop.client\n"
        "from evloop.app.late import steps\n"
        "for step in steps(): pass\n"
        "print(*sorted(name for name in sys.modules if name.startswith('evloop')))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    for module in MODULES:
        if module.split(".")[0] == "room" and module not in {"room.probe", *KEPT_BY_SERVERS}:
            assert f"evloop.{module}" in loaded


def shows(text: str, screen: Emulator) -> bool:
    return text in screen.used()


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
        run.expect_line("You are Mel")
        run.send("name\r")
        run.expect_line("Mel")
        for number in range(len(LATE)):  # each takes a tick at least, in which a module is loaded
            run.send(f"name Cyd{number}\rname\r")
            run.expect(partial(shows, f"Cyd{number}"))
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
