"""The length prefix: any cut gives the same frames, junk gives frames and then only FrameError."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evloop.base.errors import FrameError, LocalProtocolError
from evloop.base.limits import (
    FRAME_BYTES_MAX,
    LARGE_FRAME_BYTES,
    LENGTH_BYTES,
    PAYLOAD_BYTES_MAX,
)
from evloop.framing import FrameDecoder, pack_frame

PAYLOADS = st.lists(st.binary(max_size=300) | st.just(b"x" * PAYLOAD_BYTES_MAX), max_size=12)
CUTS = st.lists(st.integers(min_value=1, max_value=5000), min_size=1, max_size=60)


def pull(decoder: FrameDecoder) -> list[bytes]:
    frames = []
    while (frame := decoder.next_frame()) is not None:
        frames.append(frame)
    return frames


def pieces(stream: bytes, sizes: list[int]) -> list[bytes]:
    """The stream cut into pieces of `sizes`, over and over; the same `sizes` cut all of it."""
    cut = []
    at = turn = 0
    while at < len(stream):
        # Few pieces for large streams, or one example would take a second.
        size = max(sizes[turn % len(sizes)], len(stream) // 400)
        cut.append(stream[at : at + size])
        at += size
        turn += 1
    return cut


def frame_by_hand(payload: bytes) -> bytes:
    """As the document draws it, without the module's own packing."""
    return len(payload).to_bytes(4, "big") + payload


@given(PAYLOADS, CUTS)
def test_any_split_gives_the_same_frames(payloads: list[bytes], sizes: list[int]) -> None:
    decoder = FrameDecoder()
    frames = []
    for piece in pieces(b"".join(map(frame_by_hand, payloads)), sizes):
        decoder.feed(piece)
        frames += pull(decoder)
        # What stays is one unfinished frame, never more.
        assert len(decoder) < FRAME_BYTES_MAX
    assert frames == payloads
    assert len(decoder) == 0
    decoder.finish()


@given(st.lists(st.binary(max_size=30), max_size=8))
def test_byte_by_byte(payloads: list[bytes]) -> None:
    decoder = FrameDecoder()
    frames = []
    for byte in b"".join(map(frame_by_hand, payloads)):
        decoder.feed(bytes([byte]))
        frames += pull(decoder)
    assert frames == payloads


@given(st.binary(max_size=PAYLOAD_BYTES_MAX))
def test_packing_is_the_header_and_the_payload(payload: bytes) -> None:
    assert pack_frame(payload) == frame_by_hand(payload)


def test_too_long_a_payload_is_our_own_mistake() -> None:
    assert len(pack_frame(b"x" * PAYLOAD_BYTES_MAX)) == FRAME_BYTES_MAX
    with pytest.raises(LocalProtocolError):
        pack_frame(b"x" * (PAYLOAD_BYTES_MAX + 1))


def reference(stream: bytes) -> tuple[list[bytes], bool]:
    """The frames at the head of `stream`, and whether a header that is too large follows."""
    frames: list[bytes] = []
    while len(stream) >= LENGTH_BYTES:
        (length,) = struct.unpack(">I", stream[:LENGTH_BYTES])
        if length > PAYLOAD_BYTES_MAX:
            return frames, True
        if len(stream) < LENGTH_BYTES + length:
            break
        frames.append(stream[LENGTH_BYTES : LENGTH_BYTES + length])
        stream = stream[LENGTH_BYTES + length :]
    return frames, False


SMALL_HEADERS = st.integers(min_value=0, max_value=6).map(lambda n: n.to_bytes(4, "big"))
JUNK = st.lists(st.binary(max_size=12) | SMALL_HEADERS, max_size=20).map(b"".join)


@given(JUNK, CUTS)
def test_junk_gives_frames_and_then_only_frame_error(junk: bytes, sizes: list[int]) -> None:
    decoder = FrameDecoder()
    frames = []
    failed = False
    for piece in pieces(junk, sizes):
        decoder.feed(piece)
        try:
            while (frame := decoder.next_frame()) is not None:
                assert not failed, "a failed decoder gave a frame"
                frames.append(frame)
            assert not failed, "a failed decoder forgot its failure"
        except FrameError:
            failed = True
            assert len(decoder) == 0
        assert len(decoder) < FRAME_BYTES_MAX
    assert (frames, failed) == reference(junk)


