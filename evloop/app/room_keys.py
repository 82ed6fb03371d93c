"""The keys of sealed rooms at the client: where one comes from, and what is remembered of it.

To enter a sealed room, the first of these that there is:

    --key-file FILE              not remembered
    $EVLOOP_KEY_FILE             not remembered
    the key that is remembered   by the room's place
    a question at the terminal   three tries; remembered when a member has proved to have it too

A room whose key is remembered is not entered when the directory says another mode or another place
than before: somebody may want to be talked to in the open. Whoever means it forgets the key.

    state      enter               a line               Ctrl-C, end     the child has the secret
    idle       file, ring -> idle  -                    -               -
               else -> asking
    asking     -                   code -> idle         -> idle, fails  -
                                   words -> deriving
                                   a slip: asks again
    deriving   -                   -                    -> idle, fails  -> idle
"""

from __future__ import annotations

import errno
import os
import select
import stat
import time

from evloop.app.commands import UsageError
from evloop.app.limits import KEY_FILE_BYTES_MAX, KEY_FILE_WAIT_S, KEY_TRIES_MAX
from evloop.base.errors import INTERRUPTED, REFUSED, EvloopError, SetupError
from evloop.base.names import fold, place_of, quoted, split_place
from evloop.directory import roomkeys
from evloop.directory.key_ring import NONE, KeyRing
from evloop.directory.protocol import SEALED
from evloop.directory.roomkeys import Derivation
from evloop.system.files import state_directory
from evloop.terminal import report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Mapping
    from random import Random

    from evloop.directory.client import DirectoryClient
    from evloop.directory.protocol import RoomEntry
    from evloop.system.loop import Loop
    from evloop.terminal.frontend import Frontend

    Go = Callable[["bytes | None"], object]  # the secret, None for a room that is not sealed
    Failed = Callable[[EvloopError], object]

# Places that are drawn for rooms with a passphrase: the place is the salt, and a place that
# follows from the name would give the same salt to `lab` everywhere.
PASSPHRASE_PORTS = range(25_000, 29_536)


class Interrupted(EvloopError):
    """The question was given up by Ctrl-C; there is nothing more to say."""

    exit_status = INTERRUPTED

    def __init__(self) -> None:
        super().__init__("")


class KeyMissing(SetupError):
    """A sealed room was asked for, there is no key of it, and nobody here can be asked."""

    def __init__(self, name: str) -> None:
        sentence = f"room {quoted(name)} is sealed: give its key by --key-file FILE, or type it"
        super().__init__(f"{sentence} once at a terminal", REFUSED)


