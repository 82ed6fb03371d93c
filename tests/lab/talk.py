"""People in the lab: clients in one room, who type and read; and what became of it.

Latency is taken from the clients' own output: the sender's line and a receiver's line of the same
message both carry the time at which they were shown (`--json`), and all hosts share one clock.
"""

from __future__ import annotations

import json
import random
import re
import time
from collections import namedtuple
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from tests.lab.network import Namespace
from tests.support.processes import Crew, Program

ROOM = "239.255.7.3:6000"
JOIN_S = 60.0
SETTLE_S = 30.0
_HELP = re.compile(r"^ +/leave\b.*\n.+\n", re.MULTILINE)  # of /leave, whatever its words are

# Shown at one person's screen: name of the sender, its id, seq, text, when (unix seconds).
Line = namedtuple("Line", "name sender seq text at")

# Of a whole conversation. `identical`: screens with exactly the lines that were typed; latencies in
# ms, over all pairs; `counts`: sums of the members' own counters.
Figures = namedtuple("Figures", "sent identical screens p50 p95 p99 longest counts")


class Person:
    """One client on one host, in a room, with JSON output."""

    def __init__(
        self,
        crew: Crew,
        host: Namespace,
        name: str,
        *options: str,
        room: str = ROOM,
        mode: str = "",
        interface: str = "eth0",
        server: str | None = None,
        environ: dict[str, str] | None = None,
    ) -> None:
        self.name = name
        self.host = host
        self.program: Program = crew.chatter(
            name,
            room,
            "--json",
            *options,
            mode=mode,
            prefix=host.prefix,
            server=server,
            EVLOOP_INTERFACE=interface,
            **(environ or {}),
        )
        self._read = 0
        self._objects: list[dict[str, Any]] = []

    def objects(self, kind: str) -> list[dict[str, Any]]:
        """What was shown, of one type."""
        data = self.program.out_bytes
        end = data.rfind(b"\n") + 1
        for line in data[self._read : end].splitlines():
            self._objects.append(json.loads(line))
        self._read = max(self._read, end)
        return [it for it in self._objects if it["type"] == kind]

    def lines(self) -> list[Line]:
        """The messages shown, in order."""
        return [
            Line(it["name"], it["sender"], it["seq"], it["text"], _seconds(it["at"]))
            for it in self.objects("message")
        ]

    def texts(self) -> list[str]:
        return [it["text"] for it in self.objects("message")]

    def say(self, text: str) -> None:
        self.program.type(text + "\n")

    def notes(self, crew: Crew, command: str) -> list[str]:
        """What a /command answers (on stderr): the lines after it up to the next remark."""
        before = len(self.program.err)
        self.say(command)
        self.say("/help leave")  # its answer tells that the one before is complete
        crew.until(lambda: _HELP.search(self.program.err, before), why=command)
        return _HELP.split(self.program.err[before:])[0].splitlines()

    def who(self, crew: Crew) -> set[str]:
        """The names that /who shows, one's own included."""
        return {line.split()[0] for line in self.notes(crew, "/who") if line.startswith("  ")}

    def stats(self, crew: Crew) -> dict[str, int]:
        """The counters that /stats shows."""
        rows = [line.rsplit(None, 1) for line in self.notes(crew, "/stats")]
        return {row[0].strip().replace(" ", "_"): int(row[1]) for row in rows if row[-1].isdigit()}


def _seconds(at: str) -> float:
    return datetime.fromisoformat(at.replace("Z", "+00:00")).timestamp()  # 3.9 reads no Z


def gather(crew: Crew, people: Sequence[Person], seconds: float = JOIN_S) -> None:
    """Wait until everybody is in, and has heard of everybody else."""

    def all_met() -> bool:
        return all(
            len({it["sender"] for it in one.objects("joined")}) >= len(people) - 1 for one in people
        )

    crew.in_room(*[one.program for one in people])
    crew.until(all_met, seconds, "not everybody met everybody")


