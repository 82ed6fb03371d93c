"""What k liars of N can do to the estimates: how far they move each, and for how long."""

from __future__ import annotations

from random import Random

import pytest

from evloop.room.reliable.delay import Delay
from evloop.room.reliable.estimators import LossMeter, copies
from evloop.room.reliable.lamport import END, LamportClock
from evloop.room.reliable.limits import (
    BEHIND_S,
    COPIES_DOUBTED,
    COPIES_MAX,
    LAMPORT_BURST,
    LAMPORT_JUMP_MAX,
    LAMPORT_PER_S,
    LOSS_DOUBT_SAMPLES,
    LOSS_PRIOR_SAMPLES,
    LOSS_SAMPLES_MIN,
    NEWCOMER_S,
    TRICKLE_HELD_S,
    TRICKLE_S_MIN,
)
from evloop.room.reliable.membership import Membership
from evloop.room.reliable.packets import DATA, SESSION, as_copy
from evloop.room.reliable.suppression import Trickle
from tests.support.pairs import pairwise
from tests.support.rooms import ANN, BOB, EVE, Room, data, session, settled


def ident(n: int) -> bytes:
    return n.to_bytes(8, "big")


# -- delay -----------------------------------------------------------------------------------------


def echo(delay: Delay, peer: bytes, one_way: float, now: float, standing: bool) -> None:
    sent = delay.sending(now)
    delay.echoed(peer, sent, 0, now + 2 * one_way, standing)


@pytest.mark.parametrize("liars", [1, 4])
def test_held_back_echoes_of_less_than_half_leave_the_delay_alone(liars: int) -> None:
    delay, now = Delay(), 100.0
    for _ in range(20):
        for n in range(liars):
            for _ in range(5):  # as often as they like
                now += 1.0
                echo(delay, ident(100 + n), 0.25, now, True)
        for n in range(liars + 1):
            now += 1.0
            echo(delay, ident(n), 0.008, now, True)
    assert delay.value == pytest.approx(0.008, rel=0.01)
    assert delay.far == pytest.approx(0.008, rel=0.01)


def test_strangers_have_no_voice_beside_members_of_standing() -> None:
    delay, now = Delay(), 100.0
    echo(delay, ANN, 0.008, now, True)
    for n in range(1_000):
        now += 0.01
        echo(delay, ident(n), 0.25, now, False)
    assert delay.value == pytest.approx(0.008, rel=0.01)


def test_a_false_first_echo_is_soon_forgotten() -> None:
    delay = Delay()
    echo(delay, EVE, 0.25, 100.0, False)
    assert delay.value == pytest.approx(0.25)
    for n in range(12):
        echo(delay, ANN, 0.005, 110.0 + n, False)
    assert delay.value < 0.02


def test_who_left_has_no_vote() -> None:
    delay = Delay()
    echo(delay, EVE, 0.005, 100.0, True)
    delay.gone(EVE)
    for n in range(20):
        echo(delay, ANN, 0.1, 110.0 + n, False)
    assert delay.value == pytest.approx(0.1, rel=0.01)


def test_a_stranger_that_speaks_last_keeps_no_echo_from_a_member() -> None:
    delay = Delay()
    delay.heard(ANN, 7, 1.0, True)
    delay.heard(EVE, 8, 1.1, False)
    assert delay.echo(1.5) == (ANN, 7, 500_000)
    delay.heard(EVE, 9, 2.0, False)  # nobody else has spoken since
    assert delay.echo(2.0)[0] == EVE


# -- loss ------------------------------------------------------------------------------------------


class Honest:
    """The control datagrams of `members`, each of which I miss with probability `loss`."""

    def __init__(self, meter: LossMeter, seed: int, loss: float, members: int) -> None:
        self.meter = meter
        self.rng = Random(seed)
        self.loss = loss
        self.counter = 0
        self.last = dict.fromkeys(range(members), 0)

    def speak(self, rounds: int) -> None:
        for _ in range(rounds):
            self.counter += 1
            for n, last in self.last.items():
                if self.rng.random() >= self.loss:
                    self.meter.control(ident(n), last, self.counter)
                    self.last[n] = self.counter


