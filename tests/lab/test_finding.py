"""Directories found by those who name none: real programs in network namespaces, and nothing told.

Each host has a state directory of its own, as different machines have.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.lab.mdns import Avahi, lacks_avahi, lacks_zeroconf
from tests.lab.network import Flat, Namespace, flat, missing
from tests.support.processes import ROOT, Crew, Program, Seated, Server, no_trace
from tests.support.tls_files import Files

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing() or "the lab is here")

GUEST = "hosted by a client"


class People:
    """Programs on the hosts of a lab."""

    def __init__(self, crew: Crew, lab: Flat, folder: Path) -> None:
        self.crew, self.lab, self._folder = crew, lab, folder

    def settings(self, host: int) -> dict[str, str]:
        """What differs from the tests' environment: here the network is searched."""
        return {"EVLOOP_INTERFACE": "", "XDG_STATE_HOME": str(self._folder / f"state{host}")}

    def state(self, host: int, name: str) -> str:
        return (self._folder / f"state{host}" / "evloop" / name).read_text()

    def server(self, host: int, *options: str, name: str = "kitchen-pi") -> Server:
        """A directory that is announced."""
        words = [*self.lab.hosts[host].prefix, sys.executable, "-m", "evloop.server"]
        store = () if "--state" in options else ("--memory",)
        words += ["--name", name, *store, *options]
        server = Server(words, environ=self.settings(host))
        self.crew.add(server)
        self.crew.until(lambda: f"announced as {name}" in server.err or server.done)
        assert not server.done, server.tell()
        return server

    def run(self, host: int, *words: str, module: str = "evloop.client", **more: str) -> Program:
        """A client without --server, run to its end."""
        return self.crew.finish(self.start(host, *words, module=module, **more))

    def start(self, host: int, *words: str, module: str = "evloop.client", **more: str) -> Program:
        environ: Any = {**self.settings(host), **more}
        prefix = self.lab.hosts[host].prefix
        return self.crew.client(*words, module=module, prefix=prefix, **environ)

    def seat(
        self, host: int, *words: str, module: str = "evloop", state: Path | None = None
    ) -> Seated:
        """A person at a terminal."""
        prefix = self.lab.hosts[host].prefix
        seated = Seated(
            [*prefix, sys.executable, "-m", module, "--plain", *words],
            environ={
                **self.settings(host),
                **({"XDG_STATE_HOME": str(state)} if state is not None else {}),
            },
        )
        self.crew.add(seated)
        return seated

    def until(self, program: Program, text: str, seconds: float = 30.0) -> str:
        self.crew.until(lambda: text in shown(program), seconds, f"{text!r} of {program.tell()}")
        return shown(program)


def shown(program: Program) -> str:
    """All that it printed, its lines joined where a terminal's width has broken them."""
    return " ".join((program.out + program.err).split())


def found(program: Program) -> list[dict[str, Any]]:
    return [json.loads(line) for line in program.lines]


def test_a_directory_is_found_connected_and_remembered(crew: Crew, tmp_path: Path) -> None:
    with flat(2) as lab:
        people = People(crew, lab, tmp_path)
        server = people.server(0)
        made = people.run(1, "makeroom", "lab")
        assert made.status == 0 and "made room lab" in made.out, made.tell()
        listed = people.run(1, "--json", "directories")
        (one,) = found(listed)
        assert one == {
            "v": 1,
            "type": "directory",
            "name": "kitchen-pi",
            "id": one["id"],
            "address": "10.77.0.1",
            "port": 44444,
            "kind": "server",
            "tls": False,
            "interface": "eth0",
            "known": True,
        }
        assert people.state(1, "known_ids") == f"{one['id']} - kitchen-pi\n"
        person = people.seat(1, "--no-history", module="evloop.client")
        people.until(
            person,
            "directory kitchen-pi (10.77.0.1:44444, found on eth0), 1 room. help lists the",
        )
        # A stranger is told so, and taken all the same: there is no other.
        other = people.seat(1, module="evloop.client", state=tmp_path / "other")
        people.until(other, "(10.77.0.1:44444, found on eth0, not seen before), 1 room.")
        no_trace(server, made, listed, person, other)


def test_where_nobody_answers(crew: Crew, tmp_path: Path) -> None:
    with flat(1) as lab:
        people = People(crew, lab, tmp_path)
        sentence = (
            "no directory answers on this network (asked on eth0). connect HOST[:PORT] tries one,"
            " chat ADDRESS:PORT needs none, doctor says more."
        )
        for command in ("getdir", "directories"):
            ended = people.run(0, command)
            assert (ended.status, ended.err) == (69, f"evloop: {command}: {sentence}\n")
        person = people.seat(0, module="evloop.client")
        people.until(person, f"evloop: {sentence}")
        assert "connect 127" not in shown(person)


