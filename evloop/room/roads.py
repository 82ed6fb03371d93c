"""Which road a room takes: its multicast group, the directory's relay, or both. Pure.

Who enters a room of a directory that relays begins on the relay, so that the first word arrives
wherever the client is, and steps off when multicast is proven. Datagrams that came and the
directory's answers come in; the state, the wish for the directory and what is to be told come out.

    state     sends by   hears by  asks every           goes to
    off       group      group     60 s                 probing on doubt
    probing   relay *    both      3 s for 36 s, 60 s   off (hears, heard), up (hears, not heard),
                                                        full (somebody is not heard)
    up        relay *    group     15 s                 off when heard for 60 s; probing on doubt
    full      relay *    both      15 s                 off when it hears and is heard for 60 s
    alone     relay      relay     60 s                 (no socket could be opened, or none is to)

    *  what tells that we are here goes by the group as well, as a probe (see `relay`)

Any state but alone is off when the link to the directory is lost, and probing when it is back.

hears       somebody was heard by the group, and everybody whom the relay brought lately was brought
            by the group as well since probing began
not heard   by us: of that sender the relay alone brought MISSES_MAX datagrams in a row, and not
            even the leg, until it is known that it is not bound
heard       we are: the directory heard us by the group lately
doubt       too long nothing by the group, or nothing of the last MISSES_MAX datagrams that the
            directory heard there; fewer senders than the directory counts members; or the
            directory has not heard us for too long, or none of our last MISSES_MAX datagrams

Evidence is what the group brought from its sender itself. What the directory's own leg repeated is
none (who is isolated from all but the directory would hear everybody by it), but for senders that
are `bound` to the relay, whom nobody hears otherwise; nor is a repair, which anybody may send. The
directory's ear stands for being heard; each member judges for itself whom it hears.

In a crowd, all of whom come at once, the relay would carry every word of everybody to everybody. So
probing is over, and off begins, as soon as CROWD_SENDERS were heard by the group, each from an
address of its own (many by one address are those whom another directory carries), at least twice as
many as the relay alone has brought, we are heard, and the directory counts more than that. Of two
parts of a room that do not hear each other only the larger can leave the relay so, and what the
smaller says there reaches it by the leg.

A member says at least something in each interval of presence (6 s, in large rooms more), so all
spans here are in proportion to that: to be silent, or to lose ten in a row, is no isolation. In off
and up the directory is asked more often while nothing comes: when others talk, what it heard shows
in seconds what silence alone shows in a minute.
"""

from __future__ import annotations

from collections import namedtuple

from evloop.room.events import Road
from evloop.room.limits import (
    ALONE_ASK_S,
    BOUND_TOLD_S,
    CROWD_ASK_S,
    CROWD_SENDERS,
    DOUBT_AGAIN_S_MAX,
    DOUBT_AGAIN_S_MIN,
    HEARD_INTERVALS,
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
    RECENT_INTERVALS,
    RECENT_S,
    REFUSED_ASK_S,
    RELAYED_ASK_S,
    ROAD_SENDERS_MAX,
    ROUNDED_S,
    SENDERS_INTERVALS,
    SENDERS_S,
    STEADY_S,
)
from evloop.room.reliable.membership import presence_interval
from evloop.system.timers import NEVER

OFF, PROBING, UP, FULL, ALONE = "off", "probing", "up", "full", "alone"
GROUP, LEG, RELAY = range(3)  # by which way a datagram came; LEG: the directory's, by the group

# What the directory is asked for in each state.
WISHES = {OFF: "off", PROBING: "full", UP: "up", FULL: "full", ALONE: "full"}

# Why a state was taken, beside what it says itself: see `Road` in evloop.room.events.
PROVEN, LOST, REFUSED, CHOSEN = "", "lost", "refused", "always"

# The directory's answer: `granted`, one of WISHES' values; `heard`: seconds since it heard us by
# the group, None: never; `members` that it counts here, we among them; `multicast`: whether it is
# in the group itself; `bound`: ids of senders that the group brings by its leg alone; `keeper`: the
# id of its own silent member, or b""; `others`: how many datagrams of others the group has brought
# it so far, but repairs, None: an older one does not tell.
Word = namedtuple("Word", "granted heard members multicast bound keeper others", defaults=(None,))


