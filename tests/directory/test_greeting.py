"""What a client says in `hello`, and when it goes on to the next server of its directory."""

from __future__ import annotations

from typing import Any

from evloop.base.errors import Refused
from evloop.directory.greeting import Greeting

IDENTITY, ANOTHER = "0123456789abcdef", "fedcba9876543210"


def greeted(it: Greeting, version: int, identity: str = IDENTITY, **more: Any) -> bool:
    """Whether the next server is tried."""
    return it.is_behind({"version": version, **more}, identity, True)


def test_the_first_hello_tells_no_version() -> None:
    it = Greeting()
    assert it.params("c", "n") == {"client": "c", "name": "n"}
    assert not greeted(it, 5)
    assert it.params("c", "n")["version"] == 5
    it.heard("room_made", {"version": 6})
    it.heard("room_deleted", {"version": "7"})
    it.heard("closing", {"version": 99})
    assert it.params("c", "n")["version"] == 6


def test_a_server_that_is_behind_is_left_once() -> None:
    it = Greeting()
    greeted(it, 5)
    assert greeted(it, 4)
    assert it.params("c", "n")["version"] == 5
    assert not greeted(it, 3)  # then it is taken as it is
    assert it.params("c", "n")["version"] == 3
    assert greeted(it, 2)


def test_another_directory_and_the_only_server_are_taken() -> None:
    it = Greeting()
    greeted(it, 5)
    assert not greeted(it, 1, ANOTHER)
    assert not it.is_behind({"version": 0}, ANOTHER, False)
    assert not greeted(it, 0, "")  # evloop 0.1.0 tells no id
    assert "version" not in it.params("c", "n")


def test_an_older_server_knows_no_version() -> None:
    it = Greeting()
    unknown = Refused(-32602, "unknown_member", "there is no such parameter")
    it.params("c", "n")
    assert not it.again_without(unknown)  # it was not told any
    greeted(it, 5)
    it.params("c", "n")
    assert not it.again_without(None)
    assert not it.again_without(Refused(5, "directory_full", "full"))
    assert it.again_without(unknown)
    assert "version" not in it.params("c", "n")
    assert not it.again_without(unknown)
    assert it.params("c", "n")["version"] == 5


def test_who_is_stale_says_so() -> None:
    it = Greeting()
    greeted(it, 5, stale=17)
    assert it.stale
    greeted(it, 5)
    assert not it.stale