def test_the_length_is_judged_at_the_header() -> None:
    decoder = FrameDecoder()
    header = (PAYLOAD_BYTES_MAX + 1).to_bytes(4, "big")
    decoder.feed(header[:3])
    assert decoder.next_frame() is None
    decoder.feed(header[3:])
    with pytest.raises(FrameError, match="65537"):
        decoder.next_frame()


@pytest.mark.parametrize("length", [PAYLOAD_BYTES_MAX + 1, 0x47455420, 2**32 - 1])
def test_failure_is_for_ever(length: int) -> None:
    decoder = FrameDecoder()
    decoder.feed(frame_by_hand(b"fine") + length.to_bytes(4, "big") + frame_by_hand(b"lost"))
    assert decoder.next_frame() == b"fine"
    for _ in range(3):
        with pytest.raises(FrameError):
            decoder.next_frame()
        with pytest.raises(FrameError):
            decoder.finish()
        decoder.feed(frame_by_hand(b"more"))
        assert len(decoder) == 0, "a failed decoder holds nothing"


@pytest.mark.parametrize("beginning", [b"\0", b"\0\0\0", b"\0\0\0\5", b"\0\0\0\5abcd"])
def test_the_end_inside_a_frame_is_an_error(beginning: bytes) -> None:
    decoder = FrameDecoder()
    decoder.feed(frame_by_hand(b"whole") + beginning)
    assert pull(decoder) == [b"whole"]
    with pytest.raises(FrameError, match=f"after {len(beginning)} bytes"):
        decoder.finish()
    with pytest.raises(FrameError):
        decoder.next_frame()


def test_an_empty_payload_is_a_legal_frame() -> None:
    decoder = FrameDecoder()
    decoder.feed(b"\0\0\0\0\0\0\0\0")
    assert pull(decoder) == [b"", b""]
    decoder.finish()


def test_a_started_body_survives_the_compaction_of_what_was_before_it() -> None:
    decoder = FrameDecoder()
    stream = frame_by_hand(b"first") + frame_by_hand(b"second")
    decoder.feed(stream[:-3])
    assert pull(decoder) == [b"first"]
    assert len(decoder) == len(stream) - 3 - 9
    assert decoder.next_frame() is None  # asked again without a new byte
    decoder.feed(stream[-3:])
    assert pull(decoder) == [b"second"]


@pytest.mark.parametrize(
    ("first", "what"),
    [
        (b"\x16\x03\x01\x02", "TLS"),
        (b"GET ", "HTTP"),
        (b"POST", "HTTP"),
        (b"SSH-", "SSH"),
        (b"\x7f\xff\xff\xff", "is larger than 65536"),
    ],
)
def test_who_is_at_the_wrong_port_is_told(first: bytes, what: str) -> None:
    decoder = FrameDecoder()
    decoder.feed(first)
    with pytest.raises(FrameError, match=what):
        decoder.next_frame()


def test_the_next_size_is_known_with_its_header() -> None:
    decoder = FrameDecoder()
    assert decoder.next_size() == 0
    decoder.feed(b"\0\0\1")
    assert decoder.next_size() == 0
    decoder.feed(b"\0" + b"x" * 256 + pack_frame(b"abc"))
    assert decoder.next_size() == 256
    assert decoder.next_frame() == b"x" * 256
    assert decoder.next_size() == 3
    assert decoder.next_frame() == b"abc"
    assert decoder.next_size() == 0


@given(PAYLOADS, CUTS, st.lists(st.integers(min_value=1, max_value=20), min_size=1))
def test_frames_by_the_list_are_the_same_frames(
    payloads: list[bytes], sizes: list[int], most: list[int]
) -> None:
    decoder = FrameDecoder()
    frames, turn = [], 0
    for piece in pieces(b"".join(map(frame_by_hand, payloads)), sizes):
        decoder.feed(piece)
        while found := decoder.next_frames(most[turn % len(most)]):
            assert len(found) <= most[turn % len(most)]
            assert all(len(frame) <= LARGE_FRAME_BYTES for frame in found[:-1])
            frames += found
            turn += 1
        assert len(decoder) < FRAME_BYTES_MAX
    assert frames == payloads
    decoder.finish()


def test_the_frames_before_a_bad_one_come_first() -> None:
    decoder = FrameDecoder()
    decoder.feed(frame_by_hand(b"a") + frame_by_hand(b"b") + b"\xff" * 9)
    assert decoder.next_frames(9) == [b"a", b"b"]
    with pytest.raises(FrameError):
        decoder.next_frames(9)
