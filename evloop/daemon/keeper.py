"""The keeper: a silent member of the rooms that the directory keeps, which writes it all down.

In each such room it is a `RecordingSession` called "keeper", on a seat that the relay gives it. It
hears and speaks as a member, answers who lacks something, and never says anything itself.

    in a room     somebody enters        the last one leaves        60 s without anybody
    absent        -> present, at once    -                          -
    present       stays                  stays; the time runs       -> leaving (BYE)
    leaving       -> present, anew       -                          (BYEs said) -> absent

What it accepts is committed to the file (`history_store`) before a SESSION of it leaves, which
would tell others that it is held; else after 64 messages or 0.2 s. So nobody is told "held" of
what `kill -9` would take. When the file fails, the keeper leaves all rooms and says why in the log,
for a member that cannot keep must not confirm; a minute later it tries again.

    file      needed                  a failure              60 s later
    closed    -> open, or -> failed   -                      -
    open      -                       -> failed              -
    failed    refused                 -                      -> closed; who is in a room needs it

Each time it enters with a new sender id, and begins with the newest of what the file holds.
"""

from __future__ import annotations

from collections import deque

from evloop.base.errors import EvloopError, StoreError
from evloop.base.names import place_of
from evloop.daemon.limits import (
    HISTORY_MARK_S,
    HISTORY_PAGE_BYTES,
    KEEPER_BACK_S,
    KEEPER_COMMIT_MESSAGES,
    KEEPER_COMMIT_S,
    KEEPER_DEAD_MAX,
    KEEPER_MESSAGES,
    KEEPER_ROOMS_MAX,
    KEEPER_SENDERS,
    KEEPER_STAYS_S,
)
from evloop.room.limits import FAULT_PAUSE_S
from evloop.room.reliable.packets import SESSION
from evloop.room.reliable.recording import RecordingSession
from evloop.system.timers import NEVER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from random import Random
    from typing import Any, Protocol

    from evloop.daemon.history_store import HistoryStore, Row
    from evloop.directory.protocol import RoomEntry
    from evloop.system.log import Log
    from evloop.system.loop import Loop

    Burst = list[tuple[bytes, Any]]

    class Seat(Protocol):
        """A place in a room that is relayed. `to` None: everybody, else where it came from."""

        def send(self, datagram: bytes, to: Any, /) -> object: ...
        def close(self) -> object: ...

    # (room, sender id of who sits there, what is told of the datagrams of one wake)
    OpenSeat = Callable[[RoomEntry, bytes, Callable[[Burst], object]], Seat]

NAME = "keeper"
DAY_S = 86_400.0
FOR_EVER = 1e12  # seconds
_BEYOND = 2**62  # above every `at`


