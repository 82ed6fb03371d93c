"""The responder: states and questions, manners and rates, conflicts and hostile others."""

from __future__ import annotations

from random import Random

import pytest

from evloop.directory.announcement import GUEST, Service, label_of
from evloop.directory.limits import (
    ANNOUNCED_ADDRESSES_MAX,
    ASKERS_WAITING_MAX,
    RENAME_EVERY_S,
    UNICAST_ANSWERS_BURST,
    UNICAST_ANSWERS_PER_S,
)
from evloop.directory.responder import ANNOUNCED, DEAF, Place
from evloop.net.mdns import (
    AAAA,
    ANSWER,
    ANY,
    PTR,
    QUERY,
    SERVICE,
    SERVICE_TYPES,
    SRV,
    TRUNCATED,
    TXT,
    A,
    Message,
    Question,
    Record,
    build,
    labels_of,
    name_of,
    parse,
)
from tests.support.mdns import ADDRESS, HOST, ID, VECTORS, mutant
from tests.support.responders import ASK, FAR, LINK, OTHER, PLACE, Clocked, place

LABEL = name_of(f"kitchen-pi {ID[-4:]}", "_evloop", "_tcp", "local")
POINTER = Record(SERVICE, PTR, False, 4500, LABEL)


def kinds(message: Message) -> tuple[list[int], list[int]]:
    """The types of its answers and of what comes with them."""
    return [it.type for it in message.answers], [it.type for it in message.additional]


def is_probe(message: Message) -> bool:
    return bool(message.authority) and not message.answers


# -- the way to a name -----------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_three_probes_then_two_announcements_then_nothing(seed: int) -> None:
    lab = Clocked(seed).links(PLACE)
    lab.run(60)
    start = lab.sent[0][0]
    assert 100 <= start <= 100.25
    times = [round(when - start, 6) for when, *_ in lab.sent]
    assert times == [0, 0.25, 0.5, 0.75, 1.75]
    assert [is_probe(message) for _, message, *_ in lab.sent] == [True] * 3 + [False] * 2
    assert {(index, ipv6, to) for _, _, index, ipv6, to in lab.sent} == {(LINK, False, None)}
    assert lab.responder.next_deadline() == float("inf")


def with_label(vector: bytes) -> bytes:
    return vector.replace(b"kitchen-pi 3f2a", b"kitchen-pi " + ID[-4:].encode())


def test_what_is_said_is_the_contract_to_the_byte() -> None:
    lab = Clocked().links(PLACE)
    lab.run(4)
    lab.hear(VECTORS["question"][:2].replace(b"\0\0", b"\x12\x34") + VECTORS["question"][2:],
             port=50_000)  # fmt: skip
    lab.responder.close()
    lab.take()
    probe, announcement, answer, goodbye = lab.raw[0], lab.raw[3], lab.raw[5], lab.raw[6]
    assert probe == with_label(VECTORS["probe"])
    assert announcement == with_label(VECTORS["announcement"])
    assert answer == with_label(VECTORS["one-shot"])
    assert goodbye == with_label(VECTORS["goodbye"])


def test_the_name_is_logged_once_the_probes_are_through() -> None:
    lab = Clocked().links(PLACE)
    lab.run(0.74)
    assert not lab.events
    lab.run(0.3)
    assert lab.events == [(ANNOUNCED, LINK, f"kitchen-pi {ID[-4:]}")]


def test_starts_are_spread() -> None:
    firsts = set()
    for seed in range(40):
        lab = Clocked(seed).links(PLACE)
        lab.run(1)
        firsts.add(round(lab.sent[0][0], 2))
    assert len(firsts) > 10


# -- state by question -----------------------------------------------------------------------------

QUESTIONS = {
    "the service": (ASK, [PTR], [SRV, TXT, A]),
    "the service, any type": (Question(SERVICE, ANY, False), [PTR], [SRV, TXT, A]),
    "in capitals": (Question(SERVICE.upper(), PTR, False), [PTR], [SRV, TXT, A]),
    "a unicast answer will do": (Question(SERVICE, PTR, True), [PTR], [SRV, TXT, A]),
    "the label's port": (Question(LABEL, SRV, False), [SRV], [A]),
    "the label's text": (Question(LABEL, TXT, False), [TXT], []),
    "the label": (Question(LABEL, ANY, False), [SRV, TXT], [A]),
    "the host": (Question(HOST, A, False), [A], []),
    "the host, any type": (Question(HOST, ANY, False), [A], []),
    "the types": (Question(SERVICE_TYPES, PTR, False), [PTR], []),
    "no IPv6 there": (Question(HOST, AAAA, False), None, None),
    "the port of the service": (Question(SERVICE, SRV, False), None, None),
    "another service": (Question(name_of("_ipp", "_tcp", "local"), PTR, False), None, None),
    "another's label": (
        Question(name_of("x", "_evloop", "_tcp", "local"), SRV, False), None, None,
    ),
    "the machine itself": (Question(name_of("kitchen-pi", "local"), A, False), None, None),
}  # fmt: skip


