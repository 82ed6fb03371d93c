"""The codec of multicast DNS: the vectors of the contract both ways, hostile bytes, its caps."""

from __future__ import annotations

import struct
import time
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evloop.base.errors import LocalProtocolError
from evloop.net import mdns
from evloop.net.limits import (
    MDNS_ATTRIBUTES_MAX,
    MDNS_DATAGRAM_BYTES_MAX,
    MDNS_LABELS_MAX,
    MDNS_NAME_BYTES_MAX,
    MDNS_POINTERS_MAX,
    MDNS_RECORDS_MAX,
)
from evloop.net.mdns import (
    AAAA,
    ANSWER,
    ANY,
    PTR,
    QUERY,
    SERVICE,
    SRV,
    TXT,
    A,
    Bad,
    Message,
    Question,
    Record,
    attributes,
    build,
    labels_of,
    name_of,
    pack_strings,
    parse,
)
from tests.support.mdns import ADDRESS, HOST, LABEL, STRINGS, VECTORS, announcement, mutant

MESSAGES = {
    "question": Message(0, QUERY, [Question(SERVICE, PTR, False)]),
    "known": Message(
        0, QUERY, [Question(SERVICE, PTR, False)], [Record(SERVICE, PTR, False, 4500, LABEL)]
    ),
    "announcement": announcement(),
    "goodbye": announcement(ttls=(0, 0, 0, 0)),
    "one-shot": Message(
        0x1234,
        ANSWER,
        [Question(SERVICE, PTR, False)],
        [Record(SERVICE, PTR, False, 10, LABEL)],
        (),
        [
            Record(LABEL, SRV, False, 10, (0, 0, 44444, HOST)),
            Record(LABEL, TXT, False, 10, pack_strings(STRINGS)),
            Record(HOST, A, False, 10, ADDRESS),
        ],
    ),
    "probe": Message(
        0,
        QUERY,
        [Question(LABEL, ANY, False), Question(HOST, ANY, False)],
        (),
        [
            Record(LABEL, SRV, False, 120, (0, 0, 44444, HOST)),
            Record(LABEL, TXT, False, 4500, pack_strings(STRINGS)),
            Record(HOST, A, False, 120, ADDRESS),
        ],
    ),
}


def listed(message: Message) -> Message:
    """The same with lists, as `parse` makes it."""
    return Message(*message[:2], *[list(part) for part in message[2:]])  # type: ignore[arg-type]


@pytest.mark.parametrize("name", VECTORS)
def test_a_vector_is_built_to_the_byte(name: str) -> None:
    assert build(MESSAGES[name], legacy=name == "one-shot").hex() == VECTORS[name].hex()


@pytest.mark.parametrize("name", VECTORS)
def test_a_vector_is_read(name: str) -> None:
    assert parse(VECTORS[name]) == listed(MESSAGES[name])


def test_the_goodbye_is_the_announcement_without_time_to_live() -> None:
    data = bytearray(VECTORS["announcement"])
    for at in (36, 66, 110, 178):
        data[at : at + 4] = bytes(4)
    assert bytes(data) == VECTORS["goodbye"]


LABELS = st.binary(min_size=1, max_size=63)
NAMES = st.lists(LABELS, max_size=3).map(lambda labels: name_of(*labels))
PORTS = st.integers(0, 65535)
VALUES = st.one_of(
    st.tuples(st.just(PTR), NAMES),
    st.tuples(st.just(SRV), st.tuples(PORTS, PORTS, PORTS, NAMES)),
    st.tuples(st.just(A), st.binary(min_size=4, max_size=4)),
    st.tuples(st.just(AAAA), st.binary(min_size=16, max_size=16)),
    st.tuples(st.sampled_from([TXT, 47, 13]), st.binary(max_size=80)),
)
RECORDS = st.builds(
    lambda name, flush, ttl, value: Record(name, value[0], flush, ttl, value[1]),
    NAMES,
    st.booleans(),
    st.integers(0, 2**32 - 1),
    VALUES,
)
QUESTIONS = st.builds(Question, NAMES, PORTS, st.booleans())
MADE = st.builds(
    Message,
    PORTS,
    st.sampled_from([QUERY, ANSWER, 0x0200]),
    st.lists(QUESTIONS, max_size=4),
    *[st.lists(RECORDS, max_size=4)] * 3,
)


