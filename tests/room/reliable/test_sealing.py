"""The datagrams of a sealed room: the vectors, a second implementation, and any bytes at all."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evloop.base.errors import LocalProtocolError
from evloop.room.reliable.limits import SEQ_END
from evloop.room.reliable.packets import (
    BYE,
    DATA,
    MORE,
    NACK,
    NOBODY,
    PROBE,
    SESSION,
    Codec,
    data_body,
    nack_body,
    probe_body,
    ranges,
    session_body,
)
from evloop.room.reliable.sealing import (
    OVERHEAD_BYTES,
    SealedCodec,
    key_id_of,
    names_tail,
    room_key_of,
    subkey,
)
from tests.support.hostile import short_bodies
from tests.support.libsodium import Sodium

VECTORS: dict[str, Any] = json.loads(Path(__file__).with_name("sealed-vectors.json").read_text())
PLACE = VECTORS["place"]
SECRET = bytes.fromhex(VECTORS["secret"])
KEY = bytes.fromhex(VECTORS["room_key"])
DATAGRAMS = {name: bytes.fromhex(text) for name, text in VECTORS["datagrams"].items()}
PLAIN = {name: bytes.fromhex(text) for name, text in VECTORS["plain_bodies"].items()}
MEL = bytes.fromhex("0102030405060708")
ANN = bytes.fromhex("1112131415161718")
EVE = bytes.fromhex("2122232425262728")
CODEC = SealedCodec(PLACE, KEY)
# What an open room's reasons are, and that of what was sent to one member alone.
REASONS = (
    "short", "magic", "direct", "version", "type", "flags", "length", "key", "tag", "body",
    "number",
)  # fmt: skip

ids = st.binary(min_size=8, max_size=8)
u32 = st.integers(0, 2**32 - 1)
kinds = st.sampled_from([DATA, NACK, SESSION, BYE])


@pytest.fixture(scope="module")
def sodium() -> Sodium:
    bindings = pytest.importorskip("nacl.bindings", reason="needs PyNaCl (the test extra)")
    return Sodium(bindings, KEY, PLACE)


def _flagged(data: bytes, flags: int) -> bytes:
    return data[:3] + bytes([flags]) + data[4:]


# -- the vectors -----------------------------------------------------------------------------------


def test_keys() -> None:
    assert room_key_of(SECRET, PLACE) == KEY
    assert {use: subkey(KEY, use).hex() for use in VECTORS["subkeys"]} == VECTORS["subkeys"]
    assert key_id_of(KEY) == CODEC.key_id == VECTORS["key_id"]
    passphrase = bytes.fromhex(VECTORS["passphrase_secret"])
    assert key_id_of(room_key_of(passphrase, PLACE)) == VECTORS["passphrase_key_id"]
    assert room_key_of(SECRET, "239.255.7.2:5751") != KEY


def test_data_vectors() -> None:
    first = CODEC.pack(DATA, 0, MEL, 0, 1795348801, PLAIN["data"])
    assert first == DATAGRAMS["data"]
    copy = CODEC.as_copy(first, 2)
    assert copy == DATAGRAMS["data, 2 copies to come"]
    assert copy == CODEC.pack(DATA, 0x20, MEL, 0, 1795348801, PLAIN["data"])
    repair = CODEC.as_repair(copy)
    assert repair == DATAGRAMS["data, as a repair by who held that copy"]
    fields = (1, (), b"Mel", 0, b"Good morning!")
    for data, flags in ((first, 0x02), (copy, 0x22), (repair, 0x23)):
        assert CODEC.open(data) == (DATA, flags, MEL, 0, 1795348801, fields)
        assert CODEC.same(data, first)


def test_a_data_of_three_blocks() -> None:
    name = "data, seq 3, two parents, more parts, 128 bytes"
    body = PLAIN[name]
    assert CODEC.pack(DATA, MORE, MEL, 3, 1795348801, body) == DATAGRAMS[name]
    packet = CODEC.open(DATAGRAMS[name])
    assert isinstance(packet, tuple)
    assert packet[1] == MORE | 0x02
    lamport, parents, sender, kind, text = packet[5]
    assert (lamport, parents, sender, kind) == (7, ((ANN, 4), (EVE, 0)), b"Mel", 0)
    assert data_body(lamport, parents, sender, kind, text) == body


def test_nack_vector() -> None:
    body = nack_body(NOBODY, [(ANN, 3, 5)])
    assert CODEC.pack(NACK, 0, MEL, 0, 0, body) == DATAGRAMS["nack"]
    assert CODEC.open(DATAGRAMS["nack"]) == (NACK, 2, MEL, 0, 0, (NOBODY, body[9:]))


def test_session_vector() -> None:
    listed = [(MEL, 0, 1), (ANN, 0, 5)]
    digest = 0x81C8F5F0639F870C
    body = session_body(
        digest, 1_000_000, (ANN, 999_000, 500), 1, 30, 2, b"Mel", listed
    ) + names_tail([EVE], [ANN])
    assert body == PLAIN["session"]
    assert CODEC.pack(SESSION, 0, MEL, 1, 0, body) == DATAGRAMS["session"]
    packet = CODEC.open(DATAGRAMS["session"])
    assert isinstance(packet, tuple)
    *head, raw, strangers, members = packet[5]
    assert head == [digest, 1_000_000, ANN, 999_000, 500, 1, 30, 2, b"Mel"]
    assert (ranges(raw), strangers, members) == (listed, EVE, ANN)


def test_bye_vector() -> None:
    assert CODEC.pack(BYE, 0, MEL, 2, 0, b"") == DATAGRAMS["bye"]
    assert CODEC.open(DATAGRAMS["bye"]) == (BYE, 2, MEL, 2, 0, ())


@pytest.mark.parametrize("name", DATAGRAMS)
def test_one_flipped_bit_is_refused_but_flag_01(name: str) -> None:
    vector = DATAGRAMS[name]
    for at in range(len(vector)):
        for bit in range(8):
            flipped = bytearray(vector)
            flipped[at] ^= 1 << bit
            opened = CODEC.open(bytes(flipped))
            if (at, bit) == (3, 0):
                assert isinstance(opened, tuple)
            else:
                assert opened in REASONS, (at, bit)


# -- a second implementation -----------------------------------------------------------------------


def test_libsodium_makes_the_vectors(sodium: Sodium) -> None:
    assert sodium.blake2b(b"evloop sealed 1\0" + PLACE.encode(), 32, SECRET) == KEY
    made = sodium.seal(DATA, 0x20, MEL, 0, 1795348801, PLAIN["data"])
    assert made == DATAGRAMS["data, 2 copies to come"]
    assert sodium.seal(SESSION, 0, MEL, 1, 0, PLAIN["session"]) == DATAGRAMS["session"]
    for name, datagram in DATAGRAMS.items():
        assert sodium.open(datagram) is not None, name


@given(
    kinds, st.sampled_from([0, MORE, 0x30, 0xF8]), ids, st.integers(0, SEQ_END - 1), u32,
    st.binary(max_size=1_152),
)  # fmt: skip
def test_libsodium_agrees_byte_for_byte(
    sodium: Sodium, kind: int, flags: int, sender: bytes, seq: int, wall: int, plain: bytes
) -> None:
    made = CODEC.pack(kind, flags, sender, seq, wall, plain)
    assert made == sodium.seal(kind, flags, sender, seq, wall, plain)
    assert sodium.open(made) == plain


# -- what must hold --------------------------------------------------------------------------------


@given(ids, st.integers(0, SEQ_END - 1), u32, st.integers(0, 255), st.binary(max_size=900))
def test_data_comes_back(sender: bytes, seq: int, wall: int, kind: int, text: bytes) -> None:
    body = data_body(5, ((ANN, 7),), b"Mel", kind, text)
    made = CODEC.pack(DATA, 0x40, sender, seq, wall, body)
    assert made == CODEC.pack(DATA, 0x40, sender, seq, wall, body), "equal messages, equal bytes"
    fields = (5, ((ANN, 7),), b"Mel", kind, text)
    assert CODEC.open(made) == (DATA, 0x42, sender, seq, wall, fields)
    repair = CODEC.as_repair(made)
    assert [at for at in range(len(made)) if made[at] != repair[at]] == [3]
    assert CODEC.open(repair) == (DATA, 0x43, sender, seq, wall, fields)


@given(st.lists(st.tuples(ids, u32, u32), max_size=50), st.lists(ids, max_size=16), st.data())
def test_session_comes_back(
    listed: list[tuple[bytes, int, int]], strangers: list[bytes], data: st.DataObject
) -> None:
    members = data.draw(st.lists(ids, max_size=32 - len(strangers)))
    body = session_body(1, 2, (ANN, 3, 4), 0, 5, 6, b"Mel", listed)
    made = CODEC.pack(SESSION, 0, MEL, 9, 0, body + names_tail(strangers, members))
    assert len(made) <= 1_200
    packet = CODEC.open(made)
    assert isinstance(packet, tuple)
    raw, *names = packet[5][-3:]
    assert (ranges(raw), names) == (listed, [b"".join(strangers), b"".join(members)])


@given(st.binary(max_size=1_300))
def test_no_bytes_raise(data: bytes) -> None:
    assert CODEC.open(data) in REASONS


@given(kinds, st.binary(max_size=200), st.integers(0, 255))
def test_no_body_raises(kind: int, body: bytes, count: int) -> None:
    for made in (body, body[:4] + bytes([count]) + body[5:], body[:33] + bytes([count]) * 3):
        packet = CODEC.open(CODEC.pack(kind, 0, MEL, 0, 0, made))
        assert packet == "body" or isinstance(packet, tuple)


def test_no_length_and_no_count_raise() -> None:
    for kind, body in product((DATA, NACK, SESSION, BYE), short_bodies()):
        packet = CODEC.open(CODEC.pack(kind, 0, MEL, 0, 0, body))
        assert packet == "body" or isinstance(packet, tuple), (kind, body)


def test_names_beyond_their_number_are_no_session() -> None:
    body = session_body(1, 2, (ANN, 3, 4), 0, 5, 6, b"Mel", [])
    for tail in (b"", b"\0", b"\1\0", b"\0\1" + bytes(7), b"\x10\x11" + bytes(8 * 33), b"\0\0x"):
        assert CODEC.open(CODEC.pack(SESSION, 0, MEL, 0, 0, body + tail)) == "body"
    with pytest.raises(LocalProtocolError):
        names_tail([ANN] * 16, [MEL] * 17)


def test_two_texts_under_one_id_and_number_do_not_share_a_stream() -> None:
    """A machine that was cloned: its two messages laid over each other tell nothing."""
    texts = [data_body(1, (), b"Mel", 0, text) for text in (b"attack at dawn", b"attack at noon")]
    one, other = [CODEC.pack(DATA, 0, MEL, 0, 7, text) for text in texts]
    assert one[24:32] != other[24:32]
    over = [bytes(a ^ b for a, b in zip(*pair)) for pair in ((one[32:-16], other[32:-16]), texts)]
    assert over[0] != over[1]


def test_nothing_of_the_text_or_the_name_is_on_the_wire() -> None:
    rng = Random(1)
    seen = [0] * 256
    for seq in range(200):
        made = CODEC.pack(DATA, 0, MEL, seq, 7, data_body(1, (), b"Mel", 0, b"Good morning! " * 9))
        assert b"Mel" not in made
        assert b"morning" not in made
        for byte in made[24:]:
            seen[byte] += 1
    expected = sum(seen) / 256
    assert all(0.7 * expected < count < 1.3 * expected for count in seen), rng


def test_each_reason_in_its_order() -> None:
    data, bye = DATAGRAMS["data"], DATAGRAMS["bye"]

    def changed(at: int, value: int) -> bytes:
        return data[:at] + bytes([value]) + data[at + 1 :]

    assert CODEC.open(b"Mel: Good morning!" * 3) == "magic"
    assert CODEC.open(data[:39]) == "short"
    assert CODEC.judge(data, True) == "direct"
    assert CODEC.judge(_flagged(bye, 0x03), True) == "direct"
    assert isinstance(CODEC.judge(CODEC.as_repair(data), True), tuple)
    assert CODEC.open(changed(2, 0x21)) == "version"
    probe = CODEC.pack(PROBE, 0, MEL, 0, 0, probe_body(1, 2, 0, 0, 1, 99))
    assert CODEC.open(probe) == CODEC.open(changed(2, 0x1F)) == "type"
    assert CODEC.open(_flagged(data, 0x06)) == "flags"
    assert CODEC.open(data + b"\0") == "length"
    assert CODEC.open(changed(4, 0x65)) == CODEC.open(changed(5, 0)) == "key"
    assert CODEC.open(_flagged(data, 0)) == "key"
    assert CODEC.open(changed(40, 9)) == "tag"
    assert CODEC.open(_flagged(data, 0x12)) == "tag", "how many copies follow is under the tag"
    assert CODEC.open(CODEC.pack(DATA, 0, MEL, 0, 0, b"\0" * 5)) == "body"
    assert CODEC.open(CODEC.pack(DATA, 0, MEL, SEQ_END, 0, PLAIN["data"])) == "number"


def test_a_body_shorter_than_its_nonce_has_no_room_for_a_tag_of_ours() -> None:
    """Made with the key, by a program with a bug."""
    head = DATAGRAMS["bye"][:24]
    head = head[:6] + (3).to_bytes(2, "big") + head[8:]
    made = CODEC.tagged(head + b"abc" + bytes(16))
    assert CODEC.open(made) == "body"


def test_open_and_sealed_rooms_do_not_hear_each_other() -> None:
    body = data_body(1, (), b"Mel", 0, b"hello")
    assert CODEC.open(Codec(PLACE).pack(DATA, 0, MEL, 0, 0, body)) == "key"
    assert Codec(PLACE).open(DATAGRAMS["data"]) == "key"
    other = SealedCodec(PLACE, room_key_of(b"another secret 16", PLACE))
    assert other.open(DATAGRAMS["data"]) == "key"
    elsewhere = SealedCodec("239.255.7.2:5751", KEY)  # the key of one place used at another
    assert elsewhere.open(DATAGRAMS["data"]) == "tag"


@pytest.mark.parametrize("at", range(16))
def test_a_secret_with_one_byte_changed_opens_nothing(at: int) -> None:
    """Also where the key ids happen to be equal, which is the first thing that a stranger looks
    for: then it is the tag that differs."""
    for bit in range(8):
        wrong = SECRET[:at] + bytes([SECRET[at] ^ 1 << bit]) + SECRET[at + 1 :]
        other = SealedCodec(PLACE, room_key_of(wrong, PLACE))
        for data in DATAGRAMS.values():
            claims = data[:4] + other.key_id.to_bytes(2, "big") + data[6:]
            assert other.open(data) in ("key", "tag") and other.open(claims) == "tag"


def test_what_we_send_is_bounded() -> None:
    most = 1_200 - OVERHEAD_BYTES
    assert len(CODEC.pack(DATA, 0, MEL, 0, 0, bytes(most))) == 1_200
    with pytest.raises(LocalProtocolError):
        CODEC.pack(DATA, 0, MEL, 0, 0, bytes(most + 1))
    with pytest.raises(LocalProtocolError):
        SealedCodec(PLACE, b"short")
    with pytest.raises(LocalProtocolError):
        CODEC.move("239.255.7.2:5751")
