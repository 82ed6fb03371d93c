"""The sockets of a room: on 127.0.0.1, and in network namespaces that the test makes (root).

Nothing here leaves the machine: a program in `unshare --net` sees only interfaces of its own.
"""

from __future__ import annotations

import errno
import os
import re
import select
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from evloop.base.errors import SetupError
from evloop.base.names import place_of
from evloop.net import compat
from evloop.net.compat import kernel_drops
from evloop.net.interfaces import Interface, choose_interface
from evloop.net.limits import (
    DATAGRAM_READ_BYTES,
    DATAGRAMS_PER_WAKE_MAX,
    RECEIVE_BUFFER_BYTES,
)
from evloop.net.multicast import (
    destination,
    granted_buffer,
    join,
    leave,
    open_receiver,
    open_sender,
    receive,
)
from tests.support.namespaces import in_namespace, ipv6, namespaced

ROOT = Path(__file__).parents[2]
LOOPBACK = Interface(socket.if_nametoindex("lo"), "lo", "127.0.0.1")
# Of this process alone: another run of the tests on this machine must not be heard.
GROUP = f"239.255.77.{1 + os.getpid() % 127}"
OTHER = f"239.255.77.{128 + os.getpid() % 127}"
PORT = 15_751


class Sockets:
    """Opens, and closes all at the end."""

    def __init__(self) -> None:
        self.open: list[socket.socket] = []

    def receiver(self, group: str = GROUP, port: int = PORT) -> socket.socket:
        self.open.append(open_receiver(group, port, LOOPBACK))
        return self.open[-1]

    def sender(self, group: str = GROUP, ttl: int = 1) -> socket.socket:
        self.open.append(open_sender(group, PORT, LOOPBACK, ttl))
        return self.open[-1]

    def other(self) -> socket.socket:
        self.open.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        return self.open[-1]


@pytest.fixture
def sockets() -> Iterator[Sockets]:
    sockets = Sockets()
    yield sockets
    for sock in sockets.open:
        sock.close()


def heard(sock: socket.socket) -> list[bytes]:
    """All that has arrived; loopback delivers inside sendto, so there is nothing to wait for."""
    return [data for data, _ in receive(sock)]


# -- delivery --------------------------------------------------------------------------------------


def test_every_member_on_this_host_hears_a_message_once(sockets: Sockets) -> None:
    members = [sockets.receiver() for _ in range(3)]
    sender = sockets.sender()
    for data in (b"Mel: Good morning!", b""):  # an empty datagram is one too
        sender.sendto(data, destination(GROUP, PORT, LOOPBACK))
    for member in members:
        assert heard(member) == [b"Mel: Good morning!", b""]


def test_rooms_on_one_port_do_not_hear_each_other(sockets: Sockets) -> None:
    one, two = sockets.receiver(GROUP), sockets.receiver(OTHER)
    sender = sockets.sender()
    sender.sendto(b"one", (GROUP, PORT))
    sender.sendto(b"two", (OTHER, PORT))
    sender.sendto(b"nobody's", ("239.255.77.3", PORT))
    assert heard(one) == [b"one"]
    assert heard(two) == [b"two"]


def test_unicast_to_the_sending_socket_reaches_it_alone(sockets: Sockets) -> None:
    receiver, sender, asker = sockets.receiver(), sockets.sender(), sockets.sender()
    asker.sendto(b"ask", (GROUP, PORT))
    [(data, source)] = receive(receiver)
    assert data == b"ask"
    assert source == asker.getsockname()
    sender.sendto(b"repair", source)
    assert receive(asker) == [(b"repair", sender.getsockname())]
    assert heard(receiver) == heard(sender) == []


def test_closing_leaves_the_group(sockets: Sockets) -> None:
    def memberships() -> int:
        packed = int.from_bytes(socket.inet_aton(GROUP), sys.byteorder)
        return Path("/proc/net/igmp").read_text().count(f"{packed:08X}")

    before = memberships()
    receiver = sockets.receiver()
    assert memberships() == before + 1
    receiver.close()
    assert memberships() == before


def test_a_burst_is_bounded_and_in_order(sockets: Sockets) -> None:
    receiver, sender = sockets.receiver(), sockets.sender()
    count = DATAGRAMS_PER_WAKE_MAX + 5
    for n in range(count):
        sender.sendto(b"%d" % n, (GROUP, PORT))
    assert [heard(receiver) for _ in range(3)] == [
        [b"%d" % n for n in range(DATAGRAMS_PER_WAKE_MAX)],
        [b"%d" % n for n in range(DATAGRAMS_PER_WAKE_MAX, count)],
        [],
    ]


