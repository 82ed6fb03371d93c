"""Datagrams of a stranger with a right tag and every field at its worst, and small tables."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import product
from random import Random
from typing import Any

import pytest

from evloop.room.reliable.packets import DATA, NOBODY, SESSION, as_copy, as_repair, session_body
from evloop.room.reliable.session import RoomSession
from tests.simulation import forgery
from tests.support.rooms import ANN, BOB, CODEC, EVE, ME, PLACE, Range, bye, nack, session

NUMBERS = (0, 1, 2, 3, 7, 24, 255, 1_023, 1_024, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1)
IDS = (ANN, BOB, EVE, ME, NOBODY, *[bytes([n]) * 8 for n in range(30, 40)])
NAMES = ("Ann", "", "a b", "x" * 32, "x" * 255, "\ufdfa" * 85, "\u202e", "Mel")
SMALL = {
    "GAPS_MAX": 40,
    "GAPS_SENDER_MAX": 16,
    "GAPS_NOTED_MAX": 12,
    "HEARSAY_GAPS_MAX": 12,
    "HEARSAY_NOTED_MAX": 8,
    "HEARSAY_SENDER_GAPS_MAX": 6,
    "HEARSAY_UNHEARD_GAPS_MAX": 3,
    "WINDOW_MESSAGES": 24,
    "SENDERS_MAX": 6,
    "CLAIMS_MAX": 5,
    "MEMBERS_MAX": 6,
    "HISTORY_MESSAGES_MAX": 30,
    "HISTORY_BYTES_MAX": 4_000,
    "HOLDERS_MAX": 3,
    "ASKS_REMEMBERED_MAX": 10,
    "DEPARTED_MAX": 3,
    "LABELS_KEPT_MAX": 3,
    "SKIPPED_RANGES_MAX": 2,
    "HEADS_MAX": 4,
    "NACK_HELD_MAX": 6,
    "NAMED_MAX": 24,
    "BULK_ASKERS_MAX": 3,
    "LOSS_PENDING_MAX": 4,
}


def short_bodies() -> Iterator[bytes]:
    """Every length near those of the fixed parts, with every count that is near an allowed one."""
    for length, count, at in product(range(80), range(20), (4, 8, 33)):
        body = bytearray(length)
        body[at : at + 1] = bytes([count])[: len(body[at : at + 1])]
        yield bytes(body)


def shrink(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small caps in every module of the engine that has the name."""
    for name, module in sorted(sys.modules.items()):
        if name.startswith("evloop.room.reliable.") and not name.endswith(".limits"):
            for cap, value in SMALL.items():
                if hasattr(module, cap):
                    monkeypatch.setattr(module, cap, value)


class Hostile:
    """Makes one datagram after another; the seed is the whole of it."""

    def __init__(self, seed: int, ids: tuple[bytes, ...] = IDS) -> None:
        self.rng = Random(seed)
        self.ids = ids
        self.counter = 0

    def id(self) -> bytes:
        return self.rng.choice(self.ids) if self.rng.random() < 0.95 else self.rng.randbytes(8)

    def number(self) -> int:
        rng = self.rng
        return rng.randrange(40) if rng.random() < 0.6 else rng.choice(NUMBERS)

    def ranges(self, most: int) -> list[Range]:
        rng = self.rng
        if rng.random() < 0.2:
            return [(self.id(), self.number(), self.number())] * most
        return [(self.id(), self.number(), self.number()) for _ in range(rng.randrange(most + 1))]

    def count(self) -> int:
        self.counter += 1
        return self.counter if self.rng.random() < 0.7 else self.number()

    def datagram(self) -> bytes:
        return self.rng.choice((self.data, self.data, self.nack, self.session, self.bye))()

    def data(self) -> bytes:
        rng = self.rng
        made = forgery.data(
            PLACE,
            self.id(),
            self.number(),
            rng.choice(("", "x", "y" * rng.randrange(800))),
            name=rng.choice(NAMES),
            lamport=self.number(),
            flags=rng.choice((0, 0, 0, 8)),
            parents=tuple((self.id(), self.number()) for _ in range(rng.randrange(4))),
        )
        how = rng.randrange(4)
        return as_repair(made) if not how else as_copy(made, rng.randrange(16)) if how < 2 else made

    def nack(self) -> bytes:
        return nack(self.id(), self.count(), self.ranges(55), self.rng.choice((NOBODY, ME, ANN)))

    def session(self) -> bytes:
        rng = self.rng
        name = rng.choice(NAMES).encode()[:255]
        most = min(50, (1_200 - 24 - 33 - len(name) - 1 - 16) // 16)
        sender, listed = self.id(), self.ranges(most - 1)
        if rng.random() < 0.5:  # its own word
            listed.insert(0, (sender, 0, self.number()))
        body = session_body(
            rng.choice((0, 1, rng.getrandbits(64))),
            self.number(),
            (self.id(), self.number(), self.number()),
            rng.randrange(256),
            rng.randrange(256),
            rng.choice((0, 1, 2, 65_535)),
            name,
            listed,
        )
        return CODEC.pack(SESSION, 0, sender, self.count(), 0, body)

    def bye(self) -> bytes:
        return bye(self.id(), self.count())


def opcodes(act: Any) -> int:
    """How many bytecodes `act()` executes: the same on every machine, unlike time."""
    monitoring = getattr(sys, "monitoring", None)
    return _traced(act) if monitoring is None else _monitored(act, monitoring)


def _monitored(act: Any, monitoring: Any) -> int:
    """From Python 3.12 on: its settrace tells of the bytecodes of some functions alone."""
    count = 0

    def executed(code: Any, offset: int) -> None:
        nonlocal count
        count += 1

    event, tool = monitoring.events.INSTRUCTION, monitoring.OPTIMIZER_ID
    monitoring.use_tool_id(tool, "opcodes")
    try:
        monitoring.register_callback(tool, event, executed)
        monitoring.set_events(tool, event)
        act()
    finally:
        monitoring.set_events(tool, 0)
        monitoring.free_tool_id(tool)
    return count


def _traced(act: Any) -> int:
    count = 0

    def local(frame: Any, event: str, argument: Any) -> Any:
        nonlocal count
        if event == "opcode":
            count += 1
        return local

    def entered(frame: Any, event: str, argument: Any) -> Any:
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        return local

    before = sys.gettrace()
    sys.settrace(entered)
    try:
        act()
    finally:
        sys.settrace(before)
    return count


def cost(room: Any, datagram: bytes) -> int:
    """Bytecodes to take in `datagram` and what follows at once, but for what was due already."""
    live: RoomSession = room.session

    def take() -> None:
        live.receive_datagram(datagram, "there", room.now)
        live.datagrams_to_send()
        live.events()
        live.next_deadline()

    while live.next_deadline() <= room.now:
        live.handle_timer(room.now)
        room.pump()
    return opcodes(take)


__all__ = ["DATA", "Hostile", "cost", "opcodes", "session", "shrink"]
