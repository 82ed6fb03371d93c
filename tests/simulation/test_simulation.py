"""The simulator itself: it repeats itself to the letter, its network is fair, its oracle bites."""

from __future__ import annotations

import os
import subprocess
import sys
from math import isclose
from pathlib import Path
from random import Random
from xml.etree import ElementTree

import pytest

from evloop.room.events import Conflict, Joined, Left, Lost, Said, Trouble
from evloop.room.reliable.limits import LOSS_UNKNOWN
from evloop.room.reliable.session import RoomSession
from tests.simulation import figures, forgery, plot, swarm
from tests.simulation.__main__ import arguments
from tests.simulation.oracle import BYTES_RATE, DATA, NACK, Oracle, Violation
from tests.simulation.room import Run, Setting, measure, minimum
from tests.simulation.world import PLACE, UNICAST, Member, World

ROOT = Path(__file__).parents[2]
STRANGER = -1
JUNK = b"\xf5\x45junk"
ANN, BEN = b"ann-ann-", b"ben-ben-"


def _trace(hash_seed: str, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    command = [sys.executable, "-m", "tests.simulation", *arguments]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("--members", "8", "--messages", "20", "--warmup", "5", "--seed", "3"),
        ("--swarm", "1", "--seed", "9", "--trace"),
    ],
)
def test_a_seed_is_a_run_under_any_hash_seed(arguments: tuple[str, ...]) -> None:
    lines = {_trace(hash_seed, *arguments) for hash_seed in ("0", "1", "4294967295")}
    assert len(lines) == 1
    assert "trace=" in lines.pop()


def test_other_seeds_are_other_runs() -> None:
    assert len({swarm.run(seed).trace for seed in (1, 2, 3)}) == 3


def test_the_line_has_the_promised_keys() -> None:
    line = _trace("0", "--members", "5", "--messages", "5", "--warmup", "5")
    keys = [pair.partition("=")[0] for pair in line.split()]
    assert keys[:4] == ["undelivered", "p50_ms", "p99_ms", "max_ms"]
    assert {"data", "repair", "nack", "session", "bytes", "minimum"} <= set(keys)
    assert line.count("\n") == 1


# -- the clock and the network ---------------------------------------------------------------------


def _room(count: int, seed: int = 1) -> World:
    world = World(seed)
    for number in range(count):
        world.join(f"m{number}")
    world.delivered = 0
    return world


