"""The announced directory beside the others who speak multicast DNS, in network namespaces."""

from __future__ import annotations

import re
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from evloop.net.mdns import (
    AAAA,
    PTR,
    QUERY,
    SRV,
    TXT,
    A,
    Message,
    Question,
    attributes,
    build,
    name_of,
)
from tests.lab.mdns import (
    GROUP,
    GROUP_IPV6,
    Answer,
    Avahi,
    Resolved,
    announced,
    announcing,
    ask,
    ask_all,
    dispute,
    flood,
    foreign,
    lacks_avahi,
    lacks_resolved,
    lacks_zeroconf,
    packed,
    send_mutants,
    wakes,
    zeroconf,
)
from tests.lab.network import Flat, Namespace, flat, missing
from tests.support.elsewhere import box
from tests.support.mdns import VECTORS
from tests.support.processes import Crew, no_trace
from tests.support.sources import ROOT
from tests.support.tls_files import Files, needs_openssl, openssl

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing() or "the lab is here")
with_avahi = pytest.mark.skipif(bool(lacks_avahi()), reason=lacks_avahi() or "avahi is here")
with_zeroconf = pytest.mark.skipif(
    bool(lacks_zeroconf()), reason=lacks_zeroconf() or "zeroconf is here"
)

QUESTION = VECTORS["question"]
FIRST = "10.77.0.1"
DEAF = "multicast does not come back to interface=eth0: a firewall here drops UDP 5353 to "
HELD = "port 5353 is held by another program that does not share it"


@pytest.fixture
def lab() -> Iterator[Flat]:
    with flat(2) as lab:
        yield lab


def addresses(message: Message) -> set[bytes]:
    records = [*message.answers, *message.additional]
    return {bytes(it.value) for it in records if it.type in (A, AAAA)}  # type: ignore[arg-type]


def asked(crew: Crew, host: Namespace, by: str = "") -> Answer:
    """What it answers, asked until it does."""
    found: list[Answer] = []

    def look() -> bool:
        answer = ask(host, QUESTION, wait=0.2, by=by)
        found.extend([answer] if answer else [])
        return bool(found)

    crew.until(look, why="it answers", every=0.02)
    return found[0]


def shown(crew: Crew, avahi: Avahi, address: str) -> list[str]:
    """The line that avahi has for a directory at that address, once it has one."""
    found: list[list[str]] = []

    def look() -> bool:
        line = avahi.shows(address, 44444)
        found.extend([line] if line else [])
        return bool(found)

    crew.until(look, why=f"avahi shows {address}", every=0.2)
    return found[0]


# -- beside others ---------------------------------------------------------------------------------


@with_avahi
@pytest.mark.parametrize("where", ["elsewhere", "here, before", "here, after"])
def test_avahi_finds_it(crew: Crew, lab: Flat, tmp_path: Path, where: str) -> None:
    host = lab.hosts[1] if where == "elsewhere" else lab.hosts[0]
    if where != "here, after":
        avahi = Avahi(crew, host, tmp_path / "avahi")
        server = announcing(crew, lab.hosts[0])
        announced(crew, server)
    else:
        server = announcing(crew, lab.hosts[0])
        announced(crew, server)
        avahi = Avahi(crew, host, tmp_path / "avahi")
    line = shown(crew, avahi, FIRST)
    assert line[2].startswith("kitchen-pi\\032")
    assert line[5].startswith("evloop-") and line[5].endswith(".local")
    assert '"kind=server" ' in line[8] and '"txtvers=1"' in line[8]
    assert DEAF not in server.err and HELD not in server.err
    server.signal(signal.SIGTERM)
    crew.finish(server)
    # Records with a time to live of 0 are kept for one second (RFC 6762, 10.1).
    crew.until(lambda: not avahi.browse(), why="it has said goodbye", every=0.2)
    no_trace(server)


@with_avahi
def test_avahi_loses_no_unicast_to_it(crew: Crew, lab: Flat, tmp_path: Path) -> None:
    """Of two sockets on the wildcard the later one would get it."""
    Avahi(crew, lab.hosts[0], tmp_path / "avahi", name="box")
    announced(crew, announcing(crew, lab.hosts[0]))
    question = build(Message(7, QUERY, [Question(name_of("box", "local"), A, False)]))
    for _ in range(5):
        answer = ask(lab.hosts[1], question, group=FIRST)
        assert answer is not None and answer[0].answers[0].value == packed(FIRST)


