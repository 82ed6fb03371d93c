"""What a tick has said that is not yet on the disk, and how to take it back.

A reply is provisional while the tick has changed something that is not yet committed:

    tick      request changes   other request       storage fails             end of tick
    clean     -> changed        sent as it is       -                         nothing to do
    changed   changed           noted: it depends   take_back -> clean        keep -> clean

After `take_back` each reply noted since the first change says `storage_failed`, and the news of
the tick is dropped. ping and what was no request at all depend on nothing, but are noted with the
rest and kept as they are.

News (room_made, room_deleted) is encoded once and joined once for all watchers, at the end of the
tick. A watcher that is answered in the middle of a tick first gets the news so far, so that its
own changes come to it before the reply.
"""

from __future__ import annotations

from evloop.base.errors import STORAGE_FAILED, Refused
from evloop.directory import protocol
from evloop.framing import pack_frame

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from evloop.net.stream import Stream

    Replies = list[tuple[bytes | None, bytes]]

_NEWS: Replies = []  # stands in a note for: this was news, not a reply


class GroupCommit:
    """The replies and the news of one tick, over and over; and who watches."""

    __slots__ = ("_before", "_failed", "_news", "_noted", "_watchers", "undone")

    def __init__(self, failed: Callable[[Stream, Exception], object]) -> None:
        """`failed(stream, error)` is told of one that cannot be sent to, for a bug of ours."""
        self._failed = failed
        self.undone = 0  # how often something was taken back
        self._noted: list[tuple[Stream, int, bytes | Replies | None]] = []
        self._news: list[bytes] = []  # of this tick, framed; none are kept when nobody watches
        self._before = 0  # how much news there was in all earlier ticks
        self._watchers: dict[Stream, int] = {}  # and how much of all news each was given

    @property
    def watchers(self) -> int:
        """How many watch."""
        return len(self._watchers)

    def watch(self, stream: Stream) -> None:
        """Tell `stream` what is news from now on. Watching again does no harm."""
        if stream not in self._watchers:
            self._watchers[stream] = self._before + len(self._news)

    def unwatch(self, stream: Stream) -> None:
        """Tell `stream` the news so far, and no more. Unwatching again does no harm."""
        if stream in self._watchers:
            self._catch_up(stream)
            del self._watchers[stream]

    def forget(self, stream: Stream) -> None:
        """A stream has ended."""
        self._watchers.pop(stream, None)

    def announce(self, method: bytes, body: bytes) -> None:
        """Note a change for the watchers."""
        if self._watchers:
            self._news.append(pack_frame(protocol.notification(method, body)))

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

    def keep(self) -> int:
        """The changes are on the disk: tell the watchers. Returns how many notifications."""
        self._noted.clear()
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

    def take_back(self) -> None:
        """Nothing of this tick is true."""
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
