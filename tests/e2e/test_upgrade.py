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
    "system.unexpected",
    "terminal.line_mode",
    "terminal.screen_mode",
}

# There from the start of a server, by imports at the head of other modules.
THERE = {"daemon.entering", "net.compat", "net.interfaces"}
# Brought by a `load` too, and named again by a function that comes after it.
BROUGHT = {"daemon.history_store", "daemon.relay_leg"}
# By a door, soon after its start: no client has it.
DOOR = {"irc.locks"}
KEPT_BY_SERVERS = {"room.reliable.recording"}  # no client loads it


def steps() -> list[str]:
    """The modules that are loaded soon after the prompt."""
    tree = ast.parse(module_path("app.late").read_text(encoding="utf-8"))
    names = [node.names[0].name for node in ast.walk(tree) if isinstance(node, ast.Import)]
    return [name.removeprefix("evloop.") for name in names]


LATE = steps()


def names_imported(node: ast.AST) -> set[str]:
    """Our own modules that are imported from, here and below."""
    found = set()
    for inner in ast.walk(node):
        if isinstance(inner, ast.ImportFrom) and str(inner.module).startswith("evloop."):
            name = str(inner.module).removeprefix("evloop.")
            parts = [f"{name}.{one.name}" for one in inner.names]
            found |= set(parts if name in PACKAGES else [name])
        if isinstance(inner, ast.Import):
            names = [one.name for one in inner.names if one.name.startswith("evloop.")]
            found |= {name.removeprefix("evloop.") for name in names}
    return found


def late_imports(module: str, *, load: bool = True) -> set[str]:
    """Our own modules that functions of `module` import; without `load`, those that are so called
    are left out."""
    found = set()
    for node in ast.walk(ast.parse(module_path(module).read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef):
            found |= names_imported(node)
            if not load:
                inner = [it for it in ast.walk(node) if isinstance(it, ast.FunctionDef)]
                found -= {one for it in inner if it.name == "load" for one in names_imported(it)}
    return found


def test_every_module_that_is_loaded_late_is_loaded_soon() -> None:
    mine = [module for module in MODULES if module.partition(".")[0] not in ("daemon", "irc")]
    late = {name for module in mine for name in late_imports(module)}
    assert late - AT_ONCE <= set(LATE)


def test_what_a_door_loads_late_is_loaded_soon() -> None:
    mine = [module for module in MODULES if module.startswith("irc.")]
    late = {name for module in mine for name in late_imports(module)}
    assert late - AT_ONCE - {"app.late"} <= {*LATE, *DOOR}
    assert late >= DOOR


def test_what_a_server_loads_late_is_loaded_by_what_bears_that_it_is_gone() -> None:
    """Such an import stands in a function `load`, which `load_late` calls: with the first room that
    is relayed or kept, and with the first probe. A server's operator restarts it, but not at the
    moment of the upgrade: what does not fit any more is switched off."""
    late: set[str] = set()
    loads = calls = 0
    for module in [module for module in MODULES if module.startswith("daemon.")]:
        late |= late_imports(module, load=False)
        for node in ast.walk(ast.parse(module_path(module).read_text(encoding="utf-8"))):
            loads += (
                isinstance(node, ast.FunctionDef)
                and node.name == "load"
                and bool(names_imported(node))
            )
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "load_late":
                assert ast.unparse(node.args[-1]) == "load"
                calls += 1
    assert late - AT_ONCE - THERE == BROUGHT
    assert loads == calls == 3
    program = "import sys, evloop.daemon.server; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert {f"evloop.{name}" for name in THERE} <= set(done.stdout.split())


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
    """It was never asked to relay, to keep or for a probe. Now it cannot: nobody is cut off."""
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
            for module in ("daemon/relay", "daemon/keeper", "daemon/history_store", "room/probe"):
                text = "from evloop.daemon.limits import OF_A_LATER_RELEASE\n"
                (tmp_path / "evloop" / f"{module}.py").write_text(text)
        entered = wire.result("enter", name=room, sender="0123456789abcdef", relay="up")
        assert entered["room"]["members"] == 1 and entered["relay"] == "off"
        refused = wire.call("history", name=room)["error"]["data"]["reason"]
        assert refused == "not_kept"
        for _ in range(2):
            no_probe = wire.call("probe", fresh=True, nonce="0" * 16, udp=40_000)["error"]
            assert no_probe["data"]["reason"] == "no_probe"
            assert no_probe["message"] == "no probe: the files of this directory are others now"
        wire.result("leave", name=room)
        assert wire.result("enter", name=room)["room"]["members"] == 1
    crew.until(lambda: "the files of this program are others now" in server.err)
    assert server.err.count("lost=relay") == server.err.count("lost=keep") == 1
    assert server.err.count("lost=probe") == 1
    assert "internal" not in server.err
    server.process.terminate()
    crew.finish(server)
    assert server.status == 0
