"""CHATHISTORY (IRCv3 draft/chathistory): which old messages a client is sent.

A message is known by its `msgid`, or by its time; the order is always the session's. A msgid is a
position in it; a time only filters, because the clocks of members differ. Then the limit is taken
at the end that is next to what was referred to.

    LATEST  room * | REF limit     the newest (after REF)
    BEFORE  room REF limit         the last ones before REF
    AFTER   room REF limit         the first ones after REF
    AROUND  room REF limit         those around REF, itself included
    BETWEEN room REF REF limit     the first ones after the first REF and before the second; when
                                   they are the other way round, the last ones
    TARGETS REF REF limit          the channels whose newest message lies between
"""

from __future__ import annotations

from evloop.irc.codec import SERVER, utc_ms
from evloop.irc.limits import CHATHISTORY_MAX

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from evloop.irc.codec import Line
    from evloop.irc.person import Client, Person
    from evloop.irc.state import Door
    from evloop.room.events import Said

    Message = tuple[Said, int]

ANY = ("*", "")  # the newest there is
WORDS = {"LATEST": 3, "BEFORE": 3, "AFTER": 3, "AROUND": 3, "BETWEEN": 4, "TARGETS": 3}


def chathistory(door: Door, client: Client, line: Line) -> None:
    """The command; what cannot be done is answered by FAIL."""
    person = client.person
    assert person is not None, "the table lets no other client call this"
    if not line.words:
        _fail(client, "NEED_MORE_PARAMS", [], "Missing parameters")
        return
    word, *rest = line.words
    word = word.upper()
    if word not in WORDS:
        _fail(client, "UNKNOWN_COMMAND", [line.words[0]], "Unknown command")
    elif len(rest) < WORDS[word]:
        _fail(client, "NEED_MORE_PARAMS", [word], "Missing parameters")
    elif word == "TARGETS":
        _targets(door, client, person, rest)
    else:
        _messages(client, person, word, rest)


def _fail(client: Client, code: str, context: list[str], why: str) -> None:
    client.fail("CHATHISTORY", code, *context, last=why)


def _messages(client: Client, person: Person, word: str, rest: list[str]) -> None:
    channel, *references, number = rest[: WORDS[word]]
    seat = person.seat(channel)
    if seat is None:
        _fail(client, "INVALID_TARGET", [word, channel], "No history of that could be had")
        return
    limit = _limit(number)
    any_time = word == "LATEST" and references[0] in ANY
    refs = [] if any_time else [reference(text) for text in references]
    if not limit or None in refs:
        _fail(client, "INVALID_PARAMS", [word], "A reference or the limit is none")
        return
    found = [ref for ref in refs if ref is not None]

    def tell(past: Sequence[Message]) -> None:
        if not client.closed:
            seat.tell_past(client, select(past, word, found, limit))

    def answer() -> None:
        past = seat.past()
        chosen = select(past, word, found, limit)
        reaches_back = len(chosen) < limit or chosen[0] == past[0]
        if word == "AFTER" or not reaches_back or not seat.ask_older(past, tell):
            tell(past)

    if not seat.when_complete(answer):
        answer()


def _targets(door: Door, client: Client, person: Person, rest: list[str]) -> None:
    one, other, limit = reference(rest[0]), reference(rest[1]), _limit(rest[2])
    if one is None or other is None or not limit or "msgid" in (one[0], other[0]):
        _fail(client, "INVALID_PARAMS", ["TARGETS"], "Two timestamps and a limit are needed")
        return
    low, high = sorted((int(one[1]), int(other[1])))
    newest = [(seat.past(1), seat.channel) for seat in person.seats.values()]
    rows = sorted((past[0][1], channel) for past, channel in newest if past)
    rows = [row for row in rows if low < row[0] < high][:limit]
    batch = client.next_batch() if "batch" in client.caps else ""
    if batch:
        client.send(SERVER, "BATCH", f"+{batch}", "draft/chathistory-targets")
    for ms, channel in rows:
        tags = {"batch": batch} if batch else {}
        client.send(SERVER, "CHATHISTORY", "TARGETS", channel, door.utc(ms), tags=tags)
    if batch:
        client.send(SERVER, "BATCH", f"-{batch}")


def _limit(text: str) -> int:
    """The number of messages asked for, as many as there may be; 0: it is none."""
    good = text.isascii() and text.isdigit()
    return min(int(text[:9]), CHATHISTORY_MAX) if good else 0


def reference(text: str) -> tuple[str, str | int] | None:
    """("msgid", id) or ("timestamp", ms); None when it is neither."""
    kind, equals, value = text.partition("=")
    if kind == "timestamp" and equals:
        ms = utc_ms(value)
        return None if ms is None else (kind, ms)
    return (kind, value) if kind == "msgid" and value else None


def select(
    messages: Sequence[Message], word: str, refs: Sequence[tuple[str, str | int]], limit: int
) -> list[Message]:
    """Those of `messages` (in the session's order) that are asked for, in that order.

    A msgid that is not there was most likely forgotten, so it counts as older than all.
    """
    places = {f"{event.sender.hex()}-{event.seq}": at for at, (event, _) in enumerate(messages)}

    def after(ref: tuple[str, str | int]) -> set[int]:
        kind, value = ref
        if kind == "msgid":
            return set(range(places.get(str(value), -1) + 1, len(messages)))
        return {at for at, (_, ms) in enumerate(messages) if ms > int(value)}

    def before(ref: tuple[str, str | int]) -> set[int]:
        kind, value = ref
        if kind == "msgid":
            return set(range(max(places.get(str(value), -1), 0)))
        return {at for at, (_, ms) in enumerate(messages) if ms < int(value)}

    def time(ref: tuple[str, str | int]) -> int:
        if ref[0] == "timestamp":
            return int(ref[1])
        at = places.get(str(ref[1]), -1)
        return messages[at][1] if at >= 0 else -1

    everything = set(range(len(messages)))
    if word == "LATEST":
        chosen = sorted(after(refs[0]) if refs else everything)[-limit:]
    elif word == "BEFORE":
        chosen = sorted(before(refs[0]))[-limit:]
    elif word == "AFTER":
        chosen = sorted(after(refs[0]))[:limit]
    elif word == "AROUND":
        older = sorted(before(refs[0]))
        newer = sorted(everything - set(older))
        near = older[len(older) - limit // 2 :] if len(older) > limit // 2 else older
        chosen = sorted([*near, *newer[: limit - len(near)]])
    else:
        one, other = refs
        backwards = _is_later(one, other, places, time)
        first, last = (other, one) if backwards else (one, other)
        between = sorted(after(first) & before(last))
        chosen = between[-limit:] if backwards else between[:limit]
    return [messages[at] for at in chosen]


def _is_later(
    one: tuple[str, str | int],
    other: tuple[str, str | int],
    places: dict[str, int],
    time: Callable[[tuple[str, str | int]], int],
) -> bool:
    """Whether `one` refers to something after `other`."""
    if one[0] == other[0] == "msgid":
        return places.get(str(one[1]), -1) > places.get(str(other[1]), -1)
    return time(one) > time(other)
