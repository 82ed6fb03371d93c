"""What the kernel counts and remembers of this machine's network, for everybody to read (proc(5)).

The way of a datagram through Linux has steps that count what passed them:

    card -> wire: /proc/net/dev -> ip: IpExt InOctets -> rp_filter or mcast -> the socket, or rcvbuf

so two readings tell where it vanished. Every file may be missing (another system, a sandbox): then
what it would tell is None. The functions that read a text are pure; `read` is the only one that
opens a file.
"""

from __future__ import annotations

from collections import namedtuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NamedTuple

    class Ladder(NamedTuple):
        wire: int | None
        ip: int | None
        mcast: int | None
        rp_filter: int | None
        rcvbuf: int | None

else:
    # wire: bytes that came by the interface; ip, mcast: bytes that IP took, and of these to groups
    # that are joined; rp_filter: datagrams dropped for their source; rcvbuf: for want of buffer.
    Ladder = namedtuple("Ladder", "wire ip mcast rp_filter rcvbuf")

_RECEIVED_BYTES = 0  # the first column of /proc/net/dev behind the name


def read(path: str) -> str:
    """The text of a file of the kernel; "" where there is none."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return ""


def read_ladder(interface: str, ipv6: bool) -> Ladder:
    """The counters of now."""
    wire = wire_bytes(read("/proc/net/dev"), interface)
    if ipv6:
        told = lines_of(read("/proc/net/snmp6"))
        names = ("Ip6InOctets", "Ip6InMcastOctets", "", "Udp6RcvbufErrors")
    else:
        told = {**tables_of(read("/proc/net/netstat")), **tables_of(read("/proc/net/snmp"))}
        names = ("IpExt.InOctets", "IpExt.InMcastOctets", "TcpExt.IPReversePathFilter",
                 "Udp.RcvbufErrors")  # fmt: skip
    return Ladder(wire, *(told.get(name) for name in names))


def wire_bytes(text: str, interface: str) -> int | None:
    """/proc/net/dev -> bytes received by `interface`."""
    for line in text.splitlines():
        name, colon, rest = line.partition(":")
        if colon and name.strip() == interface:
            return _number(rest.split(), _RECEIVED_BYTES)
    return None


def tables_of(text: str) -> dict[str, int]:
    """/proc/net/snmp, netstat: pairs of lines, names and values -> {"IpExt.InOctets": 7}."""
    found: dict[str, int] = {}
    lines = text.splitlines()
    for names, values in zip(lines[::2], lines[1::2]):
        table, _, head = names.partition(":")
        for name, value in zip(head.split(), values.partition(":")[2].split()):
            if value.lstrip("-").isdigit():
                found[f"{table}.{name}"] = int(value)
    return found


def lines_of(text: str) -> dict[str, int]:
    """/proc/net/snmp6: a name and a value a line."""
    rows = (line.split() for line in text.splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdigit()}


def querier_version(text: str, interface: str) -> int | None:
    """/proc/net/igmp -> as which version of IGMP `interface` reports: 1 and 2 only where such a
    querier spoke lately; None: it is not told."""
    for line in text.splitlines():
        words = line.replace(":", " : ").split()
        if len(words) > 3 and words[1] == interface and words[-1][:1] == "V":
            return _number([words[-1][1:]], 0)
    return None


def neighbour_flags(text: str, address: str) -> int | None:
    """/proc/net/arp -> flags of `address`: 0, it did not answer; None: it was not asked."""
    for line in text.splitlines()[1:]:
        words = line.split()
        if len(words) > 2 and words[0] == address:
            try:
                return int(words[2], 16)
            except ValueError:
                return None
    return None


def _number(words: list[str], at: int) -> int | None:
    return int(words[at]) if len(words) > at and words[at].isdigit() else None