@given(MADE, st.booleans())
def test_what_is_built_is_read_again(message: Message, legacy: bool) -> None:
    assert parse(build(message, legacy=legacy)) == message


@given(st.binary(max_size=200))
def test_any_bytes_raise_bad_alone(data: bytes) -> None:
    try:
        parse(data)
    except Bad as error:
        assert error.reason in mdns.REASONS


def test_mutants_raise_bad_alone() -> None:
    """100,000 of them; each reason is met."""
    rng = Random(15)
    vectors = [*VECTORS.values()]
    met: set[str] = set()
    read = 0
    for _ in range(100_000):
        try:
            message = parse(mutant(rng, rng.choice(vectors)))
        except Bad as error:
            met.add(error.reason)
        else:
            read += 1
            for record in (*message.answers, *message.authority, *message.additional):
                if record.type == TXT:
                    assert isinstance(record.value, bytes)
                    attributes(record.value)
                labels_of(record.name)
    assert read > 1_000
    assert met >= {"short", "opcode", "records", "label", "pointer", "value"}


def header(questions: int = 0, answers: int = 0) -> bytes:
    return struct.pack(">HHHHHH", 0, 0, questions, answers, 0, 0)


def reason_of(data: bytes) -> str:
    with pytest.raises(Bad) as caught:
        parse(data)
    return caught.value.reason


TAIL = b"\0\x0c\0\x01"
REASONS = {
    "nothing": (b"", "short"),
    "half a header": (bytes(11), "short"),
    "more than a datagram": (bytes(MDNS_DATAGRAM_BYTES_MAX + 1), "long"),
    "another opcode": (struct.pack(">HHHHHH", 0, 0x0800, 0, 0, 0, 0), "opcode"),
    "a response code": (struct.pack(">HHHHHH", 0, 0x8403, 0, 0, 0, 0), "opcode"),
    "too many records": (header(1, MDNS_RECORDS_MAX), "records"),
    "a label of no kind": (header(1) + b"\x40a\0" + TAIL, "label"),
    "a label that is cut": (header(1) + b"\x09abc", "short"),
    "a name without an end": (header(1) + b"\x01a", "short"),
    "a question that is cut": (header(1) + b"\x01a\0\0\x0c\0", "short"),
    "a pointer to itself": (header(1) + b"\xc0\x0c" + TAIL, "pointer"),
    "a pointer forward": (header(1) + b"\xc0\x10" + TAIL + b"\0", "pointer"),
    "a pointer into its own name": (header(1) + b"\x01a\xc0\x0c" + TAIL, "pointer"),
    "a value that is cut": (header(0, 1) + b"\0\0\x01\0\x01\0\0\0\0\0\x05abcd", "short"),
    "an address of 5 bytes": (header(0, 1) + b"\0\0\x01\0\x01\0\0\0\0\0\x05abcde", "value"),
    "a name longer than it is": (header(0, 1) + b"\0\0\x0c\0\x01\0\0\0\0\0\x01\x01a\0", "value"),
    "a name shorter than it is": (header(0, 1) + b"\0\0\x0c\0\x01\0\0\0\0\0\x02\0\0", "value"),
    "no host behind a port": (header(0, 1) + b"\0\0\x21\0\x01\0\0\0\0\0\x06abcdef", "short"),
}


@pytest.mark.parametrize("case", REASONS)
def test_the_reason(case: str) -> None:
    data, reason = REASONS[case]
    assert reason_of(data) == reason


def linked(pointers: int) -> bytes:
    """A record whose name "a" is reached over so many pointers, which stand in another's value."""
    head = struct.pack(">HHHHHH", 0, 0, 1, 2, 0, 0) + b"\x01a\0" + TAIL
    start = len(head) + 11
    target, value = 12, b""
    for _ in range(pointers - 1):
        here = start + len(value)
        value += (0xC000 | target).to_bytes(2, "big")
        target = here
    holder = b"\0\0\x2f\0\x01\0\0\0\0" + len(value).to_bytes(2, "big") + value
    return head + holder + (0xC000 | target).to_bytes(2, "big") + b"\0\x2f\0\x01" + bytes(6)


