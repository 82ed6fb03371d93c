"""Chat mode on a frontend, a room and a clock of the test's own."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from evloop.app.chat import (
    FINISHING,
    OPENING,
    OVER,
    TALKING,
    Chat,
    names_me,
)
from evloop.app.commands import UsageError
from evloop.app.limits import (
    ALONE_S,
    BELL_S,
    CATCH_UP_S,
    CONFIRM_S,
    CONFIRM_SETTLE_S,
    FOLD_BURST,
    NEWS_FOLD_S,
    OPENING_S,
    PIPE_QUEUE_MAX,
)
from evloop.app.style import Stamps, Style
from evloop.base.errors import EvloopError, Refused
from evloop.room.events import TABLE, TEXT, Said
from evloop.system.loop import Loop
from evloop.terminal import report

ME, BOB, EVE = b"mmmmmmmm", b"bbbbbbbb", b"eeeeeeee"


class Frontend:
    """Notes what it is told; `lines` are data, `notes` are not."""

    def __init__(self, terminal: bool) -> None:
        self.is_terminal = terminal
        self.owner: Any = None
        self.complete: Callable[[str, int], list[str]] = lambda text, cursor: []
        self.lines: list[str] = []
        self.notes: list[str] = []
        self.back: list[str] = []
        self.bells = 0
        self.mentions = 0
        self.held = False

    def show(self, text: str) -> None:
        self.lines.append(text)

    def note(self, text: str) -> None:
        self.notes.append(text)

    def message(
        self,
        time: str,
        parts: tuple[str, str, str, list[str]],
        *,
        old: bool,
        mention: bool,
        bell: bool,
    ) -> None:
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
        self.kept: list[Any] = []

    def members(self, now: float) -> list[tuple[bytes, str, float]]:
        return self.present

    def history(self, count: int) -> list[Any]:
        return self.kept[-count:]

    def label(self, sender: bytes, name: str) -> str:
        return name

    def queued(self) -> int:
        return self.waiting

    def unconfirmed(self) -> int:
        return self.missing

    def confirmers(self) -> tuple[int, int]:
        return self.answers

    def confirm(self, now: float) -> None:
        self.asked += 1

    def stats(self) -> dict[str, int]:
        return {"sent": 1, "lost": 0}


class Room:
    def __init__(self) -> None:
        self.session = Session()
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

    def start(self) -> None: ...

    def leave(self) -> None:
        self.left = True


class World:
    def __init__(self) -> None:
        self.time = 100.0
        self.loop = Loop(clock=lambda: self.time)
        self.over = 0
        self.quits = 0
        self.alone = 0
        self.names: list[str] = []

    def enter(self, *, terminal: bool = True, plain: bool = False, **style: Any) -> Chat:
        self.frontend = Frontend(terminal)
        self.room = Room()
        values = {
            "as_json": False, "escape": "Ctrl-]", "stamps": Stamps("off", lambda: 0.0),
            "history": None, "answered": False, "muted": False, **style,
        }  # fmt: skip
        self.chat = Chat(
            self.loop,
            self.frontend,
            self.room,  # type: ignore[arg-type]
            "lab",
            Style(**values),
            plain=plain,
            listed=True,
            on_over=self._over,
            on_quit=self._quit,
            on_renamed=self.names.append,
            on_alone=self._alone,
        )
        self.chat.start()
        return self.chat

    def _over(self, chat: Chat) -> None:
        self.over += 1

    def _quit(self) -> None:
        self.quits += 1

    def _alone(self, chat: Chat) -> None:
        self.alone += 1

    def wait(self, seconds: float) -> None:
        self.time += seconds
        for _ in range(3):
            self.loop.defer(lambda: None)
            self.loop.tick()

    def hear(self, *events: tuple[Any, ...]) -> None:
        self.chat.events([TABLE[event[0]](*event) for event in events])


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.loop.close()


def message(text: str, sender: bytes = BOB, name: str = "Bob", mark: str = "") -> Said:
    return Said("message", sender, 0, name, TEXT, text, 0, mark, False)


def test_the_first_line_names_who_was_heard_by_then(world: World) -> None:
    chat = world.enter()
    world.hear(("joined", BOB, "Bob"), ("joined", EVE, "Eve"))
    assert chat.state == OPENING and world.frontend.notes == []
    world.wait(OPENING_S)
    assert chat.state == TALKING
    assert world.frontend.notes == ["-- in lab with Bob, Eve. Ctrl-] or /leave goes back --"]


def test_whatever_comes_first_ends_the_opening(world: World) -> None:
    world.enter()
    world.hear(message("hi"))
    assert world.frontend.notes[0].startswith("-- in lab") and world.frontend.lines == ["Bob: hi"]
    world.wait(OPENING_S)
    assert len(world.frontend.notes) == 1


def test_a_plain_room_opens_at_once(world: World) -> None:
    assert world.enter(plain=True).state == TALKING


def test_lines_are_messages_and_slashes_commands(world: World) -> None:
    chat = world.enter()
    chat.line("hello")
    chat.line("//etc/passwd")
    chat.line("   ")
    chat.line("/me waves  twice")
    assert world.room.said == [("hello", 0), ("/etc/passwd", 0), ("waves  twice", 1)]
    for wrong in ("/shrug", "/", "/history x", "/leave now"):
        with pytest.raises(UsageError):
            chat.line(wrong)
    assert len(world.room.said) == 3


def test_a_refused_line_says_why_and_comes_back(world: World) -> None:
    chat = world.enter()
    world.room.refuse = "it is too long"
    with pytest.raises(EvloopError, match="not sent: it is too long"):
        chat.line("//x")
    with pytest.raises(EvloopError):
        chat.line("/me waves")
    assert world.frontend.back == ["//x", "/me waves"]


def test_commands_of_a_room(world: World) -> None:
    chat = world.enter()
    world.room.session.present.append((BOB, "Bob", 3.0))
    world.room.session.kept = [message("one"), message("two")]
    for line in ("/who", "/history 1", "/stats", "/help", "/help who", "/name Melanie"):
        chat.line(line)
    notes = "\n".join(world.frontend.notes)
    assert "  Bob  3 s ago" in notes and "Bob: two" in notes and "Bob: one" not in notes
    assert "  sent  1" in notes and "/leave" in notes and "-- Mel is now Melanie --" in notes
    assert world.names == ["Melanie"]
    with pytest.raises(Refused):
        chat.line("/name a:b")


def test_joins_and_parts_are_folded(world: World) -> None:
    world.enter()
    world.wait(OPENING_S)
    world.hear(("joined", BOB, "Bob"))
    world.hear(("left", EVE, "Eve", "bye"))
    assert len(world.frontend.notes) == 1
    world.wait(NEWS_FOLD_S)
    assert world.frontend.notes[1:] == ["-- Bob joined; Eve left --"]


def test_who_came_and_went_within_the_fold_is_said_so(world: World) -> None:
    world.enter()
    world.wait(OPENING_S)
    world.hear(("joined", BOB, "Bob"), ("left", BOB, "Bob", "bye"))
    world.hear(("left", EVE, "Eve", "silent"), ("joined", EVE, "Eve"))
    world.wait(NEWS_FOLD_S)
    assert world.frontend.notes[1:] == ["-- Bob came and went --"]


def test_renames_losses_and_conflicts_are_told(world: World) -> None:
    world.enter()
    world.hear(("renamed", BOB, "Bob", "Rob"), ("lost", BOB, "Rob", 2), ("conflict", ME, "Mel", 3))
    assert world.frontend.notes[-3:] == [
        "-- Bob is now Rob --",
        report.lost("Rob", 2),
        report.conflict("Mel", 3, True),
    ]


def test_a_mention_rings_once_in_a_while(world: World) -> None:
    world.enter()
    world.hear(message("mel?"), message("MEL!"), message("melon"))
    assert world.frontend.mentions == 2 and world.frontend.bells == 1
    world.wait(BELL_S)
    world.hear(message("Mel"), message("Mel", mark="history"), message("Mel", sender=ME))
    assert world.frontend.mentions == 3 and world.frontend.bells == 2


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Mel", True),
        ("hi mel, you", True),
        ("@MEL:", True),
        ("melon", False),
        ("camel", False),
        ("melon and mel", True),
        ("", False),
    ],
)
def test_names_are_found_at_word_boundaries(text: str, found: bool) -> None:
    assert names_me(text, "Mel") is found


def test_one_flooder_is_folded_on_a_live_screen_only(world: World) -> None:
    world.enter()
    world.hear(*[message(str(n)) for n in range(100)])
    assert len(world.frontend.lines) == FOLD_BURST
    world.hear(message("from eve", EVE, "Eve"))
    assert (
        world.frontend.lines[-1] == "Eve: from eve" or world.frontend.lines[-1] == "Bob: from eve"
    )
    world.wait(NEWS_FOLD_S)
    assert "80 more lines from Bob" in world.frontend.notes[-1]
    world.enter(terminal=False)
    world.hear(*[message(str(n)) for n in range(100)])
    assert len(world.frontend.lines) == 100


def test_at_a_terminal_leaving_is_at_once(world: World) -> None:
    chat = world.enter()
    world.room.session.missing = 3
    chat.line("/leave")
    assert chat.state == OVER and world.room.left and world.over == 1
    assert world.frontend.notes[-1] == "-- left lab --"
    world.hear(message("too late"))
    assert world.frontend.lines == []
    chat.leave()
    assert world.over == 1


def test_a_pipe_waits_until_everybody_has_confirmed(world: World) -> None:
    chat = world.enter(terminal=False)
    chat.line("x")
    world.room.session.waiting = 1
    chat.finish()
    assert chat.state == FINISHING and world.frontend.held and world.room.session.asked == 0
    world.wait(60)
    assert chat.state == FINISHING
    world.room.session.waiting, world.room.session.missing = 0, 1
    world.room.on_pump()
    assert world.room.session.asked == 1
    world.wait(CONFIRM_SETTLE_S)
    assert chat.state == FINISHING
    world.room.session.missing, world.room.session.answers = 0, (2, 2)
    world.room.on_pump()
    assert chat.state == OVER and chat.outcome == (2, 2)


def test_a_pipe_waits_no_longer_than_it_must(world: World) -> None:
    chat = world.enter(terminal=False)
    chat.line("x")
    world.room.session.missing = 1
    chat.finish()
    world.wait(CONFIRM_S - 0.1)
    assert chat.state == FINISHING
    world.wait(0.2)
    assert chat.state == OVER


def test_what_must_be_answered_waits_for_somebody(world: World) -> None:
    chat = world.enter(terminal=False, answered=True, muted=True)
    chat.say("x")
    chat.finish()
    world.wait(CONFIRM_SETTLE_S + 1)
    assert chat.state == FINISHING
    world.wait(CONFIRM_S)
    assert chat.state == OVER and chat.outcome == (0, 0)
    assert world.frontend.notes == [] and world.frontend.lines == []


def test_a_fast_pipe_is_held_back(world: World) -> None:
    world.enter(terminal=False)
    world.room.session.waiting = PIPE_QUEUE_MAX + 1
    world.room.on_pump()
    assert world.frontend.held
    world.room.session.waiting = PIPE_QUEUE_MAX
    world.room.on_pump()
    assert not world.frontend.held


def test_quitting_from_a_room_leaves_it_first(world: World) -> None:
    chat = world.enter()
    chat.line("/quit")
    assert world.quits == 1 and chat.state == OVER


def test_silence_is_noticed_once_and_only_silence(world: World) -> None:
    world.enter()
    world.wait(ALONE_S)
    assert world.alone == 1
    world.enter()
    world.hear(message("hi"))
    world.wait(ALONE_S)
    assert world.alone == 1


def test_the_tail_of_the_history_and_no_more(world: World) -> None:
    world.enter(terminal=False, history=2)
    world.hear(*[message(str(n), mark="history") for n in range(5)])
    assert world.frontend.lines == []
    world.wait(CATCH_UP_S)
    assert world.frontend.lines == ["Bob: 3 (old)", "Bob: 4 (old)"]
    world.hear(message("old", mark="history"), message("new"))
    assert world.frontend.lines[2:] == ["Bob: new"]


def test_a_live_message_shows_the_history_before_it(world: World) -> None:
    world.enter(terminal=False, history=9)
    world.hear(message("a", mark="history"), message("b"))
    assert world.frontend.lines == ["Bob: a (old)", "Bob: b"]


def test_the_day_is_said_when_it_changes(world: World) -> None:
    wall = [1795348801.0]
    world.enter(stamps=Stamps("HH:MM", lambda: wall[0]))
    world.hear(message("a"))
    wall[0] += 86_400
    world.hear(message("b"), message("c"))
    days = [note for note in world.frontend.notes if "2026" in note]
    assert len(days) == 1 and re.fullmatch(r"-- \w{3} \d\d Nov 2026 --", days[0])
    assert all(re.match(r"\d\d:\d\d Bob: ", line) for line in world.frontend.lines)


def test_history_shows_when_it_was_said(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    world.enter(stamps=Stamps("HH:MM", lambda: 1795348801.0))
    old = message("a", mark="history")._replace(wall=1795348801 - 3600)
    world.hear(old, message("b"))
    assert world.frontend.lines == ["11:00 Bob: a (old)", "12:00 Bob: b"]


def test_stamps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    moment = 1795348801.4129
    assert Stamps("off", lambda: moment).line() == Stamps("off", lambda: moment).day() == ""
    assert Stamps("HH:MM", lambda: moment).line() == "12:00 "
    assert Stamps("iso", lambda: moment).line() == "2026-11-22T12:00:01 "
    assert Stamps("iso", lambda: moment).day() == "Sun 22 Nov 2026"
    assert Stamps("off", lambda: moment).utc() == "2026-11-22T12:00:01.412Z"


@pytest.mark.parametrize("style", ["HH:MM", "iso"])
def test_stamps_follow_the_clock(style: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Kathmandu")  # 5:45 ahead
    time.tzset()
    clock = [1795348801.4129]
    stamps = Stamps(style, lambda: clock[0])
    for _ in range(300):
        fresh = Stamps(style, lambda: clock[0])
        assert stamps.line() == fresh.line()
        assert stamps.line(clock[0] - 86_400) == fresh.line(clock[0] - 86_400)
        assert stamps.day() == fresh.day()
        clock[0] += 307.7


def test_json_is_data_for_everything_that_happens(world: World) -> None:
    world.enter(as_json=True)
    world.hear(message("hi"), ("joined", BOB, "Bob"), ("lost", BOB, "Bob", 1))
    world.hear(("renamed", BOB, "Bob", "Rob"), ("conflict", BOB, "Rob", 1))
    kinds = [line.partition('"type":"')[2].partition('"')[0] for line in world.frontend.lines]
    assert kinds == ["message", "joined", "lost", "renamed", "conflict"]


def test_names_of_speakers_are_kept_for_completion(world: World) -> None:
    chat = world.enter()
    world.hear(message("a"), message("b", EVE, "Eve"), message("c"), message("d", ME, "Mel"))
    assert list(chat.speakers) == ["Eve", "Bob"]


def test_history_asked_for_has_its_time_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    chat = world.enter(stamps=Stamps("HH:MM", lambda: 0.0))
    world.wait(OPENING_S)
    said = [message("a")._replace(wall=3_600), message("b")]
    monkeypatch.setattr(chat.room.session, "history", lambda count: said)
    chat.line("/history")
    assert world.frontend.notes[-3:-1] == ["01:00 Bob: a", "Bob: b"]


def test_who_talks_has_come_before(world: World) -> None:
    world.enter()
    world.wait(OPENING_S)
    world.hear(("joined", BOB, "Bob"))
    assert world.frontend.notes[1:] == []
    world.hear(message("hi"))
    assert world.frontend.notes[1:] == ["-- Bob joined --"]
