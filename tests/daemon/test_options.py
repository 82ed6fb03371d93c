"""Options that would do something else than they say are errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from evloop.base.errors import SetupError
from evloop.daemon.options import parse_options
from tests.support.live import House


def test_an_interface_that_is_not_there_is_an_error() -> None:
    with pytest.raises(SetupError, match='no interface has the name or address "nosuch"'):
        House("--interface", "nosuch").close()
    House("--interface", "127.0.0.1").close()


def test_no_clients_means_any_number() -> None:
    house = House("--max-clients", "0")
    try:
        caller = house.caller()
        assert house.call(caller, "ping")["result"] == {}
    finally:
        house.close()


@pytest.mark.parametrize(
    "arguments",
    [
        ("--tls-key", "key.pem"),
        ("--tls-client-ca", "ca.pem"),
        ("--memory", "--backup", "copy.db"),
        ("--memory", "--state", "a.db"),
    ],
)
def test_what_makes_no_sense_together(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        parse_options(arguments)
    assert caught.value.code == 2
    assert arguments[0] in capsys.readouterr().err


def test_the_state_is_let_go_of_when_the_start_fails(tmp_path: Path) -> None:
    state = str(tmp_path / "directory.db")
    with pytest.raises(SetupError):
        House("--state", state, "--interface", "nosuch")
    House("--state", state).close()
