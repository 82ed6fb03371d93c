"""A session that records, and begins with what was recorded: the keeper of a directory."""

from __future__ import annotations

from hashlib import blake2b
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from evloop.room.reliable.packets import as_copy, as_repair
from evloop.room.reliable.recording import RecordingSession
from tests.simulation.world import BYE, NACK, PLACE, Member, World
from tests.simulation.world import SESSION as TOLD
from tests.support.rooms import ANN, BOB, CODEC, EVE, ME, data, session

DAY = 86_400.0
Rows = list[tuple[float, bytes]]


def recording(now: float = 0.0, sender: bytes = ME, **caps: int) -> RecordingSession:
    return RecordingSession(
        place=PLACE, sender_id=sender, nickname="keeper", rng=Random(7), now=now,
        messages_max=caps.get("messages_max", 400), senders_max=caps.get("senders_max", 32),
        age_s=30 * DAY,
    )  # fmt: skip


class Kept(World):
    """A world in which a keeper may be."""

    def keep(self, rows: Rows) -> Member:
        """A keeper joins that begins with `rows`."""
        offset = len(self.members)
        keeper = recording(self.now, self.rng.randbytes(8))
        keeper.restore(rows, self.now)
        member = Member(offset, keeper, self.now, self.loss)
        self.members.append(member)
        self.oracle.joined(offset, keeper.sender_id, self.now)
        self.changed()
        self._pump(member, self.now)
        return member


def taken(member: Member) -> Rows:
    """What a keeper would put into its file, as it came now."""
    assert isinstance(member.session, RecordingSession)
    return [(0.0, datagram) for _, _, datagram in member.session.take_fresh()]


def test_what_is_accepted_is_handed_out_once_as_it_was_tagged() -> None:
    keeper = recording()
    first = data(ANN, 0)
    keeper.receive_datagram(as_copy(first, 3), None, 1.0)
    keeper.receive_datagram(first, None, 1.0)
    keeper.receive_datagram(as_repair(data(BOB, 7)), None, 1.0)
    keeper.receive_datagram(data(ANN, 5), None, 1.0)  # ahead of a gap: held, and not shown
    keeper.receive_datagram(data(ANN, 5)[:-1], None, 1.0)
    assert keeper.take_fresh() == [(ANN, 0, first), (BOB, 7, data(BOB, 7)), (ANN, 5, data(ANN, 5))]
    assert keeper.take_fresh() == []


def test_a_datagram_in_its_own_name_is_not_recorded() -> None:
    keeper = recording()
    for seq in range(3):
        keeper.receive_datagram(data(ME, seq), None, 1.0)
    assert keeper.take_fresh() == []


def test_a_run_without_a_gap_ends_at_the_newest_number() -> None:
    keeper = recording()
    rows = [(9.0 - seq, data(ANN, seq)) for seq in (3, 4, 5, 8, 9, 10)]
    assert keeper.restore(rows, 100.0) == 3
    stream = keeper.message_log.streams[ANN]
    assert (stream.lo, stream.hi, stream.shown, stream.word) == (8, 11, 11, 11)
    assert stream.history_below == 11
    assert [keeper.message_log.history.since((ANN, seq)) for seq in (8, 9, 10)] == [99, 100, 101]
    assert keeper.take_fresh() == []
    assert keeper.members(100.0) == [(ME, "keeper", 0.0)]  # a record is no presence
    keeper.receive_datagram(data(ANN, 10), None, 101.0)
    assert keeper.take_fresh() == []
    assert keeper.events() == []  # nothing is shown twice
    keeper.receive_datagram(data(ANN, 11), None, 101.0)
    assert keeper.take_fresh() == [(ANN, 11, data(ANN, 11))]


def digest_by_hand(records: dict[bytes, int]) -> int:
    """The rule of the page: the XOR of a hash of each sender with its next number."""
    total = 0
    for sender, hi in records.items():
        item = blake2b(sender + hi.to_bytes(4, "big"), digest_size=8).digest()
        total ^= int.from_bytes(item, "big")
    return total


