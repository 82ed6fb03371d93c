"""What the directory keeps of what is said in its rooms, and the keeper's place in the directory.

    --keep    a room made with `keep`    another reliable room    a plain or a sealed room
    none      refused                    not kept                 refused; not kept
    marked    kept                       not kept                 refused; not kept
    all       kept                       kept                     refused; not kept

Where there is no file to keep anything in (`--memory` without `--keep-file`) it is as with `none`.
"""

from __future__ import annotations

import os
import random

from evloop.base.errors import NOT_ALLOWED, STORAGE_FAILED, Refused, StoreError
from evloop.base.names import quoted
from evloop.base.strictjson import encode
from evloop.daemon.late import load_late
from evloop.directory import requests
from evloop.directory.protocol import PLAIN, RELIABLE, result
from evloop.directory.relay_frames import history_frames

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Iterable
    from typing import Any

    from evloop.daemon.connection import Connection
    from evloop.daemon.dispatcher import Dispatcher
    from evloop.daemon.history_store import HistoryStore
    from evloop.daemon.keeper import Burst, Keeper
    from evloop.daemon.relay import Relay
    from evloop.daemon.relayed_room import RelayedRoom
    from evloop.directory.protocol import RoomEntry

NONE, MARKED, ALL = "none", "marked", "all"
_NO_READINGS = dict.fromkeys(
    ("keeper_rooms", "keeper_messages", "keeper_bytes", "keeper_stored", "keeper_failures"), 0.0
)


class FramesFirst(Exception):
    """A request is answered by frames, and behind them by a result with this body."""

    __slots__ = ("_body", "_frames")

    def __init__(self, frames: bytes, body: bytes) -> None:
        super().__init__()
        self._frames = frames
        self._body = body

    def reply(self, request_id: bytes | None, parts: list[bytes]) -> bytes | None:
        """Add the frames to `parts`, and return the reply; neither for a notification."""
        if request_id is None:
            return None
        parts.append(self._frames)
        return result(request_id, self._body)


class Keeping:
    """`policy`: --keep, one of POLICIES; `why_not`: a sentence that says why it is NONE. The keeper
    is made by `make` when it is needed first: most directories keep nothing."""

    __slots__ = ("keeper", "make", "policy", "why_not")

    def __init__(
        self, policy: str = NONE, why_not: str = "it was started with --keep none"
    ) -> None:
        self.policy = policy
        self.why_not = why_not
        self.make: Callable[[], Keeper | None] | None = None
        self.keeper: Keeper | None = None

    def need(self) -> Keeper | None:
        """The keeper; None where there is none."""
        if self.keeper is None and self.make is not None:
            self.keeper = self.make()
            if self.keeper is None:  # its files are others now, which was logged
                self.make = None
        return self.keeper

    def judge(self, room: RoomEntry) -> None:
        """Note whether `room` is kept."""
        wished = self.policy == ALL or (self.policy == MARKED and room.marked)
        room.keep = wished and room.mode == RELIABLE

    def mark(self, room: RoomEntry) -> None:
        """The maker of `room` wants it kept; Refused."""
        if room.mode == PLAIN:
            why = "a plain room cannot be kept: what is said there has no numbers"
        elif room.mode != RELIABLE:
            why = f"a {room.mode} room cannot be kept: the directory cannot read what is said there"
        elif self.policy == NONE:
            why = f"this directory keeps nothing: {self.why_not}"
        else:
            room.marked = True
            return
        raise Refused(NOT_ALLOWED, "not_allowed", why)

    def enter(self, room: RoomEntry) -> None:
        """Somebody enters `room`: the keeper is there before the reply."""
        keeper = self.need() if room.keep else None
        if keeper is not None:
            keeper.enter(room)

    def tell(self, body: bytes, keeper: bytes | None) -> bytes:
        """The result of `enter`, `body`, with how long a `keeper` keeps what it hears."""
        if keeper is None or self.keeper is None:
            return body
        return b'%b,"keep_days":%b}' % (body[:-1], encode(self.keeper.told_days))

    def emptied(self, fold: str) -> None:
        """Nobody is in the room any more."""
        if self.keeper is not None:
            self.keeper.left(fold)

    def readings(self) -> dict[str, float]:
        """What metrics.py names of the keeper."""
        return dict(_NO_READINGS) if self.keeper is None else self.keeper.readings()

    def say_goodbye(self) -> None:
        """The server ends: leave all rooms."""
        if self.keeper is not None:
            self.keeper.say_goodbye()

    def close(self) -> None:
        """Let go of the file."""
        self.make = None
        if self.keeper is not None:
            self.keeper.close()

    def deleted(self, room: RoomEntry) -> None:
        """The deletion of `room` is on the disk."""
        if self.keeper is not None:
            self.keeper.forget(room)


