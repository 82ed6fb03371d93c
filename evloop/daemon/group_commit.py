"""The changes of one tick, the replies and news about them, and how to undo all of these.

Every change of the directory is made here, whoever asks for it (a request, a batch, the console,
expiry), so that one place undoes everything: the store, the directory in memory, the replies, the
news, and the lines that would have been logged.

A reply is provisional while the tick has changed something that is not yet committed:

    tick      change            other request       a change or the commit fails   commit
    clean     -> changed        sent as it is       StoreError                     nothing to do
    changed   changed           noted: it depends   all undone -> clean,           keep -> clean
                                                    StoreError

sqlite takes the whole transaction back when one statement fails, so the whole tick is taken back
with it: after that each reply noted since the first change says `storage_failed`, and the news of
the tick is dropped. ping and what was no request at all depend on nothing, but are noted with the
rest and kept as they are.

News (room_made, room_deleted) is encoded once and joined once for all watchers, at the end of the
tick. A watcher that is answered in the middle of a tick first gets the news so far, so that its
own changes come to it before the reply. What is logged about a change is logged when it is kept.
"""

from __future__ import annotations

from evloop.base.errors import STORAGE_FAILED, Refused, StoreError
from evloop.directory import protocol
from evloop.framing import pack_frame
from evloop.system.timers import nothing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from evloop.daemon.metrics import Metrics
    from evloop.daemon.store import MemoryStore, Store
    from evloop.directory.protocol import RoomEntry
    from evloop.directory.registry import Directory
    from evloop.net.stream import Stream
    from evloop.system.log import Log

    Replies = list[tuple[bytes | None, bytes]]

_NEWS: Replies = []  # stands in a note for: this was news, not a reply


