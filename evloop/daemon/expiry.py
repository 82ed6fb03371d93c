"""Which rooms are removed because nobody uses them: `--expire DAYS`.

A room's time runs while the server runs and nobody is in the room. It is counted in seconds of the
server's own running, `ran`, which the store keeps, and not by the calendar: a small box has no
clock chip and jumps from 1970 to now, and a server that was off for a month must not come back
and remove every room.

From time to time a sweep looks at all rooms, in pieces (`begin`, `look` at each piece, `end`), so
that requests are answered in between. For each room:

    somebody is in it, or was since the last sweep     seen = ran
    nobody, and it is new to us                        seen = ran
    nobody, and ran - seen < span                      nothing
    nobody, and ran - seen >= span                     it has expired
"""

from __future__ import annotations

from itertools import islice

from evloop.base.errors import EvloopError
from evloop.daemon.limits import (
    EXPIRED_PER_SWEEP_MAX,
    EXPIRY_PAUSE_S,
    EXPIRY_PIECE_ROOMS,
    EXPIRY_SWEEP_S,
    EXPIRY_SWEEPS_MIN,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from evloop.daemon.dispatcher import Dispatcher
    from evloop.directory.protocol import RoomEntry
    from evloop.system.loop import Loop


class Expiry:
    """`span_s`: --expire in seconds. `ran_s` and `seen` (by name) are what the store holds."""

    __slots__ = ("_looked", "_ran", "_seen", "_since", "_stored", "_visited", "span_s", "visited")

    def __init__(self, span_s: float, ran_s: float, seen: dict[str, float], now: float) -> None:
        self.span_s = span_s
        self._ran = ran_s
        self._since = now
        self._stored = seen  # until the first sweep has found the rooms
        # By room and not by name: one that was deleted and made anew is new.
        self._seen: dict[RoomEntry, float] = {}
        self._looked: dict[RoomEntry, float] = {}  # the same as this sweep finds it
        self._visited: set[str] = set()  # what `visited` held when this sweep began
        self.visited: set[str] = set()  # folds of the rooms entered since the last sweep began

    def ran(self, now: float) -> float:
        """Seconds that servers on this store have run, in all."""
        return self._ran + (now - self._since)

    def begin(self) -> None:
        """A sweep begins."""
        self._visited = self.visited.copy()
        self.visited.clear()  # the dispatcher adds to this one

    def look(
        self, now: float, rooms: Iterable[RoomEntry], members: Callable[[RoomEntry], int]
    ) -> tuple[dict[RoomEntry, float], list[RoomEntry]]:
        """Return (rooms whose `seen` has changed, with it; rooms that have expired)."""
        ran = self.ran(now)
        changed: dict[RoomEntry, float] = {}
        expired = []
        for room in rooms:
            last = self._seen.get(room)
            if last is None:
                last = self._stored.get(room.name)
            if last is None or room.fold in self._visited or members(room):
                last = changed[room] = ran
            elif ran - last >= self.span_s:
                expired.append(room)
            self._looked[room] = last
        return changed, expired

    def end(self) -> None:
        """Every room was looked at; what was not is no longer there."""
        self._seen, self._looked = self._looked, {}
        self._stored = {}
        self._visited.clear()


class Sweeper:
    """Has rooms expire: sweeps now, and again and again.

    A piece of the rooms each tick: a sweep over 100,000 at once took 55 ms, and 250 ms when all of
    them were news to the store.
    """

    __slots__ = ("_dispatcher", "_expiry", "_left", "_loop", "_more", "_rooms")

    def __init__(self, loop: Loop, dispatcher: Dispatcher, expiry: Expiry) -> None:
        self._loop = loop
        self._dispatcher = dispatcher
        self._expiry = expiry
        self._begin()

    def _begin(self) -> None:
        if not self._loop.guard(self, self._begin_sweep):
            self._loop.call_at(self._loop.now + EXPIRY_PAUSE_S, self._begin)

    def _begin_sweep(self) -> None:
        self._expiry.begin()
        self._rooms = iter(self._dispatcher.directory)
        self._left = EXPIRED_PER_SWEEP_MAX  # rooms that this sweep may still remove
        self._more = False  # there were more
        self._dispatcher.note_seen(self._expiry.ran(self._loop.now), {})
        self._loop.defer(self._go_on)

    def _go_on(self) -> None:
        expiry, now = self._expiry, self._loop.now
        piece = list(islice(self._rooms, EXPIRY_PIECE_ROOMS))
        if piece:
            self._loop.defer(self._go_on)
            self._loop.guard(self, self._look_at, piece)
            return
        expiry.end()
        pause = min(EXPIRY_SWEEP_S, expiry.span_s / EXPIRY_SWEEPS_MIN)
        self._loop.call_at(now + (min(pause, EXPIRY_PAUSE_S) if self._more else pause), self._begin)

    def _look_at(self, piece: Sequence[RoomEntry]) -> None:
        dispatcher, expiry, now = self._dispatcher, self._expiry, self._loop.now
        directory = dispatcher.directory
        there = [room for room in piece if room in directory]  # not deleted since `_begin`
        changed, expired = expiry.look(now, there, directory.members)
        if changed:
            self._loop.guard(self, dispatcher.note_seen, expiry.ran(now), changed)
        self._remove(expired)

    def _remove(self, expired: Sequence[RoomEntry]) -> None:
        self._more = self._more or len(expired) > self._left
        for room in expired[: self._left]:
            if self._left <= 0:
                return
            self._left -= 1
            self._loop.guard(self, self._remove_one, room)

    def _remove_one(self, room: RoomEntry) -> None:
        dispatcher = self._dispatcher
        try:
            dispatcher.delete_room(room.name, None, logged="a room has expired")
        except EvloopError as error:  # the disk; the next sweep finds it again
            dispatcher.log.warning("an expired room stays", room=room.name, why=str(error))
            self._left = 0
