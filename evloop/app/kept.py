"""What the directory keeps of the user's room: its silent member, and messages from before.

    told by `enter`       then
    a keeper              it is no company: neither announced nor counted among those who are here;
                          the user is told once that what is said is kept
    another keeper        the directory was started again: both are no company
    none                  where there was one, the user is told that nothing is kept any more

Whether the room is to be kept (`wanted`) is what the directory said last: who makes the room again
in another directory wants it kept there, too.

`fetch` asks for messages beyond what this client holds, page by page: the frames of a page come
before its answer. One fetch at a time, whichever room it is for; what comes unasked is dropped.
"""

from __future__ import annotations

from evloop.app.limits import KEEPERS_KNOWN_MAX, KEPT_MESSAGES_MAX
from evloop.base.errors import EvloopError
from evloop.directory.client import READY
from evloop.directory.limits import HISTORY_ROWS_MAX
from evloop.directory.relay_frames import HISTORY, parse_down, read_entered
from evloop.system.timers import nothing
from evloop.terminal import report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from evloop.directory.client import DirectoryClient

    Fetched = Callable[[list[bytes], EvloopError | None], object]


class Kept:
    """What is kept of the room `name`, as far as its directory has told. `tell(text)` says a
    remark."""

    __slots__ = (
        "_datagrams", "_handle", "_link", "_name", "_page", "_said", "_then", "_wanted", "keepers",
        "sentence", "tell", "wanted",
    )  # fmt: skip

    def __init__(self, link: DirectoryClient, name: str) -> None:
        self._link = link
        self._name = name
        self.tell: Callable[[str], object] = nothing
        self.keepers: dict[bytes, None] = {}  # sender ids, the newest last
        self.sentence = ""  # what the user is told; "": nothing is kept
        self.wanted = False
        self._said = ""  # what he was told last
        self._handle = 0
        self._datagrams: list[bytes] = []  # that were fetched, the newest page first
        self._page: list[bytes] = []  # of the answer that is awaited
        self._wanted = 0
        self._then: Fetched = nothing

    def is_keeper(self, sender: bytes) -> bool:
        """Whether that member is a keeper: no company."""
        return sender in self.keepers

    def only(self, senders: list[bytes]) -> bool:
        """Whether there is nobody but a keeper among `senders`, and there is one."""
        return bool(senders) and all(sender in self.keepers for sender in senders)

    def told(self, value: Any) -> None:
        """A result of `enter`; RemoteProtocolError."""
        entered = read_entered(value)
        self._handle = entered.handle
        room = value.get("room") if type(value) is dict else None
        self.wanted = type(room) is dict and room.get("keep") is True
        self.sentence = ""
        if entered.keeper is not None:
            self.keepers.pop(entered.keeper, None)
            self.keepers[entered.keeper] = None
            if len(self.keepers) > KEEPERS_KNOWN_MAX:
                del self.keepers[next(iter(self.keepers))]
            days = value.get("keep_days")
            known = type(days) in (int, float) and 0 <= days < 1e6
            self.sentence = report.kept(float(days) if known else 0.0)
        if self._said:
            self.say()

    def say(self) -> None:
        """Tell the user what is kept, when that is news."""
        if self.sentence != self._said:
            self.tell(self.sentence or report.note(report.KEPT_NO_MORE))
        self._said = self.sentence or (self._said and report.KEPT_NO_MORE)

    def fetch(self, count: int, then: Fetched) -> bool:
        """Ask for the newest `count` messages: then(datagrams, None), or what came before an error.
        False: nothing is kept, or nobody can be asked now."""
        busy = self._link.on_history is not nothing  # for this room, or for another one
        if not self.sentence or self._link.state != READY or busy:
            return False
        self._datagrams, self._page = [], []
        self._wanted, self._then = min(count, KEPT_MESSAGES_MAX), then
        self._link.on_history = self._came
        self._ask({})
        return True

    def _ask(self, more: dict[str, int]) -> None:
        limit = min(self._wanted - len(self._datagrams), HISTORY_ROWS_MAX)
        params = {"name": self._name, "limit": limit, **more}
        self._link.request("history", params, self._answered)

    def _came(self, payload: bytes) -> None:
        parsed = parse_down(payload)
        if parsed is None or parsed[0] != HISTORY or parsed[1] != self._handle:
            return
        room = HISTORY_ROWS_MAX - len(self._page)
        self._page += [datagram for _, datagram in parsed[2][:room]]

    def _answered(self, value: Any, error: EvloopError | None) -> None:
        page, self._page = self._page, []
        self._datagrams += page
        following = value.get("next") if error is None and type(value) is dict else None
        if type(following) is int and page and len(self._datagrams) < self._wanted:
            try:
                self._ask({"before": following})
                return
            except EvloopError as lost:
                error = lost
        then, self._then = self._then, nothing
        datagrams, self._datagrams = self._datagrams, []
        self._link.on_history = nothing
        then(datagrams, error)
