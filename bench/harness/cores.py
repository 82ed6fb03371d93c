"""The pure cores, one operation a case: timed by pyperf, counted by callgrind. Imports evloop.

    cores.py --count         run COUNTED steps of each case, each between two calls of tzset: those
                             are what callgrind is told to dump its counters at
    cores.py --pyperf ...    time all (the options are pyperf's)

A case is made for `count` steps; what a step needs is prepared outside of what is measured. The
clock of sessions and editors is ours and goes on by itself, so that no cap ever slows a step down.
"""

from __future__ import annotations

import importlib
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench.load import datagrams
from evloop.directory import protocol
from evloop.directory.registry import Directory
from evloop.framing import FrameDecoder, pack_frame
from evloop.room.reliable import packets
from evloop.room.reliable.session import RoomSession
from evloop.terminal.editor import Editor

PLACE = "239.255.7.1:5751"
SENDER = bytes(range(1, 9))
TEXT = "Good morning, everybody. Coffee is ready"
PING = b'{"jsonrpc":"2.0","id":%d,"method":"ping"}'
GETDIR = b'{"jsonrpc":"2.0","id":%d,"method":"getdir","params":{"limit":20}}'
MAKEROOM = b'{"jsonrpc":"2.0","id":%d,"method":"makeroom","params":{"name":"lab%d"}}'
STEP_S = 0.25  # the clock between two steps: within every rate that a session allows
COUNTED = 201  # steps for callgrind; the first is not counted

Step = Callable[[int], object]


def framing(count: int) -> Step:
    """Sixteen frames of 40 bytes in, as one read brings them, and sixteen out."""
    decoder, burst = FrameDecoder(), pack_frame(PING % 1) * 16

    def step(number: int) -> None:
        decoder.feed(burst)
        for payload in decoder.next_frames(16):
            pack_frame(payload)

    return step


def _parsed(form: bytes, count: int) -> Step:
    numbers = form.count(b"%d")
    payloads = [form % ((number,) * numbers) for number in range(count)]
    return lambda number: protocol.parse(payloads[number])


def message_ping(count: int) -> Step:
    """Read a ping; each has an id of its own."""
    return _parsed(PING, count)


def message_getdir(count: int) -> Step:
    """Read a getdir with a limit; each has an id of its own."""
    return _parsed(GETDIR, count)


def message_makeroom(count: int) -> Step:
    """Read a makeroom; each is for another room."""
    return _parsed(MAKEROOM, count)


def message_reply(count: int) -> Step:
    """Word the reply to a ping."""
    return lambda number: protocol.result(b"%d" % number, protocol.EMPTY)


def directory_page(count: int) -> Step:
    """getdir of 20 rooms out of 1,000, each time behind another name."""
    rooms = [
        protocol.RoomEntry(f"r{number:08d}", f"239.255.7.{1 + number % 250}", 49_152 + number)
        for number in range(1_000)
    ]
    directory = Directory(rooms, 1, rooms_max=0, rooms_per_address=0)
    return lambda number: directory.page(f"r{number % 980:08d}", 20)


def packet_pack(count: int) -> Step:
    """Write a DATA datagram, tag included."""
    codec = packets.Codec(PLACE)
    body = datagrams.data(PLACE, SENDER, 0, TEXT, name="Mel", lamport=1, wall=1)[24:-16]
    return lambda number: codec.pack(datagrams.DATA, 0, SENDER, number, 1, body)


def packet_open(count: int) -> Step:
    """Read a DATA datagram, tag included."""
    codec = packets.Codec(PLACE)
    one = datagrams.data(PLACE, SENDER, 7, TEXT, name="Mel", lamport=1, wall=1)
    if isinstance(codec.open(one), str):
        raise AssertionError("the datagram is not one")
    return lambda number: codec.open(one)


def _session() -> RoomSession:
    rng = random.Random(1)
    return RoomSession(place=PLACE, sender_id=rng.randbytes(8), nickname="me", rng=rng, now=1000.0)