@with_avahi
def test_avahi_that_does_not_share_the_port(crew: Crew, lab: Flat, tmp_path: Path) -> None:
    Avahi(crew, lab.hosts[0], tmp_path / "avahi", alone=True)
    server = announcing(crew, lab.hosts[0])
    crew.until(lambda: HELD in server.err, why="it says so")
    lab.hosts[0].ip("addr add 10.77.0.99/24 dev eth0")  # it tries again, and says it once
    listing = crew.client("getdir", server=f"{FIRST}:44444", prefix=lab.hosts[1].prefix)
    assert crew.finish(listing).status == 0
    crew.read_for(1)
    assert server.err.count(HELD) == 1 and "announced" not in server.err
    no_trace(server)


@with_zeroconf
@pytest.mark.parametrize("where", ["elsewhere", "here, before", "here, after"])
def test_zeroconf_finds_it(crew: Crew, lab: Flat, where: str) -> None:
    host, address = (lab.hosts[1], "10.77.0.2") if where == "elsewhere" else (lab.hosts[0], FIRST)
    if where == "here, after":
        server = announcing(crew, lab.hosts[0])
        announced(crew, server)
        seen = zeroconf(crew, host, address)
    else:
        seen = zeroconf(crew, host, address)
        server = announcing(crew, lab.hosts[0])
    crew.until(lambda: "found" in seen.out, why="zeroconf finds it")
    line = next(line for line in seen.lines if line.startswith("found"))
    assert "kitchen-pi " in line and f"['{FIRST}'] 44444 evloop-" in line
    assert "b'kind': b'server'" in line and "b'tls': b'0'" in line
    announced(crew, server)
    server.signal(signal.SIGTERM)
    crew.until(lambda: "gone" in seen.out, why="it has said goodbye")
    assert DEAF not in server.err
    no_trace(crew.finish(server))


@pytest.mark.skipif(bool(lacks_resolved()), reason=lacks_resolved() or "resolved is here")
def test_servicefinds_it(crew: Crew, lab: Flat, tmp_path: Path) -> None:
    """From another host: on its own it drops what its own address has sent."""
    server = announcing(crew, lab.hosts[0])
    announced(crew, server)
    resolved = Resolved(crew, lab.hosts[1], tmp_path / "resolved")
    browsed = resolved.ask("query", "--type=PTR", "_evloop._tcp.local")
    assert browsed.status == 0, browsed.tell()
    found = re.search(r"IN PTR (kitchen-pi\\032[0-9a-f]{4})\._evloop", browsed.out)
    assert found, browsed.out
    label = found[1].replace("\\032", " ")
    service = resolved.ask("service", label, "_evloop._tcp", "local")
    assert service.status == 0, service.tell()
    assert ".local:44444" in service.out and FIRST in service.out
    assert "kind=server" in service.out


@pytest.mark.skipif(bool(lacks_resolved()), reason=lacks_resolved() or "resolved is here")
def test_beside_resolved(crew: Crew, lab: Flat, tmp_path: Path) -> None:
    Resolved(crew, lab.hosts[0], tmp_path / "resolved")
    server = announcing(crew, lab.hosts[0])
    announced(crew, server)
    assert asked(crew, lab.hosts[1])[1] == FIRST
    crew.read_for(1.2)
    assert DEAF not in server.err and HELD not in server.err


# -- manners ---------------------------------------------------------------------------------------


def test_it_is_found_from_its_first_millisecond_on(crew: Crew, lab: Flat) -> None:
    """Its socket is there when the code for it is loaded; the name is certain 0.75 s later."""
    server = announcing(crew, lab.hosts[0])
    answer = asked(crew, lab.hosts[1])
    assert "announced" not in server.err
    message, source, port = answer
    assert (source, port) == (FIRST, 5353)
    assert message.questions == [Question(message.questions[0].name, PTR, False)]
    assert packed(FIRST) in addresses(message)


def test_a_thousand_foreign_datagrams_wake_nobody(crew: Crew, lab: Flat) -> None:
    server = announcing(crew, lab.hosts[0])
    announced(crew, server)
    crew.read_for(2.2)  # the second announcement, and the look whether the first came back
    # `ip netns exec` and `env` have become the server.
    before = wakes(server.pid)
    flood(lab.hosts[1], foreign(), 1_000)
    assert wakes(server.pid) == before
    assert ask(lab.hosts[1], QUESTION) is not None
    assert wakes(server.pid) > before


