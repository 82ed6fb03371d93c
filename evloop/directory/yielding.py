"""Who goes on hosting when several people have started `python3 -m evloop` at the same moment.

Each that has found nobody hosts a directory, a *guest*, and asks again HOST_ASKS_S after it began.
What is told of other directories goes in (`seen`), with `decide` comes out what to do. No socket
and no clock is here. An own directory is *empty* while nobody but its own user is connected and it
has no room.

    seen                              empty                          not empty
    a server, or a lower id           go there at once               nothing
    a higher id                       wait HOST_PATIENCE_S: were it  tell, once, if it has rooms
                                      empty, it would have come;     too: it would have come
                                      then go there                  (a lower id is told nothing)

To go there is: connect, greet, and be counted there (`watch`). Only when the other has answered
all that, and is the one with that id, is the own directory closed, if it is still empty: so of any
two that go to each other one finds that it is no longer empty, and stays.

    state      seen, empty         reached         failed            crossed (not empty any more)
    hosting    -> going            -               -                 -
    going      -                   -> gone         -> hosting, by    -> hosting; the higher id
                                                   the schedule      tries again soon
"""

from __future__ import annotations

from evloop.directory.limits import HOST_ASKS_S, HOST_PATIENCE_S, HOST_RETRY_S

TYPE_CHECKING = False
if TYPE_CHECKING:
    from random import Random

NEVER = float("inf")


class Yielding:
    """What a guest directory `own` (its id), which began to host at `now`, does about others."""

    __slots__ = ("_asks", "_first", "_going", "_higher", "_own", "_rng", "_seen", "_told")

    def __init__(self, own: str, now: float, rng: Random) -> None:
        self._own = own
        self._rng = rng
        self._asks = [now + after for after in HOST_ASKS_S]
        self._seen: dict[str, float] = {}  # others that answered, and when they did so last
        self._first: dict[str, float] = {}  # and when they did so first
        self._higher: dict[str, bool] = {}  # whether each comes after us
        self._going = ""  # where we are about to go
        self._told: set[str] = set()

    def next_ask(self) -> float:
        """When the network is to be asked for others; inf: never again by itself."""
        return min(self._asks, default=NEVER)

    def asked(self, now: float) -> None:
        """The network is being asked now."""
        self._asks = [when for when in self._asks if when > now]

    def ask_again(self, when: float) -> None:
        """Something has changed: ask then, too."""
        self._asks.append(when)

    def seen(self, number: str, *, server: bool, now: float) -> None:
        """The directory `number` has answered."""
        if number == self._own:
            return
        if number not in self._first:
            self._first[number] = now
            if not server and number > self._own:
                self.ask_again(now + HOST_PATIENCE_S)
        self._seen[number] = now
        self._higher[number] = not server and number > self._own

    def decide(self, now: float, *, empty: bool) -> str:
        """The id of the directory to go to now; "": none. Nothing while one is tried."""
        if self._going or not empty:
            return ""
        fit = [
            (self._higher[number], number)
            for number, last in self._seen.items()
            if not self._higher[number] or last >= self._first[number] + HOST_PATIENCE_S
        ]
        if not fit:
            return ""
        self._going = min(fit)[1]
        return self._going

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
        stays = self._seen.get(number, 0.0) >= self._first.get(number, NEVER) + HOST_PATIENCE_S
        lower = not self._higher.get(number, True)
        if not (rooms and lower and stays) or number in self._told:
            return False
        self._told.add(number)
        return True
