"""Who follows one request or one datagram by docs/architecture.md meets no file that it leaves out.

Each way is walked with the real code; every module of evloop in which a function was called must be
named in the section of the page that tells of that way.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from evloop.room.events import TEXT, Said
from evloop.terminal.editor import Editor
from tests.support.chats import World
from tests.support.live import Caller, House
from tests.support.rooms import ANN, data, session, settled
from tests.support.sources import PACKAGE, ROOT

PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    """The text of one section of the page."""
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def modules_of(act: Callable[[], object]) -> set[str]:
    """Paths below evloop/ of the modules whose functions are called while `act` runs."""
    files: set[str] = set()

    def note(frame: FrameType, event: str, argument: object) -> None:
        if event == "call":
            files.add(frame.f_code.co_filename)

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        act()
    finally:
        sys.setprofile(before)
    paths = [Path(name) for name in files]
    return {path.relative_to(PACKAGE).as_posix() for path in paths if path.is_relative_to(PACKAGE)}


def left_out(title: str, modules: set[str]) -> set[str]:
    """Those that the section does not name, neither by path nor by the file's name alone."""
    named = set(re.findall(r"`([\w/]+\.py)`", section(title)))
    return {path for path in modules if not {path, path.rpartition("/")[2]} & named}


def test_the_way_of_one_request() -> None:
    house = House()
    try:
        caller = Caller(house.address)
        house.callers.append(caller)
        house.call(caller, "hello")
        modules = modules_of(lambda: house.call(caller, "makeroom", name="lab"))
    finally:
        house.close()
    assert {"net/stream.py", "daemon/group_commit.py"} <= modules
    assert left_out("The way of one request", modules) == set()


def test_the_way_of_one_datagram() -> None:
    room = settled()
    room.hear(session(ANN, 0, []), data(ANN, 0))
    modules = modules_of(lambda: room.hear(data(ANN, 1), data(ANN, 3)))
    assert {"room/reliable/delivery.py", "room/reliable/gaps.py"} <= modules
    assert left_out("The way of one datagram", modules) == set()


def test_the_way_of_a_message_to_the_screen() -> None:
    world = World()
    chat = world.enter()
    said = Said("message", ANN, 0, "Ann", TEXT, "good morning", 0, "", False)
    editor = Editor(80, 24, prompt="lab> ")

    def show() -> None:
        chat.events([said])
        editor.above("Ann: good morning")
        editor.take(1.0)

    modules = modules_of(show)
    world.loop.close()
    assert {"app/view.py", "terminal/renderer.py"} <= modules
    assert left_out("The way of one datagram", modules) == set()
