"""The leg of a relayed room on networks that a test makes: IPv6, no network, one that comes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.namespaces import in_namespace, namespaced

pytestmark = namespaced

# A pair of cables: the directory is on `here`, whoever else is in the group on `there`.
CABLE = """
ip link add here type veth peer name there
ip link set here up && ip link set there up
"""
PROGRAM = """
import json, os, socket, subprocess, sys
os.environ.pop("EVLOOP_INTERFACE", None)
from evloop.directory.relay_frames import parse_down, room_frame
from tests.daemon.test_relay import X, Y, Z, data, enter, relayed
from tests.support.live import House

def told(caller, relay="full", sender=X):
    return enter(house, caller, sender, relay, "lab")

house = House(*OPTIONS)
one, two = house.caller(), house.caller()
house.call(one, "makeroom", name="lab", **PLACE)
out = {"first": told(one), "second": told(two, sender=Y)}
"""
SAY = """
one.send(room_frame(out["first"]["handle"], data(X)))
out["carried"] = [it.hex() for it in relayed(house, two, 1)]
house.tick(20)
one.read()
two.read()
out["echoes"] = len(one.relayed) + len(two.relayed)
out["drops"] = house.dispatcher.metrics.figures()["relay_drops"]
"""
END = """
out["log"] = house.lines
print(json.dumps(out))
house.close()
"""


def _run(setup: str, program: str, options: tuple[str, ...] = (), **place: object) -> Any:
    """What `program` has put into `out`."""
    head = f"OPTIONS, PLACE = {options!r}, {place!r}\n"
    return json.loads(in_namespace(setup, head + PROGRAM + program + END))


def test_a_machine_that_has_loopback_alone_is_a_hub() -> None:
    """Nobody else can be in the group there, unless the operator says so."""
    found = _run("", SAY)
    first = found["first"]
    assert (first["multicast"], first["leg"]) == (False, None)
    assert len(found["carried"]) == 1
    log = [line for line in found["log"] if "without multicast" in line]
    assert len(log) == 1
    asked = _run("", SAY, ("--interface", "127.0.0.1"))["first"]
    assert asked["multicast"] is True


@pytest.mark.parametrize(
    ("setup", "place"),
    [
        ("ip addr add 192.0.2.1/24 dev here", {"address": "239.255.7.1", "port": 5751}),
        (
            "ip addr add 2001:db8::1/64 dev here nodad",
            {"address": "ff15::7", "port": 5751},
        ),
    ],
)
def test_what_went_out_from_the_leg_does_not_come_back(setup: str, place: dict[str, Any]) -> None:
    """The kernel brings it to the leg's other socket, whichever family it is."""
    listen = """
import time
from evloop.net.links import Interface
from evloop.net.multicast import open_receiver
there = Interface(socket.if_nametoindex("there"), "there", "192.0.2.2")
outside = open_receiver(PLACE["address"], PLACE["port"], there)
"""
    heard = """
house.until(lambda: outside.recv(100, socket.MSG_PEEK | socket.MSG_DONTWAIT) if _ready() else b"")
datagram, source = outside.recvfrom(2_048)
out["outside"] = [datagram.hex(), source[0], source[1]]
outside.close()
"""
    ready = """
import select
def _ready():
    return bool(select.select([outside], [], [], 0)[0])
"""
    more = "ip addr add 192.0.2.2/24 dev there" if "." in str(place["address"]) else ""
    found = _run(CABLE + setup + "\n" + more, listen + ready + SAY + heard, **place)
    first, outside = found["first"], found["outside"]
    assert first["multicast"] is True
    assert found["echoes"] == 0
    assert outside[0] == found["carried"][0]
    host = outside[1].partition("%")[0]
    assert first["leg"] == (f"[{host}]:{outside[2]}" if ":" in host else f"{host}:{outside[2]}")


def test_a_network_that_comes_later() -> None:
    """The next who asks finds the leg there, and the log has one line."""
    come = """
subprocess.run("ip link add here type veth peer name there; ip link set here up;"
    " ip link set there up; ip addr add 192.0.2.1/24 dev here", shell=True, check=True)
house.skip(31)
out["later"] = told(one)
"""
    found = _run("", come)
    first, later = found["first"], found["later"]
    assert first["multicast"] is False
    assert later["multicast"] is True
    assert later["leg"].startswith("192.0.2.1:")


def test_a_network_that_goes_and_comes_back() -> None:
    away = """
def ip(words):
    subprocess.run("ip " + words, shell=True, check=True)
ip("addr del 192.0.2.1/24 dev here")
house.until(lambda: not told(one)["multicast"])
out["away"] = True
ip("addr add 192.0.2.9/24 dev here")
house.until(lambda: told(one)["multicast"])
out["back"] = told(one)["leg"]
"""
    found = _run(CABLE + "ip addr add 192.0.2.1/24 dev here", away + SAY)
    assert found["away"] is True
    assert str(found["back"]).startswith("192.0.2.9:")
    assert len(found["carried"]) == 1
