"""How much is lost, and how many copies that calls for.

No single member decides an estimate: in an open room any of them may lie.

`LossMeter`: loss is measured where the number of datagrams is known beforehand: copies of a DATA
say how many follow, and control datagrams are counted by their sender. Of a DATA only what follows
the first copy that arrived is counted: given that one arrived, the rest is a fair sample. A sender
can announce copies that it never sends. So each sender has an account of its own, with a bounded
share of the samples, and with no more loss than the better half of the room makes likely.

Members of standing (present for STANDING_S, with counters in step) count first: strangers count
only while there are no, or too few, members of standing.
"""

from __future__ import annotations

from evloop.room.reliable.limits import (
    CONTROL_GAP_MAX,
    COPIES_DOUBTED,
    COPIES_MAX,
    COPY_SPACING_S,
    LOSS_APART,
    LOSS_ASSUMED,
    LOSS_CLEAN_MIN,
    LOSS_DOUBT,
    LOSS_DOUBT_SAMPLES,
    LOSS_PENDING_MAX,
    LOSS_PRIOR_SAMPLES,
    LOSS_SAMPLES_MAX,
    LOSS_SAMPLES_MIN,
    LOSS_SHARE_MIN,
    LOSS_UNKNOWN,
    MISS_MAX,
    MISS_MEMBERS,
    MISS_SMALL_MAX,
    SMALL_ROOM_MEMBERS,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from evloop.room.reliable.membership import Member

    Key = tuple[bytes, int]


LATE_S = 0.25  # a copy that comes later than this after its time counts as lost


class _Account:
    """How many datagrams of one sender arrived, and how many were lost."""

    __slots__ = ("lost", "seen")

    def __init__(self) -> None:
        self.seen = 0.0
        self.lost = 0.0


class _Accounts:
    """The accounts of strangers, or of members of standing: the last LOSS_SAMPLES_MAX samples."""

    __slots__ = ("by_sender", "total")

    def __init__(self) -> None:
        self.by_sender: dict[bytes, _Account] = {}
        self.total = 0.0

    def count(self, sender: bytes, seen: float, lost: float) -> None:
        """`sender` sent `seen` + `lost`, of which `lost` did not arrive."""
        account = self.by_sender.get(sender)
        if account is None:
            account = self.by_sender[sender] = _Account()
        account.seen += seen
        account.lost += lost
        self.total += seen + lost
        # Nobody has more than twice a fair share: k liars of N fill 2 k / N of the window.
        share = max(LOSS_SHARE_MIN, 2 * LOSS_SAMPLES_MAX / len(self.by_sender))
        if account.seen + account.lost > share:
            self._halve(account)
        if self.total > LOSS_SAMPLES_MAX:
            for account in self.by_sender.values():
                self._halve(account)
            kept = {
                sender: account
                for sender, account in self.by_sender.items()
                if account.seen + account.lost >= 0.5
            }
            self.by_sender = kept
            self.total = sum([account.seen + account.lost for account in kept.values()])

    def _halve(self, account: _Account) -> None:
        account.seen /= 2
        account.lost /= 2
        self.total -= account.seen + account.lost


def _believed(accounts: list[_Account]) -> tuple[float, float]:
    """(seen, lost) in all, of which each account's loss counts as far as it is likely.

    The half of the accounts with the least loss gives the odds of a loss. Three times these and a
    few more are believed of anybody: honest accounts differ only by chance and stay below that.
    """
    ordered = sorted(accounts, key=lambda account: account.lost / (account.seen + account.lost))
    half = sum([account.seen + account.lost for account in ordered]) / 2
    seen = lost = 0.0
    for account in ordered:
        seen += account.seen
        lost += account.lost
        if seen + lost >= half:
            break
    odds = LOSS_DOUBT + 3 * lost / max(seen, 1.0)
    seen = lost = 0.0
    for account in ordered:
        seen += account.seen
        lost += min(account.lost, LOSS_DOUBT_SAMPLES + odds * account.seen)
    return seen, lost


def _reached(counter: int, newest: int) -> bool:
    """Whether control datagram number `counter` is one of the last before number `newest`."""
    return (newest - counter) & 0xFFFFFFFF <= CONTROL_GAP_MAX


class LossMeter:
    """My own loss, from the last few hundred datagrams that I know were sent.

    Where a datagram may come by two roads, one of them is measured: what comes by the other is no
    sample, and fills no gap in what is counted.
    """

    __slots__ = ("_awaited", "_expiry", "_members", "_strangers", "elsewhere", "told")

    def __init__(self) -> None:
        self._members = _Accounts()  # of members of standing
        self._strangers = _Accounts()
        self._awaited: dict[Key, int] = {}  # copies still to come
        self._expiry: list[tuple[float, Key]] = []
        self.told = LOSS_UNKNOWN  # percent, in my last SESSION
        self.elsewhere: dict[Key, None] = {}  # came by the other road, and not yet by this one

    def _count(self, sender: bytes, seen: float, lost: float) -> None:
        class_ = self._members if sender in self._members.by_sender else self._strangers
        class_.count(sender, seen, lost)

    def stands(self, sender: bytes) -> None:
        """`sender` is a member of standing now."""
        if sender in self._members.by_sender:
            return
        account = self._strangers.by_sender.pop(sender, None) or _Account()
        self._strangers.total -= account.seen + account.lost
        self._members.count(sender, account.seen, account.lost)

    def data(self, key: Key, more: int, new: bool, sample: bool, now: float) -> None:
        """A DATA that is no repair, `more` copies of which are announced; it is `new` here."""
        if not sample:
            if new:
                self.elsewhere[key] = None
                if len(self.elsewhere) > LOSS_PENDING_MAX:
                    del self.elsewhere[next(iter(self.elsewhere))]
        elif new or (self.elsewhere and key in self.elsewhere):
            self.elsewhere.pop(key, None)
            self.first(key, more, now)
        else:
            self.further(key, more)

    def first(self, key: Key, more: int, now: float) -> None:
        """The first copy of a new DATA: `more` are announced."""
        if len(self._awaited) >= LOSS_PENDING_MAX:
            self._expire(now)
            if len(self._awaited) >= LOSS_PENDING_MAX:
                return
        if more and key not in self._awaited:
            self._awaited[key] = more
            self._expiry.append((now + more * COPY_SPACING_S + LATE_S, key))

    def further(self, key: Key, more: int) -> None:
        """Another copy of a known DATA."""
        awaited = self._awaited.get(key, 0)
        if awaited > more:  # else it was duplicated or overtaken on the way
            self._count(key[0], 1, awaited - more - 1)
            self._awaited[key] = more

    def heard(self, sender: bytes, member: Member, counter: int, fresh: bool) -> None:
        """A control datagram of `member` came by the road that is measured; `fresh`: it continues
        the count. What the other road has brought before is counted all the same."""
        step = (counter - member.sampled) & 0xFFFFFFFF
        if fresh or (0 < step <= CONTROL_GAP_MAX and _reached(counter, member.counter)):
            self.control(sender, member.sampled, counter)
            member.sampled = counter

    def control(self, sender: bytes, last: int, counter: int, sample: bool = True) -> None:
        """A control datagram number `counter` after number `last` of the same sender."""
        step = (counter - last) & 0xFFFFFFFF
        if sample and 0 < step <= CONTROL_GAP_MAX:
            self._count(sender, 1, step - 1)

    def _expire(self, now: float) -> None:
        while self._expiry and self._expiry[0][0] <= now:
            key = self._expiry.pop(0)[1]
            missed = self._awaited.pop(key, 0)
            if missed:
                self._count(key[0], 0, missed)

    def percent(
        self, now: float, others: Callable[[float], float | None] | None = None, few: bool = False
    ) -> int:
        """Loss in percent, or LOSS_UNKNOWN.

        Fractions below 0.7 are rounded down: at 1 % loss, rounding to the nearest calls for more
        copies than the misses are worth. `others` says of my loss what those lose on average that
        lose alike. That steadies the figure: in a large room the number of copies follows the
        member that is furthest off. In a room of `few` members, where samples come slowly, who has
        lost none of LOSS_CLEAN_MIN tells so.
        """
        self._expire(now)
        accounts = list(self._members.by_sender.values())
        if self._members.total < LOSS_SAMPLES_MIN:
            accounts += self._strangers.by_sender.values()
        accounts = [account for account in accounts if account.seen + account.lost]
        if not accounts:
            return LOSS_UNKNOWN
        seen, lost = _believed(accounts)
        total = seen + lost
        if total < LOSS_SAMPLES_MIN:
            return 0 if few and not lost and total >= LOSS_CLEAN_MIN else LOSS_UNKNOWN
        alike = others(100 * lost / total) if others is not None else None
        if alike is not None:
            lost += LOSS_PRIOR_SAMPLES * alike
            total += LOSS_PRIOR_SAMPLES
        return int(100 * lost / total + 0.3)


def wet_from(losses: dict[int, int]) -> float:
    """The loss in percent from which members count as those that lose: a quarter of what the worst
    tells, when that is LOSS_APART or more; 0 when all lose alike, or nobody tells. `losses`: as for
    `copies`."""
    worst = _worst(losses)
    return worst / 4 if LOSS_APART <= worst < LOSS_UNKNOWN else 0.0


def _worst(losses: dict[int, int]) -> int:
    """The most that anybody tells; LOSS_UNKNOWN when nobody does."""
    return max([percent for percent, members in losses.items() if members], default=LOSS_UNKNOWN)


def copies(
    rng: Random,
    losses: dict[int, int],
    members: int,
    most: int,
    own: Callable[[], int] = lambda: LOSS_UNKNOWN,
) -> int:
    """How many unasked copies of a DATA to send.

    `losses`: how many members tell that they lose so many percent; `own`: what I lose, asked for
    only where it matters, because that looks at every member. With r copies a member that loses p
    misses all with p^(r+1); the aim for the mean over the members that lose (`wet_from`) is m: who
    loses nothing must not double the misses of the others. The smallest r that reaches it, or one
    less with the probability that makes the expected mean m. The quarter that tells most may be
    liars: it gets no more than COPIES_DOUBTED copies beyond those that the others call for.
    """
    worst = _worst(losses)
    if not worst:
        return 0  # as in most rooms; the sums below would come to that in four times the time
    if worst == LOSS_UNKNOWN:
        losses = {LOSS_ASSUMED: 1}
    aim = min(MISS_MAX, MISS_MEMBERS / max(members, 1))
    if members < SMALL_ROOM_MEMBERS:
        aim = MISS_SMALL_MAX
    most = min(most, COPIES_MAX)
    if most > COPIES_DOUBTED:
        most = min(most, COPIES_DOUBTED + _extra(_trimmed(losses, own()), aim, most)[0])
    extra, worse, miss = _extra(losses, aim, most)
    if extra and miss <= aim < worse and rng.random() < (aim - miss) / (worse - miss):
        return extra - 1
    return extra


def _extra(losses: dict[int, int], aim: float, most: int) -> tuple[int, float, float]:
    """(how many copies, the mean miss with one less, and with these)."""
    least = wet_from(losses)
    losses = {percent: n for percent, n in losses.items() if percent >= least}
    known = sum(losses.values())
    worse = 1.0
    for extra in range(most + 1):
        miss = sum([n * (percent / 100) ** (extra + 1) for percent, n in losses.items()]) / known
        if miss <= aim:
            break
        worse = miss
    return extra, worse, miss


def _trimmed(losses: dict[int, int], own: int) -> dict[int, int]:
    """`losses` and `own`, without the quarter that tells most; one is always left."""
    told = dict(losses)
    if own != LOSS_UNKNOWN:
        told[own] = told.get(own, 0) + 1
    known = sum(told.values())
    spare = min((known + 3) // 4, known - 1)
    for percent in sorted(told, reverse=True):
        taken = min(spare, told[percent])
        told[percent] -= taken
        spare -= taken
    return told
