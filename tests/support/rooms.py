"""Sessions by hand: a room of one under test, and datagrams of members that are only bytes."""

from __future__ import annotations

from random import Random
from typing import Any

from evloop.room.reliable.packets import (
    BYE,
    DATA,
    NACK,
    NOBODY,
    SESSION,
    Codec,
    as_repair,
    data_body,
    nack_body,
    ranges,
    session_body,
)
from evloop.room.reliable.session import RoomSession
from evloop.room.reliable.vector import digest_item

PLACE = "239.255.7.1:5751"
CODEC = Codec(PLACE)
ME, ANN, BOB, EVE = (bytes([n]) * 8 for n in (1, 0xA, 0xB, 0xE))

SETTLED = 6.0  # seconds after which nobody is a newcomer any more

Key = tuple[bytes, int]
Range = tuple[bytes, int, int]


def data(
    sender: bytes,
    seq: int,
    text: str = "",
    *,
    parents: tuple[Key, ...] = (),
    lamport: int = 0,
    flags: int = 0,
    name: str = "Ann",
    kind: int = 0,
) -> bytes:
    """A DATA; its text tells its number unless given."""
    body = data_body(
        lamport or min(seq + 1, 2**32 - 1),
        parents,
        name.encode(),
        kind,
        (text or f"line {seq}").encode(),
    )
    return CODEC.pack(DATA, flags, sender, seq, 1_800_000_000, body)


def repair(sender: bytes, seq: int, text: str = "", **how: Any) -> bytes:
    """The same as anybody's repair."""
    return as_repair(data(sender, seq, text, **how))


def session(
    sender: bytes,
    counter: int,
    listed: list[Range],
    *,
    digest: int | None = None,
    ask: int = 0,
    loss: int = 255,
    members: int = 2,
    name: str = "Ann",
    echo: tuple[bytes, int, int] = (NOBODY, 0, 0),
    sent: int = 0,
) -> bytes:
    """A SESSION whose digest is that of its list, unless given."""
    if digest is None:
        digest = 0
        for origin, _, hi in listed:
            digest ^= digest_item(origin, hi) if hi else 0
    body = session_body(digest, sent, echo, ask, loss, members, name.encode(), listed)
    return CODEC.pack(SESSION, 0, sender, counter, 0, body)


def nack(sender: bytes, counter: int, listed: list[Range], to: bytes = NOBODY) -> bytes:
    return CODEC.pack(NACK, 0, sender, counter, 0, nack_body(to, listed))


def bye(sender: bytes, counter: int) -> bytes:
    return CODEC.pack(BYE, 0, sender, counter, 0, b"")


class Room:
    """A session under test with its clock; `sent` and `events` gather what comes out."""

    def __init__(self, *, seed: int = 1, now: float = 1_000.0, nickname: str = "Mel") -> None:
        self.now = now
        self.session = RoomSession(
            place=PLACE, sender_id=ME, nickname=nickname, rng=Random(seed), now=now
        )
        self.sent: list[tuple[float, bytes, object | None]] = []
        self.events: list[Any] = []

    def pump(self) -> None:
        """As the room does after each burst."""
        for datagram, to in self.session.datagrams_to_send():
            self.sent.append((self.now, datagram, to))
        self.events += self.session.events()

    def hear(self, *datagrams: bytes, source: object = "there") -> None:
        """Datagrams of one burst arrive now."""
        for datagram in datagrams:
            self.session.receive_datagram(datagram, source, self.now)
        self.pump()

    def say(self, text: str, kind: int = 0) -> None:
        self.session.say(text, self.now, 1_800_000_000, kind)
        self.pump()

    def run(self, seconds: float) -> None:
        """Let time pass, with every timer in time; a timer that never rests is a failure."""
        until = self.now + seconds
        firings = 0
        while self.session.next_deadline() <= until:
            due = self.session.next_deadline()
            firings = firings + 1 if due <= self.now else 0
            assert firings < 100, "the timer fires without end"
            self.now = max(self.now, due)
            self.session.handle_timer(self.now)
            self.pump()
        self.now = until

    def said(self, kind: int) -> list[tuple[float, Any]]:
        """(when, opened packet) of everything sent of one type."""
        opened = [(when, CODEC.open(datagram)) for when, datagram, _ in self.sent]
        assert all(isinstance(packet, tuple) for _, packet in opened)
        return [(when, packet) for when, packet in opened if packet[0] == kind]

    def nacks(self) -> list[tuple[float, bytes, list[Range]]]:
        """(when, to, ranges) of the NACKs sent."""
        return [(when, p[5][0], ranges(p[5][1])) for when, p in self.said(NACK)]

    def repairs(self) -> list[tuple[float, bytes, int]]:
        """(when, sender, seq) of the repairs sent, to whomever."""
        return [(when, p[2], p[3]) for when, p in self.said(DATA) if p[1] & 1]

    def shown(self, sender: bytes | None = None) -> list[tuple[int, str]]:
        """(seq, mark) of the messages shown, of one sender if given."""
        return [
            (event.seq, event.mark)
            for event in self.events
            if event.what == "message" and sender in (None, event.sender)
        ]

    def told(self, what: str) -> list[Any]:
        """The events of one row of `evloop.room.events`."""
        return [event for event in self.events if event.what == what]

    def stat(self, name: str) -> int:
        return self.session.stats().get(name, 0)


def settled() -> Room:
    """A room in which I have been for a while, alone."""
    room = Room()
    room.run(SETTLED)
    room.sent.clear()
    return room
