"""`doctor` on the machine that suffers, in networks with one fault each. Needs root, ip and nft."""

from __future__ import annotations

import json
import select
import subprocess
import sys
import time

import pytest

from tests.lab.clinic import ROOM, SCENES, TO_GROUPS, Clinic, judge, rule
from tests.lab.network import missing
from tests.support.sources import ROOT

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing() or "the lab is here")

QUICK = ("well", "firewall_in", "their_firewall_out", "other_subnet")
WAITED_S = 20.0


def slowly(name: str) -> object:
    return name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)


@pytest.mark.parametrize("name", [slowly(name) for name in SCENES])
def test_a_scene_with_a_hundred_other_datagrams_a_second(name: str) -> None:
    with Clinic(100.0) as clinic:
        SCENES[name][0](clinic)
        found = clinic.doctor()
    assert judge(name, found) == "right", (found.findings, found.errors)
    bad = any(one["level"] == "bad" for one in found.findings)
    assert found.status == int(bad)
    assert all(one["do"] for one in found.findings if one["level"] == "bad" and one["id"]
               not in ("directory",))  # fmt: skip


def test_an_unreachable_directory_is_69() -> None:
    """Its machine answers, its port does not."""
    with Clinic() as clinic:
        clinic.build()
        found = clinic.doctor()
    assert found.status == 69
    assert found.ids("bad") == {"directory"}


def test_who_runs_it_is_nobodys_member() -> None:
    with Clinic() as clinic:
        clinic.build()
        clinic.serve()
        clinic.seat(clinic.ann, "Ann", "--json")
        found = clinic.doctor()
        told = clinic.last_words()
    assert found.of("members")["what"].startswith("Ann hears you and you hear Ann")
    assert '"joined"' not in told


@pytest.mark.slow
@pytest.mark.parametrize("alone", [False, True])
def test_ipv6(alone: bool) -> None:
    """A room of that family, and a fresh group where there is no other family."""
    with Clinic() as clinic:
        clinic.build()
        assert clinic.flat is not None
        for number, host in enumerate(clinic.flat.hosts, 1):
            host.ip(f"addr add fd77::{number}/64 dev eth0")
        clinic.serve()
        local = ("--server", "127.0.0.1")
        clinic.client(clinic.directory, *local, "makeroom", "six", "ff15::7", "5751")
        clinic.address = "[fd77::1]"
        for number, host in enumerate(clinic.flat.hosts[: 2 * alone], 1):
            host.ip(f"addr del 10.77.0.{number}/24 dev eth0")
        clinic.words = ["doctor"] if alone else ["doctor", "six"]
        found = clinic.doctor()
        assert not found.ids("bad", "unknown") and found.of("interface")["evidence"]["address"]
        drop = "ip6 daddr ff00::/8 udp dport 1024-65535 drop"
        rule(clinic.me, "input priority 0", drop)
        found = clinic.doctor()
    assert found.ids("bad") == {"firewall_in"}
    assert "ip6 daddr ff00::/8" in found.of("firewall_in")["do"]


@pytest.mark.slow
def test_mended_by_what_it_says() -> None:
    """The rule that it prints is typed as it stands, and then all is well."""
    with Clinic() as clinic:
        clinic.build()
        clinic.serve()
        clinic.me.run("nft", "-f", "-", text="""
            table inet filter { chain input { type filter hook input priority 0; policy drop;
              ct state established,related accept; iif lo accept; meta l4proto igmp accept; }; }
        """)  # fmt: skip
        found = clinic.doctor()
        assert found.ids("bad") == {"firewall_in"}
        words = found.of("firewall_in")["do"].split()
        assert words[0] == "sudo"
        clinic.me.run(*words[1:])
        clinic.end_last()
        clinic.serve()
        assert not clinic.doctor().ids("bad")


@pytest.mark.slow
def test_watch_sees_a_switch_that_forgets_and_stays_in_the_group() -> None:
    """`--watch` does not remind the switch: it finds out that it has forgotten."""
    begun = time.monotonic()
    with Clinic() as clinic:
        clinic.build_snooping()
        clinic.serve()
        # A bridge brings nobody anything before its first query had time for answers (1 s).
        while clinic.doctor().ids("bad"):
            assert time.monotonic() < begun + 15, "the switch never brings the group"
        words = ["--server", clinic.address, "doctor", ROOM, "--watch", "40"]
        program = subprocess.Popen(
            [*clinic.me.prefix, sys.executable, "-m", "evloop.client", *words],
            cwd=ROOT,
            env=clinic.environ(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert program.stdout is not None
        try:
            told = ""
            deadline = time.monotonic() + 60
            while "not heard any more" not in told and time.monotonic() < deadline:
                if select.select([program.stdout], [], [], 1.0)[0]:
                    told += program.stdout.readline()
        finally:
            program.kill()
            program.wait()
            program.stdout.close()
    assert "receiving   20 of 20 came" in told
    assert "BAD receiving: the directory is not heard any more" in told
    assert "the switch has forgotten" in told


@pytest.mark.slow
def test_in_a_room_it_looks_while_the_talk_goes_on() -> None:
    with Clinic() as clinic:
        clinic.build()
        clinic.serve()
        rule(clinic.ann, "input priority 0", TO_GROUPS)
        clinic.seat(clinic.ann, "Ann")
        clinic.seat(clinic.me, "Me")
        clinic.type("/doctor\nhello\n")
        clinic.until(b"doctor: 1 thing is wrong")
        told = clinic.last_words()
    assert "you hear Ann, Ann does not hear you" in told
    assert "Me: hello" in told


@pytest.mark.slow
def test_a_member_that_does_not_hear_is_named_once_and_in_who() -> None:
    with Clinic() as clinic:
        clinic.build()
        clinic.serve()
        rule(clinic.ann, "input priority 0", TO_GROUPS)
        clinic.seat(clinic.ann, "Ann")
        clinic.seat(clinic.me, "Me")
        clinic.until(b"Ann does not hear you", 60.0)
        clinic.type("/who\n")
        clinic.until(b", does not hear you")
        told = clinic.last_words()
    assert told.count("Ann does not hear you;") == 1


def test_an_alone_one_is_told_after_eight_seconds() -> None:
    """Where no relay is: by way of it one would hear Ann in spite of the firewall."""
    with Clinic() as clinic:
        clinic.build()
        clinic.serve()
        clinic.seat(clinic.ann, "Ann")
        rule(clinic.me, "input priority 0", TO_GROUPS)
        begun = time.monotonic()
        clinic.seat(clinic.me, "Me", "--relay", "never")
        clinic.until(b"you are alone here")
        assert 7.0 < time.monotonic() - begun < WAITED_S
        told = clinic.last_words()
    for words in ("firewall", "--interface", "Wi-Fi", "/doctor"):
        assert words in told


def test_the_record_is_of_all_scenes() -> None:
    """What the pure tests judge was measured here."""
    recorded = json.loads((ROOT / "tests" / "app" / "doctor_recorded.json").read_text())
    assert set(recorded) == set(SCENES)
