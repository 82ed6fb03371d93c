"""Telling the room what I hold, and when: rules 2, 3 and 13.

A member that must know whether all others hold its messages asks for confirmation (`Confirm`). A
PROBE of `doctor` asks likewise, only to be heard:

    state      ask                   all confirmed    the time is up
    quiet      -> asking, due now    -                -
    asking     stays                 -> quiet         ask again, wait twice as long

A member that answers waits a random time first, so that N answers do not come at once, and one
SESSION answers all who asked meanwhile. A stranger's datagram is answered by everybody, so each
member sends one answer a second (ANSWERS_PER_S) to all strangers together, and one to all members
of standing together.

A SESSION goes out for one of these reasons, and one SESSION serves all that are due:

    reason          when                                     may be suppressed
    Trickle         its point, unless I am behind (BEHIND_S) yes, by an equal digest
    presence        T after my last one, jittered            no
    others are new  AGAIN_S and a drawn wait after the last  no
    an ask of mine  with back-off, until all have confirmed  no
    an ask to me    a drawn wait later                       no

In a small room everybody greets a newcomer. In a larger one the members that came together would
know each other only after T, so each tells again that it is here when no other one comes any more;
who has been here for YOUNG_S does not, and a newcomer learns of those in their turn. Where
nothing is lost, who has come last has told all others by its first word, and tells it no more.

As long as a member has heard nothing, the list in its SESSION is empty, which asks the others to
tell what there is (it solicits). The list is long after such a solicitation, or when a digest
differs for EXPLAIN_S and neither the lists heard nor own changes explain that; then after twice as
long, and so on up to WONDER_S_MAX, as long as my own digest stays the same.
"""

from __future__ import annotations

from evloop.base.ratelimit import TokenBucket
from evloop.room.reliable.limits import (
    AGAIN_MEMBER_S,
    AGAIN_S,
    AGAIN_TIMES,
    ANSWERS_BURST,
    ANSWERS_MEMBERS_BURST,
    ANSWERS_PER_S,
    ANSWERS_YOUNG_BURST,
    BEHIND_S,
    CONFIRM_ASKERS_MAX,
    CONFIRM_BACKOFF_S_MAX,
    CONFIRM_MEMBER_S,
    CONFIRM_S_MIN,
    EXPLAIN_S,
    GREETED_MEMBERS_MAX,
    OVERTAKEN_S,
    PROBE_ANSWERS,
    PROBES_REMEMBERED_MAX,
    SESSION_ENTRIES,
    SESSION_ENTRIES_MAX,
    STANDING_S,
    TRICKLE_DELAYS,
    TRICKLE_S_MIN,
    WONDER_S_MAX,
    WORD_LATER_S,
    WORDS_BURST,
    WORDS_PER_S,
    YOUNG_S,
)
from evloop.room.reliable.packets import ASKER, NACK, NOBODY, session_body
from evloop.system.timers import NEVER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from random import Random

    from evloop.room.reliable.delay import Delay
    from evloop.room.reliable.egress import Egress
    from evloop.room.reliable.estimators import LossMeter
    from evloop.room.reliable.membership import Membership
    from evloop.room.reliable.message_log import MessageLog
    from evloop.room.reliable.packets import Fields, Range
    from evloop.room.reliable.suppression import Trickle


def answer_window(members: int) -> float:
    """Seconds within which all `members` answer."""
    return max(CONFIRM_S_MIN, CONFIRM_MEMBER_S * members)


