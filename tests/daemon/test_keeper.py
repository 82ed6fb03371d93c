"""The keeper on a seat by hand and a real file: when it comes and goes, and what it promises."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from evloop.base.errors import SetupError
from evloop.daemon.history_store import open_history
from evloop.daemon.keeper import Keeper
from evloop.daemon.limits import (
    KEEPER_BACK_S,
    KEEPER_COMMIT_MESSAGES,
    KEEPER_COMMIT_S,
    KEEPER_ROOMS_MAX,
    KEEPER_STAYS_S,
)
from evloop.directory.protocol import RoomEntry
from evloop.room.reliable.packets import BYE, DATA, SESSION, Codec
from evloop.room.reliable.session import RoomSession
from evloop.system.log import INFO, Log
from tests.support.rooms import ANN, data, session
from tests.system.test_loop import Bench

WALL = 1_795_348_800.0
DAY = 86_400.0


class Seat:
    """What the keeper says, and whether it is still there."""

    def __init__(self, hall: Hall, receive: Callable[[Any], object]) -> None:
        self.hall = hall
        self.receive = receive
        self.open = True
        self.said: list[tuple[bytes, Any]] = []

    def send(self, datagram: bytes, to: Any) -> None:
        assert self.open
        if datagram[2] & 15 == SESSION:
            self.hall.judge()
        self.said.append((datagram, to))

    def close(self) -> None:
        assert self.open
        self.open = False

    def kinds(self) -> list[int]:
        return [datagram[2] & 15 for datagram, _ in self.said]


class Hall:
    """A keeper, its rooms and its clock."""

    def __init__(self, path: Path, days: float = 30.0) -> None:
        self.path = path
        self.bench = Bench()
        self.loop = self.bench.loop
        self.wall = WALL
        self.lines: list[str] = []
        self.rooms: list[RoomEntry] = []
        self.inside: list[RoomEntry] = []
        self.seats: dict[str, Seat] = {}
        self.uncommitted: Any = None  # what a promise is held against
        self.broken = ""
        self.rng = Random(16)
        self.days = days
        self.keeper = self.make()

    def make(self) -> Keeper:
        clock = self.bench.clock
        log = Log(self.lines.append, level=INFO, journal=True, wall=lambda: self.wall, clock=clock)
        return Keeper(
            self.loop, log,
            open_store=self.open_store, open_seat=self.open_seat,
            inside=lambda: self.inside,
            rooms=lambda: {(room.fold, room.made) for room in self.rooms},
            new_rng=lambda: Random(self.rng.random()), random_bytes=self.rng.randbytes,
            wall=lambda: self.wall, days=self.days,
        )  # fmt: skip

    def open_store(self) -> Any:
        if self.broken:
            raise SetupError(self.broken, 73)
        return open_history(str(self.path))

    def open_seat(self, room: RoomEntry, sender: bytes, receive: Callable[[Any], object]) -> Seat:
        assert len(sender) == 8
        seat = self.seats[room.name] = Seat(self, receive)
        return seat

    def judge(self) -> None:
        """A SESSION leaves: all that was accepted must be on the disk."""
        assert self.keeper.pending == 0

    def room(self, name: str = "lab", made: int = 17) -> RoomEntry:
        room = RoomEntry(name, "239.255.7.1", 5751 + len(self.rooms), made=made)
        self.rooms.append(room)
        return room

    def enter(self, room: RoomEntry) -> bytes | None:
        if room not in self.inside:
            self.inside.append(room)
        return self.keeper.enter(room)

    def leave(self, room: RoomEntry) -> None:
        self.inside.remove(room)
        self.keeper.left(room.fold)

    def pass_time(self, seconds: float) -> None:
        """All timers that are due until then run."""
        clock = self.bench.clock
        until = clock.time + seconds
        reached = False

        def reach() -> None:
            nonlocal reached
            reached = True

        self.loop.call_at(until, reach)
        while not reached:
            self.loop.tick()
            self.wall += 0  # the wall clock is the test's own

    def rows(self, room: RoomEntry) -> list[tuple[bytes, int]]:
        rows, _ = self.keeper.page(room, None, 500)
        return [(row.sender, row.seq) for row in rows]

    def restart(self) -> None:
        """As after kill -9: nothing is said, nothing is closed in order."""
        store, self.keeper.store = self.keeper.store, None
        self.keeper.close()
        if store is not None:
            store.close()
        self.inside.clear()
        self.keeper = self.make()


@pytest.fixture
def hall(tmp_path: Path) -> Iterator[Hall]:
    hall = Hall(tmp_path / "history.db")
    yield hall
    hall.keeper.close()


def said(seq: int, **how: Any) -> tuple[bytes, object]:
    return data(ANN, seq, **how), "ann"


def test_it_is_there_before_the_reply_and_solicits(hall: Hall) -> None:
    lab = hall.room()
    sender = hall.enter(lab)
    seat = hall.seats["lab"]
    assert sender is not None and hall.keeper.enter(lab) == sender
    assert seat.kinds() == [SESSION]
    assert seat.said[0][0][8:16] == sender
    packet = Codec("239.255.7.1:5751").open(seat.said[0][0])
    assert not isinstance(packet, str) and packet[5][8] == b"keeper"


def test_what_is_heard_is_committed_before_it_is_told(hall: Hall) -> None:
    lab = hall.room()
    hall.enter(lab)
    seat = hall.seats["lab"]
    for seq in range(5):
        seat.receive([said(seq)])
    assert hall.keeper.pending == 5 and hall.keeper.stored == 0
    before = len(seat.kinds())
    seat.receive([(session(ANN, 0, [(ANN, 0, 5)], ask=1), "ann")])
    hall.pass_time(KEEPER_COMMIT_S / 2)
    assert SESSION in seat.kinds()[before:]  # it confirms, and `Hall.judge` has looked
    other = open_rows(hall.path)
    assert other == 5
    assert DATA not in seat.kinds()


def open_rows(path: Path) -> int:
    """What another process sees in the file."""
    import sqlite3

    reader = sqlite3.connect(path)
    try:
        count: int = reader.execute("SELECT count(*) FROM messages").fetchone()[0]
        return count
    finally:
        reader.close()


def test_a_commit_waits_for_few_messages_and_not_long(hall: Hall) -> None:
    lab = hall.room()
    hall.enter(lab)
    hall.pass_time(1.0)
    seat = hall.seats["lab"]
    seat.receive([said(seq) for seq in range(KEEPER_COMMIT_MESSAGES)])
    assert open_rows(hall.path) == KEEPER_COMMIT_MESSAGES
    quiet = data(b"\x0c" * 8, 0, name="Cy")
    seat.receive([(quiet, "cy")])
    pending = hall.keeper.pending
    hall.pass_time(KEEPER_COMMIT_S + 0.01)
    assert pending <= 1
    assert open_rows(hall.path) == KEEPER_COMMIT_MESSAGES + 1


def test_it_stays_a_minute_and_says_goodbye(hall: Hall) -> None:
    lab = hall.room()
    hall.enter(lab)
    hall.leave(lab)
    seat = hall.seats["lab"]
    hall.pass_time(KEEPER_STAYS_S - 1.0)
    assert seat.open and BYE not in seat.kinds()
    hall.pass_time(1.5)
    assert not seat.open
    assert seat.kinds().count(BYE) == 3
    again = hall.enter(lab)
    assert hall.seats["lab"] is not seat
    assert again != seat.said[0][0][8:16]  # a new sender id


def test_who_comes_back_in_time_finds_it_there(hall: Hall) -> None:
    lab = hall.room()
    sender = hall.enter(lab)
    hall.leave(lab)
    hall.pass_time(KEEPER_STAYS_S - 1.0)
    assert hall.enter(lab) == sender
    hall.pass_time(KEEPER_STAYS_S * 2)
    assert hall.seats["lab"].open
    hall.leave(lab)
    hall.inside.append(lab)  # a deletion was undone: they are inside again
    hall.pass_time(KEEPER_STAYS_S * 2)
    assert hall.seats["lab"].open


def test_who_enters_while_it_says_goodbye_finds_it_anew(hall: Hall) -> None:
    lab = hall.room()
    first = hall.enter(lab)
    hall.leave(lab)
    hall.pass_time(KEEPER_STAYS_S + 0.01)
    seat = hall.seats["lab"]
    assert seat.open and BYE in seat.kinds()
    second = hall.enter(lab)
    assert second not in (None, first) and not seat.open
    hall.pass_time(5.0)
    assert hall.seats["lab"].open


def test_after_kill_minus_nine_a_newcomer_is_told_of_yesterday(hall: Hall) -> None:
    lab = hall.room()
    hall.enter(lab)
    hall.seats["lab"].receive([said(seq) for seq in range(30)])
    hall.pass_time(1.0)
    hall.restart()
    hall.wall += DAY
    hall.enter(lab)
    seat = hall.seats["lab"]
    bob = RoomSession(
        place="239.255.7.1:5751", sender_id=b"bobbobbo", nickname="Bob", rng=Random(1),
        now=hall.loop.now,
    )  # fmt: skip
    for _ in range(60):
        for datagram, _ in bob.datagrams_to_send():
            seat.receive([(datagram, "bob")])
        taken, seat.said = seat.said, []
        for datagram, to in taken:
            assert to in (None, "bob")
            bob.receive_datagram(datagram, "keeper", hall.loop.now)
        hall.pass_time(0.05)
    assert [one.text for one in bob.history(100)] == [f"line {seq}" for seq in range(30)]
    assert hall.rows(lab) == [(ANN, seq) for seq in range(30)]  # nothing is written twice


def test_a_file_that_fails_makes_it_leave_and_come_back(hall: Hall) -> None:
    lab = hall.room()
    first = hall.enter(lab)
    seat = hall.seats["lab"]
    seat.receive([said(0)])
    hall.pass_time(1.0)
    assert hall.keeper.store is not None
    hall.keeper.store.connection.execute("PRAGMA max_page_count = 1")
    hall.broken = "cannot keep history: the disk is full"
    told = len(seat.said)
    for seq in range(1, 200):
        if seat.open:
            seat.receive([said(seq, text="x" * 800), (session(ANN, seq, [], ask=1), "ann")])
    assert hall.keeper.store is None
    hall.pass_time(1.0)
    assert not seat.open and seat.kinds().count(BYE) == 3
    assert any("the keeper has left its rooms" in line for line in hall.lines)
    last = [Codec("239.255.7.1:5751").open(one) for one, _ in seat.said[told:]]
    highest = max([hi for packet in last for hi in claimed(packet)], default=0)
    assert highest <= open_rows(hall.path)  # it has promised nothing that is not there
    assert hall.keeper.enter(lab) is None
    hall.pass_time(KEEPER_BACK_S)
    assert sum("the disk is full" in line for line in hall.lines) >= 1
    hall.broken = ""
    hall.pass_time(KEEPER_BACK_S + 1.0)
    assert hall.seats["lab"] is not seat and hall.seats["lab"].open
    assert hall.keeper.enter(lab) not in (None, first)
    assert any("the keeper is back" in line for line in hall.lines)


def claimed(packet: Any) -> list[int]:
    """Next numbers of ANN in a SESSION."""
    from evloop.room.reliable.packets import ranges

    if isinstance(packet, str) or packet[0] != SESSION:
        return []
    return [hi for sender, _, hi in ranges(packet[5][9]) if sender == ANN]


def test_a_room_deleted_and_made_anew_begins_empty(hall: Hall) -> None:
    lab = hall.room()
    hall.enter(lab)
    seat = hall.seats["lab"]
    seat.receive([said(seq, text="a secret of the lab") for seq in range(250)])
    hall.pass_time(1.0)
    hall.rooms.remove(lab)
    hall.leave(lab)
    hall.keeper.forget(lab)
    assert not seat.open
    anew = RoomEntry("lab", "239.255.7.1", 5751, made=17)
    hall.rooms.append(anew)
    hall.enter(anew)
    assert hall.rows(anew) == []
    hall.pass_time(1.0)
    for beside in hall.path.parent.iterdir():
        assert b"a secret of the lab" not in beside.read_bytes(), beside


def test_what_is_deleted_while_the_file_cannot_be_used_is_deleted_later(hall: Hall) -> None:
    lab = hall.room()
    hall.enter(lab)
    hall.seats["lab"].receive([said(0, text="a secret of the lab")])
    hall.pass_time(1.0)
    assert hall.keeper.store is not None
    hall.keeper.store.close()  # unplugged
    hall.inside.clear()
    hall.keeper.forget(lab)
    hall.pass_time(KEEPER_BACK_S)
    anew = RoomEntry("lab", "239.255.7.1", 5751, made=17)  # in the same second
    hall.rooms[:] = [anew]
    hall.enter(anew)
    assert hall.rows(anew) == []
    hall.pass_time(1.0)
    assert b"a secret" not in b"".join(one.read_bytes() for one in hall.path.parent.iterdir())


def test_so_many_rooms_at_once(hall: Hall) -> None:
    rooms = [hall.room(f"room-{number}") for number in range(KEEPER_ROOMS_MAX + 1)]
    present = [hall.enter(room) is not None for room in rooms]
    assert present == [True] * KEEPER_ROOMS_MAX + [False]
    hall.leave(rooms[0])
    hall.pass_time(KEEPER_STAYS_S + 1.0)
    assert hall.enter(rooms[-1]) is not None


def test_pages_go_back_to_the_first_message(hall: Hall) -> None:
    lab = hall.room()
    hall.enter(lab)
    hall.seats["lab"].receive([said(seq) for seq in range(50)])
    found: list[int] = []
    before: int | None = None
    while True:
        rows, before = hall.keeper.page(lab, before, 7)
        found = [row.seq for row in rows] + found
        if before is None:
            break
    assert found == list(range(50))
    assert hall.keeper.page(lab, 1, 7) == ([], None)
    assert hall.keeper.page(lab, None, 50)[1] is None


def test_a_page_of_long_messages_is_cut(hall: Hall) -> None:
    lab = hall.room()
    hall.enter(lab)
    hall.seats["lab"].receive([said(seq, text="x" * 900) for seq in range(400)])
    rows, following = hall.keeper.page(lab, None, 500)
    assert 100 < len(rows) < 400 and following == rows[0].at
    more, end = hall.keeper.page(lab, following, 500)
    assert len(more) + len(rows) == 400 or end is not None


def test_leaps_of_the_wall_clock_lose_nothing(hall: Hall) -> None:
    """A year forward, a year back, and to 1970: ages are counted as the server runs."""
    lab = hall.room()
    hall.enter(lab)
    seat = hall.seats["lab"]
    for seq, leap in enumerate((0.0, 365 * DAY, -730 * DAY, 365 * DAY, -WALL, -1e12, 1e13)):
        hall.wall += leap
        seat.receive([said(seq)])
        hall.pass_time(2 * 3_600.0)
        hall.restart()
        hall.enter(lab)
        seat = hall.seats["lab"]
        assert hall.rows(lab) == [(ANN, one) for one in range(seq + 1)]
    assert len(hall.keeper.seated["lab"].session.message_log.history) == 7


def test_what_is_older_than_the_days_goes(tmp_path: Path) -> None:
    hall = Hall(tmp_path / "history.db", days=0.25)
    lab = hall.room()
    hall.enter(lab)
    hall.seats["lab"].receive([said(0)])
    hall.leave(lab)
    hall.pass_time(4 * 3_600.0)
    hall.enter(lab)
    hall.seats["lab"].receive([said(1)])
    hall.leave(lab)
    assert hall.rows(lab) == [(ANN, 0), (ANN, 1)]
    hall.pass_time(4 * 3_600.0)
    assert hall.rows(lab) == [(ANN, 1)]
    hall.pass_time(4 * 3_600.0)
    assert hall.rows(lab) == []
    hall.keeper.close()


def test_a_fault_of_its_session_ends_nothing(hall: Hall, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception costs the datagram, and is told to the owner of the loop."""
    told: list[Exception] = []
    hall.loop.on_error = lambda origin, error: told.append(error)
    lab = hall.room()
    hall.enter(lab)
    seat = hall.seats["lab"]

    def fail(*_: object) -> None:
        raise RuntimeError("a bug")

    with monkeypatch.context() as patch:
        patch.setattr(RoomSession, "receive_datagram", fail)
        seat.receive([said(0)])
    seat.receive([said(1)])
    with monkeypatch.context() as patch:
        patch.setattr(RoomSession, "handle_timer", fail)
        hall.loop.tick()
    hall.pass_time(5.0)
    assert told and hall.rows(lab)[-1] == (ANN, 1)
    assert seat.open


def test_the_end_of_the_server(hall: Hall) -> None:
    lab = hall.room()
    hall.enter(lab)
    seat = hall.seats["lab"]
    seat.receive([said(0)])
    hall.keeper.say_goodbye()
    assert open_rows(hall.path) == 1
    hall.pass_time(1.0)
    assert seat.kinds().count(BYE) == 3 and not seat.open
    hall.keeper.close()
