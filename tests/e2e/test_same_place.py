"""Which directory it is, and where its rooms are: what a restart changes, and what it does not."""

from __future__ import annotations

import signal
import ssl
from hashlib import sha256
from pathlib import Path

from evloop.base.names import place_of
from tests.support.namespaces import in_namespace, namespaced
from tests.support.processes import Crew, Server, no_trace
from tests.support.rpc import Wire
from tests.support.tls_files import Files, trusting


def place(wire: Wire, name: str, **more: object) -> str:
    """Where a room is made."""
    room = wire.result("makeroom", name=name, **more)["room"]
    return place_of(room["address"], room["port"])


def test_a_name_has_one_place_whoever_is_asked(crew: Crew) -> None:
    """Two directories that know nothing of each other; the first of them has more rooms."""
    with Wire(crew.server().port) as one, Wire(crew.server().port) as other:
        place(one, "garden", address="239.255.239.39", port=5751)
        assert place(one, "LAB") == place(other, "lab") == "239.255.239.39:28794"
        assert place(one, "Küche") == place(other, "KÜCHE")
        for wire in (one, other):
            wire.result("deleteroom", name="lab")
            place(wire, "squatter", address="239.255.239.39", port=28794)
        assert place(one, "lab") == place(other, "lab") == "239.255.129.80:26084"


IPV6_ALONE = """
ip link add lan0 type veth peer name lan1
ip link set lan0 up
ip link set lan1 up
ip addr add fd00::1/64 dev lan0 nodad
"""
MAKE_LAB = """
from tests.support.processes import Crew
from tests.support.rpc import Wire
with Crew() as crew:
    server = crew.server(listen=":44444")
    for host in ("fd00::1", "::1", "127.0.0.1"):
        with Wire(44444, host) as wire:
            room = wire.result("makeroom", name="lab")["room"]
            print(room["address"], room["port"])
            wire.result("deleteroom", name="lab")
            room = wire.result("makeroom", name="lab", address="239.255.7.1", port=5751)["room"]
            assert room["address"] == "239.255.7.1", "what is asked for is given"
            wire.result("deleteroom", name="lab")
"""


@namespaced
def test_where_there_is_no_ipv4_a_room_gets_an_ipv6_group() -> None:
    """If the one who makes it came by IPv6: a client on the same machine has loopback alone."""
    four, six = "239.255.239.39 28794", "ff15::77d8:33a0 27666"
    assert in_namespace(IPV6_ALONE, MAKE_LAB).splitlines() == [six, four, four]
    both = f"{IPV6_ALONE}ip addr add 192.0.2.1/24 dev lan0\n"
    assert in_namespace(both, MAKE_LAB).splitlines() == [four, four, four]


def stop(crew: Crew, server: Server) -> None:
    server.signal(signal.SIGTERM)
    assert crew.finish(server).status == 0
    no_trace(server)


def identity(crew: Crew, *options: str) -> str:
    """What a server tells that is started with `options` and ended again."""
    server = crew.server(*options)
    with Wire(server.port) as wire:
        told: str = wire.result("hello")["id"]
    stop(crew, server)
    return told


def test_a_directory_with_a_state_file_stays_the_same(crew: Crew, tmp_path: Path) -> None:
    options = ("--state", str(tmp_path / "directory.db"))
    assert identity(crew, *options) == identity(crew, *options)


def test_a_directory_in_memory_is_another_at_each_start(crew: Crew) -> None:
    assert identity(crew, "--memory") != identity(crew, "--memory")


def test_a_directory_in_memory_with_a_certificate_stays_the_same(
    crew: Crew, tmp_path: Path
) -> None:
    files = Files(tmp_path)
    words = (Path(files.cert).read_text(), Path(files.other_cert).read_text())
    chain = tmp_path / "chain.pem"
    chain.write_text(f"subject=the server\n{words[0]}and its authority\n{words[1]}")
    server = crew.server("--memory", "--tls-cert", str(chain), "--tls-key", files.key)
    with Wire(server.port, tls=trusting(files.ca)) as wire:
        told = wire.result("hello")["id"]
    stop(crew, server)
    shown = sha256(ssl.PEM_cert_to_DER_cert(words[0])).hexdigest()
    assert told == shown[:16]
