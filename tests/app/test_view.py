"""How a room looks: who is ignored, what came late, what a stranger can make of the screen."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from evloop.app.limits import (
    HERE_S,
    IGNORED_MAX,
    LATE_S,
    NEWS_FOLD_S,
    OPENING_S,
    REMARKS_BURST,
)
from evloop.app.style import Stamps
from evloop.base.errors import EvloopError, Refused
from evloop.terminal import report
from tests.support.chats import BOB, EVE, ME, World, message

NOON = 1795348801.0  # 2026-11-22 12:00:01 UTC


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.loop.close()


@pytest.fixture
def utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


def entered(world: World, **style: object) -> None:
    world.enter(**style)  # type: ignore[arg-type]
    world.wait(OPENING_S)


# -- one budget ------------------------------------------------------------------------------------


@pytest.mark.parametrize("terminal", [True, False])
def test_a_flood_of_strangers_is_counts(world: World, terminal: bool) -> None:
    """Renames, losses, conflicts and plain texts: one budget; /stats counts on."""
    world.enter(terminal=terminal)
    world.wait(OPENING_S)
    for n in range(500):
        world.hear(
            ("renamed", BOB, f"a{n}", f"b{n}"),
            ("lost", EVE, "Eve", 3),
            ("conflict", EVE, "Eve", n),
            message("hello", b"", "", "plain", -1),
        )
    assert len(world.frontend.notes) + len(world.frontend.lines) <= REMARKS_BURST + 1
    world.wait(NEWS_FOLD_S)
    assert (
        ": 495 renames, 495 reports of losses, 495 conflicts, 495 plain texts;"
        in (world.frontend.notes[-1])
    )
    world.chat.line("/stats")
    stats = [note.split() for note in world.frontend.notes]
    assert ["renames", "500"] in stats and ["plain", "texts", "500"] in stats
    assert ["not", "shown", "1980"] in stats


def test_a_flooded_room_is_told_on_the_same_budget(world: World) -> None:
    world.enter()
    world.wait(OPENING_S)
    world.hear(("full", "gaps"))
    assert "this room is flooded: too many gaps" in world.frontend.notes[-1]
    for n in range(100):
        world.hear(("full", ("gaps", "senders", "members")[n % 3]), ("conflict", EVE, "Eve", n))
    assert len(world.frontend.notes) <= REMARKS_BURST + 1
    world.wait(NEWS_FOLD_S)
    assert re.search(r"9\d words about full tables, 9\d conflicts;", world.frontend.notes[-1]) or (
        re.search(r"9\d conflicts, 9\d words about full tables;", world.frontend.notes[-1])
    )


def test_json_is_not_folded(world: World) -> None:
    entered(world, as_json=True)
    for n in range(500):
        world.hear(("renamed", BOB, f"a{n}", f"b{n}"))
    assert len(world.frontend.lines) == 500


def test_late_lines_of_one_sender_are_folded_like_others(world: World) -> None:
    entered(world)
    world.hear(*[message(str(n), mark="late", seq=n) for n in range(100)])
    assert len(world.frontend.lines) == 20


def test_datagrams_of_another_mode_are_told_once(world: World) -> None:
    world.enter(plain=True)
    world.hear(("foreign", "reliable"))
    assert "--mode reliable" in world.frontend.notes[-1]
    assert world.frontend.manners[-1] == ""


# -- who is ignored --------------------------------------------------------------------------------


def test_who_is_ignored_is_not_seen_under_any_name(world: World) -> None:
    entered(world)
    chat, session = world.chat, world.room.session
    session.present.append((BOB, "Bob", 1.0))
    chat.line("/ignore bob")
    world.wait(HERE_S)
    told = len(world.frontend.notes)
    world.hear(message("hi"), ("renamed", BOB, "Bob", "Rob"), message("it is me", BOB, "Rob"))
    world.hear(("left", BOB, "Rob", "bye"), ("lost", BOB, "Rob", 3))
    world.hear(message("another bob", EVE, "BOB"), message("I am Eve", EVE, "Eve"))
    world.wait(NEWS_FOLD_S)
    assert world.frontend.lines == ["Eve: I am Eve"] and len(world.frontend.notes) == told
    chat.line("/ignore")
    assert world.frontend.notes[-1] == "-- ignored here: bob --"
    session.kept = [message("hi"), message("I am Eve", EVE, "Eve")]
    chat.line("/history")
    assert "Bob: hi" not in world.frontend.notes
    chat.line("/stats")
    assert any(re.fullmatch(r"  ignored +6", note) for note in world.frontend.notes)
    chat.line("/ignore -BOB")
    world.hear(message("back"))
    assert world.frontend.lines[-1] == "Bob: back"
    with pytest.raises(EvloopError, match="not ignored"):
        chat.line("/ignore -bob")


def test_one_of_two_namesakes_is_ignored_by_his_tag(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered(world)
    session = world.room.session
    session.present += [(BOB, "Mel", 1.0), (EVE, "Mel", 1.0)]
    monkeypatch.setattr(session, "label", lambda sender, name: f"{name}~{sender[-2:].hex()}")
    world.chat.line("/ignore Mel~6262")
    world.hear(message("one", BOB, "Mel"), message("two", EVE, "Mel", seq=1))
    assert world.frontend.lines == ["Mel~6565: two"]


def test_oneself_cannot_be_ignored_and_the_list_is_bounded(world: World) -> None:
    entered(world)
    world.chat.line("/ignore Mel")
    world.hear(message("mine", ME, "Mel"))
    assert world.frontend.lines == ["Mel: mine"]
    for n in range(IGNORED_MAX - 1):
        world.chat.line(f"/ignore n{n}")
    with pytest.raises(Refused, match="256 are ignored already"):
        world.chat.line("/ignore more")


# -- when it was said ------------------------------------------------------------------------------


def test_a_line_that_healed_late_says_when_it_was_said(world: World, utc: None) -> None:
    wall = [NOON]
    entered(world, stamps=Stamps("HH:MM", lambda: wall[0]))
    world.hear(message("now", wall=int(NOON)))
    wall[0] += 8 * 60
    world.hear(message("healed", seq=1, wall=int(NOON)), message("b", seq=2, wall=int(wall[0])))
    assert world.frontend.lines == [
        "12:00 Bob: now",
        "12:08 Bob: healed  [said 12:00]",
        "12:08 Bob: b",
    ]


@pytest.mark.parametrize("wrong", [-40 * 365 * 86_400, -7_200, 7_200, 40 * 365 * 86_400])
def test_a_wrong_clock_is_no_lateness(world: World, utc: None, wrong: int) -> None:
    wall = [NOON]
    entered(world, stamps=Stamps("HH:MM", lambda: wall[0]))
    for n in range(3):
        world.hear(message(str(n), seq=n, wall=int(wall[0]) + wrong))
        wall[0] += LATE_S
    # Of a clock that is an hour or two slow only the second line can tell.
    lines = world.frontend.lines[1 if wrong == -7_200 else 0 :]
    assert lines and not any("said" in line for line in lines)
    wall[0] += 600
    world.hear(message("healed", seq=9, wall=int(NOON) + wrong))
    assert world.frontend.lines[-1].endswith("[said 12:00]")  # by our clock, whatever its own says


def test_no_times_are_told_where_none_are_asked_for(world: World) -> None:
    entered(world)
    world.hear(message("old", wall=1_000))
    assert world.frontend.lines == ["Bob: old"]


def test_history_of_another_day_says_the_day(world: World, utc: None) -> None:
    world.enter(stamps=Stamps("HH:MM", lambda: NOON))
    yesterday = int(NOON) - 86_400
    old = [message("a", mark="history", wall=yesterday), message("b", seq=1, wall=int(NOON))]
    world.room.session.kept = old
    world.hear(*old)
    world.wait(OPENING_S)
    assert world.frontend.lines == ["12:00 Bob: a (old)", "12:00 Bob: b"]
    assert world.frontend.notes[1:] == ["-- Sat 21 Nov 2026 --", "-- Sun 22 Nov 2026 --"]
    world.chat.line("/history")
    assert world.frontend.notes[3:] == [
        "-- the last 2 messages --",
        "-- Sat 21 Nov 2026 --",
        "12:00 Bob: a",
        "-- Sun 22 Nov 2026 --",
        "12:00 Bob: b",
        "-- end of history --",
    ]


# -- names -----------------------------------------------------------------------------------------


def test_namesakes_are_told_once(world: World) -> None:
    world.enter()
    world.room.session.present += [(BOB, "MEL", 0.0), (EVE, "mel", 0.0)]
    world.hear(("joined", BOB, "MEL"), ("joined", EVE, "mel"))
    world.wait(OPENING_S)
    world.wait(HERE_S)
    told = [note for note in world.frontend.notes if "/name NEW" in note]
    assert told == ["-- 2 others are called Mel; /name NEW changes yours --"]


def test_a_name_that_is_taken_is_warned_of(world: World) -> None:
    entered(world)
    world.room.session.present.append((BOB, "Bob", 0.0))
    world.chat.line("/name bob")
    assert "bob is here already" in world.frontend.notes[-1]
    world.chat.line("/name ann")
    assert world.frontend.notes[-1] == "-- bob is now ann --"


def test_who_has_a_head_with_both_counts(world: World) -> None:
    world.members = 40
    entered(world)
    world.chat.line("/who")
    assert world.frontend.notes[-2] == "-- lab: 1 heard, you included, the directory counts 40 --"


# -- looking back ----------------------------------------------------------------------------------


def test_show_prints_one_message_as_it_was_said(world: World) -> None:
    entered(world)
    program = "for i in range(3):\n\tprint(i)\n\nprint('done')"
    world.room.session.kept = [message(program), message("ok?", EVE, "Eve", seq=1)]
    world.chat.line("/show")
    world.chat.line("/show 2")
    assert world.frontend.lines == [
        "ok?",
        "for i in range(3):",
        "        print(i)",
        "",
        "print('done')",
    ]
    for wrong in ("/show 0", "/show 3"):
        with pytest.raises(EvloopError, match="no such message; 2 messages"):
            world.chat.line(wrong)


def test_show_is_safe_for_a_terminal(world: World) -> None:
    entered(world)
    world.room.session.kept = [message("\x1b[2Jgone\u202e")]
    world.chat.line("/show")
    assert world.frontend.lines == ["^[[2Jgone\ufffd"]


def test_save_writes_the_history_and_never_over_a_file(
    world: World, utc: None, tmp_path: Path
) -> None:
    entered(world, stamps=Stamps("HH:MM", lambda: NOON))
    world.room.session.kept = [message("a\nb", wall=int(NOON)), message("\x1b[2J", EVE, "Eve")]
    path = tmp_path / "talk.txt"
    world.chat.line(f"/save {path}")
    saved = "2026-11-22 12:00:01 Bob: a\n                         b\nEve: ^[[2J\n"
    assert path.read_text() == saved
    assert world.frontend.notes[-1] == f"-- saved 2 messages in {path} --"
    with pytest.raises(EvloopError, match="is there already"):
        world.chat.line(f"/save {path}")
    assert path.read_text() == saved
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(EvloopError, match="is there already"):
        world.chat.line(f"/save {tmp_path / 'link'}")
    with pytest.raises(EvloopError, match="No such file or directory"):
        world.chat.line(f"/save {tmp_path}/none/x")
    assert sorted(os.listdir(tmp_path)) == ["link", "talk.txt"]


# -- roads -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("road", "why", "senders", "sentence"),
    [
        (
            "full",
            "",
            (BOB,),
            "Bob does not reach you by multicast: the directory carries this room",
        ),
        ("full", "", (BOB, EVE), "Bob and Eve do not reach you by multicast"),
        ("full", "", (b"unknown.",), "others do not reach you by multicast"),
        ("up", "", (), "your multicast does not get out: the directory carries what you say"),
        ("alone", "", (), "no multicast on this machine: the directory carries this room"),
        ("alone", "always", (), "this room goes by the directory (--relay always)"),
        ("off", "", (), "multicast works here again; the directory no longer carries this room"),
        ("off", "refused", (), "the directory carries no more members: multicast only"),
    ],
)
def test_each_road_is_told(
    world: World, road: str, why: str, senders: tuple[bytes, ...], sentence: str
) -> None:
    entered(world)
    world.hear(("joined", BOB, "Bob"), ("joined", EVE, "Eve"))
    world.room.session.present += [(BOB, "Bob", 1.0), (EVE, "Eve", 1.0)]
    world.hear(("road", road, senders, why))
    assert any(sentence in note for note in world.frontend.notes)


def test_many_who_are_not_heard_are_counted() -> None:
    told = report.road("full", "", ["Bob", "Cy", "Dan", "Eve"])
    assert told.startswith("-- Bob, Cy and 2 more do not reach you by multicast: ")


def test_scripts_are_told_of_each_change_of_the_road_once(world: World) -> None:
    entered(world, as_json=True)
    world.hear(("road", "off", (), "refused"))  # it was off all the time
    world.hear(("road", "full", (BOB,), ""), ("road", "off", (), "lost"))
    told = [json.loads(line) for line in world.frontend.lines if '"road"' in line]
    assert [(it["road"], it["senders"]) for it in told] == [("full", [BOB.hex()]), ("off", [])]
    assert told[0] == {
        "v": 1, "type": "road", "room": "lab", "road": "full", "senders": [BOB.hex()]
    }  # fmt: skip
    assert not any("works here again" in note for note in world.frontend.notes)


def test_a_directory_that_carried_the_room_is_missed() -> None:
    away = report.carrier_away("box:44444", "reset", 2.0)
    assert away == (
        "-- the directory box:44444 is away (reset); you reach nobody here without it; what is said"
        " now comes when it is back --"
    )
    assert "connect goes back" in report.carrier_away("box:44444", "kicked", float("inf"))
