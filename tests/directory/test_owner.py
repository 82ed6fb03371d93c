"""Owners: no sequence of requests without the token removes a room."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from evloop.base.errors import Refused
from evloop.directory.protocol import RoomEntry
from evloop.directory.registry import (
    check_owner,
    new_token,
    token_hash,
)
from evloop.framing import pack_frame
from tests.support.live import Caller, House

NAMES = ("lab", "LAB", "café", "x")


def test_the_hash_is_kept_and_not_the_token() -> None:
    token = new_token(bytes(range(16)))
    assert token == "000102030405060708090a0b0c0d0e0f"
    room = RoomEntry("lab", "239.255.7.1", 5751, token=token_hash(token))
    assert token.encode() not in room.token and len(room.token) == 32
    check_owner(room, token)


@pytest.mark.parametrize("token", [None, "", "0" * 32, "00" * 15 + "0F", "é", "\ud800", "x" * 9999])
def test_nothing_else_is_the_token(token: str | None) -> None:
    room = RoomEntry("lab", "239.255.7.1", 5751, token=token_hash("0" * 31 + "f"))
    with pytest.raises(Refused) as raised:
        check_owner(room, token)
    assert (raised.value.code, raised.value.reason) == (4, "not_allowed")


def test_a_room_without_owner_is_the_operators() -> None:
    room = RoomEntry("lab", "239.255.7.1", 5751)
    for token in (None, "", "0" * 32):
        with pytest.raises(Refused, match="has no owner; only the operator"):
            check_owner(room, token)


@pytest.fixture
def house() -> Iterator[House]:
    house = House("--delete", "owner")
    yield house
    house.close()


def test_the_token_comes_to_the_maker_alone(house: House) -> None:
    watcher, maker = house.caller(), house.caller()
    house.call(watcher, "watch")
    house.call(maker, "watch")
    result = house.call(maker, "makeroom", name="lab")["result"]
    token = result["token"]
    assert len(token) == 32
    house.call(watcher, "getdir")
    seen = json.dumps(watcher.got) + json.dumps([it for it in maker.got if "method" in it])
    assert "room_made" in seen
    assert token not in seen and "token" not in seen
    reply = house.call(watcher, "deleteroom", name="lab")
    assert reply["error"]["data"]["reason"] == "not_allowed"
    assert house.call(watcher, "deleteroom", name="lab", token=token)["result"]["room"]["name"]


def test_the_operator_deletes_anything(house: House) -> None:
    house.call(house.caller(), "makeroom", name="lab")
    house.dispatcher.delete_room("lab", None)
    assert house.call(house.caller(), "getdir")["result"]["rooms"] == []


def test_where_anyone_deletes_a_token_does_no_harm() -> None:
    house = House()
    try:
        caller = house.caller()
        assert "token" not in house.call(caller, "makeroom", name="lab")["result"]
        assert "result" in house.call(caller, "deleteroom", name="lab", token="0" * 32)
    finally:
        house.close()


def test_tokens_are_known_again_after_a_restart(tmp_path: object) -> None:
    state = f"{tmp_path}/directory.db"
    house = House("--delete", "owner", "--state", state)
    token = house.call(house.caller(), "makeroom", name="lab")["result"]["token"]
    house.close()
    with open(state, "rb") as file:
        assert token.encode() not in file.read()
    house = House("--delete", "owner", "--state", state)
    try:
        caller = house.caller()
        assert "error" in house.call(caller, "deleteroom", name="lab", token="0" * 32)
        assert "result" in house.call(caller, "deleteroom", name="lab", token=token)
    finally:
        house.close()


class Strangers(RuleBasedStateMachine):
    """One owner, who makes rooms and deletes some; strangers, who try everything else."""

    tokens = Bundle("tokens")  # of rooms that are gone: worth nothing any more

    def __init__(self) -> None:
        super().__init__()
        self.house = House("--delete", "owner", "--change-rate", "0")
        self.owner = self.house.caller()
        self.stranger = self.house.caller()
        self.standing: dict[str, tuple[str, str]] = {}  # fold -> (name, token)

    def teardown(self) -> None:
        self.house.close()

    def stranger_sends(self, value: object) -> None:
        handled = self.house.dispatcher.handled
        self.stranger.send(pack_frame(json.dumps(value).encode()))
        while self.house.dispatcher.handled == handled:  # late, it would meet another directory
            self.house.tick(1)
        self.house.tick(3)
        if self.stranger.read():
            self.stranger = self.house.caller()
        self.stranger.got.clear()

    @rule(name=st.sampled_from(NAMES))
    def owner_makes(self, name: str) -> None:
        reply = self.house.call(self.owner, "makeroom", name=name)
        if "result" in reply:
            assert name.casefold() not in self.standing
            self.standing[name.casefold()] = (name, reply["result"]["token"])
        else:
            assert name.casefold() in self.standing

    @rule(name=st.sampled_from(NAMES), target=tokens)
    def owner_deletes(self, name: str) -> str:
        if name.casefold() not in self.standing:
            return "f" * 32
        _, token = self.standing.pop(name.casefold())
        assert "result" in self.house.call(self.owner, "deleteroom", name=name, token=token)
        return token

    @rule(name=st.sampled_from(NAMES), old=tokens)
    def stranger_uses_an_old_token(self, name: str, old: str) -> None:
        self.stranger_sends(_delete(1, name=name, token=old))

    @rule(name=st.sampled_from(NAMES), other=st.sampled_from(NAMES))
    def stranger_uses_the_token_of_another_room(self, name: str, other: str) -> None:
        if other.casefold() in self.standing and name.casefold() != other.casefold():
            self.stranger_sends(_delete(2, name=name, token=self.standing[other.casefold()][1]))

    @rule(
        name=st.sampled_from(NAMES),
        token=st.one_of(
            st.none(), st.text(max_size=40), st.integers(), st.just([]), st.just("0" * 32)
        ),
        number=st.one_of(st.none(), st.integers(0, 9)),
        batch=st.booleans(),
    )
    def stranger_guesses(self, name: str, token: object, number: int | None, batch: bool) -> None:
        message = _delete(number, name=name, token=token)
        self.stranger_sends([message, message] if batch else message)

    @rule(name=st.sampled_from(NAMES), method=st.sampled_from(["deleteroom", "DELETEROOM", "quit"]))
    def stranger_asks_nicely(self, name: str, method: str) -> None:
        self.stranger_sends({"jsonrpc": "2.0", "method": method, "params": {"name": name}})

    @rule(name=st.sampled_from(NAMES))
    def stranger_makes_it_again(self, name: str) -> None:
        """Who makes a room under a free name owns it; a taken one is not replaced."""
        if name.casefold() in self.standing:
            params = {"name": name, "address": "239.255.7.1", "port": 5751}
            request = {"jsonrpc": "2.0", "id": 1, "method": "makeroom", "params": params}
            self.stranger_sends(request)

    @rule()
    def stranger_comes_and_goes(self) -> None:
        self.stranger.close()
        self.house.callers.remove(self.stranger)
        self.house.tick(3)
        self.stranger = self.house.caller()

    @rule(token=consumes(tokens))
    def tokens_are_forgotten(self, token: str) -> None:
        """Keeps the bundle small."""

    @invariant()
    def every_room_stands(self) -> None:
        rooms = self.house.dispatcher.directory.rooms()
        assert sorted(room.name for room in rooms) == sorted(
            name for name, _ in self.standing.values()
        )


def _delete(number: int | None, **params: Any) -> dict[str, Any]:
    message: dict[str, Any] = {"jsonrpc": "2.0", "method": "deleteroom", "params": params}
    return message if number is None else {**message, "id": number}


TestStrangers = Strangers.TestCase
TestStrangers.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)


def test_a_stranger_with_the_right_token_would_succeed(house: House) -> None:
    """The machine above could see a room go: a caller with the token takes it away."""
    token = house.call(house.caller(), "makeroom", name="lab")["result"]["token"]
    thief: Caller = house.caller()
    thief.send(pack_frame(json.dumps(_delete(None, name="LAB", token=token)).encode()))
    house.until(lambda: len(house.dispatcher.directory) == 0)
