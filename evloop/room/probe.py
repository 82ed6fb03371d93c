"""Whether datagrams of a group pass between this machine and another, and where they vanish.

Two sides, one nonce. Both join the group; seconds since they agreed:

    0.20        the directory sends its burst to the group, and a few to the asker alone
    0.10, 0.39  the asker reads the kernel's counters: what came in between
    0.40        the asker sends its burst; members of a room answer it
    0.30, 0.57  the directory reads
    0.58, 0.98  both read: what comes in anyway (noise)

So each side measures the other's burst alone, with time to spare: a busy machine is late, and the
two do not begin at the same moment. The noise is measured when all is over, and for longer than the
burst takes: it is what is taken off. (Measured over 0.14 s just before the burst it was wrong in 1
of 30 looks under load.) A burst is 20 PROBEs, 3 ms apart, every other one as long as a datagram may
be. A probe counts what it hears; what that means is judged elsewhere.
"""

from __future__ import annotations

import errno
import socket

from evloop.base.names import place_of
from evloop.net import compat
from evloop.net.counters import Ladder, read_ladder
from evloop.net.multicast import (
    destination,
    granted_buffer,
    open_receiver,
    open_sender,
    receive,
)
from evloop.room.limits import (
    PROBE_ASK_TIMES,
    PROBE_FOREIGN_MAX,
    PROBE_SPACING_S,
    PROBE_UNICAST_TIMES,
    PROBES_SENT,
)
from evloop.room.reliable.limits import DATAGRAM_BYTES_MAX
from evloop.room.reliable.packets import ASKER, DIRECTORY, PROBE, SESSION, Codec, probe_body
from evloop.system.timers import NEVER, nothing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from evloop.net.interfaces import Interface
    from evloop.system.loop import Loop, Watch

SHORT_BYTES = 55
BURST_BYTES = PROBES_SENT // 2 * (SHORT_BYTES + DATAGRAM_BYTES_MAX + 2 * 28)  # with IP and UDP
NOISE_S = (0.58, 0.98)
JOINED_S = 0.04  # by then both sides have joined: what one hears the other could hear too
# From whom a probe is -> when it sends, and when it reads the counters around the other's burst.
SENDS_S = {DIRECTORY: 0.20, ASKER: 0.40}
READS_S = {ASKER: (0.10, 0.39), DIRECTORY: (0.30, 0.57)}
REPORT_S = 1.1  # then the directory's report is whole, whatever was late


class Unicast:
    """A socket for what the two sides send each other alone; bound to the address by which they
    know each other, so that nobody else can be made a target."""

    __slots__ = ("sock", "target")

    def __init__(self, own: tuple[Any, ...]) -> None:
        """`own`: this side's address of the TCP connection, as of a socket. OSError."""
        self.target: tuple[Any, ...] | None = None
        family = socket.AF_INET6 if ":" in own[0] else socket.AF_INET
        self.sock = socket.socket(family, socket.SOCK_DGRAM)
        try:
            self.sock.setblocking(False)
            self.sock.bind((own[0], 0, *own[2:]))
        except OSError:
            self.sock.close()
            raise

    @property
    def port(self) -> int:
        port: int = self.sock.getsockname()[1]
        return port


