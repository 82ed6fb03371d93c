"""A range that is read in pages: handled in pieces, while the next page is under way."""

from __future__ import annotations

import json
from typing import Any

from evloop.daemon import etcd
from evloop.daemon.calls import Call, Calls
from evloop.daemon.etcd import EngineError, KeyValue
from evloop.daemon.limits import ENGINE_PIECE_ROOMS

KEYS = b"n/", b"n0"


class Owner:
    def __init__(self) -> None:
        self.errors: list[str] = []

    def trouble(self, error: EngineError, now: float) -> None:
        self.errors.append(str(error))

    def not_authenticated(self, call: Call, now: float) -> None:
        raise AssertionError("nobody has a password")


def page(first: int, count: int, more: bool, revision: int) -> bytes:
    found = [
        {"key": etcd.b64(b"n/%06d" % number), "value": etcd.b64(b"x"), "mod_revision": "3"}
        for number in range(first, first + count)
    ]
    return json.dumps({"header": {"revision": revision}, "kvs": found, "more": more}).encode()


def asked(calls: Calls) -> dict[str, Any]:
    """The one request that is to be sent."""
    (call,) = calls.to_send
    body: dict[str, Any] = json.loads(call.body or b"")
    return body


def test_the_next_page_comes_while_the_pieces_of_this_one_are_handled() -> None:
    calls = Calls(Owner())
    pieces: list[list[KeyValue]] = []
    over: list[int] = []
    calls.read_all(KEYS, pieces.append, lambda revision, now: over.append(revision), 0.0)
    assert "revision" not in asked(calls)
    (call,), calls.to_send = calls.to_send, []
    size = 2 * ENGINE_PIECE_ROOMS + 1
    calls.answered(call.number, 200, page(0, size, True, 77), 0.0)
    assert not pieces  # the answer itself is work enough for one tick
    calls.work(0.0)
    body = asked(calls)
    assert body["revision"] == "77" and body["key"] == etcd.b64(b"n/%06d\0" % (size - 1))
    assert calls.working and not pieces
    (call,), calls.to_send = calls.to_send, []
    calls.work(0.0)
    calls.answered(call.number, 200, page(size, 1, False, 90), 0.0)
    assert not calls.to_send and not over
    while calls.working:
        before = len(pieces)
        calls.work(0.0)
        assert len(pieces) <= before + 1
    assert over == [77]
    assert [len(piece) for piece in pieces] == [ENGINE_PIECE_ROOMS, ENGINE_PIECE_ROOMS, 1, 1]
    found = [one.key for piece in pieces for one in piece]
    assert found == [b"n/%06d" % number for number in range(size + 1)]


def test_what_is_given_up_is_handled_no_further() -> None:
    calls = Calls(Owner())
    calls.read_all(KEYS, lambda piece: None, lambda *_: None, 0.0)
    (call,), calls.to_send = calls.to_send, []
    calls.answered(call.number, 200, page(0, 1, False, 5), 0.0)
    assert calls.working
    calls.drop_all()
    assert not calls.working
    calls.work(0.0)


def test_a_key_that_cannot_be_read_is_the_fault_of_the_endpoint() -> None:
    owner = Owner()
    calls = Calls(owner)

    def each(piece: list[KeyValue]) -> None:
        raise EngineError("a room is no object")

    calls.read_all(KEYS, each, lambda *_: None, 0.0)
    (call,), calls.to_send = calls.to_send, []
    calls.answered(call.number, 200, page(0, 1, False, 5), 0.0)
    calls.work(0.0)
    assert owner.errors == ["a room is no object"]
