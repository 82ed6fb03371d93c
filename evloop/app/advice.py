"""What `doctor` says: the sentences of its rows, what to do, and how a finding is shown.

Pure text. Which row holds is judged in `diagnosis`.
"""

from __future__ import annotations

from evloop.base.errors import UNREACHABLE
from evloop.base.names import quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

LEVELS = {"ok": "ok", "note": "note", "bad": "BAD", "unknown": "?"}
UNTOLD = "this system does not tell"

RULES = {
    False: "sudo nft add rule inet filter input ip daddr 239.0.0.0/8 udp dport 1024-65535 accept",
    True: "sudo nft add rule inet filter input ip6 daddr ff00::/8 udp dport 1024-65535 accept",
}
MORE_BUFFER = "sudo sysctl -w net.core.rmem_max=4194304"


def words(row: str, way: Any, evidence: Any) -> tuple[str, str]:
    """(sentence, what to do) of a row about receiving."""
    where, their = evidence.interface, evidence.their_address or "the directory"
    at = evidence.reached_by
    rule = RULES[evidence.ipv6]
    if row == "network_drops":
        arrives = "does arrive" if way.unicast else "does not arrive either"
        what = (
            "the network does not bring the group here: snooping without a querier, a Wi-Fi"
            f" multicast filter, a VLAN or guests kept apart; unicast from there {arrives}"
        )
        return what, "a querier in the switch or router, or IGMP snooping off; then a cable"
    return {
        "their_firewall_out": (
            "the directory's own firewall keeps it from sending to the group",
            "on the directory's machine: nft list ruleset, and look at its output chains",
        ),
        "wrong_interface": (
            f"the directory is reached by {at}, the room uses {where}",
            f"--interface {at}",
        ),
        "noisy": (
            "too much else comes in to tell why nothing of it arrives",
            "try again when it is quieter",
        ),
        "unclear": ("where they vanish cannot be told: other traffic came in between", "try again"),
        "rp_filter": (
            f"this machine drops what comes from {their}: its route there is another interface"
            " (rp_filter)",
            "mend the route, or: sudo sysctl -w net.ipv4.conf.all.rp_filter=2",
        ),
        "firewall_in": ("they reach this machine, and its firewall drops them (input)", rule),
        "firewall_early": (
            "they reach this machine, and its firewall drops them early (prerouting, raw)",
            "nft list ruleset, and let UDP to 239.0.0.0/8 pass in its prerouting chains",
        ),
        "source_dropped": (
            "they reach this machine, which drops them for their source address: a rule, or"
            f" {their} is an address of this machine too",
            f"ip address; nft list ruleset; and look for {their}",
        ),
        "firewall_ingress": (
            "they are dropped between the card and IP (ingress, tc, XDP)",
            f"nft list ruleset; tc filter show dev {where} ingress; ip link show {where}",
        ),
        "other_subnet": (
            "the directory is on another subnet; multicast stays on its link (TTL 1)",
            "meet on one subnet, or --ttl 8 and routers that forward multicast",
        ),
        "switch_forgets": (
            "the switch has forgotten that this machine is in the group (IGMP snooping without a"
            " querier: after about 260 s); evloop joins anew every minute until then",
            "turn IGMP snooping off in the switch, or a querier on",
        ),
    }[row]


def their_words(row: str, way: Any, evidence: Any) -> tuple[str, str]:
    """(sentence, what to do) of a row about what the directory hears of us."""
    mine = evidence.address or "this machine"
    rule = RULES[evidence.ipv6]
    why = {
        "noisy": ("too much else comes in there to tell why", "try again when it is quieter"),
        "unclear": ("where it vanishes cannot be told", "try again"),
        "rp_filter": (
            f"its machine drops what comes from {mine} (rp_filter: its route there is another"
            " interface)",
            "there: mend the route, or: sudo sysctl -w net.ipv4.conf.all.rp_filter=2",
        ),
        "firewall_in": ("the firewall of its machine drops it (input)", f"there: {rule}"),
        "firewall_early": (
            "the firewall of its machine drops it early (prerouting, raw)",
            "there: nft list ruleset, and let UDP to 239.0.0.0/8 pass in its prerouting chains",
        ),
        "source_dropped": (
            f"its machine drops it for its source address: a rule, or {mine} is an address of"
            " that machine too",
            f"there: ip address; nft list ruleset; and look for {mine}",
        ),
        "firewall_ingress": (
            "it is dropped there between the card and IP (ingress, tc, XDP)",
            "there: nft list ruleset; tc filter show",
        ),
        "wrong_interface": words("wrong_interface", way, evidence),
        "other_subnet": words("other_subnet", way, evidence),
        "network_drops": (
            "the network does not bring it there: snooping without a querier, a Wi-Fi multicast"
            " filter, a VLAN, or a switch that has forgotten the directory's machine",
            "a querier in the switch or router, or IGMP snooping off; then a cable",
        ),
    }[row]
    return f"the directory does not hear you: {why[0]}; sending itself is well", why[1]


# -- for people -----------------------------------------------------------------------------------


def lines_of(finding: Any) -> list[str]:
    """A finding as one or two lines."""
    lines = [f"  {LEVELS[finding.level]:5}{finding.topic:12}{_safe(finding.what)}"]
    if finding.do:
        lines.append(f"  {'':5}{'do':12}{_safe(finding.do)}")
    return lines


def _safe(text: str) -> str:
    """Interfaces, names and addresses are of others: nothing in them acts on a terminal."""
    return quoted(text, 2_000)


def summary(findings: Iterable[Any]) -> str:
    """The last line."""
    findings = list(findings)
    bad = sum(one.level == "bad" for one in findings)
    unknown = sum(one.level == "unknown" for one in findings)
    if bad:
        return "1 thing is wrong" if bad == 1 else f"{bad} things are wrong"
    if unknown:
        rest = "1 thing" if unknown == 1 else f"{unknown} things"
        return f"nothing is wrong that can be told; {rest} cannot"
    return "nothing is wrong"


def status_of(findings: Iterable[Any]) -> int:
    """The exit status: 0; 1: something is BAD; 69: the directory is not reached, and that alone."""
    bad = [one.id for one in findings if one.level == "bad"]
    if not bad:
        return 0
    return UNREACHABLE if bad == ["directory"] else 1
