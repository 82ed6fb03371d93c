"""The decoder of HTTP/1.1 answers: any split, any junk, every cap."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evloop.net import http1
from evloop.net.http1 import Answer, HttpError, request
from evloop.net.limits import HTTP_BODY_BYTES_MAX, HTTP_HEAD_BYTES_MAX, HTTP_LINE_BYTES_MAX


def counted(status: int, body: bytes) -> bytes:
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)


def chunked(status: int, *chunks: bytes, trailer: bytes = b"") -> bytes:
    body = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    head = b"HTTP/1.1 %d X\r\nTransfer-Encoding: chunked\r\n\r\n" % status
    return head + body + b"0\r\n" + trailer + b"\r\n"


def told(data: bytes, cuts: list[int], lines: bool) -> tuple[object, ...]:
    """What an answer tells when `data` comes in pieces, and then ends."""
    it = Answer(lines=lines)
    found: list[bytes] = []
    error = ""
    places = sorted({cut % (len(data) + 1) for cut in cuts})
    try:
        for begin, end in zip([0, *places], [*places, len(data)]):
            found += it.feed(data[begin:end])
        it.end()
    except HttpError as failure:
        error = str(failure)
    return found, it.status, it.body, it.over, it.reusable, error


GOOD = [
    (counted(200, b'{"a":1}'), False, b'{"a":1}', True),
    (counted(404, b"no"), True, b"no", True),
    (counted(200, b""), False, b"", True),
    (chunked(200, b"ab", b"c"), False, b"abc", True),
    (chunked(503, b"ab", trailer=b"Grpc-Trailer: x\r\n"), True, b"ab", True),
    (b"HTTP/1.1 204 X\r\n\r\n", False, b"", True),
    (b"HTTP/1.1 100 Continue\r\n\r\n" + counted(200, b"z"), False, b"z", True),
    (b"HTTP/1.1 200 X\r\nConnection: close\r\n\r\nuntil the end", False, b"until the end", False),
    (b"HTTP/1.1 200\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx", False, b"x", False),
]


@pytest.mark.parametrize("data, lines, body, reusable", GOOD)
@settings(max_examples=20)
@given(cuts=st.lists(st.integers(0, 200), max_size=8))
def test_any_split_of_an_answer(
    data: bytes, lines: bool, body: bytes, reusable: bool, cuts: list[int]
) -> None:
    found, _, whole, over, again, error = told(data, cuts, lines)
    assert (found, whole, over, again, error) == ([], body, True, reusable, "")


@given(
    st.lists(st.binary(min_size=1, max_size=20).filter(lambda it: b"\n" not in it), max_size=6),
    st.lists(st.integers(0, 400), max_size=8),
    st.lists(st.integers(1, 30), min_size=1, max_size=6),
)
def test_any_split_of_lines(lines: list[bytes], cuts: list[int], sizes: list[int]) -> None:
    """However the lines are cut into chunks, and the chunks into pieces."""
    text = b"".join(line + b"\n" for line in lines)
    chunks: list[bytes] = []
    at = 0
    while at < len(text):
        size = sizes[len(chunks) % len(sizes)]
        chunks.append(text[at : at + size])
        at += size
    found, status, body, over, _, error = told(chunked(200, *chunks), cuts, True)
    assert (found, status, body, over, error) == (lines, 200, b"", True, "")


BAD = [
    b"HTTP/1.0 200 OK\r\n\r\n",
    b"HTTP/2 200\r\n\r\n",
    b"SSH-2.0-OpenSSH\r\n\r\n",
    b"HTTP/1.1 2000 X\r\n\r\n",
    b"HTTP/1.1 abc X\r\n\r\n",
    b"HTTP/1.1 200 X\r\nno colon\r\n\r\n",
    b"HTTP/1.1 200 X\r\n: empty\r\n\r\n",
    b"HTTP/1.1 200 X\r\n folded: x\r\n\r\n",
    b"HTTP/1.1 200 X\r\nContent-Length: -1\r\n\r\n",
    b"HTTP/1.1 200 X\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    b"HTTP/1.1 200 X\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"HTTP/1.1 200 X\r\nTransfer-Encoding: gzip\r\n\r\n",
    b"HTTP/1.1 200 X\r\nContent-Length: %d\r\n\r\n" % (HTTP_BODY_BYTES_MAX + 1),
    b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
    b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc",
    b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
    counted(200, b"x") + b"more",
    counted(200, b"longer than it came")[:-3],
    b"HTTP/1.1 200 X\r\n",
    b"",
]


@pytest.mark.parametrize("data", BAD)
@settings(max_examples=20)
@given(cuts=st.lists(st.integers(0, 200), max_size=4))
def test_what_is_no_answer_is_an_error_for_ever(data: bytes, cuts: list[int]) -> None:
    it = Answer()
    places = sorted({cut % (len(data) + 1) for cut in cuts})
    with pytest.raises(HttpError):
        for begin, end in zip([0, *places], [*places, len(data)]):
            it.feed(data[begin:end])
        it.end()
    assert not it.over
    for again in (counted(200, b""), b"", b"x"):
        with pytest.raises(HttpError):
            it.feed(again)
    with pytest.raises(HttpError):
        it.end()


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=5), st.booleans())
def test_junk_in_any_split_tells_the_same(data: bytes, cuts: list[int], lines: bool) -> None:
    whole, pieces = told(data, [], lines), told(data, cuts, lines)
    assert whole[3] == pieces[3]
    assert bool(whole[5]) == bool(pieces[5])


def fed(it: Answer, data: bytes, times: int) -> None:
    for _ in range(times):
        it.feed(data)


def test_the_caps_hold() -> None:
    it = Answer()
    it.feed(b"HTTP/1.1 200 X\r\n")
    with pytest.raises(HttpError, match="head"):
        fed(it, b"A: " + b"x" * 1000 + b"\r\n", HTTP_HEAD_BYTES_MAX // 1000 + 1)

    it = Answer()
    it.feed(b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n")
    chunk = b"%x\r\n%b\r\n" % (2**16, b"x" * 2**16)
    with pytest.raises(HttpError, match="too long"):
        fed(it, chunk, HTTP_BODY_BYTES_MAX // 2**16 + 1)

    it = Answer(lines=True)
    it.feed(b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n")
    with pytest.raises(HttpError, match="line"):
        fed(it, chunk, HTTP_LINE_BYTES_MAX // 2**16 + 1)

    it = Answer(lines=True)  # but lines without end are no body: a watch lasts for months
    it.feed(b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n")
    whole = b"%x\r\n%b\r\n" % (2**16, b"x" * (2**16 - 1) + b"\n")
    fed(it, whole, 3 * HTTP_BODY_BYTES_MAX // 2**16)

    it = Answer()
    it.feed(b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n")
    with pytest.raises(HttpError, match="head"):
        it.feed(b"0" * 300)


def test_a_request() -> None:
    assert (
        request("GET", "/version", "h:1", None, {}) == b"GET /version HTTP/1.1\r\nHost: h:1\r\n\r\n"
    )
    sent = request("POST", "/v3/kv/txn", "[::1]:2379", b"{}", {"Authorization": "t"})
    head, _, body = sent.partition(b"\r\n\r\n")
    assert body == b"{}"
    assert set(head.split(b"\r\n")[1:]) == {
        b"Host: [::1]:2379",
        b"Content-Type: application/json",
        b"Content-Length: 2",
        b"Authorization: t",
    }
    with pytest.raises(AssertionError):
        request("GET", "/", "h", None, {"A": "x\r\nB: y"})
    assert http1.OK == 200
