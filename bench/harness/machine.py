"""What the figures were measured on, and with: cores, clocks, the interpreter, and quiet.

CPU time of another process is read from its POSIX CPU clock: nanoseconds, user and kernel
together, and (on kernels without IRQ_TIME_ACCOUNTING, where `softirq_charged` is true) the soft
interrupts that ran while it was on the processor, which on loopback is the receiving half of the
stack.
"""

from __future__ import annotations

import gzip
import json
import os
import platform
import subprocess
import sys
import time
from typing import Any

SYSTEM_PYTHON = "/usr/bin/python3"
BUSY_MAX = 0.10  # of a core, by others: above it the machine is not quiet
CLOCK_CPU = 2  # CPUCLOCK_SCHED in the kernel's encoding of a process's clock

_DESCRIBE = """
import json, platform, sys, sysconfig, time
def fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)
best = 9.0
for _ in range(15):
    begin = time.process_time()
    fib(20)
    best = min(best, time.process_time() - begin)
get = sysconfig.get_config_var
print(json.dumps({
    "executable": sys.executable, "version": platform.python_version(),
    "compiler": platform.python_compiler(), "build": list(platform.python_build()),
    "config_args": get("CONFIG_ARGS"), "cflags": get("PY_CFLAGS"), "opt": get("OPT"),
    "info": sys.version_info[:2], "calibration_ms": round(best * 1000, 3)}))
"""


def describe_python(path: str) -> dict[str, Any]:
    """Version, build flags (sysconfig) and a calibration loop's time of an interpreter."""
    text = subprocess.run(
        [path, "-S", "-c", _DESCRIBE], capture_output=True, text=True, check=True, timeout=20
    ).stdout
    described: dict[str, Any] = json.loads(text)
    described["executable"] = path
    return described


def choose_python() -> dict[str, Any]:
    """The system's interpreter where it is new enough and no slower than this one: distributions
    build theirs with profile and link-time optimisation, and do not say so in sysconfig."""
    own = describe_python(sys.executable)
    if not os.path.exists(SYSTEM_PYTHON):
        return own
    system = describe_python(SYSTEM_PYTHON)
    if tuple(system["info"]) < (3, 11):
        return own
    slower = float(system["calibration_ms"]) > 1.25 * float(own["calibration_ms"])
    return own if slower else system


def describe_machine() -> dict[str, Any]:
    """Cores, kernel, and how this kernel accounts soft interrupts."""
    model = "unknown"
    with open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    return {
        "cpu": model,
        "cores": len(_ALLOWED),
        "kernel": platform.release(),
        "virtual": _virtual(),
        "softirq_charged": not _kernel_option("CONFIG_IRQ_TIME_ACCOUNTING"),
        "rmem_max": int(_read("/proc/sys/net/core/rmem_max") or 0),
    }


def _virtual() -> bool:
    return " hypervisor" in _read("/proc/cpuinfo")


def _kernel_option(name: str) -> bool:
    try:
        with gzip.open("/proc/config.gz", "rt") as file:
            return f"{name}=y" in file.read()
    except OSError:
        return False


def _read(path: str) -> str:
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return ""


def available_mb() -> int:
    """Memory that programs may still take."""
    for line in _read("/proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) // 1024
    return 0


_ALLOWED = sorted(os.sched_getaffinity(0))  # before the bench has pinned itself


def cores() -> tuple[int, int]:
    """(server's core, load's core): two different ones where the machine has two."""
    return _ALLOWED[-1], _ALLOWED[0]


def cpu_ns(pid: int) -> int:
    """CPU time that process `pid` has used, user and kernel, in ns."""
    return time.clock_gettime_ns((~pid << 3) | CLOCK_CPU)


def user_and_kernel_s(pid: int) -> tuple[float, float]:
    """The same from /proc/PID/stat, apart, in ticks of 10 ms."""
    fields = _read(f"/proc/{pid}/stat").rsplit(")", 1)[1].split()
    tick = os.sysconf("SC_CLK_TCK")
    return int(fields[11]) / tick, int(fields[12]) / tick


def waited_ns(pid: int) -> int:
    """How long `pid` was ready but another had its core (schedstat's run delay)."""
    return int((_read(f"/proc/{pid}/schedstat") or "0 0 0").split()[1])


def status_field(pid: int, name: str) -> int:
    """A number from /proc/PID/status, as VmRSS (kB) or voluntary_ctxt_switches."""
    for line in _read(f"/proc/{pid}/status").splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1])
    raise KeyError(name)


def rss_kb(pid: int) -> int:
    """Resident memory."""
    return status_field(pid, "VmRSS")


def ksoftirqd_ns() -> int:
    """CPU time of the kernel's own soft interrupt threads: what was charged to nobody's process."""
    total = 0
    for entry in os.listdir("/proc"):
        if entry.isdigit() and _read(f"/proc/{entry}/comm").startswith("ksoftirqd/"):
            total += int((_read(f"/proc/{entry}/schedstat") or "0").split()[0])
    return total


def _busy_shares(seconds: float) -> list[float]:
    def counters() -> list[tuple[int, int]]:
        lines = [line.split() for line in _read("/proc/stat").splitlines()]
        rows = [[int(f) for f in line[1:]] for line in lines if line[0][3:].isdigit()]
        return [(sum(row[:8]), row[3] + row[4]) for row in rows]

    before = counters()
    time.sleep(seconds)
    shares = []
    for (total, idle), (total_then, idle_then) in zip(counters(), before):
        spent = total - total_then
        shares.append(1 - (idle - idle_then) / spent if spent else 0.0)
    return shares


class Quiet:
    """Waits for a quiet machine, but never longer than its budget in sum.

    `busiest` is the busiest core's share as last seen, `noisy` how often the wait was given up.
    """

    def __init__(self, budget_s: float) -> None:
        self._left_s = budget_s
        self.noisy = 0
        self.waits = 0
        self.busiest = 0.0

    def wait(self, at_most_s: float = 4.0) -> None:
        """Return when no core was busier than BUSY_MAX for a tenth of a second, or at the bound."""
        self.waits += 1
        deadline = time.monotonic() + min(at_most_s, self._left_s)
        begin = time.monotonic()
        while True:
            self.busiest = max(_busy_shares(0.1))
            if self.busiest <= BUSY_MAX:
                break
            if time.monotonic() >= deadline:
                self.noisy += 1
                break
        self._left_s -= max(0.0, time.monotonic() - begin - 0.1)
