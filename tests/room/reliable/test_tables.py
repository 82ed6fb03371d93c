"""Presence, losses and copies, repairs, bulk, history, records: the tables of a room."""

from __future__ import annotations

from random import Random

import pytest

from evloop.room.events import TEXT, Said
from evloop.room.limits import HISTORY_MESSAGES_MAX
from evloop.room.reliable.delay import Delay
from evloop.room.reliable.egress import Egress, Outbox, split
from evloop.room.reliable.estimators import LossMeter, copies
from evloop.room.reliable.history import History
from evloop.room.reliable.limits import (
    FEW_MEMBERS,
    HISTORY_BYTES_MAX,
    LOSS_CLEAN_MIN,
    LOSS_UNKNOWN,
    MEMBERS_MAX,
)
from evloop.room.reliable.membership import Membership
from evloop.room.reliable.message_log import MessageLog
from evloop.room.reliable.nack import Holders
from evloop.room.reliable.packets import NOBODY, Codec
from evloop.room.reliable.reorder import Message, Sender
from evloop.room.reliable.repair import BulkServer, Repairs
from evloop.room.reliable.vector import VersionVector, digest_item

ANN, BOB, EVE, ME = (bytes([n]) * 8 for n in (0xA, 0xB, 0xE, 0x3))
D = 0.005
FAR = 3  # times D to those that are far


def ident(n: int) -> bytes:
    return n.to_bytes(8, "big")


def message(sender: bytes, seq: int, size: int = 100, lamport: int = 1) -> Message:
    return Message(lamport, sender, seq, (), b"Ann", 0, b"x", 0, False, bytes(size))


# -- presence --------------------------------------------------------------------------------------


def test_the_interval_follows_the_number_of_members() -> None:
    for members, interval in ((1, 6.0), (50, 20.0), (1_000, 150.0), (10_000, 1_500.0)):
        presence = Membership("Mel")
        presence.expect(members)
        assert presence.interval() == pytest.approx(interval)


def test_a_label_follows_who_is_present_and_what_they_are_called() -> None:
    presence = Membership("Mel", ME)
    assert presence.label(ME, "Mel") == "Mel"
    assert presence.label(ANN, "mel") == "mel~0a0a"  # not present, and called like me
    presence.add(ANN, b"mel", 0, 0.0)
    assert presence.label(ANN, "mel") == "mel~0a0a"
    assert presence.label(ME, "Mel") == f"Mel~{ME[-2:].hex()}"
    presence.rename("Max")
    assert presence.label(ANN, "mel") == "mel"
    bob = presence.add(BOB, b"MEL", 0, 0.0)
    assert bob is not None
    assert presence.label(ANN, "mel") == "mel~0a0a"
    presence.named(BOB, bob, b"Bob")
    assert presence.label(ANN, "mel") == "mel"
    presence.named(BOB, bob, b"mel")
    assert presence.label(ANN, "mel") == "mel~0a0a"
    presence.remove(BOB)
    assert presence.label(ANN, "mel") == "mel"
    assert presence.label(ANN, "a:b") == ANN.hex()


def test_what_others_count_is_believed_by_its_median_and_within_reason() -> None:
    presence = Membership("Mel")
    for n in range(60):
        member = presence.add(ident(n), b"x", 0, 0.0)
        assert member is not None
        presence.vote(member, 65_535)
        if not n:
            assert presence.size() == 32  # with one other I believe no more
    members = list(presence.members.values())
    for vote, voters in ((70, members[:30]), (65_535, members[30:])):
        for member in voters:
            presence.vote(member, vote)
            presence.vote(member, vote)  # everybody has one vote
    assert presence.size() == 70
    presence.remove(ident(0))
    assert presence.size() == 16 * 60  # now most say so
    for member in members[1:]:
        presence.vote(member, 2)
    assert presence.size() == 60  # never below those I count


def test_beside_members_of_standing_no_stranger_tells_how_many_there_are() -> None:
    presence = Membership("Mel")
    ann = presence.add(ANN, b"Ann", 0, 0.0)
    assert ann is not None
    presence.vote(ann, 2, standing=True)
    for n in range(5):
        ghost = presence.add(ident(n), b"x", 0, 70.0)
        assert ghost is not None
        presence.vote(ghost, 65_535)
    assert presence.size() == 7  # as many as are counted
    presence.vote(ann, 40, standing=True)
    assert presence.size() == 40
    presence.remove(ANN)
    assert presence.size() == 16 * 6


