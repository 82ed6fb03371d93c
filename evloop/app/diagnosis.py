"""What is wrong with multicast here: evidence in, findings out. Nothing is measured here.

For each of the two directions, what arrived decides first (20 PROBEs of one burst, or 40 of two):

    2 to 19 of 20              ask for one more burst, and judge both, if there is one
    18 of 20, 36 of 40         well
    no long ones, many short   mtu_in, mtu_out
    4 to 35 of 40              loss
    0 or 1 of 20, 3 of 40      the first row of ROWS that holds

A step of the kernel's ladder (see net/counters) was passed when at least half of the bytes of the
burst passed it, beyond what passes it anyway; about half of them tells nothing, and one more burst
is asked for. Counting datagrams instead gave wrong verdicts where
other multicast comes in. What no row can tell apart is said as such (`unknown`): a wrong verdict
costs more than none.
"""

from __future__ import annotations

from collections import namedtuple

from evloop.app.advice import MORE_BUFFER, RULES, UNTOLD, their_words, words
from evloop.app.road_finding import road_words
from evloop.base.names import display

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    Report = dict[str, Any]  # the result of `probed`, and the same of our own side

# topic: what people are shown it under; id: of JSON; level: ok, note, bad, unknown; what, do:
# sentences, `do` is "" when there is nothing to do; evidence: numbers behind it.
Finding = namedtuple("Finding", "topic id level what do evidence")
# A member of the room: its SESSIONs were heard. answered: of my asks; told: its loss in percent or
# None.
Heard = namedtuple("Heard", "name answered told")

BURST = 20
BURST_BYTES = 13_110  # with the headers of IP and UDP
WELL, LOSS, MTU = "well", "loss", "mtu"
STEPS = ("wire", "ip", "mcast", "rp_filter", "rcvbuf")


class Evidence:
    """All that was found out. What was not, or is not told here, is as it stands below."""

    __slots__ = (
        "address",
        "all_names",
        "asked",
        "beside",
        "can_ask",
        "connect_error",
        "counted",
        "denied",
        "endpoint",
        "fresh",
        "here",
        "interface",
        "ipv6",
        "known_before",
        "members",
        "mine",
        "neighbour",
        "no_probe",
        "on_link",
        "prefix",
        "querier",
        "reached_by",
        "reason",
        "receive_buffer",
        "relay",
        "road",
        "room",
        "round_trip_s",
        "seen_as",
        "silent",
        "their_address",
        "theirs",
        "tls",
        "ttl",
        "wall_off_s",
    )

    def __init__(self, **told: Any) -> None:
        self.room = ""  # as it was asked for
        self.ipv6 = False  # the group is an IPv6 one
        # this machine
        self.interface = ""  # of the room
        self.address = ""  # its address, "" where it has none
        self.prefix = 0
        self.reason = ""  # why this interface
        self.all_names: Sequence[tuple[str, str]] = ()  # other interfaces, and why not those
        self.ttl = 1
        self.querier: int | None = None  # the version of IGMP of the last querier
        self.receive_buffer = (0, 0)  # bytes: granted, asked for
        self.denied = ""  # the system keeps this program from the local network, in its words
        # the directory
        self.endpoint = ""
        self.connect_error = ""  # why it was not reached
        self.silent = False  # it did not answer, or not even at link level
        self.neighbour: int | None = None  # its flags in the table of neighbours
        self.on_link = True  # it is of my subnet
        self.round_trip_s = 0.0
        self.tls = False
        self.known_before = False
        self.here = False  # it is this very machine
        self.reached_by = ""  # the interface
        self.seen_as = ""  # my address as it sees me
        self.their_address = ""
        self.wall_off_s = 0.0  # its clock, and mine
        self.no_probe = ""  # why no probe was made
        self.relay = ""  # what --relay says; "none": it carries no rooms; "": it is not there
        self.road = ""  # that the room takes now, if we are in it
        # what was heard
        self.beside = False  # on the port beside the room's: members cannot be asked
        self.mine: Sequence[Report] = ()  # of each probe of the room
        self.theirs: Sequence[Report] = ()
        self.fresh: Report | None = None  # mine, of a group that nobody had joined
        self.can_ask = False
        self.asked = 0  # asks
        self.counted = 0  # others that the directory counts in the room
        self.members: Sequence[Heard] = ()
        for name, value in told.items():
            setattr(self, name, value)


