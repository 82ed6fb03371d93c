"""Every command of an IRC client in every state that it can be in: which answers come."""

from __future__ import annotations

import pytest

from evloop.irc.commands import COMMANDS
from tests.irc.world import User, World

# Line: the answers when the client is not registered; registered, in no room; in another room; in
# #lab; and in #lab, to the command without its words. One of a privilege that nobody has, and one
# that a web page would send, too.
PRIVILEGED = ("451", "481", "481", "481", "481")
HTTP = ("ERROR", *PRIVILEGED[1:])
ANSWERS = {
    "CAP LIST": ("CAP", "CAP", "CAP", "CAP", "461"),
    "PASS x": ("", "462", "462", "462", "461"),
    "NICK Zoe": ("", "NICK", "NICK", "NICK", "431"),
    "USER a 0 * :A": ("", "462", "462", "462", "461"),
    "QUIT": ("ERROR", "ERROR", "ERROR", "ERROR", "ERROR"),
    "PING x": ("PONG", "PONG", "PONG", "PONG", "409"),
    "PONG x": ("", "", "", "", ""),
    "JOIN #lab": ("451", "JOIN", "JOIN", "", "461"),
    "PART #lab": ("451", "442", "442", "PART", "461"),
    "NAMES #lab": ("451", "366", "366", "353 366", "366"),
    "TOPIC #lab": ("451", "403", "403", "331", "461"),
    "MODE #lab": ("451", "403", "403", "324 329", "461"),
    "KICK #lab Mel": ("451", "403", "403", "482", "461"),
    "INVITE Mel #lab": ("451", "403", "403", "482", "461"),
    "PRIVMSG #lab :hi": ("451", "404", "404", "", "411"),
    "NOTICE #lab :hi": ("451", "", "", "", ""),
    "TAGMSG #lab": ("451", "", "", "", ""),
    "AWAY :out": ("451", "306", "306", "306", "305"),
    "OPER a b": ("451", "491", "491", "491", "461"),
    "CHATHISTORY LATEST #lab * 10": ("451", "FAIL", "FAIL", "", "FAIL"),
    "WHO #lab": ("451", "315", "315", "352 315", "315"),
    "WHOIS Ann": ("451", "311 312 318", "311 319 312 318", "311 319 312 318", "431"),
    "WHOWAS Ann": ("451", "406 369", "406 369", "406 369", "431"),
    "ISON Ann": ("451", "303", "303", "303", "461"),
    "USERHOST Ann": ("451", "302", "302", "302", "461"),
    "LIST": ("451", "321 322 323", "321 322 323", "321 322 323", "321 322 323"),
    "LUSERS": ("451", "251 254 255", "251 254 255", "251 254 255", "251 254 255"),
    "MOTD": ("451", "375 372 372 376", "375 372 372 376", "375 372 372 376", "375 372 372 376"),
    "VERSION": ("451", "351 005 005", "351 005 005", "351 005 005", "351 005 005"),
    "TIME": ("451", "391", "391", "391", "391"),
    "INFO": ("451", "371 374", "371 374", "371 374", "371 374"),
    "LINKS": ("451", "365", "365", "365", "365"),
    "KILL": PRIVILEGED,
    "REHASH": PRIVILEGED,
    "RESTART": PRIVILEGED,
    "DIE": PRIVILEGED,
    "SQUIT": PRIVILEGED,
    "CONNECT": HTTP,
    "WALLOPS": PRIVILEGED,
    "SERVER": PRIVILEGED,
    "TRACE": HTTP,
    "STATS": PRIVILEGED,
}


def words(lines: list[str]) -> str:
    """The command of each line."""
    return " ".join([line.split(" ")[line.startswith(":")] for line in lines])


def unregistered() -> User:
    return World().connect()


def registered() -> User:
    world = World()
    world.user("Bob").join("other")
    return world.user("Ann")


def elsewhere() -> User:
    ann = World().user("Ann")
    ann.join("other")
    return ann


def inside() -> User:
    ann = World().user("Ann")
    ann.join("lab")
    return ann


def test_the_table_has_every_command() -> None:
    assert [line.partition(" ")[0] for line in ANSWERS] == list(COMMANDS)


@pytest.mark.parametrize("line", ANSWERS)
def test_what_is_answered(line: str) -> None:
    lines = [line, line, line, line, line.partition(" ")[0]]
    states = [unregistered, registered, elsewhere, inside, inside]
    found = [words(state().ask(asked)) for state, asked in zip(states, lines)]
    assert tuple(found) == ANSWERS[line]
