"""Who goes on hosting when several people have started `python3 -m evloop` at the same moment.

Each that has found nobody hosts a directory, a *guest*, and asks again HOST_ASKS_S after it began.
What is told of other directories goes in (`seen`), with `decide` comes out what to do. No socket
and no clock is here. An own directory that has a room stays, whatever else there is. One without:

    seen                 nobody but its own user is in it   others are in it
    a server, or a       go there at once                   wait HOST_PATIENCE_S; if it still
    lower id                                                answers, go there: the others follow
    a higher id          wait HOST_PATIENCE_S; if it still  nothing: it comes to us
                         answers it has a room: go there

To go there is: connect, greet, and be counted there (`watch`). Only when the other has answered
all that, and is the one with that id, is the own directory closed, and only if that is still right:
of two that go to each other the one with the lower id finds somebody in it, and stays. So there is
one at any moment, and none with a room is ever closed.

    state      seen, may go        counted         failed            somebody came, or a room
    hosting    -> going            -               -                 -
    going      -                   -> gone         -> hosting, by    -> hosting; the higher id
                                                   the schedule      tries again soon
"""

from __future__ import annotations

from evloop.directory.limits import (
    HOST_ASKS_S,
    HOST_CONFIRM_S,
    HOST_CONFIRM_S_MAX,
    HOST_PATIENCE_S,
    HOST_RETRY_S,
    SEARCH_ALONE_S,
)
from evloop.system.timers import NEVER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from random import Random


class Yielding:
    """What a guest directory `own` (its id), which began to host at `now`, does about others."""

    __slots__ = (
        "_asks",
        "_first",
        "_going",
        "_higher",
        "_own",
        "_ready",
        "_rng",
        "_seen",
        "_told",
        "_until",
    )

    def __init__(self, own: str, now: float, rng: Random) -> None:
        self._own = own
        self._rng = rng
        self._asks = [now + after for after in HOST_ASKS_S]
        self._until = now + HOST_CONFIRM_S_MAX
        self._seen: dict[str, float] = {}  # others that answered, and when they did so last
        self._first: dict[str, float] = {}  # and when they did so first
        self._higher: dict[str, bool] = {}  # whether each comes after us
        self._ready = NEVER
        self._going = ""  # where we are about to go
        self._told: set[str] = set()

    def next_decision(self) -> float:
        """When `decide` may say more than it did: an answer is not acted on before others, to the
        same question, can have come."""
        return self._ready

    def next_ask(self) -> float:
        """When the network is to be asked for others; inf: never again by itself."""
        return min(self._asks, default=NEVER)

    def asked(self, now: float) -> None:
        """The network is being asked now."""
        self._asks = [when for when in self._asks if when > now]
        # While there is somebody else, and until it is settled, more often.
        if self._seen and now < self._until:
            self.ask_again(now + HOST_CONFIRM_S)

    def ask_again(self, when: float) -> None:
        """Something has changed: ask then, too."""
        self._asks.append(when)

    def seen(self, number: str, *, server: bool, now: float) -> None:
        """The directory `number` has answered."""
        if number == self._own:
            return
        if number not in self._first:
            self._first[number] = now
            self.ask_again(now + HOST_CONFIRM_S)
            self._ready = min(self._ready, now + SEARCH_ALONE_S)
        self._seen[number] = now
        self._higher[number] = not server and number > self._own

    def decide(self, now: float, *, people: bool, rooms: bool) -> str:
        """The id of the directory to go to now; "": none. Nothing while one is tried.

        `people`: others are in ours; `rooms`: it has some.
        """
        if now >= self._ready:
            self._ready = NEVER
        if self._going or rooms or self._ready < NEVER:
            return ""
        fit = [
            (self._higher[number], number)
            for number in self._seen
            if self.may_go(number, people=people, rooms=rooms)
            and (self._stays(number) or not (people or self._higher[number]))
        ]
        if not fit:
            return ""
        self._going = min(fit)[1]
        return self._going

    def may_go(self, number: str, *, people: bool, rooms: bool) -> bool:
        """Whether it is right to go there from what our directory is by now."""
        return not rooms and not (people and self._higher.get(number, True))

    def _stays(self, number: str) -> bool:
        """It has answered for so long that it will go on."""
        return self._seen[number] >= self._first[number] + HOST_PATIENCE_S

    def failed(self, now: float) -> None:
        """It could not be reached, or is another: it must answer anew before it is tried again."""
        number, self._going = self._going, ""
        self._forget(number)

    def crossed(self, now: float) -> None:
        """Somebody came meanwhile, so we stay. Had he come from there, one of us must come again:
        the higher id, and soon."""
        number, self._going = self._going, ""
        higher = self._higher.get(number, False)
        self._forget(number)
        if not higher:
            self.ask_again(now + HOST_RETRY_S * (0.5 + 0.5 * self._rng.random()))

    def _forget(self, number: str) -> None:
        for table in (self._seen, self._first):
            table.pop(number, None)

    def tell(self, number: str, *, rooms: bool) -> bool:
        """Whether to say that the other hosts too: of two that both stay the higher id does, once.
        `rooms`: we have some."""
        lower = not self._higher.get(number, True)
        if not (rooms and lower and self._stays(number)) or number in self._told:
            return False
        self._told.add(number)
        return True
