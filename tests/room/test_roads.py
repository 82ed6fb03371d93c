"""Which road a room takes: every state by every input, and what each rule of evidence is for."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from evloop.room.events import Road
from evloop.room.limits import (
    ALONE_ASK_S,
    BOUND_TOLD_S,
    CROWD_ASK_S,
    CROWD_SENDERS,
    DOUBT_AGAIN_S_MAX,
    DOUBT_AGAIN_S_MIN,
    HEARD_LAPSE_S,
    HEARD_S,
    LEG_TRUSTED_S,
    MISSES_MAX,
    OFF_ASK_S,
    PROBING_ASK_S,
    PROBING_QUICK_S,
    PROBING_S,
    QUIET_ASK_AGAIN_S,
    QUIET_ASK_S,
    QUIET_S_MAX,
    QUIET_S_MIN,
    RELAYED_ASK_S,
    ROAD_SENDERS_MAX,
    ROUNDED_S,
    SENDERS_S,
    STEADY_S,
)
from evloop.room.reliable.membership import presence_interval
from evloop.room.roads import (
    ALONE,
    CHOSEN,
    FULL,
    GROUP,
    LEG,
    LOST,
    OFF,
    PROBING,
    PROVEN,
    REFUSED,
    RELAY,
    UP,
    WISHES,
    Roads,
    Word,
)

ME, BOB, CY, KEEPER = b"me......", b"bob.....", b"cy......", b"keeper.."
NEVER = float("inf")


class Member:
    """Roads with a clock, and a directory that answers what `word` says."""

    def __init__(self, *, sockets: bool = True, always: bool = False) -> None:
        self.now = 1_000.0
        self.roads = Roads(ME, sockets=sockets, always=always)
        self.word: dict[str, Any] = {"heard": 1, "members": 3, "multicast": True, "bound": ()}
        self.asked: list[str] = []

    def told(self) -> list[Road]:
        changes, self.roads.changes = self.roads.changes, []
        return changes

    def answer(self, **word: Any) -> None:
        """Answer the question that is asked now, if any."""
        wish = self.roads.question(self.now)
        if wish:
            self.asked.append(wish)
            said = {"granted": wish, "keeper": b"", **self.word, **word}
            self.roads.answered(Word(**said), self.now)

    def wait(self, seconds: float, *hears: tuple[bytes, int], every: float = 2.0) -> None:
        """Time goes on; each of `hears`, (sender, road), comes once in a while."""
        end = self.now + seconds
        due = self.now
        while self.now < end:
            self.now = min(end, due, max(self.roads.next_deadline(), self.now + 0.001))
            self.roads.handle_timer(self.now)
            self.answer()
            if self.now >= due:
                due = self.now + every
                for sender, road in hears:
                    self.roads.came(sender, False, road, self.now)

    def miss(self, sender: bytes, times: int = MISSES_MAX) -> None:
        for _ in range(times):
            self.roads.came(sender, False, RELAY, self.now)


ALL = ((BOB, GROUP), (BOB, RELAY), (CY, GROUP), (CY, RELAY))
DEAF = ((BOB, RELAY), (CY, RELAY))


def in_state(state: str) -> Member:
    """A member that came into `state` as one does."""
    member = Member(sockets=state != ALONE)
    if state == OFF:
        member.roads.linked(member.now)
        member.wait(PROBING_S + 4, *ALL)
    elif state == PROBING:
        member.roads.linked(member.now)
        member.answer()
    elif state == UP:
        member.word["heard"] = None
        member.roads.linked(member.now)
        member.wait(HEARD_S + 4, *ALL)
    elif state == FULL:
        member.roads.linked(member.now)
        member.wait(PROBING_S + 8, *DEAF)
    else:
        member.roads.linked(member.now)
        member.answer()
    assert member.roads.state == state
    return member


def lost(member: Member) -> None:
    member.roads.lost(member.now)


def linked(member: Member) -> None:
    member.roads.linked(member.now)


def refused(member: Member) -> None:
    """The next question is answered with no grant."""
    member.now = max(member.now, member.roads.next_deadline())
    for sender, _ in ALL:  # so that nothing else is a reason to change
        member.roads.came(sender, False, GROUP, member.now)
    member.answer(granted="off")


def all_well(member: Member) -> None:
    """Everybody is heard, the directory hears us, for as long as it takes."""
    member.word["heard"] = 1
    member.wait(STEADY_S + PROBING_S + 2 * RELAYED_ASK_S, *ALL)


def mute(member: Member) -> None:
    """Everybody is heard; the directory does not hear us."""
    member.word["heard"] = None
    member.wait(PROBING_S + HEARD_S + 4, *ALL)


def deaf(member: Member) -> None:
    """The relay alone brings what others say, for less than it takes to doubt."""
    member.wait(PROBING_S + 6, *DEAF)


def silence(member: Member) -> None:
    """Others are here, and nobody says anything."""
    member.wait(QUIET_S_MIN + 12)


def lonely(member: Member) -> None:
    """Nobody else is here, as the directory says."""
    member.word.update(members=1, heard=None)
    member.wait(OFF_ASK_S, (BOB, GROUP))
    member.wait(PROBING_QUICK_S + OFF_ASK_S)


def nothing(member: Member) -> None:
    member.roads.handle_timer(member.now)


# state: {input: where it leads}, as the table of the module says it.
TABLE: dict[str, dict[Callable[[Member], None], str]] = {
    OFF: {
        lost: OFF, linked: PROBING, refused: OFF, all_well: OFF, mute: OFF, deaf: OFF,
        silence: PROBING, lonely: OFF, nothing: OFF,
    },
    PROBING: {
        lost: OFF, linked: PROBING, refused: OFF, all_well: OFF, mute: UP, deaf: FULL,
        silence: PROBING, lonely: PROBING, nothing: PROBING,
    },
    UP: {
        lost: OFF, linked: PROBING, refused: OFF, all_well: OFF, mute: UP, deaf: UP,
        silence: PROBING, lonely: UP, nothing: UP,
    },
    FULL: {
        lost: OFF, linked: PROBING, refused: OFF, all_well: OFF, mute: FULL, deaf: FULL,
        silence: FULL, lonely: FULL, nothing: FULL,
    },
    ALONE: {
        lost: ALONE, linked: ALONE, refused: ALONE, all_well: ALONE, mute: ALONE, deaf: ALONE,
        silence: ALONE, lonely: ALONE, nothing: ALONE,
    },
}  # fmt: skip


def test_the_table_is_whole() -> None:
    assert set(TABLE) == set(WISHES)
    assert len({frozenset(row) for row in TABLE.values()}) == 1


@pytest.mark.parametrize(
    ("state", "happens", "then"),
    [(state, it, then) for state, row in TABLE.items() for it, then in row.items()],
    ids=lambda it: getattr(it, "__name__", it),
)
def test_each_state_by_each_input(state: str, happens: Callable[[Member], None], then: str) -> None:
    member = in_state(state)
    member.told()
    happens(member)
    assert member.roads.state == then
    # An event for each change but probing, and for no other.
    said = [(it.road, it.why) for it in member.told()]
    if then in (state, PROBING):
        assert said == ([(state, REFUSED)] if happens is refused and state == ALONE else [])
    elif state == PROBING and then == OFF:
        assert said == ([(OFF, REFUSED)] if happens is refused else [])
    else:
        why = LOST if happens is lost else REFUSED if happens is refused else PROVEN
        assert said == [(then, why)]


@pytest.mark.parametrize(
    ("state", "wish", "every"),
    [
        (OFF, "off", OFF_ASK_S),
        (PROBING, "full", PROBING_ASK_S),
        (UP, "up", RELAYED_ASK_S),
        (FULL, "full", RELAYED_ASK_S),
        (ALONE, "full", ALONE_ASK_S),
    ],
)
def test_how_often_each_state_asks_and_for_what(state: str, wish: str, every: float) -> None:
    member = in_state(state)
    member.answer()
    member.asked.clear()
    start = member.now
    times = []
    for _ in range(3):
        while not member.roads.question(member.now):
            due = member.roads.next_deadline()
            assert due > member.now
            for sender in (BOB, CY):  # nothing to doubt
                member.roads.came(sender, False, GROUP, member.now)
            member.now = min(due, member.now + 1.0)
        times.append(member.now)
        assert member.roads.wish == wish
        good = Word(wish, 1 if state != UP else None, 3, True, (), b"")
        if state == FULL:
            member.miss(BOB)
        member.roads.answered(good, member.now)
    assert times[-1] - times[0] == pytest.approx(2 * every)
    assert times[0] <= start + every


def test_without_a_directory_that_relays_nothing_is_asked_and_nothing_waited_for() -> None:
    for sockets in (True, False):
        roads = Roads(ME, sockets=sockets)
        assert roads.next_deadline() == NEVER
        assert roads.question(0.0) == ""
        assert roads.carried is not sockets


def test_one_who_is_alone_wakes_once_a_minute() -> None:
    member = in_state(PROBING)
    member.word.update(members=1, heard=None)
    member.wait(PROBING_QUICK_S + 1)
    member.asked.clear()
    member.wait(601.0)
    assert len(member.asked) == 10


def test_a_question_is_asked_once_until_it_is_answered() -> None:
    member = Member()
    member.roads.linked(member.now)
    assert member.roads.question(member.now) == "full"
    assert member.roads.question(member.now + 100) == ""
    member.roads.unanswered(member.now + 100)
    assert member.roads.question(member.now + 101) == "full"


def test_a_refused_question_is_asked_again_soon_and_then_less_often() -> None:
    """A new directory lacks the room for a second: whoever has no other road waits no minute."""
    member = Member(sockets=False)
    member.roads.linked(member.now)
    asked = []
    end = member.now + 300
    while member.now < end:
        if member.roads.question(member.now):
            asked.append(member.now)
            member.roads.unanswered(member.now)
        member.now = member.roads.next_deadline()
    waits = [later - earlier for earlier, later in zip(asked, asked[1:])]
    assert waits[:8] == [1, 2, 4, 8, 16, 32, ALONE_ASK_S, ALONE_ASK_S]
    member.answer()
    member.now += ALONE_ASK_S
    assert member.roads.question(member.now)
    member.roads.unanswered(member.now)
    assert member.roads.next_deadline() == member.now + 1


def test_an_answer_to_an_earlier_wish_grants_nothing() -> None:
    member = in_state(FULL)
    member.now = member.roads.next_deadline()
    assert member.roads.question(member.now) == "full"
    lost(member)
    linked(member)
    member.roads.answered(Word("off", 1, 3, True, (), b""), member.now)  # of before: nobody asked
    assert member.roads.state == PROBING


def test_the_first_word_goes_by_the_relay_at_once() -> None:
    member = Member()
    linked(member)
    assert member.roads.carried and member.roads.question(member.now) == "full"
    assert member.told() == []  # probing is no event


def test_alone_says_whether_that_is_wanted() -> None:
    for always, why in ((True, CHOSEN), (False, PROVEN)):
        member = Member(sockets=False, always=always)
        linked(member)
        assert member.told() == [("road", ALONE, (), why)]
        lost(member)
        linked(member)
        assert member.told() == []


def test_full_names_those_who_are_not_heard() -> None:
    member = in_state(PROBING)
    member.wait(PROBING_S + 8, (BOB, RELAY), (CY, RELAY), (CY, GROUP))
    assert member.told() == [("road", FULL, (BOB,), PROVEN)]


def test_no_grant_is_told_once_until_one_was_granted() -> None:
    member = in_state(PROBING)
    member.word["granted"] = "off"
    refused(member)
    assert member.told() == [("road", OFF, (), REFUSED)]
    member.wait(DOUBT_AGAIN_S_MAX)
    assert member.told() == []
    assert member.asked.count("full") >= 3
    del member.word["granted"]
    while member.roads.state == OFF:
        member.wait(1.0)
    deaf(member)
    assert [it.road for it in member.told()] == [FULL]
    refused(member)
    assert member.told() == [("road", OFF, (), REFUSED)]


# -- evidence ----------------------------------------------------------------------------------


def test_a_repair_is_no_evidence() -> None:
    member = in_state(PROBING)
    for _ in range(20):
        member.now += 1.0
        member.roads.came(BOB, False, RELAY, member.now)
        member.roads.came(BOB, True, GROUP, member.now)
        member.roads.handle_timer(member.now)
        member.answer()
    assert member.roads.state == FULL


def test_ones_own_words_are_none_nor_are_the_keepers() -> None:
    member = in_state(PROBING)
    member.word["keeper"] = KEEPER
    member.wait(2 * PROBING_S, (ME, GROUP), (KEEPER, GROUP), (KEEPER, RELAY), (ME, RELAY))
    assert member.roads.state == PROBING
    assert member.roads.unheard(member.now) == []


def test_who_is_isolated_from_all_but_the_directory_is_not_fooled_by_its_leg() -> None:
    """It hears everybody by the leg, and the directory hears it: it needs the relay all the
    same."""
    member = in_state(PROBING)
    member.wait(BOUND_TOLD_S - 5, (BOB, LEG), (BOB, RELAY), (CY, LEG), (CY, RELAY))
    assert member.roads.state == PROBING  # they may be bound, of which it is told later
    member.wait(10.0, (BOB, LEG), (BOB, RELAY), (CY, LEG), (CY, RELAY))
    assert member.roads.state == FULL
    member.wait(3 * STEADY_S, (BOB, LEG), (BOB, RELAY), (CY, LEG), (CY, RELAY))
    assert member.roads.state == FULL


def test_whom_nobody_hears_but_by_the_leg_keeps_nobody_on_the_relay() -> None:
    member = in_state(PROBING)
    member.word["bound"] = (BOB,)
    member.answer()
    member.wait(PROBING_S + 8, (BOB, LEG), (BOB, RELAY), (CY, GROUP), (CY, RELAY))
    assert member.roads.state == OFF
    member.wait(600.0, (BOB, LEG), (CY, GROUP))
    assert member.roads.state == OFF and "full" not in member.asked[-8:]


def test_one_who_hangs_on_the_relay_is_no_reason_before_the_directory_can_say_so() -> None:
    member = in_state(PROBING)
    talk = (BOB, LEG), (BOB, RELAY), (CY, GROUP), (CY, RELAY)
    member.wait(BOUND_TOLD_S - 4, *talk)
    assert member.roads.state == PROBING
    member.word["bound"] = (BOB,)
    member.wait(6.0, *talk)
    assert member.roads.state == OFF and member.told() == []


def test_the_leg_counts_for_whom_the_group_brought_lately() -> None:
    """A carried talker sends by the relay, and by the group only a word now and then."""
    member = in_state(PROBING)
    member.roads.came(BOB, False, GROUP, member.now)
    for _ in range(2 * MISSES_MAX):
        member.miss(BOB, 1)
        member.roads.came(BOB, False, LEG, member.now)
    assert member.roads.unheard(member.now) == []
    member.now += LEG_TRUSTED_S
    member.answer()
    for _ in range(2 * MISSES_MAX):
        member.miss(BOB, 1)
        member.roads.came(BOB, False, LEG, member.now)
    assert member.roads.unheard(member.now) == [BOB]


@pytest.mark.parametrize("state", [UP, FULL])
def test_a_steady_minute_outlasts_a_few_lost_probes_but_no_more(state: str) -> None:
    for heard, then in ((HEARD_S + HEARD_LAPSE_S - 1, OFF), (HEARD_S + HEARD_LAPSE_S, state)):
        member = in_state(state)
        member.word["heard"] = 1
        member.wait(3 * RELAYED_ASK_S, *ALL)
        member.word["heard"] = heard
        member.wait(RELAYED_ASK_S, *ALL)
        assert member.roads.state == state
        member.word["heard"] = 1
        member.wait(STEADY_S - 2 * RELAYED_ASK_S, *ALL)
        assert member.roads.state == then


def test_who_left_is_not_unheard_for_ever() -> None:
    member = in_state(PROBING)
    member.roads.came(CY, False, GROUP, member.now)
    member.miss(BOB)
    member.wait(PROBING_S + 4, (CY, GROUP), (CY, RELAY))
    assert member.roads.state == FULL
    member.word["members"] = 2
    member.wait(STEADY_S + 60.0, (CY, GROUP), (CY, RELAY))
    assert member.roads.state == OFF


def test_a_directory_without_multicast_lets_nobody_off_and_nobody_up() -> None:
    """It can neither hear us nor repeat us in the group: both roads are used."""
    member = in_state(PROBING)
    member.word.update(multicast=False, heard=None)
    member.wait(3 * STEADY_S, *ALL)
    assert member.roads.state == PROBING and member.roads.by_both
    member.wait(STEADY_S, *DEAF)
    assert member.roads.state == FULL and member.roads.by_both


def test_a_newcomer_is_looked_at_soon() -> None:
    member = in_state(PROBING)
    member.word.update(members=1, heard=None)
    member.wait(600.0)
    member.word.update(members=2, heard=1)
    start = member.now
    member.wait(10.0, (BOB, GROUP), (BOB, RELAY))
    assert member.roads.state == OFF and member.now < start + 11


@pytest.mark.parametrize("late", [0.0, 10.0, 35.0])
def test_a_guest_who_comes_later_is_known_for_one_in_time(late: float) -> None:
    """Whether somebody hangs on the relay is known 28 s after he came: it is asked until then."""
    member = in_state(PROBING)
    member.wait(late)
    start = member.now
    member.wait(BOUND_TOLD_S + 2 * PROBING_ASK_S, (BOB, LEG), (BOB, RELAY), (CY, GROUP))
    assert member.roads.state == FULL and member.now < start + BOUND_TOLD_S + 10


# -- doubt in mid-talk ---------------------------------------------------------------------------


def quiet_pair(state: str) -> Member:
    """One of two, who has been asked for `others` before the other fell silent."""
    member = in_state(state)
    member.word.update(members=2, others=100)
    member.wait(OFF_ASK_S + 1, (BOB, GROUP))
    assert member.roads.state == state
    member.asked.clear()
    member.told()
    return member


@pytest.mark.parametrize("state", [OFF, UP])
def test_who_is_passed_by_while_others_talk_doubts_within_seconds(state: str) -> None:
    member = quiet_pair(state)
    start = member.now
    while member.roads.state == state:
        member.wait(1.0)
        member.word["others"] += 2
    assert member.roads.state == PROBING
    assert member.now - start < QUIET_ASK_S + 2 * QUIET_ASK_AGAIN_S + 3
    assert member.told() == [], "that is no event"


def test_nobody_is_passed_by_while_nobody_talks() -> None:
    """Silence alone is doubted as late as before; the directory is asked less and less."""
    member = quiet_pair(OFF)
    member.wait(QUIET_S_MAX - 5.0)
    assert member.roads.state == OFF
    assert 2 < len(member.asked) < 9
    member.wait(10.0)
    assert member.roads.state == PROBING


@pytest.mark.parametrize("missed", [MISSES_MAX - 1, MISSES_MAX])
def test_so_many_in_a_row_are_no_accident(missed: int) -> None:
    member = quiet_pair(OFF)
    member.wait(QUIET_ASK_S + 1)
    member.word["others"] += missed
    member.wait(QUIET_ASK_AGAIN_S)
    assert (member.roads.state == PROBING) is (missed == MISSES_MAX)


def test_a_question_that_the_directory_did_not_answer_is_not_asked_again_at_once() -> None:
    """Perhaps the link is being lost."""
    member = quiet_pair(OFF)
    while not member.roads.question(member.now):
        member.now += 0.5
    member.now += 10.0
    member.roads.unanswered(member.now)
    assert member.roads.question(member.now) == ""
    assert member.roads.next_deadline() > member.now


def test_one_datagram_that_is_heard_begins_the_count_anew() -> None:
    member = quiet_pair(OFF)
    for _ in range(30):
        member.wait(QUIET_ASK_S + QUIET_ASK_AGAIN_S + 1)
        member.word["others"] += MISSES_MAX - 1
        member.roads.came(BOB, False, GROUP, member.now)
    assert member.roads.state == OFF


def test_a_directory_that_counts_nothing_is_asked_once_a_minute() -> None:
    for word in ({"others": None}, {"members": 1}):
        member = quiet_pair(OFF)
        member.word.update(word)
        member.wait(OFF_ASK_S + 1, (BOB, GROUP))
        member.asked.clear()
        member.wait(QUIET_S_MAX - 5)
        assert len(member.asked) <= 1


@pytest.mark.parametrize(("sent", "then"), [(MISSES_MAX - 1, OFF), (MISSES_MAX, PROBING)])
def test_who_speaks_and_is_not_heard_doubts_within_seconds(sent: int, then: str) -> None:
    member = quiet_pair(OFF)
    member.now += ROUNDED_S
    for _ in range(sent):
        member.now += 0.1
        member.roads.said(member.now)
    member.word["heard"] = int(QUIET_ASK_S) + 1
    member.wait(QUIET_ASK_S)
    assert member.roads.state == then


def test_who_was_heard_in_between_does_not_doubt() -> None:
    member = quiet_pair(OFF)
    for _ in range(20):
        for _ in range(MISSES_MAX):
            member.now += 0.1
            member.roads.said(member.now)
        member.word["heard"] = 0
        member.roads.came(BOB, False, GROUP, member.now)
        member.wait(OFF_ASK_S, (BOB, GROUP))
    assert member.roads.state == OFF


def test_senders_that_a_stranger_invents_are_bounded() -> None:
    member = in_state(PROBING)
    for number in range(3 * ROAD_SENDERS_MAX):
        member.roads.came(b"%8d" % number, False, RELAY, member.now)
    assert len(member.roads.senders) == ROAD_SENDERS_MAX


# -- doubt -------------------------------------------------------------------------------------


def test_one_of_several_who_is_not_heard_is_a_reason_to_look() -> None:
    member = in_state(OFF)
    member.wait(SENDERS_S + 2 * OFF_ASK_S, (BOB, GROUP))
    assert "full" in member.asked[1:]


def test_who_is_not_heard_by_the_directory_any_more_looks() -> None:
    member = in_state(OFF)
    member.asked.clear()
    member.word["heard"] = int(HEARD_S + OFF_ASK_S + 1)
    member.wait(OFF_ASK_S + 1, *ALL)
    assert "full" in member.asked


def test_doubts_are_believed_less_and_less_often_and_begin_anew() -> None:
    """Somebody who entered and says nothing must not make everybody look for ever."""
    member = in_state(OFF)
    member.word["members"] = 4
    looked = []
    start = member.now
    while member.now < start + 4_000:
        before = member.roads.state
        member.wait(5.0, *ALL)
        if member.roads.state == PROBING and before == OFF:
            looked.append(member.now)
    spans = [later - one for one, later in zip(looked, looked[1:])]
    assert all(later >= one - 10.0 for one, later in zip(spans, spans[1:]))
    assert spans[0] >= DOUBT_AGAIN_S_MIN and spans[-1] >= DOUBT_AGAIN_S_MAX
    assert len(looked) <= 10
    member.word["members"] = 3
    member.wait(DOUBT_AGAIN_S_MAX + 60.0, *ALL)
    assert member.roads.state == OFF
    start = member.now
    member.wait(QUIET_S_MIN + 11)  # it begins anew: believed at once
    assert member.roads.state == PROBING and member.now < start + DOUBT_AGAIN_S_MIN


def test_a_host_isolated_in_mid_talk_is_back_soon_and_off_again_when_that_ends() -> None:
    member = Member()
    member.word["members"] = 6
    others = [b"other%3d" % number for number in range(5)]
    linked(member)
    member.answer()
    both = [(one, road) for one in others for road in (GROUP, RELAY)]
    member.wait(PROBING_S + 8, *both)
    assert member.roads.state == OFF
    gone = member.now
    member.word["heard"] = 200
    while member.roads.state == OFF:
        member.wait(1.0)
    assert member.now - gone <= QUIET_S_MIN + 2
    member.wait(2 * PROBING_S, *[(one, RELAY) for one in others])
    assert member.roads.state == FULL
    member.word["heard"] = 1
    back = member.now
    while member.roads.state == FULL:
        member.wait(1.0, *both, every=1.0)
    assert member.now - back <= STEADY_S + 2 * RELAYED_ASK_S


# -- a crowd that comes at once --------------------------------------------------------------------

CROWD = [b"crowd%3d" % number for number in range(2 * CROWD_SENDERS)]


def newcomer(*, heard: int | None) -> Member:
    """One that has just entered: the directory carries it, and has heard it or not."""
    member = Member()
    member.word.update(heard=heard, members=100)
    linked(member)
    member.answer()
    assert member.roads.state == PROBING
    return member


def hears(member: Member, senders: list[bytes], road: int) -> None:
    for sender in senders:
        member.now += 0.001
        member.roads.came(sender, False, road, member.now)


def test_in_a_crowd_who_is_heard_steps_off_as_soon_as_it_hears_many() -> None:
    member = newcomer(heard=0)
    hears(member, CROWD[: CROWD_SENDERS - 1] * 2, GROUP)
    assert member.roads.state == PROBING
    hears(member, CROWD[CROWD_SENDERS - 1 :][:1], GROUP)
    assert member.roads.state == OFF
    member.answer()
    assert member.asked == ["full", "off"] and member.told() == []


def test_in_a_crowd_who_is_not_known_to_be_heard_asks_at_once() -> None:
    member = newcomer(heard=None)
    hears(member, CROWD, GROUP)
    assert member.roads.state == PROBING
    member.wait(CROWD_ASK_S)
    assert member.asked == ["full", "full"] and member.roads.state == PROBING
    member.wait(PROBING_ASK_S - 0.1)
    assert len(member.asked) == 2  # and no more often for that
    member.word["heard"] = 1
    member.wait(0.2)
    assert member.roads.state == OFF


def test_a_crowd_of_whom_the_directory_knows_nothing_is_none() -> None:
    """A stranger can speak from 16 ports under 16 ids."""
    member = newcomer(heard=0)
    member.word["members"] = CROWD_SENDERS
    member.roads.handle_timer(member.now)
    member.wait(PROBING_ASK_S + 0.1)
    hears(member, CROWD, GROUP)
    member.wait(CROWD_ASK_S)
    assert member.roads.state == PROBING
    member.word["members"] = CROWD_SENDERS + 1  # when it was asked, not all had come
    member.wait(PROBING_ASK_S)
    assert member.roads.state == OFF


@pytest.mark.parametrize("road", [LEG, RELAY])
def test_a_crowd_that_the_directory_alone_brings_proves_nothing(road: int) -> None:
    member = newcomer(heard=0)
    hears(member, CROWD, road)
    member.answer()
    assert member.roads.state == PROBING


@pytest.mark.parametrize("unheard", [CROWD_SENDERS // 2, CROWD_SENDERS // 2 + 1])
def test_of_two_parts_of_a_crowd_only_the_larger_steps_off(unheard: int) -> None:
    member = newcomer(heard=0)
    hears(member, [b"other%3d" % number for number in range(unheard)], RELAY)
    hears(member, CROWD[:CROWD_SENDERS], GROUP)
    steps_off = unheard <= CROWD_SENDERS // 2
    assert member.roads.state == (OFF if steps_off else PROBING)
    hears(member, CROWD[:CROWD_SENDERS], RELAY)  # whom the group has brought
    hears(member, CROWD[CROWD_SENDERS:][:2], GROUP)
    assert member.roads.state == OFF


def test_a_crowd_that_the_relay_brought_sooner_is_near_when_the_group_brings_it() -> None:
    """On a busy machine the one socket is read before the other."""
    member = newcomer(heard=0)
    hears(member, CROWD, RELAY)
    hears(member, CROWD[: CROWD_SENDERS + 5], GROUP)
    assert member.roads.state == PROBING
    hears(member, CROWD[CROWD_SENDERS + 5 :][:1], GROUP)
    assert member.roads.state == OFF


def test_who_of_a_crowd_is_not_heard_any_more_is_far() -> None:
    member = newcomer(heard=0)
    hears(member, CROWD[: CROWD_SENDERS - 1], GROUP)
    for sender in CROWD[:2]:
        member.miss(sender)
    hears(member, CROWD[-2:], GROUP)
    assert member.roads.state == PROBING
    hears(member, CROWD[-3:-2], GROUP)
    assert member.roads.state == OFF


def test_a_crowd_of_more_senders_than_are_told_apart() -> None:
    member = newcomer(heard=None)
    hears(member, [b"%8d" % number for number in range(2 * ROAD_SENDERS_MAX)], RELAY)
    hears(member, CROWD[:CROWD_SENDERS], GROUP)
    hears(member, [b"%8d" % number for number in range(ROAD_SENDERS_MAX)], GROUP)
    member.word["heard"] = 0
    member.wait(PROBING_ASK_S)
    assert member.roads.state == OFF


def test_who_was_heard_before_probing_began_is_no_crowd() -> None:
    member = newcomer(heard=0)
    hears(member, CROWD, GROUP)
    lost(member)
    member.now += 1.0
    linked(member)
    member.answer()
    assert member.roads.state == PROBING
    hears(member, CROWD[:CROWD_SENDERS], GROUP)
    assert member.roads.state == OFF


@pytest.mark.parametrize("members", [2, 3, 6, 20, 100])
def test_with_loss_alone_nobody_leaves_off_in_ten_minutes(members: int) -> None:
    """30 % of everything is lost, at us and at the directory; the room is silent but for the
    words of presence, which is the worst case."""
    rng = random.Random(members)
    interval = presence_interval(members)
    rooms = 20 if members < 50 else 4
    left = 0
    for _ in range(rooms):
        member = in_state(OFF)
        member.word.update(members=members)
        others = [b"other%3d" % number for number in range(members - 1)]
        words = [(rng.uniform(0, interval), one) for one in (ME, *others)]
        heard_at, end = member.now, member.now + 600.0
        start = member.now
        while member.now < end:
            words.sort()
            due, one = words.pop(0)
            words.append((due + rng.uniform(0.75, 1.0) * interval, one))
            while member.roads.next_deadline() <= start + due:
                member.now = member.roads.next_deadline()
                member.roads.handle_timer(member.now)
                member.answer(heard=int(member.now - heard_at))
                if member.roads.state != OFF:
                    break
            if member.roads.state != OFF:
                left += 1
                break
            member.now = start + due
            if rng.random() >= 0.3:
                if one == ME:
                    heard_at = member.now
                else:
                    member.roads.came(one, False, GROUP, member.now)
    assert left == 0
