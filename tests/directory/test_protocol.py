"""JSON-RPC: any bytes give a request, a batch or a BadMessage; what goes out is what was meant."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evloop.base.errors import INVALID_REQUEST, PARSE_ERROR, BadMessage, Refused
from evloop.base.limits import INTEGER_MAX, PAYLOAD_BYTES_MAX
from evloop.base.names import quoted
from evloop.base.strictjson import decode, encode
from evloop.directory import protocol
from evloop.directory.limits import (
    BATCH_MEMBERS_MAX,
    ID_CHARS_MAX,
    ID_DIGITS,
    REPLY_BYTES_MAX,
    ROOM_BYTES_MAX,
    TAIL_BYTES_MAX,
    TAILS_MAX,
)
from evloop.directory.protocol import RoomEntry, parse
from tests.support.json_texts import (
    CHARACTERS,
    FRAGMENTS,
    INTEGERS,
    SCALARS,
    TEXT,
    VALUES,
    write,
)
from tests.support.pairs import both

IDS = INTEGERS | st.text(CHARACTERS, max_size=ID_CHARS_MAX)
NEEDED: dict[str, st.SearchStrategy[Any]] = {"jsonrpc": st.just("2.0"), "method": TEXT}
REQUESTS = st.fixed_dictionaries(
    NEEDED,
    optional={"id": IDS, "params": st.dictionaries(TEXT, SCALARS, max_size=4)},
)
# Requests with a little wrong: members replaced, added, of other types.
NEARLY: st.SearchStrategy[dict[str, object]] = st.dictionaries(
    st.sampled_from(["jsonrpc", "method", "id", "params", "extra", "Method"]),
    st.sampled_from(["2.0", "1.0", 2.0, 1, None, True, {}, [], "ping", "x" * 65, 1.5]),
)


def bad(payload: bytes) -> BadMessage:
    with pytest.raises(BadMessage) as caught:
        parse(payload)
    reply = json.loads(protocol.bad_message(caught.value))
    assert reply["id"] is None
    assert reply["jsonrpc"] == "2.0"
    assert reply["error"]["code"] == caught.value.code
    assert set(reply["error"]) == {"code", "message"}
    return caught.value


# -- what is remembered of requests ----------------------------------------------------------------

ID_TEXTS = (
    st.integers(0, 10 ** (ID_DIGITS + 2)).map(lambda number: b"%d" % number)
    | st.sampled_from([10**ID_DIGITS - 1, 10**ID_DIGITS, INTEGER_MAX, INTEGER_MAX + 1]).map(
        lambda number: b"%d" % number
    )
    | st.text("0123456789-+.eE_ \u0663\u00b2", max_size=18).map(str.encode)
    | st.sampled_from([b"00", b"01", b'"1"', b"null", b"true", b"1,2", b'1,"id":2', b"{}", b"[1]"])
)
TAILS = FRAGMENTS | st.sampled_from(
    [
        b',"method":"ping"}',
        b',"method":"ping","params":{}}',
        b',"method":"getdir","params":{"limit":20}}',
        b',"method":"ping","params":{}} ',
        b',"method":"ping","id":1}',
        b',"method":"ping","method":"ping"}',
        b',"method":"ping","more":1}',
        b',"method":1}',
        b',"method":"ping"}]',
        b',"method":"\\ud800"}',
        b',"method":"\xff"}',
        b',"method":"getdir","params":{"deep":[[[[[[[[1]]]]]]]]}}',
        b',"method":"getdir","params":{"one":1,"two":{"three":[1,{}]}}}',
        b"}",
        b"",
    ]
)
HEADS = st.sampled_from([b'{"jsonrpc":"2.0","id":'] * 4 + [b'{"jsonrpc": "2.0","id":', b'{"id":'])


def outcome(payload: bytes) -> object:
    try:
        return parse(payload)
    except BadMessage as bad:
        return bad.code, bad.sentence


def forget() -> None:
    protocol.known_tails.clear()


@given(HEADS, ID_TEXTS, st.lists(ID_TEXTS, max_size=3), TAILS)
def test_what_is_remembered_changes_no_answer(
    head: bytes, last: bytes, before: list[bytes], tail: bytes
) -> None:
    payload = head + last + tail
    forget()
    cold = outcome(payload)
    warm = outcome(payload)
    for request_id in before:
        outcome(b'{"jsonrpc":"2.0","id":' + request_id + tail)
    # repr, because 1, 1.0 and True are equal
    assert repr(cold) == repr(warm) == repr(outcome(payload))


def test_the_common_form_is_read_once() -> None:
    forget()
    first = parse(protocol.request(1, "getdir", {"limit": 20}))
    again = parse(protocol.request(10**ID_DIGITS - 1, "getdir", {"limit": 20}))
    assert isinstance(first, tuple) and isinstance(again, tuple)
    assert again[2] is first[2]


def test_no_peer_makes_us_remember_much() -> None:
    forget()
    for number in range(3 * TAILS_MAX):
        parse(protocol.request(1, "getdir", {"after": f"m{number}"}))
        assert 1 <= len(protocol.known_tails) <= TAILS_MAX
    forget()
    parse(protocol.request(1, "getdir", {"after": "x" * TAIL_BYTES_MAX}))
    parse(protocol.request(1, "makeroom", {"name": "lab"}))
    assert not protocol.known_tails


# -- requests --------------------------------------------------------------------------------------


@given(REQUESTS, st.data())
def test_a_request_comes_back(message: dict[str, Any], data: st.DataObject) -> None:
    request = parse(write(message, data.draw).encode())
    assert isinstance(request, tuple)
    request_id, method, params = request
    assert method == message["method"]
    assert params == message.get("params", {})
    if "id" in message:
        assert request_id is not None
        given_back = json.loads(request_id)
        assert (given_back, type(given_back)) == (message["id"], type(message["id"]))
    else:
        assert request_id is None


@given(IDS, TEXT, st.dictionaries(TEXT, SCALARS, max_size=4))
def test_what_the_client_asks_the_server_reads(
    request_id: int | str, method: str, params: dict[str, Any]
) -> None:
    assert parse(protocol.request(request_id, method, params)) == (
        encode(request_id),
        method,
        params,
    )
    assert parse(protocol.request(None, method, params)) == (None, method, params)


@pytest.mark.parametrize(
    "payload",
    [
        b"1", b'"ping"', b"null", b"true", b"{}", b'{"jsonrpc":"2.0"}', b'{"method":"ping"}',
        b'{"jsonrpc":2.0,"method":"ping","id":1}', b'{"jsonrpc":"1.0","method":"ping","id":1}',
        b'{"jsonrpc":"2.0","method":1,"id":1}', b'{"jsonrpc":"2.0","method":null,"id":1}',
        b'{"jsonrpc":"2.0","method":"ping","id":null}',
        b'{"jsonrpc":"2.0","method":"ping","id":1.0}',
        b'{"jsonrpc":"2.0","method":"ping","id":true}',
        b'{"jsonrpc":"2.0","method":"ping","id":[1]}',
        b'{"jsonrpc":"2.0","method":"ping","id":{}}', b'{"jsonrpc":"2.0","method":"ping","id":1e3}',
        b'{"jsonrpc":"2.0","method":"ping","params":[]}',
        b'{"jsonrpc":"2.0","method":"ping","params":null}',
        b'{"jsonrpc":"2.0","method":"ping","params":"x"}',
        b'{"jsonrpc":"2.0","method":"ping","extra":1}',
        b'{"jsonrpc":"2.0","method":"ping","id":1,"params":{},"result":{}}',
        b'{"jsonrpc":"2.0","result":{},"id":1}', b'{"JSONRPC":"2.0","method":"ping","id":1}', b"[]",
    ],
)  # fmt: skip
def test_what_is_no_request(payload: bytes) -> None:
    assert bad(payload).code == INVALID_REQUEST


@pytest.mark.parametrize("character", ["x", "é", "😀", "\0", '"'])
def test_ids_at_their_limit(character: str) -> None:
    good = protocol.request(character * ID_CHARS_MAX, "ping")
    request = parse(good)
    assert isinstance(request, tuple)
    assert request[0] is not None
    assert json.loads(request[0]) == character * ID_CHARS_MAX
    assert bad(protocol.request(character * (ID_CHARS_MAX + 1), "ping")).code == INVALID_REQUEST


@given(st.lists(REQUESTS | NEARLY | SCALARS, min_size=1, max_size=BATCH_MEMBERS_MAX))
def test_a_batch_is_judged_member_by_member(members: list[Any]) -> None:
    parsed = parse(encode(members))
    assert isinstance(parsed, list)
    assert len(parsed) == len(members)
    for member, one in both(members, parsed):
        try:
            alone = parse(encode(member))
        except BadMessage as error:
            assert isinstance(one, BadMessage)
            assert (one.code, one.sentence) == (error.code, error.sentence)
        else:
            assert one == alone


def test_a_batch_has_its_limits() -> None:
    ping = protocol.request(1, "ping")
    for number in (1, BATCH_MEMBERS_MAX):
        parsed = parse(b"[" + b",".join([ping] * number) + b"]")
        assert parsed == [(b"1", "ping", {})] * number
    for number in (0, BATCH_MEMBERS_MAX + 1):
        assert bad(b"[" + b",".join([ping] * number) + b"]").code == INVALID_REQUEST
    nested = parse(b"[[" + ping + b"]," + ping + b"]")
    assert isinstance(nested, list)
    assert isinstance(nested[0], BadMessage)
    assert nested[1] == (b"1", "ping", {})


def test_one_syntax_error_takes_the_whole_batch() -> None:
    assert bad(b"[" + protocol.request(1, "ping") + b",{]").code == PARSE_ERROR


def test_what_can_not_be_in_a_batch() -> None:
    for method in ("getdir", "watch"):
        with pytest.raises(Refused) as caught:
            protocol.check_in_batch(method)
        assert (caught.value.code, caught.value.reason) == (INVALID_REQUEST, "not_in_batch")
    for method in ("ping", "makeroom", "unwatch", "nope"):
        protocol.check_in_batch(method)


@given(st.binary(max_size=200) | FRAGMENTS | VALUES.map(encode) | NEARLY.map(encode))
def test_any_bytes_are_a_request_a_batch_or_a_bad_message(payload: bytes) -> None:
    for read in (parse, protocol.parse_from_server):
        try:
            parsed = read(payload)
        except BadMessage as error:
            assert error.code in (PARSE_ERROR, INVALID_REQUEST)
            reply = protocol.bad_message(error)
            assert len(reply) <= REPLY_BYTES_MAX
            assert json.loads(reply)["error"]["message"] == error.sentence
        else:
            assert isinstance(parsed, (tuple, list))
            assert isinstance(json.loads(payload), (list, dict))


# -- replies, notifications, rooms -----------------------------------------------------------------

NAMES = st.text(st.characters(categories=("L", "N", "P", "S")), min_size=1, max_size=16)
ROOMS = st.builds(
    RoomEntry,
    NAMES,
    st.sampled_from(["239.255.7.1", "ff15::7"]),
    st.integers(min_value=1024, max_value=65535),
    st.sampled_from(protocol.MODES),
    st.integers(min_value=0, max_value=2**40),
)


def as_object(room: RoomEntry, members: int) -> dict[str, Any]:
    return {
        "name": room.name,
        "address": room.address,
        "port": room.port,
        "mode": room.mode,
        "members": members,
        "made": room.made,
        "keep": room.keep,
    }


def same(got: RoomEntry, sent: RoomEntry) -> bool:
    """Whether they are the same to a client, which does not fold."""
    members = ("name", "address", "port", "mode", "made", "keep")
    return all(getattr(got, member) == getattr(sent, member) for member in members)


@given(ROOMS, st.integers(min_value=0, max_value=10**6))
def test_rooms_round_trip(room: RoomEntry, members: int) -> None:
    encoded = protocol.room_json(room, members)
    assert json.loads(encoded) == as_object(room, members)
    again, count = protocol.read_room(decode(encoded))
    assert count == members
    assert same(again, room)


def test_the_largest_room_is_within_its_cap() -> None:
    for name in ('"' * 64, "\\" * 64, "😀" * 16):
        room = RoomEntry(name, "ff18:" + ":".join(["ffff"] * 7), 65535, made=INTEGER_MAX)
        assert len(protocol.room_json(room, 10**6)) <= ROOM_BYTES_MAX


@given(IDS, ROOMS, st.integers(min_value=0, max_value=INTEGER_MAX))
def test_results_round_trip(request_id: int | str, room: RoomEntry, version: int) -> None:
    body = protocol.change_body(version, protocol.room_json(room, 2))
    kind, answered, value = protocol.parse_from_server(protocol.result(encode(request_id), body))
    assert (kind, answered) == (protocol.RESULT, request_id)
    assert json.loads(body) == {"version": version, "room": as_object(room, 2)}
    got_version, got_room, members = protocol.read_change(value)
    assert (got_version, members) == (version, 2)
    assert same(got_room, room)

    told = protocol.notification(b"room_made", body)
    kind, method, params = protocol.parse_from_server(told)
    assert (kind, method) == (protocol.NOTIFICATION, "room_made")
    assert same(protocol.read_change(params)[1], room)
    assert json.loads(told) == {"jsonrpc": "2.0", "method": "room_made", "params": json.loads(body)}


@given(st.lists(ROOMS, max_size=5), st.none() | NAMES)
def test_pages_round_trip(rooms: list[RoomEntry], following: str | None) -> None:
    joined = b",".join([protocol.room_json(room, 1) for room in rooms])
    body = protocol.page_body(9, joined, encode(following))
    assert json.loads(body) == {
        "version": 9,
        "rooms": [as_object(room, 1) for room in rooms],
        "next": following,
    }
    version, listed, after = protocol.read_page(decode(body))
    assert (version, after) == (9, following)
    assert [members for _, members in listed] == [1] * len(rooms)
    assert all(same(one, other) for one, (other, _) in both(rooms, listed))


def test_the_small_results() -> None:
    assert json.loads(protocol.version_body(7)) == {"version": 7}
    assert json.loads(protocol.room_body(b'{"name":"lab"}')) == {"room": {"name": "lab"}}
    hello = json.loads(protocol.hello_body("evloop/0.1", 7, "0123456789abcdef"))
    assert hello == {
        "server": "evloop/0.1",
        "protocol": 1,
        "version": 7,
        "id": "0123456789abcdef",
    }
    assert protocol.read_identity(hello) == "0123456789abcdef"


@pytest.mark.parametrize(
    "told", [{}, {"id": 7}, {"id": ""}, {"id": "0123"}, {"id": "0123456789ABCDEF"}]
)
def test_a_greeting_without_an_identity_is_read(told: dict[str, object]) -> None:
    """0.1.0 tells none; what is no identity is none."""
    assert protocol.read_identity({"version": 7, **told}) == ""


def test_the_smallest_results() -> None:
    assert json.loads(protocol.result(b'"a"', protocol.EMPTY)) == {
        "jsonrpc": "2.0",
        "id": "a",
        "result": {},
    }
    closing = protocol.parse_from_server(protocol.closing('the "server" ends'))
    assert closing == (protocol.NOTIFICATION, "closing", {"reason": 'the "server" ends'})


@given(IDS, st.integers(min_value=-40000, max_value=7), TEXT, TEXT)
def test_refusals_round_trip(request_id: int | str, code: int, reason: str, sentence: str) -> None:
    refused = Refused(code, reason, sentence, {"room": "lab", "retry_after": 0.5})
    payload = protocol.refusal(encode(request_id), refused)
    assert json.loads(payload) == {
        "jsonrpc": "2.0",
        "id": request_id,
        "error": {
            "code": code,
            "message": sentence,
            "data": {"reason": reason, "room": "lab", "retry_after": 0.5},
        },
    }
    kind, answered, got = protocol.parse_from_server(payload)
    assert (kind, answered) == (protocol.ERROR, request_id)
    assert (got.code, got.reason, got.sentence, got.data) == (
        code,
        reason,
        sentence,
        {"room": "lab", "retry_after": 0.5},
    )


def test_errors_of_json_rpc_carry_no_reason() -> None:
    payload = protocol.bad_message(protocol.unknown_method("explode\x1b" * 9000), b"5")
    assert len(payload) <= REPLY_BYTES_MAX
    error = json.loads(payload)["error"]
    assert error["code"] == -32601
    assert "data" not in error
    kind, answered, refused = protocol.parse_from_server(payload)
    assert (kind, answered, refused.code, refused.reason) == (protocol.ERROR, 5, -32601, "")


def test_a_full_batch_of_the_longest_replies_fits_a_frame() -> None:
    longest = encode("\0" * ID_CHARS_MAX)
    method = protocol.bad_message(protocol.unknown_method("😀" * 200), longest)
    room = protocol.result(
        longest,
        protocol.change_body(
            INTEGER_MAX, protocol.room_json(RoomEntry('"' * 64, "f" * 39, 65535), 10**6)
        ),
    )
    sentence = f'there is no parameter "{quoted("😀" * 200)}" here'
    refused = protocol.refusal(longest, Refused(2, "address_in_use", sentence, {"room": '"' * 64}))
    for reply in (method, room, refused):
        assert len(reply) <= REPLY_BYTES_MAX
        assert len(protocol.batch([reply] * BATCH_MEMBERS_MAX)) <= PAYLOAD_BYTES_MAX
    assert json.loads(protocol.batch([room, method])) == [json.loads(room), json.loads(method)]


# -- what a client takes ---------------------------------------------------------------------------


def test_members_that_nobody_knows_yet_are_left_aside() -> None:
    room = {
        **as_object(RoomEntry("lab", "239.255.7.1", 5751), 3),
        "topic": ["new"],
        "mode": "sealed",
    }
    payload = encode(
        {"jsonrpc": "2.0", "id": 1, "new": 1, "result": {"version": 3, "room": room, "x": {}}}
    )
    kind, answered, value = protocol.parse_from_server(payload)
    assert (kind, answered) == (protocol.RESULT, 1)
    version, got, members = protocol.read_change(value)
    assert (version, got.name, got.mode, members) == (3, "lab", "sealed", 3)
    _, listed, _ = protocol.read_page({"version": 1, "rooms": [room], "next": None, "total": 1})
    assert listed[0][0].name == "lab"


@pytest.mark.parametrize(
    "message",
    [
        1, [], {}, {"jsonrpc": "2.0"}, {"jsonrpc": "2.0", "id": 1}, {"id": 1, "result": {}},
        {"jsonrpc": "2.0", "id": 1.5, "result": {}}, {"jsonrpc": "2.0", "id": None, "result": {}},
        {"jsonrpc": "2.0", "id": True, "result": {}}, {"jsonrpc": "2.0", "result": {}},
        {"jsonrpc": "2.0", "id": 1, "error": 5}, {"jsonrpc": "2.0", "id": 1, "error": {"code": 1}},
        {"jsonrpc": "2.0", "id": 1, "error": {"code": "1", "message": "x"}},
        {"jsonrpc": "2.0", "id": 1, "error": {"code": 1, "message": "x", "data": 5}},
        {"jsonrpc": "2.0", "id": 1, "error": {"code": 1, "message": "x", "data": {"reason": 5}}},
        {"jsonrpc": "2.0", "method": 5}, {"jsonrpc": "2.0", "method": "closing", "params": []},
        {"jsonrpc": "2.0", "method": "closing", "id": 1},
    ],
)  # fmt: skip
def test_what_no_server_says(message: object) -> None:
    with pytest.raises(BadMessage):
        protocol.parse_from_server(encode(message))


READERS = [protocol.read_room, protocol.read_change, protocol.read_page]
HALF_ROOMS = st.dictionaries(
    st.sampled_from(
        ["name", "address", "port", "mode", "members", "made", "keep", "version", "rooms", "next"]
    ),
    SCALARS | st.lists(SCALARS, max_size=2),
)


@given(
    VALUES | HALF_ROOMS | st.builds(lambda r: {"version": 1, "room": r, "rooms": [r]}, HALF_ROOMS)
)
def test_readers_of_results_take_any_value_or_say_why_not(value: object) -> None:
    for read in READERS:
        try:
            read(value)
        except BadMessage as error:
            assert "server" in error.sentence


def test_an_error_without_an_id_is_one() -> None:
    payload = protocol.error(
        protocol.NULL, INVALID_REQUEST, "a frame is too large", {"reason": "frame_too_large"}
    )
    kind, answered, refused = protocol.parse_from_server(payload)
    assert (kind, answered, refused.reason) == (protocol.ERROR, None, "frame_too_large")
