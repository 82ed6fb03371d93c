"""When one of many acts and the others need not: the window law, and the Trickle timer.

`Trickle` (RFC 6206, with the window law of NORM, RFC 5740) decides when to say what I hold.

Time is cut into intervals that double from `shortest` to TRICKLE_S_MAX. In each, one point of
the second half is drawn; at that point a SESSION is due unless an equal digest was heard before.
After either, the interval has no more use, so the next point is drawn at once: the timer fires only
to speak (in a room of 100 this spares one of 10 wake-ups for each line said).

    state      news                    somebody is behind  equal heard   point reached
    waiting    shortest: keep it,      shortest: keep it,  -> resting    speak, -> resting
               else begin anew         else begin anew
    resting    begin anew              shortest: keep it,  -             (comes after its end)
                                       else begin anew
    resting ends with the interval; the next, twice as long, is `waiting` with its point drawn

News in the shortest interval keep a point that is still ahead: otherwise steady talk would put
every SESSION off for ever. Nor do announced copies put it off for longer than TRICKLE_HELD_S: a
stranger announces what never comes. That somebody is behind shortens the interval like news, but
does nothing in the shortest one (RFC 6206, 4.2, step 6): what everybody needs is being said just
then.
"""

from __future__ import annotations

from math import e, log

from evloop.room.reliable.limits import TRICKLE_HELD_S, TRICKLE_S_MAX, TRICKLE_S_MIN
from evloop.system.timers import NEVER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from random import Random


def window_wait(rng: Random, window: float, members: int) -> float:
    """Draw a wait in [0, window] seconds, `members` drawing likewise.

    The truncated exponential of NORM (RFC 5401, 4.2): the density grows as exp(l t / window) with
    l = ln(members) + 1, so nearly everybody waits long and the few early ones silence the rest.
    """
    # exp(l) is e times members.
    return window * log(1.0 + rng.random() * (e * members - 1.0)) / (log(members) + 1.0)


class Trickle:
    """The Trickle timer of one room. `members` is the estimate of how many have such timers."""

    __slots__ = ("_end", "_held_until", "_interval", "_point", "_resting_until", "_rng", "shortest")

    def __init__(self, rng: Random, now: float, members: int) -> None:
        self._rng = rng
        self.shortest = TRICKLE_S_MIN  # interval: half of it is to be longer than a way and back
        self._held_until = NEVER  # news since the last SESSION may put the next off until then
        self._begin(TRICKLE_S_MIN, now, now, members)

    def _begin(self, interval: float, start: float, resting_until: float, members: int) -> None:
        half = interval / 2
        self._interval = interval
        self._point = start + half + window_wait(self._rng, half, members)
        self._end = start + interval
        self._resting_until = resting_until  # before then an equal digest changes nothing

    def _rest(self, now: float, members: int) -> None:
        """This interval needs no more SESSION: draw the point of the next."""
        end = max(self._end, now)
        self._held_until = NEVER
        self._begin(min(2 * self._interval, TRICKLE_S_MAX), end, end, members)

    def deadline(self) -> float:
        return self._point

    def reset(self, now: float, members: int) -> None:
        """Somebody is behind: tell soon what I hold."""
        resting = now < self._resting_until
        if self._interval > (2 * self.shortest if resting else self.shortest):
            self._begin(self.shortest, now, now, members)

    def news(self, now: float, members: int, after: float) -> None:
        """There is new data, of which copies are announced until `after`.

        Until then it is still being said, so the interval begins there. A point before that is
        drawn again, not clamped, or everybody would speak at once.
        """
        self._held_until = min(self._held_until, now + TRICKLE_HELD_S)
        if self._interval > self.shortest or (self._point < after and now < self._held_until):
            self._begin(self.shortest, max(now, after), now, members)

    def heard_equal(self, now: float, members: int) -> bool:
        """Somebody said what I would have said; whether that moved the deadline."""
        if now < self._resting_until:
            return False
        self._rest(now, members)
        return True

    def handle_timer(self, now: float, members: int) -> bool:
        """Whether a SESSION is due."""
        if now < self._point:
            return False
        self._rest(now, members)
        return True
