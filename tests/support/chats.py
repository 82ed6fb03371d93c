"""Chat mode with a frontend, a session and a clock that a test controls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from evloop.app.chat import Chat
from evloop.app.kept import Kept
from evloop.app.style import Stamps, Style
from evloop.base.errors import Refused
from evloop.directory.client import IDLE
from evloop.directory.protocol import PLAIN, RELIABLE, RoomEntry
from evloop.room.events import TABLE, TEXT, Said
from evloop.system.loop import Loop
from evloop.system.timers import nothing

ME, BOB, EVE = b"mmmmmmmm", b"bbbbbbbb", b"eeeeeeee"


class Frontend:
    """Records what it is given: `lines` are data, `notes` are not."""

    def __init__(self, terminal: bool) -> None:
        self.is_terminal = terminal
        self.owner: Any = None
        self.complete: Callable[[str, int], list[str]] = lambda text, cursor: []
        self.lines: list[str] = []
        self.notes: list[str] = []
        self.manners: list[str] = []
        self.back: list[str] = []
        self.bells = 0
        self.mentions = 0
        self.own = 0
        self.held = False
        self.asking = self.private = False

    def ask(self, question: str, done: Callable[[str, str], object]) -> None:
        done("eof", "")

    def unask(self) -> None:
        assert not self.asking

    def show(self, text: str) -> None:
        self.lines.append(text)

    def note(self, text: str, manner: str = "") -> None:
        self.notes.append(text)
        self.manners.append(manner)

    def message(
        self,
        time: str,
        parts: tuple[str, str, str, list[str]],
        *,
        old: bool,
        mention: bool,
        bell: bool,
        own: bool,
    ) -> None:
        self.own += own
        before, who, after, lines = parts
        self.lines.append(time + before + who + after + "\n".join(lines) + (" (old)" * old))
        self.bells += bell
        self.mentions += mention

    def put_back(self, text: str) -> None:
        self.back.append(text)

    def hold(self, held: bool) -> None:
        self.held = held

    def start(self) -> None: ...
    def close(self) -> None: ...
    def prompt(self, text: str, *, chatting: bool) -> None: ...
    def progress(self, text: str) -> None: ...


class Session:
    """A session whose answers the test sets."""

    def __init__(self) -> None:
        self.sender_id = ME
        self.nickname = "Mel"
        self.present = [(ME, "Mel", 0.0)]
        self.waiting = 0
        self.missing = 0
        self.answers = (0, 0)
        self.asked = 0
        self.patient = False
        self.kept: list[Any] = []
        self.share = 4_096
        self.deaf: set[bytes] = set()
        self.complete = True
        self.missing_count = 0
        self.other_key = 0
        self.estimate = 2

    def members(self, now: float) -> list[tuple[bytes, str, float]]:
        return self.present

    def history(self, count: int) -> list[Any]:
        return self.kept[-count:]

    def limit_history(self, messages: int) -> None:
        self.share = messages

    def label(self, sender: bytes, name: str) -> str:
        return name

    def queued(self) -> int:
        return self.waiting

    def unconfirmed(self) -> int:
        return self.missing

    def confirmers(self) -> tuple[int, int]:
        return self.answers

    def unheard_by(self) -> set[bytes]:
        return self.deaf

    def caught_up(self) -> bool:
        return self.complete

    def confirm(self, now: float, later: bool = False) -> None:
        if later:
            self.patient = True
        else:
            self.asked += 1

    def stats(self) -> dict[str, int]:
        return {
            "sent": 1,
            "lost": 0,
            "gaps": self.missing_count,
            "members_estimate": self.estimate,
            "dropped_key": self.other_key,
        }


class Transport:
    def describe(self) -> str:
        return "eth0"


class Room:
    where = ""

    def __init__(self) -> None:
        self.rejoined = 0
        self.given_up = 0
        self.session = Session()
        self.transport = Transport()
        self.said: list[tuple[str, int]] = []
        self.on_pump: Callable[[], object] = lambda: None
        self.on_events: Any = None
        self.left = False
        self.refuse = ""

    def say(self, text: str, kind: int) -> None:
        if self.refuse:
            raise Refused(1, "too_long", self.refuse)
        self.said.append((text, kind))

    def rename(self, name: str) -> None:
        self.session.nickname = name

    def confirm(self) -> None:
        self.session.confirm(0)

    def stats(self) -> dict[str, int]:
        return self.session.stats()

    def pump(self) -> None:
        self.on_pump()

    def way(self) -> dict[str, str]:
        return {"interface": "eth0", "address": "192.0.2.33"}

    def rejoin(self) -> None:
        self.rejoined += 1

    def give_up(self) -> None:
        self.given_up += 1

    def start(self) -> None: ...

    def leave(self) -> None:
        self.left = True


class Directory:
    """The connection to a directory: what was asked, to be answered by the test."""

    def __init__(self) -> None:
        self.state = IDLE
        self.asked: list[tuple[str, dict[str, Any], Callable[[Any, Any], object]]] = []
        self.on_history: Callable[[bytes], object] = nothing

    def request(
        self, method: str, params: dict[str, Any], done: Callable[[Any, Any], object]
    ) -> None:
        self.asked.append((method, params, done))


class World:
    def __init__(self) -> None:
        self.kept_by = Directory()
        self.time = 100.0
        self.loop = Loop(clock=lambda: self.time)
        self.over = 0
        self.quits = 0
        self.counted = 0  # times that the directory was asked how many are here
        self.members = 0  # its answer
        self.names: list[str] = []
        self.only_here = False  # nobody else can come

    def enter(self, *, terminal: bool = True, plain: bool = False, **style: Any) -> Chat:
        self.frontend = Frontend(terminal)
        self.room = Room()
        stamps = style.pop("stamps", Stamps("off", lambda: 0.0))
        values = Style(style.pop("as_json", False), "Ctrl-]", stamps)
        for name, value in style.items():
            setattr(values, name, value)
        self.chat = Chat(
            self.loop,
            self.frontend,
            self.room,  # type: ignore[arg-type]
            RoomEntry("lab", "239.255.7.1", 5751, PLAIN if plain else RELIABLE),
            values,
            listed=True,
            on_over=self._over,
            on_quit=self._quit,
            on_renamed=self.names.append,
            count=self._count,
            invitation=lambda chat: (["come here"], self.only_here),
            kept=Kept(self.kept_by, "lab"),  # type: ignore[arg-type]
        )
        self.chat.start()
        return self.chat

    def _over(self, chat: Chat) -> None:
        self.over += 1

    def _quit(self) -> None:
        self.quits += 1

    def _count(self, chat: Chat, then: Callable[[int], object]) -> None:
        self.counted += 1
        then(self.members)

    def wait(self, seconds: float) -> None:
        self.time += seconds
        for _ in range(3):
            self.loop.defer(lambda: None)
            self.loop.tick()

    def hear(self, *events: tuple[Any, ...]) -> None:
        self.chat.events([TABLE[event[0]](*event) for event in events])
        self.room.on_pump()


def message(
    text: str, sender: bytes = BOB, name: str = "Bob", mark: str = "", seq: int = 0, wall: int = 0
) -> Said:
    return Said("message", sender, seq, name, TEXT, text, wall, mark, False)
