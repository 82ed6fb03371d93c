"""How a room looks: what its events become on the frontend.

`RoomView.show(event)` dispatches by the table of `evloop.room.events`. A script that asked for
`--json` gets every event as an object. A person gets chat lines and remarks: the history in order
(`earlier`), remarks on a budget (`remarks`), lines of one sender at a limited rate, none of ignored
members, and a note where a line comes long after it was said.
"""

from __future__ import annotations

from evloop.app.earlier import SHOWN, Earlier
from evloop.app.limits import (
    BELL_S,
    CLOCK_STEADY_S,
    CLOCK_WRONG_S,
    DEAF_TOLD,
    FOLD_BURST,
    FOLD_PER_S,
    FOLD_SENDERS_MAX,
    HERE_S,
    IGNORED_MAX,
    KEPT_MESSAGES_MAX,
    LATE_S,
    OPENING_S,
)
from evloop.app.remarks import Remarks
from evloop.base.errors import Refused
from evloop.base.names import fold, fold_text
from evloop.base.ratelimit import TokenBucket
from evloop.room.events import ME, Left
from evloop.room.limits import HISTORY_MESSAGES_MAX
from evloop.room.reliable.limits import GREETED_MEMBERS_MAX
from evloop.terminal import key_notes, report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from evloop.app.kept import Kept
    from evloop.app.style import Style
    from evloop.room.events import (
        Blocked,
        Conflict,
        Deaf,
        Event,
        Fault,
        Foreign,
        Full,
        Joined,
        Lost,
        OtherKey,
        Renamed,
        Repeated,
        Road,
        Said,
        Trouble,
        Unheard,
    )
    from evloop.room.live import Session
    from evloop.system.loop import Loop
    from evloop.terminal.frontend import RoomFrontend


# Kinds of remarks that the session does not count itself -> their names in /stats.
COUNTED = {
    "joined": "joins",
    "left": "leaves",
    "renamed": "renames",
    "plain": "plain_texts",
    "not_shown": "not_shown",
}


def names_me(text: str, nickname: str) -> bool:
    """Whether `nickname` stands in `text` at word boundaries, whatever its case."""
    text, nickname = fold_text(text), fold_text(nickname)
    start = text.find(nickname)
    while start >= 0:
        end = start + len(nickname)
        before, after = text[start - 1 : start], text[end : end + 1]
        if not (before.isalnum() or after.isalnum()):
            return True
        start = text.find(nickname, start + 1)
    return False


