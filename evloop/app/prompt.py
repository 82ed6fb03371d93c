"""What the commands of the main prompt do.

A handler acts at once, or asks the directory and goes on in what it hands to
`DirectoryClient.request`; in both cases it ends with `done(error or None)`, exactly once. The
caller runs one command at a time, so that results come in the order of the lines.
"""

from __future__ import annotations

from evloop.app.commands import help_lines
from evloop.app.limits import (
    LISTED_ROOMS_MAX,
    PROGRESS_ROOMS,
    ROOMS_KNOWN_MAX,
)
from evloop.base.errors import (
    EvloopError,
    Refused,
    RemoteProtocolError,
)
from evloop.base.names import (
    asked_room_name,
    check_address,
    check_nickname,
    check_port,
    check_room_name,
    fold,
    place_of,
    quoted,
    split_place,
)
from evloop.directory import protocol
from evloop.directory.client import (
    IDLE,
    READY,
    NobodyThere,
    Unreachable,
)
from evloop.directory.limits import PAGE_ROOMS_MAX
from evloop.directory.protocol import RoomEntry
from evloop.system.process import command_of
from evloop.system.timers import nothing
from evloop.terminal import report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from evloop.app.making import Making
    from evloop.app.reach import Reach
    from evloop.directory.client import DirectoryClient
    from evloop.directory.trust import Trust
    from evloop.terminal.frontend import Answering

    Done = Callable[[EvloopError | None], object]
    Options = dict[str, str]
    # (room, how many the directory counts (0: it lists no such room), the secret of a sealed one,
    # done): opens the room for the user to talk in
    OpenRoom = Callable[[RoomEntry, int, "bytes | None", Done], object]

DEFAULT_MODE = protocol.RELIABLE
BY_NAME = -1  # instead of how many are counted: no directory was found that could count


