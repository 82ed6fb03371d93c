"""`python3 -m evloop`, the one command for a first try: it finds a directory, or hosts one."""

from __future__ import annotations

import re
import socket
import sys

from tests.support.processes import (
    Crew,
    Seated,
    fresh_room,
    no_trace,
)
from tests.support.rpc import Wire


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def seat(crew: Crew, name: str, port: int, *options: str) -> Seated:
    """The one command on a terminal; --plain, so that its lines can be read."""
    place = f"127.0.0.1:{port}"
    words = [sys.executable, "-m", "evloop", "--plain", "--name", name, *options]
    program = Seated(words, environ={"EVLOOP_SERVER": place})
    crew.add(program)
    return program


def at_prompt(crew: Crew, *programs: Seated) -> None:
    crew.until(lambda: all(one.out.endswith("evloop> ") for one in programs))


def test_two_terminals_with_one_command_can_chat(crew: Crew) -> None:
    port = free_port()
    ann = seat(crew, "Ann", port)
    at_prompt(crew, ann)
    assert ann.out.count("this one hosts it") == 1
    assert f"python3 -m evloop.client --server 127.0.0.1:{port}" in ann.out
    bob = seat(crew, "Bob", port)
    at_prompt(crew, bob)
    assert "hosts it" not in bob.out
    ann.type("makeroom lab\nchat lab\n")
    crew.until(lambda: "-- in lab" in ann.out)
    bob.type("chat lab\n")
    crew.until(lambda: "-- in lab" in bob.out)
    with Wire(port) as wire:
        crew.until(lambda: wire.rooms()[0]["members"] == 2, every=0.05)
    ann.type("hello\n")
    crew.until(lambda: "Ann: hello" in bob.out)
    bob.type("hello yourself\n")
    crew.until(lambda: "Bob: hello yourself" in ann.out)
    # Who hosts it leaves: the room does not need it.
    cal = crew.chatter("Cal", "lab", server=f"127.0.0.1:{port}")
    crew.in_room(cal)
    ann.type("/quit\n")
    crew.finish(ann)
    assert ann.status == 0
    crew.until(lambda: "is away" in bob.out)
    bob.type("still here\n")
    crew.until(lambda: "Bob: still here" in cal.lines)
    bob.type("/quit\n")
    crew.finish(bob)
    assert bob.status == 0
    no_trace(ann, bob, cal)


def test_started_at_the_same_moment_one_hosts_and_both_find_it(crew: Crew) -> None:
    port = free_port()
    people = [seat(crew, name, port) for name in ("Ann", "Bob", "Cal")]
    at_prompt(crew, *people)
    assert sum("this one hosts it" in one.out for one in people) == 1
    people[0].type("makeroom lab\n")
    crew.until(lambda: all("made room lab" in one.out for one in people))
    no_trace(*people)


def test_an_answering_directory_is_taken(crew: Crew) -> None:
    server = crew.server()
    ann = seat(crew, "Ann", server.port)
    at_prompt(crew, ann)
    assert re.search(r"directory 127\.0\.0\.1:\d+, 0 rooms", ann.out)
    assert "hosts it" not in ann.out
    ann.type("\x04")
    assert crew.finish(ann).status == 0


def test_in_a_pipe(crew: Crew) -> None:
    """A script that uses it: results on stdout, the remark about hosting on stderr."""
    room, port = fresh_room(), free_port()
    address, _, group_port = room.partition(":")
    client = crew.client(server=f"127.0.0.1:{port}", module="evloop")
    client.type(f"connect\nmakeroom lab {address} {group_port}\ngetdir\n")
    client.end()
    crew.finish(client)
    assert client.status == 0, client.tell()
    assert client.lines[0] == f"made room lab: {room}"
    assert client.lines[1].split()[:3] == ["lab", address, group_port]
    assert "hosts it" in client.err.splitlines()[0]


def test_a_directory_elsewhere_that_does_not_answer_is_not_replaced(crew: Crew) -> None:
    client = crew.client("getdir", server="127.1.2.3:1", module="evloop")
    crew.finish(client)
    assert client.status == 69
    assert "hosts it" not in client.err
