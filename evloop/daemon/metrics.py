"""Figures for watching a server: plain ints, counted where things happen.

A counter only grows, a gauge is asked for when somebody looks. Two ways to look: `figures` for the
`stats` method and the console, `text` in the Prometheus text format (version 0.0.4) for
node_exporter's textfile collector. Everything is called evloop_*: that collector refuses a file
which repeats its own process_* names.
"""

from __future__ import annotations

import os
from bisect import bisect_left

from evloop.daemon.limits import METRIC_KINDS_MAX, METRICS_EVERY_S
from evloop.system.files import write_atomically

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from evloop.system.log import Log
    from evloop.system.loop import Loop

# Counters: name -> (the name of its label or "", help). `readings` may hold some of them too.
COUNTERS = {
    "connections": ("", "Connections accepted."),
    "connections_refused": ("", "Connections refused because of a limit."),
    "connections_broken": ("why", "Connections ended for a fault of the peer."),
    "frames": ("", "Frames received."),
    "requests": ("method", "Requests, by method."),
    "rejects": ("reason", "Error replies, by reason."),
    "notifications": ("", "Changes told to watchers, once for each watcher."),
    "commits": ("", "Commits of the store."),
    "commits_failed": ("", "Commits that the store did not take."),
    "accept_pauses": ("", "Times that the system had no descriptor for a new connection."),
    "relay_datagrams": ("way", "Datagrams relayed: from members, and to members, to each."),
    "relay_drops": ("why", "Datagrams that were not relayed, by reason."),
    "keeper_stored": ("", "Messages of kept rooms that were written to the disk."),
    "keeper_failures": ("", "Times that the keeper's file could not be used."),
    "bridge_dropped": ("why", "Datagrams that were not carried between sites, by reason."),
    "mdns_drops": ("why", "Datagrams of multicast DNS that were dropped, or could not be sent."),
}
# Gauges: name -> help. Those of the server are handed in, those of the process are read here.
GAUGES = {
    "clients": "Connections open now.",
    "rooms": "Rooms in the directory.",
    "watchers": "Connections that watch the directory.",
    "directory_version": "Version of the directory.",
    "queued_bytes": "Bytes that wait to be sent, of all connections.",
    "relay_members": "Connections in rooms that the relay carries for them.",
    "relay_rooms": "Rooms of which the relay knows members.",
    "keeper_rooms": "Rooms in which the keeper is now.",
    "keeper_messages": "Messages that the keeper's file holds.",
    "keeper_bytes": "Bytes that they take on the disk.",
    "uptime_seconds": "Seconds since the server was ready.",
    "resident_bytes": "Resident memory of the process.",
    "open_descriptors": "Open file descriptors of the process.",
}
# Of one of several servers; others have none of these.
CLUSTER_GAUGES = {
    "cluster_live": "Whether etcd answers.",
    "cluster_away_seconds": "Seconds since it did.",
    "bridge_rooms": "Rooms that this server carries between sites.",
}
CLUSTER_COUNTERS = {
    "changes_unknown": "Changes to which no answer came at first.",
    "fences": "Times that this server took up its place among the others.",
    "resyncs": "Times that it had to read the whole directory anew.",
    "bridge_in": "Datagrams of other sites that went to a group here.",
    "bridge_out": "Datagrams of groups here that went to other sites.",
}
# Upper bounds in seconds. A tick should take less than 5 ms; one of 100 ms is a fault.
LAG_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)


