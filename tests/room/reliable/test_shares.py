"""Who fills a table loses his own place in it; who was here before keeps his, and is told once.

Each test fills one table as a stranger can, and looks at what honest members notice of it.
"""

from __future__ import annotations

from random import Random

import pytest

from evloop.room.limits import HISTORY_MESSAGES_MAX
from evloop.room.reliable.claims import Claims
from evloop.room.reliable.history import History
from evloop.room.reliable.limits import (
    CLAIMS_MAX,
    DEPARTED_MAX,
    GAPS_MAX,
    HISTORY_BYTES_MAX,
    HOLDERS_MAX,
    MEMBERS_MAX,
    SENDERS_MAX,
    SKIPPED_RANGES_MAX,
    STANDING_S,
)
from evloop.room.reliable.membership import Membership
from evloop.room.reliable.nack import Holders
from evloop.room.reliable.packets import DATA
from tests.support.rooms import ANN, BOB, EVE, ME, Room, bye, data, nack, repair, session, settled


def ident(n: int) -> bytes:
    return n.to_bytes(8, "big")


def with_ann(seconds: float = STANDING_S + 5) -> Room:
    """A room in which Ann has been present for so long; she has said one thing."""
    room = settled()
    room.hear(session(ANN, 0, []), data(ANN, 0))
    counter = 0
    until = room.now + seconds
    while room.now < until:
        counter += 1
        room.run(5)
        room.hear(session(ANN, counter, [(ANN, 0, 1)]))
    room.events.clear()
    room.sent.clear()
    return room


def full(room: Room, table: str) -> int:
    """How often it was told that `table` is full."""
    return sum(event[1] == table for event in room.told("full"))


def test_gaps() -> None:
    room = with_ann()
    for n in range(24):
        room.hear(data(ident(n), 1_023))
        room.run(0.02)
    for _ in range(20):  # the others' numbers are taken in as there is room
        room.run(0.1)
    assert room.stat("gaps") == GAPS_MAX
    assert full(room, "gaps") == 1
    room.sent.clear()
    room.hear(data(ANN, 2, parents=((ANN, 1),)))
    room.run(1.5)
    assert any((ANN, 1, 2) in listed for _, _, listed in room.nacks())
    assert room.stat("full_gaps") > 0


