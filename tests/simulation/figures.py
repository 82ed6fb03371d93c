"""Measure "Figures to reach" of the design, write docs/reliability-figures.json, table and plot.

    python3 -m tests.simulation.figures --jobs 2

Every cell runs with `--seeds` seeds (5 unless said) and with all caps of rule 12 in force. A goal
counts as reached when the median of the seeds reaches it; the worst seed is shown beside it.
`--draw` makes table and plot anew from the JSON, without measuring.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from evloop.room.reliable.limits import COPY_TIMER_S
from tests.simulation import plot
from tests.simulation.parallel import parallel
from tests.simulation.room import Setting, measure, minimum
from tests.support.pairs import both

DOCS = Path(__file__).parents[2] / "docs"
FIGURES = DOCS / "reliability-figures.json"
PAGE = DOCS / "reliability.md"
PICTURE = DOCS / "reliability.svg"
BEGIN, END = "<!-- figures begin: made by tests.simulation.figures -->", "<!-- figures end -->"

COPY_GAP_MS = 1_000 * COPY_TIMER_S  # copies of one message follow each other at this pace
LOSSES = (0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5)
SIZES = (5, 10, 20, 50, 100, 1_000, 10_000)


class Cell(NamedTuple):
    """One row of the table: what is run, and the most that each figure may be."""

    name: str
    setting: Setting
    goals: dict[str, float]


def steady(members: int, loss: float) -> Setting:
    """The steady room of this size, with as many messages as its size allows."""
    if members >= 10_000:
        return Setting(members, loss, messages=5, warmup=3, rate=1.0, prime=True, idle=10.0)
    if members >= 500:
        return Setting(members, loss, messages=40, warmup=30, join=20.0)
    return Setting(members, loss, messages=250)


CELLS = (
    Cell("50 members, 1 % loss", steady(50, 0.01), {"p99_ms": 15, "over": 1.2}),
    Cell("50 members, 10 %", steady(50, 0.1), {"p99_ms": 20, "over": 1.2}),
    Cell(
        "50 members, 30 %",
        steady(50, 0.3),
        {"p99_ms": 30, "over": 1.2, "nack": 0.5, "session": 4, "bytes": 2_000},
    ),
    Cell("50 members, 50 %", steady(50, 0.5), {"p99_ms": 50, "over": 1.25}),
    Cell(
        "1,000 members, 30 %",
        steady(1_000, 0.3),
        {"p99_ms": 30, "over": 1.15, "session": 9, "bytes": 4_000},
    ),
    Cell(
        "10,000 members, 30 %, 1 message/s",
        steady(10_000, 0.3),
        {"p99_ms": 40, "over": 1.15, "idle_per_s": 10},
    ),
    Cell("deaf for 0.1 s, 30 % of the time", Setting(50, 0.0, 250, burst=0.1), {"p99_ms": 600}),
    Cell("deaf for 0.5 s, 30 % of the time", Setting(50, 0.0, 250, burst=0.5), {"p99_ms": 2_000}),
    Cell("deaf for 2 s, 30 % of the time", Setting(50, 0.0, 250, burst=2.0), {"p99_ms": 9_000}),
    Cell(
        "late joiner, 400 messages of history, 30 %",
        Setting(50, 0.3, 400, warmup=0, late=True),
        {"heal_s": 1.0},
    ),
    Cell("20 s partition, then healed", Setting(50, 0.3, 100, partition=True), {"heal_s": 2.0}),
)


def command(setting: Setting, seeds: int) -> str:
    """The command line that runs `setting`."""
    words = ["python3 -m tests.simulation"]
    for field, value in setting._asdict().items():
        if value is True:
            words.append(f"--{field}")
        elif value is not False and value != Setting._field_defaults[field]:
            words.append(f"--{field} {value}")
    return " ".join([*words, f"--seeds {seeds}"])


def run(setting: Setting) -> dict[str, Any]:
    """One run, as it goes into the JSON."""
    result = measure(setting)
    figures: dict[str, Any] = {
        "undelivered": result.undelivered,
        "lost": result.lost,
        "p50_ms": 1000 * result.quantile(0.50),
        "p99_ms": 1000 * result.quantile(0.99),
        "max_ms": 1000 * result.quantile(1.0),
        "over": result.over,
        "minimum": result.minimum,
        "heal_s": result.heal_s,
        "idle_per_s": result.idle_per_s,
        "deliveries_per_s": result.delivered / result.cpu_s,
        "trace": result.trace,
        **result.costs,
    }
    return {
        key: round(value, 3) if isinstance(value, float) else value
        for key, value in figures.items()
    }


def load() -> dict[str, Any]:
    """The JSON as it is; {} before the first run."""
    return json.loads(FIGURES.read_text()) if FIGURES.exists() else {}


def measure_all(seeds: int, jobs: int, only: str) -> None:
    """Measure what table and plot need, and whose command has `only` in it, into the JSON."""
    settings = [cell.setting for cell in CELLS]
    settings += [steady(50, loss) for loss in LOSSES]
    settings += [steady(members, 0.3) for members in SIZES]
    wanted = [one for one in dict.fromkeys(settings) if only in command(one, seeds)]
    tasks = [setting._replace(seed=seed) for setting in wanted for seed in range(1, seeds + 1)]
    git = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    figures = load()
    runs: list[dict[str, Any]] = []
    for task, found in both(tasks, parallel(run, tasks, jobs)):
        runs.append(found)
        print(f"{command(task, 1)}: {found}", file=sys.stderr, flush=True)
        if len(runs) == seeds:  # all seeds of one setting: keep them
            name = command(task._replace(seed=1), seeds)
            figures[name] = {"commit": commit, "runs": runs}
            FIGURES.write_text(json.dumps(figures, indent=1, sort_keys=True) + "\n")
            runs = []


class Figures:
    """The JSON, by setting."""

    def __init__(self, raw: dict[str, Any], seeds: int) -> None:
        self._raw = raw
        self.seeds = seeds

    def runs(self, setting: Setting) -> list[dict[str, Any]]:
        """One entry a seed."""
        found: list[dict[str, Any]] = self._raw[command(setting, self.seeds)]["runs"]
        return found

    def commit(self, setting: Setting) -> str:
        """The commit at which `setting` was measured."""
        return str(self._raw[command(setting, self.seeds)]["commit"])

    def values(self, setting: Setting, key: str) -> list[float]:
        """Figure `key`, one a seed, sorted."""
        return sorted(figures[key] for figures in self.runs(setting))


UNITS = {"p99_ms": "ms", "heal_s": "s", "idle_per_s": "SESSION/s when idle", "bytes": "B"}
SHOWN = {"p99_ms": "p99", "heal_s": "healed in", "nack": "N", "session": "S", "bytes": "B"}


def spelt(value: float) -> str:
    """With three digits or so."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _goal(cell: Cell, figures: Figures) -> str:
    spelt = []
    for key, most in cell.goals.items():
        reached = median(figures.values(cell.setting, key)) <= most
        unit = f" {UNITS[key]}" if key in UNITS else ""
        name = SHOWN.get(key, key if key == "over" else "")
        spelt.append(f"{name} ≤ {most:,g}{unit} {'✓' if reached else '**missed**'}".strip())
    return "; ".join(spelt)