def type_at(crew: Crew, schedule: Sequence[tuple[float, Person, str]]) -> None:
    """Type each text at its time (seconds from now)."""
    start = time.monotonic()
    for when, person, text in sorted(schedule, key=lambda row: row[0]):
        crew.read_for(start + when - time.monotonic())
        person.say(text)


def conversation(
    people: Sequence[Person], messages: int, per_second: float, seed: int
) -> list[tuple[float, Person, str]]:
    """So many messages of everybody together, each person at random times of its own."""
    rng = random.Random(seed)
    span = messages / per_second
    schedule: list[tuple[float, Person, str]] = []
    for at, person in enumerate(people):
        own = len(range(at, messages, len(people)))
        times = sorted(rng.uniform(0, span) for _ in range(own))
        schedule += [(when, person, f"{person.name} {n}") for n, when in enumerate(times)]
    return schedule


def settled(crew: Crew, people: Sequence[Person], count: int, seconds: float = SETTLE_S) -> bool:
    """Wait until everybody shows `count` messages, or time is up."""
    try:
        crew.until(lambda: all(len(one.texts()) >= count for one in people), seconds)
    except AssertionError:
        return False
    return True


def flaws(people: Sequence[Person], typed: Sequence[str]) -> list[str]:
    """What is wrong with the screens: [] when each shows each message once, in its sender's order.

    `typed` are the texts, "NAME NUMBER", numbered from 0 by each sender.
    """
    found = []
    wanted = sorted(typed)
    for one in people:
        texts = one.texts()
        if sorted(texts) != wanted:
            lacks = sorted(set(wanted) - set(texts))
            twice = sorted({text for text in texts if texts.count(text) > 1})
            more = sorted(set(texts) - set(wanted))
            found.append(f"{one.name}: lacks {lacks}, has twice {twice}, invented {more}")
        numbers: dict[str, int] = {}
        for text in texts:
            name, _, number = text.rpartition(" ")
            if int(number) != numbers.get(name, 0):
                found.append(f"{one.name}: {text} came as number {numbers.get(name, 0)}")
            numbers[name] = int(number) + 1
        for line in one.lines():
            if line.name != line.text.rpartition(" ")[0]:
                found.append(f"{one.name}: {line.text} was shown as of {line.name}")
    return found


# One message on its way: milliseconds from the sender's screen to a receiver's; `sent`: unix time.
Arrival = namedtuple("Arrival", "ms text receiver sent")


def arrivals(people: Sequence[Person]) -> list[Arrival]:
    """Each message at each other screen, the quickest first."""
    shown = {(line.sender, line.seq): line.at for one in people for line in _own(one)}
    return sorted(
        Arrival(1000 * (line.at - sent), line.text, one.name, sent)
        for one in people
        for line in one.lines()
        if line.name != one.name and (sent := shown.get((line.sender, line.seq))) is not None
    )


def _own(person: Person) -> list[Line]:
    return [line for line in person.lines() if line.name == person.name]


def percentile(values: Sequence[float], share: float) -> float:
    """Of sorted values; nan of none."""
    if not values:
        return float("nan")
    return values[min(len(values) - 1, int(share * len(values)))]


COUNTERS = ("copies_sent", "repairs_sent", "nacks_sent", "sessions_sent", "recovered", "lost")


def figures(crew: Crew, people: Sequence[Person], typed: Sequence[str]) -> Figures:
    """The figures of a conversation that is over."""
    values = [one.ms for one in arrivals(people)]
    totals = dict.fromkeys(COUNTERS, 0)
    for one in people:
        stats = one.stats(crew)
        for name in COUNTERS:
            totals[name] += stats.get(name, 0)
    wanted = sorted(typed)
    return Figures(
        len(typed),
        sum(sorted(one.texts()) == wanted for one in people),
        len(people),
        percentile(values, 0.50),
        percentile(values, 0.95),
        percentile(values, 0.99),
        values[-1] if values else float("nan"),
        totals,
    )
