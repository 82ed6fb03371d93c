"""Who does not hear me, by what it says: the table of `deafness`, and a session."""

from __future__ import annotations

from evloop.room.reliable.deafness import Deafness
from evloop.room.reliable.limits import DEAF_MEMBERS_MAX, DEAF_S, DEAF_SESSIONS, DEAF_SESSIONS_EACH
from tests.support.rooms import ANN, BOB, ME, Room, session


def speak(who: Deafness, times: int, *, counts: int = 1, here: int = 2, sign: bool = False) -> int:
    """Which of Ann's SESSIONs, 6 s apart, made her deaf; 0: none."""
    for n in range(times):
        if who.heard(ANN, ME if sign else BOB, b"", counts, here - 1, 6.0 * n):
            return n + 1
    return 0


def test_who_counts_nobody_for_long_is_deaf_once() -> None:
    who = Deafness(ME)
    at = speak(who, 20)
    assert 6.0 * (at - 1) >= DEAF_S and at >= DEAF_SESSIONS
    assert who.deaf == {ANN}
    assert not who.heard(ANN, BOB, b"", 1, 1, 500.0)  # told already


def test_a_sign_ends_it() -> None:
    who = Deafness(ME)
    speak(who, 20)
    assert not who.heard(ANN, ME, b"", 2, 1, 200.0)
    assert not who.deaf
    assert not who.heard(ANN, BOB, b"", 1, 1, 206.0)  # it begins anew


def test_many_words_at_once_are_no_deafness() -> None:
    """All that I said in the first second may have been lost."""
    who = Deafness(ME)
    assert not any(who.heard(ANN, BOB, b"", 1, 1, 0.1 * n) for n in range(50))


def test_who_counts_as_many_as_i_is_not_deaf() -> None:
    assert not speak(Deafness(ME), 50, counts=3, here=3)


def test_among_several_it_takes_longer() -> None:
    here = 4
    assert speak(Deafness(ME), 50, counts=3, here=here) == DEAF_SESSIONS + 2 * DEAF_SESSIONS_EACH


def test_in_a_large_room_nothing_is_concluded() -> None:
    assert not speak(Deafness(ME), 500, counts=1, here=DEAF_MEMBERS_MAX + 1)


def test_who_leaves_is_forgotten() -> None:
    who = Deafness(ME)
    speak(who, 20)
    who.gone(ANN)
    assert not who.deaf


def test_a_session_tells_it_once() -> None:
    room = Room()
    for n in range(12):
        room.hear(session(ANN, n, [], members=1))
        room.run(6.0)
    assert [event.name for event in room.told("unheard")] == ["Ann"]
    assert room.session.unheard_by() == {ANN}
    room.hear(session(ANN, 12, [], members=2, echo=(ME, 1, 1)))
    assert not room.session.unheard_by()


def test_who_holds_what_i_said_hears_me() -> None:
    room = Room()
    room.say("hello")
    for n in range(12):
        room.hear(session(ANN, n, [(ME, 0, 1)], members=1))
        room.run(6.0)
    assert not room.told("unheard")


def test_who_is_gone_is_not_deaf_any_more() -> None:
    room = Room()
    for n in range(12):
        room.hear(session(ANN, n, [], members=1), session(BOB, n, [], members=1))
        room.run(6.0)
    room.run(60.0)  # silent: both are gone
    assert not room.session.unheard_by()