def test_nothing_leaves_where_the_network_is_narrowed_to_this_machine(
    crew: Crew, tmp_path: Path
) -> None:
    """And a script does not wait for a search."""
    with flat(1) as lab:
        people = People(crew, lab, tmp_path)
        lab.hosts[0].run("nft", "-f", "-", text=COUNTER)
        ended = people.run(0, "getdir", EVLOOP_INTERFACE="127.0.0.1")
        assert ended.status == 69 and "connect 127.0.0.1:44444" in ended.err
        assert "packets 0 " in lab.hosts[0].run("nft", "list", "table", "inet", "seen")
        people.run(0, "getdir")
        assert "packets 0 " not in lab.hosts[0].run("nft", "list", "table", "inet", "seen")


COUNTER = """table inet seen { chain output { type filter hook output priority 0;
ip daddr 224.0.0.251 counter; ip6 daddr ff02::fb; }; }
"""


def test_of_several_directories_a_person_chooses_and_a_script_says(
    crew: Crew, tmp_path: Path
) -> None:
    with flat(3) as lab:
        people = People(crew, lab, tmp_path)
        people.server(0)
        people.server(1, name="bob-laptop")
        script = people.run(2, "getdir")
        assert script.status == 1
        begin, _, end = script.err.partition(" (")
        assert begin == "evloop: getdir: 2 directories answer here"
        assert end.endswith("); --server says which\n")
        found = dict(one.split(" ") for one in end.partition(")")[0].split(", "))
        assert set(found) == {"kitchen-pi", "bob-laptop"}
        # What an IPv6 answer names is as good, when that of IPv4 has not come yet.
        for place, four in (("kitchen-pi", "10.77.0.1:44444"), ("bob-laptop", "10.77.0.2:44444")):
            assert found[place] == four or found[place].startswith("[fe80::")
        person = people.seat(2, module="evloop.client")
        people.until(person, "2 directories answer here; connect 1 or connect 2 chooses:")
        crew.until(lambda: "evloop> " in person.out)
        text = shown(person)
        second = "bob-laptop" if text.index("kitchen-pi") < text.index("bob-laptop") else None
        person.type("connect 2\n")
        name = "bob-laptop" if second else "kitchen-pi"
        people.until(person, f"evloop: directory {name} (")
        person.type("connect 7\n")
        people.until(person, "no directory has the number 7; directories lists them")
        person.type("connect KITCHEN-PI\n")
        people.until(person, "evloop: directory kitchen-pi (")
        # Both are known by now: one of them is taken at once.
        assert people.run(2, "getdir").status == 0


def test_a_script_about_a_room_takes_any_directory_that_lists_it(
    crew: Crew, tmp_path: Path
) -> None:
    with flat(3) as lab:
        people = People(crew, lab, tmp_path)
        people.server(0)
        people.server(1, name="bob-laptop")
        for at in (0, 1):
            assert people.run(at, "makeroom", "lab").status == 0  # its own, at 127.0.0.1
        assert people.run(0, "makeroom", "only").status == 0
        assert people.run(0, "makeroom", "apart", "239.255.9.9", "6001").status == 0
        assert people.run(1, "makeroom", "apart", "239.255.9.9", "6002").status == 0
        for room, status in (("lab", 0), ("only", 0), ("apart", 1), ("none", 1)):
            said = people.run(2, "say", "--anybody", room, "hello", XDG_STATE_HOME=str(tmp_path))
            assert said.status == status, (room, said.tell())
            (tmp_path / "evloop" / "known_ids").unlink(missing_ok=True)


