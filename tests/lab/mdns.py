"""Other programs that speak multicast DNS, in the namespaces of the lab: avahi, python-zeroconf."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import struct
import sys
from importlib.util import find_spec
from pathlib import Path

from evloop.net.mdns import Message, parse
from tests.lab.network import Namespace
from tests.support.processes import Crew, Program, Server

Answer = tuple[Message, str, int]  # what was said, from which address and port

GROUP, GROUP_IPV6, PORT = "224.0.0.251", "ff02::fb", 5353
RESOLVED = "/lib/systemd/systemd-resolved"

_BUS = """<busconfig><type>system</type><listen>{address}</listen>
<auth>EXTERNAL</auth><policy context="default"><allow user="*"/><allow own="*"/>
<allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/></policy></busconfig>"""

_AVAHI = """[server]
host-name={name}
use-ipv4=yes
use-ipv6=yes
allow-interfaces=eth0
disallow-other-stacks={alone}
[publish]
publish-workstation=no
"""

# Prints a line for each directory that it hears of, with what it is told.
_ZEROCONF = """
import sys
from zeroconf import IPVersion, ServiceBrowser, ServiceListener, Zeroconf
class Listener(ServiceListener):
    def add_service(self, zeroconf, kind, name):
        info = zeroconf.get_service_info(kind, name, 3000)
        print("found", name, info and info.parsed_addresses(IPVersion.V4Only), info and info.port,
              info and info.server, info and info.properties, flush=True)
    def remove_service(self, zeroconf, kind, name):
        print("gone", name, flush=True)
    def update_service(self, zeroconf, kind, name):
        print("changed", name, flush=True)
zeroconf = Zeroconf(interfaces=sys.argv[1:])
print("ready", flush=True)
ServiceBrowser(zeroconf, "_evloop._tcp.local.", Listener())
sys.stdin.read()
zeroconf.close()
"""


def lacks_avahi() -> str:
    """Why avahi cannot be tried here; "": it can."""
    tools = ("avahi-daemon", "avahi-browse", "dbus-daemon")
    absent = [tool for tool in tools if shutil.which(tool) is None]
    return f"needs {', '.join(absent)} (avahi-daemon, avahi-utils, dbus)" if absent else ""


def lacks_zeroconf() -> str:
    return "" if find_spec("zeroconf") else "needs python-zeroconf (pip install zeroconf)"


def bus(crew: Crew, host: Namespace, folder: Path) -> str:
    """A system bus for the programs on `host`; its address."""
    folder.mkdir(exist_ok=True)
    # Without a file: it belongs to the network namespace, and programs that gave up root reach it.
    address = "unix:abstract=/evlab/bus"
    (folder / "bus.conf").write_text(_BUS.format(address=address))
    words = ["dbus-daemon", f"--config-file={folder}/bus.conf", "--nofork", "--nopidfile"]
    program = crew.add(Program([*host.prefix, *words, "--print-address"]))
    crew.until(lambda: "\n" in program.out, why="the bus is there")
    return address


class Avahi:
    """avahi-daemon on `host`, with a bus and a /run/avahi-daemon of its own."""

    def __init__(
        self,
        crew: Crew,
        host: Namespace,
        folder: Path,
        *,
        name: str = "box",
        alone: bool = False,
        services: Path | None = None,
    ) -> None:
        """`services`: the folder of what it announces, instead of the machine's own."""
        self.crew, self.host = crew, host
        self._environ = {"DBUS_SYSTEM_BUS_ADDRESS": bus(crew, host, folder)}
        conf = folder / "avahi.conf"
        conf.write_text(_AVAHI.format(name=name, alone="yes" if alone else "no"))
        # `ip netns exec` gives each program a mount namespace of its own.
        mount = "mkdir -p /run/avahi-daemon && mount -t tmpfs tmpfs /run/avahi-daemon"
        if services is not None:
            mount += f" && mount --bind {services} /etc/avahi/services"
        words = f"exec avahi-daemon -f {conf} --no-drop-root --no-chroot --no-rlimits"
        shell = ["sh", "-c", f"{mount} && {words}"]
        self.daemon = crew.add(Program([*host.prefix, *shell], environ=self._environ))
        ready = "Server startup complete"
        crew.until(lambda: ready in self.daemon.err or self.daemon.done, why="avahi is there")
        assert ready in self.daemon.err, self.daemon.tell()

    def browse(self) -> list[list[str]]:
        """What it resolves now: lines of [interface, protocol, label, ..., address, port, text]."""
        words = ["avahi-browse", "--resolve", "--parsable", "--terminate", "_evloop._tcp"]
        program = self.crew.add(Program([*self.host.prefix, *words], environ=self._environ))
        self.crew.finish(program)
        assert program.status == 0, program.tell()
        return [line.split(";")[1:] for line in program.lines if line.startswith("=")]

    def shows(self, address: str, port: int) -> list[str] | None:
        """The line for a directory at that address; None: it shows none."""
        found = [line for line in self.browse() if line[6:8] == [address, str(port)]]
        return found[0] if found else None


