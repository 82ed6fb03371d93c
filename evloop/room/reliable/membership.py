"""Who is here, how many we are, and what each last said of itself.

A member is present from its first SESSION until a BYE, or until it was silent for 3.5 T:

    T = max(6 s, min(0.4 s N, 20 s), 0.15 s N)
    N = max(members I count, median of the counts that they told last)

so a small room notices soon that somebody is gone, and a large one spends little. In that median
members of standing have a vote, and everybody while there is none of them. Who has been silent for
too long, reckoned by those that I count alone, has none: else ghosts, who tell large numbers, would
decide for how long ghosts are listed. A member can be present without having said anything: records
of senders are in `message_log`. Losses are kept as a histogram of percents, so that the number of
copies is found without a walk over all members.
"""

from __future__ import annotations

from bisect import bisect_left, insort

from evloop.room.reliable.estimators import copies, wet_from
from evloop.room.reliable.labels import Labels
from evloop.room.reliable.limits import (
    DEPARTED_MAX,
    DEPARTED_S,
    FEW_MEMBERS,
    FOLLOW_INTERVALS,
    FOLLOW_MAX,
    LOSS_ASSUMED,
    LOSS_BEYOND_MEDIAN,
    LOSS_UNKNOWN,
    MEMBERS_MAX,
    MEMBERS_TRUSTED,
    PRESENCE_S_MIN,
    REACH_MESSAGES,
    REACH_PER_S,
    RIVAL_WORDS,
    ROOM_SAMPLE,
    STANDING_S,
)
from evloop.room.reliable.packets import NOBODY
from evloop.system.timers import NEVER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

VOTE_INTERVALS = 2.0  # of the T of those that I count: who is silent for longer has no vote
SILENT_INTERVALS = 3.5  # of T: three SESSIONs lost in a row do not make a member absent


def presence_interval(members: int) -> float:
    """T of so many members."""
    return max(PRESENCE_S_MIN, min(0.4 * members, 20.0), 0.15 * members)


class Member:
    """One present member.

    `holds`: next number of mine that it is known to have reached. `said`: next number of its own,
    by its newest SESSION; -1: it has told none yet.

    Its control datagrams are numbered, so a forged one is mostly out of step. One that continues
    the count is `fresh`. Another count takes its place when the first has stood still for longer
    than its sender may be silent while the other went on, or when the other went on RIVAL_WORDS
    times.
    """

    __slots__ = (
        "counter",
        "doubted",
        "followed",
        "heard",
        "holds",
        "least",
        "loss",
        "name",
        "raw_name",
        "rival",
        "rival_words",
        "said",
        "said_at",
        "sampled",
        "since",
        "vote",
        "vote_standing",
        "words",
    )  # fmt: skip

    def __init__(self, heard: float, raw_name: bytes, counter: int) -> None:
        self.since = self.heard = self.followed = self.said_at = heard
        self.words = 1  # the first control datagram, and those that continued its count
        self.rival = counter  # the newest counter that did not continue the count
        self.rival_words = 0  # how often that other count has gone on since this one did
        self.said = -1
        self.least = -1  # the smallest next number that its own word has told; -1: none
        self.doubted = False  # somebody said BYE in its name
        self.vote = 0  # how many members it counts; 0: it has not told
        self.vote_standing = False  # it told that as a member of standing
        self.raw_name = raw_name
        self.name = raw_name.decode(errors="replace")
        self.counter = counter  # of its newest control datagram in the count
        self.sampled = counter  # of the newest that counted in the loss
        self.loss = LOSS_UNKNOWN
        self.holds = 0

    def standing(self, now: float) -> bool:
        """Whether it is a member of standing: heard for STANDING_S, its counters in step."""
        return self.words > 1 and now >= self.since + STANDING_S

    def reach(self, now: float) -> float:
        """The largest number that DATA of it can have by now, judged by its own word."""
        return self.said + REACH_MESSAGES + REACH_PER_S * (now - self.said_at)

    def fresh(self, counter: int, now: float, patience: float) -> bool:
        """Note a control datagram; whether it continues the count, or a count that takes the place
        of one that stood still for `patience` seconds, or while the other went on."""
        if not 0 < (counter - self.counter) & 0xFFFFFFFF <= FOLLOW_MAX:
            goes_on = 0 < (counter - self.rival) & 0xFFFFFFFF <= FOLLOW_MAX
            self.rival = counter
            self.rival_words = self.rival_words + 1 if goes_on else 0
            stands_still = now > self.followed + patience
            if self.rival_words < (1 if stands_still else RIVAL_WORDS):
                return False
        self.rival_words = 0
        self.counter = counter
        self.followed = now
        self.words += 1
        return True


