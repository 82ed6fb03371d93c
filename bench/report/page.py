"""The measured part of docs/performance.md, made from results.json and from nothing else.

`python3 -m bench page` writes what stands between the two markers. The section claims nothing
that the file does not hold: every figure in it is read from there.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from bench.harness.judging import (
    MET,
    NOT_MEASURED,
    NOT_MET,
    SHOWN,
    TOO_BUSY,
    figure,
)

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "performance.md"
RESULTS = ROOT / "bench" / "results" / "results.json"
BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"

Row = dict[str, Any]
HEADINGS = {  # of the sections that have plots
    "requests": "Directory requests",
    "idle": "Idle connections",
    "durable": "Durable changes",
    "getdir": "A large directory",
    "startup": "Start",
    "fanout": "A message to one host",
    "growth": "Growth",
    "lag": "Loop lag",
}


def section(results: Row) -> str:
    """The text between the markers."""
    python, machine = results["python"], results["machine"]
    minutes = sum(part["seconds"] for part in results["sections"].values()) / 60
    parts = [
        f"How to repeat it: `python3 -m bench` (or `make bench`; {minutes:.0f} minutes here; one:",
        "`python3 -m bench requests`), then `python3 -m bench page`. `python3 -m bench --quick`",
        "shows a part of it in 90 seconds and stores nothing. All figures are in",
        "[bench/results/results.json](../bench/results/results.json), with ranges, dates and",
        "commits, and with the micro-benchmarks and instruction counts of the pure modules. What",
        "they mean stands at the head of each section in [bench/sections](../bench/sections).",
        "Servers take turns on one core, the load has another; medians are shown.",
        "",
        f"Measured on {machine['cpu']}, {machine['cores']} cores"
        f"{' (a virtual machine)' if machine['virtual'] else ''}, Linux {machine['kernel']}, with "
        f"CPython {python['version']} ({python['compiler']}).",
        _quiet(results["sections"]),
        "Compare ratios, never bare times: an interpreter's build alone makes a third. *Against*:",
        "what the figure is a ratio to, and its own figure in the same run. *Range*: the middle",
        "half of the ratios of neighbouring runs; a goal is reached when all of it is. *Best*: the",
        "ratio of a program in this Python that makes the system calls and does no work.",
        "",
        *goals_table(results["sections"]),
    ]
    for name, part in results["sections"].items():
        parts += _section(name, part)
    return "\n".join(parts).rstrip() + "\n"


def _quiet(sections: Row) -> str:
    waits = sum(part["waits"] for part in sections.values())
    noisy = sum(part["noisy_waits"] for part in sections.values())
    if not noisy:
        return "The machine was quiet."
    return (
        f"The machine was not quiet before {noisy} of {waits} runs: maxima and what wakes from\n"
        "sleep (one message at a time, five lines a second) are worse here than they need be."
    )


def goals_table(sections: Row) -> list[str]:
    """The table of goals, as lines, and an empty one."""
    lines = ["| | goal | against | measured | range | wanted | best | |", "|---" * 8 + "|"]
    rows = [row for part in sections.values() for row in part["goals"]]
    for row in sorted(rows, key=lambda row: str(row["goal"]).rjust(4)):
        value = "-" if row["value"] is None else figure(row["value"])
        between = f"{figure(row['low'])} to {figure(row['high'])}" if row.get("runs", 1) > 1 else ""
        best = figure(row["floor"]) if "floor" in row else ""
        cells = [row["goal"], row["what"], _against(row), value, between, _wanted(row), best]
        lines.append("| " + " | ".join(str(cell) for cell in [*cells, _word(row)]) + " |")
    return [*lines, ""]


def _against(row: Row) -> str:
    """The floor or peer of a ratio: name and figure."""
    against = row.get("against")
    if not against or against["figure"] is None:
        return ""
    return f"{against['name']}: {figure(against['figure'])} {against['unit']}"


def _wanted(row: Row) -> str:
    if row["limit"] is None:
        return ""
    return f"{row['op'].replace('<=', '≤').replace('>=', '≥')} {figure(row['limit'])}"


def _word(row: Row) -> str:
    """The verdict in the words of the page (results of before verdicts have only `met`)."""
    verdict = row.get("verdict") or {True: MET, False: NOT_MET, None: NOT_MEASURED}[row["met"]]
    words = {MET: "reached", NOT_MET: "**not reached**", NOT_MEASURED: "not measured here"}
    words |= {TOO_BUSY: "too busy to judge", SHOWN: ""}
    return words[verdict]


def _section(name: str, part: Row) -> list[str]:
    lines = [f"![{plot}](../bench/results/plots/{plot}.svg)" for plot in part["plots"]]
    missing = [f"- {what}: not here ({_why(why)})" for what, why in part["missing"].items()]
    lines += ["", *missing] if lines and missing else missing
    heading = HEADINGS.get(name, name.capitalize())
    return [f"### {heading}", "", *lines, ""] if lines else []


def _why(reason: str) -> str:
    return reason.splitlines()[-1][:160]


def replaced(page: str, text: str) -> str:
    """`page` with `text` between its markers; ValueError when it has none."""
    head, begin, rest = page.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{PAGE.name} has no {BEGIN} ... {END}")
    return f"{head}{BEGIN}\n{text}{END}{tail}"


def write() -> int:
    """Rewrite the section; the exit status."""
    try:
        new = replaced(PAGE.read_text(), section(json.loads(RESULTS.read_text())))
    except (OSError, ValueError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    PAGE.write_text(new)
    return 0