def lacks_resolved() -> str:
    """systemd-resolved need not be installed (it takes /etc/resolv.conf): unpacked is enough."""
    if not os.path.exists(RESOLVED) or shutil.which("resolvectl") is None:
        return f"needs {RESOLVED} and resolvectl (systemd-resolved)"
    try:
        pwd.getpwnam("systemd-resolve")
    except KeyError:
        return "needs the user systemd-resolve"
    return "" if shutil.which("dbus-daemon") else "needs dbus-daemon"


class Resolved:
    """systemd-resolved on `host`, with multicast DNS on eth0."""

    def __init__(self, crew: Crew, host: Namespace, folder: Path) -> None:
        self.crew, self.host = crew, host
        self._environ = {"DBUS_SYSTEM_BUS_ADDRESS": bus(crew, host, folder)}
        conf = folder / "resolved.conf"
        conf.write_text("[Resolve]\nMulticastDNS=yes\nLLMNR=no\nDNSStubListener=no\n")
        run = "/run/systemd/resolve"
        lines = [
            f"mkdir -p {run}",
            f"mount -t tmpfs -o mode=0755 tmpfs {run}",
            f"chown systemd-resolve: {run}",
            f"mount --bind {conf} /etc/systemd/resolved.conf",
            f"exec {RESOLVED}",
        ]
        log = {"SYSTEMD_LOG_TARGET": "console", "SYSTEMD_LOG_LEVEL": "info"}
        words = [*host.prefix, "sh", "-c", " && ".join(lines)]
        self.daemon = crew.add(Program(words, environ={**self._environ, **log}))
        crew.until(lambda: not self.ask("mdns", "eth0", "yes").status, why="resolved is there")

    def ask(self, *words: str) -> Program:
        """resolvectl, run to its end."""
        program = Program([*self.host.prefix, "resolvectl", *words], environ=self._environ)
        return self.crew.finish(self.crew.add(program))


def zeroconf(crew: Crew, host: Namespace, *addresses: str) -> Program:
    """python-zeroconf, which looks for directories from these addresses; wait for its "ready"."""
    words = [*host.prefix, "env", "PYTHONWARNINGS=ignore"]
    words += [f"PYTHONPATH={os.environ.get('PYTHONPATH', '')}", sys.executable, "-c", _ZEROCONF]
    program = crew.add(Program([*words, *addresses]))
    crew.until(lambda: "ready" in program.out or program.done, why="zeroconf listens")
    assert "ready" in program.out, program.tell()
    return program


def announcing(crew: Crew, host: Namespace, *options: str, listen: str = ":44444") -> Server:
    """A directory that announces itself on `host`."""
    prefix = (*host.prefix, "env", "EVLOOP_INTERFACE=")
    return crew.server("--name", "kitchen-pi", *options, listen=listen, prefix=prefix)


def announced(crew: Crew, server: Server, count: int = 1) -> None:
    """Wait until it has said so for that many links."""
    crew.until(lambda: server.err.count("announced as ") >= count, why="it announces itself")


_ASK = """
import socket, sys
group, port, question, wait = sys.argv[1:5]
family = socket.AF_INET6 if ":" in group else socket.AF_INET
with socket.socket(family, socket.SOCK_DGRAM) as sock:
    sock.settimeout(float(wait))
    if family == socket.AF_INET6:
        index = socket.if_nametoindex("eth0")
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
    elif sys.argv[6:]:
        by = socket.inet_aton(sys.argv[6])
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, by)
    sock.sendto(bytes.fromhex(question), (group, int(port)))
    for _ in range(int(sys.argv[5])):
        try:
            data, source = sock.recvfrom(9000)
        except socket.timeout:
            break
        print(data.hex(), source[0], source[1])
"""


