"""The fuzzer of the door, for a second; `make fuzz` runs it for longer."""

from __future__ import annotations

import pytest

from evloop.irc.nicks import Nicks
from tests.fuzz.irc import run


def test_the_door_against_its_clients() -> None:
    compared = run(7, 20_000)
    assert compared > 500  # else it compares nothing


def test_the_fuzzer_sees_two_with_one_nick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Nicks, "make_way", lambda *arguments: None)
    with pytest.raises(AssertionError):
        run(7, 20_000)
