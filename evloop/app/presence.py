"""What directory and client tell each other about the rooms that the user is in.

The directory counts the members of a room by their connections. So it must be told when a room is
left, and again after each reconnect; the room may have moved or gone by then: `reconcile` decides
what follows from that, for each room, and this module does it. News of other rooms become remarks,
on a budget, because anybody may make and delete rooms.
"""

from __future__ import annotations

from evloop.app import reconcile
from evloop.app.limits import REMAKE_AGAIN_S_MAX
from evloop.app.reconcile import Reconciler
from evloop.base.errors import EvloopError, Refused, SetupError
from evloop.base.names import check_address, check_port, fold, place_of
from evloop.directory import protocol
from evloop.directory.client import READY
from evloop.system.timers import NEVER
from evloop.terminal import report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random
    from typing import Any

    from evloop.app.chat import Chat
    from evloop.app.remarks import Remarks
    from evloop.directory.client import DirectoryClient
    from evloop.directory.protocol import RoomEntry
    from evloop.system.loop import Loop


NO_DIRECTORY = "-"  # the identity of none: each that comes is another one


class Listed:
    """A room that the user is in and the directory lists: `chat`, and what decides about it."""

    __slots__ = ("_presence", "chat", "reconciler", "remake")

    def __init__(self, presence: Presence, chat: Chat, reconciler: Reconciler, loop: Loop) -> None:
        self.chat = chat
        self.reconciler = reconciler
        self.remake = loop.call_at(NEVER, self._on_remake)
        self._presence = presence

    def _on_remake(self) -> None:
        self._presence.remake(self)


