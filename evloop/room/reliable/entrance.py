"""The way into a sealed room's session: each datagram is judged here before anything hears of it.

`Entrance.open` stands where an open room has `Codec.open`: a packet gets in, a reason is counted.
The order is that of cost: header, tag, decryption, then the `gate`. A DATA whose bytes are those of
one that is held is a copy, and is not decrypted; its tag is checked all the same, or a stranger's
bad copy would hold back those who would answer.

What the gate lets in later (DATA that waited, the last SESSION of a stranger that is proven now)
is handed on by `handle_timer`. A stranger must learn that I am there, and
whom I do not know yet: so it is answered by a SESSION, which names it.

    a SESSION            in a room of up to GREETED_MEMBERS_MAX    in a larger room
    of a stranger,       answered, and it counts as a              it counts as a solicitation
      its list empty       solicitation
    of a stranger,       answered                                  with probability 20 / N, 1 to 2 s
      its list not                                                   later, if a stranger is left
    names me a stranger  answered                                  answered

Unless an answer is due already, each of these takes a token. Without one the answer goes with the
next SESSION; in a small room that is sent as soon as there is a token.
"""

from __future__ import annotations

from evloop.base.ratelimit import TokenBucket
from evloop.room.events import Repeated
from evloop.room.reliable.announce import answer_window
from evloop.room.reliable.gate import TAKEN, UNPROVEN, Gate
from evloop.room.reliable.limits import (
    GREETED_MEMBERS_MAX,
    REPEATED_MAX,
    REPEATED_MIN,
    REPEATED_TOLD_S,
    STRANGERS_ANSWERS_BURST,
    STRANGERS_ANSWERS_PER_S,
)
from evloop.room.reliable.membership import SILENT_INTERVALS, Member, Membership
from evloop.room.reliable.packets import BYE, DATA, DIRECT, NACK
from evloop.room.reliable.sealing import SealedCodec, names_tail
from evloop.system.timers import NEVER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from evloop.room.reliable.announce import Announcer, Confirm
    from evloop.room.reliable.egress import Egress
    from evloop.room.reliable.message_log import MessageLog
    from evloop.room.reliable.nack import NackRequester
    from evloop.room.reliable.packets import Codec, Fields, Packet

    Key = tuple[bytes, int]

_REASONS = tuple(
    ["dropped_" + reason for reason in ("key", "tag", "replayed", "unproven", "direct")]
)  # what /stats tells of a sealed room in any case


class SealedMembership(Membership):
    """The present members of a sealed room: only what is new is a sign of life.

    (A NACK below the highest counter is new, but it may have been held back.)
    """

    __slots__ = ()

    def fresh(self, sender: bytes, member: Member, counter: int, now: float) -> bool:
        return counter > member.counter and super().fresh(sender, member, counter, now)


def parts(place: str, key: bytes, name: str, own: bytes) -> tuple[Codec, Membership]:
    """What a sealed room has in the place of the codec and the list of members of an open one."""
    return SealedCodec(place, key), SealedMembership(name, own)


