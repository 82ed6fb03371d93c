"""Which rooms nobody needs: `--expire DAYS`.

A room's time runs while the server runs and nobody is in the room. It is counted in seconds of the
server's own running, `ran`, which the store keeps, and not by the calendar: a small box has no
clock chip and jumps from 1970 to now, and a server that was off for a month must not come back
and remove every room.

A sweep looks at all rooms, once in a while, piece by piece (`begin`, `look` at each piece, `end`):
the server has others to serve. For each room:

    somebody is in it, or was since the last sweep     seen = ran
    nobody, and it is new to us                        seen = ran
    nobody, and ran - seen < span                      nothing
    nobody, and ran - seen >= span                     it has expired
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from evloop.directory.protocol import Room


class Expiry:
    """`span_s`: --expire in seconds. `ran_s` and `seen` (by name) are what the store holds."""

    __slots__ = ("_looked", "_ran", "_seen", "_since", "_stored", "_visited", "span_s", "visited")

    def __init__(self, span_s: float, ran_s: float, seen: "dict[str, float]", now: float) -> None:
        self.span_s = span_s
        self._ran = ran_s
        self._since = now
        self._stored = seen  # until the first sweep has found the rooms
        # By room and not by name: one that was deleted and made anew is new.
        self._seen: dict[Room, float] = {}
        self._looked: dict[Room, float] = {}  # the same as this sweep finds it
        self._visited: set[str] = set()  # what `visited` held when this sweep began
        self.visited: set[str] = set()  # folds of the rooms entered since the last sweep began

    def ran(self, now: float) -> float:
        """Seconds that servers on this store have run, in all."""
        return self._ran + (now - self._since)

    def begin(self) -> None:
        """A sweep begins."""
        self._visited = self.visited.copy()
        self.visited.clear()  # the registrar adds to this one

    def look(
        self, now: float, rooms: "Iterable[Room]", members: "Callable[[Room], int]"
    ) -> "tuple[dict[Room, float], list[Room]]":
        """Return (rooms whose `seen` has changed, with it; rooms that have expired)."""
        ran = self.ran(now)
        changed: dict[Room, float] = {}
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
