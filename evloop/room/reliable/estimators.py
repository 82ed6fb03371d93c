"""How long a datagram takes one way, from the echoes in SESSIONs.

Each SESSION tells when it was sent, and repeats that time of the last SESSION heard with how long
ago that was: half of the rest is the delay. Only times at which I did send, and lately, are taken
for an echo, and only from news of its sender (the caller sees to that): a replay must not make me
slow. Up fast and down slowly: timers that are too short cost everybody, too long ones only me.
"""

from collections import deque

from evloop.base.limits import (
    DELAY_S_MAX,
    DELAY_S_MIN,
    DELAY_S_START,
    ECHOES_AWAITED_MAX,
    ROUND_TRIP_S_MAX,
)

NOBODY = bytes(8)


class Delay:
    """The estimate in seconds (`value`), and the echo owed to the last SESSION heard."""

    __slots__ = ("_heard", "_known", "_mine", "_peer", "_sent", "value")

    def __init__(self) -> None:
        self.value = DELAY_S_START
        self._known = False
        self._mine: deque[int] = deque(maxlen=ECHOES_AWAITED_MAX)  # when I sent, in us
        self._peer = NOBODY
        self._sent = 0
        self._heard = 0.0

    def heard(self, peer: bytes, sent: int, now: float) -> None:
        """A SESSION of `peer`, sent at `sent` us of its clock."""
        self._peer = peer
        self._sent = sent
        self._heard = now

    def sending(self, now: float) -> int:
        """The `sent` of a SESSION that goes out now."""
        sent = int(now * 1e6) & 0xFFFFFFFF
        self._mine.append(sent)
        return sent

    def echo(self, now: float) -> tuple[bytes, int, int]:
        """(peer, its time of sending, us held since); NOBODY when none was heard."""
        held = int((now - self._heard) * 1e6) & 0xFFFFFFFF if self._peer != NOBODY else 0
        return self._peer, self._sent, held

    def echoed(self, sent: int, held: int, now: float) -> None:
        """My SESSION sent at `sent` us of my clock came back after having been held `held` us."""
        one_way = ((int(now * 1e6) - sent - held) & 0xFFFFFFFF) / 2e6
        if one_way > ROUND_TRIP_S_MAX / 2 or sent not in self._mine:
            return
        one_way = min(max(one_way, DELAY_S_MIN), DELAY_S_MAX)
        if self._known:
            self.value += (one_way - self.value) / (2 if one_way > self.value else 16)
        else:
            self.value = one_way
            self._known = True
