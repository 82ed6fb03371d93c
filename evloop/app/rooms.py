"""The rooms that the client is in: which of them has the line, and what is shown of the others.

A `Pane` is what the Chat of one room takes for its frontend. One pane is in front: it writes as if
it were the only one. What comes to the others in the background goes through their `Backlog`.

    state of a room   /switch, a key      another comes to the front   left
    in front          -                   -> background                -> gone; another to the front
    background        -> in front         -                            -> gone

A room takes the lowest free number when it is entered, and keeps it. One room before the one in
front is remembered; it is forgotten when it is left, or has come back because another was left.

With a line editor each room has its own line. Without one (a pipe, --plain) nothing is folded: the
lines of rooms in the background come at once, labelled.
"""

from __future__ import annotations

from evloop.app.backlog import CALM, MENTION, OLD, Backlog
from evloop.app.limits import (
    BELL_S,
    CHAT_ROOMS_MAX,
    ROOM_KEYS_MAX,
    ROOMS_HISTORY_MESSAGES_MAX,
)
from evloop.base.errors import EvloopError
from evloop.base.names import fold
from evloop.room.limits import HISTORY_MESSAGES_MAX
from evloop.system.timers import NEVER, nothing
from evloop.terminal import report, room_notes
from evloop.terminal.line import Draft

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from evloop.app.chat import Chat
    from evloop.app.style import Style
    from evloop.system.loop import Loop
    from evloop.terminal.frontend import Editing, Frontend

    # time, parts, old, mention, own, and the day, as of `Frontend.message`
    Message = tuple[str, tuple[str, str, str, list[str]], bool, bool, bool, str]

assert ROOM_KEYS_MAX == room_notes.ROOM_KEYS


class Pane:
    """The frontend of `chat`, which is room `number` of `rooms`."""

    __slots__ = ("_rooms", "_timer", "backlog", "chat", "day", "draft", "held", "number")

    chat: Chat

    def __init__(self, rooms: Rooms, number: int, day: str) -> None:
        self.number = number
        self.draft = Draft()  # while it is not in front
        self.held = False  # it wants lines to wait
        self.day = day  # of the last message
        self.backlog = Backlog(rooms.loop.now)
        self._rooms = rooms
        self._timer = rooms.loop.call_at(NEVER, self._tell)

    @property
    def name(self) -> str:
        return self.chat.name

    @property
    def is_terminal(self) -> bool:
        return self._rooms.frontend.is_terminal

    @property
    def in_front(self) -> bool:
        return self._rooms.front is self

    def _label(self) -> str:
        return "" if self.in_front else room_notes.label(self.number, self.name)

    def hold(self, held: bool) -> None:
        self.held = held
        self._rooms.on_hold()

    def show(self, text: str) -> None:
        self._rooms.frontend.show(text)

    def note(self, text: str, manner: str = "") -> None:
        rooms = self._rooms
        if manner == "day":
            self.day = text
        elif manner == "left":
            if not rooms.leaving_all:
                rooms.frontend.note(text, "remark")
        elif manner != "presence":
            rooms.frontend.note(self._label() + text, manner)
        elif self.in_front or not rooms.edits:
            rooms.frontend.note(self._label() + text, "remark")

    def message(
        self,
        time: str,
        parts: tuple[str, str, str, list[str]],
        *,
        old: bool,
        mention: bool,
        bell: bool,
        own: bool,
    ) -> None:
        message = time, parts, old, mention, own, self.day
        if not self.in_front:
            backlog, rooms = self.backlog, self._rooms
            kind = MENTION if mention else OLD if old else CALM
            if kind == MENTION or rooms.edits or backlog.muted:
                shown = backlog.take(kind, message, rooms.loop.now)
                self._timer.move(backlog.due)
                rooms.refresh()
                if not shown:
                    return
        self._show(message)

    def _show(self, message: Message) -> None:
        time, parts, old, mention, own, day = message
        rooms = self._rooms
        rooms.tell_day(day)
        rooms.frontend.message(
            time + self._label(),
            parts,
            old=old,
            mention=mention,
            bell=mention and rooms.rings(),
            own=own,
        )

    def put_back(self, text: str) -> None:
        if self.in_front or not self._rooms.edits:
            self._rooms.frontend.put_back(text)
        elif text and not self.draft.line.clusters:
            self.draft.line.set(text)

    def _tell(self) -> None:
        """The time has come to say how many messages wait."""
        unread = self.backlog.tell(self._rooms.loop.now)
        if unread:
            text = room_notes.more(self.number, self.name, unread)
            self._rooms.frontend.note(text, "remark")

    def to_front(self) -> None:
        """Show what waits: the room is in front from now on."""
        older, kept = self.backlog.release()
        self._timer.move(NEVER)
        note = self._rooms.frontend.note
        note(room_notes.front(self.number, self.name), "front")
        if older:
            note(room_notes.older(older, older + len(kept)), "remark")
        for message in kept:
            self._show(message)

    def close(self) -> None:
        self._timer.cancel()


