"""Log lines: their form, what a peer cannot do to them, and how repeats are held back."""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evloop.base.addresses import prefix_of
from evloop.system.limits import (
    LOG_EVENT_REPEATS_MAX,
    LOG_KINDS_MAX,
    LOG_REPEATS_MAX,
    LOG_VALUE_CHARS_MAX,
    LOG_WINDOW_S,
)
from evloop.system.log import (
    DEBUG,
    INFO,
    WARNING,
    Log,
    goes_to_journal,
    iso_utc,
)


class Desk:
    """A log with clocks in hand; `lines` is what it wrote."""

    def __init__(self, level: int = INFO, journal: bool = True) -> None:
        self.lines: list[str] = []
        self.now = 100.0
        self.wall = 1795348867.412
        self.timers: list[tuple[float, Callable[[], None]]] = []
        self.log = Log(
            self.lines.append,
            level=level,
            journal=journal,
            wall=lambda: self.wall,
            clock=lambda: self.now,
        )
        self.log.schedule = lambda when, fn: self.timers.append((when, fn))

    def run_timers(self, until: float) -> None:
        while self.timers and self.timers[0][0] <= until:
            when, fn = self.timers.pop(0)
            self.now = when
            fn()
        self.now = until


def test_a_line_for_people_has_time_and_word() -> None:
    desk = Desk(journal=False)
    desk.log.warning("closed", peer="192.0.2.7:50112", why="frame too large")
    assert desk.lines == [
        '2026-11-22T12:01:07.412Z warning closed peer=192.0.2.7:50112 why="frame too large"'
    ]


def test_a_line_for_the_journal_has_only_its_priority() -> None:
    desk = Desk(level=DEBUG)
    for call in (desk.log.error, desk.log.warning, desk.log.notice, desk.log.info, desk.log.debug):
        call("it", n=1)
    assert desk.lines == [f"<{n}>it n=1" for n in (3, 4, 5, 6, 7)]


@pytest.mark.parametrize(("level", "heard"), [(WARNING, 2), (INFO, 4), (DEBUG, 5)])
def test_what_is_less_severe_than_the_level_is_not_written(level: int, heard: int) -> None:
    desk = Desk(level=level)
    for call in (desk.log.error, desk.log.warning, desk.log.notice, desk.log.info, desk.log.debug):
        call("it")
    assert len(desk.lines) == heard
    assert desk.log.debugging == (level == DEBUG)


def test_values_are_quoted_only_where_they_must_be() -> None:
    desk = Desk()
    desk.log.info("x", a="", b="a b", c='say "hi"', d="a=b", e="back\\slash", f=1.25, g=None, h=7)
    assert desk.lines == [
        r'<6>x a="" b="a b" c="say \"hi\"" d="a=b" e="back\\slash" f=1.25 h=7',
    ]


@given(st.text(max_size=400))
def test_no_text_of_a_peer_breaks_or_forges_a_line(text: str) -> None:
    desk = Desk()
    desk.log.info("x", name=text, end=1)
    (line,) = desk.lines
    assert len(line.splitlines()) == 1
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", line)
    quoted = re.fullmatch(r'<6>x name=(?:[^ "=\\]+|"(?:[^"\\]|\\["\\])*") end=1', line)
    assert quoted, line
    assert len(line) < 2 * LOG_VALUE_CHARS_MAX + 40


def test_repeats_of_one_visitor_are_told_in_one_line() -> None:
    desk = Desk()
    for port in range(1, 818):
        desk.log.info("junk", peer=f"192.0.2.7:{port}")
    assert len(desk.lines) == LOG_REPEATS_MAX
    assert len(desk.timers) == 1, "one timer, however much is held back"
    desk.run_timers(desk.now + LOG_WINDOW_S)
    assert desk.lines[-1] == "<6>junk ... 812 more peer=192.0.2.7"
    assert len(desk.lines) == LOG_REPEATS_MAX + 1
    desk.log.info("junk", peer="192.0.2.7:9")
    assert desk.lines[-1] == "<6>junk peer=192.0.2.7:9", "a new window begins"


def test_a_quiet_log_wants_no_timer() -> None:
    desk = Desk()
    for n in range(LOG_REPEATS_MAX):
        desk.log.info("junk", peer=f"192.0.2.7:{n}")
    assert desk.timers == []


