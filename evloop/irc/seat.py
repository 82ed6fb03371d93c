"""A member of this door in one room, which is a channel to its IRC clients.

    state     entered         OPENING_S later    leave
    -         -> opening      -                  -
    opening   -               -> open            -> left
    open      -               -                  -> left

`opening`: who is here is heard first, so that NAMES can tell; what is said meanwhile is kept and
shown behind it. `complete`: the history is as whole as it will be (see `_look_at_history`); what
clients asked of it before waits for that.

Everybody in the room has a nick here, see `nicks`.
"""

from __future__ import annotations

from evloop.app.limits import CATCH_UP_S, DEAF_TOLD, HISTORY_WAIT_S, OPENING_S
from evloop.base.names import display, place_of
from evloop.directory.protocol import PLAIN
from evloop.irc.codec import SERVER
from evloop.irc.limits import (
    ARRIVALS_MAX,
    CHATHISTORY_WAITING_MAX,
    OLDER_S,
    PLAYBACK_MESSAGES,
)
from evloop.irc.nicks import Nicks
from evloop.irc.person import source_of
from evloop.irc.texts import render, texts_of
from evloop.room.events import TEXT, Left
from evloop.system.timers import NEVER
from evloop.terminal import key_notes, report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, Protocol

    from evloop.directory.protocol import RoomEntry
    from evloop.irc.person import Client, Person
    from evloop.irc.state import Door
    from evloop.room.events import Event, Joined, Renamed, Said
    from evloop.room.live import LiveRoom

    class Kept(Protocol):
        """What the directory keeps of a room. `older` asks for the newest `count` messages with
        those that the session holds no more: then(messages); False: it cannot be asked."""

        def told(self, value: Any, /) -> object: ...
        def is_keeper(self, sender: bytes, /) -> bool: ...
        def older(self, count: int, then: Callable[[list[Said]], object], /) -> bool: ...

    Message = tuple[Said, int]

OPENING, OPEN, LEFT = range(3)
PARTED = {"bye": "left", "silent": "not heard any more"}


