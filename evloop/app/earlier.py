"""Messages from before we entered, held back until they can be shown in order.

History comes in any order and from several members. It is complete when the session has caught up:
no gap is open, and somebody's SESSION had our digest. The clock is an argument.

    state      a message            caught up, or nobody   a line of now waits   later history
                                    within CATCH_UP_S      HELD_S, or HISTORY_WAIT_S
                                                           is over
    gathering  held, live ones too  -> shown               -> shown: cut         -
    shown      shown at once        -                      -                     -> healing
    healing    history held, live   -> shown               -> shown: cut         held
               ones shown at once

Released events are in the order of the session's own history, which is the same at every member, so
the mark "early" of an event is removed.
"""

from __future__ import annotations

from collections import deque

from evloop.app.limits import CATCH_UP_S, HELD_S, HISTORY_WAIT_S, OPENING_S, WAIT_TOLD_S
from evloop.room.limits import HISTORY_MESSAGES_MAX
from evloop.system.timers import NEVER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from evloop.room.events import Said

GATHERING, SHOWN, HEALING = range(3)


class Earlier:
    """At most `most` messages of the history are shown in all."""

    __slots__ = ("_began", "_held", "_held_live", "_most", "_told", "state")

    def __init__(self, most: int, now: float) -> None:
        self.state = GATHERING
        self._most = most
        self._began = now
        self._held: deque[Said] = deque(maxlen=HISTORY_MESSAGES_MAX)
        self._held_live = NEVER  # since when a line of now waits
        self._told = False  # that the history is awaited

    def hold(self, event: Said, now: float) -> bool:
        """Whether `event` waits here for the rest of the history."""
        old = event.mark == "history"
        if self.state == SHOWN:
            if not old:
                return False
            self.state = HEALING
            self._began = now
        elif self.state == HEALING and not old:
            return False
        self._held.append(event)
        if not old and self._held_live == NEVER:
            self._held_live = now
        return True

    def next_deadline(self, now: float) -> float:
        """When `due` must be asked though nothing has happened; inf when nothing is awaited."""
        if self.state == SHOWN:
            return NEVER
        began = self._began
        moments = (
            began + OPENING_S,
            began + CATCH_UP_S,
            began + WAIT_TOLD_S,
            self._held_live + HELD_S,
            began + HISTORY_WAIT_S,
        )
        return min([moment for moment in moments if moment > now], default=NEVER)

    def due(self, caught_up: bool, alone: bool, now: float) -> bool:
        """Whether to release now. `alone`: nobody is here who could tell more."""
        if self.state == SHOWN:
            return False
        if now >= min(self._held_live + HELD_S, self._began + HISTORY_WAIT_S):
            return True
        # Members that entered with us know as little as we do, so an equal digest means something
        # only after a while. And history that comes later is to be shown in few blocks.
        soon = OPENING_S if self.state == GATHERING else CATCH_UP_S
        return now >= self._began + (soon if caught_up else CATCH_UP_S if alone else HISTORY_WAIT_S)

    def long_wait(self, now: float) -> bool:
        """Whether the history is awaited for so long that the user should know; True only once."""
        if self.state != GATHERING or self._told or now < self._began + WAIT_TOLD_S:
            return False
        self._told = True
        return True

    def release(self, history: Sequence[Said]) -> tuple[list[Said], bool]:
        """(what was held, in the order of `history`; whether it comes behind what was shown)."""
        held, self._held = self._held, deque(maxlen=HISTORY_MESSAGES_MAX)
        again = self.state == HEALING
        self.state = SHOWN
        self._held_live = NEVER
        place = {(event.sender, event.seq): at for at, event in enumerate(history)}
        # Events that the history no longer holds are the oldest.
        ordered = sorted(held, key=lambda event: place.get((event.sender, event.seq), -1))
        old = [event for event in ordered if event.mark == "history"]
        shown = old[-self._most :] if self._most else []
        self._most -= len(shown)
        kept = {id(event) for event in shown}
        return [
            event if event.mark in ("", "history", "plain") else event._replace(mark="")
            for event in ordered
            if event.mark != "history" or id(event) in kept
        ], again
