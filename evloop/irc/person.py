"""Who is at the door: a client is one connection, a person is one nick with its clients.

Without a password several clients that give the same nick are one person, as at a bouncer: they see
the same channels, and the last one to go leaves the rooms. A person is one member of each of its
rooms.

    client     NICK, USER and CAP END   the wire ends, QUIT, ERROR
    new        -> registered            -> gone
    registered -                        -> gone, and the person with its last client
"""

from __future__ import annotations

from collections import deque

from evloop.base.names import display, fold
from evloop.irc.codec import HOST, SERVER, one_word, pack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any, Protocol

    from evloop.irc.seat import Seat

    class Wire(Protocol):
        """The connection of a client: `send` queues whole lines, `close` ends it behind them,
        `idle` tells that no line of it waits any more."""

        def send(self, data: bytes, /) -> object: ...
        def close(self, why: str, /) -> object: ...
        def idle(self) -> object: ...


# The capability without which a client gets no such tag.
_TAG_NEEDS = {"batch": "batch", "time": "server-time", "msgid": "message-tags"}


class Client:
    """One connection. `caps` are the capabilities it has asked for, and `tags` are those that it is
    sent because of them (see `ask_for`); `busy` counts commands that wait for something, and the
    lines behind them are in `waiting`."""

    __slots__ = (
        "batches",
        "busy",
        "caps",
        "closed",
        "draining",
        "greeted",
        "modern",
        "negotiating",
        "nick",
        "password",
        "person",
        "real",
        "since",
        "tags",
        "user",
        "waiting",
        "wire",
    )

    def __init__(self, wire: Wire, now: float) -> None:
        self.wire = wire
        self.since = now
        self.caps: set[str] = set()
        self.tags: tuple[str, ...] = ()
        self.modern = False  # it has said CAP LS 302
        self.negotiating = False  # between CAP LS or REQ and CAP END
        self.greeted = False  # a line came
        self.nick = self.user = self.real = self.password = ""
        self.person: Person | None = None
        self.waiting: deque[bytes] = deque()
        self.busy = 0
        self.draining = False
        self.closed = False
        self.batches = 0

    def send(
        self,
        source: str,
        *words: str,
        last: str | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Send one line; of `tags` those that this client has asked for."""
        if not self.closed:
            self.wire.send(pack(self.wanted(tags) if tags else {}, source, words, last))

    def write(self, data: bytes) -> None:
        """Send lines that are packed already."""
        if not self.closed:
            self.wire.send(data)

    def ask_for(self, caps: Iterable[str], without: Iterable[str] = ()) -> None:
        """It wants `caps` from now on, and does not want those of `without`."""
        self.caps.update(caps)
        self.caps.difference_update(without)
        self.tags = tuple([tag for tag, cap in _TAG_NEEDS.items() if cap in self.caps])

    def wanted(self, tags: Mapping[str, str]) -> dict[str, str]:
        """Those of `tags` that this client understands."""
        return {key: tags[key] for key in self.tags if key in tags}

    def numeric(self, code: int, *words: str, last: str | None = None) -> None:
        """Send an answer from the server: `:evloop.internal 001 NICK words :last`.

        What it repeats of a client's own line is made safe here."""
        shown = None if last is None else display(last)
        self.send(SERVER, f"{code:03}", self.name, *map(one_word, words), last=shown)

    def fail(self, command: str, code: str, *words: str, last: str) -> None:
        """Send a standard reply (IRCv3) about `command`."""
        self.send(SERVER, "FAIL", command, code, *map(one_word, words), last=last)

    @property
    def name(self) -> str:
        """How the server speaks to it."""
        return self.person.nick if self.person is not None else self.nick or "*"

    def next_batch(self) -> str:
        self.batches += 1
        return str(self.batches)


class Person:
    """One nick: a member of the rooms in `seats` (by folded name). `entering` holds the clients
    that wait for a room which is being entered; `away` is what AWAY said."""

    __slots__ = ("away", "clients", "entering", "nick", "real", "seats", "user")

    def __init__(self, nick: str, user: str, real: str) -> None:
        self.nick = nick
        self.user = user
        self.real = real
        self.away = ""
        self.clients: list[Client] = []
        self.seats: dict[str, Seat] = {}
        self.entering: dict[str, list[Client]] = {}

    @property
    def key(self) -> str:
        """Under which nicks are the same."""
        return fold(self.nick)

    @property
    def source(self) -> str:
        return source_of(self.nick, self.user)

    def send(self, source: str, *words: str, last: str | None = None, **tags: Any) -> None:
        """Send one line to all its clients."""
        for client in self.clients:
            client.send(source, *words, last=last, **tags)

    def others(self, client: Client | None, *, echo: bool = True) -> Iterable[Client]:
        """All its clients but `client`; with `echo` that one too, if it has asked for it."""
        for one in self.clients:
            if one is not client or (echo and "echo-message" in one.caps):
                yield one

    def seat(self, channel: str) -> Seat | None:
        """The room of `channel` ("#lab", in any case) that it is in."""
        return self.seats.get(fold(channel[1:])) if channel.startswith("#") else None


def source_of(nick: str, user: str) -> str:
    """`NICK!USER@evloop`, as each line begins that somebody caused."""
    return f"{nick}!{user}@{HOST}"