def history(dispatcher: Dispatcher, connection: Connection, parameters: dict[str, Any]) -> bytes:
    """A piece of what was said in a kept room, for who is in it; Refused. Raises FramesFirst."""
    name, before, limit = requests.read_history(parameters)
    room = dispatcher.directory.find(name)
    if not dispatcher.directory.is_inside(room, connection):
        sentence = f"the history of {quoted(room.name)} is for those who have entered the room"
        raise Refused(NOT_ALLOWED, "not_allowed", sentence)
    keeper = dispatcher.keeping.need()
    if not room.keep or keeper is None:
        sentence = f"what is said in {quoted(room.name)} is not kept"
        raise Refused(NOT_ALLOWED, "not_kept", sentence)
    try:
        rows, following = keeper.page(room, before, limit)
    except StoreError:
        sentence = "the history cannot be read now; try again later"
        raise Refused(STORAGE_FAILED, "storage_failed", sentence) from None
    records = [(row.came, row.datagram) for row in rows]
    body = b'{"count":%d,"next":%b}' % (
        len(rows),
        b"null" if following is None else b"%d" % following,
    )
    raise FramesFirst(b"".join(history_frames(room.handle, records)), body)


# -- put together ----------------------------------------------------------------------------------


def keeping_of(options: Namespace, rooms: Iterable[RoomEntry]) -> Keeping:
    """What the options of the server say, noted in its `rooms`."""
    keeping = Keeping(options.keep, "it was started with --keep none")
    if options.memory and options.keep_file is None:
        keeping = Keeping(NONE, "it was started with --memory, and without --keep-file")
    if options.cluster is not None:  # whichever server a member is with, it would keep a part
        keeping = Keeping(NONE, "it is one of several servers")
    for room in rooms:
        keeping.judge(room)
    return keeping


def history_path(options: Namespace, state: str) -> str | None:
    """Where the history is, beside the state file `state` unless another place is named; None: the
    options say that nothing is kept."""
    if options.keep == NONE:
        return None
    return options.keep_file or os.path.join(os.path.dirname(state), "history.db")


class _Chair:
    """The keeper's seat in a relayed room."""

    __slots__ = ("_receive", "_relay", "_room")

    def __init__(
        self, relay: Relay, entry: RoomEntry, sender: bytes, receive: Callable[[Burst], object]
    ) -> None:
        self._relay = relay
        self._receive = receive
        self._room: RelayedRoom | None = relay.sit(entry, self, sender)

    def take(self, burst: Burst) -> None:
        """Datagrams of the room came."""
        self._receive(burst)

    def gone(self) -> None:
        """The room was deleted."""
        self._room = None

    def send(self, datagram: bytes, to: Any) -> None:
        """Say this to the room, or to the source `to`."""
        if self._room is None:
            return
        if to is None:
            self._room.say(datagram)
        else:
            self._room.tell(to, datagram)

    def close(self) -> None:
        """Leave the room."""
        room, self._room = self._room, None
        if room is not None:
            self._relay.rise(room)


def prepare_keeper(
    dispatcher: Dispatcher, options: Namespace, state: str, wall: Callable[[], float]
) -> None:
    """Have a keeper where the options want one; SetupError when a file that they name is no good.

    A file of an earlier run is opened at once, for what is in it grows old. `state` is the path of
    the state file.
    """
    keeping = dispatcher.keeping
    if keeping.policy == NONE:
        return
    path = history_path(options, state)
    assert path is not None, "something is kept"

    def open_store() -> HistoryStore:
        from evloop.daemon.history_store import open_history  # loaded with the keeper, or before

        return open_history(path)

    def load() -> type[Keeper]:
        from evloop.daemon import history_store  # noqa: F401 - all that it will need, at one moment
        from evloop.daemon.keeper import Keeper  # late: with the engine of rooms it takes 10 ms

        return Keeper

    def make() -> Keeper | None:
        from evloop.daemon.entering import relay_of  # it is loaded already, and loads this module

        keeper = load_late(dispatcher.log, "keep", load)
        relay = relay_of(dispatcher)
        if keeper is None or relay is None:
            return None
        directory = dispatcher.directory
        return keeper(
            dispatcher.loop,
            dispatcher.log,
            open_store=open_store,
            open_seat=lambda entry, sender, receive: _Chair(relay, entry, sender, receive),
            inside=lambda: [room for room in directory.occupied() if room.keep],
            rooms=lambda: {(room.fold, room.made) for room in directory},
            new_rng=lambda: random.Random(os.urandom(16)),
            random_bytes=os.urandom,
            wall=wall,
            days=options.keep_days,
        )

    keeping.make = make
    if options.keep_file is not None:
        try:
            store = open_store()
        except BaseException:
            dispatcher.store.close()
            raise
        keeper = keeping.need()
        assert keeper is not None, "it was just made"
        keeper.begin(store)
    elif os.path.exists(path):
        keeper = keeping.need()
        assert keeper is not None, "it was just made"
        dispatcher.loop.defer(keeper.need)