class Seat:
    """`person` in the room of `entry`. `listed`: the directory counts us in it."""

    __slots__ = (
        "_arrived",
        "_awaiting",
        "_began",
        "_door",
        "_held",
        "_keeper_here",
        "_questions",
        "_serial",
        "_speaking",
        "_timer",
        "channel",
        "complete",
        "entry",
        "joined_ms",
        "kept",
        "listed",
        "nicks",
        "person",
        "plain",
        "room",
        "session",
        "state",
    )

    def __init__(
        self,
        door: Door,
        person: Person,
        entry: RoomEntry,
        room: LiveRoom,
        listed: bool,
        kept: Kept | None = None,
    ) -> None:
        self._door = door
        self.person = person
        self.entry = entry
        self.channel = f"#{display(entry.name)}"
        self.listed = listed
        self.kept = kept
        self._keeper_here = False  # the silent member that keeps the history was heard
        self.plain = entry.mode == PLAIN
        self.room = room
        self.session = room.session
        self.state = OPENING
        self.complete = self.plain  # a plain room has no history
        self.joined_ms = door.wall_ms()
        self._began = door.clock()
        self.nicks = Nicks(person)
        self._held: list[Event] = []  # while opening
        # (sender, number): when a message of now came (ms), and which of those it was
        self._arrived: dict[tuple[bytes, int], tuple[int, int]] = {}
        self._serial = 0
        self._speaking: tuple[Client | None, str] = (None, "PRIVMSG")
        # Clients that wait for the history, and how many messages came before them.
        self._awaiting: list[tuple[Client, int]] = []
        self._questions: list[Callable[[], object]] = []
        self._timer = door.call_at(NEVER, self._on_timer)

    # -- entering and leaving --------------------------------------------------------------------

    def start(self) -> None:
        """Tell the clients, and begin to listen in the room."""
        for client in self.person.clients:
            self._tell_join(client)
            self._awaiting.append((client, 0))
        self.room.on_events, self.room.on_pump = self.events, self.pumped
        if self.plain:
            self._open()
        else:
            self._timer.move(self._began + OPENING_S)
        self.room.start()

    def attach(self, client: Client) -> None:
        """One more client of the person: it sees the channel as the others do."""
        self._tell_join(client)
        if self.state == OPEN:
            self.tell_names(client)
        if self.complete:
            self._play(client, self._serial)
        else:
            self._awaiting.append((client, self._serial))

    def detach(self, client: Client) -> None:
        """It has gone."""
        self._awaiting = [waits for waits in self._awaiting if waits[0] is not client]

    def leave(self) -> None:
        """The person is in it no more; what its clients asked is answered by nothing."""
        self.state = LEFT
        self._timer.cancel()
        self._answer()

    def _tell_join(self, client: Client) -> None:
        person = self.person
        if "extended-join" in client.caps:
            client.send(person.source, "JOIN", self.channel, "*", last=person.real)
        else:
            client.send(person.source, "JOIN", self.channel)

    def _open(self) -> None:
        self.state = OPEN
        for client in self.person.clients:
            self.tell_names(client)
        held, self._held = self._held, []
        for event in held:
            self.show(event)
        self._door.opened(self)
        self.pumped()

    def _on_timer(self) -> None:
        if self.state == OPENING:
            self._open()
        else:
            self.pumped()

    # -- the history -----------------------------------------------------------------------------

    def pumped(self) -> None:
        """The session has moved: the history may be complete."""
        if self.state != OPEN or (self.complete and not self._awaiting):
            return
        now, alone = self._door.clock(), self._alone
        due = self._began + CATCH_UP_S
        if (
            now >= due and (self.complete or alone or self.session.caught_up())
        ) or now >= self._began + HISTORY_WAIT_S:
            self._completed()
        else:
            self._timer.move(due if now < due else self._began + HISTORY_WAIT_S)
            if alone:
                self._answer()  # nobody is here who could tell more

    def _completed(self) -> None:
        self.complete = True
        self._timer.move(NEVER)
        awaiting, self._awaiting = self._awaiting, []
        for client, before in awaiting:
            self._play(client, before)
        self._answer()

    def _answer(self) -> None:
        questions, self._questions = self._questions, []
        for answer in questions:
            answer()

    def when_complete(self, answer: Callable[[], object]) -> bool:
        """Call `answer` once the history is complete. False: it is, nothing was done."""
        if self.complete or (self.state == OPEN and self._alone):
            return False
        if len(self._questions) >= CHATHISTORY_WAITING_MAX:
            return False  # it is answered with what is here
        self._questions.append(answer)
        return True

    @property
    def _alone(self) -> bool:
        """Whether nobody is here who could tell what was said before."""
        return not self.nicks.present and not self._keeper_here

    def ask_older(self, past: Sequence[Message], then: Callable[[list[Message]], object]) -> bool:
        """Ask the directory for what was said before `past`, all that is held here: then(all), at
        the latest after OLDER_S, with what is here. False: nothing is kept, or it is not needed."""
        if self.kept is None or len(past) >= ARRIVALS_MAX:
            return False
        waits = True

        def answered(events: list[Said]) -> None:
            nonlocal waits
            if waits:
                waits = False
                timer.cancel()
                then([(event, self._time_of(event)) for event in events])

        timer = self._door.call_at(self._door.clock() + OLDER_S, lambda: answered(held))
        held = [event for event, _ in past]
        if self.kept.older(ARRIVALS_MAX, answered):
            return True
        timer.cancel()
        return False

    def keepers_changed(self) -> None:
        """The directory has told of another keeper: it is no member whom clients see."""
        assert self.kept is not None
        for sender in [one for one in self.nicks.present if self.kept.is_keeper(one)]:
            self.show(Left("left", sender, self.nicks.names[sender], "bye"))
            self._keeper_here = True

    def past(self, count: int = ARRIVALS_MAX) -> list[tuple[Said, int]]:
        """The newest messages in the session's order, each with its time in ms."""
        return [(event, self._time_of(event)) for event in self.session.history(count)]

    def _time_of(self, event: Said) -> int:
        arrived = self._arrived.get((event.sender, event.seq))
        if arrived is not None:
            return arrived[0]
        before = self.joined_ms - 1
        return min(event.wall * 1_000, before) if event.wall else before

    def _play(self, client: Client, before: int) -> None:
        """Send the newest messages that came before the client did, unless it asks by itself."""
        if self.plain or "draft/chathistory" in client.caps or client.closed:
            return

        def is_old(event: Said) -> bool:
            arrived = self._arrived.get((event.sender, event.seq))
            return arrived is None or arrived[1] < before

        old = [item for item in self.past() if is_old(item[0])]
        if old:
            self.tell_past(client, old[-PLAYBACK_MESSAGES:])

    def tell_past(self, client: Client, messages: Sequence[tuple[Said, int]]) -> None:
        """Send old messages, in a batch where the client knows them."""
        batch = client.next_batch() if "batch" in client.caps else ""
        tags = {"batch": batch} if batch else {}
        if batch:
            client.send(SERVER, "BATCH", f"+{batch}", "chathistory", self.channel)
        timed = "server-time" in client.caps
        verb = "PRIVMSG" if timed else "NOTICE"
        for event, ms in messages:
            stamp = "" if timed and "message-tags" in client.caps else self._door.hhmm(ms)
            source = self._source(event.sender, event.name)
            texts = texts_of(event, source, verb, self.channel, stamp)
            more = {**tags, "time": self._door.utc(ms), **self._msgid(event)}
            client.write(render(source, verb, self.channel, texts, client.wanted(more)))
        if batch:
            client.send(SERVER, "BATCH", f"-{batch}")

    # -- who is here -----------------------------------------------------------------------------

    def nick(self, sender: bytes, name: str) -> str:
        """The nick of `sender`, who is here or was."""
        if sender == self.session.sender_id:
            return self.person.nick
        return self.nicks.of(sender, name)

    def _source(self, sender: bytes, name: str) -> str:
        if sender == self.session.sender_id:
            return self.person.source
        return source_of(self.nick(sender, name), self.user(sender))

    def user(self, sender: bytes) -> str:
        """What stands behind the nick of a member: its id, or what a client of this door gave."""
        own = self._door.members.get(sender)
        return own.user if own is not None else sender.hex() or "plain"

    def real(self, sender: bytes) -> str:
        """The real name of a member: its name, or what a client of this door gave."""
        own = self._door.members.get(sender)
        return own.real if own is not None else display(self.nicks.names.get(sender, ""))

    def tell_names(self, client: Client) -> None:
        """353 and 366."""
        hosts = "userhost-in-names" in client.caps
        mine = self.person.source if hosts else self.person.nick
        names = [mine]
        for sender, nick in self.nicks.present.items():
            names.append(source_of(nick, self.user(sender)) if hosts else nick)
        room = 510 - len(f":{SERVER} 353 {client.name} = {self.channel} :".encode())
        line: list[str] = []
        size = 0
        for name in names:
            more = len(name.encode()) + 1
            if line and size + more > room:
                client.numeric(353, "=", self.channel, last=" ".join(line))
                line, size = [], 0
            line.append(name)
            size += more
        client.numeric(353, "=", self.channel, last=" ".join(line))
        client.numeric(366, self.channel, last="End of /NAMES list.")

    def _join_line(self, sender: bytes, nick: str) -> None:
        source, real = source_of(nick, self.user(sender)), self.real(sender)
        for client in self.person.clients:
            if "extended-join" in client.caps:
                client.send(source, "JOIN", self.channel, "*", last=real)
            else:
                client.send(source, "JOIN", self.channel)

    def make_way(self, key: str) -> None:
        """The person takes the nick `key` (folded): whoever has it here gets another."""
        renamed = self.nicks.make_way(key)
        if renamed is not None:
            self._tell_renamed(*renamed)

    def _tell_renamed(self, sender: bytes, old: str, new: str) -> None:
        if old == new or self.state != OPEN:
            return
        source = source_of(old, self.user(sender))
        elsewhere = [seat for seat in self.person.seats.values() if seat is not self]
        if any(seat.nicks.find(old) or seat.nicks.find(new) for seat in elsewhere):
            # A nick is one for all channels in IRC, and a name is one for a room here.
            self.person.send(source, "PART", self.channel, last=f"now {new}")
            self._join_line(sender, new)
        else:
            self.person.send(source, "NICK", last=new)

    # -- what the clients do ---------------------------------------------------------------------

    def say(self, client: Client, verb: str, text: str, kind: int = TEXT) -> None:
        """Say `text` in the room; Refused when it is too long or too much waits already."""
        self._speaking = client, verb
        try:
            self.room.say(text, kind)
        finally:
            self._speaking = None, "PRIVMSG"

    # -- what happens in the room ----------------------------------------------------------------

    def events(self, events: Sequence[Event]) -> None:
        """What the session reports."""
        for event in events:
            if self.state == OPENING and event.what not in ("joined", "left", "renamed"):
                self._held.append(event)
            elif self.state != LEFT:
                self.show(event)

    def show(self, event: Event) -> None:
        """Tell the clients of one event, if there are words for it."""
        act = EVENTS.get(event.what)
        if act is not None:
            act(self, event)

    def notice(self, text: str) -> None:
        """The server says something about the room."""
        self.person.send(SERVER, "NOTICE", self.channel, last=text)

    def _said(self, event: Said) -> None:
        if event.mark == "history":
            return  # it comes with the rest of the history
        if event.mark == "plain" or not (event.sender or event.name):
            begin = "? " if event.mark == "plain" else ""
            self.notice(begin + display(event.text))
            return
        ms = self._door.wall_ms()
        if event.sender:
            self._arrived[event.sender, event.seq] = ms, self._serial
            self._serial += 1
            if len(self._arrived) > ARRIVALS_MAX:
                del self._arrived[next(iter(self._arrived))]
        mine = event.sender == self.session.sender_id
        speaker, verb = self._speaking if mine else (None, "PRIVMSG")
        listeners = list(self.person.others(speaker))
        if not listeners:
            return
        source = self._source(event.sender, event.name)
        texts = texts_of(event, source, verb, self.channel)
        tags = {"time": self._door.utc(ms), **self._msgid(event)}
        packed: dict[tuple[str, ...], bytes] = {}  # once for each kind of client
        for client in listeners:
            data = packed.get(client.tags)
            if data is None:
                data = render(source, verb, self.channel, texts, client.wanted(tags))
                packed[client.tags] = data
            client.write(data)

    def _msgid(self, event: Said) -> dict[str, str]:
        if self.plain or not event.sender:
            return {}
        return {"msgid": f"{event.sender.hex()}-{event.seq}"}

    def _joined(self, event: Joined) -> None:
        if self._is_keeper(event.sender):
            self._keeper_here = True
            return
        if not self.nicks.present:
            self._door.outside.heard(self)
        self.nicks.go(event.sender)
        nick = self.nicks.come(event.sender, event.name)
        if self.state == OPEN:
            self._join_line(event.sender, nick)

    def _left(self, event: Left) -> None:
        user = self.user(event.sender)
        nick = self.nicks.go(event.sender)
        if nick and self.state == OPEN:
            why = PARTED.get(event.why, "left")
            self.person.send(source_of(nick, user), "PART", self.channel, last=why)

    def _is_keeper(self, sender: bytes) -> bool:
        return self.kept is not None and self.kept.is_keeper(sender)

    def _renamed(self, event: Renamed) -> None:
        if self._is_keeper(event.sender):
            return
        old = self.nicks.go(event.sender)
        new = self.nicks.come(event.sender, event.name)
        if old:
            self._tell_renamed(event.sender, old, new)
        elif self.state == OPEN:
            self._join_line(event.sender, new)

    def _lost(self, event: Any) -> None:
        self.notice(report.lost(self.nick(event.sender, event.name), event.count))

    def _conflict(self, event: Any) -> None:
        mine = event.sender == self.session.sender_id
        name = self.nick(event.sender, event.name)
        self.notice(report.conflict(name, event.seq, mine))

    def _unheard(self, event: Any) -> None:
        self.notice(report.unheard(self.nick(event.sender, event.name)))

    def _trouble(self, event: Any) -> None:
        self.notice(report.trouble(event.why, event.where))

    def _blocked(self, event: Any) -> None:
        self.notice(report.blocked(place_of(self.entry.address, self.entry.port)))

    def _deaf(self, event: Any) -> None:
        if event.times == DEAF_TOLD:
            self.notice(report.deaf())

    def _foreign(self, event: Any) -> None:
        self.notice(report.foreign(event.mode))

    def _road(self, event: Any) -> None:
        if event.why != "lost":  # that is told of the directory
            present = self.nicks.present
            known = [present[sender] for sender in event.senders if sender in present]
            self.notice(report.road(event.road, event.why, known))

    def _other_key(self, event: Any) -> None:
        name = self.channel[1:]
        self.notice(key_notes.other_key(name, event.theirs, event.yours, event.proven))

    def _repeated(self, event: Any) -> None:
        self.notice(key_notes.repeated(event.count))

    def _full(self, event: Any) -> None:
        self.notice(report.full(event.table))

    def _fault(self, event: Any) -> None:
        self.notice(report.fault(event.error))


EVENTS: dict[str, Callable[[Seat, Any], None]] = {
    "message": Seat._said,
    "joined": Seat._joined,
    "left": Seat._left,
    "renamed": Seat._renamed,
    "lost": Seat._lost,
    "conflict": Seat._conflict,
    "unheard": Seat._unheard,
    "trouble": Seat._trouble,
    "blocked": Seat._blocked,
    "deaf": Seat._deaf,
    "foreign": Seat._foreign,
    "full": Seat._full,
    "road": Seat._road,
    "other_key": Seat._other_key,
    "repeated": Seat._repeated,
    "fault": Seat._fault,
}
