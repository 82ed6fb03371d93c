"""How a directory announces itself on multicast DNS (RFC 6762): one state machine a link. Pure.

Times are seconds on the caller's monotonic clock, addresses 4 or 16 bytes. A link is an interface,
by the kernel's number; each has names of its own, so that who disputes them on one link disturbs
no other. On each, in this order:

    state     time comes               a question to   one-shot  our name is   addresses
                                       port 5353       question  another's     change
    waiting   0 to 250 ms: -> probing  -               answered  -             -
    probing   three probes, 250 ms     -               answered  renamed,      -
              apart, -> standing                                 -> waiting
    standing  announced twice          answered for    answered  renamed,      announced
                                       all to hear               -> waiting    twice

A link that is made anew, came up or has its carrier back begins as a new one. `close` says goodbye
where something was said. Renamed is: four other random digits; so often at once as
RENAMES_AT_ONCE says, then once in RENAME_EVERY_S, however often others dispute the names.

Answers for all to hear wait 20 to 60 ms, so that several directories do not answer at once and
further questions get the same answer; where a question has more known answers to come (TC) 400 to
500 ms. What the asker knows already, for at least half its time to live, is not said again. On a
link it is once a second at most, but 0.25 s to defend a name (RFC 6762, 6).

One-shot questions come from another port than 5353 (RFC 6762, 6.7). They are answered at once and
to the asker alone, who remembers nothing of it: so a server is found before its names are certain.
An asker whose address is of no subnet of the link is answered for all to hear, like the others:
nobody can have a datagram sent to an address that is elsewhere.

A forged goodbye makes others forget us: what is ours and has less than half its time to live left,
in the answer of another, is said again (6.6).
"""

from __future__ import annotations

from evloop.base.addresses import on_link
from evloop.base.ratelimit import TokenBucket
from evloop.directory.announcement import (
    ALL,
    POINTER,
    UNIQUE,
    asked_for,
    beside,
    host_name,
    known_by,
    label_name,
    label_of,
    picked,
    records_of,
    same,
)
from evloop.directory.limits import (
    ANNOUNCE_DRAW_S,
    ANNOUNCE_EVERY_S,
    ANNOUNCE_TIMES,
    ANSWER_EVERY_S,
    ANSWER_TRUNCATED_S_MAX,
    ANSWER_TRUNCATED_S_MIN,
    ANSWER_WAIT_S_MAX,
    ANSWER_WAIT_S_MIN,
    ASKERS_WAITING_MAX,
    DEFEND_EVERY_S,
    OWN_PROBE_EVERY_S,
    OWN_PROBES,
    RENAME_EVERY_S,
    RENAMES_AT_ONCE,
    SELF_CHECK_S,
    UNICAST_ANSWERS_BURST,
    UNICAST_ANSWERS_PER_S,
    UNICAST_TTL_S,
)
from evloop.net import mdns
from evloop.net.mdns import AAAA, ANY, SERVICE, SRV, TXT, A, Bad, Message, Question, Record
from evloop.system.timers import NEVER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from random import Random
    from typing import Optional, Union

    from evloop.directory.announcement import Records, Service

    # The bytes, the link, whether by IPv6, and to whom: None is the group.
    Datagram = tuple[bytes, int, bool, Optional[tuple[bytes, int]]]
    Event = tuple[str, int, Union[str, bool]]

ANNOUNCED, DEAF = "announced", "deaf"  # events

_DIGITS = 4  # that keep a name apart from others
_CLAIMED = (SRV, TXT, A, AAAA)  # under one name there is one of each


class Place:
    """A link as it is now.

    epoch: another number when others on the link may have forgotten what was said; subnets: (own
    address, bits of the subnet); addresses: those of them that are announced, at least one.
    """

    __slots__ = ("addresses", "epoch", "subnets")

    def __init__(
        self, epoch: int, subnets: Sequence[tuple[bytes, int]], addresses: Sequence[bytes]
    ) -> None:
        self.epoch = epoch
        self.subnets = tuple(subnets)
        self.addresses = tuple(addresses)


