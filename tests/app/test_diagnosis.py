"""One test for each row of the doctor's table, from evidence recorded in namespaces.

`doctor_recorded.json` is what `python3 -m tests.lab.clinic --record FILE` wrote while 100 other
multicast datagrams a second came in. What could not be made there is made by hand here.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from evloop.app.advice import lines_of, status_of, summary
from evloop.app.diagnosis import (
    BURST,
    BURST_BYTES,
    STEPS,
    Evidence,
    Finding,
    Heard,
    diagnose,
    receiving_of,
    undecided,
    verdict,
    wants_fresh,
)

RECORDED = json.loads((Path(__file__).with_name("doctor_recorded.json")).read_text())
QUIET: dict[str, int] = dict.fromkeys(STEPS, 0)
ALL = {"wire": 13_380, "ip": BURST_BYTES, "mcast": BURST_BYTES, "rp_filter": 0, "rcvbuf": 0}


def report(heard: int = BURST, **more: Any) -> dict[str, Any]:
    """One side's, on a quiet network where all is well unless told."""
    return {
        "sent": BURST,
        "refused": 0,
        "heard": heard,
        "heard_long": heard // 2,
        "own": BURST,
        "unicast": 5,
        "foreign": {},
        "ladder": {**(ALL if heard == BURST else QUIET), **more.pop("ladder", {})},
        "noise": {**QUIET, **more.pop("noise", {})},
        **more,
    }


def evidence(**told: Any) -> Evidence:
    """Of a room with nobody else in it; all is well unless told."""
    known: dict[str, Any] = {
        "room": "lab",
        "interface": "eth0",
        "address": "10.77.0.2",
        "prefix": 24,
        "reason": "the directory is reached by it",
        "endpoint": "10.77.0.1:44444",
        "reached_by": "eth0",
        "seen_as": "10.77.0.2",
        "their_address": "10.77.0.1",
        "can_ask": True,
        "asked": 3,
        "mine": [report()],
        "theirs": [report()],
    }
    return Evidence(**{**known, **told})


def side(numbers: dict[str, Any], other: dict[str, Any]) -> list[dict[str, Any]]:
    """The reports of who heard `numbers`, and sent what `other` says; two where two were made."""
    bursts = other["sent"] // BURST
    whole = {
        **{name: numbers[name] for name in ("heard", "heard_long", "own", "unicast")},
        **{name: other[name] for name in ("sent", "refused")},
        "foreign": {},
        "ladder": numbers["ladder"],
        "noise": numbers["noise"],
    }
    nothing = {**report(0), "sent": 0, "own": 0, "unicast": 0}
    return [whole, *[nothing] * (bursts - 1)]


def recorded(scene: str, **told: Any) -> Evidence:
    """What was measured in both directions in a scene of the clinic."""
    found = {name: one["evidence"] for name, one in RECORDED[scene].items()}
    ways = [one for one in found.values() if "heard_long" in one]
    receiving = ways[0]
    sending = ways[1] if len(ways) > 1 else {**receiving, **told.pop("sending", {})}
    if receiving_is_second(scene):
        receiving, sending = sending, receiving
    return evidence(mine=side(receiving, sending), theirs=side(sending, receiving), **told)


def receiving_is_second(scene: str) -> bool:
    """Objects of the record are sorted by their ids."""
    names = [name for name, one in RECORDED[scene].items() if "heard_long" in one["evidence"]]
    texts = [RECORDED[scene][name]["what"] for name in names]
    return "heard by the directory" in texts[0] and len(texts) > 1


def ids(findings: list[Finding], *levels: str) -> set[str]:
    return {one.id for one in findings if one.level in (levels or ("bad", "note", "unknown"))}


def only(findings: list[Finding], name: str) -> Finding:
    (found,) = [one for one in findings if one.id == name]
    return found