class _Seated:
    """The keeper in one room; `number` is the room's in the file."""

    __slots__ = (
        "_keeper", "_leave", "_loop", "_timer", "_wall", "leaving", "number", "room", "seat",
        "session",
    )  # fmt: skip

    def __init__(
        self, keeper: Keeper, room: RoomEntry, number: int, session: RecordingSession
    ) -> None:
        self._keeper = keeper
        self._loop = loop = keeper.loop
        self._wall = keeper.wall
        self.room = room
        self.number = number
        self.session = session
        self.seat: Seat | None = None  # None: it has left
        self.leaving = False
        self._timer = loop.call_at(NEVER, self._on_timer)
        self._leave = loop.call_at(NEVER, self._leave_empty)

    def stays(self, until: float) -> None:
        """Leave at `until`; NEVER: as long as anybody is here."""
        self._leave.move(until)

    def receive(self, burst: Burst) -> None:
        """Datagrams of the room, with their sources."""
        if self.seat is None:
            return
        take, now = self.session.receive_datagram, self._loop.now
        for datagram, source in burst:
            self._loop.guard(self, take, datagram, source, now)
        self.pump()

    def _on_timer(self) -> None:
        if not self._loop.guard(self, self.session.handle_timer, self._loop.now):
            self._timer.move(self._loop.now + FAULT_PAUSE_S)
            return
        self.pump()

    def pump(self) -> None:
        """Write down what came, then send what is to be sent."""
        if self.seat is None:
            return
        session = self.session
        session.events()  # nobody looks
        self._keeper.note(self.number, session.take_fresh())
        out = session.datagrams_to_send()
        if any(datagram[2] & 15 == SESSION for datagram, _ in out) and not self._keeper.commit():
            return  # it was told to leave, and has said what it still may say
        self._send(out)
        deadline = session.next_deadline()
        self._timer.move(deadline)
        if self.leaving and deadline == NEVER:
            self.close()

    def _send(self, out: Burst) -> None:
        assert self.seat is not None
        send = self.seat.send
        for datagram, to in out:
            send(datagram, to)

    def _leave_empty(self) -> None:
        if not self._keeper.occupied(self.room):  # a deletion may have been undone
            self.leave()

    def leave(self) -> None:
        """Say goodbye, and be gone when that is said."""
        if not self.leaving and self.seat is not None:
            self.leaving = True
            self.session.leave(self._loop.now, int(self._wall()))
            out = self.session.datagrams_to_send()
            self._send([one for one in out if one[0][2] & 15 != SESSION])
            self._timer.move(self.session.next_deadline())

    def close(self) -> None:
        """Be gone now."""
        seat, self.seat = self.seat, None
        self._timer.cancel()
        self._leave.cancel()
        if seat is not None:
            seat.close()
        self._keeper.gone(self)


