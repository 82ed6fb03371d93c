"""A day of a person in a room of 40, in fake time: `python3 -m tests.e2e.fake_day HOURS` tells.

The whole client (options, loop, prompt, chat, session, editor, renderer) on a terminal that is a
pty of this process; the clock jumps from one deadline to the next, and the others are bytes: 39
members that say a SESSION every SESSION_S, a message of one of them every TALK_S, and one that goes
and another that comes every COMING_S. The person says something every SAY_S. In the first two hours
all of this goes so much faster that what is bounded (the history, the table of senders) is full
afterwards. Prints, as JSON, one dict an hour: what it holds in memory, and how much work it did in
that hour. With --trace, which costs four times the time, also the bytes that Python holds.
"""

from __future__ import annotations

import gc
import json
import os
import pty
import sys
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable
from heapq import heappop, heappush
from random import Random
from typing import Any

from evloop.app.options import parse_options
from evloop.app.shell import Client
from evloop.app.startup import start
from evloop.net import multicast
from evloop.net.hub import Hub
from evloop.room.reliable.packets import BYE, DATA, NOBODY, SESSION, Codec, data_body, session_body
from evloop.room.reliable.session import RoomSession
from evloop.system.loop import Loop
from evloop.system.timers import nothing

PLACE = "239.255.7.1:5751"
OTHERS = 39
SESSION_S, TALK_S, COMING_S, SAY_S = 22.0, 10.0, 120.0, 300.0
FILLED_S = 7_200.0
FILL_TALK_S, FILL_COMING_S = 1.6, 5.0
BEGIN = 1_800_000_000.0  # unix time
COLUMNS, ROWS = 80, 24
RECEIPT_ASKED, RECEIPT = b"\x1b[5n", b"\x1b[0n"


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now

    def wall(self) -> float:
        return BEGIN + self.now


class Wire:
    """In the place of `MulticastTransport`: what comes is handed in, what goes is kept."""

    opened: Wire
    echoes = False

    def __init__(
        self, loop: object, group: str, port: int, choose: Callable[[], object], ttl: int
    ) -> None:
        choose()  # as the real one: by which interface it is said to be
        self.source: Any = ("me", 1)
        self.sent: list[bytes] = []
        self._deliver: Callable[[list[tuple[bytes, Any]]], object] = nothing
        Wire.opened = self

    def receive(self, deliver: Callable[[Any], object], ready: Callable[[], object]) -> None:
        self._deliver = deliver

    def hear(self, data: bytes, source: int) -> None:
        self._deliver([(data, ("10.0.0.1", source))])

    def send(self, data: bytes, target: Any) -> bool:
        self.sent.append(data)
        return True

    def describe(self) -> str:
        return "memory"

    def stats(self) -> dict[str, int]:
        return {}

    def reopen(self) -> None: ...
    def close(self) -> None: ...


class Member:
    """Somebody else: an id, a name and counters."""

    def __init__(self, number: int) -> None:
        self.id = number.to_bytes(8, "big")
        self.name = f"p{number}"
        self.port = 10_000 + number
        self.counter = 0
        self.here = True


class Others:
    """What 39 members say, as they would where nothing is lost: all of them have what we have.

    `digest` tells that, in 8 bytes; `high` of each sender how many messages it has said.
    """

    def __init__(self, clock: Clock, digest: Callable[[], int]) -> None:
        self.clock = clock
        self.digest = digest
        self.codec = Codec(PLACE)
        self.rng = Random(40)
        self.high: dict[bytes, int] = {}
        self.lamport = 0
        self.last: tuple[bytes, int] | None = None
        self.known = 0
        self.said = 0
        self.plan: list[tuple[float, int, Callable[[], object]]] = []
        self.numbers = 0
        self.members: list[Member] = []
        for number in range(OTHERS):
            self.join(number * SESSION_S / OTHERS)
        filled = clock.now + FILLED_S
        self.every(lambda: FILL_TALK_S if clock.now < filled else TALK_S, self.talk)
        self.every(lambda: FILL_COMING_S if clock.now < filled else COMING_S, self.change)

    def at(self, delay: float, act: Callable[[], object]) -> None:
        self.numbers += 1
        heappush(self.plan, (self.clock.now + delay, self.numbers, act))

    def every(self, period: Callable[[], float], act: Callable[[], object]) -> None:
        def again() -> None:
            act()
            self.at(period(), again)

        self.at(period(), again)

    def join(self, delay: float) -> None:
        self.known += 1
        member = Member(self.known)
        self.members.append(member)

        def beat() -> None:
            if member.here:
                self.session(member)
                self.at(SESSION_S * self.rng.uniform(0.9, 1.1), beat)

        self.at(delay, beat)

    def session(self, member: Member) -> None:
        member.counter += 1
        sent = self.high.get(member.id, 0)
        echo = (NOBODY, 0, 0)
        name = member.name.encode()
        body = session_body(self.digest(), sent, echo, 0, 0, OTHERS + 1, name, [])
        self.tell(member, self.codec.pack(SESSION, 0, member.id, member.counter, 0, body))

    def talk(self) -> None:
        # In turn: nobody is silent for so long that its record makes room for another's.
        member = self.members.pop(0)
        self.members.append(member)
        seq = self.high.get(member.id, 0)
        self.lamport += 1
        self.said += 1
        parents = (self.last,) if self.last is not None else ()
        text = f"message {self.said} of a long day, long enough that it is now and then wrapped"
        body = data_body(self.lamport, parents, member.name.encode(), 0, text.encode())
        wall = int(self.clock.wall())
        self.tell(member, self.codec.pack(DATA, 0, member.id, seq, wall, body))
        self.noted(member.id, seq)

    def change(self) -> None:
        """One goes, another comes."""
        member = self.members.pop(self.rng.randrange(len(self.members)))
        member.here = False
        member.counter += 1
        self.tell(member, self.codec.pack(BYE, 0, member.id, member.counter, 0, b""))
        self.join(1.0)

    def noted(self, sender: bytes, seq: int) -> None:
        self.high[sender] = max(seq + 1, self.high.get(sender, 0))
        self.last = (sender, seq)

    def hear(self, datagram: bytes) -> None:
        """The person has said something: everybody has it."""
        packet: Any = self.codec.open(datagram)
        if packet[0] == DATA and not packet[1] & 1:
            self.noted(packet[2], packet[3])
            self.lamport = max(self.lamport, packet[5][0])

    def tell(self, member: Member, data: bytes) -> None:
        Wire.opened.hear(data, member.port)