def table(figures: Figures) -> str:
    """The rows of the page: median over the seeds, and in brackets the worst."""
    keys = ("p50_ms", "p99_ms", "max_ms", "over", "data", "repair", "nack", "session", "bytes")
    lines = [
        "| simulated | undelivered | p50 ms | p99 ms | max ms | over | D | R | N | S | B | goal |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for cell in CELLS:
        undelivered = sum(figures.values(cell.setting, "undelivered"))
        columns = [cell.name, f"{undelivered:.0f}"]
        for key in keys:
            values = figures.values(cell.setting, key)
            columns.append(f"{spelt(median(values))} ({spelt(values[-1])})")
        goal = _goal(cell, figures)
        for key in ("heal_s", "idle_per_s"):
            if key in cell.goals:
                values = figures.values(cell.setting, key)
                goal += f"; measured {spelt(median(values))} ({spelt(values[-1])})"
        lines.append("| " + " | ".join([*columns, goal]) + " |")
    lines += ["", "The commands, in the order of the rows, and the commits measured:", "", "```"]
    for cell in CELLS:
        measured = f"{figures.commit(cell.setting)}, {len(figures.runs(cell.setting))} seeds"
        lines.append(f"{command(cell.setting, figures.seeds)}  # {measured}")
    lines.append("```")
    return "\n".join(lines)


def _points(figures: Figures, pairs: list[tuple[float, Setting]], key: str) -> list[plot.Point]:
    return [(x, median(figures.values(setting, key))) for x, setting in pairs]


def _bars(
    figures: Figures, pairs: list[tuple[float, Setting]], key: str
) -> list[tuple[float, float, float]]:
    spans = [(x, figures.values(setting, key)) for x, setting in pairs]
    return [(x, values[0], values[-1]) for x, values in spans]


def _floor_ms(loss: float) -> float:
    # p99 when copies follow each other for ever: the k-th brings it to 99 %.
    copies, missing = 0, loss
    while missing > 0.01:
        copies += 1
        missing *= loss
    return COPY_GAP_MS * copies


def _panels(
    figures: Figures,
    across: plot.Axis,
    pairs: list[tuple[float, Setting]],
    against: str,
    datagrams: list[float],
) -> list[plot.Panel]:
    def series(label: str, colour: str, key: str) -> plot.Series:
        points = _points(figures, pairs, key)
        return plot.Series(label, colour, points, bars=_bars(figures, pairs, key))

    floor = [(x, _floor_ms(setting.loss)) for x, setting in pairs]
    least = [(x, minimum(setting.members - 1, setting.loss)) for x, setting in pairs]
    sent = [
        (x, median(f["data"] + f["repair"] for f in figures.runs(setting))) for x, setting in pairs
    ]
    return [
        plot.Panel(
            f"Delivery latency against {against}",
            across,
            plot.Axis("milliseconds from say to screen", [0, 10, 20, 30, 40, 50, 60]),
            [
                series("99 of 100", plot.BLUE, "p99_ms"),
                series("half", plot.SKY, "p50_ms"),
                plot.Series("least at the copies' pace", plot.GREY, floor, theory=True),
            ],
        ),
        plot.Panel(
            f"Transmissions per message against {against}",
            across,
            plot.Axis("datagrams", datagrams),
            [
                plot.Series("DATA + REPAIR", plot.ORANGE, sent),
                series("SESSION", plot.GREEN, "session"),
                series("NACK", plot.SKY, "nack"),
                plot.Series("theoretical minimum", plot.GREY, least, theory=True),
            ],
        ),
    ]


def picture(figures: Figures) -> str:
    """docs/reliability.svg."""
    losses = [(100 * loss, steady(50, loss)) for loss in LOSSES]
    sizes = [(float(members), steady(members, 0.3)) for members in SIZES]
    by_loss = plot.Axis("loss at each receiver, percent (50 members)", [0, 10, 20, 30, 40, 50])
    by_size = plot.Axis(
        "members (30 % loss; the 10,000 at 1 message a second)",
        [1, 10, 100, 1_000, 10_000],
        logarithmic=True,
    )
    return plot.draw(
        "A reliable room: what loss and size cost",
        [
            *_panels(figures, by_loss, losses, "loss", [0, 2, 4, 6, 8, 10]),
            *_panels(figures, by_size, sizes, "group size", [0, 8, 16, 24, 32]),
        ],
    )


def main() -> int:
    """Measure, or only draw."""
    parser = argparse.ArgumentParser(prog="python3 -m tests.simulation.figures")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--seeds", type=int, default=5, help="of each cell")
    parser.add_argument("--only", default="", metavar="TEXT", help="commands with TEXT in them")
    parser.add_argument("--draw", action="store_true", help="from the JSON, without measuring")
    options = parser.parse_args()
    if not options.draw:
        measure_all(options.seeds, options.jobs, options.only)
        if options.only:
            return 0  # the rest may not be there yet
    figures = Figures(load(), options.seeds)
    page = PAGE.read_text()
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    PAGE.write_text(f"{head}{BEGIN}\n{table(figures)}\n{END}{tail}")
    PICTURE.write_text(picture(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