def chat(people: People, seated: list[Seated], seconds: float) -> None:
    """They have all come to one directory: whoever makes a room, the others find it."""
    crew = people.crew

    def hosts() -> list[Seated]:
        moved, hosting = "moved there", "so this one hosts it"
        return [it for it in seated if hosting in shown(it) and moved not in shown(it)]

    def at_home(it: Seated) -> bool:
        """It is in a directory: the one that it was in may have moved away, and then it says so."""
        text = shown(it)
        return "rooms." in text and text.rfind(" is away ") <= text.rfind(" is back --")

    def settled() -> bool:
        ready = all("evloop> " in it.out and at_home(it) for it in seated)
        return ready and len(hosts()) == 1

    def insist(it: Seated, line: str, answer: str) -> None:
        """Where its directory goes away at this very moment it says so, and is back by itself: a
        person types it again."""
        refused = f"{line}: the directory"
        while answer not in shown(it):
            crew.until(lambda: at_home(it), why="back in a directory")
            tries = shown(it).count(refused)
            it.type(f"{line}\n")
            crew.until(partial(answered, it, answer, refused, tries), why=answer)

    def answered(it: Seated, answer: str, refused: str, tries: int) -> bool:
        return answer in shown(it) or shown(it).count(refused) > tries

    crew.until(settled, seconds, "one directory")
    insist(seated[0], "makeroom lab", "made room lab")
    for one in seated:
        insist(one, "chat lab", "-- in lab")
    for number, one in enumerate(seated):
        one.type(f"hello from {number}\n")
    for one in seated:
        for number, other in enumerate(seated):
            if other is not one:
                people.until(one, f": hello from {number}")
    assert len(hosts()) == 1


@pytest.mark.parametrize("loss", [0, 30])
@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.slow
def test_who_start_at_the_same_second_meet(
    crew: Crew, tmp_path: Path, count: int, loss: int
) -> None:
    with flat(count, loss) as lab:
        people = People(crew, lab, tmp_path)
        seated = [people.seat(at, "--name", "abc"[at]) for at in range(count)]
        chat(people, seated, 40.0)  # 10 s and less, but not on a machine that does much else
        no_trace(*seated)


@pytest.mark.skipif(bool(lacks_avahi()), reason=lacks_avahi() or "avahi is here")
@pytest.mark.slow
def test_who_start_at_the_same_second_meet_beside_avahi(crew: Crew, tmp_path: Path) -> None:
    """One of them has avahi already, one gets it when they talk, and then a fourth comes."""
    with flat(4) as lab:
        Avahi(crew, lab.hosts[0], tmp_path / "avahi")
        people = People(crew, lab, tmp_path)
        seated = [people.seat(at, "--name", "abc"[at]) for at in range(3)]
        chat(people, seated, 40.0)
        later = Avahi(crew, lab.hosts[1], tmp_path / "later", name="late")
        # A line for each family.
        crew.until(lambda: len({line[2] for line in later.browse()}) == 1, why="one", every=0.2)
        fourth = people.seat(3, "--name", "d")
        people.until(fourth, "found on eth0, not seen before), 1 room.")
        no_trace(*seated, fourth)


def test_the_second_joins_the_first(crew: Crew, tmp_path: Path) -> None:
    with flat(2) as lab:
        people = People(crew, lab, tmp_path)
        first = people.seat(0, "--name", "a")
        people.until(
            first,
            "evloop: no directory answered on this network, so this one hosts it (in memory, on"
            " every address); others just type: python3 -m evloop",
        )
        people.until(first, "0 rooms.")
        (one,) = found(people.run(1, "--json", "directories"))
        assert (one["kind"], one["address"]) == ("guest", "10.77.0.1")
        second = people.seat(1, "--name", "b")
        people.until(second, "(10.77.0.1:44444, found on eth0, not seen before), 0 rooms.")
        chat(people, [first, second], 10.0)


def test_a_directory_with_another_address_is_found_again(crew: Crew, tmp_path: Path) -> None:
    """The server's host gets another address by DHCP while somebody is at the prompt."""
    with flat(2) as lab:
        people = People(crew, lab, tmp_path)
        people.server(0)
        person = people.seat(1, module="evloop.client")
        people.until(person, "0 rooms.")
        lab.hosts[0].ip("addr add 10.77.0.99/24 dev eth0", "addr del 10.77.0.1/24 dev eth0")
        # The old connection hangs until somebody notices: here the host's kernel says so.
        lab.hosts[1].run("ss", "-K", "dst", "10.77.0.1")
        text = people.until(person, "44444 is back")
        assert "the directory 10.77.0.1:44444 is away" in text
        assert "10.77.0.1:44444 is back" not in text


def test_an_interface_that_comes_later_is_searched(crew: Crew, tmp_path: Path) -> None:
    """Who has found nobody, for there was no network, need not type connect."""
    with flat(2) as lab:
        people = People(crew, lab, tmp_path)
        lab.hosts[1].ip("link set eth0 down", "addr flush dev eth0")
        people.server(0)
        person = people.seat(1, module="evloop.client")
        people.until(person, "no directory yet")
        lab.hosts[1].ip("link set eth0 up", "addr add 10.77.0.2/24 dev eth0")
        people.until(person, "directory kitchen-pi (10.77.0.1:44444, found on eth0")
        person.type("makeroom lab\n")
        people.until(person, "made room lab")