RULE = "sudo nft add rule inet filter input ip daddr 239.0.0.0/8 udp dport 1024-65535 accept"
# scene: (level, words of the sentence, words of what to do, what else was known)
ROWS: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "their_firewall_out": ("bad", "the directory's own firewall keeps it", "output chains", {}),
    "wrong_interface": ("bad", "the directory is reached by eth0, the room uses eth1",
                        "--interface eth0",
                        {"interface": "eth1", "address": "10.99.0.2", "on_link": False}),
    "rp_filter": ("bad", "drops what comes from 10.77.0.1: its route there is another interface",
                  "sysctl -w net.ipv4.conf.all.rp_filter=2", {}),
    "firewall_in": ("bad", "they reach this machine, and its firewall drops them (input)",
                    RULE, {}),
    "firewall_early": ("bad", "drops them early (prerouting, raw)", "prerouting chains", {}),
    "source_dropped": ("bad", "which drops them for their source address", "10.77.0.1", {}),
    "firewall_ingress": ("bad", "between the card and IP (ingress, tc, XDP)", "tc filter", {}),
    "other_subnet": ("bad", "the directory is on another subnet", "--ttl 8", {"on_link": False}),
    "switch_forgets": ("bad", "the switch has forgotten", "IGMP snooping off",
                       {"fresh": report(), "on_link": True}),
    "network_drops": ("bad", "the network does not bring the group here", "querier",
                      {"fresh": report(0)}),
    "firewall_out": ("bad", "does not let it send to the group (output)", "output chains", {}),
    "ttl_0": ("bad", "TTL 0 does not leave this machine", "--ttl 0", {"ttl": 0}),
    "they_firewall_in": ("bad", "the directory does not hear you: the firewall of its machine",
                         f"there: {RULE}", {}),
    "they_firewall_early": ("bad", "early (prerouting, raw); sending itself is well", "there:", {}),
    "they_firewall_ingress": ("bad", "dropped there between the card and IP", "there:", {}),
    "loss_in": ("note", "is lost on the way; the room repairs it", "", {}),
    "they_loss_in": ("note", "of what you send is lost on the way", "", {}),
    "loss_here": ("note", "is lost inside the machine here", "net.core.rmem_max=4194304",
                  {"receive_buffer": (212_992, 4_194_304)}),
}  # fmt: skip


@pytest.mark.parametrize("row", ROWS)
def test_a_row_of_the_table_from_what_was_recorded(row: str) -> None:
    level, words, do, told = ROWS[row]
    findings = diagnose(recorded(row, **told))
    found = only(findings, row)
    assert (found.level, ids(findings)) == (level, {row})
    assert words in found.what
    assert do in found.do and bool(do) == bool(found.do)


def test_well() -> None:
    findings = diagnose(recorded("well"))
    assert not ids(findings)
    assert only(findings, "receiving").what == "20 of 20 came"
    assert only(findings, "sending").what == "20 of 20 heard by the directory"
    assert status_of(findings) == 0


def test_mtu_in_and_out() -> None:
    findings = diagnose(recorded("mtu"))
    assert ids(findings) == {"mtu_in", "mtu_out"}
    for found in findings:
        if found.id.startswith("mtu"):
            assert "datagrams over 1,000 bytes do not pass" in found.what


# -- what the clinic cannot make, or makes in one way only -----------------------------------------


@pytest.mark.parametrize("they", [False, True])
def test_noisy(they: bool) -> None:
    noise = {"wire": 14_000, "ip": 13_600}
    loud = report(0, ladder=dict(noise), noise=noise)
    sides: dict[str, Any] = {"theirs": [loud]} if they else {"mine": [loud], "fresh": report(0)}
    findings = diagnose(evidence(**sides))
    assert ids(findings, "note") == {"they_noisy" if they else "noisy"}
    assert not ids(findings, "bad")