def test_a_giant_is_cut(sockets: Sockets) -> None:
    receiver, sender = sockets.receiver(), sockets.sender()
    sender.sendto(bytes(60_000), (GROUP, PORT))
    sender.sendto(b"next", (GROUP, PORT))
    assert heard(receiver) == [bytes(DATAGRAM_READ_BYTES), b"next"]


def test_what_the_kernel_threw_away_is_counted(sockets: Sockets) -> None:
    receiver, sender = sockets.receiver(), sockets.sender()
    assert kernel_drops(receiver) == 0
    receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    for _ in range(100):
        sender.sendto(bytes(1000), (GROUP, PORT))
    got = len(heard(receiver))
    assert 0 < got < 64
    assert kernel_drops(receiver) == 100 - got
    assert kernel_drops(receiver) == 100 - got  # reading does not clear it


def test_a_kernel_that_does_not_count(sockets: Sockets, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compat, "SO_MEMINFO", 9999)
    assert kernel_drops(sockets.receiver()) == 0


def test_a_burst_of_5000_fits_where_the_buffer_is_granted(sockets: Sockets) -> None:
    receiver, sender = sockets.receiver(), sockets.sender()
    if granted_buffer(receiver) < RECEIVE_BUFFER_BYTES:
        most = Path("/proc/sys/net/core/rmem_max").read_text().strip()
        pytest.skip(f"net.core.rmem_max is {most}")
    for n in range(5000):
        sender.sendto(b"%100d" % n, (GROUP, PORT))
    got = []
    while burst := heard(receiver):
        got += burst
    assert got == [b"%100d" % n for n in range(5000)]
    assert kernel_drops(receiver) == 0


def test_granted_buffer_speaks_in_the_asker_s_numbers(sockets: Sockets) -> None:
    receiver = sockets.receiver()
    receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 50_000)
    assert granted_buffer(receiver) == 50_000


# -- options ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ttl", "unicast"), [(0, 1), (1, 1), (7, 7), (255, 255)])
def test_ttl_holds_for_both_kinds(sockets: Sockets, ttl: int, unicast: int) -> None:
    sender = sockets.sender(ttl=ttl)
    assert sender.getsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL) == ttl
    assert sender.getsockopt(socket.IPPROTO_IP, socket.IP_TTL) == unicast


def test_both_sockets_are_pinned_and_never_block(sockets: Sockets) -> None:
    receiver, sender = sockets.receiver(), sockets.sender()
    assert receiver.getsockname() == (GROUP, PORT)
    assert sender.getsockname()[0] == "127.0.0.1"
    pinned = sender.getsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, 4)
    assert socket.inet_ntoa(pinned) == "127.0.0.1"
    for sock in (receiver, sender):
        assert sock.gettimeout() == 0.0
        assert not sock.get_inheritable()
        assert receive(sock) == []
        assert sock.getsockopt(socket.IPPROTO_IP, compat.IP_MULTICAST_ALL) == 0


# -- clear words when it cannot be done -----------------------------------------------------------


def test_a_port_that_somebody_does_not_share(sockets: Sockets) -> None:
    rude = sockets.other()
    rude.bind(("", PORT + 1))
    with pytest.raises(SetupError) as caught:
        sockets.receiver(port=PORT + 1)
    assert caught.value.exit_status == 1
    assert f"{GROUP}:{PORT + 1}" in caught.value.sentence
    assert "another program holds port" in caught.value.sentence


def test_an_interface_that_is_gone() -> None:
    gone = Interface(9999, "gone0", "192.0.2.254")
    opens: list[Callable[[], socket.socket]] = [
        lambda: open_receiver(GROUP, PORT, gone),
        lambda: open_sender(GROUP, PORT, gone, 1),
    ]
    for opening in opens:
        with pytest.raises(SetupError, match="gone0 does not take part in multicast now"):
            opening()


@pytest.mark.parametrize("group", ["239.255.7.1", pytest.param("ff15::7", marks=ipv6)])
def test_any_other_refusal_keeps_the_kernel_s_word(
    group: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: socket.socket, address: Any) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    class Refused(socket.socket):
        bind = refuse

    monkeypatch.setattr(socket, "socket", Refused)
    told = rf"{re.escape(place_of(group, 5751))}: Operation not permitted"
    with pytest.raises(SetupError, match=told):
        open_receiver(group, 5751, LOOPBACK)
    with pytest.raises(SetupError, match=told):
        open_sender(group, 5751, LOOPBACK, 1)


