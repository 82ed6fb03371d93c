"""A sealed room over real loss, and a recorder on the bridge who plays what it has recorded."""

from __future__ import annotations

import os
import signal
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from evloop.directory.roomkeys import code_of, new_secret
from evloop.room.reliable.packets import BYE, DATA, MAGIC, Codec, data_body
from evloop.room.reliable.sealing import SealedCodec, room_key_of
from tests.lab.injector import pack, unpack
from tests.lab.network import Flat, Namespace, flat, missing
from tests.lab.talk import JOIN_S, ROOM, Person, conversation, flaws, gather, settled, type_at
from tests.lab.test_attacks import inject, injected, stranger
from tests.support.processes import Crew, Program, no_trace

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing() or "the lab is here")

LOSS = 30
REFUSED = ("direct", "replayed", "unproven")
NAMES = ("Annabel", "Bertram", "Cornelia", "Dorothea")
Place = tuple[str, int]


class Datagram(NamedTuple):
    data: bytes
    source: Place
    target: Place


def datagrams(frames: Sequence[bytes]) -> Iterator[Datagram]:
    """What rooms have sent, out of Ethernet frames (RFC 791, RFC 768)."""
    for frame in frames:
        packet = frame[14:]
        if frame[12:14] != b"\x08\x00" or packet[9] != socket.IPPROTO_UDP:
            continue
        udp = packet[4 * (packet[0] & 15) :]
        source, target, length = struct.unpack_from("!HHH", udp)
        data = udp[8:length]
        if data[:2] == MAGIC.to_bytes(2, "big"):
            ends = socket.inet_ntoa(packet[12:16]), socket.inet_ntoa(packet[16:20])
            yield Datagram(data, (ends[0], source), (ends[1], target))


class Tap:
    """The recorder in the switch."""

    def __init__(self, crew: Crew, switch: Namespace, path: Path) -> None:
        self.crew, self.path = crew, path
        self.program: Program = stranger(crew, switch, "tap", str(path))
        crew.until(lambda: "ready" in self.program.out)

    def end(self) -> tuple[bytes, list[Datagram]]:
        """All bytes of the recording, and each datagram once."""
        self.program.end()
        self.crew.finish(self.program)
        held = self.path.read_bytes()
        return held, list(dict.fromkeys(datagrams(list(unpack(held)))))


def enter(crew: Crew, lab: Flat, key: Path, numbers: Sequence[int]) -> list[Person]:
    options = ("--key-file", str(key))
    return [
        Person(crew, lab.hosts[number], NAMES[number], *options, mode="sealed")
        for number in numbers
    ]


def leave(crew: Crew, people: Sequence[Person]) -> None:
    for one in people:
        one.say("/quit")
    for one in people:
        crew.finish(one.program)
        assert one.program.status == 0, one.program.tell()


def replay(
    crew: Crew, host: Namespace, path: Path, tape: Sequence[Datagram], targets: Sequence[Place]
) -> None:
    """Play the tape to the room, and to every socket that `targets` names."""
    data = list(dict.fromkeys(one.data for one in tape))
    injected(crew, inject(crew, host, path, data, 2_000))
    for at, (address, port) in enumerate(targets):
        there = path.with_suffix(f".{at}")
        program = stranger_sends(crew, host, there, data, f"{address}:{port}")
        injected(crew, program)


def stranger_sends(
    crew: Crew, host: Namespace, path: Path, data: Sequence[bytes], target: str
) -> Program:
    path.write_bytes(pack(data))
    return stranger(crew, host, "send", target, str(path), "2000")