def test_one_noisy_visitor_does_not_silence_another() -> None:
    desk = Desk()
    for n in range(10_000):
        desk.log.info("junk", peer=f"[2001:db8::{n % 100 + 1:x}]:{n}")
    desk.log.info("junk", peer="192.0.2.8:5")
    assert desk.lines[-1] == "<6>junk peer=192.0.2.8:5"


def test_many_visitors_share_the_events_own_limit() -> None:
    desk = Desk()
    for n in range(3 * LOG_KINDS_MAX):
        desk.log.info("junk", peer=f"10.0.{n >> 8}.{n & 255}:1")
    assert len(desk.lines) == LOG_EVENT_REPEATS_MAX
    assert len(desk.log.windows) <= LOG_KINDS_MAX + 1
    desk.run_timers(desk.now + LOG_WINDOW_S)
    held = 3 * LOG_KINDS_MAX - LOG_EVENT_REPEATS_MAX
    assert desk.lines[-1] == f"<6>junk ... {held} more"
    assert desk.log.windows == {}


def test_windows_that_begin_later_are_told_later() -> None:
    desk = Desk()
    for kind, start in (("a", 100.0), ("b", 104.0)):
        desk.now = start
        for n in range(LOG_REPEATS_MAX + 2):
            desk.log.info(kind, peer=f"192.0.2.7:{n}")
    before = len(desk.lines)
    desk.run_timers(100.0 + LOG_WINDOW_S)
    assert desk.lines[before:] == ["<6>a ... 2 more peer=192.0.2.7"]
    desk.run_timers(104.0 + LOG_WINDOW_S)
    assert desk.lines[before + 1 :] == ["<6>b ... 2 more peer=192.0.2.7"]
    assert desk.timers == []


def test_close_tells_what_is_still_held_back() -> None:
    desk = Desk()
    for _ in range(LOG_EVENT_REPEATS_MAX + 3):
        desk.log.info("tick")
    desk.log.close()
    assert desk.lines[-1] == "<6>tick ... 3 more"


def test_time_is_iso_8601_in_utc() -> None:
    assert iso_utc(0.0) == "1970-01-01T00:00:00.000Z"
    assert iso_utc(1795348799.9996) == "2026-11-22T12:00:00.000Z"
    assert iso_utc(1e30).startswith("@")


def test_the_journal_is_known_by_device_and_inode() -> None:
    reading, writing = os.pipe()
    try:
        status = os.fstat(writing)
        good = f"{status.st_dev}:{status.st_ino}"
        assert goes_to_journal({"JOURNAL_STREAM": good}, writing)
        for other in ("", "1:2", good + "0", "x:y", good.replace(":", ""), "²:3"):
            assert not goes_to_journal({"JOURNAL_STREAM": other}, writing)
        assert not goes_to_journal({}, writing)
    finally:
        os.close(reading)
        os.close(writing)
    assert not goes_to_journal({"JOURNAL_STREAM": good}, writing), "a closed descriptor"


def test_prefix_of_knows_the_forms_of_an_address() -> None:
    assert prefix_of("192.0.2.1") == "192.0.2.1"
    assert prefix_of("::ffff:192.0.2.1") == "192.0.2.1"
    assert prefix_of("2001:db8:0:7::1") == "2001:db8:0:7::/64"
    assert prefix_of("fe80::1%eth0") == "fe80::/64"
    assert prefix_of("::1") == "::/64"
    assert prefix_of("") == ""


@given(st.ip_addresses(v=6), st.ip_addresses(v=6))
def test_prefix_of_is_the_first_64_bits(one: object, two: object) -> None:
    assert isinstance(one, ipaddress.IPv6Address) and isinstance(two, ipaddress.IPv6Address)
    shown = socket.inet_ntop(socket.AF_INET6, one.packed)
    if one.ipv4_mapped:
        assert prefix_of(shown) == str(one.ipv4_mapped)
        return
    network = ipaddress.ip_network(prefix_of(shown))
    assert network == ipaddress.ip_network((one.packed[:8] + bytes(8), 64))
    neighbour = ipaddress.IPv6Address(one.packed[:8] + two.packed[8:])
    if not neighbour.ipv4_mapped:
        other = socket.inet_ntop(socket.AF_INET6, neighbour.packed)
        assert prefix_of(other) == prefix_of(shown)