def test_nothing_is_announced_when_told_so(crew: Crew, lab: Flat) -> None:
    for options, listen in (
        (("--no-announce",), ":44444"),
        ((), "127.0.0.1:44445"),
        (("--interface", "lo"), ":44446"),
        (("--interface", "127.0.0.1"), ":44447"),
    ):
        announcing(crew, lab.hosts[0], *options, listen=listen)
    assert ask(lab.hosts[1], QUESTION, wait=1) is None


def test_it_listens_on_one_address(crew: Crew, lab: Flat) -> None:
    """Of two that the link has; and where it is not, nothing is known of it."""
    lab.hosts[0].ip("addr add 10.77.0.99/24 dev eth0")
    announced(crew, announcing(crew, lab.hosts[0], listen="10.77.0.99:4000"))
    answer = ask(lab.hosts[1], QUESTION)
    assert answer is not None and addresses(answer[0]) == {packed("10.77.0.99")}
    assert answer[1] == "10.77.0.99"


def test_the_inside_of_the_machine_is_not_told(crew: Crew, lab: Flat) -> None:
    """Nor is anything said there."""
    host = lab.hosts[0]
    host.ip(
        "link add docker0 type bridge", "link set docker0 up", "addr add 172.17.0.1/16 dev docker0"
    )
    lab.network.wire(host, "veth1", lab.hosts[1], "inner")
    host.ip("addr add 172.18.0.1/16 dev veth1")
    lab.hosts[1].ip("addr add 172.18.0.2/16 dev inner")
    server = announcing(crew, host)
    announced(crew, server)
    answer = ask(lab.hosts[1], QUESTION)
    assert answer is not None
    assert not {packed("172.17.0.1"), packed("172.18.0.1")} & addresses(answer[0])
    assert ask(lab.hosts[1], QUESTION, wait=0.5, by="172.18.0.2") is None
    assert server.err.count("announced as ") == 1


def test_the_named_interface_alone(crew: Crew, lab: Flat) -> None:
    """By name, and by an address that is there no more when it matters."""
    host, other = lab.hosts
    lab.network.wire(host, "eth1", other, "eth1")
    host.ip("addr add 10.81.0.1/24 dev eth1")
    other.ip("addr add 10.81.0.2/24 dev eth1")
    for wanted in ("eth1", "10.81.0.1"):
        server = announcing(crew, host, "--interface", wanted)
        announced(crew, server)
        answer = ask(other, QUESTION, by="10.81.0.2")
        assert answer is not None and packed("10.81.0.1") in addresses(answer[0])
        assert packed(FIRST) not in addresses(answer[0])
        assert ask(other, QUESTION, wait=0.5) is None
        if wanted != "eth1":
            host.ip("addr del 10.81.0.1/24 dev eth1", "addr add 10.81.0.9/24 dev eth1")
            crew.until(
                lambda: packed("10.81.0.9") in addresses(asked(crew, other, "10.81.0.2")[0]),
                why="the other address of that interface",
                every=0.1,
            )
        server.signal(signal.SIGTERM)
        crew.finish(server)


def test_ipv6_alone(crew: Crew, lab: Flat) -> None:
    for host in lab.hosts:
        host.ip("addr flush dev eth0 scope global")
    server = announcing(crew, lab.hosts[0])
    announced(crew, server)
    answer = ask(lab.hosts[1], QUESTION, group=GROUP_IPV6)
    assert answer is not None
    message, source, port = answer
    assert source.startswith("fe80::") and port == 5353
    assert addresses(message) == {packed(source.partition("%")[0])}
    crew.read_for(1.2)
    assert DEAF not in server.err


def test_both_families(crew: Crew, lab: Flat) -> None:
    announced(crew, announcing(crew, lab.hosts[0]))
    for group in ("224.0.0.251", GROUP_IPV6):
        answer = ask(lab.hosts[1], QUESTION, group=group)
        assert answer is not None and len(addresses(answer[0])) == 2


# -- what changes ----------------------------------------------------------------------------------


@with_avahi
def test_another_address(crew: Crew, lab: Flat, tmp_path: Path) -> None:
    server = announcing(crew, lab.hosts[0])
    avahi = Avahi(crew, lab.hosts[1], tmp_path / "avahi")
    shown(crew, avahi, FIRST)
    lab.hosts[0].ip(f"addr del {FIRST}/24 dev eth0", "addr add 10.77.0.99/24 dev eth0")
    shown(crew, avahi, "10.77.0.99")
    crew.until(lambda: not avahi.shows(FIRST, 44444), why="not the old one", every=0.2)
    no_trace(server)