def secrets(secret: bytes) -> list[bytes]:
    """What must not be on the wire: names, texts (each has a name in it), the key in any form."""
    code = code_of(secret)
    key = room_key_of(secret, ROOM)
    forms = [secret, secret.hex().encode(), key, key.hex().encode(), code.encode()]
    return [*forms, code.replace("-", "").encode(), *(name.encode() for name in NAMES)]


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_recorder_on_the_bridge_reads_nothing_and_repeats_nothing(
    crew: Crew, tmp_path: Path
) -> None:
    secret = new_secret()
    key = tmp_path / "key"
    key.write_text(code_of(secret) + "\n")
    key.chmod(0o600)
    with flat(4) as lab:
        for host in lab.hosts[:3]:
            host.lose(LOSS)
        tap = Tap(crew, lab.switch, tmp_path / "yesterday")
        people = enter(crew, lab, key, range(3))
        gather(crew, people)
        schedule = conversation(people, 60, 10.0, seed=3)
        type_at(crew, schedule)
        typed = [text for _, _, text in schedule]
        assert settled(crew, people, len(typed))
        held, tape = tap.end()

        assert len(tape) > 200 and len({one.source for one in tape}) >= 3
        assert [what for what in secrets(secret) if what in held] == []

        # In the same session, to the room and to each member's own socket.
        replay(crew, lab.hosts[3], tmp_path / "replay", tape, sorted({it.source for it in tape}))
        for one in people:
            typed.append(f"{one.name} {len(one.texts()) // 3}")
            one.say(typed[-1])
        assert settled(crew, people, len(typed)) and flaws(people, typed) == []
        assert all(one.who(crew) == set(NAMES[:3]) for one in people)
        orders = {tuple((line.sender, line.seq) for line in one.lines()) for one in people}
        assert len({tuple(sorted(order)) for order in orders}) == 1
        leave(crew, people)

        # Another day: one sits alone in the room, then the others come; the tape is played to both.
        tap = Tap(crew, lab.switch, tmp_path / "today")
        [alone] = enter(crew, lab, key, [0])
        crew.in_room(alone.program)
        yesterday = tmp_path / "yesterday again"
        replay(crew, lab.hosts[3], yesterday, tape, sorted({it.source for it in tape}))
        assert alone.who(crew) == {NAMES[0]} and alone.lines() == []
        people = [alone, *enter(crew, lab, key, (1, 2))]
        gather(crew, people)
        held, today = tap.end()
        ids = {one.data[8:16] for one in today} - {one.data[8:16] for one in tape}
        own = sorted({one.source for one in today if one.data[8:16] in ids})
        replay(crew, lab.hosts[3], yesterday, tape, own)
        typed = [f"{one.name} 0" for one in people]
        for one, text in zip(people, typed):
            one.say(text)
        assert settled(crew, people, 3) and flaws(people, typed) == []
        assert all(one.who(crew) == set(NAMES[:3]) for one in people)
        for one in people:
            came = {it["sender"] for it in one.objects("joined")}
            assert came <= {sender.hex() for sender in ids}, "nobody of yesterday"
            assert not one.objects("lost") and not one.objects("conflict")
            stats = one.stats(crew)
            refused = sum(stats.get(f"dropped_{why}", 0) for why in REFUSED)
            assert refused >= len(tape) // 2, "the tape has come, and was refused"
        no_trace(*[one.program for one in people])


def talk_and_leave(crew: Crew, stays: Person, guests: Sequence[Person], typed: list[str]) -> None:
    """All talk for some seconds, then the guests leave. What was said is added to `typed`."""
    first = {one: len([text for text in typed if text.startswith(one.name)]) for one in guests}
    first[stays] = len([text for text in typed if text.startswith(stays.name)])
    schedule = [
        (at, one, f"{one.name} {int(text.split()[1]) + first[one]}")
        for at, one, text in conversation([stays, *guests], 30, 5.0, seed=4)
    ]
    type_at(crew, schedule)
    typed += [text for _, _, text in schedule]
    assert settled(crew, [stays], len(typed))
    leave(crew, guests)
    crew.until(lambda: len(stays.objects("left")) >= len(guests))


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("byes", [True, False], ids=["whole", "without-byes"])
def test_one_that_slept_is_told_what_was_said_once_and_of_nobody_who_has_left(
    crew: Crew, tmp_path: Path, byes: bool
) -> None:
    """The tape is of that very time, and names the sleeper, whom the others still count in. It is
    played to the room and to the sleeper's own socket, before and after it wakes.

    `byes`: the last words of who has left are on the tape; else the sleeper never gets them.
    """
    key = tmp_path / "key"
    key.write_text(code_of(new_secret()) + "\n")
    key.chmod(0o600)
    with flat(5) as lab:
        tap = Tap(crew, lab.switch, tmp_path / "tape")
        people = enter(crew, lab, key, range(3))
        gather(crew, people)
        stays, sleeper, leaver = people
        typed = [f"{one.name} 0" for one in people]
        for one, text in zip(people, typed):
            one.say(text)
        assert settled(crew, people, 3)

        sleeper.program.signal(signal.SIGSTOP)
        [guest] = enter(crew, lab, key, [3])
        crew.until(lambda: len(guest.objects("joined")) >= 2, JOIN_S)
        lab.hosts[1].lose(0 if byes else 100)
        talk_and_leave(crew, stays, [leaver, guest], typed)
        lab.hosts[1].lose(0)
        _, tape = tap.end()
        own = sorted({one.source for one in tape if one.source[0] == lab.address(2)})
        tape = [one for one in tape if byes or one.data[2] & 15 != BYE]
        assert own and len(tape) > 60

        replay(crew, lab.hosts[4], tmp_path / "replay", tape, own)
        sleeper.program.signal(signal.SIGCONT)
        end = time.monotonic() + 90.0
        while sleeper.who(crew) != {stays.name, sleeper.name} or len(sleeper.texts()) < len(typed):
            assert time.monotonic() < end, (sleeper.who(crew), sleeper.program.tell())
            replay(crew, lab.hosts[4], tmp_path / "replay", tape, own)
        for one in (stays, sleeper):
            typed.append(f"{one.name} {sum(text.startswith(one.name) for text in typed)}")
            one.say(typed[-1])
        assert settled(crew, [stays, sleeper], len(typed))
        replay(crew, lab.hosts[4], tmp_path / "replay", tape, own)
        assert all(one.who(crew) == {stays.name, sleeper.name} for one in (stays, sleeper))
        assert flaws([stays, sleeper], typed) == []
        assert not sleeper.objects("lost") and not sleeper.objects("conflict")
        stats = sleeper.stats(crew)
        assert sum(stats.get(f"dropped_{why}", 0) for why in REFUSED) >= len(tape)
        no_trace(stays.program, sleeper.program)