class Keeper:
    """The keeper of one directory.

    `open_store()` opens the file (SetupError); `open_seat` takes a place in a room; `inside()` are
    the rooms to be kept that somebody is in, `rooms()` the (fold, made) of all rooms; `days` is
    --keep-days, 0 for ever.
    """

    __slots__ = (
        "_back",
        "_commit_at",
        "_days",
        "_dead",
        "_inside",
        "_log",
        "_mark_at",
        "_new_rng",
        "_open_seat",
        "_open_store",
        "_opened_at",
        "_random_bytes",
        "_rooms",
        "_tidying",
        "failures",
        "loop",
        "pending",
        "seated",
        "store",
        "stored",
        "wall",
    )

    def __init__(
        self,
        loop: Loop,
        log: Log,
        *,
        open_store: Callable[[], HistoryStore],
        open_seat: OpenSeat,
        inside: Callable[[], Iterable[RoomEntry]],
        rooms: Callable[[], set[tuple[str, int]]],
        new_rng: Callable[[], Random],
        random_bytes: Callable[[int], bytes],
        wall: Callable[[], float],
        days: float,
    ) -> None:
        self.loop = loop
        self.wall = wall
        self.store: HistoryStore | None = None
        self.stored = self.failures = 0  # counted since the start
        self._log = log
        self._open_store = open_store
        self._open_seat = open_seat
        self._inside = inside
        self._rooms = rooms
        self._new_rng = new_rng
        self._random_bytes = random_bytes
        self._days = days
        self.seated: dict[str, _Seated] = {}  # by the fold of the room
        self.pending = 0  # messages that wait for the commit
        self._dead: deque[tuple[str, int]] = deque(maxlen=KEEPER_DEAD_MAX)
        self._opened_at = 0.0
        self._tidying = False
        self._commit_at = loop.call_at(NEVER, self.commit)
        self._mark_at = loop.call_at(NEVER, self._pass_time)
        self._back = loop.call_at(NEVER, self._come_back)

    # -- what the directory tells ----------------------------------------------------------------

    def enter(self, room: RoomEntry) -> bytes | None:
        """Somebody enters a room that is kept: be there first. Returns the keeper's sender id;
        None: it cannot be there."""
        seated = self.seated.get(room.fold)
        if seated is not None and (seated.leaving or seated.room is not room):
            seated.close()
            seated = None
        if seated is None:
            seated = self._sit_down(room)
        if seated is None:
            return None
        seated.stays(NEVER)
        return seated.session.sender_id

    def left(self, fold: str) -> None:
        """Nobody is in the room any more."""
        seated = self.seated.get(fold)
        if seated is not None and not seated.leaving:
            seated.stays(self.loop.now + KEEPER_STAYS_S)

    def forget(self, room: RoomEntry) -> None:
        """The room is deleted, and that is on the disk: so is its history, and nobody is there."""
        seated = self.seated.get(room.fold)
        if seated is not None and seated.room is room:
            seated.close()
        if self._try(lambda store: store.forget(room.fold, room.made)):
            self._tidy_later()
        else:  # the file may exist, or not; when it is opened, the room is dead in it
            self._dead.append((room.fold, room.made))

    def page(self, room: RoomEntry, before: int | None, limit: int) -> tuple[list[Row], int | None]:
        """The newest messages of a room with `at` < `before`, the oldest first, and what to ask
        `before` for what is older (None: there is nothing). StoreError."""
        if not self.need():
            raise StoreError("the history cannot be read just now")
        assert self.store is not None
        self.commit()
        store = self.store
        if store is None:
            raise StoreError("the history cannot be read just now")
        try:
            number = store.number(room.fold, room.made)
            rows = store.page(number, _BEYOND if before is None else before, limit + 1)
        except StoreError as error:
            self._failed(str(error))
            raise
        size = count = 0
        for row in rows[:limit]:
            size += len(row.datagram)
            if count and size > HISTORY_PAGE_BYTES:
                break
            count += 1
        more = len(rows) > count
        taken = rows[:count]
        return taken[::-1], taken[-1].at if more and taken else None

    @property
    def told_days(self) -> float:
        """--keep-days, as a whole number where it is one."""
        return int(self._days) if self._days == int(self._days) else self._days

    def readings(self) -> dict[str, float]:
        """Gauges and counters, see metrics.py."""
        count, size = (0, 0) if self.store is None else self.store.held()
        return {
            "keeper_rooms": len(self.seated),
            "keeper_messages": count,
            "keeper_bytes": size,
            "keeper_stored": self.stored,
            "keeper_failures": self.failures,
        }

    def occupied(self, room: RoomEntry) -> bool:
        """Whether somebody is in the room now."""
        return any(one is room for one in self._inside())

    def say_goodbye(self) -> None:
        """The server ends: leave all rooms."""
        self.commit()
        for seated in list(self.seated.values()):
            seated.leave()

    def close(self) -> None:
        """Let go of everything."""
        self.commit()
        for seated in list(self.seated.values()):
            seated.close()
        for timer in (self._commit_at, self._mark_at, self._back):
            timer.move(NEVER)
        if self.store is not None:
            self._try(lambda store: store.pass_time(self._ran(store)))
        self._drop_store()

    # -- in the rooms ------------------------------------------------------------------------------

    def _sit_down(self, room: RoomEntry) -> _Seated | None:
        if len(self.seated) >= KEEPER_ROOMS_MAX or not self.need():
            return None
        store = self.store
        assert store is not None
        loop = self.loop
        try:
            number = store.number(room.fold, room.made)
            rows = store.page(number, _BEYOND, KEEPER_MESSAGES)[::-1]
            ages = store.ages(rows, self._ran(store))
        except StoreError as error:
            self._failed(str(error))
            return None
        session = RecordingSession(
            place=place_of(room.address, room.port),
            sender_id=self._random_bytes(8),
            nickname=NAME,
            rng=self._new_rng(),
            now=loop.now,
            messages_max=KEEPER_MESSAGES,
            senders_max=KEEPER_SENDERS,
            age_s=self._days * DAY_S or FOR_EVER,
        )
        session.restore([(ages[row.at], row.datagram) for row in rows], loop.now)
        seated = _Seated(self, room, number, session)
        seated.seat = self._open_seat(room, session.sender_id, seated.receive)
        self.seated[room.fold] = seated
        seated.pump()
        return seated

    def gone(self, seated: _Seated) -> None:
        """It has left its room."""
        if self.seated.get(seated.room.fold) is seated:
            del self.seated[seated.room.fold]

    def note(self, number: int, fresh: Iterable[tuple[bytes, int, bytes]]) -> None:
        """These datagrams were accepted in a room: (sender, seq, datagram)."""
        store = self.store
        if store is None:
            return
        came = min(max(int(self.wall()), 0), 2**32 - 1)
        try:
            for sender, seq, datagram in fresh:
                self.pending += store.insert(number, came, sender, seq, datagram)
        except StoreError as error:
            self._failed(str(error))
            return
        if self.pending >= KEEPER_COMMIT_MESSAGES:
            self.commit()
        elif self.pending and self._commit_at.when == NEVER:
            self._commit_at.move(self.loop.now + KEEPER_COMMIT_S)

    # -- the file ----------------------------------------------------------------------------------

    def need(self) -> bool:
        """Have the file open; whether it is."""
        if self.store is not None:
            return True
        if self._back.when != NEVER:
            return False
        try:
            store = self._open_store()
        except EvloopError as error:
            self._failed(str(error))
            return False
        return self.begin(store)

    def begin(self, store: HistoryStore) -> bool:
        """Go on with this file, which was just opened; False: it has failed."""
        self.store = store
        self._opened_at = self.loop.now
        self._mark_at.move(self.loop.now + HISTORY_MARK_S)
        while self._dead and self.store is not None:
            self._try(lambda store: store.forget(*self._dead[0]))
            self._dead.popleft()
        self._try(lambda store: store.retain(self._rooms()))
        self._tidy_later()
        return self.store is store

    def commit(self) -> bool:
        """Put on the disk what was noted; False: the file has failed, and all seats are left."""
        self._commit_at.move(NEVER)
        pending, self.pending = self.pending, 0
        if not pending:
            return self.store is not None
        if not self._try(lambda store: store.commit()):
            return False
        self.stored += pending
        self._tidy_later()
        return True

    def _try(self, act: Callable[[HistoryStore], object]) -> bool:
        """Do something with the file, if it is open; False when it is not, or that failed."""
        if self.store is None:
            return False
        try:
            act(self.store)
        except StoreError as error:
            self._failed(str(error))
            return False
        return True

    def _failed(self, why: str) -> None:
        """The file cannot be used: leave all rooms, for what is told there would not be true."""
        self.failures += 1
        self._log.error("the keeper has left its rooms", why=why)
        self._drop_store()
        self.pending = 0
        self._commit_at.move(NEVER)
        self._mark_at.move(NEVER)
        self._back.move(self.loop.now + KEEPER_BACK_S)
        for seated in list(self.seated.values()):
            self.loop.guard(seated, seated.leave)

    def _drop_store(self) -> None:
        store, self.store = self.store, None
        if store is not None:
            try:
                store.close()
            except StoreError as error:
                self._log.warning("the history was not closed well", why=str(error))

    def _come_back(self) -> None:
        rooms = list(self._inside())
        if rooms and self.need():
            self._log.notice("the keeper is back", rooms=len(rooms))
        for room in rooms:
            self.enter(room)

    # -- housekeeping ----------------------------------------------------------------------------

    def _ran(self, store: HistoryStore) -> float:
        """Seconds that servers on this file have run, in all."""
        return store.ran + self.loop.now - self._opened_at

    def _pass_time(self) -> None:
        self._mark_at.move(self.loop.now + HISTORY_MARK_S)
        self._try(lambda store: store.pass_time(self._ran(store)))
        self._tidy_later()

    def _tidy_later(self) -> None:
        if not self._tidying and self.store is not None:
            self._tidying = True
            self.loop.defer(self._tidy)

    def _tidy(self) -> None:
        """A piece in each tick, until all is done."""
        self._tidying = False
        store = self.store
        if store is None:
            return
        oldest = self._ran(store) - self._days * DAY_S if self._days else None
        try:
            more = store.tidy(oldest)
        except StoreError as error:
            self._failed(str(error))
            return
        if more:
            self._tidy_later()
