"""Taking connections from a listening socket, in batches, and in hard times.

    state      ready                                     time comes    close
    listening  accept up to a batch; no descriptors      -             -> closed
               or memory left: -> paused
    paused     -                                         -> listening  -> closed
    closed     -                                         -             nothing

A listener whose queue can not be taken stays readable: without `paused` the loop would spin.
"""

import errno
import socket

from evloop.base.limits import ACCEPT_BATCH_MAX, ACCEPT_PAUSE_S

TYPE_CHECKING = False  # the checkers know this name; importing `typing` costs start-up time
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from evloop.system.loop import Loop

_FULL = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
# What became of one connection in the queue; accept(2): "treat them like EAGAIN by retrying".
# EPERM is a firewall's word.
_NEXT = frozenset(
    (
        errno.ECONNABORTED,
        errno.EPERM,
        errno.EPROTO,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENOPROTOOPT,
        errno.EOPNOTSUPP,
    )
)


class Acceptor:
    """Owns `listener` and hands out its connections.

    `on_connection(sock, address)` gets a non-blocking socket, and owns it. `on_full(error)` is
    told when the kernel has no descriptor or memory for another one, once for each shortage; the
    next try is after `ACCEPT_PAUSE_S`.
    """

    __slots__ = ("_listener", "_loop", "_on_connection", "_on_full", "_short", "_timer", "watch")

    def __init__(
        self,
        loop: "Loop",
        listener: socket.socket,
        on_connection: "Callable[[socket.socket, Any], object]",
        on_full: "Callable[[OSError], object] | None" = None,
    ) -> None:
        listener.setblocking(False)
        self._loop = loop
        self._listener = listener
        self._on_connection = on_connection
        self._on_full = on_full
        self._short = False
        self.watch = loop.watch(listener, self._accept)
        self._timer = loop.call_at(float("inf"), self._resume)

    def close(self) -> None:
        """Close the listener; a second call does nothing."""
        self._timer.cancel()
        self.watch.close()

    def _accept(self) -> None:
        for _ in range(ACCEPT_BATCH_MAX):
            if self.watch.fd < 0:  # closed by on_connection
                return
            try:
                sock, address = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _NEXT:
                    continue
                if error.errno not in _FULL:
                    raise
                self._pause(error)
                return
            self._short = False
            sock.setblocking(False)
            self._on_connection(sock, address)

    def _pause(self, error: OSError) -> None:
        self.watch.want_read(False)
        self._timer.move(self._loop.now + ACCEPT_PAUSE_S)
        if not self._short:
            self._short = True
            if self._on_full is not None:
                self._on_full(error)

    def _resume(self) -> None:
        self.watch.want_read(True)
