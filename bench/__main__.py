"""`python3 -m bench [SECTION ...]`: measure; `page`: write the figures into docs/performance.md;
`baseline`: keep the micro-benchmarks of now as the figures to compare with. See `--help`."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from bench.harness import common, judging, machine
from bench.report import page

HERE = Path(__file__).resolve().parent
SECTIONS = {  # in the page's order; seconds after which no more rounds begin
    "requests": 75.0,
    "idle": 50.0,
    "durable": 20.0,
    "getdir": 20.0,
    "startup": 15.0,
    "chat": 70.0,
    "fanout": 45.0,
    "relayed": 45.0,
    "growth": 80.0,
    "lag": 50.0,
    "micro": 20.0,
    "sealed": 10.0,
}
ALONE = {"crowd": 600.0}  # only when it is named: 500 clients are a load of their own
QUICK = ("startup", "durable", "requests", "chat")  # what a reader has 90 seconds for
QUICK_S = 60.0  # a section that would begin later is left out
QUIET_WAIT_S = 45.0
QUICK_ROUNDS, QUICK_WAIT_S = 3, 6.0


def main() -> int:
    options = parse()
    words = options.what or list(QUICK if options.quick else SECTIONS)
    if words == ["page"]:
        return page.write()
    if words == ["baseline"]:
        return _keep_baseline()
    python = machine.describe_python(options.python) if options.python else machine.choose_python()
    quiet = machine.Quiet(QUICK_WAIT_S if options.quick else options.quiet_wait)
    rounds = QUICK_ROUNDS if options.quick else options.rounds
    context = common.Context(python, quiet, rounds=rounds, quick=options.quick)
    begin = time.monotonic()
    print(f"bench: {python['version']} {python['executable']}", file=sys.stderr)
    common.load_core_is_ours()
    failed = 0
    try:
        for name in words:
            if options.quick and time.monotonic() - begin > QUICK_S:
                print(f"bench: {name}: left out, the time is over", file=sys.stderr)
                continue
            failed += not _run_section(name, context, options.results)
    finally:
        context.close()
    print(f"bench: {time.monotonic() - begin:.0f} s in all", file=sys.stderr)
    return 1 if failed else 0


def parse(words: list[str] | None = None) -> argparse.Namespace:
    """`results` is None where nothing is to be stored."""
    parser = argparse.ArgumentParser(prog="python3 -m bench", description=__doc__)
    parser.add_argument(
        "what", nargs="*", choices=[*SECTIONS, *ALONE, "page", "baseline", []], metavar="SECTION",
        help="sections (default: all): " + " ".join(SECTIONS) + "; "
        + " ".join(ALONE) + " only when named; or page, or baseline",
    )  # fmt: skip
    parser.add_argument("--python", help="the interpreter to measure on (default: the faster one)")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds (default 5)")
    parser.add_argument(
        "--quick", action="store_true",
        help="90 seconds: " + ", ".join(QUICK) + ", three short rounds each; nothing is stored",
    )  # fmt: skip
    parser.add_argument(
        "--quiet-wait",
        type=float,
        default=QUIET_WAIT_S,
        help="seconds in all to wait for a quiet machine",
    )
    parser.add_argument(
        "--results", type=Path, help="where to write; plots go beside it (default: the checkout's)"
    )
    options = parser.parse_args(words)
    if options.results is None and not options.quick:
        options.results = page.RESULTS
    return options


def _run_section(name: str, context: common.Context, results: Path | None) -> bool:
    section = importlib.import_module(f"bench.sections.{name}")
    context.missing = {k: v for k, v in context.missing.items() if k == "load"}
    waits, noisy = context.quiet.waits, context.quiet.noisy
    begin = time.monotonic()
    seconds = SECTIONS.get(name) or ALONE[name]
    context.begin(seconds / 2 if context.quick else seconds)
    print(f"bench: {name} ...", file=sys.stderr, flush=True)
    try:
        result: dict[str, Any] = section.run(context)
    except Exception:  # noqa: BLE001 - one section must not cost the others; it is shown, and told
        traceback.print_exc()
        return False
    plots = result.pop("plots", {})
    result["plots"] = sorted(plots)
    result["missing"] = dict(context.missing)
    result["when"] = time.strftime("%Y-%m-%dT%H:%MZ", time.gmtime())
    result["commit"] = common.git_commit()
    result["seconds"] = round(time.monotonic() - begin, 1)
    result["waits"] = context.quiet.waits - waits
    result["noisy_waits"] = context.quiet.noisy - noisy
    if 2 * result["noisy_waits"] > result["waits"]:
        result["goals"] = [judging.on_a_busy_machine(goal) for goal in result["goals"]]
    if results is not None:
        _draw(plots, results.parent / "plots")
        _store(name, result, context, results)
    for goal in result["goals"]:
        print("  " + judging.line(goal), file=sys.stderr)
    for what, why in context.missing.items():
        print(f"  missing: {what}: {why}", file=sys.stderr)
    print(f"bench: {name} took {result['seconds']} s", file=sys.stderr, flush=True)
    return True


def _draw(plots: dict[str, str], shown: Path) -> None:
    shown.mkdir(exist_ok=True)
    for plot, text in plots.items():
        (shown / f"{plot}.svg").write_text(text)


def _store(name: str, result: dict[str, Any], context: common.Context, results: Path) -> None:
    """Merge a section into the file: sections can be run alone."""
    whole: dict[str, Any] = {"sections": {}}
    if results.exists():
        whole = json.loads(results.read_text())
    whole["machine"] = machine.describe_machine()
    result["python"] = context.python_facts["version"]
    whole["python"] = context.python_facts
    whole["sections"][name] = result
    order = {key: whole["sections"][key] for key in (*SECTIONS, *ALONE) if key in whole["sections"]}
    whole["sections"] = order
    results.write_text(json.dumps(whole, indent=1) + "\n")


def _keep_baseline() -> int:
    whole = json.loads(page.RESULTS.read_text())
    kept = {"python": whole["python"], "rows": whole["sections"]["micro"]["rows"]}
    (HERE / "results" / "baseline.json").write_text(json.dumps(kept, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
