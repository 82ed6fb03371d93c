"""The datagrams of a reliable room: the document's vectors, round trips, and any bytes at all."""

from __future__ import annotations

import tracemalloc
from itertools import product
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evloop.base.errors import LocalProtocolError
from evloop.room.reliable.limits import NACK_RANGES_MAX, SEQ_END, SESSION_ENTRIES_MAX
from evloop.room.reliable.packets import (
    ASKER,
    BYE,
    DATA,
    DIRECTORY,
    MORE,
    NACK,
    NOBODY,
    PROBE,
    REASONS,
    RELAYED,
    SESSION,
    Codec,
    as_copy,
    as_ranges,
    as_repair,
    data_body,
    nack_body,
    probe_body,
    ranges,
    session_body,
)
from evloop.room.reliable.vector import digest_item
from tests.support.hostile import short_bodies

PLACE = "239.255.7.1:5751"
MEL = bytes.fromhex("0102030405060708")
ANN = bytes.fromhex("1112131415161718")
CODEC = Codec(PLACE)

DATA_VECTOR = bytes.fromhex(
    "f5451100000000170102030405060708000000006b02d9410000000100034d656c00476f6f64206d6f726e696e67"
    "214e9330e5cba6b114f83c6ca2ab7ccf32"
)
NACK_VECTOR = bytes.fromhex(
    "f5451200000000190102030405060708000000000000000000000000000000000111121314151617180000000300"
    "000005c99784ba02c8e3eeca2dcbf58930c7b0"
)
SESSION_VECTOR = bytes.fromhex(
    "f5451300000000450102030405060708000000010000000081c8f5f0639f870c000f42401112131415161718000f"
    "3e58000001f4011e0002034d656c020102030405060708000000000000000111121314151617180000000000000005"
    "267cfa69ce6517583255f6db4e255cae"
)
BYE_VECTOR = bytes.fromhex(
    "f54514000000000001020304050607080000000200000000143f05a30fe94d7c19a210c9f29ce716"
)
PROBE_VECTOR = bytes.fromhex(
    "f54515000000000f010203040506070800000000000000001122334455667788000f4240000214"
    "22362d0b00107200a59940c5cca54565"
)
VECTORS = [DATA_VECTOR, NACK_VECTOR, SESSION_VECTOR, BYE_VECTOR, PROBE_VECTOR]

ids = st.binary(min_size=8, max_size=8)
u32 = st.integers(0, 2**32 - 1)
numbers = st.integers(0, SEQ_END - 1)
u64 = st.integers(0, 2**64 - 1)
names = st.binary(max_size=32)
range_lists = st.lists(st.tuples(ids, u32, u32), max_size=50)


def test_data_vector() -> None:
    body = data_body(1, (), b"Mel", 0, b"Good morning!")
    assert CODEC.pack(DATA, 0, MEL, 0, 1795348801, body) == DATA_VECTOR
    fields = (1, (), b"Mel", 0, b"Good morning!")
    assert CODEC.open(DATA_VECTOR) == (DATA, 0, MEL, 0, 1795348801, fields)


def test_probe_vector() -> None:
    fields = (0x1122334455667788, 1_000_000, ASKER, 2, 20)
    assert CODEC.pack(PROBE, 0, MEL, 0, 0, probe_body(*fields, 55)) == PROBE_VECTOR
    assert CODEC.open(PROBE_VECTOR) == (PROBE, 0, MEL, 0, 0, fields)


def test_a_probe_is_padded_with_zeros_and_with_nothing_else() -> None:
    body = probe_body(7, 2**32 + 5, DIRECTORY, 19, 20, 1_200)
    datagram = CODEC.pack(PROBE, 0, MEL, 0, 0, body)
    assert len(datagram) == 1_200
    assert CODEC.open(datagram) == (PROBE, 0, MEL, 0, 0, (7, 5, DIRECTORY, 19, 20))
    for wrong in (body[:-1] + b"x", probe_body(7, 5, 2, 0, 1, 55), body[:14]):
        assert CODEC.open(CODEC.pack(PROBE, 0, MEL, 0, 0, wrong)) == "body"


def test_a_repair_differs_in_one_byte() -> None:
    repair = as_repair(DATA_VECTOR)
    assert [n for n in range(len(repair)) if repair[n] != DATA_VECTOR[n]] == [3]
    assert repair[3] == 1
    packet = CODEC.open(repair)
    assert isinstance(packet, tuple)
    assert packet[1] == RELAYED
    assert as_repair(as_copy(DATA_VECTOR, 9)) == repair


def test_nack_vector() -> None:
    assert CODEC.pack(NACK, 0, MEL, 0, 0, nack_body(NOBODY, [(ANN, 3, 5)])) == NACK_VECTOR
    packet = CODEC.open(NACK_VECTOR)
    assert isinstance(packet, tuple)
    to, raw = packet[5]
    assert (to, ranges(raw)) == (NOBODY, [(ANN, 3, 5)])


