"""Members that the directory relays, against ngircd doing the same fan-out (goal 14).

What is counted is the CPU of the server, the kernel's half of TCP included, for one message and one
member: a DATA of 40 characters from one relayed member to all others, each sent when all have had
the last; and ngircd's for a line of the same text in a channel. A room says more than lines:
copies, repairs and SESSIONs travel as datagrams too, and those that come in one wake are joined.
So ten datagrams at once are shown beside, for one of them; in the table of goals that is the
floor. With TLS each member has its own records; ngircd's line stays without.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from bench.harness import build
from bench.harness.common import EVLOOP, HERE, Context, Row
from bench.harness.judging import compared, spread
from bench.harness.processes import Failed, Server
from bench.load.fan import TEXT, Chat, relay
from bench.load.irc import SERVERS, Channel
from bench.load.relayed import Relayed, cpu_us

MEMBERS = (10, 100, 500)
MESSAGES = {10: 1_000, 100: 200, 500: 50}
TOGETHER = 10
TLS = f"{EVLOOP}, TLS"
PEER = "ngircd"
CERTIFICATES = HERE.parent / "tests" / "support" / "certificates"


def run(context: Context) -> Row:
    alone: dict[tuple[str, int], list[float]] = {}
    joined: dict[tuple[str, int], list[float]] = {}
    for members in MEMBERS:
        with ExitStack() as stack:
            rooms = _open(context, stack, members)
            channel = _open_irc(context, stack, members)
            for _ in context.turns(context.rounds):
                messages = MESSAGES[members]
                for name, (server, room) in rooms.items():
                    us = cpu_us(server, room, members, TEXT, messages) / members
                    alone.setdefault((name, members), []).append(us)
                    few = messages // 5
                    us = cpu_us(server, room, members, TEXT, few, TOGETHER) / members
                    joined.setdefault((name, members), []).append(us / TOGETHER)
                if channel is not None:
                    us = relay(channel, members, TEXT, messages) / members
                    alone.setdefault((PEER, members), []).append(us)
    rows: list[Row] = []
    for what, found in (("a message", alone), (f"one of {TOGETHER} at once", joined)):
        for (name, members), values in found.items():
            load = f"{what} to {members} relayed members, for each"
            rows.append({"server": name, "load": load, "cpu_us": spread(values)})
    goals = []
    for name in (EVLOOP, TLS):
        for members in MEMBERS:
            what = f"{name}: CPU per message and relayed member, {members} members, to {PEER}"
            peer = alone.get((PEER, members), [])
            goals.append(
                compared(
                    14, what, alone.get((name, members), []), (PEER, peer, "us"), 1.0,
                    lowest=joined.get((name, members), []),
                )
            )  # fmt: skip
    return {"rows": rows, "goals": [goal.as_row() for goal in goals]}


def _open(context: Context, stack: ExitStack, members: int) -> dict[str, tuple[Server, Relayed]]:
    """A relayed room without TLS, and one with."""
    rooms: dict[str, tuple[Server, Relayed]] = {}
    for name, options, certificate in (
        (EVLOOP, (), None),
        (TLS, _tls_options(context), CERTIFICATES / "ca.pem"),
    ):
        try:
            server = stack.enter_context(context.evloop("--relay-members", "1000", *options))
            rooms[name] = server, stack.enter_context(Relayed(server, members, certificate))
        except (Failed, OSError) as reason:
            context.missing[name] = str(reason)
    return rooms


def _tls_options(context: Context) -> tuple[str, ...]:
    files: dict[str, Path] = {}
    for kind in ("pem", "key"):
        files[kind] = context.file(f"server.{kind}", (CERTIFICATES / f"server.{kind}").read_bytes())
        files[kind].chmod(0o600)
    return ("--tls-cert", str(files["pem"]), "--tls-key", str(files["key"]))


def _open_irc(context: Context, stack: ExitStack, members: int) -> Chat | None:
    try:
        server = stack.enter_context(SERVERS[PEER](context))
        channel = stack.enter_context(Channel(server, members))
    except (build.Missing, Failed, OSError) as reason:
        context.missing[PEER] = str(reason)
        return None
    return Chat(channel.say, channel.drain, server.pid)