def test_a_name_has_so_many_pointers() -> None:
    assert parse(linked(MDNS_POINTERS_MAX)).answers[1].name == name_of("a")
    assert reason_of(linked(MDNS_POINTERS_MAX + 1)) == "pointer"


def test_a_name_has_255_bytes() -> None:
    name = name_of(b"a" * 63, b"b" * 63, b"c" * 63, b"d" * 61)
    assert len(name) == MDNS_NAME_BYTES_MAX
    assert parse(header(1) + name + TAIL).questions[0].name == name
    longer = name[:-1] + b"\x01e\0"
    assert reason_of(header(1) + longer + TAIL) == "name"
    with pytest.raises(LocalProtocolError):
        name_of(b"a" * 63, b"b" * 63, b"c" * 63, b"d" * 62)
    for label in ("", "a" * 64):
        with pytest.raises(LocalProtocolError):
            name_of(label)


def test_a_reverse_name_of_ipv6_is_read() -> None:
    name = name_of(*"0123456789abcdef0123456789abcdef", "ip6", "arpa")
    assert len(labels_of(name)) == 34
    assert parse(header(1) + name + TAIL).questions[0].name == name


def test_a_flood_of_labels_ends_early() -> None:
    """64 names of 127 labels in a small datagram: judged below a millisecond."""
    data = header(MDNS_RECORDS_MAX) + b"\x01a" * 126 + b"\0" + TAIL
    data += (b"\xc0\x0c" + TAIL) * (MDNS_RECORDS_MAX - 1)
    times = []
    for _ in range(20):
        start = time.perf_counter()
        assert reason_of(data) == "labels"
        times.append(time.perf_counter() - start)
    assert min(times) < 0.001
    few = header(4) + b"\x01a" * 126 + b"\0" + TAIL + (b"\xc0\x0c" + TAIL) * 3
    assert len(parse(few).questions) == 4
    assert 4 * 126 < MDNS_LABELS_MAX < 5 * 126


def test_what_is_of_another_class_is_left_out() -> None:
    data = header(2, 2) + b"\0\0\x01\0\x03" + b"\0\0\x01\0\xff"
    data += b"\0\0\x01\0\x03\0\0\0\0\0\x04abcd" + b"\0\0\x01\x80\x01\0\0\0\x05\0\x04abcd"
    message = parse(data)
    assert message.questions == [Question(b"\0", A, False)]
    assert message.answers == [Record(b"\0", A, True, 5, b"abcd")]


def test_what_follows_is_ignored() -> None:
    assert parse(VECTORS["announcement"] + b"more") == listed(MESSAGES["announcement"])


def test_attributes() -> None:
    value = pack_strings([*STRINGS, "ID=other", "=none", "flag", b"\xff=\xfe"])
    assert attributes(value) == {
        b"txtvers": b"1",
        b"id": b"0102030405060708",
        b"kind": b"server",
        b"proto": b"1",
        b"tls": b"0",
        b"flag": b"",
        b"\xff": b"\xfe",
    }
    assert attributes(b"\x09id=12") == {}
    assert attributes(b"\0\0\x03a=b") == {b"a": b"b"}
    assert attributes(b"") == {}
    many = pack_strings(f"k{n}=" for n in range(2 * MDNS_ATTRIBUTES_MAX))
    assert len(attributes(many)) == MDNS_ATTRIBUTES_MAX


def test_strings() -> None:
    assert pack_strings([]) == b"\0"
    assert pack_strings(["a", b"bc"]) == b"\x01a\x02bc"
    with pytest.raises(LocalProtocolError):
        pack_strings(["a" * 256])


def test_a_message_that_fits_no_datagram_is_our_mistake() -> None:
    long = [Record(SERVICE, TXT, False, 1, bytes(5_000))] * 2
    with pytest.raises(LocalProtocolError):
        build(Message(0, ANSWER, (), long))


def test_names_are_compared_without_case() -> None:
    assert name_of("_EvLoop", "_TCP", "Local").lower() == SERVICE
    longest = name_of(b"A" * 63)
    assert longest.lower() == name_of(b"a" * 63)