class Confirm:
    """Confirmation for one session: asking for it, and answering those who ask."""

    __slots__ = (
        "_leave",
        "_prober",
        "_probes",
        "_rng",
        "_wait",
        "_young",
        "_young_until",
        "answer_due",
        "ask_due",
        "askers",
    )

    def __init__(self, rng: Random, now: float = 0.0) -> None:
        self._rng = rng
        # Buckets of answers: [0] for all strangers, [1] for all members of standing.
        self._leave = (
            TokenBucket(ANSWERS_PER_S, ANSWERS_BURST, now),
            TokenBucket(ANSWERS_PER_S, ANSWERS_MEMBERS_BURST, now),
        )
        # To those that are new here while I am: SESSIONs teach the members of a young room what
        # they lose.
        self._young = TokenBucket(ANSWERS_PER_S, ANSWERS_YOUNG_BURST, now)
        self._young_until = now + STANDING_S
        self._wait = 0.0
        self.ask_due = NEVER
        self.answer_due = NEVER
        # asker: when its ask was sent (us of its clock), and heard; None: it did not tell
        self.askers: dict[bytes, tuple[int, float] | None] = {}
        self._prober = NOBODY  # of the askers, who probes: the echo is all that it is told
        self._probes: dict[tuple[bytes, int], None] = {}  # (asker, nonce) that were answered

    def start(self, now: float) -> None:
        """Begin to ask, unless this member is asking already."""
        if self.ask_due == NEVER:
            self.ask_due = now
            self._wait = 0.0

    def asked(self, now: float, delay: float, members: int) -> None:
        """An ask was sent: wait until all answers can have come; twice as long next time."""
        patience = answer_window(members) + 4 * delay
        self._wait = min(max(2 * self._wait, patience), max(CONFIRM_BACKOFF_S_MAX, patience))
        self.ask_due = now + self._wait

    def stop(self) -> None:
        """All have confirmed: ask no more."""
        self.ask_due = NEVER

    def asked_by(
        self,
        asker: bytes,
        now: float,
        members: int,
        standing: bool = False,
        sent: int | None = None,
        greets: bool = False,
    ) -> None:
        """Somebody wants to know what I hold; its ask was sent at `sent` us of its clock. `greets`:
        it is new here, and did not ask.

        One answer serves all who ask until it is sent. There is one answer a second: when the
        bucket is empty, an ask waits for it.
        """
        if asker in self.askers or len(self.askers) < CONFIRM_ASKERS_MAX:
            self.askers[asker] = self.askers.get(asker) if sent is None else (sent, now)
        if self.answer_due == NEVER:
            young = greets and now < self._young_until
            leave = self._young if young else self._leave[standing]
            leave.level(now)
            start = max(now, leave.when())
            leave.spend(now, 1)
            self.answer_due = start + answer_window(members) * self._rng.random()

    def answer(self, due: float) -> None:
        """Answer somebody who did not ask, at `due` or when an answer is due already."""
        if self.answer_due == NEVER:
            self.answer_due = due

    def probed(self, asker: bytes, nonce: int, sent: int, now: float, members: int) -> bool:
        """A PROBE asks who hears it: each nonce is answered once, as an ask of a stranger.

        In a large room a part of the members answers. Whether this one does.
        """
        if (asker, nonce) in self._probes:
            return False
        self._probes[asker, nonce] = None
        if len(self._probes) > PROBES_REMEMBERED_MAX:
            del self._probes[next(iter(self._probes))]
        if self._rng.random() * members >= PROBE_ANSWERS:
            return False
        self.asked_by(asker, now, members, False, sent)
        if asker in self.askers:
            self._prober = asker
        return True

    def echo(self, now: float) -> tuple[bytes, int, int] | None:
        """(asker, when it asked, us held since) for an answer that goes out now; None: no asker
        told when. Whoever probes comes first."""
        for asker in (self._prober, *self.askers):
            told = self.askers.get(asker)
            if told is not None:
                return asker, told[0], int((now - told[1]) * 1e6) & 0xFFFFFFFF
        return None

    def answered(self) -> None:
        """A SESSION was sent: it answers all who asked until now."""
        self.answer_due = NEVER
        self.askers = {}
        self._prober = NOBODY


