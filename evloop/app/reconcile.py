"""Decides what to do about the user's room when its directory comes back. (Pure: no sockets.)

The directory may be the same as before, another one (started again with `--memory`, or somebody
else's), or one that does not tell which it is (0.1.0). What it says of the room decides; the talk
goes on in any case. The owner does what a call returns, and reports the result by a next call:

    state      connected   found here   found elsewhere   missing, and the directory is
                                                          the same      another      not told
    away       -> asking   -            -                 -             -            -
    asking     -> asking   -> in        -> in: MOVE       -> out: GONE  -> waiting   -> out: UNKNOWN
    waiting    -> asking   (its time comes -> making; somebody has made it -> asking)
    making     -> asking   (made, by us or at the same moment by another -> asking; refused -> out)
    in, out    -> asking   (somebody has made it here -> asking; elsewhere: TELL)

    all but away, waiting: somebody has deleted it -> out: GONE
    any                    the directory is lost -> away

In `asking` the owner asks to enter, in `making` it asks for the room to be made at its old place.
Before that it waits 0 to REMAKE_S at random, so that of many clients that come back at once one
makes the room and the others find it. A room that was deleted is not made again, in no directory;
and nothing is reported twice.

MOVE: the talk goes on where this directory has the room, when the client has come back to a
directory. When somebody makes the room anew elsewhere while the client is connected, the user is
only told how to follow (TELL): its maker may want another company.
"""

from __future__ import annotations

from evloop.app.limits import REMAKE_S
from evloop.system.timers import NEVER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from random import Random

    Place = tuple[str, int]

AWAY, ASKING, WAITING, MAKING, IN, OUT = range(6)

# What the owner is to do: ask, go there, say what has happened.
NOTHING, ENTER, MAKE, MOVE, TELL, GONE, UNKNOWN = range(7)


class Reconciler:
    """One room that the user is in at `place`, as the directory `identity` said ("": it does not
    tell its own)."""

    __slots__ = ("_back", "_deleted", "_identity", "_known", "_told", "due", "place", "state")

    def __init__(self, place: Place, identity: str, *, away: bool) -> None:
        self.place = place
        self.state = AWAY if away else IN
        self.due = NEVER  # when `handle_timer` has something to do
        self._known = identity  # of the directory that had the room last
        self._identity = identity  # of the one that is connected
        self._back = False  # we have come back to it and do not know yet where the room is
        self._deleted = False  # by somebody
        self._told = False  # that newcomers do not find it

    def connected(self, identity: str) -> int:
        """A directory is connected, the one of before or another."""
        self._identity = identity
        self._back = True
        return self._ask()

    def lost(self) -> None:
        """The directory is away."""
        self.state = AWAY
        self.due = NEVER

    def _ask(self) -> int:
        self.state = ASKING
        self.due = NEVER
        return ENTER

    def found(self, place: Place) -> int:
        """The directory has the room, at `place`."""
        if self.state != ASKING:
            return NOTHING
        back, self._back = self._back, False
        self.state = IN
        self._known = self._identity
        self._deleted = self._told = False
        if place == self.place:
            return NOTHING
        return MOVE if back and self._identity else TELL

    def missing(self, now: float, rng: Random) -> int:
        """The directory has no such room."""
        if self.state != ASKING:
            return NOTHING
        if self._identity and self._identity != self._known and not self._deleted:
            self.state = WAITING
            self.due = now + REMAKE_S * rng.random()
            return NOTHING
        self._deleted |= bool(self._identity)
        return self._out(GONE if self._identity else UNKNOWN)

    def _out(self, telling: int) -> int:
        self.state = OUT
        self._back = False
        self.due = NEVER
        told, self._told = self._told, True
        return NOTHING if told else telling

    def handle_timer(self, now: float) -> int:
        """Make the room, when that is due."""
        if now < self.due:
            return NOTHING
        self.due = NEVER
        self.state = MAKING
        return MAKE

    def made(self) -> int:
        """It is there: made by us, or at the same moment by another, perhaps elsewhere."""
        return self._ask() if self.state == MAKING else NOTHING

    def refused(self, now: float, retry_after: float = 0.0) -> bool:
        """It was not made; it is tried again in `retry_after` seconds (0: never). Whether that is
        the end of it, and to be told."""
        if self.state != MAKING:
            return False
        if retry_after > 0:
            self.state = WAITING
            self.due = now + retry_after
            return False
        self._out(NOTHING)
        return True

    def made_by_other(self, place: Place) -> int:
        """Somebody has made a room of this name, at `place`."""
        if self.state in (AWAY, ASKING, MAKING):
            return NOTHING  # an answer is on its way
        if self.state == WAITING or place == self.place:
            return self._ask()
        return TELL

    def deleted(self) -> int:
        """Somebody has deleted the room."""
        if self.state in (AWAY, WAITING):
            return NOTHING
        self._deleted = True
        return self._out(GONE)