@settings(max_examples=200, deadline=None)
@given(
    rows=st.lists(st.tuples(st.sampled_from([ANN, BOB, EVE]), st.integers(0, 30)), max_size=60),
    junk=st.lists(st.binary(max_size=80), max_size=3),
    senders_max=st.integers(1, 4),
    messages_max=st.integers(1, 50),
)
def test_any_rows_make_records_without_holes(
    rows: list[tuple[bytes, int]], junk: list[bytes], senders_max: int, messages_max: int
) -> None:
    keeper = recording(senders_max=senders_max, messages_max=messages_max)
    mixed: Rows = [(50.0 - at, data(*row)) for at, row in enumerate(rows)]
    for text in junk:
        mixed.insert(len(mixed) // 2, (1.0, text))
    held = keeper.restore(mixed, 1_000.0)
    newest = [row for age, one in mixed[-messages_max:] for row in rows if data(*row) == one]
    last = list(dict.fromkeys(sender for sender, _ in reversed(newest)))[:senders_max]
    by_hand = {sender: 1 + max(seq for who, seq in newest if who == sender) for sender in last}
    streams = {
        sender: stream
        for sender, stream in keeper.message_log.streams.items()
        if stream is not keeper.message_log.own
    }
    assert {sender: stream.hi for sender, stream in streams.items()} == by_hand
    count = 0
    for sender, stream in streams.items():
        for seq in range(stream.lo, stream.hi):
            message = keeper.message_log.history.get((sender, seq))
            assert message is not None and message.datagram == data(sender, seq)
            count += 1
        assert (sender, stream.lo - 1) not in newest  # the run is as long as can be
    assert held == count == len(keeper.message_log.history)
    assert keeper.digest() == digest_by_hand(by_hand)
    told = keeper.message_log.senders.listing(50, ME)
    assert sorted(told) == sorted((who, one.lo, one.hi) for who, one in streams.items())


def test_rows_of_another_place_are_left_out() -> None:
    """The tag says so: the room was made anew elsewhere, or the file was changed."""
    keeper = recording()
    spoilt = bytearray(data(ANN, 0))
    spoilt[40] ^= 1
    assert keeper.restore([(1.0, bytes(spoilt)), (1.0, session(BOB, 0, []))], 5.0) == 0
    assert keeper.digest() == 0


def test_a_lamport_time_out_of_a_row_is_followed_no_further_than_out_of_the_air() -> None:
    keeper = recording()
    keeper.restore([(2.0, data(ANN, 0, lamport=77)), (1.0, data(BOB, 0, lamport=2**31))], 5.0)
    assert keeper.message_log.lamport.value == 77


def test_messages_grow_as_old_as_the_keeper_keeps_them() -> None:
    keeper = recording()
    keeper.restore([(20 * DAY, data(ANN, 0)), (1.0, data(ANN, 1))], 5.0)
    keeper.message_log.expire(5.0)
    assert len(keeper.message_log.history) == 2
    keeper.message_log.expire(5.0 + 11 * DAY)
    assert len(keeper.message_log.history) == 1
    assert keeper.message_log.streams[ANN].lo == 1


def talk(world: World, speaker: Member, first: int, count: int) -> None:
    for number in range(first, first + count):
        world.say(speaker, f"line {number}")
        world.run(world.now + 0.3)


def test_who_comes_first_in_the_morning_sees_the_end_of_yesterday() -> None:
    """Everybody has gone, and the keeper was started again in between."""
    world = Kept(3)
    keeper = world.keep([])
    ann = world.join("Ann")
    talk(world, ann, 0, 60)
    rows = taken(keeper)
    assert len(rows) == 60
    world.leave(ann)
    world.run(world.now + 1)
    world.crash(ann)
    world.crash(keeper)
    world.run(world.now + 16 * 3_600)
    rows = [(16 * 3_600.0, datagram) for _, datagram in rows]
    again = world.keep(rows)
    world.run(world.now + 0.01)
    bob = world.join("Bob")
    world.run(world.now + 2.0)
    assert [one.text for one in bob.session.history(100)] == [f"line {n}" for n in range(60)]
    assert {one.mark for one in bob.session.history(100)} == {"history"}
    assert bob.session.digest() == again.session.digest()
    stats = again.session.stats()
    assert stats["repairs_sent"] + stats["bulk_sent"] >= 60
    before = list(world.sent)
    world.run(world.now + 60.0)
    assert world.sent[NACK] == before[NACK]
    assert world.sent[TOLD] - before[TOLD] < 30  # the room is silent, but for presence


def test_a_speaker_that_went_on_while_the_keeper_was_away_is_caught_up_with() -> None:
    world = Kept(4)
    keeper = world.keep([])
    ann, bob = world.join("Ann"), world.join("Bob")
    talk(world, ann, 0, 20)
    rows = taken(keeper)
    world.leave(keeper)
    talk(world, ann, 20, 20)
    again = world.keep(rows)
    world.run(world.now + 5.0)
    more = taken(again)
    assert {CODEC.open(one)[3] for _, one in rows + more} == set(range(40))
    talk(world, ann, 40, 1)
    world.confirm(ann)
    world.run(world.now + 3.0)
    assert ann.session.confirmers() == (2, 2)
    assert [one.text for one in bob.session.history(100)] == [f"line {n}" for n in range(41)]


def test_a_keeper_never_says_anything() -> None:
    world = Kept(5)
    world.loss = 0.3
    keeper = world.keep([])
    ann, bob = world.join("Ann"), world.join("Bob")
    for number in range(20):
        world.say((ann, bob)[number % 2], f"line {number}")
        world.run(world.now + 0.3)
    world.run(world.now + 5)
    stats = keeper.session.stats()
    assert stats["sent"] == stats["copies_sent"] == 0
    world.leave(keeper)
    world.run(world.now + 1)
    assert world.sent[BYE] == 3
    assert {name for _, name, _ in ann.session.members(world.now)} == {"Ann", "Bob"}


def test_a_room_of_a_day_with_a_keeper_and_a_newcomer() -> None:
    """All but the keeper have forgotten what was said a day ago; a newcomer takes it from there.

    The keeper's next message of that sender would be the next number, so digests agree.
    """
    world = Kept(6)
    keeper = world.keep([])
    ann = world.join("Ann")
    talk(world, ann, 0, 30)
    world.run(world.now + 25 * 3_600)
    assert len(ann.session.history(100)) == 0  # older than a day
    bob = world.join("Bob")
    world.run(world.now + 3.0)
    assert [one.text for one in bob.session.history(100)] == [f"line {n}" for n in range(30)]
    assert isinstance(keeper.session, RecordingSession)
    before = world.sent[TOLD]
    world.run(world.now + 60.0)
    assert world.sent[TOLD] - before < 45  # three members, each within 6 s
