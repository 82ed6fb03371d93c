"""NATS on the wire: any cut gives the same events, junk an error for ever, caps hold."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evloop.base.errors import FrameError
from evloop.net.limits import NATS_LINE_BYTES_MAX, NATS_PAYLOAD_BYTES_MAX
from evloop.net.natswire import (
    Info,
    Message,
    NatsDecoder,
    Refusal,
    connect,
    publish,
    subscribe,
    unsubscribe,
)

# What nats-server 2.9.10 sent at its first words, shortened.
GREETING = (
    b'INFO {"server_id":"NDZW","version":"2.9.10","proto":1,"host":"127.0.0.1","port":4222,'
    b'"headers":true,"max_payload":1048576,"client_id":4,"client_ip":"127.0.0.1"} \r\n'
)

SUBJECT = st.text("abc.012-", min_size=1, max_size=20)
EVENTS = st.one_of(
    st.tuples(st.just("msg"), SUBJECT, st.integers(0, 10**6), st.binary(max_size=100)),
    st.tuples(st.just("PING")),
    st.tuples(st.just("PONG")),
    st.tuples(st.just("+OK")),
    st.tuples(st.just("-ERR"), st.sampled_from(["Unknown Subject", "Stale Connection"])),
    st.tuples(st.just("INFO"), st.dictionaries(st.text(max_size=5), st.integers(), max_size=3)),
)


def wire_of(event: tuple[object, ...], reply: bool) -> bytes:
    if event[0] == "msg":
        _, subject, sid, payload = event
        assert isinstance(payload, bytes)
        inbox = " _INBOX.1" if reply else ""
        return f"MSG {subject} {sid}{inbox} {len(payload)}\r\n".encode() + payload + b"\r\n"
    if event[0] == "-ERR":
        return f"-ERR '{event[1]}'\r\n".encode()
    if event[0] == "INFO":
        return b"INFO " + json.dumps(event[1]).encode() + b" \r\n"
    return f"{event[0]}\r\n".encode()


def plain(event: object) -> object:
    if isinstance(event, Message):
        return event.subject, event.sid, event.payload
    if isinstance(event, Refusal):
        return event.text
    return event.fields if isinstance(event, Info) else event


@given(st.lists(EVENTS, max_size=12), st.booleans(), st.data())
def test_any_cut_gives_the_same_events(
    events: list[tuple[object, ...]], reply: bool, data: st.DataObject
) -> None:
    wire = b"".join(wire_of(one, reply) for one in events)
    whole = [plain(one) for one in NatsDecoder().feed(wire)]
    assert len(whole) == sum(one[0] != "+OK" for one in events)
    assert [one for one in whole if isinstance(one, tuple)] == [
        (subject, str(sid), payload)
        for kind, subject, sid, payload in (one for one in events if one[0] == "msg")
    ]
    cuts = data.draw(st.lists(st.integers(0, len(wire)), max_size=8).map(sorted))
    decoder, pieces = NatsDecoder(), []
    for begin, end in zip([0, *cuts], [*cuts, len(wire)]):
        pieces += [plain(one) for one in decoder.feed(wire[begin:end])]
    assert pieces == whole
    assert [plain(one) for one in decoder.feed(b"ping\r\n")] == ["PING"]


def test_the_greeting_of_a_real_server() -> None:
    [info] = NatsDecoder().feed(GREETING)
    assert isinstance(info, Info) and info.fields["version"] == "2.9.10"


@pytest.mark.parametrize(
    ("wire", "why"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n", "no NATS: a line that begins 'HTTP/1.1'"),
        (b"\r\n", "no NATS: a line that begins ''"),
        (b"MSG a 1\r\n", "no NATS: MSG a 1"),
        (b"MSG a 1 -3\r\n", "no NATS: MSG a 1 -3"),
        ("MSG a 1 ٣\r\n".encode(), "no NATS: MSG a 1 ٣"),
        (b"MSG a 1 3\r\nabcde", "no NATS: a payload does not end where its length says"),
        (b"INFO []\r\n", "no NATS: INFO without a JSON object"),
        (b"INFO " + b"[" * 9_999 + b"\r\n", "no NATS: INFO without a JSON object"),
        (b"\xff\r\n", "no NATS: a line that is no UTF-8"),
        (b"MSG a 1 65537\r\n", "a NATS message of 65537 bytes; 65536 at most"),
        (
            b"MSG a 1 " + b"9" * 5_000 + b"\r\n",
            f"a NATS message of {'9' * 20} bytes; 65536 at most",
        ),
        (b"x" * (NATS_LINE_BYTES_MAX + 1), f"no NATS: a line of over {NATS_LINE_BYTES_MAX} bytes"),
    ],
)
def test_what_is_no_nats_is_an_error_for_ever(wire: bytes, why: str) -> None:
    decoder = NatsDecoder()
    for more in (wire, b"PING\r\n", b""):
        with pytest.raises(FrameError) as error:
            decoder.feed(more)
        assert str(error.value) == why


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=5).map(sorted))
def test_junk_never_gives_anything_but_events_or_that_error(junk: bytes, cuts: list[int]) -> None:
    decoder, failed = NatsDecoder(), False
    for begin, end in zip([0, *cuts], [*cuts, len(junk)]):
        try:
            decoder.feed(junk[begin:end])
            assert not failed
        except FrameError:
            failed = True


def test_the_longest_payload_passes_in_pieces() -> None:
    payload = b"\r\n" * (NATS_PAYLOAD_BYTES_MAX // 2)
    decoder = NatsDecoder()
    assert decoder.feed(b"MSG s 1 %d\r\n" % len(payload)) == []
    for begin in range(0, len(payload), 4_096):
        assert decoder.feed(payload[begin : begin + 4_096]) == []
    [message] = decoder.feed(b"\r\n")
    assert isinstance(message, Message) and message.payload == payload


def test_what_we_say() -> None:
    assert connect({"verbose": False, "echo": False}) == (
        b'CONNECT {"verbose":false,"echo":false}\r\n'
    )
    assert subscribe("evloop.main.r.*.north", 7) == b"SUB evloop.main.r.*.north 7\r\n"
    assert unsubscribe(7) == b"UNSUB 7\r\n"
    assert publish(b"a.b", b"\xf5E\r\n") == b"PUB a.b 4\r\n\xf5E\r\n\r\n"
