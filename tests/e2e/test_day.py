"""A long time in a room of 40: what it takes of processor and memory does not grow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from subprocess import DEVNULL

import pytest

from evloop.room.limits import HISTORY_MESSAGES_MAX
from evloop.room.reliable.limits import SENDERS_MAX
from tests.e2e.test_system_memory import resident_kb
from tests.support.processes import ROOT, Crew, Program, Seated, fresh_room

MEMBERS = 40
TALK_S = 3.0  # between two messages of the room, once its history is full
WARM_UP_S = 30.0
MINUTES = int(os.environ.get("EVLOOP_SOAK_MINUTES", "10"))


def cpu_s(program: Program) -> float:
    """Seconds of processor that it has taken so far."""
    fields = Path(f"/proc/{program.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.slow
@pytest.mark.timeout(60 * MINUTES + 600)
def test_ten_minutes_in_a_room_of_40(crew: Crew) -> None:
    """With real processes. One of them is on a terminal, as a person's is."""
    room = fresh_room()
    words = [sys.executable, "-m", "evloop.client", "--name"]
    many = [
        crew.add(
            Program([*words, f"p{number}", "chat", room], stdout=None if number == 0 else DEVNULL)
        )
        for number in range(MEMBERS - 2)
    ]
    heard = crew.add(Program([*words, "pipe", "chat", room]))
    person = Seated([*words, "person", "chat", room])
    crew.add(person)
    crew.in_room(*many, heard)
    crew.until(lambda: f"{room}>" in person.out)

    said = 0

    def say() -> None:
        nonlocal said
        many[said % len(many)].type(f"message {said} of a long day\n")
        said += 1

    while said < HISTORY_MESSAGES_MAX:  # until what is kept has its full size
        for _ in range(len(many)):
            say()
        crew.until(lambda: len(heard.lines) >= said, 120.0, "all of it is heard")
    # And until each has spoken with a full history, unhurried: the first times take 500 kB, once.
    for _ in range(2 * len(many)):
        say()
        crew.read_for(WARM_UP_S / (2 * len(many)))
    last = f"message {said - 1} "
    watched = {"person": person, "pipe": heard, "p0": many[0]}
    crew.until(lambda: all(last in program.out for program in watched.values()), 120.0, last)
    figures: dict[str, list[tuple[float, int]]] = {name: [] for name in watched}
    begin = time.monotonic()
    for minute in range(MINUTES + 1):
        for name, program in watched.items():
            figures[name].append((cpu_s(program), resident_kb(program)))
        while (left := begin + 60.0 * (minute + 1) - time.monotonic()) > 0 and minute < MINUTES:
            say()
            crew.read_for(min(left, TALK_S))
    for name, values in figures.items():
        spent = [after[0] - before[0] for before, after in zip(values, values[1:])]
        kilobytes = [value[1] for value in values]
        print(f"{name}: CPU s a minute {[round(one, 2) for one in spent]}, kB {kilobytes}")
        half = len(spent) // 2
        assert sum(spent[half:]) <= 1.5 * sum(spent[:half]) + 0.1 * half
        assert kilobytes[-1] <= kilobytes[0] * 1.02 + 256


@pytest.mark.parametrize("hours", [8, pytest.param(24, marks=pytest.mark.slow)])
@pytest.mark.timeout(400)
def test_a_day_in_fake_time_through_the_whole_client(hours: int) -> None:
    """From the terminal to the datagrams; see `fake_day`. 24 hours take 20 s of processor."""
    words = [sys.executable, "-m", "tests.e2e.fake_day", str(hours)]
    done = subprocess.run(words, stdout=subprocess.PIPE, cwd=ROOT, text=True, check=True)
    told = json.loads(done.stdout)
    assert len(told) == hours
    first, rest = told[2], told[3:]  # from the third on, what is kept has its full size
    assert first["stats"]["history"] == HISTORY_MESSAGES_MAX
    assert first["stats"]["senders"] == SENDERS_MAX
    for hour in rest:
        assert hour["said"] and f"message {hour['told']} " in hour["screen"]
        assert hour["present"] == first["present"] == 39
        assert hour["faults"] == 0 and hour["stats"]["gaps"] == 0
        assert hour["watches"] == first["watches"] and hour["timers"] <= first["timers"] + 2
        assert hour["objects"] <= 1.02 * first["objects"]
        assert hour["blocks"] <= 1.04 * first["blocks"]
        for work in ("ticks", "heard", "sent", "drawn"):  # of each hour
            assert hour[work] <= 1.1 * first[work], work
    half = len(rest) // 2
    assert sum(hour["cpu_s"] for hour in rest[-half:]) <= 2 * sum(
        hour["cpu_s"] for hour in rest[:half]
    )
