"""When the bench calls a goal met, not met, or the machine too busy to judge."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from bench import __main__ as bench
from bench.harness import common, counting, judging, machine
from bench.harness.judging import (
    MET,
    NOT_MEASURED,
    NOT_MET,
    SHOWN,
    TOO_BUSY,
    Floor,
    Goal,
    compared,
    judge,
    quartiles,
    ratios,
)
from bench.harness.processes import Failed
from bench.report import page


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ([3.0], (3.0, 3.0)),
        ([1.0, 2.0], (1.25, 1.75)),
        ([3.0, 1.0, 2.0], (1.5, 2.5)),
        ([5.0, 1.0, 2.0, 4.0, 3.0], (2.0, 4.0)),
    ],
)
def test_quartiles(values: list[float], wanted: tuple[float, float]) -> None:
    assert quartiles(values) == wanted


def test_nothing_has_no_quartiles() -> None:
    with pytest.raises(ValueError, match="no values"):
        quartiles([])


def test_ratios_are_of_neighbours() -> None:
    assert ratios([2.0, 9.0, 5.0], [1.0, 3.0]) == [2.0, 3.0]
    assert ratios([2.0, 9.0], [0.0, 3.0]) == [3.0]  # what took no time is no floor


@pytest.mark.parametrize(
    ("median", "low", "high", "op", "limit", "wanted"),
    [
        (0.70, 0.68, 0.80, "<=", 0.80, MET),  # the whole range, its end included
        (0.70, 0.10, 0.79, "<=", 0.80, MET),  # however wide, as long as it is on the right side
        (0.79, 0.78, 0.81, "<=", 0.80, NOT_MET),  # the median alone does not reach it
        (0.85, 0.84, 0.86, "<=", 0.80, NOT_MET),
        (0.79, 0.60, 0.99, "<=", 0.80, TOO_BUSY),
        (1.00, 0.81, 1.20, "<=", 0.80, TOO_BUSY),  # wrong, but by less than runs differ
        (2.00, 1.80, 2.40, "<=", 0.80, NOT_MET),  # wide, and wrong by more than that
        (2.00, 1.80, 2.40, ">=", 1.80, MET),
        (2.00, 1.70, 2.40, ">=", 1.80, TOO_BUSY),
        (1.80, 1.79, 1.85, ">=", 1.80, NOT_MET),
        (0.50, 0.40, 0.60, ">=", 1.80, NOT_MET),
        (-0.01, -0.05, 0.02, "<=", 0.10, MET),
        (0.00, 0.00, 0.00, "<=", 0.00, MET),  # a count
        (1.00, 1.00, 1.00, "<=", 0.00, NOT_MET),
    ],
)
def test_verdicts(
    median: float, low: float, high: float, op: str, limit: float, wanted: str
) -> None:
    assert judge(median, low, high, op, limit) == wanted


def test_a_goal_tells_its_floor_its_ratio_and_its_spread() -> None:
    ours, floor = [10.0, 12.0, 11.0, 30.0], [2.0, 2.0, 2.0, 6.0]
    row = compared(8, "a say", ours, ("sendto", floor, "us"), 6.0).as_row()
    assert row["against"] == {"name": "sendto", "figure": 2.0, "unit": "us"}
    assert (row["value"], row["low"], row["high"], row["runs"]) == (5.25, 5.0, 5.625, 4)
    assert (row["verdict"], row["met"]) == (MET, True)
    assert judging.line(row) == (
        "goal 8: a say: 5.25 (5 to 5.62, 4 runs) of sendto's 2 us, wanted <= 6: met"
    )


def test_a_slow_moment_of_both_does_not_change_the_ratio() -> None:
    quiet = compared(1, "x", [4.0, 4.0, 4.0], ("p", [5.0, 5.0, 5.0], "us"), 0.85).as_row()
    slowed = compared(1, "x", [4.0, 12.0, 4.0], ("p", [5.0, 15.0, 5.0], "us"), 0.85).as_row()
    assert quiet == slowed


def test_what_was_not_measured_is_not_judged() -> None:
    row = compared(9, "x", [], ("ngircd", [], "us"), 0.3).as_row()
    assert (row["value"], row["verdict"], row["met"]) == (None, NOT_MEASURED, None)
    assert row["against"]["figure"] is None
    assert judging.line(row) == "goal 9: x: not measured"


def test_a_row_without_a_limit_is_shown() -> None:
    row = Goal(7, "growth", [8.0, 9.0], None, ">=", Floor("1x1", [3.0], "/s")).as_row()
    assert (row["verdict"], row["met"]) == (SHOWN, None)
    assert judging.line(row) == "goal 7: growth: 8.5 (8.25 to 8.75, 2 runs) of 1x1's 3 /s"


def test_the_lowest_possible_ratio_is_told() -> None:
    row = compared(1, "x", [4.0], ("peer", [5.0], "us"), 0.8, lowest=[2.0]).as_row()
    assert row["floor"] == 0.4


@pytest.mark.parametrize(
    ("found", "limit", "wanted"),
    [
        ([2.0, 2.0, 2.0], 1.0, (TOO_BUSY, None)),
        ([0.9, 0.9, 0.9], 1.0, (MET, True)),
        ([], 1.0, (NOT_MEASURED, None)),
        ([2.0, 2.0], None, (SHOWN, None)),
        (7, 1.0, (NOT_MET, False)),  # a count: it is what it is on every machine
    ],
)
def test_a_busy_machine_proves_nothing_missed(
    found: Any, limit: float | None, wanted: tuple[str, bool | None]
) -> None:
    row = judging.on_a_busy_machine(Goal(1, "x", found, limit, "<=").as_row())
    assert (row["verdict"], row["met"]) == wanted


def test_the_page_has_a_word_for_each_verdict() -> None:
    def told(found: list[float], limit: float | None) -> str:
        goal = Goal(1, "x", found, limit, "<=", Floor("sendto", [2.0], "us"))
        return page.goals_table({"part": {"goals": [goal.as_row()]}})[2]

    assert told([1.0, 1.0], 2.0) == "| 1 | x | sendto: 2 us | 1 | 1 to 1 | ≤ 2 |  | reached |"
    assert told([3.0, 3.0], 2.0).endswith("| **not reached** |")
    assert told([1.0, 3.0], 1.9).endswith("| too busy to judge |")
    assert told([], 2.0).endswith("| not measured here |")
    assert told([1.0, 3.0], None).endswith("| 1.5 to 2.5 |  |  |  |")


# -- the floor of a line ---------------------------------------------------------------------------


@pytest.mark.parametrize("members", [1, 2])
def test_each_line_of_the_speaker_has_its_floor(members: int) -> None:
    lines = 3
    command = [
        sys.executable,
        "-S",
        "bench/load/speaker.py",
        str(members),
        str(lines),
        "5999",
        "40",
    ]
    done = subprocess.run(
        [*command, "bare"], cwd=page.ROOT, capture_output=True, text=True, timeout=30, check=True
    )
    figures = json.loads(done.stdout)
    assert len(figures["say_us"]) == len(figures["bare_us"]) == lines
    assert figures["sent"] == 1.0
    assert min(figures["say_us"]) > min(figures["bare_us"]) > 0


# -- counts ----------------------------------------------------------------------------------------


def test_a_program_that_loads_more_has_more_page_faults() -> None:
    little, much = (
        counting.page_faults([sys.executable, "-S", "-c", program])
        for program in ("pass", "import asyncio")
    )
    assert 100 < little < much - 300


def test_a_command_that_fails_is_not_counted() -> None:
    with pytest.raises(Failed, match="exit status 3"):
        counting.page_faults([sys.executable, "-S", "-c", "raise SystemExit(3)"])


# -- time ------------------------------------------------------------------------------------------


class FakeQuiet(machine.Quiet):
    """Counts the waits."""

    def wait(self, at_most_s: float = 4.0) -> None:
        self.waits += 1


@pytest.fixture
def clock() -> list[float]:
    return [100.0]


@pytest.fixture
def context(clock: list[float]) -> Iterator[common.Context]:
    found = common.Context(
        {"executable": "python3"}, FakeQuiet(0.0), rounds=9, clock=lambda: clock[0]
    )
    yield found
    found.close()


@pytest.mark.parametrize(
    ("turn_s", "wanted"), [(1.0, 9), (10.0, 5), (50.0, common.TURNS_MIN), (500.0, 3)]
)
def test_turns_end_with_the_sections_time(
    context: common.Context, clock: list[float], turn_s: float, wanted: int
) -> None:
    context.begin(50.0)
    made = 0
    for _ in context.turns(9):
        clock[0] += turn_s
        made += 1
    assert made == context.quiet.waits == wanted


def test_all_sections_together_take_less_than_ten_minutes() -> None:
    assert sum(bench.SECTIONS.values()) + bench.QUIET_WAIT_S < 600
    assert set(bench.QUICK) < set(bench.SECTIONS)


def test_the_quick_run_leaves_the_results_alone() -> None:
    assert bench.parse(["--quick"]).results is None
    assert bench.parse(["durable"]).results == page.RESULTS