def cpu_s(one: Person) -> float:
    """Processor time that a client has taken so far, in user and in kernel mode (proc(5))."""
    fields = Path(f"/proc/{one.program.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def flood(crew: Crew, host: Namespace, path: Path, place: str, codec: Codec) -> Program:
    """10,000 datagrams a second for 10 s, all right but for the last byte of the tag."""
    real = codec.pack(DATA, 0, b"stranger", 0, 1, data_body(1, (), b"Mallory", 0, b"nobody said"))
    path.write_bytes(pack([real[:-1] + bytes([real[-1] ^ 1])] * 100_000))
    return stranger(crew, host, "send", place, str(path), "10000")


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_ten_thousand_forgeries_a_second_for_ten_seconds(crew: Crew, tmp_path: Path) -> None:
    """A sealed room and an open one at the same time: what is honest arrives in both, and a forgery
    with the right key id costs a client of the sealed one 1.3 times of the other at most."""
    secret, open_room = new_secret(), "239.255.7.4:6000"
    key = tmp_path / "key"
    key.write_text(code_of(secret) + "\n")
    key.chmod(0o600)
    with flat(6) as lab:
        sealed = enter(crew, lab, key, (0, 1))
        unsealed = [Person(crew, lab.hosts[at], NAMES[at], room=open_room) for at in (2, 3)]
        gather(crew, sealed)
        gather(crew, unsealed)
        everybody = [*sealed, *unsealed]
        before = {one: cpu_s(one) for one in everybody}
        codecs = {ROOM: SealedCodec(ROOM, room_key_of(secret, ROOM)), open_room: Codec(open_room)}
        floods = [
            flood(crew, host, tmp_path / f"flood {host.name}", place, codec)
            for host, (place, codec) in zip(lab.hosts[4:], codecs.items())
        ]
        schedule = conversation(everybody, 40, 4.0, seed=8)
        type_at(crew, schedule)
        for one in floods:
            injected(crew, one)
        costs = []
        for people in (sealed, unsealed):
            typed = [text for _, one, text in schedule if one in people]
            assert settled(crew, people, len(typed)) and flaws(people, typed) == []
            dropped = [one.stats(crew).get("dropped_tag", 0) for one in people]
            assert min(dropped) > 10_000
            costs.append(sum(cpu_s(one) - before[one] for one in people) / sum(dropped))
        assert costs[0] <= 1.3 * costs[1], [f"{1e6 * cost:.1f} us" for cost in costs]
        no_trace(*[one.program for one in everybody])


@pytest.mark.slow
def test_strangers_in_the_lab_are_told(crew: Crew, tmp_path: Path) -> None:
    """One without a key, and one with another."""
    keys = []
    for name in ("ours", "other"):
        keys.append(tmp_path / name)
        keys[-1].write_text(code_of(new_secret()) + "\n")
        keys[-1].chmod(0o600)
    with flat(4) as lab:
        for host in lab.hosts:
            host.lose(LOSS)
        tap = Tap(crew, lab.switch, tmp_path / "tap")
        people = enter(crew, lab, keys[0], (0, 1))
        gather(crew, people)
        without = Person(crew, lab.hosts[2], "Walter")
        wrong = Person(crew, lab.hosts[3], "Xaver", "--key-file", str(keys[1]), mode="sealed")
        crew.in_room(without.program, wrong.program)
        for number in range(8):
            for one in (*people, without, wrong):
                one.say(f"{one.name} {number}")
        told = [
            (without, lambda it: it["yours"] == "0000" and it["theirs"] != "0000"),
            (wrong, lambda it: it["yours"] != "0000" != it["theirs"]),
            (people[0], lambda it: it["yours"] != "0000"),
        ]
        crew.until(
            lambda: all(any(map(holds, one.objects("other_key"))) for one, holds in told), 60.0
        )
        assert settled(crew, people, 16)
        for one, names in ((people[0], NAMES), (without, {"Walter"}), (wrong, {"Xaver"})):
            assert {line.name for line in one.lines()} <= set(names)
        held, _ = tap.end()
        assert b"Walter 0" in held, "who has no key is heard by the recorder"
        assert not any(name.encode() in held for name in (*NAMES, "Xaver"))