def test_of_several_places_the_first_that_answers_and_then_the_next(
    crew: Crew, tmp_path: Path
) -> None:
    with flat(3) as lab:
        people = People(crew, lab, tmp_path)
        first, second = people.server(0, name="one"), people.server(1, name="two")
        places = f"{lab.address(1)},{lab.address(2)}"
        person = people.seat(2, "--server", places, module="evloop.client")
        people.until(person, f"directory {lab.address(1)}:44444, 0 rooms.")
        first.signal(signal.SIGTERM)
        crew.finish(first)
        people.until(person, f"the directory {lab.address(2)}:44444 is back")
        made = people.run(2, "--server", places, "makeroom", "lab")
        assert made.status == 0 and "made room lab" in made.out, made.tell()
        people.until(person, "made room lab")
        no_trace(second, person, made)


def test_a_search_of_ipv6_alone(crew: Crew, tmp_path: Path) -> None:
    with flat(2) as lab:
        for host in lab.hosts:
            host.ip("addr flush dev eth0 scope global")
        people = People(crew, lab, tmp_path)
        server = people.server(0)
        (one,) = found(people.run(1, "--json", "directories"))
        assert one["address"].startswith("fe80::") and one["name"] == "kitchen-pi"
        made = people.run(1, "makeroom", "lab")
        assert made.status == 0 and "made room lab: [ff15" in made.out, made.tell()
        person = people.seat(1, "--name", "Ann", "chat", "lab", module="evloop.client")
        people.until(person, "-- in lab (eth0, fe80::")
        no_trace(server, made, person)


def test_two_meet_in_a_room_by_its_name_and_a_directory_that_comes_has_it(
    crew: Crew, tmp_path: Path
) -> None:
    with flat(3) as lab:
        people = People(crew, lab, tmp_path)
        first = people.seat(0, "--name", "a", module="evloop.client")
        people.until(first, "no directory answers on this network")
        first.type("chat lab\n")
        second = people.seat(1, "--name", "b", "chat", "lab", module="evloop.client")
        place = "by its name: 239.255.239.39:28794, eth0"
        for one, address in ((first, "10.77.0.1"), (second, "10.77.0.2")):
            people.until(one, f"-- in lab ({place}, {address})")
            people.until(one, "No directory was found --")
        first.type("hello\n")
        people.until(second, "a: hello")
        people.server(2)

        def listed() -> bool:
            rooms = people.run(2, "getdir").out.split()
            return rooms[:3] == ["lab", "239.255.239.39", "28794"] and rooms[3] == "2"

        crew.until(listed, 30.0, "the directory has the room, and both are in it", 1.0)
        second.type("still here\n")
        people.until(first, "b: still here")


# -- trust -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("tls"))


def with_tls(cert: str, key: str) -> tuple[str, ...]:
    return ("--tls-cert", cert, "--tls-key", key)


def test_tls_is_spoken_where_it_is_announced(crew: Crew, tmp_path: Path, files: Files) -> None:
    with flat(2) as lab:
        people = People(crew, lab, tmp_path)
        people.server(0, *with_tls(files.cert, files.key))
        first = people.run(1, "getdir")
        assert first.status == 0 and "trusting kitchen-pi (10.77.0.1:44444) from now" in first.err
        again = people.run(1, "getdir")
        assert (again.status, again.err) == (0, "no rooms yet; makeroom NAME makes one\n")
        number, fp, name = people.state(1, "known_ids").split()
        assert (len(number), len(fp), name) == (16, 64, "kitchen-pi")
        assert number == fp[:16], "a directory in memory is known by its certificate"


def test_a_known_directory_is_not_taken_without_its_certificate(
    crew: Crew, tmp_path: Path, files: Files
) -> None:
    """The same id, now without TLS; and the same name with another id."""
    with flat(3) as lab:
        people = People(crew, lab, tmp_path)
        state = str(tmp_path / "rooms.db")
        server = people.server(0, "--state", state, *with_tls(files.cert, files.key))
        assert people.run(1, "getdir").status == 0
        server.signal(15)
        crew.finish(server)
        people.server(0, "--state", state)
        refused = people.run(1, "getdir")
        assert refused.status == 1 and "1 directory answers here" in refused.err
        person = people.seat(1, module="evloop.client")
        people.until(person, "NOT the kitchen-pi of before")
        person.type("connect 1\n")
        people.until(person, "it speaks no TLS; it is NOT the kitchen-pi of before")
        people.server(2, *with_tls(files.other_cert, files.other_key))
        person.type("directories\n")
        crew.until(lambda: shown(person).count("NOT the kitchen-pi of before") >= 4)


