"""Messages of rtnetlink to a table: recorded ones, and any bytes at all."""

from __future__ import annotations

import random
import socket
import sys
from pathlib import Path
from struct import pack

import pytest

from evloop.net.links import MULTICAST, RUNNING, UP, Link, Own
from evloop.net.netlink import (
    GET_ADDRESSES,
    GET_LINKS,
    BadNetlink,
    Table,
    dump_request,
    messages,
)

RECORDED: dict[str, list[bytes]] = {}
for line in (Path(__file__).parent / "netlink_recorded.txt").read_text().splitlines():
    if not line.startswith("#"):
        name, _, digits = line.partition(" ")
        RECORDED.setdefault(name, []).append(bytes.fromhex(digits))

little = pytest.mark.skipif(sys.byteorder != "little", reason="recorded on a little-endian machine")


def text_of(packed: bytes) -> str:
    return socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)


def dumped() -> Table:
    """The table after the recorded dump: links with sequence 1, addresses with 2."""
    table = Table(text_of)
    table.begin()
    sequence = 1
    table.dumping = True
    for data in RECORDED["dump"]:
        table.take(data, sequence)
        if not table.dumping and sequence == 1:
            sequence, table.dumping = 2, True
    assert not table.dumping
    table.end()
    return table


def link(table: Table, name: str) -> Link:
    return next(one for one in table.links() if one.name == name)


def take(table: Table, what: str) -> None:
    for data in RECORDED[what]:
        table.take(data)


ETH0 = [
    Own("192.0.2.33", 24, False),
    Own("2001:db8::7", 64, False),
]


@little
def test_a_dump_is_the_table() -> None:
    links = dumped().links()
    assert [one.name for one in links] == ["lo", "far0", "eth0"]
    assert links[0].addresses[0] == Own("127.0.0.1", 8, False)
    eth0 = links[2]
    assert eth0.flags & (UP | RUNNING | MULTICAST) == UP | RUNNING | MULTICAST
    assert list(eth0.addresses[:2]) == ETH0
    assert eth0.addresses[2].text.startswith("fe80::") and eth0.addresses[2].prefix == 64


@little
def test_a_carrier_that_went_and_came() -> None:
    table = dumped()
    before = link(table, "eth0")
    take(table, "carrier_lost")
    lost = link(table, "eth0")
    assert not lost.flags & RUNNING and lost.flags & UP
    assert lost.epoch == before.epoch
    take(table, "carrier_back")
    back = link(table, "eth0")
    assert back.flags & RUNNING
    assert back.epoch != before.epoch, "switches have forgotten what it had joined"
    assert back._replace(epoch=0) == before._replace(epoch=0)


@little
def test_an_address_that_goes_and_another_one() -> None:
    table = dumped()
    take(table, "gone")
    assert link(table, "eth0").addresses[0].text == "2001:db8::7"
    take(table, "new")
    assert Own("192.0.2.34", 24, False) in link(table, "eth0").addresses


@little
def test_a_device_that_is_deleted_takes_its_addresses_along() -> None:
    table = dumped()
    take(table, "del")
    assert [one.name for one in table.links()] == ["lo"]


@little
def test_what_is_told_again_changes_nothing() -> None:
    """Router advertisements and DHCP repeat RTM_NEWADDR."""
    table = dumped()
    before = table.links()
    for data in RECORDED["dump"]:
        table.take(data)
    assert table.links() == before


@little
def test_a_second_dump_drops_what_is_not_told_again() -> None:
    table = dumped()
    table.begin()
    table.end()
    assert table.links() == ()


@little
def test_a_carrier_that_bounced_unheard_is_seen_by_the_kernels_count() -> None:
    """Messages were lost: the flags are as before, the kernel has counted two changes."""
    first = link_message(2, "eth0", UP | RUNNING, 1)
    table = Table(text_of)
    table.take(first)
    epoch = table.links()[0].epoch
    table.take(link_message(2, "eth0", UP | RUNNING, 1))
    assert table.links()[0].epoch == epoch
    table.take(link_message(2, "eth0", UP | RUNNING, 3))
    assert table.links()[0].epoch != epoch


def link_message(index: int, name: str, flags: int, changes: int, kind: int = 16) -> bytes:
    raw = name.encode() + b"\0"
    attributes = pack("=HH", 4 + len(raw), 3) + raw + bytes(-len(raw) % 4)
    attributes += pack("=HHI", 8, 35, changes)
    body = pack("=BxHiII", 0, 1, index, flags, 0) + attributes
    return pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body


def address_message(
    index: int, address: str, flags: int = 0, kind: int = 20, attribute: int = 1
) -> bytes:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    raw = socket.inet_pton(family, address)
    body = pack("=BBBBI", family, 24, flags & 0xFF, 0, index)
    body += pack("=HH", 4 + len(raw), attribute) + raw + pack("=HHI", 8, 8, flags)
    return pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body