class _Heard:
    """When a sender was last heard, and by which way; `misses`: by the relay alone, in a row;
    `near`: when the state began in which it was last counted as one of a crowd."""

    __slots__ = ("direct", "first", "leg", "misses", "near", "relay")

    def __init__(self, now: float) -> None:
        self.first = now
        self.direct = self.leg = self.near = self.relay = -NEVER
        self.misses = 0


class Roads:
    """The roads of the member `own` in one room.

    `sockets`: it has some for the group; `always`: it has none because the user wants the relay.
    `state` and `wish` are for reading; `changes` are the events that nobody has fetched yet.
    """

    __slots__ = (
        "_always",
        "_asked",
        "_asked_at",
        "_began",
        "_believe_at",
        "_doubt_wait",
        "_doubted",
        "_due",
        "_evidence_at",
        "_far",
        "_linked",
        "_look_at",
        "_near",
        "_own",
        "_passed",
        "_passed_at",
        "_pending",
        "_quick_until",
        "_refusals",
        "_refused",
        "_said",
        "_sockets",
        "_steady",
        "_told",
        "_word",
        "_word_at",
        "changes",
        "senders",
        "state",
    )

    def __init__(self, own: bytes, *, sockets: bool, always: bool = False) -> None:
        self._own = own
        self._sockets = sockets
        self._always = always
        self.state = OFF if sockets else ALONE
        self.changes: list[Road] = []
        self._told = OFF  # the last state that was an event: not probing
        self._linked = False  # to a directory that relays
        self.senders: dict[bytes, _Heard] = {}  # the one unheard of for longest first
        self._began = -NEVER  # when this state did
        self._word: Word | None = None  # the directory's last one
        self._word_at = -NEVER
        self._due = NEVER  # when to ask the directory again
        self._asked = ""  # the wish of the last question
        self._asked_at = -NEVER  # when that was
        # When we spoke in the group last; a list, because an empty deque has 0.7 kB.
        self._said: list[float] = []
        self._passed = 0  # `others` of the word since which the group has brought nobody
        self._passed_at = -NEVER  # when that came
        self._pending = False  # it is not answered yet
        self._refusals = 0  # questions in a row that the directory has refused
        self._refused = False  # that the directory does not carry us was told
        self._quick_until = -NEVER  # until then probing asks often
        self._look_at = NEVER  # when probing may first be over
        self._steady = NEVER  # since when all is well, in up and full
        # Senders that in this state the group itself has brought, and the relay alone.
        self._near = self._far = 0
        self._evidence_at = -NEVER  # when anybody was last heard by the group
        self._doubted = -NEVER  # when there was last a reason to doubt
        self._doubt_wait = 0.0  # from the last doubt that was believed to the next
        self._believe_at = -NEVER  # a doubt is not believed before

    # -- what comes in -------------------------------------------------------------------------

    def linked(self, now: float) -> None:
        """The directory is connected, perhaps again, and it relays."""
        self._linked, self._pending = True, False
        self._word = None  # of another run of it, perhaps
        self._passed_at = -NEVER
        self._refusals = 0
        if self._sockets:
            self._become(PROBING, now)
        else:
            self._due = now
            self._tell(ALONE, CHOSEN if self._always else PROVEN)

    def lost(self, now: float) -> None:
        """It is away."""
        self._linked = self._pending = False
        if self._sockets and self.state != OFF:
            self._become(OFF, now, LOST)
        self._due = NEVER

    def answered(self, word: Word, now: float) -> None:
        """The directory's answer to the last question."""
        if not self._pending:
            return
        self._pending = False
        self._refusals = 0
        self._word, self._word_at = word, now
        self.senders.pop(word.keeper, None)  # it is no company
        for sender in word.bound:
            heard = self.senders.get(sender)
            if heard is not None and heard.leg >= now - self._recent_s():
                heard.misses = 0
        wish = WISHES[self.state]
        if self._asked != wish:
            self._due = now  # the state is another one by now
        elif word.granted == OFF != wish:
            self._not_carried(now)
        elif wish != OFF:
            self._refused = False
        if self.state == PROBING:
            self._look_while_probing(now)
        elif self.state in (UP, FULL):
            self._look_while_carried(now)
        if self.state in (OFF, UP):
            self._doubt(now, answered=True)

    def unanswered(self, now: float) -> None:
        """The question was refused; it is asked again when its time comes, and soon at first: a
        room that the directory lacks is perhaps being made again."""
        if self._pending:
            self._pending = False
            self._asked_at = now  # that is no time to ask again at once
            self._due = min(self._due, now + REFUSED_ASK_S * 2 ** min(self._refusals, 16))
            self._refusals += 1

    def came(
        self, sender: bytes, repair: bool, road: int, now: float, *, apart: bool = True
    ) -> bool:
        """A datagram of `sender` came by `road`; `repair`: whoever had it may have sent it;
        `apart`: it came from an address that has brought nobody else.

        Return whether the state or what is due may be another one now.
        """
        if repair or sender == self._own:
            return False
        word = self._word
        if word is not None and sender == word.keeper:
            return False
        heard = self.senders.get(sender)
        newcomer = heard is None
        if heard is None:
            heard = self.senders[sender] = _Heard(now)
            if len(self.senders) > ROAD_SENDERS_MAX:
                self._forget(next(iter(self.senders)))
        began = self._began
        if road == RELAY:
            self._far += heard.direct <= began >= heard.relay
            heard.relay = now
            heard.misses += 1
            if heard.misses == MISSES_MAX:
                self._far += heard.direct > began
                self._near -= heard.near == began
                heard.near = -NEVER
                heard.direct = -NEVER  # it is to be heard anew
                self._steady = NEVER
                self._look_at = min(self._look_at, now)
                return self.state == PROBING
        elif road == GROUP:
            self._far -= heard.direct <= began < heard.relay
            heard.direct = self._evidence_at = now
            heard.misses = 0
            more = apart and heard.near != began
            if more:
                heard.near = began
                self._near += 1
            if more and self.state == PROBING and self._hears_crowd():
                self._look_while_probing(now)
                if self.state == PROBING:  # are we heard?
                    self._due = min(self._due, max(now, self._asked_at + CROWD_ASK_S))
                return True
        else:
            heard.leg = now
            bound = word is not None and sender in word.bound
            if bound:
                self._evidence_at = now
            if bound or now < heard.direct + LEG_TRUSTED_S:
                heard.misses = 0
        if newcomer and self.state == PROBING:
            quick, self._quick_until = now < self._quick_until, now + PROBING_QUICK_S
            self._due = min(self._due, now + PROBING_ASK_S)
            return not quick
        return False

    def said(self, now: float) -> None:
        """In off: a datagram of ours goes to the group, and is no repair."""
        self._said.append(now)
        del self._said[:-MISSES_MAX]

    def handle_timer(self, now: float) -> None:
        """Do what is due; calling it early is harmless."""
        if self.state == PROBING:
            self._look_while_probing(now)
        elif self.state in (OFF, UP):
            self._doubt(now, answered=False)

    # -- what comes out ------------------------------------------------------------------------

    @property
    def wish(self) -> str:
        """What the directory is asked for."""
        return WISHES[self.state]

    @property
    def carried(self) -> bool:
        """Whether what we say goes by the directory."""
        return self.state != OFF

    @property
    def relied(self) -> bool:
        """Whether without the directory we lack somebody, or somebody lacks us."""
        return self.state in (UP, FULL, ALONE)

    @property
    def by_both(self) -> bool:
        """Whether what we say goes by the group as well: a directory without multicast does not
        repeat it there."""
        word = self._word
        return self._sockets and word is not None and not word.multicast

    def question(self, now: float) -> str:
        """The wish that the directory is to be told now; "": nothing is due."""
        if not self._linked or self._pending or now < min(self._due, self._quiet_due()):
            return ""
        self._pending = True
        self._asked_at = now
        self._asked = self.wish
        self._due = now + self._ask_interval(now)
        return self._asked

    def next_deadline(self) -> float:
        """When to ask `question` and to call `handle_timer`."""
        if not self._linked:
            return NEVER
        due = NEVER if self._pending else min(self._due, self._quiet_due())
        if self.state == PROBING:
            return min(due, self._look_at)
        if self.state in (OFF, UP) and self._members() > 1:
            quiet = max(self._evidence_at, self._began) + self._quiet_s()
            due = min(due, max(quiet, self._believe_at))
        return due

    def unheard(self, now: float) -> list[bytes]:
        """Ids of senders that the relay alone brings."""
        since = now - self._recent_s()
        missed = [
            (sender, heard)
            for sender, heard in self.senders.items()
            if heard.misses >= MISSES_MAX and heard.relay >= since
        ]
        return [it for it, heard in missed if not self._may_be_bound(heard, since)]

    # -- judging -------------------------------------------------------------------------------

    def _members(self) -> int:
        return self._word.members if self._word is not None else 1

    def _interval(self) -> float:
        return presence_interval(self._members())

    def _recent_s(self) -> float:
        return max(RECENT_S, RECENT_INTERVALS * self._interval())

    def _heard_s(self) -> float:
        return max(HEARD_S, HEARD_INTERVALS * self._interval())

    def _quiet_s(self) -> float:
        """How long nobody at all may be heard: some ten datagrams of the others."""
        others = max(self._members() - 1, 1)
        return min(max(QUIET_S_MIN, 10 * self._interval() / others), QUIET_S_MAX)

    def _quiet_due(self) -> float:
        """When to ask what the directory heard by the group while we hear nobody there: at first
        often, then less and less."""
        word = self._word
        if word is None or word.others is None or word.members < 2 or self.state not in (OFF, UP):
            return NEVER
        since = max(self._evidence_at, self._began)
        wait = max(QUIET_ASK_AGAIN_S, (self._asked_at - since) / 4)
        return max(since + QUIET_ASK_S, self._asked_at + wait)

    def _ask_interval(self, now: float) -> float:
        if self.state == PROBING:
            return PROBING_ASK_S if now < self._quick_until else ALONE_ASK_S
        return {OFF: OFF_ASK_S, ALONE: ALONE_ASK_S}.get(self.state, RELAYED_ASK_S)

    def _evidence(self, sender: bytes, heard: _Heard) -> float:
        """When the group last brought something that `sender` itself sent there, or had sent."""
        bound = self._word is not None and sender in self._word.bound
        return max(heard.direct, heard.leg) if bound else heard.direct

    def _may_be_bound(self, heard: _Heard, since: float) -> bool:
        """Whether the leg brings it, and the directory cannot have said yet that nothing else
        does."""
        return heard.leg >= since and self._word_at < heard.first + BOUND_TOLD_S

    def _hears(self, now: float) -> bool:
        since, anybody = now - self._recent_s(), False
        began = self._began if self.state == PROBING else -NEVER
        for sender, heard in self.senders.items():
            evidence = self._evidence(sender, heard)
            there = -NEVER < evidence >= began and heard.misses < MISSES_MAX
            if heard.relay >= since and not there:
                return False
            anybody |= there
        return anybody

    def _forget(self, sender: bytes) -> None:
        heard, began = self.senders.pop(sender), self._began
        self._near -= heard.near == began
        self._far -= heard.relay > began >= heard.direct

    def _hears_crowd(self) -> bool:
        return self._near >= max(CROWD_SENDERS, 2 * self._far)

    def _is_in_crowd(self) -> bool:
        """Whether the directory counts one as well. (Else a stranger could make one up.)"""
        word = self._word
        counted = word is not None and word.multicast and word.members > CROWD_SENDERS
        return counted and self._hears_crowd()

    def _is_heard(self, lapse: float = 0.0) -> bool:
        word = self._word
        heard = None if word is None else word.heard
        return heard is not None and heard < self._heard_s() + lapse

    def _look_while_probing(self, now: float) -> None:
        word = self._word
        self._look_at = self._began + PROBING_S
        if now < self._look_at:
            if self._is_heard() and self._is_in_crowd():
                self._become(OFF, now)
            return
        self._look_at = NEVER
        if word is None or word.members < 2:
            return
        if self.unheard(now):
            self._become(FULL, now)
        elif word.multicast and (self._is_in_crowd() or self._hears(now)):
            if self._is_heard():
                self._become(OFF, now)
            elif self._word_at >= self._began + self._heard_s():
                self._become(UP, now)  # before that nobody can be called not heard

    def _look_while_carried(self, now: float) -> None:
        """All that is wanted for being off must last."""
        lapse = 0.0 if self._steady == NEVER else HEARD_LAPSE_S  # once begun it takes more
        if not self._is_heard(lapse) or (self.state == FULL and not self._hears(now)):
            self._steady = NEVER
        elif self._steady == NEVER:
            self._steady = now
        elif now >= self._steady + STEADY_S and self._is_heard():
            self._become(OFF, now)

    def _doubt(self, now: float, *, answered: bool) -> None:
        """In off and up: go probing when the group may bring nothing any more."""
        word = self._word
        if word is None or word.members < 2:
            return
        doubt = now >= max(self._evidence_at, self._began) + self._quiet_s()
        if answered:
            doubt |= self._is_passed_by(word, now)
        if answered and not doubt:
            doubt = self._lacks_senders(word, now) or self._lacks_ear(word, now)
        if not doubt:
            return
        if now >= self._doubted + DOUBT_AGAIN_S_MAX:
            self._doubt_wait, self._believe_at = 0.0, -NEVER
        self._doubted = now
        if now >= self._believe_at:
            wait = max(DOUBT_AGAIN_S_MIN, min(2 * self._doubt_wait, DOUBT_AGAIN_S_MAX))
            self._doubt_wait, self._believe_at = wait, now + wait
            self._become(PROBING, now)

    def _is_passed_by(self, word: Word, now: float) -> bool:
        """Whether the group has brought others to the directory, again and again, and not to us."""
        others: int | None = word.others
        if others is None:
            return False
        if self._passed_at <= max(self._evidence_at, self._began) or others < self._passed:
            self._passed, self._passed_at = others, now
            return False
        return others - self._passed >= MISSES_MAX

    def _lacks_senders(self, word: Word, now: float) -> bool:
        """Whether fewer senders are heard than the directory counts."""
        since = now - max(SENDERS_S, SENDERS_INTERVALS * self._interval())
        if self._began > since:
            return False
        heard = sum(self._evidence(one, heard) >= since for one, heard in self.senders.items())
        members: int = word.members
        return heard + 1 < members

    def _lacks_ear(self, word: Word, now: float) -> bool:
        """Whether the directory, which hears others, has not heard us for long."""
        if self.state != OFF or not word.multicast:
            return False
        age: float = word.heard if word.heard is not None else now - self._began
        if age > self._heard_s() + OFF_ASK_S:
            return True
        said, since = self._said, max(now - age, self._began) + ROUNDED_S
        return len(said) == MISSES_MAX and said[0] > since

    # -- changes -------------------------------------------------------------------------------

    def _not_carried(self, now: float) -> None:
        if self._sockets:
            self._become(OFF, now, REFUSED)
        if not self._refused:
            self._refused = True
            if self._told == self.state:  # else that was an event already
                self.changes.append(Road("road", self.state, (), REFUSED))

    def _become(self, state: str, now: float, why: str = PROVEN) -> None:
        self.state = state
        self._began = now
        self._due = now
        self._steady = self._look_at = NEVER
        self._near = self._far = 0
        if state == PROBING:
            self._quick_until = now + PROBING_QUICK_S
            self._look_at = now + PROBING_S
            for heard in self.senders.values():
                heard.misses = 0
            return
        self._tell(state, why, tuple(self.unheard(now)) if state == FULL else ())

    def _tell(self, state: str, why: str, unheard: tuple[bytes, ...] = ()) -> None:
        if state != self._told:
            self._told = state
            self._refused = self._refused or why == REFUSED
            self.changes.append(Road("road", state, unheard, why))
