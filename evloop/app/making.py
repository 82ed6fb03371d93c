"""Making and deleting rooms: the two commands that change the directory.

What follows from being made is here too: the token of an owner, the key of a sealed room.
"""

from __future__ import annotations

from evloop.app.commands import UsageError
from evloop.app.limits import TOKEN_CHARS_MAX
from evloop.base.errors import (
    INVALID_PARAMS,
    NOT_ALLOWED,
    EvloopError,
    Refused,
    SetupError,
)
from evloop.base.names import (
    address_warning,
    asked_room_name,
    check_address,
    check_port,
    check_room_name,
    fold,
    place_of,
    quoted,
)
from evloop.directory import protocol
from evloop.directory.protocol import SEALED
from evloop.system.timers import nothing
from evloop.terminal import report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from evloop.app.prompt import Done, Options, Prompt
    from evloop.app.reach import Reach
    from evloop.directory.client import DirectoryClient
    from evloop.directory.protocol import RoomEntry
    from evloop.directory.trust import Trust


class Making:
    """The two commands of `prompt`, whose directory is `link`."""

    __slots__ = ("_link", "_prompt", "_reach", "_trust", "doubted")

    def __init__(
        self,
        prompt: Prompt,
        link: DirectoryClient,
        trust: Callable[[], Trust],
        reach: Reach,
    ) -> None:
        self.doubted = ""  # the folded room whose deletion waits to be confirmed
        self._prompt = prompt
        self._link = link
        self._trust = trust
        self._reach = reach

    def _show(self, room: RoomEntry, members: int, text: str, **more: object) -> None:
        prompt = self._prompt
        if prompt.as_json:
            line = report.json_line("room", **report.room_object(room, members), **more)
            prompt.frontend.show(line)
        else:
            prompt.frontend.show(text)

    # -- making ------------------------------------------------------------------------------

    def makeroom(self, arguments: list[str], options: Options, done: Done) -> None:
        """Make a room, with `done` at the end; raises EvloopError when it fails at once."""
        params: dict[str, Any] = {"name": check_room_name(arguments[0])}
        if len(arguments) == 2:
            raise UsageError("address and port go together; give both or neither")
        if len(arguments) == 3:
            params["address"] = check_address(arguments[1])
            params["port"] = check_port(_port(arguments[2]))
            warning = address_warning(params["address"])
            if warning is not None:
                self._prompt.frontend.note(f"evloop: {warning}")
        if "--mode" in options:
            params["mode"] = options["--mode"]
        if "--keep" in options:
            params["keep"] = True  # only then: an older directory knows no such word
        sealed = "--sealed" in options or "--passphrase" in options
        if sealed and params.setdefault("mode", SEALED) != SEALED:
            raise UsageError(f"makeroom: --mode {params['mode']} is not sealed")
        if params.get("mode") == SEALED:
            self._make_sealed(params, "--passphrase" in options, done)
        else:
            self._make(params, self._made_open(done), done)

    def _make(
        self, params: dict[str, Any], made: Callable[[RoomEntry, int], object], done: Done
    ) -> None:
        """Ask for the room; `made(room, members)` when it is there, else `done(error)`."""
        prompt = self._prompt
        change = ("room_made", fold(params["name"]))

        def answered(value: object, error: EvloopError | None) -> None:
            prompt.own_changes.discard(change)
            if error is not None:
                done(keeps_nothing(error) if "keep" in params else error)
                return
            _, room, members = protocol.read_change(value)
            self.keep_token(value)
            made(room, members)

        prompt.ask("makeroom", params, answered)
        prompt.own_changes.add(change)

    def _made_open(self, done: Done) -> Callable[[RoomEntry, int], object]:
        def made(room: RoomEntry, members: int) -> None:
            self._show(room, members, report.room_made(report.room_object(room, members)))
            if self._reach.keys_matter:
                self._reach.keys().made_open(room.name, place_of(room.address, room.port))
            done(None)

        return made

    def _make_sealed(self, params: dict[str, Any], passphrase: bool, done: Done) -> None:
        """The room first, then its key: a directory that does not know the mode refuses it."""
        self._prompt.check_link()  # before a passphrase is typed twice
        keys = self._reach.keys()

        def ready(key: bytes | str | None, place: tuple[str, int] | None) -> None:
            def made(room: RoomEntry, members: int) -> None:
                def has_key(code: str) -> None:
                    self._tell_key(room, members, code)
                    done(None)

                keys.made(room.name, place_of(room.address, room.port), key, has_key, done)

            if place is not None:
                params["address"], params["port"] = place
            try:
                self._make(params, made, done)
            except EvloopError as error:  # the directory has gone while a passphrase was typed
                done(error)

        keys.before_making(params["name"], passphrase, "address" in params, ready, done)

    def _tell_key(self, room: RoomEntry, members: int, code: str) -> None:
        """Show the room that was made, and what opens it; `code` "": a passphrase does."""
        from evloop.terminal import key_notes

        prompt = self._prompt
        text = report.room_made(report.room_object(room, members))
        if code:
            self._show(room, members, f"{text}\n{key_notes.invitation(code)}", key=code)
        else:
            self._show(room, members, text)
        prompt.frontend.note(key_notes.hand_on(room.name, code))

    def keep_token(self, value: object) -> None:
        """Keep the owner's token of a makeroom result, if it has one."""
        name = protocol.read_change(value)[1].name
        token = value.get("token") if isinstance(value, dict) else None
        from evloop.directory.key_file import is_hex  # late: it is needed for changes only

        if type(token) is not str or not 0 < len(token) <= TOKEN_CHARS_MAX or not is_hex(token):
            return
        try:
            self._trust().keep_token(self._link.endpoint, name, token)
        except SetupError as error:
            note = (
                f"evloop: {error.sentence}\nwhoever deletes room {name} needs this token: {token}"
            )
            self._prompt.frontend.note(note)

    # -- deleting ----------------------------------------------------------------------------

    def deleteroom(self, arguments: list[str], options: Options, done: Done) -> None:
        """Delete a room; a person is asked first where others are in it."""
        name = asked_room_name(arguments[0])
        terminal = self._prompt.frontend.is_terminal
        if "--yes" in options or not terminal or self.doubted == fold(name):
            self._delete(name, done)
            return

        def others(count: int) -> None:
            if not count:
                self._delete(name, done)
                return
            self.doubted = fold(name)
            there = "1 other is" if count == 1 else f"{count} others are"
            done(EvloopError(f"{there} in it; deleteroom {name} again, or with --yes, deletes it"))

        self._count_others(name, others, done)

    def _count_others(self, name: str, then: Callable[[int], object], done: Done) -> None:
        """`then` gets how many are in a room, or `done` why that is not known."""

        def entered(value: object, error: EvloopError | None) -> None:
            if error is not None:
                done(error)
                return
            room = value.get("room") if isinstance(value, dict) else None
            members = protocol.read_room(room)[1]
            self._link.request("leave", {"name": name}, nothing)
            then(max(0, members - 1))

        self._prompt.ask("enter", {"name": name}, entered)  # it counts us now, too

    def _delete(self, name: str, done: Done) -> None:
        prompt = self._prompt
        change = ("room_deleted", fold(name))

        try:
            tokens = self._trust().tokens(self._link.endpoint, name)
        except SetupError as error:  # anyone may delete, perhaps
            prompt.frontend.note(f"evloop: {error.sentence}")
            tokens = []

        def ask() -> None:
            token = {"token": tokens.pop(0)} if tokens else {}
            prompt.ask("deleteroom", {"name": name, **token}, deleted)

        def deleted(value: object, error: EvloopError | None) -> None:
            # That token was of an earlier room of this name, or of another directory.
            if tokens and isinstance(error, Refused) and error.code == NOT_ALLOWED:
                ask()
                return
            prompt.own_changes.discard(change)
            if error is None:
                _, room, members = protocol.read_change(value)
                self._show(room, members, report.room_deleted(report.room_object(room, members)))
            done(error)

        ask()
        prompt.own_changes.add(change)


def keeps_nothing(error: EvloopError) -> EvloopError:
    """`error` of a makeroom with `keep`: an older directory does not know that word."""
    if not isinstance(error, Refused) or error.reason != "unknown_member":
        return error
    return Refused(NOT_ALLOWED, "not_allowed", "this directory keeps nothing")


def _port(text: str) -> int:
    """The number in `text`; Refused `bad_port` when it is none."""
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise Refused(INVALID_PARAMS, "bad_port", f'port "{quoted(text)}" is no number')
    return int(text)
