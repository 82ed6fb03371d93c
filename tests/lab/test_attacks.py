"""Strangers on the link: replays, forgeries, floods and junk against a room of real clients."""

from __future__ import annotations

import random
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from evloop.room.events import TEXT
from evloop.room.reliable.packets import (
    BYE,
    DATA,
    NACK,
    NOBODY,
    RELAYED,
    SESSION,
    Codec,
    data_body,
    nack_body,
    session_body,
)
from tests.lab.injector import pack, unpack
from tests.lab.network import Flat, Namespace, flat, missing
from tests.lab.talk import ROOM, Person, conversation, flaws, gather, settled, type_at
from tests.support.pairs import both
from tests.support.processes import (
    Crew,
    Program,
    no_trace,
)

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing() or "the lab is here")

CODEC = Codec(ROOM)
FLOOD_S = 4.0
GROWTH_MB_MAX = 25.0  # of one client under any flood


def stranger(crew: Crew, host: Namespace, *words: str) -> Program:
    """The injector on `host`."""
    command = [*host.prefix, sys.executable, "-m", "tests.lab.injector"]
    return crew.add(Program([*command, *words]))


def inject(
    crew: Crew,
    host: Namespace,
    path: Path,
    datagrams: Sequence[bytes],
    per_second: float = 500.0,
    *source: str,
) -> Program:
    """Begin to send `datagrams` from `host`."""
    path.write_bytes(pack(datagrams))
    return stranger(crew, host, "send", ROOM, str(path), str(per_second), *source)


def injected(crew: Crew, program: Program) -> None:
    crew.finish(program)
    assert program.status == 0, program.tell()


def recorder(crew: Crew, host: Namespace, path: Path) -> Program:
    program = stranger(crew, host, "record", ROOM, str(path))
    crew.until(lambda: "ready" in program.out)
    return program


def recorded(crew: Crew, program: Program, path: Path) -> list[bytes]:
    """End the recording; what it holds."""
    program.end()
    crew.finish(program)
    return list(unpack(path.read_bytes()))


def meet(crew: Crew, lab: Flat, names: str) -> list[Person]:
    """People on the first hosts, who all met."""
    people = [Person(crew, host, name) for host, name in zip(lab.hosts, names)]
    gather(crew, people)
    return people


def id_of(person: Person) -> bytes:
    """The sender id of somebody who has spoken."""
    return bytes.fromhex(next(it.sender for it in person.lines() if it.name == person.name))


def say_all(crew: Crew, people: Sequence[Person], count: int, seed: int) -> list[str]:
    """A conversation that everybody sees whole; the texts."""
    schedule = conversation(people, count, 20.0, seed)
    type_at(crew, schedule)
    typed = [text for _, _, text in schedule]
    settled(crew, people, len(typed))
    assert flaws(people, typed) == []
    return typed


