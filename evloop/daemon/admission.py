"""Who is let in: how many at once, and how many new ones a second from one visitor.

A visitor is an IPv4 address or an IPv6 /64 (peers.prefix_of). Asked in this order:

    question                                        no                      yes
    fewer than `clients` connections in all?        Refused, retry in 5 s   go on
    fewer than `per_visitor` of this visitor?       Refused, retry in 5 s   go on
    a token in this visitor's bucket?               Refused, retry then     counted, admitted

Only who is admitted is counted, so the table of counts is never longer than `clients`; the table
of buckets has its own cap. How long someone may be silent is not judged here: the spans are in
`limits` (UNFINISHED_FRAME_S, WRITE_PROGRESS_S, TLS_HANDSHAKE_S) and run in the stream.
"""

from evloop.base.errors import Refused
from evloop.base.limits import (
    CONNECTIONS_BURST,
    CONNECTIONS_PER_S,
    DESCRIPTORS_RESERVED,
    FULL_RETRY_S,
)
from evloop.base.peers import prefix_of
from evloop.base.ratelimit import AddressRates

SLOW_DOWN = 6  # the code of the directory protocol


def _slow_down(sentence: str, retry_after: float) -> Refused:
    return Refused(SLOW_DOWN, "slow_down", sentence, {"retry_after": round(retry_after, 3)})


class Guard:
    """Admits connections: at most `clients` in all and `per_visitor` (0: no cap) from each."""

    __slots__ = ("_counts", "_rates", "clients", "count", "per_visitor")

    def __init__(self, clients: int, per_visitor: int) -> None:
        self.clients = clients
        self.per_visitor = per_visitor
        self.count = 0
        self._counts: dict[str, tuple[str, int]] = {}  # the key again, and how many
        rate = CONNECTIONS_PER_S if per_visitor else 0.0
        self._rates = AddressRates(rate, float(CONNECTIONS_BURST))

    def admit(self, host: str, now: float) -> str:
        """Count a connection from the numeric address `host`; return its visitor for `release`.

        Raises Refused `slow_down` (with `retry_after`) when there is no place.
        """
        if self.count >= self.clients:
            raise _slow_down(
                f"the server is full ({self.clients} clients); try again later", FULL_RETRY_S
            )
        visitor = prefix_of(host)
        # The text that the first one brought is given to all: of 10,000 from one office, it is
        # kept once.
        visitor, count = self._counts.get(visitor, (visitor, 0))
        if self.per_visitor and count >= self.per_visitor:
            raise _slow_down(f"{count} connections from {visitor} are enough", FULL_RETRY_S)
        wait = self._rates.take(visitor, now)
        if wait:
            raise _slow_down(f"too many new connections from {visitor}; wait a moment", wait)
        self._counts[visitor] = visitor, count + 1
        self.count += 1
        return visitor

    def release(self, visitor: str) -> None:
        """The connection that `admit` gave `visitor` for has ended."""
        visitor, count = self._counts[visitor]
        if count > 1:
            self._counts[visitor] = visitor, count - 1
        else:
            del self._counts[visitor]
        self.count -= 1


def clients_that_fit(wanted: int, descriptors: int) -> int:
    """`wanted` clients, or as many as a limit of `descriptors` open files leaves room for."""
    return max(0, min(wanted, descriptors - DESCRIPTORS_RESERVED))
