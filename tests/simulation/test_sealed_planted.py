"""Rules are taken out of sealing and gate, and an attack, or a plain play, must notice.

As in `test_planted`: each has a play that ends in one figure, and a most that it may be.
"""

from __future__ import annotations

from random import Random

import pytest

from evloop.room.reliable import gate, session
from evloop.room.reliable.entrance import Entrance, SealedMembership
from evloop.room.reliable.limits import LET_GO_S, NAMES_MAX, STUCK_ASKS
from evloop.room.reliable.membership import Membership
from evloop.room.reliable.packets import DATA, data_body
from evloop.room.reliable.reorder import LATE, NEW, OLD
from evloop.room.reliable.sealing import SealedCodec
from evloop.system.timers import NEVER
from tests.simulation import forgery, sieges
from tests.simulation.planting import Planted, assert_noticed
from tests.simulation.room import KEY
from tests.simulation.sieges import SEALED_PLACE, SILENT_S
from tests.simulation.world import PLACE

ANN, BOB = b"ann-ann-", b"bob-bob-"


def yesterday_shown() -> float:
    """Messages and joins of yesterday in an empty room."""
    return sum(sieges.replay_to_an_empty_room(True))


def dead_present() -> float:
    """Seconds for which the dead are listed."""
    return sieges.keep_the_dead_present(True)


def answers() -> float:
    """SESSIONs a second that strangers cause."""
    return sieges.amplify(True)


def echoes() -> float:
    """DATA for one with an echo, to that without."""
    return sieges.echo_at_once(True)


def _room() -> session.RoomSession:
    return session.RoomSession(
        place=PLACE, sender_id=b"myselfid", nickname="Mel", rng=Random(1), now=1_000.0, key=KEY
    )


def unnamed_members() -> float:
    """Of NAMES_MAX members that just became proven, how many a SESSION does not name, while as many
    strangers are to be named."""
    own = gate.Gate(b"myselfid")
    head = (0, 0, b"myselfid", 0, 0, 0, 255, 2, b"Ann", b"", b"", b"")
    strange = (0, 0, bytes(8), *head[3:])
    for number in range(NAMES_MAX):
        own.session(b"member%02d" % number, 1, head, None, True, 5.0)
        own.session(b"strang%02d" % number, 1, strange, None, True, 5.0)
    return NAMES_MAX - len(own.names(5.0)[1])


def streams_shared() -> float:
    """Bytes at the begin of two texts, under one id and number, that one stream hides."""
    codec = SealedCodec(PLACE, KEY)
    texts = [data_body(1, (), b"Mel", 0, text) for text in (b"attack at dawn", b"attack at noon")]
    one, other = (codec.pack(DATA, 0, ANN, 0, 7, text)[32:-16] for text in texts)
    over = bytes(a ^ b for a, b in zip(one, other))
    plain = bytes(a ^ b for a, b in zip(*texts))
    return len(over) if over == plain else 0


def history_let_go() -> float:
    """Gaps given up early that a proven member listed before they were noticed."""
    room, now = _room(), 1_000.0
    room.receive_datagram(
        forgery.session(
            SEALED_PLACE, ANN, 1, [(ANN, 0, 1), (BOB, 0, 5)], digest=1, echo=(b"myselfid", 0, 0)
        ),
        "ann", now,
    )  # fmt: skip
    room.receive_datagram(forgery.data(SEALED_PLACE, BOB, 4, "late"), "bob", now)
    stream = room.message_log.streams[BOB]
    stream.history_below, stream.claimed = 4, range(0)  # noticed before anybody told of it
    for gap in room.asker.gaps.of(BOB).values():  # and others are heard since
        gap.asks, gap.evidence, gap.due, gap.stuck_at = STUCK_ASKS, -NEVER, now, now - 1.0
    assert len(room.asker.gaps.of(BOB)) == 4
    room.asker.gaps.next_due = now
    room.asker.handle_timer(now + LET_GO_S + 1.0)
    return stream.hi