@pytest.mark.parametrize("case", QUESTIONS)
def test_a_standing_one_answers_for_all_to_hear(case: str) -> None:
    question, answers, additional = QUESTIONS[case]
    lab = Clocked().standing()
    assert lab.ask(question) == []
    start = lab.now
    made = lab.run(10)
    if answers is None:
        assert made == []
        return
    assert [kinds(message) for message in made] == [(answers, additional)]
    when, message, _, _, to = lab.sent[0]
    assert 0.02 <= when - start <= 0.06
    assert to is None
    assert message.id == 0 and not message.questions
    assert all(it.flush == (it.type != PTR) for it in (*message.answers, *message.additional))


@pytest.mark.parametrize("case", QUESTIONS)
@pytest.mark.parametrize("state", ["waiting", "probing", "standing"])
def test_a_one_shot_question_is_answered_at_once(state: str, case: str) -> None:
    question, answers, additional = QUESTIONS[case]
    lab = Clocked().links(PLACE)
    lab.run({"waiting": 0, "probing": 0.4, "standing": 4}[state])
    lab.sent.clear()
    made = lab.ask(question, port=40_000, number=77)
    if answers is None:
        assert made == []
        return
    assert [kinds(message) for message in made] == [(answers, additional)]
    message = made[0]
    assert (message.id, message.questions) == (77, [question])
    assert lab.sent[0][4] == (OTHER, 40_000)
    for record in (*message.answers, *message.additional):
        assert record.ttl == 10 and not record.flush


@pytest.mark.parametrize("state", ["waiting", "probing"])
def test_others_are_not_answered_before_the_name_is_certain(state: str) -> None:
    lab = Clocked().links(PLACE)
    lab.run({"waiting": 0, "probing": 0.4}[state])
    lab.sent.clear()
    lab.ask(ASK)
    assert all(is_probe(message) for message in lab.run(0.2))


def test_a_question_from_off_the_link_is_never_answered_to_it() -> None:
    lab = Clocked().standing()
    assert lab.ask(ASK, source=FAR, port=40_000) == []
    made = lab.run(1)
    assert [kinds(message) for message in made] == [([PTR], [SRV, TXT, A])]
    assert [to for *_, to in lab.sent] == [None]
    assert made[0].answers[0].ttl == 4500
    probing = Clocked().links(PLACE)
    assert probing.ask(ASK, source=FAR, port=40_000) == []
    assert all(is_probe(message) for message in probing.run(0.7))


def test_the_questions_of_others_are_not_repeated() -> None:
    """Else 9,000 bytes of them would not fit our answer."""
    lab = Clocked().standing()
    foreign = [Question(name_of(b"%d" % n * 30), PTR, False) for n in range(10, 70)]
    made = lab.ask(*foreign, ASK, port=40_000)
    assert [message.questions for message in made] == [[ASK]]


def test_of_an_unknown_link_nothing_is_taken() -> None:
    lab = Clocked().standing()
    assert lab.hear(VECTORS["question"], port=40_000, link=LINK + 1) == []


# -- known answers, rates --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ttl", "value", "answered"),
    [
        (4500, LABEL, False),
        (2250, LABEL, False),
        (2249, LABEL, True),
        (4500, LABEL.upper(), False),
        (4500, name_of("other", "_evloop", "_tcp", "local"), True),
    ],
)
def test_what_the_asker_knows_is_not_said(ttl: int, value: bytes, answered: bool) -> None:
    for port in (5353, 40_000):
        lab = Clocked().standing()
        made = lab.ask(ASK, known=(Record(SERVICE, PTR, False, ttl, value),), port=port)
        assert bool(made + lab.run(2)) == answered or (port != 5353 and made)


