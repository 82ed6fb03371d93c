"""The wording of events: the contract to the letter, and nothing that acts on a terminal."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evloop.base.names import display
from evloop.room.events import NO_SENDER, NO_SEQ, TABLE, TEXT, Said
from evloop.terminal import report
from evloop.terminal.graphemes import width

ANN = b"\x9f\x3c\x12\xab\x00\xd1\xe2\xf3"


def event(text: str = "Good morning!", mark: str = "", **changes: Any) -> Said:
    return Said("message", ANN, 7, "Mel", TEXT, text, 0, mark, False)._replace(**changes)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("Mel", False, "Good morning!", ""), "Mel: Good morning!"),
        (("Mel", False, "Good morning!", "history"), "Mel: Good morning!"),
        (("Mel", True, "waves", ""), "* Mel waves"),
        (("", False, "Bob: hi", "plain"), "? Bob: hi"),
        (("", False, "no name", ""), "no name"),
        (("Mel", False, "hi", "late"), "Mel: hi  [late]"),
        (("Mel", False, "hi", "early"), "Mel: hi  [out of place]"),
        (("Mel", False, "one\ntwo", ""), "Mel: one\n     two"),
        (("Mel", False, "\x1b[2J", ""), "Mel: ^[[2J"),
        (("", False, "a\nMel: forged", ""), "a^JMel: forged"),
        (("", False, "a\nMel: forged", "plain"), "? a^JMel: forged"),
    ],
)
def test_a_message_as_a_line(arguments: tuple[str, bool, str, str], line: str) -> None:
    assert report.message_line(*arguments) == line


@given(st.text(), st.text(), st.sampled_from(["", "plain", "late"]), st.booleans())
def test_no_message_acts_on_a_terminal(name: str, text: str, mark: str, action: bool) -> None:
    for line in report.message_line(name, action, text, mark).split("\n"):
        assert display(line) == line


def test_the_first_line_of_a_chat() -> None:
    assert report.entered("kitchen", ["bob", "carol"], report.goes_back("Ctrl-]")) == (
        "-- in kitchen with bob, carol. Ctrl-] or /leave goes back --"
    )
    assert (
        report.entered("kitchen", [], report.goes_back("Ctrl-X"))
        == "-- in kitchen. Ctrl-X or /leave goes back --"
    )


def test_joins_and_parts_are_one_line() -> None:
    news = [("joined", "a"), ("bye", "c"), ("joined", "b"), ("silent", "d"), ("visited", "e")]
    line = report.came_and_went(news)
    assert line == "-- a, b joined; e came and went; c left; d not heard any more --"
    assert "3 more joined" in report.came_and_went(("joined", str(n)) for n in range(9))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (report.lost("Ann", 12), "-- 12 messages from Ann are gone: nobody here holds them --"),
        (report.lost("Ann", 1), "-- 1 message from Ann is gone: nobody here holds them --"),
        (report.renamed("Mel", "Melanie"), "-- Mel is now Melanie --"),
        (report.conflict("Ann", 3, False), "message 3 of Ann; the first stays"),
        (report.conflict("Ann", 3, True), "somebody else sends under your id"),
        (report.ago(0.2), "now"),
        (report.ago(12), "12 s ago"),
        (report.ago(600), "10 min ago"),
        (report.plural(1, "room"), "1 room"),
        (report.plural(0, "room"), "0 rooms"),
    ],
)
def test_sentences(line: str, words: str) -> None:
    assert words in line


def test_a_listing_lines_up_and_says_what_is_plain() -> None:
    rooms: list[dict[str, Any]] = [
        {"name": "kitchen", "address": "239.255.7.1", "port": 5751, "members": 3},
        {"name": "g", "address": "239.255.17.2", "port": 65535, "members": 0, "mode": "plain"},
    ]
    assert report.room_lines(rooms) == [
        "  kitchen  239.255.7.1    5751   3 here",
        "  g        239.255.17.2  65535   0 here  plain",
    ]


def test_who_and_stats() -> None:
    rows = ["  Mel    you", "  Bobby  3 s ago"]
    present = [("Mel", 0.0), ("Bobby", 3.2)]
    assert report.who_lines("lab", present, 0) == ["-- lab: 2 heard, you included --", *rows]
    head = "-- lab: 2 heard, you included, the directory counts 40 --"
    assert report.who_lines("lab", present, 40) == [head, *rows]
    assert report.stats_lines({"sent": 3, "lost": 0, "repairs_sent": 12}) == [
        "  sent          3",
        "  repairs sent  12",
    ]
    assert report.stats_lines({"loss_percent": 255}) == ["  nothing yet"]
    assert report.stats_lines({"loss_percent": 30}) == ["  loss percent  30"]
    assert report.stats_lines({"sent": 0}) == ["  nothing yet"]


def test_a_message_as_json_is_the_contract() -> None:
    line = report.json_message("lab", event(), False, "2026-11-22T12:01:07.412Z")
    assert line == (
        '{"v":1,"type":"message","room":"lab","name":"Mel","text":"Good morning!",'
        '"sender":"9f3c12ab00d1e2f3","seq":7,"at":"2026-11-22T12:01:07.412Z",'
        '"history":false,"verified":false}'
    )


def test_json_says_more_where_there_is_more() -> None:
    late = json.loads(report.json_message("lab", event(mark="late"), True, ""))
    assert late["mark"] == "late" and late["kind"] == "me"
    old = json.loads(report.json_message("lab", event(mark="history"), False, ""))
    assert old["history"] is True and "mark" not in old
    plain = json.loads(
        report.json_message("lab", event(mark="plain", sender=NO_SENDER, seq=NO_SEQ), False, "")
    )
    assert plain["seq"] is None and plain["sender"] == "" and plain["mark"] == "plain"


@pytest.mark.parametrize(
    ("what", "members"),
    [
        (("joined", ANN, "Bob"), {"type": "joined", "name": "Bob"}),
        (("left", ANN, "Bob", "bye"), {"type": "left", "name": "Bob", "why": "bye"}),
        (("renamed", ANN, "A", "B"), {"type": "renamed", "old": "A", "name": "B"}),
        (("lost", ANN, "Bob", 4), {"type": "lost", "count": 4}),
        (("conflict", ANN, "Bob", 9), {"type": "conflict", "seq": 9}),
    ],
)
def test_presence_as_json(what: tuple[Any, ...], members: dict[str, Any]) -> None:
    got = json.loads(report.json_presence("lab", TABLE[what[0]](*what)))
    assert got["v"] == 1 and got["room"] == "lab" and got["sender"] == ANN.hex()
    assert members.items() <= got.items()


@given(st.text())
def test_json_survives_the_round_trip_and_acts_on_no_terminal(text: str) -> None:
    text = text.encode(errors="replace").decode()
    line = report.json_line("x", text=text)
    assert json.loads(line)["text"] == text
    assert display(line) == line and "\n" not in line


def test_columns_are_those_of_the_terminal() -> None:
    rooms: list[dict[str, object]] = [
        {"name": name, "address": "239.255.7.1", "port": 5751, "members": 1}
        for name in ("\u5b9f\u9a13\u5ba4", "lab", "Zoe\u0308")
    ]
    lines = report.room_lines(rooms)
    assert {width(line[: line.index("239.")]) for line in lines} == {10}
    who = report.who_lines("lab", [("\u7f8e", 0.0), ("Bob", 10.0)], 0)[1:]
    assert [width(who[0].partition("you")[0]), width(who[1].partition("10 s")[0])] == [7, 7]
    line = report.message_line("\u7f8e", False, "one\ntwo", "")
    assert line == "\u7f8e: one\n    two"


def test_the_first_line_says_by_which_way() -> None:
    assert (
        report.entered("kitchen", ["bob"], report.goes_back("Ctrl-]"), "eth0, 192.0.2.33")
        == "-- in kitchen (eth0, 192.0.2.33) with bob. Ctrl-] or /leave goes back --"
    )
    assert (
        report.entered("kitchen", [], report.goes_back("Ctrl-]"), "only this machine: no network")
        == "-- in kitchen (only this machine: no network). Ctrl-] or /leave goes back --"
    )
    # The name of an interface may be any bytes.
    assert "\x1b" not in report.entered("kitchen", [], "Ctrl-]", "e\x1b[31mth\udcfc, 192.0.2.33")


def test_what_is_said_of_the_network() -> None:
    then = "what is said now comes when the network is back --"
    assert report.trouble("wlan0 is down") == f"-- cannot send: wlan0 is down; {then}"
    assert report.trouble("", "eth0, 192.0.2.33") == "-- the network is back (eth0, 192.0.2.33) --"
    assert report.trouble("") == "-- the network is back --"
    assert "\x1b" not in report.trouble("\x1b[31m is gone") + report.trouble("", "\x1b[31m")


def test_stats_begin_with_where_the_room_is() -> None:
    where = {"interface": "eth0", "address": "192.0.2.33"}
    assert report.stats_lines({"sent": 1, "lost": 0}, where) == [
        "  interface  eth0",
        "  address    192.0.2.33",
        "  sent       1",
    ]
