"""Who must know that everybody has it: asking for confirmation, and answering.

    state      ask                   all confirmed    the time is up
    quiet      -> asking, due now    -                -
    asking     stays                 -> quiet         ask again, wait twice as long

The answerer waits at random, so that N answers do not come at once, and one SESSION answers all who
asked meanwhile.
"""

from evloop.base.limits import (
    CONFIRM_ASKERS_MAX,
    CONFIRM_BACKOFF_S_MAX,
    CONFIRM_MEMBER_S,
    CONFIRM_S_MIN,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from random import Random

NEVER = float("inf")


def answer_window(members: int) -> float:
    """Seconds within which all `members` answer."""
    return max(CONFIRM_S_MIN, CONFIRM_MEMBER_S * members)


class Confirm:
    """Both halves, for one session."""

    __slots__ = ("_rng", "_wait", "answer_due", "ask_due", "askers")

    def __init__(self, rng: "Random") -> None:
        self._rng = rng
        self._wait = 0.0
        self.ask_due = NEVER
        self.answer_due = NEVER
        self.askers: list[bytes] = []

    def start(self, now: float) -> None:
        """Begin to ask, unless that is going on."""
        if self.ask_due == NEVER:
            self.ask_due = now
            self._wait = 0.0

    def asked(self, now: float, delay: float, members: int) -> None:
        """An ask was sent: wait for all answers and the way, then longer."""
        patience = answer_window(members) + 4 * delay
        self._wait = min(max(2 * self._wait, patience), max(CONFIRM_BACKOFF_S_MAX, patience))
        self.ask_due = now + self._wait

    def stop(self) -> None:
        """All have confirmed."""
        self.ask_due = NEVER

    def asked_by(self, asker: bytes, now: float, members: int) -> None:
        """Somebody wants to know what I hold."""
        if asker not in self.askers and len(self.askers) < CONFIRM_ASKERS_MAX:
            self.askers.append(asker)
        if self.answer_due == NEVER:
            self.answer_due = now + answer_window(members) * self._rng.random()

    def answered(self) -> None:
        """A SESSION was sent."""
        self.answer_due = NEVER
        self.askers = []
