"""What a search for directories asks, and what it makes of the answers: a table of each rule."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evloop.base.addresses import on_link
from evloop.directory.discovery import (
    DOUBTFUL,
    KNOWN,
    NONE,
    SEVERAL,
    STRANGER,
    TAKE,
    WAIT,
    Found,
    Net,
    Search,
    bare_label,
    choose,
    in_order,
    shown_names,
    standing_of,
)
from evloop.directory.limits import (
    FOUND_ADDRESSES_MAX,
    FOUND_MAX,
    FOUND_PER_SOURCE_MAX,
    SEARCH_S,
)
from evloop.net import mdns

# The vectors of the specification: LABEL `kitchen-pi 3f2a`, 192.0.2.10, port 44444, no TLS.
QUESTION = bytes.fromhex("000000000001000000000000075f65766c6f6f70045f746370056c6f63616c00000c0001")
ANNOUNCEMENT = bytes.fromhex(
    "000084000000000400000000075f65766c6f6f70045f746370056c6f63616c00000c00010000119400120f6b697463"
    "68656e2d70692033663261c00cc02a0021800100000078002000000000ad9c1765766c6f6f702d3031303230333034"
    "3035303630373038c019c02a0010800100001194003809747874766572733d311369643d3031303230333034303530"
    "36303730380b6b696e643d7365727665720770726f746f3d3105746c733d30c04e00018001000000780004c000020a"
)
ONE_SHOT = bytes.fromhex(
    "123484000001000100000003075f65766c6f6f70045f746370056c6f63616c00000c0001c00c000c00010000000a"
    "00120f6b69746368656e2d70692033663261c00cc030002100010000000a002500000000ad9c1765766c6f6f702d"
    "30313032303330343035303630373038056c6f63616c00c030001000010000000a003809747874766572733d3113"
    "69643d303130323033303430353036303730380b6b696e643d7365727665720770726f746f3d3105746c733d3017"
    "65766c6f6f702d30313032303330343035303630373038c019000100010000000a0004c000020a"
)
ID = "0102030405060708"
NET = Net(2, "eth0", [(bytes([192, 0, 2, 33]), 24), (bytes.fromhex("fe80" + "0" * 28), 64)])
PI = bytes([192, 0, 2, 10])
FAR = bytes([203, 0, 113, 9])
NEAR6 = bytes.fromhex("fe800000000000000000000000000007")


def ip(text: str) -> bytes:
    return bytes(map(int, text.split(".")))


def records(
    label: str = "kitchen-pi 3f2a",
    *,
    addresses: tuple[bytes, ...] = (PI,),
    port: int = 44444,
    ttl: int = 120,
    parts: str = "PSTA",
    **more: str,
) -> list[mdns.Record]:
    """An announcement's records; `parts`: of PTR, SRV, TXT, addresses; `more`: of the TXT."""
    name = mdns.name_of(label, "_evloop", "_tcp", "local")
    host = mdns.name_of(f"evloop-{more.get('id', ID)}", "local")
    fields = {"id": ID, "kind": "server", "proto": "1", "tls": "0", **more}
    strings = [f"{key}={value}" for key, value in fields.items() if value]
    every = {
        "P": [mdns.Record(mdns.SERVICE, mdns.PTR, False, ttl, name)],
        "S": [mdns.Record(name, mdns.SRV, True, ttl, (0, 0, port, host))],
        "T": [mdns.Record(name, mdns.TXT, True, ttl, mdns.pack_strings(strings))],
        "A": [
            mdns.Record(host, mdns.A if len(it) == 4 else mdns.AAAA, True, ttl, it)
            for it in addresses
        ],
    }
    return [record for part in parts for record in every[part]]


def answer(*groups: list[mdns.Record]) -> bytes:
    found = [record for group in groups for record in group]
    return mdns.build(mdns.Message(0, mdns.ANSWER, (), found))


