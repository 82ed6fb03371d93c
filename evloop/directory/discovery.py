"""Find the directories of this network by multicast DNS (RFC 6762, 6763): what is asked and judged.

No socket and no clock is here: `browser` brings the datagrams and sends what is to be asked.

    time since the start   what happens
    0, 120, 360 ms         PTR of `_evloop._tcp.local` is asked on every link
    120 ms                 if nothing was found: once more from port 5353, so that the answer is
                           multicast, which more firewalls let in
    100 ms after the first what a directory still lacks is asked for, once
    word of it
    800 ms                 the search is over

A directory is complete with SRV, TXT and an address. All that is in an answer is a claim of anybody
on the link. So a datagram counts only from port 5353, and by unicast only from an address on the
link's own subnet; a search keeps FOUND_MAX directories, FOUND_PER_SOURCE_MAX of one source and
FOUND_ADDRESSES_MAX addresses of each.
"""

from __future__ import annotations

from collections import namedtuple

from evloop.base.addresses import is_link_local, on_link
from evloop.base.names import display, fold
from evloop.directory.announcement import GUEST, SERVER
from evloop.directory.limits import (
    FINGERPRINT_DIGITS_TOLD,
    FOUND_ADDRESSES_MAX,
    FOUND_MAX,
    FOUND_PER_SOURCE_MAX,
    SEARCH_ALONE_S,
    SEARCH_ASKS_S,
    SEARCH_COMPANY_ASKS_S,
    SEARCH_COMPANY_S,
    SEARCH_EVERY_S,
    SEARCH_FILL_S,
    SEARCH_LAST_S,
    SEARCH_LISTEN_S,
    SEARCH_S,
)
from evloop.net import mdns
from evloop.system.timers import NEVER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, NamedTuple

    class Net(NamedTuple):
        number: int
        name: str
        subnets: Sequence[tuple[bytes, int]]

    class Found(NamedTuple):
        id: str
        label: str
        kind: str
        tls: bool
        fp: str
        port: int
        addresses: Sequence[tuple[bytes, int]]
        links: Sequence[str]
        when: float

else:
    # A link that is searched: the kernel's number, the name, (address as bytes, prefix length).
    Net = namedtuple("Net", "number name subnets")
    # A directory. `id`: 16 hex digits, or HOST:PORT of one that tells none; `kind`: "server" or
    # "guest"; `fp`: how its certificate's SHA-256 begins, or ""; `addresses`: (4 or 16 bytes, index
    # of the link for an address that holds on one alone, else 0), the first to be tried first;
    # `links`: names of the interfaces; `when` it was complete.
    Found = namedtuple("Found", "id label kind tls fp port addresses links when")

_GOODBYE = 0  # time to live of a record that is withdrawn


class _Instance:
    """What is known of one announced directory so far."""

    __slots__ = ("asked", "first", "links", "name", "source", "srv", "txt", "when")

    def __init__(self, name: bytes, source: tuple[bytes, int], now: float) -> None:
        self.name = name
        self.source = source  # (address, link) of the first datagram that told of it
        self.links: list[int] = []
        self.srv: tuple[int, bytes] | None = None  # port, name of the host
        self.txt: dict[bytes, bytes] | None = None
        self.first = now
        self.when = NEVER  # when it was complete
        self.asked = False  # for what it lacks


def asks_of(patience: float) -> list[float]:
    """How long after its start a search of `patience` seconds asks.

    Who hosts a directory when nothing is found asks once more just before.
    """
    asks = list(SEARCH_ASKS_S)
    if patience != SEARCH_S:
        while asks[-1] + SEARCH_EVERY_S < patience - SEARCH_LAST_S:
            asks.append(asks[-1] + SEARCH_EVERY_S)
        asks.append(patience - SEARCH_LAST_S)
    return asks


