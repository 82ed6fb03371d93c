"""Datagrams of a room as a stranger would write them, from the room's protocol: for loads.

Not evloop's own codec, on purpose: what is fed to a client from outside should come from outside.
"""

from __future__ import annotations

from hashlib import blake2b
from struct import pack

DATA, SESSION = 1, 3
NO_ONE = bytes(8)


def datagram(place: str, kind: int, sender: bytes, seq: int, wall: int, body: bytes) -> bytes:
    """A whole datagram of the open room at `place` ("239.255.7.1:5751")."""
    head = pack(">2sBBHH8sII", b"\xf5E", 16 + kind, 0, 0, len(body), sender, seq, wall) + body
    return head + blake2b(place.encode() + b"\0" + head, digest_size=16).digest()


def data(
    place: str, sender: bytes, seq: int, text: str, *, name: str, lamport: int, wall: int
) -> bytes:
    """A DATA without parents."""
    nick = name.encode()
    body = pack(">IBB", lamport, 0, len(nick)) + nick + b"\0" + text.encode()
    return datagram(place, DATA, sender, seq, wall, body)


def digest(held: dict[bytes, int]) -> int:
    """The digest of {sender: hi}."""
    whole = 0
    for sender, hi in held.items():
        if hi:
            raw = blake2b(sender + pack(">I", hi), digest_size=8).digest()
            whole ^= int.from_bytes(raw, "big")
    return whole


def session(
    place: str,
    sender: bytes,
    counter: int,
    held: dict[bytes, int],
    *,
    name: str,
    members: int,
    sent_us: int,
) -> bytes:
    """A SESSION that lists all of `held` (at most 50), from 0 on, and has seen no loss."""
    nick = name.encode()
    body = pack(">QI8sIIBBHB", digest(held), sent_us, NO_ONE, 0, 0, 0, 0, members, len(nick))
    body += nick + pack(">B", len(held))
    for origin, hi in held.items():
        body += pack(">8sII", origin, 0, hi)
    return datagram(place, SESSION, sender, counter, 0, body)


# Known bytes, reckoned elsewhere: a load dropped for a wrong byte would measure nothing.
_VECTOR = data(
    "239.255.7.1:5751",
    bytes(range(1, 9)),
    0,
    "Good morning!",
    name="Mel",
    lamport=1,
    wall=1795348801,
)
assert _VECTOR.hex() == (
    "f5451100000000170102030405060708000000006b02d941"
    "0000000100034d656c00476f6f64206d6f726e696e6721"
    "4e9330e5cba6b114f83c6ca2ab7ccf32"
)
