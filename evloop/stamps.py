"""Wall time as text: for people, in their own time zone, and for scripts, in UTC. Floor 4.

Wall time is for display only; order and liveness never use it.
"""

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_FORMATS = {"off": "", "HH:MM": "%H:%M ", "iso": "%Y-%m-%dT%H:%M:%S "}


class Stamps:
    """`style` is a key of _FORMATS, `wall` unix time."""

    __slots__ = ("_format", "_wall")

    def __init__(self, style: str, wall: "Callable[[], float]") -> None:
        self._format = _FORMATS[style]
        self._wall = wall

    def line(self, at: float = 0.0) -> str:
        """What stands before a chat line of unix time `at` (0: now), with a blank behind it.

        "" when stamps are off.
        """
        return self._format and time.strftime(self._format, time.localtime(at or self._wall()))

    def day(self) -> str:
        """Today: "Sun 22 Nov 2026"; "" when stamps are off."""
        return self._format and time.strftime("%a %d %b %Y", time.localtime(self._wall()))

    def utc(self) -> str:
        """Now, for JSON: "2026-11-22T12:01:07.412Z"."""
        now = self._wall()
        begin = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now))
        return f"{begin}.{int(now * 1000) % 1000:03}Z"