@pytest.mark.parametrize("loss", [0.0, 0.1, 0.3, 0.5])
@pytest.mark.parametrize("members", [3, 20, 49])
def test_an_honest_loss_is_measured_without_bias(loss: float, members: int) -> None:
    told = []
    for seed in range(10):
        meter = LossMeter()
        Honest(meter, seed, loss, members).speak(60)
        told.append(meter.percent(0.0))
    assert sum(told) / len(told) == pytest.approx(100 * loss, abs=2.0)


@pytest.mark.parametrize("loss", [0.0, 0.1, 0.3])
@pytest.mark.parametrize("liars", [1, 5])
def test_jumping_counters_and_copies_that_never_come_move_my_loss_little(
    loss: float, liars: int
) -> None:
    meter, now = LossMeter(), 0.0
    honest = Honest(meter, 3, loss, 20)
    for round_ in range(60):
        now += 1.0
        for n in range(liars):
            liar = ident(100 + n)
            for step in range(20):
                meter.control(liar, 32 * step, 32 * step + 32)
                meter.first((liar, 20 * round_ + step), COPIES_MAX, now)
        honest.speak(2)
    # Liars hold at most 2 k / N of the window, of which little more than thrice the odds of the
    # others is believed, and each may have lost a few of the 256 to 512 samples.
    share = 2 * liars / (20 + liars)
    few = LOSS_DOUBT_SAMPLES * liars / 256
    assert meter.percent(now) <= 100 * (loss + (1 / 16 + loss) * share + few) + 1


@pytest.mark.parametrize("liars", [1, 5])
def test_those_who_lose_nothing_hide_no_more_than_their_share(liars: int) -> None:
    meter = LossMeter()
    honest = Honest(meter, 3, 0.3, 20)
    for _ in range(60):
        for n in range(liars):
            for step in range(100):
                meter.control(ident(100 + n), step, step + 1)
        honest.speak(2)
    assert meter.percent(0.0) >= 30 * (1 - 2 * liars / (20 + liars)) - 4


def test_strangers_measure_nothing_where_members_of_standing_do() -> None:
    meter = LossMeter()
    Honest(meter, 3, 0.0, 10).speak(20)
    for n in range(10):
        meter.stands(ident(n))
    for n in range(1_000):
        meter.control(ident(1_000 + n), 0, 30)
    assert meter.percent(0.0) == 0


def test_the_noise_of_what_is_told_costs_half_a_copy_at_most() -> None:
    """With as few samples as anybody may tell from, and a prior as heavy: the mean of p^(r+1) of
    10,000 members calls for 8.4 datagrams when p is known, and would for 9.8 without the prior."""
    rng = Random(1)
    sent = []
    for _ in range(20):
        losses: dict[int, int] = {}
        for _ in range(300):
            lost = sum([rng.random() < 0.3 for _ in range(LOSS_SAMPLES_MIN)])
            total = LOSS_SAMPLES_MIN + LOSS_PRIOR_SAMPLES
            percent = int(100 * (lost + 0.3 * LOSS_PRIOR_SAMPLES) / total + 0.3)
            losses[percent] = losses.get(percent, 0) + 1
        sent += [1 + copies(rng, losses, 10_000, 100, lambda: 30) for _ in range(20)]
    assert 8.4 <= sum(sent) / len(sent) <= 8.9


@pytest.mark.parametrize(("liars", "members"), [(1, 2), (1, 4), (1, 8), (12, 50)])
@pytest.mark.parametrize("loss", [0, 10, 30])
def test_a_quarter_that_loses_everything_is_sent_few_copies_more(
    liars: int, members: int, loss: int
) -> None:
    others = {loss: members - liars}
    calm = max(copies(Random(n), others, members, COPIES_MAX, lambda: loss) for n in range(50))
    told = dict(others)
    told[100] = told.get(100, 0) + liars
    most = max(copies(Random(n), told, members, COPIES_MAX, lambda: loss) for n in range(50))
    assert most <= calm + COPIES_DOUBTED


@pytest.mark.parametrize("liars", [1, 4])
def test_the_mean_of_what_is_told_follows_the_median(liars: int) -> None:
    presence = Membership("Mel")
    for n in range(10):
        member = presence.add(ident(n), b"x", 0, 0.0)
        assert member is not None
        presence.lossy(member, 100 if n < liars else 2)
    mean = presence.mean_loss(2.0)
    assert mean is not None and mean <= 0.02 + liars / 10 * 0.09


