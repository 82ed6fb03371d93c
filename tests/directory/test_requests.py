"""The params of each method: canonical values, or the reason of the protocol's table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evloop.base.errors import Refused
from evloop.directory import requests

READERS: dict[str, Callable[[dict[str, Any]], object]] = {
    "ping": requests.read_nothing,
    "hello": requests.read_hello,
    "getdir": requests.read_getdir,
    "makeroom": requests.read_makeroom,
    "deleteroom": requests.read_name,
    "enter": requests.read_enter,
    "history": requests.read_history,
}
REASONS = {
    "bad_name", "bad_address", "bad_port", "bad_mode", "bad_limit", "bad_before", "unknown_member",
    "missing_member", "bad_sender", "bad_relay",
    "wrong_type",
}  # fmt: skip


@pytest.mark.parametrize(
    ("method", "given_params", "values"),
    [
        ("ping", {}, None),
        ("hello", {}, ("", "")),
        ("hello", {"client": "evloop/0.1", "name": "Mel"}, ("evloop/0.1", "Mel")),
        ("getdir", {}, (None, 500)),
        ("getdir", {"after": "", "limit": 1}, ("", 1)),
        ("getdir", {"after": "no such name", "limit": 500}, ("no such name", 500)),
        ("makeroom", {"name": "lab"}, ("lab", None, None, False)),
        ("makeroom", {"name": "lab", "keep": True}, ("lab", None, None, True)),
        ("history", {"name": "lab"}, ("lab", None, 200)),
        ("history", {"name": "lab", "before": 1, "limit": 500}, ("lab", 1, 500)),
        ("makeroom", {"name": "e\u0301", "mode": "plain"}, ("é", None, "plain", False)),
        (
            "makeroom",
            {"name": "lab", "address": "FF15:0::7", "port": 5751, "mode": "reliable"},
            ("lab", ("ff15::7", 5751), "reliable", False),
        ),
        ("deleteroom", {"name": "lab"}, "lab"),
        ("enter", {"name": "lab"}, ("lab", None, "off")),
        ("enter", {"name": "lab", "relay": "off"}, ("lab", None, "off")),
        (
            "enter",
            {"name": "lab", "sender": "0102030405060708"},
            ("lab", bytes(range(1, 9)), "off"),
        ),
        (
            "enter",
            {"name": "lab", "sender": "ff00000000000000", "relay": "full"},
            ("lab", b"\xff" + bytes(7), "full"),
        ),
        ("deleteroom", {"name": "no such, name"}, "no such, name"),
    ],
)
def test_good_params(method: str, given_params: dict[str, Any], values: object) -> None:
    assert READERS[method](given_params) == values


@pytest.mark.parametrize(
    ("method", "given_params", "reason"),
    [
        ("ping", {"x": 1}, "unknown_member"),
        ("hello", {"nmae": "Mel"}, "unknown_member"),
        ("hello", {"name": None}, "wrong_type"),
        ("getdir", {"limit": 0}, "bad_limit"),
        ("history", {"name": "lab", "limit": 0}, "bad_limit"),
        ("history", {"name": "lab", "limit": 501}, "bad_limit"),
        ("history", {"name": "lab", "before": 0}, "bad_before"),
        ("history", {"name": "lab", "before": True}, "wrong_type"),
        ("history", {"limit": 5}, "missing_member"),
        ("makeroom", {"name": "lab", "keep": 1}, "wrong_type"),
        ("getdir", {"limit": 501}, "bad_limit"),
        ("getdir", {"limit": -1}, "bad_limit"),
        ("getdir", {"limit": True}, "wrong_type"),
        ("getdir", {"limit": 1.0}, "wrong_type"),
        ("getdir", {"after": None}, "wrong_type"),
        ("getdir", {"After": "x"}, "unknown_member"),
        ("makeroom", {}, "missing_member"),
        ("makeroom", {"address": "239.255.7.1", "port": 5751}, "missing_member"),
        ("makeroom", {"name": "lab", "address": "239.255.7.1"}, "missing_member"),
        ("makeroom", {"name": "lab", "port": 5751}, "missing_member"),
        ("makeroom", {"name": 5}, "wrong_type"),
        ("makeroom", {"name": "lab", "address": "239.255.7.1", "port": "5751"}, "wrong_type"),
        ("makeroom", {"name": "lab", "address": "239.255.7.1", "port": True}, "wrong_type"),
        ("makeroom", {"name": "lab", "address": "10.0.0.1", "port": 5751}, "bad_address"),
        ("makeroom", {"name": "lab", "address": "239.255.7.1", "port": 80}, "bad_port"),
        ("makeroom", {"name": "lab", "mode": "secret"}, "bad_mode"),
        ("makeroom", {"name": "lab", "mode": ""}, "bad_mode"),
        ("makeroom", {"name": "bad name"}, "bad_name"),
        ("makeroom", {"name": ""}, "bad_name"),
        ("deleteroom", {}, "missing_member"),
        ("deleteroom", {"name": ["lab"]}, "wrong_type"),
        ("deleteroom", {"name": "lab", "force": True}, "unknown_member"),
        ("enter", {"sender": "0102030405060708"}, "missing_member"),
        ("enter", {"name": "lab", "relay": "up"}, "missing_member"),
        ("enter", {"name": "lab", "relay": "FULL"}, "bad_relay"),
        ("enter", {"name": "lab", "relay": None}, "wrong_type"),
        ("enter", {"name": "lab", "sender": "0000000000000000"}, "bad_sender"),
        ("enter", {"name": "lab", "sender": "010203040506070A"}, "bad_sender"),
        ("enter", {"name": "lab", "sender": "01020304050607"}, "bad_sender"),
        ("enter", {"name": "lab", "sender": "0x01020304050607"}, "bad_sender"),
        ("enter", {"name": "lab", "sender": 1}, "wrong_type"),
    ],
)
def test_bad_params(method: str, given_params: dict[str, Any], reason: str) -> None:
    with pytest.raises(Refused) as caught:
        READERS[method](given_params)
    assert (caught.value.code, caught.value.reason) == (-32602, reason)
    assert caught.value.data is None


MEMBERS = st.sampled_from(
    [
        *("client", "name", "after", "limit", "address", "port", "mode", "sender", "relay"),
        "x\x1b",
    ]
)
VALUES: st.SearchStrategy[object] = (
    st.integers()
    | st.text(max_size=70)
    | st.sampled_from(
        ["239.255.7.1", "ff15::7", "plain", "lab", 5751, 500, None, True, 1.5, [], {}]
    )
)


@given(st.dictionaries(MEMBERS, VALUES), st.sampled_from(sorted(READERS)))
def test_any_params_are_taken_or_refused_with_a_known_reason(
    given_params: dict[str, Any], method: str
) -> None:
    before = dict(given_params)
    try:
        READERS[method](given_params)
    except Refused as no:
        assert no.code == -32602
        assert no.reason in REASONS
        assert no.sentence.isprintable()
    assert given_params == before