class Probe:
    """One side of a probe of (`address`, `port`); SetupError when its sockets cannot be had.

    `origin`: ASKER or DIRECTORY. `unicast` is its own from now on. `on_counted()` is called when
    all counters are read; `on_session(sender, fields)` with each SESSION heard in the group.
    """

    __slots__ = (
        "_begun",
        "_burst_at",
        "_codec",
        "_group",
        "_index",
        "_loop",
        "_nonce",
        "_origin",
        "_readings",
        "_receiver",
        "_sender",
        "_steps",
        "_timer",
        "_unicast",
        "_watches",
        "address",
        "asked",
        "counted",
        "denied",
        "foreign",
        "heard",
        "interface",
        "on_counted",
        "on_session",
        "own",
        "port",
        "refused",
        "sender_id",
        "sent",
        "unicast",
    )

    def __init__(
        self,
        loop: Loop,
        address: str,
        port: int,
        interface: Interface,
        unicast: Unicast,
        *,
        origin: int,
        nonce: int,
        sender_id: bytes,
        ttl: int = 1,
    ) -> None:
        self._loop = loop
        self.address, self.port = address, port
        self.interface = interface
        self._origin = origin
        self._nonce = nonce
        self.sender_id = sender_id
        self._codec = Codec(place_of(address, port))
        self._unicast = unicast
        self.sent = 0
        self.refused = 0  # by this machine itself
        self.denied = False  # macOS keeps this program from the local network
        self.heard: set[int] = set()  # indices of the other side's
        self.own: set[int] = set()  # indices of mine that came back
        self.unicast: set[int] = set()  # indices of what came to me alone
        self.foreign: dict[str, int] = {}  # what else came to the group, by source address
        self.asked: dict[int, int] = {}  # `sent` of what I sent -> the number of the ask
        self.counted = False
        self.on_counted: Callable[[], object] = nothing
        self.on_session: Callable[[bytes, Any], object] = nothing
        self._readings: list[tuple[float, Ladder]] = []
        self._index = PROBES_SENT  # of the next to send
        self._burst_at = NEVER  # when that one goes
        self._receiver = self._sender = unicast.sock
        self._watches: list[Watch] = []
        try:
            self._receiver = open_receiver(address, port, interface)
            self._sender = open_sender(address, port, interface, ttl)
        except BaseException:
            self.close()
            raise
        self._group = destination(address, port, interface)
        self._begun = loop.now
        reads = [(when, self._read) for when in (*READS_S[origin], *NOISE_S)]
        self._steps = sorted(
            [*reads, (SENDS_S[origin], self._begin_burst)], key=lambda step: step[0]
        )
        self._timer = loop.call_at(NEVER, self._on_timer)
        self._watch(self._receiver, True)
        self._watch(unicast.sock, False)

    def _watch(self, sock: socket.socket, group: bool) -> None:
        watch = self._loop.watch(sock, lambda: self._receive(sock, group), release=sock.close)
        self._watches.append(watch)

    @property
    def granted(self) -> int:
        """Bytes of receive buffer that the kernel gave."""
        return granted_buffer(self._receiver)

    def start(self) -> None:
        """The two sides have agreed: 0 is the next tick, for this one may have begun long ago."""
        self._loop.defer(lambda: self._loop.defer(self._begin))

    def _begin(self) -> None:
        if self._watches:
            self._begun = self._loop.now
            self._timer.move(self._begun + self._steps[0][0])

    def close(self) -> None:
        """Leave the group, close the sockets; a second call does nothing."""
        for watch in self._watches:
            watch.close()
        for sock in (self._receiver, self._sender, self._unicast.sock):
            sock.close()
        if self._watches:
            self._timer.cancel()
        self._watches = []

    # -- sending ---------------------------------------------------------------------------------

    def _on_timer(self) -> None:
        while self._steps and self._begun + self._steps[0][0] <= self._loop.now:
            self._steps.pop(0)[1]()
        due = self._begun + self._steps[0][0] if self._steps else NEVER
        while self._index < PROBES_SENT and self._burst_at <= self._loop.now:
            self._send(self._index, PROBES_SENT, self._nonce)
            if self._index < PROBE_UNICAST_TIMES and self._unicast.target is not None:
                self._try(self._unicast.sock, self._pack(self._index, SHORT_BYTES, self._nonce),
                          self._unicast.target)  # fmt: skip
            self._index += 1
            self._burst_at += PROBE_SPACING_S
        if self._index < PROBES_SENT:
            due = min(due, self._burst_at)
        self._timer.move(due)

    def _begin_burst(self) -> None:
        self._index = 0
        self._burst_at = self._loop.now

    def ask(self, number: int) -> None:
        """Ask the members once more who hears: with a nonce of its own."""
        for _ in range(PROBE_ASK_TIMES):
            self._send(0, 1, self._nonce ^ number, number)

    def _send(self, index: int, of: int, nonce: int, ask: int = 0) -> None:
        size = DATAGRAM_BYTES_MAX if index % 2 else SHORT_BYTES
        datagram = self._pack(index if of > 1 else 0, size, nonce, of)
        self.asked[self._now_us()] = ask
        if of > 1:
            self.sent += 1
        if not self._try(self._sender, datagram, self._group) and of > 1:
            self.refused += 1

    def _now_us(self) -> int:
        return int(self._loop.now * 1e6) & 0xFFFFFFFF

    def _pack(self, index: int, size: int, nonce: int, of: int = PROBES_SENT) -> bytes:
        body = probe_body(nonce, self._now_us(), self._origin, index, of, size)
        return self._codec.pack(PROBE, 0, self.sender_id, 0, 0, body)

    def _try(self, sock: socket.socket, datagram: bytes, target: tuple[Any, ...]) -> bool:
        """Send; whether this machine let it go (a queue that is full did)."""
        try:
            sock.sendto(datagram, target)
        except OSError as error:
            self.denied |= target is self._group and compat.denied_by_macos(error.errno)
            return error.errno not in (errno.EPERM, errno.EACCES)
        return True

    # -- hearing ---------------------------------------------------------------------------------

    def _receive(self, sock: socket.socket, group: bool) -> None:
        for data, source in receive(sock):
            if group and ":" in self.address and source[3] not in (0, self.interface.ifindex):
                continue  # of another interface
            packet = self._codec.open(data)
            if isinstance(packet, tuple) and packet[0] == PROBE:
                nonce, _, origin, index, _ = packet[5]
                if nonce == self._nonce and index < PROBES_SENT:
                    mine = origin == self._origin
                    (self.own if mine else self.heard if group else self.unicast).add(index)
                continue
            if not group or self._loop.now < self._begun + JOINED_S:
                continue  # the other side has not joined yet: it could not hear this too
            host = source[0].partition("%")[0]
            if host in self.foreign or len(self.foreign) < PROBE_FOREIGN_MAX:
                self.foreign[host] = self.foreign.get(host, 0) + 1
            if isinstance(packet, tuple) and packet[0] == SESSION:
                self.on_session(packet[2], packet[5])

    # -- counting --------------------------------------------------------------------------------

    def _read(self) -> None:
        ladder = read_ladder(self.interface.name, ":" in self.address)
        self._readings.append((self._loop.now, ladder))
        if len(self._readings) == len(READS_S[self._origin]) + len(NOISE_S):
            self.counted = True
            self.on_counted()

    def report(self) -> dict[str, Any]:
        """What was counted, as the result of `probed`."""
        long = sum(index % 2 for index in self.heard)
        window, noise = _steps_between(self._readings)
        return {
            "sent": self.sent,
            "refused": self.refused,
            "heard": len(self.heard),
            "heard_long": long,
            "own": len(self.own),
            "unicast": len(self.unicast),
            "foreign": dict(self.foreign),
            "ladder": window,
            "noise": noise,
        }


def _steps_between(
    readings: list[tuple[float, Ladder]],
) -> tuple[dict[str, int | None], dict[str, int | None]]:
    """(what passed each step while the other sent, what passes in as long a time anyway)."""
    if len(readings) < 4:
        return dict.fromkeys(Ladder._fields), dict.fromkeys(Ladder._fields)
    (begin, old), (end, new), (first, before), (second, quiet) = readings
    scale = (end - begin) / max(second - first, 1e-6)
    window, noise = {}, {}
    for name, was, still, start, stop in zip(Ladder._fields, before, quiet, old, new):
        window[name] = None if start is None or stop is None else stop - start
        noise[name] = None if was is None or still is None else int((still - was) * scale)
    return window, noise
