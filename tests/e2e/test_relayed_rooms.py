"""Rooms that the directory carries, with real programs on one machine: no socket, no grant, no
relay, and what a person is told."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import pytest

from tests.support.processes import Crew, Program, fresh_place, no_trace


@pytest.fixture
def taken() -> Iterator[tuple[str, int]]:
    """A place whose port a program holds that shares it with nobody."""
    group, port = fresh_place()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as holder:
        holder.bind(("0.0.0.0", port))
        yield group, port


def room_at(crew: Crew, server: str, name: str, place: tuple[str, int], *more: str) -> None:
    made = crew.client("makeroom", name, place[0], str(place[1]), *more, server=server)
    assert crew.finish(made).status == 0, made.tell()


def say(crew: Crew, program: Program, text: str, *others: Program) -> None:
    program.type(text + "\n")
    crew.until(lambda: all(text in one.out for one in others), why=text)


def test_where_no_socket_can_be_had_the_directory_carries_the_room(
    crew: Crew, taken: tuple[str, int]
) -> None:
    place = crew.server().place
    room_at(crew, place, "lab", taken)
    ann = crew.chatter("Ann", "lab", "--json", server=place)
    bob = crew.chatter("Bob", "lab", server=place)
    crew.in_room(ann, bob)
    say(crew, bob, "by no group", ann)
    told = [json.loads(line) for line in ann.lines]
    assert {"v": 1, "type": "road", "room": "lab", "road": "alone", "senders": []} in told
    assert "no multicast on this machine: the directory carries this room" in bob.err
    done = crew.finish(crew.client("say", "lab", "and one word more", server=place))
    assert done.status == 0, done.tell()
    crew.until(lambda: "and one word more" in bob.out)
    tail = crew.client("tail", "-n", "2", "lab", server=place)
    crew.until(lambda: "by no group" in tail.out and "and one word more" in tail.out)
    ann.type("/stats\n")
    crew.until(lambda: "relayed in" in ann.err)
    assert "the directory" in ann.err.partition("interface")[2].splitlines()[0]
    no_trace(ann, bob, tail)


def test_never_is_as_before(crew: Crew, taken: tuple[str, int]) -> None:
    place = crew.server().place
    room_at(crew, place, "lab", taken)
    ann = crew.finish(crew.chatter("Ann", "lab", server=place, EVLOOP_RELAY="never"))
    assert ann.status == 1 and "another program holds port" in ann.err


def test_a_directory_that_carries_no_more_is_told_once(crew: Crew) -> None:
    place = crew.server("--relay-members", "1").place
    room_at(crew, place, "lab", fresh_place())
    ann = crew.chatter("Ann", "lab", "--relay", "always", server=place)
    crew.in_room(ann)
    bob = crew.chatter("Bob", "lab", server=place)
    crew.in_room(bob)
    crew.until(lambda: "the directory carries no more members: multicast only" in bob.err)
    say(crew, bob, "by the group, and the directory is there too", ann)
    assert bob.err.count("carries no more members") == 1
    no_trace(ann, bob)


def test_always_needs_a_directory_that_carries(crew: Crew) -> None:
    place = crew.server("--relay", "off").place
    room_at(crew, place, "lab", fresh_place())
    ann = crew.finish(crew.chatter("Ann", "lab", "--relay", "always", server=place))
    assert ann.status == 1 and "carries no rooms; leave out --relay always" in ann.err
    group, port = fresh_place()
    bob = crew.finish(crew.chatter("Bob", f"{group}:{port}", "--relay", "always", server=place))
    assert bob.status == 1 and "has no directory to carry it" in bob.err
    cy = crew.finish(crew.chatter("Cy", "lab", server=place, EVLOOP_RELAY="sometimes"))
    assert cy.status == 2 and "--relay takes auto, always or never" in cy.err


def test_doctor_says_which_road_a_room_takes(crew: Crew) -> None:
    place = crew.server().place
    room_at(crew, place, "lab", fresh_place())
    for words, sentence in (
        (("--relay", "always"), "rooms go by the directory: --relay always"),
        (("--relay", "never"), "rooms go by multicast: the directory would carry them"),
    ):
        done = crew.finish(crew.client(*words, "--json", "doctor", "lab", server=place))
        found = [json.loads(line) for line in done.lines]
        told = [one["what"] for one in found if one.get("id") == "road"]
        assert len(told) == 1 and told[0].startswith(sentence)
