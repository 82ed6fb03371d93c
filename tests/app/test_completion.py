"""Tab: commands, options, rooms and names, each with what should follow it."""

from __future__ import annotations

import pytest

from evloop.app.completion import at_prompt, in_chat

ROOMS = ["Kitchen", "kiosk", "lab"]


@pytest.mark.parametrize(
    ("before", "candidates"),
    [
        ("get", ["getdir "]),
        ("GET", ["getdir "]),
        ("zzz", []),
        ("chat k", ["kiosk ", "Kitchen "]),
        ("chat K", ["kiosk ", "Kitchen "]),
        ("deleteroom l", ["lab "]),
        ("makeroom l", []),
        ("makeroom x --m", ["--mode "]),
        ("makeroom x --mode p", ["plain "]),
        ("help get", ["getdir "]),
        ("nonsense l", []),
        ("chat lab l", ["lab "]),
        ("deleteroom lab l", []),
    ],
)
def test_at_the_prompt(before: str, candidates: list[str]) -> None:
    assert at_prompt(before, ROOMS) == candidates


def test_an_empty_line_offers_every_command() -> None:
    assert "chat " in at_prompt("", ROOMS) and "quit " in at_prompt("", ROOMS)


@pytest.mark.parametrize(
    ("before", "candidates"),
    [
        ("", ["Carol: ", "carl: ", "Bob: "]),
        ("c", ["Carol: ", "carl: "]),
        ("hello C", ["Carol ", "carl "]),
        ("/h", ["/history ", "/help "]),
        ("/help /w", ["/who "]),
        ("//x", []),
        ("what /w", []),
        ("/ig", ["/ignore "]),
        ("/ignore c", ["Carol ", "carl "]),
        ("/ignore -b", ["-Bob "]),
    ],
)
def test_in_a_room_the_latest_speaker_comes_first(before: str, candidates: list[str]) -> None:
    assert in_chat(before, ["carl", "Carol"], ["Bob", "carl"]) == candidates


@pytest.mark.parametrize(
    ("before", "candidates"),
    [
        ("/join k", ["kiosk ", "Kitchen "]),
        ("/chat l", ["lab "]),
        ("/deleteroom k", ["kiosk ", "Kitchen "]),
        ("/join lab k", []),
        ("/switch K", ["Kitchen "]),
        ("/leave ", ["attic ", "Kitchen "]),
        ("//join k", []),
        ("/nonsense k", []),
        ("go to k", []),
    ],
)
def test_in_a_room_rooms_are_offered_where_one_is_asked_for(
    before: str, candidates: list[str]
) -> None:
    assert in_chat(before, [], ["Bob"], ROOMS, ["Kitchen", "attic"]) == candidates
