"""Memory of the programs: growth over an empty package that the same interpreter starts with -S.

What counts is anonymous memory: how much of a library is mapped goes by the system's build of it
(a server of the same modules has 0.4 to 4.1 MB of libraries more).
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from tests.support.processes import (
    Crew,
    Program,
    Server,
    fresh_room,
)
from tests.support.rpc import Wire

# Objects of Python 3.14 are larger: 4.9 and 6.8 MB; before it was 3.4 to 4.2 and 4.5 to 5.5.
SERVER_MB_MAX, CLIENT_MB_MAX = (5.5, 7.5) if sys.version_info >= (3, 14) else (4.7, 6.0)
CONNECTION_KB_MAX = 1.5  # idle, after its first request
CONNECTIONS = 1_000


def resident_kb(program: Program) -> int:
    status = Path(f"/proc/{program.pid}/status").read_text()
    found = re.search(r"RssAnon:\s+(\d+) kB", status)
    assert found
    return int(found[1])


def empty_kb(crew: Crew, directory: Path) -> int:
    """An empty package, started with -S -m, that waits."""
    package = directory / "nothing"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text("print('ready', flush=True)\nopen(0, 'rb', 0).read()\n")
    words = [sys.executable, "-S", "-m", "nothing"]
    program = crew.add(Program(words, environ={"PYTHONPATH": str(directory), "PYTHONWARNINGS": ""}))
    crew.until(lambda: "ready" in program.out)
    return resident_kb(program)


def test_server_and_client_are_small(crew: Crew, tmp_path: Path) -> None:
    empty = empty_kb(crew, tmp_path)
    state = str(tmp_path / "directory.db")
    words = [sys.executable, "-S", "-m", "evloop.server", "--state", state]
    server = Server([*words, "--listen", "127.0.0.1:0"], environ={"PYTHONWARNINGS": ""})
    crew.add(server)
    crew.until(lambda: server.listens)
    with Wire(server.port) as wire:
        wire.result("makeroom", name="lab")
        wire.rooms()
    grown = (resident_kb(server) - empty) / 1024
    print(f"server with its store: {grown:.1f} MB over an empty package of {empty / 1024:.1f} MB")
    assert grown <= SERVER_MB_MAX

    words = [sys.executable, "-S", "-m", "evloop.client", "--name"]
    room = fresh_room()
    people = [
        crew.add(Program([*words, name, "chat", room], environ={"PYTHONWARNINGS": ""}))
        for name in ("Ann", "Bob")
    ]
    crew.in_room(*people)
    people[0].type("hello\n")
    crew.until(lambda: all("Ann: hello" in one.lines for one in people))
    grown = max(resident_kb(one) - empty for one in people) / 1024
    print(f"client in a room: {grown:.1f} MB over it")
    assert grown <= CLIENT_MB_MAX


def test_an_idle_connection_is_small(crew: Crew) -> None:
    server = crew.server("--max-per-address", "0")
    wires: list[Wire] = []
    try:
        for _ in range(100):  # what the first ones cost is not theirs
            wires.append(Wire(server.port))
            wires[-1].result("hello")
        before = resident_kb(server)
        for _ in range(CONNECTIONS):
            wires.append(Wire(server.port))
            wires[-1].result("hello")
        each = (resident_kb(server) - before) / CONNECTIONS
        print(f"an idle connection: {each:.2f} kB")
        assert each <= CONNECTION_KB_MAX
    finally:
        for wire in wires:
            wire.sock.close()
