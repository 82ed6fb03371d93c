"""A sealed room's session: what gets in, what is counted, and what is told of the rest."""

from __future__ import annotations

import subprocess
import sys
from random import Random
from typing import Any

import pytest

from evloop.base.errors import LocalProtocolError
from evloop.room.reliable.limits import (
    GREETED_MEMBERS_MAX,
    OTHER_KEY_TOLD_S,
    REPEATED_MIN,
    REPEATED_TOLD_S,
    STRANGER_S,
)
from evloop.room.reliable.packets import RELAYED, SESSION, Codec, data_body
from evloop.room.reliable.sealing import SealedCodec, key_id_of
from evloop.room.reliable.session import RoomSession
from tests.simulation import forgery

PLACE = "239.255.7.1:5751"
KEY, OTHER = bytes(range(32)), bytes(range(1, 33))
HERE, ELSEWHERE = forgery.SealedPlace(PLACE, KEY), forgery.SealedPlace(PLACE, OTHER)
ME, ANN, BOB = b"myselfid", b"ann-ann-", b"bob-bob-"
CODEC = SealedCodec(PLACE, KEY)
YOURS, THEIRS = key_id_of(KEY), key_id_of(OTHER)


class Room:
    """One session with a key, its clock, and what came out."""

    def __init__(self, key: bytes = KEY) -> None:
        self.now = 1_000.0
        self.session = RoomSession(
            place=PLACE, sender_id=ME, nickname="Mel", rng=Random(1), now=self.now, key=key
        )
        self.sent: list[tuple[float, bytes]] = []
        self.events: list[Any] = []
        self.pump()

    def pump(self) -> None:
        self.sent += [(self.now, data) for data, _ in self.session.datagrams_to_send()]
        self.events += self.session.events()

    def hear(self, *datagrams: bytes, direct: bool = False) -> None:
        for data in datagrams:
            self.session.receive_datagram(data, "there", self.now, True, direct)
        self.pump()

    def run(self, seconds: float) -> None:
        until = self.now + seconds
        while self.session.next_deadline() <= until:
            self.now = max(self.now, self.session.next_deadline())
            self.session.handle_timer(self.now)
            self.pump()
        self.now = until

    def meet(self, sender: bytes = ANN) -> None:
        self.hear(forgery.session(HERE, sender, 1, [], known=(ME,)))

    def told(self, what: str) -> list[Any]:
        return [event for event in self.events if event.what == what]

    def texts(self) -> list[str]:
        return [event.text for event in self.told("message")]

    def stat(self, name: str) -> int:
        return self.session.stats()[name]

    def named(self) -> list[tuple[bytes, bytes]]:
        """(strangers, members) of the SESSIONs that were sent."""
        opened = [packet for _, data in self.sent if isinstance(packet := CODEC.open(data), tuple)]
        return [(p[5][-2], p[5][-1]) for p in opened if p[0] == SESSION]


def test_what_is_said_is_verified() -> None:
    room = Room()
    room.meet()
    room.hear(forgery.data(HERE, ANN, 0, "hello"))
    (event,) = room.told("message")
    assert (event.sender, event.text, event.mark, event.verified) == (ANN, "hello", "", True)
    assert [event.name for event in room.told("joined")] == ["Eve"]


def test_a_stranger_is_neither_shown_nor_listed_until_it_names_me() -> None:
    room = Room()
    room.hear(forgery.session(HERE, ANN, 1, []), forgery.data(HERE, ANN, 0, "hello"))
    assert (room.told("joined"), room.told("message")) == ([], [])
    assert room.stat("dropped_unproven") == 1, "the SESSION; the DATA waits"
    room.run(0.2)
    assert (ANN, b"") in room.named()
    room.hear(forgery.session(HERE, ANN, 2, [], strangers=(ME,)))
    assert room.texts() == ["hello"]
    assert len(room.told("joined")) == 1
    room.run(0.2)
    assert any(ANN in members for _, members in room.named())


def test_a_recording_is_counted_as_what_it_is() -> None:
    room = Room()
    room.meet()
    session = forgery.session(HERE, ANN, 5, [], known=(ME,))
    room.hear(session, session, forgery.nack(HERE, ANN, 5, []))
    assert room.stat("dropped_replayed") == 2
    room.hear(forgery.bye(HERE, BOB, 1))
    assert room.stat("dropped_unproven") == 1
    assert room.told("left") == []
    room.hear(forgery.bye(HERE, ANN, 6), forgery.bye(HERE, ANN, 7))
    assert [event.why for event in room.told("left")] == ["bye"]