class Search:
    """One search on `nets`. `tls_only`: only directories that speak TLS count. `patience`: how many
    seconds it lasts."""

    __slots__ = (
        "_asks",
        "_hosts",
        "_hosts_else",
        "_instances",
        "_listened",
        "_nets",
        "_out",
        "_over",
        "_tls_only",
    )

    def __init__(
        self,
        nets: Sequence[Net],
        now: float,
        *,
        tls_only: bool = False,
        patience: float = SEARCH_S,
    ) -> None:
        self._nets = {net.number: net for net in nets}
        self._asks = [now + after for after in asks_of(patience)]
        self._listened = now + SEARCH_LISTEN_S
        self._over = now + patience
        self._hosts_else = patience != SEARCH_S
        self._tls_only = tls_only
        self._instances: dict[bytes, _Instance] = {}  # by name in lower case
        self._hosts: dict[bytes, list[tuple[bytes, int]]] = {}  # (address, link it came by)
        self._out: list[tuple[bytes, bool]] = []
        self.handle_timer(now)

    # -- time and questions ----------------------------------------------------------------------

    def over(self, now: float) -> bool:
        """Whether nobody is waited for any more."""
        return now >= self._over

    def next_deadline(self) -> float:
        """When `handle_timer` has something to do."""
        waits = [one.first + SEARCH_FILL_S for one in self._lacking()]
        return min([self._over, self._listened, *self._asks[:1], *waits])

    def handle_timer(self, now: float) -> None:
        """Ask what is due."""
        if self._asks and now >= self._asks[0]:
            while self._asks and now >= self._asks[0]:
                self._asks.pop(0)  # after a pause of this process: once
            self._ask([(mdns.SERVICE, mdns.PTR)])
        if now >= self._listened:
            self._listened = NEVER
            if not self.found():
                self._ask([(mdns.SERVICE, mdns.PTR)], multicast=True)
        for one in self._lacking():
            if now >= one.first + SEARCH_FILL_S:
                one.asked = True
                names = [one.name] if one.srv is None or one.txt is None else []
                if one.srv is not None and not self._hosts.get(one.srv[1].lower()):
                    names.append(one.srv[1])
                self._ask([(name, mdns.ANY) for name in names])

    def _lacking(self) -> list[_Instance]:
        return [
            one
            for one in self._instances.values()
            if one.when == NEVER and not one.asked and one.first + SEARCH_FILL_S < self._over
        ]

    def _ask(self, wanted: list[tuple[bytes, int]], *, multicast: bool = False) -> None:
        questions = [mdns.Question(name, kind, False) for name, kind in wanted]
        message = mdns.Message(0, mdns.QUERY, questions)
        self._out.append((mdns.build(message), multicast))

    def questions(self) -> list[tuple[bytes, bool]]:
        """What is to be sent to the group on every link: (datagram, from port 5353 or from any)."""
        out, self._out = self._out, []
        return out

    # -- answers ---------------------------------------------------------------------------------

    def receive(
        self, data: bytes, source: bytes, port: int, link: int, *, multicast: bool, now: float
    ) -> bool:
        """A datagram from the address `source` (4 or 16 bytes) and `port`, by the link of that
        number; returns whether it was taken. Never raises on bytes."""
        net = self._nets.get(link)
        if net is None or port != mdns.PORT or not (multicast or on_link(source, net.subnets)):
            return False
        try:
            message = mdns.parse(data)
        except mdns.Bad:
            return False
        if not message.flags & mdns.RESPONSE:
            return False
        records = [*message.answers, *message.additional]
        for record in records:  # these say what the others are about
            if record.type == mdns.PTR and record.name.lower() == mdns.SERVICE:
                self._pointed(record, (source, link), now)
        for record in records:
            self._take(record)
        hosts = {one.srv[1].lower() for one in self._instances.values() if one.srv is not None}
        for record in records:
            # A printer's address is none of ours, and would take the room of one that is.
            if record.type in (mdns.A, mdns.AAAA) and record.name.lower() in hosts:
                self._take_address(record, link)
        for one in self._instances.values():
            if one.when == NEVER and self._complete(one):
                one.when = now
                if self._hosts_else:
                    self._hosts_else = False
                    self._asks = sorted([*self._asks, *(now + it for it in SEARCH_COMPANY_ASKS_S)])
        return True

    def _pointed(self, record: mdns.Record, source: tuple[bytes, int], now: float) -> None:
        """There is a directory of that name, or no more."""
        name: Any = record.value
        labels = mdns.labels_of(name)
        if len(labels) != 4 or not name.lower().endswith(mdns.SERVICE):
            return
        key = name.lower()
        if record.ttl == _GOODBYE:
            self._instances.pop(key, None)
            return
        one = self._instances.get(key)
        if one is None:
            same = sum(one.source[0] == source[0] for one in self._instances.values())
            if len(self._instances) >= FOUND_MAX or same >= FOUND_PER_SOURCE_MAX:
                return
            one = self._instances[key] = _Instance(name, source, now)
        if source[1] not in one.links:
            one.links.append(source[1])

    def _take(self, record: mdns.Record) -> None:
        value: Any = record.value
        one = self._instances.get(record.name.lower())
        if one is None or record.ttl == _GOODBYE:
            return
        if record.type == mdns.SRV and one.srv is None and value[2]:
            one.srv = value[2], value[3]
        elif record.type == mdns.TXT and one.txt is None:
            one.txt = mdns.attributes(value)

    def _take_address(self, record: mdns.Record, link: int) -> None:
        value: Any = record.value
        addresses = self._hosts.setdefault(record.name.lower(), [])
        if record.ttl == _GOODBYE:
            addresses[:] = [entry for entry in addresses if entry[0] != value]
        elif (value, link) not in addresses and len(addresses) < FOUND_ADDRESSES_MAX:
            addresses.append((value, link))

    def _complete(self, one: _Instance) -> bool:
        if one.srv is None or one.txt is None:
            return False
        return bool(self._hosts.get(one.srv[1].lower()))

    def found(self) -> list[Found]:
        """The directories that are complete, in the order in which they were."""
        complete = [one for one in self._instances.values() if one.when < NEVER]
        told: dict[tuple[str, str, bool], Found] = {}
        for one in sorted(complete, key=lambda one: one.when):
            found = self._found(one)
            # One that was renamed, or that is announced under two names, is one.
            if found is not None and not (self._tls_only and not found.tls):
                told.setdefault((found.id, found.fp, found.tls), found)
        return list(told.values())

    def _found(self, one: _Instance) -> Found | None:
        """None when what it says of itself makes no sense, or is of another protocol."""
        assert one.srv is not None and one.txt is not None
        port, host = one.srv
        said = {key: value.decode("ascii", "replace") for key, value in one.txt.items()}
        name = b".".join(mdns.labels_of(host)).decode("utf-8", "replace")
        number = said.get(b"id", f"{name}:{port}")
        fp = said.get(b"fp", "") if said.get(b"tls") == "1" else ""
        if b"id" in said and not _is_hex(number, 16):
            return None
        if said.get(b"proto", "1") != "1" or (fp and not _is_hex(fp, FINGERPRINT_DIGITS_TOLD)):
            return None
        kind = GUEST if said.get(b"kind") == GUEST else SERVER
        label = mdns.labels_of(one.name)[0].decode("utf-8", "replace")
        addresses = self._ordered(self._hosts[host.lower()], one)
        if not addresses:
            return None
        names = [self._nets[link].name for link in one.links]
        return Found(number, label, kind, said.get(b"tls") == "1", fp, port, addresses, names,
                     one.when)  # fmt: skip

    def _ordered(self, known: list[tuple[bytes, int]], one: _Instance) -> list[tuple[bytes, int]]:
        """Addresses as they are to be tried: what answered is reachable; then what is near."""

        def rank(entry: tuple[bytes, int]) -> int:
            address, link = entry
            if entry == one.source or (address == one.source[0] and not is_link_local(address)):
                return 0
            if is_link_local(address):
                return 2
            return 1 if on_link(address, self._nets[link].subnets) else 3

        ordered = []
        for address, link in sorted(known, key=rank):
            if not _is_of_one_host(address):
                continue
            entry = address, link if is_link_local(address) else 0
            if entry not in ordered:
                ordered.append(entry)
        return ordered


