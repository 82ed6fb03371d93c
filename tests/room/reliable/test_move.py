"""A room that moves: the same session goes on at another place, with all that was said."""

from __future__ import annotations

from random import Random

import pytest

from evloop.base.errors import LocalProtocolError
from evloop.room.events import Left, Lost, Said
from evloop.room.reliable.packets import DATA, SESSION, Codec
from evloop.room.reliable.session import RoomSession

OLD, NEW = "239.255.7.1:5751", "239.255.8.2:5752"
CODECS = {OLD: Codec(OLD), NEW: Codec(NEW)}
STEP_S = 0.02


class Member:
    """A session, where it is, and what it has been told."""

    def __init__(self, ether: Ether, number: int, name: str, place: str = OLD) -> None:
        self.place = place
        self.session = RoomSession(
            place=place, sender_id=bytes([number]) * 8, nickname=name, rng=Random(number),
            now=ether.now,
        )  # fmt: skip
        self.events: list[object] = []

    def move(self, now: float) -> None:
        self.place = NEW
        self.session.move(NEW, now)

    def heard(self) -> list[str]:
        return [event.text for event in self.events if isinstance(event, Said)]


class Ether:
    """What is sent reaches, at the next step, whoever is at the same place then; `carried` has it
    all, by place. `cut`: nobody hears anything."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.members: list[Member] = []
        self.carried: dict[str, list[bytes]] = {OLD: [], NEW: []}
        self.cut = False

    def join(self, name: str, place: str = OLD) -> Member:
        self.members.append(Member(self, len(self.members) + 1, name, place))
        return self.members[-1]

    def run(self, seconds: float) -> None:
        until = self.now + seconds
        while self.now < until:
            self.now += STEP_S
            sent = []
            for one in self.members:
                one.session.handle_timer(self.now)
                for data, to in one.session.datagrams_to_send():
                    sent.append((one.place, data, to, one))
            for place, data, to, source in sent:
                self.carried[place].append(data)
                for one in self.members:
                    if not self.cut and one.place == place and to in (None, one):
                        one.session.receive_datagram(data, source, self.now)
            for one in self.members:
                one.events += one.session.events()

    def say(self, member: Member, text: str) -> None:
        member.session.say(text, self.now, 1_800_000_000)


@pytest.fixture
def ether() -> Ether:
    return Ether()


def reasons(member: Member) -> int:
    """Datagrams that it could not take for its room's."""
    return member.session.stats().get("dropped_tag", 0)


def test_who_moves_goes_on_and_a_newcomer_there_is_told_everything(ether: Ether) -> None:
    ann, bob = ether.join("Ann"), ether.join("Bob")
    ether.run(1)
    for number in range(20):
        ether.say((ann, bob)[number % 2], f"line {number}")
    ether.run(3)
    ann.move(ether.now)
    ether.run(1)
    ether.say(ann, "first here")
    ether.run(1)
    bob.move(ether.now)
    cal = ether.join("Cal", NEW)
    ether.say(bob, "here too")
    ether.run(4)
    wanted = {f"line {number}" for number in range(20)} | {"first here", "here too"}
    for one in (ann, bob, cal):
        assert set(one.heard()) == wanted and len(one.heard()) == len(wanted)
        assert one.session.digest() == ann.session.digest()
        assert reasons(one) == 0
        assert not [event for event in one.events if isinstance(event, (Left, Lost))]
    order = [event.text for event in ann.session.history(99)]
    assert order == [event.text for event in bob.session.history(99)]
    assert order == [event.text for event in cal.session.history(99)]


def test_what_was_lost_before_is_repaired_after(ether: Ether) -> None:
    """By a datagram that only its source, or only another member, still has: with the new tag."""
    ann, bob, cal = ether.join("Ann"), ether.join("Bob"), ether.join("Cal")
    ether.run(1)
    cal.place = "nowhere"  # hears nothing of what follows
    ether.carried["nowhere"] = []
    ether.say(ann, "unheard by Cal")
    ether.run(1)
    ether.members.remove(ann)  # its machine is off
    for one in (bob, cal):
        one.move(ether.now)
    ether.run(10)
    assert cal.heard() == ["unheard by Cal"]
    assert reasons(cal) == reasons(bob) == 0


def test_what_waits_to_be_sent_is_sent_there(ether: Ether) -> None:
    """Messages in the queue, announced copies, and what was not fetched yet."""
    ann, bob = ether.join("Ann"), ether.join("Bob")
    ether.run(1)
    for number in range(100):
        ether.say(ann, f"line {number}")
    ether.run(STEP_S)
    assert ann.session.queued() > 0
    for one in (ann, bob):
        one.move(ether.now)
    ether.run(30)
    assert ann.session.queued() == 0
    assert bob.heard() == [f"line {number}" for number in range(100)]
    assert reasons(bob) == 0
    for place, datagrams in ether.carried.items():
        assert all(isinstance(CODECS[place].open(one), tuple) for one in datagrams)


def test_the_datagrams_differ_in_their_tags_alone(ether: Ether) -> None:
    ann, bob = ether.join("Ann"), ether.join("Bob")
    ether.run(1)
    ether.say(ann, "x" * 3_000)  # in parts: a flag under the tag
    ether.run(1)
    before = [one for one in ether.carried[OLD] if CODECS[OLD].open(one)[0] == DATA]
    assert len(before) >= 3
    for data in before:
        moved = CODECS[NEW].tagged(data)
        assert moved[:-16] == data[:-16] and moved[-16:] != data[-16:]
        assert CODECS[NEW].open(moved) == CODECS[OLD].open(data)
        assert CODECS[OLD].tagged(moved) == data, "whatever copies it announces"
    for one in (ann, bob):
        one.move(ether.now)
    held = [one.session.message_log.history.get((b"\1" * 8, 0)) for one in (ann, bob)]
    assert held[0] is not None and held[1] is not None
    assert held[0].datagram[-16:] == held[1].datagram[-16:], "so a repair is no conflict"


def test_who_has_moved_makes_itself_known_at_once(ether: Ether) -> None:
    ann = ether.join("Ann")
    ether.run(30)
    ann.move(ether.now)
    ether.run(STEP_S)
    kinds = [CODECS[NEW].open(one)[0] for one in ether.carried[NEW]]
    assert kinds == [SESSION]


def test_what_is_said_at_the_old_place_is_not_taken_for_the_rooms(ether: Ether) -> None:
    ann = ether.join("Ann")
    ether.run(1)
    ether.say(ann, "one")
    ether.run(1)
    said = list(ether.carried[OLD])
    ann.move(ether.now)
    for data in said:
        ann.session.receive_datagram(data, "there", ether.now)
    assert reasons(ann) == len(said)


def test_a_room_with_a_key_does_not_move() -> None:
    session = RoomSession(
        place=OLD, sender_id=b"aaaaaaaa", nickname="Ann", rng=Random(1), now=0.0, key=b"k" * 32
    )
    with pytest.raises(LocalProtocolError):
        session.move(NEW, 1.0)
