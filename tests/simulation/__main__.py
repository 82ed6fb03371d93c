"""The command line of the simulator; `--help` explains it."""

from __future__ import annotations

import argparse
import sys

from tests.simulation import adversary, roadswarm, sites, swarm
from tests.simulation.oracle import Violation
from tests.simulation.parallel import parallel
from tests.simulation.room import Result, Setting, measure

STRANGE_SHARE = 1 / 1_000  # of the days: so rarely a message of nobody may go astray


def arguments() -> argparse.ArgumentParser:
    """The command line, as a parser."""
    parser = argparse.ArgumentParser(
        prog="python3 -m tests.simulation",
        description="Deterministic simulator of the reliable room: the same seed is the same run.",
    )
    add = parser.add_argument
    add("--members", type=int, default=50, metavar="N")
    add("--loss", type=float, default=0.3, metavar="P", help="of each receiver, independent")
    add("--messages", type=int, default=1_000, help="that are measured")
    add("--seed", type=int, default=1, help="of the run, or the first of several")
    add("--seeds", type=int, default=1, metavar="COUNT", help="so many runs, a line each")
    add("--rate", type=float, default=5.0, help="messages a second in the whole room")
    add("--warmup", type=int, default=100, help="messages before the measured ones")
    add("--talkers", type=int, default=0, help="how many members talk (0: all)")
    add("--join", type=float, default=2.0, metavar="S", help="members join over so long")
    add("--burst", type=float, default=0.0, metavar="S", help="deaf for so long, 30 %% of the time")
    add("--late", action="store_true", help="one joins when all is said; heal_s: until it has all")
    add("--partition", action="store_true", help="halves cannot hear each other during the talk")
    add("--prime", action="store_true", help="hand p and N in (large rooms)")
    add("--sealed", action="store_true", help="the room has a key; strangers have none")
    add("--idle", type=float, default=0.0, metavar="S", help="measure the silent room for so long")
    add("--swarm", type=int, default=0, metavar="COUNT", help="so many bad days, from --seed on")
    add("--roads", action="store_true", help="the days of --swarm have directories that relay")
    add("--sites", action="store_true", help="the room of --swarm is of sites, which bridges join")
    add("--adversary", type=int, default=0, metavar="COUNT", help="so many sieges, from --seed on")
    add("--plan", default="", help="one siege, by its plan as it was printed (12:3:7)")
    add("--search", type=int, default=0, metavar="STEPS", help="look for harm from --seed on")
    add("--jobs", type=int, default=1, help="processes")
    add("--trace", action="store_true", help="tell the story")
    add("--speed", action="store_true", help="append deliveries and seconds (not deterministic)")
    return parser


def _line(seed: int, result: Result, speed: bool) -> str:
    """One line of key=value."""
    milliseconds = {
        "p50_ms": result.quantile(0.50),
        "p99_ms": result.quantile(0.99),
        "max_ms": result.quantile(1.0),
    }
    parts = [f"undelivered={result.undelivered}"]
    parts += [f"{key}={1000 * value:.2f}" for key, value in milliseconds.items()]
    parts += [f"{key}={value:.3f}" for key, value in result.costs.items() if key != "bytes"]
    parts += [
        f"bytes={result.costs['bytes']:.0f}",
        f"minimum={result.minimum:.3f}",
        f"over={result.over:.3f}",
        f"lost={result.lost}",
    ]
    if result.heal_s >= 0:
        parts.append(f"heal_s={result.heal_s:.2f}")
    if result.idle_per_s >= 0:
        parts.append(f"idle_per_s={result.idle_per_s:.2f}")
    parts += [f"seed={seed}", f"trace={result.trace}"]
    if speed:
        pace = result.delivered / result.cpu_s
        parts.append(f"deliveries={result.delivered} cpu_s={result.cpu_s:.2f} per_s={pace:.0f}")
    return " ".join(parts)


def _measure(setting: Setting) -> tuple[Setting, Result | str]:
    try:
        return setting, measure(setting)
    except Violation as violation:
        return setting, str(violation)


def _rooms(options: argparse.Namespace) -> int:
    given = {field: getattr(options, field) for field in Setting._fields}
    settings = [
        Setting(**{**given, "seed": options.seed + number}) for number in range(options.seeds)
    ]
    if options.trace:
        told = measure(settings[0], print)
        print(_line(options.seed, told, options.speed))
        return int(told.undelivered > 0)
    status = 0
    for setting, result in parallel(_measure, settings, options.jobs):
        if isinstance(result, str):
            print(f"seed={setting.seed} FAILED {result}", flush=True)
            status = 1
        else:
            print(_line(setting.seed, result, options.speed), flush=True)
            status |= result.undelivered > 0
    return status


def _swarm(options: argparse.Namespace) -> int:
    seeds = range(options.seed, options.seed + options.swarm)
    if options.roads:
        live = roadswarm.run_sealed_roads if options.sealed else roadswarm.run_roads
    elif options.sites:
        live = sites.run_sealed_sites if options.sealed else sites.run_sites
    else:
        live = swarm.run_sealed if options.sealed else swarm.run
    if options.trace:
        outcome = live(options.seed, print)
        print(outcome)
        return int(bool(outcome.failure))
    failed, slowest, orphans = 0, (-1.0, 0), 0
    strange: list[int] = []  # seeds in which a message of an invented member went astray
    for outcome in parallel(live, seeds, options.jobs):
        if outcome.strange:
            strange.append(outcome.seed)
        if outcome.failure:
            failed += 1
            print(
                f"seed={outcome.seed} FAILED {outcome.failure}\n"
                f"  python3 -m tests.simulation --swarm 1 --seed {outcome.seed} --trace"
                + " --sealed" * options.sealed
                + " --roads" * options.roads
                + " --sites" * options.sites,
                flush=True,
            )
        elif outcome.orphaned:
            orphans += 1
        else:
            slowest = max(slowest, (outcome.heal_s, outcome.seed))
    print(
        f"seeds={options.swarm} failed={failed} with_orphans={orphans}"
        f" slowest_heal_s={slowest[0]:.2f} slowest_seed={slowest[1]}"
        f" invented_astray={len(strange)} {strange}"
    )
    return int(failed > 0 or len(strange) > STRANGE_SHARE * max(options.swarm, 1_000))


def _sieges(options: argparse.Namespace) -> int:
    if options.plan or options.search:
        if options.search:
            outcome = adversary.search(options.seed, options.search, print)
        else:
            outcome = adversary.play(options.plan, print if options.trace else None)
        print(outcome)
        return int(bool(outcome.failure))
    failed, worst = 0, (-1.0, "")
    seeds = range(options.seed, options.seed + options.adversary)
    for outcome in parallel(adversary.play_seed, seeds, options.jobs):
        worst = max(worst, (outcome.harm, outcome.plan))
        if outcome.failure:
            failed += 1
            print(
                f"plan={outcome.plan} FAILED {outcome.failure}\n"
                f"  python3 -m tests.simulation --plan {outcome.plan} --trace",
                flush=True,
            )
    print(f"sieges={options.adversary} failed={failed} worst_harm={worst[0]:.2f} plan={worst[1]}")
    return int(failed > 0)


def main() -> int:
    """Run what the command line asks for; 1 when anything was lost or failed."""
    options = arguments().parse_args()
    if options.adversary or options.plan or options.search:
        return _sieges(options)
    return _swarm(options) if options.swarm else _rooms(options)


if __name__ == "__main__":
    sys.exit(main())
