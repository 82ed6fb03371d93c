"""README's performance section, made from results.json and from nothing else.

`python3 -m bench readme` writes what stands between the two markers. The section claims nothing
that the file does not hold: every figure in it is read from there.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
RESULTS = ROOT / "bench" / "results.json"
BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"

Row = dict[str, Any]
TABLES = {  # section: (heading, figures shown, unit)
    "requests": ("Directory requests", ("cpu_us", "rps"), "CPU us per request; requests/s"),
    "idle": ("Idle connections", ("kb_per_connection",), "kB of resident memory each"),
    "durable": ("Durable changes", ("rps",), "makeroom/s, on disk before the answer"),
    "getdir": ("A large directory", ("cpu_ms",), "ms of server CPU for 100,000 rooms"),
    "startup": ("Start and memory", ("ms", "mb"), "ms of wall time; MB over an empty package"),
    "chat": ("A message at its ends", ("us",), "us of CPU"),
    "fanout": ("A message to one host", ("cpu_us",), "us of CPU of the sending side"),
    "lag": ("What a ping waits", ("max_ms",), "ms, at most, while others load the server"),
    "micro": ("The pure cores", ("us",), "us"),
}


def section(results: Row) -> str:
    """The text between the markers."""
    python, machine = results["python"], results["machine"]
    parts = [
        "How to repeat it: `python3 -m bench` (or `make bench`; under ten minutes; one section:",
        "`python3 -m bench requests`), then `python3 -m bench readme`. All figures are in",
        "[bench/results.json](bench/results.json), with ranges, dates and commits; what they mean",
        "is in each section's head in [bench/sections](bench/sections). Servers take turns on one",
        "core, the load has another; medians are shown.",
        "",
        f"Measured on {machine['cpu']}, {machine['cores']} cores"
        f"{' (a virtual machine)' if machine['virtual'] else ''}, Linux {machine['kernel']}, with "
        f"CPython {python['version']} ({python['compiler']}).",
        "Compare ratios, never bare times: another interpreter build alone makes a third.",
        "",
        *_goals(results["sections"]),
    ]
    for name, part in results["sections"].items():
        parts += _section(name, part)
    return "\n".join(parts).rstrip() + "\n"


def _goals(sections: Row) -> list[str]:
    lines = ["| | goal | measured | wanted | |", "|---|---|---|---|---|"]
    rows = [row for part in sections.values() for row in part["goals"]]
    for row in sorted(rows, key=lambda row: str(row["goal"]).rjust(4)):
        word = {True: "reached", False: "**not reached**", None: "not measured here"}[row["met"]]
        value = "-" if row["value"] is None else _figure(row["value"])
        wanted = f"{row['op'].replace('<=', '≤').replace('>=', '≥')} {_figure(row['limit'])}"
        lines.append(f"| {row['goal']} | {row['what']} | {value} | {wanted} | {word} |")
    return [*lines, ""]


def _section(name: str, part: Row) -> list[str]:
    lines: list[str] = []
    for plot in part["plots"]:
        lines.append(f"![{plot}](bench/plots/{plot}.svg)")
    if name in TABLES:
        heading, figures, unit = TABLES[name]
        lines = [f"### {heading}", "", *lines, "", *_table(part["rows"], figures, unit)]
    elif lines:
        lines = [f"### {name.capitalize()}", "", *lines, ""]
    for what, why in part["missing"].items():
        lines.append(f"- {what}: not here ({why.splitlines()[-1][:160]})")
    if part["missing"]:
        lines.append("")
    return lines


def _table(rows: list[Row], figures: tuple[str, ...], unit: str) -> list[str]:
    kept = [row for row in rows if any(figure in row for figure in figures)]
    lines = [f"<details><summary>Figures ({unit})</summary>", ""]
    lines += ["| what | load | " + " | ".join(figures) + " |", "|---|---|" + "---|" * len(figures)]
    for row in kept:
        cells = [_cell(row.get(figure)) for figure in figures]
        lines.append(f"| {row['server']} | {row['load']} | " + " | ".join(cells) + " |")
    return [*lines, "", "</details>", ""]


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return f"{_figure(value['median'])} ({_figure(value['low'])} - {_figure(value['high'])})"
    return "" if value is None else _figure(value)


def _figure(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def replaced(readme: str, text: str) -> str:
    """`readme` with `text` between its markers; ValueError when it has none."""
    head, begin, rest = readme.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"README.md has no {BEGIN} ... {END}")
    return f"{head}{BEGIN}\n{text}{END}{tail}"


def write() -> int:
    """Rewrite README's section; the exit status."""
    try:
        new = replaced(README.read_text(), section(json.loads(RESULTS.read_text())))
    except (OSError, ValueError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    README.write_text(new)
    return 0
