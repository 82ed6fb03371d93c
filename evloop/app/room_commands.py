"""What a client with several rooms does: it opens rooms, and carries out the commands about them.

    /join, /getdir, /makeroom, /deleteroom, chat A B    ask the directory: a `Job`; lines wait
    /switch, /rooms, /mute, /leave ROOM                 act at once

One job runs at a time. It is given up when all rooms are left at once: then its room is not
entered, and the directory is asked to count nobody for it.
"""

from __future__ import annotations

from evloop.app.chat import Chat
from evloop.app.commands import too_few
from evloop.app.kept import Kept
from evloop.app.opening import live_room
from evloop.app.rooms import Rooms
from evloop.app.startup import doctor
from evloop.base.errors import INTERRUPTED, EvloopError, Refused
from evloop.base.names import fold, place_of, quoted, split_place
from evloop.directory.client import READY
from evloop.system.timers import nothing
from evloop.terminal import report, room_notes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from evloop.app.rooms import Pane
    from evloop.app.shell import Client
    from evloop.directory.protocol import RoomEntry
    from evloop.terminal.frontend import Frontend

    Options = dict[str, str]
    Then = Callable[["EvloopError | None"], object]


class Job:
    """Something under way; called when it is over. `room`: which one it enters, or ""."""

    __slots__ = ("_then", "given_up", "over", "room")

    def __init__(self, room: str, then: Then) -> None:
        self.room = room
        self.given_up = False
        self.over = False
        self._then = then

    def __call__(self, error: EvloopError | None) -> None:
        if not (self.over or self.given_up):
            self.over = True
            self._then(error)

    def give_up(self) -> None:
        """It is over, without a word; what still comes of it is refused."""
        self.given_up = True


class Answers:
    """The frontend of a command of the main prompt in a room: its answers are no chat lines."""

    __slots__ = ("_frontend", "_job")

    def __init__(self, frontend: Frontend, job: Job) -> None:
        self._frontend = frontend
        self._job = job

    @property
    def is_terminal(self) -> bool:
        return self._frontend.is_terminal

    def show(self, text: str) -> None:
        self.note(text, "text")

    def note(self, text: str, manner: str = "") -> None:
        if not self._job.given_up:
            self._frontend.note(text, manner)

    def progress(self, text: str) -> None:
        self._frontend.progress("" if self._job.given_up else text)