def test_each_count_is_there_from_the_start() -> None:
    stats = Room().session.stats()
    for reason in ("key", "tag", "replayed", "unproven", "direct"):
        assert stats["dropped_" + reason] == 0
    assert "dropped_unproven" not in Room(b"").session.stats()


def test_what_came_to_me_alone_is_a_repair_or_nothing() -> None:
    room = Room()
    room.meet()
    data = forgery.data(HERE, ANN, 0, "hello")
    room.hear(data, forgery.session(HERE, ANN, 9, [], known=(ME,)), direct=True)
    assert room.stat("dropped_direct") == 2
    room.hear(data[:3] + bytes([data[3] | RELAYED]) + data[4:], direct=True)
    assert room.texts() == ["hello"]


def test_a_repair_to_me_alone_keeps_nobody_from_answering() -> None:
    answered = []
    for direct in (False, True):
        room = Room()
        room.session.say("mine", room.now, 7)
        room.pump()
        room.meet()
        room.run(2.0)
        (mine,) = {data for _, data in room.sent if data[2] & 15 == 1 and data[3] >> 4 == 0}
        before = len(room.sent)
        room.hear(forgery.nack(HERE, ANN, 2, [(ME, 0, 1)]))
        room.hear(CODEC.as_repair(mine), direct=direct)
        room.run(0.05)
        answered.append(any(data[3] & RELAYED for _, data in room.sent[before:]))
    assert answered == [False, True]


def test_a_copy_is_counted_and_no_sign_of_life() -> None:
    room = Room()
    room.meet()
    data = forgery.data(HERE, ANN, 0, "hello", flags=0x20)
    room.hear(data)
    room.run(5.0)
    room.hear(data, data[:3] + bytes([data[3] | RELAYED]) + data[4:])
    assert room.stat("duplicates") == 2
    assert room.texts() == ["hello"]
    silent = {entry[0]: entry[2] for entry in room.session.members(room.now)}
    assert silent[ANN] == pytest.approx(5.0)
    spoilt = data[:-1] + bytes([data[-1] ^ 1])
    room.hear(spoilt)
    assert room.stat("dropped_tag") == 1, "a bad copy is no copy"


def test_another_text_under_one_number_is_a_conflict() -> None:
    room = Room()
    room.meet()
    room.hear(forgery.data(HERE, ANN, 0, "one"), forgery.data(HERE, ANN, 0, "two"))
    assert room.texts() == ["one"]
    assert len(room.told("conflict")) == 1


# -- other keys ------------------------------------------------------------------------------------


def test_another_key_is_told_after_three_in_a_row_and_once_a_minute() -> None:
    room = Room()
    theirs = [forgery.data(ELSEWHERE, BOB, seq, "hello") for seq in range(9)]
    room.hear(*theirs[:2])
    room.meet()
    room.hear(*theirs[:2])
    assert room.told("other_key") == [], "something of ours came between"
    room.hear(theirs[2])
    assert room.told("other_key") == [("other_key", THEIRS, YOURS, True)]
    room.hear(*theirs)
    assert len(room.told("other_key")) == 1
    room.now += OTHER_KEY_TOLD_S
    room.hear(theirs[0])
    assert len(room.told("other_key")) == 2
    assert room.stat("dropped_key") == 15


def test_who_sends_without_a_key_is_told_and_not_shown() -> None:
    room = Room()
    room.hear(forgery.data(PLACE, BOB, 0, "hello"), b"Bob: hello", forgery.bye(PLACE, BOB, 1))
    assert room.texts() == []
    assert room.told("other_key") == [("other_key", 0, YOURS, False)]
    assert (room.stat("dropped_key"), room.stat("dropped_magic")) == (2, 1)


def test_an_open_room_tells_of_a_key() -> None:
    room = Room(b"")
    room.hear(*[forgery.data(HERE, ANN, seq, "hello") for seq in range(3)])
    assert room.told("other_key") == [("other_key", YOURS, 0, False)]
    room.hear(b"Bob: hello")
    assert room.texts() == ["Bob: hello"]


def test_junk_with_our_key_id_is_no_other_key() -> None:
    room = Room()
    data = forgery.data(HERE, ANN, 0, "hello")
    room.hear(*[data[:-1] + bytes([data[-1] ^ 1])] * 5)
    room.hear(*[data[:3] + bytes([data[3] & ~2]) + data[4:]] * 5)
    assert room.told("other_key") == []
    assert (room.stat("dropped_tag"), room.stat("dropped_key")) == (5, 5)


