"""What a server does by the clock: expire rooms, write figures, tell the service manager. Floor 7.

Nothing here has a timer unless it was asked for: an idle server sleeps.
"""

from evloop.errors import EvloopError
from evloop.limits import (
    EXPIRED_PER_SWEEP_MAX,
    EXPIRY_PAUSE_S,
    EXPIRY_SWEEP_S,
    EXPIRY_SWEEPS_MIN,
    STATUS_EVERY_S,
)
from evloop.report import plural

TYPE_CHECKING = False
if TYPE_CHECKING:
    from evloop.expiry import Expiry
    from evloop.loop import Loop
    from evloop.registrar import Registrar
    from evloop.service import Notifier


def status_of(registrar: "Registrar") -> str:
    """ "3 rooms, 17 clients" """
    rooms = plural(len(registrar.directory), "room")
    return f"{rooms}, {plural(len(registrar.connections), 'client')}"


def keep_expiring(loop: "Loop", registrar: "Registrar", expiry: "Expiry") -> None:
    """Sweep now, and again and again; call it once."""
    directory = registrar.directory
    changed, expired = expiry.sweep(loop.now, directory.rooms(), directory.members)
    registrar.note_seen(expiry.ran(loop.now), changed)
    for room in expired[:EXPIRED_PER_SWEEP_MAX]:
        try:
            registrar.delete_room(room.name, None)
        except EvloopError as error:  # the disk; the next sweep finds it again
            registrar.log.warning("an expired room stays", room=room.name, why=str(error))
            break
        registrar.log.notice("a room has expired", room=room.name)
    pause = min(EXPIRY_SWEEP_S, expiry.span_s / EXPIRY_SWEEPS_MIN)
    if len(expired) > EXPIRED_PER_SWEEP_MAX:
        pause = min(pause, EXPIRY_PAUSE_S)
    loop.call_at(loop.now + pause, lambda: keep_expiring(loop, registrar, expiry))


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