FORGER = """
import socket, sys
sys.path.insert(0, %r)
from evloop.net import mdns
identity, fp, address = sys.argv[1:]
name = mdns.name_of("kitchen-pi 0000", "_evloop", "_tcp", "local")
host = mdns.name_of("evloop-" + identity, "local")
txt = ["id=" + identity, "kind=server", "proto=1", "tls=1", "fp=" + fp]
R = mdns.Record
records = [R(mdns.SERVICE, mdns.PTR, False, 120, name),
           R(name, mdns.SRV, True, 120, (0, 0, 44444, host)),
           R(name, mdns.TXT, True, 120, mdns.pack_strings(txt)),
           R(host, mdns.A, True, 120, socket.inet_aton(address))]
data = mdns.build(mdns.Message(0, mdns.ANSWER, (), records))
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
sock.bind(("", 5353))
sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP,
                socket.inet_aton("224.0.0.251") + socket.inet_aton(address))
print("listening", flush=True)
while True:
    question, source = sock.recvfrom(9000)
    sock.sendto(data, source)
"""


def forge(crew: Crew, host: Namespace, *words: str) -> Program:
    folder = str(Path(__file__).parents[2])
    program = FORGER % folder
    forger = crew.add(Program([*host.prefix, sys.executable, "-c", program, *words]))
    crew.until(lambda: "listening" in forger.out)
    return forger


def test_a_certificate_that_is_not_the_announced_one_is_refused(
    crew: Crew, tmp_path: Path, files: Files
) -> None:
    with flat(2) as lab:
        people = People(crew, lab, tmp_path)
        crew.start_server(
            *with_tls(files.cert, files.key), listen=":44444", prefix=lab.hosts[0].prefix
        )
        forge(crew, lab.hosts[0], "11" * 8, "ab" * 16, "10.77.0.1")
        refused = people.run(1, "getdir")
        assert refused.status == 77, refused.tell()
        assert "THE CERTIFICATE OF kitchen-pi (10.77.0.1:44444) HAS CHANGED." in refused.err
        assert "known: " + "ab" * 16 in refused.err
        assert not (tmp_path / "state1" / "evloop" / "known_ids").exists()


# -- what others publish ---------------------------------------------------------------------------

ZEROCONF = """
import socket, sys, time
from zeroconf import ServiceInfo, Zeroconf
zeroconf = Zeroconf(interfaces=["10.77.0.1"])
info = ServiceInfo("_evloop._tcp.local.", "by zeroconf._evloop._tcp.local.",
                   addresses=[socket.inet_aton("10.77.0.1")], port=44444,
                   properties={"id": "22" * 8, "proto": "1", "tls": "0"}, server="box.local.")
zeroconf.register_service(info)
print("published", flush=True)
time.sleep(600)
"""


@pytest.mark.skipif(bool(lacks_zeroconf()), reason=lacks_zeroconf() or "zeroconf is here")
def test_what_python_zeroconf_publishes_is_found(crew: Crew, tmp_path: Path) -> None:
    with flat(2) as lab:
        people = People(crew, lab, tmp_path)
        words = [*lab.hosts[0].prefix, "env", "PYTHONWARNINGS=ignore"]
        words += [f"PYTHONPATH={os.environ.get('PYTHONPATH', '')}", sys.executable, "-c", ZEROCONF]
        program = crew.add(Program(words))
        crew.until(lambda: "published" in program.out)
        (one,) = found(people.run(1, "--json", "directories"))
        assert (one["name"], one["id"], one["address"]) == ("by zeroconf", "22" * 8, "10.77.0.1")


@pytest.mark.skipif(bool(lacks_avahi()), reason=lacks_avahi() or "avahi is here")
def test_what_avahi_publishes_is_found(crew: Crew, tmp_path: Path) -> None:
    """Its service file tells no id."""
    services = tmp_path / "services"
    services.mkdir()
    shutil.copy(ROOT / "contrib" / "avahi" / "evloop.service", services)
    with flat(2) as lab:
        people = People(crew, lab, tmp_path)
        Avahi(crew, lab.hosts[0], tmp_path / "avahi", services=services)

        def seen() -> list[dict[str, Any]]:
            return found(people.run(1, "--json", "directories"))

        (one,) = crew.until(seen, 30.0, "avahi announces it", 1.0)
        # It answers by IPv4 or by IPv6, and what answered is tried first.
        assert one["address"] == "10.77.0.1" or one["address"].startswith("fe80::")
        assert (one["port"], one["known"]) == (44444, False)
        assert one["id"] == "box.local:44444"
