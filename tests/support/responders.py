"""A responder on a clock of the test's own, and what is said to it."""

from __future__ import annotations

from random import Random

from evloop.directory.announcement import SERVER, Service
from evloop.directory.responder import Place, Responder
from evloop.net.mdns import (
    ANSWER,
    PORT,
    PTR,
    QUERY,
    SERVICE,
    Message,
    Question,
    Record,
    build,
    parse,
)
from tests.support.mdns import ADDRESS, ID

OTHER = bytes([192, 0, 2, 33])  # somebody on the same subnet
FAR = bytes([198, 51, 100, 9])  # somebody who is not
LINK = 3


def place(*addresses: bytes, own: bytes = ADDRESS, bits: int = 24, epoch: int = 1) -> Place:
    """A link with one address of IPv4; `addresses`: what of it is announced, else that one."""
    return Place(epoch, [(own, bits)], addresses or [own])


PLACE = place()
ASK = Question(SERVICE, PTR, False)


class Clocked:
    """One responder; `sent` is all that it said, as (when, Message, link, ipv6, to)."""

    def __init__(self, seed: int = 1, service: Service | None = None) -> None:
        self.now = 100.0
        self.sent: list[tuple[float, Message, int, bool, tuple[bytes, int] | None]] = []
        self.raw: list[bytes] = []
        self.events: list[tuple[object, ...]] = []
        service = service or Service("kitchen-pi", ID, SERVER, 44444, "")
        self.responder = Responder(service, Random(seed), self.now)

    def take(self) -> list[Message]:
        """What it says now, at once."""
        made = []
        for data, index, ipv6, to in self.responder.datagrams_to_send():
            made.append(parse(data))
            self.raw.append(data)
            self.sent.append((self.now, made[-1], index, ipv6, to))
        self.events += self.responder.events()
        return made

    def links(self, *places: Place) -> Clocked:
        self.responder.set_links({LINK + at: place for at, place in enumerate(places)}, self.now)
        return self

    def run(self, seconds: float) -> list[Message]:
        """Let time pass; what it says meanwhile."""
        end = self.now + seconds
        made = self.take()
        while self.responder.next_deadline() <= end:
            self.now = max(self.now, self.responder.next_deadline())
            self.responder.handle_timer(self.now)
            made += self.take()
        self.now = end
        return made

    def standing(self) -> Clocked:
        """On one link, with all said that is said unasked, and a second of silence."""
        self.links(PLACE).run(4)
        self.sent.clear()
        return self

    def hear(
        self,
        message: Message | bytes,
        source: bytes = OTHER,
        port: int = PORT,
        link: int = LINK,
    ) -> list[Message]:
        """A datagram comes; what it says at once."""
        data = message if isinstance(message, bytes) else build(message)
        self.responder.receive(data, source, port, link, self.now)
        return self.take()

    def ask(self, *questions: Question, known: tuple[Record, ...] = (), flags: int = QUERY,
            source: bytes = OTHER, port: int = PORT, number: int = 0) -> list[Message]:  # fmt: skip
        return self.hear(Message(number, flags, questions or (ASK,), known), source, port)

    def tell(self, *records: Record, source: bytes = OTHER, port: int = PORT) -> list[Message]:
        """Somebody else says this."""
        return self.hear(Message(0, ANSWER, (), records), source, port)

    @property
    def label(self) -> bytes:
        """Its label on the one link, as it would claim it now."""
        return self.responder.links[LINK].label

    @property
    def host(self) -> bytes:
        return self.responder.links[LINK].host