class Terminal:
    """The other side of our own terminal: takes what is drawn, answers, types."""

    def __init__(self) -> None:
        self.master, inner = pty.openpty()
        for descriptor in range(2):
            os.dup2(inner, descriptor)
        os.close(inner)
        os.set_blocking(self.master, False)
        self.drawn = 0
        self.seen = b""

    def answer(self) -> None:
        try:
            while True:
                data = os.read(self.master, 65_536)
                self.drawn += len(data)
                self.seen = (self.seen + data)[-4_096:]
                for _ in range(data.count(RECEIPT_ASKED)):
                    os.write(self.master, RECEIPT)
        except BlockingIOError:
            return

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())


class Day:
    def __init__(self) -> None:
        self.clock = Clock()
        self.terminal = Terminal()
        self.loop = Loop(clock=self.clock)
        multicast.MulticastTransport = Wire  # type: ignore[assignment, misc]
        words = ["--name", "Mel", "--no-history", "chat", PLACE]
        environ = {"TERM": "xterm", "COLUMNS": str(COLUMNS), "LINES": str(ROWS)}
        self.client = Client(
            self.loop, parse_options(words, environ, True), Hub(self.loop), self.clock.wall
        )
        start(self.client)
        self.work: Counter[str] = Counter()
        self.cpu_s = time.process_time()
        self.others = Others(self.clock, self.digest)
        self.said = 0
        self.others.every(lambda: SAY_S, self.say)

    def digest(self) -> int:
        chat = self.client.chat
        assert chat is not None and isinstance(chat.room.session, RoomSession)
        return chat.room.session.digest()

    def say(self) -> None:
        self.said += 1
        self.terminal.type(f"my line {self.said}\r")

    def tick(self) -> None:
        """A tick that does not wait, and what the terminal and the room make of it."""
        self.loop.defer(nothing)
        self.loop.tick()
        self.work["ticks"] += 1
        self.terminal.answer()
        sent, Wire.opened.sent = Wire.opened.sent, []
        for datagram in sent:
            self.work["sent"] += 1
            self.others.hear(datagram)

    def run(self, until: float) -> None:
        while True:
            due = self.loop.timers.next_deadline()
            planned = self.others.plan[0][0]
            then = min(due, planned)
            if then > until:
                break
            self.clock.now = max(self.clock.now, then)
            while self.others.plan[0][0] <= self.clock.now:
                heappop(self.others.plan)[2]()
                self.work["heard"] += 1
            self.tick()
        self.clock.now = until

    def figures(self) -> dict[str, Any]:
        gc.collect()
        chat = self.client.chat
        assert chat is not None
        stats = chat.room.stats()
        figures = {
            "bytes": tracemalloc.get_traced_memory()[0],
            "blocks": sys.getallocatedblocks(),
            "objects": len(gc.get_objects()),
            "timers": len(self.loop.timers.heap),
            "watches": len(self.loop.watches),
            "drawn": self.terminal.drawn,
            "said": self.said,
            "told": self.others.said,
            "cpu_s": time.process_time() - self.cpu_s,
            "present": len(chat.room.session.members(self.clock.now)),
            "faults": chat.room.faults,
            "stats": stats,
            "screen": self.terminal.seen[-200:].decode(errors="replace"),
            **self.work,
        }
        self.cpu_s = time.process_time()
        self.work.clear()
        self.terminal.drawn = 0
        return figures


def main(hours: int) -> None:
    result = os.fdopen(os.dup(1), "w")
    if "--trace" in sys.argv:
        tracemalloc.start()
    day = Day()
    begin = day.clock.now
    figures = []
    for hour in range(1, hours + 1):
        day.run(begin + 3600.0 * hour)
        figures.append(day.figures())
    json.dump(figures, result)
    result.flush()
    os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]))