class Membership:
    """The present members but for myself, by sender id."""

    __slots__ = (
        "_estimate",
        "_former",
        "_former_until",
        "_hint",
        "_interval",
        "_labels",
        "_once",
        "_own_id",
        "_own_name",
        "_sample",
        "_sweep",
        "_votes",
        "departed",
        "losses",
        "members",
        "pushed",
    )  # fmt: skip

    def __init__(self, own_name: str, own_id: bytes = b"") -> None:
        self._own_name = own_name
        self._own_id = own_id
        self._labels = Labels()
        self._labels.put(own_id, own_name)
        self.members: dict[bytes, Member] = {}
        self._once: dict[bytes, None] = {}  # members heard once: the first to make room
        self._sample: list[bytes] = []  # members to be looked at when room must be made
        self.pushed: list[tuple[bytes, Member]] = []  # those that had to make room
        self.departed: dict[bytes, tuple[int, float]] = {}  # (counter, until) of BYEs heard
        self.losses: dict[int, int] = {}  # how many members report so many percent
        # How many each member counts, in order: [0] those of strangers, [1] those of standing.
        self._votes: tuple[list[int], list[int]] = ([], [])
        self._hint = 1
        self._estimate = 0  # N; 0: to be found anew
        self._interval = PRESENCE_S_MIN  # T
        self._former = 0.0  # T before members went, in force until
        self._former_until = 0.0
        self._sweep = NEVER  # before that time nobody can have been silent too long

    def expect(self, members: int) -> None:
        """Somebody outside (the directory) knows that at least so many are here."""
        self._hint = min(members, MEMBERS_MAX)
        self._estimate = 0

    def size(self) -> int:
        """N, myself included."""
        if not self._estimate:
            votes = self._votes[True] or self._votes[False]
            median = votes[(len(votes) - 1) // 2] if votes else 1
            counted = len(self.members) + 1
            median = min(median, MEMBERS_TRUSTED * counted)
            size = self._estimate = min(max(counted, median, self._hint), MEMBERS_MAX)
            self._interval = presence_interval(size)
        return self._estimate

    def interval(self) -> float:
        """T in seconds: every member sends a SESSION at least so often."""
        if not self._estimate:
            self.size()
        return self._interval

    def rename(self, own_name: str) -> None:
        """My name is `own_name` from now on."""
        self._labels.drop(self._own_id, self._own_name)
        self._own_name = own_name
        self._labels.put(self._own_id, own_name)

    def named(self, sender: bytes, member: Member, raw_name: bytes) -> str:
        """`member`, whose id is `sender`, has a new name from now on; returns the old one."""
        old = member.name
        self._labels.drop(sender, old)
        member.raw_name = raw_name
        member.name = raw_name.decode(errors="replace")
        self._labels.put(sender, member.name)
        return old

    def label(self, sender: bytes, name: str) -> str:
        """How to show `name` of `sender`; see `Labels`."""
        return self._labels.label(sender, name)

    def add(self, sender: bytes, raw_name: bytes, counter: int, now: float) -> Member | None:
        """Add a member; None when the table is full of members that are likelier to be real."""
        if len(self.members) >= MEMBERS_MAX and not self._make_room(now):
            return None
        member = self.members[sender] = Member(now, raw_name, counter)
        self._once[sender] = None
        member.doubted = sender in self.departed
        self.departed.pop(sender, None)
        self._labels.put(sender, member.name)
        self._estimate = 0
        self._sweep = min(self._sweep, now + SILENT_INTERVALS * self.interval())
        return member

    def _make_room(self, now: float) -> bool:
        """Drop one member for a newcomer; whether one could go. Of those heard once the first that
        came, else that of a sample that was not heard for longest, if that is STANDING_S or more.
        """
        if self._once:
            sender = next(iter(self._once))
        else:
            if not self._sample:
                self._sample = list(self.members)
            sample, self._sample = self._sample[-ROOM_SAMPLE:], self._sample[:-ROOM_SAMPLE]
            here = [(self.members[one].heard, one) for one in sample if one in self.members]
            heard, sender = min(here, default=(now, NOBODY))
            if heard > now - STANDING_S:
                return False
        member = self.remove(sender)
        if member is not None:
            self.pushed.append((sender, member))
        return member is not None

    def fresh(self, sender: bytes, member: Member, counter: int, now: float) -> bool:
        """`member` sent a control datagram; whether it continues the count of those before it."""
        member.heard = now
        if not member.fresh(counter, now, FOLLOW_INTERVALS * self.interval()):
            return False
        self._once.pop(sender, None)
        return True

    def vote(self, member: Member, members: int, standing: bool = False) -> None:
        """`member` counts `members` (0: it has no vote any more): everybody has one vote."""
        before = member.vote
        if before == members and member.vote_standing == standing:
            return
        if before:
            votes = self._votes[member.vote_standing]
            del votes[bisect_left(votes, before)]
        member.vote = members
        member.vote_standing = standing
        if members:
            insort(self._votes[standing], members)
        self._estimate = 0

    def lossy(self, member: Member, loss: int) -> None:
        """`member` now loses `loss` percent, or LOSS_UNKNOWN."""
        losses = self.losses
        if member.loss != LOSS_UNKNOWN:
            losses[member.loss] -= 1
        if loss != LOSS_UNKNOWN:
            loss = min(loss, 100)
            losses[loss] = losses.get(loss, 0) + 1
        member.loss = loss

    def few(self) -> bool:
        """Whether we are so few that samples of loss come slowly."""
        return self.size() <= FEW_MEMBERS

    def copies(self, rng: Random, most: int, own: Callable[[], int], newcomer: bool) -> int:
        """How many copies of a DATA to send (see `copies`): none to nobody.

        In a room of few, who has not told its loss counts with LOSS_ASSUMED: there the one that
        tells first may be the one with luck.
        """
        size, losses = self.size(), self.losses
        if size == 1 and not newcomer:
            return 0
        if self.few():
            unknown = max(len(self.members), 1) - sum(losses.values())
            losses = {**losses, LOSS_ASSUMED: losses.get(LOSS_ASSUMED, 0) + unknown}
        return copies(rng, losses, size, most, own)

    def mean_loss(self, own: float) -> float | None:
        """Mean loss (0 to 1) that those others tell who lose alike, when I lose `own` percent; None
        when there are none.

        Each counts with at most twice the median and LOSS_BEYOND_MEDIAN: else one liar would count
        like many.
        """
        least = wet_from(self.losses)
        told = {
            percent: members
            for percent, members in self.losses.items()
            if (percent >= least) == (own >= least)
        }
        known = sum(told.values())
        if not known:
            return None
        below, median = 0, -1
        while 2 * below < known:
            median += 1
            below += told.get(median, 0)
        most = 2 * median + LOSS_BEYOND_MEDIAN
        return sum([n * min(percent, most) for percent, n in told.items()]) / known / 100

    def remove(self, sender: bytes) -> Member | None:
        """Forget `sender`; return what it was."""
        member = self.members.pop(sender, None)
        if member is not None:
            self.lossy(member, LOSS_UNKNOWN)
            self.vote(member, 0)
            self._once.pop(sender, None)
            self._estimate = 0
            self._labels.drop(sender, member.name)
        return member

    def said_bye(self, sender: bytes, counter: int, now: float) -> Member | None:
        """`sender` left with control datagram number `counter`; returns its record, if any.

        A member that is heard after a BYE in its name did not send that BYE: from then on only
        silence tells that it is gone.
        """
        member = self.members.get(sender)
        if member is not None and member.doubted:
            return None
        self.remove(sender)
        if member is not None or len(self.departed) < DEPARTED_MAX:
            self.departed.pop(sender, None)
            self.departed[sender] = (counter, now + DEPARTED_S)
            if len(self.departed) > DEPARTED_MAX:
                del self.departed[next(iter(self.departed))]
        return member

    def overtaken(self, sender: bytes, counter: int, now: float) -> bool:
        """Whether a SESSION was sent before its sender's recent BYE; if not, that BYE is void."""
        last, until = self.departed.get(sender, (0, 0.0))
        return now < until and (last - counter) & 0xFFFFFFFF < 0x80000000

    def listing(self, now: float) -> list[tuple[bytes, str, float]]:
        """(sender id, name, seconds since last heard) of all."""
        return [
            (sender, member.name, max(0.0, now - member.heard))
            for sender, member in self.members.items()
        ]

    def least_held(self, most: int) -> int:
        """The least next number of mine that some member is known to have; `most` when alone."""
        return min([member.holds for member in self.members.values()], default=most)

    def deadline(self) -> float:
        """When to call `silent`; it may find nobody then."""
        return self._sweep

    def silent(self, now: float) -> list[tuple[bytes, Member]]:
        """Remove and return the members that were silent too long.

        It walks over all members. The next walk is due when the member that is now silent for
        longest would be silent too long, or after the T of those that I count: two or three walks
        at most in one such interval.
        """
        if now < self._sweep:
            return []
        counted = presence_interval(max(len(self.members) + 1, self._hint))
        for member in self.members.values():
            if member.vote and member.heard <= now - VOTE_INTERVALS * counted:
                self.vote(member, 0)
        former = self._former if now < self._former_until else 0.0
        before = self.interval()
        patience = SILENT_INTERVALS * max(before, former)
        quiet = [item for item in self.members.items() if item[1].heard + patience <= now]
        for sender, _ in quiet:
            self.remove(sender)
        if quiet and before > self.interval():
            # The others speak at the longer intervals until they, too, miss those who go here.
            self._former = max(before, former)
            self._former_until = max(self._former_until, now + 2 * before)
        oldest = min([member.heard for member in self.members.values()], default=float("inf"))
        self._sweep = min(oldest + patience, now + counted) if self.members else oldest
        return quiet