def wait_in_the_echo() -> float:
    """By how much the echo of a stranger's SESSION is off, which waited for 2 s."""
    room, now = _room(), 1_000.0
    cid = b"cid-cid-"
    room.receive_datagram(forgery.session(SEALED_PLACE, ANN, 1, [], sent=77), "ann", now)
    room.datagrams_to_send()
    now += 2.0
    room.receive_datagram(
        forgery.session(
            SEALED_PLACE, cid, 1, [], echo=(b"myselfid", 0, 0), known=(ANN,), sent=55
        ),
        "cid", now - 1e-6,
    )  # fmt: skip
    room.handle_timer(now)
    assert {entry[0] for entry in room.members(now)} == {b"myselfid", ANN, cid}
    room.datagrams_to_send()
    room.rename("Mia", now, 0)
    told = [SealedCodec(PLACE, KEY).open(data) for data, _ in room.datagrams_to_send()]
    fields = next(packet[5] for packet in told if isinstance(packet, tuple))
    assert fields[2] == ANN
    return 2.0 - float(fields[4]) / 1e6


# -- the planted bugs ------------------------------------------------------------------------------


def _open_gate(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(gate.Gate, "admits", lambda *_: True)
    patch.setattr(gate.Gate, "names_me", lambda *_: True)


def _any_session_proves(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(gate.Gate, "names_me", lambda *_: True)


def _counters_not_judged(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(gate.Peer, "rises", lambda *_: True)
    patch.setattr(gate.Peer, "once", lambda *_: True)
    patch.setattr(SealedMembership, "fresh", Membership.fresh)


def _copies_refresh(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(session, "SIGNS_OF_LIFE", (NEW, OLD, LATE))


def _no_bucket(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Entrance, "may_answer", lambda *_: True)


def _tag_without_the_copies(patch: pytest.MonkeyPatch) -> None:
    tag = SealedCodec.tag_of
    patch.setattr(
        SealedCodec,
        "tag_of",
        lambda own, data: tag(own, b"%b%c%b" % (data[:3], data[3] & 0x0E, data[4:])),
    )


def _strangers_first(patch: pytest.MonkeyPatch) -> None:
    names = gate.Gate.names

    def turned(own: gate.Gate, now: float) -> tuple[list[bytes], list[bytes]]:
        fresh, own.fresh = own.fresh, {}
        strangers, _ = names(own, now)
        own.fresh = fresh
        return strangers, list(fresh)[: NAMES_MAX - len(strangers)]

    patch.setattr(gate.Gate, "names", turned)


def _no_v(patch: pytest.MonkeyPatch) -> None:
    masked = SealedCodec.masked
    patch.setattr(
        SealedCodec, "masked", lambda own, text, nonce: masked(own, text, nonce[:24] + bytes(8))
    )


def _lists_no_evidence(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(gate.Gate, "lists", lambda *_: False)


def _dated_by_release(patch: pytest.MonkeyPatch) -> None:
    handle_timer = Entrance.handle_timer

    def later(own: Entrance, now: float) -> None:
        own.gate.released = [(kept, now) for kept, _ in own.gate.released]
        handle_timer(own, now)

    patch.setattr(Entrance, "handle_timer", later)


PLANTED: dict[str, Planted] = {
    "gate always open": (_open_gate, yesterday_shown, 0),
    "proof by any SESSION": (_any_session_proves, yesterday_shown, 0),
    "counters not judged": (_counters_not_judged, dead_present, 2 * SILENT_S),
    "heard refreshed by copies": (_copies_refresh, dead_present, 2 * SILENT_S),
    "no bucket for strangers": (_no_bucket, answers, 11),
    "tag over flags & 0E": (_tag_without_the_copies, echoes, 1.1),
    "strangers before members in the list": (_strangers_first, unnamed_members, 0),
    "v left out of the nonce": (_no_v, streams_shared, 0),
    "list not read as evidence": (_lists_no_evidence, history_let_go, 0),
    "a waiting SESSION dated by its release": (_dated_by_release, wait_in_the_echo, 0.01),
}


@pytest.mark.parametrize("bug", PLANTED)
def test_the_planted_bug_is_noticed(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_noticed(PLANTED[bug], monkeypatch)