class _Arrivals:
    """Counts JUNK that sessions receive, with the time each arrived."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.times: list[float] = []
        self.receivers: dict[int, int] = {}
        receive = RoomSession.receive_datagram

        def counted(
            session: RoomSession, data: bytes, source: object, now: float, *more: bool
        ) -> None:
            if data == JUNK:
                self.times.append(now)
                self.receivers[id(session)] = self.receivers.get(id(session), 0) + 1
            receive(session, data, source, now, *more)

        monkeypatch.setattr(RoomSession, "receive_datagram", counted)


def test_loss_is_independent_and_as_given(monkeypatch: pytest.MonkeyPatch) -> None:
    arrivals = _Arrivals(monkeypatch)
    world = _room(20)
    for member in world.members:
        member.loss = 0.3
    world.changed()
    for _ in range(500):
        world.multicast(JUNK, STRANGER)
    world.run(0.01)
    # 10,000 trials: the standard deviation is 46; each member 500 trials: 10.
    assert abs(len(arrivals.times) - 7_000) < 200
    assert all(abs(count - 350) < 50 for count in arrivals.receivers.values())


def test_delays_fill_their_range_in_order_of_time(monkeypatch: pytest.MonkeyPatch) -> None:
    arrivals = _Arrivals(monkeypatch)
    world = _room(10)
    world.delay = (0.001, 0.003)
    for _ in range(100):
        world.multicast(JUNK, STRANGER)
    world.run(0.01)
    assert arrivals.times == sorted(arrivals.times)
    assert len(arrivals.times) == 1_000
    assert 0.001 <= arrivals.times[0] < 0.0011 < 0.0029 < arrivals.times[-1] <= 0.003
    assert isclose(sum(arrivals.times) / 1_000, 0.002, rel_tol=0.05)


def test_partitions_cut_one_way_or_both(monkeypatch: pytest.MonkeyPatch) -> None:
    arrivals = _Arrivals(monkeypatch)
    world = _room(4)
    for member in world.members[:2]:
        member.side = 1
    world.blocked = {(0, 1)}
    world.changed()
    world.multicast(JUNK, STRANGER, side=0)
    world.run(0.01)
    assert len(arrivals.times) == 2
    world.multicast(JUNK, STRANGER, side=1)
    world.run(0.02)
    assert len(arrivals.times) == 6


def test_duplication_and_deafness(monkeypatch: pytest.MonkeyPatch) -> None:
    arrivals = _Arrivals(monkeypatch)
    world = _room(3)
    world.duplication = 1.0
    world.multicast(JUNK, STRANGER)
    world.run(0.01)
    assert len(arrivals.times) == 6
    world.members[0].deaf = True
    world.changed()
    world.multicast(JUNK, STRANGER)
    world.run(0.02)
    assert len(arrivals.times) == 10


def test_a_full_receive_buffer_drops_the_newest(monkeypatch: pytest.MonkeyPatch) -> None:
    arrivals = _Arrivals(monkeypatch)
    world = _room(2)
    world.run(1.05)  # between two SESSIONs
    world.pause(world.members[0], buffer_most=3)
    for _ in range(5):
        world.multicast(JUNK, STRANGER)
    world.run(1.06)
    assert (len(arrivals.times), world.overflowed) == (5, 2)
    world.resume(world.members[0])
    assert len(arrivals.times) == 8


def test_a_timer_that_never_rests_is_a_violation(monkeypatch: pytest.MonkeyPatch) -> None:
    world = _room(1)
    monkeypatch.setattr(RoomSession, "next_deadline", lambda session: 0.0)
    world.jump(world.members[0], 0.0)
    with pytest.raises(Violation, match="storm"):
        world.run(1.0)


def test_a_clock_that_leaps_wakes_its_member() -> None:
    world = _room(2)
    world.run(30.0)
    member = world.members[0]
    world.jump(member, 100.0)
    world.run(30.0)
    assert member.session.next_deadline() > 130.0


# -- theory ----------------------------------------------------------------------------------------


def test_the_minimum_is_the_mean_of_the_slowest_receiver() -> None:
    assert minimum(1, 0.5) == pytest.approx(2.0)
    assert minimum(7, 0.0) == 1.0
    assert minimum(2, 0.5) == pytest.approx(8 / 3)  # 2 + 2 - 4/3
    rng = Random(1)

    def slowest() -> int:
        needed = 1
        for _ in range(49):
            tries = 1
            while rng.random() < 0.3:
                tries += 1
            needed = max(needed, tries)
        return needed

    tried = sum(slowest() for _ in range(4_000)) / 4_000
    assert minimum(49, 0.3) == pytest.approx(tried, rel=0.02)


def test_forgery_follows_the_document() -> None:
    mel, other = bytes(range(1, 9)), bytes(range(0x11, 0x19))
    said = forgery.data(PLACE, mel, 0, "Good morning!", name="Mel", wall=1_795_348_801)
    assert said.hex() == (
        "f5451100000000170102030405060708000000006b02d9410000000100034d656c00"
        "476f6f64206d6f726e696e67214e9330e5cba6b114f83c6ca2ab7ccf32"
    )
    assert (
        forgery.nack(PLACE, mel, 0, [(other, 3, 5)])
        .hex()
        .endswith("c99784ba02c8e3eeca2dcbf58930c7b0")
    )
    assert forgery.bye(PLACE, mel, 2).hex().endswith("143f05a30fe94d7c19a210c9f29ce716")


def test_the_picture_is_well_formed() -> None:
    axis = plot.Axis("loss < 50 %", [0, 25, 50])
    size = plot.Axis("members", [1, 10, 100], logarithmic=True)
    lines = [plot.Series("a & b", plot.BLUE, [(10.0, 0.0), (50.0, 50.0)], bars=[(10.0, 0.0, 5.0)])]
    panels = [plot.Panel("one", axis, axis, lines), plot.Panel("two", size, axis, lines)]
    root = ElementTree.fromstring(plot.draw("title", panels))
    words = [element.text for element in root.iter() if element.tag.endswith("text")]
    assert "loss < 50 %" in words
    assert "a & b" in words


@pytest.mark.parametrize("cell", figures.CELLS, ids=lambda cell: cell.name)
def test_the_commands_of_the_page_run_its_cells(cell: figures.Cell) -> None:
    words = figures.command(cell.setting, 5).split()
    assert words[:3] == ["python3", "-m", "tests.simulation"]
    options = arguments().parse_args(words[3:])
    assert Setting(**{field: getattr(options, field) for field in Setting._fields}) == cell.setting
    assert options.seeds == 5


def test_the_figures_of_the_page_are_those_of_the_json() -> None:
    found = figures.Figures(figures.load(), 5)
    page = figures.PAGE.read_text()
    assert figures.table(found) in page
    assert figures.picture(found) == figures.PICTURE.read_text()


# -- the oracle ------------------------------------------------------------------------------------


def _judge(count: int = 2) -> Oracle:
    """Ann has said 0 to `count` - 1, Ben has shown nothing yet."""
    oracle = Oracle()
    oracle.joined(0, ANN, -60.0)
    oracle.joined(1, BEN, -60.0)
    for seq in range(count):
        oracle.saying = (f"line {seq}", 0)
        oracle.shown(0, [_line(seq)], 1.0 + seq)
    return oracle


def _line(seq: int, mark: str = "", text: str = "") -> tuple[object, ...]:
    return Said("message", ANN, seq, "Ann", 0, text or f"line {seq}", 0, mark, False)


def test_the_oracle_is_content_with_order() -> None:
    oracle = _judge()
    oracle.shown(1, [_line(0), _line(1)], 5.0)
    assert oracle.complete()
    assert oracle.undelivered() == 0
    assert list(oracle.latencies) == [4.0, 3.0]


@pytest.mark.parametrize(
    ("kind", "events"),
    [
        ("twice", [_line(0), _line(0)]),
        ("order", [_line(1)]),
        ("order", [_line(1), _line(0)]),
        ("order", [_line(0, "late")]),
        ("order", [Lost("lost", ANN, "Ann", 1), _line(2)]),
        ("invented", [_line(7)]),
        ("invented", [_line(0, text="something else")]),
        ("invented", [Said("message", BEN, 0, "Ben", 0, "my own?", 0, "", False)]),
        ("presence", [Joined("joined", ANN, "Ann"), Joined("joined", ANN, "Ann")]),
        ("presence", [Left("left", ANN, "Ann", "bye")]),
        ("conflict", [Conflict("conflict", ANN, "Ann", 3)]),
        ("event", [Trouble("surprise", "")]),
    ],
)
def test_the_oracle_complains(kind: str, events: list[tuple[object, ...]]) -> None:
    with pytest.raises(Violation) as caught:
        _judge(3).shown(1, events, 9.0)
    assert caught.value.kind == kind


def test_what_is_reported_lost_may_be_stepped_over_and_come_late() -> None:
    oracle = _judge(3)
    oracle.shown(1, [_line(0), Lost("lost", ANN, "Ann", 1), _line(2), _line(1, "late")], 40.0)
    assert oracle.complete()


def test_a_newcomer_may_leave_out_what_was_before_but_not_lack_it() -> None:
    oracle = _judge(3)
    oracle.shown(1, [_line(0), _line(1), _line(2)], 5.0)
    oracle.joined(2, b"zoe-zoe-", 6.0)
    oracle.shown(2, [_line(1, "history"), _line(2, "history")], 7.0)
    assert oracle.lacking() == [(2, 0)]
    assert oracle.undelivered() == 0
    with pytest.raises(Violation, match="order"):
        oracle.shown(2, [_line(0, "history")], 8.0)


def test_what_only_the_dead_held_need_reach_nobody() -> None:
    oracle = _judge(1)
    assert oracle.lacking() == [(1, 0)]
    oracle.left(0)
    assert oracle.lacking() == []
    assert oracle.orphaned()


def test_the_oracle_counts_what_is_sent() -> None:
    oracle = _judge()
    said = forgery.data(PLACE, ANN, 0, "x")
    for _ in range(30):
        oracle.sent(0, DATA, said, 0.0)  # one message and its copies
    asked = forgery.nack(PLACE, ANN, 0, [])
    for _ in range(20):
        oracle.sent(0, NACK, asked, 0.0)
    with pytest.raises(Violation, match="too many NACK"):
        oracle.sent(0, NACK, asked, 0.1)
    with pytest.raises(Violation, match="too many bytes"):
        for _ in range(int(BYTES_RATE[1])):
            oracle.sent(1, DATA, said, 0.0)


def test_a_lossless_room_costs_one_transmission_and_a_delay() -> None:
    result = measure(Setting(members=6, loss=0.0, messages=20, warmup=20))
    assert (result.undelivered, result.lost, result.overdue) == (0, 0, False)
    assert len(result.latencies) == 100
    assert result.quantile(0.5) <= 0.001
    assert result.costs["data"] + result.costs["repair"] <= 1.1


def test_a_primed_room_tells_the_loss_that_it_was_handed() -> None:
    """And nothing of what was lost while its network was down: 10,000 told 40 to 57 % so."""
    run = Run(Setting(40, 0.3, prime=True), None)
    run.join()
    run.talk(12)
    run.world.run(run.world.now + 2.0)
    told = [member.session.stats()["loss_percent"] for member in run.world.members]
    known = [percent for percent in told if percent != LOSS_UNKNOWN]
    assert len(known) >= 20
    assert 15 <= sum(known) / len(known) <= 34  # tails of losses are not known yet


def test_copies_of_the_warmup_are_no_part_of_the_cost() -> None:
    """Of five messages one more made a fifth: 8.4 datagrams a message where 7 were sent."""
    result = measure(Setting(members=6, loss=0.3, messages=1, warmup=20, rate=0.5))
    assert result.costs["data"] <= 8


def test_members_say_who_they_are() -> None:
    session = _room(1).members[0].session
    assert str(Member(7, session, 0.0, 0.0)) == f"m7({session.sender_id.hex()[-4:]})"


@pytest.mark.parametrize("members", [1, 5])
def test_a_newcomer_behind_a_firewall_has_the_history_soon(members: int) -> None:
    """Nothing that is sent to it alone arrives: all are asked (4.5 s while holders were named)."""
    world = World(1)
    for number in range(members):
        world.join(f"m{number}")
        world.run(world.now + 0.05)
    for line in range(52):
        world.say(world.members[0], f"line {line}")
        world.run(world.now + 0.3)
    world.run(world.now + 70.0)
    zoe = world.join("Zoe")
    world.walled.add(zoe.index)
    world.run(world.now + 3.5)
    assert world.oracle.complete()
    assert world.sent[UNICAST] < 400  # less, if more repairs to all were saved for one NACK