class Prompt:
    """The commands, on one link and one frontend. `nickname` is the chat name.

    `on_change(method, room)` is told of each change of the list of rooms, `on_renamed(name)` of a
    new chat name; `on_invite()` shows what others type to come here. `rooms` holds what is known of
    the directory's rooms, by folded name.
    """

    def __init__(
        self,
        frontend: Answering,
        link: DirectoryClient,
        *,
        nickname: str,
        reach: Reach,
        as_json: bool,
        trust: Callable[[], Trust],
        open_room: OpenRoom,
        on_quit: Callable[[], object],
        on_change: Callable[[str, RoomEntry], object],
        on_renamed: Callable[[str], object],
        on_invite: Callable[[], object],
        on_doctor: Callable[[list[str], Options, Done], object] = nothing,
    ) -> None:
        self.nickname = nickname
        self.reach = reach
        self.makes_rooms = False  # `enter` makes a room that is not there
        self.rooms: dict[str, RoomEntry] = {}  # kept by the notifications
        self.all_known = False  # the whole list is in `rooms`
        self.entered: object = None  # what `enter` told of the room that is to be opened
        self.frontend = frontend
        self._link = link
        self.as_json = as_json
        self._trust = trust
        self._open_room = open_room
        self._on_quit = on_quit
        self._on_change = on_change
        self._on_renamed = on_renamed
        self._on_invite = on_invite
        self._on_doctor = on_doctor
        self._maker: Making | None = None
        self._on_known: Callable[[int, EvloopError | None], object] = nothing
        self.own_changes: set[tuple[str, str]] = set()

    def run(self, word: str, arguments: list[str], options: Options, done: Done) -> None:
        """Do one command; raises EvloopError when it fails at once."""
        doubted = self._maker.doubted if self._maker is not None else ""
        HANDLERS[word](self, arguments, options, done)
        if self._maker is not None and self._maker.doubted == doubted:
            self._maker.doubted = ""  # only the very next command is a second one

    # -- the connection ----------------------------------------------------------------------

    def _connect(self, arguments: list[str], options: Options, done: Done) -> None:
        def known(rooms: int, error: EvloopError | None) -> None:
            if error is None:
                self.frontend.note(self.reach.greeting(rooms))
            done(error)

        def connected(error: EvloopError | None) -> None:
            if error is None and self.frontend.is_terminal:
                self.await_rooms(known)  # so that Tab knows them when the next line is typed
            else:
                done(advised(error))

        self.connect(arguments[0] if arguments else self.reach.server, connected)

    def connect(self, server: str, done: Done, room: str = "") -> None:
        """Connect to `server`, or to the one that is found: see `Reach`."""
        self.forget_rooms()
        self.reach.connect(server, done, room)

    def _directories(self, arguments: list[str], options: Options, done: Done) -> None:
        self.reach.finder.list(done)

    def _bye(self, arguments: list[str], options: Options, done: Done) -> None:
        if self._link.state == IDLE:
            raise Unconnected()
        self._link.close()
        self.forget_rooms()
        done(None)

    def forget_rooms(self) -> None:
        self.rooms.clear()
        self.all_known = False

    def check_link(self) -> None:
        """Raise why the directory cannot be asked anything now."""
        if self._link.state == IDLE:
            raise Unconnected()
        if self._link.state != READY:
            raise Unreachable(
                f"the directory {self._link.endpoint} is away; it is tried again by itself"
            )

    def ask(self, method: str, params: dict[str, Any], done: Any) -> None:
        self.check_link()
        self._link.request(method, params, done)

    # -- the directory -----------------------------------------------------------------------

    def list_rooms(self, done: Callable[[list[Any], EvloopError | None], object]) -> None:
        """Read the whole directory, page by page: done([(Room, members), ...], error)."""
        found: list[Any] = []

        def page(rooms: list[Any]) -> bool:
            found.extend(rooms)
            if len(found) >= LISTED_ROOMS_MAX:
                raise RemoteProtocolError("its list of rooms does not end")
            if len(found) >= PROGRESS_ROOMS:
                self.frontend.progress(f"{len(found)} rooms read ...")
            return True

        def over(error: EvloopError | None) -> None:
            self.frontend.progress("")
            done(found, error)

        self._pages(page, over)

    def _pages(self, page: Callable[[list[Any]], bool], done: Done) -> None:
        """Read the directory: `page(rooms)` for each page, until it returns False."""

        def read(value: object, error: EvloopError | None) -> None:
            if error is not None:
                done(error)
                return
            _, rooms, following = protocol.read_page(value)
            if following is not None and not rooms:
                raise RemoteProtocolError("its list of rooms does not end")
            if page(rooms) and following is not None:
                self._link.request("getdir", {"after": following, "limit": PAGE_ROOMS_MAX}, read)
            else:
                done(None)

        self.ask("getdir", {}, read)

    @property
    def awaits_rooms(self) -> bool:
        """Whether somebody waits for `learn_rooms`."""
        return self._on_known is not nothing

    def await_rooms(self, known: Callable[[int, EvloopError | None], object]) -> None:
        """Call `known(how many, error)` once, when the rooms of this connection are known."""
        self._on_known = known

    def learn_rooms(self) -> None:
        """Read the list of rooms and keep it up to date; then call what `await_rooms` was given.

        The directory must have been asked to tell of changes before: a page holds the rooms of the
        moment when it was made, and later changes come as notifications.
        """
        self.forget_rooms()
        count = 0

        def page(rooms: list[Any]) -> bool:
            nonlocal count
            count += len(rooms)
            for room, _ in rooms[: ROOMS_KNOWN_MAX - len(self.rooms)]:
                self.rooms[fold(room.name)] = room
            return count < ROOMS_KNOWN_MAX

        def over(error: EvloopError | None) -> None:
            self.all_known = error is None and count < ROOMS_KNOWN_MAX
            known, self._on_known = self._on_known, nothing
            known(count, error)

        self._pages(page, over)

    def _getdir(self, arguments: list[str], options: Options, done: Done) -> None:
        def listed(rooms: list[Any], error: EvloopError | None) -> None:
            if error is None:
                objects = [report.room_object(room, members) for room, members in rooms]
                if self.as_json:
                    for one in objects:
                        self.frontend.show(report.json_line("room", **one))
                else:
                    for line in report.room_lines(objects):
                        self.frontend.show(line)
                    if not objects:
                        self.frontend.note("no rooms yet; makeroom NAME makes one")
            done(error)

        self.list_rooms(listed)

    def _making(self) -> Making:
        from evloop.app.making import Making  # late: the first prompt does without

        if self._maker is None:
            self._maker = Making(self, self._link, self._trust, self.reach)
        return self._maker

    def _makeroom(self, arguments: list[str], options: Options, done: Done) -> None:
        self._making().makeroom(arguments, options, done)

    def keep_token(self, value: object) -> None:
        """Keep the owner's token of a makeroom result, if it has one."""
        self._making().keep_token(value)

    def _deleteroom(self, arguments: list[str], options: Options, done: Done) -> None:
        self._making().deleteroom(arguments, options, done)

    def _key(self, arguments: list[str], options: Options, done: Done) -> None:
        name = arguments[0]

        def show(code: str) -> None:
            if self.as_json:
                self.frontend.show(report.json_line("key", room=name, key=code))
            else:
                self.frontend.show(f"key {code}")

        def act(known: RoomEntry | None) -> None:
            self.reach.keys().command(name, known, options, show, done)

        def listed(rooms: list[Any], error: EvloopError | None) -> None:
            found = [room for room, _ in rooms if fold(room.name) == fold(name)]
            try:
                act(found[0] if found else None)
            except EvloopError as failure:
                done(failure)

        known = self.rooms.get(fold(name))
        asks = ("--new" in options or "--set" in options) and not self.all_known
        if known is None and asks and self._link.state == READY:
            self.list_rooms(listed)
        else:
            act(known)

    def news(self, method: str, params: dict[str, Any]) -> None:
        """A notification of the directory: keep what is known, tell the user."""
        if method not in ("room_made", "room_deleted"):
            return  # `closing` is told as the reason of the loss; others are of a later version
        _, room, _ = protocol.read_change(params)
        if method == "room_deleted":
            self.rooms.pop(fold(room.name), None)
        elif len(self.rooms) < ROOMS_KNOWN_MAX:
            self.rooms[fold(room.name)] = room
        if (method, fold(room.name)) not in self.own_changes:
            self._on_change(method, room)

    # -- rooms and the user ------------------------------------------------------------------

    def _chat(self, arguments: list[str], options: Options, done: Done) -> None:
        self.enter(arguments[0], options.get("--mode"), done)

    def enter(self, name: str, mode: str | None, done: Done) -> None:
        """Open the room `name`, or the one at ADDRESS:PORT; `done` when it is over."""
        not_a_place: Refused | None = None
        try:
            place = split_place(name)
        except Refused as refused:
            if self._link.state != READY:
                raise
            place, not_a_place = None, refused  # a room may be called 1.2.3.4:80
        if place is not None:
            self._enter_place(*place, mode, done)
            return
        name = asked_room_name(name)
        known = self.rooms.get(fold(name))
        if known is not None and self._link.state not in (IDLE, READY):
            self.frontend.note(f"evloop: going by what {self._link.endpoint} said of it last")
            self._open(known, 1, done)
            return

        if self._link.state == IDLE and self.reach.alone and self.frontend.is_terminal:
            self._open(self.reach.room_by_name(name), BY_NAME, done)
            return

        def entered(value: object, error: EvloopError | None) -> None:
            if error is not None:
                self._not_entered(name, mode, not_a_place or error, done)
                return
            room, members = protocol.read_room(_room_of(value))
            # The room keeps the name that the user typed, not the one from the network.
            room = RoomEntry(name, room.address, room.port, room.mode)
            self.entered = value
            if len(self.rooms) < ROOMS_KNOWN_MAX:
                self.rooms[fold(room.name)] = room
            self._open(room, members, done, mode)

        self.ask("enter", {"name": name}, entered)

    def _enter_place(self, address: str, port: int, mode: str | None, done: Done) -> None:
        """Open the room at a place; a directory that is connected knows of which mode it is."""
        found = [mode or self.reach.likely_mode(place_of(address, port))]
        wanted = address, port

        def here(room: RoomEntry) -> bool:
            if (room.address, room.port) != wanted:
                return False
            found[0] = room.mode
            return True

        looked_at = 0

        def look(rooms: list[Any]) -> bool:
            nonlocal looked_at
            looked_at += len(rooms)
            return not any(here(room) for room, _ in rooms) and looked_at < ROOMS_KNOWN_MAX

        def opened(error: EvloopError | None) -> None:
            entry = RoomEntry(place_of(address, port), address, port, found[0])
            self._open(entry, 0, done, mode)

        told = mode is not None or any(map(here, self.rooms.values()))
        if told or self.all_known or self._link.state != READY:
            opened(None)
        else:
            self._pages(look, opened)

    def _open(self, room: RoomEntry, counted: int, done: Done, mode: str | None = None) -> None:
        """Open `room`; where that fails the directory does not count us in it either.
        `mode`: the one that the user has named."""

        def failed(failure: EvloopError) -> None:
            if counted and self._link.state == READY:
                self._link.request("leave", {"name": room.name}, nothing)
            done(failure)

        try:
            # They came from the network, so they are checked before they are used.
            address, port = check_address(room.address), check_port(room.port)
            entry = RoomEntry(room.name, address, port, room.mode)
            self.reach.key_of(
                entry, mode, lambda secret: self._open_room(entry, counted, secret, done), failed
            )
        except EvloopError as failure:
            failed(failure)

    def _not_entered(self, name: str, mode: str | None, error: EvloopError, done: Done) -> None:
        """There is no such room: make it where that was asked for, else say how."""
        if not isinstance(error, Refused) or error.reason != "no_such_room":
            done(error)
            return
        try:
            made = check_room_name(name)
        except EvloopError:  # it cannot be made either
            done(error)
            return
        if not self.makes_rooms:
            advice = f"makeroom {quoted(made)} makes it"
            done(Refused(error.code, error.reason, f"{error.sentence}; {advice}"))
            return

        def then(failure: EvloopError | None) -> None:
            self.makes_rooms = False
            if failure is None:
                self.enter(name, mode, done)
            else:
                done(failure)

        self._makeroom([name], {} if mode is None else {"--mode": mode}, then)

    def _invite(self, arguments: list[str], options: Options, done: Done) -> None:
        if self._link.state == IDLE:
            raise Unconnected()
        self._on_invite()
        done(None)

    def _name(self, arguments: list[str], options: Options, done: Done) -> None:
        if arguments:
            self.nickname = check_nickname(arguments[0])
            self._on_renamed(self.nickname)
        elif self.as_json:
            self.frontend.show(report.json_line("name", name=self.nickname))
        else:
            self.frontend.show(self.nickname)
        done(None)

    def _doctor(self, arguments: list[str], options: Options, done: Done) -> None:
        self._on_doctor(arguments, options, done)

    def _help(self, arguments: list[str], options: Options, done: Done) -> None:
        for line in help_lines("prompt", *arguments):
            self.frontend.show(line)
        done(None)

    def _quit(self, arguments: list[str], options: Options, done: Done) -> None:
        self._on_quit()
        done(None)


class Unconnected(EvloopError):
    """A command needs a directory, and there is none."""

    def __init__(self) -> None:
        super().__init__("not connected; connect [HOST[:PORT]] connects to a directory")


def _room_of(value: object) -> object:
    """The ROOM object in the result of `enter`."""
    return value.get("room") if isinstance(value, dict) else None


def advised(error: EvloopError | None) -> EvloopError | None:
    """`error`, with what to do next when it says that no directory answers."""
    if not isinstance(error, NobodyThere):
        return error
    return NobodyThere(f"{error}; is a directory there? {command_of('server')} starts one")


HANDLERS: dict[str, Callable[[Prompt, list[str], Options, Done], None]] = {
    "connect": Prompt._connect,
    "directories": Prompt._directories,
    "bye": Prompt._bye,
    "getdir": Prompt._getdir,
    "makeroom": Prompt._makeroom,
    "deleteroom": Prompt._deleteroom,
    "key": Prompt._key,
    "chat": Prompt._chat,
    "invite": Prompt._invite,
    "name": Prompt._name,
    "doctor": Prompt._doctor,
    "help": Prompt._help,
    "quit": Prompt._quit,
}