class RoomView:
    """The room `name`, of which `session` tells, on `frontend`.

    `on_line()` is called before anything of the room is shown. `speakers` holds the names of those
    who spoke, the latest last, for completion; `heard` says whether anybody else was heard. `folds`
    says whether lines of one sender are shown at a limited rate, and `ways_out()` is what the first
    line says of how to leave.
    """

    __slots__ = (
        "_bell_at",
        "_buckets",
        "_clocks",
        "_day",
        "_earlier",
        "_entered",
        "_frontend",
        "_ignored",
        "_json",
        "_last_road",
        "_live",
        "_loop",
        "_namesakes_told",
        "_on_line",
        "_session",
        "_style",
        "_timer",
        "by_name",
        "folds",
        "heard",
        "hidden",
        "kept",
        "known_way",
        "name",
        "place",
        "remarks",
        "speakers",
        "ways_out",
    )

    def __init__(
        self,
        loop: Loop,
        frontend: RoomFrontend,
        session: Session,
        name: str,
        style: Style,
        *,
        place: str,
        plain: bool,
        on_line: Callable[[], object],
    ) -> None:
        now = loop.now
        self.name = name
        self.place = place
        self.by_name = ""  # where the room is, if it was entered without a directory
        self.heard = False
        self.kept: Kept | None = None  # what the directory keeps of the room
        self.hidden = 0  # lines of members that are ignored
        self.speakers: dict[str, None] = {}
        self.remarks = Remarks(now, self.remark, self._presence_remark)
        self.folds = True
        self.known_way = ""  # which the user was told of another room
        self.ways_out: Callable[[], str] = lambda: report.goes_back(style.escape)
        self._loop = loop
        self._frontend = frontend
        self._session = session
        self._style = style
        self._on_line = on_line
        self._json = style.as_json
        self._last_road = "off"  # that the room took
        self._live = frontend.is_terminal and not style.as_json
        self._entered = now
        most = HISTORY_MESSAGES_MAX if style.history is None else style.history
        self._earlier = Earlier(0 if style.muted else most, now)
        self._day = style.stamps.day()
        self._bell_at = float("-inf")
        self._buckets: dict[bytes, TokenBucket] = {}  # sender: how many lines it may show now
        # sender: (how late its lines mostly come, how late the last one came, and when), seconds
        self._clocks: dict[bytes, tuple[float, float, float]] = {}
        self._ignored: dict[bytes | str, str] = {}  # sender id or folded name: as it was typed
        self._namesakes_told = False
        if plain:  # it has no history
            self._earlier.release(())
        self._timer = loop.call_at(self._earlier.next_deadline(now), self._on_timer)

    # -- for the chat ------------------------------------------------------------------------

    def note(self, text: str, manner: str = "text") -> None:
        """Say `text`; `manner` as in `Frontend.note`."""
        if self._style.muted:
            return
        for line in text.split("\n"):
            self._frontend.note(line, manner)

    def remark(self, text: str) -> None:
        """Say something about the room, as quiet as can be."""
        self.note(text, "remark")

    def _presence_remark(self, text: str) -> None:
        self.note(text, "presence")

    def told(self, *texts: str) -> None:
        """Say what has become of this room's entry in the directory."""
        if self.remarks.allow("rooms", self._loop.now):
            for text in texts:
                self.note(text, "")

    def enter(self, where: str) -> None:
        """The first line: where we are, by which way, and with whom."""
        names = self.remarks.taken_names("here")
        where = "" if where == self.known_way else where
        self.remark(report.entered(self.name, names, self.ways_out(), where, self.by_name))
        if self.kept is not None:
            self.kept.say()
        self._tell_namesakes()

    def pumped(self) -> None:
        """The session has moved: the history may be complete."""
        now = self._loop.now
        if self._earlier.state != SHOWN:
            self._look_at_history(now)
        due = min(self._earlier.next_deadline(now), self.remarks.next_deadline())
        if due != self._timer.when and not self._timer.cancelled:  # as a broken pipe may do above
            self._timer.move(due)

    def _look_at_history(self, now: float) -> None:
        alone = not self.heard and len(self._session.members(now)) == 1  # not even a keeper
        whole = self._session.caught_up()
        if self._earlier.due(whole, alone, now):
            self._release(whole or alone)
        elif self._earlier.long_wait(now):
            missing = self._session.stats().get("gaps", 0)
            if missing:
                self._on_line()
                self.remarks.remark("history", report.history_awaited(missing), now)

    def leave(self) -> None:
        """Show what still waits; nothing is shown any more."""
        self._release(True)
        self._on_line()
        self.remarks.last_words()
        self._timer.cancel()

    def counts(self) -> dict[str, int]:
        """What was counted here, for /stats."""
        counts = self.remarks.counts
        told = {COUNTED[kind]: count for kind, count in counts.items() if kind in COUNTED}
        return {**told, "ignored": self.hidden}

    def show(self, event: Event) -> None:
        """An event of the session."""
        if event.what in EVENTS:
            EVENTS[event.what](self, event)

    def history(self, count: int) -> list[Said]:
        """The newest `count` messages that are not ignored, in their order."""
        events = self._session.history(HISTORY_MESSAGES_MAX)
        kept = [event for event in events if not self._is_ignored(event.sender, event.name)]
        return kept[-count:] if count else []

    def older(self, datagrams: list[bytes], count: int) -> list[Said]:
        """As `history`, with what a directory has kept: `datagrams`."""
        from evloop.room.reliable.older import merged  # late: few look back so far

        # Only a reliable room is kept.
        events: list[Said] = merged(self._session, datagrams, KEPT_MESSAGES_MAX)
        kept = [event for event in events if not self._is_ignored(event.sender, event.name)]
        return kept[-count:] if count else []

    def label(self, event: Any) -> str:
        """How to show who caused `event`."""
        return self._session.label(event.sender, event.name)

    # -- who is ignored ----------------------------------------------------------------------

    def ignore(self, name: str) -> int:
        """Hide `name` (as it is shown here) from now on; return how many are here. Refused."""
        if len(self._ignored) >= IGNORED_MAX:
            raise Refused(1, "too_many", f"{IGNORED_MAX} are ignored already; /ignore lists them")
        present = self._session.members(self._loop.now)[1:]
        labelled = {sender: self._session.label(sender, said) for sender, said, _ in present}
        exact = [sender for sender, label in labelled.items() if label == name]
        same = [sender for sender, said, _ in present if fold(said) == fold(name)]
        if exact and not same:  # one of several with the same name, by its tag: only that one
            found = exact
        else:
            found = same
            self._ignored[fold(name)] = name
        for sender in found[: IGNORED_MAX - len(self._ignored)]:
            self._ignored[sender] = name
        return len(found)

    def heed(self, name: str) -> bool:
        """Show `name` again; whether it was ignored."""
        key = fold(name)
        found = [one for one, typed in self._ignored.items() if key in (one, fold(typed))]
        for one in found:
            del self._ignored[one]
        return bool(found)

    def ignored(self) -> list[str]:
        """The names that are ignored, as they were typed."""
        return list(dict.fromkeys(self._ignored.values()))

    def _is_ignored(self, sender: bytes, name: str) -> bool:
        if not self._ignored or sender == self._session.sender_id:
            return False
        return sender in self._ignored or fold(name) in self._ignored

    def _hides(self, event: Any) -> bool:
        if not self._is_ignored(event.sender, event.name):
            return False
        self.hidden += 1
        return True

    # -- messages ----------------------------------------------------------------------------

    def _said(self, event: Said) -> None:
        mine = event.sender == self._session.sender_id
        if not mine:
            self.heard = True
        if self._style.muted:
            return
        if mine:
            self._release(True)
        elif self._earlier.hold(event, self._loop.now):
            return
        self._show(event)

    def _release(self, whole: bool) -> None:
        """Show what was held back; not `whole`: more of the history is still missing."""
        events, again = self._earlier.release(self._session.history(HISTORY_MESSAGES_MAX))
        if again and events:
            self.remarks.remark("history", report.came_later(len(events)), self._loop.now)
        for event in events:
            self._show(event)
        missing = 0 if whole else self._session.stats().get("gaps", 0)
        if missing:
            self.remarks.remark("history", report.history_cut(missing), self._loop.now)

    def _show(self, event: Said) -> None:
        self._on_line()
        if self._json:
            came = self._style.stamps.utc()
            text = report.json_message(self.name, event, event.kind == ME, came)
            self._frontend.show(text)
            return
        sender, mark = event.sender, event.mark
        now = self._loop.now
        if self._hides(event):
            return
        self.remarks.precede(sender, now)
        label = self.label(event)
        mine = sender == self._session.sender_id
        if event.name and not mine:
            self._remember_speaker(event.name)
        if mark != "history" and not mine and self._folds(event, label, now):
            return
        mention = self._live and not mine and mark == "" and self._names_me(event.text)
        bell = mention and now >= self._bell_at + BELL_S
        if bell:
            self._bell_at = now
        old = mark == "history"
        stamps = self._style.stamps
        # When it was said, by its sender's clock: when it came here would say nothing.
        at = float(event.wall) if old else 0.0
        said = "" if old else self._said_at(event)
        self._tell_day(at)
        parts = report.message_parts(label, event.kind == ME, event.text, mark, said)
        self._frontend.message(
            stamps.line(at), parts, old=old, mention=mention, bell=bell, own=mine
        )

    def _names_me(self, text: str) -> bool:
        return names_me(text, self._session.nickname)

    def _remember_speaker(self, name: str) -> None:
        self.speakers.pop(name, None)
        self.speakers[name] = None
        if len(self.speakers) > FOLD_SENDERS_MAX:
            del self.speakers[next(iter(self.speakers))]

    def _folds(self, event: Said, label: str, now: float) -> bool:
        """Whether this line is one too many; then it is counted, and told as a count."""
        if event.mark == "plain":  # in a reliable room: text that nobody vouches for
            return not self.remarks.allow("plain", now)
        # In a plain room nothing tells senders apart.
        if not (self._live and self.folds and event.sender):
            return False
        buckets = self._buckets
        if event.sender not in buckets:
            if len(buckets) >= FOLD_SENDERS_MAX:
                del buckets[next(iter(buckets))]
            buckets[event.sender] = TokenBucket(FOLD_PER_S, FOLD_BURST, now)
        if buckets[event.sender].take(now):
            return False
        self.remarks.too_fast(label, now)
        return True

    def _said_at(self, event: Said) -> str:
        """ "12:01" when `event` came much later than the lines of its sender mostly do; else ""."""
        if not event.wall or event.sender == self._session.sender_id:
            return ""
        here = self._style.stamps.now()
        late = here - event.wall
        before = self._clocks.pop(event.sender, None)
        if before is None:
            usual = late if abs(late) > CLOCK_WRONG_S else min(late, 0.0)
        else:
            usual, last, when = before
            # Two lines with some time between them are equally late: the clock is slow.
            steady = abs(late - last) < CLOCK_STEADY_S < here - when
            usual = late if steady else min(usual, late)
        self._clocks[event.sender] = usual, late, here
        if len(self._clocks) > FOLD_SENDERS_MAX:
            del self._clocks[next(iter(self._clocks))]
        # By our clock, which its sender's agrees with as its other lines show.
        return self._style.stamps.clock(event.wall + usual) if late - usual > LATE_S else ""

    def _tell_day(self, at: float) -> None:
        day = self._style.stamps.day(at)
        if day != self._day:
            self._day = day
            self.note(report.note(day), "day")

    # -- remarks -----------------------------------------------------------------------------

    def _presence(self, event: Joined | Left) -> None:
        if self.kept is not None and self.kept.is_keeper(event.sender):
            return  # no company
        self.heard = True
        if self._json:
            self._frontend.show(report.json_presence(self.name, event))
            return
        if self._hides(event):
            return
        now = self._loop.now
        what = event.why if isinstance(event, Left) else "joined"
        if what == "joined" and self._was_here(now):
            what = "here"
        self.remarks.presence(event.sender, what, self.label(event), now)

    def _was_here(self, now: float) -> bool:
        """Whether who is first heard at `now` was most likely there before us."""
        since = now - self._entered
        if since < OPENING_S or since >= HERE_S:
            return since < OPENING_S
        # In a small room everybody greets a newcomer at once; in a large one each in its turn.
        return self._session.stats().get("members_estimate", 0) > GREETED_MEMBERS_MAX

    def _renamed(self, event: Renamed) -> None:
        words = [self._session.label(event.sender, name) for name in (event.old, event.name)]
        self.remarks.before_rename(event.sender, self._loop.now)
        self._remark_on(event, "renamed", lambda: report.renamed(*words), "presence")

    def _lost(self, event: Lost) -> None:
        self._remark_on(event, "lost", lambda: report.lost(self.label(event), event.count))

    def _conflict(self, event: Conflict) -> None:
        mine = event.sender == self._session.sender_id
        words = (self.label(event), event.seq, mine)
        self._remark_on(event, "conflict", lambda: report.conflict(*words))

    def _remark_on(
        self, event: Any, kind: str, words: Callable[[], str], manner: str = "remark"
    ) -> None:
        if self._json:
            self._frontend.show(report.json_presence(self.name, event))
        elif not self._hides(event) and self.remarks.allow(kind, self._loop.now):
            self._on_line()
            self.note(words(), manner)

    def _unheard(self, event: Unheard) -> None:
        """Said once, while it lasts: what is said here does not arrive there."""
        if self._json:
            self._frontend.show(report.json_presence(self.name, event))
        elif not self._hides(event) and self.remarks.allow("unheard", self._loop.now):
            self._on_line()
            self.note(report.unheard(self.label(event)), "")

    def _trouble(self, event: Trouble) -> None:
        self.note(report.trouble(event.why, event.where), "")

    def _blocked(self, event: Blocked) -> None:
        self.note(report.blocked(self.place), "")

    def _deaf(self, event: Deaf) -> None:
        if event.times == DEAF_TOLD:
            self.note(report.deaf(), "")

    def _foreign(self, event: Foreign) -> None:
        self.note(report.foreign(event.mode), "")

    def _other_key(self, event: OtherKey) -> None:
        theirs, yours = f"{event.theirs:04x}", f"{event.yours:04x}"
        if self._json:
            line = report.json_line("other_key", room=self.name, theirs=theirs, yours=yours)
            self._frontend.show(line)
            return
        self.note(key_notes.other_key(self.name, event.theirs, event.yours, event.proven), "")

    def _repeated(self, event: Repeated) -> None:
        if self._json:
            line = report.json_line("repeated", room=self.name, count=event.count)
            self._frontend.show(line)
            return
        self.note(key_notes.repeated(event.count), "")

    def _fault(self, event: Fault) -> None:
        self.note(report.fault(event.error), "")

    def _road(self, event: Road) -> None:
        if self._json and event.road != self._last_road:
            senders = [sender.hex() for sender in event.senders]
            text = report.json_line("road", room=self.name, road=event.road, senders=senders)
            self._frontend.show(text)
        self._last_road = event.road
        if event.why != "lost":  # that is told of the directory
            names = {one: name for one, name, _ in self._session.members(self._loop.now)}
            label = self._session.label
            known = [label(one, names[one]) for one in event.senders if one in names]
            self._on_line()
            self.note(report.road(event.road, event.why, known), "")

    def _full(self, event: Full) -> None:
        if self.remarks.allow("full", self._loop.now):
            self.note(report.full(event.table), "")

    def _tell_namesakes(self) -> None:
        """Once: how many others have our name."""
        mine = fold(self._session.nickname)
        others = self._session.members(self._loop.now)[1:]
        same = sum(fold(name) == mine for _, name, _ in others)
        if same and not self._namesakes_told and self._live:
            self._namesakes_told = True
            self.note(report.namesakes(same, self._session.nickname), "")

    def _on_timer(self) -> None:
        now = self._loop.now
        self.remarks.handle_timer(now)
        self._tell_namesakes()
        self.pumped()


EVENTS: dict[str, Callable[[RoomView, Any], None]] = {
    "message": RoomView._said,
    "joined": RoomView._presence,
    "left": RoomView._presence,
    "renamed": RoomView._renamed,
    "lost": RoomView._lost,
    "conflict": RoomView._conflict,
    "unheard": RoomView._unheard,
    "trouble": RoomView._trouble,
    "blocked": RoomView._blocked,
    "deaf": RoomView._deaf,
    "foreign": RoomView._foreign,
    "fault": RoomView._fault,
    "other_key": RoomView._other_key,
    "repeated": RoomView._repeated,
    "full": RoomView._full,
    "road": RoomView._road,
}
