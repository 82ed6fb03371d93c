"""Chat mode on a frontend, a room and a clock of the test's own."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest

from evloop.app.chat import (
    FINISHING,
    OPENING,
    OVER,
    TALKING,
)
from evloop.app.commands import UsageError
from evloop.app.limits import (
    ALONE_S,
    BELL_S,
    CATCH_UP_S,
    CONFIRM_S,
    CONFIRM_SETTLE_S,
    FINISH_STALL_S,
    FOLD_BURST,
    HELD_S,
    HERE_S,
    HISTORY_WAIT_S,
    NEWS_FOLD_S,
    OPENING_S,
    PASSING_S,
    PIPE_QUEUE_MAX,
)
from evloop.app.style import Stamps
from evloop.app.view import names_me
from evloop.base.errors import EvloopError, Refused
from evloop.room.events import Blocked, Deaf, Trouble
from evloop.terminal import report
from tests.support.chats import BOB, EVE, ME, World, message


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.loop.close()


def test_the_first_line_names_who_was_heard_by_then(world: World) -> None:
    chat = world.enter()
    world.hear(("joined", BOB, "Bob"), ("joined", EVE, "Eve"))
    assert chat.state == OPENING and world.frontend.notes == []
    world.wait(OPENING_S)
    assert chat.state == TALKING
    assert world.frontend.notes == ["-- in lab with Bob, Eve. Ctrl-] or /leave goes back --"]


def test_what_comes_at_once_is_shown_behind_the_first_line(world: World) -> None:
    world.enter()
    world.hear(message("hi"))
    assert world.frontend.notes == [] and world.frontend.lines == []
    world.wait(OPENING_S)
    assert world.frontend.notes[0].startswith("-- in lab") and world.frontend.lines == ["Bob: hi"]
    assert len(world.frontend.notes) == 1


def test_what_is_typed_at_once_ends_the_opening(world: World) -> None:
    world.enter().line("hello")
    assert world.frontend.notes[0].startswith("-- in lab")
    world.hear(message("early"), message("hello", sender=ME, name="Mel"))
    assert world.frontend.lines == ["Bob: early", "Mel: hello"]


def test_a_plain_room_opens_at_once(world: World) -> None:
    assert world.enter(plain=True).state == TALKING


def test_lines_are_messages_and_slashes_commands(world: World) -> None:
    chat = world.enter()
    chat.line("hello")
    chat.line("//etc/passwd")
    chat.line("   ")
    chat.line("/me waves  twice")
    assert world.room.said == [("hello", 0), ("/etc/passwd", 0), ("waves  twice", 1)]
    for wrong in ("/shrug", "/", "/history x", "/leave now now"):
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
    assert (
        re.search(r"  sent +1", notes) and "/leave" in notes and "-- Mel is now Melanie --" in notes
    )
    assert world.names == ["Melanie"]
    with pytest.raises(Refused):
        chat.line("/name a:b")


def test_joins_and_parts_are_folded(world: World) -> None:
    world.enter()
    world.wait(HERE_S)
    world.hear(("joined", BOB, "Bob"))
    world.hear(("left", EVE, "Eve", "bye"))
    assert len(world.frontend.notes) == 1
    world.wait(NEWS_FOLD_S)
    assert world.frontend.notes[1:] == ["-- Bob joined; Eve left --"]


def test_who_is_first_heard_soon_after_we_came_was_here_before(world: World) -> None:
    """In a large room the others make themselves known over some twenty seconds."""
    world.enter()
    world.room.session.estimate = 40
    world.wait(OPENING_S)
    world.hear(*[("joined", bytes([n]) * 8, f"m{n}") for n in range(30)])
    world.wait(NEWS_FOLD_S)
    assert world.frontend.notes[1:] == ["-- m0, m1, m2, m3, m4, m5, 24 more here too --"]


def test_the_first_line_does_not_list_everybody(world: World) -> None:
    world.enter()
    world.hear(*[("joined", bytes([n]) * 8, f"m{n}") for n in range(30)])
    world.wait(OPENING_S)
    assert ", m11, 18 more. Ctrl-]" in world.frontend.notes[0]


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
    world.wait(OPENING_S)
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
    world.wait(OPENING_S)
    world.hear(*[message(str(n)) for n in range(100)])
    assert len(world.frontend.lines) == FOLD_BURST
    world.hear(message("from eve", EVE, "Eve"))
    assert (
        world.frontend.lines[-1] == "Eve: from eve" or world.frontend.lines[-1] == "Bob: from eve"
    )
    world.wait(NEWS_FOLD_S)
    assert "80 more lines from Bob" in world.frontend.notes[-1]
    world.enter(terminal=False)
    world.wait(OPENING_S)
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
    world.room.session.waiting = 20
    chat.finish()
    assert chat.state == FINISHING and world.frontend.held and world.room.session.asked == 0
    assert world.room.session.patient  # what is said first waits for what was said before
    while world.room.session.waiting > 1:  # a slow network, and many lines
        world.room.session.waiting -= 1
        world.room.on_pump()
        world.wait(FINISH_STALL_S - 0.1)
        assert chat.state == FINISHING
    world.room.session.waiting, world.room.session.missing = 0, 1
    world.room.on_pump()
    assert world.room.session.asked == 1
    world.wait(CONFIRM_SETTLE_S)
    assert chat.state == FINISHING
    world.room.session.missing, world.room.session.answers = 0, (2, 2)
    world.room.on_pump()
    assert chat.state == OVER and chat.outcome == (2, 2)


def test_a_pipe_of_which_nothing_goes_out_ends(world: World) -> None:
    chat = world.enter(terminal=False, answered=True, muted=True)
    chat.say("x")
    world.room.session.waiting = 1
    chat.finish()
    for _ in range(3):
        world.wait(FINISH_STALL_S / 3 - 0.1)
        world.room.on_pump()
        assert chat.state == FINISHING
    world.wait(1.0)
    assert chat.state == OVER and chat.outcome == (0, 0)


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
    world.members = 2
    world.enter()
    world.wait(ALONE_S)
    assert world.counted == 1 and "you are alone here" in world.frontend.notes[-1]
    world.wait(ALONE_S)
    world.enter()
    world.hear(message("hi"))
    world.wait(ALONE_S)
    assert world.counted == 1


def test_who_hears_another_key_is_not_sent_to_the_firewall(world: World) -> None:
    world.members = 2
    world.enter()
    world.room.session.other_key = 2
    world.wait(ALONE_S)
    assert world.counted == 1 and len(world.frontend.notes) == 1


def test_who_is_rightly_alone_is_told_nothing(world: World) -> None:
    world.members = 1
    world.enter()
    world.wait(ALONE_S)
    assert world.counted == 1 and len(world.frontend.notes) == 1


def test_the_tail_of_the_history_and_no_more(world: World) -> None:
    world.enter(terminal=False, history=2)
    world.room.session.complete = False
    events = [message(str(n), mark="history", seq=n) for n in range(5)]
    world.room.session.kept = events
    world.hear(*reversed(events))
    world.wait(CATCH_UP_S)
    assert world.frontend.lines == []
    world.room.session.complete = True
    world.wait(0.1)
    world.room.on_pump()
    assert world.frontend.lines == ["Bob: 3 (old)", "Bob: 4 (old)"]
    world.hear(message("old", mark="history", seq=9), message("new", seq=10))
    world.wait(CATCH_UP_S)
    assert world.frontend.lines[2:] == ["Bob: new"]


def test_history_waits_for_its_gaps_and_is_shown_in_order(world: World) -> None:
    """What comes is in any order; a line of now waits for it, and no mark is left of the chaos."""
    world.enter(terminal=False)
    session = world.room.session
    session.complete = False
    first, second = message("a", mark="history", seq=0), message("b", EVE, "Eve", "early")
    third, now = message("c", mark="history", seq=1), message("now", seq=2)
    session.kept = [first, second, third, now]
    world.hear(("joined", BOB, "Bob"), second, third)
    world.wait(1.0)
    world.hear(now)
    world.wait(1.0)
    world.hear(first)
    assert world.frontend.lines == []
    session.complete = True
    world.room.on_pump()
    assert world.frontend.lines == ["Bob: a (old)", "Eve: b", "Bob: c (old)", "Bob: now"]


def test_a_line_of_now_does_not_wait_for_ever(world: World) -> None:
    world.enter()
    world.room.session.complete = False
    world.room.session.missing_count = 7
    world.hear(message("a", mark="history"), message("b", seq=1))
    world.wait(HELD_S)
    assert world.frontend.lines == ["Bob: a (old)", "Bob: b"]
    assert "-- 7 messages of the history are still missing --" in world.frontend.notes


def test_history_that_never_gets_whole_is_shown_as_it_is_and_that_is_said(world: World) -> None:
    world.enter(terminal=False, history=9)
    session = world.room.session
    session.complete, session.missing_count = False, 1
    world.hear(message("a", mark="history"))
    world.wait(HISTORY_WAIT_S - 0.1)
    assert world.frontend.lines == []
    waiting = "-- waiting for the history: 1 message is still missing --"
    assert world.frontend.notes[1:] == [waiting]
    world.wait(0.2)
    assert world.frontend.lines == ["Bob: a (old)"]
    assert world.frontend.notes[-1] == "-- 1 message of the history is still missing --"
    later = [message("c", mark="history", seq=2), message("b", mark="history", seq=1)]
    session.kept = [message("a"), *reversed(later)]
    world.hear(*later)
    session.complete = True
    world.wait(CATCH_UP_S)
    assert world.frontend.notes[-1] == "-- 2 messages from before that came late: --"
    assert world.frontend.lines[1:] == ["Bob: b (old)", "Bob: c (old)"]


def test_where_nobody_is_nothing_is_waited_for(world: World) -> None:
    world.enter(terminal=False)
    world.room.session.complete = False
    world.wait(CATCH_UP_S)
    world.hear(message("first"))
    assert world.frontend.lines == ["Bob: first"]


def test_the_day_is_said_when_it_changes(world: World) -> None:
    wall = [1795348801.0]
    world.enter(stamps=Stamps("HH:MM", lambda: wall[0]))
    world.wait(OPENING_S)
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
    world.hear(old, message("b", seq=1))
    world.wait(OPENING_S)
    assert world.frontend.lines == ["11:00 Bob: a (old)", "12:00 Bob: b"]


def test_stamps_follow_the_zone_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The C library looks at the zone once; a laptop travels while a chat is open."""
    wall = [1795348801.0]
    stamps = Stamps("HH:MM", lambda: wall[0])
    monkeypatch.setenv("TZ", "UTC0")
    assert stamps.line() == "12:00 "
    monkeypatch.setenv("TZ", "JST-9")
    wall[0] += 60
    assert stamps.line() == "21:01 "
    assert stamps.clock(wall[0]) == "21:01"
    monkeypatch.undo()
    time.tzset()


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
    world.wait(OPENING_S)
    world.hear(message("hi"), ("joined", BOB, "Bob"), ("lost", BOB, "Bob", 1))
    world.hear(("renamed", BOB, "Bob", "Rob"), ("conflict", BOB, "Rob", 1))
    kinds = [line.partition('"type":"')[2].partition('"')[0] for line in world.frontend.lines]
    assert kinds == ["message", "joined", "lost", "renamed", "conflict"]


