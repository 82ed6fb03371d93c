"""docs/classroom.md as it stands there: its lines are typed on three machines of a lab."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab.network import Namespace, flat, missing
from tests.support.processes import ROOT, Crew, Program, Server, no_trace

PAGE = (ROOT / "docs" / "classroom.md").read_text()
# The blocks of the page, in its order: the server, the teacher's prompt, what the others type.
SERVER, TEACHER, OTHERS = (
    [line.strip() for line in block.splitlines() if line.strip()]
    for block in re.findall(r"^ *```\n(.*?)^ *```", PAGE, re.MULTILINE | re.DOTALL)
)
ADDRESS = "192.0.2.10"  # in the page

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing() or "-")


def start(host: Namespace, line: str, folder: Path, *more: str, kind: type = Program) -> Program:
    """What `line` of the page does in a shell of `host`, with the stick in `folder`."""
    words = line.split()
    assert words[0] == "python3"
    environ = {"EVLOOP_INTERFACE": "", "XDG_STATE_HOME": str(folder / host.name)}
    program: Program = kind([*host.prefix, sys.executable, *words[1:], *more], environ=environ,
                            cwd=folder)  # fmt: skip
    return program


@pytest.fixture(scope="module")
def stick(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stick")
    command = [sys.executable, "-m", "tools.pyz", str(folder / "evloop.pyz")]
    subprocess.run(command, cwd=ROOT, check=True)
    return folder


def test_a_lesson(crew: Crew, stick: Path) -> None:
    with flat(3) as lab:
        school, *desks = lab.hosts
        (serve,) = SERVER

        def directory() -> Server:
            server = crew.add(start(school, serve, stick, kind=Server))
            assert isinstance(server, Server)
            crew.until(lambda: server.listens)
            return server

        server = directory()
        teacher = crew.add(start(school, TEACHER[0], stick, "--name", "Teacher"))
        teacher.type("connect\n" + "".join(line + "\n" for line in TEACHER[1:]))
        crew.in_room(teacher)
        shown = [line.strip() for line in teacher.lines if "--server" in line]
        assert shown == [f"python3 evloop.pyz --server {lab.address(1)}"], teacher.tell()
        teacher.type("/invite\n")
        find, join = OTHERS[1], OTHERS[2].replace(ADDRESS, lab.address(1))
        crew.until(lambda: f"  {join}\n" in teacher.err, why=join)

        ann, bob = (
            crew.add(start(desk, line, stick, "--name", name))
            for desk, line, name in zip(desks, (find, join), ("Ann", "Bob"))
        )
        crew.in_room(ann, bob)
        ann.type("Good morning!\n")
        crew.until(lambda: all("Ann: Good morning!" in one.lines for one in (bob, teacher)))
        bob.type("/ignore Ann\n")
        crew.until(lambda: "Ann is not shown any more" in bob.err)

        delete = join.replace("chat lab", "deleteroom lab")
        thief = crew.finish(crew.add(start(desks[0], delete, stick)))
        assert thief.status == 77 and "can be deleted only by who made it" in thief.err

        server.signal(signal.SIGKILL)
        crew.finish(server)
        crew.until(lambda: "is away" in ann.err and "is away" in teacher.err)
        ann.type("is it over?\n")
        crew.until(lambda: "Ann: is it over?" in teacher.lines)
        server = directory()
        listing = join.replace("chat lab", "getdir")

        def is_listed() -> bool:
            done = crew.finish(crew.add(start(desks[1], listing, stick)))
            return " 3 here" in done.out

        crew.until(is_listed, every=0.2)
        assert sum("made room lab again" in one.err for one in (teacher, ann, bob)) == 1
        no_trace(server, teacher, ann, bob)
