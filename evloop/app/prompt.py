"""What the commands of the main prompt do.

A handler acts at once, or asks the directory and goes on in what it hands to
`DirectoryClient.request`; in both cases it ends with `done(error or None)`, exactly once. The
caller runs one command at a time, so that results come in the order of the lines.
"""

from __future__ import annotations

from evloop.app.commands import UsageError, help_lines
from evloop.app.limits import (
    LISTED_ROOMS_MAX,
    PROGRESS_ROOMS,
    TOKEN_CHARS_MAX,
)
from evloop.base.addresses import split_endpoint
from evloop.base.errors import (
    INVALID_PARAMS,
    NOT_ALLOWED,
    EvloopError,
    Refused,
    RemoteProtocolError,
    SetupError,
)
from evloop.base.names import (
    address_warning,
    asked_room_name,
    check_address,
    check_nickname,
    check_port,
    check_room_name,
    display,
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
from evloop.directory.trust import is_hex
from evloop.system.process import command_of
from evloop.terminal import report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from evloop.directory.client import DirectoryClient
    from evloop.directory.protocol import RoomEntry
    from evloop.directory.trust import Trust
    from evloop.terminal.frontend import Frontend

    Done = Callable[[EvloopError | None], object]
    Options = dict[str, str]
    # name, address, port, mode, members that are said to be there, done: opens the room and leaves
    # it to be talked in
    OpenRoom = Callable[[str, str, int, str, int, Done], object]

DEFAULT_MODE = protocol.RELIABLE


def room_object(room: RoomEntry, members: int) -> dict[str, Any]:
    """A room as the members of its JSON object."""
    return {
        "name": room.name,
        "address": room.address,
        "port": room.port,
        "mode": room.mode,
        "members": members,
        "made": room.made,
    }


class Prompt:
    """The commands, on one link and one frontend. `nickname` is the chat name."""

    def __init__(
        self,
        frontend: Frontend,
        link: DirectoryClient,
        *,
        nickname: str,
        server: str,
        as_json: bool,
        trust: Trust,
        open_room: OpenRoom,
        on_quit: Callable[[], object],
    ) -> None:
        self.nickname = nickname
        self.server = server
        self.rooms: dict[str, str] = {}  # fold -> name, kept by the notifications
        self._frontend = frontend
        self._link = link
        self._json = as_json
        self._trust = trust
        self._open_room = open_room
        self._on_quit = on_quit
        self._own_changes: set[tuple[str, str]] = set()

    def run(self, word: str, arguments: list[str], options: Options, done: Done) -> None:
        """Do one command; raises EvloopError when it fails at once."""
        HANDLERS[word](self, arguments, options, done)

    def _show_room(self, room: RoomEntry, members: int, text: str) -> None:
        if self._json:
            self._frontend.show(report.json_line("room", **room_object(room, members)))
        else:
            self._frontend.show(text)

    # -- the connection ----------------------------------------------------------------------

    def _connect(self, arguments: list[str], options: Options, done: Done) -> None:
        def connected(error: EvloopError | None) -> None:
            if error is None and self._frontend.is_terminal:
                self._frontend.note(f"evloop: directory {self._link.endpoint}")
            done(advised(error))

        self.connect(arguments[0] if arguments else self.server, connected)

    def connect(self, server: str, done: Done) -> None:
        """Connect to `server`, HOST[:PORT]."""
        host, port = split_endpoint(server)
        if not host or not port:
            raise UsageError(f'"{quoted(server)}" names no host and port')

        def connected(version: object, error: EvloopError | None) -> None:
            if error is None:
                self.server = server
            done(error)

        self.rooms.clear()
        self._link.connect(host, port, connected)

    def _bye(self, arguments: list[str], options: Options, done: Done) -> None:
        if self._link.state == IDLE:
            raise Unconnected()
        self._link.close()
        self.rooms.clear()
        done(None)

    def _ask(self, method: str, params: dict[str, Any], done: Any) -> None:
        if self._link.state == IDLE:
            raise Unconnected()
        if self._link.state != READY:
            raise Unreachable(
                f"the directory {self._link.endpoint} is away; it is tried again by itself"
            )
        self._link.request(method, params, done)

    # -- the directory -----------------------------------------------------------------------

    def list_rooms(self, done: Callable[[list[Any], EvloopError | None], object]) -> None:
        """Read the whole directory, page by page: done([(Room, members), ...], error)."""
        found: list[Any] = []

        def page(value: object, error: EvloopError | None) -> None:
            if error is not None:
                self._frontend.progress("")
                done(found, error)
                return
            _, rooms, following = protocol.read_page(value)
            found.extend(rooms)
            if following is not None and not (rooms and len(found) < LISTED_ROOMS_MAX):
                raise RemoteProtocolError("its list of rooms does not end")
            if following is None:
                self._frontend.progress("")
                done(found, None)
                return
            if len(found) >= PROGRESS_ROOMS:
                self._frontend.progress(f"{len(found)} rooms read ...")
            self._link.request("getdir", {"after": following, "limit": PAGE_ROOMS_MAX}, page)

        self._ask("getdir", {}, page)

    def _getdir(self, arguments: list[str], options: Options, done: Done) -> None:
        def listed(rooms: list[Any], error: EvloopError | None) -> None:
            if error is None:
                objects = [room_object(room, members) for room, members in rooms]
                if self._json:
                    for one in objects:
                        self._frontend.show(report.json_line("room", **one))
                else:
                    for line in report.room_lines(objects):
                        self._frontend.show(line)
                    if not objects:
                        self._frontend.note("no rooms yet; makeroom NAME makes one")
            done(error)

        self.list_rooms(listed)

    def _makeroom(self, arguments: list[str], options: Options, done: Done) -> None:
        params: dict[str, Any] = {"name": check_room_name(arguments[0])}
        if len(arguments) == 2:
            raise UsageError("address and port go together; give both or neither")
        if len(arguments) == 3:
            params["address"] = check_address(arguments[1])
            params["port"] = check_port(_port(arguments[2]))
            warning = address_warning(params["address"])
            if warning is not None:
                self._frontend.note(f"evloop: {warning}")
        if "--mode" in options:
            params["mode"] = options["--mode"]
        change = ("room_made", fold(params["name"]))

        def made(value: object, error: EvloopError | None) -> None:
            self._own_changes.discard(change)
            if error is None:
                _, room, members = protocol.read_change(value)
                self._show_room(room, members, report.room_made(room_object(room, members)))
                self._keep_token(room.name, value)
            done(error)

        self._ask("makeroom", params, made)
        self._own_changes.add(change)

    def _keep_token(self, name: str, value: object) -> None:
        """Keep the owner's token of a makeroom result, if it has one."""
        token = value.get("token") if isinstance(value, dict) else None
        if type(token) is not str or not 0 < len(token) <= TOKEN_CHARS_MAX or not is_hex(token):
            return
        try:
            self._trust.keep_token(self._link.endpoint, name, token)
        except SetupError as error:
            note = (
                f"evloop: {error.sentence}\nwhoever deletes room {name} needs this token: {token}"
            )
            self._frontend.note(note)

    def _deleteroom(self, arguments: list[str], options: Options, done: Done) -> None:
        name = asked_room_name(arguments[0])
        change = ("room_deleted", fold(name))

        try:
            tokens = self._trust.tokens(self._link.endpoint, name)
        except SetupError as error:  # anyone may delete, perhaps
            self._frontend.note(f"evloop: {error.sentence}")
            tokens = []

        def ask() -> None:
            token = {"token": tokens.pop(0)} if tokens else {}
            self._ask("deleteroom", {"name": name, **token}, deleted)

        def deleted(value: object, error: EvloopError | None) -> None:
            # The token of a room that was called so, and is no more, or is of another directory.
            if tokens and isinstance(error, Refused) and error.code == NOT_ALLOWED:
                ask()
                return
            self._own_changes.discard(change)
            if error is None:
                _, room, members = protocol.read_change(value)
                self._show_room(room, members, report.room_deleted(room_object(room, members)))
            done(error)

        ask()
        self._own_changes.add(change)

    def news(self, method: str, params: dict[str, Any]) -> None:
        """A notification of the directory: keep the names for completion, tell the user."""
        if method not in ("room_made", "room_deleted"):
            return  # `closing` is told as the reason of the loss; others are of a later version
        _, room, _ = protocol.read_change(params)
        key = fold(room.name)
        if method == "room_made":
            if len(self.rooms) < LISTED_ROOMS_MAX:
                self.rooms[key] = room.name
        else:
            self.rooms.pop(key, None)
        if (method, key) not in self._own_changes and not self._json:
            words = report.room_made if method == "room_made" else report.room_deleted
            self._frontend.note(report.note(words(room_object(room, 0))))

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
            address, port = place
            mode = mode or DEFAULT_MODE
            self._open_room(place_of(address, port), address, port, mode, 0, done)
            return

        def entered(value: object, error: EvloopError | None) -> None:
            if error is not None:
                done(not_a_place or error)
                return
            room, members = protocol.read_room(value.get("room") if isinstance(value, dict) else None)
            try:
                address = check_address(room.address)  # from the network: judged before it is used
                port = check_port(room.port)
                self._open_room(display(room.name), address, port, room.mode, members, done)
            except EvloopError as failure:
                done(failure)

        self._ask("enter", {"name": asked_room_name(name)}, entered)

    def _name(self, arguments: list[str], options: Options, done: Done) -> None:
        if arguments:
            self.nickname = check_nickname(arguments[0])
        elif self._json:
            self._frontend.show(report.json_line("name", name=self.nickname))
        else:
            self._frontend.show(self.nickname)
        done(None)

    def _help(self, arguments: list[str], options: Options, done: Done) -> None:
        for line in help_lines("prompt", *arguments):
            self._frontend.show(line)
        done(None)

    def _quit(self, arguments: list[str], options: Options, done: Done) -> None:
        self._on_quit()
        done(None)


class Unconnected(EvloopError):
    """A command needs a directory, and there is none."""

    def __init__(self) -> None:
        super().__init__("not connected; connect [HOST[:PORT]] connects to a directory")


def advised(error: EvloopError | None) -> EvloopError | None:
    """`error`, with what to do next when it says that no directory answers."""
    if not isinstance(error, NobodyThere):
        return error
    return NobodyThere(f"{error}; is a directory there? {command_of('server')} starts one")


def _port(text: str) -> int:
    """The number in `text`; Refused `bad_port` when it is none."""
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise Refused(INVALID_PARAMS, "bad_port", f'port "{quoted(text)}" is no number')
    return int(text)


HANDLERS: dict[str, Callable[[Prompt, list[str], Options, Done], None]] = {
    "connect": Prompt._connect,
    "bye": Prompt._bye,
    "getdir": Prompt._getdir,
    "makeroom": Prompt._makeroom,
    "deleteroom": Prompt._deleteroom,
    "chat": Prompt._chat,
    "name": Prompt._name,
    "help": Prompt._help,
    "quit": Prompt._quit,
}