def test_names_of_speakers_are_kept_for_completion(world: World) -> None:
    chat = world.enter()
    world.hear(message("a"), message("b", EVE, "Eve"), message("c"), message("d", ME, "Mel"))
    assert list(chat.view.speakers) == ["Eve", "Bob"]


def test_history_asked_for_has_its_time_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    chat = world.enter(stamps=Stamps("HH:MM", lambda: 0.0))
    world.wait(OPENING_S)
    said = [message("a")._replace(wall=3_600), message("b")]
    monkeypatch.setattr(chat.room.session, "history", lambda count: said)
    chat.line("/history")
    assert world.frontend.notes[-3:-1] == ["01:00 Bob: a", "Bob: b"]


def test_who_comes_and_talks_is_announced_when_he_stays(world: World) -> None:
    world.enter()
    world.wait(HERE_S)
    world.hear(("joined", BOB, "Bob"))
    assert world.frontend.notes[1:] == []
    world.hear(message("hi"))
    assert world.frontend.notes[1:] == []
    world.wait(PASSING_S)
    world.wait(NEWS_FOLD_S)
    assert world.frontend.notes[1:] == ["-- Bob joined --"]
    world.hear(("left", BOB, "Bob", "bye"))
    world.wait(NEWS_FOLD_S)
    assert world.frontend.notes[2:] == ["-- Bob left --"]