class Announcer:
    """Decides when this member sends a SESSION, and what stands in it."""

    __slots__ = (
        "_again",
        "_again_due",
        "_again_needed",
        "_behind_since",
        "_confirm",
        "_delay",
        "_egress",
        "_long_list",
        "_loss",
        "_message_log",
        "_mute_until",
        "_patience",
        "_presence",
        "_puzzle",
        "_rng",
        "_solicit",
        "_spoke",
        "_trickle",
        "_turns",
        "_unexplained",
        "_wonder",
        "_wonder_from",
        "_word_again",
        "_word_due",
        "_words",
        "_young_until",
        "names_itself",
        "soliciting",
    )  # fmt: skip

    def __init__(
        self,
        trickle: Trickle,
        confirm: Confirm,
        message_log: MessageLog,
        presence: Membership,
        loss: LossMeter,
        delay: Delay,
        egress: Egress,
        rng: Random,
        now: float = 0.0,
    ) -> None:
        self._trickle = trickle
        self._confirm = confirm
        self._message_log = message_log
        self._presence = presence
        self._loss = loss
        self._delay = delay
        self._egress = egress
        self._rng = rng
        self._behind_since = NEVER  # or since my last SESSION, when that is later
        self.names_itself = False  # even a list that solicits tells what I have said myself
        self.soliciting = True  # no member has told yet which messages there are
        self._solicit = False  # the next list is empty: everybody is to say what there is
        self._long_list = False  # the next list has up to SESSION_ENTRIES_MAX
        self._unexplained = NEVER  # since when a digest differs without a reason
        self._puzzle = 0  # my digest when that was last so
        self._wonder = EXPLAIN_S  # so long after `_wonder_from` the next list is long
        self._wonder_from = NEVER
        self._turns = False  # in that list mostly those that have not changed lately
        self._spoke = -NEVER  # my last SESSION
        self._patience = 1.0  # jitter of the presence interval
        self._words = TokenBucket(WORDS_PER_S, WORDS_BURST, now)  # against datagrams in my name
        self._word_due = NEVER  # the next of these
        self._word_again = False  # and another one later
        self._mute_until = -NEVER  # the cap forbids a SESSION before
        self._young_until = now + YOUNG_S
        self._again = AGAIN_TIMES  # so often I may still tell newcomers that I am here
        self._again_due = NEVER
        self._again_needed = False  # somebody came after me

    # -- what is heard ---------------------------------------------------------------------------

    def heard_equal(self, listed: int, now: float) -> bool:
        """A SESSION with my digest and `listed` senders came: it said what I would have said,
        unless I owe somebody a longer list. Whether that moved my deadline."""
        # It tells nothing about a third member whose digest differs: `_unexplained` stays.
        self.soliciting = False
        self._message_log.adoption.agreed()
        if self._long_list:
            if listed < min(self._message_log.senders.listed(), SESSION_ENTRIES_MAX):
                return False
            self._long_list = self._turns = False
        return self._trickle.heard_equal(now, self._presence.size())

    def heard_other(self, listed: int, ahead: bool, behind: bool, now: float) -> bool:
        """A SESSION with another digest came; its list of `listed` senders shows that its sender
        is `ahead` of me, or `behind`. Whether nothing has explained such a difference for
        EXPLAIN_S."""
        log = self._message_log
        if listed:
            self.soliciting = False
        elif log.senders.digest:
            self._long_list = True
            behind |= log.senders.holding > 0
        if behind:
            self._trickle.reset(now, self._presence.size())
        if self._puzzle != log.senders.digest:
            self._puzzle = log.senders.digest
            self._wonder = EXPLAIN_S
        if ahead or behind or now < log.changed + EXPLAIN_S:
            self._unexplained = NEVER
            return False
        if self._unexplained == NEVER:
            self._unexplained = self._wonder_from = now
        if now >= self._wonder_from + self._wonder:
            self._wonder_from = now
            self._wonder = min(2 * self._wonder, WONDER_S_MAX)
            self._long_list = self._turns = True
            self._trickle.reset(now, self._presence.size())
        return now >= self._unexplained + EXPLAIN_S

    def posed(self, data: bool, counter: int, datagram: bytes, now: float) -> bool:
        """Somebody sent a datagram with my id: my own word is what counts. It comes when that has
        arrived everywhere, and before anybody asks. `data`: it was DATA, which others drop at a
        word of mine that comes OVERTAKEN_S later; else it has `counter`, and others may believe
        it or not. Whether something is due earlier now."""
        believed = data or self._egress.posed(counter, datagram)
        if not believed or datagram[2] & 0x0F == NACK or not self._words.take(now):
            return False  # (a NACK says nothing of me that I would have to take back)
        self._word_due = min(self._word_due, now + self._delay.value)
        self._word_again |= data
        return True

    def echoed(self, peer: bytes, sent: int, held: int, now: float, standing: bool) -> None:
        """My SESSION sent at `sent` us of my clock came back by `peer`, which held it `held` us."""
        self._delay.echoed(peer, sent, held, now, standing)
        self._trickle.shortest = max(TRICKLE_S_MIN, TRICKLE_DELAYS * self._delay.value)

    def soon(self) -> None:
        """Something about this member has changed: send a SESSION at once."""
        self._spoke = -NEVER

    def probed(self, sender: bytes, fields: Fields, now: float) -> bool:
        """A PROBE; whether I am to answer it. It makes nobody present."""
        nonce, sent, origin, _, _ = fields
        size = self._presence.size()
        return origin == ASKER and self._confirm.probed(sender, nonce, sent, now, size)

    def met(self, sender: bytes, counter: int, greets: bool, now: float) -> None:
        """`sender` was heard for the first time, by its control datagram number `counter`.

        In a small room it is greeted, where members do so. In a larger one, who is as new here
        tells once more that it is here, when no more come. Who is not at its first word tells it
        just then itself, and puts that off no further: it mostly was here before me and heard me,
        so without loss it needs no other word of mine."""
        size = self._presence.size()
        if size <= GREETED_MEMBERS_MAX:
            if greets:
                self._confirm.asked_by(sender, now, size, greets=True)
            return
        more = counter == 0 or self._again_due == NEVER
        if more and now < self._young_until and self._again:
            self._again_due = now + AGAIN_S + AGAIN_MEMBER_S * size * self._rng.random()
            self._again_needed |= counter == 0

    def _tells_again(self, now: float) -> bool:
        """Whether newcomers are to hear now that I am here."""
        if self._again_due > now:
            return False
        if self._again_needed or self._loss.percent(now):  # which may be unknown
            return True
        self._again_due = NEVER
        return False

    def solicit(self) -> bool:
        """Ask everybody what there is, at once: that something is due."""
        self._solicit = True
        self.soon()
        return True

    # -- what is told ----------------------------------------------------------------------------

    def deadline(self) -> float:
        """When to call `handle_timer`."""
        due, presence, confirm = self._trickle.deadline(), self._presence_due(), self._confirm
        if presence < due:
            due = presence
        if confirm.ask_due < due:
            due = confirm.ask_due
        if confirm.answer_due < due:
            # An answer that the byte rate refuses waits for it: else the timer fires without end.
            due = min(due, max(confirm.answer_due, self._mute_until))
        soon = self._word_due if self._word_due < self._again_due else self._again_due
        if soon < due:
            due = min(due, max(soon, self._mute_until))
        return due

    def _presence_due(self) -> float:
        due = self._spoke + self._presence.interval() * self._patience
        return due if due > self._mute_until else self._mute_until

    def handle_timer(self, now: float, behind: bool, ask: bool, name: str) -> None:
        """Send a SESSION if any reason calls for one.

        `behind`: Trickle is to be silent; `ask`: my own ask is due and makes sense now.
        """
        self._behind_since = min(self._behind_since, now) if behind else NEVER
        muted = behind and now < self._behind_since + BEHIND_S
        trickle = self._trickle.handle_timer(now, self._presence.size()) and not muted
        trickle = trickle and self._egress.room.may_tell(now)
        answer = self._confirm.answer_due <= now
        word = self._word_due <= now
        again = self._tells_again(now)
        if trickle or ask or answer or word or again or self._presence_due() <= now:
            if self._egress.may_session(now):
                self._again -= again
                self._say(ask, name, now)
            else:
                self._mute_until = self._egress.session_due()

    def _say(self, ask: bool, name: str, now: float) -> None:
        senders, confirm = self._message_log.senders, self._confirm
        listed: list[Range] = []
        if not self._solicit and (senders.digest or not self.soliciting):
            most = SESSION_ENTRIES_MAX if self._long_list else SESSION_ENTRIES
            first = next(iter(confirm.askers), NOBODY)
            listed = senders.listing(most, first, self._message_log.own.sender, self._turns)
        elif self.names_itself and self._message_log.own.hi:
            own = self._message_log.own
            listed = [(own.sender, own.lo, own.hi)]
        answering = confirm.answer_due <= now
        loss = self._loss
        loss.told = loss.percent(now, self._presence.mean_loss, self._presence.few())
        body = session_body(
            senders.digest,
            self._delay.sending(now),
            (confirm.echo(now) if answering else None) or self._delay.echo(now),
            int(ask),
            loss.told,
            len(self._presence.members) + 1,
            name.encode(),
            listed,
        )
        self._egress.say_session(body, now)
        self._long_list = self._turns = self._solicit = False
        self._spoke = now
        self._again_due = NEVER
        self._again_needed = False
        if self._word_due <= now:
            self._word_due = now + OVERTAKEN_S + WORD_LATER_S if self._word_again else NEVER
            self._word_again = False
        self._behind_since = NEVER
        self._patience = 0.8 + 0.2 * self._rng.random()
        if answering:
            confirm.answered()
