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
from tests.support.rpc import Wire
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

# By a server, with the first room that is relayed or kept. Its operator restarts it, but not at the
# moment of the upgrade: they are loaded by `daemon.late.load_late`, and what does not fit any more
# is switched off. (`entering` is there from the start; the two modules name each other.)
SERVED = {"daemon.history_store", "daemon.keeper", "daemon.relay", "daemon.relay_leg"}
THERE = {"daemon.entering"}
# By the IRC door with the first sealed room: the answer to that JOIN is an error then.
SEALED = {"irc.locks"}
KEPT_BY_SERVERS = {"room.reliable.recording"}  # no client loads it


def steps() -> list[str]:
    """The modules that are loaded soon after the prompt."""
    tree = ast.parse(module_path("app.late").read_text(encoding="utf-8"))
    return [node.names[0].name for node in ast.walk(tree) if isinstance(node, ast.Import)]


LATE = steps()


def names_imported(node: ast.AST) -> set[str]:
    """Our own modules that are imported from, here and below."""
    found = set()
    for inner in ast.walk(node):
        if isinstance(inner, ast.ImportFrom) and str(inner.module).startswith("evloop."):
            name = str(inner.module).removeprefix("evloop.")
            parts = [f"{name}.{one.name}" for one in inner.names]
            found |= set(parts if name in PACKAGES else [name])
    return found


def late_imports(module: str) -> set[str]:
    """Our own modules that functions of `module` import."""
    found = set()
    for node in ast.walk(ast.parse(module_path(module).read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef):
            found |= names_imported(node)
    return found


def test_every_module_that_is_loaded_late_is_loaded_soon() -> None:
    late = {name for module in MODULES for name in late_imports(module)}
    late -= AT_ONCE | PROBES | SERVED | THERE | SEALED
    assert late <= {name.removeprefix("evloop.") for name in LATE}


def test_what_a_server_loads_late_is_loaded_by_what_bears_that_it_is_gone() -> None:
    """Such an import stands in a function `load`, which `load_late` calls; or it is of a module
    that a `load` brings too, and comes after it."""
    loaded = set()
    for module in ("daemon.server", "daemon.keeping"):
        for node in ast.walk(ast.parse(module_path(module).read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name == "load":
                loaded |= names_imported(node)
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "load_late":
                assert ast.unparse(node.args[-1]) == "load"
    assert loaded == SERVED


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


@pytest.mark.parametrize("how", ["gone", "of another release"])
def test_the_files_are_others_under_a_server(crew: Crew, tmp_path: Path, how: str) -> None:
    """It was never asked to relay or to keep. Now it cannot: and nobody is cut off for that."""
    shutil.copytree(ROOT / "evloop", tmp_path / "evloop")
    prefix = ("sh", "-c", f'cd {tmp_path}; exec "$@"', "sh")
    state = ("--state", str(tmp_path / "directory.db"), "--keep", "all")
    server = crew.server(*state, "--no-announce", prefix=prefix)
    room = "upgraded"
    with Wire(server.port) as wire:
        wire.result("makeroom", name=room)
        if how == "gone":
            os.rename(tmp_path / "evloop", tmp_path / "evloop.old")
        else:
            for module in ("relay", "keeper", "history_store"):
                text = "from evloop.daemon.limits import OF_A_LATER_RELEASE\n"
                (tmp_path / "evloop" / "daemon" / f"{module}.py").write_text(text)
        entered = wire.result("enter", name=room, sender="0123456789abcdef", relay="up")
        assert entered["room"]["members"] == 1 and entered["relay"] == "off"
        refused = wire.call("history", name=room)["error"]["data"]["reason"]
        assert refused == "not_kept"
        wire.result("leave", name=room)
        assert wire.result("enter", name=room)["room"]["members"] == 1
    crew.until(lambda: "the files of this program are others now" in server.err)
    assert server.err.count("lost=relay") == server.err.count("lost=keep") == 1
    assert "internal" not in server.err
    server.process.terminate()
    crew.finish(server)
    assert server.status == 0