def test_one_session_in_ten_seconds_does_not_make_everybody_repeat_everything() -> None:
    room = Room()
    for peer in (ANN, BOB):
        room.hear(session(peer, 1, [], loss=0))
    for turn in range(6):
        room.hear(session(EVE, 2 + turn, [], loss=100))
        room.say(f"line {turn}")
        room.run(10.0)
        for peer in (ANN, BOB):
            room.hear(session(peer, 2 + turn, [], loss=0))
    assert len(room.said(DATA)) <= 6 * (1 + COPIES_DOUBTED)


# -- members ---------------------------------------------------------------------------------------


def test_less_than_half_cannot_move_the_number_of_members() -> None:
    presence = Membership("Mel")
    for n in range(21):
        member = presence.add(ident(n), b"x", 0, 0.0)
        assert member is not None
        for _ in range(100 if n < 10 else 1):
            presence.vote(member, 65_535 if n < 10 else 22)
    assert presence.size() == 22


# -- Lamport time ----------------------------------------------------------------------------------


def test_a_newcomer_catches_up_at_once_and_then_goes_at_the_pace_of_talk() -> None:
    clock = LamportClock(0.0)
    clock.hear(100_000, 50.0)
    clock.hear(700_000, 50.0 + NEWCOMER_S - 0.1)
    assert clock.value == 700_000
    now = 50.0 + NEWCOMER_S
    clock.hear(clock.value + LAMPORT_JUMP_MAX + 1, now)  # nonsense
    assert clock.value == 700_000
    for _ in range(4_096):  # a patient liar: 8 s
        now += 1 / 512
        clock.hear(clock.value + LAMPORT_JUMP_MAX, now)
    assert clock.value <= 700_000 + LAMPORT_BURST + 9 * LAMPORT_PER_S
    clock.hear(clock.value + 1, now)
    assert clock.tick(0, 1) == clock.value
    assert clock.placed(END) == clock.value and clock.placed(5) == 5
    # At the greatest pace the end of 32 bits is more than two years away.
    assert END / LAMPORT_PER_S > 2 * 365 * 86_400


def test_lamport_times_at_their_end_change_no_order() -> None:
    room = settled()
    room.hear(data(ANN, 0, "first", lamport=7))
    room.run(NEWCOMER_S + 1)
    for seq in range(200):
        room.hear(data(EVE, seq, "forged", lamport=min(END, (seq + 1) << 20)))
        room.run(0.01)
    room.hear(data(BOB, 0, "second", lamport=room.session.message_log.lamport.value + 1))
    room.run(1.0)
    texts = [event[5] for event in room.session.history(300)]
    assert texts[0] == "first" and texts[-1] == "second"


# -- Trickle ---------------------------------------------------------------------------------------


def test_copies_that_never_come_put_a_session_off_for_a_second() -> None:
    trickle, now, spoke = Trickle(Random(1), 0.0, 50), 0.0, []
    while now < 20.0:
        now += 0.1
        trickle.news(now, 50, now + 0.125)
        while trickle.deadline() <= now + 0.1:
            at = trickle.deadline()
            if trickle.handle_timer(at, 50):
                spoke.append(at)
    waits = [b - a for a, b in pairwise(spoke)]
    assert max(waits) <= TRICKLE_HELD_S + 2 * TRICKLE_S_MIN + 0.125


def test_who_is_kept_behind_still_tells_what_it_holds() -> None:
    room = settled()
    room.hear(session(ANN, 1, []))
    for turn in range(100):
        ghost = ident(turn + 1)  # a gap that nobody can fill, each time another
        room.hear(data(ghost, 0), data(ghost, 2))
        room.run(0.2)
    sent = [when for when, _ in room.said(SESSION)]
    assert max(b - a for a, b in pairwise(sent)) < BEHIND_S + 1.0
    assert room.nacks()


def test_announcing_copies_that_never_come_hides_no_lost_last_line() -> None:
    # 7 forged DATA a second; Ann's last line was lost, and only her SESSION's list tells it.
    room = settled()
    room.hear(data(ANN, 0))
    room.hear(session(ANN, 1, [(ANN, 0, 1)]))
    room.say("I lost nothing")
    began = room.now
    for seq in range(35):
        room.hear(as_copy(data(EVE, seq), COPIES_MAX))
        room.run(1 / 7)
    sent = [when for when, _ in room.said(SESSION) if when > began]
    assert sent and max(b - a for a, b in pairwise([began, *sent])) < TRICKLE_HELD_S + 0.5
