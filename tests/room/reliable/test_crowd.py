"""Who enters a large room together with many others tells them once more that it is here, and no
more often than they need."""

from __future__ import annotations

import pytest

from evloop.room.reliable.limits import AGAIN_MEMBER_S, AGAIN_S, AGAIN_TIMES
from evloop.room.reliable.packets import SESSION
from tests.support.rooms import Room, session

OTHERS = 60  # of each is heard twice what makes the loss known
AGAIN = AGAIN_S + AGAIN_MEMBER_S * 3 * OTHERS  # seconds within which it is told again


class Newcomer(Room):
    """A member that comes before OTHERS, which the directory counts with as many more."""

    def __init__(self) -> None:
        super().__init__()
        self.session.expect(3 * OTHERS)
        self._words = dict.fromkeys(range(3 * OTHERS), 0)
        self.pump()
        self.words(range(OTHERS))

    def words(self, numbers: range, *, missed: int = 0) -> int:
        """The next word of each comes, after so many that are missed; how often I speak in AGAIN.

        The first few go on to talk, so that nothing is said for want of words.
        """
        before = len(self.said(SESSION))
        for number in numbers:
            self._words[number] += missed
            self._word(number)
        end = self.now + AGAIN
        while self.now < end:
            self.run(0.05)
            self._word(round(self.now / 0.05) % 10)
        return len(self.said(SESSION)) - before

    def _word(self, number: int) -> None:
        counter = self._words[number]
        self._words[number] += 1
        self.hear(session(b"other%3d" % number, counter, [], name=f"m{number}"))


def test_those_that_come_after_it_are_told_again_and_again() -> None:
    room = Newcomer()
    assert len(room.said(SESSION)) == 2  # at once, and when no more came
    told = [room.words(range(first, first + 5)) for first in (70, 80, 90)]
    assert told == [1] * (AGAIN_TIMES - 1) + [0] * (4 - AGAIN_TIMES)


@pytest.mark.parametrize(("missed", "told"), [(0, 0), (1, 1)])
def test_those_that_were_here_before_are_not_told_where_nothing_is_lost(
    missed: int, told: int
) -> None:
    """They heard the first word; but where some is lost, they may have missed it."""
    room = Newcomer()
    room.words(range(OTHERS), missed=missed)
    for number in range(70, 90):
        room._words[number] = 1
    assert room.words(range(70, 90)) == told
