"""Frames of the relay: the vectors of the protocol's page, both ways, and any bytes at all."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evloop.base.errors import BadMessage
from evloop.base.limits import PAYLOAD_BYTES_MAX
from evloop.directory import relay_frames
from evloop.directory.limits import RELAY_DATAGRAM_BYTES_MAX
from evloop.directory.protocol import RESULT, parse_from_server
from evloop.directory.relay_frames import HISTORY, TO_ROOM, Entered, read_entered
from evloop.framing import FrameDecoder
from tests.support.sources import ROOT

MEMBER = bytes.fromhex("1112131415161718")
BYE = bytes.fromhex(
    "f54514000000000001020304050607080000000200000000143f05a30fe94d7c19a210c9f29ce716"
)
DATA = bytes.fromhex(
    "f5451100000000170102030405060708000000006b02d9410000000100034d656c00476f6f64206d6f726e696e67"
    "214e9330e5cba6b114f83c6ca2ab7ccf32"
)
PLAIN = b"Mel: Good morning!"
TO_7_BYE, TO_8_PLAIN, TO_ONE_DATA, PAGE_DATA = (
    bytes.fromhex("0000002ef55200000007") + BYE,
    bytes.fromhex("00000018f55200000008") + PLAIN,
    bytes.fromhex("0000004df55500000007") + MEMBER + DATA,
    bytes.fromhex("0000004bf548000000076b02d942003f") + DATA,
)
HANDLES = st.integers(0, 2**32 - 1)
DATAGRAMS = st.binary(min_size=1, max_size=RELAY_DATAGRAM_BYTES_MAX)


def _payload(frame: bytes) -> bytes:
    decoder = FrameDecoder()
    decoder.feed(frame)
    payload = decoder.next_frame()
    assert payload is not None
    assert not decoder.rest
    return payload


def test_the_vectors_as_they_are_made() -> None:
    assert relay_frames.room_frame(7, BYE) == TO_7_BYE
    assert relay_frames.room_frame(8, PLAIN) == TO_8_PLAIN
    assert relay_frames.member_frame(7, MEMBER, DATA) == TO_ONE_DATA
    assert relay_frames.history_frames(7, [(1795348802, DATA)]) == [PAGE_DATA]


def test_the_vectors_as_they_are_read() -> None:
    assert relay_frames.parse_up(_payload(TO_7_BYE)) == (7, None, BYE)
    assert relay_frames.parse_up(_payload(TO_8_PLAIN)) == (8, None, PLAIN)
    assert relay_frames.parse_up(_payload(TO_ONE_DATA)) == (7, MEMBER, DATA)
    assert relay_frames.parse_up(_payload(PAGE_DATA)) is None
    assert relay_frames.parse_down(_payload(TO_7_BYE)) == (TO_ROOM, 7, BYE)
    assert relay_frames.parse_down(_payload(TO_8_PLAIN)) == (TO_ROOM, 8, PLAIN)
    assert relay_frames.parse_down(_payload(TO_ONE_DATA)) is None
    assert relay_frames.parse_down(_payload(PAGE_DATA)) == (HISTORY, 7, [(1795348802, DATA)])


def test_the_page_has_these_vectors() -> None:
    text = (ROOT / "docs" / "directory-protocol.md").read_text()
    blocks = re.findall(r"^  ```hex\n((?:  [0-9a-f]+\n)+)  ```$", text, re.M)
    frames = [bytes.fromhex("".join(block.split())) for block in blocks]
    assert frames == [TO_7_BYE, TO_8_PLAIN, TO_ONE_DATA, PAGE_DATA]


@given(HANDLES, DATAGRAMS, st.binary(min_size=8, max_size=8))
def test_frames_come_back_as_they_were(handle: int, datagram: bytes, member: bytes) -> None:
    to_room = _payload(relay_frames.room_frame(handle, datagram))
    assert relay_frames.is_relay(to_room)
    assert relay_frames.parse_up(to_room) == (handle, None, datagram)
    assert relay_frames.parse_down(to_room) == (TO_ROOM, handle, datagram)
    to_one = _payload(relay_frames.member_frame(handle, member, datagram))
    assert relay_frames.parse_up(to_one) == (handle, member, datagram)


@given(HANDLES, st.lists(st.tuples(HANDLES, DATAGRAMS), max_size=100))
def test_history_comes_back_in_its_order(handle: int, records: list[tuple[int, bytes]]) -> None:
    found = []
    frames = relay_frames.history_frames(handle, records)
    for frame in frames:
        payload = _payload(frame)
        assert len(payload) <= PAYLOAD_BYTES_MAX
        parsed = relay_frames.parse_down(payload)
        assert parsed is not None
        assert parsed[:2] == (HISTORY, handle)
        found += parsed[2]
    assert found == records
    # As few as it takes: no two of them that follow each other fit into one.
    sizes = [len(frame) - 10 for frame in frames]
    assert all(one + two > PAYLOAD_BYTES_MAX - 6 - 2_054 for one, two in zip(sizes, sizes[1:]))


@given(
    st.binary(max_size=40)
    | st.tuples(
        st.sampled_from([b"\xf5\x52", b"\xf5\x55", b"\xf5\x48", b"\xf5\x00"]),
        st.binary(max_size=60) | st.binary(min_size=2_040, max_size=2_080),
    ).map(b"".join)
)
def test_any_bytes_are_read_or_nothing(payload: bytes) -> None:
    up = relay_frames.parse_up(payload)
    if up is not None:
        handle, member, datagram = up
        again = (
            relay_frames.room_frame(handle, datagram)
            if member is None
            else relay_frames.member_frame(handle, member, datagram)
        )
        assert again[5:] == payload[1:]  # the first byte is the caller's to look at
        assert 0 < len(datagram) <= RELAY_DATAGRAM_BYTES_MAX
    down = relay_frames.parse_down(payload)
    if down is not None and down[0] == HISTORY:
        again = b"".join(relay_frames.history_frames(down[1], down[2]))
        assert again[5:] == payload[1:]


def test_a_datagram_too_long_is_nothing() -> None:
    longest = bytes(RELAY_DATAGRAM_BYTES_MAX)
    for more in (False, True):
        datagram = longest + b"\0" * more
        for frame in (
            relay_frames.room_frame(1, datagram),
            relay_frames.member_frame(1, MEMBER, datagram),
        ):
            assert (relay_frames.parse_up(_payload(frame)) is None) == more
        down = relay_frames.parse_down(_payload(relay_frames.room_frame(1, datagram)))
        assert (down is None) == more


# -- the result of enter ---------------------------------------------------------------------------

BOUND = [MEMBER, bytes(range(8))]
WHOLE = Entered(7, MEMBER, "full", 3, True, "192.0.2.10:51234", BOUND, 1_234)


@pytest.mark.parametrize(
    ("told", "text"),
    [
        (Entered(7), '{"room":{},"handle":7}'),
        (Entered(7, MEMBER), '{"room":{},"handle":7,"keeper":"1112131415161718"}'),
        (
            Entered(7, granted="off"),
            '{"room":{},"handle":7,"relay":"off","heard":null,"multicast":false,"leg":null,'
            '"bound":[]}',
        ),
        (
            WHOLE,
            '{"room":{},"handle":7,"keeper":"1112131415161718","relay":"full","heard":3,'
            '"multicast":true,"leg":"192.0.2.10:51234",'
            '"bound":["1112131415161718","0001020304050607"],"others":1234}',
        ),
    ],
)
def test_what_enter_tells(told: Entered, text: str) -> None:
    body = told.extend(b'{"room":{}}')
    assert body == text.encode()
    read = read_entered(json.loads(body))
    assert read.extend(b'{"room":{}}') == body
    assert list(read.bound) == list(told.bound)


def test_an_older_directory_tells_nothing() -> None:
    results: list[object] = [{"room": {}}, {}, None, []]
    for result in results:
        read = read_entered(result)
        assert (read.handle, read.granted, read.multicast) == (0, "", False)


@pytest.mark.parametrize(
    "wrong",
    [
        {"handle": -1}, {"handle": 2**32}, {"handle": True}, {"handle": "7"},
        {"keeper": "11"}, {"keeper": 5}, {"keeper": "0000000000000000"},
        {"relay": "on"}, {"relay": None}, {"relay": []},
        {"heard": -1}, {"heard": 1.5}, {"heard": "3"},
        {"multicast": 1}, {"leg": 5}, {"leg": "x" * 60},
        {"bound": None}, {"bound": {}}, {"bound": [1]}, {"bound": ["1112131415161718", "x"]},
        {"others": -1}, {"others": True}, {"others": "5"},
    ],
)  # fmt: skip
def test_a_lying_directory_is_no_directory(wrong: dict[str, object]) -> None:
    with pytest.raises(BadMessage):
        read_entered(wrong)


def test_a_flood_of_bound_members_is_cut() -> None:
    told = read_entered({"bound": ["1112131415161718"] * 5_000})
    assert len(told.bound) == 64


def test_what_enter_tells_is_a_result() -> None:
    """The body goes into a reply as it is."""
    reply = b'{"jsonrpc":"2.0","id":1,"result":%b}' % WHOLE.extend(b'{"room":{}}')
    kind, _, result = parse_from_server(reply)
    assert kind == RESULT
    assert read_entered(result).leg == "192.0.2.10:51234"
