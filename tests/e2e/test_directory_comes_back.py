"""The directory ends while people talk, and comes back: the same, another, or somebody else's."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.e2e.roles import Releases, serve
from tests.support.processes import Crew, Program, Server, fresh_words, no_trace
from tests.support.rpc import Wire

MADE = "made room lab again"


def talking(crew: Crew, server: Server, *names: str) -> list[Program]:
    """These, in room lab of `server`, and each has heard each."""
    people = [crew.chatter(name, "lab", server=server) for name in names]
    crew.in_room(*people)
    for name, one in zip(names, people):
        one.type(f"I am {name}\n")
    crew.until(lambda: all(len(one.lines) == len(names) for one in people))
    return people


def end(crew: Crew, server: Server, *people: Program, how: int = signal.SIGTERM) -> None:
    server.signal(how)
    crew.finish(server)
    crew.until(lambda: all("is away" in one.err for one in people))


def members(wire: Wire, name: str = "lab") -> int:
    """How many the directory counts in a room."""
    return sum(room["members"] for room in wire.rooms() if room["name"] == name)


def place(server: Server, name: str = "lab") -> tuple[str, int]:
    with Wire(server.port) as wire:
        (room,) = [one for one in wire.rooms() if one["name"] == name]
        return room["address"], room["port"]


def still_talk(crew: Crew, *people: Program) -> None:
    """Each says something, and all see it, once."""
    begun = [len(one.lines) for one in people]
    for number, one in enumerate(people):
        one.type(f"still {number}\n")
    crew.until(
        lambda: all(len(one.lines) == before + len(people) for one, before in zip(people, begun))
    )
    for one, before in zip(people, begun):
        said = sorted(line.partition(": ")[2] for line in one.lines[before:])
        assert said == [f"still {number}" for number in range(len(people))]


def test_who_is_carried_is_carried_again_as_soon_as_the_room_is_made_again(crew: Crew) -> None:
    """The directory is asked to carry before anybody has made the room there."""
    first = crew.server("--memory")
    crew.piped("", "makeroom", "lab", *fresh_words(), server=first)
    ann = crew.chatter("Ann", "lab", server=first)
    bob = crew.chatter("Bob", "lab", "--relay", "always", server=first)
    crew.in_room(ann, bob)
    still_talk(crew, ann, bob)
    end(crew, first, ann, bob)
    crew.server("--memory", listen=first.place)
    crew.until(lambda: MADE in ann.err + bob.err)
    still_talk(crew, ann, bob)
    no_trace(ann, bob)


@pytest.mark.parametrize("delete", ["anyone", "owner"])
def test_a_directory_without_a_memory_gets_the_room_again(crew: Crew, delete: str) -> None:
    """Killed and started again while people talk: one room, where it was, and nothing is lost."""
    options = ("--memory", "--delete", delete)
    first = crew.server(*options)
    crew.piped("", "makeroom", "lab", *fresh_words(), server=first)
    before = place(first)
    people = talking(crew, first, "Ann", "Bob", "Cal")
    end(crew, first, *people, how=signal.SIGKILL)
    still_talk(crew, *people)
    second = crew.server(*options, listen=first.place)
    with Wire(second.port) as wire:
        crew.until(lambda: members(wire) == 3, every=0.05)
        assert len(wire.rooms()) == 1
    assert place(second) == before
    assert sum(MADE in one.err for one in people) == 1, "one makes it, the others find it"
    still_talk(crew, *people)
    dan = crew.chatter("Dan", "lab", server=second)
    crew.in_room(dan)
    crew.until(lambda: sorted(dan.lines) == sorted(people[0].lines), why="all that was said")
    still_talk(crew, *people, dan)
    # Whoever made it can delete it: the token is another one now.
    gone = crew.piped("", "deleteroom", "lab", server=second)
    assert gone.status == 0, gone.tell()
    still_talk(crew, *people)
    no_trace(second, dan, *people)


def test_a_kept_room_is_made_again_to_be_kept(crew: Crew, tmp_path: Path) -> None:
    """What was said before is kept by the new directory, too."""
    first = crew.server("--memory", "--keep-file", str(tmp_path / "one.db"))
    crew.piped("", "makeroom", "lab", *fresh_words(), "--keep", server=first)
    (ann,) = talking(crew, first, "Ann")
    end(crew, first, ann, how=signal.SIGKILL)
    keep = ("--keep-file", str(tmp_path / "two.db"))
    second = crew.server("--memory", *keep, listen=first.place)
    crew.until(lambda: MADE in ann.err)
    with Wire(second.port) as wire:
        assert [room["keep"] for room in wire.rooms()] == [True]
    assert "keeps no longer" not in ann.err
    ann.type("still here\n")
    crew.until(lambda: "Ann: still here" in ann.lines)
    ann.type("/quit\n")
    crew.finish(ann)
    bob = crew.chatter("Bob", "lab", server=second)
    crew.until(lambda: bob.lines == ["Ann: I am Ann", "Ann: still here"])
    no_trace(second, ann, bob)


def test_a_room_that_another_person_makes_is_the_same(crew: Crew) -> None:
    """The host has gone with its directory; somebody else hosts one and makes the room by its name.
    That is where those are who stayed."""
    name = f"lab-{os.getpid()}"  # no other test's, so nor is its place

    def evloop(who: str, *words: str, at: str) -> Program:
        return crew.client("--name", who, *words, module="evloop", server=at)

    server = crew.server()  # for a port that is free
    at = server.place
    end(crew, server)
    host = evloop("Ann", "chat", name, at=at)
    crew.in_room(host)
    bob, cal = (evloop(who, "chat", name, at=at) for who in ("Bob", "Cal"))
    crew.in_room(bob, cal)
    bob.type("hello\n")
    crew.until(lambda: "Bob: hello" in host.lines and "Bob: hello" in cal.lines)
    host.signal(signal.SIGKILL)
    crew.finish(host)
    crew.until(lambda: "is away" in bob.err and "is away" in cal.err)
    cal.type("where is Ann?\n")
    crew.until(lambda: "Cal: where is Ann?" in bob.lines)
    dan = evloop("Dan", "chat", name, at=at)
    crew.in_room(dan)
    with Wire(int(at.rpartition(":")[2])) as wire:
        crew.until(lambda: members(wire, name) == 3, every=0.05)
        assert len(wire.rooms()) == 1
    dan.type("I host it now\n")
    crew.until(lambda: all("Dan: I host it now" in one.lines for one in (bob, cal)))
    crew.until(lambda: "Bob: hello" in dan.lines, why="what was said before is told")
    no_trace(bob, cal, dan)


def test_the_talk_moves_where_another_directory_has_the_room(crew: Crew, tmp_path: Path) -> None:
    """One that was made before by others, elsewhere: whoever is there is met."""
    state = ("--state", str(tmp_path / "other.db"))
    other = crew.server(*state)
    address, port = fresh_words()
    crew.piped("", "makeroom", "lab", address, port, server=other)
    end(crew, other)

    first = crew.server()
    crew.piped("", "makeroom", "lab", *fresh_words(), server=first)
    people = talking(crew, first, "Ann", "Bob")
    end(crew, first, *people)
    people[0].type("between\n")
    crew.until(lambda: all("Ann: between" in one.lines for one in people))
    second = crew.server(*state, listen=first.place)
    moved = f"-- lab is now at {address}:{port}; the talk moves there --"
    crew.until(lambda: all(moved in one.err for one in people))
    still_talk(crew, *people)
    cal = crew.chatter("Cal", "lab", server=second)
    crew.in_room(cal)
    crew.until(lambda: sorted(cal.lines) == sorted(people[0].lines), why="all that was said")
    assert "Ann: between" in cal.lines
    still_talk(crew, *people, cal)
    with Wire(second.port) as wire:
        crew.until(lambda: members(wire) == 3, every=0.05)
        assert len(wire.rooms()) == 1
    assert not any(MADE in one.err for one in people)
    no_trace(second, cal, *people)


def test_what_was_deleted_meanwhile_is_told_and_not_made_again(crew: Crew, tmp_path: Path) -> None:
    """The same directory is back, without the room."""
    state = ("--state", str(tmp_path / "directory.db"))
    first = crew.server(*state)
    crew.piped("", "makeroom", "lab", *fresh_words(), server=first)
    address, port = place(first)
    people = talking(crew, first, "Ann", "Bob")
    end(crew, first, *people)
    between = crew.server(*state)  # at another port
    assert crew.piped("", "deleteroom", "lab", server=between).status == 0
    end(crew, between)
    second = crew.server(*state, listen=first.place)
    told = (
        "-- lab was deleted; the talk goes on among who is here, newcomers cannot find it --\n"
        f"-- at the prompt, makeroom lab {address} {port} makes it again --\n"
    )
    crew.until(lambda: all(told in one.err for one in people))
    still_talk(crew, *people)
    with Wire(second.port) as wire:
        assert wire.rooms() == []
    no_trace(second, *people)


def test_of_a_directory_that_does_not_tell_which_it_is_nothing_is_concluded(
    crew: Crew, releases: Releases
) -> None:
    """0.1.0, started again: it may be the same or not."""
    first = serve(crew, releases["old"], "--memory")
    crew.piped("", "makeroom", "lab", *fresh_words(), server=first)
    people = talking(crew, first, "Ann", "Bob")
    end(crew, first, *people)
    second = serve(crew, releases["old"], "--memory", listen=first.place)
    told = "-- no such room in this directory: lab; the talk goes on --"
    crew.until(lambda: all(told in one.err for one in people))
    still_talk(crew, *people)
    with Wire(second.port) as wire:
        assert wire.rooms() == []
    assert not any("deleted" in one.err or MADE in one.err for one in people)
    no_trace(second, *people)