def test_ghosts_do_not_say_how_long_ghosts_are_listed() -> None:
    presence = Membership("Mel")
    for n in range(4):
        ghost = presence.add(ident(n), b"x", 0, 0.0)
        assert ghost is not None
        presence.vote(ghost, 65_535)
    assert presence.interval() == 20.0
    now = gone = 0
    while not gone:
        assert now <= 30  # 3.5 of 6 s, seen within another T or two
        now += 1
        gone = len(presence.silent(float(now)))
    assert gone == 4 and not presence.members


def test_members_are_bounded_and_the_silent_go() -> None:
    presence = Membership("Mel")
    for n in range(MEMBERS_MAX):
        member = presence.add(ident(n), b"x", 0, float(n % 7))
        assert member is not None
        assert presence.fresh(ident(n), member, 1, float(n % 7))
    assert presence.add(ANN, b"x", 0, 0.0) is None
    patience = 3.5 * presence.interval()
    assert presence.silent(patience - 0.1) == []
    gone = presence.silent(patience + 3.0)
    assert {member.heard for _, member in gone} == {0.0, 1.0, 2.0, 3.0}
    assert presence.deadline() <= 4.0 + patience


def test_the_losses_are_a_histogram() -> None:
    presence = Membership("Mel")
    told = [0, 30, 30, 100, 200, LOSS_UNKNOWN]
    for n, loss in enumerate(told):
        member = presence.add(ident(n), b"x", 0, 0.0)
        assert member is not None
        presence.lossy(member, loss)
    assert {k: n for k, n in presence.losses.items() if n} == {0: 1, 30: 2, 100: 2}
    assert presence.mean_loss(30.0) == pytest.approx(0.475)  # of 100, 65 are believed
    assert presence.mean_loss(0.0) == 0.0  # those that lose are not like me
    for n in range(len(told)):
        presence.remove(ident(n))
    assert not any(presence.losses.values())
    assert presence.mean_loss(30.0) is None


# -- losses and copies -----------------------------------------------------------------------------


@pytest.mark.parametrize("loss", [0.0, 0.1, 0.3, 0.6])
def test_loss_is_measured_without_bias(loss: float) -> None:
    rng, meter, now = Random(7), LossMeter(), 0.0
    told = []
    for seq in range(3_000):
        now += 1.0
        known = False
        for more in (3, 2, 1, 0):
            if rng.random() >= loss:
                if known:
                    meter.further((ANN, seq), more)
                else:
                    meter.first((ANN, seq), more, now)
                known = True
        told.append(meter.percent(now))
    told = told[500:]
    assert sum(told) / len(told) / 100 == pytest.approx(loss, abs=0.015)


def test_gaps_in_control_counters_count() -> None:
    meter = LossMeter()
    for counter in range(0, 200, 2):
        meter.control(ANN, (counter - 2) & 0xFFFFFFFF, counter)
    meter.control(ANN, 5, 5_000)  # an outage
    meter.control(ANN, 5, 5)  # a duplicate
    assert meter.percent(0.0) in (50, 49)
    assert LossMeter().percent(0.0) == LOSS_UNKNOWN
    assert meter.percent(0.0, lambda own: 0.0) < 45  # what the others tell weighs, too


@pytest.mark.parametrize(
    ("loss", "members"), [(1, 50), (10, 50), (30, 50), (50, 50), (30, 1_000), (30, 5)]
)
def test_the_mean_miss_meets_the_aim(loss: int, members: int) -> None:
    rng = Random(3)
    drawn = [copies(rng, {loss: members - 1}, members, 15) for _ in range(4_000)]
    miss = sum((loss / 100) ** (extra + 1) for extra in drawn) / len(drawn)
    aim = 1 / 400 if members < 20 else min(1 / 200, 0.4 / members)
    assert miss == pytest.approx(aim, rel=0.1)
    assert max(drawn) - min(drawn) <= 1