@pytest.mark.parametrize(
    ("row", "ladder", "own"),
    [
        ("rp_filter", {"wire": 13_380, "ip": 13_110, "rp_filter": 20}, 20),
        ("firewall_in", ALL, 0),
        ("firewall_early", {"wire": 13_380, "ip": 13_110}, 0),
        ("source_dropped", {"wire": 13_380, "ip": 13_110}, 20),
        ("firewall_ingress", {"wire": 13_380}, 0),
        ("network_drops", {}, 20),
    ],
)
def test_what_is_found_here_is_found_there_too(row: str, ladder: dict[str, int], own: int) -> None:
    """They hear nothing of me, and their counters say why."""
    findings = diagnose(evidence(theirs=[report(0, ladder=ladder, own=own)]))
    assert ids(findings) == {f"they_{row}"}
    assert only(findings, f"they_{row}").level == "bad"
    assert only(findings, "receiving").level == "ok"


@pytest.mark.parametrize("row", ["other_subnet", "wrong_interface", "network_drops"])
def test_what_both_sides_would_say_is_said_once(row: str) -> None:
    told: dict[str, dict[str, Any]] = {
        "other_subnet": {"on_link": False},
        "wrong_interface": {"reached_by": "eth1", "seen_as": "10.99.0.2"},
    }
    none = report(0)
    findings = diagnose(evidence(mine=[none], theirs=[none], fresh=none, **told.get(row, {})))
    assert ids(findings) == {row}
    assert "nor does the directory hear you" in only(findings, row).what


def test_about_half_of_the_bytes_tells_nothing() -> None:
    half = report(0, ladder={"wire": 6_900, "ip": 6_700, "mcast": 6_500})
    findings = diagnose(evidence(mine=[half]))
    assert ids(findings) == {"unclear"} and not ids(findings, "bad")
    assert undecided(evidence(mine=[half]))


def test_what_its_own_machine_drops_is_not_lost_on_the_way() -> None:
    """Recorded under load: the directory read its counters before the burst came."""
    ladder = {"wire": 3_953, "ip": 3_757}
    late = report(0, own=0, ladder=ladder, noise={"wire": 4_745, "ip": 4_415})
    findings = diagnose(evidence(theirs=[late]))
    assert ids(findings) == {"they_unclear"} and not ids(findings, "bad")
    assert undecided(evidence(theirs=[late]))


def test_a_system_that_does_not_count() -> None:
    blind = report(0, ladder=dict.fromkeys(STEPS), noise=dict.fromkeys(STEPS))
    findings = diagnose(evidence(mine=[blind], fresh=report(0)))
    found = only(findings, "network_drops")
    assert found.level == "unknown" and "this system does not tell" in found.what


@pytest.mark.parametrize("heard", range(BURST + 1))
def test_one_burst_or_two(heard: int) -> None:
    """All: well. None, or one: the table at once. Between: one more burst."""
    once = evidence(mine=[report(heard)])
    assert undecided(once) == (2 <= heard < BURST)
    assert (verdict(receiving_of(once)) == "well") == (heard >= 18)