def test_who_only_says_something_and_goes_is_not_announced(world: World) -> None:
    """As `say` does, in every release: two lines of presence for each would be noise."""
    world.enter()
    world.wait(HERE_S)
    for _ in range(3):
        world.hear(("joined", BOB, "Bob"), message("backup done"))
        world.wait(CONFIRM_S)
        world.hear(("left", BOB, "Bob", "bye"))
        world.wait(PASSING_S + NEWS_FOLD_S)
    assert world.frontend.lines == ["Bob: backup done"] * 3
    assert world.frontend.notes[1:] == []


# -- lines that were meant for the main prompt ----------------------------------------------------


@pytest.mark.parametrize("line", ["quit", " Exit ", "help", "getdir", "chat lab"])
def test_a_command_of_the_main_prompt_is_asked_about_once(world: World, line: str) -> None:
    chat = world.enter()
    chat.line(line)
    assert world.room.said == []
    assert world.frontend.back == []  # what is typed next must not be glued to it
    assert "said to everybody? /" in world.frontend.notes[-1]
    chat.line(line)
    chat.line(line)
    assert [text for text, _ in world.room.said] == [line, line]


@pytest.mark.parametrize(
    "line",
    [
        "000G-40R4-0M30-E209-185G-R38E-1ZF0",
        "key 000g-40r4-0m30-e209-185g-r38e-1zf1",
        "key 000G 40R4 0M30 E209 185G R38E 1ZF0",
        "000G-40R4-0M30- E209-185G-R38E-1ZF0",
        "key lab --set",
        "key lab --new",
    ],
)
def test_a_key_is_asked_about_before_it_is_said(world: World, line: str) -> None:
    """After the third slip at the question the next try would go to an open room."""
    chat = world.enter()
    chat.line(line)
    assert world.room.said == []
    assert "said to everybody?" in world.frontend.notes[-1]
    assert world.frontend.manners[-1] == "answer"
    chat.line(line)
    assert [text for text, _ in world.room.said] == [line]