class Metrics:
    """The counters of one server.

    `readings` returns the gauges, and those counters that are kept elsewhere.
    """

    __slots__ = (
        "_counts",
        "_labelled",
        "_lag",
        "_lag_sum",
        "_lag_worst",
        "_lag_worst_own",
        "_lag_worst_sync",
        "_sync",
        "readings",
    )

    def __init__(self, readings: Callable[[], dict[str, float]]) -> None:
        self.readings = readings
        self._counts = {name: 0 for name, (label, _) in COUNTERS.items() if not label}
        self._labelled: dict[str, dict[str, int]] = {
            name: {} for name, (label, _) in COUNTERS.items() if label
        }
        self._lag = [0] * (len(LAG_BOUNDS_S) + 1)  # the last one: beyond every bound
        self._lag_sum = 0.0
        self._lag_worst = 0.0
        self._lag_worst_sync = 0.0  # how much of that was the disk's
        self._lag_worst_own = 0.0  # of any tick, without what was the disk's in it
        self._sync = 0.0  # seconds that this tick has waited for the disk

    def count(self, name: str, amount: int = 1) -> None:
        """Add to a counter without label."""
        self._counts[name] += amount

    def count_kind(self, name: str, kind: str) -> None:
        """Add one to the counter `name` for `kind`, a name of ours and never a peer's text."""
        kinds = self._labelled[name]
        if kind not in kinds and len(kinds) >= METRIC_KINDS_MAX:
            kind = "other"
        kinds[kind] = kinds.get(kind, 0) + 1

    def kinds(self, name: str, known: Iterable[str]) -> dict[str, int]:
        """The counts of a labelled counter by kind, for a hot path that counts by itself."""
        kinds = self._labelled[name]
        kinds.update(dict.fromkeys(known, 0))
        return kinds

    def observe_sync(self, seconds: float) -> None:
        """In this tick the disk took `seconds` to store what was changed."""
        self._sync += seconds

    def observe_lag(self, seconds: float) -> None:
        """One tick kept everybody waiting for `seconds`."""
        self._lag_sum += seconds
        sync = self._sync
        if sync:
            self._sync = 0.0
        if seconds <= LAG_BOUNDS_S[0]:  # nearly all of them, and each request may be a tick
            self._lag[0] += 1
            return
        self._lag[bisect_left(LAG_BOUNDS_S, seconds)] += 1
        if seconds > self._lag_worst:
            self._lag_worst, self._lag_worst_sync = seconds, sync
        if seconds - sync > self._lag_worst_own:
            self._lag_worst_own = seconds - sync

    def _numbers(self) -> dict[str, float]:
        return {
            **self._counts,
            **self.readings(),
            "resident_bytes": resident_bytes(),
            "open_descriptors": open_descriptors(),
        }

    def figures(self) -> dict[str, object]:
        """Everything as values of JSON."""
        over = dict.fromkeys((f"{bound:g}" for bound in LAG_BOUNDS_S), 0)
        beyond = 0
        for bound, ticks in zip(reversed(LAG_BOUNDS_S), reversed(self._lag[1:])):
            beyond += ticks
            over[f"{bound:g}"] = beyond
        lag = {
            "ticks": sum(self._lag),
            "seconds": round(self._lag_sum, 6),
            "worst": round(self._lag_worst, 6),
            "worst_sync": round(self._lag_worst_sync, 6),
            "worst_own": round(self._lag_worst_own, 6),
            "over": over,
        }
        labelled = {name: dict(kinds) for name, kinds in self._labelled.items()}
        return {**self._numbers(), **labelled, "lag": lag}

    def flat(self) -> dict[str, int]:
        """The same for a person, in whole numbers; times in microseconds."""
        numbers = {name: int(value) for name, value in self._numbers().items()}
        for name, kinds in self._labelled.items():
            numbers.update((f"{name}_{kind}", count) for kind, count in kinds.items())
        numbers["ticks"] = sum(self._lag)
        numbers["longest_tick_us"] = int(self._lag_worst * 1e6)
        numbers["longest_tick_sync_us"] = int(self._lag_worst_sync * 1e6)
        return numbers

    def text(self) -> str:
        """Everything in the Prometheus text format."""
        lines: list[str] = []
        numbers = self._numbers()
        for name, words in {**GAUGES, **CLUSTER_GAUGES}.items():
            untold = name in _OF_PROC and not numbers[name]
            if name in numbers and not untold:
                _describe(lines, name, "gauge", words)
                lines.append(f"evloop_{name} {numbers[name]:.15g}")
        more = {name: ("", words) for name, words in CLUSTER_COUNTERS.items() if name in numbers}
        for name, (label, words) in {**COUNTERS, **more}.items():
            full = f"{name}_total"
            _describe(lines, full, "counter", words)
            if not label:
                lines.append(f"evloop_{full} {numbers[name]:.15g}")
                continue
            for kind, count in sorted(self._labelled[name].items()):
                lines.append(f'evloop_{full}{{{label}="{_escaped(kind)}"}} {count}')
        self._lag_text(lines)
        return "\n".join(lines) + "\n"

    def _lag_text(self, lines: list[str]) -> None:
        name = "loop_lag_seconds"
        _describe(lines, name, "histogram", "How long one tick of the loop kept others waiting.")
        below = 0
        for bound, ticks in zip(LAG_BOUNDS_S, self._lag):
            below += ticks
            lines.append(f'evloop_{name}_bucket{{le="{bound:g}"}} {below}')
        ticks = sum(self._lag)
        lines.append(f'evloop_{name}_bucket{{le="+Inf"}} {ticks}')
        lines.append(f"evloop_{name}_sum {self._lag_sum:.9g}")
        lines.append(f"evloop_{name}_count {ticks}")


def _describe(lines: list[str], name: str, kind: str, words: str) -> None:
    lines.append(f"# HELP evloop_{name} {words}")
    lines.append(f"# TYPE evloop_{name} {kind}")


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


# Only /proc tells these; in the text they are left out where it does not.
_OF_PROC = ("resident_bytes", "open_descriptors")


def resident_bytes() -> int:
    """Resident memory of this process, 0 where /proc does not tell."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return 0


def open_descriptors() -> int:
    """Open descriptors of this process, 0 where /proc does not tell."""
    try:
        # Linux 6.2 and newer tell it as the size; listing ten thousand of them takes a while.
        return os.stat("/proc/self/fd").st_size or len(os.listdir("/proc/self/fd")) - 1
    except OSError:
        return 0


def publish(loop: Loop, log: Log, path: str, metrics: Metrics) -> None:
    """Write the file now and every METRICS_EVERY_S; a failure is logged, and tried again."""
    loop.call_at(loop.now + METRICS_EVERY_S, lambda: publish(loop, log, path, metrics))
    try:
        # Read by another program's user, whatever our umask; old figures are no loss.
        write_atomically(path, metrics.text().encode(), mode=0o644, durable=False)
    except OSError as error:
        log.warning("metrics not written", file=path, why=error.strerror or str(error))
