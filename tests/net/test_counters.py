"""What the kernel's files say, from recorded ones; and when they are missing, cut or strange."""

from __future__ import annotations

import pytest

from evloop.net import counters
from evloop.net.counters import (
    Ladder,
    lines_of,
    neighbour_flags,
    querier_version,
    read,
    read_ladder,
    tables_of,
    wire_bytes,
)

DEV = """\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop
    lo:  123456     789    0    0    0     0          0         0   123456     789    0    0
  eth0: 9876543     321    0    0    0     0          0         5  1234567     456    0    0
eth0.7:     111       1    0    0    0     0          0         5        7       1    0    0
"""
NETSTAT = """\
TcpExt: SyncookiesSent IPReversePathFilter Last
TcpExt: 0 14 -1
IpExt: InNoRoutes InMcastPkts InOctets InMcastOctets
IpExt: 0 40 18354 13110
"""
SNMP = """\
Ip: Forwarding DefaultTTL
Ip: 2 64
Udp: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors
Udp: 10 0 3 12 3
"""
SNMP6 = """\
Ip6InReceives                   \t12
Ip6InOctets                     \t20000
Ip6InMcastOctets                \t13110
Udp6RcvbufErrors                \t2
"""
IGMP = """\
Idx\tDevice    : Count Querier\tReporters\t\tTimer
\t\t\t\tGroup     Users Timer\tReporter
1\tlo        :     1      V3
\t\t\t\t010000E0     1 0:00000000\t\t0
2\teth0      :     3      V2
\t\t\t\t010700EF     1 0:00000000\t\t0
"""
ARP = """\
IP address       HW type     Flags       HW address            Mask     Device
10.77.0.1        0x1         0x0         00:00:00:00:00:00     *        eth0
10.77.0.9        0x1         0x2         0a:58:0a:4d:00:09     *        eth0
"""


@pytest.mark.parametrize(
    ("name", "count"), [("lo", 123_456), ("eth0", 9_876_543), ("eth0.7", 111), ("eth1", None)]
)
def test_bytes_of_an_interface(name: str, count: int | None) -> None:
    assert wire_bytes(DEV, name) == count


def test_tables_of_names_and_values() -> None:
    found = tables_of(NETSTAT)
    assert found["TcpExt.IPReversePathFilter"] == 14
    assert found["IpExt.InMcastOctets"] == 13_110
    assert lines_of(SNMP6)["Ip6InMcastOctets"] == 13_110


@pytest.mark.parametrize(("name", "version"), [("eth0", 2), ("lo", 3), ("eth1", None)])
def test_the_version_of_the_querier(name: str, version: int | None) -> None:
    assert querier_version(IGMP, name) == version


@pytest.mark.parametrize(
    ("address", "flags"), [("10.77.0.1", 0), ("10.77.0.9", 2), ("10.77.0.3", None)]
)
def test_the_flags_of_a_neighbour(address: str, flags: int | None) -> None:
    assert neighbour_flags(ARP, address) == flags


def test_a_ladder_of_both_families(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        "/proc/net/dev": DEV,
        "/proc/net/netstat": NETSTAT,
        "/proc/net/snmp": SNMP,
        "/proc/net/snmp6": SNMP6,
    }
    monkeypatch.setattr(counters, "read", lambda path: files[path])
    assert read_ladder("eth0", False) == Ladder(9_876_543, 18_354, 13_110, 14, 3)
    assert read_ladder("eth0", True) == Ladder(9_876_543, 20_000, 13_110, None, 2)


def test_a_system_that_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counters, "read", lambda path: "")
    assert read_ladder("eth0", False) == Ladder(None, None, None, None, None)
    assert read("/proc/net/no such file") == ""


@pytest.mark.parametrize("text", [DEV, NETSTAT, SNMP, SNMP6, IGMP, ARP])
def test_cut_anywhere_nothing_is_raised(text: str) -> None:
    for end in range(len(text)):
        cut = text[:end]
        wire_bytes(cut, "eth0")
        tables_of(cut)
        lines_of(cut)
        querier_version(cut, "eth0")
        neighbour_flags(cut, "10.77.0.1")
