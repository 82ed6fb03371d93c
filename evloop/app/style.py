"""How a chat looks and ends; wall time as text.

Time is shown to people in their own time zone, and to scripts in UTC.

Wall time is for display only; order and liveness never use it.
"""

from __future__ import annotations

import time

from evloop.app.limits import CONFIRM_S

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Style:
    """How the chats of one client look and end; it is set before the first of them begins.

    `as_json`: for scripts; `escape`: the name of the key that leaves; `history`: how many messages
    from before our time are shown (None: all that come); `answered`: whether somebody must have
    confirmed what was said; `alone_hint`: what else would help where nobody is heard; `muted`:
    nothing is shown at all; `patience`: seconds for which the end of a pipe waits for confirmation.
    """

    # No named tuple: to make the class of one takes 0.1 ms, and the first prompt would wait for it.
    __slots__ = (
        "alone_hint",
        "answered",
        "as_json",
        "escape",
        "history",
        "muted",
        "patience",
        "stamps",
    )

    def __init__(self, as_json: bool, escape: str, stamps: Stamps) -> None:
        self.as_json = as_json
        self.escape = escape
        self.stamps = stamps
        self.history: int | None = None
        self.answered = False
        self.alone_hint = ""
        self.muted = False
        self.patience = CONFIRM_S


_FORMATS = {"off": "", "HH:MM": "%H:%M ", "iso": "%Y-%m-%dT%H:%M:%S "}
_STEPS_S = {"off": 60, "HH:MM": 60, "iso": 1}  # the same text within; no zone is off by seconds


class Stamps:
    """`style` is a key of _FORMATS, `wall` unix time.

    The last texts are kept: a chat asks for both with each message, and making one costs 7,400
    machine instructions.
    """

    __slots__ = ("_day", "_format", "_line", "_step", "_wall")

    def __init__(self, style: str, wall: Callable[[], float]) -> None:
        self._format = _FORMATS[style]
        self._step = _STEPS_S[style]
        self._wall = wall
        self._line = (0.0, 0.0, "")  # (from when, until when, text)
        self._day = (0.0, 0.0, "")

    def line(self, at: float = 0.0) -> str:
        """What stands before a chat line of unix time `at` (0: now), followed by a blank.

        "" when stamps are off.
        """
        if not self._format:
            return ""
        at = at or self._wall()
        since, until, text = self._line
        if not since <= at < until:
            since = at - at % self._step
            text = time.strftime(self._format, _local(at))
            self._line = since, since + self._step, text
        return text

    def now(self) -> float:
        """Unix time."""
        return self._wall()

    def clock(self, at: float) -> str:
        """The time of day of unix time `at` for people: "12:01"; "" when stamps are off."""
        return time.strftime("%H:%M", _local(at)) if self._format else ""

    def day(self, at: float = 0.0) -> str:
        """The day of unix time `at` (0: now): "Sun 22 Nov 2026"; "" when stamps are off."""
        if not self._format:
            return ""
        at = at or self._wall()
        since, until, text = self._day
        if not since <= at < until:
            since = at - at % 60
            text = time.strftime("%a %d %b %Y", _local(at))
            self._day = since, since + 60, text
        return text

    def full(self, at: float) -> str:
        """Unix time `at` for a file, followed by a blank: "2026-11-22 12:01:07 "."""
        return time.strftime("%Y-%m-%d %H:%M:%S ", _local(at))

    def utc(self) -> str:
        """Now, for JSON: "2026-11-22T12:01:07.412Z"."""
        now = self._wall()
        begin = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now))
        return f"{begin}.{int(now * 1000) % 1000:03}Z"


def _local(at: float) -> time.struct_time:
    """`at` in the zone that the machine is in today: a laptop travels while a chat is open.

    The C library looks at /etc/localtime once, and tzset() has it look again: a stat when nothing
    has changed. Callers keep what they made of it for a second or a minute.
    """
    time.tzset()
    return time.localtime(at)
