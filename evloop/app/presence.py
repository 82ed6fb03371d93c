"""What the directory and the client owe each other about the room that the user is in.

The directory counts who is in a room, by connection. It must therefore be told when a room is left,
and told anew after each reconnect; and the room may be another one by then, or none. What it tells
of other rooms becomes a remark, on a budget: anybody may make and delete rooms.
"""

from __future__ import annotations

from evloop.base.errors import Refused
from evloop.base.names import fold
from evloop.directory import protocol
from evloop.directory.client import READY
from evloop.system.timers import NEVER
from evloop.terminal import report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from evloop.app.chat import Chat
    from evloop.app.remarks import Remarks
    from evloop.base.errors import EvloopError
    from evloop.directory.client import DirectoryClient
    from evloop.directory.protocol import RoomEntry
    from evloop.system.loop import Loop


class Presence:
    """`chat` is the room that the user is in, None at the prompt; `tell(text)` says a remark."""

    __slots__ = ("_link", "_loop", "_remarks", "_tell", "_timer", "chat")

    def __init__(self, loop: Loop, link: DirectoryClient, tell: Callable[[str], object]) -> None:
        self.chat: Chat | None = None
        self._loop = loop
        self._link = link
        self._tell = tell
        self._remarks: Remarks | None = None  # with the first change: the first prompt has none
        self._timer = loop.call_at(NEVER, self._on_timer)

    def ready(self) -> None:
        """The directory is connected, perhaps again: be counted in the room again."""
        chat = self.chat
        if chat is None or not chat.listed:
            return

        def entered(value: Any, error: EvloopError | None) -> None:
            if self.chat is not chat:
                return
            if isinstance(error, Refused):
                chat.view.told(report.room_gone(chat.name, *chat.place))
            elif error is None:
                self._follow(chat, protocol.read_room(_room_of(value))[0])

        self._link.request("enter", {"name": chat.name}, entered)

    def left(self, chat: Chat) -> None:
        """The user has left: be counted no longer. A directory that is away has forgotten us."""
        self.chat = None
        if chat.listed and self._link.state == READY:
            self._link.request("leave", {"name": chat.name}, _ignore)

    def count(self, chat: Chat, then: Callable[[int], object]) -> None:
        """Ask how many are in the room of `chat`: then(number), 0 where nobody tells."""
        if not chat.listed or self._link.state != READY:
            then(0)
            return

        def counted(value: Any, error: EvloopError | None) -> None:
            then(protocol.read_room(_room_of(value))[1] if error is None else 0)

        self._link.request("enter", {"name": chat.name}, counted)

    def changed(self, method: str, room: RoomEntry) -> None:
        """Somebody has made or deleted a room: `method` is "room_made" or "room_deleted"."""
        chat = self.chat
        if chat is not None and chat.listed and fold(chat.name) == fold(room.name):
            if method == "room_deleted":
                chat.view.told(report.room_gone(chat.name, *chat.place))
            elif (room.address, room.port) == chat.place:
                self.ready()
            else:
                self._follow(chat, room)
            return
        if self._remarks is None:
            from evloop.app.remarks import Remarks

            self._remarks = Remarks(self._loop.now, self._tell)
        words = report.room_made if method == "room_made" else report.room_deleted
        entry = {"name": room.name, "address": room.address, "port": room.port}
        self._remarks.remark("rooms", report.note(words(entry)), self._loop.now)
        self._timer.move(self._remarks.next_deadline())

    def _follow(self, chat: Chat, room: RoomEntry) -> None:
        """The directory says where the room of `chat` is: tell when that is elsewhere."""
        if (room.address, room.port) != chat.place:
            chat.view.told(report.room_moved(chat.name, room.address, room.port))

    def _on_timer(self) -> None:
        assert self._remarks is not None  # it has armed the timer
        self._remarks.handle_timer(self._loop.now)
        self._timer.move(self._remarks.next_deadline())


def _room_of(value: object) -> object:
    """The ROOM object in the result of `enter`."""
    return value.get("room") if isinstance(value, dict) else None


def _ignore(value: object, error: object) -> None:
    """Nothing depends on the answer."""
