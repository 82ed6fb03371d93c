"""The fuzzer of the door, for a second; `make fuzz` runs it for longer."""

from __future__ import annotations

import pytest

from evloop.irc.seat import Seat
from tests.fuzz.irc import run


def test_the_door_against_its_clients() -> None:
    compared = run(7, 20_000)
    assert compared > 500  # else it compares nothing


def test_the_fuzzer_sees_a_member_that_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Seat, "_tell_renamed", lambda *arguments: None)
    with pytest.raises(AssertionError):
        run(7, 20_000)
