"""Who is told of a change of the network, and when: real netlink, in namespaces of their own."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from evloop.net import interfaces
from evloop.net.compat import Sleep
from evloop.net.interfaces import Chooser, Link, LinkWatcher, Own, read_links
from evloop.net.limits import INTERFACES_POLL_S
from evloop.net.links import LOOPBACK, MULTICAST, RUNNING, UP
from evloop.system.loop import Loop
from tests.support.namespaces import in_namespace, namespaced

PRELUDE = """
import errno, os, socket, subprocess, sys, time
from evloop.net import interfaces
from evloop.net.interfaces import LinkWatcher, read_links, announceable
from evloop.net.netlink import GROUPS
from evloop.system.loop import Loop

def ip(*lines):
    subprocess.run(["ip", "-batch", "-"], input="\\n".join(lines) + "\\n", text=True, check=True)

skipped = 0.0
loop = Loop(clock=lambda: time.monotonic() + skipped)
told = []
watcher = LinkWatcher(loop)
watcher.subscribe(told.append)

def run(seconds, until=lambda: False):
    # Ticks until something is so; the loop waits for its descriptors, nobody sleeps.
    end = loop.call_at(loop.now + seconds, lambda: None)
    while not until() and end.when != float("inf"):
        loop.tick()
    return until()

def text():
    return [(one.name, one.flags & 0x40 > 0, [it.text for it in one.addresses if "." in it.text])
            for one in watcher.links if one.name != "lo"]
"""


def told(setup: str, program: str) -> list[str]:
    return in_namespace(setup, PRELUDE + program).splitlines()


ETH0 = """
ip link add eth0 type veth peer name far0
ip link set eth0 up
ip link set far0 up
ip addr add 192.0.2.2/24 dev eth0
"""


@namespaced
def test_changes_are_told_after_they_have_settled_and_only_those() -> None:
    assert told(
        ETH0,
        """
run(3.0)  # the kernel proves the addresses of IPv6 first
told.clear()
first = loop.now
ip("addr add 192.0.2.3/24 dev eth0")
assert run(3.0, lambda: told)
print("settled", 0.2 <= loop.now - first < 0.7)
print([own.text for own in told[0][-1].addresses if "." in own.text])
# What is told again changes nothing.
wakes = watcher.wakes
subprocess.run(["ip", "addr", "change", "192.0.2.3/24", "dev", "eth0"], check=True)
assert run(3.0, lambda: watcher.wakes > wakes)
run(0.5)
print("told", len(told), "wakes", watcher.wakes - wakes)
# And who idles is woken by nothing.
wakes = watcher.wakes
run(1.0)
print("idle", watcher.wakes - wakes, len(told))
# It came and went within the time to settle.
ip("addr add 192.0.2.4/24 dev eth0", "addr del 192.0.2.4/24 dev eth0")
run(0.6)
print("nothing", len(told))
# So did the carrier: but that is a loss.
ip("link set far0 down", "link set far0 up")
assert run(3.0, lambda: len(told) > 1)
print("bounced", told[-1][-1].epoch != told[0][-1].epoch)
""",
    ) == [
        "settled True",
        "['192.0.2.2', '192.0.2.3']",
        "told 1 wakes 1",
        "idle 0 1",
        "nothing 1",
        "bounced True",
    ]


@namespaced
def test_more_messages_than_the_kernel_keeps_for_us() -> None:
    """ENOBUFS: all is asked for again."""
    assert told(
        ETH0,
        """
watcher._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
ip(*[f"addr add 10.0.{n}.1/24 dev eth0" for n in range(250)])
ip(*[f"addr del 10.0.{n}.1/24 dev eth0" for n in range(1, 250)])
# The buffer has kept the first of them alone.
assert run(5.0, lambda: text()[-1][2] == ["192.0.2.2", "10.0.0.1"]), text()
ip("link set eth0 down")
assert run(3.0, lambda: not told[-1][-1].flags & 1)
print(text())
""",
    ) == ["[('far0', False, []), ('eth0', False, ['192.0.2.2', '10.0.0.1'])]"]


@namespaced
def test_the_kernel_alone_is_believed() -> None:
    """Root may write to anybody's netlink socket."""
    assert told(
        ETH0,
        """
from tests.net.test_netlink import link_message
run(2.5)
told.clear()
liar = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
before, wakes = watcher.links, watcher.wakes
liar.sendto(link_message(99, "evil0", 0x1041, 0), (watcher._sock.getsockname()[0], 0))
liar.sendto(b"rubbish", (watcher._sock.getsockname()[0], 0))
assert run(3.0, lambda: watcher.wakes > wakes)
run(0.5)
print(watcher.links == before, watcher._table.links() == before, told)
""",
    ) == ["True True []"]


