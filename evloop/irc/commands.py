"""What the commands of an IRC client do: registration, channels, messages.

`COMMANDS` is the one table; what only asks is in `queries`, and CHATHISTORY in `past`. A handler
gets (door, client, line); how many words a command needs at least is in its row.
"""

from __future__ import annotations

from collections import namedtuple

from evloop.base.errors import REFUSED, UNREACHABLE, EvloopError, Refused, SetupError
from evloop.base.names import display, fold, utf8_parts
from evloop.irc import past, queries
from evloop.irc.about import CAPS
from evloop.irc.codec import SERVER, user_of, without_formats
from evloop.irc.limits import AWAY_BYTES_MAX, SOURCE_USER_BYTES_MAX
from evloop.irc.queries import NO_OPERATORS
from evloop.irc.seat import OPENING
from evloop.room.events import ME, TEXT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from evloop.irc.codec import Line
    from evloop.irc.person import Client, Person
    from evloop.irc.state import Door

# `least`: words that it needs; `before`: it may come before the client is registered.
Row = namedtuple("Row", "act least before", defaults=(0, False))

CTCP = "\x01"
_ACTION = CTCP + "ACTION"
NOT_PRIVATE = "rooms have no private messages; only this door's clients can"


def same(given: str, wanted: str) -> bool:
    """Whether two passwords are the same, in a time that does not tell how much of it is."""
    from hmac import compare_digest  # late: most doors have no password

    return compare_digest(given.encode(), wanted.encode())


# -- registration --------------------------------------------------------------------------------


def _cap(door: Door, client: Client, line: Line) -> None:
    word, *rest = line.words
    word = word.upper()
    if word == "LS":
        if rest and rest[0].isdigit() and int(rest[0][:6]) >= 302:
            client.modern = True
            client.ask_for(["cap-notify"])
        client.negotiating = client.person is None
        client.send(SERVER, "CAP", client.name, "LS", last=" ".join(CAPS))
    elif word == "LIST":
        client.send(SERVER, "CAP", client.name, "LIST", last=" ".join(sorted(client.caps)))
    elif word == "REQ":
        client.negotiating = client.person is None
        _request(client, " ".join(rest))
    elif word == "END":
        client.negotiating = False
        door.register(client)
    else:
        client.numeric(410, line.words[0], last="Invalid CAP command")


def _request(client: Client, wanted: str) -> None:
    names = wanted.split()
    known = all(name.removeprefix("-") in CAPS for name in names)
    sticks = client.modern and "-cap-notify" in names  # of CAP LS 302 it is a part
    if known and not sticks:
        for name in names:  # in turn: the last word about a capability counts
            if name.startswith("-"):
                client.ask_for((), [name[1:]])
            else:
                client.ask_for([name])
    answer = "ACK" if known and not sticks else "NAK"
    client.send(SERVER, "CAP", client.name, answer, last=display(" ".join(names)))


def _pass(door: Door, client: Client, line: Line) -> None:
    if client.person is not None:
        client.numeric(462, last="You may not reregister")
    else:
        client.password = line.words[0]


def _nick(door: Door, client: Client, line: Line) -> None:
    if not line.words or not line.words[0]:
        client.numeric(431, last="No nickname given")
        return
    nick = door.checked_nick(client, line.words[0])
    if not nick:
        return
    if client.person is not None:
        door.rename(client, client.person, nick)
    elif not door.shares and fold(nick) in door.persons:
        door.nick_in_use(client, nick)
    else:
        client.nick = nick
        door.register(client)


def _user(door: Door, client: Client, line: Line) -> None:
    if client.person is not None:
        client.numeric(462, last="You may not reregister")
    elif not line.words[3]:
        client.numeric(461, "USER", last="Not enough parameters")
    else:
        client.user = user_of(line.words[0], SOURCE_USER_BYTES_MAX)
        client.real = display(line.words[3])
        door.register(client)


def _quit(door: Door, client: Client, line: Line) -> None:
    why = display(line.words[0]) if line.words else ""
    door.close(client, f"Closing link: {why}" if why else "Closing link")


def _ping(door: Door, client: Client, line: Line) -> None:
    if not line.words or not line.words[0]:
        client.numeric(409, last="No origin specified")
    else:
        client.send(SERVER, "PONG", SERVER, last=display(line.words[0]))


