"""Strict JSON: what two readers could read in two ways is refused; all else comes back."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evloop.base import strictjson
from evloop.base.errors import PARSE_ERROR, BadMessage
from evloop.base.limits import (
    INTEGER_MAX,
    JSON_DEPTH_MAX,
    PAYLOAD_BYTES_MAX,
)
from evloop.base.strictjson import decode, encode
from evloop.directory.limits import REPLY_BYTES_MAX
from tests.support.json_texts import (
    FRAGMENTS,
    VALUES,
    write,
)


def why_not(payload: bytes) -> str:
    with pytest.raises(BadMessage) as caught:
        decode(payload)
    assert caught.value.code == PARSE_ERROR == -32700
    return caught.value.sentence


@given(VALUES, st.data())
def test_what_another_encoder_wrote_is_read(value: Any, data: st.DataObject) -> None:
    assert decode(write(value, data.draw).encode()) == value


@given(VALUES)
def test_json_round_trip(value: Any) -> None:
    assert decode(encode(value)) == value
    assert json.loads(encode(value)) == value


@pytest.mark.parametrize(
    "payload",
    [
        b"", b" ", b"\0", b"nul", b"{", b"}", b"[1,]", b'{"a":1,}', b"{a:1}", b"{'a':1}", b"01",
        b"+1",
        b"1.", b".5", b"1e", b"0x1", b"1 2", b"{} {}", b"[1 2]", b'"', b'"\n"', b'"\t"', b'"\\x"',
        b'"\\u12"', b"//", b"\xef\xbb\xbf{}", b"\xff\xfe{\0}\0", b"True", b"[1}", b"]", b"[[]",
        b"{}]",
        b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1e999", b'{"a":[NaN]}',
        b'"\xff"', b'"\xc0\xaf"', b'"\xed\xa0\x80"', b'"\xf4\x90\x80\x80"',
        b'"\\ud800"', b'"\\uDC00"', b'"\\udc00\\ud800"', b'"\\ud800x"', b'{"\\ud800":1}',
        b'[["\\udfff"]]',
        b'{"a":1,"a":1}', b'{"a":1,"\\u0061":2}', b'[{"x":{"a":1,"b":2,"a":3}}]',
        b"9007199254740992", b"-9007199254740992", b"[1,99999999999999999999]", b"1" * 5000,
        b'GET / HTTP/1.1\r\n', b"\x16\x03\x01\x02\x00\x01",
    ],
)  # fmt: skip
def test_what_is_not_acceptable_json(payload: bytes) -> None:
    why_not(payload)


@pytest.mark.parametrize(
    ("payload", "value"),
    [
        (b"9007199254740991", INTEGER_MAX),
        (b"-9007199254740991", -INTEGER_MAX),
        (b" \r\n\t[1]\n ", [1]),
        (b'"\\ud83d\\ude00"', "😀"),
        (b'"\\\\ud800"', "\\ud800"),
        (b'"\\u0000"', "\0"),
        (b"1e308", 1e308),
        (b"1e-999", 0.0),
        (b'{"a":{"a":1},"b":{"a":1}}', {"a": {"a": 1}, "b": {"a": 1}}),
    ],
)
def test_what_is_acceptable_though_it_looks_odd(payload: bytes, value: object) -> None:
    assert decode(payload) == value


def depth_of(value: object) -> int:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return 1 + max(map(depth_of, value), default=0)
    return 0


@given(st.integers(min_value=1, max_value=14), st.data())
def test_depth_is_judged_exactly(depth: int, data: st.DataObject) -> None:
    value: Any = '[[[[{{{{\\"]]'  # brackets in strings do not count
    for _ in range(depth):
        wide: list[Any] = data.draw(st.sampled_from([[], [[]], [{}, "]"], [[[1]]]]))
        value = [*wide, value] if data.draw(st.booleans()) else {"{": value, "w": wide}
    payload = write(value, data.draw).encode()
    if depth_of(value) <= JSON_DEPTH_MAX:
        assert decode(payload) == value
    else:
        with pytest.raises(BadMessage, match="brackets"):
            decode(payload)


@pytest.mark.parametrize(
    "payload",
    [
        b"[" * PAYLOAD_BYTES_MAX,
        b'{"a":' * 13_000,
        b"[]," * 21_000,
        b'"[' * 30_000,
        b"[{" * 9 + b"}]" * 9,
    ],
)
def test_very_many_brackets_are_no_recursion(payload: bytes) -> None:
    why_not(payload)


@pytest.mark.parametrize(
    "payload",
    [
        b"[" * 9 + b'"' + b'\\"' * 32_000,
        b"[" * 9 + b'"' + b'\\\\"' * 21_000,
        b"[" * 9 + b'"[' * 32_000,
    ],
    ids=["escaped quotes", "escaped backslashes", "quotes"],
)
def test_strings_without_an_end_are_searched_once(payload: bytes) -> None:
    """Searching anew from each quote would hold the loop for minutes (it did)."""
    start = time.process_time()
    why_not(payload)
    assert time.process_time() - start < 1.0


@pytest.mark.parametrize(
    "use", [lambda: encode([]), lambda: decode(b"[]")], ids=["encode", "decode"]
)
def test_the_codec_is_made_at_first_use_and_kept(
    monkeypatch: pytest.MonkeyPatch, use: Callable[[], object]
) -> None:
    monkeypatch.setattr(strictjson, "shared_codec", None)
    use()
    made = strictjson.shared_codec
    assert made is not None
    assert (decode(b"[1]"), encode([1])) == ([1], b"[1]")
    assert strictjson.shared_codec is made


@given(st.binary(max_size=200) | FRAGMENTS)
def test_any_bytes_are_a_value_that_json_reads_alike_or_refused(payload: bytes) -> None:
    try:
        value = decode(payload)
    except BadMessage as error:
        assert error.code == PARSE_ERROR
        assert len(error.sentence) < REPLY_BYTES_MAX / 2
        assert error.sentence.isprintable()
    else:
        assert value == json.loads(payload)
        assert decode(encode(value)) == value
