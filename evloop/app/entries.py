"""Entries of the directory on their way to a person or a script, and what it says against one."""

from __future__ import annotations

from evloop.base.errors import NOT_ALLOWED, Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from evloop.directory.protocol import RoomEntry


def room_object(room: RoomEntry, members: int) -> dict[str, Any]:
    """A room as the members of its JSON object."""
    return {
        "name": room.name,
        "address": room.address,
        "port": room.port,
        "mode": room.mode,
        "members": members,
        "made": room.made,
        "keep": room.keep,
    }


def keeps_nothing(error: Refused) -> Refused:
    """`error` of a makeroom with `keep`: an older directory does not know that word."""
    if error.reason != "unknown_member":
        return error
    return Refused(NOT_ALLOWED, "not_allowed", "this directory keeps nothing")