class RoomCommands:
    """The commands of `client` about its `rooms`, which it makes."""

    __slots__ = ("_behind", "_client", "_job", "_left", "rooms")

    def __init__(self, client: Client) -> None:
        self.rooms = Rooms(
            client.loop,
            client.frontend,
            client.style,
            on_front=client.show_prompt,
            on_hold=client.hold_lines,
            on_empty=self._all_left,
        )
        self._behind = False  # a room that is entered now does not come to the front
        self._client = client
        self._job: Job | None = None
        self._left: list[str] = []  # rooms that are still to be entered, the next one last

    def run(self, word: str, arguments: list[str], options: Options) -> None:
        """A command that was typed in a room."""
        if word in HANDLERS:
            HANDLERS[word](self, arguments, options)
        else:
            self._ask(word, arguments, options)

    # -- rooms come and go -----------------------------------------------------------------------

    def open(self, entry: RoomEntry, counted: int, secret: bytes | None, done: Then) -> None:
        """Open `entry` for the user; `counted`: how many the directory counts, 0: not its room,
        below: no directory was found; `secret`: of a sealed room. `done(None)` when it is open;
        raises EvloopError."""
        client, rooms = self._client, self.rooms
        if isinstance(done, Job) and done.given_up:
            raise EvloopError("")  # nobody waits for it
        here = self._at((entry.address, entry.port))
        if here is not None:  # under another name
            if not self._behind:
                rooms.switch(here)
            raise EvloopError("")

        def over(chat: Chat) -> None:
            client.left(chat)
            rooms.remove(pane)

        room = live_room(client, entry, counted, secret)
        try:
            pane = rooms.pane()
            chat = Chat(
                client.loop,
                pane,
                room,
                entry,
                client.style,
                listed=counted != 0,
                by_name=client.reach.by_name(entry) if counted < 0 else "",
                on_over=over,
                on_quit=client.quit,
                on_renamed=self._renamed,
                on_command=self.run,
                on_proven=self._proven,
                secret=secret,
                count=client.presence().count,
                invitation=client.invitation,
                on_doctor=lambda: doctor(client),
                kept=Kept(client.link, entry.name),
            )
        except Exception:  # what is loaded or opened late cannot be had: nobody would leave it
            room.close()
            raise
        if counted > 0:
            chat.kept.told(client.prompt.entered)
        rooms.enter(pane, chat, behind=self._behind)
        client.presence().entered(chat)
        chat.start()
        client.awaiting(False)
        done(None)
        client.on_chat(chat)

    def _proven(self, chat: Chat) -> None:
        """Somebody else has the key of a sealed room: what was typed was right."""
        why = self._client.reach.keys().proven(place_of(*chat.place))
        if why:
            self._client.frontend.note(f"evloop: the key is not remembered: {why}")

    def _renamed(self, name: str) -> None:
        """The user has another name in one room: it is that of all."""
        for pane in self.rooms.panes.values():
            if pane.chat.room.session.nickname != name:
                pane.chat.room.rename(name)
        self._client.keep_name(name)

    def leave_all(self) -> None:
        """Leave all rooms now, and enter none that is asked for."""
        self._give_up()
        self.rooms.leave_all()

    def _all_left(self) -> None:
        self._give_up()
        self._client.rooms_over()

    # -- what takes time -------------------------------------------------------------------------

    def _begin(self, what: str, room: str, act: Callable[[Job], object]) -> None:
        """Do something; lines wait until it is over."""
        client = self._client

        def over(error: EvloopError | None) -> None:
            self._over()
            if error is not None:
                client.failed(what, error)

        self._job = job = Job(room, over)
        client.hold(True)
        client.awaiting(True)
        try:
            act(job)
        except EvloopError as error:
            job(error)

    def _over(self) -> None:
        client = self._client
        self._job = None
        self._behind = False
        client.prompt.frontend = client.frontend
        client.awaiting(False)
        client.hold(False)

    def _give_up(self) -> None:
        """All rooms are left: nothing is entered any more."""
        job, client = self._job, self._client
        if job is None:
            return
        job.give_up()  # before the rest: it says nothing about that
        client.give_up()
        self._over()

    def forget(self) -> None:
        """What is asked of the directory is given up: enter no further room, and be counted in none
        for it."""
        self._left.clear()
        job, link = self._job, self._client.link
        if job is not None and job.room and link.state == READY:
            link.request("leave", {"name": job.room}, nothing)

    def recover(self) -> None:
        """After an unexpected exception a job may never end: it does not keep lines waiting."""
        if self._job is not None:
            self._job.give_up()
            self.forget()
            self._over()

    def _join(self, arguments: list[str], options: Options) -> None:
        name = arguments[0]
        here = self._here(name)
        if here is not None:
            self.rooms.switch(here)
            return
        self.rooms.check_more()
        mode = options.get("--mode")
        self._client.prompt.makes_rooms = False  # that is for the rooms of the start
        self._begin(f"join {name}", name, lambda job: self._client.prompt.enter(name, mode, job))

    def _here(self, name: str) -> Pane | None:
        """The room of this name, or at this place, if we are in it."""
        for pane in self.rooms.panes.values():
            if fold(pane.name) == fold(name):
                return pane
        try:
            place = split_place(name)
        except Refused:
            return None
        return self._at(place) if place is not None else None

    def _at(self, place: tuple[str, int]) -> Pane | None:
        """The room at `place`, if we are in it."""
        return next((it for it in self.rooms.panes.values() if it.chat.place == place), None)

    def _ask(self, word: str, arguments: list[str], options: Options) -> None:
        """A command of the main prompt."""
        prompt, client = self._client.prompt, self._client

        def act(job: Job) -> None:
            prompt.frontend = Answers(client.frontend, job)
            prompt.run(word, arguments, options, job)

        self._begin(" ".join([word, *arguments[:1]]), "", act)

    def enter_all(self, names: list[str], options: Options, done: Then) -> None:
        """Enter rooms one after the other: the first that can be entered is in front.

        A room that cannot is told, and decides the exit status; then the next is tried.
        """
        client, rooms = self._client, self.rooms
        makes_rooms = client.prompt.makes_rooms
        different: dict[str, str] = {}
        given_up: EvloopError | None = None  # a question
        for name in again(client, names):
            different.setdefault(fold(name), name)
        self._left = left = list(different.values())[::-1]

        def entered(name: str, error: EvloopError | None) -> None:
            nonlocal given_up
            if error is not None and error.exit_status == INTERRUPTED:
                given_up = error
            elif error is not None and str(error):
                client.status = client.status or error.exit_status
                client.failed(f"chat {name}", error)
            following()

        def following() -> None:
            self._job = None
            while left:
                name = left.pop()
                if self._here(name) is None:
                    break
            else:
                self._behind = False
                done(None if rooms.panes else given_up)
                return
            self._behind = bool(rooms.panes)
            client.prompt.makes_rooms = makes_rooms
            self._job = job = Job(name, lambda error: entered(name, error))
            client.awaiting(True)
            try:
                rooms.check_more()
                client.prompt.enter(name, options.get("--mode"), job)
            except EvloopError as error:
                job(error)

        following()

    # -- what acts at once -----------------------------------------------------------------------

    def _switch(self, arguments: list[str], options: Options) -> None:
        rooms = self.rooms
        if arguments:
            rooms.switch(rooms.find("switch", arguments[0]))
        else:
            rooms.back()

    def _leave(self, arguments: list[str], options: Options) -> None:
        self.rooms.find("leave", arguments[0]).chat.finish()

    def _key(self, arguments: list[str], options: Options) -> None:
        front, client = self.rooms.front, self._client
        assert front is not None  # the command was typed in a room
        name, chat = front.name, front.chat
        if chat.secret is None:
            raise EvloopError(f"key: room {quoted(name)} is {chat.mode}, not sealed")

        def show(code: str) -> None:
            told = report.json_line("key", room=name, key=code)
            client.frontend.note(told if client.options.json else f"key {code}", "text")

        # Not what is remembered: a new room of this name has another key, perhaps.
        client.reach.keys().show(name, chat.secret, show)

    def _list(self, arguments: list[str], options: Options) -> None:
        rooms, client = self.rooms, self._client
        for number, pane in sorted(rooms.panes.items()):
            backlog = pane.backlog
            marks = ["muted"] * backlog.muted + ["in front"] * pane.in_front
            here = len(pane.chat.room.session.members(client.loop.now))
            row = room_notes.listed(number, pane.name, here, backlog.unread, backlog.for_you, marks)
            client.frontend.note(row, "text")

    def _mute(self, arguments: list[str], options: Options) -> None:
        front = self.rooms.front
        assert front is not None  # the command was typed in a room
        front.backlog.muted = not front.backlog.muted
        self._client.frontend.note(room_notes.muted(front.name, front.backlog.muted), "text")


def again(client: Client, names: list[str]) -> list[str]:
    """The rooms of `chat`: those that are named, else those that were left together last."""
    if names:
        return names
    rooms = client.rooms
    if rooms is None or not rooms.last_left:
        raise too_few("chat", "prompt")
    return list(rooms.last_left)


HANDLERS: dict[str, Callable[[RoomCommands, list[str], dict[str, str]], None]] = {
    "join": RoomCommands._join,
    "switch": RoomCommands._switch,
    "key": RoomCommands._key,
    "rooms": RoomCommands._list,
    "mute": RoomCommands._mute,
    "leave": RoomCommands._leave,
}