class Way:
    """One direction: what the senders' reports and the receivers' say of it."""

    __slots__ = ("bursts", "heard", "ladder", "long", "noise", "own", "refused", "sent", "unicast")

    def __init__(self, senders: Iterable[Report], receivers: Sequence[Report]) -> None:
        senders = list(senders)
        self.bursts = len(receivers)
        self.sent = sum(one["sent"] for one in senders)
        self.refused = sum(one["refused"] for one in senders)
        self.heard = sum(one["heard"] for one in receivers)
        self.long = sum(one["heard_long"] for one in receivers)
        self.own = sum(one["own"] for one in receivers)
        self.unicast = sum(one["unicast"] for one in receivers)
        self.ladder = _summed(receivers, "ladder")
        self.noise = _summed(receivers, "noise")

    def share(self, step: str) -> float:
        """How much of what was sent got so far: 0 to 1, and a little around it; 0.0: not told."""
        return self.beyond(step) / (self.bursts * BURST_BYTES)

    def passed(self, step: str) -> bool:
        """Whether at least half of the bytes got so far."""
        return self.share(step) >= 0.5

    @property
    def unclear(self) -> bool:
        """Whether a step was passed by about half of the bytes: something else came in between.
        Or by none, although not even the machine's own come back: then it counted too early, or too
        late, for what does not leave a machine is not lost on the way."""
        share = self.share(self._decides)
        return share < 0.7 and (share > 0.3 or self.own < self.bursts * BURST // 2)

    @property
    def _decides(self) -> str:
        """The step that the bytes came to, and with which the verdict stands and falls."""
        steps = [step for step in ("mcast", "ip", "wire") if self.share(step) > 0.3]
        return steps[0] if steps else "wire" if self.noise["wire"] is not None else "ip"

    def beyond(self, step: str) -> int:
        """How many datagrams more than usual a step that drops has counted."""
        return (self.ladder[step] or 0) - (self.noise[step] or 0)

    @property
    def noisy(self) -> bool:
        """Whether as much else comes in, in the same time, as a burst has."""
        return (self.noise[self._decides] or 0) >= self.bursts * BURST_BYTES

    @property
    def told(self) -> bool:
        """Whether the receiver's system counts at all."""
        return self.ladder["ip"] is not None and self.ladder["mcast"] is not None

    @property
    def percent(self) -> int:
        """Lost."""
        lost: int = 100 * (self.sent - self.heard) // max(self.sent, 1)
        return lost

    def numbers(self) -> dict[str, Any]:
        """The evidence of a finding."""
        return {
            "heard": self.heard,
            "heard_long": self.long,
            "sent": self.sent,
            "refused": self.refused,
            "own": self.own,
            "unicast": self.unicast,
            "ladder": self.ladder,
            "noise": self.noise,
        }


def _summed(reports: Sequence[Report], which: str) -> dict[str, int | None]:
    found: dict[str, int | None] = {}
    for step in STEPS:
        counts = [one[which].get(step) for one in reports]
        found[step] = None if None in counts or not counts else sum(counts)
    return found


def receiving_of(evidence: Evidence) -> Way:
    """From the directory to here."""
    return Way(evidence.theirs, evidence.mine)


def sending_of(evidence: Evidence) -> Way:
    """From here to the directory."""
    return Way(evidence.mine, evidence.theirs)


def verdict(way: Way) -> str:
    """WELL, MTU, LOSS, or "": nothing arrives."""
    short = way.heard - way.long
    if way.heard >= way.sent * 0.9 > 0:
        return WELL
    if not way.long and short >= 8:
        return MTU
    return LOSS if way.heard >= 2 * way.bursts else ""


def undecided(evidence: Evidence) -> bool:
    """Whether one more burst is to be judged with the first."""
    if not evidence.theirs or len(evidence.mine) != 1:
        return False
    ways = (receiving_of(evidence), sending_of(evidence))
    return any(2 <= way.heard < BURST or (way.heard < 2 and way.unclear) for way in ways)


def wants_fresh(evidence: Evidence) -> bool:
    """Whether a fresh group would tell a switch that forgets from a network that drops."""
    if evidence.fresh is not None or not evidence.theirs or not evidence.room:
        return False
    way = receiving_of(evidence)
    return not verdict(way) and _row(way, evidence, "") == "network_drops"


# -- the table: why nothing arrives ---------------------------------------------------------------


def _other_interface(way: Way, evidence: Evidence) -> bool:
    if evidence.here or evidence.reached_by in ("", evidence.interface):
        return False
    return evidence.seen_as != evidence.address


ROWS: tuple[tuple[str, Callable[[Way, Evidence], bool]], ...] = (
    ("their_firewall_out", lambda way, _: 0 < way.sent == way.refused),
    ("wrong_interface", _other_interface),
    ("rp_filter", lambda way, _: way.beyond("rp_filter") >= BURST // 2),
    ("noisy", lambda way, _: way.noisy),
    ("unclear", lambda way, _: way.unclear),
    ("firewall_in", lambda way, _: way.passed("mcast")),
    ("firewall_early", lambda way, _: way.passed("ip") and way.own < way.bursts * BURST // 2),
    ("source_dropped", lambda way, _: way.passed("ip")),
    ("firewall_ingress", lambda way, _: way.passed("wire") and way.told),
    ("other_subnet", lambda _, evidence: not evidence.on_link),
    ("switch_forgets", lambda _, it: it.fresh is not None and it.fresh["heard"] >= BURST // 2),
    ("network_drops", lambda way, _: True),
)
# Of both directions the same: said once.
_SHARED = ("wrong_interface", "other_subnet", "network_drops")


def _row(way: Way, evidence: Evidence, they: str) -> str:
    """The first row that holds; `they`: the directory hears nothing of us."""
    for name, holds in ROWS:
        if they and name in ("their_firewall_out", "switch_forgets"):
            continue
        if holds(way, evidence):
            return name
    raise AssertionError("the last row always holds")


# -- one direction as a finding -------------------------------------------------------------------

_BAD_FROM_PERCENT = 50


def _loss(way: Way, evidence: Evidence, they: bool) -> tuple[str, str, str, str]:
    """(id, level, sentence, what to do) of what arrives in part."""
    level = "bad" if way.percent >= _BAD_FROM_PERCENT else "note"
    whose = "there" if they else "here"
    own_lost = BURST * way.bursts - way.own  # nothing but this machine is on their way
    inside = own_lost > 2 or way.beyond("rcvbuf") > 0
    begin = f"{way.percent} % of what " + ("you send" if they else "the directory sends")
    name = ("they_" if they else "") + ("loss_here" if inside else "loss_in")
    if not inside:
        return name, level, f"{begin} is lost on the way; the room repairs it", ""
    granted, asked = evidence.receive_buffer
    buffer = "" if they or not granted else (
        f" (granted {granted // 1000} kB of {asked / 2**20:g} MiB)"
    )  # fmt: skip
    what = f"{begin} is lost inside the machine {whose}: it is busy, or its socket buffer is small"
    return name, level, what + buffer, ("there: " if they else "") + MORE_BUFFER


def _way_finding(topic: str, way: Way, evidence: Evidence, they: bool) -> Finding:
    """One direction as one finding."""
    came = f"{way.heard} of {way.sent} " + ("heard by the directory" if they else "came")
    judged = verdict(way)
    numbers = way.numbers()
    if judged == WELL:
        return Finding(topic, topic, "ok", came, "", numbers)
    if they and evidence.ttl == 0:
        return Finding(topic, "ttl_0", "bad", f"{came}: TTL 0 does not leave this machine",
                       "leave out --ttl 0 (and EVLOOP_TTL)", numbers)  # fmt: skip
    if they and 0 < way.sent == way.refused:
        what = f"{came}: this machine's firewall does not let it send to the group (output)"
        return Finding(topic, "firewall_out", "bad", what,
                       "nft list ruleset, and look at its output chains", numbers)  # fmt: skip
    if judged == MTU:
        what = f"{came}: datagrams over 1,000 bytes do not pass; an MTU differs on the way"
        row = "mtu_out" if they else "mtu_in"
        return Finding(topic, row, "bad", what, "one MTU on all of the way; ping -M do -s 1400 HOST"
                       " finds where", numbers)  # fmt: skip
    if judged == LOSS:
        row, level, what, do = _loss(way, evidence, they)
        return Finding(topic, row, level, f"{came}: {what}", do, numbers)
    row = _row(way, evidence, "they_" if they else "")
    what, do = (their_words if they else words)(row, way, evidence)
    level = {"noisy": "note", "unclear": "unknown"}.get(row, "bad")
    if row == "network_drops" and not way.told:
        level, what, do = "unknown", f"why, {UNTOLD}" + (" there" if they else ""), ""
    name = row if not they or row in ("wrong_interface", "other_subnet") else f"they_{row}"
    return Finding(topic, name, level, f"{came}: {what}", do, numbers)


# -- all of it -------------------------------------------------------------------------------------


def diagnose(evidence: Evidence) -> list[Finding]:
    """The findings, in the order in which they are told."""
    if evidence.denied:  # nothing can leave, so whatever else is missing is a consequence
        return [_interface(evidence)]
    found = [_interface(evidence), _directory(evidence)]
    found += _isolated(evidence)
    if evidence.theirs:
        found += _both_ways(evidence)
    else:
        found += _unproven(evidence)
    found += _twin(evidence)
    found += _members(evidence, any(one.level == "bad" for one in found))
    found += _querier(evidence)
    found += _clock(evidence)
    what, do = road_words(evidence, found)
    if what:
        numbers = {"relay": evidence.relay, "road": evidence.road}
        found.append(Finding("road", "road", "ok", what, do, numbers))
    return found


def _interface(evidence: Evidence) -> Finding:
    if evidence.denied:
        return Finding("interface", "local_network_denied", "bad", evidence.denied, "", {})
    where = evidence.address
    if evidence.prefix:
        where += f"/{evidence.prefix}"
    what = ", ".join(word for word in (evidence.interface, where) if word)
    what += f": {evidence.reason}" if evidence.reason else ""
    nots = ", ".join(f"{name} ({why})" for name, why in evidence.all_names)
    what += f"; not {nots}" if nots else ""
    numbers = {"interface": evidence.interface, "address": evidence.address}
    return Finding("interface", "interface", "ok", what, "", numbers)


def _directory(evidence: Evidence) -> Finding:
    numbers: dict[str, Any] = {"endpoint": evidence.endpoint}
    if not evidence.endpoint:
        what = "no directory is connected, so nothing proves that anything arrives here"
        return Finding("directory", "directory", "unknown", what, "connect HOST[:PORT]", numbers)
    if evidence.connect_error:
        what = f"{evidence.endpoint} is not reached: {evidence.connect_error}"
        return Finding("directory", "directory", "bad", what, "", numbers)
    what = f"{evidence.endpoint}, {evidence.round_trip_s * 1e3:.1f} ms"
    if evidence.tls:
        known = "known before" if evidence.known_before else "not known before"
        what += f"; TLS, the certificate {known}"
    if evidence.here:
        what += "; on this very machine: it proves nothing of the network; run doctor elsewhere too"
    numbers["round_trip_ms"] = round(evidence.round_trip_s * 1e3, 1)
    return Finding("directory", "directory", "ok", what, "", numbers)


def _isolated(evidence: Evidence) -> list[Finding]:
    if not evidence.connect_error or not evidence.silent or not evidence.on_link:
        return []
    if evidence.neighbour != 0:
        return []
    what = (
        f"{evidence.their_address} does not even answer at link level: it is off, on another VLAN,"
        " or Wi-Fi keeps its guests apart"
    )
    do = "a cable, a hotspot, or another access point without client isolation"
    return [Finding("directory", "isolated", "bad", what, do, {"arp_flags": evidence.neighbour})]


def _both_ways(evidence: Evidence) -> list[Finding]:
    receiving = _way_finding("receiving", receiving_of(evidence), evidence, False)
    sending = _way_finding("sending", sending_of(evidence), evidence, True)
    if sending.id.removeprefix("they_") == receiving.id and receiving.id in _SHARED:
        what = f"{receiving.what}; nor does the directory hear you"
        return [receiving._replace(what=what)]
    return [receiving, sending]


def _unproven(evidence: Evidence) -> list[Finding]:
    """Nobody counts with us: what this machine alone can tell."""
    if not evidence.mine:
        why = evidence.no_probe
        return [Finding("receiving", "receiving", "unknown", why, "", {})] if why else []
    mine = evidence.mine[0]
    way = Way([mine], [{**mine, "heard": mine["own"]}])
    numbers = way.numbers()
    if 0 < way.sent == way.refused:
        what = "this machine's firewall does not let it send to the group (output)"
        return [Finding("sending", "firewall_out", "bad", what,
                        "nft list ruleset, and look at its output chains", numbers)]  # fmt: skip
    if way.own < 2 <= way.sent:
        what = "not even this machine's own datagrams come back: its firewall drops them"
        return [Finding("receiving", "firewall_in", "bad", what, RULES[evidence.ipv6], numbers)]
    why = evidence.no_probe or "without a directory nothing proves it"
    what = f"this machine hears itself ({way.own} of {way.sent}); whether others are heard: {why}"
    return [Finding("receiving", "receiving", "unknown", what, "", numbers)]


def _twin(evidence: Evidence) -> list[Finding]:
    mine = evidence.address
    there = sum(one["foreign"].get(mine, 0) for one in evidence.theirs)
    here = sum(one["foreign"].get(mine, 0) for one in evidence.mine)
    able = sum(one["own"] for one in evidence.mine) >= BURST // 2  # what I send does come back
    if not mine or not there or here or not able or evidence.here:
        return []
    what = f"another machine uses your address {mine}"
    do = "have the address of one of them changed (ip neighbour, elsewhere, shows both)"
    return [Finding("interface", "twin_address", "bad", what, do, {"heard": there})]


def _members(evidence: Evidence, broken: bool) -> list[Finding]:
    if not evidence.room:
        return []
    if not evidence.can_ask:
        what = "who is in this room cannot be asked"
        return [Finding("members", "members", "unknown", what, "", {})]
    found = []
    well = [one for one in evidence.members if one.answered]
    for one in evidence.members:
        if not one.answered:
            name = display(one.name)
            what = f"you hear {name}, {name} does not hear you"
            found.append(
                Finding("members", "member_deaf", "bad", what, f"run doctor at {name}'s", {
                    "name": one.name, "asked": evidence.asked, "answered": 0,
                })
            )  # fmt: skip
    if well:
        found.insert(0, _well(well, evidence))
    unheard = evidence.counted - len(evidence.members)
    if unheard > 0:
        found.append(_unheard(unheard, evidence, broken))
    elif not evidence.members:
        what = "nobody else is in this room" if evidence.counted == 0 else "nobody was heard"
        found.append(Finding("members", "members", "ok", what, "", {"counted": 0}))
    return found


def _well(well: Sequence[Heard], evidence: Evidence) -> Finding:
    said = []
    for one in well[:8]:
        name = display(one.name)
        loss = "" if one.told is None else f"; loss there {one.told} %"
        asks = f"{one.answered} of {evidence.asked} asks"
        said.append(f"{name} hears you and you hear {name} ({asks}{loss})")
    if len(well) > 8:
        said.append(f"and {len(well) - 8} more")
    numbers = {"asked": evidence.asked, "answered": {one.name: one.answered for one in well[:64]}}
    return Finding("members", "members", "ok", "; ".join(said), "", numbers)


def _unheard(unheard: int, evidence: Evidence, broken: bool) -> Finding:
    more = "1 more is" if unheard == 1 else f"{unheard} more are"
    what = f"{more} in the room by the directory's count and was not heard"
    what = what.replace("and was", "and were") if unheard > 1 else what
    if broken:
        do = "mend the above first"
    elif evidence.theirs:
        what += "; all is well with the directory: between you and them (client isolation?)"
        do = "run doctor there"
    else:
        do = "run doctor there"
    numbers = {"counted": evidence.counted, "heard": len(evidence.members)}
    return Finding("members", "member_unheard", "unknown", what, do, numbers)


def _querier(evidence: Evidence) -> list[Finding]:
    version = evidence.querier
    if version is None or evidence.ipv6:
        return []
    if version < 3:
        what = f"an IGMP v{version} querier spoke in the last 260 s"
    else:
        what = "no IGMP querier has spoken, or one of version 3; --watch 130 finds out which"
    return [Finding("querier", "querier", "note", what, "", {"version": version})]


_CLOCK_S = 2.0


def _clock(evidence: Evidence) -> list[Finding]:
    off = evidence.wall_off_s
    if abs(off) <= _CLOCK_S:
        return []
    what = f"the clocks differ by {abs(off):.0f} s; only times of history look odd"
    return [Finding("clock", "clock", "note", what, "", {"seconds": round(off)})]
