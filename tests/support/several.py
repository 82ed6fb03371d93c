"""Several rooms on a frontend, sessions and a clock that a test controls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from evloop.app.chat import Chat
from evloop.app.kept import Kept
from evloop.app.rooms import Pane, Rooms
from evloop.app.style import Stamps, Style
from evloop.directory.protocol import RELIABLE, RoomEntry
from evloop.room.events import TABLE
from evloop.system.loop import Loop
from evloop.terminal.editor import Editor
from evloop.terminal.line import Draft
from tests.support.chats import Directory, Frontend, Room, message


class Screen(Frontend):
    """A frontend with a line editor, whose keys are pressed by `press`."""

    edits = True

    def __init__(self) -> None:
        super().__init__(True)
        self.on_switch: Callable[[str], object] = lambda key: None
        self.editor = Editor(80, 24)
        self.prompts: list[str] = []
        self.all: list[str] = []  # lines and notes, in their order
        self.rung = 0

    def show(self, text: str) -> None:
        super().show(text)
        self.all.append(text)

    def note(self, text: str, manner: str = "") -> None:
        super().note(text, manner)
        self.all.append(text)

    def message(self, *args: object, **kwargs: object) -> None:
        super().message(*args, **kwargs)  # type: ignore[arg-type]
        self.all.append(self.lines[-1])

    def prompt(self, text: str, *, chatting: bool) -> None:
        self.prompts.append(text)

    def swap_line(self, draft: Draft) -> Draft:
        return self.editor.swap_line(draft)

    def set_several(self, several: bool) -> None:
        self.editor.several = several

    def bell(self) -> None:
        self.rung += 1

    def press(self, data: bytes) -> None:
        for kind, *rest in self.editor.feed(data, 0.0):
            if kind == "switch":
                self.on_switch(*rest)

    def taken(self) -> list[str]:
        """What was written since the last call."""
        found, self.all = self.all, []
        return found


class Piped(Screen):
    """A pipe, or `--plain` on a terminal."""

    edits = False

    def __init__(self, terminal: bool = False) -> None:
        super().__init__()
        self.is_terminal = terminal


class Several:
    """Rooms by name; `hear` lets something happen in one of them."""

    def __init__(self, frontend: Screen | None = None, *, as_json: bool = False) -> None:
        self.time = 100.0
        self.wall = 1_000_000.0
        self.loop = Loop(clock=lambda: self.time)
        self.frontend = Screen() if frontend is None else frontend
        self.style = Style(as_json, "Ctrl-]", Stamps("off", lambda: self.wall))
        self.rooms = Rooms(
            self.loop, self.frontend, self.style, on_front=self._prompt, on_empty=self._empty
        )
        self.emptied = 0
        self.commands: list[tuple[str, list[str]]] = []
        self.lives: dict[str, Room] = {}

    def _prompt(self) -> None:
        if self.rooms.front is not None:
            self.frontend.prompt(self.rooms.prompt(), chatting=True)

    def _empty(self) -> None:
        self.emptied += 1

    def enter(self, name: str, *, behind: bool = False) -> Pane:
        room = self.lives[name] = Room()
        pane = self.rooms.pane()
        chat = Chat(
            self.loop,
            pane,
            room,  # type: ignore[arg-type]
            RoomEntry(name, "239.255.7.1", 5751, RELIABLE),
            self.style,
            listed=True,
            on_over=lambda chat: self.rooms.remove(pane),
            on_quit=lambda: None,
            on_renamed=lambda name: None,
            on_command=lambda word, arguments, options: self.commands.append((word, arguments)),
            count=lambda chat, then: then(0),
            invitation=lambda chat: ([], False),
            kept=Kept(Directory(), name),  # type: ignore[arg-type]
        )
        self.rooms.enter(pane, chat, behind=behind)
        chat.start()
        self.hear(name)
        self.wait(2.0)  # the history is complete: there is none
        return pane

    def pane(self, name: str) -> Pane:
        return next(pane for pane in self.rooms.panes.values() if pane.name == name)

    def hear(self, name: str, *events: tuple[Any, ...]) -> None:
        self.pane(name).chat.events([TABLE[event[0]](*event) for event in events])
        self.lives[name].on_pump()

    def say(self, name: str, text: str, **more: object) -> None:
        """Somebody says `text` in that room."""
        self.hear(name, message(text, **more))  # type: ignore[arg-type]

    def wait(self, seconds: float) -> None:
        self.time += seconds
        for _ in range(3):
            self.loop.defer(lambda: None)
            self.loop.tick()


def two(world: Several) -> None:
    """In front is lab, in the background garden."""
    world.enter("lab")
    world.enter("garden")
    world.rooms.switch(world.pane("lab"))
    world.frontend.taken()