def resident_mb(person: Person) -> float:
    status = Path(f"/proc/{person.program.pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found
    return int(found[1]) / 1024


def session(
    sender: bytes, counter: int, entries: Sequence[tuple[bytes, int, int]], name: bytes = b"ghost"
) -> bytes:
    body = session_body(1, 0, (NOBODY, 0, 0), 0, 255, 3, name, entries)
    return CODEC.pack(SESSION, 0, sender, counter, 0, body)


def test_a_replayed_conversation_shows_nothing_again(crew: Crew, tmp_path: Path) -> None:
    with flat(3) as lab:
        path = tmp_path / "recorded"
        ear = recorder(crew, lab.hosts[2], path)
        a, b = meet(crew, lab, "ab")
        lab.hosts[0].lose(20)
        lab.hosts[1].lose(20)
        typed = say_all(crew, [a, b], 40, seed=1)
        datagrams = recorded(crew, ear, path)
        assert len(datagrams) > 60
        for host in lab.hosts:
            host.lose(0)
        for _ in range(2):
            injected(crew, inject(crew, lab.hosts[2], path, datagrams, 2_000))
        a.say("a 20")
        b.say("b 20")
        wanted = sorted([*typed, "a 20", "b 20"])
        crew.until(lambda: len(a.texts()) >= 42 and len(b.texts()) >= 42)
        assert sorted(a.texts()) == sorted(b.texts()) == wanted
        for one in (a, b):
            assert not one.objects("conflict") and not one.objects("lost")
            assert one.stats(crew)["duplicates"] >= 30
        no_trace(a.program, b.program)


def test_a_flood_of_forged_sessions_and_nacks(crew: Crew, tmp_path: Path) -> None:
    """2,000 SESSIONs full of lies and 1,000 NACKs a second: honest messages arrive all the same."""
    rng = random.Random(2)
    with flat(4) as lab:
        people = meet(crew, lab, "abc")
        typed = say_all(crew, people, 60, seed=2)
        ids = [id_of(one) for one in people]
        before = [resident_mb(one) for one in people]
        ghosts = [rng.randbytes(8) for _ in range(500)]
        lies = []
        for number in range(2_000):
            origin = [rng.choice([*ids, *ghosts, rng.randbytes(8)]) for _ in range(16)]
            entries = [(one, rng.randrange(50), rng.randrange(50, 2_000)) for one in set(origin)]
            lies.append(session(rng.choice(ghosts), number, entries))
        asks = []
        for number in range(int(1_000 * FLOOD_S)):
            body = nack_body(NOBODY, [(one, 0, 30) for one in ids])
            asks.append(CODEC.pack(NACK, 0, rng.choice(ghosts), number, 0, body))
        path = tmp_path / "heard"
        ear = recorder(crew, lab.hosts[3], path)
        floods = [
            inject(crew, lab.hosts[3], tmp_path / "lies", lies, 2_000 / FLOOD_S),
            inject(crew, lab.hosts[3], tmp_path / "asks", asks, 1_000),
        ]
        more = [(0.3 * n, one, f"{one.name} {20 + n}") for n in range(10) for one in people]
        type_at(crew, more)
        for flood in floods:
            injected(crew, flood)
        wanted = sorted([*typed, *(text for _, _, text in more)])
        crew.until(lambda: all(len(one.texts()) >= len(wanted) for one in people), 30)
        for one in people:
            assert sorted(one.texts()) == wanted
            assert not one.objects("lost")
        grown = [resident_mb(one) - was for one, was in both(people, before)]
        assert max(grown) < GROWTH_MB_MAX, grown

        repairs: dict[bytes, int] = {}
        opened = [CODEC.open(data) for data in recorded(crew, ear, path)]
        for packet in opened:
            if not isinstance(packet, str) and packet[0] == DATA and packet[1] & RELAYED:
                repairs[packet[2]] = repairs.get(packet[2], 0) + 1
        seconds = FLOOD_S + 10  # of the recording, generously
        assert sum(repairs.values()) <= 100 * seconds
        assert sum(repairs.values()) > 0  # the NACKs did ask for something
        no_trace(*[one.program for one in people])


def shown_at_once(crew: Crew, text: str, *people: Person) -> None:
    """Far below the 30 s that a gap may hold up what comes after it."""
    crew.until(lambda: all(text in one.texts() for one in people), 3)


def test_lies_about_ann(crew: Crew, tmp_path: Path) -> None:
    with flat(4) as lab:
        people = meet(crew, lab, "abc")
        ann, bob, cal = people
        typed = say_all(crew, people, 9, seed=3)
        me = id_of(ann)
        ghost = bytes(range(8))
        attacker = lab.hosts[3]

        # Ann's next number is 500, says somebody.
        lie = [session(ghost, n, [(me, 0, 500)]) for n in range(3)]
        injected(crew, inject(crew, attacker, tmp_path / "next", lie))
        for text in ("a 3", "a 4", "a 5"):
            ann.say(text)
            shown_at_once(crew, text, bob, cal)

        # Ann has said goodbye, says somebody in her name; she has not, as soon as she is heard.
        byes = [CODEC.pack(BYE, 0, me, 1_000_000 + n, 0, b"") for n in range(3)]
        injected(crew, inject(crew, attacker, tmp_path / "byes", byes))
        ann.say("a 6")
        shown_at_once(crew, "a 6", bob, cal)
        crew.until(lambda: "a" in bob.who(crew), 20, every=0.5)

        # Another body for a number that Ann has used: the first stays, and it is told.
        second = data_body(1, [], b"a", TEXT, b"I never said this")
        foreign = CODEC.pack(DATA, 0, me, 0, 0, second)
        injected(crew, inject(crew, attacker, tmp_path / "twice", [foreign] * 3))
        crew.until(lambda: all(one.objects("conflict") for one in people), 5)
        # A name that somebody unheard has made up, with control characters in it.
        names = [session(ghost, 100 + n, [], b"\x1b[31mEve") for n in range(3)]
        injected(crew, inject(crew, attacker, tmp_path / "names", names))

        bob.say("b 3")
        wanted = sorted([*typed, *(f"a {n}" for n in range(3, 7)), "b 3"])
        crew.until(lambda: all("b 3" in one.texts() for one in people))
        for one in people:
            assert sorted(one.texts()) == wanted
            assert not one.objects("lost")
            assert len(one.objects("conflict")) == 1  # once per sender and minute
            assert "\x1b" not in one.program.out + one.program.err
        no_trace(*[one.program for one in people])


@contextmanager
def before_a_victim() -> Iterator[tuple[Flat, Namespace]]:
    """Three hosts on a link, whose router leads on to 10.99.0.0/24 and counts what is for there."""
    with flat(3) as lab:
        router, victim = lab.network.namespace("router"), lab.network.namespace("victim")
        lab.network.wire(router, "inside", lab.switch, "portr")
        lab.switch.ip("link set portr master br0")
        lab.network.wire(router, "outside", victim, "eth0")
        router.ip("addr add 10.77.0.254/24 dev inside", "addr add 10.99.0.254/24 dev outside")
        victim.ip("addr add 10.99.0.5/24 dev eth0", "route add default via 10.99.0.254 dev eth0")
        router.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        for chain in ("prerouting", "forward"):
            hook = f"type filter hook {chain} priority 0; ip daddr 10.99.0.0/24 counter;"
            router.run("nft", "-f", "-", text=f"table ip {chain} {{ chain watch {{ {hook} }}; }}\n")
        yield lab, router


def seen(router: Namespace, chain: str) -> int:
    """Packets for the victim's network that passed `chain` of the router."""
    found = re.search(r"counter packets (\d+)", router.run("nft", "list", "table", "ip", chain))
    assert found
    return int(found[1])


def test_a_nack_with_a_forged_source_sends_nothing_off_the_link(crew: Crew, tmp_path: Path) -> None:
    with before_a_victim() as (lab, router):
        a, b = meet(crew, lab, "ab")
        say_all(crew, [a, b], 60, seed=4)
        me, asker = id_of(a), bytes(range(8))
        # It makes itself known, from the victim's address; then asks for all that there is.
        forged = [session(asker, n, []) for n in range(3)]
        body = nack_body(me, [(me, 0, 30)])
        forged += [CODEC.pack(NACK, 0, asker, 10 + n, 0, body) for n in range(2_000)]
        flood = inject(crew, lab.hosts[2], tmp_path / "n", forged, 1_000, "10.99.0.5:7000")
        injected(crew, flood)
        b.say("b 30")
        crew.until(lambda: "b 30" in a.texts(), 5)
        assert 0 < seen(router, "prerouting") <= 1_000  # rule 6: per asker and minute
        assert seen(router, "forward") == 0
        no_trace(a.program, b.program)


def junk_of(rng: random.Random, real: Sequence[bytes], count: int) -> list[bytes]:
    """Random bytes, and real datagrams cut short or changed in one place."""
    out = []
    for _ in range(count):
        kind = rng.randrange(4)
        data = bytearray(rng.choice(real))
        if kind == 0:
            # A lone continuation byte: what is valid text would rightly be shown, marked.
            data = bytearray(b"\x80" + rng.randbytes(rng.randrange(1_400)))
        elif kind == 1:
            del data[rng.randrange(len(data)) :]
        elif kind == 2:
            data[rng.randrange(4, len(data))] ^= 1 << rng.randrange(8)
        else:
            data = bytearray(b"\xf5\x45" + rng.randbytes(rng.randrange(100)))
        out.append(bytes(data))
    return out


def test_junk_is_counted_and_shows_nothing(crew: Crew, tmp_path: Path) -> None:
    """10,000 datagrams of junk a second."""
    rng = random.Random(5)
    with flat(3) as lab:
        path = tmp_path / "recorded"
        ear = recorder(crew, lab.hosts[2], path)
        a, b = meet(crew, lab, "ab")
        typed = say_all(crew, [a, b], 20, seed=5)
        real = recorded(crew, ear, path)
        before = [resident_mb(one) for one in (a, b)]
        junk = junk_of(rng, real, int(10_000 * FLOOD_S))
        flood = inject(crew, lab.hosts[2], tmp_path / "junk", junk, 10_000)
        more = [(0.25 * n, one, f"{one.name} {10 + n}") for n in range(12) for one in (a, b)]
        type_at(crew, more)
        injected(crew, flood)
        wanted = sorted([*typed, *(text for _, _, text in more)])
        crew.until(lambda: len(a.texts()) >= 44 and len(b.texts()) >= 44, 10)
        for one, was in both((a, b), before):
            assert sorted(one.texts()) == wanted
            assert len(one.objects("joined")) == 1 and not one.objects("lost")
            assert resident_mb(one) - was < GROWTH_MB_MAX
            stats = one.stats(crew)
            dropped = sum(count for name, count in stats.items() if name.startswith("dropped_"))
            assert dropped > 0.5 * len(junk), stats  # the rest: real ones but for a free bit
        no_trace(a.program, b.program)