def test_all_addresses_must_be_known() -> None:
    second = bytes([192, 0, 2, 11])
    lab = Clocked().links(place(ADDRESS, second))
    lab.run(4)
    known = [Record(HOST, A, True, 120, own) for own in (ADDRESS, second)]
    lab.ask(Question(HOST, A, False), known=(known[0],))
    assert [kinds(it) for it in lab.run(2)] == [([A, A], [])]
    lab.ask(Question(HOST, A, False), known=tuple(known))
    assert lab.run(2) == []


def test_more_known_answers_are_waited_for() -> None:
    for rest, answered in ((POINTER, False), (POINTER._replace(ttl=9), True)):
        lab = Clocked().standing()
        start = lab.now
        lab.ask(ASK, flags=TRUNCATED)
        lab.run(0.1)
        lab.hear(Message(0, QUERY, (), (rest,)))
        made = lab.run(3)
        assert bool(made) == answered
        assert all(0.4 <= when - start <= 0.5 for when, *_ in lab.sent)


def test_the_rest_of_one_asker_is_not_that_of_another() -> None:
    lab = Clocked().standing()
    lab.ask(ASK, flags=TRUNCATED)
    lab.hear(Message(0, QUERY, (), (POINTER,)), source=bytes([192, 0, 2, 44]))
    assert len(lab.run(1)) == 1


def test_who_is_waited_for_is_bounded() -> None:
    lab = Clocked().standing()
    for host in range(20, 240):
        lab.ask(ASK, flags=TRUNCATED, source=bytes([192, 0, 2, host]))
        assert len(lab.responder.links[LINK].truncated) <= ASKERS_WAITING_MAX
    lab.run(3)
    assert len(lab.sent) <= 3


def test_a_flood_of_questions_has_one_answer_a_second() -> None:
    lab = Clocked().standing()
    start = lab.now
    for at in range(1_000):
        lab.ask(ASK, Question(LABEL, ANY, False), source=bytes([192, 0, 2, at % 250]))
        lab.run(0.01)
    lab.run(2)
    times = [when for when, *_ in lab.sent]
    assert 9 <= len(times) <= 12
    assert all(later - sooner >= 1 for sooner, later in zip(times, times[1:]))
    assert times[0] - start <= 0.06


def test_a_question_waits_for_its_second_and_is_not_forgotten() -> None:
    lab = Clocked().standing()
    lab.ask(ASK)
    lab.run(0.1)
    first = lab.sent[-1][0]
    lab.ask(ASK)
    lab.run(2)
    assert [round(when - first, 3) for when, *_ in lab.sent] == [0, 1]


def test_a_probe_for_our_name_is_answered_in_time() -> None:
    """Its sender takes the name after 0.75 s of silence."""
    lab = Clocked().standing()
    lab.ask(ASK)
    lab.run(0.1)
    start = lab.now
    claim = Record(LABEL, SRV, False, 120, (0, 0, 1, HOST))
    lab.hear(Message(0, QUERY, (Question(LABEL, ANY, False),), (), (claim,)))
    lab.run(0.5)
    assert len(lab.sent) == 2
    assert lab.sent[1][0] - start <= 0.25


def test_one_shots_have_a_rate() -> None:
    lab = Clocked().standing()
    answered = sum(len(lab.ask(ASK, port=40_000)) for _ in range(500))
    assert answered == UNICAST_ANSWERS_BURST
    lab.run(2)
    assert sum(len(lab.ask(ASK, port=40_000)) for _ in range(500)) == UNICAST_ANSWERS_BURST
    lab.run(0.101)
    more = sum(len(lab.ask(ASK, port=40_000)) for _ in range(500))
    assert more == int(UNICAST_ANSWERS_PER_S * 0.1)


# -- conflicts -------------------------------------------------------------------------------------

CONFLICTS = {
    "another port": Record(LABEL, SRV, True, 120, (0, 0, 1, HOST)),
    "another host": Record(LABEL, SRV, True, 120, (0, 0, 44444, name_of("x", "local"))),
    "another text": Record(LABEL, TXT, True, 4500, b"\x05tls=1"),
    "in capitals": Record(LABEL.upper(), TXT, True, 4500, b"\x05tls=1"),
    "another address": Record(HOST, A, True, 120, OTHER),
    "an address of IPv6": Record(HOST, AAAA, True, 120, bytes(16)),
}


