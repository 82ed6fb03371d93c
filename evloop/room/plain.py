"""The `plain` room: one text datagram a message, for socat and for older programs.

A datagram is exactly `Mel: Good morning!` in UTF-8, at most 256 bytes and never cut inside a
character: older programs read 256 bytes and crash on half a character. It has no id, no number, no
repair and no presence, so lost messages stay lost and members are not counted. The interface is
that of `RoomSession`, so that the room and the client can use either.

The only state is the queue: `say` fills it, `datagrams_to_send` empties it as fast as the bucket
allows, and `next_deadline` says when there is something to send again.
"""

from __future__ import annotations

from collections import deque

from evloop.base.errors import Refused
from evloop.base.names import check_member_name, check_nickname, utf8_parts
from evloop.room.events import ME, NO_SENDER, NO_SEQ, TEXT, Foreign, Said
from evloop.room.limits import (
    PLAIN_BURST,
    PLAIN_DATAGRAM_BYTES_MAX,
    PLAIN_HISTORY_MAX,
    PLAIN_PER_S,
    PLAIN_QUEUE_MAX,
)
from evloop.system.timers import NEVER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from evloop.room.events import Event

RELIABLE_MAGIC = b"\xf5\x45"  # how a datagram of a reliable room begins; F5 is never in UTF-8
_AHEAD_S = (PLAIN_BURST - 1) / PLAIN_PER_S + 1e-6  # the last so that rounding holds nothing back


def cut(text: str, most: int) -> list[str]:
    """Cut `text` into parts of at most `most` (>= 4) UTF-8 bytes, between characters only."""
    return [part.decode() for part in utf8_parts(text.encode(errors="replace"), most)]


class PlainSession:
    """One plain room. See `RoomSession` for the meaning of the methods."""

    __slots__ = (
        "_counts",
        "_history",
        "_leaving",
        "_now",
        "_pace",
        "_queue",
        "is_own",
        "nickname",
        "pending",
        "place",
        "sender_id",
    )

    repairs = False

    def __init__(
        self,
        *,
        place: str,
        sender_id: bytes,
        nickname: str,
        rng: Random,
        now: float,
        key: bytes = b"",
    ) -> None:
        self.place = place
        self.sender_id = sender_id
        self.nickname = check_nickname(nickname)
        self.is_own: Callable[[object], bool] = _never  # whether a source is our own socket
        self.pending: list[Event] = []
        self._queue: deque[bytes] = deque()
        self._history: deque[Said] = deque(maxlen=PLAIN_HISTORY_MAX)
        self._now = now
        self._pace = now  # when the bucket will be full again (GCRA, ITU-T I.371)
        self._leaving = False
        self._counts = {
            "sent": 0,
            "received": 0,
            "dropped_empty": 0,
            "dropped_own": 0,
            "dropped_reliable": 0,
        }

    def say(self, text: str, now: float, wall: int, kind: int = TEXT) -> None:
        """Queue `text`, a line a message, cut where too long; Refused when the queue is full."""
        self.handle_timer(now)
        begin = f"* {self.nickname} " if kind == ME else f"{self.nickname}: "
        most = PLAIN_DATAGRAM_BYTES_MAX - len(begin.encode())
        parts = [part for line in text.split("\n") if line for part in cut(line, most)]
        if len(self._queue) + len(parts) > PLAIN_QUEUE_MAX:
            raise Refused(1, "too_fast", f"{len(self._queue)} messages wait to be sent; wait a bit")
        for part in parts:
            self._queue.append((begin + part).encode())
            self._keep(self.sender_id, self.nickname, kind, part, wall)

    def rename(self, nickname: str, now: float, wall: int) -> None:
        """Use another name from now on; there is no way to tell the others."""
        self.nickname = check_nickname(nickname)

    def move(self, place: str, now: float) -> None:
        """Go on at another `place`."""
        self.handle_timer(now)
        self.place = place

    def receive_datagram(
        self, data: bytes, source: object, now: float, sample: bool = True, direct: bool = False
    ) -> None:
        """Any bytes are a message, except none, our own, and those of a reliable room."""
        if self.is_own(source):
            self._counts["dropped_own"] += 1
            return
        if data[:2] == RELIABLE_MAGIC:  # somebody has entered this place as a reliable room
            if not self._counts["dropped_reliable"]:
                self.pending.append(Foreign("foreign", "reliable"))
            self._counts["dropped_reliable"] += 1
            return
        line = data.decode(errors="replace").rstrip("\0\r\n")  # C programs send the NUL along
        if not line:
            self._counts["dropped_empty"] += 1
            return
        self._counts["received"] += 1
        name, colon, text = line.partition(": ")
        try:
            check_member_name(name)
        except Refused:
            colon = ""
        if not colon:
            name, text = "", line
        self._keep(NO_SENDER, name, TEXT, text, 0)

    def _keep(self, sender: bytes, name: str, kind: int, text: str, wall: int) -> None:
        event = Said("message", sender, NO_SEQ, name, kind, text, wall, "", False)
        self.pending.append(event)
        self._history.append(event)

    def handle_timer(self, now: float) -> None:
        """Let the bucket fill."""
        self._now = max(self._now, now)

    def next_deadline(self) -> float:
        """When the next queued message may go; inf when nothing waits."""
        if not self._queue:
            return NEVER
        return self._now if self._leaving else self._pace - _AHEAD_S

    def datagrams_to_send(self) -> list[tuple[bytes, object | None]]:
        """What may go to the group now."""
        out: list[tuple[bytes, object | None]] = []
        while self.next_deadline() <= self._now:
            self._pace = max(self._pace, self._now) + 1 / PLAIN_PER_S
            out.append((self._queue.popleft(), None))
        self._counts["sent"] += len(out)
        return out

    def events(self) -> list[Event]:
        """What happened since the last call."""
        events, self.pending = self.pending, []
        return events

    def members(self, now: float) -> list[tuple[bytes, str, float]]:
        """Only ourselves: a plain room has no presence."""
        return [(self.sender_id, self.nickname, 0.0)]

    def history(self, count: int) -> list[Said]:
        """The newest `count` messages as they came."""
        return list(self._history)[-count:] if count > 0 else []

    def limit_history(self, messages: int) -> None:
        """Keep that many messages from now on."""
        self._history = deque(self._history, maxlen=min(messages, PLAIN_HISTORY_MAX))

    def stats(self) -> dict[str, int]:
        """The counters."""
        return {**self._counts, "queued": len(self._queue), "history": len(self._history)}

    def label(self, sender: bytes, name: str) -> str:
        """The name as it came: nothing in a plain room could tell two apart."""
        return name

    def queued(self) -> int:
        """Own messages not yet sent."""
        return len(self._queue)

    def confirm(self, now: float, later: bool = False) -> None:
        """Nobody can confirm anything in a plain room."""

    def unconfirmed(self) -> int:
        """Nothing waits for confirmation in a plain room."""
        return 0

    def confirmers(self) -> tuple[int, int]:
        """(members that confirmed, members asked): nobody."""
        return (0, 0)

    def solicit(self) -> None:
        """There is nothing to ask the others for."""

    def unheard_by(self) -> frozenset[bytes]:
        """Nobody tells whom he hears."""
        return frozenset()

    def caught_up(self) -> bool:
        """Nobody tells what was said before."""
        return True

    def leave(self, now: float, wall: int) -> None:
        """Send what is queued at once: there is no later."""
        self._leaving = True


def _never(source: object) -> bool:
    """Whether `source` is our own socket: unknown, so no."""
    return False
