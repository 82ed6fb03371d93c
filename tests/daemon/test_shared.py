"""A directory that is read anew, piece by piece, while it serves."""

from __future__ import annotations

import json
from typing import Any

from evloop.daemon.shared import Draft, SharedDirectory
from evloop.directory.protocol import RoomEntry


def room(name: str, port: int) -> RoomEntry:
    return RoomEntry(name, "239.255.7.1", port, made=1, maker="192.0.2.7")


def listed(directory: SharedDirectory) -> dict[str, tuple[int, int]]:
    """Port and members of each room, by name."""
    page: dict[str, Any] = json.loads(directory.page(None, 100))
    return {one["name"]: (one["port"], one["members"]) for one in page["rooms"]}


def test_members_of_the_rooms_that_stay_are_not_lost_whatever_happens_meanwhile() -> None:
    old = SharedDirectory([room("a", 1), room("b", 2), room("c", 3), room("e", 5)], 7)
    emptied: list[str] = []
    old.on_empty = emptied.append
    first, second = object(), object()
    for name in ("a", "c", "e"):
        old.enter(name, first)
    old.set_elsewhere("b", 4)
    stays = old.find("a")

    draft = Draft(old)
    draft.take([room("a", 1), room("b", 2)])
    old.leave("a", first)
    old.enter("b", second)
    old.set_elsewhere("a", 9)
    assert listed(old)["c"] == (3, 1)  # it serves what it was
    draft.take([room("d", 4), room("e", 50)])
    old.enter("e", second)
    gone = old.become(draft, 12)

    assert [one.name for one in draft.come] == ["d", "e"]
    assert sorted((one.name, one.port) for one in gone) == [("c", 3), ("e", 5)]
    assert old.version == 12 and old.find("a") is stays
    assert listed(old) == {"a": (1, 9), "b": (2, 5), "d": (4, 0), "e": (50, 0)}
    assert emptied == ["a", "c", "e"]
    assert old.at("239.255.7.1", 3) is None and old.at("239.255.7.1", 50) is old.find("e")
    assert old.made_by["192.0.2.7"] == 4
    assert old.leave_all(first) == 0 and old.leave_all(second) == 1
    old.remove(old.find("d"))
    old.add(room("c", 3))
    assert listed(old) == {"a": (1, 9), "b": (2, 4), "c": (3, 0), "e": (50, 0)}