def test_sender_records_of_strangers_make_room_for_who_was_there_before_them() -> None:
    room = settled()
    room.hear(session(BOB, 0, [], name="Bob"))
    room.run(2)
    for n in range(SENDERS_MAX + 200):
        room.hear(data(ident(n), 0))
        room.run(1 / 60)
        if n % 300 == 0:
            room.hear(session(BOB, 1 + n // 300, [], name="Bob"))
    assert room.stat("senders") == SENDERS_MAX + 1  # my own takes no place until I speak
    assert full(room, "senders") == 1
    room.hear(data(BOB, 0))
    assert room.shown(BOB) == [(0, "")]
    # Whoever is not present is heard when the flood is over for a minute.
    room.hear(data(EVE, 0))
    assert room.shown(EVE) == []
    room.run(STANDING_S)
    room.hear(data(EVE, 0))
    assert room.shown(EVE) == [(0, "")]
    assert room.stat("senders") == SENDERS_MAX + 1


def test_a_record_of_standing_is_not_pushed_out() -> None:
    room = with_ann()
    room.hear(data(ANN, 1, parents=((ANN, 0),)))
    for n in range(3 * SENDERS_MAX):
        room.hear(data(ident(n), 0))
        room.run(1 / 60)
    room.hear(data(ANN, 2, parents=((ANN, 1),)), repair(ANN, 0))
    assert room.shown(ANN) == [(1, ""), (2, "")]


def test_members_heard_once_make_room() -> None:
    room = with_ann()
    for n in range(MEMBERS_MAX + 50):
        room.session.receive_datagram(session(ident(n), 0, []), "", room.now)
    room.pump()
    room.hear(session(BOB, 0, [], name="Bob"))
    names = {sender for sender, _, _ in room.session.members(room.now)}
    assert {ANN, BOB} <= names
    assert len(names) == MEMBERS_MAX + 1
    assert full(room, "members") == 1
    assert len(room.told("left")) >= 50


def test_members_heard_twice_make_room_when_the_flood_is_over() -> None:
    presence = Membership("Mel")
    for n in range(MEMBERS_MAX):
        member = presence.add(ident(n), b"x", 0, 0.0)
        assert member is not None
        presence.fresh(ident(n), member, 1, 1.0 if n else 50.0)
    assert presence.add(ANN, b"Ann", 0, 30.0) is None
    for n in range(3 * MEMBERS_MAX // 2):
        assert presence.add(b"new" + n.to_bytes(5, "big"), b"x", 0, STANDING_S + 2) is not None
    assert len(presence.members) == MEMBERS_MAX
    assert ident(0) in presence.members  # it was heard since


def test_claims() -> None:
    """Fifteen forged SESSIONs ended the history of departed senders for good."""
    claims = Claims()
    for n in range(CLAIMS_MAX // 16):
        for k in range(16):
            assert not claims.make(ident(n), False, ident(1_000 * n + k), 0, 9)
    assert len(claims) == CLAIMS_MAX
    assert claims.make(ANN, False, BOB, 3, 9)
    assert claims.look(BOB) == (3, 9)
    assert len(claims) == CLAIMS_MAX
    for k in range(40):  # Ann has her share, but no stranger takes more than his
        claims.make(ANN, False, ident(10**6 + k), 0, 9)
    held = sum(claims.look(ident(10**6 + k)) is not None for k in range(40))
    assert 15 <= held <= 16
    for k in range(40):  # one who has been here for a while takes it from strangers
        claims.make(EVE, True, ident(10**7 + k), 0, 9)
    assert all(claims.look(ident(10**7 + k)) for k in range(40))
    for n in range(200):
        claims.make(ident(5_000 + n), False, ident(10**8 + n), 0, 9)
    assert all(claims.look(ident(10**7 + k)) for k in range(40))
    assert len(claims) == CLAIMS_MAX


def test_history_is_lost_by_who_fills_it() -> None:
    room = with_ann()
    for seq in range(1, 30):
        room.hear(data(ANN, seq, parents=((ANN, seq - 1),)))
    rng = Random(1)
    strangers = [rng.randbytes(8) for _ in range(40)]
    for n in range(2 * HISTORY_MESSAGES_MAX):
        room.session.receive_datagram(data(strangers[n % 40], n // 40), "", room.now)
        room.now += 0.001
    room.pump()
    assert room.stat("history") == HISTORY_MESSAGES_MAX
    held = [event for event in room.session.history(HISTORY_MESSAGES_MAX) if event[1] == ANN]
    assert len(held) == 30
    assert full(room, "history") == 1
    # Nor can they fill more than their half when a member talks on.
    for seq in range(30, 2_200):
        room.session.receive_datagram(data(ANN, seq, parents=((ANN, seq - 1),)), "", room.now)
    assert room.session.message_log.streams[ANN].lo <= 2_200 - HISTORY_MESSAGES_MAX // 2


def test_in_a_history_of_members_the_one_with_most_gives_way() -> None:
    history = History()
    from tests.room.reliable.test_tables import message

    for n in range(HISTORY_MESSAGES_MAX - 10):
        history.add(message(ANN, n), 0.0, True)
    gone = [key for n in range(50) for key in history.add(message(BOB, n), 1.0, True)]
    assert {sender for sender, _ in gone} == {ANN}
    assert [seq for _, seq in gone] == list(range(40))


def test_what_is_held_ahead_counts_in_the_history() -> None:
    room = settled()
    for n in range(20):
        for seq in range(1, 1_024):
            made = data(ident(n), seq, "y" * 900)
            room.session.receive_datagram(made, "", room.now)
        room.run(0.05)
    log = room.session.message_log
    held = sum(len(stream.ahead) for stream in log.streams.values())
    assert held <= len(log.history) <= HISTORY_MESSAGES_MAX
    assert log.history.size <= HISTORY_BYTES_MAX
    # What had to go is missing again, and asked for.
    for stream in log.streams.values():
        asked = room.session.asker.gaps.of(stream.sender)
        missing = set(range(stream.hi, stream.covered)) - set(stream.ahead)
        assert missing <= set(asked)


def test_what_was_stepped_over_is_remembered_in_few_ranges() -> None:
    room = settled()
    room.hear(data(EVE, 0))
    for n in range(60):
        room.hear(data(EVE, 2 * n + 2))
        room.run(0.5)
    room.run(90)
    stream = room.session.message_log.streams[EVE]
    assert 0 < len(stream.skipped) <= SKIPPED_RANGES_MAX


def test_holders_of_standing_stay_among_those_that_are_asked() -> None:
    holders = Holders(Random(1))
    holders.claimed(ANN, {EVE: (0, 40)}, standing=True)
    for n in range(5 * HOLDERS_MAX):
        holders.claimed(ident(n), {EVE: (0, 40)})
    assert ANN in holders.claims
    assert len(holders.claims) == HOLDERS_MAX


def test_goodbyes_of_nobody_do_not_push_out_one_of_a_member() -> None:
    presence = Membership("Mel")
    presence.add(ANN, b"Ann", 7, 0.0)
    presence.said_bye(ANN, 8, 1.0)
    for n in range(5 * DEPARTED_MAX):
        presence.said_bye(ident(n), 8, 1.0)
    assert len(presence.departed) == DEPARTED_MAX
    assert presence.overtaken(ANN, 7, 1.1)  # a straggler does not bring her back


def test_who_asks_for_much_takes_away_no_answer() -> None:
    room = settled()
    room.hear(session(ANN, 0, []))
    room.session.say("line 0", room.now, 0)
    room.run(1)  # its unasked copies are over
    room.sent.clear()
    room.hear(nack(ANN, 1, [(ME, 0, 1)]))
    room.hear(*(repair(BOB, n) for n in range(10_000)))
    room.run(1)
    assert len(room.said(DATA)) == 1


@pytest.mark.parametrize("table", ["senders", "members"])
def test_full_is_told_once_a_flood(table: str) -> None:
    room = settled()
    for _ in range(2):
        for _n in range(SENDERS_MAX + 50 if table == "senders" else MEMBERS_MAX + 50):
            one = room.session.rng.randbytes(8)
            made = data(one, 0) if table == "senders" else session(one, 0, [])
            room.session.receive_datagram(made, "", room.now)
            if table == "senders":
                room.run(1 / 60)
        room.pump()
    assert full(room, table) == 1
    room.run(2 * STANDING_S)
    assert room.stat(f"full_{table}") > 1


def test_a_bye_of_a_stranger_is_not_data() -> None:
    room = settled()
    room.hear(bye(EVE, 0))
    assert room.said(DATA) == [] and room.told("left") == []
