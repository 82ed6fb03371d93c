"""A bug that shows at one of many, in each pass over many: all the others are served."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from evloop.daemon.connection import Connection
from evloop.daemon.console import Console
from evloop.daemon.dispatcher import Dispatcher
from evloop.daemon.server import guard_handlers
from evloop.net.limits import UNFINISHED_FRAME_S
from evloop.net.stream import Stream
from tests.support.live import Caller, House


@pytest.fixture
def house() -> Iterator[House]:
    house = House()
    guard_handlers(house.loop, house.server.log, False)
    yield house
    house.close()


def raising(unlucky: object, real: Callable[..., Any]) -> Callable[..., Any]:
    """`real`, with a bug that shows at `unlucky` alone."""

    def planted(self: object, *arguments: Any) -> Any:
        if self is unlucky:
            raise ZeroDivisionError("planted")
        return real(self, *arguments)

    return planted


def connection_of(house: House, caller: Caller) -> Connection:
    port = caller.sock.getsockname()[1]
    return next(it for it in house.dispatcher.connections.values() if it.port == port)


def three(house: House) -> tuple[Caller, Caller, Caller]:
    """The second is the unlucky one."""
    callers = house.caller(), house.caller(), house.caller()
    for caller in callers:
        assert "result" in house.call(caller, "watch")
    return callers


def is_told(house: House) -> bool:
    return any("internal error" in line and "planted" in line for line in house.lines)


def others_go_on(house: House, first: Caller, last: Caller) -> None:
    for caller in (first, last):
        assert house.call(caller, "ping")["result"] == {}
    assert is_told(house)


def test_flush(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, last = three(house)
    monkeypatch.setattr(Stream, "flush", raising(connection_of(house, second), Stream.flush))
    asked = [caller.ask("ping") for caller in (first, second, last)]
    house.until(lambda: first.reply(asked[0]) and last.reply(asked[2]) and second.read())
    others_go_on(house, first, last)


def test_news_to_watchers(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, last = three(house)
    maker = house.caller()
    monkeypatch.setattr(Connection, "send", raising(connection_of(house, second), Stream.send))
    assert "result" in house.call(maker, "makeroom", name="lab")
    house.until(second.read)  # hung up: it would miss what is new without knowing
    for caller in (first, last):
        caller.read()
        assert [it["params"]["room"]["name"] for it in caller.got if "params" in it] == ["lab"]
    others_go_on(house, first, last)


def test_who_is_told_that_a_stream_has_ended(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, last = three(house)
    doomed = [connection_of(house, caller) for caller in (first, second)]
    monkeypatch.setattr(Connection, "ended", raising(doomed[1], Connection.ended))
    for connection in reversed(doomed):
        connection.abort("cut")
    house.until(lambda: len(house.dispatcher.connections) == 2)
    others_go_on(house, house.caller(), last)


def test_turns(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, last = three(house)
    monkeypatch.setattr(Stream, "go_on", raising(connection_of(house, second), Stream.go_on))
    for caller in (second, first, last):
        house.dispatcher.hub.turns.wait(connection_of(house, caller))
    house.until(second.read)
    others_go_on(house, first, last)


def test_deadlines(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three that say nothing: the bug of one keeps none of the others for ever."""
    silent = [house.caller() for _ in range(3)]
    house.until(lambda: len(house.dispatcher.connections) == 3)
    unlucky = connection_of(house, silent[0])
    monkeypatch.setattr(Connection, "expired", raising(unlucky, Connection.expired))
    house.skip(UNFINISHED_FRAME_S + 1.0)
    house.until(lambda: silent[1].read() and silent[2].read())
    assert is_told(house)


def test_before_sleep_and_timers_and_what_is_deferred(house: House) -> None:
    caller, seen = house.caller(), []

    def planted() -> None:
        seen.append(1)
        raise ZeroDivisionError("planted")

    house.loop.before_sleep(planted)
    house.loop.call_at(house.loop.now, planted)
    house.loop.defer(planted)
    house.tick()
    assert len(seen) == 3
    others_go_on(house, caller, caller)


def test_goodbyes(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, last = three(house)
    unlucky, real = connection_of(house, second), Dispatcher.send_away

    def planted(self: Dispatcher, connection: Connection, reason: str) -> None:
        if connection is unlucky:
            raise ZeroDivisionError("planted")
        real(self, connection, reason)

    monkeypatch.setattr(Dispatcher, "send_away", planted)
    house.server.drain("the end")
    house.until(lambda: first.read() and last.read())
    for caller in (first, last):
        assert caller.got[-1]["method"] == "closing"
    assert is_told(house)


@pytest.mark.parametrize("what", ["delete_room", "note_seen"])
def test_expiry(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    house = House("--change-rate", "0", "--expire", "0.001")  # 86.4 s
    guard_handlers(house.loop, house.server.log, False)
    try:
        caller = house.caller()
        for name in ("one", "two", "three"):
            house.call(caller, "makeroom", name=name)
        house.skip(10.0)
        real = getattr(Dispatcher, what)

        def planted(self: Dispatcher, *arguments: Any, **more: Any) -> Any:
            if what == "note_seen" or arguments[0] == "one":
                raise ZeroDivisionError("planted")
            return real(self, *arguments, **more)

        monkeypatch.setattr(Dispatcher, what, planted)
        house.skip(120.0)
        left = sorted(room.name for room in house.dispatcher.directory.rooms())
        if what == "delete_room":
            assert left == ["one"]
        assert is_told(house)
        monkeypatch.undo()
        house.skip(120.0)
        assert not list(house.dispatcher.directory.rooms())
    finally:
        house.close()


def test_the_consoles_lines(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[str] = []

    def planted(self: Console, line: str) -> list[str]:
        taken.append(line)
        if line == "two":
            raise ZeroDivisionError("planted")
        return []

    console = Console(house.loop, house.dispatcher, lambda: None)
    monkeypatch.setattr(Console, "answer", planted)
    console.on_data(b"one\ntwo\nthree\n")
    console.close()
    assert taken == ["one", "two", "three"]
    assert is_told(house)