def _is_hex(text: str, digits: int) -> bool:
    return len(text) == digits and not text.strip("0123456789abcdef")


def _is_of_one_host(address: bytes) -> bool:
    """Not a group's, not everybody's, not loopback's: nobody else's loopback leads to him."""
    if len(address) == 4:
        return 0 < address[0] < 224 and address[0] != 127
    return address[0] != 0xFF and any(address[:15])  # ff00::/8, ::, ::1


# -- which one is taken ----------------------------------------------------------------------------

WAIT, TAKE, SEVERAL, NONE = "wait", "take", "several", "none"
KNOWN, STRANGER, DOUBTFUL = "known", "stranger", "doubtful"


def standing_of(found: Found, known: Mapping[str, tuple[str, str]]) -> str:
    """KNOWN, STRANGER, or DOUBTFUL: it claims to be one that it is not, as far as can be seen.

    `known`: of each id that was met the certificate ("": none) and the name. Doubtful is a TLS
    directory that now says that it speaks none, or announces another certificate, or whose name
    comes with another id.
    """
    if found.id in known:
        fp = known[found.id][0]
        return DOUBTFUL if fp and not (found.tls and fp.startswith(found.fp)) else KNOWN
    name = fold(display(bare_label(found.label)))
    tls = (fold(called) for fp, called in known.values() if fp)
    return DOUBTFUL if name in tls else STRANGER


