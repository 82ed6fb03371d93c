"""A session that records: what it accepts is handed out, and it can begin with what was recorded.

It is the session of a directory's keeper. Towards the others it is a member like any other; it
never says anything. It holds fewer messages than others, for longer.

A session that begins with rows of an earlier run (`restore`) knows of each sender the run without a
gap that ends at its newest number:

    numbers in the rows    3 4 5    8 9 10        then: lo 8, hi 11
                                    shown and told by itself up to 11; all of it is history

What is before a gap is left out, as if it had been stepped over: a record says that everything
from lo up to hi - 1 is held. A record is no presence: nobody is taken for being here because of it.
"""

from __future__ import annotations

from evloop.room.reliable.history import History
from evloop.room.reliable.packets import DATA, MORE, as_tagged
from evloop.room.reliable.reorder import Message, Sender
from evloop.room.reliable.session import RoomSession
from evloop.system.timers import NEVER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random


class _Recorder(History):
    """A history that notes what is put into it."""

    __slots__ = ("fresh",)

    def __init__(self, messages_max: int, age_s: float) -> None:
        super().__init__(messages_max, age_s)
        self.fresh: list[Message] = []

    def add(self, message: Message, now: float, standing: bool = True) -> list[tuple[bytes, int]]:
        self.fresh.append(message)
        return super().add(message, now, standing)


class RecordingSession(RoomSession):
    """A session that holds `messages_max` messages for `age_s` seconds, and hands out what comes
    (`take_fresh`). It restores at most `senders_max` senders."""

    __slots__ = ("_messages_max", "_record", "_senders_max")

    def __init__(
        self,
        *,
        place: str,
        sender_id: bytes,
        nickname: str,
        rng: Random,
        now: float,
        messages_max: int,
        senders_max: int,
        age_s: float,
    ) -> None:
        super().__init__(place=place, sender_id=sender_id, nickname=nickname, rng=rng, now=now)
        self._messages_max = messages_max
        self._senders_max = senders_max
        self._record = self.message_log.history = _Recorder(messages_max, age_s)

    def take_fresh(self) -> list[tuple[bytes, int, bytes]]:
        """What others said that was accepted since the last call, in the order in which it came:
        (sender, seq, datagram). The datagram is as its sender tagged it: no repair, no copies."""
        fresh, self._record.fresh = self._record.fresh, []
        return [
            (message.sender, message.seq, as_tagged(message.datagram))
            for message in fresh
            if message.sender != self.sender_id
        ]

    def restore(self, rows: Sequence[tuple[float, bytes]], now: float) -> int:
        """Begin with `rows`, (age in seconds, datagram), the oldest first; return how many of them
        are held now. For once, before anything came. What is no DATA of this room is left out."""
        held: dict[bytes, dict[int, tuple[float, Message]]] = {}  # who spoke last is the last
        for age, datagram in rows[-self._messages_max :]:
            packet = self._codec.open(datagram)
            if isinstance(packet, str) or packet[0] != DATA or packet[2] == self.sender_id:
                continue
            _, flags, sender, seq, wall, (lamport, parents, name, kind, text) = packet
            more = bool(flags & MORE)
            message = Message(lamport, sender, seq, parents, name, kind, text, wall, more, datagram)
            of_sender = held.pop(sender, {})
            of_sender.setdefault(seq, (now - age, message))
            held[sender] = of_sender
        last = list(held.items())[-self._senders_max :]
        count = sum([self._begin_with(sender, numbers, now) for sender, numbers in last])
        self._record.fresh.clear()
        return count

    def _begin_with(
        self, sender: bytes, numbers: dict[int, tuple[float, Message]], now: float
    ) -> int:
        """The record of one sender; return how many of its messages are held."""
        log = self.message_log
        hi = max(numbers) + 1
        lo = hi - 1
        while lo - 1 in numbers:
            lo -= 1
        stream = Sender(sender, lo, hi, -NEVER)
        stream.began = now
        stream.hi = stream.shown = stream.word = stream.covered = hi
        stream.gap_before = False
        stream.name = numbers[hi - 1][1].name.decode(errors="replace")
        # In the order in which they came: the history looks for what is too old from the front.
        for since, message in sorted(
            [numbers[seq] for seq in range(lo, hi)], key=lambda one: one[0]
        ):
            log.lamport.hear(message.lamport, now)
            stream.lamport = max(stream.lamport, log.lamport.placed(message.lamport))
            self._record.add(message, since, False)
        log.senders.add(stream)
        log.changed = now
        return hi - lo