class World:
    """A search, and a clock that it follows."""

    def __init__(self, *, tls_only: bool = False, nets: tuple[Net, ...] = (NET,)) -> None:
        self.now = 100.0
        self.search = Search(nets, self.now, tls_only=tls_only)

    def at(self, after: float) -> list[tuple[bytes, bool]]:
        """What is asked until so long after the start."""
        asked = self.search.questions()
        while self.search.next_deadline() <= 100.0 + after and not self.search.over(self.now):
            self.now = self.search.next_deadline()
            self.search.handle_timer(self.now)
            asked += self.search.questions()
        self.now = 100.0 + after
        return asked

    def hear(
        self,
        data: bytes,
        source: bytes = PI,
        port: int = mdns.PORT,
        *,
        link: int = 2,
        multicast: bool = False,
    ) -> bool:
        return self.search.receive(data, source, port, link, multicast=multicast, now=self.now)

    def found(self) -> list[Found]:
        return self.search.found()


# -- what is asked ---------------------------------------------------------------------------------


def test_the_questions_and_their_times() -> None:
    world = World()
    assert world.at(0.0) == [(QUESTION, False)]
    assert world.at(0.119) == []
    assert world.at(0.12) == [(QUESTION, False), (QUESTION, True)], "for a multicast answer too"
    assert world.at(0.359) == []
    assert world.at(0.36) == [(QUESTION, False)]
    assert world.at(SEARCH_S - 0.001) == [] and not world.search.over(world.now)
    world.at(SEARCH_S)
    assert world.search.over(world.now)


def test_who_was_found_is_not_asked_for_a_multicast_answer() -> None:
    world = World()
    world.at(0.01)
    world.hear(ANNOUNCEMENT)
    assert world.at(0.12) == [(QUESTION, False)]


def test_after_a_pause_of_the_process_it_asks_once() -> None:
    world = World()
    world.search.questions()
    world.search.handle_timer(100.5)
    assert world.search.questions() == [(QUESTION, False), (QUESTION, True)]


@pytest.mark.parametrize(
    ("parts", "asked"),
    [
        ("P", ["kitchen-pi 3f2a"]),
        ("PS", ["kitchen-pi 3f2a", "evloop-" + ID]),
        ("PT", ["kitchen-pi 3f2a"]),
        ("PST", ["evloop-" + ID]),
        ("PSTA", []),
    ],
)
def test_what_an_answer_lacks_is_asked_for_once(parts: str, asked: list[str]) -> None:
    world = World()
    world.at(0.2)
    world.hear(answer(records(parts=parts)))
    assert world.at(0.299) == []
    wanted = world.at(0.3)
    assert len(wanted) == bool(asked)
    for data, multicast in wanted:
        message = mdns.parse(data)
        assert not multicast and {it.type for it in message.questions} == {mdns.ANY}
        labels = [mdns.labels_of(it.name)[0].decode() for it in message.questions]
        assert labels == asked
    assert world.found() == [] or parts == "PSTA"
    world.hear(answer(records(parts="PSTA")))
    assert [found.id for found in world.found()] == [ID]
    assert [data for data, _ in world.at(0.7)] == [QUESTION]


# -- what counts -----------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [ANNOUNCEMENT, ONE_SHOT])
def test_the_vectors_are_read(data: bytes) -> None:
    world = World()
    assert world.hear(data)
    (found,) = world.found()
    assert found == Found(ID, "kitchen-pi 3f2a", "server", False, "", 44444, [(PI, 0)], ["eth0"],
                          100.0)  # fmt: skip


@pytest.mark.parametrize(
    ("source", "port", "link", "multicast", "counts"),
    [
        (PI, 5353, 2, False, True),
        (PI, 5353, 2, True, True),
        (PI, 5354, 2, False, False),  # anybody may send from there
        (PI, 5354, 2, True, False),
        (FAR, 5353, 2, False, False),  # a router has passed it on
        (FAR, 5353, 2, True, True),  # a group's datagram of TTL 1 comes from the link
        (NEAR6, 5353, 2, False, True),
        (PI, 5353, 3, False, False),  # not one of the links that are searched
    ],
)
def test_which_datagrams_count(
    source: bytes, port: int, link: int, multicast: bool, counts: bool
) -> None:
    world = World()
    assert world.hear(ANNOUNCEMENT, source, port, link=link, multicast=multicast) == counts
    assert len(world.found()) == counts


