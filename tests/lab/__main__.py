"""`python3 -m tests.lab --hosts 20 --messages 400 --loss 30`: one line of figures. Needs root."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, ArgumentTypeError

from tests.lab.network import flat, missing
from tests.lab.talk import (
    Figures,
    Person,
    arrivals,
    conversation,
    figures,
    flaws,
    gather,
    settled,
    type_at,
)
from tests.support.processes import Crew

SKIPPED = 77  # what automake calls it


def _count(text: str) -> int:
    value = int(text)
    if not 2 <= value <= 10_000:
        raise ArgumentTypeError(f"{text} is not between 2 and 10,000")
    return value


def line_of(figure: Figures, hosts: int, loss: int, dropped: int) -> str:
    """The figures as key=value; times in ms, counts per message."""
    pairs: list[tuple[str, object]] = [
        ("hosts", hosts),
        ("loss", loss),
        ("sent", figure.sent),
        ("identical", f"{figure.identical}/{figure.screens}"),
        ("p50_ms", round(figure.p50, 1)),
        ("p95_ms", round(figure.p95, 1)),
        ("p99_ms", round(figure.p99, 1)),
        ("max_ms", round(figure.longest, 1)),
        ("dropped_datagrams", dropped),
    ]
    pairs += [(name, round(count / figure.sent, 2)) for name, count in figure.counts.items()]
    return " ".join(f"{name}={value}" for name, value in pairs)


def main() -> int:
    parser = ArgumentParser(prog="python3 -m tests.lab", description=__doc__)
    add = parser.add_argument
    add("--hosts", type=_count, default=5)
    add("--messages", type=_count, default=300, help="of all hosts together (default 300)")
    add("--loss", type=int, default=30, help="percent of the datagrams at each host (default 30)")
    add("--rate", type=float, default=5.0, help="messages a second of all together (default 5)")
    add("--seed", type=int, default=1, help="of the times of typing")
    add("--slowest", type=int, default=0, help="also show so many of the slowest arrivals")
    options = parser.parse_args()
    why = missing()
    if why:
        print(f"skipped: {why}", file=sys.stderr)
        return SKIPPED
    os.environ.setdefault("XDG_STATE_HOME", "/tmp/evloop-lab-state")
    with flat(options.hosts, options.loss) as lab, Crew() as crew:
        people = [Person(crew, host, f"h{at}") for at, host in enumerate(lab.hosts)]
        gather(crew, people)
        schedule = conversation(people, options.messages, options.rate, options.seed)
        type_at(crew, schedule)
        typed = [text for _, _, text in schedule]
        settled(crew, people, len(typed))
        wrong = flaws(people, typed)
        dropped = sum(host.lost() for host in lab.hosts)
        print(
            line_of(figures(crew, people, typed), options.hosts, options.loss, dropped), flush=True
        )
        on_the_way = arrivals(people)
        begin = min((one.sent for one in on_the_way), default=0.0)
        for one in on_the_way[len(on_the_way) - options.slowest :]:
            print(f"  {one.ms:.0f} ms: {one.text} at {one.receiver}, said {one.sent - begin:.2f} s")
        for flaw in wrong:
            print(flaw, file=sys.stderr)
        return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