class Entrance:
    """Between the datagrams and the session of one sealed room."""

    __slots__ = (
        "_announcer", "_bucket", "_codec", "_confirm", "_counts", "_late", "_log", "_on_data",
        "_on_session", "_own", "_presence", "_repeated", "_repeated_since", "_rng", "gate",
    )  # fmt: skip

    def __init__(
        self,
        codec: Codec,
        message_log: MessageLog,
        presence: Membership,
        announcer: Announcer,
        confirm: Confirm,
        rng: Random,
        now: float,
    ) -> None:
        self._own = own = message_log.own.sender
        self.gate = Gate(own)
        assert isinstance(codec, SealedCodec)
        self._codec = codec
        self._log = message_log
        self._presence = presence
        self._announcer = announcer
        self._confirm = confirm
        self._rng = rng
        self._bucket = TokenBucket(STRANGERS_ANSWERS_PER_S, STRANGERS_ANSWERS_BURST, now)
        self._repeated: set[Key] = set()  # DATA that waited in vain, since
        self._repeated_since = -NEVER
        self._late = NEVER  # when I answer, if a stranger is left then

    def attach(
        self,
        egress: Egress,
        asker: NackRequester,
        on_data: Callable[[Packet, bytes, float], object],
        on_session: Callable[[bytes, int, Fields, object, float, float], object],
        counts: dict[str, int],
    ) -> None:
        """What is sent tells whom I know of; what proven members list is asked for longer; and what
        comes in later goes to `on_data` and `on_session`."""
        egress.tail = self.tail
        self._announcer.names_itself = True
        asker.listed = self.gate.lists
        self._counts = counts
        counts.update(dict.fromkeys(_REASONS, 0))
        self._on_data = on_data
        self._on_session = on_session

    # -- a datagram ------------------------------------------------------------------------------

    def open(self, data: bytes, now: float = 0.0, direct: bool = False) -> Packet | str:
        """As `Codec.open`; "": it is kept for later. `direct`: it was sent to this member alone."""
        header = self._codec.judge(data, direct)
        if isinstance(header, str):
            return header
        kind, _, sender, seq, _ = header
        if sender == self._own:
            return self._marked(self._codec.read(data, header), direct)
        if kind == DATA:
            held = self._log.history.get((sender, seq))
            if held is not None and self._codec.same(held.datagram, data):
                return self._marked((*header, ()), direct)
            if not self.gate.admits(sender, seq):
                return self.gate.wait(sender, seq, (data, header, direct), now)
            return self._marked(self._codec.read(data, header), direct)
        packet = self._codec.read(data, header)
        if isinstance(packet, str):
            return packet
        return self._control(packet, now)

    @staticmethod
    def _marked(packet: Packet | str, direct: bool) -> Packet | str:
        if not direct or isinstance(packet, str):
            return packet
        kind, flags, sender, seq, wall, fields = packet
        return kind, flags | DIRECT, sender, seq, wall, fields

    def _control(self, packet: Packet, now: float) -> Packet | str:
        kind, flags, sender, counter, wall, fields = packet
        if kind == NACK:
            verdict = self.gate.nack(sender, counter, fields, now)
        elif kind == BYE:
            verdict = self.gate.bye(sender, counter, now)
        else:
            differs = fields[0] != self._log.senders.digest
            verdict = self.gate.session(sender, counter, fields, packet, differs, now)
            if verdict == UNPROVEN:
                self._answer(not fields[9], False, now)
            elif verdict == TAKEN and self.gate.names_me_stranger(fields):
                self._answer(False, True, now)
            packet = kind, flags, sender, counter, wall, fields[:10]
        return packet if verdict == TAKEN else verdict

    # -- answering strangers ---------------------------------------------------------------------

    def _answer(self, solicits: bool, always: bool, now: float) -> None:
        members = self._presence.size()
        small = members <= GREETED_MEMBERS_MAX
        if not (small or always or solicits):
            if self._rng.random() * members < GREETED_MEMBERS_MAX:
                self._late = min(self._late, now + 1.0 + self._rng.random())
        elif not self.may_answer(now):
            if small:
                self._late = min(self._late, self._bucket.when())
        else:
            if solicits:
                self._announcer.heard_other(0, False, False, now)
            if small or always:
                self._confirm.answer(now + answer_window(members) * self._rng.random())

    def may_answer(self, now: float) -> bool:
        """Whether an answer is due already, or there is a token for one."""
        return self._confirm.answer_due < NEVER or self._bucket.take(now)

    def tail(self, now: float) -> bytes:
        """What the SESSION that is sent now ends with."""
        return names_tail(*self.gate.names(now))

    # -- time ------------------------------------------------------------------------------------

    def _patience(self) -> float:
        return SILENT_INTERVALS * self._presence.interval()

    def deadline(self) -> float:
        """When to call `handle_timer`."""
        gate = self.gate
        if gate.released or gate.admitted:
            return -NEVER
        return min(gate.waits_until(), gate.unheard_until(self._patience()), self._late)

    def handle_timer(self, now: float) -> None:
        """Let in what may come in now; do what is due."""
        gate = self.gate
        while gate.released:
            (_, _, sender, seq, _, fields), came = gate.released.pop(0)
            if came + self._patience() > now and gate.is_proven(sender):
                gate.read(sender, fields, now)
                self._on_session(sender, seq, fields[:10], None, now, came)
        if gate.admitted:
            for data, header, direct in gate.take_admitted():
                packet = self._marked(self._codec.read(data, header), direct)
                if not isinstance(packet, str):
                    self._on_data(packet, data, now)
        gate.expire(now)
        if gate.vain:
            self._in_vain(now)
        gate.forget_unheard(self._patience(), now)
        if self._late <= now:
            self._late = NEVER
            if gate.has_strangers(now):
                if self.may_answer(now):
                    self._confirm.answer(now)
                else:
                    self._late = self._bucket.when()

    def _in_vain(self, now: float) -> None:
        """What waited in vain is dropped. When that is much, somebody repeats a recording."""
        vain, self.gate.vain = self.gate.vain, []
        self._counts["dropped_unproven"] += len(vain)
        if now >= self._repeated_since + REPEATED_TOLD_S:
            self._repeated.clear()
            self._repeated_since = now
        told = len(self._repeated) > REPEATED_MIN
        self._repeated.update(vain[: REPEATED_MAX - len(self._repeated)])
        if len(self._repeated) > REPEATED_MIN and not told:
            self._log.events.append(Repeated("repeated", len(self._repeated)))