def _pong(door: Door, client: Client, line: Line) -> None:
    """An answer that nobody asked for."""


# -- channels ------------------------------------------------------------------------------------


def _join(door: Door, client: Client, line: Line) -> None:
    person = _person(client)
    if line.words[0] == "0":
        for seat in list(person.seats.values()):
            door.part(person, seat, None)
        return
    keys = line.words[1].split(",") if len(line.words) > 1 else []
    for at, channel in enumerate(line.words[0].split(",")):
        if len(channel) < 2 or not channel.startswith("#"):
            client.numeric(403, channel or "*", last="a channel is # and a room's name")
        else:
            door.join(client, person, channel, keys[at] if at < len(keys) else "")


def refuse_join(client: Client, channel: str, error: EvloopError) -> None:
    """A room was not entered."""
    keyless = isinstance(error, SetupError) and error.exit_status == REFUSED
    code = 437 if error.exit_status == UNREACHABLE else 475 if keyless else 403
    why = error.sentence if isinstance(error, (Refused, SetupError)) else str(error)
    client.numeric(code, channel, last=display(why))


def _part(door: Door, client: Client, line: Line) -> None:
    person = _person(client)
    reason = display(line.words[1]) if len(line.words) > 1 else None
    for channel in line.words[0].split(","):
        seat = person.seat(channel)
        if seat is None:
            client.numeric(442, channel, last="You're not on that channel")
        else:
            door.part(person, seat, reason)


def _names(door: Door, client: Client, line: Line) -> None:
    seat = _person(client).seat(line.words[0]) if line.words else None
    if seat is not None:
        if seat.state != OPENING:  # else all its clients get the names in a moment
            seat.tell_names(client)
    else:
        channel = line.words[0] if line.words else "*"
        client.numeric(366, channel, last="End of /NAMES list.")


def _topic(door: Door, client: Client, line: Line) -> None:
    seat = _person(client).seat(line.words[0])
    if seat is None:
        _no_channel(client, line.words[0])
    elif len(line.words) > 1:
        client.numeric(482, seat.channel, last=NO_OPERATORS)
    else:
        client.numeric(331, seat.channel, last="No topic is set")


def _no_channel(client: Client, channel: str) -> None:
    client.numeric(403, channel, last="No such channel")


def _mode(door: Door, client: Client, line: Line) -> None:
    person = _person(client)
    target, *modes = line.words
    seat = person.seat(target)
    if seat is not None:
        queries.channel_mode(client, seat, modes)
    elif target.startswith("#"):
        _no_channel(client, target)
    elif fold(target) != person.key:
        client.numeric(502, last="Cannot change mode for other users")
    elif modes:
        client.numeric(501, last="Unknown MODE flag")
    else:
        client.numeric(221, "+")


def _kick(door: Door, client: Client, line: Line) -> None:
    _as_operator(client, line.words[0])


def _invite(door: Door, client: Client, line: Line) -> None:
    _as_operator(client, line.words[1])


def _as_operator(client: Client, channel: str) -> None:
    seat = _person(client).seat(channel)
    if seat is None:
        _no_channel(client, channel)
    else:
        client.numeric(482, seat.channel, last=NO_OPERATORS)


# -- messages ------------------------------------------------------------------------------------


def _privmsg(door: Door, client: Client, line: Line) -> None:
    why = _say(door, client, line)
    if why is not None and line.command == "PRIVMSG":  # a NOTICE is never answered
        code, words, text = why
        client.numeric(code, *words, last=text)