def test_who_loses_nothing_does_not_double_the_misses_of_the_others() -> None:
    for wet in (20, 30, 50):
        drawn = [
            [copies(Random(n), losses, 20, 15) for n in range(1_000)]
            for losses in ({wet: 10}, {wet: 10, 0: 10}, {wet: 10, wet // 4 - 1: 10})
        ]
        assert drawn[0] == drawn[1] == drawn[2]
    # Where all lose little, a miss of a few is no miss of the half.
    assert copies(Random(1), {4: 10, 0: 10}, 20, 15) < 2 == copies(Random(1), {8: 20}, 20, 15) + 1


def test_what_others_tell_steadies_those_who_lose_alike() -> None:
    presence = Membership("Mel")
    for n in range(20):
        member = presence.add(ident(n), b"x", 0, 0.0)
        assert member is not None
        presence.lossy(member, 0 if n < 10 else 28 + n % 5)
    assert presence.mean_loss(25.0) == pytest.approx(0.30, abs=0.01)
    assert presence.mean_loss(1.0) == 0.0
    for n in range(10, 20):
        presence.lossy(presence.members[ident(n)], 16)
    assert presence.mean_loss(16.0) == presence.mean_loss(0.0)


def test_in_a_room_of_few_who_has_not_told_counts_as_one_that_loses() -> None:
    presence = Membership("Mel")
    assert presence.copies(Random(1), 15, lambda: LOSS_UNKNOWN, False) == 0  # nobody is there
    # Or I do not know it yet.
    assert presence.copies(Random(1), 15, lambda: LOSS_UNKNOWN, True) >= 3
    for n in range(2):
        assert presence.add(ident(n), b"x", 0, 0.0) is not None
    presence.lossy(presence.members[ident(0)], 0)
    assert presence.copies(Random(1), 15, lambda: LOSS_UNKNOWN, False) >= 3
    presence.lossy(presence.members[ident(1)], 0)
    assert presence.copies(Random(1), 15, lambda: LOSS_UNKNOWN, False) == 0
    for n in range(2, FEW_MEMBERS):
        assert presence.add(ident(n), b"x", 0, 0.0) is not None
    assert presence.copies(Random(1), 15, lambda: LOSS_UNKNOWN, False) == 0  # we are no longer few


def test_who_has_lost_nothing_of_a_few_tells_so_in_a_room_of_few() -> None:
    meter = LossMeter()
    for counter in range(LOSS_CLEAN_MIN):
        assert meter.percent(0.0, None, True) == LOSS_UNKNOWN
        meter.control(ANN, counter, counter + 1)
    assert meter.percent(0.0, None, True) == 0
    assert meter.percent(0.0, None, False) == LOSS_UNKNOWN
    meter.control(ANN, 10, 12)
    assert meter.percent(0.0, None, True) == LOSS_UNKNOWN


def test_copies_are_bounded() -> None:
    rng = Random(3)
    assert copies(rng, {99: 5}, 6, 15) == 15
    assert copies(rng, {99: 5}, 6, 2) == 2
    assert copies(rng, {0: 5}, 6, 15) == 0
    assert 3 <= copies(rng, {}, 1, 15) <= 4  # nobody told: assume the worst of usual


# -- repairs ---------------------------------------------------------------------------------------


def members(others: int) -> Membership:
    """My list of members, with an estimate of so many others."""
    presence = Membership("Mel", ME)
    presence.expect(others + 1)
    return presence


def repairs_of(rng: Random, presence: Membership) -> Repairs:
    """The answers of a member ME that has nothing to say itself."""
    codec = Codec("239.255.7.1:5751")
    log = MessageLog(codec, ME, presence, False, 0.0)
    egress = Egress(codec, ME, {}, 0.0)
    delay = Delay()
    delay.value = D
    delay.far = FAR * D
    return Repairs(rng, log, Outbox(codec), presence, delay, egress)


@pytest.mark.parametrize(("present", "share"), [(False, 8 / 100), (True, 2 / 100)])
def test_about_eight_volunteer_and_four_times_as_many_next_time(
    present: bool, share: float
) -> None:
    rng = Random(5)
    presence = members(99)
    if present:
        presence.add(ANN, b"Ann", 0, 0.0)
    first = second = 0
    for _ in range(4_000):
        repairs = repairs_of(rng, presence)
        repairs.consider((ANN, 1), 1.0)
        first += bool(repairs.due)
        repairs.due.clear()
        repairs.consider((ANN, 1), 1.001)  # the same round
        assert not repairs.due
        repairs.consider((ANN, 1), 1.1)
        second += bool(repairs.due)
    assert first / 4_000 == pytest.approx(share, rel=0.3)
    assert second / 4_000 == pytest.approx(4 * share, rel=0.15)


def test_the_source_answers_in_any_case_but_not_held_down() -> None:
    repairs = repairs_of(Random(5), members(9_999))
    repairs.consider((ME, 1), 1.0)
    assert 1.0 <= repairs.deadline() <= 1.0 + D
    assert repairs.take_due(1.0 + D) == [(ME, 1)]
    repairs.answered((ME, 1), 1.01)
    repairs.consider((ME, 1), 1.01 + 19 * FAR * D)
    assert not repairs.due
    repairs.consider((ME, 1), 1.01 + 21 * FAR * D)
    assert repairs.due


def test_remembered_asks_are_bounded() -> None:
    repairs = repairs_of(Random(5), members(1))
    for n in range(6_000):
        repairs.consider((ME, n), 1.0)
    assert len(repairs.due) <= 4_096
    assert repairs.full()


# -- bulk ------------------------------------------------------------------------------------------


def test_holders_take_turns_and_a_liar_gets_no_second() -> None:
    holders = Holders(Random(1))
    missing = [(ANN, 0, 40)]
    assert holders.choose(missing, 0.0, 0.06) == NOBODY
    holders.claimed(BOB, {ANN: (0, 40)})
    holders.claimed(EVE, {ANN: (0, 2**31)})
    first = holders.choose(missing, 0.0, 0.06)
    second = holders.choose(missing, 0.0, 0.06)
    assert {first, second} == {BOB, EVE}
    assert holders.choose(missing, 0.01, 0.06) is None  # both are busy with me
    assert holders.choose(missing, 0.07, 0.06) == NOBODY  # nothing came: anybody, then
    holders.gone(EVE)
    assert holders.choose(missing, 9.0, 0.06) == BOB
    assert holders.covers(BOB, (ANN, 39)) and not holders.covers(BOB, (ANN, 40))


def test_who_is_asked_for_little_is_free_soon() -> None:
    holders = Holders(Random(1))
    missing = [(ANN, 0, 40)]
    holders.claimed(BOB, {ANN: (0, 40)})
    assert holders.choose(missing, 0.0, 0.6) == BOB
    holders.asked(BOB, 40, 0.0)  # at 400 a second that takes a tenth of a second
    assert holders.choose(missing, 0.09, 0.6) is None
    assert holders.free_at(0.6) == 0.1
    assert holders.choose(missing, 0.1, 0.6) == BOB
    holders.asked(BOB, 128, 0.1)
    assert holders.choose(missing, 0.4, 0.6) is None


def test_who_hears_nothing_of_those_that_it_names_asks_all_for_a_while() -> None:
    holders = Holders(Random(1))
    missing = [(ANN, 0, 40)]
    holders.claimed(BOB, {ANN: (0, 40)})
    asked = [holders.choose(missing, n / 2, 0.06) for n in range(20)]
    # One is named and then all are asked, four times; then all, for five seconds.
    assert asked[:8] == [BOB, NOBODY] * 4
    assert asked[8:17] == [NOBODY] * 9
    assert BOB in asked[17:]
    # What comes while nobody is awaited says nothing about holders; what comes from one does.
    holders = Holders(Random(1))
    holders.claimed(BOB, {ANN: (0, 40)})
    named = 0
    for n in range(20):
        named += holders.choose(missing, float(n), 0.06) == BOB
        holders.bore_fruit()
    assert named == 20


def test_one_asker_is_served_at_a_time_and_a_thousand_a_minute() -> None:
    presence = members(0)
    codec = Codec("239.255.7.1:5751")
    log = MessageLog(codec, ME, presence, False, 0.0)
    server = BulkServer(log, Egress(codec, ME, {}, 0.0))
    assert server.free(ANN)
    assert all(server.ask(ANN, "ann", (BOB, seq), 0.0) for seq in range(1_000))
    assert server.ask(ANN, "ann", (BOB, 5), 0.0)  # is queued already
    assert not server.ask(ANN, "ann", (BOB, 1_000), 0.0)
    assert server.free(ANN) and not server.free(EVE)
    assert [server.take() for _ in range(len(server.queue))] == [(BOB, seq) for seq in range(1_000)]
    assert server.free(EVE)
    assert not server.ask(ANN, "ann", (BOB, 1), 59.0)
    assert server.ask(ANN, "ann", (BOB, 1), 61.0)


# -- history ---------------------------------------------------------------------------------------


def test_history_is_bounded_in_number_bytes_and_age() -> None:
    history = History()
    gone = [key for n in range(5_000) for key in history.add(message(ANN, n), float(n))]
    assert len(history) == HISTORY_MESSAGES_MAX
    assert gone == [(ANN, n) for n in range(5_000 - HISTORY_MESSAGES_MAX)]
    for n in range(4_000):
        history.add(message(BOB, n, 1_200), 5_000.0)
    assert history.size <= HISTORY_BYTES_MAX
    history.expire(5_000.0 + 86_401)
    assert (len(history), history.size, history.newest(5)) == (0, 0, [])


def test_a_forgotten_sender_leaves_nothing() -> None:
    history = History()
    for n in range(10):
        for sender in (ANN, BOB):
            history.add(message(sender, n), 0.0)
            said = Said("message", sender, n, "", TEXT, "", 0, "", False)
            history.shown(message(sender, n), 1, said)
    history.forget(ANN)
    assert len(history) == 10
    assert history.size == 1_000
    assert [(e.sender, e.seq) for e in history.newest(99)] == [(BOB, n) for n in range(10)]


# -- records ---------------------------------------------------------------------------------------


def test_the_digest_is_kept_step_by_step() -> None:
    senders = VersionVector({})
    streams = [Sender(ident(n), 0, 0, 0.0) for n in range(40)]
    for stream in streams:
        senders.add(stream)
    rng = Random(1)
    for _ in range(300):
        stream = rng.choice(streams)
        stream.hi += rng.randrange(3)
        senders.moved(stream)
    expected = 0
    for stream in streams:
        expected ^= digest_item(stream.sender, stream.hi) if stream.hi else 0
    assert senders.digest == expected
    for stream in streams:
        senders.remove(stream)
    assert senders.digest == 0


def test_lists_begin_with_what_changed_and_rotate_through_the_rest() -> None:
    senders = VersionVector({})
    for n in range(40):
        stream = Sender(ident(n), 0, 0, 0.0)
        stream.hi = n + 1
        senders.add(stream)
    lists = [senders.listing(16, ident(3)) for _ in range(10)]
    for listed in lists:
        assert len(listed) == 16
        assert listed[0] == (ident(3), 0, 4)
        assert [entry[0] for entry in listed[1:12]] == [ident(n) for n in range(39, 28, -1)]
    assert {entry[0] for listed in lists for entry in listed} == {ident(n) for n in range(40)}


def test_a_stream_against_a_plain_list() -> None:
    rng = Random(8)
    for _ in range(200):
        stream, shown = Sender(ANN, 0, 0, 0.0), []
        numbers = [n for n in range(30) for _ in range(2)]
        rng.shuffle(numbers)
        for n in numbers:
            verdict = stream.accept(n, message(ANN, n), 0.0)
            assert (verdict == "new") != (n in shown)
            shown.append(n)
            assert all(seq in shown for seq in range(stream.hi)) and stream.hi not in shown
        assert [entry.seq for _, entry in stream.backlog if not isinstance(entry, int)] == list(
            range(30)
        )


# -- my own messages ------------------------------------------------------------------------------


def test_split_cuts_between_characters() -> None:
    text = "aä€😀" * 300
    parts = split(text)
    assert b"".join(parts).decode() == text
    assert all(part.decode() and len(part) <= 900 for part in parts)
    assert split("") == [b""]


def test_copies_come_on_time_and_tell_how_many_follow() -> None:
    outbox = Outbox(Codec("239.255.7.1:5751"))
    outbox.announce(message(ANN, 4), 3, 1.0)
    outbox.announce(message(ANN, 5), 1, 1.001)
    assert outbox.repeats(4) and outbox.repeats(5)
    seen = []
    while outbox.deadline() < float("inf"):
        now = outbox.deadline()
        copy = outbox.take_copy(now)
        assert copy is not None
        seen.append((round(1_000 * (now - 1.0)), copy[3] >> 4))
    assert seen == [(7, 2), (8, 0), (14, 1), (21, 0)]
    assert not outbox.repeats(4)


def test_the_tag_of_a_namesake_stays_while_both_are_there() -> None:
    """Whoever comes, goes or is renamed besides: the two are told apart in the same way."""
    room = Membership("Mel")
    for sender, name in ((ANN, "Sam"), (BOB, "SAM")):
        room.add(sender, name.encode(), 0, 0.0)
    tags = room.label(ANN, "Sam"), room.label(BOB, "SAM")
    assert tags == ("Sam~0a0a", "SAM~0b0b")
    third = room.add(EVE, b"sam", 0, 0.0)
    assert third is not None
    assert (room.label(ANN, "Sam"), room.label(BOB, "SAM")) == tags
    room.named(EVE, third, b"Eve")
    room.rename("Melanie")
    room.remove(EVE)
    assert (room.label(ANN, "Sam"), room.label(BOB, "SAM")) == tags
    room.remove(BOB)
    assert room.label(ANN, "Sam") == "Sam"
