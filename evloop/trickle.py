"""When to say what I hold: the Trickle timer (RFC 6206) with NORM's window law. Floor 2.

Time is cut into intervals that double from TRICKLE_S_MIN to TRICKLE_S_MAX. In each, one point of
the second half is drawn; at the point a SESSION is due unless an equal digest was heard before.

    state      news                    equal heard     point reached             end reached
    waiting    shortest: keep it,      -> calmed       speak, -> spoken          (after the point)
               else begin anew
    calmed     begin anew              -               nothing, -> spoken        (after the point)
    spoken     begin anew              -               (passed)                  double, -> waiting

`spoken` also stands for the rest of an interval in which there was no need to. News in the shortest
interval keep a point that is still ahead: otherwise steady talk would put every SESSION off for
ever. That somebody is behind shortens the interval like news, but does nothing in the shortest one
(RFC 6206, 4.2, step 6): what everybody needs is being said just then.
"""

from evloop.limits import TRICKLE_S_MAX, TRICKLE_S_MIN
from evloop.waits import window_wait

TYPE_CHECKING = False
if TYPE_CHECKING:
    from random import Random


class Trickle:
    """One room's timer. `members` is the estimate of those who draw likewise."""

    __slots__ = ("_calm", "_end", "_interval", "_point", "_rng", "_spoken")

    def __init__(self, rng: "Random", now: float, members: int) -> None:
        self._rng = rng
        self._begin(TRICKLE_S_MIN, now, members)

    def _begin(self, interval: float, start: float, members: int) -> None:
        half = interval / 2
        self._interval = interval
        self._point = start + half + window_wait(self._rng, half, members)
        self._end = start + interval
        self._calm = self._spoken = False

    def deadline(self) -> float:
        return self._end if self._spoken else self._point

    def reset(self, now: float, members: int) -> None:
        """Somebody is behind."""
        if self._interval > TRICKLE_S_MIN:
            self._begin(TRICKLE_S_MIN, now, members)

    def news(self, now: float, members: int, after: float) -> None:
        """There is new data, of which copies are announced until `after`.

        Until then it is still being said, so the interval begins there. A point before that is
        drawn again, not clamped, or everybody would speak at once.
        """
        stale = self._interval > TRICKLE_S_MIN or self._calm or self._spoken
        if stale or self._point < after:
            self._begin(TRICKLE_S_MIN, max(now, after), members)

    def heard_equal(self) -> None:
        """Somebody said what I would have said."""
        self._calm = True

    def handle_timer(self, now: float, members: int) -> bool:
        """Whether a SESSION is due."""
        if not self._spoken and now >= self._point:
            self._spoken = True
            return not self._calm
        if self._spoken and now >= self._end:
            self._begin(min(2 * self._interval, TRICKLE_S_MAX), now, members)
        return False