def test_a_question_is_no_answer() -> None:
    world = World()
    probe = mdns.Message(0, mdns.QUERY, (), records())
    assert not world.hear(mdns.build(probe)) and world.found() == []


@pytest.mark.parametrize(
    ("changes", "counts"),
    [
        ({"kind": "guest"}, True),
        ({"kind": "else"}, True),
        ({"proto": "2"}, False),
        ({"id": "0102"}, False),
        ({"id": "010203040506070G"}, False),
        ({"tls": "1"}, True),
        ({"tls": "1", "fp": "ab" * 16}, True),
        ({"tls": "1", "fp": "ab" * 15}, False),
        ({"tls": "0", "fp": "ab" * 15}, True),  # it says nothing without TLS
    ],
)
def test_what_a_txt_record_may_say(changes: dict[str, Any], counts: bool) -> None:
    world = World()
    world.hear(answer(records(**changes)))
    assert len(world.found()) == counts


def test_a_service_file_of_avahi_tells_no_id() -> None:
    """Its HOST:PORT stands for it."""
    world = World()
    name = mdns.name_of("evloop on box", "_evloop", "_tcp", "local")
    host = mdns.name_of("box", "local")
    world.hear(
        answer(
            [
                mdns.Record(mdns.SERVICE, mdns.PTR, False, 120, name),
                mdns.Record(name, mdns.SRV, True, 120, (0, 0, 44444, host)),
                mdns.Record(name, mdns.TXT, True, 120, b"\0"),
                mdns.Record(host, mdns.A, True, 120, PI),
            ]
        )
    )
    assert [(it.id, it.kind, it.tls) for it in world.found()] == [
        ("box.local:44444", "server", False)
    ]


def test_records_may_come_in_any_order_and_in_pieces() -> None:
    rng = random.Random(7)
    for _ in range(50):
        world = World()
        pieces = ["P", "S", "T", "A"]
        rng.shuffle(pieces)
        for piece in pieces * 3:  # what comes too early is asked for, and comes again
            world.hear(answer(records(parts=piece)))
        assert len(world.found()) == 1


def test_a_goodbye_takes_a_directory_away() -> None:
    world = World()
    world.hear(ANNOUNCEMENT)
    world.hear(answer(records(ttl=0)))
    assert world.found() == []


def test_tls_asks_for_directories_with_tls_alone() -> None:
    world = World(tls_only=True)
    world.hear(ANNOUNCEMENT)
    assert world.found() == []
    world.hear(answer(records("other 0001", id="11" * 8, tls="1", fp="ab" * 16)))
    assert [found.id for found in world.found()] == ["11" * 8]


def test_one_directory_on_two_links_is_one() -> None:
    wlan = Net(3, "wlan0", [(bytes([198, 51, 100, 7]), 24)])
    world = World(nets=(NET, wlan))
    world.hear(ANNOUNCEMENT)
    other = bytes([198, 51, 100, 10])
    world.hear(answer(records(addresses=(other,))), other, link=3)
    (found,) = world.found()
    assert found.links == ["eth0", "wlan0"] and found.addresses == [(PI, 0), (other, 0)]


def test_a_renamed_directory_is_one() -> None:
    world = World()
    world.hear(ANNOUNCEMENT)
    world.hear(answer(records("kitchen-pi 0000")))
    assert [found.label for found in world.found()] == ["kitchen-pi 3f2a"]


# -- addresses -------------------------------------------------------------------------------------

GLOBAL6 = bytes.fromhex("20010db8000000000000000000000007")