@pytest.mark.parametrize(
    ("address", "flags", "own"),
    [
        ("fe80::1", 0x80, [Own("fe80::1", 24, False)]),  # permanent
        ("fe80::1", 0x40, []),  # tentative: nothing can be sent from it yet
        ("fe80::1", 0x44, [Own("fe80::1", 24, False)]),  # and optimistic: it can
        ("fe80::1", 0x08, []),  # somebody else has it
        ("2001:db8::1", 0x01, [Own("2001:db8::1", 24, True)]),  # temporary
        ("2001:db8::1", 0x20, [Own("2001:db8::1", 24, True)]),  # deprecated
        ("192.0.2.1", 0x01, [Own("192.0.2.1", 24, False)]),  # secondary
    ],
)
def test_what_an_address_is_good_for(address: str, flags: int, own: list[Own]) -> None:
    table = Table(text_of)
    table.take(link_message(2, "eth0", UP, 0))
    table.take(address_message(2, address, flags))
    assert list(table.links()[0].addresses) == own
    table.take(address_message(2, address, 0x80))
    assert [it.text for it in table.links()[0].addresses] == [address]
    table.take(address_message(2, address, 0x80, kind=21))
    assert table.links()[0].addresses == ()


def test_of_a_tunnel_the_near_end_is_ours() -> None:
    table = Table(text_of)
    table.take(link_message(2, "tun0", UP, 0))
    near = socket.inet_aton("10.8.0.2")
    far = socket.inet_aton("10.8.0.1")
    body = pack("=BBBBI", 2, 32, 0, 0, 2) + pack("=HH", 8, 1) + far + pack("=HH", 8, 2) + near
    table.take(pack("=IHHII", 16 + len(body), 20, 0, 0, 0) + body)
    assert [it.text for it in table.links()[0].addresses] == ["10.8.0.2"]


def test_a_device_made_anew_under_its_number_is_another() -> None:
    table = Table(text_of)
    table.take(link_message(2, "eth0", UP | RUNNING, 1))
    table.take(address_message(2, "192.0.2.1"))
    before = table.links()[0]
    table.take(link_message(2, "eth0", 0, 1, kind=17))
    assert table.links() == ()
    table.take(link_message(2, "eth0", UP | RUNNING, 1))
    after = table.links()[0]
    assert after.epoch != before.epoch and after.addresses == ()


def test_a_name_of_any_bytes() -> None:
    table = Table(text_of)
    message = link_message(2, "kche", UP, 0).replace(b"kche", b"k\xfcch")
    table.take(message)
    assert table.links()[0].name.encode("utf-8", "surrogateescape") == b"k\xfcch"


def test_a_port_of_a_bridge_is_no_new_link() -> None:
    table = Table(text_of)
    message = link_message(2, "eth0", UP, 0)
    table.take(message[:16] + b"\x07" + message[17:])
    assert table.links() == ()
    table.take(message)
    gone = link_message(2, "eth0", UP, 0, kind=17)
    table.take(gone[:16] + b"\x07" + gone[17:])
    assert [one.name for one in table.links()] == ["eth0"]


def test_after_sleep_every_link_is_another() -> None:
    table = Table(text_of)
    table.take(link_message(2, "eth0", UP | RUNNING, 1))
    before = table.links()[0].epoch
    table.woke()
    assert table.links()[0].epoch != before


def test_a_refusal_is_said() -> None:
    table = Table(text_of)
    with pytest.raises(BadNetlink, match="errno 1"):
        table.take(pack("=IHHIIi", 20, 2, 0, 1, 0, -1), 1)
    assert not table.dumping


def test_a_dump_that_was_interrupted_is_incomplete() -> None:
    table = Table(text_of)
    table.begin()
    table.take(pack("=IHHII", 16, 3, 0x10, 7, 0), 7)
    assert table.incomplete
    table.begin()
    assert not table.incomplete


def test_the_requests_are_those_of_the_kernel() -> None:
    (link_request,) = messages(dump_request(GET_LINKS, 9))
    assert link_request[:3] == (18, 0x301, 9)
    assert link_request[3][16:] == pack("=HHI", 8, 29, 8)  # without statistics
    (address_request,) = messages(dump_request(GET_ADDRESSES, 9))
    assert address_request == (22, 0x301, 9, bytes(8))


@little
def test_dumps_cut_anywhere_and_changed_anywhere() -> None:
    rng = random.Random(5)
    raised = 0
    for recorded in RECORDED.values():
        for data in recorded:
            for cut in range(len(data)):
                raised += broken(data[:cut])
            for _ in range(400):
                mutant = bytearray(data)
                for _ in range(rng.randint(1, 4)):
                    mutant[rng.randrange(len(mutant))] = rng.randrange(256)
                raised += broken(bytes(mutant))
    for _ in range(2_000):
        raised += broken(rng.randbytes(rng.randrange(200)))
    assert raised > 1_000  # they were broken indeed


def broken(data: bytes) -> bool:
    table = Table(text_of)
    try:
        table.take(data, 1)
    except BadNetlink:
        return True
    finally:
        table.links()
    return False
