"""What a key costs: a sealed session beside an open one, step by step in turns.

Both run in one process, a short piece of one and then of the other, so that a busy machine slows
both; each pair of pieces gives one ratio. Imports evloop.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from bench.harness.common import Context, Row
from bench.harness.judging import compared, spread
from evloop.room.reliable.packets import DATA, SESSION, Codec, data_body, session_body
from evloop.room.reliable.sealing import SealedCodec, names_tail
from evloop.room.reliable.session import RoomSession

PLACE = "239.255.7.1:5751"
KEY = bytes(range(32))
ME, ANN = b"myselfid", b"ann-ann-"
SIZES = (17, 300, 900)  # bytes of text
STEP_S = 0.25  # the clock between two DATA: within every rate that a session allows
PIECE = 200  # steps
PIECES = 30
GOALS = {17: 1.35, 300: 1.7, 900: 2.15}

Piece = Callable[[bool], float]


def _codec(sealed: bool) -> Codec:
    return SealedCodec(PLACE, KEY) if sealed else Codec(PLACE)


def _data(codec: Codec, seq: int, size: int) -> bytes:
    parents = ((ANN, seq - 1),) if seq else ()
    return codec.pack(DATA, 0, ANN, seq, 1, data_body(seq + 1, parents, b"Ann", 0, b"x" * size))


def _session(sealed: bool) -> RoomSession:
    session = RoomSession(
        place=PLACE, sender_id=ME, nickname="Mel", rng=random.Random(1), now=0.0,
        key=KEY if sealed else b"",
    )  # fmt: skip
    body = session_body(0, 0, (ME, 0, 0), 0, 255, 2, b"Ann", [])
    if sealed:
        body += names_tail([], [])
    session.receive_datagram(_codec(sealed).pack(SESSION, 0, ANN, 0, 0, body), None, 0.0)
    return session


def _in_order(size: int) -> Piece:
    """Made by its sender, taken in by a receiver, events fetched, timer found."""

    def piece(sealed: bool) -> float:
        session, codec = _session(sealed), _codec(sealed)
        began = time.process_time()
        for seq in range(PIECE):
            session.receive_datagram(_data(codec, seq, size), None, 1.0 + STEP_S * seq)
            session.datagrams_to_send()
            session.events()
            session.next_deadline()
        spent = time.process_time() - began
        assert session.stats()["received"] == PIECE
        return spent / PIECE

    return piece


def _copy(sealed: bool) -> float:
    """A copy of a DATA that is held."""
    session, codec = _session(sealed), _codec(sealed)
    tape = [_data(codec, seq, 17) for seq in range(PIECE)]
    for seq, data in enumerate(tape):
        session.receive_datagram(data, None, 1.0 + STEP_S * seq)
    now = 1.0 + STEP_S * PIECE
    began = time.process_time()
    for data in tape:
        session.receive_datagram(data, None, now)
    spent = time.process_time() - began
    assert session.stats()["duplicates"] == PIECE
    return spent / PIECE


def _forged(other_key: bool) -> Piece:
    def piece(sealed: bool) -> float:
        session = _session(sealed)
        data = bytearray(_data(_codec(sealed), 0, 17))
        if other_key:
            data[4:6] = b"\x01\x01"
        else:
            data[-1] ^= 1
        forged = bytes(data)
        began = time.process_time()
        for _ in range(PIECE):
            session.receive_datagram(forged, None, 2.0)
        return (time.process_time() - began) / PIECE

    return piece


def turns(piece: Piece) -> dict[bool, list[float]]:
    """us of a step, open and sealed, of pieces that took turns."""
    found: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(PIECES):
        for sealed, values in found.items():
            values.append(piece(sealed) * 1e6)
    return found


def run(context: Context) -> Row:
    context.quiet.wait()
    cases: list[tuple[str, Piece, float]] = [
        (f"DATA of {size} bytes in order, made and taken in", _in_order(size), GOALS[size])
        for size in SIZES
    ]
    cases += [
        ("a copy of a DATA that is held", _copy, 0.7),
        ("a forgery with the right key id", _forged(False), 1.3),
        ("a forgery with another key id", _forged(True), 1.0),
    ]
    rows, goals = [], []
    for name, piece, most in cases:
        found = turns(piece)
        rows.append(
            {
                "server": name, "load": "one step",
                "open_us": spread(found[False]), "sealed_us": spread(found[True]),
            }
        )  # fmt: skip
        floor = ("an open room", found[False], "us")
        goals.append(compared("sealed", f"{name}, to an open room", found[True], floor, most))
    return {"rows": rows, "goals": [goal.as_row() for goal in goals], "plots": {}}