def test_digest_vector() -> None:
    assert digest_item(MEL, 1) ^ digest_item(ANN, 5) == 0x81C8F5F0639F870C


def test_session_vector() -> None:
    digest = 0x81C8F5F0639F870C
    listed = [(MEL, 0, 1), (ANN, 0, 5)]
    body = session_body(digest, 1_000_000, (ANN, 999_000, 500), 1, 30, 2, b"Mel", listed)
    assert CODEC.pack(SESSION, 0, MEL, 1, 0, body) == SESSION_VECTOR
    packet = CODEC.open(SESSION_VECTOR)
    assert isinstance(packet, tuple)
    *head, raw = packet[5]
    assert head == [digest, 1_000_000, ANN, 999_000, 500, 1, 30, 2, b"Mel"]
    assert ranges(raw) == listed


def test_bye_vector() -> None:
    assert CODEC.pack(BYE, 0, MEL, 2, 0, b"") == BYE_VECTOR
    assert CODEC.open(BYE_VECTOR) == (BYE, 0, MEL, 2, 0, ())


@given(
    ids, numbers, u32, u32, st.lists(st.tuples(ids, numbers), max_size=3), names,
    st.integers(0, 255), st.binary(max_size=900), st.integers(0, 15), st.booleans(),
)  # fmt: skip
def test_data_comes_back(
    sender: bytes, seq: int, wall: int, lamport: int, parents: list[tuple[bytes, int]],
    name: bytes, kind: int, text: bytes, more: int, part: bool,
) -> None:  # fmt: skip
    body = data_body(lamport, parents, name, kind, text)
    flags = MORE * part | more << 4
    datagram = CODEC.pack(DATA, flags, sender, seq, wall, body)
    assert len(datagram) <= 1_200
    fields = (lamport, tuple(parents), name, kind, text)
    assert CODEC.open(datagram) == (DATA, flags, sender, seq, wall, fields)


@given(ids, u32, ids, st.lists(st.tuples(ids, u32, u32), max_size=55))
def test_nack_comes_back(
    sender: bytes, seq: int, to: bytes, listed: list[tuple[bytes, int, int]]
) -> None:
    packet = CODEC.open(CODEC.pack(NACK, 0, sender, seq, 0, nack_body(to, listed)))
    assert isinstance(packet, tuple)
    assert (packet[5][0], ranges(packet[5][1])) == (to, listed)


@given(ids, u64, u32, st.tuples(ids, u32, u32), st.integers(0, 255), st.integers(0, 255),
       st.integers(0, 65535), names, range_lists)  # fmt: skip
def test_session_comes_back(
    sender: bytes, digest: int, sent: int, echo: tuple[bytes, int, int], ask: int, loss: int,
    members: int, name: bytes, listed: list[tuple[bytes, int, int]],
) -> None:  # fmt: skip
    body = session_body(digest, sent, echo, ask, loss, members, name, listed)
    packet = CODEC.open(CODEC.pack(SESSION, 0, sender, 7, 0, body))
    assert isinstance(packet, tuple)
    *head, raw = packet[5]
    assert head == [digest, sent, *echo, ask, loss, members, name]
    assert ranges(raw) == listed


@given(st.binary(max_size=1_300))
def test_no_bytes_raise(data: bytes) -> None:
    assert CODEC.open(data) in REASONS


@given(st.integers(1, 4), st.binary(max_size=200), st.integers(0, 255))
def test_no_body_raises(kind: int, body: bytes, count: int) -> None:
    # Under a right tag, so that the parsers of the bodies see the bytes; counts are often wild.
    for made in (body, body[:4] + bytes([count]) + body[5:], body[:8] + bytes([count]) + body[9:]):
        packet = CODEC.open(CODEC.pack(kind, 0, MEL, 0, 0, made))
        assert packet == "body" or isinstance(packet, tuple)


def test_no_length_and_no_count_raise() -> None:
    for kind, body in product(range(1, 6), short_bodies()):
        packet = CODEC.open(CODEC.pack(kind, 0, MEL, 0, 0, body))
        assert packet == "body" or isinstance(packet, tuple), (kind, body)


def test_mutated_datagrams_are_dropped() -> None:
    rng = Random(5)
    for _ in range(5_000):
        data = bytearray(rng.choice(VECTORS))
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(data)) if data else 0
            data = data or bytearray(1)
            action = rng.randrange(3)
            if action == 0:
                data[at] = rng.randrange(256)
            elif action == 1:
                del data[at:]
                data += b"\0" * rng.randrange(2)
            else:
                data[at:at] = rng.randbytes(rng.randint(1, 9))
        mutated = bytes(data)
        packet = CODEC.open(mutated)
        if isinstance(packet, tuple):  # only what is not under the tag was changed
            assert mutated[:3] + mutated[4:] in [v[:3] + v[4:] for v in VECTORS]
            assert mutated[3] & 0x0E == 0
        else:
            assert packet in REASONS


