"""CHATHISTORY: which messages are chosen, against the plainest reading of the page."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from evloop.irc.past import reference, select
from evloop.room.events import TEXT, Said
from tests.irc.world import World

START_MS = 1_790_000_000_000


def message(number: int, ms: int) -> tuple[Said, int]:
    event = Said("message", b"\xab" * 8, number, "Mel", TEXT, f"text {number}", 0, "", False)
    return event, ms


def msgid(number: int) -> str:
    return f"{'ab' * 8}-{number}"


messages = st.lists(st.integers(0, 20), max_size=12).map(
    lambda times: [message(at, ms) for at, ms in enumerate(times)]
)
refs = st.one_of(
    st.integers(-1, 21).map(lambda ms: ("timestamp", ms)),
    st.integers(0, 12).map(lambda number: ("msgid", msgid(number))),
)
limits = st.integers(1, 8)


def is_after(item: tuple[Said, int], ref: tuple[str, str | int], known: bool) -> bool:
    event, ms = item
    if ref[0] == "timestamp":
        return ms > int(ref[1])
    return not known or event.seq > int(str(ref[1]).partition("-")[2])


def is_before(item: tuple[Said, int], ref: tuple[str, str | int], known: bool) -> bool:
    event, ms = item
    if ref[0] == "timestamp":
        return ms < int(ref[1])
    return known and event.seq < int(str(ref[1]).partition("-")[2])


def is_known(past: list[tuple[Said, int]], ref: tuple[str, str | int]) -> bool:
    return ref[0] == "timestamp" or any(msgid(event.seq) == ref[1] for event, _ in past)


@given(messages, refs, limits)
def test_one_reference(
    past: list[tuple[Said, int]], ref: tuple[str, str | int], limit: int
) -> None:
    known = is_known(past, ref)
    after = [item for item in past if is_after(item, ref, known)]
    before = [item for item in past if is_before(item, ref, known)]
    assert select(past, "LATEST", [ref], limit) == after[-limit:]
    assert select(past, "LATEST", [], limit) == past[-limit:]
    assert select(past, "AFTER", [ref], limit) == after[:limit]
    assert select(past, "BEFORE", [ref], limit) == before[-limit:]
    around = select(past, "AROUND", [ref], limit)
    older = [item for item in around if item in before]
    newer = [item for item in around if item not in before]
    rest = [item for item in past if item not in before]
    assert around == sorted(around, key=lambda item: item[0].seq)
    assert older == before[len(before) - min(len(before), limit // 2) :]
    assert newer == rest[: limit - len(older)]


@given(messages, refs, refs, limits)
def test_between_two(
    past: list[tuple[Said, int]],
    one: tuple[str, str | int],
    other: tuple[str, str | int],
    limit: int,
) -> None:
    def place(ref: tuple[str, str | int]) -> int:
        if ref[0] == "timestamp":
            return int(ref[1])
        found = [ms for event, ms in past if msgid(event.seq) == ref[1]]
        return found[0] if found else -1

    if one[0] == other[0] == "msgid":
        backwards = is_known(past, one) and (
            not is_known(past, other) or (str(one[1]) != str(other[1])
            and int(str(one[1]).partition("-")[2]) > int(str(other[1]).partition("-")[2]))
        )  # fmt: skip
    else:
        backwards = place(one) > place(other)
    low, high = (other, one) if backwards else (one, other)
    inside = [
        item
        for item in past
        if is_after(item, low, is_known(past, low)) and is_before(item, high, is_known(past, high))
    ]
    wanted = inside[-limit:] if backwards else inside[:limit]
    assert select(past, "BETWEEN", [one, other], limit) == wanted


def test_references() -> None:
    assert reference("timestamp=2026-09-21T14:13:20.000Z") == ("timestamp", START_MS)
    assert reference("timestamp=2026-09-21T14:13:20Z") == ("timestamp", START_MS)
    assert reference("msgid=abc=d") == ("msgid", "abc=d")
    for text in ("", "*", "msgid=", "timestamp=yesterday", "timestamp=2026-13-01T00:00:00Z"):
        assert reference(text) is None


def test_what_is_wrong_with_a_request() -> None:
    world = World()
    one = world.user("Ann", "draft/chathistory", "batch")
    one.join()
    start = ":evloop.internal FAIL CHATHISTORY "
    assert one.ask("CHATHISTORY")[0].startswith(start + "NEED_MORE_PARAMS :")
    assert one.ask("CHATHISTORY WHAT #lab")[0].startswith(start + "UNKNOWN_COMMAND WHAT :")
    assert one.ask("CHATHISTORY LATEST #lab *")[0].startswith(start + "NEED_MORE_PARAMS LATEST :")
    assert one.ask("CHATHISTORY LATEST #no * 5")[0].startswith(start + "INVALID_TARGET LATEST #no")
    for bad in ("LATEST #lab x 5", "LATEST #lab * 0", "LATEST #lab * x", "BEFORE #lab * 5"):
        answer = one.ask(f"CHATHISTORY {bad}")[0]
        assert answer.startswith(f"{start}INVALID_PARAMS {bad.partition(' ')[0]} :")


def test_targets() -> None:
    world = World()
    one = world.user("Ann", "draft/chathistory", "batch", "server-time")
    one.join("lab")
    one.join("garden")
    world.pass_time(60)
    one.say("PRIVMSG #garden :hello")
    asked = "CHATHISTORY TARGETS timestamp=2026-09-21T14:13:00Z timestamp=2026-09-21T15:00:00Z 10"
    assert one.ask(asked) == [
        ":evloop.internal BATCH +1 draft/chathistory-targets",
        "@batch=1 :evloop.internal CHATHISTORY TARGETS #garden 2026-09-21T14:14:21.000Z",
        ":evloop.internal BATCH -1",
    ]


def test_senpai_asks_right_behind_join() -> None:
    """Its exact sequence, as of version 0.3."""
    world = World()
    one = world.connect()
    wanted = (
        "batch cap-notify echo-message labeled-response message-tags multi-prefix sasl server-time"
        " standard-replies draft/chathistory draft/event-playback draft/read-marker"
    )
    one.say("CAP LS 302", *[f"CAP REQ {cap}" for cap in wanted.split()])
    one.say("NICK Ann", "USER ann 0 * Ann", "CAP END")
    lines = one.take()
    assert [line.split()[-1].lstrip(":") for line in lines if " NAK " in line] == [
        "labeled-response",
        "sasl",
        "draft/event-playback",
        "draft/read-marker",
    ]
    assert any(" 001 Ann " in line for line in lines)
    one.say("JOIN #lab", "CHATHISTORY BEFORE #lab timestamp=2026-09-21T14:13:20.000Z 200")
    room = world.room()
    mel = b"\xbb" * 8
    room.joins(mel, "Mel")
    room.heard(mel, "Mel", "old", mark="history", wall=START_MS // 1_000 - 60)
    world.pass_time(0.6)
    assert [line.split(" ")[1] for line in one.take()] == ["JOIN", "353", "366"]
    world.pass_time(1.2)
    assert [line.split(" ")[-1] for line in one.take()] == ["#lab", ":old", "-1"]


class Kept:
    """What a directory keeps of a room, as a test plays it."""

    def __init__(self, events: list[Said]) -> None:
        self.events = events
        self.waiting: list[Callable[[list[Said]], object]] = []

    def told(self, value: object) -> None:
        """Another answer of the directory: nothing is different."""

    def is_keeper(self, sender: bytes) -> bool:
        return sender == b"K" * 8

    def older(self, count: int, then: Callable[[list[Said]], object]) -> bool:
        self.waiting.append(then)
        return True


def test_what_the_directory_has_kept() -> None:
    world = World()
    old = [message(number, 0)[0]._replace(wall=1_000 + number) for number in range(3)]
    kept = world.kept["lab"] = Kept(old)
    one = world.user("Ann", "draft/chathistory", "batch", "server-time", "message-tags")
    one.say("JOIN #lab")
    room = world.room()
    room.joins(b"K" * 8, "keeper")
    world.pass_time(2.0)
    assert "353 Ann = #lab :Ann" in one.take()[1]
    one.say("CHATHISTORY LATEST #lab * 10", "PING x")
    assert [line.split(" ")[1] for line in one.take()] == ["PONG"]
    kept.waiting[0](old)
    lines = one.take()
    assert [line.rpartition(":")[2] for line in lines[1:-1]] == ["text 0", "text 1", "text 2"]
    assert one.take() == []
    # It does not answer: what is here goes out, once.
    one.say("PRIVMSG #lab :of now", "CHATHISTORY LATEST #lab * 10")
    world.pass_time(4.9)
    assert one.take() == []
    world.pass_time(0.2)
    assert [line.rpartition(":")[2] for line in one.take()[1:-1]] == ["of now"]
    kept.waiting[1](old)
    assert one.take() == []
    # What is held here is enough: nobody is asked.
    one.say("CHATHISTORY AFTER #lab timestamp=1970-01-01T00:00:00Z 1")
    assert len(one.take()) == 3 and len(kept.waiting) == 2


def test_the_keeper_is_no_member_to_see() -> None:
    world = World()
    kept = world.kept["lab"] = Kept([])
    one = world.user("Ann")
    room = one.join()
    room.joins(b"K" * 8, "keeper")
    room.renames(b"K" * 8, "keeper", "keeper2")
    room.leaves(b"K" * 8, "keeper2")
    room.joins(b"L" * 8, "another")
    assert [line.split(" ")[1] for line in one.take()] == ["JOIN"]
    kept.is_keeper = lambda sender: sender in (b"K" * 8, b"L" * 8)  # type: ignore[method-assign]
    one.client.person.seats["lab"].keepers_changed()  # type: ignore[union-attr]
    assert one.take()[0].endswith("PART #lab :left")
