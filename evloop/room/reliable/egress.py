"""What this member sends: its messages in parts, their queue, unasked copies, and the rate caps.

Everything that is sent passes `Egress`. Each type of datagram has a token bucket, and all types
share one bucket of bytes. `may_...` takes what one datagram of a type costs, if there is enough,
and `say_...` sends it; `..._due` tells when there will be enough. Unasked copies use at most half
of the bytes, and so do answers to others (bulk, and repairs of what others said): a member that
asks for much cannot keep this one from asking and telling.
"""

from __future__ import annotations

from heapq import heappop, heappush

from evloop.base.errors import Refused
from evloop.base.names import utf8_parts
from evloop.base.ratelimit import TokenBucket
from evloop.room.reliable.budget import RoomBudget
from evloop.room.reliable.limits import (
    ANSWERS_SHARE,
    BULK_BURST,
    BULK_PER_S,
    BYTES_BURST,
    BYTES_PER_S,
    COPY_TIMER_S,
    DATA_BURST,
    DATA_PER_S,
    DATAGRAM_BYTES_MAX,
    ECHOES_MAX,
    FOLLOW_MAX,
    MESSAGE_BYTES_MAX,
    NACK_BURST,
    NACK_PER_S,
    OUTBOX_MAX,
    PART_BYTES_MAX,
    PARTS_MAX,
    REPAIR_BURST,
    REPAIR_PER_S,
    SESSION_BURST,
    SESSION_PER_S,
)
from evloop.room.reliable.packets import (
    BYE,
    NACK,
    RELAYED,
    SESSION,
    Codec,
)
from evloop.room.reliable.reorder import Message
from evloop.system.timers import NEVER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from evloop.room.reliable.packets import Datagram

    Key = tuple[bytes, int]

_OWN_BYTES = BYTES_BURST * (1 - ANSWERS_SHARE)  # bytes that answers to others must leave


def _no_tail(now: float) -> bytes:
    """In an open room the list is the last."""
    return b""


def split(text: str) -> list[bytes]:
    """`text` in parts of at most PART_BYTES_MAX bytes of UTF-8, cut between characters.

    Raises Refused `too_long` when that makes more than PARTS_MAX parts.
    """
    data = text.encode(errors="replace")
    parts = utf8_parts(data, PART_BYTES_MAX)
    if len(parts) > PARTS_MAX:
        raise Refused(
            1,
            "too_long",
            f"the message has {len(data)} bytes; {MESSAGE_BYTES_MAX} fit: send it in pieces",
        )
    return parts


class Outbox:
    """Messages said but not yet sent, and the copies announced but not yet sent."""

    __slots__ = ("_as_copy", "_copies", "_repeated", "queue")

    def __init__(self, codec: Codec) -> None:
        self._as_copy = codec.as_copy
        self.queue: list[Message] = []  # mostly empty; an empty deque has 0.6 kB
        self._copies: list[tuple[float, int, int, bytes]] = []  # heap of (due, seq, more, datagram)
        self._repeated: dict[int, None] = {}  # own numbers with copies to come

    def check(self, parts: int) -> None:
        """Raise Refused `too_fast` when `parts` more do not fit the queue."""
        if len(self.queue) + parts > OUTBOX_MAX:
            raise Refused(1, "too_fast", f"{len(self.queue)} messages wait to be sent; wait a bit")

    def announce(self, message: Message, more: int, now: float) -> bytes:
        """The first copy of `message`, with `more` copies to follow by themselves."""
        if more:
            heappush(self._copies, (now + COPY_TIMER_S, message.seq, more - 1, message.datagram))
            self._repeated[message.seq] = None
        return self._as_copy(message.datagram, more)

    def moved(self, tagged: Callable[[bytes], bytes]) -> None:
        """The room is at another place: what waits goes out as `tagged` makes it."""
        for index, message in enumerate(self.queue):
            self.queue[index] = message._replace(datagram=tagged(message.datagram))
        # In its order as it was: of two copies the moments and numbers differ.
        self._copies = [
            (due, seq, more, tagged(datagram)) for due, seq, more, datagram in self._copies
        ]

    def repeats(self, seq: int) -> bool:
        """Whether copies of my message number `seq` are still to be sent: it needs no repair."""
        return seq in self._repeated

    def deadline(self) -> float:
        """When the next copy is due."""
        return self._copies[0][0] if self._copies else NEVER

    def take_copy(self, now: float) -> bytes | None:
        """A copy that is due, or None."""
        if not self._copies or self._copies[0][0] > now:
            return None
        due, seq, more, datagram = heappop(self._copies)
        if more:
            heappush(self._copies, (due + COPY_TIMER_S, seq, more - 1, datagram))
        else:
            del self._repeated[seq]
        return self._as_copy(datagram, more)