def test_an_interface_that_comes_later(crew: Crew, lab: Flat) -> None:
    host = lab.hosts[0]
    host.ip("link set eth0 down", "addr flush dev eth0")
    server = announcing(crew, host)
    assert "announced" not in server.err
    host.ip("link set eth0 up", f"addr add {FIRST}/24 dev eth0")
    announced(crew, server)
    answer = ask(lab.hosts[1], QUESTION)
    assert answer is not None and answer[1] == FIRST


def test_the_cable_out_and_in(crew: Crew, lab: Flat) -> None:
    host, other = lab.hosts
    server = announcing(crew, host, "--interface", "eth0")
    announced(crew, server)
    lab.switch.ip("link set port1 down")
    lab.switch.ip("link set port1 up")
    assert asked(crew, other)[1] == FIRST


def test_a_firewall_is_told(crew: Crew, lab: Flat) -> None:
    rules = "table inet wall { chain in { type filter hook input priority 0;"
    rules += " udp dport 5353 ip daddr 224.0.0.251 drop; }; }\n"
    lab.hosts[0].run("nft", "-f", "-", text=rules)
    server = announcing(crew, lab.hosts[0])
    crew.until(lambda: DEAF + "224.0.0.251, so nobody" in server.err, why="the warning")
    crew.read_for(2)
    assert server.err.count(DEAF) == 1


# -- what is told ----------------------------------------------------------------------------------


def texts(message: Message) -> dict[bytes, bytes]:
    (value,) = [it.value for it in message.additional if it.type == TXT]
    assert isinstance(value, bytes)
    return attributes(value)


@needs_openssl
def test_tls_and_its_fingerprint(crew: Crew, lab: Flat, tmp_path: Path) -> None:
    """A new certificate is told when the server reads it."""
    files = Files(tmp_path)
    options = ("--tls-cert", files.cert, "--tls-key", files.key)
    server = announcing(crew, lab.hosts[0], *options)
    announced(crew, server)

    def told() -> bytes:
        answer = ask(lab.hosts[1], QUESTION)
        assert answer is not None
        found = texts(answer[0])
        assert found[b"tls"] == b"1"
        return found[b"fp"]

    assert told() == fingerprint(files.cert)
    # With --memory the id is that of the first certificate, as long as the server runs.
    shutil.copy(files.other_cert, files.cert)
    shutil.copy(files.other_key, files.key)
    server.signal(signal.SIGHUP)
    crew.until(lambda: "the TLS files were reloaded" in server.err, why="it has read them")
    assert told() == fingerprint(files.other_cert)


def fingerprint(path: str) -> bytes:
    line = openssl("x509", "-in", path, "-noout", "-fingerprint", "-sha256")
    return line.partition("=")[2].replace(":", "").strip().lower()[:32].encode()


@pytest.mark.parametrize("quiet", [False, True])
def test_a_directory_in_somebodys_client(crew: Crew, lab: Flat, quiet: bool) -> None:
    options = ("--no-announce",) if quiet else ()
    host = crew.client(*options, module="evloop", prefix=lab.hosts[0].prefix, EVLOOP_INTERFACE="")
    crew.until(lambda: "this one hosts it" in host.err, why="it hosts")
    if quiet:
        assert ask(lab.hosts[1], QUESTION, wait=1) is None
        return
    answer = asked(crew, lab.hosts[1])
    assert texts(answer[0])[b"kind"] == b"guest"
    host.end()
    crew.finish(host)
    assert ask(lab.hosts[1], QUESTION, wait=0.5) is None


def test_the_id_is_that_of_hello(crew: Crew, lab: Flat, tmp_path: Path) -> None:
    """And stays after a restart, and so does the name that people see."""
    labels = []
    for _ in range(2):
        server = announcing(crew, lab.hosts[0], "--state", str(tmp_path / "rooms"))
        announced(crew, server)
        answer = ask(lab.hosts[1], QUESTION)
        assert answer is not None
        program = HELLO.format(place=(FIRST, 44444))
        said = lab.hosts[1].run(sys.executable, "-c", program).strip()
        assert texts(answer[0])[b"id"].decode() == said
        labels.append(answer[0].answers[0].value)
        server.signal(signal.SIGTERM)
        crew.finish(server)
    assert labels[0] == labels[1]


