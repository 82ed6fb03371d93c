"""Two IRC clients at the door of one host, evloop's own client on another, and loss between them.

The door is a socket file, so that these tests reach it in its namespace. The directory carries no
room: all goes by multicast, of which one side loses three datagrams of ten.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.irc.live import Visitor
from tests.lab.network import Flat, flat, missing
from tests.lab.talk import Person
from tests.support.processes import Crew, Program, no_trace

pytestmark = [
    pytest.mark.skipif(bool(missing()), reason=missing() or "the lab is here"),
    pytest.mark.slow,
]

LOSS = 30  # percent
SETTLE_S = 60.0
ROOM = "日本"
CHANNEL = f"#{ROOM}"


@pytest.fixture
def lab() -> Iterator[Flat]:
    with flat(2) as made:
        yield made


@pytest.fixture
def visitors() -> Iterator[list[Visitor]]:
    made: list[Visitor] = []
    yield made
    for one in made:
        one.close()


class Ircer:
    """An IRC client; `said` is what it was shown by PRIVMSG: (nick, text)."""

    def __init__(self, crew: Crew, visitor: Visitor, nick: str, *caps: str) -> None:
        self.crew = crew
        self.visitor = visitor
        self.said: list[tuple[str, str]] = []
        self._lines: list[str] = []
        if caps:
            self.say(f"CAP REQ :{' '.join(caps)}")
        self.say(f"NICK {nick}", f"USER {nick.lower()} 0 * :{nick}", "CAP END")
        self.wait_for(" 376 ")

    def say(self, *lines: str) -> None:
        self.visitor.say(*lines)

    def wait_for(self, *parts: str, seconds: float = SETTLE_S) -> str:
        """The next line with all `parts` in it; those up to it are taken."""
        why = f"{parts} at an IRC client"
        return str(self.crew.until(lambda: self._next(parts), seconds, why, every=0.05))

    def _next(self, parts: tuple[str, ...]) -> str:
        while self.visitor.read(0.001):
            pass
        for line in self.visitor.lines:
            source, _, rest = line.rpartition(f" PRIVMSG {CHANNEL} :")
            if source:
                nick = source.rpartition(":")[2].partition("!")[0]
                self.said.append((nick, rest))
        self._lines += self.visitor.lines
        self.visitor.lines = []
        for at, line in enumerate(self._lines):
            if all(part in line for part in parts):
                del self._lines[: at + 1]
                return line
        return ""

    def texts(self, nick: str) -> list[str]:
        self._next(("\0",))
        return [text for who, text in self.said if who == nick]


@pytest.mark.parametrize("loses", [0, 1], ids=["the door", "evloop's client"])
def test_the_same_lines_both_ways(
    lab: Flat, crew: Crew, visitors: list[Visitor], tmp_path: Path, loses: int
) -> None:
    here, there = lab.hosts
    server = crew.start_server(
        "--relay", "off", "--no-announce", listen=f"{lab.address(1)}:44444", prefix=here.prefix
    )
    crew.until(lambda: server.listens)
    lab.hosts[loses].lose(LOSS)
    place, path = f"{lab.address(1)}:44444", tmp_path / "irc"
    door = crew.client(
        *("irc", str(path)), server=place, prefix=here.prefix, EVLOOP_INTERFACE="eth0"
    )
    crew.until(lambda: "IRC clients: " in door.err)
    visitors += [Visitor(str(path)), Visitor(str(path))]
    ann = Ircer(crew, visitors[0], "Änn", "echo-message")
    ann.say(f"JOIN {CHANNEL}")
    ann.wait_for(" 366 ")
    caps = ("batch", "server-time", "message-tags", "draft/chathistory")
    bob = Ircer(crew, visitors[1], "Bob", "echo-message", *caps)
    bob.say(f"JOIN {CHANNEL}")
    bob.wait_for(" 366 ")
    mel = Person(crew, there, "Bob", room=ROOM, server=place)  # a namesake of the one on the door
    crew.in_room(mel.program)
    namesake = ann.wait_for(f" JOIN {CHANNEL}", ":Bob~").partition("!")[0][1:]

    ours = [f"Änn {number} 🎉" for number in range(25)]
    ann.say(*[f"PRIVMSG {CHANNEL} :{text}" for text in ours])
    theirs = [f"theirs {number}" for number in range(25)]
    for text in theirs:
        mel.say(text)
    long = " ".join([f"word{number}" for number in range(400)])[:3_000]
    mel.say(long)
    mel.say("/me waves")
    bob.say(f"PRIVMSG {CHANNEL} :\x01ACTION bows\x01")
    for ircer in (ann, bob):
        ircer.wait_for("ACTION waves")
        assert ircer.texts(namesake)[:25] == theirs
        *parts, last = ircer.texts(namesake)[25:]
        assert " ".join(parts) == long and last == "\x01ACTION waves\x01"
    crew.until(lambda: len([it for it in mel.lines() if it.name != "Bob"]) >= 25, SETTLE_S)
    assert [it.text for it in mel.lines() if it.name == "Änn"] == ours
    crew.until(lambda: "bows" in mel.texts(), SETTLE_S)
    assert bob.texts("Änn") == ours
    assert sorted(mel.texts()) == sorted([*ours, *theirs, long, "waves", "bows"])
    _the_other_words(crew, ann, bob, mel, namesake)
    assert lab.hosts[loses].lost() > 10
    _all_end_well(server, door, mel.program)


def parted(ann: Ircer) -> None:
    """Robert has gone: of its goodbye three are sent; when all are lost (3 % of the time), silence
    tells it."""
    line = ann.wait_for(f":Robert!bob@evloop PART {CHANNEL} :")
    assert line.endswith((" :left", " :not heard any more")), line


def _the_other_words(crew: Crew, ann: Ircer, bob: Ircer, mel: Person, namesake: str) -> None:
    """/list, /names, /whois, /nick, /part and coming back with the history, /quit."""
    ann.say("LIST", f"NAMES {CHANNEL}", f"WHOIS {namesake}")
    assert f" 322 Änn {CHANNEL} 3 :239." in ann.wait_for(" 322 ")
    assert set(ann.wait_for(" 353 ").rpartition(":")[2].split()) == {"Änn", "Bob", namesake}
    assert ann.wait_for(" 311 ").endswith(" * :Bob")
    bob.say("NICK Robert")
    ann.wait_for(":Bob!bob@evloop NICK :Robert")
    crew.until(lambda: mel.objects("renamed"), SETTLE_S)
    mel.say("/name Mel")
    ann.wait_for(" NICK :Mel")
    bob.say(f"PART {CHANNEL}")
    parted(ann)
    mel.say("said meanwhile")
    ann.wait_for("said meanwhile")
    before = len(bob.said)
    bob.say(f"JOIN {CHANNEL}", f"CHATHISTORY LATEST {CHANNEL} * 100")
    bob.wait_for(" BATCH -")
    told, heard = ([text for _, text in said] for said in (bob.said[before:], ann.said))
    # The long one is cut elsewhere, for the nick before it is shorter now. What comes while one
    # enters may come as live, too, with the same msgid.
    assert _words(told) == _words(heard)
    assert {text for text in told if "word" not in text} == {
        text for text in heard if "word" not in text
    }
    bob.say("QUIT")
    parted(ann)
    crew.until(lambda: [it for it in mel.objects("left") if it["name"] == "Robert"], SETTLE_S)


def _words(texts: list[str]) -> str:
    """The long message, put together again."""
    return " ".join([text for text in texts if "word" in text])


def _all_end_well(server: Program, door: Program, *clients: Program) -> None:
    assert door.status is None and all(client.status is None for client in clients)
    no_trace(server, door, *clients)
