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

from bench.harness import common, machine
from bench.report import page

HERE = Path(__file__).resolve().parent
SECTIONS = [  # in the page's order
    "requests",
    "idle",
    "durable",
    "getdir",
    "startup",
    "chat",
    "fanout",
    "relayed",
    "growth",
    "lag",
    "micro",
    "sealed",
]


def main() -> int:
    options = _parse()
    words = options.what or SECTIONS
    if words == ["page"]:
        return page.write()
    if words == ["baseline"]:
        return _keep_baseline()
    python = machine.describe_python(options.python) if options.python else machine.choose_python()
    quiet = machine.Quiet(options.quiet_wait)
    context = common.Context(python, quiet, rounds=options.rounds)
    print(f"bench: {python['version']} {python['executable']}", file=sys.stderr)
    common.load_core_is_ours()
    failed = 0
    try:
        for name in words:
            failed += not _run_section(name, context, options.results)
    finally:
        context.close()
    return 1 if failed else 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python3 -m bench", description=__doc__)
    parser.add_argument(
        "what", nargs="*", choices=[*SECTIONS, "page", "baseline", []], metavar="SECTION",
        help="sections (default: all): " + " ".join(SECTIONS) + "; or page, or baseline",
    )  # fmt: skip
    parser.add_argument("--python", help="the interpreter to measure on (default: the faster one)")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds (default 5)")
    parser.add_argument(
        "--quiet-wait", type=float, default=90.0, help="seconds in all to wait for a quiet machine"
    )
    parser.add_argument(
        "--results", type=Path, default=page.RESULTS, help="where to write; plots go beside it"
    )
    return parser.parse_args()


def _run_section(name: str, context: common.Context, results: Path) -> bool:
    section = importlib.import_module(f"bench.sections.{name}")
    context.missing = {k: v for k, v in context.missing.items() if k == "load"}
    waits, noisy = context.quiet.waits, context.quiet.noisy
    begin = time.monotonic()
    print(f"bench: {name} ...", file=sys.stderr, flush=True)
    try:
        result: dict[str, Any] = section.run(context)
    except Exception:  # noqa: BLE001 - one section must not cost the others; it is shown, and told
        traceback.print_exc()
        return False
    plots = result.pop("plots", {})
    shown = results.parent / "plots"
    shown.mkdir(exist_ok=True)
    for plot, text in plots.items():
        (shown / f"{plot}.svg").write_text(text)
    result["plots"] = sorted(plots)
    result["missing"] = dict(context.missing)
    result["when"] = time.strftime("%Y-%m-%dT%H:%MZ", time.gmtime())
    result["commit"] = common.git_commit()
    result["seconds"] = round(time.monotonic() - begin, 1)
    result["waits"] = context.quiet.waits - waits
    result["noisy_waits"] = context.quiet.noisy - noisy
    _store(name, result, context, results)
    for goal in result["goals"]:
        mark = {True: "met", False: "NOT MET", None: "not measured"}[goal["met"]]
        line = f"  goal {goal['goal']}: {goal['what']}: {goal['value']} {goal['op']}"
        print(f"{line} {goal['limit']}: {mark}", file=sys.stderr)
    for what, why in context.missing.items():
        print(f"  missing: {what}: {why}", file=sys.stderr)
    print(f"bench: {name} took {result['seconds']} s", file=sys.stderr, flush=True)
    return True


def _store(name: str, result: dict[str, Any], context: common.Context, results: Path) -> None:
    """Merge a section into the file: sections can be run alone."""
    whole: dict[str, Any] = {"sections": {}}
    if results.exists():
        whole = json.loads(results.read_text())
    whole["machine"] = machine.describe_machine()
    result["python"] = context.python_facts["version"]
    whole["python"] = context.python_facts
    whole["sections"][name] = result
    order = {key: whole["sections"][key] for key in SECTIONS if key in whole["sections"]}
    whole["sections"] = order
    results.write_text(json.dumps(whole, indent=1) + "\n")


def _keep_baseline() -> int:
    whole = json.loads(page.RESULTS.read_text())
    kept = {"python": whole["python"], "rows": whole["sections"]["micro"]["rows"]}
    (HERE / "results" / "baseline.json").write_text(json.dumps(kept, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
