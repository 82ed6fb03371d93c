"""What a server does by the clock: expire rooms, write figures, tell the service manager.

Nothing here has a timer unless it was asked for: an idle server sleeps.
"""

from itertools import islice

from evloop.base.errors import EvloopError
from evloop.base.limits import (
    EXPIRED_PER_SWEEP_MAX,
    EXPIRY_PAUSE_S,
    EXPIRY_PIECE_ROOMS,
    EXPIRY_SWEEP_S,
    EXPIRY_SWEEPS_MIN,
    STATUS_EVERY_S,
)
from evloop.terminal.report import plural

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from evloop.daemon.dispatcher import Registrar
    from evloop.daemon.expiry import Expiry
    from evloop.daemon.systemd import Notifier
    from evloop.directory.protocol import Room
    from evloop.system.loop import Loop


def status_of(registrar: "Registrar") -> str:
    """ "3 rooms, 17 clients" """
    rooms = plural(len(registrar.directory), "room")
    return f"{rooms}, {plural(len(registrar.connections), 'client')}"


class Sweeper:
    """Has rooms expire: sweeps now, and again and again.

    A piece of the rooms each tick: a sweep over 100,000 at once took 55 ms, and 250 ms when all of
    them were news to the store.
    """

    __slots__ = ("_expiry", "_left", "_loop", "_more", "_registrar", "_rooms")

    def __init__(self, loop: "Loop", registrar: "Registrar", expiry: "Expiry") -> None:
        self._loop = loop
        self._registrar = registrar
        self._expiry = expiry
        self._begin()

    def _begin(self) -> None:
        self._expiry.begin()
        self._rooms = iter(self._registrar.directory)
        self._left = EXPIRED_PER_SWEEP_MAX  # rooms that this sweep may still remove
        self._more = False  # there were more
        self._registrar.note_seen(self._expiry.ran(self._loop.now), {})
        self._loop.defer(self._go_on)

    def _go_on(self) -> None:
        registrar, expiry, now = self._registrar, self._expiry, self._loop.now
        directory = registrar.directory
        piece = list(islice(self._rooms, EXPIRY_PIECE_ROOMS))
        there = [room for room in piece if room in directory]  # not deleted since `_begin`
        changed, expired = expiry.look(now, there, directory.members)
        if changed:
            registrar.note_seen(expiry.ran(now), changed)
        self._remove(expired)
        if piece:
            self._loop.defer(self._go_on)
            return
        expiry.end()
        pause = min(EXPIRY_SWEEP_S, expiry.span_s / EXPIRY_SWEEPS_MIN)
        self._loop.call_at(now + (min(pause, EXPIRY_PAUSE_S) if self._more else pause), self._begin)

    def _remove(self, expired: "Sequence[Room]") -> None:
        registrar = self._registrar
        self._more = self._more or len(expired) > self._left
        for room in expired[: self._left]:
            try:
                registrar.delete_room(room.name, None)
            except EvloopError as error:  # the disk; the next sweep finds it again
                registrar.log.warning("an expired room stays", room=room.name, why=str(error))
                self._left = 0
                return
            self._left -= 1
            registrar.log.notice("a room has expired", room=room.name)


class Watchman:
    """Tells the service manager how we are, when that has changed, and feeds its watchdog."""

    __slots__ = ("_loop", "_notifier", "_registrar", "_told")

    def __init__(self, loop: "Loop", registrar: "Registrar", notifier: "Notifier") -> None:
        self._loop = loop
        self._registrar = registrar
        self._notifier = notifier
        self._told = ""

    def ready(self) -> None:
        """Every address listens."""
        self._told = status_of(self._registrar)
        if self._notifier.ready(self._told):
            self._notifier.keep_alive(lambda: self._loop.now, self._loop.call_at)
            self._loop.call_at(self._loop.now + STATUS_EVERY_S, self._tell)

    def _tell(self) -> None:
        status = status_of(self._registrar)
        if status != self._told and self._notifier.status(status):
            self._told = status
        self._loop.call_at(self._loop.now + STATUS_EVERY_S, self._tell)