class RoomKeys:
    """Keys for `link`'s rooms, asked for on `frontend`."""

    __slots__ = (
        "_deriving",
        "_environ",
        "_frontend",
        "_link",
        "_loop",
        "_options",
        "_rng",
        "_typed",
    )

    def __init__(
        self,
        loop: Loop,
        frontend: Frontend,
        link: DirectoryClient,
        options: Namespace,
        environ: Mapping[str, str],
        rng: Callable[[], Random],
    ) -> None:
        self._loop = loop
        self._frontend = frontend
        self._link = link
        self._options = options
        self._environ = environ
        self._rng = rng
        self._deriving: tuple[Derivation, Failed] | None = None
        # What was typed, by place, until it has proved to be right: the room's name, the secret.
        self._typed: dict[str, tuple[str, bytes]] = {}

    # -- entering a room ---------------------------------------------------------------------

    def enter(self, entry: RoomEntry, go: Go, failed: Failed, *, named: bool = False) -> None:
        """`go(secret)` when `entry` may be entered, else `failed(error)`; SetupError at once.
        `named`: the user has said that it is sealed."""
        place = place_of(entry.address, entry.port)
        ring, name, directory = self._ring(), self._name_of(entry), self.directory()
        here = ring.at(place) if ring is not None else None
        kept = ring.named(directory, name) if ring is not None and name != NONE else {}
        was = place if here is not None else next(reversed(list(kept)), "")
        if entry.mode != SEALED:
            if was:
                raise _downgraded(entry, was)
            if named or self._options.key_file is not None:
                sentence = f"room {quoted(entry.name)} is {entry.mode}, not sealed: not entered"
                raise SetupError(sentence, REFUSED)
            go(None)
            return
        given = self._given()
        if given is not None:
            if kept and place not in kept and ring is not None:
                self._resolve(given, place, self._moved(ring, name, place, go), failed)
            else:
                self._resolve(given, place, go, failed)
        elif here is not None:
            go(here)
        elif place in self._typed:
            go(self._typed[place][1])
        elif was:
            raise _downgraded(entry, was)
        elif self._frontend.is_terminal:
            self._ask(entry.name, place, self._keep_later(name, place, go), failed)
        else:
            raise KeyMissing(entry.name)

    def typed(self, entry: RoomEntry, secret: bytes) -> None:
        """The key of `entry` was given elsewhere than at a terminal: as if it was typed there."""
        place = place_of(entry.address, entry.port)
        self._typed[place] = self._name_of(entry), secret

    def proven(self, place: str) -> str:
        """Somebody at `place` has the key that was typed: remember it; "" or why that fails."""
        typed = self._typed.pop(place, None)
        ring = self._ring()
        if typed is None or ring is None:
            return ""
        try:
            ring.keep(self.directory(), typed[0], place, typed[1])
        except SetupError as error:
            return error.sentence
        return ""

    def sealed_at(self, place: str) -> bool:
        """Whether a key for that place is remembered; SetupError."""
        ring = self._ring()
        return ring is not None and ring.at(place) is not None

    def directory(self) -> str:
        """What a directory is called in the file."""
        return self._link.identity or self._link.endpoint.lower() or NONE

    def _name_of(self, entry: RoomEntry) -> str:
        return NONE if entry.name == place_of(entry.address, entry.port) else entry.name

    def _moved(self, ring: KeyRing, name: str, place: str, go: Go) -> Go:
        def keep(secret: bytes | None) -> None:
            assert secret is not None
            ring.keep(self.directory(), name, place, secret)
            go(secret)

        return keep

    def _keep_later(self, name: str, place: str, go: Go) -> Go:
        def typed(secret: bytes | None) -> None:
            assert secret is not None
            self._typed[place] = name, secret
            go(secret)

        return typed

    # -- a key in a file, and one that is typed ------------------------------------------------

    def _given(self) -> bytes | str | None:
        """The secret or the passphrase of the file that was named, None: none was; SetupError."""
        path = self._options.key_file or self._options.key_file_of_sealed
        return None if path is None else read_key_file(path)

    def _resolve(self, key: bytes | str, place: str, go: Go, failed: Failed) -> None:
        """From what was given to the secret; what `go` raises goes to `failed` too."""

        def resolved(secret: bytes) -> None:
            try:
                go(secret)
            except EvloopError as error:
                failed(error)

        def derived(secret: bytes, why: str) -> None:
            self._deriving = None
            if why:
                failed(SetupError(why, REFUSED))
            else:
                resolved(secret)

        if isinstance(key, bytes):
            resolved(key)
            return
        try:
            self._deriving = Derivation(self._loop, key, place, derived), failed
        except OSError as error:  # no descriptor, process or memory to be had
            failed(SetupError(f"cannot make the key: {error.strerror}", REFUSED))

    def _ask(self, name: str, place: str, go: Go, failed: Failed) -> None:
        self._question(
            f"key of {name} (not shown): ",
            roomkeys.read_key,
            lambda key: self._resolve(key, place, go, failed),
            failed,
            SetupError(f"room {quoted(name)} is sealed, and no key was given", REFUSED),
        )

    def _question(
        self,
        question: str,
        read: Callable[[str], bytes | str],
        then: Callable[[bytes | str], object],
        failed: Failed,
        nothing_given: SetupError,
    ) -> None:
        """Ask up to KEY_TRIES_MAX times, until `read` takes what was typed."""
        tries = 0

        def answered(kind: str, text: str) -> None:
            nonlocal tries
            tries += 1
            error = nothing_given
            if kind == "interrupt":
                failed(Interrupted())
                return
            if kind == "line":
                try:
                    key = read(text)
                    if key:
                        then(key)
                        return
                except SetupError as slip:
                    error = slip
            if kind == "eof" or tries >= KEY_TRIES_MAX:
                failed(error)
                return
            self._frontend.note(f"evloop: {error.sentence}", "error")
            self._frontend.ask(question, answered)

        self._frontend.ask(question, answered)

    def give_up(self) -> bool:
        """Ctrl-C: end the question or the derivation; whether there was one."""
        if self._frontend.asking:
            self._frontend.unask()
            return True
        if self._deriving is not None:
            derivation, failed = self._deriving
            self._deriving = None
            derivation.cancel()
            failed(Interrupted())
            return True
        return False

    # -- making a room -------------------------------------------------------------------------

    def before_making(
        self, name: str, passphrase: bool, placed: bool, go: Callable[..., object], failed: Failed
    ) -> None:
        """`go(key, place)`: what the room's key is to be made of, None for a new one; and where
        the room is to be, None for where the user or the directory says."""
        given = self._given()
        if passphrase:
            if not self._frontend.is_terminal:
                raise UsageError("makeroom: --passphrase asks at a terminal, and there is none")
            self._ask_twice(
                name, lambda key: go(key, None if placed else self._draw_place()), failed
            )
        elif isinstance(given, str):
            go(given, None if placed else self._draw_place())
        else:
            go(given, None)

    def _draw_place(self) -> tuple[str, int]:
        rng = self._rng()
        address = f"239.255.{rng.randrange(256)}.{rng.randrange(1, 255)}"
        return address, rng.choice(PASSPHRASE_PORTS)

    def _ask_twice(self, name: str, go: Callable[[str], object], failed: Failed) -> None:
        nothing_given = SetupError("no passphrase was given", REFUSED)

        def again(first: bytes | str) -> None:
            def same(text: str) -> str:
                if roomkeys.normal(text) != first:
                    raise SetupError("that is not the same passphrase", REFUSED)
                return str(first)

            question = f"the same passphrase of {name} again: "
            self._question(question, same, lambda key: go(str(key)), failed, nothing_given)

        question = f"passphrase of {name} (not shown): "
        self._question(question, roomkeys.check_passphrase, again, failed, nothing_given)

    def made(
        self,
        name: str,
        place: str,
        key: bytes | str | None,
        go: Callable[[str], object],
        failed: Failed,
    ) -> None:
        """The directory has made the sealed room: remember its key. `go(code)`: its code, "" of a
        passphrase."""

        def keep(secret: bytes | None) -> None:
            assert secret is not None
            ring = self._ring()
            try:
                if ring is None:
                    raise SetupError("there is no home directory to keep the key in", REFUSED)
                ring.keep(self.directory(), name, place, secret)
            except SetupError as error:
                self._frontend.note(f"evloop: the key is not remembered: {error.sentence}")
                self._typed[place] = name, secret
            go(code_of(secret))

        self._resolve(roomkeys.new_secret() if key is None else key, place, keep, failed)

    def made_open(self, name: str, place: str) -> None:
        """The user has made a room that is not sealed: a key of that name is forgotten."""
        for there, (typed, _) in list(self._typed.items()):  # nor is it kept once it is proven
            if fold(typed) == fold(name):
                del self._typed[there]
        try:
            ring = self._ring()
            if ring is not None and ring.forget(self.directory(), name, place):
                note = report.note(f"the key of an earlier room {quoted(name)} is forgotten")
                self._frontend.note(note)
        except SetupError as error:
            self._frontend.note(f"evloop: {error.sentence}")

    # -- the command `key` ---------------------------------------------------------------------

    def command(
        self,
        name: str,
        known: RoomEntry | None,
        options: Mapping[str, str],
        show: Callable[[str], object],
        done: Callable[[EvloopError | None], object],
    ) -> None:
        """`key NAME`, with --set, --new or --forget. `known`: the room, if the directory told of
        it; `show(code)` shows a code."""
        wanted = [word for word in ("--set", "--new", "--forget") if word in options]
        if len(wanted) > 1:
            raise UsageError(f"key: {' and '.join(wanted)} do not go together")
        ring = self._ring()
        if ring is None:
            raise SetupError("there is no home directory to keep keys in; set HOME", REFUSED)
        place, kept = self._find(ring, name, known)
        if "--forget" in options:
            forgotten = ring.forget(self._directory_of(name, known), name, place)
            forgotten += self._typed.pop(place, None) is not None
            if not forgotten:
                raise EvloopError(f"key: no key of {quoted(name)} is remembered")
            self._frontend.note(report.note(f"the key of {quoted(name)} is forgotten"))
            done(None)
            return
        if wanted and known is not None and known.mode != SEALED:
            raise EvloopError(f"key: room {quoted(name)} is {known.mode}, not sealed")
        if wanted and not place:
            raise EvloopError(
                f"key: the place of room {quoted(name)} is not known here; connect to its"
                " directory, or say ADDRESS:PORT"
            )

        def keep(secret: bytes | None) -> None:
            assert secret is not None
            ring.keep(self._directory_of(name, known), self._kept_name(name), place, secret)
            self._typed.pop(place, None)

        if "--new" in options:
            secret = roomkeys.new_secret()
            keep(secret)
            show(code_of(secret))
            self._frontend.note(report.note("from the next chat on; tell it to the others"))
            done(None)
        elif "--set" in options:

            def set_key(secret: bytes | None) -> None:
                keep(secret)
                self._frontend.note(report.note("from the next chat on"))
                done(None)

            if not self._frontend.is_terminal:
                raise UsageError("key: --set asks at a terminal, and there is none")
            self._ask(name, place, set_key, done)
        else:
            self.show(name, kept, show)
            done(None)

    def show(self, name: str, secret: bytes | None, show: Callable[[str], object]) -> None:
        """Show the code of the room `name`, or say what its key is; EvloopError."""
        if secret is None:
            raise EvloopError(f"key: no key of {quoted(name)} is remembered")
        code = code_of(secret)
        if code:
            show(code)
        else:
            text = f"the key of {quoted(name)} was made of a passphrase; tell that"
            self._frontend.note(report.note(text))

    def _find(self, ring: KeyRing, name: str, known: RoomEntry | None) -> tuple[str, bytes | None]:
        """(place, secret) that `name` means; ("", None): nothing is known of it."""
        try:
            spoken = split_place(name)
        except EvloopError:
            spoken = None
        where = spoken or ((known.address, known.port) if known is not None else None)
        if where is not None:
            place = place_of(*where)
            typed = self._typed.get(place)
            found = typed[1] if typed is not None else ring.at(place)
            if found is not None or spoken is not None or self._link.endpoint:
                return place, found
        named = ring.named(self.directory(), name) or ring.anywhere(name)
        for place in reversed(named):
            return place, named[place]
        return "", None

    def _kept_name(self, name: str) -> str:
        try:
            return NONE if split_place(name) is not None else name
        except EvloopError:
            return name

    def _directory_of(self, name: str, known: RoomEntry | None) -> str:
        return self.directory() if self._kept_name(name) != NONE else NONE

    def _ring(self) -> KeyRing | None:
        home = state_directory(self._environ)
        return KeyRing(home) if home is not None else None


