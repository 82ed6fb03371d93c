"""How long it takes to find a directory and to be connected: `python3 -m tests.lab.find`.

One server and one client in namespaces on one switch. The client searches again and again in one
process, from nothing to `ready`; what is measured is what a person or a script waits for it.

    python3 -m tests.lab.find --runs 100 --loss 30

With `--cost`: what it costs a server to be found, in memory and in time before it listens.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import time
from pathlib import Path

from tests.lab.network import flat, missing
from tests.support.processes import Crew, Program, Server

ROOT = Path(__file__).parents[2]
SEARCHED = {"EVLOOP_INTERFACE": ""}  # else the tests' loopback is all that is searched
PAUSE_S = 0.03  # between two searches: a server answers 50 such questions a second


def search(runs: int, known: bool) -> None:
    """In the namespace of the client: prints the milliseconds of each run, null: nothing found."""
    from evloop.directory.browser import Browser, searched_links, target_of
    from evloop.directory.client import DirectoryClient
    from evloop.directory.discovery import KNOWN, NONE, STRANGER, TAKE, Found, choose
    from evloop.net.hub import Hub
    from evloop.system.loop import Loop

    standing = KNOWN if known else STRANGER

    def once() -> float | None:
        loop = Loop()
        hub = Hub(loop)
        loop.before_sleep(hub.flush)
        link = DirectoryClient(loop, hub, random.Random, "evloop-command/0", str)
        begun = time.monotonic()
        ended: list[float | None] = []

        def look(found: list[Found], over: bool) -> float:
            what, one, again = choose(found, lambda _: standing, loop.now, over=over, joins=False)
            if what == TAKE and one is not None:
                browser.close()
                link.connect_to([target_of(one, "")], done)
            elif what == NONE:
                browser.close()
                ended.append(None)
            return again

        def done(version: object, error: object) -> None:
            ended.append(None if error else (time.monotonic() - begun) * 1000)

        browser = Browser(loop, searched_links(None), look)
        while not ended:
            loop.tick()
        link.close()
        browser.close()
        loop.close()
        return ended[0]

    results = []
    for _ in range(runs):
        results.append(once())
        time.sleep(PAUSE_S)
    print(json.dumps(results))


def _served(told: bool) -> tuple[float, float]:
    """Of a server that is announced or not: (ms from its start to its listening, kB of memory that
    are its own (USS) once the other kind is announced)."""
    words = ["-m", "evloop.server", "--memory", *([] if told else ["--no-announce"])]
    with Crew() as crew, flat(1) as lab:
        begun = time.monotonic()
        server = Server([*lab.hosts[0].prefix, sys.executable, *words], environ=SEARCHED)
        crew.add(server)
        crew.until(lambda: server.listens, every=0.001)
        took = time.monotonic() - begun
        if told:
            crew.until(lambda: "announced as" in server.err)
        else:
            crew.read_for(1.5)
        rollup = Path(f"/proc/{server.pid}/smaps_rollup").read_text()
    return took * 1000, sum(int(it.split()[1]) for it in rollup.splitlines() if "Private" in it)


def cost(runs: int) -> None:
    """Servers that are announced, and others that are not, in turns."""
    median = statistics.median
    pairs = [(_served(True), _served(False)) for _ in range(runs)]
    more_ms = median([told[0] - other[0] for told, other in pairs])
    more_kb = median([told[1] - other[1] for told, other in pairs])
    print(
        f"{runs} pairs of servers: the announced one listens {more_ms:.1f} ms later than after"
        f" {median([other[0] for _, other in pairs]):.1f} ms, and has {more_kb:.0f} kB more than"
        f" {median([other[1] for _, other in pairs]):.0f} kB"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--loss", type=int, default=0, help="percent of datagrams, on each host")
    parser.add_argument("--known", action="store_true", help="it was connected to before")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--cost", action="store_true", help="what being found costs a server")
    options = parser.parse_args()
    if options.inside:
        search(options.runs, options.known)
        return 0
    if missing():
        print(missing())
        return 1
    if options.cost:
        cost(options.runs)
        return 0
    environ = {**SEARCHED, "PYTHONPATH": str(ROOT)}
    os.environ.setdefault("XDG_STATE_HOME", "/nonexistent")
    with Crew() as crew, flat(2) as lab:
        words = [*lab.hosts[0].prefix, sys.executable, "-m", "evloop.server", "--memory"]
        server = Server(words, environ=environ)
        crew.add(server)
        crew.until(lambda: "announced as" in server.err or server.done)
        for host in lab.hosts:
            host.lose(options.loss)
        inside = ["-m", "tests.lab.find", "--inside", "--runs", str(options.runs)]
        inside += ["--known"] if options.known else []
        client = Program([*lab.hosts[1].prefix, sys.executable, *inside], environ=environ)
        crew.add(client)
        crew.finish(client, 60.0 + options.runs)
        assert client.status == 0, client.tell()
        results = json.loads(client.out)
    times = sorted(it for it in results if it is not None)
    at = [times[min(len(times) - 1, len(times) * part // 100)] for part in (50, 90, 99)]
    print(
        f"{len(results)} searches, {options.loss} % lost on each host,"
        f" {'known' if options.known else 'not known'} before: {len(times)} found and connected;"
        f" p50 {at[0]:.1f} ms, p90 {at[1]:.1f} ms, p99 {at[2]:.1f} ms, longest {times[-1]:.1f} ms"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
