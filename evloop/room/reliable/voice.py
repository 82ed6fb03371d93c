"""Everything that is sent passes here: the caps of what one member may send.

Each type of datagram has a bucket, and all share one of bytes. `may_...` takes leave to send one
datagram of a type, and `say_...` sends it; `..._due` tells when leave may be had. Unasked copies
give way first: half of the bytes are not theirs.
"""

from evloop.base.buckets import Bucket
from evloop.base.limits import (
    BULK_BURST,
    BULK_PER_S,
    BYTES_BURST,
    BYTES_PER_S,
    DATA_BURST,
    DATA_PER_S,
    DATAGRAM_BYTES_MAX,
    ECHOES_MAX,
    NACK_BURST,
    NACK_PER_S,
    REPAIR_BURST,
    REPAIR_PER_S,
    ROOM_REPAIR_PER_S,
    SESSION_BURST,
    SESSION_PER_S,
)
from evloop.room.reliable.packets import (
    BYE,
    NACK,
    RELAYED,
    SESSION,
    Codec,
    as_repair,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from evloop.room.reliable.packets import Datagram


class Voice:
    """What one session sends into its room."""

    __slots__ = (
        "_bulk", "_bytes", "_codec", "_counter", "_counts", "_data", "_nack", "_repair", "_sender",
        "_session", "echoes", "out", "room",
    )  # fmt: skip

    def __init__(self, codec: Codec, sender: bytes, counts: dict[str, int], now: float) -> None:
        self._codec = codec
        self._sender = sender
        self._counter = 0  # shared by NACK, SESSION and BYE
        self._counts = counts
        self.out: list[Datagram] = []
        self.echoes: dict[bytes, None] = {}  # sent, and not yet heard by myself
        self._data = Bucket(DATA_PER_S, DATA_BURST, now)
        self._repair = Bucket(REPAIR_PER_S, REPAIR_BURST, now)
        self.room = Bucket(ROOM_REPAIR_PER_S, ROOM_REPAIR_PER_S, now)  # of everybody's repairs
        self._nack = Bucket(NACK_PER_S, NACK_BURST, now)
        self._session = Bucket(SESSION_PER_S, SESSION_BURST, now)
        self._bulk = Bucket(BULK_PER_S, BULK_BURST, now)
        self._bytes = Bucket(BYTES_PER_S, BYTES_BURST, now)

    def emit(self, datagram: bytes, to: object | None, what: str, now: float) -> None:
        """Send `datagram` (to the group when `to` is None) and count it as `what`."""
        self._bytes.spend(now, len(datagram))
        self._counts[what] += 1
        self._counts["bytes_sent"] += len(datagram)
        self.out.append((datagram, to))
        # A repair is not among them: heard from anybody, it is counted.
        if to is None and not datagram[3] & RELAYED:
            self._await_echo(datagram)

    def _await_echo(self, datagram: bytes) -> None:
        self.echoes[datagram] = None
        if len(self.echoes) > ECHOES_MAX:
            del self.echoes[next(iter(self.echoes))]

    def came_back(self, data: bytes) -> bool:
        """Whether `data` is byte for byte what I sent: then there is nothing to judge in it.

        On the loop for other members of this host it always comes back; to open and to compare it
        took 20,000 instructions more.
        """
        if data in self.echoes:
            del self.echoes[data]
            return True
        return False

    def control(self, kind: int, body: bytes, what: str, now: float) -> None:
        """Send a NACK, SESSION or BYE; its bucket is the caller's business."""
        datagram = self._codec.pack(kind, 0, self._sender, self._counter, 0, body)
        self._counter += 1
        self.emit(datagram, None, what, now)

    def say_bye(self, now: float) -> None:
        self.control(BYE, b"", "byes_sent", now)

    def _may(self, bucket: Bucket, size: int, now: float) -> bool:
        return self._bytes.level(now) >= size and bucket.take(now)

    def _due(self, bucket: Bucket, size: int = DATAGRAM_BYTES_MAX) -> float:
        return max(bucket.when(), self._bytes.when(size))

    def may_nack(self, now: float, spare: float = 0.0) -> bool:
        """Take leave to send a NACK, when that leaves `spare` of its bucket."""
        enough = self._nack.level(now) >= 1 + spare
        return enough and self._may(self._nack, DATAGRAM_BYTES_MAX, now)

    def nack_due(self, spare: float = 0.0) -> float:
        """When `may_nack` with the same `spare` may say yes."""
        return max(self._nack.when(1 + spare), self._bytes.when(DATAGRAM_BYTES_MAX))

    def say_nack(self, body: bytes, now: float) -> None:
        self.control(NACK, body, "nacks_sent", now)

    def may_session(self, now: float) -> bool:
        return self._may(self._session, DATAGRAM_BYTES_MAX, now)

    def session_due(self) -> float:
        return self._due(self._session)

    def say_session(self, body: bytes, now: float) -> None:
        self.control(SESSION, body, "sessions_sent", now)

    def may_data(self, now: float) -> bool:
        return self._may(self._data, DATAGRAM_BYTES_MAX, now)

    def data_due(self) -> float:
        return self._due(self._data)

    def copies_afforded(self, size: int, now: float) -> int:
        """How many copies of `size` bytes fit half of the bytes there are, besides the first."""
        return max(0, int(self._bytes.level(now) / 2 / size) - 1)

    def reserve(self, size: int, now: float) -> None:
        """Bytes of the copies that are announced: what was announced must be sendable."""
        self._bytes.spend(now, size)

    def emit_copy(self, datagram: bytes) -> None:
        """Send a copy whose bytes are reserved."""
        self._counts["copies_sent"] += 1
        self._counts["bytes_sent"] += len(datagram)
        self.out.append((datagram, None))
        self._await_echo(datagram)

    def repair_due(self) -> float:
        return max(self._due(self._repair), self.room.when())

    def say_repair(self, datagram: bytes, now: float) -> bool:
        """Send `datagram` as a repair to the room; False when the caps forbid it now."""
        if self.room.level(now) < 1 or not self._may(self._repair, len(datagram), now):
            return False
        self.room.spend(now, 1)
        self.emit(as_repair(datagram), None, "repairs_sent", now)
        return True

    def bulk_due(self) -> float:
        return self._due(self._bulk)

    def may_bulk(self, now: float) -> bool:
        return self._may(self._bulk, DATAGRAM_BYTES_MAX, now)

    def say_bulk(self, datagram: bytes, to: object, now: float) -> None:
        """Send `datagram` as a repair to one asker."""
        self.emit(as_repair(datagram), to, "bulk_sent", now)
