"""The command `irc`: listening sockets, who may come in, and the door's life.

    state      ready                  a signal                       all rooms left, or GOODBYE_S
    starting   -> open (it listens)   -> ended                       -
    open       -                      -> closing (ERROR, goodbyes)   -
    closing    -                      -> ended                       -> ended

The directory is needed to start; when it is lost later, the chats go on.
"""

from __future__ import annotations

import os
import socket
import stat
import time
from functools import partial

from evloop import __version__
from evloop.app.commands import UsageError
from evloop.app.prompt import advised
from evloop.base.addresses import endpoint_of, is_loopback, split_endpoint
from evloop.base.errors import FAILED, HUNG_UP, INTERRUPTED, TERMINATED, USAGE, SetupError
from evloop.base.names import display, quoted
from evloop.directory.protocol import read_change
from evloop.irc import peer
from evloop.irc.codec import LineDecoder
from evloop.irc.limits import GOODBYE_S, REGISTER_S
from evloop.irc.rooms import Rooms
from evloop.irc.state import ANOTHER_USER, Door
from evloop.net.acceptor import Acceptor, listen_on
from evloop.net.limits import LISTEN_BACKLOG
from evloop.net.stream import OPEN, Stream
from evloop.system.timers import Timeouts, nothing
from evloop.system.unexpected import told, trace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from evloop.app.shell import Client
    from evloop.base.errors import EvloopError, FrameError
    from evloop.irc.person import Client as IrcClient
    from evloop.net.hub import Hub
    from evloop.net.tls import ServerTls, TlsPipe

DEFAULT_PLACE = "127.0.0.1:6667"
IRC_PORT = 6667
PASSWORD = "EVLOOP_IRC_PASSWORD"


class IrcStream(Stream):
    """One IRC client's connection."""

    __slots__ = ("_door", "_ends", "client")

    decodes = LineDecoder

    def __init__(self, door: Door, hub: Hub, sock: socket.socket, pipe: TlsPipe | None) -> None:
        super().__init__(hub, sock, pipe)
        self._door = door
        self._ends = ""  # why it is closed once no line of it waits any more
        self.client: IrcClient | None = None

    def payloads(self, frames: list[bytes]) -> int:
        assert self.client is not None
        for taken, data in enumerate(frames, 1):
            self._door.line(self.client, data)
            if self.state != OPEN or self.full:
                return taken
        return len(frames)

    def close(self, why: str) -> None:
        """As ever; but what a client said before it shut its side is still done."""
        client = self.client
        if client is not None and client.busy and not client.closed:
            self._ends = why
        else:
            super().close(why)

    def idle(self) -> None:
        """No line of it waits any more."""
        if self._ends:
            super().close(self._ends)

    def broken(self, error: FrameError) -> None:
        self.close(str(error))

    def expired(self) -> None:
        """A person may type slowly; that it never registers is noticed elsewhere."""

    def ended(self, why: str) -> None:
        if self.client is not None:
            self._door.gone(self.client)


