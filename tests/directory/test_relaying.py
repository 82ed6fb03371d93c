"""The client's side of the relay: datagrams over the connection to the directory."""

from __future__ import annotations

from typing import Any

import pytest

from evloop.base.errors import RemoteProtocolError
from evloop.directory.client import READY, WAITING
from evloop.directory.limits import RELAY_UNSENT_BYTES_MAX
from evloop.directory.relay_frames import member_frame, room_frame
from evloop.directory.relaying import Relaying

ME, BOB = bytes(range(8)), b"bob....."


class Wire:
    def __init__(self) -> None:
        self.queued = 0
        self.sent: list[bytes] = []

    def send(self, frames: bytes) -> None:
        self.sent.append(frames)


class Link:
    """A connection to a directory, as far as a carried room needs one."""

    def __init__(self) -> None:
        self.state = READY
        self.wire: Any = Wire()
        self.on_datagrams: Any = None
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.done: list[Any] = []

    def request(self, method: str, params: dict[str, Any], done: Any) -> None:
        self.asked.append((method, params))
        self.done.append(done)


class Room:
    def __init__(self, link: Any) -> None:
        self.relaying = Relaying(link)
        self.answers: list[Any] = []
        self.came: list[bytes] = []
        self.relaying.take = self.came.append

    def enter(self, wish: str = "full") -> None:
        self.relaying.enter("lab", ME, wish, lambda *answer: self.answers.append(answer))


def entered(handle: int, **more: Any) -> dict[str, Any]:
    room = {"name": "lab", "address": "239.255.7.1", "port": 5751, "mode": "reliable"}
    told: dict[str, Any] = {
        "relay": "full",
        "heard": None,
        "multicast": True,
        "leg": None,
        "bound": [],
    }
    return {"room": {**room, "members": 3, "made": 1}, "handle": handle, **told, **more}


@pytest.fixture
def link() -> Link:
    return Link()


def test_entering_tells_the_wish_and_gives_the_handle(link: Link) -> None:
    room = Room(link)
    room.enter()
    assert link.asked == [("enter", {"name": "lab", "sender": ME.hex(), "relay": "full"})]
    assert not room.relaying.known and not room.relaying.up(b"x", None)
    link.done[0](entered(7, heard=12), None)
    told, members = room.answers[0]
    assert (told.granted, told.heard, members) == ("full", 12, 3)
    assert room.relaying.known


def test_datagrams_go_up_as_frames_to_all_or_to_one(link: Link) -> None:
    room = Room(link)
    room.enter()
    link.done[0](entered(7), None)
    assert room.relaying.up(b"to all", None) and room.relaying.up(b"to Bob", BOB)
    assert link.wire.sent == [room_frame(7, b"to all"), member_frame(7, BOB, b"to Bob")]


def test_while_too_much_waits_nothing_goes_up(link: Link) -> None:
    room = Room(link)
    room.enter()
    link.done[0](entered(7), None)
    link.wire.queued = RELAY_UNSENT_BYTES_MAX + 1
    assert not room.relaying.up(b"x", None)
    link.wire.queued = RELAY_UNSENT_BYTES_MAX
    assert room.relaying.up(b"x", None)
    assert len(link.wire.sent) == 1


def test_what_comes_goes_to_the_room_of_its_handle(link: Link) -> None:
    one, other = Room(link), Room(link)
    one.enter()
    other.enter()
    link.done[0](entered(7), None)
    link.done[1](entered(8), None)
    for handle, datagram in ((7, b"a"), (8, b"b"), (9, b"of nobody"), (7, b"c")):
        link.on_datagrams(room_frame(handle, datagram)[4:])
    link.on_datagrams(b"\xf5")
    link.on_datagrams(b"\xf5\x99\0\0\0\x07x")
    assert (one.came, other.came) == ([b"a", b"c"], [b"b"])
    assert link.on_datagrams.dropped == 3


def test_after_a_refusal_or_another_connection_the_room_is_not_known(link: Link) -> None:
    room = Room(link)
    room.enter()
    link.done[0](entered(7), None)
    room.enter()
    link.done[1](None, RemoteProtocolError("no such room"))
    assert room.answers[-1] == (None, 0) and not room.relaying.known
    room.enter()
    link.done[2](entered(9), None)
    link.on_datagrams(room_frame(7, b"late")[4:])
    link.on_datagrams(room_frame(9, b"now")[4:])
    assert room.came == [b"now"]
    link.state = WAITING
    assert not room.relaying.known
    room.relaying.forget()
    link.state = READY
    assert not room.relaying.known


def test_an_answer_that_makes_no_sense_is_one_of_no_directory(link: Link) -> None:
    room = Room(link)
    room.enter()
    with pytest.raises(RemoteProtocolError):
        link.done[0](entered(-1), None)
    assert room.answers == [] and not room.relaying.known
