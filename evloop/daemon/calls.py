"""The requests to etcd that are under way: sent, answered, given up.

    state      answered    a line            lost, or its time is over   dropped
    under way  -> over     goes to `lines`   -> over                     -> over
    over       nothing     nothing           nothing                     nothing

`to_send` and `dropped` are for the owner of the sockets, who takes them away.

What a large answer holds is handled in pieces, one in each call of `work`, so that nobody else
waits for all of it. A page is asked for when the pieces of the last but one are done, and comes
while those of the last one are.
"""

from __future__ import annotations

from collections import deque

from evloop.daemon import etcd
from evloop.daemon.etcd import EngineError
from evloop.daemon.limits import ENGINE_PAGE_ROOMS, ENGINE_PIECE_ROOMS, ENGINE_REQUEST_S
from evloop.system.timers import NEVER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    from evloop.daemon.changes import Change
    from evloop.daemon.etcd import Json, KeyValue

    Then = Callable[[int, Json, float], object]
    Lines = Callable[[bytes, float], object]
    Step = Callable[[float], object]  # it is told the time

    class Owner(Protocol):
        """Who is told that the endpoint is no good."""

        def trouble(self, error: EngineError, now: float, /) -> None: ...
        def not_authenticated(self, call: Call, now: float, /) -> None: ...


UNAUTHENTICATED = 401


class Call:
    """A request to etcd at the endpoint of that number; `lines`: the answer comes as lines."""

    __slots__ = (
        "body",
        "change",
        "deadline",
        "endpoint",
        "lines",
        "number",
        "path",
        "then",
        "token",
    )

    def __init__(
        self, number: int, endpoint: int, path: str, body: bytes | None, then: Then, deadline: float
    ) -> None:
        self.number = number
        self.endpoint = endpoint
        self.path = path
        self.body = body
        self.then = then
        self.deadline = deadline
        self.lines: Lines | None = None
        self.change: Change | None = None  # which of ours it would make
        self.token = ""  # what the password was exchanged for


class Calls:
    """The calls of one server; `endpoint` and `token` are those of the next one."""

    __slots__ = (
        "_numbers",
        "_owner",
        "_steps",
        "_under_way",
        "dropped",
        "endpoint",
        "to_send",
        "token",
    )

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._numbers = 0
        self._under_way: dict[int, Call] = {}
        self._steps: deque[Step] = deque()  # of what has come, and is not handled yet
        self.to_send: list[Call] = []
        self.dropped: list[int] = []
        self.endpoint = 0
        self.token = ""

    def post(
        self, path: str, body: bytes | None, then: Then, now: float, lines: Lines | None = None
    ) -> Call:
        """Ask etcd; `then(status, answer, now)` is called once unless the call is lost."""
        self._numbers = number = self._numbers + 1
        call = Call(number, self.endpoint, path, body, then, now + ENGINE_REQUEST_S)
        call.lines = lines
        call.token = self.token
        self._under_way[number] = call
        self.to_send.append(call)
        return call

    def read_all(
        self,
        keys: tuple[bytes, bytes],
        each: Callable[[list[KeyValue]], object],
        then: Callable[[int, float], object],
        now: float,
    ) -> None:
        """Read a range, all as it was at one revision: `each(piece)` is called for the keys in
        their order, a few at a time, and at the end `then(revision, now)`."""
        start, end = keys

        def ask(after: bytes, revision: int, now: float) -> None:
            body = etcd.page(after, end, ENGINE_PAGE_ROOMS, revision)
            self.post(etcd.RANGE, body, lambda s, a, t: paged(s, a, revision, t), now)

        def paged(status: int, answer: Json, revision: int, now: float) -> None:
            etcd.check(status, answer)
            revision = revision or etcd.revision_of(answer)
            found, more = etcd.read_list(answer)
            if more and found:
                after = etcd.key_value(found[-1]).key + b"\0"
                self._steps.append(lambda now: ask(after, revision, now))
            self.in_pieces(found, lambda piece: each([etcd.key_value(one) for one in piece]))
            if not (more and found):
                self._steps.append(lambda now: then(revision, now))

        ask(start, 0, now)

    def in_pieces(self, found: list[Any], each: Callable[[list[Any]], object]) -> None:
        """`each` is called, by `work`, with a few of `found` at a time."""
        for at in range(0, len(found), ENGINE_PIECE_ROOMS):
            piece = found[at : at + ENGINE_PIECE_ROOMS]
            self._steps.append(lambda now, piece=piece: each(piece))  # type: ignore[misc]

    def later(self, step: Step) -> None:
        """`step(now)` is called by `work`, after all that waits already."""
        self._steps.append(step)

    @property
    def working(self) -> bool:
        """Whether something has come that `work` is to handle."""
        return bool(self._steps)

    def work(self, now: float) -> None:
        """Handle the next piece."""
        if self._steps:
            step = self._steps.popleft()
            try:
                step(now)
            except EngineError as error:
                self._owner.trouble(error, now)

    def drop_all(self) -> None:
        """Give all of them up."""
        waiting = {call.number for call in self.to_send}
        self.to_send.clear()
        self.dropped += [number for number in self._under_way if number not in waiting]
        self._under_way.clear()
        self._steps.clear()

    def next_deadline(self) -> float:
        return min((call.deadline for call in self._under_way.values()), default=NEVER)

    # -- what happened -----------------------------------------------------------------------

    def answered(self, number: int, status: int, body: bytes, now: float) -> None:
        """The whole answer to a call; to one in lines only its end, or another status than 200."""
        call = self._under_way.pop(number, None)
        if call is None:
            return
        try:
            if status == UNAUTHENTICATED and call.token:
                self.token = ""
                self._owner.not_authenticated(call, now)
                return
            if call.lines is not None:
                raise EngineError(etcd.sentence_of(etcd.read_error(body)) or "a watch has ended")
            parsed = etcd.read_json(body) if status == etcd.OK else etcd.read_error(body)
            call.then(status, parsed, now)
        except EngineError as error:
            self._owner.trouble(error, now)

    def line(self, number: int, line: bytes, now: float) -> None:
        """A line of an answer that comes in lines."""
        call = self._under_way.get(number)
        if call is None or call.lines is None:
            return
        call.deadline = NEVER  # a watch is silent for as long as it likes
        try:
            call.lines(line, now)
        except EngineError as error:
            self._owner.trouble(error, now)

    def failed(self, number: int, why: str, now: float) -> None:
        """No answer will come to a call."""
        if self._under_way.pop(number, None) is not None:
            self._owner.trouble(EngineError(why), now)