# -- repeats ---------------------------------------------------------------------------------------


def test_old_messages_that_are_repeated_are_told_once_a_minute() -> None:
    room = Room()
    old = [forgery.data(HERE, BOB, seq, f"old {seq}") for seq in range(2 * REPEATED_MIN)]
    room.hear(*old[:REPEATED_MIN], *old[:REPEATED_MIN])
    room.run(STRANGER_S + 0.1)
    assert room.told("repeated") == []
    room.hear(*old)
    room.run(STRANGER_S + 0.1)
    assert room.told("repeated") == [("repeated", 2 * REPEATED_MIN)]
    room.hear(*old)
    room.run(STRANGER_S + 0.1)
    assert len(room.told("repeated")) == 1
    room.run(REPEATED_TOLD_S)
    room.hear(*old)
    room.run(STRANGER_S + 0.1)
    assert len(room.told("repeated")) == 2
    assert room.texts() == []
    assert room.told("joined") == []
    assert room.stat("dropped_unproven") >= 4 * REPEATED_MIN


# -- answers ---------------------------------------------------------------------------------------


def test_a_large_room_answers_a_stranger_seldom_and_one_that_names_me_always() -> None:
    answered = 0
    for seed in range(60):
        room = Room()
        room.session.rng.seed(seed)
        room.session.expect(10 * GREETED_MEMBERS_MAX)
        room.run(30.0)
        before = len(room.sent)
        stranger = seed.to_bytes(8, "big")
        room.hear(forgery.session(HERE, stranger, 1, [(stranger, 0, 1)]))
        room.run(2.1)
        answered += any(stranger in strangers for strangers, _ in room.named()[before:])
    assert 0 < answered < 30, "about a tenth, and those whose turn it was"
    room = Room()
    room.session.expect(10 * GREETED_MEMBERS_MAX)
    room.run(30.0)
    room.sent.clear()
    room.hear(forgery.session(HERE, ANN, 1, [], strangers=(ME,)))
    room.run(0.5)
    assert room.named()[0] == (b"", ANN)


def test_even_a_list_that_solicits_has_the_own_entry() -> None:
    room = Room()
    room.session.say("mine", room.now, 7)
    room.run(1.0)
    room.sent.clear()
    room.session.solicit()
    room.pump()
    packet = CODEC.open(room.sent[0][1])
    assert packet[5][9] == ME + bytes(4) + (1).to_bytes(4, "big")


# -- the rest --------------------------------------------------------------------------------------


def test_a_sealed_room_stays_where_it_is_and_needs_a_whole_key() -> None:
    with pytest.raises(LocalProtocolError):
        Room().session.move("239.255.7.2:5751", 1_001.0)
    with pytest.raises(LocalProtocolError):
        Room(b"a short key")


def test_what_a_sealed_room_sends_nobody_without_the_key_reads() -> None:
    room = Room()
    room.session.say("attack at dawn", room.now, 7)
    room.run(1.0)
    room.session.leave(room.now, 7)
    room.run(1.0)
    assert len(room.sent) > 4
    for _, data in room.sent:
        assert isinstance(CODEC.open(data), tuple)
        assert Codec(PLACE).open(data) == "key"
        for secret in (b"attack", b"dawn", b"Mel"):
            assert secret not in data


def test_an_open_room_loads_nothing_of_all_this() -> None:
    program = (
        "import sys\nfrom random import Random\n"
        "from evloop.room.reliable.session import RoomSession\n"
        "one = dict(place='239.255.7.1:5751', sender_id=b'myselfid', nickname='Mel', now=0.0)\n"
        "RoomSession(rng=Random(1), **one)\n"
        "names = ('sealing', 'gate', 'entrance')\n"
        "loaded = [n for n in names if 'evloop.room.reliable.' + n in sys.modules]\n"
        "assert not loaded, loaded\n"
        "RoomSession(rng=Random(1), key=bytes(32), **one)\n"
        "loaded = [n for n in names if 'evloop.room.reliable.' + n in sys.modules]\n"
        "assert len(loaded) == 3, loaded\n"
        "assert not {'ssl', 'hmac'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)


def test_bodies_are_those_of_an_open_room() -> None:
    body = data_body(1, (), b"Eve", 0, b"hello")
    assert CODEC.pack(1, 0, ANN, 0, 0, body) == forgery.data(HERE, ANN, 0, "hello")
