"""The commands that only ask: who is here, which rooms there are, what this server is."""

from __future__ import annotations

from evloop.base.names import display, fold, place_of
from evloop.irc.about import ISUPPORT, motd
from evloop.irc.codec import HOST, SERVER, utc_text
from evloop.irc.limits import IRC_LISTED_MAX

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from evloop.base.errors import EvloopError
    from evloop.irc.codec import Line
    from evloop.irc.person import Client, Person
    from evloop.irc.seat import Seat
    from evloop.irc.state import Door

NO_OPERATORS = "rooms have no operators, topics or modes: everybody in a room is equal"


class _Found:
    """Somebody with a nick: a member of this door, or one of the rooms that the asker is in."""

    __slots__ = ("away", "nick", "own", "real", "seats", "user")

    def __init__(self, nick: str, user: str, real: str, away: str, own: bool) -> None:
        self.nick = nick
        self.user = user
        self.real = real
        self.away = away
        self.own = own  # a member of this door
        self.seats: list[Seat] = []  # the channels that the asker shares with it


def find(door: Door, person: Person, nick: str) -> _Found | None:
    """Who `nick` is for `person`."""
    other = door.persons.get(fold(nick))
    if other is not None:
        found = _Found(other.nick, other.user, other.real, other.away, True)
        found.seats = [seat for key, seat in person.seats.items() if key in other.seats]
        return found
    result: _Found | None = None
    for seat in person.seats.values():
        sender = seat.nicks.find(nick)
        if sender is None:
            continue
        if result is None:
            shown = seat.nick(sender, "")
            result = _Found(shown, seat.user(sender), seat.real(sender), "", False)
        result.seats.append(seat)
    return result


def channel_mode(client: Client, seat: Seat, modes: list[str]) -> None:
    """MODE of a channel: what it has, or its empty lists."""
    lists = {"b": (368, "ban"), "e": (349, "exception"), "I": (347, "invite")}
    asked = modes[0].removeprefix("+") if len(modes) == 1 else ""
    if not modes:
        client.numeric(324, seat.channel, "+n")
        client.numeric(329, seat.channel, str(seat.entry.made or seat.joined_ms // 1_000))
    elif asked in lists:
        code, name = lists[asked]
        client.numeric(code, seat.channel, last=f"End of channel {name} list")
    else:
        client.numeric(482, seat.channel, last=NO_OPERATORS)


def _who(door: Door, client: Client, line: Line) -> None:
    person = client.person
    assert person is not None
    mask = line.words[0] if line.words else "*"
    seat = person.seat(mask)
    if seat is not None:
        _who_row(client, seat.channel, person.user, person.nick, person.away, person.real)
        for sender, nick in seat.nicks.present.items():
            own = door.members.get(sender)
            away = own.away if own is not None else ""
            _who_row(client, seat.channel, seat.user(sender), nick, away, seat.real(sender))
    elif not mask.startswith("#"):
        found = find(door, person, mask)
        if found is not None:
            _who_row(client, "*", found.user, found.nick, found.away, found.real)
    client.numeric(315, mask, last="End of /WHO list.")


def _who_row(client: Client, channel: str, user: str, nick: str, away: str, real: str) -> None:
    here = "G" if away else "H"
    client.numeric(352, channel, user, HOST, SERVER, nick, here, last=f"0 {real}")


def _whois(door: Door, client: Client, line: Line) -> None:
    person = client.person
    assert person is not None
    if not line.words or not line.words[-1]:
        client.numeric(431, last="No nickname given")
        return
    nick = line.words[1] if len(line.words) > 1 else line.words[0]
    found = find(door, person, nick)
    if found is None:
        client.numeric(401, nick, last="No such nick/channel")
    else:
        shown = found.nick
        client.numeric(311, shown, found.user, HOST, "*", last=found.real)
        if found.seats:
            client.numeric(319, shown, last=" ".join([seat.channel for seat in found.seats]))
        where = "a member of this door" if found.own else "in the room itself"
        client.numeric(312, shown, SERVER, last=where)
        if found.away:
            client.numeric(301, shown, last=found.away)
    client.numeric(318, nick, last="End of /WHOIS list.")


def _whowas(door: Door, client: Client, line: Line) -> None:
    if not line.words or not line.words[0]:
        client.numeric(431, last="No nickname given")
        return
    nick = line.words[0]
    client.numeric(406, nick, last="There was no such nickname")
    client.numeric(369, nick, last="End of WHOWAS")


def _ison(door: Door, client: Client, line: Line) -> None:
    person = client.person
    assert person is not None
    nicks = [nick for word in line.words for nick in word.split()]
    found = [find(door, person, nick) for nick in nicks]
    client.numeric(303, last=" ".join([one.nick for one in found if one is not None]))


def _userhost(door: Door, client: Client, line: Line) -> None:
    person = client.person
    assert person is not None
    found = [find(door, person, nick) for nick in line.words[:5]]
    shown = [
        f"{one.nick}={'-' if one.away else '+'}{one.user}@{HOST}"
        for one in found
        if one is not None
    ]
    client.numeric(302, last=" ".join(shown))


def _list(door: Door, client: Client, line: Line) -> None:
    only = {fold(word[1:]) for word in line.words[0].split(",")} if line.words else None

    def listed(rooms: list[Any], error: EvloopError | None) -> None:
        if error is not None:
            client.send(SERVER, "NOTICE", client.name, last=display(str(error)))
        client.numeric(321, "Channel", last="Users  Name")
        shown = [
            (room, members)
            for room, members in rooms
            if "," not in room.name and (only is None or fold(room.name) in only)
        ]
        for room, members in shown[:IRC_LISTED_MAX]:
            place = place_of(display(room.address), room.port)
            about = f"{place} {display(room.mode)}"
            client.numeric(322, f"#{room.name}", str(members), last=about)
        client.numeric(323, last="End of /LIST")
        door.free(client)

    door.hold(client)
    door.outside.list_rooms(listed)


def _lusers(door: Door, client: Client, line: Line) -> None:
    for code, words, last in door.counts():
        client.numeric(code, *words, last=last)


def _motd(door: Door, client: Client, line: Line) -> None:
    for code, text in motd(door.version):
        client.numeric(code, last=text)


def _version(door: Door, client: Client, line: Line) -> None:
    client.numeric(351, f"evloop-{door.version}", SERVER, last="")
    for at in range(0, len(ISUPPORT), 10):
        client.numeric(5, *ISUPPORT[at : at + 10], last="are supported by this server")


def _time(door: Door, client: Client, line: Line) -> None:
    client.numeric(391, SERVER, last=utc_text(door.wall_ms()))


def _info(door: Door, client: Client, line: Line) -> None:
    client.numeric(371, last=f"evloop {door.version}: group chat for local networks")
    client.numeric(374, last="End of /INFO list.")


def _links(door: Door, client: Client, line: Line) -> None:
    client.numeric(365, "*", last="End of /LINKS list.")


QUERIES: dict[str, tuple[Callable[[Door, Client, Line], None], int]] = {
    "WHO": (_who, 0),
    "WHOIS": (_whois, 0),
    "WHOWAS": (_whowas, 0),
    "ISON": (_ison, 1),
    "USERHOST": (_userhost, 1),
    "LIST": (_list, 0),
    "LUSERS": (_lusers, 0),
    "MOTD": (_motd, 0),
    "VERSION": (_version, 0),
    "TIME": (_time, 0),
    "INFO": (_info, 0),
    "LINKS": (_links, 0),
}