@pytest.mark.parametrize("case", CONFLICTS)
@pytest.mark.parametrize("state", ["probing", "standing"])
def test_a_conflict_renames(state: str, case: str) -> None:
    lab = Clocked().links(PLACE)
    lab.run({"probing": 0.4, "standing": 4}[state])
    lab.sent.clear()
    record = CONFLICTS[case]
    lab.tell(record)
    about_label = record.name.lower() == LABEL.lower()
    assert (lab.label == LABEL, lab.host == HOST) == (not about_label, about_label)
    lab.run(4)
    assert [is_probe(message) for _, message, *_ in lab.sent] == [True] * 3 + [False] * 2
    last = lab.sent[-1][1].answers
    assert (last[1].name, last[3].name) == (lab.label, lab.host)
    if about_label:
        text = labels_of(lab.label)[0].decode()
        assert text != f"kitchen-pi {ID[-4:]}" and len(text) == len("kitchen-pi 3f2a")
    else:
        assert labels_of(lab.host)[0].decode().startswith(f"evloop-{ID}-")


OURS = (
    Record(LABEL, SRV, True, 120, (0, 0, 44444, HOST)),
    Record(LABEL, SRV, True, 120, (0, 0, 44444, HOST.upper())),
    Record(HOST, A, True, 120, ADDRESS),
    Record(LABEL, 47, True, 120, b"abc"),  # NSEC: that there are no others
    Record(LABEL, SRV, True, 0, (0, 0, 1, HOST)),  # who had the name gives it up
    POINTER,
    Record(name_of("x", "_evloop", "_tcp", "local"), SRV, True, 120, (0, 0, 1, HOST)),
)


@pytest.mark.parametrize("record", OURS)
@pytest.mark.parametrize("state", ["waiting", "probing", "standing"])
def test_what_is_no_conflict(state: str, record: Record) -> None:
    lab = Clocked().links(PLACE)
    lab.run({"waiting": 0, "probing": 0.4, "standing": 4}[state])
    lab.tell(record)
    assert (lab.label, lab.host) == (LABEL, HOST)


@pytest.mark.parametrize("how", [{"source": FAR}, {"port": 40_000}])
def test_a_conflict_from_elsewhere_is_ignored(how: dict[str, bytes]) -> None:
    lab = Clocked().standing()
    lab.tell(CONFLICTS["another port"], **how)  # type: ignore[arg-type]
    assert lab.label == LABEL


def test_the_other_link_may_be_the_same_network() -> None:
    """A cable and Wi-Fi of one machine: each hears what the other says."""
    second = bytes([192, 0, 2, 11])
    lab = Clocked().links(PLACE, place(own=second))
    for _ in range(40):
        for _, message, index, _, to in lab.sent:
            if to is None:
                source = ADDRESS if index == LINK else second
                for link in (LINK, LINK + 1):
                    lab.responder.receive(build(message), source, 5353, link, lab.now)
        lab.sent.clear()
        lab.run(0.1)
    names = [event for event in lab.events if event[0] == ANNOUNCED]
    assert [name for *_, name in names] == [f"kitchen-pi {ID[-4:]}"] * 2
    assert DEAF not in [event[0] for event in lab.events]


def test_each_link_has_names_of_its_own() -> None:
    lab = Clocked().links(PLACE, PLACE)
    lab.run(4)
    lab.tell(CONFLICTS["another port"])
    links = lab.responder.links
    assert links[LINK].label != LABEL
    assert links[LINK + 1].label == LABEL and links[LINK + 1].standing


def test_a_flood_of_conflicts_costs_a_rename_in_5_seconds() -> None:
    """After the first 15; whatever the flood is about."""
    lab = Clocked().standing()
    start = lab.now
    renames: list[float] = []
    label, host = lab.label, lab.host
    for _ in range(12_000):
        lab.tell(Record(lab.label, SRV, True, 120, (0, 0, 1, HOST)))
        lab.tell(Record(lab.host, A, True, 120, OTHER))
        if (lab.label, lab.host) != (label, host):
            renames.append(lab.now - start)
            label, host = lab.label, lab.host
        lab.run(0.01)
    assert len(renames) <= 15 + 120 / RENAME_EVERY_S
    assert renames[14] < 10
    late = renames[15:]
    assert all(later - sooner >= RENAME_EVERY_S for sooner, later in zip(late, late[1:]))
    assert renames[15] - renames[14] >= RENAME_EVERY_S
    assert len(lab.sent) <= 5 * len(renames)
    lab.run(20)
    assert lab.responder.links[LINK].standing


