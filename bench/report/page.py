"""The measured part of docs/performance.md, made from results.json and from nothing else.

`python3 -m bench page` writes what stands between the two markers. The section claims nothing
that the file does not hold: every figure in it is read from there.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

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
        "`python3 -m bench requests`), then `python3 -m bench page`. All figures are in",
        "[bench/results/results.json](../bench/results/results.json), with ranges, dates and",
        "commits, and with the micro-benchmarks and instruction counts of the pure modules. What",
        "they mean stands at the head of each section in [bench/sections](../bench/sections).",
        "Servers take turns on one core, the load has another; medians are shown.",
        "",
        f"Measured on {machine['cpu']}, {machine['cores']} cores"
        f"{' (a virtual machine)' if machine['virtual'] else ''}, Linux {machine['kernel']}, with "
        f"CPython {python['version']} ({python['compiler']}).",
        _quiet(results["sections"]),
        "Compare ratios, never bare times: an interpreter's build alone makes a third. *Floor*:",
        "the same figure of a program in this Python that makes the system calls and does no work.",
        "",
        *_goals(results["sections"]),
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


def _goals(sections: Row) -> list[str]:
    lines = ["| | goal | measured | wanted | floor | |", "|---|---|---|---|---|---|"]
    rows = [row for part in sections.values() for row in part["goals"]]
    for row in sorted(rows, key=lambda row: str(row["goal"]).rjust(4)):
        word = {True: "reached", False: "**not reached**", None: "not measured here"}[row["met"]]
        value = "-" if row["value"] is None else _figure(row["value"])
        wanted = f"{row['op'].replace('<=', '≤').replace('>=', '≥')} {_figure(row['limit'])}"
        floor = _figure(row["floor"]) if "floor" in row else ""
        lines.append(f"| {row['goal']} | {row['what']} | {value} | {wanted} | {floor} | {word} |")
    return [*lines, ""]


def _section(name: str, part: Row) -> list[str]:
    lines = [f"![{plot}](../bench/results/plots/{plot}.svg)" for plot in part["plots"]]
    missing = [f"- {what}: not here ({_why(why)})" for what, why in part["missing"].items()]
    lines += ["", *missing] if lines and missing else missing
    heading = HEADINGS.get(name, name.capitalize())
    return [f"### {heading}", "", *lines, ""] if lines else []


def _why(reason: str) -> str:
    return reason.splitlines()[-1][:160]


def _figure(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


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