class Rooms:
    """The panes by number, and the one in `front`; None when the client is in no room.

    `on_front()` is called when the prompt may be another, `on_hold()` when `held` may be, and
    `on_empty()` when the last room was left. `last_left`: names of the rooms that were left
    together last.
    """

    __slots__ = (
        "_before",
        "_bell_at",
        "_day",
        "_editor",
        "_ending",
        "_prompt",
        "front",
        "frontend",
        "last_left",
        "leaving_all",
        "loop",
        "on_empty",
        "on_front",
        "on_hold",
        "panes",
        "style",
    )

    def __init__(
        self,
        loop: Loop,
        frontend: Frontend,
        style: Style,
        *,
        on_front: Callable[[], object],
        on_hold: Callable[[], object] = nothing,
        on_empty: Callable[[], object] = nothing,
    ) -> None:
        self.loop = loop
        self.frontend = frontend
        self.style = style
        self.panes: dict[int, Pane] = {}
        self.front: Pane | None = None
        self.leaving_all = False
        self.last_left: list[str] = []
        self.on_front = on_front
        self.on_hold = on_hold
        self.on_empty = on_empty
        self._before: Pane | None = None
        self._ending = False  # all rooms are finishing: none comes to the front any more
        self._bell_at = -NEVER
        self._day = ""
        self._prompt = ""
        editor: Any = frontend if frontend.edits else None
        self._editor: Editing | None = editor
        if self._editor is not None:
            self._editor.on_switch = self.key

    # -- rooms come and go -----------------------------------------------------------------------

    def check_more(self) -> None:
        """EvloopError when there is no number for a further room."""
        if len(self.panes) >= CHAT_ROOMS_MAX:
            raise EvloopError(room_notes.too_many(CHAT_ROOMS_MAX))

    def pane(self) -> Pane:
        """The frontend of a further room, with the lowest number that is free."""
        number = next(n for n in range(1, CHAT_ROOMS_MAX + 1) if n not in self.panes)
        day = report.note(self.style.stamps.day())
        if not self.panes:
            self._day = day
        return Pane(self, number, day)

    def enter(self, pane: Pane, chat: Chat, *, behind: bool) -> None:
        """`chat` begins on `pane`: in front, or `behind` the room that is there."""
        pane.chat = chat
        before = self.front
        self.panes[pane.number] = pane
        if before is None:  # what is typed already goes with it
            self.front = pane
        else:
            self._share_history()
            chat.view.known_way = before.chat.room.where
            chat.view.ways_out = lambda: self._ways_out(pane, before)
            if behind:
                chat.view.folds = False
            else:
                self._give_line(pane)
        self._changed()

    def _ways_out(self, pane: Pane, before: Pane) -> str:
        if self.front is not pane:
            return ""
        other = before if before.number in self.panes else self._another(pane)
        escape = self.style.escape
        if other is None:
            return report.goes_back(escape)
        return room_notes.ways_out(other.number, other.name, escape, keys=self.edits)

    def remove(self, pane: Pane) -> None:
        """The room was left; another comes to the front if it was there."""
        del self.panes[pane.number]
        pane.close()
        self._share_history()
        if self._before is pane:
            self._before = None
        if self.front is pane:
            following = self._before or self._another(pane)
            self._before = None
            if following is None or self.leaving_all or self._ending:
                self.front = following
            else:
                self._give_line(following, remember=False)
                following.to_front()
        if not self.panes and not self.leaving_all:
            self.last_left = [pane.name]
            self._empty()
        else:
            self._changed()

    def _share_history(self) -> None:
        """All rooms together hold no more than a few of them may."""
        if self.panes:
            share = min(HISTORY_MESSAGES_MAX, ROOMS_HISTORY_MESSAGES_MAX // len(self.panes))
            for pane in self.panes.values():
                pane.chat.room.session.limit_history(share)

    def _another(self, pane: Pane) -> Pane | None:
        """The room with the highest number but `pane`."""
        numbers = [number for number in self.panes if number != pane.number]
        return self.panes[max(numbers)] if numbers else None

    def _empty(self) -> None:
        """No line of a room becomes a command."""
        self.front = self._before = None
        self._prompt = ""
        if self._editor is not None:
            self._editor.set_several(False)
            self._editor.swap_line(Draft())
        self.on_empty()

    def leave_all(self) -> None:
        """Leave all rooms now, whatever waits."""
        panes = [self.panes[number] for number in sorted(self.panes)]
        self.leaving_all = len(panes) > 1
        for pane in panes:
            pane.chat.leave()
        if self.leaving_all:
            self.leaving_all = False
            self.last_left = [pane.name for pane in panes]
            self.frontend.note(room_notes.left(self.last_left), "remark")
            self._empty()

    def finish_all(self) -> None:
        """Leave all rooms as soon as what was said is confirmed; at a terminal now."""
        if self.frontend.is_terminal and not self.style.as_json:
            self.leave_all()
            return
        self._ending = True
        for pane in list(self.panes.values()):
            pane.chat.finish()

    # -- which is in front -----------------------------------------------------------------------

    def switch(self, pane: Pane) -> None:
        """Bring `pane` to the front."""
        if self.front is not pane:
            self._give_line(pane)
            pane.to_front()
            self._changed()

    def _give_line(self, pane: Pane, *, remember: bool = True) -> None:
        before = self.front
        assert before is not None  # else there is nobody to take it from
        if self._editor is not None:
            before.draft = self._editor.swap_line(pane.draft)
        before.chat.view.folds = not self.edits
        pane.chat.view.folds = True
        if remember:
            self._before = before
        self.front = pane

    def find(self, command: str, wanted: str) -> Pane:
        """The room of a number, else of a name, else of the one name that begins so; EvloopError"""
        if wanted.isascii() and wanted.isdigit() and len(wanted) < 4 and int(wanted) in self.panes:
            return self.panes[int(wanted)]
        key = fold(wanted)
        names = [(fold(pane.name), pane) for pane in self.panes.values()]
        exact = [pane for name, pane in names if name == key]
        found = exact[:1] or [pane for name, pane in names if name.startswith(key)]
        if len(found) != 1:
            raise EvloopError(room_notes.no_such(command, wanted))
        return found[0]

    def back(self) -> None:
        """To the front comes the room that was there before, else the next number."""
        if self._before is not None:
            self.switch(self._before)
        else:
            self._step(1)

    def _step(self, by: int) -> None:
        if self.front is not None:
            numbers = sorted(self.panes)
            at = (numbers.index(self.front.number) + by) % len(numbers)
            self.switch(self.panes[numbers[at]])

    def key(self, key: str) -> None:
        """A key that asks for another room (`Editor`)."""
        if key == "alt-a":
            self._to_loudest()
        elif key in ("alt-left", "alt-right"):
            self._step(1 if key == "alt-right" else -1)
        elif int(key[4:]) in self.panes:
            self.switch(self.panes[int(key[4:])])

    def _to_loudest(self) -> None:
        waiting = [pane for pane in self._others() if pane.backlog.for_you or pane.backlog.unread]
        if waiting:
            self.switch(min(waiting, key=_urgency))
        elif self.front is not None and self._editor is not None:
            self._editor.bell()

    def _others(self) -> list[Pane]:
        return [pane for pane in self.panes.values() if pane is not self.front]

    # -- what is common to all -------------------------------------------------------------------

    @property
    def edits(self) -> bool:
        """Whether each room has a line of its own, and too much in the background is folded."""
        return self._editor is not None

    @property
    def held(self) -> bool:
        """Whether the room in front wants lines to wait."""
        return self.front is not None and self.front.held

    def prompt(self) -> str:
        """Where Enter will go."""
        front = self.front
        assert front is not None
        if len(self.panes) == 1:
            return f"{front.name}> "
        others = [pane.backlog for pane in self._others()]
        named, unread = any(it.for_you for it in others), any(it.unread for it in others)
        return room_notes.prompt(front.number, front.name, "!" if named else " *"[unread])

    def _changed(self) -> None:
        """Rooms have come or gone, or another is in front."""
        if self.leaving_all:
            return
        if self._editor is not None:
            self._editor.set_several(len(self.panes) > 1)
        self.refresh()
        self.on_hold()

    def refresh(self) -> None:
        """Show the prompt anew if it is another one."""
        prompt = self.prompt() if self.front is not None else ""
        if prompt != self._prompt:
            self._prompt = prompt
            self.on_front()

    def tell_day(self, day: str) -> None:
        """A message of `day` (a line that says it) is about to be shown."""
        if day != self._day:
            self._day = day
            self.frontend.note(day, "remark")

    def rings(self) -> bool:
        """Whether the bell may ring now."""
        now = self.loop.now
        if now < self._bell_at + BELL_S:
            return False
        self._bell_at = now
        return True


def _urgency(pane: Pane) -> tuple[int, float, int]:
    """Least for the room to look at first."""
    return -pane.backlog.for_you, pane.backlog.since, pane.number