def code_of(secret: bytes) -> str:
    """The code of a secret that was generated; "" of one that a passphrase became."""
    return roomkeys.code_of(secret) if len(secret) == roomkeys.SECRET_BYTES else ""


def read_key_file(path: str) -> bytes | str:
    """The secret or the passphrase in the first line of a file; SetupError 77.

    A regular file that others may read is refused. A pipe is read without a look at its mode; it is
    waited for, but not for ever: Ctrl-C is not heard meanwhile.
    """
    shown = quoted(path, 4_096)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        try:
            status = os.fstat(fd)
            if stat.S_ISREG(status.st_mode) and status.st_mode & 0o077:
                sentence = f"{shown} can be read by others: chmod 600 {shown}"
                raise SetupError(sentence, REFUSED)
            line = _first_line(fd)
        finally:
            os.close(fd)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", "") or str(error)
        raise SetupError(f"{shown}: {why}", REFUSED) from None
    if len(line) > KEY_FILE_BYTES_MAX:
        raise SetupError(f"{shown}: its first line has over {KEY_FILE_BYTES_MAX} bytes", REFUSED)
    try:
        key = roomkeys.read_key(line.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise SetupError(f"{shown}: it is not UTF-8", REFUSED) from None
    except SetupError as error:
        raise SetupError(f"{shown}: {error.sentence}", REFUSED) from None
    if not key:
        raise SetupError(f"{shown}: there is no key in its first line", REFUSED)
    return key


def _first_line(fd: int) -> bytes:
    """The first line, at most KEY_FILE_BYTES_MAX + 1 bytes of it; OSError."""
    line = b""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    end = time.monotonic() + KEY_FILE_WAIT_S
    waited = not stat.S_ISFIFO(os.fstat(fd).st_mode)
    while b"\n" not in line and len(line) <= KEY_FILE_BYTES_MAX:
        try:
            piece = os.read(fd, KEY_FILE_BYTES_MAX + 1 - len(line))
        except BlockingIOError:
            piece = None
        if piece:
            line += piece
        elif piece is not None and (line or waited):  # else nobody writes to the pipe yet
            break
        elif not poll.poll(max(0.0, end - time.monotonic()) * 1_000):
            raise OSError(errno.ETIMEDOUT, f"no key came in {KEY_FILE_WAIT_S:.0f} s")
        else:
            waited = True
    return line.partition(b"\n")[0]


def _downgraded(entry: RoomEntry, was: str) -> SetupError:
    """The directory says another mode or place than what is remembered."""
    name, now = quoted(entry.name), place_of(entry.address, entry.port)
    return SetupError(
        f"room {name} was sealed at {was} and is now {entry.mode} at {now}: not entered. If that is"
        f" meant: key {name} --forget",
        REFUSED,
    )
