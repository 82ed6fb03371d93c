"""The place of a room that was made without one follows from its name, by the protocol's rule."""

from __future__ import annotations

import random
from hashlib import blake2b

from hypothesis import given
from hypothesis import strategies as st

from evloop.base.names import check_address, check_port, fold, place_of
from evloop.directory.limits import PLACES_OF_A_NAME
from evloop.directory.places import drawn_place, places_of

NAMES = st.text(min_size=1, max_size=64).filter(lambda name: name.isprintable())


def test_the_vectors_of_the_page() -> None:
    """docs/directory-protocol.md prints them; a test of the house compares it with this one."""
    places = places_of("lab")
    assert place_of(*next(places)) == "239.255.239.39:28794"
    assert place_of(*next(places)) == "239.255.129.80:26084"
    assert place_of(*next(places_of("lab", ipv6=True))) == "[ff15::77d8:33a0]:27666"


@given(NAMES)
def test_the_places_are_those_of_the_rule(name: str) -> None:
    """Written down once more, as the page says it."""
    folded = fold(name)
    fours, sixes = list(places_of(folded)), list(places_of(folded, ipv6=True))
    assert len(fours) == len(sixes) == PLACES_OF_A_NAME == 64
    for k in range(PLACES_OF_A_NAME):
        digest = blake2b(folded.encode() + b"\0" + bytes([k]), digest_size=8).digest()
        h = int.from_bytes(digest, "big")
        address = f"239.255.{1 + h % 254}.{h // 254 % 256}"
        assert fours[k] == (address, 25000 + h // 65024 % 4536)
        address, port = sixes[k]
        assert port == 25000 + h // 2**32 % 4536
        given = f"FF15:0:0:0:0:0:{h % 2**32 // 2**16:04X}:{h % 2**16:04X}"
        assert address == check_address(given)


@given(st.integers(), st.booleans())
def test_a_drawn_place_is_one_that_may_be(seed: int, ipv6: bool) -> None:
    address, port = drawn_place(random.Random(seed), ipv6)
    assert check_address(address) == address and (":" in address) == ipv6
    assert check_port(port) == port and 25000 <= port <= 29535
    if not ipv6:
        first, second, third, fourth = map(int, address.split("."))
        assert (first, second) == (239, 255) and 1 <= third <= 254 and 0 <= fourth <= 255