HELLO = """
import json, socket
question = b'{{"jsonrpc":"2.0","id":1,"method":"hello"}}'
with socket.create_connection({place}) as sock, sock.makefile("rb") as file:
    sock.sendall(len(question).to_bytes(4, "big") + question)
    answer = json.loads(file.read(int.from_bytes(file.read(4), "big")))
print(answer["result"]["id"])
"""


# -- several ---------------------------------------------------------------------------------------


def test_two_on_one_machine(crew: Crew, lab: Flat) -> None:
    """Each hears all, and both are found with one question."""
    servers = [announcing(crew, lab.hosts[0], listen=f":{port}") for port in (4001, 4002)]
    for server in servers:
        announced(crew, server)
    answers = ask_all(lab.hosts[1], QUESTION)
    ports = {it.value[2] for message in answers for it in message.additional if it.type == SRV}
    assert ports == {4001, 4002}


def test_a_copy_of_a_directory_takes_other_names(crew: Crew, lab: Flat, tmp_path: Path) -> None:
    """Two with one id and one name, on two machines: both are found."""
    (tmp_path / "one").mkdir()
    first = announcing(crew, lab.hosts[0], "--state", str(tmp_path / "one" / "rooms"))
    announced(crew, first)
    first.signal(signal.SIGTERM)
    crew.finish(first)
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    servers = [
        announcing(crew, host, "--state", str(tmp_path / name / "rooms"))
        for host, name in zip(lab.hosts, ("one", "two"))
    ]
    guest = lab.add_host()
    crew.until(
        lambda: len({label_of(message) for message in ask_all(guest, QUESTION)}) == 2,
        why="they have other names",
        every=0.1,
    )
    for server in servers:
        no_trace(server)


def label_of(message: Message) -> bytes:
    return bytes(message.answers[0].value)  # type: ignore[arg-type]


@pytest.mark.parametrize("family", ["IPv4", pytest.param("IPv6", marks=pytest.mark.slow)])
def test_a_flood_of_forged_conflicts(crew: Crew, lab: Flat, family: str) -> None:
    """It takes other names, 15 times and then once in 5 s; it is found, and it serves."""
    server = announcing(crew, lab.hosts[0])
    announced(crew, server)
    group = GROUP_IPV6 if family == "IPv6" else GROUP
    dispute(lab.hosts[1], QUESTION, group, 10.0)
    renames = server.err.count("announced as ")
    assert renames <= 15 + 10 / 5 + 1
    answer = ask(lab.hosts[1], QUESTION, group=group)
    assert answer is not None and packed(FIRST) in addresses(answer[0])
    listing = crew.client("getdir", server=f"{FIRST}:44444", prefix=lab.hosts[1].prefix)
    assert crew.finish(listing).status == 0
    no_trace(server)


def test_mutants_on_the_wire(crew: Crew, lab: Flat) -> None:
    """What can be read in them is about another directory, so its names stay."""
    server = announcing(crew, lab.hosts[0])
    announced(crew, server)
    send_mutants(lab.hosts[1], 20_000, 15)
    crew.read_for(1.1)  # until one-shot questions have their rate again
    answer = ask(lab.hosts[1], QUESTION)
    assert answer is not None and packed(FIRST) in addresses(answer[0])
    assert server.err.count("announced as ") == 1
    no_trace(server)


# -- by way of avahi, and elsewhere ----------------------------------------------------------------


@with_avahi
def test_avahi_announces_by_our_file(crew: Crew, lab: Flat, tmp_path: Path) -> None:
    Avahi(crew, lab.hosts[0], tmp_path / "one", alone=True, services=ROOT / "contrib" / "avahi")
    other = Avahi(crew, lab.hosts[1], tmp_path / "other", name="other")
    line = shown(crew, other, FIRST)
    assert line[2] == "box" and '"kind=server"' in line[8] and '"tls=0"' in line[8]


def test_elsewhere_than_on_linux(crew: Crew, lab: Flat, tmp_path: Path) -> None:
    """No netlink, no IP_PKTINFO, no filter: its address is found by the list that is read again."""
    words = [f"{name}={value}" for name, value in box(tmp_path / "box", "darwin").items()]
    prefix = (*lab.hosts[0].prefix, "env", "EVLOOP_INTERFACE=", *words)
    server = crew.server("--name", "mac", listen=":44444", prefix=prefix)
    announced(crew, server)
    assert asked(crew, lab.hosts[1])[1] == FIRST
    no_trace(server)
