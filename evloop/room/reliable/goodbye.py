"""Leaving a room: BYE_TIMES the word, BYE_SPACING_S apart, and then nothing more.

state     start            the next word is due
here      -> leaving       -
leaving   -                said; the last one: -> gone
gone      -                -
"""

from __future__ import annotations

from evloop.room.reliable.limits import BYE_SPACING_S, BYE_TIMES
from evloop.system.timers import NEVER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from evloop.room.reliable.egress import Egress


class Goodbye:
    """`begun`: no longer here; `over`: all is said; `due`: when the next word is to be said."""

    __slots__ = ("_egress", "_left", "begun", "due", "over")

    def __init__(self, egress: Egress) -> None:
        self._egress = egress
        self._left = BYE_TIMES
        self.begun = self.over = False
        self.due = NEVER

    def start(self, now: float) -> bool:
        """Say the first word now; False when that has begun before."""
        if self.begun:
            return False
        self.begun = True
        self.due = now
        return True

    def handle_timer(self, now: float) -> None:
        """Say what is due."""
        if now >= self.due:
            self._egress.say_bye(now)
            self._left -= 1
            self.over = not self._left
            self.due = NEVER if self.over else now + BYE_SPACING_S
