"""The pure cores alone: time by pyperf, instructions by callgrind, both against the baseline.

Instruction counts do not depend on the noise of the machine. They are compared with the baseline of
the same interpreter build only, and they are a report, not a gate.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

from bench.harness import build, machine
from bench.harness.common import Context, Row
from bench.harness.cores import CASES, COUNTED
from bench.harness.processes import (
    Failed,
    environment,
    pinned,
)

HERE = Path(__file__).resolve().parent.parent
BASELINE = HERE / "results" / "baseline.json"
TOTALS = re.compile(r"^totals: (\d+)", re.MULTILINE)
TIME_LIMIT_S = 240


def run(context: Context) -> Row:
    context.quiet.wait()
    times = _times(context)
    counts = _counts(context)
    before = _baseline(context)
    rows = []
    for name in CASES:
        row: Row = {"server": name, "load": "one step"}
        if name in times:
            row["us"] = times[name]
        if name in counts:
            row["instructions"] = counts[name]
        then = before.get(name, {})
        if name in counts and then.get("instructions"):
            row["instructions_against_baseline"] = round(counts[name] / then["instructions"], 3)
        if name in times and then.get("us"):
            row["us_against_baseline"] = round(times[name]["median"] / then["us"]["median"], 3)
        rows.append(row)
    return {"rows": rows, "goals": [], "plots": {}}


def _times(context: Context) -> dict[str, Row]:
    """Median and range (us) of pyperf's values."""
    try:
        python = build.with_package(context.python, "pyperf", "pyperf")
    except build.Missing as reason:
        context.missing["pyperf"] = str(reason)
        return {}
    out = context.files / "pyperf.json"
    out.unlink(missing_ok=True)
    command = [str(python), str(HERE / "harness" / "cores.py"), "--pyperf", "-q", "-o", str(out)]
    done = subprocess.run(
        command,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=TIME_LIMIT_S,
        preexec_fn=pinned(machine.cores()[0]),
        check=False,
    )
    if done.returncode:
        raise Failed(f"pyperf: {done.stderr.strip()[-300:]}")
    found = {}
    for benchmark in json.loads(out.read_text())["benchmarks"]:
        name = benchmark.get("metadata", {}).get("name", "")
        values = sorted(v * 1e6 for one in benchmark["runs"] for v in one.get("values", ()))
        middle = values[len(values) // 2]
        found[name] = {
            "median": round(middle, 3),
            "low": round(values[0], 3),
            "high": round(values[-1], 3),
            "runs": len(values),
        }
    return found


def _counts(context: Context) -> dict[str, int]:
    """Instructions of one step: callgrind dumps its counters wherever `cores` calls tzset."""
    if shutil.which("valgrind") is None:
        context.missing["callgrind"] = "no valgrind here"
        return {}
    out = context.files / "callgrind"
    done = subprocess.run(
        [
            *("valgrind", "--tool=callgrind", f"--callgrind-out-file={out}"),
            *("--dump-before=tzset", "--dump-line=no"),
            *(context.python, "-S", str(HERE / "harness" / "cores.py"), "--count"),
        ],
        env=environment({"PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}),
        capture_output=True,
        text=True,
        timeout=TIME_LIMIT_S,
        check=False,
    )
    if done.returncode:
        raise Failed(f"callgrind: {done.stderr.strip()[-300:]}")
    found = {}
    for number, name in enumerate(CASES):
        dump = Path(f"{out}.{2 * number + 2}").read_text()  # .1, .3, ... hold the preparations
        match = TOTALS.search(dump)
        if match is None:
            raise Failed(f"callgrind: no totals for {name}")
        found[name] = int(match.group(1)) // (COUNTED - 1)
    return found


def _baseline(context: Context) -> dict[str, Any]:
    """The committed figures, if they are of the same interpreter build."""
    if not BASELINE.exists():
        context.missing["baseline"] = "none is committed yet"
        return {}
    kept = json.loads(BASELINE.read_text())
    same = ("version", "build", "compiler")
    if any(kept["python"][key] != context.python_facts[key] for key in same):
        context.missing["baseline"] = f"it is of {kept['python']['version']}, another build"
        return {}
    return {row["server"]: row for row in kept["rows"]}
