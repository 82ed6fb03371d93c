"""The plain session: the bytes on the wire, cutting, pacing, and what any bytes become."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evloop.base.errors import Refused
from evloop.base.names import display
from evloop.room.events import ME, Said
from evloop.room.limits import (
    PLAIN_BURST,
    PLAIN_PER_S,
    PLAIN_QUEUE_MAX,
)
from evloop.room.plain import PlainSession, cut
from evloop.terminal.report import message_line

INF = float("inf")


def session(nickname: str = "Mel") -> PlainSession:
    return PlainSession(
        place="239.255.7.1:5751",
        sender_id=b"12345678",
        nickname=nickname,
        rng=random.Random(1),
        now=0.0,
    )


def sent(room: PlainSession) -> list[bytes]:
    return [data for data, target in room.datagrams_to_send() if target is None]


def shown(room: PlainSession) -> list[str]:
    said = [event for event in room.events() if isinstance(event, Said)]
    return [message_line(e.name, e.kind == ME, e.text, e.mark) for e in said]


def test_a_message_is_the_text_to_the_byte_and_shown_once() -> None:
    room = session()
    room.is_own = lambda source: source == ("127.0.0.1", 40000)
    room.say("Good morning!", 0.0, 0)
    assert sent(room) == [b"Mel: Good morning!"]
    assert shown(room) == ["Mel: Good morning!"]
    room.receive_datagram(b"Mel: Good morning!", ("127.0.0.1", 40000), 0.0)
    assert shown(room) == []
    room.receive_datagram(b"Mel: Good morning!", ("127.0.0.1", 40001), 0.0)
    assert shown(room) == ["Mel: Good morning!"]


def test_an_action_is_plain_text_too() -> None:
    room = session()
    room.say("waves", 0.0, 0, ME)
    assert sent(room) == [b"* Mel waves"]
    assert shown(room) == ["* Mel waves"]


def test_a_new_name_is_used_from_the_next_message_on() -> None:
    room = session()
    room.rename("Melanie", 0.0, 0)
    room.say("hi", 0.0, 0)
    assert sent(room) == [b"Melanie: hi"]
    with pytest.raises(Refused):
        room.rename("a:b", 0.0, 0)


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b"Bob: hello", "Bob: hello"),
        (b"Bob: hello\n", "Bob: hello"),
        (b"Bob: hello\0\0\0", "Bob: hello"),  # C programs that send their whole buffer
        (b"no name at all", "no name at all"),
        (b"a b: c", "a b: c"),
        (b"Bob: \x1b[2Jgone", "Bob: ^[[2Jgone"),
        (b"Bob: \xff\xfe", "Bob: \ufffd\ufffd"),
        ("Bob: \u202eevil".encode(), "Bob: \ufffdevil"),
        (b": x", ": x"),
    ],
)
def test_what_others_send_is_shown_safely(data: bytes, line: str) -> None:
    room = session()
    room.receive_datagram(data, ("127.0.0.1", 1), 0.0)
    assert shown(room) == [line]


@given(st.binary(max_size=400))
def test_any_bytes_are_shown_without_a_control_character(data: bytes) -> None:
    room = session()
    room.receive_datagram(data, ("127.0.0.1", 1), 0.0)
    for message in shown(room):
        for line in message.split("\n"):
            assert display(line) == line


@given(st.text(), st.integers(4, 300))
def test_cutting_keeps_every_character_whole(text: str, most: int) -> None:
    parts = cut(text, most)
    assert "".join(parts) == text.encode(errors="replace").decode()
    assert all(len(part.encode()) <= most for part in parts)
    assert all(parts) or parts == [""]


@given(st.text(alphabet="aé€😀", min_size=1, max_size=3000), st.text("aé", min_size=1, max_size=16))
def test_long_input_goes_out_as_several_messages_of_256_bytes(text: str, name: str) -> None:
    room = session(name)
    room.say(text, 0.0, 0)
    datagrams = sent(room)
    begin = f"{name}: ".encode()
    assert all(len(data) <= 256 and data.startswith(begin) for data in datagrams)
    assert b"".join(data.removeprefix(begin) for data in datagrams).decode() == text


def test_a_paste_is_paced_and_nothing_of_it_is_lost() -> None:
    room = session()
    room.say("\n".join(f"line {n}" for n in range(200)), 0.0, 0)
    got = sent(room)
    assert len(got) == PLAIN_BURST
    now = 0.0
    while room.next_deadline() < INF:
        assert room.next_deadline() > now
        now = room.next_deadline()
        room.handle_timer(now)
        got += sent(room)
    assert got == [b"Mel: line %d" % n for n in range(200)]
    assert now == pytest.approx((200 - PLAIN_BURST) / PLAIN_PER_S, rel=0.01)
    assert room.next_deadline() == INF


def test_a_full_queue_refuses_and_keeps_what_it_has() -> None:
    room = session()
    room.say("\n".join(["x"] * PLAIN_QUEUE_MAX), 0.0, 0)
    with pytest.raises(Refused):
        room.say("one more", 0.0, 0)
    assert room.queued() == PLAIN_QUEUE_MAX
    room.leave(0.0, 0)
    assert len(sent(room)) == PLAIN_QUEUE_MAX


def test_a_word_alone_is_text_and_nobodys_name() -> None:
    room = session()
    for data in (b"hello", b"Mel:", b"Mel:hello"):
        room.receive_datagram(data, ("127.0.0.1", 1), 0.0)
    assert [event[3:6:2] for event in room.events()] == [
        ("", "hello"), ("", "Mel:"), ("", "Mel:hello"),
    ]  # fmt: skip


def test_an_empty_datagram_is_nothing() -> None:
    room = session()
    room.receive_datagram(b"", ("127.0.0.1", 1), 0.0)
    assert room.events() == [] and room.stats()["dropped_empty"] == 1


def test_history_is_what_was_said_and_heard() -> None:
    room = session()
    room.say("one", 0.0, 0)
    room.receive_datagram(b"Bob: two", ("127.0.0.1", 1), 0.0)
    assert [event.text for event in room.history(5)] == ["one", "two"]
    assert [event.text for event in room.history(1)] == ["two"]
    assert room.history(0) == []
