"""Who is let in: against a model that simply counts."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from evloop.base.errors import Refused
from evloop.daemon.admission import Guard, clients_that_fit
from evloop.daemon.limits import CONNECTIONS_BURST, CONNECTIONS_PER_S, FULL_RETRY_S, NETWORK_FACTOR


def test_the_total_is_capped() -> None:
    guard = Guard(clients=2, per_visitor=0)
    first = guard.admit("192.0.2.1", 0.0)
    guard.admit("192.0.2.2", 0.0)
    with pytest.raises(Refused) as raised:
        guard.admit("192.0.2.3", 0.0)
    assert (raised.value.code, raised.value.reason) == (6, "slow_down")
    assert raised.value.data == {"retry_after": FULL_RETRY_S}
    guard.release(first)
    guard.admit("192.0.2.3", 0.0)


def test_a_slash_64_is_one_visitor_and_a_mapped_address_is_not() -> None:
    guard = Guard(clients=100, per_visitor=2)
    guard.admit("2001:db8::1", 0.0)
    guard.admit("2001:db8::ffff:2", 0.0)
    with pytest.raises(Refused, match="2 connections from 2001:db8::/64 are enough"):
        guard.admit("2001:db8::3", 0.0)
    guard.admit("2001:db8:0:1::1", 0.0)
    for host in ("192.0.2.1", "192.0.2.2", "192.0.2.3"):
        guard.admit(f"::ffff:{host}", 0.0)
    guard.admit("192.0.2.1", 0.0)
    with pytest.raises(Refused, match=r"from 192\.0\.2\.1 are"):
        guard.admit("::ffff:192.0.2.1", 0.0)


@pytest.mark.parametrize(
    ("host", "own"),
    [
        ("fe80::1:{}%eth0", "fe80::7"),
        ("fd00:77::{}", "fd00:77::1"),
        ("fc01::{}", "2001:db8::1"),
        ("2001:db8:0:7::{}", "2001:db8:0:7:ffff::1"),
    ],
)
def test_on_a_network_of_ours_each_address_counts_by_itself(host: str, own: str) -> None:
    """As it was found: 256 connections from one host locked everybody of the /64 out."""
    guard = Guard(clients=100_000, per_visitor=2)
    hog = [guard.admit(host.format(1), 0.0, own) for _ in range(2)]
    with pytest.raises(Refused, match="2 connections from"):
        guard.admit(host.format(1), 0.0, own)
    guests = [guard.admit(host.format(f"{2 + n:x}"), 0.0, own) for n in range(30)]
    with pytest.raises(Refused, match=r"32 connections from .*/64 are enough"):
        guard.admit(host.format("ffff"), 0.0, own)  # all of them together are not everybody
    guard.release(hog.pop())
    guests.append(guard.admit(host.format("ffff"), 0.0, own))
    for visitor in (*hog, *guests):
        guard.release(visitor)
    assert not guard.counts and guard.count == 0


def test_somebody_far_away_is_a_slash_64() -> None:
    for host in ("2001:db8:1::{}", "fc0::{}", "fe8::{}", "ff02::{}"):
        guard = Guard(clients=100, per_visitor=2)
        for number in (1, 2):
            guard.admit(host.format(number), 0.0, "2001:db8::1")
        with pytest.raises(Refused, match="/64 are enough"):
            guard.admit(host.format(3), 0.0, "2001:db8::1")


def test_a_flood_from_many_addresses_of_a_network_is_slowed() -> None:
    guard = Guard(clients=100_000, per_visitor=10)
    admitted = 0
    with pytest.raises(Refused, match="wait a moment"):
        for number in range(NETWORK_FACTOR * CONNECTIONS_BURST + 1):
            guard.release(guard.admit(f"fd00::{number:x}", 5.0, "fd00::1"))
            admitted += 1
    assert admitted == NETWORK_FACTOR * CONNECTIONS_BURST


def test_a_flood_of_new_connections_is_slowed() -> None:
    guard = Guard(clients=100_000, per_visitor=10)
    for _ in range(CONNECTIONS_BURST):
        guard.release(guard.admit("192.0.2.1", 5.0))
    with pytest.raises(Refused) as raised:
        guard.admit("192.0.2.1", 5.0)
    assert raised.value.data is not None
    wait = raised.value.data["retry_after"]
    assert isinstance(wait, float) and 0 < wait <= 1 / CONNECTIONS_PER_S
    guard.release(guard.admit("192.0.2.2", 5.0))
    later = 5.0 + 1.0
    for _ in range(int(CONNECTIONS_PER_S)):
        guard.release(guard.admit("192.0.2.1", later))
    with pytest.raises(Refused, match="wait a moment"):
        guard.admit("192.0.2.1", later)


def test_zero_lifts_the_caps_of_a_visitor() -> None:
    guard = Guard(clients=100_000, per_visitor=0)
    for _ in range(3 * CONNECTIONS_BURST):
        guard.admit("192.0.2.1", 0.0)
    assert guard.count == 3 * CONNECTIONS_BURST


def test_the_tables_do_not_grow_with_what_was_refused() -> None:
    guard = Guard(clients=4, per_visitor=1)
    for n in range(5_000):
        try:
            guard.admit(f"10.{n >> 8}.{n & 255}.1", float(n))
        except Refused:
            continue
    assert guard.count == len(guard.counts) == 4


@pytest.mark.parametrize(
    ("wanted", "descriptors", "fit"),
    [
        (10_000, 1 << 20, 10_000),
        (10_000, 1_024, 992),
        (10_000, 64, 32),
        (5, 64, 5),
        (9, 3, 0),
        (0, 1_024, 992),
    ],
)
def test_clients_are_lowered_to_what_the_system_allows(
    wanted: int, descriptors: int, fit: int
) -> None:
    assert clients_that_fit(wanted, descriptors) == fit


class GuardMachine(RuleBasedStateMachine):
    """Admissions and releases in any order keep the counts."""

    def __init__(self) -> None:
        super().__init__()
        self.guard = Guard(clients=5, per_visitor=2)
        self.inside: list[str] = []

    @rule(host=st.sampled_from(["10.0.0.1", "10.0.0.2", "10.0.0.3", "2001:db8::1", "2001:db8::2"]))
    def admit(self, host: str) -> None:
        key = "v6" if ":" in host else host
        fits = len(self.inside) < 5 and sum(self.key(it) == key for it in self.inside) < 2
        try:
            self.inside.append(self.guard.admit(host, 0.0))
        except Refused:
            assert not fits
        else:
            assert fits

    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        if self.inside:
            which = data.draw(st.integers(0, len(self.inside) - 1))
            self.guard.release(self.inside.pop(which))

    @invariant()
    def counted(self) -> None:
        assert self.guard.count == len(self.inside)
        assert set(self.guard.counts) == set(self.inside)

    @staticmethod
    def key(visitor: str) -> str:
        return "v6" if ":" in visitor else visitor


TestGuardMachine = GuardMachine.TestCase