@pytest.mark.parametrize(
    ("told", "source", "ordered"),
    [
        ([FAR, PI], PI, [PI, FAR]),
        ([FAR, PI, NEAR6], FAR, [FAR, PI, NEAR6]),  # what answered is reachable
        ([GLOBAL6, NEAR6, PI], ip("192.0.2.99"), [PI, NEAR6, GLOBAL6]),
        ([GLOBAL6, PI, NEAR6], NEAR6, [NEAR6, PI, GLOBAL6]),
        ([ip("127.0.0.1"), ip("239.0.0.1"), PI], PI, [PI]),  # nobody's address
        ([PI, PI], PI, [PI]),
    ],
)
def test_the_order_in_which_addresses_are_tried(
    told: list[bytes], source: bytes, ordered: list[bytes]
) -> None:
    world = World()
    world.hear(answer(records(addresses=tuple(told))), source, multicast=True)
    (found,) = world.found()
    assert [address for address, _ in found.addresses] == ordered
    assert all((link == 2) == (address == NEAR6) for address, link in found.addresses)


def test_a_directory_without_an_address_that_can_be_one_is_none() -> None:
    world = World()
    world.hear(answer(records(addresses=(ip("127.0.0.1"),))))
    assert world.found() == []


@pytest.mark.parametrize(
    ("address", "here"),
    [("192.0.2.254", True), ("192.0.3.1", False), ("10.0.0.1", False)],
)
def test_what_is_on_the_link(address: str, here: bool) -> None:
    assert on_link(ip(address), NET.subnets) == here


# -- floods ----------------------------------------------------------------------------------------


def numbered(count: int) -> list[list[mdns.Record]]:
    return [records(f"d{at} 0000", id=f"{at:016x}") for at in range(count)]


def test_one_source_fills_four_places_and_all_together_32() -> None:
    world = World()
    for group in numbered(100):
        world.hear(answer(group))
    assert len(world.found()) == FOUND_PER_SOURCE_MAX
    for at, group in enumerate(numbered(100)):
        world.hear(answer(group), bytes([192, 0, 2, 100 + at]))
    assert len(world.found()) == FOUND_MAX


def test_an_address_of_nobody_asked_for_takes_no_room() -> None:
    world = World()
    for at in range(200):  # printers
        host = mdns.name_of(f"printer-{at}", "local")
        world.hear(answer([mdns.Record(host, mdns.A, True, 120, PI)]), multicast=True)
    many = tuple(bytes([192, 0, 2, at]) for at in range(10, 60))
    world.hear(answer(records(addresses=many)))
    (found,) = world.found()
    assert len(found.addresses) == FOUND_ADDRESSES_MAX


@given(st.binary(max_size=300), st.integers(0, 187), st.booleans())
def test_whatever_comes_raises_nothing(data: bytes, cut: int, multicast: bool) -> None:
    world = World()
    world.hear(data, multicast=multicast)
    world.hear(ANNOUNCEMENT[:cut] + data, multicast=multicast)
    world.at(SEARCH_S)
    world.found()


# -- what is chosen --------------------------------------------------------------------------------


def found(
    number: int, *, kind: str = "server", when: float = 0.01, tls: bool = False, fp: str = "",
    label: str = "",
) -> Found:  # fmt: skip
    label = label or f"box{number} 0000"
    return Found(f"{number:016x}", label, kind, tls, fp, 44444, [(PI, 0)], ["eth0"], when)


A, B, C = found(1), found(2, when=0.05), found(3, kind="guest", when=0.02)


def number_of(one: Found | None) -> int:
    return 0 if one is None else int(one.id, 16)