class GroupCommit:
    """The changes, the replies and the news of each tick; and the watchers."""

    __slots__ = (
        "_added",
        "_before",
        "_directory",
        "_failed",
        "_failing",
        "_log",
        "_metrics",
        "_news",
        "_noted",
        "_removed",
        "_store",
        "_to_log",
        "_watchers",
        "on_deleted",
        "on_gone",
        "on_stored",
        "undone",
    )

    def __init__(
        self,
        directory: Directory,
        store: Store | MemoryStore,
        log: Log,
        metrics: Metrics,
        failed: Callable[[Stream, Exception], object],
    ) -> None:
        """`failed(stream, error)` is told of one that cannot be sent to, for a bug of ours."""
        self._failed = failed
        self.undone = 0  # how often something was taken back
        self.on_stored: Callable[[], object] = nothing  # something was put on the disk
        self.on_deleted: Callable[[RoomEntry], object] = nothing  # this deletion was
        self.on_gone: Callable[[RoomEntry], object] = nothing  # it is not in the directory any more
        self._added: list[RoomEntry] = []  # in this tick
        self._removed: list[RoomEntry] = []
        self._directory = directory
        self._store = store
        self._log = log
        self._metrics = metrics
        self._failing = False  # so that a full disk is logged once and not for each request
        self._noted: list[tuple[Stream, int, bytes | Replies | None]] = []
        self._news: list[bytes] = []  # of this tick, framed; none are kept when nobody watches
        self._to_log: list[tuple[str, dict[str, object]]] = []  # what is true once it is kept
        self._before = 0  # how much news there was in all earlier ticks
        self._watchers: dict[Stream, int] = {}  # and how much of all news each was given

    # -- changes -----------------------------------------------------------------------------

    def add(self, room: RoomEntry, what: str, /, **fields: object) -> bytes:
        """Add a room that `check_make` allowed; return the body of the change.

        `what` and `fields` are logged when it is on the disk. Raises StoreError when the store has
        refused it: then all changes of this tick are undone.
        """
        try:
            self._store.insert(room)
            body = self._directory.add(room)
        except Exception as error:
            self.undo(error)
            raise
        self._added.append(room)
        self._to_log.append((what, fields))
        self._announce(b"room_made", body)
        return body

    def remove(self, room: RoomEntry, what: str, /, **fields: object) -> bytes:
        """Remove a room of the directory; as `add`."""
        try:
            self._store.delete(room)
            body = self._directory.remove(room)
        except Exception as error:
            self.undo(error)
            raise
        self._removed.append(room)
        self._to_log.append((what, fields))
        self._announce(b"room_deleted", body)
        return body

    def note_seen(self, ran_s: float, seen: Mapping[RoomEntry, float]) -> None:
        """Store when rooms were last in use (expiry.py). Nobody is told when that fails, but a
        failure takes the changes of the tick with it."""
        try:
            self._store.note_seen(ran_s, seen)
            if not self._directory.provisional:
                self._store.commit(self._directory.version)
                self.on_stored()
        except StoreError as error:
            self.undo(error)
        except Exception as error:
            self.undo(error)
            raise

    def commit(self) -> None:
        """Put the changes of the tick on the disk and tell the watchers, or undo all of it: then
        StoreError."""
        if not self._directory.provisional:
            return
        try:
            self._store.commit(self._directory.version)
        except Exception as error:
            self.undo(error)
            raise
        self.on_stored()
        self._metrics.count("commits")
        self._directory.commit()
        if self._failing:
            self._failing = False
            self._log.notice("the store takes changes again")
        told = self._keep()
        if told:
            self._metrics.count("notifications", told)

    def undo(self, error: Exception) -> None:
        """Undo everything of this tick, because of `error`."""
        self._directory.rollback()
        self._take_back()
        try:
            self._store.rollback()
        except StoreError as more:  # its next transaction cannot begin, so nothing is mixed up
            error = more
        if isinstance(error, StoreError):
            self._metrics.count("commits_failed")
            if not self._failing:
                self._failing = True
                self._log.error("the store takes no changes", why=str(error))

    def _announce(self, method: bytes, body: bytes) -> None:
        if self._watchers:
            self._news.append(pack_frame(protocol.notification(method, body)))

    # -- replies and news --------------------------------------------------------------------

    @property
    def watchers(self) -> int:
        """How many watch."""
        return len(self._watchers)

    def watch(self, stream: Stream) -> None:
        """Tell `stream` what is news from now on. Watching again does no harm."""
        if stream not in self._watchers:
            self._watchers[stream] = self._before + len(self._news)

    def all_watchers(self) -> list[Stream]:
        return list(self._watchers)

    def unwatch(self, stream: Stream) -> None:
        """Tell `stream` the news so far, and no more. Unwatching again does no harm."""
        if stream in self._watchers:
            self._catch_up(stream)
            del self._watchers[stream]

    def forget(self, stream: Stream) -> None:
        """A stream has ended."""
        self._watchers.pop(stream, None)

    def answer(self, stream: Stream, reply: bytes, depends: bytes | Replies | None) -> None:
        """Queue `reply` of a tick with changes, and note how to take it back.

        `depends` is the id of the request, or the replies of a batch with their ids; None: the
        reply holds whatever becomes of the tick.
        """
        if stream in self._watchers:
            self._catch_up(stream)
        self._noted.append((stream, stream.send(pack_frame(reply)), depends))

    def _catch_up(self, stream: Stream) -> None:
        news = self._news[self._watchers[stream] - self._before :]
        if news:
            self._watchers[stream] += len(news)
            self._noted.append((stream, stream.send(b"".join(news)), _NEWS))

    def _keep(self) -> int:
        """The changes are on the disk: tell the watchers. Returns how many notifications."""
        self._noted.clear()
        self._added.clear()
        for room in self._removed:
            self.on_deleted(room)
        self._end(self._removed)
        for what, fields in self._to_log:
            self._log.notice(what, **fields)
        self._to_log.clear()
        news = self._news
        if not news:
            return 0
        joined = b"".join(news)
        before, total = self._before, self._before + len(news)
        for stream, seen in self._watchers.items():
            self._watchers[stream] = total
            try:
                if seen == before:
                    stream.send(joined)
                elif seen < total:
                    stream.send(b"".join(news[seen - before :]))
            except Exception as error:  # noqa: BLE001 - it costs this stream alone
                self._failed(stream, error)
        self._before = total
        self._news = []
        return len(news) * len(self._watchers)

    def _take_back(self) -> None:
        self.undone += 1
        for stream, place, depends in self._noted:
            try:
                if depends is _NEWS:
                    stream.replace(place, b"")
                elif isinstance(depends, bytes):
                    stream.replace(place, pack_frame(storage_failed(depends)))
                elif depends is not None:
                    stream.replace(place, pack_frame(batch(all_failed(depends))))
            except Exception as error:  # noqa: BLE001 - hung up: it hears nothing that is not true
                self._failed(stream, error)
            if stream in self._watchers:
                self._watchers[stream] = self._before
        self._noted.clear()
        self._news.clear()
        self._to_log.clear()
        self._removed.clear()
        self._end(self._added)

    def _end(self, rooms: list[RoomEntry]) -> None:
        """These are in the directory no more: deleted on the disk, or never made."""
        for room in rooms:
            self.on_gone(room)
        rooms.clear()


def storage_failed(request_id: bytes) -> bytes:
    """The reply to a request whose changes could not be stored."""
    sentence = "the directory could not be stored; nothing was changed, try again later"
    refused = Refused(STORAGE_FAILED, "storage_failed", sentence)
    return protocol.refusal(request_id, refused)


def all_failed(replies: Replies) -> Replies:
    """The replies of a batch, those that depend on what is stored turned into failures."""
    return [(one, reply if one is None else storage_failed(one)) for one, reply in replies]


def batch(replies: Replies) -> bytes:
    """The reply to a batch."""
    return protocol.batch(reply for _, reply in replies)