@namespaced
def test_devices_come_and_go() -> None:
    assert told(
        "",
        """
for _ in range(2):
    ip("link add eth0 type veth peer name far0", "link set eth0 up", "link set far0 up",
       "addr add 192.0.2.2/24 dev eth0")
    assert run(3.0, lambda: [it.name for it in announceable(watcher.links)] == ["far0", "eth0"])
    assert read_links() == tuple(one._replace(epoch=two.epoch) for one, two in
                                 zip(watcher.links, read_links()))
    print(text())
    ip("link del eth0")
    assert run(3.0, lambda: not text())
watcher.close()
watcher.close()
ip("link add eth0 type veth peer name far0")
count = len(told)
run(0.5)
print("closed", len(told) - count)
""",
    ) == ["[('far0', True, []), ('eth0', True, ['192.0.2.2'])]"] * 2 + ["closed 0"]


@namespaced
def test_where_netlink_is_refused_the_list_is_read_again_and_again() -> None:
    assert told(
        ETH0 + "ip -6 addr add 2001:db8::7/64 dev eth0 nodad",
        """
run(3.0)  # until the addresses of IPv6 are proved
watcher.close()
by_netlink = watcher.links
def refuse(groups):
    raise OSError(errno.EAFNOSUPPORT, "not here")
interfaces.open_netlink = refuse
watcher = LinkWatcher(loop)
watcher.subscribe(told.append)
def plain(links):
    return [(one.ifindex, one.name, one.flags, sorted(own.text for own in one.addresses))
            for one in links]
print(watcher.polls, [it for it in plain(watcher.links) if it not in plain(by_netlink)])
print([own.prefix for own in watcher.links[-1].addresses if own.text == "2001:db8::7"])
ip("addr add 192.0.2.3/24 dev eth0")
skipped += 2.1
told.clear()
loop.tick()
print(len(told), text()[-1])
def polled(what):  # the kernel may take a second to say so
    global skipped
    end = time.monotonic() + 5.0
    while not what() and time.monotonic() < end:
        skipped += 2.1
        loop.tick()
    return what()
epoch = watcher.links[-1].epoch
ip("link set far0 down")
assert polled(lambda: not watcher.links[-1].flags & 0x40)
print(watcher.links[-1].epoch == epoch)
ip("link set far0 up")
assert polled(lambda: watcher.links[-1].flags & 0x40)
print(watcher.links[-1].epoch > epoch)
""",
    ) == [
        "True []",
        "[64]",
        "1 ('eth0', True, ['192.0.2.2', '192.0.2.3'])",
        "True",
        "True",
    ]


def test_a_machine_that_slept_has_lost_what_it_had_joined() -> None:
    time, asleep = 10.0, 0.0
    loop = Loop(clock=lambda: time)
    try:
        watcher = LinkWatcher(loop, Sleep(lambda: asleep))
        told: list[tuple[Link, ...]] = []
        watcher.subscribe(told.append)
        before = watcher.links

        def tick() -> None:
            loop.defer(lambda: None)
            loop.tick()

        asleep = 1.9
        tick()
        asleep += 1.9
        tick()
        assert told == []
        asleep += 600.0
        tick()
        assert [one.epoch for one in told[0]] == [one.epoch + 1 for one in before]
        tick()
        assert len(told) == 1
    finally:
        loop.close()


def test_a_clock_that_is_set_back_is_no_sleep() -> None:
    clock = [100.0]
    sleep = Sleep(lambda: clock[0])
    clock[0] = 0.0
    assert not sleep.happened()
    clock[0] = 3.0
    assert sleep.happened() and not sleep.happened()


def test_where_no_clock_tells_nobody_sleeps() -> None:
    def refused() -> float:
        raise OSError(errno.EINVAL, "Invalid argument")

    sleep = Sleep(refused)
    assert not sleep.happened() and not sleep.happened()


LO = Link(1, "lo", UP | LOOPBACK | RUNNING, (Own("127.0.0.1", 8, False),), 1)
TWO = Link(
    2,
    "eth0",
    UP | RUNNING | MULTICAST,
    (Own("192.0.2.2", 24, False), Own("192.0.2.3", 24, False)),
    2,
)


def test_an_address_that_was_asked_for_stands_for_its_interface() -> None:
    chooser = Chooser("239.255.7.1", "192.0.2.3", lambda: None)
    assert chooser((LO, TWO)).address == "192.0.2.3"
    gone = TWO._replace(addresses=TWO.addresses[:1])
    assert chooser((LO, gone)) == (2, "eth0", "192.0.2.2")
    assert chooser((LO, gone._replace(ifindex=7)))[:2] == (7, "eth0")  # made anew
    assert chooser((LO, TWO)).address == "192.0.2.3"  # and back


def test_polling_is_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(groups: int) -> Any:
        raise OSError(errno.EPERM, "no")

    monkeypatch.setattr(interfaces, "open_netlink", refuse)
    assert next(link.name for link in read_links()) == "lo"
    time = 10.0
    loop = Loop(clock=lambda: time)
    try:
        watcher = LinkWatcher(loop, Sleep(lambda: 0.0))
        assert watcher.polls and watcher.links == read_links()
        told: list[object] = []
        watcher.subscribe(told.append)
        monkeypatch.setattr(interfaces, "addresses", list)
        time += INTERFACES_POLL_S
        loop.tick()
        assert told == [()]
    finally:
        loop.close()
