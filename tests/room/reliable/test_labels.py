"""Labels: nobody is shown as somebody who is present without a mark."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evloop.base.errors import Refused
from evloop.base.names import check_nickname, fold
from evloop.room.reliable.labels import Labels
from evloop.room.reliable.limits import LABELS_KEPT_MAX, MEMBERS_MAX

BOB, EVE, TWIN = b"bbbbbbb\x2a", b"eeeeeee\xee", b"eeeeeeb\x2a"


def room(**members: bytes) -> Labels:
    labels = Labels()
    for name, sender in members.items():
        labels.put(sender, name)
    return labels


def test_who_is_not_present_never_looks_like_who_is() -> None:
    labels = room(Bob=BOB)
    assert labels.label(BOB, "Bob") == "Bob"
    assert labels.label(EVE, "Bob") == "Bob~65ee"
    assert labels.label(EVE, "bo\ufe0fB") == "bo\ufe0fB~65ee"
    labels.put(EVE, "Eve")
    assert labels.label(EVE, "Bob") == "Bob~65ee"  # present, and a message under another name
    assert labels.label(EVE, "Eve") == "Eve"


def test_an_id_that_ends_alike_gets_a_longer_tag() -> None:
    labels = room(Bob=BOB)
    assert labels.label(TWIN, "Bob") == "Bob~65622a"  # all that ends in 622a would be Bob's
    labels.put(TWIN, "bob")
    assert labels.label(BOB, "Bob") == "Bob~62622a"
    assert labels.label(TWIN, "bob") == "bob~65622a"
    labels.drop(TWIN, "bob")
    assert labels.label(BOB, "Bob") == "Bob"
    nearly = b"x" + BOB[1:]
    assert labels.label(nearly, "Bob") == f"Bob~{nearly.hex()}"


def test_names_of_a_newer_unicode_are_shown_and_bad_ones_are_not() -> None:
    labels = Labels()
    assert labels.label(BOB, "Bob\U0001fbff") == "Bob\U0001fbff"
    for bad in ("", "a b", "\u3164", "Bob~622a", EVE.hex(), "B\u202eob", "x" * 255, "a:b"):
        labels.put(BOB, bad)
        assert labels.label(BOB, bad) == BOB.hex()
        labels.drop(BOB, bad)
    assert labels.label(BOB, "Bob") == "Bob"


NAMES = st.sampled_from(["Bob", "bob", "BOB\ufe0f", "Eve", "eve", "a b", "Zo\xeb", "Zoe\u0308"])
IDS = st.binary(min_size=2, max_size=2).map(lambda end: bytes(6) + end) | st.sampled_from(
    [BOB, EVE, TWIN, b"x" + BOB[1:], b"xbbbbbb\x2b"]
)


@given(st.dictionaries(IDS, NAMES, max_size=12), st.dictionaries(IDS, NAMES, max_size=12))
def test_labels_tell_everybody_present_from_everybody_else(
    present: dict[bytes, str], gone: dict[bytes, str]
) -> None:
    labels = Labels()
    for sender, name in [*gone.items(), *present.items()]:
        labels.put(sender, name)
    for sender, name in gone.items():
        labels.drop(sender, name)
    for sender, name in present.items():
        labels.put(sender, name)  # some were dropped again by the line above
    shown = {sender: fold(labels.label(sender, name)) for sender, name in present.items()}
    assert len(set(shown.values())) == len(shown)
    for sender, name in gone.items():
        label = fold(labels.label(sender, name))
        assert label not in [other for who, other in shown.items() if who != sender]
    for sender, name in present.items():
        labels.drop(sender, name)
    assert labels.present == {}


def test_what_is_kept_of_names_is_bounded() -> None:
    labels = Labels()
    for n in range(LABELS_KEPT_MAX + 2):
        assert labels.label(n.to_bytes(8, "big"), f"n{n}") == f"n{n}"
    assert len(labels.judged) <= LABELS_KEPT_MAX


def calls(act: Callable[[], object]) -> int:
    """How many lines of Python `act` runs."""
    count = 0

    def trace(frame: object, event: str, argument: object) -> object:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)  # type: ignore[arg-type]
    try:
        act()
    finally:
        sys.settrace(before)
    return count


def test_a_room_full_of_one_name_costs_no_more_than_an_empty_one() -> None:
    """Forgers pay nothing for 16,384 ids of one name: neither may we for each of them."""
    labels, rng = Labels(), random.Random(1)

    def join() -> None:
        labels.put(EVE, "Bob")
        labels.label(EVE, "Bob")

    small = calls(join)
    for _ in range(MEMBERS_MAX - 1):
        labels.put(rng.randbytes(8), "Bob")
    labels.drop(EVE, "Bob")
    large = calls(join)
    assert large <= small + 40


@given(st.binary(min_size=8, max_size=8), NAMES)
def test_no_label_can_be_chosen_as_a_name(sender: bytes, name: str) -> None:
    labels = room(Bob=b"12345678", Eve=b"87654321")
    label = labels.label(sender, name)
    if "~" in label or label == sender.hex():
        with pytest.raises(Refused):
            check_nickname(label)