@pytest.mark.parametrize("vector", VECTORS)
def test_one_flipped_bit_is_caught(vector: bytes) -> None:
    for at in range(len(vector)):
        for bit in range(8):
            flipped = bytearray(vector)
            flipped[at] ^= 1 << bit
            opened = CODEC.open(bytes(flipped))
            covered = at != 3 or 1 << bit & 0x0E
            assert isinstance(opened, str) == bool(covered), (at, bit)


def test_each_reason() -> None:
    def changed(at: int, value: int) -> bytes:
        return DATA_VECTOR[:at] + bytes([value]) + DATA_VECTOR[at + 1 :]

    assert CODEC.open(b"") == "magic"
    assert CODEC.open(b"Mel: Good morning!") == "magic"
    assert CODEC.open(DATA_VECTOR[:39]) == "short"
    assert CODEC.open(changed(0, 0)) == "magic"
    assert CODEC.open(changed(2, 0x21)) == "version"
    assert CODEC.open(changed(2, 0x1F)) == "type"
    assert CODEC.open(changed(3, 0x04)) == "flags"
    assert CODEC.open(changed(3, 0x02)) == "key"  # of a sealed room: see test_sealing
    assert CODEC.open(changed(5, 0x02)) == "key"
    assert CODEC.open(changed(7, 0x18)) == "length"
    assert CODEC.open(DATA_VECTOR + b"\0") == "length"
    assert CODEC.open(changed(30, 9)) == "tag"
    assert CODEC.open(CODEC.pack(DATA, 0, MEL, 0, 0, b"\0" * 5)) == "body"
    assert CODEC.open(CODEC.pack(BYE, 0, MEL, 0, 0, b"x")) == "body"


def test_the_place_is_under_the_tag() -> None:
    assert Codec("239.255.7.2:5751").open(DATA_VECTOR) == "tag"


def test_declared_lengths_allocate_nothing() -> None:
    """A datagram that declares the most of everything, and is short."""
    lies = [
        CODEC.pack(NACK, 0, MEL, 0, 0, bytes(8) + b"\xff"),
        CODEC.pack(SESSION, 0, MEL, 0, 0, bytes(32) + b"\xff"),
        CODEC.pack(SESSION, 0, MEL, 0, 0, bytes(33) + b"\xff"),
        CODEC.pack(DATA, 0, MEL, 0, 0, b"\0\0\0\1\3\xff"),
        DATA_VECTOR[:6] + b"\xff\xff" + DATA_VECTOR[8:],
    ]
    tracemalloc.start()
    try:
        for lie in lies:
            assert CODEC.open(lie) in ("body", "length")
        assert tracemalloc.get_traced_memory()[1] < 20_000
    finally:
        tracemalloc.stop()


def test_no_more_is_named_than_a_member_would() -> None:
    """All that a datagram names costs its readers time, so the counts themselves are judged."""

    def opened(kind: int, begin: bytes, count: int) -> object:
        body = begin + bytes([count]) + MEL * 2 * count
        return CODEC.open(CODEC.pack(kind, 0, MEL, 0, 0, body))

    session = session_body(0, 0, (MEL, 0, 0), 0, 0, 2, b"Mel", [])[:-1]
    for kind, begin, most in (
        (NACK, MEL, NACK_RANGES_MAX),
        (SESSION, session, SESSION_ENTRIES_MAX),
    ):
        assert isinstance(opened(kind, begin, most), tuple)
        assert opened(kind, begin, most + 1) == "body"


def test_what_we_send_is_bounded() -> None:
    with pytest.raises(LocalProtocolError):
        CODEC.pack(DATA, 0, MEL, 0, 0, bytes(1_161))
    with pytest.raises(LocalProtocolError):
        data_body(0, [(MEL, 0)] * 4, b"Mel", 0, b"")
    with pytest.raises(LocalProtocolError):
        data_body(0, (), b"Mel", 0, bytes(901))
    with pytest.raises(LocalProtocolError):
        nack_body(NOBODY, [(MEL, 0, 1)] * 56)


@given(st.sets(st.tuples(ids, st.integers(0, 9))), st.integers(1, 6))
def test_ranges_hold_what_they_say(keys: set[tuple[bytes, int]], most: int) -> None:
    ordered = sorted(keys)
    found, taken = as_ranges(ordered, most)
    assert len(found) <= most
    held = [(sender, seq) for sender, lo, hi in found for seq in range(lo, hi)]
    assert held == ordered[:taken]
    assert taken == len(ordered) or len(found) == most