@pytest.mark.parametrize(
    "wanted", ["nosuch0", "192.0.2.254", "ff15::7", "fe80::1%nosuch0", "x" * 300, "a\0b", "ä", ":"]
)
def test_no_such_interface_names_those_that_are(wanted: str) -> None:
    with pytest.raises(SetupError) as caught:
        choose_interface(GROUP, wanted, None)
    assert caught.value.sentence.startswith("no interface has the name or address")
    assert "there are: lo" in caught.value.sentence
    assert len(caught.value.sentence) < 300


def test_ipv6_groups_do_not_work_on_loopback() -> None:
    with pytest.raises(SetupError, match="IPv6 groups do not work on loopback"):
        choose_interface("ff15::7", "127.0.0.1", None)


# -- the choice of interface -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "wanted", ["lo", "127.0.0.1", pytest.param("::1", marks=ipv6), "::ffff:127.0.0.1"]
)
def test_what_the_user_says_is_done(wanted: str) -> None:
    assert choose_interface(GROUP, wanted, ("192.0.2.9", 44444)) == LOOPBACK


# `add NAME ADDRESS`: an interface with something at the other end of its cable.
NET = """
add() {
    far="veth-$(echo "$1" | cut -c 1-9)"
    ip link add "$1" type veth peer name "$far"
    ip link set "$1" up
    ip link set "$far" up
    ip addr add "$2" dev "$1"
}
"""


def chosen(setup: str, *arguments: str, group: str = GROUP) -> list[str]:
    """The names (or the refusals) that choose_interface gives for each pair of arguments."""
    program = (
        "from evloop.base.errors import SetupError\n"
        "from evloop.net.interfaces import choose_interface\n"
        f"for wanted, directory in ({', '.join(arguments)},):\n"
        "    try:\n"
        f"        interface = choose_interface({group!r}, wanted, directory)\n"
        "        print(interface.name, interface.address)\n"
        "    except SetupError as error:\n"
        "        print(error)\n"
    )
    return in_namespace(NET + setup, program).splitlines()


@namespaced
def test_no_network_but_loopback() -> None:
    assert chosen("", "(None, None)") == ["lo 127.0.0.1"]
    assert chosen("ip link set lo down", "(None, None)") == [
        f"no multicast to {GROUP} by lo: it is down"
    ]


@namespaced
def test_towards_the_directory_then_the_default_route_then_any() -> None:
    setup = """
        add lan0 192.0.2.2/24
        add wlan0 198.51.100.2/24
        ip route add default via 198.51.100.1
        ip route add 203.0.113.0/24 via 192.0.2.1
    """
    assert chosen(
        setup,
        '(None, ("192.0.2.77", 44444))',
        '(None, ("203.0.113.5", 44444))',
        '(None, ("127.0.0.1", 44444))',  # on this host: where members elsewhere hear us too
        '(None, ("192.0.2.2", 44444))',  # and so is this one
        "(None, None)",
        '("lan0", None)',
        '("192.0.2.2", None)',
        '("lo", ("192.0.2.77", 44444))',
    ) == [
        "lan0 192.0.2.2",
        "lan0 192.0.2.2",
        "wlan0 198.51.100.2",
        "wlan0 198.51.100.2",
        "wlan0 198.51.100.2",
        "lan0 192.0.2.2",
        "lan0 192.0.2.2",
        "lo 127.0.0.1",
    ]


@namespaced
def test_a_network_without_any_default_route_comes_before_loopback() -> None:
    setup = "add lan0 192.0.2.2/24"
    assert chosen(setup, "(None, None)", '(None, ("127.0.0.1", 1))') == ["lan0 192.0.2.2"] * 2


@namespaced
def test_the_best_metric_wins() -> None:
    setup = """
        add wlan0 198.51.100.2/24
        add lan0 192.0.2.2/24
        ip route add default via 198.51.100.1 metric 600
        ip route add default via 192.0.2.1 metric 100
    """
    assert chosen(setup, "(None, None)") == ["lan0 192.0.2.2"]


@namespaced
def test_never_by_the_inside_of_this_host() -> None:
    setup = """
        add docker0 172.17.0.1/16
        add veth12 172.18.0.1/16
        add br-0a1b2c3d4e5f 172.19.0.1/16
        ip route add default via 172.17.0.2
    """
    assert chosen(setup, "(None, None)") == ["lo 127.0.0.1"]
    assert chosen(setup, '("docker0", None)') == ["docker0 172.17.0.1"]  # but when told to
    directory = '(None, ("172.18.0.5", 44444))'  # and when the directory is there
    assert chosen(setup + "add lan0 192.0.2.2/24", "(None, None)", directory) == [
        "lan0 192.0.2.2",
        "veth12 172.18.0.1",
    ]