class Presence:
    """The rooms that the user is in; `tell(text)` says a remark.

    `move(chat, address, port)` opens the room's sockets at another place; SetupError. `made(value)`
    is told of a room that was made again for the user, as the result of makeroom says it.
    """

    __slots__ = (
        "_link",
        "_listed",
        "_loop",
        "_made",
        "_move",
        "_remarks",
        "_rng",
        "_tell",
        "_timer",
    )

    def __init__(
        self,
        loop: Loop,
        link: DirectoryClient,
        tell: Callable[[str], object],
        *,
        rng: Callable[[], Random],
        move: Callable[[Chat, str, int], object],
        made: Callable[[object], object],
    ) -> None:
        self._loop = loop
        self._link = link
        self._tell = tell
        self._rng = rng
        self._move = move
        self._made = made
        self._listed: dict[Chat, Listed] = {}  # where the directory lists the room
        self._remarks: Remarks | None = None  # with the first change: the first prompt has none
        self._timer = loop.call_at(NEVER, self._on_timer)

    def entered(self, chat: Chat) -> None:
        """The user is in the room of `chat` now."""
        away = self._link.state != READY
        if chat.listed:
            identity = NO_DIRECTORY if chat.by_name else self._link.identity
            reconciler = Reconciler(chat.place, identity, away=away)
            self._listed[chat] = Listed(self, chat, reconciler, self._loop)

    def ready(self) -> None:
        """The directory is connected, perhaps again, perhaps another: be counted in the rooms."""
        for listed in list(self._listed.values()):
            self._do(listed, listed.reconciler.connected(self._link.identity))

    def lost(self) -> None:
        """The directory is away."""
        for listed in self._listed.values():
            listed.reconciler.lost()
            listed.remake.move(NEVER)

    def left(self, chat: Chat) -> None:
        """The user has left: be counted no longer. A directory that is away has forgotten us."""
        listed = self._listed.pop(chat, None)
        if listed is not None:
            listed.remake.cancel()
        if chat.listed and self._link.state == READY:
            self._link.request("leave", {"name": chat.name}, _ignore)

    def count(self, chat: Chat, then: Callable[[int], object]) -> None:
        """Ask how many are in the room of `chat`: then(number), 0 where nobody tells."""
        if not chat.listed or self._link.state != READY:
            then(0)
            return

        def counted(value: Any, error: EvloopError | None) -> None:
            if error is None:
                chat.kept.told(value)
            then(protocol.read_room(_room_of(value))[1] if error is None else 0)

        self._link.request("enter", {"name": chat.name}, counted)

    def changed(self, method: str, room: RoomEntry) -> None:
        """Somebody has made or deleted a room: `method` is "room_made" or "room_deleted"."""
        for listed in self._listed.values():
            if fold(listed.chat.name) == fold(room.name):
                reconciler = listed.reconciler
                if method == "room_deleted":
                    self._do(listed, reconciler.deleted())
                else:
                    self._do(listed, reconciler.made_by_other((room.address, room.port)), room)
                return
        if self._remarks is None:
            from evloop.app.remarks import Remarks

            self._remarks = Remarks(self._loop.now, self._tell)
        words = report.room_made if method == "room_made" else report.room_deleted
        entry = {"name": room.name, "address": room.address, "port": room.port}
        self._remarks.remark("rooms", report.note(words(entry)), self._loop.now)
        self._timer.move(self._remarks.next_deadline())

    # -- a room that one is in, after a change -----------------------------------------------------

    def _do(self, listed: Listed, what: int, room: RoomEntry | None = None) -> None:
        """Do what the reconciler says; `room`: what the directory says of the room."""
        chat, reconciler = listed.chat, listed.reconciler
        listed.remake.move(reconciler.due)
        if what == reconcile.ENTER:
            self._link.request("enter", {"name": chat.name}, self._answer_to(listed, self._entered))
        elif what == reconcile.MAKE:
            self._make(listed, keep=chat.kept.wanted)
        elif what == reconcile.MOVE:
            assert room is not None
            self._follow(listed, room)
        elif what == reconcile.TELL:
            assert room is not None
            chat.view.told(report.room_moved(chat.name, room.address, room.port))
        elif what == reconcile.GONE:
            chat.view.told(*report.room_gone(chat.name, *chat.place, chat.mode))
        elif what == reconcile.UNKNOWN:
            chat.view.told(report.room_unknown(chat.name))

    def _make(self, listed: Listed, *, keep: bool) -> None:
        """Make the room again, to be kept as it was. A directory that keeps nothing, or knows no
        such word, refuses that: then it is made all the same."""
        chat, (address, port) = listed.chat, listed.reconciler.place
        params = {"name": chat.name, "address": address, "port": port, "mode": chat.mode}
        if keep:
            params["keep"] = True

        def answered(listed: Listed, value: Any, error: EvloopError | None) -> None:
            refused = error.reason if isinstance(error, Refused) else ""
            if keep and refused in ("not_allowed", "unknown_member"):
                self._make(listed, keep=False)
            else:
                self._remade(listed, value, error)

        self._link.request("makeroom", params, self._answer_to(listed, answered))

    def _answer_to(self, listed: Listed, take: Callable[..., object]) -> Callable[..., object]:
        """What takes an answer about a room, which may have been left since."""

        def answered(value: Any, error: EvloopError | None) -> None:
            if self._listed.get(listed.chat) is listed:
                take(listed, value, error)

        return answered

    def _entered(self, listed: Listed, value: Any, error: EvloopError | None) -> None:
        if error is None:
            listed.chat.kept.told(value)
            room = protocol.read_room(_room_of(value))[0]
            self._do(listed, listed.reconciler.found((room.address, room.port)), room)
        elif isinstance(error, Refused) and error.reason == "no_such_room":
            self._do(listed, listed.reconciler.missing(self._loop.now, self._rng()))

    def _remade(self, listed: Listed, value: Any, error: EvloopError | None) -> None:
        chat, reconciler = listed.chat, listed.reconciler
        if error is None:
            self._made(value)
            chat.view.told(report.made_again(chat.name, *chat.place))
            self._do(listed, reconciler.made())
        elif isinstance(error, Refused) and error.reason == "room_exists":
            self._do(listed, reconciler.made())
        elif isinstance(error, Refused):
            wait = (error.data or {}).get("retry_after", 0.0)
            wait = float(wait) if isinstance(wait, (int, float)) else 0.0
            if reconciler.refused(self._loop.now, min(wait, REMAKE_AGAIN_S_MAX)):
                chat.view.told(report.not_made_again(chat.name, error.sentence))
            listed.remake.move(reconciler.due)

    def remake(self, listed: Listed) -> None:
        """The time has come for what the reconciler of `listed` has put off."""
        self._do(listed, listed.reconciler.handle_timer(self._loop.now))

    def _follow(self, listed: Listed, room: RoomEntry) -> None:
        """The room is elsewhere: go on with the talk there, or say how to follow."""
        chat = listed.chat
        told = report.room_moved(chat.name, room.address, room.port)
        try:
            # From the network: judged before it is used.
            place = check_address(room.address), check_port(room.port)
            if room.mode != chat.mode:
                chat.view.told(told)
                return
            self._move(chat, *place)
        except (Refused, SetupError) as error:
            chat.view.told(told, report.note(error.sentence))
            return
        listed.reconciler.place = place
        chat.view.told(report.talk_moves(chat.name, place_of(*place)))

    def _on_timer(self) -> None:
        assert self._remarks is not None  # it has armed the timer
        self._remarks.handle_timer(self._loop.now)
        self._timer.move(self._remarks.next_deadline())


def _room_of(value: object) -> object:
    """The ROOM object in the result of `enter`."""
    return value.get("room") if isinstance(value, dict) else None


def _ignore(value: object, error: object) -> None:
    """Nothing depends on the answer."""
