"""Whether the connection to the directory has outlived a change of the network.

A connection whose own address has gone hangs without an error, for minutes: it is given up when
the address stays away, at once when there is another one. One that may have lost something is
asked (`ping`), and given up when no answer comes.

    state      its address is gone       it is there, something came   the time is up
    sure       -> doubtful, 1.5 s *      asked -> doubtful, 3 s        -
    doubtful   as above                  asked -> doubtful, 3 s        given up -> sure

    * at once when another address or a carrier came; an answer to `ping` is `sure` again
"""

from __future__ import annotations

from evloop.directory.limits import ADDRESS_AWAY_S, PING_S_MAX
from evloop.net.links import LOOPBACK, arrived, holder
from evloop.system.timers import NEVER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    from evloop.net.links import Link
    from evloop.system.loop import Loop

    class Connection(Protocol):
        """`own` is its address here."""

        own: str

        def request(self, method: str, params: dict[str, Any], done: Any) -> None: ...
        def connect_anew(self, why: str) -> None: ...


class Doubt:
    """Of one connection that is ready, or of those that follow it."""

    __slots__ = ("_connection", "_timer", "_why")

    def __init__(self, loop: Loop, connection: Connection) -> None:
        self._connection = connection
        self._timer = loop.call_at(NEVER, self._give_up)
        self._why = ""

    def network_changed(
        self, before: tuple[Link, ...], links: tuple[Link, ...], now: float
    ) -> None:
        """The interfaces were `before` and are `links`; the connection is ready."""
        if not links:  # this system tells nothing
            return
        came = arrived(before, links)
        own = holder(links, self._connection.own)
        if own is None:
            self._why = (
                f"its connection used {self._connection.own}, which this machine has no more"
            )
            if came:
                self._give_up()
            else:
                self._timer.move(now + ADDRESS_AWAY_S)
        elif not own.flags & LOOPBACK and (came or self._timer.when != NEVER):
            self._why = "it has not answered since the network changed"
            self._timer.move(now + PING_S_MAX)
            self._connection.request("ping", {}, self._answered)

    def settle(self) -> None:
        """There is no such connection any more."""
        self._timer.move(NEVER)

    def _answered(self, value: object, error: object) -> None:
        self.settle()

    def _give_up(self) -> None:
        self.settle()
        self._connection.connect_anew(self._why)