@namespaced
def test_a_bridge_of_a_router_is_a_lan() -> None:
    assert chosen("add br-lan 192.168.1.1/24", "(None, None)") == ["br-lan 192.168.1.1"]


@namespaced
def test_what_can_not_do_it_is_passed_over_and_refused_when_asked_for() -> None:
    setup = """
        add down0 192.0.2.2/24
        ip route add default via 192.0.2.1
        ip link set down0 down
        add mute0 198.51.100.2/24
        ip link set mute0 multicast off
        ip route add default via 198.51.100.1
        ip link add bare0 type veth peer name veth-bare0
        ip link set bare0 up
    """
    why = f"no multicast to {GROUP} by"
    assert chosen(
        setup, "(None, None)", *(f'("{n}0", None)' for n in ("down", "mute", "bare"))
    ) == [
        "lo 127.0.0.1",
        f"{why} down0: it is down",
        f"{why} mute0: it has no multicast",
        f"{why} bare0: it has no IPv4 address",
    ]


@namespaced
def test_second_addresses_and_labels_are_known() -> None:
    setup = """
        add lan0 192.0.2.2/24
        ip addr add 192.0.2.3/24 dev lan0
        ip addr add 203.0.113.3/24 dev lan0 label lan0:two
    """
    assert chosen(setup, '("192.0.2.3", None)', '("203.0.113.3", None)') == [
        "lan0 192.0.2.3",
        "lan0 203.0.113.3",
    ]


@namespaced
def test_ipv6_directory_and_ipv6_default_route() -> None:
    setup = """
        add lan0 192.0.2.2/24
        add wlan0 198.51.100.2/24
        ip addr add 2001:db8:1::2/64 dev lan0 nodad
        ip addr add 2001:db8:2::2/64 dev wlan0 nodad
        ip route add default via 198.51.100.1
        ip -6 route add default via 2001:db8:1::1
    """
    arguments = (
        "(None, None)",
        '(None, ("2001:db8:1::9", 44444, 0, 0))',
        '("2001:db8:2::2", None)',
    )
    assert chosen(setup, *arguments) == [
        "wlan0 198.51.100.2",
        "lan0 192.0.2.2",
        "wlan0 198.51.100.2",
    ]
    assert chosen(setup, *arguments, group="ff15::7") == [
        "lan0 2001:db8:1::2",
        "lan0 2001:db8:1::2",
        "wlan0 2001:db8:2::2",
    ]


@namespaced
def test_ipv6_rooms_between_members_of_one_host_and_across_a_cable() -> None:
    setup = """
        ip link add v0 type veth peer name v1
        for one in v0 v1; do
            echo 0 > /proc/sys/net/ipv6/conf/$one/accept_dad
            ip link set $one up
        done
    """
    program = """
import re
import select
from evloop.net.interfaces import *
from evloop.net.multicast import *
near, far = (choose_interface("ff15::7", name, None) for name in ("v0", "v1"))
members = [open_receiver("ff15::7", 5751, one) for one in (near, near, far)]
stranger = open_receiver("ff15::8", 5751, near)
sender = open_sender("ff15::7", 5751, near, 1)
sender.sendto(b"Mel: Good morning!", destination("ff15::7", 5751, near))
for member in members:
    assert select.select([member], [], [], 10)[0]
    [(data, source)] = receive(member)
    assert data == b"Mel: Good morning!" and source[1] == sender.getsockname()[1], source
assert receive(stranger) == []
answerer = open_sender("ff15::7", 5751, near, 1)
asker = source[:3] + (near.ifindex,)
answerer.sendto(b"repair", asker)
assert select.select([sender], [], [], 10)[0]
assert [data for data, _ in receive(sender)] == [b"repair"]
print("all heard")
"""
    assert in_namespace(setup, program) == "all heard\n"


PORTS_OF_BRIDGES = """
from evloop.base.errors import SetupError
from evloop.base.names import place_of
from evloop.net.interfaces import *
from evloop.net.multicast import *
lo = choose_interface("239.255.7.1", "lo", None)
"""


@namespaced
def test_a_member_never_sends_from_the_port_of_a_bridge() -> None:
    """Half of the ports that this machine hands out belong to bridges."""
    setup = "echo 24892 25019 > /proc/sys/net/ipv4/ip_local_port_range"
    program = f"""{PORTS_OF_BRIDGES}
senders = [open_sender("239.255.7.1", 5751, lo, 1) for _ in range(40)]
ports = [one.getsockname()[1] for one in senders]
assert all(24956 <= one <= 25019 for one in ports), ports
bridges = [open_sender("239.255.7.1", 5751, lo, 1, bridge=True) for _ in range(3)]
print([one.getsockname()[1] for one in bridges])
"""
    assert in_namespace(setup, program) == "[24444, 24445, 24446]\n"