class _Link:
    """One link: its names, how far it is with them, and whom it owes an answer."""

    __slots__ = (
        "check_at",
        "digits",
        "due",
        "expected",
        "families",
        "gone",
        "host",
        "label",
        "last",
        "left",
        "place",
        "probes",
        "records",
        "renames",
        "standing",
        "step_at",
        "suffix",
        "truncated",
        "wanted",
    )

    def __init__(self, place: Place, digits: str, suffix: str, renames: TokenBucket) -> None:
        self.place = place
        self.digits = digits  # the end of the label
        self.suffix = suffix  # of the host's name
        self.renames = renames
        self.label = self.host = b""
        self.records: Records = {}
        self.standing = False  # the names are ours
        self.probes = 0  # sent so far
        self.left = 0  # announcements to come ...
        self.gone: list[Record] = []  # ... with what is true no more
        self.step_at = NEVER  # the next probe or announcement
        self.last = -NEVER  # when something was last said for all to hear
        self.wanted: set[int] = set()  # what the next answer holds
        self.families: set[bool] = set()  # who asked for it, by IPv6 or not
        self.due = NEVER
        self.truncated: dict[bytes, tuple[float, set[int]]] = {}  # by who asked; the oldest first
        self.expected = b""  # an announcement of ours, until it has come back
        self.check_at = NEVER

    @property
    def by(self) -> list[bool]:
        """The families of which the link has an address; False is IPv4."""
        return sorted({len(own) == 16 for own, _ in self.place.subnets})

    @property
    def deadline(self) -> float:
        waits = [when for when, _ in self.truncated.values()]
        return min(self.step_at, self.due, self.check_at, *waits)


