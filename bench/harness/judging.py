"""What a goal is compared with, and when it may be called reached.

A goal is the ratio of a figure to that of a floor or a peer, taken from runs that were neighbours
in time, so that a busy machine slows both. Each pair of runs gives one ratio. What is judged is the
interquartile range of the ratios, because one median says nothing of what the next run would give.

- met: the whole range is on the right side of the limit;
- not met: it is not, and the runs agree well enough to say so: the range is narrow, or it is
  further on the wrong side than it is wide;
- too busy: it is not, and the runs disagree so much that a quiet machine might find otherwise.

- too busy, too: it is not, and the machine was not quiet before most of the section's runs: then
  even runs that agree may all have been slowed, and not both of each pair alike.

Counts and sizes that do not vary (wake-ups, bytes) are one figure, and their range is that figure.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from typing import Any, Union

Row = dict[str, Any]
Found = Union[float, Sequence[float], None]

MET, NOT_MET, TOO_BUSY, NOT_MEASURED, SHOWN = (
    "met", "not met", "too busy to judge", "not measured", "no goal",
)  # fmt: skip
WIDE = 0.15  # of the median: neighbours on a quiet machine differ by 2 to 8 %


def rounded(value: float) -> float:
    return float(f"{value:.4g}")


def spread(values: Iterable[float]) -> Row:
    """Median and range of one figure's runs."""
    found = sorted(values)
    return {
        "median": rounded(statistics.median(found)),
        "low": rounded(found[0]),
        "high": rounded(found[-1]),
        "runs": len(found),
    }


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """The ratios of runs that were neighbours in time."""
    return [a / b for a, b in zip(ours, theirs) if b]


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    """The first and the third quartile, ends included; ValueError without values."""
    if not values:
        raise ValueError("no values")
    found = sorted(values)
    if len(found) == 1:
        return found[0], found[0]
    low, _, high = statistics.quantiles(found, n=4, method="inclusive")
    return low, high


def judge(median: float, low: float, high: float, op: str, limit: float) -> str:
    """MET, NOT_MET or TOO_BUSY for a range `low` to `high` around `median`; `op`: <= or >=."""
    if high <= limit if op == "<=" else low >= limit:
        return MET
    width = high - low
    beyond = low - limit if op == "<=" else limit - high
    if width <= WIDE * abs(median) or beyond > width:
        return NOT_MET
    return TOO_BUSY


def on_a_busy_machine(row: Row) -> Row:
    """A goal's row where most of its section's runs did not find the machine quiet: what was met
    stays met, what was not is not judged. Single figures (counts, sizes) stay as they are."""
    if row["verdict"] != NOT_MET or row["runs"] < 2:
        return row
    return row | {"verdict": TOO_BUSY, "met": None}


class Floor:
    """What a ratio is to: its name, and its own figure (the median of its runs) with its unit."""

    __slots__ = ("figure", "name", "unit")

    def __init__(self, name: str, values: Sequence[float], unit: str) -> None:
        self.name, self.unit = name, unit
        self.figure = statistics.median(values) if values else math.nan

    def as_row(self) -> Row:
        figure = None if math.isnan(self.figure) else rounded(self.figure)
        return {"name": self.name, "figure": figure, "unit": self.unit}


class Goal:
    """One line of the table of goals: what was found, and its limit (None: shown and not judged).

    `found`: the ratios, or the one figure of what does not vary. `best`: the ratio that a program
    would reach that does nothing but the system calls: nothing in this interpreter can be better.
    """

    __slots__ = ("best", "floor", "found", "limit", "number", "op", "what")

    def __init__(
        self,
        number: int | str,
        what: str,
        found: Found,
        limit: float | None,
        op: str,
        floor: Floor | None = None,
        best: float | None = None,
    ) -> None:
        assert op in ("<=", ">=")
        self.number, self.what, self.limit, self.op = number, what, limit, op
        if found is None:
            self.found: list[float] = []
        else:
            self.found = [found] if isinstance(found, (int, float)) else list(found)
        self.floor, self.best = floor, best

    def verdict(self) -> str:
        if not self.found:
            return NOT_MEASURED
        if self.limit is None:
            return SHOWN
        low, high = quartiles(self.found)
        return judge(statistics.median(self.found), low, high, self.op, self.limit)

    def as_row(self) -> Row:
        """For the results and the page. `met` is None where nothing can be said."""
        verdict = self.verdict()
        row: Row = {"goal": self.number, "what": self.what, "value": None}
        if self.found:
            low, high = quartiles(self.found)
            row["value"] = rounded(statistics.median(self.found))
            row |= {"low": rounded(low), "high": rounded(high), "runs": len(self.found)}
        row |= {"op": self.op, "limit": self.limit, "verdict": verdict}
        row["met"] = {MET: True, NOT_MET: False}.get(verdict)
        if self.floor is not None:
            row["against"] = self.floor.as_row()
        if self.best is not None:
            row["floor"] = rounded(self.best)
        return row


def compared(
    number: int | str,
    what: str,
    ours: Sequence[float],
    floor: tuple[str, Sequence[float], str],
    limit: float | None,
    op: str = "<=",
    lowest: Sequence[float] = (),
) -> Goal:
    """The goal that `ours` has, run by run, to `floor`: its name, its runs and their unit.

    `lowest`: the runs of what does nothing but the system calls, where that is not the floor.
    """
    name, theirs, unit = floor
    best = ratios(lowest, theirs)
    return Goal(
        number, what, ratios(ours, theirs), limit, op,
        Floor(name, theirs, unit), statistics.median(best) if best else None,
    )  # fmt: skip


def figure(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def line(row: Row) -> str:
    """A goal's row for a terminal: what, the floor, the ratio, its spread, the limit, a verdict."""
    parts = [f"goal {row['goal']}: {row['what']}: "]
    if row["value"] is None:
        return parts[0] + NOT_MEASURED
    parts.append(figure(row["value"]))
    if row["runs"] > 1:
        parts.append(f" ({figure(row['low'])} to {figure(row['high'])}, {row['runs']} runs)")
    against = row.get("against")
    if against and against["figure"] is not None:
        parts.append(f" of {against['name']}'s {figure(against['figure'])} {against['unit']}")
    if row["limit"] is not None:
        parts.append(f", wanted {row['op']} {figure(row['limit'])}: {row['verdict']}")
    return "".join(parts)
