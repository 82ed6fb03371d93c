"""The figures of docs/performance.md are what bench/results/results.json gives, nothing else."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from bench.harness.judging import MET, NOT_MET, judge
from bench.report import page

RESULTS: dict[str, Any] = json.loads(page.RESULTS.read_text())


def test_the_page_says_what_the_results_hold() -> None:
    text = page.PAGE.read_text()
    assert page.replaced(text, page.section(RESULTS)) == text, "run: python3 -m bench page"


def test_every_goal_is_told_with_its_verdict() -> None:
    text = page.section(RESULTS)
    goals = [goal for part in RESULTS["sections"].values() for goal in part["goals"]]
    assert {str(goal["goal"]) for goal in goals} >= {str(number) for number in range(1, 11)}
    for goal in goals:
        (line,) = [line for line in text.splitlines() if f"| {goal['what']} |" in line]
        assert ("**not reached**" in line) == (goal["met"] is False)
        assert ("not measured" in line) == (goal["value"] is None)


def test_verdicts_follow_from_the_figures() -> None:
    for part in RESULTS["sections"].values():
        busy = 2 * part["noisy_waits"] > part["waits"]
        for goal in part["goals"]:
            if goal["value"] is None or goal["limit"] is None:
                assert goal["met"] is None
                continue
            low, high = (goal.get(end, goal["value"]) for end in ("low", "high"))
            verdict = judge(goal["value"], low, high, goal["op"], goal["limit"])
            met = {MET: True, NOT_MET: False}.get(verdict)
            assert goal["met"] == met or (busy and met is False and goal["met"] is None)


def test_another_figure_makes_another_section() -> None:
    changed = copy.deepcopy(RESULTS)
    changed["sections"]["requests"]["goals"][0]["value"] = 123_456.0
    assert "123,456" not in page.section(RESULTS)
    assert "123,456" in page.section(changed)


def test_every_plot_is_there() -> None:
    plots = Path(page.RESULTS).parent / "plots"
    for part in RESULTS["sections"].values():
        for plot in part["plots"]:
            assert (plots / f"{plot}.svg").read_text().startswith("<svg")


def test_text_outside_of_the_markers_stays() -> None:
    before = f"# A\n{page.BEGIN}\nold\n{page.END}\nafter\n"
    assert page.replaced(before, "new\n") == f"# A\n{page.BEGIN}\nnew\n{page.END}\nafter\n"
    with pytest.raises(ValueError, match=r"performance\.md"):
        page.replaced("no markers", "new\n")