@pytest.mark.parametrize(
    "line",
    [
        "key",
        "key lab",
        "the key is 000G-40R4",
        "bye",
        "quit smoking!",
        "help me",
        "chat is fun today",
        "hello",
    ],
)
def test_what_one_says_is_not_asked_about(world: World, line: str) -> None:
    world.enter().line(line)
    assert [text for text, _ in world.room.said] == [line]


def test_a_pipe_is_asked_nothing(world: World) -> None:
    world.enter(terminal=False).line("quit")
    assert [text for text, _ in world.room.said] == ["quit"]


# -- how long a pipe waits ------------------------------------------------------------------------


def test_in_a_plain_room_nobody_can_confirm(world: World) -> None:
    chat = world.enter(terminal=False, plain=True, answered=True, muted=True)
    chat.say("x")
    chat.finish()
    assert chat.state == OVER and chat.sent == 1 and world.room.session.asked == 0


def test_the_patience_of_the_end_of_a_pipe(world: World) -> None:
    chat = world.enter(terminal=False, answered=True, muted=True, patience=60.0)
    chat.say("x")
    chat.finish()
    world.wait(59.9)
    assert chat.state == FINISHING
    world.wait(0.2)
    assert chat.state == OVER


def test_blank_lines_of_a_pipe_are_not_said(world: World) -> None:
    chat = world.enter(terminal=False)
    chat.verbatim = True
    for line in ("", "  ", "/x", "quit"):
        chat.line(line)
    assert [text for text, _ in world.room.said] == ["/x", "quit"]


def test_the_frontend_is_told_which_messages_are_ones_own(world: World) -> None:
    world.enter()
    world.wait(HERE_S)
    world.hear(message("mine", ME, "Mel"), message("his"))
    assert world.frontend.own == 1


def test_who_should_be_heard_and_is_not_has_the_group_joined_anew(world: World) -> None:
    world.members = 3
    chat = world.enter()
    world.wait(ALONE_S)
    assert world.room.rejoined == 1
    counted = world.counted
    chat.events([Deaf("deaf", 1)])
    assert world.counted == counted + 1 and world.room.given_up == 0
    world.members = 1  # they have all left
    chat.events([Deaf("deaf", 2)])
    assert world.room.given_up == 1


def test_a_silent_plain_room_is_left_as_it_is(world: World) -> None:
    world.members = 3
    world.enter(plain=True)
    world.wait(ALONE_S)
    assert world.room.rejoined == 0


def test_the_network_in_words(world: World) -> None:
    chat = world.enter()
    chat.events([Trouble("trouble", "eth0 is gone"), Trouble("trouble", "", "wlan0, 192.0.2.9")])
    chat.events([Blocked("blocked", 3), *(Deaf("deaf", times) for times in range(1, 6))])
    said = world.frontend.notes
    assert "-- the network is back (wlan0, 192.0.2.9) --" in said
    assert sum("firewall drops what comes to 239" in line for line in said) == 1
    assert sum("joins the group anew every minute" in line for line in said) == 1