def choose(
    found: Sequence[Found],
    standing: Callable[[Found], str],
    now: float,
    *,
    over: bool,
    joins: bool,
    wanted: str = "",
) -> tuple[str, Found | None, float]:
    """(what to do, which one, when to look again), of what a search has found by `now`.

    `standing(found)` is KNOWN, STRANGER or DOUBTFUL: one that is not what it was is never taken by
    itself. `joins`: of several the first of all is taken, whoever asks takes the same. `wanted`:
    only the one with that id.

        found             a person, a script         `joins`
        a known one       taken at once              taken at once
        one stranger      taken after 60 ms          taken after 250 ms
        several           when it is over: SEVERAL   taken after 250 ms: a server, the lowest id
        none, or only     when it is over: NONE,     when it is over: NONE
        doubtful ones     SEVERAL of doubtful ones
    """
    if wanted:
        found = [one for one in found if one.id == wanted and standing(one) != DOUBTFUL]
        if found:
            return TAKE, found[0], now
        return (NONE, None, now) if over else (WAIT, None, NEVER)
    fit = [one for one in found if standing(one) != DOUBTFUL]
    known = [one for one in fit if standing(one) == KNOWN]
    if known:
        return TAKE, min(known, key=_rank), now
    alone = len(fit) == len(found) == 1
    if fit and (joins or alone):
        wait = SEARCH_COMPANY_S if joins else SEARCH_ALONE_S
        ready = min(one.when for one in fit) + wait
        if over or now >= ready:
            return TAKE, min(fit, key=_rank), now
        return WAIT, None, ready
    if not over:
        return WAIT, None, NEVER
    return (SEVERAL, None, now) if found and not joins else (NONE, None, now)


def _rank(found: Found) -> tuple[bool, str]:
    return found.kind != SERVER, found.id


def in_order(found: Sequence[Found]) -> list[Found]:
    """As they are listed: servers first, then by id."""
    return sorted(found, key=_rank)


def shown_names(found: Sequence[Found]) -> list[str]:
    """What each is called: its label without the four digits, unless two are alike then."""
    short = [bare_label(one.label) for one in found]
    return [name if short.count(name) == 1 else one.label for name, one in zip(short, found)]


def bare_label(label: str) -> str:
    """A label without the four digits that keep it apart from others of its name."""
    name, _, digits = label.rpartition(" ")
    return name if name and _is_hex(digits, 4) else label