def ask(
    host: Namespace, question: bytes, group: str = GROUP, wait: float = 2.0, by: str = ""
) -> Answer | None:
    """Ask one question from `host`, as a resolver without multicast DNS does; the first answer.

    `by`: an address of the interface that it goes out by.
    """
    found = _asked(host, question, group, wait, 1, by)
    return found[0] if found else None


def ask_all(host: Namespace, question: bytes, group: str = GROUP) -> list[Message]:
    """The same; all that answers, until nothing comes for half a second."""
    return [message for message, *_ in _asked(host, question, group, 0.5, 32)]


def _asked(
    host: Namespace, question: bytes, group: str, wait: float, most: int, by: str = ""
) -> list[Answer]:
    arguments = [group, str(PORT), question.hex(), str(wait), str(most), *([by] if by else [])]
    said = host.run(sys.executable, "-c", _ASK, *arguments)
    lines = [line.split() for line in said.splitlines()]
    return [(parse(bytes.fromhex(data)), source, int(port)) for data, source, port in lines]


# Asks for the directory as often as it can, and says that what it has is another's.
_DISPUTE = """
import socket, sys, time
sys.path.insert(0, ".")
from evloop.net.mdns import ANSWER, PTR, SRV, Message, Record, build, parse
question, group, seconds = bytes.fromhex(sys.argv[1]), sys.argv[2], float(sys.argv[3])
family = socket.AF_INET6 if ":" in group else socket.AF_INET
asker, liar = [socket.socket(family, socket.SOCK_DGRAM) for _ in range(2)]
asker.settimeout(0.05)
for sock in (asker, liar):
    if family == socket.AF_INET6:
        index = socket.if_nametoindex("eth0")
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
    else:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
liar.bind(("", 5353))
end = time.monotonic() + seconds
told = 0
while time.monotonic() < end:
    asker.sendto(question, (group, 5353))
    try:
        message = parse(asker.recv(9000))
    except socket.timeout:
        continue
    for record in message.additional:
        if record.type == SRV:
            lie = Record(record.name, SRV, True, 120, (0, 0, 1, record.value[3]))
            liar.sendto(build(Message(0, ANSWER, (), [lie])), (group, 5353))
            told += 1
    time.sleep(0.02)
assert told > 50, told
"""


def dispute(host: Namespace, question: bytes, group: str, seconds: float) -> None:
    """A stranger on `host` who claims every name that the directory takes."""
    host.run(sys.executable, "-c", _DISPUTE, question.hex(), group, str(seconds))


_FLOOD = """
import socket, sys, time
data, count, pause = bytes.fromhex(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    for _ in range(count):
        sock.sendto(data, ("224.0.0.251", 5353))
        time.sleep(pause)
"""


def flood(host: Namespace, data: bytes, count: int, pause: float = 0.0) -> None:
    """Send a datagram to the group so many times."""
    host.run(sys.executable, "-c", _FLOOD, data.hex(), str(count), str(pause))


_MUTANTS = """
import socket, sys
from random import Random
sys.path.insert(0, ".")
from tests.support.mdns import VECTORS, mutant
rng, vectors = Random(int(sys.argv[2])), [*VECTORS.values()]
socks = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
socks[0].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
socks[0].bind(("", 5353))
for _ in range(int(sys.argv[1])):
    data = mutant(rng, rng.choice(vectors))
    rng.choice(socks).sendto(data[:1400], ("224.0.0.251", 5353))
"""


def send_mutants(host: Namespace, count: int, seed: int) -> None:
    """Damaged messages, from port 5353 and from another one."""
    host.run(sys.executable, "-c", _MUTANTS, str(count), str(seed))


def wakes(pid: int) -> int:
    """How often the process has waited and gone on."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.partition("\nvoluntary_ctxt_switches:")[2].split()[0])


def packed(address: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def foreign(number: int = 0) -> bytes:
    """What others say on a network: an announcement of a television."""
    name = b"\x0bTelevision%d\x0b_googlecast\x04_tcp\x05local\0" % (number % 10)
    record = name + struct.pack(">HHIH", 16, 0x8001, 4500, 300) + bytes([255]) + b"x" * 299
    return struct.pack(">HHHHHH", 0, 0x8400, 0, 1, 0, 0) + record
