"""0.1.0 and what is built now use each other's directories and rooms, in both directions."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from evloop import __version__
from tests.e2e.old_release import Release, unpack_old_release
from tests.e2e.roles import Releases, both_ways, serve, use
from tests.support.pairs import both
from tests.support.processes import (
    Crew,
    Program,
    fresh_room,
    fresh_words,
    no_trace,
)
from tests.support.rpc import Wire

mixes = pytest.mark.parametrize(
    "mix",
    [("old", "new"), ("old", "old", "new"), ("new", "new", "old")],
    ids=["old-new", "old-old-new", "new-new-old"],
)

LOST, TWICE = 20, 5  # of 100 datagrams, at each member


def join(crew: Crew, release: Release, name: str, room: str, *options: str, seed: int) -> Program:
    """Somebody in the room at ADDRESS:PORT, with JSON, on a bad network where `seed` is not 0."""
    words = ("evloop.client", "--name", name, "--json", "chat", room, *options)
    lossy = release.lossy(LOST, TWICE, seed, *words) if seed else release.command(*words)
    return crew.add(Program(lossy))


def objects(program: Program, kind: str) -> list[dict[str, Any]]:
    """The JSON objects of one type that it has printed so far."""
    found = [json.loads(line) for line in program.lines]
    return [it for it in found if it["type"] == kind]


def messages(program: Program) -> list[tuple[str, int, str, str, str]]:
    """(sender, seq, name, text, kind) of each message that it has shown, as shown."""
    return [
        (it["sender"], it["seq"], it["name"], it["text"], it.get("kind", ""))
        for it in objects(program, "message")
    ]


def told_history(program: Program) -> list[str]:
    """The lines that `/history` printed last, without what each says of its own way of hearing."""
    head, _, rest = program.err.rpartition("-- the last ")
    assert head, program.tell()
    lines = rest.partition("-- end of history --")[0].splitlines()
    return [line.removesuffix("  [late]").removesuffix("  [out of place]") for line in lines]


# -- the two programs ------------------------------------------------------------------------------


def test_old_is_old_and_new_is_new(crew: Crew, releases: Releases) -> None:
    """Or all that follows would compare a program with itself."""
    for name, version in (("old", "0.1.0"), ("new", __version__)):
        for module in ("evloop", "evloop.client", "evloop.server"):
            program = crew.finish(crew.add(Program(releases[name].command(module, "--version"))))
            assert (program.status, program.out) == (0, f"evloop {version}\n"), program.tell()
        with Wire(serve(crew, releases[name]).port) as wire:
            assert wire.result("hello")["server"] == f"evloop/{version}"
    assert __version__ != "0.1.0"


def test_without_history_it_skips_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(pytest.skip.Exception, match="no commit 90ae7cb"):
        unpack_old_release(tmp_path / "old", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(pytest.skip.Exception, match="git is not installed"):
        unpack_old_release(tmp_path / "old")
    assert not (tmp_path / "old").exists()


# -- the directory ---------------------------------------------------------------------------------


@both_ways
def test_a_transcript(crew: Crew, releases: Releases, serving: str, using: str) -> None:
    server = serve(crew, releases[serving])
    client = use(
        crew,
        releases[using],
        server,
        typed="connect\nmakeroom lab 239.255.7.1 5751\nmakeroom lab 239.255.7.2 5751\n"
        "makeroom old 239.255.7.3 5751 --mode plain\nmakeroom x\ngetdir\ndeleteroom x\n"
        "deleteroom nope\ngetdir\nbye\n",
    )
    assert client.status == 1  # of the first command that failed
    made, plain, picked, *first, deleted, lab, old = client.lines
    assert made == "made room lab: 239.255.7.1:5751"
    assert plain == "made room old: 239.255.7.3:5751"
    assert picked.startswith("made room x: 239.255.")
    assert [row.split()[0] for row in first] == ["lab", "old", "x"]
    assert deleted == "deleted room x"
    assert lab.split() == ["lab", "239.255.7.1", "5751", "0", "here"]
    assert old.split() == ["old", "239.255.7.3", "5751", "0", "here", "plain"]
    assert client.err.splitlines() == [
        "evloop: makeroom lab: room lab exists already (239.255.7.1:5751)",
        "evloop: deleteroom nope: there is no room nope",
    ]


@both_ways
def test_one_shots(crew: Crew, releases: Releases, serving: str, using: str) -> None:
    server, release = serve(crew, releases[serving]), releases[using]
    made = use(crew, release, server, "makeroom", "lab", "--json")
    again = use(crew, release, server, "makeroom", "LAB", "--json")
    listed = use(crew, release, server, "getdir", "--json")
    deleted = use(crew, release, server, "deleteroom", "lab", "--json")
    gone = use(crew, release, server, "deleteroom", "lab")
    assert [one.status for one in (made, again, listed, deleted, gone)] == [0, 1, 0, 0, 1]
    first, second = json.loads(made.out), json.loads(listed.out)
    for key in ("name", "address", "port", "mode"):
        assert first[key] == second[key], key
    assert (second["name"], second["mode"], second["members"]) == ("lab", "reliable", 0)
    assert json.loads(deleted.out)["name"] == "lab"
    assert "lab exists already" in again.err and "there is no room lab" in gone.err


@both_ways
def test_say_and_tail_of_a_room_that_the_directory_names(
    crew: Crew, releases: Releases, serving: str, using: str
) -> None:
    """The directory and the tail are of one release, who says something is of the other."""
    server = serve(crew, releases[serving])
    use(crew, releases[serving], server, "makeroom", "lab", *fresh_words())
    tail = crew.client(
        "--name", "Bob", "tail", "lab", "--json", server=server, prefix=releases[serving].prefix
    )
    crew.in_room(tail)
    said = use(crew, releases[using], server, "--name", "Mel", "say", "lab", "Good", "morning!")
    assert (said.status, said.out, said.err) == (0, "", "")
    piped = use(
        crew, releases[using], server, "--name", "Mel", "say", "lab", typed="one\n/leave\n//two\n"
    )
    assert (piped.status, piped.out, piped.err) == (0, "", "")
    crew.until(lambda: len(objects(tail, "message")) == 4)
    heard = objects(tail, "message")
    assert [it["text"] for it in heard] == ["Good morning!", "one", "/leave", "//two"]
    assert {(it["name"], it["room"], it["history"]) for it in heard} == {("Mel", "lab", False)}
    tail.signal(signal.SIGTERM)
    assert crew.finish(tail).status == 143


@both_ways
def test_news_and_who_is_in_go_through_the_directory(
    crew: Crew, releases: Releases, serving: str, using: str
) -> None:
    server = serve(crew, releases[serving])
    use(crew, releases[using], server, "makeroom", "lab", *fresh_words())
    mel = crew.client("--name", "Mel", server=server, prefix=releases[using].prefix)
    bob = crew.client("--name", "Bob", server=server, prefix=releases[serving].prefix)
    for one in (mel, bob):
        one.type("connect\nchat lab\n")
    crew.in_room(mel, bob)
    with Wire(server.port) as wire:
        crew.until(lambda: wire.rooms()[0]["members"] == 2, every=0.05)
    use(crew, releases[serving], server, "makeroom", "other")
    use(crew, releases[using], server, "deleteroom", "other")
    crew.until(lambda: all("deleted room other" in one.err for one in (mel, bob)))
    assert all("made room other" in one.err for one in (mel, bob))
    for one in (mel, bob):
        one.end()
        assert crew.finish(one).status == 0
    no_trace(server, mel, bob)


@both_ways
def test_the_server_is_exchanged_for_the_other_under_those_who_chat(
    crew: Crew, releases: Releases, tmp_path: Path, serving: str, using: str
) -> None:
    """An upgrade in place, and the way back: nobody who talks has to do anything."""
    path = str(tmp_path / "directory.db")
    first = serve(crew, releases[serving], "--state", path)
    use(crew, releases[using], first, "makeroom", "lab", *fresh_words())
    mel = crew.chatter("Mel", "lab", server=first, prefix=releases[using].prefix)
    bob = crew.chatter("Bob", "lab", server=first, prefix=releases[serving].prefix)
    crew.in_room(mel, bob)
    first.signal(signal.SIGTERM)
    crew.finish(first)
    crew.until(lambda: all("is away" in one.err for one in (mel, bob)))
    mel.type("still here\n")
    crew.until(lambda: mel.lines == bob.lines == ["Mel: still here"])
    second = serve(crew, releases[using], "--state", path, listen=first.place)
    crew.until(lambda: all("is back" in one.err for one in (mel, bob)))
    with Wire(second.port) as wire:
        crew.until(lambda: wire.rooms()[0]["members"] == 2, every=0.05)
    no_trace(first, second, mel, bob)


# -- a reliable room -------------------------------------------------------------------------------


def introduce(crew: Crew, programs: Sequence[Program]) -> None:
    """Wait until each has seen all the others, and said that it is in."""
    crew.in_room(*programs)
    others = len(programs) - 1
    crew.until(lambda: all(len(objects(one, "joined")) >= others for one in programs))


def same_for_all(crew: Crew, programs: Sequence[Program], wanted: int) -> None:
    """Wait until each has `wanted` messages; then: the same, in order, and nothing twice."""
    crew.until(
        lambda: all(len(messages(one)) >= wanted for one in programs), why=f"{wanted} messages"
    )
    for one in programs:
        one.type("/history 4096\n/stats\n")
    crew.until(lambda: all("  delay us" in one.err for one in programs))
    assert any("  recovered" in one.err for one in programs)
    for one in programs:
        shown = messages(one)
        assert len(shown) == len(set(shown)) == wanted, one.tell()
        assert sorted(shown) == sorted(messages(programs[0])), one.tell()
        assert told_history(one) == told_history(programs[0])
        # What somebody new hears of before his time may come behind what is said now.
        in_time = [it for it in objects(one, "message") if not it.get("history")]
        for sender in {it[0] for it in shown}:
            numbers = [it["seq"] for it in in_time if it["sender"] == sender]
            assert numbers == sorted(numbers), one.tell()
        # No datagram of the other release was unreadable.
        dropped = {line.split()[1] for line in one.err.splitlines() if "  dropped " in line}
        assert dropped <= {"own"}, one.tell()
        assert not objects(one, "lost") and not objects(one, "conflict"), one.tell()


def end(crew: Crew, programs: Sequence[Program]) -> None:
    """All of them leave, on good terms, and say that they were on a bad network."""
    for one in programs:
        one.end()
    for one in programs:
        crew.finish(one)
        assert one.status == 0, one.tell()
        assert "lossy: of " in one.err and " 0 were lost" not in one.err, one.tell()
    no_trace(*programs)


@mixes
def test_a_reliable_room_with_loss(crew: Crew, releases: Releases, mix: tuple[str, ...]) -> None:
    room = fresh_room()
    names = [f"{release.title()}{at}" for at, release in enumerate(mix)]
    members = [
        join(crew, releases[release], name, room, seed=at + 1)
        for at, (release, name) in enumerate(both(mix, names))
    ]
    introduce(crew, members)
    long = "ü ".join(f"{number:05} " for number in range(700))  # 6,300 bytes: seven parts
    for number in range(6):
        for name, one in both(names, members):
            one.type(f"{number} of {name}\n")
    for name, one in both(names, members):
        one.type(f"{long}\n/me waves\n/name Re{name}\nrenamed\n")
    # Somebody new of each release comes while this goes on, and is told what was said before.
    late = [
        join(crew, releases[release], f"Late{release}", room, seed=seed)
        for release, seed in (("old", 11), ("new", 12))
    ]
    crew.in_room(*late)
    late[0].type("hello from the late\n")
    same_for_all(crew, [*members, *late], wanted=9 * len(members) + 1)
    said = messages(members[0])
    for name in names:
        mine = [(who, text, kind) for _, _, who, text, kind in said if who.endswith(name)]
        assert mine == [
            *((name, f"{number} of {name}", "") for number in range(6)),
            (name, long, ""),
            (name, "waves", "me"),
            (f"Re{name}", "renamed", ""),
        ]
    # A repair tells of a message and not of a member, so these may come behind the messages.
    crew.until(lambda: all(len(objects(one, "joined")) >= len(mix) + 1 for one in members))
    crew.until(lambda: all(len(objects(one, "renamed")) >= len(mix) - 1 for one in members))
    for name, one in both(names, members):
        others = {*names, "Lateold", "Latenew"} - {name}
        assert {it["name"].removeprefix("Re") for it in objects(one, "joined")} == others
        renamed = {(it["old"], it["name"]) for it in objects(one, "renamed")}
        assert renamed == {(other, f"Re{other}") for other in names if other != name}
    assert any(it["history"] for it in objects(late[1], "message"))
    # A member leaves when everybody has confirmed what it said, and the others are told.
    end(crew, members)
    crew.until(lambda: objects(late[1], "left"))
    end(crew, late)


@both_ways
def test_what_is_said_is_confirmed_with_loss(
    crew: Crew, releases: Releases, serving: str, using: str
) -> None:
    """Two of one release listen; `say` of the other ends with 0 when both have confirmed."""
    room = fresh_room()
    ears = [join(crew, releases[serving], f"Ear{at}", room, seed=at) for at in (21, 22)]
    introduce(crew, ears)
    words = ("evloop.client", "--name", "Mel", "say", room)
    mouth = crew.add(Program(releases[using].lossy(LOST, TWICE, 23, *words)))
    mouth.type("one\ntwo\nthree\n")
    mouth.end()
    assert crew.finish(mouth).status == 0, mouth.tell()
    for one in ears:  # confirmed, so here already
        assert [it[3] for it in messages(one)] == ["one", "two", "three"]
    no_trace(mouth, *ears)


# -- a plain room ----------------------------------------------------------------------------------

ENDS = 12  # "the end" is said so often that one of them comes through, lost as they may be


def in_a_plain_room(
    crew: Crew, releases: Releases, mix: tuple[str, ...], lost: int
) -> tuple[list[Program], list[list[str]]]:
    """All have talked. Returns the members, and what each of them said as it is shown."""
    room, members, said = fresh_room(), [], []
    long = "x" * 251 + "ü" + "y" * 300
    for at, release in enumerate(mix):
        words = ("evloop.client", "--name", f"P{at}", "chat", room, "--mode", "plain")
        members.append(crew.add(Program(releases[release].lossy(lost, 0, 31 + at, *words))))
    crew.in_room(*members)
    for at, one in enumerate(members):
        one.type("".join(f"{number}\n" for number in range(8)))
        one.type(f"{long}\n/me waves\n/name Q{at}\n" + "the end\n" * ENDS)
        # Cut at 256 bytes with the name, between characters.
        parts = (long[:251], long[251:502], long[502:])
        lines = [*map(str, range(8)), *parts]
        said.append([*(f"P{at}: {line}" for line in lines), f"* P{at} waves"])
    crew.until(
        lambda: all(f"Q{at}: the end" in one.lines for one in members for at in range(len(mix)))
    )
    return members, said


def said_by(at: int, program: Program) -> list[str]:
    """What it has shown of the member with that number, but for the ends."""
    return [line for line in program.lines if line.startswith((f"P{at}: ", f"* P{at} "))]


@mixes
def test_a_plain_room(crew: Crew, releases: Releases, mix: tuple[str, ...]) -> None:
    members, said = in_a_plain_room(crew, releases, mix, lost=0)
    ends = ENDS * len(mix)
    crew.until(lambda: all(one.out.count(": the end\n") == ends for one in members))
    for one in members:
        assert [said_by(at, one) for at in range(len(mix))] == said
        one.end()
        assert crew.finish(one).status == 0
    no_trace(*members)


@mixes
def test_a_plain_room_with_loss(crew: Crew, releases: Releases, mix: tuple[str, ...]) -> None:
    """What is lost is lost; what comes is whole, in order and not twice."""
    members, said = in_a_plain_room(crew, releases, mix, lost=LOST)
    for mine, one in enumerate(members):
        for at, lines in enumerate(said):
            came = said_by(at, one)
            assert came == [line for line in lines if line in came]
            assert came == lines or at != mine
    end(crew, members)


# -- the one command -------------------------------------------------------------------------------


@both_ways
def test_a_directory_that_the_one_command_hosts(
    crew: Crew, releases: Releases, serving: str, using: str
) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{sock.getsockname()[1]}"
    host = crew.client(
        "--name", "Ann", module="evloop", prefix=releases[serving].prefix, server=place
    )
    crew.until(lambda: "this one hosts it" in host.err)
    host.type(f"makeroom lab {' '.join(fresh_words())}\nchat lab\n")
    crew.in_room(host)
    guest = crew.client(
        "--name", "Bob", module="evloop", prefix=releases[using].prefix, server=place
    )
    guest.type("chat lab\n")
    crew.in_room(guest)
    assert "hosts it" not in guest.err
    guest.type("hello\n")
    crew.until(lambda: "Bob: hello" in host.lines)
    host.type("hello yourself\n/quit\n")
    crew.until(lambda: "Ann: hello yourself" in guest.lines and "is away" in guest.err)
    no_trace(host, guest)
