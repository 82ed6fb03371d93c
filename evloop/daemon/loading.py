"""All rooms are read anew from etcd, as they were at one revision, and told piece by piece."""

from __future__ import annotations

from evloop.daemon import etcd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from evloop.daemon.calls import Calls
    from evloop.daemon.etcd import Json, KeyValue
    from evloop.directory.protocol import RoomEntry

    Rooms = dict[str, tuple[RoomEntry, int]]  # by fold: a room, and the revision that made it


def load(
    calls: Calls,
    keys: etcd.Keys,
    read: Callable[[list[RoomEntry]], object],
    loaded: Callable[[int, Json, Rooms, int, float], object],
    now: float,
) -> None:
    """Read all rooms, then `head` at the same revision.

    `read(rooms)` is told of some at a time. At the end comes `loaded(status, answer, rooms,
    revision, now)`, with etcd's answer about `head`.
    """
    rooms: Rooms = {}

    def each(found: list[KeyValue]) -> None:
        piece = []
        for one in found:
            fold = keys.rest_of(one.key)
            room = etcd.read_room(etcd.read_json(one.value), fold)
            rooms[fold] = room, one.mod
            piece.append(room)
        read(piece)

    def then(revision: int, now: float) -> None:
        calls.post(
            etcd.RANGE,
            etcd.read_key(keys.head, revision),
            lambda status, answer, now: loaded(status, answer, rooms, revision, now),
            now,
        )

    calls.read_all(keys.all_of("n"), each, then, now)