class Egress:
    """What one session sends into its room."""

    __slots__ = (
        "_bulk", "_bytes", "_codec", "_counter", "_counts", "_data", "_last", "_nack",
        "_repair", "_reserved", "_sender", "_session", "echoes", "out", "room", "tail",
    )  # fmt: skip

    def __init__(self, codec: Codec, sender: bytes, counts: dict[str, int], now: float) -> None:
        self._codec = codec
        self._sender = sender
        self._counter = 0  # shared by NACK, SESSION and BYE
        self._last = b""  # of these the one sent last
        # What the body of a SESSION that is sent at that time ends with.
        self.tail: Callable[[float], bytes] = _no_tail
        self._counts = counts
        self.out: list[Datagram] = []
        self.echoes: dict[bytes, None] = {}  # sent, and not yet heard by myself
        self._data = TokenBucket(DATA_PER_S, DATA_BURST, now)
        self._repair = TokenBucket(REPAIR_PER_S, REPAIR_BURST, now)
        self.room = RoomBudget(now)
        self._nack = TokenBucket(NACK_PER_S, NACK_BURST, now)
        self._session = TokenBucket(SESSION_PER_S, SESSION_BURST, now)
        self._bulk = TokenBucket(BULK_PER_S, BULK_BURST, now)
        self._bytes = TokenBucket(BYTES_PER_S, BYTES_BURST, now)
        self._reserved = 0  # bytes of copies that are announced and not yet sent

    def emit(self, datagram: bytes, to: object | None, what: str, now: float) -> None:
        """Send `datagram` (to the group when `to` is None) and count it as `what`."""
        self._level(now)
        self._bytes.spend(now, len(datagram))
        self._counts[what] += 1
        self._counts["bytes_sent"] += len(datagram)
        self.out.append((datagram, to))
        # A repair is not kept among the echoes: it counts in the budget when it comes back.
        if to is None and not datagram[3] & RELAYED:
            self._await_echo(datagram)

    def _await_echo(self, datagram: bytes) -> None:
        self.echoes[datagram] = None
        if len(self.echoes) > ECHOES_MAX:
            del self.echoes[next(iter(self.echoes))]

    def moved(self) -> None:
        """The room is at another place: what was sent does not come back there, and where single
        members are is not known yet."""
        self.out = [(self._codec.tagged(one), None) for one, to in self.out if to is None]
        self.echoes.clear()

    def came_back(self, data: bytes) -> bool:
        """Whether `data` is byte for byte a datagram that I sent: it needs no parsing then.

        Multicast is looped back for other members on this host, so each of my datagrams returns.
        Parsing and comparing it took 20,000 machine instructions more.
        """
        if data in self.echoes:
            del self.echoes[data]
            return True
        return False

    def control(self, kind: int, body: bytes, what: str, now: float) -> None:
        """Send a NACK, SESSION or BYE; the caller has asked its bucket."""
        datagram = self._codec.pack(kind, 0, self._sender, self._counter, 0, body)
        self._counter += 1
        self._last = datagram
        self.emit(datagram, None, what, now)

    def posed(self, counter: int, datagram: bytes) -> bool:
        """Another sent the control `datagram` with my id and `counter`: go on behind that number,
        when the others may have taken it for mine. Whether they may have: with the number of my
        last one too, which it may have overtaken, unless it is a copy of that one."""
        if counter == self._counter - 1:
            return datagram != self._last
        if (counter - self._counter) & 0xFFFFFFFF >= FOLLOW_MAX:
            return False
        self._counter = counter + 1
        return True

    def say_bye(self, now: float) -> None:
        self.control(BYE, b"", "byes_sent", now)

    def _may_answer(self, bucket: TokenBucket, size: int, now: float) -> bool:
        """As `_may`, for answers to others: it leaves half of the bytes."""
        return self._level(now) >= size + _OWN_BYTES and bucket.take(now)

    def _answer_due(self, bucket: TokenBucket) -> float:
        return max(bucket.when(), self._bytes.when(DATAGRAM_BYTES_MAX + _OWN_BYTES))

    def _may(self, bucket: TokenBucket, size: int, now: float) -> bool:
        return self._level(now) >= size and bucket.take(now)

    def _due(self, bucket: TokenBucket, size: int = DATAGRAM_BYTES_MAX) -> float:
        return max(bucket.when(), self._bytes.when(size))

    def may_nack(self, now: float, spare: float = 0.0) -> bool:
        """Whether a NACK may be sent now that leaves `spare` in its bucket; takes one if so."""
        enough = self._nack.level(now) >= 1 + spare
        return enough and self._may(self._nack, DATAGRAM_BYTES_MAX, now)

    def nack_due(self, spare: float = 0.0) -> float:
        """When `may_nack` with the same `spare` may say yes."""
        return max(self._nack.when(1 + spare), self._bytes.when(DATAGRAM_BYTES_MAX))

    def say_nack(self, body: bytes, now: float) -> None:
        self.control(NACK, body, "nacks_sent", now)
        self.room.asked(now)

    def may_session(self, now: float) -> bool:
        return self._may(self._session, DATAGRAM_BYTES_MAX, now)

    def session_due(self) -> float:
        return self._due(self._session)

    def say_session(self, body: bytes, now: float) -> None:
        self.control(SESSION, body + self.tail(now), "sessions_sent", now)
        self.room.told(now)

    def may_data(self, now: float) -> bool:
        return self._may(self._data, DATAGRAM_BYTES_MAX, now)

    def data_due(self) -> float:
        return self._due(self._data)

    def copies_afforded(self, size: int, now: float) -> int:
        """How many copies of `size` bytes, besides the first, fit half of the bytes left."""
        return max(0, int(self._level(now) / 2 / size) - 1)

    def _level(self, now: float) -> float:
        """Bytes that may be sent now. After a leap of the clock the bucket is full at once; bytes
        that are reserved and not yet sent are then taken from it again. So this comes before each
        change of either."""
        level = self._bytes.level(now)
        over = level + self._reserved - BYTES_BURST
        if over > 0:
            self._bytes.spend(now, over)
            level -= over
        return level

    def reserve(self, size: int, now: float) -> None:
        """Take the bytes of announced copies now, so that they can be sent when they are due."""
        self._level(now)
        self._bytes.spend(now, size)
        self._reserved += size

    def emit_copy(self, datagram: bytes, now: float) -> None:
        """Send a copy whose bytes are reserved."""
        self._level(now)
        self._reserved -= len(datagram)
        self._counts["copies_sent"] += 1
        self._counts["bytes_sent"] += len(datagram)
        self.out.append((datagram, None))
        self._await_echo(datagram)

    def repair_due(self) -> float:
        return max(self._answer_due(self._repair), self.room.repair_due())

    def say_repair(self, datagram: bytes, own: bool, now: float) -> bool:
        """Send `datagram` as a repair to the room, unless the caps forbid it now; whether it was
        sent. `own`: the message is mine."""
        may = self._may if own else self._may_answer
        if not self.room.may_repair(now) or not may(self._repair, len(datagram), now):
            return False
        self.room.repaired(True, now)
        self.emit(self._codec.as_repair(datagram), None, "repairs_sent", now)
        return True

    def bulk_due(self) -> float:
        return self._answer_due(self._bulk)

    def may_bulk(self, now: float) -> bool:
        return self._may_answer(self._bulk, DATAGRAM_BYTES_MAX, now)

    def say_bulk(self, datagram: bytes, to: object, now: float) -> None:
        """Send `datagram` as a repair to one asker."""
        self.emit(self._codec.as_repair(datagram), to, "bulk_sent", now)
