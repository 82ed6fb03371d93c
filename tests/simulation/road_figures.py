"""Rooms by their roads: how late a message is and what it costs, against loss.

    python3 -m tests.simulation.road_figures --jobs 2

Ten members talk. In `group` all hear each other; in `relay` none does, and the directory carries
the room; in `mixed` five are of the one kind and five of the other. Loss is that of each receiver
in the group, of the directory's own ears there, and of each segment of the way to the directory,
where TCP sends it again. The clients have found their roads before anything is measured. Table and
plot go into docs/ (`reliability.md`, `roads.svg`), and `roads-figures.json` beside them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from math import ceil
from pathlib import Path
from random import Random
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from evloop.room.roads import FULL, OFF
from tests.simulation import plot
from tests.simulation.figures import spelt
from tests.simulation.parallel import parallel
from tests.simulation.roads import ISOLATED, SOUND, RoadWorld
from tests.simulation.wires import Line
from tests.simulation.world import DATA, NACK, REPAIR, SESSION, UNICAST
from tests.support.pairs import both

DOCS = Path(__file__).parents[2] / "docs"
FIGURES, PAGE, PICTURE = DOCS / "roads-figures.json", DOCS / "reliability.md", DOCS / "roads.svg"
BEGIN, END = "<!-- roads begin: made by tests.simulation.road_figures -->", "<!-- roads end -->"

MEMBERS = 10
RATE = 5.0  # messages a second in the whole room
FOUND_S = 300.0  # by then each is on its road
WAY_S = 0.005  # from a client to its directory
LOSSES = (0.0, 0.05, 0.1, 0.2, 0.3)
SHOWN = (0.0, 0.05, 0.3)  # in the table
ROOMS = {
    "group": [SOUND] * MEMBERS,
    "relay": [ISOLATED] * MEMBERS,
    "mixed": [SOUND, ISOLATED] * (MEMBERS // 2),
}
COLOURS = {"group": plot.BLUE, "relay": plot.ORANGE, "mixed": plot.GREEN}


if TYPE_CHECKING:
    Measured = dict[str, list[dict[str, float]]]  # by cell, a run each


class Cell(NamedTuple):
    """One run."""

    room: str
    loss: float
    seed: int
    messages: int = 250


def measure(cell: Cell) -> dict[str, float]:
    """What one run has shown; `down` are bytes that the directory sends to all members."""
    world, script = RoadWorld(cell.seed), Random(f"roads {cell.seed}")
    server = world.open_server()
    server.loss = cell.loss
    line = Line(WAY_S, 1_000_000.0, cell.loss)
    members = []
    for number, place in enumerate(ROOMS[cell.room]):
        members.append(world.move_in(f"m{number}", place, line, 0, loss=cell.loss))
        world.run(world.now + 0.2)
    roads = [OFF if place == SOUND else FULL for place in ROOMS[cell.room]]
    while [carrier.transport.roads.state for carrier in world.carriers] != roads:
        assert world.now < FOUND_S, "each has found its road"
        world.run(world.now + 1.0)
    warmup = 100
    world.oracle.measure_from = warmup
    for number in range(warmup + cell.messages):
        if number == warmup:
            before, size, down = list(world.sent), world.sent_bytes, server.down_bytes
        world.run(world.now + script.expovariate(RATE))
        assert world.say(script.choice(members), f"message {number}")
    world.run(world.now + 1 / RATE)
    sent = [(after - start) / cell.messages for after, start in both(world.sent, before)]
    size, down = world.sent_bytes - size, server.down_bytes - down
    until = world.now + 60
    while not world.oracle.complete() and world.now < until:
        world.run(world.now + 0.1)
    latencies = sorted(world.oracle.latencies)
    return {
        "undelivered": world.oracle.undelivered(),
        "p50_ms": 1_000 * latencies[ceil(0.5 * len(latencies)) - 1],
        "p99_ms": 1_000 * latencies[ceil(0.99 * len(latencies)) - 1],
        "data": sent[DATA],
        "repair": sent[REPAIR] + sent[UNICAST],
        "nack": sent[NACK],
        "session": sent[SESSION],
        "bytes": size / cell.messages,
        "down": down / cell.messages,
    }


def _name(room: str, loss: float) -> str:
    return f"{room} {loss}"


def measure_all(seeds: int, jobs: int) -> Measured:
    """Every cell with so many seeds, by its name."""
    cells = [
        Cell(room, loss, seed) for room in ROOMS for loss in LOSSES for seed in range(1, seeds + 1)
    ]
    measured: Measured = {}
    for cell, found in both(cells, parallel(measure, cells, jobs)):
        shown = {key: round(value, 3) for key, value in found.items()}
        measured.setdefault(_name(cell.room, cell.loss), []).append(shown)
        print(f"{cell}: {shown}", file=sys.stderr, flush=True)
    return measured


def _spelt(values: list[float]) -> str:
    """The median, and in brackets the worst."""

    return f"{spelt(median(values))} ({spelt(max(values))})"


def table(measured: Measured, commit: str) -> str:
    """The rows of the page."""
    keys = ("p50_ms", "p99_ms", "data", "repair", "nack", "session", "bytes", "down")
    lines = [
        "| room | loss | undelivered | p50 ms | p99 ms | D | R | N | S | B | sent down |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for room in ROOMS:
        for loss in SHOWN:
            runs = measured[_name(room, loss)]
            columns = [room, f"{100 * loss:.0f} %", f"{sum(it['undelivered'] for it in runs):.0f}"]
            columns += [_spelt([it[key] for it in runs]) for key in keys]
            lines.append("| " + " | ".join(columns) + " |")
    seeds = len(measured[_name("group", 0.0)])
    lines += ["", f"Commit {commit}, {seeds} seeds."]
    return "\n".join(lines)


def picture(measured: Measured) -> str:
    """docs/roads.svg."""
    across = plot.Axis("loss at each receiver, percent (10 members)", [0, 10, 20, 30])

    def series(key: str) -> list[plot.Series]:
        found = []
        for room in ROOMS:
            values = [
                (100 * loss, [it[key] for it in measured[_name(room, loss)]]) for loss in LOSSES
            ]
            points = [(x, median(seen)) for x, seen in values]
            bars = [(x, min(seen), max(seen)) for x, seen in values]
            found.append(plot.Series(room, COLOURS[room], points, bars=bars))
        return found

    def panel(title: str, up: str, key: str, unit: float) -> plot.Panel:
        lines = series(key)
        top = max(high for line in lines for _, _, high in line.bars)
        ticks = [unit * step for step in range(ceil(top / unit) + 1)]
        return plot.Panel(title, across, plot.Axis(up, ticks), lines)

    return plot.draw(
        "A room by its roads: the group, the relay, and both",
        [
            panel("99 of 100 lines are there after", "milliseconds", "p99_ms", 100),
            panel("Bytes that members send a message", "bytes", "bytes", 500),
        ],
    )


def main() -> int:
    """Measure, or only draw."""
    parser = argparse.ArgumentParser(prog="python3 -m tests.simulation.road_figures")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--seeds", type=int, default=5, help="of each cell")
    parser.add_argument("--draw", action="store_true", help="from the JSON, without measuring")
    options = parser.parse_args()
    if not options.draw:
        git = ["git", "rev-parse", "--short", "HEAD"]
        commit = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
        told = {"commit": commit, "runs": measure_all(options.seeds, options.jobs)}
        FIGURES.write_text(json.dumps(told, indent=1, sort_keys=True) + "\n")
    kept = json.loads(FIGURES.read_text())
    page = PAGE.read_text()
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    PAGE.write_text(f"{head}{BEGIN}\n{table(kept['runs'], kept['commit'])}\n{END}{tail}")
    PICTURE.write_text(picture(kept["runs"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