@namespaced
def test_a_machine_that_hands_out_ports_of_bridges_alone_is_told_what_to_do() -> None:
    setup = "echo 24500 24900 > /proc/sys/net/ipv4/ip_local_port_range"
    program = f"""{PORTS_OF_BRIDGES}
try:
    open_sender("239.255.7.1", 5751, lo, 1)
except SetupError as error:
    print(error)
"""
    assert in_namespace(setup, program) == (
        "cannot open 239.255.7.1:5751: this machine hands out only the ports 24444 to 24955, which"
        " bridges between sites use; widen net.ipv4.ip_local_port_range\n"
    )


@namespaced
def test_two_hosts_hear_each_other_over_a_cable() -> None:
    """The other end of the cable is in a namespace of its own: nothing is looped back."""
    setup = """
        ip link add v0 type veth peer name v1
        ip link set v0 up
        ip addr add 192.0.2.1/24 dev v0
    """
    program = """
import os, select, subprocess, sys
from evloop.net.interfaces import *
from evloop.net.multicast import *
far = '''
import select, sys
from evloop.net.interfaces import *
from evloop.net.multicast import *
sys.stdout.write("new"), sys.stdout.flush(), sys.stdin.readline()
import subprocess
subprocess.run("ip link set v1 up; ip addr add 192.0.2.2/24 dev v1", shell=True, check=True)
interface = choose_interface("239.255.77.1", "v1", None)
receiver = open_receiver("239.255.77.1", 5751, interface)
sender = open_sender("239.255.77.1", 5751, interface, 1)
sys.stdout.write("set"), sys.stdout.flush()
assert select.select([receiver], [], [], 10)[0]
[(data, source)] = receive(receiver)
sender.sendto(b"heard " + data, source)
'''
host = subprocess.Popen(["unshare", "--net", sys.executable, "-c", far], stdin=-1, stdout=-1)
assert host.stdout.read(3) == b"new"
subprocess.run(["ip", "link", "set", "v1", "netns", str(host.pid)], check=True)
host.stdin.write(b"go\\n"), host.stdin.flush()
assert host.stdout.read(3) == b"set"
interface = choose_interface("239.255.77.1", "v0", None)
sender = open_sender("239.255.77.1", 5751, interface, 1)
sender.sendto(b"hello", ("239.255.77.1", 5751))
assert select.select([sender], [], [], 10)[0]
print(receive(sender)[0][0].decode(), host.wait())
"""
    assert in_namespace(setup, program) == "heard hello 0\n"


def test_readiness_is_seen_by_select(sockets: Sockets) -> None:
    receiver, sender = sockets.receiver(), sockets.sender()
    sender.sendto(b"", (GROUP, PORT))
    assert select.select([receiver], [], [], 0)[0] == [receiver]


def test_a_group_is_left_and_joined_without_closing_anything(sockets: Sockets) -> None:
    receiver, sender = sockets.receiver(), sockets.sender()

    def arrives(text: bytes) -> bool:
        sender.sendto(text, (GROUP, PORT))
        return heard(receiver) == [text]

    for _ in range(2):
        assert arrives(b"in")
        leave(receiver, GROUP, LOOPBACK)
        assert not arrives(b"out")
        with pytest.raises(OSError, match="Cannot assign requested address"):
            leave(receiver, GROUP, LOOPBACK)
        join(receiver, GROUP, LOOPBACK)


@namespaced
def test_an_ipv6_group_too_and_what_comes_back_has_our_source() -> None:
    setup = "add lan0 192.0.2.2/24\nip addr add fe80::7/64 dev lan0 nodad"
    program = """
import re
import select
from evloop.net.interfaces import choose_interface
from evloop.net.multicast import *
for group in ("ff15::7", "ff12::7"):
    interface = choose_interface(group, None, None)
    receiver = open_receiver(group, 5751, interface)
    sender = open_sender(group, 5751, interface, 1)
    def arrives():
        sender.sendto(b"x", destination(group, 5751, interface))
        return bool(select.select([receiver], [], [], 0.3)[0]) and receive(receiver)
    print(interface.address.startswith("fe80::"), arrives() == [(b"x", sender.getsockname())])
    leave(receiver, group, interface)
    print(arrives())
    join(receiver, group, interface)
    print(len(arrives()))
"""
    out = in_namespace(NET + setup, program).splitlines()
    assert out == ["True True", "False", "1"] * 2