@pytest.mark.parametrize(
    ("them", "known", "doubtful", "now", "joins", "what", "which"),
    [
        ([], [], [], 0.5, False, WAIT, 0),
        ([], [], [], 0.8, False, NONE, 0),
        ([A], [1], [], 0.01, False, TAKE, 1),  # a known one at once
        ([A], [], [], 0.069, False, WAIT, 0),
        ([A], [], [], 0.071, False, TAKE, 1),  # alone for 60 ms
        ([A, B], [], [], 0.5, False, WAIT, 0),
        ([A, B], [], [], 0.8, False, SEVERAL, 0),
        ([A, B], [2], [], 0.05, False, TAKE, 2),
        ([A], [], [1], 0.5, False, WAIT, 0),
        ([A], [], [1], 0.8, False, SEVERAL, 0),  # listed, and never taken by itself
        ([A, B], [], [2], 0.8, False, SEVERAL, 0),
        ([A, B], [1], [2], 0.05, False, TAKE, 1),
        ([C], [], [], 0.269, True, WAIT, 0),
        ([C], [], [], 0.271, True, TAKE, 3),
        ([C, B], [], [], 0.271, True, TAKE, 2),  # a server first
        ([B, A], [], [], 0.27, True, TAKE, 1),  # then the lowest id
        ([B, A], [], [1], 0.301, True, TAKE, 2),
        ([B, A], [2], [], 0.05, True, TAKE, 2),
        ([A], [], [1], 0.8, True, NONE, 0),  # who joins hosts rather than trust it
    ],
)
def test_which_one_is_taken(
    them: list[Found],
    known: list[int],
    doubtful: list[int],
    now: float,
    joins: bool,
    what: str,
    which: int,
) -> None:
    def standing(one: Found) -> str:
        number = number_of(one)
        return KNOWN if number in known else DOUBTFUL if number in doubtful else STRANGER

    got, one, again = choose(them, standing, now, over=now >= SEARCH_S, joins=joins)
    assert (got, number_of(one)) == (what, which)
    assert again >= now, "it is looked at again, or never"
    if what == WAIT and them and not doubtful and (joins or len(them) == 1):
        assert now < again < SEARCH_S


def test_a_lost_directory_is_taken_by_its_id_alone() -> None:
    for over in (False, True):
        got = choose([A], lambda it: KNOWN, 0.3, over=over, joins=True, wanted=B.id)
        assert got[0] == (NONE if over else WAIT)
    assert choose([A, B], lambda it: STRANGER, 0.3, over=False, joins=True, wanted=B.id)[1] == B
    got = choose([B], lambda it: DOUBTFUL, 0.3, over=False, joins=True, wanted=B.id)
    assert got[0] == WAIT, "who only says that it is"


FP = "5f" * 32


@pytest.mark.parametrize(
    ("one", "known", "standing"),
    [
        (found(1), {}, STRANGER),
        (found(1), {"0" * 15 + "1": ("", "box1")}, KNOWN),
        (found(1), {"0" * 15 + "1": (FP, "box1")}, DOUBTFUL),  # it spoke TLS before
        (found(1, tls=True, fp=FP[:32]), {"0" * 15 + "1": (FP, "box1")}, KNOWN),
        (found(1, tls=True, fp="ab" * 16), {"0" * 15 + "1": (FP, "box1")}, DOUBTFUL),
        (found(1, tls=True, fp="ab" * 16), {"0" * 15 + "1": ("", "box1")}, KNOWN),
        (found(2, label="box1 9999"), {"0" * 15 + "1": (FP, "box1")}, DOUBTFUL),
        (found(2, label="BOX1 9999"), {"0" * 15 + "1": (FP, "box1")}, DOUBTFUL),
        (found(2, label="box1 9999"), {"0" * 15 + "1": ("", "box1")}, STRANGER),
        (found(2), {"0" * 15 + "1": (FP, "box1")}, STRANGER),
    ],
)
def test_who_is_known_and_who_is_not_what_it_says(
    one: Found, known: dict[str, tuple[str, str]], standing: str
) -> None:
    assert standing_of(one, known) == standing


def test_names_are_shown_without_digits_unless_two_are_alike() -> None:
    pi, other, twin = found(1, label="pi 0001"), found(2, label="box 0002"), found(3, label="pi 3")
    assert shown_names([pi, other, twin]) == ["pi", "box", "pi 3"]
    twin = found(3, label="pi 0003")
    assert shown_names([pi, other, twin]) == ["pi 0001", "box", "pi 0003"]
    assert [bare_label(text) for text in ("a b 12ef", "a 12EF", "12ef", " 12ef")] == [
        "a b",
        "a 12EF",
        "12ef",
        " 12ef",
    ]


def test_lists_have_servers_first() -> None:
    assert in_order([C, B, A]) == [A, B, C]
