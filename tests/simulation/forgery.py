"""Datagrams made by hand, for strangers who follow no rule, and for whoever has a room's key.

Written from the document and not from `evloop.room.reliable.packets`: what the two disagree on is
a bug in one of them. Everything here carries a right tag (in an open room anybody can make one; a
`SealedPlace` has the key of its room) unless it is spoilt on purpose by `mutate`.
"""

from __future__ import annotations

from hashlib import blake2b
from random import Random
from struct import Struct

DATA, NACK, SESSION, BYE, PROBE = 1, 2, 3, 4, 5
KINDS = {DATA: "DATA", NACK: "NACK", SESSION: "SESSION", BYE: "BYE", PROBE: "PROBE"}
REPAIRED, SEALED = 0x01, 0x02
MORE = 0x08
HEADER_BYTES = 24
TAG_BYTES = 16

_HEADER = Struct(">HBBHH8sII")
_U32 = Struct(">I")
_PARENT = Struct(">8sI")
_RANGE = Struct(">8sII")
_SESSION = Struct(">QI8sIIBBHB")
_PROBE = Struct(">QIBBB")


class SealedPlace(str):
    """A place with the key of the sealed room there."""

    key: bytes

    def __new__(cls, place: str, room_key: bytes) -> SealedPlace:
        made = super().__new__(cls, place)
        made.key = room_key
        return made

    def hashed(self, use: str, size: int, message: bytes) -> bytes:
        subkey = blake2b(use.encode(), digest_size=32, key=self.key).digest()
        return blake2b(message, digest_size=size, key=subkey).digest()


def key_id_of(room_key: bytes) -> bytes:
    found = blake2b(b"id", digest_size=32, key=room_key).digest()[:2]
    return found if any(found) else b"\0\1"


def _sealed(
    place: SealedPlace, kind: int, sender: bytes, seq: int, body: bytes, wall: int, flags: int
) -> bytes:
    key_id = int.from_bytes(key_id_of(place.key), "big")
    length = 8 + len(body)
    header = _HEADER.pack(0xF545, 0x10 | kind, flags & 8 | 2, key_id, length, sender, seq, wall)
    nonce = place.hashed("siv", 16, header + body)[:8]
    blocks = range(-(-len(body) // 64))
    stream = b"".join(
        place.hashed("stream", 64, number.to_bytes(4, "big") + header + nonce) for number in blocks
    )
    hidden = bytes(one ^ other for one, other in zip(body, stream))
    under = header[:3] + bytes([flags & 0xFE | 2]) + header[4:] + nonce + hidden
    tag = place.hashed("tag", 16, place.encode() + b"\0" + under)
    return under[:3] + bytes([flags | 2]) + under[4:] + tag


def seal(
    place: str, kind: int, sender: bytes, seq: int, body: bytes, wall: int, flags: int
) -> bytes:
    """A whole datagram with a right tag; `flags` as in byte 3."""
    if isinstance(place, SealedPlace):
        return _sealed(place, kind, sender, seq, body, wall, flags)
    header = _HEADER.pack(0xF545, 0x10 | kind, flags, 0, len(body), sender, seq, wall)
    tagged = header[:3] + bytes([flags & 0x0E]) + header[4:] + body
    return header + body + blake2b(place.encode() + b"\0" + tagged, digest_size=16).digest()


def data(
    place: str,
    sender: bytes,
    seq: int,
    text: str,
    *,
    name: str = "Eve",
    lamport: int = 1,
    wall: int = 0,
    flags: int = 0,
    parents: tuple[tuple[bytes, int], ...] = (),
) -> bytes:
    """A DATA datagram of one part, kind text."""
    spelt = name.encode()
    body = _U32.pack(lamport) + bytes([len(parents)])
    body += b"".join(_PARENT.pack(*parent) for parent in parents)
    body += bytes([len(spelt)]) + spelt + b"\0" + text.encode()
    return seal(place, DATA, sender, seq, body, wall, flags)


def nack(
    place: str,
    sender: bytes,
    counter: int,
    ranges: list[tuple[bytes, int, int]],
    to: bytes = bytes(8),
) -> bytes:
    """A NACK for half open `ranges` of (sender, lo, hi)."""
    body = to + bytes([len(ranges)]) + b"".join(_RANGE.pack(*entry) for entry in ranges)
    return seal(place, NACK, sender, counter, body, 0, 0)


def session(
    place: str,
    sender: bytes,
    counter: int,
    entries: list[tuple[bytes, int, int]],
    *,
    name: str = "Eve",
    digest: int = 0,
    sent: int = 0,
    ask: int = 0,
    loss: int = 255,
    members: int = 2,
    echo: tuple[bytes, int, int] = (bytes(8), 0, 0),
    strangers: tuple[bytes, ...] = (),
    known: tuple[bytes, ...] = (),
) -> bytes:
    """A SESSION that claims to hold `entries` of (sender, lo, hi)."""
    spelt = name.encode()
    body = _SESSION.pack(digest, sent, *echo, ask, loss, members, len(spelt)) + spelt
    body += bytes([len(entries)]) + b"".join(_RANGE.pack(*entry) for entry in entries)
    if isinstance(place, SealedPlace):
        body += bytes([len(strangers), len(known)]) + b"".join(strangers + known)
    return seal(place, SESSION, sender, counter, body, 0, 0)


def bye(place: str, sender: bytes, counter: int) -> bytes:
    """A BYE."""
    return seal(place, BYE, sender, counter, b"", 0, 0)


def probe(
    place: str, sender: bytes, nonce: int, *, sent: int = 5, origin: int = 0, padding: int = 0
) -> bytes:
    """A PROBE of a burst of 20; `origin` 0 asks who hears, 1 is a directory's."""
    body = _PROBE.pack(nonce, sent, origin, nonce % 20, 20) + bytes(padding)
    return seal(place, PROBE, sender, 0, body, 0, 0)


def mutate(datagram: bytes, rng: Random) -> bytes:
    """`datagram` as a broken link or a fuzzer might leave it: flipped, cut, stretched, or junk."""
    spoilt = bytearray(datagram)
    how = rng.randrange(5)
    if how == 0:
        del spoilt[rng.randrange(len(spoilt)) :]
    elif how == 1:
        spoilt += rng.randbytes(rng.randrange(1, 40))
    elif how == 2:
        return rng.randbytes(rng.randrange(64))
    else:
        for _ in range(1 if how == 3 else rng.randrange(2, 9)):
            spoilt[rng.randrange(len(spoilt))] ^= 1 << rng.randrange(8)
    return bytes(spoilt)
