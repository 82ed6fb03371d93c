"""A listener in Perl, written from docs/room-protocol.md alone, beside real members of a room.

It must print what was said, each sender in order and nothing twice, and ask for what it misses.
"""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
from functools import cache
from pathlib import Path

import pytest

from evloop.base.errors import UNCONFIRMED
from evloop.room.events import TEXT
from evloop.room.reliable.packets import DATA, Codec, data_body
from tests.support.processes import Crew, Program, fresh_place, no_trace

LISTENER = Path(__file__).parent / "room_listener.pl"
MODULES = "Encode", "Socket", "Time::HiRes"


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, check=False, capture_output=True, text=True)


@cache
def missing() -> str:
    """What of Perl is not on this machine; "" when all is."""
    if not shutil.which("perl"):
        return "perl"
    for module in MODULES:
        if run("perl", f"-M{module}", "-e", "1").returncode:
            return f"perl with {module}"
    wide = "'8'" in run("perl", "-V:ivsize").stdout
    return "" if wide else "perl with integers of 64 bits"


pytestmark = pytest.mark.skipif(bool(missing()), reason=f"needs {missing()}")


class Place:
    """A room, its real members and its listeners."""

    def __init__(self, crew: Crew) -> None:
        self.crew = crew
        self.address, self.port = fresh_place()

    def member(self, name: str) -> Program:
        return self.crew.chatter(name, f"{self.address}:{self.port}")

    def two(self) -> tuple[Program, Program]:
        """Ann and Bob, who know each other."""
        ann, bob = self.member("Ann"), self.member("Bob")
        self.crew.in_room(ann, bob)
        self.crew.until(lambda: "Bob" in ann.err and "Ann" in bob.err)
        return ann, bob

    def listener(self, *options: str) -> Program:
        """One that hears already."""
        words = ["perl", str(LISTENER), self.address, str(self.port), "127.0.0.1", *options]
        listener = self.crew.add(Program(words))
        self.crew.until(lambda: listener.lines[:1] == ["-- listening --"] or listener.done)
        return listener


@pytest.fixture
def place(crew: Crew) -> Place:
    return Place(crew)


def said(listener: Program, name: str) -> list[str]:
    """The texts of one speaker, as the listener printed them."""
    lines = listener.lines
    return [line.removeprefix(f"{name}: ") for line in lines if line.startswith(f"{name}: ")]


def ended(crew: Crew, listener: Program) -> dict[str, int]:
    """End it; its counters."""
    listener.end()
    crew.finish(listener)
    assert listener.status == 0 and not listener.err, listener.tell()
    return {word: int(count) for word, count in re.findall(r"(\w+)=(\d+)", listener.lines[-1])}


def talk(crew: Crew, speakers: dict[str, Program], turns: int) -> dict[str, list[str]]:
    """Each says so many lines; what each of them said."""
    lines = {name: [f"line {n} of {name}" for n in range(turns)] for name in speakers}
    for name, speaker in speakers.items():
        speaker.type("".join(line + "\n" for line in lines[name]))
    return lines


def test_it_prints_what_is_said_once_and_in_order(crew: Crew, place: Place) -> None:
    listener = place.listener()
    ann, bob = place.two()
    lines = talk(crew, {"Ann": ann, "Bob": bob}, 20)
    crew.until(lambda: all(len(said(listener, name)) >= 20 for name in lines))
    assert {name: said(listener, name) for name in lines} == lines
    counts = ended(crew, listener)
    # With no loss known in the room its members send copies, which the listener must drop.
    assert counts["shown"] == 40 and counts["duplicates"] > 0
    assert counts["lost"] == counts["dropped"] == counts["nacks"] == 0
    no_trace(ann, bob)