class Responder:
    """All links of one directory. Give it what comes, and send what it gives."""

    __slots__ = ("_events", "_out", "_own", "_rng", "_service", "_unicast", "bad", "links")

    def __init__(self, service: Service, rng: Random, now: float) -> None:
        self._service = service
        self._rng = rng
        self.links: dict[int, _Link] = {}
        self._own: set[bytes] = set()  # addresses that are announced, by whatever link
        self._out: list[Datagram] = []
        self._events: list[Event] = []
        self._unicast = TokenBucket(UNICAST_ANSWERS_PER_S, UNICAST_ANSWERS_BURST, now)
        self.bad = dict.fromkeys(mdns.REASONS, 0)  # datagrams that were no messages, by reason

    # -- what the caller does ----------------------------------------------------------------------

    def set_links(self, places: Mapping[int, Place], now: float) -> None:
        """From now on these are the links, by number."""
        self._own = {own for place in places.values() for own in place.addresses}
        for index in [index for index in self.links if index not in places]:
            del self.links[index]
        for index, place in places.items():
            old = self.links.get(index)
            if old is None or old.place.epoch != place.epoch:
                self._begin(index, place, old, now)
                continue
            before, old.place = old.place.addresses, place
            if before != place.addresses:
                was = old.records
                self._write(old)
                self._say_anew(old, now)
                # What others still know of a family that is there no more; for the rest the flush
                # bit of what they are told will do.
                old.gone = [
                    record._replace(ttl=0)
                    for kind in (A, AAAA)
                    for record in was[kind]
                    if not old.records[kind] and record.value not in self._own
                ]

    def set_fingerprint(self, fp: str, now: float) -> None:
        """The certificate is another one."""
        self._service.fp = fp
        for link in self.links.values():
            self._write(link)
            self._say_anew(link, now)

    def receive(self, data: bytes, source: bytes, port: int, index: int, now: float) -> None:
        """A datagram from `source` and `port` by the link `index`. Never raises on bytes."""
        link = self.links.get(index)
        if link is None:
            return
        try:
            message = mdns.parse(data)
        except Bad as error:
            self.bad[error.reason] += 1
            return
        near = on_link(source, link.place.subnets)
        if message.flags & mdns.RESPONSE:
            if port == mdns.PORT and near:  # RFC 6762, 11
                if data == link.expected and (len(source) == 16) == link.by[0]:
                    link.expected, link.check_at = b"", NEVER
                self._heard(link, message, now)
        elif port != mdns.PORT and near:
            self._answer_one(link, index, message, (source, port), now)
        elif link.standing:
            self._asked(link, message, source, now)

    def handle_timer(self, now: float) -> None:
        """Do what is due at `now`."""
        for index, link in self.links.items():
            if link.check_at <= now:
                link.check_at = NEVER
                self._events.append((DEAF, index, link.by[0]))
            if link.step_at <= now:
                self._step(link, index, now)
            for source in [it for it, (when, _) in link.truncated.items() if when <= now]:
                wanted = link.truncated.pop(source)[1]
                self._owe(link, wanted, len(source) == 16, max(now, link.last + ANSWER_EVERY_S))
            if link.due <= now:
                self._answer_all(link, index, now)

    def next_deadline(self) -> float:
        """When `handle_timer` has something to do; inf: never, until something comes."""
        return min([link.deadline for link in self.links.values()], default=NEVER)

    def datagrams_to_send(self) -> list[Datagram]:
        """What is to be sent now, taken out."""
        out, self._out = self._out, []
        return out

    def events(self) -> list[Event]:
        """(ANNOUNCED, link, label as text): the names are certain. (DEAF, link, by IPv6): what was
        announced did not come back. Taken out."""
        events, self._events = self._events, []
        return events

    def is_probing(self) -> bool:
        """Whether names are being probed somewhere, which others may dispute in any datagram."""
        return not all(link.standing for link in self.links.values())

    def close(self) -> None:
        """Say goodbye where something was said; nothing is answered any more."""
        for index, link in self.links.items():
            if link.standing:
                gone = [record._replace(ttl=0) for record in picked(link.records, ALL)]
                self._send(link, index, mdns.build(Message(0, mdns.ANSWER, (), gone)), link.by)
        self.links = {}

    # -- names -------------------------------------------------------------------------------------

    def _begin(self, index: int, place: Place, old: _Link | None, now: float) -> None:
        """A new link, or one that may have forgotten; the names, and who disputed them, stay."""
        if old is not None:
            link = _Link(place, old.digits, old.suffix, old.renames)
        else:
            renames = TokenBucket(1 / RENAME_EVERY_S, RENAMES_AT_ONCE, now)
            link = _Link(place, self._service.id[-_DIGITS:], "", renames)
        self.links[index] = link
        self._write(link)
        self._wait(link, now)

    def _write(self, link: _Link) -> None:
        """The names and records of the link, as they are now."""
        service = self._service
        link.label = label_name(label_of(service.name, link.digits))
        link.host = host_name(service.id, link.suffix)
        link.records = records_of(service, link.label, link.host, link.place.addresses)

    def _wait(self, link: _Link, now: float) -> None:
        """Begin to probe after a random time; after a pause, when no rename is left to be spent."""
        link.standing = False
        link.probes = link.left = 0
        link.gone = []
        link.wanted, link.due, link.truncated = set(), NEVER, {}
        link.expected, link.check_at = b"", NEVER
        left = link.renames.level(now)
        pause = 0.0
        if left < 1:
            pause = RENAME_EVERY_S
            link.renames.spend(now, left)  # none: two parts of pauses are not a rename
        link.step_at = now + pause + self._rng.uniform(0, ANNOUNCE_DRAW_S)

    def _rename(self, link: _Link, name: bytes, now: float) -> None:
        """Somebody else has this name of ours."""
        link.renames.take(now)
        digits = f"{self._rng.getrandbits(4 * _DIGITS):0{_DIGITS}x}"
        if name == link.label.lower():
            link.digits = digits
        else:
            link.suffix = f"-{digits}"
        self._write(link)
        self._wait(link, now)

    def _step(self, link: _Link, index: int, now: float) -> None:
        """The next probe or announcement."""
        link.step_at = NEVER
        if not link.standing and link.probes < OWN_PROBES:
            link.probes += 1
            link.step_at = now + OWN_PROBE_EVERY_S
            names = [Question(link.label, ANY, False), Question(link.host, ANY, False)]
            claims = [record._replace(flush=False) for record in picked(link.records, UNIQUE)]
            probe = mdns.build(Message(0, mdns.QUERY, names, (), claims))
            self._send(link, index, probe, link.by)
            return
        if not link.standing:
            link.standing, link.left = True, ANNOUNCE_TIMES
            text = mdns.labels_of(link.label)[0].decode()
            self._events.append((ANNOUNCED, index, text))
        data = mdns.build(Message(0, mdns.ANSWER, (), picked(link.records, ALL) + link.gone))
        if link.left == ANNOUNCE_TIMES:
            link.expected, link.check_at = data, now + SELF_CHECK_S
        self._send(link, index, data, link.by)
        link.last = now
        link.left -= 1
        if link.left:
            link.step_at = now + ANNOUNCE_EVERY_S
        else:
            link.gone = []

    def _say_anew(self, link: _Link, now: float) -> None:
        """What is announced has changed."""
        if link.standing:
            link.left = ANNOUNCE_TIMES
            link.step_at = now

    # -- what others say ---------------------------------------------------------------------------

    def _heard(self, link: _Link, message: Message, now: float) -> None:
        """An answer, or an announcement, of another; or our own, which comes back."""
        if not link.probes:  # nothing is claimed: the probes will find out
            return
        names = (link.label.lower(), link.host.lower())
        for record in (*message.answers, *message.additional):
            name = record.name.lower()
            if name in names:
                if self._is_ours(link, record):
                    self._defend(link, record, now)
                elif record.ttl and record.type in _CLAIMED:
                    self._rename(link, name, now)
                    return
            elif name == SERVICE and same(record, link.records[POINTER][0]):
                self._defend(link, record, now)

    def _is_ours(self, link: _Link, record: Record) -> bool:
        """Whether it says what we say; of addresses: on whatever link, two may be one network."""
        if record.type in (A, AAAA):
            return record.value in self._own and record.name.lower() == link.host.lower()
        return any(same(record, mine) for mine in link.records.get(record.type, ()))

    def _defend(self, link: _Link, record: Record, now: float) -> None:
        """Say again what others would soon forget because of `record` (RFC 6762, 6.6)."""
        for key in ALL if link.standing else ():
            for mine in link.records[key]:
                if same(record, mine) and 2 * record.ttl < mine.ttl:
                    for ipv6 in link.by:
                        self._owe(link, {key}, ipv6, self._in_turn(link, now, ANSWER_EVERY_S))

    # -- what others ask ---------------------------------------------------------------------------

    def _answer_one(
        self, link: _Link, index: int, message: Message, to: tuple[bytes, int], now: float
    ) -> None:
        """Answer a resolver that knows no multicast DNS (RFC 6762, 6.7)."""
        keys = asked_for(link.records, message.questions)
        if not keys or not self._unicast.take(now):
            return
        answers, additional = [
            [
                record._replace(flush=False, ttl=min(record.ttl, UNICAST_TTL_S))
                for record in picked(link.records, part)
            ]
            for part in (keys, beside(keys))
        ]
        ours = [it for it in message.questions if asked_for(link.records, [it])]
        answer = Message(message.id, mdns.ANSWER, ours, answers, (), additional)
        self._out.append((mdns.build(answer, legacy=True), index, len(to[0]) == 16, to))

    def _asked(self, link: _Link, message: Message, source: bytes, now: float) -> None:
        """A question that is answered for all to hear, or the rest of what its asker knows."""
        ipv6 = len(source) == 16
        known = known_by(link.records, message.answers)
        if source in link.truncated:
            link.truncated[source][1].difference_update(known)
        keys = asked_for(link.records, message.questions) - known
        if not keys:
            return
        if message.flags & mdns.TRUNCATED:
            if len(link.truncated) >= ASKERS_WAITING_MAX:  # answer the oldest without the rest
                _, wanted = link.truncated.pop(next(iter(link.truncated)))
                self._owe(link, wanted, ipv6, self._in_turn(link, now, ANSWER_EVERY_S))
            wait = self._rng.uniform(ANSWER_TRUNCATED_S_MIN, ANSWER_TRUNCATED_S_MAX)
            when, wanted = link.truncated.get(source, (now + wait, set()))
            link.truncated[source] = when, wanted | keys
            return
        # A probe for a name of ours ends before the next second does.
        every = DEFEND_EVERY_S if message.authority else ANSWER_EVERY_S
        self._owe(link, keys, ipv6, self._in_turn(link, now, every))

    def _in_turn(self, link: _Link, now: float, every: float) -> float:
        """When the next answer for all to hear may be."""
        wait = self._rng.uniform(ANSWER_WAIT_S_MIN, ANSWER_WAIT_S_MAX)
        return max(now + wait, link.last + every)

    def _owe(self, link: _Link, keys: set[int], ipv6: bool, when: float) -> None:
        link.wanted |= keys
        if keys:
            link.families.add(ipv6)
            link.due = min(link.due, when)

    def _answer_all(self, link: _Link, index: int, now: float) -> None:
        keys, link.wanted, link.due = link.wanted, set(), NEVER
        families, link.families = link.families & set(link.by), set()
        answers, additional = picked(link.records, keys), picked(link.records, beside(keys))
        data = mdns.build(Message(0, mdns.ANSWER, (), answers, (), additional))
        link.last = now
        self._send(link, index, data, sorted(families))

    def _send(self, link: _Link, index: int, data: bytes, families: Sequence[bool]) -> None:
        self._out += [(data, index, ipv6, None) for ipv6 in families]
