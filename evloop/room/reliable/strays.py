"""Datagrams that are not ours: each is counted by its reason, and some are worth telling.

    what came                        in an open room              in a sealed room
    plain text                       shown, as of nobody          dropped; as with another key
    a datagram of another key        dropped; told (1)            the same
    a datagram of an open room       -                            the same: its key is 0
    anything else                    dropped                      dropped

(1) After OTHER_KEY_ROW in a row of one key id, with nothing of ours between, and once in
OTHER_KEY_TOLD_S for each key id: so a wrong key is never silence, and one datagram by chance is.
"""

from __future__ import annotations

from evloop.room.events import NO_SENDER, NO_SEQ, TEXT, OtherKey, Said
from evloop.room.reliable.limits import OTHER_KEY_ROW, OTHER_KEY_TOLD_S, OTHER_KEYS_MAX
from evloop.room.reliable.packets import plain_text
from evloop.system.timers import NEVER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from evloop.room.reliable.membership import Membership
    from evloop.room.reliable.message_log import MessageLog
    from evloop.room.reliable.packets import Packet

    Open = Callable[[bytes, float, bool], Packet | str]


class Strays:
    """Counts and tells, for one room whose key has the id `yours` (0: it is open)."""

    __slots__ = (
        "_counts",
        "_log",
        "_open",
        "_presence",
        "_row",
        "_theirs",
        "_told",
        "_yours",
        "own",
    )

    def __init__(
        self, yours: int, message_log: MessageLog, presence: Membership, counts: dict[str, int]
    ) -> None:
        self._yours = yours
        self._log = message_log
        self._presence = presence
        self._counts = counts
        self.own = 0  # what came back of ours: each room has that, so it is no key of `counts`
        self._row = 0  # so many of the key `_theirs` came without anything of ours between them
        self._theirs = 0
        self._told: dict[int, float] = {}  # when each other key was told last
        self._open: Open | None = None

    def drop(self, reason: str) -> None:
        reason = "dropped_" + reason
        self._counts[reason] = self._counts.get(reason, 0) + 1

    def take(self, reason: str, data: bytes, now: float) -> None:
        """A datagram was not taken, for `reason`."""
        text = plain_text(data) if reason == "magic" else ""
        if text and not self._yours:
            event = Said("message", NO_SENDER, NO_SEQ, "", TEXT, text, 0, "plain", False)
            self._log.events.append(event)
            return
        self.drop(reason)
        if reason == "key" or text:
            self._heard(0 if text else int.from_bytes(data[4:6], "big"), now)

    def watching(self, opens: Open) -> Open:
        """`opens`, or once another key was heard, the same with an eye on what is ours: as long as
        none was heard, that costs nothing."""
        if not self._row or self._open is not None:
            return opens
        self._open = opens
        return self._watched

    def _watched(self, data: bytes, now: float, direct: bool) -> Packet | str:
        assert self._open is not None
        packet = self._open(data, now, direct)
        if not isinstance(packet, str):
            self._row = 0
        return packet

    def _heard(self, theirs: int, now: float) -> None:
        self._row = self._row + 1 if theirs == self._theirs else 1
        self._theirs = theirs
        if self._row < OTHER_KEY_ROW or theirs == self._yours:
            return
        if now < self._told.get(theirs, -NEVER) + OTHER_KEY_TOLD_S:
            return
        proven = bool(self._presence.members)
        self._log.events.append(OtherKey("other_key", theirs, self._yours, proven))
        self._told.pop(theirs, None)
        self._told[theirs] = now
        if len(self._told) > OTHER_KEYS_MAX:
            del self._told[next(iter(self._told))]
