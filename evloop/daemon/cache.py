"""The last known directory of a cluster, in an ordinary state file.

A server shows it at its start when etcd does not answer, and it is the way back to one server
(`--state FILE` without `--cluster`).

It is the store of the dispatcher. Changes are noted as they come and written together, at most
once a second: a crash loses the last second of a copy.

    state     a change   CACHE_EVERY_S have passed   a piece is written   the disk refuses
    clean     -> noted   -                           -                    -
    noted     noted      -> writing                  -                    a warning: -> gone
    writing   noted      -                           the next one; after  a warning: -> gone
                                                     the last committed:
                                                     -> clean, or noted
    gone      nothing    -                           -                    -

All that is written together is one transaction, so the file is that of one version at any moment.
"""

from __future__ import annotations

import os
from collections import deque

from evloop.base.errors import SetupError, StoreError
from evloop.daemon.limits import CACHE_EVERY_S, CACHE_ROOMS_PER_TICK
from evloop.daemon.store import MemoryStore, Store, open_store
from evloop.system.timers import NEVER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from evloop.directory.protocol import RoomEntry
    from evloop.system.log import Log
    from evloop.system.loop import Loop


class Cache(MemoryStore):
    """The cache in `store`, None: there is none. `rooms_kept`: it knew a directory at the start."""

    __slots__ = (
        "_log",
        "_loop",
        "_noted",
        "_store",
        "_timer",
        "_version_now",
        "_writing",
        "_writing_version",
        "rooms_kept",
    )

    def __init__(self, loop: Loop, log: Log, store: Store | None) -> None:
        super().__init__(0, "")
        self._loop = loop
        self._log = log
        self._store = store
        self._noted: dict[str, list[RoomEntry | None]] = {}  # by name: [to delete, to insert]
        self._version_now = -1
        # What is being written: (whether it is to be inserted, else deleted; the room).
        self._writing: deque[tuple[bool, RoomEntry]] | None = None
        self._writing_version = -1
        self._timer = loop.call_at(NEVER, self._write)
        self.rooms_kept = False

    def load(self) -> tuple[int, list[RoomEntry]]:
        if self._store is None:
            return 0, []
        version, rooms = self._store.load()
        self.identity = self._store.identity
        self.rooms_kept = bool(version or rooms)
        return version, rooms

    def insert(self, room: RoomEntry) -> None:
        if self._store is not None:
            self._noted.setdefault(room.name, [None, None])[1] = room

    def delete(self, room: RoomEntry) -> None:
        if self._store is None:
            return
        noted = self._noted.setdefault(room.name, [None, None])
        if noted[1] is None:
            noted[0] = room
        else:  # it came since the last time, and is not in the file
            noted[1] = None

    def commit(self, version: int) -> None:
        if self._store is not None and version != self._version_now:
            self._version_now = version
            if self._timer.when == NEVER:
                self._timer.move(self._loop.now + CACHE_EVERY_S)

    def replaced(
        self, gone: Sequence[RoomEntry], come: Sequence[RoomEntry], version: int, identity: str
    ) -> None:
        """All was read anew; the directory is `identity`."""
        changed, self.identity = identity != self.identity, identity
        for room in gone:
            self.delete(room)
        for room in come:
            self.insert(room)
        if changed and self._store is not None:
            try:
                self._store.identify(identity)
            except StoreError as error:
                self._lose(error)
        self.commit(version)

    def close(self) -> None:
        """Write what was noted; a second call does nothing."""
        while self._store is not None and self._version_now >= 0:
            if not self._noted and self._timer.when == NEVER:
                break
            self._write()
        self._timer.cancel()
        if self._store is not None:
            self._store.close()
            self._store = None

    def _write(self) -> None:
        """The next piece of what was noted, or, when nothing is left of it, the commit."""
        store = self._store
        self._timer.move(NEVER)
        if store is None or self._version_now < 0:
            return
        if self._writing is None:
            self._writing, self._writing_version = self._to_write(), self._version_now
        writing = self._writing
        try:
            for _ in range(min(len(writing), CACHE_ROOMS_PER_TICK)):
                new, room = writing.popleft()
                if new:
                    store.insert(room)
                else:
                    store.delete(room)
            if writing:
                self._timer.move(self._loop.now)  # the next tick goes on
                return
            self._writing = None
            store.commit(self._writing_version)
        except StoreError as error:
            self._lose(error)
            return
        if self._version_now != self._writing_version:
            self._timer.move(self._loop.now + CACHE_EVERY_S)

    def _to_write(self) -> deque[tuple[bool, RoomEntry]]:
        """Take what was noted: all deletions, then all that is new."""
        noted, self._noted = self._noted, {}
        pairs = noted.values()
        gone = [(False, old) for old, _ in pairs if old is not None]
        return deque([*gone, *((True, new) for _, new in pairs if new is not None)])

    def _lose(self, error: StoreError) -> None:
        """A copy that is not whole is worse than none: it is not written any more."""
        self._log.warning("the copy of the directory is not kept any more", why=str(error))
        store, self._store = self._store, None
        self._writing = None
        if store is not None:
            store.close()


def open_cache(loop: Loop, log: Log, path: str | None, named: bool) -> Cache:
    """The cache at `path`, None: there is none. SetupError when one that the operator has named
    cannot be used; without the default one it goes on."""
    if path is None:
        return Cache(loop, log, None)
    try:
        return Cache(loop, log, open_store(os.path.realpath(path)))
    except SetupError as error:
        if named:
            raise
        log.warning("there is no copy of the directory on disk", why=error.sentence)
        return Cache(loop, log, None)
