"""Where a room is when nobody says: its place follows from its name.

So a directory that was started again, or another one on the same network, gives a room of the same
name the same place, and its members meet whichever directory they asked. The rule is part of the
directory protocol ("No address given"):

    h = BLAKE2b-64(fold(name) in UTF-8, 00, k as one byte), big-endian, k = 0, 1, ... 63

    IPv4   239.255.(1 + h mod 254).(h div 254 mod 256), port 25000 + (h div 65024 mod 4536)
    IPv6   ff15:: with the 32 bits h mod 2^32 at its end, port 25000 + (h div 2^32 mod 4536)

The addresses are RFC 2365's IPv4 local scope without its first and last 256, and RFC 4291's site
scope. The ports lie below those that Linux (from 32768) and Darwin (from 49152) give to ordinary
sockets, which would be in the way.
"""

from __future__ import annotations

from evloop.directory.limits import PLACES_OF_A_NAME

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random

    Place = tuple[str, int]

_THIRDS, _FOURTHS = 254, 256  # values of the third and fourth number of an IPv4 address
_LOW_BITS = 1 << 32  # of an IPv6 address
_PORT_FIRST, _PORTS = 25_000, 4_536
_HASH_BYTES = 8


def places_of(folded: str, ipv6: bool = False) -> Iterator[Place]:
    """The places of the room whose name folds to `folded`, the one to be taken first before all.

    Where another room has that one, the next is taken. There are none on a Python that was built
    without BLAKE2b: its directory takes any free place.
    """
    try:  # hashlib has it from there, and loads OpenSSL, 4 MB that many directories do without
        from _blake2 import blake2b
    except ImportError:
        return
    place = _ipv6 if ipv6 else _ipv4
    start = blake2b(folded.encode() + b"\0", digest_size=_HASH_BYTES)
    for k in range(PLACES_OF_A_NAME):
        one = start.copy()
        one.update(bytes((k,)))
        yield place(int.from_bytes(one.digest(), "big"))


def drawn_place(rng: Random, ipv6: bool = False) -> Place:
    """Any of all these places, for a name all of whose own are taken."""
    return (_ipv6 if ipv6 else _ipv4)(rng.getrandbits(8 * _HASH_BYTES))


def _ipv4(value: int) -> Place:
    rest, third = divmod(value, _THIRDS)
    rest, fourth = divmod(rest, _FOURTHS)
    return f"239.255.{1 + third}.{fourth}", _PORT_FIRST + rest % _PORTS


def _ipv6(value: int) -> Place:
    from ipaddress import IPv6Address  # late: most rooms are IPv4

    rest, low = divmod(value, _LOW_BITS)
    return str(IPv6Address((0xFF15 << 112) | low)), _PORT_FIRST + rest % _PORTS
