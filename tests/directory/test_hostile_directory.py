"""What a hostile directory says is judged before it is folded, kept or shown."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evloop.base.errors import BadMessage, RemoteProtocolError
from evloop.directory import protocol
from evloop.directory.protocol import (
    RoomEntry,
    parse_from_server,
    read_change,
    read_page,
    read_room,
)

ROOM: dict[str, Any] = {
    "name": "lab",
    "address": "239.255.5.5",
    "port": 45505,
    "mode": "reliable",
    "members": 0,
    "made": 1,
}
TEXTS = ["", "a", "\x7f" * 64, "\x7f" * 65, "\ufdfa" * 21, "\ufdfa" * 22, "\0", "x" * 60_000]
NUMBERS = [0, 1, -1, 2**31, 2**32 - 1, 2**53 - 1, -(2**53) + 1, 65_535, 65_536]
ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from(NUMBERS),
    st.sampled_from(TEXTS),
    st.floats(allow_nan=False),
    st.just([]),
    st.just({}),
    st.just([[[[]]]]),
)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "\x7f" * 60_000},
        {"name": "\ufdfa" * 21_700},
        {"name": "\ufdfa" * 22},
        {"name": ""},
        {"address": "9" * 46},
        {"address": ""},
        {"mode": "m" * 33},
        {"port": 0},
        {"port": 65_536},
        {"members": -1},
        {"made": -1},
    ],
)
def test_a_room_that_cannot_be_is_no_answer(
    change: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(name: str) -> str:
        raise AssertionError("it was folded")

    monkeypatch.setattr(protocol, "fold", never)
    with pytest.raises(BadMessage):
        read_room({**ROOM, **change})


def test_a_later_directory_is_understood() -> None:
    room, members = read_room({**ROOM, "mode": "sealed", "name": "\u0378", "more": {}})
    assert (room.mode, room.name, members) == ("sealed", "\u0378", 0)


@given(
    st.dictionaries(st.sampled_from([*ROOM, "version", "rooms", "next"]), ANYTHING),
    st.sampled_from([read_room, read_change, read_page]),
)
def test_nothing_but_a_remote_error_comes_of_it(change: dict[str, Any], read: Any) -> None:
    inside = {**ROOM, **{key: value for key, value in change.items() if key in ROOM}}
    whole = {"version": 1, "room": inside, "rooms": [inside] * 2, "next": "n", **change}
    try:
        read(inside if read is read_room else whole)
    except RemoteProtocolError:
        pass


@given(ANYTHING, ANYTHING, ANYTHING, st.sampled_from(["id", "error", "result", "method"]))
def test_an_answer_of_any_values(one: Any, two: Any, three: Any, left_out: str) -> None:
    error = {"code": one, "message": two, "data": {"reason": three}}
    message = {"jsonrpc": "2.0", "id": one, "result": two, "error": error, "method": three}
    del message[left_out]
    try:
        parse_from_server(json.dumps(message).encode())
    except RemoteProtocolError:
        pass


@pytest.mark.parametrize("name", ["{:x}", "\ufdfa" * 20 + "{:x}", "{:x}" + "n" * 58])
def test_a_listing_takes_memory_in_proportion(name: str) -> None:
    """As it was found: 14 bytes for each byte sent."""
    sent = 0
    kept: list[tuple[RoomEntry, int]] = []
    pages = []
    for page in range(20):
        rooms = [{**ROOM, "name": name.format(page * 400 + n)} for n in range(400)]
        if len(rooms[0]["name"].encode()) > 64:
            rooms = [{**ROOM, "name": one["name"][1:]} for one in rooms]
        text = json.dumps({"version": 1, "rooms": rooms, "next": "n"}, ensure_ascii=False)
        sent += len(text.encode())
        pages.append(text)
    tracemalloc.start()
    try:
        for text in pages:
            kept += read_page(json.loads(text))[1]
        grown = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert len(kept) == 8_000
    assert grown < 5 * sent, grown / sent