def test_it_joins_parts_and_shows_actions_and_other_scripts(crew: Crew, place: Place) -> None:
    listener = place.listener()
    ann, _ = place.two()
    long = "Grüße 😀 " * 500  # 7,000 bytes: eight parts, cut between characters
    long = long.encode()[:6_900].decode(errors="ignore").rstrip() + "."
    ann.type(long + "\n/me waves\nšest \u0662\n")
    crew.until(lambda: len(listener.lines) == 4)
    assert listener.lines[1:] == [f"Ann: {long}", "* Ann waves", "Ann: šest \u0662"]


def test_it_asks_for_what_it_misses_and_gets_it(crew: Crew, place: Place) -> None:
    """Every third message of each sender never reaches it, but by a repair; the last one too."""
    listener = place.listener("--lose", "3")
    ann, bob = place.two()
    lines = talk(crew, {"Ann": ann, "Bob": bob}, 11)
    crew.until(lambda: all(len(said(listener, name)) >= 11 for name in lines))
    assert {name: said(listener, name) for name in lines} == lines
    counts = ended(crew, listener)
    assert counts["repaired"] == 8 and counts["lost"] == counts["late"] == 0
    assert 1 <= counts["nacks"] <= 16


def test_a_late_one_gets_the_history(crew: Crew, place: Place) -> None:
    ann, bob = place.two()
    lines = talk(crew, {"Ann": ann, "Bob": bob}, 25)
    crew.until(lambda: ann.lines[-1:] and len(ann.lines) == len(bob.lines) == 50)
    listener = place.listener("--history", "--name", "Pearl")
    crew.until(lambda: all(len(said(listener, name)) >= 25 for name in lines))
    old = {name: [f"{line}  [history]" for line in texts] for name, texts in lines.items()}
    assert {name: said(listener, name) for name in lines} == old
    ann.type("and now\n")
    crew.until(lambda: said(listener, "Ann")[25:] == ["and now"])
    counts = ended(crew, listener)
    assert counts["repaired"] >= 50 and counts["lost"] == 0


def test_as_a_member_it_confirms_is_listed_and_leaves(crew: Crew, place: Place) -> None:
    listener = place.listener("--name", "Pearl")
    room = f"{place.address}:{place.port}"
    mel = crew.finish(crew.client("--name", "Mel", "say", room, "did you get this?"))
    assert (mel.status, mel.err) == (0, "")  # nobody else is there who could have confirmed it
    assert said(listener, "Mel") == ["did you get this?"]
    ann = place.member("Ann")
    crew.in_room(ann)
    crew.until(lambda: "Pearl" in ann.err)
    ended(crew, listener)
    crew.until(lambda: "Pearl left" in ann.err)
    no_trace(mel, ann)


def test_who_only_asks_is_no_member(crew: Crew, place: Place) -> None:
    listener = place.listener()
    room = f"{place.address}:{place.port}"
    mel = crew.finish(crew.client("--name", "Mel", "say", room, "is anybody there?"))
    assert mel.status == UNCONFIRMED and "nobody is there" in mel.err
    assert said(listener, "Mel") == ["is anybody there?"]


def test_a_wrong_tag_and_junk_are_dropped_and_plain_text_is_told_apart(
    crew: Crew, place: Place
) -> None:
    listener = place.listener()
    body = data_body(1, (), b"Eve", TEXT, b"is the tag right?")
    group = place.address, place.port
    good, elsewhere = (
        Codec(f"{address}:{place.port}").pack(DATA, 0, b"stranger", 0, 0, body)
        for address in (place.address, "239.255.255.1")
    )
    flipped = good[:40] + bytes([good[40] ^ 1]) + good[41:]
    junk = elsewhere, flipped, good[:39], good[:3], 63 * b"\xf5", b"a\x1b[31mb", b""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        own = socket.inet_aton("127.0.0.1")
        sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, own)
        for datagram in (*junk, good, b"Eve: hello"):
            sender.sendto(datagram, group)
    crew.until(lambda: len(listener.lines) == 3)
    assert listener.lines[1:] == ["Eve: is the tag right?", "? Eve: hello"]
    assert ended(crew, listener)["dropped"] == len(junk)