class IrcDoor:
    """The door of `client`, the program around it."""

    __slots__ = (
        "_acceptors",
        "_away",
        "_client",
        "_closing",
        "_path",
        "_place",
        "_tls",
        "_unregistered",
        "core",
        "rooms",
    )

    def __init__(self, client: Client, place: str, options: dict[str, str]) -> None:
        self._client = client
        self._place = place
        self._tls = _tls_of(options)
        password = os.environ.get("EVLOOP_IRC_PASSWORD", "")
        self._acceptors: list[Acceptor] = []
        self._path = ""  # of the unix socket, to be removed at the end
        self._away = False
        self._closing = False
        self.rooms = Rooms(client, "--no-make" not in options)
        self.core = Door(
            self.rooms,
            clock=lambda: client.loop.now,
            wall=client.wall,
            call_at=client.loop.call_at,
            hhmm=lambda ms: time.strftime("%H:%M", time.localtime(ms / 1_000)),
            version=__version__,
            password=password,
            shares="--no-share" not in options,
        )
        self._unregistered = Timeouts(client.loop, REGISTER_S, self._not_registered)

    # -- starting and ending ---------------------------------------------------------------------

    def start(self) -> None:
        """Listen, then connect to the directory; then say that it is ready."""
        client = self._client
        listeners = self._listeners()
        try:
            self._check_safe(listeners)
        except SetupError:
            for listener in listeners:
                listener.close()
            raise
        for signum, status in _signals().items():
            client.loop.on_signal(signum, partial(self.stop, status))
        client.loop.on_error = self._fault

        def connected(error: EvloopError | None) -> None:
            client.awaiting(False)
            if error is not None:
                for listener in listeners:
                    listener.close()
                self._remove_path()
                client.failed("irc", advised(error) or error)
                client.quit()
                return
            self._open(listeners)

        client.awaiting(True)
        client.prompt.connect(client.reach.server, connected)

    def _open(self, listeners: list[socket.socket]) -> None:
        client = self._client
        client.link.on_ready, client.link.on_lost = self._ready, self._lost
        client.link.on_news = self._news
        self._ready()
        for listener in listeners:
            self._acceptors.append(Acceptor(client.loop, listener, self._accepted))
        where = ", ".join(map(_place_of, listeners))
        client.frontend.note(f"evloop: IRC clients: {where}")
        self._load(_late())

    def _load(self, left: Iterator[None]) -> None:
        """What is left to be loaded, a step in each tick."""
        try:
            for _ in left:
                self._client.loop.defer(lambda: self._load(left))
                return
        except ImportError:  # whoever needs it is told
            return

    def stop(self, status: int) -> None:
        """A signal: ERROR to the clients, goodbye in the rooms, then the end."""
        if self._closing:
            self._client.loop.stop()
            return
        self._closing = self.rooms.ending = True
        client = self._client
        for acceptor in self._acceptors:
            acceptor.close()
        self._remove_path()
        self.core.close_all("Closing link: this door closes")
        client.hub.flush()
        client.loop.call_at(client.loop.now + GOODBYE_S, client.loop.stop)
        client.status = status
        self.rooms.on_empty = partial(client.signalled, status)
        self.rooms.end()

    def _fault(self, origin: object, error: Exception) -> None:
        """A bug in a handler costs the connection that met it, and no more."""
        self._client.frontend.note(f"evloop: {told(error)[0]}")
        if self._client.options.debug:
            self._client.frontend.note(trace(error))
        if isinstance(origin, Stream):
            origin.fail()

    # -- listening -------------------------------------------------------------------------------

    def _listeners(self) -> list[socket.socket]:
        if self._place.startswith("/"):
            self._path = self._place
            return [_listen_at(self._place)]
        host, port = split_endpoint(self._place, IRC_PORT)
        try:
            return listen_on(host, port, {})
        except SetupError as error:  # whatever it is, the door cannot listen
            raise SetupError(error.sentence, FAILED) from None

    def _check_safe(self, listeners: list[socket.socket]) -> None:
        """SetupError (status 2) when nobody could tell who comes in."""
        note = self._client.frontend.note
        if self._path:
            return
        beyond = [one for one in listeners if not is_loopback(one.getsockname()[0])]
        self.rooms.keys_are_safe = not beyond or self._tls is not None
        if not self.core.password:
            if beyond:
                what = f"{_place_of(beyond[0])} can be reached by others"
                raise SetupError(f"{what}: give {PASSWORD}, or a place on loopback", USAGE)
            if not peer.is_told():
                raise SetupError(
                    f"this system does not tell who connects: give /PATH or {PASSWORD}", USAGE
                )
        elif beyond and self._tls is None:
            note("evloop: irc: without TLS the password and what is said can be overheard")

    def _remove_path(self) -> None:
        path, self._path = self._path, ""
        if path:
            try:
                os.unlink(path)
            except OSError:  # somebody was faster
                return

    def _accepted(self, sock: socket.socket, address: Any) -> None:
        core, hub = self.core, self._client.hub
        known = core.password or peer.uid_of(sock) == os.getuid()
        if not known and self._tls is not None:
            sock.close()
            return
        pipe = self._tls.pipe() if self._tls is not None else None
        stream = IrcStream(core, hub, sock, pipe)
        if not known:
            stream.send(f"ERROR :{ANOTHER_USER}\r\n".encode())
            stream.close("another user's")
            return
        stream.client = core.connected(stream)
        if not stream.client.closed:
            self._unregistered.start(stream.client)

    def _not_registered(self, client: IrcClient) -> None:
        if client.person is None:
            self.core.close(client, f"Closing link: not registered within {REGISTER_S:.0f} s")

    # -- the directory ---------------------------------------------------------------------------

    def _ready(self) -> None:
        client = self._client
        client.reach.back()
        client.link.request("watch", {}, nothing)
        if self._away:
            self._away = False
            self._tell(f"the directory {client.link.endpoint} is back")
        self.rooms.directory_back()

    def _lost(self, why: str, delay: float) -> None:
        if not self._away and not self._closing:
            self._away = True
            shown = quoted(why)
            self._tell(f"the directory {self._client.link.endpoint} is away ({shown}); chats go on")
        self._client.reach.lost()

    def _tell(self, text: str) -> None:
        self._client.frontend.note(f"evloop: {display(text)}")
        self.core.notice_all(display(text))

    def _news(self, method: str, params: dict[str, Any]) -> None:
        if method == "room_deleted":
            self.core.room_deleted(read_change(params)[1].name)


def _late() -> Iterator[None]:
    """What rooms need later, when the files may be those of another release: a door runs for
    months."""
    from evloop.app.late import steps

    yield from steps()
    import evloop.irc.locks  # noqa: F401

    yield


def command(client: Client, word: str, arguments: list[str], options: dict[str, str]) -> None:
    """Open the door; SetupError or UsageError when it cannot be."""
    place = arguments[0] if arguments else DEFAULT_PLACE
    try:
        IrcDoor(client, place, options).start()
    except SetupError as error:
        raise SetupError(f"irc: {error.sentence}", error.exit_status) from None


def _signals() -> dict[int, int]:
    from signal import SIGHUP, SIGINT, SIGTERM

    return {SIGINT: INTERRUPTED, SIGTERM: TERMINATED, SIGHUP: HUNG_UP}


def _tls_of(options: dict[str, str]) -> ServerTls | None:
    cert, key = options.get("--tls-cert"), options.get("--tls-key")
    if cert is None:
        if key is not None:
            raise UsageError("irc: --tls-key needs --tls-cert, the certificate that it belongs to")
        return None
    from evloop.net.tls import ServerTls

    return ServerTls(cert, key, None)


def _place_of(listener: socket.socket) -> str:
    name = listener.getsockname()
    return name if isinstance(name, str) else endpoint_of(*name[:2])


def _listen_at(path: str) -> socket.socket:
    """Listen on a unix socket that only this user may use."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        _clear(path)
        sock.bind(path)
        sock.listen(LISTEN_BACKLOG)
    except OSError as error:
        sock.close()
        why = error.strerror or str(error)
        raise SetupError(f"cannot listen on {quoted(path, 200)}: {why}", FAILED) from None
    finally:
        os.umask(before)
    return sock


def _clear(path: str) -> None:
    """Remove a socket that nobody answers on; OSError when something else is there."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise FileExistsError(0, "something that is no socket is there")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as trial:
        try:
            trial.settimeout(1.0)
            trial.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
    raise FileExistsError(0, "another program answers there")
