"""What is asked of etcd and how its answers are read: by tables, and with junk."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evloop.daemon import etcd
from evloop.daemon.etcd import EngineError, Head, KeyValue, NewerFormat
from evloop.directory.protocol import RoomEntry

KEYS = etcd.Keys("main")
ROOM = RoomEntry("Lab", "239.255.7.1", 5751, "plain", 17, "192.0.2.7", bytes(range(32)))


def head(value: Any, version: int = 3) -> Head:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return Head(KeyValue(KEYS.head, data, 9, version))


def test_the_keys_of_a_directory() -> None:
    assert KEYS.name("straße") == "evloop/main/n/straße".encode()
    assert KEYS.place("[ff15::7]:5751") == b"evloop/main/p/[ff15::7]:5751"
    assert KEYS.members("0000abcd", "lab") == b"evloop/main/m/0000abcd/lab"
    assert KEYS.all_of("n") == (b"evloop/main/n/", b"evloop/main/n0")
    assert KEYS.rest_of(KEYS.name("straße")) == "straße"
    with pytest.raises(EngineError):
        KEYS.rest_of(b"evloop/main/n/\xff")


def test_a_room_goes_there_and_back() -> None:
    record = json.loads(json.dumps(etcd.record_of(ROOM)))
    again = etcd.read_room({**record, "later": [1]}, "the fold of the key")
    assert again.fold == "the fold of the key"
    assert etcd.record_of(again) == record
    made = head(etcd.head_value(40, "0000abcd-1", "make", "lab", record))
    assert (made.version, made.op, made.fold, made.change) == (42, "make", "lab", "0000abcd-1")
    assert made.room is not None and made.room.name == "Lab"
    gone = head(etcd.head_value(0, "0000abcd-2", "delete", "lab"))
    assert (gone.version, gone.op, gone.room) == (2, "delete", None)


@pytest.mark.parametrize(
    "changed",
    [
        {"name": ""},
        {"name": 7},
        {"port": 0},
        {"port": True},
        {"port": 65536},
        {"made": -1},
        {"token": "zz"},
        {"token": "00"},
        {"mode": None},
    ],
)
def test_a_record_that_is_no_room(changed: dict[str, Any]) -> None:
    with pytest.raises(EngineError):
        etcd.read_room({**etcd.record_of(ROOM), **changed}, "lab")


def test_a_newer_form_is_told_apart_from_damage() -> None:
    with pytest.raises(NewerFormat):
        head({"f": 2, "b": 0, "c": "x", "op": "make"})
    broken: list[Any] = [
        {"f": 1, "b": -1, "c": "x", "op": "found"},
        {"f": 1, "b": 0, "c": 7, "op": "found"},
        {"f": 1, "b": 0, "c": "x", "op": "rename", "fold": "lab"},
        {"f": 1, "b": 0, "c": "x", "op": "make", "fold": "lab"},
        [],
        b"no json",
    ]
    for damaged in broken:
        with pytest.raises(EngineError) as caught:
            head(damaged)
        assert not isinstance(caught.value, NewerFormat)


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=6) | st.just("AAAA"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                (
                    *("kvs", "key", "value", "mod_revision", "version", "header", "revision"),
                    *(
                        "responses",
                        "response_range",
                        "succeeded",
                        "result",
                        "events",
                        "kv",
                        "error",
                    ),
                    *("type", "created", "canceled", "compact_revision", "ID", "TTL", "token"),
                    *("etcdserver", "more", "message"),
                )
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@given(JSON)
def test_no_answer_does_more_than_be_refused(answer: Any) -> None:
    data = json.dumps(answer).encode()
    readers = (
        etcd.read_page,
        etcd.read_txn,
        etcd.read_lease,
        etcd.lease_lives,
        etcd.read_token,
        etcd.read_release,
        etcd.revision_of,
    )
    for reader in readers:
        try:
            reader(etcd.read_json(data))
        except EngineError:
            pass
    try:
        etcd.read_watch(data)
    except EngineError:
        pass
    assert isinstance(etcd.sentence_of(etcd.read_error(data)), str)


@given(st.binary(max_size=40))
def test_no_bytes_do(data: bytes) -> None:
    assert isinstance(etcd.read_error(data), dict)
    with pytest.raises(EngineError):
        etcd.read_json(b"x" + data)


@pytest.mark.parametrize(
    "answer, release",
    [({"etcdserver": "3.4.23"}, (3, 4)), ({"etcdserver": "3.10.0-rc.1"}, (3, 10))],
)
def test_releases(answer: dict[str, Any], release: tuple[int, int]) -> None:
    assert etcd.read_release(answer) == release
    assert (release >= etcd.RELEASE_MIN) is True
    assert etcd.RELEASE_MIN > (3, 3)