def _say(door: Door, client: Client, line: Line) -> tuple[int, tuple[str, ...], str] | None:
    """Do PRIVMSG or NOTICE; why not, as (numeric, words, text)."""
    if not line.words:
        return 411, (), f"No recipient given ({line.command})"
    target, text = line.words[0], line.words[1] if len(line.words) > 1 else ""
    if not text:
        return 412, (), "No text to send"
    person = _person(client)
    if "," in target:
        return 404, (target,), "one target a line, please"
    if not target.startswith("#"):
        return _say_to(door, client, person, target, line.command, text)
    seat = person.seat(target)
    if seat is None:
        return 404, (target,), "Cannot send to channel: you are not in it"
    kind = TEXT
    if text.startswith(CTCP):
        word, _, rest = text.strip(CTCP).partition(" ")
        if word != "ACTION" or line.command != "PRIVMSG":
            return 404, (seat.channel,), "Cannot send to channel: rooms know no CTCP but ACTION"
        kind, text = ME, rest
    text = without_formats(text)
    if not text:
        return 412, (), "No text to send"
    try:
        seat.say(client, line.command, text, kind)
    except Refused as refused:
        return 404, (seat.channel,), f"Cannot send to channel: {refused.sentence}"
    return None


def _say_to(
    door: Door, client: Client, person: Person, nick: str, verb: str, text: str
) -> tuple[int, tuple[str, ...], str] | None:
    """A private message, which is handed over between clients of this door."""
    other = door.persons.get(fold(nick))
    if other is None:
        if any(seat.nicks.find(nick) for seat in person.seats.values()):
            return 531, (nick,), NOT_PRIVATE
        return 401, (nick,), "No such nick/channel"
    if text.startswith(CTCP + "DCC"):
        return 404, (other.nick,), "Cannot send to nick: no DCC"
    ctcp = text.startswith(CTCP)
    text = without_formats(text.strip(CTCP)) if ctcp else without_formats(text)
    shown = f"{CTCP}{display(text)}{CTCP}" if ctcp else display(text)
    tags = {"time": door.utc(door.wall_ms())}
    for one in (*other.clients, *(person.others(client) if other is not person else ())):
        if one is not client or other is person or "echo-message" in one.caps:
            one.send(person.source, verb, other.nick, last=shown, tags=tags)
    if other.away and verb == "PRIVMSG":
        client.numeric(301, other.nick, last=other.away)
    return None


def _tagmsg(door: Door, client: Client, line: Line) -> None:
    """Tags of clients have no place in a room."""


def _away(door: Door, client: Client, line: Line) -> None:
    person = _person(client)
    text = display(line.words[0]) if line.words else ""
    person.away = utf8_parts(text.encode(errors="replace"), AWAY_BYTES_MAX)[0].decode()
    if person.away:
        client.numeric(306, last="You have been marked as being away")
    else:
        client.numeric(305, last="You are no longer marked as being away")


def _oper(door: Door, client: Client, line: Line) -> None:
    client.numeric(491, last="No O-lines for your host")


def _privileged(door: Door, client: Client, line: Line) -> None:
    client.numeric(481, last="Permission Denied: there are no operators here")


_PRIVILEGED = frozenset(
    "KILL REHASH RESTART DIE SQUIT CONNECT WALLOPS SERVER TRACE STATS".split()  # noqa: SIM905
)


def _person(client: Client) -> Person:
    assert client.person is not None, "the table lets no other client call this"
    return client.person


COMMANDS: dict[str, Row] = {
    "CAP": Row(_cap, 1, True),
    "PASS": Row(_pass, 1, True),
    "NICK": Row(_nick, 0, True),
    "USER": Row(_user, 4, True),
    "QUIT": Row(_quit, 0, True),
    "PING": Row(_ping, 0, True),
    "PONG": Row(_pong, 0, True),
    "JOIN": Row(_join, 1),
    "PART": Row(_part, 1),
    "NAMES": Row(_names),
    "TOPIC": Row(_topic, 1),
    "MODE": Row(_mode, 1),
    "KICK": Row(_kick, 2),
    "INVITE": Row(_invite, 2),
    "PRIVMSG": Row(_privmsg),
    "NOTICE": Row(_privmsg),
    "TAGMSG": Row(_tagmsg),
    "AWAY": Row(_away),
    "OPER": Row(_oper, 2),
    "CHATHISTORY": Row(past.chathistory),
    **{word: Row(act, least) for word, (act, least) in queries.QUERIES.items()},
    **{
        word: Row(_privileged)
        for word in (
            [
                "KILL",
                "REHASH",
                "RESTART",
                "DIE",
                "SQUIT",
                "CONNECT",
                "WALLOPS",
                "SERVER",
                "TRACE",
                "STATS",
            ]
        )
    },
}