def test_names_stay_when_the_carrier_comes_back() -> None:
    lab = Clocked().standing()
    lab.tell(CONFLICTS["another port"])
    lab.run(4)
    lab.sent.clear()
    label = lab.label
    lab.links(place(epoch=2)).run(4)
    assert lab.label == label
    assert [is_probe(message) for _, message, *_ in lab.sent] == [True] * 3 + [False] * 2


# -- goodbyes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("record", [POINTER, *OURS[:3]])
def test_a_forged_goodbye_is_contradicted(record: Record) -> None:
    lab = Clocked().standing()
    lab.tell(record._replace(ttl=0))
    made = lab.run(1)
    assert len(made) == 1
    assert record.type in kinds(made[0])[0]


def test_a_flood_of_goodbyes_is_contradicted_once_a_second() -> None:
    lab = Clocked().standing()
    for _ in range(1_000):
        lab.tell(POINTER._replace(ttl=0))
        lab.run(0.01)
    assert len(lab.sent) <= 11


def test_nothing_is_said_where_nothing_was_announced() -> None:
    lab = Clocked().links(PLACE)
    lab.run(0.4)
    lab.sent.clear()
    lab.responder.close()
    assert lab.take() == []
    assert lab.responder.next_deadline() == float("inf")
    assert lab.ask(ASK, port=40_000) == []


# -- links and addresses ---------------------------------------------------------------------------


def test_a_changed_address_is_announced_again() -> None:
    lab = Clocked().standing()
    other = bytes([192, 0, 2, 99])
    lab.links(place(own=other))
    made = lab.run(10)
    assert [kinds(message) for message in made] == [([PTR, SRV, TXT, A], [])] * 2
    assert {message.answers[3].value for message in made} == {other}
    assert lab.sent[0][0] == lab.sent[1][0] - 1


def test_a_family_that_is_gone_is_taken_back() -> None:
    near = bytes.fromhex("fe80000000000000" + "0000000000000001")
    both = Place(1, ((ADDRESS, 24), (near, 64)), (ADDRESS, near))
    lab = Clocked().links(both)
    lab.run(4)
    lab.sent.clear()
    lab.links(Place(1, ((near, 64),), (near,)))
    made = lab.run(10)
    assert [kinds(message) for message in made] == [([PTR, SRV, TXT, AAAA, A], [])] * 2
    assert made[0].answers[4] == Record(HOST, A, True, 0, ADDRESS)
    lab.sent.clear()
    lab.links(both)
    assert [kinds(message)[0] for message in lab.run(10)] == [[PTR, SRV, TXT, A, AAAA]] * 4


def test_an_unchanged_link_says_nothing() -> None:
    lab = Clocked().standing()
    lab.links(PLACE).links(place(bits=16))
    assert lab.run(10) == []


def test_a_link_that_is_gone_is_forgotten() -> None:
    lab = Clocked().links(PLACE)
    lab.run(0.4)
    lab.links()
    lab.sent.clear()
    assert lab.run(10) == []


def test_both_families() -> None:
    near = bytes.fromhex("fe80000000000000" + "0000000000000001")
    lab = Clocked().links(Place(1, ((ADDRESS, 24), (near, 64)), (ADDRESS, near)))
    lab.run(4)
    assert [ipv6 for _, _, _, ipv6, _ in lab.sent] == [False, True] * 5
    assert kinds(lab.sent[-1][1]) == ([PTR, SRV, TXT, A, AAAA], [])
    lab.sent.clear()
    asker = near[:15] + b"\x09"
    lab.ask(ASK, source=asker)
    lab.run(1)
    assert [(ipv6, to) for _, _, _, ipv6, to in lab.sent] == [(True, None)]
    lab.sent.clear()
    lab.ask(ASK, source=asker, port=40_000)
    assert [(ipv6, to) for _, _, _, ipv6, to in lab.sent] == [(True, (asker, 40_000))]


def test_ipv6_alone() -> None:
    near = bytes.fromhex("fe80000000000000" + "0000000000000001")
    lab = Clocked().links(Place(1, ((near, 64),), (near,)))
    lab.run(4)
    assert {ipv6 for _, _, _, ipv6, _ in lab.sent} == {True}
    assert kinds(lab.sent[-1][1]) == ([PTR, SRV, TXT, AAAA], [])


