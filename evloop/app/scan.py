"""Ask several directories for one room: a script names the room, and no directory.

Each is greeted under a name of its own, so that a directory that somebody hosts for a moment is not
kept open by it.
"""

from __future__ import annotations

import os

from evloop import __version__
from evloop.app.limits import SCAN_S_MAX
from evloop.directory import protocol
from evloop.directory.client import DirectoryClient
from evloop.directory.trust import Trust
from evloop.system.timers import nothing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from evloop.app.shell import Client
    from evloop.base.errors import EvloopError
    from evloop.directory.target import Target

SCANNER = f"evloop-scan/{__version__}"


class Scan:
    """`then(at)` is called once: which of `targets` is to be taken, None when they do not agree.

    Those that list `room` must say the same of its place. Who does not answer in time lists none.
    """

    __slots__ = ("_links", "_places", "_room", "_then", "_timer", "_waits")

    def __init__(
        self,
        client: Client,
        targets: Sequence[Target],
        room: str,
        then: Callable[[int | None], object],
    ) -> None:
        self._room = room
        self._then = then
        self._places: dict[int, tuple[str, int]] = {}
        self._waits = set(range(len(targets)))
        self._timer = client.loop.call_at(client.loop.now + SCAN_S_MAX, self._end)
        trust = Trust(client.options, os.environ, nothing)
        self._links = []
        for at, target in enumerate(targets):
            link = DirectoryClient(client.loop, client.hub, client.rng, SCANNER, str)
            link.make_pipe = trust.pipe
            self._links.append(link)
            link.connect_to([target], self._connected(at, link))
        if not targets:
            self._end()

    def _connected(self, at: int, link: DirectoryClient) -> Callable[[Any, Any], None]:
        def entered(value: Any, error: EvloopError | None) -> None:
            if error is None:
                room = protocol.read_room(value.get("room") if isinstance(value, dict) else None)[0]
                self._places[at] = room.address, room.port
            self._done(at)

        def connected(version: object, error: EvloopError | None) -> None:
            if error is None:
                link.request("enter", {"name": self._room}, entered)
            else:
                self._done(at)

        return connected

    def _done(self, at: int) -> None:
        self._waits.discard(at)
        if not self._waits:
            self._timer.move(0.0)  # from the loop: this connection is in the middle of its answer

    def _end(self) -> None:
        then, self._then = self._then, nothing
        self._timer.cancel()
        for link in self._links:
            link.close()
        agreed = len(set(self._places.values())) == 1
        then(min(self._places) if agreed else None)
