"""Figures: what is counted is told, in both forms, and the file is never half written."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evloop.daemon.limits import METRIC_KINDS_MAX, METRICS_EVERY_S
from evloop.daemon.metrics import (
    COUNTERS,
    GAUGES,
    LAG_BOUNDS_S,
    Metrics,
    open_descriptors,
    publish,
    resident_bytes,
)
from evloop.system.log import INFO, Log
from evloop.system.loop import Loop


def metrics() -> Metrics:
    return Metrics(lambda: {"clients": 17, "rooms": 3, "uptime_seconds": 1.5})


SAMPLE = re.compile(r'evloop_([a-z_]+)(?:\{([a-z]+)="([^"]*)"\})? (\S+)')


def samples(text: str) -> dict[tuple[str, str], float]:
    """Name and label value -> value; every line must be of the format, every name described."""
    found: dict[tuple[str, str], float] = {}
    types: dict[str, str] = {}
    helped = set()
    assert text.endswith("\n")
    for line in text.splitlines():
        if line.startswith("# HELP evloop_"):
            helped.add(line.split()[2])
            continue
        if line.startswith("# TYPE evloop_"):
            _, _, name, kind = line.split()
            assert name in helped
            types[name] = kind
            continue
        match = SAMPLE.fullmatch(line)
        assert match, line
        name = "evloop_" + match[1]
        assert name in types or re.sub("_(bucket|sum|count)$", "", name) in types
        key = (match[1], match[3] or "")
        assert key not in found, "a sample twice"
        found[key] = float(match[4])
    return found


def test_the_text_is_what_was_counted() -> None:
    it = metrics()
    it.count("frames", 5)
    it.count_kind("rejects", "bad_name")
    it.count_kind("rejects", "bad_name")
    it.count_kind("requests", "getdir")
    found = samples(it.text())
    assert found["clients", ""] == 17
    assert found["uptime_seconds", ""] == 1.5
    assert found["frames_total", ""] == 5
    assert found["rejects_total", "bad_name"] == 2
    assert found["requests_total", "getdir"] == 1
    assert found["commits_total", ""] == 0, "a counter is there before it counts"
    assert found["resident_bytes", ""] > 1_000_000


def test_the_figures_are_the_same_and_fit_json() -> None:
    it = metrics()
    it.count("frames", 5)
    it.count_kind("rejects", "bad_name")
    it.observe_lag(0.003)
    figures = json.loads(json.dumps(it.figures()))
    assert figures["clients"] == 17
    assert figures["frames"] == 5
    assert figures["rejects"] == {"bad_name": 1}
    assert figures["lag"]["ticks"] == 1
    assert figures["lag"]["worst"] == 0.003
    assert figures["lag"]["over"]["0.0025"] == 1
    assert figures["lag"]["over"]["0.005"] == 0
    assert set(COUNTERS) < set(figures)


def test_the_disks_share_is_told_apart() -> None:
    it = metrics()
    for sync, tick in ((0.0005, 0.0007), (0.0, 0.015), (0.018, 0.02), (0.004, 0.017)):
        it.observe_sync(sync)
        it.observe_lag(tick)
    it.observe_lag(0.0142)  # no sync in this one: that of the tick before is not its own
    lag = it.figures()["lag"]
    assert isinstance(lag, dict)
    assert (lag["worst"], lag["worst_sync"], lag["worst_own"]) == (0.02, 0.018, 0.015)
    assert it.flat()["longest_tick_sync_us"] == 18_000


@given(st.lists(st.floats(0, 20)))
def test_the_histogram_is_cumulative(lags: list[float]) -> None:
    it = metrics()
    for lag in lags:
        it.observe_lag(lag)
    found = samples(it.text())
    for bound in LAG_BOUNDS_S:
        at_most = sum(lag <= bound for lag in lags)
        assert found["loop_lag_seconds_bucket", f"{bound:g}"] == at_most
    assert found["loop_lag_seconds_bucket", "+Inf"] == len(lags)
    assert found["loop_lag_seconds_count", ""] == len(lags)
    assert found["loop_lag_seconds_sum", ""] == pytest.approx(sum(lags))


def test_kinds_are_bounded() -> None:
    it = metrics()
    for n in range(10 * METRIC_KINDS_MAX):
        it.count_kind("rejects", f"reason_{n}")
    rejects = it.figures()["rejects"]
    assert isinstance(rejects, dict)
    assert len(rejects) == METRIC_KINDS_MAX + 1
    assert sum(rejects.values()) == 10 * METRIC_KINDS_MAX


def test_the_process_is_measured() -> None:
    before = open_descriptors()
    reading, writing = os.pipe()
    assert open_descriptors() == before + 2
    os.close(reading)
    os.close(writing)
    assert 1_000_000 < resident_bytes() < 1 << 32


def test_publishing_goes_on_after_a_failure(tmp_path: Path) -> None:
    now = 100.0
    lines: list[str] = []
    log = Log(lines.append, level=INFO, journal=True, wall=lambda: 0.0, clock=lambda: now)
    folder = tmp_path / "later"
    loop = Loop(clock=lambda: now)
    try:
        publish(loop, log, str(folder / "evloop.prom"), metrics())
        assert len(lines) == 1 and "No such file" in lines[0]
        folder.mkdir()
        now += METRICS_EVERY_S
        loop.defer(lambda: None)  # so that the tick does not wait
        loop.tick()
        assert ("clients", "") in samples((folder / "evloop.prom").read_text())
    finally:
        loop.close()
    assert len(lines) == 1


def test_every_gauge_that_may_be_handed_in_is_described() -> None:
    it = Metrics(lambda: dict.fromkeys(GAUGES, 1.0))
    assert {name for name, _ in samples(it.text())} >= set(GAUGES)
