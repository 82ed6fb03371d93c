"""Life under systemd: say how we are, and take over sockets that are listening already.

Both protocols are a few environment variables (sd_notify(3), sd_listen_fds(3)); without them
everything here does nothing, so the server calls it always. The variables are removed once read:
a child of ours must not take itself for the service.

What we say, and when:

    the moment             the datagram
    every address listens  READY=1, STATUS=...
    a change of figures    STATUS=3 rooms, 17 clients
    SIGHUP                 RELOADING=1, MONOTONIC_USEC=...; afterwards READY=1
    SIGTERM                STOPPING=1
    half of WATCHDOG_USEC  WATCHDOG=1, from a timer of the loop: a loop that hangs is silent
"""

from __future__ import annotations

import os
import socket
import time

from evloop.base.errors import USAGE, SetupError
from evloop.daemon.limits import LISTEN_SOCKETS_MAX, STATUS_EVERY_S
from evloop.terminal.report import plural

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping

    from evloop.daemon.dispatcher import Dispatcher
    from evloop.system.loop import Loop

LISTEN_FDS_START = 3  # SD_LISTEN_FDS_START, behind stdin, stdout and stderr


def _number(text: str | None) -> int | None:
    """The positive decimal number in an environment variable, or None."""
    if text is None or not (text.isascii() and text.isdigit() and len(text) <= 18):
        return None
    return int(text) or None


class Notifier:
    """Tells the service manager our state. It never waits and never raises: none is needed.

    `address` is a path or, with "@" before it, a name in the abstract namespace; "" is nobody.
    """

    __slots__ = ("_address", "_socket", "watchdog_s")

    def __init__(self, address: str = "", watchdog_s: float = 0.0) -> None:
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket: socket.socket | None = None
        self.watchdog_s = watchdog_s  # seconds of silence after which we are killed; 0: never
        if address:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.setblocking(False)

    def tell(self, *lines: str) -> bool:
        """Send one datagram of NAME=VALUE lines; True when it was taken."""
        if self._socket is None:
            return False
        text = "\n".join(line.replace("\n", " ") for line in lines)
        try:
            self._socket.sendto(text.encode("utf-8", "replace"), self._address)
        except OSError:  # full, gone or forbidden: the next one may pass
            return False
        return True

    def ready(self, status: str) -> bool:
        return self.tell("READY=1", f"STATUS={status}")

    def status(self, status: str) -> bool:
        return self.tell(f"STATUS={status}")

    def reloading(self) -> bool:
        """`Type=notify-reload` compares the clock with its own, to the microsecond."""
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1_000
        return self.tell("RELOADING=1", f"MONOTONIC_USEC={now}")

    def stopping(self) -> bool:
        return self.tell("STOPPING=1")

    def keep_alive(
        self,
        clock: Callable[[], float],
        call_at: Callable[[float, Callable[[], None]], object],
    ) -> None:
        """Ping the watchdog now and, by the loop's `call_at`, twice in each of its intervals."""
        if not self.watchdog_s:
            return
        # From now and not from when it was due: after a long stop one ping is owed, not many.
        call_at(clock() + self.watchdog_s / 2, lambda: self.keep_alive(clock, call_at))
        self.tell("WATCHDOG=1")

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def notifier_from(environ: MutableMapping[str, str], pid: int) -> Notifier:
    """The notifier that NOTIFY_SOCKET and WATCHDOG_USEC ask for; they are removed."""
    address = environ.pop("NOTIFY_SOCKET", "")
    patience = _number(environ.pop("WATCHDOG_USEC", None)) or 0
    guarded = environ.pop("WATCHDOG_PID", None)
    if guarded is not None and _number(guarded) != pid:
        patience = 0  # meant for our parent
    if not address.startswith(("/", "@")) or len(address) < 2:
        address = ""
    return Notifier(address, patience / 1_000_000 if address else 0.0)


def listening_sockets(
    environ: MutableMapping[str, str], pid: int, first: int = LISTEN_FDS_START
) -> list[tuple[str, socket.socket]]:
    """The sockets handed over by LISTEN_FDS, with the names that LISTEN_FDNAMES gives them.

    Empty when there are none or they are meant for another process. Raises SetupError when a
    descriptor is no listening TCP socket: to serve half of what was configured would hide it.
    The sockets do not block and are closed on exec.
    """
    count = environ.pop("LISTEN_FDS", None)
    meant_for = environ.pop("LISTEN_PID", None)
    names = environ.pop("LISTEN_FDNAMES", None)
    if count is None or _number(meant_for) != pid:
        return []
    number = _number(count)
    if number is None or number > LISTEN_SOCKETS_MAX:
        raise _bad(f"LISTEN_FDS={count!r} is no number from 1 to {LISTEN_SOCKETS_MAX}")
    named = names.split(":") if names is not None else ["unknown"] * number
    if len(named) != number:
        raise _bad(f"LISTEN_FDNAMES has {len(named)} names for {number} sockets")
    return [(named[n], _adopt(first + n)) for n in range(number)]


def _adopt(descriptor: int) -> socket.socket:
    try:
        os.set_inheritable(descriptor, False)
        taken = socket.socket(fileno=descriptor)
    except OSError as error:
        raise _bad(f"descriptor {descriptor} is no socket ({error.strerror})") from None
    if (
        taken.family not in (socket.AF_INET, socket.AF_INET6)
        or taken.type != socket.SOCK_STREAM
        or not taken.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    ):
        taken.detach()  # not ours to close
        raise _bad(f"descriptor {descriptor} is no listening TCP socket")
    taken.setblocking(False)
    return taken


def _bad(why: str) -> SetupError:
    return SetupError(
        f"cannot take over the sockets: {why}; check ListenStream= in the socket unit", USAGE
    )


def status_of(dispatcher: Dispatcher) -> str:
    """ "3 rooms, 17 clients" """
    rooms = plural(len(dispatcher.directory), "room")
    return f"{rooms}, {plural(len(dispatcher.connections), 'client')}{dispatcher.aside}"


class Watchman:
    """Tells the service manager how we are, when that has changed, and feeds its watchdog."""

    __slots__ = ("_dispatcher", "_loop", "_notifier", "_told")

    def __init__(self, loop: Loop, dispatcher: Dispatcher, notifier: Notifier) -> None:
        self._loop = loop
        self._dispatcher = dispatcher
        self._notifier = notifier
        self._told = ""

    def ready(self) -> None:
        """Every address listens."""
        self._told = status_of(self._dispatcher)
        if self._notifier.ready(self._told):
            self._notifier.keep_alive(lambda: self._loop.now, self._loop.call_at)
            self._loop.call_at(self._loop.now + STATUS_EVERY_S, self._tell)

    def _tell(self) -> None:
        self._loop.call_at(self._loop.now + STATUS_EVERY_S, self._tell)
        status = status_of(self._dispatcher)
        if status != self._told and self._notifier.status(status):
            self._told = status
