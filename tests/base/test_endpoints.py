"""HOST:PORT as people write it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evloop.base.addresses import (
    DIRECTORY_PORT,
    endpoint_of,
    split_endpoint,
)
from evloop.base.errors import SetupError


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("192.0.2.1:5000", "192.0.2.1", 5000),
        ("192.0.2.1", "192.0.2.1", DIRECTORY_PORT),
        ("box", "box", DIRECTORY_PORT),
        ("[fd00::1]:80", "fd00::1", 80),
        ("[fd00::1]", "fd00::1", DIRECTORY_PORT),
        ("fd00::1", "fd00::1", DIRECTORY_PORT),
        (":0", "", 0),
    ],
)
def test_what_is_understood(text: str, host: str, port: int) -> None:
    assert split_endpoint(text) == (host, port)


@pytest.mark.parametrize(
    "text", ["a:", "a:x", "a:99999", "[a", "[a]b", "[a]:", "a b", "a:-1", "a\n"]
)
def test_what_is_refused_names_the_text(text: str) -> None:
    with pytest.raises(SetupError) as caught:
        split_endpoint(text)
    assert caught.value.exit_status == 2 and "HOST:PORT" in caught.value.sentence


@given(st.text())
def test_any_text_is_split_or_refused(text: str) -> None:
    try:
        host, port = split_endpoint(text)
    except SetupError:
        return
    assert 0 <= port <= 65535 and host.isprintable()


def test_round_trip() -> None:
    for host in ("192.0.2.1", "fd00::1"):
        assert split_endpoint(endpoint_of(host, 9)) == (host, 9)