@pytest.mark.parametrize(
    ("heard", "judged"), [(40, "well"), (36, "well"), (35, "loss"), (4, "loss"), (3, ""), (0, "")]
)
def test_two_bursts_are_judged_as_one_of_forty(heard: int, judged: str) -> None:
    mine = [report(heard - heard // 2), report(heard // 2)]
    twice = evidence(mine=mine, theirs=[report(), report()])
    assert verdict(receiving_of(twice)) == judged
    assert not undecided(twice)


@pytest.mark.parametrize(("heard", "level"), [(22, "note"), (20, "bad"), (8, "bad")])
def test_loss_is_bad_from_half_on(heard: int, level: str) -> None:
    mine = [report(heard - heard // 2), report(heard // 2)]
    findings = diagnose(evidence(mine=mine, theirs=[report(), report()]))
    assert only(findings, "loss_in").level == level


def test_loss_in_a_buffer_is_loss_here() -> None:
    mine = [report(14, ladder={"rcvbuf": 3}), report(15)]
    findings = diagnose(
        evidence(mine=mine, theirs=[report(), report()], receive_buffer=(212_992, 4_194_304))
    )
    assert "granted 212 kB of 4 MiB" in only(findings, "loss_here").what


def test_a_fresh_group_is_wanted_only_where_nothing_else_is_found() -> None:
    assert wants_fresh(evidence(mine=[report(0)]))
    assert not wants_fresh(evidence(mine=[report(0, ladder=ALL)]))
    assert not wants_fresh(evidence(mine=[report(0)], fresh=report(0)))
    assert not wants_fresh(evidence())
    assert not wants_fresh(evidence(room="", mine=[report(0)]))


# -- twin, isolation, no directory -----------------------------------------------------------------


def test_twin_address() -> None:
    there = report(foreign={"10.77.0.2": 3, "10.77.0.9": 8})
    findings = diagnose(evidence(theirs=[there]))
    assert ids(findings) == {"twin_address"}
    assert only(findings, "twin_address").what == "another machine uses your address 10.77.0.2"


@pytest.mark.parametrize(
    "mine", [report(foreign={"10.77.0.2": 1}), report(own=0)], ids=["I hear it too", "I hear none"]
)
def test_what_this_machine_says_itself_is_no_twin(mine: dict[str, Any]) -> None:
    there = report(foreign={"10.77.0.2": 3})
    assert "twin_address" not in ids(diagnose(evidence(mine=[mine], theirs=[there])))


def unreached(**told: Any) -> Evidence:
    return evidence(mine=[], theirs=[], connect_error="No route to host", can_ask=False, **told)


def test_isolated() -> None:
    findings = diagnose(unreached(silent=True, neighbour=0))
    assert ids(findings, "bad") == {"directory", "isolated"}
    assert "10.77.0.1 does not even answer at link level" in only(findings, "isolated").what
    assert status_of(findings) == 1


@pytest.mark.parametrize(
    "told",
    [
        {"silent": True, "neighbour": 2},
        {"silent": True, "neighbour": None},
        {"silent": True, "neighbour": 0, "on_link": False},
        {"silent": False, "neighbour": 0},
    ],
)
def test_who_answers_at_link_level_is_not_isolated(told: dict[str, Any]) -> None:
    findings = diagnose(unreached(**told))
    assert ids(findings, "bad") == {"directory"}
    assert status_of(findings) == 69


def test_without_a_directory_this_machine_hears_itself() -> None:
    mine = [report(0)]
    findings = diagnose(evidence(endpoint="", mine=mine, theirs=[], can_ask=False))
    assert not ids(findings, "bad")
    assert "without a directory nothing proves it" in only(findings, "receiving").what


def test_without_a_directory_a_firewall_is_found_all_the_same() -> None:
    deaf = [report(0, own=0)]
    findings = diagnose(evidence(endpoint="", mine=deaf, theirs=[], can_ask=False))
    assert ids(findings, "bad") == {"firewall_in"}
    mute = [report(0, own=0, refused=20)]
    findings = diagnose(evidence(endpoint="", mine=mute, theirs=[], can_ask=False))
    assert ids(findings, "bad") == {"firewall_out"}


def test_no_probe() -> None:
    why = "this directory was started with --no-probe"
    findings = diagnose(evidence(mine=[], theirs=[], no_probe=why))
    assert only(findings, "receiving") == Finding("receiving", "receiving", "unknown", why, "", {})


def test_local_network_denied() -> None:
    findings = diagnose(evidence(denied="macOS keeps this program from the local network"))
    assert ids(findings, "bad") == {"local_network_denied"}


# -- members -----------------------------------------------------------------------------------


def test_member_ok() -> None:
    findings = diagnose(evidence(counted=1, members=[Heard("Bob", 3, 2)]))
    said = "Bob hears you and you hear Bob (3 of 3 asks; loss there 2 %)"
    assert only(findings, "members").what == said


def test_member_deaf() -> None:
    findings = diagnose(evidence(counted=1, members=[Heard("Ann", 0, None)]))
    found = only(findings, "member_deaf")
    assert (found.level, found.what) == ("bad", "you hear Ann, Ann does not hear you")
    assert found.do == "run doctor at Ann's"


def test_member_unheard() -> None:
    findings = diagnose(evidence(counted=1))
    found = only(findings, "member_unheard")
    assert found.level == "unknown"
    assert "1 more is in the room by the directory's count and was not heard" in found.what
    assert "client isolation" in found.what
    assert status_of(findings) == 0


def test_member_unheard_behind_something_worse() -> None:
    findings = diagnose(evidence(counted=2, mine=[report(0, ladder=ALL, own=0)]))
    found = only(findings, "member_unheard")
    assert found.do == "mend the above first"
    assert "2 more are in the room by the directory's count and were not heard" in found.what


def test_a_plain_room_cannot_be_asked() -> None:
    findings = diagnose(evidence(can_ask=False))
    assert only(findings, "members").what == "who is in this room cannot be asked"


# -- interface, directory, querier, clock ------------------------------------------------------


def test_interface_and_directory() -> None:
    found = diagnose(
        evidence(
            interface="wlan0",
            address="192.0.2.33",
            all_names=[("eth0", "no carrier"), ("docker0", "inner")],
            tls=True,
            known_before=True,
            round_trip_s=0.0019,
        )
    )
    assert only(found, "interface").what == (
        "wlan0, 192.0.2.33/24: the directory is reached by it; not eth0 (no carrier), docker0"
        " (inner)"
    )
    assert only(found, "directory").what == (
        "10.77.0.1:44444, 1.9 ms; TLS, the certificate known before"
    )


def test_on_this_very_machine_it_proves_nothing() -> None:
    found = diagnose(evidence(here=True, reached_by="lo", seen_as="127.0.0.1"))
    assert "it proves nothing of the network" in only(found, "directory").what
    assert not ids(found)


@pytest.mark.parametrize(
    ("version", "words"),
    [
        (1, "an IGMP v1 querier"),
        (2, "an IGMP v2 querier spoke in the last 260 s"),
        (3, "version 3;"),
    ],
)
def test_querier(version: int, words: str) -> None:
    found = only(diagnose(evidence(querier=version)), "querier")
    assert found.level == "note" and words in found.what


@pytest.mark.parametrize(("off", "said"), [(1.9, False), (-75.2, True), (75.2, True)])
def test_clock(off: float, said: bool) -> None:
    findings = diagnose(evidence(wall_off_s=off))
    assert ("clock" in ids(findings)) == said
    if said:
        assert "the clocks differ by 75 s" in only(findings, "clock").what


# -- how it is told --------------------------------------------------------------------------------


def test_the_lines_for_people() -> None:
    found = only(diagnose(recorded("firewall_in")), "firewall_in")
    assert lines_of(found) == [
        "  BAD  receiving   0 of 20 came: they reach this machine, and its firewall drops them"
        " (input)",
        f"       do          {RULE}",
    ]


def test_nothing_of_a_peer_acts_on_a_terminal() -> None:
    findings = diagnose(evidence(members=[Heard("\x1b[2J", 3, None)], their_address="\x1b]0;x\x07",
                                 connect_error="\x9b", silent=True, neighbour=0))  # fmt: skip
    for found in findings:
        for line in lines_of(found):
            assert line.isprintable()


@pytest.mark.parametrize(
    ("levels", "words", "status"),
    [
        (("ok", "note"), "nothing is wrong", 0),
        (("bad", "ok"), "1 thing is wrong", 1),
        (("bad", "bad", "unknown"), "2 things are wrong", 1),
        (("unknown",), "nothing is wrong that can be told; 1 thing cannot", 0),
    ],
)
def test_summary(levels: tuple[str, ...], words: str, status: int) -> None:
    findings = [Finding("sending", "x", level, "", "", {}) for level in levels]
    assert summary(findings) == words
    assert status_of(findings) == status