def test_so_many_addresses() -> None:
    own = tuple(bytes([10, 0, 0, n]) for n in range(1, 60))
    lab = Clocked().links(Place(1, tuple((it, 24) for it in own), own))
    lab.run(4)
    assert len(lab.sent[-1][1].answers) == 3 + ANNOUNCED_ADDRESSES_MAX
    assert max(map(len, lab.raw)) < 600


def test_a_listener_on_one_address_is_announced_with_that_alone() -> None:
    near = bytes.fromhex("fe80000000000000" + "0000000000000001")
    lab = Clocked().links(Place(1, ((ADDRESS, 24), (near, 64)), (ADDRESS,)))
    lab.run(4)
    assert kinds(lab.sent[-1][1]) == ([PTR, SRV, TXT, A], [])


# -- self-check ------------------------------------------------------------------------------------


def test_an_announcement_that_does_not_come_back_is_told_once() -> None:
    lab = Clocked().links(PLACE)
    lab.run(30)
    assert lab.events[1:] == [(DEAF, LINK, False)]


@pytest.mark.parametrize(("change", "well"), [(b"", True), (b"x", False)])
def test_what_comes_back_is_our_own(change: bytes, well: bool) -> None:
    lab = Clocked().links(PLACE)
    while not lab.events:
        lab.run(0.01)
    lab.hear(lab.raw[-1] + change, source=ADDRESS)
    lab.run(30)
    assert (len(lab.events) == 1) == well


# -- what is told ----------------------------------------------------------------------------------


def test_tls_and_a_guest() -> None:
    service = Service("bob-laptop", ID, GUEST, 5000, "ab" * 16)
    lab = Clocked(service=service).links(PLACE)
    lab.run(4)
    text = lab.sent[-1][1].answers[2].value
    assert text == (
        b"\x09txtvers=1\x13id=0102030405060708\x0akind=guest\x07proto=1\x05tls=1"
        b"\x23fp=" + b"ab" * 16
    )


def test_a_new_certificate_is_announced() -> None:
    lab = Clocked().standing()
    lab.responder.set_fingerprint("cd" * 16, lab.now)
    made = lab.run(5)
    assert len(made) == 2
    value = made[0].answers[2].value
    assert isinstance(value, bytes) and b"fp=" + b"cd" * 16 in value


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("kitchen-pi", "kitchen-pi 3f2a"),
        ("x" * 80, "x" * 58 + " 3f2a"),
        ("\u00fc" * 40, "\u00fc" * 29 + " 3f2a"),
        ("a" + "\u20ac" * 20, "a" + "\u20ac" * 19 + " 3f2a"),
        ("two.dots.", "two.dots. 3f2a"),
        ("bad\x1b[1m", "bad^[[1m 3f2a"),
        ("\udcff", "\ufffd 3f2a"),
    ],
)
def test_labels(name: str, label: str) -> None:
    assert label_of(name, "3f2a") == label
    assert len(label.encode()) <= 63


# -- hostile ---------------------------------------------------------------------------------------


def test_mutants_raise_nothing() -> None:
    rng = Random(15)
    lab = Clocked().standing()
    vectors = [with_label(vector) for vector in VECTORS.values()]
    for _ in range(20_000):
        source = rng.choice((OTHER, ADDRESS, FAR, bytes(16)))
        port = rng.choice((5353, 40_000))
        lab.responder.receive(mutant(rng, rng.choice(vectors)), source, port, LINK, lab.now)
        lab.now += 0.001
        lab.responder.handle_timer(lab.now)
        for data, *_ in lab.responder.datagrams_to_send():
            parse(data)
        lab.responder.events()
    assert sum(lab.responder.bad.values()) > 1_000


def test_bad_ones_are_counted_by_reason() -> None:
    lab = Clocked().standing()
    lab.hear(b"short")
    lab.hear(b"\0\0\x08\0" + bytes(8))
    assert (lab.responder.bad["short"], lab.responder.bad["opcode"]) == (1, 1)


def test_an_answer_is_not_a_question() -> None:
    """A response with questions in it (RFC 6762, 6: they are ignored)."""
    lab = Clocked().standing()
    assert lab.hear(Message(9, ANSWER, (ASK,)), port=40_000) == []
    assert lab.run(2) == []