def session_receive(count: int) -> Step:
    """A DATA in order: datagram in, message event out, timer found."""
    session = _session()
    wires = [
        datagrams.data(PLACE, SENDER, n, TEXT, name="Mel", lamport=n + 1, wall=n)
        for n in range(count + 1)
    ]

    def step(number: int) -> None:
        now = 1000.0 + number * STEP_S
        session.receive_datagram(wires[number + 1], None, now)
        session.datagrams_to_send()
        session.events()
        session.next_deadline()

    step(-1)
    if session.stats()["received"] != 1:
        raise AssertionError("the first DATA was not taken")
    return step


def session_say(count: int) -> Step:
    """A line out: say, datagram made, own event, timer found."""
    session = _session()

    def step(number: int) -> None:
        session.say(TEXT, 1000.0 + number * STEP_S, number)
        session.datagrams_to_send()
        session.events()
        session.next_deadline()

    return step


def session_digest(count: int) -> Step:
    """A SESSION of a member who has what I have."""
    session = _session()
    held = {SENDER: 1}
    session.receive_datagram(
        datagrams.data(PLACE, SENDER, 0, TEXT, name="Mel", lamport=1, wall=1), None, 1000.0
    )
    wires = [
        datagrams.session(PLACE, SENDER, n, held, name="Mel", members=2, sent_us=n * 250_000)
        for n in range(count)
    ]

    def step(number: int) -> None:
        session.receive_datagram(wires[number], None, 1000.0 + number * STEP_S)
        session.datagrams_to_send()
        session.events()
        session.next_deadline()

    return step


def _editor() -> Editor:
    editor = Editor(80, 24, prompt="lab> ")
    editor.take(1000.0)
    return editor


def editor_key(count: int) -> Step:
    """One key typed and drawn, lines of 40."""
    editor = _editor()

    def step(number: int) -> None:
        now = 1000.0 + number * STEP_S
        for _ in editor.feed(b"\r" if number % 40 == 39 else b"x", now):
            pass
        editor.take(now)

    return step


def editor_message(count: int) -> Step:
    """A message of another above a half-typed line, drawn."""
    editor = _editor()
    for _ in editor.feed(b"half a line", 1000.0):
        pass
    editor.take(1000.0)

    def step(number: int) -> None:
        editor.above([("36", "Mel"), ("", ": " + TEXT)])
        editor.take(1000.0 + number * STEP_S)

    return step


CASES: dict[str, Callable[[int], Step]] = {
    "framing: 16 frames in and out": framing,
    "messages: parse ping": message_ping,
    "messages: parse getdir": message_getdir,
    "messages: parse makeroom": message_makeroom,
    "messages: word a reply": message_reply,
    "directory: page of 20": directory_page,
    "packets: pack DATA": packet_pack,
    "packets: open DATA": packet_open,
    "session: receive DATA": session_receive,
    "session: say": session_say,
    "session: receive SESSION": session_digest,
    "editor: a key": editor_key,
    "editor: a message above": editor_message,
}


def timed(case: Callable[[int], Step]) -> Callable[[int], float]:
    """What pyperf calls: seconds for so many steps."""

    def measure(loops: int) -> float:
        step = case(loops)
        begin = time.perf_counter()
        for number in range(loops):
            step(number)
        return time.perf_counter() - begin

    return measure


def main() -> None:
    if sys.argv[1] == "--pyperf":
        again = (sys.argv.pop(0), sys.argv.pop(0))  # pyperf's workers are started with these
        sys.argv.insert(0, again[0])
        runner = importlib.import_module("pyperf").Runner(
            processes=3, values=3, warmups=1, min_time=0.02, program_args=again
        )
        for name, case in CASES.items():
            runner.bench_time_func(name, timed(case))
        return
    for case in CASES.values():
        step = case(COUNTED)
        step(0)  # what is loaded or made with the first step is no step's cost
        time.tzset()
        for number in range(1, COUNTED):
            step(number)
        time.tzset()


if __name__ == "__main__":
    main()
